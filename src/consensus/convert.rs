//! Between our own types and those of raft-rs. Protobuf is written and read here only, and only what this process wrote.

use protobuf::Message as _;
use raft::eraftpb::ConfChangeSingle;
use raft::prelude::{
    ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, Message as Raft, MessageType,
    Snapshot as RaftSnapshot,
};

use super::configuration::{Configuration, ConfigurationChange, ConfigurationRecord, PeerChange};
use super::entry::{EntryBody, LogEntry, ProposalRecord, SnapshotMeta};
use super::message::{RaftKind, RaftMessage};
use super::peer::PeerId;

/// What marks a vote that the leader has asked for, as raft-rs writes it.
const TRANSFER: &[u8] = b"CampaignTransfer";
const PROPOSAL_BYTES: usize = 32;

pub(super) fn proposal_to_bytes(proposal: &ProposalRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PROPOSAL_BYTES);
    bytes.extend_from_slice(&proposal.node.to_le_bytes());
    bytes.extend_from_slice(&proposal.incarnation.to_le_bytes());
    bytes.extend_from_slice(&proposal.only_term.to_le_bytes());
    bytes.extend_from_slice(&proposal.number.to_le_bytes());
    bytes.extend_from_slice(&proposal.floor.to_le_bytes());
    bytes
}

fn proposal_from_bytes(bytes: &[u8]) -> Option<ProposalRecord> {
    let bytes: &[u8; PROPOSAL_BYTES] = bytes.try_into().ok()?;
    let short = |at: usize| bytes[at..].first_chunk().map(|b| u32::from_le_bytes(*b));
    let long = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
    Some(ProposalRecord {
        node: short(0)?,
        incarnation: short(4)?,
        only_term: long(8)?,
        number: long(16)?,
        floor: long(24)?,
    })
}

/// What an entry of raft-rs says. One that this module has not made says nothing.
pub(super) fn body_of(entry: &Entry) -> EntryBody {
    match entry.get_entry_type() {
        EntryType::EntryNormal => match proposal_from_bytes(&entry.context) {
            Some(proposal) => EntryBody::Command(proposal, entry.data.to_vec()),
            None => EntryBody::Empty,
        },
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            let change = ConfChangeV2::parse_from_bytes(&entry.data).unwrap_or_default();
            EntryBody::Change(change_from_raft(&change))
        }
    }
}

pub(super) fn entry_from_raft(entry: &Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        body: body_of(entry),
    }
}

pub(super) fn entry_to_raft(entry: LogEntry) -> Entry {
    let mut raft = Entry {
        index: entry.index,
        term: entry.term,
        ..Entry::default()
    };
    match entry.body {
        EntryBody::Empty => {}
        EntryBody::Command(proposal, command) => {
            raft.context = proposal_to_bytes(&proposal).into();
            raft.data = command.into();
        }
        EntryBody::Change(change) => {
            raft.set_entry_type(EntryType::EntryConfChangeV2);
            // Written to memory, which does not fail.
            let bytes = change_to_raft(&change).write_to_bytes().unwrap_or_default();
            raft.data = bytes.into();
        }
    }
    raft
}

pub(super) fn change_to_raft(change: &ConfigurationChange) -> ConfChangeV2 {
    let mut raft = ConfChangeV2::default();
    for (change, peer) in &change.steps {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match change {
            PeerChange::Vote => ConfChangeType::AddNode,
            PeerChange::Learn => ConfChangeType::AddLearnerNode,
            PeerChange::Remove => ConfChangeType::RemoveNode,
        });
        single.set_node_id(*peer);
        raft.mut_changes().push(single);
    }
    raft
}

fn change_from_raft(raft: &ConfChangeV2) -> ConfigurationChange {
    let step = |single: &ConfChangeSingle| {
        let change = match single.get_change_type() {
            ConfChangeType::AddNode => PeerChange::Vote,
            ConfChangeType::AddLearnerNode => PeerChange::Learn,
            ConfChangeType::RemoveNode => PeerChange::Remove,
        };
        (change, single.get_node_id())
    };
    ConfigurationChange {
        steps: raft.get_changes().iter().map(step).collect(),
    }
}

pub(super) fn conf_state(record: &ConfigurationRecord) -> ConfState {
    let mut state = ConfState::default();
    state.set_voters(record.voters.clone());
    state.set_learners(record.learners.clone());
    state.set_voters_outgoing(record.outgoing.clone());
    state.set_learners_next(record.learners_next.clone());
    state.set_auto_leave(record.auto_leave);
    state
}

pub(super) fn configuration(state: &ConfState) -> Configuration {
    let peers = |numbers: &[u64]| {
        let peers = numbers
            .iter()
            .filter_map(|number| PeerId::from_number(*number));
        peers.collect()
    };
    Configuration {
        voters: peers(state.get_voters()),
        learners: peers(state.get_learners()),
        outgoing: peers(state.get_voters_outgoing()),
        learners_next: peers(state.get_learners_next()),
        auto_leave: state.get_auto_leave(),
    }
}

pub(super) fn snapshot_to_raft(meta: &SnapshotMeta) -> RaftSnapshot {
    let mut snapshot = RaftSnapshot::default();
    let raft = snapshot.mut_metadata();
    raft.index = meta.index;
    raft.term = meta.term;
    raft.set_conf_state(conf_state(&meta.configuration));
    snapshot
}

/// The message that travels for one of raft-rs; `None` for snapshots, which travel in pieces, and for what never leaves.
pub(super) fn message_from_raft(message: &Raft) -> Option<RaftMessage> {
    let kind = match message.get_msg_type() {
        MessageType::MsgAppend => RaftKind::Append,
        MessageType::MsgAppendResponse => RaftKind::AppendResponse,
        MessageType::MsgRequestVote => RaftKind::Vote,
        MessageType::MsgRequestVoteResponse => RaftKind::VoteResponse,
        MessageType::MsgRequestPreVote => RaftKind::PreVote,
        MessageType::MsgRequestPreVoteResponse => RaftKind::PreVoteResponse,
        MessageType::MsgHeartbeat => RaftKind::Heartbeat,
        MessageType::MsgHeartbeatResponse => RaftKind::HeartbeatResponse,
        MessageType::MsgTimeoutNow => RaftKind::TimeoutNow,
        _ => return None,
    };
    Some(RaftMessage {
        kind,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        transfer: message.context == TRANSFER,
        round: round_of(&message.context).unwrap_or(0),
        entries: message.get_entries().iter().map(entry_from_raft).collect(),
    })
}

/// A round of confirmation as raft-rs carries it.
pub(super) fn round_of(context: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(context.try_into().ok()?))
}

pub(super) fn message_to_raft(message: RaftMessage, from: PeerId, to: PeerId) -> Raft {
    let mut raft = Raft::default();
    raft.set_msg_type(match message.kind {
        RaftKind::Append => MessageType::MsgAppend,
        RaftKind::AppendResponse => MessageType::MsgAppendResponse,
        RaftKind::Vote => MessageType::MsgRequestVote,
        RaftKind::VoteResponse => MessageType::MsgRequestVoteResponse,
        RaftKind::PreVote => MessageType::MsgRequestPreVote,
        RaftKind::PreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        RaftKind::Heartbeat => MessageType::MsgHeartbeat,
        RaftKind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        RaftKind::TimeoutNow => MessageType::MsgTimeoutNow,
    });
    raft.from = from.number();
    raft.to = to.number();
    raft.term = message.term;
    raft.log_term = message.log_term;
    raft.index = message.index;
    raft.commit = message.commit;
    raft.commit_term = message.commit_term;
    raft.reject = message.reject;
    raft.reject_hint = message.reject_hint;
    if message.transfer {
        raft.context = TRANSFER.to_vec().into();
    } else if message.round > 0 {
        raft.context = message.round.to_le_bytes().to_vec().into();
    }
    let entries: Vec<Entry> = message.entries.into_iter().map(entry_to_raft).collect();
    raft.set_entries(entries.into());
    raft
}
