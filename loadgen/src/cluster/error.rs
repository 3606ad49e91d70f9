//! What goes wrong with a cluster of processes.

use std::io;
use std::time::Duration;

use super::place::PlaceError;

/// What went wrong with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no place for it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A process could not be started.
    #[error("the process of node {node} cannot be started: {source}")]
    Start {
        /// The node.
        node: u32,
        /// Why.
        source: io::Error,
    },
    /// A process cannot be told, stopped or killed.
    #[error("the process of node {node} cannot be {what}: {source}")]
    Process {
        /// The node.
        node: u32,
        /// What cannot be done.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A node says that it cannot go on.
    #[error("node {node} failed: {why}")]
    Failed {
        /// The node.
        node: u32,
        /// What it said.
        why: String,
    },
    /// A process has ended by itself.
    #[error("the process of node {node} has ended by itself{why}; see above for what it printed")]
    Gone {
        /// The node.
        node: u32,
        /// What is known: its exit status, or what it said last.
        why: String,
    },
    /// Something did not happen.
    #[error("the cluster did not come to this within {within:?}: {what}; {state}")]
    Late {
        /// What.
        what: String,
        /// For how long it was waited for.
        within: Duration,
        /// How the nodes are.
        state: String,
    },
    /// The link of a node cannot be cut or mended.
    #[error("the link of node {node} cannot be set: {source}")]
    Link {
        /// The node.
        node: u32,
        /// Why.
        source: io::Error,
    },
}

/// The error of a process that cannot be told, stopped or killed.
pub(super) fn process_error(node: u32, what: &'static str, source: io::Error) -> ClusterError {
    ClusterError::Process { node, what, source }
}
