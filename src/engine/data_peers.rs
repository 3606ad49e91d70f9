//! Who the other nodes are, as data cores have to know them.

use crate::base::ids::{Incarnation, NodeId};
use crate::membership::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Another node, as data cores have to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataPeer {
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Where it is dialled.
    pub(crate) address: String,
    /// How many data cores it has; they are its first.
    pub(crate) data_cores: u16,
}

/// The other nodes; this one may be among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataPeers {
    /// All that messages may be for.
    pub(crate) live: BTreeMap<NodeId, DataPeer>,
    /// The last life of each node that was declared down, whether the node is back or not.
    pub(crate) down: Arc<BTreeMap<NodeId, Incarnation>>,
}

impl DataPeers {
    /// Those of a cluster.
    pub(crate) fn of(view: &View) -> DataPeers {
        let live = view.live().map(|member| {
            let peer = DataPeer {
                incarnation: member.incarnation,
                address: member.address.to_string(),
                data_cores: member.data_cores,
            };
            (member.node, peer)
        });
        DataPeers {
            live: live.collect(),
            down: Arc::clone(view.down()),
        }
    }
}
