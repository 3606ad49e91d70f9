//! What one node is told of the cluster: who is there, and which node owns which shard.
//!
//! The log of the cluster decides ([`ownership`](super::ownership)); this is what has come of it, as the coordination core
//! gives it to the coordinator of its node, which puts it into the next version of the topology.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::ownership::{OwnershipTable, ShardRecord};
use super::past_owners::{PastOwner, PastOwners};
use super::topology::Topology;
use crate::base::ids::{EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};

/// The nodes of the cluster, each with its present life.
pub type Members = BTreeMap<NodeId, Incarnation>;

/// What the cluster says of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardOwner {
    /// The node that runs its entities; `None` until it is allocated, and after its owner's death until it is again.
    pub owner: Option<NodeId>,
    /// How often it has been assigned to a node.
    pub epoch: Epoch,
    /// What comes from an owner of a lower epoch is refused.
    pub fence: Epoch,
    /// The move under way.
    pub moving: Option<NodeMove>,
}

/// A move of a shard to another node, as the log has prepared it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeMove {
    /// The index of the `Prepare`: the name of the move.
    pub prepared: u64,
    /// The target.
    pub to: NodeId,
}

impl From<&ShardRecord> for ShardOwner {
    fn from(record: &ShardRecord) -> ShardOwner {
        ShardOwner {
            owner: record.owner,
            epoch: record.epoch,
            fence: record.fence,
            moving: record.moving_to.map(|to| NodeMove {
                prepared: record.since,
                to,
            }),
        }
    }
}

/// The owners of all shards of one entity type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeOwnership {
    /// The name by which all nodes know the type.
    pub name: String,
    /// Its number in the cluster, which frames carry. It need not be the one that it has on a node.
    pub number: EntityTypeId,
    /// Its shards, by number.
    pub shards: Arc<[ShardOwner]>,
}

/// News of the cluster for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnershipUpdate {
    /// All members, whether they are new or not.
    pub members: Arc<Members>,
    /// How often members have changed in the log: of two nodes, the one with the higher number knows more.
    pub members_version: u64,
    /// The last life of each node that was declared down, whether the node is back or not.
    pub down: Arc<Members>,
    /// Who has given which shard away and lives on, as the cluster numbers types: all of them.
    pub past: Arc<PastOwners>,
    /// The types of which something has changed, each with all of its shards; the others stay as they are. A type that this
    /// node does not know is none of its business.
    pub types: Vec<TypeOwnership>,
}

impl OwnershipUpdate {
    /// What stands in the table of the log: everything but the members.
    #[must_use]
    pub fn of(table: &OwnershipTable) -> OwnershipUpdate {
        let owners = |number| table.shards_of(number).iter().map(ShardOwner::from);
        OwnershipUpdate {
            past: Arc::clone(table.past()),
            types: table
                .types()
                .map(|(number, spec)| TypeOwnership {
                    name: spec.name.clone(),
                    number,
                    shards: owners(number).collect(),
                })
                .collect(),
            ..OwnershipUpdate::default()
        }
    }
}

/// Why news of the cluster do not fit this node. Nothing of them was taken over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OwnershipError {
    /// A node with another number of shards must not have joined.
    #[error("the cluster has {cluster} shards of the entity type `{name}`, this node has {here}")]
    Shards {
        /// The name of the type.
        name: String,
        /// How many there are in the cluster.
        cluster: usize,
        /// How many this node has registered.
        here: usize,
    },
    /// Numbers of types are given once, and for ever.
    #[error(
        "the entity type `{name}` has {number} in the cluster now, which is the number of another, or not what it was"
    )]
    Number {
        /// The name of the type.
        name: String,
        /// The number that it is said to have.
        number: EntityTypeId,
    },
    /// The node is not part of a cluster, or has no entity types of one.
    #[error("this node was not started as one of a cluster")]
    NotClustered,
}

/// What a node knows of the cluster, beside the owners of the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterView {
    pub(super) me: NodeId,
    pub(super) members: Arc<Members>,
    pub(super) members_version: u64,
    pub(super) down: Arc<Members>,
    pub(super) past: Arc<PastOwners>,
    /// The types of this node by their numbers in the cluster.
    pub(super) numbers: Arc<BTreeMap<EntityTypeId, EntityTypeId>>,
}

/// The shards of one entity type of the cluster, as the cluster sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterShards {
    pub(super) name: &'static str,
    /// Once it is registered in the cluster.
    pub(super) number: Option<EntityTypeId>,
    pub(super) owners: Arc<[ShardOwner]>,
}

impl Topology {
    /// The same, on the node `me` of a cluster that these types belong to, each with the name by which all nodes know it:
    /// none of their shards has an owner before the cluster says so.
    #[must_use]
    pub fn in_cluster(
        mut self,
        me: NodeId,
        clustered: impl IntoIterator<Item = (EntityTypeId, &'static str)>,
    ) -> Topology {
        for (entity_type, name) in clustered {
            if let Some(shards) = self.types.get_mut(entity_type.index()) {
                let owners = vec![ShardOwner::default(); shards.placements.len()];
                shards.cluster = Some(ClusterShards {
                    name,
                    number: None,
                    owners: owners.into(),
                });
            }
        }
        self.cluster = Some(ClusterView {
            me,
            members: Arc::default(),
            members_version: 0,
            down: Arc::default(),
            past: Arc::default(),
            numbers: Arc::default(),
        });
        self
    }

    /// The next version, in which the cluster is as the news say.
    ///
    /// # Errors
    ///
    /// [`OwnershipError`] if they contradict what is known here.
    pub fn owned(&self, news: &OwnershipUpdate) -> Result<Topology, OwnershipError> {
        let mut next = self.clone();
        let Some(view) = &mut next.cluster else {
            return Err(OwnershipError::NotClustered);
        };
        next.version += 1;
        view.members = Arc::clone(&news.members);
        view.members_version = news.members_version;
        view.down = Arc::clone(&news.down);
        view.past = Arc::clone(&news.past);
        let mut numbers = BTreeMap::clone(&view.numbers);
        for of_type in &news.types {
            let known = (0..).zip(&mut next.types).find_map(|(number, shards)| {
                let cluster = shards.cluster.as_mut()?;
                (cluster.name == of_type.name).then_some((EntityTypeId(number), cluster))
            });
            let Some((here, cluster)) = known else {
                continue;
            };
            let name = || of_type.name.clone();
            if cluster.owners.len() != of_type.shards.len() {
                return Err(OwnershipError::Shards {
                    name: name(),
                    cluster: of_type.shards.len(),
                    here: cluster.owners.len(),
                });
            }
            let number = of_type.number;
            if cluster.number.is_some_and(|known| known != number)
                || *numbers.entry(number).or_insert(here) != here
            {
                return Err(OwnershipError::Number {
                    name: name(),
                    number,
                });
            }
            cluster.number = Some(number);
            cluster.owners = Arc::clone(&of_type.shards);
        }
        view.numbers = Arc::new(numbers);
        Ok(next)
    }

    /// The news that there is nobody, and that no shard has an owner: what is true for a node that is no member.
    pub(crate) fn abandoned(&self) -> OwnershipUpdate {
        let types = self.types.iter().filter_map(|shards| {
            let cluster = shards.cluster.as_ref()?;
            let unowned = cluster.owners.iter().map(|owner| ShardOwner {
                owner: None,
                moving: None,
                ..*owner
            });
            Some(TypeOwnership {
                name: cluster.name.to_owned(),
                number: cluster.number?,
                shards: unowned.collect(),
            })
        });
        OwnershipUpdate {
            members: Arc::default(),
            members_version: 0,
            down: self
                .cluster
                .as_ref()
                .map_or_else(Arc::default, |view| view.down.clone()),
            past: Arc::default(),
            types: types.collect(),
        }
    }

    /// What the cluster says of a shard; `None` when there is no such shard, or its type is none of a cluster.
    #[must_use]
    pub fn owner(&self, key: ShardKey) -> Option<ShardOwner> {
        let cluster = self.types.get(key.entity_type.index())?.cluster.as_ref()?;
        cluster.owners.get(key.shard.index()).copied()
    }

    /// Who has given a shard away and lives on, in the order of the epochs.
    #[must_use]
    pub fn past_owners(&self, key: ShardKey) -> &[PastOwner] {
        let number = self.number_in_cluster(key.entity_type);
        let (Some(view), Some(entity_type)) = (&self.cluster, number) else {
            return &[];
        };
        view.past.of(ShardKey { entity_type, ..key })
    }

    /// Whether the shard belongs to this node, as all do that are none of a cluster.
    #[must_use]
    pub fn is_mine(&self, key: ShardKey) -> bool {
        match self.owner(key) {
            Some(owner) => owner.owner.is_some_and(|node| self.is_me(node)),
            None => true,
        }
    }

    /// Where the log has prepared a shard of this node to move to.
    #[must_use]
    pub fn node_move(&self, key: ShardKey) -> Option<NodeMove> {
        self.owner(key)?.moving.filter(|_| self.is_mine(key))
    }

    /// Whether the log has prepared the shard to move to this node, which is not its owner yet.
    pub(crate) fn comes_here(&self, key: ShardKey) -> bool {
        let owner = self.owner(key);
        owner.is_some_and(|it| it.moving.is_some_and(|moving| self.is_me(moving.to)))
    }

    pub(super) fn is_me(&self, node: NodeId) -> bool {
        self.cluster.as_ref().is_some_and(|view| view.me == node)
    }

    /// The types of this node that belong to the cluster: their names and numbers of shards.
    pub fn clustered(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let clustered = self.types.iter();
        clustered.filter_map(|shards| Some((shards.cluster.as_ref()?.name, shards.count())))
    }

    /// The members of the cluster, as far as this node has been told.
    #[must_use]
    pub fn members(&self) -> Option<&Arc<Members>> {
        self.cluster.as_ref().map(|view| &view.members)
    }

    /// Whether this node has been told that a life was declared down.
    pub(crate) fn is_dead(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let last = self.cluster.as_ref().and_then(|view| view.down.get(&node));
        last.is_some_and(|last| incarnation <= *last)
    }

    /// Whether lives were declared down of which nothing was known in `older`.
    pub(crate) fn has_news_of_deaths(&self, older: &Topology) -> bool {
        let down = |topology: &Topology| topology.cluster.as_ref().map(|view| view.down.clone());
        down(self) != down(older)
    }

    /// How often members have changed, as far as this node has been told.
    #[must_use]
    pub fn members_version(&self) -> u64 {
        let view = self.cluster.as_ref();
        view.map_or(0, |view| view.members_version)
    }

    /// The number that a type of this node has in the cluster, once it is registered there.
    #[must_use]
    pub fn number_in_cluster(&self, entity_type: EntityTypeId) -> Option<EntityTypeId> {
        let shards = self.types.get(entity_type.index())?;
        shards.cluster.as_ref()?.number
    }

    /// The type of this node that has this number in the cluster.
    #[must_use]
    pub fn type_of_number(&self, number: EntityTypeId) -> Option<EntityTypeId> {
        self.cluster.as_ref()?.numbers.get(&number).copied()
    }

    /// Shards that are to leave this node, and whose place on it has changed since `older`.
    pub(crate) fn leaving_moved_since(&self, older: &Topology) -> Vec<ShardKey> {
        let moved = self.changes_since(older).map(|(shard, ..)| shard);
        moved
            .filter(|shard| self.node_move(*shard).is_some())
            .collect()
    }

    /// The shards of which the cluster says something else than in `older`.
    pub(crate) fn owners_changed_since(&self, older: &Topology) -> Vec<ShardKey> {
        let mut changed = Vec::new();
        for (number, (new, old)) in (0u16..).zip(self.types.iter().zip(&older.types)) {
            let (Some(new), Some(old)) = (&new.cluster, &old.cluster) else {
                continue;
            };
            if Arc::ptr_eq(&new.owners, &old.owners) {
                continue;
            }
            let both = (0u32..).zip(new.owners.iter().zip(old.owners.iter()));
            changed.extend(
                both.filter(|(_, (new, old))| new != old)
                    .map(|(shard, _)| ShardKey {
                        entity_type: EntityTypeId(number),
                        shard: ShardId(shard),
                    }),
            );
        }
        changed
    }
}
