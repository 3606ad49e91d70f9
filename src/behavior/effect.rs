//! What an event-sourced actor wants to come of a command, as a value.

use super::event_sourced::{EventSourced, SourcedContext};
use crate::actor::guard::drop_all_guarded;
use crate::actor::model::{Fault, Next};
use crate::actor::reply::ReplyTo;
use crate::wire::message::Message;
use std::fmt;
use std::future::Future;
use std::mem;

/// What is to come of a command: events that are stored, and what is done once they are.
///
/// What is to be [done then](Effect::then_run), [answers](Effect::then_reply) first of all, waits until the events are
/// stored and in the state. If they cannot be stored it never happens, and the asks end as unknown.
///
/// ```
/// # use corecast::{Effect, EventSourced, ReplyTo};
/// fn rename<E: EventSourced>(event: E::Event, done: ReplyTo<()>) -> Effect<E> {
///     Effect::persist(event).then_reply(done, |_| ())
/// }
/// ```
#[must_use = "an effect does nothing until it is returned from `on_command`"]
pub struct Effect<E: EventSourced> {
    pub(super) first: First<E>,
    pub(super) then: Vec<Then<E>>,
    pub(super) next: Next,
}

/// What comes before anything else.
pub(super) enum First<E: EventSourced> {
    /// These are stored; there may be none.
    Persist(Vec<E::Event>),
    /// Something is awaited, and brings an effect of its own.
    Await(Await<E>),
}

/// Events under way to the journal, and what comes after them.
pub(super) struct Sequel<E: EventSourced> {
    pub(super) events: Vec<E::Event>,
    /// In reverse.
    then: Vec<Then<E>>,
}

impl<E: EventSourced> Sequel<E> {
    pub(super) fn new(events: Vec<E::Event>, mut then: Vec<Then<E>>) -> Sequel<E> {
        then.reverse();
        Sequel { events, then }
    }

    /// What is to be done next.
    pub(super) fn next(&mut self) -> Option<Then<E>> {
        self.then.pop()
    }
}

/// Each part is dropped for itself, so that one panic does not meet another.
impl<E: EventSourced> Drop for Sequel<E> {
    fn drop(&mut self) {
        drop_all_guarded(mem::take(&mut self.events));
        drop_all_guarded(mem::take(&mut self.then).into_iter().rev());
    }
}

/// Suspends the actor until the effect is there, and passes on what comes after it.
pub(super) type Await<E> = Box<dyn FnOnce(Vec<Then<E>>, Next, &mut SourcedContext<'_, E>)>;

/// What is done once the events are in the state.
pub(super) type Then<E> = Box<dyn FnOnce(&<E as EventSourced>::State, &mut SourcedContext<'_, E>)>;

impl<E: EventSourced> Effect<E> {
    fn new(first: First<E>) -> Effect<E> {
        Effect {
            first,
            then: Vec::new(),
            next: Next::Continue,
        }
    }

    /// Nothing is stored.
    pub fn none() -> Effect<E> {
        Effect::persist_all([])
    }

    /// One event is stored.
    pub fn persist(event: E::Event) -> Effect<E> {
        Effect::new(First::Persist(vec![event]))
    }

    /// Some events are stored, all or none of them.
    pub fn persist_all(events: impl IntoIterator<Item = E::Event>) -> Effect<E> {
        Effect::new(First::Persist(events.into_iter().collect()))
    }

    /// Nothing is stored, since the actor has no use for the command, which is published as an
    /// [`UnhandledMessage`](crate::UnhandledMessage).
    pub fn unhandled(command: E::Command) -> Effect<E> {
        Effect::none().then_run(move |_, ctx| {
            ctx.unhandled(&command);
        })
    }

    /// Awaits something before it is decided what is stored; `then` gets the state and the result, and decides. This
    /// actor's other commands wait meanwhile, so the state is still that which the handler saw. The future has the time of
    /// [`Settings::async_deadline`](crate::Settings::async_deadline), 10 s by default; after that the actor fails.
    ///
    /// ```
    /// # use corecast::{Effect, EventSourced};
    /// # use std::time::Duration;
    /// # fn event<E: EventSourced>(_: u32) -> E::Event { unimplemented!() }
    /// # fn example<E: EventSourced>(price: impl Future<Output = u32> + 'static) -> Effect<E> {
    /// Effect::after(price, |_, state, price, ctx| Ok(Effect::persist(event::<E>(price))))
    /// # }
    /// ```
    pub fn after<F: Future + 'static>(
        future: F,
        then: impl FnOnce(
            &mut E,
            &E::State,
            F::Output,
            &mut SourcedContext<'_, E>,
        ) -> Result<Effect<E>, Fault>
        + 'static,
    ) -> Effect<E> {
        Effect::new(First::Await(Box::new(|later, next, ctx| {
            ctx.suspend(future, move |actor, output, ctx| {
                let mut effect =
                    actor.decide(|behavior, state| then(behavior, state, output, ctx))?;
                effect.then.extend(later);
                if next == Next::Stop {
                    effect.next = next;
                }
                actor.carry_out(effect, ctx)
            });
        })))
    }

    /// Then an ask is answered, with something made of the state as it is by then. The closure says the state's type if
    /// it does something with it: `|cart: &Cart| cart.pieces()`.
    pub fn then_reply<R: Message>(
        self,
        to: ReplyTo<R>,
        reply: impl FnOnce(&E::State) -> R + 'static,
    ) -> Effect<E> {
        self.then_run(move |state, ctx| ctx.reply(to, reply(state)))
    }

    /// Then something is done: other actors are told, timers are started. It is done at most once: if the actor fails before,
    /// or its node does, nobody does it later.
    pub fn then_run(
        mut self,
        run: impl FnOnce(&E::State, &mut SourcedContext<'_, E>) + 'static,
    ) -> Effect<E> {
        self.then.push(Box::new(run));
        self
    }

    /// Then the actor stops. What still waits for a plain actor becomes dead letters; an entity is only passivated.
    pub fn then_stop(mut self) -> Effect<E> {
        self.next = Next::Stop;
        self
    }
}

impl<E: EventSourced> fmt::Debug for Effect<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut effect = f.debug_struct("Effect");
        match &self.first {
            First::Persist(events) => effect.field("persist", events),
            First::Await(_) => effect.field("await", &true),
        };
        effect
            .field("then", &self.then.len())
            .field("next", &self.next)
            .finish()
    }
}
