//! The driver of simulated nodes that are nothing but their connections: sockets of the virtual network to porch and cores,
//! in the order that they ask for, and the judge's record of every frame.

use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::base::stable_hash::stable_hash;
use corecast::links::ending::Gone;
use corecast::links::output::{Output, Took};
use corecast::links::porch::PorchOutput;
use corecast::links::remote::ConnectionId;
use corecast::rand::RngExt;
use corecast::sim::network::{Arrival, ClosedWhy, LinkId, Network};
use corecast::wire::credit::Credit;

use crate::links_world::{Node, Socket, World, connection_of, ip, ms};

impl World {
    pub fn arrive(&mut self, at: NodeId, arrival: Arrival<Vec<u8>>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        match arrival {
            Arrival::Opened {
                link,
                peer,
                connected: false,
                ..
            } => {
                let id = node.porch.arrived(ip(peer), now);
                node.on_porch.insert(id, link);
                node.sockets.insert(link, Socket::new((None, id)));
            }
            Arrival::Opened { link, .. } => {
                if let Some(Socket {
                    place: (Some(core), id),
                    ..
                }) = node.sockets.get(&link)
                {
                    node.cores[*core].connected(*id, now);
                }
            }
            Arrival::Received { link, payload, .. } => {
                if let Some(socket) = node.sockets.get_mut(&link).filter(|it| !it.is_deaf) {
                    socket.inbox.extend(payload);
                }
            }
            Arrival::Writable { link, .. } => {
                if let Some(socket) = node.sockets.get_mut(&link) {
                    socket.is_blocked = false;
                }
            }
            Arrival::Closed { link, why, .. } => {
                if let Some(socket) = node.sockets.get_mut(&link).filter(|it| !it.is_deaf) {
                    socket.gone = Some(match why {
                        ClosedWhy::ByPeer => Gone::Ended,
                        why => Gone::Broken(format!("{why:?}")),
                    });
                }
            }
            Arrival::Datagram { .. } => {}
        }
    }

    /// The driver of one node: bytes in, outputs, bytes out, until nothing moves.
    pub fn turn(&mut self, id: NodeId) {
        loop {
            let mut moved = self.read(id);
            moved |= self.take_outputs(id);
            moved |= self.write(id);
            if !moved {
                return;
            }
        }
    }

    fn read(&mut self, id: NodeId) -> bool {
        let now = self.now;
        let mut moved = false;
        let links: Vec<LinkId> = self
            .nodes
            .get(&id)
            .map_or(Vec::new(), |node| node.sockets.keys().copied().collect());
        for link in links {
            loop {
                let Some(node) = self.nodes.get_mut(&id) else {
                    return moved;
                };
                let Some(socket) = node.sockets.get_mut(&link) else {
                    break;
                };
                let (core, connection) = socket.place;
                let Some(core) = core else {
                    let wants = node.porch.wants(connection).min(socket.inbox.len());
                    if wants > 0 {
                        // In portions, as a network may.
                        let portion = self.rng.random_range(1..=wants);
                        let bytes: Vec<u8> = socket.inbox.drain(..portion).collect();
                        node.porch.receive(connection, &bytes, now);
                        moved = true;
                        self.take_porch_outputs(id);
                        continue;
                    }
                    if socket.gone.is_some() && socket.inbox.is_empty() {
                        node.porch.closed(connection, now);
                        moved = true;
                        self.take_porch_outputs(id);
                    }
                    break;
                };
                let bytes = socket.inbox.make_contiguous();
                let portion = match bytes.len() {
                    0 => 0,
                    length => self.rng.random_range(1..=length),
                };
                let count = node.cores[core].take_in(connection, &bytes[..portion], now);
                socket.inbox.drain(..count);
                let mut took = count > 0;
                if node.busy_until[core] <= now {
                    took |= self.receive(id, core, connection);
                }
                let Some(node) = self.nodes.get_mut(&id) else {
                    return true;
                };
                if let Some(socket) = node.sockets.get_mut(&link)
                    && socket.inbox.is_empty()
                    && !took
                    && node.busy_until[core] <= now
                    && let Some(gone) = socket.gone.take()
                {
                    node.cores[core].closed(connection, gone, now);
                    took = true;
                }
                moved |= took;
                if !took {
                    break;
                }
            }
        }
        moved
    }

    /// The core takes frames; some it keeps for a while.
    fn receive(&mut self, id: NodeId, core: usize, connection: ConnectionId) -> bool {
        let now = self.now;
        let mut moved = false;
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let run = node.run;
            let most = self.rng.random_range(1..=8);
            let (rng, directions, kept) = (&mut self.rng, &mut self.directions, &mut node.kept);
            let ups = &self.ups;
            let mut digests = Vec::new();
            let received = node.cores[core].receive(connection, most, now, |_, arrived| {
                let payload = arrived.frame.payload().bytes();
                let word = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().unwrap());
                let long = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
                assert!(payload.len() >= 24 && payload[24..].iter().all(|byte| *byte == 0xAB));
                let from = NodeId(word(0));
                assert_eq!(from, arrived.remote.node, "the remote is who sent it");
                assert_eq!(arrived.life.node, from);
                let there = arrived.frame.header().sender.core.0;
                let end = (from, word(4), usize::from(there), connection_of(long(8)));
                let number = long(16);
                let here = (id, run, core, connection);
                assert_eq!(
                    ups.get(&(id, core, arrived.remote)),
                    Some(&connection),
                    "the core has heard that the connection is up"
                );
                let direction = directions
                    .get_mut(&end)
                    .expect("a connection that sent something");
                assert_eq!(
                    *direction.receiver.get_or_insert(here),
                    here,
                    "one connection, one receiver"
                );
                assert_eq!(
                    number,
                    direction.delivered + 1,
                    "in order, without gaps: {end:?} to {here:?}"
                );
                assert!(number <= direction.accepted);
                direction.delivered = number;
                if let Some(down) = &direction.down {
                    assert!(
                        number <= down.handed,
                        "what was said not to have left came: {down:?}"
                    );
                }
                digests.push(stable_hash(payload));
                if core > 0 && rng.random_bool(0.1) {
                    let credit = Credit {
                        frames: 1,
                        bytes: arrived.frame.bytes().len() as u64,
                    };
                    let until = now + ms(rng.random_range(1..500));
                    kept.push((until, core, connection, credit));
                    Took::Held
                } else {
                    Took::Done
                }
            });
            self.trace.extend(digests);
            moved |= received.frames > 0;
            moved |= self.take_outputs(id);
            if !received.more {
                return moved;
            }
        }
    }

    fn take_porch_outputs(&mut self, id: NodeId) -> bool {
        let now = self.now;
        let mut moved = false;
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        while let Some(output) = node.porch.next_output() {
            moved = true;
            match output {
                PorchOutput::HandOver {
                    connection,
                    core,
                    guest,
                } => {
                    let link = node.on_porch.remove(&connection).unwrap();
                    let core = usize::from(core.0);
                    match node.cores[core].accept(*guest, now) {
                        Ok(taken) => {
                            node.sockets.get_mut(&link).unwrap().place = (Some(core), taken);
                            node.by_connection.insert((core, taken), link);
                        }
                        Err(_) => close(node, &mut self.network, (now, id), link),
                    }
                }
                PorchOutput::Close {
                    connection,
                    last_words,
                } => {
                    let link = node.on_porch.remove(&connection).unwrap();
                    let length = last_words.len();
                    if length > 0 && !node.sockets[&link].is_mute {
                        let _ = self.network.send(now, link, id, last_words, length);
                    }
                    close(node, &mut self.network, (now, id), link);
                }
                PorchOutput::Note(_) => {}
            }
        }
        moved
    }

    fn take_outputs(&mut self, id: NodeId) -> bool {
        let now = self.now;
        let mut moved = self.take_porch_outputs(id);
        let Some(node) = self.nodes.get_mut(&id) else {
            return moved;
        };
        for core in 0..node.cores.len() {
            while let Some(output) = node.cores[core].next_output() {
                moved = true;
                self.trace.push(stable_hash(
                    format!("{now} {id} {core} {output:?}").as_bytes(),
                ));
                match output {
                    Output::Dial {
                        connection,
                        remote,
                        address,
                    } => {
                        assert_eq!(address, format!("node{}:4000", remote.node.0));
                        let link = self.network.connect(now, id, remote.node);
                        node.sockets
                            .insert(link, Socket::new((Some(core), connection)));
                        node.by_connection.insert((core, connection), link);
                    }
                    Output::Close { connection } => {
                        let link = node.by_connection.remove(&(core, connection)).unwrap();
                        close(node, &mut self.network, (now, id), link);
                    }
                    Output::Up(up) => {
                        self.last_change = now;
                        let old = self.ups.insert((id, core, up.remote), up.connection);
                        assert_eq!(old, None, "one at a time");
                    }
                    Output::Down(down) => {
                        self.last_change = now;
                        let old = self.ups.remove(&(id, core, down.remote));
                        assert_eq!(old, Some(down.connection));
                        *self.downs.entry(down.why.class()).or_default() += 1;
                        let direction = self
                            .directions
                            .entry((id, node.run, core, down.connection))
                            .or_default();
                        assert_eq!(
                            down.accepted, direction.accepted,
                            "every frame is accounted for"
                        );
                        assert!(direction.delivered <= down.handed && down.handed <= down.accepted);
                        if down.in_order {
                            self.in_order += 1;
                            assert_eq!(
                                direction.delivered, direction.accepted,
                                "nothing is lost in order: {down:?}"
                            );
                        }
                        direction.down = Some(*down);
                    }
                    Output::Room { .. } => self.rooms += 1,
                    Output::Unreached { .. } => {}
                    Output::Note(_) => {}
                }
            }
        }
        moved
    }

    fn write(&mut self, id: NodeId) -> bool {
        let now = self.now;
        let mut moved = false;
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        for core in 0..node.cores.len() {
            // All sockets are tried below; here it is only that those named are there.
            while let Some(connection) = node.cores[core].next_to_write() {
                assert!(node.by_connection.contains_key(&(core, connection)));
            }
        }
        let sockets: Vec<(LinkId, usize, ConnectionId)> = node
            .sockets
            .iter()
            .filter(|(_, socket)| !socket.is_blocked)
            .filter_map(|(link, socket)| Some((*link, socket.place.0?, socket.place.1)))
            .collect();
        for (link, core, connection) in sockets {
            let pending = node.cores[core].pending(connection);
            if pending.is_empty() {
                continue;
            }
            let portion = self.rng.random_range(1..=pending.len());
            let portion = if self.rng.random_bool(0.5) {
                portion
            } else {
                pending.len()
            };
            let bytes = pending[..portion].to_vec();
            if node.sockets[&link].is_mute {
                node.cores[core].sent(connection, portion, now);
                moved = true;
                continue;
            }
            match self.network.send(now, link, id, bytes, portion) {
                Ok(()) => {
                    node.cores[core].sent(connection, portion, now);
                    moved = true;
                }
                Err(_) => {
                    if let Some(socket) = node.sockets.get_mut(&link) {
                        socket.is_blocked = true;
                    }
                }
            }
        }
        moved
    }
}

/// A node lets go of a socket.
fn close(node: &mut Node, network: &mut Network<Vec<u8>>, at: (Time, NodeId), link: LinkId) {
    let socket = node.sockets.remove(&link);
    if !socket.is_some_and(|socket| socket.is_mute) {
        network.close(at.0, link, at.1);
    }
}
