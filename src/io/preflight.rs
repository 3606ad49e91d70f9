//! Finds out whether executors can start, before one is made.
//!
//! glommio is no help in telling why not: where its first ring is refused it panics without the error number, whatever
//! the cause, and where the kernel lacks an operation it ends the process. So a small ring of our own is made first.

use super::locked_memory::IoDemand;
use super::start_error::{IoFacts, IoStartError};
use crate::base::machine::Machine;
use io_uring::{IoUring, Probe, opcode};
use std::fs;
use std::io;

/// The newest operations glommio uses; all came with Linux 5.6, and a kernel that has them has the older ones.
const OPERATIONS: [(u8, &str); 6] = [
    (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE"),
    (opcode::OpenAt::CODE, "IORING_OP_OPENAT"),
    (opcode::Close::CODE, "IORING_OP_CLOSE"),
    (opcode::Statx::CODE, "IORING_OP_STATX"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::Recv::CODE, "IORING_OP_RECV"),
];

/// Bit of `CapEff` that exempts from the limit on locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// Checks that this system lets the executors start: io_uring is there and allowed, and locked memory suffices.
///
/// It makes one small ring and closes it again. What it returns tells later failures apart too, see
/// [`IoFacts::classify_executor`].
///
/// # Errors
///
/// What stands in the way, with the remedy.
pub fn check(machine: &Machine, demand: &IoDemand) -> Result<IoFacts, IoStartError> {
    let facts = read_facts(machine);
    // First the limit: below it a ring may fail for no other reason.
    facts.check_locked_memory(demand)?;
    match missing_operation() {
        Ok(None) => Ok(facts),
        Ok(Some(missing)) => Err(facts.unsupported(&format!("{missing} is missing"))),
        Err(error) => Err(match error.raw_os_error() {
            Some(errno) => facts.classify(errno, demand),
            None => IoStartError::Executor {
                what: error.to_string(),
            },
        }),
    }
}

/// Reads what tells the causes of a failure apart. What cannot be read is left at "unknown".
#[must_use]
pub fn read_facts(machine: &Machine) -> IoFacts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/thread-self/status");
    IoFacts {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled")
            .trim()
            .parse()
            .ok(),
        seccomp: under_seccomp_filter(&status),
        // A capability of a user namespace, as in rootless containers, does not lift the limit.
        ipc_lock: has_capability(&status, CAP_IPC_LOCK)
            && in_first_user_namespace(&read("/proc/self/uid_map")),
        locked_memory_bytes: machine.locked_memory_bytes,
    }
}

/// The first operation the kernel's io_uring lacks.
fn missing_operation() -> io::Result<Option<&'static str>> {
    let ring = IoUring::new(4)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    Ok(OPERATIONS
        .iter()
        .find(|(code, _)| !probe.is_supported(*code))
        .map(|(_, name)| *name))
}

/// The value of a line such as `Seccomp:\t2`.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn under_seccomp_filter(status: &str) -> bool {
    status_field(status, "Seccomp") == Some("2")
}

fn has_capability(status: &str, bit: u32) -> bool {
    let effective =
        status_field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    effective.is_some_and(|capabilities| capabilities >> bit & 1 == 1)
}

/// The first user namespace maps all ids to themselves.
fn in_first_user_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::machine::read_machine;

    #[test]
    fn the_status_file_is_understood() {
        let container = "Name:\tservice\nCapInh:\t0000000000000000\nCapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let root = "Name:\tservice\nCapEff:\t000001fffeffffff\nSeccomp:\t0\nSeccomp_filters:\t2\n";
        assert!(under_seccomp_filter(container) && !under_seccomp_filter(root));
        assert!(!has_capability(container, CAP_IPC_LOCK) && has_capability(root, CAP_IPC_LOCK));
        assert!(!under_seccomp_filter("") && !has_capability("CapEff:\tnonsense", CAP_IPC_LOCK));
    }

    #[test]
    fn user_namespaces_are_told_apart() {
        assert!(in_first_user_namespace(
            "         0          0 4294967295\n"
        ));
        assert!(!in_first_user_namespace(
            "         0       1000          1\n"
        ));
        assert!(!in_first_user_namespace(
            "         0       1000          1\n         1     100000      65536\n"
        ));
        assert!(!in_first_user_namespace(""));
    }

    /// Whatever this system allows: the check agrees with a ring that is really made, and with the limit.
    #[test]
    fn the_check_agrees_with_this_system() {
        let machine = read_machine().unwrap();
        let demand = IoDemand {
            executors: 1,
            io_memory_bytes: 64 << 10,
            ring_depth: 32,
        };
        let facts = read_facts(&machine);
        assert!(!facts.kernel.is_empty());
        let usable =
            matches!(missing_operation(), Ok(None)) && facts.check_locked_memory(&demand).is_ok();
        let checked = check(&machine, &demand);
        assert_eq!(checked.is_ok(), usable, "{checked:?}");
    }

    #[test]
    fn too_little_locked_memory_is_found_before_anything_is_made() {
        let machine = Machine {
            locked_memory_bytes: Some(64 << 10),
            ..Machine::uniform(2)
        };
        let demand = IoDemand {
            executors: 3,
            io_memory_bytes: 64 << 10,
            ring_depth: 32,
        };
        let error = check(&machine, &demand).unwrap_err();
        assert!(
            matches!(
                error,
                IoStartError::LockedMemory {
                    has_bytes: 65_536,
                    executors: 3,
                    ..
                }
            ),
            "{error}"
        );
    }
}
