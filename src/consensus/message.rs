//! What peers of the log say to each other, and how it looks as bytes.
//!
//! A message is a header of 16 bytes and an rkyv archive behind it:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `CCRF` |
//! | 4..6 | the version of what follows, little-endian |
//! | 6..8 | 0 |
//! | 8..16 | the length of what follows, little-endian |
//!
//! The raft messages mirror those of raft-rs, so that no protobuf travels. A transport must keep the order of what it
//! delivers between two peers and must not deliver anything twice; it may lose, and connections may be made anew.
//! A decoded message has been validated as far as it can be without the state of its receiver; the rest is done by
//! [`Consensus::step`](super::machine::Consensus::step).

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use thiserror::Error;

use super::configuration::{Configuration, ConfigurationError, PeerChange};
use super::entry::{EntryBody, LogEntry, ProposalRecord, SnapshotMeta};
use super::peer::{ClusterId, PeerId};
use super::settings::MAX_MESSAGE_BYTES;
use crate::wire::archive::from_bytes;

/// The version of the messages that this build writes and reads.
pub const MESSAGE_VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"CCRF";
const HEADER: usize = 16;
/// No term and no index is as high as this; a peer that says so would make others count beyond what numbers hold.
const MAX_NUMBER: u64 = 1 << 60;

/// One message of one peer to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The cluster to which both belong.
    pub cluster: ClusterId,
    /// Who says it.
    pub from: PeerId,
    /// To whom.
    pub to: PeerId,
    /// What.
    pub body: Body,
}

#[derive(Archive, Serialize, Deserialize)]
struct Envelope {
    cluster: u128,
    from: u64,
    to: u64,
    body: Body,
}

/// What a message says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Body {
    /// A message of the Raft protocol.
    Raft(RaftMessage),
    /// Proposals, for the leader to append.
    Propose(Vec<Proposed>),
    /// A proposal was not appended.
    Refused(AttemptRefused),
    /// A piece of a snapshot.
    Chunk(Chunk),
    /// How much of a snapshot has come.
    ChunkReceived(ChunkReceived),
    /// A node asks the leader for a lease.
    LeaseRequest(LeaseRequest),
    /// The leader grants a lease.
    LeaseGrant(LeaseGrant),
}

impl Body {
    /// Whether whoever takes it has something to write because of it, but for how much is committed and, seldom, a term.
    #[must_use]
    pub fn adds_to_log(&self) -> bool {
        match self {
            Body::Raft(message) => message.kind == RaftKind::Vote || !message.entries.is_empty(),
            Body::Propose(_) | Body::Chunk(_) => true,
            Body::Refused(_)
            | Body::ChunkReceived(_)
            | Body::LeaseRequest(_)
            | Body::LeaseGrant(_) => false,
        }
    }

    /// The term that whoever takes it may come to be in by it; 0 if by none.
    pub(super) fn term(&self) -> u64 {
        match self {
            Body::Raft(message) => message.term,
            Body::Chunk(chunk) => chunk.term,
            Body::Propose(_)
            | Body::Refused(_)
            | Body::ChunkReceived(_)
            | Body::LeaseRequest(_)
            | Body::LeaseGrant(_) => 0,
        }
    }
}

/// A proposal on its way to the leader.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Proposed {
    /// Its id.
    pub proposal: ProposalRecord,
    /// Which attempt this is.
    pub attempt: u32,
    /// The command.
    pub command: Vec<u8>,
}

/// An attempt to have a proposal appended has failed.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRefused {
    /// In which life it was proposed.
    pub incarnation: u32,
    /// Its number.
    pub number: u64,
    /// Which attempt.
    pub attempt: u32,
    /// Why.
    pub why: Refusal,
}

/// Why a leader did not append a proposal.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer does not lead.
    NotLeader,
    /// The log is as long as it may be.
    Full,
    /// The command is longer than the leader takes.
    TooLarge,
    /// The proposer is not in the configuration.
    NotMember,
}

/// A piece of a snapshot.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The term of the leader that sends it.
    pub term: u64,
    /// Which snapshot.
    pub meta: SnapshotMeta,
    /// The length of the whole.
    pub total: u64,
    /// Where this piece begins.
    pub offset: u64,
    /// The piece.
    pub bytes: Vec<u8>,
}

/// How much of a snapshot has come.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkReceived {
    /// The term of the leader that sends it.
    pub term: u64,
    /// The index of the snapshot.
    pub index: u64,
    /// How many bytes are there, without a gap.
    pub received: u64,
    /// Whether the receiver does not take it.
    pub refused: bool,
}

/// A node asks for a lease, or for more of the one it has.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The incarnation of the node that asks.
    pub incarnation: u32,
    /// When it asked, in nanoseconds on its own clock; comes back with the grant.
    pub asked_at: u64,
    /// The length for which it asks, in nanoseconds. It must be that of the leader.
    pub length: u64,
}

/// A leader grants a lease.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The incarnation to which it is granted.
    pub incarnation: u32,
    /// The term of the leader.
    pub term: u64,
    /// From the request: the lease counts from there.
    pub asked_at: u64,
    /// For how long, in nanoseconds.
    pub length: u64,
}

/// The kinds of Raft messages that travel.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftKind {
    /// Entries, or none, from the leader.
    Append,
    /// The answer.
    AppendResponse,
    /// A candidate asks for a vote.
    Vote,
    /// The answer.
    VoteResponse,
    /// A node asks whether it would get a vote.
    PreVote,
    /// The answer.
    PreVoteResponse,
    /// The leader is there.
    Heartbeat,
    /// The answer.
    HeartbeatResponse,
    /// The leader wants this one to lead.
    TimeoutNow,
}

/// A message of raft-rs. The fields mean what its documentation says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RaftMessage {
    /// What it is.
    pub kind: RaftKind,
    /// The term of the sender.
    pub term: u64,
    /// A term of the log.
    pub log_term: u64,
    /// An index of the log.
    pub index: u64,
    /// How much is committed.
    pub commit: u64,
    /// The term of the entry there.
    pub commit_term: u64,
    /// Whether the answer is no.
    pub reject: bool,
    /// Where to try next.
    pub reject_hint: u64,
    /// Whether a candidate was told to campaign by the leader.
    pub transfer: bool,
    /// A round in which the leader confirms that it leads; 0 is none.
    pub round: u64,
    /// Entries, in order.
    pub entries: Vec<LogEntry>,
}

impl Message {
    /// The message as bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if it is longer than [`MAX_MESSAGE_BYTES`], which no message of a
    /// [`Consensus`](super::machine::Consensus) with checked settings is.
    pub fn encode(self) -> Result<Vec<u8>, EncodeError> {
        let envelope = Envelope {
            cluster: self.cluster.0,
            from: self.from.number(),
            to: self.to.number(),
            body: self.body,
        };
        let archive =
            rkyv::to_bytes::<rkyv::rancor::Error>(&envelope).map_err(|_| EncodeError(None))?;
        let length = HEADER + archive.len();
        if length > MAX_MESSAGE_BYTES {
            return Err(EncodeError(Some(length)));
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&MESSAGE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&(archive.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&archive);
        Ok(bytes)
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says what is wrong and where. Nothing is allocated for a message that is too long or of another
    /// version.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let (Some(header), Some(archive)) = (bytes.get(..HEADER), bytes.get(HEADER..)) else {
            return Err(DecodeError::Short(bytes.len()));
        };
        if header[..4] != MAGIC {
            return Err(DecodeError::NotOurs);
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != MESSAGE_VERSION || header[6..8] != [0; 2] {
            return Err(DecodeError::Version(version));
        }
        if header[8..] != (archive.len() as u64).to_le_bytes() {
            return Err(DecodeError::Length(archive.len()));
        }
        let mut aligned = AlignedVec::with_capacity(archive.len());
        aligned.extend_from_slice(archive);
        let envelope: Envelope = from_bytes(&aligned).map_err(|_| DecodeError::Archive)?;
        let peer = |number| PeerId::from_number(number).ok_or(DecodeError::NotAPeer(number));
        let message = Message {
            cluster: ClusterId(envelope.cluster),
            from: peer(envelope.from)?,
            to: peer(envelope.to)?,
            body: envelope.body,
        };
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), DecodeError> {
        match &self.body {
            Body::Raft(message) => message.check(),
            Body::Propose(proposals) => {
                let fine = |proposed: &Proposed| {
                    let proposal = &proposed.proposal;
                    proposal.number > 0
                        && proposal.floor <= proposal.number
                        && proposal.only_term == 0
                        && proposal.node == self.from.node().0
                };
                match proposals.iter().all(fine) {
                    true => Ok(()),
                    false => Err(DecodeError::Proposal),
                }
            }
            Body::Chunk(chunk) => {
                Configuration::try_from(&chunk.meta.configuration)?.check()?;
                let end = chunk.offset.checked_add(chunk.bytes.len() as u64);
                let fits = end.is_some_and(|end| end <= chunk.total) && !chunk.bytes.is_empty();
                let meta = &chunk.meta;
                let numbers = [chunk.term, meta.index, meta.term];
                if !fits || numbers.iter().any(|n| !(1..MAX_NUMBER).contains(n)) {
                    return Err(DecodeError::Chunk);
                }
                Ok(())
            }
            Body::Refused(_)
            | Body::ChunkReceived(_)
            | Body::LeaseRequest(_)
            | Body::LeaseGrant(_) => Ok(()),
        }
    }
}

impl RaftMessage {
    fn check(&self) -> Result<(), DecodeError> {
        let numbers = [
            self.term,
            self.log_term,
            self.index,
            self.commit,
            self.commit_term,
            self.reject_hint,
        ];
        if let Some(number) = numbers.into_iter().find(|number| *number >= MAX_NUMBER) {
            return Err(DecodeError::Number(number));
        }
        if self.term == 0 {
            return Err(DecodeError::Number(0));
        }
        if !self.entries.is_empty() && self.kind != RaftKind::Append {
            return Err(DecodeError::Entry(self.entries[0].index));
        }
        let (mut index, mut term) = (self.index, self.log_term);
        for entry in &self.entries {
            let follows = entry.index == index + 1 && entry.term >= term && entry.term <= self.term;
            if !follows || !fits(&entry.body) {
                return Err(DecodeError::Entry(entry.index));
            }
            (index, term) = (entry.index, entry.term);
        }
        Ok(())
    }
}

/// Whether an entry says something that can be.
fn fits(body: &EntryBody) -> bool {
    match body {
        EntryBody::Empty => true,
        EntryBody::Command(proposal, _) => proposal.number > 0 && proposal.floor <= proposal.number,
        EntryBody::Change(change) => {
            let peer = |step: &(PeerChange, u64)| PeerId::from_number(step.1).is_some();
            change.steps.iter().all(peer)
        }
    }
}

/// A message could not be written. It is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message of consensus is too long: {0:?} bytes of at most {MAX_MESSAGE_BYTES}")]
pub struct EncodeError(pub Option<usize>);

/// Bytes that are no message. The connection they came from cannot be trusted: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {0} bytes is too long; at most {MAX_MESSAGE_BYTES} are taken")]
    TooLong(usize),
    /// Shorter than a header.
    #[error("a message of {0} bytes is too short for its header")]
    Short(usize),
    /// Another protocol.
    #[error("the first four bytes are not those of a message of consensus")]
    NotOurs,
    /// Another build.
    #[error(
        "the message has version {0}, this node speaks {MESSAGE_VERSION}; run the same version on all nodes"
    )]
    Version(u16),
    /// The header tells of another length.
    #[error("the length in the header is not that of the {0} bytes behind it")]
    Length(usize),
    /// rkyv refuses it.
    #[error("the message is no valid archive")]
    Archive,
    /// A peer without a disk.
    #[error("{0} is not the number of a peer")]
    NotAPeer(u64),
    /// A term or index that cannot be.
    #[error("{0} is no term or index that can be")]
    Number(u64),
    /// An entry out of order, with a term that cannot be, or with a body that cannot be.
    #[error("entry {0} does not follow from what is before it, or says what cannot be")]
    Entry(u64),
    /// A proposal of somebody else, or without a number.
    #[error("a proposal has no number, a wrong floor, or is not the sender's own")]
    Proposal,
    /// A piece of a snapshot that lies outside of it, or a snapshot without a place.
    #[error("a piece of a snapshot does not fit into it, or the snapshot has no index or term")]
    Chunk,
    /// The configuration of a snapshot is wrong.
    #[error("the configuration in a piece of a snapshot is wrong: {0}")]
    Configuration(#[from] ConfigurationError),
}
