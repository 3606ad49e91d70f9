//! Control messages: bytes are refused with what is wrong and where, or are a message that is written as it was read.
#![allow(dead_code, reason = "a fuzzer makes samples of its own")]

use corecast::base::ids::{EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use corecast::cluster::admission::StartId;
use corecast::cluster::join_request::{JoinAnswer, JoinSays};
use corecast::cluster::message::{ControlMessage, MessageError};
use corecast::consensus::founding::{Ballot, Founding, FoundingMessage, Says};
use corecast::consensus::peer::NodeLife;
use corecast::membership::accusation::{Accusation, Heartbeat, Why};
use corecast::wire::kind::Kind;

/// The kinds of frames that may hold one, and one that does not.
const KINDS: [Kind; 5] = [
    Kind::Consensus,
    Kind::Heartbeat,
    Kind::Membership,
    Kind::Report,
    Kind::Lease,
];

/// Reads bytes as the content of a frame of a kind.
pub fn check(kind: u8, bytes: &[u8]) {
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    match ControlMessage::decode(kind, bytes) {
        Ok(message) => {
            assert_eq!(message.kind(), kind);
            let (kind, again) = message
                .clone()
                .encode()
                .expect("what was read is not too long");
            // An archive may be written in more than one way, and a heartbeat has room for what later versions may say; other
            // fields are written in one.
            if !matches!(
                message,
                ControlMessage::Consensus(_)
                    | ControlMessage::Founding(_)
                    | ControlMessage::Heartbeat(_)
            ) {
                assert_eq!(again, bytes);
            }
            assert_eq!(ControlMessage::decode(kind, &again), Ok(message));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() < 400, "{said}");
            if let MessageError::Malformed { .. } = error {
                assert!(said.contains("byte "), "it says where: {said}");
            }
        }
    }
}

/// One message of each sort that is not of the log and no request to join, with the number of its kind.
pub fn samples() -> Vec<(u8, Vec<u8>)> {
    let by = Incarnation(9);
    let life = NodeLife {
        node: NodeId(3),
        incarnation: Incarnation(6),
    };
    let shard = |shard| ShardKey {
        entity_type: EntityTypeId(1),
        shard: ShardId(shard),
    };
    let accusation = Accusation {
        node: NodeId(2),
        incarnation: by,
        why: Why::Silent,
    };
    let peer = |node: u64| node << 32 | 7;
    let founding = Founding {
        cluster: 5,
        voters: vec![peer(1), peer(2)],
    };
    let ballot = Ballot {
        round: 3,
        peer: peer(1),
    };
    let founds = |says| {
        ControlMessage::Founding(Box::new(FoundingMessage {
            from: peer(1),
            named: vec![1, 2],
            says,
        }))
    };
    let answers = |says| {
        let start = StartId(258);
        ControlMessage::JoinAnswer(Box::new(JoinAnswer { start, says }))
    };
    let messages = [
        ControlMessage::Heartbeat(Heartbeat {
            from: NodeId(1),
            incarnation: by,
            serial: 4,
            accusations: vec![accusation; 2],
        }),
        founds(Says::Hello),
        founds(Says::Member(founding.clone())),
        founds(Says::Accept(ballot, founding.clone())),
        answers(JoinSays::Busy),
        answers(JoinSays::Admitted {
            incarnation: by,
            founding,
        }),
        answers(JoinSays::Ask(Some((
            NodeId(2),
            "[::1]:7000".parse().expect("an address"),
        )))),
        ControlMessage::LifeEnded(life),
        ControlMessage::Accuse { by, life },
        ControlMessage::Want {
            by,
            shards: vec![shard(1), shard(2), shard(3)],
        },
        ControlMessage::Parted { by, with: life },
    ];
    messages.into_iter().map(sample).collect()
}

/// A message as it is written, with the number of its kind.
pub fn sample(message: ControlMessage) -> (u8, Vec<u8>) {
    let (kind, bytes) = message.encode().expect("it is not too long");
    let number = KINDS.iter().position(|of| *of == kind);
    (number.expect("one of these") as u8, bytes)
}
