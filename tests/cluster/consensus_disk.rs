//! A disk in memory that loses at a crash what was not synced, and tears what was being written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use corecast::base::rng::Rng;
use corecast::consensus::entry::{HardState, LogEntry, LogWrite, Recovered, Snapshot, Ticket};
use rand::RngExt;

/// What has been written, and what of it is durable.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    hard_state: HardState,
    snapshot: Option<Arc<Snapshot>>,
    entries: BTreeMap<u64, LogEntry>,
    pending: VecDeque<LogWrite>,
}

impl Disk {
    /// A disk on which this is durable.
    pub(crate) fn holding(recovered: Recovered) -> Disk {
        Disk {
            hard_state: recovered.hard_state,
            snapshot: recovered.snapshot,
            entries: recovered
                .entries
                .into_iter()
                .map(|entry| (entry.index, entry))
                .collect(),
            pending: VecDeque::new(),
        }
    }

    pub(crate) fn write(&mut self, write: LogWrite) {
        self.pending.push_back(write);
    }

    /// Makes everything durable up to this ticket.
    pub(crate) fn sync(&mut self, ticket: Ticket) {
        while self
            .pending
            .front()
            .is_some_and(|write| write.ticket.is_none_or(|t| t <= ticket))
        {
            let write = self.pending.pop_front().unwrap();
            self.make_durable(write);
        }
    }

    /// The machine dies: some of what was not synced is there, and the last of it may be torn.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let whole = rng.random_range(0..=self.pending.len());
        for _ in 0..whole {
            let write = self.pending.pop_front().unwrap();
            self.make_durable(write);
        }
        if let Some(mut torn) = self.pending.pop_front() {
            // A beginning of its parts.
            let parts = rng.random_range(0..5);
            let keeps = |part| part < parts;
            torn.hard_state = torn.hard_state.filter(|_| keeps(0));
            torn.snapshot = torn.snapshot.filter(|_| keeps(1));
            torn.truncate_from = torn.truncate_from.filter(|_| keeps(2));
            let entries = if keeps(3) {
                rng.random_range(0..=torn.entries.len())
            } else {
                0
            };
            torn.entries.truncate(entries);
            torn.drop_before = None;
            self.make_durable(torn);
        }
        self.pending.clear();
    }

    /// What a node finds at its start.
    pub(crate) fn recover(&self) -> Recovered {
        assert!(self.pending.is_empty(), "the node still runs");
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: self.entries.values().cloned().collect(),
        }
    }

    fn make_durable(&mut self, write: LogWrite) {
        if let Some(state) = write.hard_state {
            self.hard_state = state;
        }
        if let Some(snapshot) = write.snapshot {
            if snapshot.replaces_log {
                self.entries.clear();
            }
            self.snapshot = Some(snapshot.snapshot);
        }
        if let Some(from) = write.truncate_from {
            self.entries.split_off(&from);
        }
        for entry in write.entries {
            self.entries.insert(entry.index, entry);
        }
        if let Some(before) = write.drop_before {
            self.entries = self.entries.split_off(&before);
        }
    }
}
