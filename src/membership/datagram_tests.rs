//! What datagrams look like, and that nothing else is one.

use core::net::SocketAddr;

use foca::{Codec, Header, Member, Message, State};
use proptest::prelude::*;

use super::datagram::{DatagramError, ENVELOPE_BYTES, MAX_DATAGRAM_BYTES, Packet, SwimCodec, seal};
use super::identity::SwimId;
use crate::base::ids::{Incarnation, NodeId};

const CLUSTER: u64 = 0x0807_0605_0403_0201;

fn id(node: u32, generation: u32, address: &str) -> SwimId {
    let address: SocketAddr = address.parse().unwrap();
    SwimId::of_generation(NodeId(node), Incarnation(node + 10), generation, address)
}

fn ping_request() -> Packet {
    let target = id(3, 1, "[2001:db8::3]:700");
    Packet {
        header: Header {
            src: id(1, 0, "10.0.0.1:7000"),
            src_incarnation: 5,
            dst: id(2, 0, "10.0.0.2:7000"),
            message: Message::PingReq {
                target,
                probe_number: 9,
            },
        },
        updates: vec![
            Member::new(target, 4, State::Suspect),
            Member::new(id(4, 2, "10.0.0.4:7000"), 1, State::Down),
        ],
    }
}

/// This is the format between nodes: a build that writes other bytes cannot talk to those that are out there.
#[test]
fn the_bytes_never_change() {
    let datagram = seal(CLUSTER, &ping_request().to_body());
    let hex: String = datagram.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "6353",
        "01",
        "00",
        "6eba6196",
        "0102030405060708",
        // The sender, its SWIM incarnation, and the receiver.
        "01000000",
        "0b000000",
        "00000000",
        "04",
        "581b",
        "0a000001",
        "0500",
        "02000000",
        "0c000000",
        "00000000",
        "04",
        "581b",
        "0a000002",
        // A request to probe, whom, and its number.
        "03",
        "03000000",
        "0d000000",
        "01000000",
        "06",
        "bc02",
        "20010db8000000000000000000000003",
        "09",
        "0002",
        "03000000",
        "0d000000",
        "01000000",
        "06",
        "bc02",
        "20010db8000000000000000000000003",
        "0400",
        "02",
        "04000000",
        "0e000000",
        "02000000",
        "04",
        "581b",
        "0a000004",
        "0100",
        "03",
    ];
    assert_eq!(hex, expected.concat());
    assert_eq!(Packet::open(&datagram, CLUSTER), Ok(ping_request()));
}

fn messages() -> Vec<Message<SwimId>> {
    let about = id(7, 0, "10.0.0.7:1");
    let probe_number = 255;
    vec![
        Message::Ping(0),
        Message::Ack(7),
        Message::PingReq {
            target: about,
            probe_number,
        },
        Message::IndirectPing {
            origin: about,
            probe_number,
        },
        Message::IndirectAck {
            target: about,
            probe_number,
        },
        Message::ForwardedAck {
            origin: about,
            probe_number,
        },
        Message::Announce,
        Message::Feed,
        Message::Gossip,
        Message::TurnUndead,
    ]
}

#[test]
fn every_message_comes_back_as_it_was() {
    for message in messages() {
        let mut packet = ping_request();
        packet.header.message = message;
        if matches!(
            packet.header.message,
            Message::Announce | Message::TurnUndead
        ) {
            packet.updates.clear();
        }
        let datagram = seal(CLUSTER, &packet.to_body());
        assert_eq!(Packet::open(&datagram, CLUSTER).as_ref(), Ok(&packet));
        // foca reads the same.
        let mut body = &datagram[ENVELOPE_BYTES..];
        let header = SwimCodec.decode_header(&mut body).unwrap();
        assert_eq!(header, packet.header);
        if let Some(first) = packet.updates.first() {
            let mut updates = &body[2..];
            assert_eq!(&SwimCodec.decode_member(&mut updates).unwrap(), first);
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let body = ping_request().to_body();
    let good = seal(CLUSTER, &body);
    let open = |datagram: &[u8]| Packet::open(datagram, CLUSTER).unwrap_err();
    let resealed = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut body = body.clone();
        spoil(&mut body);
        open(&seal(CLUSTER, &body))
    };
    let bytes = MAX_DATAGRAM_BYTES + 1;
    assert_eq!(open(&vec![0; bytes]), DatagramError::TooLong { bytes });
    assert_eq!(open(b""), DatagramError::Foreign);
    assert_eq!(open(b"GET / HTTP/1.1"), DatagramError::Foreign);
    assert_eq!(open(b"cS\x01"), DatagramError::Truncated { at: 3 });
    let mut newer = good.clone();
    newer[2] = 2;
    assert_eq!(open(&newer), DatagramError::Version { found: 2 });
    let found = CLUSTER + 1;
    let ours = CLUSTER;
    assert_eq!(
        open(&seal(found, &body)),
        DatagramError::Cluster { found, ours }
    );
    assert_eq!(
        resealed(&|body| body.push(0)),
        DatagramError::Trailing { bytes: 1 }
    );
    assert_eq!(
        resealed(&|body| body.truncate(30)),
        DatagramError::Truncated { at: 46 }
    );
    let unknown = |what, found, at| DatagramError::Unknown { what, found, at };
    assert_eq!(resealed(&|body| body[40] = 11), unknown("message", 11, 57));
    assert_eq!(
        resealed(&|body| *body.last_mut().unwrap() = 4),
        unknown("state", 4, good.len())
    );
    assert_eq!(
        resealed(&|body| body[12] = 5),
        unknown("address family", 5, 29)
    );
    assert!(matches!(
        resealed(&|body| body[13..15].fill(0)),
        DatagramError::NoAddress {
            node: NodeId(1),
            ..
        }
    ));
    // A count that promises more than there is.
    assert!(matches!(
        resealed(&|body| body[73..75].fill(255)),
        DatagramError::Truncated { .. }
    ));
}

proptest! {
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        prop_assert!(Packet::open(&bytes, CLUSTER).is_err());
        // Well sealed garbage does not hurt either.
        if let Ok(packet) = Packet::open(&seal(CLUSTER, &bytes), CLUSTER) {
            prop_assert_eq!(packet.to_body(), bytes);
        }
    }

    /// Damage of any byte is found, and so is every shorter datagram.
    #[test]
    fn damage_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut datagram = seal(CLUSTER, &ping_request().to_body());
        let at = at.index(datagram.len());
        prop_assert!(Packet::open(&datagram[..at], CLUSTER).is_err());
        datagram[at] ^= flip;
        // The fourth byte means nothing yet.
        prop_assert_eq!(Packet::open(&datagram, CLUSTER).is_ok(), at == 3);
    }

    /// Damage that somebody has sealed again is read without a panic, and as what it says.
    #[test]
    fn spoilt_bodies_are_read_as_they_are(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut body = ping_request().to_body();
        let at = at.index(body.len());
        body[at] ^= flip;
        if let Ok(packet) = Packet::open(&seal(CLUSTER, &body), CLUSTER) {
            prop_assert_eq!(packet.to_body(), body);
        }
    }
}
