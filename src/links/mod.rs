//! All connections of one core to other nodes, as state machines without I/O.
//!
//! | file | what it is |
//! |---|---|
//! | [`porch`] | where connections wait that have come to the port, until their first bytes name a core |
//! | [`links`] | all connections of one core for one purpose: control on the coordination core, data on a data core |
//! | [`settling`] | which connection two nodes use when they have more than one |
//! | [`sending`], [`receiving`] | frames of the core to sockets, and bytes of sockets to the core |
//! | [`ranks`] | whose connections make room for whose when there are too many |
//! | [`ending`], [`refusal`] | why connections end, and why frames are refused |
//! | [`notes`] | what is told to the log, once |
//!
//! ```text
//!   port ──▶ Porch ──guest, by its preamble──▶ Links of the coordination core (control)
//!                                         └──▶ Links of a data core          (data)
//!   core ──want, write──▶ Links ──Dial, Close, bytes──▶ sockets
//!   core ◀──Up, Down, Room, frames── Links ◀──connected, bytes, closed── sockets
//! ```
//!
//! Control has instances, connections and buffers of its own, so that it never waits behind data.

#[cfg(test)]
mod appending_tests;
mod backoff;
mod connection;
pub mod counters;
pub mod ending;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod kit;
#[allow(
    clippy::module_inception,
    reason = "the type that this module is about, in a file of its name"
)]
pub mod links;
#[cfg(test)]
mod links_tests;
mod meeting;
pub mod notes;
mod open;
pub mod output;
pub mod porch;
pub mod ranks;
#[cfg(test)]
mod ranks_tests;
pub mod receiving;
pub mod refusal;
pub mod remote;
pub mod sending;
pub mod settings;
pub mod settling;
mod ticking;
