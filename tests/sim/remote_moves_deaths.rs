//! Shards that move between nodes, of whose past owners one dies: what waits at those that live is neither overtaken nor lost.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim remote_moves_deaths`.

use crate::moves_kit::*;
use corecast::base::ids::{CoreId, NodeId, ShardId};
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{Handle, Region};
use std::ops::Range;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

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
const SHAPES: [([usize; 3], u16); 4] = [
    ([2, 2, 2], 0),
    ([3, 2, 3], 2),
    ([4, 3, 2], 3),
    ([4, 1, 3], 3),
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
    fn new(cluster: &mut ClusterSimulation, cores: [usize; 3], core: u16) -> Writer {
        let history = History::default();
        let nodes = [A, B, C];
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
