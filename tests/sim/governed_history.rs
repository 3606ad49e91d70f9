//! What was sent in a cluster and what came of it, as those saw it who sent and who handled: for the judge.
//!
//! All times are those of the network, which nodes with clocks of their own do not know.

use corecast::base::ids::{Epoch, NodeId, ShardKey};
use corecast::sim::NodeClock;
use corecast::{AskError, Time};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Entities from this number on are of the type that keeps running without a lease; those below are of one that does not.
pub const KEPT: u64 = 1 << 32;

/// Whether an entity is of the type that keeps running.
pub fn is_kept(entity: u64) -> bool {
    entity >= KEPT
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody waits for anything.
    Tell,
    /// Whoever sent it waits until it lies in the mailbox.
    Send,
    /// Whoever sent it waits for an answer.
    Ask,
}

/// How a message has ended for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A tell was taken at the call.
    Accepted,
    /// It lies in the mailbox.
    Stored,
    /// It was answered.
    Replied(Counted),
    /// It certainly had no effect.
    Rejected(AskError),
    /// It may have had one.
    Unknown(AskError),
}

impl Outcome {
    /// That of an ask or an acknowledged send which brought no reply.
    pub fn failed(error: AskError) -> Outcome {
        match error {
            AskError::Rejected(_) => Outcome::Rejected(error),
            AskError::Unknown(_) => Outcome::Unknown(error),
        }
    }
}

/// What an answer says: which message it answers, and how many the entity has counted since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Counted {
    pub operation: u64,
    pub count: u64,
}

impl corecast::WireMessage for Counted {
    const NAME: &'static str = "test.Counted";
    const VERSION: u16 = 1;
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub kind: Kind,
    /// A handle, an actor, a future, or an entity in one of its lives.
    pub sender: u32,
    /// Where the sender is.
    pub node: NodeId,
    /// The entity that is to handle it.
    pub to: u64,
    pub began: Time,
    /// When its sender heard what came of it, and what.
    pub ended: Option<(Time, Outcome)>,
    /// Whether the time of its end is exact, and not that at which somebody looked.
    pub is_exact: bool,
    /// It was sent in peace: it has to succeed.
    pub must_succeed: bool,
    /// The operation whose handler sent it, and passed its reply address on with it.
    pub parent: Option<u64>,
}

/// An entity ran: it handled a message, or went on with one.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub at: Time,
    pub entity: u64,
    pub shard: ShardKey,
    pub node: NodeId,
    pub epoch: Epoch,
    /// The message that it handled, if it began to, and its count.
    pub effect: Option<Counted>,
}

/// A node has heard that what comes from owners of a shard below an epoch is not to be believed.
#[derive(Clone, Copy, Debug)]
pub struct Fencing {
    pub at: Time,
    pub node: NodeId,
    pub shard: ShardKey,
    pub fence: Epoch,
}

/// A node has got a lease, or has lost it.
#[derive(Clone, Copy, Debug)]
pub struct Leased {
    pub at: Time,
    /// Until when it has one, unless another follows.
    pub until: Time,
}

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    pub runs: Vec<Run>,
    pub fencings: Vec<Fencing>,
    /// When a node has heard that it has a shard in an epoch.
    pub owned: BTreeMap<(NodeId, ShardKey, Epoch), Time>,
    /// In the order of their times.
    pub leases: BTreeMap<NodeId, Vec<Leased>>,
    /// From then on nobody is cut off any more, or believes in what is over.
    pub peace: Option<Time>,
    /// As what an entity that keeps running has run last on a node.
    pub hosts: BTreeMap<(NodeId, u64), (ShardKey, Epoch)>,
    senders: u32,
    clocks: BTreeMap<NodeId, NodeClock>,
}

impl History {
    pub fn set_clock(&mut self, node: NodeId, clock: NodeClock) {
        self.clocks.insert(node, clock);
    }

    /// The time of the network at which the clock of a node shows this.
    pub fn real(&self, node: NodeId, local: Time) -> Time {
        let clock = self.clocks.get(&node).copied().unwrap_or_default();
        clock.real(local)
    }

    /// A number for somebody who sends in order.
    pub fn new_sender(&mut self) -> u32 {
        self.senders += 1;
        self.senders
    }

    /// Somebody sends; the number of the message.
    pub fn begin(&mut self, operation: Operation) -> u64 {
        self.operations.push(operation);
        self.operations.len() as u64 - 1
    }

    /// Somebody hears what came of a message.
    pub fn end(&mut self, operation: u64, at: Time, outcome: Outcome) {
        let ended = &mut self.operations[operation as usize].ended;
        assert!(ended.is_none(), "operation {operation} ends twice");
        *ended = Some((at, outcome));
    }

    pub fn run(&mut self, run: Run) {
        if is_kept(run.entity) {
            let host = (run.node, run.entity);
            self.hosts.insert(host, (run.shard, run.epoch));
        }
        self.runs.push(run);
    }

    /// A node hears of its lease: of its end, or that it has none, if there is no time. Whoever wakes up hears late of it.
    pub fn lease(&mut self, node: NodeId, at: Time, until: Option<Time>) {
        let leases = self.leases.entry(node).or_default();
        let ended = leases.last().map_or(Time::ZERO, |last| last.until.min(at));
        let until = until.unwrap_or(ended);
        leases.push(Leased { at, until });
    }
}

/// The history of one run, shared by all who write it.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<History>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, History> {
        // What a failed run has written is read no more.
        self.0.lock().unwrap()
    }
}
