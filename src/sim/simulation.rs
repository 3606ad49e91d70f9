//! A running simulation: a node whose time passes only when it is told to.

use super::builder::SimulationBuilder;
use super::check::say_seed;
use super::elsewhere::Elsewhere;
use super::injection::{FaultPlan, Injected, Injection};
use super::probe::{Inbox, Probe, Probing};
use super::trace::Trace;
use super::world::{Step, World};
use crate::actor::context::Context;
use crate::actor::control::Request;
use crate::actor::handle::Handle;
use crate::actor::mailbox::Mailbox;
use crate::actor::model::Actor;
use crate::actor::pending::{Completer, Pending, pending};
use crate::actor::reference::{ActorRef, Destination};
use crate::actor::refusal::{AskError, Refused, Rejection, SpawnError, Uncertainty};
use crate::actor::reply::{ReplyTo, RuntimeId, close_exit};
use crate::actor::spawn::SpawnOptions;
use crate::base::ids::{CoreId, ShardKey};
use crate::base::time::Time;
use crate::engine::stats::Stats;
use crate::sharding::move_error::MoveError;
use crate::sharding::topology::Topology;
use crate::wire::message::Message;
use std::cell::Ref;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the calls that wait let the world run.
const PATIENCE: Duration = Duration::from_secs(600);

/// A simulated node. Its virtual time passes only inside its own methods; a [`Handle`] of it sends, and its results come
/// while the simulation runs, so take them with [`run_until`](Simulation::run_until) instead of waiting for them.
///
/// It belongs to the thread that has started it. Whatever makes it do something from another thread fails the run, and so
/// does a call for a runtime that is not there; see the [module](super).
///
/// # Panics
/// Every method that lets the world run, and the end of the simulation, if that has happened. A panic that goes past the
/// simulation, as that of an assertion of the test, is followed by the seed and the line that replays it.
pub struct Simulation {
    pub(super) world: World,
    handle: Handle,
    runtime: RuntimeId,
    /// The time that an ask has which is given none of its own.
    ask_timeout: Duration,
    /// Its cores have stopped.
    closed: bool,
}

/// A result did not come: nothing is going to happen any more, or the time is up.
pub struct StillPending<T> {
    /// The result that has not come.
    pub pending: Pending<T>,
    /// The virtual time now.
    pub now: Time,
    /// The seed of the run.
    pub seed: u64,
    /// Futures on the cores that wait for something.
    pub waiting_futures: usize,
}

impl<T> fmt::Debug for StillPending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StillPending { now, seed, .. } = self;
        write!(f, "the result has not come by {now} (seed {seed})")?;
        match self.waiting_futures {
            0 => Ok(()),
            waiting => write!(
                f,
                "; {waiting} futures wait, for ever if it is for another thread, for tokio or for glommio"
            ),
        }
    }
}

/// How a simulation was shut down.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Everything that had been accepted was handled before the time was up.
    pub drained: bool,
    /// Every core after its end.
    pub stats: Stats,
}

impl Simulation {
    /// The settings of a simulation in which everything comes from `seed`.
    #[must_use]
    pub fn builder(seed: u64) -> SimulationBuilder {
        SimulationBuilder::new(seed)
    }

    pub(super) fn new(
        world: World,
        handle: Handle,
        runtime: RuntimeId,
        ask_timeout: Duration,
    ) -> Simulation {
        Simulation {
            world,
            handle,
            runtime,
            ask_timeout,
            closed: false,
        }
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.world.seed
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanos(self.world.now)
    }

    /// A handle as threads outside of the cores have it. Its clock tells the time of the world, as
    /// [`now`](Simulation::now) does.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// An executor outside of the cores, in place of a thread pool or a tokio runtime. What it runs, it runs on this
    /// thread, a while later by virtual time; and so does [`Context::spawn_blocking`].
    #[must_use]
    pub fn elsewhere(&self) -> Elsewhere {
        self.world.pool.entrance()
    }

    /// Lets the world run until the result is there.
    ///
    /// # Errors
    /// The result that is still to come, if nothing is going to happen any more or after 10 virtual minutes.
    pub fn run_until<T>(&mut self, pending: Pending<T>) -> Result<T, StillPending<T>> {
        self.run_until_or(self.after(PATIENCE), pending)
    }

    fn run_until_or<T>(&mut self, limit: u64, pending: Pending<T>) -> Result<T, StillPending<T>> {
        let mut pending = pending;
        loop {
            pending = match pending.try_take() {
                Ok(result) => return Ok(result),
                Err(pending) => pending,
            };
            if self.world.step(limit) != Step::Done {
                return pending.try_take().map_err(|pending| StillPending {
                    pending,
                    now: self.now(),
                    seed: self.seed(),
                    waiting_futures: self.stats().cores.iter().map(|core| core.tasks).sum(),
                });
            }
        }
    }

    /// Lets so much virtual time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let limit = self.after(duration);
        while self.world.step(limit) == Step::Done {}
        self.world.reach(limit);
    }

    /// Lets the world run until nothing is being done any more: no message waits and no work is under way. Timers that
    /// have yet to fire, such as those of sleeping futures and open asks, do not count. Returns `false` if it has not
    /// come to that within 10 virtual minutes.
    pub fn run_until_idle(&mut self) -> bool {
        let limit = self.after(PATIENCE);
        while !self.world.is_idle() {
            if self.world.step(limit) != Step::Done {
                return self.world.is_idle();
            }
        }
        true
    }

    /// Does one thing: a turn of one core, or a piece of work elsewhere. Returns `false` if there is nothing to do.
    pub fn step(&mut self) -> bool {
        self.world.step(u64::MAX) == Step::Done
    }

    /// Starts an actor on a core.
    ///
    /// # Errors
    /// As [`Handle::spawn`].
    pub fn spawn<A: Actor>(
        &mut self,
        core: CoreId,
        factory: impl FnOnce() -> A + Send + 'static,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        let spawned = self.handle.spawn_on(core, factory);
        self.run_until(spawned)
            .unwrap_or(Err(SpawnError::Rejected(Rejection::ShuttingDown)))
    }

    /// Starts an actor on a core that is restarted when it fails.
    ///
    /// # Errors
    /// As [`Handle::spawn_supervised`].
    pub fn spawn_supervised<A: Actor>(
        &mut self,
        core: CoreId,
        options: impl Into<SpawnOptions>,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        let spawned = self.handle.spawn_supervised(core, options, factory);
        self.run_until(spawned)
            .unwrap_or(Err(SpawnError::Rejected(Rejection::ShuttingDown)))
    }

    /// A [probe](Probe) for messages of type `M`: an actor on the first core, with a mailbox without a bound.
    pub fn probe<M: Message>(&mut self) -> Probe<M> {
        self.probe_with(CoreId(0), |_| {})
    }

    /// A [probe](Probe) on a core, which begins with `start`: there it can ask, subscribe and set timers by itself, as any
    /// actor can in its [`pre_start`](Actor::pre_start).
    ///
    /// ```
    /// use corecast::sim::Simulation;
    /// use corecast::{Actor, AskError, Context, CoreId, Fault, Next, ReplyTo, Uncertainty};
    ///
    /// /// Drops every question.
    /// struct Silent;
    ///
    /// impl Actor for Silent {
    ///     type Msg = ReplyTo<u32>;
    ///
    ///     fn receive(&mut self, _: ReplyTo<u32>, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// let mut sim = Simulation::builder(1).start();
    /// let silent = sim.spawn(CoreId(0), || Silent).unwrap();
    /// let probe = sim.probe_with::<Result<u32, AskError>>(CoreId(1), move |ctx| {
    ///     ctx.ask(silent, |reply_to| reply_to, |outcome| outcome);
    /// });
    /// let dropped = Err(Uncertainty::DroppedUnanswered.into());
    /// probe.expect(&mut sim, |outcome| *outcome == dropped);
    /// ```
    ///
    /// # Panics
    /// If there is no such core, or the node has been shut down.
    #[track_caller]
    pub fn probe_with<M: Message>(
        &mut self,
        core: CoreId,
        start: impl FnOnce(&mut Context<'_, Probing<M>>) + Send + 'static,
    ) -> Probe<M> {
        // The calls that wait to enter the core may be as many as there is room for.
        self.run_until_idle();
        self.world.injector.borrow_mut().spare::<Probing<M>>();
        let inbox = Inbox::default();
        let actor = Probing::new(inbox.clone(), Box::new(start));
        let spawned = self
            .handle
            .spawn_with(core, Mailbox::unbounded(), move || actor);
        match self.run_until(spawned) {
            Ok(Ok(address)) => Probe::new(address, inbox),
            Ok(Err(error)) => self.fail(format_args!("there is no probe on {core}: {error}")),
            Err(pending) => self.fail(format_args!("there is no probe on {core}: {pending:?}")),
        }
    }

    /// Injects a fault, from now on.
    pub fn inject(&mut self, injection: Injection) -> Injected {
        self.world.injector.borrow_mut().inject(injection)
    }

    /// Injects faults by chance, from now on, in place of those of an earlier plan.
    ///
    /// # Panics
    /// If a probability of the plan, or their sum, is none.
    pub fn faults(&mut self, plan: FaultPlan) {
        self.world.injector.borrow_mut().follow(plan);
    }

    /// Sends a message from outside; refused, it becomes a counted dead letter. Takes no virtual time.
    pub fn tell<D: Destination>(&mut self, to: D, message: D::Msg) {
        self.handle.tell(to, message);
    }

    /// Sends a message from outside, and hands it back if it cannot enter.
    ///
    /// # Errors
    /// The message and the reason.
    pub fn try_tell<D: Destination>(
        &mut self,
        to: D,
        message: D::Msg,
    ) -> Result<(), Refused<D::Msg>> {
        self.handle.try_tell(to, message)
    }

    /// Asks from outside, and lets the world run until the ask has ended: after the virtual time of
    /// [`Bounds::ask_timeout`](super::bounds::Bounds::ask_timeout) at the latest.
    ///
    /// # Errors
    /// As its outcome says.
    pub fn ask<D: Destination, R: Message>(
        &mut self,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg + Send + 'static,
    ) -> Result<R, AskError> {
        let reply = self.handle.ask(to, make);
        self.outcome(reply, self.ask_timeout)
    }

    /// Like [`ask`](Simulation::ask), with a time to wait of your own.
    ///
    /// # Errors
    /// As there.
    pub fn ask_within<D: Destination, R: Message>(
        &mut self,
        within: Duration,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg + Send + 'static,
    ) -> Result<R, AskError> {
        let reply = self.handle.ask_within(within, to, make);
        self.outcome(reply, within)
    }

    /// Lets the world run until an ask has ended, which it does by itself when its time has passed.
    fn outcome<R>(
        &mut self,
        reply: Pending<Result<R, AskError>>,
        within: Duration,
    ) -> Result<R, AskError> {
        let limit = self.after(within.saturating_add(PATIENCE));
        self.run_until_or(limit, reply)
            .unwrap_or(Err(Uncertainty::RuntimeGone.into()))
    }

    /// Asks for a shard to be moved; the result comes when it has arrived. If too many such calls wait to enter the
    /// coordination core, the world runs until there is room.
    pub fn start_move(&mut self, shard: ShardKey, to: CoreId) -> Pending<Result<(), MoveError>> {
        let gone = || Err(MoveError::CoreStopped { shard, core: to });
        self.request(gone, |done| Request::Move { shard, to, done })
    }

    /// Moves a shard, and lets the world run until it has arrived.
    ///
    /// # Errors
    /// Why it did not move.
    pub fn move_shard(&mut self, shard: ShardKey, to: CoreId) -> Result<(), MoveError> {
        let moved = self.start_move(shard, to);
        self.run_until(moved)
            .unwrap_or(Err(MoveError::CoreStopped { shard, core: to }))
    }

    /// The topology that the coordination core has published last.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        self.world.cores[self.world.cores.len() - 1]
            .engine
            .topology()
            .clone()
    }

    /// The core to which a shard belongs.
    #[must_use]
    pub fn owner_of(&self, shard: ShardKey) -> Option<CoreId> {
        self.topology()
            .placement(shard)
            .map(|placement| placement.owner)
    }

    /// A snapshot of every core, the coordination core last; it takes no virtual time.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            cores: self
                .world
                .cores
                .iter()
                .map(|core| core.engine.stats())
                .collect(),
            topology_version: self.topology().version(),
            ..Stats::outside(self.handle.gate())
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn trace(&self) -> Ref<'_, Trace> {
        Ref::map(self.world.recorder.borrow(), |recorder| &recorder.trace)
    }

    /// Ends the node: lets nothing in any more, gives what was accepted `within` to be handled, and stops all cores.
    pub fn shutdown(&mut self, within: Duration) -> Closing {
        self.handle.gate().close();
        let drained = self.request(|| false, |done| Request::Shutdown { within, done });
        let drained = self.run_until(drained).unwrap_or(false);
        let limit = self.after(PATIENCE);
        while self.world.cores.iter().any(|core| !core.has_stopped()) {
            if self.world.step(limit) != Step::Done {
                self.world.fail(format_args!("a core does not stop"));
            }
        }
        self.world.sweep();
        self.closed = true;
        self.handle.gate().topics().close();
        Closing {
            drained,
            stats: self.stats(),
        }
    }

    /// Asks something of the coordination core.
    fn request<T: Send + 'static>(
        &mut self,
        if_gone: impl Fn() -> T,
        make: impl Fn(Completer<T>) -> Request,
    ) -> Pending<T> {
        let number = self.world.cores.len() - 1;
        loop {
            let (done, result) = pending(if_gone());
            let request = make(done);
            let entered = self.handle.on_core(CoreId(number as u16), move |local| {
                local.requests.push(request)
            });
            let refused = matches!(entered.try_take(), Ok(None));
            if !refused || self.world.cores[number].has_stopped() || !self.step() {
                return result;
            }
        }
    }

    /// Does the next thing, unless it is due after `limit`.
    pub(super) fn step_until(&mut self, limit: u64) -> Step {
        self.world.step(limit)
    }

    /// Lets the time pass until then.
    pub(super) fn pass_until(&mut self, limit: u64) {
        self.world.reach(limit);
    }

    /// The entity types of the cluster that it knows, and their numbers of shards.
    pub(super) fn clustered_types(&self) -> Vec<(&'static str, u32)> {
        self.topology().clustered().collect()
    }

    /// Fails the run.
    #[track_caller]
    pub(super) fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        self.world.fail(what)
    }

    pub(super) fn after(&self, duration: Duration) -> u64 {
        (self.now() + duration).as_nanos()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        close_exit(self.runtime);
        self.world.end();
        self.handle.gate().topics().close();
        if !std::thread::panicking() {
            self.world.check_foreign();
        } else if !self.world.has_failed.get() {
            say_seed(self.seed());
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed())
            .field("now", &self.now())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
