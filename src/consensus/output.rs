//! What a [`Consensus`](super::machine::Consensus) wants done, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::configuration::Configuration;
use super::entry::{LogWrite, RecoveryError, Snapshot, SnapshotError};
use super::message::Message;
use super::peer::{ClusterId, NodeLife, PeerId};
use super::settings::SettingsError;
use crate::base::time::Time;

/// One thing to do. Do them in the order in which they come; nothing has to be waited for, except where it is said.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message, to another node. It may get lost; what is late is sent again.
    Send(Message),
    /// Write to the durable log, in this order, and say so with [`written`](super::machine::Consensus::written).
    Write(LogWrite),
    /// Apply a command. Each is applied once, in the same order everywhere.
    Committed(Committed),
    /// The peers of the cluster are these from this index on.
    Configured {
        /// The index.
        index: u64,
        /// The peers.
        configuration: Configuration,
    },
    /// Replace the state by that of a snapshot; commands after its index follow. One of no bytes is a state without any
    /// command.
    Restore(RestoredState),
    /// Take the state as it is after all commands that have come out, and hand it to
    /// [`snapshot_taken`](super::machine::Consensus::snapshot_taken). It may take its time. Until then the log grows, and
    /// at `max_log_bytes` a leader refuses further commands.
    TakeSnapshot {
        /// The index to hand in with the state.
        index: u64,
    },
    /// What became of a proposal of this node; exactly one for each.
    Outcome {
        /// The proposal.
        id: ProposalId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Who leads has changed, or the term.
    Led(Leadership),
    /// Nothing more comes out. Proposals without an outcome are unknown.
    Stopped(StopCause),
}

/// A command that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// The term in which it was appended.
    pub term: u64,
    /// Who proposed it.
    pub id: ProposalId,
    /// The command.
    pub command: Vec<u8>,
}

/// A state to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredState {
    /// The last entry that is in it.
    pub index: u64,
    /// Its term.
    pub term: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) state_at: usize,
}

impl RestoredState {
    /// The application's bytes.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.snapshot.data[self.state_at..]
    }
}

/// The name of a proposal: never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId {
    /// Who proposed.
    pub proposer: NodeLife,
    /// Its number, from 1.
    pub number: u64,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log at this index, and was or will be applied on every node.
    Committed {
        /// The index.
        index: u64,
    },
    /// It is not in the log and never will be.
    Rejected(Rejection),
    /// It may be in the log or not, and may still be applied. If a later proposal of this node is applied that was made
    /// after this outcome, it was before that one or never will be.
    Unknown,
}

/// Why a proposal is certainly not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Too few voters answer for anybody to lead.
    NoQuorum,
    /// Nobody led for as long as it might wait.
    NoLeader,
    /// The leader's log is as long as it may be.
    Full,
    /// The command is longer than the leader takes.
    TooLarge,
    /// This node is not in the configuration.
    NotMember,
}

/// A proposal that was not taken. Nothing has changed, and no outcome will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// As many as may have no outcome yet.
    #[error("{0} proposals wait for their outcome already; wait for some")]
    Full(usize),
    /// The command is too long.
    #[error("the command has {bytes} bytes; at most {max} are taken (`max_command_bytes`)")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// The log does not run any more.
    #[error("consensus has stopped")]
    Stopped,
    /// Only the leader may propose it.
    #[error("this node does not lead")]
    NotLeader,
    /// The leader's log is as long as it may be.
    #[error("the log is as long as it may be (`max_log_bytes`)")]
    LogFull,
    /// The node may still hold a lease.
    #[error("the node may hold a lease until {until}")]
    LeaseStands {
        /// When to try again.
        until: Time,
    },
}

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader, if it is known.
    pub leader: Option<PeerId>,
    /// Whether it is this node.
    pub is_self: bool,
}

/// Why consensus has ended on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// A write failed. What the disk holds is not known: end the process, and start it again when the disk is fine.
    WriteFailed,
    /// This peer was removed from the cluster.
    Removed,
}

/// A message that was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StepError {
    /// It belongs to another cluster.
    #[error("{peer} belongs to cluster {theirs}, this node to {ours}")]
    OtherCluster {
        /// Who sent it.
        peer: PeerId,
        /// The cluster of the sender.
        theirs: ClusterId,
        /// The cluster of this node.
        ours: ClusterId,
    },
    /// It is for another peer: this node has another disk than the sender believes.
    #[error("a message for {to} came to {me}")]
    NotForMe {
        /// The receiver.
        to: PeerId,
        /// This peer.
        me: PeerId,
    },
    /// The leader knows of entries here that are not here.
    #[error(
        "{peer} says that entries up to {commit} are here, but the log ends at {last}: this disk has lost what it had \
         acknowledged; replace it"
    )]
    LogLost {
        /// The leader.
        peer: PeerId,
        /// What it believes is here.
        commit: u64,
        /// What is here.
        last: u64,
    },
    /// The leader wants to change what is committed.
    #[error(
        "{peer} would rewrite entry {index}, and all up to {committed} are committed: one of both disks has lost votes"
    )]
    RewritesCommitted {
        /// The leader.
        peer: PeerId,
        /// The entry.
        index: u64,
        /// How much is committed here.
        committed: u64,
    },
    /// Somebody else says that it leads in the term in which this peer leads.
    #[error("{peer} leads in term {term}, and so does this peer: a disk has lost votes")]
    TwoLeaders {
        /// The other.
        peer: PeerId,
        /// The term.
        term: u64,
    },
    /// A follower acknowledges what it has never been sent.
    #[error("{peer} acknowledges entry {index}, but the log ends at {last}")]
    NeverSent {
        /// The follower.
        peer: PeerId,
        /// What it acknowledges.
        index: u64,
        /// The end of the log.
        last: u64,
    },
    /// An entry without a term, and that is none.
    #[error("{peer} sends what follows an entry {index} of term 0, which cannot be")]
    NoTerm {
        /// Who sent it.
        peer: PeerId,
        /// The entry.
        index: u64,
    },
    /// A term that is too far away for there having been so many elections.
    #[error(
        "{peer} speaks of term {term}, and this peer is in term {ours}: there cannot have been so many elections, or not \
         so soon after another such jump; if {peer} is sound, it is believed within a minute"
    )]
    TermJump {
        /// Who says it.
        peer: PeerId,
        /// The term.
        term: u64,
        /// That of this peer.
        ours: u64,
    },
    /// A lease that somebody grants who does not lead.
    #[error("{peer} grants a lease in term {term}, in which {leader} leads")]
    NotTheLeader {
        /// Who grants it.
        peer: PeerId,
        /// In which term.
        term: u64,
        /// Who leads.
        leader: PeerId,
    },
    /// A lease of another length than this node grants.
    #[error(
        "{peer} asks for a lease of {theirs:?}, and this node grants {ours:?}: `lease` must be the same on every node"
    )]
    OtherLease {
        /// Who asks.
        peer: PeerId,
        /// The length there.
        theirs: Duration,
        /// The length here.
        ours: Duration,
    },
    /// A snapshot cannot be used.
    #[error("the snapshot of {peer} cannot be used: {why}")]
    Snapshot {
        /// The leader.
        peer: PeerId,
        /// What is wrong.
        why: SnapshotError,
    },
    /// raft-rs does not know what to do with it.
    #[error("a message of {0} was refused by raft")]
    Raft(PeerId),
}

/// Consensus could not start.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log cannot be used.
    #[error("the log of {0} cannot be used: {1}")]
    Recovery(PeerId, RecoveryError),
    /// raft-rs refuses to start; its own words.
    #[error("raft refuses to start: {0}")]
    Raft(String),
}
