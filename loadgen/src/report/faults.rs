//! The faults of a run over a cluster: what became of each, and how long shards did not answer over all of a kind.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::{Latencies, LatencySummary};
use crate::units::{grouped, latency};

/// One fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// What: `kill`, `pause`, `restart` or `partition`.
    pub kind: String,
    /// To which node.
    pub node: u32,
    /// Whether it led.
    pub was_leader: bool,
    /// When, in seconds from the begin of the measured time.
    pub at_s: f64,
    /// Its shards, as many as were asked. None were asked when it had none, or the others did not begin to ask in time:
    /// then its outage was not measured.
    pub shards: u32,
    /// Its shards that answered some other node in time.
    pub answered: u32,
    /// From the fault to the first answered ask on any of its shards, in seconds; of a restart, the longest wait for an
    /// answer on the best of its shards, until it had left.
    pub first_answer_s: Option<f64>,
    /// From the fault until every one of its shards had answered, in seconds, of those that did; the slowest of all nodes
    /// that asked. Of a restart, the longest wait for an answer on any of them.
    pub all_answered_s: Option<f64>,
    /// From the fault until the cluster was whole again, in seconds; none if the run ended before it was.
    pub whole_s: Option<f64>,
    /// For a restart, whether the node left in order.
    pub left_in_order: Option<bool>,
}

/// How long shards did not answer, over all faults of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unavailability {
    /// The kind of fault.
    pub kind: String,
    /// How many there were.
    pub faults: u64,
    /// How many of them hit the leader.
    pub leaders: u64,
    /// Faults some of whose shards never answered.
    pub unanswered: u64,
    /// Faults of which no shard was asked.
    #[serde(default)]
    pub unmeasured: u64,
    /// To the first answered ask on any of the victim's shards.
    pub first_answer: Option<LatencySummary>,
    /// Until every one of the victim's shards had answered.
    pub all_answered: Option<LatencySummary>,
}

impl FaultReport {
    /// How long not every shard answered, if all did in the end.
    pub(super) fn outage(&self) -> Option<Duration> {
        let are_all = self.shards > 0 && self.answered == self.shards;
        let answered = self.all_answered_s.filter(|_| are_all)?;
        Some(Duration::from_secs_f64(answered.max(0.0)))
    }

    /// Whether it is a restart of a node that did not leave in order.
    pub(super) fn is_hurried(&self) -> bool {
        self.kind == "restart" && self.left_in_order != Some(true)
    }
}

impl Unavailability {
    pub(super) fn of(kind: &str, faults: &[FaultReport]) -> Unavailability {
        let of_kind: Vec<&FaultReport> = faults.iter().filter(|fault| fault.kind == kind).collect();
        let sum = |time: fn(&FaultReport) -> Option<Duration>| {
            let mut latencies = Latencies::new();
            let times = of_kind.iter().filter_map(|fault| time(fault));
            times.for_each(|time| latencies.record(time));
            latencies.summary()
        };
        let count = |is_so: fn(&FaultReport) -> bool| {
            of_kind.iter().filter(|fault| is_so(fault)).count() as u64
        };
        Unavailability {
            kind: kind.to_owned(),
            faults: of_kind.len() as u64,
            leaders: count(|fault| fault.was_leader),
            unanswered: count(|fault| fault.answered < fault.shards),
            unmeasured: count(|fault| fault.shards == 0),
            first_answer: sum(|fault| {
                let first = fault.first_answer_s?;
                Some(Duration::from_secs_f64(first.max(0.0)))
            }),
            all_answered: sum(FaultReport::outage),
        }
    }

    pub(super) fn line(&self) -> String {
        let shown = |summary: &Option<LatencySummary>| match summary {
            None => "-".to_owned(),
            Some(summary) => format!(
                "p50 {}, p99 {}, max {} of {}",
                latency(summary.p50_ns),
                latency(summary.p99_ns),
                latency(summary.max_ns),
                grouped(summary.count)
            ),
        };
        let silent = match self.unanswered {
            0 => String::new(),
            count => format!("; {count} with shards that never answered"),
        };
        let unmeasured = match self.unmeasured {
            0 => String::new(),
            count => format!("; {count} not measured, for no shard was asked"),
        };
        format!(
            "{} {} ({} of leaders): first answer {}; all of the victim's shards {}{silent}{unmeasured}",
            grouped(self.faults),
            self.kind,
            self.leaders,
            shown(&self.first_answer),
            shown(&self.all_answered)
        )
    }
}
