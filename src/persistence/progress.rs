//! What is known of the events of one actor: which is the next one to write or to read, and when a snapshot is due. It does
//! nothing by itself, so that it can be tried with anything.

use super::error::JournalError;
use super::id::PersistenceId;
use super::journal::Batch;
use super::lease::Writer;
use super::record::{Payload, Record, Sequence};
use crate::base::ids::Epoch;

/// When snapshots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshots {
    /// Never: recovery reads every event.
    Never,
    /// When the actor stops, or its runtime is about to.
    AtStop,
    /// After so many events since the last snapshot, of whatever life of the actor, and when it or its runtime stops.
    Every(u64),
}

/// After every 100 events, and when the actor or its runtime stops.
impl Default for Snapshots {
    fn default() -> Self {
        Snapshots::Every(100)
    }
}

/// How far the events of one actor have come.
#[derive(Debug)]
pub(crate) struct Progress {
    id: PersistenceId,
    /// The last event in the state.
    last: Sequence,
    /// The state of which the last snapshot was taken, whether it could be stored or not.
    snapshot: Sequence,
    /// The last event that there must be, since there is a snapshot of it, if only one that cannot be used.
    witnessed: Sequence,
    snapshots: Snapshots,
}

impl Progress {
    pub(crate) fn new(id: PersistenceId, snapshots: Snapshots) -> Progress {
        Progress {
            id,
            last: Sequence::START,
            snapshot: Sequence::START,
            witnessed: Sequence::START,
            snapshots,
        }
    }

    pub(crate) fn id(&self) -> &PersistenceId {
        &self.id
    }

    pub(crate) fn last(&self) -> Sequence {
        self.last
    }

    /// Begins with a snapshot, or without one from the first event.
    pub(crate) fn begin(&mut self, snapshot: Option<Sequence>) {
        self.last = snapshot.unwrap_or(Sequence::START);
        self.snapshot = self.last;
    }

    /// Notes a snapshot that cannot be used.
    pub(crate) fn set_aside(&mut self, snapshot: Sequence) {
        self.witnessed = snapshot;
    }

    /// Whether there may be no more events than those that have been read.
    pub(crate) fn check_end(&self) -> Result<(), JournalError> {
        let (last, snapshot) = (self.last, self.witnessed);
        if last < snapshot {
            return Err(JournalError::Short { last, snapshot });
        }
        Ok(())
    }

    /// Whether a record that was read, as a snapshot or an event, is the one that was written.
    pub(crate) fn check(&self, record: &Record) -> Result<(), JournalError> {
        if record.is_intact(&self.id) {
            return Ok(());
        }
        Err(JournalError::Damaged {
            what: format!("the checksum of record {} is wrong", record.sequence),
        })
    }

    /// Whether an event that was read is the next one.
    pub(crate) fn check_next(&self, record: &Record) -> Result<(), JournalError> {
        self.check(record)?;
        let (expected, found) = (self.last.next(), record.sequence);
        match found.cmp(&expected) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(JournalError::Gap { expected, found }),
            std::cmp::Ordering::Less => Err(JournalError::OutOfOrder { expected, found }),
        }
    }

    /// The next event is in the state.
    pub(crate) fn folded(&mut self) {
        self.last = self.last.next();
    }

    /// Gives events their numbers.
    pub(crate) fn batch(
        &self,
        writer: Writer,
        epoch: Epoch,
        payloads: impl IntoIterator<Item = Payload>,
    ) -> Batch {
        let mut sequence = self.last;
        let records = payloads.into_iter().map(|payload| {
            sequence = sequence.next();
            Record::new(&self.id, sequence, epoch, payload)
        });
        Batch {
            records: records.collect(),
            writer,
        }
    }

    /// Whether a snapshot is due now that an event has been folded.
    pub(crate) fn is_snapshot_due(&self) -> bool {
        match self.snapshots {
            Snapshots::Every(events) => self.last.0 - self.snapshot.0 >= events.max(1),
            Snapshots::Never | Snapshots::AtStop => false,
        }
    }

    /// Whether a snapshot is to be taken of what stops, if the last one that is stored is `saved`.
    pub(crate) fn is_last_snapshot_due(&self, saved: Sequence) -> bool {
        self.snapshots != Snapshots::Never && self.last > saved
    }

    /// Whether nobody has tried yet to take a snapshot of the state as it is.
    pub(crate) fn is_without_snapshot(&self) -> bool {
        self.last > self.snapshot
    }

    /// Begins to take a snapshot of the state as it is; this one is not due again, whatever comes of it.
    pub(crate) fn begin_snapshot(&mut self) -> Sequence {
        self.snapshot = self.last;
        self.last
    }
}
