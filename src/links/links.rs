//! All connections of one core, for one purpose.

use super::backoff::Backoff;
use super::connection::{Connection, Phase};
use super::counters::LinkCounters;
use super::ending::{Farewell, Why};
use super::notes::{Notes, Source};
use super::open::{Open, OwnFrames};
use super::output::{Output, Up};
use super::ranks::{Rank, Ranks};
use super::remote::{ConnectionId, Remote};
use super::settings::{LinkSettings, LinkSettingsError};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::wire::address::Life;
use crate::wire::hello::CheckedIdentity;
use crate::wire::preamble::Purpose;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

/// What waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timed {
    Connection(ConnectionId),
    Remote(Remote),
}

/// What is known of one remote.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Where it is dialled, if it is wanted.
    pub(super) wanted: Option<String>,
    pub(super) backoff: Backoff,
    /// When it is dialled next, at the earliest.
    pub(super) next_dial: Option<Time>,
    /// The attempt that goes on.
    pub(super) dial: Option<ConnectionId>,
    /// Those that it has dialled, or whoever claims to be it, and that are not up yet.
    pub(super) accepted: Vec<ConnectionId>,
    /// The one that is up, perhaps being closed.
    pub(super) current: Option<ConnectionId>,
}

/// All connections of one core, for one purpose, without their sockets.
///
/// Whoever drives it has the sockets (or a network that is none), the time, and calls, each turn, in this order:
///
/// 1. [`stalled`](Links::stalled), if the turn is late by more than usual;
/// 2. what has happened: [`accept`](Links::accept), [`connected`](Links::connected),
///    [`dial_failed`](Links::dial_failed); bytes that came with [`spare`](Links::spare) and [`filled`](Links::filled), and
///    [`receive`](Links::receive) behind them, before the end of the bytes or an error with [`closed`](Links::closed);
/// 3. [`tick`](Links::tick), if [`deadline`](Links::deadline) has come: behind the inputs, so that an answer that waits in a
///    socket is not taken for silence;
/// 4. what the core wants: [`want`](Links::want), [`write`](Links::write) and the like;
/// 5. [`next_output`](Links::next_output) until there is none, and for each connection of
///    [`next_to_write`](Links::next_to_write) its [`pending`](Links::pending) bytes in one write, with
///    [`sent`](Links::sent) for those that were taken. What was not taken is written when the socket can be written again.
///
/// Memory: see [`LinkSettings`].
pub struct Links {
    pub(super) settings: LinkSettings,
    pub(super) purpose: Purpose,
    pub(super) core: CoreId,
    pub(super) identity: Arc<CheckedIdentity>,
    pub(super) rng: Rng,
    /// The latest time that was heard of.
    pub(super) now: Time,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) next_connection: u64,
    pub(super) peers: BTreeMap<Remote, Peer>,
    /// Those that were accepted and are not up, the oldest first.
    pub(super) greetings: BTreeSet<ConnectionId>,
    /// Those that came in, by whom they make room for.
    pub(super) ranks: Ranks,
    pub(super) timers: BTreeSet<(Time, Timed)>,
    pub(super) to_write: VecDeque<ConnectionId>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) notes: Notes,
    pub(super) counters: LinkCounters,
    pub(super) is_leaving: bool,
    /// The last life of a node that is known to be over. One entry for each node.
    pub(super) over: BTreeMap<NodeId, Incarnation>,
}

impl Links {
    /// No connections yet. `core` is this core, and `rng` what its waits are drawn from.
    ///
    /// # Errors
    /// If the settings make no sense.
    ///
    /// # Panics
    /// If the purpose is that of clients, which are no nodes.
    pub fn new(
        settings: LinkSettings,
        purpose: Purpose,
        core: CoreId,
        identity: Arc<CheckedIdentity>,
        rng: Rng,
    ) -> Result<Links, LinkSettingsError> {
        assert!(
            purpose != Purpose::Client,
            "these are connections between nodes"
        );
        settings.check()?;
        Ok(Links {
            notes: Notes::new(settings.note_period, settings.most_notes),
            settings,
            purpose,
            core,
            identity,
            rng,
            now: Time::ZERO,
            connections: BTreeMap::new(),
            next_connection: 0,
            peers: BTreeMap::new(),
            greetings: BTreeSet::new(),
            ranks: Ranks::default(),
            timers: BTreeSet::new(),
            to_write: VecDeque::new(),
            outputs: VecDeque::new(),
            counters: LinkCounters::default(),
            is_leaving: false,
            over: BTreeMap::new(),
        })
    }

    /// A connection to a remote is wanted from now on: it is dialled whenever there is none. Once more with another address,
    /// and that one is dialled instead; what is up stays.
    ///
    /// The address is a text that [`Output::Dial`] gives back to the driver, which resolves it.
    pub fn want(&mut self, remote: Remote, address: &str, now: Time) {
        self.at(now);
        if self.is_leaving {
            return;
        }
        let peer = self.peers.entry(remote).or_default();
        if peer.wanted.as_deref() == Some(address) {
            return;
        }
        peer.wanted = Some(address.to_owned());
        peer.backoff.reset();
        peer.next_dial = None;
        let dial = peer.dial;
        self.rank_anew(remote, true);
        if let Some(dial) = dial {
            self.remove(dial, Why::GivenUp("the address has changed"), true);
        }
        self.maybe_dial(remote);
    }

    /// A connection to a remote is not wanted any more: what is up is closed in good order. One that the peer dials is
    /// accepted all the same.
    pub fn unwant(&mut self, remote: Remote, now: Time) {
        self.at(now);
        let Some(peer) = self.peers.get_mut(&remote) else {
            return;
        };
        peer.wanted = None;
        peer.next_dial = None;
        let (dial, current) = (peer.dial, peer.current);
        self.rank_anew(remote, false);
        if let Some(dial) = dial {
            self.remove(dial, Why::GivenUp("it is not wanted any more"), true);
        }
        if let Some(current) = current {
            self.leave(current, Why::ByUs(Farewell::Unwanted), Farewell::Unwanted);
        }
        self.forget_if_idle(remote);
    }

    /// Lives of a node up to this one are over, whatever they say themselves: connections that they make are turned away. What
    /// is up stays.
    pub fn outlive(&mut self, node: NodeId, last: Incarnation) {
        let over = self.over.entry(node).or_insert(last);
        *over = last.max(*over);
    }

    /// Lives of a node up to this one are over, and nothing counts any more that they have sent and nobody has taken yet: as
    /// [`outlive`](Links::outlive), and what is up is closed at once.
    pub fn bury(&mut self, node: NodeId, last: Incarnation, now: Time) {
        self.at(now);
        self.outlive(node, last);
        let is_over = |(id, connection): (&ConnectionId, &Connection)| {
            let open = connection.open()?;
            (open.life.node == node && open.life.incarnation <= last).then_some(*id)
        };
        let over: Vec<ConnectionId> = self.connections.iter().filter_map(is_over).collect();
        for id in over {
            self.remove(id, Why::ByUs(Farewell::LifeOver), true);
        }
    }

    /// Whether a life is known to be over.
    pub(super) fn is_over(&self, life: Life) -> bool {
        let last = self.over.get(&life.node);
        last.is_some_and(|last| life.incarnation <= *last)
    }

    /// Says who this node is from now on: when the cluster was formed or joined, it has an id, and the node its life.
    ///
    /// New connections say the new identity. Those that are not up yet begin anew. One that is up is kept if this node's life
    /// is the same and the peer has said the cluster's id as it is now; any other is closed in good order and made anew, so
    /// that both sides check what they did not know before. That each pair of nodes does at most twice. Messages for another life
    /// of this node are not taken any more: such a connection is closed at once.
    pub fn set_identity(&mut self, identity: Arc<CheckedIdentity>, now: Time) {
        self.at(now);
        let old = std::mem::replace(&mut self.identity, identity);
        let (old, new) = (old.get(), self.identity.clone());
        let new = new.get();
        if (old.life, old.cluster_id) == (new.life, new.cluster_id) {
            return;
        }
        let is_deaf = self.purpose == Purpose::Data && old.life != new.life;
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get(&id) else {
                continue;
            };
            let remote = connection.remote;
            match connection.open() {
                Some(open) if open.is_up() && !is_deaf => {
                    if old.life != new.life || open.cluster_id != new.cluster_id {
                        self.counters.renewed += 1;
                        self.leave(id, Why::ByUs(Farewell::Renewed), Farewell::Renewed);
                    }
                }
                open => {
                    self.counters.renewed += u64::from(open.is_some_and(Open::is_up));
                    self.remove(id, Why::GivenUp("the identity has changed"), true);
                    if let Some(peer) = self.peers.get_mut(&remote) {
                        peer.next_dial = None;
                    }
                    self.maybe_dial(remote);
                }
            }
        }
    }

    /// Closes everything in good order: what waits is sent, for as long as `close_patience` says. Afterwards nothing is
    /// dialled or accepted. [`is_done`](Links::is_done) says when it is over.
    pub fn shutdown(&mut self, now: Time) {
        self.at(now);
        self.is_leaving = true;
        for peer in self.peers.values_mut() {
            peer.wanted = None;
            peer.next_dial = None;
        }
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            let is_up = self.open(id).is_some_and(super::open::Open::is_up);
            if is_up {
                self.leave(id, Why::ByUs(Farewell::Leaving), Farewell::Leaving);
            } else {
                self.remove(id, Why::GivenUp("this node shuts down"), true);
            }
        }
    }

    /// Whether it was shut down and nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_leaving && self.connections.is_empty()
    }

    /// The connection that frames to a remote go on.
    #[must_use]
    pub fn connection(&self, remote: Remote) -> Option<ConnectionId> {
        let id = self.peers.get(&remote)?.current?;
        self.open(id)
            .filter(|open| open.leaving.is_none())
            .map(|_| id)
    }

    /// Every remote that frames can be sent to, with the connection that they go on.
    pub fn connected_remotes(&self) -> impl Iterator<Item = (Remote, ConnectionId)> + '_ {
        self.peers
            .keys()
            .filter_map(|remote| self.connection(*remote).map(|id| (*remote, id)))
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// How many connections there are, of all sorts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// How much memory its connections take.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.connections.values().map(Connection::held_bytes).sum()
    }

    /// What to do or to know next.
    #[must_use]
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn at(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(super) fn open(&self, id: ConnectionId) -> Option<&super::open::Open> {
        self.connections.get(&id)?.open()
    }

    pub(super) fn new_id(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        id
    }

    pub(super) fn note(&mut self, source: Source, class: &'static str, text: &dyn fmt::Display) {
        match self.notes.take(source, class, text, self.now) {
            Some(note) => {
                self.counters.notes += 1;
                self.outputs.push_back(Output::Note(note));
            }
            None => self.counters.untold += 1,
        }
    }

    /// Puts a connection into the queue of those that have something to write, if it has.
    pub(super) fn queue(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.is_queued
            && !connection.pending().is_empty()
        {
            connection.is_queued = true;
            self.to_write.push_back(id);
        }
    }

    /// Sees to it that a connection is looked at in time.
    pub(super) fn arm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(deadline) = connection.deadline(&self.settings) else {
            return;
        };
        if connection.timer.is_some_and(|timer| timer <= deadline) {
            return;
        }
        if let Some(timer) = connection.timer.replace(deadline) {
            self.timers.remove(&(timer, Timed::Connection(id)));
        }
        self.timers.insert((deadline, Timed::Connection(id)));
    }

    /// Writes what a connection owes on its own.
    pub(super) fn write_owed(&mut self, id: ConnectionId) {
        let now = self.now;
        let mut own = OwnFrames::default();
        let Some(open) = self.connections.get_mut(&id).and_then(Connection::open_mut) else {
            return;
        };
        if open.write_owed(now, &mut own) {
            self.counters.pings += own.pings;
            self.counters.pongs += own.pongs;
            self.counters.credits += own.credits;
            self.queue(id);
        }
    }

    /// Begins to close a connection in good order; one that is not up yet is closed as well.
    pub(super) fn leave(&mut self, id: ConnectionId, why: Why, farewell: Farewell) {
        let deadline = self.now + self.settings.close_patience;
        let Some(open) = self.connections.get_mut(&id).and_then(Connection::open_mut) else {
            return;
        };
        open.leave(why, farewell, deadline);
        self.write_owed(id);
        self.arm(id);
        self.part_if_done(id);
    }

    /// Removes a connection on which everything is said.
    pub(super) fn part_if_done(&mut self, id: ConnectionId) {
        if let Some(open) = self.open(id)
            && open.has_parted()
            && let Some(leaving) = &open.leaving
        {
            let why = leaving.why.clone();
            self.remove(id, why, true);
        }
    }

    /// Dials a remote if that is wanted, possible, and its time has come.
    pub(super) fn maybe_dial(&mut self, remote: Remote) {
        let (now, welcomed) = (self.now, self.has_welcomed(remote));
        let Some(peer) = self.peers.get_mut(&remote) else {
            return;
        };
        let Some(address) = peer.wanted.clone() else {
            return;
        };
        // Where one of the other side is about to come up, there is nothing to dial; see `settling`.
        if peer.dial.is_some() || peer.current.is_some() || welcomed {
            return;
        }
        if let Some(at) = peer.next_dial
            && at > now
        {
            self.timers.insert((at, Timed::Remote(remote)));
            return;
        }
        if !self.has_room_for(Rank::Wanted) {
            let Some(peer) = self.peers.get_mut(&remote) else {
                return;
            };
            let wait = peer.backoff.next(&self.settings, &mut self.rng);
            peer.next_dial = Some(now + wait);
            self.timers.insert((now + wait, Timed::Remote(remote)));
            let most = self.settings.most_connections;
            let text = format!(
                "it cannot be dialled: there are {most} connections, and no more may be; see `most_connections`"
            );
            self.note(Source::Remote(remote), "no room to dial", &text);
            return;
        }
        let id = self.new_id();
        if let Some(peer) = self.peers.get_mut(&remote) {
            peer.next_dial = None;
            peer.dial = Some(id);
        }
        let deadline = now + self.settings.connect_timeout;
        let connection = Connection::new(remote, true, Phase::Connecting { deadline });
        self.connections.insert(id, connection);
        self.counters.dials += 1;
        self.arm(id);
        self.outputs.push_back(Output::Dial {
            connection: id,
            remote,
            address,
        });
    }

    /// Says that a connection is up.
    pub(super) fn announce(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (remote, dialled) = (connection.remote, connection.dialled);
        let Some(open) = connection.open_mut() else {
            return;
        };
        let Some(peer) = open.peer.take() else {
            return;
        };
        open.come_up(now, dialled);
        self.counters.ups += 1;
        self.outputs.push_back(Output::Up(Box::new(Up {
            remote,
            connection: id,
            peer,
            dialled,
        })));
        self.write_owed(id);
        self.arm(id);
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("purpose", &self.purpose)
            .field("core", &self.core)
            .field("connections", &self.connections.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
