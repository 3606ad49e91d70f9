//! Judges what nodes did, from what came out of them and in real time, and knows nothing of how they do it.

use std::collections::{BTreeMap, BTreeSet};

use corecast::Time;
use corecast::base::ids::{NodeId, ShardKey};
use corecast::base::stable_hash::stable_hash;
use corecast::cluster::state::ClusterState;
use corecast::consensus::peer::{ClusterId, NodeLife, PeerId};
use corecast::membership::view::MemberState;
use corecast::sharding::ownership::OwnershipChange;

#[derive(Default)]
pub(crate) struct Judge {
    cluster: Option<ClusterId>,
    leaders: BTreeMap<u64, PeerId>,
    /// Which process lives which life.
    processes: BTreeMap<NodeLife, u64>,
    lives_of: BTreeMap<u64, NodeLife>,
    /// What the state was after each entry.
    states: BTreeMap<u64, u64>,
    /// Until when each life holds a lease, in real time, whether it knows to use it or not.
    leases: BTreeMap<NodeLife, Time>,
    pub(crate) down: BTreeSet<NodeLife>,
    /// Each move by its shard and its `Prepare`, and the entry that ended it.
    moves: BTreeMap<(ShardKey, u64), Option<u64>>,
    pub(crate) owned: u64,
    pub(crate) aborted: u64,
}

impl Judge {
    pub(crate) fn belongs(&mut self, node: NodeId, cluster: ClusterId) {
        let first = *self.cluster.get_or_insert(cluster);
        assert_eq!(first, cluster, "two clusters, the second at {node}");
    }

    pub(crate) fn leads(&mut self, peer: PeerId, term: u64) {
        let first = *self.leaders.entry(term).or_insert(peer);
        assert_eq!(first, peer, "two leaders in term {term}");
    }

    pub(crate) fn joined(&mut self, life: NodeLife, process: u64) {
        let first = *self.processes.entry(life).or_insert(process);
        assert_eq!(first, process, "two processes live {life}");
        let first = *self.lives_of.entry(process).or_insert(life);
        // It may be declared down already, and not know it yet: then it never gets a lease.
        assert_eq!(first, life, "a process lives twice");
    }

    /// A node says that it may act until then.
    pub(crate) fn leased(&mut self, life: NodeLife, until: Time) {
        self.acts(life);
        let known = self.leases.entry(life).or_insert(until);
        *known = until.max(*known);
    }

    /// A node may act now.
    pub(crate) fn acts(&self, life: NodeLife) {
        assert!(
            !self.down.contains(&life),
            "{life} is down and holds a lease"
        );
    }

    fn lives(&self, life: NodeLife) {
        assert!(!self.down.contains(&life), "{life} is down and lives again");
    }

    /// A node has applied the log up to here.
    pub(crate) fn applied(&mut self, node: NodeId, state: &ClusterState, now: Time) {
        let digest = stable_hash(&state.to_bytes());
        let first = *self.states.entry(state.applied()).or_insert(digest);
        assert_eq!(
            first,
            digest,
            "{node} has another state at {}",
            state.applied()
        );
        for member in state.members().members() {
            let life = NodeLife {
                node: member.node,
                incarnation: member.incarnation,
            };
            if member.state == MemberState::Down {
                if self.down.insert(life) {
                    let until = self.leases.get(&life).copied().unwrap_or(Time::ZERO);
                    assert!(
                        until <= now,
                        "{life} is declared down at {now} and has a lease until {until}"
                    );
                }
            } else if !self.states.range(state.applied() + 1..).any(|_| true) {
                // As of the newest entry that anybody has applied.
                self.lives(life);
            }
        }
    }

    /// A node tells its data cores of one step of a shard.
    pub(crate) fn shard_changed(&mut self, version: u64, change: &OwnershipChange) {
        let OwnershipChange { shard, before, now } = *change;
        if now.moving_to.is_some() {
            self.moves.entry((shard, now.since)).or_default();
        }
        if before.moving_to.is_some() {
            let ended = self.moves.entry((shard, before.since)).or_default();
            if ended.is_none() {
                match now.owner == before.moving_to {
                    true => self.owned += 1,
                    false => self.aborted += 1,
                }
            }
            let first = *ended.get_or_insert(version);
            assert_eq!(
                first, version,
                "the move {shard} of {} ends twice",
                before.since
            );
        }
    }

    pub(crate) fn entries(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn terms(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) fn lives_led(&self) -> usize {
        self.processes.len()
    }
}
