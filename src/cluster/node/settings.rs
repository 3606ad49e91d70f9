//! What a node of a cluster has to know before it starts.

use core::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::mutant::NodeMutant;
use crate::base::ids::NodeId;
use crate::cluster::command::MAX_NAME_BYTES;
use crate::cluster::join_request::MAX_TYPES_PER_NODE;
use crate::cluster::steward::{StewardSettings, StewardSettingsError};
use crate::consensus::bootstrap::{BootstrapSettings, Start};
use crate::consensus::settings::ConsensusSettings;
use crate::membership::settings::MembershipSettings;
use crate::sharding::ownership::{MAX_SHARDS, TypeSpec};

/// Below it a node would be busy with asking; above it nobody waits, and times that are multiplied would not fit.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_secs(3_600);
const MAX_ROLES: usize = 32;
const MAX_ROLE_BYTES: usize = 64;

/// A node of which it is known where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed {
    /// Its id.
    pub node: NodeId,
    /// Its advertised address. None, if it is not known yet: it is said later
    /// ([`seed_found`](super::machine::ClusterNode::seed_found)), or the seed comes by itself.
    pub address: Option<SocketAddr>,
}

/// The settings of one node of a cluster.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its id, above 0, which it keeps over its lives. No other node has it.
    pub node: NodeId,
    /// Where others reach it, by stream and by datagram.
    pub address: SocketAddr,
    /// What it does; at most 32 roles, each of 1 to 64 bytes.
    pub roles: Vec<String>,
    /// How many data cores it has; a node without any owns no shards.
    pub data_cores: u16,
    /// The founders, the same list on every node that may found the cluster; for others, whom to ask. It may name this
    /// node. Without any, a node founds a cluster alone.
    pub seeds: Vec<Seed>,
    /// Whether it may found a cluster.
    pub start: Start,
    /// Its entity types; at most 1,024.
    pub types: Vec<TypeSpec>,
    /// How many nodes must be up for this one to be ready. Start with 1; a cluster of three that starts as a whole may
    /// want 3.
    pub required_quorum: usize,
    /// How often a node that is not in asks again, and how often shards that are wanted are reported anew, 1 ms to an hour.
    /// Start with 250 ms. Unanswered requests become rarer, down to an eighth of this.
    pub ask_every: Duration,
    /// The times of a founding.
    pub bootstrap: BootstrapSettings,
    /// Failure detection.
    pub membership: MembershipSettings,
    /// The log and the leases.
    pub consensus: ConsensusSettings,
    /// How shards are placed.
    pub steward: StewardSettings,
    /// A planted bug.
    #[doc(hidden)]
    pub mutant: Option<NodeMutant>,
}

/// Settings that make no sense.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NodeSettingsError {
    /// Of the node itself.
    #[error("setting `{setting}` of the node is {value}; it must be {must_be}")]
    Node {
        /// The name of the field.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be set to.
        must_be: &'static str,
    },
    /// Of failure detection.
    #[error(transparent)]
    Membership(#[from] crate::membership::settings::SettingsError),
    /// Of the log and the leases.
    #[error(transparent)]
    Consensus(#[from] crate::consensus::settings::SettingsError),
    /// Of placement.
    #[error(transparent)]
    Steward(#[from] StewardSettingsError),
}

impl NodeSettings {
    /// The defaults for a node that founds a cluster alone; give it seeds, roles, types and cores.
    #[must_use]
    pub fn new(node: NodeId, address: SocketAddr) -> NodeSettings {
        NodeSettings {
            node,
            address,
            roles: Vec::new(),
            data_cores: 1,
            seeds: Vec::new(),
            start: Start::Found,
            types: Vec::new(),
            required_quorum: 1,
            ask_every: Duration::from_millis(250),
            bootstrap: BootstrapSettings::default(),
            membership: MembershipSettings::default(),
            consensus: ConsensusSettings::default(),
            steward: StewardSettings::default(),
            mutant: None,
        }
    }

    /// The fast profile: for machines that are close to each other and never stall.
    #[must_use]
    pub fn fast(self) -> NodeSettings {
        NodeSettings {
            ask_every: Duration::from_millis(50),
            bootstrap: BootstrapSettings {
                ask_every: Duration::from_millis(50),
                settle: Duration::from_millis(500),
                ballot: Duration::from_millis(100),
                ..self.bootstrap
            },
            membership: MembershipSettings::fast(),
            consensus: ConsensusSettings::fast(),
            ..self
        }
    }

    /// Checks that the settings make sense.
    ///
    /// # Errors
    ///
    /// [`NodeSettingsError`] for the first that doesn't.
    pub fn check(&self) -> Result<(), NodeSettingsError> {
        let usable = |address: SocketAddr| address.port() != 0 && !address.ip().is_unspecified();
        let fits = |text: &str, max: usize| {
            (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        let is_role = |role: &String| fits(role, MAX_ROLE_BYTES);
        let is_type = |spec: &TypeSpec| {
            fits(&spec.name, MAX_NAME_BYTES)
                && (1..=MAX_SHARDS).contains(&spec.shards)
                && spec.role.as_ref().is_none_or(is_role)
        };
        let is_wrong = |seed: &Seed| match seed.address {
            Some(at) => !usable(at) || (seed.node == self.node) != (at == self.address),
            None => seed.node == self.node,
        };
        let mut seeds = self.seeds.iter();
        let wrong_seed = seeds.find(|seed| seed.node == NodeId(0) || is_wrong(seed));
        let wrong_type = self.types.iter().find(|spec| !is_type(spec));
        let pause = |setting, value: Duration| {
            let fine = (PAUSE_LEAST..=PAUSE_MOST).contains(&value);
            (setting, fine, format!("{value:?}"), "from 1 ms to an hour")
        };
        let checks = [
            (
                "node",
                self.node != NodeId(0),
                self.node.to_string(),
                "above 0",
            ),
            (
                "address",
                usable(self.address),
                self.address.to_string(),
                "an address and a port at which others reach this node",
            ),
            (
                "roles",
                self.roles.len() <= MAX_ROLES && self.roles.iter().all(is_role),
                format!("{:?}", self.roles),
                "at most 32 roles, each of 1 to 64 bytes without control characters",
            ),
            (
                "seeds",
                wrong_seed.is_none(),
                format!("{wrong_seed:?}"),
                "node ids above 0, with addresses that can be reached or none yet; this node's with its own address",
            ),
            (
                "seeds",
                self.start == Start::Found || self.seeds.iter().any(|s| s.node != self.node),
                "empty".to_owned(),
                "at least one other node, for a node that only joins",
            ),
            (
                "types",
                wrong_type.is_none() && self.types.len() <= MAX_TYPES_PER_NODE,
                format!("{} types, {wrong_type:?}", self.types.len()),
                "at most 1,024, with names of 1 to 255 bytes, 1 to 65,536 shards, and roles of 1 to 64 bytes",
            ),
            pause("ask_every", self.ask_every),
            pause("bootstrap.ask_every", self.bootstrap.ask_every),
            pause("bootstrap.ballot", self.bootstrap.ballot),
        ];
        if let Some((setting, _, value, must_be)) = checks.into_iter().find(|(_, fine, ..)| !fine) {
            return Err(NodeSettingsError::Node {
                setting,
                value,
                must_be,
            });
        }
        self.membership.check()?;
        self.consensus.check()?;
        self.steward.check()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharding::strategy::PlacementStrategy;

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let address: SocketAddr = "10.0.0.1:7000".parse().unwrap();
        let fine = NodeSettings::new(NodeId(1), address);
        assert_eq!(fine.check(), Ok(()));
        assert_eq!(fine.clone().fast().check(), Ok(()));
        type Spoil = fn(&mut NodeSettings);
        let cases: [(&str, Spoil); 12] = [
            ("node", |s| s.node = NodeId(0)),
            ("address", |s| s.address.set_port(0)),
            ("roles", |s| s.roles = vec![String::new()]),
            ("seeds", |s| s.start = Start::Join),
            ("seeds", |s| {
                let address = "10.0.0.2:7000".parse().unwrap();
                s.seeds = vec![Seed {
                    node: NodeId(1),
                    address: Some(address),
                }];
            }),
            ("types", |s| {
                s.types = vec![TypeSpec {
                    name: "cart".into(),
                    shards: 0,
                    strategy: PlacementStrategy::HashRing,
                    role: None,
                    keep_running: false,
                }];
            }),
            ("ask_every", |s| s.ask_every = Duration::ZERO),
            ("ask_every", |s| s.ask_every = Duration::MAX),
            ("bootstrap.ask_every", |s| {
                s.bootstrap.ask_every = Duration::ZERO
            }),
            ("bootstrap.ballot", |s| s.bootstrap.ballot = Duration::ZERO),
            ("seeds", |s| {
                s.seeds = vec![Seed {
                    node: NodeId(2),
                    address: Some(s.address),
                }];
            }),
            ("seeds", |s| {
                s.seeds = vec![Seed {
                    node: NodeId(1),
                    address: None,
                }];
            }),
        ];
        for (name, spoil) in cases {
            let mut settings = fine.clone();
            spoil(&mut settings);
            let error = settings.check().unwrap_err();
            assert!(
                matches!(error, NodeSettingsError::Node { setting, .. } if setting == name),
                "{error}"
            );
        }
        let mut settings = fine;
        settings.consensus.lease = Duration::ZERO;
        assert!(settings.check().is_err());
    }
}
