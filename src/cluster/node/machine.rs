//! The state machine of one node's part in a cluster.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::Rng as _;

use super::applicant::Asking;
use super::beginning::Durable;
use super::leading::Leading;
use super::links::Links;
use super::observing::Observing;
use super::output::{
    Found, LeaseState, NodeCounters, Output, Refusal, StartError, StopCause, WantError,
};
use super::parting::Partings;
use super::pursuing::{Arrival, Pursuits};
use super::settings::NodeSettings;
use crate::base::ids::{Incarnation, NodeId, ShardKey};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::cluster::admission::StartId;
use crate::cluster::message::{ControlMessage, MessageError};
use crate::cluster::state::ClusterState;
use crate::consensus::bootstrap::Bootstrap;
use crate::consensus::entry::{Recovered, Ticket};
use crate::consensus::machine::Consensus;
use crate::consensus::output::Leadership;
use crate::consensus::peer::{DiskId, NodeLife, PeerId};

/// The most shards that a node wants at once.
pub const MAX_WANTED: usize = 65_536;

/// Refusals of one node are told once in so long.
const TELL_REFUSALS_EACH: Duration = Duration::from_secs(10);
/// Of so many nodes it is remembered when a refusal was told.
const MAX_REFUSERS: usize = 256;

/// One node's part in a cluster, in one start of its process: a state machine without I/O, clock or randomness of its own.
///
/// It founds a cluster or joins one, keeps its part of the log, finds out who cannot be reached, leads when it is elected,
/// leaves when it is told to, and tells the node's data cores what they may do.
///
/// # Order of calls
///
/// 1. [`start`](ClusterNode::start), with what the directory held.
/// 2. If the turn is late, [`stalled`](ClusterNode::stalled) first.
/// 3. What has arrived: [`connected`](ClusterNode::connected) and [`disconnected`](ClusterNode::disconnected) of control
///    connections, [`handle_message`](ClusterNode::handle_message), [`handle_datagram`](ClusterNode::handle_datagram),
///    completed writes ([`record_written`](ClusterNode::record_written), [`log_written`](ClusterNode::log_written),
///    [`write_failed`](ClusterNode::write_failed)), and what the node wants ([`want_shard`](ClusterNode::want_shard),
///    [`shard_arrived`](ClusterNode::shard_arrived), [`shard_refused`](ClusterNode::shard_refused),
///    [`leave`](ClusterNode::leave)), and what the names of seeds stand for ([`seed_found`](ClusterNode::seed_found)).
/// 4. [`tick`](ClusterNode::tick), if [`next_deadline`](ClusterNode::next_deadline) has come.
/// 5. After each of these, [`poll_output`](ClusterNode::poll_output) until it is `None`, doing each thing before the next
///    input. What depends on a write comes out after the input that says the write is durable.
///
/// After [`Output::Stopped`] nothing comes out any more, and inputs have no effect. To come back, start a new one with what
/// the directory holds then, and another seed for its randomness.
///
/// # A life
///
/// ```text
///  start ──▶ disk ──▶ founding ──▶ log, in no life ──▶ Joining ──▶ Up ──▶ Leaving ──▶ Left
///            minted    │ or join    │  votes, leads,     │ Joined          (shards      Stopped(Left)
///                      ▼ request    │  holds no lease    ▼                 given away)
///                    a member ──────┘                 declared Down: Stopped(LifeEnded)
/// ```
///
/// A node that starts has no life: it has a part in the log, if its disk has one, and asks the leader for a life, over and
/// over, until the log says that this start has one. If a previous life is not over, the leader has it declared down
/// first, once its lease must have run out. A life that was declared down never comes back: this ends then
/// ([`StopCause::LifeEnded`]), and its driver starts the next.
///
/// # Clock
///
/// Times are those of the boot-time clock, which goes on while the machine is suspended; see
/// [`consensus::lease`](crate::consensus::lease).
///
/// # Bounds
///
/// Those of [`Consensus`], [`Swim`](crate::membership::swim::Swim) and [`Detector`](crate::membership::detector::Detector);
/// [`MAX_WANTED`] shards that are wanted ([`WantError::Full`]); 256 nodes that are being let in (the oldest of those that
/// are not known here makes room for further ones, and is told to ask again); what moves here; outputs as many as the inputs lead to.
pub struct ClusterNode {
    pub(super) settings: NodeSettings,
    pub(super) rng: Rng,
    pub(super) start: StartId,
    pub(super) durable: Durable,
    /// The log as it was found, until it is started.
    pub(super) recovered: Option<Recovered>,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) consensus: Option<Consensus>,
    pub(super) led: Leadership,
    pub(super) state: ClusterState,
    /// The state has changed since it was looked at.
    pub(super) changed: bool,
    /// This node's life, once the log has given it one and that is durable.
    pub(super) life: Option<Incarnation>,
    pub(super) asking: Asking,
    pub(super) leading: Option<Leading>,
    pub(super) observing: Option<Observing>,
    pub(super) pursuits: Pursuits,
    pub(super) links: Links,
    /// Where seeds are by what their names stand for, as was said since the start.
    pub(super) found_seeds: BTreeMap<NodeId, SocketAddr>,
    /// Shards that somebody here wants, and that nobody owns.
    pub(super) wanted: BTreeSet<ShardKey>,
    pub(super) wants_told: Option<Time>,
    /// Moves to this node of which its data cores have said how they ended.
    pub(super) arrived: BTreeMap<ShardKey, Arrival>,
    pub(super) leave: Leave,
    pub(super) partings: Partings,
    pub(super) lease: LeaseState,
    refusals_told: BTreeMap<NodeId, Time>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counters: NodeCounters,
    pub(super) stopped: bool,
}

/// How far a node is in leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It stays.
    No,
    /// It was told to leave, and has handed leadership over so often.
    Asked { hand_overs: u32, next: Time },
    /// The log says that it has left. It helps the others to take its vote away, and asks whether they have.
    Left { ask: Time },
}

impl ClusterNode {
    /// Starts with what the directory held. `rng` must be seeded differently in each start.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing has been written.
    pub fn start(
        settings: NodeSettings,
        found: Found,
        mut rng: Rng,
        now: Time,
    ) -> Result<ClusterNode, StartError> {
        settings.check()?;
        let Found { record, log } = found;
        let has_log = log != Recovered::default();
        if has_log && record.disk.is_none() {
            return Err(StartError::Torn("disk"));
        }
        if has_log && record.founding.is_none() {
            return Err(StartError::Torn("cluster"));
        }
        let start = StartId::mint(&mut rng);
        let mut node = ClusterNode {
            start,
            durable: Durable::new(record),
            recovered: Some(log),
            bootstrap: None,
            consensus: None,
            led: Leadership::default(),
            state: ClusterState::new(settings.node),
            changed: false,
            life: None,
            asking: Asking::new(&settings, now),
            leading: None,
            observing: None,
            pursuits: Pursuits::default(),
            links: Links::default(),
            found_seeds: BTreeMap::new(),
            wanted: BTreeSet::new(),
            wants_told: None,
            arrived: BTreeMap::new(),
            leave: Leave::No,
            partings: Partings::default(),
            lease: LeaseState::Lapsed,
            refusals_told: BTreeMap::new(),
            outputs: VecDeque::new(),
            counters: NodeCounters::default(),
            stopped: false,
            settings,
            rng,
        };
        node.begin(now)?;
        node.settle(now);
        Ok(node)
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`tick`](ClusterNode::tick) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if self.stopped {
            return Time::MAX;
        }
        let lease = match self.lease {
            LeaseState::Valid { until } => until,
            LeaseState::Lapsed => Time::MAX,
        };
        let mut next = lease
            .min(self.asking_deadline())
            .min(self.leading_deadline())
            .min(self.pursuits_deadline())
            .min(self.parting_deadline());
        if let Some(bootstrap) = &self.bootstrap {
            next = next.min(bootstrap.next_deadline());
        }
        if let Some(consensus) = &self.consensus {
            next = next.min(consensus.next_deadline());
        }
        if let Some(observing) = &self.observing {
            next = next.min(observing.next_deadline());
        }
        next
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.check_links();
        if let Some(bootstrap) = &mut self.bootstrap
            && bootstrap.next_deadline() <= now
        {
            bootstrap.tick(now);
        }
        if let Some(consensus) = &mut self.consensus
            && consensus.next_deadline() <= now
        {
            consensus.tick(now);
        }
        if let Some(observing) = &mut self.observing {
            observing.tick(now);
        }
        self.settle(now);
    }

    /// This turn is `late`: what has come meanwhile has waited for this node. To be called before anything is handed in.
    pub fn stalled(&mut self, late: Duration, now: Time) {
        if let Some(observing) = &mut self.observing {
            observing.stalled(late, now);
        }
    }

    /// A control connection to this node stands, whoever has made it, and it is certain that it is this node.
    pub fn connected(&mut self, node: NodeId, now: Time) {
        if self.stopped || node == self.settings.node {
            return;
        }
        self.links.connected.insert(node);
        self.ask_soon(now);
        // Whoever leads may not know of it.
        self.wants_told = None;
        self.partings_untold();
        self.settle(now);
    }

    /// The last control connection to this node is lost.
    pub fn disconnected(&mut self, node: NodeId, now: Time) {
        self.links.connected.remove(&node);
        if let Some(consensus) = &mut self.consensus {
            let peers = consensus.configuration().peers();
            for peer in peers.into_iter().filter(|peer| peer.node() == node) {
                consensus.lost_connection(now, peer);
            }
        }
        self.settle(now);
    }

    /// A message has come over the control connection of `from`.
    pub fn handle_message(&mut self, from: NodeId, message: ControlMessage, now: Time) {
        if self.stopped {
            return;
        }
        self.counters.received += 1;
        let sender = match &message {
            ControlMessage::Consensus(message) => message.from.node(),
            ControlMessage::Heartbeat(heartbeat) => heartbeat.from,
            ControlMessage::Founding(message) => message.peer().map_or(from, PeerId::node),
            ControlMessage::JoinRequest(request) => request.admission.join.node,
            _ => from,
        };
        if sender != from || from == self.settings.node {
            self.refused(Some(from), Refusal::Impersonates(sender), now);
            return;
        }
        match message {
            ControlMessage::Consensus(message) => self.step(from, *message, now),
            ControlMessage::Heartbeat(heartbeat) => {
                self.tell_if_ended(from, heartbeat.incarnation);
                if let Some(observing) = &mut self.observing {
                    observing.detector.heartbeat(heartbeat, now);
                }
            }
            ControlMessage::Founding(message) => {
                if let Some(bootstrap) = &mut self.bootstrap {
                    bootstrap.handle(now, *message);
                }
            }
            ControlMessage::JoinRequest(request) => self.asked_to_admit(*request, now),
            ControlMessage::JoinAnswer(answer) => self.answered(from, *answer, now),
            // It is the answer to something that was said, so whoever says it is known.
            ControlMessage::LifeEnded(_) if !self.knows(from) => {
                self.refused(Some(from), Refusal::Stranger, now);
            }
            ControlMessage::LifeEnded(life) => self.told_of_the_end(life),
            ControlMessage::Accuse { by, life } => {
                if self.speaks_as_member(from, by) {
                    self.accused_by(from, life, now);
                }
            }
            ControlMessage::Want { by, shards } => {
                if self.speaks_as_member(from, by) {
                    self.wanted_elsewhere(&shards);
                }
            }
            ControlMessage::Parted { by, with } => {
                if self.speaks_as_member(from, by) {
                    self.has_parted(from, by, with);
                }
            }
        }
        self.settle(now);
    }

    /// What has come over the control connection of `from` is no message.
    pub fn handle_garbage(&mut self, from: NodeId, error: MessageError, now: Time) {
        self.refused(Some(from), error.into(), now);
        self.settle(now);
    }

    /// A datagram has come.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Time) {
        if let Some(observing) = &mut self.observing
            && let Err(error) = observing.swim.handle_datagram(bytes, now)
        {
            self.counters.refused += 1;
            if let crate::membership::datagram::DatagramError::FromOurselves { node, .. } = error {
                self.refused(Some(node), error.into(), now);
            }
            // Nothing has changed, and whoever sends garbage should not have everything looked over for each.
            return;
        }
        self.settle(now);
    }

    /// This write of the log and all before it are durable.
    pub fn log_written(&mut self, ticket: Ticket, now: Time) {
        self.log_is_written(ticket, now);
        self.settle(now);
    }

    /// A write has failed, of the record or of the log. What the disk holds is not known any more: this node stops.
    pub fn write_failed(&mut self) {
        self.stop(StopCause::WriteFailed);
    }

    /// Somebody here has something for a shard that nobody owns. The leader hears of it, again and again, until it has an
    /// owner ([`Output::Shards`]); one that has is ignored.
    ///
    /// # Errors
    ///
    /// [`WantError`]; nothing has changed.
    pub fn want_shard(&mut self, shard: ShardKey, now: Time) -> Result<(), WantError> {
        let record = self.state.ownership().shard(shard);
        let record = record.ok_or(WantError::NoSuchShard(shard))?;
        if record.owner.is_some() || self.stopped || self.wanted.contains(&shard) {
            return Ok(());
        }
        if self.wanted.len() >= MAX_WANTED {
            return Err(WantError::Full(MAX_WANTED));
        }
        self.wanted.insert(shard);
        self.wants_told = None;
        self.settle(now);
        Ok(())
    }

    /// A shard that moves here by the `Prepare` at this index ([`ShardRecord::since`]) has arrived as a whole: this node
    /// proposes to own it. It owns it when [`Output::Shards`] says so, which may also say that the move was called off. A
    /// move of which the log knows nothing (any more) is ignored.
    ///
    /// [`ShardRecord::since`]: crate::sharding::ownership::ShardRecord::since
    pub fn shard_arrived(&mut self, shard: ShardKey, prepared: u64, now: Time) {
        self.move_ended(shard, prepared, true);
        self.settle(now);
    }

    /// A move in which this node takes part, as source or target, cannot be made: it proposes to call it off.
    pub fn shard_refused(&mut self, shard: ShardKey, prepared: u64, now: Time) {
        self.move_ended(shard, prepared, false);
        self.settle(now);
    }

    /// This node is to leave: it hands leadership over, gets no new work, gives away what it has, helps the others to take
    /// its vote away, and has left when [`StopCause::Left`] says so. That takes as long as its shards take to move
    /// and every live member takes to part with it, and a quorum; a deadline is its driver's business, who may drop it at any time: then it is declared down, and if it was one
    /// of two, the other cannot go on without it. One that has not joined yet is gone at once.
    pub fn leave(&mut self, now: Time) {
        if self.leave == Leave::No {
            self.leave = Leave::Asked {
                hand_overs: 0,
                next: now,
            };
            if self.life.is_none() && !self.durable.writes_life() {
                self.stop(StopCause::Left);
            }
        }
        self.settle(now);
    }

    /// Does what is to be done until nothing is left that needs no further input.
    pub(super) fn settle(&mut self, now: Time) {
        // Each round but the last has taken what a part had to say, of which one input leads to finitely much.
        let mut is_first = true;
        while !self.stopped {
            let mut moved = self.take_bootstrap(now);
            moved |= self.take_consensus(now);
            moved |= self.take_observations(now);
            if !moved && !is_first {
                break;
            }
            is_first = false;
            let changed = std::mem::take(&mut self.changed);
            if changed {
                self.links.is_fresh = false;
                self.follow_state(now);
            }
            self.ask(now);
            self.report_wanted(now);
            self.say_parted(now);
            self.lead(changed, now);
            self.pursue_all(now);
        }
        self.end_if_left(now);
        if !self.stopped {
            self.refresh_links();
            self.refresh_lease(now);
        }
    }

    /// Tells whether this node may run entities, if that has changed.
    fn refresh_lease(&mut self, now: Time) {
        let life = self.life_now();
        let until = self.consensus.as_ref().and_then(|consensus| {
            life.filter(|life| self.state.has_life(*life))?;
            consensus.lease().until().filter(|until| now < *until)
        });
        let lease = match until {
            Some(until) => LeaseState::Valid { until },
            None => LeaseState::Lapsed,
        };
        let mutant = self.settings.mutant == Some(super::mutant::NodeMutant::NeverLapses);
        if mutant && lease == LeaseState::Lapsed {
            if let LeaseState::Valid { until } = &mut self.lease
                && *until <= now
            {
                *until = now + self.settings.consensus.lease;
                self.outputs.push_back(Output::Lease(self.lease));
            }
            return;
        }
        if lease != self.lease {
            self.lease = lease;
            self.outputs.push_back(Output::Lease(lease));
        }
    }

    /// The peer of the log that this node is, once it has a disk.
    pub(super) fn peer(&self) -> Option<PeerId> {
        let disk: DiskId = self.durable.disk()?;
        Some(PeerId::new(self.settings.node, disk))
    }

    pub(super) fn life_now(&self) -> Option<NodeLife> {
        let incarnation = self.life?;
        Some(NodeLife {
            node: self.settings.node,
            incarnation,
        })
    }

    pub(super) fn new_rng(&mut self) -> Rng {
        seeded(self.rng.next_u64(), 0)
    }

    /// Sends to a node to which there is a connection.
    pub(super) fn send(&mut self, to: NodeId, message: ControlMessage) {
        if self.links.connected.contains(&to) {
            self.counters.sent += 1;
            self.outputs.push_back(Output::Send { to, message });
        } else {
            self.counters.unsent += 1;
        }
    }

    /// Tells of a refusal, unless one of the same node was told a moment ago.
    pub(super) fn refused(&mut self, node: Option<NodeId>, why: Refusal, now: Time) {
        self.counters.refused += 1;
        let key = node.unwrap_or_default();
        let told = self.refusals_told.get(&key);
        if told.is_some_and(|told| now < *told + TELL_REFUSALS_EACH) {
            return;
        }
        if self.refusals_told.len() >= MAX_REFUSERS && told.is_none() {
            self.refusals_told
                .retain(|_, told| now < *told + TELL_REFUSALS_EACH);
            if self.refusals_told.len() >= MAX_REFUSERS {
                return; // Whoever takes ever new names does not fill the log.
            }
        }
        self.refusals_told.insert(key, now);
        self.outputs.push_back(Output::Refused { node, why });
    }

    pub(super) fn stop(&mut self, cause: StopCause) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        self.leading = None;
        self.led.is_self = false;
        if self.lease != LeaseState::Lapsed {
            self.lease = LeaseState::Lapsed;
            self.outputs.push_back(Output::Lease(LeaseState::Lapsed));
        }
        self.outputs.push_back(Output::Stopped(cause));
    }
}
