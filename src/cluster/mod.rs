//! A node's part in a cluster: what the cluster has agreed on, and what its leader sees to. Pure state machines without
//! I/O or clock.
//!
//! | file | what it is about |
//! |---|---|
//! | [`command`] | the entries of the log, and their bytes |
//! | [`state`] | what follows from them: members, entity types, owners of shards |
//! | [`steward`] | what the leader proposes, so that every shard has an owner and every move an end |

pub mod command;
mod member_codec;
pub mod state;
#[cfg(test)]
mod state_tests;
pub mod steward;
#[cfg(test)]
mod steward_tests;
