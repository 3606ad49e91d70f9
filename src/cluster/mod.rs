//! A node's part in a cluster: what the cluster has agreed on, and what its leader sees to. Pure state machines without
//! I/O or clock.
//!
//! | file | what it is about |
//! |---|---|
//! | [`admission`] | how a node comes into the log |
//! | [`command`] | the entries of the log, and their bytes |
//! | [`join_request`] | what a node outside says to be let in, and what it is answered |
//! | [`message`] | what the coordination cores of two nodes say to each other |
//! | [`node`] | one node's part in a cluster, put together |
//! | [`record`] | what a node writes down about itself |
//! | [`state`] | what follows from them: members, entity types, owners of shards |
//! | [`steward`] | what the leader proposes, so that every shard has an owner and every move an end |

pub mod admission;
pub mod command;
pub mod join_request;
mod member_codec;
pub mod message;
#[cfg(test)]
mod message_tests;
pub mod node;
pub mod record;
pub mod state;
#[cfg(test)]
mod state_tests;
pub mod steward;
#[cfg(test)]
mod steward_tests;
