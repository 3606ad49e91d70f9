//! The steps of the workloads on ractor, on pinned single-threaded tokio runtimes.

use ractor::concurrency::oneshot as reply_channel;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::measure::{Cpus, RunError, Sample, StopToken};
use crate::peer::{Answer, Done, Peer};
use crate::tokio_threads::{on_one_cpu, on_two_cpus};
use crate::workload::{PAYLOAD_WORDS, Payload, Workload};

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

/// ractor. Its mailboxes have no bound.
pub(crate) struct Ractor;

impl Peer for Ractor {
    /// What a task of tokio may receive at a time.
    const BURST: u64 = 128;
    const ROUNDS: u64 = 16;
    const WINDOW: u64 = 2_000;

    type Counter = ActorRef<CounterMsg>;
    type Node = ActorRef<NodeMsg>;

    fn on_one_cpu<F>(cpus: Cpus, make: impl FnOnce() -> F + Send) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static,
    {
        on_one_cpu(cpus, make)
    }

    fn on_two_cpus<F>(
        workload: Workload,
        cpus: Cpus,
        make: impl FnOnce(ActorRef<CounterMsg>) -> F + Send + 'static,
    ) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static,
    {
        on_two_cpus(workload, cpus, |remote| async move {
            let counter = remote.spawn(Self::counter(None));
            make(counter.await.map_err(RunError::lost)??).await
        })
    }

    async fn counter(stop: Option<StopToken>) -> Result<ActorRef<CounterMsg>, RunError> {
        let spawned = Actor::spawn(None, Counter, stop).await;
        Ok(spawned.map_err(RunError::lost)?.0)
    }

    fn add(counter: &ActorRef<CounterMsg>) -> Result<(), RunError> {
        counter.cast(CounterMsg::Add(1)).map_err(RunError::lost)
    }

    fn add_payload(counter: &ActorRef<CounterMsg>) -> Result<(), RunError> {
        let message = CounterMsg::AddPayload([1; PAYLOAD_WORDS]);
        counter.cast(message).map_err(RunError::lost)
    }

    async fn total(counter: &ActorRef<CounterMsg>) -> Result<u64, RunError> {
        ask(counter, CounterMsg::Total).await
    }

    async fn begin_total(counter: &ActorRef<CounterMsg>) -> Result<Answer, RunError> {
        let (reply, total) = reply_channel();
        let message = CounterMsg::Total(reply.into());
        counter.cast(message).map_err(RunError::lost)?;
        Ok(Box::pin(async move {
            total.await.map(drop).map_err(RunError::lost)
        }))
    }

    fn stop(counter: &ActorRef<CounterMsg>) -> Result<(), RunError> {
        counter.stop(None);
        Ok(())
    }

    async fn node() -> Result<ActorRef<NodeMsg>, RunError> {
        let spawned = Actor::spawn(None, Node, ()).await;
        Ok(spawned.map_err(RunError::lost)?.0)
    }

    async fn join(
        node: &ActorRef<NodeMsg>,
        next: ActorRef<NodeMsg>,
        done: Option<Done>,
    ) -> Result<(), RunError> {
        let join = NodeMsg::Join(next, done);
        node.cast(join).map_err(RunError::lost)?;
        ask(node, NodeMsg::Hops).await.map(drop)
    }

    fn token(node: &ActorRef<NodeMsg>, left: u64) -> Result<(), RunError> {
        node.cast(NodeMsg::Token(left)).map_err(RunError::lost)
    }

    async fn hops_in_the_end(node: &ActorRef<NodeMsg>) -> Result<u64, RunError> {
        let hops = ask(node, NodeMsg::Hops).await?;
        node.stop(None);
        Ok(hops)
    }
}

async fn ask<M: ractor::Message>(
    actor: &ActorRef<M>,
    message: impl FnOnce(RpcReplyPort<u64>) -> M,
) -> Result<u64, RunError> {
    let result = actor.call(message, None).await.map_err(RunError::lost)?;
    result.success_or_else(|| RunError::lost("ended without a reply"))
}

struct Counter;

struct Count {
    total: u64,
    _stop: Option<StopToken>,
}

pub(crate) enum CounterMsg {
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
    done: Option<Done>,
}

pub(crate) enum NodeMsg {
    Join(ActorRef<NodeMsg>, Option<Done>),
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
