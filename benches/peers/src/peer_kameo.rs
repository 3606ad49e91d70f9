//! The workloads on kameo, on pinned single-threaded tokio runtimes.

use std::time::Instant;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::measure::{Cpus, RoundTrips, RunError, Sample, StopToken, Stops};
use crate::tokio_threads::{all_stopped, on_one_cpu, on_two_cpus, pause_before_ask};
use crate::workload::{PAYLOAD_WORDS, Payload, Size, Workload};

/// Tells after which the producer lets the counter run: what a task of tokio may receive at a time.
const BURST: u64 = 128;

/// Rounds over all the actors after which they run.
const ROUNDS: u64 = 16;

/// Messages confirmed at a time between cores; two such windows are on their way.
const WINDOW: u64 = 10_000;

/// The settings that were fastest for it.
pub(crate) fn setting(workload: Workload) -> &'static str {
    match workload {
        Workload::Tell => "unbounded, a burst of 128 at a time",
        Workload::Actors => "unbounded, 16 rounds at a time",
        Workload::Ring | Workload::Spawn | Workload::AskParked => "unbounded",
        Workload::TellCores => "unbounded, at most 20,000 unconfirmed",
        Workload::AskHot => "unbounded, both runtimes kept awake by a yielding task",
    }
}

/// Runs `workload` once.
pub(crate) fn run(workload: Workload, size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    match workload {
        Workload::Tell => on_one_cpu(cpus, || tell(size)),
        Workload::Actors => on_one_cpu(cpus, || actors(size)),
        Workload::Ring => on_one_cpu(cpus, || ring(size)),
        Workload::Spawn => on_one_cpu(cpus, || spawn(size)),
        Workload::TellCores => on_two_cpus(workload, cpus, |remote| async move {
            tell_cores(size, spawn_at(&remote)).await
        }),
        Workload::AskHot | Workload::AskParked => {
            on_two_cpus(workload, cpus, |remote| async move {
                ask_cores(workload, size, spawn_at(&remote)).await
            })
        }
    }
}

async fn tell(size: Size) -> Result<Sample, RunError> {
    let counter = spawn_actor(Counter::default());
    let started = Instant::now();
    for number in 1..=size.messages {
        counter.tell(Add(1)).try_send().map_err(RunError::lost)?;
        if number.is_multiple_of(BURST) {
            yield_now().await;
        }
    }
    let counted = counter.ask(Total).send().await.map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn actors(size: Size) -> Result<Sample, RunError> {
    let counters: Vec<_> = (0..size.actors)
        .map(|_| spawn_actor(Counter::default()))
        .collect();
    yield_now().await;
    let started = Instant::now();
    for round in 1..=size.messages / size.actors {
        for counter in &counters {
            counter.tell(Add(1)).try_send().map_err(RunError::lost)?;
        }
        if round.is_multiple_of(ROUNDS) {
            yield_now().await;
        }
    }
    let mut counted = 0;
    for counter in &counters {
        counted += counter.ask(Total).send().await.map_err(RunError::lost)?;
    }
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn ring(size: Size) -> Result<Sample, RunError> {
    let nodes: Vec<_> = (0..size.actors)
        .map(|_| spawn_actor(Node::default()))
        .collect();
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
        node.ask(Join { next, done })
            .send()
            .await
            .map_err(RunError::lost)?;
    }
    let started = Instant::now();
    nodes[0]
        .tell(Token(size.messages - 1))
        .try_send()
        .map_err(RunError::lost)?;
    finished.await.map_err(RunError::lost)?;
    let elapsed = started.elapsed();
    let mut hops = 0;
    for node in &nodes {
        hops += node.ask(Total).send().await.map_err(RunError::lost)?;
        // The nodes hold each other.
        node.stop_gracefully().await.map_err(RunError::lost)?;
    }
    Sample::rate(size.messages, hops, elapsed)
}

async fn spawn(size: Size) -> Result<Sample, RunError> {
    let stops = Stops::default();
    let mut counted = 0;
    let started = Instant::now();
    for _ in 0..size.messages {
        let counter = spawn_actor(Counter {
            total: 0,
            _stop: Some(stops.token()),
        });
        counter.tell(Add(1)).try_send().map_err(RunError::lost)?;
        counted += counter.ask(Total).send().await.map_err(RunError::lost)?;
        counter.tell(Quit).try_send().map_err(RunError::lost)?;
    }
    all_stopped(&stops, size.messages).await;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn tell_cores(size: Size, counter: ActorRef<Counter>) -> Result<Sample, RunError> {
    let mut before = None;
    let started = Instant::now();
    for number in 1..=size.messages {
        counter
            .tell(AddPayload([1; PAYLOAD_WORDS]))
            .try_send()
            .map_err(RunError::lost)?;
        if number.is_multiple_of(WINDOW) {
            let confirmed = counter.ask(Total).enqueue().await.map_err(RunError::lost)?;
            if let Some(before) = before.replace(confirmed) {
                before.await.map_err(RunError::lost)?;
            }
        }
    }
    let counted = counter.ask(Total).send().await.map_err(RunError::lost)?;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn ask_cores(
    workload: Workload,
    size: Size,
    counter: ActorRef<Counter>,
) -> Result<Sample, RunError> {
    let mut trips = RoundTrips::new(size.messages, size.warm_up);
    for _ in 0..size.warm_up + size.messages {
        pause_before_ask(workload);
        let sent = Instant::now();
        counter.ask(Total).send().await.map_err(RunError::lost)?;
        trips.record(sent);
    }
    trips.sample(size.messages)
}

fn spawn_actor<A: Actor<Args = A>>(actor: A) -> ActorRef<A> {
    A::spawn_with_mailbox(actor, mailbox::unbounded())
}

fn spawn_at(remote: &Handle) -> ActorRef<Counter> {
    let _entered = remote.enter();
    spawn_actor(Counter::default())
}

#[derive(Default)]
struct Counter {
    total: u64,
    _stop: Option<StopToken>,
}

#[derive(Default)]
struct Node {
    hops: u64,
    next: Option<ActorRef<Node>>,
    done: Option<oneshot::Sender<()>>,
}

struct Add(u64);
struct AddPayload(Payload);
struct Total;
struct Quit;
struct Token(u64);
struct Join {
    next: ActorRef<Node>,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Counter {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(counter: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(counter)
    }
}

impl Actor for Node {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(node: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(node)
    }
}

impl Message<Add> for Counter {
    type Reply = ();

    async fn handle(&mut self, Add(number): Add, _: &mut Context<Self, ()>) {
        self.total += number;
    }
}

impl Message<AddPayload> for Counter {
    type Reply = ();

    async fn handle(&mut self, AddPayload(payload): AddPayload, _: &mut Context<Self, ()>) {
        self.total += payload[0];
    }
}

impl Message<Total> for Counter {
    type Reply = u64;

    async fn handle(&mut self, Total: Total, _: &mut Context<Self, u64>) -> u64 {
        self.total
    }
}

impl Message<Quit> for Counter {
    type Reply = ();

    async fn handle(&mut self, Quit: Quit, context: &mut Context<Self, ()>) {
        context.stop();
    }
}

impl Message<Join> for Node {
    type Reply = ();

    async fn handle(&mut self, join: Join, _: &mut Context<Self, ()>) {
        self.next = Some(join.next);
        self.done = join.done;
    }
}

impl Message<Token> for Node {
    type Reply = ();

    async fn handle(&mut self, Token(left): Token, _: &mut Context<Self, ()>) {
        self.hops += 1;
        if left > 0 {
            let next = self.next.as_ref().expect("joined before the token came");
            next.tell(Token(left - 1))
                .try_send()
                .expect("the ring stays up");
        } else if let Some(done) = self.done.take() {
            // Nobody listens when the run failed.
            let _ = done.send(());
        }
    }
}

impl Message<Total> for Node {
    type Reply = u64;

    async fn handle(&mut self, Total: Total, _: &mut Context<Self, u64>) -> u64 {
        self.hops
    }
}
