//! What connections promise to a core and its driver, one promise at a time.

use super::ending::{Farewell, Why};
use super::kit::{Host, Two, identity, ms, why};
use super::output::{Output, Took};
use super::refusal::NotSent;
use super::remote::Remote;
use super::settings::LinkSettings;
use crate::base::ids::NodeId;
use crate::wire::address::{Sender, Target};
use crate::wire::error::WriteError;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::preamble::Purpose;

const CONTROL: Purpose = Purpose::Control;

fn settings() -> LinkSettings {
    LinkSettings::default()
}

#[test]
fn frames_arrive_in_order_and_many_go_with_one_write() {
    for purpose in [CONTROL, Purpose::Data] {
        let mut two = Two::connected(purpose, &settings());
        let before = two.hosts[0].links.counters().writes;
        for n in 0..30_u8 {
            assert_eq!(two.send(0, &[n; 10]), Ok(u64::from(n) + 1));
        }
        two.run();
        let frames: Vec<u8> = two.hosts[1].frames.iter().map(|frame| frame[0]).collect();
        assert_eq!(frames, (0..30).collect::<Vec<u8>>());
        let writes = two.hosts[0].links.counters().writes - before;
        assert!(writes <= 2, "{writes}");
        let up = two.hosts[1].ups()[0];
        assert_eq!((up.peer.peer.life.node, up.dialled), (NodeId(1), false));
        assert!(two.hosts[0].ups()[0].dialled);
    }
}

#[test]
fn what_is_not_connected_is_refused_with_the_reason() {
    let mut two = Two::new(CONTROL, &settings());
    let refused = two.send(0, b"x").unwrap_err().to_string();
    assert_eq!(refused, "node-2 is not connected, and nobody dials it");
    two.answers = false;
    two.want(0);
    let refused = two.send(0, b"x").unwrap_err().to_string();
    assert_eq!(refused, "node-2 is not connected; it is being dialled");
    let mut two = Two::connected(CONTROL, &settings());
    for kind in [Kind::Ping, Kind::Bye, Kind::Tell, Kind::Hello] {
        let header = Header::new(kind, Target::Node, Sender::default());
        let remote = two.remote(0);
        let refused = two.hosts[0].links.write_bytes(remote, &header, &[], &[]);
        assert!(matches!(refused, Err(NotSent::WrongKind { .. })), "{kind}");
    }
}

#[test]
fn a_full_buffer_refuses_and_says_when_there_is_room() {
    let mut two = Two::connected(CONTROL, &settings());
    two.hosts[1].is_frozen = true;
    let refused = loop {
        if let Err(refused) = two.send(0, &[1; 1_000]) {
            break refused;
        }
        two.run();
    };
    assert!(matches!(refused, NotSent::Write(WriteError::Full { .. })));
    let room = |two: &Two| {
        let rooms = two.hosts[0].seen.iter();
        rooms
            .filter(|output| matches!(output, Output::Room { .. }))
            .count()
    };
    two.pass(ms(100));
    assert_eq!(room(&two), 0);
    two.hosts[1].is_frozen = false;
    two.run();
    assert_eq!(room(&two), 1);
    two.send(0, &[1; 1_000]).unwrap();
}

#[test]
fn a_core_that_takes_nothing_stops_the_sender_and_lets_it_go_on() {
    let few = LinkSettings {
        credit_frames: 10,
        ..settings()
    };
    let mut two = Two::connected(Purpose::Data, &few);
    two.hosts[1].gives_credit = false;
    let mut sent = 0;
    let refused = loop {
        match two.send(0, &[2; 100]) {
            Ok(number) => sent = number,
            Err(refused) => break refused,
        }
        two.run();
    };
    assert_eq!(sent, 10);
    assert!(
        matches!(refused, NotSent::NoCredit { frames: 10, .. }),
        "{refused}"
    );
    // The connection lives on meanwhile: pings are answered.
    two.pass(ms(20_000));
    assert_eq!(two.hosts[0].downs().len(), 0);
    let connection = two.hosts[1].ups()[0].connection;
    let done = crate::wire::credit::Credit {
        frames: 5,
        bytes: 5 * 208,
    };
    two.hosts[1].links.taken(connection, done, two.now);
    two.run();
    assert!(
        two.hosts[0]
            .seen
            .iter()
            .any(|output| matches!(output, Output::Room { .. }))
    );
    for _ in 0..5 {
        two.send(0, &[2; 100]).unwrap();
    }
    assert!(two.send(0, &[2; 100]).is_err());
}

#[test]
fn bytes_bound_the_sender_as_well_and_a_large_frame_passes() {
    let few = LinkSettings {
        credit_bytes: 8 << 10,
        ..settings()
    };
    let mut two = Two::connected(Purpose::Data, &few);
    // Larger than the whole leave, and than the buffer.
    for _ in 0..5 {
        two.send(0, &[3; 40_000]).unwrap();
        two.run();
    }
    assert_eq!(two.hosts[1].frames.len(), 5);
    two.hosts[1].gives_credit = false;
    two.send(0, &[3; 40_000]).unwrap();
    two.run();
    assert!(matches!(
        two.send(0, &[3; 10]),
        Err(NotSent::NoCredit { .. })
    ));
}

#[test]
fn a_half_open_connection_is_noticed_and_made_anew() {
    let mut two = Two::connected(CONTROL, &settings());
    two.pipes[0].is_cut = true;
    two.pass(ms(5_900));
    assert_eq!(two.hosts[0].downs().len(), 0, "one second and then five");
    two.pass(ms(400));
    assert!(matches!(why(&two.hosts[0]), Why::Silent(_)));
    assert!(matches!(why(&two.hosts[1]), Why::Silent(_)));
    two.pass(ms(1_000));
    for host in &two.hosts {
        assert_eq!((host.ups().len(), host.links.len()), (2, 1));
    }
}

#[test]
fn a_peer_that_forgot_is_followed() {
    // The side that accepted dies without a word, and dials itself.
    let mut two = Two::connected(CONTROL, &settings());
    two.pipes[0].is_cut = true;
    two.send(0, b"into the void").unwrap();
    two.run();
    two.hosts[1] = Host::new(2, 1, CONTROL, &settings(), 2);
    two.pipes.clear();
    two.want(1);
    two.run();
    let down = two.hosts[0].downs()[0].clone();
    assert!(matches!(down.why, Why::Replaced { .. }), "{down:?}");
    assert_eq!((down.accepted, down.handed, down.in_order), (1, 1, false));
    assert_eq!(two.hosts[0].ups().len(), 2);
    assert_eq!((two.hosts[0].links.len(), two.hosts[1].links.len()), (1, 1));
}

#[test]
fn an_older_life_does_not_replace_a_newer_one_until_that_is_silent() {
    let mut two = Two::new(CONTROL, &settings());
    two.hosts[1] = Host::new(2, 5, CONTROL, &settings(), 2);
    two.want(1);
    two.run();
    two.forget_dialler(0);
    two.hosts[1] = Host::new(2, 4, CONTROL, &settings(), 3);
    two.pass(ms(1));
    two.want(1);
    two.run();
    assert!(matches!(
        why(&two.hosts[1]),
        Why::ByPeer {
            farewell: Farewell::OlderLife,
            ..
        }
    ));
    assert_eq!(two.hosts[0].downs().len(), 0);
    // The newer one is gone, as it turns out.
    two.pass(ms(12_000));
    assert!(matches!(two.hosts[0].downs()[0].why, Why::Silent(_)));
    let life = two.hosts[0].ups().last().unwrap().peer.peer.life;
    assert_eq!(life.incarnation.0, 4);
    assert_eq!(two.hosts[0].links.len(), 1);
}

#[test]
fn who_says_another_address_does_not_replace_one_that_is_there() {
    let mut two = Two::new(CONTROL, &settings());
    two.want(1);
    two.run();
    assert_eq!(two.hosts[0].ups().len(), 1);
    // A second process with the id of the other, and a newer life, at another address.
    two.forget_dialler(0);
    two.hosts[1] = Host::new(2, 9, CONTROL, &settings(), 3);
    let identity = crate::wire::hello::Identity {
        advertised: "10.0.0.9:4000".into(),
        ..identity(2, 9, Some(7)).get().clone()
    };
    let identity = std::sync::Arc::new(identity.check().unwrap());
    two.hosts[1].links.set_identity(identity, two.now);
    two.pass(ms(1));
    two.want(1);
    two.run();
    assert!(matches!(
        why(&two.hosts[1]),
        Why::ByPeer {
            farewell: Farewell::OtherLife,
            ..
        }
    ));
    assert_eq!(two.hosts[0].downs().len(), 0);
    // The first is gone, as it turns out: it was the node itself, which has moved.
    two.pass(ms(12_000));
    assert!(matches!(two.hosts[0].downs()[0].why, Why::Silent(_)));
    assert_eq!(two.hosts[0].ups().len(), 2);
    let life = two.hosts[0].ups().last().unwrap().peer.peer.life;
    assert_eq!(life.incarnation.0, 9);
}

#[test]
fn a_core_that_stalls_condemns_nobody() {
    for says_so in [true, false] {
        let mut two = Two::connected(CONTROL, &settings());
        // A ping is on its way when the core stops; the answer comes, and waits.
        two.pass(ms(900));
        two.hosts[0].is_frozen = true;
        two.pass(ms(4_000));
        // Nothing was written to it meanwhile: then even the inputs do not help.
        two.hosts[1].is_frozen = true;
        two.now = two.now + ms(60_000);
        let (now, stalled) = (two.now, ms(64_000));
        if says_so {
            two.hosts[0].links.stalled(stalled);
            two.hosts[1].links.stalled(ms(60_000));
        }
        two.hosts[0].links.tick(now);
        two.hosts[1].links.tick(now);
        two.hosts.iter_mut().for_each(|host| host.is_frozen = false);
        two.pass(ms(3_000));
        if says_so {
            assert_eq!(two.hosts[0].downs().len() + two.hosts[1].downs().len(), 0);
            assert_eq!(two.hosts[0].links.counters().stalls, 1);
        } else {
            assert!(
                !two.hosts[1].downs().is_empty(),
                "time before inputs condemns"
            );
        }
    }
}

#[test]
fn a_stall_is_not_counted_against_greetings_and_farewells_either() {
    // This side dials, and stands still before its hello is written.
    let mut two = Two::new(CONTROL, &settings());
    two.hosts[1].is_frozen = true;
    two.want(0);
    two.pass(ms(1_000));
    two.now = two.now + ms(10_000);
    let now = two.now;
    two.hosts[0].links.stalled(ms(10_000));
    two.hosts[0].links.tick(now);
    two.hosts[1].is_frozen = false;
    two.run();
    assert_eq!(two.hosts[0].ups().len(), 1, "{:?}", two.hosts[0].seen);
    assert_eq!(two.hosts[0].links.counters().dials, 1);
    // This side closes in good order, and stands still before all is written.
    two.hosts[1].is_frozen = true;
    two.send(0, &[1; 9_000]).unwrap();
    let now = two.now;
    two.hosts[0].links.shutdown(now);
    two.pass(ms(500));
    two.now = two.now + ms(10_000);
    let now = two.now;
    two.hosts[0].links.stalled(ms(10_000));
    two.hosts[0].links.tick(now);
    two.hosts[1].is_frozen = false;
    two.run();
    assert_eq!(two.hosts[1].frames.len(), 1);
    assert!(
        two.hosts[0].downs()[0].in_order,
        "{:?}",
        two.hosts[0].downs()
    );
}

#[test]
fn a_core_that_does_not_listen_is_not_the_peers_fault() {
    let mut two = Two::connected(CONTROL, &settings());
    two.hosts[1].takes = false;
    for _ in 0..10 {
        two.send(0, &[1; 1_500]).unwrap();
        two.run();
    }
    // The peer holds frames up to its buffer, and pongs of ours wait behind them.
    two.pass(ms(3_000));
    assert_eq!(two.hosts[1].downs().len(), 0);
    two.hosts[1].takes = true;
    two.pass(ms(3_000));
    assert_eq!(two.hosts[1].frames.len(), 10);
    assert_eq!(two.hosts[0].downs().len() + two.hosts[1].downs().len(), 0);
}

#[test]
fn a_connection_is_closed_in_good_order() {
    let mut two = Two::connected(CONTROL, &settings());
    for n in 0..10 {
        two.send(0, &[n; 900]).unwrap();
        two.send(1, &[n; 900]).unwrap();
    }
    let now = two.now;
    two.hosts[0].links.shutdown(now);
    assert!(matches!(
        two.send(0, b"late"),
        Err(NotSent::NotConnected { .. })
    ));
    two.run();
    assert!(two.hosts[0].links.is_done());
    assert_eq!(
        (two.hosts[0].frames.len(), two.hosts[1].frames.len()),
        (10, 10)
    );
    let down = two.hosts[0].downs()[0].clone();
    assert_eq!((down.accepted, down.handed, down.in_order), (10, 10, true));
    assert_eq!(down.why, Why::ByUs(Farewell::Leaving));
    assert!(matches!(
        why(&two.hosts[1]),
        Why::ByPeer {
            farewell: Farewell::Leaving,
            ..
        }
    ));
    assert_eq!(two.hosts.each_ref().map(|host| host.notes().len()), [0, 0]);
}

#[test]
fn a_peer_that_does_not_answer_a_farewell_has_a_deadline() {
    let mut two = Two::connected(CONTROL, &settings());
    two.hosts[1].is_frozen = true;
    two.send(0, &[1; 9_000]).unwrap();
    let now = two.now;
    two.hosts[0].links.shutdown(now);
    two.pass(ms(990));
    assert!(!two.hosts[0].links.is_done());
    two.pass(ms(20));
    assert!(two.hosts[0].links.is_done());
    let down = two.hosts[0].downs()[0].clone();
    assert_eq!((down.accepted, down.handed, down.in_order), (1, 0, false));
}

#[test]
fn a_new_identity_makes_connections_anew_where_they_have_to_be() {
    let mut two = Two::new(CONTROL, &settings());
    for who in 0..2 {
        let unformed = identity(1 + who as u32, 1, None);
        two.hosts[who].links.set_identity(unformed.clone(), two.now);
        two.hosts[who].porch.set_identity(unformed);
        two.want(who);
    }
    two.pass(ms(100));
    // The first learns the cluster's id and its life: that takes a new connection.
    let formed = identity(1, 3, Some(7));
    two.hosts[0].porch.set_identity(formed.clone());
    two.send(0, b"before").unwrap();
    two.hosts[0].links.set_identity(formed, two.now);
    two.pass(ms(500));
    assert_eq!(two.hosts[1].frames, [b"before"]);
    assert!(two.hosts[0].downs()[0].in_order);
    assert_eq!(
        two.hosts[1]
            .ups()
            .last()
            .unwrap()
            .peer
            .peer
            .life
            .incarnation
            .0,
        3
    );
    // The second learns the id: the first has said the same, and the life is as it was.
    let ups = two.hosts[1].ups().len();
    let formed = identity(2, 1, Some(7));
    two.hosts[1].porch.set_identity(formed.clone());
    two.hosts[1].links.set_identity(formed, two.now);
    two.pass(ms(500));
    assert_eq!(two.hosts[1].ups().len(), ups);
    // Another cluster: never again.
    let other = identity(2, 1, Some(8));
    two.hosts[1].porch.set_identity(other.clone());
    two.hosts[1].links.set_identity(other, two.now);
    two.pass(ms(20_000));
    assert_eq!(two.hosts[1].ups().len(), ups);
    let notes = two.hosts[1].notes();
    assert!(
        notes.iter().any(|note| note.contains("cluster id")),
        "{notes:?}"
    );
    assert!(notes.len() <= 3, "{notes:?}");
}

/// Messages for a life that is over by then, which the next would not know to be late.
#[test]
fn in_another_life_nothing_is_taken_that_was_for_the_last() {
    for purpose in [CONTROL, Purpose::Data] {
        let mut two = Two::connected(purpose, &settings());
        two.send(0, b"for the last life").unwrap();
        let next = identity(2, 9, Some(7));
        two.hosts[1].porch.set_identity(next.clone());
        two.hosts[1].links.set_identity(next, two.now);
        two.pass(ms(2_000));
        let taken = usize::from(purpose == CONTROL);
        assert_eq!(two.hosts[1].frames.len(), taken);
        let up = two.hosts[0].ups().last().copied().unwrap();
        assert_eq!(up.peer.peer.life.incarnation.0, 9);
        two.send(0, b"for this life").unwrap();
        two.pass(ms(100));
        assert_eq!(two.hosts[1].frames.last().unwrap(), b"for this life");
    }
}

#[test]
fn waits_grow_and_begin_small_again_after_a_lasting_connection() {
    let mut two = Two::new(CONTROL, &settings());
    two.answers = false;
    two.want(0);
    two.pass(ms(60_000));
    let dials = two.hosts[0].links.counters().dials;
    assert!((12..30).contains(&dials), "{dials}");
    assert_eq!(two.hosts[0].notes().len(), 1);
    two.answers = true;
    two.pass(ms(5_000 + 6_000));
    assert_eq!(two.hosts[0].ups().len(), 1);
    two.pipes.iter_mut().for_each(|pipe| pipe.is_cut = true);
    two.pass(ms(6_001 + 150));
    assert_eq!(two.hosts[0].ups().len(), 2, "at once");
}

#[test]
fn what_is_not_wanted_is_closed_and_not_dialled() {
    let mut two = Two::connected(CONTROL, &settings());
    let (remote, now) = (two.remote(0), two.now);
    two.hosts[0].links.unwant(remote, now);
    two.pass(ms(20_000));
    assert_eq!(*why(&two.hosts[0]), Why::ByUs(Farewell::Unwanted));
    assert_eq!((two.hosts[0].links.len(), two.hosts[1].links.len()), (0, 0));
    assert_eq!(two.hosts[0].links.counters().dials, 1);
    assert_eq!(
        two.hosts[0].links.connection(Remote::control(NodeId(2))),
        None
    );
}

#[test]
fn a_panic_while_a_frame_is_taken_loses_no_other() {
    let mut two = Two::connected(CONTROL, &settings());
    two.hosts[1].takes = false;
    (0..3).for_each(|n| drop(two.send(0, &[n; 10])));
    two.run();
    let id = two.hosts[1].ups()[0].connection;
    let (links, now) = (&mut two.hosts[1].links, two.now);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = links.receive(id, 9, now, |_, _| panic!("planted"));
    }));
    assert!(panicked.is_err());
    two.hosts[1].takes = true;
    two.run();
    let firsts: Vec<u8> = two.hosts[1].frames.iter().map(|frame| frame[0]).collect();
    assert_eq!(firsts, [1, 2]);
}

#[test]
fn what_was_parked_for_a_dial_goes_on_when_that_fails() {
    let mut two = Two::new(CONTROL, &settings());
    two.want(0);
    let dial = match two.hosts[0].links.next_output() {
        Some(Output::Dial { connection, .. }) => connection,
        other => panic!("{other:?}"),
    };
    two.want(1);
    two.pass(ms(1_000));
    let counters = two.hosts[0].links.counters();
    assert_eq!((counters.parked, counters.ups), (1, 0));
    let now = two.now;
    two.hosts[0].links.dial_failed(dial, "no way", now);
    two.run();
    for host in &two.hosts {
        assert_eq!((host.ups().len(), host.links.len()), (1, 1));
    }
    assert!(two.hosts[1].ups()[0].dialled);
}

/// Who had no room to read waits for nobody, but only as long as there is none: then silence counts, whether the driver tries
/// to read at once or not.
#[test]
fn a_peer_that_died_while_there_was_no_room_is_found_out_when_there_is() {
    let mut two = Two::new(CONTROL, &settings());
    two.want(1);
    two.run();
    two.hosts[0].takes = false;
    while two.send(1, &[7; 500]).is_ok() {
        two.run();
    }
    let remote = two.remote(0);
    let connection = two.hosts[0].links.connection(remote).unwrap();
    assert!(two.hosts[0].links.spare(connection).is_empty());
    two.forget_dialler(0);
    two.hosts[1].is_frozen = true;
    two.pass(ms(20_000));
    assert_eq!(
        two.hosts[0].downs().len(),
        0,
        "it could have said something"
    );
    let now = two.now;
    let links = &mut two.hosts[0].links;
    while links.receive(connection, 100, now, |_, _| Took::Done).more {}
    two.pass(ms(7_100));
    assert!(matches!(why(&two.hosts[0]), Why::Silent(_)));
}

/// A core that always has a little too much to do finds out all the same who is not there any more.
#[test]
fn turns_that_are_all_a_little_late_hide_nobody() {
    let mut two = Two::connected(CONTROL, &settings());
    two.forget_dialler(0);
    two.hosts[0].is_frozen = true;
    for _ in 0..800 {
        two.hosts[1].links.stalled(ms(10));
        two.pass(ms(10));
    }
    assert!(matches!(why(&two.hosts[1]), Why::Silent(_)));
}
