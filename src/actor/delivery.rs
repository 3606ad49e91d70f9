//! How messages get from a call into a mailbox, and out of it again.
//!
//! What every message passes is inlined, so that it is written straight from the handler that sends it into the mailbox;
//! everything that is rare is out of line.

use super::batch::{ActorBatch, Note};
use super::budget::Budget;
use super::cell::Cell;
use super::local::{Extra, Local, MailboxOps, Room, downcast_class};
use super::mailbox::{Mail, MailPool, Policy, Queue, Stored, Waiting};
use super::outbox::OpenBatch;
use super::reference::{ActorRef, CellRef, Destination, Receiver};
use super::refusal::{Refused, Rejection};
use super::reply::{Envelope, discard, discard_message};
use super::trace::{TraceEvent, digest};
use crate::base::ids::CoreId;
use crate::wire::message::Message;

/// A mailbox in which something waits.
pub(crate) struct WaitingMail<'a, M> {
    pool: &'a mut MailPool<M>,
    queue: &'a mut Queue,
    queued: &'a mut Budget,
}

impl<M> WaitingMail<'_, M> {
    /// Whether a stop comes next.
    #[inline(always)]
    pub(crate) fn stops_next(&self) -> bool {
        self.pool.stops_next(self.queue)
    }

    /// Takes the message that comes next.
    ///
    /// # Panics
    /// If a stop does.
    #[inline(always)]
    pub(crate) fn take(self) -> M {
        let queued = self.queued;
        self.pool
            .pop_message(self.queue, |bytes| queued.remove(bytes))
    }
}

impl Local {
    /// Drops a message that nobody will handle: it is a dead letter.
    #[cold]
    #[inline(never)]
    pub(crate) fn dead_letter<M: Message>(
        &mut self,
        receiver: Receiver<'_>,
        why: Rejection,
        envelope: Envelope,
        message: M,
    ) {
        self.note_dead_letter(receiver, why, std::any::type_name::<M>());
        discard_message(why, envelope, message);
    }

    /// Counts, logs and publishes that a message of this type will be handled by nobody.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_dead_letter(
        &mut self,
        receiver: Receiver<'_>,
        why: Rejection,
        message: &'static str,
    ) {
        self.counters.dead_letters[why as usize] += 1;
        self.trace(TraceEvent::DeadLetter { why });
        tracing::debug!(core = %self.core, %why, message, "dead letter");
        if self.events.dead_letters.is_wanted() {
            self.publish_dead_letter(receiver, why, message);
        }
    }

    /// Sends, and makes a refused message a dead letter.
    #[inline(always)]
    pub(crate) fn tell<D: Destination>(&mut self, to: D, message: D::Msg) {
        to.tell(self, message);
    }

    /// Sends to an actor. Of the address no more is kept at hand for the case that the message is refused than where it is
    /// refused, since every message would pay for it.
    #[inline(always)]
    pub(crate) fn tell_actor<M: Message>(&mut self, to: ActorRef<M>, message: M) {
        if to.home != self.home {
            return self.tell_elsewhere(to.receiver(), message);
        }
        if to.core == self.core {
            if let Err(refused) = self.store(to.cell, message, None, Room::Bounded) {
                self.undelivered(self.core, to.cell, refused);
            }
        } else if let Err(refused) = self.post(to, message, None) {
            self.undelivered(to.core, to.cell, refused);
        }
    }

    /// Drops a refused message to an actor of this runtime.
    #[cold]
    #[inline(never)]
    fn undelivered<M: Message>(&mut self, core: CoreId, cell: CellRef, refused: Refused<M>) {
        let receiver = Receiver::Actor(self.home, core, cell);
        self.dead_letter(receiver, refused.why, Envelope::Plain, refused.message);
    }

    #[inline(always)]
    pub(crate) fn deliver_to_actor<M: Message>(
        &mut self,
        to: ActorRef<M>,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        if to.home != self.home {
            return self.send_elsewhere(to.receiver(), message, extra);
        }
        if to.core == self.core {
            self.store(to.cell, message, extra, Room::Bounded)
        } else {
            self.post(to, message, extra)
        }
    }

    /// Takes a message that came through a lane.
    #[inline]
    pub(crate) fn accept<M: Message>(&mut self, to: CellRef, message: M, extra: Option<Extra>) {
        let envelope = Extra::envelope(&extra);
        if let Err(refused) = self.store(to, message, extra, Room::FromLane) {
            let receiver = Receiver::Actor(self.home, self.core, to);
            self.dead_letter(receiver, refused.why, envelope, refused.message);
        }
    }

    /// Puts a message into a mailbox of this core. Everything that is rare is out of line, so that a message is written
    /// straight from the handler that sends it into the mailbox.
    #[inline(always)]
    pub(crate) fn store<M: Message>(
        &mut self,
        to: CellRef,
        message: M,
        extra: Option<Extra>,
        room: Room,
    ) -> Result<(), Refused<M>> {
        let has_room = self.has_room();
        let Some(cell) = self.cells.get(to) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        let is_full = cell.queue.len() >= cell.capacity || cell.has_waiting;
        if room != Room::Reserved && is_full || room == Room::Bounded && !has_room {
            return self.store_when_full(to, message, extra);
        }
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        let envelope = Extra::envelope(&extra);
        let bytes = class.pool.push(&mut cell.queue, message, envelope);
        self.queued.add(bytes);
        if !cell.scheduled {
            cell.scheduled = true;
            self.ready.push_back(to);
        }
        if let Some(Extra::Acknowledge(stored)) = extra {
            self.reply(stored, Stored);
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn store_when_full<M: Message>(
        &mut self,
        to: CellRef,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        let Some(cell) = self.cells.get(to) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        if cell.queue.len() < cell.capacity && !cell.has_waiting {
            return Err(refuse(Rejection::CoreBudget, message, extra));
        }
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        match (cell.intake.policy(), extra) {
            (Policy::DropOldest, extra) => {
                // A stop is never dropped. It comes next, so nothing behind it will be handled.
                if class.pool.stops_next(&cell.queue) {
                    return Err(refuse(Rejection::Stopped, message, extra));
                }
                if let Some((Mail::User(oldest), envelope)) = self.next_sealed::<M>(to) {
                    let receiver = Receiver::Actor(self.home, self.core, to);
                    self.dead_letter(receiver, Rejection::Evicted, envelope, oldest);
                }
                self.store(to, message, extra, Room::Reserved)
            }
            (Policy::Backpressure, Some(Extra::Acknowledge(stored))) => {
                let waiting = class.pool.waiting.entry(to.slot()).or_default();
                if waiting.len() >= cell.waiters as usize {
                    return Err(refuse(
                        Rejection::MailboxFull,
                        message,
                        Some(Extra::Acknowledge(stored)),
                    ));
                }
                waiting.push_back(Waiting { message, stored });
                cell.has_waiting = true;
                Ok(())
            }
            (_, extra) => {
                let why = self.why_full_at(to, Rejection::MailboxFull);
                Err(refuse(why, message, extra))
            }
        }
    }

    /// The mailbox of an actor, if something waits in it.
    #[inline(always)]
    pub(crate) fn waiting_mail<M: Message>(&mut self, at: CellRef) -> Option<WaitingMail<'_, M>> {
        let cell = self.cells.get(at).filter(|cell| !cell.queue.is_empty())?;
        let class = downcast_class::<M>(&mut self.classes, cell.class)?;
        Some(WaitingMail {
            pool: &mut class.pool,
            queue: &mut cell.queue,
            queued: &mut self.queued,
        })
    }

    /// What comes next in the mailbox of an actor, in its envelope.
    pub(crate) fn next_sealed<M: Message>(&mut self, at: CellRef) -> Option<(Mail<M>, Envelope)> {
        let WaitingMail {
            pool,
            queue,
            queued,
        } = self.waiting_mail::<M>(at)?;
        let (mail, envelope, bytes) = pool.pop(queue)?;
        queued.remove(bytes);
        Some((mail, envelope))
    }

    /// Everything that waits for an actor but the stops, in its envelopes.
    fn take_mailbox<M: Message>(&mut self, at: CellRef) -> Vec<(Envelope, M)> {
        std::iter::from_fn(|| self.next_sealed::<M>(at))
            .filter_map(|(mail, envelope)| match mail {
                Mail::User(message) => Some((envelope, message)),
                Mail::Stop => None,
            })
            .collect()
    }

    /// Records the delivery of the message that an actor handles next. It looks at the message in its mailbox: with the
    /// message at hand, the code that would drop it if this failed makes every delivery slower.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_next<M: Message>(&mut self, at: CellRef, actor: &'static str) {
        let Some(cell) = self.cells.get(at) else {
            return;
        };
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return;
        };
        if let Some(message) = class.pool.first(&cell.queue) {
            let digest = digest(message);
            self.trace(TraceEvent::Deliver {
                to: at,
                actor,
                digest,
            });
        }
    }

    /// Records the delivery of the message that an actor handles next straight from a batch. It looks at the message in
    /// there: if rendering it panics, it is not lost.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_arrival<M: Message>(
        &mut self,
        to: CellRef,
        actor: &'static str,
        batch: &mut ActorBatch<M>,
    ) {
        if let Some((_, message)) = batch.items.front() {
            let digest = digest(message);
            self.trace(TraceEvent::Deliver { to, actor, digest });
        }
    }

    /// Records that an actor handles a message of another node where it lies.
    #[cold]
    #[inline(never)]
    pub(super) fn trace_frame(&mut self, to: CellRef, actor: &'static str, payload: &[u8]) {
        let digest = crate::base::stable_hash::stable_hash(payload);
        self.trace(TraceEvent::Deliver { to, actor, digest });
    }

    /// Records the delivery of a tick.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_tick<M: Message>(&mut self, to: CellRef, actor: &'static str, tick: &M) {
        let digest = digest(tick);
        self.trace(TraceEvent::Deliver { to, actor, digest });
    }

    /// Lets awaited sends in, first come first served, as far as the mailbox has room.
    #[cold]
    #[inline(never)]
    pub(crate) fn admit_waiting<M: Message>(&mut self, at: CellRef) {
        while let Some(cell) = self.cells.get(at)
            && cell.queue.len() < cell.capacity
            && self.admit_first_waiting::<M>(at)
        {}
    }

    /// Lets all awaited sends in, whether the mailbox has room or not: for what must come behind them and cannot wait.
    #[cold]
    #[inline(never)]
    pub(super) fn admit_all_waiting<M: Message>(&mut self, at: CellRef) {
        while self.admit_first_waiting::<M>(at) {}
    }

    fn admit_first_waiting<M: Message>(&mut self, at: CellRef) -> bool {
        let Some(cell) = self.cells.get(at).filter(|cell| cell.has_waiting) else {
            return false;
        };
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return false;
        };
        let waiting = class.pool.waiting.entry(at.slot()).or_default();
        let first = waiting.pop_front();
        if waiting.is_empty() {
            class.pool.waiting.remove(&at.slot());
            cell.has_waiting = false;
        }
        if let Some(Waiting { message, stored }) = first {
            self.accept_reserved(at, message, Some(Extra::Acknowledge(stored)));
        }
        true
    }

    /// Stores a message whose room is reserved; only an actor that is gone can refuse it.
    pub(crate) fn accept_reserved<M: Message>(
        &mut self,
        to: CellRef,
        message: M,
        extra: Option<Extra>,
    ) {
        let envelope = Extra::envelope(&extra);
        if let Err(refused) = self.store(to, message, extra, Room::Reserved) {
            let receiver = Receiver::Actor(self.home, self.core, to);
            self.dead_letter(receiver, refused.why, envelope, refused.message);
        }
    }

    /// What can be done to the mailbox of a cell without knowing its message type.
    pub(super) fn mailbox_ops(&mut self, at: CellRef) -> Option<MailboxOps> {
        let class = self.cells.get(at)?.class;
        Some(self.classes.get(usize::from(class))?.mailbox_ops())
    }

    /// [`admit_waiting`](Local::admit_waiting) for any mailbox.
    #[cold]
    pub(super) fn let_waiting_in(&mut self, at: CellRef) {
        if let Some(ops) = self.mailbox_ops(at) {
            (ops.admit_waiting)(self, at);
        }
    }

    /// [`discard_mailbox`](Local::discard_mailbox) for any mailbox.
    pub(crate) fn discard_mail(&mut self, at: CellRef, why: Rejection) {
        let is_empty = |cell: &mut Cell| cell.queue.is_empty() && !cell.has_waiting;
        if self.cells.get(at).is_none_or(is_empty) {
            return;
        }
        if let Some(ops) = self.mailbox_ops(at) {
            (ops.discard)(self, at, why);
        }
    }

    /// Stops an actor behind the messages that it has. Stopping it again does nothing: only the first stop takes room.
    pub(crate) fn stop_in_order<M: Message>(&mut self, at: CellRef) {
        let Some(cell) = self.cells.get(at) else {
            return;
        };
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return;
        };
        if cell.intake.note_stop() {
            return;
        }
        self.queued.add(class.pool.push_stop(&mut cell.queue));
        if !cell.scheduled {
            cell.scheduled = true;
            self.ready.push_back(at);
        }
    }

    /// Takes back the stop that lies in a mailbox, if one does: the life for which it was has ended.
    pub(crate) fn withdraw_stop<M: Message>(&mut self, at: CellRef) {
        let Some(cell) = self.cells.get(at) else {
            return;
        };
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return;
        };
        if !cell.intake.forget_stop() {
            return;
        }
        for _ in 0..cell.queue.len() {
            let Some((mail, envelope, bytes)) = class.pool.pop(&mut cell.queue) else {
                break;
            };
            self.queued.remove(bytes);
            if let Mail::User(message) = mail {
                let bytes = class.pool.push(&mut cell.queue, message, envelope);
                self.queued.add(bytes);
            }
        }
    }

    /// Asks an actor to stop once it has handled what was sent to it before. A stop must not be lost, so it is not
    /// refused when the outbox is full; but it counts there, and a second one for the same actor takes no room.
    pub(crate) fn stop_actor_in_order<M: Message>(&mut self, to: ActorRef<M>) {
        if to.home != self.home {
            if self.is_given_home(to.home) {
                return self.stop_actor_in_order(ActorRef::<M>::new(self.home, to.core, to.cell));
            }
            return self.stop_elsewhere(to.into());
        }
        if to.core.index() >= self.outbox.len() {
            return;
        }
        if to.core == self.core {
            self.stop_in_order::<M>(to.cell);
        } else if self.outbox[to.core.index()].admit_stop(to.cell) {
            let limit = self.limits.batch_messages;
            let class = self.class_id::<M>();
            let (batch, opened) = self.class_mut::<M>().outgoing.open(to.core);
            batch
                .notes
                .push((batch.items.len() as u32, Note::Stop(to.cell)));
            let full = batch.items.len() + batch.notes.len() >= limit;
            if opened {
                self.outbox[to.core.index()]
                    .open
                    .push(OpenBatch::Class(class));
            }
            if full {
                self.seal(to.core, OpenBatch::Class(class));
            }
        }
    }

    /// Puts a message for another core into the outbox.
    #[inline(always)]
    fn post<M: Message>(
        &mut self,
        to: ActorRef<M>,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        let Some(target) = self.outbox.get_mut(to.core.index()) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        if target.messages >= self.limits.outbox_messages {
            return Err(refuse(Rejection::OutboxFull, message, extra));
        }
        target.messages += 1;
        let limit = self.limits.batch_messages;
        let class = self.class_id::<M>();
        let Some(table) = downcast_class::<M>(&mut self.classes, class) else {
            unreachable!("classes are numbered by type")
        };
        let (batch, opened) = table.outgoing.open(to.core);
        let address = to.cell.on(Extra::envelope(&extra));
        if let Some(Extra::Acknowledge(stored)) = extra {
            batch
                .notes
                .push((batch.items.len() as u32, Note::Acknowledge(stored)));
        }
        batch.items.push((address, message));
        let full = batch.items.len() >= limit;
        if opened {
            self.outbox[to.core.index()]
                .open
                .push(OpenBatch::Class(class));
        }
        if full {
            self.seal(to.core, OpenBatch::Class(class));
        }
        Ok(())
    }

    /// Drops what waits in the mailbox of a cell as dead letters.
    pub(crate) fn discard_mailbox<M: Message>(&mut self, at: CellRef, why: Rejection) {
        let mut rejected = self.take_mailbox::<M>(at);
        if let Some(cell) = self.cells.get(at)
            && std::mem::take(&mut cell.has_waiting)
            && let Some(class) = downcast_class::<M>(&mut self.classes, cell.class)
        {
            for waiting in class.pool.waiting.remove(&at.slot()).into_iter().flatten() {
                let receipt = Some(Extra::Acknowledge(waiting.stored));
                let refused = refuse(why, waiting.message, receipt);
                rejected.push((Envelope::Plain, refused.message));
            }
        }
        for (envelope, message) in rejected {
            self.dead_letter(
                Receiver::Actor(self.home, self.core, at),
                why,
                envelope,
                message,
            );
        }
    }
}

/// A refused message; the sender of an acknowledged one hears of it through its ask.
#[cold]
#[inline(never)]
pub(crate) fn refuse<M>(why: Rejection, message: M, extra: Option<Extra>) -> Refused<M> {
    if let Some(Extra::Acknowledge(stored)) = extra {
        discard(why.into(), stored);
    }
    Refused { message, why }
}
