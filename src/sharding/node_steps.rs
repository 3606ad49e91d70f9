//! What the hand-off between nodes is told, and what it has the engine do; see [`node_handoff`](super::node_handoff).

use super::cluster_view::{NodeMove, ShardOwner};
use super::move_error::RefusedWhy;
use super::past_owners::PastOwner;
use crate::base::ids::{CoreId, Epoch, NodeId, ShardKey};

/// "I send nothing more for this shard": the marker from each core of the source to the one that runs the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Drained {
    /// The shard, by the number of its type on this node.
    pub shard: ShardKey,
    /// The move.
    pub prepared: u64,
    /// The core that sent the marker.
    pub from: CoreId,
}

/// What has become of a shard of the cluster, or of its place on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardNews<'a> {
    /// The shard, by the number of its type on this node.
    pub shard: ShardKey,
    /// What the cluster said of it before.
    pub before: ShardOwner,
    /// What it says now.
    pub now: ShardOwner,
    /// Who has given the shard away and lives on, in the order of the epochs.
    pub past: &'a [PastOwner],
    /// The core of this node on which it is, or would be; `None` while it changes cores.
    pub host: Option<CoreId>,
    /// The cores of whichever nodes whose messages this core has sent to the owner of before since it took that route: its own
    /// index for its own.
    pub streams: &'a [CoreId],
    /// The owner of before has been a member ever since, in the same life.
    pub is_same_life: bool,
}

/// How a move has ended for the node that says so. What the log makes of it is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveReport {
    /// The shard, by the number of its type on this node.
    pub shard: ShardKey,
    /// The move.
    pub prepared: u64,
    /// It has arrived here as a whole, or cannot leave.
    pub outcome: Result<(), RefusedWhy>,
}

/// What the engine of this core has to do next. Steps are executed in the order in which they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStep {
    /// Say [`Drained`] to `to`, behind all that was sent there.
    Tell {
        /// What to say.
        drained: Drained,
        /// The core that runs the shard.
        to: CoreId,
    },
    /// Start no further handlers of the shard: only suspended ones may finish. What arrives for it is held.
    Pause {
        /// The shard.
        shard: ShardKey,
    },
    /// The target has the shard: drop the copy.
    Forget {
        /// The shard.
        shard: ShardKey,
        /// Its owner.
        to: NodeId,
    },
    /// The shard stays: open it again.
    Stay {
        /// The shard.
        shard: ShardKey,
    },
    /// The cluster has taken the shard from this node: whatever of it is here ends.
    Lose {
        /// The shard.
        shard: ShardKey,
        /// Messages that were shipped may have been handled elsewhere: nobody knows what has become of them.
        was_shipped: bool,
    },
    /// Have the log hear of it.
    Report(MoveReport),
    /// Throw away what has come of a shard.
    Discard {
        /// The shard.
        shard: ShardKey,
    },
    /// Put what has come of a shard into place; it is this node's now.
    Open {
        /// The shard.
        shard: ShardKey,
    },
    /// Hold further messages for the shard, and send the marker `token` down the old route.
    Flush {
        /// The shard.
        shard: ShardKey,
        /// The past owner.
        via: NodeId,
        /// The epoch in which it was the owner.
        epoch: Epoch,
        /// Whose messages it goes behind.
        stream: CoreId,
        /// Names the marker.
        token: u64,
    },
    /// Send what is held for the shard by its present route.
    Release {
        /// The shard.
        shard: ShardKey,
    },
}

/// Whether a shard may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// An entity of it is inside an asynchronous handler or hook.
    pub is_suspended: bool,
    /// Its entities must not run for want of a lease: nor may their hooks.
    pub is_lapsed: bool,
    /// Its entities are of a kind that can leave the node.
    pub is_movable: bool,
    /// Nothing that was sent to its target waits here for the connection: silence is not for want of room.
    pub has_left: bool,
}

/// A part that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuePart {
    /// The shard.
    pub shard: ShardKey,
    /// The move.
    pub moving: NodeMove,
    /// The epoch in which this node owns the shard.
    pub epoch: Epoch,
    /// The attempt.
    pub attempt: u32,
    /// The number of the part; with 0 the shipment begins anew.
    pub number: u32,
}

/// What becomes of a part that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Keep it; if it is the first, throw away what was there before.
    pub keep: Option<Keep>,
    /// To be said to the source: the next part, and whether everything is there.
    pub answer: Option<(u32, bool)>,
}

/// How a part is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In place of what is there.
    Anew,
    /// Behind what is there.
    Behind,
}

impl Taken {
    pub(super) const NOT: Taken = Taken {
        keep: None,
        answer: None,
    };
}
