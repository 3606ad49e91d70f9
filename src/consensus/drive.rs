//! How raft-rs is driven: messages in, and what it is ready with out, in the order that makes asynchronous writes safe.
//!
//! Per *ready*: messages that wait for nothing go out at once; committed entries are applied; new entries, the vote and
//! snapshots are remembered and handed to the durable log; `advance_append_async`. When the log reports the write durable,
//! `on_persist_ready`, and only then the messages that depend on it.

use std::sync::Arc;

use raft::prelude::{Entry, Message as Raft, MessageType};
use raft::{Error, Ready, StateRole};

use super::configuration::Configuration;
use super::convert;
use super::entry::{
    EntryBody, HardState, LogWrite, ProposalRecord, Snapshot, SnapshotWrite, Ticket,
};
use super::lease::Grantor;
use super::machine::Consensus;
use super::message::{Body, Message, RaftKind, RaftMessage};
use super::mutant::Mutant;
use super::output::{
    Committed, Leadership, Output, ProposalId, Rejection, RestoredState, StepError, StopCause,
};
use super::peer::{NodeLife, PeerId};
use super::plausible;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;

/// What waits for a write.
pub(super) struct Unwritten {
    ticket: Ticket,
    /// The ready of raft-rs that is durable then.
    number: Option<u64>,
    messages: Vec<Raft>,
    /// A snapshot that is durable then, and whether it came from the leader.
    snapshot: Option<SnapshotWrite>,
}

impl Consensus {
    /// Takes a message of another peer. The transport must have made sure that it comes from `message.from`.
    ///
    /// # Errors
    ///
    /// [`StepError`] if it is refused; nothing has changed then.
    pub fn step(&mut self, now: Time, message: Message) -> Result<(), StepError> {
        self.now = self.now.max(now);
        let Message {
            cluster,
            from,
            to,
            body,
        } = message;
        let (ours, me) = (self.identity.cluster, self.identity.peer);
        if cluster != ours {
            return Err(StepError::OtherCluster {
                peer: from,
                theirs: cluster,
                ours,
            });
        }
        if to != me {
            return Err(StepError::NotForMe { to, me });
        }
        if self.stopped.is_some() {
            return Ok(());
        }
        let term = self.raft.raft.term;
        self.jumps.check(from, term, body.term(), self.now)?;
        if self.configuration.contains(from) {
            self.heard.insert(from, self.now);
        }
        match body {
            Body::Raft(message) => self.step_raft(from, message)?,
            Body::Propose(proposals) => {
                for proposed in proposals {
                    self.append_for(from, proposed);
                }
            }
            Body::Refused(refused) => {
                if refused.incarnation == self.identity.life.incarnation.0 {
                    self.attempt_refused(refused.number, refused.attempt, refused.why);
                }
            }
            Body::Chunk(chunk) => self.take_chunk(from, chunk)?,
            Body::ChunkReceived(received) => self.chunk_received(from, received),
            Body::LeaseRequest(request) => self.lease_asked(from, request)?,
            Body::LeaseGrant(grant) => self.lease_granted_by(from, grant)?,
        }
        self.jumps.note(term, self.raft.raft.term, self.now);
        self.pump();
        Ok(())
    }

    fn step_raft(&mut self, from: PeerId, message: RaftMessage) -> Result<(), StepError> {
        plausible::check(&self.raft.raft, from, &message)?;
        // It campaigns in time without that, too.
        if message.kind == RaftKind::TimeoutNow && !self.may_campaign() {
            return Ok(());
        }
        let message = convert::message_to_raft(message, from, self.identity.peer);
        self.step_into_raft(from, message)
    }

    pub(super) fn step_into_raft(&mut self, from: PeerId, message: Raft) -> Result<(), StepError> {
        let stepped = self.raft.step(message);
        self.draw_timeout();
        match stepped {
            // Answers of a peer that has just left are of no interest.
            Ok(()) | Err(Error::StepPeerNotFound) => Ok(()),
            Err(_) => Err(StepError::Raft(from)),
        }
    }

    /// Does all that raft-rs is ready with.
    pub(super) fn pump(&mut self) {
        while self.stopped.is_none() {
            if self.is_removed {
                self.stop(StopCause::Removed, Rejection::NotMember);
                break;
            }
            self.lead_or_follow();
            self.send_proposals();
            if !self.raft.has_ready() {
                break;
            }
            let ready = self.raft.ready();
            self.handle(ready);
        }
        self.arrived = None;
        let wants_newer = self.raft.store().take_wants_newer();
        if wants_newer && self.stopped.is_none() {
            self.take_snapshot();
        }
        if self.led.is_self && !self.settled {
            self.settled = self.applied.1 == self.led.term;
        }
    }

    fn handle(&mut self, mut ready: Ready) {
        for message in ready.take_messages() {
            self.send_raft(message);
        }
        for state in ready.take_read_states() {
            if let Some(round) = convert::round_of(&state.request_ctx) {
                self.grant_leases(round);
            }
        }
        for entry in ready.take_committed_entries() {
            self.apply(&entry);
        }
        let snapshot = (!ready.snapshot().is_empty())
            .then(|| self.arrived.take())
            .flatten();
        let hard_state = ready.hs().map(|state| HardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        });
        let view = self.raft.mut_store();
        if let Some(snapshot) = &snapshot {
            view.replace(snapshot.meta.index, snapshot.meta.term);
        }
        if let Some(state) = hard_state {
            view.set_hard_state(state);
        }
        let entries = ready.take_entries();
        let written = entries.iter().map(convert::entry_from_raft).collect();
        let truncate_from = view.append(entries);
        let (number, must_sync) = (ready.number(), ready.must_sync());
        let mut messages = ready.take_persisted_messages();
        self.raft.advance_append_async(ready);
        self.raft.advance_apply_to(self.applied.0);

        let snapshot = snapshot.map(|snapshot| SnapshotWrite {
            snapshot,
            replaces_log: true,
        });
        let ticket = must_sync.then(|| self.next_ticket());
        let mut write = LogWrite {
            ticket,
            hard_state,
            snapshot: snapshot.clone(),
            truncate_from,
            entries: written,
            drop_before: None,
        };
        if self.settings.mutant == Some(Mutant::ForgetVote)
            && let Some(state) = &mut write.hard_state
        {
            state.vote = 0;
        }
        let answers = self.raft.raft.state == StateRole::Follower;
        if self.settings.mutant == Some(Mutant::SendBeforeDurable) && answers {
            for message in std::mem::take(&mut messages) {
                self.send_raft(message);
            }
        }
        if ticket.is_some() || write.hard_state.is_some() {
            self.outputs.push_back(Output::Write(write));
        }
        // What needs no write of its own waits for those before it.
        let waits_for = ticket.or_else(|| self.unwritten.back().map(|before| before.ticket));
        let unwritten = Unwritten {
            ticket: waits_for.unwrap_or(Ticket(0)),
            number: Some(number),
            messages,
            snapshot,
        };
        if waits_for.is_some() {
            self.unwritten.push_back(unwritten);
        } else {
            self.durable(unwritten);
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    pub(super) fn write_own_snapshot(&mut self, snapshot: SnapshotWrite) {
        let ticket = self.next_ticket();
        self.outputs.push_back(Output::Write(LogWrite {
            ticket: Some(ticket),
            hard_state: None,
            snapshot: Some(snapshot.clone()),
            truncate_from: None,
            entries: Vec::new(),
            drop_before: None,
        }));
        self.unwritten.push_back(Unwritten {
            ticket,
            number: None,
            messages: Vec::new(),
            snapshot: Some(snapshot),
        });
    }

    /// Whether a snapshot of the leader is being written. Until it is durable, raft-rs has applied less than its log
    /// begins with, and must not be made to look at what lies between, as a candidate does.
    pub(super) fn is_restoring(&self) -> bool {
        let snapshots = self
            .unwritten
            .iter()
            .filter_map(|unwritten| unwritten.snapshot.as_ref());
        snapshots.into_iter().any(|write| write.replaces_log)
    }

    /// Whether raft-rs may be made to campaign.
    pub(super) fn may_campaign(&self) -> bool {
        // A voter that is alone wins at once, with what is durable only.
        let Configuration {
            voters, outgoing, ..
        } = &self.configuration;
        let others = voters
            .iter()
            .chain(outgoing)
            .any(|peer| *peer != self.identity.peer);
        let alone = !voters.is_empty() && !others;
        !self.is_restoring() && (!alone || self.unwritten.is_empty())
    }

    /// Everything up to this ticket is durable.
    pub(super) fn release(&mut self, ticket: Ticket) {
        while self.stopped.is_none()
            && let Some(first) = self.unwritten.pop_front_if(|first| first.ticket <= ticket)
        {
            self.durable(first);
        }
    }

    fn durable(&mut self, unwritten: Unwritten) {
        if let Some(number) = unwritten.number {
            self.raft.on_persist_ready(number);
        }
        if let Some(write) = unwritten.snapshot {
            match write.replaces_log {
                true => self.restore(write.snapshot),
                false => self.compact(write.snapshot),
            }
        }
        for message in unwritten.messages {
            self.send_raft(message);
        }
    }

    /// A snapshot of the leader is durable: the state goes on from there.
    fn restore(&mut self, snapshot: Arc<Snapshot>) {
        // It was opened when it came.
        let Ok(open) = snapshot.open() else {
            return;
        };
        self.applied = (snapshot.meta.index, snapshot.meta.term);
        self.raft.advance_apply_to(self.applied.0);
        self.forget_taking_before(snapshot.meta.index);
        self.since_snapshot = (0, 0);
        self.sessions = open.sessions;
        self.outputs.push_back(Output::Restore(RestoredState {
            index: snapshot.meta.index,
            term: snapshot.meta.term,
            snapshot: Arc::clone(&snapshot),
            state_at: open.state_at,
        }));
        self.configure(snapshot.meta.index, open.configuration);
        for (number, outcome) in self.proposals.restored(&self.sessions) {
            self.tell_outcome(number, outcome);
        }
        self.raft.mut_store().set_snapshot(snapshot);
    }

    /// A snapshot of our own is durable: what it tells of need not be kept.
    fn compact(&mut self, snapshot: Arc<Snapshot>) {
        let latest = self.raft.store().latest_snapshot();
        if latest.is_some_and(|latest| latest.meta.index >= snapshot.meta.index) {
            return;
        }
        let index = (snapshot.meta.index + 1).saturating_sub(self.settings.keep_entries);
        let view = self.raft.mut_store();
        view.set_snapshot(snapshot);
        if view.compact(index) {
            self.outputs.push_back(Output::Write(LogWrite {
                ticket: None,
                hard_state: None,
                snapshot: None,
                truncate_from: None,
                entries: Vec::new(),
                drop_before: Some(index),
            }));
        }
    }

    fn apply(&mut self, entry: &Entry) {
        self.applied = (entry.index, entry.term);
        self.since_snapshot.0 += 1;
        self.since_snapshot.1 += entry.data.len() as u64;
        match convert::body_of(entry) {
            EntryBody::Empty => {}
            EntryBody::Command(proposal, command) => {
                self.apply_command(entry, &proposal, command);
            }
            EntryBody::Change(change) => {
                let change = convert::change_to_raft(&change);
                // One that makes no sense changes nothing, on any node.
                if let Ok(state) = self.raft.apply_conf_change(&change) {
                    self.configure(entry.index, convert::configuration(&state));
                }
            }
        }
        let (entries, bytes) = self.since_snapshot;
        if entries >= self.settings.snapshot_entries || bytes >= self.settings.snapshot_bytes {
            self.take_snapshot();
        }
    }

    fn apply_command(&mut self, entry: &Entry, proposal: &ProposalRecord, command: Vec<u8>) {
        let id = ProposalId {
            proposer: NodeLife {
                node: NodeId(proposal.node),
                incarnation: Incarnation(proposal.incarnation),
            },
            number: proposal.number,
        };
        self.appended.remove(&(id.proposer, id.number));
        if proposal.only_term != 0 && proposal.only_term != entry.term {
            return;
        }
        let members = &self.member_nodes;
        let is_member = |node: NodeId| members.contains(&node);
        // What counts in one term is appended once, by its leader, and sent to nobody: it needs no session, and works for
        // a leader that is in no life yet.
        let fresh = match proposal.only_term {
            0 => self.sessions.apply(proposal, entry.index, is_member),
            _ => is_member(id.proposer.node),
        };
        if !fresh && self.settings.mutant != Some(Mutant::ApplyTwice) {
            return;
        }
        self.outputs.push_back(Output::Committed(Committed {
            index: entry.index,
            term: entry.term,
            id,
            command,
        }));
        if id.proposer == self.identity.life
            && let Some((number, outcome)) =
                self.proposals
                    .applied(id.number, proposal.only_term, entry.index)
        {
            self.tell_outcome(number, outcome);
        }
    }

    fn configure(&mut self, index: u64, configuration: Configuration) {
        let me = self.identity.peer;
        let was_in = self.configuration.contains(me);
        self.member_nodes = configuration
            .peers()
            .iter()
            .map(|peer| peer.node())
            .collect();
        self.heard.retain(|peer, _| configuration.contains(*peer));
        self.configuration = configuration.clone();
        self.outputs.push_back(Output::Configured {
            index,
            configuration,
        });
        // A node without a life reads what happened to its peer before; whether that is let in again comes later.
        let lives = self.identity.life.incarnation != Incarnation(0);
        if lives && was_in && !self.configuration.contains(me) {
            self.is_removed = true; // What is being handled is brought to its end.
            return;
        }
        let votes =
            self.configuration.voters.contains(&me) || self.configuration.outgoing.contains(&me);
        if !votes && self.raft.raft.state == StateRole::Leader {
            // Who has no vote does not lead.
            let term = self.raft.raft.term;
            self.raft.raft.become_follower(term, 0);
            self.draw_timeout();
        }
    }

    /// Notes who leads, and becomes or ceases to be a leader.
    fn lead_or_follow(&mut self) {
        let raft = &self.raft.raft;
        let is_self = raft.state == StateRole::Leader;
        let led = Leadership {
            term: raft.term,
            leader: PeerId::from_number(raft.leader_id),
            is_self,
        };
        if led == self.led {
            return;
        }
        let begins = is_self && (!self.led.is_self || self.led.term != led.term);
        if let Some(grantor) = self.grantor.take_if(|_| begins || !is_self) {
            self.next_round = grantor.next_round();
        }
        if begins {
            self.grantor = Some(Grantor::new(self.settings.lease, self.now, self.next_round));
        }
        if begins || !is_self {
            self.appended.clear();
            self.downs.clear();
            self.settled = false;
        }
        self.incoming.forget_before(led.term);
        self.led = led;
        let leader = led.leader.map(|leader| (led.term, leader));
        self.proposals.led_by(leader, self.now);
        self.outputs.push_back(Output::Led(led));
    }

    fn send_raft(&mut self, message: Raft) {
        let Some(to) = PeerId::from_number(message.to) else {
            return;
        };
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return self.send_snapshot(to, &message);
        }
        if let Some(message) = convert::message_from_raft(&message) {
            self.send(to, Body::Raft(message));
        }
    }
}
