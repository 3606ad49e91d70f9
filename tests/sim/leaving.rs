//! Clusters that govern themselves, whose nodes join and leave while everybody goes on writing: shards move first, and
//! nothing that was accepted is lost.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim leaving`.

use crate::moves_kit::*;
use corecast::base::ids::{NodeId, ShardId};
use corecast::base::rng::{Rng, seeded};
use corecast::cluster::node::settings::NodeSettings;
use corecast::cluster::steward::StewardSettings;
use corecast::rand::RngExt;
use corecast::sharding::strategy::PlacementStrategy;
use corecast::sim::{ClusterSimulation, SimulationBuilder, check_cluster_seeds};
use corecast::{AskError, Region};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const IDS: u64 = 12;

/// A cluster with books, and those who write in them.
struct Library {
    cluster: ClusterSimulation,
    founders: Vec<NodeId>,
    regions: Rc<RefCell<BTreeMap<NodeId, Region<u64, Line>>>>,
    history: History,
    rng: Rng,
    counts: BTreeMap<(u32, u64), u64>,
    /// The sender that writes from each node; one that has come back is another.
    writers: BTreeMap<NodeId, u32>,
    next_writer: u32,
}

fn settings(settings: NodeSettings) -> NodeSettings {
    NodeSettings {
        steward: StewardSettings {
            retry: ms(400),
            settle: ms(500),
            max_moves: 2,
            ..StewardSettings::default()
        },
        ..settings
    }
}

impl Library {
    fn formed(cluster: ClusterSimulation, nodes: u32) -> Library {
        let mut library = Library {
            rng: seeded(cluster.seed(), 47),
            cluster,
            founders: (1..=nodes).map(NodeId).collect(),
            regions: Rc::default(),
            history: History::default(),
            counts: BTreeMap::new(),
            writers: BTreeMap::new(),
            next_writer: 0,
        };
        for node in library.founders.clone() {
            library.add(node);
        }
        library.calm(&library.founders.clone());
        for id in 0..IDS {
            assert_eq!(library.count(NodeId(1), id), Ok(0), "book {id}");
        }
        library
    }

    fn add(&mut self, node: NodeId) {
        let (regions, history) = (self.regions.clone(), self.history.clone());
        let make = move |mut builder: SimulationBuilder| {
            let region = builder.entities(books(node, &history));
            regions.borrow_mut().insert(node, region);
            builder.cores(2)
        };
        self.cluster.govern(node, &self.founders, settings, make);
        self.cluster.start_process(node);
    }

    /// Runs, and writes, until these nodes are up and know each other.
    fn calm(&mut self, nodes: &[NodeId]) {
        let is_up = |cluster: &mut ClusterSimulation| {
            nodes.iter().all(|node| {
                let up = cluster.plane(*node);
                let up = up.map(|plane| plane.node().members().up().count());
                cluster.is_up(*node) && up == Some(nodes.len())
            })
        };
        assert!(self.cluster.run_until_true(ms(20_000), is_up), "{nodes:?}");
        for node in nodes {
            self.writers.entry(*node).or_insert_with(|| {
                self.next_writer += 1;
                self.next_writer - 1
            });
        }
    }

    fn count(&mut self, from: NodeId, id: u64) -> Result<u64, AskError> {
        let book = self.regions.borrow()[&from].entity_ref(id);
        self.cluster.ask(from, book, Line::Count)
    }

    /// Everybody writes for a while.
    fn write(&mut self, rounds: u32) {
        for _ in 0..rounds {
            for (node, sender) in self.writers.clone() {
                let region = self.regions.borrow()[&node];
                let handle = self.cluster.node(node).handle();
                // Each call is a way of its own to some core: one sender is one core.
                let handle = handle.through(corecast::CoreId(0)).unwrap();
                for _ in 0..self.rng.random_range(0..4) {
                    let id = self.rng.random_range(0..IDS);
                    let number = self.counts.entry((sender, id)).or_default();
                    let line = Line::Put {
                        sender,
                        number: *number,
                    };
                    *number += 1;
                    handle.tell(region.entity_ref(id), line);
                }
            }
            self.cluster.run_for(ms(self.rng.random_range(1..5)));
        }
    }

    /// A node leaves while the others go on writing; whether it has left within the time.
    fn leave(&mut self, node: NodeId) {
        // It takes no more work from outside. What it has taken is on its way.
        self.writers.remove(&node);
        self.cluster.leave(node);
        for _ in 0..4_000 {
            if self.cluster.stop_cause(node).is_some() {
                return;
            }
            self.write(2);
        }
        panic!("{node} has not left");
    }

    fn owners(&self, by: NodeId) -> BTreeMap<NodeId, usize> {
        let mut owners = BTreeMap::new();
        let state = self.cluster.plane(by).unwrap().node().state();
        for (_, record) in state.ownership().iter() {
            if let Some(owner) = record.owner {
                *owners.entry(owner).or_default() += 1;
            }
        }
        owners
    }

    /// Every line that was written is there, in order, once.
    fn end(mut self) -> ClusterSimulation {
        self.cluster.run_for(ms(2_000));
        let region = *self.regions.borrow().values().next().unwrap();
        let shard_of = |id: u64| -> ShardId { region.shard_of(&id).shard };
        judge(&self.history, shard_of, true);
        let sent = self.counts.iter();
        let sent: BTreeMap<(u64, u32), u64> =
            sent.map(|(at, count)| ((at.1, at.0), *count)).collect();
        assert_eq!(lines(&self.history), sent);
        let from = *self.writers.keys().next().unwrap();
        for id in 0..IDS {
            let of_it = sent.iter().filter(|((book, _), _)| *book == id);
            let sum: u64 = of_it.map(|(_, count)| count).sum();
            assert_eq!(self.count(from, id), Ok(sum), "book {id}");
        }
        self.cluster
    }
}

#[test]
fn a_node_that_leaves_gives_its_shards_away_first() {
    check_cluster_seeds(4, |cluster| {
        let mut library = Library::formed(cluster, 3);
        library.write(20);
        let leaver = NodeId(1 + (library.cluster.seed() % 3) as u32);
        let other = NodeId(1 + leaver.0 % 3);
        assert!(library.owners(other).contains_key(&leaver));
        library.leave(leaver);
        library.write(20);
        assert!(!library.owners(other).contains_key(&leaver));
        library.end()
    });
}

/// A member that stands still while another one leaves hears of the new owners late, and what it had sent to the old one is
/// late as well: the one that leaves waits for it.
#[test]
fn a_node_that_leaves_waits_for_a_member_that_stands_still() {
    check_cluster_seeds(8, |cluster| {
        let mut library = Library::formed(cluster, 3);
        library.write(20);
        let leaver = NodeId(1 + (library.cluster.seed() % 3) as u32);
        let still = NodeId(1 + leaver.0 % 3);
        library.writers.remove(&leaver);
        // Before it would be missed.
        let pause = ms(200);
        let until = library.cluster.now() + pause;
        library.cluster.pause(still, pause);
        let before = library.rng.random_range(0..10);
        library.write(before);
        library.cluster.leave(leaver);
        // Each round takes less.
        while library.cluster.now() + ms(10) < until {
            library.write(1);
            assert_eq!(library.cluster.stop_cause(leaver), None);
        }
        library.write(600);
        assert!(library.cluster.stop_cause(leaver).is_some());
        library.end()
    });
}

/// With a ring, too, and only those who have the role.
#[test]
fn shards_live_where_their_type_says() {
    check_cluster_seeds(2, |mut cluster| {
        let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let regions: Rc<RefCell<BTreeMap<NodeId, Region<u64, Line>>>> = Rc::default();
        let history = History::default();
        for node in nodes.clone() {
            let (regions, history) = (regions.clone(), history.clone());
            let make = move |mut builder: SimulationBuilder| {
                let books = books(node, &history).role("shelf");
                let region = builder.entities(books.strategy(PlacementStrategy::HashRing));
                regions.borrow_mut().insert(node, region);
                builder.cores(2)
            };
            let adapt = |given: NodeSettings| NodeSettings {
                roles: match node.0 {
                    3 => Vec::new(),
                    _ => vec!["shelf".to_owned()],
                },
                ..settings(given)
            };
            cluster.govern(node, &nodes, adapt, make);
            cluster.start_process(node);
        }
        let is_up = |cluster: &mut ClusterSimulation| nodes.iter().all(|it| cluster.is_up(*it));
        assert!(cluster.run_until_true(ms(20_000), is_up));
        for id in 0..IDS {
            let book = regions.borrow()[&NodeId(3)].entity_ref(id);
            assert_eq!(cluster.ask(NodeId(3), book, Line::Count), Ok(0));
        }
        let ownership = cluster.plane(NodeId(3)).unwrap().node().state().ownership();
        let (number, spec) = ownership.types().next().unwrap();
        assert_eq!(spec.strategy, PlacementStrategy::HashRing);
        assert_eq!(spec.role.as_deref(), Some("shelf"));
        let owners = ownership.shards_of(number).iter().map(|it| it.owner);
        let owners: Vec<NodeId> = owners.flatten().collect();
        assert!(!owners.is_empty());
        assert!(owners.iter().all(|owner| owner.0 < 3), "{owners:?}");
        cluster
    });
}

#[test]
fn a_node_that_joins_gets_its_share() {
    check_cluster_seeds(4, |cluster| {
        let mut library = Library::formed(cluster, 3);
        library.write(10);
        library.add(NodeId(4));
        let all: Vec<NodeId> = (1..=4).map(NodeId).collect();
        library.calm(&all);
        for _ in 0..200 {
            library.write(10);
            if library.owners(NodeId(1)).len() == 4 {
                break;
            }
        }
        assert_eq!(library.owners(NodeId(1)).len(), 4);
        library.write(50);
        library.end()
    });
}

/// Every node leaves and comes back, one after the other.
#[test]
fn a_rolling_restart_loses_nothing() {
    check_cluster_seeds(2, |cluster| {
        let mut library = Library::formed(cluster, 3);
        library.write(20);
        let all = library.founders.clone();
        for node in all.clone() {
            library.leave(node);
            library.write(20);
            library.cluster.crash(node, false);
            library.cluster.start_process(node);
            library.calm(&all);
            library.write(100);
        }
        library.end()
    });
}
