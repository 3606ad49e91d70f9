//! The owners of shards as a test gives them, in place of the log of a cluster.

use crate::base::ids::{EntityTypeId, Epoch, NodeId, ShardId};
use crate::sharding::cluster_view::{Members, OwnershipUpdate, ShardOwner, TypeOwnership};
use std::sync::Arc;

/// The entity types of the cluster in the order of their numbers, and its members.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    types: Vec<(String, Vec<ShardOwner>)>,
    pub(super) members: Members,
}

impl Owners {
    /// The shards of a type, which is registered if it is not known.
    pub(super) fn shards_of(&mut self, name: &str, shards: u32) -> &mut Vec<ShardOwner> {
        let number = self.types.iter().position(|(known, _)| known == name);
        let number = number.unwrap_or_else(|| {
            let owners = vec![ShardOwner::default(); shards as usize];
            self.types.push((name.to_owned(), owners));
            self.types.len() - 1
        });
        &mut self.types[number].1
    }

    pub(super) fn assign(&mut self, name: &str, shard: ShardId, to: NodeId) {
        if let Some(owner) = self.find(name, shard) {
            owner.owner = Some(to);
            owner.epoch = Epoch(owner.epoch.0 + 1);
        }
    }

    /// As the death of its owner does: what it says from now on is refused.
    pub(super) fn take_away(&mut self, name: &str, shard: ShardId) {
        if let Some(owner) = self.find(name, shard) {
            owner.owner = None;
            owner.fence = Epoch(owner.epoch.0 + 1);
        }
    }

    pub(super) fn node_down(&mut self, node: NodeId) {
        self.members.remove(&node);
        for owner in self.types.iter_mut().flat_map(|(_, owners)| owners) {
            if owner.owner == Some(node) {
                owner.owner = None;
                owner.fence = Epoch(owner.epoch.0 + 1);
            }
        }
    }

    fn find(&mut self, name: &str, shard: ShardId) -> Option<&mut ShardOwner> {
        let (_, owners) = self.types.iter_mut().find(|(known, _)| known == name)?;
        owners.get_mut(shard.index())
    }

    pub(super) fn news(&self) -> OwnershipUpdate {
        let types = (0..).map(EntityTypeId).zip(&self.types);
        OwnershipUpdate {
            members: Arc::new(self.members.clone()),
            types: types
                .map(|(number, (name, owners))| TypeOwnership {
                    name: name.clone(),
                    number,
                    shards: owners.clone().into(),
                })
                .collect(),
        }
    }
}
