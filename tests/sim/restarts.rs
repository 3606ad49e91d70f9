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
