//! What keeps a runtime from starting is told with its cause and its remedy, and leaves nothing running.
//!
//! Limits and filters of a process cannot be taken back, so those tests run themselves again in a child process.
#![cfg(target_os = "linux")]

use corecast::io::start_error::IoStartError;
use corecast::node::settings::{CoreSelection, Settings, SettingsError};
use corecast::{
    Actor, ClusterSettings, Context, EntityType, Fault, Next, Runtime, RuntimeBuilder, StartError,
};
use std::process::{Command, Output};
use std::time::Duration;

struct Idle;

impl Actor for Idle {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

/// Starts it, which must fail, and must leave no thread behind.
fn refused(builder: RuntimeBuilder) -> StartError {
    match builder.start() {
        Ok(runtime) => panic!("{runtime:?} started"),
        Err(error) => {
            let names = std::fs::read_dir("/proc/self/task")
                .unwrap()
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            assert_eq!(
                names.filter(|name| name.starts_with("corecast")).count(),
                0,
                "a thread is left of {error}"
            );
            error
        }
    }
}

fn says(error: &StartError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Visit;

impl corecast::WireMessage for Visit {
    const NAME: &'static str = "start.Visit";
    const VERSION: u16 = 1;
}

struct Visited;

impl Actor for Visited {
    type Msg = Visit;

    fn receive(&mut self, _: Visit, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

#[test]
fn an_entity_type_whose_name_other_nodes_cannot_be_told() {
    let cluster = ClusterSettings::new(1, "127.0.0.1:0", "unused");
    let mut builder = Runtime::builder().cluster(cluster);
    builder.entities(EntityType::send("a\nplace", |_: &u64| Visited).clustered());
    let error = refused(builder);
    says(&error, &["a\nplace", "control characters"]);
}

#[test]
fn a_core_that_does_not_exist() {
    let error = refused(Runtime::builder().cores(CoreSelection::List(vec![0, 99_999])));
    assert!(
        matches!(
            &error,
            StartError::Settings(SettingsError::NoSuchCpu { cpu: 99_999, .. })
        ),
        "{error:?}"
    );
    says(
        &error,
        &["--cores", "CPU 99999", "does not have", "available: "],
    );

    let settings = Settings {
        coordination: Some(99_999),
        ..Settings::default()
    };
    let error = refused(Runtime::builder().settings(settings));
    assert!(
        matches!(
            &error,
            StartError::Settings(SettingsError::NoSuchCpu { cpu: 99_999, .. })
        ),
        "{error:?}"
    );
    says(&error, &["--coordination-core", "CPU 99999"]);
}

#[test]
fn more_cores_than_there_are() {
    let error = refused(Runtime::builder().cores(CoreSelection::Count(99_999)));
    assert!(
        matches!(
            &error,
            StartError::Settings(SettingsError::CountTooLarge { count: 99_999, .. })
        ),
        "{error:?}"
    );
    says(&error, &["99999 cores", "only", "ask for fewer"]);
}

#[test]
fn a_core_given_twice() {
    let error = refused(Runtime::builder().cores(CoreSelection::List(vec![0, 0])));
    assert!(
        matches!(
            &error,
            StartError::Settings(SettingsError::CpuTwice { cpu: 0 })
        ),
        "{error:?}"
    );
    says(&error, &["CPU 0 twice", "once"]);
}

#[test]
fn zero_shards() {
    let mut builder = Runtime::builder();
    builder.entities(EntityType::send("idle", |_: &u64| Idle).num_shards(0));
    let error = refused(builder);
    assert!(matches!(&error, StartError::Region(_)), "{error:?}");
    says(&error, &["\"idle\"", "zero shards", "at least one"]);
}

#[test]
fn more_shards_than_there_is_room_for() {
    let mut builder = Runtime::builder();
    builder.entities(EntityType::send("idle", |_: &u64| Idle).num_shards(u32::MAX));
    let error = refused(builder);
    assert!(matches!(&error, StartError::Region(_)), "{error:?}");
    says(&error, &["\"idle\"", "4294967295 shards", "2147483648"]);
}

#[test]
fn an_entity_type_of_a_name_given_twice() {
    let mut builder = Runtime::builder();
    builder.entities(EntityType::send("idle", |_: &u64| Idle));
    builder.entities(EntityType::ephemeral("idle", |_: &String| Idle));
    let error = refused(builder);
    assert!(matches!(&error, StartError::Region(_)), "{error:?}");
    says(&error, &["two entity types", "\"idle\"", "another"]);
}

#[test]
fn sizes_that_contradict_each_other() {
    type Change = fn(&mut Settings);
    let cases: [(Change, &[&str]); 5] = [
        (
            |s| (s.mailbox, s.budget_messages) = (2_000_000, 1_000_000),
            &[
                "mailbox",
                "2000000",
                "budget_messages",
                "1000000",
                "lower the first or raise the second",
            ],
        ),
        (
            |s| (s.batch_messages, s.outbox_messages) = (65, 64),
            &[
                "batch_messages",
                "65",
                "outbox_messages",
                "64",
                "lower the first or raise the second",
            ],
        ),
        (
            |s| s.lane_batches = usize::MAX,
            &["lane_batches", "budget_messages"],
        ),
        (
            |s| s.turn_time = Duration::from_secs(1),
            &[
                "turn_time",
                "1s",
                "preempt",
                "1ms",
                "lower the first or raise the second",
            ],
        ),
        (
            |s| s.budget_messages = 0,
            &["--budget-messages", "at least 1"],
        ),
    ];
    for (change, parts) in cases {
        let mut settings = Settings::default();
        change(&mut settings);
        let error = refused(Runtime::builder().settings(settings));
        assert!(matches!(error, StartError::Settings(_)), "{error:?}");
        says(&error, parts);
    }
}

/// glommio wants 512 KiB whatever the capabilities, so this shows for root as well.
#[test]
fn too_little_locked_memory() {
    in_a_child("too_little_locked_memory", || {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(
            Resource::Memlock,
            Rlimit {
                current: Some(256 << 10),
                maximum: Some(256 << 10),
            },
        )
        .unwrap();
        let error = refused(Runtime::builder());
        let StartError::Io(IoStartError::LockedMemory {
            has_bytes,
            needs_bytes,
            ..
        }) = &error
        else {
            panic!("{error:?}");
        };
        assert!(
            *has_bytes == 256 << 10 && *needs_bytes >= 512 << 10,
            "{error:?}"
        );
        says(
            &error,
            &[
                "the limit is 256 KiB",
                "ulimit -l",
                "LimitMEMLOCK=",
                "--ulimit memlock=",
                "--io-memory",
            ],
        );
    });
}

/// As in a container under Docker's default profile.
#[test]
fn io_uring_forbidden_by_a_seccomp_filter() {
    in_a_child("io_uring_forbidden_by_a_seccomp_filter", || {
        refuse_io_uring_with(EPERM);
        let error = refused(Runtime::builder());
        assert!(
            matches!(
                error,
                StartError::Io(IoStartError::Forbidden { seccomp: true })
            ),
            "{error:?}"
        );
        says(
            &error,
            &[
                "seccomp",
                "io_uring_setup, io_uring_enter and io_uring_register",
                "--security-opt",
            ],
        );
    });
}

/// As on a kernel without it, and in sandboxes such as gVisor.
#[test]
fn io_uring_missing() {
    in_a_child("io_uring_missing", || {
        refuse_io_uring_with(ENOSYS);
        let error = refused(Runtime::builder());
        assert!(
            matches!(error, StartError::Io(IoStartError::Unsupported { .. })),
            "{error:?}"
        );
        says(
            &error,
            &[
                "no usable io_uring",
                "Linux 5.8 or newer",
                "CONFIG_IO_URING",
            ],
        );
    });
}

/// Checks the dependencies once more, for they differ in how they panic, so only when it is asked for:
/// `cargo test --test start -- --ignored`.
#[test]
#[ignore = "checks the dependencies once more with panic = \"abort\""]
fn panics_that_abort() {
    let output = Command::new(env!("CARGO"))
        .args([
            "check",
            "--quiet",
            "-p",
            "corecast",
            "--lib",
            "--all-features",
            "--config",
        ])
        .arg("profile.dev.panic=\"abort\"")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was built: {output:?}");
    for part in [
        "panic in one actor",
        "remove panic = \"abort\"",
        "Cargo.toml",
    ] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Makes the three system calls of io_uring fail for this process from now on; they have the same numbers everywhere.
fn refuse_io_uring_with(errno: u32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};
    let rules = [425, 426, 427].map(|call| (call, Vec::new())).into();
    let target = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        target,
    )
    .unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter_all_threads(&program).unwrap();
}

/// Set in the child.
const CHILD: &str = "CORECAST_START_TEST_CHILD";

/// Runs `body` in a process of its own, which is this test once more; in that one it just runs it.
fn in_a_child(test: &str, body: fn()) {
    if std::env::var_os(CHILD).is_some() {
        body();
        return;
    }
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{stdout}{stderr}");
    // A name that has changed would run nothing, successfully.
    assert!(
        stdout.contains("1 passed"),
        "the child ran nothing: {stdout}{stderr}"
    );
}
