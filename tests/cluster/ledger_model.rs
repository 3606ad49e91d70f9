//! What a ledger must hold, by what was written into it; and writes at random, as a consensus would give them.
//!
//! It knows what a [`LogWrite`] means, and nothing of how it is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use corecast::base::ids::Incarnation;
use corecast::base::rng::Rng;
use corecast::cluster::ledger::{Durable, Fact, Ledger, NodeFacts};
use corecast::cluster::ledger_error::LedgerError;
use corecast::consensus::configuration::{ConfigurationChange, ConfigurationRecord, PeerChange};
use corecast::consensus::entry::{
    EntryBody, HardState, LogEntry, LogWrite, ProposalRecord, Recovered, Snapshot, SnapshotMeta,
    SnapshotWrite, Ticket,
};
use corecast::consensus::founding::{Ballot, Founding, Promise};
use corecast::consensus::peer::ClusterId;
use rand::RngExt;

/// Everything that a ledger holds, without the entries that its snapshot contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) entries: BTreeMap<u64, LogEntry>,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) promise: Promise,
    pub(crate) incarnation: Incarnation,
}

impl Held {
    pub(crate) fn of(facts: &NodeFacts, recovered: &Recovered) -> Held {
        let entries = recovered.entries.iter().cloned();
        let mut held = Held {
            hard_state: recovered.hard_state,
            snapshot: recovered.snapshot.clone(),
            entries: entries.map(|entry| (entry.index, entry)).collect(),
            cluster: facts.cluster,
            promise: facts.promise.clone(),
            incarnation: facts.incarnation,
        };
        assert_eq!(held.entries.len(), recovered.entries.len());
        held.forget_contained();
        held
    }

    fn base(&self) -> u64 {
        let index = |snapshot: &Arc<Snapshot>| snapshot.meta.index;
        self.snapshot.as_ref().map_or(0, index)
    }

    fn forget_contained(&mut self) {
        self.entries = self.entries.split_off(&(self.base() + 1));
    }

    /// The entry that comes next.
    fn next(&self) -> u64 {
        self.entries
            .keys()
            .last()
            .map_or(self.base() + 1, |last| last + 1)
    }
}

/// What was held, from what is durable on, after each part of what was written; and the writes that are to be reported.
pub(crate) struct Model {
    pub(crate) rng: Rng,
    history: VecDeque<Held>,
    /// How many of the history there are before the end of what waits for its report.
    waits: VecDeque<(Durable, u64)>,
    forgotten: u64,
    next_ticket: u64,
    /// Entries up to here are committed; of what is durable, up to there.
    committed: u64,
    durable_entries: u64,
    unique: u64,
    /// The index of an own snapshot that is being written.
    taking: Option<(Ticket, u64)>,
    pub(crate) counts: Counts,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) replaced: u64,
    pub(crate) truncated: u64,
    pub(crate) taken: u64,
    pub(crate) lost: u64,
    pub(crate) kept_unconfirmed: u64,
}

impl Model {
    pub(crate) fn new(rng: Rng) -> Model {
        Model {
            rng,
            history: VecDeque::from([Held::default()]),
            waits: VecDeque::new(),
            forgotten: 0,
            next_ticket: 1,
            committed: 0,
            durable_entries: 0,
            unique: 0,
            taking: None,
            counts: Counts::default(),
        }
    }

    fn newest(&self) -> &Held {
        self.history.back().expect("there is always one")
    }

    fn note(&mut self, held: Held) {
        self.history.push_back(held);
    }

    fn waits_for(&mut self, durable: Durable) {
        let end = self.forgotten + self.history.len() as u64 - 1;
        self.waits.push_back((durable, end));
    }

    /// Takes what the ledger reports, which has to be what comes next.
    pub(crate) fn take_reports(&mut self, ledger: &mut Ledger) {
        while let Some(durable) = ledger.poll_durable() {
            let (expected, end) = self.waits.pop_front().expect("something waits");
            assert_eq!(durable, expected, "reports come in the order of the writes");
            while self.forgotten < end {
                self.history.pop_front();
                self.forgotten += 1;
            }
            let held = self.history.front().expect("the end is kept");
            self.durable_entries = held.next() - 1;
            if let Some((ticket, index)) = self.taking
                && durable == Durable::Write(ticket)
            {
                self.taking = None;
                let keep = self.rng.random_range(0..6);
                let before = (index + 1).saturating_sub(keep);
                let drop = LogWrite {
                    drop_before: Some(before),
                    ..nothing()
                };
                let written = self.write(ledger, drop);
                assert_eq!(written.err().as_ref(), ledger.failed());
            }
        }
    }

    /// Whether everything that waits was reported.
    pub(crate) fn has_all_reports(&self) -> bool {
        self.waits.is_empty()
    }

    /// After a crash: this has to be what was held at some time since the last report. Goes on from there.
    #[track_caller]
    pub(crate) fn recovered(&mut self, opened: Held, context: &str) {
        let known = self.history.iter().rposition(|held| *held == opened);
        let Some(known) = known else {
            panic!(
                "{context}: recovered {opened:#?}, which was never held since the last report; durable was {:#?}, the last \
                 {:#?}",
                self.history.front(),
                self.newest()
            );
        };
        self.counts.lost += u64::from(known + 1 < self.history.len());
        self.counts.kept_unconfirmed += u64::from(known > 0);
        self.committed = self.committed.min(opened.next() - 1).max(opened.base());
        self.durable_entries = opened.next() - 1;
        self.history = VecDeque::from([opened]);
        self.waits.clear();
        self.forgotten = 0;
        self.next_ticket = 1;
        self.taking = None;
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket - 1)
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.unique += 1;
        let length = match self.rng.random_range(0..12) {
            0 => self.rng.random_range(0..12_000),
            _ => self.rng.random_range(0..300),
        };
        let mut bytes = format!("{}-", self.unique).into_bytes();
        bytes.resize(bytes.len() + length, self.rng.random());
        bytes
    }

    fn entry(&mut self, index: u64, term: u64) -> LogEntry {
        let body = match self.rng.random_range(0..10) {
            0 => EntryBody::Empty,
            1 => EntryBody::Change(ConfigurationChange {
                steps: vec![(PeerChange::Learn, self.rng.random())],
            }),
            _ => {
                let proposal = ProposalRecord {
                    node: 1,
                    incarnation: self.rng.random(),
                    only_term: 0,
                    number: self.rng.random(),
                    floor: 0,
                };
                EntryBody::Command(proposal, self.bytes())
            }
        };
        LogEntry { index, term, body }
    }

    fn snapshot(&mut self, index: u64) -> Arc<Snapshot> {
        let mut data = self.bytes();
        if self.rng.random_ratio(1, 6) {
            // More than the log takes at a time.
            let large = self.rng.random_range(0..100_000);
            data.resize(data.len() + large, self.rng.random());
        }
        let configuration = ConfigurationRecord {
            voters: vec![1, 2, 3],
            ..ConfigurationRecord::default()
        };
        Arc::new(Snapshot {
            meta: SnapshotMeta {
                index,
                term: self.newest().hard_state.term,
                configuration,
            },
            data: data.into(),
        })
    }

    /// Does what a consensus does, at random.
    pub(crate) fn act(&mut self, ledger: &mut Ledger) -> Result<(), LedgerError> {
        let (base, next) = (self.newest().base(), self.newest().next());
        let mut state = self.newest().hard_state;
        let mut write = nothing();
        match self.rng.random_range(0..100) {
            0..8 => return self.learn_a_fact(ledger),
            8..14 => {
                (state.term, state.vote) = (state.term + 1, self.rng.random_range(0..4));
                write.hard_state = Some(state);
            }
            14..34 => {
                // What was committed is said without a ticket.
                self.committed = self.rng.random_range(self.committed..=next - 1);
                state.commit = self.committed;
                write.hard_state = Some(state);
                return self.write(ledger, write);
            }
            34..42 if self.committed.max(base) + 1 < next => {
                let from = self.rng.random_range(self.committed.max(base) + 1..next);
                state.term += 1;
                write.hard_state = Some(state);
                write.truncate_from = Some(from);
                let count = self.rng.random_range(1..5);
                write.entries = (from..from + count)
                    .map(|index| self.entry(index, state.term))
                    .collect();
                self.counts.truncated += 1;
            }
            42..48 => {
                // Of what is committed and durable; rarely, one that another has overtaken.
                let most = self.committed.min(self.durable_entries);
                let overtaken = self.rng.random_ratio(1, 4);
                if self.taking.is_some() || (most <= base && !overtaken) || base == 0 {
                    return Ok(());
                }
                let index = match overtaken {
                    true => self.rng.random_range(base.saturating_sub(5).max(1)..=base),
                    false => self.rng.random_range(base + 1..=most),
                };
                let ticket = self.ticket();
                self.taking = (!overtaken).then_some((ticket, index));
                write.ticket = Some(ticket);
                write.snapshot = Some(SnapshotWrite {
                    snapshot: self.snapshot(index),
                    replaces_log: false,
                });
                self.counts.taken += 1;
                return self.write(ledger, write);
            }
            48..52 => {
                let index = self
                    .rng
                    .random_range(self.committed.max(base) + 1..=next + 20);
                state.term += u64::from(self.rng.random_bool(0.5));
                state.commit = index;
                self.committed = index;
                write.hard_state = Some(state);
                write.snapshot = Some(SnapshotWrite {
                    snapshot: self.snapshot(index),
                    replaces_log: true,
                });
                self.counts.replaced += 1;
                // The consensus gives up the one that it was about to take.
                self.taking = None;
                let count = self.rng.random_range(0..3);
                write.entries = (index + 1..=index + count)
                    .map(|index| self.entry(index, state.term))
                    .collect();
            }
            _ => {
                let count = self.rng.random_range(1..6);
                write.entries = (next..next + count)
                    .map(|index| self.entry(index, state.term))
                    .collect();
            }
        }
        write.ticket = Some(self.ticket());
        self.write(ledger, write)
    }

    fn learn_a_fact(&mut self, ledger: &mut Ledger) -> Result<(), LedgerError> {
        let mut held = self.newest().clone();
        let fact = match self.rng.random_range(0..3) {
            0 => {
                held.incarnation.0 += self.rng.random_range(1..4);
                Fact::Life(held.incarnation)
            }
            1 => {
                let round = held.promise.promised.round + 1;
                held.promise.promised = Ballot { round, peer: 7 };
                if self.rng.random_bool(0.5) {
                    let voters = (0..self.rng.random_range(1..60)).collect();
                    let founding = Founding { cluster: 5, voters };
                    held.promise.accepted = Some((held.promise.promised, founding));
                }
                Fact::Promised(held.promise.clone())
            }
            _ => {
                held.cluster = Some(ClusterId(5));
                Fact::Joined(ClusterId(5))
            }
        };
        match ledger.record(fact) {
            Ok(ticket) => {
                self.note(held);
                self.waits_for(Durable::Fact(ticket));
                Ok(())
            }
            Err(_) => Err(ledger.failed().cloned().expect("the fact was a good one")),
        }
    }

    /// Writes, and notes what is held after each part.
    pub(crate) fn write(
        &mut self,
        ledger: &mut Ledger,
        write: LogWrite,
    ) -> Result<(), LedgerError> {
        let mut held = self.newest().clone();
        if let Some(state) = write.hard_state {
            held.hard_state = state;
            self.note(held.clone());
        }
        if let Some(SnapshotWrite {
            snapshot,
            replaces_log,
        }) = &write.snapshot
            && (*replaces_log || snapshot.meta.index >= held.base())
        {
            if *replaces_log {
                held.entries.clear();
            }
            held.snapshot = Some(snapshot.clone());
            held.forget_contained();
            self.note(held.clone());
        }
        if let Some(from) = write.truncate_from {
            held.entries.split_off(&from);
            self.note(held.clone());
        }
        for entry in &write.entries {
            held.entries.insert(entry.index, entry.clone());
            self.note(held.clone());
        }
        if let Some(ticket) = write.ticket {
            self.waits_for(Durable::Write(ticket));
        }
        ledger.write(write)
    }
}

/// A write of nothing.
pub(crate) fn nothing() -> LogWrite {
    LogWrite {
        ticket: None,
        hard_state: None,
        snapshot: None,
        truncate_from: None,
        entries: Vec::new(),
        drop_before: None,
    }
}
