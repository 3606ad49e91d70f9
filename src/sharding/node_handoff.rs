//! The hand-off of a shard between two nodes, as each core sees it.
//!
//! The log of the cluster alone decides: it commits `Prepare`, and then exactly one of `Own` and `Abort`
//! ([`ownership`](super::ownership)). What happens here follows from what the log has said, and leads to proposals at most.
//!
//! **The source.** From `Prepare` on every core of the node holds its messages for the shard, and tells the core that runs
//! it so, behind all that it had sent there ([`Drained`]). When all have, that core starts no more handlers, waits for the
//! suspended ones, takes what is to be shipped out of the entities and ships it, in parts of which only so many are under
//! way at once. It keeps its copy. On `Own` it drops the copy; on `Abort`, and on nothing else, it opens the shard again.
//! A connection that breaks, or a target that is silent, has it begin again with the first part.
//!
//! ```text
//!            every Drained       none suspended         packed
//!  Draining ───────────────▶ Paused ─────────────▶ Packing ───▶ Shipping ─┐ lost, or silent
//!     │                        │                      │          │    ▲   │
//!     └──── deadline, or the state cannot be moved ───┘          │    └───┘
//!                            ▼                                   ▼
//!                         Refused                              Whole
//!   from any of them:  Abort: open again    Own: drop the copy    Down: what is here ends
//! ```
//!
//! **The target** keeps the parts as they came. When they are all there it says so, which has `Own` proposed. Nothing of
//! them runs, ends or answers anything before `Own`: then they are put into place, and the shard is opened. On `Abort` they
//! are bytes to be thrown away.
//!
//! **Whoever sends.** A core that has sent to the past owner sends [`Flush`](NodeStep::Flush) down the old route behind all
//! that, and holds what comes next. The marker is passed on like any message, by every past owner in turn, and whoever runs
//! the shard sends it back: then all that was before it is there, and what is held goes the new way. (That the *target* holds
//! a sender which has announced itself would cost memory there that no sender knows of; here it is the sender's own bounded
//! outbox, which refuses at the call.) Marker and messages may get lost with a connection, so the marker is repeated until it
//! comes back, and when the past owner dies each owner after it gets one (see `node_flush`). Whoever passes messages on is such a
//! sender as well, with all that it passes on. So whatever one core sends to one shard is one stream, through one route at
//! a time.
//!
//! A marker could come back to its own sender and wait there behind what waits for it, if a node gave a shard away whose
//! past owner it still has to flush. So a core says [`Drained`] only when it has no flush for the shard under way.
//!
//! This machine only decides; what it decides comes out as [`NodeStep`]s for the engine to execute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cluster_view::{Members, NodeMove, ShardOwner};
use super::move_error::RefusedWhy;
use super::node_departure::{NodeDeparture, NodePhase};
use super::node_flush::{Flushing, Tokens};
use super::node_steps::{
    Drained, DuePart, Keep, MoveReport, NodeStep, Readiness, ShardNews, Taken,
};
use crate::base::ids::{CoreId, Epoch, Incarnation, NodeId, ShardKey};
use crate::base::time::Time;

/// Parts of one shipment that are under way at once.
pub const PARTS_UNDER_WAY: u32 = 8;

/// A shard that comes to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrival {
    prepared: u64,
    /// The epoch that it had at its source.
    epoch: Epoch,
    attempt: u32,
    next: u32,
    is_whole: bool,
}

/// A shard of this node that is to leave, of which this core does not send to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Draining {
    prepared: u64,
    host: CoreId,
    has_told: bool,
}

/// The hand-offs between nodes in which one core takes part.
///
/// Memory: one entry for each shard that moves from or to this node, or whose past owners have yet to be flushed (with as many
/// markers as there are such owners and streams); and for a core that lags behind, one marker for each core and move. The log
/// bounds the moves; the flushes are bounded by the number of shards.
#[derive(Clone, Debug)]
pub struct NodeHandoff {
    me: CoreId,
    node: NodeId,
    cores: BTreeSet<CoreId>,
    patience: Duration,
    retry: Duration,
    draining: BTreeMap<ShardKey, Draining>,
    departures: BTreeMap<ShardKey, NodeDeparture>,
    arrivals: BTreeMap<ShardKey, Arrival>,
    flushes: BTreeMap<ShardKey, Flushing>,
    /// Markers of moves that this core has not adopted yet, by shard: the newest move and who has sent its marker.
    early: BTreeMap<ShardKey, (u64, BTreeSet<CoreId>)>,
    tokens: Tokens,
}

impl NodeHandoff {
    /// The hand-offs of core `me` of a node. `cores` are all that send to shards, the coordination core included.
    ///
    /// `patience` is how long a shard may take to become ready to leave before its move is refused, as for a move between
    /// cores. `retry` is after what silence parts and markers are sent again. Start with 0.5 s; too low costs traffic when
    /// the other node is busy, too high prolongs moves whose connection has broken.
    #[must_use]
    pub fn new(
        me: CoreId,
        node: NodeId,
        cores: impl IntoIterator<Item = CoreId>,
        patience: Duration,
        retry: Duration,
    ) -> NodeHandoff {
        NodeHandoff {
            me,
            node,
            cores: cores.into_iter().collect(),
            patience,
            retry,
            draining: BTreeMap::new(),
            departures: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            flushes: BTreeMap::new(),
            early: BTreeMap::new(),
            tokens: Tokens::default(),
        }
    }

    /// Whether anything is under way here.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.departures.is_empty() || !self.flushes.is_empty()
    }

    /// Whether anything is under way here that goes on without word of the log.
    #[must_use]
    pub fn is_working(&self) -> bool {
        let rests = |it: &NodeDeparture| matches!(it.phase, NodePhase::Whole | NodePhase::Refused);
        !self.flushes.is_empty() || self.departures.values().any(|it| !rests(it))
    }

    /// Whether something that was sent by a life of a node has yet to come to where it belongs; by any node, if it is this
    /// one.
    #[must_use]
    pub fn flushes_by(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let mut flushes = self.flushes.values();
        flushes.any(|flushing| node == self.node || flushing.goes_through(node, incarnation))
    }

    /// Whether messages for a shard are held until the old route has been flushed.
    #[must_use]
    pub fn is_flushing(&self, shard: ShardKey) -> bool {
        self.flushes.contains_key(&shard)
    }

    /// Whether a shard is on its way out of this core, which starts no handlers of it and holds what arrives.
    #[must_use]
    pub fn is_paused(&self, shard: ShardKey) -> bool {
        let departure = self.departures.get(&shard);
        departure.is_some_and(|departure| departure.is_paused)
    }

    /// Whether the target of a move may have everything that has left.
    #[must_use]
    pub fn may_be_whole(&self, shard: ShardKey) -> bool {
        let departure = self.departures.get(&shard);
        departure.is_some_and(|departure| departure.may_be_whole)
    }

    /// The shards that leave this core, in order.
    pub fn departures(&self) -> impl Iterator<Item = (ShardKey, &NodeDeparture)> {
        self.departures.iter().map(|(shard, it)| (*shard, it))
    }

    /// The shards that are being packed: take what is to be shipped out of their entities, and say
    /// [`packed`](NodeHandoff::packed) for each that is done.
    pub fn packing(&self) -> impl Iterator<Item = ShardKey> {
        let packing = |it: &NodeDeparture| it.phase == NodePhase::Packing;
        self.departures()
            .filter(move |(_, it)| packing(it))
            .map(|(shard, _)| shard)
    }

    /// When [`poll`](NodeHandoff::poll) has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let departures = self.departures.values();
        let departures = departures.filter_map(|it| match it.phase {
            NodePhase::Draining | NodePhase::Paused => Some(it.deadline),
            NodePhase::Shipping => Some(it.again_at),
            NodePhase::Packing | NodePhase::Whole | NodePhase::Refused => None,
        });
        let flushes = self.flushes.values().map(|it| it.again_at);
        departures.chain(flushes).min()
    }

    /// Takes over what the cluster says of a shard now. The steps come before the shard is routed as it says.
    #[must_use = "the steps have to be executed"]
    pub fn adopt(&mut self, news: ShardNews<'_>, members: &Members, now: Time) -> Vec<NodeStep> {
        let ShardNews {
            shard,
            before,
            now: is,
            host,
            ..
        } = news;
        let mut steps = Vec::new();
        let was_mine = before.owner == Some(self.node);
        let is_mine = is.owner == Some(self.node);
        let stays = was_mine && is_mine && before.epoch == is.epoch;
        let goes_on = |moving: NodeMove| stays && is.moving == Some(moving);
        match self.departures.get(&shard) {
            Some(departure) if goes_on(departure.moving) => {}
            Some(departure) => {
                let (to, epoch) = (departure.moving.to, departure.epoch);
                let was_shipped = departure.may_be_whole;
                let was_owned = is.epoch > epoch && is.fence <= epoch && was_shipped;
                // The death of this node's life, as the log has it, came before any `Own`.
                let was_first = is.fence.0 == epoch.0 + 1;
                self.departures.remove(&shard);
                steps.push(match stays {
                    true => NodeStep::Stay { shard },
                    false if was_owned => NodeStep::Forget { shard, to },
                    false => NodeStep::Lose {
                        shard,
                        was_shipped: was_shipped && !was_first,
                    },
                });
            }
            None if was_mine && !stays => steps.push(NodeStep::Lose {
                shard,
                was_shipped: false,
            }),
            None => {}
        }
        let drains = self.draining.get(&shard);
        if drains.is_some_and(|it| !stays || is.moving.map(|to| to.prepared) != Some(it.prepared)) {
            self.draining.remove(&shard);
        }
        // Markers of moves that are over; a newer move may have yet to become known here.
        let newest = [before, is].map(|it| it.moving.map(|to| to.prepared));
        if let Some((early, _)) = self.early.get(&shard)
            && newest.into_iter().any(|it| it >= Some(*early))
            && newest[1] != Some(*early)
        {
            self.early.remove(&shard);
        }
        if let Some(arrival) = self.arrivals.get(&shard).copied() {
            let comes = |to: NodeMove| to.to == self.node && to.prepared == arrival.prepared;
            if !is.moving.is_some_and(comes) {
                self.arrivals.remove(&shard);
                let is_it = is_mine
                    && arrival.is_whole
                    && is.epoch.0 == arrival.epoch.0 + 1
                    && is.fence <= arrival.epoch;
                steps.push(match is_it {
                    true => NodeStep::Open { shard },
                    false => NodeStep::Discard { shard },
                });
            }
        }
        let again_at = now + self.retry;
        let tokens = &mut self.tokens;
        if let Some(flushing) = self.flushes.get_mut(&shard) {
            if flushing.goes_on(self.node, &news, members, tokens) {
                flushing.again_at = again_at;
                steps.extend(flushing.steps(shard));
            }
        } else if let Some(flushing) = Flushing::begin(self.node, &news, members, tokens, again_at)
        {
            steps.extend(flushing.steps(shard));
            self.flushes.insert(shard, flushing);
        }
        steps.extend(self.rest(shard, is, host, now));
        steps
    }

    /// A shard rests on a core: if it is to leave the node, that begins now.
    fn rest(
        &mut self,
        shard: ShardKey,
        is: ShardOwner,
        host: Option<CoreId>,
        now: Time,
    ) -> Option<NodeStep> {
        let moving = is.moving.filter(|_| is.owner == Some(self.node))?;
        let host = host?;
        let prepared = moving.prepared;
        if let Some(known) = self.draining.get(&shard)
            && known.prepared == prepared
        {
            return None;
        }
        let is_flushing = self.is_flushing(shard);
        let draining = Draining {
            prepared,
            host,
            has_told: !is_flushing,
        };
        self.draining.insert(shard, draining);
        if host != self.me {
            return (!is_flushing).then_some(NodeStep::Tell {
                drained: self.drained(shard, prepared),
                to: host,
            });
        }
        let mut awaited = self.cores.clone();
        if !is_flushing {
            awaited.remove(&self.me);
        }
        if let Some((early, from)) = self.early.get(&shard)
            && *early == prepared
        {
            awaited.retain(|core| !from.contains(core));
            self.early.remove(&shard);
        }
        let departure = NodeDeparture {
            moving,
            epoch: is.epoch,
            phase: NodePhase::Draining,
            is_paused: false,
            awaited,
            deadline: now + self.patience,
            attempt: 0,
            sent: 0,
            taken: 0,
            is_all_sent: false,
            rests: false,
            may_be_whole: false,
            again_at: now,
        };
        self.departures.insert(shard, departure);
        None
    }

    /// Nodes that are no members any more pass nothing on: what they have passed on is flushed by those that have owned the
    /// shard after them.
    #[must_use = "the steps have to be executed"]
    pub fn members_changed(&mut self, members: &Members, now: Time) -> Vec<NodeStep> {
        let mut steps = Vec::new();
        let mut over = Vec::new();
        for (shard, flushing) in &mut self.flushes {
            if flushing.leave_out_dead(members, &mut self.tokens) {
                flushing.again_at = now + self.retry;
                steps.extend(flushing.steps(*shard));
                over.extend(flushing.is_over().then_some(*shard));
            }
        }
        steps.extend(over.into_iter().flat_map(|shard| self.flushed(shard)));
        steps
    }

    /// A marker of this core has come back.
    #[must_use = "the steps have to be executed"]
    pub fn marker_passed(&mut self, shard: ShardKey, token: u64) -> Vec<NodeStep> {
        let flushing = self.flushes.get_mut(&shard);
        match flushing.is_some_and(|flushing| flushing.passed(token)) {
            true => self.flushed(shard),
            false => Vec::new(),
        }
    }

    fn flushed(&mut self, shard: ShardKey) -> Vec<NodeStep> {
        self.flushes.remove(&shard);
        let mut steps = vec![NodeStep::Release { shard }];
        if let Some(draining) = self.draining.get_mut(&shard)
            && !draining.has_told
        {
            draining.has_told = true;
            let Draining { prepared, host, .. } = *draining;
            let drained = self.drained(shard, prepared);
            if host == self.me {
                self.handle_drained(drained);
            } else {
                steps.push(NodeStep::Tell { drained, to: host });
            }
        }
        steps
    }

    fn drained(&self, shard: ShardKey, prepared: u64) -> Drained {
        Drained {
            shard,
            prepared,
            from: self.me,
        }
    }

    /// Takes the marker of another core of this node.
    pub fn handle_drained(&mut self, drained: Drained) {
        let Drained {
            shard,
            prepared,
            from,
        } = drained;
        match self.departures.get_mut(&shard) {
            Some(departure) if departure.moving.prepared == prepared => {
                departure.awaited.remove(&from);
            }
            Some(departure) if departure.moving.prepared > prepared => {}
            _ => {
                let early = self.early.entry(shard);
                let (known, cores) = early.or_insert_with(|| (prepared, BTreeSet::new()));
                if *known < prepared {
                    *known = prepared;
                    cores.clear();
                }
                if *known == prepared {
                    cores.insert(from);
                }
            }
        }
    }

    /// Decides what can go on, and what is to be sent again.
    #[must_use = "the steps have to be executed"]
    pub fn poll(
        &mut self,
        now: Time,
        mut look: impl FnMut(ShardKey) -> Readiness,
    ) -> Vec<NodeStep> {
        let mut steps = Vec::new();
        for (&shard, departure) in &mut self.departures {
            match departure.phase {
                NodePhase::Draining | NodePhase::Paused => {
                    steps.extend(departure.advance(shard, look(shard), now, self.retry));
                }
                NodePhase::Shipping if now >= departure.again_at => match look(shard).has_left {
                    true => departure.begin_again(now, self.retry),
                    false => departure.again_at = now + self.retry,
                },
                _ => {}
            }
        }
        for (&shard, flushing) in &mut self.flushes {
            if now >= flushing.again_at {
                flushing.again_at = now + self.retry;
                steps.extend(flushing.steps(shard));
            }
        }
        steps
    }

    /// Everything has been taken out of the entities of a shard.
    pub fn packed(&mut self, shard: ShardKey, now: Time) {
        if let Some(departure) = self.departures.get_mut(&shard)
            && departure.phase == NodePhase::Packing
        {
            departure.phase = NodePhase::Shipping;
            departure.again_at = now + self.retry;
        }
    }

    /// A shard turns out to be unable to leave. `None` when it isn't leaving, or may have left already.
    #[must_use = "the step has to be executed"]
    pub fn refuse(&mut self, shard: ShardKey, why: RefusedWhy) -> Option<NodeStep> {
        self.departures.get_mut(&shard)?.refuse(shard, why)
    }

    /// A part of a shard that was due could not be written. The shard is refused if it can be; if its target may have it, all
    /// is sent again later, and each time later.
    #[must_use = "the step has to be executed"]
    pub fn part_failed(&mut self, shard: ShardKey, now: Time) -> Option<NodeStep> {
        let departure = self.departures.get_mut(&shard)?;
        let refused = departure.refuse(shard, RefusedWhy::NotMovable);
        if refused.is_none() {
            departure.rest(now, self.retry);
        }
        refused
    }

    /// What has come of a shard cannot be kept: it stays where it is. `None` if nothing of it has come.
    #[must_use = "the step has to be executed"]
    pub fn refuse_arrival(&mut self, shard: ShardKey, why: RefusedWhy) -> Option<NodeStep> {
        let arrival = self.arrivals.remove(&shard)?;
        Some(NodeStep::Report(MoveReport {
            shard,
            prepared: arrival.prepared,
            outcome: Err(why),
        }))
    }

    /// The parts that may be sent now: one of each shard.
    #[must_use]
    pub fn due_parts(&self) -> Vec<DuePart> {
        let due = self.departures.iter().filter(|(_, it)| {
            it.phase == NodePhase::Shipping
                && !it.is_all_sent
                && !it.rests
                && it.sent - it.taken < PARTS_UNDER_WAY
        });
        due.map(|(shard, it)| DuePart {
            shard: *shard,
            moving: it.moving,
            epoch: it.epoch,
            attempt: it.attempt,
            number: it.sent,
        })
        .collect()
    }

    /// A part that was due has been sent.
    pub fn part_sent(&mut self, shard: ShardKey, is_last: bool, now: Time) {
        if let Some(departure) = self.departures.get_mut(&shard) {
            departure.sent += 1;
            departure.is_all_sent = is_last;
            departure.may_be_whole |= is_last;
            departure.again_at = now + self.retry;
        }
    }

    /// The target says which parts it has.
    pub fn parts_taken(
        &mut self,
        shard: ShardKey,
        (prepared, attempt): (u64, u32),
        (next, is_whole): (u32, bool),
        now: Time,
    ) {
        let Some(departure) = self
            .departures
            .get_mut(&shard)
            .filter(|it| it.moving.prepared == prepared && it.phase == NodePhase::Shipping)
        else {
            return;
        };
        if is_whole && departure.may_be_whole {
            departure.phase = NodePhase::Whole;
        } else if attempt == departure.attempt && (departure.taken..=departure.sent).contains(&next)
        {
            if next > departure.taken {
                departure.again_at = now + self.retry;
            }
            departure.taken = next;
        }
    }

    /// The connection to a node is gone: what was on its way there begins anew.
    pub fn link_lost(&mut self, node: NodeId, now: Time) {
        for departure in self.departures.values_mut() {
            if departure.phase == NodePhase::Shipping && departure.moving.to == node {
                departure.begin_again(now, self.retry);
            }
        }
    }

    /// A part of a shard has come. `is` is what this core knows of the shard: one that lags behind says nothing, and the
    /// part comes again.
    #[must_use = "what is to be kept has to be kept"]
    pub fn part_arrived(
        &mut self,
        shard: ShardKey,
        is: ShardOwner,
        (prepared, attempt): (u64, u32),
        (number, is_last): (u32, bool),
    ) -> (Taken, Option<NodeStep>) {
        let comes = |it: &NodeMove| it.to == self.node && it.prepared == prepared;
        if is.moving.as_ref().is_none_or(|it| !comes(it)) {
            return (Taken::NOT, None);
        }
        let fresh = Arrival {
            prepared,
            epoch: is.epoch,
            attempt,
            next: 0,
            is_whole: false,
        };
        let arrival = self.arrivals.entry(shard).or_insert(fresh);
        if !arrival.is_whole && arrival.attempt < attempt {
            *arrival = fresh;
        }
        let mut keep = None;
        let mut step = None;
        if !arrival.is_whole && arrival.attempt == attempt && arrival.next == number {
            keep = Some(match number {
                0 => Keep::Anew,
                _ => Keep::Behind,
            });
            arrival.next += 1;
            arrival.is_whole = is_last;
            step = is_last.then_some(NodeStep::Report(MoveReport {
                shard,
                prepared,
                outcome: Ok(()),
            }));
        } else if arrival.attempt > attempt {
            return (Taken::NOT, None);
        }
        let answer = Some((arrival.next, arrival.is_whole));
        (Taken { keep, answer }, step)
    }
}
