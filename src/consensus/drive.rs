//! How raft-rs is driven: messages in, and what it is ready with out, in the order that makes asynchronous writes safe.
//!
//! Per *ready*: messages that wait for nothing go out at once; committed entries are applied; new entries, the vote and
//! snapshots are remembered and handed to the durable log; `advance_append_async`. When the log reports the write durable,
//! `on_persist_ready`, and only then the messages that depend on it.

use std::sync::Arc;
use std::time::Duration;

use raft::prelude::{Entry, Message as Raft, MessageType};
use raft::{Error, Ready, SnapshotStatus, StateRole};

use super::configuration::Configuration;
use super::convert;
use super::entry::{
    EntryBody, HardState, LogWrite, ProposalRecord, Snapshot, SnapshotWrite, Ticket,
};
use super::lease::{Asked, Grantor};
use super::machine::Consensus;
use super::message::{
    AttemptRefused, Body, Chunk, ChunkReceived, LeaseGrant, LeaseRequest, Message, Proposed,
    RaftKind, RaftMessage, Refusal,
};
use super::mutant::Mutant;
use super::output::{
    Committed, Leadership, Outcome, Output, ProposalId, Rejection, RestoredState, StepError,
    StopCause,
};
use super::peer::{NodeLife, PeerId};
use super::plausible;
use super::sessions::Fate;
use super::transfer::{Ended, Took};
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
            Body::LeaseRequest(request) => self.lease_asked(from, request),
            Body::LeaseGrant(grant) => self.lease_granted(grant),
        }
        self.pump();
        Ok(())
    }

    fn step_raft(&mut self, from: PeerId, message: RaftMessage) -> Result<(), StepError> {
        plausible::check(&self.raft.raft, from, &message)?;
        if message.kind == RaftKind::TimeoutNow && self.is_restoring() {
            return Ok(());
        }
        let message = convert::message_to_raft(message, from, self.identity.peer);
        self.step_into_raft(from, message)
    }

    fn step_into_raft(&mut self, from: PeerId, message: Raft) -> Result<(), StepError> {
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
        if self.settings.mutant == Some(Mutant::SendBeforeDurable) {
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
        let fresh = self.sessions.apply(proposal, entry.index, is_member);
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
            && let Some((number, outcome)) = self.proposals.applied(id.number, entry.index)
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
        if was_in && !self.configuration.contains(me) {
            self.stop(StopCause::Removed, Rejection::NotMember);
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

    fn send_snapshot(&mut self, to: PeerId, message: &Raft) {
        let index = message.get_snapshot().get_metadata().index;
        let latest = self.raft.store().latest_snapshot().cloned();
        match latest.filter(|latest| latest.meta.index == index) {
            Some(snapshot) => {
                for chunk in self.outgoing.begin(to, snapshot, message.term, self.now) {
                    self.send(to, Body::Chunk(chunk));
                }
            }
            None => self
                .raft
                .report_snapshot(to.number(), SnapshotStatus::Failure),
        }
    }

    fn chunk_received(&mut self, from: PeerId, received: ChunkReceived) {
        let (chunks, ended) = self.outgoing.received(from, received, self.now);
        for chunk in chunks {
            self.send(from, Body::Chunk(chunk));
        }
        let status = match ended {
            None => return,
            Some(Ended::Finished) => SnapshotStatus::Finish,
            Some(Ended::Failed) => SnapshotStatus::Failure,
        };
        self.raft.report_snapshot(from.number(), status);
    }

    fn take_chunk(&mut self, from: PeerId, chunk: Chunk) -> Result<(), StepError> {
        let (term, index) = (chunk.term, chunk.meta.index);
        if term < self.raft.raft.term {
            return Ok(());
        }
        if term == self.raft.raft.term && self.led.is_self {
            return Err(StepError::TwoLeaders { peer: from, term });
        }
        let total = chunk.total;
        let (received, refused) = match self.incoming.take(from, chunk) {
            Took::Stale => return Ok(()),
            Took::Refused => (0, true),
            Took::Part(received) => (received, false),
            Took::Whole(snapshot) => {
                if let Err(why) = snapshot.open() {
                    return Err(StepError::Snapshot { peer: from, why });
                }
                let mut message = Raft::default();
                message.set_msg_type(MessageType::MsgSnapshot);
                message.from = from.number();
                message.to = self.identity.peer.number();
                message.term = term;
                message.set_snapshot(convert::snapshot_to_raft(&snapshot.meta));
                self.arrived = Some(Arc::new(snapshot));
                self.step_into_raft(from, message)?;
                (total, false)
            }
        };
        let answer = ChunkReceived {
            term,
            index,
            received,
            refused,
        };
        self.send(from, Body::ChunkReceived(answer));
        Ok(())
    }

    /// Sends what has been proposed here to whoever leads, or appends it.
    fn send_proposals(&mut self) {
        loop {
            let due = self.proposals.due(self.now, self.settings.append_bytes);
            let Some(leader) = self.led.leader.filter(|_| !due.is_empty()) else {
                return;
            };
            let proposed = due.into_iter().map(|attempt| Proposed {
                proposal: attempt.proposal,
                attempt: attempt.attempt,
                command: attempt.command,
            });
            if self.led.is_self {
                for proposed in proposed.collect::<Vec<_>>() {
                    let (number, attempt) = (proposed.proposal.number, proposed.attempt);
                    if let Err(why) = self.append(proposed) {
                        self.attempt_refused(number, attempt, why);
                    }
                }
            } else {
                self.send(leader, Body::Propose(proposed.collect()));
            }
        }
    }

    fn append_for(&mut self, from: PeerId, proposed: Proposed) {
        let ProposalRecord {
            number,
            incarnation,
            ..
        } = proposed.proposal;
        let attempt = proposed.attempt;
        if let Err(why) = self.append(proposed) {
            let refused = AttemptRefused {
                incarnation,
                number,
                attempt,
                why,
            };
            self.send(from, Body::Refused(refused));
        }
    }

    fn append(&mut self, proposed: Proposed) -> Result<(), Refusal> {
        let proposal = &proposed.proposal;
        let life = NodeLife {
            node: NodeId(proposal.node),
            incarnation: Incarnation(proposal.incarnation),
        };
        if self.raft.raft.state != StateRole::Leader {
            return Err(Refusal::NotLeader);
        }
        if proposed.command.len() > self.settings.max_command_bytes {
            return Err(Refusal::TooLarge);
        }
        if !self.member_nodes.contains(&life.node) {
            return Err(Refusal::NotMember);
        }
        let known = self
            .sessions
            .fate(life.node, life.incarnation, proposal.number);
        let copy = self.settings.mutant != Some(Mutant::ApplyTwice)
            && (known != Fate::Open || self.appended.contains(&(life, proposal.number)));
        if copy {
            return Ok(());
        }
        if self.raft.store().bytes() >= self.settings.max_log_bytes {
            return Err(Refusal::Full);
        }
        let context = convert::proposal_to_bytes(proposal);
        let number = proposal.number;
        match self.raft.propose(context, proposed.command) {
            Ok(()) => {
                self.appended.insert((life, number));
                Ok(())
            }
            Err(_) => Err(Refusal::Full),
        }
    }

    fn attempt_refused(&mut self, number: u64, attempt: u32, why: Refusal) {
        if let Some((number, outcome)) = self.proposals.refused(number, attempt, why) {
            self.tell_outcome(number, outcome);
        }
    }

    pub(super) fn tell_outcome(&mut self, number: u64, mut outcome: Outcome) {
        if self.settings.mutant == Some(Mutant::DenyUnknown) && outcome == Outcome::Unknown {
            outcome = Outcome::Rejected(Rejection::NoLeader);
        }
        if let Some(life) = self.downs.remove(&number)
            && let (Outcome::Rejected(_), Some(grantor)) = (outcome, &mut self.grantor)
        {
            grantor.pardon(life);
        }
        let id = ProposalId {
            proposer: self.identity.life,
            number,
        };
        self.outputs.push_back(Output::Outcome { id, outcome });
    }

    /// Asks for a lease, and has those of others confirmed.
    pub(super) fn renew_leases(&mut self) {
        let request = LeaseRequest {
            incarnation: self.identity.life.incarnation.0,
            asked_at: self.now.as_nanos(),
            length: nanos(self.settings.lease),
        };
        match self.led.leader {
            Some(_) if self.led.is_self => self.lease_asked(self.identity.peer, request),
            Some(leader) => self.send(leader, Body::LeaseRequest(request)),
            None => {}
        }
        let settled = self.settled;
        let round = self.grantor.as_mut().filter(|_| settled);
        if let Some(round) = round.and_then(Grantor::begin_round) {
            match self.settings.mutant {
                Some(Mutant::GrantUnconfirmed) => self.grant_leases(round),
                _ => self.raft.read_index(round.to_le_bytes().to_vec()),
            }
        }
    }

    fn lease_asked(&mut self, from: PeerId, request: LeaseRequest) {
        let life = NodeLife {
            node: from.node(),
            incarnation: Incarnation(request.incarnation),
        };
        let same = request.length == nanos(self.settings.lease);
        if !same {
            tracing::warn!(%life, "asks for a lease of another length: `lease` must be the same on every node");
        }
        let allowed = self
            .lease_holders
            .as_ref()
            .is_none_or(|lives| lives.contains(&life));
        // What was asked before everything of the predecessors was applied could be of a node that they declared down.
        if let Some(grantor) = self
            .grantor
            .as_mut()
            .filter(|_| self.settled && allowed && same)
        {
            grantor.ask(Asked {
                life,
                peer: from,
                asked_at: Time::from_nanos(request.asked_at),
            });
        }
    }

    fn grant_leases(&mut self, round: u64) {
        let granted = match &mut self.grantor {
            Some(grantor) => grantor.confirmed(round, self.now),
            None => return,
        };
        for asked in granted {
            let grant = LeaseGrant {
                incarnation: asked.life.incarnation.0,
                term: self.led.term,
                asked_at: asked.asked_at.as_nanos(),
                length: nanos(self.settings.lease),
            };
            match asked.peer == self.identity.peer {
                true => self.lease_granted(grant),
                false => self.send(asked.peer, Body::LeaseGrant(grant)),
            }
        }
    }

    fn lease_granted(&mut self, grant: LeaseGrant) {
        let asked_at = Time::from_nanos(grant.asked_at);
        let ours = grant.incarnation == self.identity.life.incarnation.0;
        if ours && asked_at <= self.now && grant.length == nanos(self.settings.lease) {
            self.holder.granted(asked_at, self.settings.lease);
        }
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
