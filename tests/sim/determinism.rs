//! One seed is one run, another seed another; what leaks in from outside is noticed.

use crate::moves;
use crate::workload::Load;
use corecast::base::ids::CoreId;
use corecast::sim::{SeedFailure, Simulation, SimulationBuilder, check_seed};
use corecast::{Actor, Context, Fault, Next};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

const LOAD: Load = Load {
    entities: 12,
    messages: 30,
    shards: 4,
    moves: 20,
    slow: true,
};

#[test]
fn one_seed_is_one_run_and_another_seed_another() {
    let mut orders = BTreeSet::new();
    for seed in 0..10 {
        let trace = check_seed(seed, |builder| moves::scenario(builder, LOAD).0).unwrap();
        assert!(trace.len() > 500, "{}", trace.len());
        orders.insert(trace.deliveries().collect::<Vec<_>>());
    }
    assert_eq!(
        orders.len(),
        10,
        "some seeds gave the same order of deliveries"
    );
}

/// With the same bounds and the same messages, the order still depends on the seed.
#[test]
fn seeds_differ_in_the_order_of_the_same_messages() {
    let orders: BTreeSet<Vec<u64>> = (0..60)
        .map(|seed| {
            let mut sim = Simulation::builder(seed).cores(3).start();
            let sink = sim.spawn(CoreId(0), || Echo).unwrap();
            for core in 0..3 {
                let from = sim.handle().through(CoreId(core)).unwrap();
                (0..5).for_each(|number| from.tell(sink, number * 10 + u64::from(core)));
            }
            assert!(sim.run_until_idle());
            let trace = sim.trace();
            trace.deliveries().map(|(_, _, digest)| digest).collect()
        })
        .collect();
    assert!(orders.iter().all(|order| order.len() == 15));
    // What one handle sends stays in order, so there are as many orders as there are of three senders.
    assert_eq!(orders.len(), 6);
}

struct Echo;

impl Actor for Echo {
    type Msg = u64;

    fn receive(&mut self, _: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

/// Sends itself what a leak tells it to.
struct Leaky(fn(u64) -> u64);

impl Actor for Leaky {
    type Msg = u64;

    fn receive(&mut self, left: u64, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let echo = ctx.spawn_actor(|| Echo)?;
        ctx.tell(echo, (self.0)(left));
        if left > 0 {
            let me = ctx.me();
            ctx.tell(me, left - 1);
        }
        Ok(Next::Continue)
    }
}

fn leaking(leak: fn(u64) -> u64) -> impl Fn(SimulationBuilder) -> Simulation {
    move |builder| {
        let mut sim = builder.start();
        let leaky = sim.spawn(CoreId(0), move || Leaky(leak)).unwrap();
        sim.tell(leaky, 30);
        assert!(sim.run_until_idle());
        sim
    }
}

#[test]
fn what_the_seed_does_not_decide_is_noticed() {
    fn map_order(_: u64) -> u64 {
        let map: HashMap<u64, ()> = (0..20).map(|key| (key, ())).collect();
        map.into_keys().next().unwrap()
    }
    fn clock(_: u64) -> u64 {
        Instant::now().elapsed().as_nanos() as u64
    }
    fn address(left: u64) -> u64 {
        static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        left + CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
    for leak in [map_order, clock, address] {
        match check_seed(1, leaking(leak)) {
            Err(failure @ SeedFailure::Differs(_)) => {
                let text = failure.to_string();
                assert!(
                    ["first run: ", "deliver", "Instant::now", "ctx.rng"]
                        .iter()
                        .all(|part| text.contains(part)),
                    "{text}"
                );
            }
            other => panic!("the leak was not noticed: {other:?}"),
        }
    }
    assert!(check_seed(1, leaking(|left| left)).is_ok());
}

#[test]
fn virtual_time_passes_without_anybody_waiting() {
    let started = Instant::now();
    let mut sim = Simulation::builder(1).start();
    let slept = sim.handle().run_on(CoreId(1), |scope| async move {
        let before = scope.now();
        scope.sleep(Duration::from_secs(300)).await;
        scope.now() - before
    });
    let slept = sim.run_until(slept).unwrap().unwrap();
    assert!((300.0..300.1).contains(&slept.as_secs_f64()), "{slept:?}");
    assert!(started.elapsed() < Duration::from_secs(60));
    let before = sim.now();
    sim.run_for(Duration::from_millis(7));
    assert_eq!(sim.now() - before, Duration::from_millis(7));
    assert!(
        sim.stats()
            .cores
            .iter()
            .all(|core| core.tasks == 0 && core.timers == 0)
    );
}

/// Blocking calls and foreign executors are part of the simulation.
#[test]
fn work_elsewhere_is_decided_by_the_seed_too() {
    #[derive(Debug)]
    enum Msg {
        Start,
        Done(u32),
    }
    struct Asker {
        executor: corecast::sim::Elsewhere,
        echo: corecast::ActorRef<u64>,
    }
    impl Actor for Asker {
        type Msg = Msg;
        fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
            match msg {
                Msg::Start => {
                    for number in 0..6 {
                        ctx.spawn_blocking(move || number, |done| Msg::Done(done.unwrap()));
                    }
                    for number in 6..9 {
                        let nap = ctx.sleep(Duration::from_micros(100));
                        let work = async move {
                            nap.await;
                            number
                        };
                        ctx.spawn_on(&self.executor.clone(), work, |done| {
                            Msg::Done(done.unwrap())
                        });
                    }
                    ctx.spawn_blocking(
                        || panic!("on purpose"),
                        |done: Result<(), _>| {
                            assert!(matches!(done, Err(corecast::TaskError::Panicked(_))));
                            Msg::Done(9)
                        },
                    );
                }
                Msg::Done(number) => ctx.tell(self.echo, u64::from(number)),
            }
            Ok(Next::Continue)
        }
    }
    let mut orders = BTreeSet::new();
    for seed in 0..10 {
        let trace = check_seed(seed, |builder| {
            let mut sim = builder.start();
            let echo = sim.spawn(CoreId(1), || Echo).unwrap();
            let executor = sim.elsewhere();
            let asker = sim
                .spawn(CoreId(0), move || Asker { executor, echo })
                .unwrap();
            sim.tell(asker, Msg::Start);
            assert!(sim.run_until_idle());
            sim.run_for(Duration::from_millis(50));
            assert!(sim.run_until_idle());
            assert_eq!(sim.stats().cores[1].handled, 10);
            sim
        })
        .unwrap();
        let at_echo = trace
            .deliveries()
            .filter(|(core, ..)| *core == CoreId(1))
            .map(|(_, _, digest)| digest);
        orders.insert(at_echo.collect::<Vec<_>>());
    }
    assert!(orders.len() > 5, "only {} orders", orders.len());
}
