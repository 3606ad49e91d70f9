//! Batches: many messages of one type to one core, in one allocation and behind one virtual call.

use super::asks::Failure;
use super::carried::Carried;
use super::entity_id::EntityId;
use super::entity_watch::EntitySignal;
use super::guard::{drop_guarded, guarded};
use super::items::Items;
use super::local::{Extra, Local};
use super::mailbox::Stored;
use super::reference::{CellRef, Receiver};
use super::refusal::{AskError, Rejection};
use super::reply::{Envelope, ReplyTo, discard};
use crate::base::ids::{CoreId, EntityTypeId, ShardId};
use crate::mesh::lane::LaneClass;
use crate::sharding::handoff::Last;
use crate::sharding::node_steps::Drained;
use crate::wire::message::Message;
use std::any::Any;

/// What travels in a lane.
pub(crate) trait Batch: Any + Send {
    /// Which lane it takes.
    fn lane(&self) -> LaneClass;

    /// How many messages are in it, and stops and signals, which count as such.
    fn len(&self) -> usize;

    /// The actors whose stops are in it.
    fn stops(&self) -> Vec<CellRef> {
        Vec::new()
    }

    /// Hands everything in it out; it is empty afterwards.
    fn deliver(&mut self, local: &mut Local, from: CoreId);

    /// Keeps the emptied batch for the next messages of its type.
    fn reuse(self: Box<Self>, local: &mut Local);

    /// Whether it tells others what has become of this core, so that it leaves even when the core dies.
    fn is_news(&self) -> bool {
        false
    }

    /// Drops everything in it, which was for that core, as dead letters.
    fn reject(&mut self, local: &mut Local, to: CoreId, why: Rejection);
}

/// The batches of one type: the open one for each core, and empty ones for the next.
pub(crate) struct Outgoing<B> {
    open: Vec<Option<Box<B>>>,
    spare: Vec<Box<B>>,
}

/// Empty batches kept per type; more are given back to the allocator.
const SPARE_BATCHES: usize = 64;

impl<B: Default> Outgoing<B> {
    pub(crate) fn new(cores: usize) -> Self {
        Outgoing {
            open: (0..cores).map(|_| None).collect(),
            spare: Vec::new(),
        }
    }

    /// The open batch for a core, and whether it was opened just now.
    #[inline(always)]
    pub(crate) fn open(&mut self, to: CoreId) -> (&mut B, bool) {
        let slot = &mut self.open[to.index()];
        let opened = slot.is_none();
        if opened {
            *slot = Some(self.spare.pop().unwrap_or_default());
        }
        (
            slot.as_mut()
                .unwrap_or_else(|| unreachable!("opened above")),
            opened,
        )
    }

    pub(crate) fn seal(&mut self, to: CoreId) -> Option<Box<B>> {
        self.open[to.index()].take()
    }

    pub(crate) fn reuse(&mut self, batch: Box<B>) {
        if self.spare.len() < SPARE_BATCHES {
            self.spare.push(batch);
        }
    }
}

/// Something that belongs to a place in a batch, beside or between the messages.
pub(crate) enum Note {
    /// The message at this place is an acknowledged send.
    Acknowledge(ReplyTo<Stored>),
    /// Before the message at this place: stop this actor.
    Stop(CellRef),
    /// Before the message at this place: nothing more comes from this core for a moving shard.
    Last(Last),
    /// The same for one that moves to another node.
    Drained(Drained),
    /// Before the message at this place: somebody watches an entity, or does not any more.
    Signal(EntitySignal, Box<dyn FnOnce(&mut Local) + Send>),
    /// Before the message at this place: a message of another node, in its frame.
    Frame(Box<Carried>),
}

/// Notes by the place of the message that they belong to or precede.
type Notes = Vec<(u32, Note)>;

/// Messages to actors. On cache lines of its own, like all batches: it passes between cores, and a neighbour in use on one
/// of them would be dragged along (an ask took twice as long in half of the runs).
#[repr(align(128))]
pub(crate) struct ActorBatch<M> {
    /// Each address as it is [written](CellRef::on) on the message's envelope.
    pub(crate) items: Items<(CellRef, M)>,
    pub(crate) notes: Notes,
}

impl<M> Default for ActorBatch<M> {
    fn default() -> Self {
        ActorBatch {
            items: Items::default(),
            notes: Vec::new(),
        }
    }
}

impl<M: Message> Batch for ActorBatch<M> {
    fn lane(&self) -> LaneClass {
        LaneClass::Requests
    }

    fn len(&self) -> usize {
        let is_stop = |(_, note): &&(u32, Note)| matches!(note, Note::Stop(_));
        self.items.len() + self.notes.iter().filter(is_stop).count()
    }

    fn stops(&self) -> Vec<CellRef> {
        let stop = |(_, note): &(u32, Note)| match note {
            Note::Stop(cell) => Some(*cell),
            _ => None,
        };
        self.notes.iter().filter_map(stop).collect()
    }

    fn deliver(&mut self, local: &mut Local, _from: CoreId) {
        if !self.notes.is_empty() {
            return self.deliver_noted(local);
        }
        while let Some((address, _)) = self.items.front() {
            let (to, envelope) = address.off();
            if local.may_handle_arrivals::<M>(to) && self.handled_by(to, local) {
                continue;
            }
            if let Some((_, message)) = self.items.pop() {
                local.accept(to, message, Extra::of(envelope));
            }
        }
    }

    fn reuse(mut self: Box<Self>, local: &mut Local) {
        self.items.fetch();
        local.class_mut::<M>().outgoing.reuse(self);
    }

    fn reject(&mut self, local: &mut Local, to: CoreId, why: Rejection) {
        fail_notes(&mut self.notes, local, None, why);
        for (address, message) in self.items.drain() {
            let (cell, envelope) = address.off();
            let receiver = Receiver::Actor(local.home, to, cell);
            local.dead_letter(receiver, why, envelope, message);
        }
    }
}

impl<M: Message> ActorBatch<M> {
    /// Has an actor handle the messages for it that come next. Returns whether it has taken any.
    #[inline]
    fn handled_by(&mut self, to: CellRef, local: &mut Local) -> bool {
        let before = self.items.len();
        local.handle_arrivals(to, self);
        self.items.len() < before
    }

    /// Whether the next message is for this actor.
    #[inline(always)]
    pub(crate) fn has_next_for(&mut self, actor: CellRef) -> bool {
        let next = self.items.front();
        next.is_some_and(|(address, _)| address.off().0 == actor)
    }

    /// Takes the next message out.
    ///
    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub(crate) fn take_next(&mut self) -> M {
        let next = self.items.pop();
        next.expect("a message comes next, for somebody has looked")
            .1
    }

    #[cold]
    fn deliver_noted(&mut self, local: &mut Local) {
        let mut notes = std::mem::take(&mut self.notes).into_iter().peekable();
        for (at, (address, message)) in (0..).zip(self.items.drain()) {
            let (to, envelope) = address.off();
            let mut extra = Extra::of(envelope);
            while let Some((_, note)) = notes.next_if(|(place, _)| *place == at) {
                match note {
                    Note::Acknowledge(stored) => extra = Some(Extra::Acknowledge(stored)),
                    Note::Stop(cell) => local.stop_in_order::<M>(cell),
                    Note::Last(_) | Note::Drained(_) | Note::Signal(..) | Note::Frame(_) => {}
                }
            }
            local.accept(to, message, extra);
        }
        for (_, note) in notes {
            if let Note::Stop(cell) = note {
                local.stop_in_order::<M>(cell);
            }
        }
    }
}

/// The most shards that an entity type may have.
pub(crate) const MAX_SHARDS: u32 = 1 << 31;

/// A shard as it is written on an envelope: the first bit tells whether it is that of an ask.
#[derive(Clone, Copy)]
pub(crate) struct ShardAddress(u32);

impl ShardAddress {
    const ASK: u32 = MAX_SHARDS;

    #[inline]
    pub(crate) fn new(shard: ShardId, envelope: Envelope) -> ShardAddress {
        debug_assert!(shard.0 < Self::ASK);
        match envelope {
            Envelope::Plain => ShardAddress(shard.0),
            Envelope::Ask => ShardAddress(shard.0 | Self::ASK),
        }
    }

    #[inline]
    fn off(self) -> (ShardId, Envelope) {
        let envelope = if self.0 & Self::ASK == 0 {
            Envelope::Plain
        } else {
            Envelope::Ask
        };
        (ShardId(self.0 & !Self::ASK), envelope)
    }
}

/// Messages to entities of one region.
#[repr(align(128))]
pub(crate) struct EntityBatch<I, M> {
    pub(crate) region: u16,
    pub(crate) items: Items<(ShardAddress, I, M)>,
    pub(crate) notes: Notes,
}

impl<I, M> Default for EntityBatch<I, M> {
    fn default() -> Self {
        EntityBatch {
            region: 0,
            items: Items::default(),
            notes: Vec::new(),
        }
    }
}

impl<I: EntityId, M: Message> Batch for EntityBatch<I, M> {
    fn lane(&self) -> LaneClass {
        LaneClass::Requests
    }

    fn len(&self) -> usize {
        let counts = |(_, note): &&(u32, Note)| matches!(note, Note::Signal(..) | Note::Frame(_));
        self.items.len() + self.notes.iter().filter(counts).count()
    }

    /// Ids bring code of the user's along (`Hash`, `Eq`, `Clone`, destructors). A panic there takes one message down, and
    /// what comes behind it in the batch is delivered all the same.
    fn deliver(&mut self, local: &mut Local, _from: CoreId) {
        if !self.notes.is_empty() {
            return self.deliver_noted(local);
        }
        let region = self.region;
        let mut items = self.items.drain();
        while let Err(panic) = guarded(|| {
            for (address, id, message) in items.by_ref() {
                let (shard, envelope) = address.off();
                local.accept_for_entity(region, shard, id, message, Extra::of(envelope));
            }
        }) {
            local.region_fault(region, &panic);
        }
    }

    fn reuse(mut self: Box<Self>, local: &mut Local) {
        self.items.fetch();
        if let Some(region) = local.region_mut::<I, M>(self.region) {
            region.outgoing.reuse(self);
        }
    }

    fn reject(&mut self, local: &mut Local, _to: CoreId, why: Rejection) {
        fail_notes(&mut self.notes, local, Some(self.region), why);
        for (address, id, message) in self.items.drain() {
            let receiver = Receiver::Entity(EntityTypeId(self.region), &id);
            local.dead_letter(receiver, why, address.off().1, message);
            drop_guarded(id);
        }
    }
}

impl<I: EntityId, M: Message> EntityBatch<I, M> {
    #[cold]
    fn deliver_noted(&mut self, local: &mut Local) {
        let region = self.region;
        let mut notes = std::mem::take(&mut self.notes).into_iter().peekable();
        let mut items = (0..).zip(self.items.drain());
        while let Err(panic) = guarded(|| {
            for (at, (address, id, message)) in items.by_ref() {
                let (shard, envelope) = address.off();
                let mut extra = Extra::of(envelope);
                while let Some((_, note)) = notes.next_if(|(place, _)| *place == at) {
                    match note {
                        Note::Acknowledge(stored) => extra = Some(Extra::Acknowledge(stored)),
                        Note::Last(last) => local.lasts.push(last),
                        Note::Drained(drained) => local.drained.push(drained),
                        Note::Signal(signal, arrive) => local.take_in(region, signal, arrive),
                        Note::Frame(carried) => local.take_carried(carried),
                        Note::Stop(_) => {}
                    }
                }
                local.accept_for_entity(region, shard, id, message, extra);
            }
        }) {
            local.region_fault(region, &panic);
        }
        for (_, note) in notes {
            match note {
                Note::Last(last) => local.lasts.push(last),
                Note::Drained(drained) => local.drained.push(drained),
                Note::Signal(signal, arrive) => local.take_in(region, signal, arrive),
                Note::Frame(carried) => local.take_carried(carried),
                Note::Acknowledge(_) | Note::Stop(_) => {}
            }
        }
    }
}

fn fail_notes(notes: &mut Notes, local: &mut Local, region: Option<u16>, why: Rejection) {
    for (_, note) in notes.drain(..) {
        match note {
            Note::Acknowledge(stored) => local.fail_ask(stored.disarm(), why.into()),
            Note::Signal(signal, arrive) => {
                local.signal_lost(signal);
                drop_guarded(arrive);
            }
            Note::Frame(carried) => local.refuse_frame(region, &carried.frame(), why),
            Note::Stop(_) | Note::Last(_) | Note::Drained(_) => {}
        }
    }
}

/// Replies of one type.
#[repr(align(128))]
pub(crate) struct ReplyBatch<R> {
    /// Table and place of each ask, and its reply.
    pub(crate) items: Items<(super::reply::ReplyAddress, R)>,
}

impl<R> Default for ReplyBatch<R> {
    fn default() -> Self {
        ReplyBatch {
            items: Items::default(),
        }
    }
}

impl<R: Message> Batch for ReplyBatch<R> {
    fn lane(&self) -> LaneClass {
        LaneClass::Replies
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn deliver(&mut self, local: &mut Local, _from: CoreId) {
        for (address, reply) in self.items.drain() {
            local.complete_ask(address, Ok(reply));
        }
    }

    fn reuse(mut self: Box<Self>, local: &mut Local) {
        self.items.fetch();
        local.ask_table_mut::<R>().1.outgoing.reuse(self);
    }

    fn reject(&mut self, local: &mut Local, _to: CoreId, why: Rejection) {
        for (_, reply) in self.items.drain() {
            local.lose_reply::<R>(why);
            discard(
                AskError::Unknown(super::refusal::Uncertainty::RuntimeGone),
                reply,
            );
        }
    }
}

/// Asks that end without a reply, of any type.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct FailureBatch {
    pub(crate) items: Items<Failure>,
}

impl Batch for FailureBatch {
    fn lane(&self) -> LaneClass {
        LaneClass::Replies
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn deliver(&mut self, local: &mut Local, _from: CoreId) {
        for (address, why) in self.items.drain() {
            local.fail_ask(address, why);
        }
    }

    fn reuse(self: Box<Self>, local: &mut Local) {
        local.failures.reuse(self);
    }

    fn reject(&mut self, _local: &mut Local, _to: CoreId, _why: Rejection) {
        self.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_comes_off_an_envelope_as_it_went_on() {
        for shard in [0, 1, 255, MAX_SHARDS - 1].map(ShardId) {
            for envelope in [Envelope::Plain, Envelope::Ask] {
                assert_eq!(ShardAddress::new(shard, envelope).off(), (shard, envelope));
            }
        }
    }
}
