//! Asks end once and as their kind says; a rejected one certainly never reached a handler.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim asks`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Context, Fault, Mailbox, Next, Rejection, ReplyTo, Time, Uncertainty,
};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug)]
enum Msg {
    Answer(ReplyTo<u64>),
    DropIt(ReplyTo<u64>),
    Fail(ReplyTo<u64>),
    Panic(ReplyTo<u64>),
    Late(ReplyTo<u64>, Duration),
    Nap(Duration),
    Stop,
    Numbered(u64, ReplyTo<u64>),
}

struct Asked {
    handled: Arc<Mutex<BTreeSet<u64>>>,
}

impl Actor for Asked {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Answer(reply) => ctx.reply(reply, 42),
            Msg::DropIt(reply) => drop(reply),
            Msg::Fail(_reply) => return Err(Fault::new("on purpose")),
            Msg::Panic(_reply) => panic!("on purpose"),
            Msg::Late(reply, after) => {
                let scope = ctx.scope();
                let late = async move {
                    scope.sleep(after).await;
                    scope.reply(reply, 1);
                };
                ctx.spawn(late, |_| Msg::Nap(Duration::ZERO));
            }
            Msg::Nap(nap) if nap.is_zero() => {}
            Msg::Nap(nap) => {
                let nap = ctx.sleep(nap);
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Msg::Stop => return Ok(Next::Stop),
            Msg::Numbered(number, reply) => {
                assert!(
                    self.handled.lock().unwrap().insert(number),
                    "{number} was handled twice"
                );
                match number % 5 {
                    0 => ctx.reply(reply, number),
                    1 => drop(reply),
                    2 => return Err(Fault::new("on purpose")),
                    3 => {
                        return self
                            .receive(Msg::Late(reply, Duration::from_millis(number % 40)), ctx);
                    }
                    _ => {
                        ctx.reply(reply, number);
                        return Ok(Next::Stop);
                    }
                }
            }
        }
        Ok(Next::Continue)
    }
}

fn asked(sim: &mut Simulation, core: u16) -> ActorRef<Msg> {
    sim.spawn(CoreId(core), || Asked {
        handled: Arc::default(),
    })
    .unwrap()
}

const UNKNOWN: fn(Uncertainty) -> Result<u64, AskError> = |why| Err(AskError::Unknown(why));
const REJECTED: fn(Rejection) -> Result<u64, AskError> = |why| Err(AskError::Rejected(why));

#[test]
fn every_outcome_is_the_right_one() {
    check_seeds(30, |builder| {
        let asker_core = (builder.seed() % 2) as u16;
        let mut sim = builder
            .cores(2)
            .stalls(50, Duration::from_millis(1))
            .start();
        // From outside through both cores, so that half of the seeds cross a lane.
        let handle = sim.handle().through(CoreId(asker_core)).unwrap();
        let actor = asked(&mut sim, 0);
        let answered = handle.ask(actor, Msg::Answer);
        assert_eq!(sim.run_until(answered).unwrap(), Ok(42));
        let dropped = handle.ask(actor, Msg::DropIt);
        assert_eq!(
            sim.run_until(dropped).unwrap(),
            UNKNOWN(Uncertainty::DroppedUnanswered)
        );

        let before = sim.now();
        let late = handle.ask_within(Duration::from_millis(20), actor, |reply| {
            Msg::Late(reply, Duration::from_millis(100))
        });
        assert_eq!(sim.run_until(late).unwrap(), UNKNOWN(Uncertainty::Timeout));
        let waited = sim.now() - before;
        assert!((20..40).contains(&waited.as_millis()), "{waited:?}");
        sim.run_for(Duration::from_millis(200));
        let late: u64 = sim.stats().cores.iter().map(|core| core.late_replies).sum();
        assert_eq!(late, 1);

        for (make, failed) in [(Msg::Fail as fn(_) -> _, "error"), (Msg::Panic, "panic")] {
            let victim = asked(&mut sim, 1);
            // Behind it waits one that never has its turn.
            let first = handle.ask(victim, make);
            let behind = handle.ask(victim, Msg::Answer);
            assert_eq!(
                sim.run_until(first).unwrap(),
                UNKNOWN(Uncertainty::HandlerFailed),
                "{failed}"
            );
            let behind = sim.run_until(behind).unwrap();
            assert!(
                behind == REJECTED(Rejection::Stopped)
                    || behind == REJECTED(Rejection::NoSuchActor),
                "{failed}: {behind:?}"
            );
        }

        let stopping = asked(&mut sim, 1);
        handle.tell(stopping, Msg::Nap(Duration::from_millis(5)));
        handle.tell(stopping, Msg::Stop);
        let waiting = handle.ask(stopping, Msg::Answer);
        assert_eq!(
            sim.run_until(waiting).unwrap(),
            REJECTED(Rejection::Stopped)
        );
        let gone = handle.ask(stopping, Msg::Answer);
        assert_eq!(
            sim.run_until(gone).unwrap(),
            REJECTED(Rejection::NoSuchActor)
        );

        let narrow = handle.spawn_with(CoreId(1), Mailbox::bounded(1), || Asked {
            handled: Arc::default(),
        });
        let narrow = sim.run_until(narrow).unwrap().unwrap();
        handle.tell(narrow, Msg::Nap(Duration::from_millis(5)));
        sim.run_until_idle();
        let fits = handle.ask(narrow, Msg::Answer);
        let full = handle.ask(narrow, Msg::Answer);
        assert_eq!(
            sim.run_until(full).unwrap(),
            REJECTED(Rejection::MailboxFull)
        );
        assert_eq!(sim.run_until(fits).unwrap(), Ok(42));
        assert_eq!(
            sim.stats()
                .cores
                .iter()
                .map(|core| core.open_asks)
                .sum::<usize>(),
            0
        );
        sim
    });
}

/// Asks in a handler, and replies with the time after which the outcome came.
struct Asker(ActorRef<Msg>);

#[derive(Debug)]
enum AskerMsg {
    Ask(ReplyTo<Duration>),
    Outcome(Result<u64, AskError>, Time, ReplyTo<Duration>),
}

impl Actor for Asker {
    type Msg = AskerMsg;

    fn receive(&mut self, msg: AskerMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            AskerMsg::Ask(reply_to) => {
                let asked = ctx.clock();
                ctx.ask(self.0, too_late, move |outcome| {
                    AskerMsg::Outcome(outcome, asked, reply_to)
                });
            }
            AskerMsg::Outcome(outcome, asked, reply_to) => {
                assert_eq!(outcome, UNKNOWN(Uncertainty::Timeout));
                let waited = ctx.clock() - asked;
                ctx.reply(reply_to, waited);
            }
        }
        Ok(Next::Continue)
    }
}

fn too_late(reply: ReplyTo<u64>) -> Msg {
    Msg::Late(reply, Duration::from_secs(3_600))
}

#[test]
fn an_ask_without_a_time_of_its_own_has_the_one_that_was_set() {
    check_seeds(20, |builder| {
        let ask_timeout = Duration::from_millis(300);
        let bounds = Bounds {
            ask_timeout,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let handle = sim.handle();
        let actor = asked(&mut sim, 0);

        let outside = sim.now();
        let by_handle = handle.ask(actor, too_late);
        let by_handle = sim.run_until(by_handle).unwrap();
        assert_eq!(by_handle, UNKNOWN(Uncertainty::Timeout));
        let by_handle = sim.now() - outside;

        let by_scope = handle.run_on(CoreId(1), move |scope| async move {
            let asked = scope.clock();
            let outcome = scope.ask(actor, too_late).await;
            (outcome, scope.clock() - asked)
        });
        let (outcome, by_scope) = sim.run_until(by_scope).unwrap().unwrap();
        assert_eq!(outcome, UNKNOWN(Uncertainty::Timeout));

        let asker = sim.spawn(CoreId(1), move || Asker(actor)).unwrap();
        let by_context = handle.ask_within(Duration::from_secs(60), asker, AskerMsg::Ask);
        let by_context = sim.run_until(by_context).unwrap().unwrap();

        for waited in [by_handle, by_scope, by_context] {
            assert!(
                (ask_timeout..ask_timeout + Duration::from_millis(20)).contains(&waited),
                "{waited:?} of {by_handle:?}, {by_scope:?}, {by_context:?}"
            );
        }
        drop(handle);
        sim
    });
}

/// Asks of a random kind to actors that fail, stop and answer late, with small mailboxes: whatever happens, each ask ends
/// once, and what the outcome claims is true.
#[test]
fn what_an_outcome_claims_is_true() {
    check_seeds(200, |builder| {
        let seed = builder.seed();
        let mut sim = builder.cores(3).swarm().start();
        let handled = Arc::new(Mutex::new(BTreeSet::new()));
        let mut rng = seeded(seed, 50);
        let mut asks = BTreeMap::new();
        let mut actors: Vec<ActorRef<Msg>> = Vec::new();
        let handles: Vec<_> = (0..3)
            .map(|core| sim.handle().through(CoreId(core)).unwrap())
            .collect();
        for number in 0..150_u64 {
            if actors.len() < 3 || rng.random_ratio(1, 6) {
                let handled = handled.clone();
                let mailbox = Mailbox::bounded(rng.random_range(1..5));
                // The way in may be as narrow as everything else.
                sim.run_until_idle();
                let spawned =
                    handles[0].spawn_with(CoreId(rng.random_range(0..3)), mailbox, move || Asked {
                        handled,
                    });
                actors.push(sim.run_until(spawned).unwrap().unwrap());
                actors = actors.split_off(actors.len().saturating_sub(4));
            }
            let to = actors[rng.random_range(0..actors.len())];
            let handle = &handles[rng.random_range(0..3)];
            let within = Duration::from_millis(rng.random_range(1..60));
            asks.insert(
                number,
                handle.ask_within(within, to, move |reply| Msg::Numbered(number, reply)),
            );
            if rng.random_ratio(1, 4) {
                sim.run_for(Duration::from_micros(rng.random_range(0..3_000)));
            }
        }
        sim.run_for(Duration::from_secs(1));
        assert!(sim.run_until_idle());
        let handled = handled.lock().unwrap().clone();
        let mut kinds = BTreeSet::new();
        for (number, ask) in asks {
            let outcome = ask.try_take().expect("every ask ends");
            kinds.insert(
                format!("{outcome:?}")
                    .split('(')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
            match outcome {
                Ok(_) => assert!(handled.contains(&number) && number % 5 != 1 && number % 5 != 2),
                Err(AskError::Rejected(why)) => {
                    assert!(!handled.contains(&number), "{number} was {why} and handled")
                }
                Err(AskError::Unknown(Uncertainty::DroppedUnanswered)) => {
                    assert!(
                        handled.contains(&number) && matches!(number % 5, 1 | 3),
                        "{number}"
                    );
                }
                Err(AskError::Unknown(Uncertainty::HandlerFailed)) => {
                    assert!(handled.contains(&number) && number % 5 == 2, "{number}");
                }
                Err(AskError::Unknown(Uncertainty::Timeout)) => {}
                Err(other) => panic!("{number}: {other}"),
            }
        }
        assert!(kinds.len() == 2 && handled.len() > 10, "{kinds:?}");
        let open: usize = sim.stats().cores.iter().map(|core| core.open_asks).sum();
        assert_eq!(open, 0);
        drop(handles);
        sim
    });
}
