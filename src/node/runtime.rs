//! A runtime: builder, start, and end.

use super::cluster::handle::Cluster;
use super::cluster::preparation::{Contribution, Prepared, prepare};
use super::cluster::settings::ClusterSettings;
use super::cluster::start_error::ClusterStartError;
use super::cluster::waiting::wait_until_ready;
use super::pinning_args::PinningArgs;
use super::settings::{CoreSelection, ParkPolicy, Plan, Settings};
use super::start_error::StartError;
use crate::actor::control::Request;
use crate::actor::entity::EntityType;
use crate::actor::entity_id::EntityId;
use crate::actor::handle::Handle;
use crate::actor::local::Limits;
use crate::actor::mailbox::Mailbox;
use crate::actor::model::Actor;
use crate::actor::pending::{Pending, pending};
use crate::actor::reference::Region;
use crate::actor::refusal::Rejection;
use crate::actor::reply::{RuntimeId, close_exit};
use crate::base::ids::CoreId;
use crate::engine::assembly::{NodeSpec, Regions, assemble};
use crate::io::blocking_pool::{BlockingPool, BlockingThreads};
use crate::io::core_thread::{self, CoreSeed, CoreThread, PartSeed, Shared, ThreadSettings};
use crate::io::locked_memory::IoDemand;
use crate::io::runtime_clock::RuntimeClock;
use crate::io::watchdog::Watchdog;
use crate::io::{machine, preflight};
use crate::mesh::lane::LaneDepths;
use crate::sharding::settings::{BalancerSettings, CoordinatorSettings};
use crate::sharding::topology::Allocation;
use crossbeam_channel::bounded;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Control messages in one lane: every move that is under way, a report and a question from each core, with room to
/// spare.
const CONTROL_DEPTH: usize = 1_024;

/// What a runtime is to be: which cores, which settings, which entity types.
///
/// ```no_run
/// use corecast::{Actor, Context, EntityType, Fault, Next, Runtime};
///
/// struct Account { balance: u64 }
///
/// impl Actor for Account {
///     type Msg = u64;
///     fn receive(&mut self, amount: u64, _: &mut Context<Self>) -> Result<Next, Fault> {
///         self.balance += amount;
///         Ok(Next::Continue)
///     }
/// }
///
/// let mut builder = Runtime::builder().cores("0-1".parse()?);
/// let accounts = builder.entities(EntityType::send("account", |_id: &u64| Account { balance: 0 }));
/// let runtime = builder.start()?;
/// runtime.handle().tell(accounts.entity(&42), 100);
/// runtime.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct RuntimeBuilder {
    settings: Settings,
    regions: Regions,
    allocation: Allocation,
    coordinator: CoordinatorSettings,
    cluster: Option<ClusterSettings>,
}

impl RuntimeBuilder {
    /// Takes all settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Takes the settings that were given on the command line; the others stay.
    pub fn pinning(mut self, args: &PinningArgs) -> Self {
        args.apply(&mut self.settings);
        self
    }

    /// The CPUs that the runtime takes.
    pub fn cores(mut self, cores: CoreSelection) -> Self {
        self.settings.cores = cores;
        self
    }

    /// How long an idle core polls before it parks.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.settings.spin = Some(spin);
        self
    }

    /// When shards move between cores on their own; `None`: never.
    pub fn balancer(mut self, balancer: Option<BalancerSettings>) -> Self {
        self.coordinator.balancer = balancer;
        self
    }

    /// Where the shards start (default: spread evenly).
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = allocation;
        self
    }

    /// Makes the runtime a node of a cluster. Each shard of the entity types that are [clustered](EntityType::clustered)
    /// belongs to one of the nodes then, as the cluster decides, and every node sends to all of them; of other types each
    /// node has entities of its own.
    pub fn cluster(mut self, settings: ClusterSettings) -> Self {
        self.cluster = Some(settings);
        self
    }

    /// Registers an entity type.
    pub fn entities<A: Actor, I: EntityId>(
        &mut self,
        entity: EntityType<A, I>,
    ) -> Region<I, A::Msg> {
        // The hash of the tables in memory is seeded per process, so that no one can choose ids that collide.
        self.regions.add(entity, entropy())
    }

    /// Starts the runtime: pins one thread for each core, and returns when all of them run. With a
    /// [`cluster`](RuntimeBuilder::cluster) it also waits for as many nodes as
    /// [`required_quorum`](ClusterSettings::required_quorum) says.
    ///
    /// # Errors
    /// What stands in the way and how to remove it; nothing is left running.
    pub fn start(self) -> Result<Runtime, StartError> {
        self.regions.check()?;
        self.coordinator.check()?;
        let machine = machine::read_machine()?;
        let plan = self.settings.plan(&machine)?;
        let demand = IoDemand {
            executors: plan.executors(),
            io_memory_bytes: self.settings.io_memory_bytes,
            ring_depth: self.settings.ring_depth,
        };
        let facts = preflight::check(&machine, &demand)?;
        let clock = RuntimeClock::start(self.cluster.is_some());
        let contribution = Contribution::of(&self.regions).map_err(ClusterStartError::from);
        let mut assembly = assemble(NodeSpec {
            data_cores: plan.data_cores.len(),
            limits: limits(&self.settings, &plan),
            lanes: LaneDepths {
                control: CONTROL_DEPTH,
                replies: plan.lane_batches,
                requests: plan.lane_batches,
            },
            ingress_jobs: self.settings.ingress_jobs,
            regions: self.regions,
            allocation: self.allocation,
            coordinator: self.coordinator,
            patience: self.settings.hand_off_patience,
            clock: Box::new(move || clock.now()),
            cluster: (self.cluster.as_ref()).map(|settings| settings.of_process(entropy() as u32)),
        })?;
        let cluster = match &self.cluster {
            Some(settings) => {
                let contribution = contribution?.with_bells(&assembly.doorbells);
                Some(prepare(settings, contribution)?)
            }
            None => None,
        };
        if let Some(Prepared { cluster, .. }) = &cluster {
            assembly.gate.attach(cluster.status.clone());
        }
        // Nothing that can be refused comes behind the first thread but threads, so that none is left of a refusal.
        let (blocking, blocking_threads) =
            BlockingPool::start(self.settings.blocking_threads, self.settings.blocking_queue)?;
        let shared = Arc::new(Shared {
            clock,
            facts,
            demand,
            blocking,
            seed: entropy(),
        });
        let mut runtime = Runtime {
            handle: Handle::new(assembly.gate.clone()),
            id: assembly.runtime,
            plan: plan.clone(),
            threads: Vec::new(),
            watchdog: None,
            blocking_threads: Some(blocking_threads),
            deadline: self.settings.shutdown_deadline,
            leave_within: self
                .cluster
                .as_ref()
                .filter(|cluster| cluster.leave_on_shutdown)
                .map(|cluster| cluster.leave_deadline),
            ended: false,
        };
        let mut parts = cluster.into_iter().flat_map(Prepared::into_parts);
        let seeds = std::mem::take(&mut assembly.seeds);
        for (index, (engine, doorbell)) in seeds
            .into_iter()
            .zip(assembly.doorbells.clone())
            .enumerate()
        {
            let settings = thread_settings(&self.settings, &plan, index);
            let core = CoreId(index as u16);
            let part = parts.next().unwrap_or(PartSeed::None);
            let seed = CoreSeed { engine, part };
            match core_thread::start(core, seed, doorbell, settings, &shared) {
                Ok(thread) => runtime.threads.push(thread),
                Err(error) => {
                    drop(shared);
                    runtime.abandon();
                    return Err(error.into());
                }
            }
        }
        if let Err(error) = runtime.watch() {
            drop(shared);
            runtime.abandon();
            return Err(error.into());
        }
        tracing::info!(%plan, "corecast runs");
        if let (Some(cluster), Some(settings)) = (runtime.cluster(), &self.cluster)
            && let Err(error) = wait_until_ready(&cluster, settings)
        {
            drop(shared);
            runtime.abandon();
            return Err(error.into());
        }
        Ok(runtime)
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A number from the machine's entropy, another with every call.
fn entropy() -> u64 {
    ahash::RandomState::new().hash_one(0_u64)
}

fn limits(settings: &Settings, plan: &Plan) -> Limits {
    // What the lanes towards a core may hold counts against its budget from the start.
    let in_lanes = plan.data_cores.len() * plan.lane_batches * settings.batch_messages;
    Limits {
        queued_messages: settings.budget_messages - in_lanes,
        queued_bytes: settings.budget_bytes,
        outbox_messages: settings.outbox_messages,
        held_messages: settings.outbox_messages,
        batch_messages: settings.batch_messages,
        asks: settings.asks,
        ask_timeout: settings.ask_timeout,
        tasks: settings.tasks,
        timers: settings.timers,
        watches: settings.watches,
        activation_messages: u32::try_from(settings.activation_messages).unwrap_or(u32::MAX),
        turn_messages: settings.turn_messages as u64,
        turn_time: settings.turn_time,
        stall: settings.stall_threshold,
        async_deadline: settings.async_deadline,
        mailbox: Mailbox::bounded(u32::try_from(settings.mailbox).unwrap_or(u32::MAX)),
        stream_buffer: settings.stream_buffer,
        stream_window: settings.stream_window,
        stream_consumers: settings.stream_consumers,
        stream_linger: settings.stream_linger,
    }
}

fn thread_settings(settings: &Settings, plan: &Plan, index: usize) -> ThreadSettings {
    let data_core = plan.data_cores.get(index);
    ThreadSettings {
        cpu: data_core.copied().unwrap_or(plan.coordination_cpu),
        spin: if data_core.is_some() {
            plan.spin
        } else {
            Duration::ZERO
        },
        park: data_core.is_none() || settings.park == ParkPolicy::Park,
        preempt: settings.preempt,
        io_memory_bytes: settings.io_memory_bytes,
        ring_depth: settings.ring_depth,
    }
}

/// A running runtime. Dropping it shuts it down, like [`shutdown`](Runtime::shutdown).
pub struct Runtime {
    handle: Handle,
    id: RuntimeId,
    plan: Plan,
    threads: Vec<CoreThread>,
    /// Outlives the cores, whose end it watches too.
    watchdog: Option<Watchdog>,
    blocking_threads: Option<BlockingThreads>,
    deadline: Duration,
    /// How long a departure from the cluster may take; none, if the end is no departure.
    leave_within: Option<Duration>,
    ended: bool,
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Everything that had been accepted was handled before the deadline. If not, the rest was dropped and counted as
    /// dead letters.
    pub drained: bool,
    /// Cores that had died before, because their engines panicked: a bug of corecast, of which the log tells more. The
    /// coordination core is the one after the last of the others.
    pub dead_cores: Vec<CoreId>,
    /// Whether the node has left its cluster in good order; `None` if it was not to, because it is no node of one, takes part
    /// no more, or [`leave_on_shutdown`](ClusterSettings::leave_on_shutdown) says so.
    pub left: Option<bool>,
}

impl Runtime {
    /// A builder with default settings: all CPUs that this process may use.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            settings: Settings::default(),
            regions: Regions::default(),
            allocation: Allocation::default(),
            coordinator: CoordinatorSettings::default(),
            cluster: None,
        }
    }

    /// The cluster of which this runtime is a node; none if it is none.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        self.handle.cluster()
    }

    /// A handle, to be cloned and passed on.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Which CPU runs which core.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Shuts down within the time that the settings give: refuses what is new, leaves its cluster if it is to
    /// ([`leave_on_shutdown`](ClusterSettings::leave_on_shutdown)), lets everything that was accepted be
    /// handled, has event-sourced actors take their last snapshots, stops all actors with their hooks, closes connections and
    /// files, and joins the threads.
    ///
    /// A node of a cluster closes its connections behind what they still have to send, and its files behind what is to be
    /// written, which may take some 5 s more where another node does not read, or a disk hangs; an error tells of that.
    ///
    /// What was accepted are messages, asynchronous handlers, and calls from other threads. Futures that were spawned
    /// beside them are polled as long as they are woken, but not waited for: those that still wait when all else is done
    /// are dropped where they are, each on its core, before the actors' hooks run.
    ///
    /// # Panics
    /// On one of its own cores, which cannot wait for itself.
    pub fn shutdown(self) -> ShutdownReport {
        let deadline = self.deadline;
        self.shutdown_within(deadline)
    }

    /// Like [`shutdown`](Runtime::shutdown), with a time limit of your own for handling what was accepted.
    ///
    /// # Panics
    /// On one of its own cores.
    pub fn shutdown_within(mut self, limit: Duration) -> ShutdownReport {
        self.end(limit)
    }

    /// Shuts down like [`shutdown`](Runtime::shutdown) without blocking this thread: from asynchronous code of any
    /// runtime, whose other tasks go on, and with them what actors have running there
    /// ([`Context::spawn_on`](crate::Context::spawn_on)).
    ///
    /// It begins with this call, not with the first poll: what is new is refused from here on, and a thread of its own
    /// sees to the rest. The report comes when the runtime has ended; whoever drops it gives up the report, not the
    /// shutdown. From a future on one of the runtime's own cores it can be begun, but that core ends before the report
    /// comes.
    ///
    /// ```
    /// use corecast::Runtime;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let runtime = Runtime::builder().start()?;
    /// let report = runtime.shutdown_async().await;
    /// assert!(report.drained);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_async(self) -> Pending<ShutdownReport> {
        let deadline = self.deadline;
        self.shutdown_async_within(deadline)
    }

    /// Like [`shutdown_async`](Runtime::shutdown_async), with a time limit of your own for handling what was accepted.
    pub fn shutdown_async_within(self, limit: Duration) -> Pending<ShutdownReport> {
        self.handle.gate().close();
        let (completer, report) = pending(ShutdownReport::default());
        // Handed over when the thread runs, so that it is still here if there is to be none.
        let (hand_over, runtime) = bounded::<Runtime>(1);
        let waits = move || {
            if let Ok(runtime) = runtime.recv() {
                completer.complete(runtime.shutdown_within(limit));
            }
        };
        let thread = thread::Builder::new().name("corecast-end".to_owned());
        match thread.spawn(waits) {
            Ok(_) => {
                // It waits for this and nothing else, so it is there to take it.
                drop(hand_over.send(self));
                report
            }
            Err(error) => {
                tracing::warn!(%error, "no thread can be started for the shutdown: it blocks this one");
                Pending::ready(self.shutdown_within(limit))
            }
        }
    }

    /// Blocks until the process is told to end (SIGINT or SIGTERM), then shuts down.
    ///
    /// # Errors
    /// If the signals cannot be listened to; the runtime has been shut down.
    pub fn run_until_signal(self) -> std::io::Result<ShutdownReport> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        if let Some(signal) = signals.forever().next() {
            tracing::info!(signal, "told to end");
        }
        Ok(self.shutdown())
    }

    fn end(&mut self, limit: Duration) -> ShutdownReport {
        if std::mem::replace(&mut self.ended, true) {
            return ShutdownReport::default();
        }
        self.handle.gate().close();
        let left = self.leave(limit);
        let drained = loop {
            let (done, drained) = pending(false);
            let asked = self.handle.request(Request::Shutdown {
                within: limit,
                done,
            });
            match asked {
                Ok(()) => break drained.wait(),
                // Its queue is full of calls, which it is working off.
                Err(Rejection::IngressFull) => thread::yield_now(),
                Err(_) => break false,
            }
        };
        // Only its end tells whether the coordination core could tell the others to stop, who may be at a halt.
        let lost = self.threads.pop().and_then(CoreThread::join);
        if lost.is_some() {
            self.handle.gate().stop_all();
        }
        let mut dead_cores = self.join();
        dead_cores.extend(lost);
        if !dead_cores.is_empty() {
            tracing::error!(?dead_cores, "cores had died before the shutdown");
        }
        ShutdownReport {
            drained: drained && dead_cores.is_empty(),
            dead_cores,
            left,
        }
    }

    /// Leaves the cluster, if that is wanted and there is one.
    fn leave(&self, limit: Duration) -> Option<bool> {
        let cluster = self.cluster()?;
        cluster.ends_within(limit);
        let within = self.leave_within?.min(limit / 2);
        if cluster.state().end().is_some() {
            return None;
        }
        let left = cluster.leave().wait_for(within);
        let left = left.is_ok_and(|left| left.is_ok());
        if !left {
            tracing::warn!(
                ?within,
                "the node has not left its cluster in time, and will be declared down"
            );
        }
        Some(left)
    }

    /// Ends a start that failed: the cores that run are told to stop by the gate, since there may be no coordination.
    fn abandon(&mut self) {
        self.ended = true;
        // Without it a core that is slept over would not hear that it is to stop; starting it can hardly fail now.
        let _ = self.watch();
        self.handle.gate().close();
        self.handle.gate().stop_all();
        self.join();
    }

    /// Starts to watch over the cores that run.
    fn watch(&mut self) -> std::io::Result<()> {
        let eventfds = self
            .threads
            .iter()
            .filter_map(CoreThread::eventfd)
            .collect();
        self.watchdog = Some(Watchdog::start(eventfds)?);
        Ok(())
    }

    /// Waits for the end of all threads; the cores that had died.
    fn join(&mut self) -> Vec<CoreId> {
        let dead = self
            .threads
            .drain(..)
            .filter_map(CoreThread::join)
            .collect();
        self.watchdog = None;
        close_exit(self.id);
        self.handle.gate().topics().close();
        // The cores held the pool; with them it has been dropped, and its threads end.
        if let Some(threads) = self.blocking_threads.take() {
            threads.join();
        }
        dead
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.end(self.deadline);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::machine::Machine;

    #[test]
    fn the_cores_have_the_limits_that_were_set() {
        let settings = Settings {
            asks: 11,
            ask_timeout: Duration::from_secs(12),
            async_deadline: Duration::from_secs(13),
            tasks: 14,
            activation_messages: 15,
            turn_messages: 16,
            timers: 17,
            watches: 18,
            stream_buffer: 19,
            stream_window: 20,
            stream_consumers: 21,
            stream_linger: Duration::from_secs(22),
            ..Settings::default()
        };
        let plan = settings.plan(&Machine::uniform(4)).unwrap();
        let limits = limits(&settings, &plan);
        assert_eq!(
            (limits.asks, limits.ask_timeout, limits.async_deadline),
            (11, Duration::from_secs(12), Duration::from_secs(13))
        );
        assert_eq!(
            (
                limits.tasks,
                limits.activation_messages,
                limits.turn_messages,
                limits.timers
            ),
            (14, 15, 16, 17)
        );
        assert_eq!(
            (
                limits.watches,
                limits.stream_buffer,
                limits.stream_window,
                limits.stream_consumers,
                limits.stream_linger
            ),
            (18, 19, 20, 21, Duration::from_secs(22))
        );
    }
}
