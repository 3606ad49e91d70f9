//! The network itself: what is on its way, and which ways there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;

use super::arrival::{Arrival, ClosedWhy, LinkId, NotSent};
use super::connection::{Connection, Direction, End};
use super::settings::{NetworkCounters, NetworkSettings};
use crate::base::ids::NodeId;
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;

/// One thing on its way.
enum Event<P> {
    Datagram {
        from: NodeId,
        to: NodeId,
        payload: P,
    },
    /// An attempt to connect reaches the other machine.
    Knock(LinkId),
    /// The answer to it comes back.
    Answered(LinkId),
    ConnectTimeout(LinkId),
    /// The first piece of this direction arrives, unless its schedule is void.
    Piece(LinkId, usize, u64),
    /// The end that sends in this direction hears that there is room.
    Room(LinkId, usize),
    /// The word that an end is closed reaches the other.
    Close(LinkId, usize, ClosedWhy),
    GiveUp(LinkId, usize, Time),
}

/// The network between all nodes of a simulated cluster.
pub struct Network<P> {
    rng: Rng,
    settings: NetworkSettings,
    events: BTreeMap<(Time, u64), Event<P>>,
    next_event: u64,
    connections: BTreeMap<LinkId, Connection<P>>,
    next_link: u64,
    /// Directed pairs between which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Directed pairs that take this many times longer.
    slow: BTreeMap<(NodeId, NodeId), u32>,
    /// Nodes whose machine is there and listens for nobody.
    dead_processes: BTreeSet<NodeId>,
    /// Nodes whose machine is gone.
    dead_machines: BTreeSet<NodeId>,
    counters: NetworkCounters,
}

impl<P: Clone> Network<P> {
    /// A network whose every choice comes from `seed`.
    #[must_use]
    pub fn new(seed: u64, settings: NetworkSettings) -> Network<P> {
        Network {
            rng: seeded(seed, 0x006E_6574),
            settings,
            events: BTreeMap::new(),
            next_event: 0,
            connections: BTreeMap::new(),
            next_link: 0,
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            dead_processes: BTreeSet::new(),
            dead_machines: BTreeSet::new(),
            counters: NetworkCounters::default(),
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> NetworkCounters {
        self.counters
    }

    /// The settings, to change them while the network runs.
    pub fn settings_mut(&mut self) -> &mut NetworkSettings {
        &mut self.settings
    }

    /// Sends a datagram, which may get lost, doubled, and overtaken.
    pub fn send_datagram(&mut self, now: Time, from: NodeId, to: NodeId, payload: P) {
        self.counters.datagrams += 1;
        let copies = if self.rng.random_bool(self.settings.duplication) {
            self.counters.duplicated += 1;
            2
        } else {
            1
        };
        for _ in 0..copies {
            if !self.passes(from, to) || self.rng.random_bool(self.settings.loss) {
                self.counters.lost += 1;
                continue;
            }
            let at = now + self.latency(from, to);
            let payload = payload.clone();
            self.schedule(at, Event::Datagram { from, to, payload });
        }
    }

    /// Begins to connect. [`Arrival::Opened`] or [`Arrival::Closed`] tells what became of it.
    ///
    /// # Panics
    ///
    /// If a node connects to itself.
    pub fn connect(&mut self, now: Time, from: NodeId, to: NodeId) -> LinkId {
        assert!(from != to, "{from} connects to itself");
        self.counters.connects += 1;
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.connections.insert(
            link,
            Connection {
                nodes: [from, to],
                ends: [End::Opening, End::Opening],
                directions: [Direction::default(), Direction::default()],
            },
        );
        if self.passes(from, to) {
            let at = now + self.latency(from, to);
            self.schedule(at, Event::Knock(link));
        }
        let timeout = now + self.settings.connect_timeout;
        self.schedule(timeout, Event::ConnectTimeout(link));
        link
    }

    /// Sends a payload of `bytes` bytes from one end of a connection to the other.
    ///
    /// # Errors
    ///
    /// [`NotSent`], and the payload comes back; nothing of it was sent. A payload larger than the window is taken when
    /// nothing else is on its way.
    pub fn send(
        &mut self,
        now: Time,
        link: LinkId,
        from: NodeId,
        payload: P,
        bytes: usize,
    ) -> Result<(), (NotSent, P)> {
        let window = self.settings.window;
        let Some((connection, way)) = self.end_of(link, from) else {
            return Err((NotSent::Closed, payload));
        };
        if connection.ends[way] != End::Open {
            return Err((NotSent::Closed, payload));
        }
        let direction = &mut connection.directions[way];
        if direction.bytes > 0 && direction.bytes + bytes > window {
            direction.wants_room = true;
            self.counters.refused += 1;
            return Err((NotSent::Full, payload));
        }
        direction.pieces.push_back((payload, bytes));
        direction.bytes += bytes;
        self.counters.pieces += 1;
        self.counters.bytes += bytes as u64;
        self.forward(now, link, way);
        Ok(())
    }

    /// Closes one end, behind what it has sent; what is on its way to it is lost.
    pub fn close(&mut self, now: Time, link: LinkId, by: NodeId) {
        let Some((connection, way)) = self.end_of(link, by) else {
            return;
        };
        if std::mem::replace(&mut connection.ends[way], End::Closed) == End::Closed {
            return;
        }
        connection.directions[way].closing = Some(ClosedWhy::ByPeer);
        self.forward(now, link, way);
        self.forget_ended(link);
    }

    /// Cuts the way from one node to another. The way back is another.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Cuts every way between two groups, in both directions.
    pub fn partition(&mut self, one: &[NodeId], other: &[NodeId]) {
        for (&a, &b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    /// Mends every cut and every slow link. What waited in connections goes on, at the speed of now.
    pub fn heal(&mut self, now: Time) {
        self.cut.clear();
        self.slow.clear();
        let late = now + self.settings.max_latency + self.settings.resend_after;
        let connections = self.connections.values_mut();
        for direction in connections.flat_map(|connection| &mut connection.directions) {
            if direction.last_arrival > late {
                direction.void_schedule(now);
            }
        }
        self.forward_all(now);
    }

    /// Mends the way from one node to another.
    pub fn mend(&mut self, now: Time, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
        self.forward_all(now);
    }

    /// Has everything between two nodes take `factor` times as long, in this direction.
    pub fn slow(&mut self, from: NodeId, to: NodeId, factor: u32) {
        self.slow.insert((from, to), factor.max(1));
    }

    /// The process of a node dies: its connections are reset, as far as its machine reaches the other ends.
    pub fn kill(&mut self, now: Time, node: NodeId) {
        self.dead_processes.insert(node);
        self.drop_ends(now, node, true);
    }

    /// The machine of a node dies: nobody is told.
    pub fn power_off(&mut self, now: Time, node: NodeId) {
        self.dead_machines.insert(node);
        self.drop_ends(now, node, false);
    }

    /// A node is there again, without any of its connections.
    pub fn start(&mut self, node: NodeId) {
        self.dead_processes.remove(&node);
        self.dead_machines.remove(&node);
    }

    /// Whether connections carry anything that arrives without a cut being mended.
    #[must_use]
    pub fn has_pieces(&self) -> bool {
        let mut ways = self.connections.values().flat_map(|it| &it.directions);
        ways.any(|way| way.scheduled > 0)
    }

    /// When something arrives next.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Time> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// What arrives next, if it arrives until `now`. Call it until there is nothing left.
    pub fn pop(&mut self, now: Time) -> Option<Arrival<P>> {
        loop {
            let entry = self.events.first_entry()?;
            let at = entry.key().0;
            if at > now {
                return None;
            }
            let event = entry.remove();
            if let Some(arrival) = self.happen(at, event) {
                return Some(arrival);
            }
        }
    }

    fn happen(&mut self, now: Time, event: Event<P>) -> Option<Arrival<P>> {
        match event {
            Event::Datagram { from, to, payload } => {
                // A cut that came meanwhile has it as well.
                if !self.passes(from, to) || self.dead_processes.contains(&to) {
                    self.counters.lost += 1;
                    return None;
                }
                Some(Arrival::Datagram { from, to, payload })
            }
            Event::Knock(link) => self.knock(now, link),
            Event::Answered(link) => self.answered(now, link),
            Event::ConnectTimeout(link) => {
                let connection = self.connections.get(&link)?;
                let waits = connection.ends[0] == End::Opening;
                waits.then(|| self.closed(link, 0, ClosedWhy::NobodyAnswers))?
            }
            Event::Piece(link, way, schedule) => self.piece(now, link, way, schedule),
            Event::Room(link, way) => {
                let connection = self.connections.get(&link)?;
                let at = connection.nodes[way];
                (connection.ends[way] == End::Open).then_some(Arrival::Writable { link, at })
            }
            Event::Close(link, way, why) => self.closed(link, 1 - way, why),
            Event::GiveUp(link, way, since) => self.give_up(now, link, way, since),
        }
    }

    fn knock(&mut self, now: Time, link: LinkId) -> Option<Arrival<P>> {
        let [from, to] = self.connections.get(&link)?.nodes;
        if !self.passes(from, to) {
            return None;
        }
        let listens = !self.dead_processes.contains(&to);
        if self.passes(to, from) {
            let back = now + self.latency(to, from);
            let answer = if listens {
                Event::Answered(link)
            } else {
                Event::Close(link, 1, ClosedWhy::Reset)
            };
            self.schedule(back, answer);
        }
        if !listens {
            return None;
        }
        let connection = self.connections.get_mut(&link)?;
        connection.ends[1] = End::Open;
        Some(Arrival::Opened {
            link,
            at: to,
            peer: from,
            connected: false,
        })
    }

    fn answered(&mut self, now: Time, link: LinkId) -> Option<Arrival<P>> {
        let connection = self.connections.get_mut(&link)?;
        let [from, to] = connection.nodes;
        if connection.ends[0] != End::Opening {
            // It has given up, or died; its machine says so to the other end.
            self.reset_peer_of(now, link, 0);
            return None;
        }
        connection.ends[0] = End::Open;
        Some(Arrival::Opened {
            link,
            at: from,
            peer: to,
            connected: true,
        })
    }

    fn piece(&mut self, now: Time, link: LinkId, way: usize, schedule: u64) -> Option<Arrival<P>> {
        let connection = self.connections.get(&link)?;
        let (from, to) = (connection.nodes[way], connection.nodes[1 - way]);
        if connection.directions[way].schedule != schedule {
            return None;
        }
        if !self.passes(from, to) {
            // It is sent again when the cut is mended.
            self.hold(now, link, way);
            return None;
        }
        let window = self.settings.window;
        let connection = self.connections.get_mut(&link)?;
        let direction = &mut connection.directions[way];
        let (payload, bytes) = direction.pieces.pop_front()?;
        direction.bytes -= bytes;
        direction.scheduled -= 1;
        direction.stuck_since = None;
        if connection.ends[1 - way] != End::Open {
            self.reset_peer_of(now, link, 1 - way);
            return None;
        }
        if direction.wants_room && direction.bytes <= window / 2 {
            direction.wants_room = false;
            let back = now + self.latency(to, from);
            self.schedule(back, Event::Room(link, way));
        }
        Some(Arrival::Received { link, to, payload })
    }

    /// What has no time of arrival yet is sent, if the way is free.
    fn forward(&mut self, now: Time, link: LinkId, way: usize) {
        let Some(connection) = self.connections.get(&link) else {
            return;
        };
        let (from, to) = (connection.nodes[way], connection.nodes[1 - way]);
        if !self.passes(from, to) {
            self.hold(now, link, way);
            return;
        }
        loop {
            let Some(connection) = self.connections.get(&link) else {
                return;
            };
            let direction = &connection.directions[way];
            let Some((_, bytes)) = direction.pieces.get(direction.scheduled) else {
                break;
            };
            let transfer = Duration::from_nanos(
                *bytes as u64 * 1_000_000_000 / self.settings.bandwidth.max(1),
            );
            let last = direction.last_arrival;
            let mut at = (now + self.latency(from, to)).max(last) + transfer;
            if self.rng.random_bool(self.settings.loss) {
                self.counters.resent += 1;
                at = at + self.settings.resend_after;
            }
            let Some(connection) = self.connections.get_mut(&link) else {
                return;
            };
            let direction = &mut connection.directions[way];
            direction.scheduled += 1;
            direction.last_arrival = at;
            let schedule = direction.schedule;
            self.schedule(at, Event::Piece(link, way, schedule));
        }
        let latency = self.latency(from, to);
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let direction = &mut connection.directions[way];
        if let Some(why) = direction.closing.take() {
            let at = (now + latency).max(direction.last_arrival);
            self.schedule(at, Event::Close(link, way, why));
        }
    }

    fn forward_all(&mut self, now: Time) {
        let links: Vec<LinkId> = self.connections.keys().copied().collect();
        for link in links {
            self.forward(now, link, 0);
            self.forward(now, link, 1);
        }
    }

    /// Nothing of this direction arrives for now.
    fn hold(&mut self, now: Time, link: LinkId, way: usize) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let direction = &mut connection.directions[way];
        if direction.pieces.is_empty() {
            return;
        }
        self.counters.held += 1;
        direction.void_schedule(now);
        if direction.stuck_since.is_none() {
            direction.stuck_since = Some(now);
            let at = now + self.settings.gives_up_after;
            self.schedule(at, Event::GiveUp(link, way, now));
        }
    }

    fn give_up(&mut self, now: Time, link: LinkId, way: usize, since: Time) -> Option<Arrival<P>> {
        let connection = self.connections.get(&link)?;
        if connection.directions[way].stuck_since != Some(since) {
            return None;
        }
        self.reset_peer_of(now, link, way);
        self.closed(link, way, ClosedWhy::GaveUp)
    }

    /// The machine at one end says to the other that there is no such connection, if it can.
    fn reset_peer_of(&mut self, now: Time, link: LinkId, end: usize) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let (from, to) = (connection.nodes[end], connection.nodes[1 - end]);
        let direction = &mut connection.directions[end];
        direction.pieces.clear();
        direction.bytes = 0;
        direction.void_schedule(now);
        if self.passes(from, to) {
            let at = now + self.latency(from, to);
            self.schedule(at, Event::Close(link, end, ClosedWhy::Reset));
        }
    }

    /// An end is closed by what has come from the network.
    fn closed(&mut self, link: LinkId, end: usize, why: ClosedWhy) -> Option<Arrival<P>> {
        let connection = self.connections.get_mut(&link)?;
        let at = connection.nodes[end];
        let was = std::mem::replace(&mut connection.ends[end], End::Closed);
        if was == End::Opening && end == 0 {
            self.counters.failed_connects += 1;
        } else if was == End::Open && why != ClosedWhy::ByPeer {
            self.counters.broken += 1;
        }
        self.forget_ended(link);
        // The end that was to be connected to has never heard of it.
        let known = was == End::Open || was == End::Opening && end == 0;
        known.then_some(Arrival::Closed { link, at, why })
    }

    fn drop_ends(&mut self, now: Time, node: NodeId, reset: bool) {
        let links: Vec<LinkId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.nodes.contains(&node))
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            if let Some((connection, way)) = self.end_of(link, node) {
                connection.ends[way] = End::Closed;
                if reset {
                    self.reset_peer_of(now, link, way);
                }
            }
            self.forget_ended(link);
        }
    }

    /// A connection of which both ends are closed is no more.
    fn forget_ended(&mut self, link: LinkId) {
        let ended = self
            .connections
            .get(&link)
            .is_some_and(|connection| connection.ends == [End::Closed; 2]);
        if ended {
            self.connections.remove(&link);
        }
    }

    fn end_of(&mut self, link: LinkId, node: NodeId) -> Option<(&mut Connection<P>, usize)> {
        let connection = self.connections.get_mut(&link)?;
        let way = connection.nodes.iter().position(|n| *n == node)?;
        Some((connection, way))
    }

    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
            && !self.dead_machines.contains(&from)
            && !self.dead_machines.contains(&to)
    }

    fn latency(&mut self, from: NodeId, to: NodeId) -> Duration {
        let (min, max) = (self.settings.min_latency, self.settings.max_latency);
        let once = self.rng.random_range(min..=max.max(min));
        once * self.slow.get(&(from, to)).copied().unwrap_or(1)
    }

    fn schedule(&mut self, at: Time, event: Event<P>) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }
}
