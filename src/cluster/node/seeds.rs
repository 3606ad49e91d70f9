//! Where the seeds are: as the settings say, as their names say later, and as others say of the leader.
//!
//! A name may stand for nothing yet when a node starts, and for another address each time that its node comes back. Names
//! are looked up outside of this, while the node is not in, for those seeds to which it has no connection.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::machine::ClusterNode;
use crate::base::ids::NodeId;
use crate::base::time::Time;

impl ClusterNode {
    /// The name of a seed stands for these addresses now. To be said again and again, but not often, while the seed is
    /// [missing](ClusterNode::missing_seeds): each time the next address is tried, of these and of that which the log says,
    /// behind the one that was tried last. Returns the address, if it is another.
    ///
    /// Of a node that is connected or no seed, and once this node is in, it is ignored. So are addresses that cannot be
    /// reached, and this node's own.
    pub fn seed_found(
        &mut self,
        seed: NodeId,
        addresses: &[SocketAddr],
        now: Time,
    ) -> Option<SocketAddr> {
        if !self.missing_seeds().any(|missing| missing == seed) {
            return None;
        }
        let member = self.state.members().member(seed);
        let logged = member.map(|member| member.address);
        let me = self.settings.address;
        let may_be = |address: &SocketAddr| {
            address.port() != 0 && !address.ip().is_unspecified() && *address != me
        };
        let known = addresses.iter().copied().chain(logged).filter(may_be);
        let mut candidates: Vec<SocketAddr> = Vec::new();
        for address in known {
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        let tried = self.links.wanted.get(&seed);
        let at = candidates.iter().position(|address| Some(address) == tried);
        let next = at.map_or(0, |at| (at + 1) % candidates.len());
        let next = *candidates.get(next)?;
        if Some(&next) == tried {
            return None;
        }
        self.found_seeds.insert(seed, next);
        self.links.is_fresh = false;
        self.settle(now);
        Some(next)
    }

    /// The other seeds to which this node has no connection, while it has no life and looks for them.
    pub fn missing_seeds(&self) -> impl Iterator<Item = NodeId> {
        let looks = self.life.is_none() && !self.stopped;
        let seeds = self.settings.seeds.iter().map(|seed| seed.node);
        seeds.filter(move |seed| {
            looks && *seed != self.settings.node && !self.links.connected.contains(seed)
        })
    }

    /// The seeds of which it is known where they are.
    pub(super) fn known_seeds(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        self.settings.seeds.iter().filter_map(|seed| {
            let found = self.found_seeds.get(&seed.node).copied();
            Some((seed.node, found.or(seed.address)?))
        })
    }

    /// Where seeds were found that this node looks for.
    pub(super) fn found(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        let found = self.found_seeds.iter();
        let found = found.filter(|_| self.life.is_none());
        found.map(|(seed, address)| (*seed, *address))
    }

    /// Where nodes are that this one knows of by its settings, by name, and by hearsay.
    pub(super) fn contacts(&self) -> BTreeMap<NodeId, SocketAddr> {
        self.known_seeds().chain(self.asking.leader()).collect()
    }

    /// Somebody has said where the leader is. That is news, and counts until its name says something else.
    pub(super) fn told_of_leader(&mut self) {
        if let Some((leader, _)) = self.asking.leader() {
            self.found_seeds.remove(&leader);
        }
        self.links.is_fresh = false;
    }
}
