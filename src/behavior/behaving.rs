//! The actor that has a behaviour.

use super::decorators::Layers;
use super::value::{Behavior, Handler, Kind};
use crate::actor::context::Context;
use crate::actor::guard::drop_guarded;
use crate::actor::model::{Actor, Fault, Next};
use crate::actor::supervision::Directive;
use crate::wire::message::Message;
use std::fmt;
use std::mem;
use std::rc::Rc;

/// The context that handlers of behaviours are given.
pub type BehaviorContext<'a, M> = Context<'a, Behaving<M>>;

/// Makes an [`Actor`] of a [`Behavior`].
///
/// It stays on the core where it was made, since what closures have captured cannot be moved: entities with behaviours are
/// [ephemeral](crate::EntityType::ephemeral).
///
/// ```
/// use corecast::behavior::{receive, same};
/// use corecast::{Behaving, Behavior, EntityType};
///
/// fn counter(mut total: u64) -> Behavior<u64> {
///     receive(move |_ctx, n| {
///         total += n;
///         same()
///     })
/// }
///
/// let factory = || Behaving::new(counter(0)); // for spawn
/// let counters = EntityType::ephemeral("counter", |_: &u64| Behaving::new(counter(0)));
/// # let _ = (factory, counters);
/// ```
pub struct Behaving<M: Message> {
    current: Current<M>,
    layers: Layers<M>,
    /// How many of them it began with; nothing until it has begun.
    begun_with: Option<usize>,
    /// What the last handler returned has brought some of its own.
    brought: bool,
    /// Kept until the hooks have been told.
    why_restarted: Option<Rc<Fault>>,
}

/// What it does with a message.
enum Current<M: Message> {
    Handler(Handler<M>),
    Ignoring,
    /// It has yet to begin.
    Initial(Behavior<M>),
    /// It has failed to begin.
    Missing,
    /// It has come to its end before its first message.
    Ended,
}

/// Why an actor fails that wants to be made again.
#[derive(Debug, thiserror::Error)]
#[error("it asked to be restarted")]
struct RestartWanted;

impl<M: Message> Behaving<M> {
    /// An actor that begins with this behaviour.
    pub fn new(behavior: Behavior<M>) -> Self {
        Behaving {
            current: Current::Initial(behavior),
            layers: Layers::default(),
            begun_with: None,
            brought: false,
            why_restarted: None,
        }
    }

    /// Goes on with a behaviour for which the actor has waited.
    pub(super) fn go_on(
        &mut self,
        next: Behavior<M>,
        ctx: &mut BehaviorContext<'_, M>,
    ) -> Result<Next, Fault> {
        let next = self.turn_into(next.0, ctx)?;
        if next == Next::Continue && self.begun_with.is_none() && !self.waits_to_begin(ctx) {
            self.finish_start(ctx)?;
        }
        Ok(next)
    }

    #[inline(never)]
    fn turn_into(
        &mut self,
        mut next: Kind<M>,
        ctx: &mut BehaviorContext<'_, M>,
    ) -> Result<Next, Fault> {
        loop {
            next = match next {
                Kind::Same => return Ok(Next::Continue),
                Kind::Unhandled => {
                    ctx.message_unhandled();
                    return Ok(Next::Continue);
                }
                Kind::Stopped => return Ok(Next::Stop),
                Kind::Restart => return Err(RestartWanted.into()),
                Kind::Ignore => {
                    self.replace(Current::Ignoring);
                    return Ok(Next::Continue);
                }
                Kind::Receive(handler) => {
                    self.replace(Current::Handler(handler));
                    return Ok(Next::Continue);
                }
                Kind::Setup(factory) => factory(ctx)?.0,
                Kind::After(wait) => {
                    wait(ctx);
                    return Ok(Next::Continue);
                }
                Kind::Decorated(decorated) => {
                    if let Some(own) = self.begun_with
                        && !mem::replace(&mut self.brought, true)
                    {
                        self.layers.keep(own);
                    }
                    let decorated = *decorated;
                    self.layers.put_inside(decorated.layers)?;
                    ctx.supervise_myself(self.layers.supervision());
                    decorated.inner
                }
            }
        }
    }

    /// The new one is in place before the old one is dropped, whose destructor is the user's.
    fn replace(&mut self, current: Current<M>) {
        drop(mem::replace(&mut self.current, current));
    }

    /// Whether it has to wait for the behaviour that it is to begin with.
    fn waits_to_begin(&self, ctx: &BehaviorContext<'_, M>) -> bool {
        matches!(self.current, Current::Missing) && ctx.is_suspended()
    }

    /// Has the hooks run once the behaviour is known.
    fn finish_start(&mut self, ctx: &mut BehaviorContext<'_, M>) -> Result<(), Fault> {
        if matches!(self.current, Current::Missing) {
            return Err(Fault::new(
                "an actor cannot begin with a behaviour that handles no messages",
            ));
        }
        self.begun_with = Some(self.layers.len());
        if let Some(fault) = self.why_restarted.clone() {
            self.layers.post_restart(ctx, &fault)?;
        }
        drop_guarded(self.why_restarted.take());
        self.layers.pre_start(ctx)
    }

    #[cold]
    fn handle_without(&self, ctx: &mut BehaviorContext<'_, M>) -> Result<Next, Fault> {
        match self.current {
            Current::Ended => {
                ctx.message_unhandled();
                Ok(Next::Stop)
            }
            _ => Err(Fault::new("it has no behaviour, since it failed to begin")),
        }
    }
}

impl<M: Message> Actor for Behaving<M> {
    type Msg = M;

    fn post_restart(
        &mut self,
        _fault: &Fault,
        ctx: &mut BehaviorContext<'_, M>,
    ) -> Result<(), Fault> {
        // Only in `pre_start`, which follows, are the hooks known.
        self.why_restarted = ctx.why_restarted();
        Ok(())
    }

    fn pre_start(&mut self, ctx: &mut BehaviorContext<'_, M>) -> Result<(), Fault> {
        let initial = match mem::replace(&mut self.current, Current::Missing) {
            Current::Initial(initial) => initial,
            begun => {
                self.current = begun;
                return Ok(());
            }
        };
        // That of an earlier life.
        ctx.supervise_myself(None);
        match self.turn_into(initial.0, ctx)? {
            Next::Continue if self.waits_to_begin(ctx) => Ok(()),
            Next::Continue => self.finish_start(ctx),
            Next::Stop => {
                self.current = Current::Ended;
                let me = ctx.me();
                ctx.stop(me);
                Ok(())
            }
        }
    }

    #[inline]
    fn receive(&mut self, message: M, ctx: &mut BehaviorContext<'_, M>) -> Result<Next, Fault> {
        if self.layers.have_spies() {
            self.layers.show(ctx, Some(&message));
        }
        let next = match &mut self.current {
            Current::Handler(handler) => handler(ctx, message)?,
            Current::Ignoring => return Ok(Next::Continue),
            _ => return self.handle_without(ctx),
        };
        if let Kind::Same = next.0 {
            // It owns nothing, and a call that looks for what there is to drop costs as much as one to the handler.
            mem::forget(next);
            return Ok(Next::Continue);
        }
        self.brought = false;
        self.turn_into(next.0, ctx)
    }

    fn on_error(&mut self, fault: &Fault, _ctx: &mut BehaviorContext<'_, M>) -> Option<Directive> {
        fault
            .cause()
            .is::<RestartWanted>()
            .then_some(Directive::Restart)
    }

    fn pre_restart(&mut self, fault: &Fault, ctx: &mut BehaviorContext<'_, M>) {
        self.layers.pre_restart(ctx, fault);
    }

    fn post_stop(&mut self, ctx: &mut BehaviorContext<'_, M>) {
        self.layers.post_stop(ctx);
    }
}

/// Each part is dropped for itself, so that one panic does not meet another.
impl<M: Message> Drop for Behaving<M> {
    fn drop(&mut self) {
        drop_guarded(mem::replace(&mut self.current, Current::Ended));
        drop_guarded(self.why_restarted.take());
    }
}

impl<M: Message> fmt::Debug for Behaving<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = match &self.current {
            Current::Handler(_) => "receive",
            Current::Ignoring => "ignore",
            Current::Initial(_) => "to begin",
            Current::Missing => "failed to begin",
            Current::Ended => "ended",
        };
        f.debug_struct("Behaving")
            .field("current", &current)
            .finish_non_exhaustive()
    }
}
