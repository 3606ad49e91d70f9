//! The workloads on ractor, on pinned single-threaded tokio runtimes. Its mailboxes have no bound.

use std::time::Instant;

use ractor::concurrency::oneshot as reply_channel;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
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
const WINDOW: u64 = 2_000;

/// The settings that were fastest for it.
pub(crate) fn setting(workload: Workload) -> &'static str {
    match workload {
        Workload::Tell => "a burst of 128 at a time",
        Workload::Actors => "16 rounds at a time",
        Workload::Ring | Workload::Spawn | Workload::AskParked => "defaults",
        Workload::TellCores => "at most 4,000 unconfirmed",
        Workload::AskHot => "both runtimes kept awake by a yielding task",
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
            tell_cores(size, spawn_at(&remote).await?).await
        }),
        Workload::AskHot | Workload::AskParked => {
            on_two_cpus(workload, cpus, |remote| async move {
                ask_cores(workload, size, spawn_at(&remote).await?).await
            })
        }
    }
}

async fn tell(size: Size) -> Result<Sample, RunError> {
    let counter = spawn_counter(None).await?;
    let started = Instant::now();
    for number in 1..=size.messages {
        counter.cast(CounterMsg::Add(1)).map_err(RunError::lost)?;
        if number.is_multiple_of(BURST) {
            yield_now().await;
        }
    }
    let counted = ask(&counter, CounterMsg::Total).await?;
    let elapsed = started.elapsed();
    counter.stop(None);
    Sample::rate(size.messages, counted, elapsed)
}

async fn actors(size: Size) -> Result<Sample, RunError> {
    let mut counters = Vec::new();
    for _ in 0..size.actors {
        counters.push(spawn_counter(None).await?);
    }
    let started = Instant::now();
    for round in 1..=size.messages / size.actors {
        for counter in &counters {
            counter.cast(CounterMsg::Add(1)).map_err(RunError::lost)?;
        }
        if round.is_multiple_of(ROUNDS) {
            yield_now().await;
        }
    }
    let mut counted = 0;
    for counter in &counters {
        counted += ask(counter, CounterMsg::Total).await?;
    }
    let elapsed = started.elapsed();
    counters.iter().for_each(|counter| counter.stop(None));
    Sample::rate(size.messages, counted, elapsed)
}

async fn ring(size: Size) -> Result<Sample, RunError> {
    let mut nodes = Vec::new();
    for _ in 0..size.actors {
        nodes.push(
            Actor::spawn(None, Node, ())
                .await
                .map_err(RunError::lost)?
                .0,
        );
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
        node.cast(NodeMsg::Join(next, done))
            .map_err(RunError::lost)?;
        ask(node, NodeMsg::Hops).await?;
    }
    let started = Instant::now();
    nodes[0]
        .cast(NodeMsg::Token(size.messages - 1))
        .map_err(RunError::lost)?;
    finished.await.map_err(RunError::lost)?;
    let elapsed = started.elapsed();
    let mut hops = 0;
    for node in &nodes {
        hops += ask(node, NodeMsg::Hops).await?;
        node.stop(None);
    }
    Sample::rate(size.messages, hops, elapsed)
}

async fn spawn(size: Size) -> Result<Sample, RunError> {
    let stops = Stops::default();
    let mut counted = 0;
    let started = Instant::now();
    for _ in 0..size.messages {
        let counter = spawn_counter(Some(stops.token())).await?;
        counter.cast(CounterMsg::Add(1)).map_err(RunError::lost)?;
        counted += ask(&counter, CounterMsg::Total).await?;
        counter.stop(None);
    }
    all_stopped(&stops, size.messages).await;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn tell_cores(size: Size, counter: ActorRef<CounterMsg>) -> Result<Sample, RunError> {
    let mut before = None;
    let started = Instant::now();
    for number in 1..=size.messages {
        counter
            .cast(CounterMsg::AddPayload([1; PAYLOAD_WORDS]))
            .map_err(RunError::lost)?;
        if number.is_multiple_of(WINDOW) {
            let (reply, confirmed) = reply_channel();
            counter
                .cast(CounterMsg::Total(reply.into()))
                .map_err(RunError::lost)?;
            if let Some(before) = before.replace(confirmed) {
                before.await.map_err(RunError::lost)?;
            }
        }
    }
    let counted = ask(&counter, CounterMsg::Total).await?;
    Sample::rate(size.messages, counted, started.elapsed())
}

async fn ask_cores(
    workload: Workload,
    size: Size,
    counter: ActorRef<CounterMsg>,
) -> Result<Sample, RunError> {
    let mut trips = RoundTrips::new(size.messages, size.warm_up);
    for _ in 0..size.warm_up + size.messages {
        pause_before_ask(workload);
        let sent = Instant::now();
        ask(&counter, CounterMsg::Total).await?;
        trips.record(sent);
    }
    trips.sample(size.messages)
}

async fn ask<M: ractor::Message>(
    actor: &ActorRef<M>,
    message: impl FnOnce(RpcReplyPort<u64>) -> M,
) -> Result<u64, RunError> {
    let result = actor.call(message, None).await.map_err(RunError::lost)?;
    result.success_or_else(|| RunError::lost("ended without a reply"))
}

async fn spawn_counter(stop: Option<StopToken>) -> Result<ActorRef<CounterMsg>, RunError> {
    Ok(Actor::spawn(None, Counter, stop)
        .await
        .map_err(RunError::lost)?
        .0)
}

async fn spawn_at(remote: &Handle) -> Result<ActorRef<CounterMsg>, RunError> {
    remote
        .spawn(spawn_counter(None))
        .await
        .map_err(RunError::lost)?
}

struct Counter;

struct Count {
    total: u64,
    _stop: Option<StopToken>,
}

enum CounterMsg {
    Add(u64),
    AddPayload(Payload),
    Total(RpcReplyPort<u64>),
}

impl Actor for Counter {
    type Msg = CounterMsg;
    type State = Count;
    type Arguments = Option<StopToken>;

    async fn pre_start(
        &self,
        _: ActorRef<CounterMsg>,
        stop: Option<StopToken>,
    ) -> Result<Count, ActorProcessingErr> {
        Ok(Count {
            total: 0,
            _stop: stop,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<CounterMsg>,
        message: CounterMsg,
        count: &mut Count,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMsg::Add(number) => count.total += number,
            CounterMsg::AddPayload(payload) => count.total += payload[0],
            CounterMsg::Total(reply) => reply.send(count.total)?,
        }
        Ok(())
    }
}

struct Node;

#[derive(Default)]
struct Place {
    hops: u64,
    next: Option<ActorRef<NodeMsg>>,
    done: Option<oneshot::Sender<()>>,
}

enum NodeMsg {
    Join(ActorRef<NodeMsg>, Option<oneshot::Sender<()>>),
    Token(u64),
    Hops(RpcReplyPort<u64>),
}

impl Actor for Node {
    type Msg = NodeMsg;
    type State = Place;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NodeMsg>, (): ()) -> Result<Place, ActorProcessingErr> {
        Ok(Place::default())
    }

    async fn handle(
        &self,
        _: ActorRef<NodeMsg>,
        message: NodeMsg,
        place: &mut Place,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NodeMsg::Join(next, done) => (place.next, place.done) = (Some(next), done),
            NodeMsg::Token(left) => {
                place.hops += 1;
                if left > 0 {
                    place
                        .next
                        .as_ref()
                        .ok_or("not joined")?
                        .cast(NodeMsg::Token(left - 1))?;
                } else if let Some(done) = place.done.take() {
                    // Nobody listens when the run failed.
                    let _ = done.send(());
                }
            }
            NodeMsg::Hops(reply) => reply.send(place.hops)?,
        }
        Ok(())
    }
}
