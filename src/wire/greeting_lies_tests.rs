//! Peers that say one thing here and another there, or say what cannot be.

use super::address::Target;
use super::greeting_sides::{DIAL, Side, accept, dial, error, identity, tables};
use super::header::{HEADER_BYTES, Header};
use super::kind::Kind;
use super::preamble::PREAMBLE_BYTES;
use super::samples::{frame_of, sender};

/// The preamble carries no trust: what it says is compared with what is said where TLS protects it.
#[test]
fn a_preamble_of_somebody_else_is_noticed() {
    let mut one = Side::new(dial(identity(1), DIAL));
    let mut other = Side::new(dial(identity(3), DIAL));
    let mut bytes = one.run(1_000);
    bytes[..PREAMBLE_BYTES].copy_from_slice(&other.run(1_000)[..PREAMBLE_BYTES]);
    let mut two = Side::new(accept(identity(2)));
    two.inbound = bytes;
    two.run(1_000);
    assert_eq!(
        error(&two),
        "this node and the peer differ: preamble's node: here node-3/life-1, there node-1/life-1"
    );
}

/// The core that is wanted stands in the preamble only; who dialled sees by the welcome whether it was changed.
#[test]
fn a_preamble_that_was_sent_to_another_core_is_noticed() {
    let mut one = Side::new(dial(identity(1), DIAL));
    let mut two = Side::new(accept(identity(2)));
    let mut bytes = one.run(1_000);
    bytes[24] = 1;
    let sum = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    two.inbound = bytes;
    one.inbound = two.run(1_000);
    one.run(1_000);
    assert_eq!(
        error(&one),
        "this node and the peer differ: core that was wanted: here core-3, there core-1"
    );
}

const CONTENT: usize = HEADER_BYTES;

/// A preamble, and a hello that has other bytes somewhere in its header or content, under a right checksum.
fn hello_with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut all = Side::new(dial(identity(1), DIAL)).run(1_000);
    let hello = &mut all[PREAMBLE_BYTES..];
    hello[at..at + bytes.len()].copy_from_slice(bytes);
    let sum = crc32fast::hash(&hello[4..]);
    hello[..4].copy_from_slice(&sum.to_le_bytes());
    all
}

/// What whoever accepts a connection finds wrong with what comes.
fn accepted(inbound: Vec<u8>) -> String {
    let mut two = Side::new(accept(identity(2)));
    two.inbound = inbound;
    two.run(1_000);
    error(&two)
}

#[test]
fn a_hello_of_nobody_or_from_no_core_is_refused() {
    let content = "the content of a frame of kind `hello` is malformed: ";
    for (at, bytes, said) in [
        (
            CONTENT + 2,
            &[0; 4][..],
            "byte 10: its node id or its incarnation is zero",
        ),
        (
            CONTENT + 6,
            &[0; 4],
            "byte 10: its node id or its incarnation is zero",
        ),
        (
            CONTENT + 10,
            &[4, 0],
            "byte 14: its core is none of its cores",
        ),
        (
            CONTENT + 12,
            &[0, 0],
            "byte 14: its core is none of its cores",
        ),
    ] {
        assert_eq!(accepted(hello_with(at, bytes)), format!("{content}{said}"));
    }
    // The header of the frame says who sends it as well.
    for (at, bytes) in [(52, &[9][..]), (26, &[1])] {
        assert_eq!(
            accepted(hello_with(at, bytes)),
            "a frame of kind `hello` is malformed: its sender is not who it says in it"
        );
    }
}

#[test]
fn a_refusal_names_something() {
    let nothing = frame_of(
        &Header::new(Kind::Refuse, Target::Node, sender()),
        &[],
        &[0; 5],
    );
    let mut one = Side::new(dial(identity(1), DIAL));
    one.inbound = nothing;
    one.run(1_000);
    assert_eq!(
        error(&one),
        "the content of a frame of kind `refuse` is malformed: byte 1: it names no difference, or more than eight"
    );
}

#[test]
fn what_is_not_the_same_in_both_hellos_is_named() {
    for (at, bytes, said) in [
        (
            CONTENT,
            &[1][..],
            "purpose of the connection: here data, there control",
        ),
        (CONTENT + 1, &[2], "format of frames: here 1, there 2"),
        (CONTENT + 14, &[7], "placement hash: here 1, there 7"),
    ] {
        assert_eq!(
            accepted(hello_with(at, bytes)),
            format!("this node and the peer differ: {said}")
        );
    }
    // The core that dials is in the preamble, in the hello and in its header; the last two agree here.
    let mut inbound = Side::new(dial(identity(1), DIAL)).run(1_000);
    inbound[26] = 1;
    let sum = crc32fast::hash(&inbound[..28]);
    inbound[28..32].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(
        accepted(inbound),
        "this node and the peer differ: preamble's core: here core-1, there core-2"
    );
}

#[test]
fn tables_must_be_those_that_were_announced() {
    let announced = CONTENT + 26;
    let digest = identity(3).check().unwrap().get().tables.digest();
    for (bytes, types) in [
        (9_u64, tables(&[("cart", 256)], &[("a", 1, 10)])),
        (9, tables(&[], &[])),
        (digest ^ 1, tables(&[("cart", 128)], &[])),
    ] {
        let mut inbound = hello_with(announced, &bytes.to_le_bytes());
        let header = Header::new(Kind::Tables, Target::Node, sender());
        inbound.extend_from_slice(&frame_of(&header, &[], &types.encode()));
        assert_eq!(
            accepted(inbound),
            "a frame of kind `tables` is malformed: they are not those whose digest was announced"
        );
    }
}
