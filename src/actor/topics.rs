//! Who is interested in which type of event: what all cores and threads of a runtime know of it.
//!
//! For each type there is one flag for each core, which only that core changes, and their number, at which whoever is about
//! to publish looks first: while nobody is interested, that look is all it costs. The flags are shared memory, and no
//! messages between the cores, so that a subscription holds everywhere from the moment at which its call has returned.
//! Threads outside of the cores listen at outlets, which lie here too: whoever publishes puts the event in.

use super::events::Event;
use super::guard::{drop_guarded, guarded};
use crossbeam_channel::{Sender, TrySendError};
use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Threads that may listen to one type; more are refused.
pub(crate) const MAX_OUTLETS: usize = 1_024;

/// All types of events of a runtime that somebody has published or subscribed to.
pub(crate) struct Topics {
    cores: usize,
    known: RwLock<Known>,
    /// Events that threads outside of the cores published and that did not get to a subscriber.
    dropped: AtomicU64,
}

#[derive(Default)]
struct Known {
    by_type: BTreeMap<TypeId, Arc<dyn AnyTopic>>,
    closed: bool,
}

impl Topics {
    pub(crate) fn new(cores: usize) -> Topics {
        Topics {
            cores,
            known: RwLock::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// What is known of a type.
    pub(crate) fn topic<E: Event>(&self) -> Arc<Topic<E>> {
        let wanted = TypeId::of::<E>();
        let found = read(&self.known).by_type.get(&wanted).cloned();
        let topic: Arc<dyn Any + Send + Sync> = found.unwrap_or_else(|| {
            let known = &mut *write(&self.known);
            let closed = known.closed;
            let new = || Arc::new(Topic::<E>::new(self.cores, closed)) as Arc<dyn AnyTopic>;
            known.by_type.entry(wanted).or_insert_with(new).clone()
        });
        topic
            .downcast()
            .unwrap_or_else(|_| unreachable!("topics are kept by type"))
    }

    /// The runtime has ended: whoever listens at an outlet hears that nothing more comes.
    pub(crate) fn close(&self) {
        let topics: Vec<_> = {
            let mut known = write(&self.known);
            known.closed = true;
            known.by_type.values().cloned().collect()
        };
        topics.iter().for_each(|topic| topic.close());
    }

    pub(crate) fn count_dropped(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A topic whatever its type.
trait AnyTopic: Any + Send + Sync {
    /// Nothing more will be published.
    fn close(&self);
}

/// Who is interested in one type.
pub(crate) struct Topic<E> {
    /// How many cores and outlets are.
    wanted: AtomicUsize,
    cores: Box<[AtomicBool]>,
    outlets: RwLock<Outlets<E>>,
}

/// Whoever publishes takes the list along, so that no code of an event runs under the lock.
struct Outlets<E> {
    open: Arc<[Outlet<E>]>,
    closed: bool,
}

/// The end of a channel to a thread.
struct Outlet<E> {
    events: Sender<E>,
    dropped: Arc<AtomicU64>,
}

impl<E> Clone for Outlet<E> {
    fn clone(&self) -> Self {
        Outlet {
            events: self.events.clone(),
            dropped: self.dropped.clone(),
        }
    }
}

impl<E: Event> Topic<E> {
    fn new(cores: usize, closed: bool) -> Topic<E> {
        Topic {
            wanted: AtomicUsize::new(0),
            cores: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            outlets: RwLock::new(Outlets {
                open: Arc::new([]),
                closed,
            }),
        }
    }

    /// Whether anybody is interested. Who has learnt of a subscription, by whatever way, sees it here.
    #[inline(always)]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Says whether a core is interested; only that core does.
    pub(crate) fn set_core(&self, core: usize, interested: bool) {
        if self.is_wanted_on(core) == interested {
            return;
        }
        self.cores[core].store(interested, Ordering::Relaxed);
        if interested {
            self.wanted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.wanted.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_wanted_on(&self, core: usize) -> bool {
        self.cores[core].load(Ordering::Relaxed)
    }

    pub(crate) fn is_wanted_on_any(&self) -> bool {
        (0..self.cores.len()).any(|core| self.is_wanted_on(core))
    }

    /// Opens an outlet. One of a runtime that has ended brings nothing; `false` if there are too many.
    pub(crate) fn open_outlet(&self, events: Sender<E>, dropped: Arc<AtomicU64>) -> bool {
        let mut outlets = write(&self.outlets);
        if outlets.open.len() >= MAX_OUTLETS {
            return false;
        }
        if !outlets.closed {
            let one_more = Outlet { events, dropped };
            outlets.open = outlets.open.iter().cloned().chain([one_more]).collect();
            self.wanted.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Closes the outlet that counts there what it drops.
    pub(crate) fn close_outlet(&self, dropped: &Arc<AtomicU64>) {
        let mut outlets = write(&self.outlets);
        let others = outlets.open.iter();
        let others = others.filter(|outlet| !Arc::ptr_eq(&outlet.dropped, dropped));
        let others: Arc<[_]> = others.cloned().collect();
        let closed = outlets.open.len() - others.len();
        outlets.open = others;
        self.wanted.fetch_sub(closed, Ordering::Relaxed);
    }

    /// Puts an event into every outlet. Returns for how many there was no room.
    pub(crate) fn put_out(&self, event: &E) -> u64 {
        let open = read(&self.outlets).open.clone();
        let mut dropped = 0;
        for outlet in &*open {
            if outlet.events.is_full() {
                outlet.dropped.fetch_add(1, Ordering::Relaxed);
                dropped += 1;
                continue;
            }
            let Some(copy) = copy_of(event) else {
                dropped += 1;
                continue;
            };
            if let Err(refused) = outlet.events.try_send(copy) {
                outlet.dropped.fetch_add(1, Ordering::Relaxed);
                dropped += 1;
                let (TrySendError::Full(copy) | TrySendError::Disconnected(copy)) = refused;
                drop_guarded(copy);
            }
        }
        // Whoever listened may have gone meanwhile.
        drop_guarded(open);
        dropped
    }
}

impl<E: Event> AnyTopic for Topic<E> {
    fn close(&self) {
        let open = {
            let mut outlets = write(&self.outlets);
            outlets.closed = true;
            std::mem::replace(&mut outlets.open, Arc::new([]))
        };
        self.wanted.fetch_sub(open.len(), Ordering::Relaxed);
        drop_guarded(open);
    }
}

/// A clone of an event, unless its code panics.
pub(crate) fn copy_of<E: Event>(event: &E) -> Option<E> {
    guarded(|| event.clone())
        .inspect_err(|panic| {
            tracing::error!(
                event = std::any::type_name::<E>(),
                panic,
                "an event could not be cloned"
            );
        })
        .ok()
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
