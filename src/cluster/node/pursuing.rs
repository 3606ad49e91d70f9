//! What a node wants of the log for itself: it proposes, and proposes again, until the log says it.

use std::collections::BTreeMap;

use super::machine::{ClusterNode, Leave};
use super::output::StopCause;
use crate::base::ids::ShardKey;
use crate::base::time::Time;
use crate::cluster::command::Command;
use crate::cluster::message::{ControlMessage, MAX_WANTED_PER_MESSAGE};
use crate::consensus::output::Outcome;
use crate::consensus::peer::NodeLife;
use crate::membership::change::Change;
use crate::membership::view::MemberState;
use crate::sharding::ownership::OwnershipCommand;

/// How often a leader that leaves tries to hand over before it leaves as it is.
const MAX_HAND_OVERS: u32 = 4;

/// What a proposal is about. There is one at a time about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Matter {
    Up,
    Leave,
    Left,
    Word { life: NodeLife, reaches: bool },
    Move(ShardKey),
}

/// How a move to this node, or from it, has ended for its data cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    prepared: u64,
    arrived: bool,
}

/// The proposals of this node for itself. As many as there are matters: moves here, and words about those it observes.
#[derive(Default)]
pub(super) struct Pursuits {
    /// The proposal without an outcome, or when to propose again.
    open: BTreeMap<Matter, Result<u64, Time>>,
    by_number: BTreeMap<u64, Matter>,
}

impl Pursuits {
    /// A proposal has its outcome.
    pub(super) fn outcome(&mut self, number: u64, outcome: Outcome, again: Time) {
        let Some(matter) = self.by_number.remove(&number) else {
            return;
        };
        match outcome {
            Outcome::Committed { .. } => _ = self.open.remove(&matter),
            Outcome::Rejected(_) | Outcome::Unknown => _ = self.open.insert(matter, Err(again)),
        }
    }
}

impl ClusterNode {
    pub(super) fn pursuits_deadline(&self) -> Time {
        let again = self.pursuits.open.values().filter_map(|open| open.err());
        let leave = match self.leave {
            Leave::Asked { next, .. } if self.led.is_self => next,
            Leave::Left { ask } => ask,
            _ => Time::MAX,
        };
        let wanted = match self.wants_told {
            Some(told) if !self.wanted.is_empty() => told + self.settings.ask_every,
            _ => Time::MAX,
        };
        again.min().unwrap_or(Time::MAX).min(leave).min(wanted)
    }

    /// Proposes something, unless that is being done.
    pub(super) fn pursue(&mut self, matter: Matter, command: &Command, now: Time) {
        let Some(consensus) = self.consensus.as_mut().filter(|_| self.life.is_some()) else {
            return;
        };
        match self.pursuits.open.get(&matter) {
            Some(Ok(_)) => return,
            Some(Err(again)) if now < *again => return,
            _ => {}
        }
        let proposed = match consensus.propose(now, command.to_bytes()) {
            Ok(id) => {
                self.pursuits.by_number.insert(id.number, matter);
                Ok(id.number)
            }
            Err(_) => Err(now + self.settings.consensus.election_max),
        };
        self.pursuits.open.insert(matter, proposed);
    }

    /// Proposes what this node wants as the state is now.
    pub(super) fn pursue_all(&mut self, now: Time) {
        let lapsed = |open: &Result<u64, Time>| open.is_err_and(|again| again <= now);
        let wishes = self.wishes(now);
        if let Leave::Asked { next, .. } = &mut self.leave
            && *next <= now
        {
            // There was nobody to hand over to, or nothing to hand over.
            *next = now + self.settings.consensus.election_max;
        }
        self.pursuits.open.retain(|_, open| !lapsed(open));
        for (matter, command) in wishes {
            self.pursue(matter, &command, now);
        }
    }

    fn wishes(&mut self, now: Time) -> Vec<(Matter, Command)> {
        let mut wishes = Vec::new();
        let Some(NodeLife { node, incarnation }) = self.life_now().filter(|_| !self.stopped) else {
            return wishes;
        };
        let state = self.state.members().self_node().map(|me| me.state);
        let leaves = self.leave != Leave::No;
        match state {
            Some(MemberState::Joining) if !leaves => {
                let up = Command::Member(Change::Up { node, incarnation });
                wishes.push((Matter::Up, up));
            }
            Some(MemberState::Joining | MemberState::Up) if leaves && self.has_handed_over(now) => {
                let leave = Command::Member(Change::Leave { node, incarnation });
                wishes.push((Matter::Leave, leave));
            }
            Some(MemberState::Leaving) if self.all_have_parted() => {
                let left = Command::Member(Change::Left { node, incarnation });
                wishes.push((Matter::Left, left));
            }
            _ => {}
        }
        let ownership = self.state.ownership();
        self.arrived.retain(|shard, arrival| {
            let record = ownership.shard(*shard);
            record.is_some_and(|record| {
                record.moving_to.is_some() && record.since == arrival.prepared
            })
        });
        for (&shard, &Arrival { prepared, arrived }) in &self.arrived {
            let command = match arrived {
                true => OwnershipCommand::Own { shard, prepared },
                false => OwnershipCommand::Abort { shard, prepared },
            };
            wishes.push((Matter::Move(shard), Command::Ownership(command)));
        }
        wishes
    }

    /// Has another voter lead, if this node does and there is one. Whether that is over.
    fn has_handed_over(&mut self, now: Time) -> bool {
        let Leave::Asked { hand_overs, next } = self.leave else {
            return true;
        };
        if !self.led.is_self || hand_overs >= MAX_HAND_OVERS {
            return true;
        }
        if now < next {
            return false;
        }
        self.leave = Leave::Asked {
            hand_overs: hand_overs + 1,
            next: now + self.settings.consensus.election_max,
        };
        !self.hand_over(now)
    }

    /// Asks another voter to lead, if there is one that is well.
    fn hand_over(&mut self, now: Time) -> bool {
        let Some(consensus) = &mut self.consensus else {
            return false;
        };
        let (me, members) = (self.settings.node, self.state.members());
        let is_well = |node| {
            let member = members.member(node);
            member.is_some_and(|m| m.state == MemberState::Up && m.is_reachable())
        };
        let mut voters = consensus.configuration().voters.iter();
        let other = voters.find(|peer| peer.node() != me && is_well(peer.node()));
        let Some(other) = other.copied() else {
            return false;
        };
        consensus.hand_leadership_to(now, other);
        true
    }

    /// The data cores say how a move has ended for them.
    pub(super) fn move_ended(&mut self, shard: ShardKey, prepared: u64, arrived: bool) {
        let me = self.settings.node;
        let fits = self.state.ownership().shard(shard).is_some_and(|record| {
            let concerns_me = record.moving_to == Some(me) || !arrived && record.owner == Some(me);
            record.moving_to.is_some() && record.since == prepared && concerns_me
        });
        if fits && !self.stopped {
            self.arrived.insert(shard, Arrival { prepared, arrived });
        }
    }

    /// Tells the leader which shards are wanted here.
    pub(super) fn report_wanted(&mut self, now: Time) {
        let is_due = |told: Time| now >= told + self.settings.ask_every;
        if self.wanted.is_empty() || self.stopped || !self.wants_told.is_none_or(is_due) {
            return;
        }
        let ownership = self.state.ownership();
        let is_unowned =
            |shard: &ShardKey| ownership.shard(*shard).is_some_and(|r| r.owner.is_none());
        self.wanted.retain(is_unowned);
        self.wants_told = Some(now);
        if self.led.is_self {
            let shards: Vec<ShardKey> = self.wanted.iter().copied().collect();
            return self.wanted_elsewhere(&shards);
        }
        let (Some(by), Some(leader)) = (self.life, self.led.leader) else {
            return;
        };
        let shards: Vec<ShardKey> = self.wanted.iter().copied().collect();
        for shards in shards.chunks(MAX_WANTED_PER_MESSAGE) {
            let shards = shards.to_vec();
            self.send(leader.node(), ControlMessage::Want { by, shards });
        }
    }

    /// The log says that this node has left.
    pub(super) fn has_left(&mut self, now: Time) {
        if let Some(observing) = &mut self.observing {
            observing.swim.leave(now);
        }
        self.leave = Leave::Left { ask: now };
    }

    /// Ends, once this node has left and the log does without it.
    pub(super) fn end_if_left(&mut self, now: Time) {
        let Leave::Left { ask } = self.leave else {
            return;
        };
        let (Some(consensus), Some(me), Some(by)) = (&self.consensus, self.peer(), self.life)
        else {
            return self.stop(StopCause::Left);
        };
        let configuration = consensus.configuration();
        let peers = configuration.peers();
        if !configuration.contains(me) || peers.len() == 1 {
            return self.stop(StopCause::Left);
        }
        if now >= ask {
            // Who has been taken out is sent nothing any more. To whoever speaks in a life that is over it is said, though.
            self.leave = Leave::Left {
                ask: now + self.settings.ask_every,
            };
            if self.led.is_self {
                self.hand_over(now);
            }
            for peer in peers.into_iter().filter(|peer| *peer != me) {
                let shards = Vec::new();
                self.send(peer.node(), ControlMessage::Want { by, shards });
            }
        }
    }
}
