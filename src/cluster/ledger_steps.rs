//! What has to be written, taken apart into records of the log, which are appended in this order as the log has room:
//! value, hard state, snapshot, truncation, entries, mark.
//!
//! A crash leaves a prefix of the records. One thing must not be cut in two: a snapshot that replaces the log, and the
//! end of what it replaces. So that is said by the snapshot itself, in its first part, and counts when its last record
//! is there. The truncation and the mark that follow only tell the log below; where a crash takes them, the next opening
//! writes them again, before anything else.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ledger::Durable;
use super::ledger_record::{self as record, SnapshotHeader, slot};
use crate::consensus::entry::{EntryBody, HardState, LogEntry, LogWrite, Snapshot, SnapshotWrite};
use crate::log::{Index, Log, Refused};

/// The data of a snapshot is written in pieces of this length, or as long as a record may be.
const PIECE_BYTES: u32 = 256 << 10;
/// What something costs that waits and has no entries.
const STEPS_BYTES: u64 = 512;
/// What consensus counts for an entry besides its command.
const ENTRY_BYTES: u64 = 128;

/// Something that is to be written, as far as it has not been given to the log.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) value: Option<(u8, Vec<u8>)>,
    hard_state: Option<HardState>,
    snapshot: Option<SnapshotSteps>,
    truncate_from: Option<u64>,
    entries: VecDeque<LogEntry>,
    drop_before: Option<u64>,
    /// Who waits for it.
    pub(super) report: Option<Durable>,
    /// What it holds besides its entries, as long as it waits: for a vote, say, of which there may be many, too.
    held: u64,
}

#[derive(Debug)]
struct SnapshotSteps {
    snapshot: Arc<Snapshot>,
    replaces_log: bool,
    next: Part,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Begin,
    Header,
    /// From this byte on.
    Data(usize),
    Cut,
    Mark,
}

/// Where it is appended.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) log: Log,
    piece: usize,
    scratch: Vec<u8>,
}

/// What was not appended, and why.
#[derive(Debug)]
pub(super) struct NotAppended {
    pub(super) what: String,
    /// Of the entry; 0 if it is none.
    pub(super) index: u64,
    pub(super) why: Refused,
}

impl Sink {
    pub(super) fn new(log: Log, max_record_bytes: u32) -> Sink {
        Sink {
            log,
            piece: max_record_bytes.saturating_sub(1).clamp(1, PIECE_BYTES) as usize,
            scratch: Vec::new(),
        }
    }

    fn append_entry(&mut self, entry: &LogEntry) -> Result<(), NotAppended> {
        let index = entry.index;
        let fail = |why| NotAppended {
            what: format!("entry {index}"),
            index,
            why,
        };
        if index != self.log.next().0 {
            return Err(fail(Refused::OutOfRange {
                index: Index(index),
                first: self.log.first(),
                next: self.log.next(),
            }));
        }
        let kind = record::put_entry(&mut self.scratch, entry);
        self.log.append(kind, &self.scratch).map_err(fail)?;
        Ok(())
    }
}

impl Steps {
    pub(super) fn of_value(slot: u8, value: Vec<u8>) -> Steps {
        Steps {
            held: STEPS_BYTES + value.len() as u64,
            value: Some((slot, value)),
            ..Steps::default()
        }
    }

    pub(super) fn of_write(write: LogWrite) -> Steps {
        Steps {
            value: None,
            hard_state: write.hard_state,
            snapshot: write.snapshot.map(SnapshotSteps::new),
            truncate_from: write.truncate_from,
            entries: write.entries.into(),
            drop_before: write.drop_before,
            report: write.ticket.map(Durable::Write),
            held: 0,
        }
        .weighed()
    }

    /// Those with entries are bounded by them, and those that can wait are one.
    fn weighed(mut self) -> Steps {
        if self.entries.is_empty() && !self.can_wait() {
            self.held = STEPS_BYTES;
        }
        self
    }

    /// Cuts the log below after a snapshot that has replaced it.
    pub(super) fn of_cut(snapshot: Arc<Snapshot>) -> Steps {
        Steps {
            snapshot: Some(SnapshotSteps {
                snapshot,
                replaces_log: true,
                next: Part::Cut,
            }),
            ..Steps::default()
        }
    }

    /// How much memory it holds that nobody else does, about.
    pub(super) fn bytes(&self) -> u64 {
        self.held + self.entries.iter().map(cost).sum::<u64>()
    }

    /// Whether it can wait for something else to be written.
    pub(super) fn can_wait(&self) -> bool {
        self.report.is_none()
            && self.value.is_none()
            && self.snapshot.is_none()
            && self.truncate_from.is_none()
            && self.entries.is_empty()
    }

    /// Takes over what comes after it, where neither has been begun and both can wait: only the later hard state counts,
    /// and only the higher mark.
    pub(super) fn absorb(&mut self, later: Steps) {
        self.hard_state = later.hard_state.or(self.hard_state);
        self.drop_before = later.drop_before.max(self.drop_before);
    }

    /// The mark, if one is left.
    pub(super) fn take_mark(&mut self) -> Option<u64> {
        self.drop_before.take()
    }

    /// Appends what is left, until there is nothing or the log refuses; then it may be called again.
    pub(super) fn append(&mut self, sink: &mut Sink) -> Result<(), NotAppended> {
        let fail = |what: &str| {
            let what = what.to_owned();
            move |why| NotAppended {
                what,
                index: 0,
                why,
            }
        };
        let log = &mut sink.log;
        if let Some((slot, value)) = &self.value {
            log.set_state(*slot, value).map_err(fail("a value"))?;
            self.value = None;
        }
        if let Some(state) = &self.hard_state {
            let value = record::hard_state(state);
            log.set_state(slot::HARD_STATE, &value)
                .map_err(fail("a hard state"))?;
            self.hard_state = None;
        }
        if let Some(snapshot) = &mut self.snapshot {
            let what = "a snapshot";
            snapshot.append(sink).map_err(fail(what))?;
            self.snapshot = None;
        }
        let log = &mut sink.log;
        if let Some(from) = self.truncate_from {
            let what = format!("a truncation from entry {from}");
            log.truncate(Index(from)).map_err(fail(&what))?;
            self.truncate_from = None;
        }
        while let Some(entry) = self.entries.front() {
            sink.append_entry(entry)?;
            self.entries.pop_front();
        }
        let log = &mut sink.log;
        if let Some(before) = self.drop_before {
            // What has not come cannot be dropped.
            let before = Index(before).min(log.next());
            log.drop_before(before).map_err(fail("a mark"))?;
            self.drop_before = None;
        }
        Ok(())
    }
}

/// As consensus counts it.
fn cost(entry: &LogEntry) -> u64 {
    let command = match &entry.body {
        EntryBody::Command(_, command) => command.len(),
        _ => 0,
    };
    ENTRY_BYTES + command as u64
}

impl SnapshotSteps {
    fn new(write: SnapshotWrite) -> SnapshotSteps {
        SnapshotSteps {
            snapshot: write.snapshot,
            replaces_log: write.replaces_log,
            next: Part::Begin,
        }
    }

    fn append(&mut self, sink: &mut Sink) -> Result<(), Refused> {
        let (meta, data) = (&self.snapshot.meta, &self.snapshot.data);
        let behind = Index(meta.index.saturating_add(1));
        let log = &mut sink.log;
        loop {
            self.next = match self.next {
                Part::Begin => {
                    log.begin_snapshot(Index(meta.index))?;
                    Part::Header
                }
                Part::Header => {
                    let header = SnapshotHeader {
                        meta: meta.clone(),
                        replaces_log: self.replaces_log,
                        bytes: data.len() as u64,
                    };
                    log.snapshot_part(&record::snapshot_header(&header))?;
                    Part::Data(0)
                }
                Part::Data(at) if at < data.len() => {
                    let end = data.len().min(at + sink.piece);
                    record::put_snapshot_part(&mut sink.scratch, &data[at..end]);
                    log.snapshot_part(&sink.scratch)?;
                    Part::Data(end)
                }
                Part::Data(_) => {
                    log.finish_snapshot()?;
                    Part::Cut
                }
                Part::Cut => {
                    if self.replaces_log && log.next() > behind {
                        log.truncate(behind)?;
                    }
                    Part::Mark
                }
                Part::Mark => {
                    // One that is ahead of the log is a beginning as well.
                    if self.replaces_log || log.next() < behind {
                        log.drop_before(behind)?;
                    }
                    return Ok(());
                }
            };
        }
    }
}
