//! What random families have taught: one small test for each mistake that they have found.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Backoff, Context, Directive, Fault, Next, ReplyTo, SpawnError,
    Strategy, Supervision,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Sleeps now and then, and counts what it wakes from.
#[derive(Default)]
struct Sleeper {
    /// In `post_restart`.
    sleeps_first: bool,
    woke_from: Vec<&'static str>,
}

#[derive(Debug)]
enum Msg {
    Sleep(&'static str),
    SleepAndFail(&'static str),
    Fail,
    Child(Supervision, ReplyTo<Result<ActorRef<Msg>, SpawnError>>),
    Report(ReplyTo<Vec<&'static str>>),
}

impl Sleeper {
    fn sleep(what: &'static str, ctx: &mut Context<'_, Self>) {
        let nap = ctx.sleep(SECOND);
        ctx.suspend(nap, move |sleeper, (), _| {
            sleeper.woke_from.push(what);
            Ok(Next::Continue)
        });
    }
}

/// Says when somebody is ready.
#[derive(Debug)]
struct Ready;

impl Actor for Sleeper {
    type Msg = Msg;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        ctx.publish(std::sync::Arc::new(Ready));
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Sleep(what) => Sleeper::sleep(what, ctx),
            Msg::SleepAndFail(what) => {
                Sleeper::sleep(what, ctx);
                return Err(Fault::new("it cannot sleep"));
            }
            Msg::Fail => return Err(Fault::new("on purpose")),
            Msg::Child(supervision, reply_to) => {
                let child = ctx.spawn_actor_with(supervision, Sleeper::default);
                ctx.reply(reply_to, child);
            }
            Msg::Report(reply_to) => ctx.reply(reply_to, self.woke_from.clone()),
        }
        Ok(Next::Continue)
    }

    fn post_restart(&mut self, _: &Fault, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        if self.sleeps_first {
            Sleeper::sleep("the restart", ctx);
        }
        Ok(())
    }
}

fn child(sim: &mut Simulation, of: ActorRef<Msg>, supervision: &Supervision) -> ActorRef<Msg> {
    let supervision = supervision.clone();
    sim.ask(of, move |reply_to| Msg::Child(supervision, reply_to))
        .unwrap()
        .unwrap()
}

fn at_once() -> Supervision {
    Supervision::default().backoff(Backoff::NONE)
}

#[test]
fn a_handler_that_suspends_and_fails_is_not_continued_when_its_actor_waits_for_another_future() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let resume = Supervision::always(Directive::Resume);
        let sleeper = sim
            .spawn_supervised(CoreId(1), resume, Sleeper::default)
            .unwrap();
        sim.tell(sleeper, Msg::SleepAndFail("a bad dream"));
        sim.run_for(SECOND / 2);
        sim.tell(sleeper, Msg::Sleep("a good one"));
        sim.run_for(SECOND * 2);
        assert_eq!(sim.ask(sleeper, Msg::Report), Ok(vec!["a good one"]));
        sim
    });
}

#[test]
fn an_actor_whose_post_restart_suspends_starts_when_that_has_ended_and_waits_for_no_message() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let ready = sim.handle().events::<std::sync::Arc<Ready>>(10).unwrap();
        let sleeper = sim
            .spawn_supervised(CoreId(1), at_once(), || Sleeper {
                sleeps_first: true,
                ..Sleeper::default()
            })
            .unwrap();
        sim.tell(sleeper, Msg::Fail);
        sim.run_for(SECOND / 2);
        let starts =
            |listener: &corecast::Events<_>| std::iter::from_fn(|| listener.try_recv()).count();
        assert_eq!(starts(&ready), 1);
        sim.run_for(SECOND);
        assert_eq!(starts(&ready), 1, "nobody sends it anything");
        sim
    });
}

#[test]
fn restarts_that_a_sibling_has_caused_are_remembered_as_long_as_its_own() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let parent = sim.spawn(CoreId(1), Sleeper::default).unwrap();
        let often = at_once().restarts(3, SECOND * 60);
        let once = at_once()
            .strategy(Strategy::AllForOne)
            .restarts(1, SECOND * 60);
        let patient = child(&mut sim, parent, &often);
        let rash = child(&mut sim, parent, &once);
        for failing in [patient, patient, rash] {
            sim.tell(failing, Msg::Fail);
            // What two actors are told may be handled in either order.
            sim.run_until_idle();
            assert_eq!(sim.ask(patient, Msg::Report), Ok(vec![]));
        }
        sim.tell(patient, Msg::Fail);
        let gone = sim.ask(patient, Msg::Report);
        assert!(matches!(gone, Err(AskError::Rejected(_))), "{gone:?}");
        sim
    });
}
