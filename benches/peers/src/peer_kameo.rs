//! The steps of the workloads on kameo, on pinned single-threaded tokio runtimes.

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};

use crate::measure::{Cpus, RunError, Sample, StopToken};
use crate::peer::{Answer, Done, Peer};
use crate::tokio_threads::{on_one_cpu, on_two_cpus};
use crate::workload::{PAYLOAD_WORDS, Payload, Workload};

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

/// kameo, with unbounded mailboxes.
pub(crate) struct Kameo;

impl Peer for Kameo {
    /// What a task of tokio may receive at a time.
    const BURST: u64 = 128;
    const ROUNDS: u64 = 16;
    const WINDOW: u64 = 10_000;

    type Counter = ActorRef<Counter>;
    type Node = ActorRef<Node>;

    fn on_one_cpu<F>(cpus: Cpus, make: impl FnOnce() -> F + Send) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static,
    {
        on_one_cpu(cpus, make)
    }

    fn on_two_cpus<F>(
        workload: Workload,
        cpus: Cpus,
        make: impl FnOnce(ActorRef<Counter>) -> F + Send + 'static,
    ) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static,
    {
        on_two_cpus(workload, cpus, |remote| async move {
            let counter = {
                let _entered = remote.enter();
                spawn_actor(Counter::default())
            };
            make(counter).await
        })
    }

    async fn counter(stop: Option<StopToken>) -> Result<ActorRef<Counter>, RunError> {
        Ok(spawn_actor(Counter {
            total: 0,
            _stop: stop,
        }))
    }

    fn add(counter: &ActorRef<Counter>) -> Result<(), RunError> {
        counter.tell(Add(1)).try_send().map_err(RunError::lost)
    }

    fn add_payload(counter: &ActorRef<Counter>) -> Result<(), RunError> {
        let message = AddPayload([1; PAYLOAD_WORDS]);
        counter.tell(message).try_send().map_err(RunError::lost)
    }

    async fn total(counter: &ActorRef<Counter>) -> Result<u64, RunError> {
        counter.ask(Total).send().await.map_err(RunError::lost)
    }

    async fn begin_total(counter: &ActorRef<Counter>) -> Result<Answer, RunError> {
        let total = counter.ask(Total).enqueue().await.map_err(RunError::lost)?;
        Ok(Box::pin(async move {
            total.await.map(drop).map_err(RunError::lost)
        }))
    }

    fn stop(counter: &ActorRef<Counter>) -> Result<(), RunError> {
        counter.tell(Quit).try_send().map_err(RunError::lost)
    }

    async fn node() -> Result<ActorRef<Node>, RunError> {
        Ok(spawn_actor(Node::default()))
    }

    async fn join(
        node: &ActorRef<Node>,
        next: ActorRef<Node>,
        done: Option<Done>,
    ) -> Result<(), RunError> {
        let join = Join { next, done };
        node.ask(join).send().await.map_err(RunError::lost)
    }

    fn token(node: &ActorRef<Node>, left: u64) -> Result<(), RunError> {
        node.tell(Token(left)).try_send().map_err(RunError::lost)
    }

    async fn hops_in_the_end(node: &ActorRef<Node>) -> Result<u64, RunError> {
        let hops = node.ask(Total).send().await.map_err(RunError::lost)?;
        node.stop_gracefully().await.map_err(RunError::lost)?;
        Ok(hops)
    }
}

fn spawn_actor<A: Actor<Args = A>>(actor: A) -> ActorRef<A> {
    A::spawn_with_mailbox(actor, mailbox::unbounded())
}

#[derive(Default)]
pub(crate) struct Counter {
    total: u64,
    _stop: Option<StopToken>,
}

#[derive(Default)]
pub(crate) struct Node {
    hops: u64,
    next: Option<ActorRef<Node>>,
    done: Option<Done>,
}

struct Add(u64);
struct AddPayload(Payload);
struct Total;
struct Quit;
struct Token(u64);
struct Join {
    next: ActorRef<Node>,
    done: Option<Done>,
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
