//! What a [`ClusterNode`](super::machine::ClusterNode) wants done, and what it tells.

use core::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::settings::NodeSettingsError;
use crate::base::ids::{Incarnation, NodeId, ShardKey};
use crate::base::time::Time;
use crate::cluster::command::CommandError;
use crate::cluster::join_request::JoinRefused;
use crate::cluster::message::{ControlMessage, MessageError};
use crate::cluster::record::NodeRecord;
use crate::cluster::state::StateError;
use crate::consensus::bootstrap::{Refused, TooManyFounders};
use crate::consensus::entry::LogWrite;
use crate::consensus::output::StepError;
use crate::consensus::peer::{ClusterId, NodeLife};
use crate::membership::datagram::DatagramError;
use crate::membership::event::MemberEvent;
use crate::sharding::ownership::OwnershipChange;

/// One thing to do or to know. Do them in the order in which they come.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message over the control connection to this node, which stands as far as this node has been told. If it does
    /// not, or has no room, the message is lost; what matters is said again.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: ControlMessage,
    },
    /// Send a datagram. It may be lost.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Hold a control connection to this node: connect, and again whenever it is lost, until told otherwise. One that the
    /// other side has made is as good.
    Connect {
        /// The node.
        to: NodeId,
        /// Where it is.
        address: SocketAddr,
    },
    /// Hold no connection to this node any more, unless it is another one that wants it.
    Disconnect {
        /// The node.
        to: NodeId,
    },
    /// Make something durable, and say so.
    Write(Write),
    /// This node is a member in this life. Member events and shards follow, from what is there already.
    Joined {
        /// Its life.
        incarnation: Incarnation,
        /// The cluster.
        cluster: ClusterId,
    },
    /// This node's previous life has to end before it is let in; for the log.
    Waits {
        /// The life that ends.
        previous: Incarnation,
        /// How long it takes, as far as is known.
        at_most: Duration,
    },
    /// Something has happened among the members.
    Member(MemberEvent),
    /// What the cluster knows of entity types has changed: as many are registered now, in the order of their ids.
    Types(usize),
    /// Shards have other owners, or begin or end to move.
    Shards(ShardsChanged),
    /// A node leaves, in this life, and owns nothing any more; it may be this one. Say
    /// [`parted`](super::machine::ClusterNode::parted) when every core of this node knows of the owners as they are now, and
    /// nothing is on its way any more that it has sent by that node; if it is this one, by whatever node. Comes once for a
    /// life, behind the shards of which that is true.
    Parting(NodeLife),
    /// This node's lease has changed.
    Lease(LeaseState),
    /// Another node leads, or none is known to.
    Leader(Option<NodeId>),
    /// Somebody or something was refused; for the log, at most one each ten seconds and node, of 256 nodes.
    Refused {
        /// Whose message or request it was.
        node: Option<NodeId>,
        /// Why.
        why: Refusal,
    },
    /// This node takes part no more. Nothing comes after it.
    Stopped(StopCause),
}

/// Something to make durable. Those of one variant are made in the order in which they come out.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Replace the record, then call [`record_written`](super::machine::ClusterNode::record_written).
    Record {
        /// What to call it with; each is higher than those before.
        ticket: RecordTicket,
        /// The record as a whole.
        record: NodeRecord,
    },
    /// Write to the log, then call [`log_written`](super::machine::ClusterNode::log_written) if it has a ticket.
    Log(LogWrite),
}

/// Names a write of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordTicket(pub u64);

/// Changes of ownership, as of one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardsChanged {
    /// The index in the log; of two, the higher one is newer.
    pub version: u64,
    /// Whether there is a gap before it: this node has just joined, or was so late that it took a snapshot. Then each change
    /// stands for all that has happened to the shard in the gap; otherwise for one step.
    pub after_gap: bool,
    /// What has changed.
    pub changes: Vec<OwnershipChange>,
}

/// Whether this node may run entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Until then, on its own clock.
    Valid {
        /// When it ends, unless it is renewed.
        until: Time,
    },
    /// It may not: the lease has run out, which is to say that there is no control quorum, or the node's life is over.
    Lapsed,
}

/// What a node found in its directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The record; the default in a new directory.
    pub record: NodeRecord,
    /// The log.
    pub log: crate::consensus::entry::Recovered,
}

/// Why somebody or something was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// In the founding.
    #[error(transparent)]
    Founding(#[from] Refused),
    /// A message of the log.
    #[error(transparent)]
    Step(#[from] StepError),
    /// What is no message.
    #[error(transparent)]
    Garbage(#[from] MessageError),
    /// A message that says it is another node's than that at the other end of its connection.
    #[error("it sends as {0}")]
    Impersonates(NodeId),
    /// A node that is neither a member nor a peer of the log says that a life has ended.
    #[error(
        "it is neither a member nor a peer of the log, and says that this node's life has ended"
    )]
    Stranger,
    /// A datagram of a node that takes itself for this one.
    #[error(transparent)]
    Datagram(#[from] DatagramError),
    /// A request of this node to be let in; it asks again.
    #[error("this node is not let in: {0}")]
    Join(#[from] JoinRefused),
    /// A node that wants to be let in, by this leader.
    #[error("it is not let in: {0}")]
    Applicant(JoinRefused),
    /// The member that was asked belongs to another cluster than the one that was found.
    #[error("it belongs to cluster {theirs}, and this node joins {ours}")]
    OtherCluster {
        /// The cluster that it belongs to.
        theirs: ClusterId,
        /// The one that this node joins.
        ours: ClusterId,
    },
    /// An entry of the log that cannot be read; it has no effect, on any node.
    #[error("an entry of the log has no effect: {0}")]
    Command(CommandError),
    /// The state is larger than others would take; the log grows until it is smaller.
    #[error(transparent)]
    Snapshot(#[from] crate::consensus::machine::SnapshotTooLarge),
}

/// Why a node takes part no more.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StopCause {
    /// It has left, as it was asked to.
    #[error("the node has left the cluster")]
    Left,
    /// It was declared down. Whatever it ran is others' now. Start it again with the same directory: it joins as a new
    /// incarnation.
    #[error("{incarnation} of this node was declared down; it joins anew when it is started again")]
    LifeEnded {
        /// The life.
        incarnation: Incarnation,
    },
    /// It was away for so long that it is no peer of the log any more. Start it again with the same directory.
    #[error(
        "this node is no member of the cluster any more; it joins anew when it is started again"
    )]
    Removed,
    /// It cannot join until somebody changes something.
    #[error("this node cannot join: {0}")]
    Refused(#[from] JoinRefused),
    /// A write failed. What the disk holds is not known: end the process.
    #[error("a write failed, and what the disk holds is not known any more")]
    WriteFailed,
    /// The log has an entry that a newer build has written.
    #[error("the log cannot be followed: {0}")]
    Command(#[from] CommandError),
    /// The cluster's state cannot be read.
    #[error("the log cannot be followed: {0}")]
    State(#[from] StateError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] crate::consensus::output::StartError),
}

/// A node could not start. Nothing has been written.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StartError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] NodeSettingsError),
    /// More founders are named than a cluster can have.
    #[error(transparent)]
    Founders(#[from] TooManyFounders),
    /// The directory has a log and no record that belongs to it.
    #[error(
        "the directory has a log, but its record names no {0}; restore the directory or replace the disk"
    )]
    Torn(&'static str),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] crate::consensus::output::StartError),
}

/// A shard that was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WantError {
    /// There is none of this name, as far as this node knows.
    #[error("there is no shard {0}")]
    NoSuchShard(ShardKey),
    /// As many are wanted as may be. Ask again when some have an owner.
    #[error("{0} shards are wanted already; ask again when some have an owner")]
    Full(usize),
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Messages that came out.
    pub sent: u64,
    /// Messages to nodes to which there was no connection.
    pub unsent: u64,
    /// Messages that were taken.
    pub received: u64,
    /// Messages, datagrams and requests that were refused.
    pub refused: u64,
    /// Entries of the log that were applied.
    pub applied: u64,
    /// Those among them that had no effect, because another came before.
    pub void: u64,
    /// Snapshots of the cluster's state from which this node went on.
    pub restored: u64,
    /// Nodes that this one has let in as leader.
    pub admitted: u64,
    /// How often this leader has looked what is to be done next for a node that asks to be let in.
    pub looked_at_applicants: u64,
    /// How often this leader has looked over all shards for what is to be done.
    pub looked_over_shards: u64,
    /// How often this leader has proposed to declare a life down.
    pub downs: u64,
    /// How often it had to wait for a lease to end.
    pub lease_waits: u64,
}
