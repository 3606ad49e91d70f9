//! The connections of one simulated data core, with their sockets.

use super::control::{Times, node_at};
use super::network::{Arrival, LinkId, Network};
use super::port::Handed;
use super::socket::Socket;
use crate::base::ids::NodeId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::engine::core::Engine;
use crate::engine::data_links::{DataLinks, DataOutput};
use crate::engine::data_peers::DataPeers;
use crate::links::remote::ConnectionId;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What has left over each direction of a connection.
pub(super) type Overheard = BTreeMap<(LinkId, NodeId), Vec<u8>>;

/// The driver that [`DataLinks`] has here.
pub(super) struct DataSockets {
    node: NodeId,
    pub(super) links: DataLinks,
    sockets: BTreeMap<LinkId, (ConnectionId, Socket)>,
    names: BTreeMap<ConnectionId, LinkId>,
    rng: Rng,
    /// Who the other nodes are, which the core has yet to hear.
    pub(super) news: Option<Arc<DataPeers>>,
    /// It has come too late for the turn that it was told in.
    has_missed_news: bool,
    /// Something may have to be done for the network.
    pub(super) is_stirred: bool,
}

impl DataSockets {
    pub(super) fn new(node: NodeId, links: DataLinks, rng: Rng) -> DataSockets {
        DataSockets {
            node,
            links,
            sockets: BTreeMap::new(),
            names: BTreeMap::new(),
            rng,
            news: None,
            has_missed_news: false,
            is_stirred: true,
        }
    }

    pub(super) fn has(&self, link: LinkId) -> bool {
        self.sockets.contains_key(&link)
    }

    /// All sockets, for the end.
    pub(super) fn sockets(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.sockets.keys().copied()
    }

    /// Something has come from the network; it waits for the next turn.
    pub(super) fn arrive(&mut self, link: LinkId, arrival: Arrival<Vec<u8>>) {
        if let Some((_, socket)) = self.sockets.get_mut(&link) {
            socket.arrive(arrival);
        }
    }

    /// Takes a connection from the port. Returns whether it may stay.
    pub(super) fn accept(&mut self, handed: Handed, now: Time) -> bool {
        let Handed {
            link,
            guest,
            socket,
            ..
        } = handed;
        self.is_stirred = true;
        let Ok(connection) = self.links.accept(guest, now) else {
            return false;
        };
        self.names.insert(connection, link);
        self.sockets.insert(link, (connection, socket));
        true
    }

    /// Before a turn: reads, and has the core take what has come. Returns whether it has enough, and there is more.
    pub(super) fn pump(&mut self, engine: &mut Engine, now: Time) -> bool {
        self.is_stirred = true;
        // Between this and the turn there may be news, which the core hears in another way as well.
        let misses_news = self.news.is_some()
            && !std::mem::take(&mut self.has_missed_news)
            && self.rng.random_ratio(1, 8);
        if misses_news {
            self.has_missed_news = true;
        } else if let Some(peers) = self.news.take() {
            self.links.set_peers(&peers, now);
        }
        loop {
            let mut moved = false;
            for (connection, socket) in self.sockets.values_mut() {
                let links = &mut self.links;
                if std::mem::take(&mut socket.has_opened) {
                    links.connected(*connection, now);
                }
                let count = socket.read(&mut self.rng, |bytes| {
                    let spare = links.spare(*connection);
                    let count = spare.len().min(bytes.len());
                    spare[..count].copy_from_slice(&bytes[..count]);
                    links.filled(*connection, count, now);
                    count
                });
                moved |= count > 0;
                if let Some(gone) = socket.take_end() {
                    links.closed(*connection, gone, now);
                }
            }
            if self.links.receive(engine, now) {
                return true;
            }
            if !moved {
                return misses_news;
            }
        }
    }

    /// After a turn: connects, closes, and sends. Returns whether the core should turn again soon.
    pub(super) fn flush(
        &mut self,
        engine: &mut Engine,
        network: &mut Network<Vec<u8>>,
        overheard: &mut Option<Overheard>,
        now: Times,
    ) -> bool {
        self.is_stirred = false;
        self.links.settle(engine, now.local);
        loop {
            let followed = self.follow(network, now);
            let written = self.write(engine, network, overheard, now);
            if !followed && !written {
                break;
            }
        }
        let links = &mut self.links;
        let mut sockets = self.sockets.values();
        let can_read = sockets
            .any(|(connection, it)| !it.inbox.is_empty() && !links.spare(*connection).is_empty());
        can_read || links.takes_turn()
    }

    fn follow(&mut self, network: &mut Network<Vec<u8>>, now: Times) -> bool {
        let mut any = false;
        while let Some(output) = self.links.poll_output() {
            any = true;
            match output {
                DataOutput::Dial {
                    connection,
                    address,
                } => {
                    let node = address.parse().ok().and_then(node_at);
                    let Some(node) = node.filter(|node| *node != self.node) else {
                        let why = "there is no such address";
                        self.links.dial_failed(connection, why, now.local);
                        continue;
                    };
                    let link = network.connect(now.real, self.node, node);
                    self.names.insert(connection, link);
                    self.sockets.insert(link, (connection, Socket::default()));
                }
                DataOutput::Close { connection } => {
                    if let Some(link) = self.names.remove(&connection) {
                        self.sockets.remove(&link);
                        network.close(now.real, link, self.node);
                    }
                }
                DataOutput::Note(_) => {}
            }
        }
        any
    }

    /// Writes to every socket that takes something: some that were blocked have room by now.
    fn write(
        &mut self,
        engine: &mut Engine,
        network: &mut Network<Vec<u8>>,
        overheard: &mut Option<Overheard>,
        now: Times,
    ) -> bool {
        while self.links.next_to_write().is_some() {}
        let mut moved = false;
        for (link, (connection, socket)) in &mut self.sockets {
            if socket.is_blocked {
                continue;
            }
            let pending = self.links.pending(*connection);
            if pending.is_empty() {
                continue;
            }
            // Writes to a socket are cut anywhere.
            let most = [7, 1_000, 65_536, 1 << 20][self.rng.random_range(0..4)];
            let piece = pending[..pending.len().min(most)].to_vec();
            let length = piece.len();
            let heard = overheard
                .as_mut()
                .filter(|_| self.links.is_up(*connection))
                .map(|overheard| (overheard, piece.clone()));
            match network.send(now.real, *link, self.node, piece, length) {
                Ok(()) => {
                    if let Some((overheard, piece)) = heard {
                        overheard
                            .entry((*link, self.node))
                            .or_default()
                            .extend(piece);
                    }
                    self.links.sent(engine, *connection, length, now.local);
                    moved = true;
                }
                Err(_) => socket.is_blocked = true,
            }
        }
        moved
    }

    /// Whether nothing that has come waits to be looked at.
    pub(super) fn is_quiet(&self) -> bool {
        let mut sockets = self.sockets.values();
        self.links.is_quiet() && sockets.all(|(_, it)| it.inbox.is_empty() && !it.has_opened)
    }
}
