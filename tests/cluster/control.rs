//! Whole control planes: they form, let nodes in and out, survive faults, and give shards owners.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test cluster control`.

use std::time::Duration;

use corecast::base::ids::NodeId;
use corecast::cluster::join_request::JoinRefused;
use corecast::cluster::node::mutant::NodeMutant;
use corecast::cluster::node::output::StopCause;
use corecast::cluster::node::settings::NodeSettings;
use corecast::consensus::bootstrap::Start;
use corecast::membership::view::MemberState;

use crate::control_faults::{all_is_well, peace, scenario, want_some, what_is_wrong};
use crate::control_node::ms;
use crate::control_world::{World, keys, quick};
use crate::seeds::{check_seed, check_seeds};

const LENGTH: Duration = Duration::from_secs(15);

fn formed(seed: u64, founders: u32) -> World {
    formed_with(seed, founders, quick)
}

fn formed_with(seed: u64, founders: u32, settings: fn(NodeSettings) -> NodeSettings) -> World {
    let mut world = World::new(seed, founders, settings);
    world.start_all();
    assert!(
        world.until(ms(15_000), all_is_well),
        "not even formed: {}",
        what_is_wrong(&world)
    );
    world
}

#[test]
fn one_control_plane_whatever_happens() {
    check_seeds(6, |seed| scenario(seed, LENGTH, None).trace);
}

/// The faults and transitions that the other tests rely on do happen.
#[test]
#[expect(clippy::print_stdout, reason = "how much of it is worth knowing")]
fn everything_happens() {
    let mut total = [0_u64; 22];
    for seed in 0..12 {
        let ran = scenario(100 + seed, LENGTH, None);
        let counts = ran.counts;
        let of_run = [
            counts.crashes,
            counts.disks_lost,
            counts.pauses,
            counts.partitions,
            counts.cuts,
            counts.slow,
            counts.joins,
            counts.leaves,
            counts.left,
            counts.waits,
            counts.lives_ended,
            counts.removed,
            counts.ups,
            counts.downs,
            counts.unreachable,
            counts.reachable,
            counts.lapses,
            counts.restores,
            ran.owned,
            ran.aborted,
            ran.entries as u64,
            (ran.terms + ran.lives) as u64,
        ];
        for (total, of_run) in total.iter_mut().zip(of_run) {
            *total += of_run;
        }
    }
    let names = [
        "crashes",
        "disks lost",
        "pauses",
        "partitions",
        "cuts",
        "slow links",
        "joins",
        "leaves",
        "left",
        "waits for a previous life",
        "lives that ended",
        "removed",
        "up",
        "down",
        "unreachable",
        "reachable",
        "lapsed leases",
        "restored states",
        "moves that arrived",
        "moves that were called off",
        "entries",
        "terms and lives",
    ];
    let missing: Vec<_> = names
        .iter()
        .zip(total)
        .filter(|(name, total)| *total == 0 && **name != "removed")
        .collect();
    println!("{:?}", names.iter().zip(total).collect::<Vec<_>>());
    assert!(missing.is_empty(), "{missing:?} of {total:?}");
}

/// With the default settings, the fast ones, and those of the other tests.
#[test]
fn a_cluster_forms_and_is_ready() {
    check_seeds(3, |seed| {
        let settings: fn(NodeSettings) -> NodeSettings = match seed % 3 {
            0 => |settings| settings,
            1 => NodeSettings::fast,
            _ => quick,
        };
        let mut world = formed_with(seed, 3, settings);
        for id in world.running() {
            let local = world.nodes[&id].local(world.now);
            assert!(world.node(id).is_ready(local), "{id}");
            assert!(world.node(id).wait_for(3), "{id}");
            assert!(!world.node(id).wait_for(4), "{id}");
        }
        let mut wanted: Vec<_> = keys().collect();
        peace(&mut world, &mut wanted);
        assert_eq!(world.counts.downs, 0);
        world.into_trace()
    });
}

/// No faults but load: late turns, lossy datagrams, slow disks. Nobody is even unreachable.
#[test]
fn nobody_is_called_dead_for_being_slow() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 4);
        world.network.settings_mut().loss = 0.02;
        world.network.settings_mut().max_latency = ms(4);
        let mut wanted = Vec::new();
        world.run(ms(20_000), |world| {
            want_some(world, &mut wanted);
            for id in world.running() {
                if corecast::rand::RngExt::random_bool(&mut world.rng, 0.01)
                    && world.nodes[&id].paused.is_none()
                {
                    world.pause(id, ms(15));
                }
                world.nodes.get_mut(&id).unwrap().slow_disk = 10_000;
            }
        });
        assert!(world.counts.pauses > 20);
        let events = (
            world.counts.downs,
            world.counts.unreachable,
            world.counts.lapses,
        );
        assert_eq!(events, (0, 0, 0));
        peace(&mut world, &mut wanted);
        world.into_trace()
    });
}

/// All nodes are off at once, and all come back: nobody has a life, and yet somebody has to be the first.
#[test]
fn a_cluster_that_was_off_comes_back() {
    check_seeds(4, |seed| {
        let mut world = formed(seed, [3, 1, 2, 5][seed as usize % 4]);
        let mut wanted: Vec<_> = keys().collect();
        peace(&mut world, &mut wanted);
        let lives = world.judge.lives_led();
        let ids = world.running();
        ids.iter().for_each(|id| world.crash(*id));
        world.run(ms(100), |_| {});
        world.start_all();
        peace(&mut world, &mut wanted);
        assert_eq!(world.judge.lives_led(), lives + ids.len());
        assert!(world.counts.waits > 0, "their leases had to end");
        world.into_trace()
    });
}

#[test]
fn every_node_is_restarted_one_after_the_other() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 3);
        let mut wanted: Vec<_> = keys().collect();
        peace(&mut world, &mut wanted);
        for id in world.running() {
            world.crash(id);
            world.run(ms(50), |_| {});
            world.start(id);
            let well = world.until(ms(8_000), all_is_well);
            assert!(well, "{}", what_is_wrong(&world));
        }
        assert!(world.counts.waits >= 3);
        world.into_trace()
    });
}

#[test]
fn a_node_without_its_directory_replaces_itself() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 3);
        let (id, before) = (NodeId(2), world.node(NodeId(2)).peer_id().unwrap());
        world.crash(id);
        world.replace_disk(id);
        world.run(ms(50), |_| {});
        world.start(id);
        assert!(
            world.until(ms(8_000), all_is_well),
            "{}",
            what_is_wrong(&world)
        );
        let peers = world.node(NodeId(1)).state().peers();
        assert!(!peers.contains_key(&before));
        assert!(peers.contains_key(&world.node(id).peer_id().unwrap()));
        world.into_trace()
    });
}

#[test]
fn a_leader_with_shards_leaves_and_everything_is_elsewhere() {
    check_seeds(4, |seed| {
        let mut world = formed(seed, 4);
        let mut wanted: Vec<_> = keys().collect();
        peace(&mut world, &mut wanted);
        let leader = world.leader().unwrap();
        world.leave(leader);
        let gone = world.until(ms(8_000), |world| world.nodes[&leader].has_left);
        assert!(gone, "{leader} has not left: {}", what_is_wrong(&world));
        assert_eq!(world.counts.downs, 0);
        peace(&mut world, &mut wanted);
        assert_eq!(world.running().len(), 3);
        world.into_trace()
    });
}

/// The last but one leaves: it has to help to take its own vote away.
#[test]
fn two_nodes_become_one() {
    check_seeds(2, |seed| {
        let mut world = formed(seed, 2);
        let mut wanted: Vec<_> = keys().collect();
        peace(&mut world, &mut wanted);
        world.leave(NodeId(2));
        let gone = world.until(ms(8_000), |world| world.nodes[&NodeId(2)].has_left);
        assert!(gone, "{}", what_is_wrong(&world));
        peace(&mut world, &mut wanted);
        world.into_trace()
    });
}

#[test]
fn the_minority_has_no_control_quorum_and_heals_by_itself() {
    check_seeds(3, |seed| {
        let mut world = formed(seed, 5);
        let mut wanted: Vec<_> = keys().collect();
        peace(&mut world, &mut wanted);
        let (one, other) = ([NodeId(1), NodeId(2)], [3, 4, 5].map(NodeId));
        world.network.partition(&one, &other);
        world.run(ms(6_000), |_| {});
        for id in one {
            let local = world.nodes[&id].local(world.now);
            assert!(!world.node(id).has_control_quorum(local), "{id}");
        }
        for id in other {
            let local = world.nodes[&id].local(world.now);
            assert!(world.node(id).has_control_quorum(local), "{id}");
            let up = world.node(id).members().up().count();
            assert_eq!(up, 3, "{id}");
        }
        world.network.heal(world.now);
        peace(&mut world, &mut wanted);
        assert!(world.counts.lives_ended > 0);
        world.into_trace()
    });
}

/// So long that it was forgotten, and is no peer of the log any more.
#[test]
fn a_node_that_was_forgotten_learns_of_it() {
    check_seeds(2, |seed| {
        let mut world = formed(seed, 4);
        let lost = NodeId(4);
        world.network.partition(&[lost], &[1, 2, 3].map(NodeId));
        world.run(ms(9_000), |_| {});
        assert!(world.node(NodeId(1)).members().member(lost).is_none());
        assert_eq!(world.node(NodeId(1)).state().peers().len(), 3);
        world.network.heal(world.now);
        peace(&mut world, &mut Vec::new());
        assert_eq!(world.running().len(), 4);
        assert!(world.counts.lives_ended + world.counts.removed > 0);
        world.into_trace()
    });
}

#[test]
fn who_differs_is_refused_and_told_in_what() {
    let mut world = formed(1, 3);
    world.add(NodeId(4), Start::Join);
    let settings = &mut world.nodes.get_mut(&NodeId(4)).unwrap().settings;
    settings.types[0].shards = 7;
    settings.types[1].role = Some("other".into());
    settings.consensus.lease = ms(900);
    world.start(NodeId(4));
    world.run(ms(2_000), |_| {});
    let Some(StopCause::Refused(JoinRefused::Differs(differences))) =
        &world.nodes[&NodeId(4)].stopped
    else {
        panic!("{:?}", world.nodes[&NodeId(4)].stopped);
    };
    let text = differences.to_string();
    for part in [
        "setting `lease`: here 900ms, there 800ms",
        "the number of shards of entity type `cart`: here 7, there 6",
        "the role of entity type `user`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(world.node(NodeId(1)).members().members().count(), 3);
}

#[test]
fn a_stuck_move_is_called_off_and_the_shard_stays() {
    let mut world = formed(3, 3);
    let mut wanted: Vec<_> = keys().collect();
    peace(&mut world, &mut wanted);
    world.stuck_moves = 1.0;
    world.join(NodeId(5));
    world.run(ms(5_000), |_| {});
    assert!(world.judge.aborted > 0, "no move was called off");
    assert_eq!(world.judge.owned, 0);
    world.stuck_moves = 0.0;
    let state = |world: &World| world.node(NodeId(5)).self_node().map(|me| me.state);
    assert_eq!(state(&world), Some(MemberState::Up));
    peace(&mut world, &mut wanted);
    world.run(ms(3_000), |_| {});
    assert!(world.judge.owned > 0);
}

#[track_caller]
fn assert_found(mutant: NodeMutant, signs: &[&str]) {
    for seed in 0..200 {
        match check_seed(seed, |seed| scenario(seed, LENGTH, Some(mutant)).trace) {
            Ok(_) => {}
            Err(text) if signs.iter().any(|sign| text.contains(sign)) => return,
            Err(text) => panic!("seed {seed} found something else than {mutant:?}: {text}"),
        }
    }
    panic!("{mutant:?} was not found in 200 seeds");
}

#[test]
fn a_previous_life_that_is_ended_with_its_lease_is_found() {
    assert_found(NodeMutant::EndsLifeAtOnce, &["and has a lease until"]);
}

#[test]
fn a_life_of_another_start_is_found() {
    assert_found(
        NodeMutant::TakesAnyLife,
        &["two processes live", "is down and lives again"],
    );
}

#[test]
fn a_lease_that_never_lapses_is_found() {
    assert_found(NodeMutant::NeverLapses, &["has a lease"]);
}
