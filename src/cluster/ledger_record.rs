//! How a ledger's records are written: the payloads of entries, values and parts of snapshots in its log.
//!
//! Each begins with the version of its form. All numbers are little-endian.
//!
//! ```text
//! entry     version term(8) body          its index is that of the log's entry, its kind the sort of body:
//!   0 empty    nothing
//!   1 command  node(4) incarnation(4) only_term(8) number(8) floor(8) command
//!   2 change   count(4), then for each step: sort(1) peer(8)
//!
//! value     version, and in slot
//!   0 identity     node(4) disk(4)
//!   1 hard state   term(8) vote(8) commit(8)
//!   2 cluster      cluster(16) flag, and if it is set the voters of the founding: count(4) peer(8)*
//!   3 promise      round(8) peer(8) flag, and if it is set: round(8) peer(8) cluster(16) count(4) peer(8)*
//!   4 incarnation  number(4)
//!
//! snapshot  first part: version replaces(1) index(8) term(8) configuration length(8)
//!           others:     version bytes
//!   configuration  voters, learners, outgoing, next learners: each count(4) peer(8)*; flag
//! ```

use crate::base::fields::{FieldError, FieldReader, put_count};
use crate::base::ids::{Incarnation, NodeId};
use crate::consensus::configuration::{
    ConfigurationChange, ConfigurationRecord, MAX_PEERS, PeerChange,
};
use crate::consensus::entry::{EntryBody, HardState, LogEntry, ProposalRecord, SnapshotMeta};
use crate::consensus::founding::{Ballot, Founding, MAX_FOUNDERS, Promise};
use crate::consensus::peer::{ClusterId, DiskId};

/// The form in which this build writes.
pub(super) const VERSION: u8 = 1;

/// The slots of the log for values.
pub(super) mod slot {
    pub(in crate::cluster) const IDENTITY: u8 = 0;
    pub(in crate::cluster) const HARD_STATE: u8 = 1;
    pub(in crate::cluster) const CLUSTER: u8 = 2;
    pub(in crate::cluster) const PROMISE: u8 = 3;
    pub(in crate::cluster) const INCARNATION: u8 = 4;
}

mod kind {
    pub(super) const EMPTY: u8 = 0;
    pub(super) const COMMAND: u8 = 1;
    pub(super) const CHANGE: u8 = 2;
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    Version(u8),
    Malformed(FieldError),
}

impl From<FieldError> for RecordError {
    fn from(error: FieldError) -> RecordError {
        RecordError::Malformed(error)
    }
}

/// To which cluster this node belongs, and how it began, if this node was a founder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterRecord {
    pub(super) cluster: ClusterId,
    pub(super) founding: Option<Founding>,
}

/// What the first part of a snapshot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotHeader {
    pub(super) meta: SnapshotMeta,
    pub(super) replaces_log: bool,
    /// The length of the data, which the other parts hold.
    pub(super) bytes: u64,
}

fn versioned(bytes: &[u8]) -> Result<FieldReader<'_>, RecordError> {
    let mut fields = FieldReader::new(bytes);
    match fields.u8()? {
        VERSION => Ok(fields),
        other => Err(RecordError::Version(other)),
    }
}

/// Reads one record to its end.
fn read_all<T>(
    bytes: &[u8],
    read: impl FnOnce(&mut FieldReader<'_>) -> Result<T, FieldError>,
) -> Result<T, RecordError> {
    let mut fields = versioned(bytes)?;
    let value = read(&mut fields)?;
    fields.end()?;
    Ok(value)
}

/// Writes an entry into `out`, which is emptied first; its kind.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) -> u8 {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(&entry.term.to_le_bytes());
    match &entry.body {
        EntryBody::Empty => kind::EMPTY,
        EntryBody::Command(proposal, command) => {
            out.extend_from_slice(&proposal.node.to_le_bytes());
            out.extend_from_slice(&proposal.incarnation.to_le_bytes());
            out.extend_from_slice(&proposal.only_term.to_le_bytes());
            out.extend_from_slice(&proposal.number.to_le_bytes());
            out.extend_from_slice(&proposal.floor.to_le_bytes());
            out.extend_from_slice(command);
            kind::COMMAND
        }
        EntryBody::Change(change) => {
            put_count(out, change.steps.len());
            for (sort, peer) in &change.steps {
                out.push(match sort {
                    PeerChange::Vote => 0,
                    PeerChange::Learn => 1,
                    PeerChange::Remove => 2,
                });
                out.extend_from_slice(&peer.to_le_bytes());
            }
            kind::CHANGE
        }
    }
}

pub(super) fn read_entry(index: u64, kind: u8, bytes: &[u8]) -> Result<LogEntry, RecordError> {
    read_all(bytes, |fields| {
        let term = fields.u64()?;
        let body = match kind {
            kind::EMPTY => EntryBody::Empty,
            kind::COMMAND => {
                let proposal = ProposalRecord {
                    node: fields.u32()?,
                    incarnation: fields.u32()?,
                    only_term: fields.u64()?,
                    number: fields.u64()?,
                    floor: fields.u64()?,
                };
                let command = fields.bytes(fields.remaining())?;
                EntryBody::Command(proposal, command.to_vec())
            }
            kind::CHANGE => {
                let steps = (0..fields.count(9)?)
                    .map(|_| Ok((read_peer_change(fields)?, fields.u64()?)))
                    .collect::<Result<_, _>>()?;
                EntryBody::Change(ConfigurationChange { steps })
            }
            _ => return Err(fields.error("there is no such kind of entry")),
        };
        Ok(LogEntry { index, term, body })
    })
}

fn read_peer_change(fields: &mut FieldReader<'_>) -> Result<PeerChange, FieldError> {
    Ok(match fields.u8()? {
        0 => PeerChange::Vote,
        1 => PeerChange::Learn,
        2 => PeerChange::Remove,
        _ => return Err(fields.error("there is no such change of a peer")),
    })
}

pub(super) fn identity(node: NodeId, disk: DiskId) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&node.0.to_le_bytes());
    out.extend_from_slice(&disk.number().to_le_bytes());
    out
}

pub(super) fn read_identity(bytes: &[u8]) -> Result<(NodeId, DiskId), RecordError> {
    read_all(bytes, |fields| {
        let node = NodeId(fields.u32()?);
        let disk = DiskId::from_number(fields.u32()?);
        Ok((
            node,
            disk.ok_or_else(|| fields.error("a disk has number 0"))?,
        ))
    })
}

pub(super) fn hard_state(state: &HardState) -> Vec<u8> {
    let mut out = vec![VERSION];
    for number in [state.term, state.vote, state.commit] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out
}

pub(super) fn read_hard_state(bytes: &[u8]) -> Result<HardState, RecordError> {
    read_all(bytes, |fields| {
        Ok(HardState {
            term: fields.u64()?,
            vote: fields.u64()?,
            commit: fields.u64()?,
        })
    })
}

pub(super) fn cluster(record: &ClusterRecord) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&record.cluster.0.to_le_bytes());
    out.push(u8::from(record.founding.is_some()));
    if let Some(founding) = &record.founding {
        put_peers(&mut out, &founding.voters);
    }
    out
}

pub(super) fn read_cluster(bytes: &[u8]) -> Result<ClusterRecord, RecordError> {
    read_all(bytes, |fields| {
        let cluster = fields.u128()?;
        let founding = match fields.flag()? {
            true => Some(Founding {
                cluster,
                voters: read_peers(fields, MAX_FOUNDERS)?,
            }),
            false => None,
        };
        Ok(ClusterRecord {
            cluster: ClusterId(cluster),
            founding,
        })
    })
}

pub(super) fn promise(promise: &Promise) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_ballot(&mut out, promise.promised);
    out.push(u8::from(promise.accepted.is_some()));
    if let Some((ballot, founding)) = &promise.accepted {
        put_ballot(&mut out, *ballot);
        out.extend_from_slice(&founding.cluster.to_le_bytes());
        put_peers(&mut out, &founding.voters);
    }
    out
}

pub(super) fn read_promise(bytes: &[u8]) -> Result<Promise, RecordError> {
    read_all(bytes, |fields| {
        Ok(Promise {
            promised: read_ballot(fields)?,
            accepted: match fields.flag()? {
                true => {
                    let ballot = read_ballot(fields)?;
                    let cluster = fields.u128()?;
                    let voters = read_peers(fields, MAX_FOUNDERS)?;
                    Some((ballot, Founding { cluster, voters }))
                }
                false => None,
            },
        })
    })
}

fn put_ballot(out: &mut Vec<u8>, ballot: Ballot) {
    out.extend_from_slice(&ballot.round.to_le_bytes());
    out.extend_from_slice(&ballot.peer.to_le_bytes());
}

fn read_ballot(fields: &mut FieldReader<'_>) -> Result<Ballot, FieldError> {
    Ok(Ballot {
        round: fields.u64()?,
        peer: fields.u64()?,
    })
}

pub(super) fn incarnation(incarnation: Incarnation) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&incarnation.0.to_le_bytes());
    out
}

pub(super) fn read_incarnation(bytes: &[u8]) -> Result<Incarnation, RecordError> {
    read_all(bytes, |fields| Ok(Incarnation(fields.u32()?)))
}

pub(super) fn snapshot_header(header: &SnapshotHeader) -> Vec<u8> {
    let SnapshotMeta {
        index,
        term,
        configuration,
    } = &header.meta;
    let mut out = vec![VERSION, u8::from(header.replaces_log)];
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&term.to_le_bytes());
    for peers in [
        &configuration.voters,
        &configuration.learners,
        &configuration.outgoing,
        &configuration.learners_next,
    ] {
        put_peers(&mut out, peers);
    }
    out.push(u8::from(configuration.auto_leave));
    out.extend_from_slice(&header.bytes.to_le_bytes());
    out
}

pub(super) fn read_snapshot_header(bytes: &[u8]) -> Result<SnapshotHeader, RecordError> {
    read_all(bytes, |fields| {
        let replaces_log = fields.flag()?;
        let (index, term) = (fields.u64()?, fields.u64()?);
        let configuration = ConfigurationRecord {
            voters: read_peers(fields, MAX_PEERS)?,
            learners: read_peers(fields, MAX_PEERS)?,
            outgoing: read_peers(fields, MAX_PEERS)?,
            learners_next: read_peers(fields, MAX_PEERS)?,
            auto_leave: fields.flag()?,
        };
        Ok(SnapshotHeader {
            meta: SnapshotMeta {
                index,
                term,
                configuration,
            },
            replaces_log,
            bytes: fields.u64()?,
        })
    })
}

/// Writes a further part of a snapshot into `out`, which is emptied first.
pub(super) fn put_snapshot_part(out: &mut Vec<u8>, part: &[u8]) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(part);
}

pub(super) fn read_snapshot_part(bytes: &[u8]) -> Result<&[u8], RecordError> {
    let mut fields = versioned(bytes)?;
    Ok(fields.bytes(fields.remaining())?)
}

fn put_peers(out: &mut Vec<u8>, peers: &[u64]) {
    put_count(out, peers.len());
    for peer in peers {
        out.extend_from_slice(&peer.to_le_bytes());
    }
}

fn read_peers(fields: &mut FieldReader<'_>, most: usize) -> Result<Vec<u64>, FieldError> {
    let count = fields.count(8)?;
    if count > most {
        return Err(fields.error("more peers than there can be"));
    }
    (0..count).map(|_| fields.u64()).collect()
}
