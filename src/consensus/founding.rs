//! What the founders of a cluster agree on, what they say to each other, and what they must not forget.

use std::collections::BTreeSet;

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::configuration::Configuration;
use super::peer::{ClusterId, PeerId};
use crate::base::ids::NodeId;
use crate::wire::archive::from_bytes;

/// The most nodes that can be named as founders.
pub const MAX_FOUNDERS: usize = 64;
/// No message of the founding is longer.
pub const MAX_FOUNDING_BYTES: usize = 16 << 10;
/// No round is as high as this: the others count on from it.
const MAX_ROUND: u64 = 1 << 60;
const VERSION: [u8; 8] = *b"CCFO\x01\0\0\0";

/// A cluster, at its beginning.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Founding {
    /// Its id, as [`ClusterId`].
    pub cluster: u128,
    /// Its first voters, as [`PeerId`]s, in order.
    pub voters: Vec<u64>,
}

impl Founding {
    pub(super) fn new(cluster: ClusterId, voters: &BTreeSet<PeerId>) -> Founding {
        Founding {
            cluster: cluster.0,
            voters: voters.iter().map(|voter| voter.number()).collect(),
        }
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        ClusterId(self.cluster)
    }

    /// The first configuration.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        let voters = self
            .voters
            .iter()
            .filter_map(|voter| PeerId::from_number(*voter));
        Configuration::of_voters(voters)
    }

    fn is_sound(&self) -> bool {
        let voters = self.configuration().voters;
        !voters.is_empty() && voters.len() == self.voters.len() && voters.len() <= MAX_FOUNDERS
    }
}

/// A ballot: who wants to decide, and for the how-manieth time. Unique, for each peer counts for itself.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
pub struct Ballot {
    /// The round, from 1.
    pub round: u64,
    /// The peer whose ballot it is.
    pub peer: u64,
}

/// What a founder must not forget. It is durable before anything is said that depends on it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// No lower ballot is answered any more.
    pub promised: Ballot,
    /// What was accepted last, in which ballot.
    pub accepted: Option<(Ballot, Founding)>,
}

/// What nodes say to each other before they have a cluster.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FoundingMessage {
    /// Who says it, as [`PeerId`].
    pub from: u64,
    /// The founders that the sender names, itself included; in order.
    pub named: Vec<u32>,
    /// What it says.
    pub says: Says,
}

/// What is said.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// Here I am; who are you?
    Hello,
    /// I belong to no cluster yet.
    Blank,
    /// I belong to this cluster, which began like this.
    Member(Founding),
    /// Answer nobody below this ballot any more, and say what you have accepted.
    Prepare(Ballot),
    /// Promised; this is what I have accepted.
    Promised(Ballot, Option<(Ballot, Founding)>),
    /// Accept this.
    Accept(Ballot, Founding),
    /// Accepted.
    Accepted(Ballot),
    /// I have promised a higher ballot.
    Busy(Ballot),
}

impl FoundingMessage {
    /// Whose message it is; `None` if it cannot be anybody's.
    #[must_use]
    pub fn peer(&self) -> Option<PeerId> {
        PeerId::from_number(self.from)
    }

    /// The nodes that it names.
    #[must_use]
    pub fn named(&self) -> BTreeSet<NodeId> {
        self.named.iter().copied().map(NodeId).collect()
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        bytes.extend_from_slice(&[0; 8]);
        // A message of bounded size can always be archived.
        if let Ok(archive) = rkyv::to_bytes::<rkyv::rancor::Error>(self) {
            bytes.extend_from_slice(&archive);
        }
        bytes
    }

    /// Reads a message; `None` if the bytes are none of this version, or say what cannot be.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<FoundingMessage> {
        if bytes.len() > MAX_FOUNDING_BYTES || bytes.get(..8)? != VERSION {
            return None;
        }
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes.get(16..)?);
        let message: FoundingMessage = from_bytes(&aligned).ok()?;
        let founding = match &message.says {
            Says::Member(founding) | Says::Accept(_, founding) => Some(founding),
            Says::Promised(_, Some((_, founding))) => Some(founding),
            _ => None,
        };
        let (first, second) = match &message.says {
            Says::Hello | Says::Blank | Says::Member(_) => (None, None),
            Says::Prepare(ballot)
            | Says::Accept(ballot, _)
            | Says::Accepted(ballot)
            | Says::Busy(ballot) => (Some(ballot), None),
            Says::Promised(ballot, accepted) => {
                (Some(ballot), accepted.as_ref().map(|(ballot, _)| ballot))
            }
        };
        let mut ballots = first.into_iter().chain(second);
        let sound = message.peer().is_some()
            && message.named.len() <= MAX_FOUNDERS
            && ballots.all(|ballot| ballot.round < MAX_ROUND)
            && founding.is_none_or(Founding::is_sound);
        sound.then_some(message)
    }
}
