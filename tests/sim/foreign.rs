//! What no seed decides fails the run: wakes by other threads, and calls for a runtime that does not run there.

use crate::kit::{assert_says, panic_of};
use corecast::base::ids::CoreId;
use corecast::sim::{SeedFailure, Simulation, SimulationBuilder, check_seed, check_seeds};
use corecast::{Actor, Context, Executor, Fault, Next, TaskError};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

const INSTEAD: [&str; 4] = ["ctx.sleep", "ctx.now", "ctx.rng", "Simulation::elsewhere()"];

#[track_caller]
fn assert_fails(parts: &[&str], scenario: impl Fn(SimulationBuilder) -> Simulation) {
    match check_seed(1, &scenario) {
        Err(SeedFailure::Panicked(text)) => {
            assert_says(&text, parts);
            assert_says(&text, &INSTEAD);
        }
        other => panic!("it was not noticed: {other:?}"),
    }
    // Alone, a run says how to replay it.
    let text = panic_of(|| drop(scenario(Simulation::builder(4))));
    assert_says(&text, parts);
    assert_says(&text, &["seed 4 failed", "replay it with: CORECAST_SEED=4"]);
}

fn on_another_thread(work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("stranger".to_owned());
    thread.spawn(work).unwrap().join().unwrap();
}

const WOKEN: [&str; 2] = ["was woken by another thread (stranger)", "no seed decides"];

/// Ends with its second poll, for which another thread asks.
async fn woken_by_another_thread() {
    let mut asked = false;
    poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        let waker = context.waker().clone();
        on_another_thread(move || waker.wake());
        Poll::Pending
    })
    .await;
}

#[test]
fn a_future_that_another_thread_wakes() {
    assert_fails(&["a future on core-1", WOKEN[0], WOKEN[1]], |builder| {
        let mut sim = builder.start();
        let woken = sim
            .handle()
            .run_on(CoreId(1), |_| woken_by_another_thread());
        sim.run_until(woken).unwrap().unwrap();
        sim
    });
}

/// Nobody lets the world run afterwards; the end of the simulation notices.
#[test]
fn a_future_that_another_thread_wakes_in_the_end() {
    assert_fails(&["a future on core-0", WOKEN[0]], |builder| {
        let mut sim = builder.start();
        let waker = Arc::new(Mutex::new(None));
        let slot = waker.clone();
        let pending = sim.handle().run_on(CoreId(0), move |_| {
            poll_fn(move |context| {
                *slot.lock().unwrap() = Some(context.waker().clone());
                Poll::<()>::Pending
            })
        });
        assert!(sim.run_until(pending).is_err());
        let waker: Waker = waker.lock().unwrap().take().unwrap();
        on_another_thread(move || waker.wake_by_ref());
        sim
    });
}

#[test]
fn work_elsewhere_that_another_thread_wakes() {
    struct Starter(corecast::sim::Elsewhere);
    impl Actor for Starter {
        type Msg = ();
        fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
            ctx.spawn_on(&self.0.clone(), woken_by_another_thread(), |_| ());
            Ok(Next::Stop)
        }
    }
    assert_fails(&["work elsewhere", WOKEN[0]], |builder| {
        let mut sim = builder.start();
        let elsewhere = sim.elsewhere();
        let starter = sim.spawn(CoreId(0), || Starter(elsewhere)).unwrap();
        sim.tell(starter, ());
        sim.run_until_idle();
        sim
    });
}

#[test]
fn a_handle_that_another_thread_uses() {
    assert_fails(&["a core was woken", WOKEN[0]], |builder| {
        let mut sim = builder.start();
        let probe = sim.probe::<u32>();
        sim.run_until_idle();
        let (handle, to) = (sim.handle(), probe.address());
        on_another_thread(move || handle.tell(to, 1));
        probe.expect(&mut sim, |number| *number == 1);
        sim
    });
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A pool of threads, in place of which `Elsewhere` is to be used.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<Vec<Work>>>);

impl Executor for Threads {
    fn execute(&self, work: Work) {
        self.0.lock().unwrap().push(work);
    }
}

#[test]
fn an_executor_with_threads_of_its_own() {
    struct Starter(Threads);
    impl Actor for Starter {
        type Msg = Option<Result<u32, TaskError>>;
        fn receive(&mut self, msg: Self::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
            match msg {
                Some(result) => assert_eq!(result, Ok(7)),
                None => ctx.spawn_on(&self.0, async { 7 }, Some),
            }
            Ok(Next::Continue)
        }
    }
    assert_fails(&["a future on core-0", WOKEN[0]], |builder| {
        let mut sim = builder.start();
        let threads = Threads::default();
        let executor = threads.clone();
        let starter = sim.spawn(CoreId(0), || Starter(executor)).unwrap();
        sim.tell(starter, None);
        sim.run_until_idle();
        let mut work = threads.0.lock().unwrap().pop().unwrap();
        on_another_thread(move || {
            let mut context = std::task::Context::from_waker(Waker::noop());
            assert!(work.as_mut().poll(&mut context).is_ready());
        });
        sim.run_until_idle();
        sim
    });
}

/// Calls what only runs elsewhere.
struct Caller(fn());

impl Actor for Caller {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        (self.0)();
        Ok(Next::Continue)
    }
}

const CALLS: [fn(); 7] = [
    || drop(tokio::spawn(async {})),
    || drop(tokio::time::sleep(Duration::from_millis(1))),
    || drop(tokio::task::spawn_blocking(|| ())),
    || drop(tokio::task::spawn_local(async {})),
    || drop(tokio::runtime::Handle::try_current().unwrap()),
    || drop(glommio::spawn_local(async {})),
    || drop(glommio::timer::Timer::new(Duration::from_millis(1))),
];

#[test]
fn a_call_for_another_runtime() {
    for call in CALLS {
        let what = ["called for a runtime that does not run there"];
        assert_fails(&what, |builder| {
            let mut sim = builder.start();
            let caller = sim.spawn(CoreId(0), move || Caller(call)).unwrap();
            sim.tell(caller, ());
            sim.run_until_idle();
            sim
        });
        assert_fails(&what, |builder| {
            let mut sim = builder.start();
            let called = sim
                .handle()
                .run_on(CoreId(1), move |_| async move { call() });
            let result = sim.run_until(called).unwrap();
            panic!("the run went on: {result:?}");
        });
    }
}

/// Calls it when it stops.
struct LastCaller(fn());

impl Actor for LastCaller {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        (self.0)();
    }
}

#[test]
fn a_call_for_another_runtime_in_the_end() {
    for shuts_down in [true, false] {
        assert_fails(
            &["called for a runtime that does not run there"],
            |builder| {
                let mut sim = builder.start();
                sim.spawn(CoreId(0), || LastCaller(CALLS[0])).unwrap();
                if shuts_down {
                    sim.shutdown(Duration::from_secs(1));
                }
                sim
            },
        );
    }
}

/// Other panics are faults of actors and nothing else.
#[test]
fn another_panic() {
    check_seeds(3, |builder| {
        let mut sim = builder.start();
        let caller = sim
            .spawn(CoreId(0), || Caller(|| panic!("there is no reason")))
            .unwrap();
        sim.tell(caller, ());
        sim.run_until_idle();
        assert_eq!(sim.stats().cores[0].faults, 1);
        sim
    });
}

/// A call that blocks is run by the simulation itself, later by virtual time.
#[test]
fn what_blocks_runs_on_the_thread_of_the_test() {
    struct Blocker;
    #[derive(Debug)]
    enum Msg {
        Start,
        Done(Result<thread::ThreadId, TaskError>),
    }
    impl Actor for Blocker {
        type Msg = Msg;
        fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
            match msg {
                Msg::Start => ctx.spawn_blocking(|| thread::current().id(), Msg::Done),
                Msg::Done(on) => assert_eq!(on, Ok(thread::current().id())),
            }
            Ok(Next::Continue)
        }
    }
    let mut sim = Simulation::builder(1).start();
    let blocker = sim.spawn(CoreId(0), || Blocker).unwrap();
    sim.tell(blocker, Msg::Start);
    sim.run_until_idle();
    let core = &sim.stats().cores[0];
    assert_eq!((core.handled, core.faults), (2, 0));
}
