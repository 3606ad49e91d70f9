//! Why executors cannot start on this system, and what to change so that they can.

use super::locked_memory::IoDemand;
use glommio::{BuilderErrorKind, GlommioError, ReactorErrorKind};
use rustix::io::Errno;

/// Why the executors of a runtime cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoStartError {
    /// The kernel has no io_uring, or too old a one.
    #[error(
        "the kernel has no usable io_uring ({missing}; this is Linux {kernel}); corecast needs Linux 5.8 or newer, built \
             with CONFIG_IO_URING. Sandboxes such as gVisor do not offer it either, and some container runtimes answer so \
             for calls that their seccomp profile does not list"
    )]
    Unsupported {
        /// What is missing.
        missing: String,
        /// The kernel's release.
        kernel: String,
    },
    /// The administrator has switched io_uring off.
    #[error("io_uring is switched off on this machine (the sysctl kernel.io_uring_disabled is {level}): {}",
            disabled_remedy(.level))]
    Disabled {
        /// 1: for processes outside of a group and without `CAP_SYS_ADMIN`; 2: for all.
        level: u32,
    },
    /// Something forbids it to this process.
    #[error("io_uring is forbidden to this process: {}", forbidden_remedy(.seccomp))]
    Forbidden {
        /// Whether the process runs under a seccomp filter, the usual cause.
        seccomp: bool,
    },
    /// The limit on locked memory is too small for the executors.
    #[error("too little locked memory: the limit is {} KiB, {executors} executors (data cores and coordination) need {} KiB; \
             the limit counts all processes of this user. Raise it with `ulimit -l {}`, in a systemd unit with \
             `LimitMEMLOCK={needs_bytes}`, in docker with `--ulimit memlock={needs_bytes}:{needs_bytes}`, or for logins in \
             /etc/security/limits.conf; or use fewer cores or less I/O memory (--io-memory)",
            .has_bytes / 1024, .needs_bytes.div_ceil(1024), .needs_bytes.div_ceil(1024))]
    LockedMemory {
        /// The limit.
        has_bytes: u64,
        /// The limit under which they would start.
        needs_bytes: u64,
        /// How many executors are to start.
        executors: usize,
    },
    /// The process or the machine has no descriptor left.
    #[error(
        "too few file descriptors: each executor takes several. Raise the limit with `ulimit -n 65536`, in a systemd \
             unit with `LimitNOFILE=65536`, in docker with `--ulimit nofile=65536:65536`"
    )]
    Descriptors,
    /// The CPU that an executor is to be pinned to is not there.
    #[error(
        "CPU {cpu} went offline before its core could start; check `lscpu` and choose other CPUs with --cores"
    )]
    CpuGone {
        /// The CPU.
        cpu: usize,
    },
    /// Anything else that the executor reports.
    #[error("an executor could not start: {what}")]
    Executor {
        /// The executor's own words.
        what: String,
    },
}

/// What is known of the system when a call fails; it tells causes apart that share an error number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoFacts {
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// The sysctl `kernel.io_uring_disabled`; `None` where the kernel does not have it, which is before 6.6.
    pub io_uring_disabled: Option<u32>,
    /// Whether the process runs under a seccomp filter, as in most containers.
    pub seccomp: bool,
    /// Whether the process's locked memory is not counted (`CAP_IPC_LOCK`).
    pub ipc_lock: bool,
    /// The limit on locked memory, in bytes.
    pub locked_memory_bytes: Option<u64>,
}

impl IoFacts {
    /// The error behind an error number of an io_uring system call.
    #[must_use]
    pub fn classify(&self, errno: i32, demand: &IoDemand) -> IoStartError {
        match (Errno::from_raw_os_error(errno), self.io_uring_disabled) {
            (Errno::PERM | Errno::ACCESS, Some(level @ 1..)) => IoStartError::Disabled { level },
            (Errno::PERM | Errno::ACCESS, _) => IoStartError::Forbidden {
                seccomp: self.seccomp,
            },
            (Errno::NOSYS, _) => self.unsupported("the system call is missing"),
            (Errno::INVAL, _) => self.unsupported("it refuses the arguments of a newer one"),
            (Errno::MFILE | Errno::NFILE, _) => IoStartError::Descriptors,
            (Errno::NOMEM, _) => self.out_of_memory(demand),
            _ => IoStartError::Executor {
                what: std::io::Error::from_raw_os_error(errno).to_string(),
            },
        }
    }

    /// The error behind glommio's, when it fails to make one of the executors.
    #[must_use]
    pub fn classify_executor<T>(&self, error: &GlommioError<T>, demand: &IoDemand) -> IoStartError {
        match error {
            GlommioError::BuilderError(BuilderErrorKind::NonExistentCpus { cpu }) => {
                IoStartError::CpuGone { cpu: *cpu }
            }
            GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(..)) => {
                self.out_of_memory(demand)
            }
            error => match (error.raw_os_error(), self.check_locked_memory(demand)) {
                (Some(errno), _) => self.classify(errno, demand),
                // glommio passes its own MemLockLimit on as the text of another error.
                (None, Err(too_little)) => too_little,
                (None, Ok(())) => IoStartError::Executor {
                    what: error.to_string(),
                },
            },
        }
    }

    /// Checks that the limit on locked memory leaves room for the executors.
    ///
    /// # Errors
    ///
    /// [`IoStartError::LockedMemory`], with what it is and what it must be.
    pub fn check_locked_memory(&self, demand: &IoDemand) -> Result<(), IoStartError> {
        let needs_bytes = demand.locked_memory_bytes(self.ipc_lock);
        match self.locked_memory_bytes {
            Some(has_bytes) if has_bytes < needs_bytes => Err(IoStartError::LockedMemory {
                has_bytes,
                needs_bytes,
                executors: demand.executors,
            }),
            _ => Ok(()),
        }
    }

    /// The kernel or its configuration lacks something.
    pub(super) fn unsupported(&self, missing: &str) -> IoStartError {
        IoStartError::Unsupported {
            missing: missing.to_owned(),
            kernel: self.kernel.clone(),
        }
    }

    /// No memory under a limit that counts is the limit's doing, even where it should suffice: other processes of the
    /// user take their part of it. Then twice the need is asked for.
    fn out_of_memory(&self, demand: &IoDemand) -> IoStartError {
        let needs_bytes = demand.locked_memory_bytes(self.ipc_lock);
        match self.locked_memory_bytes {
            Some(has_bytes) if has_bytes < needs_bytes || !self.ipc_lock => {
                IoStartError::LockedMemory {
                    has_bytes,
                    needs_bytes: if has_bytes < needs_bytes {
                        needs_bytes
                    } else {
                        has_bytes.saturating_add(needs_bytes)
                    },
                    executors: demand.executors,
                }
            }
            _ => IoStartError::Executor {
                what: "the kernel has no memory left for its rings".to_owned(),
            },
        }
    }
}

fn forbidden_remedy(seccomp: &bool) -> &'static str {
    if *seccomp {
        "it runs under a seccomp filter, as in a container, and Docker's default profile blocks it. Allow the system calls \
         io_uring_setup, io_uring_enter and io_uring_register: add the three to a copy of the default profile and run with \
         `--security-opt seccomp=profile.json`; in Kubernetes set securityContext.seccompProfile to type Localhost with that \
         profile; in a systemd unit add `@aio` to its SystemCallFilter"
    } else {
        "it runs under no seccomp filter, so a security module of the kernel refuses, such as SELinux or AppArmor. Look for \
         the denial of io_uring in the audit log (`ausearch -m avc`, `dmesg`) and allow it in the policy of this service"
    }
}

fn disabled_remedy(level: &u32) -> &'static str {
    if *level == 1 {
        "only processes with CAP_SYS_ADMIN or in the group named by kernel.io_uring_group may use it. Add the service's user \
         to that group (`sysctl kernel.io_uring_group` shows its number, -1 is none; set one with `sysctl -w \
         kernel.io_uring_group=GID`), or open it to all with `sysctl -w kernel.io_uring_disabled=0` and a line in \
         /etc/sysctl.d"
    } else {
        "no process may use it. Switch it on with `sysctl -w kernel.io_uring_disabled=0`, and with a line in /etc/sysctl.d \
         for after the next boot"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const DEMAND: IoDemand = IoDemand {
        executors: 3,
        io_memory_bytes: 64 << 10,
        ring_depth: 32,
    };

    fn facts() -> IoFacts {
        IoFacts {
            kernel: "6.1.0".to_owned(),
            locked_memory_bytes: Some(8 << 20),
            ..IoFacts::default()
        }
    }

    fn classify(facts: &IoFacts, errno: Errno) -> IoStartError {
        facts.classify(errno.raw_os_error(), &DEMAND)
    }

    #[test]
    fn a_refusal_is_told_apart_by_what_is_known() {
        let with = |io_uring_disabled, seccomp| IoFacts {
            io_uring_disabled,
            seccomp,
            ..facts()
        };
        for (facts, expected) in [
            (with(None, true), IoStartError::Forbidden { seccomp: true }),
            (
                with(Some(0), true),
                IoStartError::Forbidden { seccomp: true },
            ),
            (
                with(Some(0), false),
                IoStartError::Forbidden { seccomp: false },
            ),
            (with(Some(1), true), IoStartError::Disabled { level: 1 }),
            (with(Some(2), false), IoStartError::Disabled { level: 2 }),
        ] {
            assert_eq!(classify(&facts, Errno::PERM), expected);
            assert_eq!(classify(&facts, Errno::ACCESS), expected);
        }
    }

    #[test]
    fn other_numbers_have_their_causes() {
        let unsupported = IoStartError::Unsupported {
            missing: "the system call is missing".into(),
            kernel: "6.1.0".into(),
        };
        assert_eq!(classify(&facts(), Errno::NOSYS), unsupported);
        assert!(matches!(
            classify(&facts(), Errno::INVAL),
            IoStartError::Unsupported { .. }
        ));
        assert_eq!(classify(&facts(), Errno::MFILE), IoStartError::Descriptors);
        assert_eq!(classify(&facts(), Errno::NFILE), IoStartError::Descriptors);
        assert!(matches!(
            classify(&facts(), Errno::IO),
            IoStartError::Executor { .. }
        ));
    }

    #[test]
    fn no_memory_is_the_limit_unless_there_is_none() {
        let with = |locked_memory_bytes, ipc_lock| IoFacts {
            locked_memory_bytes,
            ipc_lock,
            ..facts()
        };
        let need = DEMAND.locked_memory_bytes(false);
        let limit = |has_bytes, needs_bytes| IoStartError::LockedMemory {
            has_bytes,
            needs_bytes,
            executors: 3,
        };
        assert_eq!(
            classify(&with(Some(1_024), false), Errno::NOMEM),
            limit(1_024, need)
        );
        // Enough for us alone, but others of the user have taken some.
        assert_eq!(
            classify(&with(Some(8 << 20), false), Errno::NOMEM),
            limit(8 << 20, (8 << 20) + need)
        );
        for facts in [with(None, false), with(Some(8 << 20), true)] {
            assert!(matches!(
                classify(&facts, Errno::NOMEM),
                IoStartError::Executor { .. }
            ));
        }
    }

    #[test]
    fn locked_memory_is_checked_against_the_need() {
        let need = DEMAND.locked_memory_bytes(false);
        let with = |locked_memory_bytes| IoFacts {
            locked_memory_bytes,
            ..facts()
        };
        assert_eq!(with(None).check_locked_memory(&DEMAND), Ok(()));
        assert_eq!(with(Some(need)).check_locked_memory(&DEMAND), Ok(()));
        let error = with(Some(need - 1))
            .check_locked_memory(&DEMAND)
            .unwrap_err();
        assert_eq!(
            error,
            IoStartError::LockedMemory {
                has_bytes: need - 1,
                needs_bytes: need,
                executors: 3
            }
        );
    }

    #[test]
    fn executor_errors_are_mapped() {
        let small = IoFacts {
            locked_memory_bytes: Some(64 << 10),
            ..facts()
        };
        let of =
            |facts: &IoFacts, error: GlommioError<()>| facts.classify_executor(&error, &DEMAND);
        let os = |errno: Errno| {
            GlommioError::IoError(io::Error::from_raw_os_error(errno.raw_os_error()))
        };
        assert_eq!(
            of(
                &facts(),
                GlommioError::BuilderError(BuilderErrorKind::NonExistentCpus { cpu: 9 })
            ),
            IoStartError::CpuGone { cpu: 9 }
        );
        assert_eq!(
            of(&facts(), os(Errno::PERM)),
            IoStartError::Forbidden { seccomp: false }
        );
        assert_eq!(of(&facts(), os(Errno::MFILE)), IoStartError::Descriptors);
        let limit = GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(64 << 10, 512 << 10));
        assert!(matches!(
            of(&small, limit),
            IoStartError::LockedMemory {
                has_bytes: 65_536,
                ..
            }
        ));
        // So it arrives in fact.
        let text = || GlommioError::IoError(io::Error::other("MemLockLimit(65536/524288)"));
        assert!(matches!(
            of(&small, text()),
            IoStartError::LockedMemory {
                has_bytes: 65_536,
                ..
            }
        ));
        assert!(
            matches!(of(&facts(), text()), IoStartError::Executor { what } if what.contains("MemLockLimit"))
        );
    }

    #[test]
    fn every_error_tells_the_remedy() {
        let locked = IoStartError::LockedMemory {
            has_bytes: 65_536,
            needs_bytes: 786_432,
            executors: 3,
        };
        for (error, parts) in [
            (
                facts().unsupported("the system call is missing"),
                &["6.1.0", "5.8", "CONFIG_IO_URING"][..],
            ),
            (
                IoStartError::Disabled { level: 1 },
                &[
                    "io_uring_disabled is 1",
                    "kernel.io_uring_group",
                    "io_uring_disabled=0",
                ],
            ),
            (
                IoStartError::Disabled { level: 2 },
                &[
                    "io_uring_disabled is 2",
                    "sysctl -w kernel.io_uring_disabled=0",
                ],
            ),
            (
                IoStartError::Forbidden { seccomp: true },
                &[
                    "seccomp filter",
                    "io_uring_setup, io_uring_enter and io_uring_register",
                    "--security-opt seccomp=profile.json",
                ],
            ),
            (
                IoStartError::Forbidden { seccomp: false },
                &["security module", "audit log"],
            ),
            (
                locked,
                &[
                    "limit is 64 KiB",
                    "3 executors",
                    "need 768 KiB",
                    "`ulimit -l 768`",
                    "LimitMEMLOCK=786432",
                    "--ulimit memlock=786432:786432",
                ],
            ),
            (IoStartError::Descriptors, &["ulimit -n", "LimitNOFILE"]),
            (IoStartError::CpuGone { cpu: 9 }, &["CPU 9", "--cores"]),
        ] {
            let text = error.to_string();
            for part in parts {
                assert!(text.contains(part), "{part:?} is missing in: {text}");
            }
            assert!(!text.contains("  ") && !text.contains('\n'), "{text}");
        }
    }
}
