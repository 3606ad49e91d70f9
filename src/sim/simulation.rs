//! A running simulation: a node whose time passes only when it is told to.

use super::builder::SimulationBuilder;
use super::elsewhere::Elsewhere;
use super::trace::Trace;
use super::world::{Step, World};
use crate::actor::control::Request;
use crate::actor::guard::drop_guarded;
use crate::actor::handle::Handle;
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
pub struct Simulation {
    seed: u64,
    world: World,
    handle: Handle,
    runtime: RuntimeId,
    /// Its cores have stopped.
    closed: bool,
}

/// A result did not come: nothing is going to happen any more, or the time is up.
pub struct StillPending<T> {
    /// The result that has not come.
    pub pending: Pending<T>,
    /// The virtual time now.
    pub now: Time,
}

impl<T> fmt::Debug for StillPending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the result has not come by {}", self.now)
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

    pub(super) fn new(seed: u64, world: World, handle: Handle, runtime: RuntimeId) -> Simulation {
        Simulation {
            seed,
            world,
            handle,
            runtime,
            closed: false,
        }
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
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

    /// An executor outside of the cores, in place of a thread pool or a tokio runtime.
    #[must_use]
    pub fn elsewhere(&self) -> Elsewhere {
        self.world.pool.entrance()
    }

    /// Lets the world run until the result is there.
    ///
    /// # Errors
    /// The result that is still to come, if nothing is going to happen any more or after 10 virtual minutes.
    pub fn run_until<T>(&mut self, pending: Pending<T>) -> Result<T, StillPending<T>> {
        let limit = self.after(PATIENCE);
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
        self.run_until(reply)
            .unwrap_or(Err(Uncertainty::RuntimeGone.into()))
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
        self.run_until(reply)
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
            assert!(
                self.world.step(limit) == Step::Done,
                "a core does not stop (seed {})",
                self.seed
            );
        }
        for core in &mut self.world.cores {
            core.engine.sweep();
        }
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

    fn after(&self, duration: Duration) -> u64 {
        (self.now() + duration).as_nanos()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        close_exit(self.runtime);
        for core in self.world.cores.drain(..) {
            drop_guarded(core);
        }
        self.handle.gate().topics().close();
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("now", &self.now())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
