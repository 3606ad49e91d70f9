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

/// The other nodes; this one may be among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataPeers {
    /// All that messages may be for.
    pub(crate) live: BTreeMap<NodeId, DataPeer>,
    /// The last life of each node that was declared down. One entry for each node that ever was.
    pub(crate) down: BTreeMap<NodeId, Incarnation>,
}

impl DataPeers {
    /// A life was declared down. To be said for each, since the node may be back when the members are looked at next.
    pub(crate) fn declared_down(&mut self, node: NodeId, incarnation: Incarnation) {
        self.down.insert(node, incarnation);
    }

    /// The members of a cluster are these now.
    pub(crate) fn follow(&mut self, view: &View) {
        let live = view.live().map(|member| {
            let peer = DataPeer {
                incarnation: member.incarnation,
                address: member.address.to_string(),
                data_cores: member.data_cores,
            };
            (member.node, peer)
        });
        self.live = live.collect();
        let down = view.members().filter(|member| !member.is_live());
        self.down
            .extend(down.map(|member| (member.node, member.incarnation)));
    }
}
