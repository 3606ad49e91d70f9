//! Either side of the handshake, against a peer that says anything.
#![no_main]

use corecast::base::ids::{CoreId, Incarnation, NodeId};
use corecast::base::time::Time;
use corecast::wire::address::Life;
use corecast::wire::greeting::{Dial, Greeting, Patience, Step};
use corecast::wire::header::HEADER_BYTES;
use corecast::wire::hello::{CheckedIdentity, Identity};
use corecast::wire::limits::FrameLimits;
use corecast::wire::preamble::{PREAMBLE_BYTES, Purpose};
use corecast::wire::tables::Tables;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let Some((&[how, portion], stream)) = data.split_first_chunk() else {
        return;
    };
    let mut stream = stream.to_vec();
    let accepts = how & 1 == 0;
    // The first of them as they are, or what another node says in their place, or with right checksums.
    if how & 2 != 0 {
        let mut real = Vec::new();
        let mut other = side(!accepts || how & 4 != 0, 3);
        while let Some(step) = other.next_step() {
            match step {
                Step::SendPlain(bytes) => real.extend_from_slice(&bytes),
                Step::Send(bytes) => real.extend_from_slice(&bytes),
                _ => {}
            }
        }
        let count = real.len().min(stream.len());
        let keep = usize::from(portion) * 2;
        let real = &real[..count.min(keep)];
        stream[..real.len()].copy_from_slice(real);
    }
    if how & 8 != 0 {
        seal(&mut stream, accepts);
    }
    run(side(accepts, 1), usize::from(portion) + 1, &stream);
});

fn side(accepts: bool, node: u32) -> Greeting {
    if accepts {
        return Greeting::accept(identity(node), Patience::default(), Time::ZERO);
    }
    let dial = Dial {
        purpose: Purpose::Data,
        core: CoreId(0),
        wanted: Some(CoreId(1)),
        expected: None,
    };
    Greeting::dial(identity(node), dial, Patience::default(), Time::ZERO)
}

fn identity(node: u32) -> Arc<CheckedIdentity> {
    let mut tables = Tables::default();
    tables
        .add_entity_type("cart", 256)
        .expect("the first of its name");
    let identity = Identity {
        cluster: "fuzz".to_owned(),
        cluster_id: None,
        life: Life::new(NodeId(node), Incarnation(1)),
        cores: 2,
        advertised: "127.0.0.1:1".to_owned(),
        limits: FrameLimits::default(),
        tables: Arc::new(tables),
    };
    Arc::new(identity.check().expect("a good identity"))
}

/// Makes checksums, lengths and formats right.
fn seal(stream: &mut [u8], with_preamble: bool) {
    let mut rest = stream;
    if with_preamble && rest.len() >= PREAMBLE_BYTES {
        let (preamble, behind) = rest.split_at_mut(PREAMBLE_BYTES);
        let sum = crc32fast::hash(&preamble[..28]).to_le_bytes();
        preamble[28..].copy_from_slice(&sum);
        rest = behind;
    }
    while rest.len() >= HEADER_BYTES {
        let claimed = usize::from(u16::from_le_bytes([rest[4], rest[5]])) / 16 * 16;
        let length = claimed.clamp(HEADER_BYTES, rest.len() / 16 * 16);
        let (frame, behind) = rest.split_at_mut(length);
        frame[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        frame[8] = 1;
        let sum = crc32fast::hash(&frame[4..]).to_le_bytes();
        frame[..4].copy_from_slice(&sum);
        rest = behind;
    }
}

fn run(mut greeting: Greeting, portion: usize, stream: &[u8]) {
    let mut accepted = false;
    let mut over = steps(&mut greeting, &mut accepted);
    let mut rest = stream;
    while !rest.is_empty() && !over {
        let count = greeting.receive(&rest[..rest.len().min(portion)]);
        assert!(count > 0, "it stands still");
        rest = &rest[count..];
        if !accepted {
            assert!(greeting.held_bytes() < 8 << 10);
        }
        over = steps(&mut greeting, &mut accepted);
    }
    greeting.tick(Time::MAX);
    over |= steps(&mut greeting, &mut accepted);
    assert!(over, "it ends at the latest when its time is over");
    assert_eq!((greeting.wants(), greeting.deadline()), (0, None));
    assert_eq!(greeting.receive(&[0; 8]), 0);
}

/// Takes what it says; whether it has ended.
fn steps(greeting: &mut Greeting, accepted: &mut bool) -> bool {
    let (mut over, mut sent) = (false, 0);
    while let Some(step) = greeting.next_step() {
        match step {
            Step::Established(_) | Step::Close(_) => {
                assert!(!over, "it ends once");
                over = true;
            }
            Step::Send(_) => sent += 1,
            Step::SendPlain(_) | Step::HandOver(_) => {}
        }
    }
    // A welcome, or tables, and no end: the hello was good.
    *accepted |= sent > 0 && !over;
    over
}
