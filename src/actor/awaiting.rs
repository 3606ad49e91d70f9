//! Actors whose handlers are asynchronous functions.

use super::context::Context;
use super::model::{Actor, Fault, Next};
use super::scope::Scope;
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
/// restarted, fails at each further message.
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
}

/// Makes an [`Actor`] of an [`AsyncActor`].
pub struct Awaiting<A> {
    /// Away while a handler is under way.
    actor: Option<A>,
}

impl<A: AsyncActor> Awaiting<A> {
    /// Wraps it.
    pub fn new(actor: A) -> Self {
        Awaiting { actor: Some(actor) }
    }
}

impl<A: AsyncActor> Actor for Awaiting<A> {
    type Msg = A::Msg;

    fn receive(&mut self, message: A::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let mut actor = self
            .actor
            .take()
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
}

impl<A> fmt::Debug for Awaiting<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting")
            .field("in_handler", &self.actor.is_none())
            .finish()
    }
}
