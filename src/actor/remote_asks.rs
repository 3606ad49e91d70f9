//! Asks of other nodes that are to be answered here.
//!
//! A reply address that comes in a message from another node becomes one of this core: it names an entry here, which knows
//! where the answer goes. So it can be kept, passed on, answered and dropped like any other, from any actor, future and
//! thread, and what is done with it comes back to this core by the ways that lead to the asks of the core itself. Only its
//! table tells it apart: [`REMOTE`] is no ask table's number.
//!
//! An address that travels on to yet another node goes as one of this core as well. The answer then comes by way of it.

use super::reply::ReplyAddress;
use crate::base::paged::Paged;
use crate::base::time::Time;
use crate::base::timer_wheel::TimerKey;
use crate::wire::address::{Address, Target};
use crate::wire::error::WriteError;
use crate::wire::header::Header;
use crate::wire::writer::FrameWriter;
use std::any::Any;

/// The table that the addresses of such asks name.
pub(crate) const REMOTE: u16 = u16::MAX;

const NIL: u32 = u32::MAX;

/// Writes a reply, which is of the type that the ask is for, into a frame of this header; what adapts the header sees it
/// when the reply has been archived.
pub(crate) type WriteReply = fn(
    &mut FrameWriter,
    &Header,
    &dyn Any,
    &mut dyn FnMut(&mut Header),
) -> Result<usize, WriteError>;

/// An ask of another node.
#[derive(Clone, Copy)]
pub(crate) struct RemoteAsk {
    /// Where the answer goes.
    pub(crate) origin: Address,
    /// Who was asked, in which epoch: the answer says so.
    pub(crate) target: Target,
    pub(crate) write: WriteReply,
    /// Forgets it when whoever asked has given up.
    pub(crate) timer: Option<TimerKey>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    next_free: u32,
    open: Option<RemoteAsk>,
}

/// The asks of other nodes that this core has been given. At most so many are open at once; what brings more is refused.
pub(crate) struct RemoteAsks {
    slots: Paged<Slot>,
    free: u32,
    fresh: u32,
    open: usize,
    limit: usize,
    /// Those that were opened since somebody last looked, and when they are to be forgotten.
    untimed: Vec<(u32, u32, Time)>,
}

impl RemoteAsks {
    pub(crate) fn new(limit: usize) -> RemoteAsks {
        RemoteAsks {
            slots: Paged::default(),
            free: NIL,
            fresh: 0,
            open: 0,
            limit,
            untimed: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open >= self.limit
    }

    /// Slot and generation of a new one, to be forgotten at that time; `None` if there are too many.
    pub(crate) fn open(&mut self, ask: RemoteAsk, until: Option<Time>) -> Option<(u32, u32)> {
        if self.is_full() {
            return None;
        }
        let index = if self.free == NIL {
            if self.fresh == self.slots.capacity() {
                self.slots.grow();
            }
            self.fresh += 1;
            self.fresh - 1
        } else {
            let index = self.free;
            self.free = self.slots[index].next_free;
            index
        };
        let slot = &mut self.slots[index];
        slot.open = Some(ask);
        self.open += 1;
        let place = (index, slot.generation);
        if let Some(until) = until {
            self.untimed.push((place.0, place.1, until));
        }
        Some(place)
    }

    /// Those for which a timer has yet to be set.
    pub(crate) fn take_untimed(&mut self) -> Vec<(u32, u32, Time)> {
        std::mem::take(&mut self.untimed)
    }

    pub(crate) fn set_timer(&mut self, slot: u32, generation: u32, timer: TimerKey) {
        let slot = self.slots.get_mut(slot);
        let slot = slot.filter(|slot| slot.generation == generation);
        if let Some(ask) = slot.and_then(|slot| slot.open.as_mut()) {
            ask.timer = Some(timer);
        }
    }

    pub(crate) fn is_open(&self, address: ReplyAddress) -> bool {
        let slot = self.slots.get(address.slot());
        slot.is_some_and(|slot| slot.generation == address.generation() && slot.open.is_some())
    }

    /// One that is open.
    pub(crate) fn get(&self, address: ReplyAddress) -> Option<RemoteAsk> {
        let slot = self.slots.get(address.slot());
        let slot = slot.filter(|slot| slot.generation == address.generation());
        slot?.open
    }

    /// Takes one out, unless it has ended before.
    pub(crate) fn take(&mut self, address: ReplyAddress) -> Option<RemoteAsk> {
        let slot = self.slots.get_mut(address.slot());
        let slot = slot.filter(|slot| slot.generation == address.generation())?;
        let ask = slot.open.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free;
        self.free = address.slot();
        self.open -= 1;
        Some(ask)
    }
}
