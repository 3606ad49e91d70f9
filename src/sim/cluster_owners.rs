//! The owners of shards as a test gives them, in place of the log of a cluster.

use super::cluster::ClusterSimulation;
use crate::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use crate::sharding::cluster_view::{
    Members, NodeMove, OwnershipUpdate, ShardOwner, TypeOwnership,
};
use crate::sharding::node_steps::MoveReport;
use crate::sharding::past_owners::PastOwners;
use std::sync::Arc;

/// The entity types of the cluster in the order of their numbers, and its members.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    types: Vec<(String, Vec<ShardOwner>)>,
    past: PastOwners,
    /// How many moves have been prepared.
    prepared: u64,
    /// What nodes say of them is committed at once, and everybody hears of it.
    pub(super) commits_moves: bool,
    /// How moves have ended for the nodes that say so.
    pub(super) ended: Vec<(NodeId, MoveReport)>,
    pub(super) members: Members,
    /// How often they have changed.
    pub(super) members_version: u64,
    /// The last life of each node that was declared down.
    pub(super) down: Arc<Members>,
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
        let number = self.types.iter().position(|(known, _)| known == name);
        if let Some(owner) = self.find(name, shard) {
            let before = (owner.owner.replace(to), owner.epoch);
            owner.epoch = Epoch(owner.epoch.0 + 1);
            owner.moving = None;
            if let (Some(number), (Some(source), epoch)) = (number, before) {
                let entity_type = EntityTypeId(number as u16);
                self.past
                    .gave_away(ShardKey { entity_type, shard }, source, epoch);
            }
        }
    }

    /// Begins a move, unless the shard moves, has no owner or is there. Its name.
    pub(super) fn prepare(&mut self, name: &str, shard: ShardId, to: NodeId) -> Option<u64> {
        let prepared = self.prepared + 1;
        let owner = self.find(name, shard)?;
        if owner.moving.is_some() || owner.owner.is_none_or(|owner| owner == to) {
            return None;
        }
        owner.moving = Some(NodeMove { prepared, to });
        self.prepared = prepared;
        Some(prepared)
    }

    /// Ends a move: the target owns the shard in its next epoch, or the source keeps it. Whether there was such a move.
    pub(super) fn end_move(&mut self, shard: ShardKey, prepared: u64, arrived: bool) -> bool {
        let shards = self.types.get_mut(shard.entity_type.index());
        let owner = shards.and_then(|(_, shards)| shards.get_mut(shard.shard.index()));
        let Some(owner) = owner else {
            return false;
        };
        let Some(moving) = owner.moving.filter(|it| it.prepared == prepared) else {
            return false;
        };
        owner.moving = None;
        if arrived {
            if let Some(source) = owner.owner {
                self.past.gave_away(shard, source, owner.epoch);
            }
            owner.owner = Some(moving.to);
            owner.epoch = Epoch(owner.epoch.0 + 1);
        }
        true
    }

    pub(super) fn owner(&self, name: &str, shard: ShardId) -> Option<ShardOwner> {
        let (_, owners) = self.types.iter().find(|(known, _)| known == name)?;
        owners.get(shard.index()).copied()
    }

    /// The moves under way.
    pub(super) fn moves(&self) -> Vec<(ShardKey, NodeMove)> {
        let types = (0..).map(EntityTypeId).zip(&self.types);
        let shards = types.flat_map(|(entity_type, (_, owners))| {
            let owners = (0..).map(ShardId).zip(owners);
            owners.map(move |(shard, owner)| (ShardKey { entity_type, shard }, owner))
        });
        let moves = shards.filter_map(|(shard, owner)| Some((shard, owner.moving?)));
        moves.collect()
    }

    /// As the death of its owner does: what it says from now on is refused.
    pub(super) fn take_away(&mut self, name: &str, shard: ShardId) {
        if let Some(owner) = self.find(name, shard) {
            owner.owner = None;
            owner.moving = None;
            owner.fence = Epoch(owner.epoch.0 + 1);
        }
    }

    pub(super) fn node_down(&mut self, node: NodeId) {
        if let Some(incarnation) = self.members.remove(&node) {
            Arc::make_mut(&mut self.down).insert(node, incarnation);
            self.members_version += 1;
        }
        self.past.forget(node);
        for owner in self.types.iter_mut().flat_map(|(_, owners)| owners) {
            if owner.moving.is_some_and(|moving| moving.to == node) {
                owner.moving = None;
            }
            if owner.owner == Some(node) {
                owner.owner = None;
                owner.moving = None;
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
            members_version: self.members_version,
            down: self.down.clone(),
            past: Arc::new(self.past.clone()),
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

impl ClusterSimulation {
    /// Begins to move a shard to a node, as a `Prepare` in the log does, unless it moves, has no owner or is there. Nobody
    /// knows before the next [`publish`](ClusterSimulation::publish). The name of the move.
    pub fn prepare(&mut self, entity_type: &str, shard: ShardId, to: NodeId) -> Option<u64> {
        self.owners.prepare(entity_type, shard, to)
    }

    /// Ends a move as `Own` (it has arrived) or `Abort` in the log do; whether there was such a move.
    pub fn end_move(&mut self, shard: ShardKey, prepared: u64, arrived: bool) -> bool {
        self.owners.end_move(shard, prepared, arrived)
    }

    /// From now on what nodes say of moves is committed at once, and everybody hears of it. Otherwise
    /// [`ended_moves`](ClusterSimulation::ended_moves) says it, and the test decides.
    pub fn commit_moves(&mut self, commits: bool) {
        self.owners.commits_moves = commits;
    }

    /// How moves have ended for the nodes that say so, since the last call. Types have their numbers in the cluster.
    pub fn ended_moves(&mut self) -> Vec<(NodeId, MoveReport)> {
        std::mem::take(&mut self.owners.ended)
    }

    /// What the owners say of a shard now, whoever has heard of it.
    #[must_use]
    pub fn owner_of(&self, entity_type: &str, shard: ShardId) -> Option<ShardOwner> {
        self.owners.owner(entity_type, shard)
    }

    /// The moves under way, by the numbers of types in the cluster.
    #[must_use]
    pub fn moves(&self) -> Vec<(ShardKey, NodeMove)> {
        self.owners.moves()
    }

    /// Hears how moves have ended for a node.
    pub(super) fn hear_moves(&mut self, node: NodeId) {
        let Some(sim) = self.nodes.get_mut(&node) else {
            return;
        };
        let Some(coordination) = sim.world.cores.last_mut() else {
            return;
        };
        let ended = coordination.engine.take_ended_moves();
        let parted = coordination.engine.take_parted();
        if !parted.is_empty() {
            self.report_parted(node, parted);
        }
        if ended.is_empty() {
            return;
        }
        if self.governed.contains_key(&node) {
            return self.report_moves(node, &ended);
        }
        let mut has_changed = false;
        for report in &ended {
            if self.owners.commits_moves {
                let arrived = report.outcome.is_ok();
                has_changed |= self.owners.end_move(report.shard, report.prepared, arrived);
            }
        }
        self.owners
            .ended
            .extend(ended.into_iter().map(|it| (node, it)));
        if has_changed {
            self.publish();
        }
    }
}
