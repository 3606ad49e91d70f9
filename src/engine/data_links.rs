//! The connections of one data core to the other nodes, for messages.
//!
//! # Which connections
//!
//! Each data core wants one connection to each other node, to the core there whose index is its own modulo the number of data
//! cores there. Where two nodes have as many, core *i* and core *i* choose each other, and one connection serves both
//! directions, on which [`Links`] has them settle. Where one node has fewer, each of its cores and the core of the same index
//! there choose each other, and the surplus cores there have a connection each on which they only send. So between two nodes
//! there are as many connections as the larger one has data cores, evenly spread, and nobody has to agree on anything but
//! the numbers of cores, which every member says of itself.
//!
//! Everything of a core for one node goes over the one connection to the core that it has chosen, and keeps its order. What
//! comes over others is taken all the same: it is in the order of whoever has chosen *them*.
//!
//! # Where messages wait
//!
//! In the core's own link to the node, which is bounded and refuses what is beyond. A connection is lent a few frames at a
//! time, [`LENT_BYTES`] of them, and only what it has given to the network as a whole is gone from the link. So when a
//! connection breaks the core knows of each frame whether it may have arrived. Nothing is lent to a connection before it is
//! up, with exactly that life of the node that the link is for: what was meant for one life never reaches another. A peer
//! that gives no credit, because its core does not take what it was sent, has the frames wait here.

use super::core::Engine;
use super::data_peers::{DataPeer, DataPeers};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::links::counters::LinkCounters;
use crate::links::ending::Gone;
use crate::links::links::Links;
use crate::links::notes::Note;
use crate::links::output::{Down, Output, Took};
use crate::links::porch::Guest;
use crate::links::refusal::Turned;
use crate::links::remote::{ConnectionId, Remote};
use crate::links::settings::{LinkSettings, LinkSettingsError};
use crate::wire::address::Life;
use crate::wire::hello::CheckedIdentity;
use crate::wire::preamble::Purpose;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// How many bytes wait in a connection before no further frame is lent to it: enough for a write that is worth its price.
const LENT_BYTES: usize = 64 << 10;

/// How long what a new life of a node sends waits for the news that it is a member, which may come later than its first
/// frames. Before the core knows of it, nothing could be answered.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataOutput {
    /// Connect to an address; say [`connected`](DataLinks::connected) or [`dial_failed`](DataLinks::dial_failed).
    Dial {
        connection: ConnectionId,
        address: String,
    },
    /// Close the socket, or give up connecting it. What waits is not worth writing.
    Close { connection: ConnectionId },
    /// A line for the log.
    Note(Note),
}

/// A connection that is up.
#[derive(Clone, Copy, Debug)]
struct Standing {
    remote: Remote,
    life: Life,
    /// How many of the frames that were lent to it the core knows to have left.
    left: u64,
}

/// All connections of one data core, without their sockets.
///
/// Whoever drives the core has the sockets and, each turn of the core, calls in this order:
///
/// 1. [`stalled`](DataLinks::stalled), if the turn is late by more than usual;
/// 2. what has happened: [`accept`](DataLinks::accept), [`connected`](DataLinks::connected),
///    [`dial_failed`](DataLinks::dial_failed); what sockets have is read into [`spare`](DataLinks::spare), with
///    [`filled`](DataLinks::filled) behind it (where it is empty the socket is left alone until after the next turn); then
///    [`closed`](DataLinks::closed) for sockets of which the end was read; and [`set_peers`](DataLinks::set_peers) when the
///    members have changed;
/// 3. [`receive`](DataLinks::receive), which has the core take frames; after it there is room to read more, which may go on
///    until it says that the core has enough;
/// 4. [`Engine::turn`];
/// 5. [`settle`](DataLinks::settle), which does what is due and lends connections what the turn has written;
/// 6. [`poll_output`](DataLinks::poll_output) until there is nothing, and for each connection of
///    [`next_to_write`](DataLinks::next_to_write) its [`pending`](DataLinks::pending) bytes in one write, with
///    [`sent`](DataLinks::sent) behind it, which may have it named again; what a socket does not take waits until it can be
///    written.
///
/// A parked core is woken by what wakes it anyway, and by any of its sockets that can be read, or written while bytes are
/// pending; by a guest that is handed to it; by news of members; and at [`next_deadline`](DataLinks::next_deadline). It
/// must not park while [`receive`](DataLinks::receive) has said that there is more, or [`takes_turn`](DataLinks::takes_turn)
/// says so.
///
/// Memory, for each connection: what [`Links`] says, with at most [`LENT_BYTES`] or one frame of bytes to be written.
pub(crate) struct DataLinks {
    links: Links,
    node: NodeId,
    core: CoreId,
    close_patience: Duration,
    peers: DataPeers,
    /// Connections that are up, chosen or not.
    standing: BTreeMap<ConnectionId, Standing>,
    /// Those of them to lives that the core has not heard of yet, and until when those are not served that have sent
    /// something.
    unheard_of: BTreeMap<ConnectionId, Option<Time>>,
    /// Connections with bytes that nobody has looked at, and the one that was served last.
    readable: BTreeSet<ConnectionId>,
    served: ConnectionId,
    /// Connections of which everything has been read, but perhaps not yet taken.
    ended: BTreeMap<ConnectionId, Gone>,
    outputs: VecDeque<DataOutput>,
    /// The core has been told something that it has to act upon.
    has_told: bool,
    /// It is to close everything once the core has nothing more to send, or then.
    closes_by: Option<Time>,
}

impl DataLinks {
    /// No connections yet. `core` is this core, and `rng` what its waits are drawn from.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub(crate) fn new(
        settings: LinkSettings,
        core: CoreId,
        identity: Arc<CheckedIdentity>,
        rng: Rng,
    ) -> Result<DataLinks, LinkSettingsError> {
        let node = identity.get().life.node;
        let close_patience = settings.close_patience;
        Ok(DataLinks {
            links: Links::new(settings, Purpose::Data, core, identity, rng)?,
            node,
            core,
            close_patience,
            peers: DataPeers::default(),
            standing: BTreeMap::new(),
            unheard_of: BTreeMap::new(),
            readable: BTreeSet::new(),
            served: ConnectionId::from_number(0),
            ended: BTreeMap::new(),
            outputs: VecDeque::new(),
            has_told: false,
            closes_by: None,
        })
    }

    /// The core that a core sends to at a node that has so many, if it has any.
    pub(crate) fn chosen(core: CoreId, data_cores: u16) -> Option<CoreId> {
        core.0.checked_rem(data_cores).map(CoreId)
    }

    /// Who the other nodes are from now on. Connections to those that are gone, and to lives that are over, are closed in
    /// good order; what the core has for them it gives up itself when it hears of it. Of those that are down nothing is
    /// taken any more: a core that has heard of a death relies upon nothing of that life coming later.
    pub(crate) fn set_peers(&mut self, peers: &DataPeers, now: Time) {
        if self.peers == *peers {
            return;
        }
        let before = std::mem::replace(&mut self.peers, peers.clone());
        for (node, life) in peers.down.iter() {
            if before.down.get(node) != Some(life) {
                self.links.bury(*node, *life, now);
            }
        }
        for (node, was) in &before.live {
            let is = peers.live.get(node);
            if is == Some(was) || *node == self.node {
                continue;
            }
            if let Some(remote) = self.remote_of(*node, was)
                && is.and_then(|is| self.remote_of(*node, is)) != Some(remote)
            {
                self.links.unwant(remote, now);
            }
        }
        let is_over = |standing: &&Standing| {
            let node = standing.remote.node;
            match (before.live.get(&node), peers.live.get(&node)) {
                (_, Some(is)) => standing.life.incarnation < is.incarnation,
                (Some(was), None) => standing.life.incarnation <= was.incarnation,
                // Who was never known may be somebody of whom this node hears later.
                (None, None) => false,
            }
        };
        let over = self.standing.values().filter(is_over);
        let over: Vec<Remote> = over.map(|standing| standing.remote).collect();
        for remote in over {
            self.links.unwant(remote, now);
        }
        for (node, is) in &peers.live {
            if before.live.get(node) == Some(is) || *node == self.node {
                continue;
            }
            if let Some(last) = is.incarnation.0.checked_sub(1) {
                self.links.outlive(*node, Incarnation(last));
            }
            if let Some(remote) = self.remote_of(*node, is) {
                if self.links.connection(remote).is_none() {
                    // A new life is dialled at once, however long the old one was not reached.
                    self.links.unwant(remote, now);
                }
                self.links.want(remote, &is.address, now);
            }
        }
    }

    /// Says who this node is from now on, as [`Links::set_identity`].
    pub(crate) fn set_identity(&mut self, identity: Arc<CheckedIdentity>, now: Time) {
        self.node = identity.get().life.node;
        self.links.set_identity(identity, now);
    }

    /// This turn is late by so much: that time is counted against no peer.
    pub(crate) fn stalled(&mut self, late: Duration) {
        self.links.stalled(late);
    }

    /// Takes a connection that came in by the porch and is for this core.
    ///
    /// # Errors
    /// If it is turned away: close it.
    pub(crate) fn accept(&mut self, guest: Guest, now: Time) -> Result<ConnectionId, Turned> {
        self.links.accept(guest, now)
    }

    /// The socket of a dial is connected.
    pub(crate) fn connected(&mut self, connection: ConnectionId, now: Time) {
        self.links.connected(connection, now);
    }

    /// The socket of a dial does not connect, for a reason in words.
    pub(crate) fn dial_failed(&mut self, connection: ConnectionId, why: &str, now: Time) {
        self.links.dial_failed(connection, why, now);
    }

    /// Where the next bytes of a connection are read into. It is empty when nothing may be read now: ask again after the next
    /// turn.
    pub(crate) fn spare(&mut self, connection: ConnectionId) -> &mut [u8] {
        self.links.spare(connection)
    }

    /// So many bytes were read into the spare room.
    ///
    /// # Panics
    /// If that is more than there was.
    pub(crate) fn filled(&mut self, connection: ConnectionId, count: usize, now: Time) {
        self.links.filled(connection, count, now);
        if count > 0 {
            self.readable.insert(connection);
            if let Some(until) = self.unheard_of.get_mut(&connection) {
                until.get_or_insert(now + NEWS_PATIENCE);
            }
        }
    }

    /// Nothing more comes on a connection. What was read before is taken first.
    pub(crate) fn closed(&mut self, connection: ConnectionId, gone: Gone, now: Time) {
        if self.readable.contains(&connection) {
            self.ended.insert(connection, gone);
        } else {
            self.links.closed(connection, gone, now);
        }
    }

    /// Has the core take frames that have come, of one connection after the other, as much as it takes before its turn.
    /// Returns whether it has enough, and there may be more.
    pub(crate) fn receive(&mut self, engine: &mut Engine, now: Time) -> bool {
        self.follow(engine, now);
        if self.readable.is_empty() {
            return false;
        }
        self.hear_of(engine, now);
        let mut left = engine.begin_intake();
        let mut is_full = false;
        while let Some(connection) = self.next_readable() {
            let links = &mut self.links;
            let received = engine.take_frames(|intake| {
                links.receive(connection, left, now, |_, arrived| {
                    match intake.take(&arrived.frame, arrived.life) {
                        true => Took::Done,
                        false => {
                            is_full = true;
                            Took::Last
                        }
                    }
                })
            });
            // A core that has come to its end takes nothing, but what connections say themselves is still heard.
            let received = received.unwrap_or_else(|| {
                let links = &mut self.links;
                links.receive(connection, left, now, |_, _| Took::Done)
            });
            left -= received.frames;
            // The core hears of a connection before it hears from it.
            self.follow(engine, now);
            if !received.more {
                self.readable.remove(&connection);
                if let Some(gone) = self.ended.remove(&connection) {
                    self.links.closed(connection, gone, now);
                    self.follow(engine, now);
                }
            }
            if left == 0 || is_full {
                let mut readable = self.readable.iter();
                return readable.any(|id| !self.unheard_of.contains_key(id));
            }
        }
        false
    }

    /// The readable connection behind the one that was served last.
    fn next_readable(&mut self) -> Option<ConnectionId> {
        let behind = (Bound::Excluded(self.served), Bound::Unbounded);
        let behind = self.readable.range(behind).chain(&self.readable);
        let mut served = behind.filter(|id| !self.unheard_of.contains_key(id));
        let next = served.next().copied();
        self.served = next.unwrap_or(self.served);
        next
    }

    /// Connections are served whose lives the core knows by now, or which have waited for that long enough.
    fn hear_of(&mut self, engine: &Engine, now: Time) {
        if self.unheard_of.is_empty() {
            return;
        }
        let before = self.unheard_of.len();
        let (standing, ended) = (&self.standing, &self.ended);
        self.unheard_of.retain(|id, until| {
            let life = standing.get(id).map(|standing| standing.life);
            until.is_none_or(|until| until > now)
                && !ended.contains_key(id)
                && life.is_some_and(|life| engine.awaits(life))
        });
        self.has_told |= self.unheard_of.len() < before;
    }

    /// Does what is due, tells the core what has become of connections, and lends them what it has to send. After the turn.
    pub(crate) fn settle(&mut self, engine: &mut Engine, now: Time) {
        if self.links.deadline().is_some_and(|due| due <= now) {
            self.links.tick(now);
        }
        self.hear_of(engine, now);
        self.follow(engine, now);
        for life in engine.outgoing() {
            self.lend(engine, life);
        }
        if let Some(by) = self.closes_by
            && (now >= by || !self.can_send_more(engine))
        {
            self.closes_by = None;
            self.links.shutdown(now);
            self.follow(engine, now);
        }
    }

    /// The next thing that the driver has to do.
    pub(crate) fn poll_output(&mut self) -> Option<DataOutput> {
        self.outputs.pop_front()
    }

    /// The next connection that has something to write. Each is named once, until something is added.
    pub(crate) fn next_to_write(&mut self) -> Option<ConnectionId> {
        self.links.next_to_write()
    }

    /// The bytes of a connection that wait to be written.
    pub(crate) fn pending(&self, connection: ConnectionId) -> &[u8] {
        self.links.pending(connection)
    }

    /// The socket has taken the first `count` of the pending bytes. The core is told what has left with that, and lends
    /// more.
    ///
    /// # Panics
    /// If that is more than were pending.
    pub(crate) fn sent(
        &mut self,
        engine: &mut Engine,
        connection: ConnectionId,
        count: usize,
        now: Time,
    ) {
        self.links.sent(connection, count, now);
        let handed = self.links.handed(connection);
        let mut has_left = None;
        if let Some(standing) = self.standing.get_mut(&connection)
            // What has come to its end says so itself.
            && handed > standing.left
        {
            engine.left(standing.life, (handed - standing.left) as usize);
            standing.left = handed;
            has_left = Some(standing.life);
        }
        self.follow(engine, now);
        if let Some(life) = has_left {
            self.lend(engine, life);
        }
    }

    /// Whether the core has been told something since the last call upon which it has to turn again, or is to be.
    pub(crate) fn takes_turn(&mut self) -> bool {
        std::mem::take(&mut self.has_told)
    }

    /// When to come back at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let unheard_of = self.unheard_of.values().flatten().copied();
        let deadlines = self.links.deadline().into_iter();
        deadlines.chain(self.closes_by).chain(unheard_of).min()
    }

    /// Closes everything in good order, behind what the core still has to send, for as long as `close_patience` says twice:
    /// once to have it leave, once to say farewell. Call it before the core stops, for that gives up what has not left.
    pub(crate) fn shutdown(&mut self, now: Time) {
        self.closes_by = Some(now + self.close_patience);
    }

    /// Whether it was shut down and nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.links.is_done()
    }

    /// Whether nothing that has come waits to be looked at.
    pub(crate) fn is_quiet(&self) -> bool {
        self.readable.is_empty()
    }

    /// Whether a connection is up, so that all that it sends is frames.
    pub(crate) fn is_up(&self, connection: ConnectionId) -> bool {
        self.links.is_up(connection)
    }

    /// What connections have done so far.
    pub(crate) fn counters(&self) -> &LinkCounters {
        self.links.counters()
    }

    /// How many connections there are, of all sorts.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// How much memory the connections take.
    pub(crate) fn held_bytes(&self) -> usize {
        self.links.held_bytes()
    }

    fn remote_of(&self, node: NodeId, peer: &DataPeer) -> Option<Remote> {
        let core = DataLinks::chosen(self.core, peer.data_cores)?;
        Some(Remote::data(node, core))
    }

    /// The other end that frames for a node go to.
    fn chosen_remote(&self, node: NodeId) -> Option<Remote> {
        self.remote_of(node, self.peers.live.get(&node)?)
    }

    fn can_send_more(&self, engine: &Engine) -> bool {
        let outgoing = engine.outgoing();
        outgoing.into_iter().any(|life| self.route(life).is_some())
    }

    /// Where frames for a life of a node go, if it is connected.
    fn route(&self, to: Life) -> Option<Remote> {
        let remote = self.chosen_remote(to.node)?;
        let standing = self.standing.get(&self.links.connection(remote)?)?;
        (standing.life == to).then_some(remote)
    }

    /// Copies frames for a life of a node into its connection, as far as there is leave and room.
    fn lend(&mut self, engine: &Engine, to: Life) {
        let Some(remote) = self.route(to) else {
            return;
        };
        let links = &mut self.links;
        engine.lend(to, |frames| {
            let appended = links.append(remote, frames, LENT_BYTES);
            let appended = appended.unwrap_or_default();
            (appended.frames as usize, appended.bytes)
        });
    }

    fn follow(&mut self, engine: &mut Engine, now: Time) {
        while let Some(output) = self.links.next_output() {
            match output {
                Output::Dial {
                    connection,
                    address,
                    ..
                } => self.outputs.push_back(DataOutput::Dial {
                    connection,
                    address,
                }),
                Output::Close { connection } => {
                    self.readable.remove(&connection);
                    self.ended.remove(&connection);
                    self.unheard_of.remove(&connection);
                    self.outputs.push_back(DataOutput::Close { connection });
                }
                Output::Up(up) => {
                    let standing = Standing {
                        remote: up.remote,
                        life: up.peer.peer.life,
                        left: 0,
                    };
                    if engine.awaits(standing.life) {
                        // What came with the news that it is up is still to be taken.
                        let until = self.readable.contains(&up.connection);
                        let until = until.then_some(now + NEWS_PATIENCE);
                        self.unheard_of.insert(up.connection, until);
                    }
                    self.standing.insert(up.connection, standing);
                }
                Output::Down(down) => self.lose(engine, &down),
                Output::Unreached { remote } => {
                    if self.chosen_remote(remote.node) == Some(remote) {
                        self.tell_lost(engine, remote.node, None);
                    }
                }
                Output::Note(note) => self.outputs.push_back(DataOutput::Note(note)),
                // What is lent is offered again when bytes have left or come.
                Output::Room { .. } => {}
            }
        }
    }

    fn tell_lost(&mut self, engine: &mut Engine, node: NodeId, life: Option<Life>) {
        engine.link_lost(node, life);
        self.has_told = true;
    }

    /// A connection is no more: what has left with it may have arrived, the rest certainly has not.
    fn lose(&mut self, engine: &mut Engine, down: &Down) {
        let Some(standing) = self.standing.remove(&down.connection) else {
            return;
        };
        let more = down.handed.saturating_sub(standing.left);
        engine.left(down.life, more as usize);
        // On one that this core has not chosen it had nothing.
        let is_chosen = self.chosen_remote(down.remote.node) == Some(down.remote);
        if is_chosen || down.accepted > 0 {
            self.tell_lost(engine, down.remote.node, Some(down.life));
        }
    }
}

impl fmt::Debug for DataLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLinks")
            .field("core", &self.core)
            .field("standing", &self.standing)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}
