//! What a virtual network tells the nodes.

use crate::base::ids::NodeId;

/// A connection, as both of its ends name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(super) u64);

/// Why an end was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedWhy {
    /// The other end closed it, and everything that it had sent before has arrived.
    ByPeer,
    /// The peer's machine knows no such connection (any more): its process has died.
    Reset,
    /// Nobody answered an attempt to connect.
    NobodyAnswers,
    /// What was sent did not arrive for too long.
    GaveUp,
}

/// What happens at a node because of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival<P> {
    /// A datagram.
    Datagram {
        /// Who sent it.
        from: NodeId,
        /// Where it arrives.
        to: NodeId,
        /// What it carries.
        payload: P,
    },
    /// A connection stands, at one of its ends. The end that connected may send only from now on.
    Opened {
        /// The connection.
        link: LinkId,
        /// The node at which it stands now.
        at: NodeId,
        /// The node at the other end.
        peer: NodeId,
        /// Whether `at` is the one that connected.
        connected: bool,
    },
    /// A payload of a connection.
    Received {
        /// The connection.
        link: LinkId,
        /// Where it arrives.
        to: NodeId,
        /// What it carries.
        payload: P,
    },
    /// There is room again, after a send that was refused.
    Writable {
        /// The connection.
        link: LinkId,
        /// The node that may send again.
        at: NodeId,
    },
    /// An end is closed: nothing arrives there any more, and what it sends goes nowhere.
    Closed {
        /// The connection.
        link: LinkId,
        /// The node at which it is closed.
        at: NodeId,
        /// Why.
        why: ClosedWhy,
    },
}

impl<P> Arrival<P> {
    /// The node at which it happens.
    #[must_use]
    pub fn at(&self) -> NodeId {
        match self {
            Arrival::Datagram { to, .. } | Arrival::Received { to, .. } => *to,
            Arrival::Opened { at, .. }
            | Arrival::Writable { at, .. }
            | Arrival::Closed { at, .. } => *at,
        }
    }
}

/// Why a payload was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// As many bytes as the window holds have not arrived yet; [`Arrival::Writable`] will say when to try again.
    Full,
    /// This end is not open.
    Closed,
}
