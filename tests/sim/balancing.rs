//! The balancer in the whole node: hot shards that start on one core spread, and then stay.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim balancing`.

use corecast::base::ids::CoreId;
use corecast::sharding::settings::BalancerSettings;
use corecast::sharding::topology::Allocation;
use corecast::sim::{Simulation, check_seeds};
use corecast::{Actor, Context, EntityType, Fault, Next, Region};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sends itself a message again and again: one entity is one steady load.
struct Busy {
    id: u64,
}

impl Actor for Busy {
    type Msg = ();

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        // Entity n rests as long as makes its load; they are unequal, and none is above a fifth of all.
        let rest = ctx.sleep(Duration::from_millis(2 + self.id % 4));
        ctx.spawn(rest, |_| ());
        Ok(Next::Continue)
    }
}

fn owners(sim: &Simulation, region: &Region<u64, ()>, entities: u64) -> BTreeMap<u64, CoreId> {
    (0..entities)
        .map(|id| (id, sim.owner_of(region.shard_of(&id)).unwrap()))
        .collect()
}

#[test]
fn hot_shards_spread_and_then_stay() {
    const ENTITIES: u64 = 16;
    check_seeds(2, |mut builder| {
        let region =
            builder.entities(EntityType::send("busy", |id: &u64| Busy { id: *id }).num_shards(64));
        // A message keeps its core for 120 us on average: the first core has more to do than it can.
        let mut sim = builder
            .cores(2)
            .allocation(Allocation::AllOn(CoreId(0)))
            .balancer(BalancerSettings::default())
            .message_cost(Duration::from_micros(120))
            .start();
        for id in 0..ENTITIES {
            sim.tell(region.entity(&id), ());
        }
        sim.run_for(Duration::from_secs(10));
        let spread = owners(&sim, &region, ENTITIES);
        let before = sim.stats();
        sim.run_for(Duration::from_secs(2));
        let after = sim.stats();
        let handled: Vec<u64> = (0..2)
            .map(|core| after.cores[core].handled - before.cores[core].handled)
            .collect();
        let (low, high) = (
            handled[0].min(handled[1]) as f64,
            handled[0].max(handled[1]) as f64,
        );
        assert!(low / high > 0.7, "after 10 s the cores handle {handled:?}");
        assert!(spread.values().any(|core| *core == CoreId(1)));

        // Watched closely for a minute of steady load: no shard moves twice.
        let mut moves: BTreeMap<u64, u32> = BTreeMap::new();
        let mut known = owners(&sim, &region, ENTITIES);
        for _ in 0..600 {
            sim.run_for(Duration::from_millis(100));
            let now = owners(&sim, &region, ENTITIES);
            for (id, core) in &now {
                if known[id] != *core {
                    *moves.entry(*id).or_default() += 1;
                }
            }
            known = now;
        }
        assert!(moves.values().all(|times| *times < 2), "{moves:?}");
        sim
    });
}
