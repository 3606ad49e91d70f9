//! What a run over a cluster leaves behind beside the figures of all: those of each node, faults, and member events.

use serde::{Deserialize, Serialize};

use super::faults::{FaultReport, Unavailability};
use crate::cluster::protocol::{ErrorCount, MemberEventKind};
use crate::measure::{Latencies, LatencySummary};
use crate::units::{grouped, latency, percent, rate};

/// The kind of error of what was sent and never came to an end, with or without an answer.
pub const NEVER_ENDED: &str = "never ended";

/// What a run over a cluster leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// The nodes, by their numbers.
    pub nodes: Vec<NodeReport>,
    /// Faults, in the order in which they happened.
    pub faults: Vec<FaultReport>,
    /// Faults that were asked for and did not happen in the measured time.
    pub faults_missed: u64,
    /// Asks, and drivers, that never came to an end, in all phases, warm-up included.
    #[serde(default)]
    pub never_ended: u64,
    /// How long the victims' shards did not answer, by kind of fault.
    pub unavailability: Vec<Unavailability>,
    /// Member events that no fault explains: healthy nodes that were held for dead, unreachable or gone.
    pub false_events: u64,
    /// The first of them.
    pub false_events_shown: Vec<EventReport>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its number.
    pub node: u32,
    /// The CPUs of its data cores.
    pub cpus: Vec<usize>,
    /// How often its process was started.
    pub starts: u32,
    /// The most resident memory of any of its processes, in bytes.
    pub peak_bytes: u64,
    /// Its figures of each phase.
    pub phases: Vec<NodePhase>,
    /// How many member events it has told.
    pub events: u64,
    /// The first thousand of them.
    pub events_shown: Vec<EventReport>,
}

/// The figures of one node in one phase: of what its cores handled, and of the asks that they sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodePhase {
    /// The phase.
    pub name: String,
    /// Messages handled and asks answered in the measured time.
    pub completed: u64,
    /// Those per second.
    pub rate: f64,
    /// Of what its drivers sent in the measured time: asks that ended without an answer or never, and tells that got lost.
    pub failed: u64,
    /// The latency to judge by: corrected in an open loop.
    pub latency: Option<LatencySummary>,
    /// Operations that its drivers sent to entities of its own.
    pub local: u64,
    /// Operations that its drivers sent to entities of others.
    pub remote: u64,
    /// Tells that its drivers sent.
    pub tells: u64,
    /// Tells of those of which it is not known that they were handled.
    pub unaccounted: u64,
    /// Messages of its share of an open loop's schedule that nobody sent, since it had no process.
    #[serde(default)]
    pub due_to_nobody: u64,
    /// What went wrong, by kind and reason, warm-up included.
    pub errors: Vec<ErrorCount>,
    /// Processes whose figures died with them.
    pub lost_figures: u32,
}

/// A member event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventReport {
    /// When, in seconds since the run began.
    pub at_s: f64,
    /// Who told it.
    pub told_by: u32,
    /// What.
    pub what: MemberEventKind,
    /// Of which node.
    pub node: u32,
    /// Who cannot reach it, as far as is known.
    pub by: Vec<u32>,
}

impl ClusterReport {
    /// Sums the faults up by their kinds.
    pub fn sum_up(&mut self) {
        let mut kinds: Vec<&str> = self.faults.iter().map(|fault| &*fault.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.unavailability = kinds
            .into_iter()
            .map(|kind| Unavailability::of(kind, &self.faults))
            .collect();
    }

    /// How long not every shard of the victim answered, over all faults whose shards all did; none without any.
    #[must_use]
    pub fn outages(&self) -> Option<LatencySummary> {
        let mut latencies = Latencies::new();
        let faults = self.faults.iter().filter_map(FaultReport::outage);
        faults.for_each(|outage| latencies.record(outage));
        latencies.summary()
    }

    /// Faults some of whose shards never answered.
    #[must_use]
    pub fn silent_faults(&self) -> u64 {
        let faults = self.faults.iter();
        faults.filter(|fault| fault.answered < fault.shards).count() as u64
    }

    /// Why an outage of the run is not known, or has no end; none if all are known.
    #[must_use]
    pub fn unknown_outages(&self) -> Option<String> {
        let count = |is_so: fn(&FaultReport) -> bool| {
            self.faults.iter().filter(|fault| is_so(fault)).count() as u64
        };
        let reasons = [
            (self.faults_missed, "did not take place"),
            (self.silent_faults(), "without an end"),
            (count(|fault| fault.shards == 0), "not measured"),
        ];
        let some = reasons.iter().filter(|(count, _)| *count > 0);
        let some: Vec<String> = some.map(|(count, why)| format!("{count} {why}")).collect();
        (!some.is_empty()).then(|| some.join(", "))
    }

    /// Whether something that was begun or asked for did not come to its end: a fault that did not take place or was not
    /// healed, shards that never answered again, a node that did not leave in order, an ask that never ended.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        let is_unhealed = |fault: &FaultReport| fault.whole_s.is_none() || fault.is_hurried();
        self.never_ended > 0
            || self.faults_missed > 0
            || self.silent_faults() > 0
            || self.faults.iter().any(is_unhealed)
    }

    /// Messages of the open loop of a phase that nobody sent, for nodes without a process have no schedule.
    #[must_use]
    pub fn due_to_nobody(&self, phase: &str) -> u64 {
        let phases = self.nodes.iter().flat_map(|node| &node.phases);
        let of_phase = phases.filter(|one| one.name == phase);
        of_phase.map(|one| one.due_to_nobody).sum()
    }

    /// The nodes' figures as rows of a table, each phase of each node, below their headings.
    #[must_use]
    pub fn node_rows(&self) -> Vec<[String; 10]> {
        let mut rows = vec![
            [
                "node",
                "phase",
                "CPUs",
                "done",
                "completed",
                "failed",
                "p50",
                "p99",
                "max",
                "local",
            ]
            .map(str::to_owned),
        ];
        for node in &self.nodes {
            let cpus: Vec<String> = node.cpus.iter().map(usize::to_string).collect();
            rows.extend(node.phases.iter().map(|phase| {
                let of = |figure: fn(&LatencySummary) -> u64| {
                    let summary = phase.latency.as_ref();
                    summary.map_or("-".to_owned(), |summary| latency(figure(summary)))
                };
                let sent = phase.local + phase.remote;
                [
                    node.node.to_string(),
                    phase.name.clone(),
                    cpus.join(" "),
                    format!("{}/s", rate(phase.rate)),
                    grouped(phase.completed),
                    grouped(phase.failed),
                    of(|summary| summary.p50_ns),
                    of(|summary| summary.p99_ns),
                    of(|summary| summary.max_ns),
                    match sent {
                        0 => "-".to_owned(),
                        _ => percent(phase.local as f64 / sent as f64),
                    },
                ]
            }));
        }
        rows
    }

    /// What is to be known of each node beside its figures.
    #[must_use]
    pub fn node_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for node in &self.nodes {
            let starts = match node.starts {
                1 => String::new(),
                starts => format!(", started {starts} times"),
            };
            notes.push(format!(
                "node {}: at most {} MiB resident, {} member events{starts}",
                node.node,
                node.peak_bytes >> 20,
                grouped(node.events)
            ));
            for phase in &node.phases {
                let named =
                    |what: String| format!("node {}, phase {}: {what}", node.node, phase.name);
                if phase.unaccounted > 0 {
                    notes.push(named(format!(
                        "{} of {} tells are not known to have been handled",
                        grouped(phase.unaccounted),
                        grouped(phase.tells)
                    )));
                }
                if phase.lost_figures > 0 {
                    notes.push(named(format!(
                        "the figures of {} of its processes died with them",
                        phase.lost_figures
                    )));
                }
                notes.extend(phase.errors.iter().map(|error| {
                    let (kind, reason) = (&error.kind, &error.reason);
                    named(format!("{} {kind}: {reason}", grouped(error.count)))
                }));
            }
        }
        notes
    }

    /// The faults as rows of a table, below their headings; none without any.
    #[must_use]
    pub fn fault_rows(&self) -> Vec<[String; 8]> {
        if self.faults.is_empty() {
            return Vec::new();
        }
        let mut rows = vec![
            [
                "fault",
                "at",
                "node",
                "led",
                "shards",
                "first answer",
                "all answered",
                "whole again",
            ]
            .map(str::to_owned),
        ];
        let seconds = |time: Option<f64>| time.map_or("-".to_owned(), |s| format!("{s:.3} s"));
        rows.extend(self.faults.iter().map(|fault| {
            [
                fault.kind.clone(),
                format!("{:.1} s", fault.at_s),
                fault.node.to_string(),
                if fault.was_leader { "yes" } else { "no" }.to_owned(),
                fault.shards.to_string(),
                seconds(fault.first_answer_s),
                match fault.answered < fault.shards {
                    true => format!("{} of {}", fault.answered, fault.shards),
                    false => seconds(fault.all_answered_s),
                },
                fault
                    .whole_s
                    .map_or("never".to_owned(), |s| format!("{s:.3} s")),
            ]
        }));
        rows
    }

    /// What the faults amount to, and member events without one.
    #[must_use]
    pub fn verdicts(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .unavailability
            .iter()
            .map(Unavailability::line)
            .collect();
        let hurried = self.faults.iter().filter(|fault| fault.is_hurried());
        match hurried.count() {
            0 => {}
            count => lines.push(format!(
                "{count} restarts in which the node did not leave in order: it was declared down, and what its entities held in \
                 memory is gone"
            )),
        }
        if self.faults_missed > 0 {
            lines.push(format!(
                "{} faults did not take place within the measured time, for each waits until the cluster is whole: a longer \
                 --duration has room for them",
                grouped(self.faults_missed)
            ));
        }
        if self.never_ended > 0 {
            lines.push(format!(
                "NEVER ENDED: {} asks or drivers, with neither an answer nor an error",
                grouped(self.never_ended)
            ));
        }
        match self.false_events {
            0 => lines.push("no member event without a fault".to_owned()),
            count => {
                lines.push(format!(
                    "FALSE: {} member events that no fault explains",
                    grouped(count)
                ));
                lines.extend(self.false_events_shown.iter().map(EventReport::line));
            }
        }
        lines
    }
}

impl EventReport {
    fn line(&self) -> String {
        let (teller, node, what) = (self.told_by, self.node, self.what.name());
        let by: Vec<String> = self.by.iter().map(u32::to_string).collect();
        let by = match by.is_empty() {
            true => String::new(),
            false => format!(" (by {})", by.join(", ")),
        };
        format!(
            "  at {:.1} s node {teller} said: node {node} is {what}{by}",
            self.at_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: &str, first: f64, all: f64, answered: u32) -> FaultReport {
        FaultReport {
            kind: kind.to_owned(),
            node: 2,
            was_leader: first > 1.0,
            shards: 85,
            answered,
            first_answer_s: Some(first),
            all_answered_s: Some(all),
            whole_s: Some(all),
            ..FaultReport::default()
        }
    }

    impl ClusterReport {
        /// Holds a run with these faults against an objective.
        fn judge_outage(&self, objective: &str, is_met: bool) {
            let mut report = crate::report::Report::begun_now("ask", 1, Vec::new());
            report.cluster = Some(self.clone());
            report.judge(&[objective.parse().expect("an objective")]);
            let verdict = &report.slos[0];
            assert_eq!(verdict.is_met, is_met, "{verdict:?}");
        }
    }

    #[test]
    fn faults_are_summed_up_by_kind_and_silent_shards_are_no_short_outage() {
        let mut report = ClusterReport {
            faults: vec![
                fault("kill", 0.5, 2.0, 85),
                fault("pause", 9.0, 9.0, 85),
                fault("kill", 1.5, 0.1, 84),
            ],
            ..ClusterReport::default()
        };
        report.sum_up();
        let [kill, pause] = &report.unavailability[..] else {
            panic!("two kinds")
        };
        assert_eq!((kill.faults, kill.leaders, kill.unanswered), (2, 1, 1));
        assert_eq!(kill.first_answer.as_ref().map(|s| s.count), Some(2));
        let all = kill.all_answered.as_ref().expect("one answered");
        assert!(all.count == 1 && all.max_ns.abs_diff(2_000_000_000) < 3_000_000);
        assert_eq!(pause.faults, 1);
        assert_eq!(
            (
                report.silent_faults(),
                report.outages().map(|all| all.count)
            ),
            (1, Some(2))
        );
        report.judge_outage("outage<10s", false);
        report.faults.pop();
        report.judge_outage("outage<10s", true);
        report.judge_outage("outage.p99<=5s", false);
        report.faults.push(fault("kill", 1.5, 0.1, 84));
        let rows = report.fault_rows();
        assert_eq!(rows[3][6], "84 of 85");
        assert!(
            report
                .verdicts()
                .join("\n")
                .contains("1 with shards that never answered")
        );
    }

    #[test]
    fn a_fault_that_was_not_seen_to_its_end_is_neither_met_nor_clean() {
        let whole = ClusterReport {
            faults: vec![fault("kill", 0.5, 2.0, 85)],
            ..ClusterReport::default()
        };
        whole.judge_outage("outage<6s", true);
        assert!(!whole.is_incomplete());
        let flawed = |flaw: fn(&mut ClusterReport)| {
            let mut report = whole.clone();
            flaw(&mut report);
            report
        };
        let missed = flawed(|report| report.faults_missed = 1);
        let silent = flawed(|report| report.faults[0].answered = 84);
        for report in [&missed, &silent] {
            report.judge_outage("outage<6s", false);
            assert!(report.is_incomplete());
        }
        // The victim had nothing: that is no outage of no time.
        let mut idle = flawed(|report| {
            let mut fault = report.faults[0].clone();
            (fault.shards, fault.answered, fault.all_answered_s) = (0, 0, None);
            report.faults.push(fault);
        });
        idle.judge_outage("outage<6s", false);
        idle.sum_up();
        let line = idle.unavailability[0].line();
        assert!(line.contains(" of 1; 1 not measured"), "{line}");
        assert!(!idle.is_incomplete());
        let of_run = |report: ClusterReport| {
            let mut run = crate::report::Report::begun_now("ask", 1, Vec::new());
            run.cluster = Some(report);
            run.outcome()
        };
        for flaw in [
            (|report| report.never_ended = 1) as fn(&mut ClusterReport),
            |report| report.faults[0].whole_s = None,
            |report| {
                report.faults[0].kind = "restart".to_owned();
                report.faults[0].left_in_order = Some(false);
            },
        ] {
            assert_eq!(of_run(flawed(flaw)), crate::exit::Outcome::Incomplete);
        }
        assert_eq!(of_run(whole.clone()), crate::exit::Outcome::Clean);
    }

    #[test]
    fn false_events_are_shouted() {
        let mut report = ClusterReport::default();
        assert_eq!(report.verdicts(), ["no member event without a fault"]);
        report.false_events = 1;
        report.false_events_shown = vec![EventReport {
            at_s: 3.0,
            told_by: 1,
            what: MemberEventKind::Down,
            node: 3,
            by: vec![2],
        }];
        report.faults = vec![FaultReport {
            kind: "restart".to_owned(),
            left_in_order: Some(false),
            ..FaultReport::default()
        }];
        let text = report.verdicts().join("\n");
        assert!(text.contains("1 restarts in which"), "{text}");
        assert!(
            text.contains("FALSE: 1 ") && text.contains("node 3 is down (by 2)"),
            "{text}"
        );
    }
}
