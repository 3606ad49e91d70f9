//! What of a datagram reaches SWIM: nothing about lives that have ended, and nothing that makes this node accuse itself.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use foca::{Member, Message};

use crate::base::ids::{Incarnation, NodeId};
use crate::membership::datagram::{DatagramError, Packet};
use crate::membership::identity::SwimId;
use crate::membership::view::View;

/// What the log knows of lives, as far as the datagrams are concerned.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence {
    version: Option<u64>,
    last_incarnation: Incarnation,
    live: BTreeMap<NodeId, (Incarnation, SocketAddr)>,
}

impl Fence {
    /// Takes over what the log says; whether it is news.
    pub(super) fn adopt(&mut self, view: &View) -> bool {
        if self
            .version
            .is_some_and(|version| version >= view.version())
        {
            return false;
        }
        self.version = Some(view.version());
        self.last_incarnation = view.last_incarnation();
        let live = view.live();
        self.live = live
            .map(|member| (member.node, (member.incarnation, member.address)))
            .collect();
        true
    }

    /// Whether this life is over. One that is newer than what this node has seen of the log is not.
    pub(super) fn has_ended(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let current = self.live.get(&node).map(|(incarnation, _)| *incarnation);
        incarnation <= self.last_incarnation && current != Some(incarnation)
    }

    /// The live members, each with its life and where it is.
    pub(super) fn live(
        &self,
    ) -> impl ExactSizeIterator<Item = (NodeId, Incarnation, SocketAddr)> + '_ {
        self.live
            .iter()
            .map(|(node, (incarnation, address))| (*node, *incarnation, *address))
    }

    /// Whether the sender and the receiver of a datagram are who they should be. One for whoever is here is made one for
    /// this node.
    pub(super) fn check(&self, me: &SwimId, packet: &mut Packet) -> Result<(), DatagramError> {
        let (src, dst) = (packet.header.src, &mut packet.header.dst);
        if src.node() == me.node() && src.incarnation() >= me.incarnation() {
            return Err(DatagramError::FromOurselves {
                node: src.node(),
                address: src.address(),
                ours: me.address(),
            });
        }
        if src.node() == me.node() || self.has_ended(src.node(), src.incarnation()) {
            return Err(DatagramError::DeadIncarnation {
                node: src.node(),
                incarnation: src.incarnation(),
            });
        }
        if packet.header.message == Message::Announce && dst.is_whoever() {
            *dst = *me;
        }
        // Who only knows this node's last life may still ask for the way.
        let is_me = dst.node() == me.node()
            && (dst.incarnation() == me.incarnation()
                || packet.header.message == Message::Announce);
        if is_me {
            Ok(())
        } else {
            Err(DatagramError::Misdirected { node: dst.node() })
        }
    }

    /// Whether something said about a node may reach SWIM.
    pub(super) fn admits(&self, me: &SwimId, update: &Member<SwimId>) -> bool {
        let id = update.id();
        if id.node() != me.node() {
            return !id.is_whoever() && !self.has_ended(id.node(), id.incarnation());
        }
        // Another life of this node, or somebody else with its id, is the log's business. foca would call it dead, and
        // the other one would call this one dead, for ever.
        id.incarnation() == me.incarnation()
            && id.address() == me.address()
            && id.generation() <= me.generation()
    }
}
