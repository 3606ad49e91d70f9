//! One core as a state machine: the turn, and what it composes.

pub mod assembly;
pub mod coordination;
pub mod core;
pub(crate) mod data_links;
pub(crate) mod data_peers;
pub mod handover;
pub mod inspect;
mod intake;
pub(crate) mod node_handover;
mod parting;
mod passivation;
pub mod remote;
pub mod shutdown;
pub mod stats;
