//! What a handler can do.

use super::asks::DEFAULT_ASK_TIMEOUT;
use super::cell::EntityPlace;
use super::handle::Handle;
use super::local::{Local, Room};
use super::mailbox::Mailbox;
use super::model::{Actor, Fault, Next};
use super::pending::Pending;
use super::reference::{ActorRef, CellRef, Destination};
use super::refusal::{AskError, Refused, SpawnError, TaskError, panic_text};
use super::reply::ReplyTo;
use super::scope::Scope;
use super::task::{Executor, Piped, Suspending, run_elsewhere};
use crate::base::ids::{CoreId, Epoch, ShardId, ShardKey};
use crate::base::time::Time;
use crate::wire::message::Message;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A handler's view of the runtime: who it is, whom it can reach, and what it can have done meanwhile.
pub struct Context<'a, A: Actor> {
    pub(crate) local: &'a mut Local,
    at: CellRef,
    place: Option<EntityPlace>,
    recipient: fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<A::Msg>,
    pub(crate) suspended: bool,
    actor: PhantomData<fn(A)>,
}

/// Brings a message to an entity, wherever it is by then.
type Bring<M> = Box<dyn FnOnce(&mut Local, M)>;

/// How a later result reaches the actor that asked for it.
pub(crate) enum Recipient<M> {
    /// An actor stays in its cell.
    Actor(ActorRef<M>),
    /// An entity may have moved, or have been passivated.
    Entity(Bring<M>),
}

impl<M: Message> Recipient<M> {
    pub(crate) fn deliver(self, local: &mut Local, message: M) {
        match self {
            Recipient::Actor(actor) => {
                if let Err(refused) = local.store(actor.cell, message, None, Room::Reserved) {
                    local.dead_letter(refused.why, refused.message);
                }
            }
            Recipient::Entity(bring) => bring(local, message),
        }
    }
}

/// What an actor does when the future for which it was suspended has finished.
pub(crate) struct Resume<A: Actor>(
    #[expect(
        clippy::type_complexity,
        reason = "a continuation of the actor's own type"
    )]
    pub(crate) Box<dyn FnOnce(&mut A, &mut Context<'_, A>) -> Result<Next, Fault>>,
);

impl<'a, A: Actor> Context<'a, A> {
    #[inline]
    pub(crate) fn new(
        local: &'a mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<A::Msg>,
    ) -> Self {
        Context {
            local,
            at,
            place,
            recipient,
            suspended: false,
            actor: PhantomData,
        }
    }

    /// This actor's address. That of an entity ends with its present activation; to address an entity for good, use its
    /// region and id.
    #[must_use]
    pub fn me(&self) -> ActorRef<A::Msg> {
        ActorRef::new(self.local.home, self.local.core, self.at)
    }

    /// The core on which this actor runs.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.local.core
    }

    /// The time at which this turn of the core began; good for deadlines, and it costs nothing.
    #[must_use]
    pub fn now(&self) -> Time {
        self.local.now
    }

    /// The time right now, read from the clock.
    #[must_use]
    pub fn clock(&self) -> Time {
        self.local.clock.now()
    }

    /// The shard of this entity; `None` for an actor that is none.
    #[must_use]
    pub fn shard(&self) -> Option<ShardKey> {
        self.place.map(|place| ShardKey {
            entity_type: crate::base::ids::EntityTypeId(place.region),
            shard: ShardId(place.shard),
        })
    }

    /// The epoch under which this core runs the entity's shard, to fence writes elsewhere; `None` for an actor that is
    /// no entity.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.local
            .topology
            .placement(self.shard()?)
            .map(|placement| placement.epoch)
    }

    /// A handle for threads and runtimes outside of the cores.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.local.handle.clone()
    }

    /// What futures on this core use in place of a context.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(self.local)
    }

    /// Sends a message: fire and forget, at most once, in order for each pair of sender and receiver. If it is refused it
    /// becomes a counted dead letter.
    #[inline(always)]
    pub fn tell<D: Destination>(&mut self, to: D, message: D::Msg) {
        self.local.tell(to, message);
    }

    /// Sends a message, and hands it back if it is refused.
    ///
    /// `Ok` means that the message lies in the receiver's mailbox, or in this core's outbox on its way to another core.
    ///
    /// # Errors
    /// The message and the reason; nothing has changed.
    #[inline(always)]
    pub fn try_tell<D: Destination>(
        &mut self,
        to: D,
        message: D::Msg,
    ) -> Result<(), Refused<D::Msg>> {
        to.deliver(self.local, message, None)
            .inspect_err(|refused| self.local.counters.count_refusal(refused.why))
    }

    /// Answers an ask. A second answer is impossible; one that comes too late is dropped and counted.
    #[inline]
    pub fn reply<R: Message>(&mut self, to: ReplyTo<R>, reply: R) {
        self.local.reply(to, reply);
    }

    /// Asks, and has the outcome sent to this actor as a message; the mailbox keeps moving meanwhile. Waits 5 s.
    ///
    /// `make` puts the reply address into the message, `then` turns the outcome into a message of this actor. Room for
    /// that message is reserved, so it is never refused.
    pub fn ask<D: Destination, R: Message>(
        &mut self,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
        then: impl FnOnce(Result<R, AskError>) -> A::Msg + 'static,
    ) {
        self.ask_within(DEFAULT_ASK_TIMEOUT, to, make, then);
    }

    /// Like [`ask`](Context::ask), with a time to wait of your own.
    pub fn ask_within<D: Destination, R: Message>(
        &mut self,
        within: Duration,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
        then: impl FnOnce(Result<R, AskError>) -> A::Msg + 'static,
    ) {
        let recipient = self.recipient();
        let owner = self.at;
        let sink = Box::new(move |local: &mut Local, outcome| {
            // It runs in the activation of whoever answered, so its panic must not reach further.
            match catch_unwind(AssertUnwindSafe(|| then(outcome))) {
                Ok(message) => recipient.deliver(local, message),
                Err(panic) => local.fault_later(owner, Fault::panicked(panic_text(&*panic))),
            }
        });
        self.local.ask(to, within, make, sink);
    }

    /// Starts an actor on this core, made by the factory.
    ///
    /// # Errors
    /// If the factory panics or the runtime is shutting down; nothing was started.
    pub fn spawn_actor<B: Actor>(
        &mut self,
        factory: impl FnOnce() -> B,
    ) -> Result<ActorRef<B::Msg>, SpawnError> {
        self.local.spawn_actor(factory, None)
    }

    /// Like [`spawn_actor`](Context::spawn_actor), with a mailbox of its own kind.
    ///
    /// # Errors
    /// As there.
    pub fn spawn_actor_with<B: Actor>(
        &mut self,
        mailbox: Mailbox,
        factory: impl FnOnce() -> B,
    ) -> Result<ActorRef<B::Msg>, SpawnError> {
        self.local.spawn_actor(factory, Some(mailbox))
    }

    /// Starts an actor on another core, and has its address sent to this actor as a message.
    pub fn spawn_actor_on<B: Actor>(
        &mut self,
        core: CoreId,
        factory: impl FnOnce() -> B + Send + 'static,
        then: impl FnOnce(Result<ActorRef<B::Msg>, SpawnError>) -> A::Msg + 'static,
    ) {
        let spawned = self.local.handle.spawn_on(core, factory);
        self.pipe(spawned, move |outcome| {
            then(outcome.unwrap_or(Err(SpawnError::Rejected(
                super::refusal::Rejection::ShuttingDown,
            ))))
        });
    }

    /// Asks an actor to stop once it has handled what was sent to it before.
    pub fn stop<M: Message>(&mut self, actor: ActorRef<M>) {
        self.local.stop_actor_in_order(actor);
    }

    /// Runs a future on this core and has its result sent to this actor as a message; the mailbox keeps moving
    /// meanwhile. `then` also gets to know when the future panicked or could not be run.
    pub fn spawn<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(Result<F::Output, TaskError>) -> A::Msg + 'static,
    ) {
        self.pipe(future, then);
    }

    /// Runs a future on another executor, for instance a tokio runtime (feature `tokio`), and has its result sent to
    /// this actor as a message.
    pub fn spawn_on<T: Send + 'static>(
        &mut self,
        executor: &impl Executor,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(Result<T, TaskError>) -> A::Msg + 'static,
    ) {
        let result = run_elsewhere(executor, future);
        self.pipe(result, |outcome| then(outcome.and_then(|result| result)));
    }

    /// Runs a call that blocks on a thread of the runtime's bounded pool, and has its result sent to this actor as a
    /// message.
    pub fn spawn_blocking<T: Send + 'static>(
        &mut self,
        call: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Result<T, TaskError>) -> A::Msg + 'static,
    ) {
        let result = run_elsewhere(&*self.local.blocking, async move { call() });
        self.pipe(result, |outcome| then(outcome.and_then(|result| result)));
    }

    /// Suspends this actor's mailbox, and nothing else, until the future has finished; then `then` gets the actor and
    /// the result. The future has 10 s; after that it is dropped, and the actor fails.
    ///
    /// One future at a time: a second call in the same handler is the actor's fault. To write whole handlers as
    /// asynchronous functions, see [`AsyncActor`](super::awaiting::AsyncActor).
    ///
    /// # Panics
    /// At a second call in the same handler.
    pub fn suspend<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(&mut A, F::Output, &mut Context<'_, A>) -> Result<Next, Fault> + 'static,
    ) {
        assert!(
            !self.suspended,
            "an actor can wait for one future at a time: join them into one"
        );
        self.suspended = true;
        let resume = move |output| {
            let resume: Box<dyn Any> = Box::new(Resume::<A>(Box::new(move |actor, ctx| {
                then(actor, output, ctx)
            })));
            resume
        };
        self.local
            .add_suspending_job(Box::new(Suspending::new(future, resume, self.at)));
    }

    fn pipe<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(Result<F::Output, TaskError>) -> A::Msg + 'static,
    ) {
        let recipient = self.recipient();
        self.local
            .add_job(Box::new(Piped::new(future, then, recipient, self.at)));
    }

    fn recipient(&mut self) -> Recipient<A::Msg> {
        (self.recipient)(self.local, self.at, self.place)
    }

    /// A future that ends after `duration`.
    pub fn sleep(&mut self, duration: Duration) -> Pending<()> {
        let until = self.local.now + duration;
        self.local.sleep_until(until)
    }
}

impl<A: Actor> fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("me", &self.me())
            .finish_non_exhaustive()
    }
}

impl Local {
    /// Has an actor stopped, as soon as nothing is running, because code of its own failed.
    pub(crate) fn fault_later(&mut self, at: CellRef, fault: Fault) {
        self.faulty.push((at, fault));
    }
}
