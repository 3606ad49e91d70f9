//! Identities. Each is a newtype, so that two of them cannot be swapped in a call.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            /// The id as an index into a table.
            #[inline]
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id! {
    /// A pinned executor of this node, counted from 0 in the order in which the cores were given. It is not the number
    /// of a CPU: core 0 may be pinned to CPU 6.
    CoreId(u16), "core-"
}
id! {
    /// A node of the cluster; 0 while the node runs alone.
    NodeId(u32), "node-"
}
id! {
    /// One life of a node: a restarted node is a new incarnation, and references of an old one lead nowhere.
    Incarnation(u32), "life-"
}
id! {
    /// A partition of one entity type. An entity's shard is a stable function of its id.
    ShardId(u32), "shard-"
}
id! {
    /// An entity type, numbered in the order of registration.
    EntityTypeId(u16), "type-"
}
id! {
    /// How often a shard has been assigned; each assignment takes the next one.
    Epoch(u64), "epoch-"
}

/// One shard of one entity type: the unit that is placed and moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// The entity type.
    pub entity_type: EntityTypeId,
    /// The shard within the type.
    pub shard: ShardId,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.entity_type, self.shard)
    }
}
