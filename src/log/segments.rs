//! The files of a log, and what is to be done with them: make the next segment before it is needed, recycle those that
//! are no longer.
//!
//! ```text
//!            create                header, flush            rename, flush directory
//! (nothing) --------> spare file -----------------> headed ------------------------> segment
//!                        ^                                                              |
//!                        +----------- rename, flush directory ------------- not needed -+
//!                                                          (or removed, if there are spares enough)
//! ```
//!
//! A segment has its number in its name and in its header, and the header is durable before the name: a segment whose
//! header cannot be read is damaged, never half made. Segments are given up from the oldest on, so that no truncation is
//! forgotten before what it truncates.

use std::collections::VecDeque;

use rkyv::util::AlignedVec;

use super::format::{BLOCK_BYTES, FORMAT_VERSION, LogId, SegmentHeader};
use super::gather::Effect;
use super::store::{FileName, Operation};

/// A segment that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) bytes: u32,
    /// The highest entry that was ever put into it; 0 if there is none.
    pub(super) last_entry: u64,
}

/// One step with one file. There is never more than one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    Create { spare: u64 },
    WriteHeader { spare: u64, segment: u64 },
    Name { spare: u64, segment: u64 },
    Recycle { segment: u64, spare: u64 },
    GiveUp { segment: u64 },
    Remove { file: FileName },
}

#[derive(Debug)]
pub(super) struct Segments {
    log: LogId,
    segment_bytes: u32,
    max_spares: usize,
    /// From the oldest to the newest that is ready; their numbers are consecutive.
    live: VecDeque<Segment>,
    spares: VecDeque<u64>,
    next_spare: u64,
    /// A spare that has the header of the next segment.
    headed: Option<u64>,
    trash: Vec<FileName>,
    /// Of the newest batch that is durable.
    durable: Option<Effect>,
}

impl Segments {
    /// `spares` are files of the right size, `trash` files that are good for nothing.
    pub(super) fn new(
        log: LogId,
        segment_bytes: u32,
        max_spares: u32,
        live: VecDeque<Segment>,
        spares: VecDeque<u64>,
        trash: Vec<FileName>,
    ) -> Segments {
        let taken = trash.iter().filter_map(|file| match file {
            FileName::Spare(number) => Some(*number),
            FileName::Segment(_) => None,
        });
        let next_spare = spares.iter().copied().chain(taken).max().unwrap_or(0) + 1;
        Segments {
            log,
            segment_bytes,
            max_spares: max_spares as usize,
            live,
            spares,
            next_spare,
            headed: None,
            trash,
            durable: None,
        }
    }

    /// Whether a segment can be written to.
    pub(super) fn is_ready(&self, segment: u64) -> bool {
        self.live
            .back()
            .is_some_and(|newest| segment <= newest.number)
    }

    /// The oldest segment; the first to be made where there is none.
    pub(super) fn oldest(&self) -> u64 {
        self.live.front().map_or(1, |oldest| oldest.number)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.live.len()
    }

    /// A batch has become durable.
    pub(super) fn note(&mut self, effect: Effect) {
        let oldest = self.oldest();
        let slot = effect.segment.checked_sub(oldest);
        if let Some(segment) = slot.and_then(|slot| self.live.get_mut(slot as usize)) {
            segment.last_entry = segment.last_entry.max(effect.last_entry);
        }
        self.durable = Some(effect);
    }

    /// The next thing to do. `newest` is the segment in which records gather, `snapshot` the one where the snapshot begins
    /// that is to be durable next.
    pub(super) fn next(&self, newest: u64, snapshot: Option<u64>) -> Option<Chore> {
        let last = self.live.back().map_or(0, |segment| segment.number);
        // One ahead, so that no write has to wait for its segment.
        if last <= newest {
            let segment = last + 1;
            return Some(match (self.headed, self.spares.front()) {
                (Some(spare), _) => Chore::Name { spare, segment },
                (None, Some(spare)) => Chore::WriteHeader {
                    spare: *spare,
                    segment,
                },
                (None, None) => Chore::Create {
                    spare: self.next_spare,
                },
            });
        }
        if let Some(segment) = self.unneeded(snapshot) {
            return Some(if self.spares.len() < self.max_spares {
                Chore::Recycle {
                    segment,
                    spare: self.next_spare,
                }
            } else {
                Chore::GiveUp { segment }
            });
        }
        let file = self.trash.last()?;
        Some(Chore::Remove { file: *file })
    }

    /// The oldest segment, if nothing in it is needed: by what is *durable*, since what is not may never have been.
    fn unneeded(&self, snapshot: Option<u64>) -> Option<u64> {
        let oldest = self.live.front()?;
        let durable = self.durable?;
        let snapshot = durable.finished_snapshot.or(snapshot);
        let needed = oldest.number >= durable.segment
            || oldest.last_entry >= durable.first
            || snapshot.is_some_and(|begun| oldest.number >= begun);
        (!needed).then_some(oldest.number)
    }

    /// What has to be asked of the driver for it.
    pub(super) fn operation(&self, chore: Chore) -> Operation {
        match chore {
            Chore::Create { spare } => Operation::Create {
                file: FileName::Spare(spare),
                bytes: u64::from(self.segment_bytes),
            },
            Chore::WriteHeader { spare, segment } => {
                let header = SegmentHeader {
                    version: FORMAT_VERSION,
                    log: self.log,
                    number: segment,
                    bytes: u64::from(self.segment_bytes),
                };
                let mut bytes = AlignedVec::with_capacity(BLOCK_BYTES);
                bytes.extend_from_slice(&header.encode());
                bytes.resize(BLOCK_BYTES, 0);
                Operation::Write {
                    file: FileName::Spare(spare),
                    offset: 0,
                    bytes,
                }
            }
            Chore::Name { spare, segment } => Operation::Rename {
                from: FileName::Spare(spare),
                to: FileName::Segment(segment),
            },
            Chore::Recycle { segment, spare } => Operation::Rename {
                from: FileName::Segment(segment),
                to: FileName::Spare(spare),
            },
            Chore::GiveUp { segment } => Operation::Remove {
                file: FileName::Segment(segment),
            },
            Chore::Remove { file } => Operation::Remove { file },
        }
    }

    /// A chore is done.
    pub(super) fn done(&mut self, chore: Chore) {
        match chore {
            Chore::Create { spare } => {
                self.spares.push_back(spare);
                self.next_spare = self.next_spare.max(spare + 1);
            }
            Chore::WriteHeader { spare, .. } => {
                self.spares.pop_front();
                self.headed = Some(spare);
            }
            Chore::Name { segment, .. } => {
                self.headed = None;
                self.live.push_back(Segment {
                    number: segment,
                    bytes: self.segment_bytes,
                    last_entry: 0,
                });
            }
            Chore::Recycle { spare, .. } => {
                // A file of other settings cannot become one of these.
                let right_size = self
                    .live
                    .pop_front()
                    .is_some_and(|gone| gone.bytes == self.segment_bytes);
                self.next_spare = self.next_spare.max(spare + 1);
                if right_size {
                    self.spares.push_back(spare);
                } else {
                    self.trash.push(FileName::Spare(spare));
                }
            }
            Chore::GiveUp { .. } => {
                self.live.pop_front();
            }
            Chore::Remove { .. } => {
                self.trash.pop();
            }
        }
    }
}
