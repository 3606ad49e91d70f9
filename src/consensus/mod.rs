//! Consensus between the nodes of a cluster: one replicated log, leases, and how a cluster begins.
//!
//! Everything here is a state machine without I/O, clock or randomness of its own. [`machine::Consensus`] drives
//! raft-rs: messages, times and completed writes go in, [`output::Output`]s come out. [`lease`] says when a node may act
//! and when it may be declared down, [`bootstrap`] how the first nodes become one cluster and never two.
//!
//! protobuf, which the interface of raft-rs forces on its users, stays inside of this module and of this process:
//! [`message`] mirrors what travels, [`entry`] what is written, and both are validated before raft-rs sees them.

mod appending;
pub mod bootstrap;
pub mod configuration;
mod convert;
mod drive;
pub mod entry;
pub mod founding;
#[cfg(test)]
mod hostile_tests;
pub mod lease;
mod leasing;
mod living;
mod logger;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod message;
#[cfg(test)]
mod message_tests;
pub mod mutant;
pub mod output;
pub mod peer;
mod plausible;
mod proposals;
mod reconfiguring;
mod sessions;
pub mod settings;
mod shipping;
mod transfer;
mod view;
pub mod voters;
