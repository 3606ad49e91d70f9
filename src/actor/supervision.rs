//! What becomes of an actor that has failed: directives, strategies, and how often and how soon it is restarted.
//!
//! The vocabulary is that of Erlang/OTP's supervisors ("Supervisor Behaviour", OTP Design Principles) and of Akka.

use super::guard::{drop_guarded, guarded};
use super::model::Fault;
use crate::base::stable_hash::stable_hash;
use crate::base::time::Time;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Directive {
    /// The actor goes on with its state as it is and its next message. An asynchronous handler that was under way is given
    /// up: what was to follow its future does not happen.
    Resume,
    /// The actor gets a new state from its factory and goes on with its next message.
    Restart,
    /// The actor stops.
    Stop,
    /// The fault is the parent's: its own supervisor decides. An actor without a parent stops.
    Escalate,
}

/// Whom a [`Directive::Restart`] or [`Directive::Stop`] concerns, among the children of one parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The actor that has failed.
    #[default]
    OneForOne,
    /// All of them.
    AllForOne,
    /// The one that has failed and those that were started after it.
    RestForOne,
}

/// How long an actor waits before it is restarted: longer after each fault, until a message has been handled.
///
/// ```
/// use corecast::Backoff;
/// use std::time::Duration;
///
/// let patient = Backoff { initial: Duration::from_secs(1), ..Backoff::default() };
/// assert_eq!(patient.max, Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The longest first wait (default 100 ms).
    pub initial: Duration,
    /// The longest wait of all (default 30 s).
    pub max: Duration,
    /// By how much the longest wait grows with each fault (default 2; below 1 it counts as 1).
    pub factor: f64,
    /// Which part of the wait is left to chance, so that what has failed together does not come back together (default
    /// 0.2; from 0 to 1).
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.2,
        }
    }
}

impl Backoff {
    /// No wait at all.
    pub const NONE: Backoff = Backoff {
        initial: Duration::ZERO,
        max: Duration::ZERO,
        factor: 1.0,
        jitter: 0.0,
    };

    /// The wait after `failures` faults in a row. `chance` stands for the throw of a die.
    pub(crate) fn delay(&self, failures: u32, chance: u64) -> Duration {
        let grown = self.initial.as_secs_f64() * self.factor.max(1.0).powf(failures.into());
        let longest = grown.min(self.max.as_secs_f64());
        let share = chance as f64 / u64::MAX as f64;
        let wait = longest * (1.0 - self.jitter.clamp(0.0, 1.0) * share);
        Duration::try_from_secs_f64(wait).unwrap_or(self.max)
    }
}

/// How the faults of an actor are dealt with.
///
/// It is given to an actor when it is [spawned](super::spawn::SpawnOptions::supervised), to an entity type
/// ([`EntityType::supervised`](super::entity::EntityType::supervised)), or by a parent to its children
/// ([`Actor::supervision`](super::model::Actor::supervision)), or put around a
/// [behaviour](crate::behavior::supervise). The default restarts the one actor, at most 3 times within
/// 60 s, after a [`Backoff`]; the next fault in that time stops it.
///
/// ```
/// use corecast::{Backoff, Directive, Strategy, Supervision};
/// use std::time::Duration;
///
/// let of_workers = Supervision::decide(|fault| match fault.cause().downcast_ref::<std::io::Error>() {
///     Some(_) => Directive::Restart,
///     None if fault.is_panic() => Directive::Escalate,
///     None => Directive::Stop,
/// })
/// .strategy(Strategy::RestForOne)
/// .restarts(10, Duration::from_secs(3_600))
/// .backoff(Backoff::NONE);
/// # let _ = of_workers;
/// ```
#[derive(Clone)]
#[must_use = "a supervision does nothing until it is given to an actor"]
pub struct Supervision {
    decider: Decider,
    pub(crate) strategy: Strategy,
    max_restarts: u32,
    within: Duration,
    pub(crate) backoff: Backoff,
    /// Who decides about what this one escalates, before the parent's own does.
    outer: Option<Box<Supervision>>,
}

#[derive(Clone)]
enum Decider {
    Always(Directive),
    Each(Arc<dyn Fn(&Fault) -> Directive + Send + Sync>),
}

/// A decider of a user's that is dropped for itself: supervisions lie within each other and beside factories and faults, and
/// one panic must not meet another.
struct Guarded<F>(Option<F>);

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        drop_guarded(self.0.take());
    }
}

impl Default for Supervision {
    fn default() -> Self {
        Supervision::always(Directive::Restart)
    }
}

impl Supervision {
    /// The same directive for every fault.
    ///
    /// To resume after a panic, which may have left the state half changed, takes a decision for that fault
    /// ([`decide`](Supervision::decide), or the actor's own [`on_error`](super::model::Actor::on_error)):
    /// [`Directive::Resume`] here restarts the actor then.
    pub fn always(directive: Directive) -> Self {
        Supervision::of(Decider::Always(directive))
    }

    /// A directive for each fault. If the decider panics, the actor stops.
    pub fn decide(decider: impl Fn(&Fault) -> Directive + Send + Sync + 'static) -> Self {
        let decider = Guarded(Some(decider));
        let decide = move |fault: &Fault| match &decider.0 {
            Some(decide) => decide(fault),
            None => Directive::Stop,
        };
        Supervision::of(Decider::Each(Arc::new(decide)))
    }

    fn of(decider: Decider) -> Self {
        Supervision {
            decider,
            strategy: Strategy::OneForOne,
            max_restarts: 3,
            within: Duration::from_secs(60),
            backoff: Backoff::default(),
            outer: None,
        }
    }

    /// Puts this supervision, with those that it is within already, into another one.
    pub(crate) fn inside(mut self, outer: Supervision) -> Self {
        self.outer = Some(Box::new(match self.outer.take() {
            Some(next) => next.inside(outer),
            None => outer,
        }));
        self
    }

    /// What is to be done about a fault, and whose limits it falls under: those of the innermost that does not escalate.
    pub(crate) fn ruling(&self, fault: &Fault) -> (Directive, &Supervision) {
        match (self.directive(fault), &self.outer) {
            (Directive::Escalate, Some(outer)) => outer.ruling(fault),
            (directive, _) => (directive, self),
        }
    }

    /// Whom it concerns (default: the actor that has failed). Only actors with a parent have siblings.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How often an actor is restarted within a time (default 3 within 60 s; more than 32,768 is no limit). A further fault
    /// in that time stops it.
    pub fn restarts(mut self, max: u32, within: Duration) -> Self {
        self.max_restarts = max;
        self.within = within;
        self
    }

    /// How long an actor waits before it is restarted.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    fn directive(&self, fault: &Fault) -> Directive {
        match &self.decider {
            Decider::Always(Directive::Resume) if fault.is_panic() => Directive::Restart,
            Decider::Always(directive) => *directive,
            Decider::Each(decide) => guarded(|| decide(fault)).unwrap_or_else(|panic| {
                tracing::error!(panic, "the decider of a supervision panicked");
                Directive::Stop
            }),
        }
    }
}

impl fmt::Debug for Supervision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Supervision");
        match &self.decider {
            Decider::Always(directive) => shown.field("always", directive),
            Decider::Each(_) => shown.field("decide", &"each fault"),
        };
        shown
            .field("strategy", &self.strategy)
            .field("max_restarts", &self.max_restarts)
            .field("within", &self.within)
            .field("backoff", &self.backoff);
        if let Some(outer) = &self.outer {
            shown.field("outer", outer);
        }
        shown.finish()
    }
}

/// Restarts of one actor that are remembered. Who allows more within a time sets no limit.
const REMEMBERED: usize = 32_768;

/// When an actor was restarted lately, and how often it has failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// The latest, oldest first, whoever decided on them.
    times: VecDeque<Time>,
    /// Faults since a message was handled.
    failures: u32,
    /// Restarts of all its life.
    total: u64,
    /// Faults after which it went on as it was.
    resumed: u64,
}

impl Restarts {
    /// Whether one more restart is allowed now.
    pub(crate) fn allow(&self, now: Time, supervision: &Supervision) -> bool {
        let is_recent = |time: &&Time| **time + supervision.within > now;
        // They are in order, and the latest are those that count.
        self.times.iter().rev().take_while(is_recent).count() < supervision.max_restarts as usize
    }

    /// Notes a restart.
    pub(crate) fn note(&mut self, now: Time) {
        if self.times.len() == REMEMBERED {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.failures = self.failures.saturating_add(1);
        self.total += 1;
    }

    /// How long to wait before the next one. `who` is mixed with the time, so that not all wait equally long.
    pub(crate) fn delay(&self, now: Time, who: u64, backoff: &Backoff) -> Duration {
        let words = [now.as_nanos(), who, self.total].map(u64::to_le_bytes);
        backoff.delay(self.failures, stable_hash(words.as_flattened()))
    }

    /// A message was handled: the next wait is short again.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Restarts of all its life.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// It goes on as it is after a fault.
    pub(crate) fn resumed(&mut self) {
        self.resumed += 1;
    }

    /// Grows with each fault: a future for which it waited before is not waited for any more.
    pub(crate) fn life(&self) -> u64 {
        self.total + self.resumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_wait_grows_to_its_bound_and_chance_only_shortens_it() {
        let backoff = Backoff::default();
        let longest: Vec<_> = (0..10).map(|n| backoff.delay(n, 0).as_millis()).collect();
        assert_eq!(longest[..5], [100, 200, 400, 800, 1_600]);
        assert_eq!(longest[9], 30_000);
        assert_eq!(backoff.delay(u32::MAX, 0), backoff.max);
        assert_eq!(backoff.delay(0, u64::MAX).as_millis(), 80);
        assert_eq!(Backoff::NONE.delay(7, 3), Duration::ZERO);
    }

    #[test]
    fn resuming_after_a_panic_takes_a_decision() {
        let panic = Fault::panicked("half done".into());
        let always = Supervision::always(Directive::Resume);
        assert_eq!(always.directive(&Fault::new("no")), Directive::Resume);
        assert_eq!(always.directive(&panic), Directive::Restart);
        let decided = Supervision::decide(|_| Directive::Resume);
        assert_eq!(decided.directive(&panic), Directive::Resume);
        let broken = Supervision::decide(|_| panic!("undecided"));
        assert_eq!(broken.directive(&panic), Directive::Stop);
    }

    #[test]
    fn the_innermost_that_does_not_escalate_decides_under_its_own_limits() {
        let texts = |text: &'static str, directive| {
            Supervision::decide(move |fault| {
                if fault.to_string() == text {
                    directive
                } else {
                    Directive::Escalate
                }
            })
        };
        let nested = texts("a", Directive::Resume)
            .restarts(1, SECOND)
            .inside(texts("b", Directive::Restart).restarts(2, SECOND))
            .inside(texts("c", Directive::Stop).restarts(3, SECOND));
        let ruling = |text| {
            let (directive, ruling) = nested.ruling(&Fault::new(text));
            (directive, ruling.max_restarts)
        };
        assert_eq!(ruling("a"), (Directive::Resume, 1));
        assert_eq!(ruling("b"), (Directive::Restart, 2));
        assert_eq!(ruling("c"), (Directive::Stop, 3));
        assert_eq!(ruling("d"), (Directive::Escalate, 3));
    }

    proptest! {
        /// Against a record of everything: never more than `max` within any stretch of the given length, and a restart is
        /// refused only if there were as many.
        #[test]
        fn the_window_is_exact(max in 0_u32..5, within in 1_u64..10, steps in prop::collection::vec(0_u64..6, 0..60)) {
            let supervision = Supervision::default().restarts(max, SECOND * within as u32);
            let mut restarts = Restarts::default();
            let mut all: Vec<u64> = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                let time = Time::ZERO + SECOND * now as u32;
                let lately = all.iter().filter(|then| **then + within > now).count();
                prop_assert_eq!(restarts.allow(time, &supervision), lately < max as usize);
                if lately < max as usize {
                    restarts.note(time);
                    all.push(now);
                }
            }
            prop_assert_eq!(restarts.total(), all.len() as u64);
        }
    }
}
