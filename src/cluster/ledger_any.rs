//! The records of a ledger, read one by one from bytes that nobody vouches for: for fuzzing, and for nothing else.

use super::ledger_record::{self as record, ClusterRecord, RecordError, SnapshotHeader};
use crate::base::ids::Incarnation;
use crate::consensus::configuration::{ConfigurationChange, ConfigurationRecord, PeerChange};
use crate::consensus::entry::{EntryBody, HardState, LogEntry, ProposalRecord, SnapshotMeta};
use crate::consensus::founding::{Ballot, Founding, Promise};
use crate::consensus::peer::ClusterId;

/// A sort of record, and how one is read. What can be read is written again.
struct Sort {
    name: &'static str,
    read: fn(&[u8]) -> Result<Vec<u8>, RecordError>,
    sample: Vec<u8>,
}

fn entry(kind: u8, bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let entry = record::read_entry(7, kind, bytes)?;
    let mut out = Vec::new();
    let again = record::put_entry(&mut out, &entry);
    debug_assert_eq!(again, kind, "an entry is of the kind as which it was read");
    Ok(out)
}

fn sorts() -> Vec<Sort> {
    let peer = |node: u64| node << 32 | 9;
    let body = |body| {
        let (index, term) = (7, 3);
        let mut out = Vec::new();
        record::put_entry(&mut out, &LogEntry { index, term, body });
        out
    };
    let founding = Founding {
        cluster: 0xAB,
        voters: vec![peer(1), peer(2)],
    };
    let proposal = ProposalRecord {
        node: 1,
        incarnation: 2,
        only_term: 0,
        number: 4,
        floor: 3,
    };
    let steps = vec![(PeerChange::Vote, peer(1)), (PeerChange::Remove, peer(2))];
    let meta = SnapshotMeta {
        index: 5,
        term: 2,
        configuration: ConfigurationRecord {
            voters: vec![peer(1), peer(2)],
            learners: vec![peer(3)],
            outgoing: vec![peer(1)],
            learners_next: Vec::new(),
            auto_leave: true,
        },
    };
    let ballot = |round| Ballot {
        round,
        peer: peer(1),
    };
    let mut part = Vec::new();
    record::put_snapshot_part(&mut part, b"part of a state");
    let sort = |name, sample, read| Sort { name, read, sample };
    vec![
        sort("empty entry", body(EntryBody::Empty), |bytes| {
            entry(0, bytes)
        }),
        sort(
            "command",
            body(EntryBody::Command(proposal, b"command".to_vec())),
            |bytes| entry(1, bytes),
        ),
        sort(
            "change",
            body(EntryBody::Change(ConfigurationChange { steps })),
            |bytes| entry(2, bytes),
        ),
        sort("unknown entry", body(EntryBody::Empty), |bytes| {
            entry(9, bytes)
        }),
        sort(
            "identity",
            [record::VERSION, 1, 0, 0, 0, 9, 0, 0, 0].to_vec(),
            |bytes| {
                let (node, disk) = record::read_identity(bytes)?;
                Ok(record::identity(node, disk))
            },
        ),
        sort(
            "hard state",
            record::hard_state(&HardState {
                term: 3,
                vote: peer(1),
                commit: 2,
            }),
            |bytes| Ok(record::hard_state(&record::read_hard_state(bytes)?)),
        ),
        sort(
            "cluster",
            record::cluster(&ClusterRecord {
                cluster: ClusterId(0xAB),
                founding: Some(founding.clone()),
            }),
            |bytes| Ok(record::cluster(&record::read_cluster(bytes)?)),
        ),
        sort(
            "promise",
            record::promise(&Promise {
                promised: ballot(4),
                accepted: Some((ballot(3), founding)),
            }),
            |bytes| Ok(record::promise(&record::read_promise(bytes)?)),
        ),
        sort(
            "incarnation",
            record::incarnation(Incarnation(3)),
            |bytes| Ok(record::incarnation(record::read_incarnation(bytes)?)),
        ),
        sort(
            "snapshot header",
            record::snapshot_header(&SnapshotHeader {
                meta,
                replaces_log: true,
                bytes: 1_000,
            }),
            |bytes| {
                Ok(record::snapshot_header(&record::read_snapshot_header(
                    bytes,
                )?))
            },
        ),
        sort("snapshot part", part, |bytes| {
            let mut out = Vec::new();
            record::put_snapshot_part(&mut out, record::read_snapshot_part(bytes)?);
            Ok(out)
        }),
    ]
}

/// The sorts of records, each with the bytes of one.
#[must_use]
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let sorts = sorts().into_iter();
    sorts.map(|sort| (sort.name, sort.sample)).collect()
}

/// Reads a record of a sort, and writes it again.
///
/// # Errors
/// What is wrong and where, in words.
pub fn reread(sort: usize, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let sorts = sorts();
    let sort = &sorts[sort % sorts.len()];
    (sort.read)(bytes).map_err(|error| match error {
        RecordError::Version(version) => format!("{} of version {version}", sort.name),
        RecordError::Malformed(error) => format!("{}: {error}", sort.name),
    })
}
