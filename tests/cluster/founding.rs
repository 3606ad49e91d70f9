//! However the founders are cut off from each other, and whenever they die: there is one cluster, and all are in it.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test cluster founding`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::base::rng::{Rng, seeded};
use corecast::consensus::bootstrap::{Bootstrap, BootstrapSettings, Output, Refused, Start};
use corecast::consensus::founding::{Founding, FoundingMessage, Promise};
use corecast::consensus::mutant::Mutant;
use corecast::consensus::peer::{ClusterId, DiskId, PeerId};
use corecast::sim::network::{Arrival, Network, NetworkSettings};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::seeds::{Trace, check_seed, check_seeds};

struct Node {
    peer: PeerId,
    seeds: BTreeSet<NodeId>,
    start: Start,
    running: Option<Bootstrap>,
    durable: Promise,
    unsynced: VecDeque<(Time, Promise)>,
    /// It has formed this cluster, durably.
    formed: Option<Founding>,
    joins: Option<ClusterId>,
    refusals: Vec<Refused>,
}

struct World {
    now: Time,
    rng: Rng,
    network: Network<Vec<u8>>,
    nodes: BTreeMap<NodeId, Node>,
    settings: BootstrapSettings,
    decided: Option<Founding>,
    trace: Trace,
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let network = NetworkSettings {
            loss: [0.0, 0.1, 0.3][seed as usize % 3],
            duplication: 0.1,
            max_latency: Duration::from_millis(20),
            ..NetworkSettings::default()
        };
        World {
            now: Time::ZERO,
            rng: seeded(seed, 3),
            network: Network::new(seed, network),
            nodes: BTreeMap::new(),
            settings: BootstrapSettings {
                ask_every: Duration::from_millis(50),
                settle: Duration::from_millis(100),
                ballot: Duration::from_millis(60),
                mutant,
            },
            decided: None,
            trace: Trace::new(),
        }
    }

    fn add(&mut self, id: u32, seeds: impl IntoIterator<Item = u32>, start: Start) {
        let node = Node {
            peer: PeerId::new(NodeId(id), DiskId::mint(&mut self.rng)),
            seeds: seeds.into_iter().map(NodeId).collect(),
            start,
            running: None,
            durable: Promise::default(),
            unsynced: VecDeque::new(),
            formed: None,
            joins: None,
            refusals: Vec::new(),
        };
        self.nodes.insert(NodeId(id), node);
    }

    fn start(&mut self, id: NodeId) {
        let rng = seeded(self.rng.random(), 0);
        let (now, settings) = (self.now, self.settings.clone());
        self.network.start(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let bootstrap = match node.formed.clone() {
            Some(founding) => Bootstrap::member(node.peer, &node.seeds, founding, rng),
            None => {
                let promise = node.durable.clone();
                Bootstrap::new(
                    node.peer,
                    &node.seeds,
                    settings,
                    node.start,
                    promise,
                    rng,
                    now,
                )
                .unwrap()
            }
        };
        node.running = Some(bootstrap);
        self.take_outputs(id);
    }

    fn crash(&mut self, id: NodeId) {
        self.network.kill(self.now, id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.running = None;
        let kept = self.rng.random_range(0..=node.unsynced.len());
        node.unsynced.truncate(kept);
        if let Some((_, promise)) = node.unsynced.pop_back() {
            node.durable = promise;
        }
        node.unsynced.clear();
    }

    fn take_outputs(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(output) = node.running.as_mut().and_then(Bootstrap::poll_output) else {
                return;
            };
            self.trace.push(self.now.as_nanos() ^ u64::from(id.0) << 56);
            match output {
                Output::Send(to, message) => {
                    self.network
                        .send_datagram(self.now, id, to, message.encode());
                }
                Output::Write(promise) => {
                    let after = Duration::from_micros(self.rng.random_range(10..5_000));
                    let last = node.unsynced.back().map_or(self.now, |(at, _)| *at);
                    node.unsynced
                        .push_back((last.max(self.now + after), promise));
                }
                Output::Refused(_, why) => node.refusals.push(why),
                Output::Form(founding) => {
                    assert!(founding.configuration().voters.contains(&node.peer));
                    node.formed = Some(founding.clone());
                    let decided = self.decided.get_or_insert_with(|| founding.clone());
                    assert_eq!(*decided, founding, "two clusters");
                }
                Output::Join { cluster, .. } => {
                    node.joins = Some(cluster);
                    let decided = self.decided.as_ref().map(Founding::cluster);
                    // Whoever decided may have died with the news.
                    assert!(
                        decided.is_none_or(|decided| decided == cluster),
                        "two clusters"
                    );
                }
            }
        }
    }

    fn run(&mut self, length: Duration, mut each: impl FnMut(&mut World)) {
        let end = self.now + length;
        while self.now < end {
            each(self);
            self.now = self.now + Duration::from_micros(500);
            while let Some(arrival) = self.network.pop(self.now) {
                let Arrival::Datagram { to, payload, .. } = arrival else {
                    continue;
                };
                let message = FoundingMessage::decode(&payload).unwrap();
                let node = self.nodes.get_mut(&to);
                if let Some(bootstrap) = node.and_then(|node| node.running.as_mut()) {
                    bootstrap.handle(self.now, message);
                    self.take_outputs(to);
                }
            }
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                let now = self.now;
                let node = self.nodes.get_mut(&id).unwrap();
                let Some(bootstrap) = &mut node.running else {
                    continue;
                };
                if let Some((_, promise)) = node.unsynced.pop_front_if(|(at, _)| *at <= now) {
                    node.durable = promise;
                    bootstrap.written(now);
                }
                if bootstrap.next_deadline() <= now {
                    bootstrap.tick(now);
                }
                self.take_outputs(id);
            }
        }
    }
}

fn scenario(seed: u64, mutant: Option<Mutant>) -> Trace {
    let mut world = World::new(seed, mutant);
    let founders = 1 + (seed % 7) as u32;
    for id in 1..=founders {
        world.add(id, 1..=founders, Start::Found);
    }
    world.add(20, 1..=founders, Start::Join);
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    let rate = world.rng.random_range(0.0..0.02);
    world.run(Duration::from_millis(1200), |world| {
        let id = *ids.choose(&mut world.rng).unwrap();
        if world.nodes[&id].running.is_none() {
            if world.rng.random_bool(0.05) {
                world.start(id);
            }
        } else if world.rng.random_bool(rate) {
            world.crash(id);
        }
        if world.rng.random_bool(rate) {
            let (one, other): (Vec<_>, Vec<_>) =
                ids.iter().partition(|_| world.rng.random_bool(0.5));
            world.network.partition(&one, &other);
        }
        if world.rng.random_bool(rate) {
            let other = *ids.choose(&mut world.rng).unwrap();
            world.network.cut(id, other);
        }
        if world.rng.random_bool(0.005) {
            world.network.heal(world.now);
        }
    });
    world.network.heal(world.now);
    world.network.settings_mut().loss = 0.0;
    for id in &ids {
        if world.nodes[id].running.is_none() {
            world.start(*id);
        }
    }
    world.run(Duration::from_millis(1500), |_| {});
    let founding = world.decided.clone().expect("no cluster was founded");
    assert!(founding.voters.len() > founders as usize / 2);
    for (id, node) in &world.nodes {
        let in_it = node.formed.as_ref().map(Founding::cluster).or(node.joins);
        assert_eq!(
            in_it,
            Some(founding.cluster()),
            "{id} is not in the cluster"
        );
        let votes = founding.configuration().voters.contains(&node.peer);
        assert_eq!(node.formed.is_some(), votes, "{id}");
    }
    world.trace
}

#[test]
fn there_is_one_cluster_whatever_happens() {
    check_seeds(60, |seed| scenario(seed, None));
}

#[test]
fn an_acceptor_that_forgets_is_found() {
    for seed in 0..500 {
        match check_seed(seed, |seed| scenario(seed, Some(Mutant::ForgetFounding))) {
            Ok(_) => {}
            Err(text) if text.contains("two clusters") => return,
            Err(text) => panic!("seed {seed} found something else: {text}"),
        }
    }
    panic!("it was not found in 500 seeds");
}

/// Two halves with different seeds found nothing together, and say why.
#[test]
fn who_names_others_is_refused() {
    let mut world = World::new(0, None);
    world.add(1, [2, 3], Start::Found);
    world.add(2, [1, 4], Start::Found);
    for id in [1, 2] {
        world.start(NodeId(id));
    }
    world.run(Duration::from_secs(1), |_| {});
    assert_eq!(world.decided, None);
    let refusal = &world.nodes[&NodeId(1)].refusals[0];
    assert!(matches!(refusal, Refused::NamesOthers { theirs, .. } if theirs.contains(&NodeId(4))));
}

/// A machine with a new disk joins the cluster of the old one, and votes for nothing again.
#[test]
fn a_replaced_disk_joins() {
    let mut world = World::new(0, None);
    world.network.settings_mut().loss = 0.0;
    for id in 1..=3 {
        world.add(id, 1..=3, Start::Found);
        world.start(NodeId(id));
    }
    world.run(Duration::from_secs(1), |_| {});
    let founding = world.decided.clone().unwrap();
    world.crash(NodeId(2));
    world.add(2, 1..=3, Start::Found);
    world.start(NodeId(2));
    world.run(Duration::from_secs(1), |_| {});
    let replaced = &world.nodes[&NodeId(2)];
    assert_eq!(replaced.joins, Some(founding.cluster()));
    assert_eq!(replaced.formed, None);
    assert!(!founding.configuration().voters.contains(&replaced.peer));
}
