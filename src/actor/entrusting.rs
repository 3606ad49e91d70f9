//! Reply addresses on their way between nodes, while a message is archived and while one is read.
//!
//! A reply address lies anywhere in a message, so rkyv comes upon it, not the runtime; and what it comes upon it cannot
//! change. So whoever archives a message says so to the thread, and the addresses that are archived meanwhile are noted.
//! Only when the frame stands are they *handed over*: the message is dropped, and with it these addresses, which end
//! nothing any more. If the frame does not come about the message is as it was.
//!
//! Likewise whoever reads a message says for which core, and the addresses in it become addresses of asks of other nodes
//! there (`remote_asks`).

use super::refusal::{AskError, Rejection, Uncertainty};
use super::remote_asks::{REMOTE, RemoteAsk, RemoteAsks, WriteReply};
use super::reply::{self, ReplyAddress, RuntimeId};
use crate::base::ids::CoreId;
use crate::base::time::Time;
use crate::wire::address::{Address, Life, Target};
use std::cell::RefCell;
use std::rc::Rc;

/// Why a reply address was not archived, or not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEntrusted {
    /// It is archived in something that is no message to another node.
    #[error(
        "a reply address can only be archived in a message to another node, or in a reply to one"
    )]
    NoMessage,
    /// Its ask was opened in another runtime of this process.
    #[error("the reply address belongs to another runtime of this process")]
    OtherRuntime,
    /// It is read by somebody who is not handling a message from another node.
    #[error("a reply address can only be read by the handler of the message in which it came")]
    NoFrame,
    /// As many asks of other nodes are open on this core as may.
    #[error("too many asks of other nodes are open on this core")]
    TooMany,
}

/// A message is being archived.
struct Archiving {
    runtime: RuntimeId,
    life: Life,
    /// Asks of other nodes, which are named as they are named where they were opened, and the core that has been given them.
    relays: Option<Relays>,
    noted: Vec<ReplyAddress>,
}

/// The asks of other nodes that a core has been given.
pub(super) type Relays = (CoreId, Rc<RefCell<RemoteAsks>>);

/// A message is being read.
pub(crate) struct Reading {
    pub(crate) asks: Rc<RefCell<RemoteAsks>>,
    pub(crate) runtime: RuntimeId,
    pub(crate) life: Life,
    pub(crate) core: CoreId,
    pub(crate) cores: usize,
    /// Who is asked, in which epoch.
    pub(crate) target: Target,
    /// When whoever asks has given up for certain.
    pub(crate) until: Option<Time>,
    /// The message is that of an ask, whose address no handler has seen; others that are read have been passed on by one.
    pub(crate) is_ask: bool,
    /// The reply address that the header names, until it has been read.
    pub(crate) own: Option<Address>,
    /// The asks that have been opened for what was read.
    pub(crate) opened: Vec<ReplyAddress>,
}

thread_local! {
    static ARCHIVING: RefCell<Option<Archiving>> = const { RefCell::new(None) };
    static READING: RefCell<Option<Reading>> = const { RefCell::new(None) };
}

/// Archives with `work`; the reply addresses that went into the archive come out beside its result. While it runs,
/// [`noted`] tells them.
pub(crate) fn archiving<T>(
    runtime: RuntimeId,
    life: Life,
    work: impl FnOnce() -> T,
) -> (T, Vec<ReplyAddress>) {
    archiving_through(runtime, life, None, work)
}

/// The same; asks of other nodes are named so that their answers go straight to where they were opened.
pub(super) fn archiving_through<T>(
    runtime: RuntimeId,
    life: Life,
    relays: Option<Relays>,
    work: impl FnOnce() -> T,
) -> (T, Vec<ReplyAddress>) {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            ARCHIVING.set(None);
        }
    }
    // Written where it stays: each message comes by here, and what is set by value is copied more than once.
    ARCHIVING.with_borrow_mut(|archiving| {
        *archiving = Some(Archiving {
            runtime,
            life,
            relays,
            noted: Vec::new(),
        });
    });
    let ends = Ends;
    let result = work();
    let noted = ARCHIVING.with_borrow_mut(|archiving| {
        let noted = archiving.as_mut().map(|it| std::mem::take(&mut it.noted));
        *archiving = None;
        noted.unwrap_or_default()
    });
    // Only a panic of the work has left something.
    std::mem::forget(ends);
    (result, noted)
}

/// How many reply addresses have gone into the archive so far, and the first of them.
pub(crate) fn noted() -> (usize, Option<ReplyAddress>) {
    ARCHIVING.with_borrow(|archiving| {
        let noted = archiving.as_ref().map_or(&[][..], |it| &it.noted);
        (noted.len(), noted.first().copied())
    })
}

/// Notes a reply address that goes into an archive; what stands for it there.
pub(super) fn note_archived(address: ReplyAddress) -> Result<Address, NotEntrusted> {
    ARCHIVING.with_borrow_mut(|archiving| {
        let archiving = archiving.as_mut().ok_or(NotEntrusted::NoMessage)?;
        if address.runtime() != archiving.runtime {
            return Err(NotEntrusted::OtherRuntime);
        }
        archiving.noted.push(address);
        let relayed = archiving.relays.as_ref().and_then(|(core, asks)| {
            let is_theirs = address.table() == REMOTE && address.core() == *core;
            is_theirs.then(|| asks.borrow().get(address)).flatten()
        });
        Ok(relayed.map_or_else(|| address.on_wire(archiving.life), |ask| ask.origin))
    })
}

/// Drops a message whose frame stands: the addresses that were noted end nothing.
pub(crate) fn drop_handed_over<M>(noted: &mut [ReplyAddress], message: M) {
    noted.sort_unstable();
    reply::dropping_entrusted(noted, message);
}

/// Reads with `work`. The second result is the reply address of the header, if it has not been read.
pub(crate) fn reading<T>(reading: Reading, work: impl FnOnce() -> T) -> (T, Option<Address>) {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            READING.set(None);
        }
    }
    READING.with_borrow_mut(|place| *place = Some(reading));
    let ends = Ends;
    let result = work();
    let own = READING.with_borrow_mut(|reading| {
        let own = reading.as_ref().and_then(|reading| reading.own);
        *reading = None;
        own
    });
    std::mem::forget(ends);
    (result, own)
}

/// The address of this core that stands for one that was read.
pub(super) fn open_read(origin: Address, write: WriteReply) -> Result<ReplyAddress, NotEntrusted> {
    READING.with_borrow_mut(|reading| {
        let reading = reading.as_mut().ok_or(NotEntrusted::NoFrame)?;
        let (core, runtime) = (reading.core, reading.runtime);
        // One of this node has come home.
        if origin.life == reading.life && origin.core.index() < reading.cores {
            if reading.own == Some(origin) {
                reading.own = None;
            }
            return Ok(ReplyAddress::from_wire(runtime, origin));
        }
        let ask = RemoteAsk {
            origin,
            target: reading.target,
            write,
            timer: None,
        };
        let opened = reading.asks.borrow_mut().open(ask, reading.until);
        let (slot, generation) = opened.ok_or(NotEntrusted::TooMany)?;
        if reading.own == Some(origin) {
            reading.own = None;
        }
        let address = ReplyAddress::new(runtime, core, REMOTE, slot, generation);
        reading.opened.push(address);
        Ok(address)
    })
}

/// How the asks end whose addresses are in a message that cannot be read, and that no handler gets.
pub(super) fn why_unread() -> AskError {
    if READING.with_borrow(|it| it.as_ref().is_some_and(|it| it.is_ask)) {
        Rejection::Unreadable.into()
    } else {
        Uncertainty::DroppedUnanswered.into()
    }
}

/// Reads a value with `read`, inside [`reading`]. If that fails half-way, the reply addresses that were read are let go, and
/// their asks end with `why`: what lies in a half-made value is not always dropped.
pub(super) fn read_whole<T, E>(why: AskError, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    struct LetsGo(Option<usize>);
    impl Drop for LetsGo {
        fn drop(&mut self) {
            let Some(before) = self.0 else { return };
            let opened = READING.with_borrow_mut(|reading| {
                let opened = reading.as_mut().map(|it| &mut it.opened);
                opened.map_or_else(Vec::new, |opened| opened.split_off(before))
            });
            opened.into_iter().for_each(reply::orphaned);
        }
    }
    let before = READING.with_borrow(|it| it.as_ref().map_or(0, |it| it.opened.len()));
    reply::dropping_as(why, || {
        let mut lets_go = LetsGo(Some(before));
        let result = read();
        if result.is_ok() {
            lets_go.0 = None;
        }
        result
    })
}
