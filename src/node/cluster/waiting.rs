//! How a start waits for the cluster.

use super::handle::Cluster;
use super::settings::ClusterSettings;
use super::start_error::ClusterStartError;
use crate::io::cluster::status::{ClusterError, Goal};

/// Waits for as many nodes as are required.
pub(crate) fn wait_until_ready(
    cluster: &Cluster,
    settings: &ClusterSettings,
) -> Result<(), ClusterStartError> {
    let goal = match settings.required_quorum {
        0 => Goal::Opened,
        required => Goal::Ready(required),
    };
    // Opening a directory is bounded by its disk.
    let waited = match goal {
        Goal::Opened => Ok(cluster.wait_until(goal).wait()),
        _ => cluster.wait_until(goal).wait_for(settings.start_deadline),
    };
    match waited {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ClusterError::Ended(end))) => Err(ClusterStartError::Ended(end)),
        // There is nobody else yet who could wait.
        Ok(Err(_)) | Err(_) => {
            let state = cluster.state();
            Err(ClusterStartError::NotReady {
                required: settings.required_quorum,
                up: state.up().count(),
                deadline: settings.start_deadline,
                obstacle: state.obstacle.as_deref().map(str::to_owned),
            })
        }
    }
}
