//! Entities that are stopped because they are idle or too many: no message is lost, and exactly the least recently used
//! one goes.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim passivation`.

use crate::history::{Event, History, Keeps, judge};
use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Simulation, check_seeds};
use corecast::{Actor, Context, EntityType, Fault, Mailbox, Next, Region};
use rand::RngExt;
use std::collections::BTreeMap;
use std::time::Duration;

struct Entity {
    id: u64,
    count: u64,
    history: History,
}

impl Actor for Entity {
    type Msg = (u32, u64);

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.history.note(Event::Started { at: (0, self.id) });
        Ok(())
    }

    fn receive(&mut self, op: (u32, u64), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.count += 1;
        self.history.note(Event::Handled {
            op,
            at: (0, self.id),
            shard: ctx.shard().unwrap(),
            epoch: ctx.epoch().unwrap(),
            core: ctx.core(),
            count: self.count,
        });
        // Some leave of their own accord.
        Ok(if op.1.is_multiple_of(13) {
            Next::Stop
        } else {
            Next::Continue
        })
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.history.note(Event::Stopped { at: (0, self.id) });
    }
}

fn entities(history: &History) -> EntityType<Entity, u64> {
    let history = history.clone();
    EntityType::send("entity", move |id: &u64| Entity {
        id: *id,
        count: 0,
        history: history.clone(),
    })
    .num_shards(3)
    .mailbox(Mailbox::unbounded())
}

fn active(sim: &Simulation) -> usize {
    sim.stats()
        .cores
        .iter()
        .flat_map(|core| &core.regions)
        .map(|region| region.active)
        .sum()
}

fn passivations(sim: &Simulation) -> u64 {
    sim.stats().cores.iter().map(|core| core.passivations).sum()
}

#[test]
fn no_message_is_lost_under_load() {
    check_seeds(100, |mut builder| {
        let seed = builder.seed();
        let history = History::default();
        let (idle, cap) = (Duration::from_millis(1 + seed % 4), (seed % 5) as usize);
        let region = builder.entities(
            entities(&history)
                .passivate_after(idle)
                .max_active_per_core(cap),
        );
        let mut sim = builder.cores(2).swarm().start();
        let handles: Vec<_> = (0..2)
            .map(|core| sim.handle().through(CoreId(core)).unwrap())
            .collect();
        let mut rng = seeded(seed, 60);
        let mut sends = Vec::new();
        for number in 1..300_u64 {
            let (from, id) = (rng.random_range(0..2_u32), rng.random_range(0..12));
            let op = (from, number);
            history.note(Event::Called { op, to: (0, id) });
            sends.push((op, handles[from as usize].send(region.entity_ref(id), op)));
            if rng.random_ratio(1, 3) {
                sim.run_for(Duration::from_micros(rng.random_range(0..4_000)));
            }
            if rng.random_ratio(1, 10) {
                let to = CoreId(rng.random_range(0..2));
                drop(sim.start_move(region.shard_of(&id), to));
            }
        }
        assert!(sim.run_until_idle());
        for (op, send) in sends {
            let outcome = send.try_take().expect("every send ends");
            let outcome = outcome.map_or_else(crate::history::Outcome::Failed, |()| {
                crate::history::Outcome::Accepted
            });
            history.note(Event::Ended { op, outcome });
        }
        if let Err(mistake) = judge(&history.events(), |_| Keeps::Nothing) {
            panic!("{mistake}");
        }
        assert!(passivations(&sim) > 20, "{}", passivations(&sim));
        assert!(
            active(&sim) <= 2 * cap,
            "{} are active, {cap} on each core may be",
            active(&sim)
        );
        sim.run_for(Duration::from_millis(100));
        assert_eq!(active(&sim), 0, "idle ones are still there");
        sim
    });
}

#[test]
fn exactly_the_least_recently_used_one_goes() {
    check_seeds(20, |mut builder| {
        let seed = builder.seed();
        let history = History::default();
        let cap = 1 + (seed % 6) as usize;
        let region: Region<u64, (u32, u64)> =
            builder.entities(entities(&history).max_active_per_core(cap));
        let mut sim = builder.cores(1).start();
        let mut rng = seeded(seed, 61);
        let mut used: Vec<u64> = Vec::new();
        for number in 0..200_u64 {
            let id = rng.random_range(0..10);
            // Never a multiple of 13, so that none leaves of its own accord.
            sim.tell(region.entity_ref(id), (0, number * 13 + 1));
            assert!(sim.run_until_idle());
            used.retain(|known| *known != id);
            used.push(id);
            if used.len() > cap {
                used.remove(0);
            }
            assert_eq!(alive(&history), used.iter().map(|id| (*id, ())).collect());
        }
        assert!(passivations(&sim) > 20);
        sim
    });
}

fn alive(history: &History) -> BTreeMap<u64, ()> {
    let mut alive = BTreeMap::new();
    for event in history.events() {
        match event {
            Event::Started { at } => drop(alive.insert(at.1, ())),
            Event::Stopped { at } => drop(alive.remove(&at.1)),
            _ => {}
        }
    }
    alive
}

/// An idle entity goes after its time, not before.
#[test]
fn idle_entities_go_in_time() {
    check_seeds(10, |mut builder| {
        let history = History::default();
        let region =
            builder.entities(entities(&history).passivate_after(Duration::from_millis(100)));
        let mut sim = builder.cores(1).start();
        sim.tell(region.entity_ref(1), (0, 1));
        sim.run_for(Duration::from_millis(60));
        sim.tell(region.entity_ref(2), (0, 2));
        sim.run_for(Duration::from_millis(35));
        assert_eq!(alive(&history).len(), 2);
        sim.tell(region.entity_ref(1), (0, 3));
        sim.run_for(Duration::from_millis(55));
        assert_eq!(
            alive(&history).len(),
            2,
            "1 was used meanwhile, and 2 has time left"
        );
        sim.run_for(Duration::from_millis(20));
        assert_eq!(alive(&history).into_keys().collect::<Vec<_>>(), [1]);
        sim.run_for(Duration::from_millis(60));
        assert!(alive(&history).is_empty());
        sim
    });
}
