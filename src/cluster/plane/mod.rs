//! The control plane of one node as a whole: its part in the cluster, its control connections, and its ledger.
//!
//! | file | what it is |
//! |---|---|
//! | [`machine`] | the three put together |
//! | [`settings`] | what it starts with |
//! | [`output`] | what it wants done, and what it tells the node |
//! | `recording` | what the node wants to be durable, in the words of the ledger |

pub mod machine;
pub mod output;
mod recording;
pub mod settings;

pub use machine::ControlPlane;
pub use output::{Event, Output, PlaneStartError};
pub use settings::PlaneSettings;
