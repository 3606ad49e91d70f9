//! What the log says, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use super::leading::Leading;
use super::machine::{ClusterNode, Leave};
use super::output::{Output, Refusal, ShardsChanged, StopCause, Write};
use crate::base::ids::NodeId;
use crate::base::time::Time;
use crate::cluster::command::{Command, CommandError};
use crate::cluster::message::ControlMessage;
use crate::cluster::state::{ClusterChange, ClusterState};
use crate::consensus::machine::Consensus;
use crate::consensus::message::Message;
use crate::consensus::output::{self, Committed, Leadership, RestoredState, StepError};
use crate::consensus::peer::{NodeLife, PeerId};
use crate::membership::event::{
    MemberDown, MemberEvent, MemberLeft, MemberUp, ReachableMember, UnreachableMember,
};
use crate::membership::view::{Member, MemberState, View};
use crate::sharding::ownership::{OwnershipChange, OwnershipTable};

impl ClusterNode {
    /// Takes a message of the log.
    pub(super) fn step(&mut self, from: NodeId, message: Message, now: Time) {
        self.leader_heard(from, now);
        let Some(consensus) = &mut self.consensus else {
            return; // It has no part in the log yet, and what is late is sent again.
        };
        match consensus.step(now, message) {
            // A former disk of this node is still being taken out.
            Ok(()) | Err(StepError::NotForMe { .. }) => {}
            Err(why) => self.refused(Some(from), why.into(), now),
        }
    }

    /// Does what the log wants; whether there was anything.
    pub(super) fn take_consensus(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.consensus.as_mut().and_then(Consensus::poll_output) {
            any = true;
            match output {
                output::Output::Send(message) => {
                    let to = message.to.node();
                    self.send(to, ControlMessage::Consensus(Box::new(message)));
                }
                output::Output::Write(write) => {
                    self.outputs.push_back(Output::Write(Write::Log(write)));
                }
                output::Output::Committed(committed) => self.apply(&committed, now),
                output::Output::Configured { .. } => self.changed = true,
                output::Output::Restore(restored) => self.restore(&restored),
                output::Output::TakeSnapshot { index } => {
                    let state = self.state.to_bytes();
                    let taken = self
                        .consensus
                        .as_mut()
                        .map(|c| c.snapshot_taken(now, index, &state));
                    if let Some(Err(why)) = taken {
                        self.refused(None, why.into(), now);
                    }
                }
                output::Output::Outcome { id, outcome } => {
                    let again = now + self.settings.consensus.heartbeat * 2;
                    self.pursuits.outcome(id.number, outcome, again);
                }
                output::Output::Led(led) => self.led_by(led, now),
                output::Output::Stopped(cause) => self.stop(match (cause, self.leave) {
                    (output::StopCause::WriteFailed, _) => StopCause::WriteFailed,
                    (output::StopCause::Removed, Leave::Left { .. }) => StopCause::Left,
                    (output::StopCause::Removed, _) => StopCause::Removed,
                }),
            }
        }
        any
    }

    fn led_by(&mut self, led: Leadership, now: Time) {
        let before = std::mem::replace(&mut self.led, led);
        self.leading = match (self.leading.take(), led.is_self) {
            (Some(leading), true) if before.term == led.term => Some(leading),
            (_, true) => Some(Leading::new(&self.settings, now)),
            (_, false) => None,
        };
        self.changed |= led.is_self != before.is_self;
        let leader = led.leader.map(|leader| leader.node());
        if leader != before.leader.map(|leader| leader.node()) {
            self.outputs.push_back(Output::Leader(leader));
            if let Some(observing) = &mut self.observing {
                observing.detector.leader_changed(leader, now);
            }
            self.wants_told = None;
            if leader.is_some() {
                self.ask_soon(now);
            }
        }
    }

    fn apply(&mut self, committed: &Committed, now: Time) {
        self.counters.applied += 1;
        let command = match Command::from_bytes(&committed.command) {
            Ok(command) => command,
            Err(error @ CommandError::Version(_)) => return self.stop(error.into()),
            // All nodes refuse it alike.
            Err(error) => {
                self.counters.void += 1;
                return self.refused(None, Refusal::Command(error), now);
            }
        };
        let types = self.state.ownership().types().count();
        let changes = match self.state.apply(committed.index, &command) {
            Ok(changes) => changes,
            Err(why) => {
                self.counters.void += 1;
                return self.void(&command, &why, now);
            }
        };
        self.changed = true;
        let mut shards = Vec::new();
        for change in changes {
            match change {
                ClusterChange::Member(event) => self.member_event(event, now),
                ClusterChange::Shard(change) => shards.push(change),
            }
        }
        self.tell_of_types(types);
        self.tell_of_shards(shards, false);
    }

    fn member_event(&mut self, event: MemberEvent, now: Time) {
        let Some(life) = self.life_now() else {
            return; // It is told of what there is when it has joined.
        };
        if let MemberEvent::Left(left) = &event
            && (left.member.node, left.member.incarnation) == (life.node, life.incarnation)
        {
            self.has_left(now);
        }
        self.outputs.push_back(Output::Member(event));
    }

    fn tell_of_types(&mut self, before: usize) {
        let types = self.state.ownership().types().count();
        if types != before && self.life.is_some() {
            self.outputs.push_back(Output::Types(types));
        }
    }

    fn tell_of_shards(&mut self, changes: Vec<OwnershipChange>, after_gap: bool) {
        if changes.is_empty() || self.life.is_none() {
            return;
        }
        self.outputs.push_back(Output::Shards(ShardsChanged {
            version: self.state.applied(),
            after_gap,
            changes,
        }));
    }

    /// The state goes on from that of another.
    fn restore(&mut self, restored: &RestoredState) {
        let me = self.settings.node;
        let state = match restored.state() {
            [] => ClusterState::new(me),
            bytes => match ClusterState::from_bytes(me, bytes) {
                Ok(state) => state,
                Err(error) => return self.stop(error.into()),
            },
        };
        self.counters.restored += 1;
        let before = std::mem::replace(&mut self.state, state);
        self.changed = true;
        if self.life.is_some() {
            self.tell_between(&before);
        }
    }

    /// Tells of everything that there is.
    pub(super) fn tell_all(&mut self) {
        let before = ClusterState::new(self.settings.node);
        self.tell_between(&before);
    }

    /// Tells of what has happened since, as one step for each member and shard.
    fn tell_between(&mut self, before: &ClusterState) {
        for event in events_between(before.members(), self.state.members()) {
            self.outputs.push_back(Output::Member(event));
        }
        self.tell_of_types(before.ownership().types().count());
        let changes = changes_between(before.ownership(), self.state.ownership());
        self.tell_of_shards(changes, true);
    }

    /// Everybody who depends on the state hears of it.
    pub(super) fn follow_state(&mut self, now: Time) {
        self.find_life();
        self.follow_partings();
        let lives = self.lives_with_leases();
        let peers = self.wanted_peers();
        if let Some(consensus) = &mut self.consensus {
            consensus.want_peers(peers);
            consensus.allow_leases(lives);
        }
        if let Some(observing) = &mut self.observing {
            observing.swim.adopt(self.state.members(), now);
            observing.detector.adopt(self.state.members(), now);
        }
    }

    /// Who should be a peer of the log, and whether it answers: those that the state names, and who has to stay for now.
    fn wanted_peers(&self) -> BTreeMap<PeerId, bool> {
        let mut wanted = self.state.peers();
        if self.led.is_self {
            // A leader does not take itself out: it would be gone before anybody else knows that it is out, and the last
            // voter would wait for its vote for ever. It hands over, and its successor takes it out.
            wanted.extend(self.peer().map(|me| (me, true)));
        }
        let Some(consensus) = &self.consensus else {
            return wanted;
        };
        let voters = &consensus.configuration().voters;
        let stay: Vec<bool> = voters
            .iter()
            .filter_map(|v| wanted.get(v).copied())
            .collect();
        let well = stay.iter().filter(|answers| **answers).count();
        if well * 2 <= stay.len() {
            // Without those who have left too few would answer to decide anything. They stay until more do.
            let has_left = |peer: &&PeerId| self.state.members().member(peer.node()).is_none();
            let left: Vec<PeerId> = voters.iter().filter(has_left).copied().collect();
            for peer in left {
                wanted.entry(peer).or_insert(true);
            }
        }
        wanted
    }

    /// The lives that get leases from this node, if it leads: all live ones but those that are to be declared down.
    pub(super) fn lives_with_leases(&self) -> BTreeSet<NodeLife> {
        let mut lives = self.state.lives();
        if let Some(leading) = &self.leading {
            lives.retain(|life| !leading.is_accused(life));
        }
        lives
    }
}

/// What has happened to members between two views, the later of which has applied more.
fn events_between(before: &View, now: &View) -> Vec<MemberEvent> {
    let mut events = Vec::new();
    let is_known = |view: &View, member: &Member| {
        let known = view.member(member.node);
        known.is_some_and(|known| known.incarnation == member.incarnation)
    };
    for member in before.members().filter(|member| member.is_live()) {
        if !is_known(now, member) {
            // Whether it was declared down before it was forgotten is not known any more: it is gone for good.
            let mut member = member.clone();
            member.state = MemberState::Removed;
            events.push(MemberEvent::Left(MemberLeft { member }));
        }
    }
    for member in now.members() {
        let old = before.member(member.node).filter(|old| is_known(now, old));
        let was = old.map(|old| (old.state, old.is_reachable()));
        let (state, reachable) = was.unwrap_or((MemberState::Joining, true));
        let member = member.clone();
        let is_up = member.state == MemberState::Up || member.state == MemberState::Leaving;
        if is_up && state == MemberState::Joining {
            let member = member.clone();
            events.push(MemberEvent::Up(MemberUp { member }));
        }
        if member.state == MemberState::Down {
            if state != MemberState::Down && was.is_some() {
                events.push(MemberEvent::Down(MemberDown { member }));
            }
        } else if reachable && !member.is_reachable() {
            events.push(MemberEvent::Unreachable(UnreachableMember { member }));
        } else if !reachable && member.is_reachable() {
            events.push(MemberEvent::Reachable(ReachableMember { member }));
        }
    }
    events
}

fn changes_between(before: &OwnershipTable, now: &OwnershipTable) -> Vec<OwnershipChange> {
    let changes = now.iter().filter_map(|(shard, now)| {
        let before = before.shard(shard).copied().unwrap_or_default();
        (before != *now).then_some(OwnershipChange {
            shard,
            before,
            now: *now,
        })
    });
    changes.collect()
}
