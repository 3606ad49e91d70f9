//! Streams: items that go from one producer to its consumers, as fast as those ask for them.
//!
//! Both sides are state machines without input or output: `channel` holds what a producer has pushed and who wants how
//! much of it, `inlet` what a consumer has asked for and what has come. Between them travel nothing but replies, each
//! of which brings the right to the next one (see `protocol`): replies have their room reserved, so nothing that was
//! accepted is refused on its way, and an address that is dropped tells the other side at once that its peer has gone.

pub(crate) mod channel;
#[cfg(test)]
mod channel_tests;
pub mod consumer;
pub mod error;
pub mod feed;
mod inflow;
pub(crate) mod inlet;
#[cfg(test)]
mod inlet_tests;
mod outlet;
pub(crate) mod protocol;
pub mod reference;
pub mod settings;
pub mod source;
