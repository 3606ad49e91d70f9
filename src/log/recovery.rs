//! Opening a log: what is on the disk is read in order, its end is found, and damage is told from a torn end.
//!
//! ```text
//! List -> Headers -> Batches <-> Emitting          one batch at a time goes to the user
//!                      | no whole batch here
//!                      v
//!                  Following -> Batches            the next segment goes on
//!                      | it doesn't
//!                      v
//!                   Scanning -> error              something valid comes later: damage
//!                      | nothing valid comes later: this is the end
//!                      v
//!                   Trimming -> Opening -> Opened
//! ```
//!
//! **The end.** One batch is written at a time, and the next only when it is durable. So if batch *n* is not whole and
//! any valid header of a later batch is found, anywhere behind it, then *n* had been durable, and the disk has lost it: an
//! error, with its place. If none is found then *n* was never confirmed, however its sectors were torn, and the log ends
//! before it. A batch counts as a whole. What cannot be told from a torn batch is damage to the very last durable one: the
//! disk holds nothing that would know of it. (Alagappan et al., *Protocol-aware recovery for consensus-based storage*,
//! FAST 2018, show that this holds for every log of this kind.)
//!
//! **The next life.** What was read may be on the disk, or in the cache of a disk only: the process before may have been
//! killed between its write and its flush. And the sectors of a torn batch are still there. So before anything that was
//! read counts, a batch that begins a new *life* is written where the torn one was, or would have been, and flushed. It
//! takes that one's number, so the number is never used for records again; these carry number and life in their
//! checksums, and the remains of a torn batch cannot become part of a later one. If a crash interrupts this, the next
//! recovery reads the same and writes the same bytes to the same place.

use std::collections::VecDeque;

use super::error::{LogError, OpenError, Place};
use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, LogId, Record, What};
use super::found::Found;
use super::gather::Tail;
use super::log::Log;
use super::reader::{Reader, Source};
use super::recovered::{Identity, Opened, Recovered};
use super::replay::{Replay, first_broken, meaning};
use super::segments::{Segment, Segments};
use super::settings::LogSettings;
use super::store::{FileName, Operation, Outcome, StoreError, Ticket};

#[derive(Debug)]
enum Phase {
    List,
    Headers {
        next: usize,
    },
    Batches,
    /// Records of a whole batch are handed out.
    Emitting {
        batch: BatchHeader,
        at: u64,
        left: u32,
    },
    Following,
    /// From this block on.
    Scanning {
        segment: usize,
        offset: u64,
    },
    /// Newer segments, never used, are of the wrong size. From the newest on.
    Trimming,
    Opening(Box<Log>),
    Opened,
}

/// Where the next batch is looked for.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    segment: usize,
    offset: u64,
    /// Its number and the life before it; unknown in the oldest segment.
    expected: Option<(u64, u64)>,
}

/// Opens a log. Driven like a [`Log`]: operations out, answers in; between them what is recovered is taken out with
/// [`next_recovered`](Recovery::next_recovered), and it goes on only when that has been done. At its end it becomes the
/// log.
///
/// Memory: one piece of [`LogSettings::read_bytes`] or one batch, whichever is larger, and a few words for each file.
#[derive(Debug)]
pub struct Recovery {
    settings: LogSettings,
    identity: Identity,
    log: Option<LogId>,
    found: Found,
    reader: Reader,
    phase: Phase,
    asked: Option<Ticket>,
    last_ticket: u64,
    cursor: Cursor,
    /// Where the batch at the cursor is broken; `None` if there is not even a header.
    broken: Option<Place>,
    replay: Replay,
    /// Where what was last taken out stands.
    taken: Option<Place>,
    /// The highest entry in each segment.
    last_entries: Vec<u64>,
    failed: Option<OpenError>,
}

impl Recovery {
    /// Opens the log that is there, or makes it.
    ///
    /// # Errors
    /// [`OpenError::Settings`].
    pub fn new(settings: LogSettings, identity: Identity) -> Result<Recovery, OpenError> {
        settings.check()?;
        Ok(Recovery {
            reader: Reader::new(settings.read_bytes),
            settings,
            identity,
            log: match identity {
                Identity::Exactly(log) => Some(log),
                Identity::OrNew(_) => None,
            },
            found: Found::default(),
            phase: Phase::List,
            asked: None,
            last_ticket: 0,
            cursor: Cursor {
                segment: 0,
                offset: BLOCK_BYTES as u64,
                expected: None,
            },
            broken: None,
            replay: Replay::default(),
            taken: None,
            last_entries: Vec::new(),
            failed: None,
        })
    }

    /// What the driver is to do next; `None` while one is under way, and while there is something to be taken out with
    /// [`next_recovered`](Recovery::next_recovered).
    pub fn next_operation(&mut self) -> Option<(Ticket, Operation)> {
        if self.failed.is_some() {
            return None;
        }
        if let Phase::Opening(log) = &mut self.phase {
            return log.next_operation();
        }
        if self.asked.is_some() {
            return None;
        }
        let operation = match &self.phase {
            Phase::List => Operation::List,
            Phase::Trimming => Operation::Remove {
                file: FileName::Segment(self.found.segments.last()?.segment),
            },
            _ => self.reader.wanted()?.operation(),
        };
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.asked = Some(ticket);
        Some((ticket, operation))
    }

    /// An operation has ended.
    ///
    /// # Errors
    /// Why the log does not open; every further call has the same answer.
    pub fn completed(
        &mut self,
        ticket: Ticket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), OpenError> {
        let outcome = self
            .check_failed()
            .and_then(|()| self.take_answer(ticket, result));
        self.remember(outcome)
    }

    /// Takes the next thing that was recovered, in the order in which it was appended; `None` if something has to be read
    /// first.
    ///
    /// # Errors
    /// As [`completed`](Recovery::completed). What was taken before then is true as far as it goes, but not the whole.
    pub fn next_recovered(&mut self) -> Result<Option<Recovered<'_>>, OpenError> {
        self.check_failed()?;
        let outcome = self.next_meaningful();
        let at = match outcome {
            Ok(at) => at,
            Err(error) => {
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        let record =
            at.and_then(|(offset, bytes)| Record::decode_checked(self.reader.seen(offset, bytes)));
        if let (Some((offset, _)), Some((record, _))) = (at, &record) {
            let segment = self.found.segments[self.cursor.segment].segment;
            let mut place = self.replay.place(segment, offset);
            if record.what == What::Entry {
                place.index.0 = record.sequence;
            }
            self.taken = Some(place);
        }
        Ok(record.map(|(record, _)| meaning(record)))
    }

    /// Where what [`next_recovered`](Recovery::next_recovered) gave last stands, for who finds that it makes no sense.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.taken
    }

    /// Takes records in until one means something to the user; where it stands.
    fn next_meaningful(&mut self) -> Result<Option<(u64, usize)>, OpenError> {
        loop {
            let Phase::Emitting { batch, at, left } = &mut self.phase else {
                return Ok(None);
            };
            if *left == 0 {
                let batch = *batch;
                self.pass(&batch);
                self.advance()?;
                continue;
            }
            let offset = *at;
            let end = u64::from(batch.id.offset) + batch.padded_bytes() as u64;
            let bytes = self.reader.seen(offset, (end - offset) as usize);
            let means = match Record::decode_checked(bytes) {
                Some((record, taken)) => {
                    *at += taken as u64;
                    *left -= 1;
                    if record.what == What::Entry {
                        let last = &mut self.last_entries[self.cursor.segment];
                        *last = record.sequence.max(*last);
                    }
                    self.replay.take(&record, batch.id.segment)
                }
                None => Err("a record of a whole batch cannot be read"),
            };
            match means {
                Ok(true) => return Ok(Some((offset, (end - offset) as usize))),
                Ok(false) => {}
                Err(what) => {
                    let place = self.replay.place(batch.id.segment, offset);
                    return Err(OpenError::Inconsistent { place, what });
                }
            }
        }
    }

    /// Takes the log, once it is open; `None` before, and ever after.
    pub fn take_opened(&mut self) -> Option<Opened> {
        let Phase::Opening(log) = &self.phase else {
            return None;
        };
        if !log.is_opened() {
            return None;
        }
        let Phase::Opening(log) = std::mem::replace(&mut self.phase, Phase::Opened) else {
            return None;
        };
        Some(Opened {
            log: *log,
            created: self.cursor.expected.is_none_or(|(number, _)| number == 1),
            entries: self.replay.entries,
            torn: self.broken,
        })
    }

    fn check_failed(&self) -> Result<(), OpenError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn remember(&mut self, outcome: Result<(), OpenError>) -> Result<(), OpenError> {
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    fn take_answer(
        &mut self,
        ticket: Ticket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), OpenError> {
        if let Phase::Opening(log) = &mut self.phase {
            return log.completed(ticket, result).map_err(|error| match error {
                LogError::Store(error) => OpenError::Store(error),
                LogError::WrongAnswer(ticket) => OpenError::WrongAnswer(ticket),
            });
        }
        if self.asked.take_if(|asked| *asked == ticket).is_none() {
            return Err(OpenError::WrongAnswer(ticket));
        }
        let fits = match (&self.phase, result?) {
            (Phase::List, Outcome::Files(files)) => {
                self.found = Found::new(files);
                self.phase = Phase::Headers { next: 0 };
                true
            }
            (Phase::Trimming, Outcome::Done) => {
                self.found.segments.pop();
                self.last_entries.pop();
                true
            }
            (Phase::List | Phase::Trimming, _) => false,
            (_, Outcome::Bytes(bytes)) => self.reader.read(bytes),
            _ => false,
        };
        if !fits {
            return Err(OpenError::WrongAnswer(ticket));
        }
        self.advance()
    }

    /// Goes on until something has to be read, or taken out.
    fn advance(&mut self) -> Result<(), OpenError> {
        loop {
            let moved = match self.phase {
                Phase::Headers { next } => self.check_header(next)?,
                Phase::Batches => self.look_for_batch(),
                Phase::Following => self.follow()?,
                Phase::Scanning { segment, offset } => self.scan(segment, offset)?,
                Phase::Trimming => self.trim(),
                Phase::List | Phase::Emitting { .. } | Phase::Opening(_) | Phase::Opened => false,
            };
            if !moved {
                return Ok(());
            }
        }
    }

    fn check_header(&mut self, next: usize) -> Result<bool, OpenError> {
        let Some(source) = self.found.segments.get(next).copied() else {
            self.found.check_numbers()?;
            self.last_entries = vec![0; self.found.segments.len()];
            self.phase = match self.found.segments.first() {
                None => Phase::Trimming,
                Some(oldest) => {
                    // The first one of all may have been made and not be used yet.
                    self.cursor.expected = (oldest.segment == 1).then_some((1, 0));
                    Phase::Batches
                }
            };
            return Ok(true);
        };
        if source.bytes < BLOCK_BYTES as u64 {
            return Err(OpenError::DamagedHeader {
                file: FileName::Segment(source.segment),
            });
        }
        let Some(block) = self.reader.get(source, 0, BLOCK_BYTES) else {
            return Ok(false);
        };
        let log = self.found.check_header(source, block, self.log)?;
        self.log = Some(log);
        self.phase = Phase::Headers { next: next + 1 };
        Ok(true)
    }

    fn source(&self, segment: usize) -> Source {
        self.found.segments[segment]
    }

    /// Looks for the next batch at the cursor.
    fn look_for_batch(&mut self) -> bool {
        let source = self.source(self.cursor.segment);
        let offset = self.cursor.offset;
        self.broken = None;
        self.phase = Phase::Following;
        if offset + BLOCK_BYTES as u64 > source.bytes {
            return true;
        }
        let log = self.log.unwrap_or_default();
        let Some(block) = self.reader.get(source, offset, BLOCK_BYTES) else {
            self.phase = Phase::Batches;
            return false;
        };
        let header = BatchHeader::decode(log, source.segment, offset as u32, block);
        let Some(batch) = header.filter(|batch| self.continues(batch)) else {
            return true;
        };
        if batch.padded_bytes() as u64 > source.bytes - offset {
            self.broken = Some(self.replay.place(source.segment, offset));
            return true;
        }
        let Some(bytes) = self.reader.get(source, offset, batch.padded_bytes()) else {
            self.phase = Phase::Batches;
            return false;
        };
        if let Some((at, entries)) = first_broken(log, &batch, bytes) {
            let mut place = self.replay.place(source.segment, offset + at);
            place.index.0 += entries;
            self.broken = Some(place);
            return true;
        }
        if batch.records == 0 {
            self.pass(&batch);
            return true;
        }
        self.phase = Phase::Emitting {
            batch,
            at: offset + BATCH_HEADER_BYTES as u64,
            left: batch.records,
        };
        false
    }

    /// Whether a batch comes right after those that were read.
    fn continues(&self, batch: &BatchHeader) -> bool {
        self.cursor.expected.is_none_or(|(number, life)| {
            batch.id.number == number && batch.id.life == life + u64::from(batch.id.opens)
        })
    }

    /// The batch at the cursor has been taken out: on to the next.
    fn pass(&mut self, batch: &BatchHeader) {
        self.cursor.offset += batch.padded_bytes() as u64;
        self.cursor.expected = Some((batch.id.number + 1, batch.id.life));
        self.phase = Phase::Batches;
    }

    /// Looks whether the next segment begins with the batch that is not here.
    fn follow(&mut self) -> Result<bool, OpenError> {
        let Cursor {
            segment,
            offset,
            expected,
        } = self.cursor;
        if expected.is_none() {
            // Each segment but the very first is in use before one is given up.
            let place = self.end();
            return Err(OpenError::Damaged {
                place,
                later: place,
            });
        }
        if segment + 1 < self.found.segments.len() {
            let next = self.source(segment + 1);
            let first = BLOCK_BYTES as u64;
            let log = self.log.unwrap_or_default();
            let Some(block) = self.reader.get(next, first, BLOCK_BYTES) else {
                return Ok(false);
            };
            let header = BatchHeader::decode(log, next.segment, first as u32, block);
            if header.is_some_and(|batch| self.continues(&batch)) {
                self.cursor.segment += 1;
                self.cursor.offset = first;
                self.phase = Phase::Batches;
                return Ok(true);
            }
        }
        self.phase = Phase::Scanning {
            segment,
            offset: offset + BLOCK_BYTES as u64,
        };
        Ok(true)
    }

    /// Looks for anything valid behind the end.
    fn scan(&mut self, segment: usize, offset: u64) -> Result<bool, OpenError> {
        let Some(source) = self.found.segments.get(segment).copied() else {
            self.check_entries()?;
            self.phase = Phase::Trimming;
            return Ok(true);
        };
        if offset + BLOCK_BYTES as u64 > source.bytes {
            self.phase = Phase::Scanning {
                segment: segment + 1,
                offset: BLOCK_BYTES as u64,
            };
            return Ok(true);
        }
        let log = self.log.unwrap_or_default();
        let Some(block) = self.reader.get(source, offset, BLOCK_BYTES) else {
            return Ok(false);
        };
        let missing = self.cursor.expected.map_or(0, |(number, _)| number);
        let behind = BatchHeader::decode(log, source.segment, offset as u32, block)
            .is_some_and(|batch| batch.id.number > missing);
        if behind {
            return Err(OpenError::Damaged {
                place: self.end(),
                later: self.replay.place(source.segment, offset),
            });
        }
        self.phase = Phase::Scanning {
            segment,
            offset: offset + BLOCK_BYTES as u64,
        };
        Ok(true)
    }

    /// Where what can be read ends.
    fn end(&self) -> Place {
        let segment = self.source(self.cursor.segment).segment;
        let nothing = || self.replay.place(segment, self.cursor.offset);
        self.broken.unwrap_or_else(nothing)
    }

    fn check_entries(&self) -> Result<(), OpenError> {
        match self.replay.missing() {
            None => Ok(()),
            Some((from, to)) => Err(OpenError::MissingEntries {
                from,
                to,
                oldest: FileName::Segment(self.source(0).segment),
            }),
        }
    }

    /// Segments that were made ahead and never used are of no use if they have another size than is wanted now.
    fn trim(&mut self) -> bool {
        let used = match self.cursor.expected {
            // Not even a first batch.
            None | Some((1, _)) => 0,
            Some(_) => self.cursor.segment + 1,
        };
        let wrong = |source: &Source| source.bytes != u64::from(self.settings.segment_bytes);
        let unused = &self.found.segments[used.min(self.found.segments.len())..];
        if unused.iter().any(wrong) {
            return false;
        }
        self.begin_life();
        true
    }

    /// Everything has been read; the first batch of the next life is written.
    fn begin_life(&mut self) {
        self.reader.close();
        let log = match self.identity {
            Identity::Exactly(log) | Identity::OrNew(log) => self.log.unwrap_or(log),
        };
        let (number, life) = self.cursor.expected.unwrap_or((1, 0));
        let last = self.found.segments.get(self.cursor.segment);
        let tail = Tail {
            segment: last.map_or(1, |source| source.segment),
            segment_bytes: last.map_or(self.settings.segment_bytes, |source| source.bytes as u32),
            offset: self.cursor.offset as u32,
            number,
            life: life + 1,
        };
        let live: VecDeque<Segment> = self
            .found
            .segments
            .iter()
            .zip(&self.last_entries)
            .map(|(source, last_entry)| Segment {
                number: source.segment,
                bytes: source.bytes as u32,
                last_entry: *last_entry,
            })
            .collect();
        let (mut spares, mut trash) = (VecDeque::new(), Vec::new());
        for (number, bytes) in &self.found.spares {
            let fits = *bytes == u64::from(self.settings.segment_bytes);
            if fits && spares.len() < self.settings.spares as usize {
                spares.push_back(*number);
            } else {
                trash.push(FileName::Spare(*number));
            }
        }
        let settings = self.settings.clone();
        let segments = Segments::new(
            log,
            settings.segment_bytes,
            settings.spares,
            live,
            spares,
            trash,
        );
        let mut kept = self.replay.kept.clone();
        kept.unfinished = None;
        let log = Log::open(settings, log, kept, segments, tail, self.last_ticket);
        self.phase = Phase::Opening(Box::new(log));
    }
}
