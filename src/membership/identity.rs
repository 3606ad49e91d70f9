//! Who a node is to SWIM.

use core::net::{IpAddr, SocketAddr};
use std::fmt;

use crate::base::ids::{Incarnation, NodeId};

/// A node in one of its lives, as SWIM knows it.
///
/// The log gives out incarnations and alone ends them. The generation is SWIM's own: a node that SWIM has falsely
/// called dead takes the next one and goes on in the same life, and nobody above SWIM hears of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SwimId {
    node: NodeId,
    incarnation: Incarnation,
    generation: u32,
    address: SocketAddr,
}

impl SwimId {
    /// A node in one of its lives, reached at `address`. Flow label and scope of an IPv6 address mean something on one
    /// machine only, and are left out.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, address: SocketAddr) -> SwimId {
        SwimId::of_generation(node, incarnation, 0, address)
    }

    pub(super) fn of_generation(
        node: NodeId,
        incarnation: Incarnation,
        generation: u32,
        address: SocketAddr,
    ) -> SwimId {
        SwimId {
            node,
            incarnation,
            generation,
            address: SocketAddr::new(address.ip(), address.port()),
        }
    }

    /// Whoever is at `address`: to ask for the way into a cluster of which nothing but addresses is known.
    pub(super) fn whoever_is_at(address: SocketAddr) -> SwimId {
        SwimId::new(NodeId(0), Incarnation(0), address)
    }

    pub(super) fn is_whoever(&self) -> bool {
        self.node == NodeId(0)
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its life.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How often SWIM has called it dead in this life, falsely.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether nobody could send anything there.
    pub(super) fn has_no_address(&self) -> bool {
        self.address.port() == 0 || self.address.ip().is_unspecified()
    }

    /// Of two that claim to be one node, the one with the larger rank is believed. The address is only there to have
    /// every node decide alike.
    fn rank(&self) -> (Incarnation, u32, IpAddr, u16) {
        let (ip, port) = (self.address.ip(), self.address.port());
        (self.incarnation, self.generation, ip, port)
    }
}

impl foca::Identity for SwimId {
    type Addr = NodeId;

    fn renew(&self) -> Option<SwimId> {
        let generation = self.generation.checked_add(1)?;
        Some(SwimId {
            generation,
            ..*self
        })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &SwimId) -> bool {
        self.rank() > adversary.rank()
    }
}

impl fmt::Debug for SwimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SwimId {
            node,
            incarnation,
            generation,
            address,
        } = self;
        write!(f, "{node}/{incarnation}.{generation}@{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity;

    #[test]
    fn the_newer_life_wins_then_the_newer_generation() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let old = SwimId::new(NodeId(3), Incarnation(4), at("10.0.0.3:7000"));
        let renewed = old.renew().unwrap();
        let reborn = SwimId::new(NodeId(3), Incarnation(9), at("10.0.0.1:7000"));
        for (winner, loser) in [(renewed, old), (reborn, renewed), (reborn, old)] {
            assert!(winner.win_addr_conflict(&loser), "{winner:?} {loser:?}");
            assert!(!loser.win_addr_conflict(&winner), "{winner:?} {loser:?}");
        }
        let elsewhere = SwimId::new(NodeId(3), Incarnation(4), at("10.0.0.4:7000"));
        assert_ne!(
            old.win_addr_conflict(&elsewhere),
            elsewhere.win_addr_conflict(&old)
        );
        assert_eq!(renewed.addr(), old.addr());
    }

    #[test]
    fn what_other_machines_cannot_use_is_left_out() {
        let scoped = SocketAddr::V6(core::net::SocketAddrV6::new(
            "fe80::1".parse().unwrap(),
            1,
            2,
            3,
        ));
        let id = SwimId::new(NodeId(1), Incarnation(1), scoped);
        assert_eq!(id.address(), "[fe80::1]:1".parse::<SocketAddr>().unwrap());
        assert!(!id.has_no_address());
        assert!(SwimId::whoever_is_at("0.0.0.0:1".parse().unwrap()).has_no_address());
        assert!(SwimId::whoever_is_at("1.2.3.4:0".parse().unwrap()).has_no_address());
    }
}
