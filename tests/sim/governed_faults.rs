//! The faults of a swarm: which kinds there are in a run is drawn anew for each seed, for a run in which everything happens
//! shows less than many in which some things do.

use crate::governed_swarm::Swarm;
use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::base::rng::Rng;
use corecast::cluster::node::output::StopCause;
use corecast::rand::RngExt;
use corecast::rand::seq::{IndexedRandom, SliceRandom};
use std::time::Duration;

/// What can befall a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// What one node sends to another does not arrive.
    OneWay,
    /// Two groups of nodes do not reach each other.
    Partition,
    /// Everything between two nodes takes long.
    SlowLink,
    /// Datagrams get lost, and what connections carry comes late.
    Loss,
    /// Datagrams arrive twice.
    Duplication,
    /// What takes different connections, and datagrams, overtake each other by far.
    Reordering,
    /// A disk takes long for everything.
    SlowDisk,
    /// A node stands still, for a moment or for longer than its lease.
    Pause,
    /// A process is killed; its connections are reset.
    Kill,
    /// A machine loses its power, and its disk what was under way; nobody is told.
    PowerOff,
    /// A process is killed, and starts again without its disk.
    LostDisk,
    /// A node comes that was not there before.
    Join,
    /// A node leaves, and comes again.
    Leave,
    /// Clocks began elsewhere, and run faster or slower, from the beginning on.
    Drift,
    /// Cores stand still for a moment now and then, from the beginning on.
    Stalls,
    /// Mailboxes, lanes, links and tables are small, from the beginning on.
    Tightness,
}

impl Fault {
    pub const ALL: [Fault; 16] = [
        Fault::OneWay,
        Fault::Partition,
        Fault::SlowLink,
        Fault::Loss,
        Fault::Duplication,
        Fault::Reordering,
        Fault::SlowDisk,
        Fault::Pause,
        Fault::Kill,
        Fault::PowerOff,
        Fault::LostDisk,
        Fault::Join,
        Fault::Leave,
        Fault::Drift,
        Fault::Stalls,
        Fault::Tightness,
    ];

    /// Those that are there from the beginning on.
    pub const STANDING: [Fault; 3] = [Fault::Drift, Fault::Stalls, Fault::Tightness];

    /// Those that begin at some time.
    fn is_timed(self) -> bool {
        !Fault::STANDING.contains(&self)
    }

    fn is_always_possible(self) -> bool {
        self.is_timed() && !matches!(self, Fault::LostDisk | Fault::Join | Fault::Leave)
    }
}

/// How a fault ends.
pub enum Undo {
    Mend(Vec<(NodeId, NodeId)>),
    Quicken(NodeId, NodeId),
    Network,
    Disk(NodeId),
    /// The node is started again.
    Start(NodeId),
    /// The node has left by then, or will; then it is started again.
    Return(NodeId),
}

/// The faults of one run: when they begin.
pub struct Plan {
    pub kinds: Vec<Fault>,
    begins: Vec<(Time, Fault)>,
    ends: Vec<(Time, Undo)>,
    lost_disks: u32,
}

impl Plan {
    /// Draws the kinds; there is always something that can begin.
    pub fn draw(rng: &mut Rng) -> Plan {
        let mut kinds: Vec<Fault> = Fault::ALL
            .into_iter()
            .filter(|_| rng.random_bool(0.5))
            .collect();
        if !kinds.iter().any(|kind| kind.is_always_possible()) {
            kinds.push([Fault::Kill, Fault::Pause, Fault::Partition][rng.random_range(0..3)]);
        }
        Plan {
            kinds,
            begins: Vec::new(),
            ends: Vec::new(),
            lost_disks: 0,
        }
    }

    pub fn has(&self, kind: Fault) -> bool {
        self.kinds.contains(&kind)
    }

    /// Spreads faults over a time.
    pub fn schedule(&mut self, from: Time, length: Duration, rng: &mut Rng) {
        let timed: Vec<Fault> = self
            .kinds
            .iter()
            .copied()
            .filter(|it| it.is_timed())
            .collect();
        let most = (length.as_secs() / 3).max(8);
        let count = rng.random_range(7..=most);
        for _ in 0..count {
            let at = from + rng.random_range(Duration::ZERO..length);
            let kind = *timed.choose(rng).unwrap();
            self.begins.push((at, kind));
        }
        self.begins.sort_by_key(|it| std::cmp::Reverse(*it));
    }

    /// The next fault that is due.
    fn next_begin(&mut self, now: Time) -> Option<Fault> {
        let (at, _) = self.begins.last()?;
        (*at <= now).then(|| self.begins.pop().map(|it| it.1))?
    }

    /// The ends that are due.
    fn due_ends(&mut self, now: Time) -> Vec<Undo> {
        let due = self.ends.extract_if(.., |(at, _)| *at <= now);
        due.map(|(_, undo)| undo).collect()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Swarm {
    /// Begins and ends what is due.
    pub fn see_to_faults(&mut self) {
        let now = self.cluster.now();
        for undo in self.plan.due_ends(now) {
            self.undo(undo);
        }
        while let Some(fault) = self.plan.next_begin(now) {
            if self.strike(fault) {
                *self.counts.faults.entry(fault).or_default() += 1;
                self.struck += 1;
            }
        }
    }

    /// Ends all faults.
    pub fn end_faults(&mut self) {
        let now = self.cluster.now();
        self.plan.begins.clear();
        for (_, undo) in std::mem::take(&mut self.plan.ends) {
            self.undo(undo);
        }
        self.cluster.network().heal(now);
        for node in self.nodes.clone() {
            self.cluster.resume(node);
            if !self.cluster.has_process(node) {
                self.start(node);
            }
        }
    }

    fn for_a_while(&mut self, most: u64, undo: Undo) {
        let after = ms(self.rng.random_range(1..most));
        let at = self.cluster.now() + after;
        self.plan.ends.push((at, undo));
    }

    fn pair(&mut self) -> (NodeId, NodeId) {
        let mut nodes = self.nodes.clone();
        nodes.shuffle(&mut self.rng);
        (nodes[0], nodes[1])
    }

    /// Has a fault happen, if it can; whether it does.
    fn strike(&mut self, fault: Fault) -> bool {
        let (one, other) = self.pair();
        match fault {
            Fault::OneWay => {
                self.cluster.network().cut(one, other);
                self.for_a_while(12_000, Undo::Mend(vec![(one, other)]));
            }
            Fault::Partition => {
                let mut nodes = self.nodes.clone();
                nodes.shuffle(&mut self.rng);
                let (left, right) = nodes.split_at(self.rng.random_range(1..nodes.len()));
                self.cluster.network().partition(left, right);
                let ways = left.iter().flat_map(|a| right.iter().map(|b| (*a, *b)));
                let ways = ways.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
                self.for_a_while(12_000, Undo::Mend(ways));
            }
            Fault::SlowLink => {
                let factor = self.rng.random_range(5..1_000);
                self.cluster.network().slow(one, other, factor);
                self.for_a_while(10_000, Undo::Quicken(one, other));
            }
            Fault::Loss => {
                self.cluster.network().settings_mut().loss = self.rng.random_range(0.01..0.3);
                self.for_a_while(8_000, Undo::Network);
            }
            Fault::Duplication => {
                let chance = self.rng.random_range(0.01..0.5);
                self.cluster.network().settings_mut().duplication = chance;
                self.for_a_while(15_000, Undo::Network);
            }
            Fault::Reordering => {
                let most = ms(self.rng.random_range(2..60));
                self.cluster.network().settings_mut().max_latency = most;
                self.for_a_while(8_000, Undo::Network);
            }
            Fault::SlowDisk => {
                let Some(disk) = self.cluster.disk(one) else {
                    return false;
                };
                disk.latency(ms(5)..ms(self.rng.random_range(10..400)));
                self.for_a_while(10_000, Undo::Disk(one));
            }
            Fault::Pause => {
                if !self.runs(one) {
                    return false;
                }
                let most = [300, 2_500, 9_000][self.rng.random_range(0..3)];
                let time = ms(self.rng.random_range(1..most));
                self.cluster.pause(one, time);
            }
            Fault::Kill | Fault::PowerOff => {
                if !self.runs(one) {
                    return false;
                }
                self.stop(one, fault == Fault::PowerOff);
                // Some are back before anybody has noticed.
                let most = [300, 8_000][self.rng.random_range(0..2)];
                self.for_a_while(most, Undo::Start(one));
            }
            Fault::LostDisk => return self.lose_disk(one),
            Fault::Join => return self.join(),
            Fault::Leave => return self.leave(),
            Fault::Drift | Fault::Stalls | Fault::Tightness => return false,
        }
        true
    }

    /// A lost disk is a voter that never answers again: one at a time, while all the others are there.
    fn lose_disk(&mut self, node: NodeId) -> bool {
        let all_up = self.nodes.iter().all(|node| self.cluster.is_up(*node));
        if self.plan.lost_disks > 0 || !all_up {
            return false;
        }
        self.plan.lost_disks += 1;
        self.stop(node, false);
        self.cluster.replace_disk(node);
        self.for_a_while(3_000, Undo::Start(node));
        true
    }

    /// A node leaves, and its shards before it.
    fn leave(&mut self) -> bool {
        // The first is there to be found by others.
        let can = &self.nodes[1..];
        let all_up = self.nodes.iter().all(|node| self.cluster.is_up(*node));
        let Some(node) = can.choose(&mut self.rng).copied().filter(|_| all_up) else {
            return false;
        };
        self.cluster.leave(node);
        self.for_a_while(6_000, Undo::Return(node));
        true
    }

    fn undo(&mut self, undo: Undo) {
        let now = self.cluster.now();
        match undo {
            Undo::Mend(ways) => {
                for (from, to) in ways {
                    self.cluster.network().mend(now, from, to);
                }
            }
            Undo::Quicken(from, to) => self.cluster.network().slow(from, to, 1),
            Undo::Network => self.calm_network(),
            Undo::Disk(node) => {
                if let Some(disk) = self.cluster.disk(node) {
                    disk.latency(Duration::from_micros(20)..ms(1));
                }
            }
            Undo::Start(node) => {
                if !self.cluster.has_process(node) {
                    self.start(node);
                }
            }
            Undo::Return(node) => {
                if self.cluster.stop_cause(node) == Some(&StopCause::Left) {
                    self.stop(node, false);
                    self.start(node);
                } else if self.cluster.has_process(node) {
                    self.for_a_while(2_000, Undo::Return(node));
                }
            }
        }
    }
}
