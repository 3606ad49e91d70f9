//! The end: everything that was accepted is handled or counted, whenever it comes.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim shutdown`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Closing, Simulation, check_seeds};
use corecast::{
    Actor, AskError, Context, EntityRef, EntityType, Fault, Mailbox, Next, Region, ReplyTo,
};
use rand::RngExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

#[derive(Clone, Default)]
struct Tally {
    accepted: Arc<AtomicU64>,
    handled: Arc<AtomicU64>,
    stopped: Arc<AtomicU64>,
    started: Arc<AtomicU64>,
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
enum Msg {
    Hop(u32),
    Ask(ReplyTo<u64>),
}

/// Passes each message on to another entity, until it has hopped enough.
struct Hopper {
    region: Arc<OnceLock<Region<u64, Msg>>>,
    id: u64,
    tally: Tally,
}

impl Actor for Hopper {
    type Msg = Msg;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        add(&self.tally.started);
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        add(&self.tally.handled);
        match msg {
            Msg::Hop(0) => {}
            Msg::Hop(left) => {
                let to: EntityRef<u64, Msg> = self
                    .region()
                    .entity_ref((self.id * 7 + u64::from(left)) % 20);
                if ctx.try_tell(to, Msg::Hop(left - 1)).is_ok() {
                    add(&self.tally.accepted);
                }
            }
            Msg::Ask(reply) => ctx.reply(reply, self.id),
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        add(&self.tally.stopped);
        // A last word, which nobody hears any more.
        if ctx
            .try_tell(self.region().entity(&((self.id + 1) % 20)), Msg::Hop(0))
            .is_ok()
        {
            add(&self.tally.accepted);
        }
    }
}

impl Hopper {
    fn region(&self) -> Region<u64, Msg> {
        *self.region.get().expect("nobody starts before the node")
    }
}

struct Run {
    sim: Simulation,
    closing: Closing,
    tally: Tally,
    asks: Vec<Result<u64, AskError>>,
}

fn run(mut builder: corecast::sim::SimulationBuilder, within: Duration) -> Run {
    let seed = builder.seed();
    let tally = Tally::default();
    let for_all = tally.clone();
    let known = Arc::new(OnceLock::new());
    let region = builder.entities(hoppers(&known, &for_all));
    known.set(region).unwrap();
    let mut sim = builder.cores(1 + (seed % 3) as usize).swarm().start();
    let mut rng = seeded(seed, 70);
    let mut asks = Vec::new();
    let handle = sim.handle();
    for _ in 0..100 {
        let id = rng.random_range(0..20);
        if rng.random_ratio(1, 4) {
            asks.push(handle.ask(region.entity(&id), Msg::Ask));
        } else if handle
            .try_tell(region.entity(&id), Msg::Hop(rng.random_range(0..200)))
            .is_ok()
        {
            add(&tally.accepted);
        }
        if rng.random_ratio(1, 10) {
            drop(sim.start_move(
                region.shard_of(&id),
                CoreId(rng.random_range(0..handle.cores() as u16)),
            ));
        }
        if rng.random_ratio(1, 8) {
            sim.run_for(Duration::from_micros(rng.random_range(0..100)));
        }
    }
    if seed.is_multiple_of(3) {
        // More than a core takes in before it is told to stop.
        for id in (0..20).cycle().take(2_000) {
            if handle.try_tell(region.entity(&id), Msg::Hop(0)).is_ok() {
                add(&tally.accepted);
            }
        }
    }
    let closing = sim.shutdown(within);
    let asks = asks
        .into_iter()
        .map(|ask| ask.try_take().expect("every ask ends with the node"))
        .collect();
    Run {
        sim,
        closing,
        tally,
        asks,
    }
}

fn hoppers(region: &Arc<OnceLock<Region<u64, Msg>>>, tally: &Tally) -> EntityType<Hopper, u64> {
    let (region, tally) = (region.clone(), tally.clone());
    EntityType::send("hopper", move |id: &u64| Hopper {
        region: region.clone(),
        id: *id,
        tally: tally.clone(),
    })
    .num_shards(5)
    .mailbox(Mailbox::bounded(20))
}

fn check(run: Run) -> Simulation {
    let Run {
        sim,
        closing,
        tally,
        asks,
    } = run;
    let dead: u64 = closing
        .stats
        .cores
        .iter()
        .map(|core| core.dead_letters_total())
        .sum();
    // An ask is accepted like a tell, unless it was rejected; what was rejected further on was counted as well.
    let answered = asks.iter().filter(|ask| ask.is_ok()).count() as u64;
    let hops = get(&tally.handled) - answered;
    let unheard = asks.iter().filter(|ask| ask.is_err()).count() as u64;
    let accepted = get(&tally.accepted);
    assert!(
        accepted <= hops + dead && hops + dead <= accepted + unheard,
        "accepted {accepted}, handled {hops}, dead letters {dead}, asks that failed {unheard}"
    );
    assert_eq!(
        get(&tally.started),
        get(&tally.stopped),
        "every entity ends with its hook"
    );
    for core in &closing.stats.cores {
        let left = (
            core.actors,
            core.queued_messages,
            core.queued_bytes,
            core.open_asks,
            core.tasks,
        );
        assert_eq!(left, (0, 0, 0, 0, 0), "{}", core.core);
    }
    sim
}

#[test]
fn an_end_in_the_middle_counts_what_it_cuts_off() {
    check_seeds(200, |builder| {
        let within = Duration::from_micros(builder.seed() % 40 * 10);
        check(run(builder, within))
    });
}

#[test]
fn an_end_with_enough_time_handles_everything() {
    check_seeds(100, |builder| {
        let run = run(builder, Duration::from_secs(60));
        assert!(run.closing.drained);
        check(run)
    });
}

#[test]
fn nothing_enters_after_the_end() {
    let mut sim = Simulation::builder(3).start();
    let closing = sim.shutdown(Duration::from_secs(1));
    assert!(closing.drained);
    assert!(sim.spawn(CoreId(0), || Late).is_err());
    assert!(!sim.step(), "nothing is left to do");
}

struct Late;

impl Actor for Late {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

/// A handler that does not end holds its own core only: the others are told to stop a second after the deadline.
#[test]
fn a_core_that_is_held_does_not_hold_the_others() {
    let held = AtomicU64::new(0);
    check_seeds(20, |builder| {
        let mut sim = builder
            .cores(2)
            .message_cost(Duration::from_secs(100))
            .start();
        let late = sim.spawn(CoreId(0), || Late).unwrap();
        sim.tell(late, ());
        sim.run_for(Duration::from_millis(1));
        let began = sim.now();
        let closing = sim.shutdown(Duration::ZERO);
        let ended = |core: usize| closing.stats.cores[core].at - began;
        if ended(0) > Duration::from_secs(5) {
            add(&held);
            assert!(!closing.drained);
            assert!(ended(1) < Duration::from_millis(1_100), "{:?}", ended(1));
            assert!(ended(2) < Duration::from_millis(1_100), "{:?}", ended(2));
        }
        sim
    });
    assert!(get(&held) > 0, "no core was held");
}

/// A drain waits for actors that wait in an asynchronous handler, though nothing is queued and nobody is ready.
#[test]
fn an_end_with_enough_time_waits_for_asynchronous_handlers() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let woken = Arc::new(AtomicU64::new(0));
        for core in [0, 1, 1] {
            let napper = Napper(woken.clone());
            let napper = sim.spawn(CoreId(core), || napper).unwrap();
            sim.tell(napper, ());
        }
        assert!(sim.run_until_idle());
        let closing = sim.shutdown(Duration::from_secs(60));
        assert!(closing.drained);
        assert_eq!(get(&woken), 3);
        sim
    });
}

struct Napper(Arc<AtomicU64>);

impl Actor for Napper {
    type Msg = ();

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let nap = ctx.sleep(Duration::from_secs(5));
        ctx.suspend(nap, |this, (), _| {
            add(&this.0);
            Ok(Next::Continue)
        });
        Ok(Next::Continue)
    }
}
