//! For the tests of logs on the simulated disk: a driver, and a model that says what a log must hold.

use super::disk::{MountedDisk, SimDisk};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::log::{
    FileName, Identity, Index, Log, LogError, LogId, LogSettings, LogStore, OpenError, Opened,
    Operation, Position, Recovered, Recovery, Refused, Ticket,
};
use rand::RngExt;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

pub(super) const LOG: LogId = LogId(0xfeed_0001);

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) entries: BTreeMap<u64, (u8, Rc<[u8]>)>,
    pub(super) values: BTreeMap<u8, Rc<[u8]>>,
    pub(super) snapshot: Option<(u64, Rc<[u8]>)>,
}

/// A state, and the snapshot that is being written.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) state: State,
    pub(super) unfinished: Option<(u64, Vec<u8>)>,
}

impl Default for Fold {
    fn default() -> Fold {
        let state = State {
            first: 1,
            next: 1,
            ..State::default()
        };
        Fold {
            state,
            unfinished: None,
        }
    }
}

impl Fold {
    pub(super) fn take(&mut self, recovered: Recovered<'_>) {
        let state = &mut self.state;
        match recovered {
            Recovered::Entry {
                index,
                kind,
                payload,
            } => {
                assert_eq!(index.0, state.next, "entries are in order");
                state.entries.insert(index.0, (kind, payload.into()));
                state.next += 1;
            }
            Recovered::Truncated { from } => {
                state.entries.split_off(&from.0);
                state.next = from.0;
                state.first = state.first.min(from.0);
            }
            Recovered::Dropped { first } => {
                assert!(first.0 > state.first, "what is dropped stays dropped");
                state.entries = state.entries.split_off(&first.0);
                state.first = first.0;
                state.next = state.next.max(first.0);
            }
            Recovered::State { slot, value } => {
                state.values.insert(slot, value.into());
            }
            Recovered::SnapshotBegan { through } => self.unfinished = Some((through.0, Vec::new())),
            Recovered::SnapshotPart { part } => {
                let (_, bytes) = self.unfinished.as_mut().expect("parts follow a beginning");
                bytes.extend_from_slice(part);
            }
            Recovered::SnapshotFinished => {
                let (through, bytes) = self.unfinished.take().expect("an end follows a beginning");
                state.snapshot = Some((through, bytes.into()));
            }
        }
    }
}

/// A node with one log, and the time that it has.
pub(super) struct Node {
    pub(super) disk: SimDisk,
    pub(super) store: MountedDisk,
    pub(super) settings: LogSettings,
    pub(super) now: Time,
    /// A segment that is being given up: what is needed of it no more has to be durable elsewhere by now.
    pub(super) giving_up: Option<Ticket>,
}

/// Whether a segment's name goes.
pub(super) fn gives_up(operation: &Operation) -> bool {
    let file = match operation {
        Operation::Rename { from, .. } => from,
        Operation::Remove { file } => file,
        _ => return false,
    };
    matches!(file, FileName::Segment(_))
}

/// A recovery that the power cut off.
#[derive(Debug)]
pub(super) enum Opening {
    Done(Box<Opened>, State),
    /// What had been read until then, if all was.
    CutOff(Option<State>),
}

impl Node {
    pub(super) fn new(seed: u64, settings: LogSettings) -> Node {
        let disk = SimDisk::new(seed);
        Node {
            store: disk.mount(),
            disk,
            settings,
            now: Time::ZERO,
            giving_up: None,
        }
    }

    pub(super) fn crash(&mut self) {
        self.giving_up = None;
        self.disk.crash();
        self.store = self.disk.mount();
    }

    pub(super) fn open(&mut self) -> Result<(Log, State), OpenError> {
        match self.open_for(u64::MAX)? {
            Opening::Done(opened, state) => Ok((opened.log, state)),
            Opening::CutOff(_) => unreachable!("it had all the time"),
        }
    }

    /// Opens the log; after so many operations the power goes.
    pub(super) fn open_for(&mut self, operations: u64) -> Result<Opening, OpenError> {
        let mut recovery = Recovery::new(self.settings.clone(), Identity::Exactly(LOG))?;
        let mut fold = Fold::default();
        let mut left = operations;
        let mut all_read = false;
        loop {
            while let Some(recovered) = recovery.next_recovered()? {
                fold.take(recovered);
            }
            if let Some(opened) = recovery.take_opened() {
                return Ok(Opening::Done(Box::new(opened), fold.state));
            }
            while let Some((ticket, operation)) = recovery.next_operation() {
                let reads = matches!(operation, Operation::List | Operation::Read { .. });
                all_read |= !reads;
                self.store.submit(self.now, ticket, operation);
                if left == 0 {
                    self.crash();
                    return Ok(Opening::CutOff(all_read.then_some(fold.state)));
                }
                left -= 1;
            }
            self.now = self
                .disk
                .next_due()
                .expect("a recovery never waits for nothing");
            while let Some((ticket, result)) = self.store.poll(self.now) {
                recovery.completed(ticket, result)?;
            }
        }
    }

    /// Begins all that the log asks for now.
    pub(super) fn submit(&mut self, log: &mut Log) {
        while let Some((ticket, operation)) = log.next_operation() {
            if gives_up(&operation) {
                self.giving_up = Some(ticket);
            }
            self.store.submit(self.now, ticket, operation);
        }
    }

    /// Lets one operation end, if one is under way. Says whether one was.
    pub(super) fn step(&mut self, log: &mut Log) -> Result<bool, LogError> {
        self.submit(log);
        let Some(due) = self.disk.next_due() else {
            return Ok(false);
        };
        self.now = due;
        if let Some((ticket, result)) = self.store.poll(due) {
            self.giving_up.take_if(|given_up| *given_up == ticket);
            log.completed(ticket, result)?;
        }
        Ok(true)
    }

    /// Until all that was appended is durable, and everything else is done.
    pub(super) fn settle(&mut self, log: &mut Log) -> Result<(), LogError> {
        while self.step(log)? {}
        assert!(log.is_idle());
        assert_eq!(log.durable(), log.appended());
        Ok(())
    }
}

/// Does what a user does, at random, and knows what the log holds after each record that is not durable yet.
pub(super) struct User {
    pub(super) rng: Rng,
    pub(super) fold: Fold,
    /// The state behind each position from the last durable one on.
    pub(super) history: Vec<(Position, State)>,
    /// Of the times that a prefix might be dropped, one in so many it is. If it is a rare thing the log gets full, and one
    /// mark sets several segments free.
    pub(super) one_drop_in: u32,
    unique: u64,
}

impl User {
    pub(super) fn new(rng: Rng) -> User {
        User {
            rng,
            fold: Fold::default(),
            history: vec![(Position(0), Fold::default().state)],
            one_drop_in: 1,
            unique: 0,
        }
    }

    /// Goes on with what was recovered, which has to be what was held at some time since the last confirmation.
    pub(super) fn resume(&mut self, recovered: State, durable: Position, context: &str) {
        let held = self
            .history
            .iter()
            .filter(|(position, _)| *position >= durable);
        let mut last = None;
        for (_, state) in held {
            if *state == recovered {
                self.fold = Fold {
                    state: recovered.clone(),
                    unfinished: None,
                };
                self.history = vec![(Position(0), recovered)];
                return;
            }
            last = Some(state);
        }
        panic!(
            "{context}: recovered {recovered:#?}, which was never held since {durable:?}; the last was {last:#?}"
        );
    }

    pub(super) fn forget_durable(&mut self, durable: Position) {
        let known = self
            .history
            .iter()
            .rposition(|(position, _)| *position <= durable);
        self.history.drain(..known.unwrap_or(0));
    }

    /// Bytes that nothing else has.
    fn payload(&mut self) -> Vec<u8> {
        self.unique += 1;
        let bytes = match self.rng.random_range(0..40) {
            0 => self.rng.random_range(0..16_000),
            1..8 => self.rng.random_range(0..3_000),
            _ => self.rng.random_range(0..200),
        };
        let mut payload = format!("{}-", self.unique).into_bytes();
        let filler = self.rng.random_range(0..=255);
        payload.resize(payload.len() + bytes, filler);
        payload
    }

    /// Appends something; what is refused for want of room is dropped room for.
    pub(super) fn act(&mut self, log: &mut Log) {
        let (first, next) = (log.first().0, log.next().0);
        let outcome = match self.rng.random_range(0..100) {
            0..6 => {
                let from = Index(self.rng.random_range(first..=next));
                let outcome = log.truncate(from);
                self.note(&outcome, Recovered::Truncated { from }, from.0 < next);
                outcome
            }
            6..14 if self.rng.random_ratio(1, self.one_drop_in) => {
                let beyond = if self.rng.random_ratio(1, 20) { 7 } else { 0 };
                self.drop_before(log, self.rng.clone().random_range(first..=next + beyond))
            }
            14..22 => {
                let slot = self.rng.random_range(0..3);
                let mut value = self.payload();
                value.truncate(4_096);
                let outcome = log.set_state(slot, &value);
                self.note(
                    &outcome,
                    Recovered::State {
                        slot,
                        value: &value,
                    },
                    true,
                );
                outcome
            }
            22..25 => {
                let through = Index(next);
                let outcome = log.begin_snapshot(through);
                self.note(&outcome, Recovered::SnapshotBegan { through }, true);
                outcome
            }
            25..32 if self.fold.unfinished.is_some() => {
                let part = self.payload();
                let outcome = log.snapshot_part(&part);
                self.note(&outcome, Recovered::SnapshotPart { part: &part }, true);
                outcome
            }
            32..35 if self.fold.unfinished.is_some() => {
                let outcome = log.finish_snapshot();
                self.note(&outcome, Recovered::SnapshotFinished, true);
                outcome
            }
            _ => {
                let payload = self.payload();
                let kind = self.rng.random_range(0..=255);
                let outcome = log.append(kind, &payload);
                if let Ok(appended) = outcome {
                    assert_eq!(appended.index, Index(next));
                }
                let outcome = outcome.map(|appended| appended.position);
                let entry = Recovered::Entry {
                    index: Index(next),
                    kind,
                    payload: &payload,
                };
                self.note(&outcome, entry, true);
                outcome
            }
        };
        match outcome {
            Ok(_) | Err(Refused::Full { .. }) => {}
            Err(Refused::TooManySegments { .. }) => {
                let _ = self.drop_before(log, log.next().0);
                // Snapshots hold segments too: a new one lets the old ones go.
                let through = log.next();
                let begun = log.begin_snapshot(through);
                self.note(&begun, Recovered::SnapshotBegan { through }, true);
                if begun.is_ok() {
                    let finished = log.finish_snapshot();
                    self.note(&finished, Recovered::SnapshotFinished, true);
                }
            }
            Err(refused) => panic!("{refused}"),
        }
        assert_eq!(
            (log.first().0, log.next().0),
            (self.fold.state.first, self.fold.state.next)
        );
    }

    fn drop_before(&mut self, log: &mut Log, first: u64) -> Result<Position, Refused> {
        let changes = first > log.first().0;
        let first = Index(first);
        let outcome = log.drop_before(first);
        self.note(&outcome, Recovered::Dropped { first }, changes);
        outcome
    }

    fn note(&mut self, outcome: &Result<Position, Refused>, what: Recovered<'_>, changes: bool) {
        if let Ok(position) = outcome
            && changes
        {
            self.fold.take(what);
            self.history.push((*position, self.fold.state.clone()));
        }
    }
}

/// Small enough that segments come and go all the time.
pub(super) fn small() -> LogSettings {
    LogSettings {
        segment_bytes: 128 << 10,
        max_batch_bytes: 16 << 10,
        max_record_bytes: 16 << 10,
        max_unsynced_bytes: 96 << 10,
        max_segments: 4,
        spares: 1,
        read_bytes: 8 << 10,
    }
}

/// Time enough for anything to end.
pub(super) fn later(now: Time) -> Time {
    now + Duration::from_secs(1)
}
