//! Streams in their corners: what is on its way when somebody goes, newcomers at a full buffer, futures that stop waiting,
//! and items and closures whose own code is hostile.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim stream_corners`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{
    Actor, Context, Fault, Feed, Message, Next, PushError, Rejection, Source, StreamEvent,
    StreamRef, StreamSettings,
};
use rand::RngExt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

fn open<T: Message>(
    sim: &mut Simulation,
    core: u16,
    settings: StreamSettings<T>,
) -> (Source<T>, StreamRef<T>) {
    let opened = sim.handle().open_stream_on(CoreId(core), settings);
    sim.run_until(opened).unwrap().unwrap()
}

/// Items that nobody got.
fn buried(sim: &Simulation) -> u64 {
    let stats = sim.stats();
    let letters = stats.cores.iter().flat_map(|core| &core.dead_letters);
    let stopped = letters.filter(|(why, _)| *why == Rejection::Stopped);
    stopped.map(|(_, count)| count).sum()
}

/// Ends in the next turn of its core.
async fn one_turn() {
    let mut is_next = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        match std::mem::replace(&mut is_next, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[test]
fn what_is_on_its_way_to_one_who_goes_waits_for_the_next_one() {
    check_seeds(80, |builder| {
        let mut rng = seeded(builder.seed(), 80);
        let mut sim = builder.cores(3).swarm().start();
        let (from, first, second) = (
            rng.random_range(0..3),
            CoreId(rng.random_range(0..3)),
            CoreId(rng.random_range(0..3)),
        );
        let (source, stream) = open(&mut sim, from, StreamSettings::shared(20));
        (0..20_u64).for_each(|item| source.try_push(item).unwrap());
        source.complete();
        let turns = rng.random_range(0..20);
        let take = [0, 0, 1, 19][rng.random_range(0..4)];
        let taken = sim.handle().run_on(first, move |scope| async move {
            let mut consumer = scope.consume_ahead(stream, 30);
            for _ in 0..turns {
                one_turn().await;
            }
            let mut got = Vec::new();
            while got.len() < take {
                got.push(consumer.next().await.unwrap().unwrap());
            }
            got
        });
        let mut got = sim.run_until(taken).unwrap().unwrap();
        if rng.random_ratio(1, 2) {
            sim.run_for(Duration::from_millis(rng.random_range(0..4_900)));
        }
        // Who comes before the stream has heard that the first one went may hear of the end before something comes back.
        for _ in 0..2 {
            let taken = sim.handle().run_on(second, move |scope| async move {
                let mut consumer = scope.consume(stream);
                let mut got = Vec::new();
                loop {
                    match consumer.next().await {
                        Some(Ok(item)) => got.push(item),
                        end => return (got, end),
                    }
                }
            });
            let (rest, end) = sim.run_until(taken).unwrap().unwrap();
            assert_eq!(end, None);
            got.extend(rest);
            sim.run_until_idle();
            if got.len() == 20 {
                break;
            }
        }
        assert!(got.into_iter().eq(0..20));
        assert_eq!(buried(&sim), 0);
        // And then it is over without having waited for anybody.
        sim.run_until_idle();
        assert_eq!(
            sim.stats()
                .cores
                .iter()
                .map(|core| core.actors)
                .sum::<usize>(),
            0
        );
        sim
    });
}

#[test]
fn a_newcomer_is_not_cut_off_before_it_could_ask() {
    check_seeds(40, |builder| {
        let mut rng = seeded(builder.seed(), 81);
        let mut sim = builder.cores(2).swarm().start();
        let settings = StreamSettings::broadcast(4).cut_off_slow();
        let (source, stream) = open(&mut sim, 0, settings);
        let core = CoreId(rng.random_range(0..2));
        let pushing = sim.handle().run_on(core, move |scope| async move {
            for item in 0..40_u64 {
                source.push(item).await.unwrap();
                if item > 4 {
                    scope.sleep(Duration::from_secs(1)).await;
                }
            }
            source.complete();
        });
        // The buffer is full, and the producer waits for the first one.
        sim.run_until_idle();
        let core = CoreId(rng.random_range(0..2));
        let got = sim.handle().run_on(core, move |scope| async move {
            let mut consumer = scope.consume(stream);
            let mut got = Vec::new();
            loop {
                match consumer.next().await {
                    Some(Ok(item)) => got.push(item),
                    end => return (got, end),
                }
            }
        });
        let (got, end) = sim.run_until(got).unwrap().unwrap();
        assert_eq!(end, None);
        assert!(got.into_iter().eq(0..40));
        sim.run_until(pushing).unwrap().unwrap();
        sim
    });
}

/// One who has not asked for anything is waited for by nobody, whenever it came.
#[test]
fn a_newcomer_that_does_not_ask_is_cut_off() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).swarm().start();
        let settings = StreamSettings::broadcast(2).cut_off_slow();
        let (source, stream) = open(&mut sim, 0, settings);
        (0..2).for_each(|item| source.try_push(item).unwrap());
        let idle = sim.handle().consume_ahead(stream, 0);
        sim.run_until_idle();
        (2..4).for_each(|item| source.try_push(item).unwrap());
        assert_eq!((source.consumers(), source.buffered()), (0, 2));
        drop((idle, source));
        sim
    });
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_future_that_stops_waiting_is_forgotten() {
    check_seeds(2, |builder| {
        let mut sim = builder.cores(1).start();
        let (source, stream) = open(&mut sim, 0, StreamSettings::shared(1));
        source.try_push(1).unwrap();
        let kept = Arc::new(Nobody);
        let mut gone = Vec::new();
        let waker = Waker::from(kept.clone());
        let mut stays = pin!(source.ready());
        let mut poll = |waker: &Waker| {
            stays
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker))
        };
        assert_eq!(poll(&waker), Poll::Pending);
        for _ in 0..100 {
            let one = Arc::new(Nobody);
            gone.push(Arc::downgrade(&one));
            let waker = Waker::from(one);
            let mut context = std::task::Context::from_waker(&waker);
            assert!(pin!(source.ready()).poll(&mut context).is_pending());
            assert!(pin!(source.wanted()).poll(&mut context).is_pending());
            assert!(pin!(source.deserted()).poll(&mut context).is_pending());
        }
        assert!(gone.iter().all(|one| one.upgrade().is_none()));
        // Who still waits is woken, by the waker that it has now.
        let now = Waker::from(Arc::new(Nobody));
        assert_eq!(poll(&now), Poll::Pending);
        drop(waker);
        assert_eq!(Arc::strong_count(&kept), 1);
        let mut consumer = sim.handle().consume(stream);
        sim.run_until_idle();
        assert_eq!(poll(&now), Poll::Ready(Ok(())));
        let next = consumer.poll_next(&mut std::task::Context::from_waker(&now));
        assert_eq!(next, Poll::Ready(Some(Ok(1))));
        drop((consumer, source));
        sim
    });
}

/// It panics whenever it is dropped.
#[derive(Clone, Debug)]
struct Bomb(u64);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

fn defuse(bomb: Bomb) -> u64 {
    let number = bomb.0;
    std::mem::forget(bomb);
    number
}

#[test]
fn items_whose_destructors_panic_do_no_harm() {
    check_seeds(20, |builder| {
        let mut rng = seeded(builder.seed(), 82);
        let mut sim = builder.cores(2).swarm().start();
        for settings in [
            StreamSettings::shared(5),
            StreamSettings::broadcast(5),
            StreamSettings::broadcast(5).cut_off_slow(),
        ] {
            let is_shared = format!("{settings:?}").contains("Shared");
            let cuts_off = format!("{settings:?}").contains("KeepsUp");
            let (source, stream) = open(&mut sim, 0, settings.linger(Duration::ZERO));
            let core = CoreId(rng.random_range(0..2));
            // What one takes out of a broadcast is dropped by the stream.
            let got = sim.handle().run_on(core, move |scope| async move {
                let mut consumer = scope.consume_ahead(stream, 3);
                let mut got = Vec::new();
                while got.len() < 7 {
                    got.push(defuse(consumer.next().await.unwrap().unwrap()));
                }
                // Some have come that it has not taken out.
                scope.sleep(Duration::from_millis(1)).await;
                got
            });
            sim.run_until_idle();
            for item in 0..10 {
                sim.run_until_idle();
                source.try_push(Bomb(item)).map_err(|_| ()).unwrap();
            }
            let got = sim.run_until(got).unwrap().unwrap();
            assert!(got.into_iter().eq(0..7), "the stream goes on");
            sim.run_until_idle();
            if cuts_off {
                // Somebody for whom the buffer is kept, and who is cut off.
                let handle = sim.handle().through(core).unwrap();
                let idle = handle.consume_ahead(stream, 0);
                sim.run_until_idle();
                for item in 10..16 {
                    source.try_push(Bomb(item)).map_err(|_| ()).unwrap();
                }
                sim.run_until_idle();
                assert_eq!(source.consumers(), 0);
                drop(idle);
            }
            let left = source.buffered();
            assert!(left > 0);
            let before = buried(&sim);
            source.complete();
            sim.run_until_idle();
            sim.run_for(Duration::from_millis(10));
            assert_eq!(buried(&sim) - before, left as u64);
            assert!(!is_shared || left == 3);
        }
        sim.run_until_idle();
        assert_eq!(
            sim.stats()
                .cores
                .iter()
                .map(|core| core.actors)
                .sum::<usize>(),
            0
        );
        sim
    });
}

/// Consumes twenty, and panics at the eleventh, with a closure that panics when it is dropped.
struct Clumsy {
    stream: StreamRef<u64>,
    feed: Option<Feed<u64>>,
}

impl Actor for Clumsy {
    type Msg = StreamEvent<u64>;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let bomb = Bomb(10);
        let make = move |event| {
            let Bomb(fails_at) = &bomb;
            assert_ne!(event, StreamEvent::Item(*fails_at), "on purpose");
            event
        };
        self.feed = Some(ctx.consume(self.stream, 20, make));
        Ok(())
    }

    fn receive(&mut self, _: StreamEvent<u64>, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

#[test]
fn a_closure_that_panics_twice_loses_one_item() {
    check_seeds(20, |builder| {
        let mut rng = seeded(builder.seed(), 83);
        let mut sim = builder.cores(2).swarm().start();
        let (source, stream) = open(&mut sim, 0, StreamSettings::shared(100));
        (0..30_u64).for_each(|item| source.try_push(item).unwrap());
        let core = CoreId(rng.random_range(0..2));
        let clumsy = sim.spawn(core, move || Clumsy { stream, feed: None });
        clumsy.unwrap();
        sim.run_until_idle();
        assert_eq!((source.consumers(), source.buffered()), (0, 19));
        drop(source);
        let mut rest = sim.handle().consume(stream);
        sim.run_until_idle();
        let mut next = || rest.poll_next(&mut std::task::Context::from_waker(Waker::noop()));
        for item in 11..30 {
            assert_eq!(next(), Poll::Ready(Some(Ok(item))));
        }
        drop(rest);
        sim
    });
}

#[test]
fn what_a_stream_does_not_say_is_said_by_the_runtime() {
    check_seeds(4, |builder| {
        let bounds = Bounds {
            stream_buffer: 3,
            stream_window: 2,
            stream_consumers: 1,
            stream_linger: Duration::from_secs(7),
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        for settings in [
            StreamSettings::sharing(),
            StreamSettings::broadcasting(),
            StreamSettings::shared(5).consumers(2),
        ] {
            let says_more = !format!("{settings:?}").contains("consumers: None");
            let (buffer, consumers) = if says_more { (5, 2) } else { (3, 1) };
            let (source, stream) = open(&mut sim, 0, settings);
            for item in 0..buffer {
                source.try_push(item).unwrap();
            }
            assert_eq!(source.try_push(9), Err(PushError::Full(9)));
            let handle = sim.handle().through(CoreId(1)).unwrap();
            let first = handle.consume(stream);
            sim.run_until_idle();
            assert_eq!(source.buffered(), buffer as usize - 2);
            let second = handle.consume_ahead(stream, 0);
            sim.run_until_idle();
            assert_eq!(source.consumers(), consumers);
            drop((first, second));
            sim.run_until_idle();
            source.complete();
            sim.run_for(Duration::from_millis(6_900));
            let actors = |sim: &Simulation| -> usize {
                sim.stats().cores.iter().map(|core| core.actors).sum()
            };
            assert_eq!(actors(&sim), 1);
            sim.run_for(Duration::from_millis(200));
            assert_eq!(actors(&sim), 0);
        }
        sim
    });
}
