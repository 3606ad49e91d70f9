//! A runtime as a node of a cluster.
//!
//! | file | what it is |
//! |---|---|
//! | [`settings`] | what a node has to know of its cluster and of itself |
//! | [`expert`] | times and bounds, of which there are two sets that fit together |
//! | [`seed_address`] | a node of which it is known where it is, as people write it |
//! | `check` | what can be wrong with the settings, all of it at once |
//! | [`args`] | the settings as flags |
//! | `preparation` | from settings to a node that can be started |
//! | `waiting` | how a start waits for the cluster |
//! | [`handle`] | what a program sees of its cluster, and asks of it |
//! | [`start_error`] | why a node does not start |

pub mod args;
mod check;
pub mod expert;
pub mod handle;
pub(crate) mod preparation;
pub mod seed_address;
pub mod settings;
pub mod start_error;
pub(crate) mod waiting;

pub use check::ClusterSettingsError;
