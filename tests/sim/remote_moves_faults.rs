//! Shards that move between nodes while connections break, networks are slow, and nodes die between any two steps: what is
//! handled is in order, nobody runs what is another's, and every ask ends as it should.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim remote_moves_faults`.

use crate::moves_kit::*;
use corecast::actor::mutant::Mutant;
use corecast::base::ids::{CoreId, NodeId, ShardId};
use corecast::base::rng::{Rng, seeded};
use corecast::rand::RngExt;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{AskError, Handle, Pending, Region, Rejection};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const NODES: [NodeId; 3] = [A, B, C];

/// What may happen in a run.
#[derive(Clone, Copy)]
struct Faults {
    /// Connections are cut.
    cuts: bool,
    /// Nodes are killed.
    kills: bool,
    /// The log calls moves off.
    aborts: bool,
    mutant: Option<Mutant>,
}

/// A line: its book, its sender, its number.
type Written = (u64, u32, u64);

/// A run under load.
struct Run {
    cluster: ClusterSimulation,
    history: History,
    regions: BTreeMap<NodeId, Region<u64, Line>>,
    rng: Rng,
    faults: Faults,
    /// Each sender lives on a node; with the node it dies.
    senders: Vec<(NodeId, u32, Handle)>,
    next_sender: u32,
    counts: BTreeMap<(u32, u64), u64>,
    asks: Vec<(Written, Pending<Result<u64, AskError>>)>,
    cut: bool,
}

impl Run {
    fn new(cluster: ClusterSimulation, faults: Faults) -> Run {
        let mut run = Run {
            rng: seeded(cluster.seed(), 43),
            cluster,
            history: History::default(),
            regions: BTreeMap::new(),
            faults,
            senders: Vec::new(),
            next_sender: 0,
            counts: BTreeMap::new(),
            asks: Vec::new(),
            cut: false,
        };
        if run.faults.cuts {
            let settings = run.cluster.network().settings_mut();
            settings.gives_up_after = ms(20);
            settings.loss = 0.02;
            settings.resend_after = ms(2);
        }
        for node in NODES {
            run.start(node);
        }
        spread(&mut run.cluster, &NODES);
        run
    }

    fn start(&mut self, node: NodeId) {
        let mutant = self.faults.mutant;
        let with = |builder: corecast::sim::SimulationBuilder| match mutant {
            Some(mutant) => builder.cores(2).mutant(mutant),
            None => builder.cores(2),
        };
        let region = start(&mut self.cluster, node, &self.history, with);
        self.regions.insert(node, region);
        for _ in 0..2 {
            let handle = self.cluster.node(node).handle();
            self.senders.push((node, self.next_sender, handle));
            self.next_sender += 1;
        }
    }

    fn send(&mut self) {
        for (node, sender, handle) in &self.senders {
            for _ in 0..self.rng.random_range(0..3) {
                let id = self.rng.random_range(0..8);
                let count = self.counts.entry((*sender, id)).or_default();
                let (sender, number) = (*sender, *count);
                *count += 1;
                let book = self.regions[node].entity_ref(id);
                if self.rng.random_ratio(1, 4) {
                    let ask = handle.ask_within(ms(2_000), book, move |reply_to| Line::Ask {
                        sender,
                        number,
                        reply_to,
                    });
                    self.asks.push(((id, sender, number), ask));
                } else if self.rng.random_ratio(1, 60) {
                    handle.tell(book, Line::Slow(self.rng.random_range(0..20)));
                    handle.tell(book, Line::Put { sender, number });
                } else {
                    handle.tell(book, Line::Put { sender, number });
                }
            }
        }
    }

    fn alive(&mut self) -> Vec<NodeId> {
        self.regions.keys().copied().collect()
    }

    /// Something that the log says.
    fn decide(&mut self) {
        let alive = self.alive();
        let to = alive[self.rng.random_range(0..alive.len())];
        let shard = self.rng.random_range(0..SHARDS);
        match self.rng.random_range(0..12) {
            0..4 => _ = self.cluster.prepare("book", ShardId(shard), to),
            4 => {
                let region = self.regions[&to];
                let shard = region.shard_of(&id_in(region, shard));
                let core = CoreId(self.rng.random_range(0..2));
                drop(self.cluster.node(to).start_move(shard, core));
            }
            5 if self.faults.aborts => {
                if let Some((shard, moving)) = self.cluster.moves().first().copied() {
                    self.cluster.end_move(shard, moving.prepared, false);
                }
            }
            _ => {}
        }
        for (_, report) in self.cluster.ended_moves() {
            let arrived = report.outcome.is_ok();
            self.cluster
                .end_move(report.shard, report.prepared, arrived);
        }
    }

    fn break_something(&mut self) {
        let alive = self.alive();
        let node = alive[self.rng.random_range(0..alive.len())];
        let other = alive[self.rng.random_range(0..alive.len())];
        match self.rng.random_range(0..60) {
            0 if self.faults.cuts && node != other => {
                self.cluster.network().cut(node, other);
                self.cut = true;
            }
            1..4 if self.cut => {
                let now = self.cluster.now();
                self.cluster.network().heal(now);
                self.cut = false;
            }
            4 if self.faults.kills && alive.len() == 3 => {
                self.regions.remove(&node);
                self.senders.retain(|(at, ..)| *at != node);
                self.cluster.kill(node);
                // As long as it takes until the log says so.
                let dies = self.rng.random_range(5..50);
                self.cluster.run_for(ms(dies));
                self.cluster.node_down(node);
                self.reassign();
            }
            5..8 if alive.len() < 3 => {
                let gone = NODES.into_iter().find(|node| !alive.contains(node));
                let gone = gone.unwrap();
                self.start(gone);
                self.reassign();
            }
            _ => {}
        }
    }

    /// Shards without an owner get one.
    fn reassign(&mut self) {
        let alive = self.alive();
        for shard in (0..SHARDS).map(ShardId) {
            let owner = self.cluster.owner_of("book", shard).unwrap();
            if owner.owner.is_none() {
                let to = alive[self.rng.random_range(0..alive.len())];
                self.cluster.assign("book", shard, to);
            }
        }
        // Whoever is gone is known to be gone before somebody else runs what it had; whoever is new is known.
        self.cluster.publish();
    }

    fn end(mut self) -> Run {
        let now = self.cluster.now();
        self.cluster.network().heal(now);
        for _ in 0..40 {
            for (_, report) in self.cluster.ended_moves() {
                let arrived = report.outcome.is_ok();
                self.cluster
                    .end_move(report.shard, report.prepared, arrived);
            }
            self.cluster.publish();
            self.cluster.run_for(ms(200));
        }
        assert!(self.cluster.run_until_idle());
        assert_eq!(self.cluster.moves(), [], "moves without end");
        let handled: BTreeSet<Written> = {
            let history = self.history.lock().unwrap();
            history
                .iter()
                .map(|it| (it.id, it.sender, it.number))
                .collect()
        };
        for (line, ask) in std::mem::take(&mut self.asks) {
            let Ok(outcome) = self.cluster.run_until(ask) else {
                // Its node has died.
                continue;
            };
            match outcome {
                Ok(_) => assert!(
                    handled.contains(&line),
                    "{line:?} was answered, not handled"
                ),
                Err(AskError::Rejected(why)) => {
                    assert!(
                        !handled.contains(&line),
                        "{line:?} was handled, and is {why:?}"
                    );
                }
                Err(AskError::Unknown(_)) => {}
            }
        }
        // No core waits for a marker that never comes back.
        for (node, region) in self.regions.clone() {
            for core in (0..2).map(CoreId) {
                let handle = self.cluster.node(node).handle().through(core).unwrap();
                for id in 0..8 {
                    let ask = handle.ask(region.entity_ref(id), Line::Count);
                    let outcome = self.cluster.run_until(ask).unwrap();
                    let who = format_args!("book {id} does not answer {core} of {node}");
                    assert!(outcome.is_ok(), "{who}: {outcome:?}");
                }
            }
        }
        let region = *self.regions.values().next().unwrap();
        judge(&self.history, |id| region.shard_of(&id).shard, false);
        self
    }

    /// The whole of it.
    fn whole(cluster: ClusterSimulation, rounds: u32, faults: Faults) -> Run {
        let mut run = Run::new(cluster, faults);
        for _ in 0..rounds {
            run.send();
            run.decide();
            run.break_something();
            let hears = run.alive();
            let hears = hears[run.rng.random_range(0..hears.len())];
            run.cluster.publish_to(hears);
            let pause = Duration::from_micros(run.rng.random_range(0..3_000));
            run.cluster.run_for(pause);
        }
        run.end()
    }
}

const NONE: Faults = Faults {
    cuts: false,
    kills: false,
    aborts: false,
    mutant: None,
};

/// Moves that are called off at any time: whatever has come of them, the shard goes on where it was.
#[test]
fn moves_that_are_called_off_lose_nothing() {
    check_cluster_seeds(10, |cluster| {
        let faults = Faults {
            aborts: true,
            ..NONE
        };
        let mut run = Run::whole(cluster, 200, faults);
        judge(&run.history, |id| run.regions[&A].shard_of(&id).shard, true);
        for id in 0..8 {
            let of_it = run.counts.iter().filter(|((_, book), _)| *book == id);
            let sum: u64 = of_it.map(|(_, count)| count).sum();
            let book = run.regions[&A].entity_ref(id);
            assert_eq!(run.cluster.ask(A, book, Line::Count), Ok(sum), "book {id}");
        }
        for node in NODES {
            // Who asks gives up after a time, and a move may take longer.
            let letters = dead_letters(&mut run.cluster, node).into_iter();
            let lost = letters.filter(|it| it.0 != Rejection::LateReply);
            assert_eq!(lost.collect::<Vec<_>>(), [], "{node}");
        }
        run.cluster
    });
}

/// Connections that break lose what was on its way; order holds, and shards arrive all the same.
#[test]
fn broken_connections_reorder_nothing() {
    check_cluster_seeds(10, |cluster| {
        let faults = Faults { cuts: true, ..NONE };
        Run::whole(cluster, 200, faults).cluster
    });
}

/// Whoever dies, and whenever.
#[test]
fn the_death_of_source_or_target_reorders_nothing() {
    check_cluster_seeds(10, |cluster| {
        let faults = Faults {
            kills: true,
            aborts: true,
            ..NONE
        };
        Run::whole(cluster, 200, faults).cluster
    });
}

#[test]
fn everything_at_once() {
    check_cluster_seeds(10, |cluster| {
        let faults = Faults {
            cuts: true,
            kills: true,
            aborts: true,
            mutant: None,
        };
        Run::whole(cluster, 200, faults).cluster
    });
}

/// A bug that is planted on purpose is found within so many seeds.
fn is_found(mutant: Mutant, faults: Faults, seeds: u64, signs: &[&str]) {
    let found = catch_unwind(|| {
        check_cluster_seeds(seeds, |cluster| {
            let faults = Faults {
                mutant: Some(mutant),
                ..faults
            };
            let run = Run::whole(cluster, 200, faults);
            if !faults.kills && !faults.cuts {
                judge(&run.history, |id| run.regions[&A].shard_of(&id).shard, true);
            }
            run.cluster
        });
    });
    let panic = found.expect_err("it was not found");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(signs.iter().any(|sign| text.contains(sign)), "{text}");
}

#[test]
fn a_core_that_does_not_wait_for_its_marker_is_found() {
    let faults = Faults {
        aborts: true,
        ..NONE
    };
    is_found(Mutant::SkipLastBetweenNodes, faults, 500, &["out of order"]);
}

#[test]
fn a_target_that_opens_before_the_log_says_so_is_found() {
    let faults = Faults {
        aborts: true,
        ..NONE
    };
    is_found(
        Mutant::OpensBeforeOwn,
        faults,
        500,
        &["two owners", "out of order"],
    );
}

#[test]
fn a_source_that_unseals_on_a_timer_is_found() {
    is_found(
        Mutant::UnsealsOnTimer,
        NONE,
        500,
        &["two owners", "out of order"],
    );
}

#[test]
fn a_node_that_ignores_epochs_is_found() {
    is_found(Mutant::IgnoresEpoch, NONE, 500, &["out of order"]);
}
