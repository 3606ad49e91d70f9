//! Half-open connections: whatever was lost, forgotten or broken, once nothing more goes wrong both ends agree within the
//! time that keep-alive takes, whether they have a connection and which.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::links_world::{World, ms, secs};
use crate::seeds::{Trace, check_seeds};
use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::rand::RngExt;
use corecast::rand::seq::IndexedRandom;
use corecast::sim::network::NetworkSettings;

/// Something breaks, somewhere.
fn break_something(world: &mut World, nodes: &[NodeId]) {
    let node = *nodes.choose(&mut world.rng).unwrap();
    let other = *nodes.choose(&mut world.rng).unwrap();
    match world.rng.random_range(0..14) {
        0..=5 => {
            // In one direction or both, at either end; the other may not hear of it when that end is closed.
            let (is_deaf, is_mute) = *[(true, false), (false, true), (true, true)]
                .choose(&mut world.rng)
                .unwrap();
            world.forget_link(node, is_deaf, is_mute);
        }
        6 if node != other => world.network.cut(node, other),
        7 if node != other => world.network.partition(&[node], &[other]),
        8 => {
            let is_machine = world.rng.random_bool(0.5);
            world.kill(node, is_machine);
        }
        9 => {
            let time = ms(world.rng.random_range(10..8_000));
            world.pause(node, time);
        }
        10 if node != other && is_awake(world, node) => world.unwant(node, other),
        11 if node != other && is_awake(world, node) => {
            world.want(node, other);
            world.turn(node);
        }
        _ => world.network.heal(world.now),
    }
}

fn is_awake(world: &World, node: NodeId) -> bool {
    let state = world.nodes.get(&node);
    state.is_some_and(|state| state.paused.is_none())
}

fn agreeing(seed: u64) -> Trace {
    let network = NetworkSettings {
        min_latency: Duration::from_micros(100),
        max_latency: ms(if seed.is_multiple_of(2) { 1 } else { 40 }),
        loss: 0.02,
        ..NetworkSettings::default()
    };
    let mut world = World::new(seed, network);
    let nodes: Vec<NodeId> = (1..=world.rng.random_range(2..=4)).map(NodeId).collect();
    world.data_cores = 1;
    for a in &nodes {
        for b in &nodes {
            if a < b || (a > b && world.rng.random_bool(0.8)) {
                world.wants.push((*a, *b));
            }
        }
    }
    for node in &nodes {
        world.start(*node, None);
    }
    let end = Time::ZERO + secs(40);
    while world.now < end {
        let at = world.now + ms(world.rng.random_range(1..300));
        world.run_until(at);
        if world.rng.random_bool(0.3) {
            for node in &nodes {
                if !world.nodes.contains_key(node) {
                    world.start(*node, None);
                }
            }
            break_something(&mut world, &nodes);
        }
        say_something(&mut world, &nodes);
    }

    // Nothing more goes wrong. What is forgotten stays forgotten, and nobody is told.
    world.network.heal(world.now);
    for node in &nodes {
        if !world.nodes.contains_key(node) {
            world.start(*node, None);
        }
    }
    let paused = world.nodes.values().filter_map(|node| node.paused);
    let last = paused.map(|(_, until)| until).max();
    world.run_until(last.unwrap_or(world.now).max(world.now) + ms(1));
    for (from, to) in world.wants.clone() {
        world.want(from, to);
        world.turn(from);
    }
    // One end finds out by its own keep-alive, and if it cannot say so, the other by its own behind it.
    let settings = &world.settings;
    let bound = 2 * (settings.ping_period + settings.silence) + ms(500);
    let mut since = BTreeMap::new();
    let calm = world.now;
    while world.now < calm + secs(50) {
        let at = world.now + ms(50);
        world.run_until(at);
        if at < calm + secs(20) {
            say_something(&mut world, &nodes);
        }
        let half = world.half_open();
        since.retain(|end, _| half.contains(end));
        for end in half {
            let began = *since.entry(end).or_insert(world.now);
            let lasts = world.now - began;
            assert!(
                lasts <= bound,
                "{end:?} believes for {lasts:?} in a connection that the other end does not have"
            );
        }
    }
    assert!(since.is_empty(), "{since:?}");
    world.check_settled();
    world.trace
}

fn say_something(world: &mut World, nodes: &[NodeId]) {
    let from = *nodes.choose(&mut world.rng).unwrap();
    let remotes = world.remotes(from);
    if let Some(&(core, remote)) = remotes.choose(&mut world.rng) {
        // Refused where there is no room, which is as good here.
        let _ = world.send(from, core, remote, 100);
    }
}

#[test]
fn no_end_believes_for_long_in_a_connection_that_the_other_does_not_have() {
    check_seeds(30, agreeing);
}
