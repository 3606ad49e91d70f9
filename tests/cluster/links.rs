//! Connections of several nodes over a virtual network: they settle, keep order, and lose nothing without saying so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::links_world::{World, ms, secs};
use crate::seeds::{Trace, check_seeds};
use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::links::refusal::NotSent;
use corecast::rand::RngExt;
use corecast::rand::seq::IndexedRandom;
use corecast::sim::network::NetworkSettings;

/// What happened in all runs of a test, so that it can show that everything did.
type Coverage = RefCell<BTreeMap<&'static str, u64>>;

fn cover(coverage: &Coverage, what: &'static str, times: u64) {
    *coverage.borrow_mut().entry(what).or_default() += times;
}

/// Every thing that should have happened has, unless a single seed is replayed.
fn check_coverage(coverage: &Coverage, expected: &[&'static str]) {
    if std::env::var_os("CORECAST_SEED").is_some() {
        return;
    }
    let coverage = coverage.borrow();
    for what in expected {
        assert!(
            coverage.get(what).is_some_and(|times| *times > 0),
            "`{what}` never happened: {coverage:?}"
        );
    }
}

fn count(world: &World, coverage: &Coverage) {
    for counters in world.counters() {
        for (what, times) in [
            ("parked", counters.parked),
            ("held", counters.held),
            ("renewed", counters.renewed),
            ("full", counters.refused_full),
            ("no credit", counters.refused_no_credit),
            ("not connected", counters.refused_not_connected),
            ("unsent", counters.frames_unsent),
            ("pongs", counters.pongs),
            ("credits", counters.credits),
            ("turned away", counters.turned_away),
            ("frames", counters.frames_in),
        ] {
            cover(coverage, what, times);
        }
        for (class, times) in &counters.ended {
            cover(coverage, class, *times);
        }
    }
    cover(coverage, "in order", world.in_order);
    cover(coverage, "room", world.rooms);
    for (class, times) in &world.downs {
        let class = match *class {
            "replaced" => "down: replaced",
            "silent" => "down: silent",
            "stuck" => "down: stuck",
            "broken" => "down: broken",
            "closed by peer" => "down: closed by peer",
            _ => "down: other",
        };
        cover(coverage, class, *times);
    }
}

fn network(world_seed: u64) -> NetworkSettings {
    let small = world_seed.is_multiple_of(3);
    NetworkSettings {
        min_latency: Duration::from_micros(100),
        max_latency: ms(if world_seed.is_multiple_of(2) { 1 } else { 40 }),
        loss: 0.02,
        window: if small { 2 << 10 } else { 64 << 10 },
        bandwidth: if small { 1_000_000 } else { 100_000_000 },
        ..NetworkSettings::default()
    }
}

/// Sends something from somewhere.
fn send_some(world: &mut World, nodes: &[NodeId]) {
    let from = *nodes.choose(&mut world.rng).unwrap();
    let mut remotes = world.remotes(from);
    if world.rng.random_bool(0.05) {
        // Perhaps nobody is connected.
        remotes = vec![(
            0,
            corecast::links::remote::Remote::control(*nodes.choose(&mut world.rng).unwrap()),
        )];
    }
    let Some(&(core, remote)) = remotes.choose(&mut world.rng) else {
        return;
    };
    for _ in 0..world.rng.random_range(1..20) {
        let length = match world.rng.random_range(0..20) {
            0 => world.rng.random_range(0..30_000),
            _ => world.rng.random_range(0..300),
        };
        match world.send(from, core, remote, length) {
            Ok(()) => {}
            Err(NotSent::WrongKind { .. }) => panic!("a kind that is the core's to send"),
            Err(_) => break,
        }
    }
}

fn fault(world: &mut World, nodes: &[NodeId], coverage: &Coverage) {
    let node = *nodes.choose(&mut world.rng).unwrap();
    let other = *nodes.choose(&mut world.rng).unwrap();
    match world.rng.random_range(0..9) {
        0 | 1 if node != other => {
            world.network.cut(node, other);
            cover(coverage, "cut one way", 1);
        }
        2 if node != other => {
            world.network.partition(&[node], &[other]);
            cover(coverage, "cut both ways", 1);
        }
        3 if node != other => {
            let factor = world.rng.random_range(2..200);
            world.network.slow(node, other, factor);
            cover(coverage, "slow", 1);
        }
        4 | 5 => {
            let machine = world.rng.random_bool(0.5);
            world.kill(node, machine);
            cover(
                coverage,
                if machine {
                    "machine dead"
                } else {
                    "process dead"
                },
                1,
            );
        }
        6 => {
            let time = ms(world.rng.random_range(10..9_000));
            world.pause(node, time);
            cover(coverage, "paused", 1);
        }
        7 => {
            if let Some(state) = world.nodes.get_mut(&node) {
                let until = world.now + ms(world.rng.random_range(10..12_000));
                state.busy_until.fill(until);
                cover(coverage, "core busy", 1);
            }
        }
        _ => {
            world.network.heal(world.now);
            cover(coverage, "healed", 1);
        }
    }
}

fn start_again(world: &mut World, node: NodeId) {
    let joins = match world.rng.random_bool(0.7) {
        true => Some(ms(world.rng.random_range(1..3_000))),
        false => None,
    };
    world.start(node, joins);
}

/// Nodes that dial each other while everything goes wrong, and then nothing does.
fn swarm(seed: u64, coverage: &Coverage) -> Trace {
    let mut world = World::new(seed, network(seed));
    let count_of_nodes = world.rng.random_range(2..=4);
    let nodes: Vec<NodeId> = (1..=count_of_nodes).map(NodeId).collect();
    world.data_cores = if count_of_nodes < 4 {
        world.rng.random_range(1..=2)
    } else {
        1
    };
    world.tables_differ = seed % 4 == 1;
    world.settings.credit_frames = if seed.is_multiple_of(2) { 8 } else { 1_000 };
    for a in &nodes {
        for b in &nodes {
            // Mostly both dial, sometimes only one of them.
            if a < b {
                let which = world.rng.random_range(0..10);
                if which < 9 {
                    world.wants.push((*a, *b));
                }
                if which > 0 {
                    world.wants.push((*b, *a));
                }
            }
        }
    }
    for node in &nodes {
        let at = world.now + Duration::from_micros(world.rng.random_range(0..2_000));
        world.run_until(at);
        start_again(&mut world, *node);
    }
    let end = Time::ZERO + secs(60);
    let rate = world.rng.random_range(1..60);
    while world.now < end {
        let at = world.now + ms(world.rng.random_range(1..100));
        world.run_until(at);
        send_some(&mut world, &nodes);
        if world.rng.random_ratio(rate, 3_000) {
            fault(&mut world, &nodes, coverage);
        }
        for node in &nodes {
            if !world.nodes.contains_key(node) && world.rng.random_bool(0.03) {
                start_again(&mut world, *node);
            }
        }
    }

    // The faults stop.
    world.network.heal(world.now);
    for node in &nodes {
        if !world.nodes.contains_key(node) {
            start_again(&mut world, *node);
        }
    }
    let settled = world.now + secs(40);
    while world.now < settled {
        let at = world.now + ms(100);
        world.run_until(at);
        send_some(&mut world, &nodes);
    }
    let quiet = world.now + secs(20);
    world.run_until(quiet);
    world.check_settled();
    world.check_delivered();
    assert!(
        world.last_change + secs(5) < settled,
        "connections still changed at {}",
        world.last_change
    );
    count(&world, coverage);
    world.trace
}

#[test]
fn pairs_settle_on_one_connection_and_every_frame_is_delivered_or_reported() {
    let coverage = Coverage::default();
    check_seeds(5, |seed| swarm(seed, &coverage));
    check_coverage(
        &coverage,
        &[
            "parked",
            "held",
            "renewed",
            "full",
            "no credit",
            "not connected",
            "unsent",
            "pongs",
            "credits",
            "frames",
            "in order",
            "room",
            "down: replaced",
            "down: silent",
            "down: broken",
            "down: closed by peer",
            "not reached",
            "greeting timed out",
            "given up",
            "cut one way",
            "cut both ways",
            "slow",
            "machine dead",
            "process dead",
            "paused",
            "core busy",
            "healed",
        ],
    );
}

/// Both dial at the same moment, again and again: after each time there is one connection, soon.
fn crossing(seed: u64, coverage: &Coverage) -> Trace {
    let mut world = World::new(seed, network(seed));
    let (a, b) = (NodeId(1), NodeId(2));
    world.wants = vec![(a, b), (b, a)];
    world.start(a, None);
    let at = Duration::from_micros(world.rng.random_range(0..50_000));
    world.run_until(Time::ZERO + at);
    world.start(b, None);
    for _ in 0..30 {
        let at = world.now + ms(world.rng.random_range(500..3_000));
        world.run_until(at);
        // One forgets, the other does not know it.
        let forgets = if world.rng.random_bool(0.5) { a } else { b };
        world.kill(forgets, world.rng.clone().random_bool(0.5));
        let at = world.now + Duration::from_micros(world.rng.random_range(0..60_000));
        world.run_until(at);
        world.start(forgets, None);
    }
    let at = world.now + secs(20);
    world.run_until(at);
    world.check_settled();
    assert!(world.last_change + secs(10) < at, "{}", world.last_change);
    count(&world, coverage);
    world.trace
}

#[test]
fn dials_that_cross_settle() {
    let coverage = Coverage::default();
    check_seeds(20, |seed| crossing(seed, &coverage));
    check_coverage(&coverage, &["parked", "held", "down: replaced", "given up"]);
}

/// Without any fault a connection that came up stays, even if both have dialled at once.
fn calm(seed: u64, coverage: &Coverage) -> Trace {
    let mut world = World::new(seed, network(1 + seed % 2 * 3));
    let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
    for a in &nodes {
        for b in &nodes {
            if a != b {
                world.wants.push((*a, *b));
            }
        }
    }
    // Until they are there, their machines refuse.
    nodes
        .iter()
        .for_each(|node| world.network.kill(Time::ZERO, *node));
    for node in &nodes {
        let at = world.now + Duration::from_micros(world.rng.random_range(0..50_000));
        world.run_until(at);
        world.start(*node, None);
    }
    let end = Time::ZERO + secs(30);
    while world.now < end {
        let at = world.now + ms(20);
        world.run_until(at);
        send_some(&mut world, &nodes);
    }
    world.run_until(end + secs(5));
    world.check_settled();
    world.check_delivered();
    assert_eq!(
        world.downs,
        BTreeMap::new(),
        "nothing that was up went down"
    );
    count(&world, coverage);
    world.trace
}

#[test]
fn without_faults_what_came_up_stays_up() {
    let coverage = Coverage::default();
    check_seeds(2, |seed| calm(seed, &coverage));
    check_coverage(&coverage, &["parked", "held", "frames", "credits", "pongs"]);
}

/// A shutdown under load: all that was accepted before it comes.
fn shutdown(seed: u64, coverage: &Coverage) -> Trace {
    let mut world = World::new(seed, network(seed));
    let nodes = [NodeId(1), NodeId(2), NodeId(3)];
    world.wants = vec![
        (nodes[0], nodes[1]),
        (nodes[2], nodes[1]),
        (nodes[0], nodes[2]),
    ];
    world.settings.close_patience = secs(20);
    nodes.iter().for_each(|node| world.start(*node, None));
    for _ in 0..200 {
        let at = world.now + ms(5);
        world.run_until(at);
        send_some(&mut world, &nodes);
    }
    let now = world.now;
    world
        .nodes
        .get_mut(&nodes[1])
        .unwrap()
        .cores
        .iter_mut()
        .for_each(|core| core.shutdown(now));
    world.turn(nodes[1]);
    world.run_until(now + secs(30));
    assert!(
        world.nodes[&nodes[1]]
            .cores
            .iter()
            .all(corecast::links::links::Links::is_done)
    );
    assert!(world.in_order > 0);
    world.check_all_came(nodes[1]);
    count(&world, coverage);
    world.trace
}

#[test]
fn a_shutdown_sends_what_was_accepted() {
    let coverage = Coverage::default();
    check_seeds(10, |seed| shutdown(seed, &coverage));
    check_coverage(&coverage, &["in order", "down: closed by peer"]);
}
