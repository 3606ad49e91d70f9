//! Whole control planes, with their connections, their ledgers and the bytes between them, from a seed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{CoreId, NodeId, ShardKey};
use corecast::base::rng::{Rng, seeded};
use corecast::cluster::node::ClusterNode;
use corecast::cluster::node::output::{LeaseState, StopCause};
use corecast::cluster::node::settings::{NodeSettings, Seed};
use corecast::cluster::plane::{ControlPlane, Event, PlaneSettings};
use corecast::consensus::bootstrap::Start;
use corecast::consensus::peer::NodeLife;
use corecast::links::settings::LinkSettings;
use corecast::membership::event::MemberEvent;
use corecast::membership::view::MemberState;
use corecast::sim::SimDisk;
use corecast::sim::control::{SimControl, Times, address_of};
use corecast::sim::network::{Network, NetworkSettings};
use corecast::wire::limits::FrameLimits;
use corecast::wire::tables::Tables;
use rand::RngExt;

use crate::control_judge::Judge;
use crate::control_node::ms;
use crate::control_world::{keys, quick, types};
use crate::seeds::Trace;

/// What happened, so that a test can show that it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    pub(crate) pauses: u64,
    pub(crate) partitions: u64,
    pub(crate) waits: u64,
    pub(crate) lives_ended: u64,
    pub(crate) ups: u64,
    pub(crate) downs: u64,
    pub(crate) left: u64,
    pub(crate) unreachable: u64,
    pub(crate) lapses: u64,
    pub(crate) identities: u64,
    pub(crate) notes: u64,
}

/// One node, running or not.
pub(crate) struct Node {
    settings: PlaneSettings,
    disk: SimDisk,
    /// Its clock runs at this many millionths of real time, and started from somewhere.
    rate: u64,
    origin: u64,
    pub(crate) running: Option<SimControl>,
    process: u64,
    paused: Option<(Time, Time)>,
    restart_at: Option<Time>,
    pub(crate) stopped: Option<StopCause>,
    life: Option<NodeLife>,
    lease: LeaseState,
    applied: u64,
    has_arrivals: bool,
    /// What moves to it, by when its shards will be there.
    moves: Vec<(Time, ShardKey, u64)>,
    /// With whom its cores will have parted when.
    partings: Vec<(Time, NodeLife)>,
}

impl Node {
    pub(crate) fn local(&self, now: Time) -> Time {
        let nanos = u128::from(now.as_nanos()) * u128::from(self.rate) / 1_000_000;
        Time::from_nanos(self.origin + nanos as u64)
    }

    fn real(&self, local: Time) -> Time {
        if local == Time::MAX {
            return local;
        }
        let nanos = u128::from(local.as_nanos().saturating_sub(self.origin)) * 1_000_000;
        Time::from_nanos(u64::try_from(nanos.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX))
    }

    fn times(&self, real: Time) -> Times {
        let local = self.local(real);
        Times { real, local }
    }

    fn next_event(&self, now: Time) -> Time {
        let Some(running) = &self.running else {
            return self.restart_at.unwrap_or(Time::MAX);
        };
        let wakes = match self.has_arrivals {
            true => now,
            false => self.real(running.next_event()),
        };
        let moves = self.moves.iter().map(|(at, ..)| *at).min();
        let partings = self.partings.iter().map(|(at, _)| *at);
        let next = partings.chain(moves).fold(wakes, Time::min);
        next.max(self.paused.map_or(Time::ZERO, |(_, until)| until))
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) network: Network<Vec<u8>>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) judge: Judge,
    pub(crate) counts: Counts,
    seeds: Vec<Seed>,
    processes: u64,
    trace: Trace,
}

impl World {
    /// A cluster of so many founders, none of which runs yet.
    pub(crate) fn new(seed: u64, founders: u32) -> World {
        let network = NetworkSettings {
            connect_timeout: ms(100),
            gives_up_after: ms(1_500),
            resend_after: ms(20),
            ..NetworkSettings::default()
        };
        let mut world = World {
            now: Time::ZERO,
            rng: seeded(seed, 5),
            network: Network::new(seed, network),
            nodes: BTreeMap::new(),
            judge: Judge::default(),
            counts: Counts::default(),
            seeds: (1..=founders)
                .map(NodeId)
                .map(|node| Seed {
                    node,
                    address: Some(address_of(node)),
                })
                .collect(),
            processes: 0,
            trace: Trace::new(),
        };
        for node in 1..=founders {
            world.add(NodeId(node), Start::Found);
        }
        world
    }

    /// A node that does not run yet. Odd ones have the role `store`.
    pub(crate) fn add(&mut self, id: NodeId, start: Start) {
        let address: SocketAddr = address_of(id);
        let node = quick(NodeSettings::new(id, address));
        let settings = PlaneSettings {
            cluster: "flights".to_owned(),
            node: NodeSettings {
                roles: (id.0 % 2 == 1)
                    .then(|| "store".to_owned())
                    .into_iter()
                    .collect(),
                data_cores: 2,
                seeds: self.seeds.clone(),
                start,
                types: types(),
                ..node
            },
            links: LinkSettings {
                connect_timeout: ms(200),
                backoff_initial: ms(20),
                backoff_max: ms(300),
                ping_period: ms(200),
                silence: ms(1_000),
                ..LinkSettings::default()
            },
            limits: FrameLimits::default(),
            tables: Arc::new(Tables::default()),
            core: CoreId(2),
            cores: 3,
        };
        let node = Node {
            settings,
            disk: SimDisk::new(self.rng.random()),
            rate: self.rng.random_range(955_000..1_045_000),
            origin: self.rng.random_range(0..1_000_000_000_000),
            running: None,
            process: 0,
            paused: None,
            restart_at: None,
            stopped: None,
            life: None,
            lease: LeaseState::Lapsed,
            applied: 0,
            has_arrivals: false,
            moves: Vec::new(),
            partings: Vec::new(),
        };
        self.nodes.insert(id, node);
    }

    /// A node does not know where its other seeds are when it starts next, or believes them to be there.
    pub(crate) fn mislead(&mut self, id: NodeId, address: Option<SocketAddr>) {
        let node = self.nodes.get_mut(&id).unwrap();
        let others = node.settings.node.seeds.iter_mut();
        others
            .filter(|seed| seed.node != id)
            .for_each(|seed| seed.address = address);
    }

    pub(crate) fn start_all(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.start(id));
    }

    /// Starts the process of a node.
    pub(crate) fn start(&mut self, id: NodeId) {
        self.network.start(id);
        self.processes += 1;
        let rng = seeded(self.rng.random(), 0);
        let node = self.nodes.get_mut(&id).unwrap();
        (node.stopped, node.restart_at, node.paused) = (None, None, None);
        (node.life, node.lease, node.applied) = (None, LeaseState::Lapsed, 0);
        node.moves.clear();
        node.partings.clear();
        node.process = self.processes;
        let started = SimControl::start(node.settings.clone(), &node.disk, rng);
        node.running = Some(started.unwrap_or_else(|error| panic!("{id}: {error}")));
        node.has_arrivals = true;
        self.note(&("start", id));
    }

    /// The process or the whole machine dies.
    pub(crate) fn crash(&mut self, id: NodeId) {
        if self.end(id) {
            self.counts.crashes += 1;
            match self.rng.random_bool(0.5) {
                true => self.network.kill(self.now, id),
                false => self.network.power_off(self.now, id),
            }
            self.note(&("crash", id));
        }
    }

    fn end(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        node.disk.crash();
        node.restart_at = None;
        node.running.take().is_some()
    }

    pub(crate) fn pause(&mut self, id: NodeId, time: Duration) {
        self.counts.pauses += 1;
        let now = self.now;
        self.nodes.get_mut(&id).unwrap().paused = Some((now, now + time));
    }

    /// Tells a node something; it acts on it in its next turn.
    pub(crate) fn with<T>(
        &mut self,
        id: NodeId,
        call: impl FnOnce(&mut ControlPlane, Time) -> T,
    ) -> Option<T> {
        let now = self.now;
        let node = self.nodes.get_mut(&id)?;
        let local = node.local(now);
        node.has_arrivals = true;
        let plane = node.running.as_mut()?.plane_mut()?;
        Some(call(plane, local))
    }

    pub(crate) fn is_running(&self, id: NodeId) -> bool {
        let node = &self.nodes[&id];
        node.running.is_some() && node.stopped.is_none()
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        let ids = self.nodes.keys().copied();
        ids.filter(|id| self.is_running(*id)).collect()
    }

    /// A node's part in the cluster, if its disk has been read.
    pub(crate) fn node(&self, id: NodeId) -> Option<&ClusterNode> {
        let plane = self.nodes[&id].running.as_ref()?.plane()?;
        Some(plane.node())
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let led = |id: &NodeId| Some(self.node(*id)?.leadership()).filter(|led| led.is_self);
        let leaders = self.running().into_iter().filter(|id| led(id).is_some());
        leaders.max_by_key(|id| led(id).map(|led| led.term))
    }

    /// Runs until something is true; whether it was within the time.
    pub(crate) fn until(&mut self, at_most: Duration, is_true: impl Fn(&World) -> bool) -> bool {
        let end = self.now + at_most;
        while self.now < end && !is_true(self) {
            self.run(ms(20), |_| {});
        }
        is_true(self)
    }

    /// Lets everything happen for so long, calling `each` about every ten milliseconds.
    pub(crate) fn run(&mut self, length: Duration, mut each: impl FnMut(&mut World)) {
        let end = self.now + length;
        let mut next_call = self.now;
        while self.now < end {
            if self.now >= next_call {
                each(self);
                self.check_leases();
                next_call = self.now + ms(10);
            }
            let mut next = end.min(next_call);
            next = next.min(self.network.next_arrival().unwrap_or(Time::MAX));
            for node in self.nodes.values() {
                next = next.min(node.next_event(self.now));
            }
            self.now = self.now.max(next);
            while let Some(arrival) = self.network.pop(self.now) {
                let at = arrival.at();
                let Some(node) = self.nodes.get_mut(&at) else {
                    continue;
                };
                let times = node.times(self.now);
                if let Some(running) = &mut node.running {
                    running.arrive(arrival, &mut self.network, times);
                    node.has_arrivals = true;
                }
            }
            let now = self.now;
            let due = self.nodes.iter();
            let due = due.filter(|(_, node)| node.next_event(now) <= now);
            let due: Vec<NodeId> = due.map(|(id, _)| *id).collect();
            for id in due {
                self.drive(id);
            }
        }
    }

    fn check_leases(&self) {
        for node in self.nodes.values() {
            if let (Some(life), LeaseState::Valid { until }) = (node.life, node.lease)
                && node.running.is_some()
                && node.local(self.now) < until
            {
                self.judge.acts(life);
            }
        }
    }

    fn drive(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        if node.restart_at.is_some_and(|at| at <= now) {
            return self.start(id);
        }
        let times = node.times(now);
        let Some(running) = &mut node.running else {
            return;
        };
        if let Some((since, _)) = node.paused.take() {
            let since = {
                let nanos = u128::from(since.as_nanos()) * u128::from(node.rate) / 1_000_000;
                Time::from_nanos(node.origin + nanos as u64)
            };
            running.stalled(times.local - since, times);
        }
        node.has_arrivals = false;
        let moves = std::mem::take(&mut node.moves);
        let (arrived, rest) = moves.into_iter().partition(|(at, ..)| *at <= now);
        node.moves = rest;
        if let Some(plane) = running.plane_mut() {
            for (_, shard, prepared) in arrived {
                plane.shard_arrived(shard, prepared, times.local);
            }
            for (_, life) in node.partings.extract_if(.., |(at, _)| *at <= now) {
                plane.parted(life, times.local);
            }
        }
        let events = running
            .turn(&mut self.network, times)
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        self.judge_state(id);
        for event in events {
            self.hear(id, event);
        }
    }

    fn judge_state(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(plane) = node.running.as_ref().and_then(SimControl::plane) else {
            return;
        };
        let part = plane.node();
        let led = part.leadership();
        if let Some(peer) = part.peer_id().filter(|_| led.is_self) {
            self.judge.leads(peer, led.term);
        }
        if part.state().applied() != node.applied {
            node.applied = part.state().applied();
            self.judge.applied(id, part.state(), now);
        }
    }

    fn hear(&mut self, id: NodeId, event: Event) {
        self.note(&(id, format!("{event:?}")));
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        match event {
            Event::Joined {
                incarnation,
                cluster,
            } => {
                let life = NodeLife {
                    node: id,
                    incarnation,
                };
                node.life = Some(life);
                self.judge.belongs(id, cluster);
                self.judge.joined(life, node.process);
            }
            Event::Identity(_) => self.counts.identities += 1,
            Event::Waits { .. } => self.counts.waits += 1,
            Event::Member(event) => {
                let count = match event {
                    MemberEvent::Up(_) => &mut self.counts.ups,
                    MemberEvent::Left(_) => &mut self.counts.left,
                    MemberEvent::Down(_) => &mut self.counts.downs,
                    MemberEvent::Unreachable(_) => &mut self.counts.unreachable,
                    MemberEvent::Reachable(_) => return,
                };
                *count += 1;
            }
            Event::Shards(changed) => {
                for change in &changed.changes {
                    if !changed.after_gap {
                        self.judge.shard_changed(changed.version, change);
                    }
                    if change.now.moving_to == Some(id) {
                        let at = now + ms(self.rng.random_range(1..60));
                        node.moves.push((at, change.shard, change.now.since));
                    }
                }
            }
            Event::Parting(life) => {
                let at = now + ms(self.rng.random_range(0..200));
                node.partings.push((at, life));
            }
            Event::Lease(lease) => {
                node.lease = lease;
                match lease {
                    LeaseState::Valid { until } => {
                        let until = node.real(until);
                        let life = node.life;
                        let life = life.unwrap_or_else(|| panic!("{id} has a lease and no life"));
                        self.judge.leased(life, until);
                    }
                    LeaseState::Lapsed => self.counts.lapses += 1,
                }
            }
            Event::Note(_) => self.counts.notes += 1,
            Event::LedgerFailed(error) => panic!("{id}: {error}"),
            Event::Stopped(cause) => self.stopped(id, cause),
            Event::Refused(..) | Event::Types(_) | Event::Leader(_) => {}
        }
    }

    fn stopped(&mut self, id: NodeId, cause: StopCause) {
        let after = ms(self.rng.random_range(10..300));
        let comes_back = matches!(cause, StopCause::LifeEnded { .. } | StopCause::Removed);
        let node = self.nodes.get_mut(&id).unwrap();
        node.stopped = Some(cause);
        if comes_back {
            self.counts.lives_ended += 1;
            self.end(id);
            self.network.kill(self.now, id);
            let node = self.nodes.get_mut(&id).unwrap();
            node.restart_at = Some(self.now + after);
        }
    }

    /// All that is not as it should be when there are no faults.
    pub(crate) fn what_is_wrong(&self) -> String {
        let running = self.running();
        let mut wrong = Vec::new();
        for &id in &running {
            let Some(node) = self.node(id) else {
                wrong.push(format!("{id} reads its disk"));
                continue;
            };
            let state = node.self_node().map(|me| me.state);
            if state != Some(MemberState::Up) {
                wrong.push(format!("{id} is {state:?}"));
            }
            if !node.has_control_quorum(self.nodes[&id].local(self.now)) {
                wrong.push(format!("{id} has no lease"));
            }
            let up: Vec<NodeId> = node.members().up().map(|member| member.node).collect();
            if up != running {
                wrong.push(format!("{id} sees {up:?} up of {running:?}"));
            }
            if node.state().ownership().moves().count() > 0 {
                wrong.push(format!("{id} sees moves"));
            }
        }
        for id in self.nodes.keys() {
            let node = &self.nodes[id];
            if node.stopped.is_none() && node.running.is_none() {
                wrong.push(format!("{id} does not run"));
            }
        }
        wrong.join("; ")
    }

    /// No faults any more: all who have not left are up and agree, and every shard has an owner that is up.
    pub(crate) fn peace(&mut self) {
        self.network.heal(self.now);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = self.nodes.get_mut(&id).unwrap();
            if let Some((since, until)) = node.paused {
                node.paused = Some((since, until.min(self.now)));
            }
            if node.running.is_none() && !matches!(node.stopped, Some(StopCause::Left)) {
                self.start(id);
            }
        }
        let calm = self.until(ms(30_000), |world| world.what_is_wrong().is_empty());
        assert!(calm, "no peace: {}", self.what_is_wrong());
        for id in self.running() {
            for shard in keys() {
                let _ = self.with(id, |plane, now| plane.want_shard(shard, now));
            }
        }
        let owned = self.until(ms(8_000), |world| {
            world.running().iter().all(|id| {
                let node = world.node(*id);
                let owner = |shard| node.and_then(|node| node.shard(shard)?.owner);
                keys().all(|shard| owner(shard).is_some_and(|owner| world.is_running(owner)))
            })
        });
        assert!(owned, "shards without owners: {}", self.what_is_wrong());
    }

    fn note(&mut self, what: &impl Hash) {
        let mut digest = DefaultHasher::new();
        (self.now, what).hash(&mut digest);
        self.trace.push(digest.finish());
    }

    pub(crate) fn into_trace(self) -> Trace {
        self.trace
    }
}
