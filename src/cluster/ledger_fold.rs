//! What the records of a ledger's log come to, read in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger_record::{self as record, ClusterRecord, RecordError, SnapshotHeader, slot};
use crate::base::fields::FieldError;
use crate::base::ids::{Incarnation, NodeId};
use crate::consensus::entry::{HardState, LogEntry, Recovered, Snapshot};
use crate::consensus::founding::Promise;
use crate::consensus::peer::{ClusterId, DiskId};
use crate::log::Recovered as Replayed;

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Fold {
    /// Whose log it has to be.
    node: NodeId,
    wanted: Option<ClusterId>,
    pub(super) disk: Option<DiskId>,
    pub(super) cluster: Option<ClusterRecord>,
    pub(super) promise: Promise,
    pub(super) incarnation: Incarnation,
    hard_state: HardState,
    snapshot: Option<Arc<Snapshot>>,
    unfinished: Option<Unfinished>,
    entries: BTreeMap<u64, LogEntry>,
    /// The snapshot that has replaced the log, while the log below has not been cut accordingly.
    uncut: Option<u64>,
}

/// A snapshot of which the end has not been read.
#[derive(Debug)]
struct Unfinished {
    header: Option<SnapshotHeader>,
    data: Vec<u8>,
}

/// Why the log is not taken. Its place is known to who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    OtherNode(NodeId),
    OtherCluster(ClusterId),
    Record(&'static str, RecordError),
}

impl Problem {
    /// The records can be read one by one, and do not fit together.
    fn unfit(what: &'static str, why: &'static str) -> Problem {
        Problem::Record(
            what,
            RecordError::Malformed(FieldError { at: 0, what: why }),
        )
    }
}

const SNAPSHOT: &str = "a part of a snapshot";

impl Fold {
    pub(super) fn new(node: NodeId, wanted: Option<ClusterId>) -> Fold {
        Fold {
            node,
            wanted,
            disk: None,
            cluster: None,
            promise: Promise::default(),
            incarnation: Incarnation(0),
            hard_state: HardState::default(),
            snapshot: None,
            unfinished: None,
            entries: BTreeMap::new(),
            uncut: None,
        }
    }

    /// Takes the next record; what it is, if it belongs to a node.
    pub(super) fn take(&mut self, replayed: Replayed<'_>) -> Result<Option<&'static str>, Problem> {
        match replayed {
            Replayed::Entry {
                index,
                kind,
                payload,
            } => {
                let what = "an entry";
                let entry = record::read_entry(index.0, kind, payload);
                let entry = entry.map_err(|why| Problem::Record(what, why))?;
                // Nothing is appended before the log has been cut.
                self.uncut = None;
                self.entries.insert(index.0, entry);
                Ok(Some(what))
            }
            Replayed::Truncated { from } => {
                self.entries.split_off(&from.0);
                Ok(None)
            }
            Replayed::Dropped { first } => {
                self.entries = self.entries.split_off(&first.0);
                self.uncut.take_if(|through| first.0 > *through);
                Ok(None)
            }
            Replayed::State { slot, value } => self.take_value(slot, value),
            Replayed::SnapshotBegan { .. } => {
                self.unfinished = Some(Unfinished {
                    header: None,
                    data: Vec::new(),
                });
                Ok(Some(SNAPSHOT))
            }
            Replayed::SnapshotPart { part } => {
                self.take_part(part)?;
                Ok(Some(SNAPSHOT))
            }
            Replayed::SnapshotFinished => {
                self.finish_snapshot()?;
                Ok(Some(SNAPSHOT))
            }
        }
    }

    fn take_value(&mut self, slot: u8, value: &[u8]) -> Result<Option<&'static str>, Problem> {
        let (what, read) = match slot {
            slot::IDENTITY => {
                let what = "the identity of the node";
                let identity = record::read_identity(value);
                let (node, disk) = identity.map_err(|why| Problem::Record(what, why))?;
                if node != self.node {
                    return Err(Problem::OtherNode(node));
                }
                self.disk = Some(disk);
                return Ok(None);
            }
            slot::HARD_STATE => {
                let read = record::read_hard_state(value).map(|state| self.hard_state = state);
                ("the hard state", read)
            }
            slot::CLUSTER => {
                let read = record::read_cluster(value).map(|record| self.cluster = Some(record));
                ("the cluster", read)
            }
            slot::PROMISE => {
                let read = record::read_promise(value).map(|promise| self.promise = promise);
                ("the promise", read)
            }
            slot::INCARNATION => {
                let read = record::read_incarnation(value).map(|last| self.incarnation = last);
                ("the incarnation", read)
            }
            _ => {
                let why = "this program writes no value into this slot";
                return Err(Problem::unfit("a value", why));
            }
        };
        read.map_err(|why| Problem::Record(what, why))?;
        let found = self.cluster.as_ref().map(|record| record.cluster);
        match (found, self.wanted) {
            (Some(found), Some(wanted)) if found != wanted => Err(Problem::OtherCluster(found)),
            _ => Ok(Some(what)),
        }
    }

    fn take_part(&mut self, part: &[u8]) -> Result<(), Problem> {
        let unreadable = |why| Problem::Record(SNAPSHOT, why);
        // The log hands out no part without its beginning.
        let Some(unfinished) = &mut self.unfinished else {
            return Err(Problem::unfit(SNAPSHOT, "it has no beginning"));
        };
        let Some(header) = &unfinished.header else {
            let header = record::read_snapshot_header(part).map_err(unreadable)?;
            unfinished.header = Some(header);
            return Ok(());
        };
        let bytes = record::read_snapshot_part(part).map_err(unreadable)?;
        // Memory is taken for what comes, not for what is announced.
        if (unfinished.data.len() + bytes.len()) as u64 > header.bytes {
            return Err(Problem::unfit(SNAPSHOT, "there is more than was announced"));
        }
        unfinished.data.extend_from_slice(bytes);
        Ok(())
    }

    fn finish_snapshot(&mut self) -> Result<(), Problem> {
        let unfinished = self.unfinished.take();
        let header = |unfinished: Unfinished| Some((unfinished.header?, unfinished.data));
        let Some((header, data)) = unfinished.and_then(header) else {
            return Err(Problem::unfit(SNAPSHOT, "it ends before its header"));
        };
        if data.len() as u64 != header.bytes {
            return Err(Problem::unfit(SNAPSHOT, "there is less than was announced"));
        }
        if header.replaces_log {
            self.entries.clear();
            self.uncut = Some(header.meta.index);
        }
        self.snapshot = Some(Arc::new(Snapshot {
            meta: header.meta,
            data: data.into(),
        }));
        Ok(())
    }

    /// The snapshot after which the log below was not cut any more, because the last life ended there.
    pub(super) fn uncut(&self) -> Option<u64> {
        self.uncut
    }

    /// What consensus starts with.
    pub(super) fn into_recovered(self) -> Recovered {
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot,
            entries: self.entries.into_values().collect(),
        }
    }

    /// Where the last snapshot stands.
    pub(super) fn snapshot_index(&self) -> Option<u64> {
        self.snapshot.as_ref().map(|snapshot| snapshot.meta.index)
    }
}
