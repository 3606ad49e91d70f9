//! What this process and its nodes say to each other: orders on their input, news on their output, a line of JSON each.
//!
//! Times are nanoseconds of one clock, the machine's monotonic one counted from an origin that the first order names; all
//! nodes are on one machine.

use corecast::Time;
use serde::{Deserialize, Serialize};

use crate::measure::Recorder;
use crate::replay::Held;

/// What a node is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first line: become this node.
    Begin(Setup),
    /// Send one message to each shard that nobody owns: a shard is given an owner when it is first sent to.
    Allocate,
    /// Open the books of a phase, and drive nothing yet: what others send is handled from the first moment.
    Books {
        /// Which phase.
        phase: u16,
        /// The measured time.
        window: crate::measure::Window,
    },
    /// Drive the cluster.
    Phase(PhaseOrder),
    /// Send nothing more in this phase.
    Cut,
    /// Nobody sends any more: say what was measured.
    Close,
    /// Ask the shards of this node all the time, for a fault is about to hit it.
    Watch {
        /// The fault's number.
        fault: u32,
        /// Whose shards.
        victim: u32,
        /// How far the asks of one shard are apart.
        every_ms: u64,
    },
    /// It has: say when the asks are answered that were sent once it had taken effect. Told twice of a fault that lasts.
    Hit {
        /// The fault's number.
        fault: u32,
        /// When it was.
        blow: Blow,
    },
    /// Watch no longer.
    Unwatch,
    /// Feed the rows of a file that are this node's.
    Feed(FeedOrder),
    /// So many rows of the file may be sent by now, counted over all nodes.
    Grant(u64),
    /// Say what the entities of these keys hold.
    Tell(Vec<String>),
    /// One of the measurements beside bare TCP.
    Wire(WireOrder),
    /// Leave the cluster and end.
    Leave,
}

/// Who a process is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The node's number, from 1.
    pub node: u32,
    /// How many there are.
    pub nodes: u32,
    /// How often it has been started; 1 at first.
    pub start: u32,
    /// Where it listens.
    pub bind: String,
    /// All nodes, as `id@host:port`.
    pub seeds: Vec<String>,
    /// Its directory.
    pub data: std::path::PathBuf,
    /// The CPUs of its data cores.
    pub cpus: Vec<usize>,
    /// The CPU of its coordination core, where it is not the last of those.
    pub coordination: Option<usize>,
    /// Whether its CPUs are those of other nodes too.
    pub shares_cpus: bool,
    /// How long an idle core polls, where the job does not say it.
    pub spin_ns: Option<u64>,
    /// Where the common clock begins, by the machine's monotonic clock.
    pub origin_ns: u64,
}

/// A phase for a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseOrder {
    /// The number of the phase, from 1.
    pub phase: u16,
    /// Unique to this node, this start of its process and this phase: what is counted for one is not for another.
    pub run: u32,
    /// When sending begins.
    pub begin_ns: u64,
    /// The measured time.
    pub window: crate::measure::Window,
    /// How fast.
    pub pace: crate::arrivals::PhasePace,
    /// Percent of asks.
    pub ask_percent: u8,
    /// The keys: drawn by the job's distribution, or each of these once.
    pub each: Option<(u64, u64)>,
}

/// When a fault was. What hits a node takes a moment, in which the node still answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blow {
    /// Before anything was done: outages are counted from here.
    pub begun_ns: u64,
    /// When it had taken effect: an ask that was sent earlier may have found the node as it was. [`LASTING`] while a node
    /// leaves, which answers until its shards are elsewhere: what is of interest then is how long an ask has to wait
    /// meanwhile.
    pub done_ns: u64,
}

/// It has not taken effect yet; when it has, it is told again.
pub const LASTING: u64 = u64::MAX;

impl Blow {
    /// Before anything was done.
    #[must_use]
    pub fn begun(&self) -> Time {
        Time::from_nanos(self.begun_ns)
    }

    /// When it had taken effect.
    #[must_use]
    pub fn done(&self) -> Time {
        Time::from_nanos(self.done_ns)
    }
}

/// The rows that a node is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedOrder {
    /// The first row that is this node's to send, counted over the whole file from 0. Rows before it are done.
    pub from: u64,
    /// Rows that may be sent by now.
    pub granted: u64,
}

/// A measurement of messages between two nodes, from the node that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireOrder {
    /// What is sent.
    pub what: WireWork,
    /// To the entities of this node.
    pub to: u32,
    /// For how long.
    pub duration_ns: u64,
}

/// What is sent from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireWork {
    /// Tells of 64 bytes, as many as go.
    SmallTells,
    /// Tells of 1 KiB, as many as go.
    LargeTells,
    /// Asks of 64 bytes, one at a time.
    Asks,
}

/// What a node says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum News {
    /// Its runtime runs; the CPUs of its data cores.
    Started {
        /// The CPUs.
        cpus: Vec<usize>,
        /// Its settings for people.
        settings: Vec<crate::options::Setting>,
    },
    /// It could not start, or goes no further.
    Failed(String),
    /// What it knows of the cluster has changed.
    View(ViewNews),
    /// A member event.
    Event(EventNews),
    /// How it goes.
    Beat(Beat),
    /// Its drivers have sent all of a phase, and know what became of it.
    Driven {
        /// Which phase.
        phase: u16,
    },
    /// The figures of a phase.
    Phase(Box<PhaseNews>),
    /// The shards of a victim are asked, so many.
    Watching {
        /// The fault's number.
        fault: u32,
        /// How many shards it has.
        shards: u32,
    },
    /// All shards of the victim have answered, or it has been given up.
    Answered(AnsweredNews),
    /// All rows that were this node's have been acknowledged.
    Fed(FedNews),
    /// What entities hold.
    Tallies(Vec<(String, Held)>),
    /// A measurement beside bare TCP.
    Wire(WireNews),
    /// It has left and ended.
    Ended {
        /// Whether all messages were handled.
        drained: bool,
        /// Whether it left in order.
        left: Option<bool>,
    },
}

/// What a node knows of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewNews {
    /// Its life, if it is a member.
    pub life: Option<u32>,
    /// Why it takes part no more, if so.
    pub ended: Option<String>,
    /// Who is up, with their lives.
    pub up: Vec<(u32, u32)>,
    /// Who leads; 0 is nobody.
    pub leader: u32,
    /// Whether it holds a lease.
    pub quorum: bool,
    /// What stood in its way last.
    pub obstacle: Option<String>,
}

/// A member event as a node saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventNews {
    /// When.
    pub at_ns: u64,
    /// What.
    pub what: MemberEventKind,
    /// Of which node.
    pub node: u32,
    /// Who cannot reach it, as far as is known.
    pub by: Vec<u32>,
}

/// What happens to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberEventKind {
    /// It is up.
    Up,
    /// It has left.
    Left,
    /// It is dead.
    Down,
    /// Somebody cannot reach it.
    Unreachable,
    /// Everybody reaches it again.
    Reachable,
}

impl MemberEventKind {
    /// Whether nothing but a fault explains it.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            MemberEventKind::Left | MemberEventKind::Down | MemberEventKind::Unreachable
        )
    }

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            MemberEventKind::Up => "up",
            MemberEventKind::Left => "left",
            MemberEventKind::Down => "down",
            MemberEventKind::Unreachable => "unreachable",
            MemberEventKind::Reachable => "reachable",
        }
    }
}

/// How a node goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Messages that its cores have completed in this phase.
    pub completed: u64,
    /// Median and 99th percentile in nanoseconds.
    pub latency_ns: Option<(u64, u64)>,
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most it has had.
    pub peak: u64,
    /// Shards that it owns, by what it knows.
    pub owned: u32,
    /// Shards that nobody owns.
    pub unowned: u32,
    /// All shards.
    pub shards: u32,
    /// Rows that it has had acknowledged, counted over the whole file: all of its rows before this one.
    pub fed: u64,
}

/// The figures of a phase on one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseNews {
    /// Which phase.
    pub phase: u16,
    /// Latencies, throughput and lag.
    pub recorder: Recorder,
    /// What went wrong, by kind and reason.
    pub errors: Vec<ErrorCount>,
    /// Operations of this node whose entity it owned.
    pub local: u64,
    /// Operations whose entity another owned.
    pub remote: u64,
    /// Tells of this node that were accepted.
    pub tells: u64,
    /// Tells of this node of which it is not known that they were handled.
    pub unaccounted: u64,
}

/// An ask of loadgen's own that was rejected: no load, and no error of the system.
pub const PROBE_REJECTED: &str = "probe rejected";
/// One without an answer in time.
pub const PROBE_TIMED_OUT: &str = "probe timed out";
/// One of which is not known whether it took effect, for another reason.
pub const PROBE_UNKNOWN: &str = "probe unknown";
/// What a core dropped.
pub const DEAD_LETTER: &str = "dead letter";

/// How often something went wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ErrorCount {
    /// `rejected`, `unknown`, `refused` (tried again later), `never ended` or `dead letter`; `probe …` and `dead letter of a
    /// probe` are of asks of loadgen's own.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// When the shards of a victim answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredNews {
    /// The fault's number.
    pub fault: u32,
    /// Shards that answered, and all.
    pub answered: u32,
    /// How many shards were asked.
    pub shards: u32,
    /// From the fault to the first answer of any of them; of a fault that lasts, the longest wait on the best of them.
    pub first_ns: Option<u64>,
    /// From the fault until each of them had answered, of those that did; of a fault that lasts, the longest wait of all.
    pub last_ns: Option<u64>,
}

/// What a node has sent of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FedNews {
    /// Its next row, counted over the whole file: all of its rows before are acknowledged.
    pub next: u64,
    /// Whether the file has none left for it.
    pub is_all: bool,
    /// Rows that were rejected and sent again.
    pub retried: u64,
    /// Rows of which nobody knows whether they took effect.
    pub unknown: u64,
}

/// A measurement beside bare TCP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireNews {
    /// Messages that were handled, or asks that were answered.
    pub messages: u64,
    /// Within this time.
    pub elapsed_ns: u64,
    /// Round trips of asks.
    pub latencies: crate::measure::Latencies,
    /// Why it could not be measured.
    pub failed: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::lines::{MAX_LINE_BYTES, read_line, write_line};
    use crate::measure::{Stamps, Window};

    fn travelled<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> (T, usize) {
        let mut line = Vec::new();
        write_line(value, &mut line).expect("written");
        let read = read_line(&mut &line[..]).expect("understood");
        (read.expect("a value"), line.len())
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let order = PhaseOrder {
            phase: 2,
            run: 7,
            begin_ns: u64::MAX,
            window: Window::after_warm_up(
                Time::from_nanos(3),
                Duration::from_nanos(5),
                Duration::from_secs(1),
            ),
            pace: crate::arrivals::PhasePace::Open {
                total_rate: 0.1 + 0.2,
                arrivals: crate::arrivals::Arrivals::Poisson,
            },
            ask_percent: 20,
            each: Some((0, 1 << 40)),
        };
        let (Order::Phase(arrived), _) = travelled(&Order::Phase(order.clone())) else {
            panic!("another order");
        };
        assert_eq!(arrived, order);
    }

    /// Latencies of all magnitudes: no line of figures is longer than a line may be.
    #[test]
    fn the_longest_figures_fit_into_a_line() {
        let window = Window::after_warm_up(Time::ZERO, Duration::ZERO, Duration::from_secs(3_600));
        let mut recorder = Recorder::new(window);
        let mut latency = 1_u64;
        while latency < 60_000_000_000 {
            let stamps = Stamps {
                intended: Time::ZERO,
                sent: Time::ZERO,
            };
            recorder.completed(stamps, Time::from_nanos(latency));
            latency += (latency / 4_096).max(1);
        }
        let figures = PhaseNews {
            phase: 1,
            recorder,
            errors: Vec::new(),
            local: 1,
            remote: 2,
            tells: 3,
            unaccounted: 4,
        };
        let (arrived, length) = travelled(&News::Phase(Box::new(figures.clone())));
        assert!(length > 400_000 && length < MAX_LINE_BYTES / 2, "{length}");
        let News::Phase(arrived) = arrived else {
            panic!("other news");
        };
        assert_eq!(
            arrived.recorder.completions(),
            figures.recorder.completions()
        );
        assert_eq!(
            arrived.recorder.corrected().at(0.99),
            figures.recorder.corrected().at(0.99)
        );
    }
}
