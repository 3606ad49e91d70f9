//! Shards that move all the time under a random load: nothing is lost, reordered or handled twice, states are exact,
//! epochs rise, and no two cores run a shard at once.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim moves`.

use crate::history::{Event, History, Keeps, judge};
use crate::workload::{self, Load};
use corecast::base::ids::CoreId;
use corecast::sharding::move_error::{MoveError, RefusedWhy};
use corecast::sim::{Bounds, Simulation, SimulationBuilder, check_seeds};
use corecast::{Actor, Context, EntityType, Fault, Mailbox, Next, Policy};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
                let nap = ctx.sleep(Duration::from_millis(20));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Msg::Keep(number) => self.0.lock().unwrap().push(number),
        }
        Ok(Next::Continue)
    }
}

/// One handle sends to an entity whose mailbox is full, and goes on while its shard tries to leave in vain. What was held
/// meanwhile comes behind the sends that wait for room.
#[test]
fn after_a_refused_move_nobody_overtakes_those_who_wait_for_room() {
    check_seeds(20, |mut builder| {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let book = kept.clone();
        let mailbox = Mailbox::bounded(1).policy(Policy::Backpressure);
        let keepers = EntityType::send("keeper", move |_: &u64| Keeper(book.clone()));
        let region = builder.entities(keepers.num_shards(1).mailbox(mailbox));
        let bounds = Bounds {
            patience: Duration::from_millis(5),
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let shard = region.shard_of(&7);
        let from = sim.owner_of(shard).unwrap();
        let handle = sim.handle().through(from).unwrap();
        let to = region.entity_ref(7);
        handle.tell(to, Msg::Nap);
        assert!(sim.run_until_idle());
        let stored = handle.send(to, Msg::Keep(0));
        let waiting = [1, 2].map(|number| handle.send(to, Msg::Keep(number)));
        assert_eq!(sim.run_until(stored).unwrap(), Ok(()));
        assert!(sim.run_until_idle());
        let moving = sim.start_move(shard, CoreId(1 - from.0));
        sim.run_for(Duration::from_millis(2));
        // A full mailbox would refuse them.
        for number in 3..6 {
            handle.tell(to, Msg::Keep(number));
        }
        sim.run_for(Duration::from_millis(1));
        let waiting = waiting.map(|send| send.try_take().expect_err("the mailbox is full"));
        let why = RefusedWhy::Suspended;
        let refused = Err(MoveError::Refused { shard, why });
        assert_eq!(sim.run_until(moving).unwrap(), refused);
        for send in waiting {
            assert_eq!(sim.run_until(send).unwrap(), Ok(()));
        }
        sim.run_for(Duration::from_millis(50));
        assert!(sim.run_until_idle());
        assert_eq!(*kept.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
        sim
    });
}
