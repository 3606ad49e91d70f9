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
    pub(super) wanted: BTreeMap<NodeId, SocketAddr>,
    /// Nothing has changed of that on which it depends whom this node wants.
    pub(super) is_fresh: bool,
}

impl ClusterNode {
    /// Asks for connections to whoever has come, and gives up those to whoever has gone.
    pub(super) fn refresh_links(&mut self) {
        // Each message comes by here, and there may be many members.
        if self.links.is_fresh {
            return;
        }
        self.links.is_fresh = true;
        let wanted = self.wanted_links();
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

    /// Once a tick: nobody has changed what [`wanted_links`](Self::wanted_links) depends on without saying so.
    pub(super) fn check_links(&self) {
        debug_assert!(!self.links.is_fresh || self.wanted_links() == self.links.wanted);
    }

    fn wanted_links(&self) -> BTreeMap<NodeId, SocketAddr> {
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
        // What the log says of those who were looked for may be older than what their names say.
        wanted.extend(self.found());
        wanted.remove(&self.settings.node);
        wanted
    }

    /// Where a node is, as far as is known.
    pub(super) fn address_of(&self, node: NodeId) -> Option<SocketAddr> {
        let mut found = self.found();
        if let Some((_, address)) = found.find(|(seed, _)| *seed == node) {
            return Some(address);
        }
        let member = self.state.members().member(node);
        let address = member.map(|member| member.address);
        address.or_else(|| self.contacts().get(&node).copied())
    }
}
