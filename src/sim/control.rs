//! The control plane of one simulated node on a virtual network and a disk that tears: the driver that
//! [`ControlPlane`] has here.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;

use super::disk::{MountedDisk, SimDisk};
use super::network::{Arrival, ClosedWhy, LinkId, Network};
use crate::base::ids::NodeId;
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::cluster::ledger_error::LedgerOpenError;
use crate::cluster::ledger_opening::LedgerOpening;
use crate::cluster::ledger_settings::LedgerSettings;
use crate::cluster::plane::{ControlPlane, Event, Output, PlaneSettings};
use crate::links::ending::Gone;
use crate::links::porch::{Porch, PorchOutput};
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
    sockets: BTreeMap<LinkId, Socket>,
    /// Sockets of connections on the porch.
    on_porch: BTreeMap<ConnectionId, LinkId>,
    /// Sockets of the plane's connections.
    links: BTreeMap<ConnectionId, LinkId>,
    datagrams: VecDeque<Vec<u8>>,
}

enum Phase {
    Opening(Box<LedgerOpening>),
    Running(Box<ControlPlane>, Box<Porch>),
}

struct Socket {
    place: Place,
    inbox: VecDeque<u8>,
    /// It opened, and the plane has not been told.
    has_opened: bool,
    is_blocked: bool,
    gone: Option<Gone>,
}

#[derive(Clone, Copy)]
enum Place {
    Porch(ConnectionId),
    Plane(ConnectionId),
}

impl Socket {
    fn new(place: Place) -> Socket {
        Socket {
            place,
            inbox: VecDeque::new(),
            has_opened: false,
            is_blocked: false,
            gone: None,
        }
    }
}

/// Where a simulated node is. Nodes up to 2²⁴ - 1 have addresses.
#[must_use]
pub fn address_of(node: NodeId) -> SocketAddr {
    let [_, a, b, c] = node.0.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 7_000))
}

/// Which simulated node is there.
fn node_at(address: SocketAddr) -> Option<NodeId> {
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
            on_porch: BTreeMap::new(),
            links: BTreeMap::new(),
            datagrams: VecDeque::new(),
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
            Phase::Running(plane, porch) => disk
                .min(plane.next_deadline())
                .min(porch.deadline().unwrap_or(Time::MAX)),
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
                Phase::Running(_, porch) => {
                    let id = porch.arrived(address_of(peer).ip(), now.local);
                    self.on_porch.insert(id, link);
                    self.sockets.insert(link, Socket::new(Place::Porch(id)));
                }
            },
            Arrival::Opened { link, .. } => {
                if let Some(socket) = self.sockets.get_mut(&link) {
                    socket.has_opened = true;
                }
            }
            Arrival::Received { link, payload, .. } => {
                if let Some(socket) = self.sockets.get_mut(&link) {
                    socket.inbox.extend(payload);
                }
            }
            Arrival::Writable { link, .. } => {
                if let Some(socket) = self.sockets.get_mut(&link) {
                    socket.is_blocked = false;
                }
            }
            Arrival::Closed { link, why, .. } => {
                if let Some(socket) = self.sockets.get_mut(&link) {
                    socket.gone = Some(match why {
                        ClosedWhy::ByPeer => Gone::Ended,
                        why => Gone::Broken(format!("{why:?}")),
                    });
                }
            }
        }
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
            let porch = Porch::new(&self.settings.links, identity, core, Vec::new())
                .unwrap_or_else(|error| panic!("{}: {error}", self.id));
            self.phase = Phase::Running(Box::new(plane), Box::new(porch));
        }
        self.deliver_datagrams(now);
        loop {
            let mut moved = self.read(network, now);
            if let Phase::Running(plane, porch) = &mut self.phase {
                if porch.deadline().is_some_and(|due| due <= now.local) {
                    porch.tick(now.local);
                }
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

    fn read(&mut self, network: &mut Network<Vec<u8>>, now: Times) -> bool {
        let open: Vec<LinkId> = self.sockets.keys().copied().collect();
        let mut moved = false;
        for link in open {
            for _ in 0..READS_PER_TURN {
                if !self.read_once(link, network, now) {
                    break;
                }
                moved = true;
            }
        }
        moved
    }

    /// Reads a portion, as a network may give it. Whether there was anything.
    fn read_once(&mut self, link: LinkId, network: &mut Network<Vec<u8>>, now: Times) -> bool {
        let Phase::Running(plane, porch) = &mut self.phase else {
            return false;
        };
        let Some(socket) = self.sockets.get_mut(&link) else {
            return false;
        };
        let has_ended = socket.inbox.is_empty();
        match socket.place {
            Place::Porch(id) => {
                let most = porch.wants(id).min(socket.inbox.len());
                if most > 0 {
                    let portion = self.rng.random_range(1..=most);
                    let bytes: Vec<u8> = socket.inbox.drain(..portion).collect();
                    porch.receive(id, &bytes, now.local);
                } else if has_ended && socket.gone.is_some() {
                    porch.closed(id, now.local);
                } else {
                    return false;
                }
                self.follow_porch(network, now);
                true
            }
            Place::Plane(id) => {
                if std::mem::take(&mut socket.has_opened) {
                    plane.connected(id, now.local);
                }
                let bytes = socket.inbox.make_contiguous();
                let portion = match bytes.len() {
                    0 => 0,
                    length => self.rng.random_range(1..=length),
                };
                let count = plane.links().take_in(id, &bytes[..portion], now.local);
                socket.inbox.drain(..count);
                let more = plane.received(id, now.local);
                if !more
                    && socket.inbox.is_empty()
                    && let Some(gone) = socket.gone.take()
                {
                    plane.links().closed(id, gone, now.local);
                    return true;
                }
                count > 0 || more
            }
        }
    }

    fn follow_porch(&mut self, network: &mut Network<Vec<u8>>, now: Times) -> bool {
        let Phase::Running(plane, porch) = &mut self.phase else {
            return false;
        };
        let mut any = false;
        while let Some(output) = porch.next_output() {
            any = true;
            match output {
                PorchOutput::HandOver {
                    connection, guest, ..
                } => {
                    let Some(link) = self.on_porch.remove(&connection) else {
                        continue;
                    };
                    match plane.accept(*guest, now.local) {
                        Ok(taken) => {
                            self.links.insert(taken, link);
                            if let Some(socket) = self.sockets.get_mut(&link) {
                                socket.place = Place::Plane(taken);
                            }
                        }
                        Err(_) => {
                            self.sockets.remove(&link);
                            network.close(now.real, link, self.id);
                        }
                    }
                }
                PorchOutput::Close {
                    connection,
                    last_words,
                } => {
                    if let Some(link) = self.on_porch.remove(&connection) {
                        self.sockets.remove(&link);
                        let length = last_words.len();
                        if length > 0 {
                            // Without waiting, as on a real socket.
                            let _ = network.send(now.real, link, self.id, last_words, length);
                        }
                        network.close(now.real, link, self.id);
                    }
                }
                PorchOutput::Note(_) => {}
            }
        }
        any
    }

    fn follow(
        &mut self,
        network: &mut Network<Vec<u8>>,
        now: Times,
        events: &mut Vec<Event>,
    ) -> bool {
        let mut any = self.follow_porch(network, now);
        let Phase::Running(plane, porch) = &mut self.phase else {
            return any;
        };
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
                    let socket = Socket::new(Place::Plane(connection));
                    self.sockets.insert(link, socket);
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
                        porch.set_identity(identity.clone());
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
            let Some(socket) = self.sockets.get_mut(link).filter(|it| !it.is_blocked) else {
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
