//! A node with a disk, a clock and a state machine, and what the bytes of that state mean.

use std::collections::{BTreeMap, VecDeque};

use corecast::Time;
use corecast::base::ids::{Incarnation, NodeId};
use corecast::consensus::entry::Ticket;
use corecast::consensus::machine::Consensus;
use corecast::consensus::output::{ProposalId, RestoredState, StopCause};
use corecast::consensus::peer::{NodeLife, PeerId};
use corecast::sim::network::LinkId;

use crate::consensus_ledger::Storage;

/// What a command of the test's state machine says.
pub(crate) const PLAIN: u8 = 0;
pub(crate) const DOWN: u8 = 1;

/// One node, running or not.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) life: NodeLife,
    /// Its clock runs at this many millionths of real time, and started from somewhere.
    rate: u64,
    start: u64,
    pub(crate) disk: Storage,
    /// How long a write takes at most, in microseconds.
    pub(crate) slow_disk: u64,
    pub(crate) synced: VecDeque<(Time, Ticket)>,
    pub(crate) running: Option<Consensus>,
    pub(crate) paused_until: Option<Time>,
    pub(crate) inbox: VecDeque<(PeerId, Vec<u8>)>,
    pub(crate) links: BTreeMap<NodeId, Option<LinkId>>,
    /// The state machine: what was applied, and who is down.
    pub(crate) applied: Vec<(u64, ProposalId)>,
    pub(crate) down: Vec<NodeLife>,
    pub(crate) stopped: Option<StopCause>,
    /// It dies when it has voted for somebody.
    pub(crate) dies_voting: bool,
    pub(crate) dies: bool,
}

impl Node {
    /// A node before its first life.
    pub(crate) fn new(peer: PeerId, rate: u64, start: u64, disk: Storage) -> Node {
        Node {
            peer,
            life: NodeLife {
                node: peer.node(),
                incarnation: Incarnation(0),
            },
            rate,
            start,
            disk,
            slow_disk: 2_000,
            synced: VecDeque::new(),
            running: None,
            paused_until: None,
            inbox: VecDeque::new(),
            links: BTreeMap::new(),
            applied: Vec::new(),
            down: Vec::new(),
            stopped: None,
            dies_voting: false,
            dies: false,
        }
    }

    /// What its clock says.
    pub(crate) fn local(&self, now: Time) -> Time {
        let nanos = u128::from(now.as_nanos()) * u128::from(self.rate) / 1_000_000;
        Time::from_nanos(self.start + nanos as u64)
    }

    /// When something is to be done, in real time.
    pub(crate) fn next_event(&self) -> Time {
        let Some(consensus) = &self.running else {
            return Time::MAX;
        };
        let deadline = consensus.next_deadline().as_nanos();
        let nanos = u128::from(deadline.saturating_sub(self.start)) * 1_000_000;
        let tick = u64::try_from(nanos.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX);
        let synced = self.synced.front().map_or(Time::MAX, |(at, _)| *at);
        let next = Time::from_nanos(tick).min(synced);
        let next = next.min(self.disk.next_due());
        next.max(self.paused_until.unwrap_or(Time::ZERO))
    }

    /// The state machine, for a snapshot.
    pub(crate) fn state(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, id) in &self.applied {
            bytes.push(0);
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(&id.proposer.node.0.to_le_bytes());
            bytes.extend_from_slice(&id.proposer.incarnation.0.to_le_bytes());
            bytes.extend_from_slice(&id.number.to_le_bytes());
        }
        for life in &self.down {
            bytes.push(1);
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&life.node.0.to_le_bytes());
            bytes.extend_from_slice(&life.incarnation.0.to_le_bytes());
            bytes.extend_from_slice(&[0; 8]);
        }
        bytes
    }
}

/// What a snapshot holds: what was applied, and who is down.
pub(crate) fn state_of(restored: &RestoredState) -> (Vec<(u64, ProposalId)>, Vec<NodeLife>) {
    let (mut applied, mut down) = (Vec::new(), Vec::new());
    for record in restored.state().chunks(25) {
        let long = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
        let proposer = life(&record[9..17]);
        match record[0] {
            0 => applied.push((
                long(1),
                ProposalId {
                    proposer,
                    number: long(17),
                },
            )),
            _ => down.push(proposer),
        }
    }
    (applied, down)
}

fn life(bytes: &[u8]) -> NodeLife {
    let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    NodeLife {
        node: NodeId(short(0)),
        incarnation: Incarnation(short(4)),
    }
}

/// Who is declared down by a command.
pub(crate) fn life_of(command: &[u8]) -> Option<NodeLife> {
    (command[0] == DOWN).then(|| life(&command[1..9]))
}
