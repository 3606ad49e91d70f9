//! Who may write under a persistence id: one live actor at a time.

use super::error::SourcingError;
use super::id::PersistenceId;
use crate::base::give_back::give_back;
use ahash::AHashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts with a lock of their own, so that cores seldom meet.
const PARTS: usize = 64;

/// The persistence ids that live actors hold, from all cores. A journal has one of these, and its clones share it; there
/// is an entry for each live actor, so it is bounded by their number.
#[derive(Clone)]
pub struct Leases(Arc<[Mutex<Part>; PARTS]>);

/// Its order never shows: nobody goes through it.
type Part = AHashMap<PersistenceId, Arc<AtomicBool>>;

impl Default for Leases {
    fn default() -> Self {
        Leases(Arc::new(std::array::from_fn(|_| Mutex::default())))
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").finish_non_exhaustive()
    }
}

impl Leases {
    /// Takes a persistence id until the lease is dropped.
    ///
    /// # Errors
    /// [`SourcingError::Held`] if somebody has it; nothing has changed.
    pub fn take(&self, id: &PersistenceId) -> Result<Lease, SourcingError> {
        let mut held = self.part(id);
        if held.contains_key(id) {
            return Err(SourcingError::Held { id: id.clone() });
        }
        let live = Arc::new(AtomicBool::new(true));
        held.insert(id.clone(), live.clone());
        Ok(Lease {
            leases: self.clone(),
            writer: Writer {
                id: id.clone(),
                live,
            },
        })
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_held(&self, id: &PersistenceId) -> bool {
        self.part(id).contains_key(id)
    }

    fn part(&self, id: &PersistenceId) -> MutexGuard<'_, Part> {
        self.0[id.stable_hash() as usize % PARTS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one persistence id. It ends when this is dropped, and with it the right of its [writers](Lease::writer).
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    writer: Writer,
}

impl Lease {
    /// What writes carry, to be told from those of others who held the id before.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // First, so that nobody who takes the id meets a writer that still may.
        self.writer.live.store(false, Ordering::SeqCst);
        let mut held = self.leases.part(&self.writer.id);
        held.remove(&self.writer.id);
        give_back(&mut held);
    }
}

/// On whose behalf something is written: one live holder of a persistence id.
#[derive(Clone)]
pub struct Writer {
    id: PersistenceId,
    live: Arc<AtomicBool>,
}

impl Writer {
    /// The persistence id.
    #[must_use]
    pub fn id(&self) -> &PersistenceId {
        &self.id
    }

    /// Whether its holder still has the id.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.live.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("id", &self.id)
            .field("may_write", &self.may_write())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_writer_ends_with_its_lease() {
        let leases = Leases::default();
        let id = PersistenceId::new("ledger");
        let first = leases.take(&id).unwrap();
        let held = SourcingError::Held { id: id.clone() };
        assert_eq!(leases.clone().take(&id).unwrap_err(), held);
        let other = leases.take(&PersistenceId::new("other")).unwrap();
        let old = first.writer();
        assert!(old.may_write() && leases.is_held(&id));
        drop(first);
        assert!(!old.may_write() && !leases.is_held(&id));
        let second = leases.take(&id).unwrap();
        assert!(second.writer().may_write() && !old.may_write() && other.writer().may_write());
    }

    #[test]
    fn whoever_has_gone_takes_no_memory() {
        let leases = Leases::default();
        let room = || -> usize {
            let parts = leases.0.iter();
            parts.map(|part| part.lock().unwrap().capacity()).sum()
        };
        let ids = (0..200_000).map(|id| PersistenceId::of_entity("cart", &id));
        let held: Vec<_> = ids.map(|id| leases.take(&id).unwrap()).collect();
        assert!(room() >= 200_000);
        drop(held);
        assert!(room() <= 64 * 1_024, "{}", room());
    }

    #[test]
    fn a_panic_releases_it() {
        let leases = Leases::default();
        let id = PersistenceId::new("ledger");
        let held = leases.clone();
        let panic = std::panic::catch_unwind(move || {
            let _lease = held.take(&PersistenceId::new("ledger"));
            panic!("on purpose");
        });
        assert!(panic.is_err() && !leases.is_held(&id) && leases.take(&id).is_ok());
    }
}
