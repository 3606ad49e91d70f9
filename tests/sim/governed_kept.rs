//! That entities which keep running do: whoever has them and loses its lease still has them handle what is sent to them there.

use crate::governed_history::{History, KEPT, Outcome};
use crate::governed_senders::{Order, What};
use crate::governed_swarm::Swarm;
use corecast::base::ids::{Epoch, NodeId, ShardKey};
use corecast::cluster::node::output::LeaseState;
use corecast::rand::RngExt;
use corecast::rand::seq::IndexedRandom;
use corecast::{AskError, Rejection, Time};
use std::time::Duration;

/// How long an entity may need for anything at all; what it is at takes less than half a second.
const WITHIN: Duration = Duration::from_millis(3_000);

/// After how long all cores of a node send by what its control plane knows; each may stall for 20 ms.
const HEARD_WITHIN: Duration = Duration::from_millis(100);

/// An entity was asked on its node, which has no lease.
struct Asked {
    operation: usize,
    entity: u64,
    node: NodeId,
    shard: ShardKey,
    epoch: Epoch,
    at: Time,
}

impl Asked {
    /// Whether something that its sender had sent since the shard came here had got through to it. Without that the sender may
    /// have to wait for a past owner, from which the node is cut off. What it had sent to that one before can come here all the
    /// same.
    fn gets_through(&self, history: &History) -> bool {
        let owned = (self.node, self.shard, self.epoch);
        let Some(heard) = history.owned.get(&owned) else {
            return false;
        };
        let sender = history.operations[self.operation].sender;
        history.runs.iter().any(|run| {
            run.at < self.at
                && (run.node, run.shard, run.epoch) == owned
                && (run.effect).is_some_and(|it| {
                    let sent = &history.operations[it.operation as usize];
                    sent.sender == sender && sent.began > *heard + HEARD_WITHIN
                })
        })
    }
}

/// Those that were asked.
#[derive(Default)]
pub struct Watch(Vec<Asked>);

impl Swarm {
    /// Whether a node has no lease, and knows it.
    fn is_lapsed(&self, node: NodeId) -> bool {
        let plane = self.cluster.plane(node);
        plane.is_some_and(|plane| plane.node().lease() == LeaseState::Lapsed)
    }

    /// Whether a node runs, and runs a shard as it did, as far as it knows.
    fn still_hosts(&self, node: NodeId, shard: ShardKey, epoch: Epoch) -> bool {
        let record = (self.cluster.plane(node)).and_then(|plane| plane.node().shard(shard));
        let is_here = record.is_some_and(|record| {
            record.owner == Some(node) && record.epoch == epoch && record.moving_to.is_none()
        });
        is_here && self.cluster.is_up(node) && !self.cluster.is_paused(node)
    }

    /// Now and then an entity that keeps running is asked on its node, which has no lease.
    pub fn ask_kept(&mut self) {
        let Some(node) = self.nodes.choose(&mut self.rng).copied() else {
            return;
        };
        if !self.is_lapsed(node) || self.senders.count(node) == 0 || self.watch.0.len() >= 8 {
            return;
        }
        let history = self.senders.history.clone();
        let hosted: Vec<_> = {
            let history = history.lock();
            let hosted = history.hosts.range((node, KEPT)..=(node, u64::MAX));
            let hosted = hosted.map(|((_, entity), (shard, epoch))| (*entity, *shard, *epoch));
            hosted.collect()
        };
        let Some((entity, shard, epoch)) = hosted.choose(&mut self.rng).copied() else {
            return;
        };
        if !self.still_hosts(node, shard, epoch) {
            return;
        }
        let operation = self.operations();
        let order = Order {
            what: What::Count,
            to: entity,
            within: WITHIN * 2,
            must_succeed: false,
        };
        let which = self.rng.random_range(0..2);
        self.senders.send(node, which, vec![order]);
        self.watch.0.push(Asked {
            operation,
            entity,
            node,
            shard,
            epoch,
            at: self.cluster.now(),
        });
    }

    /// Sees to it that those that were asked run, for as long as their node is as it was.
    pub fn watch_kept(&mut self) {
        let now = self.cluster.now();
        for asked in std::mem::take(&mut self.watch.0) {
            if !self.still_hosts(asked.node, asked.shard, asked.epoch) {
                continue;
            }
            let history = self.senders.history.lock();
            let ended = history.operations[asked.operation].ended.map(|it| it.1);
            let waits = ended
                == Some(Outcome::Rejected(AskError::Rejected(
                    Rejection::NoControlQuorum,
                )));
            let is_due = asked.at + WITHIN < now;
            if ended.is_none() && !is_due {
                drop(history);
                self.watch.0.push(asked);
                continue;
            }
            if !waits && !asked.gets_through(&history) {
                continue;
            }
            let mut since = history
                .runs
                .iter()
                .rev()
                .take_while(|run| run.at >= asked.at);
            let has_run = since.any(|run| (run.entity, run.node) == (asked.entity, asked.node));
            assert!(
                !waits && (ended.is_some() || has_run),
                "entity {} on {} in {} waits for a lease, which needs none: operation {}, sent at {}, {ended:?}",
                asked.entity,
                asked.node,
                asked.epoch,
                asked.operation,
                asked.at
            );
            drop(history);
            self.counts.kept_asked += 1;
        }
    }
}
