//! The arithmetic of the balancer: which shards to move, given the load of each core and shard.

use std::collections::BTreeMap;

use crate::base::ids::{CoreId, ShardKey};
use crate::sharding::settings::BalancerSettings;

/// The largest load that may move, as a part of the gap between source and target. Moving `l` over a gap `g` lowers the
/// larger load by `min(l, g - l)`, so up to 2/3 the gain is at least `l / 2`.
const MAX_SHARE_OF_GAP: f64 = 2.0 / 3.0;

/// A move that the balancer proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The shard.
    pub shard: ShardKey,
    /// The core that it relieves.
    pub from: CoreId,
    /// The core to which it should go.
    pub to: CoreId,
}

/// One core in a plan: its projected load, and its shards that may move with theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Bin {
    pub(super) load: f64,
    pub(super) movable: Vec<(ShardKey, f64)>,
}

/// What a round does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) moves: Vec<Relocation>,
    /// The hot cores that still could give something away when the round was full.
    pub(super) unfinished: Vec<CoreId>,
}

/// Takes from the hottest of the `hot` cores and gives to the coldest of all, until each is near the mean, has nothing
/// fitting to give, or the round is full. Equal loads are settled by the lower id.
pub(super) fn plan(
    settings: &BalancerSettings,
    mut bins: BTreeMap<CoreId, Bin>,
    mut hot: Vec<CoreId>,
) -> Plan {
    let enough = mean(&bins) * (1.0 + settings.target);
    let mut moves = Vec::new();
    while moves.len() < settings.max_moves {
        let hottest_first =
            |a: &CoreId, b: &CoreId| bins[a].load.total_cmp(&bins[b].load).then(b.cmp(a));
        let Some(from) = hot.iter().copied().max_by(hottest_first) else {
            break;
        };
        let coldest = bins
            .iter()
            .min_by(|(_, a), (_, b)| a.load.total_cmp(&b.load));
        let Some(to) = coldest.map(|(core, _)| *core) else {
            break;
        };
        let gap = bins[&from].load - bins[&to].load;
        let fitting = if bins[&from].load > enough {
            best_fit(&bins[&from].movable, gap)
        } else {
            None
        };
        match fitting {
            None => hot.retain(|core| *core != from),
            Some(index) => {
                let (shard, load) = take(&mut bins, from, index);
                if let Some(bin) = bins.get_mut(&to) {
                    bin.load += load;
                }
                moves.push(Relocation { shard, from, to });
            }
        }
    }
    let unfinished = hot;
    Plan { moves, unfinished }
}

/// The shard whose move over `gap` lowers the larger load the most, among those that are small enough for it.
fn best_fit(movable: &[(ShardKey, f64)], gap: f64) -> Option<usize> {
    let distance = |load: f64| (load - gap / 2.0).abs();
    movable
        .iter()
        .enumerate()
        .filter(|(_, (_, load))| *load <= gap * MAX_SHARE_OF_GAP)
        .min_by(|(_, a), (_, b)| distance(a.1).total_cmp(&distance(b.1)).then(a.0.cmp(&b.0)))
        .map(|(index, _)| index)
}

fn take(bins: &mut BTreeMap<CoreId, Bin>, from: CoreId, index: usize) -> (ShardKey, f64) {
    let bin = bins.get_mut(&from).expect("the source is one of the bins");
    let taken = bin.movable.remove(index);
    bin.load -= taken.1;
    taken
}

pub(super) fn mean(bins: &BTreeMap<CoreId, Bin>) -> f64 {
    bins.values().map(|bin| bin.load).sum::<f64>() / (bins.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{EntityTypeId, ShardId};

    fn key(shard: usize) -> ShardKey {
        ShardKey {
            entity_type: EntityTypeId(0),
            shard: ShardId(u32::try_from(shard).unwrap()),
        }
    }

    #[test]
    fn the_best_fit_is_nearest_to_half_of_the_gap() {
        for (loads, gap, expected) in [
            (&[1.0, 5.0, 3.0][..], 10.0, Some(1)),
            (&[8.0, 1.0], 10.0, Some(1)),
            (&[8.0, 7.0], 10.0, None),
            (&[6.0, 4.0], 10.0, Some(0)),
            (&[2.0, 2.0], 10.0, Some(0)),
            (&[6.7], 10.0, None),
            (&[6.6], 10.0, Some(0)),
            (&[1.0], 0.0, None),
            (&[], 10.0, None),
        ] {
            let movable: Vec<_> = loads
                .iter()
                .enumerate()
                .map(|(i, load)| (key(i), *load))
                .collect();
            assert_eq!(best_fit(&movable, gap), expected, "{loads:?} over {gap}");
        }
    }
}
