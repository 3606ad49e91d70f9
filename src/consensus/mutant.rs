//! Planted bugs: what the tests of a cluster must be able to find. Only tests plant one.

/// A deliberate mistake, to show that tests would find a real one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Whom a node has voted for is not written.
    ForgetVote,
    /// A command that is in the log twice is applied twice.
    ApplyTwice,
    /// A node is declared down while it may still hold a lease.
    IgnoreLease,
    /// A leader grants leases without asking whether it still leads.
    GrantUnconfirmed,
    /// A follower answers before the write is durable on which its answer depends.
    SendBeforeDurable,
    /// A proposal whose fate is open is reported as not committed.
    DenyUnknown,
    /// Whoever answers in the founding forgets what it has accepted.
    ForgetFounding,
}
