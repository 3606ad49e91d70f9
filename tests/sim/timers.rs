//! Timers of actors, and schedules of the whole runtime: each tick comes when it is due, once, and never after its timer
//! has been cancelled or replaced, or its actor has ended.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim timers`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Bounds, Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Capture, Context, EntityType, Fault, Mailbox, Next, Region,
    Rejection, ReplyTo, Time, TimerName, Uncertainty,
};
use rand::RngExt;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A timer is late by a tick of the wheel at most, and here by a turn or two.
const LATE: Duration = Duration::from_micros(1_200);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

type Step = dyn FnOnce(&mut Context<'_, Probe>) -> Result<Next, Fault> + Send;

enum Msg {
    /// Does whatever the test wants in its handler.
    Do(Box<Step>),
    Tick(u64),
    /// A tick that holds something.
    Hold(Arc<()>),
    Ask(ReplyTo<()>),
}

impl fmt::Debug for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Msg::Do(_) => f.write_str("Do"),
            Msg::Tick(number) => write!(f, "Tick({number})"),
            Msg::Hold(_) => f.write_str("Hold"),
            Msg::Ask(_) => f.write_str("Ask"),
        }
    }
}

fn act(step: impl FnOnce(&mut Context<'_, Probe>) + Send + 'static) -> Msg {
    Msg::Do(Box::new(|ctx| {
        step(ctx);
        Ok(Next::Continue)
    }))
}

fn end(next: impl FnOnce() -> Result<Next, Fault> + Send + 'static) -> Msg {
    Msg::Do(Box::new(|_| next()))
}

/// What has ticked, and when.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(u64, Time)>>>);

impl Log {
    fn take(&self) -> Vec<(u64, Time)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn numbers(&self) -> Vec<u64> {
        self.take().into_iter().map(|(number, _)| number).collect()
    }
}

/// Writes down its ticks; for everything else it does as it is told.
struct Probe {
    log: Log,
    pace: Option<Duration>,
}

impl Probe {
    fn new(log: &Log) -> Probe {
        Probe {
            log: log.clone(),
            pace: None,
        }
    }
}

impl Actor for Probe {
    type Msg = Msg;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        if let Some(pace) = self.pace {
            ctx.start_periodic("pace", pace, || Msg::Tick(0))?;
        }
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Do(step) => return step(ctx),
            Msg::Tick(number) => self.log.0.lock().unwrap().push((number, ctx.now())),
            Msg::Hold(held) => drop(held),
            Msg::Ask(reply_to) => ctx.reply(reply_to, ()),
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        assert!(!ctx.is_timer_active("pace"), "they have ended by now");
        let late = ctx.start_timer("late", ms(1), Msg::Tick(99));
        assert_eq!(late, Err(Rejection::Stopped));
    }
}

/// Something is captured of it: its pace.
impl Capture for Probe {
    type View = u64;

    fn capture(&self) -> u64 {
        self.pace.map_or(0, |pace| pace.as_millis() as u64)
    }

    fn restore(&mut self, pace: u64) {
        self.pace = Some(ms(pace)).filter(|pace| !pace.is_zero());
    }
}

fn probe(sim: &mut Simulation, core: u16, log: &Log) -> ActorRef<Msg> {
    let log = log.clone();
    sim.spawn(CoreId(core), move || Probe::new(&log)).unwrap()
}

fn start(name: impl Into<TimerName>, after: Duration, number: u64) -> Msg {
    let name = name.into();
    act(move |ctx| {
        ctx.start_timer(name, after, Msg::Tick(number)).unwrap();
        assert!(ctx.is_timer_active(name));
    })
}

fn pending(sim: &Simulation) -> usize {
    sim.stats().cores.iter().map(|core| core.timers).sum()
}

#[test]
fn one_tick_or_one_after_each_interval() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).start();
        let log = Log::default();
        let actor = probe(&mut sim, 0, &log);
        assert!(sim.run_until_idle());
        let begun = sim.now();
        sim.tell(actor, start("once", ms(20), 1));
        sim.tell(
            actor,
            act(|ctx| {
                let mut number = 100;
                let next = move || {
                    number += 1;
                    Msg::Tick(number)
                };
                ctx.start_periodic("often", ms(50), next).unwrap();
            }),
        );
        sim.run_for(ms(230));
        let ticks = log.take();
        let numbers: Vec<_> = ticks.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 101, 102, 103, 104]);
        let mut due = begun + ms(50);
        for (number, at) in ticks {
            let expected = if number == 1 { begun + ms(20) } else { due };
            assert!(at >= expected && at <= expected + LATE, "{number} at {at}");
            if number > 100 {
                // As long after the last as that after its beginning.
                due = at + ms(50);
            }
        }
        let gone = act(|ctx| {
            assert!(!ctx.is_timer_active("once") && ctx.is_timer_active("often"));
            assert!(!ctx.cancel_timer("once") && ctx.cancel_timer("often"));
            assert!(!ctx.is_timer_active("often"));
        });
        sim.tell(actor, gone);
        sim.run_for(ms(200));
        assert!(log.take().is_empty() && pending(&sim) == 0);
        sim
    });
}

#[test]
fn the_same_name_replaces_and_others_do_not() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).start();
        let log = Log::default();
        let (actor, other) = (probe(&mut sim, 0, &log), probe(&mut sim, 0, &log));
        sim.tell(actor, start("one", ms(10), 1));
        sim.tell(actor, start(7, ms(10), 2));
        sim.tell(actor, start(("one", 1), ms(10), 3));
        sim.tell(other, start("one", ms(10), 4));
        // Later, and with another kind of timer.
        sim.tell(actor, start("one", ms(30), 5));
        sim.tell(
            actor,
            act(|ctx| {
                ctx.start_periodic(7, ms(20), || Msg::Tick(6)).unwrap();
            }),
        );
        sim.run_for(ms(15));
        let mut early = log.numbers();
        early.sort_unstable();
        assert_eq!(early, [3, 4]);
        sim.tell(actor, start(7, ms(1), 7));
        sim.run_for(ms(50));
        assert_eq!(log.numbers(), [7, 5]);
        assert_eq!(pending(&sim), 0);
        sim
    });
}

/// The core is held until all are due; the first tick that is handled then decides over the others.
#[test]
fn a_tick_that_is_due_already_can_be_taken_back() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).start();
        let log = Log::default();
        let actor = probe(&mut sim, 0, &log);
        sim.tell(
            actor,
            act(|ctx| {
                let decide = act(|ctx| {
                    assert!(ctx.is_timer_active("cancelled") && ctx.cancel_timer("cancelled"));
                    ctx.start_timer("replaced", ms(10), Msg::Tick(3)).unwrap();
                    ctx.cancel_timer("periodic");
                });
                ctx.start_timer("decides", ms(2), decide).unwrap();
                ctx.start_timer("cancelled", ms(5), Msg::Tick(1)).unwrap();
                ctx.start_timer("replaced", ms(5), Msg::Tick(2)).unwrap();
                ctx.start_periodic("periodic", ms(5), || Msg::Tick(4))
                    .unwrap();
                // So all of them are due when it goes on.
                let nap = ctx.sleep(ms(8));
                ctx.suspend(nap, |_, (), ctx| {
                    assert!(ctx.is_timer_active("cancelled"));
                    Ok(Next::Continue)
                });
            }),
        );
        sim.run_for(ms(12));
        assert!(log.take().is_empty());
        sim.run_for(ms(20));
        assert_eq!(log.numbers(), [3]);
        assert_eq!(pending(&sim), 0);
        sim
    });
}

/// It is suspended for longer than the interval, and then has more messages than fit into its mailbox.
#[test]
fn ticks_need_no_room_and_do_not_pile_up() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).start();
        let log = Log::default();
        let kept = log.clone();
        let mailbox = Mailbox::bounded(3);
        let spawned = sim
            .handle()
            .spawn_with(CoreId(0), mailbox, move || Probe::new(&kept));
        let actor = sim.run_until(spawned).unwrap().unwrap();
        for _ in 0..5 {
            sim.tell(
                actor,
                act(|ctx| {
                    if !ctx.is_timer_active("often") {
                        ctx.start_periodic("often", ms(2), || Msg::Tick(0)).unwrap();
                    }
                    let nap = ctx.sleep(ms(50));
                    ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
                }),
            );
            sim.run_for(ms(1));
            (1..4).for_each(|number| sim.tell(actor, Msg::Tick(number)));
            sim.run_for(ms(40));
            assert!(log.take().is_empty(), "it waits");
            sim.run_for(ms(11));
            // One tick, however many intervals it was away, and before what lies in the mailbox.
            assert_eq!(log.numbers(), [0, 1, 2, 3]);
        }
        assert!(sim.stats().cores[0].dead_letters.is_empty());
        sim
    });
}

#[test]
fn whoever_is_slower_than_its_timer_still_handles_messages() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).message_cost(ms(3)).start();
        let log = Log::default();
        let actor = probe(&mut sim, 0, &log);
        sim.tell(
            actor,
            act(|ctx| {
                ctx.start_periodic("often", ms(1), || Msg::Tick(0)).unwrap();
            }),
        );
        for number in 1..=50 {
            sim.tell(actor, Msg::Tick(number));
        }
        sim.run_for(ms(1_000));
        let numbers = log.numbers();
        let messages: Vec<_> = numbers
            .iter()
            .copied()
            .filter(|number| *number > 0)
            .collect();
        assert_eq!(messages, (1..=50).collect::<Vec<_>>());
        let ticks = numbers.len() - messages.len();
        assert!((50..1_000).contains(&ticks), "{ticks} ticks");
        sim
    });
}

#[test]
fn an_actor_that_ends_takes_its_timers_along() {
    check_seeds(20, |builder| {
        let seed = builder.seed();
        let mut sim = builder.cores(1).start();
        let (log, held) = (Log::default(), Arc::new(()));
        let actor = probe(&mut sim, 0, &log);
        let (one, each) = (held.clone(), held.clone());
        sim.tell(
            actor,
            act(move |ctx| {
                ctx.start_timer("one", ms(5), Msg::Hold(one)).unwrap();
                ctx.start_periodic("pace", ms(5), move || Msg::Hold(each.clone()))
                    .unwrap();
            }),
        );
        sim.run_for(ms(1));
        assert_eq!(Arc::strong_count(&held), 3);
        let asked = sim.handle().ask(actor, |reply_to| {
            act(move |ctx| ctx.start_timer("two", ms(5), Msg::Ask(reply_to)).unwrap())
        });
        sim.run_for(ms(1));
        match seed % 3 {
            0 => sim.tell(actor, end(|| Ok(Next::Stop))),
            1 => sim.tell(actor, end(|| Err(Fault::new("it had enough")))),
            _ => sim.handle().stop(actor).unwrap(),
        }
        sim.run_for(ms(1));
        assert_eq!(Arc::strong_count(&held), 1);
        // Nobody will answer any more.
        assert!(matches!(
            asked.try_take(),
            Ok(Err(AskError::Unknown(
                Uncertainty::DroppedUnanswered | Uncertainty::HandlerFailed
            )))
        ));
        sim.run_for(ms(20));
        assert_eq!(pending(&sim), 0);
        // Of the timer that it tried to start in its last hook.
        let letters = &sim.stats().cores[0].dead_letters;
        assert_eq!(*letters, [(Rejection::Stopped, 1)]);
        sim
    });
}

/// Panics when it is dropped, but only once: the harness may meet it again.
#[derive(Debug)]
struct Bomb(AtomicBool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.0.swap(false, Ordering::Relaxed), "a bomb");
        panic!("boom");
    }
}

#[test]
fn what_panics_takes_nobody_else_down() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(1).start();
        let log = Log::default();
        let (bad, good) = (probe(&mut sim, 0, &log), probe(&mut sim, 0, &log));
        sim.tell(
            good,
            act(|ctx| {
                ctx.start_periodic("fine", ms(10), || Msg::Tick(1)).unwrap();
            }),
        );
        sim.tell(
            bad,
            act(|ctx| {
                let bomb = Bomb(AtomicBool::new(true));
                let make = move || -> Msg { panic!("{bomb:?}") };
                ctx.start_periodic("bad", ms(5), make).unwrap();
                let bomb = Bomb(AtomicBool::new(true));
                let other = move || Msg::Tick(u64::from(bomb.0.load(Ordering::Relaxed)));
                ctx.start_periodic("other", ms(50), other).unwrap();
            }),
        );
        let handle = sim.handle();
        let bomb = Bomb(AtomicBool::new(true));
        drop(handle.schedule_periodic("bad", ms(5), good, move || panic!("{bomb:?}")));
        drop(handle.schedule_periodic("fine", ms(5), good, || Msg::Tick(2)));
        sim.run_for(ms(45));
        let mut numbers = log.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers[..4], [1, 1, 1, 1]);
        assert!((6..=8).contains(&numbers[4..].len()) && numbers[4..].iter().all(|n| *n == 2));
        let core = &sim.stats().cores[0];
        assert_eq!((core.faults, core.actors, core.timers), (1, 1, 2));
        sim
    });
}

#[test]
fn many_timers_tick_in_order() {
    check_seeds(5, |builder| {
        let seed = builder.seed();
        let mut sim = builder.cores(1).start();
        let log = Log::default();
        let actors: Vec<_> = (0..20).map(|_| probe(&mut sim, 0, &log)).collect();
        assert!(sim.run_until_idle());
        let (begun, mut rng) = (sim.now(), seeded(seed, 70));
        let mut due = BTreeMap::new();
        for number in 0..5_000_u64 {
            let after = Duration::from_micros(rng.random_range(0..300_000));
            let actor = actors[rng.random_range(0..actors.len())];
            sim.tell(
                actor,
                act(move |ctx| {
                    ctx.start_timer(number, after, Msg::Tick(number)).unwrap();
                }),
            );
            due.insert(number, after);
            if number % 200 == 0 {
                assert!(sim.run_until_idle());
            }
        }
        let last_start = {
            sim.run_until_idle();
            sim.now()
        };
        sim.run_for(ms(400));
        let ticks = log.take();
        assert_eq!(ticks.len(), due.len());
        for (number, at) in &ticks {
            assert!(*at >= begun + due[number], "{number} is early");
            assert!(*at <= last_start + due[number] + LATE, "{number} is late");
        }
        assert!(ticks.windows(2).all(|two| two[0].1 <= two[1].1));
        sim
    });
}

#[test]
fn there_are_as_many_as_may_be() {
    check_seeds(10, |builder| {
        let bounds = Bounds {
            timers: 3,
            ..Bounds::default()
        };
        let mut sim = builder.cores(1).bounds(bounds).start();
        let log = Log::default();
        let actor = probe(&mut sim, 0, &log);
        sim.tell(
            actor,
            act(|ctx| {
                for name in 0..3 {
                    ctx.start_timer(name, ms(5), Msg::Tick(name)).unwrap();
                }
                let refused = Err(Rejection::TooManyTimers);
                assert_eq!(ctx.start_timer("one more", ms(5), Msg::Tick(9)), refused);
                assert_eq!(
                    ctx.start_periodic("or this", ms(5), || Msg::Tick(9)),
                    refused
                );
                // In the place of another there is room.
                ctx.start_timer(0, ms(5), Msg::Tick(10)).unwrap();
            }),
        );
        assert!(sim.run_until_idle());
        let refused = sim.handle().schedule("it", ms(1), actor, Msg::Tick(9));
        assert_eq!(
            sim.run_until(refused).unwrap(),
            Err(Rejection::TooManyTimers)
        );
        sim.run_for(ms(10));
        let mut numbers = log.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 10]);
        let refusals = &sim.stats().cores[0].refusals;
        assert_eq!(*refusals, [(Rejection::TooManyTimers, 3)]);
        // The periodic one had no message yet.
        let letters = &sim.stats().cores[0].dead_letters;
        assert_eq!(*letters, [(Rejection::TooManyTimers, 2)]);
        let set = sim.handle().schedule("it", ms(1), actor, Msg::Tick(11));
        assert_eq!(sim.run_until(set).unwrap(), Ok(()));
        sim.run_for(ms(5));
        assert_eq!(log.numbers(), [11]);
        sim
    });
}

fn probes(log: &Log, pace: Option<Duration>) -> impl Fn(&u64) -> Probe + Send + Sync + 'static {
    let log = log.clone();
    move |_| Probe {
        log: log.clone(),
        pace,
    }
}

#[test]
fn a_passivated_entity_has_no_timers_and_one_that_ticks_is_not_idle() {
    check_seeds(10, |mut builder| {
        let log = Log::default();
        let idle = ms(20);
        let quiet =
            builder.entities(EntityType::send("quiet", probes(&log, None)).passivate_after(idle));
        let busy = EntityType::send("busy", probes(&log, Some(ms(15)))).passivate_after(idle);
        let busy = builder.entities(busy);
        let mut sim = builder.cores(1).start();
        sim.tell(quiet.entity(&1), start("far", ms(50), 1));
        sim.tell(busy.entity(&1), act(|_| {}));
        sim.run_for(ms(100));
        let core = &sim.stats().cores[0];
        assert_eq!((core.passivations, core.actors), (1, 1));
        assert_eq!(log.numbers(), [0; 6]);
        sim.tell(
            busy.entity(&1),
            act(|ctx| assert!(ctx.cancel_timer("pace"))),
        );
        sim.run_for(ms(30));
        assert_eq!((sim.stats().cores[0].actors, pending(&sim)), (0, 0));
        // Its next life sets its own.
        sim.tell(busy.entity(&1), act(|_| {}));
        sim.run_for(ms(50));
        assert_eq!(log.numbers(), [0; 3]);
        sim
    });
}

#[derive(Clone, Copy)]
enum Kind {
    Send,
    Captured,
    Ephemeral,
}

fn moving(builder: &mut SimulationBuilder, kind: Kind, log: &Log) -> Region<u64, Msg> {
    let make = probes(log, None);
    let kind = match kind {
        Kind::Send => EntityType::send("probe", make),
        Kind::Captured => EntityType::captured("probe", make),
        Kind::Ephemeral => EntityType::ephemeral("probe", make),
    };
    builder.entities(kind.num_shards(1))
}

#[test]
fn timers_move_with_the_state_of_their_entity() {
    for kind in [Kind::Send, Kind::Captured, Kind::Ephemeral] {
        check_seeds(10, move |mut builder| {
            let log = Log::default();
            let region = moving(&mut builder, kind, &log);
            // A full core lets them in all the same.
            let bounds = Bounds {
                timers: 2,
                ..Bounds::default()
            };
            let mut sim = builder.cores(2).bounds(bounds).start();
            let from = sim.owner_of(region.shard_of(&1)).unwrap();
            let to = CoreId(1 - from.0);
            let other = Log::default();
            let there = probe(&mut sim, to.0, &other);
            sim.tell(there, start(0, ms(100), 0));
            sim.tell(there, start(1, ms(100), 1));
            assert!(sim.run_until_idle());
            let begun = sim.now();
            sim.tell(region.entity(&1), start("once", ms(30), 1));
            sim.tell(
                region.entity(&1),
                act(|ctx| {
                    let mut number = 10;
                    let next = move || {
                        number += 1;
                        Msg::Tick(number)
                    };
                    ctx.start_periodic("often", ms(20), next).unwrap();
                }),
            );
            sim.run_for(ms(22));
            sim.move_shard(region.shard_of(&1), to).unwrap();
            sim.run_for(ms(23));
            let ticks = log.take();
            let numbers: Vec<_> = ticks.iter().map(|(number, _)| *number).collect();
            if matches!(kind, Kind::Ephemeral) {
                assert_eq!(numbers, [11]);
                return sim;
            }
            // The closure has moved with its count.
            assert_eq!(numbers, [11, 1, 12]);
            assert!(ticks[1].1 >= begun + ms(30) && ticks[1].1 <= begun + ms(30) + LATE);
            let core = &sim.stats().cores[to.index()];
            assert_eq!((core.actors, core.timers), (2, 3));
            sim
        });
    }
}

/// One entity awaits in its handler for longer than its shard may take to leave. Meanwhile the other one must not run, so
/// what is due for it waits, as it does for the first.
#[test]
fn after_a_refused_move_ticks_come() {
    check_seeds(20, |mut builder| {
        let log = Log::default();
        let region = moving(&mut builder, Kind::Send, &log);
        let bounds = Bounds {
            patience: ms(30),
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let shard = region.shard_of(&1);
        let from = sim.owner_of(shard).unwrap();
        for id in [1, 2] {
            sim.tell(region.entity(&id), start("due meanwhile", ms(10), id));
        }
        let nap = act(|ctx| {
            let nap = ctx.sleep(ms(60));
            ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
        });
        sim.tell(region.entity(&1), nap);
        assert!(sim.run_until_idle());
        let moving = sim.start_move(shard, CoreId(1 - from.0));
        sim.run_for(ms(20));
        assert!(log.take().is_empty());
        assert!(sim.run_until(moving).unwrap().is_err());
        sim.run_for(ms(5));
        assert_eq!(log.numbers(), [2]);
        sim.run_for(ms(40));
        assert_eq!(log.numbers(), [1]);
        sim
    });
}

#[test]
fn a_shutdown_waits_for_no_timer() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let held = Arc::new(());
        for core in 0..2 {
            let actor = probe(&mut sim, core, &log);
            let (one, each) = (held.clone(), held.clone());
            sim.tell(
                actor,
                act(move |ctx| {
                    ctx.start_periodic("often", ms(1), || Msg::Tick(1)).unwrap();
                    ctx.start_timer("far", ms(5_000), Msg::Hold(one)).unwrap();
                    let name = ("each", u64::from(ctx.core().0));
                    let to = ctx.me();
                    drop(ctx.schedule_periodic(name, ms(1), to, move || Msg::Hold(each.clone())));
                }),
            );
        }
        sim.run_for(ms(5));
        assert!(Arc::strong_count(&held) > 4);
        let begun = sim.now();
        assert!(sim.shutdown(ms(1_000)).drained);
        assert!(
            sim.now() - begun < ms(10),
            "it took {:?}",
            sim.now() - begun
        );
        assert_eq!(Arc::strong_count(&held), 1);
        sim
    });
}

#[test]
fn whoever_knows_the_name_can_replace_and_cancel_a_schedule() {
    check_seeds(30, |mut builder| {
        let seed = builder.seed();
        let log = Log::default();
        let region = builder.entities(EntityType::send("probe", probes(&log, None)));
        let mut sim = builder.cores(3).start();
        let (first, second) = (probe(&mut sim, 0, &log), probe(&mut sim, 2, &log));
        let names: [TimerName; 3] = ["a".into(), seed.into(), ("b", seed).into()];
        let [once, often, woken] = names;
        // From a handler, from a future, and from outside.
        sim.tell(
            first,
            act(move |ctx| {
                drop(ctx.schedule(once, ms(10), second, Msg::Tick(1)));
            }),
        );
        let set = sim.handle().run_on(CoreId(1), move |scope| async move {
            scope
                .schedule_periodic(often, ms(20), first, || Msg::Tick(2))
                .await
        });
        assert_eq!(sim.run_until(set).unwrap(), Ok(Ok(())));
        let set = sim
            .handle()
            .schedule(woken, ms(15), region.entity(&4), Msg::Tick(3));
        assert_eq!(sim.run_until(set).unwrap(), Ok(()));
        sim.run_for(ms(5));
        // From another core.
        sim.tell(
            second,
            act(move |ctx| {
                drop(ctx.schedule(once, ms(20), first, Msg::Tick(4)));
            }),
        );
        sim.run_for(ms(30));
        let mut numbers = log.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, [2, 3, 4]);
        let cancelled = sim.handle().run_on(CoreId(0), move |scope| async move {
            let known = scope.cancel_schedule(often).await;
            (known, scope.cancel_schedule(often).await)
        });
        let cancelled = sim.run_until(cancelled).unwrap().unwrap();
        assert_eq!(cancelled, (Ok(true), Ok(false)));
        for gone in [once, woken] {
            let cancelled = sim.handle().cancel_schedule(gone);
            assert_eq!(sim.run_until(cancelled).unwrap(), Ok(false));
        }
        log.take();
        sim.run_for(ms(100));
        assert!(log.take().is_empty() && pending(&sim) == 0);
        sim
    });
}

#[test]
fn what_a_schedule_sends_in_vain_is_counted() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let actor = probe(&mut sim, 1, &log);
        let handle = sim.handle();
        drop(handle.schedule_periodic("on", ms(10), actor, || Msg::Tick(1)));
        sim.run_for(ms(15));
        handle.stop(actor).unwrap();
        sim.run_for(ms(30));
        assert_eq!(log.numbers(), [1]);
        let letters = |sim: &Simulation| -> u64 {
            let cores = sim.stats().cores;
            cores.iter().map(|core| core.dead_letters_total()).sum()
        };
        // And one for the timer that it tried to start in its last hook.
        assert!((3..=4).contains(&letters(&sim)));
        let cancelled = handle.cancel_schedule("on");
        assert_eq!(sim.run_until(cancelled).unwrap(), Ok(true));
        let before = letters(&sim);
        sim.run_for(ms(50));
        assert_eq!(letters(&sim), before);
        assert!(sim.shutdown(ms(10)).drained);
        let late = handle.schedule("late", ms(1), actor, Msg::Tick(2));
        assert_eq!(late.try_take().unwrap(), Err(Rejection::ShuttingDown));
        sim
    });
}

/// What a [`Juggler`] is told to do next.
#[derive(Debug)]
enum Juggle {
    Once {
        name: u64,
        after: Duration,
    },
    Each {
        name: u64,
        every: Duration,
    },
    Cancel {
        name: u64,
    },
    Nap(Duration),
    Stop,
    /// The timer of that name has ticked, which was the one of this number.
    Tick {
        name: u64,
        number: u64,
    },
    /// How many timers are overdue?
    Overdue(ReplyTo<usize>),
}

/// Keeps its own account of its timers, and compares.
struct Juggler {
    ticks: Arc<AtomicUsize>,
    number: u64,
    /// By name: the number, when it is due, and whether it ticks again.
    running: BTreeMap<u64, (u64, Time, Option<Duration>)>,
}

impl Juggler {
    /// Notes a timer, and gives its number.
    fn note(&mut self, name: u64, due: Time, every: Option<Duration>) -> u64 {
        self.number += 1;
        self.running.insert(name, (self.number, due, every));
        self.number
    }
}

impl Actor for Juggler {
    type Msg = Juggle;

    fn receive(&mut self, msg: Juggle, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let now = ctx.now();
        for name in 0..4 {
            let mine = self.running.contains_key(&name);
            let ticks = matches!(msg, Juggle::Tick { name: of, .. } if of == name);
            assert!(
                ticks || ctx.is_timer_active(name) == mine,
                "{name} in {msg:?}"
            );
        }
        match msg {
            Juggle::Once { name, after } => {
                let number = self.note(name, now + after, None);
                ctx.start_timer(name, after, Juggle::Tick { name, number })?;
            }
            Juggle::Each { name, every } => {
                let number = self.note(name, now + every, Some(every));
                ctx.start_periodic(name, every, move || Juggle::Tick { name, number })?;
            }
            Juggle::Cancel { name } => {
                assert_eq!(ctx.cancel_timer(name), self.running.remove(&name).is_some());
            }
            Juggle::Nap(nap) => {
                let nap = ctx.sleep(nap);
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Juggle::Stop => return Ok(Next::Stop),
            Juggle::Tick { name, number } => {
                self.ticks.fetch_add(1, Ordering::Relaxed);
                let (running, due, every) = self.running.remove(&name).expect("it runs");
                assert!(running == number && now >= due, "{name} {number} {due}");
                assert_eq!(ctx.is_timer_active(name), every.is_some());
                if let Some(every) = every {
                    self.running
                        .insert(name, (number, now + every, Some(every)));
                }
            }
            Juggle::Overdue(reply_to) => {
                // With cores that stand still, and turns of one message, some are late.
                let overdue = |due: Time| due + ms(50) < now;
                let due = self.running.values().filter(|(_, due, _)| overdue(*due));
                ctx.reply(reply_to, due.count());
            }
        }
        Ok(Next::Continue)
    }
}

/// Timers of all kinds are started, replaced and cancelled while their entities sleep, stop and move: no tick is lost,
/// early, or of a timer that has ended.
#[test]
fn every_tick_is_the_one_that_was_asked_for() {
    let all = Arc::new(AtomicUsize::new(0));
    let counted = all.clone();
    check_seeds(100, move |mut builder| {
        let (seed, ticks) = (builder.seed(), counted.clone());
        let juggler = move |_: &u64| Juggler {
            ticks: ticks.clone(),
            number: 0,
            running: BTreeMap::new(),
        };
        let jugglers = EntityType::send("juggler", juggler).num_shards(3);
        let region = builder.entities(jugglers.mailbox(Mailbox::unbounded()));
        let mut sim = builder.cores(3).swarm().start();
        let mut rng = seeded(seed, 71);
        for _ in 0..300 {
            let id = rng.random_range(0..6);
            let name = rng.random_range(0..4);
            let time = Duration::from_micros(rng.random_range(0..20_000));
            let msg = match rng.random_range(0..16) {
                0..6 => Juggle::Once { name, after: time },
                // Not below what counts as an interval.
                6..9 => Juggle::Each {
                    name,
                    every: time + ms(1),
                },
                9..12 => Juggle::Cancel { name },
                12..15 => Juggle::Nap(time),
                _ => Juggle::Stop,
            };
            sim.tell(region.entity(&id), msg);
            if rng.random_ratio(1, 2) {
                sim.run_for(Duration::from_micros(rng.random_range(0..8_000)));
            }
            if rng.random_ratio(1, 10) {
                let to = CoreId(rng.random_range(0..3));
                drop(sim.start_move(region.shard_of(&id), to));
            }
        }
        sim.run_for(ms(500));
        for id in 0..6 {
            let overdue = sim.ask(region.entity(&id), Juggle::Overdue);
            assert_eq!(overdue.unwrap(), 0, "{id}");
        }
        let faults: u64 = sim.stats().cores.iter().map(|core| core.faults).sum();
        assert_eq!(faults, 0, "a juggler's account differs");
        sim
    });
    assert!(all.load(Ordering::Relaxed) > 0, "nothing has ticked");
}
