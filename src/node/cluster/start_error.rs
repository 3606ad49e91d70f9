//! Why a node does not start.

use super::check::ClusterSettingsError;
use crate::base::ids::NodeId;
use crate::cluster::node::settings::NodeSettingsError;
use crate::engine::assembly::TableError;
use crate::io::cluster::port::PortError;
use crate::io::cluster::view::ClusterEnd;
use crate::io::descriptors::TooFewDescriptors;
use crate::wire::hello::IdentityError;
use core::net::SocketAddr;
use std::time::Duration;

/// Why a runtime cannot be a node of its cluster; nothing of it is left running.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterStartError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] ClusterSettingsError),
    /// Its address, or one that it is given, cannot be used.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A seed has this node's id and another address, or its address and another id.
    #[error(
        "seed {seed} is at {at}, and this is {node}, advertised at {advertised}; the seeds name each node as it advertises itself \
         (--advertise)"
    )]
    SeedIsNotThis {
        /// The seed.
        seed: NodeId,
        /// Where it is.
        at: SocketAddr,
        /// This node.
        node: NodeId,
        /// Where others reach it.
        advertised: SocketAddr,
    },
    /// Other nodes could not tell its entity types or their messages apart.
    #[error(transparent)]
    Types(#[from] TableError),
    /// It may have fewer descriptors than it needs.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The system gives it no descriptors for its sockets.
    #[error(
        "the sockets of a core cannot be watched over: {0}; allow this process more descriptors (`ulimit -n`)"
    )]
    Sockets(String),
    /// The settings of the node make no sense for the machine.
    #[error(transparent)]
    Node(#[from] NodeSettingsError),
    /// What it would say of itself on connections cannot be said.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It takes no part.
    #[error("this node cannot take part in its cluster: {0}")]
    Ended(ClusterEnd),
    /// There were not enough nodes in time.
    #[error(
        "{required} nodes had to be up within {deadline:?}, and {up} are{}; start the others, or wait longer (--start-deadline) \
         or for fewer (--required-quorum)",
        .obstacle.as_deref().map_or(String::new(), |what| format!("; what stood in the way last: {what}"))
    )]
    NotReady {
        /// How many had to be.
        required: usize,
        /// How many are.
        up: usize,
        /// How long was waited.
        deadline: Duration,
        /// Why this node was not let in, if it was not.
        obstacle: Option<String>,
    },
}
