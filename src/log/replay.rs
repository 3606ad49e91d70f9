//! What a recovery makes of the records that it reads.

use super::error::Place;
use super::format::{BATCH_HEADER_BYTES, BatchHeader, LogId, Record, What, record_salt};
use super::index::Index;
use super::kept::Kept;
use super::recovered::Recovered;
use super::store::FileName;

/// The meaning of what was read.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) kept: Kept,
    /// Entries from here on have been seen.
    present_from: u64,
    /// How many entries were read.
    pub(super) entries: u64,
    started: bool,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay {
            kept: Kept::default(),
            present_from: 1,
            entries: 0,
            started: false,
        }
    }
}

impl Replay {
    /// Takes the next record, which stands in `segment`, and says whether it means anything to the user.
    pub(super) fn take(&mut self, record: &Record<'_>, segment: u64) -> Result<bool, &'static str> {
        if !self.started {
            self.started = true;
            self.kept.begin(record)?;
            self.present_from = self.kept.next;
            return Ok(self.kept.next > 1);
        }
        let means = self.kept.apply(record, segment)?;
        match record.what {
            What::Entry => self.entries += 1,
            What::Cut => self.present_from = self.present_from.min(record.sequence),
            // The user knows that what is before the oldest segment is gone.
            What::Mark if record.sequence <= self.present_from => return Ok(false),
            _ => {}
        }
        Ok(means)
    }

    /// Entries that must be there and were not: they stood before the oldest segment that is there.
    pub(super) fn missing(&self) -> Option<(Index, Index)> {
        let to = self.present_from.min(self.kept.next);
        (self.kept.first < to).then_some((Index(self.kept.first), Index(to)))
    }

    pub(super) fn place(&self, segment: u64, offset: u64) -> Place {
        Place {
            file: FileName::Segment(segment),
            offset,
            index: Index(self.kept.next),
        }
    }
}

/// What a record means to the user.
pub(super) fn meaning(record: Record<'_>) -> Recovered<'_> {
    let index = Index(record.sequence);
    match record.what {
        What::Entry => Recovered::Entry {
            index,
            kind: record.kind,
            payload: record.payload,
        },
        What::Cut => Recovered::Truncated { from: index },
        // The one that the oldest segment begins with: what was before it has been given up.
        What::Mark | What::Checkpoint => Recovered::Dropped { first: index },
        What::State => Recovered::State {
            slot: record.kind,
            value: record.payload,
        },
        What::SnapshotBegin => Recovered::SnapshotBegan { through: index },
        What::SnapshotPart => Recovered::SnapshotPart {
            part: record.payload,
        },
        What::SnapshotEnd => Recovered::SnapshotFinished,
    }
}

/// Where the first record is that cannot be read: its offset in the batch, and how many entries stand before it. `bytes`
/// is the batch.
pub(super) fn first_broken(log: LogId, batch: &BatchHeader, bytes: &[u8]) -> Option<(u64, u64)> {
    let salt = record_salt(log, &batch.id);
    let (mut at, mut entries) = (BATCH_HEADER_BYTES, 0);
    let end = at + batch.bytes as usize;
    for _ in 0..batch.records {
        let rest = bytes.get(at..end).unwrap_or_default();
        let Some((record, taken)) = Record::decode(salt, rest) else {
            return Some((at as u64, entries));
        };
        entries += u64::from(record.what == What::Entry);
        at += taken;
    }
    (at != end).then_some((at as u64, entries))
}
