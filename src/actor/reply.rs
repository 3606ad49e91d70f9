//! Reply addresses, and what happens to those that are dropped.
//!
//! A reply address travels inside a message of any shape, so the runtime cannot see it; it sees it being dropped. While
//! a core works, a dropped address is noted on the side and its core ends the ask as soon as the handler is through. The
//! note says why: because the runtime was discarding a message that never had its turn (then the ask is *rejected*), or
//! because a handler let go of it (then the outcome is *unknown*). Dropped on any other thread, the address goes home
//! through the exit that its runtime has registered.

use super::refusal::{AskError, Uncertainty};
use crate::base::ids::{CoreId, Incarnation};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, Weak};

/// One runtime of this process; several may run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuntimeId(u32);

impl RuntimeId {
    pub(crate) fn next() -> RuntimeId {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        RuntimeId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The incarnation of a node that runs alone: references of another runtime of this process lead nowhere.
    pub(crate) fn incarnation(self) -> Incarnation {
        Incarnation(self.0)
    }
}

/// Where an open ask is kept: two whole words, since messages with reply addresses in them are copied word by word, and
/// reading words that were written in parts stalls (7 ns a message where this was measured).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyAddress {
    /// Generation and slot in the asker's table.
    place: u64,
    /// Runtime, the table for replies of this type, and the core that asked.
    home: u64,
}

impl ReplyAddress {
    #[inline]
    pub(crate) fn new(
        runtime: RuntimeId,
        core: CoreId,
        table: u16,
        slot: u32,
        generation: u32,
    ) -> Self {
        ReplyAddress {
            place: u64::from(generation) << 32 | u64::from(slot),
            home: u64::from(runtime.0) << 32 | u64::from(table) << 16 | u64::from(core.0),
        }
    }

    #[inline]
    pub(crate) fn runtime(self) -> RuntimeId {
        RuntimeId((self.home >> 32) as u32)
    }

    #[inline]
    pub(crate) fn table(self) -> u16 {
        (self.home >> 16) as u16
    }

    #[inline]
    pub(crate) fn core(self) -> CoreId {
        CoreId(self.home as u16)
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.place as u32
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.place >> 32) as u32
    }
}

/// The home of an address that has been taken out.
const TAKEN: u64 = u64::MAX;

/// The right to answer one ask, once.
///
/// It is part of the message, can be kept, passed on and answered later, from any actor, future or thread:
/// [`Context::reply`](super::context::Context::reply), [`Scope::reply`](super::scope::Scope::reply),
/// [`Handle::reply`](super::handle::Handle::reply). Dropped unanswered it ends the ask at once.
#[must_use = "an ask whose reply address is dropped ends as unknown"]
pub struct ReplyTo<R> {
    address: ReplyAddress,
    reply: PhantomData<fn(R)>,
}

impl<R> ReplyTo<R> {
    pub(crate) fn new(address: ReplyAddress) -> Self {
        ReplyTo {
            address,
            reply: PhantomData,
        }
    }

    /// The core that asked.
    pub(crate) fn core(&self) -> CoreId {
        self.address.core()
    }

    /// Takes the address out; nothing happens on drop any more.
    #[inline]
    pub(crate) fn disarm(mut self) -> ReplyAddress {
        let address = self.address;
        self.address.home = TAKEN;
        address
    }
}

impl<R> fmt::Debug for ReplyTo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ReplyTo({}, {}.{})",
            self.address.core(),
            self.address.slot(),
            self.address.generation()
        )
    }
}

impl<R> Drop for ReplyTo<R> {
    #[inline]
    fn drop(&mut self) {
        if self.address.home != TAKEN {
            orphaned(self.address);
        }
    }
}

/// A dropped reply address, and how its ask ends.
pub(crate) type Orphan = (ReplyAddress, AskError);

thread_local! {
    /// Set while this thread runs a core's turn: orphans are noted instead of sent.
    static ON_CORE: Cell<bool> = const { Cell::new(false) };
    static NOTED: Cell<bool> = const { Cell::new(false) };
    static WHY: Cell<AskError> = const { Cell::new(AskError::Unknown(Uncertainty::DroppedUnanswered)) };
    static ORPHANS: RefCell<Vec<Orphan>> = const { RefCell::new(Vec::new()) };
}

/// Marks this thread as one that runs a core, until it is dropped.
#[derive(Debug)]
pub(crate) struct OnCore(bool);

pub(crate) fn enter_core() -> OnCore {
    OnCore(ON_CORE.replace(true))
}

impl Drop for OnCore {
    fn drop(&mut self) {
        ON_CORE.set(self.0);
    }
}

/// Whether this thread is running a core's turn, and so must not block.
pub(crate) fn on_core() -> bool {
    ON_CORE.get()
}

/// Whether an orphan has been noted since the last [`take_orphans`].
#[inline]
pub(crate) fn has_orphans() -> bool {
    NOTED.get()
}

pub(crate) fn take_orphans() -> Vec<Orphan> {
    NOTED.set(false);
    ORPHANS.with_borrow_mut(std::mem::take)
}

/// Drops a value that never reached a handler; asks inside it end with `why`, and a panic in its destructor ends here.
pub(crate) fn discard<T>(why: AskError, value: T) {
    let before = WHY.replace(why);
    if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
        tracing::error!(
            discarded = std::any::type_name::<T>(),
            "the destructor of a discarded value panicked"
        );
    }
    WHY.set(before);
}

#[cold]
fn orphaned(address: ReplyAddress) {
    let why = if std::thread::panicking() {
        Uncertainty::HandlerFailed.into()
    } else {
        WHY.get()
    };
    if ON_CORE.get() {
        NOTED.set(true);
        ORPHANS.with_borrow_mut(|orphans| orphans.push((address, why)));
        return;
    }
    send_home((address, why));
}

/// Ends an ask from a thread that is none of its runtime's cores.
pub(crate) fn send_home(orphan: Orphan) {
    let exit = EXITS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&orphan.0.runtime().0)
        .and_then(Weak::upgrade);
    if let Some(exit) = exit {
        exit.leave(orphan);
    }
}

/// How reply addresses that are dropped outside of the cores get home.
pub(crate) trait Exit: Send + Sync {
    fn leave(&self, orphan: Orphan);
}

static EXITS: RwLock<BTreeMap<u32, Weak<dyn Exit>>> = RwLock::new(BTreeMap::new());

pub(crate) fn open_exit(runtime: RuntimeId, exit: Weak<dyn Exit>) {
    EXITS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(runtime.0, exit);
}

pub(crate) fn close_exit(runtime: RuntimeId) {
    EXITS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&runtime.0);
}
