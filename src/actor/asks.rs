//! Open asks: who waits for which reply, and what happens when it comes, fails to come, or comes too late.
//!
//! A core keeps the asks that started on it in one table per reply type. An ask ends exactly once: by its reply, by its
//! deadline, or because its reply address was dropped.

use super::batch::{Batch, Outgoing, ReplyBatch};
use super::guard::guarded;
use super::local::{Extra, Local, TimerEvent};
use super::lost::take_unwound;
use super::mailbox::Stored;
use super::outbox::OpenBatch;
use super::reference::{Destination, Receiver};
use super::refusal::{AskError, Rejection, Uncertainty};
use super::remote_asks::REMOTE;
use super::reply::{self, Envelope, ReplyAddress, ReplyTo, discard, discard_message};
use super::typed::{AsAny, TypedBox};
use crate::base::ids::CoreId;
use crate::base::paged::Paged;
use crate::base::time::Time;
use crate::base::timer_wheel::TimerKey;
use crate::wire::message::Message;
use std::any::{TypeId, type_name};
use std::time::Duration;

/// What to do with the outcome of an ask.
pub(crate) type Sink<R> = Box<dyn FnOnce(&mut Local, Result<R, AskError>)>;

/// An ask that has ended: its timer, and what is to be called.
pub(crate) type Ended = (TimerKey, Box<dyn FnOnce(&mut Local)>);

/// An ask that ends without a reply.
pub(crate) type Failure = (ReplyAddress, AskError);

const NIL: u32 = u32::MAX;

struct AskSlot<R> {
    generation: u32,
    next_free: u32,
    open: Option<(Sink<R>, TimerKey)>,
}

impl<R> Default for AskSlot<R> {
    fn default() -> Self {
        AskSlot {
            generation: 0,
            next_free: NIL,
            open: None,
        }
    }
}

/// The open asks for replies of one type, and the replies of that type on their way to other cores.
pub(crate) struct AskTable<R> {
    slots: Paged<AskSlot<R>>,
    free: u32,
    fresh: u32,
    pub(crate) outgoing: Outgoing<ReplyBatch<R>>,
}

impl<R: Message> AskTable<R> {
    fn take(&mut self, address: ReplyAddress) -> Option<(Sink<R>, TimerKey)> {
        let slot = self
            .slots
            .get_mut(address.slot())
            .filter(|slot| slot.generation == address.generation())?;
        let open = slot.open.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free;
        self.free = address.slot();
        Some(open)
    }

    fn vacant(&mut self) -> u32 {
        if self.free != NIL {
            let index = self.free;
            self.free = self.slots[index].next_free;
            return index;
        }
        if self.fresh == self.slots.capacity() {
            self.slots.grow();
        }
        self.fresh += 1;
        self.fresh - 1
    }
}

/// An ask table whatever its reply type.
pub(crate) trait AnyAskTable: AsAny {
    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>>;

    /// Ends an ask without a reply; what is to be called, unless it has ended before.
    fn fail(&mut self, address: ReplyAddress, why: AskError) -> Option<Ended>;

    /// The timer of an ask that is open.
    fn deadline(&self, address: ReplyAddress) -> Option<TimerKey>;

    /// Gives an ask that is open another timer. Returns the one that it had, or the new one if it has ended.
    fn retime(&mut self, address: ReplyAddress, timer: TimerKey) -> TimerKey;

    /// The addresses of all open asks.
    fn open(&self, table: u16, runtime: super::reply::RuntimeId, core: CoreId)
    -> Vec<ReplyAddress>;
}

impl<R: Message> AnyAskTable for AskTable<R> {
    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>> {
        self.outgoing.seal(to).map(|batch| batch as Box<dyn Batch>)
    }

    fn fail(&mut self, address: ReplyAddress, why: AskError) -> Option<Ended> {
        let (sink, timer) = self.take(address)?;
        Some((timer, Box::new(move |local| sink(local, Err(why)))))
    }

    fn deadline(&self, address: ReplyAddress) -> Option<TimerKey> {
        let slot = self.slots.get(address.slot())?;
        let slot = (slot.generation == address.generation()).then_some(slot)?;
        slot.open.as_ref().map(|(_, timer)| *timer)
    }

    fn retime(&mut self, address: ReplyAddress, timer: TimerKey) -> TimerKey {
        let slot = self.slots.get_mut(address.slot());
        let slot = slot.filter(|slot| slot.generation == address.generation());
        match slot.and_then(|slot| slot.open.as_mut()) {
            Some((_, of_ask)) => std::mem::replace(of_ask, timer),
            None => timer,
        }
    }

    fn open(
        &self,
        table: u16,
        runtime: super::reply::RuntimeId,
        core: CoreId,
    ) -> Vec<ReplyAddress> {
        (0..self.fresh)
            .filter(|slot| self.slots[*slot].open.is_some())
            .map(|slot| ReplyAddress::new(runtime, core, table, slot, self.slots[slot].generation))
            .collect()
    }
}

impl Local {
    /// The table for replies of a type, and its number.
    pub(crate) fn ask_table_mut<R: Message>(&mut self) -> (u16, &mut AskTable<R>) {
        let wanted = TypeId::of::<R>();
        let number = match self.last_ask_table {
            Some((known, number)) if known == wanted => number,
            _ => self.find_ask_table::<R>(wanted),
        };
        let table = self.ask_tables[usize::from(number)].get_mut();
        (
            number,
            table.unwrap_or_else(|| unreachable!("tables are numbered by type")),
        )
    }

    #[cold]
    #[inline(never)]
    fn find_ask_table<R: Message>(&mut self, wanted: TypeId) -> u16 {
        let number = *self.ask_table_ids.entry(wanted).or_insert_with(|| {
            let table = AskTable::<R> {
                slots: Paged::default(),
                free: NIL,
                fresh: 0,
                outgoing: Outgoing::new(self.port.cores()),
            };
            self.ask_tables.push(TypedBox::new(Box::new(table)));
            (self.ask_tables.len() - 1) as u16
        });
        self.last_ask_table = Some((wanted, number));
        number
    }

    /// Sends a message with a reply address in it; `sink` gets the outcome, now or later, exactly once.
    pub(crate) fn ask<D: Destination, R: Message>(
        &mut self,
        to: D,
        within: Duration,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
        sink: Sink<R>,
    ) {
        match self.open_ask(within, sink) {
            Ok(reply_to) => {
                let own = reply_to.address();
                if let Err(refused) = to.deliver(self, make(reply_to), Some(Extra::Ask)) {
                    self.counters.count_refusal(refused.why);
                    self.fail_ask(own, refused.why.into());
                    // Its own address ends nothing any more; others in it were passed on.
                    discard_message(refused.why, Envelope::Plain, refused.message);
                }
            }
            Err((why, sink)) => {
                self.counters.count_refusal(why);
                sink(self, Err(why.into()));
                discard_message(why, Envelope::Plain, make);
            }
        }
    }

    pub(crate) fn open_ask<R: Message>(
        &mut self,
        within: Duration,
        sink: Sink<R>,
    ) -> Result<ReplyTo<R>, (Rejection, Sink<R>)> {
        if self.open_asks >= self.limits.asks {
            return Err((Rejection::TooManyAsks, sink));
        }
        self.open_asks += 1;
        self.counters.asks += 1;
        let (runtime, core, deadline) = (self.runtime, self.core, self.now + within);
        let number = self.ask_table_mut::<R>().0;
        let Some(table) = self.ask_tables[usize::from(number)].get_mut::<AskTable<R>>() else {
            unreachable!("tables are numbered by type")
        };
        let slot = table.vacant();
        let place = &mut table.slots[slot];
        let address = ReplyAddress::new(runtime, core, number, slot, place.generation);
        let timer = self.timers.insert(deadline, TimerEvent::Ask(address));
        place.open = Some((sink, timer));
        Ok(ReplyTo::new(address))
    }

    /// Has an ask end at this time, if it is open then. That of another core, which knows nothing of it, is told by this one.
    pub(super) fn end_ask_by(&mut self, address: ReplyAddress, deadline: Time) {
        if address.core() != self.core {
            self.timers.insert(deadline, TimerEvent::Ask(address));
            return;
        }
        let table = self.ask_tables.get_mut(usize::from(address.table()));
        if let Some(table) = table {
            let timer = self.timers.insert(deadline, TimerEvent::Ask(address));
            let spare = table.retime(address, timer);
            self.timers.cancel(spare);
        }
    }

    /// Answers an ask.
    #[inline]
    pub(crate) fn reply<R: Message>(&mut self, to: ReplyTo<R>, reply: R) {
        let address = to.disarm();
        if address.runtime() != self.runtime {
            // An ask of another runtime of this process: it cannot be answered from here, only ended.
            super::reply::send_home((address, Uncertainty::RuntimeGone.into()));
            self.lose_reply::<R>(Rejection::OldIncarnation);
            discard_message(Rejection::OldIncarnation, Envelope::Plain, reply);
            return;
        }
        if address.core() == self.core {
            self.complete_ask(address, Ok(reply));
            return;
        }
        let to = address.core();
        let limit = self.limits.batch_messages;
        let (number, table) = self.ask_table_mut::<R>();
        let (batch, opened) = table.outgoing.open(to);
        batch.items.push((address, reply));
        let full = batch.items.len() >= limit;
        if opened {
            self.outbox[to.index()].open.push(OpenBatch::Asks(number));
        }
        if full {
            self.seal(to, OpenBatch::Asks(number));
        }
    }

    /// Ends an ask of this core with its reply. One that has ended before drops the reply, and counts it.
    #[inline]
    pub(crate) fn complete_ask<R: Message>(
        &mut self,
        address: ReplyAddress,
        outcome: Result<R, AskError>,
    ) {
        let table = self.ask_tables.get_mut(usize::from(address.table()));
        let ended = table
            .and_then(|table| table.get_mut::<AskTable<R>>())
            .and_then(|table| table.take(address));
        match ended {
            Some((sink, timer)) => {
                self.open_asks -= 1;
                self.timers.cancel(timer);
                self.settle(|local| sink(local, outcome));
            }
            None if address.table() == REMOTE => self.answer(address, outcome),
            None => {
                self.lose_reply::<R>(Rejection::LateReply);
                discard(Uncertainty::DroppedUnanswered.into(), outcome);
            }
        }
    }

    /// A reply that nobody takes is a dead letter; a receipt is no message.
    #[cold]
    #[inline(never)]
    pub(super) fn lose_reply<R: Message>(&mut self, why: Rejection) {
        if TypeId::of::<R>() != TypeId::of::<Stored>() {
            self.note_dead_letter(Receiver::Unknown, why, type_name::<R>());
        }
    }

    /// Hands an outcome over. What it is for catches its own panics; what is left is a destructor of the reply's type.
    fn settle(&mut self, end: impl FnOnce(&mut Local)) {
        if let Err(panic) = guarded(|| end(self)) {
            tracing::error!(core = %self.core, panic, "the end of an ask panicked");
        }
    }

    /// Ends an ask without a reply, wherever it was opened.
    pub(crate) fn fail_ask(&mut self, address: ReplyAddress, why: AskError) {
        if address.runtime() != self.runtime {
            super::reply::send_home((address, why));
        } else if address.core() == self.core {
            let ended = self
                .ask_tables
                .get_mut(usize::from(address.table()))
                .and_then(|table| table.fail(address, why));
            if let Some((timer, end)) = ended {
                self.open_asks -= 1;
                self.timers.cancel(timer);
                self.settle(end);
            } else if address.table() == REMOTE {
                self.fail_remote_ask(address, why);
            }
        } else {
            let to = address.core();
            let (batch, opened) = self.failures.open(to);
            batch.items.push((address, why));
            let full = batch.items.len() >= self.limits.batch_messages;
            if opened {
                self.outbox[to.index()].open.push(OpenBatch::Failures);
            }
            if full {
                self.seal(to, OpenBatch::Failures);
            }
        }
    }

    /// Ends the asks whose reply addresses have been dropped on this thread, and makes dead letters of the messages that
    /// panics of their receivers' ids have taken down. `failed` says that the last handler failed, or its actor, and with
    /// it what they dropped.
    #[cold]
    pub(crate) fn settle_orphans(&mut self, failed: bool) {
        // Ending an ask may drop further addresses.
        while reply::has_orphans() {
            for (address, why) in reply::take_orphans(failed) {
                self.fail_ask(address, why);
            }
            for message in take_unwound() {
                self.note_dead_letter(Receiver::Unknown, Rejection::StartFailed, message);
            }
        }
    }

    /// Ends every open ask of this core; for its end.
    pub(crate) fn end_all_asks(&mut self, why: Uncertainty) {
        for number in 0..self.ask_tables.len() {
            for address in self.ask_tables[number].open(number as u16, self.runtime, self.core) {
                self.fail_ask(address, why.into());
            }
        }
    }
}
