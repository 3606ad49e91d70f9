//! Tells between nodes: in order, each handled or counted, read where they lie, and bounded.

use crate::remote_kit::*;
use corecast::base::ids::CoreId;
use corecast::rand::RngExt;
use corecast::sim::check_cluster_seeds;
use corecast::sim::network::NetworkSettings;
use corecast::{Rejection, ShardId, ShardKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// Each sender counts for each receiver; the counts come in order.
fn assert_in_order(handled: &Handled, all: bool) -> usize {
    let handled = handled.lock().unwrap();
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for (_, entity, sender, number) in handled.iter() {
        let next = next.entry((*entity, *sender)).or_default();
        if all {
            assert_eq!(*number, *next, "from {sender} to {entity}");
        }
        assert!(
            *number >= *next,
            "from {sender} to {entity}: {number} after {next}"
        );
        *next = number + 1;
    }
    handled.len()
}

/// Also while shards change cores, over connections that resend, cut anywhere.
#[test]
fn tells_come_in_order_and_none_is_lost() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        *cluster.network().settings_mut() = NetworkSettings {
            loss: 0.05,
            resend_after: Duration::from_millis(3),
            window: 4_000,
            ..NetworkSettings::default()
        };
        let ledgers = nodes(&mut cluster, &[A, B, C], &handled);
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 9);
        let handles: Vec<_> = [A, A, B, B, C, C]
            .map(|node| (node, cluster.node(node).handle()))
            .into_iter()
            .collect();
        let mut counts: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        for round in 0..60 {
            for (sender, (node, handle)) in handles.iter().enumerate() {
                let region = ledgers[node.0 as usize - 1];
                for _ in 0..rng.random_range(0..6) {
                    let id = rng.random_range(0..12);
                    let count = counts.entry((sender, id)).or_default();
                    let put = Entry::Put {
                        sender: sender as u32,
                        number: *count,
                    };
                    handle.tell(region.entity(&id), put);
                    *count += 1;
                }
            }
            if round % 3 == 0 {
                let node = [A, B, C][rng.random_range(0..3)];
                let shard = ledgers[0].shard_of(&rng.random_range(0..12));
                let to = CoreId(rng.random_range(0..2));
                drop(cluster.node(node).start_move(shard, to));
            }
            cluster.run_for(Duration::from_micros(rng.random_range(0..400)));
        }
        assert!(cluster.run_until_idle());
        let sent: u64 = counts.values().sum();
        assert_eq!(assert_in_order(&handled, true) as u64, sent);
        for node in [A, B, C] {
            assert_eq!(dead_letters(&mut cluster, node), 0);
        }
        // Nobody was there twice: what each has counted is all that it was told.
        for id in 0..12 {
            let of_it = counts.iter().filter(|((_, to), _)| *to == id);
            let told: u64 = of_it.map(|(_, count)| count).sum();
            let sum = cluster.ask(A, ledgers[0].entity_ref(id), Entry::Sum);
            assert_eq!(sum, Ok(told), "{id}");
        }
        cluster
    });
}

/// With tiny lanes, batches and outboxes, cores that stand still, and shards that change cores: whatever does not fit is
/// counted, and what is handled comes in order.
#[test]
fn what_tiny_bounds_refuse_is_counted() {
    check_cluster_seeds(15, |mut cluster| {
        let handled = Handled::default();
        cluster.set_bounds(corecast::actor::link::LinkBounds {
            buffer_bytes: 1_000,
            held_bytes: 2_000,
            ..Default::default()
        });
        let ledgers =
            [A, B].map(|node| start(&mut cluster, node, &handled, |it| it.cores(3).swarm()));
        spread(&mut cluster, &[A, B]);
        cluster.run_for(Duration::from_millis(100));
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 9);
        let handles = [A, A, B, B].map(|node| (node, cluster.node(node).handle()));
        let mut sent = 0;
        for _ in 0..60 {
            for (sender, (node, handle)) in (0..).zip(&handles) {
                let region = ledgers[node.0 as usize - 1];
                for _ in 0..rng.random_range(0..12) {
                    let id = rng.random_range(0..12);
                    handle.tell(
                        region.entity(&id),
                        Entry::Put {
                            sender,
                            number: sent,
                        },
                    );
                    sent += 1;
                }
            }
            if rng.random_ratio(1, 5) {
                let node = [A, B][rng.random_range(0..2)];
                let shard = ledgers[0].shard_of(&rng.random_range(0..12));
                let to = CoreId(rng.random_range(0..3));
                drop(cluster.node(node).start_move(shard, to));
            }
            cluster.run_for(Duration::from_micros(rng.random_range(0..2_000)));
        }
        assert!(cluster.run_until_idle());
        assert_in_order(&handled, false);
        let done = handled.lock().unwrap().len() as u64;
        let counted = dead_letters(&mut cluster, A) + dead_letters(&mut cluster, B);
        assert_eq!(done + counted, sent, "{done} + {counted}");
        cluster
    });
}

/// A large message is read in the buffer that it came in; one that goes on to another core goes as a pointer.
#[test]
fn large_messages_are_not_copied() {
    check_cluster_seeds(4, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let id = id_in(ledgers[0], 1);
        for _ in 0..20 {
            let bulk = Entry::Bulk(vec![7; 200_000]);
            cluster.node(A).tell(ledgers[0].entity(&id), bulk);
            cluster.run_until_idle();
        }
        let sum = cluster.ask(A, ledgers[0].entity_ref(id), Entry::Sum);
        assert_eq!(sum, Ok(20 * 200_000));
        let (out, taken) = (cluster.remote_stats(A), cluster.remote_stats(B));
        assert_eq!(out.copied_out, 0);
        assert!(out.bytes_out > 4_000_000);
        // The ask is small, and may have been carried to another core.
        assert!(taken.copied_in < 1_000, "{taken:?}");
        assert_eq!(taken.read_in_place + taken.read_to_wait, 21, "{taken:?}");
        assert_eq!((taken.refused, taken.senseless), (0, 0));
        cluster
    });
}

/// What is taken at the call is bounded, and so is what waits for a node that takes nothing.
#[test]
fn a_node_that_does_not_read_costs_bounded_memory() {
    check_cluster_seeds(4, |mut cluster| {
        let handled = Handled::default();
        cluster.set_bounds(corecast::actor::link::LinkBounds {
            buffer_bytes: 64 << 10,
            ..Default::default()
        });
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let id = id_in(ledgers[0], 1);
        let (now, ledger) = (cluster.now(), ledgers[0].entity_ref(id));
        cluster.network().cut(A, B);
        cluster.network().cut(B, A);
        let _ = now;
        for _ in 0..100 {
            for number in 0..40 {
                let put = Entry::Put { sender: 0, number };
                cluster.node(A).tell(ledger, put);
            }
            cluster.run_for(Duration::from_micros(100));
        }
        let stats = cluster.remote_stats(A);
        // All of it comes through one core: as much as may wait, and one frame more.
        assert!(stats.waiting_bytes <= 65 << 10, "{stats:?}");
        let stats = cluster.node(A).stats();
        let full = |why: &(Rejection, u64)| why.0 == Rejection::LinkFull;
        let refused: u64 = stats
            .cores
            .iter()
            .filter_map(|core| core.dead_letters.iter().find(|why| full(why)))
            .map(|(_, count)| count)
            .sum();
        assert!(refused > 1_000, "{refused}");
        let now = cluster.now();
        cluster.network().heal(now);
        // The attempt to connect was lost in the cut; the next one comes through.
        cluster.run_for(Duration::from_secs(10));
        assert!(cluster.run_until_idle());
        assert_eq!(cluster.remote_stats(A).waiting_bytes, 0);
        let done = handled.lock().unwrap().len() as u64;
        assert_eq!(done + dead_letters(&mut cluster, A), 4_000);
        cluster
    });
}

/// When connections break, what has not left is counted; what has left and did not arrive is nobody's knowledge.
#[test]
fn every_tell_is_handled_or_counted_or_was_on_its_way() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        cluster.network().settings_mut().gives_up_after = Duration::from_millis(20);
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 5);
        let mut sent = 0;
        for round in 0..80 {
            for _ in 0..10 {
                let (sender, id) = (rng.random_range(0..2), rng.random_range(0..20));
                let put = Entry::Put {
                    sender,
                    number: sent,
                };
                let node = [A, B][sender as usize];
                cluster
                    .node(node)
                    .tell(ledgers[sender as usize].entity(&id), put);
                sent += 1;
            }
            if round % 20 == 10 {
                let (from, to) = [(A, B), (B, A)][rng.random_range(0..2)];
                cluster.network().cut(from, to);
            }
            if round % 20 == 15 {
                let now = cluster.now();
                cluster.network().heal(now);
            }
            cluster.run_for(Duration::from_millis(rng.random_range(1..10)));
        }
        let now = cluster.now();
        cluster.network().heal(now);
        cluster.run_for(Duration::from_secs(5));
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

/// A past owner passes on what comes to it, and says so; nothing is lost.
#[test]
fn a_past_owner_passes_messages_on_and_tells_their_sender() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B, C], &handled);
        let id = id_in(ledgers[0], 1);
        cluster.assign("ledger", ShardId(1), C);
        cluster.publish_to(B);
        cluster.publish_to(C);
        cluster.run_for(Duration::from_millis(1));
        for number in 0..50 {
            let put = Entry::Put { sender: 0, number };
            cluster.node(A).tell(ledgers[0].entity(&id), put);
            cluster.run_for(Duration::from_micros(30));
        }
        // Whoever asks is another sender, perhaps on another core with a connection of its own.
        assert!(cluster.run_until_idle());
        let sum = cluster.ask(A, ledgers[0].entity_ref(id), Entry::Sum);
        assert_eq!(sum, Ok(50));
        assert!(cluster.run_until_idle());
        assert_eq!(assert_in_order(&handled, true), 50);
        assert!(handled.lock().unwrap().iter().all(|it| it.0 == C));
        assert_eq!(cluster.remote_stats(B).forwarded, 51);
        assert!(cluster.remote_stats(A).moved_notices > 0);
        // Once the sender knows, it sends there.
        cluster.publish_to(A);
        cluster.run_for(Duration::from_millis(1));
        let sum = cluster.ask(A, ledgers[0].entity_ref(id), Entry::Sum);
        assert_eq!(sum, Ok(50));
        assert_eq!(cluster.remote_stats(B).forwarded, 51);
        let key = ShardKey {
            entity_type: ledgers[0].type_id(),
            shard: ShardId(1),
        };
        assert!(!cluster.node(A).topology().is_mine(key));
        cluster
    });
}

/// A node that lags behind its peers holds what it cannot place, until it knows.
#[test]
fn a_new_owner_that_does_not_know_yet_holds_messages() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B, C], &handled);
        let id = id_in(ledgers[0], 1);
        cluster.assign("ledger", ShardId(1), C);
        cluster.publish_to(A);
        cluster.run_for(Duration::from_millis(1));
        for number in 0..20 {
            let put = Entry::Put { sender: 0, number };
            cluster.node(A).tell(ledgers[0].entity(&id), put);
        }
        cluster.run_for(Duration::from_millis(5));
        assert!(handled.lock().unwrap().is_empty());
        cluster.publish();
        assert!(cluster.run_until_idle());
        assert_eq!(assert_in_order(&handled, true), 20);
        assert_eq!(cluster.remote_stats(C).forwarded, 0);
        cluster
    });
}
