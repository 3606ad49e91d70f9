//! What a process does that is a node: it says what happens, a line each, and takes commands, a line each.

use super::cells::{self, Cells};
use clap::Parser;
use corecast::{
    ClusterArgs, ClusterChanged, ClusterPhase, ClusterView, Event, Handle, MemberDown, MemberLeft,
    MemberState, MemberUp, PinningArgs, ReachableMember, Runtime, UnreachableMember,
};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::fmt::{Debug, Write as _};
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

/// The flags of the node that this process is to be.
pub(crate) const FLAGS: &str = "CORECAST_TEST_NODE";

/// The process that has started this one.
pub(crate) const PARENT: &str = "CORECAST_TEST_NODE_OF";

/// However busy the machine is; the other half of a shutdown is for what was accepted.
const LEAVES_WITHIN: Duration = Duration::from_secs(40);

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    pinning: PinningArgs,
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "@{line}");
    let _ = out.flush();
}

/// What the processes do.
pub(crate) fn run(flags: &str) {
    die_with_parent();
    let _ = tracing::subscriber::set_global_default(Log);
    let args = Args::parse_from(["node"].into_iter().chain(flags.split_whitespace()));
    let mut settings = args.cluster.settings().unwrap();
    settings.leave_deadline = LEAVES_WITHIN;
    let node = settings.node.0;
    let mut builder = Runtime::builder().pinning(&args.pinning).cluster(settings);
    let region = cells::register(&mut builder, node);
    let started = builder.start();
    let runtime = match started {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("failed {}", error.to_string().replace('\n', " ")));
            return;
        }
    };
    let cluster = runtime.cluster().unwrap();
    let handle = runtime.handle();
    tell::<MemberUp>(&handle, |event| ("up", event.member.node.0));
    tell::<MemberLeft>(&handle, |event| ("left", event.member.node.0));
    tell::<MemberDown>(&handle, |event| ("down", event.member.node.0));
    tell::<UnreachableMember>(&handle, |event| ("unreachable", event.member.node.0));
    tell::<ReachableMember>(&handle, |event| ("reachable", event.member.node.0));
    let cells = Cells::new(handle.clone(), region);
    let changes = cluster.changes(10_000).unwrap();
    std::thread::spawn(move || {
        for ClusterChanged(view) in changes {
            say(&shown(&view));
        }
    });
    say(&format!("started {}", cluster.state().advertised));
    say(&shown(&cluster.state()));
    let runtime = Arc::new(Mutex::new(Some(runtime)));
    let mut under_way: Vec<JoinHandle<()>> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().as_str() {
            "leave" => {
                let left = cluster.leave();
                std::thread::spawn(move || say(&format!("departure {:?}", left.wait())));
            }
            "shutdown" => {
                let runtime = runtime.lock().unwrap().take();
                if let Some(runtime) = runtime {
                    let report = runtime.shutdown_within(LEAVES_WITHIN * 2);
                    say(&format!("ended {:?} {:?}", report.drained, report.left));
                }
                cells.end();
                for command in under_way {
                    let _ = command.join();
                }
                return;
            }
            "held" => say(&held()),
            command => {
                let (cells, command) = (cells.clone(), command.to_owned());
                let run = move || say(&cells.command(&command).unwrap_or_default());
                under_way.retain(|it| !it.is_finished());
                under_way.push(std::thread::spawn(run));
            }
        }
    }
    // Whoever has started this process is gone.
    std::process::exit(1);
}

/// The kernel kills this process when the one that started it is gone: its input ends then, too, but a process that was
/// stopped reads nothing.
fn die_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let parent = std::env::var(PARENT).unwrap();
    // Another is its parent if that was gone before.
    let present = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    assert_eq!(present, Some(parent), "whoever has started this is gone");
}

fn tell<E: Event>(handle: &Handle, what: fn(&E) -> (&'static str, u32)) {
    let events = handle.events::<E>(10_000).unwrap();
    std::thread::spawn(move || {
        for event in events {
            let (what, node) = what(&event);
            say(&format!("event {what} {node}"));
        }
    });
}

/// `view <phase> leader=<id> quorum=<bool> up=<id>,...`
fn shown(view: &ClusterView) -> String {
    let phase = match &view.phase {
        ClusterPhase::Member(life) => format!("member:{}", life.0),
        ClusterPhase::Ended(end) => format!("ended:{}", end.to_string().replace(' ', "_")),
        ClusterPhase::Rejoining(cause) => {
            format!("rejoining:{}", cause.to_string().replace(' ', "_"))
        }
        phase => format!("{phase:?}").replace(' ', "_"),
    };
    let of = |state: MemberState| {
        let members = view.members.iter();
        let members = members.filter(|member| member.state == state);
        let members: Vec<String> = members
            .map(|member| format!("{}:{}", member.node.0, member.incarnation.0))
            .collect();
        members.join(",")
    };
    let leader = view.leader.map_or(0, |leader| leader.0);
    format!(
        "view {phase} leader={leader} quorum={} up={} down={}",
        view.has_quorum,
        of(MemberState::Up),
        of(MemberState::Down)
    )
}

/// The memory and the descriptors that this process has.
fn held() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    format!("held {kib} {descriptors}")
}

/// Says what is logged as a warning or worse.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        say(&format!("log {}{text}", event.metadata().level()).replace('\n', " "));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}
