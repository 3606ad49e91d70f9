//! The connections between data cores: in order both ways, bounded, and each for one life of a node.

use crate::remote_kit::*;
use corecast::base::ids::{CoreId, NodeId};
use corecast::links::counters::LinkCounters;
use corecast::links::settings::LinkSettings;
use corecast::rand::RngExt;
use corecast::sim::network::NetworkSettings;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The sum over the cores of a node.
fn sum(cluster: &mut ClusterSimulation, node: NodeId, of: impl Fn(&LinkCounters) -> u64) -> u64 {
    cluster.link_counters(node).iter().map(of).sum()
}

fn put(sender: u32, number: u64) -> Entry {
    Entry::Put { sender, number }
}

/// Numbers of each sender for each entity, which have to rise; with `all`, without a gap.
fn assert_in_order(handled: &Handled, all: bool) {
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for (_, entity, sender, number) in handled.lock().unwrap().iter() {
        let next = next.entry((*entity, *sender)).or_default();
        assert!(*number >= *next, "from {sender} to {entity}: {number}");
        assert!(!all || *number == *next, "from {sender} to {entity}");
        *next = number + 1;
    }
}

/// Cores that choose each other have one connection, whoever has made it; where one node has more cores, each of them has
/// one.
#[test]
fn two_nodes_have_as_many_connections_as_the_larger_one_has_cores() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 3);
        let cores = [(); 2].map(|()| rng.random_range(1..5_usize));
        let ledgers = [(A, cores[0]), (B, cores[1])]
            .map(|(node, cores)| start(&mut cluster, node, &handled, |it| it.cores(cores)));
        spread(&mut cluster, &[A, B]);
        cluster.run_for(ms(3_000));
        for node in [A, B] {
            let (connections, bytes) = cluster.link_sizes(node);
            assert_eq!(connections, cores[0].max(cores[1]), "{cores:?}");
            // The buffers of an idle connection are those for reading.
            assert!(bytes < connections * 80_000, "{bytes}");
            assert_eq!(sum(&mut cluster, node, |it| it.downs), 0);
        }
        // Both directions, from every core, in order.
        let handles = [A, A, A, B, B, B].map(|node| (node, cluster.node(node).handle()));
        for number in 0..200 {
            for (sender, (node, handle)) in (0..).zip(&handles) {
                let region = ledgers[node.0 as usize - 1];
                for shard in 0..2 {
                    handle.tell(region.entity(&id_in(region, shard)), put(sender, number));
                }
            }
            if number % 20 == 0 {
                cluster.run_for(Duration::from_micros(rng.random_range(0..500)));
            }
        }
        assert!(cluster.run_until_idle());
        assert_in_order(&handled, true);
        assert_eq!(handled.lock().unwrap().len(), 200 * 6 * 2);
        cluster
    });
}

/// Also while connections break and are made anew, now by the one side and now by the other.
#[test]
fn what_comes_over_changing_connections_is_in_order_and_counted() {
    check_cluster_seeds(15, |mut cluster| {
        let handled = Handled::default();
        *cluster.network().settings_mut() = NetworkSettings {
            gives_up_after: ms(15),
            window: 2_000,
            loss: 0.02,
            resend_after: ms(2),
            ..NetworkSettings::default()
        };
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 3);
        let handles = [A, A, B, B].map(|node| (node, cluster.node(node).handle()));
        let mut sent = 0;
        for _ in 0..400 {
            for (sender, (node, handle)) in (0..).zip(&handles) {
                let region = ledgers[node.0 as usize - 1];
                let id = id_in(region, 2 * rng.random_range(0..4) + u32::from(*node == A));
                handle.tell(region.entity(&id), put(sender, sent));
                sent += 1;
            }
            match rng.random_range(0..60) {
                0 => cluster.network().cut(A, B),
                1 => cluster.network().cut(B, A),
                2..8 => {
                    let now = cluster.now();
                    cluster.network().heal(now);
                }
                _ => {}
            }
            cluster.run_for(Duration::from_micros(rng.random_range(0..4_000)));
        }
        let now = cluster.now();
        cluster.network().heal(now);
        cluster.run_for(ms(10_000));
        assert!(cluster.run_until_idle());
        assert_in_order(&handled, false);
        let done = handled.lock().unwrap().len() as u64;
        let counted = dead_letters(&mut cluster, A) + dead_letters(&mut cluster, B);
        let (a, b) = (cluster.remote_stats(A), cluster.remote_stats(B));
        let lost = a.frames_sent + b.frames_sent - a.frames_in - b.frames_in;
        assert_eq!(done + counted + lost, sent, "{done} + {counted} + {lost}");
        cluster
    });
}

/// The network would take everything; the core that is sent to does not. What it was sent without having taken it is what it
/// gave leave for, and the rest waits at its sender, or is refused there.
#[test]
fn credit_stops_a_sender_towards_a_core_that_takes_little() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        let credit = 200;
        cluster.set_links(LinkSettings {
            credit_frames: credit,
            ..LinkSettings::default()
        });
        cluster.set_bounds(corecast::actor::link::LinkBounds {
            buffer_bytes: 64 << 10,
            ..Default::default()
        });
        cluster.network().settings_mut().window = 64 << 20;
        let ledgers = start(&mut cluster, A, &handled, |it| it.cores(1));
        start(&mut cluster, B, &handled, |it| {
            it.cores(1).message_cost(ms(1))
        });
        spread(&mut cluster, &[A, B]);
        let ledger = ledgers.entity_ref(id_in(ledgers, 1));
        let handle = cluster.node(A).handle();
        let (mut most, mut sent) = (0, 0);
        for _ in 0..100 {
            for _ in 0..30 {
                handle.tell(ledger, put(0, sent));
                sent += 1;
            }
            cluster.run_for(ms(1));
            let out = cluster.remote_stats(A);
            let under_way = out.frames_sent - cluster.remote_stats(B).frames_in;
            most = most.max(under_way);
            assert!(under_way <= credit, "{under_way}");
            assert!(out.waiting_bytes <= 65 << 10, "{out:?}");
            let (_, bytes) = cluster.link_sizes(A);
            assert!(bytes < 400_000, "{bytes}");
        }
        assert!(most > credit / 2, "{most}");
        assert!(sum(&mut cluster, A, |it| it.refused_no_credit) > 0);
        assert!(cluster.run_until_idle());
        assert_in_order(&handled, false);
        let done = handled.lock().unwrap().len() as u64;
        let counted = dead_letters(&mut cluster, A);
        assert!(counted > 500, "{counted}");
        assert_eq!(done + counted, sent);
        cluster
    });
}

/// Nonsense, halves, and silence, at the port, in the greeting and behind it: each is closed in time, and those who mean
/// well are served meanwhile.
#[test]
fn strangers_hurt_nobody() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        cluster.overhear();
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        let streams = cluster.take_overheard();
        let frames: Vec<u8> = streams.concat();
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 3);
        let mut number = 0;
        for _ in 0..150 {
            let core = CoreId(rng.random_range(0..3));
            let some: Vec<u8> = (0..rng.random_range(0..400))
                .map(|_| rng.random())
                .collect();
            let half = &frames[..rng.random_range(0..frames.len())];
            match rng.random_range(0..5) {
                0 => cluster.knock(B, &some),
                1 => cluster.knock(B, &[]),
                // There is no third core.
                2 => cluster.receive(B, core, half),
                3 => cluster.receive(B, core, &[]),
                _ => cluster.receive(B, core, &some),
            }
            cluster.node(A).tell(ledger, put(0, number));
            number += 1;
            cluster.run_for(Duration::from_micros(rng.random_range(0..40_000)));
            let (connections, bytes) = cluster.link_sizes(B);
            assert!(connections < 150 && bytes < 150 * 80_000, "{bytes}");
        }
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(number));
        cluster.run_for(ms(10_000));
        // Whoever said nothing more is gone, and those who mean well have never been.
        assert_eq!(cluster.link_sizes(B).0, 2);
        assert_eq!(sum(&mut cluster, A, |it| it.downs), 0);
        assert!(sum(&mut cluster, B, |it| it.ended_by("garbage")) > 0);
        assert!(sum(&mut cluster, B, |it| it.ended_by("silent")) > 0);
        assert_in_order(&handled, true);
        cluster
    });
}

/// A node dies with messages for it on their way, in connections, and waiting, and starts again at once, before anybody says
/// that it was dead: what was for its old life is refused or lost, and nothing of it comes to the new one.
#[test]
fn no_frame_for_an_old_life_reaches_the_new_one() {
    check_cluster_seeds(20, |mut cluster| {
        let (handled, anew) = (Handled::default(), Handled::default());
        cluster.network().settings_mut().window = 1_000;
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 3);
        let mut sent = 0;
        let mut tell = |cluster: &mut ClusterSimulation, count: u64| {
            for _ in 0..count {
                cluster.node(A).tell(ledger, put(0, sent));
                sent += 1;
            }
            sent
        };
        tell(&mut cluster, 300);
        cluster.run_for(Duration::from_micros(rng.random_range(0..3_000)));
        cluster.kill(B);
        start(&mut cluster, B, &anew, |it| it.cores(2));
        cluster.publish_to(B);
        // It knows of A, which does not know of its new life, and connects to it.
        tell(&mut cluster, 50);
        cluster.run_for(ms(rng.random_range(0..300)));
        let of_old = tell(&mut cluster, 50);
        cluster.run_for(ms(rng.random_range(1..5)));
        assert!(anew.lock().unwrap().is_empty());
        cluster.publish();
        cluster.run_for(ms(5));
        let all = tell(&mut cluster, 20);
        assert!(cluster.run_until_idle());
        let numbers: Vec<u64> = anew.lock().unwrap().iter().map(|it| it.3).collect();
        assert_eq!(numbers, (of_old..all).collect::<Vec<u64>>());
        let done = handled.lock().unwrap().len() as u64;
        let counted = dead_letters(&mut cluster, A);
        // Some have left for the old life, before it was known to be over.
        let left = cluster.remote_stats(A).frames_sent - (all - of_old);
        assert!((done..=left).contains(&(of_old - counted)), "{counted}");
        assert!(counted >= 50, "{counted}");
        cluster
    });
}

/// What was accepted leaves before the farewell, and whoever stays knows that all of it has come.
#[test]
fn a_node_that_parts_in_good_order_loses_nothing() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        cluster.network().settings_mut().window = 5_000;
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        for number in 0..1_000 {
            cluster.node(A).tell(ledger, put(0, number));
        }
        // They are in frames by then, and most have not left.
        cluster.run_for(Duration::from_micros(400));
        cluster.part(A);
        let mut patience = 0;
        while !cluster.has_parted(A) {
            cluster.run_for(ms(1));
            patience += 1;
            assert!(patience < 2_100, "it does not part");
        }
        assert!(cluster.run_until_idle());
        assert_eq!(handled.lock().unwrap().len(), 1_000);
        assert_in_order(&handled, true);
        assert_eq!(sum(&mut cluster, A, |it| it.ended_by("closed")), 2);
        assert_eq!(sum(&mut cluster, B, |it| it.ended_by("closed by peer")), 2);
        cluster
    });
}

/// A node does not know that it was declared down, and goes on: nothing of that life is taken any more where that is known,
/// over whatever connection it comes. What is believed of the dead, for instance that they pass on nothing more, is true.
#[test]
fn of_a_life_that_is_down_nothing_is_taken_any_more() {
    check_cluster_seeds(20, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let ledger = ledgers[1].entity_ref(id_in(ledgers[1], 0));
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 3);
        let mut tell = |cluster: &mut ClusterSimulation, numbers: Range<u64>| {
            for number in numbers {
                cluster.node(B).tell(ledger, put(0, number));
                let pause = Duration::from_micros(rng.random_range(0..1_000));
                cluster.run_for(pause);
            }
        };
        tell(&mut cluster, 0..100);
        assert!(!handled.lock().unwrap().is_empty());
        cluster.node_down(B);
        cluster.publish_to(A);
        tell(&mut cluster, 100..200);
        for second in 2..12 {
            cluster.run_for(ms(1_000));
            tell(&mut cluster, second * 100..second * 100 + 10);
        }
        assert!(cluster.run_until_idle());
        assert!(handled.lock().unwrap().iter().all(|it| it.3 < 100));
        assert!(sum(&mut cluster, B, |it| it.ended_by("life over")) > 0);
        // In its next life it is heard again.
        cluster.kill(B);
        let anew = start(&mut cluster, B, &handled, |it| it.cores(2));
        cluster.publish();
        let ledger = anew.entity_ref(id_in(anew, 0));
        cluster.node(B).tell(ledger, put(0, 5_000));
        assert!(cluster.run_until_idle());
        assert_eq!(handled.lock().unwrap().last().map(|it| it.3), Some(5_000));
        cluster
    });
}
