//! Which node owns which shard, as the log of the cluster says: the replicated part of placement.
//!
//! Every node applies the same commands in the same order and so has the same table. Whatever concerns one shard is
//! decided here alone; timers, loads and failures only lead to proposals.
//!
//! ```text
//!               Allocate(n)            Prepare(m)
//!   unallocated ──────────▶ owned by n ──────────▶ moving from n to m
//!        ▲                   │  ▲    ▲               │    │    │
//!        │                   │  │    └── Abort ──────┘    │    │
//!        │                   │  └── Own: owned by m ──────┘    │
//!        └───────────────────┴── Down(n) ─────────────────────┘
//! ```
//!
//! - Every assignment (`Allocate`, `Own`) gives the shard its next **epoch**; an `Abort` keeps the old one.
//! - [`Down`](OwnershipTable::node_down) of an owner takes the shard from it and raises the shard's **fence** to the epoch that its next owner will
//!   have: what comes from below it is refused. A graceful move leaves the fence where it is, since what its past owner
//!   said before it gave the shard away holds.
//! - `Down` of the target of a move is an `Abort`. When the source dies in a move, what it had in memory is lost, whether
//!   or not some of it has reached the target, and the shard is allocated anew.
//! - Whoever gives a shard away stays known as a [past owner](PastOwners) of it for as long as it lives.
//! - A move is named by the index of its `Prepare`, so that a late `Own` of one that was aborted cannot end the next.
//!
//! A command that does not fit what is, because another came before it, changes nothing; of one for many shards, what fits
//! is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::past_owners::{PastOwner, PastOwners};
use super::strategy::PlacementStrategy;
use crate::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};

/// The most shards of one entity type.
pub const MAX_SHARDS: u32 = 1 << 16;

/// The most entity types of a cluster.
pub const MAX_TYPES: usize = 1 << 12;

/// What the cluster has to agree on about an entity type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeSpec {
    /// Its name, by which all nodes know it.
    pub name: String,
    /// How many shards it has; fixed for ever.
    pub shards: u32,
    /// How the shards are spread over nodes.
    pub strategy: PlacementStrategy,
    /// Only nodes of this role own shards of it; everyone may send to it. `None`: all nodes.
    pub role: Option<String>,
    /// Whether entities go on when their node's lease has lapsed, at the risk that another node runs them too.
    pub keep_running: bool,
}

/// Why an entity type was not registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TypeError {
    /// The cluster knows the type, and knows it otherwise.
    #[error(
        "entity type `{name}` has {what} {here} here and {cluster} in the cluster; all nodes have to agree on it"
    )]
    Differs {
        /// The name of the type.
        name: String,
        /// What differs.
        what: &'static str,
        /// What this node says.
        here: String,
        /// What the cluster says.
        cluster: String,
    },
    /// A type needs at least one shard, and has at most [`MAX_SHARDS`].
    #[error("entity type `{name}` has {shards} shards; give it 1 to {MAX_SHARDS}")]
    Shards {
        /// The name of the type.
        name: String,
        /// How many were asked for.
        shards: u32,
    },
    /// There are [`MAX_TYPES`] types.
    #[error("entity type `{name}` is one more than the {MAX_TYPES} that a cluster can have")]
    TooMany {
        /// The name of the type.
        name: String,
    },
}

/// One shard in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardRecord {
    /// The node that runs its entities; `None` until it is allocated, and after its owner's death until it is again.
    pub owner: Option<NodeId>,
    /// How often it has been assigned; 0 before the first time.
    pub epoch: Epoch,
    /// What comes from an owner of a lower epoch is refused.
    pub fence: Epoch,
    /// Where it is moving to.
    pub moving_to: Option<NodeId>,
    /// The index of the command that changed it last; while it moves, the name of the move.
    pub since: u64,
}

/// A change of ownership, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnershipCommand {
    /// Gives shards without an owner one each.
    Allocate(Vec<(ShardKey, NodeId)>),
    /// Begins to move shards: their owners seal them and ship them to these nodes.
    Prepare(Vec<(ShardKey, NodeId)>),
    /// The move that began with the command of this index has arrived: the target opens the shard.
    Own {
        /// The shard.
        shard: ShardKey,
        /// The index of the `Prepare`.
        prepared: u64,
    },
    /// The move that began with the command of this index is called off: the source opens the shard again.
    Abort {
        /// The shard.
        shard: ShardKey,
        /// The index of the `Prepare`.
        prepared: u64,
    },
}

/// What has become of a shard by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnershipChange {
    /// The shard.
    pub shard: ShardKey,
    /// What it was before.
    pub before: ShardRecord,
    /// What it is now.
    pub now: ShardRecord,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TypeRecord {
    spec: TypeSpec,
    shards: Vec<ShardRecord>,
}

/// The owners of all shards of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnershipTable {
    types: Vec<TypeRecord>,
    names: BTreeMap<String, EntityTypeId>,
    past: Arc<PastOwners>,
}

impl OwnershipTable {
    /// Registers an entity type, or finds that it is known. Types are numbered in the order in which the log registers
    /// them.
    ///
    /// # Errors
    ///
    /// [`TypeError`]; nothing has changed.
    pub fn register(&mut self, spec: TypeSpec) -> Result<EntityTypeId, TypeError> {
        if let Some(known) = self.type_of(&spec.name) {
            return self.agree(known, &spec).map(|()| known);
        }
        let name = spec.name.clone();
        if !(1..=MAX_SHARDS).contains(&spec.shards) {
            let shards = spec.shards;
            return Err(TypeError::Shards { name, shards });
        }
        if self.types.len() == MAX_TYPES {
            return Err(TypeError::TooMany { name });
        }
        let id = EntityTypeId(self.types.len() as u16);
        let shards = vec![ShardRecord::default(); spec.shards as usize];
        self.types.push(TypeRecord { spec, shards });
        self.names.insert(name, id);
        Ok(id)
    }

    /// Whether a node may register a type as it is known here; a type that is not known agrees with everybody.
    ///
    /// # Errors
    ///
    /// [`TypeError::Differs`] names the first difference.
    pub fn check(&self, spec: &TypeSpec) -> Result<(), TypeError> {
        match self.type_of(&spec.name) {
            Some(known) => self.agree(known, spec),
            None => Ok(()),
        }
    }

    fn agree(&self, known: EntityTypeId, spec: &TypeSpec) -> Result<(), TypeError> {
        let cluster = &self.types[known.index()].spec;
        let differences = [
            (
                "the number of shards",
                shown(spec.shards),
                shown(cluster.shards),
            ),
            (
                "the strategy",
                shown(spec.strategy),
                shown(cluster.strategy),
            ),
            ("the role", shown(&spec.role), shown(&cluster.role)),
            (
                "`keep_running`",
                shown(spec.keep_running),
                shown(cluster.keep_running),
            ),
        ];
        match differences
            .into_iter()
            .find(|(_, here, cluster)| here != cluster)
        {
            None => Ok(()),
            Some((what, here, cluster)) => Err(TypeError::Differs {
                name: spec.name.clone(),
                what,
                here,
                cluster,
            }),
        }
    }

    /// The number of a type.
    #[must_use]
    pub fn type_of(&self, name: &str) -> Option<EntityTypeId> {
        self.names.get(name).copied()
    }

    /// All types, by number.
    pub fn types(&self) -> impl Iterator<Item = (EntityTypeId, &TypeSpec)> {
        (0..)
            .map(EntityTypeId)
            .zip(self.types.iter().map(|record| &record.spec))
    }

    /// What the cluster knows of a type.
    #[must_use]
    pub fn spec_of(&self, entity_type: EntityTypeId) -> Option<&TypeSpec> {
        self.types
            .get(entity_type.index())
            .map(|record| &record.spec)
    }

    /// Registers a type together with its shards as they were, for a snapshot.
    ///
    /// # Errors
    ///
    /// [`TypeError`] as for [`register`](OwnershipTable::register), also if there are not as many shards as the type
    /// says; nothing has changed.
    pub fn restore(&mut self, spec: TypeSpec, shards: Vec<ShardRecord>) -> Result<(), TypeError> {
        let name = spec.name.clone();
        if self.type_of(&name).is_some() || shards.len() != spec.shards as usize {
            let shards = spec.shards;
            return Err(TypeError::Shards { name, shards });
        }
        let id = self.register(spec)?;
        self.types[id.index()].shards = shards;
        Ok(())
    }

    /// Gives a shard the past owners that it had, for a snapshot. Returns whether they make sense; if not, nothing has changed.
    pub(crate) fn restore_past(&mut self, shard: ShardKey, past: Vec<PastOwner>) -> bool {
        self.shard(shard).is_some() && Arc::make_mut(&mut self.past).restore(shard, past)
    }

    /// Who has given which shard away and lives on.
    #[must_use]
    pub fn past(&self) -> &Arc<PastOwners> {
        &self.past
    }

    /// The shards of a type, by number; empty for an unknown one.
    #[must_use]
    pub fn shards_of(&self, entity_type: EntityTypeId) -> &[ShardRecord] {
        self.types
            .get(entity_type.index())
            .map_or(&[], |record| &record.shards)
    }

    /// One shard; `None` if there is none of this name.
    #[must_use]
    pub fn shard(&self, key: ShardKey) -> Option<&ShardRecord> {
        self.shards_of(key.entity_type).get(key.shard.index())
    }

    /// All shards, by type and number.
    pub fn iter(&self) -> impl Iterator<Item = (ShardKey, &ShardRecord)> {
        (0..)
            .map(EntityTypeId)
            .zip(&self.types)
            .flat_map(|(entity_type, record)| {
                (0..)
                    .map(ShardId)
                    .zip(&record.shards)
                    .map(move |(shard, record)| (ShardKey { entity_type, shard }, record))
            })
    }

    /// The moves under way.
    pub fn moves(&self) -> impl Iterator<Item = (ShardKey, &ShardRecord)> {
        self.iter().filter(|(_, record)| record.moving_to.is_some())
    }

    /// Who owns each shard of a type, or is about to: what strategies plan with.
    #[must_use]
    pub fn owners_to_be(&self, entity_type: EntityTypeId) -> Vec<Option<NodeId>> {
        let shards = self.shards_of(entity_type).iter();
        shards
            .map(|record| record.moving_to.or(record.owner))
            .collect()
    }

    /// Applies the command that stands at `index` of the log. What it changes comes out in the order of the command.
    pub fn apply(&mut self, index: u64, command: &OwnershipCommand) -> Vec<OwnershipChange> {
        match command {
            OwnershipCommand::Allocate(shards) => self.each(index, shards, |record, node| {
                (record.owner.is_none()).then(|| record.assigned_to(node))
            }),
            OwnershipCommand::Prepare(shards) => self.each(index, shards, |record, node| {
                let rests = record.moving_to.is_none();
                let elsewhere = record.owner.is_some_and(|owner| owner != node);
                (rests && elsewhere).then_some(ShardRecord {
                    moving_to: Some(node),
                    ..record
                })
            }),
            OwnershipCommand::Own { shard, prepared } => {
                self.each(index, &[(*shard, *prepared)], |record, prepared| {
                    let to = record.moving_to.filter(|_| record.since == prepared)?;
                    Some(record.assigned_to(to))
                })
            }
            OwnershipCommand::Abort { shard, prepared } => {
                self.each(index, &[(*shard, *prepared)], |record, prepared| {
                    record.moving_to.filter(|_| record.since == prepared)?;
                    Some(ShardRecord {
                        moving_to: None,
                        ..record
                    })
                })
            }
        }
    }

    /// A node is dead, as the entry at `index` of the log says, and owns nothing any more. The changes come in the order of
    /// the shards.
    pub fn node_down(&mut self, index: u64, node: NodeId) -> Vec<OwnershipChange> {
        let concerned: Vec<(ShardKey, ())> = self
            .concerned_with(node)
            .map(|(key, _)| (key, ()))
            .collect();
        self.life_over(node);
        self.each(index, &concerned, |record, ()| {
            let called_off = ShardRecord {
                moving_to: None,
                ..record
            };
            Some(if record.owner == Some(node) {
                ShardRecord {
                    owner: None,
                    fence: Epoch(record.epoch.0 + 1),
                    ..called_off
                }
            } else {
                called_off
            })
        })
    }

    /// A life of a node is over, by its death or because it has left: it passes nothing on any more.
    pub(crate) fn life_over(&mut self, node: NodeId) {
        if self.past.has(node) {
            Arc::make_mut(&mut self.past).forget(node);
        }
    }

    /// The shards that a node owns, or is about to.
    pub fn concerned_with(&self, node: NodeId) -> impl Iterator<Item = (ShardKey, &ShardRecord)> {
        self.iter()
            .filter(move |(_, record)| [record.owner, record.moving_to].contains(&Some(node)))
    }

    /// Changes each of these shards if `change` says that it fits.
    fn each<T: Copy>(
        &mut self,
        index: u64,
        shards: &[(ShardKey, T)],
        change: impl Fn(ShardRecord, T) -> Option<ShardRecord>,
    ) -> Vec<OwnershipChange> {
        let mut changes = Vec::with_capacity(shards.len());
        for (key, with) in shards {
            let record = self
                .types
                .get_mut(key.entity_type.index())
                .and_then(|record| record.shards.get_mut(key.shard.index()));
            let changed = record.and_then(|record| Some((change(*record, *with)?, record)));
            let Some((mut now, record)) = changed else {
                continue;
            };
            now.since = index;
            changes.push(OwnershipChange {
                shard: *key,
                before: std::mem::replace(record, now),
                now,
            });
        }
        if changes.iter().any(PastOwners::concerns) {
            let past = Arc::make_mut(&mut self.past);
            changes.iter().for_each(|change| past.follow(change));
        }
        changes
    }
}

impl ShardRecord {
    fn assigned_to(self, node: NodeId) -> ShardRecord {
        ShardRecord {
            owner: Some(node),
            epoch: Epoch(self.epoch.0 + 1),
            moving_to: None,
            ..self
        }
    }
}

fn shown(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}
