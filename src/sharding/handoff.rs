//! The hand-off of a shard between two cores of a node, as each core sees it.
//!
//! All senders of a node are known, so the source can be told when nobody sends to it any more:
//!
//! 1. The coordination core publishes a version of the topology in which the shard is `moving_to` the target.
//! 2. Every core that adopts it, the coordination core included, holds its further messages for the shard in its own
//!    bounded outbox and sends the marker [`Last`] to the source, behind everything that it had sent there. The marker
//!    travels in the same lane as the messages, for only then does its arrival mean that they have arrived.
//! 3. The source goes on running the shard until it has the marker of every other core. Then it starts no more
//!    handlers of it, waits for the suspended ones, seals the shard and ships state and mailboxes to the target.
//! 4. The target installs them, runs the shard under the next epoch and reports that to the coordinator, which
//!    publishes the new owner. Each core that adopts this version releases what it held to the target.
//!
//! A source that cannot ship before its deadline refuses instead; the coordinator then publishes the old owner again,
//! and everything held is released to it. Once shipped a move cannot be taken back, before that it can't have
//! happened: a shard runs on one core at any time. The order in which cores adopt does not matter: a marker that is
//! ahead of its source is kept until the source has caught up.
//!
//! This machine only decides; what it decides comes out as [`Step`]s for the engine to execute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{CoreId, Epoch, ShardKey};
use crate::base::time::Time;
use crate::sharding::move_error::RefusedWhy;
use crate::sharding::topology::{MoveId, Placement, Topology};

/// "I send nothing more for this shard": the marker from each core to the source of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Last {
    /// The move for which the sender holds its messages.
    pub id: MoveId,
    /// The core that sent the marker.
    pub from: CoreId,
}

/// What the engine of this core has to do next. Steps are executed in the order in which they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hold further messages for the shard, and send [`Last`] to `owner` behind all that was sent to it. To itself the
    /// owner sends no marker. Messages held already stay held.
    Hold {
        /// The move that begins.
        id: MoveId,
        /// The source of the move.
        owner: CoreId,
    },
    /// Send what is held for the shard to `to`, in order, before any newer message for it.
    Release {
        /// The shard that is at rest again.
        shard: ShardKey,
        /// Its owner.
        to: CoreId,
    },
    /// Start no further handlers of the shard: only suspended ones may finish.
    Pause {
        /// The shard that is about to leave.
        shard: ShardKey,
    },
    /// Seal the shard and ship its state and mailboxes to `to`, which runs it under `epoch`.
    Ship {
        /// The move.
        id: MoveId,
        /// The target.
        to: CoreId,
        /// The epoch under which the target runs the shard.
        epoch: Epoch,
    },
    /// Report to the coordinator that the shard stays, and start its handlers again.
    Refuse {
        /// The move.
        id: MoveId,
        /// What stood in the way.
        why: RefusedWhy,
    },
}

/// A shard for which this core holds its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The move that is in progress.
    pub id: MoveId,
    /// Since when this core has been holding messages.
    pub since: Time,
}

/// The hand-offs in which one core takes part: as a sender in all of them, as the source in those of its own shards.
///
/// Memory: one entry for each shard that moves and, for a core that lags behind, one marker for each core and move.
/// Both are bounded by the coordinator's bound on moves at once.
#[derive(Clone, Debug)]
pub struct Handoff {
    me: CoreId,
    cores: BTreeSet<CoreId>,
    patience: Duration,
    topology: Arc<Topology>,
    held: BTreeMap<ShardKey, Held>,
    departures: BTreeMap<ShardKey, Departure>,
    /// Markers of moves that this core has not adopted yet, by shard: the newest move and who has sent its marker.
    early: BTreeMap<ShardKey, (MoveId, BTreeSet<CoreId>)>,
}

impl Handoff {
    /// The hand-offs of core `me`. `cores` are all that send to shards, the coordination core included.
    ///
    /// `patience` is how long a shard of this core may take to become ready to leave, before the move is refused.
    /// Start with 2 s. Too low, and a full lane or a slow asynchronous handler refuses moves; too high, and a stuck
    /// entity holds up the messages of its whole shard for that long, and they may be refused at their callers.
    #[must_use]
    pub fn new(
        me: CoreId,
        cores: impl IntoIterator<Item = CoreId>,
        topology: Arc<Topology>,
        patience: Duration,
    ) -> Handoff {
        Handoff {
            me,
            cores: cores.into_iter().collect(),
            patience,
            topology,
            held: BTreeMap::new(),
            departures: BTreeMap::new(),
            early: BTreeMap::new(),
        }
    }

    /// The newest topology that this core has adopted, by which it routes.
    #[inline]
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The shards for which messages are held, in order.
    pub fn held(&self) -> impl Iterator<Item = Held> {
        self.held.values().copied()
    }

    /// The shards of this core that are leaving, in order.
    pub fn departures(&self) -> impl Iterator<Item = &Departure> {
        self.departures.values()
    }

    /// Whether [`Handoff::poll`] may have something to decide. The engine asks once a turn.
    #[inline]
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        !self.departures.is_empty()
    }

    /// When [`Handoff::poll`] has to be called at the latest, although nothing happens on this core.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.departures
            .values()
            .filter_map(Departure::open_until)
            .min()
    }

    /// Adopts a published topology, unless it is no newer than the one in use. The steps come before any message is
    /// routed by the new topology.
    #[must_use = "the steps have to be executed"]
    pub fn adopt(&mut self, topology: Arc<Topology>, now: Time) -> Vec<Step> {
        if topology.version() <= self.topology.version() {
            return Vec::new();
        }
        let older = std::mem::replace(&mut self.topology, topology);
        let newer = Arc::clone(&self.topology);
        let mut steps = Vec::new();
        for (shard, _, placement) in newer.changes_since(&older) {
            self.departures.remove(&shard);
            match placement.move_of(shard) {
                Some(id) => steps.push(self.begin(id, placement, now)),
                None if self.held.remove(&shard).is_some() => steps.push(Step::Release {
                    shard,
                    to: placement.owner,
                }),
                None => {}
            }
        }
        self.early.retain(|_, (id, _)| id.version > newer.version());
        steps
    }

    /// Takes the marker of another core. Whether the shard can leave now is for [`Handoff::poll`] to say.
    pub fn handle_last(&mut self, last: Last) {
        if last.id.version > self.topology.version() {
            let (id, from) = self
                .early
                .entry(last.id.shard)
                .or_insert_with(|| (last.id, BTreeSet::new()));
            if id.version < last.id.version {
                *id = last.id;
                from.clear();
            }
            if *id == last.id {
                from.insert(last.from);
            }
        } else if let Some(departure) = self.departures.get_mut(&last.id.shard) {
            departure.handle_last(last);
        }
    }

    /// Decides which of the leaving shards can leave, or must stay. `is_suspended` says whether an entity of the shard
    /// is inside an asynchronous handler or hook.
    #[must_use = "the steps have to be executed"]
    pub fn poll(&mut self, now: Time, mut is_suspended: impl FnMut(ShardKey) -> bool) -> Vec<Step> {
        self.departures
            .values_mut()
            .filter_map(|departure| departure.poll(now, &mut is_suspended))
            .collect()
    }

    /// Gives up the departure of a shard that turns out to be unable to leave. `None` when it isn't leaving, or has
    /// left already.
    #[must_use = "the step has to be executed"]
    pub fn refuse(&mut self, shard: ShardKey, why: RefusedWhy) -> Option<Step> {
        self.departures.get_mut(&shard)?.refuse(why)
    }

    fn begin(&mut self, id: MoveId, placement: Placement, now: Time) -> Step {
        let since = self.held.get(&id.shard).map_or(now, |held| held.since);
        self.held.insert(id.shard, Held { id, since });
        if let (true, Some(to)) = (placement.owner == self.me, placement.moving_to) {
            let mut departure = Departure {
                id,
                to,
                epoch: Epoch(placement.epoch.0 + 1),
                awaited: self
                    .cores
                    .iter()
                    .copied()
                    .filter(|core| *core != self.me)
                    .collect(),
                deadline: now + self.patience,
                phase: Phase::Draining,
            };
            if let Some((early, from)) = self.early.remove(&id.shard) {
                from.into_iter()
                    .for_each(|from| departure.handle_last(Last { id: early, from }));
            }
            self.departures.insert(id.shard, departure);
        }
        Step::Hold {
            id,
            owner: placement.owner,
        }
    }
}

/// How far the source has come with giving a shard away.
///
/// ```text
///              every Last        none suspended
///   Draining ────────────▶ Paused ────────────▶ Shipped
///      │                     │
///      └──────────┬──────────┘
///                 ▼  deadline, or the state cannot be moved
///              Refused
/// ```
///
/// | phase    | handlers run | messages arrive | ends when                       |
/// |----------|--------------|-----------------|---------------------------------|
/// | Draining | yes          | yes             | the marker of every core is in  |
/// | Paused   | suspended    | no              | no entity is suspended          |
/// | Shipped  | no           | no              | the new owner has been adopted  |
/// | Refused  | yes          | yes             | the old owner has been adopted  |
///
/// With nothing suspended a departure passes through `Paused` within one poll. Without the pause the mailboxes of a
/// busy shard would suspend one entity after another, and the shard would never leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Messages for the shard are still on their way here.
    Draining,
    /// All messages are here; suspended handlers finish.
    Paused,
    /// The shard has left.
    Shipped,
    /// The shard stays.
    Refused,
}

/// A shard that leaves this core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    id: MoveId,
    to: CoreId,
    epoch: Epoch,
    awaited: BTreeSet<CoreId>,
    deadline: Time,
    phase: Phase,
}

impl Departure {
    /// The move.
    #[must_use]
    pub fn id(&self) -> MoveId {
        self.id
    }

    /// The target of the move.
    #[must_use]
    pub fn to(&self) -> CoreId {
        self.to
    }

    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The cores whose marker has not arrived yet, in order.
    pub fn awaited(&self) -> impl Iterator<Item = CoreId> {
        self.awaited.iter().copied()
    }

    fn open_until(&self) -> Option<Time> {
        matches!(self.phase, Phase::Draining | Phase::Paused).then_some(self.deadline)
    }

    fn handle_last(&mut self, last: Last) {
        if last.id == self.id {
            self.awaited.remove(&last.from);
        }
    }

    fn poll(&mut self, now: Time, is_suspended: &mut impl FnMut(ShardKey) -> bool) -> Option<Step> {
        self.open_until()?;
        match self.awaited.first() {
            Some(&core) if now >= self.deadline => self.refuse(RefusedWhy::AwaitingLast(core)),
            Some(_) => None,
            None if !is_suspended(self.id.shard) => {
                self.phase = Phase::Shipped;
                Some(Step::Ship {
                    id: self.id,
                    to: self.to,
                    epoch: self.epoch,
                })
            }
            None if now >= self.deadline => self.refuse(RefusedWhy::Suspended),
            None if self.phase == Phase::Draining => {
                self.phase = Phase::Paused;
                Some(Step::Pause {
                    shard: self.id.shard,
                })
            }
            None => None,
        }
    }

    fn refuse(&mut self, why: RefusedWhy) -> Option<Step> {
        self.open_until()?;
        self.phase = Phase::Refused;
        Some(Step::Refuse { id: self.id, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{EntityTypeId, ShardId};
    use crate::sharding::topology::{Allocation, Change};

    const A: CoreId = CoreId(0);
    const B: CoreId = CoreId(1);
    const C: CoreId = CoreId(2);
    const S: ShardKey = ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(0),
    };
    const PATIENCE: Duration = Duration::from_secs(2);
    const LATE: Time = Time::from_nanos(2_000_000_000);

    fn resting() -> Arc<Topology> {
        Arc::new(Topology::allocate(&[2], &[A, B, C], Allocation::AllOn(A)).unwrap())
    }

    fn after(topology: &Arc<Topology>, change: Change) -> Arc<Topology> {
        Arc::new(topology.next(&[(S, change)]))
    }

    fn core(me: CoreId) -> Handoff {
        Handoff::new(me, [A, B, C], resting(), PATIENCE)
    }

    fn id(version: u64) -> MoveId {
        MoveId { shard: S, version }
    }

    fn last(from: CoreId, version: u64) -> Last {
        Last {
            id: id(version),
            from,
        }
    }

    fn ship(version: u64) -> Step {
        Step::Ship {
            id: id(version),
            to: B,
            epoch: Epoch(2),
        }
    }

    #[test]
    fn a_sender_holds_and_then_releases_to_the_new_owner() {
        let mut sender = core(C);
        let moving = after(&resting(), Change::Begin(B));
        let now = Time::from_nanos(7);
        assert_eq!(
            sender.adopt(Arc::clone(&moving), now),
            [Step::Hold {
                id: id(2),
                owner: A
            }]
        );
        assert_eq!(
            sender.held().collect::<Vec<_>>(),
            [Held {
                id: id(2),
                since: now
            }]
        );
        assert!(!sender.is_leaving());
        assert_eq!(
            sender.adopt(Arc::clone(&moving), now),
            [],
            "the same version does nothing"
        );
        let moved = after(&moving, Change::Finish);
        assert_eq!(
            sender.adopt(moved, now),
            [Step::Release { shard: S, to: B }]
        );
        assert_eq!(
            sender.adopt(moving, now),
            [],
            "an older version does nothing"
        );
        assert_eq!(sender.held().count(), 0);
    }

    #[test]
    fn the_source_ships_once_every_marker_is_in() {
        let mut source = core(A);
        let hold = Step::Hold {
            id: id(2),
            owner: A,
        };
        assert_eq!(
            source.adopt(after(&resting(), Change::Begin(B)), Time::ZERO),
            [hold]
        );
        assert_eq!(source.next_deadline(), Some(LATE));
        source.handle_last(last(B, 2));
        source.handle_last(last(B, 2));
        assert_eq!(source.poll(Time::ZERO, |_| false), []);
        source.handle_last(last(C, 2));
        assert_eq!(
            source.poll(Time::ZERO, |_| true),
            [Step::Pause { shard: S }]
        );
        assert_eq!(source.poll(Time::ZERO, |_| true), [], "paused once");
        assert_eq!(source.poll(Time::ZERO, |_| false), [ship(2)]);
        assert_eq!(source.poll(LATE, |_| false), [], "shipped once");
        assert_eq!(
            source.refuse(S, RefusedWhy::NotMovable),
            None,
            "what is shipped cannot be refused"
        );
        assert_eq!(source.next_deadline(), None);
    }

    #[test]
    fn markers_may_be_ahead_of_the_source() {
        let mut source = core(A);
        let moving = after(&resting(), Change::Begin(B));
        source.handle_last(last(C, 2));
        source.handle_last(last(B, 2));
        assert_eq!(source.poll(Time::ZERO, |_| false), []);
        assert_eq!(source.adopt(moving, Time::ZERO).len(), 1);
        assert_eq!(source.poll(Time::ZERO, |_| false), [ship(2)]);
        assert!(source.early.is_empty());
    }

    /// A marker of an attempt that was refused must not count for the next: its sender has sent more since.
    #[test]
    fn a_late_marker_of_a_refused_move_does_not_count() {
        let mut source = core(A);
        let moving = after(&resting(), Change::Begin(B));
        let _ = source.adopt(Arc::clone(&moving), Time::ZERO);
        source.handle_last(last(C, 2));
        let refused = Step::Refuse {
            id: id(2),
            why: RefusedWhy::AwaitingLast(B),
        };
        assert_eq!(source.poll(LATE, |_| false), [refused]);
        let stays = after(&moving, Change::Abort);
        assert_eq!(
            source.adopt(Arc::clone(&stays), LATE),
            [Step::Release { shard: S, to: A }]
        );
        let _ = source.adopt(after(&stays, Change::Begin(B)), LATE);
        source.handle_last(last(C, 2));
        source.handle_last(last(B, 2));
        assert_eq!(source.poll(LATE, |_| false), []);
        source.handle_last(last(C, 4));
        source.handle_last(last(B, 4));
        assert_eq!(source.poll(LATE, |_| false), [ship(4)]);
    }

    #[test]
    fn a_suspended_entity_refuses_the_move_at_the_deadline() {
        let mut source = core(A);
        let _ = source.adopt(after(&resting(), Change::Begin(B)), Time::ZERO);
        source.handle_last(last(B, 2));
        source.handle_last(last(C, 2));
        assert_eq!(
            source.poll(Time::ZERO, |_| true),
            [Step::Pause { shard: S }]
        );
        let refused = Step::Refuse {
            id: id(2),
            why: RefusedWhy::Suspended,
        };
        assert_eq!(source.poll(LATE, |_| true), [refused]);
        assert_eq!(source.poll(LATE, |_| false), [], "refused is final");
    }

    #[test]
    fn versions_may_be_skipped() {
        let mut sender = core(C);
        let first = after(&resting(), Change::Begin(B));
        let _ = sender.adopt(Arc::clone(&first), Time::ZERO);
        let again = after(&after(&first, Change::Abort), Change::Begin(B));
        assert_eq!(
            sender.adopt(again, LATE),
            [Step::Hold {
                id: id(4),
                owner: A
            }]
        );
        let held: Vec<_> = sender.held().collect();
        assert_eq!(
            held,
            [Held {
                id: id(4),
                since: Time::ZERO
            }],
            "messages stay held"
        );
    }
}
