//! Which peers vote and which only learn, and one change of it.

use std::collections::BTreeSet;

use rkyv::{Archive, Deserialize, Serialize};
use thiserror::Error;

use super::peer::PeerId;

/// The most peers of one cluster, voters and learners together.
pub const MAX_PEERS: usize = 1024;

/// The peers of a cluster.
///
/// While a change of several peers is under way, two sets of voters have to agree (joint consensus: Ongaro, *Consensus:
/// Bridging Theory and Practice*, section 4.3); then `outgoing` is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Who votes.
    pub voters: BTreeSet<PeerId>,
    /// Who gets the log without a vote.
    pub learners: BTreeSet<PeerId>,
    /// Who voted before the change under way, and still has to agree.
    pub outgoing: BTreeSet<PeerId>,
    /// Voters of before who will learn when the change is through.
    pub learners_next: BTreeSet<PeerId>,
    /// Whether the leader ends the change by itself.
    pub auto_leave: bool,
}

impl Configuration {
    /// A configuration of voters only.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = PeerId>) -> Configuration {
        Configuration {
            voters: voters.into_iter().collect(),
            ..Configuration::default()
        }
    }

    /// Whether a peer belongs to it, in whatever part.
    #[must_use]
    pub fn contains(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer)
            || self.learners.contains(&peer)
            || self.outgoing.contains(&peer)
    }

    /// All peers, in the order of their ids.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<PeerId> {
        let parts = [&self.voters, &self.learners, &self.outgoing];
        parts.into_iter().flatten().copied().collect()
    }

    /// Whether a change is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Checks what raft-rs takes for granted.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        let voting = self.voters.union(&self.outgoing);
        if self.voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        if self.peers().len() > MAX_PEERS {
            return Err(ConfigurationError::TooMany(self.peers().len()));
        }
        if let Some(peer) = voting.clone().find(|peer| self.learners.contains(peer)) {
            return Err(ConfigurationError::VotesAndLearns(*peer));
        }
        let stays = |peer: &&PeerId| !self.outgoing.contains(peer) || self.voters.contains(peer);
        if let Some(peer) = self.learners_next.iter().find(stays) {
            return Err(ConfigurationError::LearnsNext(*peer));
        }
        if self.auto_leave && !self.is_joint() {
            return Err(ConfigurationError::LeavesNothing);
        }
        Ok(())
    }
}

/// What is wrong with a configuration that came from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigurationError {
    /// Nobody could decide anything.
    #[error("the configuration has no voters")]
    NoVoters,
    /// More than [`MAX_PEERS`].
    #[error("the configuration has {0} peers; at most {MAX_PEERS} are possible")]
    TooMany(usize),
    /// A peer is in two sets that exclude each other.
    #[error("{0} is a voter and a learner at once")]
    VotesAndLearns(PeerId),
    /// Only a voter of before can become a learner next.
    #[error("{0} is to learn next, and is not a voter on its way out")]
    LearnsNext(PeerId),
    /// `auto_leave` without a change under way.
    #[error("the configuration is to be left, and no change is under way")]
    LeavesNothing,
    /// A peer without a disk.
    #[error("{0} is not the number of a peer")]
    NotAPeer(u64),
}

/// A configuration as numbers, for messages and files.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationRecord {
    /// See [`Configuration::voters`].
    pub voters: Vec<u64>,
    /// See [`Configuration::learners`].
    pub learners: Vec<u64>,
    /// See [`Configuration::outgoing`].
    pub outgoing: Vec<u64>,
    /// See [`Configuration::learners_next`].
    pub learners_next: Vec<u64>,
    /// See [`Configuration::auto_leave`].
    pub auto_leave: bool,
}

impl From<&Configuration> for ConfigurationRecord {
    fn from(configuration: &Configuration) -> ConfigurationRecord {
        let numbers = |peers: &BTreeSet<PeerId>| peers.iter().map(|peer| peer.number()).collect();
        ConfigurationRecord {
            voters: numbers(&configuration.voters),
            learners: numbers(&configuration.learners),
            outgoing: numbers(&configuration.outgoing),
            learners_next: numbers(&configuration.learners_next),
            auto_leave: configuration.auto_leave,
        }
    }
}

impl TryFrom<&ConfigurationRecord> for Configuration {
    type Error = ConfigurationError;

    /// Reads and checks a configuration; one without any peer is fine here.
    fn try_from(record: &ConfigurationRecord) -> Result<Configuration, ConfigurationError> {
        let peers = |numbers: &[u64]| -> Result<BTreeSet<PeerId>, ConfigurationError> {
            let peer = |number: &u64| {
                PeerId::from_number(*number).ok_or(ConfigurationError::NotAPeer(*number))
            };
            numbers.iter().map(peer).collect()
        };
        let configuration = Configuration {
            voters: peers(&record.voters)?,
            learners: peers(&record.learners)?,
            outgoing: peers(&record.outgoing)?,
            learners_next: peers(&record.learners_next)?,
            auto_leave: record.auto_leave,
        };
        if configuration != Configuration::default() {
            configuration.check()?;
        }
        Ok(configuration)
    }
}

/// What becomes of one peer.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerChange {
    /// It gets a vote.
    Vote,
    /// It gets the log without a vote.
    Learn,
    /// It leaves.
    Remove,
}

/// A change of the configuration, as it stands in the log. Without any step it ends the change under way.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationChange {
    /// What becomes of whom, as numbers of peers. One step is made at once, several by joint consensus.
    pub steps: Vec<(PeerChange, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::consensus::peer::DiskId;

    fn peer(node: u32) -> PeerId {
        PeerId::new(NodeId(node), DiskId::from_number(1).unwrap())
    }

    #[test]
    fn a_configuration_survives_being_written_and_bad_ones_are_named() {
        let fine = Configuration {
            voters: [peer(1), peer(2)].into(),
            learners: [peer(4)].into(),
            outgoing: [peer(1), peer(3)].into(),
            learners_next: [peer(3)].into(),
            auto_leave: true,
        };
        assert_eq!(
            Configuration::try_from(&ConfigurationRecord::from(&fine)),
            Ok(fine.clone())
        );
        let none = ConfigurationRecord::default();
        assert_eq!(Configuration::try_from(&none), Ok(Configuration::default()));
        type Spoil = fn(&mut Configuration);
        let spoilt: [(Spoil, ConfigurationError); 5] = [
            (|c| c.voters.clear(), ConfigurationError::NoVoters),
            (
                |c| {
                    c.learners.insert(peer(1));
                },
                ConfigurationError::VotesAndLearns(peer(1)),
            ),
            (
                |c| {
                    c.learners_next.insert(peer(1));
                },
                ConfigurationError::LearnsNext(peer(1)),
            ),
            (
                |c| {
                    c.outgoing.clear();
                    c.learners_next.clear();
                },
                ConfigurationError::LeavesNothing,
            ),
            (
                |c| c.learners = (10..2000).map(peer).collect(),
                ConfigurationError::TooMany(1993),
            ),
        ];
        for (spoil, error) in spoilt {
            let mut configuration = fine.clone();
            spoil(&mut configuration);
            assert_eq!(configuration.check(), Err(error));
        }
        let mut record = ConfigurationRecord::from(&fine);
        record.voters.push(7 << 32);
        assert_eq!(
            Configuration::try_from(&record),
            Err(ConfigurationError::NotAPeer(7 << 32))
        );
    }
}
