//! Which core owns which shard, and how a shard changes cores: pure state machines without I/O or clock.

pub mod balancer;
pub mod cluster_view;
#[cfg(test)]
mod cluster_view_tests;
pub mod coordinator;
#[cfg(test)]
mod coordinator_tests;
pub mod handoff;
pub mod move_error;
pub mod node_departure;
mod node_flush;
#[cfg(test)]
mod node_flush_tests;
pub mod node_handoff;
#[cfg(test)]
mod node_handoff_tests;
pub mod node_steps;
pub mod ownership;
#[cfg(test)]
mod ownership_tests;
pub mod past_owners;
mod plan;
#[cfg(test)]
mod protocol_tests;
pub mod settings;
pub mod strategy;
pub mod topology;
