//! A panic anywhere in a user's code ends that actor, future or message, and nothing else.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim panics`.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, Context, EntityType, Fault, Next, Rejection, ReplyTo, SpawnError, TaskError,
};
use std::time::Duration;

/// Where a victim panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Nowhere,
    PreStart,
    Receive,
    PostStop,
    DropOfActor,
    DropOfMessage,
    DropOfFuture,
    MapOfAsk,
    MapOfFuture,
    Future,
    AfterSuspension,
    SuspendedFuture,
}

struct Victim(Where);

/// Panics when it is dropped, unless a panic is under way.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb was dropped");
    }
}

#[derive(Debug)]
enum Msg {
    Go(ActorRef<Ping>),
    Carry(Bomb),
    Done,
    Alive(ReplyTo<bool>),
}

#[derive(Debug)]
struct Ping(ReplyTo<u64>);

impl Drop for Victim {
    fn drop(&mut self) {
        assert!(
            self.0 != Where::DropOfActor || std::thread::panicking(),
            "the actor's destructor, on purpose"
        );
    }
}

impl Actor for Victim {
    type Msg = Msg;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        assert!(self.0 != Where::PreStart, "on purpose");
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let echo = match msg {
            Msg::Go(echo) => echo,
            Msg::Alive(reply) => {
                ctx.reply(reply, true);
                return Ok(Next::Continue);
            }
            Msg::Carry(_) | Msg::Done => return Ok(Next::Continue),
        };
        match self.0 {
            Where::Nowhere | Where::PreStart => {}
            Where::Receive => panic!("on purpose"),
            Where::PostStop | Where::DropOfActor => return Ok(Next::Stop),
            Where::DropOfMessage => {
                // It will wait behind the stop, and be dropped undelivered.
                let me = ctx.me();
                ctx.tell(me, Msg::Carry(Bomb));
                return Ok(Next::Stop);
            }
            Where::DropOfFuture => {
                let nap = ctx.sleep(Duration::from_millis(1));
                let bomb = async move {
                    let _bomb = Bomb;
                    nap.await;
                };
                ctx.spawn(bomb, |_| Msg::Done);
            }
            Where::MapOfAsk => ctx.ask(echo, Ping, |_| panic!("on purpose")),
            Where::MapOfFuture => ctx.spawn(async {}, |_| panic!("on purpose")),
            Where::Future => ctx.spawn(async { panic!("on purpose") }, |failed: Result<(), _>| {
                assert_eq!(failed, Err(TaskError::Panicked("on purpose".to_owned())));
                Msg::Done
            }),
            Where::AfterSuspension => {
                let nap = ctx.sleep(Duration::from_millis(1));
                ctx.suspend(nap, |_, (), _| panic!("on purpose"));
            }
            Where::SuspendedFuture => ctx.suspend(async { panic!("on purpose") }, |_, (), _| {
                Ok(Next::Continue)
            }),
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        assert!(self.0 != Where::PostStop, "on purpose");
    }
}

/// Answers, so that one can see that its core goes on.
struct Echo(u64);

impl Actor for Echo {
    type Msg = Ping;

    fn receive(&mut self, Ping(reply): Ping, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += 1;
        ctx.reply(reply, self.0);
        Ok(Next::Continue)
    }
}

fn is_alive(sim: &mut Simulation, victim: ActorRef<Msg>) -> bool {
    sim.ask(victim, Msg::Alive) == Ok(true)
}

#[test]
fn only_the_one_who_panics_is_affected() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let echo = sim.spawn(CoreId(0), || Echo(0)).unwrap();
        let far_echo = sim.spawn(CoreId(1), || Echo(0)).unwrap();
        let neighbour = sim.spawn(CoreId(0), || Victim(Where::Nowhere)).unwrap();
        let (mut pings, mut faults) = (0, 0);
        for (place, survives, fault) in [
            (Where::Nowhere, true, false),
            (Where::PreStart, false, true),
            (Where::Receive, false, true),
            (Where::PostStop, false, false),
            (Where::DropOfActor, false, false),
            (Where::DropOfMessage, false, false),
            (Where::DropOfFuture, true, false),
            (Where::MapOfAsk, false, true),
            (Where::MapOfFuture, false, true),
            (Where::Future, true, false),
            (Where::AfterSuspension, false, true),
            (Where::SuspendedFuture, false, true),
        ] {
            let victim = sim.spawn(CoreId(0), move || Victim(place)).unwrap();
            let asked = if sim.seed().is_multiple_of(2) {
                echo
            } else {
                far_echo
            };
            sim.tell(victim, Msg::Go(asked));
            assert!(sim.run_until_idle());
            sim.run_for(Duration::from_millis(20));
            assert_eq!(is_alive(&mut sim, victim), survives, "{place:?}");
            faults += u64::from(fault);
            let counted: u64 = sim.stats().cores.iter().map(|core| core.faults).sum();
            assert_eq!(counted, faults, "{place:?}");
            pings += 1;
            assert!(
                sim.ask(echo, Ping).is_ok_and(|count| count >= pings),
                "{place:?}"
            );
            assert!(is_alive(&mut sim, neighbour), "{place:?}");
        }
        // Of all messages, these were dropped: to the one that never started, and behind the stop.
        let dead: u64 = sim.stats().cores[0]
            .dead_letters
            .iter()
            .filter(|(why, _)| *why == Rejection::Stopped)
            .map(|(_, n)| n)
            .sum();
        assert!((1..=2).contains(&dead), "{dead}");
        sim
    });
}

#[test]
fn a_factory_that_panics_starts_nothing() {
    check_seeds(5, |mut builder| {
        let bad = builder.entities(EntityType::send("bad", |id: &u64| {
            assert!(*id != 7, "on purpose");
            Victim(Where::Nowhere)
        }));
        let mut sim = builder.start();
        let failed = sim.spawn(CoreId(0), || -> Victim { panic!("on purpose") });
        assert!(
            matches!(failed, Err(SpawnError::FactoryPanicked { panic, .. }) if panic == "on purpose")
        );
        assert_eq!(
            sim.ask(bad.entity(&7), Msg::Alive),
            Err(corecast::AskError::Rejected(Rejection::StartFailed))
        );
        assert_eq!(sim.ask(bad.entity(&8), Msg::Alive), Ok(true));
        assert_eq!(
            sim.ask(bad.entity(&7), Msg::Alive),
            Err(Rejection::StartFailed.into())
        );
        let gone = sim
            .handle()
            .run_on(CoreId(1), |_| async { panic!("on purpose") });
        let gone: Result<(), _> = sim.run_until(gone).unwrap();
        assert_eq!(gone, Err(TaskError::Panicked("on purpose".to_owned())));
        assert_eq!(
            sim.stats()
                .cores
                .iter()
                .map(|core| core.actors)
                .sum::<usize>(),
            1
        );
        sim
    });
}

/// What lies undelivered when the node ends is dropped there, bombs included.
#[test]
fn bombs_left_at_the_end_do_no_harm() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let victims: Vec<_> = (0..2)
            .map(|core| {
                sim.spawn(CoreId(core), || Victim(Where::DropOfActor))
                    .unwrap()
            })
            .collect();
        for victim in victims {
            let napping = sim
                .spawn(CoreId(1), || Victim(Where::AfterSuspension))
                .unwrap();
            sim.tell(victim, Msg::Carry(Bomb));
            sim.tell(napping, Msg::Carry(Bomb));
        }
        let closing = sim.shutdown(Duration::ZERO);
        assert!(closing.stats.cores.iter().all(|core| core.actors == 0));
        sim
    });
}
