//! Messages that idle actors handle straight from the batch in which they come from another core: whatever becomes of the
//! actor in the middle of a batch, they are handled in order and once, or counted, and their asks end as they must.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim arrivals`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Bounds, Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Context, Fault, Mailbox, Next, Rejection, ReplyTo, Time, Uncertainty,
};
use rand::RngExt;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a message has its receiver do, beside answering it if it is an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Nothing,
    /// Keep the reply address until the next message.
    Keep,
    Stop,
    Fail,
    Panic,
    Suspend,
    TellItself,
    StopItself,
    Spawn,
}

const ALL: [What; 9] = [
    What::Nothing,
    What::Keep,
    What::Suspend,
    What::TellItself,
    What::Spawn,
    What::StopItself,
    What::Stop,
    What::Fail,
    What::Panic,
];

#[derive(Debug)]
enum Msg {
    Do {
        from: usize,
        number: u64,
        what: What,
        reply: Option<ReplyTo<u64>>,
    },
    Own(u64),
}

/// What everybody writes down.
#[derive(Default)]
struct Seen {
    /// By sender and receiver, in the order in which they were handled.
    handled: BTreeMap<(usize, usize), Vec<u64>>,
    /// What receivers have sent to themselves, and what of it they have handled.
    own_sent: BTreeMap<usize, Vec<u64>>,
    own_handled: BTreeMap<usize, Vec<u64>>,
    /// Messages to children, sent and handled.
    to_children: u64,
    by_children: u64,
    started: u64,
    stopped: u64,
    /// What was accepted, asks that were not refused at the call included.
    accepted: BTreeMap<u64, What>,
    asked: BTreeSet<u64>,
    outcomes: BTreeMap<u64, Result<u64, AskError>>,
    /// By sender and receiver: the number from which on nothing may be handled any more.
    stops: BTreeMap<(usize, usize), u64>,
}

type Shared = Arc<Mutex<Seen>>;

struct Receiver {
    me: usize,
    seen: Shared,
    is_suspended: bool,
    kept: Option<(ReplyTo<u64>, u64)>,
}

impl Receiver {
    fn new(me: usize, seen: Shared) -> Receiver {
        Receiver {
            me,
            seen,
            is_suspended: false,
            kept: None,
        }
    }
}

impl Actor for Receiver {
    type Msg = Msg;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.seen.lock().unwrap().started += 1;
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        assert!(!self.is_suspended, "nothing is handled meanwhile");
        if let Some((reply, number)) = self.kept.take() {
            ctx.reply(reply, number);
        }
        let (from, number, what, reply) = match msg {
            Msg::Own(number) => {
                let mut seen = self.seen.lock().unwrap();
                seen.own_handled.entry(self.me).or_default().push(number);
                return Ok(Next::Continue);
            }
            Msg::Do {
                from,
                number,
                what,
                reply,
            } => (from, number, what, reply),
        };
        let me = ctx.me();
        {
            let mut seen = self.seen.lock().unwrap();
            let of_pair = seen.handled.entry((from, self.me)).or_default();
            of_pair.push(number);
            match what {
                What::TellItself => seen.own_sent.entry(self.me).or_default().push(number),
                What::Spawn => seen.to_children += 1,
                _ => {}
            }
        }
        match what {
            What::Nothing | What::Stop => {}
            What::Keep => {
                self.kept = reply.map(|reply| (reply, number));
                return Ok(Next::Continue);
            }
            What::Fail => return Err(Fault::new("on purpose")),
            What::Panic => panic!("on purpose"),
            What::Suspend => {
                self.is_suspended = true;
                let nap = ctx.sleep(Duration::from_micros(number % 300));
                ctx.suspend(nap, move |this: &mut Receiver, (), ctx| {
                    this.is_suspended = false;
                    if let Some(reply) = reply {
                        ctx.reply(reply, number);
                    }
                    Ok(Next::Continue)
                });
                return Ok(Next::Continue);
            }
            What::TellItself => ctx.tell(me, Msg::Own(number)),
            What::StopItself => ctx.stop(me),
            What::Spawn => {
                let seen = self.seen.clone();
                let child = ctx.spawn_actor(move || Child(seen.clone()))?;
                ctx.tell(child, ());
            }
        }
        if let Some(reply) = reply {
            ctx.reply(reply, number);
        }
        Ok(if what == What::Stop {
            Next::Stop
        } else {
            Next::Continue
        })
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.seen.lock().unwrap().stopped += 1;
    }
}

/// Handles one message and stops.
struct Child(Shared);

impl Actor for Child {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0.lock().unwrap().by_children += 1;
        Ok(Next::Stop)
    }
}

struct Sender {
    me: usize,
    seed: u64,
    next: u64,
    bursts: u32,
    receivers: Vec<ActorRef<Msg>>,
    seen: Shared,
}

#[derive(Debug)]
enum SenderMsg {
    Burst,
    Outcome(u64, Result<u64, AskError>),
}

impl Actor for Sender {
    type Msg = SenderMsg;

    fn receive(&mut self, msg: SenderMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let number = match msg {
            SenderMsg::Burst => self.next,
            SenderMsg::Outcome(number, outcome) => {
                let before = self.seen.lock().unwrap().outcomes.insert(number, outcome);
                assert_eq!(before, None, "the ask {number} ended twice");
                return Ok(Next::Continue);
            }
        };
        let mut rng = seeded(self.seed, (self.me as u64) << 32 | number);
        // Mostly to one receiver in a row, as bursts are.
        let mut to = rng.random_range(0..self.receivers.len());
        for _ in 0..rng.random_range(1..25) {
            if rng.random_ratio(1, 5) {
                to = rng.random_range(0..self.receivers.len());
            }
            self.send(to, &mut rng, ctx);
        }
        self.bursts -= 1;
        if self.bursts > 0 {
            let nap = ctx.sleep(Duration::from_micros(rng.random_range(0..400)));
            ctx.spawn(nap, |_| SenderMsg::Burst);
        }
        Ok(Next::Continue)
    }
}

impl Sender {
    fn send(&mut self, to: usize, rng: &mut impl rand::Rng, ctx: &mut Context<'_, Self>) {
        self.next += 1;
        // Numbers of all senders differ, and those of one grow.
        let (from, number) = (self.me, self.next * 100 + self.me as u64);
        let what = match rng.random_range(0..60) {
            0..30 => What::Nothing,
            other => ALL[if other < 55 { other % 5 } else { 5 + other % 4 }],
        };
        let make = move |reply| Msg::Do {
            from,
            number,
            what,
            reply,
        };
        let receiver = self.receivers[to];
        if rng.random_ratio(1, 60) {
            ctx.stop(receiver);
            let mut seen = self.seen.lock().unwrap();
            seen.stops.entry((from, to)).or_insert(number);
        }
        if rng.random_ratio(1, 3) {
            self.seen.lock().unwrap().asked.insert(number);
            ctx.ask(
                receiver,
                move |reply| make(Some(reply)),
                move |outcome| SenderMsg::Outcome(number, outcome),
            );
        } else if ctx.try_tell(receiver, make(None)).is_err() {
            return;
        }
        self.seen.lock().unwrap().accepted.insert(number, what);
    }
}

/// Lets senders on some cores burst at receivers on another.
fn storm(builder: SimulationBuilder) -> (Simulation, Shared) {
    let seed = builder.seed();
    let senders = 1 + (seed % 3) as u16;
    let mut sim = builder.cores(usize::from(senders) + 1).swarm().start();
    let seen = Shared::default();
    let mut rng = seeded(seed, 11);
    let handle = sim.handle();
    let mut receivers = Vec::new();
    for me in 0..12 {
        let seen = seen.clone();
        let mailbox = Mailbox::bounded([2, 1_000][rng.random_range(0..2)]);
        let spawned = handle.spawn_with(CoreId(0), mailbox, move || Receiver::new(me, seen));
        receivers.push(sim.run_until(spawned).unwrap().unwrap());
    }
    for me in 0..usize::from(senders) {
        let (receivers, seen) = (receivers.clone(), seen.clone());
        let sender = sim.spawn(CoreId(1 + me as u16), move || Sender {
            me,
            seed,
            next: 0,
            bursts: 12,
            receivers,
            seen,
        });
        sim.tell(sender.unwrap(), SenderMsg::Burst);
    }
    sim.run_for(Duration::from_millis(100));
    assert!(sim.run_until_idle());
    // So that nobody keeps a reply address any more.
    for (me, receiver) in receivers.into_iter().enumerate() {
        let mut seen = seen.lock().unwrap();
        seen.own_sent.entry(me).or_default().push(u64::MAX);
        drop(seen);
        sim.tell(receiver, Msg::Own(u64::MAX));
        assert!(sim.run_until_idle());
    }
    (sim, seen)
}

fn check_order(seen: &Seen) {
    for (pair, numbers) in &seen.handled {
        let in_order = numbers.is_sorted_by(|one, next| one < next);
        assert!(in_order, "{pair:?} handled {numbers:?}");
        if let Some(stop) = seen.stops.get(pair) {
            let last = numbers.last();
            assert!(last < Some(stop), "{pair:?}: {last:?} behind stop {stop}");
        }
    }
    for (receiver, handled) in &seen.own_handled {
        let sent = &seen.own_sent[receiver];
        let mut rest = sent.iter();
        let in_order = handled.iter().all(|number| rest.any(|one| one == number));
        assert!(in_order, "{receiver} sent {sent:?}, handled {handled:?}");
    }
}

/// Returns how many of the accepted messages were refused at the call all the same: asks, that have no other way to say so.
fn check_asks(seen: &Seen, handled: &BTreeSet<u64>) -> u64 {
    let mut refused = 0;
    assert!(seen.asked.iter().eq(seen.outcomes.keys()), "all asks end");
    for (number, outcome) in &seen.outcomes {
        let what = seen.accepted[number];
        let was_handled = handled.contains(number);
        let fits = match outcome {
            Ok(answer) => was_handled && answer == number,
            Err(AskError::Rejected(why)) => {
                refused += u64::from(*why == Rejection::OutboxFull);
                !was_handled
            }
            // It failed, or whoever kept the reply address did before the next message or in it.
            Err(AskError::Unknown(Uncertainty::HandlerFailed)) => {
                was_handled && matches!(what, What::Fail | What::Panic | What::Keep)
            }
            Err(AskError::Unknown(Uncertainty::DroppedUnanswered)) => {
                was_handled && what == What::Keep
            }
            Err(_) => false,
        };
        assert!(fits, "{number} {what:?}: {outcome:?}, {was_handled}");
    }
    refused
}

#[test]
fn a_batch_goes_on_whatever_becomes_of_its_actors() {
    let (runs, handled_in_all, full_in_all) = (Cell::new(0), Cell::new(0), Cell::new(0));
    check_seeds(200, |builder| {
        runs.set(runs.get() + 1);
        let (mut sim, shared) = storm(builder);
        let stats = sim.stats();
        for core in &stats.cores {
            assert_eq!((core.queued_messages, core.queued_bytes), (0, 0));
            assert_eq!((core.open_asks, core.ready), (0, 0));
            let in_lanes = |lane: &corecast::engine::stats::LaneStats| {
                lane.outbox + lane.requests + lane.replies
            };
            assert_eq!(core.lanes.iter().map(in_lanes).sum::<usize>(), 0);
        }
        let dead: u64 = stats
            .cores
            .iter()
            .map(|core| core.dead_letters_total())
            .sum();
        {
            let seen = shared.lock().unwrap();
            check_order(&seen);
            let numbers = seen.handled.values().flatten();
            let handled: BTreeSet<u64> = numbers.copied().collect();
            let count = |lists: &BTreeMap<usize, Vec<u64>>| -> u64 {
                lists.values().map(|list| list.len() as u64).sum()
            };
            let refused = check_asks(&seen, &handled);
            assert_eq!(
                seen.accepted.len() as u64 - refused + count(&seen.own_sent) + seen.to_children,
                handled.len() as u64 + count(&seen.own_handled) + seen.by_children + dead,
                "every message is handled or a dead letter"
            );
            handled_in_all.set(handled_in_all.get() + handled.len());
            let full = Rejection::MailboxFull;
            let full = stats.cores[0].dead_letters.iter().find(|it| it.0 == full);
            full_in_all.set(full_in_all.get() + full.map_or(0, |(_, count)| *count));
        }
        sim.shutdown(Duration::from_secs(1));
        let seen = shared.lock().unwrap();
        assert_eq!((seen.started, seen.stopped), (12, 12));
        drop(seen);
        sim
    });
    let (runs, handled, full) = (runs.get(), handled_in_all.get(), full_in_all.get());
    // Few seeds may all be quiet ones.
    if runs >= 20 {
        assert!(
            handled > 25 * runs && full > runs as u64 / 4,
            "{runs} runs: {handled} {full}"
        );
    }
}

/// Notes the turn of each message.
struct Clerk(Arc<Mutex<Vec<Time>>>);

#[derive(Debug)]
struct Note;

impl Actor for Clerk {
    type Msg = Note;

    fn receive(&mut self, _: Note, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0.lock().unwrap().push(ctx.now());
        if self.0.lock().unwrap().len() == 1 {
            ctx.spawn(async {}, |_| Note);
        }
        Ok(Next::Continue)
    }
}

/// An idle clerk on core 0 gets `count` messages in one batch from core 1. Returns the turns in which it handled them.
fn burst(sim: &mut Simulation, mailbox: Mailbox, count: usize) -> Vec<Time> {
    let turns = Arc::new(Mutex::new(Vec::new()));
    let clerk = Clerk(turns.clone());
    let clerk = sim.handle().spawn_with(CoreId(0), mailbox, || clerk);
    let clerk = sim.run_until(clerk).unwrap().unwrap();
    assert!(sim.run_until_idle());
    drop(sim.handle().run_on(CoreId(1), move |scope| async move {
        (0..count).for_each(|_| scope.tell(clerk, Note));
    }));
    assert!(sim.run_until_idle());
    turns.lock().unwrap().clone()
}

/// Where only one message fits into the mailbox, the way that a burst takes can be seen.
#[test]
fn the_simulator_tries_both_ways() {
    let (mut through, mut straight) = (Cell::new(0), Cell::new(0));
    check_seeds(40, |builder| {
        let mut sim = builder.cores(2).start();
        match burst(&mut sim, Mailbox::bounded(1), 20).len() {
            // The note of the future is another one.
            21 => straight.set(straight.get() + 1),
            2 => through.set(through.get() + 1),
            _ => {}
        }
        sim
    });
    if std::env::var_os("CORECAST_SEED").is_none() {
        assert!(*through.get_mut() > 5 && *straight.get_mut() > 5);
    }
}

/// A large batch to one actor does not make a turn longer than turns may be.
#[test]
fn a_turn_handles_so_many_arrivals_and_as_many_others() {
    check_seeds(20, |builder| {
        let bounds = Bounds {
            batch_messages: 900,
            turn_messages: 10,
            activation_messages: 10,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let turns = burst(&mut sim, Mailbox::default(), 900);
        assert_eq!(turns.len(), 901);
        for turn in turns.chunk_by(|one, next| one == next) {
            assert!(turn.len() <= 20, "{} messages in one turn", turn.len());
        }
        sim
    });
}

/// A turn always takes something in.
#[test]
fn a_turn_that_may_handle_nothing_handles_one() {
    check_seeds(10, |builder| {
        let bounds = Bounds {
            turn_messages: 0,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        assert_eq!(burst(&mut sim, Mailbox::default(), 20).len(), 21);
        sim
    });
}

/// What the handlers of arrivals take is not counted against a future that is polled after them.
#[test]
fn futures_do_not_answer_for_arrivals() {
    check_seeds(20, |builder| {
        let bounds = Bounds {
            turn_time: Duration::from_secs(1),
            ..Bounds::default()
        };
        // A stall is 5 ms, so none of the messages is one.
        let cost = Duration::from_millis(2);
        let mut sim = builder.cores(2).bounds(bounds).message_cost(cost).start();
        assert_eq!(burst(&mut sim, Mailbox::default(), 60).len(), 61);
        let core = &sim.stats().cores[0];
        let of_actors: u64 = core.types.iter().map(|known| known.stalls).sum();
        assert_eq!(core.stalls - of_actors, 0, "a future stalled its core");
        sim
    });
}

struct Shy;

struct Unprintable(#[expect(dead_code, reason = "it ends with its message")] ReplyTo<()>);

impl fmt::Debug for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it cannot be rendered, on purpose")
    }
}

impl Actor for Shy {
    type Msg = Unprintable;

    fn receive(&mut self, _: Unprintable, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        unreachable!("rendering it for the trace has panicked before")
    }
}

/// The trace renders messages. One for which that panics takes its receiver down, and is not lost.
#[test]
fn a_message_that_the_trace_cannot_render_is_rejected_and_counted() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let shy = sim.spawn(CoreId(0), || Shy).unwrap();
        let far = sim.handle().through(CoreId(1)).unwrap();
        let asked = far.ask(shy, Unprintable);
        let outcome = sim.run_until(asked).unwrap();
        assert!(
            matches!(outcome, Err(AskError::Rejected(_))),
            "{outcome:?}, though no handler has seen it"
        );
        let core = &sim.stats().cores[0];
        assert_eq!((core.dead_letters_total(), core.faults), (1, 1));
        drop(far);
        sim
    });
}
