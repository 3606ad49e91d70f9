//! The timers of an actor: each sends it a message once, or again and again, until it is cancelled.
//!
//! What a timer sends is a tick. It never lies in a mailbox: a timer that is due is noted, its actor gets into the ready
//! queue, and at its turn it takes the ticks one by one, before the messages that wait. So at most one tick of each timer
//! waits however slow the actor is, a mailbox that is full keeps none away, and one that was cancelled or replaced in the
//! meantime does not come. A turn without ticks does nothing for them; it looks at one word for everything that is rare.

use super::activation::{ActorBody, Entry, MESSAGES_PER_LOOK, Ran, RecipientOf};
use super::cell::EntityPlace;
use super::context::Context;
use super::guard::{drop_all_guarded, drop_guarded};
use super::local::Local;
use super::model::Actor;
use super::named_timers::{NamedTimer, Purpose, TimerName, WHOLE_RUNTIME};
use super::reference::{CellRef, Destination};
use super::refusal::Rejection;
use super::reply::{Envelope, discard_message};
use crate::wire::message::Message;
use std::any::type_name;
use std::time::Duration;

/// The shortest interval of a periodic timer, about what the wheel can tell apart: with less, a core would do nothing else.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// What a timer brings to its actor.
enum Tick<M> {
    /// One message, until it has been brought.
    Once(Option<M>),
    /// One made by this for each tick.
    Each(Box<dyn FnMut() -> M + Send>),
}

/// The message of a timer that ticks once. One that ticks again and again makes its messages by code of this node.
pub(super) fn only_message<M: Message>(timer: &NamedTimer) -> Option<&M> {
    let Purpose::Tick(tick) = &timer.purpose else {
        return None;
    };
    match tick.downcast_ref()? {
        Tick::Once(message) => message.as_ref(),
        Tick::Each(_) => None,
    }
}

/// What a timer is for that brings this message once.
pub(super) fn tick_once<M: Message>(message: M) -> Purpose {
    Purpose::Tick(Box::new(Tick::Once(Some(message))))
}

impl<M: Message> Tick<M> {
    fn next_of(timer: &mut NamedTimer) -> Option<M> {
        let Purpose::Tick(tick) = &mut timer.purpose else {
            return None;
        };
        match tick.downcast_mut()? {
            Tick::Once(message) => message.take(),
            Tick::Each(make) => Some(make()),
        }
    }
}

/// # Timers
///
/// An actor's timers have names. One that is started under the name of another takes its place. A timer is accurate to
/// about a millisecond, and counts from the beginning of the turn ([`now`](Context::now)).
///
/// A tick is handled like a message, as soon as it is due and the actor has its turn, before the messages that wait in its
/// mailbox; it needs no room there. If it is due while an asynchronous handler is under way, it comes when the actor goes
/// on. A timer that was cancelled or replaced never ticks again, not even if it was due already.
///
/// When the actor stops or is restarted, its timers have ended before [`post_stop`](Actor::post_stop), and so have those of an
/// entity that is passivated: to go on in its next life, it starts them in [`pre_start`](Actor::pre_start). (A tick counts
/// as use, so an entity that ticks more often than its time to be idle stays.) When a shard moves, the timers of entities
/// whose state moves go with them; to another node only those go that tick once, for the others make their messages by code
/// of this one. From the beginning of a shutdown no timer ticks any more.
impl<A: Actor> Context<'_, A> {
    /// Sends a message to this actor after a while, unless the timer is cancelled or replaced until then.
    ///
    /// ```
    /// use corecast::{Actor, Context, Fault, Next, ReplyTo, Runtime};
    /// use std::time::Duration;
    ///
    /// struct Patient(Option<ReplyTo<&'static str>>);
    ///
    /// #[derive(Debug)]
    /// enum Msg {
    ///     Await(ReplyTo<&'static str>),
    ///     GiveUp,
    /// }
    ///
    /// impl Actor for Patient {
    ///     type Msg = Msg;
    ///
    ///     fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         match msg {
    ///             Msg::Await(reply_to) => {
    ///                 self.0 = Some(reply_to);
    ///                 ctx.start_timer("give up", Duration::from_millis(2), Msg::GiveUp)?;
    ///             }
    ///             Msg::GiveUp => {
    ///                 if let Some(reply_to) = self.0.take() {
    ///                     ctx.reply(reply_to, "nobody came");
    ///                 }
    ///             }
    ///         }
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// let runtime = Runtime::builder().start()?;
    /// let handle = runtime.handle();
    /// let patient = handle.spawn(|| Patient(None)).wait()?;
    /// assert_eq!(handle.ask(patient, Msg::Await).wait(), Ok("nobody came"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Rejection::TooManyTimers`] if this core has as many as it may
    /// ([`Settings::timers`](crate::Settings::timers)), [`Rejection::Stopped`] in [`post_stop`](Actor::post_stop). The
    /// message is a dead letter then, and nothing else has changed.
    pub fn start_timer(
        &mut self,
        name: impl Into<TimerName>,
        after: Duration,
        message: A::Msg,
    ) -> Result<(), Rejection> {
        self.start(name.into(), after, None, Tick::Once(Some(message)))
    }

    /// Sends this actor a message again and again: the first one after one interval, each further one that long after
    /// the last was handled. A slow actor gets fewer, and never two at once. `make` makes the messages; if it panics,
    /// the actor fails.
    ///
    /// An interval below a millisecond counts as one.
    ///
    /// ```
    /// # use corecast::{Actor, Context, Fault, Next};
    /// # use std::time::Duration;
    /// struct Cache(Vec<u8>);
    ///
    /// #[derive(Debug)]
    /// enum Msg {
    ///     Refresh,
    ///     Freeze,
    /// }
    ///
    /// impl Actor for Cache {
    ///     type Msg = Msg;
    ///
    ///     fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
    ///         ctx.start_periodic("refresh", Duration::from_secs(60), || Msg::Refresh)?;
    ///         Ok(())
    ///     }
    ///
    ///     fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         match msg {
    ///             Msg::Refresh => self.0.clear(),
    ///             Msg::Freeze => _ = ctx.cancel_timer("refresh"),
    ///         }
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`start_timer`](Context::start_timer), but nothing has been made yet that could be a dead letter.
    pub fn start_periodic(
        &mut self,
        name: impl Into<TimerName>,
        every: Duration,
        make: impl FnMut() -> A::Msg + Send + 'static,
    ) -> Result<(), Rejection> {
        let every = every.max(SHORTEST_INTERVAL);
        self.start(name.into(), every, Some(every), Tick::Each(Box::new(make)))
    }

    /// Ends a timer of this actor; it never ticks again. Returns whether there was one.
    pub fn cancel_timer(&mut self, name: impl Into<TimerName>) -> bool {
        self.local.end_timer(self.at, name.into())
    }

    /// Whether this actor has a timer of that name that is still to tick.
    #[must_use]
    pub fn is_timer_active(&self, name: impl Into<TimerName>) -> bool {
        let timers = &self.local.named_timers;
        timers.find(self.at, name.into()).is_some()
    }

    fn start(
        &mut self,
        name: TimerName,
        after: Duration,
        every: Option<Duration>,
        tick: Tick<A::Msg>,
    ) -> Result<(), Rejection> {
        let has_message = matches!(tick, Tick::Once(_));
        let timer = NamedTimer {
            name,
            deadline: self.local.now + after,
            every,
            purpose: Purpose::Tick(Box::new(tick)),
        };
        let started = if self.has_ended() {
            Err((Rejection::Stopped, timer))
        } else {
            self.local.start_timer(self.at, timer)
        };
        started.map_err(|(why, timer)| {
            if has_message {
                let me = self.me();
                self.local
                    .note_dead_letter(me.receiver(), why, type_name::<A::Msg>());
            }
            discard_message(why, Envelope::Plain, timer);
            why
        })
    }
}

impl<A: Actor> ActorBody<A> {
    /// Handles ticks that are due, and then at most `budget` messages.
    pub(super) fn run_on_ticks(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        budget: u32,
    ) -> Ran {
        let mut left = local.limits.activation_messages;
        let mut ctx = Context::new(local, at, place, recipient);
        if let Some(ran) = self.begin(&mut ctx, Entry::Ticks) {
            return ran;
        }
        while left > 0
            && let Some(message) = ctx.local.next_tick::<A::Msg>(at)
        {
            left -= 1;
            if ctx.local.tracer.is_some() {
                ctx.local
                    .trace_tick(at, std::any::type_name::<A>(), &message);
            }
            if let Some(ran) = self.handle(message, &mut ctx) {
                return ran;
            }
            self.proven(&mut ctx);
            if left.is_multiple_of(MESSAGES_PER_LOOK) && ctx.local.clock.wants_to_yield() {
                return Ran::More;
            }
        }
        self.run(ctx.local, at, place, recipient, budget)
    }
}

impl Local {
    /// Starts a timer, in place of another one of its name, or gives it back with the reason.
    pub(super) fn start_timer(
        &mut self,
        owner: CellRef,
        timer: NamedTimer,
    ) -> Result<(), (Rejection, NamedTimer)> {
        let known = self.named_timers.find(owner, timer.name);
        if known.is_none() && self.named_timers.len() >= self.limits.timers {
            let why = Rejection::TooManyTimers;
            self.counters.count_refusal(why);
            return Err((why, timer));
        }
        let replaced = known.and_then(|id| self.named_timers.end(&mut self.timers, id));
        self.named_timers.start(&mut self.timers, owner, timer);
        drop_guarded(replaced);
        Ok(())
    }

    /// Ends a timer. Returns whether there was one.
    pub(super) fn end_timer(&mut self, owner: CellRef, name: TimerName) -> bool {
        let known = self.named_timers.find(owner, name);
        let ended = known.and_then(|id| self.named_timers.end(&mut self.timers, id));
        let was_active = ended.is_some();
        drop_guarded(ended);
        was_active
    }

    /// Ends all timers of an owner.
    #[inline]
    pub(crate) fn end_timers(&mut self, owner: CellRef) {
        // Every actor that ends comes here, and most never had a timer.
        if self.named_timers.len() > 0 {
            drop_all_guarded(self.take_timers(owner));
        }
    }

    /// Takes all timers of an actor out, to be started elsewhere.
    pub(super) fn take_timers(&mut self, owner: CellRef) -> Vec<NamedTimer> {
        self.named_timers.end_all_of(&mut self.timers, owner)
    }

    /// A timer with a name has fired. Returns what it was for.
    pub(crate) fn timer_fired(&mut self, id: u32) -> &'static str {
        let owner = self.named_timers.owner(id);
        // Without this, what ticks would keep a core from coming to rest. The timer ends with its owner.
        if self.draining {
            return "tick at the end";
        }
        self.named_timers.fired(id);
        if owner == WHOLE_RUNTIME {
            self.send_scheduled(id);
            return "schedule";
        }
        self.see_to_ticks(owner);
        "tick"
    }

    /// Gives an actor that has ticks to handle its turn. One that is suspended gets it when it goes on.
    pub(super) fn see_to_ticks(&mut self, at: CellRef) {
        let can_run = self.cells.get(at).is_some_and(|cell| !cell.suspended);
        if self.named_timers.wake(at, can_run) {
            self.tasks.detours.ticks = true;
            self.schedule(at);
        }
    }

    /// Whether an actor has ticks to handle.
    pub(crate) fn has_ticks(&self, at: CellRef) -> bool {
        self.named_timers.first_due(at).is_some()
    }

    /// Runs an actor whose turn it is on its ticks. Returns whether it has any.
    pub(super) fn run_on_ticks(&mut self, at: CellRef) -> bool {
        self.tasks.detours.ticks = self.named_timers.any_awake();
        if !self.has_ticks(at) {
            return false;
        }
        if let Some((kind, body, budget)) = self.begin_turn(at) {
            self.activate(at, kind, body, |body, local| {
                body.run_on_ticks(local, at, budget)
            });
            self.see_to_ticks(at);
        }
        true
    }

    /// The next tick for an actor. A periodic timer runs again from here on, so that its message's handler can cancel it.
    fn next_tick<M: Message>(&mut self, at: CellRef) -> Option<M> {
        let id = self.named_timers.first_due(at)?;
        let Some(every) = self.named_timers.get_mut(id)?.every else {
            let mut ended = self.named_timers.end(&mut self.timers, id)?;
            return Tick::next_of(&mut ended);
        };
        let again = self.now + every;
        self.named_timers.start_again(&mut self.timers, id, again);
        Tick::next_of(self.named_timers.get_mut(id)?)
    }
}
