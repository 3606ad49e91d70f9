//! Who the other nodes are, as data cores have to know them.

use crate::base::ids::{Incarnation, NodeId};
use crate::membership::view::View;
use std::collections::BTreeMap;

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

/// All nodes that messages may be for; this one may be among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataPeers(pub(crate) BTreeMap<NodeId, DataPeer>);

impl DataPeers {
    /// The live members of a cluster.
    pub(crate) fn of(view: &View) -> DataPeers {
        let peers = view.live().map(|member| {
            let peer = DataPeer {
                incarnation: member.incarnation,
                address: member.address.to_string(),
                data_cores: member.data_cores,
            };
            (member.node, peer)
        });
        DataPeers(peers.collect())
    }
}
