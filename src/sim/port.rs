//! The port of a simulated node: connections that have come and have not said whom they want.

use super::control::address_of;
use super::network::{Arrival, LinkId, Network};
use super::socket::Socket;
use crate::base::ids::{CoreId, NodeId};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::links::porch::{Guest, Porch, PorchOutput};
use crate::links::remote::ConnectionId;
use crate::wire::hello::CheckedIdentity;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A connection that has said which core it wants, with its socket.
pub(super) struct Handed {
    pub(super) link: LinkId,
    pub(super) core: CoreId,
    pub(super) guest: Guest,
    pub(super) socket: Socket,
}

/// The porch of a node, with the sockets that wait there.
pub(super) struct Port {
    node: NodeId,
    porch: Porch,
    waiting: BTreeMap<LinkId, (ConnectionId, Socket)>,
    names: BTreeMap<ConnectionId, LinkId>,
}

impl Port {
    pub(super) fn new(node: NodeId, porch: Porch) -> Port {
        Port {
            node,
            porch,
            waiting: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    pub(super) fn set_identity(&mut self, identity: Arc<CheckedIdentity>) {
        self.porch.set_identity(identity);
    }

    /// A connection of another node has come.
    pub(super) fn opened(&mut self, link: LinkId, peer: NodeId, now: Time) {
        let id = self.porch.arrived(address_of(peer).ip(), now);
        self.names.insert(id, link);
        self.waiting.insert(link, (id, Socket::default()));
    }

    /// Something has come from the network; it waits for the next turn. Nothing, if it is for no connection here.
    pub(super) fn arrive(&mut self, link: LinkId, arrival: Arrival<Vec<u8>>) {
        if let Some((_, socket)) = self.waiting.get_mut(&link) {
            socket.arrive(arrival);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.porch.deadline()
    }

    /// Reads what has come and does what is due; `real` is the time of the network. Gives those that know whom they want.
    pub(super) fn turn(
        &mut self,
        network: &mut Network<Vec<u8>>,
        rng: &mut Rng,
        now: Time,
        real: Time,
    ) -> Vec<Handed> {
        for (id, socket) in self.waiting.values_mut() {
            loop {
                let most = self.porch.wants(*id).min(socket.inbox.len());
                if most == 0 {
                    break;
                }
                let portion = rng.random_range(1..=most);
                let bytes: Vec<u8> = socket.inbox.drain(..portion).collect();
                self.porch.receive(*id, &bytes, now);
            }
            if socket.take_end().is_some() {
                self.porch.closed(*id, now);
            }
        }
        if self.porch.deadline().is_some_and(|due| due <= now) {
            self.porch.tick(now);
        }
        let mut handed = Vec::new();
        while let Some(output) = self.porch.next_output() {
            match output {
                PorchOutput::HandOver {
                    connection,
                    core,
                    guest,
                } => {
                    if let Some((link, socket)) = self.take(connection) {
                        handed.push(Handed {
                            link,
                            core,
                            guest: *guest,
                            socket,
                        });
                    }
                }
                PorchOutput::Close {
                    connection,
                    last_words,
                } => {
                    if let Some((link, _)) = self.take(connection) {
                        let length = last_words.len();
                        if length > 0 {
                            // Without waiting, as on a real socket.
                            let _ = network.send(real, link, self.node, last_words, length);
                        }
                        network.close(real, link, self.node);
                    }
                }
                PorchOutput::Note(_) => {}
            }
        }
        handed
    }

    fn take(&mut self, connection: ConnectionId) -> Option<(LinkId, Socket)> {
        let link = self.names.remove(&connection)?;
        let (_, socket) = self.waiting.remove(&link)?;
        Some((link, socket))
    }
}
