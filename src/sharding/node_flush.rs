//! The old route by which a core has sent to a shard, until all that went there has come to where the shard is.
//!
//! A marker goes down that route, behind what was sent: to the past owner, which passes it on like everything else. For as long
//! as that one lives its marker alone is enough: it is a sender itself, whose stream keeps its order whoever else dies.
//!
//! Whoever has died passes nothing on any more, but what it has passed on before waits, or is on its way, at those that have
//! owned the shard after it. It must not be overtaken. Which of them it had sent to nobody knows. So when a past owner dies
//! each one after it that lives gets a marker, the present one too: from there it goes the same way as what came there before,
//! and all have to come back. When another of them dies they are all sent anew, for what that one has passed on may be behind
//! the markers of the others. A core that hears of several owners at once learns from the log who was between
//! ([`past_owners`](super::past_owners)).
//!
//! Each node takes what a core has sent on one of its own cores, whoever has passed it on and whichever core that came to:
//! the one that the marker comes to, too. Once that core has heard of a death it takes nothing of the dead one's, from other
//! cores as little as from the connection.
//!
//! An owner that had the shard when it died has passed on nothing of its time: that is lost, and nothing is waited for.
//!
//! Whoever has not heard of a death yet drops the marker that relies upon it, which comes again: until then it takes what
//! the dead one has sent.
//!
//! Markers do not wait for each other in a circle. Where one waits behind what a past owner holds because that flushes owners
//! itself, those are of later epochs: a node has known of a shard that it has given away in this life, and says
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
    /// Names the marker that goes by it.
    token: u64,
    /// That has come back.
    is_back: bool,
}

/// Markers that have yet to come back.
///
/// Memory: one entry for each life of a node that has owned the shard since the flush began, or before it without that this
/// core has heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flushing {
    /// In the order in which they have owned the shard.
    by: Vec<Via>,
    /// Everything has gone to the first, which lives: it alone has a marker. Otherwise each has one.
    by_first: bool,
    pub(super) again_at: Time,
}

/// The markers of a core, of which no two have the same name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens(u64);

impl Tokens {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Flushing {
    /// What has to be flushed after this news, by a core of the node `me`: `None` if nothing does.
    pub(super) fn begin(
        me: NodeId,
        news: &ShardNews<'_>,
        members: &Members,
        tokens: &mut Tokens,
        again_at: Time,
    ) -> Option<Flushing> {
        let (before, is) = (news.before, news.now);
        let via = before.owner.filter(|via| *via != me)?;
        // Also if it has got the shard again: what this core has sent there may be on its way by those that had it between.
        if !news.used || is.epoch == before.epoch || is.fence.0 == before.epoch.0 + 1 {
            return None;
        }
        let mut flushing = Flushing {
            by: Vec::new(),
            by_first: false,
            again_at,
        };
        if news.is_same_life {
            flushing.by_first = flushing.goes_by(via, before.epoch, members, tokens);
        }
        flushing.goes_on(me, news, members, tokens);
        (!flushing.by.is_empty()).then_some(flushing)
    }

    /// The shard has had other owners: what is on its way may go by those as well. Returns whether there are markers to be
    /// sent to them.
    pub(super) fn goes_on(
        &mut self,
        me: NodeId,
        news: &ShardNews<'_>,
        members: &Members,
        tokens: &mut Tokens,
    ) -> bool {
        let between = news.past.iter().map(|past| (past.node, past.epoch));
        let now = news.now.owner.map(|owner| (owner, news.now.epoch));
        let mut is_new = false;
        for (node, epoch) in between.chain(now) {
            // What comes here comes to where this core sends what it holds.
            if node != me && epoch > news.before.epoch {
                is_new |= self.goes_by(node, epoch, members, tokens);
            }
        }
        is_new && !self.by_first
    }

    fn goes_by(
        &mut self,
        node: NodeId,
        epoch: Epoch,
        members: &Members,
        tokens: &mut Tokens,
    ) -> bool {
        let Some(incarnation) = members.get(&node).copied() else {
            return false;
        };
        let is_new = !self.goes_through(node, incarnation);
        if is_new {
            self.by.push(Via {
                node,
                incarnation,
                epoch,
                token: tokens.next(),
                is_back: false,
            });
        }
        is_new
    }

    /// Whether a marker may have to pass by a life of a node.
    pub(super) fn goes_through(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let mut by = self.by.iter();
        by.any(|via| (via.node, via.incarnation) == (node, incarnation))
    }

    /// Leaves out those that are no members any more. Returns whether markers have to be sent anew; none are if nobody is left
    /// that could pass one on.
    pub(super) fn leave_out_dead(&mut self, members: &Members, tokens: &mut Tokens) -> bool {
        let lives = |it: &Via| members.get(&it.node) == Some(&it.incarnation);
        let (first, count) = (self.by.first().copied(), self.by.len());
        self.by.retain(lives);
        if self.by.len() == count || self.by_first && self.by.first() == first.as_ref() {
            return false;
        }
        self.by_first = false;
        for via in &mut self.by {
            (via.token, via.is_back) = (tokens.next(), false);
        }
        true
    }

    /// A marker has come back. Returns whether that was the last.
    pub(super) fn passed(&mut self, token: u64) -> bool {
        let marked = self.marked();
        let via = self.by[..marked].iter_mut().find(|via| via.token == token);
        match via {
            Some(via) => via.is_back = true,
            None => return false,
        }
        self.is_over()
    }

    /// Whether everything that was sent has come to where the shard is.
    pub(super) fn is_over(&self) -> bool {
        self.by[..self.marked()].iter().all(|via| via.is_back)
    }

    /// How many have a marker: the first so many.
    fn marked(&self) -> usize {
        match self.by_first {
            true => 1,
            false => self.by.len(),
        }
    }

    /// Sends the markers that are not back.
    pub(super) fn steps(&self, shard: ShardKey) -> impl Iterator<Item = NodeStep> {
        let marked = self.by[..self.marked()].iter();
        marked
            .filter(|via| !via.is_back)
            .map(move |via| NodeStep::Flush {
                shard,
                via: via.node,
                epoch: via.epoch,
                token: via.token,
            })
    }
}
