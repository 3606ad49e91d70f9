//! Time: the clock of handles is that of the world, in step with those of the cores, and yielding takes none of it.

use corecast::base::ids::CoreId;
use corecast::sim::check_seeds;
use corecast::{Actor, Context, Fault, Next, ReplyTo, Time};
use std::time::Duration;

struct Clocks;

/// The times of the context and of a handle, read one after the other on a core.
type Times = (Time, Time);

impl Actor for Clocks {
    type Msg = ReplyTo<Times>;

    fn receive(
        &mut self,
        reply_to: ReplyTo<Times>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        let times = (ctx.clock(), ctx.handle().clock());
        ctx.reply(reply_to, times);
        Ok(Next::Continue)
    }
}

#[test]
fn a_handle_tells_the_time_of_the_world() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let handle = sim.handle();
        assert_eq!(handle.clock(), Time::ZERO);
        let clocks = sim.spawn(CoreId(1), || Clocks).unwrap();
        for _ in 0..10 {
            let before = handle.clock();
            assert_eq!(before, sim.now());
            let (on_core, by_handle) = sim.ask(clocks, |reply_to| reply_to).unwrap();
            assert!(before <= by_handle && by_handle <= on_core);
            assert_eq!(
                handle.clone().clock(),
                sim.now(),
                "every clone has the same clock"
            );
            sim.run_for(Duration::from_millis(3));
            assert_eq!(handle.clock(), sim.now());
            assert!(handle.clock() - before >= Duration::from_millis(3));
            assert!(
                handle.clock() > on_core,
                "time outside has passed what it was on the core"
            );
        }
        drop(handle);
        sim
    });
}

struct Adder(u64);

impl Actor for Adder {
    type Msg = Option<ReplyTo<u64>>;

    fn receive(
        &mut self,
        get: Option<ReplyTo<u64>>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match get {
            Some(reply_to) => ctx.reply(reply_to, self.0),
            None => self.0 += 1,
        }
        Ok(Next::Continue)
    }
}

#[test]
fn whoever_yields_lets_actors_have_their_turn() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).start();
        let adder = sim.spawn(CoreId(0), || Adder(0)).unwrap();
        let future = sim.handle().run_on(CoreId(0), move |scope| async move {
            // More than its mailbox holds at a time.
            for number in 1..=2_000 {
                scope.try_tell(adder, None).expect("there is room");
                if number % 10 == 0 {
                    scope.yield_now().await;
                }
            }
            scope.ask(adder, Some).await
        });
        assert_eq!(sim.run_until(future).unwrap().unwrap(), Ok(2_000));
        sim
    });
}

/// As a loop does that selects between a message and a time-out, ever again.
#[test]
fn the_timers_of_dropped_sleeps_do_not_gather() {
    const LONG: Duration = Duration::from_secs(300);
    check_seeds(3, |builder| {
        let mut sim = builder.cores(1).start();
        let slept = sim.handle().run_on(CoreId(0), |scope| async move {
            let long: Vec<_> = (0..2_000).map(|_| scope.sleep(LONG)).collect();
            let started = scope.now();
            for _ in 0..50_000 {
                drop(scope.sleep(LONG));
            }
            scope.sleep(Duration::from_millis(5)).await;
            for sleep in long {
                sleep.await;
            }
            scope.now() - started
        });
        sim.run_for(Duration::from_millis(1));
        let timers = sim.stats().cores[0].timers;
        assert!(
            (2_000..=6_000).contains(&timers),
            "{timers} timers for 2,001 sleeps"
        );
        let slept = sim.run_until(slept).unwrap().unwrap();
        assert!(slept >= LONG);
        assert_eq!(sim.stats().cores[0].timers, 0);
        sim
    });
}
