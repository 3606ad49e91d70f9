//! Every message that is dropped is counted and published, with its reason; and nothing is published about that.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim dead_letters`.

use crate::events::{Ear, Heard, Msg, ear, ear_with, settle};
use corecast::base::ids::CoreId;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, Context, DeadLetter, EntityType, Events, Fault, Mailbox, Next, Policy,
    Rejection, ReplyTo, Stats, Uncertainty,
};
use std::time::Duration;

/// All dead letters that are published.
struct Letters(Events<DeadLetter>, Vec<DeadLetter>);

impl Letters {
    fn of(sim: &Simulation) -> Letters {
        Letters(sim.handle().events(100_000).unwrap(), Vec::new())
    }

    /// The first of a reason.
    fn find(&mut self, why: Rejection) -> Option<&DeadLetter> {
        self.1.extend(std::iter::from_fn(|| self.0.try_recv()));
        self.1.iter().find(|letter| letter.reason == why)
    }

    /// Whether all that are counted have come.
    fn assert_complete(&mut self, stats: &Stats) {
        for why in Rejection::ALL {
            self.find(why);
            let cores = stats.cores.iter().flat_map(|core| &core.dead_letters);
            let counts = cores.chain(&stats.dead_letters_outside);
            let counted: u64 = counts
                .filter(|(known, _)| *known == why)
                .map(|(_, count)| count)
                .sum();
            let found = self.1.iter().filter(|letter| letter.reason == why);
            assert_eq!(found.count() as u64, counted, "{why:?}");
        }
    }
}

#[derive(Debug)]
struct Late(ReplyTo<u64>);

/// Answers when its asker has given up.
struct Laggard;

impl Actor for Laggard {
    type Msg = Late;

    fn receive(&mut self, Late(reply): Late, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let nap = ctx.sleep(Duration::from_millis(20));
        ctx.suspend(nap, |_, (), ctx| {
            ctx.reply(reply, 1);
            Ok(Next::Continue)
        });
        Ok(Next::Continue)
    }
}

fn nap_now(sim: &mut Simulation, ear: ActorRef<Msg>) {
    sim.tell(ear, Msg::Nap(Duration::from_millis(20)));
    assert!(sim.run_until_idle());
}

#[test]
fn every_dead_letter_is_published_with_its_reason() {
    check_seeds(20, |mut builder| {
        let bad = builder.entities(EntityType::send("bad", |_: &u64| -> Ear {
            panic!("on purpose")
        }));
        let moving =
            builder.entities(EntityType::send("moving", |_: &u64| Ear::default()).num_shards(1));
        let bounds = Bounds {
            queued_messages: 200,
            outbox_messages: 64,
            lane_batches: 1,
            ingress_jobs: 300,
            held_messages: 2,
            timers: 1,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let mut letters = Letters::of(&sim);
        let handle = sim.handle().through(CoreId(0)).unwrap();
        let far = sim.handle().through(CoreId(1)).unwrap();

        // Nobody is there, seen from the own core and from another.
        let (gone, _) = ear(&mut sim, 0, "");
        sim.tell(gone, Msg::Stop);
        settle(&mut sim);
        handle.tell(gone, Msg::Idle);
        far.tell(gone, Msg::Idle);
        settle(&mut sim);
        let letter = letters.find(Rejection::NoSuchActor).cloned().unwrap();
        assert_eq!(letters.1, [letter.clone(), letter.clone()]);
        {
            assert_eq!(letter.receiver, Some(format!("{gone:?}")));
            assert_eq!(letter.message, std::any::type_name::<Msg>());
            assert_eq!(letter.core, Some(CoreId(0)));
        }
        let strange = Simulation::builder(1).start().spawn(CoreId(0), || Laggard);
        let strange = strange.unwrap();
        let reply = sim.ask(strange, Late);
        assert_eq!(reply, Err(Rejection::OldIncarnation.into()));
        assert_eq!(
            letters.find(Rejection::OldIncarnation),
            None,
            "the asker was told"
        );
        let stranger = Simulation::builder(2)
            .start()
            .spawn(CoreId(0), Ear::default);
        let stranger = stranger.unwrap();
        handle.tell(stranger, Msg::Idle);
        settle(&mut sim);
        let letter = letters.find(Rejection::OldIncarnation).unwrap();
        assert_eq!(letter.receiver, Some(format!("{stranger:?}")));
        assert_eq!(letter.message, std::any::type_name::<Msg>());

        // A full mailbox, and one that lets the oldest go.
        for policy in [Policy::DropNew, Policy::DropOldest] {
            let (slow, _) = ear_with(&mut sim, 0, Mailbox::bounded(2).policy(policy));
            nap_now(&mut sim, slow);
            for _ in 0..3 {
                far.tell(slow, Msg::Heard(Heard::Tick(0, 0)));
            }
            settle(&mut sim);
        }
        assert!(letters.find(Rejection::MailboxFull).is_some());
        assert!(letters.find(Rejection::Evicted).is_some());

        // Behind a fault; for an entity that cannot be started; a reply that comes too late.
        let (failing, _) = ear(&mut sim, 0, "");
        nap_now(&mut sim, failing);
        handle.tell(failing, Msg::Fail);
        handle.tell(failing, Msg::Idle);
        handle.tell(bad.entity(&7), Msg::Idle);
        far.tell(bad.entity(&7), Msg::Idle);
        settle(&mut sim);
        assert!(letters.find(Rejection::Stopped).is_some());
        let unstarted = letters.find(Rejection::StartFailed).unwrap();
        assert_eq!(unstarted.receiver, Some("bad/7".to_owned()));
        let laggard = sim.spawn(CoreId(1), || Laggard).unwrap();
        let asked = sim.ask_within(Duration::from_millis(5), laggard, Late);
        assert_eq!(asked, Err(Uncertainty::Timeout.into()));
        settle(&mut sim);
        let late = letters.find(Rejection::LateReply).unwrap();
        assert_eq!(late.message, "u64");

        // To a shard that moves, where more waits already than may.
        let shard = moving.shard_of(&7);
        sim.tell(moving.entity(&7), Msg::Nap(Duration::from_millis(20)));
        assert!(sim.run_until_idle());
        let target = CoreId(1 - sim.owner_of(shard).unwrap().0);
        let moved = sim.start_move(shard, target);
        sim.run_for(Duration::from_millis(5));
        for _ in 0..5 {
            handle.tell(moving.entity(&7), Msg::Heard(Heard::Tick(0, 0)));
        }
        settle(&mut sim);
        assert_eq!(sim.run_until(moved).unwrap(), Ok(()));
        let refused = letters.find(Rejection::Moving).unwrap();
        assert_eq!(refused.receiver, Some("moving/7".to_owned()));

        // Timers for which there is no room.
        let late = Duration::from_secs(1_000);
        for name in 0..10 {
            drop(handle.schedule(name, late, gone, Msg::Idle));
        }
        settle(&mut sim);
        let refused = letters.find(Rejection::TooManyTimers).unwrap();
        assert_eq!(refused.receiver, Some(format!("{gone:?}")));
        assert_eq!(refused.message, std::any::type_name::<Msg>());

        // The core's budget, the outbox towards it, and the queue into it.
        let (napping, _) = ear_with(&mut sim, 0, Mailbox::unbounded());
        nap_now(&mut sim, napping);
        for core in [CoreId(0), CoreId(1)] {
            let told = sim.handle().run_on(core, move |scope| async move {
                for _ in 0..300 {
                    scope.tell(napping, Msg::Heard(Heard::Tick(0, 0)));
                }
            });
            sim.run_until(told).unwrap().unwrap();
        }
        assert!(letters.find(Rejection::CoreBudget).is_some());
        assert!(letters.find(Rejection::OutboxFull).is_some());
        settle(&mut sim);
        for _ in 0..350 {
            handle.tell(napping, Msg::Idle);
        }
        let refused = letters.find(Rejection::IngressFull).unwrap();
        assert_eq!(refused.core, None);
        assert_eq!(refused.receiver, Some(format!("{napping:?}")));
        settle(&mut sim);

        // What is left at the end, and what comes after it.
        nap_now(&mut sim, napping);
        for _ in 0..5 {
            handle.tell(napping, Msg::Idle);
            far.tell(napping, Msg::Idle);
        }
        let mut stats = sim.shutdown(Duration::ZERO).stats;
        let outside: u64 = stats.dead_letters_outside.iter().map(|(_, n)| n).sum();
        handle.tell(napping, Msg::Idle);
        stats.dead_letters_outside = sim.stats().dead_letters_outside;
        let outside_after: u64 = stats.dead_letters_outside.iter().map(|(_, n)| n).sum();
        assert_eq!(
            outside_after,
            outside + 1,
            "counted, with nobody left to hear of it"
        );
        stats
            .dead_letters_outside
            .retain(|(why, _)| *why == Rejection::IngressFull);
        letters.assert_complete(&stats);
        let ending = [Rejection::Stopped, Rejection::ShuttingDown];
        assert!(ending.iter().any(|why| {
            letters
                .1
                .iter()
                .rev()
                .take(10)
                .any(|letter| letter.reason == *why)
        }));
        assert_eq!(letters.0.recv(), None, "the end");
        sim
    });
}

/// A thread that floods one core does not fill the queues of the others with the news of it.
#[test]
fn dead_letters_from_outside_leave_room_in_the_queues() {
    check_seeds(10, |builder| {
        let bounds = Bounds {
            ingress_jobs: 10,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let (listener, log) = ear(&mut sim, 1, "d");
        let flooded = sim.handle().through(CoreId(0)).unwrap();
        let other = sim.handle().through(CoreId(1)).unwrap();
        for _ in 0..110 {
            flooded.tell(listener, Msg::Heard(Heard::Tick(0, 0)));
        }
        for _ in 0..5 {
            assert!(
                other
                    .try_tell(listener, Msg::Heard(Heard::Tick(1, 1)))
                    .is_ok()
            );
        }
        settle(&mut sim);
        let log = log.lock().unwrap();
        let letters = log.iter().filter(|heard| matches!(heard, Heard::Letter(_)));
        let stats = sim.stats();
        assert_eq!(letters.count() as u64 + stats.events_dropped_outside, 100);
        assert_eq!(stats.dead_letters_outside, [(Rejection::IngressFull, 100)]);
        drop(log);
        sim
    });
}

/// Actors that listen to dead letters, and whose own mailboxes overflow with them, bring no further ones about.
#[test]
fn there_are_no_dead_letters_about_dead_letters() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let mut listeners = Vec::new();
        for (core, policy) in [
            (0, Policy::DropNew),
            (0, Policy::DropOldest),
            (1, Policy::DropOldest),
        ] {
            let (listener, _) = ear_with(&mut sim, core, Mailbox::bounded(4).policy(policy));
            sim.ask(listener, |done| Msg::Listen("d", done)).unwrap();
            nap_now(&mut sim, listener);
            listeners.push(listener);
        }
        let (gone, _) = ear(&mut sim, 0, "");
        sim.tell(gone, Msg::Stop);
        assert!(sim.run_until_idle());
        let outside = sim.handle().events::<DeadLetter>(1_000).unwrap();
        for _ in 0..50 {
            sim.tell(gone, Msg::Idle);
            for listener in &listeners {
                sim.tell(*listener, Msg::Fail);
            }
        }
        settle(&mut sim);
        let stats = sim.stats();
        let counted = |why| -> u64 {
            let letters = stats.cores.iter().flat_map(|core| &core.dead_letters);
            let of = letters.filter(|(known, _)| *known == why);
            of.map(|(_, count)| count).sum()
        };
        assert_eq!(counted(Rejection::NoSuchActor), 50);
        for why in [
            Rejection::MailboxFull,
            Rejection::Evicted,
            Rejection::Stopped,
        ] {
            assert!(counted(why) > 0, "{why:?}: {stats:?}");
        }
        let published: Vec<_> = std::iter::from_fn(|| outside.try_recv()).collect();
        assert_eq!(published.len(), 50);
        let receiver = Some(format!("{gone:?}"));
        assert!(published.iter().all(|letter| letter.receiver == receiver));
        sim
    });
}
