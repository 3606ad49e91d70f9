//! Shards that move between nodes, of whose past owners one dies: what waits at those that live is neither overtaken nor lost.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim remote_moves_deaths`.

use crate::moves_kit::*;
use corecast::base::ids::{CoreId, NodeId, ShardId};
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{Handle, Region};
use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const D: NodeId = NodeId(4);

/// The shard that moves: it is on B at first.
const MOVES: ShardId = ShardId(1);

/// A writer on A of a book in the shard that moves.
struct Writer {
    history: History,
    books: Region<u64, Line>,
    id: u64,
    handle: Handle,
}

/// How many data cores the nodes have, and which one of A's the writer is on. What comes by a past owner reaches another
/// core of the next node than what comes directly, where they have different numbers.
const SHAPES: [([usize; 4], u16); 4] = [
    ([2, 2, 2, 2], 0),
    ([3, 2, 3, 1], 2),
    ([4, 3, 2, 3], 3),
    ([4, 1, 3, 2], 3),
];

fn check(seeds: u64, test: impl Fn(&mut ClusterSimulation, &Writer)) {
    for (cores, core) in SHAPES {
        check_cluster_seeds(seeds, |mut cluster| {
            let writer = Writer::new(&mut cluster, cores, core);
            test(&mut cluster, &writer);
            cluster
        });
    }
}

impl Writer {
    fn new(cluster: &mut ClusterSimulation, cores: [usize; 4], core: u16) -> Writer {
        let history = History::default();
        let nodes = [A, B, C, D];
        let mut regions = Vec::new();
        for (node, cores) in nodes.into_iter().zip(cores) {
            regions.push(start(cluster, node, &history, |it| it.cores(cores)));
        }
        let books = regions[0];
        spread(cluster, &nodes);
        Writer {
            history,
            books,
            id: id_in(books, MOVES.0),
            handle: cluster.node(A).handle().through(CoreId(core)).unwrap(),
        }
    }

    fn writes(&self, cluster: &mut ClusterSimulation, numbers: Range<u64>) {
        for number in numbers {
            let put = Line::Put { sender: 0, number };
            self.handle.tell(self.books.entity_ref(self.id), put);
        }
        cluster.run_for(ms(5));
    }

    fn handled(&self) -> u64 {
        lines(&self.history)[&(self.id, 0)]
    }

    /// All of that many lines are handled, in order.
    fn ends_with(&self, cluster: &mut ClusterSimulation, lines: u64) {
        assert!(cluster.run_until_idle());
        judge(&self.history, |id| self.books.shard_of(&id).shard, true);
        assert_eq!(self.handled(), lines);
    }
}

fn dies(cluster: &mut ClusterSimulation, node: NodeId) {
    cluster.kill(node);
    cluster.run_for(ms(5));
    cluster.node_down(node);
}

fn prepare(cluster: &mut ClusterSimulation, to: NodeId, hear: &[NodeId]) {
    cluster.prepare("book", MOVES, to).unwrap();
    hear_news(cluster, hear);
}

fn hear_news(cluster: &mut ClusterSimulation, hear: &[NodeId]) {
    for node in hear {
        cluster.publish_to(*node);
    }
    cluster.run_for(ms(5));
}

/// The past owner holds a message when the next owner dies; whoever has sent it is the one after that.
#[test]
fn the_heir_of_a_dead_owner_does_not_overtake_the_owner_before() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        writer.writes(cluster, 5..10);
        own(cluster, MOVES.0);
        dies(cluster, C);
        cluster.assign("book", MOVES, A);
        hear_news(cluster, &[A]);
        writer.writes(cluster, 10..15);
        assert_eq!(writer.handled(), 5, "the past owner has yet to hear");
        hear_news(cluster, &[B]);
        writer.ends_with(cluster, 15);
    });
}

/// A past owner has passed messages on before it dies, and the owner after it holds them.
#[test]
fn what_a_dead_owner_has_passed_on_is_not_overtaken() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[B, C]);
        prepare(cluster, A, &[C]);
        writer.writes(cluster, 5..10);
        hear_news(cluster, &[A]);
        dies(cluster, B);
        hear_news(cluster, &[A, C]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[A]);
        writer.writes(cluster, 10..15);
        assert_eq!(writer.handled(), 5, "the owner before has yet to hear");
        hear_news(cluster, &[C]);
        writer.ends_with(cluster, 15);
    });
}

/// A past owner has sent messages back before it dies; they wait where they came from, for the shard is to leave again.
#[test]
fn what_a_dead_owner_has_sent_back_is_not_overtaken() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, A, &[B]);
        writer.writes(cluster, 5..10);
        hear_news(cluster, &[A]);
        own(cluster, MOVES.0);
        prepare(cluster, C, &[A, C]);
        writer.writes(cluster, 10..15);
        hear_news(cluster, &[B]);
        dies(cluster, B);
        hear_news(cluster, &[A, C]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[A, C]);
        writer.ends_with(cluster, 15);
    });
}

/// A past owner is declared down and does not know. The present owner has not heard of that either, and takes what it passes
/// on: until it has heard, it does not say that nothing more comes.
#[test]
fn who_has_not_heard_of_a_death_does_not_answer_for_the_dead() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        writer.writes(cluster, 5..10);
        own(cluster, MOVES.0);
        hear_news(cluster, &[C]);
        cluster.node_down(B);
        hear_news(cluster, &[A]);
        writer.writes(cluster, 10..15);
        assert_eq!(writer.handled(), 5, "the owner has yet to hear");
        hear_news(cluster, &[B]);
        assert_eq!(writer.handled(), 10);
        hear_news(cluster, &[C]);
        writer.ends_with(cluster, 15);
    });
}

/// A core hears of two further owners at once, when the first has died: the one between still holds what that has passed on.
#[test]
fn what_an_owner_in_between_holds_is_not_overtaken() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[B, C]);
        prepare(cluster, D, &[C, D]);
        writer.writes(cluster, 5..10);
        own(cluster, MOVES.0);
        hear_news(cluster, &[D]);
        dies(cluster, B);
        hear_news(cluster, &[A, D]);
        writer.writes(cluster, 10..15);
        assert_eq!(writer.handled(), 5, "the owner between has yet to hear");
        hear_news(cluster, &[C]);
        writer.ends_with(cluster, 15);
    });
}

/// The dead one had heard of more than the owner after it, and has passed messages by that one to the next, which holds them.
#[test]
fn what_a_dead_owner_has_sent_past_the_next_is_not_overtaken() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[C]);
        prepare(cluster, D, &[C, D]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[D]);
        writer.writes(cluster, 5..10);
        prepare(cluster, A, &[D, A]);
        writer.writes(cluster, 10..15);
        hear_news(cluster, &[B]);
        own(cluster, MOVES.0);
        dies(cluster, B);
        hear_news(cluster, &[A, C]);
        assert_eq!(writer.handled(), 5, "the owner before has yet to hear");
        hear_news(cluster, &[D]);
        writer.ends_with(cluster, 15);
    });
}

/// One core of the next owner has taken what a past owner has passed on, and hands it to another, which has heard of that
/// one's death by then, and has answered for it, or sends on what it held itself: what comes so late is dropped, as if it came
/// from the dead one.
#[test]
fn what_another_core_has_taken_from_a_dead_owner_overtakes_nobody() {
    for heir in [A, C] {
        let dropped = Cell::new(0);
        check_cluster_seeds(200, |mut cluster| {
            let history = History::default();
            let nodes = [A, B, C];
            let mut regions = Vec::new();
            for (node, cores) in nodes.into_iter().zip([4, 1, 2]) {
                regions.push(start(&mut cluster, node, &history, |it| {
                    let it = it.cores(cores);
                    if node == heir {
                        it.swarm().stalls(4, ms(1))
                    } else {
                        it
                    }
                }));
            }
            spread(&mut cluster, &nodes);
            // Its own way to C ends at core 1, and that by B at core 0.
            let writer = Writer {
                id: id_in(regions[0], MOVES.0),
                books: regions[0],
                handle: cluster.node(A).handle().through(CoreId(1)).unwrap(),
                history,
            };
            writer.writes(&mut cluster, 0..5);
            prepare(&mut cluster, heir, &[B, C]);
            writer.writes(&mut cluster, 5..100);
            hear_news(&mut cluster, &[A]);
            own(&mut cluster, MOVES.0);
            hear_news(&mut cluster, &[heir]);
            cluster.publish_to(B);
            let pause = cluster.seed() % 40 * 25;
            cluster.run_for(Duration::from_micros(200 + pause));
            cluster.kill(B);
            cluster.node_down(B);
            cluster.publish_to(C);
            cluster.publish_to(A);
            for number in 100..120 {
                writer.writes(&mut cluster, number..number + 1);
            }
            assert!(cluster.run_until_idle());
            judge(
                &writer.history,
                |id| writer.books.shard_of(&id).shard,
                false,
            );
            dropped.set(dropped.get() + cluster.remote_stats(heir).of_the_dead);
            cluster
        });
        let chosen = ["CORECAST_SEED", "CORECAST_SEEDS"].map(std::env::var_os);
        if chosen.iter().all(Option::is_none) {
            assert!(dropped.get() > 0, "nothing has come late to {heir}");
        }
    }
}

/// Nobody dies. A past owner has passed messages to one core of the next, which has handed them to another, where they wait; and
/// passes what comes after them straight to the owner after that.
#[test]
fn a_past_owner_waits_for_each_core_that_has_what_it_has_passed_on() {
    check_cluster_seeds(200, |mut cluster| {
        let history = History::default();
        let nodes = [A, B, C, D];
        let mut regions = Vec::new();
        for (node, cores) in nodes.into_iter().zip([3, 2, 3, 2]) {
            regions.push(start(&mut cluster, node, &history, |it| {
                let it = it.cores(cores);
                if node == C { it.stalls(2, ms(5)) } else { it }
            }));
        }
        spread(&mut cluster, &nodes);
        let writer = Writer {
            id: id_in(regions[0], MOVES.0),
            books: regions[0],
            handle: cluster.node(A).handle().through(CoreId(2)).unwrap(),
            history,
        };
        writer.writes(&mut cluster, 0..5);
        prepare(&mut cluster, C, &[B, C]);
        own(&mut cluster, MOVES.0);
        hear_news(&mut cluster, &[C]);
        prepare(&mut cluster, D, &[C, D]);
        writer.writes(&mut cluster, 5..10);
        hear_news(&mut cluster, &[B]);
        own(&mut cluster, MOVES.0);
        hear_news(&mut cluster, &[D]);
        cluster.publish_to(C);
        cluster.publish_to(B);
        for number in 10..40 {
            writer.handle.tell(
                writer.books.entity_ref(writer.id),
                Line::Put { sender: 0, number },
            );
            cluster.run_for(Duration::from_micros(200));
        }
        hear_news(&mut cluster, &[A]);
        writer.ends_with(&mut cluster, 40);
        cluster
    });
}

/// It does not wait for its own markers until the move is refused.
#[test]
fn an_owner_that_flushes_gives_the_shard_away() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, A, &[A, B]);
        writer.writes(cluster, 5..10);
        own(cluster, MOVES.0);
        hear_news(cluster, &[A]);
        writer.writes(cluster, 10..15);
        prepare(cluster, C, &[A, C]);
        let begins = cluster.now();
        writer.writes(cluster, 15..20);
        hear_news(cluster, &[B]);
        own(cluster, MOVES.0);
        assert!(cluster.now() - begins < ms(1_000));
        hear_news(cluster, &[A, B, C]);
        writer.ends_with(cluster, 20);
    });
}

/// An owner of which the sender had not heard has had the shard and died, all at once: what waits at the one before it is not
/// overtaken.
#[test]
fn an_owner_that_nobody_had_heard_of_makes_no_difference() {
    check_cluster_seeds(20, |mut cluster| {
        let history = History::default();
        let mut regions = Vec::new();
        for node in [A, B, C] {
            regions.push(start(&mut cluster, node, &history, |it| it.cores(2)));
        }
        spread(&mut cluster, &[A, B, C]);
        let writer = Writer {
            id: id_in(regions[0], MOVES.0),
            books: regions[0],
            handle: cluster.node(A).handle().through(CoreId(0)).unwrap(),
            history: history.clone(),
        };
        writer.writes(&mut cluster, 0..5);
        start(&mut cluster, D, &history, |it| it.cores(2));
        prepare(&mut cluster, D, &[B, D]);
        writer.writes(&mut cluster, 5..10);
        own(&mut cluster, MOVES.0);
        dies(&mut cluster, D);
        cluster.assign("book", MOVES, C);
        hear_news(&mut cluster, &[A, C]);
        writer.writes(&mut cluster, 10..15);
        assert_eq!(writer.handled(), 5, "the past owner has yet to hear");
        hear_news(&mut cluster, &[B]);
        writer.ends_with(&mut cluster, 15);
        cluster
    });
}

/// It goes on after it was declared down. What it holds of others is lost with its life: in its next it would pass that on behind
/// what was sent since.
#[test]
fn who_was_declared_down_passes_nothing_on_in_its_next_life() {
    check(20, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        writer.writes(cluster, 5..10);
        own(cluster, MOVES.0);
        cluster.node_down(B);
        hear_news(cluster, &[A, C, D]);
        writer.writes(cluster, 10..15);
        let before = cluster.remote_stats(B).refused;
        cluster.end_life(B);
        cluster.run_for(ms(5));
        assert_eq!(cluster.remote_stats(B).refused - before, 5);
        assert!(cluster.run_until_idle());
        judge(
            &writer.history,
            |id| writer.books.shard_of(&id).shard,
            false,
        );
        assert_eq!(writer.handled(), 10);
    });
}

/// It is said again for as long as it waits, and waits once.
#[test]
fn a_marker_that_waits_for_long_takes_the_room_of_one() {
    check(5, |cluster, writer| {
        writer.writes(cluster, 0..5);
        prepare(cluster, C, &[B, C]);
        own(cluster, MOVES.0);
        hear_news(cluster, &[A, C]);
        cluster.run_for(ms(10_000));
        let cores = cluster.node(B).stats().cores;
        let regions = cores.iter().flat_map(|core| &core.regions);
        let held: usize = regions.map(|it| it.held).sum();
        assert_eq!(held, 1);
        writer.writes(cluster, 5..10);
        hear_news(cluster, &[B]);
        writer.ends_with(cluster, 10);
    });
}
