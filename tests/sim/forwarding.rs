//! Reply addresses that are passed on: an ask ends as rejected only if no handler has ever seen it, and as failed only
//! if it was the failing handler or actor that let go of the address.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim forwarding`.

use corecast::base::ids::CoreId;
use corecast::base::rng::{Rng, seeded};
use corecast::sim::{Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Context, EntityType, Fault, Mailbox, Next, Policy, Region,
    Rejection, ReplyTo, Uncertainty,
};
use rand::RngExt;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

type Outcome = Result<u64, AskError>;

/// The reply address of an ask that has a number.
#[derive(Debug)]
struct Ticket(u64, ReplyTo<u64>);

#[derive(Debug)]
enum Msg {
    /// Do something with them, chosen at random.
    Treat(Vec<Ticket>),
    Drop(Ticket),
    Fail(Ticket),
    Panic(Ticket),
    Keep(Ticket),
    Forward(Ticket, Vec<ActorRef<Msg>>),
    Nap,
    Nothing,
}

/// What the handlers saw and did.
#[derive(Debug, Default)]
struct Facts {
    asks: u64,
    actors: Vec<ActorRef<Msg>>,
    lives: u64,
    /// Handlers have seen these.
    seen: BTreeSet<u64>,
    /// A handler or actor that failed had these.
    failed: BTreeSet<u64>,
    /// The messages of these carried further reply addresses.
    accompanied: BTreeSet<u64>,
    outcomes: BTreeMap<u64, Vec<Outcome>>,
}

#[derive(Clone, Debug, Default)]
struct Book {
    facts: Arc<Mutex<Facts>>,
    region: Arc<OnceLock<Region<u64, Msg>>>,
    seed: u64,
}

impl Book {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    fn next_ask(&self) -> u64 {
        let mut facts = self.facts();
        facts.asks += 1;
        facts.asks
    }

    fn ended(&self, number: u64, outcome: Outcome) {
        let mut facts = self.facts();
        facts.outcomes.entry(number).or_default().push(outcome);
    }

    fn relay(&self) -> Relay {
        let mut facts = self.facts();
        facts.lives += 1;
        Relay {
            rng: seeded(self.seed, 10_000 + facts.lives),
            book: self.clone(),
            kept: Vec::new(),
        }
    }
}

struct Relay {
    book: Book,
    rng: Rng,
    kept: Vec<Ticket>,
}

/// Runs `$call` with a destination chosen at random: one of the actors, or an entity.
macro_rules! somewhere {
    ($this:expr, |$to:ident| $call:expr) => {{
        let actors = $this.book.facts().actors.clone();
        let region = $this.book.region.get().copied();
        match region {
            Some(region) if actors.is_empty() || $this.rng.random_ratio(1, 2) => {
                let $to = region.entity_ref($this.rng.random_range(0..6));
                $call
            }
            _ => {
                let $to = actors[$this.rng.random_range(0..actors.len())];
                $call
            }
        }
    }};
}

impl Relay {
    fn failing(&self, tickets: &[Ticket]) {
        let mut facts = self.book.facts();
        let numbers = tickets.iter().chain(&self.kept).map(|ticket| ticket.0);
        facts.failed.extend(numbers);
    }

    /// Lets go of the tickets in one of all possible ways.
    fn treat(
        &mut self,
        mut tickets: Vec<Ticket>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match self.rng.random_range(0..24) {
            0..3 => {
                for Ticket(number, reply) in tickets {
                    ctx.reply(reply, number);
                }
            }
            3 => drop(tickets),
            4 => {
                self.failing(&tickets);
                return Err(Fault::new("on purpose"));
            }
            5 => {
                self.failing(&tickets);
                drop(tickets);
                panic!("on purpose");
            }
            6 => return Ok(Next::Stop),
            7 => self.kept.append(&mut tickets),
            8 => {
                tickets.append(&mut self.kept);
                somewhere!(self, |to| ctx.tell(to, Msg::Treat(tickets)));
            }
            9..12 => somewhere!(self, |to| ctx.tell(to, Msg::Treat(tickets))),
            12 => somewhere!(self, |to| drop(ctx.try_tell(to, Msg::Treat(tickets)))),
            13 => somewhere!(self, |to| ctx.handle().tell(to, Msg::Treat(tickets))),
            14 => {
                let handle = ctx.handle();
                for Ticket(number, reply) in tickets {
                    handle.reply(reply, number);
                }
            }
            15 => {
                // Passed on, and then this handler fails: what was passed on is no longer its own.
                self.failing(&[]);
                somewhere!(self, |to| ctx.tell(to, Msg::Treat(tickets)));
                return Err(Fault::new("on purpose"));
            }
            16 => {
                let scope = ctx.scope();
                let nap = Duration::from_micros(self.rng.random_range(0..2_000));
                somewhere!(self, |to| ctx.spawn(
                    async move {
                        scope.sleep(nap).await;
                        let _ = scope.send(to, Msg::Treat(tickets)).await;
                    },
                    |_| Msg::Nothing
                ));
            }
            17 => {
                let nap = ctx.sleep(Duration::from_micros(self.rng.random_range(0..2_000)));
                ctx.spawn(nap, |_| Msg::Treat(tickets));
            }
            18 => {
                let nap = ctx.sleep(Duration::from_micros(self.rng.random_range(0..2_000)));
                ctx.suspend(nap, move |this, (), ctx| this.treat(tickets, ctx));
            }
            19..22 => {
                // The addresses go along with one of an ask of its own.
                let (number, book) = (self.book.next_ask(), self.book.clone());
                book.facts().accompanied.insert(number);
                somewhere!(self, |to| ctx.ask_within(
                    Duration::from_millis(30),
                    to,
                    |reply| {
                        tickets.push(Ticket(number, reply));
                        Msg::Treat(tickets)
                    },
                    move |outcome| {
                        book.ended(number, outcome);
                        Msg::Nothing
                    },
                ));
            }
            _ => {
                // The addresses wait for an ask of its own; if that brings nothing, they are dropped.
                let (number, book) = (self.book.next_ask(), self.book.clone());
                somewhere!(self, |to| ctx.ask_within(
                    Duration::from_millis(30),
                    to,
                    |reply| Msg::Treat(vec![Ticket(number, reply)]),
                    move |outcome| {
                        book.ended(number, outcome);
                        outcome.map_or(Msg::Nothing, |_| Msg::Treat(tickets))
                    },
                ));
            }
        }
        Ok(Next::Continue)
    }
}

impl Actor for Relay {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Treat(tickets) => {
                let numbers = tickets.iter().map(|ticket| ticket.0);
                self.book.facts().seen.extend(numbers);
                return self.treat(tickets, ctx);
            }
            Msg::Drop(ticket) => drop(ticket),
            Msg::Fail(_ticket) => return Err(Fault::new("on purpose")),
            Msg::Panic(ticket) => {
                drop(ticket);
                panic!("on purpose");
            }
            Msg::Keep(ticket) => self.kept.push(ticket),
            Msg::Forward(ticket, mut further) => match further.pop() {
                Some(next) if further.is_empty() => ctx.tell(next, Msg::Keep(ticket)),
                Some(next) => ctx.tell(next, Msg::Forward(ticket, further)),
                None => {}
            },
            Msg::Nap => {
                let nap = ctx.sleep(Duration::from_millis(10));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Msg::Nothing => {}
        }
        Ok(Next::Continue)
    }
}

fn relay(sim: &mut Simulation, core: u16, mailbox: Mailbox) -> ActorRef<Msg> {
    let spawned = sim
        .handle()
        .spawn_with(CoreId(core), mailbox, || Book::default().relay());
    sim.run_until(spawned).unwrap().unwrap()
}

fn ask(sim: &mut Simulation, to: ActorRef<Msg>, make: fn(Ticket) -> Msg) -> Outcome {
    let asked = sim.handle().ask(to, move |reply| make(Ticket(0, reply)));
    sim.run_until(asked).unwrap()
}

const DROPPED: Outcome = Err(AskError::Unknown(Uncertainty::DroppedUnanswered));
const FAILED: Outcome = Err(AskError::Unknown(Uncertainty::HandlerFailed));

/// From core to core and on the same core: who passes the address on has seen the ask.
#[test]
fn what_was_passed_on_and_refused_is_not_rejected() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let handle = sim.handle();
        for (first, full, policy) in [
            (0, 0, Policy::DropNew),
            (0, 1, Policy::DropNew),
            (0, 0, Policy::DropOldest),
            (1, 0, Policy::DropOldest),
        ] {
            let first = relay(&mut sim, first, Mailbox::bounded(10));
            let full = relay(&mut sim, full, Mailbox::bounded(1).policy(policy));
            handle.tell(full, Msg::Nap);
            assert!(sim.run_until_idle());
            handle.tell(full, Msg::Nothing);
            let passed_on = handle.ask(first, move |reply| {
                Msg::Forward(Ticket(0, reply), vec![full])
            });
            // Makes it the oldest, which is dropped.
            sim.run_for(Duration::from_millis(1));
            handle.tell(full, Msg::Nothing);
            assert_eq!(sim.run_until(passed_on).unwrap(), DROPPED, "{policy:?}");
            // Its own envelope was rejected for certain.
            sim.run_for(Duration::from_millis(30));
            handle.tell(full, Msg::Nap);
            assert!(sim.run_until_idle());
            handle.tell(full, Msg::Nothing);
            let own = handle.ask(full, |reply| Msg::Keep(Ticket(0, reply)));
            sim.run_for(Duration::from_millis(1));
            handle.tell(full, Msg::Nothing);
            let why = match policy {
                Policy::DropOldest => Rejection::Evicted,
                _ => Rejection::MailboxFull,
            };
            assert_eq!(sim.run_until(own).unwrap(), Err(why.into()));
        }
        // To one that is gone, over two hops.
        let [one, two, gone] = [0, 1, 0].map(|core| relay(&mut sim, core, Mailbox::default()));
        handle.stop(gone).unwrap();
        assert!(sim.run_until_idle());
        let passed_on = handle.ask(one, move |reply| {
            Msg::Forward(Ticket(0, reply), vec![gone, two])
        });
        assert_eq!(sim.run_until(passed_on).unwrap(), DROPPED);
        sim
    });
}

/// Messages are handled several at a time: only those of the failing handler and actor have failed.
#[test]
fn what_was_dropped_before_a_failure_has_not_failed() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(1).start();
        let handle = sim.handle();
        for fail in [Msg::Fail, Msg::Panic] {
            let actor = relay(&mut sim, 0, Mailbox::default());
            handle.tell(actor, Msg::Nap);
            assert!(sim.run_until_idle());
            let asks = [Msg::Keep, Msg::Drop, Msg::Drop, fail, Msg::Drop]
                .map(|make| handle.ask(actor, move |reply| make(Ticket(0, reply))));
            let [kept, dropped, another, failed, behind] =
                asks.map(|asked| sim.run_until(asked).unwrap());
            assert_eq!([dropped, another], [DROPPED; 2]);
            assert_eq!([kept, failed], [FAILED; 2]);
            assert_eq!(behind, Err(Rejection::Stopped.into()));
        }
        let actor = relay(&mut sim, 0, Mailbox::default());
        assert_eq!(ask(&mut sim, actor, Msg::Drop), DROPPED);
        let kept = handle.ask(actor, |reply| Msg::Keep(Ticket(0, reply)));
        handle.stop(actor).unwrap();
        assert_eq!(sim.run_until(kept).unwrap(), DROPPED);
        sim
    });
}

/// How often something happened in all runs.
#[derive(Default)]
struct Tally {
    answered: Cell<u64>,
    rejected: Cell<u64>,
    dropped: Cell<u64>,
    failed: Cell<u64>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

fn start(mut builder: SimulationBuilder) -> (Simulation, Book) {
    let book = Book {
        seed: builder.seed(),
        ..Book::default()
    };
    let for_all = book.clone();
    let relays = EntityType::send("relay", move |_: &u64| for_all.relay());
    let policy = [Policy::DropNew, Policy::DropOldest, Policy::Backpressure];
    let mailbox = Mailbox::bounded(2).policy(policy[(builder.seed() % 3) as usize]);
    let region = builder.entities(relays.num_shards(4).mailbox(mailbox));
    book.region.set(region).unwrap();
    (builder.cores(3).swarm().start(), book)
}

fn run(sim: &mut Simulation, book: &Book) {
    let mut rng = seeded(book.seed, 80);
    let region = book.region.get().copied().unwrap();
    let handles: Vec<_> = (0..3)
        .map(|core| sim.handle().through(CoreId(core)).unwrap())
        .collect();
    let mut asks = Vec::new();
    for round in 0..150 {
        if round == 0 || rng.random_ratio(1, 6) {
            // The way in may be as narrow as everything else.
            sim.run_until_idle();
            let mailbox = Mailbox::bounded(rng.random_range(1..4));
            let relay = book.clone();
            let core = CoreId(rng.random_range(0..3));
            let spawned = handles[0].spawn_with(core, mailbox, move || relay.relay());
            let spawned = sim.run_until(spawned).unwrap().unwrap();
            let mut facts = book.facts();
            let surplus = facts.actors.len().saturating_sub(3);
            facts.actors.drain(..surplus);
            facts.actors.push(spawned);
        }
        let number = book.next_ask();
        let within = Duration::from_millis(rng.random_range(1..60));
        let handle = &handles[rng.random_range(0..3)];
        let make = move |reply| Msg::Treat(vec![Ticket(number, reply)]);
        let actors = book.facts().actors.clone();
        let asked = if rng.random_ratio(1, 2) {
            let id = rng.random_range(0..6);
            handle.ask_within(within, region.entity(&id), make)
        } else {
            handle.ask_within(within, actors[rng.random_range(0..actors.len())], make)
        };
        asks.push((number, asked));
        if rng.random_ratio(1, 4) {
            sim.run_for(Duration::from_micros(rng.random_range(0..3_000)));
        }
        if rng.random_ratio(1, 8) {
            let shard = region.shard_of(&rng.random_range(0..6));
            drop(sim.start_move(shard, CoreId(rng.random_range(0..3))));
        }
    }
    if book.seed.is_multiple_of(2) {
        // In the middle of it all.
        drop(sim.shutdown(Duration::from_micros(rng.random_range(0..400))));
    } else {
        // Addresses may be kept for ever, but every ask has its time.
        for _ in 0..50 {
            sim.run_for(Duration::from_millis(100));
            if sim.stats().cores.iter().all(|core| core.open_asks == 0) {
                break;
            }
        }
    }
    for (number, asked) in asks {
        book.ended(number, asked.try_take().expect("every ask ends"));
    }
}

fn judge(facts: &Facts, tally: &Tally) {
    for number in 1..=facts.asks {
        let outcomes = facts.outcomes.get(&number).map_or(&[][..], Vec::as_slice);
        let [outcome] = outcomes else {
            panic!("{number} ended {} times: {outcomes:?}", outcomes.len())
        };
        let seen = facts.seen.contains(&number);
        let failed = facts.failed.contains(&number);
        match outcome {
            Ok(reply) => {
                add(&tally.answered);
                assert!(seen && *reply == number, "{number} was answered {reply}");
            }
            Err(AskError::Rejected(why)) => {
                add(&tally.rejected);
                assert!(!seen, "{number} was rejected ({why}) and a handler saw it");
            }
            Err(AskError::Unknown(Uncertainty::DroppedUnanswered)) => {
                add(&tally.dropped);
                assert!(!failed, "{number} was in the hands of one that failed");
                assert!(
                    seen || facts.accompanied.contains(&number),
                    "{number} never reached a handler, and was not rejected"
                );
            }
            Err(AskError::Unknown(Uncertainty::HandlerFailed)) => {
                add(&tally.failed);
                assert!(
                    seen && failed,
                    "{number} was in the hands of nobody that failed"
                );
            }
            Err(AskError::Unknown(Uncertainty::Timeout | Uncertainty::RuntimeGone)) => {}
            Err(other) => panic!("{number}: {other}"),
        }
    }
}

/// Reply addresses wander through actors and entities that stop, fail, move and have small mailboxes, by all ways there
/// are: whatever happens, each ask ends once, and what its outcome claims is true.
#[test]
fn what_an_outcome_claims_is_true_wherever_the_address_went() {
    let tally = Tally::default();
    check_seeds(200, |builder| {
        let (mut sim, book) = start(builder);
        run(&mut sim, &book);
        judge(&book.facts(), &tally);
        sim
    });
    for count in [
        &tally.answered,
        &tally.rejected,
        &tally.dropped,
        &tally.failed,
    ] {
        assert!(count.get() > 10, "some outcome is hardly ever seen");
    }
}
