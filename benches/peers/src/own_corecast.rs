//! The workloads on corecast, driven from inside the cores: on one core by a driver actor beside the counter, between
//! cores by a driver on the first and the counter on the second.

use std::time::{Duration, Instant};

use corecast::{Actor, ActorRef, AskError, CoreId, Handle, Runtime, Scope};

use crate::measure::{Cpus, RoundTrips, RunError, Sample};
use crate::own_actors::{
    Counter, CounterMsg, Driver, DriverMsg, Node, NodeMsg, PayloadCounter, PayloadDriver,
    PayloadDriverMsg, Spawner, SpawnerMsg,
};
use crate::workload::{PARK_PAUSE_US, Size, Workload};

/// Longer than any round trip, so that neither core sleeps between asks.
const SPIN_WHEN_HOT: Duration = Duration::from_millis(2);

/// How it is set up.
pub(crate) fn setting(workload: Workload) -> &'static str {
    match workload {
        Workload::Tell => "bounded mailboxes, a burst of 500 at a time",
        Workload::Actors => "bounded mailboxes, 4 rounds at a time",
        Workload::Ring | Workload::Spawn => "bounded mailboxes",
        Workload::TellCores => "bounded mailboxes, at most 960 unconfirmed, spin 2 ms",
        Workload::AskHot => "spin 2 ms",
        Workload::AskParked => "spin 0",
    }
}

/// Runs `workload` once.
pub(crate) fn run(workload: Workload, size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    let cores = if workload.needs_two_cpus() {
        format!("{},{}", cpus.first.id, cpus.second.id)
    } else {
        cpus.first.id.to_string()
    };
    let spin = if workload == Workload::AskParked {
        Duration::ZERO
    } else {
        SPIN_WHEN_HOT
    };
    let runtime = Runtime::builder()
        .cores(cores.parse().map_err(RunError::lost)?)
        .spin(spin)
        .start()
        .map_err(RunError::lost)?;
    let handle = runtime.handle();
    let sample = match workload {
        Workload::Tell => drive(&handle, CoreId(0), size, 500),
        Workload::Actors => drive(&handle, CoreId(0), size, 4 * size.actors),
        Workload::TellCores => tell_cores(&handle, size),
        Workload::Ring => ring(&handle, size),
        Workload::Spawn => spawn(&handle, size),
        Workload::AskHot | Workload::AskParked => ask_cores(&handle, workload, size),
    };
    runtime.shutdown();
    sample
}

fn drive(handle: &Handle, core: CoreId, size: Size, burst: u64) -> Result<Sample, RunError> {
    let counters = (0..size.actors)
        .map(|_| spawn_on(handle, core, Counter::default))
        .collect::<Result<Vec<_>, _>>()?;
    let driver = spawn_on(handle, core, move || {
        Driver::new(counters.clone(), size.messages, burst)
    })?;
    let (counted, elapsed) = handle
        .ask(driver, DriverMsg::Start)
        .wait()
        .map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, elapsed)
}

fn tell_cores(handle: &Handle, size: Size) -> Result<Sample, RunError> {
    let counter = spawn_on(handle, CoreId(1), PayloadCounter::default)?;
    let driver = spawn_on(handle, CoreId(0), move || {
        PayloadDriver::new(counter, size.messages)
    })?;
    let (counted, elapsed) = handle
        .ask(driver, PayloadDriverMsg::Start)
        .wait()
        .map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, elapsed)
}

fn ring(handle: &Handle, size: Size) -> Result<Sample, RunError> {
    let nodes = (0..size.actors)
        .map(|_| spawn_on(handle, CoreId(0), Node::default))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, &node) in nodes.iter().enumerate() {
        let next = nodes[(index + 1) % nodes.len()];
        handle
            .ask(node, move |joined| NodeMsg::Join(next, joined))
            .wait()
            .map_err(RunError::lost)?;
    }
    let last = nodes[((size.messages - 1) % size.actors) as usize];
    let first = nodes[0];
    let run = move |scope: Scope| async move {
        let started = Instant::now();
        scope.tell(first, NodeMsg::Token(size.messages - 1));
        scope
            .ask(last, NodeMsg::Finished)
            .await
            .map(|()| started.elapsed())
    };
    let elapsed = handle
        .run_on(CoreId(0), run)
        .wait()
        .map_err(RunError::lost)?
        .map_err(RunError::lost)?;
    let mut hops = 0;
    for node in nodes {
        hops += handle
            .ask(node, NodeMsg::Hops)
            .wait()
            .map_err(RunError::lost)?;
    }
    Sample::rate(size.messages, hops, elapsed)
}

fn spawn(handle: &Handle, size: Size) -> Result<Sample, RunError> {
    let spawner = spawn_on(handle, CoreId(0), move || Spawner::new(size.messages))?;
    let (counted, elapsed) = handle
        .ask(spawner, SpawnerMsg::Start)
        .wait()
        .map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, elapsed)
}

fn ask_cores(handle: &Handle, workload: Workload, size: Size) -> Result<Sample, RunError> {
    let counter = spawn_on(handle, CoreId(1), Counter::default)?;
    let run = move |scope: Scope| async move {
        let mut trips = RoundTrips::new(size.messages, size.warm_up);
        for _ in 0..size.warm_up + size.messages {
            if workload == Workload::AskParked {
                scope.sleep(Duration::from_micros(PARK_PAUSE_US)).await;
            }
            let sent = Instant::now();
            scope.ask(counter, CounterMsg::Total).await?;
            trips.record(sent);
        }
        Ok::<_, AskError>(trips)
    };
    let trips = handle
        .run_on(CoreId(0), run)
        .wait()
        .map_err(RunError::lost)?
        .map_err(RunError::lost)?;
    trips.sample(size.messages)
}

fn spawn_on<A: Actor>(
    handle: &Handle,
    core: CoreId,
    factory: impl FnMut() -> A + Send + 'static,
) -> Result<ActorRef<A::Msg>, RunError> {
    handle
        .spawn_on(core, factory)
        .wait()
        .map_err(RunError::lost)
}
