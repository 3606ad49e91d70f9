//! A node with a disk, a clock, connections, and data cores that do as they are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{NodeId, ShardKey};
use corecast::base::rng::Rng;
use corecast::cluster::node::ClusterNode;
use corecast::cluster::node::output::{Found, LeaseState, RecordTicket, StopCause};
use corecast::cluster::node::settings::NodeSettings;
use corecast::cluster::record::NodeRecord;
use corecast::consensus::entry::{LogWrite, Ticket};
use corecast::consensus::peer::NodeLife;
use corecast::sharding::ownership::ShardRecord;
use corecast::sim::network::LinkId;
use rand::RngExt;

use crate::consensus_disk::Disk;

/// What is handed to a node, in order.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Connected(NodeId),
    Disconnected(NodeId),
    Message(NodeId, Vec<u8>),
    Datagram(Vec<u8>),
}

/// A write that is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Done {
    Record(RecordTicket),
    Log(Ticket),
}

/// The directory of a node: what is durable of it, and what is not yet.
#[derive(Default)]
pub(crate) struct Directory {
    log: Disk,
    record: NodeRecord,
    open: VecDeque<(RecordTicket, NodeRecord)>,
}

impl Directory {
    pub(crate) fn write_log(&mut self, write: LogWrite) {
        self.log.write(write);
    }

    pub(crate) fn write_record(&mut self, ticket: RecordTicket, record: NodeRecord) {
        self.open.push_back((ticket, record));
    }

    pub(crate) fn sync(&mut self, done: Done) {
        match done {
            Done::Log(ticket) => self.log.sync(ticket),
            Done::Record(ticket) => {
                while let Some((_, record)) = self.open.pop_front_if(|(open, _)| *open <= ticket) {
                    self.record = record;
                }
            }
        }
    }

    /// Some of what was not durable is there all the same.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        self.log.crash(rng);
        let kept = rng.random_range(0..=self.open.len());
        if let Some((_, record)) = self.open.drain(..).take(kept).next_back() {
            self.record = record;
        }
        self.open.clear();
    }

    pub(crate) fn found(&self) -> Found {
        Found {
            record: self.record.clone(),
            log: self.log.recover(),
        }
    }
}

/// One node, running or not.
pub(crate) struct SimNode {
    pub(crate) settings: NodeSettings,
    /// Its clock runs at this many millionths of real time, and started from somewhere.
    rate: u64,
    origin: u64,
    pub(crate) directory: Directory,
    pub(crate) slow_disk: u64,
    pub(crate) writes: VecDeque<(Time, Done)>,
    pub(crate) running: Option<ClusterNode>,
    /// Which process this is, of all that there have been.
    pub(crate) process: u64,
    pub(crate) paused: Option<(Time, Time)>,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) wanted_links: BTreeSet<NodeId>,
    /// The open connections, each with the node at the other end.
    pub(crate) links: BTreeMap<LinkId, NodeId>,
    pub(crate) dialing: BTreeMap<NodeId, LinkId>,
    pub(crate) redial: BTreeMap<NodeId, Time>,
    pub(crate) stopped: Option<StopCause>,
    /// When the driver starts it again.
    pub(crate) restart_at: Option<Time>,
    pub(crate) has_left: bool,
    pub(crate) life: Option<NodeLife>,
    pub(crate) lease: LeaseState,
    pub(crate) applied: u64,
    /// What its data cores were told of shards.
    pub(crate) shards: BTreeMap<ShardKey, ShardRecord>,
    pub(crate) shards_version: u64,
    /// Moves to this node, and when they have arrived.
    pub(crate) arrivals: BTreeMap<Time, Vec<(ShardKey, u64)>>,
    /// With whom its cores will have parted when.
    pub(crate) partings: Vec<(Time, NodeLife)>,
}

impl SimNode {
    pub(crate) fn new(settings: NodeSettings, rng: &mut Rng) -> SimNode {
        SimNode {
            settings,
            // Any two differ by less than a tenth.
            rate: rng.random_range(955_000..1_045_000),
            origin: rng.random_range(0..1_000_000_000_000),
            directory: Directory::default(),
            slow_disk: 2_000,
            writes: VecDeque::new(),
            running: None,
            process: 0,
            paused: None,
            inbox: VecDeque::new(),
            wanted_links: BTreeSet::new(),
            links: BTreeMap::new(),
            dialing: BTreeMap::new(),
            redial: BTreeMap::new(),
            stopped: None,
            restart_at: None,
            has_left: false,
            life: None,
            lease: LeaseState::Lapsed,
            applied: 0,
            shards: BTreeMap::new(),
            shards_version: 0,
            arrivals: BTreeMap::new(),
            partings: Vec::new(),
        }
    }

    /// Forgets all that was in memory.
    pub(crate) fn clear(&mut self) {
        self.running = None;
        self.writes.clear();
        self.inbox.clear();
        self.links.clear();
        self.dialing.clear();
        self.redial.clear();
        self.wanted_links.clear();
        self.arrivals.clear();
        self.partings.clear();
        self.shards.clear();
        (self.paused, self.life, self.lease) = (None, None, LeaseState::Lapsed);
        (self.applied, self.shards_version) = (0, 0);
    }

    /// What its clock says.
    pub(crate) fn local(&self, now: Time) -> Time {
        let nanos = u128::from(now.as_nanos()) * u128::from(self.rate) / 1_000_000;
        Time::from_nanos(self.origin + nanos as u64)
    }

    /// When its clock will say so, or has.
    pub(crate) fn real(&self, local: Time) -> Time {
        let nanos = u128::from(local.as_nanos().saturating_sub(self.origin)) * 1_000_000;
        Time::from_nanos(u64::try_from(nanos.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some() && self.stopped.is_none()
    }

    /// When something is to be done here.
    pub(crate) fn next_event(&self) -> Time {
        let restart = self.restart_at.unwrap_or(Time::MAX);
        let Some(running) = self.running.as_ref().filter(|_| self.stopped.is_none()) else {
            return restart;
        };
        let deadline = match running.next_deadline() {
            Time::MAX => Time::MAX,
            deadline => self.real(deadline),
        };
        let writes = self.writes.front().map_or(Time::MAX, |(at, _)| *at);
        let arrival = self.arrivals.keys().next().copied().unwrap_or(Time::MAX);
        let redial = self.redial.values().min().copied().unwrap_or(Time::MAX);
        let parting = self.partings.iter().map(|(at, _)| *at).min();
        let next = deadline.min(writes).min(arrival).min(redial);
        let next = next.min(parting.unwrap_or(Time::MAX));
        next.max(self.paused.map_or(Time::ZERO, |(_, until)| until))
    }

    /// Whether its data cores run entities of a shard at this moment: it is theirs, it does not move, and the lease stands.
    pub(crate) fn runs(&self, shard: ShardKey, now: Time) -> bool {
        let Some(life) = self.life.filter(|_| self.is_running()) else {
            return false;
        };
        let valid = match self.lease {
            LeaseState::Valid { until } => self.local(now) < until,
            LeaseState::Lapsed => false,
        };
        let record = self.shards.get(&shard);
        valid
            && record
                .is_some_and(|record| record.owner == Some(life.node) && record.moving_to.is_none())
    }

    /// Whether its data cores have sealed a shard for this move.
    pub(crate) fn has_sealed(&self, shard: ShardKey, prepared: u64) -> bool {
        let record = self.shards.get(&shard);
        self.is_running() && record.is_some_and(|r| r.moving_to.is_some() && r.since == prepared)
    }
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
