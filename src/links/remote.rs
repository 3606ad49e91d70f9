//! The other ends of connections, and the connections, by name.

use crate::base::ids::{CoreId, NodeId};
use std::fmt;

/// The other end of an ordered path: a node, and for data one of its cores. Between two ends is at most one connection
/// that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remote {
    /// The node.
    pub node: NodeId,
    /// The core of it; for control none, because that is one core, whichever it is.
    pub core: Option<CoreId>,
}

impl Remote {
    /// The coordination core of a node.
    #[must_use]
    pub const fn control(node: NodeId) -> Remote {
        Remote { node, core: None }
    }

    /// A data core of a node.
    #[must_use]
    pub const fn data(node: NodeId, core: CoreId) -> Remote {
        Remote {
            node,
            core: Some(core),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.core {
            Some(core) => write!(f, "{} {core}", self.node),
            None => write!(f, "{}", self.node),
        }
    }
}

/// One connection of one [`Links`](super::links::Links); never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

impl ConnectionId {
    /// Its number, for tables of a driver and for traces.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The connection of a number.
    #[must_use]
    pub const fn from_number(number: u64) -> ConnectionId {
        ConnectionId(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection-{}", self.0)
    }
}
