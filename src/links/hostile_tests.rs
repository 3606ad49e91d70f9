//! Peers that mean no good: each costs bounded memory and time, and one line in the log.

use super::ending::Why;
use super::kit::{Host, Two, identity, ms};
use super::output::Output;
use super::settings::LinkSettings;
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::rng::seeded;
use crate::wire::address::{Life, Sender, Target};
use crate::wire::frame::FrameRef;
use crate::wire::greeting::{Dial, Greeting, Patience, Step};
use crate::wire::header::Header;
use crate::wire::kind::{Kind, Plane};
use crate::wire::limits::FrameLimits;
use crate::wire::preamble::{PROTOCOL, Preamble, Purpose, cluster_hash};
use crate::wire::writer::FrameWriter;
use rand::RngExt;

const CONTROL: Purpose = Purpose::Control;

fn settings() -> LinkSettings {
    LinkSettings::default()
}

fn preamble(node: u32) -> Preamble {
    Preamble {
        protocol: PROTOCOL,
        purpose: CONTROL,
        cluster: cluster_hash("shop"),
        life: Life::new(NodeId(node), Incarnation(1)),
        wanted: None,
        core: CoreId(0),
    }
}

/// The first bytes of a well-meaning node: preamble and hello.
pub(super) fn knock(node: u32, purpose: Purpose) -> Vec<u8> {
    knock_in_life(node, 1, purpose)
}

fn knock_in_life(node: u32, life: u32, purpose: Purpose) -> Vec<u8> {
    let core = CoreId(u16::from(purpose == Purpose::Data));
    let dial = Dial {
        purpose,
        core,
        wanted: None,
        expected: None,
    };
    let mut greeting = Greeting::dial(
        identity(node, life, Some(7)),
        dial,
        Patience::default(),
        crate::base::time::Time::ZERO,
    );
    let mut bytes = Vec::new();
    while let Some(step) = greeting.next_step() {
        match step {
            Step::SendPlain(plain) => bytes.extend_from_slice(&plain),
            Step::Send(more) => bytes.extend(more),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

pub(super) fn frame(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut writer = FrameWriter::new(FrameLimits::default());
    let header = Header::new(kind, Target::Node, Sender::default());
    writer.write_bytes(&header, &[], content).unwrap();
    writer.pending().to_vec()
}

/// A stranger who has greeted as node 9 and confirmed the connection.
fn greeted(two: &mut Two, purpose: Purpose) -> usize {
    let pipe = two.stranger(0, &knock(9, purpose));
    two.run();
    two.pipes[pipe].bytes[1].extend(frame(Kind::Ping, b"here"));
    two.run();
    assert_eq!(two.hosts[0].ups().len(), 1);
    // The welcome and what follows are read.
    two.pipes[pipe].bytes[0].clear();
    pipe
}

#[test]
fn garbage_of_every_sort_is_refused_and_told_once() {
    let cut = &knock(9, CONTROL)[..];
    let mut oversized = frame(Kind::Report, &[0; 64]);
    oversized[4..8].copy_from_slice(&(512_u32 << 20).to_le_bytes());
    let mut damaged = frame(Kind::Report, &[0; 64]);
    damaged[100] ^= 1;
    let mut unknown = frame(Kind::Report, &[]);
    unknown[9] = 200;
    let behind_greeting: [(Vec<u8>, &str); 6] = [
        (oversized, "536870912 bytes"),
        (damaged, "damaged"),
        (unknown, "kind 200"),
        (
            frame(Kind::Hello, &[1]),
            "does not belong on a control connection",
        ),
        (
            frame(Kind::Credit, &[0; 16]),
            "control connections know no credit",
        ),
        (vec![0xFF; 64], "format 255"),
    ];
    for (bytes, said) in behind_greeting {
        let mut two = Two::new(CONTROL, &settings());
        for round in 0..20 {
            let pipe = two.stranger(0, cut);
            two.run();
            two.pipes[pipe].bytes[1].extend(frame(Kind::Ping, &[]));
            two.run();
            two.pipes[pipe].bytes[0].clear();
            two.pipes[pipe].bytes[1].extend(&bytes);
            two.run();
            assert!(two.is_closed(pipe), "{said}");
            // It is told why.
            let answer: Vec<u8> = two.pipes[pipe].bytes[0].drain(..).collect();
            let bye = FrameRef::parse(&answer, Plane::Control, 4_096).unwrap();
            assert_eq!(bye.kind(), Kind::Bye);
            let text = String::from_utf8(bye.payload().bytes().to_vec()).unwrap();
            assert!(text.contains(said), "{text}");
            let down = *two.hosts[0].downs().last().unwrap();
            assert!(matches!(down.why, Why::Garbage(_)), "{down:?}");
            assert_eq!(two.hosts[0].links.counters().ended_by("garbage"), round + 1);
        }
        assert_eq!(two.hosts[0].notes().len(), 1, "{:?}", two.hosts[0].notes());
        assert!(two.hosts[0].notes()[0].contains(said));
        assert!(two.hosts[0].links.is_empty());
    }
}

#[test]
fn whoever_does_not_greet_is_refused_and_told_once() {
    let other_cluster = Preamble {
        cluster: 1,
        ..preamble(9)
    };
    let hello = knock(9, CONTROL);
    let mut lies = knock(9, CONTROL);
    let claims = preamble(8).encode();
    lies[..32].copy_from_slice(&claims);
    let cases: [(&[u8], &str); 6] = [
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "no corecast node",
        ),
        (b"", "did not send its preamble within 2000 ms"),
        (&hello[..20], "did not send its preamble within 2000 ms"),
        (&hello[..60], "did not send its hello within 5000 ms"),
        (&other_cluster.encode(), "cluster name"),
        (&lies, "preamble's node"),
    ];
    for (bytes, said) in cases {
        let mut two = Two::new(CONTROL, &settings());
        for _ in 0..5 {
            let pipe = two.stranger(0, bytes);
            two.pass(ms(5_500));
            assert!(two.is_closed(pipe), "{said}");
            // The line is told anew after a minute only.
            assert_eq!(two.hosts[0].notes().len(), 1, "{:?}", two.hosts[0].notes());
        }
        let notes = two.hosts[0].notes();
        assert!(notes[0].contains(said), "{notes:?}");
        assert!(two.hosts[0].links.is_empty() && two.hosts[0].porch.is_empty());
    }
}

#[test]
fn ten_thousand_connects_take_bounded_memory_and_keep_nobody_out() {
    let mut two = Two::new(CONTROL, &settings());
    let mut most = 0;
    for n in 0..10_000_u32 {
        // Silent, half a preamble, a whole one, a hello: whatever they say.
        let knock = knock(3 + n % 5_000, CONTROL);
        let said = [0, 20, 32, 50, knock.len()][(n % 5) as usize];
        two.stranger(0, &knock[..said]);
        if n % 100 == 0 {
            two.run();
            let held = two.hosts[0].links.held_bytes() + two.hosts[0].porch.held_bytes();
            most = most.max(held);
            two.pipes
                .retain(|pipe| !pipe.bytes[1].is_empty() || pipe.bytes[0].is_empty());
        }
        if n % 1_000 == 0 {
            two.pipes.clear();
        }
    }
    assert!(two.hosts[0].porch.len() <= settings().most_on_porch);
    assert!(two.hosts[0].links.len() <= settings().most_greetings);
    assert!(most < 3 << 20, "{most} bytes");
    // Somebody who means well comes in while they stand there.
    two.want(1);
    two.run();
    assert_eq!(two.hosts[1].ups().len(), 1);
    let counters = two.hosts[0].links.counters();
    assert!(counters.ended_by("given up") > 1_000, "{counters:?}");
    let notes = two.hosts[0].notes().len();
    assert!(notes <= 2 * (settings().most_notes + 1), "{notes} lines");
    // And when they have been silent for long enough, they are gone.
    two.pass(ms(6_000));
    assert_eq!((two.hosts[0].links.len(), two.hosts[0].porch.len()), (1, 0));
}

#[test]
fn one_name_has_few_greetings() {
    let mut two = Two::new(CONTROL, &settings());
    let pipes: Vec<usize> = (0..10)
        .map(|_| two.stranger(0, &knock(9, CONTROL)))
        .collect();
    two.run();
    let open = pipes.iter().filter(|pipe| !two.is_closed(**pipe)).count();
    assert_eq!(open, settings().most_greetings_per_remote);
    assert!(
        two.is_closed(pipes[0]) && !two.is_closed(pipes[9]),
        "the oldest makes room"
    );
    assert_eq!(two.hosts[0].links.counters().ended_by("given up"), 6);
    assert_eq!(two.hosts[0].notes().len(), 0);
}

#[test]
fn a_peer_that_never_reads_is_refused_more_and_then_closed() {
    for purpose in [CONTROL, Purpose::Data] {
        let mut two = Two::connected(purpose, &settings());
        two.hosts[1].is_frozen = true;
        let mut accepted = 0;
        loop {
            match two.send(0, &[7; 500]) {
                Ok(number) => accepted = number,
                Err(refused) => {
                    assert!(refused.to_string().contains("wait to be sent"), "{refused}");
                    break;
                }
            }
            two.run();
        }
        assert!((20..60).contains(&accepted), "{accepted}");
        let held = two.hosts[0].links.held_bytes();
        assert!(held < 60 << 10, "{held}");
        // It goes on asking for the time of `silence`.
        two.pass(ms(4_900));
        assert_eq!(two.hosts[0].downs().len(), 0);
        two.pass(ms(2_000));
        let down = two.hosts[0].downs()[0].clone();
        assert!(matches!(down.why, Why::Stuck(_)), "{down:?}");
        assert_eq!(down.accepted, accepted);
        assert!(down.handed > 0 && down.handed < accepted, "{down:?}");
        assert_eq!(two.hosts[0].notes().len(), 1);
    }
}

#[test]
fn more_than_was_given_leave_for_is_refused() {
    let few = LinkSettings {
        credit_frames: 4,
        ..settings()
    };
    let mut two = Two::new(Purpose::Data, &few);
    let pipe = greeted(&mut two, Purpose::Data);
    let target = Target::Actor {
        incarnation: Incarnation(1),
        core: CoreId(1),
        cell: 5,
    };
    let mut header = Header::new(Kind::Tell, target, Sender::default());
    header.tag.fingerprint = 9;
    let mut writer = FrameWriter::new(FrameLimits::default());
    for _ in 0..5 {
        writer.write_bytes(&header, &[], b"x").unwrap();
    }
    two.hosts[0].gives_credit = false;
    two.pipes[pipe].bytes[1].extend(writer.pending());
    two.run();
    assert_eq!(two.hosts[0].frames.len(), 4);
    assert!(matches!(two.hosts[0].downs()[0].why, Why::Overdrawn));
    assert!(two.is_closed(pipe));
}

/// What a peer asks of the connection itself is work as well.
#[test]
fn a_flood_of_pings_is_taken_in_portions() {
    let mut two = Two::new(CONTROL, &settings());
    let pipe = greeted(&mut two, CONTROL);
    two.hosts[0].takes = false;
    for _ in 0..50 {
        two.pipes[pipe].bytes[1].extend(frame(Kind::Ping, b"again"));
    }
    two.run();
    let (now, id) = (two.now, two.hosts[0].ups()[0].connection);
    let links = &mut two.hosts[0].links;
    let before = links.counters().pongs;
    for portion in 1..=5 {
        let received = links.receive(id, 10, now, |_, _| unreachable!());
        assert_eq!(links.counters().pongs - before, portion * 10);
        assert!(received.more);
    }
    let received = links.receive(id, 10, now, |_, _| unreachable!());
    assert!(!received.more);
}

#[test]
fn frames_before_the_confirmation_are_refused() {
    let mut two = Two::new(CONTROL, &settings());
    let pipe = two.stranger(0, &knock(9, CONTROL));
    two.run();
    two.pipes[pipe].bytes[1].extend(frame(Kind::Report, b"early"));
    two.run();
    assert!(two.is_closed(pipe));
    assert_eq!(two.hosts[0].ups().len() + two.hosts[0].frames.len(), 0);
}

#[test]
fn random_bytes_at_any_time_do_no_harm() {
    for seed in 0..300 {
        let mut rng = seeded(seed, 1);
        let mut two = Two::connected(CONTROL, &settings());
        for _ in 0..10 {
            let mut bytes = match rng.random_range(0..4) {
                0 => Vec::new(),
                1 => preamble(rng.random_range(1..4)).encode().to_vec(),
                _ => knock(rng.random_range(1..4), CONTROL),
            };
            if rng.random_bool(0.5) {
                bytes.extend(frame(Kind::Ping, &[]));
            }
            match rng.random_range(0..3) {
                0 => bytes.extend((0..rng.random_range(0..200)).map(|_| rng.random::<u8>())),
                1 => {
                    for _ in 0..rng.random_range(0..4) {
                        let kind = Kind::ALL[rng.random_range(0..Kind::ALL.len())];
                        let header = Header::new(kind, Target::Node, Sender::default());
                        let mut writer = FrameWriter::new(FrameLimits::default());
                        if writer.write_bytes(&header, &[], &[1; 16]).is_ok() {
                            bytes.extend(writer.pending());
                        }
                    }
                }
                _ => {}
            }
            if !bytes.is_empty() && rng.random_bool(0.3) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            two.stranger(0, &bytes);
            two.pass(ms(rng.random_range(0..3_000)));
        }
        two.pass(ms(30_000));
        assert!(two.hosts[0].porch.is_empty(), "seed {seed}");
        assert!(two.hosts[0].links.len() <= 3, "seed {seed}");
        assert!(two.hosts[0].notes().len() < 40, "seed {seed}");
    }
}

#[test]
fn a_seed_that_is_another_node_is_told_once() {
    let mut two = Two::new(CONTROL, &settings());
    two.hosts[1] = Host::new(5, 1, CONTROL, &settings(), 1);
    two.want(0);
    two.pass(ms(50_000));
    let notes = two.hosts[0].notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("node that was dialled: here node-2, there node-5"),
        "{notes:?}"
    );
    let dials = two.hosts[0].links.counters().dials;
    assert!((10..25).contains(&dials), "{dials}: the waits grow");
    assert!(
        !two.hosts[0]
            .seen
            .iter()
            .any(|output| matches!(output, Output::Up(_)))
    );
}

/// Two processes have one id, because a directory was copied, for instance. The second says a later life than the first.
#[test]
fn a_second_holder_of_an_id_does_not_push_out_the_one_that_answers() {
    for purpose in [CONTROL, Purpose::Data] {
        let mut two = Two::new(purpose, &settings());
        two.hosts[1] = Host::new(2, 5, purpose, &settings(), 2);
        two.want(1);
        two.run();
        let again = |two: &mut Two| {
            let pipe = two.stranger(0, &knock_in_life(2, 6, purpose));
            two.run();
            two.pipes[pipe].bytes[1].extend(frame(Kind::Ping, b"here"));
            two.run();
            two.pass(ms(1_500));
            pipe
        };
        for n in 0..20 {
            let pipe = again(&mut two);
            assert!(two.is_closed(pipe));
            two.send(1, &[n; 10]).unwrap();
        }
        two.run();
        assert_eq!(two.hosts[0].frames.len(), 20);
        assert_eq!(
            (two.hosts[0].downs().len(), two.hosts[1].downs().len()),
            (0, 0)
        );
        let notes = two.hosts[0].notes();
        assert!(
            notes.len() == 1 && notes[0].contains("another life"),
            "{notes:?}"
        );
        // When the first is gone without a word, that is found out, and the second is taken.
        two.forget_dialler(0);
        two.hosts[1].is_frozen = true;
        let before = two.hosts[0].ups().len();
        for _ in 0..6 {
            let pipe = again(&mut two);
            if !two.is_closed(pipe) {
                break;
            }
        }
        let ups = two.hosts[0].ups();
        assert_eq!(ups.len(), before + 1);
        assert_eq!(ups[before].peer.peer.life.incarnation, Incarnation(6));
        assert_eq!(two.hosts[0].links.len(), 1);
    }
}
