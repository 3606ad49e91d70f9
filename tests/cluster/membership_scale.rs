//! SWIM with many nodes: how fast news goes around, and that a node has the same work in clusters of every size.

use corecast::base::ids::NodeId;

use crate::members::{World, check_seeds, check_seeds_once, ms, secs};

/// Within so many probe rounds news has to be everywhere.
fn rounds_for(n: u32) -> u32 {
    3 * n.ilog2() + 4
}

struct Curve {
    formed: f64,
    joined: f64,
    crashed: f64,
    messages: f64,
    bytes: f64,
}

/// Forms a cluster of `n` at once, rests, takes one more, and loses one.
fn measure(seed: u64, n: u32) -> (Curve, u64) {
    let period = ms(500);
    let rounds = |time: std::time::Duration| time.as_secs_f64() / period.as_secs_f64();
    let mut world = World::of_datagrams_only(seed, n);
    (1..=n).for_each(|node| world.run_node(NodeId(node)));
    let at_most = period * rounds_for(n);
    let formed = world.until(at_most, World::all_know_all);
    let formed = formed.unwrap_or_else(|| {
        let known = world.nodes.values().map(|node| node.swim.others());
        panic!("{n} nodes: the least knows {:?}", known.min())
    });
    // News dies out.
    world.run(secs(12));
    let sum = |world: &World| {
        let counters = world.nodes.values().map(|node| node.swim.counters());
        counters.fold((0, 0), |(messages, bytes), counters| {
            (messages + counters.sent, bytes + counters.sent_bytes)
        })
    };
    let before = sum(&world);
    let rest = secs(10);
    world.run(rest);
    let after = sum(&world);
    let per_node = |count: u64| count as f64 / f64::from(n) / rest.as_secs_f64();
    let (messages, bytes) = (per_node(after.0 - before.0), per_node(after.1 - before.1));

    world.start(NodeId(n + 1));
    let joined = world.until(at_most, World::all_know_all).expect("it joins");
    world.run(secs(2));
    world.crash(NodeId(n / 2));
    // A probe has to come by, and its suspicion to pass, before there is news.
    let crashed = world
        .until(at_most + secs(4), World::all_know_all)
        .expect("its crash is seen");
    let curve = Curve {
        formed: rounds(formed),
        joined: rounds(joined),
        crashed: rounds(crashed),
        messages,
        bytes,
    };
    assert!(curve.joined <= f64::from(rounds_for(n)), "{}", curve.joined);
    assert!(curve.messages <= 6.0, "{n} nodes: {messages} messages");
    assert!(curve.bytes <= 600.0, "{n} nodes: {bytes} bytes");
    (curve, world.digest())
}

#[expect(clippy::print_stdout, reason = "the curve is what one wants to see")]
fn check(test: &str, seeds: u64, n: u32) {
    println!(
        "nodes  bound  formed  joined  crash seen (rounds)   messages/s  bytes/s (per node, at rest)"
    );
    let run = |seed| {
        let (curve, digest) = measure(seed, n);
        println!(
            "{n:5}  {:5}  {:6.1}  {:6.1}  {:10.1}            {:10.2}  {:7.0}",
            rounds_for(n),
            curve.formed,
            curve.joined,
            curve.crashed,
            curve.messages,
            curve.bytes
        );
        digest
    };
    if n < 256 {
        check_seeds(test, seeds, run);
    } else {
        check_seeds_once(test, seeds, run);
    }
}

#[test]
fn of_16_nodes() {
    check("membership_scale::of_16_nodes", 5, 16);
}

#[test]
fn of_64_nodes() {
    check("membership_scale::of_64_nodes", 3, 64);
}

#[test]
fn of_256_nodes() {
    check("membership_scale::of_256_nodes", 1, 256);
}

#[test]
#[ignore = "takes a minute or more: cargo test --test cluster of_1000_nodes -- --ignored --nocapture"]
fn of_1000_nodes() {
    check("membership_scale::of_1000_nodes", 1, 1_000);
}
