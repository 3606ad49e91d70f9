//! Why a move of a shard did not happen.

use std::time::Duration;

use thiserror::Error;

use crate::base::ids::{CoreId, EntityTypeId, NodeId, ShardKey};

/// The answer to a request to move a shard that did not move it. Except after [`MoveError::CoreStopped`] the shard is
/// where it was and keeps its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MoveError {
    /// No entity type has this number.
    #[error(
        "cannot move a shard of {entity_type}: there is no such entity type; register it before the runtime starts"
    )]
    UnknownType {
        /// The type that was asked for.
        entity_type: EntityTypeId,
    },
    /// The type has fewer shards.
    #[error("cannot move {shard}: its type has only {shards} shards, numbered from 0")]
    UnknownShard {
        /// The shard that was asked for.
        shard: ShardKey,
        /// How many shards the type has.
        shards: u32,
    },
    /// Another node owns the shard, or none does: there is nothing here that could move between cores.
    #[error("cannot move {shard} between cores: it does not belong to this node")]
    NotOwned {
        /// The shard that was asked for.
        shard: ShardKey,
    },
    /// The shard is about to leave this node.
    #[error("cannot move {shard} between cores: it is on its way to {to}")]
    LeavesNode {
        /// The shard that was asked for.
        shard: ShardKey,
        /// Where it is going.
        to: NodeId,
    },
    /// The target runs no entities.
    #[error("cannot move {shard} to {core}: it is not a data core of this runtime")]
    UnknownCore {
        /// The shard that was asked for.
        shard: ShardKey,
        /// The target that was asked for.
        core: CoreId,
    },
    /// An earlier request moves the shard or waits to do so.
    #[error(
        "cannot move {shard}: it is already on its way to {to}; ask again when that move has finished"
    )]
    AlreadyMoving {
        /// The shard that was asked for.
        shard: ShardKey,
        /// Where it is going.
        to: CoreId,
    },
    /// As many requests wait as may wait.
    #[error("cannot move {shard}: {waiting} moves wait already; ask again when some have finished")]
    TooManyMoves {
        /// The shard that was asked for.
        shard: ShardKey,
        /// The bound on waiting requests.
        waiting: usize,
    },
    /// Other moves took so long that this one never began.
    #[error(
        "the move of {shard} did not begin within {limit:?}, because earlier moves are slow; ask again later"
    )]
    WaitedTooLong {
        /// The shard that was asked for.
        shard: ShardKey,
        /// How long a request may wait.
        limit: Duration,
    },
    /// The owner could not give the shard away and keeps it.
    #[error("the move of {shard} was refused by its owner: {why}")]
    Refused {
        /// The shard that was asked for.
        shard: ShardKey,
        /// What stood in the way.
        #[source]
        why: RefusedWhy,
    },
    /// A core is shutting down, and a move needs every core.
    #[error("cannot move {shard}: {core} is stopping, and a move needs the word of every core")]
    CoreStopping {
        /// The shard that was asked for.
        shard: ShardKey,
        /// The core that is stopping.
        core: CoreId,
    },
    /// A core has stopped while the shard moved; whether the target has the shard is not known.
    #[error(
        "the move of {shard} had no end when {core} stopped; whether the shard moved is not known"
    )]
    CoreStopped {
        /// The shard that was asked for.
        shard: ShardKey,
        /// The core that has stopped.
        core: CoreId,
    },
}

/// Why the owner of a shard did not ship it. The shard was never sealed and has gone on running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefusedWhy {
    /// A sender has not confirmed in time that it holds its messages for the shard.
    #[error(
        "{0} has not stopped sending to it in time (its lane is full, or a handler holds that core)"
    )]
    AwaitingLast(CoreId),
    /// An entity of the shard stayed inside an asynchronous handler or hook.
    #[error(
        "one of its entities stayed in an asynchronous handler beyond the deadline of the hand-off"
    )]
    Suspended,
    /// The target has stopped.
    #[error("the core to which it was to go has stopped")]
    TargetStopped,
    /// The owner cannot send this shard's state. Between nodes: its entities move as values, which cannot leave their node,
    /// or the state or a waiting message of one of them could not be archived.
    #[error("the state of its entities cannot be moved")]
    NotMovable,
    /// Between nodes: the core of the target already keeps as many bytes of shards that come as it may have messages waiting.
    #[error(
        "the core that it goes to has no room for it; raise `budget_bytes` there, or give the type more shards"
    )]
    NoRoom,
}
