//! A pinned thread with an io_uring executor that turns one core.
//!
//! A busy core polls its lanes itself and never needs a wake; an idle one sleeps on its bell. Between two turns the
//! executor gets the thread back as soon as its preemption timer says so, so that I/O goes on under load.

use super::cluster::coordination;
use super::cluster::data_core::{self, DataCore, DataSeed};
use super::cluster::driver::{ClusterDriver, ClusterSeed};
use super::leaked_eventfd::{self, LeakedEventfd};
use super::locked_memory::IoDemand;
use super::runtime_clock::RuntimeClock;
use super::start_error::{IoFacts, IoStartError};
use crate::actor::guard::{drop_guarded, guarded, panic_text};
use crate::actor::local::Clock;
use crate::actor::task::{CatchPanic, Executor};
use crate::base::ids::CoreId;
use crate::base::rng::seeded;
use crate::base::time::Time;
use crate::engine::assembly::{CoreDriver, EngineSeed};
use crate::engine::core::Engine;
use crate::mesh::doorbell::Doorbell;
use crossbeam_channel::{Sender, bounded};
use glommio::{ExecutorProxy, LocalExecutorBuilder, Placement};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How one core's thread is run.
#[derive(Clone, Debug)]
pub struct ThreadSettings {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// How long it polls before it parks.
    pub spin: Duration,
    /// Whether it parks at all.
    pub park: bool,
    /// How often ready work is interrupted for I/O and timers.
    pub preempt: Duration,
    /// Bytes registered for I/O.
    pub io_memory_bytes: usize,
    /// Entries of each ring.
    pub ring_depth: usize,
}

/// A running core.
#[derive(Debug)]
pub struct CoreThread {
    core: CoreId,
    thread: Option<JoinHandle<()>>,
    /// Its engine has panicked; set before anybody can notice otherwise.
    died: Arc<AtomicBool>,
    /// Closed after the thread has been joined.
    eventfd: Option<Arc<LeakedEventfd>>,
}

impl CoreThread {
    /// Waits until the core has stopped. Returns its number if it had died before, because its engine panicked.
    pub fn join(mut self) -> Option<CoreId> {
        self.join_now();
        self.has_died().then_some(self.core)
    }

    /// Whether its engine has panicked.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.died.load(Ordering::Acquire)
    }

    /// The eventfd of its executor.
    #[must_use]
    pub fn eventfd(&self) -> Option<Arc<LeakedEventfd>> {
        self.eventfd.clone()
    }

    fn join_now(&mut self) {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            self.died.store(true, Ordering::Release);
            tracing::error!(core = %self.core, panic = panic_text(panic), "the thread of a core panicked outside of its engine: this is a bug of corecast");
        }
        self.eventfd = None;
    }
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        self.join_now();
    }
}

/// What all cores of a runtime share.
pub(crate) struct Shared {
    /// The runtime's time.
    pub(crate) clock: RuntimeClock,
    pub(crate) facts: IoFacts,
    pub(crate) demand: IoDemand,
    pub(crate) blocking: Arc<dyn Executor>,
    /// From which the randomness of every core comes.
    pub(crate) seed: u64,
}

/// What becomes of a core on its thread.
pub(crate) struct CoreSeed {
    pub(crate) engine: EngineSeed,
    pub(crate) part: PartSeed,
}

/// What part a core has in a cluster.
pub(crate) enum PartSeed {
    /// None: its runtime is alone.
    None,
    /// It is the coordination core of a node.
    Coordination(Box<ClusterSeed>),
    /// It is one of the others.
    Data(Box<DataSeed>),
}

/// The same, on its thread.
enum Part {
    None,
    Coordination(Box<ClusterDriver>),
    Data(Box<DataCore>),
}

/// Starts the thread of a core, and returns when its executor runs.
pub(crate) fn start(
    core: CoreId,
    seed: CoreSeed,
    doorbell: Arc<Doorbell>,
    settings: ThreadSettings,
    shared: &Arc<Shared>,
) -> Result<CoreThread, IoStartError> {
    let (started, outcome) = bounded(1);
    let shared = shared.clone();
    let died = Arc::new(AtomicBool::new(false));
    let life = Life {
        core,
        doorbell,
        died: died.clone(),
    };
    let thread = thread::Builder::new()
        .name(format!("corecast-{core}"))
        .spawn(move || run(seed, &life, &settings, &shared, &started))
        .map_err(|error| IoStartError::Executor {
            what: format!("the thread of {core} cannot be started: {error}"),
        })?;
    let mut running = CoreThread {
        core,
        thread: Some(thread),
        died,
        eventfd: None,
    };
    match outcome.recv() {
        Ok(Ok(eventfd)) => {
            running.eventfd = Some(Arc::new(eventfd));
            Ok(running)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(IoStartError::Executor {
            what: format!("the thread of {core} ended while its executor was made"),
        }),
    }
}

type Started = Sender<Result<LeakedEventfd, IoStartError>>;

/// What others see of a core's life.
struct Life {
    core: CoreId,
    doorbell: Arc<Doorbell>,
    died: Arc<AtomicBool>,
}

fn run(seed: CoreSeed, life: &Life, settings: &ThreadSettings, shared: &Shared, started: &Started) {
    let made = leaked_eventfd::watch(|| {
        LocalExecutorBuilder::new(Placement::Fixed(settings.cpu))
            .preempt_timer(settings.preempt)
            .io_memory(settings.io_memory_bytes)
            .ring_depth(settings.ring_depth)
            .make()
    });
    let (executor, eventfd) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = started.send(Err(shared.facts.classify_executor(&error, &shared.demand)));
            return;
        }
    };
    // What wakes a sleeping core by time would else be late by 50 us.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let watched = eventfd.is_known();
    let _ = started.send(Ok(eventfd));
    executor.run(async {
        let driver = CoreDriver {
            clock: Box::new(CoreClock {
                clock: shared.clock,
                executor: glommio::executor(),
            }),
            tracer: None,
            choose: None,
            rng: seeded(shared.seed, u64::from(life.core.0)),
            blocking: shared.blocking.clone(),
        };
        let part = match seed.part {
            PartSeed::None => Part::None,
            PartSeed::Coordination(seed) => {
                Part::Coordination(Box::new(ClusterDriver::new(*seed, shared.clock)))
            }
            PartSeed::Data(seed) => {
                let rng = seeded(shared.seed, CONNECTIONS | u64::from(life.core.0));
                Part::Data(Box::new(DataCore::new(*seed, rng)))
            }
        };
        match guarded(|| seed.engine.start(driver)) {
            Ok(mut engine) => {
                live(&mut engine, part, life, settings, watched).await;
                drop_guarded(engine);
            }
            Err(panic) => life.end(&panic),
        }
        // Whoever it was that ended it: nobody rings for it any more.
        life.doorbell.disconnect();
    });
}

/// The streams of the seed that connections draw from.
const CONNECTIONS: u64 = 1 << 32;

/// How often a core that dies tries to hand over what it owes to others, and the pause after each.
const LAST_ATTEMPTS: u32 = 100;
const LAST_PAUSE: Duration = Duration::from_millis(1);

/// Runs the engine to its end. One that panics is wound up, so that nobody waits for it.
///
/// A node of a cluster closes its connections and its ledger behind the end of its actors. Those of a data core that has
/// panicked are cut: nobody knows what it would have sent.
async fn live(
    engine: &mut Engine,
    mut part: Part,
    life: &Life,
    settings: &ThreadSettings,
    watched: bool,
) {
    if !watched {
        keep_awake();
    }
    let turns = async {
        match &mut part {
            Part::None => drive(engine, &life.doorbell, settings).await,
            Part::Data(data) => data_core::drive(engine, data, &life.doorbell, settings).await,
            Part::Coordination(cluster) => {
                let stopped = coordination::drive(engine, cluster, &life.doorbell).await;
                // When it takes part in a cluster no more.
                if !stopped {
                    drive(engine, &life.doorbell, settings).await;
                }
            }
        }
    };
    let ended = CatchPanic::new(turns).await;
    if let Part::Data(_) = part {
        part = Part::None;
    }
    if let Err(error) = ended {
        die(engine, life, &error.to_string());
    }
    if let Part::Coordination(cluster) = part {
        cluster.close(&life.doorbell).await;
    }
}

fn die(engine: &mut Engine, life: &Life, panic: &str) {
    life.end(panic);
    engine.die();
    for _ in 0..LAST_ATTEMPTS {
        if guarded(|| engine.settle_up()).unwrap_or(true) {
            break;
        }
        thread::sleep(LAST_PAUSE);
    }
}

impl Life {
    fn end(&self, panic: &str) {
        self.died.store(true, Ordering::Release);
        tracing::error!(core = %self.core, panic, "the engine of a core panicked and the core is dead, while the others go on: this is a bug of corecast");
    }
}

struct CoreClock {
    clock: RuntimeClock,
    executor: ExecutorProxy,
}

impl Clock for CoreClock {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn wants_to_yield(&self) -> bool {
        self.executor.need_preempt()
    }
}

/// Turns the engine until it stops: turn while there is work, then spin, then park.
async fn drive(engine: &mut Engine, doorbell: &Doorbell, settings: &ThreadSettings) {
    let executor = glommio::executor();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut idle_since: Option<Time> = None;
    let mut just_read: Option<Time> = None;
    loop {
        let turn = engine.turn(just_read.take());
        if turn.stopped {
            return;
        }
        if executor.need_preempt() {
            executor.yield_now().await;
        } else {
            just_read = turn.just_read;
        }
        if turn.moved {
            idle_since = None;
            continue;
        }
        let idle_for = turn.at - *idle_since.get_or_insert(turn.at);
        if !settings.park || idle_for < settings.spin {
            continue;
        }
        let until = turn.next_wake.map(|due| due - engine.now());
        park(engine, doorbell, &waker, until);
        idle_since = None;
        just_read = None;
    }
}

/// How often an executor wakes by itself whose eventfd the watchdog does not know.
const UNWATCHED_PERIOD: Duration = Duration::from_millis(20);

/// Stands in for the watchdog where it cannot reach the executor: a timer that is always pending is something to wake up
/// for. (See the watchdog for what an executor may sleep over.) It is as often slept over as it fires, so there are some.
fn keep_awake() {
    for number in 1..=4 {
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(UNWATCHED_PERIOD * number).await;
            }
        })
        .detach();
    }
}

/// Wakes a thread that has parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Sleeps until the bell rings or `limit` has passed. Sleep is announced, then the lanes are looked at once more.
///
/// It is the thread that sleeps, not the executor, which would enter the kernel some eight times and interrupt the other
/// cores (`membarrier`) for each sleep: an ask between two sleeping cores took twice as long. So what a core ever waits for
/// in its executor has to keep it from coming here.
fn park(engine: &Engine, doorbell: &Doorbell, waker: &Waker, limit: Option<Duration>) {
    doorbell.announce_sleep(waker);
    if !engine.has_work() {
        let due = limit.map(|limit| Instant::now() + limit);
        while doorbell.is_asleep() {
            match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => break,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
    doorbell.awake();
}
