//! To whom a node wants control connections: to all live members and all peers of the log, and while it is not in, to all
//! whom it may ask.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::machine::ClusterNode;
use super::output::Output;
use crate::base::ids::NodeId;
use crate::consensus::machine::Consensus;

/// The connections of a node.
#[derive(Default)]
pub(super) struct Links {
    /// Those that stand, whoever has made them.
    pub(super) connected: BTreeSet<NodeId>,
    /// Those that were asked for.
    wanted: BTreeMap<NodeId, SocketAddr>,
}

impl ClusterNode {
    /// Asks for connections to whoever has come, and gives up those to whoever has gone.
    pub(super) fn refresh_links(&mut self) {
        let mut wanted = BTreeMap::new();
        let contacts = self.contacts();
        if self.life.is_none() {
            wanted = contacts.clone();
        }
        let peers = self.consensus.as_ref().map(Consensus::configuration);
        for peer in peers.into_iter().flat_map(|peers| peers.peers()) {
            let member = self.state.members().member(peer.node());
            let address = member.map(|member| member.address);
            let address = address.or_else(|| contacts.get(&peer.node()).copied());
            wanted.extend(address.map(|address| (peer.node(), address)));
        }
        for member in self.state.members().live() {
            wanted.insert(member.node, member.address);
        }
        wanted.remove(&self.settings.node);
        for (&to, address) in &self.links.wanted {
            if wanted.get(&to) != Some(address) {
                self.outputs.push_back(Output::Disconnect { to });
            }
        }
        for (&to, &address) in &wanted {
            if self.links.wanted.get(&to) != Some(&address) {
                self.outputs.push_back(Output::Connect { to, address });
            }
        }
        self.links.wanted = wanted;
    }

    /// Where a node is, as far as is known.
    pub(super) fn address_of(&self, node: NodeId) -> Option<SocketAddr> {
        let member = self.state.members().member(node);
        let address = member.map(|member| member.address);
        address.or_else(|| self.contacts().get(&node).copied())
    }
}
