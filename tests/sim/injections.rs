//! Injected faults: each strikes the messages that it is aimed at and no others, and everything else stays in order.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim injections`.

use crate::kit::panic_of;
use corecast::base::ids::CoreId;
use corecast::sim::{Bounds, FaultPlan, Injection, Probe, Simulation, check_seed, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Backoff, Context, EntityType, Fault, Next, Region, Rejection,
    ReplyTo, Supervision, Time, Uncertainty,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// What has been handled: by whom, what, and when.
type Handled = (&'static str, u32, Time);

/// Reports every number that it handles, and answers with it.
struct Worker(&'static str, ActorRef<Handled>);

#[derive(Debug)]
enum Job {
    Do(u32),
    Answer(u32, ReplyTo<u32>),
}

impl Actor for Worker {
    type Msg = Job;

    fn receive(&mut self, job: Job, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let number = match job {
            Job::Do(number) => number,
            Job::Answer(number, reply_to) => {
                ctx.reply(reply_to, number);
                number
            }
        };
        let at = ctx.now();
        ctx.tell(self.1, (self.0, number, at));
        Ok(Next::Continue)
    }
}

/// Another type of actor that takes the same messages.
struct Other(Worker);

impl Actor for Other {
    type Msg = Job;

    fn receive(&mut self, job: Job, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let Job::Do(number) = job else {
            return Err(Fault::new("it only does"));
        };
        let at = ctx.now();
        ctx.tell(self.0.1, (self.0.0, number, at));
        Ok(Next::Continue)
    }
}

fn worker(
    sim: &mut Simulation,
    core: u16,
    name: &'static str,
    to: &Probe<Handled>,
) -> ActorRef<Job> {
    let to = to.address();
    sim.spawn(CoreId(core), move || Worker(name, to)).unwrap()
}

fn answer(number: u32) -> impl FnOnce(ReplyTo<u32>) -> Job + Send {
    move |reply_to| Job::Answer(number, reply_to)
}

fn numbers(probe: &Probe<Handled>) -> Vec<u32> {
    probe
        .received()
        .into_iter()
        .map(|(_, number, _)| number)
        .collect()
}

fn dead_letters(sim: &Simulation, why: Rejection) -> u64 {
    let cores = sim.stats().cores;
    let of_core = |core: corecast::CoreStats| core.dead_letters.into_iter();
    cores
        .into_iter()
        .flat_map(of_core)
        .filter(|(known, _)| *known == why)
        .map(|(_, count)| count)
        .sum()
}

const FAILED: Result<u32, AskError> = Err(AskError::Unknown(Uncertainty::HandlerFailed));

#[test]
fn the_nth_message_fails_or_panics_and_its_handler_does_not_run() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        for (injection, number) in [
            (Injection::fail(), 3),
            (Injection::fail_with(|| std::fmt::Error.into()), 1),
            (Injection::panic(), 2),
        ] {
            let hit = worker(&mut sim, 1, "hit", &probe);
            let missed = worker(&mut sim, 1, "missed", &probe);
            let before: u64 = sim.stats().cores.iter().map(|core| core.faults).sum();
            let injected = sim.inject(injection.nth(number).to_actor(hit));
            for now in 1..number {
                assert_eq!(sim.ask(missed, answer(7)), Ok(7));
                assert_eq!(sim.ask(hit, answer(now as u32)), Ok(now as u32));
            }
            assert_eq!(injected.struck(), 0);
            assert_eq!(sim.ask(hit, answer(9)), FAILED);
            assert_eq!(injected.struck(), 1);
            assert_eq!(sim.ask(hit, answer(9)), Err(Rejection::NoSuchActor.into()));
            assert_eq!(sim.ask(missed, answer(7)), Ok(7));
            let after: u64 = sim.stats().cores.iter().map(|core| core.faults).sum();
            assert_eq!(after - before, 1);
            sim.run_until_idle();
            assert!(!numbers(&probe).contains(&9));
        }
        sim
    });
}

#[test]
fn a_dropped_message_is_a_dead_letter_of_its_own_kind() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let worker = worker(&mut sim, 1, "worker", &probe);
        let dropped = sim.inject(Injection::drop().nth(2).to_actor(worker));
        (1..=3).for_each(|number| sim.tell(worker, Job::Do(number)));
        sim.run_until_idle();
        assert_eq!(numbers(&probe), [1, 3]);
        assert_eq!(dead_letters(&sim, Rejection::Injected), 1);
        let always = sim.inject(Injection::drop().to_actor(worker));
        let rejected = Err(Rejection::Injected.into());
        assert_eq!(sim.ask(worker, answer(4)), rejected);
        assert_eq!(sim.ask(worker, answer(5)), rejected);
        always.end();
        assert_eq!(sim.ask(worker, answer(6)), Ok(6));
        assert_eq!((dropped.struck(), always.struck()), (1, 2));
        sim
    });
}

#[test]
fn a_delay_holds_one_mailbox_up_and_nothing_else() {
    const LONG: Duration = Duration::from_secs(30);
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let late = worker(&mut sim, 1, "late", &probe);
        let other = worker(&mut sim, 1, "other", &probe);
        let delayed = sim.inject(Injection::delay(LONG).nth(2).to_actor(late));
        let began = sim.now();
        // An ask takes its time limit for the answer, and the message is handled all the same.
        let from = sim.handle();
        (1..=2).for_each(|number| from.tell(late, Job::Do(number)));
        let asked = from.ask(late, answer(3));
        (4..=6).for_each(|number| from.tell(late, Job::Do(number)));
        let timeout = Err(Uncertainty::Timeout.into());
        assert_eq!(sim.run_until(asked).unwrap(), timeout);
        assert_eq!(sim.ask(other, answer(7)), Ok(7));
        sim.run_for(LONG);
        let handled = probe.received();
        let of = |name| handled.iter().filter(move |(by, ..)| *by == name);
        let in_order: Vec<u32> = of("late").map(|(_, number, _)| *number).collect();
        assert_eq!(in_order, [1, 2, 3, 4, 5, 6]);
        assert!(of("late").skip(1).all(|(.., at)| *at - began >= LONG));
        assert!(of("other").all(|(.., at)| *at - began < LONG));
        assert_eq!(delayed.struck(), 1);
        assert_eq!(
            (sim.stats().cores[1].faults, sim.stats().cores[1].tasks),
            (0, 0)
        );
        sim
    });
}

#[test]
fn each_of_many_messages_has_its_delay_once() {
    const DELAY: Duration = Duration::from_millis(100);
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let late = worker(&mut sim, 1, "late", &probe);
        let delayed = sim.inject(Injection::delay(DELAY).to_actor(late));
        let began = sim.now();
        (1..=5).for_each(|number| sim.tell(late, Job::Do(number)));
        for number in 1..=5 {
            let (_, got, at) = probe.expect(&mut sim, |_| true);
            assert_eq!(got, number);
            assert!(at - began >= number * DELAY && at - began < (number + 1) * DELAY);
        }
        assert_eq!(delayed.struck(), 5);
        sim
    });
}

/// Tells numbers in order, of which the first part says who tells.
struct Sender(u32, Vec<ActorRef<Job>>);

impl Actor for Sender {
    type Msg = u32;

    fn receive(&mut self, count: u32, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        for number in 0..count {
            for to in &self.1 {
                ctx.tell(*to, Job::Do(self.0 * 1_000 + number));
            }
        }
        Ok(Next::Continue)
    }
}

#[test]
fn what_one_sends_to_another_stays_in_order_through_drops_and_delays() {
    check_seeds(60, |builder| {
        let mut sim = builder.cores(3).start();
        let probe = sim.probe();
        let workers = [(0, "a"), (1, "b"), (2, "c")];
        let to = workers.map(|(core, name)| worker(&mut sim, core, name, &probe));
        sim.faults(FaultPlan {
            drop: 0.05,
            delay: 0.2,
            ..FaultPlan::default()
        });
        for number in 0..6 {
            let sender = move || Sender(number, to.to_vec());
            let sender = sim.spawn(CoreId(number as u16 % 3), sender).unwrap();
            sim.tell(sender, 30);
        }
        sim.run_for(Duration::from_secs(60));
        let mut last = BTreeMap::new();
        let handled = probe.received();
        for (by, number, _) in &handled {
            let before = last.insert((by, number / 1_000), number % 1_000);
            assert!(
                before < Some(number % 1_000),
                "{by} got {number} after {before:?}"
            );
        }
        // Of the senders' own messages some are dropped as well, and with each of them 90.
        let dropped = dead_letters(&sim, Rejection::Injected);
        let missing = 6 * 3 * 30 - handled.len() as u64;
        assert!(dropped > 0 && missing > 0 && (missing - dropped).is_multiple_of(89));
        sim
    });
}

fn region(builder: &mut corecast::sim::SimulationBuilder) -> Region<u64, Entity> {
    builder.entities(EntityType::send("entity", |id: &u64| Tally(*id, 0)).num_shards(4))
}

/// An entity that answers with how many messages it has handled in this life.
struct Tally(u64, u32);

type Entity = Option<ReplyTo<(u64, u32)>>;

impl Actor for Tally {
    type Msg = Entity;

    fn receive(&mut self, get: Entity, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.1 += 1;
        if let Some(reply_to) = get {
            ctx.reply(reply_to, (self.0, self.1));
        }
        Ok(Next::Continue)
    }
}

#[test]
fn an_entity_is_struck_wherever_it_is_and_no_other() {
    check_seeds(20, |mut builder| {
        let region = region(&mut builder);
        let mut sim = builder.cores(3).start();
        let injected = sim.inject(Injection::fail().nth(4).to_entity(region.entity_ref(7)));
        let shard = region.shard_of(&7);
        for count in 1..=3 {
            for id in 0..10 {
                assert_eq!(sim.ask(region.entity(&id), Some), Ok((id, count)));
            }
            let to = CoreId((sim.owner_of(shard).unwrap().0 + 1) % 3);
            sim.move_shard(shard, to).unwrap();
        }
        for id in 0..10 {
            let answer = sim.ask(region.entity(&id), Some);
            let failed = Err(Uncertainty::HandlerFailed.into());
            assert_eq!(answer, if id == 7 { failed } else { Ok((id, 4)) });
        }
        assert_eq!(sim.ask(region.entity(&7), Some), Ok((7, 1)));
        assert_eq!(injected.struck(), 1);
        sim
    });
}

#[test]
fn a_move_waits_for_a_delay_and_nothing_is_lost() {
    check_seeds(40, |mut builder| {
        let region = region(&mut builder);
        let mut sim = builder.cores(2).start();
        let shard = region.shard_of(&7);
        let from = sim.owner_of(shard).unwrap();
        let delay = Duration::from_millis(300);
        sim.inject(
            Injection::delay(delay)
                .nth(5)
                .to_entity(region.entity_ref(7)),
        );
        for core in 0..2 {
            let handle = sim.handle().through(CoreId(core)).unwrap();
            (0..10).for_each(|_| handle.tell(region.entity(&7), None));
        }
        let moved = sim.start_move(shard, CoreId(1 - from.0));
        assert_eq!(sim.run_until(moved).unwrap(), Ok(()));
        sim.run_for(2 * delay);
        assert_eq!(sim.ask(region.entity(&7), Some), Ok((7, 21)));
        sim
    });
}

#[test]
fn a_type_of_actors_and_a_kind_of_message_are_struck_alone() {
    check_seeds(20, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let worker = worker(&mut sim, 0, "worker", &probe);
        let to = probe.address();
        let other = sim
            .spawn(CoreId(1), move || Other(Worker("other", to)))
            .unwrap();
        let is_even = |job: &Job| matches!(job, Job::Do(number) if number % 2 == 0);
        let injected = sim.inject(Injection::drop().to_type::<Other>().only(is_even));
        for number in 0..6 {
            sim.tell(worker, Job::Do(number));
            sim.tell(other, Job::Do(number));
        }
        sim.run_until_idle();
        let handled = probe.received();
        let of = |name| {
            let own = handled.iter().filter(move |(by, ..)| *by == name);
            own.map(|(_, number, _)| *number).collect::<Vec<_>>()
        };
        assert_eq!(of("worker"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(of("other"), [1, 3, 5]);
        assert_eq!(injected.struck(), 3);
        sim
    });
}

#[test]
fn probes_are_struck_by_what_is_aimed_at_them_only() {
    check_seeds(5, |mut builder| {
        let entities = builder.entity_probe::<u64, u32>("probed");
        let mut sim = builder.start();
        let probe = sim.probe::<u32>();
        sim.faults(FaultPlan {
            drop: 1.0,
            ..FaultPlan::default()
        });
        let everybody = sim.inject(Injection::fail());
        let of_a_kind = sim.inject(Injection::fail().only(|_: &u32| true));
        sim.tell(probe.address(), 1);
        sim.tell(entities.address().entity(&1), 1);
        probe.expect(&mut sim, |number| *number == 1);
        entities.expect(&mut sim, |got| *got == (1, 1));
        assert_eq!((everybody.struck(), of_a_kind.struck()), (0, 0));
        sim.inject(Injection::drop().to_actor(probe.address()));
        sim.tell(probe.address(), 2);
        probe.expect_none_for(&mut sim, Duration::from_secs(1));
        sim
    });
}

#[test]
fn a_plan_strikes_as_often_as_it_says_and_by_the_seed() {
    let mut traces = Vec::new();
    for seed in 0..4 {
        let scenario = |builder: corecast::sim::SimulationBuilder| {
            let mut sim = builder.cores(2).start();
            let probe = sim.probe();
            let worker = worker(&mut sim, 1, "worker", &probe);
            let share = sim.inject(Injection::drop().share(0.25).to_actor(worker));
            sim.faults(FaultPlan {
                delay: 0.1,
                drop: 0.2,
                longest_delay: Duration::from_millis(2),
                ..FaultPlan::default()
            });
            for number in 0..2_000 {
                sim.tell(worker, Job::Do(number));
                if number % 100 == 99 {
                    sim.run_for(Duration::from_secs(1));
                }
            }
            let dropped = dead_letters(&sim, Rejection::Injected);
            assert_eq!(numbers(&probe).len() as u64, 2_000 - dropped);
            assert!((400..600).contains(&share.struck()), "{share:?}");
            let by_plan = dropped - share.struck();
            assert!((230..370).contains(&by_plan), "{by_plan}");
            sim.faults(FaultPlan::default());
            share.end();
            assert_eq!(sim.ask(worker, answer(1)), Ok(1));
            sim
        };
        traces.push(check_seed(seed, scenario).unwrap());
    }
    traces.dedup();
    assert_eq!(traces.len(), 4);
    let events: Vec<_> = traces[0].events().collect();
    assert!(
        events
            .iter()
            .any(|event| event.contains("inject delay into cell"))
    );
    assert!(
        events
            .iter()
            .any(|event| event.contains("dead letter (Injected)"))
    );
}

/// Asks another one time and again, and counts how it ended.
struct Asker {
    of: ActorRef<Job>,
    answered: u32,
    lost: u32,
}

#[derive(Debug)]
enum Ask {
    Came(Result<u32, AskError>),
    Counts(ReplyTo<(u32, u32)>),
}

impl Asker {
    fn ask(&mut self, ctx: &mut Context<'_, Self>) {
        if self.answered + self.lost < 200 {
            ctx.ask(self.of, |reply_to| Job::Answer(1, reply_to), Ask::Came);
        }
    }
}

impl Actor for Asker {
    type Msg = Ask;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.ask(ctx);
        Ok(())
    }

    fn receive(&mut self, ask: Ask, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match ask {
            Ask::Came(Ok(_)) => self.answered += 1,
            Ask::Came(Err(AskError::Rejected(Rejection::Injected))) => self.lost += 1,
            Ask::Came(Err(error)) => return Err(error.into()),
            Ask::Counts(reply_to) => {
                ctx.reply(reply_to, (self.answered, self.lost));
                return Ok(Next::Continue);
            }
        }
        self.ask(ctx);
        Ok(Next::Continue)
    }
}

/// It would wait for ever: no runtime loses what it owes.
#[test]
fn an_outcome_is_never_dropped() {
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let of = worker(&mut sim, 1, "worker", &probe);
        let asker = move || Asker {
            of,
            answered: 0,
            lost: 0,
        };
        sim.faults(FaultPlan {
            drop: 0.3,
            delay: 0.1,
            ..FaultPlan::default()
        });
        let asker = sim.spawn(CoreId(0), asker).unwrap();
        let outcomes = sim.inject(Injection::drop().to_actor(asker));
        sim.run_for(Duration::from_secs(10));
        assert_eq!(outcomes.struck(), 0);
        sim.faults(FaultPlan::default());
        outcomes.end();
        let (answered, lost) = sim.ask(asker, Ask::Counts).unwrap();
        assert_eq!(
            (answered + lost, lost > 0),
            (200, true),
            "{answered}, {lost}"
        );
        sim
    });
}

#[test]
fn faults_leave_the_end_alone() {
    check_seeds(20, |mut builder| {
        let region = region(&mut builder);
        let mut sim = builder.cores(2).swarm().start();
        sim.faults(FaultPlan {
            fail: 0.05,
            panic: 0.05,
            drop: 0.05,
            delay: 0.3,
            ..FaultPlan::default()
        });
        for number in 0..200_u64 {
            sim.tell(region.entity(&(number % 5)), None);
        }
        let closing = sim.shutdown(Duration::from_secs(60));
        assert!(closing.drained);
        let of_cores = closing.stats.cores.iter();
        assert_eq!(of_cores.map(|core| core.queued_messages).sum::<usize>(), 0);
        sim
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    let no_probability = panic_of(|| _ = Injection::drop().share(1.5));
    assert!(no_probability.contains("1.5 is no probability"));
    assert!(panic_of(|| _ = Injection::fail().nth(0)).contains("counted from 1"));
    let plan = FaultPlan {
        fail: 0.6,
        drop: 0.6,
        ..FaultPlan::default()
    };
    let too_much = panic_of(|| Simulation::builder(1).start().faults(plan.clone()));
    assert!(too_much.contains("is no probability"));
}

/// Fails at every message.
struct Hopeless(ActorRef<Time>);

impl Actor for Hopeless {
    type Msg = ();

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let at = ctx.now();
        ctx.tell(self.0, at);
        Err(Fault::new("on purpose"))
    }
}

/// What waits has not been handled: the next restart is no sooner for it.
#[test]
fn a_delay_is_no_success_after_a_restart() {
    const DELAY: Duration = Duration::from_millis(1);
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe::<Time>();
        let to = probe.address();
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        let patient = Supervision::default()
            .restarts(10, Duration::from_secs(3_600))
            .backoff(backoff);
        let hopeless = sim
            .spawn_supervised(CoreId(1), patient, move || Hopeless(to))
            .unwrap();
        sim.inject(Injection::delay(DELAY).to_actor(hopeless));
        (0..5).for_each(|_| sim.tell(hopeless, ()));
        sim.run_for(Duration::from_secs(60));
        let times = probe.received();
        let waits: Vec<_> = times
            .windows(2)
            .map(|two| (two[1] - two[0]).as_millis() / 100)
            .collect();
        assert_eq!(waits, [1, 2, 4, 8]);
        sim
    });
}

/// Without room for the future that a delay takes, the message is handled at once, and the next one is struck by itself.
#[test]
fn a_delay_for_which_there_is_no_room_is_none() {
    check_seeds(10, |builder| {
        let bounds = Bounds {
            tasks: 0,
            ..Bounds::default()
        };
        let mut sim = builder.bounds(bounds).start();
        let probe = sim.probe();
        let worker = worker(&mut sim, 1, "worker", &probe);
        let delayed = sim.inject(
            Injection::delay(Duration::from_secs(1))
                .nth(1)
                .to_actor(worker),
        );
        let dropped = sim.inject(Injection::drop().nth(2).to_actor(worker));
        (1..=3).for_each(|number| sim.tell(worker, Job::Do(number)));
        assert!(sim.run_until_idle());
        assert_eq!(numbers(&probe), [1, 3]);
        assert_eq!((delayed.struck(), dropped.struck()), (1, 1));
        let events: Vec<_> = sim.trace().events().collect();
        let delivered = |event: &&String| event.contains("deliver") && event.contains("Worker");
        assert_eq!(events.iter().filter(delivered).count(), 2);
        sim
    });
}

/// Waits for a word that its future brings, and passes it on.
struct Expecting(ActorRef<&'static str>, Option<Duration>);

impl Actor for Expecting {
    type Msg = &'static str;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        if let Some(after) = self.1 {
            // It comes into a mailbox that is held up.
            let nap = ctx.sleep(after);
            ctx.spawn(nap, |_| "word");
        }
        Ok(())
    }

    fn receive(&mut self, word: &'static str, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        ctx.tell(self.0, word);
        Ok(Next::Continue)
    }
}

/// The same words to somebody else do not make an outcome one that may be lost.
#[test]
fn an_outcome_is_not_dropped_for_what_another_gets() {
    const MS: Duration = Duration::from_millis(1);
    check_seeds(10, |builder| {
        let mut sim = builder.start();
        let probe = sim.probe();
        let to = probe.address();
        let owed = sim
            .spawn(CoreId(1), move || Expecting(to, Some(MS * 20)))
            .unwrap();
        let other = sim.spawn(CoreId(1), move || Expecting(to, None)).unwrap();
        let held_up = sim.inject(
            Injection::delay(MS * 100)
                .to_actor(owed)
                .only(|word: &&str| *word == "first"),
        );
        sim.tell(owed, "first");
        sim.run_for(MS * 50);
        // The outcome lies behind it.
        let dropped = sim.inject(Injection::drop().only(|word: &&str| *word == "word"));
        sim.tell(other, "word");
        sim.run_for(MS * 100);
        assert_eq!(probe.received(), ["first", "word"]);
        assert_eq!((held_up.struck(), dropped.struck()), (1, 1));
        sim
    });
}

#[test]
fn a_condition_that_panics_fails_the_run_and_not_the_actor() {
    for is_condition in [true, false] {
        let text = panic_of(|| {
            let mut sim = Simulation::builder(3).start();
            let probe = sim.probe();
            let worker = worker(&mut sim, 1, "worker", &probe);
            if is_condition {
                let condition = |job: &Job| {
                    assert!(matches!(job, Job::Answer(..)), "only questions");
                    false
                };
                sim.inject(Injection::drop().only(condition));
            } else {
                sim.inject(Injection::fail_with(|| panic!("only questions")));
            }
            sim.tell(worker, Job::Do(1));
            sim.run_until_idle();
        });
        assert!(text.contains("seed 3 failed"), "{text}");
        assert!(text.contains("only questions"), "{text}");
    }
}
