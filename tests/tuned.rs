//! Times and numbers that are set reach the cores. Each is told from its default by what happens first.
#![cfg(target_os = "linux")]

use corecast::sharding::move_error::{MoveError, RefusedWhy};
use corecast::{
    AskError, AsyncActor, Awaiting, CoreId, EntityType, Fault, Next, ReplyTo, Runtime,
    RuntimeBuilder, Scope, Settings, TaskError, Uncertainty,
};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(20);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

/// Keeps who asks waiting in a handler that does not end.
struct Stuck;

impl AsyncActor for Stuck {
    type Msg = ReplyTo<()>;

    async fn receive(&mut self, reply_to: ReplyTo<()>, scope: &Scope) -> Result<Next, Fault> {
        scope.sleep(LONG).await;
        scope.reply(reply_to, ());
        Ok(Next::Continue)
    }
}

/// Answers, and stays in its handler.
struct Lingering;

impl AsyncActor for Lingering {
    type Msg = ReplyTo<()>;

    async fn receive(&mut self, reply_to: ReplyTo<()>, scope: &Scope) -> Result<Next, Fault> {
        scope.reply(reply_to, ());
        scope.sleep(LONG).await;
        Ok(Next::Continue)
    }
}

fn tuned(settings: Settings) -> RuntimeBuilder {
    Runtime::builder()
        .settings(settings)
        .cores("0-1".parse().unwrap())
        .balancer(None)
}

/// What becomes of an ask to one who is stuck.
fn ask_stuck(settings: Settings) -> (Result<(), AskError>, Duration) {
    let runtime = tuned(settings).start().unwrap();
    let handle = runtime.handle();
    let stuck = handle.spawn(|| Awaiting::new(Stuck)).wait().unwrap();
    let asked = handle.clock();
    let outcome = handle.ask(stuck, |reply_to| reply_to).wait();
    let waited = handle.clock() - asked;
    runtime.shutdown_within(Duration::ZERO);
    (outcome, waited)
}

#[test]
fn the_time_of_an_ask() {
    // By default it would end with its handler, which fails first.
    let (outcome, waited) = ask_stuck(Settings {
        ask_timeout: SHORT,
        async_deadline: Duration::from_secs(3),
        ..Settings::default()
    });
    assert_eq!(outcome, Err(AskError::Unknown(Uncertainty::Timeout)));
    assert!(waited >= SHORT, "{waited:?}");
}

#[test]
fn the_time_of_a_handler_that_awaits() {
    // By default the ask would end by its own time first.
    let (outcome, waited) = ask_stuck(Settings {
        async_deadline: SHORT,
        ..Settings::default()
    });
    assert_eq!(outcome, Err(AskError::Unknown(Uncertainty::HandlerFailed)));
    assert!(waited >= SHORT, "{waited:?}");
}

#[test]
fn the_time_of_a_shard_to_become_ready() {
    // By default the handler would fail first, and the shard move then.
    let mut builder = tuned(Settings {
        hand_off_patience: SHORT,
        async_deadline: Duration::from_secs(1),
        ..Settings::default()
    });
    let region = builder.entities(EntityType::ephemeral("lingering", |_: &u64| {
        Awaiting::new(Lingering)
    }));
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    let shard = region.shard_of(&7);
    let owner = handle
        .topology()
        .wait()
        .unwrap()
        .placement(shard)
        .unwrap()
        .owner;
    let lingers = handle.ask(region.entity(&7), |reply_to| reply_to).wait();
    assert_eq!(lingers, Ok(()));
    let moved = handle.move_shard(shard, CoreId(1 - owner.0)).wait();
    assert!(
        matches!(
            moved,
            Err(MoveError::Refused {
                why: RefusedWhy::Suspended,
                ..
            })
        ),
        "{moved:?}"
    );
    runtime.shutdown_within(Duration::ZERO);
}

#[test]
fn the_number_of_futures() {
    let runtime = tuned(Settings {
        tasks: 2,
        ..Settings::default()
    })
    .start()
    .unwrap();
    let handle = runtime.handle();
    let run = || handle.run_on(CoreId(0), |scope| async move { scope.sleep(LONG).await });
    let pending = [run(), run()];
    assert_eq!(run().wait(), Err(TaskError::TooManyTasks));
    let elsewhere = handle.run_on(CoreId(1), |_| async { 7 });
    assert_eq!(elsewhere.wait(), Ok(7), "each core counts its own");
    let pending = pending.map(|pending| pending.try_take().is_err());
    assert_eq!(pending, [true, true], "those that fit wait still");
}

#[test]
fn handles_and_cores_share_a_clock() {
    let runtime = tuned(Settings::default()).start().unwrap();
    let handle = runtime.handle();
    let mut last = handle.clock();
    for core in [0, 1, 0, 1] {
        let on_core = handle.run_on(CoreId(core), |scope| async move { scope.clock() });
        let on_core = on_core.wait().unwrap();
        let after = handle.clock();
        assert!(last <= on_core && on_core <= after);
        last = after;
    }
    runtime.shutdown();
    assert!(handle.clock() > last, "it runs on");
}

#[test]
fn a_handle_goes_everywhere() {
    fn everywhere<T: Send + Sync + UnwindSafe + RefUnwindSafe + 'static>(_: &T) {}
    everywhere(&tuned(Settings::default()).start().unwrap().handle());
}
