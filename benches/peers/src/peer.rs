//! The workloads on the peers that run on tokio. Their steps are the same for all, and a [`Peer`] says how each step is
//! done in its API; they are compiled for each peer, so that nothing stands between a workload and the peer's own calls.

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::measure::{Cpus, RoundTrips, RunError, Sample, StopToken, Stops};
use crate::tokio_threads::pause_before_ask;
use crate::workload::{Size, Workload};

/// An answer on its way; its value is of no interest.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<(), RunError>> + Send>>;

/// What the last node of a ring tells when the token has made all its hops.
pub(crate) type Done = oneshot::Sender<()>;

/// An actor system: how it does each step of the workloads, with the settings that were fastest for it.
pub(crate) trait Peer: 'static {
    /// Tells after which the producer lets the counter run.
    const BURST: u64;
    /// Rounds over all the actors after which they run.
    const ROUNDS: u64;
    /// Messages confirmed at a time between cores; two such windows are on their way.
    const WINDOW: u64;

    /// Addresses an actor that adds up what it is told.
    type Counter: Send + Sync + 'static;
    /// Addresses a member of a ring.
    type Node: Clone + Send + Sync + 'static;

    /// Runs the future `make` returns as a task on the first CPU.
    fn on_one_cpu<F>(cpus: Cpus, make: impl FnOnce() -> F + Send) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static;

    /// The same, and gives `make` a counter on the second CPU. Both CPUs are kept from sleeping if the workload wants
    /// that.
    fn on_two_cpus<F>(
        workload: Workload,
        cpus: Cpus,
        make: impl FnOnce(Self::Counter) -> F + Send + 'static,
    ) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static;

    /// Spawns a counter, which holds the token as long as it lives.
    fn counter(
        stop: Option<StopToken>,
    ) -> impl Future<Output = Result<Self::Counter, RunError>> + Send;

    /// Tells it to add one.
    fn add(counter: &Self::Counter) -> Result<(), RunError>;

    /// Tells it to add one, in a message of 64 bytes.
    fn add_payload(counter: &Self::Counter) -> Result<(), RunError>;

    /// Asks for its total.
    fn total(counter: &Self::Counter) -> impl Future<Output = Result<u64, RunError>> + Send;

    /// The same without waiting for the answer.
    fn begin_total(
        counter: &Self::Counter,
    ) -> impl Future<Output = Result<Answer, RunError>> + Send;

    /// Ends it behind what it was told before.
    fn stop(counter: &Self::Counter) -> Result<(), RunError>;

    /// Spawns a member of a ring.
    fn node() -> impl Future<Output = Result<Self::Node, RunError>> + Send;

    /// Gives it its neighbour; returns when it has it.
    fn join(
        node: &Self::Node,
        next: Self::Node,
        done: Option<Done>,
    ) -> impl Future<Output = Result<(), RunError>> + Send;

    /// Gives it the token, with so many hops left behind this one.
    fn token(node: &Self::Node, left: u64) -> Result<(), RunError>;

    /// Asks how often it had the token, and ends it.
    fn hops_in_the_end(node: &Self::Node) -> impl Future<Output = Result<u64, RunError>> + Send;
}

/// Runs `workload` once.
pub(crate) fn run<P: Peer>(workload: Workload, size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    match workload {
        Workload::Tell => P::on_one_cpu(cpus, || tell::<P>(size)),
        Workload::Actors => P::on_one_cpu(cpus, || actors::<P>(size)),
        Workload::Ring => P::on_one_cpu(cpus, || ring::<P>(size)),
        Workload::Spawn => P::on_one_cpu(cpus, || spawn::<P>(size)),
        Workload::TellCores => P::on_two_cpus(workload, cpus, move |counter| {
            tell_cores::<P>(size, counter)
        }),
        Workload::AskHot | Workload::AskParked => P::on_two_cpus(workload, cpus, move |counter| {
            ask_cores::<P>(workload, size, counter)
        }),
    }
}

async fn tell<P: Peer>(size: Size) -> Result<Sample, RunError> {
    let counter = P::counter(None).await?;
    let started = Instant::now();
    for number in 1..=size.messages {
        P::add(&counter)?;
        if number.is_multiple_of(P::BURST) {
            yield_now().await;
        }
    }
    let counted = P::total(&counter).await?;
    let elapsed = started.elapsed();
    P::stop(&counter)?;
    Sample::rate(size.messages, counted, elapsed)
}

async fn actors<P: Peer>(size: Size) -> Result<Sample, RunError> {
    let mut counters = Vec::new();
    for _ in 0..size.actors {
        counters.push(P::counter(None).await?);
    }
    // Lets them start.
    yield_now().await;
    let started = Instant::now();
    for round in 1..=size.messages / size.actors {
        for counter in &counters {
            P::add(counter)?;
        }
        if round.is_multiple_of(P::ROUNDS) {
            yield_now().await;
        }
    }
    let mut counted = 0;
    for counter in &counters {
        counted += P::total(counter).await?;
    }
    let elapsed = started.elapsed();
    counters.iter().try_for_each(P::stop)?;
    Sample::rate(size.messages, counted, elapsed)
}

async fn ring<P: Peer>(size: Size) -> Result<Sample, RunError> {
    let mut nodes = Vec::new();
    for _ in 0..size.actors {
        nodes.push(P::node().await?);
    }
    let (done, finished) = oneshot::channel();
    let mut done = Some(done);
    let last = (size.messages - 1) % size.actors;
    for (index, node) in nodes.iter().enumerate() {
        let next = nodes[(index + 1) % nodes.len()].clone();
        let done = if index as u64 == last {
            done.take()
        } else {
            None
        };
        P::join(node, next, done).await?;
    }
    let started = Instant::now();
    P::token(&nodes[0], size.messages - 1)?;
    finished.await.map_err(RunError::lost)?;
    let elapsed = started.elapsed();
    let mut hops = 0;
    for node in &nodes {
        // The nodes hold each other, so that each has to be ended.
        hops += P::hops_in_the_end(node).await?;
    }
    Sample::rate(size.messages, hops, elapsed)
}

async fn spawn<P: Peer>(size: Size) -> Result<Sample, RunError> {
    let stops = Stops::default();
    let mut counted = 0;
    let started = Instant::now();
    for _ in 0..size.messages {
        let counter = P::counter(Some(stops.token())).await?;
        P::add(&counter)?;
        counted += P::total(&counter).await?;
        P::stop(&counter)?;
    }
    while stops.count() < size.messages {
        yield_now().await;
    }
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn tell_cores<P: Peer>(size: Size, counter: P::Counter) -> Result<Sample, RunError> {
    let mut before: Option<Answer> = None;
    let started = Instant::now();
    for number in 1..=size.messages {
        P::add_payload(&counter)?;
        if number.is_multiple_of(P::WINDOW) {
            let confirmed = P::begin_total(&counter).await?;
            if let Some(before) = before.replace(confirmed) {
                before.await?;
            }
        }
    }
    let counted = P::total(&counter).await?;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn ask_cores<P: Peer>(
    workload: Workload,
    size: Size,
    counter: P::Counter,
) -> Result<Sample, RunError> {
    let mut trips = RoundTrips::new(size.messages, size.warm_up);
    for _ in 0..size.warm_up + size.messages {
        pause_before_ask(workload);
        let sent = Instant::now();
        P::total(&counter).await?;
        trips.record(sent);
    }
    trips.sample(size.messages)
}
