//! Simulated nodes whose owners, members and leases come from control planes of their own, not from the test: a cluster as
//! it is, but for threads and sockets.
//!
//! A process begins with its control plane. When the cluster has let it in, its cores start in the life that it was given;
//! when that life ends, so do they, and the process starts again. Messages between nodes take connections of their own, so
//! that control never waits behind them.

use super::builder::SimulationBuilder;
use super::cluster::ClusterSimulation;
use super::control::{SimControl, address_of};
use super::disk::SimDisk;
use super::network::Arrival;
use super::node_clock::NodeClock;
use crate::actor::remote::Lease;
use crate::base::ids::{CoreId, NodeId, ShardKey};
use crate::base::rng::seeded;
use crate::base::time::Time;
use crate::cluster::node::output::{LeaseState, StopCause};
use crate::cluster::node::settings::{NodeSettings, Seed};
use crate::cluster::plane::{ControlPlane, Event, PlaneSettings};
use crate::consensus::bootstrap::Start;
use crate::consensus::peer::NodeLife;
use crate::engine::data_peers::DataPeers;
use crate::membership::view::MemberState;
use crate::sharding::node_steps::MoveReport;
use crate::wire::address::Life;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// After how long at most a process that has ended starts again.
const RESTART_WITHIN: Duration = Duration::from_millis(300);

/// How long after something has come a control plane that slept has its turn, in nanoseconds.
const WAKES_AFTER: u64 = 100_000;

/// What registers the entity types of a node and says what it is like; called again for each of its processes.
type Make = Rc<dyn Fn(SimulationBuilder) -> SimulationBuilder>;

/// A node with a control plane, whether it runs or not.
pub(super) struct Governed {
    settings: NodeSettings,
    make: Make,
    disk: SimDisk,
    process: Option<Process>,
    paused: Option<(u64, u64)>,
    restart_at: Option<u64>,
    pub(super) stopped: Option<StopCause>,
}

struct Process {
    control: SimControl,
    /// What its cores will be, until they start.
    builder: Option<SimulationBuilder>,
    /// Shards without an owner that the control plane has been told of.
    reported: BTreeSet<ShardKey>,
    /// The version of the members that its cores know: nodes that join are no event.
    members: u64,
    /// There is something to do at once.
    is_stirred: bool,
    /// When to look at what has come from the network.
    arrivals_at: Option<u64>,
}

impl Governed {
    /// When there is something to do for it, apart from its cores.
    pub(super) fn due(&self, now: u64, clock: NodeClock) -> Option<u64> {
        let Some(process) = &self.process else {
            return self.restart_at;
        };
        let at = match process.is_stirred {
            true => now,
            false => {
                let at = clock.real(process.control.next_event()).as_nanos();
                at.min(process.arrivals_at.unwrap_or(u64::MAX))
            }
        };
        let wakes = self.paused.map_or(0, |(_, until)| until);
        (at < u64::MAX || wakes > 0).then_some(at.max(wakes))
    }

    /// Until when it stands still.
    pub(super) fn paused_until(&self) -> Option<u64> {
        self.paused.map(|(_, until)| until)
    }
}

impl ClusterSimulation {
    /// A node of a cluster that governs itself. `founders` are named alike everywhere; a node that is none of them joins.
    /// `adapt` changes the settings of its control plane, which are the fast ones. It does not run before
    /// [`start_process`](ClusterSimulation::start_process).
    ///
    /// # Panics
    /// If the node is there.
    pub fn govern(
        &mut self,
        node: NodeId,
        founders: &[NodeId],
        adapt: impl FnOnce(NodeSettings) -> NodeSettings,
        make: impl Fn(SimulationBuilder) -> SimulationBuilder + 'static,
    ) {
        let seeds = founders.iter().map(|node| Seed {
            node: *node,
            address: Some(address_of(*node)),
        });
        let settings = NodeSettings {
            seeds: seeds.collect(),
            start: match founders.contains(&node) {
                true => Start::Found,
                false => Start::Join,
            },
            ..NodeSettings::new(node, address_of(node)).fast()
        };
        let governed = Governed {
            settings: adapt(settings),
            make: Rc::new(make),
            disk: SimDisk::new(self.rng.random()),
            process: None,
            paused: None,
            restart_at: None,
            stopped: None,
        };
        let before = self.governed.insert(node, governed);
        assert!(before.is_none(), "{node} is there already");
    }

    /// Starts the process of a node, with what its disk holds.
    ///
    /// # Panics
    /// If there is no such node, if it runs, or if its settings make no sense.
    pub fn start_process(&mut self, node: NodeId) {
        let rng = seeded(self.rng.random(), 0);
        let seed = self.rng.random();
        let (links, limits) = (self.link_settings.clone(), self.limits());
        let Some(governed) = self.governed.get_mut(&node) else {
            panic!("{node} is not there");
        };
        assert!(governed.process.is_none(), "{node} runs already");
        let builder = (governed.make)(SimulationBuilder::new(seed));
        let mut settings = governed.settings.clone();
        settings.types = builder.type_specs();
        settings.data_cores = builder.data_cores() as u16;
        let tables = builder
            .tables()
            .unwrap_or_else(|error| panic!("{node}: {error}"));
        let core = CoreId(settings.data_cores);
        let settings = PlaneSettings {
            cluster: "simulated".to_owned(),
            cores: settings.data_cores + 1,
            node: settings,
            links,
            limits,
            tables: Arc::new(tables),
            core,
        };
        let control = SimControl::start(settings, &governed.disk, rng)
            .unwrap_or_else(|error| panic!("{node}: {error}"));
        governed.process = Some(Process {
            control,
            builder: Some(builder),
            reported: BTreeSet::new(),
            members: 0,
            is_stirred: true,
            arrivals_at: None,
        });
        (governed.restart_at, governed.stopped, governed.paused) = (None, None, None);
        self.network.start(node);
    }

    /// The process of a node dies, or its whole machine, which nobody hears of.
    pub fn crash(&mut self, node: NodeId, machine: bool) {
        let now = self.now();
        if let Some(governed) = self.governed.get_mut(&node) {
            governed.disk.crash();
            (governed.process, governed.restart_at, governed.paused) = (None, None, None);
        }
        match machine {
            true => self.network.power_off(now, node),
            false => self.network.kill(now, node),
        }
        self.end_cores(node);
    }

    /// A node stands still for so long, with everything that runs there.
    pub fn pause(&mut self, node: NodeId, time: Duration) {
        let (since, until) = (self.now, self.after(time));
        if let Some(governed) = self.governed.get_mut(&node) {
            governed.paused = Some((since, until));
        }
    }

    /// Whether a node stands still.
    #[must_use]
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.governed
            .get(&node)
            .is_some_and(|governed| governed.paused.is_some())
    }

    /// A node that stands still goes on now.
    pub fn resume(&mut self, node: NodeId) {
        let now = self.now;
        let paused = self.governed.get_mut(&node).map(|it| &mut it.paused);
        if let Some(Some((_, until))) = paused {
            *until = now.min(*until);
        }
    }

    /// A node that does not run loses its disk: its next process begins with an empty one.
    ///
    /// # Panics
    /// If there is no such node, or if it runs.
    pub fn replace_disk(&mut self, node: NodeId) {
        let disk = SimDisk::new(self.rng.random());
        let Some(governed) = self.governed.get_mut(&node) else {
            panic!("{node} is not there");
        };
        assert!(governed.process.is_none(), "{node} runs");
        governed.disk = disk;
    }

    /// The disk of a node, to slow it and to have it fail.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> Option<SimDisk> {
        Some(self.governed.get(&node)?.disk.clone())
    }

    /// From now on what control planes tell is kept.
    pub fn hear_planes(&mut self) {
        self.heard = Some(Heard::new());
    }

    /// What the control planes have told since the last call: when by the time of the network, which of them, and what.
    pub fn take_heard(&mut self) -> Vec<(Time, NodeId, Event)> {
        let heard = self.heard.as_mut().map(std::mem::take);
        heard.unwrap_or_default()
    }

    /// Whether a node has a process, which may stand still, or have ended its part.
    #[must_use]
    pub fn has_process(&self, node: NodeId) -> bool {
        self.governed
            .get(&node)
            .is_some_and(|governed| governed.process.is_some())
    }

    /// Tells a node to leave the cluster.
    pub fn leave(&mut self, node: NodeId) {
        let now = self.time_at(node);
        if let Some(plane) = self.plane_mut(node) {
            plane.leave(now);
        }
    }

    /// The control plane of a node, if it runs and its disk has been read.
    #[must_use]
    pub fn plane(&self, node: NodeId) -> Option<&ControlPlane> {
        self.governed.get(&node)?.process.as_ref()?.control.plane()
    }

    fn plane_mut(&mut self, node: NodeId) -> Option<&mut ControlPlane> {
        let process = self.governed.get_mut(&node)?.process.as_mut()?;
        process.is_stirred = true;
        process.control.plane_mut()
    }

    /// Whether a node is up, and its cores run.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        let up = self
            .plane(node)
            .and_then(|plane| plane.node().self_node())
            .is_some_and(|member| member.state == MemberState::Up);
        up && self.nodes.contains_key(&node)
    }

    /// Whether the cores of a node run.
    #[must_use]
    pub fn has_cores(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Why a node takes part no more, if it does not.
    #[must_use]
    pub fn stop_cause(&self, node: NodeId) -> Option<&StopCause> {
        self.governed.get(&node)?.stopped.as_ref()
    }

    /// Lets the world run until something is true; whether it was within the time.
    pub fn run_until_true(
        &mut self,
        at_most: Duration,
        mut is_true: impl FnMut(&mut ClusterSimulation) -> bool,
    ) -> bool {
        let end = self.after(at_most);
        loop {
            if is_true(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.run_for(Duration::from_millis(10));
        }
    }

    /// Something has come to a control plane.
    pub(super) fn arrive_at_control(&mut self, arrival: Arrival<Vec<u8>>) {
        let at = arrival.at();
        let times = self.times_at(at);
        let governed = self.governed.get_mut(&at);
        if let Some(process) = governed.and_then(|governed| governed.process.as_mut()) {
            let at = times.real.as_nanos() + WAKES_AFTER;
            process.arrivals_at.get_or_insert(at);
            process.control.arrive(arrival, &mut self.network, times);
        }
    }

    /// Has a control plane do what there is to do.
    pub(super) fn turn_control(&mut self, node: NodeId) {
        let times = self.times_at(node);
        let clock = self.clock_of(node);
        let Some(governed) = self.governed.get_mut(&node) else {
            return;
        };
        let paused = governed.paused.take();
        let Some(process) = &mut governed.process else {
            return self.start_process(node);
        };
        if let Some((since, _)) = paused {
            let late = times.local - clock.local(Time::from_nanos(since));
            process.control.stalled(late, times);
            let cores = self.nodes.get_mut(&node).map(|sim| &mut sim.world.cores);
            let data = cores.into_iter().flatten().flat_map(|core| &mut core.data);
            data.for_each(|data| data.links.stalled(late));
        }
        (process.is_stirred, process.arrivals_at) = (false, None);
        let events = match process.control.turn(&mut self.network, times) {
            Ok(events) => events,
            Err(error) => self.fail(format_args!("{node}: {error}")),
        };
        let guests = process.control.take_guests();
        let members = process
            .control
            .plane()
            .map(|it| it.node().members().version());
        let members = members.unwrap_or_default();
        let mut owners_changed = std::mem::replace(&mut process.members, members) != members;
        let mut partings = Vec::new();
        for event in &events {
            match event {
                Event::Parting(life) => partings.push(Life::new(life.node, life.incarnation)),
                Event::Joined { .. } | Event::Member(_) | Event::Types(_) | Event::Shards(_) => {
                    owners_changed = true;
                }
                _ => {}
            }
        }
        for event in events {
            self.hear_control(node, event);
        }
        self.hand_over(node, guests);
        if owners_changed {
            self.tell_owners(node);
        }
        for life in partings {
            self.part_with(node, life);
        }
        self.report_wanted(node);
    }

    fn hear_control(&mut self, node: NodeId, event: Event) {
        let now = self.now();
        if let Some(heard) = &mut self.heard {
            heard.push((now, node, event.clone()));
        }
        match event {
            Event::Joined { .. } => self.start_cores(node),
            Event::Identity(identity) => {
                let now = self.time_at(node);
                self.tend(node, |data| {
                    data.links.set_identity(identity.clone(), now);
                });
            }
            Event::Lease(lease) => self.tell_lease(node, lease),
            Event::LedgerFailed(error) => self.fail(format_args!("{node}: {error}")),
            Event::Stopped(cause) => self.control_stopped(node, cause),
            _ => {}
        }
    }

    fn start_cores(&mut self, node: NodeId) {
        let process = self.governed.get_mut(&node);
        let Some(process) = process.and_then(|governed| governed.process.as_mut()) else {
            return;
        };
        let identity = process.control.plane().map(ControlPlane::identity).cloned();
        if let Some(identity) = identity
            && let Some(builder) = process.builder.take()
        {
            self.start_in_life(identity, builder);
            self.tell_lease(node, LeaseState::Lapsed);
        }
    }

    fn tell_lease(&mut self, node: NodeId, lease: LeaseState) {
        if self.nodes.contains_key(&node) {
            let lease = match lease {
                LeaseState::Valid { until } => Lease::Until(until),
                LeaseState::Lapsed => Lease::Lapsed,
            };
            self.set_lease(node, lease);
        }
    }

    /// Tells the cores of a node what its log says.
    fn tell_owners(&mut self, node: NodeId) {
        let runs = self.nodes.contains_key(&node);
        let process = self.governed.get_mut(&node);
        let Some(process) = process.and_then(|governed| governed.process.as_mut()) else {
            return;
        };
        let Some(plane) = process.control.plane().filter(|_| runs) else {
            return;
        };
        let state = plane.node().state();
        let news = state.news();
        let peers = DataPeers::of(state.members());
        self.set_owners(node, news);
        self.set_peers(node, peers);
    }

    /// Tells the control plane of a node which shards somebody there has something for.
    pub(super) fn report_wanted(&mut self, node: NodeId) {
        if !self.governed.contains_key(&node) || !self.nodes.contains_key(&node) {
            return;
        }
        let wanted = self.wanted(node);
        let now = self.time_at(node);
        let Some(process) = self
            .governed
            .get_mut(&node)
            .and_then(|governed| governed.process.as_mut())
        else {
            return;
        };
        process.reported.retain(|shard| wanted.contains(shard));
        if let Some(plane) = process.control.plane_mut() {
            for shard in wanted {
                // What finds no room is wanted again.
                if !process.reported.contains(&shard) && plane.want_shard(shard, now).is_ok() {
                    process.reported.insert(shard);
                    process.is_stirred = true;
                }
            }
        }
    }

    /// Has the cores of a node part with a life that leaves.
    fn part_with(&mut self, node: NodeId, life: Life) {
        if let Some(sim) = self.nodes.get_mut(&node) {
            let coordination = sim.world.cores.len() - 1;
            sim.world
                .between_turns(coordination, |engine| engine.part_with(life));
        }
    }

    /// Tells the control plane of a node with whom its cores have parted.
    pub(super) fn report_parted(&mut self, node: NodeId, parted: Vec<Life>) {
        let now = self.time_at(node);
        if let Some(plane) = self.plane_mut(node) {
            for Life { node, incarnation } in parted {
                plane.parted(NodeLife { node, incarnation }, now);
            }
        }
    }

    /// Tells the control plane of a node how moves have ended for its cores.
    pub(super) fn report_moves(&mut self, node: NodeId, ended: &[MoveReport]) {
        let now = self.time_at(node);
        if let Some(plane) = self.plane_mut(node) {
            for report in ended {
                let (shard, prepared) = (report.shard, report.prepared);
                match report.outcome {
                    Ok(()) => plane.shard_arrived(shard, prepared, now),
                    Err(_) => plane.shard_refused(shard, prepared, now),
                }
            }
        }
    }

    fn control_stopped(&mut self, node: NodeId, cause: StopCause) {
        let comes_back = matches!(cause, StopCause::LifeEnded { .. } | StopCause::Removed);
        let after = self.rng.random_range(Duration::ZERO..RESTART_WITHIN);
        let restart_at = self.after(after);
        self.end_cores(node);
        if comes_back {
            self.crash(node, false);
        }
        if let Some(governed) = self.governed.get_mut(&node) {
            governed.stopped = Some(cause);
            governed.restart_at = comes_back.then_some(restart_at);
        }
    }
}

/// What control planes have told.
pub(super) type Heard = Vec<(Time, NodeId, Event)>;

/// All nodes with control planes.
pub(super) type GovernedNodes = BTreeMap<NodeId, Governed>;
