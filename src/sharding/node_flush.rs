//! The old route by which a core has sent to a shard, until all that went there has come to where the shard is.
//!
//! A marker goes down that route, behind what was sent: to the past owner, which passes it on like everything else. Whoever
//! has died passes nothing on any more, but what it has passed on before waits, or is on its way, at those that have owned
//! the shard after it. It must not be overtaken. So when a past owner dies the marker goes to the first one after it that
//! lives, up to the present one: from there it goes the same way as what came there before.
//!
//! Each node takes what a core has sent on one of its own cores, whoever has passed it on and whichever core that came to:
//! the one that the marker comes to, too.
//!
//! An owner that had the shard when it died has passed on nothing of its time: that is lost, and nothing is waited for.
//!
//! Whoever has not heard of a death yet drops the marker that relies upon it, which comes again: until then it takes what
//! the dead one has sent.
//!
//! Who owned the shard between two news is not known here. So one thing is not covered: a core that hears of several owners
//! at once, the first of which has died since, flushes the present one and none between. Nor is the moment covered in which
//! one core of a node has heard of a death and another has not, which still takes what the dead one has sent, and hands it to
//! the first.
//!
//! Markers do not wait for each other in a circle. Where one waits behind what a past owner holds because that flushes an
//! owner itself, that one is of a later epoch: a node has known of a shard that it has given away in this life, and says
//! [`Drained`](super::node_steps::Drained) only when it has nothing to flush. Nobody sends a marker to another life of a node
//! than the one that has had the shard. A present owner passes the marker of its own epoch by what it flushes itself.

use super::cluster_view::Members;
use super::node_steps::{NodeStep, ShardNews};
use crate::base::ids::{Epoch, Incarnation, NodeId, ShardKey};
use crate::base::time::Time;

/// An owner by which something that this core has sent may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Via {
    node: NodeId,
    incarnation: Incarnation,
    /// In which it had the shard.
    epoch: Epoch,
}

/// A marker that has yet to come back.
///
/// Memory: one entry for each life of a node that has owned the shard since the flush began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flushing {
    /// In the order in which they have owned the shard. The first has the marker.
    by: Vec<Via>,
    pub(super) token: u64,
    pub(super) again_at: Time,
}

impl Flushing {
    /// What has to be flushed after this news, by a core of the node `me`: `None` if nothing does.
    pub(super) fn begin(
        me: NodeId,
        news: &ShardNews,
        members: &Members,
        (token, again_at): (u64, Time),
    ) -> Option<Flushing> {
        let (before, is) = (news.before, news.now);
        let via = before.owner.filter(|via| *via != me)?;
        // Also if it has got the shard again: what this core has sent there may be on its way by those that had it between.
        if !news.used || is.epoch == before.epoch || is.fence.0 == before.epoch.0 + 1 {
            return None;
        }
        let mut flushing = Flushing {
            by: Vec::new(),
            token,
            again_at,
        };
        if news.is_same_life {
            flushing.goes_by(via, before.epoch, members);
        }
        flushing.goes_on(me, news, members);
        (!flushing.by.is_empty()).then_some(flushing)
    }

    /// The shard has another owner: what is on its way may go by that one as well.
    pub(super) fn goes_on(&mut self, me: NodeId, news: &ShardNews, members: &Members) {
        // What comes here comes to where this core sends what it holds.
        if let Some(owner) = news.now.owner.filter(|owner| *owner != me) {
            self.goes_by(owner, news.now.epoch, members);
        }
    }

    fn goes_by(&mut self, node: NodeId, epoch: Epoch, members: &Members) {
        if let Some(incarnation) = members.get(&node).copied() {
            let is_known = |it: &Via| (it.node, it.incarnation) == (node, incarnation);
            if !self.by.iter().any(is_known) {
                self.by.push(Via {
                    node,
                    incarnation,
                    epoch,
                });
            }
        }
    }

    /// Whether the marker may have to pass by a life of a node.
    pub(super) fn goes_through(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let mut by = self.by.iter();
        by.any(|via| (via.node, via.incarnation) == (node, incarnation))
    }

    /// Leaves out those that are no members any more. Returns whether the one that has the marker is among them.
    pub(super) fn leave_out_dead(&mut self, members: &Members) -> bool {
        let first = self.by.first().copied();
        let lives = |it: &Via| members.get(&it.node) == Some(&it.incarnation);
        self.by.retain(lives);
        self.by.first() != first.as_ref()
    }

    /// Sends the marker; `None` if nobody is left that could pass it on.
    pub(super) fn step(&self, shard: ShardKey) -> Option<NodeStep> {
        let via = self.by.first()?;
        Some(NodeStep::Flush {
            shard,
            via: via.node,
            epoch: via.epoch,
            token: self.token,
        })
    }
}
