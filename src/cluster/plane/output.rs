//! What a control plane wants done, and what it tells the node.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::base::ids::{Incarnation, NodeId};
use crate::cluster::ledger_error::FactRefused;
use crate::cluster::node::output::{LeaseState, Refusal, ShardsChanged, StartError, StopCause};
use crate::consensus::peer::{ClusterId, NodeLife};
use crate::links::notes::Note;
use crate::links::remote::ConnectionId;
use crate::links::settings::LinkSettingsError;
use crate::membership::event::MemberEvent;
use crate::wire::hello::{CheckedIdentity, IdentityError};

/// One thing to do, or to tell. The first three are for whoever has the sockets.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Connect to an address; say [`connected`](super::ControlPlane::connected) or
    /// [`dial_failed`](super::ControlPlane::dial_failed).
    Dial {
        /// The name of what comes of it.
        connection: ConnectionId,
        /// Where.
        address: String,
    },
    /// Close the socket, or give up connecting it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Send a datagram from the node's own address. It may be lost.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Something that the node has to know.
    Event(Event),
}

/// What the control plane tells the rest of the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This node is a member in this life. Its members and shards follow.
    Joined {
        /// Its life.
        incarnation: Incarnation,
        /// The cluster.
        cluster: ClusterId,
    },
    /// What the node says of itself on connections has changed; for the porch, and for connections for data.
    Identity(Arc<CheckedIdentity>),
    /// This node's previous life has to end before it is let in.
    Waits {
        /// The life that ends.
        previous: Incarnation,
        /// How long it takes, as far as is known.
        at_most: Duration,
    },
    /// Something has happened among the members.
    Member(MemberEvent),
    /// So many entity types are registered now.
    Types(usize),
    /// Shards have other owners, or begin or end to move.
    Shards(ShardsChanged),
    /// A node leaves and owns nothing any more; see [`Output::Parting`](crate::cluster::node::output::Output::Parting).
    Parting(NodeLife),
    /// This node's lease has changed.
    Lease(LeaseState),
    /// Another node leads, or none is known to.
    Leader(Option<NodeId>),
    /// Somebody or something was refused; for the log. The node is that whose message it was, if it was anybody's.
    Refused(Option<NodeId>, Refusal),
    /// Trouble with a connection; for the log.
    Note(Note),
    /// The ledger has stopped, for this reason, and with it the node.
    LedgerFailed(FactRefused),
    /// This node takes part no more. Nothing comes after it but the end of its connections.
    Stopped(StopCause),
}

/// A control plane that could not start. Nothing has been written.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PlaneStartError {
    /// Its part in the cluster.
    #[error(transparent)]
    Node(#[from] StartError),
    /// Its connections.
    #[error(transparent)]
    Links(#[from] LinkSettingsError),
    /// What it says of itself.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its frames are too short for what control planes say to each other.
    #[error(
        "`frame_bytes` is {frame_bytes}; it must be at least {least}, which is what the longest control message takes"
    )]
    Frames {
        /// What it was set to.
        frame_bytes: usize,
        /// The least.
        least: usize,
    },
}
