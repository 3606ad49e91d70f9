//! An actor that panics wherever code of its own is called: it meets its own supervision, and everybody else on its core
//! goes on.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim hostile_actor`.

use corecast::base::ids::CoreId;
use corecast::sim::{Closing, Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, Backoff, Context, Directive, Fault, Next, ReplyTo, SpawnOptions, Supervision,
    TaskError, TimerName,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Panics when it is dropped. (While another panic is under way it must not: Rust ends the process then.)
#[derive(Debug, Default)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb was dropped");
    }
}

/// An error that can neither be shown nor dropped.
struct Unspeakable(Bomb);

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it cannot be displayed, on purpose")
    }
}

impl fmt::Debug for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it cannot be debugged, on purpose")
    }
}

impl std::error::Error for Unspeakable {}

/// An event every copy of which is a bomb.
#[derive(Default)]
struct News(Bomb);

impl Clone for News {
    fn clone(&self) -> News {
        News::default()
    }
}

/// An event that cannot be copied.
struct Unique;

impl Clone for Unique {
    fn clone(&self) -> Unique {
        panic!("there is one only, on purpose")
    }
}

/// A name that cannot be dropped.
struct Name(Bomb);

impl From<Name> for SpawnOptions {
    fn from(_: Name) -> SpawnOptions {
        "name".into()
    }
}

impl From<Name> for TimerName {
    fn from(_: Name) -> TimerName {
        "name".into()
    }
}

/// Where a victim panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Nowhere,
    Receive,
    PreStart,
    PreStartAlways,
    PostStop,
    PreRestart,
    PostRestart,
    PostRestartAlways,
    OnError,
    Decider,
    SupervisionOfChild,
    Factory,
    FactoryAlways,
    MakeOfAsk,
    ThenOfAsk,
    ThenOfSpawn,
    ThenOfSpawnOn,
    ThenOfWatch,
    ThenOfFarWatch,
    Future,
    SuspendedFuture,
    AfterSuspension,
    MakeOfTimer,
    MappingOfEvent,
    CloneOfEvent,
    ShowingFault,
    Thrown,
    DropOfActor,
    DropOfFuture,
    DropOfSuspendedFuture,
    DropOfThenOfSuspension,
    DropOfMessage,
    DropOfWatch,
    DropOfWatchAtTheEnd,
    DropOfTimers,
    DropOfTimersAtTheEnd,
    DropOfEvent,
    DropOfMapping,
    DropOfNameOfChild,
    DropOfNameOfTimer,
    DropOfDecider,
    DropOfFactory,
    DropOfFactoryThatPanicked,
}

/// What becomes of one that panics there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    lives: bool,
    faults: u64,
    restarts: u64,
}

const UNHARMED: Fate = Fate {
    lives: true,
    faults: 0,
    restarts: 0,
};
const RESTARTED: Fate = Fate {
    lives: true,
    faults: 1,
    restarts: 1,
};
const RESTARTED_TWICE: Fate = Fate {
    lives: true,
    faults: 2,
    restarts: 2,
};
const GIVEN_UP: Fate = Fate {
    lives: false,
    faults: 4,
    restarts: 3,
};
const STOPPED: Fate = Fate {
    lives: false,
    faults: 0,
    restarts: 0,
};
const FAILED: Fate = Fate {
    lives: false,
    faults: 1,
    restarts: 0,
};

const FATES: [(Where, Fate); 43] = [
    (Where::Nowhere, UNHARMED),
    (Where::Receive, RESTARTED),
    (Where::PreStart, RESTARTED),
    (Where::PreStartAlways, GIVEN_UP),
    (Where::PostStop, STOPPED),
    (Where::PreRestart, RESTARTED),
    (Where::PostRestart, RESTARTED_TWICE),
    (Where::PostRestartAlways, GIVEN_UP),
    (Where::OnError, RESTARTED),
    (Where::Decider, FAILED),
    (Where::SupervisionOfChild, RESTARTED),
    (Where::Factory, RESTARTED_TWICE),
    (Where::FactoryAlways, GIVEN_UP),
    (Where::MakeOfAsk, RESTARTED),
    (Where::ThenOfAsk, RESTARTED),
    (Where::ThenOfSpawn, RESTARTED),
    (Where::ThenOfSpawnOn, RESTARTED),
    (Where::ThenOfWatch, RESTARTED),
    (Where::ThenOfFarWatch, RESTARTED),
    (Where::Future, UNHARMED),
    (Where::SuspendedFuture, RESTARTED),
    (Where::AfterSuspension, RESTARTED),
    (Where::MakeOfTimer, RESTARTED),
    (Where::MappingOfEvent, RESTARTED),
    (Where::CloneOfEvent, UNHARMED),
    (Where::ShowingFault, RESTARTED),
    (Where::Thrown, RESTARTED),
    (Where::DropOfActor, RESTARTED),
    (Where::DropOfFuture, UNHARMED),
    (Where::DropOfSuspendedFuture, UNHARMED),
    (Where::DropOfThenOfSuspension, STOPPED),
    (Where::DropOfMessage, STOPPED),
    (Where::DropOfWatch, UNHARMED),
    (Where::DropOfWatchAtTheEnd, STOPPED),
    (Where::DropOfTimers, UNHARMED),
    (Where::DropOfTimersAtTheEnd, STOPPED),
    (Where::DropOfEvent, UNHARMED),
    (Where::DropOfMapping, UNHARMED),
    (Where::DropOfNameOfChild, RESTARTED),
    (Where::DropOfNameOfTimer, RESTARTED),
    (Where::DropOfDecider, UNHARMED),
    (Where::DropOfFactory, UNHARMED),
    (Where::DropOfFactoryThatPanicked, UNHARMED),
];

#[derive(Default)]
struct Echo(u64);

#[derive(Debug)]
struct Ping(ReplyTo<u64>);

impl Actor for Echo {
    type Msg = Ping;

    fn receive(&mut self, Ping(reply): Ping, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += 1;
        ctx.reply(reply, self.0);
        Ok(Next::Continue)
    }
}

struct Victim {
    at: Where,
    life: u32,
    bomb: Option<Bomb>,
}

#[derive(Debug)]
enum Msg {
    Go {
        echo: ActorRef<Ping>,
        far: ActorRef<Msg>,
    },
    Fail,
    Carry(Bomb),
    Done,
    Alive(ReplyTo<bool>),
}

impl Victim {
    fn new(at: Where, life: u32) -> Victim {
        let is_bomb = at == Where::DropOfActor && life == 0;
        Victim {
            at,
            life,
            bomb: is_bomb.then(|| Bomb),
        }
    }
}

fn boom() -> ! {
    panic!("on purpose")
}

impl Actor for Victim {
    type Msg = Msg;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        let is_first = self.at == Where::PreStart && self.life == 0;
        if is_first || self.at == Where::PreStartAlways {
            boom();
        }
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let hour = Duration::from_secs(3_600);
        let (echo, far) = match msg {
            Msg::Go { echo, far } => (echo, far),
            Msg::Fail => boom(),
            Msg::Carry(bomb) => {
                std::mem::forget(bomb);
                return Ok(Next::Continue);
            }
            Msg::Done => return Ok(Next::Continue),
            Msg::Alive(reply) => {
                ctx.reply(reply, true);
                return Ok(Next::Continue);
            }
        };
        let bomb = || Bomb;
        match self.at {
            Where::Nowhere | Where::PreStart | Where::PreStartAlways => {}
            Where::Receive
            | Where::PreRestart
            | Where::PostRestart
            | Where::PostRestartAlways
            | Where::OnError
            | Where::Decider
            | Where::Factory
            | Where::FactoryAlways
            | Where::DropOfActor => boom(),
            Where::PostStop => return Ok(Next::Stop),
            Where::SupervisionOfChild => {
                let child = ctx.spawn_actor(|| Victim::new(Where::Nowhere, 0))?;
                ctx.tell(child, Msg::Fail);
            }
            Where::MakeOfAsk => ctx.ask(echo, |_: ReplyTo<u64>| boom(), |_| Msg::Done),
            Where::ThenOfAsk => ctx.ask(echo, Ping, |_| boom()),
            Where::ThenOfSpawn => ctx.spawn(async {}, |_| boom()),
            Where::ThenOfSpawnOn => ctx.spawn_actor_on(echo.core(), Echo::default, |_| boom()),
            Where::ThenOfWatch => {
                let child = ctx.spawn_actor(Echo::default)?;
                ctx.watch(child, |_| boom())?;
                ctx.stop_child(child.into());
            }
            Where::ThenOfFarWatch => {
                ctx.watch(far, |_| boom())?;
                ctx.stop(far);
            }
            Where::Future => ctx.spawn(async { boom() }, |failed: Result<(), _>| {
                assert_eq!(failed, Err(TaskError::Panicked("on purpose".to_owned())));
                Msg::Done
            }),
            Where::SuspendedFuture => {
                ctx.suspend(async { boom() }, |_, (), _| Ok(Next::Continue));
            }
            Where::AfterSuspension => {
                let nap = ctx.sleep(Duration::from_millis(1));
                ctx.suspend(nap, |_, (), _| boom());
            }
            Where::MakeOfTimer => {
                ctx.start_periodic("tick", Duration::from_millis(1), || boom())?;
            }
            Where::MappingOfEvent => {
                ctx.subscribe(|news: News| {
                    std::mem::forget(news);
                    boom()
                })?;
                ctx.publish(News::default());
            }
            Where::CloneOfEvent => {
                ctx.subscribe(|_: Unique| Msg::Done)?;
                ctx.publish(Unique);
            }
            Where::ShowingFault => Err(Unspeakable(Bomb))?,
            Where::Thrown => std::panic::panic_any(Bomb),
            Where::DropOfFuture => {
                for lasts in [1, 3_600_000] {
                    let (nap, bomb) = (ctx.sleep(Duration::from_millis(lasts)), bomb());
                    let holds = async move {
                        let _bomb = bomb;
                        nap.await;
                    };
                    ctx.spawn(holds, |_| Msg::Done);
                }
            }
            Where::DropOfSuspendedFuture => {
                // It is done, and then dropped with what it holds.
                let mut bomb = Some(bomb());
                let done = std::future::poll_fn(move |_| {
                    let _held = &mut bomb;
                    std::task::Poll::Ready(())
                });
                ctx.suspend(done, |_, (), _| Ok(Next::Continue));
            }
            Where::DropOfThenOfSuspension => {
                let (nap, bomb) = (ctx.sleep(Duration::from_millis(1)), bomb());
                ctx.suspend(nap, move |_, (), _| {
                    std::mem::forget(bomb);
                    Ok(Next::Continue)
                });
                return Ok(Next::Stop);
            }
            Where::DropOfMessage => {
                let me = ctx.me();
                ctx.tell(me, Msg::Carry(Bomb));
                return Ok(Next::Stop);
            }
            Where::DropOfWatch | Where::DropOfWatchAtTheEnd => {
                let held = bomb();
                ctx.watch(echo, move |_| Msg::Carry(held))?;
                let held = bomb();
                // In place of the first.
                ctx.watch(echo, move |_| Msg::Carry(held))?;
                if self.at == Where::DropOfWatchAtTheEnd {
                    return Ok(Next::Stop);
                }
                assert!(ctx.unwatch(echo));
            }
            Where::DropOfTimers | Where::DropOfTimersAtTheEnd => {
                for _ in 0..2 {
                    let held = bomb();
                    ctx.start_timer("once", hour, Msg::Carry(Bomb))?;
                    ctx.start_periodic("often", hour, move || {
                        let _ = &held;
                        Msg::Done
                    })?;
                }
                if self.at == Where::DropOfTimersAtTheEnd {
                    return Ok(Next::Stop);
                }
                assert!(ctx.cancel_timer("once") && ctx.cancel_timer("often"));
            }
            Where::DropOfEvent => {
                ctx.subscribe(|News(bomb)| Msg::Carry(bomb))?;
                ctx.publish(News::default());
            }
            Where::DropOfMapping => {
                for _ in 0..2 {
                    let held = bomb();
                    ctx.subscribe(move |_: Unique| {
                        let _ = &held;
                        Msg::Done
                    })?;
                }
                assert!(ctx.unsubscribe::<Unique>());
            }
            Where::DropOfNameOfChild => _ = ctx.spawn_actor_with(Name(Bomb), Echo::default)?,
            Where::DropOfNameOfTimer => ctx.start_timer(Name(Bomb), hour, Msg::Done)?,
            Where::DropOfDecider => {
                let held = bomb();
                let stop = Supervision::decide(move |_| {
                    let _ = &held;
                    Directive::Stop
                });
                let child = ctx.spawn_actor_with(stop, Echo::default)?;
                ctx.stop_child(child.into());
            }
            Where::DropOfFactory => {
                let held = bomb();
                let child = ctx.spawn_actor(move || {
                    let _ = &held;
                    Echo::default()
                })?;
                ctx.stop_child(child.into());
            }
            Where::DropOfFactoryThatPanicked => {
                let held = bomb();
                let failed = ctx.spawn_actor_with("child", move || -> Echo {
                    let _ = &held;
                    boom()
                });
                assert!(failed.is_err());
                // It has not taken the name with it.
                ctx.spawn_actor_with("child", Echo::default)?;
            }
        }
        Ok(Next::Continue)
    }

    fn on_error(&mut self, _: &Fault, _: &mut Context<'_, Self>) -> Option<Directive> {
        if self.at == Where::OnError {
            boom();
        }
        None
    }

    fn supervision(&self) -> Supervision {
        if self.at == Where::SupervisionOfChild {
            boom();
        }
        Supervision::default()
    }

    fn pre_restart(&mut self, _: &Fault, _: &mut Context<'_, Self>) {
        if self.at == Where::PreRestart {
            boom();
        }
        // Whoever is to be dropped with a bomb has it still.
        assert_eq!(self.bomb.is_some(), self.at == Where::DropOfActor);
    }

    fn post_restart(&mut self, _: &Fault, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        let is_first = self.at == Where::PostRestart && self.life == 1;
        if is_first || self.at == Where::PostRestartAlways {
            boom();
        }
        Ok(())
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        if self.at == Where::PostStop {
            boom();
        }
    }
}

fn victim(sim: &mut Simulation, core: u16, at: Where) -> ActorRef<Msg> {
    let supervision = match at {
        Where::Decider => Supervision::decide(|_| boom()),
        _ => Supervision::default(),
    };
    let lives = Arc::new(AtomicU32::new(0));
    let factory = move || {
        let life = lives.fetch_add(1, Ordering::Relaxed);
        match at {
            Where::Factory if life == 1 => boom(),
            Where::FactoryAlways if life > 0 => boom(),
            _ => Victim::new(at, life),
        }
    };
    let supervision = supervision.backoff(Backoff::NONE);
    sim.spawn_supervised(CoreId(core), supervision, factory)
        .unwrap()
}

fn counted(sim: &Simulation) -> (u64, u64) {
    let cores = &sim.stats().cores;
    (
        cores.iter().map(|core| core.faults).sum(),
        cores.iter().map(|core| core.restarts).sum(),
    )
}

/// Both cores serve others, and nothing has been left lying about.
#[track_caller]
fn assert_well(sim: &mut Simulation, echoes: [ActorRef<Ping>; 2], what: &str) {
    for echo in echoes {
        assert!(sim.ask(echo, Ping).is_ok(), "{what}: {}", echo.core());
    }
    for core in &sim.stats().cores {
        let left = [core.queued_messages, core.queued_bytes, core.open_asks];
        assert_eq!(left, [0; 3], "{what}: {}", core.core);
    }
}

#[test]
fn wherever_an_actor_panics_its_supervision_decides_and_everybody_else_goes_on() {
    check_seeds(12, |builder| {
        let far_away = (builder.seed() % 2) as usize;
        let mut sim = builder.cores(2).start();
        let echoes = [0, 1].map(|core| sim.spawn(CoreId(core), Echo::default).unwrap());
        for (at, fate) in FATES {
            let what = format!("{at:?}");
            let before = counted(&sim);
            let victim = victim(&mut sim, 0, at);
            let far = sim
                .spawn(CoreId(1), || Victim::new(Where::Nowhere, 0))
                .unwrap();
            let echo = echoes[far_away];
            sim.tell(victim, Msg::Go { echo, far });
            assert!(sim.run_until_idle());
            sim.run_for(Duration::from_millis(300));
            let lives = sim.ask(victim, Msg::Alive) == Ok(true);
            let after = counted(&sim);
            let met = Fate {
                lives,
                faults: after.0 - before.0,
                restarts: after.1 - before.1,
            };
            assert_eq!(met, fate, "{what}");
            assert_well(&mut sim, echoes, &what);
        }
        end(sim)
    });
}

/// All that hostile actors have left behind ends with the node.
fn end(mut sim: Simulation) -> Simulation {
    let Closing { drained, stats } = sim.shutdown(Duration::from_secs(20));
    assert!(drained);
    for core in &stats.cores {
        assert_eq!([core.actors, core.tasks], [0; 2], "{}", core.core);
    }
    sim
}

#[test]
fn a_closure_that_panics_at_an_event_ends_its_subscription_and_no_other() {
    check_seeds(5, |builder| {
        let mut sim = builder.cores(2).start();
        let echoes = [0, 1].map(|core| sim.spawn(CoreId(core), Echo::default).unwrap());
        let heard = Arc::new(AtomicU32::new(0));
        for core in [CoreId(0), CoreId(1)] {
            let handle = sim.handle().through(core).unwrap();
            let bad = handle.subscribe(|news: News| {
                std::mem::forget(news);
                boom()
            });
            // It drops the event, which is a bomb.
            let careless = handle.subscribe(drop::<News>);
            let counter = heard.clone();
            let good = handle.subscribe(move |news: News| {
                std::mem::forget(news);
                counter.fetch_add(1, Ordering::Relaxed);
            });
            for subscribed in [bad, careless, good] {
                assert!(sim.run_until(subscribed).unwrap().unwrap().is_active());
            }
        }
        let victim = victim(&mut sim, 0, Where::DropOfEvent);
        let far = victim;
        for _ in 0..2 {
            sim.tell(
                victim,
                Msg::Go {
                    echo: echoes[0],
                    far,
                },
            );
            assert!(sim.run_until_idle());
        }
        assert_eq!(heard.load(Ordering::Relaxed), 4, "two cores, two events");
        let cores = sim.stats().cores;
        let panics: u64 = cores.iter().map(|core| core.subscriber_panics).sum();
        let left: usize = cores.iter().map(|core| core.subscriptions).sum();
        assert_eq!(
            (panics, left),
            (4, 3),
            "one of the actor, two that are good"
        );
        assert_eq!(counted(&sim), (0, 0));
        assert_well(&mut sim, echoes, "closures");
        end(sim)
    });
}

/// Where two panics at once are asked for: set while another test runs this one.
const WANTED: &str = "CORECAST_TEST_OF_TWO_PANICS";

#[test]
fn panics_twice_where_it_is_asked_for() {
    if std::env::var_os(WANTED).is_none() {
        return;
    }
    struct Relentless;
    impl Drop for Relentless {
        fn drop(&mut self) {
            panic!("the second panic");
        }
    }
    struct Desperate;
    impl Actor for Desperate {
        type Msg = ();
        fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
            let _relentless = Relentless;
            panic!("the first panic");
        }
    }
    let mut sim = Simulation::builder(1).start();
    let desperate = sim.spawn(CoreId(0), || Desperate).unwrap();
    sim.tell(desperate, ());
    sim.run_until_idle();
}

/// This one cannot be contained, and the guide says so.
#[test]
fn a_panic_while_another_one_unwinds_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;

    let test = "hostile_actor::panics_twice_where_it_is_asked_for";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(WANTED, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    const SIGABRT: i32 = 6;
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    crate::kit::assert_says(&text, &["the first panic", "the second panic", "abort"]);
}
