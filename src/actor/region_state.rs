//! What is known of a region on one core without knowing its types.

use super::control::Cargo;
use super::local::Local;
use super::node_shipping::NodeOps;
use super::recency::Recency;
use super::refusal::Rejection;
use super::supervision::Supervision;
use super::wire_region::Deliver;
use crate::base::ids::{CoreId, Epoch, ShardId};
use crate::sharding::handoff::Last;
use crate::sharding::topology::MoveId;
use crate::wire::frame::FrameRef;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The untyped half of a region on one core.
pub(crate) struct RegionState {
    pub(crate) name: &'static str,
    /// The name of its message type.
    pub(crate) message: &'static str,
    /// Its entities run only while the node has its lease.
    pub(crate) is_leased: bool,
    /// They are sealed, because it has none.
    pub(crate) is_lapsed: bool,
    /// Messages handled by each shard since the start.
    pub(crate) handled: Vec<u64>,
    pub(crate) kind: u16,
    /// Of a type of the cluster: the epoch in which each shard runs here, or has run last.
    pub(crate) epochs: Vec<Epoch>,
    /// Of a type of the cluster: what this core has sent to the nodes that own its shards.
    pub(crate) sent_away: SentAway,
    /// Shards whose entities run on this core.
    pub(crate) hosted: Vec<bool>,
    /// Shards that are being shipped: none of their entities may run.
    pub(crate) sealed: Vec<bool>,
    /// Entities of each shard that wait in an asynchronous handler.
    pub(crate) suspended: BTreeMap<u32, u32>,
    pub(crate) active: usize,
    pub(crate) idle: Option<Duration>,
    pub(crate) max_active: Option<usize>,
    /// What is done about the faults of its entities.
    pub(crate) supervision: Supervision,
    /// Only kept where one of the two kinds of passivation is asked for.
    pub(crate) recency: Option<Recency>,
    pub(crate) timer_set: bool,
    pub(crate) ops: RegionOps,
}

/// For which shards a core has sent something to the nodes that own them, since it has known them to.
pub(crate) struct SentAway {
    /// Of its own, by shard.
    own: Vec<bool>,
    /// What it has passed on: the cores of other nodes, of another index than its own, that have sent that.
    passed_on: BTreeMap<ShardId, BTreeSet<CoreId>>,
}

impl SentAway {
    pub(crate) fn new(shards: u32) -> SentAway {
        SentAway {
            own: vec![false; shards as usize],
            passed_on: BTreeMap::new(),
        }
    }

    pub(crate) fn note_own(&mut self, shard: ShardId) {
        if let Some(sent) = self.own.get_mut(shard.index()) {
            *sent = true;
        }
    }

    /// A message of a core of another node was passed on.
    pub(crate) fn note_passed_on(&mut self, shard: ShardId, stream: CoreId) {
        self.passed_on.entry(shard).or_default().insert(stream);
    }

    /// Whose messages for a shard have gone from the core `me`. From now on nothing has.
    pub(crate) fn take(&mut self, shard: ShardId, me: CoreId) -> Vec<CoreId> {
        let sent = self.own.get_mut(shard.index());
        let own = sent.is_some_and(std::mem::take).then_some(me);
        let passed_on = self.passed_on.remove(&shard).unwrap_or_default();
        own.into_iter().chain(passed_on).collect()
    }
}

impl RegionState {
    pub(crate) fn is_over(&self) -> bool {
        self.max_active.is_some_and(|max| self.active > max)
    }
}

/// What the engine does to a region without knowing its types.
#[derive(Clone, Copy)]
pub(crate) struct RegionOps {
    pub(crate) send_last: fn(&mut Local, Last, CoreId),
    pub(crate) release_held: fn(&mut Local, u16, ShardId),
    /// Has those of the held messages go on that have come by the present route of their shard, whose epoch is given.
    pub(crate) release_present: fn(&mut Local, u16, ShardId, Epoch),
    pub(crate) ship: fn(&mut Local, u16, Shipment) -> Box<dyn Cargo>,
    pub(crate) reject_held: fn(&mut Local, u16, Option<ShardId>, Rejection),
    /// The same of what other nodes have sent, for all shards.
    pub(crate) reject_frames: fn(&mut Local, u16, Rejection),
    /// For types whose messages travel.
    pub(crate) deliver: Option<Deliver>,
    /// Drops the message in a frame that is refused.
    pub(crate) drop_message: Option<fn(FrameRef<'_>)>,
    /// How its shards change nodes, for types whose messages travel.
    pub(crate) node: Option<NodeOps>,
}

/// What is to be shipped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shipment {
    pub(crate) id: MoveId,
    pub(crate) epoch: Epoch,
    /// At most so many entities at once, so that the core stays responsive.
    pub(crate) limit: usize,
}
