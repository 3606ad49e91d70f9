//! Whole clusters in trouble: nodes with control planes, logs, leases and data cores, of which any may stand still, die,
//! lose its disk or be cut off, while many send to entities; and then peace, in which everything heals.
//!
//! The tests are in `swarm` and `governed_planted`.

use crate::governed_counts::Counts;
use crate::governed_faults::{Fault, Plan};
use crate::governed_history::{Fencing, KEPT, Outcome};
use crate::governed_judge;
use crate::governed_kept::Watch;
use crate::governed_senders::{Keeping, Order, Senders, What, register};
use corecast::Mailbox;
use corecast::actor::link::LinkBounds;
use corecast::actor::mutant::Mutant;
use corecast::base::ids::NodeId;
use corecast::base::rng::{Rng, seeded};
use corecast::cluster::node::mutant::NodeMutant;
use corecast::cluster::node::output::{LeaseState, StopCause};
use corecast::cluster::node::settings::NodeSettings;
use corecast::cluster::plane::Event;
use corecast::cluster::steward::StewardSettings;
use corecast::consensus::mutant::Mutant as LogMutant;
use corecast::links::settings::LinkSettings;
use corecast::rand::RngExt;
use corecast::rand::seq::IndexedRandom;
use corecast::sim::{Bounds, ClusterSimulation, NodeClock, SimulationBuilder};
use std::time::Duration;

const SHARDS: u32 = 8;
const IDS: u64 = 16;
/// Those that keep running.
const KEPT_IDS: u64 = 8;
/// The length of the troubled time, and what happens in it at least.
const LENGTH: Duration = Duration::from_secs(60);
const OPERATIONS: usize = 2_000;
const FAULTS: u64 = 5;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Entities of both types.
fn ids() -> impl Iterator<Item = u64> {
    (0..IDS).chain(KEPT..KEPT + KEPT_IDS)
}

/// Somebody to send to: one in four keeps running.
fn some_entity(rng: &mut Rng) -> u64 {
    match rng.random_ratio(1, 4) {
        true => KEPT + rng.random_range(0..KEPT_IDS),
        false => rng.random_range(0..IDS),
    }
}

/// Bounds that a few messages fill.
fn tight() -> Bounds {
    Bounds {
        outbox_messages: 16,
        held_messages: 8,
        batch_messages: 3,
        lane_batches: 2,
        control_messages: 8,
        asks: 60,
        mailbox: Mailbox::bounded(12),
        activation_messages: 5,
        ..Bounds::default()
    }
}

/// A bug to be planted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    pub core: Option<Mutant>,
    pub node: Option<NodeMutant>,
    pub log: Option<LogMutant>,
    pub keeping: Keeping,
}

/// One cluster in trouble.
pub struct Swarm {
    pub cluster: ClusterSimulation,
    pub nodes: Vec<NodeId>,
    pub rng: Rng,
    pub plan: Plan,
    pub counts: Counts,
    /// Faults that have happened.
    pub struck: u64,
    pub senders: Senders,
    /// What is expected of entities that keep running.
    pub watch: Watch,
    founders: Vec<NodeId>,
    planted: Planted,
    fast: bool,
    /// How long leases are; with long ones a death is noticed while they last.
    lease: Duration,
}

impl Swarm {
    fn new(cluster: ClusterSimulation, planted: Planted) -> Swarm {
        let mut rng = seeded(cluster.seed(), 0x0073_7761_726d);
        let plan = Plan::draw(&mut rng);
        let nodes = rng.random_range(3..=7);
        let founders = rng.random_range(3..=nodes);
        let fast = rng.random_ratio(1, 24);
        let mut swarm = Swarm {
            cluster,
            nodes: Vec::new(),
            plan,
            counts: Counts::default(),
            struck: 0,
            founders: (1..=founders).map(NodeId).collect(),
            senders: Senders::default(),
            watch: Watch::default(),
            planted,
            fast,
            lease: ms(*[2_500, 2_500, 4_000, 6_000].choose(&mut rng).unwrap()),
            rng,
        };
        swarm.cluster.hear_planes();
        // Most of what a cluster in peace does are pings between data cores.
        let period = *[1_000, 2_500, 2_500, 2_500].choose(&mut swarm.rng).unwrap();
        swarm.cluster.set_links(LinkSettings {
            ping_period: ms(period),
            ..LinkSettings::default()
        });
        for kind in Fault::STANDING {
            if swarm.plan.has(kind) {
                swarm.counts.faults.insert(kind, 1);
            }
        }
        if swarm.plan.has(Fault::Tightness) {
            swarm.cluster.set_bounds(LinkBounds {
                buffer_bytes: 4 << 10,
                held_bytes: 16 << 10,
                remote_asks: 40,
                ..LinkBounds::default()
            });
        }
        for node in (1..=nodes).map(NodeId) {
            swarm.add(node);
            swarm.start(node);
        }
        swarm
    }

    fn add(&mut self, node: NodeId) {
        let clock = match self.plan.has(Fault::Drift) {
            // Of the slack of a tenth that leases have, two clocks use up a half at most.
            true => NodeClock::new(
                ms(self.rng.random_range(0..10_000_000)),
                self.rng.random_range(975_000..=1_025_000),
            ),
            false => NodeClock::default(),
        };
        self.cluster.set_clock(node, clock);
        let history = self.senders.history.clone();
        history.lock().set_clock(node, clock);
        let cores = *[1, 1, 2, 3].choose(&mut self.rng).unwrap();
        let cost = Duration::from_micros(*[1, 10, 100].choose(&mut self.rng).unwrap());
        let stalls = self.plan.has(Fault::Stalls);
        let one_in = self.rng.random_range(20..400);
        let is_tight = self.plan.has(Fault::Tightness);
        let tallies = self.senders.tallies.clone();
        let (planted, fast, lease) = (self.planted, self.fast, self.lease);
        let make = move |mut builder: SimulationBuilder| {
            let region = register(&mut builder, node, SHARDS, &history, planted.keeping);
            tallies.borrow_mut().insert(node, region);
            builder = builder.cores(cores).message_cost(cost);
            if is_tight {
                builder = builder.bounds(tight());
            }
            if stalls {
                builder = builder.stalls(one_in, ms(20));
            }
            match planted.core {
                Some(mutant) => builder.mutant(mutant),
                None => builder,
            }
        };
        let adapt = |fast_settings: NodeSettings| {
            let mut settings = match fast {
                true => fast_settings,
                false => {
                    let plain = NodeSettings::new(node, fast_settings.address);
                    NodeSettings {
                        seeds: fast_settings.seeds,
                        start: fast_settings.start,
                        ..plain
                    }
                }
            };
            if !fast {
                settings.consensus.lease = lease;
            }
            settings.mutant = planted.node;
            settings.consensus.mutant = planted.log;
            settings.steward = StewardSettings {
                retry: settings.steward.retry.min(ms(400)),
                ..settings.steward
            };
            settings
        };
        let founders = self.founders.clone();
        self.cluster.govern(node, &founders, adapt, make);
        self.nodes.push(node);
    }

    /// Starts the process of a node.
    pub fn start(&mut self, node: NodeId) {
        self.cluster.start_process(node);
    }

    /// The process of a node dies, or its machine.
    pub fn stop(&mut self, node: NodeId, machine: bool) {
        self.cluster.crash(node, machine);
        self.senders.end_life(node);
    }

    /// Whether a node has a process that takes part, or will.
    pub fn runs(&self, node: NodeId) -> bool {
        self.cluster.has_process(node) && self.cluster.stop_cause(node).is_none()
    }

    /// A node comes that was not there before; whether there is room for one.
    pub fn join(&mut self) -> bool {
        let node = NodeId(self.nodes.len() as u32 + 1);
        if node.0 > 7 {
            return false;
        }
        self.add(node);
        self.start(node);
        true
    }

    /// The network as it is without faults.
    pub fn calm_network(&mut self) {
        let settings = self.cluster.network().settings_mut();
        (settings.loss, settings.duplication) = (0.0, 0.0);
        settings.max_latency = Duration::from_micros(500);
    }

    /// Lets some time pass, and takes in what has come.
    fn run(&mut self, time: Duration) -> usize {
        self.cluster.run_for(time);
        for (at, node, event) in self.cluster.take_heard() {
            self.counts.heard(node, &event);
            match &event {
                Event::Joined { .. } if self.cluster.has_cores(node) => {
                    self.senders.history.lock().lease(node, at, None);
                    self.senders.begin_life(&mut self.cluster, node);
                }
                Event::Lease(lease) => {
                    let mut history = self.senders.history.lock();
                    let until = match lease {
                        LeaseState::Valid { until } => Some(history.real(node, *until)),
                        LeaseState::Lapsed => None,
                    };
                    history.lease(node, at, until);
                }
                Event::Stopped(cause) => {
                    self.senders.end_life(node);
                    let fine = matches!(
                        cause,
                        StopCause::LifeEnded { .. } | StopCause::Left | StopCause::Removed
                    );
                    assert!(fine, "{node} has stopped: {cause}");
                }
                Event::Shards(changed) => {
                    let mut history = self.senders.history.lock();
                    for change in &changed.changes {
                        if change.now.owner == Some(node) {
                            let owned = (node, change.shard, change.now.epoch);
                            history.owned.entry(owned).or_insert(at);
                        }
                        if change.now.fence > change.before.fence {
                            history.fencings.push(Fencing {
                                at,
                                node,
                                shard: change.shard,
                                fence: change.now.fence,
                            });
                        }
                    }
                }
                _ => {}
            }
        }
        let waiting = self.senders.look(self.cluster.now());
        self.watch_kept();
        waiting
    }

    /// A node that is up, as it believes.
    fn somebody_up(&mut self) -> Option<NodeId> {
        let node = *self.nodes.choose(&mut self.rng)?;
        (self.cluster.is_up(node) && self.senders.count(node) > 0).then_some(node)
    }

    /// Somebody sends a few messages, often to one entity.
    fn burst(&mut self) {
        let Some(node) = self.somebody_up() else {
            return;
        };
        let favourite = some_entity(&mut self.rng);
        let orders = (0..self.rng.random_range(1..=6)).map(|_| {
            let to = match self.rng.random_bool(0.6) {
                true => favourite,
                false => some_entity(&mut self.rng),
            };
            let what = match self.rng.random_range(0..20) {
                0..6 => What::Tell,
                6..9 => What::Send,
                9 => What::Slow(self.rng.random_range(1..400)),
                10..12 => What::Relay(some_entity(&mut self.rng)),
                12 => What::Keep,
                _ => What::Count,
            };
            let within = ms([50, 300, 1_000, 5_000][self.rng.random_range(0..4)]);
            Order {
                what,
                to,
                within,
                must_succeed: false,
            }
        });
        let orders = orders.collect();
        let which = self.rng.random_range(0..self.senders.count(node));
        self.senders.send(node, which, orders);
    }

    pub fn operations(&self) -> usize {
        self.senders.history.lock().operations.len()
    }

    /// Trouble, for so long at least and until enough has happened.
    fn trouble(&mut self) {
        let begun = self.cluster.now();
        self.plan.schedule(begun, LENGTH, &mut self.rng);
        let mut end = begun + LENGTH;
        loop {
            let now = self.cluster.now();
            if now >= end {
                if self.operations() >= OPERATIONS && self.struck >= FAULTS {
                    return;
                }
                if self.struck < FAULTS {
                    // Some of those that were to be could not.
                    self.plan.schedule(now, ms(3_000), &mut self.rng);
                }
                end = now + ms(3_000);
            }
            self.see_to_faults();
            self.burst();
            self.ask_kept();
            let pause = ms(self.rng.random_range(1..140));
            self.run(pause);
            let took = self.cluster.now() - begun;
            assert!(took < LENGTH * 4, "nobody sends: {}", self.operations());
        }
    }

    /// No faults any more: all nodes are up before long, every shard is owned, and every ask answered.
    fn peace(&mut self) {
        self.end_faults();
        self.calm_network();
        let begun = self.cluster.now();
        while !self.all_up() {
            self.run(ms(50));
            self.see_to_faults();
            let took = self.cluster.now() - begun;
            assert!(took < ms(60_000), "no peace: {}", self.what_is_wrong());
        }
        for id in ids() {
            self.answers(id);
        }
        // Everything that was sent before ends, and connections that could not be made are made.
        self.run(ms(11_000));
        self.senders.history.lock().peace = Some(self.cluster.now());
        // What is sent now takes effect.
        for node in self.nodes.clone() {
            for which in 0..self.senders.count(node) {
                let to = some_entity(&mut self.rng);
                let order = |what| Order {
                    what,
                    to,
                    within: ms(5_000),
                    must_succeed: true,
                };
                let orders = [What::Tell, What::Send, What::Count].map(order);
                self.senders.send(node, which, orders.to_vec());
                self.run(ms(20));
            }
        }
        // A future may have gone on with something else meanwhile.
        let begun = self.cluster.now();
        loop {
            let waiting = self.run(ms(500));
            let history = self.senders.history.lock();
            let open = governed_judge::open(&history, &self.senders.living());
            if waiting == 0 && open.is_empty() {
                return;
            }
            let took = self.cluster.now() - begun;
            assert!(
                took < ms(40_000),
                "{waiting} asks from outside and operations {open:?} have not ended"
            );
        }
    }

    /// Asks an entity until it answers.
    fn answers(&mut self, id: u64) {
        let begun = self.cluster.now();
        loop {
            let node = *self.nodes.choose(&mut self.rng).unwrap();
            if self.senders.count(node) > 0 {
                let order = Order {
                    what: What::Count,
                    to: id,
                    within: ms(1_000),
                    must_succeed: false,
                };
                let asked = self.operations();
                self.senders.send(node, 0, vec![order]);
                for _ in 0..110 {
                    self.run(ms(10));
                    match self.senders.history.lock().operations[asked].ended {
                        Some((_, Outcome::Replied(_))) => return,
                        Some(_) => break,
                        None => {}
                    }
                }
            }
            self.run(ms(50));
            let took = self.cluster.now() - begun;
            assert!(
                took < ms(15_000),
                "entity {id} has not answered for {took:?}"
            );
        }
    }

    fn all_up(&self) -> bool {
        self.nodes.iter().all(|node| {
            let plane = self.cluster.plane(*node);
            let up = plane.map(|plane| plane.node().members().up().count());
            self.cluster.is_up(*node)
                && up == Some(self.nodes.len())
                && self.senders.count(*node) > 4
        })
    }

    fn what_is_wrong(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let plane = self.cluster.plane(*node).map(|plane| plane.node());
            let members = plane.map(|node| {
                let members = node.members().members();
                let members = members.map(|it| (it.node.0, it.incarnation.0, it.state));
                (node.leader(), node.lease(), members.collect::<Vec<_>>())
            });
            format!("{node}: {:?} {members:?}", self.cluster.stop_cause(*node))
        });
        nodes.collect::<Vec<_>>().join("; ")
    }
}

/// What a run leaves.
pub struct Ran {
    pub cluster: ClusterSimulation,
    pub counts: Counts,
}

/// Trouble, then peace, and then the judge.
pub fn scenario(cluster: ClusterSimulation, planted: Planted) -> Ran {
    let mut swarm = Swarm::new(cluster, planted);
    // Some faults hit a cluster that is just being founded.
    let calm = ms(swarm.rng.random_range(0..6_000));
    swarm.run(calm);
    swarm.trouble();
    swarm.peace();
    let Swarm {
        cluster,
        mut counts,
        senders,
        ..
    } = swarm;
    let history = senders.history.lock();
    counts.kept(&governed_judge::judge(&history, true));
    // What entities pass on has no outcome of its own.
    for operation in history.operations.iter().filter(|it| it.parent.is_none()) {
        counts.operation(operation);
    }
    drop(history);
    Ran { cluster, counts }
}
