//! What stands in the log of a cluster, and how it is written there.
//!
//! The bytes outlive the program that wrote them: each command begins with the version of its form, and a node that finds
//! a newer one stops instead of guessing. (A cluster is updated one node after the other; a new form is written only
//! once every node reads it.)

use thiserror::Error;

use crate::base::fields::{FieldError, FieldReader, put_count, put_text};
use crate::base::ids::{EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use crate::cluster::admission::{Admission, read_peer};
use crate::cluster::member_codec::{put_join, read_join};
use crate::consensus::founding::MAX_FOUNDERS;
use crate::consensus::peer::{ClusterId, PeerId};
use crate::membership::change::Change;
use crate::sharding::ownership::{OwnershipCommand, TypeSpec};
use crate::sharding::strategy::PlacementStrategy;

/// The form in which this build writes.
pub const VERSION: u8 = 1;

/// The most shards of one command; more are spread over several.
pub const MAX_SHARDS_PER_COMMAND: usize = 1_024;

/// The longest name of an entity type or a role, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Which cluster this is, and who began it; once, before anything else.
    Found {
        /// The id of the cluster.
        cluster: ClusterId,
        /// Its first voters. Each stays a peer of the log until its node is let in.
        voters: Vec<PeerId>,
    },
    /// A node is let in. (A [`Change::Join`] alone lets in a member that has no part in the log.)
    Admit(Admission),
    /// About members.
    Member(Change),
    /// An entity type that a node has.
    Register(TypeSpec),
    /// About the owners of shards.
    Ownership(OwnershipCommand),
}

/// A command that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// It was written by a newer build.
    #[error(
        "a command of version {0} was written by a newer corecast than this one, which reads up to {VERSION}; update this \
         node"
    )]
    Version(u8),
    /// It is damaged, or was never a command.
    #[error("the command cannot be read: {0}")]
    Malformed(#[from] FieldError),
}

mod tag {
    pub(super) const JOIN: u8 = 1;
    pub(super) const UP: u8 = 2;
    pub(super) const LEAVE: u8 = 3;
    pub(super) const LEFT: u8 = 4;
    pub(super) const DOWN: u8 = 5;
    pub(super) const REMOVE: u8 = 6;
    pub(super) const UNREACHABLE: u8 = 7;
    pub(super) const REACHABLE: u8 = 8;
    pub(super) const FOUND: u8 = 9;
    pub(super) const ADMIT: u8 = 10;
    pub(super) const REGISTER: u8 = 16;
    pub(super) const ALLOCATE: u8 = 32;
    pub(super) const PREPARE: u8 = 33;
    pub(super) const OWN: u8 = 34;
    pub(super) const ABORT: u8 = 35;
}

impl Command {
    /// The command as it is written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Command::Found { cluster, voters } => {
                out.push(tag::FOUND);
                out.extend_from_slice(&cluster.0.to_le_bytes());
                put_count(&mut out, voters.len());
                for voter in voters {
                    out.extend_from_slice(&voter.number().to_le_bytes());
                }
            }
            Command::Admit(admission) => {
                out.push(tag::ADMIT);
                admission.put(&mut out);
            }
            Command::Member(change) => put_change(&mut out, change),
            Command::Register(spec) => {
                out.push(tag::REGISTER);
                put_spec(&mut out, spec);
            }
            Command::Ownership(command) => put_ownership(&mut out, command),
        }
        out
    }

    /// Reads a command.
    ///
    /// # Errors
    ///
    /// [`CommandError`] says which byte is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Command, CommandError> {
        let mut fields = FieldReader::new(bytes);
        let version = fields.u8()?;
        if version != VERSION {
            return Err(CommandError::Version(version));
        }
        let command = read(&mut fields)?;
        fields.end()?;
        Ok(command)
    }
}

fn read(fields: &mut FieldReader<'_>) -> Result<Command, FieldError> {
    let tag = fields.u8()?;
    Ok(match tag {
        tag::FOUND => read_found(fields)?,
        tag::ADMIT => Command::Admit(Admission::read(fields)?),
        tag::JOIN => Command::Member(Change::Join(read_join(fields)?)),
        tag::UP..=tag::REACHABLE => Command::Member(read_change(tag, fields)?),
        tag::REGISTER => Command::Register(read_spec(fields)?),
        tag::ALLOCATE => Command::Ownership(OwnershipCommand::Allocate(read_placements(fields)?)),
        tag::PREPARE => Command::Ownership(OwnershipCommand::Prepare(read_placements(fields)?)),
        tag::OWN => Command::Ownership(OwnershipCommand::Own {
            shard: read_shard(fields)?,
            prepared: fields.u64()?,
        }),
        tag::ABORT => Command::Ownership(OwnershipCommand::Abort {
            shard: read_shard(fields)?,
            prepared: fields.u64()?,
        }),
        _ => return Err(fields.error("there is no such command")),
    })
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    let (tag, node, incarnation, by) = match change {
        Change::Join(join) => {
            out.push(tag::JOIN);
            return put_join(out, join);
        }
        Change::Up { node, incarnation } => (tag::UP, node, incarnation, None),
        Change::Leave { node, incarnation } => (tag::LEAVE, node, incarnation, None),
        Change::Left { node, incarnation } => (tag::LEFT, node, incarnation, None),
        Change::Down { node, incarnation } => (tag::DOWN, node, incarnation, None),
        Change::Remove { node, incarnation } => (tag::REMOVE, node, incarnation, None),
        Change::Unreachable {
            node,
            incarnation,
            by,
        } => (tag::UNREACHABLE, node, incarnation, Some(by)),
        Change::Reachable {
            node,
            incarnation,
            by,
        } => (tag::REACHABLE, node, incarnation, Some(by)),
    };
    out.push(tag);
    out.extend_from_slice(&node.0.to_le_bytes());
    out.extend_from_slice(&incarnation.0.to_le_bytes());
    if let Some(by) = by {
        out.extend_from_slice(&by.0.to_le_bytes());
    }
}

fn read_change(tag: u8, fields: &mut FieldReader<'_>) -> Result<Change, FieldError> {
    let node = NodeId(fields.u32()?);
    let incarnation = Incarnation(fields.u32()?);
    Ok(match tag {
        tag::UP => Change::Up { node, incarnation },
        tag::LEAVE => Change::Leave { node, incarnation },
        tag::LEFT => Change::Left { node, incarnation },
        tag::DOWN => Change::Down { node, incarnation },
        tag::REMOVE => Change::Remove { node, incarnation },
        tag::UNREACHABLE => Change::Unreachable {
            node,
            incarnation,
            by: NodeId(fields.u32()?),
        },
        _ => Change::Reachable {
            node,
            incarnation,
            by: NodeId(fields.u32()?),
        },
    })
}

fn read_found(fields: &mut FieldReader<'_>) -> Result<Command, FieldError> {
    let cluster = ClusterId(fields.u128()?);
    let count = fields.count(8)?;
    if !(1..=MAX_FOUNDERS).contains(&count) {
        return Err(fields.error("a cluster has no founders, or more than there may be"));
    }
    let voters = (0..count)
        .map(|_| read_peer(fields))
        .collect::<Result<_, _>>()?;
    Ok(Command::Found { cluster, voters })
}

pub(super) fn put_spec(out: &mut Vec<u8>, spec: &TypeSpec) {
    put_text(out, &spec.name);
    out.extend_from_slice(&spec.shards.to_le_bytes());
    out.push(match spec.strategy {
        PlacementStrategy::LeastLoaded => 0,
        PlacementStrategy::HashRing => 1,
    });
    out.push(u8::from(spec.role.is_some()));
    if let Some(role) = &spec.role {
        put_text(out, role);
    }
    out.push(u8::from(spec.keep_running));
}

pub(super) fn read_spec(fields: &mut FieldReader<'_>) -> Result<TypeSpec, FieldError> {
    Ok(TypeSpec {
        name: fields.text(MAX_NAME_BYTES)?.to_owned(),
        shards: fields.u32()?,
        strategy: match fields.u8()? {
            0 => PlacementStrategy::LeastLoaded,
            1 => PlacementStrategy::HashRing,
            _ => return Err(fields.error("there is no such strategy")),
        },
        role: match fields.flag()? {
            true => Some(fields.text(MAX_NAME_BYTES)?.to_owned()),
            false => None,
        },
        keep_running: fields.flag()?,
    })
}

fn put_ownership(out: &mut Vec<u8>, command: &OwnershipCommand) {
    let (tag, shard, prepared) = match command {
        OwnershipCommand::Allocate(placements) => {
            return put_placements(out, tag::ALLOCATE, placements);
        }
        OwnershipCommand::Prepare(placements) => {
            return put_placements(out, tag::PREPARE, placements);
        }
        OwnershipCommand::Own { shard, prepared } => (tag::OWN, shard, prepared),
        OwnershipCommand::Abort { shard, prepared } => (tag::ABORT, shard, prepared),
    };
    out.push(tag);
    put_shard(out, *shard);
    out.extend_from_slice(&prepared.to_le_bytes());
}

fn put_placements(out: &mut Vec<u8>, tag: u8, placements: &[(ShardKey, NodeId)]) {
    out.push(tag);
    put_count(out, placements.len());
    for (shard, node) in placements {
        put_shard(out, *shard);
        out.extend_from_slice(&node.0.to_le_bytes());
    }
}

fn read_placements(fields: &mut FieldReader<'_>) -> Result<Vec<(ShardKey, NodeId)>, FieldError> {
    let count = fields.count(10)?;
    if count > MAX_SHARDS_PER_COMMAND {
        return Err(fields.error("more shards than a command may have"));
    }
    (0..count)
        .map(|_| Ok((read_shard(fields)?, NodeId(fields.u32()?))))
        .collect()
}

pub(super) fn put_shard(out: &mut Vec<u8>, shard: ShardKey) {
    out.extend_from_slice(&shard.entity_type.0.to_le_bytes());
    out.extend_from_slice(&shard.shard.0.to_le_bytes());
}

pub(super) fn read_shard(fields: &mut FieldReader<'_>) -> Result<ShardKey, FieldError> {
    Ok(ShardKey {
        entity_type: EntityTypeId(fields.u16()?),
        shard: ShardId(fields.u32()?),
    })
}
