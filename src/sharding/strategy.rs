//! Which node a shard is to live on: how one is chosen at first, and which shards move when nodes come and go.
//!
//! These are pure functions of what the log says, so every node that computes them gets the same answer.

use std::collections::BTreeMap;

use crate::base::ids::{NodeId, ShardId};
use crate::base::stable_hash::stable_hash;

/// How the shards of an entity type are spread over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlacementStrategy {
    /// Each node has shards in proportion to its [weight](Candidate::weight), and as few move as possible. A shard that is
    /// without a node goes to the one that has the fewest for its weight.
    #[default]
    LeastLoaded,
    /// Consistent hashing (Karger et al. 1997): nodes own points on a ring in proportion to their weight, a shard belongs
    /// to the next point. Where a shard lives depends on the set of nodes alone; a node that joins takes about 1/N of
    /// the shards, and from nobody else does any move.
    HashRing,
}

/// Points of a node on the ring for each unit of its weight.
const POINTS_PER_WEIGHT: u32 = 150;

/// The most points of one node: beyond it more weight makes the ring only longer.
const MAX_POINTS: u32 = 150 * 64;

/// A node that may own shards of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// What it can carry in comparison with the others; its number of data cores, say. A node that leaves has none, and
    /// loses every shard that it has.
    pub weight: u32,
}

/// A shard that should live elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The shard.
    pub shard: ShardId,
    /// The node that it should live on.
    pub to: NodeId,
}

/// What a strategy would have, given what is.
#[derive(Clone, Debug)]
pub struct Plan {
    strategy: PlacementStrategy,
    /// Candidates that can carry something, by node.
    weights: BTreeMap<NodeId, u32>,
    /// The points of the ring, in order; empty without one.
    ring: Vec<(u64, NodeId)>,
}

impl Plan {
    /// A plan for these candidates. A node that is named twice counts with its last weight.
    #[must_use]
    pub fn new(strategy: PlacementStrategy, candidates: &[Candidate]) -> Plan {
        let weights: BTreeMap<NodeId, u32> = candidates
            .iter()
            .map(|candidate| (candidate.node, candidate.weight))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let ring = match strategy {
            PlacementStrategy::LeastLoaded => Vec::new(),
            PlacementStrategy::HashRing => ring(&weights),
        };
        Plan {
            strategy,
            weights,
            ring,
        }
    }

    /// The nodes for shards that have none, in the order of `shards`. `owners` holds who owns each shard of the type, or
    /// is about to; empty when no candidate can carry anything.
    #[must_use]
    pub fn allocate(
        &self,
        entity_type: &str,
        shards: &[ShardId],
        owners: &[Option<NodeId>],
    ) -> Vec<Relocation> {
        let mut counts = self.counts(owners);
        let choose = |shard: &ShardId| {
            let to = match self.strategy {
                PlacementStrategy::LeastLoaded => self.emptiest(&counts)?,
                PlacementStrategy::HashRing => self.on_ring(entity_type, *shard)?,
            };
            *counts.entry(to).or_default() += 1;
            Some(Relocation { shard: *shard, to })
        };
        shards.iter().map_while(choose).collect()
    }

    /// The shards that should move, most urgent first and at most `cap`: those of nodes that can carry nothing any more,
    /// then those that even out. Shards without an owner are left alone, they are allocated.
    #[must_use]
    pub fn rebalance(
        &self,
        entity_type: &str,
        owners: &[Option<NodeId>],
        cap: usize,
    ) -> Vec<Relocation> {
        let mut relocations = match self.strategy {
            PlacementStrategy::LeastLoaded => self.even_out(owners, cap),
            PlacementStrategy::HashRing => self.follow_ring(entity_type, owners),
        };
        // Stable: among equals the order of shards remains.
        relocations.sort_by_key(|relocation| {
            let owner = owners[relocation.shard.index()];
            owner.is_some_and(|owner| self.weights.contains_key(&owner))
        });
        relocations.truncate(cap);
        relocations
    }

    fn counts(&self, owners: &[Option<NodeId>]) -> BTreeMap<NodeId, u32> {
        let mut counts = BTreeMap::new();
        for owner in owners.iter().flatten() {
            *counts.entry(*owner).or_default() += 1;
        }
        counts
    }

    /// The node that has the fewest shards for its weight; among equals the lowest id.
    fn emptiest(&self, counts: &BTreeMap<NodeId, u32>) -> Option<NodeId> {
        let load = |node: &NodeId| u64::from(counts.get(node).copied().unwrap_or(0)) + 1;
        self.weights
            .iter()
            .min_by(|(a, weight_a), (b, weight_b)| {
                // Fractions, compared crosswise.
                (load(a) * u64::from(**weight_b)).cmp(&(load(b) * u64::from(**weight_a)))
            })
            .map(|(node, _)| *node)
    }

    /// How many of `shards` each node should have: in proportion to its weight, what remains to the largest remainders.
    /// Among equal ones those that have more already keep more, so that nothing moves without need.
    fn quotas(&self, shards: u32, counts: &BTreeMap<NodeId, u32>) -> BTreeMap<NodeId, u32> {
        let total: u64 = self.weights.values().map(|weight| u64::from(*weight)).sum();
        let mut quotas = BTreeMap::new();
        let mut remainders = Vec::new();
        let mut given = 0;
        for (node, weight) in &self.weights {
            let share = u64::from(shards) * u64::from(*weight);
            let whole = u32::try_from(share / total).unwrap_or(u32::MAX);
            given += whole;
            quotas.insert(*node, whole);
            let has_more = counts.get(node).is_some_and(|count| *count > whole);
            remainders.push((share % total, has_more, *node));
        }
        remainders.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then(a.2.cmp(&b.2)));
        for (_, _, node) in remainders.into_iter().take((shards - given) as usize) {
            *quotas.entry(node).or_default() += 1;
        }
        quotas
    }

    fn even_out(&self, owners: &[Option<NodeId>], cap: usize) -> Vec<Relocation> {
        let mut counts = self.counts(owners);
        let owned = counts.values().sum();
        let quotas = if self.weights.is_empty() {
            return Vec::new();
        } else {
            self.quotas(owned, &counts)
        };
        let quota = |node: &NodeId| quotas.get(node).copied().unwrap_or(0);
        let mut gaps = quotas
            .iter()
            .map(|(node, quota)| {
                let has = counts.get(node).copied().unwrap_or(0);
                (*node, quota.saturating_sub(has))
            })
            .filter(|(_, gap)| *gap > 0)
            .collect::<Vec<_>>();
        // The emptiest are filled first, as far as the cap goes.
        gaps.sort_by_key(|(node, gap)| (std::cmp::Reverse(*gap), *node));
        let mut targets = gaps
            .into_iter()
            .flat_map(|(node, gap)| std::iter::repeat_n(node, gap as usize));
        // Nodes that leave come first, and what is left over is cut by the cap.
        let mut surplus: Vec<(bool, ShardId, NodeId)> = (0..)
            .map(ShardId)
            .zip(owners)
            .filter_map(|(shard, owner)| owner.map(|owner| (shard, owner)))
            .map(|(shard, owner)| (self.weights.contains_key(&owner), shard, owner))
            .collect();
        surplus.sort_by_key(|(stays, shard, _)| (*stays, *shard));
        let mut relocations = Vec::new();
        for (_, shard, owner) in surplus {
            let count = counts.entry(owner).or_default();
            if relocations.len() == cap || *count <= quota(&owner) {
                continue;
            }
            let Some(to) = targets.next() else { break };
            *count -= 1;
            relocations.push(Relocation { shard, to });
        }
        relocations
    }

    fn follow_ring(&self, entity_type: &str, owners: &[Option<NodeId>]) -> Vec<Relocation> {
        (0..)
            .map(ShardId)
            .zip(owners)
            .filter_map(|(shard, owner)| {
                let to = self.on_ring(entity_type, shard)?;
                (owner.is_some_and(|owner| owner != to)).then_some(Relocation { shard, to })
            })
            .collect()
    }

    fn on_ring(&self, entity_type: &str, shard: ShardId) -> Option<NodeId> {
        let mut key = entity_type.as_bytes().to_vec();
        key.push(b':');
        key.extend_from_slice(&shard.0.to_le_bytes());
        let point = stable_hash(&key);
        let next = self.ring.partition_point(|(at, _)| *at < point);
        let (_, node) = self.ring.get(next).or(self.ring.first())?;
        Some(*node)
    }
}

fn ring(weights: &BTreeMap<NodeId, u32>) -> Vec<(u64, NodeId)> {
    let points = |(node, weight): (&NodeId, &u32)| {
        let node = *node;
        (0..weight.saturating_mul(POINTS_PER_WEIGHT).min(MAX_POINTS)).map(move |number| {
            let mut key = [0; 8];
            key[..4].copy_from_slice(&node.0.to_le_bytes());
            key[4..].copy_from_slice(&number.to_le_bytes());
            (stable_hash(&key), node)
        })
    };
    let mut ring: Vec<(u64, NodeId)> = weights.iter().flat_map(points).collect();
    ring.sort_unstable();
    ring
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(weights: &[u32]) -> Vec<Candidate> {
        (1..)
            .map(NodeId)
            .zip(weights)
            .map(|(node, weight)| Candidate {
                node,
                weight: *weight,
            })
            .collect()
    }

    fn all(shards: u32) -> Vec<ShardId> {
        (0..shards).map(ShardId).collect()
    }

    fn spread(strategy: PlacementStrategy, shards: u32, weights: &[u32]) -> Vec<Option<NodeId>> {
        let mut owners = vec![None; shards as usize];
        let plan = Plan::new(strategy, &nodes(weights));
        let allocated = plan.allocate("cart", &all(shards), &owners);
        apply(&mut owners, &allocated);
        owners
    }

    fn apply(owners: &mut [Option<NodeId>], relocations: &[Relocation]) {
        for relocation in relocations {
            owners[relocation.shard.index()] = Some(relocation.to);
        }
    }

    fn count(owners: &[Option<NodeId>], node: u32) -> usize {
        owners
            .iter()
            .filter(|owner| **owner == Some(NodeId(node)))
            .count()
    }

    #[test]
    fn shards_are_spread_by_weight() {
        let even = spread(PlacementStrategy::LeastLoaded, 256, &[1, 1, 1]);
        assert_eq!([1, 2, 3].map(|node| count(&even, node)), [86, 85, 85]);
        let weighted = spread(PlacementStrategy::LeastLoaded, 100, &[1, 3]);
        assert_eq!([1, 2].map(|node| count(&weighted, node)), [25, 75]);
        let ring = spread(PlacementStrategy::HashRing, 10_000, &[1, 1, 1, 1]);
        for node in 1..=4 {
            let share = count(&ring, node);
            assert!(
                (2_000..3_000).contains(&share),
                "{share} of 10000 on 1 of 4"
            );
        }
    }

    #[test]
    fn nobody_to_carry_them_leaves_shards_where_they_are() {
        for strategy in [PlacementStrategy::LeastLoaded, PlacementStrategy::HashRing] {
            for candidates in [&[][..], &nodes(&[0, 0])[..]] {
                let plan = Plan::new(strategy, candidates);
                assert_eq!(plan.allocate("cart", &all(3), &[None; 3]), []);
                let owners = [Some(NodeId(1)), None, Some(NodeId(2))];
                assert_eq!(plan.rebalance("cart", &owners, 9), []);
            }
        }
    }

    #[test]
    fn a_join_moves_about_its_share_and_nothing_between_the_others() {
        for strategy in [PlacementStrategy::LeastLoaded, PlacementStrategy::HashRing] {
            for present in 1..8_u32 {
                let before = spread(strategy, 4_096, &vec![1; present as usize]);
                let joined = nodes(&vec![1; present as usize + 1]);
                let moves = Plan::new(strategy, &joined).rebalance("cart", &before, usize::MAX);
                let share = 4_096 / (present + 1);
                let moved = moves.len() as u32;
                assert!(
                    (share * 7 / 10..=share * 13 / 10).contains(&moved),
                    "{strategy:?}: {moved} of 4096 when {present} become one more"
                );
                assert!(
                    moves.iter().all(|m| m.to == NodeId(present + 1)),
                    "{strategy:?}"
                );
            }
        }
    }

    #[test]
    fn the_ring_is_frozen() {
        // Other builds and other machines have to agree.
        let owners = spread(PlacementStrategy::HashRing, 16, &[1, 1, 1]);
        let ids: Vec<u32> = owners.iter().map(|owner| owner.unwrap().0).collect();
        assert_eq!(ids, [1, 2, 3, 1, 2, 1, 2, 2, 2, 1, 1, 2, 1, 3, 2, 2]);
    }

    proptest! {
        /// Round by round, a capped rebalancing comes to rest, empties whoever leaves first, and ends even.
        #[test]
        fn rebalancing_converges(
            before in prop::collection::vec(prop::option::of(1_u32..6), 1..300),
            weights in prop::collection::vec(0_u32..4, 5),
            cap in 1_usize..40,
            ring in any::<bool>(),
        ) {
            let strategy = if ring { PlacementStrategy::HashRing } else { PlacementStrategy::LeastLoaded };
            let plan = Plan::new(strategy, &nodes(&weights));
            let mut owners: Vec<Option<NodeId>> = before.iter().map(|node| node.map(NodeId)).collect();
            let unowned = owners.iter().filter(|owner| owner.is_none()).count();
            let leaves = |node: NodeId| weights[node.index() - 1] == 0;
            let mut rounds = 0;
            loop {
                let moves = plan.rebalance("cart", &owners, cap);
                prop_assert!(moves.len() <= cap);
                let of_leaving = owners.iter().flatten().filter(|node| leaves(**node)).count();
                let urgent = moves
                    .iter()
                    .filter(|m| leaves(owners[m.shard.index()].unwrap()))
                    .count();
                if weights.iter().any(|weight| *weight > 0) {
                    prop_assert_eq!(urgent, of_leaving.min(cap), "who leaves comes first");
                }
                if moves.is_empty() {
                    break;
                }
                for m in &moves {
                    prop_assert!(owners[m.shard.index()] != Some(m.to) && !leaves(m.to));
                }
                apply(&mut owners, &moves);
                rounds += 1;
                prop_assert!(rounds <= 300, "it does not come to rest");
            }
            prop_assert_eq!(owners.iter().filter(|owner| owner.is_none()).count(), unowned);
            let total: u32 = weights.iter().sum();
            let owned = (owners.len() - unowned) as u32;
            for (node, weight) in (1..).zip(&weights) {
                let Some(share) = (owned * weight).checked_div(total) else {
                    break;
                };
                let has = count(&owners, node) as u32;
                prop_assert!(*weight > 0 || has == 0);
                if !ring {
                    prop_assert!(has == share || has == share + 1, "{has} instead of {share}");
                }
            }
        }
    }
}
