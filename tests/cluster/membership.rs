//! Members that come, go, die, stall and are cut off.

use std::time::Duration;

use corecast::base::ids::NodeId;
use corecast::membership::change::Change;
use corecast::membership::event::MemberEvent;
use corecast::rand::RngExt;
use corecast::sim::network::NetworkSettings;

use crate::members::{Seen, World, address_of, check_seeds, ms, secs};

fn is_down_proposal(seen: &Seen) -> bool {
    matches!(seen, Seen::Proposed(_, Change::Down { .. }))
}

fn is_swim_down(seen: &Seen) -> bool {
    matches!(seen, Seen::SwimDown(..))
}

fn is_word(seen: &Seen) -> bool {
    matches!(seen, Seen::Proposed(_, Change::Unreachable { .. }))
}

/// The smallest, the median and the largest.
fn spread(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort();
    [times[0], times[times.len() / 2], times[times.len() - 1]]
}

#[test]
fn joins_converge() {
    check_seeds("membership::joins_converge", 10, |seed| {
        let mut world = World::new(seed, World::lossy());
        for node in 1..=16 {
            world.start(NodeId(node));
            world.run(ms(seed * 10));
        }
        let took = world.until(secs(8), World::all_know_all);
        assert!(took.is_some(), "not after 16 rounds");
        assert_eq!(world.count(is_swim_down), 0);
        world.digest()
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "how long it takes is worth knowing")]
fn a_crash_is_seen_by_all() {
    let times = std::cell::RefCell::new((Vec::new(), Vec::new()));
    check_seeds("membership::a_crash_is_seen_by_all", 20, |seed| {
        let mut world = World::settled(seed, 16, NetworkSettings::default());
        let victim = world.pick();
        let incarnation = world.node(victim).incarnation;
        world.crash(victim);
        let swim = world
            .until(secs(10), |world| {
                let mut nodes = world.nodes.values();
                nodes.all(|node| !node.swim.is_up(victim, incarnation))
            })
            .expect("SWIM sees it");
        let log = world
            .until(secs(10), |world| {
                world.count(|seen| {
                    matches!(seen, Seen::Event(_, MemberEvent::Down(event)) if event.member.node == victim)
                }) == 15
            })
            .expect("the log says it");
        assert_eq!(world.down(), [victim]);
        let (of_swim, of_log) = &mut *times.borrow_mut();
        of_swim.push(swim);
        of_log.push(swim + log);
        // In a period, one time in e no probe falls on a given node: the tail is long, and thin.
        assert!(swim <= secs(8), "{swim:?}");
        // The log hears of it soon after the last node has seen it, or before.
        assert!(log <= secs(1), "{swim:?} and {log:?}");
        world.digest()
    });
    let (of_swim, of_log) = times.into_inner();
    for times in [&of_swim, &of_log] {
        let median = spread(times.clone())[1];
        assert!(median <= ms(3_500), "{median:?}");
    }
    println!("dead to SWIM of all:  {:?}", spread(of_swim));
    println!("down in all views:    {:?}", spread(of_log));
}

#[test]
fn loss_and_stalls_kill_nobody() {
    check_seeds("membership::loss_and_stalls_kill_nobody", 6, |seed| {
        let mut world = World::settled(seed, 16, World::lossy());
        world.stalls = (0.1, ms(20));
        world.run(secs(120));
        assert_eq!(world.count(is_swim_down), 0);
        assert_eq!(world.count(is_word), 0);
        assert_eq!(world.count(is_down_proposal), 0);
        world.digest()
    });
}

#[test]
fn a_node_that_is_suspected_objects() {
    let suspected = std::cell::Cell::new(0);
    check_seeds("membership::a_node_that_is_suspected_objects", 20, |seed| {
        let mut world = World::settled(seed, 8, NetworkSettings::default());
        let slow = world.pick();
        world.pause(slow, ms(1_300));
        world.run(secs(10));
        suspected.set(suspected.get() + world.node(slow).swim.counters().suspected);
        assert_eq!(world.count(is_swim_down), 0, "{:?}", world.seen);
        assert_eq!(world.node(slow).swim.me().generation(), 0);
        assert_eq!(world.count(is_down_proposal), 0);
        world.digest()
    });
    assert!(suspected.get() > 10, "{}", suspected.get());
}

#[test]
fn others_probe_where_a_way_is_cut() {
    check_seeds("membership::others_probe_where_a_way_is_cut", 10, |seed| {
        let mut world = World::settled(seed, 8, NetworkSettings::default());
        let (a, b) = (NodeId(2), NodeId(5));
        world.network.cut(a, b);
        if seed % 2 == 0 {
            world.network.cut(b, a);
        }
        world.run(secs(60));
        assert_eq!(world.count(is_swim_down), 0);
        // Not even suspected: others reach both.
        let suspected = world
            .nodes
            .values()
            .map(|node| node.swim.counters().suspected);
        assert_eq!(suspected.sum::<u64>(), 0);
        // Its heartbeats do not come, which one observer alone holds against it.
        assert!(world.count(is_word) > 0);
        assert_eq!(world.count(is_down_proposal), 0);
        assert_eq!(world.down(), []);
        let words = |world: &World| -> usize {
            let of = |node| world.log.member(node).map_or(0, |m| m.unreachable_by.len());
            (1..=8).map(|node| of(NodeId(node))).sum()
        };
        let ways = if seed % 2 == 0 { 2 } else { 1 };
        assert_eq!(words(&world), ways);
        let now = world.now;
        world.network.heal(now);
        world.run(secs(10));
        assert_eq!(words(&world), 0);
        world.digest()
    });
}

#[test]
fn who_leaves_is_not_taken_for_dead() {
    check_seeds("membership::who_leaves_is_not_taken_for_dead", 10, |seed| {
        let mut world = World::settled(seed, 8, World::lossy());
        let node = world.pick();
        let incarnation = world.node(node).incarnation;
        world.commit(Change::Leave { node, incarnation });
        world.run(secs(2));
        let now = world.now;
        world.node(node).swim.leave(now);
        world.commit(Change::Left { node, incarnation });
        world.run(ms(500));
        world.crash(node);
        world.run(secs(10));
        assert!(world.all_know_all());
        let left = |seen: &Seen| matches!(seen, Seen::Event(_, MemberEvent::Left(_)));
        assert_eq!(world.count(left), 8);
        assert_eq!(world.count(is_word) + world.count(is_down_proposal), 0);
        world.digest()
    });
}

#[test]
fn a_restart_is_a_new_life_and_the_old_one_stays_dead() {
    let test = "membership::a_restart_is_a_new_life_and_the_old_one_stays_dead";
    check_seeds(test, 10, |seed| {
        let mut world = World::settled(seed, 8, World::lossy());
        let node = world.pick();
        let old = world.node(node).incarnation;
        world.tapped = Some(node);
        world.run(secs(3));
        world.tapped = None;
        world.crash(node);
        let pause = seed % 5 * 500;
        world.run(ms(pause));
        world.start(node);
        let new = world.node(node).incarnation;
        assert!(new > old);
        assert!(world.until(secs(8), World::all_know_all).is_some());
        // Stale gossip: everything that the old life said comes again, thrice.
        world.seen.clear();
        let tape = world.tape.clone();
        assert!(!tape.is_empty());
        for (to, datagram) in tape.iter().cycle().take(3 * tape.len()) {
            let now = world.now;
            if *to != node {
                world
                    .network
                    .send_datagram(now, node, *to, datagram.clone());
            }
            world.run(ms(20));
        }
        world.run(secs(5));
        assert!(world.all_know_all());
        let back = |seen: &Seen| matches!(seen, Seen::SwimUp(_, _, life) if *life == old);
        assert_eq!(world.count(back), 0);
        assert_eq!(world.count(is_swim_down), 0);
        let refused: u64 = world
            .nodes
            .values()
            .map(|n| n.swim.counters().refused_dead)
            .sum();
        assert!(refused > 0);
        world.digest()
    });
}

#[test]
fn a_partition_heals() {
    check_seeds("membership::a_partition_heals", 10, |seed| {
        let mut world = World::settled(seed, 7, NetworkSettings::default());
        world.takes_downs = false;
        let all: Vec<NodeId> = world.nodes.keys().copied().collect();
        let (minority, majority) = all.split_at(3);
        world.network.partition(minority, majority);
        world.cut_off.extend(minority);
        // Longer than the dead are remembered.
        world.run(secs(90));
        assert!(world.count(is_down_proposal) > 0);
        for node in &all {
            let side = if minority.contains(node) { 2 } else { 3 };
            assert_eq!(world.node(*node).swim.others(), side);
        }
        let now = world.now;
        world.network.heal(now);
        world.reconnect_log();
        let took = world.until(secs(15), World::all_know_all);
        assert!(took.is_some(), "SWIM finds the others");
        world.run(secs(10));
        assert!(world.log.members().all(|member| member.is_reachable()));
        assert!(
            world
                .nodes
                .values()
                .all(|node| node.detector.accusations().count() == 0)
        );
        world.digest()
    });
}

#[test]
fn a_minority_that_was_called_down_comes_back_in_new_lives() {
    let test = "membership::a_minority_that_was_called_down_comes_back_in_new_lives";
    check_seeds(test, 10, |seed| {
        let mut world = World::settled(seed, 7, NetworkSettings::default());
        let all: Vec<NodeId> = world.nodes.keys().copied().collect();
        let (minority, majority) = all.split_at(3);
        world.network.partition(minority, majority);
        world.cut_off.extend(minority);
        let expected = minority.to_vec();
        let took = world.until(secs(12), |world| world.down() == expected);
        assert!(took.is_some(), "{:?}", world.down());
        // The others hear what the log has said.
        world.run(ms(50));
        let now = world.now;
        world.network.heal(now);
        world.seen.clear();
        world.reconnect_log();
        world.run(secs(10));
        // They learn it from the log; nobody takes them back.
        for node in minority {
            let me = world.node(*node).view.self_node().expect("not removed");
            assert!(!me.is_live());
        }
        let back = |seen: &Seen| matches!(seen, Seen::SwimUp(at, who, _) if majority.contains(at) && minority.contains(who));
        assert_eq!(world.count(back), 0);
        for node in minority {
            world.crash(*node);
            world.start(*node);
        }
        assert!(world.until(secs(10), World::all_know_all).is_some());
        world.digest()
    });
}

#[test]
fn a_node_that_stood_still_comes_back_and_accuses_nobody() {
    let test = "membership::a_node_that_stood_still_comes_back_and_accuses_nobody";
    check_seeds(test, 10, |seed| {
        let mut world = World::settled(seed, 8, World::lossy());
        world.takes_downs = false;
        let slow = world.pick();
        world.pause(slow, secs(30));
        world.run(secs(30) - ms(1));
        assert!(!world.log.member(slow).unwrap().is_reachable());
        assert!(world.count(is_down_proposal) > 0);
        world.seen.clear();
        assert!(world.until(secs(10), World::all_know_all).is_some());
        world.run(secs(10));
        assert!(world.all_know_all());
        assert!(world.log.members().all(|member| member.is_reachable()));
        let by_it = |seen: &Seen| matches!(seen, Seen::Proposed(by, Change::Unreachable { .. } | Change::Down { .. }) if *by == slow);
        assert_eq!(world.count(by_it), 0, "{:?}", world.seen);
        assert!(world.node(slow).swim.counters().stalls > 0);
        let others_down = |seen: &Seen| matches!(seen, Seen::SwimDown(at, ..) if *at == slow);
        assert_eq!(world.count(others_down), 0);
        world.digest()
    });
}

#[test]
fn without_control_connections_a_node_is_dead_after_ten_seconds() {
    let test = "membership::without_control_connections_a_node_is_dead_after_ten_seconds";
    check_seeds(test, 10, |seed| {
        let mut world = World::settled(seed, 8, World::lossy());
        // It accuses everybody else, each on its word alone.
        let node = world.pick();
        world.without_control.insert(node);
        let start = world.now;
        let took = world.until(secs(20), |world| !world.down().is_empty());
        assert_eq!(world.down(), [node]);
        let took = took.expect("it is dead");
        assert!(took >= secs(9) && took <= secs(13), "{took:?} from {start}");
        world.digest()
    });
}

#[test]
fn without_datagrams_a_node_lives_on() {
    check_seeds("membership::without_datagrams_a_node_lives_on", 5, |seed| {
        let mut world = World::settled(seed, 8, World::lossy());
        let node = world.pick();
        world.without_datagrams.insert(node);
        world.run(secs(60));
        assert!(world.count(is_swim_down) > 0);
        assert_eq!(world.count(is_word) + world.count(is_down_proposal), 0);
        world.without_datagrams.clear();
        assert!(world.until(secs(20), World::all_know_all).is_some());
        world.digest()
    });
}

#[test]
fn garbage_and_other_clusters_change_nothing() {
    check_seeds(
        "membership::garbage_and_other_clusters_change_nothing",
        5,
        |seed| {
            let mut world = World::settled(seed, 5, NetworkSettings::default());
            world.tapped = Some(NodeId(1));
            world.run(secs(2));
            let tape = std::mem::take(&mut world.tape);
            let mut rng = corecast::base::rng::seeded(seed, 9);
            for (to, mut datagram) in tape {
                let at = rng.random_range(0..datagram.len());
                datagram[at] ^= 1 << rng.random_range(0..8);
                let now = world.now;
                world.network.send_datagram(now, NodeId(4), to, datagram);
                world.run(ms(100));
            }
            assert!(world.all_know_all());
            assert_eq!(world.seen, []);
            let refused = |node: &crate::members::Node| {
                let counters = node.swim.counters();
                counters.refused_garbage + counters.refused_version
            };
            assert!(world.nodes.values().map(refused).sum::<u64>() > 0);
            // A twin of node 2, somewhere else, is refused by the log with both addresses.
            let twin = Change::Join(corecast::membership::change::Join {
                node: NodeId(2),
                address: address_of(NodeId(99)),
                roles: Vec::new(),
                data_cores: 1,
            });
            let error = world.log.apply(&twin, &mut Vec::new()).unwrap_err();
            assert!(
                error.to_string().contains("10.0.0.99") && error.to_string().contains("10.0.0.2:")
            );
            world.digest()
        },
    );
}
