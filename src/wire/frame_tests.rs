//! Frames: their layout, what is refused, and reading in place.

use super::address::Target;
use super::error::WireError;
use super::flags::Flags;
use super::frame::FrameRef;
use super::header::{HEADER_BYTES, Header, checksum};
use super::kind::{Kind, Plane, Reason};
use super::limits::FrameLimits;
use super::message::{TypeTag, WireMessage};
use super::reader::FrameReader;
use super::samples::{
    NewNote, Note, actor, address, any_frame, frame_of, frame_with, note, plane_of, sender, shard,
    tell,
};
use proptest::prelude::*;
use std::time::Duration;

const MAX: usize = 1 << 20;

fn parse(bytes: &[u8]) -> Result<FrameRef<'_>, WireError> {
    FrameRef::parse(bytes, Plane::Data, MAX)
}

/// The bytes in lines of 16.
fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<String> = bytes.chunks(16).map(line).collect();
    lines.join("\n")
}

/// The layout is the contract between nodes of one version of the protocol; whoever changes it, changes the version.
#[test]
fn the_layout_of_an_ask_never_changes() {
    let ask = Header {
        flags: Flags::FIRST_ON_ROUTE | Flags::EPOCH_FENCE | Flags::FORWARDED,
        tag: TypeTag {
            fingerprint: 0x9192_9394_9596_9798,
            version: 0x9a9b,
        },
        address: Some(address()),
        remaining: Some(Duration::from_micros(0xa1a2_a3a4)),
        trace: *b"a trace context.",
        ..Header::new(Kind::Ask, shard(), sender())
    };
    let bytes = frame_of(&ask, b"cart-7", b"the payload of the ask");
    assert_eq!(
        hex(&bytes),
        [
            "42f251c69000000001030f0006000a01",
            "98979695949392919b9a5251a4a3a2a1",
            "18171615141312110201000006050403",
            "48474645444342415655545372717473",
            "68676665646362618887868584838281",
            "6120747261636520636f6e746578742e",
            "636172742d3700000000000000000000",
            "746865207061796c6f6164206f662074",
            "68652061736b00000000000000000000"
        ]
        .join("\n")
    );
}

#[test]
fn the_layout_of_a_message_to_an_actor_never_changes() {
    let tell = Header::new(Kind::Tell, actor(), sender());
    let bytes = frame_with(&tell, &[], note("ab"));
    assert_eq!(
        hex(&bytes),
        [
            "cefe8bb7900000000101000000000002",
            "ee6e1655260321ba0200525100000000",
            "38373635343332312625000024232221",
            "48474645444342415655545300000000",
            "00000000000000000000000000000000",
            "00000000000000000000000000000000",
            "00000000000000000100000000000000",
            "000000006162ffffffffffffe4ffffff",
            "02000000000000000000000000000000"
        ]
        .join("\n")
    );
}

#[test]
fn the_layout_of_a_failure_never_changes() {
    let failure = Header {
        address: Some(address()),
        reason: Some(Reason::Unknown(7)),
        ..Header::new(Kind::Failure, Target::Node, sender())
    };
    assert_eq!(
        hex(&frame_of(&failure, &[], &[])),
        [
            "9fd31b87600000000106000000000000",
            "00000000000000000000525100000000",
            "00000000000000000000020700000000",
            "48474645444342415655545372717473",
            "68676665646362618887868584838281",
            "00000000000000000000000000000000"
        ]
        .join("\n")
    );
}

proptest! {
    #[test]
    fn every_frame_comes_back((header, id, payload) in any_frame(300)) {
        let bytes = frame_of(&header, &id, &payload);
        let frame = FrameRef::parse(&bytes, plane_of(header.kind), MAX).unwrap();
        prop_assert_eq!(frame.header(), &header);
        prop_assert_eq!(frame.entity_id(), &id[..]);
        prop_assert_eq!(frame.payload().bytes(), &payload[..]);
        prop_assert_eq!(frame.bytes(), &bytes[..]);
    }

    /// Whatever is read writes the same bytes again: nothing in a frame is ignored.
    #[test]
    fn what_is_not_refused_is_understood_in_full(
        (header, id, payload) in any_frame(60),
        changes in prop::collection::vec((8..HEADER_BYTES, any::<u8>()), 0..4),
        tail in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = frame_of(&header, &id, &payload);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Some((at, byte)) = tail {
            let at = 8 + at.index(bytes.len() - 8);
            bytes[at] = byte;
        }
        let sum = checksum(&bytes).to_le_bytes();
        bytes[..4].copy_from_slice(&sum);
        for plane in [Plane::Handshake, Plane::Control, Plane::Data] {
            if let Ok(frame) = FrameRef::parse(&bytes, plane, MAX) {
                let again = frame_of(frame.header(), frame.entity_id(), frame.payload().bytes());
                prop_assert_eq!(&again, &bytes);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(parse(&bytes).is_err());
        let mut reader = FrameReader::new(Plane::Data, FrameLimits::default());
        reader.take_in(&bytes);
        prop_assert!(!matches!(reader.next(), Ok(Some(_))));
    }

    #[test]
    fn random_damage_is_noticed(
        (header, id, payload) in any_frame(300),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..12),
    ) {
        let whole = frame_of(&header, &id, &payload);
        let mut bytes = whole.clone();
        for (at, mask) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        prop_assume!(bytes != whole);
        prop_assert!(FrameRef::parse(&bytes, plane_of(header.kind), MAX).is_err());
    }

    /// A damaged payload under a right checksum: from a peer that lies. It is refused or read, but never trusted.
    #[test]
    fn lies_in_payloads_never_panic(
        text in ".{0,40}",
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = frame_with(&tell(), b"cart", note(&text));
        let payload = HEADER_BYTES + 16;
        for (at, byte) in damage {
            let at = payload + at.index(bytes.len() - payload);
            bytes[at] = byte;
        }
        let sum = checksum(&bytes).to_le_bytes();
        bytes[..4].copy_from_slice(&sum);
        let mut reader = FrameReader::new(Plane::Data, FrameLimits::default());
        reader.take_in(&bytes);
        if let Ok(Some(frame)) = reader.next() {
            match frame.payload().deserialize::<Note>() {
                Ok(read) => drop(format!("{read:?}")),
                Err(error) => prop_assert!(!error.is_fatal(), "{}", error),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = frame_with(&tell(), b"cart-7", note("hello"));
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = parse(&bytes).expect_err("a flipped bit");
        assert!(error.is_fatal(), "{bit}: {error}");
        // Where the first bytes do not give it away, the checksum does.
        if bit >= 8 * 16 {
            assert!(
                matches!(error, WireError::Checksum { .. }),
                "{bit}: {error}"
            );
        }
    }
}

#[test]
fn what_is_unknown_is_named() {
    let whole = frame_with(&tell(), b"cart-7", note("hello"));
    for (at, byte, said) in [
        (
            8,
            2,
            "a frame has the format 2; this node knows format 1 only",
        ),
        (
            9,
            200,
            "a frame is of kind 200, which this node does not know; the peer runs another version",
        ),
        (
            9,
            0,
            "a frame is of kind 0, which this node does not know; the peer runs another version",
        ),
        (
            9,
            64,
            "a frame of kind `consensus` does not belong on a data connection",
        ),
        (
            9,
            48,
            "a frame of kind `hello` does not belong on a data connection",
        ),
        (
            11,
            0x80,
            "a frame has the flags 0x8000, which this node does not know; the peer runs another version",
        ),
        (
            15,
            3,
            "the field `target` of a frame has the value 3, which means nothing",
        ),
        (
            15,
            0,
            "the field `target` of a frame has the value 0, which means nothing",
        ),
        (
            42,
            9,
            "the field `class of the reason` of a frame has the value 9, which means nothing",
        ),
        (
            10,
            4,
            "a frame of kind `tell` is malformed: its trace context and the flag for it disagree",
        ),
        (
            80,
            1,
            "a frame of kind `tell` is malformed: its trace context and the flag for it disagree",
        ),
        (
            60,
            1,
            "a frame of kind `tell` is malformed: its address names no life of a node",
        ),
        (
            64,
            1,
            "a frame of kind `tell` is malformed: its address is missing or does not belong there",
        ),
        (
            HEADER_BYTES + 6,
            1,
            "a frame of kind `tell` is malformed: its padding is not zero",
        ),
        (
            14,
            16,
            "a frame of 192 bytes cannot hold an id of 6 bytes and a payload padded by 16",
        ),
        (
            13,
            1,
            "a frame of 192 bytes cannot hold an id of 262 bytes and a payload padded by 0",
        ),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        let sum = checksum(&bytes).to_le_bytes();
        bytes[..4].copy_from_slice(&sum);
        let error = parse(&bytes).expect_err(said);
        assert_eq!(error.to_string(), said);
        assert!(error.is_fatal());
    }
}

#[test]
fn every_kind_has_its_parts_and_no_others() {
    let with = |kind, change: &dyn Fn(&mut Header)| {
        let mut header = Header::new(kind, shard(), sender());
        change(&mut header);
        header
    };
    let typed = |header: &mut Header| header.tag.fingerprint = 1;
    let nobody = |header: &mut Header| header.target = Target::Node;
    for (header, id, payload, said) in [
        (with(Kind::Tell, &|_| {}), 0, 8, "its payload has no type"),
        (
            with(Kind::Ask, &typed),
            0,
            8,
            "its address is missing or does not belong there",
        ),
        (
            with(Kind::Tell, &|header| {
                typed(header);
                header.address = Some(address());
            }),
            0,
            8,
            "its address is missing or does not belong there",
        ),
        (
            with(Kind::Tell, &|header| {
                typed(header);
                nobody(header);
            }),
            0,
            8,
            "its target is of the wrong sort",
        ),
        (
            with(Kind::Tell, &|header| {
                typed(header);
                header.target = actor();
            }),
            4,
            8,
            "it has an entity id, and no entity is meant",
        ),
        (
            with(Kind::Failure, &|header| header.address = Some(address())),
            0,
            0,
            "its reason is missing or does not belong there",
        ),
        (
            with(Kind::Last, &|_| {}),
            3,
            0,
            "it has an entity id, and no entity is meant",
        ),
        (
            with(Kind::Last, &nobody),
            0,
            0,
            "its target is of the wrong sort",
        ),
        (
            with(Kind::Ping, &|_| {}),
            0,
            0,
            "its target is of the wrong sort",
        ),
        (with(Kind::Ping, &nobody), 0, 65, "its payload is too long"),
        (
            with(Kind::Heartbeat, &|header| {
                nobody(header);
                header.flags = Flags::FORWARDED;
            }),
            0,
            8,
            "its flags are for frames of a shard",
        ),
        (
            with(Kind::Tell, &|header| {
                typed(header);
                header.target = actor();
                header.flags = Flags::EPOCH_FENCE;
            }),
            0,
            8,
            "its flags are for frames of a shard",
        ),
        (
            with(Kind::Ping, &|header| {
                nobody(header);
                header.remaining = Some(Duration::from_secs(1));
            }),
            0,
            8,
            "it has a deadline or a trace context, and nobody's work is meant",
        ),
        (
            with(Kind::Hello, &|header| {
                nobody(header);
                header.trace = [1; 16];
            }),
            0,
            8,
            "it has a deadline or a trace context, and nobody's work is meant",
        ),
        (
            with(Kind::Stop, &|_| {}),
            3,
            1,
            "it has a payload and should have none",
        ),
        (
            with(Kind::Consensus, &|header| {
                nobody(header);
                header.tag.version = 1;
            }),
            0,
            1,
            "its payload has a version and no type",
        ),
    ] {
        let error = header.check(id, payload).expect_err(said).to_string();
        let kind = header.kind;
        assert_eq!(
            error,
            format!("a frame of kind `{kind}` is malformed: {said}")
        );
    }
}

#[test]
fn every_payload_is_aligned_whatever_the_id() {
    let mut reader = FrameReader::new(Plane::Data, FrameLimits::default());
    for length in 0..=70_usize {
        let id = vec![b'i'; length];
        for message in [note("unaligned text"), Note::Wide(7), Note::Nothing] {
            reader.take_in(&frame_with(&tell(), &id, message.clone()));
            let frame = reader.next().unwrap().unwrap();
            assert_eq!(frame.entity_id(), id);
            let payload = frame.payload();
            assert!(
                payload.bytes().as_ptr().addr().is_multiple_of(16),
                "{length}"
            );
            payload.access::<Note>().unwrap();
            assert_eq!(payload.deserialize::<Note>().unwrap(), message);
        }
    }
}

#[test]
fn another_type_and_a_wrong_archive_end_the_message_and_not_the_connection() {
    let mut reader = FrameReader::new(Plane::Data, FrameLimits::default());
    let lie = Header {
        tag: Note::type_tag(),
        ..tell()
    };
    reader.take_in(&frame_with(&tell(), &[], NewNote("new".into())));
    let mut other_version = lie;
    other_version.tag.version += 1;
    reader.take_in(&frame_of(&other_version, &[], &[0; 40]));
    reader.take_in(&frame_of(&lie, &[], &[0xff; 40]));
    reader.take_in(&frame_of(&lie, &[], &[]));
    reader.take_in(&frame_with(&tell(), &[], note("fine")));
    let error = reader
        .next()
        .unwrap()
        .unwrap()
        .payload()
        .access::<Note>()
        .err();
    let error = error.expect("another version");
    assert!(!error.is_fatal());
    assert_eq!(
        error.to_string(),
        format!(
            "the payload is of the type {:016x} (version 3), and `test.Note` with {:016x} (version 2) was expected",
            NewNote::fingerprint(),
            Note::fingerprint()
        )
    );
    let error = reader.next().unwrap().unwrap().payload().access::<Note>();
    assert!(matches!(error, Err(WireError::OtherType { .. })));
    for _ in 0..2 {
        let error = reader
            .next()
            .unwrap()
            .unwrap()
            .payload()
            .deserialize::<Note>();
        let error = error.expect_err("no archive");
        assert!(!error.is_fatal());
        assert!(
            error
                .to_string()
                .starts_with("the payload is no valid `test.Note`: "),
            "{error}"
        );
    }
    let read = reader
        .next()
        .unwrap()
        .unwrap()
        .payload()
        .deserialize::<Note>();
    assert_eq!(read.unwrap(), note("fine"));
}

#[test]
fn a_deadline_is_rounded_up_and_a_long_one_is_none() {
    for (left, travels) in [
        (Some(Duration::ZERO), Some(Duration::from_micros(1))),
        (
            Some(Duration::from_nanos(1_001)),
            Some(Duration::from_micros(2)),
        ),
        (Some(Duration::from_secs(5)), Some(Duration::from_secs(5))),
        (Some(Duration::from_secs(5_000)), None),
        (None, None),
    ] {
        let header = Header {
            remaining: left,
            ..tell()
        };
        let bytes = frame_with(&header, &[], Note::Nothing);
        assert_eq!(parse(&bytes).unwrap().header().remaining, travels);
    }
}
