//! The log that is open: appends go in, operations for the driver come out, and what is durable is known.

use super::error::{LogError, Refused};
use super::format::{LogId, Record, What};
use super::gather::{Effect, Gather, Tail};
use super::index::{Appended, Index, Position};
use super::kept::Kept;
use super::segments::{Chore, Segments};
use super::settings::{LogSettings, MAX_STATE_BYTES, STATE_SLOTS};
use super::store::{FileName, Operation, Outcome, StoreError, Ticket};

/// A durable, ordered list of records, of which the end can be truncated and the beginning dropped.
///
/// It does no I/O: whoever drives it hands [`next_operation`](Log::next_operation) to a [`LogStore`](super::LogStore) and
/// what comes back to [`completed`](Log::completed). It is made by a [`Recovery`](super::Recovery).
///
/// **Group commit.** Appends gather in a batch. One batch is written and flushed at a time, and the next gathers
/// meanwhile: whatever is appended during one flush shares the next. Nothing may be said to anybody about a record before
/// [`durable`](Log::durable) has reached its position.
///
/// **Order.** Records become durable in the order in which they were appended, whatever their sort: after a crash there
/// is a prefix of them, never less than was durable. So a hard state that is set before an entry is appended is there
/// when the entry is.
///
/// **Snapshots** are records too, a beginning, parts and an end, since they may be larger than a segment; the segments of
/// the newest complete one stay until a newer one is complete and durable. Parts may be mixed with anything else.
///
/// **Memory** is bounded by [`LogSettings::max_unsynced_bytes`] for what gathers and is written, 32 KiB for values, and a
/// few words for each segment.
#[derive(Debug)]
pub struct Log {
    settings: LogSettings,
    id: LogId,
    /// Everything that was appended, durable or not.
    kept: Kept,
    gather: Gather,
    segments: Segments,
    writing: Option<(Ticket, Effect)>,
    chore: Option<(Ticket, Chore)>,
    last_ticket: u64,
    /// The last record's position, and that of the last durable one.
    appended: u64,
    durable: u64,
    /// Whether the batch that opens this life is durable.
    opened: bool,
    failed: Option<LogError>,
}

impl Log {
    pub(super) fn open(
        settings: LogSettings,
        id: LogId,
        kept: Kept,
        segments: Segments,
        tail: Tail,
        last_ticket: u64,
    ) -> Log {
        let mut gather = Gather::new(id, tail, settings.segment_bytes, settings.max_batch_bytes);
        gather.open_life(&kept);
        Log {
            settings,
            id,
            kept,
            gather,
            segments,
            writing: None,
            chore: None,
            last_ticket,
            appended: 0,
            durable: 0,
            opened: false,
            failed: None,
        }
    }

    /// Which log it is.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The first entry that has not been dropped, if it is below [`next`](Log::next).
    #[must_use]
    pub fn first(&self) -> Index {
        Index(self.kept.first)
    }

    /// The index that the next entry gets.
    #[must_use]
    pub fn next(&self) -> Index {
        Index(self.kept.next)
    }

    /// The value of a slot as it was last set, durable or not.
    #[must_use]
    pub fn state(&self, slot: u8) -> Option<&[u8]> {
        self.kept.state(slot)
    }

    /// The position of the last record.
    #[must_use]
    pub fn appended(&self) -> Position {
        Position(self.appended)
    }

    /// Everything up to this position is on the disk.
    #[inline]
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.durable)
    }

    /// How many bytes have been appended and are not durable.
    #[must_use]
    pub fn unsynced_bytes(&self) -> usize {
        self.gather.unsynced_bytes()
    }

    /// How many segments there are on the disk, one that is ready ahead of its use included.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.count()
    }

    /// Why the log has stopped, if it has.
    #[must_use]
    pub fn failed(&self) -> Option<&LogError> {
        self.failed.as_ref()
    }

    /// Whether nothing is under way and nothing waits: it may be dropped without losing anything. (A log that has failed
    /// is idle as well.)
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.failed.is_some()
            || self.writing.is_none()
                && self.chore.is_none()
                && self.gather.next_segment().is_none()
                && self.next_chore().is_none()
    }

    /// Appends an entry. `kind` is the user's own; nobody looks at it here.
    ///
    /// # Errors
    /// [`Refused`]: nothing was appended.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<Appended, Refused> {
        let index = self.next();
        let position = self.put(&Record {
            what: What::Entry,
            kind,
            sequence: index.0,
            payload,
        })?;
        Ok(Appended { index, position })
    }

    /// Takes back the entries from `from` on: the next entry gets that index. They are gone for good when the position
    /// that this returns is durable; until then a crash may bring them back.
    ///
    /// # Errors
    /// [`Refused`], `OutOfRange` if entries from there on have been dropped or never were; nothing has changed.
    pub fn truncate(&mut self, from: Index) -> Result<Position, Refused> {
        if from < self.first() || from > self.next() {
            return Err(Refused::OutOfRange {
                index: from,
                first: self.first(),
                next: self.next(),
            });
        }
        if from == self.next() {
            return self.nothing_to_do();
        }
        self.put(&Record {
            what: What::Cut,
            kind: 0,
            sequence: from.0,
            payload: &[],
        })
    }

    /// Drops the entries before `first`. When that is durable, segments with nothing else in them are recycled.
    ///
    /// `first` may be beyond the last entry, as after a snapshot from elsewhere: all entries are dropped, and the next one
    /// gets this index. A `first` that is not above the present one changes nothing.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn drop_before(&mut self, first: Index) -> Result<Position, Refused> {
        if first <= self.first() {
            return self.nothing_to_do();
        }
        self.put(&Record {
            what: What::Mark,
            kind: 0,
            sequence: first.0,
            payload: &[],
        })
    }

    /// Sets one of [`STATE_SLOTS`] small values, which is kept whatever is truncated or dropped; the latest counts.
    ///
    /// # Errors
    /// [`Refused`], `TooLong` beyond [`MAX_STATE_BYTES`]; nothing has changed.
    pub fn set_state(&mut self, slot: u8, value: &[u8]) -> Result<Position, Refused> {
        if slot >= STATE_SLOTS {
            return Err(Refused::NoSuchSlot { slot });
        }
        if value.len() > MAX_STATE_BYTES {
            return Err(Refused::TooLong {
                bytes: value.len(),
                limit: MAX_STATE_BYTES,
            });
        }
        self.put(&Record {
            what: What::State,
            kind: slot,
            sequence: 0,
            payload: value,
        })
    }

    /// Begins a snapshot of everything up to and with entry `through`. One that had been begun and not finished is given
    /// up. The log does not look at `through`, and drops nothing by itself.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn begin_snapshot(&mut self, through: Index) -> Result<Position, Refused> {
        let number = self.kept.snapshots + 1;
        self.put(&Record {
            what: What::SnapshotBegin,
            kind: 0,
            sequence: through.0,
            payload: &number.to_le_bytes(),
        })
    }

    /// Adds the next part of the snapshot, which may be as long as an entry.
    ///
    /// # Errors
    /// [`Refused`], `Full` if the disk does not keep up: the part is to be given again; nothing has changed.
    pub fn snapshot_part(&mut self, part: &[u8]) -> Result<Position, Refused> {
        self.snapshot_record(What::SnapshotPart, part)
    }

    /// The snapshot is complete. When that is durable it is the one that recovery finds, and the one before is given up.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn finish_snapshot(&mut self) -> Result<Position, Refused> {
        self.snapshot_record(What::SnapshotEnd, &[])
    }

    fn snapshot_record(&mut self, what: What, payload: &[u8]) -> Result<Position, Refused> {
        let (number, _) = self.kept.unfinished.ok_or(Refused::NoSnapshot)?;
        self.put(&Record {
            what,
            kind: 0,
            sequence: number,
            payload,
        })
    }

    fn nothing_to_do(&self) -> Result<Position, Refused> {
        match &self.failed {
            Some(error) => Err(error.clone().into()),
            None => Ok(self.appended()),
        }
    }

    fn put(&mut self, record: &Record<'_>) -> Result<Position, Refused> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        let limit = self.settings.max_record_bytes as usize;
        // A value has a bound of its own.
        if record.payload.len() > limit && record.what != What::State {
            return Err(Refused::TooLong {
                bytes: record.payload.len(),
                limit,
            });
        }
        let bytes = Record::encoded_bytes(record.payload.len());
        let (unsynced, limit) = (self.unsynced_bytes(), self.settings.max_unsynced_bytes);
        if unsynced + bytes > limit {
            return Err(Refused::Full { unsynced, limit });
        }
        let segment = self.gather.segment_for(bytes);
        let begins_it = segment > self.gather.segment();
        // A segment beyond the bound of entries is there because of something else: no entry may fill it.
        let (limit, counts) = match record.what {
            What::Entry => (self.settings.max_segments, true),
            _ => (2 * self.settings.max_segments, begins_it),
        };
        if counts && segment - self.segments.oldest() >= u64::from(limit) {
            return Err(Refused::TooManySegments { limit });
        }
        self.appended += 1;
        self.gather.push(record, self.appended, &self.kept);
        let means = self.kept.apply(record, segment);
        debug_assert_eq!(means, Ok(true), "the log appends only what it would replay");
        self.gather.note(&self.kept);
        Ok(self.appended())
    }

    /// What the driver is to do next; to be asked until there is nothing. At most two operations are under way at a time: a
    /// write of records, and one to do with files that come or go. Call it after a turn's appends, so that they share a
    /// write.
    pub fn next_operation(&mut self) -> Option<(Ticket, Operation)> {
        if self.failed.is_some() {
            return None;
        }
        if self.writing.is_none()
            && let Some(segment) = self.gather.next_segment()
            && self.segments.is_ready(segment)
            && let Some(batch) = self.gather.take()
        {
            let ticket = self.ticket();
            self.writing = Some((ticket, batch.effect));
            let operation = Operation::Write {
                file: FileName::Segment(batch.id.segment),
                offset: u64::from(batch.id.offset),
                bytes: batch.buffer,
            };
            return Some((ticket, operation));
        }
        if self.chore.is_some() {
            return None;
        }
        let chore = self.next_chore()?;
        let ticket = self.ticket();
        self.chore = Some((ticket, chore));
        Some((ticket, self.segments.operation(chore)))
    }

    /// An operation has ended. [`durable`](Log::durable) may have risen.
    ///
    /// # Errors
    /// The log has stopped for good, now or before: everything else is refused with the same error.
    pub fn completed(
        &mut self,
        ticket: Ticket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.take_answer(ticket, result) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn take_answer(
        &mut self,
        ticket: Ticket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), LogError> {
        let is = |asked: Ticket| asked == ticket;
        if let Some((_, effect)) = self.writing.take_if(|(asked, _)| is(*asked)) {
            let Outcome::Written(buffer) = result? else {
                return Err(LogError::WrongAnswer(ticket));
            };
            self.gather.written(effect.bytes, buffer);
            self.segments.note(effect);
            self.durable = self.durable.max(effect.position);
            self.opened = true;
            return Ok(());
        }
        let Some((_, chore)) = self.chore.take_if(|(asked, _)| is(*asked)) else {
            return Err(LogError::WrongAnswer(ticket));
        };
        match (chore, result?) {
            (Chore::WriteHeader { .. }, Outcome::Written(_)) => {}
            (Chore::WriteHeader { .. }, _) => return Err(LogError::WrongAnswer(ticket)),
            (_, Outcome::Done) => {}
            _ => return Err(LogError::WrongAnswer(ticket)),
        }
        self.segments.done(chore);
        Ok(())
    }

    /// Whether the batch that opens this life is durable, and with it all that recovery has read.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    fn next_chore(&self) -> Option<Chore> {
        // Its end may be appended and not be durable yet.
        let begun = self.kept.unfinished.map(|(_, segment)| segment);
        let snapshot = self.kept.finished.or(begun);
        self.segments.next(self.gather.segment(), snapshot)
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }
}
