//! One node's part in a cluster, put together: from its first start to its last word.
//!
//! | file | what it is about |
//! |---|---|
//! | [`machine`] | the state machine: its inputs, and the order in which things happen |
//! | [`settings`], [`output`] | what goes in at the start, and what comes out |
//! | `beginning` | what is written down, the founding, and the start of the log |
//! | `applicant` | how a node asks to be let in |
//! | `admitting` | how the leader lets others in |
//! | `applying` | what the log says, and what follows |
//! | `leading` | what a leader sees to: deaths, and the housekeeping of shards |
//! | `observing` | datagrams, heartbeats, and who cannot be reached |
//! | `pursuing` | what this node wants of the log for itself, until the log says it |
//! | `parting` | who parts with nodes that leave |
//! | `links` | to whom it wants connections |
//! | `seeds` | where those are that it looks for |
//! | `query` | what users may ask |
//! | [`mutant`] | planted bugs |

mod admitting;
mod applicant;
mod applying;
mod beginning;
mod leading;
mod links;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod mutant;
mod observing;
pub mod output;
mod parting;
mod pursuing;
mod query;
mod seeds;
pub mod settings;

pub use machine::ClusterNode;
