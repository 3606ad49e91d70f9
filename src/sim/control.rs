//! The control plane of one simulated node on a virtual network and a disk that tears: the driver that
//! [`ControlPlane`] has here.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;

use super::disk::{MountedDisk, SimDisk};
use super::network::{Arrival, LinkId, Network};
use super::port::{Handed, Port};
use super::socket::Socket;
use crate::base::ids::{CoreId, NodeId};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::cluster::ledger_error::LedgerOpenError;
use crate::cluster::ledger_opening::LedgerOpening;
use crate::cluster::ledger_settings::LedgerSettings;
use crate::cluster::plane::{ControlPlane, Event, Output, PlaneSettings};
use crate::links::porch::Porch;
use crate::links::remote::ConnectionId;

/// Reads of one connection in one turn; what is left waits for the next.
const READS_PER_TURN: u32 = 64;

/// The two times of a node: that of the network, and that which its own clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// That of the network, which all nodes have in common.
    pub real: Time,
    /// What this node's clock says at that moment.
    pub local: Time,
}

/// One process of a node, as far as its control plane goes, from its start to its end. Its disk outlives it.
///
/// [`arrive`](SimControl::arrive) takes what the network brings, [`turn`](SimControl::turn) does what there is to do and
/// gives what it has to tell, and [`next_event`](SimControl::next_event) says when to turn it next.
pub struct SimControl {
    id: NodeId,
    settings: PlaneSettings,
    disk: SimDisk,
    store: MountedDisk,
    rng: Rng,
    phase: Phase,
    sockets: BTreeMap<LinkId, (ConnectionId, Socket)>,
    /// Sockets of the plane's connections.
    links: BTreeMap<ConnectionId, LinkId>,
    datagrams: VecDeque<Vec<u8>>,
    /// Connections that have come for data cores.
    guests: Vec<Handed>,
}

enum Phase {
    Opening(Box<LedgerOpening>),
    Running(Box<ControlPlane>, Box<Port>),
}

/// Where a simulated node is. Nodes up to 2²⁴ - 1 have addresses.
#[must_use]
pub fn address_of(node: NodeId) -> SocketAddr {
    let [_, a, b, c] = node.0.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 7_000))
}

/// Which simulated node is there.
pub(super) fn node_at(address: SocketAddr) -> Option<NodeId> {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [ten, a, b, c] = ip.octets();
            (ten == 10).then(|| NodeId(u32::from_be_bytes([0, a, b, c])))
        }
        IpAddr::V6(_) => None,
    }
}

impl SimControl {
    /// Starts the process of a node on its disk, which it begins to read.
    ///
    /// # Errors
    /// If the sizes of its ledger make no sense.
    pub fn start(
        settings: PlaneSettings,
        disk: &SimDisk,
        mut rng: Rng,
    ) -> Result<SimControl, LedgerOpenError> {
        let id = settings.node.node;
        let sizes = LedgerSettings::for_consensus(&settings.node.consensus);
        let opening = LedgerOpening::new(sizes, id, None, &mut rng)?;
        Ok(SimControl {
            id,
            settings,
            disk: disk.clone(),
            store: disk.mount(),
            rng,
            phase: Phase::Opening(Box::new(opening)),
            sockets: BTreeMap::new(),
            links: BTreeMap::new(),
            datagrams: VecDeque::new(),
            guests: Vec::new(),
        })
    }

    /// The control plane, once the disk has been read.
    #[must_use]
    pub fn plane(&self) -> Option<&ControlPlane> {
        match &self.phase {
            Phase::Opening(_) => None,
            Phase::Running(plane, _) => Some(plane),
        }
    }

    /// The same, to be told something. Turn it afterwards.
    #[must_use]
    pub fn plane_mut(&mut self) -> Option<&mut ControlPlane> {
        match &mut self.phase {
            Phase::Opening(_) => None,
            Phase::Running(plane, _) => Some(plane),
        }
    }

    /// When to turn it next, by its own clock, if nothing arrives before.
    #[must_use]
    pub fn next_event(&self) -> Time {
        let disk = self.disk.next_due().unwrap_or(Time::MAX);
        match &self.phase {
            Phase::Opening(_) => disk,
            Phase::Running(plane, port) => disk
                .min(plane.next_deadline())
                .min(port.deadline().unwrap_or(Time::MAX)),
        }
    }

    /// Something has come from the network. It waits for the next turn.
    pub fn arrive(
        &mut self,
        arrival: Arrival<Vec<u8>>,
        network: &mut Network<Vec<u8>>,
        now: Times,
    ) {
        match arrival {
            Arrival::Datagram { payload, .. } => self.datagrams.push_back(payload),
            Arrival::Opened {
                link,
                peer,
                connected: false,
                ..
            } => match &mut self.phase {
                // Nobody listens yet.
                Phase::Opening(_) => network.close(now.real, link, self.id),
                Phase::Running(_, port) => port.opened(link, peer, now.local),
            },
            Arrival::Opened { link, .. }
            | Arrival::Received { link, .. }
            | Arrival::Writable { link, .. }
            | Arrival::Closed { link, .. } => {
                if let Some((_, socket)) = self.sockets.get_mut(&link) {
                    socket.arrive(arrival);
                } else if let Phase::Running(_, port) = &mut self.phase {
                    port.arrive(link, arrival);
                }
            }
        }
    }

    /// The connections that have come for data cores since the last call. Whoever wants none closes them.
    pub(super) fn take_guests(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.guests)
    }

    /// This turn is late by so much, because the node stood still.
    pub fn stalled(&mut self, late: Duration, now: Times) {
        if let Phase::Running(plane, _) = &mut self.phase {
            plane.stalled(late, now.local);
        }
    }

    /// Does what there is to do; what it has to tell.
    ///
    /// # Errors
    /// If the ledger on its disk cannot be opened: the process ends.
    ///
    /// # Panics
    /// If the settings contradict each other.
    pub fn turn(
        &mut self,
        network: &mut Network<Vec<u8>>,
        now: Times,
    ) -> Result<Vec<Event>, LedgerOpenError> {
        let mut events = Vec::new();
        if let Phase::Opening(opening) = &mut self.phase {
            let Some(opened) = opening.turn(now.local, &mut self.store)? else {
                return Ok(events);
            };
            let rng = seeded(self.rng.random(), 0);
            let plane = ControlPlane::start(self.settings.clone(), opened, rng, now.local)
                .unwrap_or_else(|error| panic!("{}: {error}", self.id));
            let identity = plane.identity().clone();
            let core = self.settings.core;
            let data = (0..self.settings.node.data_cores).map(CoreId);
            let porch = Porch::new(&self.settings.links, identity, core, data.collect())
                .unwrap_or_else(|error| panic!("{}: {error}", self.id));
            let port = Port::new(self.id, porch);
            self.phase = Phase::Running(Box::new(plane), Box::new(port));
        }
        self.deliver_datagrams(now);
        loop {
            let mut moved = self.turn_port(network, now);
            moved |= self.read(now);
            if let Phase::Running(plane, _) = &mut self.phase {
                plane.turn(now.local, &mut self.store);
            }
            moved |= self.follow(network, now, &mut events);
            moved |= self.write(network, now);
            if !moved {
                return Ok(events);
            }
        }
    }

    fn deliver_datagrams(&mut self, now: Times) {
        if let Phase::Running(plane, _) = &mut self.phase {
            for datagram in self.datagrams.drain(..) {
                plane.datagram(&datagram, now.local);
            }
        }
    }

    /// Takes connections that have said whom they want. Whether there were any.
    fn turn_port(&mut self, network: &mut Network<Vec<u8>>, now: Times) -> bool {
        let Phase::Running(plane, port) = &mut self.phase else {
            return false;
        };
        let mut any = false;
        for handed in port.turn(network, &mut self.rng, now.local, now.real) {
            any = true;
            if handed.core != self.settings.core {
                self.guests.push(handed);
                continue;
            }
            match plane.accept(handed.guest, now.local) {
                Ok(taken) => {
                    self.links.insert(taken, handed.link);
                    self.sockets.insert(handed.link, (taken, handed.socket));
                }
                Err(_) => network.close(now.real, handed.link, self.id),
            }
        }
        any
    }

    fn read(&mut self, now: Times) -> bool {
        let open: Vec<LinkId> = self.sockets.keys().copied().collect();
        let mut moved = false;
        for link in open {
            for _ in 0..READS_PER_TURN {
                if !self.read_once(link, now) {
                    break;
                }
                moved = true;
            }
        }
        moved
    }

    /// Reads a portion, as a network may give it. Whether there was anything.
    fn read_once(&mut self, link: LinkId, now: Times) -> bool {
        let Phase::Running(plane, _) = &mut self.phase else {
            return false;
        };
        let Some((id, socket)) = self.sockets.get_mut(&link) else {
            return false;
        };
        let id = *id;
        if std::mem::take(&mut socket.has_opened) {
            plane.connected(id, now.local);
        }
        let count = socket.read(&mut self.rng, |bytes| {
            plane.links().take_in(id, bytes, now.local)
        });
        let more = plane.received(id, now.local);
        if !more && let Some(gone) = socket.take_end() {
            plane.links().closed(id, gone, now.local);
            return true;
        }
        count > 0 || more
    }

    fn follow(
        &mut self,
        network: &mut Network<Vec<u8>>,
        now: Times,
        events: &mut Vec<Event>,
    ) -> bool {
        let Phase::Running(plane, port) = &mut self.phase else {
            return false;
        };
        let mut any = false;
        while let Some(output) = plane.poll_output() {
            any = true;
            match output {
                Output::Dial {
                    connection,
                    address,
                } => {
                    let node = address.parse().ok().and_then(node_at);
                    let Some(node) = node.filter(|node| *node != self.id) else {
                        plane.dial_failed(connection, "there is no such address", now.local);
                        continue;
                    };
                    let link = network.connect(now.real, self.id, node);
                    self.links.insert(connection, link);
                    self.sockets.insert(link, (connection, Socket::default()));
                }
                Output::Close { connection } => {
                    if let Some(link) = self.links.remove(&connection) {
                        self.sockets.remove(&link);
                        network.close(now.real, link, self.id);
                    }
                }
                Output::Datagram { to, bytes } => {
                    if let Some(node) = node_at(to) {
                        network.send_datagram(now.real, self.id, node, bytes);
                    }
                }
                Output::Event(event) => {
                    if let Event::Identity(identity) = &event {
                        port.set_identity(identity.clone());
                    }
                    events.push(event);
                }
            }
        }
        any
    }

    fn write(&mut self, network: &mut Network<Vec<u8>>, now: Times) -> bool {
        let Phase::Running(plane, _) = &mut self.phase else {
            return false;
        };
        // All sockets are tried, also those that were blocked.
        while plane.links().next_to_write().is_some() {}
        let mut moved = false;
        for (connection, link) in &self.links {
            let Some((_, socket)) = self.sockets.get_mut(link).filter(|it| !it.1.is_blocked) else {
                continue;
            };
            let pending = plane.links().pending(*connection);
            if pending.is_empty() {
                continue;
            }
            let portion = match self.rng.random_bool(0.2) {
                true => self.rng.random_range(1..=pending.len()),
                false => pending.len(),
            };
            let bytes = pending[..portion].to_vec();
            match network.send(now.real, *link, self.id, bytes, portion) {
                Ok(()) => {
                    plane.links().sent(*connection, portion, now.local);
                    moved = true;
                }
                Err(_) => socket.is_blocked = true,
            }
        }
        moved
    }
}
