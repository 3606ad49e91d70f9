//! Several simulated nodes, in one virtual time, with a virtual network between their cores.
//!
//! The cores of nodes are connected as those of real ones are, with greetings, credit and pings, and come in by the port of
//! their node; only the sockets are virtual. Which node owns which shard the test says itself, in place of the log of a
//! cluster.
//!
//! ```
//! use corecast::base::ids::{NodeId, ShardId};
//! use corecast::sim::check_cluster_seeds;
//! use corecast::{Actor, Context, EntityType, Fault, Next, ReplyTo, WireMessage};
//!
//! struct Meter(u64);
//!
//! #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
//! enum Use {
//!     Add(u64),
//!     Get(ReplyTo<u64>),
//! }
//!
//! impl WireMessage for Use {
//!     const NAME: &'static str = "example.Use";
//!     const VERSION: u16 = 1;
//! }
//!
//! impl Actor for Meter {
//!     type Msg = Use;
//!
//!     fn receive(&mut self, msg: Use, ctx: &mut Context<Self>) -> Result<Next, Fault> {
//!         match msg {
//!             Use::Add(n) => self.0 += n,
//!             Use::Get(reply_to) => ctx.reply(reply_to, self.0),
//!         }
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! let (here, there) = (NodeId(1), NodeId(2));
//! check_cluster_seeds(5, |mut cluster| {
//!     let meters = [here, there].map(|node| {
//!         cluster.start(node, |mut builder| {
//!             let meters = EntityType::send("meter", |_: &u64| Meter(0)).num_shards(4).clustered();
//!             let meters = builder.entities(meters);
//!             (builder.cores(2), meters)
//!         })
//!     });
//!     for shard in (0..4).map(ShardId) {
//!         cluster.assign("meter", shard, there);
//!     }
//!     cluster.publish();
//!     cluster.node(here).tell(meters[0].entity(&7), Use::Add(3));
//!     // Who asks is another sender, whose messages have no order with those of the first.
//!     assert!(cluster.run_until_idle());
//!     assert_eq!(cluster.ask(here, meters[0].entity_ref(7), Use::Get), Ok(3));
//!     cluster
//! });
//! ```

use super::agenda::Agenda;
use super::builder::SimulationBuilder;
use super::check::{self, say_seed};
use super::cluster_links::Given;
use super::cluster_owners::Owners;
use super::control::{Times, address_of};
use super::data_sockets::{DataSockets, Overheard};
use super::governed::{GovernedNodes, Heard};
use super::network::{Network, NetworkSettings};
use super::node_clock::NodeClock;
use super::port::Port;
use super::simulation::{Simulation, StillPending};
use super::strangers::Strangers;
use super::trace::Trace;
use super::world::Step;
use crate::actor::link::LinkBounds;
use crate::actor::own_life::life_of_process;
use crate::actor::pending::Pending;
use crate::actor::reference::{ActorRef, Destination, Home};
use crate::actor::refusal::{AskError, Uncertainty};
use crate::actor::remote::{Lease, RemoteStats};
use crate::actor::reply::ReplyTo;
use crate::base::ids::{CoreId, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::engine::data_links::DataLinks;
use crate::engine::data_peers::{DataPeer, DataPeers};
use crate::links::porch::Porch;
use crate::links::settings::LinkSettings;
use crate::sharding::cluster_view::OwnershipUpdate;
use crate::wire::address::Life;
use crate::wire::hello::CheckedIdentity;
use crate::wire::limits::FrameLimits;
use crate::wire::message::Message;
use rand::RngExt;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the calls that wait let the world run.
const PATIENCE: Duration = Duration::from_secs(600);

/// The stream of the seed from which pieces of bytes and the seeds of nodes come.
const PIECES: u64 = 0x636c_7573;

/// Several nodes and the network between them; see the [module](self).
pub struct ClusterSimulation {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) network: Network<Vec<u8>>,
    pub(super) bounds: LinkBounds,
    pub(super) nodes: BTreeMap<NodeId, Simulation>,
    pub(super) lives: BTreeMap<NodeId, Incarnation>,
    /// As what the others know each process, by what it calls itself.
    names: BTreeMap<Home, Home>,
    pub(super) link_settings: LinkSettings,
    pub(super) given: BTreeMap<NodeId, Given>,
    /// How many data cores nodes have that the test has started.
    data_cores: BTreeMap<NodeId, u16>,
    pub(super) strangers: Strangers,
    pub(super) owners: Owners,
    pub(super) now: u64,
    /// What has left over connections that are up, while somebody wants to know.
    pub(super) overheard: Option<Overheard>,
    /// Traces of nodes that are gone.
    pub(super) ended: Vec<Trace>,
    /// Nodes that have control planes of their own.
    pub(super) governed: GovernedNodes,
    /// Clocks that are not that of the network.
    pub(super) clocks: BTreeMap<NodeId, NodeClock>,
    /// When there is something to do on which node.
    pub(super) agenda: Agenda,
    /// What control planes have told, while somebody wants to know.
    pub(super) heard: Option<Heard>,
}

impl ClusterSimulation {
    /// A cluster without nodes, in which everything comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> ClusterSimulation {
        ClusterSimulation {
            seed,
            rng: seeded(seed, PIECES),
            network: Network::new(seed, NetworkSettings::default()),
            bounds: LinkBounds::default(),
            nodes: BTreeMap::new(),
            lives: BTreeMap::new(),
            names: BTreeMap::new(),
            link_settings: LinkSettings::default(),
            given: BTreeMap::new(),
            data_cores: BTreeMap::new(),
            strangers: Strangers::default(),
            owners: Owners::default(),
            now: 0,
            overheard: None,
            ended: Vec::new(),
            governed: GovernedNodes::default(),
            clocks: BTreeMap::new(),
            agenda: Agenda::default(),
            heard: None,
        }
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanos(self.now)
    }

    /// The bounds of what the nodes that are started from now on have for each other.
    pub fn set_bounds(&mut self, bounds: LinkBounds) {
        self.bounds = bounds;
    }

    /// The settings of the connections of nodes that are started from now on.
    pub fn set_links(&mut self, settings: LinkSettings) {
        self.link_settings = settings;
    }

    /// Gives a node a clock of its own, which its processes have from the next on. Without one it has that of the network.
    ///
    /// # Panics
    /// If its cores run.
    pub fn set_clock(&mut self, node: NodeId, clock: NodeClock) {
        assert!(!self.nodes.contains_key(&node), "{node} runs already");
        self.clocks.insert(node, clock);
    }

    /// The clock of a node.
    #[must_use]
    pub fn clock_of(&self, node: NodeId) -> NodeClock {
        self.clocks.get(&node).copied().unwrap_or_default()
    }

    /// What the clock of a node shows now.
    #[must_use]
    pub fn time_at(&self, node: NodeId) -> Time {
        self.clock_of(node).local(self.now())
    }

    pub(super) fn times_at(&self, node: NodeId) -> Times {
        Times {
            real: self.now(),
            local: self.time_at(node),
        }
    }

    /// The network, to cut, slow and mend it.
    pub fn network(&mut self) -> &mut Network<Vec<u8>> {
        &mut self.network
    }

    /// Starts a node, or starts one again in its next life. `make` registers its entity types and says what it is like;
    /// what it gives beside the builder is handed on. Nobody knows of the node before the next
    /// [`publish`](ClusterSimulation::publish).
    ///
    /// # Panics
    /// If the node is there.
    pub fn start<R>(
        &mut self,
        node: NodeId,
        make: impl FnOnce(SimulationBuilder) -> (SimulationBuilder, R),
    ) -> R {
        assert!(!self.nodes.contains_key(&node), "{node} is there already");
        let life = self.lives.entry(node).or_insert(Incarnation(0));
        life.0 += 1;
        let incarnation = *life;
        let of_node = u64::from(node.0) << 32 | u64::from(incarnation.0);
        let seed = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ of_node;
        let (builder, made) = make(SimulationBuilder::new(seed));
        let identity = self.identity(node, incarnation, &builder);
        let data_cores = builder.data_cores() as u16;
        let data = (0..data_cores).map(CoreId).collect();
        let porch = Porch::new(
            &self.link_settings,
            identity.clone(),
            CoreId(data_cores),
            data,
        );
        let porch = porch.unwrap_or_else(|error| panic!("{error}"));
        let port = Port::new(node, porch);
        self.data_cores.insert(node, data_cores);
        self.start_in_life(identity.clone(), builder);
        self.given.insert(node, Given { port, identity });
        self.network.start(node);
        self.owners.members.insert(node, incarnation);
        self.owners.members_version += 1;
        made
    }

    /// The cores of a node begin to run.
    pub(super) fn start_in_life(
        &mut self,
        identity: Arc<CheckedIdentity>,
        mut builder: SimulationBuilder,
    ) {
        let life = identity.get().life;
        // As a real one it is given a life by the cluster, and has called itself by another before.
        let own = life_of_process(life.node, life.incarnation.0);
        let home = |life: Life| Home::new(life.node, life.incarnation);
        self.names.insert(home(own), home(life));
        builder.cluster = Some((own, self.bounds));
        let data_cores = builder.data_cores();
        let mut sim = builder.start();
        for core in &sim.world.cores {
            drop(core.engine.enter(Some(life)));
        }
        for (name, shards) in sim.clustered_types() {
            self.owners.shards_of(name, shards);
        }
        for (number, core) in (0..).zip(&mut sim.world.cores[..data_cores]) {
            let rng = seeded(self.rng.random(), 0);
            let (settings, id) = (self.link_settings.clone(), CoreId(number));
            let links = DataLinks::new(settings, id, identity.clone(), rng);
            let links = links.unwrap_or_else(|error| panic!("{error}"));
            let rng = seeded(self.rng.random(), 0);
            core.data = Some(Box::new(DataSockets::new(life.node, links, rng)));
        }
        sim.pass_until(self.time_at(life.node).as_nanos());
        self.nodes.insert(life.node, sim);
    }

    /// A node. What is sent by its handle goes on when the cluster runs; do not let it run alone.
    ///
    /// # Panics
    /// If it is not there.
    pub fn node(&mut self, node: NodeId) -> &mut Simulation {
        match self.nodes.get_mut(&node) {
            Some(node) => node,
            None => panic!("{node} is not there"),
        }
    }

    /// An address as it stands in messages between nodes: in the life by which the others know its node. What the node
    /// itself and its handle say is good there only, until a core archives it; a test that brings it to another node by hand
    /// does that here. One that is known elsewhere stays what it is.
    #[must_use]
    pub fn as_known_elsewhere<M>(&self, actor: ActorRef<M>) -> ActorRef<M> {
        let home = self.names.get(&actor.home).copied();
        ActorRef::new(home.unwrap_or(actor.home), actor.core, actor.cell)
    }

    /// The process of a node dies, and its connections are reset. The others have to be told with
    /// [`node_down`](ClusterSimulation::node_down).
    pub fn kill(&mut self, node: NodeId) {
        self.network.kill(self.now(), node);
        self.end_cores(node);
    }

    /// The cores of a node are no more.
    pub(super) fn end_cores(&mut self, node: NodeId) {
        self.given.remove(&node);
        if let Some(gone) = self.nodes.remove(&node) {
            self.ended.push(gone.trace().clone());
            let data = gone.world.cores.iter().flat_map(|core| &core.data);
            for link in data.flat_map(|data| data.sockets()) {
                self.network.close(self.now(), link, node);
            }
        }
    }

    /// Gives a shard to a node, in its next epoch. Nobody knows before the next [`publish`](ClusterSimulation::publish).
    pub fn assign(&mut self, entity_type: &str, shard: ShardId, to: NodeId) {
        self.owners.assign(entity_type, shard, to);
    }

    /// Takes a shard from its owner, as its death would: what it says from now on is refused.
    pub fn take_away(&mut self, entity_type: &str, shard: ShardId) {
        self.owners.take_away(entity_type, shard);
    }

    /// A node is no member any more, and owns nothing.
    pub fn node_down(&mut self, node: NodeId) {
        self.owners.node_down(node);
    }

    /// Tells every node of all owners and members.
    pub fn publish(&mut self) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.publish_to(node);
        }
    }

    /// Tells one node of all owners and members; the others lag behind.
    ///
    /// # Panics
    /// If the node is not there, or they contradict what it knows.
    pub fn publish_to(&mut self, node: NodeId) {
        let news = self.owners.news();
        let peers = self.owners.members.iter().map(|(node, incarnation)| {
            let peer = DataPeer {
                incarnation: *incarnation,
                address: address_of(*node).to_string(),
                data_cores: self.data_cores.get(node).copied().unwrap_or(0),
            };
            (*node, peer)
        });
        let peers = DataPeers {
            live: peers.collect(),
            down: self.owners.down.clone(),
        };
        self.set_owners(node, news);
        self.set_peers(node, peers);
    }

    /// Tells the cores of a node that its life is over, as it hears when the others have declared it down: they know nobody any
    /// more, and have no lease. The process goes on.
    pub fn end_life(&mut self, node: NodeId) {
        let sim = self.node(node);
        let coordination = sim.world.cores.len() - 1;
        sim.world
            .between_turns(coordination, |engine| engine.end_life());
        self.set_peers(node, DataPeers::default());
    }

    pub(super) fn set_owners(&mut self, node: NodeId, news: OwnershipUpdate) {
        let sim = self.node(node);
        let coordination = sim.world.cores.len() - 1;
        let set = sim
            .world
            .between_turns(coordination, |engine| engine.set_owners(news));
        if let Err(error) = set {
            self.fail(format_args!("{error}"));
        }
    }

    /// Tells a node of its lease.
    pub fn set_lease(&mut self, node: NodeId, lease: Lease) {
        let sim = self.node(node);
        let coordination = sim.world.cores.len() - 1;
        sim.world
            .between_turns(coordination, |engine| engine.set_lease(lease));
    }

    /// The shards for which messages wait on a node, and which no node owns.
    pub fn wanted(&mut self, node: NodeId) -> Vec<ShardKey> {
        let cores = &self.node(node).world.cores;
        cores[cores.len() - 1].engine.wanted()
    }

    /// What all cores of a node have had to do with other nodes.
    pub fn remote_stats(&mut self, node: NodeId) -> RemoteStats {
        let mut all = RemoteStats::default();
        for core in self.node(node).stats().cores {
            all += core.remote.unwrap_or_default();
        }
        all
    }

    /// Lets the world run until the result is there.
    ///
    /// # Errors
    /// The result that is still to come, if nothing is going to happen any more or after 10 virtual minutes.
    pub fn run_until<T>(&mut self, pending: Pending<T>) -> Result<T, StillPending<T>> {
        let limit = self.after(PATIENCE);
        let mut pending = pending;
        self.review_all();
        loop {
            pending = match pending.try_take() {
                Ok(result) => {
                    self.reach(self.now);
                    return Ok(result);
                }
                Err(pending) => pending,
            };
            if self.step(limit) != Step::Done {
                return pending.try_take().map_err(|pending| StillPending {
                    pending,
                    now: self.now(),
                    seed: self.seed,
                    waiting_futures: 0,
                });
            }
        }
    }

    /// Lets so much virtual time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let limit = self.after(duration);
        self.review_all();
        while self.step(limit) == Step::Done {}
        self.reach(limit);
    }

    /// Lets the world run until nothing is being done any more, as [`Simulation::run_until_idle`], and nothing is on its
    /// way. Returns `false` if it has not come to that within 10 virtual minutes.
    pub fn run_until_idle(&mut self) -> bool {
        let limit = self.after(PATIENCE);
        self.review_all();
        while !self.is_idle() {
            if self.step(limit) != Step::Done {
                return self.is_idle();
            }
        }
        self.reach(self.now);
        true
    }

    /// Asks from a node, and lets the world run until the ask has ended.
    ///
    /// # Errors
    /// As its outcome says.
    pub fn ask<D: Destination, R: Message>(
        &mut self,
        from: NodeId,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg + Send + 'static,
    ) -> Result<R, AskError> {
        let reply = self.node(from).handle().ask(to, make);
        self.run_until(reply)
            .unwrap_or(Err(Uncertainty::RuntimeGone.into()))
    }

    /// What every node has done so far, those that are gone first.
    #[must_use]
    pub fn traces(&self) -> Vec<Trace> {
        let live = self.nodes.values().map(|node| node.trace().clone());
        self.ended.iter().cloned().chain(live).collect()
    }

    /// Fails the run.
    #[track_caller]
    pub(super) fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        check::fail(self.seed, what)
    }

    pub(super) fn limits(&self) -> FrameLimits {
        FrameLimits {
            frame_bytes: self.bounds.frame_bytes,
            ..FrameLimits::default()
        }
    }

    pub(super) fn after(&self, duration: Duration) -> u64 {
        (self.now() + duration).as_nanos()
    }

    fn is_idle(&mut self) -> bool {
        !self.network.has_pieces()
            && self.strangers.are_quiet()
            && self.nodes.values_mut().all(|node| {
                let sent = |core: &super::world::Core| core.engine.has_sent_all();
                node.world.is_idle() && node.world.cores.iter().all(sent)
            })
    }
}

impl Drop for ClusterSimulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say_seed(self.seed);
            for node in self.nodes.values() {
                node.world.has_failed.set(true);
            }
        }
    }
}

impl fmt::Debug for ClusterSimulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSimulation")
            .field("seed", &self.seed)
            .field("now", &self.now())
            .field("nodes", &self.nodes.keys())
            .finish_non_exhaustive()
    }
}
