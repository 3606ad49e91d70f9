//! Planted bugs: what the tests of a cluster must be able to find. Only tests plant one.

/// A deliberate mistake, to show that tests would find a real one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMutant {
    /// A node takes for its own whatever life the log gives to its id, also one that a former start of it had asked for.
    TakesAnyLife,
    /// A leader has a node's previous life end at once, whatever lease it may still hold.
    EndsLifeAtOnce,
    /// A node does not notice that its lease has run out.
    NeverLapses,
}
