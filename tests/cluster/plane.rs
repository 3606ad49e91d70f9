//! Whole control planes, from the bytes of their connections to the sectors of their ledgers: they form, lose nodes, come
//! back, and let nodes in and out.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test cluster plane`.

use std::collections::BTreeMap;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::cluster::node::output::StopCause;
use corecast::consensus::bootstrap::Start;
use corecast::sim::control::address_of;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::control_node::ms;
use crate::plane_world::{Counts, World};
use crate::seeds::{Trace, check_seeds};

const LENGTH: Duration = Duration::from_secs(12);

fn formed(seed: u64, founders: u32) -> World {
    let mut world = World::new(seed, founders);
    world.start_all();
    let formed = world.until(ms(15_000), |world| world.what_is_wrong().is_empty());
    assert!(formed, "not even formed: {}", world.what_is_wrong());
    world
}

/// Faults for a while, then peace.
fn scenario(seed: u64) -> (Trace, Counts) {
    let founders = [3, 5, 3, 4, 1, 3, 2, 5][seed as usize % 8];
    let mut world = World::new(seed, founders);
    world.start_all();
    let calm = ms(world.rng.random_range(0..4_000));
    world.run(calm, |_| {});
    let mut rate = |most: f64| match world.rng.random_bool(0.6) {
        true => world.rng.random_range(most / 4.0..most),
        false => 0.0,
    };
    let (crash, pause, partition, one_way) = (rate(0.008), rate(0.006), rate(0.004), rate(0.004));
    let mut back: BTreeMap<NodeId, Time> = BTreeMap::new();
    let mut joins = 1;
    world.run(LENGTH, |world| {
        let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
        let id = *ids.choose(&mut world.rng).unwrap();
        if world.is_running(id) && world.rng.random_bool(crash) {
            world.crash(id);
            let after = ms(world.rng.random_range(1..3_000));
            back.insert(id, world.now + after);
        } else if world.is_running(id) && world.rng.random_bool(pause) {
            let time = ms(world.rng.random_range(1..2_500));
            world.pause(id, time);
        }
        if world.rng.random_bool(partition) {
            let (one, other): (Vec<_>, Vec<_>) =
                ids.iter().partition(|_| world.rng.random_bool(0.5));
            world.network.partition(&one, &other);
            world.counts.partitions += 1;
        }
        if world.rng.random_bool(one_way) {
            let other = *ids.choose(&mut world.rng).unwrap();
            world.network.cut(id, other);
        }
        if world.rng.random_bool(0.004) {
            world.network.heal(world.now);
        }
        if joins > 0 && world.rng.random_bool(0.001) {
            joins -= 1;
            let new = NodeId(ids.last().unwrap().0 + 1);
            world.add(new, Start::Join);
            world.start(new);
        }
        let now = world.now;
        for (id, at) in back.clone() {
            if at <= now {
                back.remove(&id);
                world.start(id);
            }
        }
    });
    world.peace();
    let counts = world.counts;
    (world.into_trace(), counts)
}

#[test]
fn whole_control_planes_are_one_cluster_whatever_happens() {
    check_seeds(4, |seed| scenario(seed).0);
}

/// The faults and transitions that the other test relies on do happen.
#[test]
fn everything_happens_to_whole_control_planes() {
    let mut total = [0; 9];
    for seed in 0..6 {
        let counts = scenario(50 + seed).1;
        let of_run = [
            ("crashes", counts.crashes),
            ("pauses", counts.pauses),
            ("partitions", counts.partitions),
            ("waits for a previous life", counts.waits),
            ("lives that ended", counts.lives_ended),
            ("up", counts.ups),
            ("down", counts.downs),
            ("unreachable", counts.unreachable),
            ("lapsed leases", counts.lapses),
        ];
        for (total, (_, of_run)) in total.iter_mut().zip(of_run) {
            *total += of_run;
        }
        if seed == 5 {
            let names = of_run.map(|(name, _)| name);
            let missing: Vec<_> = names.iter().zip(total).filter(|(_, n)| *n == 0).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    }
}

/// Forming takes each node one change of its identity, and nothing is said to the log.
#[test]
fn a_cluster_forms_in_silence_and_owns_its_shards() {
    check_seeds(4, |seed| {
        let mut world = formed(seed, [3, 1, 5, 2][seed as usize % 4]);
        world.peace();
        assert_eq!((world.counts.downs, world.counts.unreachable), (0, 0));
        assert_eq!(
            world.counts.identities as usize,
            2 * world.nodes.len(),
            "one to begin with, one with its life"
        );
        world.into_trace()
    });
}

#[test]
fn the_leader_dies_and_another_takes_over() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 3);
        world.peace();
        let old = world.leader().unwrap();
        world.crash(old);
        let went_on = world.until(ms(6_000), |world| {
            world.leader().is_some_and(|new| new != old)
                && world.counts.downs >= 2
                && world.what_is_wrong().contains("does not run")
        });
        assert!(went_on, "{}", world.what_is_wrong());
        world.start(old);
        world.peace();
        assert!(world.running().contains(&old));
        world.into_trace()
    });
}

#[test]
fn a_whole_cluster_that_was_off_comes_back_with_what_it_knew() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 3);
        world.peace();
        let cluster = world.node(NodeId(1)).unwrap().cluster();
        for id in world.running() {
            world.crash(id);
        }
        world.run(ms(200), |_| {});
        world.start_all();
        world.peace();
        assert_eq!(world.node(NodeId(1)).unwrap().cluster(), cluster);
        assert!(world.counts.waits > 0, "their leases had to end");
        world.into_trace()
    });
}

#[test]
fn a_node_joins_and_another_leaves() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 3);
        world.peace();
        world.add(NodeId(4), Start::Join);
        world.start(NodeId(4));
        world.peace();
        assert_eq!(world.running().len(), 4);
        let leader = world.leader().unwrap();
        world.with(leader, |plane, now| plane.leave(now));
        let left = world.until(ms(10_000), |world| {
            matches!(world.nodes[&leader].stopped, Some(StopCause::Left))
        });
        assert!(left, "{leader} has not left: {}", world.what_is_wrong());
        world.peace();
        assert_eq!((world.running().len(), world.counts.downs), (3, 0));
        world.into_trace()
    });
}

/// Their names are known at any time after their start, of one after the other.
#[test]
fn founders_whose_names_are_known_late_form_a_cluster() {
    check_seeds(4, |seed| {
        let mut world = World::new(seed, 3);
        let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
        for &id in &ids {
            world.mislead(id, None);
        }
        world.start_all();
        world.run(ms(2_000), |_| {});
        for &id in &ids {
            let node = world.node(id).unwrap();
            assert!(node.cluster().is_none(), "nobody could be found");
            assert_eq!(node.missing_seeds().count(), 2);
        }
        let mut lookups: Vec<(NodeId, NodeId)> = Vec::new();
        for &at in &ids {
            lookups.extend(
                ids.iter()
                    .filter(|seed| **seed != at)
                    .map(|seed| (at, *seed)),
            );
        }
        lookups.shuffle(&mut world.rng);
        for (at, seed) in lookups {
            let pause = ms(world.rng.random_range(0..3_000));
            world.run(pause, |_| {});
            world.with(at, |plane, now| {
                plane.seed_found(seed, &[address_of(seed)], now)
            });
        }
        world.peace();
        for &id in &ids {
            assert_eq!(world.node(id).unwrap().missing_seeds().count(), 0);
        }
        world.into_trace()
    });
}

/// One that joins knows its seeds by addresses of old: they are found at their new ones, by whichever of them.
#[test]
fn a_seed_that_is_elsewhere_now_is_found() {
    check_seeds(4, |seed| {
        let mut world = formed(seed, 3);
        let (new, nobody) = (NodeId(4), address_of(NodeId(77)));
        world.add(new, Start::Join);
        world.mislead(new, Some(nobody));
        world.start(new);
        world.run(ms(3_000), |_| {});
        let node = world.node(new).unwrap();
        assert!(node.incarnation().is_none());
        assert_eq!(node.missing_seeds().count(), 3);
        let known = NodeId(world.rng.random_range(1..=3));
        let stands_for = [nobody, address_of(NodeId(78)), address_of(known)];
        let mut tried = Vec::new();
        for _ in 0..3 {
            let next = world.with(new, |plane, now| plane.seed_found(known, &stands_for, now));
            tried.extend(next.unwrap());
            world.run(ms(1_000), |_| {});
        }
        // Nothing more is tried of one that is connected, nor by a member.
        assert_eq!(tried, stands_for[1..]);
        world.peace();
        assert!(world.node(new).unwrap().incarnation().is_some());
        world.into_trace()
    });
}

/// A node that comes back has the address of a seed from the log, and another from its name: it tries both.
#[test]
fn what_the_log_says_of_a_seed_and_what_its_name_says_take_turns() {
    let mut world = formed(1, 3);
    let (one, other) = (NodeId(1), NodeId(2));
    world.peace();
    for id in [1, 2, 3] {
        world.crash(NodeId(id));
    }
    world.start(one);
    world.run(ms(500), |_| {});
    let elsewhere = address_of(NodeId(77));
    let mut find = || {
        let found = world.with(one, |plane, now| plane.seed_found(other, &[elsewhere], now));
        world.run(ms(500), |_| {});
        found.unwrap()
    };
    let tried = [find(), find(), find()];
    assert_eq!(tried, [elsewhere, address_of(other), elsewhere].map(Some));
    // Neither is forgotten, so it is found where it is.
    find();
    world.start(other);
    world.start(NodeId(3));
    world.peace();
}
