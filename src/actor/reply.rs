//! Reply addresses, and what happens to those that are dropped.
//!
//! A reply address travels inside a message of any shape, so the runtime cannot see it; it sees it being dropped. While
//! a core works, a dropped address is noted on the side and its core ends the ask as soon as the handler is through. The
//! note says why: because the runtime was discarding the message of an ask, which never had its turn (then the ask is
//! *rejected*), because it was discarding another message, to which a handler had passed the address on, or because a
//! handler let go of it (then the outcome is *unknown*). Dropped on any other thread, the address goes home through the
//! exit that its runtime has registered.

use super::guard::drop_guarded;
use super::refusal::{AskError, Rejection, Uncertainty};
use crate::base::ids::{CoreId, Incarnation};
use crate::wire::address::{Address, Life};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

    /// As other nodes name it.
    pub(crate) fn on_wire(self, life: Life) -> Address {
        Address {
            life,
            core: self.core(),
            table: self.table(),
            place: self.place,
        }
    }

    /// One of this runtime that another node has named; what it names it may have made up.
    pub(crate) fn from_wire(runtime: RuntimeId, address: Address) -> Self {
        let (slot, generation) = (address.place as u32, (address.place >> 32) as u32);
        ReplyAddress::new(runtime, address.core, address.table, slot, generation)
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

    #[inline]
    pub(crate) fn address(&self) -> ReplyAddress {
        self.address
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

/// What a message is to the reply addresses inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// Whoever sent it may have got them from messages that it handled.
    Plain,
    /// It is the message of an ask: its address goes out for the first time, and no handler has seen it.
    Ask,
}

/// A dropped reply address, and how its ask ends.
pub(crate) type Orphan = (ReplyAddress, AskError);

/// Who dropped an address.
#[derive(Clone, Copy)]
enum Dropped {
    /// Code of an actor or a future, while this was the number of the message that was handled last on this thread.
    During(u64),
    /// Somebody of whom it is known how the ask ends.
    EndsAs(AskError),
}

thread_local! {
    /// Set while this thread runs a core's turn: orphans are noted instead of sent.
    static ON_CORE: Cell<bool> = const { Cell::new(false) };
    static NOTED: Cell<bool> = const { Cell::new(false) };
    /// How asks end whose addresses are dropped now, where that is known.
    static WHY: Cell<Option<AskError>> = const { Cell::new(None) };
    static ORPHANS: RefCell<Vec<(ReplyAddress, Dropped)>> = const { RefCell::new(Vec::new()) };
    /// Addresses that another node has by now: dropped here, they end nothing. In order.
    static ENTRUSTED: RefCell<Vec<ReplyAddress>> = const { RefCell::new(Vec::new()) };
    /// Messages whose handling began on this thread.
    static HANDLED: Cell<u64> = const { Cell::new(0) };
}

/// Counts a message whose handling begins, so that what is dropped from now on is known to be dropped by its handler.
#[inline(always)]
pub(crate) fn count_handled() {
    HANDLED.set(HANDLED.get().wrapping_add(1));
}

/// How many messages have been counted on this thread.
#[inline(always)]
pub(crate) fn handled() -> u64 {
    HANDLED.get()
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

/// Has the core see to what it has to after somebody's code: an orphan, or a message that was lost in a panic.
pub(super) fn note() {
    NOTED.set(true);
}

/// Whether anything has been noted since the last [`take_orphans`].
#[inline]
pub(crate) fn has_orphans() -> bool {
    NOTED.get()
}

/// Takes what has been noted. `failed` says that the handler of the message that was counted last has failed, or its
/// actor: what they dropped themselves ends as failed.
pub(crate) fn take_orphans(failed: bool) -> Vec<Orphan> {
    NOTED.set(false);
    let failing = failed.then(handled);
    ORPHANS
        .with_borrow_mut(std::mem::take)
        .into_iter()
        .map(|(address, dropped)| match dropped {
            Dropped::EndsAs(why) => (address, why),
            Dropped::During(message) if failing == Some(message) => {
                (address, Uncertainty::HandlerFailed.into())
            }
            Dropped::During(_) => (address, Uncertainty::DroppedUnanswered.into()),
        })
        .collect()
}

/// Asks whose addresses are dropped while this code runs end with `why`, whoever runs it.
#[inline]
pub(crate) fn dropping_as<T>(why: AskError, work: impl FnOnce() -> T) -> T {
    struct Ends(Option<AskError>);
    impl Drop for Ends {
        fn drop(&mut self) {
            WHY.set(self.0);
        }
    }
    // Also by a panic: what is dropped later has nothing to do with it.
    let _ends = Ends(WHY.replace(Some(why)));
    work()
}

/// Drops a message of which another node has a copy by now, and with that these addresses, which are in order.
pub(super) fn dropping_entrusted<M>(addresses: &[ReplyAddress], message: M) {
    if addresses.is_empty() {
        return drop_guarded(message);
    }
    let before = ENTRUSTED.replace(addresses.to_vec());
    drop_guarded(message);
    ENTRUSTED.set(before);
}

/// Drops a value; asks inside it end with `why`, and a panic in its destructor ends here.
pub(crate) fn discard<T>(why: AskError, value: T) {
    dropping_as(why, || drop_guarded(value));
}

/// Drops a message, or what would have made one, that nobody will handle. Its own ask is rejected; those whose addresses
/// were passed on in it end as dropped, since handlers have seen them.
pub(crate) fn discard_message<M>(why: Rejection, envelope: Envelope, message: M) {
    // What has no destructor has no address in it either.
    if !std::mem::needs_drop::<M>() {
        return;
    }
    // Only on a core are addresses kept long enough to be counted.
    if envelope == Envelope::Plain || !on_core() {
        return discard(PASSED_ON, message);
    }
    let before = orphans();
    discard(why.into(), message);
    tell_apart(before);
}

/// How the ask of an address ends that was passed on.
const PASSED_ON: AskError = AskError::Unknown(Uncertainty::DroppedUnanswered);

fn orphans() -> usize {
    ORPHANS.with_borrow(Vec::len)
}

/// Of the addresses noted since there were so many, one is the message's own, since an ask puts it there; which of several
/// it is does not show, so nothing certain can be said of any.
fn tell_apart(before: usize) {
    ORPHANS.with_borrow_mut(|orphans| {
        if orphans.len() > before + 1 {
            for (_, dropped) in &mut orphans[before..] {
                *dropped = Dropped::EndsAs(PASSED_ON);
            }
        }
    });
}

#[cold]
pub(super) fn orphaned(address: ReplyAddress) {
    if ENTRUSTED.with_borrow(|entrusted| entrusted.binary_search(&address).is_ok()) {
        return;
    }
    let why = if std::thread::panicking() {
        Some(Uncertainty::HandlerFailed.into())
    } else {
        WHY.get()
    };
    if ON_CORE.get() {
        let dropped = why.map_or(Dropped::During(handled()), Dropped::EndsAs);
        note();
        ORPHANS.with_borrow_mut(|orphans| orphans.push((address, dropped)));
        return;
    }
    send_home((
        address,
        why.unwrap_or(Uncertainty::DroppedUnanswered.into()),
    ));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(slot: u32) -> ReplyAddress {
        ReplyAddress::new(RuntimeId(1), CoreId(2), 3, slot, 4)
    }

    fn reply_to(slot: u32) -> ReplyTo<()> {
        ReplyTo::new(address(slot))
    }

    fn orphans(failed: bool) -> Vec<(u32, AskError)> {
        assert!(has_orphans());
        let orphans = take_orphans(failed).into_iter();
        orphans
            .map(|(address, why)| (address.slot(), why))
            .collect()
    }

    const DROPPED: AskError = AskError::Unknown(Uncertainty::DroppedUnanswered);
    const FAILED: AskError = AskError::Unknown(Uncertainty::HandlerFailed);

    #[test]
    fn only_an_ask_that_is_alone_in_its_own_envelope_is_rejected() {
        let _on_core = enter_core();
        let why = Rejection::MailboxFull;
        drop(reply_to(0));
        discard_message(why, Envelope::Ask, (reply_to(1), "and something else"));
        discard_message(why, Envelope::Plain, reply_to(2));
        discard_message(why, Envelope::Ask, vec![reply_to(3), reply_to(4)]);
        discard_message(why, Envelope::Ask, ());
        discard_message(why, Envelope::Ask, reply_to(5));
        assert_eq!(
            orphans(true),
            [
                (0, FAILED),
                (1, why.into()),
                (2, DROPPED),
                (3, DROPPED),
                (4, DROPPED),
                (5, why.into()),
            ]
        );
        assert!(!has_orphans() && take_orphans(false).is_empty());
    }

    #[test]
    fn what_the_handler_of_an_earlier_message_dropped_has_not_failed() {
        let _on_core = enter_core();
        for failed in [false, true] {
            count_handled();
            drop(reply_to(0));
            count_handled();
            drop(reply_to(1));
            dropping_as(DROPPED, || drop(reply_to(2)));
            let last = if failed { FAILED } else { DROPPED };
            assert_eq!(orphans(failed), [(0, DROPPED), (1, last), (2, DROPPED)]);
        }
    }
}
