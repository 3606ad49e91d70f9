//! What users of a cluster, and the drivers of its nodes, may ask.

use super::machine::ClusterNode;
use super::observing::Observing;
use super::output::{LeaseState, NodeCounters};
use crate::base::ids::{Incarnation, NodeId, ShardKey};
use crate::base::time::Time;
use crate::cluster::record::NodeRecord;
use crate::cluster::state::ClusterState;
use crate::consensus::output::Leadership;
use crate::consensus::peer::{ClusterId, PeerId};
use crate::membership::SwimCounters;
use crate::membership::accusation::Accusation;
use crate::membership::detector::DetectorCounters;
use crate::membership::view::{Member, MemberState, View};
use crate::sharding::ownership::ShardRecord;

impl ClusterNode {
    /// What the cluster has agreed on, as far as this node knows: members, entity types, owners of shards.
    #[must_use]
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &View {
        self.state.members()
    }

    /// This node in its present life; `None` before it has joined, and after that life.
    #[must_use]
    pub fn self_node(&self) -> Option<&Member> {
        let me = self.members().self_node();
        me.filter(|me| Some(me.incarnation) == self.life && me.is_live())
    }

    /// This node's life, once it has joined.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.life
    }

    /// The cluster to which this node belongs, as soon as that is known for good.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.durable.founding().map(|founding| founding.cluster())
    }

    /// The record as it is written or about to be.
    #[must_use]
    pub fn record(&self) -> &NodeRecord {
        self.durable.record()
    }

    /// The peer of the log that this node is, once its directory has a number.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        self.peer()
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.led.leader.map(|leader| leader.node())
    }

    /// Who leads, and in which term.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.led
    }

    /// What is known of a shard: its owner and epochs.
    #[must_use]
    pub fn shard(&self, shard: ShardKey) -> Option<&ShardRecord> {
        self.state.ownership().shard(shard)
    }

    /// Whether this node is up, together with at least `required_quorum` nodes, and has a lease: what a start waits for.
    #[must_use]
    pub fn is_ready(&self, now: Time) -> bool {
        self.wait_for(self.settings.required_quorum) && self.has_control_quorum(now)
    }

    /// Whether this node and at least `n` nodes in all are up.
    #[must_use]
    pub fn wait_for(&self, n: usize) -> bool {
        let is_up = self
            .self_node()
            .is_some_and(|me| me.state == MemberState::Up);
        is_up && self.members().has_up(n)
    }

    /// Whether the cluster can decide anything, as far as this node knows: its lease is valid. Without it there are no
    /// joins, moves, allocations and failovers, and shards seal (`NoControlQuorum`).
    #[must_use]
    pub fn has_control_quorum(&self, now: Time) -> bool {
        matches!(self.lease, LeaseState::Valid { until } if now < until)
    }

    /// This node's lease.
    #[must_use]
    pub fn lease(&self) -> LeaseState {
        self.lease
    }

    /// Whether this node takes part no more.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Whom this node cannot reach at this moment, whatever the log says of it.
    pub fn accusations(&self) -> impl Iterator<Item = Accusation> {
        let observing = self.observing.as_ref();
        observing.into_iter().flat_map(|o| o.detector.accusations())
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        self.counters
    }

    /// What the observers of this life have counted.
    #[must_use]
    pub fn observer_counters(&self) -> Option<(SwimCounters, DetectorCounters)> {
        let counters = |observing: &Observing| {
            let Observing { swim, detector } = observing;
            (swim.counters(), detector.counters())
        };
        self.observing.as_ref().map(counters)
    }
}
