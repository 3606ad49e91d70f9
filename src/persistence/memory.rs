//! A journal in memory, for tests and for state that need not outlive its process.

use super::error::JournalError;
use super::id::PersistenceId;
use super::journal::{Batch, Journal, Records};
use super::lease::Leases;
use super::record::{Record, Sequence};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts with a lock of their own, so that cores seldom meet.
const PARTS: usize = 64;

/// Events that are read at once.
const PAGE: usize = 256;

/// A journal in memory. Its clones share what is in it, so it outlives the actors and runtimes that write to it, and ends
/// with the last of its clones.
///
/// It is bounded: once its records take as many bytes as it may have, further ones are refused ([`JournalError::Full`]),
/// and whoever wrote them fails. By itself it removes nothing but snapshots that another one replaces; events are deleted
/// by whoever calls [`delete_before`](InMemoryJournal::delete_before).
///
/// ```
/// use corecast::{InMemoryJournal, Sequence};
///
/// let journal = InMemoryJournal::bounded(64 << 20);
/// let cart = "cart/7".into();
/// assert!(journal.records(&cart).is_empty());
/// // All that its snapshot spares it, if it has one.
/// assert_eq!(journal.delete_before(&cart, Sequence(u64::MAX)), 0);
/// ```
#[derive(Clone)]
pub struct InMemoryJournal {
    shared: Arc<Shared>,
}

struct Shared {
    leases: Leases,
    parts: [Mutex<Part>; PARTS],
    used: AtomicUsize,
    limit: usize,
}

/// Its order never shows: nobody goes through it.
type Part = AHashMap<PersistenceId, Log>;

#[derive(Default)]
struct Log {
    /// How many events have been deleted.
    deleted: u64,
    /// From the first on that is left, without a gap.
    records: VecDeque<Record>,
    snapshot: Option<Record>,
}

impl Log {
    /// The number of the first event that is left, or of the next one.
    fn first(&self) -> Sequence {
        Sequence(self.deleted + 1)
    }

    fn next(&self) -> Sequence {
        Sequence(self.deleted + self.records.len() as u64 + 1)
    }

    /// Some events from this one on.
    fn page(&self, from: Sequence) -> Result<Vec<Record>, JournalError> {
        let found = self.first();
        let Some(skipped) = from.0.checked_sub(found.0) else {
            let expected = from;
            return Err(JournalError::Gap { expected, found });
        };
        let skipped = self.records.len().min(skipped as usize);
        let rest = self.records.range(skipped..);
        Ok(rest.take(PAGE).cloned().collect())
    }
}

impl InMemoryJournal {
    /// A journal whose records take at most so many bytes.
    #[must_use]
    pub fn bounded(bytes: usize) -> InMemoryJournal {
        InMemoryJournal {
            shared: Arc::new(Shared {
                leases: Leases::default(),
                parts: std::array::from_fn(|_| Mutex::default()),
                used: AtomicUsize::new(0),
                limit: bytes,
            }),
        }
    }

    /// The bytes that its records take.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// The events of one persistence id, in order, but for those that have been deleted.
    #[must_use]
    pub fn records(&self, id: &PersistenceId) -> Vec<Record> {
        let part = self.part(id);
        let log = part.get(id).into_iter();
        log.flat_map(|log| log.records.iter().cloned()).collect()
    }

    /// Deletes the events before the one numbered `before`, as far as the snapshot spares a recovery to read them: without
    /// a snapshot none. Returns how many those were.
    ///
    /// What is deleted is gone. Recovery depends on the snapshot then: a program in which the state has another version
    /// leaves it aside, misses the events, and recovers nothing ([`JournalError::Gap`]).
    pub fn delete_before(&self, id: &PersistenceId, before: Sequence) -> usize {
        let mut part = self.part(id);
        let Some(log) = part.get_mut(id) else {
            return 0;
        };
        let spared = log.snapshot.as_ref().map_or(0, |known| known.sequence.0);
        let last = before.0.saturating_sub(1).min(spared);
        let count = last.saturating_sub(log.deleted) as usize;
        let count = count.min(log.records.len());
        let freed = log.records.drain(..count).map(|old| size_of_record(&old));
        let freed = freed.sum();
        log.deleted += count as u64;
        if log.records.len() < log.records.capacity() / 4 {
            log.records.shrink_to_fit();
        }
        self.shared.used.fetch_sub(freed, Ordering::Relaxed);
        count
    }

    /// The snapshot of one persistence id.
    #[must_use]
    pub fn snapshot(&self, id: &PersistenceId) -> Option<Record> {
        self.part(id).get(id)?.snapshot.clone()
    }

    fn part(&self, id: &PersistenceId) -> MutexGuard<'_, Part> {
        self.shared.parts[id.stable_hash() as usize % PARTS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, needed: usize) -> Result<(), JournalError> {
        let limit = self.shared.limit;
        let with = |used: usize| used.checked_add(needed).filter(|sum| *sum <= limit);
        self.shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, with)
            .map(drop)
            .map_err(|_| JournalError::Full { needed, limit })
    }

    fn store(&self, batch: Batch) -> Result<(), JournalError> {
        let mut part = self.part(batch.id());
        // With the lock, so that whoever takes the id after this writer sees what it has stored.
        if !batch.writer.may_write() {
            return Err(JournalError::Fenced);
        }
        let log = part.get(batch.id());
        let expected = log.map_or(Sequence::FIRST, Log::next);
        if batch.first() != expected {
            return Err(JournalError::Conflict {
                expected,
                found: batch.first(),
            });
        }
        let beginning = if log.is_none() {
            size_of_log(batch.id())
        } else {
            0
        };
        let records: usize = batch.records.iter().map(size_of_record).sum();
        self.reserve(beginning + records)?;
        part.entry(batch.id().clone())
            .or_default()
            .records
            .extend(batch.records);
        Ok(())
    }

    fn store_snapshot(&self, id: &PersistenceId, snapshot: Record) -> Result<(), JournalError> {
        let mut part = self.part(id);
        let log = part.get(id);
        let before = log.and_then(|log| log.snapshot.as_ref());
        if before.is_some_and(|before| before.sequence > snapshot.sequence) {
            return Ok(());
        }
        let beginning = log.map_or_else(|| size_of_log(id), |_| 0);
        let (needed, replaced) = (size_of_record(&snapshot), before.map_or(0, size_of_record));
        self.reserve((beginning + needed).saturating_sub(replaced))?;
        part.entry(id.clone()).or_default().snapshot = Some(snapshot);
        let freed = replaced.saturating_sub(beginning + needed);
        self.shared.used.fetch_sub(freed, Ordering::Relaxed);
        Ok(())
    }
}

/// A default bound: 1 GiB.
impl Default for InMemoryJournal {
    fn default() -> Self {
        InMemoryJournal::bounded(1 << 30)
    }
}

impl fmt::Debug for InMemoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryJournal")
            .field("used_bytes", &self.used_bytes())
            .field("limit", &self.shared.limit)
            .finish_non_exhaustive()
    }
}

fn size_of_record(record: &Record) -> usize {
    size_of::<Record>() + record.payload.bytes.capacity()
}

/// What a log takes besides its records.
fn size_of_log(id: &PersistenceId) -> usize {
    size_of::<(PersistenceId, Log)>() + id.as_str().len()
}

impl Journal for InMemoryJournal {
    type Records = MemoryRecords;

    fn leases(&self) -> &Leases {
        &self.shared.leases
    }

    async fn persist(&self, batch: Batch) -> Result<(), JournalError> {
        self.store(batch)
    }

    fn load(&self, id: &PersistenceId, from: Sequence) -> MemoryRecords {
        MemoryRecords {
            journal: self.clone(),
            id: id.clone(),
            next: from.max(Sequence::FIRST),
        }
    }

    async fn save_snapshot(
        &self,
        id: &PersistenceId,
        snapshot: Record,
    ) -> Result<(), JournalError> {
        self.store_snapshot(id, snapshot)
    }

    async fn load_snapshot(&self, id: &PersistenceId) -> Result<Option<Record>, JournalError> {
        Ok(self.snapshot(id))
    }
}

/// Events that are read from a journal in memory.
#[derive(Debug)]
pub struct MemoryRecords {
    journal: InMemoryJournal,
    id: PersistenceId,
    next: Sequence,
}

impl Records for MemoryRecords {
    async fn next_page(&mut self) -> Result<Vec<Record>, JournalError> {
        let part = self.journal.part(&self.id);
        let page = match part.get(&self.id) {
            Some(log) => log.page(self.next)?,
            None => Vec::new(),
        };
        self.next = Sequence(self.next.0 + page.len() as u64);
        Ok(page)
    }
}
