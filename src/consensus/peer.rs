//! Who takes part: peers of the log, lives of nodes, and the cluster.

use std::fmt;
use std::num::NonZeroU32;

use rand::RngExt;

use crate::base::ids::{Incarnation, NodeId};
use crate::base::rng::Rng;

/// One data directory of a node, from the moment it is created: a random number that is written into it.
///
/// It says whether a node remembers what it has voted. A node that comes back without its directory mints another one,
/// and so is another [`PeerId`]. (Two directories of one node get the same number once in four thousand million.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(NonZeroU32);

impl DiskId {
    /// A new one.
    #[must_use]
    pub fn mint(rng: &mut Rng) -> DiskId {
        loop {
            if let Some(id) = NonZeroU32::new(rng.random()) {
                return DiskId(id);
            }
        }
    }

    /// The one that was written down; `None` for 0, which is none.
    #[must_use]
    pub fn from_number(number: u32) -> Option<DiskId> {
        NonZeroU32::new(number).map(DiskId)
    }

    /// The number to write down.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

/// A participant of the log: a node together with the disk on which it remembers its votes. Never 0.
///
/// ```
/// use corecast::base::ids::NodeId;
/// use corecast::consensus::peer::{DiskId, PeerId};
///
/// let disk = DiskId::from_number(7).unwrap();
/// let peer = PeerId::new(NodeId(3), disk);
/// assert_eq!((peer.node(), peer.disk()), (NodeId(3), disk));
/// assert_eq!(PeerId::from_number(peer.number()), Some(peer));
/// assert_eq!(PeerId::from_number(0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    node: NodeId,
    disk: DiskId,
}

impl PeerId {
    /// The peer that a node is with this disk.
    #[must_use]
    pub fn new(node: NodeId, disk: DiskId) -> PeerId {
        PeerId { node, disk }
    }

    /// The peer of this number, as it travels and is written; `None` if it has no disk.
    #[must_use]
    pub fn from_number(number: u64) -> Option<PeerId> {
        let disk = DiskId::from_number((number & 0xFFFF_FFFF) as u32)?;
        Some(PeerId {
            node: NodeId((number >> 32) as u32),
            disk,
        })
    }

    /// The number of the peer; never 0.
    #[must_use]
    pub fn number(self) -> u64 {
        u64::from(self.node.0) << 32 | u64::from(self.disk.number())
    }

    /// The node.
    #[must_use]
    pub fn node(self) -> NodeId {
        self.node
    }

    /// Its disk.
    #[must_use]
    pub fn disk(self) -> DiskId {
        self.disk
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08x}", self.node, self.disk.number())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One life of a node, from its start to its end: who proposes, and who holds a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeLife {
    /// The node.
    pub node: NodeId,
    /// Which of its lives. A later life has a higher number.
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.incarnation)
    }
}

impl fmt::Debug for NodeLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a cluster, minted when it is founded. A node that belongs to one refuses the messages of every other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// A new one.
    #[must_use]
    pub fn mint(rng: &mut Rng) -> ClusterId {
        ClusterId(rng.random())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
