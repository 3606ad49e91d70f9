//! What a core tells about itself.

use crate::actor::counters::Turns;
use crate::actor::handle::Gate;
use crate::actor::local::Local;
use crate::actor::refusal::Rejection;
use crate::actor::remote::RemoteStats;
use crate::base::ids::{CoreId, EntityTypeId, ShardId, ShardKey};
use crate::base::time::Time;
use std::time::Duration;

/// A snapshot of every core, taken core by core while they run.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// One for each core that answered; a core that is held by a handler is missing.
    pub cores: Vec<CoreStats>,
    /// Messages from other threads that were refused before they reached a core.
    pub refused_outside: u64,
    /// Messages from other threads that nobody handled, by reason, beyond those of the cores: `tell`s among the above, and
    /// replies and messages that came to a core at its end.
    pub dead_letters_outside: Vec<(Rejection, u64)>,
    /// Events that other threads published and that found no room at a subscriber, or no way into a core.
    pub events_dropped_outside: u64,
    /// The version of the topology.
    pub topology_version: u64,
}

/// A snapshot of one core. Counts are since its start.
#[derive(Clone, Debug)]
pub struct CoreStats {
    /// The core.
    pub core: CoreId,
    /// When it was taken.
    pub at: Time,
    /// Live actors, entities included.
    pub actors: usize,
    /// Actors that wait for their turn.
    pub ready: usize,
    /// Messages in all mailboxes.
    pub queued_messages: usize,
    /// Bytes of the places that the mailboxes have taken for them.
    pub queued_bytes: usize,
    /// Asks that are open.
    pub open_asks: usize,
    /// Futures that are pending.
    pub tasks: usize,
    /// Timers that are pending: of actors and schedules, of asks and sleeping futures, and of the core itself.
    pub timers: usize,
    /// Batches in the lanes towards this core.
    pub lanes: Vec<LaneStats>,
    /// Turns that did something, and how long they took.
    pub turns: Turns,
    /// Messages handled.
    pub handled: u64,
    /// Activations: an actor's turns, with one or more messages each.
    pub activations: u64,
    /// Batches sent to other cores.
    pub batches_sent: u64,
    /// Asks opened.
    pub asks: u64,
    /// Replies that came too late; they are among the dead letters.
    pub late_replies: u64,
    /// Faults of actors.
    pub faults: u64,
    /// Handlers and futures that held the core too long.
    pub stalls: u64,
    /// Actors that were made again after a fault, of theirs or of one whose fate they share.
    pub restarts: u64,
    /// Entities stopped because they were idle or too many.
    pub passivations: u64,
    /// Messages for which an actor said that it has no use.
    pub unhandled: u64,
    /// Subscriptions of actors and closures on this core.
    pub subscriptions: usize,
    /// Events that were published here or came here and found no room at a subscriber or on the way to one.
    pub events_dropped: u64,
    /// Closures that panicked over an event, which ended their subscriptions.
    pub subscriber_panics: u64,
    /// Snapshots of event-sourced actors that could not be stored.
    pub failed_snapshots: u64,
    /// Messages refused at the call, by reason.
    pub refusals: Vec<(Rejection, u64)>,
    /// Messages that nobody handled, by reason.
    pub dead_letters: Vec<(Rejection, u64)>,
    /// What the core has to do with other nodes; `None` on a node that is alone.
    pub remote: Option<RemoteStats>,
    /// By actor type.
    pub types: Vec<TypeStats>,
    /// By entity type.
    pub regions: Vec<RegionStats>,
}

/// The lanes from one other core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStats {
    /// That core.
    pub from: CoreId,
    /// Batches of replies that wait.
    pub replies: usize,
    /// Batches of requests that wait.
    pub requests: usize,
    /// Messages that wait here for that core.
    pub outbox: usize,
}

/// One actor type on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeStats {
    /// Its name.
    pub name: &'static str,
    /// Messages handled.
    pub messages: u64,
    /// Faults.
    pub faults: u64,
    /// Handlers that held the core too long.
    pub stalls: u64,
    /// Mean handling time of a message, from a sample of the activations.
    pub mean_handling: Duration,
    /// The longest time that a handler was seen to hold the core.
    pub longest: Duration,
}

/// One entity type on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStats {
    /// Its name.
    pub name: &'static str,
    /// Active entities.
    pub active: usize,
    /// Messages that wait for moving shards.
    pub held: usize,
    /// The shards that run here: active entities, and messages handled on this core.
    pub shards: Vec<ShardStats>,
}

/// One shard on one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStats {
    /// The shard.
    pub shard: ShardKey,
    /// Its active entities.
    pub active: usize,
    /// Messages that its entities have handled on this core.
    pub handled: u64,
}

impl Stats {
    /// What is known outside of the cores.
    pub(crate) fn outside(gate: &Gate) -> Stats {
        Stats {
            refused_outside: gate.refused(),
            dead_letters_outside: by_reason(&gate.lost().by_reason()),
            events_dropped_outside: gate.topics().dropped(),
            ..Stats::default()
        }
    }
}

impl CoreStats {
    /// All dead letters.
    #[must_use]
    pub fn dead_letters_total(&self) -> u64 {
        self.dead_letters.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn of(local: &Local) -> CoreStats {
        let lanes = (0..local.port.cores() as u16)
            .map(CoreId)
            .filter(|from| *from != local.core)
            .map(|from| {
                let (replies, requests) = local.port.inbound_depth(from);
                LaneStats {
                    from,
                    replies,
                    requests,
                    outbox: local.outbox[from.index()].messages,
                }
            });
        CoreStats {
            core: local.core,
            at: local.now,
            actors: local.cells.len(),
            ready: local.ready.len(),
            queued_messages: local.queued.messages(),
            queued_bytes: local.queued.bytes(),
            open_asks: local.open_asks,
            tasks: local.tasks.len(),
            timers: local.timers.len(),
            lanes: lanes.collect(),
            turns: local.turns,
            handled: local.counters.handled,
            activations: local.counters.activations,
            batches_sent: local.counters.batches_sent,
            asks: local.counters.asks,
            late_replies: local.counters.dead_letters[Rejection::LateReply as usize],
            faults: local.counters.faults,
            stalls: local.counters.stalls,
            restarts: local.counters.restarts,
            passivations: local.counters.passivations,
            unhandled: local.counters.unhandled,
            subscriptions: local.events.len(),
            events_dropped: local.counters.events_dropped,
            subscriber_panics: local.counters.subscriber_panics,
            failed_snapshots: local.counters.failed_snapshots,
            refusals: by_reason(&local.counters.refusals),
            dead_letters: by_reason(&local.counters.dead_letters),
            remote: local.remote_stats(),
            types: local
                .kinds
                .iter()
                .map(|kind| TypeStats {
                    name: kind.name,
                    messages: kind.messages,
                    faults: kind.faults,
                    stalls: kind.stalls,
                    mean_handling: Duration::from_nanos(kind.mean_nanos()),
                    longest: kind.longest,
                })
                .collect(),
            regions: (0..local.regions.len())
                .map(|number| region_stats(local, number))
                .collect(),
        }
    }
}

/// The counts that are not zero, with their reasons.
fn by_reason(counts: &[u64]) -> Vec<(Rejection, u64)> {
    Rejection::ALL
        .into_iter()
        .zip(counts.iter().copied())
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn region_stats(local: &Local, number: usize) -> RegionStats {
    let (state, region) = (&local.region_states[number], &local.regions[number]);
    let shards = (0..state.hosted.len())
        .filter(|shard| state.hosted[*shard])
        .map(|shard| ShardStats {
            shard: ShardKey {
                entity_type: EntityTypeId(number as u16),
                shard: ShardId(shard as u32),
            },
            active: region.entities(ShardId(shard as u32)),
            handled: state.handled[shard],
        });
    RegionStats {
        name: state.name,
        active: state.active,
        held: region.held(),
        shards: shards.collect(),
    }
}
