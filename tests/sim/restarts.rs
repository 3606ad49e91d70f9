//! Restarts that meet something else: futures of the life before, hooks that wait, factories that fail.

use corecast::base::ids::CoreId;
use corecast::sim::{Bounds, Simulation, check_seeds};
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
    /// Tick each second from now on.
    TickOn,
    Tick,
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
            Sleep::TickOn => {
                ctx.start_periodic("tick", SECOND, || Sleep::Tick)?;
                return Ok(Next::Continue);
            }
            Sleep::Tick => {
                self.log.say("tick");
                return Ok(Next::Continue);
            }
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

#[test]
fn an_actor_that_is_resumed_after_it_has_waited_for_too_long_goes_on_ticking() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let sleeper = sleeper(&mut sim, &log, Directive::Resume);
        sim.tell(sleeper, Sleep::TickOn);
        sim.tell(sleeper, Sleep::Say(SECOND * 60, "never"));
        sim.run_for(SECOND * 19 / 2);
        log.expect(&["start"]);
        // At 10 s it has exceeded its deadline; one tick has waited.
        sim.run_for(SECOND * 4);
        log.expect(&["tick"; 4]);
        sim
    });
}

/// Has something to do at every turn. Its first turns make it fail later on, outside of its own.
struct Busy {
    turns: Arc<AtomicU32>,
    faults: u32,
    echo: ActorRef<ReplyTo<()>>,
}

impl Actor for Busy {
    type Msg = ();

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        ctx.tell(ctx.me(), ());
        if self.faults > 0 {
            self.faults -= 1;
            ctx.ask(self.echo, |reply_to| reply_to, |_| panic!("on purpose"));
        }
        Ok(Next::Continue)
    }

    fn on_error(&mut self, _: &Fault, _: &mut Context<'_, Self>) -> Option<Directive> {
        Some(Directive::Resume)
    }
}

struct Echo;

impl Actor for Echo {
    type Msg = ReplyTo<()>;

    fn receive(&mut self, to: ReplyTo<()>, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        ctx.reply(to, ());
        Ok(Next::Continue)
    }
}

#[test]
fn an_actor_that_is_resumed_while_it_waits_for_its_turn_has_no_more_turns_than_others() {
    check_seeds(5, |builder| {
        let mut sim = builder.cores(2).start();
        let echo = sim.spawn(CORE, || Echo).unwrap();
        let turns = [100, 0].map(|faults| {
            let turns = Arc::<AtomicU32>::default();
            let of_actor = turns.clone();
            let busy = move || Busy {
                turns: of_actor,
                faults,
                echo,
            };
            let busy = sim.spawn(CORE, busy).unwrap();
            sim.tell(busy, ());
            turns
        });
        sim.run_for(SECOND / 200);
        assert_eq!(sim.stats().cores[1].faults, 100);
        let before = turns.each_ref().map(|turns| turns.load(Ordering::Relaxed));
        sim.run_for(SECOND / 200);
        let after = turns.each_ref().map(|turns| turns.load(Ordering::Relaxed));
        let [failing, other] = [0, 1].map(|n| after[n] - before[n]);
        assert!(other > 100 && failing < other * 2, "{failing} to {other}");
        sim
    });
}

/// A parent with two children; the factory of the second fails whenever it is to make one again.
struct Parent {
    log: Log,
    of_children: Supervision,
    made: Arc<AtomicU32>,
    /// The factory fails when it makes these.
    fails: std::ops::Range<u32>,
    child: Option<ActorRef<Sleep>>,
}

#[derive(Debug)]
enum Order {
    FailChild,
    Children(ReplyTo<usize>),
}

impl Actor for Parent {
    type Msg = Order;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.log.say("parent");
        ctx.spawn_actor(|| Slow)?;
        let (made, fails) = (self.made.clone(), self.fails.clone());
        let child = ctx.spawn_actor(move || {
            let number = made.fetch_add(1, Ordering::Relaxed);
            assert!(!fails.contains(&number), "no more, on purpose");
            Child
        });
        self.child = Some(child?);
        Ok(())
    }

    fn receive(&mut self, msg: Order, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match (msg, self.child) {
            (Order::FailChild, Some(child)) => ctx.tell(child, Sleep::Fail),
            (Order::FailChild, None) => {}
            (Order::Children(reply_to), _) => {
                let children = ctx.children().len();
                ctx.reply(reply_to, children);
            }
        }
        Ok(Next::Continue)
    }

    fn supervision(&self) -> Supervision {
        self.of_children.clone()
    }
}

struct Child;

impl Actor for Child {
    type Msg = Sleep;

    fn receive(&mut self, _: Sleep, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Err(Fault::new("the child"))
    }
}

/// Has the child fail once. Returns how often it was made, and the children that are left.
fn fail_child(of_children: Supervision, fails: std::ops::Range<u32>, log: &Log) -> (u32, usize) {
    let mut sim = Simulation::builder(7).cores(2).start();
    let made = Arc::<AtomicU32>::default();
    let (log, of_actor) = (log.clone(), made.clone());
    let options = SpawnOptions::default().supervised(at_once());
    let factory = move || Parent {
        log: log.clone(),
        of_children: of_children.clone(),
        made: of_actor.clone(),
        fails: fails.clone(),
        child: None,
    };
    let parent = sim.spawn_supervised(CORE, options, factory).unwrap();
    sim.tell(parent, Order::FailChild);
    sim.run_for(SECOND * 600);
    let left = sim.ask(parent, Order::Children).unwrap();
    assert!(sim.shutdown(SECOND).drained);
    (made.load(Ordering::Relaxed), left)
}

#[test]
fn a_factory_that_fails_in_a_restart_is_tried_again_from_the_top_of_the_stack() {
    let often = at_once().restarts(20_000, SECOND * 3_600);
    let (made, left) = fail_child(often.clone(), 1..u32::MAX, &Log::default());
    assert_eq!((made, left), (20_001, 1));
    assert_eq!(fail_child(often, 1..3, &Log::default()), (4, 2));
}

#[test]
fn a_factory_that_fails_in_a_restart_is_a_fault_like_any_other() {
    let log = Log::default();
    let escalating = |directive| {
        let decide = move |fault: &Fault| match fault.is_panic() {
            true => directive,
            false => Directive::Restart,
        };
        Supervision::decide(decide).backoff(Backoff::NONE)
    };
    // The parent is restarted for it.
    let up = escalating(Directive::Escalate);
    assert_eq!(fail_child(up, 1..2, &log), (3, 2));
    log.expect(&["parent", "parent"]);
    // There is nothing that could go on as it is.
    let as_it_is = escalating(Directive::Resume);
    assert_eq!(fail_child(as_it_is, 1..2, &log), (2, 1));
    // Siblings share its fate.
    let together = escalating(Directive::Stop).strategy(Strategy::AllForOne);
    assert_eq!(fail_child(together, 1..2, &log), (2, 0));
    let few = at_once().strategy(Strategy::AllForOne);
    assert_eq!(fail_child(few.restarts(2, SECOND * 60), 1..9, &log), (3, 0));
}

#[test]
fn a_shutdown_ends_also_if_a_factory_fails_for_ever() {
    let mut sim = Simulation::builder(3).cores(2).start();
    let made = Arc::<AtomicU32>::default();
    let hopeless = Supervision::default()
        .restarts(u32::MAX, Duration::MAX)
        .backoff(Backoff {
            initial: Duration::MAX,
            max: Duration::MAX,
            ..Backoff::default()
        });
    let actor = sim
        .spawn_supervised(CORE, hopeless, move || {
            assert_eq!(made.fetch_add(1, Ordering::Relaxed), 0, "on purpose");
            Child
        })
        .unwrap();
    sim.tell(actor, Sleep::Fail);
    sim.run_for(SECOND);
    sim.tell(actor, Sleep::Fail);
    assert!(!sim.shutdown(SECOND).drained);
}

/// Fails, and so does what it has given away, in the same turn.
struct Unlucky(Arc<AtomicU32>);

impl Actor for Unlucky {
    type Msg = bool;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn receive(&mut self, also_fails: bool, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        // There is no room for any future, so that each of these fails at once.
        ctx.spawn(async {}, |_| panic!("the first"));
        ctx.spawn(async {}, |_| panic!("the second"));
        if also_fails {
            return Err(Fault::new("the handler"));
        }
        Ok(Next::Continue)
    }
}

#[test]
fn a_fault_of_the_life_before_does_not_hit_the_one_that_follows_at_once() {
    check_seeds(5, |builder| {
        let bounds = Bounds {
            tasks: 0,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let lives = Arc::<AtomicU32>::default();
        let count = lives.clone();
        let unlucky = sim
            .spawn_supervised(CORE, at_once(), move || Unlucky(count.clone()))
            .unwrap();
        for (also_fails, lived, faults) in [(true, 2, 3), (false, 3, 5)] {
            sim.tell(unlucky, also_fails);
            assert!(sim.run_until_idle());
            let core = &sim.stats().cores[1];
            assert_eq!(core.restarts + 1, lived);
            assert_eq!((core.actors, core.faults), (1, faults));
            assert_eq!(u64::from(lives.load(Ordering::Relaxed)), lived);
        }
        sim
    });
}
