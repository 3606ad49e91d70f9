//! The test kit: probes, randomness from the seed, and failures that say how to replay them.

use corecast::base::ids::CoreId;
use corecast::rand::RngExt;
use corecast::sim::{Bounds, SeedFailure, Simulation, check_seed, check_seeds};
use corecast::{Actor, ActorRef, Context, Fault, Next, ReplyTo};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What a panic in there says.
pub fn panic_of(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it must fail");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// Tells a number to somebody after a while, and one more that is drawn.
struct Teller(ActorRef<u32>);

#[derive(Debug)]
enum Tell {
    Now(u32),
    Later(Duration, u32),
    Drawn,
}

impl Actor for Teller {
    type Msg = Tell;

    fn receive(&mut self, tell: Tell, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match tell {
            Tell::Now(number) => ctx.tell(self.0, number),
            Tell::Later(after, number) => {
                let slept = ctx.sleep(after);
                ctx.spawn(slept, move |_| Tell::Now(number));
            }
            Tell::Drawn => {
                let number = ctx.rng().random_range(0..1_000_000);
                ctx.tell(self.0, number);
            }
        }
        Ok(Next::Continue)
    }
}

fn teller(sim: &mut Simulation, to: ActorRef<u32>) -> ActorRef<Tell> {
    sim.spawn(CoreId(1), move || Teller(to)).unwrap()
}

#[test]
fn a_probe_gets_what_it_expects_in_virtual_time() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let teller = teller(&mut sim, probe.address());
        sim.tell(teller, Tell::Now(1));
        sim.tell(teller, Tell::Later(Duration::from_secs(5), 3));
        sim.tell(teller, Tell::Now(2));
        assert_eq!(probe.expect(&mut sim, |number| *number == 1), 1);
        probe.expect_within(&mut sim, Duration::from_millis(1), |number| *number == 2);
        let before = sim.now();
        probe.expect_none_for(&mut sim, Duration::from_millis(4_990));
        assert_eq!(sim.now() - before, Duration::from_millis(4_990));
        probe.expect_within(&mut sim, Duration::from_millis(20), |number| *number == 3);
        // Nothing is due any more, and time passes all the same.
        probe.expect_none_for(&mut sim, Duration::from_secs(3_600));
        assert!(sim.now() - before > Duration::from_secs(3_600));
        for number in 4..8 {
            sim.tell(teller, Tell::Now(number));
        }
        assert!(sim.run_until_idle());
        assert_eq!(probe.received(), [4, 5, 6, 7]);
        assert!(probe.received().is_empty());
        sim
    });
}

/// Also where so many calls wait to enter a core that there is no room for another.
#[test]
fn a_probe_starts_with_what_the_test_says() {
    check_seeds(20, |builder| {
        let bounds = Bounds {
            ingress_jobs: 1,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let probe = sim.probe::<u32>();
        let to = probe.address();
        let teller = teller(&mut sim, to);
        sim.tell(teller, Tell::Now(1));
        let second = sim.probe_with::<u32>(CoreId(1), move |ctx| {
            ctx.tell(teller, Tell::Now(2));
            let me = ctx.me();
            ctx.tell(me, 3);
        });
        probe.expect(&mut sim, |number| *number == 1);
        probe.expect(&mut sim, |number| *number == 2);
        second.expect(&mut sim, |number| *number == 3);
        assert_eq!(second.address().core(), CoreId(1));
        sim
    });
}

#[test]
fn a_probe_stands_in_for_the_entities_of_a_type() {
    check_seeds(20, |mut builder| {
        let orders = builder.entity_probe::<u64, &'static str>("order");
        let mut sim = builder.start();
        let region = orders.address();
        sim.tell(region.entity(&7), "pay");
        orders.expect(&mut sim, |order| *order == (7, "pay"));
        let shard = region.shard_of(&7);
        let to = CoreId(1 - sim.owner_of(shard).unwrap().0);
        sim.move_shard(shard, to).unwrap();
        sim.tell(region.entity(&7), "ship");
        orders.expect(&mut sim, |order| *order == (7, "ship"));
        sim
    });
}

/// The line with which a run is replayed, of a test of this file.
fn replay(seed: u64, test: &str) -> String {
    format!("replay it with: CORECAST_SEED={seed} cargo test --test sim -- --exact kit::{test}")
}

#[test]
fn a_probe_that_is_disappointed_says_what_came_when_and_in_which_run() {
    let replay = replay(
        7,
        "a_probe_that_is_disappointed_says_what_came_when_and_in_which_run",
    );
    let run = |test: &dyn Fn(&mut Simulation, &corecast::sim::Probe<u32>)| {
        panic_of(|| {
            let mut sim = Simulation::builder(7).start();
            let probe = sim.probe();
            let teller = teller(&mut sim, probe.address());
            sim.run_for(Duration::from_millis(3));
            sim.tell(teller, Tell::Now(42));
            test(&mut sim, &probe);
        })
    };
    let other = run(&|sim, probe| _ = probe.expect(sim, |number| *number == 43));
    let (start, of_probe) = ("seed 7 failed: at 0.003", "the probe for u32 got");
    assert_says(
        &other,
        &[start, of_probe, "got 42, which is not what", &replay],
    );
    let nothing = run(&|sim, probe| {
        probe.expect(sim, |number| *number == 42);
        probe.expect_within(sim, Duration::from_millis(20), |_| true);
    });
    assert_says(
        &nothing,
        &["at 0.023", of_probe, "got nothing for 20ms", &replay],
    );
    let something = run(&|sim, probe| probe.expect_none_for(sim, Duration::from_secs(1)));
    assert_says(
        &something,
        &[start, "got 42, though nothing was to come for 1s", &replay],
    );
}

#[test]
fn a_seed_that_fails_is_named_once() {
    let disappointed = |builder: corecast::sim::SimulationBuilder| {
        let mut sim = builder.start();
        let probe = sim.probe::<u32>();
        probe.expect(&mut sim, |_| true);
        sim
    };
    match check_seed(3, disappointed) {
        Err(SeedFailure::Panicked(text)) => {
            assert_says(&text, &["the probe for u32 got nothing for 10s"]);
            assert!(!text.contains("replay"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let seed = std::env::var("CORECAST_SEED").map_or(0, |seed| seed.parse().unwrap());
    let replay = replay(seed, "a_seed_that_fails_is_named_once");
    for text in [
        panic_of(|| check_seeds(3, disappointed)),
        panic_of(|| check_seeds(3, |_| panic!("of the test itself"))),
    ] {
        assert_says(&text, &[&format!("seed {seed} failed: "), &replay]);
        assert_eq!(text.matches("replay it with").count(), 1, "{text}");
    }
}

/// Where it is asked for: set while another test runs this one.
const WANTED: &str = "CORECAST_TEST_OF_A_FAILURE";

#[test]
fn fails_where_it_is_asked_for() {
    if std::env::var_os(WANTED).is_some() {
        let sim = Simulation::builder(12).start();
        assert_eq!(sim.now().as_nanos(), 1, "an assertion of the test's own");
    }
}

#[test]
fn an_assertion_of_the_tests_own_is_followed_by_the_seed() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kit::fails_where_it_is_asked_for", "--nocapture"])
        .env(WANTED, "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    let replay = replay(12, "fails_where_it_is_asked_for");
    assert_says(
        &text,
        &[
            "an assertion of the test's own",
            "this was seed 12",
            &replay,
        ],
    );
}

#[test]
fn a_result_that_does_not_come_tells_why_it_may_not() {
    let mut sim = Simulation::builder(5).start();
    let never = sim
        .handle()
        .run_on(CoreId(0), |_| std::future::pending::<()>());
    let text = format!("{:?}", sim.run_until(never).unwrap_err());
    assert_says(
        &text,
        &["has not come by 0.0", "seed 5", "1 futures wait", "tokio"],
    );
}

/// Numbers that actors and futures draw, on two cores.
fn drawn(builder: corecast::sim::SimulationBuilder) -> (Simulation, Vec<u32>) {
    let mut sim = builder.start();
    let probe = sim.probe();
    let to = probe.address();
    let teller = teller(&mut sim, to);
    for _ in 0..4 {
        sim.tell(teller, Tell::Drawn);
        let told = sim.handle().run_on(CoreId(1), move |scope| async move {
            let mut rng = scope.rng();
            (0..2).for_each(|_| scope.tell(to, rng.random_range(0..1_000_000)));
            scope.tell(to, scope.rng().random_range(0..1_000_000));
        });
        sim.run_until(told).unwrap().unwrap();
    }
    sim.run_until_idle();
    let drawn = probe.received();
    (sim, drawn)
}

#[test]
fn what_actors_and_futures_draw_comes_from_the_seed() {
    let mut all = BTreeSet::new();
    for seed in 0..10 {
        check_seed(seed, |builder| drawn(builder).0).unwrap();
        let numbers = drawn(Simulation::builder(seed)).1;
        assert_eq!(numbers, drawn(Simulation::builder(seed)).1);
        assert_eq!(numbers.len(), 16);
        all.extend(numbers);
    }
    assert!(
        all.len() > 150,
        "only {} different numbers of 160",
        all.len()
    );
}

/// Cores draw different numbers.
#[test]
fn every_core_has_randomness_of_its_own() {
    struct Die;
    impl Actor for Die {
        type Msg = ReplyTo<u64>;
        fn receive(
            &mut self,
            to: ReplyTo<u64>,
            ctx: &mut Context<'_, Self>,
        ) -> Result<Next, Fault> {
            let number = ctx.rng().random();
            ctx.reply(to, number);
            Ok(Next::Continue)
        }
    }
    let mut sim = Simulation::builder(1).cores(4).start();
    let numbers: BTreeSet<u64> = (0..4)
        .map(|core| {
            let die = sim.spawn(CoreId(core), || Die).unwrap();
            sim.ask(die, |to| to).unwrap()
        })
        .collect();
    assert_eq!(numbers.len(), 4);
}

/// Answers when it has slept.
struct Slow;

impl Actor for Slow {
    type Msg = ReplyTo<u32>;

    fn receive(
        &mut self,
        reply_to: ReplyTo<u32>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        let nap = ctx.sleep(Duration::from_secs(1_800));
        ctx.suspend(nap, move |_, (), ctx| {
            ctx.reply(reply_to, 7);
            Ok(Next::Continue)
        });
        Ok(Next::Continue)
    }
}

/// However long that takes.
#[test]
fn an_ask_is_waited_for_until_it_has_ended() {
    let bounds = Bounds {
        async_deadline: Duration::from_secs(7_200),
        ask_timeout: Duration::from_secs(3_600),
        ..Bounds::default()
    };
    let mut sim = Simulation::builder(1).bounds(bounds).start();
    let slow = sim.spawn(CoreId(1), || Slow).unwrap();
    assert_eq!(sim.ask(slow, |to| to), Ok(7));
    let within = Duration::from_secs(1_900);
    assert_eq!(sim.ask_within(within, slow, |to| to), Ok(7));
    let timeout = Err(corecast::Uncertainty::Timeout.into());
    let within = Duration::from_secs(900);
    assert_eq!(sim.ask_within(within, slow, |to| to), timeout);
    assert_eq!(sim.now().as_nanos() / 1_000_000_000, 1_800 * 2 + 900);
}

/// A panic while a panic is reported would end the process.
#[test]
fn a_message_that_cannot_be_shown_disappoints_a_probe_like_any_other() {
    struct Shy;
    impl std::fmt::Debug for Shy {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("do not look")
        }
    }
    struct Bringer(ActorRef<Shy>);
    impl Actor for Bringer {
        type Msg = ();
        fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
            ctx.tell(self.0, Shy);
            Ok(Next::Continue)
        }
    }
    let text = panic_of(|| {
        let mut builder = Simulation::builder(1);
        let probe = builder.entity_probe::<u64, u32>("unused");
        let mut sim = builder.start();
        drop(probe);
        let probe = sim.probe::<Shy>();
        let to = probe.address();
        let bringer = sim.spawn(CoreId(0), move || Bringer(to)).unwrap();
        sim.tell(bringer, ());
        probe.expect(&mut sim, |_| false);
    });
    assert_says(&text, &["seed 1 failed", "the probe for"]);
}
