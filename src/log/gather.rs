//! Records on their way to the disk: they gather in a batch while the one before it is being written.
//!
//! A batch knows its place from its first record on, since checksums depend on it: behind the batch before it, or at the
//! beginning of the next segment where it would not fit any more.

use std::collections::VecDeque;

use super::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchId, LogId, Record, What, record_salt,
};
use super::kept::Kept;
use super::store::WriteBuffer;

/// Buffers that are kept to be used again: of the batch that gathers and of the one that is written.
const IDLE_BUFFERS: usize = 2;

/// Where the next batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) segment: u64,
    /// The size of this segment, which may have been made under other settings.
    pub(super) segment_bytes: u32,
    pub(super) offset: u32,
    /// The number of the next batch.
    pub(super) number: u64,
    pub(super) life: u64,
}

/// What is true when a batch is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) segment: u64,
    /// The last record's position.
    pub(super) position: u64,
    /// The highest entry in it; 0 if there is none.
    pub(super) last_entry: u64,
    /// The first entry that is kept.
    pub(super) first: u64,
    /// Where the newest complete snapshot begins.
    pub(super) finished_snapshot: Option<u64>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) buffer: WriteBuffer,
    salt: u32,
    records: u32,
    pub(super) effect: Effect,
}

impl Batch {
    fn push(&mut self, record: &Record<'_>) {
        self.buffer
            .extend_from_slice(&record.encode_header(self.salt));
        self.buffer.extend_from_slice(record.payload);
        let padding = record.payload.len().next_multiple_of(8) - record.payload.len();
        self.buffer.extend_from_slice(&[0; 8][..padding]);
        self.records += 1;
        if record.what == What::Entry {
            self.effect.last_entry = self.effect.last_entry.max(record.sequence);
        }
    }

    /// Makes it what is written.
    fn finish(&mut self, log: LogId) {
        let header = BatchHeader {
            id: self.id,
            bytes: (self.buffer.len() - BATCH_HEADER_BYTES) as u32,
            records: self.records,
        };
        let padded = self.buffer.len().next_multiple_of(BLOCK_BYTES);
        self.buffer[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(log));
        self.buffer.resize(padded, 0);
        self.effect.bytes = padded;
    }
}

#[derive(Debug)]
pub(super) struct Gather {
    log: LogId,
    tail: Tail,
    new_segment_bytes: u32,
    max_batch_bytes: usize,
    open: Option<Batch>,
    closed: VecDeque<Batch>,
    /// Of closed batches, the one that is written included.
    closed_bytes: usize,
    idle: Vec<WriteBuffer>,
}

impl Gather {
    pub(super) fn new(
        log: LogId,
        tail: Tail,
        new_segment_bytes: u32,
        max_batch_bytes: u32,
    ) -> Gather {
        Gather {
            log,
            tail,
            new_segment_bytes,
            max_batch_bytes: max_batch_bytes as usize,
            open: None,
            closed: VecDeque::new(),
            closed_bytes: 0,
            idle: Vec::new(),
        }
    }

    /// The segment of the newest batch, or of the next.
    pub(super) fn segment(&self) -> u64 {
        self.tail.segment
    }

    pub(super) fn unsynced_bytes(&self) -> usize {
        self.closed_bytes + self.open.as_ref().map_or(0, |batch| batch.buffer.len())
    }

    /// The segment in which a record of this encoded size would be.
    pub(super) fn segment_for(&self, bytes: usize) -> u64 {
        let stays = match &self.open {
            Some(batch) => self.joins(bytes) || self.room_behind(batch) >= padded(bytes),
            None => self.fits(BATCH_HEADER_BYTES + bytes),
        };
        self.tail.segment + u64::from(!stays)
    }

    /// Adds a record. It has been asked before whether its segment may be begun.
    pub(super) fn push(&mut self, record: &Record<'_>, position: u64, kept: &Kept) {
        let bytes = Record::encoded_bytes(record.payload.len());
        if !self.joins(bytes) {
            self.close();
            self.begin(bytes, false, kept);
        }
        if let Some(batch) = &mut self.open {
            batch.push(record);
            batch.effect.position = position;
        }
    }

    /// After each record, what is true when it is durable.
    pub(super) fn note(&mut self, kept: &Kept) {
        if let Some(batch) = &mut self.open {
            batch.effect.first = kept.first;
            batch.effect.finished_snapshot = kept.finished;
        }
    }

    /// The batch that begins this life: it has no records, except at the beginning of a segment.
    pub(super) fn open_life(&mut self, kept: &Kept) {
        self.begin(0, true, kept);
        self.note(kept);
        self.close();
    }

    /// The segment in which the next batch to be written lies, if there is one.
    pub(super) fn next_segment(&self) -> Option<u64> {
        let next = self.closed.front().or(self.open.as_ref())?;
        Some(next.id.segment)
    }

    /// Takes the next batch; while it is written the next one gathers.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.closed.is_empty() {
            self.close();
        }
        self.closed.pop_front()
    }

    /// A batch has been written.
    pub(super) fn written(&mut self, bytes: usize, mut buffer: WriteBuffer) {
        self.closed_bytes -= bytes;
        // One huge record shall not hold its memory for ever.
        if self.idle.len() < IDLE_BUFFERS && buffer.capacity() <= 2 * self.max_batch_bytes {
            buffer.clear();
            self.idle.push(buffer);
        }
    }

    /// Whether there is a batch to which a record of this encoded size can be added.
    fn joins(&self, bytes: usize) -> bool {
        self.open.as_ref().is_some_and(|batch| {
            let with_it = batch.buffer.len() + bytes;
            with_it <= self.max_batch_bytes && self.fits(with_it)
        })
    }

    /// Whether a batch of this size, at the place of the newest, ends within the segment.
    fn fits(&self, bytes: usize) -> bool {
        let begins = self
            .open
            .as_ref()
            .map_or(self.tail.offset, |batch| batch.id.offset);
        begins as usize + bytes.next_multiple_of(BLOCK_BYTES) <= self.tail.segment_bytes as usize
    }

    /// What is left of the segment if this batch ends now.
    fn room_behind(&self, batch: &Batch) -> usize {
        let end = batch.id.offset as usize + batch.buffer.len().next_multiple_of(BLOCK_BYTES);
        (self.tail.segment_bytes as usize).saturating_sub(end)
    }

    fn begin(&mut self, bytes: usize, opens: bool, kept: &Kept) {
        if !self.fits(BATCH_HEADER_BYTES + bytes) {
            self.tail.segment += 1;
            self.tail.segment_bytes = self.new_segment_bytes;
            self.tail.offset = BLOCK_BYTES as u32;
        }
        let id = BatchId {
            segment: self.tail.segment,
            offset: self.tail.offset,
            number: self.tail.number,
            life: self.tail.life,
            opens,
        };
        self.tail.number += 1;
        let mut buffer = self.idle.pop().unwrap_or_default();
        buffer.resize(BATCH_HEADER_BYTES, 0);
        let mut batch = Batch {
            id,
            buffer,
            salt: record_salt(self.log, &id),
            records: 0,
            effect: Effect {
                segment: id.segment,
                position: 0,
                last_entry: 0,
                first: kept.first,
                finished_snapshot: kept.finished,
                bytes: 0,
            },
        };
        if id.offset as usize == BLOCK_BYTES {
            begin_segment(&mut batch, kept);
        }
        self.open = Some(batch);
    }

    fn close(&mut self) {
        let Some(mut batch) = self.open.take() else {
            return;
        };
        batch.finish(self.log);
        self.tail.offset = batch.id.offset + batch.effect.bytes as u32;
        self.closed_bytes += batch.effect.bytes;
        self.closed.push_back(batch);
    }
}

fn padded(bytes: usize) -> usize {
    (BATCH_HEADER_BYTES + bytes).next_multiple_of(BLOCK_BYTES)
}

/// Each segment begins with all that is kept beside entries and snapshots, so that those before it can be dropped.
fn begin_segment(batch: &mut Batch, kept: &Kept) {
    batch.push(&Record {
        what: What::Checkpoint,
        kind: 0,
        sequence: kept.next,
        payload: &kept.first.to_le_bytes(),
    });
    for (slot, payload) in kept.states() {
        batch.push(&Record {
            what: What::State,
            kind: slot,
            sequence: 0,
            payload,
        });
    }
}
