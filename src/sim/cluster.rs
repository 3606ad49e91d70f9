//! Several simulated nodes, in one virtual time, with a virtual network between their cores.
//!
//! Each core of a node has one connection of its own to each other node, for all that it sends there; answers come back
//! over one that the other node's core has made. So a connection can break in one direction and not in the other. Which node
//! owns which shard the test says itself, in place of the log of a cluster.
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
//!     assert_eq!(cluster.ask(here, meters[0].entity_ref(7), Use::Get), Ok(3));
//!     cluster
//! });
//! ```

use super::builder::SimulationBuilder;
use super::check::{self, say_seed};
use super::cluster_owners::Owners;
use super::governed::{Governed, GovernedNodes};
use super::network::{Arrival, LinkId, Network, NetworkSettings, NotSent};
use super::simulation::{Simulation, StillPending};
use super::trace::Trace;
use super::wires::Source;
use super::world::Step;
use crate::actor::link::LinkBounds;
use crate::actor::pending::Pending;
use crate::actor::reference::Destination;
use crate::actor::refusal::{AskError, Uncertainty};
use crate::actor::remote::{Lease, RemoteStats};
use crate::actor::reply::ReplyTo;
use crate::base::ids::{CoreId, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::sharding::cluster_view::OwnershipUpdate;
use crate::wire::address::Life;
use crate::wire::limits::FrameLimits;
use crate::wire::message::Message;
use crate::wire::reader::ReadCounts;
use rand::RngExt;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How long the calls that wait let the world run.
const PATIENCE: Duration = Duration::from_secs(600);

/// The stream of the seed from which pieces of bytes and the seeds of nodes come.
const PIECES: u64 = 0x636c_7573;

/// What is done next.
#[derive(Clone, Copy)]
enum Next {
    Cores(NodeId),
    Control(NodeId),
    Network,
}

/// One core's connection to a node.
pub(super) struct Way {
    link: LinkId,
    is_open: bool,
}

/// Several nodes and the network between them; see the [module](self).
pub struct ClusterSimulation {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) network: Network<Vec<u8>>,
    pub(super) bounds: LinkBounds,
    pub(super) nodes: BTreeMap<NodeId, Simulation>,
    pub(super) lives: BTreeMap<NodeId, Incarnation>,
    pub(super) ways: BTreeMap<(NodeId, u16, NodeId), Way>,
    /// Whose ways connections are.
    pub(super) links: BTreeMap<LinkId, (NodeId, u16, NodeId)>,
    pub(super) owners: Owners,
    pub(super) now: u64,
    pub(super) next_source: u64,
    /// Every piece of bytes that has left, while somebody wants to know.
    pub(super) overheard: Option<Vec<Vec<u8>>>,
    /// Traces of nodes that are gone.
    pub(super) ended: Vec<Trace>,
    /// Nodes that have control planes of their own.
    pub(super) governed: GovernedNodes,
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
            ways: BTreeMap::new(),
            links: BTreeMap::new(),
            owners: Owners::default(),
            now: 0,
            next_source: 0,
            overheard: None,
            ended: Vec::new(),
            governed: GovernedNodes::default(),
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
        self.start_in_life(node, incarnation, builder);
        self.network.start(node);
        self.owners.members.insert(node, incarnation);
        made
    }

    /// The cores of a node begin to run.
    pub(super) fn start_in_life(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        mut builder: SimulationBuilder,
    ) {
        builder.cluster = Some((Life::new(node, incarnation), self.bounds));
        let mut sim = builder.start();
        for (name, shards) in sim.clustered_types() {
            self.owners.shards_of(name, shards);
        }
        sim.pass_until(self.now);
        self.nodes.insert(node, sim);
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

    /// The process of a node dies, and its connections are reset. The others have to be told with
    /// [`node_down`](ClusterSimulation::node_down).
    pub fn kill(&mut self, node: NodeId) {
        self.network.kill(self.now(), node);
        self.end_cores(node);
    }

    /// The cores of a node are no more.
    pub(super) fn end_cores(&mut self, node: NodeId) {
        if let Some(gone) = self.nodes.remove(&node) {
            self.ended.push(gone.trace().clone());
        }
        self.ways.retain(|(from, ..), _| *from != node);
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
        self.set_owners(node, news);
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

    /// What the readers of all connections of a node have done.
    pub fn read_counts(&mut self, node: NodeId) -> ReadCounts {
        let mut all = ReadCounts::default();
        for core in &self.node(node).world.cores {
            let counts = core.wires.counts();
            all.frames += counts.frames;
            all.bytes += counts.bytes;
            all.moved_bytes += counts.moved_bytes;
            all.blocks += counts.blocks;
        }
        all
    }

    /// From now on what leaves the nodes is kept.
    pub fn overhear(&mut self) {
        self.overheard = Some(Vec::new());
    }

    /// What has left the nodes since the last call, in pieces that have nothing to do with frames.
    pub fn take_overheard(&mut self) -> Vec<Vec<u8>> {
        self.overheard
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Has a core of a node receive bytes, over a connection of their own.
    pub fn receive(&mut self, node: NodeId, core: CoreId, bytes: &[u8]) {
        let source = Source::Test(self.next_source);
        self.next_source += 1;
        let limits = self.limits();
        let world = &mut self.node(node).world;
        world.cores[core.index()].wires.open(source, limits);
        world.cores[core.index()].wires.take_in(source, bytes);
        world.stir(core.index());
    }

    /// Lets the world run until the result is there.
    ///
    /// # Errors
    /// The result that is still to come, if nothing is going to happen any more or after 10 virtual minutes.
    pub fn run_until<T>(&mut self, pending: Pending<T>) -> Result<T, StillPending<T>> {
        let limit = self.after(PATIENCE);
        let mut pending = pending;
        loop {
            pending = match pending.try_take() {
                Ok(result) => return Ok(result),
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
        while self.step(limit) == Step::Done {}
        self.reach(limit);
    }

    /// Lets the world run until nothing is being done any more, as [`Simulation::run_until_idle`], and nothing is on its
    /// way. Returns `false` if it has not come to that within 10 virtual minutes.
    pub fn run_until_idle(&mut self) -> bool {
        let limit = self.after(PATIENCE);
        while !self.is_idle() {
            if self.step(limit) != Step::Done {
                return self.is_idle();
            }
        }
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

    fn limits(&self) -> FrameLimits {
        FrameLimits {
            frame_bytes: self.bounds.frame_bytes,
            ..FrameLimits::default()
        }
    }

    pub(super) fn after(&self, duration: Duration) -> u64 {
        (self.now() + duration).as_nanos()
    }

    fn reach(&mut self, nanos: u64) {
        self.now = self.now.max(nanos);
        for node in self.nodes.values_mut() {
            node.pass_until(self.now);
        }
    }

    fn is_idle(&mut self) -> bool {
        let opening = self.ways.values().any(|way| !way.is_open);
        !opening
            && !self.network.has_pieces()
            && self.nodes.values_mut().all(|node| {
                let sent = |core: &super::world::Core| core.engine.outgoing().is_empty();
                node.world.is_idle() && node.world.cores.iter().all(sent)
            })
    }

    /// Does the next thing, unless it is due after `limit`.
    fn step(&mut self, limit: u64) -> Step {
        let mut next = None;
        for (node, sim) in &mut self.nodes {
            let resumes = (self.governed.get(node)).and_then(Governed::paused_until);
            let due = sim.world.next_due();
            if let Some(due) = due.map(|due| due.max(resumes.unwrap_or(0)))
                && next.is_none_or(|(at, _)| due < at)
            {
                next = Some((due, Next::Cores(*node)));
            }
        }
        // A node that stood still hears of the time from its control plane first.
        if let Some((due, node)) = self.next_governed()
            && next.is_none_or(|(at, _)| due <= at)
        {
            next = Some((due, Next::Control(node)));
        }
        if let Some(at) = self.network.next_arrival()
            && next.is_none_or(|(due, _)| at.as_nanos() <= due)
        {
            next = Some((at.as_nanos(), Next::Network));
        }
        let Some((at, what)) = next else {
            return Step::Never;
        };
        if at > limit {
            self.reach(limit);
            return Step::Later;
        }
        self.reach(at);
        match what {
            Next::Cores(node) => {
                let now = self.now;
                self.node(node).step_until(now);
                self.see_to(node);
                self.report_wanted(node);
            }
            Next::Control(node) => self.turn_control(node),
            Next::Network => {
                if let Some(arrival) = self.network.pop(self.now()) {
                    self.arrive(arrival);
                }
            }
        }
        Step::Done
    }

    /// After a node has done something: sends what may leave, and closes connections on which nonsense came.
    fn see_to(&mut self, node: NodeId) {
        let cores = self.node(node).world.cores.len();
        for core in 0..cores {
            let failed = self.node(node).world.cores[core].wires.take_failed();
            for source in failed {
                self.node(node).world.cores[core].wires.close(source);
                if let Source::Link(link) = source {
                    self.links.remove(&link);
                    self.network.close(self.now(), link, node);
                }
            }
            self.send_from(node, core as u16);
        }
    }

    fn send_from(&mut self, node: NodeId, core: u16) {
        let now = self.now();
        let outgoing = self.node(node).world.cores[usize::from(core)]
            .engine
            .outgoing();
        for to in outgoing {
            let key = (node, core, to);
            let Some(way) = self.ways.get(&key) else {
                let link = self.network.connect(now, node, to);
                self.links.insert(link, key);
                let way = Way {
                    link,
                    is_open: false,
                };
                self.ways.insert(key, way);
                continue;
            };
            if !way.is_open {
                continue;
            }
            let link = way.link;
            loop {
                // Writes to a socket are cut anywhere.
                let most = [7, 1_000, 65_536, 1 << 20][self.rng.random_range(0..4)];
                let Some(sim) = self.nodes.get_mut(&node) else {
                    return;
                };
                let (network, overheard) = (&mut self.network, &mut self.overheard);
                let engine = &sim.world.cores[usize::from(core)].engine;
                let sent = engine.sent(to, |bytes| {
                    let piece = &bytes[..bytes.len().min(most)];
                    if piece.is_empty() {
                        return 0;
                    }
                    match network.send(now, link, node, piece.to_vec(), piece.len()) {
                        Ok(()) => {
                            if let Some(overheard) = overheard {
                                overheard.push(piece.to_vec());
                            }
                            piece.len()
                        }
                        Err((NotSent::Full | NotSent::Closed, _)) => 0,
                    }
                });
                if sent == 0 {
                    break;
                }
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival<Vec<u8>>) {
        let at = arrival.at();
        let link = match &arrival {
            Arrival::Opened { link, .. }
            | Arrival::Received { link, .. }
            | Arrival::Writable { link, .. }
            | Arrival::Closed { link, .. } => Some(*link),
            Arrival::Datagram { .. } => None,
        };
        if link.is_none_or(|link| self.is_control(link)) {
            return self.arrive_at_control(arrival);
        }
        if !self.nodes.contains_key(&at) {
            // Nobody takes messages there (yet).
            if let Arrival::Opened { link, .. } = arrival {
                self.network.close(self.now(), link, at);
            }
            return;
        }
        match arrival {
            Arrival::Opened {
                link, connected, ..
            } => {
                let Some(key) = self.links.get(&link).copied() else {
                    return;
                };
                if connected {
                    if let Some(way) = self.ways.get_mut(&key) {
                        way.is_open = true;
                    }
                    self.send_from(key.0, key.1);
                } else {
                    let limits = self.limits();
                    let core = self.core_for(at, key.1);
                    let world = &mut self.node(at).world;
                    world.cores[core].wires.open(Source::Link(link), limits);
                }
            }
            Arrival::Received { link, payload, .. } => {
                let Some(key) = self.links.get(&link).copied() else {
                    return;
                };
                let core = self.core_for(at, key.1);
                let world = &mut self.node(at).world;
                let wires = &mut world.cores[core].wires;
                wires.take_in(Source::Link(link), &payload);
                world.stir(core);
            }
            Arrival::Writable { link, .. } => {
                if let Some(key) = self.links.get(&link).copied() {
                    self.send_from(key.0, key.1);
                }
            }
            Arrival::Closed { link, .. } => {
                let Some(key) = self.links.get(&link).copied() else {
                    return;
                };
                if key.0 == at {
                    if self.ways.get(&key).is_some_and(|way| way.link == link) {
                        self.ways.remove(&key);
                        let world = &mut self.node(at).world;
                        world.between_turns(usize::from(key.1), |engine| engine.link_lost(key.2));
                    }
                } else {
                    let core = self.core_for(at, key.1);
                    let world = &mut self.node(at).world;
                    world.cores[core].wires.close(Source::Link(link));
                }
            }
            Arrival::Datagram { .. } => {}
        }
    }

    /// The core of a node at which the connections of the other nodes' core of that number end.
    fn core_for(&mut self, node: NodeId, core: u16) -> usize {
        let data_cores = self.node(node).world.cores.len() - 1;
        usize::from(core) % data_cores
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
