//! The connections between the data cores of simulated nodes: what the virtual network brings and takes.

use super::builder::SimulationBuilder;
use super::cluster::ClusterSimulation;
use super::control::{Times, address_of};
use super::data_sockets::{DataSockets, Overheard};
use super::network::Arrival;
use super::port::{Handed, Port};
use super::world::Core;
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::time::Time;
use crate::engine::data_peers::DataPeers;
use crate::links::counters::LinkCounters;
use crate::wire::address::Life;
use crate::wire::hello::{CheckedIdentity, Identity};
use std::sync::Arc;

/// A node of which the test says who owns what.
pub(super) struct Given {
    pub(super) port: Port,
    pub(super) identity: Arc<CheckedIdentity>,
}

impl ClusterSimulation {
    /// The data cores of a node close their connections in good order, behind what they have to send, as they do before
    /// their process ends. [`has_parted`](ClusterSimulation::has_parted) says when that is over.
    pub fn part(&mut self, node: NodeId) {
        let now = self.time_at(node);
        self.tend(node, |data| data.links.shutdown(now));
    }

    /// Whether all connections of a node's data cores are closed, after [`part`](ClusterSimulation::part).
    pub fn has_parted(&mut self, node: NodeId) -> bool {
        let mut data = self.data_of(node);
        data.all(|data| data.links.is_done())
    }

    fn data_of(&mut self, node: NodeId) -> impl Iterator<Item = &DataSockets> {
        let cores = self.node(node).world.cores.iter();
        cores.flat_map(|core| core.data.as_deref())
    }

    /// Tells the cores of a node whom to connect to: each hears of it when it turns next, as a real one does.
    pub(super) fn set_peers(&mut self, node: NodeId, peers: DataPeers) {
        let Some(sim) = self.nodes.get_mut(&node) else {
            return;
        };
        let peers = Arc::new(peers);
        for core in 0..sim.world.cores.len() {
            if let Some(data) = &mut sim.world.cores[core].data {
                data.news = Some(peers.clone());
                sim.world.stir(core);
            }
        }
    }

    /// Does something for the connections of each core of a node, and what follows from it.
    pub(super) fn tend(&mut self, node: NodeId, mut work: impl FnMut(&mut DataSockets)) {
        let Some(sim) = self.nodes.get_mut(&node) else {
            return;
        };
        for data in sim.world.cores.iter_mut().flat_map(|core| &mut core.data) {
            data.is_stirred = true;
            work(data);
        }
        self.see_to(node);
    }

    /// From now on what leaves the nodes for other cores is kept.
    pub fn overhear(&mut self) {
        self.overheard = Some(Overheard::new());
    }

    /// What has left over connections that were up since the last call: the bytes of each direction of each connection.
    pub fn take_overheard(&mut self) -> Vec<Vec<u8>> {
        let overheard = self.overheard.as_mut().map(std::mem::take);
        overheard.unwrap_or_default().into_values().collect()
    }

    /// Has a core of a node receive bytes, over a connection of their own: that of a stranger who greets as a node of the
    /// cluster does, and says nothing else before or after.
    ///
    /// # Panics
    /// If the test has not started the node.
    pub fn receive(&mut self, node: NodeId, core: CoreId, bytes: &[u8]) {
        let Some(given) = self.given.get(&node) else {
            panic!("{node} is not there");
        };
        let now = Time::from_nanos(self.now);
        self.strangers
            .greet(&mut self.network, &given.identity, core, bytes, now);
    }

    /// Has somebody connect to the port of a node who sends these bytes, whatever they are, and nothing else.
    pub fn knock(&mut self, node: NodeId, bytes: &[u8]) {
        let now = self.now();
        self.strangers.knock(&mut self.network, node, bytes, now);
    }

    /// What the connections between data cores have done, of each core of a node.
    pub fn link_counters(&mut self, node: NodeId) -> Vec<LinkCounters> {
        let data = self.data_of(node);
        data.map(|data| data.links.counters().clone()).collect()
    }

    /// How many connections a node's data cores have, of all sorts, and the bytes of memory that these take.
    pub fn link_sizes(&mut self, node: NodeId) -> (usize, usize) {
        let data = self.data_of(node);
        data.fold((0, 0), |(count, bytes), data| {
            (count + data.links.len(), bytes + data.links.held_bytes())
        })
    }

    /// What a node says of itself whose owners the test gives.
    pub(super) fn identity(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        builder: &SimulationBuilder,
    ) -> Arc<CheckedIdentity> {
        let tables = builder.tables();
        let tables = tables.unwrap_or_else(|error| panic!("{node}: {error}"));
        let identity = Identity {
            cluster: "simulated".to_owned(),
            cluster_id: Some(1),
            life: Life::new(node, incarnation),
            cores: builder.data_cores() as u16 + 1,
            advertised: address_of(node).to_string(),
            limits: self.limits(),
            tables: Arc::new(tables),
        };
        let identity = identity.check();
        Arc::new(identity.unwrap_or_else(|error| panic!("{node}: {error}")))
    }

    /// After a node has done something: connects, closes, and sends what may leave.
    pub(super) fn see_to(&mut self, node: NodeId) {
        let now = self.times_at(node);
        let Some(sim) = self.nodes.get_mut(&node) else {
            return;
        };
        let (network, overheard) = (&mut self.network, &mut self.overheard);
        for number in 0..sim.world.cores.len() {
            let core = &mut sim.world.cores[number];
            let has_stopped = core.has_stopped();
            if has_stopped && let Some(data) = core.data.take() {
                for link in data.sockets() {
                    network.close(now.real, link, node);
                }
            }
            if core.data.as_ref().is_some_and(|data| data.is_stirred) {
                sim.world.tend(number, |engine, data| {
                    data.flush(engine, network, overheard, now)
                });
            }
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival<Vec<u8>>) {
        let (now, at) = (self.now(), arrival.at());
        if self.strangers.has(at) {
            return self.strangers.arrive(arrival, &mut self.network, now);
        }
        let local = self.time_at(at);
        let link = match &arrival {
            Arrival::Opened { link, .. }
            | Arrival::Received { link, .. }
            | Arrival::Writable { link, .. }
            | Arrival::Closed { link, .. } => *link,
            Arrival::Datagram { .. } => return self.arrive_at_control(arrival),
        };
        if let Some(sim) = self.nodes.get_mut(&at) {
            let of_link = |core: &Core| core.data.as_ref().is_some_and(|data| data.has(link));
            if let Some(core) = sim.world.cores.iter().position(of_link) {
                if let Some(data) = &mut sim.world.cores[core].data {
                    data.arrive(link, arrival);
                }
                return sim.world.stir(core);
            }
        }
        if self.governed.contains_key(&at) {
            return self.arrive_at_control(arrival);
        }
        let Some(given) = self.given.get_mut(&at) else {
            // Nobody is there (yet).
            if let Arrival::Opened { .. } = arrival {
                self.network.close(now, link, at);
            }
            return;
        };
        match arrival {
            Arrival::Opened { peer, .. } => given.port.opened(link, peer, local),
            _ => given.port.arrive(link, arrival),
        }
        self.turn_port(at);
    }

    pub(super) fn turn_port(&mut self, node: NodeId) {
        let Times { real, local } = self.times_at(node);
        if let Some(given) = self.given.get_mut(&node) {
            let handed = given
                .port
                .turn(&mut self.network, &mut self.rng, local, real);
            self.hand_over(node, handed);
        }
    }

    /// Gives connections that have come to a node to the data cores that they want.
    pub(super) fn hand_over(&mut self, node: NodeId, handed: Vec<Handed>) {
        let Times { real, local } = self.times_at(node);
        for handed in handed {
            let (link, core) = (handed.link, handed.core.index());
            let sim = self.nodes.get_mut(&node);
            let taken = sim.is_some_and(|sim| {
                let Some(data) = sim
                    .world
                    .cores
                    .get_mut(core)
                    .and_then(|it| it.data.as_mut())
                else {
                    return false;
                };
                let stays = data.accept(handed, local);
                sim.world.stir(core);
                stays
            });
            if !taken {
                self.network.close(real, link, node);
            }
        }
    }
}
