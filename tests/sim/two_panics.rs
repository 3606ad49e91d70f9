//! Two things of a user's that both panic when they are dropped, and are dropped together: were one dropped while the panic
//! of the other is under way, Rust would end the process.

use corecast::base::ids::CoreId;
use corecast::behavior::{receive, same, supervise};
use corecast::sim::{Elsewhere, Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, Behaving, Context, Directive, Executor, Fault, Next, Supervision, Terminated,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Panics whenever it is dropped.
#[derive(Clone)]
struct Bomb(Arc<AtomicU32>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a bomb was dropped");
    }
}

/// How many bombs went off, and one of them.
fn bombs() -> (Arc<AtomicU32>, impl Fn() -> Bomb + Clone + Send) {
    let dropped = Arc::<AtomicU32>::default();
    let count = dropped.clone();
    (dropped, move || Bomb(count.clone()))
}

/// Stops with its first message; so does what it watches.
struct Armed {
    _bomb: Option<Bomb>,
}

impl Actor for Armed {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Stop)
    }
}

fn is_well(sim: &mut Simulation) {
    let probe = sim.probe::<u32>();
    sim.tell(probe.address(), 7);
    probe.expect(sim, |number| *number == 7);
}

#[test]
fn an_actor_and_its_factory() {
    check_seeds(3, |builder| {
        let mut sim = builder.start();
        let (dropped, bomb) = bombs();
        let of_factory = bomb();
        let armed = sim.spawn_supervised(CoreId(0), Supervision::default(), move || {
            let _kept = &of_factory;
            Armed {
                _bomb: Some(bomb()),
            }
        });
        sim.tell(armed.unwrap(), ());
        assert!(sim.run_until_idle());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        is_well(&mut sim);
        sim
    });
}

#[test]
fn deciders_within_each_other() {
    check_seeds(3, |builder| {
        let mut sim = builder.start();
        let (dropped, bomb) = bombs();
        let decide = move || {
            let bomb = bomb();
            Supervision::decide(move |_| {
                let _kept = &bomb;
                Directive::Escalate
            })
        };
        let outside = decide();
        let actor = sim.spawn_supervised(CoreId(0), outside, move || {
            let behavior = receive(|_, fails: bool| match fails {
                true => Err(Fault::new("on purpose")),
                false => Ok(same()),
            });
            Behaving::new(supervise(supervise(behavior, decide()), decide()))
        });
        let actor = actor.unwrap();
        sim.tell(actor, false);
        sim.tell(actor, true);
        assert!(sim.run_until_idle());
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        is_well(&mut sim);
        sim
    });
}

/// Watches some of a kind, with a bomb for each.
struct Watcher {
    watched: Vec<ActorRef<()>>,
    order: Arc<std::sync::Mutex<Vec<usize>>>,
}

/// Notes when it is dropped.
struct Noted(usize, Arc<std::sync::Mutex<Vec<usize>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

impl Actor for Watcher {
    type Msg = ();

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        for (number, watched) in self.watched.iter().enumerate() {
            let noted = Noted(number, self.order.clone());
            ctx.watch(*watched, move |_: Terminated| drop(noted))
                .map_err(|why| Fault::new(format!("{why:?}")))?;
        }
        Ok(())
    }

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

/// What is left of watches at the end of a core is dropped in their order, whatever hash they lie under.
#[test]
fn watches_that_nothing_came_of() {
    check_seeds(3, |builder| {
        let mut sim = builder.cores(2).start();
        let armed = || Armed { _bomb: None };
        let watched: Vec<_> = (0..50)
            .map(|_| sim.spawn(CoreId(1), armed).unwrap())
            .collect();
        let order = Arc::default();
        let watcher = Watcher {
            watched,
            order: Arc::clone(&order),
        };
        sim.spawn(CoreId(0), move || watcher).unwrap();
        assert!(sim.run_until_idle());
        drop(sim);
        let order = std::mem::take(&mut *order.lock().unwrap());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(
            order == sorted || order.iter().rev().eq(&sorted),
            "{order:?}"
        );
        assert_eq!(order.len(), 50);
        corecast::sim::Simulation::builder(0).start()
    });
}

/// The panic of a test, and what still runs elsewhere in its simulation.
#[test]
fn a_failing_test_and_work_elsewhere() {
    let (dropped, bomb) = bombs();
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let mut sim = Simulation::builder(1).start();
        let elsewhere: Elsewhere = sim.elsewhere();
        for _ in 0..2 {
            let bomb = bomb();
            elsewhere.execute(Box::pin(async move {
                let _kept = bomb;
                std::future::pending::<()>().await;
            }));
            sim.run_for(Duration::from_secs(1));
        }
        panic!("the test's own");
    }));
    let text = *failed.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(text, "the test's own");
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}
