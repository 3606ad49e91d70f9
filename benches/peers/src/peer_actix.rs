//! The workloads on actix: one arbiter on one pinned thread, a second arbiter for the other core.

use std::time::Instant;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use actix_rt::{Arbiter, System};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::measure::{Cpus, RoundTrips, RunError, Sample, StopToken, Stops, on_pinned_thread, pin};
use crate::tokio_threads::{all_stopped, keep_awake, pause_before_ask, runtime};
use crate::workload::{PAYLOAD_WORDS, Payload, Size, Workload};

/// Tells after which the producer lets the counter run.
const BURST: u64 = 128;

/// Rounds over all the actors after which they run.
const ROUNDS: u64 = 4;

/// Messages confirmed at a time between cores; two such windows are on their way.
const WINDOW: u64 = 2_000;

/// The settings that were fastest for it.
pub(crate) fn setting(workload: Workload) -> &'static str {
    match workload {
        Workload::Tell => "do_send, a burst of 128 at a time",
        Workload::Actors => "do_send, 4 rounds at a time",
        Workload::Ring => "do_send",
        Workload::Spawn | Workload::AskParked => "defaults",
        Workload::TellCores => "do_send, at most 4,000 unconfirmed",
        Workload::AskHot => "both arbiters kept awake by a yielding task",
    }
}

/// Runs `workload` once.
pub(crate) fn run(workload: Workload, size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    match workload {
        Workload::Tell => on_system(cpus, || tell(size)),
        Workload::Actors => on_system(cpus, || actors(size)),
        Workload::Ring => on_system(cpus, || ring(size)),
        Workload::Spawn => on_system(cpus, || spawn(size)),
        Workload::TellCores => on_system(cpus, || async move {
            let remote = Remote::start(workload, cpus)?;
            let sample = tell_cores(size, remote.counter()).await;
            remote.stop().and(sample)
        }),
        Workload::AskHot | Workload::AskParked => on_system(cpus, || async move {
            let remote = Remote::start(workload, cpus)?;
            let sample = ask_cores(workload, size, remote.counter()).await;
            remote.stop().and(sample)
        }),
    }
}

async fn tell(size: Size) -> Result<Sample, RunError> {
    let counter = Counter::default().start();
    let started = Instant::now();
    for number in 1..=size.messages {
        counter.do_send(Add(1));
        if number.is_multiple_of(BURST) {
            yield_now().await;
        }
    }
    let counted = counter.send(Total).await.map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn actors(size: Size) -> Result<Sample, RunError> {
    let counters: Vec<_> = (0..size.actors)
        .map(|_| Counter::default().start())
        .collect();
    yield_now().await;
    let started = Instant::now();
    for round in 1..=size.messages / size.actors {
        for counter in &counters {
            counter.do_send(Add(1));
        }
        if round.is_multiple_of(ROUNDS) {
            yield_now().await;
        }
    }
    let mut counted = 0;
    for counter in &counters {
        counted += counter.send(Total).await.map_err(RunError::lost)?;
    }
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn ring(size: Size) -> Result<Sample, RunError> {
    let nodes: Vec<_> = (0..size.actors).map(|_| Node::default().start()).collect();
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
        node.send(Join { next, done })
            .await
            .map_err(RunError::lost)?;
    }
    let started = Instant::now();
    nodes[0].do_send(Token(size.messages - 1));
    finished.await.map_err(RunError::lost)?;
    let elapsed = started.elapsed();
    let mut hops = 0;
    for node in &nodes {
        hops += node.send(Total).await.map_err(RunError::lost)?;
        // The nodes hold each other.
        node.do_send(Quit);
    }
    Sample::rate(size.messages, hops, elapsed)
}

async fn spawn(size: Size) -> Result<Sample, RunError> {
    let stops = Stops::default();
    let mut counted = 0;
    let started = Instant::now();
    for _ in 0..size.messages {
        let counter = Counter {
            total: 0,
            _stop: Some(stops.token()),
        }
        .start();
        counter.do_send(Add(1));
        counted += counter.send(Total).await.map_err(RunError::lost)?;
        counter.do_send(Quit);
    }
    all_stopped(&stops, size.messages).await;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn tell_cores(size: Size, counter: Addr<Counter>) -> Result<Sample, RunError> {
    let mut before = None;
    let started = Instant::now();
    for number in 1..=size.messages {
        counter.do_send(AddPayload([1; PAYLOAD_WORDS]));
        if number.is_multiple_of(WINDOW)
            // Sent at once: the mailbox is set to take any number.
            && let Some(before) = before.replace(counter.send(Total))
        {
            before.await.map_err(RunError::lost)?;
        }
    }
    let counted = counter.send(Total).await.map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn ask_cores(
    workload: Workload,
    size: Size,
    counter: Addr<Counter>,
) -> Result<Sample, RunError> {
    let mut trips = RoundTrips::new(size.messages, size.warm_up);
    if workload == Workload::AskHot {
        actix_rt::spawn(keep_awake());
    }
    for _ in 0..size.warm_up + size.messages {
        pause_before_ask(workload);
        let sent = Instant::now();
        counter.send(Total).await.map_err(RunError::lost)?;
        trips.record(sent);
    }
    trips.sample(size.messages)
}

/// Runs the future `make` returns as a task of a fresh system on the first CPU.
fn on_system<F>(cpus: Cpus, make: impl FnOnce() -> F + Send) -> Result<Sample, RunError>
where
    F: Future<Output = Result<Sample, RunError>> + 'static,
{
    on_pinned_thread(cpus.first, || {
        let system =
            System::with_tokio_rt(|| runtime().expect("a runtime without drivers always starts"));
        let joined = system.block_on(async { actix_rt::spawn(make()).await });
        joined.unwrap_or_else(|error| Err(RunError::Panicked(error.to_string())))
    })
}

/// The arbiter on the second CPU.
struct Remote(Arbiter);

impl Remote {
    fn start(workload: Workload, cpus: Cpus) -> Result<Self, RunError> {
        let arbiter = Arbiter::try_with_tokio_rt(move || {
            pin(cpus.second).map_err(std::io::Error::other)?;
            runtime().map_err(std::io::Error::other)
        })?;
        if workload == Workload::AskHot {
            arbiter.spawn(keep_awake());
        }
        Ok(Self(arbiter))
    }

    fn counter(&self) -> Addr<Counter> {
        Counter::start_in_arbiter(&self.0.handle(), |context| {
            // No bound: the driver keeps to a window of its own.
            context.set_mailbox_capacity(0);
            Counter::default()
        })
    }

    fn stop(self) -> Result<(), RunError> {
        self.0.stop();
        self.0
            .join()
            .map_err(|panic| crate::measure::panicked(panic.as_ref()))
    }
}

#[derive(Default)]
struct Counter {
    total: u64,
    _stop: Option<StopToken>,
}

#[derive(Default)]
struct Node {
    hops: u64,
    next: Option<Addr<Node>>,
    done: Option<oneshot::Sender<()>>,
}

struct Add(u64);
struct AddPayload(Payload);
struct Total;
struct Quit;
struct Token(u64);
struct Join {
    next: Addr<Node>,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Actor for Node {
    type Context = Context<Self>;
}

impl Message for Add {
    type Result = ();
}

impl Message for AddPayload {
    type Result = ();
}

impl Message for Total {
    type Result = u64;
}

impl Message for Quit {
    type Result = ();
}

impl Message for Token {
    type Result = ();
}

impl Message for Join {
    type Result = ();
}

impl Handler<Add> for Counter {
    type Result = ();

    fn handle(&mut self, Add(number): Add, _: &mut Context<Self>) {
        self.total += number;
    }
}

impl Handler<AddPayload> for Counter {
    type Result = ();

    fn handle(&mut self, AddPayload(payload): AddPayload, _: &mut Context<Self>) {
        self.total += payload[0];
    }
}

impl Handler<Total> for Counter {
    type Result = u64;

    fn handle(&mut self, Total: Total, _: &mut Context<Self>) -> u64 {
        self.total
    }
}

impl Handler<Quit> for Counter {
    type Result = ();

    fn handle(&mut self, Quit: Quit, context: &mut Context<Self>) {
        context.stop();
    }
}

impl Handler<Join> for Node {
    type Result = ();

    fn handle(&mut self, join: Join, _: &mut Context<Self>) {
        self.next = Some(join.next);
        self.done = join.done;
    }
}

impl Handler<Token> for Node {
    type Result = ();

    fn handle(&mut self, Token(left): Token, _: &mut Context<Self>) {
        self.hops += 1;
        if left > 0 {
            let next = self.next.as_ref().expect("joined before the token came");
            next.do_send(Token(left - 1));
        } else if let Some(done) = self.done.take() {
            // Nobody listens when the run failed.
            let _ = done.send(());
        }
    }
}

impl Handler<Total> for Node {
    type Result = u64;

    fn handle(&mut self, Total: Total, _: &mut Context<Self>) -> u64 {
        self.hops
    }
}

impl Handler<Quit> for Node {
    type Result = ();

    fn handle(&mut self, Quit: Quit, context: &mut Context<Self>) {
        context.stop();
    }
}
