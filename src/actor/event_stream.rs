//! The event stream as actors, futures on a core, and threads outside use it.

use super::context::Context;
use super::events::Event;
use super::guard::drop_guarded;
use super::handle::{Gate, Handle};
use super::job::call;
use super::local::Local;
use super::model::Actor;
use super::pending::{Pending, pending};
use super::refusal::Rejection;
use super::reply;
use super::scope::Scope;
use super::subscriptions::{MAX_SUBSCRIPTIONS, TooMany};
use super::topics::{MAX_OUTLETS, Topic};
use crate::base::ids::CoreId;
use crate::wire::message::Message;
use crossbeam_channel::{Receiver as Channel, bounded};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The most events that may wait for one thread.
const MAX_WAITING: usize = 1 << 20;

/// Why there is no subscription; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The core has as many subscriptions as it may; end some, or have one actor per core subscribe and pass events on.
    #[error(
        "the core has {} subscriptions already, as many as it may",
        MAX_SUBSCRIPTIONS
    )]
    TooMany,
    /// As many threads as may listen to this type of event; have some of them share what they get.
    #[error(
        "{} threads listen to this type of event already, as many as may",
        MAX_OUTLETS
    )]
    TooManyOutside,
    /// The request did not reach the core, or the actor has come to its end.
    #[error("there is nobody to subscribe: {0}")]
    Rejected(#[from] Rejection),
}

impl From<TooMany> for SubscribeError {
    fn from(_: TooMany) -> Self {
        SubscribeError::TooMany
    }
}

impl<A: Actor> Context<'_, A> {
    /// Publishes an event to all that have subscribed to its type, on whichever core, this actor included.
    ///
    /// It reaches each subscriber at most once, and what one publishes in the order in which it does; between events and
    /// messages that are sent there is no order. A subscriber that has no room for it misses it, which is counted
    /// ([`CoreStats::events_dropped`](crate::CoreStats::events_dropped)), and does not make anybody wait. While nobody has
    /// subscribed to the type, it costs a look.
    ///
    /// ```
    /// use corecast::{Actor, Context, Fault, Next, ReplyTo, Runtime};
    ///
    /// #[derive(Clone, Copy)]
    /// struct PriceChanged(u64);
    ///
    /// struct Shop;
    ///
    /// impl Actor for Shop {
    ///     type Msg = u64;
    ///     fn receive(&mut self, price: u64, ctx: &mut Context<Self>) -> Result<Next, Fault> {
    ///         ctx.publish(PriceChanged(price));
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// let runtime = Runtime::builder().cores("0".parse()?).start()?;
    /// let handle = runtime.handle();
    /// let changes = handle.events::<PriceChanged>(100)?;
    /// let shop = handle.spawn(|| Shop).wait()?;
    /// handle.tell(shop, 30);
    /// handle.tell(shop, 28);
    /// let prices: Vec<u64> = changes.take(2).map(|change| change.0).collect();
    /// assert_eq!(prices, [30, 28]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish<E: Event>(&mut self, event: E) {
        self.local.publish(event);
    }

    /// Has events of a type come to this actor, each as the message that `to_message` makes of it, until it says
    /// [`unsubscribe`](Context::unsubscribe), stops or is restarted: what [`pre_start`](Actor::pre_start) subscribes to comes
    /// to each life. A second subscription to the same type replaces the first. `to_message` runs on this actor's core while
    /// somebody publishes there, so it has to be short.
    ///
    /// It holds for whatever is published once this call has returned, on any core. An entity takes it along when it moves
    /// with its state, and misses what is published on its way; the next life of one begins without. An event for which
    /// this actor's mailbox or core has no room is missed and counted, whatever the mailbox's policy: no message is dropped
    /// for it. If `to_message` panics, this actor fails.
    ///
    /// # Errors
    /// If the core has as many subscriptions as it may (65,536), and in [`post_stop`](Actor::post_stop)
    /// ([`Rejection::Stopped`]); nothing has changed.
    ///
    /// ```
    /// use corecast::{Actor, ActorStopped, Context, Fault, Next};
    ///
    /// struct Mourner;
    ///
    /// #[derive(Debug)]
    /// enum Msg { Stopped(ActorStopped) }
    ///
    /// impl Actor for Mourner {
    ///     type Msg = Msg;
    ///     fn pre_start(&mut self, ctx: &mut Context<Self>) -> Result<(), Fault> {
    ///         Ok(ctx.subscribe(Msg::Stopped)?)
    ///     }
    ///     fn receive(&mut self, Msg::Stopped(stopped): Msg, ctx: &mut Context<Self>) -> Result<Next, Fault> {
    ///         println!("{}: {:?}", stopped.actor, stopped.cause);
    ///         ctx.unsubscribe::<ActorStopped>(); // one was enough
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    pub fn subscribe<E: Event>(
        &mut self,
        to_message: impl FnMut(E) -> A::Msg + Send + 'static,
    ) -> Result<(), SubscribeError> {
        if self.has_ended() {
            drop_guarded(to_message);
            return Err(Rejection::Stopped.into());
        }
        Ok(self.local.subscribe_actor(self.at, to_message)?)
    }

    /// Ends this actor's subscription to a type of events. Returns whether it had one. Events that have come before may
    /// still lie in its mailbox.
    pub fn unsubscribe<E: Event>(&mut self) -> bool {
        self.local.unsubscribe_actor::<E>(self.at)
    }

    /// Says that this actor has no use for a message: it is counted ([`CoreStats::unhandled`](crate::CoreStats::unhandled)),
    /// and published as [`UnhandledMessage`](super::events::UnhandledMessage). What an actor that listens to these says it
    /// of is only counted, or each would bring the next.
    ///
    /// ```
    /// use corecast::{Actor, Context, Fault, Next};
    ///
    /// #[derive(Debug)]
    /// enum Msg { Open, Close }
    ///
    /// struct Door { open: bool }
    ///
    /// impl Actor for Door {
    ///     type Msg = Msg;
    ///     fn receive(&mut self, msg: Msg, ctx: &mut Context<Self>) -> Result<Next, Fault> {
    ///         match (&msg, self.open) {
    ///             (Msg::Open, false) => self.open = true,
    ///             (Msg::Close, true) => self.open = false,
    ///             _ => ctx.unhandled(&msg),
    ///         }
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    pub fn unhandled<M: Message>(&mut self, message: &M) {
        self.local.unhandled(self.at, self.place, Some(message));
    }
}

impl Scope {
    /// As [`Context::publish`](super::context::Context::publish). Nothing happens when the core has gone.
    pub fn publish<E: Event>(&self, event: E) {
        self.with(|local| local.publish(event));
    }
}

impl Handle {
    /// As [`Context::publish`](super::context::Context::publish), in the order of this clone's calls. Subscribers on the
    /// cores get it by way of this handle's core; if half of the queue into that is taken, or the runtime is about to end,
    /// they miss it, which is counted ([`Stats::events_dropped_outside`](crate::Stats::events_dropped_outside)).
    pub fn publish<E: Event>(&self, event: E) {
        let topics = self.gate().topics();
        let topic = topics.topic::<E>();
        if !topic.is_wanted() {
            return;
        }
        let mut dropped = topic.put_out(&event);
        if topic.is_wanted_on_any() {
            let job = call(move |local| local.publish_to_cores(event));
            dropped += u64::from(!self.gate().submit_event(self.entry, job));
        }
        topics.count_dropped(dropped);
    }

    /// Has a closure called with every event of a type that is published once the result is there, until the
    /// [`Subscription`] is ended. Dropping that does not end it.
    ///
    /// It runs on this handle's core, for what is published there within the publisher's call, so it has to be short; what
    /// takes longer listens to [`events`](Handle::events) on a thread of its own. If it panics, its subscription ends,
    /// which is logged and counted ([`CoreStats::subscriber_panics`](crate::CoreStats::subscriber_panics)). What other
    /// cores publish while they stop does not come here any more.
    ///
    /// The errors: the core has as many subscriptions as it may (65,536), or the request did not reach it; nothing has
    /// changed.
    ///
    /// ```
    /// use corecast::{DeadLetter, Runtime};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::sync::Arc;
    ///
    /// let runtime = Runtime::builder().cores("0".parse()?).start()?;
    /// let count = Arc::new(AtomicU64::new(0));
    /// let counter = count.clone();
    /// let counting = runtime.handle().subscribe(move |_: DeadLetter| {
    ///     counter.fetch_add(1, Ordering::Relaxed);
    /// });
    /// let subscription = counting.wait()?;
    /// assert!(subscription.is_active());
    /// subscription.end();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe<E: Event>(
        &self,
        listener: impl FnMut(E) + Send + 'static,
    ) -> Pending<Result<Subscription, SubscribeError>> {
        let ended = Arc::new(AtomicBool::new(false));
        let subscription = Subscription {
            ended: ended.clone(),
            gate: self.gate().clone(),
            core: self.entry,
            prune: Local::prune_listeners::<E>,
        };
        let (completer, subscribed) = pending(Err(Rejection::ShuttingDown.into()));
        let job = call(move |local| {
            let outcome = local.subscribe_listener::<E>(Box::new(listener), ended);
            completer.complete(outcome.map(|()| subscription).map_err(SubscribeError::from));
        });
        match self.gate().submit(self.entry, job) {
            Ok(()) => subscribed,
            Err((why, _)) => Pending::ready(Err(why.into())),
        }
    }

    /// The events of a type from now on, for a thread outside of the cores: at most `bound` of them wait there (at least
    /// one, at most 1,048,576; the room for them is taken at once), and those that come when it is full are missed, and
    /// counted ([`Events::dropped`]).
    ///
    /// Who publishes puts them there itself, on whichever core or thread, so nothing is missed of what is published while
    /// cores stop.
    ///
    /// # Errors
    /// If 1,024 threads listen to this type already; nothing has changed.
    ///
    /// ```
    /// use corecast::{Actor, ActorStarted, Context, Fault, Next, Runtime};
    ///
    /// struct Idler;
    ///
    /// impl Actor for Idler {
    ///     type Msg = ();
    ///     fn receive(&mut self, (): (), _: &mut Context<Self>) -> Result<Next, Fault> { Ok(Next::Continue) }
    /// }
    ///
    /// let runtime = Runtime::builder().cores("0".parse()?).start()?;
    /// let started = runtime.handle().events::<ActorStarted>(1_000)?;
    /// runtime.handle().spawn(|| Idler).wait()?;
    /// assert!(started.recv().is_some_and(|started| started.actor.actor.ends_with("Idler")));
    /// runtime.shutdown();
    /// assert!(started.recv().is_none()); // nothing more will come
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events<E: Event>(&self, bound: usize) -> Result<Events<E>, SubscribeError> {
        let topic = self.gate().topics().topic::<E>();
        let (sender, channel) = bounded(bound.clamp(1, MAX_WAITING));
        let dropped = Arc::new(AtomicU64::new(0));
        if !topic.open_outlet(sender, dropped.clone()) {
            return Err(SubscribeError::TooManyOutside);
        }
        Ok(Events {
            channel,
            dropped,
            topic,
        })
    }
}

/// A closure's subscription to a type of events ([`Handle::subscribe`]). Dropped, it goes on.
pub struct Subscription {
    ended: Arc<AtomicBool>,
    gate: Arc<Gate>,
    core: CoreId,
    prune: fn(&mut Local),
}

impl Subscription {
    /// Ends it: the closure is not called any more, but for a call that is under way. Its core drops it soon; if the queue
    /// into that is full, with the next event.
    pub fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        // Refused, the next event finds it.
        let _ = self.gate.submit_always(self.core, call(self.prune));
    }

    /// Whether it goes on: its closure has not panicked, and its core is there.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("active", &self.is_active())
            .finish()
    }
}

/// The events of a type, for a thread outside of the cores ([`Handle::events`]); as an iterator it waits for each. Dropping
/// it ends the subscription.
pub struct Events<E: Event> {
    channel: Channel<E>,
    dropped: Arc<AtomicU64>,
    topic: Arc<Topic<E>>,
}

impl<E: Event> Events<E> {
    /// Waits for the next event; `None` when the runtime has ended and nothing is left.
    ///
    /// # Panics
    /// On a core, which it would block.
    #[must_use]
    pub fn recv(&self) -> Option<E> {
        assert_may_block();
        self.channel.recv().ok()
    }

    /// Waits for the next event for so long at most; `None` if none has come.
    ///
    /// # Panics
    /// On a core, which it would block.
    #[must_use]
    pub fn recv_within(&self, limit: Duration) -> Option<E> {
        assert_may_block();
        self.channel.recv_timeout(limit).ok()
    }

    /// The next event, if one is there.
    #[must_use]
    pub fn try_recv(&self) -> Option<E> {
        self.channel.try_recv().ok()
    }

    /// How many events were missed because as many as may were waiting here.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn assert_may_block() {
    assert!(
        !reply::on_core(),
        "waiting for events would block a core, and everything on it: have an actor subscribe instead"
    );
}

impl<E: Event> Iterator for Events<E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        self.recv()
    }
}

impl<E: Event> Drop for Events<E> {
    fn drop(&mut self) {
        self.topic.close_outlet(&self.dropped);
    }
}

impl<E: Event> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.channel.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
