//! Shards that move all the time under a random load: nothing is lost, reordered or handled twice, states are exact,
//! epochs rise, and no two cores run a shard at once.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim moves`.

use crate::history::{Event, History, Keeps, judge};
use crate::workload::{self, Load};
use corecast::sim::{Simulation, SimulationBuilder, check_seeds};
use std::cell::Cell;

pub fn keeps(kind: u16) -> Keeps {
    if kind == 2 {
        Keeps::Nothing
    } else {
        Keeps::State
    }
}

/// One run; the number of moves that succeeded.
pub fn scenario(mut builder: SimulationBuilder, load: Load) -> (Simulation, usize) {
    let history = History::default();
    let regions = workload::kinds(&mut builder, &history, load.shards);
    let cores = 2 + (builder.seed() % 3) as usize;
    let mut sim = builder.cores(cores).swarm().start();
    let moved = workload::run(&mut sim, &regions, &history, load);
    let events = history.events();
    if let Err(mistake) = judge(&events, keeps) {
        panic!("{mistake}");
    }
    let handled = events
        .iter()
        .filter(|event| matches!(event, Event::Handled { .. }))
        .count();
    assert!(handled > 0, "nothing was handled");
    let letters: u64 = sim
        .stats()
        .cores
        .iter()
        .map(|core| core.dead_letters_total())
        .sum();
    assert_eq!(
        letters,
        0,
        "{:?}",
        sim.stats()
            .cores
            .iter()
            .map(|core| core.dead_letters.clone())
            .collect::<Vec<_>>()
    );
    (sim, moved)
}

#[test]
fn nothing_is_lost_or_reordered_while_shards_move() {
    let moved = Cell::new(0);
    check_seeds(200, |builder| {
        let load = Load {
            entities: 12,
            messages: 40,
            shards: 4,
            moves: 60,
            slow: true,
        };
        let (sim, moves) = scenario(builder, load);
        moved.set(moved.get() + moves);
        sim
    });
    assert!(moved.get() > 0, "no shard has moved");
}

#[test]
fn large_shards_move_in_parts() {
    check_seeds(3, |builder| {
        let load = Load {
            entities: 3_000,
            messages: 1_500,
            shards: 1,
            moves: 40,
            slow: false,
        };
        scenario(builder, load).0
    });
}
