//! Families and faults: who is restarted, who stops, in which order their hooks run, and what survives.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim supervision`.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, ActorRestarted, AskError, Backoff, Context, Directive, EntityType, Fault,
    Next, Rejection, ReplyTo, SpawnError, SpawnOptions, Strategy, Supervision, Time,
    WrongMessageType,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CORE: CoreId = CoreId(1);
const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    #[track_caller]
    fn expect(&self, wanted: &str) {
        assert_eq!(self.take().join(", "), wanted);
    }
}

/// An actor that does what it is told, and says what happens to it.
struct Puppet {
    name: String,
    log: Log,
    /// Messages handled in this life.
    handled: u32,
    /// For its children.
    supervision: Supervision,
    on_error: Option<Directive>,
}

impl Puppet {
    fn new(name: &str, log: &Log) -> Puppet {
        Puppet {
            name: name.to_owned(),
            log: log.clone(),
            handled: 0,
            supervision: Supervision::default().backoff(Backoff::NONE),
            on_error: None,
        }
    }

    fn say(&self, what: &str) {
        self.log.say(format!("{} {what}", self.name));
    }
}

#[derive(Debug)]
enum Msg {
    Fail(&'static str),
    Panic,
    Count(ReplyTo<u32>),
    Tick,
    StartTimer,
    /// Suspends the actor for a second; then it says so.
    Suspend,
    SpawnAs(
        &'static str,
        Option<Supervision>,
        ReplyTo<Result<ActorRef<Msg>, SpawnError>>,
    ),
    SetOnError(Directive),
    Names(ReplyTo<Vec<String>>),
    Path(ReplyTo<String>),
    StopChild(&'static str),
    Stop,
    /// Spawns a line of descendants of this length.
    Line(u32),
}

impl Actor for Puppet {
    type Msg = Msg;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.say("starts");
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.handled += 1;
        match msg {
            Msg::Fail(why) => return Err(Fault::new(why)),
            Msg::Panic => panic!("on purpose"),
            Msg::Count(reply_to) => ctx.reply(reply_to, self.handled),
            Msg::Tick => self.say("ticks"),
            Msg::StartTimer => ctx.start_periodic("tick", SECOND, || Msg::Tick)?,
            Msg::Suspend => {
                let nap = ctx.sleep(SECOND);
                ctx.suspend(nap, |puppet, (), _| {
                    puppet.say("wakes");
                    Ok(Next::Continue)
                });
            }
            Msg::SpawnAs(name, supervision, reply_to) => {
                let log = self.log.clone();
                let mut options = SpawnOptions::from(name);
                if let Some(supervision) = supervision {
                    options = options.supervised(supervision);
                }
                let child = ctx.spawn_actor_with(options, move || Puppet::new(name, &log));
                ctx.reply(reply_to, child);
            }
            Msg::SetOnError(directive) => self.on_error = Some(directive),
            Msg::Names(reply_to) => {
                let names = ctx.children().into_iter().filter_map(|child| child.name);
                ctx.reply(reply_to, names.collect());
            }
            Msg::Path(reply_to) => {
                let path = ctx.path();
                ctx.reply(reply_to, path);
            }
            Msg::StopChild(name) => {
                let mut children = ctx.children().into_iter();
                let child = children.find(|child| child.name.as_deref() == Some(name));
                assert!(ctx.stop_child(child.unwrap().actor));
            }
            Msg::Stop => return Ok(Next::Stop),
            Msg::Line(left) => {
                if left > 0 {
                    let log = Log::default();
                    let child = ctx.spawn_actor(move || Puppet::new("link", &log))?;
                    ctx.tell(child, Msg::Line(left - 1));
                }
            }
        }
        Ok(Next::Continue)
    }

    fn on_error(&mut self, _: &Fault, _: &mut Context<'_, Self>) -> Option<Directive> {
        self.on_error
    }

    fn supervision(&self) -> Supervision {
        self.supervision.clone()
    }

    fn pre_restart(&mut self, fault: &Fault, _: &mut Context<'_, Self>) {
        self.say(&format!("goes down by {fault}"));
    }

    fn post_restart(&mut self, fault: &Fault, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.say(&format!("comes back after {fault}"));
        Ok(())
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.say("stops");
    }
}

/// A boss that is restarted without a wait, and whose children are supervised so.
fn boss(sim: &mut Simulation, log: &Log, of_children: Supervision) -> ActorRef<Msg> {
    let log = log.clone();
    let factory = move || Puppet {
        supervision: of_children.clone(),
        ..Puppet::new("boss", &log)
    };
    let at_once = Supervision::default().backoff(Backoff::NONE);
    sim.spawn_supervised(
        CORE,
        SpawnOptions::from("boss").supervised(at_once),
        factory,
    )
    .unwrap()
}

fn child(sim: &mut Simulation, of: ActorRef<Msg>, name: &'static str) -> ActorRef<Msg> {
    sim.ask(of, move |reply_to| Msg::SpawnAs(name, None, reply_to))
        .unwrap()
        .unwrap()
}

fn with_family(
    of_children: &Supervision,
    test: impl Fn(&mut Simulation, &Log, ActorRef<Msg>, [ActorRef<Msg>; 3]),
) {
    check_seeds(20, |builder: SimulationBuilder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let boss = boss(&mut sim, &log, of_children.clone());
        let children = ["a", "b", "c"].map(|name| child(&mut sim, boss, name));
        sim.run_until_idle();
        log.expect("boss starts, a starts, b starts, c starts");
        test(&mut sim, &log, boss, children);
        sim
    });
}

fn at_once() -> Supervision {
    Supervision::default().backoff(Backoff::NONE)
}

#[test]
fn a_restart_runs_the_hooks_in_order_and_keeps_the_mailbox() {
    with_family(&at_once(), |sim, log, boss, [a, ..]| {
        let grandchild = child(sim, a, "grandchild");
        sim.tell(a, Msg::StartTimer);
        sim.run_until_idle();
        log.take();
        let counted = sim.handle().ask(a, Msg::Count);
        let failed = sim.handle();
        failed.tell(a, Msg::Fail("it broke"));
        let left = [failed.ask(a, Msg::Count), failed.ask(a, Msg::Count)];
        assert_eq!(sim.run_until(counted).unwrap(), Ok(3));
        let left = left.map(|count| sim.run_until(count).unwrap());
        assert_eq!(left, [Ok(1), Ok(2)], "a new state, and the same mailbox");
        log.expect(
            "grandchild stops, a goes down by it broke, a comes back after it broke, a starts",
        );
        sim.run_for(SECOND * 5);
        log.expect("");
        assert_eq!(
            sim.ask(grandchild, Msg::Count),
            Err(AskError::Rejected(Rejection::NoSuchActor))
        );
        assert_eq!(
            sim.ask(boss, Msg::Names),
            Ok(vec!["a".into(), "b".into(), "c".into()])
        );
        assert_eq!(sim.stats().cores[1].restarts, 1);
    });
}

#[test]
fn whoever_shares_the_fate_of_one_that_fails() {
    let one = at_once();
    with_family(&one, |sim, log, _, [_, b, _]| {
        sim.tell(b, Msg::Panic);
        sim.run_until_idle();
        log.expect("b goes down by on purpose, b comes back after on purpose, b starts");
    });
    let all = at_once().strategy(Strategy::AllForOne);
    with_family(&all, |sim, log, _, [_, b, _]| {
        sim.tell(b, Msg::Fail("x"));
        sim.run_until_idle();
        let log = log.take();
        assert_eq!(
            log[..3].join(", "),
            "c goes down by x, b goes down by x, a goes down by x"
        );
        assert_eq!(log.len(), 9, "{log:?}");
    });
    let rest = at_once().strategy(Strategy::RestForOne);
    with_family(&rest, |sim, log, _, [_, b, _]| {
        sim.tell(b, Msg::Fail("x"));
        sim.run_until_idle();
        let log = log.take();
        assert_eq!(log[..2].join(", "), "c goes down by x, b goes down by x");
        assert!(log.iter().all(|line| !line.starts_with('a')), "{log:?}");
    });
    let stop = Supervision::always(Directive::Stop).strategy(Strategy::RestForOne);
    with_family(&stop, |sim, log, boss, [_, b, _]| {
        sim.tell(b, Msg::Fail("x"));
        sim.run_until_idle();
        log.expect("c stops, b stops");
        assert_eq!(sim.ask(boss, Msg::Names), Ok(vec!["a".into()]));
    });
}

#[test]
fn each_fault_has_its_directive() {
    let decided = Supervision::decide(|fault| match fault.to_string().as_str() {
        "resume" => Directive::Resume,
        "stop" => Directive::Stop,
        "escalate" => Directive::Escalate,
        _ if fault.is_panic() => Directive::Resume,
        _ => Directive::Restart,
    })
    .backoff(Backoff::NONE);
    with_family(&decided, |sim, log, boss, [a, b, c]| {
        sim.tell(a, Msg::Fail("resume"));
        sim.tell(a, Msg::Panic);
        assert_eq!(sim.ask(a, Msg::Count), Ok(3), "its state is as it was");
        sim.tell(a, Msg::Fail("restart"));
        assert_eq!(sim.ask(a, Msg::Count), Ok(1));
        log.expect("a goes down by restart, a comes back after restart, a starts");
        sim.tell(b, Msg::Fail("stop"));
        sim.run_until_idle();
        log.expect("b stops");
        // It is the boss's fault then, and the boss is restarted by its own supervision.
        sim.tell(c, Msg::Fail("escalate"));
        sim.run_until_idle();
        log.expect(
            "c stops, a stops, boss goes down by escalate, boss comes back after escalate, boss starts",
        );
        assert_eq!(sim.ask(boss, Msg::Names), Ok(vec![]));
    });
    // A fixed directive does not resume what has panicked, and the actor itself is asked first.
    let resume = Supervision::always(Directive::Resume).backoff(Backoff::NONE);
    with_family(&resume, |sim, log, _, [a, b, _]| {
        sim.tell(a, Msg::Fail("x"));
        sim.run_until_idle();
        log.expect("");
        sim.tell(a, Msg::Panic);
        sim.run_until_idle();
        log.expect("a goes down by on purpose, a comes back after on purpose, a starts");
        sim.tell(b, Msg::SetOnError(Directive::Stop));
        sim.tell(b, Msg::Fail("x"));
        sim.run_until_idle();
        log.expect("b stops");
    });
}

#[test]
fn a_root_stops_unless_it_is_supervised_and_a_fault_escalates_to_the_top() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let (of_root, escalating) = (log.clone(), Supervision::always(Directive::Escalate));
        let top = sim
            .spawn(CORE, move || Puppet {
                supervision: escalating,
                ..Puppet::new("top", &of_root)
            })
            .unwrap();
        let middle = child(&mut sim, top, "middle");
        let escalate = Some(Supervision::always(Directive::Escalate));
        let low = sim
            .ask(middle, move |reply_to| {
                Msg::SpawnAs("low", escalate, reply_to)
            })
            .unwrap()
            .unwrap();
        sim.run_until_idle();
        log.take();
        sim.tell(low, Msg::Fail("x"));
        sim.run_until_idle();
        log.expect("low stops, middle stops, top stops");
        let gone = Err(AskError::Rejected(Rejection::NoSuchActor));
        assert_eq!(sim.ask(top, Msg::Count), gone);
        sim
    });
}

/// Fails at each message that it gets, until `Count` has answered; its restarts are in the log with their times.
fn restarts_of(supervision: Supervision, faults: &[(u64, bool)]) -> (Vec<Time>, bool) {
    let mut sim = Simulation::builder(7)
        .cores(2)
        .message_cost(Duration::ZERO)
        .start();
    let log = Log::default();
    let of_actor = log.clone();
    let actor = sim
        .spawn_supervised(CORE, supervision, move || Puppet::new("a", &of_actor))
        .unwrap();
    sim.run_for(SECOND);
    log.take();
    let mut restarts = Vec::new();
    let mut answered = true;
    for (millis, answers) in faults {
        sim.tell(actor, Msg::Fail("x"));
        let fault = sim.now();
        let until = fault + Duration::from_millis(*millis);
        let mut seen = false;
        while sim.now() < until {
            sim.run_for(Duration::from_millis(1));
            if !seen && log.take().iter().any(|line| line == "a starts") {
                seen = true;
                restarts.push(Time::ZERO + (sim.now() - fault));
            }
        }
        if *answers {
            answered = sim.ask(actor, Msg::Count).is_ok();
        }
    }
    (restarts, answered)
}

#[test]
fn an_actor_waits_longer_after_each_fault_until_a_message_was_handled() {
    let backoff = Backoff {
        jitter: 0.0,
        ..Backoff::default()
    };
    let often = Supervision::default()
        .restarts(100, SECOND)
        .backoff(backoff);
    let faults = [
        (1_000, false),
        (1_000, false),
        (1_000, true),
        (1_000, false),
    ];
    let (waits, _) = restarts_of(often, &faults);
    let waits: Vec<_> = waits
        .iter()
        .map(|time| time.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(waits.len(), 4);
    for (wait, wanted) in waits.iter().zip([100, 200, 400, 100]) {
        assert!(wait.abs_diff(wanted) <= 3, "{waits:?}");
    }
}

#[test]
fn a_fault_too_many_in_the_window_stops_the_actor() {
    let few = at_once().restarts(2, SECOND * 10);
    let (restarts, alive) = restarts_of(few.clone(), &[(1_000, true); 2]);
    assert_eq!((restarts.len(), alive), (2, true));
    let (restarts, alive) = restarts_of(few.clone(), &[(1_000, true); 3]);
    assert_eq!((restarts.len(), alive), (2, false), "the third in 10 s");
    let (restarts, alive) = restarts_of(few, &[(5_100, true); 4]);
    assert_eq!((restarts.len(), alive), (4, true), "never three in 10 s");
    let never = at_once().restarts(0, SECOND);
    let (restarts, alive) = restarts_of(never, &[(1, true)]);
    assert_eq!((restarts.len(), alive), (0, false));
}

#[test]
fn a_future_that_suspended_an_earlier_life_does_not_touch_the_next() {
    let all = at_once().strategy(Strategy::AllForOne);
    with_family(&all, |sim, log, _, [a, b, _]| {
        sim.tell(a, Msg::Suspend);
        sim.run_for(SECOND / 2);
        sim.tell(b, Msg::Fail("x"));
        sim.run_for(SECOND / 10);
        assert_eq!(
            sim.ask(a, Msg::Count),
            Ok(1),
            "nobody waits for the future any more"
        );
        // The next one overlaps with it.
        sim.tell(a, Msg::Suspend);
        log.take();
        sim.run_for(SECOND * 3 / 4);
        log.expect("");
        sim.run_for(SECOND);
        log.expect("a wakes");
    });
}

#[test]
fn names_are_taken_once_and_lead_to_their_actors() {
    with_family(&at_once(), |sim, _, boss, [a, b, _]| {
        let taken = |path: &str| Ok(Err(SpawnError::NameTaken { path: path.into() }));
        let again = sim.ask(boss, |reply_to| Msg::SpawnAs("a", None, reply_to));
        assert_eq!(again, taken("boss/a"));
        let log = Log::default();
        let root_again = sim.spawn_supervised(CoreId(0), "boss", move || Puppet::new("r", &log));
        assert_eq!(Ok(root_again), taken("boss"));
        for bad in ["", "x/y", "$1"] {
            let refused = sim.ask(boss, move |reply_to| Msg::SpawnAs(bad, None, reply_to));
            assert!(
                matches!(refused, Ok(Err(SpawnError::BadName { .. }))),
                "{refused:?}"
            );
        }
        let nested = child(sim, b, "a");
        assert_eq!(sim.ask(nested, Msg::Path), Ok("boss/b/a".into()));
        let handle = sim.handle();
        assert_eq!(handle.lookup("boss/b/a"), Ok(Some(nested)));
        assert_eq!(handle.lookup("/boss/a"), Ok(Some(a)));
        assert_eq!(handle.lookup::<Msg>("boss/x"), Ok(None));
        let wrong: Result<Option<ActorRef<String>>, WrongMessageType> = handle.lookup("boss");
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("not alloc::string::String")
        );
        // A restart keeps the name, an end gives it back.
        sim.tell(a, Msg::Fail("x"));
        sim.run_until_idle();
        assert_eq!(handle.lookup("boss/a"), Ok(Some(a)));
        sim.tell(boss, Msg::StopChild("a"));
        sim.run_until_idle();
        assert_eq!(handle.lookup::<Msg>("boss/a"), Ok(None));
        let next = child(sim, boss, "a");
        assert_ne!(next, a);
        assert_eq!(handle.lookup("boss/a"), Ok(Some(next)));
        let names = ["b", "c", "a"].map(String::from).to_vec();
        assert_eq!(sim.ask(boss, Msg::Names), Ok(names), "the eldest first");
        sim.tell(boss, Msg::Stop);
        sim.run_until_idle();
        for path in ["boss", "boss/b/a", "boss/a"] {
            assert_eq!(handle.lookup::<Msg>(path), Ok(None), "{path}");
        }
    });
}

#[test]
fn a_line_of_descendants_as_long_as_you_like_stops_with_its_eldest() {
    let mut sim = Simulation::builder(1).cores(2).start();
    let boss = boss(&mut sim, &Log::default(), at_once());
    sim.tell(boss, Msg::Line(100_000));
    sim.run_until_idle();
    assert_eq!(sim.stats().cores[1].actors, 100_001);
    sim.tell(boss, Msg::Stop);
    sim.run_until_idle();
    assert_eq!(sim.stats().cores[1].actors, 0);
}

#[test]
fn an_entity_is_restarted_with_its_mailbox_also_when_its_shard_moves_meanwhile() {
    for moves in [false, true] {
        check_seeds(20, |mut builder| {
            let log = Log::default();
            let of_type = log.clone();
            let puppets = builder.entities(
                EntityType::ephemeral("puppet", move |_: &u64| Puppet::new("entity", &of_type))
                    .num_shards(1)
                    .supervised(Supervision::default().restarts(1, SECOND * 60)),
            );
            let mut sim = builder.cores(2).start();
            let handle = sim.handle();
            let entity = puppets.entity_ref(7);
            handle.tell(entity, Msg::Tick);
            handle.tell(entity, Msg::Fail("x"));
            let left = [
                handle.ask(entity, Msg::Count),
                handle.ask(entity, Msg::Count),
            ];
            sim.run_for(Duration::from_millis(20));
            log.expect("entity starts, entity ticks, entity goes down by x");
            let shard = puppets.shard_of(&7);
            let target = CoreId(1 - sim.owner_of(shard).unwrap().0);
            if moves {
                assert_eq!(sim.move_shard(shard, target), Ok(()));
            }
            let left = left.map(|count| sim.run_until(count).unwrap());
            assert_eq!(left, [Ok(1), Ok(2)]);
            if moves {
                log.expect("entity starts");
            } else {
                log.expect("entity comes back after x, entity starts");
                // It has been restarted as often as it may: now it stops, and starts afresh when it is needed.
                handle.tell(entity, Msg::Fail("y"));
                sim.run_for(SECOND);
                log.expect("entity stops");
                assert_eq!(sim.ask(entity, Msg::Count), Ok(1));
                log.expect("entity starts");
            }
            sim
        });
    }
}

#[test]
fn a_shutdown_waits_for_no_backoff() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let log = Log::default();
        let slow = Backoff {
            initial: SECOND * 1_000,
            max: SECOND * 1_000,
            ..Backoff::default()
        };
        let of_actor = log.clone();
        let actor = sim
            .spawn_supervised(CORE, Supervision::default().backoff(slow), move || {
                Puppet::new("a", &of_actor)
            })
            .unwrap();
        sim.tell(actor, Msg::Fail("x"));
        sim.tell(actor, Msg::Tick);
        sim.run_for(SECOND);
        log.expect("a starts, a goes down by x");
        let closing = sim.shutdown(SECOND);
        assert!(closing.drained);
        log.expect("a comes back after x, a starts, a ticks, a stops");
        sim
    });
}

/// Naps when it is told to, and goes on after each fault.
struct Napper(Log);

#[derive(Debug)]
enum Nap {
    /// For so many milliseconds; it fails meanwhile, or at once.
    Failing(u32, bool),
    For(u32),
    Note,
}

impl Actor for Napper {
    type Msg = Nap;

    fn receive(&mut self, msg: Nap, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (millis, fails) = match msg {
            Nap::Failing(millis, meanwhile) => {
                if meanwhile {
                    ctx.spawn(async {}, |_| panic!("in what makes the message"));
                }
                (millis, !meanwhile)
            }
            Nap::For(millis) => (millis, false),
            Nap::Note => {
                self.0.say("note");
                return Ok(Next::Continue);
            }
        };
        let nap = ctx.sleep(Duration::from_millis(millis.into()));
        ctx.suspend(nap, move |this, (), _| {
            this.0.say(format!("woke from {millis}"));
            Ok(Next::Continue)
        });
        if fails {
            Err(Fault::new("x"))
        } else {
            Ok(Next::Continue)
        }
    }

    fn on_error(&mut self, _: &Fault, _: &mut Context<'_, Self>) -> Option<Directive> {
        Some(Directive::Resume)
    }
}

#[test]
fn an_actor_that_is_resumed_gives_up_what_it_waited_for() {
    for meanwhile in [true, false] {
        check_seeds(20, |builder| {
            let mut sim = builder.cores(2).start();
            let log = Log::default();
            let of_actor = log.clone();
            let napper = sim.spawn(CORE, move || Napper(of_actor)).unwrap();
            for msg in [Nap::Failing(30, meanwhile), Nap::For(100), Nap::Note] {
                sim.tell(napper, msg);
            }
            sim.run_for(Duration::from_millis(60));
            log.expect("");
            sim.run_for(SECOND);
            log.expect("woke from 100, note");
            sim
        });
    }
}

/// Whose factory works once.
struct Unique;

impl Actor for Unique {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Err(Fault::new("it broke"))
    }
}

/// Has a child that cannot be made again.
struct Collector(Log);

impl Actor for Collector {
    type Msg = Supervision;

    fn receive(
        &mut self,
        of_child: Supervision,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        let (log, mut made) = (self.0.clone(), false);
        let factory = move || {
            assert!(!std::mem::replace(&mut made, true), "there is only one");
            log.say("made");
            Unique
        };
        let child = ctx.spawn_actor_with(of_child, factory)?;
        ctx.tell(child, ());
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.0.say("the parent stops");
    }
}

#[test]
fn a_factory_that_panics_at_a_restart_is_one_more_fault() {
    let again = Supervision::default().backoff(Backoff::NONE);
    let or_escalate = Supervision::decide(|fault| {
        if fault.is_panic() {
            Directive::Escalate
        } else {
            Directive::Restart
        }
    });
    for (supervision, restarts, parent_stops) in [
        (again.clone(), 3, false),
        (again.restarts(100, SECOND * 100), 100, false),
        (or_escalate.backoff(Backoff::NONE), 1, true),
    ] {
        check_seeds(5, |builder| {
            let mut sim = builder.cores(2).start();
            let log = Log::default();
            let of_actor = log.clone();
            let events = sim.handle().events::<ActorRestarted>(1_000).unwrap();
            let collector = sim.spawn(CORE, move || Collector(of_actor)).unwrap();
            sim.tell(collector, supervision.clone());
            sim.run_for(SECOND);
            assert_eq!(sim.stats().cores[1].restarts, restarts);
            assert_eq!(sim.stats().cores[1].actors, usize::from(!parent_stops));
            log.expect(if parent_stops {
                "made, the parent stops"
            } else {
                "made"
            });
            let first = events.try_recv().unwrap();
            assert_eq!((first.fault.as_str(), first.restarts), ("it broke", 1));
            sim
        });
    }
}
