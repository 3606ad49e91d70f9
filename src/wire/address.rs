//! Places in the cluster, as headers name them.

use crate::base::ids::{CoreId, Epoch, Incarnation, NodeId, ShardKey};
use std::fmt;

/// One life of one node. Incarnations count from 1, so that no life is all zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

impl Life {
    /// A life of a node.
    #[must_use]
    pub const fn new(node: NodeId, incarnation: Incarnation) -> Life {
        Life { node, incarnation }
    }

    /// Both in one word, the node above.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u64 {
        (self.node.0 as u64) << 32 | self.incarnation.0 as u64
    }

    /// Takes such a word apart.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Life {
        Life {
            node: NodeId((bits >> 32) as u32),
            incarnation: Incarnation(bits as u32),
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.incarnation)
    }
}

/// Where a frame began. Frames of one sender to one receiver keep their order; hand-offs hold and release the frames of
/// one core at a time, which is why the core is named and kept when a past owner passes the frame on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// Its node.
    pub life: Life,
    /// The core whose outbox the frame left.
    pub core: CoreId,
    /// Which of the core's ordered streams: 0 is its outbox, others are for whoever needs an order of their own.
    pub stream: u32,
}

/// A place that an answer, a notice or a redirection names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The node, and the life in which the address is good; never all zeros.
    pub life: Life,
    /// The core.
    pub core: CoreId,
    /// For an ask, the core's table for replies of its type; otherwise 0.
    pub table: u16,
    /// Slot and generation in that table, or those of an actor's cell; the generation is the upper half.
    pub place: u64,
}

/// For whom a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// The node, or the address of the frame.
    #[default]
    Node,
    /// An entity of the shard, whose id follows the header; or the shard itself.
    Shard {
        /// The entity type, by its number in the cluster, and the shard.
        key: ShardKey,
        /// The epoch that the sender knows.
        epoch: Epoch,
    },
    /// An actor of the receiving node.
    Actor {
        /// The life of the node to which the actor belongs.
        incarnation: Incarnation,
        /// Its core.
        core: CoreId,
        /// Slot and generation of its cell; the generation is the upper half.
        cell: u64,
    },
}
