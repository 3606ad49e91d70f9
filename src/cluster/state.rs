//! What a cluster has agreed on: its members, its entity types, and who owns which shard. Every node that has applied as
//! much of the log has the same.

use thiserror::Error;

use crate::base::fields::{FieldError, FieldReader, put_count};
use crate::base::ids::{Epoch, Incarnation, NodeId, ShardKey};
use crate::cluster::command::{Command, VERSION, put_spec, read_spec};
use crate::cluster::member_codec::{put_member, read_member};
use crate::membership::change::{Change, ChangeError};
use crate::membership::event::MemberEvent;
use crate::membership::view::{Member, MemberState, View};
use crate::sharding::ownership::{
    OwnershipChange, OwnershipCommand, OwnershipTable, ShardRecord, TypeError, TypeSpec,
};

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
}

impl ClusterState {
    /// What node `me` knows before it has applied anything.
    #[must_use]
    pub fn new(me: NodeId) -> ClusterState {
        ClusterState {
            members: View::new(me),
            ownership: OwnershipTable::default(),
            applied: 0,
        }
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
        fields.end()?;
        Ok(ClusterState {
            members: View::from_snapshot(me, version, last_incarnation, members),
            ownership,
            applied,
        })
    }
}

/// A snapshot that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// It was written by a newer build.
    #[error(
        "a snapshot of version {0} was written by a newer corecast than this one, which reads up to {VERSION}; update this \
         node"
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
