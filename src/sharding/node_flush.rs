//! The old route by which a core has sent to a shard, until all that went there has come to where the shard is.
//!
//! A marker goes down that route, behind what was sent: to the past owner, which passes it on like everything else. For as long
//! as that one lives its marker alone is enough: it is a sender itself, whose streams keep their order whoever else dies.
//!
//! Whoever has died passes nothing on any more, but what it has passed on before waits, or is on its way, at those that have
//! owned the shard after it. It must not be overtaken. Which of them it had sent to nobody knows. So when a past owner dies
//! each one after it that lives gets a marker, the present one too: from there it goes the same way as what came there before,
//! and all have to come back. When another of them dies they are all sent anew, for what that one has passed on may be behind
//! the markers of the others. A core that hears of several owners at once learns from the log who was between
//! ([`past_owners`](super::past_owners)).
//!
//! Each node takes what a core has sent, the stream of that core, on one of its own cores, whoever has passed it on and whichever
//! core that came to: the core whose index is that of the sender modulo the number of cores. So a core that has passed on
//! streams of several cores, as it does where nodes have unequal numbers of cores, sends a marker for each of them, which goes
//! to the same core of each node as the stream. Once a core has heard of a death it takes nothing of the dead one's, from other
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
//!
//! An owner that is to give the shard away has the markers of others wait until that is over, for it holds what comes; its own
//! pass. If it waits for itself all the same, by way of others, the move is refused when it has taken too long, which ends that.

use super::cluster_view::Members;
use super::node_steps::{NodeStep, ShardNews};
use crate::base::ids::{CoreId, Epoch, Incarnation, NodeId, ShardKey};
use crate::base::time::Time;

/// An owner by which something that this core has sent may go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Via {
    node: NodeId,
    incarnation: Incarnation,
    /// In which it had the shard.
    epoch: Epoch,
    /// What goes by it: of each stream one.
    markers: Vec<Marker>,
}

/// A marker of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marker {
    /// The core that has sent what is to be flushed, on whichever node.
    stream: CoreId,
    token: u64,
    is_back: bool,
}

/// Markers that have yet to come back.
///
/// Memory: one entry for each life of a node that has owned the shard since the flush began, or before it without that this
/// core has heard of it; and in that one for each stream, of which there are as many as the largest node has cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flushing {
    /// What is flushed.
    streams: Vec<CoreId>,
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
    /// New markers, one for each stream.
    fn markers(&mut self, streams: &[CoreId]) -> Vec<Marker> {
        let marker = |stream: &CoreId| {
            self.0 += 1;
            Marker {
                stream: *stream,
                token: self.0,
                is_back: false,
            }
        };
        streams.iter().map(marker).collect()
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
        if news.streams.is_empty() || is.epoch == before.epoch || is.fence.0 == before.epoch.0 + 1 {
            return None;
        }
        let mut flushing = Flushing {
            streams: news.streams.to_vec(),
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
                markers: tokens.markers(&self.streams),
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
        let life = |it: &Via| (it.node, it.incarnation);
        let (first, count) = (self.by.first().map(life), self.by.len());
        self.by
            .retain(|it| members.get(&it.node) == Some(&it.incarnation));
        if self.by.len() == count || self.by_first && self.by.first().map(life) == first {
            return false;
        }
        self.by_first = false;
        for via in &mut self.by {
            via.markers = tokens.markers(&self.streams);
        }
        true
    }

    /// A marker has come back. Returns whether that was the last.
    pub(super) fn passed(&mut self, token: u64) -> bool {
        let marked = self.marked();
        let mut markers = self.by[..marked]
            .iter_mut()
            .flat_map(|via| &mut via.markers);
        match markers.find(|marker| marker.token == token) {
            Some(marker) => marker.is_back = true,
            None => return false,
        }
        self.is_over()
    }

    /// Whether everything that was sent has come to where the shard is.
    pub(super) fn is_over(&self) -> bool {
        self.missing().next().is_none()
    }

    /// How many have markers: the first so many.
    fn marked(&self) -> usize {
        match self.by_first {
            true => 1,
            false => self.by.len(),
        }
    }

    fn missing(&self) -> impl Iterator<Item = (&Via, &Marker)> {
        let marked = self.by[..self.marked()].iter();
        let markers = marked.flat_map(|via| via.markers.iter().map(move |marker| (via, marker)));
        markers.filter(|(_, marker)| !marker.is_back)
    }

    /// Sends the markers that are not back.
    pub(super) fn steps(&self, shard: ShardKey) -> impl Iterator<Item = NodeStep> {
        self.missing().map(move |(via, marker)| NodeStep::Flush {
            shard,
            via: via.node,
            epoch: via.epoch,
            stream: marker.stream,
            token: marker.token,
        })
    }
}
