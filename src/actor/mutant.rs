//! Planted bugs: what the simulator must be able to find, and a runtime to survive. Only tests plant one.

/// A deliberate mistake, to show that tests would find a real one, or that the runtime lives through it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The source of a move does not wait for the markers of the other cores.
    SkipLast,
    /// Held messages are released newest first.
    ReleaseReversed,
    /// Mailboxes do not travel with their entities.
    ShipDropsMailbox,
    /// The target runs a shard while parts of it are still on their way.
    RunsBeforeOwned,
    /// A core does not wait for its marker when a shard has changed nodes.
    SkipLastBetweenNodes,
    /// The target of a move between nodes opens the shard when it has come as a whole, before the log says so.
    OpensBeforeOwn,
    /// The source of a move between nodes opens the shard again some time after it was shipped.
    UnsealsOnTimer,
    /// Messages of other nodes are taken and passed on whatever the epoch that their senders knew.
    IgnoresEpoch,
    /// The engine itself panics, with the next call from another thread.
    EnginePanics,
    /// The engine of the coordination core panics when all cores are at a halt, before it tells them to stop.
    PanicsBeforeStop,
    /// A core runs entities whatever becomes of its node's lease.
    IgnoreLease,
    /// Futures of entities go on without a lease.
    PollsWithoutLease,
    /// A node that has lost a shard and got it again without noticing goes on with the entities that it had.
    IgnoreEpochOfOwner,
    /// An answer is believed whichever epoch its node speaks for.
    IgnoreEpochOfAnswers,
}
