//! Faults on purpose: messages that fail, panic, are dropped or delayed, chosen one by one or drawn from the seed.

use crate::actor::entity_id::EntityId;
use crate::actor::guard::guarded;
use crate::actor::model::{Actor, Fault};
use crate::actor::reference::{ActorRef, CellRef, EntityRef};
use crate::actor::trace::{Upcoming, Verdict, digest};
use crate::base::ids::CoreId;
use crate::base::rng::Rng;
use crate::wire::message::Message;
use rand::RngExt;
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A fault for messages that are about to be handled: what happens to them, to which of them, and whose they are. It is
/// given to [`Simulation::inject`](super::simulation::Simulation::inject).
///
/// Without further calls it strikes every message to everybody. It can be narrowed down by several calls, which must all be
/// true of a message. Probes are spared unless it is aimed at somebody (`to_...`). If two strike the same message, the one
/// that was injected first has it; both have counted it.
///
/// Messages are counted and struck when their turn has come, so in the order in which the actor would handle them,
/// wherever they came from; an outcome that an actor has asked for (of `ask`, `spawn` and the like) is one of them, except
/// for drops, since no runtime loses one. A tick of an actor's own timers is none.
///
/// ```
/// use corecast::sim::{Injection, Simulation};
/// use corecast::{Actor, AskError, Context, CoreId, Fault, Next, Rejection, ReplyTo, Uncertainty};
///
/// struct Echo;
///
/// impl Actor for Echo {
///     type Msg = (u32, ReplyTo<u32>);
///
///     fn receive(&mut self, (number, reply_to): Self::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
///         ctx.reply(reply_to, number);
///         Ok(Next::Continue)
///     }
/// }
///
/// let mut sim = Simulation::builder(1).start();
/// let echo = sim.spawn(CoreId(1), || Echo).unwrap();
/// let dropped = sim.inject(Injection::drop().nth(2).to_actor(echo));
/// sim.inject(Injection::fail().to_actor(echo).only(|(number, _): &(u32, ReplyTo<u32>)| *number == 13));
///
/// assert_eq!(sim.ask(echo, |reply_to| (11, reply_to)), Ok(11));
/// assert_eq!(sim.ask(echo, |reply_to| (12, reply_to)), Err(Rejection::Injected.into()));
/// assert_eq!(dropped.struck(), 1);
/// assert_eq!(sim.ask(echo, |reply_to| (13, reply_to)), Err(Uncertainty::HandlerFailed.into()));
/// ```
#[must_use = "a fault does nothing until it is injected"]
pub struct Injection {
    what: What,
    when: When,
    /// It is for receivers that were chosen.
    is_aimed: bool,
    aims: Vec<Aim>,
}

enum What {
    Fail(Box<dyn Fn() -> Fault>),
    Panic,
    Drop,
    Delay(Duration),
}

enum When {
    Always,
    /// So many messages later, counted down.
    Nth(u64),
    Share(f64),
}

type Aim = Box<dyn Fn(CoreId, &Upcoming<'_>) -> bool>;

impl Injection {
    fn new(what: What) -> Injection {
        Injection {
            what,
            when: When::Always,
            is_aimed: false,
            aims: Vec::new(),
        }
    }

    /// The handler is not run, and the actor gets a fault as if [`receive`](Actor::receive) had returned it: the message is
    /// lost with it, and its ask ends as [`HandlerFailed`](crate::Uncertainty::HandlerFailed).
    pub fn fail() -> Injection {
        Injection::fail_with(|| Fault::new("an injected fault"))
    }

    /// Like [`fail`](Injection::fail), with a fault of your own.
    pub fn fail_with(make: impl Fn() -> Fault + 'static) -> Injection {
        Injection::new(What::Fail(Box::new(make)))
    }

    /// As if the handler had panicked at once.
    pub fn panic() -> Injection {
        Injection::new(What::Panic)
    }

    /// The message never reaches a handler: it becomes a dead letter for the reason
    /// [`Injected`](crate::Rejection::Injected), and an ask ends at once as rejected for that reason, as it does
    /// wherever else a node drops a message.
    pub fn drop() -> Injection {
        Injection::new(What::Drop)
    }

    /// The message waits for so long in its mailbox, and what lies behind it with it, so that everything stays in order:
    /// as if the handler of the message before it took that long, without holding the core. A shutdown and a move of
    /// its shard wait for the actor as for one in an asynchronous handler, which has no deadline here;
    /// [`run_until_idle`](super::simulation::Simulation::run_until_idle) waits for it no more than for other timers.
    pub fn delay(delay: Duration) -> Injection {
        Injection::new(What::Delay(delay))
    }

    /// Strikes the message of this number only, counted from the injection: 1 is the next one.
    ///
    /// # Panics
    /// If it is 0.
    pub fn nth(mut self, number: u64) -> Injection {
        assert!(number > 0, "messages are counted from 1");
        self.when = When::Nth(number);
        self
    }

    /// Strikes each message with this probability, drawn from the seed.
    ///
    /// # Panics
    /// If it is none.
    pub fn share(mut self, probability: f64) -> Injection {
        assert_probability(probability);
        self.when = When::Share(probability);
        self
    }

    /// Strikes messages to one actor only. For an entity that is its present activation.
    pub fn to_actor<M>(self, actor: ActorRef<M>) -> Injection {
        let (core, cell) = (actor.core, actor.cell);
        self.aim_at(move |at, upcoming| (at, upcoming.to) == (core, cell))
    }

    /// Strikes messages to one entity only, wherever it is, in all its lives.
    pub fn to_entity<I: EntityId, M: Message>(self, entity: EntityRef<I, M>) -> Injection {
        self.aim_at(move |_, upcoming| {
            upcoming.entity.is_some_and(|(entity_type, id)| {
                let is_it = |id: &I| id.is(entity.id.as_key());
                entity_type == entity.region.id && id.downcast_ref().is_some_and(is_it)
            })
        })
    }

    /// Strikes messages to actors of one type only, entities among them. An [`AsyncActor`](crate::AsyncActor) is of the
    /// type [`Awaiting<A>`](crate::Awaiting).
    pub fn to_type<A: Actor>(self) -> Injection {
        self.aim_at(|_, upcoming| upcoming.actor == TypeId::of::<A>())
    }

    /// Strikes messages of one type only, and of these the ones for which this is true. A panic in there fails the run.
    pub fn only<M: Message>(mut self, wanted: impl Fn(&M) -> bool + 'static) -> Injection {
        let is_wanted =
            move |_, upcoming: &Upcoming<'_>| upcoming.message.downcast_ref().is_some_and(&wanted);
        self.aims.push(Box::new(is_wanted));
        self
    }

    fn aim_at(mut self, aim: impl Fn(CoreId, &Upcoming<'_>) -> bool + 'static) -> Injection {
        self.is_aimed = true;
        self.aims.push(Box::new(aim));
        self
    }
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injection").finish_non_exhaustive()
    }
}

/// A fault that has been injected. Dropping this changes nothing.
#[derive(Clone, Debug)]
pub struct Injected {
    struck: Rc<Cell<u64>>,
    ended: Rc<Cell<bool>>,
}

impl Injected {
    /// How many messages it has struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.struck.get()
    }

    /// From now on it strikes nothing.
    pub fn end(&self) {
        self.ended.set(true);
    }
}

/// How often which fault strikes, drawn from the seed for each message to everybody but probes. The rest is handled.
///
/// ```
/// # use corecast::sim::{FaultPlan, Simulation};
/// # let mut sim = Simulation::builder(1).start();
/// sim.faults(FaultPlan { fail: 0.01, delay: 0.1, ..FaultPlan::default() });
/// // ... the load ...
/// sim.faults(FaultPlan::default()); // none: see whether everything comes right
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPlan {
    /// The probability of [`Injection::fail`].
    pub fail: f64,
    /// The probability of [`Injection::panic`].
    pub panic: f64,
    /// The probability of [`Injection::drop`].
    pub drop: f64,
    /// The probability of [`Injection::delay`].
    pub delay: f64,
    /// A delay takes from nothing to this (default 10 ms).
    pub longest_delay: Duration,
}

impl Default for FaultPlan {
    /// No faults.
    fn default() -> FaultPlan {
        FaultPlan {
            fail: 0.0,
            panic: 0.0,
            drop: 0.0,
            delay: 0.0,
            longest_delay: Duration::from_millis(10),
        }
    }
}

fn assert_probability(probability: f64) {
    assert!(
        (0.0..=1.0).contains(&probability),
        "{probability} is no probability: it must be between 0 and 1"
    );
}

impl FaultPlan {
    fn parts(&self) -> [f64; 4] {
        [self.fail, self.panic, self.drop, self.delay]
    }

    fn check(&self) {
        self.parts().into_iter().for_each(assert_probability);
        assert_probability(self.parts().iter().sum());
    }

    fn draw(&self, rng: &mut Rng) -> Verdict {
        let mut drawn: f64 = rng.random();
        for (number, part) in self.parts().into_iter().enumerate() {
            if drawn < part {
                return match number {
                    0 => Verdict::Fail(Fault::new("an injected fault")),
                    1 => Verdict::Panic,
                    2 => Verdict::Drop,
                    _ => Verdict::Delay(rng.random_range(Duration::ZERO..=self.longest_delay)),
                };
            }
            drawn -= part;
        }
        Verdict::Handle
    }
}

struct Rule {
    injection: Injection,
    injected: Injected,
}

impl Rule {
    /// Whether it strikes a message; one that it is not aimed at does not count.
    fn strikes(&mut self, at: &Judged<'_>, rng: &mut Rng) -> bool {
        let Injection {
            what,
            when,
            is_aimed,
            aims,
        } = &mut self.injection;
        if self.injected.ended.get()
            || at.is_spared && !*is_aimed
            || at.is_owed && matches!(what, What::Drop)
            || !aims.iter().all(|aim| aim(at.core, at.upcoming))
        {
            return false;
        }
        match when {
            When::Always => true,
            When::Share(probability) => rng.random_bool(*probability),
            When::Nth(left) => {
                *left -= 1;
                if *left == 0 {
                    self.injected.end();
                }
                *left == 0
            }
        }
    }

    fn verdict(&self) -> Verdict {
        self.injected.struck.set(self.injected.struck.get() + 1);
        match &self.injection.what {
            What::Fail(make) => Verdict::Fail(make()),
            What::Panic => Verdict::Panic,
            What::Drop => Verdict::Drop,
            What::Delay(delay) => Verdict::Delay(*delay),
        }
    }
}

/// A message on which a decision is taken.
struct Judged<'a> {
    core: CoreId,
    upcoming: &'a Upcoming<'a>,
    /// Only what is aimed at it strikes its receiver.
    is_spared: bool,
    /// Its receiver has asked for it.
    is_owed: bool,
}

/// Decides on every message of a simulation.
pub(super) struct Injector {
    rules: Vec<Rule>,
    plan: FaultPlan,
    rng: Rng,
    /// Types of actors that only faults strike which are aimed at them.
    spared: BTreeSet<TypeId>,
    /// Whose next message has had its delay.
    delayed: BTreeSet<(CoreId, CellRef)>,
    /// Outcomes that are on their way, and how many of each. Those for entities, which may move, have no receiver here.
    owed: BTreeMap<(Option<(CoreId, CellRef)>, Key), u32>,
    /// What code of the test's said that panicked here: a fault of the test, and not of the actor.
    broken: Option<String>,
}

/// What tells one message from another: its type, and the digest of how it is shown.
type Key = (TypeId, u64);

impl Injector {
    pub(super) fn new(rng: Rng, spared: BTreeSet<TypeId>) -> Injector {
        Injector {
            rules: Vec::new(),
            plan: FaultPlan::default(),
            rng,
            spared,
            delayed: BTreeSet::new(),
            owed: BTreeMap::new(),
            broken: None,
        }
    }

    pub(super) fn spare<A: Actor>(&mut self) {
        self.spared.insert(TypeId::of::<A>());
    }

    pub(super) fn inject(&mut self, injection: Injection) -> Injected {
        let injected = Injected {
            struck: Rc::default(),
            ended: Rc::default(),
        };
        self.rules.push(Rule {
            injection,
            injected: injected.clone(),
        });
        injected
    }

    pub(super) fn follow(&mut self, plan: FaultPlan) {
        plan.check();
        self.plan = plan;
    }

    /// Whether a message may be struck by a fault.
    pub(super) fn may_interfere(&self) -> bool {
        let FaultPlan {
            fail,
            panic,
            drop,
            delay,
            ..
        } = self.plan;
        !self.rules.is_empty() || fail + panic + drop + delay > 0.0
    }

    pub(super) fn owe(
        &mut self,
        to: Option<(CoreId, CellRef)>,
        outcome: &dyn Any,
        shown: &dyn fmt::Debug,
    ) {
        if let Some(key) = key_of(outcome, shown) {
            *self.owed.entry((to, key)).or_default() += 1;
        }
    }

    /// What a condition or a factory of faults has said that panicked.
    pub(super) fn take_broken(&mut self) -> Option<String> {
        self.broken.take()
    }

    pub(super) fn judge(&mut self, core: CoreId, upcoming: &Upcoming<'_>) -> Verdict {
        let owed = self.owed_as(core, upcoming);
        let verdict = if self.delayed.remove(&(core, upcoming.to)) {
            Verdict::Handle
        } else {
            self.decide(&Judged {
                core,
                upcoming,
                is_spared: self.spared.contains(&upcoming.actor),
                is_owed: owed.is_some(),
            })
        };
        if matches!(verdict, Verdict::Delay(_)) {
            self.delayed.insert((core, upcoming.to));
        } else if let Some(key) = owed {
            self.settle(key);
        }
        verdict
    }

    fn decide(&mut self, at: &Judged<'_>) -> Verdict {
        let mut verdict = None;
        for rule in &mut self.rules {
            let struck = guarded(|| {
                let strikes = rule.strikes(at, &mut self.rng);
                (strikes && verdict.is_none()).then(|| rule.verdict())
            });
            match struck {
                Ok(Some(struck)) => verdict = Some(struck),
                Ok(None) => {}
                Err(panic) => _ = self.broken.get_or_insert(panic),
            }
        }
        self.rules.retain(|rule| !rule.injected.ended.get());
        if let Some(verdict) = verdict {
            return verdict;
        }
        if at.is_spared || self.plan.parts() == [0.0; 4] {
            return Verdict::Handle;
        }
        match self.plan.draw(&mut self.rng) {
            Verdict::Drop if at.is_owed => Verdict::Handle,
            verdict => verdict,
        }
    }

    /// The key of a message, if it is an outcome, or looks like one.
    fn owed_as(
        &self,
        core: CoreId,
        upcoming: &Upcoming<'_>,
    ) -> Option<(Option<(CoreId, CellRef)>, Key)> {
        if self.owed.is_empty() {
            return None;
        }
        let to = upcoming.entity.is_none().then_some((core, upcoming.to));
        let key = (to, key_of(upcoming.message, upcoming.shown)?);
        self.owed.contains_key(&key).then_some(key)
    }

    fn settle(&mut self, key: (Option<(CoreId, CellRef)>, Key)) {
        if let Some(count) = self.owed.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.owed.remove(&key);
            }
        }
    }
}

/// What tells one message from another; `None` if it cannot be shown.
fn key_of(message: &dyn Any, shown: &dyn fmt::Debug) -> Option<Key> {
    let digest = guarded(|| digest(shown)).ok()?;
    Some((message.type_id(), digest))
}
