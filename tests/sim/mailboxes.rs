//! What each mailbox policy keeps, drops and refuses, and the budget of a core.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim mailboxes`.

use corecast::base::ids::CoreId;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{Actor, ActorRef, AskError, Context, Fault, Mailbox, Next, Policy, Rejection};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug)]
enum Msg {
    Nap,
    Keep(u32),
}

struct Keeper(Arc<Mutex<Vec<u32>>>);

impl Actor for Keeper {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Nap => {
                let nap = ctx.sleep(Duration::from_millis(10));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Msg::Keep(number) => self.0.lock().unwrap().push(number),
        }
        Ok(Next::Continue)
    }
}

/// A keeper that naps, so that its mailbox fills.
fn napping(sim: &mut Simulation, mailbox: Mailbox) -> (ActorRef<Msg>, Arc<Mutex<Vec<u32>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeper = Keeper(kept.clone());
    let spawned = sim.handle().spawn_with(CoreId(0), mailbox, || keeper);
    let actor = sim.run_until(spawned).unwrap().unwrap();
    sim.tell(actor, Msg::Nap);
    assert!(sim.run_until_idle());
    (actor, kept)
}

/// Five tells from a future on a core; how many of them failed at the call.
fn five_tells(sim: &mut Simulation, core: u16, to: ActorRef<Msg>) -> usize {
    let refused = sim.handle().run_on(CoreId(core), move |scope| async move {
        (0..5)
            .filter(|number| scope.try_tell(to, Msg::Keep(*number)).is_err())
            .count()
    });
    let refused = sim.run_until(refused).unwrap().unwrap();
    sim.run_for(Duration::from_millis(50));
    assert!(sim.run_until_idle());
    refused
}

#[test]
fn two_places_and_five_tells() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).start();
        for (core, policy, kept, refused, dead) in [
            (0, Policy::DropNew, [0, 1], 3, None),
            (0, Policy::Reject, [0, 1], 3, None),
            (0, Policy::Backpressure, [0, 1], 3, None),
            (
                0,
                Policy::DropOldest,
                [3, 4],
                0,
                Some((Rejection::Evicted, 3)),
            ),
            // From another core the call succeeds, and what overflows is a dead letter.
            (
                1,
                Policy::DropNew,
                [0, 1],
                0,
                Some((Rejection::MailboxFull, 3)),
            ),
            (
                1,
                Policy::Reject,
                [0, 1],
                0,
                Some((Rejection::MailboxFull, 3)),
            ),
            (
                1,
                Policy::DropOldest,
                [3, 4],
                0,
                Some((Rejection::Evicted, 3)),
            ),
        ] {
            let before = letters(&sim);
            let (actor, got) = napping(&mut sim, Mailbox::bounded(2).policy(policy));
            assert_eq!(
                five_tells(&mut sim, core, actor),
                refused,
                "{policy:?} from core {core}"
            );
            assert_eq!(*got.lock().unwrap(), kept, "{policy:?} from core {core}");
            let mut expected = before;
            if let Some((why, count)) = dead {
                expected[Rejection::ALL
                    .iter()
                    .position(|known| *known == why)
                    .unwrap()] += count;
            }
            assert_eq!(letters(&sim), expected, "{policy:?} from core {core}");
        }
        sim
    });
}

fn letters(sim: &Simulation) -> Vec<u64> {
    let stats = sim.stats();
    let of = |why: &Rejection| {
        stats
            .cores
            .iter()
            .flat_map(|core| &core.dead_letters)
            .filter(|(known, _)| known == why)
            .map(|(_, n)| n)
            .sum()
    };
    Rejection::ALL.iter().map(of).collect()
}

#[test]
fn awaited_sends_wait_in_order_and_their_number_is_bounded() {
    check_seeds(30, |builder| {
        let through = (builder.seed() % 2) as u16;
        let mut sim = builder.cores(2).start();
        let mailbox = Mailbox::bounded(2).policy(Policy::Backpressure).waiters(3);
        let (actor, got) = napping(&mut sim, mailbox);
        let handle = sim.handle().through(CoreId(through)).unwrap();
        let sends: Vec<_> = (0..8)
            .map(|number| handle.send(actor, Msg::Keep(number)))
            .collect();
        // Two have room, three wait, three are refused.
        assert!(sim.run_until_idle());
        let full = Err(AskError::Rejected(Rejection::MailboxFull));
        let mut waiting = Vec::new();
        for (number, send) in sends.into_iter().enumerate() {
            match send.try_take() {
                Ok(outcome) if number < 2 => assert_eq!(outcome, Ok(())),
                Ok(outcome) => assert!(number >= 5 && outcome == full, "{number}: {outcome:?}"),
                Err(pending) => {
                    assert!((2..5).contains(&number), "{number}");
                    waiting.push(pending);
                }
            }
        }
        assert_eq!(waiting.len(), 3);
        for send in waiting {
            assert_eq!(sim.run_until(send).unwrap(), Ok(()));
        }
        assert!(sim.run_until_idle());
        assert_eq!(*got.lock().unwrap(), [0, 1, 2, 3, 4]);
        sim
    });
}

#[test]
fn a_sender_that_awaits_gets_everything_through() {
    check_seeds(30, |builder| {
        let mut sim = builder.cores(2).swarm().start();
        let (actor, got) = napping(&mut sim, Mailbox::bounded(2).policy(Policy::Backpressure));
        let sent = sim.handle().run_on(CoreId(1), move |scope| async move {
            let mut number = 0;
            while number < 100 {
                scope.send(actor, Msg::Keep(number)).await.unwrap();
                number += 1;
            }
            number
        });
        assert_eq!(sim.run_until(sent).unwrap(), Ok(100));
        assert!(sim.run_until_idle());
        assert_eq!(*got.lock().unwrap(), (0..100).collect::<Vec<_>>());
        sim
    });
}

/// However many mailboxes there are, a core queues no more than its budget.
#[test]
fn a_core_queues_no_more_than_its_budget() {
    check_seeds(10, |builder| {
        let budget = 50;
        let mut sim = builder
            .cores(2)
            .bounds(Bounds {
                queued_messages: budget,
                ..Bounds::default()
            })
            .start();
        let keepers: Vec<_> = (0..20)
            .map(|_| napping(&mut sim, Mailbox::bounded(100)).0)
            .collect();
        let mut accepted = 0;
        for keeper in keepers {
            let refused = sim.handle().run_on(CoreId(0), move |scope| async move {
                (0..10)
                    .filter(|number| scope.try_tell(keeper, Msg::Keep(*number)).is_ok())
                    .count()
            });
            accepted += sim.run_until(refused).unwrap().unwrap();
            assert!(sim.stats().cores[0].queued_messages <= budget);
        }
        assert!((budget..200).contains(&accepted), "{accepted}");
        sim
    });
}

/// Many batches wait in the lanes towards a core whose budget is full. It looks for room before each of them, so that it
/// takes at most one too many; the others stay in the lanes, and what does not fit there with their senders.
#[test]
fn a_core_without_budget_takes_one_batch_too_many_and_no_more() {
    check_seeds(10, |builder| {
        let (budget, batch, lane, outbox) = (20, 8, 6, 64);
        let bounds = Bounds {
            queued_messages: budget,
            batch_messages: batch,
            lane_batches: lane,
            outbox_messages: outbox,
            ..Bounds::default()
        };
        let mut sim = builder.cores(3).bounds(bounds).start();
        let (actor, got) = napping(&mut sim, Mailbox::unbounded());
        let mut accepted = 0;
        let mut refused = 0;
        for _ in 0..4 {
            for core in [CoreId(1), CoreId(2)] {
                let sent = sim.handle().run_on(core, move |scope| async move {
                    (0..200)
                        .filter(|number| scope.try_tell(actor, Msg::Keep(*number)).is_ok())
                        .count()
                });
                let sent = sim.run_until(sent).unwrap().unwrap();
                accepted += sent;
                refused += 200 - sent;
            }
            sim.run_for(Duration::from_micros(200));
            let stats = sim.stats();
            let core = &stats.cores[0];
            assert!(core.queued_messages <= budget + batch, "{core:?}");
        }
        let stats = sim.stats();
        let core = &stats.cores[0];
        assert!(core.queued_messages >= budget, "{core:?}");
        let waiting = |from| {
            core.lanes
                .iter()
                .find(|known| known.from == from)
                .unwrap()
                .requests
        };
        assert_eq!(
            [waiting(CoreId(1)), waiting(CoreId(2))],
            [lane, lane],
            "full lanes"
        );
        assert!(refused > 0, "the senders hear of it");
        sim.run_for(Duration::from_millis(50));
        assert!(sim.run_until_idle());
        // While it works that off, its budget is full again and again.
        assert_eq!(got.lock().unwrap().len(), accepted, "nothing is lost");
        sim
    });
}

/// Sends to itself while others wait for room in its mailbox, in which a message that it has taken out leaves some.
struct Hasty(Arc<Mutex<Vec<u32>>>);

impl Actor for Hasty {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Nap => {
                let nap = ctx.sleep(Duration::from_millis(10));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Msg::Keep(number) => {
                self.0.lock().unwrap().push(number);
                if number == 0 {
                    let (me, scope) = (ctx.me(), ctx.scope());
                    let overtaking = ctx
                        .try_tell(me, Msg::Keep(98))
                        .map_err(|refused| refused.why);
                    assert_eq!(overtaking, Err(Rejection::MailboxFull));
                    ctx.spawn(
                        async move { scope.send(me, Msg::Keep(99)).await.is_ok() },
                        |sent| Msg::Keep(if sent == Ok(true) { 100 } else { 101 }),
                    );
                }
            }
        }
        Ok(Next::Continue)
    }
}

#[test]
fn nobody_overtakes_those_who_wait_for_room() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let hasty = Hasty(kept.clone());
        let mailbox = Mailbox::bounded(2).policy(Policy::Backpressure);
        let spawned = sim.handle().spawn_with(CoreId(0), mailbox, || hasty);
        let actor = sim.run_until(spawned).unwrap().unwrap();
        sim.tell(actor, Msg::Nap);
        assert!(sim.run_until_idle());
        let handle = sim.handle().through(CoreId(1)).unwrap();
        let sends: Vec<_> = (0..7)
            .map(|number| handle.send(actor, Msg::Keep(number)))
            .collect();
        for send in sends {
            assert_eq!(sim.run_until(send).unwrap(), Ok(()));
        }
        assert!(sim.run_until_idle());
        let kept = kept.lock().unwrap();
        let others: Vec<_> = kept.iter().copied().filter(|number| *number < 98).collect();
        assert_eq!(others, [0, 1, 2, 3, 4, 5, 6]);
        assert!(kept.contains(&99) && kept.contains(&100), "{kept:?}");
        sim
    });
}
