//! Restarts that meet something else: futures of the life before, hooks that wait, factories that fail.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, Backoff, Context, Directive, Fault, Next, ReplyTo, SpawnOptions, Strategy,
    Supervision,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CORE: CoreId = CoreId(1);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn say(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    #[track_caller]
    fn expect(&self, wanted: &[&str]) {
        assert_eq!(std::mem::take(&mut *self.0.lock().unwrap()), wanted);
    }
}

fn at_once() -> Supervision {
    Supervision::default().backoff(Backoff::NONE)
}

/// Sleeps in its handlers and hooks.
struct Sleeper {
    log: Log,
    on_error: Directive,
}

#[derive(Debug)]
enum Sleep {
    Fail,
    /// Sleep so long, and then say something.
    Say(Duration, &'static str),
    /// The same, and fail.
    SayAndFail(Duration, &'static str),
    /// Ask somebody who answers after a second; the outcome makes this actor fail.
    FailLater(ActorRef<ReplyTo<()>>),
}

impl Actor for Sleeper {
    type Msg = Sleep;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.log.say("start");
        Ok(())
    }

    fn receive(&mut self, msg: Sleep, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (nap, word, fails) = match msg {
            Sleep::Fail => return Err(Fault::new("at once")),
            Sleep::Say(nap, word) => (nap, word, false),
            Sleep::SayAndFail(nap, word) => (nap, word, true),
            Sleep::FailLater(of) => {
                ctx.ask(of, |reply_to| reply_to, |_| panic!("on purpose"));
                return Ok(Next::Continue);
            }
        };
        let nap = ctx.sleep(nap);
        ctx.suspend(nap, move |this, (), _| {
            this.log.say(word);
            Ok(Next::Continue)
        });
        if fails {
            return Err(Fault::new("asleep"));
        }
        Ok(Next::Continue)
    }

    fn on_error(&mut self, _: &Fault, _: &mut Context<'_, Self>) -> Option<Directive> {
        Some(self.on_error)
    }

    fn post_restart(&mut self, _: &Fault, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.log.say("return");
        let nap = ctx.sleep(SECOND);
        ctx.suspend(nap, |this, (), _| {
            this.log.say("returned");
            Ok(Next::Continue)
        });
        Ok(())
    }
}

fn sleeper(sim: &mut Simulation, log: &Log, on_error: Directive) -> ActorRef<Sleep> {
    let log = log.clone();
    let factory = move || Sleeper {
        log: log.clone(),
        on_error,
    };
    sim.spawn_supervised(CORE, at_once(), factory).unwrap()
}

#[test]
fn a_restart_that_waits_goes_on_to_the_start_without_a_message() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let sleeper = sleeper(&mut sim, &log, Directive::Restart);
        sim.tell(sleeper, Sleep::Fail);
        sim.run_for(SECOND / 2);
        log.expect(&["start", "return"]);
        sim.run_for(SECOND);
        log.expect(&["returned", "start"]);
        sim
    });
}

#[test]
fn a_future_of_a_handler_that_failed_does_not_wake_an_actor_that_was_resumed() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let sleeper = sleeper(&mut sim, &log, Directive::Resume);
        sim.tell(sleeper, Sleep::SayAndFail(SECOND, "of the one that failed"));
        sim.tell(sleeper, Sleep::Say(SECOND * 2, "of the next"));
        sim.run_for(SECOND * 3 / 2);
        log.expect(&["start"]);
        sim.run_for(SECOND);
        log.expect(&["of the next"]);
        // Nor does one whose deadline passes meanwhile fail it.
        sim.tell(sleeper, Sleep::SayAndFail(SECOND * 60, "never"));
        sim.run_for(SECOND * 9);
        sim.tell(sleeper, Sleep::Say(SECOND * 5, "in time"));
        sim.run_for(SECOND * 20);
        log.expect(&["in time"]);
        assert_eq!(sim.stats().cores[1].faults, 2);
        sim
    });
}

/// Answers after a second.
struct Slow;

impl Actor for Slow {
    type Msg = ReplyTo<()>;

    fn receive(&mut self, to: ReplyTo<()>, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let nap = ctx.sleep(SECOND);
        ctx.suspend(nap, |_, (), ctx| {
            ctx.reply(to, ());
            Ok(Next::Continue)
        });
        Ok(Next::Continue)
    }
}

#[test]
fn an_actor_that_is_resumed_while_it_waits_goes_on_with_its_next_message() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let sleeper = sleeper(&mut sim, &log, Directive::Resume);
        let slow = sim.spawn(CoreId(0), || Slow).unwrap();
        sim.tell(sleeper, Sleep::FailLater(slow));
        sim.tell(sleeper, Sleep::Say(SECOND * 2, "of the first"));
        sim.tell(sleeper, Sleep::Say(SECOND * 3, "of the second"));
        sim.run_for(SECOND * 3);
        log.expect(&["start"]);
        sim.run_for(SECOND * 2);
        log.expect(&["of the second"]);
        sim
    });
}
