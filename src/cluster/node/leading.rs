//! What a leader sees to: that the log says which cluster it is, that applicants come in, that the dead are declared down
//! when their leases are over, and that shards have owners.
//!
//! Whatever a leader proposes counts in its own term. So nothing of it comes later than its successor's, and a leader may
//! act before it has a life itself: after all nodes have been off, somebody has to be the first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::admitting::Applicant;
use super::machine::ClusterNode;
use super::settings::NodeSettings;
use crate::base::ids::{NodeId, ShardKey};
use crate::base::time::Time;
use crate::cluster::command::Command;
use crate::cluster::steward::Steward;
use crate::consensus::output::ProposeError;
use crate::consensus::peer::NodeLife;
use crate::membership::change::Change;
use crate::membership::view::Member;

/// For how many heartbeats an accusation stands that is not repeated.
const ACCUSATION_STANDS_FOR: u32 = 4;

/// What a node needs while it leads.
pub(super) struct Leading {
    steward: Steward,
    /// The housekeeping has to be looked at.
    looks: bool,
    /// All applicants have to be looked at: something has changed since.
    pub(super) looks_at_applicants: bool,
    pub(super) applicants: BTreeMap<NodeId, Applicant>,
    /// The lives that are to be declared down. They get no more leases.
    accused: BTreeMap<NodeLife, Accused>,
    /// When to say again which cluster this is, if the log does not say it.
    found_again: Time,
    retry: Duration,
}

struct Accused {
    /// Until when the last word against it stands.
    stands_until: Time,
    /// When it may be proposed that it is down, or proposed again.
    next: Time,
}

impl Leading {
    pub(super) fn new(settings: &NodeSettings, now: Time) -> Leading {
        Leading {
            steward: Steward::new(settings.steward.clone(), now),
            looks: true,
            looks_at_applicants: true,
            applicants: BTreeMap::new(),
            accused: BTreeMap::new(),
            found_again: now,
            retry: settings.consensus.election_max,
        }
    }

    pub(super) fn is_accused(&self, life: &NodeLife) -> bool {
        self.accused.contains_key(life)
    }

    /// When the proposal to declare a life down may be made, if it is accused.
    pub(super) fn down_at(&self, life: &NodeLife) -> Option<Time> {
        self.accused.get(life).map(|accused| accused.next)
    }
}

impl ClusterNode {
    pub(super) fn leading_deadline(&self) -> Time {
        let Some(leading) = &self.leading else {
            return Time::MAX;
        };
        if !self.leads_settled() {
            return Time::MAX; // The log says when that is over.
        }
        if self.state.cluster().is_none() {
            return leading.found_again;
        }
        let accused = leading.accused.values();
        let accused = accused.map(|accused| accused.next.min(accused.stands_until));
        let applicants = leading.applicants.values().map(Applicant::deadline);
        let steward = leading.steward.next_deadline();
        let all = accused.chain(applicants).chain(steward);
        all.min().unwrap_or(Time::MAX)
    }

    pub(super) fn leads_settled(&self) -> bool {
        let consensus = self.consensus.as_ref();
        consensus.is_some_and(|consensus| consensus.leads_settled())
    }

    /// Does what is due for a leader.
    pub(super) fn lead(&mut self, changed: bool, now: Time) {
        if let Some(leading) = &mut self.leading {
            leading.looks |= changed;
            leading.looks_at_applicants |= changed;
        }
        if self.stopped || self.leading.is_none() || !self.leads_settled() {
            return;
        }
        if self.state.cluster().is_none() {
            return self.say_which_cluster(now);
        }
        self.admit_due(now);
        self.declare_down(now);
        let Some(leading) = &mut self.leading else {
            return;
        };
        let is_due = leading.steward.next_deadline().is_some_and(|at| at <= now);
        if std::mem::take(&mut leading.looks) || is_due {
            self.counters.looked_over_shards += 1;
            let commands = leading.steward.look(&self.state, now);
            for command in commands {
                // One that is not taken is proposed again after a while.
                self.propose_as_leader(&command, now);
            }
        }
    }

    /// Proposes something in this leader's term; whether it was taken.
    pub(super) fn propose_as_leader(&mut self, command: &Command, now: Time) -> bool {
        let consensus = self.consensus.as_mut();
        consensus
            .is_some_and(|consensus| consensus.propose_in_term(now, command.to_bytes()).is_ok())
    }

    fn say_which_cluster(&mut self, now: Time) {
        let (Some(founding), Some(leading)) = (self.durable.founding(), &mut self.leading) else {
            return;
        };
        if now < leading.found_again {
            return;
        }
        leading.found_again = now + leading.retry;
        let voters = founding.configuration().voters.into_iter().collect();
        let cluster = founding.cluster();
        self.propose_as_leader(&Command::Found { cluster, voters }, now);
    }

    /// A member says that two observers cannot reach a life.
    pub(super) fn accused_by(&mut self, by: NodeId, life: NodeLife, now: Time) {
        let is_member = self.state.members().member(by).is_some_and(Member::is_live);
        // Who leads with a majority behind it is not dead.
        if is_member && life.node != self.settings.node {
            let stands = self.settings.membership.heartbeat * ACCUSATION_STANDS_FOR;
            self.condemn(life, now + stands, now);
        }
    }

    /// A life is to be declared down, unless nobody says so any more.
    pub(super) fn condemn(&mut self, life: NodeLife, stands_until: Time, now: Time) {
        let member = self.state.members().member(life.node);
        let is_live = member.is_some_and(|m| m.is_live() && m.incarnation == life.incarnation);
        let Some(leading) = self.leading.as_mut().filter(|_| is_live) else {
            return;
        };
        let accused = leading.accused.entry(life).or_insert(Accused {
            stands_until,
            next: now,
        });
        accused.stands_until = accused.stands_until.max(stands_until);
        self.withhold_leases();
        self.declare_down(now);
    }

    fn withhold_leases(&mut self) {
        let lives = self.lives_with_leases();
        if let Some(consensus) = &mut self.consensus {
            consensus.allow_leases(lives);
        }
    }

    fn declare_down(&mut self, now: Time) {
        let (Some(leading), Some(consensus)) = (&mut self.leading, &mut self.consensus) else {
            return;
        };
        if !consensus.leads_settled() {
            return;
        }
        let before = leading.accused.len();
        let lives = self.state.lives();
        leading
            .accused
            .retain(|life, accused| lives.contains(life) && now < accused.stands_until);
        let pardoned = leading.accused.len() != before;
        for (life, accused) in &mut leading.accused {
            if now < accused.next {
                continue;
            }
            let NodeLife { node, incarnation } = *life;
            let command = Command::Member(Change::Down { node, incarnation }).to_bytes();
            accused.next = match consensus.propose_down(now, *life, command) {
                Ok(_) => {
                    self.counters.downs += 1;
                    now + leading.retry
                }
                Err(ProposeError::LeaseStands { until }) => {
                    self.counters.lease_waits += 1;
                    until.max(now + Duration::from_nanos(1))
                }
                Err(_) => now + leading.retry,
            };
        }
        if pardoned {
            self.withhold_leases();
        }
    }

    /// Somebody wants these shards.
    pub(super) fn wanted_elsewhere(&mut self, shards: &[ShardKey]) {
        if let Some(leading) = &mut self.leading {
            // What was wanted before is looked at when something has changed, however often it is said.
            for shard in shards {
                leading.looks |= leading.steward.want(&self.state, *shard);
            }
        }
    }
}
