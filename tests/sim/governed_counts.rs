//! What has happened in all runs of a swarm: one that never comes to something shows nothing about it.

use crate::governed_faults::Fault;
use crate::governed_history::{Kind, Operation, Outcome, is_kept};
use crate::governed_judge::Kept;
use corecast::base::ids::NodeId;
use corecast::cluster::node::output::{LeaseState, StopCause};
use corecast::cluster::plane::Event;
use corecast::membership::event::MemberEvent;
use std::collections::{BTreeMap, BTreeSet};

/// A transition of one of the state diagrams: of the ownership of a shard, the lease of a node, its membership, its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transition {
    /// A shard gets its first owner.
    Allocated,
    /// It loses its owner, who is down.
    Orphaned,
    /// It gets another.
    Reallocated,
    /// It begins to move.
    Prepared,
    /// It has moved.
    Moved,
    /// It stays where it was.
    Aborted,
    /// A life gets its first lease.
    LeaseGranted,
    LeaseRenewed,
    LeaseLapsed,
    LeaseResumed,
    MemberUp,
    MemberUnreachable,
    MemberReachable,
    MemberDown,
    MemberLeft,
    Joined,
    Rejoined,
    LifeEnded,
    Left,
    /// Another node leads.
    LeaderChanged,
}

impl Transition {
    pub const ALL: [Transition; 20] = [
        Transition::Allocated,
        Transition::Prepared,
        Transition::Moved,
        Transition::Aborted,
        Transition::Orphaned,
        Transition::Reallocated,
        Transition::LeaseGranted,
        Transition::LeaseRenewed,
        Transition::LeaseLapsed,
        Transition::LeaseResumed,
        Transition::MemberUp,
        Transition::MemberUnreachable,
        Transition::MemberReachable,
        Transition::MemberDown,
        Transition::MemberLeft,
        Transition::Joined,
        Transition::Rejoined,
        Transition::LifeEnded,
        Transition::Left,
        Transition::LeaderChanged,
    ];
}

/// What a node has told, as far as the next transition depends on it.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    has_lived: bool,
    had_lease: bool,
    has_lease: bool,
}

/// The counters of one or of many runs.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub faults: BTreeMap<Fault, u64>,
    pub transitions: BTreeMap<Transition, u64>,
    pub outcomes: BTreeMap<&'static str, u64>,
    pub operations: u64,
    /// Of these, for entities that keep running.
    pub kept_operations: u64,
    /// Those of them that were sent on a node without a lease to entities there, and had to be handled.
    pub kept_asked: u64,
    pub kept: Kept,
    pub runs: u64,
    told: BTreeMap<NodeId, Told>,
    /// Log entries whose changes have been counted: every node tells of each.
    seen: BTreeSet<u64>,
}

impl Counts {
    fn count(&mut self, transition: Transition) {
        *self.transitions.entry(transition).or_default() += 1;
    }

    /// A control plane has told something.
    pub fn heard(&mut self, node: NodeId, event: &Event) {
        let told = self.told.entry(node).or_default();
        match event {
            Event::Joined { .. } => {
                (told.had_lease, told.has_lease) = (false, false);
                let again = std::mem::replace(&mut told.has_lived, true);
                self.count(match again {
                    true => Transition::Rejoined,
                    false => Transition::Joined,
                });
            }
            Event::Lease(LeaseState::Valid { .. }) => {
                let transition = match (told.had_lease, told.has_lease) {
                    (false, _) => Transition::LeaseGranted,
                    (true, true) => Transition::LeaseRenewed,
                    (true, false) => Transition::LeaseResumed,
                };
                (told.had_lease, told.has_lease) = (true, true);
                self.count(transition);
            }
            Event::Lease(LeaseState::Lapsed) => {
                told.has_lease = false;
                self.count(Transition::LeaseLapsed);
            }
            Event::Member(event) => self.count(match event {
                MemberEvent::Up(_) => Transition::MemberUp,
                MemberEvent::Left(_) => Transition::MemberLeft,
                MemberEvent::Down(_) => Transition::MemberDown,
                MemberEvent::Unreachable(_) => Transition::MemberUnreachable,
                MemberEvent::Reachable(_) => Transition::MemberReachable,
            }),
            Event::Leader(Some(_)) => self.count(Transition::LeaderChanged),
            Event::Stopped(StopCause::LifeEnded { .. }) => self.count(Transition::LifeEnded),
            Event::Stopped(StopCause::Left) => self.count(Transition::Left),
            Event::Shards(changed) if !changed.after_gap && self.seen.insert(changed.version) => {
                for change in &changed.changes {
                    let (before, now) = (&change.before, &change.now);
                    let transition = match (before.moving_to, now.moving_to) {
                        (None, Some(_)) => Transition::Prepared,
                        (Some(to), None) if now.owner == Some(to) => Transition::Moved,
                        (Some(_), None) if now.owner == before.owner => Transition::Aborted,
                        _ => match (before.owner, now.owner) {
                            (Some(_), None) => Transition::Orphaned,
                            (_, Some(_)) if before.epoch.0 == 0 => Transition::Allocated,
                            (_, Some(_)) => Transition::Reallocated,
                            (None, None) => continue,
                        },
                    };
                    self.count(transition);
                }
            }
            _ => {}
        }
    }

    /// What entities that keep running have done.
    pub fn kept(&mut self, kept: &Kept) {
        self.kept.past_lease += kept.past_lease;
        self.kept.overlaps += kept.overlaps;
    }

    /// An operation has ended, or not.
    pub fn operation(&mut self, operation: &Operation) {
        self.operations += 1;
        self.kept_operations += u64::from(is_kept(operation.to));
        let kind = operation.kind;
        let name = match operation.ended.map(|it| it.1) {
            None => "open",
            Some(Outcome::Accepted) => "accepted",
            Some(Outcome::Stored) => "stored",
            Some(Outcome::Replied(_)) => "replied",
            Some(Outcome::Rejected(_)) if kind == Kind::Tell => "refused",
            Some(Outcome::Rejected(_)) => "rejected",
            Some(Outcome::Unknown(_)) => "unknown",
        };
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// Adds the counters of another run.
    pub fn add(&mut self, other: &Counts) {
        self.runs += 1;
        self.operations += other.operations;
        self.kept_operations += other.kept_operations;
        self.kept_asked += other.kept_asked;
        self.kept(&other.kept);
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (transition, count) in &other.transitions {
            *self.transitions.entry(*transition).or_default() += count;
        }
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
    }

    /// Panics if something has never happened.
    pub fn assert_complete(&self) {
        for fault in Fault::ALL {
            assert!(self.faults.contains_key(&fault), "no {fault:?} in {self:?}");
        }
        for transition in Transition::ALL {
            let happened = self.transitions.contains_key(&transition);
            assert!(happened, "no {transition:?} in {self:?}");
        }
        let kept = [self.kept_operations, self.kept_asked];
        let kept = kept
            .into_iter()
            .chain([self.kept.past_lease, self.kept.overlaps]);
        assert!(kept.min() > Some(0), "nobody has kept running in {self:?}");
        for outcome in ["accepted", "stored", "replied", "rejected", "unknown"] {
            assert!(
                self.outcomes.contains_key(outcome),
                "nothing {outcome} in {self:?}"
            );
        }
    }
}
