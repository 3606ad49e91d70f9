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
//! | [`plane`] | the whole control plane of a node: its part in the cluster, connections, ledger |
//! | [`record`] | what a node writes down about itself |
//! | [`state`] | what follows from them: members, entity types, owners of shards |
//! | [`steward`] | what the leader proposes, so that every shard has an owner and every move an end |
//! | [`ledger`] | what a node must not forget, on the segmented log; [`ledger_opening`] reads it again at a start |
//! | [`ledger_settings`], [`ledger_error`] | its sizes and bounds, and why it refuses, stops or does not open |
//!
//! # Who is believed
//!
//! Who is at the other end of a connection is as certain as the connection makes it: with TLS it is proven, without it is
//! what the other end says. Whatever anybody says without TLS, who reaches the port and knows the name of the cluster:
//!
//! - nothing ends the process, and memory is bounded, for all strangers together ([`links::ranks`](crate::links::ranks));
//! - strangers do not keep members from being connected, nor a member that starts again from being let in;
//! - a node takes a lease from nobody but the leader that it knows, and for no longer than a lease from now;
//! - no message makes terms jump so far that elections end when the liar has gone;
//! - who is neither a member nor a peer of the log ends no life.
//!
//! What is *not* defended without TLS: somebody who takes the name of a member is believed to be that member. It can make
//! leaders step down, vote, append entries to the log, have lives declared down, and join. Keep the port closed to strangers,
//! or use TLS.

pub mod admission;
pub mod command;
pub mod join_request;
pub mod ledger;
#[doc(hidden)]
pub mod ledger_any;
pub mod ledger_error;
mod ledger_fold;
pub mod ledger_opening;
mod ledger_record;
#[cfg(test)]
mod ledger_record_tests;
pub mod ledger_settings;
mod ledger_steps;
mod member_codec;
pub mod message;
#[cfg(test)]
mod message_tests;
pub mod node;
pub mod plane;
pub mod record;
pub mod state;
#[cfg(test)]
mod state_tests;
pub mod steward;
#[cfg(test)]
mod steward_tests;
