//! Which shards move, from one look at the topology to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use corecast::{CoreId, ShardKey, Time, Topology};

/// A move that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// When it was seen.
    pub(super) at: Time,
    pub(super) shard: ShardKey,
    /// Where the shard is now.
    pub(super) to: CoreId,
}

/// Sees every move: each raises the shard's epoch by one, so none is missed between two looks.
#[derive(Debug, Default)]
pub(super) struct ShardWatch {
    epochs: BTreeMap<ShardKey, u64>,
    moves: Vec<Moved>,
}

impl ShardWatch {
    /// Compares with the look before; the first one only takes note.
    pub(super) fn look(&mut self, at: Time, topology: &Topology) {
        for (shard, placement) in topology.iter() {
            let epoch = placement.epoch.0;
            let before = self.epochs.insert(shard, epoch).unwrap_or(epoch);
            let to = placement.owner;
            self.moves
                .extend((before..epoch).map(|_| Moved { at, shard, to }));
        }
    }

    /// The moves in the order they were seen.
    pub(super) fn moves(&self) -> &[Moved] {
        &self.moves
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.epochs.len()
    }

    /// How many shards have moved twice in less than `within`.
    pub(super) fn moved_twice(&self, within: Duration) -> usize {
        let mut times: BTreeMap<ShardKey, Vec<Time>> = BTreeMap::new();
        for moved in &self.moves {
            times.entry(moved.shard).or_default().push(moved.at);
        }
        let is_restless =
            |times: &&Vec<Time>| times.windows(2).any(|pair| pair[1] - pair[0] < within);
        times.values().filter(is_restless).count()
    }
}

#[cfg(test)]
mod tests {
    use corecast::sharding::topology::{Allocation, Change};
    use corecast::{EntityTypeId, ShardId};

    use super::*;

    fn key(shard: u32) -> ShardKey {
        ShardKey {
            entity_type: EntityTypeId(0),
            shard: ShardId(shard),
        }
    }

    fn moved(topology: &Topology, shard: u32, to: u16) -> Topology {
        topology
            .next(&[(key(shard), Change::Begin(CoreId(to)))])
            .next(&[(key(shard), Change::Finish)])
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn moves_are_seen_also_when_the_shard_is_back_by_the_next_look() {
        let cores = [CoreId(0), CoreId(1)];
        let first = Topology::allocate(&[3], &cores, Allocation::AllOn(CoreId(0))).expect("cores");
        let mut watch = ShardWatch::default();
        watch.look(at(0), &first);
        assert_eq!((watch.moves(), watch.shards()), (&[][..], 3));

        let refused = first
            .next(&[(key(2), Change::Begin(CoreId(1)))])
            .next(&[(key(2), Change::Abort)]);
        watch.look(at(1), &refused);
        assert_eq!(watch.moves(), [], "a refused move is none");

        let once = moved(&refused, 0, 1);
        let back = moved(&moved(&once, 1, 1), 1, 0);
        watch.look(at(2), &back);
        let seen: Vec<_> = watch
            .moves()
            .iter()
            .map(|moved| (moved.shard, moved.to))
            .collect();
        assert_eq!(
            seen,
            [
                (key(0), CoreId(1)),
                (key(1), CoreId(0)),
                (key(1), CoreId(0))
            ]
        );
        assert_eq!(watch.moved_twice(Duration::from_secs(60)), 1);

        watch.look(at(62), &moved(&back, 0, 0));
        assert_eq!(
            watch.moved_twice(Duration::from_secs(60)),
            1,
            "exactly 60 s later"
        );
        assert_eq!(watch.moved_twice(Duration::from_secs(61)), 2);
    }
}
