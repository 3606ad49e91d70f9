//! Why a runtime cannot start.

use super::cluster::start_error::ClusterStartError;
use super::settings::SettingsError;
use crate::engine::assembly::RegionError;
use crate::io::start_error::IoStartError;
use crate::sharding::settings::SettingsError as CoordinatorSettingsError;
use crate::sharding::topology::TopologyError;

/// Why a runtime did not start; nothing of it is left running.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings contradict each other, or the machine.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The settings of the coordinator or the balancer are not usable.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorSettingsError),
    /// An entity type cannot be registered.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The shards cannot be allocated as wanted.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The executors cannot start on this system.
    #[error(transparent)]
    Io(#[from] IoStartError),
    /// It cannot be a node of its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterStartError),
    /// The machine or a thread refused.
    #[error("the operating system refused: {0}")]
    Os(#[from] std::io::Error),
}

/// The same text as `Display`: it is what a `main` that returns this error prints, and it names the remedy.
impl std::fmt::Debug for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
