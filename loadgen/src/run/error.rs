//! Why a run could not be done.

use corecast::{AskError, CoreId, SpawnError, StartError};

use crate::cluster::error::ClusterError;
use crate::replay::InputError;
use crate::report::ReportError;

/// Why a run could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("the runtime did not start: {0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Input(#[from] InputError),
    #[error("{0}")]
    Report(#[from] ReportError),
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot write the report: {0}")]
    Print(std::io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error(
        "cannot pin a thread to CPU {0}, to listen to the machine: allow it in this process's affinity mask (taskset, \
         cpuset), or leave that out with --hiccups 0"
    )]
    Pin(usize),
    #[error("an actor of the run could not be started: {0}")]
    Spawn(#[from] SpawnError),
    #[error("{0} does not answer; see the log for what holds it")]
    CoreGone(CoreId),
    #[error("{what} did not come back: {why}")]
    Lost { what: String, why: AskError },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{0}")]
    Node(String),
    #[error("bare TCP cannot be measured: {0}")]
    BareTcp(std::io::Error),
    #[error("{0} messages were neither handled nor dropped within {patience:?}", patience = super::stage::PATIENCE)]
    Stuck(u64),
}
