//! The subscriptions of one core, and how events get to them.
//!
//! Whoever publishes brings the event to the subscribers of its own core at once, and posts one copy to every other core
//! that has some; it travels in the lane of requests, in order for each pair of publisher and subscriber. A subscriber for
//! which there is no room misses the event, which is counted; a message is never dropped to make room for one.

use super::batch::{Batch, Outgoing};
use super::events::{
    ActorRestarted, ActorStarted, ActorStopped, DeadLetter, Event, UnhandledMessage,
};
use super::guard::{drop_all_guarded, drop_guarded, guarded};
use super::local::Local;
use super::model::Fault;
use super::outbox::OpenBatch;
use super::reference::CellRef;
use super::refusal::Rejection;
use super::topics::{Topic, Topics, copy_of};
use super::typed::{AsAny, TypedBox};
use crate::base::ids::CoreId;
use crate::mesh::lane::LaneClass;
use crate::wire::message::Message;
use ahash::AHashMap;
use std::any::TypeId;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Subscriptions that a core may have; more are refused.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 65_536;

/// The subscriptions of one core.
pub(crate) struct Subscriptions {
    core: CoreId,
    topics: Arc<Topics>,
    numbers: AHashMap<TypeId, u16>,
    tables: Vec<TypedBox<dyn AnySubscribers>>,
    /// The tables in which each actor has a subscription.
    by_actor: BTreeMap<CellRef, Vec<u16>>,
    count: usize,
    /// The actor that listened to dead letters and ended last.
    last_mourner: Option<CellRef>,
    outgoing: Outgoing<EventBatch>,
    /// What the runtime publishes itself, to be asked whether it is wanted.
    pub(crate) started: Arc<Topic<ActorStarted>>,
    pub(crate) stopped: Arc<Topic<ActorStopped>>,
    pub(crate) restarted: Arc<Topic<ActorRestarted>>,
    pub(crate) dead_letters: Arc<Topic<DeadLetter>>,
    pub(crate) unhandled: Arc<Topic<UnhandledMessage>>,
}

/// The subscribers to one type of event.
struct Subscribers<E> {
    topic: Arc<Topic<E>>,
    core: CoreId,
    actors: BTreeMap<CellRef, Box<dyn Subscriber<E>>>,
    listeners: Vec<Listener<E>>,
}

/// Brings an event to an actor as a message of its own.
trait Subscriber<E>: Send {
    fn receive(&mut self, local: &mut Local, to: CellRef, event: E);
}

/// A closure that makes the actor's message of the event.
struct ToMessage<M, F> {
    convert: F,
    message: PhantomData<fn() -> M>,
}

impl<E: Event, M: Message, F: FnMut(E) -> M + Send> Subscriber<E> for ToMessage<M, F> {
    fn receive(&mut self, local: &mut Local, to: CellRef, event: E) {
        match guarded(|| (self.convert)(event)) {
            // That there is room has been seen to.
            Ok(message) => local.accept_reserved(to, message, None),
            Err(panic) => local.fault_later(to, Fault::panicked(panic)),
        }
    }
}

/// A closure on this core that somebody outside has subscribed.
struct Listener<E> {
    call: Box<dyn FnMut(E) + Send>,
    ended: Arc<AtomicBool>,
}

impl<E> Drop for Listener<E> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl<E> Subscribers<E> {
    fn len(&self) -> usize {
        self.actors.len() + self.listeners.len()
    }
}

impl<E> Drop for Subscribers<E> {
    /// What users have brought along is dropped piece by piece, since two panics at once would end the process.
    fn drop(&mut self) {
        drop_all_guarded(std::mem::take(&mut self.actors));
        drop_all_guarded(std::mem::take(&mut self.listeners));
    }
}

/// The subscribers to one type, whatever that is.
trait AnySubscribers: AsAny {
    /// Takes the subscription of an actor out.
    fn take(&mut self, at: CellRef) -> Option<Box<dyn Leaving>>;
    /// Takes out the closures whose subscriptions have ended. Returns how many there were.
    fn prune(&mut self) -> usize;
    /// This core is gone.
    fn close(&self);
}

impl<E: Event> Subscribers<E> {
    /// Has everybody know whether somebody here is interested.
    fn tell_others(&self) {
        self.topic.set_core(self.core.index(), self.len() > 0);
    }
}

impl<E: Event> AnySubscribers for Subscribers<E> {
    fn take(&mut self, at: CellRef) -> Option<Box<dyn Leaving>> {
        let subscriber = self.actors.remove(&at)?;
        self.tell_others();
        Some(Box::new(subscriber))
    }

    fn prune(&mut self) -> usize {
        let has_ended = |listener: &mut Listener<E>| listener.ended.load(Ordering::Relaxed);
        let ended: Vec<_> = self.listeners.extract_if(.., has_ended).collect();
        let count = ended.len();
        drop_all_guarded(ended);
        self.tell_others();
        count
    }

    fn close(&self) {
        self.topic.set_core(self.core.index(), false);
    }
}

/// The subscription of an actor that leaves its core.
pub(crate) trait Leaving: Send {
    /// Goes on where the actor has arrived.
    fn arrive(self: Box<Self>, local: &mut Local, at: CellRef);
}

impl<E: Event> Leaving for Box<dyn Subscriber<E>> {
    fn arrive(self: Box<Self>, local: &mut Local, at: CellRef) {
        if local.subscribe_with::<E>(at, *self).is_err() {
            local.counters.events_dropped += 1;
            tracing::error!(core = %local.core, event = std::any::type_name::<E>(), "an entity has lost its subscription in its move: the core has as many as it may");
        }
    }
}

impl Subscriptions {
    pub(crate) fn new(core: CoreId, cores: usize, topics: Arc<Topics>) -> Subscriptions {
        Subscriptions {
            core,
            numbers: AHashMap::default(),
            tables: Vec::new(),
            by_actor: BTreeMap::new(),
            count: 0,
            last_mourner: None,
            outgoing: Outgoing::new(cores),
            started: topics.topic(),
            stopped: topics.topic(),
            restarted: topics.topic(),
            dead_letters: topics.topic(),
            unhandled: topics.topic(),
            topics,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>> {
        self.outgoing.seal(to).map(|batch| batch as Box<dyn Batch>)
    }

    /// The number of an event type on this core.
    fn number<E: Event>(&mut self) -> u16 {
        *self.numbers.entry(TypeId::of::<E>()).or_insert_with(|| {
            self.tables.push(TypedBox::new(Box::new(Subscribers::<E> {
                topic: self.topics.topic(),
                core: self.core,
                actors: BTreeMap::new(),
                listeners: Vec::new(),
            })));
            (self.tables.len() - 1) as u16
        })
    }

    fn table<E: Event>(&mut self) -> &mut Subscribers<E> {
        let number = self.number::<E>();
        self.tables[usize::from(number)]
            .get_mut()
            .unwrap_or_else(|| unreachable!("tables are numbered by type"))
    }

    /// Whether an actor listens to events of a type.
    pub(crate) fn has<E: Event>(&mut self, at: CellRef) -> bool {
        !self.by_actor.is_empty() && self.table::<E>().actors.contains_key(&at)
    }

    /// Whether what was meant for an actor may have been an event about a dead letter.
    pub(crate) fn mourns(&mut self, at: CellRef) -> bool {
        self.last_mourner == Some(at) || self.has::<DeadLetter>(at)
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.tables.iter().for_each(|table| table.close());
    }
}

/// The core has as many subscriptions as it may.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Local {
    /// Subscribes an actor of this core. A subscription that it has to the same type is replaced.
    pub(crate) fn subscribe_actor<E: Event, M: Message>(
        &mut self,
        at: CellRef,
        convert: impl FnMut(E) -> M + Send + 'static,
    ) -> Result<(), TooMany> {
        self.subscribe_with::<E>(
            at,
            Box::new(ToMessage {
                convert,
                message: PhantomData,
            }),
        )
    }

    fn subscribe_with<E: Event>(
        &mut self,
        at: CellRef,
        subscriber: Box<dyn Subscriber<E>>,
    ) -> Result<(), TooMany> {
        if !self.events.has::<E>(at) {
            if !self.has_room_for_subscription() {
                drop_guarded(subscriber);
                return Err(TooMany);
            }
            let events = &mut self.events;
            let number = events.number::<E>();
            events.by_actor.entry(at).or_default().push(number);
            events.count += 1;
        }
        let table = self.events.table::<E>();
        let replaced = table.actors.insert(at, subscriber);
        table.tell_others();
        drop_guarded(replaced);
        Ok(())
    }

    /// Ends the subscription of an actor to one type. Returns whether it had one.
    pub(crate) fn unsubscribe_actor<E: Event>(&mut self, at: CellRef) -> bool {
        let number = self.events.number::<E>();
        let Some(numbers) = self.events.by_actor.get_mut(&at) else {
            return false;
        };
        numbers.retain(|known| *known != number);
        if numbers.is_empty() {
            self.events.by_actor.remove(&at);
        }
        let ended = self.events.tables[usize::from(number)].take(at);
        self.events.count -= usize::from(ended.is_some());
        let had_one = ended.is_some();
        drop_guarded(ended);
        had_one
    }

    /// Ends all subscriptions of an actor.
    #[inline(always)]
    pub(crate) fn end_subscriptions(&mut self, at: CellRef) {
        // Every actor that ends comes here, and mostly none has any.
        if !self.events.by_actor.is_empty() {
            drop_all_guarded(self.take_subscriptions(at));
        }
    }

    /// Takes all subscriptions of an actor out: it ends, or it leaves the core.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_subscriptions(&mut self, at: CellRef) -> Vec<Box<dyn Leaving>> {
        let events = &mut self.events;
        if events.has::<DeadLetter>(at) {
            events.last_mourner = Some(at);
        }
        let numbers = events.by_actor.remove(&at).unwrap_or_default();
        let taken: Vec<_> = numbers
            .into_iter()
            .filter_map(|number| events.tables[usize::from(number)].take(at))
            .collect();
        events.count -= taken.len();
        taken
    }

    /// Subscribes a closure, which runs on this core.
    pub(crate) fn subscribe_listener<E: Event>(
        &mut self,
        call: Box<dyn FnMut(E) + Send>,
        ended: Arc<AtomicBool>,
    ) -> Result<(), TooMany> {
        let listener = Listener { call, ended };
        if !self.has_room_for_subscription() {
            drop_guarded(listener);
            return Err(TooMany);
        }
        self.events.count += 1;
        let table = self.events.table::<E>();
        table.listeners.push(listener);
        table.tell_others();
        Ok(())
    }

    /// Drops the closures whose subscriptions to a type have ended.
    pub(super) fn prune_listeners<E: Event>(&mut self) {
        let number = self.events.number::<E>();
        self.events.count -= self.events.tables[usize::from(number)].prune();
    }

    /// Whether there is room for one more subscription; if not, those go that have ended without it having been noticed.
    fn has_room_for_subscription(&mut self) -> bool {
        if self.events.count >= MAX_SUBSCRIPTIONS {
            let tables = self.events.tables.iter_mut();
            self.events.count -= tables.map(|table| table.prune()).sum::<usize>();
        }
        self.events.count < MAX_SUBSCRIPTIONS
    }

    /// Publishes an event, if anybody is interested.
    #[inline]
    pub(crate) fn publish<E: Event>(&mut self, event: E) {
        if self.events.table::<E>().topic.is_wanted() {
            self.publish_wanted(event);
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn publish_wanted<E: Event>(&mut self, event: E) {
        let topic = self.events.table::<E>().topic.clone();
        self.counters.events_dropped += topic.put_out(&event);
        self.publish_to_cores(event);
    }

    /// Publishes an event that has been put into the outlets already.
    pub(crate) fn publish_to_cores<E: Event>(&mut self, event: E) {
        let topic = self.events.table::<E>().topic.clone();
        for core in (0..self.port.cores()).filter(|core| topic.is_wanted_on(*core)) {
            if core != self.core.index() {
                self.post_event(CoreId(core as u16), &event);
            }
        }
        self.bring_to_subscribers(event);
    }

    /// Posts a copy for the subscribers of another core. Events take no more than half of the room towards a core, so that
    /// a subscriber's core that falls behind leaves some for messages; and at the end nobody takes them any more.
    fn post_event<E: Event>(&mut self, to: CoreId, event: &E) {
        let limit = self.limits.outbox_messages.div_ceil(2);
        let target = &mut self.outbox[to.index()];
        let has_room = target.messages < limit && !self.stopping;
        let Some(copy) = has_room.then(|| copy_of(event)).flatten() else {
            self.counters.events_dropped += 1;
            return;
        };
        target.messages += 1;
        let (batch, opened) = self.events.outgoing.open(to);
        batch.items.push(Box::new(Posted(copy)));
        let full = batch.items.len() >= self.limits.batch_messages;
        if opened {
            target.open.push(OpenBatch::Events);
        }
        if full {
            self.seal(to, OpenBatch::Events);
        }
    }

    /// Brings an event to the subscribers of this core.
    fn bring_to_subscribers<E: Event>(&mut self, event: E) {
        let table = self.events.table::<E>();
        if table.len() > 0 {
            // Nobody can subscribe meanwhile: what runs here of the users' cannot reach the core.
            let mut actors = std::mem::take(&mut table.actors);
            let mut listeners = std::mem::take(&mut table.listeners);
            for (at, subscriber) in &mut actors {
                let copy = self.has_room_for_event(*at).then(|| copy_of(&event));
                match copy.flatten() {
                    Some(copy) => subscriber.receive(self, *at, copy),
                    None => self.counters.events_dropped += 1,
                }
            }
            let ended: Vec<_> = listeners
                .extract_if(.., |listener| !self.call_listener(listener, &event))
                .collect();
            self.events.count -= ended.len();
            let table = self.events.table::<E>();
            table.actors = actors;
            table.listeners = listeners;
            table.tell_others();
            drop_all_guarded(ended);
        }
        drop_guarded(event);
    }

    /// Whether an event may lie down in a mailbox: no message is dropped for it, and no core that stops takes any.
    fn has_room_for_event(&mut self, at: CellRef) -> bool {
        let has_budget = self.has_room() && !self.stopping;
        has_budget
            && self
                .cells
                .get(at)
                .is_some_and(|cell| cell.queue.len() < cell.capacity && !cell.has_waiting)
    }

    /// Has a closure take a copy of an event. Returns whether its subscription goes on.
    fn call_listener<E: Event>(&mut self, listener: &mut Listener<E>, event: &E) -> bool {
        if listener.ended.load(Ordering::Relaxed) {
            return false;
        }
        let Some(copy) = copy_of(event) else {
            self.counters.events_dropped += 1;
            return true;
        };
        match guarded(|| (listener.call)(copy)) {
            Ok(()) => true,
            Err(panic) => {
                self.counters.subscriber_panics += 1;
                tracing::error!(core = %self.core, event = std::any::type_name::<E>(), panic, "a closure that was subscribed to an event panicked: its subscription has ended");
                false
            }
        }
    }
}

/// Events for the subscribers of another core, of any types, in order.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct EventBatch {
    items: Vec<Box<dyn AnyEvent>>,
}

/// An event of any type.
trait AnyEvent: Send {
    fn deliver(self: Box<Self>, local: &mut Local);
}

struct Posted<E>(E);

impl<E: Event> AnyEvent for Posted<E> {
    fn deliver(self: Box<Self>, local: &mut Local) {
        local.bring_to_subscribers(self.0);
    }
}

impl Batch for EventBatch {
    fn lane(&self) -> LaneClass {
        LaneClass::Requests
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn deliver(&mut self, local: &mut Local, _from: CoreId) {
        // Closures take their time from the turn, as handlers of what arrives do.
        local.arrivals = local.arrivals.saturating_sub(self.items.len() as u64);
        for event in self.items.drain(..) {
            event.deliver(local);
        }
    }

    fn reuse(self: Box<Self>, local: &mut Local) {
        local.events.outgoing.reuse(self);
    }

    /// An event that is dropped is counted, and no dead letter.
    fn reject(&mut self, local: &mut Local, _to: CoreId, _why: Rejection) {
        local.counters.events_dropped += self.items.len() as u64;
        drop_all_guarded(self.items.drain(..));
    }
}
