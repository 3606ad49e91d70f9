//! Whole control planes with disks and clocks of their own on a virtual network, from a seed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{EntityTypeId, NodeId, ShardId, ShardKey};
use corecast::base::rng::{Rng, seeded};
use corecast::cluster::message::ControlMessage;
use corecast::cluster::node::ClusterNode;
use corecast::cluster::node::mutant::NodeMutant;
use corecast::cluster::node::output::{LeaseState, Output, StopCause, Write};
use corecast::cluster::node::settings::{NodeSettings, Seed};
use corecast::cluster::steward::StewardSettings;
use corecast::consensus::bootstrap::Start;
use corecast::consensus::peer::NodeLife;
use corecast::consensus::settings::ConsensusSettings;
use corecast::membership::event::MemberEvent;
use corecast::sharding::ownership::TypeSpec;
use corecast::sharding::strategy::PlacementStrategy;
use corecast::sim::network::{LinkId, Network, NetworkSettings};
use corecast::wire::kind::Kind;
use rand::RngExt;

use crate::control_judge::Judge;
use crate::control_node::{Directory, Done, Input, SimNode, ms};
use crate::seeds::Trace;

pub(crate) const SHARDS: u32 = 6;

/// What happened, so that a test can show that it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    pub(crate) disks_lost: u64,
    pub(crate) pauses: u64,
    pub(crate) partitions: u64,
    pub(crate) cuts: u64,
    pub(crate) slow: u64,
    pub(crate) joins: u64,
    pub(crate) leaves: u64,
    pub(crate) left: u64,
    pub(crate) waits: u64,
    pub(crate) lives_ended: u64,
    pub(crate) removed: u64,
    pub(crate) ups: u64,
    pub(crate) downs: u64,
    pub(crate) unreachable: u64,
    pub(crate) reachable: u64,
    pub(crate) lapses: u64,
    pub(crate) refusals: u64,
    pub(crate) restores: u64,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) network: Network<Vec<u8>>,
    pub(crate) nodes: BTreeMap<NodeId, SimNode>,
    pub(crate) judge: Judge,
    pub(crate) counts: Counts,
    pub(crate) settings: fn(NodeSettings) -> NodeSettings,
    pub(crate) mutant: Option<NodeMutant>,
    /// The chance that a move does not arrive.
    pub(crate) stuck_moves: f64,
    seeds: Vec<Seed>,
    processes: u64,
    pub(crate) dialed: BTreeMap<LinkId, NodeId>,
    trace: Trace,
}

pub(crate) fn address_of(node: NodeId) -> SocketAddr {
    let [_, a, b, c] = node.0.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 7_000))
}

fn node_at(address: SocketAddr) -> NodeId {
    match address {
        SocketAddr::V4(v4) => {
            let [_, a, b, c] = v4.ip().octets();
            NodeId(u32::from_be_bytes([0, a, b, c]))
        }
        SocketAddr::V6(_) => unreachable!("nodes have IPv4 addresses here"),
    }
}

pub(crate) fn types() -> Vec<TypeSpec> {
    let spec = |name: &str, strategy, role: Option<&str>| TypeSpec {
        name: name.into(),
        shards: SHARDS,
        strategy,
        role: role.map(str::to_owned),
        keep_running: false,
    };
    vec![
        spec("cart", PlacementStrategy::LeastLoaded, None),
        spec("user", PlacementStrategy::HashRing, Some("store")),
    ]
}

pub(crate) fn keys() -> impl Iterator<Item = ShardKey> {
    (0..2).flat_map(|entity_type| {
        (0..SHARDS).map(move |shard| ShardKey {
            entity_type: EntityTypeId(entity_type),
            shard: ShardId(shard),
        })
    })
}

/// Quick enough for many faults in little time, slow enough for many seeds.
pub(crate) fn quick(settings: NodeSettings) -> NodeSettings {
    let settings = settings.fast();
    NodeSettings {
        consensus: ConsensusSettings {
            heartbeat: ms(40),
            election_min: ms(120),
            election_max: ms(240),
            lease: ms(800),
            proposal_timeout: ms(1_000),
            snapshot_entries: 40,
            keep_entries: 10,
            chunk_bytes: 500,
            snapshot_timeout: ms(500),
            ..settings.consensus
        },
        steward: StewardSettings {
            settle: ms(300),
            move_timeout: ms(1_000),
            retry: ms(400),
            forget_dead_after: ms(3_000),
            ..StewardSettings::default()
        },
        ..settings
    }
}

impl World {
    pub(crate) fn new(
        seed: u64,
        founders: u32,
        settings: fn(NodeSettings) -> NodeSettings,
    ) -> World {
        let network = NetworkSettings {
            connect_timeout: ms(100),
            gives_up_after: ms(1_500),
            resend_after: ms(20),
            ..NetworkSettings::default()
        };
        let mut world = World {
            now: Time::ZERO,
            rng: seeded(seed, 3),
            network: Network::new(seed, network),
            nodes: BTreeMap::new(),
            judge: Judge::default(),
            counts: Counts::default(),
            settings,
            mutant: None,
            stuck_moves: 0.0,
            seeds: (1..=founders)
                .map(|node| Seed {
                    node: NodeId(node),
                    address: Some(address_of(NodeId(node))),
                })
                .collect(),
            processes: 0,
            dialed: BTreeMap::new(),
            trace: Trace::new(),
        };
        for node in 1..=founders {
            world.add(NodeId(node), Start::Found);
        }
        world
    }

    /// A node that does not run yet. Odd ones have the role `store`.
    pub(crate) fn add(&mut self, id: NodeId, start: Start) {
        let settings = self.settings_of(id, start);
        let node = SimNode::new(settings, &mut self.rng);
        self.nodes.insert(id, node);
    }

    fn settings_of(&self, id: NodeId, start: Start) -> NodeSettings {
        let settings = (self.settings)(NodeSettings::new(id, address_of(id)));
        let has_role = id.0 % 2 == 1;
        NodeSettings {
            roles: has_role.then(|| "store".to_owned()).into_iter().collect(),
            data_cores: 2,
            seeds: self.seeds.clone(),
            start,
            types: types(),
            mutant: self.mutant,
            ..settings
        }
    }

    pub(crate) fn start_all(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.start(id));
    }

    /// A new node comes.
    pub(crate) fn join(&mut self, id: NodeId) {
        self.counts.joins += 1;
        self.add(id, Start::Join);
        self.start(id);
    }

    /// Starts the process of a node.
    pub(crate) fn start(&mut self, id: NodeId) {
        self.network.start(id);
        self.processes += 1;
        let rng = seeded(self.rng.random(), 0);
        let (now, mutant) = (self.now, self.mutant);
        let node = self.nodes.get_mut(&id).unwrap();
        node.clear();
        (node.stopped, node.restart_at) = (None, None);
        node.process = self.processes;
        node.settings.mutant = mutant;
        let found = node.directory.found();
        let started = ClusterNode::start(node.settings.clone(), found, rng, node.local(now));
        node.running = Some(started.unwrap_or_else(|error| panic!("{id}: {error}")));
        self.note(&("start", id));
        self.take_outputs(id);
    }

    /// The process or the whole machine dies.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.running.is_none() {
            return;
        }
        node.directory.crash(&mut self.rng);
        node.clear();
        (node.stopped, node.restart_at) = (None, None);
        self.counts.crashes += 1;
        match self.rng.random_bool(0.5) {
            true => self.network.kill(self.now, id),
            false => self.network.power_off(self.now, id),
        }
        self.note(&("crash", id));
    }

    /// A node that is not running gets an empty disk. It founds nothing with it.
    pub(crate) fn replace_disk(&mut self, id: NodeId) {
        self.counts.disks_lost += 1;
        let settings = self.settings_of(id, Start::Join);
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.running.is_none());
        node.directory = Directory::default();
        node.settings = settings;
    }

    pub(crate) fn pause(&mut self, id: NodeId, time: Duration) {
        self.counts.pauses += 1;
        let now = self.now;
        self.nodes.get_mut(&id).unwrap().paused = Some((now, now + time));
    }

    pub(crate) fn leave(&mut self, id: NodeId) {
        self.counts.leaves += 1;
        self.with(id, |node, now| node.leave(now));
    }

    pub(crate) fn want(&mut self, id: NodeId, shard: ShardKey) -> bool {
        let mut wanted = false;
        self.with(id, |node, now| {
            wanted = node.want_shard(shard, now).is_ok();
        });
        wanted
    }

    /// Hands something to a node, and does what it wants.
    fn with(&mut self, id: NodeId, call: impl FnOnce(&mut ClusterNode, Time)) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let local = node.local(now);
        if let Some(running) = node.running.as_mut().filter(|_| node.stopped.is_none()) {
            call(running, local);
            self.take_outputs(id);
        }
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        let running = self.nodes.iter().filter(|(_, node)| node.is_running());
        running.map(|(id, _)| *id).collect()
    }

    pub(crate) fn node(&self, id: NodeId) -> &ClusterNode {
        let node = self.nodes[&id].running.as_ref();
        node.unwrap_or_else(|| panic!("{id} does not run"))
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let running = self.running();
        let leads = |id: &NodeId| self.node(*id).leadership().is_self;
        let leaders = running.into_iter().filter(leads);
        leaders.max_by_key(|id| self.node(*id).leadership().term)
    }

    /// Runs until something is true; whether it was within the time.
    pub(crate) fn until(&mut self, at_most: Duration, is_true: impl Fn(&World) -> bool) -> bool {
        let end = self.now + at_most;
        while self.now < end && !is_true(self) {
            self.run(ms(20), |_| {});
        }
        is_true(self)
    }

    /// Lets everything happen until `end`, calling `each` about every ten milliseconds.
    pub(crate) fn run(&mut self, length: Duration, mut each: impl FnMut(&mut World)) {
        let end = self.now + length;
        let mut next_call = self.now;
        let mut rounds = (self.now, 0);
        while self.now < end {
            rounds = match rounds {
                (at, rounds) if at == self.now => (at, rounds + 1),
                _ => (self.now, 0),
            };
            assert!(rounds.1 < 10_000, "{} spins", self.who_spins());
            if self.now >= next_call {
                each(self);
                self.check();
                next_call = self.now + ms(10);
            }
            let mut next = end.min(next_call);
            next = next.min(self.network.next_arrival().unwrap_or(Time::MAX));
            for node in self.nodes.values() {
                next = next.min(node.next_event());
            }
            self.now = self.now.max(next);
            while let Some(arrival) = self.network.pop(self.now) {
                self.arrive(arrival);
            }
            let due = self.nodes.iter().filter(|(_, node)| {
                node.next_event() <= self.now || !node.inbox.is_empty() && node.paused.is_none()
            });
            let due: Vec<NodeId> = due.map(|(id, _)| *id).collect();
            for id in due {
                self.drive(id);
            }
        }
    }

    fn who_spins(&self) -> String {
        let due = self
            .nodes
            .iter()
            .filter(|(_, n)| n.next_event() <= self.now);
        due.map(|(id, _)| id.to_string()).collect()
    }

    /// Nobody acts whose life is over, and no two run one shard.
    fn check(&mut self) {
        for node in self.nodes.values() {
            if let (Some(life), LeaseState::Valid { until }) = (node.life, node.lease)
                && node.is_running()
                && node.local(self.now) < until
            {
                self.judge.acts(life);
            }
        }
        for shard in keys() {
            let runs = self
                .nodes
                .iter()
                .filter(|(_, node)| node.runs(shard, self.now));
            let runs: Vec<_> = runs.map(|(id, _)| *id).collect();
            assert!(runs.len() <= 1, "{shard} runs on {runs:?} at once");
        }
    }

    fn drive(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        if node.restart_at.is_some_and(|at| at <= now) {
            return self.start(id);
        }
        if !node.is_running() || node.paused.is_some_and(|(_, until)| until > now) {
            return;
        }
        if let Some((since, _)) = node.paused.take() {
            let late = node.local(now) - node.local(since);
            self.with(id, |node, now| node.stalled(late, now));
        }
        while let Some(input) = self.nodes.get_mut(&id).unwrap().inbox.pop_front() {
            self.with(id, |node, now| match input {
                Input::Connected(peer) => node.connected(peer, now),
                Input::Disconnected(peer) => node.disconnected(peer, now),
                Input::Datagram(bytes) => node.handle_datagram(&bytes, now),
                Input::Message(from, bytes) => {
                    let kind = Kind::from_code(bytes[0]).unwrap();
                    let message = ControlMessage::decode(kind, &bytes[1..]).unwrap();
                    node.handle_message(from, message, now);
                }
            });
        }
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some((_, done)) = node.writes.pop_front_if(|(at, _)| *at <= now)
        {
            node.directory.sync(done);
            self.with(id, |node, now| match done {
                Done::Log(ticket) => node.log_written(ticket, now),
                Done::Record(ticket) => node.record_written(ticket, now),
            });
        }
        self.arrive_moves(id);
        let due = |(at, _): &mut (Time, NodeLife)| *at <= now;
        let node = self.nodes.get_mut(&id).unwrap();
        for (_, life) in node.partings.extract_if(.., due).collect::<Vec<_>>() {
            self.with(id, |node, now| node.parted(life, now));
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let local = node.local(now);
        if node
            .running
            .as_ref()
            .is_some_and(|n| n.next_deadline() <= local)
        {
            self.with(id, |node, now| node.tick(now));
        }
        self.dial(id);
    }

    /// Shards that were on their way to a node have come, if their sources have sealed them.
    fn arrive_moves(&mut self, id: NodeId) {
        let now = self.now;
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some(first) = node
                .arrivals
                .first_entry()
                .filter(|first| *first.key() <= now)
        {
            for (shard, prepared) in first.remove() {
                let source = self.nodes[&id].shards.get(&shard).and_then(|r| r.owner);
                let sealed = source
                    .and_then(|source| self.nodes.get(&source))
                    .is_some_and(|source| source.has_sealed(shard, prepared));
                let roll = self.rng.random_bool(0.05);
                if !sealed {
                    let node = self.nodes.get_mut(&id).unwrap();
                    if node.has_sealed(shard, prepared) {
                        let again = node.arrivals.entry(now + ms(20)).or_default();
                        again.push((shard, prepared));
                    }
                } else if roll {
                    self.with(id, |node, now| node.shard_refused(shard, prepared, now));
                } else {
                    self.with(id, |node, now| node.shard_arrived(shard, prepared, now));
                }
            }
        }
    }

    fn take_outputs(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(output) = node.running.as_mut().and_then(ClusterNode::poll_output) else {
                break;
            };
            assert!(
                node.stopped.is_none(),
                "{id} goes on after its end: {output:?}"
            );
            self.take_output(id, output);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(running) = node.running.as_ref().filter(|_| node.stopped.is_none()) else {
            return;
        };
        let led = running.leadership();
        if let Some(peer) = running.peer_id().filter(|_| led.is_self) {
            self.judge.leads(peer, led.term);
        }
        if running.state().applied() != node.applied {
            node.applied = running.state().applied();
            self.judge.applied(id, running.state(), self.now);
            let applied = node.applied;
            self.note(&(id, applied));
        }
    }

    fn take_output(&mut self, id: NodeId, output: Output) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        match output {
            Output::Send { to, message } => self.send(id, to, message),
            Output::Datagram { to, bytes } => {
                let to = node_at(to);
                self.network.send_datagram(now, id, to, bytes);
            }
            Output::Connect { to, address } => {
                assert_eq!(address, address_of(to));
                node.wanted_links.insert(to);
                node.redial.insert(to, now);
            }
            Output::Disconnect { to } => {
                node.wanted_links.remove(&to);
                node.redial.remove(&to);
            }
            Output::Write(write) => {
                let latency = self.rng.random_range(50..50 + node.slow_disk);
                let last = node.writes.back().map_or(now, |(at, _)| *at);
                let at = last.max(now + Duration::from_micros(latency));
                match write {
                    Write::Record { ticket, record } => {
                        node.directory.write_record(ticket, record);
                        node.writes.push_back((at, Done::Record(ticket)));
                    }
                    Write::Log(write) => {
                        let done = write.ticket.map(|ticket| (at, Done::Log(ticket)));
                        node.writes.extend(done);
                        node.directory.write_log(write);
                    }
                }
            }
            Output::Joined {
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
                self.note(&("joined", id, incarnation));
            }
            Output::Waits { .. } => self.counts.waits += 1,
            Output::Parting(life) => {
                let at = now + ms(self.rng.random_range(0..200));
                let node = self.nodes.get_mut(&id).unwrap();
                node.partings.push((at, life));
            }
            Output::Member(event) => {
                let count = match &event {
                    MemberEvent::Up(_) => &mut self.counts.ups,
                    MemberEvent::Left(_) => &mut self.counts.left,
                    MemberEvent::Down(_) => &mut self.counts.downs,
                    MemberEvent::Unreachable(_) => &mut self.counts.unreachable,
                    MemberEvent::Reachable(_) => &mut self.counts.reachable,
                };
                *count += 1;
                self.note(&(id, format!("{event:?}")));
            }
            Output::Shards(changed) => {
                assert!(changed.version >= node.shards_version, "{id} goes back");
                node.shards_version = changed.version;
                for change in &changed.changes {
                    let known = node.shards.insert(change.shard, change.now);
                    assert_eq!(
                        known.unwrap_or_default(),
                        change.before,
                        "{id} was not told of a change of {}",
                        change.shard
                    );
                    if !changed.after_gap {
                        self.judge.shard_changed(changed.version, change);
                    }
                    if change.now.moving_to == Some(id) && !self.rng.random_bool(self.stuck_moves) {
                        let at = now + ms(self.rng.random_range(1..60));
                        let arrival = (change.shard, change.now.since);
                        node.arrivals.entry(at).or_default().push(arrival);
                    }
                }
            }
            Output::Lease(lease) => {
                node.lease = lease;
                let life = node.life;
                match lease {
                    LeaseState::Valid { until } => {
                        let until = node.real(until);
                        let life = life.unwrap_or_else(|| panic!("{id} has a lease and no life"));
                        self.judge.leased(life, until);
                    }
                    LeaseState::Lapsed => self.counts.lapses += 1,
                }
            }
            Output::Refused { node: whom, why } => {
                self.counts.refusals += 1;
                self.note(&(id, whom, format!("{why:?}")));
            }
            Output::Types(_) | Output::Leader(_) => {}
            Output::Stopped(cause) => self.stopped(id, cause),
        }
    }

    /// What a driver does when its node has stopped: it starts the next, unless the node has left.
    fn stopped(&mut self, id: NodeId, cause: StopCause) {
        let after = ms(self.rng.random_range(10..300));
        let now = self.now;
        self.network.kill(now, id);
        self.note(&(id, format!("{cause:?}")));
        let node_stopped = cause.clone();
        match cause {
            StopCause::Left => {
                let node = self.nodes.get_mut(&id).unwrap();
                node.has_left = true;
            }
            StopCause::LifeEnded { .. } | StopCause::Removed => {
                match cause {
                    StopCause::Removed => self.counts.removed += 1,
                    _ => self.counts.lives_ended += 1,
                }
                let node = self.nodes.get_mut(&id).unwrap();
                node.directory.crash(&mut self.rng);
                node.restart_at = Some(now + after);
            }
            StopCause::Refused(_) => {}
            other => panic!("{id} has stopped: {other}"),
        }
        let node = self.nodes.get_mut(&id).unwrap();
        node.stopped = Some(node_stopped);
        node.links.clear();
        node.writes.clear();
        node.inbox.clear();
    }

    pub(crate) fn note(&mut self, what: &impl Hash) {
        let mut digest = DefaultHasher::new();
        (self.now, what).hash(&mut digest);
        self.trace.push(digest.finish());
    }

    pub(crate) fn into_trace(self) -> Trace {
        self.trace
    }
}
