//! Actors with asynchronous handlers have the hooks that others have.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, AsyncActor, Awaiting, Backoff, Context, Directive, Fault, Next, Scope,
    Supervision,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    #[track_caller]
    fn expect(&self, wanted: &[&str]) {
        assert_eq!(std::mem::take(&mut *self.0.lock().unwrap()), wanted);
    }
}

struct Child(Log);

impl Actor for Child {
    type Msg = &'static str;

    fn receive(&mut self, why: &'static str, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Err(Fault::new(why))
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.0.say("child stops");
    }
}

struct Patient {
    log: Log,
    loaded: u32,
    child: Option<ActorRef<&'static str>>,
}

#[derive(Debug)]
enum Msg {
    Say,
    Fail(&'static str),
    Panic,
    FailChild,
    Nap,
    Stop,
}

impl AsyncActor for Patient {
    type Msg = Msg;

    async fn receive(&mut self, msg: Msg, scope: &Scope) -> Result<Next, Fault> {
        scope.sleep(SECOND / 1_000).await;
        match msg {
            Msg::Say => self.log.say(format!("loaded {}", self.loaded)),
            Msg::Fail(why) => return Err(Fault::new(why)),
            Msg::Panic => panic!("on purpose"),
            Msg::FailChild => {
                if let Some(child) = self.child {
                    scope.tell(child, "of the child");
                }
            }
            Msg::Nap => {
                if let Some(child) = self.child {
                    scope.tell(child, "of the child");
                }
                scope.sleep(SECOND).await;
                self.log.say("awake");
            }
            Msg::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }

    fn pre_start(&mut self, ctx: &mut Context<'_, Awaiting<Self>>) -> Result<(), Fault> {
        self.log.say("pre_start");
        let log = self.log.clone();
        self.child = Some(ctx.spawn_actor(move || Child(log.clone()))?);
        let nap = ctx.sleep(SECOND / 1_000);
        ctx.suspend(nap, |this, (), _| {
            if let Some(patient) = this.actor_mut() {
                patient.loaded = 41;
            }
            Ok(Next::Continue)
        });
        Ok(())
    }

    fn on_error(
        &mut self,
        fault: &Fault,
        _: &mut Context<'_, Awaiting<Self>>,
    ) -> Option<Directive> {
        self.log.say(format!("on_error: {fault}"));
        (fault.to_string() == "resume").then_some(Directive::Resume)
    }

    fn supervision(&self) -> Supervision {
        let log = self.log.clone();
        Supervision::decide(move |fault| {
            log.say(format!("decides: {fault}"));
            Directive::Stop
        })
    }

    fn pre_restart(&mut self, fault: &Fault, _: &mut Context<'_, Awaiting<Self>>) {
        self.log.say(format!("pre_restart: {fault}"));
    }

    fn post_restart(
        &mut self,
        fault: &Fault,
        _: &mut Context<'_, Awaiting<Self>>,
    ) -> Result<(), Fault> {
        self.log.say(format!("post_restart: {fault}"));
        Ok(())
    }

    fn post_stop(&mut self, _: &mut Context<'_, Awaiting<Self>>) {
        self.log.say("post_stop");
    }
}

fn patient(sim: &mut Simulation, log: &Log) -> ActorRef<Msg> {
    let log = log.clone();
    let at_once = Supervision::default().backoff(Backoff::NONE);
    let factory = move || {
        Awaiting::new(Patient {
            log: log.clone(),
            loaded: 0,
            child: None,
        })
    };
    sim.spawn_supervised(CoreId(0), at_once, factory).unwrap()
}

#[test]
fn every_hook_of_an_asynchronous_actor_runs() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let patient = patient(&mut sim, &log);
        let mut tell = |msg| {
            sim.tell(patient, msg);
            sim.run_for(SECOND * 2);
        };
        tell(Msg::Say);
        log.expect(&["pre_start", "loaded 41"]);
        tell(Msg::Fail("resume"));
        tell(Msg::Say);
        log.expect(&["on_error: resume", "loaded 41"]);
        tell(Msg::Fail("restart"));
        tell(Msg::Say);
        log.expect(&[
            "on_error: restart",
            "child stops",
            "pre_restart: restart",
            "post_restart: restart",
            "pre_start",
            "loaded 41",
        ]);
        // The state is lost with the handler that panics: there is nothing to ask.
        tell(Msg::Panic);
        log.expect(&["child stops", "post_restart: on purpose", "pre_start"]);
        tell(Msg::FailChild);
        log.expect(&["decides: of the child", "child stops"]);
        tell(Msg::Stop);
        log.expect(&["post_stop"]);
        assert_eq!(sim.stats().cores[0].actors, 0);
        sim
    });
}

#[test]
fn children_are_supervised_while_their_parent_awaits() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let patient = patient(&mut sim, &log);
        sim.tell(patient, Msg::Nap);
        sim.run_for(SECOND * 2);
        log.expect(&["pre_start", "decides: of the child", "child stops", "awake"]);
        sim
    });
}
