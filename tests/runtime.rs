//! The runtime on real cores: starting, sending, asking, stopping.

use corecast::{
    Actor, AskError, AsyncActor, Awaiting, Context, CoreId, EntityType, Fault, Next, Rejection, ReplyTo, Runtime,
    RuntimeBuilder, Scope, Uncertainty,
};
use std::time::Duration;

#[derive(Default)]
struct Counter(u64);

#[derive(Debug)]
enum Count {
    Add(u64),
    Get(ReplyTo<u64>),
    Forget(ReplyTo<u64>),
    Fail,
    Panic,
}

impl Actor for Counter {
    type Msg = Count;

    fn receive(&mut self, msg: Count, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Count::Add(n) => self.0 += n,
            Count::Get(reply_to) => ctx.reply(reply_to, self.0),
            Count::Forget(reply_to) => drop(reply_to),
            Count::Fail => return Err(Fault::new("told to fail")),
            Count::Panic => panic!("told to panic"),
        }
        Ok(Next::Continue)
    }
}

fn two_cores() -> RuntimeBuilder {
    Runtime::builder().cores("0-1".parse().unwrap())
}

#[test]
fn a_counter_counts_from_every_side() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    for core in [CoreId(0), CoreId(1)] {
        let counter = handle.spawn_on(core, Counter::default).wait().unwrap();
        assert_eq!(counter.core(), core);
        for _ in 0..400 {
            handle.tell(counter, Count::Add(2));
        }
        assert_eq!(handle.ask(counter, Count::Get).wait(), Ok(800));
        assert_eq!(handle.send(counter, Count::Add(1)).wait(), Ok(()));
        assert_eq!(handle.ask(counter, Count::Get).wait(), Ok(801));
        assert_eq!(
            handle.ask(counter, Count::Forget).wait(),
            Err(AskError::Unknown(Uncertainty::DroppedUnanswered))
        );
    }
    assert!(runtime.shutdown().drained);
}

#[test]
fn a_failing_actor_stops_alone() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    for failure in [Count::Fail, Count::Panic] {
        let bystander = handle.spawn(Counter::default).wait().unwrap();
        let victim = handle.spawn(Counter::default).wait().unwrap();
        handle.send(victim, failure).wait().unwrap();
        let after = handle.ask(victim, Count::Get).wait();
        assert!(matches!(after, Err(AskError::Rejected(Rejection::NoSuchActor | Rejection::Stopped))), "{after:?}");
        assert_eq!(handle.ask(bystander, Count::Get).wait(), Ok(0));
    }
    let stats = handle.stats().wait();
    assert_eq!(stats.cores.iter().map(|core| core.faults).sum::<u64>(), 2);
}

#[test]
fn entities_start_with_their_first_message_and_move_under_load() {
    let mut builder = two_cores().balancer(None);
    let counters = builder.entities(EntityType::send("counter", |_: &u64| Counter::default()).num_shards(16));
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    for round in 0..20_u64 {
        for id in 0..1_000 {
            handle.tell(counters.entity(&id), Count::Add(1));
        }
        let key = counters.shard_of(&round);
        for target in [0, 1] {
            handle.move_shard(key, CoreId(target)).wait().unwrap();
        }
    }
    for id in 0..1_000 {
        assert_eq!(handle.ask(counters.entity(&id), Count::Get).wait(), Ok(20), "entity {id}");
    }
    let stats = handle.stats().wait();
    assert_eq!(stats.cores.iter().map(|core| core.dead_letters_total()).sum::<u64>(), 0);
    assert!(runtime.shutdown().drained);
}

struct Patient;

impl AsyncActor for Patient {
    type Msg = ReplyTo<CoreId>;

    async fn receive(&mut self, reply_to: ReplyTo<CoreId>, scope: &Scope) -> Result<Next, Fault> {
        scope.sleep(Duration::from_millis(2)).await;
        scope.reply(reply_to, scope.core());
        Ok(Next::Continue)
    }
}

#[test]
fn asynchronous_code_on_a_core_asks_and_sleeps() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let patient = handle.spawn_on(CoreId(1), || Awaiting::new(Patient)).wait().unwrap();
    let answer = handle
        .run_on(CoreId(0), move |scope| async move {
            let first = scope.ask(patient, |reply_to| reply_to);
            let second = scope.ask(patient, |reply_to| reply_to);
            (first.await, second.await)
        })
        .wait()
        .unwrap();
    assert_eq!(answer, (Ok(CoreId(1)), Ok(CoreId(1))));
}
