//! The steps of the workloads on actix: one arbiter on one pinned thread, a second arbiter for the other core.

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use actix_rt::{Arbiter, System};

use crate::measure::{Cpus, RunError, Sample, StopToken, on_pinned_thread, pin};
use crate::peer::{Answer, Done, Peer};
use crate::tokio_threads::{keep_awake, runtime};
use crate::workload::{PAYLOAD_WORDS, Payload, Workload};

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

/// actix.
pub(crate) struct Actix;

impl Peer for Actix {
    const BURST: u64 = 128;
    const ROUNDS: u64 = 4;
    const WINDOW: u64 = 2_000;

    type Counter = Addr<Counter>;
    type Node = Addr<Node>;

    fn on_one_cpu<F>(cpus: Cpus, make: impl FnOnce() -> F + Send) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static,
    {
        on_system(cpus, make)
    }

    fn on_two_cpus<F>(
        workload: Workload,
        cpus: Cpus,
        make: impl FnOnce(Addr<Counter>) -> F + Send + 'static,
    ) -> Result<Sample, RunError>
    where
        F: Future<Output = Result<Sample, RunError>> + Send + 'static,
    {
        on_system(cpus, || async move {
            let remote = Remote::start(workload, cpus)?;
            if workload == Workload::AskHot {
                actix_rt::spawn(keep_awake());
            }
            let sample = make(remote.counter()).await;
            remote.stop().and(sample)
        })
    }

    async fn counter(stop: Option<StopToken>) -> Result<Addr<Counter>, RunError> {
        let counter = Counter {
            total: 0,
            _stop: stop,
        };
        Ok(counter.start())
    }

    fn add(counter: &Addr<Counter>) -> Result<(), RunError> {
        counter.do_send(Add(1));
        Ok(())
    }

    fn add_payload(counter: &Addr<Counter>) -> Result<(), RunError> {
        counter.do_send(AddPayload([1; PAYLOAD_WORDS]));
        Ok(())
    }

    async fn total(counter: &Addr<Counter>) -> Result<u64, RunError> {
        counter.send(Total).await.map_err(RunError::lost)
    }

    async fn begin_total(counter: &Addr<Counter>) -> Result<Answer, RunError> {
        // Sent at once: the mailbox is set to take any number.
        let total = counter.send(Total);
        Ok(Box::pin(async move {
            total.await.map(drop).map_err(RunError::lost)
        }))
    }

    fn stop(counter: &Addr<Counter>) -> Result<(), RunError> {
        counter.do_send(Quit);
        Ok(())
    }

    async fn node() -> Result<Addr<Node>, RunError> {
        Ok(Node::default().start())
    }

    async fn join(node: &Addr<Node>, next: Addr<Node>, done: Option<Done>) -> Result<(), RunError> {
        node.send(Join { next, done }).await.map_err(RunError::lost)
    }

    fn token(node: &Addr<Node>, left: u64) -> Result<(), RunError> {
        node.do_send(Token(left));
        Ok(())
    }

    async fn hops_in_the_end(node: &Addr<Node>) -> Result<u64, RunError> {
        let hops = node.send(Total).await.map_err(RunError::lost)?;
        node.do_send(Quit);
        Ok(hops)
    }
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
pub(crate) struct Counter {
    total: u64,
    _stop: Option<StopToken>,
}

#[derive(Default)]
pub(crate) struct Node {
    hops: u64,
    next: Option<Addr<Node>>,
    done: Option<Done>,
}

struct Add(u64);
struct AddPayload(Payload);
struct Total;
struct Quit;
struct Token(u64);
struct Join {
    next: Addr<Node>,
    done: Option<Done>,
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

impl Handler<Quit> for Counter {
    type Result = ();

    fn handle(&mut self, Quit: Quit, context: &mut Context<Self>) {
        context.stop();
    }
}

impl Handler<Quit> for Node {
    type Result = ();

    fn handle(&mut self, Quit: Quit, context: &mut Context<Self>) {
        context.stop();
    }
}
