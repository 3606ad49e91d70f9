//! Behaviours as values: what a handler returns is what the actor becomes; decorators hold, and decide from the inside out;
//! each life begins afresh; whatever goes wrong in a user's closure stays with its actor.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim behaviors`.

use corecast::base::ids::CoreId;
use corecast::behavior::{
    Lifecycle, Sight, Spied, after, ignore, receive, restart, same, setup, spy, spy_as, stopped,
    supervise, unhandled, with_lifecycle,
};
use corecast::sim::{Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Backoff, Behaving, Behavior, Context, CoreStats, Directive,
    EntityType, Fault, Next, Rejection, ReplyTo, SpawnOptions, Supervision, Uncertainty,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// What has happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Tells an actor what to do.
#[derive(Clone, Debug, PartialEq)]
enum Do {
    Note(u32),
    /// Becomes the state of this number.
    Become(u32),
    Fail(&'static str),
    Panic,
    Restart,
    Stop,
    Nothing,
    Ignore,
}

/// A state of a machine that does as it is told, and counts what it has been told.
fn state(number: u32, log: &Log) -> Behavior<Do> {
    let log = log.clone();
    let mut told = 0;
    receive(move |_ctx, message| {
        told += 1;
        Ok(match message {
            Do::Note(n) => {
                log.note(format!("{number}.{told}: {n}"));
                same()
            }
            Do::Become(next) => state(next, &log),
            Do::Fail(why) => return Err(Fault::new(why)),
            Do::Panic => panic!("on purpose"),
            Do::Restart => restart(),
            Do::Stop => stopped(),
            Do::Nothing => unhandled(),
            Do::Ignore => ignore(),
        })
    })
}

/// Restarts at once and without end, so that what limits there are is said within.
fn patient() -> Supervision {
    Supervision::default()
        .restarts(u32::MAX, HOUR)
        .backoff(Backoff::NONE)
}

fn only(text: &'static str, directive: Directive) -> Supervision {
    let decided = Supervision::decide(move |fault| {
        if fault.to_string() == text {
            directive
        } else {
            Directive::Escalate
        }
    });
    decided.restarts(u32::MAX, HOUR).backoff(Backoff::NONE)
}

/// Starts an actor whose factory is kept.
fn spawn<M: corecast::Message>(
    sim: &mut Simulation,
    options: impl Into<SpawnOptions>,
    mut behavior: impl FnMut() -> Behavior<M> + Send + 'static,
) -> ActorRef<M> {
    let factory = move || Behaving::new(behavior());
    let spawned = sim.handle().spawn_supervised(CoreId(0), options, factory);
    sim.run_until(spawned).unwrap().unwrap()
}

fn tell_all<M: corecast::Message>(
    sim: &mut Simulation,
    actor: ActorRef<M>,
    messages: impl IntoIterator<Item = M>,
) {
    for message in messages {
        sim.tell(actor, message);
        assert!(sim.run_until_idle());
    }
}

fn core(sim: &Simulation) -> CoreStats {
    sim.stats().cores[0].clone()
}

#[test]
fn a_handler_says_how_the_actor_goes_on() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let first = sim.spawn(CoreId(0), move || Behaving::new(state(1, &for_actor)));
        let first = first.unwrap();
        let steps = [
            Do::Note(1),
            Do::Note(2),
            Do::Nothing,
            Do::Note(3),
            Do::Become(2),
            Do::Note(4),
        ];
        tell_all(&mut sim, first, steps);
        assert_eq!(log.take(), ["1.1: 1", "1.2: 2", "1.4: 3", "2.1: 4"]);
        assert_eq!(core(&sim).unhandled, 1);
        tell_all(
            &mut sim,
            first,
            [Do::Ignore, Do::Note(5), Do::Stop, Do::Panic],
        );
        assert_eq!(log.take(), [""; 0]);
        assert_eq!((core(&sim).actors, core(&sim).faults), (1, 0));
        let for_actor = log.clone();
        let other = spawn(&mut sim, "other", move || state(3, &for_actor));
        tell_all(&mut sim, other, [Do::Note(1), Do::Stop, Do::Note(2)]);
        assert_eq!(log.take(), ["3.1: 1"]);
        let dead = core(&sim).dead_letters;
        assert_eq!(dead, [(Rejection::NoSuchActor, 1)]);
        assert_eq!((core(&sim).actors, core(&sim).faults), (1, 0));
        sim
    });
}

#[derive(Debug)]
enum Cart {
    Add(&'static str, u32),
    Remove(&'static str),
    Total(ReplyTo<u32>),
    CheckOut(ReplyTo<Vec<&'static str>>),
}

fn empty_cart() -> Behavior<Cart> {
    receive(|ctx, message| match message {
        Cart::Add(item, price) => active_cart(vec![(item, price)]),
        Cart::Total(reply_to) => {
            ctx.reply(reply_to, 0);
            same()
        }
        Cart::Remove(_) | Cart::CheckOut(_) => unhandled(),
    })
}

fn active_cart(mut items: Vec<(&'static str, u32)>) -> Behavior<Cart> {
    receive(move |ctx, message| match message {
        Cart::Add(item, price) => {
            items.push((item, price));
            same()
        }
        Cart::Remove(item) => {
            items.retain(|(name, _)| *name != item);
            if items.is_empty() {
                empty_cart()
            } else {
                same()
            }
        }
        Cart::Total(reply_to) => {
            ctx.reply(reply_to, items.iter().map(|(_, price)| price).sum());
            same()
        }
        Cart::CheckOut(reply_to) => {
            ctx.reply(reply_to, items.iter().map(|(item, _)| *item).collect());
            checked_out_cart()
        }
    })
}

fn checked_out_cart() -> Behavior<Cart> {
    receive(|_ctx, _message| unhandled())
}

#[test]
fn a_shopping_cart_is_a_function_for_each_state() {
    check_seeds(5, |mut builder| {
        let carts = EntityType::ephemeral("cart", |_: &u64| Behaving::new(empty_cart()));
        let carts = builder.entities(carts.passivate_after(HOUR));
        let mut sim = builder.cores(2).start();
        let refused = Err(AskError::Unknown(Uncertainty::DroppedUnanswered));
        for id in 0..5 {
            let cart = carts.entity(&id);
            assert_eq!(sim.ask(cart, Cart::Total), Ok(0));
            assert_eq!(sim.ask(cart, Cart::CheckOut), refused);
            sim.tell(cart, Cart::Add("lamp", 30));
            sim.tell(cart, Cart::Remove("lamp"));
            assert_eq!(sim.ask(cart, Cart::CheckOut), refused, "empty again");
            sim.tell(cart, Cart::Add("lamp", 30));
            sim.tell(cart, Cart::Add("chair", 70));
            assert_eq!(sim.ask(cart, Cart::Total), Ok(100));
            assert_eq!(sim.ask(cart, Cart::CheckOut), Ok(vec!["lamp", "chair"]));
            sim.tell(cart, Cart::Add("table", 200));
            assert_eq!(sim.ask(cart, Cart::CheckOut), refused);
        }
        sim.run_for(2 * HOUR);
        let cart = carts.entity(&3);
        assert_eq!(sim.ask(cart, Cart::Total), Ok(0), "it starts afresh");
        let unhandled: u64 = sim.stats().cores.iter().map(|core| core.unhandled).sum();
        assert_eq!(unhandled, 5 * 4);
        sim
    });
}

fn hooks(name: &'static str, log: &Log) -> Lifecycle<Do> {
    let (start, stop, before, behind) = (log.clone(), log.clone(), log.clone(), log.clone());
    Lifecycle::new()
        .pre_start(move |_ctx| {
            start.note(format!("{name} pre_start"));
            Ok(())
        })
        .post_stop(move |_ctx| stop.note(format!("{name} post_stop")))
        .pre_restart(move |_ctx, fault| before.note(format!("{name} pre_restart: {fault}")))
        .post_restart(move |_ctx, fault| {
            behind.note(format!("{name} post_restart: {fault}"));
            Ok(())
        })
}

#[test]
fn each_life_begins_afresh_and_hooks_run_from_the_inside_out() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, patient(), move || {
            let log = for_actor.clone();
            let inside = log.clone();
            let set_up = setup(move |ctx| {
                inside.note("setup");
                let child = inside.clone();
                ctx.spawn_actor(move || {
                    let stop = child.clone();
                    let hooks = Lifecycle::new().post_stop(move |_| stop.note("child stops"));
                    Behaving::new(with_lifecycle(state(9, &child), hooks))
                })?;
                Ok(with_lifecycle(state(1, &inside), hooks("inner", &inside)))
            });
            with_lifecycle(set_up, hooks("outer", &log))
        });
        assert!(sim.run_until_idle());
        let begin = ["setup", "inner pre_start", "outer pre_start"];
        assert_eq!(log.take(), begin);
        let steps = [Do::Note(1), Do::Become(2), Do::Note(2)];
        tell_all(&mut sim, actor, steps);
        assert_eq!(log.take(), ["1.1: 1", "2.1: 2"]);
        // What waits behind the message that fails is kept.
        sim.tell(actor, Do::Fail("oh"));
        sim.tell(actor, Do::Note(3));
        assert!(sim.run_until_idle());
        let again = [
            "child stops",
            "inner pre_restart: oh",
            "outer pre_restart: oh",
            "setup",
            "inner post_restart: oh",
            "outer post_restart: oh",
            "inner pre_start",
            "outer pre_start",
            "1.1: 3",
        ];
        assert_eq!(log.take(), again);
        tell_all(&mut sim, actor, [Do::Become(2), Do::Stop]);
        let end = ["child stops", "inner post_stop", "outer post_stop"];
        assert_eq!(log.take(), end);
        assert_eq!(core(&sim).actors, 0);
        sim
    });
}

#[test]
fn what_is_given_back_at_the_stop_is_given_back_at_a_restart() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, patient(), move || {
            let stop = for_actor.clone();
            let hooks = Lifecycle::new().post_stop(move |_| stop.note("post_stop"));
            with_lifecycle(state(1, &for_actor), hooks)
        });
        tell_all(&mut sim, actor, [Do::Fail("oh"), Do::Note(1), Do::Stop]);
        assert_eq!(log.take(), ["post_stop", "1.1: 1", "post_stop"]);
        sim
    });
}

/// A machine that notes when it begins, with a supervision around it, and whatever around that.
fn begin(log: &Log, number: u32) -> Behavior<Do> {
    let log = log.clone();
    setup(move |_| {
        log.note("begins");
        state(number, &log)
    })
}

#[test]
fn the_innermost_supervision_that_does_not_escalate_decides() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let outside = only("stop", Directive::Stop);
        let actor = spawn(&mut sim, outside, move || {
            let inner = supervise(begin(&for_actor, 1), only("resume", Directive::Resume));
            let hooked = with_lifecycle(inner, Lifecycle::new());
            supervise(hooked, only("restart", Directive::Restart))
        });
        // Also once the behaviour inside has become another.
        tell_all(&mut sim, actor, [Do::Note(1), Do::Become(2)]);
        let steps = [Do::Note(1), Do::Fail("resume"), Do::Note(2)];
        tell_all(&mut sim, actor, steps);
        assert_eq!(log.take(), ["begins", "1.1: 1", "2.1: 1", "2.3: 2"]);
        tell_all(&mut sim, actor, [Do::Fail("restart"), Do::Note(3)]);
        assert_eq!(log.take(), ["begins", "1.1: 3"]);
        tell_all(
            &mut sim,
            actor,
            [Do::Become(2), Do::Fail("stop"), Do::Note(4)],
        );
        assert_eq!(log.take(), [""; 0]);
        assert_eq!((core(&sim).faults, core(&sim).restarts), (3, 1));
        assert_eq!(core(&sim).actors, 0);
        sim
    });
}

#[test]
fn every_supervision_has_its_own_limit_and_looks_at_all_restarts() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let start = |sim: &mut Simulation| {
            let for_actor = log.clone();
            spawn(sim, patient(), move || {
                let seldom = only("seldom", Directive::Restart).restarts(1, HOUR);
                let often = only("often", Directive::Restart).restarts(3, HOUR / 2);
                supervise(supervise(begin(&for_actor, 1), seldom), often)
            })
        };
        let actor = start(&mut sim);
        tell_all(
            &mut sim,
            actor,
            [Do::Fail("seldom"), Do::Fail("often"), Do::Note(1)],
        );
        assert_eq!(log.take(), ["begins", "begins", "begins", "1.1: 1"]);
        // Two within the hour are more than the inner one allows.
        tell_all(&mut sim, actor, [Do::Fail("seldom"), Do::Note(2)]);
        assert_eq!((log.take(), core(&sim).actors), (vec![], 0));

        let actor = start(&mut sim);
        tell_all(
            &mut sim,
            actor,
            [Do::Fail("seldom"), Do::Fail("often"), Do::Fail("often")],
        );
        tell_all(&mut sim, actor, [Do::Fail("other"), Do::Note(1)]);
        assert_eq!(log.take().len(), 6, "nobody limits what is said outside");
        sim.run_for(HOUR / 2);
        tell_all(&mut sim, actor, [Do::Fail("often"), Do::Note(2)]);
        assert_eq!(log.take(), ["begins", "1.1: 2"], "theirs is over by now");
        tell_all(&mut sim, actor, [Do::Fail("seldom")]);
        assert_eq!((log.take(), core(&sim).actors), (vec![], 0));
        sim
    });
}

#[test]
fn a_supervision_brings_its_own_backoff() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, patient(), move || {
            let slow = Backoff {
                initial: MS * 500,
                jitter: 0.0,
                ..Backoff::default()
            };
            let slowly = only("slow", Directive::Restart).backoff(slow);
            supervise(begin(&for_actor, 1), slowly)
        });
        sim.tell(actor, Do::Fail("fast"));
        sim.run_for(MS * 10);
        assert_eq!(log.take(), ["begins", "begins"]);
        tell_all(&mut sim, actor, [Do::Note(1)]);
        log.take();
        sim.tell(actor, Do::Fail("slow"));
        sim.run_for(MS * 490);
        assert_eq!(log.take(), [""; 0]);
        sim.run_for(MS * 20);
        assert_eq!(log.take(), ["begins"]);
        sim
    });
}

#[test]
fn a_wanted_restart_comes_whatever_is_decided_about_faults() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        for directive in [Directive::Resume, Directive::Stop, Directive::Escalate] {
            let for_actor = log.clone();
            let actor = spawn(&mut sim, Supervision::always(directive), move || {
                let once = Supervision::always(directive).restarts(1, HOUR);
                supervise(begin(&for_actor, 1), once.backoff(Backoff::NONE))
            });
            tell_all(&mut sim, actor, [Do::Note(1), Do::Restart, Do::Note(2)]);
            assert_eq!(log.take(), ["begins", "1.1: 1", "begins", "1.1: 2"]);
            // But not more often than restarts may.
            tell_all(&mut sim, actor, [Do::Restart, Do::Note(3)]);
            assert_eq!((log.take(), core(&sim).actors), (vec![], 0));
        }
        // Nobody could make it again.
        let for_actor = log.clone();
        let once = sim.spawn(CoreId(0), move || Behaving::new(begin(&for_actor, 1)));
        tell_all(&mut sim, once.unwrap(), [Do::Restart, Do::Note(1)]);
        assert_eq!(
            (log.take(), core(&sim).actors),
            (vec!["begins".to_owned()], 0)
        );
        sim
    });
}

/// Decorators that come with a behaviour take the place of those that came before, and none is left of an earlier life.
#[test]
fn decorators_that_a_handler_returns_take_each_others_place() {
    fn nested(depth: u32, log: &Log) -> Behavior<Do> {
        let this = log.clone();
        let machine = receive(move |_ctx, message| match message {
            Do::Become(next) => Ok(nested(next, &this)),
            Do::Fail(why) => Err(Fault::new(why)),
            Do::Stop => Ok(stopped()),
            _ => Ok(same()),
        });
        let texts = ["zero", "one", "two", "three"];
        let told = log.clone();
        let hooks = Lifecycle::new().post_stop(move |_| told.note(texts[depth as usize]));
        let decided = only(texts[depth as usize], Directive::Resume);
        with_lifecycle(supervise(machine, decided), hooks)
    }
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, patient(), move || nested(0, &for_actor));
        tell_all(&mut sim, actor, [1, 2, 3, 2].map(Do::Become));
        tell_all(&mut sim, actor, [Do::Fail("zero"), Do::Fail("two")]);
        assert_eq!((log.take(), core(&sim).restarts), (vec![], 0));
        tell_all(&mut sim, actor, [Do::Fail("one")]);
        assert_eq!(log.take(), ["two", "zero"], "the hooks before the restart");
        tell_all(&mut sim, actor, [Do::Fail("two")]);
        assert_eq!(
            (log.take(), core(&sim).restarts),
            (vec!["zero".to_owned()], 2)
        );
        tell_all(&mut sim, actor, [1, 2, 3].map(Do::Become));
        tell_all(&mut sim, actor, [Do::Stop]);
        assert_eq!(log.take(), ["three", "zero"]);
        sim
    });
}

#[test]
fn a_supervision_that_a_handler_returned_ends_with_its_life() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let actor = spawn(&mut sim, patient(), move || {
            let log = log.clone();
            receive(move |_ctx, message| match message {
                Do::Become(next) => Ok(supervise(state(next, &log), only("oh", Directive::Resume))),
                _ => Err(Fault::new("oh")),
            })
        });
        let steps = [Do::Become(1), Do::Fail("oh"), Do::Fail("more")];
        tell_all(&mut sim, actor, steps);
        assert_eq!((core(&sim).faults, core(&sim).restarts), (2, 1));
        tell_all(&mut sim, actor, [Do::Fail("oh")]);
        assert_eq!((core(&sim).faults, core(&sim).restarts), (3, 2));
        sim
    });
}

/// What a handler returns may be made of several things, which are one behaviour all the same.
#[test]
fn decorators_around_what_is_waited_for_hold_together() {
    fn machine(log: &Log) -> Behavior<Do> {
        let log = log.clone();
        receive(move |ctx, message| match message {
            Do::Become(number) => {
                let nap = ctx.sleep(MS);
                let log = log.clone();
                let waiting = after(nap, move |_ctx, ()| {
                    let told = log.clone();
                    setup(move |ctx| {
                        told.note("set up");
                        // Not in the way of anybody.
                        let nap = ctx.sleep(MS);
                        ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
                        with_lifecycle(machine(&told), hooks("late", &told))
                    })
                });
                let text = if number == 1 { "one" } else { "two" };
                Ok(supervise(waiting, only(text, Directive::Resume)))
            }
            Do::Note(n) => {
                log.note(format!("{n}"));
                Ok(same())
            }
            // The handler stays as it is; what is around it does not.
            Do::Ignore => Ok(supervise(same(), only("same", Directive::Resume))),
            Do::Fail(why) => Err(Fault::new(why)),
            _ => Ok(stopped()),
        })
    }
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, Supervision::always(Directive::Stop), move || {
            let told = for_actor.clone();
            let beginning = setup(move |ctx| {
                let nap = ctx.sleep(MS);
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
                machine(&told)
            });
            with_lifecycle(beginning, hooks("early", &for_actor))
        });
        for message in [Do::Note(1), Do::Become(1), Do::Fail("one"), Do::Note(2)] {
            sim.tell(actor, message);
        }
        sim.run_for(MS * 20);
        assert_eq!(log.take(), ["early pre_start", "1", "set up", "2"]);
        for message in [Do::Become(2), Do::Fail("two"), Do::Ignore, Do::Fail("same")] {
            sim.tell(actor, message);
        }
        sim.run_for(MS * 20);
        assert_eq!(
            (log.take(), core(&sim).faults),
            (vec!["set up".to_owned()], 3)
        );
        // The hooks went with the supervision that was around them.
        tell_all(&mut sim, actor, [Do::Fail("two")]);
        assert_eq!(
            (log.take(), core(&sim).actors),
            (vec!["early post_stop".to_owned()], 0)
        );
        sim
    });
}

fn collect<V: corecast::Message>(
    seen: Arc<Mutex<Vec<Sight<V>>>>,
    path: &'static str,
) -> Behavior<Spied<V>> {
    receive(move |ctx, spied: Spied<V>| {
        assert_eq!(*spied.path, *path);
        assert!(spied.at <= ctx.now());
        seen.lock().unwrap().push(spied.sight);
        same()
    })
}

#[test]
fn a_spy_sees_everything_and_changes_nothing() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        let mut runs = Vec::new();
        for is_spied in [false, true] {
            let log = Log::default();
            let seen = Arc::new(Mutex::new(Vec::new()));
            let collector = seen.clone();
            // On another core, where it may even be gone.
            let observer = sim
                .spawn(CoreId(1), move || {
                    Behaving::new(collect(collector, "spied"))
                })
                .unwrap();
            let for_actor = log.clone();
            let options = SpawnOptions::default().named("spied").supervised(patient());
            let actor = spawn(&mut sim, options, move || {
                let machine = begin(&for_actor, 1);
                let hooked = with_lifecycle(
                    if is_spied {
                        spy(machine, observer)
                    } else {
                        machine
                    },
                    hooks("its", &for_actor),
                );
                supervise(hooked, only("resume", Directive::Resume))
            });
            let steps = [
                Do::Note(1),
                Do::Become(2),
                Do::Fail("resume"),
                Do::Note(2),
                Do::Fail("restart"),
                Do::Note(3),
                Do::Panic,
                Do::Nothing,
                Do::Stop,
            ];
            let before = core(&sim);
            tell_all(&mut sim, actor, steps.clone());
            let end = core(&sim);
            let counted = (end.faults - before.faults, end.restarts - before.restarts);
            runs.push((log.take(), counted, end.unhandled - before.unhandled));
            let messages = steps.map(Sight::Message).into_iter();
            let expected: Vec<_> = messages.chain([Sight::Stopped]).collect();
            let expected = if is_spied { expected } else { vec![] };
            assert_eq!(*seen.lock().unwrap(), expected);
        }
        assert_eq!(runs[0], runs[1]);
        assert_eq!((runs[0].1, runs[0].2), ((3, 2), 1));
        sim
    });
}

#[test]
fn what_goes_wrong_with_a_spy_is_not_noticed_by_whom_it_watches() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let collector = seen.clone();
        let observer = sim
            .spawn(CoreId(0), move || {
                Behaving::new(collect(collector, "spied"))
            })
            .unwrap();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, "spied", move || {
            spy_as(state(1, &for_actor), observer, |message| {
                assert!(*message != Do::Note(1), "on purpose");
                format!("{message:?}")
            })
        });
        tell_all(&mut sim, actor, [Do::Note(1), Do::Note(2)]);
        assert_eq!(log.take(), ["1.1: 1", "1.2: 2"]);
        assert_eq!(
            *seen.lock().unwrap(),
            [Sight::Message("Note(2)".to_owned())]
        );
        sim.handle().stop(observer).unwrap();
        assert!(sim.run_until_idle());
        tell_all(&mut sim, actor, [Do::Note(3), Do::Stop]);
        assert_eq!(log.take(), ["1.3: 3"]);
        assert_eq!(core(&sim).faults, 0);
        assert_eq!(core(&sim).dead_letters, [(Rejection::NoSuchActor, 3)]);
        sim
    });
}

/// A behaviour that is waited for: at the start, and in the middle.
#[test]
fn messages_wait_for_the_behaviour_that_a_future_brings() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let actor = spawn(&mut sim, patient(), move || {
            let log = for_actor.clone();
            let hooked = hooks("its", &log);
            let loading = setup(move |ctx| {
                log.note("setup");
                let nap = ctx.sleep(MS * 20);
                after(nap, move |ctx, ()| {
                    let nap = ctx.sleep(MS * 20);
                    after(nap, move |_ctx, ()| waiting(&log))
                })
            });
            with_lifecycle(loading, hooked)
        });
        sim.tell(actor, Do::Note(1));
        sim.run_for(MS * 30);
        assert_eq!(log.take(), ["setup"]);
        sim.run_for(MS * 30);
        assert_eq!(log.take(), ["its pre_start", "wait: Note(1)"]);
        for message in [Do::Become(1), Do::Note(2), Do::Note(3)] {
            sim.tell(actor, message);
        }
        sim.run_for(MS * 10);
        assert_eq!(log.take(), [""; 0]);
        sim.run_for(MS * 50);
        assert_eq!(log.take(), ["1.1: 2", "1.2: 3"]);

        sim.tell(actor, Do::Restart);
        sim.run_for(MS * 10);
        let restarting = ["its pre_restart: it asked to be restarted", "setup"];
        assert_eq!(log.take(), restarting);
        sim.run_for(MS * 50);
        let started = [
            "its post_restart: it asked to be restarted",
            "its pre_start",
        ];
        assert_eq!(log.take(), started);

        // What comes of it may also be a fault, or nothing new.
        for message in [Do::Nothing, Do::Note(4), Do::Fail("later")] {
            sim.tell(actor, message);
        }
        sim.run_for(MS * 70);
        let expected = ["wait: Note(4)", "its pre_restart: later", "setup"];
        assert_eq!(log.take(), expected);
        sim.run_for(MS * 50);
        sim.tell(actor, Do::Stop);
        sim.run_for(MS * 50);
        assert_eq!(log.take().last().unwrap(), "its post_stop");
        assert_eq!(core(&sim).actors, 0);
        sim
    });

    fn waiting(log: &Log) -> Behavior<Do> {
        let log = log.clone();
        receive(move |ctx, message| {
            if let Do::Note(_) = message {
                log.note(format!("wait: {message:?}"));
                return same();
            }
            let log = log.clone();
            let nap = ctx.sleep(MS * 20);
            after(nap, move |_ctx, ()| match message {
                Do::Become(next) => Ok(state(next, &log)),
                Do::Fail(why) => Err(Fault::new(why)),
                Do::Stop => Ok(stopped()),
                _ => Ok(same()),
            })
        })
    }
}

#[test]
fn a_beginning_without_a_behaviour() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let stops = log.clone();
        let actor = spawn(&mut sim, "stops", move || {
            with_lifecycle(setup(|_| stopped()), hooks("its", &stops))
        });
        assert!(sim.run_until_idle());
        assert_eq!(log.take(), ["its post_stop"]);
        tell_all(&mut sim, actor, [Do::Note(1)]);
        assert_eq!((core(&sim).actors, core(&sim).faults), (0, 0));

        let nothing: [fn() -> Behavior<Do>; 3] = [same, unhandled, || setup(|_| same())];
        for (done, behavior) in nothing.into_iter().enumerate() {
            let actor = spawn(&mut sim, Supervision::always(Directive::Stop), behavior);
            tell_all(&mut sim, actor, [Do::Note(1)]);
            assert_eq!((core(&sim).actors, core(&sim).faults), (0, done as u64 + 1));
        }
        // Resumed, it has still nothing to handle a message with.
        let actor = spawn(&mut sim, Supervision::always(Directive::Resume), || {
            setup(|_| Err::<Behavior<Do>, _>(Fault::new("oh")))
        });
        tell_all(&mut sim, actor, [Do::Note(1), Do::Note(2)]);
        assert_eq!((core(&sim).actors, core(&sim).faults), (1, 6));
        sim
    });
}

/// Where something of a user's panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Setup,
    Handler,
    PreStart,
    PostStop,
    Decider,
    DropOfReplaced,
    DropOfDecorators,
    DropAtTheEnd,
    AfterFuture,
}

/// Panics when it is dropped, unless a panic is under way.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb was dropped");
    }
}

fn victim(place: Where) -> Behavior<Do> {
    let bomb = matches!(place, Where::DropOfReplaced | Where::DropAtTheEnd).then(|| Bomb);
    let inner = receive(move |_ctx, message| {
        let _kept = &bomb;
        match (place, message) {
            (Where::Handler, _) => panic!("on purpose"),
            (Where::Decider, _) => Err(Fault::new("decide")),
            (Where::DropOfReplaced, _) => Ok(ignore()),
            (Where::DropOfDecorators, Do::Note(n)) => Ok(bombed(n)),
            (Where::AfterFuture, _) => Ok(after(async {}, |_, ()| -> Behavior<Do> {
                panic!("on purpose")
            })),
            _ => Ok(stopped()),
        }
    });
    let hooks = Lifecycle::new()
        .pre_start(move |_| {
            assert!(place != Where::PreStart, "on purpose");
            Ok(())
        })
        .post_stop(move |_| assert!(place != Where::PostStop, "on purpose"));
    let decided = Supervision::decide(move |_| {
        assert!(place != Where::Decider, "on purpose");
        Directive::Escalate
    });
    supervise(
        with_lifecycle(
            setup(move |_| {
                assert!(place != Where::Setup, "on purpose");
                inner
            }),
            hooks,
        ),
        decided,
    )
}

/// A behaviour with two bombs around it, which become another pair the next time.
fn bombed(times: u32) -> Behavior<Do> {
    let (one, two) = (Bomb, Bomb);
    let hooks = Lifecycle::new()
        .post_stop(move |_| std::mem::forget(one))
        .post_restart(move |_, _| {
            std::mem::forget(two);
            Ok(())
        });
    let again = receive(move |_ctx, _message| match times {
        0 => stopped(),
        _ => bombed(times - 1),
    });
    with_lifecycle(again, hooks)
}

#[test]
fn a_panic_is_its_actors_alone() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_neighbour = log.clone();
        let neighbour = spawn(&mut sim, "neighbour", move || state(1, &for_neighbour));
        let mut faults = 0;
        for (place, fault) in [
            (Where::Setup, true),
            (Where::Handler, true),
            (Where::PreStart, true),
            (Where::PostStop, false),
            (Where::Decider, true),
            (Where::DropOfReplaced, true),
            (Where::DropOfDecorators, false),
            (Where::DropAtTheEnd, false),
            (Where::AfterFuture, true),
        ] {
            let stop = Supervision::always(Directive::Stop);
            let actor = spawn(&mut sim, stop, move || victim(place));
            tell_all(
                &mut sim,
                actor,
                [Do::Note(2), Do::Note(0), Do::Note(0), Do::Stop],
            );
            sim.run_for(MS * 10);
            faults += u64::from(fault);
            assert_eq!(
                (core(&sim).faults, core(&sim).actors),
                (faults, 1),
                "{place:?}"
            );
            tell_all(&mut sim, neighbour, [Do::Note(1)]);
            assert_eq!(log.take().len(), 1, "{place:?}");
        }
        sim
    });
}

/// Asks a behaviour, spawns one, and has a fault of it escalated.
#[derive(Debug)]
enum Boss {
    Hire,
    Hired(Result<u32, AskError>),
    Tell(Do),
    Tick,
}

#[derive(Debug)]
enum Work {
    Ask(ReplyTo<u32>),
    Do(Do),
}

fn boss(log: &Log) -> Behavior<Boss> {
    let log = log.clone();
    setup(move |ctx| {
        log.note("boss begins");
        let options = SpawnOptions::default().supervised(Supervision::always(Directive::Escalate));
        let worker = ctx.spawn_actor_with(options, || {
            Behaving::new(receive(|ctx, work| match work {
                Work::Ask(reply_to) => {
                    ctx.reply(reply_to, 7);
                    Ok(same())
                }
                Work::Do(Do::Fail(why)) => Err(Fault::new(why)),
                Work::Do(_) => Ok(unhandled()),
            }))
        })?;
        Ok(receive(move |ctx, message| {
            match message {
                Boss::Hire => ctx.ask(worker, Work::Ask, Boss::Hired),
                Boss::Hired(answer) => {
                    log.note(format!("{answer:?}"));
                    ctx.start_timer("tick", MS * 5, Boss::Tick)?;
                }
                Boss::Tell(what) => ctx.tell(worker, Work::Do(what)),
                Boss::Tick => log.note("tick"),
            }
            Ok(same())
        }))
    })
}

#[test]
fn a_behaviour_does_what_an_actor_does_and_answers_for_its_children() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let for_actor = log.clone();
        let outside = Supervision::always(Directive::Stop);
        let boss = spawn(&mut sim, outside, move || {
            supervise(boss(&for_actor), only("again", Directive::Restart))
        });
        sim.tell(boss, Boss::Hire);
        sim.run_for(MS * 10);
        assert_eq!(log.take(), ["boss begins", "Ok(7)", "tick"]);
        sim.tell(boss, Boss::Tell(Do::Fail("again")));
        sim.tell(boss, Boss::Hire);
        sim.run_for(MS * 10);
        let again = log.take();
        assert_eq!(again[0], "boss begins", "{again:?}");
        sim.tell(boss, Boss::Tell(Do::Fail("enough")));
        sim.run_for(MS * 10);
        assert_eq!((log.take(), core(&sim).actors), (vec![], 0));
        sim
    });
}

/// A struct actor and a behaviour are spawned by the same calls, and one supervises the other.
#[test]
fn behaviours_are_children_of_struct_actors() {
    struct Parent(Log);

    impl Actor for Parent {
        type Msg = Do;

        fn receive(&mut self, message: Do, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
            let child = ctx.child::<Do>("machine").map_err(Fault::from)?;
            let child = match child {
                Some(child) => child,
                None => {
                    let log = self.0.clone();
                    ctx.spawn_actor_with("machine", move || Behaving::new(begin(&log, 1)))?
                }
            };
            ctx.tell(child, message);
            Ok(Next::Continue)
        }

        fn supervision(&self) -> Supervision {
            patient()
        }
    }

    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let log = Log::default();
        let parent = Parent(log.clone());
        let parent = sim.spawn(CoreId(0), move || parent).unwrap();
        let steps = [
            Do::Note(1),
            Do::Fail("oh"),
            Do::Note(2),
            Do::Stop,
            Do::Note(3),
        ];
        tell_all(&mut sim, parent, steps);
        let expected = ["begins", "1.1: 1", "begins", "1.1: 2", "begins", "1.1: 3"];
        assert_eq!(log.take(), expected);
        sim
    });
}
