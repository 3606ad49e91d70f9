//! Actors whose handlers are asynchronous functions.

use super::context::Context;
use super::model::{Actor, Fault, Next};
use super::scope::Scope;
use super::supervision::{Directive, Supervision};
use crate::wire::message::Message;
use std::fmt;
use std::future::Future;

/// An actor that awaits in its handler. Wrapped in [`Awaiting`] it is an [`Actor`].
///
/// While a handler awaits, this actor's mailbox waits and nothing else does. A handler has the time of
/// [`Settings::async_deadline`](crate::Settings::async_deadline), 10 s by default; one that takes longer is dropped, and
/// the actor fails.
///
/// A handler has the state while it runs. One that panics or takes too long loses it: an actor that is resumed then, and not
/// restarted, fails at each further message. The hooks are those of an [`Actor`], and run on the state: so none runs for one
/// that is lost, nor for an actor that is stopped or restarted by somebody else while its handler is under way. The hooks
/// themselves do not await; [`pre_start`](AsyncActor::pre_start) shows how one waits for a future all the same.
///
/// ```
/// use corecast::{AsyncActor, Awaiting, Fault, Next, ReplyTo, Scope};
/// use std::time::Duration;
///
/// struct Patient;
///
/// impl AsyncActor for Patient {
///     type Msg = ReplyTo<&'static str>;
///
///     async fn receive(&mut self, reply_to: Self::Msg, scope: &Scope) -> Result<Next, Fault> {
///         scope.sleep(Duration::from_millis(1)).await;
///         scope.reply(reply_to, "at last");
///         Ok(Next::Continue)
///     }
/// }
///
/// let factory = || Awaiting::new(Patient); // for spawn
/// # let _ = factory;
/// ```
pub trait AsyncActor: Sized + 'static {
    /// The messages it takes.
    type Msg: Message;

    /// Handles one message.
    ///
    /// # Errors
    /// As in [`Actor::receive`].
    fn receive(
        &mut self,
        message: Self::Msg,
        scope: &Scope,
    ) -> impl Future<Output = Result<Next, Fault>>;

    /// Runs before the first message, as [`Actor::pre_start`] does. It has the context that handlers have not: here children
    /// are spawned, timers started and others watched.
    ///
    /// ```
    /// use corecast::{AsyncActor, Awaiting, Context, Fault, Next, Scope};
    ///
    /// struct Counter(u64);
    ///
    /// async fn load() -> u64 {
    ///     41
    /// }
    ///
    /// impl AsyncActor for Counter {
    ///     type Msg = u64;
    ///
    ///     fn pre_start(&mut self, ctx: &mut Context<'_, Awaiting<Self>>) -> Result<(), Fault> {
    ///         ctx.suspend(load(), |this, loaded, _ctx| {
    ///             if let Some(counter) = this.actor_mut() {
    ///                 counter.0 = loaded;
    ///             }
    ///             Ok(Next::Continue)
    ///         });
    ///         Ok(())
    ///     }
    ///
    ///     async fn receive(&mut self, n: u64, _scope: &Scope) -> Result<Next, Fault> {
    ///         self.0 += n;
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// A fault of the actor.
    fn pre_start(&mut self, ctx: &mut Context<'_, Awaiting<Self>>) -> Result<(), Fault> {
        let _ = ctx;
        Ok(())
    }

    /// What to do about a fault of this actor, as [`Actor::on_error`] says; it is not asked if the state is lost.
    fn on_error(
        &mut self,
        fault: &Fault,
        ctx: &mut Context<'_, Awaiting<Self>>,
    ) -> Option<Directive> {
        let _ = (fault, ctx);
        None
    }

    /// How this actor supervises its children, as [`Actor::supervision`] says; while a handler is under way, as it was said
    /// before that.
    fn supervision(&self) -> Supervision {
        Supervision::default()
    }

    /// Runs on an actor that is about to be made again, as [`Actor::pre_restart`] does; by default it runs
    /// [`post_stop`](AsyncActor::post_stop).
    fn pre_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Awaiting<Self>>) {
        let _ = fault;
        self.post_stop(ctx);
    }

    /// Runs on an actor that was made in place of one that failed, as [`Actor::post_restart`] does.
    ///
    /// # Errors
    /// A fault of the actor.
    fn post_restart(
        &mut self,
        fault: &Fault,
        ctx: &mut Context<'_, Awaiting<Self>>,
    ) -> Result<(), Fault> {
        let _ = (fault, ctx);
        Ok(())
    }

    /// Runs when the actor stops, as [`Actor::post_stop`] does.
    fn post_stop(&mut self, ctx: &mut Context<'_, Awaiting<Self>>) {
        let _ = ctx;
    }
}

/// Makes an [`Actor`] of an [`AsyncActor`].
pub struct Awaiting<A> {
    /// Away while a handler is under way.
    actor: Option<A>,
    /// How its children are supervised meanwhile.
    supervision: Option<Supervision>,
}

impl<A: AsyncActor> Awaiting<A> {
    /// Wraps it.
    pub fn new(actor: A) -> Self {
        Awaiting {
            actor: Some(actor),
            supervision: None,
        }
    }

    /// The actor; `None` while a handler has it, or if one has lost it.
    pub fn actor_mut(&mut self) -> Option<&mut A> {
        self.actor.as_mut()
    }

    /// Takes the actor out, for a handler.
    fn lend(&mut self, ctx: &mut Context<'_, Self>) -> Option<A> {
        let actor = self.actor.as_ref()?;
        // Nobody asks how children are supervised that are not there.
        self.supervision = ctx.has_children().then(|| actor.supervision());
        self.actor.take()
    }
}

impl<A: AsyncActor> Actor for Awaiting<A> {
    type Msg = A::Msg;

    fn receive(&mut self, message: A::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let mut actor = self
            .lend(ctx)
            .ok_or_else(|| Fault::new("the actor was lost in its last handler"))?;
        let scope = ctx.scope();
        let handler = async move {
            let next = actor.receive(message, &scope).await;
            (actor, next)
        };
        ctx.suspend(handler, |this, (actor, next), _| {
            this.actor = Some(actor);
            next
        });
        Ok(Next::Continue)
    }

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.actor
            .as_mut()
            .map_or(Ok(()), |actor| actor.pre_start(ctx))
    }

    fn on_error(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) -> Option<Directive> {
        self.actor.as_mut()?.on_error(fault, ctx)
    }

    fn supervision(&self) -> Supervision {
        match &self.actor {
            Some(actor) => actor.supervision(),
            None => self.supervision.clone().unwrap_or_default(),
        }
    }

    fn pre_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) {
        if let Some(actor) = &mut self.actor {
            actor.pre_restart(fault, ctx);
        }
    }

    fn post_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.actor
            .as_mut()
            .map_or(Ok(()), |actor| actor.post_restart(fault, ctx))
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        if let Some(actor) = &mut self.actor {
            actor.post_stop(ctx);
        }
    }
}

impl<A> fmt::Debug for Awaiting<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting")
            .field("in_handler", &self.actor.is_none())
            .finish()
    }
}
