//! The beginning of connections: both sides against each other, and against peers that say nothing, half, too much or
//! something else.

use super::address::Life;
use super::error::WireError;
use super::greeting::{Dial, GreetingError, HELLO_BYTES, Step};
use super::greeting_sides::{DIAL, Side, accept, dial, error, established, identity, meet, tables};
use super::hello::{Hello, Identity};
use super::kind::Kind;
use super::preamble::{PREAMBLE_BYTES, PreambleError, Purpose};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::time::Time;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn two_that_agree_are_connected_however_the_bytes_are_split() {
    for portion in 1..400 {
        let (one, two) = meet(dial(identity(1), DIAL), accept(identity(2)), portion);
        let (here, there) = (established(&one), established(&two));
        assert_eq!(here.peer.life.node, NodeId(2));
        assert_eq!(here.peer.advertised, "10.0.0.2:4000");
        assert_eq!(here.peer.core, CoreId(3), "the core that was wanted");
        assert_eq!(there.peer.life.node, NodeId(1));
        assert_eq!(there.peer.core, CoreId(2));
        assert_eq!(
            (here.purpose, there.purpose),
            (Purpose::Data, Purpose::Data)
        );
        assert_eq!((&here.tables, &there.tables), (&None, &None));
        assert_eq!(two.handed_over.unwrap().wanted, Some(CoreId(3)));
        assert_eq!((one.greeting.deadline(), one.greeting.wants()), (None, 0));
    }
}

#[test]
fn nodes_that_know_different_types_exchange_them() {
    let mut newer = identity(2);
    newer.tables = Arc::new(tables(&[("cart", 256), ("order", 8)], &[("a", 2, 11)]));
    let (one, two) = meet(dial(identity(1), DIAL), accept(newer.clone()), 33);
    assert_eq!(established(&one).tables.as_ref(), Some(&*newer.tables));
    assert_eq!(
        established(&two).tables.as_ref(),
        Some(&*identity(1).tables)
    );
}

/// The matrix: one thing different at a time, seen from both sides.
#[test]
fn every_difference_is_named_on_both_sides() {
    let change = |change: &dyn Fn(&mut Identity)| {
        let mut there = identity(2);
        change(&mut there);
        there
    };
    for (there, said, said_there) in [
        (
            change(&|there| there.cluster = "bank".into()),
            "cluster name: here another, with hash 9e969880f72c28c9, there `bank`",
            "cluster name: here `bank`, there another, with hash 9e969880f72c28c9",
        ),
        (
            change(&|there| there.cluster_id = Some(8)),
            "cluster id: here 00000000000000000000000000000007, there 00000000000000000000000000000008",
            "cluster id: here 00000000000000000000000000000008, there 00000000000000000000000000000007",
        ),
        (
            change(&|there| there.limits.frame_bytes = 1 << 20),
            "largest frame in bytes: here 16777216, there 1048576",
            "largest frame in bytes: here 1048576, there 16777216",
        ),
        (
            change(&|there| there.tables = Arc::new(tables(&[("cart", 128)], &[]))),
            "shards of type `cart`: here 256, there 128",
            "shards of type `cart`: here 128, there 256",
        ),
        (
            change(&|there| there.tables = Arc::new(tables(&[], &[("a", 1, 12)]))),
            "form of the message `a` version 1: here 000000000000000a, there 000000000000000c",
            "form of the message `a` version 1: here 000000000000000c, there 000000000000000a",
        ),
        (
            change(&|there| there.life.node = NodeId(1)),
            "node: here the same: it is connected to itself, there node-1/life-1",
            "node: here node-1/life-1, there the same: it is connected to itself",
        ),
        (
            change(&|there| there.life = Life::new(NodeId(1), Incarnation(9))),
            "node: here node-1/life-1, there node-1/life-9",
            "node: here node-1/life-9, there node-1/life-1",
        ),
        (
            change(&|there| there.cores = 3),
            "cores: here core-3 is wanted, there core-0 to core-2",
            "cores: here core-0 to core-2, there core-3 is wanted",
        ),
    ] {
        for portion in [1, 50, 5_000] {
            let (one, two) = meet(dial(identity(1), DIAL), accept(there.clone()), portion);
            let (one, two) = (error(&one), error(&two));
            assert!(one.ends_with(said), "{one}");
            assert!(two.ends_with(said_there), "{two}");
        }
    }
}

#[test]
fn a_node_that_does_not_know_its_cluster_yet_may_connect() {
    let mut joining = identity(2);
    joining.cluster_id = None;
    let (one, two) = meet(dial(joining, DIAL), accept(identity(1)), 100);
    assert_eq!(established(&one).peer.cluster_id, Some(7));
    assert_eq!(established(&two).peer.cluster_id, None);
}

#[test]
fn clients_may_have_any_node_id_and_need_no_address() {
    let mut client = identity(1);
    client.advertised = String::new();
    let wish = Dial {
        purpose: Purpose::Client,
        wanted: None,
        ..DIAL
    };
    let (one, two) = meet(dial(client, wish), accept(identity(1)), 100);
    assert_eq!(established(&one).purpose, Purpose::Client);
    assert_eq!(two.handed_over.unwrap().wanted, None);
}

#[test]
fn the_core_that_takes_over_is_told_to_the_peer() {
    let wish = Dial {
        wanted: None,
        ..DIAL
    };
    let mut one = Side::new(dial(identity(1), wish));
    let mut two = Side::new(accept(identity(2)));
    two.inbound = one.run(1_000);
    // The driver reads the preamble, hands the socket over, and only then goes on.
    let count = two.greeting.receive(&two.inbound);
    assert_eq!(count, PREAMBLE_BYTES);
    two.inbound.drain(..count);
    assert!(matches!(two.greeting.next_step(), Some(Step::HandOver(_))));
    two.greeting.owned_by(CoreId(1));
    one.inbound = two.run(1_000);
    one.run(1_000);
    assert_eq!(established(&one).peer.core, CoreId(1));
}

#[test]
fn another_node_than_the_one_that_was_dialled_is_refused() {
    let wish = Dial {
        expected: Some(NodeId(5)),
        ..DIAL
    };
    let (one, _) = meet(dial(identity(1), wish), accept(identity(2)), 100);
    assert_eq!(
        error(&one),
        "this node and the peer differ: node that was dialled: here node-5, there node-2"
    );
}

#[test]
fn who_says_nothing_or_half_is_closed_after_its_time() {
    let bytes = Side::new(dial(identity(1), DIAL)).run(1_000);
    for sent in 0..bytes.len() {
        let mut two = Side::new(accept(identity(2)));
        two.inbound = bytes[..sent].to_vec();
        two.run(1_000);
        let (patience, waiting_for) = match sent {
            0..PREAMBLE_BYTES => (Duration::from_secs(2), "preamble"),
            _ => (Duration::from_secs(5), "hello"),
        };
        let deadline = two.greeting.deadline().unwrap();
        assert_eq!(deadline, Time::ZERO + patience);
        two.greeting.tick(Time::from_nanos(deadline.as_nanos() - 1));
        assert_eq!(two.greeting.next_step(), None);
        two.greeting.tick(deadline);
        two.run(1_000);
        let expected = GreetingError::TimedOut {
            waiting_for,
            patience,
        };
        assert_eq!(two.end, Some(Err(expected)), "{sent}");
        assert_eq!((two.greeting.deadline(), two.greeting.wants()), (None, 0));
        assert_eq!(two.greeting.receive(&[1, 2, 3]), 0);
    }
}

#[test]
fn a_connection_that_ends_is_closed_once() {
    let mut one = Side::new(dial(identity(1), DIAL));
    one.run(1_000);
    one.greeting.lost();
    one.greeting.lost();
    one.greeting.tick(Time::MAX);
    one.run(1_000);
    assert_eq!(
        error(&one),
        "the connection ended before the peer had sent its welcome"
    );
    assert_eq!(one.greeting.next_step(), None);
}

#[test]
fn strangers_are_refused_at_the_first_bytes() {
    let mut two = Side::new(accept(identity(2)));
    two.inbound = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    two.run(1_000);
    assert_eq!(two.sent, [], "they are not answered");
    assert!(matches!(
        two.end,
        Some(Err(GreetingError::Preamble(
            PreambleError::NotCorecast { .. }
        )))
    ));
    // Another version is, so that its operator learns of it.
    let mut bytes = Side::new(dial(identity(1), DIAL)).run(1_000);
    bytes[4] = 9;
    let sum = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    let mut two = Side::new(accept(identity(2)));
    two.inbound = bytes;
    two.run(1_000);
    let mut one = Side::new(dial(identity(1), DIAL));
    one.inbound = two.sent.clone();
    one.run(1_000);
    assert_eq!(
        error(&one),
        "the peer refuses the connection: version of the protocol: here 9, there 2"
    );
}

#[test]
fn frames_that_do_not_belong_or_are_too_large_are_refused() {
    let hello = Side::new(dial(identity(1), DIAL)).run(1_000);
    let (preamble, hello) = hello.split_at(PREAMBLE_BYTES);
    let after_preamble = |frame: &[u8]| {
        let mut two = Side::new(accept(identity(2)));
        two.inbound = [preamble, frame].concat();
        two.run(1_000);
        match two.end {
            Some(Err(GreetingError::Wire(error))) => error,
            other => panic!("{other:?}"),
        }
    };
    let mut large = hello.to_vec();
    large[4..8].copy_from_slice(&(HELLO_BYTES as u32 + 16).to_le_bytes());
    assert!(matches!(
        after_preamble(&large),
        WireError::TooLarge {
            max: HELLO_BYTES,
            ..
        }
    ));
    let mut tell = hello.to_vec();
    tell[9] = Kind::Tell.code();
    assert!(matches!(
        after_preamble(&tell),
        WireError::WrongPlane { .. }
    ));
    let mut damaged = hello.to_vec();
    damaged[100] ^= 1;
    assert!(matches!(
        after_preamble(&damaged),
        WireError::Checksum { .. }
    ));
    let welcome = meet(dial(identity(1), DIAL), accept(identity(2)), 100)
        .1
        .sent;
    assert!(matches!(
        after_preamble(&welcome),
        WireError::Malformed {
            kind: Kind::Welcome,
            ..
        }
    ));
}

#[test]
fn a_stranger_holds_less_than_8_kib() {
    let mut long = identity(1);
    long.cluster = "n".repeat(128);
    long.advertised = "a".repeat(255);
    let mut here = identity(2);
    here.cluster = long.cluster.clone();
    for cluster_id in [Some(7), Some(8)] {
        long.cluster_id = cluster_id;
        let mut bytes = Side::new(dial(long.clone(), DIAL)).run(1_000);
        // Or the largest frame that is not refused at its first bytes, without an end.
        for claim in [None, Some(HELLO_BYTES as u32)] {
            if let Some(claim) = claim {
                bytes[PREAMBLE_BYTES + 4..][..4].copy_from_slice(&claim.to_le_bytes());
                bytes.resize(PREAMBLE_BYTES + HELLO_BYTES, 0);
            }
            let mut greeting = accept(here.clone());
            for byte in &bytes {
                greeting.receive(std::slice::from_ref(byte));
                let held = greeting.held_bytes();
                assert!(held < 8 << 10, "{held}");
            }
        }
    }
}

#[test]
fn identities_are_checked() {
    let change = |change: &dyn Fn(&mut Identity)| {
        let mut identity = identity(1);
        change(&mut identity);
        identity.check().expect_err("wrong").to_string()
    };
    for (error, said) in [
        (
            change(&|it| it.cluster.clear()),
            "the cluster's name `` must have 1 to 128 bytes",
        ),
        (
            change(&|it| it.advertised = "a\n".into()),
            "the advertised address",
        ),
        (
            change(&|it| it.cluster_id = Some(0)),
            "the cluster's id must not be zero",
        ),
        (
            change(&|it| it.cores = 0),
            "the number of cores must not be zero",
        ),
        (
            change(&|it| it.life.node.0 = 0),
            "the node's id must not be zero",
        ),
        (
            change(&|it| it.life.incarnation.0 = 0),
            "the node's incarnation must not be zero",
        ),
        (
            change(&|it| it.limits.frame_bytes = 1),
            "`frame_bytes` is 1 bytes",
        ),
    ] {
        assert!(error.starts_with(said), "{error}");
    }
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let numbers = any::<(u8, u32, u16, u16, u32, u64, u64, u128)>();
    let texts = ("[^\\pC]{0,60}", "[^\\pC]{0,60}");
    (0..3_usize, 1..u32::MAX, numbers, texts).prop_map(
        |(purpose, incarnation, numbers, (cluster, advertised))| Hello {
            purpose: Purpose::ALL[purpose],
            life: Life::new(NodeId(numbers.1.max(1)), Incarnation(incarnation)),
            core: CoreId(numbers.2.min(numbers.3.max(1) - 1)),
            cores: numbers.3.max(1),
            format: numbers.0,
            placement_hash: numbers.4,
            frame_bytes: numbers.5,
            tables: numbers.6,
            cluster_id: Some(numbers.7).filter(|id| *id != 0),
            cluster: cluster.chars().take(30).collect(),
            advertised,
        },
    )
}

proptest! {
    #[test]
    fn every_hello_comes_back(hello in any_hello()) {
        let bytes = hello.encode();
        prop_assert_eq!(&Hello::decode(Kind::Hello, &bytes), &Ok(hello));
        for cut in 0..bytes.len() {
            prop_assert!(Hello::decode(Kind::Hello, &bytes[..cut]).is_err());
        }
    }

    /// Whatever a peer sends: an end, no panic, little memory; and it never reads on when it is over.
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        good in 0..600_usize,
        accepting in any::<bool>(),
        portion in 1..200_usize,
    ) {
        let (one, two) = meet(dial(identity(1), DIAL), accept(identity(2)), 1_000);
        let (mut side, real) = if accepting {
            (Side::new(accept(identity(2))), one.sent)
        } else {
            (Side::new(dial(identity(1), DIAL)), two.sent)
        };
        let good = good.min(real.len());
        let tail = bytes.iter().copied().chain(std::iter::repeat(0)).skip(good);
        side.inbound = real[..good].iter().copied().chain(tail.take(1_200)).collect();
        side.run(portion);
        prop_assert!(side.greeting.held_bytes() < 8 << 10);
        side.greeting.tick(Time::MAX);
        side.run(portion);
        prop_assert!(side.end.is_some());
        prop_assert_eq!(side.greeting.wants(), 0);
    }
}
