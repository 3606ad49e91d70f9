//! The programming model: an actor, what it answers to the runtime, and how it fails.

use super::context::Context;
use super::supervision::{Directive, Supervision};
use crate::wire::message::{Message, WireMessage};
use std::fmt;

/// What shall become of an actor after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on with the next message.
    Continue,
    /// Stop. What still waits in the mailbox becomes dead letters; an entity is only passivated, and a message that
    /// waits starts it afresh.
    Stop,
}

/// Why an actor failed: an error that its handler returned, or what its panic said.
///
/// Every error converts into it with `?`.
pub struct Fault(Box<Failure>); // thin, so that a handler's result fits into registers

struct Failure {
    cause: Box<dyn std::error::Error + Send + Sync>,
    panicked: bool,
}

impl Fault {
    /// A fault that is nothing but a text.
    pub fn new(text: impl Into<String>) -> Fault {
        Fault::of(text.into().into(), false)
    }

    pub(crate) fn panicked(text: String) -> Fault {
        Fault::of(text.into(), true)
    }

    fn of(cause: Box<dyn std::error::Error + Send + Sync>, panicked: bool) -> Fault {
        Fault(Box::new(Failure { cause, panicked }))
    }

    /// What went wrong.
    #[must_use]
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0.cause
    }

    /// Whether the handler panicked, instead of returning an error.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.0.panicked
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::of(Box::new(error), false)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Fault({}{})",
            if self.is_panic() { "panic: " } else { "" },
            self.cause()
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause())
    }
}

/// A unit of state that handles one message at a time.
///
/// Handlers are synchronous and run to completion on their core; asynchronous work goes through [`Context::spawn`] and
/// its kin, or the actor is written as an [`AsyncActor`](super::awaiting::AsyncActor). An actor need not be `Send`: it is made by a factory
/// on the core where it lives.
///
/// ```
/// use corecast::{Actor, Context, Fault, Next, ReplyTo};
///
/// #[derive(Default)]
/// struct Counter(u64);
///
/// #[derive(Debug)]
/// enum Count {
///     Add(u64),
///     Get(ReplyTo<u64>),
/// }
///
/// impl Actor for Counter {
///     type Msg = Count;
///
///     fn receive(&mut self, msg: Count, ctx: &mut Context<Self>) -> Result<Next, Fault> {
///         match msg {
///             Count::Add(n) => self.0 += n,
///             Count::Get(reply_to) => ctx.reply(reply_to, self.0),
///         }
///         Ok(Next::Continue)
///     }
/// }
/// ```
pub trait Actor: Sized + 'static {
    /// The messages it takes; usually an enum.
    type Msg: Message;

    /// Runs before the first message. What has to be fetched first is awaited with [`Context::suspend`], and messages
    /// wait meanwhile. An entity that has been restored from its view runs it again on its new core, before the first
    /// message that it handles there.
    ///
    /// It also runs after [`post_restart`](Actor::post_restart) for an actor that was made again after a fault.
    ///
    /// # Errors
    /// A fault of the actor, as one in [`receive`](Actor::receive).
    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let _ = ctx;
        Ok(())
    }

    /// Handles one message.
    ///
    /// # Errors
    /// A returned fault, like a panic, is this actor's and nobody else's. The message is gone, and if it is an ask, that
    /// ends as unknown. What becomes of the actor says [`on_error`](Actor::on_error), and else its
    /// [`Supervision`]: children and entities are restarted by default, and go on with the messages that wait; an actor
    /// without a parent stops. If it stops, the messages that wait become counted dead letters, asks among them end as
    /// rejected.
    fn receive(&mut self, message: Self::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault>;

    /// What to do about a fault of this actor, a panic included; `None`, the default, leaves that to its [`Supervision`],
    /// which also bounds restarts and delays them. If the hook panics itself, that is logged, and the supervision decides.
    ///
    /// Nothing can be suspended in here.
    fn on_error(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) -> Option<Directive> {
        let _ = (fault, ctx);
        None
    }

    /// How this actor supervises its children: those that were not [given](super::spawn::SpawnOptions::supervised) a
    /// supervision of their own. It is asked at each fault. By default the child that has failed is restarted.
    fn supervision(&self) -> Supervision {
        Supervision::default()
    }

    /// Handles one message of another node where it lies, in the buffer into which it was received: nothing of it has been
    /// copied, and it has been validated. By default the message is read, and handled by [`receive`](Actor::receive).
    ///
    /// Only entities of a [clustered](super::entity::EntityType::clustered) type get such messages. One that finds its entity
    /// busy, because other messages wait before it, is read and waits as a value: then it comes to `receive`. So both have to
    /// do the same. A reply address in the message is taken out with [`Context::read`]; left in there, it is dropped.
    ///
    /// # Errors
    /// A fault of the actor, as one in [`receive`](Actor::receive).
    fn receive_archived(
        &mut self,
        message: &<Self::Msg as rkyv::Archive>::Archived,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault>
    where
        Self::Msg: WireMessage,
    {
        match ctx.read_first::<Self::Msg>(message) {
            Ok(message) => self.receive(message, ctx),
            // Whoever sent it is to blame.
            Err(error) => {
                ctx.unreadable(&error);
                Ok(Next::Continue)
            }
        }
    }

    /// Runs on an actor that is about to be dropped and made again because of a fault, its own or one of a sibling whose
    /// fate it shares, or of a child that escalated it. By default it runs [`post_stop`](Actor::post_stop), so that what
    /// that gives back is given back once.
    ///
    /// A restart keeps the actor's address, name, mailbox and watchers. Its order: the children stop, the youngest first,
    /// and the timers end; `pre_restart`; the old state is dropped; the [`Backoff`](super::supervision::Backoff) passes;
    /// the factory makes the new state; [`post_restart`](Actor::post_restart); [`pre_start`](Actor::pre_start); the
    /// messages that wait. The message that failed was the handler's own and is gone.
    ///
    /// Nothing can be suspended in here, and nothing started: no child and no timer.
    fn pre_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) {
        let _ = fault;
        self.post_stop(ctx);
    }

    /// Runs on an actor that was made in place of one that failed, before [`pre_start`](Actor::pre_start).
    ///
    /// # Errors
    /// A fault of the actor, as one in [`receive`](Actor::receive).
    fn post_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let _ = (fault, ctx);
        Ok(())
    }

    /// Runs when the actor stops, however it came to that, and before an ephemeral entity leaves its core. Its children
    /// have stopped before.
    ///
    /// The next life of an entity that stops of its own accord begins after it, with what still waits and what is sent
    /// to the entity from here. The actor itself takes nothing any more: it cannot be suspended, and the results of what
    /// is asked or spawned from here are dead letters.
    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        let _ = ctx;
    }

    /// Runs when everything is handled and the core is about to end: the time for a last snapshot.
    #[doc(hidden)]
    fn settle_for_the_end(&mut self, ctx: &mut Context<'_, Self>) {
        let _ = ctx;
    }
}
