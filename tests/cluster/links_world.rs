//! Nodes that are nothing but their connections, over a virtual network, in virtual time; and a judge of what they say.
//!
//! Each node has a porch, a coordination core and some data cores. What each core sends carries the connection on which it
//! was accepted and its number there, so that the judge needs to believe nobody.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{CoreId, Incarnation, NodeId};
use corecast::base::rng::{Rng, seeded};
use corecast::links::counters::LinkCounters;
use corecast::links::ending::Gone;
use corecast::links::links::Links;
use corecast::links::output::Down;
use corecast::links::porch::Porch;
use corecast::links::refusal::NotSent;
use corecast::links::remote::{ConnectionId, Remote};
use corecast::links::settings::LinkSettings;
use corecast::rand::RngExt;
use corecast::sim::network::{Arrival, LinkId, Network, NetworkSettings};
use corecast::wire::address::{Life, Sender, Target};
use corecast::wire::credit::Credit;
use corecast::wire::header::Header;
use corecast::wire::hello::{CheckedIdentity, Identity};
use corecast::wire::kind::Kind;
use corecast::wire::limits::FrameLimits;
use corecast::wire::message::TypeTag;
use corecast::wire::preamble::Purpose;
use corecast::wire::tables::Tables;
use corecast::wire::type_registry::{KnownType, TypeRegistry};

pub const CLUSTER_ID: u128 = 7;

/// One end of a connection in one run of a node's process.
pub type End = (NodeId, u32, usize, ConnectionId);

/// What became of the frames in one direction of one connection.
#[derive(Debug, Default)]
pub struct Direction {
    pub accepted: u64,
    pub delivered: u64,
    pub receiver: Option<End>,
    pub down: Option<Down>,
}

pub struct Socket {
    /// The core and the connection that it belongs to; on the porch there is no core yet.
    pub place: (Option<usize>, ConnectionId),
    pub inbox: VecDeque<u8>,
    pub is_blocked: bool,
    pub gone: Option<Gone>,
    /// Nothing comes any more, and the end of the other side is not heard of.
    pub is_deaf: bool,
    /// Nothing leaves any more, and the other side does not hear of the end.
    pub is_mute: bool,
}

pub struct Node {
    pub run: u32,
    pub life: Life,
    pub porch: Porch,
    pub cores: Vec<Links>,
    pub sockets: BTreeMap<LinkId, Socket>,
    pub by_connection: BTreeMap<(usize, ConnectionId), LinkId>,
    pub on_porch: BTreeMap<ConnectionId, LinkId>,
    /// Since when and until when it does nothing.
    pub paused: Option<(Time, Time)>,
    pub waiting: Vec<Arrival<Vec<u8>>>,
    /// Until when a core takes no frames.
    pub busy_until: Vec<Time>,
    /// Frames that a core keeps.
    pub kept: Vec<(Time, usize, ConnectionId, Credit)>,
    /// When it learns its life and its cluster.
    pub joins_at: Option<Time>,
}

pub struct World {
    pub now: Time,
    pub network: Network<Vec<u8>>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub settings: LinkSettings,
    pub limits: FrameLimits,
    pub data_cores: u16,
    /// Who dials whom, of the nodes.
    pub wants: Vec<(NodeId, NodeId)>,
    pub directions: BTreeMap<End, Direction>,
    /// The ends that are up, with the other end's remote.
    pub ups: BTreeMap<(NodeId, usize, Remote), ConnectionId>,
    pub last_change: Time,
    pub totals: Vec<LinkCounters>,
    pub trace: Vec<u64>,
    pub rng: Rng,
    pub downs: BTreeMap<&'static str, u64>,
    pub in_order: u64,
    pub rooms: u64,
    pub runs: BTreeMap<NodeId, u32>,
    pub seed: u64,
    /// Some nodes know other types.
    pub tables_differ: bool,
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub fn ip(node: NodeId) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + node.0))
}

impl World {
    pub fn new(seed: u64, network: NetworkSettings) -> World {
        World {
            now: Time::ZERO,
            network: Network::new(seed, network),
            nodes: BTreeMap::new(),
            settings: LinkSettings::default(),
            limits: FrameLimits {
                frame_bytes: 64 << 10,
                write_buffer_bytes: 16 << 10,
                read_buffer_bytes: 8 << 10,
            },
            data_cores: 1,
            wants: Vec::new(),
            directions: BTreeMap::new(),
            ups: BTreeMap::new(),
            last_change: Time::ZERO,
            totals: Vec::new(),
            trace: Vec::new(),
            rng: seeded(seed, 0x6C69_6E6B),
            downs: BTreeMap::new(),
            in_order: 0,
            rooms: 0,
            runs: BTreeMap::new(),
            seed,
            tables_differ: false,
        }
    }

    fn identity(&self, node: NodeId, run: u32, joined: bool) -> Arc<CheckedIdentity> {
        let mut types = TypeRegistry::default();
        if self.tables_differ {
            let own = KnownType {
                name: format!("test.Of{}", node.0),
                version: 1,
                fingerprint: u64::from(node.0) + 1,
            };
            types.add(own).unwrap();
        }
        let identity = Identity {
            cluster: "shop".into(),
            cluster_id: joined.then_some(CLUSTER_ID),
            life: Life::new(node, Incarnation(if joined { run } else { 1 })),
            cores: self.data_cores + 1,
            advertised: format!("node{}:4000", node.0),
            limits: self.limits,
            tables: Arc::new(Tables::new(types)),
        };
        Arc::new(identity.check().unwrap())
    }

    /// A node begins; it learns its identity some time later, or has it.
    pub fn start(&mut self, node: NodeId, joins_after: Option<Duration>) {
        let run = self.runs.entry(node).or_default();
        *run += 1;
        let run = *run;
        let identity = self.identity(node, run, joins_after.is_none());
        self.network.start(node);
        let cores = self.data_cores + 1;
        let links = (0..cores).map(|core| {
            let purpose = match core {
                0 => Purpose::Control,
                _ => Purpose::Data,
            };
            let rng = seeded(
                self.seed,
                u64::from(node.0) << 32 | u64::from(run) << 8 | u64::from(core),
            );
            Links::new(
                self.settings.clone(),
                purpose,
                CoreId(core),
                identity.clone(),
                rng,
            )
            .unwrap()
        });
        let state = Node {
            run,
            life: identity.get().life,
            porch: Porch::new(
                &self.settings,
                identity.clone(),
                CoreId(0),
                (1..cores).map(CoreId).collect(),
            )
            .unwrap(),
            cores: links.collect(),
            sockets: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            on_porch: BTreeMap::new(),
            paused: None,
            waiting: Vec::new(),
            busy_until: vec![Time::ZERO; usize::from(cores)],
            kept: Vec::new(),
            joins_at: joins_after.map(|after| self.now + after),
        };
        self.nodes.insert(node, state);
        for (from, to) in self.wants.clone() {
            if from == node {
                self.want(from, to);
            }
        }
        self.turn(node);
    }

    /// Every core of a node wants its counterparts on another.
    pub fn want(&mut self, from: NodeId, to: NodeId) {
        let (now, data_cores) = (self.now, self.data_cores);
        let address = format!("node{}:4000", to.0);
        if let Some(node) = self.nodes.get_mut(&from) {
            node.cores[0].want(Remote::control(to), &address, now);
            for core in &mut node.cores[1..] {
                for there in 1..=data_cores {
                    core.want(Remote::data(to, CoreId(there)), &address, now);
                }
            }
        }
    }

    /// No core of a node wants those of another any more.
    pub fn unwant(&mut self, from: NodeId, to: NodeId) {
        let (now, data_cores) = (self.now, self.data_cores);
        if let Some(node) = self.nodes.get_mut(&from) {
            node.cores[0].unwant(Remote::control(to), now);
            for core in &mut node.cores[1..] {
                for there in 1..=data_cores {
                    core.unwant(Remote::data(to, CoreId(there)), now);
                }
            }
        }
        self.turn(from);
    }

    /// What is between the ends of one connection of a node forgets it, in one direction or both: a firewall, say. Nobody is
    /// told, now or later.
    pub fn forget_link(&mut self, node: NodeId, is_deaf: bool, is_mute: bool) -> bool {
        let Some(state) = self.nodes.get_mut(&node) else {
            return false;
        };
        let count = state.sockets.len();
        if count == 0 {
            return false;
        }
        let which = self.rng.random_range(0..count);
        let socket = state.sockets.values_mut().nth(which).unwrap();
        socket.is_deaf |= is_deaf;
        socket.is_mute |= is_mute;
        true
    }

    /// The ends that are up while the other end of the same connection is not.
    pub fn half_open(&self) -> Vec<End> {
        let mut half = Vec::new();
        for (&(id, core, remote), &connection) in &self.ups {
            let node = &self.nodes[&id];
            let link = node.by_connection[&(core, connection)];
            let other = self.nodes.get(&remote.node);
            let ends = other.into_iter().flat_map(|other| &other.by_connection);
            let mut ends = ends.filter(|(_, of)| **of == link).map(|(end, _)| *end);
            let is_up = |(there, end): (usize, ConnectionId)| {
                let mut ups = self.ups.iter();
                ups.any(|((at, of, _), up)| (*at, *of, *up) == (remote.node, there, end))
            };
            if !ends.any(is_up) {
                half.push((id, node.run, core, connection));
            }
        }
        half
    }

    /// A process, or a whole machine, dies.
    pub fn kill(&mut self, node: NodeId, machine: bool) {
        let Some(state) = self.nodes.remove(&node) else {
            return;
        };
        match machine {
            true => self.network.power_off(self.now, node),
            false => self.network.kill(self.now, node),
        }
        self.totals
            .extend(state.cores.iter().map(|core| core.counters().clone()));
        self.ups.retain(|(at, ..), _| *at != node);
        self.last_change = self.now;
    }

    /// A node does nothing for a while.
    pub fn pause(&mut self, node: NodeId, time: Duration) {
        if let Some(state) = self.nodes.get_mut(&node)
            && state.paused.is_none()
        {
            state.paused = Some((self.now, self.now + time));
        }
    }

    /// A core sends a frame, if it may.
    pub fn send(
        &mut self,
        from: NodeId,
        core: usize,
        remote: Remote,
        length: usize,
    ) -> Result<(), NotSent> {
        let Some(node) = self.nodes.get_mut(&from) else {
            return Ok(());
        };
        if node.paused.is_some() {
            return Ok(());
        }
        let sender = Sender {
            life: node.life,
            core: CoreId(core as u16),
            stream: 0,
        };
        let header = match core {
            0 => Header::new(Kind::Report, Target::Node, sender),
            _ => {
                let target = Target::Actor {
                    incarnation: Incarnation(1),
                    core: remote.core.unwrap(),
                    cell: 1,
                };
                let mut header = Header::new(Kind::Tell, target, sender);
                header.tag = TypeTag {
                    fingerprint: 77,
                    version: 1,
                };
                header
            }
        };
        let links = &mut node.cores[core];
        let connection = links.connection(remote);
        let end = connection.map(|connection| (from, node.run, core, connection));
        let number = end.map_or(1, |end| {
            self.directions.entry(end).or_default().accepted + 1
        });
        let mut payload = vec![0xAB; 24 + length];
        payload[..4].copy_from_slice(&from.0.to_le_bytes());
        payload[4..8].copy_from_slice(&node.run.to_le_bytes());
        payload[8..16].copy_from_slice(&connection.map_or(0, number_of).to_le_bytes());
        payload[16..24].copy_from_slice(&number.to_le_bytes());
        let ticket = links.write_bytes(remote, &header, &[], &payload)?;
        assert_eq!(
            (Some(ticket.connection), ticket.number),
            (connection, number)
        );
        self.directions.entry(end.unwrap()).or_default().accepted = number;
        self.turn(from);
        Ok(())
    }

    /// Runs until a time.
    pub fn run_until(&mut self, until: Time) {
        loop {
            let mut next = self.network.next_arrival();
            let mut sooner = |at: Option<Time>| {
                if let Some(at) = at {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            };
            for node in self.nodes.values() {
                match node.paused {
                    Some((_, end)) => sooner(Some(end)),
                    None => {
                        node.cores.iter().for_each(|core| sooner(core.deadline()));
                        sooner(node.porch.deadline());
                        sooner(node.joins_at);
                        node.kept.iter().for_each(|(at, ..)| sooner(Some(*at)));
                        let busy = node.busy_until.iter().filter(|at| **at > self.now);
                        busy.for_each(|at| sooner(Some(*at)));
                    }
                }
            }
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = self.now.max(next);
            while let Some(arrival) = self.network.pop(self.now) {
                let at = arrival.at();
                let Some(node) = self.nodes.get_mut(&at) else {
                    continue;
                };
                if node.paused.is_some() {
                    node.waiting.push(arrival);
                } else {
                    self.arrive(at, arrival);
                    self.turn(at);
                }
            }
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                self.wake(id);
            }
        }
    }

    /// What is due at a node, its inputs first.
    fn wake(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if let Some((since, until)) = node.paused {
            if now < until {
                return;
            }
            node.paused = None;
            let late = now - since;
            node.cores.iter_mut().for_each(|core| core.stalled(late));
            for arrival in std::mem::take(&mut node.waiting) {
                self.arrive(id, arrival);
            }
            self.turn(id);
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let mut moved = false;
        let kept = std::mem::take(&mut node.kept);
        for (at, core, connection, credit) in kept {
            if at <= now {
                node.cores[core].taken(connection, credit, now);
                moved = true;
            } else {
                node.kept.push((at, core, connection, credit));
            }
        }
        moved |= node.busy_until.contains(&now);
        if node.joins_at.is_some_and(|at| at <= now) {
            node.joins_at = None;
            let run = node.run;
            let identity = self.identity(id, run, true);
            let node = self.nodes.get_mut(&id).unwrap();
            node.life = identity.get().life;
            node.porch.set_identity(identity.clone());
            for core in &mut node.cores {
                core.set_identity(identity.clone(), now);
            }
            moved = true;
        }
        let node = self.nodes.get_mut(&id).unwrap();
        if node.porch.deadline().is_some_and(|at| at <= now) {
            node.porch.tick(now);
            moved = true;
        }
        for core in &mut node.cores {
            if core.deadline().is_some_and(|at| at <= now) {
                core.tick(now);
                moved = true;
            }
        }
        if moved {
            self.turn(id);
        }
    }

    /// Both ends of every wanted pair believe in the same one connection, and there are no other sockets.
    pub fn check_settled(&self) {
        let mut expected = BTreeMap::<NodeId, usize>::new();
        for (a, b, pairs) in self.wanted_pairs() {
            for (core_a, remote_a, core_b, remote_b) in pairs {
                let link = |id: NodeId, core: usize, remote: Remote| {
                    let node = &self.nodes[&id];
                    let connection = node.cores[core].connection(remote);
                    assert!(
                        connection.is_some(),
                        "{id} {core} has no connection to {remote}"
                    );
                    node.by_connection[&(core, connection.unwrap())]
                };
                let (one, two) = (link(a, core_a, remote_a), link(b, core_b, remote_b));
                assert_eq!(
                    one, two,
                    "{a} {core_a} and {b} {core_b} use different connections"
                );
                *expected.entry(a).or_default() += 1;
                *expected.entry(b).or_default() += 1;
            }
        }
        for (id, node) in &self.nodes {
            let expected = expected.get(id).copied().unwrap_or(0);
            assert_eq!(node.sockets.len(), expected, "sockets of {id}");
            assert!(node.porch.is_empty());
            let known: usize = node.cores.iter().map(Links::len).sum();
            assert_eq!(known, expected, "connections of {id}");
        }
    }

    /// Everything that was accepted on connections that are up has come.
    pub fn check_delivered(&self) {
        for (end, direction) in &self.directions {
            let is_alive = self.nodes.get(&end.0).is_some_and(|node| node.run == end.1);
            if is_alive && direction.down.is_none() {
                assert_eq!(direction.delivered, direction.accepted, "{end:?}");
            }
        }
    }

    /// Everything that was accepted on connections that a node has closed in good order has come, in both directions.
    pub fn check_all_came(&self, node: NodeId) {
        for (end, direction) in &self.directions {
            let is_of_it = end.0 == node
                || direction
                    .receiver
                    .is_some_and(|(receiver, ..)| receiver == node);
            if is_of_it {
                assert_eq!(direction.delivered, direction.accepted, "{end:?}");
            }
        }
    }

    /// Pairs of nodes of which one dials the other, and the ends of their connections.
    #[allow(clippy::type_complexity)]
    fn wanted_pairs(&self) -> Vec<(NodeId, NodeId, Vec<(usize, Remote, usize, Remote)>)> {
        let mut pairs: Vec<(NodeId, NodeId)> = self
            .wants
            .iter()
            .map(|(a, b)| (*a.min(b), *a.max(b)))
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut all = Vec::new();
        for (a, b) in pairs {
            let mut ends = vec![(0, Remote::control(b), 0, Remote::control(a))];
            for one in 1..=self.data_cores {
                for two in 1..=self.data_cores {
                    ends.push((
                        usize::from(one),
                        Remote::data(b, CoreId(two)),
                        usize::from(two),
                        Remote::data(a, CoreId(one)),
                    ));
                }
            }
            all.push((a, b, ends));
        }
        all
    }

    /// The remotes that cores of a node may send to.
    pub fn remotes(&self, id: NodeId) -> Vec<(usize, Remote)> {
        self.ups
            .keys()
            .filter(|(at, ..)| *at == id)
            .map(|(_, core, remote)| (*core, *remote))
            .collect()
    }

    /// The counters of all cores that there were.
    pub fn counters(&self) -> Vec<LinkCounters> {
        let living = self
            .nodes
            .values()
            .flat_map(|node| node.cores.iter().map(|core| core.counters().clone()));
        self.totals.iter().cloned().chain(living).collect()
    }
}

impl Socket {
    pub fn new(place: (Option<usize>, ConnectionId)) -> Socket {
        Socket {
            place,
            inbox: VecDeque::new(),
            is_blocked: false,
            gone: None,
            is_deaf: false,
            is_mute: false,
        }
    }
}

/// A connection's number, as its name says it.
pub fn number_of(id: ConnectionId) -> u64 {
    id.number()
}

pub fn connection_of(number: u64) -> ConnectionId {
    ConnectionId::from_number(number)
}
