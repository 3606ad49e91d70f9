//! Nodes that are nothing but members, over a virtual network, in virtual time.
//!
//! The log is an oracle here: it decides at once and alike for all, and tells each node a little later. What the members
//! propose goes through it, as far as a test lets it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{Incarnation, NodeId};
use corecast::base::rng::{Rng, seeded};
use corecast::base::stable_hash::stable_hash;
use corecast::membership::accusation::Heartbeat;
use corecast::membership::change::{Change, Join};
use corecast::membership::detector::{Detector, Output};
use corecast::membership::event::MemberEvent;
use corecast::membership::identity::SwimId;
use corecast::membership::settings::MembershipSettings;
use corecast::membership::swim::{Swim, SwimOutput};
use corecast::membership::view::{MemberState, View};
use corecast::rand::RngExt;
use corecast::sim::network::{Arrival, LinkId, Network, NetworkSettings};

const CLUSTER: u64 = 0x00C0_FFEE;

/// Something that a test may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// SWIM of the first node says that the second is up in this life.
    SwimUp(NodeId, NodeId, Incarnation),
    /// SWIM of the first node says that the second is down in this life.
    SwimDown(NodeId, NodeId, Incarnation),
    /// A node has proposed this.
    Proposed(NodeId, Change),
    /// A node's view says this.
    Event(NodeId, MemberEvent),
}

/// One node.
pub struct Node {
    pub swim: Swim,
    pub detector: Detector,
    pub view: View,
    pub incarnation: Incarnation,
    applied: usize,
    links: BTreeMap<NodeId, (LinkId, bool)>,
    /// Since when and until when this node does nothing.
    busy: Option<(Time, Time)>,
    waiting: Vec<Arrival<Vec<u8>>>,
    wake: Time,
}

/// All of it.
pub struct World {
    pub now: Time,
    pub network: Network<Vec<u8>>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub log: View,
    pub seen: Vec<(Time, Seen)>,
    /// Whether the log takes a `Down` that a node proposes.
    pub takes_downs: bool,
    /// The chance that a turn is late, and by how much at most.
    pub stalls: (f64, Duration),
    /// Who hears nothing of the log and is not heard by it.
    pub cut_off: BTreeSet<NodeId>,
    /// Whose heartbeats get lost, and whose datagrams do, both ways.
    pub without_control: BTreeSet<NodeId>,
    pub without_datagrams: BTreeSet<NodeId>,
    /// Datagrams of this node are kept, to be replayed.
    pub tapped: Option<NodeId>,
    pub tape: Vec<(NodeId, Vec<u8>)>,
    settings: MembershipSettings,
    seed: u64,
    rng: Rng,
    changes: Vec<Change>,
    pokes: BTreeMap<(Time, u64), NodeId>,
    next_poke: u64,
    wakes: BTreeSet<(Time, NodeId)>,
    /// Without heartbeats it is SWIM alone.
    has_heartbeats: bool,
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub fn address_of(node: NodeId) -> SocketAddr {
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

impl World {
    pub fn new(seed: u64, network: NetworkSettings) -> World {
        World {
            now: Time::ZERO,
            network: Network::new(seed, network),
            nodes: BTreeMap::new(),
            log: View::new(NodeId(0)),
            seen: Vec::new(),
            takes_downs: true,
            stalls: (0.0, Duration::ZERO),
            cut_off: BTreeSet::new(),
            without_control: BTreeSet::new(),
            without_datagrams: BTreeSet::new(),
            tapped: None,
            tape: Vec::new(),
            settings: MembershipSettings::default(),
            seed,
            rng: seeded(seed, 0x006D_656D),
            changes: Vec::new(),
            pokes: BTreeMap::new(),
            next_poke: 0,
            wakes: BTreeSet::new(),
            has_heartbeats: true,
        }
    }

    /// A network that loses a datagram of fifty, doubles some and takes its time.
    pub fn lossy() -> NetworkSettings {
        NetworkSettings {
            loss: 0.02,
            duplication: 0.01,
            max_latency: ms(5),
            ..NetworkSettings::default()
        }
    }

    /// SWIM alone, with nodes 1 to `n` in the log, of which none runs yet.
    pub fn of_datagrams_only(seed: u64, n: u32) -> World {
        let mut world = World::new(seed, NetworkSettings::default());
        world.has_heartbeats = false;
        (1..=n).for_each(|node| world.join(NodeId(node)));
        world
    }

    /// Nodes 1 to `n` that have run for 15 s.
    pub fn settled(seed: u64, n: u32, network: NetworkSettings) -> World {
        let mut world = World::new(seed, network);
        for node in 1..=n {
            world.start(NodeId(node));
            let pause = world.rng.random_range(0..200);
            world.run(ms(pause));
        }
        world.run(secs(15));
        assert!(world.all_know_all(), "not even settled");
        let renewed = |node: &Node| node.swim.counters().renewals > 0;
        assert!(
            !world.nodes.values().any(renewed),
            "a false death {:?}",
            world.seen
        );
        world.seen.clear();
        world
    }

    pub fn pick(&mut self) -> NodeId {
        let n = self.rng.random_range(0..self.nodes.len());
        *self.nodes.keys().nth(n).expect("a node")
    }

    /// Starts a node in a new life. If its last one is still a member, that is ended first.
    pub fn start(&mut self, node: NodeId) {
        if let Some(old) = self.log.member(node).filter(|member| member.is_live()) {
            let incarnation = old.incarnation;
            self.commit(Change::Down { node, incarnation });
        }
        self.join(node);
        self.run_node(node);
    }

    fn join(&mut self, node: NodeId) {
        self.commit(Change::Join(Join {
            node,
            address: address_of(node),
            roles: Vec::new(),
            data_cores: 1,
        }));
        let incarnation = self.log.member(node).expect("it joined").incarnation;
        self.commit(Change::Up { node, incarnation });
    }

    /// A node that the log has let in begins to run.
    pub fn run_node(&mut self, node: NodeId) {
        self.network.start(node);
        let incarnation = self.log.member(node).expect("it joined").incarnation;
        let me = SwimId::new(node, incarnation, address_of(node));
        let seeds = (1..=3).map(|seed| address_of(NodeId(seed))).collect();
        let stream = u64::from(node.0) << 32 | u64::from(incarnation.0);
        let rng = seeded(self.seed, stream);
        let swim = Swim::new(me, CLUSTER, &self.settings, seeds, rng, self.now);
        let detector = Detector::new(node, incarnation, &self.settings, self.now);
        let node_of_it = Node {
            swim: swim.expect("settings"),
            detector: detector.expect("settings"),
            view: View::new(node),
            incarnation,
            applied: 0,
            links: BTreeMap::new(),
            busy: None,
            waiting: Vec::new(),
            wake: self.now,
        };
        self.nodes.insert(node, node_of_it);
        self.wakes.insert((self.now, node));
        self.poke(node);
    }

    /// A machine dies without a word.
    pub fn crash(&mut self, node: NodeId) {
        let gone = self.nodes.remove(&node).expect("it runs");
        self.wakes.remove(&(gone.wake, node));
        self.network.power_off(self.now, node);
    }

    /// A node does nothing for a while.
    pub fn pause(&mut self, node: NodeId, time: Duration) {
        let now = self.now;
        self.node(node).busy = Some((now, now + time));
        self.reschedule(node);
    }

    /// The log says something, and all hear of it.
    pub fn commit(&mut self, change: Change) {
        let version = self.log.version();
        let applied = self.log.apply(&change, &mut Vec::new());
        if applied.is_err() || self.log.version() == version {
            return;
        }
        self.changes.push(change);
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.poke(node));
    }

    pub fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("it runs")
    }

    /// Whether SWIM of every node that runs takes exactly the others that run for alive.
    pub fn all_know_all(&self) -> bool {
        // The counts first, which are cheap.
        let others = self.nodes.len() - 1;
        let mut nodes = self.nodes.values();
        nodes.all(|node| node.swim.others() == others)
            && self.nodes.iter().all(|(me, node)| {
                let mut all = self.nodes.iter();
                all.all(|(other, of_it)| other == me || node.swim.is_up(*other, of_it.incarnation))
            })
    }

    /// Runs until something is true; how long that took, or `None` after `at_most`.
    pub fn until(
        &mut self,
        at_most: Duration,
        is_true: impl Fn(&World) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while self.now - start < at_most {
            if is_true(self) {
                return Some(self.now - start);
            }
            self.run(ms(20));
        }
        is_true(self).then_some(self.now - start)
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.network.next_arrival();
            let poke = self.pokes.keys().next().map(|(at, _)| *at);
            let wake = self.wakes.first().map(|(at, _)| *at);
            let next = [arrival, poke, wake].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(arrival) = self.network.pop(self.now) {
                self.arrive(arrival);
            }
            while let Some(entry) = self.pokes.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let node = entry.remove();
                self.catch_up(node);
            }
            while let Some(&(at, node)) = self.wakes.first() {
                if at > self.now {
                    break;
                }
                self.turn(node);
            }
        }
        self.now = end;
    }

    /// What this run did, as a number.
    pub fn digest(&self) -> u64 {
        let mut text = format!("{:?} {:?}", self.seen, self.network.counters());
        for node in self.nodes.values() {
            text += &format!("{:?} {:?}", node.swim.counters(), node.detector.counters());
        }
        stable_hash(text.as_bytes())
    }

    /// How many times something was seen.
    pub fn count(&self, is_it: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().filter(|(_, seen)| is_it(seen)).count()
    }

    fn arrive(&mut self, arrival: Arrival<Vec<u8>>) {
        let at = arrival.at();
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        if node.busy.is_some() {
            node.waiting.push(arrival);
        } else {
            self.handle(at, arrival);
            self.after(at);
        }
    }

    fn handle(&mut self, at: NodeId, arrival: Arrival<Vec<u8>>) {
        let now = self.now;
        let node = self.nodes.get_mut(&at).expect("it runs");
        match arrival {
            Arrival::Datagram { from, payload, .. } => {
                let lost = [at, from]
                    .iter()
                    .any(|n| self.without_datagrams.contains(n));
                if !lost {
                    // A refusal is counted there, and tests look at the counters.
                    let _refused = node.swim.handle_datagram(&payload, now);
                }
            }
            Arrival::Received { payload, .. } => {
                let heartbeat = Heartbeat::decode(&payload).expect("we sent it");
                node.detector.heartbeat(heartbeat, now);
            }
            Arrival::Opened {
                link,
                peer,
                connected: true,
                ..
            } => {
                if let Some(known) = node.links.get_mut(&peer).filter(|known| known.0 == link) {
                    known.1 = true;
                }
            }
            Arrival::Closed { link, .. } => node.links.retain(|_, known| known.0 != link),
            Arrival::Opened { .. } | Arrival::Writable { .. } => {}
        }
    }

    /// A node whose time has come takes a turn, unless it is late.
    fn turn(&mut self, id: NodeId) {
        let (now, stalls) = (self.now, self.stalls);
        let stall = self.rng.random_bool(stalls.0);
        let stall = if stall {
            self.rng.random_range(Duration::ZERO..=stalls.1)
        } else {
            Duration::ZERO
        };
        let node = self.nodes.get_mut(&id).expect("it runs");
        match node.busy {
            Some((_, until)) if until > now => {}
            Some((since, _)) => {
                node.busy = None;
                node.swim.stalled(now - since, now);
                node.detector.stalled(now - since, now);
                let waiting = std::mem::take(&mut node.waiting);
                self.catch_up(id);
                waiting
                    .into_iter()
                    .for_each(|arrival| self.handle(id, arrival));
                self.tick(id);
            }
            None if !stall.is_zero() => node.busy = Some((now, now + stall)),
            None => self.tick(id),
        }
        self.after(id);
    }

    fn tick(&mut self, id: NodeId) {
        let (now, has_heartbeats) = (self.now, self.has_heartbeats);
        let node = self.node(id);
        node.swim.tick(now);
        if has_heartbeats {
            node.detector.tick(now);
        }
    }

    /// Does what a node wants done, and sets its alarm.
    fn after(&mut self, id: NodeId) {
        let now = self.now;
        let mut proposals = Vec::new();
        let node = self.nodes.get_mut(&id).expect("it runs");
        while let Some(output) = node.swim.poll_output() {
            match output {
                SwimOutput::Send { to, datagram } => {
                    if self.tapped == Some(id) {
                        self.tape.push((node_at(to), datagram.clone()));
                    }
                    let to = node_at(to);
                    self.network.send_datagram(now, id, to, datagram);
                }
                SwimOutput::Up {
                    node: other,
                    incarnation,
                } => {
                    node.detector.swim_up(other, incarnation);
                    self.seen.push((now, Seen::SwimUp(id, other, incarnation)));
                }
                SwimOutput::Down {
                    node: other,
                    incarnation,
                } => {
                    node.detector.swim_down(other, incarnation);
                    self.seen
                        .push((now, Seen::SwimDown(id, other, incarnation)));
                }
            }
        }
        while let Some(output) = node.detector.poll_output() {
            match output {
                Output::Heartbeat { to, .. } if self.without_control.contains(&to) => {}
                Output::Heartbeat { .. } if self.without_control.contains(&id) => {}
                Output::Heartbeat { to, heartbeat } => match node.links.get(&to) {
                    Some((link, true)) => {
                        let bytes = heartbeat.encode();
                        let length = bytes.len();
                        // A full window or an end that has just closed loses it; the next will come.
                        let _lost = self.network.send(now, *link, id, bytes, length);
                    }
                    Some((_, false)) => {}
                    None => {
                        let link = self.network.connect(now, id, to);
                        node.links.insert(to, (link, false));
                    }
                },
                Output::Propose(change) => proposals.push(change),
            }
        }
        for change in proposals {
            self.seen.push((now, Seen::Proposed(id, change.clone())));
            let is_down = matches!(change, Change::Down { .. });
            if !self.cut_off.contains(&id) && (self.takes_downs || !is_down) {
                self.commit(change);
            }
        }
        self.reschedule(id);
    }

    fn reschedule(&mut self, id: NodeId) {
        let has_heartbeats = self.has_heartbeats;
        let node = self.nodes.get_mut(&id).expect("it runs");
        let mut wake = node.swim.next_deadline();
        if has_heartbeats {
            wake = wake.min(node.detector.next_deadline());
        }
        if let Some((_, until)) = node.busy {
            wake = until;
        }
        self.wakes.remove(&(node.wake, id));
        node.wake = wake;
        self.wakes.insert((wake, id));
    }

    fn poke(&mut self, node: NodeId) {
        let delay = self.rng.random_range(ms(1)..=ms(20));
        self.pokes.insert((self.now + delay, self.next_poke), node);
        self.next_poke += 1;
    }

    /// A node applies what the log has said since.
    fn catch_up(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if self.cut_off.contains(&id) || node.busy.is_some() {
            return;
        }
        let mut events = Vec::new();
        for change in &self.changes[node.applied..] {
            // Those that are refused are not kept.
            node.view.apply(change, &mut events).expect("committed");
        }
        node.applied = self.changes.len();
        node.swim.adopt(&node.view, now);
        node.detector.adopt(&node.view, now);
        let events = events.into_iter();
        self.seen
            .extend(events.map(|event| (now, Seen::Event(id, event))));
        self.after(id);
    }

    /// Those who were cut off hear of the log again.
    pub fn reconnect_log(&mut self) {
        let back = std::mem::take(&mut self.cut_off);
        back.into_iter().for_each(|node| self.poke(node));
    }

    /// The nodes that the log has down.
    pub fn down(&self) -> Vec<NodeId> {
        let dead = |state| state == MemberState::Down;
        let down = self.log.members().filter(|member| dead(member.state));
        down.map(|member| member.node).collect()
    }
}

/// Runs a test for the seeds from 0 to the one before `seeds`, the first of them twice: both runs have to give the same
/// number. `CORECAST_SEEDS=1000` runs so many instead, `CORECAST_SEED=5` that one only.
pub fn check_seeds(test: &str, seeds: u64, run: impl Fn(u64) -> u64) {
    check(test, seeds, true, run);
}

/// The same for what takes long: each seed runs once.
pub fn check_seeds_once(test: &str, seeds: u64, run: impl Fn(u64) -> u64) {
    check(test, seeds, false, run);
}

#[expect(
    clippy::print_stderr,
    reason = "that is where the panic has been reported"
)]
fn check(test: &str, seeds: u64, twice: bool, run: impl Fn(u64) -> u64) {
    let variable = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number of seeds"))
    };
    let range = match (variable("CORECAST_SEED"), variable("CORECAST_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, more) => 0..more.unwrap_or(seeds),
    };
    let first = range.start;
    for seed in range {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let digest = run(seed);
            if twice && seed == first {
                assert_eq!(digest, run(seed), "two runs of one seed differ");
            }
        }));
        if let Err(panic) = ran {
            eprintln!(
                "seed {seed} failed; replay it with: CORECAST_SEED={seed} cargo test --test cluster -- --exact {test}"
            );
            resume_unwind(panic);
        }
    }
}
