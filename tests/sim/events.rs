//! The event stream: who gets what, in which order, for how long, and what becomes of an event for which there is no room.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim events`.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorInfo, ActorRef, ActorStarted, ActorStopped, Context, CoreStats, DeadLetter,
    EntityType, Event, Fault, Handle, Mailbox, Next, Policy, Rejection, ReplyTo, StopCause,
    SubscribeError, Subscription, UnhandledMessage,
};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tick(u16, u32);

/// Another type with the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tock(u16, u32);

/// What an ear has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Tick(u16, u32),
    Tock(u16, u32),
    Started(ActorStarted),
    Stopped(ActorStopped),
    Letter(DeadLetter),
    Unhandled(UnhandledMessage),
}

#[derive(Debug)]
pub enum Msg {
    Heard(Heard),
    /// Subscribe to what these letters say.
    Listen(&'static str, ReplyTo<()>),
    /// End the subscription to ticks.
    Deafen(ReplyTo<bool>),
    /// Publish so many ticks and tocks in turn.
    Publish(u32),
    Nap(Duration),
    Fail,
    Stop,
    /// Of no use to anybody.
    Idle,
}

pub type Log = Arc<Mutex<Vec<Heard>>>;

/// Listens and publishes.
#[derive(Default)]
pub struct Ear {
    log: Log,
    /// Says of what it hears that it has no use for it.
    is_picky: bool,
}

fn listen(letters: &str, ctx: &mut Context<'_, Ear>) -> Result<(), SubscribeError> {
    for letter in letters.chars() {
        match letter {
            'i' => ctx.subscribe(|Tick(core, n)| Msg::Heard(Heard::Tick(core, n)))?,
            'o' => ctx.subscribe(|Tock(core, n)| Msg::Heard(Heard::Tock(core, n)))?,
            's' => ctx.subscribe(|event| Msg::Heard(Heard::Started(event)))?,
            'e' => ctx.subscribe(|event| Msg::Heard(Heard::Stopped(event)))?,
            'd' => ctx.subscribe(|event| Msg::Heard(Heard::Letter(event)))?,
            'u' => ctx.subscribe(|event| Msg::Heard(Heard::Unhandled(event)))?,
            'p' => ctx.subscribe(|_: Tick| panic!("on purpose"))?,
            _ => unreachable!("no such event"),
        }
    }
    Ok(())
}

impl Actor for Ear {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Heard(heard) => {
                if self.is_picky {
                    ctx.unhandled(&heard);
                }
                self.log.lock().unwrap().push(heard);
            }
            Msg::Listen(letters, done) => {
                listen(letters, ctx)?;
                ctx.reply(done, ());
            }
            Msg::Deafen(done) => {
                let had_one = ctx.unsubscribe::<Tick>();
                ctx.reply(done, had_one);
            }
            Msg::Publish(count) => {
                for n in 0..count {
                    ctx.publish(Tick(ctx.core().0, n));
                    ctx.publish(Tock(ctx.core().0, n));
                }
            }
            Msg::Nap(nap) => {
                let nap = ctx.sleep(nap);
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Msg::Fail => return Err(Fault::new("told to fail")),
            Msg::Stop => return Ok(Next::Stop),
            Msg::Idle => ctx.unhandled(&msg),
        }
        Ok(Next::Continue)
    }
}

pub fn ear_with(sim: &mut Simulation, core: u16, mailbox: Mailbox) -> (ActorRef<Msg>, Log) {
    let log = Log::default();
    let ear = Ear {
        log: log.clone(),
        is_picky: false,
    };
    let spawned = sim.handle().spawn_with(CoreId(core), mailbox, || ear);
    (sim.run_until(spawned).unwrap().unwrap(), log)
}

/// An ear on a core that listens.
pub fn ear(sim: &mut Simulation, core: u16, letters: &'static str) -> (ActorRef<Msg>, Log) {
    let (ear, log) = ear_with(sim, core, Mailbox::default());
    sim.ask(ear, move |done| Msg::Listen(letters, done))
        .unwrap();
    (ear, log)
}

/// A closure on a core that writes down what it hears.
fn closure<E: Event>(
    sim: &mut Simulation,
    core: u16,
    note: impl FnMut(E) + Send + 'static,
) -> Subscription {
    let handle = sim.handle().through(CoreId(core)).unwrap();
    let subscribed = handle.subscribe(note);
    sim.run_until(subscribed).unwrap().unwrap()
}

pub fn settle(sim: &mut Simulation) {
    sim.run_for(Duration::from_millis(50));
    assert!(sim.run_until_idle());
}

fn sum(sim: &Simulation, of: impl Fn(&CoreStats) -> u64) -> u64 {
    sim.stats().cores.iter().map(of).sum()
}

fn dropped(sim: &Simulation) -> u64 {
    sum(sim, |core| core.events_dropped)
}

fn ticks(log: &Log) -> Vec<(u16, u32)> {
    let tick = |heard: &Heard| match heard {
        Heard::Tick(core, n) => Some((*core, *n)),
        _ => None,
    };
    log.lock().unwrap().iter().filter_map(tick).collect()
}

#[test]
fn events_come_by_type_from_all_cores_and_in_order() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(3).start();
        let both: Vec<_> = (0..3).map(|core| ear(&mut sim, core, "io")).collect();
        // Two on one core, and one for each type alone.
        let (_, one_more) = ear(&mut sim, 1, "io");
        let (_, tocks_only) = ear(&mut sim, 2, "o");
        let (_, nothing) = ear(&mut sim, 0, "d");
        let heard: Log = Log::default();
        let log = heard.clone();
        let subscription = closure(&mut sim, 1, move |Tick(core, n)| {
            log.lock().unwrap().push(Heard::Tick(core, n));
        });
        for (publisher, _) in &both {
            sim.tell(*publisher, Msg::Publish(100));
        }
        settle(&mut sim);
        let of = |log: &Log, from: u16| -> Vec<Heard> {
            let from = |heard: &&Heard| matches!(heard, Heard::Tick(core, _) | Heard::Tock(core, _) if *core == from);
            log.lock().unwrap().iter().filter(from).cloned().collect()
        };
        for from in 0..3 {
            let tick = |n| Heard::Tick(from, n);
            let tock = |n| Heard::Tock(from, n);
            let all: Vec<_> = (0..100).flat_map(|n| [tick(n), tock(n)]).collect();
            for log in both.iter().map(|(_, log)| log).chain([&one_more]) {
                assert_eq!(of(log, from), all, "also across types");
            }
            assert_eq!(
                of(&tocks_only, from),
                (0..100).map(tock).collect::<Vec<_>>()
            );
            assert_eq!(of(&heard, from), (0..100).map(tick).collect::<Vec<_>>());
        }
        assert!(nothing.lock().unwrap().is_empty());
        assert!(subscription.is_active());
        assert_eq!(dropped(&sim), 0);
        sim
    });
}

#[test]
fn futures_and_handles_publish_too() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let (_, log) = ear(&mut sim, 0, "i");
        let outside = sim.handle().events::<Tick>(1_000).unwrap();
        let handle = sim.handle();
        let published = handle.run_on(CoreId(1), |scope| async move {
            for n in 0..50 {
                scope.publish(Tick(1, n));
            }
        });
        sim.run_until(published).unwrap().unwrap();
        for n in 0..50 {
            handle.publish(Tick(9, n));
        }
        settle(&mut sim);
        let expected = |from: u16| (0..50).map(|n| (from, n)).collect::<Vec<_>>();
        let from = |all: &[(u16, u32)], core: u16| -> Vec<_> {
            all.iter()
                .filter(|(from, _)| *from == core)
                .copied()
                .collect()
        };
        let got: Vec<_> = std::iter::from_fn(|| outside.try_recv())
            .map(|Tick(core, n)| (core, n))
            .collect();
        for core in [1, 9] {
            assert_eq!(from(&ticks(&log), core), expected(core));
            assert_eq!(from(&got, core), expected(core));
        }
        assert_eq!(outside.dropped(), 0);
        sim
    });
}

#[test]
fn a_subscription_lasts_until_it_is_ended_or_replaced_or_its_actor_stops() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let (publisher, _) = ear(&mut sim, 1, "");
        let subscriptions = |sim: &Simulation| sum(sim, |core| core.subscriptions as u64);
        let publish = |sim: &mut Simulation| {
            sim.tell(publisher, Msg::Publish(1));
            settle(sim);
        };
        let (deafened, until_deaf) = ear(&mut sim, 0, "i");
        let (stopped, until_stop) = ear(&mut sim, 0, "io");
        let (failed, until_fault) = ear(&mut sim, 1, "i");
        // The second of an actor to one type replaces the first.
        sim.ask(deafened, |done| Msg::Listen("ii", done)).unwrap();
        let (count, ended) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let counter = count.clone();
        let subscription = closure(&mut sim, 0, move |_: Tick| *counter.lock().unwrap() += 1);
        let counter = ended.clone();
        closure(&mut sim, 0, move |_: Tick| *counter.lock().unwrap() += 1).end();
        settle(&mut sim);
        assert_eq!(subscriptions(&sim), 5, "what has ended is gone");
        publish(&mut sim);
        assert_eq!(sim.ask(deafened, Msg::Deafen), Ok(true));
        assert_eq!(sim.ask(deafened, Msg::Deafen), Ok(false));
        sim.tell(stopped, Msg::Stop);
        sim.tell(failed, Msg::Fail);
        settle(&mut sim);
        assert_eq!(subscriptions(&sim), 1);
        publish(&mut sim);
        assert_eq!(Arc::strong_count(&count), 2);
        subscription.end();
        settle(&mut sim);
        assert_eq!(subscriptions(&sim), 0);
        assert_eq!(Arc::strong_count(&count), 1, "without any further event");
        publish(&mut sim);
        for log in [&until_deaf, &until_stop, &until_fault] {
            assert_eq!(ticks(log).len(), 1);
        }
        assert_eq!((*count.lock().unwrap(), *ended.lock().unwrap()), (2, 0));
        assert_eq!(sum(&sim, CoreStats::dead_letters_total), 0);
        assert_eq!(dropped(&sim), 0);
        sim
    });
}

/// An entity keeps its subscription while it moves with its state, and loses it with its life.
#[test]
fn the_subscription_of_an_entity_moves_with_it() {
    check_seeds(20, |mut builder| {
        let log = Log::default();
        let state = log.clone();
        let ears = builder.entities(EntityType::send("ear", move |_: &u64| Ear {
            log: state.clone(),
            is_picky: false,
        }));
        let mut sim = builder.cores(2).start();
        let (publisher, _) = ear(&mut sim, 0, "");
        let shard = ears.shard_of(&7);
        sim.ask(ears.entity(&7), |done| Msg::Listen("i", done))
            .unwrap();
        for round in 0..4 {
            sim.move_shard(shard, CoreId(round % 2)).unwrap();
            sim.tell(publisher, Msg::Publish(1));
            settle(&mut sim);
            assert_eq!(ticks(&log).len(), usize::from(round) + 1);
        }
        sim.tell(ears.entity(&7), Msg::Stop);
        settle(&mut sim);
        sim.tell(ears.entity(&7), Msg::Idle);
        sim.tell(publisher, Msg::Publish(1));
        settle(&mut sim);
        assert_eq!(ticks(&log).len(), 4);
        sim
    });
}

#[test]
fn a_slow_subscriber_misses_events_and_harms_nobody() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let (_, quick) = ear(&mut sim, 0, "i");
        let few = sim.handle().events::<Tick>(3).unwrap();
        let before = sum(&sim, CoreStats::dead_letters_total);
        for (policy, kept) in [
            (Policy::DropNew, 4),
            // Its message before is not dropped for an event.
            (Policy::DropOldest, 4),
            (Policy::Backpressure, 4),
        ] {
            let (slow, late) = ear_with(&mut sim, 0, Mailbox::bounded(5).policy(policy));
            sim.ask(slow, |done| Msg::Listen("i", done)).unwrap();
            sim.tell(slow, Msg::Nap(Duration::from_millis(20)));
            assert!(sim.run_until_idle());
            sim.tell(slow, Msg::Heard(Heard::Tock(0, 0)));
            assert!(sim.run_until_idle());
            let dropped_before = dropped(&sim);
            let heard_before = ticks(&quick).len();
            let outside_before = few.dropped();
            let publisher = ear(&mut sim, 1, "").0;
            sim.tell(publisher, Msg::Publish(100));
            sim.run_for(Duration::from_millis(2));
            assert_eq!(ticks(&quick).len() - heard_before, 100, "{policy:?}");
            settle(&mut sim);
            assert_eq!(ticks(&late), (0..kept).map(|n| (1, n)).collect::<Vec<_>>());
            assert_eq!(late.lock().unwrap().len(), 5, "the message came as well");
            let there: Vec<_> = std::iter::from_fn(|| few.try_recv()).collect();
            assert_eq!(there, (0..3).map(|n| Tick(1, n)).collect::<Vec<_>>());
            assert_eq!(few.dropped() - outside_before, 97);
            assert_eq!(dropped(&sim) - dropped_before, 96 + 97, "{policy:?}");
            sim.tell(slow, Msg::Stop);
            settle(&mut sim);
        }
        assert_eq!(
            sum(&sim, CoreStats::dead_letters_total),
            before,
            "no event is a dead letter"
        );
        sim
    });
}

/// However small the lanes and outboxes are, events come in order, each once, and what is missing is counted.
#[test]
fn what_is_missed_on_the_way_between_cores_is_counted() {
    check_seeds(50, |builder| {
        let mut sim = builder.cores(3).swarm().start();
        let logs: Vec<_> = (0..3).map(|core| ear(&mut sim, core, "i").1).collect();
        let publisher = sim.run_until(sim.handle().spawn_on(CoreId(1), || Ear {
            log: Log::default(),
            is_picky: false,
        }));
        let publisher = publisher.unwrap().unwrap();
        sim.tell(publisher, Msg::Publish(300));
        settle(&mut sim);
        let heard: usize = logs.iter().map(|log| ticks(log).len()).sum();
        for log in &logs {
            assert!(ticks(log).is_sorted_by(|first, next| first.1 < next.1));
        }
        assert_eq!(ticks(&logs[1]).len(), 300, "no way, nothing missed");
        // To tocks nobody has subscribed.
        assert_eq!(heard as u64 + dropped(&sim), 900);
        assert_eq!(sum(&sim, CoreStats::dead_letters_total), 0);
        sim
    });
}

/// In its last hook it publishes, and tries to subscribe.
struct Leaver;

impl Actor for Leaver {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Stop)
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.publish(Tick(7, 7));
        let refused = Err(SubscribeError::Rejected(Rejection::Stopped));
        assert_eq!(ctx.subscribe(|_: Tick| ()), refused);
    }
}

#[test]
fn last_words_are_heard_and_nobody_subscribes_with_them() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let (_, near) = ear(&mut sim, 0, "i");
        let (_, far) = ear(&mut sim, 1, "i");
        let outside = sim.handle().events::<Tick>(10).unwrap();
        let [first, _] = [0, 1].map(|core| sim.spawn(CoreId(core), || Leaver).unwrap());
        sim.tell(first, ());
        settle(&mut sim);
        assert_eq!((ticks(&near), ticks(&far)), (vec![(7, 7)], vec![(7, 7)]));
        assert_eq!(sum(&sim, |core| core.subscriptions as u64), 2);
        // At the end nobody on a core hears it any more.
        sim.shutdown(Duration::from_secs(1));
        assert_eq!(outside.collect::<Vec<_>>(), [Tick(7, 7); 2]);
        assert_eq!((ticks(&near).len(), ticks(&far).len()), (1, 1));
        assert!(
            dropped(&sim) <= 1,
            "counted for the core that had an ear yet"
        );
        sim
    });
}

/// Panics when it is dropped.
#[derive(Clone)]
struct Burr;

impl Drop for Burr {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose");
    }
}

/// Subscribes when it is cloned.
struct Nosy(Handle);

impl Clone for Nosy {
    fn clone(&self) -> Self {
        drop(self.0.events::<Nosy>(1));
        Nosy(self.0.clone())
    }
}

#[test]
fn events_whose_own_code_is_hostile_do_no_harm() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let stuck = closure(&mut sim, 0, |_: Burr| {});
        let burrs = sim.handle().events::<Burr>(1).unwrap();
        let nosy = sim.handle().events::<Nosy>(1).unwrap();
        let handle = sim.handle();
        let published = handle.run_on(CoreId(1), move |scope| async move {
            scope.publish(Burr);
            scope.publish(Burr);
            scope.publish(Nosy(scope.handle().unwrap()));
        });
        sim.run_until(published).unwrap().unwrap();
        settle(&mut sim);
        assert!(!stuck.is_active(), "it panicked as it dropped its argument");
        assert!(nosy.try_recv().is_some());
        assert_eq!((burrs.dropped(), dropped(&sim)), (1, 1));
        std::mem::forget(burrs.try_recv());
        let (_, log) = ear(&mut sim, 0, "i");
        handle.publish(Tick(1, 1));
        settle(&mut sim);
        assert_eq!(ticks(&log), [(1, 1)], "the cores go on");
        sim
    });
}

/// Panics when it is cloned.
struct Uncopied;

impl Clone for Uncopied {
    fn clone(&self) -> Self {
        panic!("on purpose")
    }
}

#[test]
fn who_panics_over_an_event_is_alone_with_it() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let (_, log) = ear(&mut sim, 0, "i");
        let (clumsy, _) = ear(&mut sim, 0, "p");
        let (publisher, _) = ear(&mut sim, 1, "");
        let mut left = 2;
        let bomb = closure(&mut sim, 0, move |_: Tick| {
            left -= 1;
            assert!(left > 0, "on purpose");
        });
        sim.tell(publisher, Msg::Publish(1));
        settle(&mut sim);
        assert!(bomb.is_active());
        assert!(sim.ask(clumsy, Msg::Deafen).is_err(), "an actor fails");
        sim.tell(publisher, Msg::Publish(4));
        settle(&mut sim);
        assert!(!bomb.is_active());
        let panics = |sim: &Simulation| sum(sim, |core| core.subscriber_panics);
        assert_eq!((panics(&sim), sum(&sim, |core| core.faults)), (1, 1));
        assert_eq!(ticks(&log).len(), 5);
        // An event that cannot be cloned reaches nobody, and ends nobody's subscription.
        let listening = closure(&mut sim, 0, |_: Uncopied| {});
        let outside = sim.handle().events::<Uncopied>(1).unwrap();
        let published = sim.handle().run_on(CoreId(0), |scope| async move {
            scope.publish(Uncopied);
        });
        sim.run_until(published).unwrap().unwrap();
        assert!(listening.is_active() && outside.try_recv().is_none());
        assert_eq!((panics(&sim), dropped(&sim)), (1, 2));
        sim
    });
}

#[test]
fn starts_and_stops_are_published_with_who_and_why() {
    check_seeds(20, |mut builder| {
        let ears = builder.entities(EntityType::ephemeral("ear", |_: &u64| Ear {
            log: Log::default(),
            is_picky: false,
        }));
        let mut sim = builder.cores(2).start();
        let (_, log) = ear(&mut sim, 1, "se");
        let outside = sim.handle().events::<ActorStopped>(100).unwrap();
        let (plain, _) = ear(&mut sim, 0, "");
        let (victim, _) = ear(&mut sim, 0, "");
        sim.tell(plain, Msg::Stop);
        sim.tell(victim, Msg::Fail);
        let shard = ears.shard_of(&7);
        sim.move_shard(shard, CoreId(0)).unwrap();
        for msg in [Msg::Idle, Msg::Stop, Msg::Idle] {
            sim.tell(ears.entity(&7), msg);
            settle(&mut sim);
        }
        // An ephemeral entity leaves its core by stopping.
        sim.move_shard(shard, CoreId(1)).unwrap();
        settle(&mut sim);
        let entity = |id: &str| format!("ear/{id}");
        let name = |actor: &ActorInfo| match &actor.entity {
            Some(found) => {
                assert_eq!(actor.actor, std::any::type_name::<Ear>());
                entity(&found.id)
            }
            None => actor.address.clone(),
        };
        let (mut started, mut stopped) = (Vec::new(), Vec::new());
        for heard in &*log.lock().unwrap() {
            match heard {
                Heard::Started(event) => started.push(name(&event.actor)),
                Heard::Stopped(event) => {
                    // No stop without a start.
                    assert!(started.contains(&name(&event.actor)));
                    stopped.push((name(&event.actor), event.cause));
                }
                other => panic!("{other:?}"),
            }
        }
        let (plain, victim) = (format!("{plain:?}"), format!("{victim:?}"));
        let the_entity = entity("7");
        assert_eq!(
            started,
            [&plain, &victim, &the_entity, &the_entity].map(String::clone)
        );
        let wanted = StopCause::Wanted;
        stopped.sort_by_key(|(_, cause)| *cause != StopCause::Failed);
        assert_eq!(
            stopped,
            [
                (victim, StopCause::Failed),
                (plain, wanted),
                (the_entity.clone(), wanted),
                (the_entity, wanted)
            ]
        );
        assert_eq!(std::iter::from_fn(|| outside.try_recv()).count(), 4);
        sim.shutdown(Duration::from_secs(1));
        let ended = outside.recv().unwrap();
        assert_eq!(ended.cause, StopCause::Shutdown);
        assert_eq!(outside.recv(), None);
        sim
    });
}

/// An entity that listens to stops may stop: its own is no message that would start it again.
#[test]
fn nobody_is_woken_by_the_news_of_its_own_end() {
    check_seeds(10, |mut builder| {
        let ears = builder.entities(EntityType::send("ear", |_: &u64| Ear {
            log: Log::default(),
            is_picky: false,
        }));
        let mut sim = builder.cores(1).start();
        sim.ask(ears.entity(&7), |done| Msg::Listen("sed", done))
            .unwrap();
        sim.tell(ears.entity(&7), Msg::Stop);
        settle(&mut sim);
        assert_eq!(sum(&sim, |core| core.actors as u64), 0);
        assert_eq!(sum(&sim, CoreStats::dead_letters_total), 0);
        sim
    });
}

/// Counts how often it is cloned and shown.
struct Costly(Arc<AtomicU64>);

impl Clone for Costly {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Costly(self.0.clone())
    }
}

impl fmt::Debug for Costly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, Ordering::Relaxed);
        f.write_str(&"ü".repeat(1_000))
    }
}

/// Publishes it and has no use for it.
struct Waster(Costly);

impl Actor for Waster {
    type Msg = ();

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        ctx.publish(Costly(self.0.0.clone()));
        ctx.unhandled(&self.0);
        Ok(Next::Continue)
    }
}

#[test]
fn what_nobody_wants_is_not_even_made() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let cost = Arc::new(AtomicU64::new(0));
        let costly = cost.clone();
        let waster = sim.spawn(CoreId(0), || Waster(Costly(costly))).unwrap();
        let waste = |sim: &mut Simulation| {
            sim.tell(waster, ());
            settle(sim);
            cost.swap(0, Ordering::Relaxed)
        };
        assert_eq!(waste(&mut sim), 0);
        // A copy for the other core and one for the closure there.
        let subscription = closure(&mut sim, 1, |_: Costly| {});
        let unhandled = sim.handle().events::<UnhandledMessage>(10).unwrap();
        assert_eq!(waste(&mut sim), 3);
        let text = unhandled.try_recv().unwrap().text;
        assert_eq!(text, "ü".repeat(128));
        subscription.end();
        drop(unhandled);
        settle(&mut sim);
        assert_eq!(waste(&mut sim), 0);
        assert_eq!(sum(&sim, |core| core.unhandled), 3);
        assert_eq!(dropped(&sim), 0);
        sim
    });
}

#[test]
fn a_thread_that_has_no_room_costs_no_copy() {
    check_seeds(2, |builder| {
        let mut sim = builder.cores(1).start();
        let cost = Arc::new(AtomicU64::new(0));
        let costly = cost.clone();
        let waster = sim.spawn(CoreId(0), || Waster(Costly(costly))).unwrap();
        let events = sim.handle().events::<Costly>(1).unwrap();
        (0..10).for_each(|_| sim.tell(waster, ()));
        settle(&mut sim);
        assert_eq!(cost.load(Ordering::Relaxed), 1);
        assert_eq!((events.dropped(), dropped(&sim)), (9, 9));
        sim
    });
}

/// Its text is longer than anybody could read.
#[derive(Clone)]
struct Endless(Arc<AtomicU64>);

impl fmt::Debug for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for _ in 0..1_000_000 {
            self.0.fetch_add(1, Ordering::Relaxed);
            f.write_str("ü")?;
        }
        Ok(())
    }
}

struct Rambler(Endless);

impl Actor for Rambler {
    type Msg = ();

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        ctx.unhandled(&self.0);
        Ok(Next::Continue)
    }
}

#[test]
fn of_what_is_long_only_the_beginning_is_rendered() {
    check_seeds(2, |builder| {
        let mut sim = builder.cores(1).start();
        let letters = Arc::new(AtomicU64::new(0));
        let its = letters.clone();
        let rambler = sim.spawn(CoreId(0), || Rambler(Endless(its))).unwrap();
        let unhandled = sim.handle().events::<UnhandledMessage>(10).unwrap();
        sim.tell(rambler, ());
        settle(&mut sim);
        assert_eq!(unhandled.try_recv().unwrap().text, "ü".repeat(128));
        let rendered = letters.load(Ordering::Relaxed);
        assert!(rendered < 200, "{rendered} letters");
        sim
    });
}

#[test]
fn unhandled_messages_are_published_but_not_to_those_who_say_it_of_them() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let (_, log) = ear(&mut sim, 1, "u");
        let picky = sim.spawn(CoreId(0), || Ear {
            log: Log::default(),
            is_picky: true,
        });
        let picky = picky.unwrap();
        sim.ask(picky, |done| Msg::Listen("u", done)).unwrap();
        let (actor, _) = ear(&mut sim, 0, "");
        sim.tell(actor, Msg::Idle);
        settle(&mut sim);
        let log = log.lock().unwrap();
        let [Heard::Unhandled(event)] = &log[..] else {
            panic!("{log:?}")
        };
        assert_eq!(event.actor.address, format!("{actor:?}"));
        assert_eq!(
            (event.message, &*event.text),
            (std::any::type_name::<Msg>(), "Idle")
        );
        assert_eq!(sum(&sim, |core| core.unhandled), 2);
        sim
    });
}

#[test]
fn subscriptions_are_bounded() {
    check_seeds(1, |builder: SimulationBuilder| {
        let mut sim = builder.cores(1).start();
        let mut subscriptions: Vec<Subscription> = Vec::new();
        let (actor, _) = ear(&mut sim, 0, "i");
        for _ in 0..65_535 {
            subscriptions.push(closure(&mut sim, 0, |_: Tock| {}));
        }
        let subscribe = |sim: &mut Simulation| {
            let subscribed = sim.handle().subscribe(|_: Tock| {});
            sim.run_until(subscribed).unwrap().map(drop)
        };
        assert_eq!(subscribe(&mut sim), Err(SubscribeError::TooMany));
        sim.ask(actor, |done| Msg::Listen("i", done)).unwrap();
        subscriptions.pop().unwrap().end();
        assert_eq!(subscribe(&mut sim), Ok(()));
        assert_eq!(subscribe(&mut sim), Err(SubscribeError::TooMany));
        let outside: Vec<_> = (0..1_024)
            .map(|_| sim.handle().events::<Tick>(1).unwrap())
            .collect();
        let one_more = sim.handle().events::<Tick>(1).map(drop);
        assert_eq!(one_more, Err(SubscribeError::TooManyOutside));
        drop(outside);
        assert!(sim.handle().events::<Tick>(1).is_ok());
        sim
    });
}
