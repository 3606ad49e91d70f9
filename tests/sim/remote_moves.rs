//! Shards that move between nodes: nothing that was accepted is lost or reordered, and nobody runs what is another's.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim remote_moves`.

use crate::moves_kit::*;
use corecast::base::ids::{CoreId, NodeId, ShardId};
use corecast::base::rng::seeded;
use corecast::rand::RngExt;
use corecast::sharding::move_error::RefusedWhy;
use corecast::sim::{Bounds, check_cluster_seeds};
use std::collections::BTreeMap;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// State, waiting messages, timers and an ask that waits for its answer, all in one shard.
#[test]
fn what_an_entity_has_goes_with_it() {
    check_cluster_seeds(10, |mut cluster| {
        let history = History::default();
        let regions = shelves(&mut cluster, &[A, B, C], &history);
        cluster.commit_moves(true);
        let id = id_in(regions[&A], 1);
        let book = |node: NodeId| regions[&node].entity_ref(id);
        for number in 0..5 {
            cluster
                .node(A)
                .tell(book(A), Line::Put { sender: 0, number });
        }
        cluster.run_for(ms(5));
        let remind = Line::Remind {
            sender: 7,
            after: 400,
        };
        cluster.node(A).tell(book(A), remind);
        cluster.node(A).tell(book(A), Line::Spawn);
        cluster.node(A).tell(book(A), Line::Slow(20));
        let number = 5;
        let handle = cluster.node(A).handle();
        handle.tell(book(A), Line::Put { sender: 0, number });
        cluster.run_for(ms(3));
        let asks = [A, B, C].map(|node| {
            let handle = cluster.node(node).handle();
            handle.ask_within(ms(5_000), book(node), Line::Count)
        });
        cluster.run_for(ms(3));
        assert!(moved(&mut cluster, 1, C));
        for ask in asks {
            assert_eq!(cluster.run_until(ask).unwrap(), Ok(6));
        }
        assert_eq!(cluster.ask(B, book(B), Line::Count), Ok(6));
        assert!(cluster.run_until_idle());
        cluster.run_for(ms(500));
        assert_eq!(lines(&history)[&(id, 7)], 1, "the timer has ticked");
        assert!(homes(&history, id).contains(&C));
        judge(&history, |id| regions[&A].shard_of(&id).shard, true);
        for node in [A, B, C] {
            assert_eq!(dead_letters(&mut cluster, node), []);
        }
        cluster
    });
}

/// A target keeps as many bytes of what comes as messages may wait there: a shard that is larger stays where it is.
#[test]
fn a_shard_for_which_there_is_no_room_stays() {
    check_cluster_seeds(10, |mut cluster| {
        let history = History::default();
        let books = start(&mut cluster, A, &history, |it| it.cores(2));
        start(&mut cluster, B, &history, |it| {
            it.cores(2).bounds(Bounds {
                queued_bytes: 4 << 10,
                ..Bounds::default()
            })
        });
        spread(&mut cluster, &[A]);
        cluster.commit_moves(true);
        let large = id_in(books, 1);
        let small = id_in(books, 2);
        let shard = books.shard_of(&large).shard;
        let ids = (0..).filter(|id| books.shard_of(id).shard == shard);
        let ids: Vec<u64> = ids.take(400).collect();
        for id in ids.iter().copied().chain([small]) {
            let put = Line::Put {
                sender: 0,
                number: 0,
            };
            cluster.node(A).tell(books.entity_ref(id), put);
        }
        assert!(cluster.run_until_idle());
        assert!(!moved(&mut cluster, 1, B));
        let ended = cluster.ended_moves();
        let refused = Err(RefusedWhy::NoRoom);
        assert!(
            ended
                .iter()
                .any(|(node, it)| *node == B && it.outcome == refused)
        );
        for id in [ids[0], ids[399]] {
            assert_eq!(cluster.ask(A, books.entity_ref(id), Line::Count), Ok(1));
        }
        // What was kept of it is gone: others find room.
        assert!(moved(&mut cluster, 2, B));
        assert_eq!(cluster.ask(A, books.entity_ref(small), Line::Count), Ok(1));
        judge(&history, |id| books.shard_of(&id).shard, true);
        cluster
    });
}

/// Many senders on all nodes, shards that go back and forth between nodes and cores, nodes that hear late.
#[test]
fn nothing_is_lost_or_reordered_under_load() {
    check_cluster_seeds(20, |mut cluster| {
        let history = History::default();
        let nodes = [A, B, C];
        let regions = shelves(&mut cluster, &nodes, &history);
        let mut rng = seeded(cluster.seed(), 41);
        cluster.commit_moves(rng.random_bool(0.5));
        let handles: Vec<_> = (0..9)
            .map(|sender| nodes[sender % 3])
            .map(|node| (node, cluster.node(node).handle()))
            .collect();
        let mut counts: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        let mut asks = Vec::new();
        for _ in 0..300 {
            for (sender, (node, handle)) in (0..).zip(&handles) {
                for _ in 0..rng.random_range(0..3) {
                    let id = rng.random_range(0..12);
                    let number = counts.entry((sender, id)).or_default();
                    let book = regions[node].entity_ref(id);
                    if rng.random_ratio(1, 8) {
                        let number = *number;
                        asks.push(
                            handle.ask_within(ms(30_000), book, move |reply_to| Line::Ask {
                                sender,
                                number,
                                reply_to,
                            }),
                        );
                    } else {
                        let number = *number;
                        handle.tell(book, Line::Put { sender, number });
                    }
                    *number += 1;
                }
            }
            let shard = ShardId(rng.random_range(0..SHARDS));
            match rng.random_range(0..10) {
                0 | 1 => {
                    let to = nodes[rng.random_range(0..3)];
                    if cluster.prepare("book", shard, to).is_some() {
                        cluster.publish();
                    }
                }
                2 => {
                    let node = nodes[rng.random_range(0..3)];
                    let id = id_in(regions[&A], shard.0);
                    let to = CoreId(rng.random_range(0..2));
                    drop(cluster.node(node).start_move(regions[&A].shard_of(&id), to));
                }
                _ => {}
            }
            for (_, report) in cluster.ended_moves() {
                let arrived = report.outcome.is_ok();
                cluster.end_move(report.shard, report.prepared, arrived);
            }
            // The others lag behind.
            cluster.publish_to(nodes[rng.random_range(0..3)]);
            cluster.run_for(std::time::Duration::from_micros(rng.random_range(0..2_000)));
        }
        for _ in 0..3 {
            for (_, report) in cluster.ended_moves() {
                cluster.end_move(report.shard, report.prepared, report.outcome.is_ok());
            }
            cluster.publish();
            cluster.run_for(ms(2_000));
        }
        assert!(cluster.run_until_idle());
        for ask in asks {
            let outcome = cluster.run_until(ask).unwrap();
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        judge(&history, |id| regions[&A].shard_of(&id).shard, true);
        let lines = lines(&history);
        let sent: BTreeMap<(u64, u32), u64> = counts
            .iter()
            .map(|(at, count)| ((at.1, at.0), *count))
            .collect();
        assert_eq!(lines, sent);
        for id in 0..12 {
            let of_it = sent.iter().filter(|((book, _), _)| *book == id);
            let sum: u64 = of_it.map(|(_, count)| count).sum();
            let book = regions[&A].entity_ref(id);
            assert_eq!(cluster.ask(A, book, Line::Count), Ok(sum), "book {id}");
        }
        for node in nodes {
            assert_eq!(dead_letters(&mut cluster, node), [], "{node}");
        }
        cluster
    });
}
