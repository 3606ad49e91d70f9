//! What a control plane starts with.

use std::sync::Arc;

use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::cluster::node::settings::NodeSettings;
use crate::links::settings::LinkSettings;
use crate::wire::address::Life;
use crate::wire::hello::{CheckedIdentity, Identity, IdentityError};
use crate::wire::limits::FrameLimits;
use crate::wire::tables::Tables;

/// The settings of one node's control plane.
#[derive(Clone, Debug)]
pub struct PlaneSettings {
    /// The name of the cluster: 1 to 128 bytes, the same on all nodes.
    pub cluster: String,
    /// Its part in the cluster.
    pub node: NodeSettings,
    /// Its control connections.
    pub links: LinkSettings,
    /// How large frames and buffers of all its connections may be. `frame_bytes` is at least 2 MiB and a little: what the
    /// longest control message takes.
    pub limits: FrameLimits,
    /// The message types and entity types that it knows.
    pub tables: Arc<Tables>,
    /// The core on which the control plane runs.
    pub core: CoreId,
    /// How many cores take connections, this one included.
    pub cores: u16,
}

impl PlaneSettings {
    /// What the node says of itself on connections, in a life.
    ///
    /// # Errors
    /// The first part of it that cannot be said.
    pub fn identity(
        &self,
        incarnation: Incarnation,
        cluster_id: Option<u128>,
    ) -> Result<Arc<CheckedIdentity>, IdentityError> {
        let node: NodeId = self.node.node;
        let identity = Identity {
            cluster: self.cluster.clone(),
            cluster_id,
            life: Life::new(node, incarnation),
            cores: self.cores,
            advertised: self.node.address.to_string(),
            limits: self.limits,
            tables: Arc::clone(&self.tables),
        };
        identity.check().map(Arc::new)
    }
}
