//! Behaviours, and the functions that make them.

use super::behaving::BehaviorContext;
use super::decorators::Decorated;
use crate::actor::model::Fault;
use crate::wire::message::Message;
use std::fmt;
use std::future::Future;

/// How an actor handles its messages, or how it is to go on; see the [module](super).
#[must_use = "a behaviour does nothing until an actor has it"]
pub struct Behavior<M: Message>(pub(super) Kind<M>);

pub(super) enum Kind<M: Message> {
    Same,
    Unhandled,
    Ignore,
    Stopped,
    Restart,
    Receive(Handler<M>),
    Setup(Factory<M>),
    After(Wait<M>),
    Decorated(Box<Decorated<M>>),
}

pub(super) type Handler<M> =
    Box<dyn FnMut(&mut BehaviorContext<'_, M>, M) -> Result<Behavior<M>, Fault>>;
pub(super) type Factory<M> =
    Box<dyn FnOnce(&mut BehaviorContext<'_, M>) -> Result<Behavior<M>, Fault>>;
/// Suspends the actor.
pub(super) type Wait<M> = Box<dyn FnOnce(&mut BehaviorContext<'_, M>)>;

/// What handlers of behaviours may return: a [`Behavior`], or a `Result` with one and a [`Fault`].
pub trait IntoBehavior<M: Message> {
    /// The behaviour.
    ///
    /// # Errors
    /// The fault of the handler, as in [`Actor::receive`](crate::Actor::receive).
    fn into_behavior(self) -> Result<Behavior<M>, Fault>;
}

impl<M: Message> IntoBehavior<M> for Behavior<M> {
    #[inline(always)]
    fn into_behavior(self) -> Result<Behavior<M>, Fault> {
        Ok(self)
    }
}

impl<M: Message> IntoBehavior<M> for Result<Behavior<M>, Fault> {
    #[inline(always)]
    fn into_behavior(self) -> Result<Behavior<M>, Fault> {
        self
    }
}

/// Handles each message with a function, which returns the next behaviour.
///
/// What the function has captured is the state; it may change it and go on as the [`same`], or pass it on to another
/// behaviour.
///
/// ```
/// use corecast::behavior::{receive, same, stopped};
/// use corecast::{Behavior, ReplyTo};
///
/// #[derive(Debug)]
/// enum Count {
///     Add(u64),
///     Parse(String),
///     Take(ReplyTo<u64>),
/// }
///
/// fn counter(mut total: u64) -> Behavior<Count> {
///     receive(move |ctx, message| match message {
///         Count::Add(n) => Ok(counter(total + n)),
///         Count::Parse(text) => {
///             total += text.parse::<u64>()?; // fails the actor
///             Ok(same())
///         }
///         Count::Take(reply_to) => {
///             ctx.reply(reply_to, total);
///             Ok(stopped())
///         }
///     })
/// }
/// # let _ = counter(0);
/// ```
pub fn receive<M: Message, B: IntoBehavior<M>>(
    mut handler: impl FnMut(&mut BehaviorContext<'_, M>, M) -> B + 'static,
) -> Behavior<M> {
    let handler =
        move |ctx: &mut BehaviorContext<'_, M>, message| handler(ctx, message).into_behavior();
    Behavior(Kind::Receive(Box::new(handler)))
}

/// Makes a behaviour with the help of the actor's context: when the actor starts, and again when it is restarted; or, if a
/// handler returns it, at once.
///
/// Children are spawned in here, timers started, and what has to be fetched first is awaited with [`after`]. An error or a
/// panic is a fault of the actor, which begins with nothing then: if its supervision has it resume, each message is a fault
/// as well.
///
/// ```
/// use corecast::behavior::{receive, same, setup};
/// use corecast::Behavior;
/// use std::time::Duration;
///
/// fn blinking() -> Behavior<()> {
///     setup(|ctx| {
///         ctx.start_periodic("blink", Duration::from_secs(1), || ())?;
///         let mut is_on = false;
///         Ok(receive(move |_ctx, ()| {
///             is_on = !is_on;
///             same()
///         }))
///     })
/// }
/// # let _ = blinking();
/// ```
pub fn setup<M: Message, B: IntoBehavior<M>>(
    factory: impl FnOnce(&mut BehaviorContext<'_, M>) -> B + 'static,
) -> Behavior<M> {
    let factory = |ctx: &mut BehaviorContext<'_, M>| factory(ctx).into_behavior();
    Behavior(Kind::Setup(Box::new(factory)))
}

/// Waits for a future, and becomes what `then` makes of its output. The actor's mailbox waits meanwhile, and nothing else
/// does; the future has the time that [`Context::suspend`](crate::Context::suspend) gives it. If `then` returns [`same`],
/// the actor goes on as it was before; in a [`setup`], where there is no before, that is a fault.
///
/// ```
/// use corecast::behavior::{after, receive, same, setup};
/// use corecast::Behavior;
///
/// async fn load() -> u64 {
///     41
/// }
///
/// fn counter() -> Behavior<u64> {
///     setup(|_ctx| after(load(), |_ctx, loaded| counting(loaded)))
/// }
///
/// fn counting(total: u64) -> Behavior<u64> {
///     receive(move |_ctx, n| counting(total + n))
/// }
/// # let _ = counter();
/// ```
pub fn after<M: Message, F: Future + 'static, B: IntoBehavior<M>>(
    future: F,
    then: impl FnOnce(&mut BehaviorContext<'_, M>, F::Output) -> B + 'static,
) -> Behavior<M> {
    let wait = |ctx: &mut BehaviorContext<'_, M>| {
        ctx.suspend(future, |behaving, output, ctx| {
            let next = then(ctx, output).into_behavior()?;
            behaving.go_on(next, ctx)
        });
    };
    Behavior(Kind::After(Box::new(wait)))
}

/// Goes on as before.
pub fn same<M: Message>() -> Behavior<M> {
    Behavior(Kind::Same)
}

/// Goes on as before, and says that the message could not be handled: it is counted
/// ([`CoreStats::unhandled`](crate::CoreStats::unhandled)) and logged for debugging. A reply address that was in it is
/// dropped, so that its ask ends as unknown, unless the handler has kept or answered it.
pub fn unhandled<M: Message>() -> Behavior<M> {
    Behavior(Kind::Unhandled)
}

/// Drops every message, and lives on; asks among them end as unknown, since their addresses are dropped.
pub fn ignore<M: Message>() -> Behavior<M> {
    Behavior(Kind::Ignore)
}

/// Stops the actor, with its hooks, as [`Next::Stop`](crate::Next::Stop) does.
pub fn stopped<M: Message>() -> Behavior<M> {
    Behavior(Kind::Stopped)
}

/// Has the actor made again: a fault of its own, for which every supervision restarts, whatever it does about others. So
/// it is counted, delayed and limited as all restarts are, by the innermost supervision. An actor whose factory was not
/// kept ([`Handle::spawn`](crate::Handle::spawn)) stops instead.
pub fn restart<M: Message>() -> Behavior<M> {
    Behavior(Kind::Restart)
}

impl<M: Message> fmt::Debug for Behavior<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Same => "same",
            Kind::Unhandled => "unhandled",
            Kind::Ignore => "ignore",
            Kind::Stopped => "stopped",
            Kind::Restart => "restart",
            Kind::Receive(_) => "receive",
            Kind::Setup(_) => "setup",
            Kind::After(_) => "after",
            Kind::Decorated(decorated) => return decorated.fmt(f),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a handler returns for every message is copied about.
    #[test]
    fn a_behaviour_is_small() {
        assert!(size_of::<Result<Behavior<u64>, Fault>>() <= 24);
    }
}
