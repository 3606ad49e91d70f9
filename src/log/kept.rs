//! What a log means: which entries there are, the values beside them, and the snapshot. What is appended and what is
//! replayed goes through here in the same way.

use super::format::{Record, What, u64_at};
use super::settings::{MAX_STATE_BYTES, STATE_SLOTS};

/// Entries `first..next` exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) first: u64,
    pub(super) next: u64,
    states: [Option<Box<[u8]>>; STATE_SLOTS as usize],
    /// The snapshot that is being written: its number and the segment in which it begins.
    pub(super) unfinished: Option<(u64, u64)>,
    /// The segment in which the newest complete snapshot begins.
    pub(super) finished: Option<u64>,
    /// The highest number of a snapshot.
    pub(super) snapshots: u64,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            first: 1,
            next: 1,
            states: Default::default(),
            unfinished: None,
            finished: None,
            snapshots: 0,
        }
    }
}

impl Kept {
    pub(super) fn state(&self, slot: u8) -> Option<&[u8]> {
        self.states.get(usize::from(slot))?.as_deref()
    }

    pub(super) fn states(&self) -> impl Iterator<Item = (u8, &[u8])> {
        (0..STATE_SLOTS).filter_map(|slot| Some((slot, self.state(slot)?)))
    }

    /// Takes a record that stands in `segment` for what it means. Says whether it means anything: parts of snapshots
    /// whose beginning is gone don't.
    pub(super) fn apply(
        &mut self,
        record: &Record<'_>,
        segment: u64,
    ) -> Result<bool, &'static str> {
        let sequence = record.sequence;
        match record.what {
            What::Entry if sequence == self.next => {
                self.next = sequence
                    .checked_add(1)
                    .ok_or("an index that is too large")?;
            }
            What::Entry => return Err("an entry is not the next"),
            What::Cut if (self.first..=self.next).contains(&sequence) => self.next = sequence,
            What::Cut => return Err("a truncation to where no entries are"),
            What::Mark if sequence >= self.first => {
                self.first = sequence;
                self.next = self.next.max(sequence);
            }
            What::Mark => return Err("a mark before an earlier one"),
            What::State => {
                let slot = self
                    .states
                    .get_mut(usize::from(record.kind))
                    .ok_or("a value in a slot that does not exist")?;
                if record.payload.len() > MAX_STATE_BYTES {
                    return Err("a value that is too long");
                }
                *slot = Some(record.payload.into());
            }
            What::Checkpoint => {
                if (u64_payload(record)?, sequence) != (self.first, self.next) {
                    return Err(
                        "a segment begins with other entries than the one before it ends with",
                    );
                }
                return Ok(false);
            }
            What::SnapshotBegin => {
                let number = u64_payload(record)?;
                self.snapshots = self.snapshots.max(number);
                self.unfinished = Some((number, segment));
            }
            What::SnapshotPart | What::SnapshotEnd => {
                self.snapshots = self.snapshots.max(sequence);
                let Some((_, begun)) = self.unfinished.filter(|(number, _)| *number == sequence)
                else {
                    return Ok(false);
                };
                if record.what == What::SnapshotEnd {
                    self.finished = Some(begun);
                    self.unfinished = None;
                }
            }
        }
        Ok(true)
    }

    /// Takes the first record of the oldest segment for what there was before it.
    pub(super) fn begin(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        let first = u64_payload(record)?;
        if record.what != What::Checkpoint || first < 1 || first > record.sequence {
            return Err("a segment does not begin as segments do");
        }
        (self.first, self.next) = (first, record.sequence);
        Ok(())
    }
}

fn u64_payload(record: &Record<'_>) -> Result<u64, &'static str> {
    match record.payload.len() {
        8 => Ok(u64_at(record.payload, 0)),
        _ => Err("a number that is not 8 bytes long"),
    }
}
