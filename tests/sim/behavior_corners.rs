//! Behaviours at their bounds.

use corecast::base::ids::CoreId;
use corecast::behavior::{Lifecycle, after, receive, same, supervise, with_lifecycle};
use corecast::sim::check_seeds;
use corecast::{Behaving, Behavior, Directive, Supervision};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Tries again and again, and puts another supervision around each attempt.
fn connecting(attempts: Arc<AtomicU32>, until: u32) -> Behavior<()> {
    let waits = corecast::behavior::setup(move |ctx| {
        let nap = ctx.sleep(Duration::from_millis(1));
        after(nap, move |_ctx, ()| {
            if attempts.fetch_add(1, Ordering::Relaxed) + 1 == until {
                return receive(|_ctx, ()| same());
            }
            connecting(attempts, until)
        })
    });
    supervise(waits, Supervision::always(Directive::Escalate))
}

/// Without a bound it would grow until the stack is too small for what lies within each other.
#[test]
fn a_loop_that_adds_a_decorator_each_time_comes_to_an_end() {
    check_seeds(2, |builder| {
        let mut sim = builder.start();
        for (until, actors, faults) in [(900, 1, 0), (u32::MAX, 1, 1)] {
            let attempts = Arc::<AtomicU32>::default();
            let count = attempts.clone();
            sim.spawn(CoreId(0), move || Behaving::new(connecting(count, until)))
                .unwrap();
            sim.run_for(Duration::from_secs(10));
            assert_eq!(attempts.load(Ordering::Relaxed), until.min(1_000));
            let core = &sim.stats().cores[0];
            assert_eq!((core.actors, core.faults), (actors, faults));
        }
        sim
    });
}

/// Those of a handler take each other's place however many come.
#[test]
fn as_many_decorated_behaviours_as_you_like_follow_one_another() {
    fn counting(stops: Arc<AtomicU32>) -> Behavior<()> {
        let (stop, next) = (stops.clone(), stops);
        let hooks = Lifecycle::new().post_stop(move |_| _ = stop.fetch_add(1, Ordering::Relaxed));
        with_lifecycle(receive(move |_ctx, ()| counting(next.clone())), hooks)
    }
    check_seeds(2, |builder| {
        let mut sim = builder.start();
        let stops = Arc::<AtomicU32>::default();
        let count = stops.clone();
        let actor = sim
            .spawn(CoreId(0), move || Behaving::new(counting(count)))
            .unwrap();
        for _ in 0..30 {
            (0..100).for_each(|_| sim.tell(actor, ()));
            assert!(sim.run_until_idle());
        }
        assert_eq!(sim.stats().cores[0].faults, 0);
        sim.handle().stop(actor).unwrap();
        assert!(sim.run_until_idle());
        assert_eq!(stops.load(Ordering::Relaxed), 2);
        sim
    });
}
