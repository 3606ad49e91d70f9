//! The control connections between whole control planes, as a driver makes them.

use std::hash::{DefaultHasher, Hash, Hasher};

use corecast::base::ids::NodeId;
use corecast::cluster::message::ControlMessage;
use corecast::sim::network::Arrival;
use rand::RngExt;

use crate::control_node::{Input, SimNode, ms};
use crate::control_world::World;

impl World {
    pub(crate) fn send(&mut self, id: NodeId, to: NodeId, message: ControlMessage) {
        let (kind, bytes) = message.encode().unwrap();
        let payload: Vec<u8> = [kind.code()].into_iter().chain(bytes).collect();
        let mut digest = DefaultHasher::new();
        payload.hash(&mut digest);
        self.note(&(id, to, digest.finish()));
        let node = &self.nodes[&id];
        // The newest: of an older one the other end may know nothing any more.
        let link = node.links.iter().rfind(|(_, peer)| **peer == to);
        if let Some(link) = link.map(|(link, _)| *link) {
            let length = payload.len();
            // What does not fit is lost, and said again.
            _ = self.network.send(self.now, link, id, payload, length);
        }
    }

    /// Makes the connections that a node wants and has not.
    pub(crate) fn dial(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let due = node.redial.iter().filter(|(_, at)| **at <= now);
        let due: Vec<NodeId> = due.map(|(to, _)| *to).collect();
        for to in due {
            let node = self.nodes.get_mut(&id).unwrap();
            node.redial.remove(&to);
            let is_there = node.links.values().any(|peer| *peer == to);
            if is_there || node.dialing.contains_key(&to) || !node.wanted_links.contains(&to) {
                continue;
            }
            let link = self.network.connect(now, id, to);
            self.dialed.insert(link, to);
            self.nodes.get_mut(&id).unwrap().dialing.insert(to, link);
        }
    }

    pub(crate) fn arrive(&mut self, arrival: Arrival<Vec<u8>>) {
        let at = arrival.at();
        let again = self.now + ms(self.rng.random_range(20..60));
        let Some(node) = self.nodes.get_mut(&at).filter(|node| node.is_running()) else {
            return;
        };
        let is_linked = |node: &SimNode, to: NodeId| node.links.values().any(|peer| *peer == to);
        match arrival {
            Arrival::Datagram { payload, .. } => node.inbox.push_back(Input::Datagram(payload)),
            Arrival::Opened { link, peer, .. } => {
                if node.dialing.get(&peer) == Some(&link) {
                    node.dialing.remove(&peer);
                }
                if !is_linked(node, peer) {
                    node.inbox.push_back(Input::Connected(peer));
                }
                node.links.insert(link, peer);
            }
            Arrival::Received { link, payload, .. } => {
                if let Some(from) = node.links.get(&link).copied() {
                    node.inbox.push_back(Input::Message(from, payload));
                }
            }
            Arrival::Closed { link, .. } => {
                let dialed = self.dialed.get(&link).copied();
                if let Some(to) = dialed.filter(|to| node.dialing.get(to) == Some(&link)) {
                    node.dialing.remove(&to);
                    node.redial.insert(to, again);
                }
                if let Some(peer) = node.links.remove(&link)
                    && !is_linked(node, peer)
                {
                    node.inbox.push_back(Input::Disconnected(peer));
                    if node.wanted_links.contains(&peer) {
                        node.redial.insert(peer, again);
                    }
                }
            }
            Arrival::Writable { .. } => {}
        }
    }
}
