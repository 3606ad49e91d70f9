//! Messages as bytes: the same for ever, and nothing else than messages.

use proptest::prelude::*;

use super::configuration::{ConfigurationChange, ConfigurationRecord, PeerChange};
use super::entry::{EntryBody, LogEntry, ProposalRecord, SnapshotMeta};
use super::founding::{Ballot, Founding, FoundingMessage, Says};
use super::message::{
    Body, Chunk, DecodeError, LeaseGrant, MESSAGE_VERSION, Message, Proposed, RaftKind, RaftMessage,
};
use super::peer::{ClusterId, DiskId, PeerId};
use super::settings::MAX_MESSAGE_BYTES;
use super::{convert, founding};
use crate::base::ids::NodeId;

fn peer(node: u32) -> PeerId {
    PeerId::new(NodeId(node), DiskId::from_number(9).unwrap())
}

fn proposal() -> ProposalRecord {
    ProposalRecord {
        node: 1,
        incarnation: 2,
        only_term: 0,
        number: 8,
        floor: 6,
    }
}

fn append() -> RaftMessage {
    let entry = |index, body| LogEntry {
        index,
        term: 4,
        body,
    };
    let change = ConfigurationChange {
        steps: vec![(PeerChange::Learn, peer(3).number())],
    };
    RaftMessage {
        kind: RaftKind::Append,
        term: 5,
        log_term: 3,
        index: 10,
        commit: 9,
        commit_term: 0,
        reject: false,
        reject_hint: 0,
        transfer: false,
        round: 0,
        entries: vec![
            entry(11, EntryBody::Empty),
            entry(12, EntryBody::Command(proposal(), b"hello".to_vec())),
            entry(13, EntryBody::Change(change)),
        ],
    }
}

fn message(body: Body) -> Message {
    Message {
        cluster: ClusterId(0x1234),
        from: peer(1),
        to: peer(2),
        body,
    }
}

fn refused(message: Message) -> DecodeError {
    Message::decode(&message.encode().unwrap()).unwrap_err()
}

/// The bytes of version 1. If this fails, the version has to change.
#[test]
fn the_bytes_are_what_they_were() {
    let bytes = message(Body::Raft(append())).encode().unwrap();
    let digest = xxhash_rust::xxh3::xxh3_64(&bytes);
    assert_eq!((bytes.len(), digest), (GOLDEN.0, GOLDEN.1), "{digest:#x}");
    assert_eq!(&bytes[..8], b"CCRF\x01\0\0\0");
}

const GOLDEN: (usize, u64) = (368, 0x4b94_a06e_3c04_be59);

#[test]
fn a_message_comes_back_and_so_does_what_raft_makes_of_it() {
    let sent = message(Body::Raft(append()));
    assert_eq!(Message::decode(&sent.clone().encode().unwrap()), Ok(sent));
    let heartbeat = RaftMessage {
        kind: RaftKind::Heartbeat,
        round: 77,
        entries: Vec::new(),
        ..append()
    };
    let vote = RaftMessage {
        kind: RaftKind::Vote,
        transfer: true,
        entries: Vec::new(),
        ..append()
    };
    for message in [append(), heartbeat, vote] {
        let raft = convert::message_to_raft(message.clone(), peer(1), peer(2));
        assert_eq!(convert::message_from_raft(&raft), Some(message));
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    type Spoil = fn(&mut RaftMessage);
    let cases: [(Spoil, DecodeError); 7] = [
        (|m| m.term = 0, DecodeError::Number(0)),
        (|m| m.commit = u64::MAX, DecodeError::Number(u64::MAX)),
        (|m| m.entries[1].index = 14, DecodeError::Entry(14)),
        (|m| m.entries[1].term = 3, DecodeError::Entry(12)),
        (|m| m.entries[2].term = 6, DecodeError::Entry(13)),
        (|m| m.kind = RaftKind::Vote, DecodeError::Entry(11)),
        (
            |m| {
                let steps = vec![(PeerChange::Vote, 7 << 32)];
                m.entries[2].body = EntryBody::Change(ConfigurationChange { steps });
            },
            DecodeError::Entry(13),
        ),
    ];
    for (spoil, error) in cases {
        let mut spoilt = append();
        spoil(&mut spoilt);
        assert_eq!(refused(message(Body::Raft(spoilt))), error);
    }
    let stolen = Proposed {
        proposal: ProposalRecord {
            node: 2,
            ..proposal()
        },
        attempt: 0,
        command: Vec::new(),
    };
    let error = refused(message(Body::Propose(vec![stolen])));
    assert_eq!(error, DecodeError::Proposal);
    let chunk = Chunk {
        term: 1,
        meta: SnapshotMeta {
            index: 1,
            term: 1,
            configuration: ConfigurationRecord {
                voters: vec![peer(1).number()],
                ..ConfigurationRecord::default()
            },
        },
        total: 10,
        offset: 8,
        bytes: vec![0; 3],
    };
    assert_eq!(refused(message(Body::Chunk(chunk))), DecodeError::Chunk);
}

/// The others count on from what one says.
#[test]
fn a_founding_counts_no_rounds_that_cannot_be() {
    let ballot = |round| Ballot {
        round,
        peer: peer(1).number(),
    };
    let founding = Founding {
        cluster: 5,
        voters: vec![peer(1).number()],
    };
    let says = |round| {
        [
            Says::Busy(ballot(round)),
            Says::Prepare(ballot(round)),
            Says::Accepted(ballot(round)),
            Says::Accept(ballot(round), founding.clone()),
            Says::Promised(ballot(round), None),
            Says::Promised(ballot(1), Some((ballot(round), founding.clone()))),
        ]
    };
    let read = |says: Says| {
        let (from, named) = (peer(1).number(), vec![1, 2]);
        FoundingMessage::decode(&FoundingMessage { from, named, says }.encode())
    };
    for said in says(7) {
        assert!(read(said.clone()).is_some(), "{said:?}");
    }
    for said in says(u64::MAX).into_iter().chain(says(u64::MAX - 1)) {
        assert_eq!(read(said.clone()), None, "{said:?}");
    }
}

/// A node whose disk is behind takes nothing more to write, and yet everything that keeps it alive.
#[test]
fn only_what_adds_to_the_log_adds_to_it() {
    let empty = RaftMessage {
        entries: Vec::new(),
        ..append()
    };
    let heartbeat = RaftMessage {
        kind: RaftKind::Heartbeat,
        ..empty.clone()
    };
    let vote = RaftMessage {
        kind: RaftKind::Vote,
        ..empty.clone()
    };
    let grant = LeaseGrant {
        incarnation: 1,
        term: 1,
        asked_at: 1,
        length: 1,
    };
    let chunk = Chunk {
        term: 1,
        meta: SnapshotMeta {
            index: 1,
            term: 1,
            configuration: ConfigurationRecord::default(),
        },
        total: 1,
        offset: 0,
        bytes: vec![0],
    };
    let adding = [
        Body::Raft(append()),
        Body::Raft(vote),
        Body::Propose(Vec::new()),
        Body::Chunk(chunk),
    ];
    for body in adding {
        assert!(body.adds_to_log(), "{body:?}");
    }
    for body in [
        Body::Raft(empty),
        Body::Raft(heartbeat),
        Body::LeaseGrant(grant),
    ] {
        assert!(!body.adds_to_log(), "{body:?}");
    }
}

#[test]
fn the_header_is_looked_at_first() {
    let bytes = message(Body::Raft(append())).encode().unwrap();
    let spoilt = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Message::decode(&bytes).unwrap_err()
    };
    assert_eq!(spoilt(0, b'X'), DecodeError::NotOurs);
    assert_eq!(spoilt(4, 2), DecodeError::Version(MESSAGE_VERSION + 1));
    let archive = bytes.len() - 16;
    assert_eq!(spoilt(15, 1), DecodeError::Length(archive));
    assert_eq!(Message::decode(&bytes[..15]), Err(DecodeError::Short(15)));
    let long = vec![0; MAX_MESSAGE_BYTES + 1];
    let error = DecodeError::TooLong(MAX_MESSAGE_BYTES + 1);
    assert_eq!(Message::decode(&long), Err(error));
    let large = Body::Propose(vec![Proposed {
        proposal: proposal(),
        attempt: 0,
        command: vec![0; MAX_MESSAGE_BYTES],
    }]);
    assert!(message(large).encode().is_err());
}

proptest! {
    /// Whatever comes, it is a message or an error.
    #[test]
    fn damaged_bytes_do_no_harm(at in 16usize..368, byte in any::<u8>(), cut in 0usize..368) {
        let mut bytes = message(Body::Raft(append())).encode().unwrap();
        let length = bytes.len();
        bytes[at.min(length - 1)] = byte;
        _ = Message::decode(&bytes);
        _ = Message::decode(&bytes[..cut.min(length)]);
        _ = founding::FoundingMessage::decode(&bytes);
    }
}
