//! A pinned thread with an io_uring executor that turns one core.
//!
//! A busy core polls its lanes itself and never needs a wake; io_uring does the waiting when it is idle. Between two
//! turns the executor gets the thread back as soon as its preemption timer says so, so that timers and I/O of futures
//! go on under load.

use super::leaked_eventfd::{self, LeakedEventfd};
use super::locked_memory::IoDemand;
use super::start_error::{IoFacts, IoStartError};
use crate::actor::local::Clock;
use crate::actor::task::Executor;
use crate::base::ids::CoreId;
use crate::base::time::Time;
use crate::engine::assembly::{CoreDriver, EngineSeed};
use crate::engine::core::Engine;
use crate::mesh::doorbell::Doorbell;
use crossbeam_channel::{Sender, bounded};
use glommio::{ExecutorProxy, LocalExecutorBuilder, Placement};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
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
    thread: Option<JoinHandle<()>>,
    /// Closed after the thread has been joined.
    eventfd: Option<Arc<LeakedEventfd>>,
}

impl CoreThread {
    /// Waits until the core has stopped.
    pub fn join(mut self) {
        self.join_now();
    }

    /// The eventfd of its executor.
    #[must_use]
    pub fn eventfd(&self) -> Option<Arc<LeakedEventfd>> {
        self.eventfd.clone()
    }

    fn join_now(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                "the thread of a core panicked outside of every actor: this is a bug of corecast"
            );
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
    /// The start of the runtime's time.
    pub(crate) started: Instant,
    pub(crate) facts: IoFacts,
    pub(crate) demand: IoDemand,
    pub(crate) blocking: Arc<dyn Executor>,
}

impl Shared {
    /// The runtime's time starts now.
    pub(crate) fn new(facts: IoFacts, demand: IoDemand, blocking: Arc<dyn Executor>) -> Shared {
        Shared {
            started: Instant::now(),
            facts,
            demand,
            blocking,
        }
    }
}

/// Starts the thread of a core, and returns when its executor runs.
pub(crate) fn start(
    core: CoreId,
    seed: EngineSeed,
    doorbell: Arc<Doorbell>,
    settings: ThreadSettings,
    shared: &Arc<Shared>,
) -> Result<CoreThread, IoStartError> {
    let (started, outcome) = bounded(1);
    let shared = shared.clone();
    let thread = thread::Builder::new()
        .name(format!("corecast-{core}"))
        .spawn(move || run(seed, &doorbell, &settings, &shared, &started))
        .map_err(|error| IoStartError::Executor {
            what: format!("the thread of {core} cannot be started: {error}"),
        })?;
    let mut running = CoreThread {
        thread: Some(thread),
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

fn run(
    seed: EngineSeed,
    doorbell: &Doorbell,
    settings: &ThreadSettings,
    shared: &Shared,
    started: &Started,
) {
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
    let _ = started.send(Ok(eventfd));
    executor.run(async {
        let engine = seed.start(CoreDriver {
            clock: Box::new(CoreClock {
                started: shared.started,
                executor: glommio::executor(),
            }),
            tracer: None,
            choose: None,
            blocking: shared.blocking.clone(),
        });
        drive(engine, doorbell, settings).await;
    });
}

struct CoreClock {
    started: Instant,
    executor: ExecutorProxy,
}

impl CoreClock {
    fn time(started: Instant) -> Time {
        Time::from_nanos(started.elapsed().as_nanos() as u64)
    }
}

impl Clock for CoreClock {
    fn now(&self) -> Time {
        CoreClock::time(self.started)
    }

    fn wants_to_yield(&self) -> bool {
        self.executor.need_preempt()
    }
}

/// Turns the engine until it stops: turn while there is work, then spin, then park.
async fn drive(mut engine: Engine, doorbell: &Doorbell, settings: &ThreadSettings) {
    let executor = glommio::executor();
    let mut idle_since: Option<Time> = None;
    loop {
        let turn = engine.turn();
        if turn.stopped {
            return;
        }
        if executor.need_preempt() {
            yield_to(&executor).await;
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
        park(&engine, doorbell, until).await;
        idle_since = None;
    }
}

/// When an executor that sleeps although this core is ready wakes at the latest, counted from the yield or the park.
///
/// glommio 0.9 takes "preempted before any task ran" for "no task is ready" (`run_task_queues` returns false) and then
/// sleeps until something external happens. That takes the thread being off its CPU for a preemption interval between
/// arming the timer and looking at it: rare on a CPU of one's own, every few seconds on a busy one. A pending timer is
/// something to wake up for; it is used up if the same happens again, so there are several.
const YIELD_GUARDS_MS: [u64; 6] = [1, 5, 20, 100, 500, 2_500];
const PARK_GUARDS_MS: [u64; 6] = [50, 60, 100, 200, 500, 2_500];

/// Timers that an await point keeps pending.
struct Guards([Pin<Box<dyn Future<Output = ()>>>; 6]);

impl Guards {
    fn new(after_ms: [u64; 6]) -> Guards {
        Guards(after_ms.map(|after| {
            let timer: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                glommio::timer::sleep(Duration::from_millis(after)).await;
            });
            timer
        }))
    }

    /// Registers the timers; ready when the first has fired.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let fired = self
            .0
            .iter_mut()
            .map(|timer| timer.as_mut().poll(context).is_ready());
        if fired.fold(false, |any, fired| any | fired) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Gives the thread to the executor for a moment.
async fn yield_to(executor: &ExecutorProxy) {
    let mut guards = Guards::new(YIELD_GUARDS_MS);
    std::future::poll_fn(|context| {
        // For the registration only.
        let _ = guards.poll(context);
        Poll::Ready(())
    })
    .await;
    executor.yield_now().await;
}

/// Sleeps until the bell rings, `limit` has passed, or a guard fires. Sleep is announced, then the lanes are looked at
/// once more.
async fn park(engine: &Engine, doorbell: &Doorbell, limit: Option<Duration>) {
    let mut guards = Guards::new(PARK_GUARDS_MS);
    let mut timer = limit.map(|limit| Box::pin(glommio::timer::sleep(limit)));
    let mut announced = false;
    std::future::poll_fn(|context| {
        if announced && !doorbell.is_asleep() {
            return Poll::Ready(());
        }
        let due = timer
            .as_mut()
            .is_some_and(|timer| timer.as_mut().poll(context).is_ready());
        if due || guards.poll(context).is_ready() {
            return Poll::Ready(());
        }
        announced = true;
        doorbell.announce_sleep(context.waker());
        if engine.has_work() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    doorbell.awake();
}
