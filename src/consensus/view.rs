//! The log in memory, as raft-rs reads it: what the durable log holds or is about to hold.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use raft::prelude::{ConfState, Entry, HardState as RaftHardState, Snapshot as RaftSnapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::convert;
use super::entry::{HardState, Snapshot};

/// What an entry costs besides its command.
const ENTRY_BYTES: u64 = 128;

/// The log from behind the last compaction on. The machine bounds it by snapshots.
pub(super) struct LogView {
    hard_state: HardState,
    /// The configuration with which raft-rs starts.
    conf_state: ConfState,
    /// The entry before the first, of which only index and term are known.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: u64,
    /// The newest snapshot that is durable, to send to others.
    snapshot: Option<Arc<Snapshot>>,
    /// Somebody needs a newer snapshot than there is. (raft-rs asks through a shared reference.)
    wants_newer: Cell<bool>,
}

impl LogView {
    /// The log that was found.
    pub(super) fn new(
        hard_state: HardState,
        snapshot: Option<Arc<Snapshot>>,
        conf_state: ConfState,
        entries: Vec<Entry>,
    ) -> LogView {
        let base = snapshot
            .as_ref()
            .map_or((0, 0), |snapshot| (snapshot.meta.index, snapshot.meta.term));
        let mut view = LogView {
            hard_state,
            conf_state,
            base,
            entries: VecDeque::new(),
            bytes: 0,
            snapshot,
            wants_newer: Cell::new(false),
        };
        view.append(entries);
        view
    }

    /// The newest snapshot that is durable.
    pub(super) fn latest_snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// Whether somebody has asked for a newer snapshot since the last call.
    pub(super) fn take_wants_newer(&self) -> bool {
        self.wants_newer.take()
    }

    /// About how much memory the entries take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    pub(super) fn set_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = Some(snapshot);
    }

    /// Appends entries behind those before the first of them; says from where on others were replaced.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> Option<u64> {
        let first = entries.first()?.index;
        let keep = first.saturating_sub(self.base.0 + 1) as usize;
        let replaces = self.entries.len() > keep;
        while self.entries.len() > keep
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= cost(&entry);
        }
        for entry in entries {
            self.bytes += cost(&entry);
            self.entries.push_back(entry);
        }
        replaces.then_some(first)
    }

    /// Forgets everything: the log goes on behind this snapshot.
    pub(super) fn replace(&mut self, index: u64, term: u64) {
        self.base = (index, term);
        self.entries.clear();
        self.bytes = 0;
    }

    /// Forgets entries below `index`, of which a snapshot tells; says whether there were any.
    pub(super) fn compact(&mut self, index: u64) -> bool {
        let before = self.base.0;
        while self.base.0 + 1 < index
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= cost(&entry);
            self.base = (entry.index, entry.term);
        }
        self.base.0 > before
    }

    fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }
}

fn cost(entry: &Entry) -> u64 {
    ENTRY_BYTES + entry.data.len() as u64
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = RaftHardState::default();
        hard_state.term = self.hard_state.term;
        hard_state.vote = self.hard_state.vote;
        hard_state.commit = self.hard_state.commit;
        Ok(RaftState::new(hard_state, self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 || low > high {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let from = (low - self.base.0 - 1) as usize;
        let count = (high - low) as usize;
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let fits = |entry: &&Entry| {
            let first = size == 0;
            size += cost(entry);
            first || size <= limit
        };
        let entries = self.entries.iter().skip(from).take(count);
        Ok(entries.take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get((index - self.base.0 - 1) as usize);
        entry
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Where the newest durable snapshot stands. Its data does not go through raft-rs: the machine sends it in pieces.
    ///
    /// A peer takes only one of a configuration to which it belongs.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<RaftSnapshot> {
        let fits = |snapshot: &&Arc<Snapshot>| {
            let record = &snapshot.meta.configuration;
            let mut peers = [&record.voters, &record.learners, &record.outgoing]
                .into_iter()
                .flatten();
            snapshot.meta.index >= request_index && peers.any(|peer| *peer == to)
        };
        match self.snapshot.as_ref().filter(fits) {
            Some(snapshot) => Ok(convert::snapshot_to_raft(&snapshot.meta)),
            None => {
                self.wants_newer.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        let mut entry = Entry::default();
        (entry.index, entry.term) = (index, term);
        entry.data = vec![0; 100].into();
        entry
    }

    fn indexes(view: &LogView, low: u64, high: u64, limit: Option<u64>) -> Vec<u64> {
        let context = GetEntriesContext::empty(false);
        let entries = view.entries(low, high, limit, context).unwrap();
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn appends_replace_and_compactions_forget() {
        let entries = (1..=5).map(|index| entry(index, 1)).collect();
        let mut view = LogView::new(HardState::default(), None, ConfState::default(), entries);
        assert_eq!(view.append(vec![entry(6, 1)]), None);
        assert_eq!(view.append(vec![entry(4, 2), entry(5, 2)]), Some(4));
        assert_eq!(indexes(&view, 1, 6, None), [1, 2, 3, 4, 5]);
        assert_eq!((view.term(3).unwrap(), view.term(4).unwrap()), (1, 2));
        assert_eq!(view.bytes(), 5 * (ENTRY_BYTES + 100));
        // At least one, and as many as fit.
        assert_eq!(indexes(&view, 1, 6, Some(0)), [1]);
        assert_eq!(indexes(&view, 1, 6, Some(2 * (ENTRY_BYTES + 100))), [1, 2]);

        assert!(view.compact(4));
        assert!(!view.compact(4));
        assert_eq!(view.first_index().unwrap(), 4);
        assert_eq!(view.term(3).unwrap(), 1, "that of the entry before is kept");
        let compacted = Error::Store(StorageError::Compacted);
        assert_eq!(view.term(2).unwrap_err(), compacted);
        assert_eq!(view.bytes(), 2 * (ENTRY_BYTES + 100));
        view.replace(9, 3);
        assert_eq!((view.last_index().unwrap(), view.term(9).unwrap()), (9, 3));
        assert_eq!((view.bytes(), view.first_index().unwrap()), (0, 10));
        let unavailable = Error::Store(StorageError::Unavailable);
        assert_eq!(view.term(10).unwrap_err(), unavailable);
    }
}
