//! What asynchronous code on a core can do.

use super::handle::Handle;
use super::local::{Extra, Local};
use super::mailbox::Stored;
use super::pending::{Pending, pending};
use super::reference::Destination;
use super::refusal::{AskError, Refused, Rejection, Uncertainty};
use super::reply::{Envelope, ReplyTo, discard_message};
use super::task::Detached;
use crate::base::ids::CoreId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::wire::message::Message;
use rand::SeedableRng;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::rc::Weak;
use std::task::Poll;
use std::time::Duration;

/// The runtime as seen from a future on a core; it stays on that core.
///
/// A future gets it from [`Context::scope`](super::context::Context::scope) or
/// [`Handle::run_on`](super::handle::Handle::run_on). Inside a handler use the context: there every call on a scope
/// panics, since the handler holds what the scope needs. One that is kept somewhere until its core has gone does nothing
/// any more: what it is given to send is dropped, and nobody is left to count it.
#[derive(Clone)]
pub struct Scope {
    local: Weak<RefCell<Local>>,
    core: CoreId,
}

impl Scope {
    pub(crate) fn of(local: &Local) -> Scope {
        Scope {
            local: local.me.clone(),
            core: local.core,
        }
    }

    /// The core on which the future runs.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// The time at which this turn of the core began.
    #[must_use]
    pub fn now(&self) -> Time {
        self.with(|local| local.now).unwrap_or(Time::MAX)
    }

    /// The time right now, read from the clock.
    #[must_use]
    pub fn clock(&self) -> Time {
        self.with(|local| local.clock.now()).unwrap_or(Time::MAX)
    }

    /// A generator that goes on from the [randomness of the core](super::context::Context::rng), for the caller to keep:
    /// `scope.rng().random_range(1..=6)` for one number, `let mut rng = scope.rng()` for many.
    #[must_use]
    pub fn rng(&self) -> Rng {
        self.with(|local| Rng::from_rng(&mut local.rng))
            .unwrap_or_else(|| Rng::seed_from_u64(0))
    }

    /// A handle for threads outside of the cores; `None` when the core has gone.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        self.with(|local| local.handle.clone())
    }

    /// As [`Context::tell`](super::context::Context::tell).
    pub fn tell<D: Destination>(&self, to: D, message: D::Msg) {
        self.with(|local| local.tell(to, message));
    }

    /// As [`Context::try_tell`](super::context::Context::try_tell).
    ///
    /// # Errors
    /// The message and the reason; nothing has changed.
    pub fn try_tell<D: Destination>(&self, to: D, message: D::Msg) -> Result<(), Refused<D::Msg>> {
        let mut message = Some(message);
        let sent = self.with(|local| match message.take() {
            Some(message) => to
                .deliver(local, message, None)
                .inspect_err(|refused| local.counters.count_refusal(refused.why)),
            None => Ok(()),
        });
        match (sent, message) {
            (Some(sent), _) => sent,
            (None, Some(message)) => Err(Refused {
                message,
                why: Rejection::ShuttingDown,
            }),
            (None, None) => Ok(()),
        }
    }

    /// Sends, and resolves once the message lies in the receiver's mailbox. Under
    /// [`Policy::Backpressure`](super::mailbox::Policy::Backpressure) it waits there for room, in order.
    pub fn send<D: Destination>(&self, to: D, message: D::Msg) -> Pending<Result<(), AskError>> {
        let (completer, stored) = pending(Err(Uncertainty::RuntimeGone.into()));
        self.with(|local| {
            local.send(
                to,
                message,
                Box::new(move |_, outcome| completer.complete(outcome.map(|Stored| ()))),
            )
        });
        stored
    }

    /// Answers an ask.
    pub fn reply<R: Message>(&self, to: ReplyTo<R>, reply: R) {
        self.with(|local| local.reply(to, reply));
    }

    /// Asks, and waits for the reply as long as [`Settings::ask_timeout`](crate::Settings::ask_timeout) says, 5 s by
    /// default.
    pub fn ask<D: Destination, R: Message>(
        &self,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
    ) -> Pending<Result<R, AskError>> {
        self.ask_inner(None, to, make)
    }

    /// Asks, with a time to wait of your own.
    pub fn ask_within<D: Destination, R: Message>(
        &self,
        within: Duration,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
    ) -> Pending<Result<R, AskError>> {
        self.ask_inner(Some(within), to, make)
    }

    fn ask_inner<D: Destination, R: Message>(
        &self,
        within: Option<Duration>,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg,
    ) -> Pending<Result<R, AskError>> {
        let (completer, reply) = pending(Err(Uncertainty::RuntimeGone.into()));
        self.with(|local| {
            let within = within.unwrap_or(local.limits.ask_timeout);
            local.ask(
                to,
                within,
                make,
                Box::new(move |_, outcome| completer.complete(outcome)),
            )
        });
        reply
    }

    /// Lets everything that is ready on this core have its turn, and goes on in the core's next one: what a long loop in a
    /// future does now and then, so that the actors that it sends to can handle what they have.
    ///
    /// ```
    /// # use corecast::{CoreId, Runtime};
    /// # let runtime = Runtime::builder().cores("0".parse()?).start()?;
    /// let sum = runtime.handle().run_on(CoreId(0), |scope| async move {
    ///     let mut sum = 0_u64;
    ///     for number in 0..10_000 {
    ///         sum += number;
    ///         if number % 1_000 == 999 {
    ///             scope.yield_now().await;
    ///         }
    ///     }
    ///     sum
    /// });
    /// assert_eq!(sum.wait()?, 49_995_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// A future that ends after `duration`, by the core's timers (to about a millisecond).
    pub fn sleep(&self, duration: Duration) -> Pending<()> {
        self.with(|local| {
            let until = local.now + duration;
            local.sleep_until(until)
        })
        .unwrap_or_else(|| Pending::ready(()))
    }

    /// Runs another future beside this one, on the same core. A shutdown does not wait for it, as described at
    /// [`Context::spawn`](super::context::Context::spawn).
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.with(|local| local.add_job(Box::new(Detached::new(future))));
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Local) -> T) -> Option<T> {
        let local = self.local.upgrade()?;
        let Ok(mut local) = local.try_borrow_mut() else {
            panic!("a scope was used inside a handler: there, use the handler's context")
        };
        Some(work(&mut local))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.core)
    }
}

impl Local {
    /// Sends with a receipt.
    pub(crate) fn send<D: Destination>(
        &mut self,
        to: D,
        message: D::Msg,
        sink: super::asks::Sink<Stored>,
    ) {
        // A receipt may take as long as the receiver needs to make room; it ends with the receiver, not with time, unless the
        // message leaves the node.
        match self.open_ask::<Stored>(Duration::from_nanos(u64::MAX), sink) {
            Ok(stored) => {
                if let Err(refused) = to.deliver(self, message, Some(Extra::Acknowledge(stored))) {
                    self.counters.count_refusal(refused.why);
                    discard_message(refused.why, Envelope::Plain, refused.message);
                }
            }
            Err((why, sink)) => {
                self.counters.count_refusal(why);
                discard_message(why, Envelope::Plain, message);
                sink(self, Err(why.into()));
            }
        }
    }
}
