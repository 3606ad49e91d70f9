//! Which node owns which shard, as this node knows it, for drivers that choose whom they send to.

use std::sync::atomic::{AtomicU32, Ordering};

use corecast::{EntityTypeId, ShardId, ShardKey, Topology};

/// Nobody.
const NONE: u32 = 0;
/// Keys beyond all that load is sent to: entities that are asked for counts, and those that are watched.
pub(super) const BESIDE: u64 = 1 << 62;
/// Keys tried to find one in a shard; there are 256 shards.
const TRIES: u64 = 8_192;

/// The owners of all shards of one entity type, for any thread.
#[derive(Debug)]
pub(super) struct Owners {
    me: u32,
    shards: Vec<AtomicU32>,
    /// A key of each shard.
    keys: Vec<u64>,
}

impl Owners {
    /// Nobody owns any of these shards; `shard_of` is that of the region.
    pub(super) fn new(me: u32, shards: u32, shard_of: impl Fn(u64) -> ShardKey) -> Owners {
        let mut keys = vec![BESIDE; shards as usize];
        for key in (BESIDE..BESIDE + TRIES).rev() {
            if let Some(place) = keys.get_mut(shard_of(key).shard.index()) {
                *place = key;
            }
        }
        Owners {
            me,
            shards: (0..shards).map(|_| AtomicU32::new(NONE)).collect(),
            keys,
        }
    }

    /// Takes over what the topology says.
    pub(super) fn update(&self, topology: &Topology, entity_type: EntityTypeId) {
        for (shard, place) in (0..).zip(&self.shards) {
            let key = ShardKey {
                entity_type,
                shard: ShardId(shard),
            };
            let owner = topology.owner(key).and_then(|owner| owner.owner);
            place.store(owner.map_or(NONE, |node| node.0), Ordering::Relaxed);
        }
    }

    /// Whether this node owns a shard.
    #[inline]
    pub(super) fn is_mine(&self, shard: ShardId) -> bool {
        self.owner(shard.index()) == self.me
    }

    /// The node that owns a shard; 0 is nobody.
    #[inline]
    pub(super) fn owner_of(&self, shard: ShardId) -> u32 {
        self.owner(shard.index())
    }

    /// A key of a shard that a node owns, if it owns any; `turn` chooses among them.
    pub(super) fn key_of(&self, node: u32, turn: u64) -> Option<u64> {
        let count = self.shards.len() as u64;
        (0..count)
            .map(|step| ((turn + step) % count) as usize)
            .find(|shard| self.owner(*shard) == node)
            .map(|shard| self.keys[shard])
    }

    /// A key of each shard that a node owns.
    pub(super) fn keys_of(&self, node: u32) -> Vec<u64> {
        let shards = 0..self.shards.len();
        shards
            .filter(|shard| self.owner(*shard) == node)
            .map(|shard| self.keys[shard])
            .collect()
    }

    /// A key of each shard that nobody owns.
    pub(super) fn keys_of_nobody(&self) -> Vec<u64> {
        self.keys_of(NONE)
    }

    /// How many there are.
    pub(super) fn shards(&self) -> u32 {
        self.shards.len() as u32
    }

    /// How many shards this node owns, and how many nobody does.
    pub(super) fn counts(&self) -> (u32, u32) {
        let count = |node: u32| {
            let shards = 0..self.shards.len();
            shards.filter(|shard| self.owner(*shard) == node).count() as u32
        };
        (count(self.me), count(NONE))
    }

    fn owner(&self, shard: usize) -> u32 {
        self.shards
            .get(shard)
            .map_or(NONE, |owner| owner.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_a_key_and_every_owner_its_shards() {
        let key = |key: u64| ShardKey {
            entity_type: EntityTypeId(0),
            shard: ShardId((key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u32),
        };
        let owners = Owners::new(2, 256, key);
        assert_eq!(owners.counts(), (0, 256));
        assert_eq!((owners.keys_of_nobody().len(), owners.shards()), (256, 256));
        assert_eq!(owners.key_of(1, 0), None);
        for (shard, owner) in owners.shards.iter().enumerate() {
            owner.store(1 + shard as u32 % 3, Ordering::Relaxed);
            assert_eq!(key(owners.keys[shard]).shard.index(), shard);
        }
        assert_eq!(owners.counts(), (85, 0));
        assert!(owners.is_mine(ShardId(1)) && !owners.is_mine(ShardId(3)));
        let of_three = owners.keys_of(3);
        assert_eq!(of_three.len(), 85);
        for turn in [0, 7, u64::MAX - 300] {
            let key = owners.key_of(3, turn).expect("it owns some");
            assert!(of_three.contains(&key));
        }
    }
}
