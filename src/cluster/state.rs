//! What a cluster has agreed on: its members, its entity types, and who owns which shard. Every node that has applied as
//! much of the log has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::base::fields::{FieldError, FieldReader, put_count};
use crate::base::ids::{Epoch, Incarnation, NodeId, ShardKey};
use crate::cluster::admission::{Admission, StartId, read_disk, read_peer};
use crate::cluster::command::{Command, put_shard, put_spec, read_shard, read_spec};
use crate::cluster::member_codec::{put_member, read_member};
use crate::consensus::peer::{ClusterId, DiskId, NodeLife, PeerId};
use crate::membership::change::{Change, ChangeError, Join};
use crate::membership::event::MemberEvent;
use crate::membership::view::{MAX_REMEMBERED_DOWN, Member, MemberState, View};
use crate::sharding::cluster_view::OwnershipUpdate;
use crate::sharding::ownership::{
    OwnershipChange, OwnershipCommand, OwnershipTable, ShardRecord, TypeError, TypeSpec,
};
use crate::sharding::past_owners::PastOwner;

/// The form of snapshots. All nodes have to read the same: what one leaves out it would never learn.
const VERSION: u8 = 2;

/// Why an entry of the log had no effect. Two nodes may propose at once, so a log has such entries in it; every node
/// refuses them alike.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandRefused {
    /// About members.
    #[error(transparent)]
    Member(#[from] ChangeError),
    /// About an entity type.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// This start of the node has had its life.
    #[error("{node} has been let in for this start already; it joins again when it starts again")]
    HasHadItsLife {
        /// The node.
        node: NodeId,
    },
    /// The log begins once.
    #[error("the log is that of cluster {0} already")]
    Founded(ClusterId),
    /// A node cannot have left while shards are its own, or on their way to it.
    #[error("{node} cannot have left: {shards} shards are still its own or on their way to it")]
    OwnsShards {
        /// The node.
        node: NodeId,
        /// How many.
        shards: usize,
    },
}

/// What an entry of the log has brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// Among the members.
    Member(MemberEvent),
    /// Among the owners of shards.
    Shard(OwnershipChange),
}

/// The replicated state of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    members: View,
    ownership: OwnershipTable,
    applied: u64,
    cluster: Option<ClusterId>,
    /// The first voters whose nodes have not been let in yet.
    founders: BTreeSet<PeerId>,
    /// The disk and the start of each member that takes part in the log.
    parts: BTreeMap<NodeId, Part>,
}

/// How a member takes part in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// On which disk.
    pub disk: DiskId,
    /// Since which of its starts.
    pub start: StartId,
}

impl ClusterState {
    /// What node `me` knows before it has applied anything.
    #[must_use]
    pub fn new(me: NodeId) -> ClusterState {
        ClusterState {
            members: View::new(me),
            ownership: OwnershipTable::default(),
            applied: 0,
            cluster: None,
            founders: BTreeSet::new(),
            parts: BTreeMap::new(),
        }
    }

    /// The cluster, once the log says which it is.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// How a member takes part in the log.
    #[must_use]
    pub fn part(&self, node: NodeId) -> Option<Part> {
        self.parts.get(&node).copied()
    }

    /// Who should be a peer of the log, and whether it answers: the members, and the founders that have not come yet.
    #[must_use]
    pub fn peers(&self) -> BTreeMap<PeerId, bool> {
        let founders = self.founders.iter().map(|founder| (*founder, false));
        let members = self.members.members().filter_map(|member| {
            let peer = PeerId::new(member.node, self.parts.get(&member.node)?.disk);
            Some((peer, member.is_live() && member.is_reachable()))
        });
        founders.chain(members).collect()
    }

    /// The lives that may hold leases.
    #[must_use]
    pub fn lives(&self) -> BTreeSet<NodeLife> {
        let live = self.members.live().map(|member| NodeLife {
            node: member.node,
            incarnation: member.incarnation,
        });
        live.collect()
    }

    /// Whether this life is one of the [lives](ClusterState::lives).
    #[must_use]
    pub fn has_life(&self, life: NodeLife) -> bool {
        let member = self.members.member(life.node);
        member.is_some_and(|member| member.is_live() && member.incarnation == life.incarnation)
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &View {
        &self.members
    }

    /// The entity types and the owners of their shards.
    #[must_use]
    pub fn ownership(&self) -> &OwnershipTable {
        &self.ownership
    }

    /// The index of the last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The members that may be given shards of a type, by id.
    pub fn carriers<'a>(&'a self, spec: &'a TypeSpec) -> impl Iterator<Item = &'a Member> {
        self.members.up().filter(|member| carries(member, spec))
    }

    /// Applies the entry at `index`. An entry that was applied already changes nothing.
    ///
    /// # Errors
    ///
    /// [`CommandRefused`]; except that the entry counts as applied, nothing has changed.
    pub fn apply(
        &mut self,
        index: u64,
        command: &Command,
    ) -> Result<Vec<ClusterChange>, CommandRefused> {
        if index <= self.applied {
            return Ok(Vec::new());
        }
        self.applied = index;
        let mut events = Vec::new();
        let shards = match command {
            Command::Found { cluster, voters } => {
                self.found(*cluster, voters)?;
                Vec::new()
            }
            Command::Admit(admission) => {
                self.admit(index, admission, &mut events)?;
                Vec::new()
            }
            Command::Member(change) => self.change_members(index, change, &mut events)?,
            Command::Register(spec) => {
                self.ownership.register(spec.clone())?;
                Vec::new()
            }
            Command::Ownership(command) => {
                let fitting = self.fitting(command);
                self.ownership.apply(index, &fitting)
            }
        };
        let events = events.into_iter().map(ClusterChange::Member);
        Ok(events
            .chain(shards.into_iter().map(ClusterChange::Shard))
            .collect())
    }

    fn found(&mut self, cluster: ClusterId, voters: &[PeerId]) -> Result<(), CommandRefused> {
        if let Some(cluster) = self.cluster {
            return Err(CommandRefused::Founded(cluster));
        }
        self.cluster = Some(cluster);
        self.founders = voters.iter().copied().collect();
        Ok(())
    }

    fn admit(
        &mut self,
        index: u64,
        admission: &Admission,
        events: &mut Vec<MemberEvent>,
    ) -> Result<(), CommandRefused> {
        let &Admission { disk, start, .. } = admission;
        let node = admission.join.node;
        if self.part(node).is_some_and(|part| part.start == start) {
            return Err(CommandRefused::HasHadItsLife { node });
        }
        self.change_members(index, &Change::Join(admission.join.clone()), events)?;
        self.parts.insert(node, Part { disk, start });
        self.founders.retain(|founder| founder.node() != node);
        Ok(())
    }

    /// What a node that knows this tells its cores.
    #[must_use]
    pub fn news(&self) -> OwnershipUpdate {
        let members = self.members.live();
        let members = members.map(|member| (member.node, member.incarnation));
        OwnershipUpdate {
            members: Arc::new(members.collect()),
            members_version: self.members.version(),
            down: Arc::clone(self.members.down()),
            ..OwnershipUpdate::of(&self.ownership)
        }
    }

    fn change_members(
        &mut self,
        index: u64,
        change: &Change,
        events: &mut Vec<MemberEvent>,
    ) -> Result<Vec<OwnershipChange>, CommandRefused> {
        if let Change::Left { node, .. } = *change {
            let shards = self.ownership.concerned_with(node).count();
            if shards > 0 {
                return Err(CommandRefused::OwnsShards { node, shards });
            }
        }
        let before = self.members.version();
        self.members.apply(change, events)?;
        let changed = self.members.version() != before;
        match change {
            // Without an admission it has no part. If the node was there before, that life is over.
            Change::Join(Join { node, .. })
            | Change::Left { node, .. }
            | Change::Remove { node, .. } => {
                self.parts.remove(node);
                self.ownership.life_over(*node);
            }
            _ => {}
        }
        Ok(match *change {
            Change::Down { node, .. } if changed => self.ownership.node_down(index, node),
            _ => Vec::new(),
        })
    }

    /// The command without the shards that would go to a node that may not have them (any more): it was proposed before
    /// the node went, and nobody would take them from it again.
    fn fitting(&self, command: &OwnershipCommand) -> OwnershipCommand {
        let may_have = |(shard, node): &&(ShardKey, NodeId)| {
            let spec = self.ownership.spec_of(shard.entity_type);
            let member = self.members.member(*node);
            spec.zip(member).is_some_and(|(spec, member)| {
                member.state == MemberState::Up && carries(member, spec)
            })
        };
        let only = |placements: &[(ShardKey, NodeId)]| {
            placements.iter().filter(may_have).copied().collect()
        };
        match command {
            OwnershipCommand::Allocate(placements) => OwnershipCommand::Allocate(only(placements)),
            OwnershipCommand::Prepare(placements) => OwnershipCommand::Prepare(only(placements)),
            OwnershipCommand::Own { .. } | OwnershipCommand::Abort { .. } => command.clone(),
        }
    }

    /// The state as it is written into a snapshot.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.applied.to_le_bytes());
        out.extend_from_slice(&self.members.version().to_le_bytes());
        out.extend_from_slice(&self.members.last_incarnation().0.to_le_bytes());
        put_count(&mut out, self.members.members().count());
        for member in self.members.members() {
            put_member(&mut out, member);
        }
        put_count(&mut out, self.ownership.types().count());
        for (entity_type, spec) in self.ownership.types() {
            put_spec(&mut out, spec);
            for shard in self.ownership.shards_of(entity_type) {
                put_shard_record(&mut out, shard);
            }
        }
        out.extend_from_slice(&self.cluster.map_or(0, |cluster| cluster.0).to_le_bytes());
        out.push(u8::from(self.cluster.is_some()));
        put_count(&mut out, self.founders.len());
        for founder in &self.founders {
            out.extend_from_slice(&founder.number().to_le_bytes());
        }
        put_count(&mut out, self.parts.len());
        for (node, part) in &self.parts {
            out.extend_from_slice(&node.0.to_le_bytes());
            out.extend_from_slice(&part.disk.number().to_le_bytes());
            out.extend_from_slice(&part.start.0.to_le_bytes());
        }
        let down = self.members.down();
        put_count(&mut out, down.len());
        for (node, incarnation) in down.iter() {
            out.extend_from_slice(&node.0.to_le_bytes());
            out.extend_from_slice(&incarnation.0.to_le_bytes());
        }
        let past = self.ownership.past().iter();
        put_count(&mut out, past.len());
        for (shard, past) in past {
            put_shard(&mut out, shard);
            put_count(&mut out, past.len());
            for owner in past {
                out.extend_from_slice(&owner.node.0.to_le_bytes());
                out.extend_from_slice(&owner.epoch.0.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`to_bytes`](ClusterState::to_bytes) has written, for node `me`.
    ///
    /// # Errors
    ///
    /// [`StateError`] says which byte is wrong.
    pub fn from_bytes(me: NodeId, bytes: &[u8]) -> Result<ClusterState, StateError> {
        let mut fields = FieldReader::new(bytes);
        let version = fields.u8()?;
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        let applied = fields.u64()?;
        let version = fields.u64()?;
        let last_incarnation = Incarnation(fields.u32()?);
        let members = (0..fields.count(4)?)
            .map(|_| read_member(&mut fields))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ownership = OwnershipTable::default();
        for _ in 0..fields.count(4)? {
            let spec = read_spec(&mut fields)?;
            let shards = (0..spec.shards)
                .map(|_| read_shard_record(&mut fields))
                .collect::<Result<Vec<_>, _>>()?;
            ownership.restore(spec, shards)?;
        }
        let cluster = ClusterId(fields.u128()?);
        let cluster = fields.flag()?.then_some(cluster);
        let founders = (0..fields.count(8)?)
            .map(|_| read_peer(&mut fields))
            .collect::<Result<_, _>>()?;
        let parts = (0..fields.count(16)?)
            .map(|_| read_part(&mut fields))
            .collect::<Result<_, _>>()?;
        let down = (0..fields.count(8)?)
            .map(|_| Ok((NodeId(fields.u32()?), Incarnation(fields.u32()?))))
            .collect::<Result<BTreeMap<_, _>, FieldError>>()?;
        if down.len() > MAX_REMEMBERED_DOWN {
            return Err(fields.error("more dead than are remembered").into());
        }
        read_past(&mut fields, &mut ownership)?;
        fields.end()?;
        Ok(ClusterState {
            members: View::from_snapshot(me, version, last_incarnation, members, down),
            ownership,
            applied,
            cluster,
            founders,
            parts,
        })
    }
}

/// A snapshot that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// It was written by another build.
    #[error(
        "a snapshot has form {0}, and this corecast reads form {VERSION}; run the version that wrote it, or form the cluster \
         anew"
    )]
    Version(u8),
    /// It is damaged, or was never a snapshot.
    #[error("the snapshot cannot be read: {0}")]
    Malformed(#[from] FieldError),
    /// An entity type in it is impossible.
    #[error("the snapshot cannot be used: {0}")]
    Type(#[from] TypeError),
}

fn carries(member: &Member, spec: &TypeSpec) -> bool {
    member.data_cores > 0
        && spec
            .role
            .as_ref()
            .is_none_or(|role| member.roles.contains(role))
}

fn read_part(fields: &mut FieldReader<'_>) -> Result<(NodeId, Part), FieldError> {
    let node = NodeId(fields.u32()?);
    let (disk, start) = (read_disk(fields)?, StartId(fields.u64()?));
    Ok((node, Part { disk, start }))
}

fn read_past(
    fields: &mut FieldReader<'_>,
    ownership: &mut OwnershipTable,
) -> Result<(), FieldError> {
    for _ in 0..fields.count(22)? {
        let shard = read_shard(fields)?;
        let past = (0..fields.count(12)?).map(|_| {
            Ok(PastOwner {
                node: NodeId(fields.u32()?),
                epoch: Epoch(fields.u64()?),
            })
        });
        let past = past.collect::<Result<_, FieldError>>()?;
        if !ownership.restore_past(shard, past) {
            return Err(fields.error("past owners of a shard that make no sense"));
        }
    }
    Ok(())
}

fn put_shard_record(out: &mut Vec<u8>, record: &ShardRecord) {
    let node = |node: Option<NodeId>| node.map_or(0, |node| node.0).to_le_bytes();
    out.extend_from_slice(&node(record.owner));
    out.extend_from_slice(&node(record.moving_to));
    out.extend_from_slice(&record.epoch.0.to_le_bytes());
    out.extend_from_slice(&record.fence.0.to_le_bytes());
    out.extend_from_slice(&record.since.to_le_bytes());
}

fn read_shard_record(fields: &mut FieldReader<'_>) -> Result<ShardRecord, FieldError> {
    // No member has the id 0.
    let node = |id: u32| (id != 0).then_some(NodeId(id));
    Ok(ShardRecord {
        owner: node(fields.u32()?),
        moving_to: node(fields.u32()?),
        epoch: Epoch(fields.u64()?),
        fence: Epoch(fields.u64()?),
        since: fields.u64()?,
    })
}
