//! Clusters that govern themselves: control planes with their logs and leases decide who runs which entities, and messages
//! find them, whoever dies.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim governed`.

use corecast::base::ids::{Epoch, NodeId};
use corecast::cluster::node::mutant::NodeMutant;
use corecast::cluster::node::settings::NodeSettings;
use corecast::cluster::steward::StewardSettings;
use corecast::rand::RngExt;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{
    Actor, AskError, Context, EntityType, Fault, Next, Region, Rejection, ReplyTo, Time,
    Uncertainty, WireMessage,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHARDS: u32 = 8;
const IDS: u64 = 24;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A tally counts in its own life only: with its node its count is gone.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Tally {
    Add(ReplyTo<u64>),
}

impl WireMessage for Tally {
    const NAME: &'static str = "test.Tally";
    const VERSION: u16 = 1;
}

/// One handler that ran: when, of which entity, where, in which epoch.
type Ran = (Time, u64, NodeId, Epoch);

struct Tallies {
    id: u64,
    node: NodeId,
    ran: Arc<Mutex<Vec<Ran>>>,
    count: u64,
}

impl Actor for Tallies {
    type Msg = Tally;

    fn receive(&mut self, message: Tally, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let epoch = ctx.epoch().expect("an entity has an epoch");
        let ran = (ctx.now(), self.id, self.node, epoch);
        self.ran.lock().unwrap().push(ran);
        let Tally::Add(reply_to) = message;
        self.count += 1;
        ctx.reply(reply_to, self.count);
        Ok(Next::Continue)
    }
}

/// A cluster under test, and what its handlers did.
struct Test {
    cluster: ClusterSimulation,
    nodes: Vec<NodeId>,
    regions: Rc<RefCell<BTreeMap<NodeId, Region<u64, Tally>>>>,
    ran: Arc<Mutex<Vec<Ran>>>,
}

fn settings(settings: NodeSettings) -> NodeSettings {
    NodeSettings {
        steward: StewardSettings {
            retry: ms(400),
            // Shards stay where they are, unless their node dies.
            rebalance: false,
            ..StewardSettings::default()
        },
        ..settings
    }
}

impl Test {
    /// A cluster that has formed and owns all of its shards.
    fn formed(cluster: ClusterSimulation, nodes: u32) -> Test {
        Test::formed_with(cluster, nodes, None)
    }

    /// The same, with a planted bug.
    fn formed_with(cluster: ClusterSimulation, nodes: u32, mutant: Option<NodeMutant>) -> Test {
        let mut test = Test {
            cluster,
            nodes: (1..=nodes).map(NodeId).collect(),
            regions: Rc::default(),
            ran: Arc::default(),
        };
        for node in test.nodes.clone() {
            let (regions, ran) = (test.regions.clone(), test.ran.clone());
            let make = move |mut builder: corecast::sim::SimulationBuilder| {
                let ran = ran.clone();
                let tallies = EntityType::ephemeral("tally", move |id: &u64| Tallies {
                    id: *id,
                    node,
                    ran: ran.clone(),
                    count: 0,
                });
                let region = builder.entities(tallies.num_shards(SHARDS).clustered());
                regions.borrow_mut().insert(node, region);
                builder.cores(2)
            };
            let founders = test.nodes.clone();
            let adapt = |given| NodeSettings {
                mutant,
                ..settings(given)
            };
            test.cluster.govern(node, &founders, adapt, make);
            test.cluster.start_process(node);
        }
        test.calm(ms(10_000));
        for id in 0..IDS {
            assert_eq!(test.add(NodeId(1), id), Ok(1), "entity {id}");
        }
        test
    }

    fn calm(&mut self, within: Duration) {
        let nodes = self.nodes.clone();
        let is_up = |cluster: &mut ClusterSimulation| {
            nodes.iter().all(|node| {
                let up = cluster
                    .plane(*node)
                    .map(|plane| plane.node().members().up().count());
                cluster.is_up(*node) && up == Some(nodes.len())
            })
        };
        let up = self.cluster.run_until_true(within, is_up);
        assert!(up, "not all of {nodes:?} are up");
    }

    /// Adds one to a tally, from a node.
    fn add(&mut self, from: NodeId, id: u64) -> Result<u64, AskError> {
        let region = self.regions.borrow()[&from];
        let handle = self.cluster.node(from).handle();
        let ask = handle.ask_within(ms(300), region.entity_ref(id), Tally::Add);
        let outcome = self.cluster.run_until(ask);
        outcome.unwrap_or(Err(AskError::Unknown(Uncertainty::RuntimeGone)))
    }

    /// Asks again until there is an answer; how often it was refused, and how long it took.
    fn add_until_answered(&mut self, from: NodeId, id: u64, within: Duration) -> (u64, Duration) {
        let begun = self.cluster.now();
        loop {
            match self.add(from, id) {
                Ok(count) => return (count, self.cluster.now() - begun),
                Err(_) => self.cluster.run_for(ms(10)),
            }
            let took = self.cluster.now() - begun;
            assert!(took < within, "entity {id} has not answered for {took:?}");
        }
    }

    fn leader(&self) -> Option<NodeId> {
        let led = |node: &NodeId| {
            self.cluster
                .plane(*node)
                .map(|plane| plane.node().leadership())
        };
        let leads = |node: &&NodeId| led(node).is_some_and(|led| led.is_self);
        let leaders = self.nodes.iter().filter(leads);
        leaders
            .copied()
            .max_by_key(|node| led(node).map(|led| led.term))
    }

    /// Who owns the shard of an entity, as the leader sees it: where it ran last.
    fn home(&self, id: u64) -> NodeId {
        let ran = self.ran.lock().unwrap();
        let last = ran.iter().rev().find(|(_, of, ..)| *of == id);
        last.expect("it has run").2
    }

    /// Judges every handler that ran: nobody ran an entity after somebody else did so in a later epoch, and no two nodes in
    /// one epoch.
    fn judge(self) -> ClusterSimulation {
        let mut latest: BTreeMap<u64, (Epoch, NodeId)> = BTreeMap::new();
        let mut ran = self.ran.lock().unwrap().clone();
        ran.sort_by_key(|(at, ..)| *at);
        for (at, id, node, epoch) in ran {
            let last = latest.entry(id).or_insert((epoch, node));
            let is_fenced = epoch < last.0 || epoch == last.0 && node != last.1;
            assert!(
                !is_fenced,
                "entity {id} ran on {node} in {epoch} at {at}, after it had run on {} in {}",
                last.1, last.0
            );
            *last = (epoch, node);
        }
        self.cluster
    }
}

#[test]
fn entities_answer_wherever_the_cluster_has_put_them() {
    check_cluster_seeds(4, |cluster| {
        let mut test = Test::formed(cluster, 3);
        let mut homes: Vec<NodeId> = (0..IDS).map(|id| test.home(id)).collect();
        homes.sort_unstable();
        homes.dedup();
        assert_eq!(homes.len(), 3, "every node has some");
        for id in 0..IDS {
            let from = NodeId(1 + (id % 3) as u32);
            assert_eq!(test.add(from, id), Ok(2), "entity {id} from {from}");
        }
        test.judge()
    });
}

/// The owner's process is killed: what it had in memory is gone, and its entities answer elsewhere.
#[test]
fn the_entities_of_a_node_that_dies_answer_elsewhere() {
    check_cluster_seeds(4, |cluster| {
        let mut test = Test::formed(cluster, 3);
        let victim = match test.cluster.seed() % 2 {
            0 => test.leader().unwrap(),
            _ => test.home(0),
        };
        let mine: Vec<u64> = (0..IDS).filter(|id| test.home(*id) == victim).collect();
        assert!(!mine.is_empty());
        test.cluster
            .crash(victim, test.cluster.seed().is_multiple_of(3));
        let from = *test.nodes.iter().find(|node| **node != victim).unwrap();
        for (index, id) in mine.into_iter().enumerate() {
            let (count, took) = test.add_until_answered(from, id, ms(3_000));
            assert_eq!(count, 1, "entity {id} began anew");
            // The fast profile: once one of them answers, so do the others.
            assert!(
                index == 0 || took < ms(500),
                "entity {id} took {took:?} more"
            );
            assert_ne!(test.home(id), victim);
        }
        test.cluster.start_process(victim);
        test.calm(ms(10_000));
        let (_, took) = test.add_until_answered(victim, 0, ms(1_000));
        assert!(took < ms(1_000));
        test.judge()
    });
}

/// Whoever is cut off with the minority seals; the majority takes over what it had; nobody has to help afterwards.
#[test]
fn a_minority_seals_and_says_so() {
    check_cluster_seeds(4, |cluster| {
        let mut test = Test::formed(cluster, 3);
        let lost = NodeId(1 + (test.cluster.seed() % 3) as u32);
        let others: Vec<NodeId> = test
            .nodes
            .iter()
            .copied()
            .filter(|it| *it != lost)
            .collect();
        let its: Vec<u64> = (0..IDS).filter(|id| test.home(*id) == lost).collect();
        let one_way = test.cluster.seed() % 4 == 3;
        if one_way {
            for other in &others {
                test.cluster.network().cut(lost, *other);
            }
        } else {
            test.cluster.network().partition(&[lost], &others);
        }
        // Its own entities, asked on the spot, run until the lease runs out, and not any more.
        let mut answers = 0;
        while test.add(lost, its[0]).is_ok() {
            answers += 1;
            assert!(answers < 400, "{lost} does not seal");
            test.cluster.run_for(ms(10));
        }
        // One that still hears the others hears that its life is over, and begins the next.
        if !one_way {
            let now = test.cluster.now();
            let sealed = test.cluster.plane(lost);
            let sealed = sealed.map(|plane| plane.node().has_control_quorum(now));
            assert_eq!(sealed, Some(false));
            let ran_before = test.ran.lock().unwrap().len();
            let wait = Err(AskError::Unknown(Uncertainty::Timeout));
            let full = Err(AskError::Rejected(Rejection::NoControlQuorum));
            let outcome = test.add(lost, its[0]);
            assert!(outcome == wait || outcome == full, "{outcome:?}");
            assert_eq!(test.ran.lock().unwrap().len(), ran_before);
        }
        for id in its {
            let (_, _) = test.add_until_answered(others[0], id, ms(8_000));
            assert_ne!(test.home(id), lost);
        }
        let now = test.cluster.now();
        test.cluster.network().heal(now);
        test.calm(ms(15_000));
        test.add_until_answered(lost, 0, ms(2_000));
        test.judge()
    });
}

/// One node is cut off, and everybody goes on asking: those on its side for what runs there, and the others.
fn torn(cluster: ClusterSimulation, mutant: Option<NodeMutant>) -> ClusterSimulation {
    let mut test = Test::formed_with(cluster, 3, mutant);
    let lost = NodeId(1 + (test.cluster.seed() % 3) as u32);
    let others: Vec<NodeId> = test
        .nodes
        .iter()
        .copied()
        .filter(|it| *it != lost)
        .collect();
    let its: Vec<u64> = (0..IDS).filter(|id| test.home(*id) == lost).collect();
    test.cluster.network().partition(&[lost], &others);
    for round in 0..250 {
        let from = [lost, others[round % 2]][round / 2 % 2];
        if test.cluster.is_up(from) {
            let _ = test.add(from, its[round / 4 % its.len()]);
        }
        test.cluster.run_for(ms(10));
    }
    let now = test.cluster.now();
    test.cluster.network().heal(now);
    test.calm(ms(15_000));
    test.judge()
}

#[test]
fn both_sides_of_a_partition_go_on_asking() {
    check_cluster_seeds(4, |cluster| torn(cluster, None));
}

/// A bug that has two nodes run one entity is found by the judge.
#[test]
fn a_lease_that_never_lapses_is_found() {
    let found = catch_unwind(|| {
        check_cluster_seeds(20, |cluster| torn(cluster, Some(NodeMutant::NeverLapses)));
    });
    let panic = found.expect_err("it was not found");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains("after it had run on"), "{text}");
}

/// A node stands still for longer than its lease, and wakes up believing that it owns what others run by now.
#[test]
fn who_wakes_up_late_changes_nothing() {
    check_cluster_seeds(4, |cluster| {
        let mut test = Test::formed(cluster, 3);
        let sleeper = NodeId(1 + (test.cluster.seed() % 3) as u32);
        let from = *test.nodes.iter().find(|node| **node != sleeper).unwrap();
        let its: Vec<u64> = (0..IDS).filter(|id| test.home(*id) == sleeper).collect();
        // What it will find when it wakes up.
        let region = test.regions.borrow()[&sleeper];
        let handle = test.cluster.node(sleeper).handle();
        test.cluster.pause(sleeper, ms(6_000));
        let late: Vec<_> = its
            .iter()
            .map(|id| handle.ask_within(ms(20_000), region.entity_ref(*id), Tally::Add))
            .collect();
        for id in &its {
            let (count, _) = test.add_until_answered(from, *id, ms(5_000));
            assert_eq!(count, 1, "entity {id} began anew");
        }
        test.cluster.run_for(ms(6_000));
        for pending in late {
            // Refused, unknown, or sent on to whoever owns it now: what it must not be is for the judge to say.
            let _ = test.cluster.run_until(pending);
        }
        test.calm(ms(15_000));
        test.judge()
    });
}

/// Random deaths, pauses and cuts under load: every ask ends, every answer is one that the judge allows, and in the end
/// everything answers.
#[test]
fn whatever_happens_nobody_runs_an_entity_that_is_anothers() {
    let answered = Cell::new(0_u64);
    let failed = Cell::new(0_u64);
    check_cluster_seeds(4, |cluster| {
        let nodes = [3, 3, 5, 4][cluster.seed() as usize % 4];
        let mut test = Test::formed(cluster, nodes);
        let mut rng = corecast::base::rng::seeded(test.cluster.seed(), 77);
        let mut back: BTreeMap<NodeId, Time> = BTreeMap::new();
        for _ in 0..700 {
            let now = test.cluster.now();
            let node = test.nodes[rng.random_range(0..test.nodes.len())];
            let runs = test.cluster.plane(node).is_some() && !back.contains_key(&node);
            match rng.random_range(0..1_000) {
                0..4 if runs && back.is_empty() => {
                    test.cluster.crash(node, rng.random_bool(0.5));
                    back.insert(node, now + ms(rng.random_range(1..4_000)));
                }
                4..8 if runs => test.cluster.pause(node, ms(rng.random_range(1..3_000))),
                8..11 => {
                    let other = test.nodes[rng.random_range(0..test.nodes.len())];
                    if other != node {
                        test.cluster.network().cut(node, other);
                    }
                }
                11..20 => test.cluster.network().heal(now),
                _ => {}
            }
            for (node, at) in back.clone() {
                if at <= now && test.cluster.stop_cause(node).is_none() {
                    back.remove(&node);
                    test.cluster.start_process(node);
                }
            }
            if test.cluster.is_up(node) {
                let id = rng.random_range(0..IDS);
                let region = test.regions.borrow()[&node];
                let ask = test.cluster.node(node).handle();
                let ask = ask.ask_within(ms(300), region.entity_ref(id), Tally::Add);
                match test.cluster.run_until(ask) {
                    Ok(Ok(_)) => answered.set(answered.get() + 1),
                    Ok(Err(_)) | Err(_) => failed.set(failed.get() + 1),
                }
            }
            test.cluster.run_for(ms(20));
        }
        let now = test.cluster.now();
        test.cluster.network().heal(now);
        for node in back.keys() {
            test.cluster.start_process(*node);
        }
        test.calm(ms(30_000));
        for id in 0..IDS {
            test.add_until_answered(NodeId(1), id, ms(5_000));
        }
        test.judge()
    });
    if std::env::var("CORECAST_SEED").is_err() {
        assert!(
            answered.get() > 1_000 && failed.get() > 20,
            "{answered:?} {failed:?}"
        );
    }
}
