//! The topology: an immutable, versioned table of which core owns which shard.
//!
//! The coordination core alone makes new versions; every core holds an `Arc` of the newest it has seen and looks up
//! where a message goes without asking anyone. A new version copies the tables of the entity types that changed and
//! shares the others with the version before it.
//!
//! An entity type of a cluster has a second table: which node owns which shard, as the log of the cluster says. The first
//! then says on which core the shard is, or would be, on this node.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::cluster_view::{ClusterShards, ClusterView, ShardOwner};
use crate::base::ids::{CoreId, EntityTypeId, Epoch, NodeId, ShardId, ShardKey};

/// Where one shard lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The core that runs the shard's entities; while the shard moves, the core that it leaves.
    pub owner: CoreId,
    /// How often the shard has been assigned. It rises when a move succeeds and stays when one is refused.
    pub epoch: Epoch,
    /// The core that the shard is moving to; while this is set, senders hold their messages for the shard.
    pub moving_to: Option<CoreId>,
    /// The version of the topology in which this placement last changed. While the shard moves it names the move.
    pub since: u64,
}

/// One attempt to move a shard: the shard and the version of the topology that began the attempt.
///
/// A refused move keeps the shard's epoch, so the epoch alone could not tell a late marker of the refused attempt from
/// one of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId {
    /// The shard that moves.
    pub shard: ShardKey,
    /// The version of the topology that announced the move.
    pub version: u64,
}

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (move of version {})", self.shard, self.version)
    }
}

/// What a sender does with a message for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Send it to this core.
    To(CoreId),
    /// The shard is moving: keep the message in the own bounded outbox, behind those already held for the shard.
    Hold,
    /// Another node owns the shard.
    Away(NodeId),
    /// No node owns the shard yet, or any more: keep the message as for [`Route::Hold`], and have the shard allocated.
    Unallocated,
}

/// Where the shards of a runtime start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// Spread evenly over the data cores, in turn and across entity types.
    #[default]
    RoundRobin,
    /// All on one core: a deliberately hot start, from which the balancer has to recover.
    AllOn(CoreId),
}

/// A change of one shard's placement, applied by [`Topology::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The shard at rest starts to move to this core.
    Begin(CoreId),
    /// The move succeeded: the target owns the shard under the next epoch.
    Finish,
    /// The move was refused: the owner keeps the shard under its old epoch.
    Abort,
}

/// Why a topology could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// There is no core to put shards on.
    #[error("there are shards but no data cores; give the runtime at least one data core")]
    NoDataCores,
    /// A data core was named more than once.
    #[error("{core} is given twice as a data core; name each core once")]
    CoreGivenTwice {
        /// The core that is given twice.
        core: CoreId,
    },
    /// An entity type has no shards, so none of its entities could live anywhere.
    #[error("entity type {entity_type} has zero shards; give it at least one")]
    NoShards {
        /// The entity type.
        entity_type: EntityTypeId,
    },
    /// The core that all shards should start on is no data core.
    #[error(
        "all shards should start on {core}, which is not one of the data cores; choose a data core"
    )]
    UnknownCore {
        /// The core that was asked for.
        core: CoreId,
    },
    /// There are more entity types than ids for them.
    #[error("{types} entity types are registered, at most 65536 are possible")]
    TooManyTypes {
        /// How many were registered.
        types: usize,
    },
}

/// The placements of every shard of every entity type, at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub(super) version: u64,
    pub(super) types: Vec<TypeShards>,
    /// `None` on a node that is alone.
    pub(super) cluster: Option<ClusterView>,
}

/// The placements of one entity type's shards, shared between the versions in which they are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeShards {
    pub(super) placements: Arc<[Placement]>,
    /// `None` for a type whose shards all belong to this node.
    pub(super) cluster: Option<ClusterShards>,
}

impl Topology {
    /// The first version: every shard at rest under epoch 1. `shards_per_type` holds the number of shards of each
    /// entity type, in the order of registration.
    ///
    /// # Errors
    ///
    /// [`TopologyError`] when there is no core for the shards, a core is given twice, the core of
    /// [`Allocation::AllOn`] is not among `data_cores`, or a type has no shards.
    pub fn allocate(
        shards_per_type: &[u32],
        data_cores: &[CoreId],
        allocation: Allocation,
    ) -> Result<Topology, TopologyError> {
        check(shards_per_type, data_cores, allocation)?;
        let mut turn = data_cores.iter().copied().cycle();
        let mut next_owner = || match allocation {
            Allocation::RoundRobin => turn.next().unwrap_or_default(),
            Allocation::AllOn(core) => core,
        };
        let types = shards_per_type
            .iter()
            .map(|&shards| TypeShards {
                placements: (0..shards)
                    .map(|_| Placement {
                        owner: next_owner(),
                        epoch: Epoch(1),
                        moving_to: None,
                        since: 1,
                    })
                    .collect(),
                cluster: None,
            })
            .collect();
        Ok(Topology {
            version: 1,
            types,
            cluster: None,
        })
    }

    /// The version, counted from 1. A core that holds a newer one ignores this one.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where a message for `key` goes; `None` when there is no such shard.
    #[inline]
    #[must_use]
    pub fn route(&self, key: ShardKey) -> Option<Route> {
        let placement = self.placement(key)?;
        Some(match self.owner(key) {
            Some(ShardOwner { owner: None, .. }) => Route::Unallocated,
            Some(ShardOwner {
                owner: Some(node), ..
            }) if !self.is_me(node) => Route::Away(node),
            Some(ShardOwner {
                moving: Some(_), ..
            }) => Route::Hold,
            _ if placement.moving_to.is_some() => Route::Hold,
            _ => Route::To(placement.owner),
        })
    }

    /// The placement of `key`; `None` when there is no such shard.
    #[inline]
    #[must_use]
    pub fn placement(&self, key: ShardKey) -> Option<&Placement> {
        self.types
            .get(key.entity_type.index())?
            .placements
            .get(key.shard.index())
    }

    /// The shards of one entity type; `None` when there is no such type.
    #[inline]
    #[must_use]
    pub fn shards_of(&self, entity_type: EntityTypeId) -> Option<&TypeShards> {
        self.types.get(entity_type.index())
    }

    /// How many entity types there are.
    #[must_use]
    pub fn type_count(&self) -> usize {
        self.types.len()
    }

    /// Every shard with its placement, by type and shard.
    pub fn iter(&self) -> impl Iterator<Item = (ShardKey, &Placement)> {
        (0u16..)
            .zip(&self.types)
            .flat_map(|(number, shards)| shards.iter(EntityTypeId(number)))
    }

    /// The next version, in which `changes` have been made. A change that does not fit the placement (to finish a move
    /// of a shard at rest, to begin one twice, an unknown shard) leaves it as it is.
    #[must_use]
    pub fn next(&self, changes: &[(ShardKey, Change)]) -> Topology {
        let mut next = self.clone();
        next.version += 1;
        for &(key, change) in changes {
            let changed = self
                .placement(key)
                .and_then(|&old| old.changed(change, next.version));
            if let (Some(placement), Some(shards)) =
                (changed, next.types.get_mut(key.entity_type.index()))
            {
                Arc::make_mut(&mut shards.placements)[key.shard.index()] = placement;
            }
        }
        next
    }

    /// The shards whose placement differs from that in `older`, each with its old and its new placement.
    pub(super) fn changes_since<'a>(
        &'a self,
        older: &'a Topology,
    ) -> impl Iterator<Item = (ShardKey, Placement, Placement)> + 'a {
        (0u16..)
            .zip(self.types.iter().zip(&older.types))
            .filter(|(_, (new, old))| !Arc::ptr_eq(&new.placements, &old.placements))
            .flat_map(|(number, (new, old))| {
                new.iter(EntityTypeId(number)).zip(old.placements.iter())
            })
            .filter(|((_, new), old)| new.since != old.since)
            .map(|((key, new), old)| (key, *old, *new))
    }
}

impl TypeShards {
    /// How many shards the type has.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.placements.len()).unwrap_or(u32::MAX)
    }

    /// The placements, indexed by shard.
    #[inline]
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    fn iter(&self, entity_type: EntityTypeId) -> impl Iterator<Item = (ShardKey, &Placement)> {
        (0u32..)
            .zip(self.placements.iter())
            .map(move |(shard, placement)| {
                let shard = ShardId(shard);
                (ShardKey { entity_type, shard }, placement)
            })
    }
}

impl Placement {
    /// The move in progress; `None` while the shard `key`, whose placement this is, rests.
    #[must_use]
    pub fn move_of(&self, key: ShardKey) -> Option<MoveId> {
        self.moving_to.map(|_| MoveId {
            shard: key,
            version: self.since,
        })
    }

    fn changed(self, change: Change, version: u64) -> Option<Placement> {
        let (owner, epoch, moving_to) = match (change, self.moving_to) {
            (Change::Begin(to), None) => (self.owner, self.epoch, Some(to)),
            (Change::Finish, Some(to)) => (to, Epoch(self.epoch.0 + 1), None),
            (Change::Abort, Some(_)) => (self.owner, self.epoch, None),
            (Change::Begin(_), Some(_)) | (Change::Finish | Change::Abort, None) => return None,
        };
        Some(Placement {
            owner,
            epoch,
            moving_to,
            since: version,
        })
    }
}

fn check(
    shards_per_type: &[u32],
    data_cores: &[CoreId],
    allocation: Allocation,
) -> Result<(), TopologyError> {
    if shards_per_type.len() > 1 << 16 {
        return Err(TopologyError::TooManyTypes {
            types: shards_per_type.len(),
        });
    }
    if let Some((number, _)) = (0u16..)
        .zip(shards_per_type)
        .find(|(_, shards)| **shards == 0)
    {
        return Err(TopologyError::NoShards {
            entity_type: EntityTypeId(number),
        });
    }
    if data_cores.is_empty() && !shards_per_type.is_empty() {
        return Err(TopologyError::NoDataCores);
    }
    let twice = data_cores
        .iter()
        .enumerate()
        .find(|&(i, core)| data_cores[..i].contains(core));
    if let Some((_, &core)) = twice {
        return Err(TopologyError::CoreGivenTwice { core });
    }
    match allocation {
        Allocation::AllOn(core) if !data_cores.contains(&core) => {
            Err(TopologyError::UnknownCore { core })
        }
        Allocation::AllOn(_) | Allocation::RoundRobin => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: [CoreId; 3] = [CoreId(0), CoreId(1), CoreId(2)];

    fn key(entity_type: u16, shard: u32) -> ShardKey {
        ShardKey {
            entity_type: EntityTypeId(entity_type),
            shard: ShardId(shard),
        }
    }

    fn owned(topology: &Topology) -> Vec<usize> {
        CORES
            .iter()
            .map(|core| topology.iter().filter(|(_, p)| p.owner == *core).count())
            .collect()
    }

    #[test]
    fn allocation_spreads_over_types_or_starts_hot() {
        for (shards, allocation, expected) in [
            (&[256, 256][..], Allocation::RoundRobin, [171, 171, 170]),
            (&[1, 1, 1], Allocation::RoundRobin, [1, 1, 1]),
            (&[4], Allocation::RoundRobin, [2, 1, 1]),
            (&[4, 5], Allocation::AllOn(CoreId(1)), [0, 9, 0]),
            (&[], Allocation::RoundRobin, [0, 0, 0]),
        ] {
            let topology = Topology::allocate(shards, &CORES, allocation).unwrap();
            assert_eq!(owned(&topology), expected, "{shards:?} {allocation:?}");
            assert_eq!(
                (topology.version(), topology.type_count()),
                (1, shards.len())
            );
        }
    }

    #[test]
    fn impossible_allocations_say_why() {
        let hot = Allocation::AllOn(CoreId(7));
        for (shards, cores, allocation, error) in [
            (
                &[1][..],
                &[][..],
                Allocation::RoundRobin,
                TopologyError::NoDataCores,
            ),
            (
                &[1],
                &CORES,
                hot,
                TopologyError::UnknownCore { core: CoreId(7) },
            ),
            (
                &[1, 0],
                &CORES,
                hot,
                TopologyError::NoShards {
                    entity_type: EntityTypeId(1),
                },
            ),
            (
                &[1],
                &[CoreId(1), CoreId(1)],
                Allocation::RoundRobin,
                TopologyError::CoreGivenTwice { core: CoreId(1) },
            ),
        ] {
            assert_eq!(Topology::allocate(shards, cores, allocation), Err(error));
        }
        let many = vec![1; (1 << 16) + 1];
        let error = Topology::allocate(&many, &CORES, Allocation::RoundRobin).unwrap_err();
        assert_eq!(error, TopologyError::TooManyTypes { types: many.len() });
    }

    #[test]
    fn unknown_shards_have_no_route() {
        let topology = Topology::allocate(&[2], &CORES, Allocation::RoundRobin).unwrap();
        assert_eq!(topology.route(key(0, 1)), Some(Route::To(CoreId(1))));
        assert_eq!(topology.route(key(0, 2)), None);
        assert_eq!(topology.route(key(1, 0)), None);
        assert_eq!(topology.shards_of(EntityTypeId(0)).unwrap().count(), 2);
        assert!(topology.shards_of(EntityTypeId(1)).is_none());
    }

    /// Each step of a shard's life; `None` where the change does not fit and nothing happens.
    #[test]
    fn changes_follow_the_table() {
        let rest = Placement {
            owner: CoreId(0),
            epoch: Epoch(4),
            moving_to: None,
            since: 3,
        };
        let moving = Placement {
            moving_to: Some(CoreId(1)),
            since: 9,
            ..rest
        };
        let moved = Placement {
            owner: CoreId(1),
            epoch: Epoch(5),
            since: 9,
            ..rest
        };
        for (from, change, to) in [
            (rest, Change::Begin(CoreId(1)), Some(moving)),
            (rest, Change::Finish, None),
            (rest, Change::Abort, None),
            (moving, Change::Begin(CoreId(2)), None),
            (moving, Change::Finish, Some(moved)),
            (moving, Change::Abort, Some(Placement { since: 9, ..rest })),
        ] {
            assert_eq!(from.changed(change, 9), to, "{from:?} {change:?}");
        }
    }

    #[test]
    fn a_new_version_shares_what_did_not_change() {
        let first = Topology::allocate(&[4, 4], &CORES, Allocation::RoundRobin).unwrap();
        let second = first.next(&[(key(1, 2), Change::Begin(CoreId(1)))]);
        assert_eq!(second.version(), 2);
        assert!(Arc::ptr_eq(
            &first.types[0].placements,
            &second.types[0].placements
        ));
        assert_eq!(
            first.placement(key(1, 2)).unwrap().moving_to,
            None,
            "the old one stays"
        );
        assert_eq!(second.route(key(1, 2)), Some(Route::Hold));
        let changed: Vec<_> = second.changes_since(&first).map(|(key, ..)| key).collect();
        assert_eq!(changed, [key(1, 2)]);
        let id = second.placement(key(1, 2)).unwrap().move_of(key(1, 2));
        assert_eq!(
            id,
            Some(MoveId {
                shard: key(1, 2),
                version: 2
            })
        );
        assert_eq!(first.placement(key(1, 2)).unwrap().move_of(key(1, 2)), None);
    }
}
