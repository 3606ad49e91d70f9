//! Control messages as bytes: the same for ever, and nothing else than messages.

use std::time::Duration;

use proptest::prelude::*;

use super::admission::{Admission, StartId};
use super::join_request::{JoinAnswer, JoinRefused, JoinRequest, JoinSays, SharedSettings};
use super::message::{ControlMessage, MAX_CONTROL_BYTES, MAX_WANTED_PER_MESSAGE, MessageError};
use crate::base::ids::{EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use crate::consensus::founding::{Founding, FoundingMessage, Says};
use crate::consensus::message::{Body, LeaseRequest, Message};
use crate::consensus::peer::{ClusterId, DiskId, NodeLife, PeerId};
use crate::membership::accusation::Heartbeat;
use crate::membership::change::Join;
use crate::sharding::ownership::TypeSpec;
use crate::sharding::strategy::PlacementStrategy;
use crate::wire::difference::Differences;
use crate::wire::kind::Kind;

fn peer(node: u32) -> PeerId {
    PeerId::new(NodeId(node), DiskId::from_number(9).unwrap())
}

fn request() -> JoinRequest {
    let ms = Duration::from_nanos;
    JoinRequest {
        admission: Admission {
            join: Join {
                node: NodeId(2),
                address: "10.0.0.2:7000".parse().unwrap(),
                roles: vec!["store".into()],
                data_cores: 3,
            },
            disk: DiskId::from_number(9).unwrap(),
            start: StartId(258),
        },
        cluster: Some(ClusterId(7)),
        settings: SharedSettings {
            placement_hash: 1,
            heartbeat: ms(1),
            election_min: ms(2),
            election_max: ms(3),
            lease: ms(4),
        },
        types: vec![TypeSpec {
            name: "cart".into(),
            shards: 256,
            strategy: PlacementStrategy::HashRing,
            role: None,
            keep_running: true,
        }],
    }
}

fn says() -> Vec<JoinSays> {
    let address = "[::1]:7000".parse().unwrap();
    let mut differences = Differences::default();
    differences.add("setting `lease`", "2s", "1s");
    let refusals = [
        JoinRefused::Differs(differences),
        JoinRefused::NodeIdTaken { holder: address },
        JoinRefused::AddressTaken { holder: NodeId(7) },
        JoinRefused::Impossible("it makes no sense".into()),
        JoinRefused::Full { members: 4_096 },
        JoinRefused::OtherCluster {
            cluster: ClusterId(8),
        },
        JoinRefused::LifeEnded {
            incarnation: Incarnation(5),
        },
    ];
    let mut says = vec![
        JoinSays::Admitted {
            incarnation: Incarnation(5),
            founding: Founding {
                cluster: 7,
                voters: vec![peer(1).number()],
            },
        },
        JoinSays::Waits {
            previous: Incarnation(4),
            at_most: Duration::from_millis(3),
        },
        JoinSays::Ask(None),
        JoinSays::Ask(Some((NodeId(1), address))),
        JoinSays::Busy,
    ];
    says.extend(refusals.map(JoinSays::Refused));
    says
}

fn life() -> NodeLife {
    NodeLife {
        node: NodeId(3),
        incarnation: Incarnation(6),
    }
}

fn messages() -> Vec<ControlMessage> {
    let shard = ShardKey {
        entity_type: EntityTypeId(1),
        shard: ShardId(2),
    };
    let by = Incarnation(9);
    let lease = LeaseRequest {
        incarnation: 1,
        asked_at: 2,
        length: 3,
    };
    let mut messages = vec![
        ControlMessage::Consensus(Box::new(Message {
            cluster: ClusterId(7),
            from: peer(1),
            to: peer(2),
            body: Body::LeaseRequest(lease),
        })),
        ControlMessage::Heartbeat(Heartbeat {
            from: NodeId(1),
            incarnation: by,
            serial: 4,
            accusations: Vec::new(),
        }),
        ControlMessage::Founding(Box::new(FoundingMessage {
            from: peer(1).number(),
            named: vec![1, 2],
            says: Says::Hello,
        })),
        ControlMessage::JoinRequest(Box::new(request())),
        ControlMessage::LifeEnded(life()),
        ControlMessage::Accuse { by, life: life() },
        ControlMessage::Want {
            by,
            shards: vec![shard],
        },
        ControlMessage::Parted { by, with: life() },
    ];
    messages.extend(says().into_iter().map(|says| {
        let start = StartId(258);
        ControlMessage::JoinAnswer(Box::new(JoinAnswer { start, says }))
    }));
    messages
}

#[test]
fn what_is_written_is_read() {
    for message in messages() {
        let (kind, bytes) = message.clone().encode().unwrap();
        let read = ControlMessage::decode(kind, &bytes).unwrap();
        // What differs is read from the other side.
        let turned = |message: &ControlMessage| {
            matches!(message, ControlMessage::JoinAnswer(answer)
                if matches!(answer.says, JoinSays::Refused(JoinRefused::Differs(_))))
        };
        if turned(&message) {
            let ControlMessage::JoinAnswer(answer) = &read else {
                unreachable!("it is one");
            };
            let JoinSays::Refused(why) = &answer.says else {
                unreachable!("it is one");
            };
            let text = "it differs from the cluster: setting `lease`: here 1s, there 2s";
            assert_eq!(why.to_string(), text);
        } else {
            assert_eq!(read, message);
        }
    }
}

/// Nodes of other builds write and read it.
#[test]
fn the_bytes_never_change() {
    let written = |message: ControlMessage| {
        let (kind, bytes) = message.encode().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{kind} {hex}")
    };
    let expected = |kind: &str, hex: &str| format!("{kind} {}", hex.replace(' ', ""));
    let request = "0102 02000000 040a000002581b 01000000 0500 73746f7265 0300 09000000 0201000000000000 \
                   01 07000000000000000000000000000000 01000000 0100000000000000 0200000000000000 \
                   0300000000000000 0400000000000000 01000000 0400 63617274 00010000 01 00 01";
    let answers = [
        "01 05000000 07000000000000000000000000000000 01000000 0900000001000000",
        "02 04000000 c0c62d0000000000",
        "03",
        "04 01000000 06 00000000000000000000000000000001 581b",
        "05",
        "10 1e000000 0100000000 0f00 73657474696e6720606c6561736560 0200 3273 0200 3173",
        "11 06 00000000000000000000000000000001 581b",
        "12 07000000",
        "13 1100 6974206d616b6573206e6f2073656e7365",
        "14 00100000",
        "15 08000000000000000000000000000000",
        "16 05000000",
    ];
    let mut messages = messages().into_iter().skip(3);
    let mut next = || written(messages.next().unwrap());
    assert_eq!(next(), expected("membership", request));
    assert_eq!(next(), expected("membership", "0104 03000000 06000000"));
    assert_eq!(
        next(),
        expected("report", "0101 09000000 03000000 06000000")
    );
    assert_eq!(
        next(),
        expected("report", "0102 09000000 01000000 0100 02000000")
    );
    assert_eq!(
        next(),
        expected("report", "0103 09000000 03000000 06000000")
    );
    for answer in answers {
        let hex = format!("0103 0201000000000000 {answer}");
        assert_eq!(next(), expected("membership", &hex));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let long = vec![0; MAX_CONTROL_BYTES + 1];
    let error = ControlMessage::decode(Kind::Consensus, &long).unwrap_err();
    assert_eq!(error, MessageError::TooLong(long.len()));
    let error = ControlMessage::decode(Kind::Tell, &[]).unwrap_err();
    assert_eq!(error, MessageError::Kind(Kind::Tell));
    let error = ControlMessage::decode(Kind::Report, &[2, 1]).unwrap_err();
    assert_eq!(error, MessageError::Version(2));
    let error = ControlMessage::decode(Kind::Membership, &[1, 99]).unwrap_err();
    assert!(error.to_string().contains("no such message"), "{error}");
    for message in messages() {
        let (kind, bytes) = message.encode().unwrap();
        for length in 0..bytes.len() {
            assert!(ControlMessage::decode(kind, &bytes[..length]).is_err());
        }
    }
    let shard = ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(0),
    };
    let by = Incarnation(1);
    let shards = vec![shard; MAX_WANTED_PER_MESSAGE + 1];
    let (kind, bytes) = ControlMessage::Want { by, shards }.encode().unwrap();
    let Ok(ControlMessage::Want { shards, .. }) = ControlMessage::decode(kind, &bytes) else {
        panic!("what is too much is left out");
    };
    assert_eq!(shards.len(), MAX_WANTED_PER_MESSAGE);
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Consensus,
        Kind::Heartbeat,
        Kind::Membership,
        Kind::Report,
        Kind::Lease,
    ])
}

proptest! {
    #[test]
    fn garbage_does_not_hurt(
        kind in kind(),
        tag in 0_u8..6,
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes: Vec<u8> = [1, tag].into_iter().chain(rest).collect();
        // It may be a message; it is no panic.
        _ = ControlMessage::decode(kind, &bytes);
    }

    #[test]
    fn damaged_messages_do_not_hurt(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let messages = messages();
        let (kind, mut bytes) = messages[which.index(messages.len())].clone().encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(message) = ControlMessage::decode(kind, &bytes) {
            let (again, _) = message.encode().unwrap();
            prop_assert_eq!(again, kind);
        }
    }
}
