//! Who has given a shard away to another node and lives on: part of what the log of the cluster says of ownership.
//!
//! A past owner may hold, or have on its way, what was sent to it for the shard. Whoever hears of several owners at once has to
//! know those between: when the one that it has sent to dies, what that one has passed on is at one of them.

use super::ownership::OwnershipChange;
use crate::base::ids::{Epoch, NodeId, ShardKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many past owners of a shard are known, the latest. More matter only to a core that hears of more at once, with a death
/// among the news: in a cluster of so many nodes none is missed.
pub const MAX_PAST_OWNERS: usize = 16;

/// A node that has given a shard away, and has been a member ever since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastOwner {
    /// The node.
    pub node: NodeId,
    /// The last epoch in which it gave the shard away.
    pub epoch: Epoch,
}

/// The past owners of all shards. Memory: at most [`MAX_PAST_OWNERS`] of each shard that has moved between live nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastOwners {
    /// Of each shard in the order of their epochs, each node once.
    of: BTreeMap<ShardKey, Arc<[PastOwner]>>,
}

impl PastOwners {
    /// Those of one shard, in the order of their epochs.
    #[must_use]
    pub fn of(&self, shard: ShardKey) -> &[PastOwner] {
        self.of.get(&shard).map_or(&[], |past| &**past)
    }

    /// All of them, by shard.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ShardKey, &[PastOwner])> {
        self.of.iter().map(|(shard, past)| (*shard, &**past))
    }

    /// Whether a change makes a past owner of somebody.
    pub(super) fn concerns(change: &OwnershipChange) -> bool {
        let (before, now) = (change.before, change.now);
        before.owner.is_some() && now.owner.is_some() && before.epoch != now.epoch
    }

    /// The owner of before has given the shard away, if it has.
    pub(super) fn follow(&mut self, change: &OwnershipChange) {
        if let Some(node) = change.before.owner.filter(|_| PastOwners::concerns(change)) {
            self.gave_away(change.shard, node, change.before.epoch);
        }
    }

    /// A node has given a shard away that it had in this epoch.
    pub(crate) fn gave_away(&mut self, shard: ShardKey, node: NodeId, epoch: Epoch) {
        let before = self.of(shard).iter().filter(|it| it.node != node);
        let mut past: Vec<PastOwner> = before.copied().collect();
        past.push(PastOwner { node, epoch });
        let first = past.len().saturating_sub(MAX_PAST_OWNERS);
        self.of.insert(shard, past[first..].into());
    }

    /// Whether a life of a node is a past owner of anything.
    pub(super) fn has(&self, node: NodeId) -> bool {
        let mut all = self.of.values().flat_map(|past| past.iter());
        all.any(|it| it.node == node)
    }

    /// A life of a node is over: it passes nothing on any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.of.retain(|_, past| {
            if past.iter().any(|it| it.node == node) {
                *past = past.iter().filter(|it| it.node != node).copied().collect();
            }
            !past.is_empty()
        });
    }

    /// Those of a shard as they were, for a snapshot. Whether they make sense.
    pub(super) fn restore(&mut self, shard: ShardKey, past: Vec<PastOwner>) -> bool {
        let rises = past.is_sorted_by(|one, next| one.epoch < next.epoch);
        let makes_sense = rises && (1..=MAX_PAST_OWNERS).contains(&past.len());
        makes_sense && self.of.insert(shard, past.into()).is_none()
    }
}
