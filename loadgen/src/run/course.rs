//! The course of the faults of a run: one after the other, each when its time has come and the cluster is whole, and what
//! each has led to.
//!
//! ```text
//!  waiting ──▶ watching ──▶ down ───────▶ returning ──▶ over
//!                  │                          ▲
//!                  └──▶ leaving (restart) ────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use corecast::Time;
use corecast::node::cluster::expert::Profile;

use super::error::RunError;
use crate::cluster::error::ClusterError;
use crate::cluster::fleet::{Fleet, WHOLE_WITHIN};
use crate::cluster::protocol::{Blow, Order};
use crate::options::{FaultKind, FaultSpec, Nodes, Who};
use crate::report::FaultReport;

/// How long the others may take to begin to watch the shards of a victim.
const WATCHING_WITHIN: Duration = Duration::from_secs(5);
/// From then on until the fault: so that some asks have been answered.
const LEAD: Duration = Duration::from_millis(200);
/// How far the asks of a shard are apart at least whose node leaves.
const LEAVING_EVERY: Duration = Duration::from_millis(100);
/// How long a node may take to leave and end.
const LEAVING_WITHIN: Duration = Duration::from_secs(60);
/// How long its process may take to end after its last word.
const ENDING_WITHIN: Duration = Duration::from_secs(10);

/// The faults of a run.
#[derive(Debug)]
pub(super) struct Course {
    waiting: VecDeque<(Time, FaultSpec)>,
    active: Option<Active>,
    over: Vec<FaultReport>,
    begin: Time,
    number: u32,
    next_follower: u32,
    watch_every: Duration,
    /// Whose process was started again.
    started: Vec<u32>,
    /// Of whom the cluster is whole again, and since when it was away: it takes part in the load once more.
    back: Vec<(u32, Time)>,
}

#[derive(Debug)]
struct Active {
    spec: FaultSpec,
    number: u32,
    victim: u32,
    step: Step,
    /// When the fault was, once it was.
    hit: Option<Time>,
    report: FaultReport,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Watching { since: Time },
    Down { until: Time },
    Leaving { since: Time },
    Returning { since: Time },
}

impl Course {
    /// The faults of a phase whose measured time begins then, each as often as it is asked for, `period` apart.
    pub(super) fn new(nodes: &Nodes, begin: Time, period: Duration) -> Course {
        let rounds = 0..nodes.repeat;
        let waiting = rounds.flat_map(|round| {
            let faults = nodes.faults.iter();
            faults.map(move |spec| (begin + period * round + spec.at, *spec))
        });
        Course {
            waiting: waiting.collect(),
            active: None,
            over: Vec::new(),
            begin,
            number: 0,
            next_follower: 1,
            watch_every: match nodes.profile {
                Profile::Default => Duration::from_millis(100),
                Profile::Fast => Duration::from_millis(20),
            },
            started: Vec::new(),
            back: Vec::new(),
        }
    }

    /// No faults at all.
    pub(super) fn none() -> Course {
        Course {
            waiting: VecDeque::new(),
            active: None,
            over: Vec::new(),
            begin: Time::ZERO,
            number: 0,
            next_follower: 1,
            watch_every: Duration::from_secs(1),
            started: Vec::new(),
            back: Vec::new(),
        }
    }

    /// Whether a fault is under way.
    pub(super) fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Whether there are no more faults to come.
    pub(super) fn is_over(&self) -> bool {
        self.active.is_none() && self.waiting.is_empty()
    }

    /// What there was, and how many faults did not take place. One that is under way is told as far as it has come.
    pub(super) fn end(mut self, fleet: &Fleet) -> (Vec<FaultReport>, u64) {
        let mut missed = self.waiting.len() as u64;
        match self.active.take() {
            None => {}
            Some(active) if active.hit.is_none() => missed += 1,
            Some(mut active) => {
                active.add_answers(fleet);
                self.over.push(active.report);
            }
        }
        (self.over, missed)
    }

    /// Nodes whose process was started again since the last call.
    pub(super) fn started(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.started)
    }

    /// Nodes that were started again and with which the cluster is whole since the last call, and since when each was
    /// away.
    pub(super) fn back(&mut self) -> Vec<(u32, Time)> {
        std::mem::take(&mut self.back)
    }

    /// The run is broken off: a fault that was about to happen does not, and one that lasts is healed by the next step.
    pub(super) fn cut(&mut self, fleet: &mut Fleet) -> Result<(), RunError> {
        let now = fleet.now();
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        match active.step {
            Step::Down { .. } => active.step = Step::Down { until: now },
            Step::Watching { .. } => {
                active.unwatch(fleet)?;
                let spec = active.spec;
                self.waiting.push_front((now, spec));
                self.active = None;
            }
            Step::Leaving { .. } | Step::Returning { .. } => {}
        }
        Ok(())
    }

    /// Goes on with it. `may_begin` allows a fault that is not under way.
    pub(super) fn step(&mut self, fleet: &mut Fleet, may_begin: bool) -> Result<(), RunError> {
        let now = fleet.now();
        fleet.allocate()?;
        let Some(mut active) = self.active.take() else {
            if may_begin {
                self.begin(fleet, now)?;
            }
            return Ok(());
        };
        match self.go_on(&mut active, fleet, now) {
            Ok(true) => self.finish(fleet, active, now),
            // With an error too: how far it has come is of use.
            other => {
                self.active = Some(active);
                other.map(drop)
            }
        }
    }

    /// Goes on with a fault that is under way; returns whether it is over.
    fn go_on(
        &mut self,
        active: &mut Active,
        fleet: &mut Fleet,
        now: Time,
    ) -> Result<bool, RunError> {
        match active.step {
            Step::Watching { since } => {
                let (number, victim) = (active.number, active.victim);
                let is_watched = fleet.nodes.iter().all(|node| {
                    node.id == victim || node.watching.is_some_and(|(fault, _)| fault == number)
                });
                if is_watched && now > since + LEAD || now > since + WATCHING_WITHIN {
                    active.inject(fleet, self.begin)?;
                }
            }
            Step::Down { until } => {
                if now >= until {
                    self.started.extend(active.heal(fleet)?);
                    active.step = Step::Returning { since: now };
                }
            }
            Step::Leaving { since } => {
                let victim = active.victim;
                if let Some((_, left)) = fleet.node(victim).ended {
                    active.report.left_in_order = left;
                    fleet.has_ended(victim, ENDING_WITHIN)?;
                    active.has_left(fleet)?;
                    self.started.extend(active.heal(fleet)?);
                    active.step = Step::Returning { since: now };
                } else if now > since + LEAVING_WITHIN {
                    active.report.left_in_order = Some(false);
                    let node = fleet.node_mut(victim);
                    // It may have told its figures, and stuck then.
                    if (node.figures.len() as u32) + node.lost_figures < node.driving {
                        node.lost_figures += 1;
                    }
                    fleet.kill(victim)?;
                    active.has_left(fleet)?;
                    self.started.extend(active.heal(fleet)?);
                    active.step = Step::Returning { since: now };
                }
            }
            Step::Returning { since } => return active.has_returned(fleet, now, since),
        }
        Ok(false)
    }

    fn begin(&mut self, fleet: &mut Fleet, now: Time) -> Result<(), RunError> {
        let Some(&(at, spec)) = self.waiting.front() else {
            return Ok(());
        };
        if now < at || !fleet.is_whole() {
            return Ok(());
        }
        let Some(leader) = fleet.leader() else {
            return Ok(());
        };
        self.waiting.pop_front();
        let victim = match spec.who {
            Who::Node(node) => node,
            Who::Leader => leader,
            Who::Follower => {
                let count = fleet.nodes.len() as u32;
                let next = (0..count).map(|step| (self.next_follower - 1 + step) % count + 1);
                let mut next = next.filter(|node| *node != leader);
                // One that owns nothing would show nothing, if there is another.
                let owns = |node: &u32| fleet.node(*node).beat.owned > 0;
                let victim = next.clone().find(owns).or_else(|| next.next());
                let victim = victim.unwrap_or(leader);
                self.next_follower = victim % count + 1;
                victim
            }
            Who::All => {
                // Each of them in its turn, at once when the one before is back.
                for node in fleet.ids().rev() {
                    let one = FaultSpec {
                        who: Who::Node(node),
                        ..spec
                    };
                    self.waiting.push_front((at, one));
                }
                return Ok(());
            }
        };
        self.number += 1;
        let number = self.number;
        let watch = Order::Watch {
            fault: number,
            victim,
            every_ms: match spec.kind {
                // It goes on until the node has left: more asks would be a load of their own.
                FaultKind::Restart => self.watch_every.max(LEAVING_EVERY),
                _ => self.watch_every,
            }
            .as_millis() as u64,
        };
        for node in fleet.ids() {
            let told = fleet.node_mut(node);
            (told.watching, told.answered) = (None, None);
            if node != victim {
                fleet.tell(node, &watch)?;
            }
        }
        self.active = Some(Active {
            spec,
            number,
            victim,
            step: Step::Watching { since: now },
            hit: None,
            report: FaultReport {
                kind: spec.kind.name().to_owned(),
                node: victim,
                ..FaultReport::default()
            },
        });
        Ok(())
    }

    fn finish(&mut self, fleet: &mut Fleet, mut active: Active, now: Time) -> Result<(), RunError> {
        fleet.excuses.end(active.victim, now.as_nanos());
        let hit = active.hit.unwrap_or(now);
        active.report.whole_s = Some((now - hit).as_secs_f64());
        active.add_answers(fleet);
        active.unwatch(fleet)?;
        if matches!(active.spec.kind, FaultKind::Kill | FaultKind::Restart) {
            self.back.push((active.victim, hit));
        }
        self.over.push(active.report);
        Ok(())
    }
}

impl Active {
    fn inject(&mut self, fleet: &mut Fleet, begin: Time) -> Result<(), RunError> {
        let victim = self.victim;
        // Whoever led when the fault was planned may lead no longer.
        self.report.was_leader = fleet.leader() == Some(victim);
        fleet.excuses.begin(victim, fleet.now().as_nanos());
        let blow = match self.spec.kind {
            FaultKind::Kill => {
                fleet.node_mut(victim).lost_figures += 1;
                fleet.kill(victim)?
            }
            FaultKind::Pause => {
                fleet.node_mut(victim).was_stopped = true;
                fleet.pause(victim, true)?
            }
            FaultKind::Partition => fleet.set_link(victim, false)?,
            FaultKind::Restart => fleet.leave(victim)?,
        };
        let hit = blow.begun();
        self.hit = Some(hit);
        self.report.at_s = (hit - begin).as_secs_f64();
        self.tell_blow(fleet, blow)?;
        self.step = match self.spec.kind {
            FaultKind::Restart => Step::Leaving { since: hit },
            _ => Step::Down {
                until: hit + self.spec.down,
            },
        };
        Ok(())
    }

    /// Has those that watch know when it was.
    fn tell_blow(&self, fleet: &mut Fleet, blow: Blow) -> Result<(), RunError> {
        let order = Order::Hit {
            fault: self.number,
            blow,
        };
        for node in fleet.ids() {
            if node != self.victim {
                fleet.tell(node, &order)?;
            }
        }
        Ok(())
    }

    /// The process of a node that was told to leave is gone.
    fn has_left(&self, fleet: &mut Fleet) -> Result<(), RunError> {
        let done = fleet.now();
        let blow = Blow {
            begun_ns: self.hit.unwrap_or(done).as_nanos(),
            done_ns: done.as_nanos(),
        };
        self.tell_blow(fleet, blow)
    }

    /// Ends it; returns the node if that took a new process.
    fn heal(&mut self, fleet: &mut Fleet) -> Result<Option<u32>, RunError> {
        match self.spec.kind {
            FaultKind::Kill | FaultKind::Restart => {
                fleet.start(self.victim)?;
                return Ok(Some(self.victim));
            }
            FaultKind::Pause => {
                fleet.pause(self.victim, false)?;
            }
            FaultKind::Partition => {
                fleet.set_link(self.victim, true)?;
            }
        }
        Ok(None)
    }

    fn unwatch(&self, fleet: &mut Fleet) -> Result<(), RunError> {
        for node in fleet.ids() {
            if node != self.victim {
                fleet.tell(node, &Order::Unwatch)?;
            }
        }
        Ok(())
    }

    /// Whether the cluster is whole, and everybody who watches has said how long that took.
    fn has_returned(&self, fleet: &Fleet, now: Time, since: Time) -> Result<bool, RunError> {
        let number = self.number;
        let have_answered = fleet.nodes.iter().all(|node| {
            let is_watching = node
                .watching
                .is_some_and(|(fault, shards)| fault == number && shards > 0);
            !is_watching
                || node
                    .answered
                    .is_some_and(|answered| answered.fault == number)
        });
        if fleet.is_whole() && have_answered {
            return Ok(true);
        }
        if now > since + WHOLE_WITHIN {
            return Err(RunError::Cluster(ClusterError::Late {
                what: format!(
                    "it is whole again after a {} of node {}",
                    self.report.kind, self.victim
                ),
                within: WHOLE_WITHIN,
                state: fleet.state(),
            }));
        }
        Ok(false)
    }

    /// What the others have seen: the first answer of any, the last of all.
    fn add_answers(&mut self, fleet: &Fleet) {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let number = self.number;
        // Each that watches, with what it has said so far.
        let watchers = fleet.nodes.iter().filter_map(|node| {
            let (fault, shards) = node.watching?;
            let answered = node.answered.filter(|answered| answered.fault == number);
            (fault == number && shards > 0).then_some((shards, answered))
        });
        let watchers: Vec<_> = watchers.collect();
        let answers: Vec<_> = watchers.iter().filter_map(|(_, said)| *said).collect();
        let report = &mut self.report;
        let shards = watchers.iter().map(|(shards, _)| *shards).max();
        report.shards = shards.unwrap_or(0);
        // Who has seen the fewest shards answer says how many did; who has not spoken yet has seen none for certain.
        let silent = watchers.iter().map(|(shards, said)| {
            said.map_or(*shards, |said| said.shards.saturating_sub(said.answered))
        });
        report.answered = report.shards - silent.max().unwrap_or(0).min(report.shards);
        let first = answers.iter().filter_map(|answer| answer.first_ns).min();
        let last = answers.iter().filter_map(|answer| answer.last_ns).max();
        report.first_answer_s = first.map(seconds);
        report.all_answered_s = last.map(seconds);
    }
}
