//! Messages that are sent later, or again and again, to whomever: timers of the whole runtime, by name.
//!
//! The name alone says which core keeps such a timer, by its hash, so that all who use the name meet there, and many names
//! spread over the cores. Every call goes to that core as a job, as calls from other threads do: calls of one thread
//! arrive in their order, and a full queue refuses them.

use super::context::Context;
use super::guard::{drop_guarded, guarded};
use super::handle::Handle;
use super::job::{CoreWork, call};
use super::local::Local;
use super::model::Actor;
use super::named_timers::{NamedTimer, Purpose, Sending, Sends, TimerName, WHOLE_RUNTIME};
use super::pending::{Completer, Pending, pending};
use super::reference::{Destination, Receiver, shard_of};
use super::refusal::Rejection;
use super::reply::{Envelope, discard_message};
use super::scope::Scope;
use super::timers::SHORTEST_INTERVAL;
use crate::base::ids::CoreId;
use std::any::type_name;
use std::time::Duration;

/// # Schedules
///
/// A schedule is a timer of the whole runtime: whoever knows its name can replace or cancel it, from anywhere. It sends to
/// any destination, and starts an entity that is not active. It belongs to nobody, so it goes on when its receiver has
/// stopped, until it is cancelled or the runtime shuts down; from the beginning of a shutdown nothing is sent.
///
/// What it sends is a [`tell`](Handle::tell) like any other: refused, it becomes a counted dead letter, and what a slow
/// receiver has not handled yet waits in its mailbox, within its bound. An actor's own timers
/// ([`Context::start_timer`]) skip ticks instead, and end with it.
impl Handle {
    /// Sends a message after a while, unless its schedule is cancelled or replaced until then. A schedule that is set
    /// under the name of another takes its place. The result tells that it is set; whoever does not want to know drops
    /// it.
    ///
    /// ```
    /// # use corecast::{Actor, Context, Fault, Next, ReplyTo, Runtime};
    /// # use std::time::Duration;
    /// # struct Bell(Option<ReplyTo<()>>);
    /// #[derive(Debug)]
    /// enum Msg {
    ///     Await(ReplyTo<()>),
    ///     Ring,
    /// }
    /// # impl Actor for Bell {
    /// #     type Msg = Msg;
    /// #     fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    /// #         match (msg, self.0.take()) {
    /// #             (Msg::Await(reply_to), _) => self.0 = Some(reply_to),
    /// #             (Msg::Ring, Some(reply_to)) => ctx.reply(reply_to, ()),
    /// #             (Msg::Ring, None) => {}
    /// #         }
    /// #         Ok(Next::Continue)
    /// #     }
    /// # }
    ///
    /// let runtime = Runtime::builder().start()?;
    /// let handle = runtime.handle();
    /// let bell = handle.spawn(|| Bell(None)).wait()?;
    /// let rung = handle.ask(bell, Msg::Await);
    /// handle.schedule("wake-up", Duration::from_secs(3_600), bell, Msg::Ring).wait()?;
    /// // Earlier is better. The same name: it takes the place of the first.
    /// handle.schedule("wake-up", Duration::from_millis(2), bell, Msg::Ring).wait()?;
    /// assert_eq!(rung.wait(), Ok(()));
    /// assert_eq!(handle.cancel_schedule("wake-up").wait(), Ok(false)); // it has rung
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The result is an error, and nothing has changed, if the core that keeps the name has as many timers as it may
    /// ([`Rejection::TooManyTimers`], [`Settings::timers`](crate::Settings::timers)), if the queue into it is full
    /// ([`Rejection::IngressFull`]), and if there is nobody any more to keep it. The message is a dead letter then.
    pub fn schedule<D: Destination>(
        &self,
        name: impl Into<TimerName>,
        after: Duration,
        to: D,
        message: D::Msg,
    ) -> Pending<Result<(), Rejection>> {
        let parcel = Parcel::<D::Owned>(Some((to.into_owned(), message)));
        self.set_schedule(name.into(), after, None, Box::new(parcel))
    }

    /// Sends messages again and again: the first one after one interval, each further one that long after the last. `make`
    /// makes them, on the core that keeps the schedule; if it panics, the schedule has ended, which is logged.
    ///
    /// An interval below a millisecond counts as one. For names and results, see [`schedule`](Handle::schedule).
    pub fn schedule_periodic<D: Destination>(
        &self,
        name: impl Into<TimerName>,
        every: Duration,
        to: D,
        make: impl FnMut() -> D::Msg + Send + 'static,
    ) -> Pending<Result<(), Rejection>> {
        let every = every.max(SHORTEST_INTERVAL);
        let to = to.into_owned();
        self.set_schedule(
            name.into(),
            every,
            Some(every),
            Box::new(Source { to, make }),
        )
    }

    /// Ends a schedule: once the result is there, nothing is sent by it any more. It tells whether there was one; what was
    /// sent before may still be on its way. An error means that the core that keeps the name could not be asked
    /// ([`Rejection::IngressFull`]), or is gone.
    pub fn cancel_schedule(&self, name: impl Into<TimerName>) -> Pending<Result<bool, Rejection>> {
        let name = name.into();
        let (completer, done) = pending(Err(Rejection::ShuttingDown));
        let end = move |local: &mut Local| {
            completer.complete(Ok(local.end_timer(WHOLE_RUNTIME, name)));
        };
        match self.gate().submit(self.keeper(name), call(end)) {
            Ok(()) => done,
            Err((why, _)) => Pending::ready(Err(why)),
        }
    }

    fn set_schedule(
        &self,
        name: TimerName,
        after: Duration,
        every: Option<Duration>,
        send: Sending,
    ) -> Pending<Result<(), Rejection>> {
        let (completer, done) = pending(Err(Rejection::ShuttingDown));
        let schedule = Schedule {
            name,
            after,
            every,
            send,
            completer,
        };
        let keeper = self.keeper(name);
        if let Err((why, schedule)) = self.gate().submit(keeper, Box::new(schedule)) {
            self.gate().lose(schedule, why);
        }
        done
    }

    /// The core that keeps the schedule of that name.
    fn keeper(&self, name: TimerName) -> CoreId {
        CoreId(shard_of(name.stable_hash(), self.cores() as u32).0 as u16)
    }
}

/// A schedule on its way to the core that keeps it.
struct Schedule {
    name: TimerName,
    after: Duration,
    every: Option<Duration>,
    send: Sending,
    completer: Completer<Result<(), Rejection>>,
}

impl CoreWork for Schedule {
    fn run(self: Box<Self>, local: &mut Local) {
        let timer = NamedTimer {
            name: self.name,
            deadline: local.now + self.after,
            every: self.every,
            purpose: Purpose::Send(Some(self.send)),
        };
        let started = local.start_timer(WHOLE_RUNTIME, timer);
        self.completer.complete(started.map_err(|(why, timer)| {
            if let Purpose::Send(Some(send)) = &timer.purpose
                && let Some((receiver, message)) = send.dead_letter()
            {
                local.note_dead_letter(receiver, why, message);
            }
            discard_message(why, Envelope::Plain, timer);
            why
        }));
    }

    fn reject(self: Box<Self>, why: Rejection) {
        let Schedule {
            send, completer, ..
        } = *self;
        discard_message(why, Envelope::Plain, send);
        completer.complete(Err(why));
    }

    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)> {
        self.send.dead_letter()
    }
}

/// One message that is sent later.
struct Parcel<D: Destination>(Option<(D, D::Msg)>);

impl<D: Destination + Send> Sends for Parcel<D> {
    fn send(&mut self, local: &mut Local) {
        if let Some((to, message)) = self.0.take() {
            local.tell(to, message);
        }
    }

    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)> {
        let (to, _) = self.0.as_ref()?;
        Some((to.receiver(), type_name::<D::Msg>()))
    }
}

/// Makes a message again and again.
struct Source<D, F> {
    to: D,
    make: F,
}

impl<D: Destination + Clone + Send, F: FnMut() -> D::Msg + Send> Sends for Source<D, F> {
    fn send(&mut self, local: &mut Local) {
        let to = self.to.clone();
        local.tell(to, (self.make)());
    }

    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)> {
        None
    }
}

/// # Schedules
///
/// As [those of a handle](Handle::schedule): timers of the whole runtime, not of this actor.
impl<A: Actor> Context<'_, A> {
    /// As [`Handle::schedule`]; to be sure that it is set, have the result sent to this actor by
    /// [`spawn`](Context::spawn).
    pub fn schedule<D: Destination>(
        &self,
        name: impl Into<TimerName>,
        after: Duration,
        to: D,
        message: D::Msg,
    ) -> Pending<Result<(), Rejection>> {
        self.local.handle.schedule(name, after, to, message)
    }

    /// As [`Handle::schedule_periodic`].
    pub fn schedule_periodic<D: Destination>(
        &self,
        name: impl Into<TimerName>,
        every: Duration,
        to: D,
        make: impl FnMut() -> D::Msg + Send + 'static,
    ) -> Pending<Result<(), Rejection>> {
        self.local.handle.schedule_periodic(name, every, to, make)
    }

    /// As [`Handle::cancel_schedule`].
    pub fn cancel_schedule(&self, name: impl Into<TimerName>) -> Pending<Result<bool, Rejection>> {
        self.local.handle.cancel_schedule(name)
    }
}

/// # Schedules
///
/// As [those of a handle](Handle::schedule).
impl Scope {
    /// As [`Handle::schedule`].
    pub fn schedule<D: Destination>(
        &self,
        name: impl Into<TimerName>,
        after: Duration,
        to: D,
        message: D::Msg,
    ) -> Pending<Result<(), Rejection>> {
        self.by_handle(|handle| handle.schedule(name, after, to, message))
    }

    /// As [`Handle::schedule_periodic`].
    pub fn schedule_periodic<D: Destination>(
        &self,
        name: impl Into<TimerName>,
        every: Duration,
        to: D,
        make: impl FnMut() -> D::Msg + Send + 'static,
    ) -> Pending<Result<(), Rejection>> {
        self.by_handle(|handle| handle.schedule_periodic(name, every, to, make))
    }

    /// As [`Handle::cancel_schedule`].
    pub fn cancel_schedule(&self, name: impl Into<TimerName>) -> Pending<Result<bool, Rejection>> {
        self.by_handle(|handle| handle.cancel_schedule(name))
    }

    fn by_handle<T>(
        &self,
        call: impl FnOnce(&Handle) -> Pending<Result<T, Rejection>>,
    ) -> Pending<Result<T, Rejection>> {
        let gone = || Pending::ready(Err(Rejection::ShuttingDown));
        self.with(|local| call(&local.handle)).unwrap_or_else(gone)
    }
}

impl Local {
    /// Sends what is due by a schedule.
    pub(super) fn send_scheduled(&mut self, id: u32) {
        let Some((every, Some(mut send))) =
            self.sending(id).map(|(every, send)| (every, send.take()))
        else {
            return;
        };
        match every {
            Some(every) => {
                let again = self.now + every;
                self.named_timers.start_again(&mut self.timers, id, again);
            }
            None => drop(self.named_timers.end(&mut self.timers, id)),
        }
        let sent = guarded(|| send.send(self));
        if let Err(panic) = &sent {
            tracing::error!(core = %self.core, panic, "what a schedule does panicked: it has ended");
        }
        match (sent, every) {
            (Ok(()), Some(_)) => {
                if let Some((_, place)) = self.sending(id) {
                    *place = Some(send);
                }
            }
            (Err(_), Some(_)) => {
                drop(self.named_timers.end(&mut self.timers, id));
                drop_guarded(send);
            }
            (_, None) => drop_guarded(send),
        }
    }

    fn sending(&mut self, id: u32) -> Option<(Option<Duration>, &mut Option<Sending>)> {
        let timer = self.named_timers.get_mut(id)?;
        match &mut timer.purpose {
            Purpose::Send(send) => Some((timer.every, send)),
            Purpose::Tick(_) => None,
        }
    }
}
