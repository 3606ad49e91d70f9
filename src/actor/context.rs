//! What a handler can do.

use super::cell::EntityPlace;
use super::entrusting::{read_whole, why_unread};
use super::guard::{drop_guarded, guarded};
use super::handle::Handle;
use super::local::{Local, Room};
use super::model::{Actor, Fault, Next};
use super::pending::Pending;
use super::reference::{ActorRef, CellRef, Destination, Receiver};
use super::refusal::{AskError, Refused, Rejection, SpawnError, TaskError, Uncertainty};
use super::reply::{self, Envelope, ReplyTo};
use super::scope::Scope;
use super::task::{Executor, Piped, Suspending, handler_fault, run_elsewhere};
use crate::base::ids::{CoreId, Epoch, ShardId, ShardKey};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::wire::archive::{Archivable, deserialize};
use crate::wire::message::Message;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

/// A handler's view of the runtime: who it is, whom it can reach, and what it can have done meanwhile.
pub struct Context<'a, A: Actor> {
    pub(crate) local: &'a mut Local,
    pub(crate) at: CellRef,
    pub(super) place: Option<EntityPlace>,
    recipient: fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<A::Msg>,
    suspension: Suspension,
    actor: PhantomData<fn(A)>,
}

/// Whether the handler under way suspends its actor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspension {
    None,
    Wanted,
    /// It must not: this is a hook that the core waits for.
    Hook,
    /// It must not: the actor has come to its end.
    Refused,
}

/// Brings messages to an entity, wherever it is by then.
type Bring<M> = Box<dyn FnMut(&mut Local, M) + Send>;

/// How a later result reaches the actor that asked for it.
pub(crate) enum Recipient<M> {
    /// An actor stays in its cell.
    Actor(ActorRef<M>),
    /// An entity may have moved, or have been passivated.
    Entity(Bring<M>),
}

impl<M: Message> Recipient<M> {
    pub(crate) fn deliver(mut self, local: &mut Local, message: M) {
        self.bring(local, message);
    }

    /// Delivers one message of several.
    pub(crate) fn bring(&mut self, local: &mut Local, message: M) {
        if local.tracer.is_some() {
            let to = match self {
                Recipient::Actor(actor) => Some(actor.cell),
                Recipient::Entity(_) => None,
            };
            local.trace_owed(to, &message);
        }
        match self {
            Recipient::Actor(actor) => {
                if let Err(refused) = local.store(actor.cell, message, None, Room::Reserved) {
                    local.dead_letter(
                        actor.receiver(),
                        refused.why,
                        Envelope::Plain,
                        refused.message,
                    );
                }
            }
            Recipient::Entity(bring) => bring(local, message),
        }
    }
}

/// Why a value was not read out of an archived message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it could not be read: {0}")]
pub struct ReadError(String);

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
            suspension: Suspension::None,
            actor: PhantomData,
        }
    }

    /// The context of a hook in which nothing can be suspended.
    pub(crate) fn of_hook(
        local: &'a mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<A::Msg>,
    ) -> Self {
        Context {
            suspension: Suspension::Hook,
            ..Context::new(local, at, place, recipient)
        }
    }

    /// The context of the last call of an actor's present life.
    pub(crate) fn last(
        local: &'a mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<A::Msg>,
    ) -> Self {
        Context {
            suspension: Suspension::Refused,
            ..Context::new(local, at, place, recipient)
        }
    }

    /// Whether the handler has suspended its actor.
    #[inline(always)]
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspension == Suspension::Wanted
    }

    /// Where this entity belongs; `None` for an actor that is none.
    pub(super) fn place(&self) -> Option<EntityPlace> {
        self.place
    }

    /// Whether the actor has come to its end, and this is its last call.
    pub(super) fn has_ended(&self) -> bool {
        self.suspension == Suspension::Refused
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

    /// The randomness of this core, for everything in which an actor makes a choice by chance: in the simulator it comes
    /// from the seed of the run, on real cores from the machine's entropy, once at the start. It is a
    /// [`rand::Rng`], and no source of secrets.
    ///
    /// ```
    /// use corecast::rand::RngExt;
    /// use corecast::{Actor, Context, Fault, Next, ReplyTo, Runtime};
    ///
    /// struct Die;
    ///
    /// impl Actor for Die {
    ///     type Msg = ReplyTo<u8>;
    ///
    ///     fn receive(&mut self, reply_to: ReplyTo<u8>, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         let eyes = ctx.rng().random_range(1..=6);
    ///         ctx.reply(reply_to, eyes);
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// let runtime = Runtime::builder().start()?;
    /// let die = runtime.handle().spawn(|| Die).wait()?;
    /// let eyes = runtime.handle().ask(die, |reply_to| reply_to).wait()?;
    /// assert!((1..=6).contains(&eyes));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.local.rng
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
    /// no entity. For an entity of a cluster it is that of the cluster's log, and stays what it was when the shard has been
    /// taken from this node and the entity ends.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        let key = self.shard()?;
        let epochs = &self.local.region_states[key.entity_type.index()].epochs;
        if let Some(epoch) = epochs.get(key.shard.index()) {
            return Some(*epoch);
        }
        self.local
            .topology
            .placement(key)
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

    /// Reads a value out of the archived message that is being [handled](Actor::receive_archived), or the whole of it. A
    /// reply address that is read can be answered, as any other, and ends its ask when it is dropped; so read it once.
    ///
    /// # Errors
    /// If code of the type refuses what it finds, or if as many asks of other nodes are open on this core as may. Asks whose
    /// addresses were read before that showed end as dropped.
    pub fn read<T: Archivable>(&mut self, archived: &T::Archived) -> Result<T, ReadError> {
        // The handler has seen the message, whether it can be read or not.
        self.read_or(Uncertainty::DroppedUnanswered.into(), archived)
    }

    /// Reads the message for a handler that has not begun.
    pub(super) fn read_first<T: Archivable>(
        &mut self,
        archived: &T::Archived,
    ) -> Result<T, ReadError> {
        self.read_or(why_unread(), archived)
    }

    fn read_or<T: Archivable>(
        &mut self,
        why: AskError,
        archived: &T::Archived,
    ) -> Result<T, ReadError> {
        read_whole(why, || deserialize::<T>(archived)).map_err(|why| ReadError(why.to_string()))
    }

    /// Counts and logs that the message at hand cannot be read: it is a dead letter.
    pub(super) fn unreadable(&mut self, error: &ReadError) {
        tracing::warn!(core = %self.local.core, %error, "a message of another node was dropped");
        self.local.note_dead_letter(
            Receiver::Actor(self.local.home, self.local.core, self.at),
            Rejection::Unreadable,
            std::any::type_name::<A::Msg>(),
        );
    }

    /// Asks, and has the outcome sent to this actor as a message; the mailbox keeps moving meanwhile. Waits as
    /// long as [`Settings::ask_timeout`](crate::Settings::ask_timeout) says, 5 s by default.
    ///
    /// `make` puts the reply address into the message, `then` turns the outcome into a message of this actor. Room for
    /// that message is reserved, so it is never refused.
    ///
    /// The message may carry further reply addresses, which this actor passes on. If it is dropped on its way, their asks
    /// end as unknown, and then so does this one. `make` has to put the address that it is given into the message: one kept
    /// elsewhere, beside a message with a single foreign address, has that one taken for its own, and rejected if the message
    /// is dropped on its way.
    pub fn ask<D: Destination, R: Message>(
        &mut self,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
        then: impl FnOnce(Result<R, AskError>) -> A::Msg + 'static,
    ) {
        self.ask_within(self.local.limits.ask_timeout, to, make, then);
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
            // It runs in the activation of whoever answered, so its panic must not reach further, nor may what it drops
            // be taken for dropped by that one.
            let made = reply::dropping_as(Uncertainty::DroppedUnanswered.into(), || {
                guarded(|| then(outcome))
            });
            match made {
                Ok(message) => recipient.deliver(local, message),
                Err(panic) => local.fault_later(owner, Fault::panicked(panic)),
            }
        });
        self.local.ask(to, within, make, sink);
    }

    /// Starts an actor on another core, and has its address sent to this actor as a message. It is no child of this one,
    /// but a root over there, which stops when it fails.
    pub fn spawn_actor_on<B: Actor>(
        &mut self,
        core: CoreId,
        factory: impl FnOnce() -> B + Send + 'static,
        then: impl FnOnce(Result<ActorRef<B::Msg>, SpawnError>) -> A::Msg + 'static,
    ) {
        let begin = |local: &Local| {
            let spawned = local.handle.spawn_on(core, factory);
            async { Ok(spawned.await) }
        };
        self.pipe_begun(begin, |outcome| {
            then(outcome.unwrap_or_else(|error| {
                Err(match error {
                    TaskError::TooManyTasks => SpawnError::TooManyTasks,
                    _ => super::refusal::Rejection::ShuttingDown.into(),
                })
            }))
        });
    }

    /// Asks an actor to stop once it has handled what was sent to it before. Stopping it again does nothing.
    ///
    /// A stop is never refused, also where a message would be: each actor's takes the room of one message, once. For an actor
    /// of another node it is as certain as a message is: it may get lost when the connection breaks, and is a counted dead
    /// letter if it could not even leave. To know, [watch](Context::watch) the actor.
    pub fn stop<M: Message>(&mut self, actor: ActorRef<M>) {
        self.local.stop_actor_in_order(actor);
    }

    /// Runs a future on this core and has its result sent to this actor as a message; the mailbox keeps moving
    /// meanwhile. `then` also gets to know when the future panicked or could not be run.
    ///
    /// The future does not end with the actor. When it finishes after the actor has stopped, its result is a dead letter;
    /// that of an entity starts the entity again. A shutdown does not wait for a future that waits itself: whatever has
    /// not finished when everything else is drained is dropped, on its core and before the actors' hooks, `then` is not
    /// called, and [`ShutdownReport`](crate::ShutdownReport) does not say so. What must be finished is awaited in
    /// [`suspend`](Context::suspend), for which a shutdown waits until its deadline.
    pub fn spawn<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(Result<F::Output, TaskError>) -> A::Msg + 'static,
    ) {
        self.pipe(future, then);
    }

    /// Runs a future on another executor, for instance a tokio runtime (feature `tokio`), and has its result sent to
    /// this actor as a message. If there is no room for another future on this core, it is not begun
    /// ([`TaskError::TooManyTasks`]). For its end, see [`spawn`](Context::spawn).
    pub fn spawn_on<T: Send + 'static>(
        &mut self,
        executor: &impl Executor,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(Result<T, TaskError>) -> A::Msg + 'static,
    ) {
        self.pipe_begun(|_| run_elsewhere(executor, future), then);
    }

    /// Runs a call that blocks on a thread of the runtime's bounded pool, and has its result sent to this actor as a
    /// message.
    ///
    /// A call for which there is no room, in the pool's queue ([`TaskError::Refused`]) or among the futures of this core
    /// ([`TaskError::TooManyTasks`]), is not begun. At the end of the runtime, a call that is under way is finished and
    /// its result dropped; those that wait for a thread are dropped. For the rest, see [`spawn`](Context::spawn).
    pub fn spawn_blocking<T: Send + 'static>(
        &mut self,
        call: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Result<T, TaskError>) -> A::Msg + 'static,
    ) {
        self.pipe_begun(
            |local| run_elsewhere(&*local.blocking, async move { call() }),
            then,
        );
    }

    /// Suspends this actor's mailbox, and nothing else, until the future has finished; then `then` gets the actor and
    /// the result. The future has the time of [`Settings::async_deadline`](crate::Settings::async_deadline), 10 s by default;
    /// after that it is dropped, and the actor fails.
    ///
    /// One future at a time: a second call in the same handler is the actor's fault. To write whole handlers as
    /// asynchronous functions, see [`AsyncActor`](super::awaiting::AsyncActor).
    ///
    /// A handler that also ends the actor (with [`Next::Stop`] or a fault) ends it at once; the future still runs, for at
    /// most that time, and `then` is never called. In [`post_stop`](Actor::post_stop), [`pre_restart`](Actor::pre_restart)
    /// and [`on_error`](Actor::on_error) nothing can be suspended: the future is dropped, which is logged and counted as a
    /// fault of the actor.
    ///
    /// # Panics
    /// At a second call in the same handler.
    pub fn suspend<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(&mut A, F::Output, &mut Context<'_, A>) -> Result<Next, Fault> + 'static,
    ) {
        self.suspend_or(future, handler_fault, then);
    }

    /// As [`suspend`](Context::suspend), with a fault of its own if the future brings no result.
    pub(crate) fn suspend_or<F: Future + 'static>(
        &mut self,
        future: F,
        or: impl FnOnce(TaskError) -> Fault + 'static,
        then: impl FnOnce(&mut A, F::Output, &mut Context<'_, A>) -> Result<Next, Fault> + 'static,
    ) {
        if matches!(self.suspension, Suspension::Refused | Suspension::Hook) {
            let actor = std::any::type_name::<A>();
            let kind = self.local.kind_id::<A>();
            self.local.count_fault(kind);
            tracing::error!(core = %self.local.core, actor, "this hook cannot suspend its actor: the future is dropped; spawn it instead");
            drop_guarded(future);
            drop_guarded(then);
            return;
        }
        assert!(
            !self.is_suspended(),
            "an actor can wait for one future at a time: join them into one"
        );
        self.suspension = Suspension::Wanted;
        let resume = move |output| {
            let resume: Box<dyn Any> = Box::new(Resume::<A>(Box::new(move |actor, ctx| {
                then(actor, output, ctx)
            })));
            resume
        };
        let life = self.local.life(self.at);
        self.local
            .add_job_with_deadline(Box::new(Suspending::new(future, resume, or, self.at, life)));
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

    /// Begins something elsewhere and awaits it here; without room for the future here it is not begun.
    fn pipe_begun<T: 'static, F: Future<Output = Result<T, TaskError>> + 'static>(
        &mut self,
        begin: impl FnOnce(&Local) -> F,
        then: impl FnOnce(Result<T, TaskError>) -> A::Msg + 'static,
    ) {
        let begun = self.local.has_room_for_task().then(|| begin(self.local));
        let future = async {
            match begun {
                Some(begun) => begun.await,
                None => Err(TaskError::TooManyTasks),
            }
        };
        self.pipe(future, |outcome| then(outcome.and_then(|result| result)));
    }

    pub(crate) fn recipient(&mut self) -> Recipient<A::Msg> {
        match self.suspension {
            // When the result comes this life is over, and the next one has not asked for it.
            Suspension::Refused => Recipient::Actor(self.me()),
            _ => (self.recipient)(self.local, self.at, self.place),
        }
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
