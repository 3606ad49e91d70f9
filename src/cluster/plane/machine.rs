//! The state machine of a control plane.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Event, Output, PlaneStartError};
use super::recording::{Recording, record_of};
use super::settings::PlaneSettings;
use crate::base::ids::{Incarnation, NodeId, ShardKey};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::cluster::ledger::Ledger;
use crate::cluster::ledger_error::FactRefused;
use crate::cluster::ledger_opening::OpenedLedger;
use crate::cluster::message::{ControlMessage, MAX_CONTROL_BYTES};
use crate::cluster::node::output::{Found, Output as NodeOutput, WantError};
use crate::cluster::node::{ClusterNode, output::StopCause};
use crate::consensus::peer::NodeLife;
use crate::links::links::Links;
use crate::links::output::{Arrived, Output as LinkOutput, Took};
use crate::links::porch::Guest;
use crate::links::refusal::Turned;
use crate::links::remote::{ConnectionId, Remote};
use crate::log::LogStore;
use crate::wire::address::{Life, Sender, Target};
use crate::wire::header::{HEADER_BYTES, Header};
use crate::wire::hello::CheckedIdentity;
use crate::wire::preamble::Purpose;
use rand::RngExt;

/// Frames taken of one connection in one turn, so that no peer starves the others.
const FRAMES_PER_TURN: usize = 256;

/// The longest control message, with its header and padding.
const LEAST_FRAME_BYTES: usize = MAX_CONTROL_BYTES + 2 * HEADER_BYTES;

/// The control plane of one node, without its sockets, its files and its clock.
///
/// # Order of calls
///
/// Each turn, whoever drives it
///
/// 1. says how late the turn is, if it is ([`stalled`](ControlPlane::stalled));
/// 2. hands in what has happened: [`accept`](ControlPlane::accept), [`connected`](ControlPlane::connected),
///    [`dial_failed`](ControlPlane::dial_failed), [`datagram`](ControlPlane::datagram), and the bytes of connections, by
///    [`links`](ControlPlane::links), with [`received`](ControlPlane::received) behind them;
/// 3. calls [`turn`](ControlPlane::turn), which takes what the disk has done, does what is due, and hands the disk what is
///    to be written;
/// 4. takes [`poll_output`](ControlPlane::poll_output) until there is nothing, and writes the bytes that
///    [`Links::next_to_write`] names;
/// 5. comes back at [`next_deadline`](ControlPlane::next_deadline) at the latest, or when something has happened.
///
/// The outputs of one turn are done before the next begins. After [`Event::Stopped`] it only closes its connections, which
/// [`is_done`](ControlPlane::is_done) says to be over.
///
/// # Who it says it is
///
/// Before it is let in a node has no life, but connections need one: it says the one after its last, which is the lowest
/// that it can be given, and higher than that which peers may still have a dead connection with. When it is let in, it
/// says its life; where that is another, or the cluster is news, connections that stand are made anew, once.
///
/// # Bounds
///
/// Those of [`ClusterNode`], [`Links`] and [`Ledger`]. While the disk is behind, messages that would give it more to
/// write are dropped, which their senders repeat; what keeps the node alive, heartbeats, requests and leases, is not.
pub struct ControlPlane {
    settings: PlaneSettings,
    node: ClusterNode,
    links: Links,
    ledger: Ledger,
    recording: Recording,
    identity: Arc<CheckedIdentity>,
    outputs: VecDeque<Output>,
    /// Messages that were dropped because the disk was behind.
    dropped: u64,
    ledger_has_failed: bool,
    stopped: bool,
}

impl ControlPlane {
    /// Starts with what the ledger held. `rng` must be seeded differently in each start.
    ///
    /// # Errors
    /// [`PlaneStartError`]; nothing has been written.
    pub fn start(
        settings: PlaneSettings,
        opened: OpenedLedger,
        mut rng: Rng,
        now: Time,
    ) -> Result<ControlPlane, PlaneStartError> {
        let frame_bytes = settings.limits.frame_bytes;
        if frame_bytes < LEAST_FRAME_BYTES {
            return Err(PlaneStartError::Frames {
                frame_bytes,
                least: LEAST_FRAME_BYTES,
            });
        }
        let OpenedLedger {
            ledger, recovered, ..
        } = opened;
        let last = ledger.facts().incarnation;
        let provisional = Incarnation(last.0.saturating_add(1));
        let cluster = ledger.facts().cluster.map(|cluster| cluster.0);
        let identity = settings.identity(provisional, cluster)?;
        let links = Links::new(
            settings.links.clone(),
            Purpose::Control,
            settings.core,
            Arc::clone(&identity),
            seeded(rng.random(), 0),
        )?;
        let found = Found {
            record: record_of(ledger.facts()),
            log: recovered,
        };
        let node = ClusterNode::start(settings.node.clone(), found, rng, now)?;
        let mut plane = ControlPlane {
            recording: Recording::new(ledger.facts()),
            settings,
            node,
            links,
            ledger,
            identity: Arc::clone(&identity),
            outputs: VecDeque::new(),
            dropped: 0,
            ledger_has_failed: false,
            stopped: false,
        };
        plane.tell(Event::Identity(identity));
        plane.settle(now);
        Ok(plane)
    }

    /// The node's part in the cluster, to be asked.
    #[must_use]
    pub fn node(&self) -> &ClusterNode {
        &self.node
    }

    /// The ledger, to be asked.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The control connections: bytes go in and out here.
    #[must_use]
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// What the node says of itself on connections.
    #[must_use]
    pub fn identity(&self) -> &Arc<CheckedIdentity> {
        &self.identity
    }

    /// How many messages were dropped because the disk was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// This turn is late by so much: what has come meanwhile has waited for this node.
    pub fn stalled(&mut self, late: Duration, now: Time) {
        self.links.stalled(late);
        self.node.stalled(late, now);
    }

    /// Takes a connection that came in by the porch.
    ///
    /// # Errors
    /// If it is turned away: close it.
    pub fn accept(&mut self, guest: Guest, now: Time) -> Result<ConnectionId, Turned> {
        self.links.accept(guest, now)
    }

    /// The socket of a dial is connected.
    pub fn connected(&mut self, connection: ConnectionId, now: Time) {
        self.links.connected(connection, now);
    }

    /// The socket of a dial does not connect, for a reason in words. Close it: no [`Output::Close`] follows.
    pub fn dial_failed(&mut self, connection: ConnectionId, why: &str, now: Time) {
        self.links.dial_failed(connection, why, now);
    }

    /// A datagram has come to the node's address.
    pub fn datagram(&mut self, bytes: &[u8], now: Time) {
        self.node.handle_datagram(bytes, now);
    }

    /// Bytes of a connection were [filled](Links::filled) in: takes the frames in them. Returns whether there may be more; then
    /// call it again after the next [`turn`](ControlPlane::turn).
    pub fn received(&mut self, connection: ConnectionId, now: Time) -> bool {
        // The node hears of a connection before it hears from it.
        self.follow_links(now);
        let (node, dropped) = (&mut self.node, &mut self.dropped);
        let is_behind = self.ledger.is_behind();
        let received = self.links.receive(
            connection,
            FRAMES_PER_TURN,
            now,
            |_, Arrived { remote, frame, .. }| {
                match ControlMessage::decode(frame.kind(), frame.payload().bytes()) {
                    Ok(message) if is_behind && message.is_to_be_written() => *dropped += 1,
                    Ok(message) => node.handle_message(remote.node, message, now),
                    Err(error) => node.handle_garbage(remote.node, error, now),
                }
                Took::Done
            },
        );
        self.follow_links(now);
        received.more
    }

    /// Takes what the disk has done, does what is due, and hands the disk what is to be written.
    pub fn turn(&mut self, now: Time, store: &mut (impl LogStore + ?Sized)) {
        // Inputs before time: an answer that waited is not taken for silence.
        self.turn_ledger(now, store);
        self.settle(now);
        if self.links.deadline().is_some_and(|due| due <= now) {
            self.links.tick(now);
        }
        if self.node.next_deadline() <= now {
            self.node.tick(now);
        }
        loop {
            self.settle(now);
            if !self.turn_ledger(now, store) {
                break;
            }
        }
    }

    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`turn`](ControlPlane::turn) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let links = self.links.deadline().unwrap_or(Time::MAX);
        self.node.next_deadline().min(links)
    }

    /// Somebody here has something for a shard that nobody owns.
    ///
    /// # Errors
    /// [`WantError`]; nothing has changed.
    pub fn want_shard(&mut self, shard: ShardKey, now: Time) -> Result<(), WantError> {
        self.node.want_shard(shard, now)
    }

    /// A shard that moves here has arrived as a whole; see [`ClusterNode::shard_arrived`].
    pub fn shard_arrived(&mut self, shard: ShardKey, prepared: u64, now: Time) {
        self.node.shard_arrived(shard, prepared, now);
    }

    /// A move in which this node takes part cannot be made; see [`ClusterNode::shard_refused`].
    pub fn shard_refused(&mut self, shard: ShardKey, prepared: u64, now: Time) {
        self.node.shard_refused(shard, prepared, now);
    }

    /// All cores of this node have parted with a life that leaves; see [`ClusterNode::parted`].
    pub fn parted(&mut self, life: NodeLife, now: Time) {
        self.node.parted(life, now);
    }

    /// The name of a seed stands for these addresses now; see [`ClusterNode::seed_found`].
    pub fn seed_found(
        &mut self,
        seed: NodeId,
        addresses: &[SocketAddr],
        now: Time,
    ) -> Option<SocketAddr> {
        self.node.seed_found(seed, addresses, now)
    }

    /// This node is to leave; see [`ClusterNode::leave`].
    pub fn leave(&mut self, now: Time) {
        self.node.leave(now);
    }

    /// Closes all connections in good order and has the ledger write everything, for the end of the process.
    /// [`is_done`](ControlPlane::is_done) says when that is over; the node takes part until then.
    pub fn shutdown(&mut self, now: Time) {
        self.links.shutdown(now);
        self.ledger.flush();
    }

    /// Whether connections are closed and everything is written, after [`shutdown`](ControlPlane::shutdown) or
    /// [`Event::Stopped`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.links.is_done() && self.ledger.is_idle()
    }

    /// Whether anything has become durable, or the ledger has failed just now: then the node has something to say.
    fn turn_ledger(&mut self, now: Time, store: &mut (impl LogStore + ?Sized)) -> bool {
        if self.ledger.failed().is_some() {
            return false;
        }
        let turned = self.ledger.turn(now, store);
        let any = self.recording.tell(&mut self.ledger, &mut self.node, now);
        match turned {
            Ok(_) => any,
            Err(error) => {
                self.ledger_failed(error.into());
                true
            }
        }
    }

    fn ledger_failed(&mut self, error: FactRefused) {
        if !self.ledger_has_failed && !self.stopped {
            self.ledger_has_failed = true;
            self.tell(Event::LedgerFailed(error));
            self.node.write_failed();
        }
    }

    /// Does what node and connections want until neither wants anything.
    fn settle(&mut self, now: Time) {
        while self.follow_links(now) | self.follow_node(now) {}
    }

    /// Whether there was anything.
    fn follow_links(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.links.next_output() {
            any = true;
            match output {
                LinkOutput::Dial {
                    connection,
                    address,
                    ..
                } => self.outputs.push_back(Output::Dial {
                    connection,
                    address,
                }),
                LinkOutput::Close { connection } => {
                    self.outputs.push_back(Output::Close { connection });
                }
                LinkOutput::Up(up) => self.node.connected(up.remote.node, now),
                LinkOutput::Down(down) => self.node.disconnected(down.remote.node, now),
                LinkOutput::Note(note) => self.tell(Event::Note(note)),
                // What found no room is said again.
                LinkOutput::Room { .. } | LinkOutput::Unreached { .. } => {}
            }
        }
        any
    }

    /// Whether there was anything.
    fn follow_node(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.node.poll_output() {
            any = true;
            match output {
                NodeOutput::Send { to, message } => self.send(to, message),
                NodeOutput::Datagram { to, bytes } => {
                    self.outputs.push_back(Output::Datagram { to, bytes });
                }
                NodeOutput::Connect { to, address } => {
                    let address = address.to_string();
                    self.links.want(Remote::control(to), &address, now);
                }
                NodeOutput::Disconnect { to } => self.links.unwant(Remote::control(to), now),
                NodeOutput::Write(write) => {
                    if let Err(error) = self.recording.write(&mut self.ledger, write) {
                        self.ledger_failed(error);
                    }
                }
                NodeOutput::Joined {
                    incarnation,
                    cluster,
                } => {
                    self.become_known(incarnation, cluster.0, now);
                    self.tell(Event::Joined {
                        incarnation,
                        cluster,
                    });
                }
                NodeOutput::Waits { previous, at_most } => {
                    self.tell(Event::Waits { previous, at_most });
                }
                NodeOutput::Member(event) => self.tell(Event::Member(event)),
                NodeOutput::Types(count) => self.tell(Event::Types(count)),
                NodeOutput::Shards(changed) => self.tell(Event::Shards(changed)),
                NodeOutput::Parting(life) => self.tell(Event::Parting(life)),
                NodeOutput::Lease(lease) => self.tell(Event::Lease(lease)),
                NodeOutput::Leader(leader) => self.tell(Event::Leader(leader)),
                NodeOutput::Refused { node, why } => self.tell(Event::Refused(node, why)),
                NodeOutput::Stopped(cause) => self.stop(cause, now),
            }
        }
        any
    }

    fn send(&mut self, to: NodeId, message: ControlMessage) {
        // A node with checked settings has none that is too long.
        let Ok((kind, bytes)) = message.encode() else {
            return;
        };
        let sender = Sender {
            life: self.life(),
            core: self.settings.core,
            stream: 0,
        };
        let header = Header::new(kind, Target::Node, sender);
        // Refused where there is no connection or no room: what matters is said again.
        let _ = self
            .links
            .write_bytes(Remote::control(to), &header, &[], &bytes);
    }

    fn life(&self) -> Life {
        self.identity.get().life
    }

    /// From now on connections say this life and this cluster.
    fn become_known(&mut self, incarnation: Incarnation, cluster: u128, now: Time) {
        // What was said before was found good, and neither part is zero.
        let Ok(identity) = self.settings.identity(incarnation, Some(cluster)) else {
            return;
        };
        self.identity = Arc::clone(&identity);
        self.links.set_identity(Arc::clone(&identity), now);
        self.tell(Event::Identity(identity));
    }

    fn stop(&mut self, cause: StopCause, now: Time) {
        self.stopped = true;
        self.tell(Event::Stopped(cause));
        self.shutdown(now);
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
