//! What data cores need of connections: frames that lie elsewhere, a limit to what comes, and word of attempts that fail.

use super::kit::{Two, ms};
use super::output::{Output, Took};
use super::refusal::NotSent;
use super::settings::LinkSettings;
use crate::base::ids::{CoreId, Incarnation};
use crate::wire::address::{Sender, Target};
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::limits::FrameLimits;
use crate::wire::preamble::Purpose;
use crate::wire::writer::FrameWriter;

fn settings() -> LinkSettings {
    LinkSettings::default()
}

/// What a core has written elsewhere goes as it is, within credit and mark, and it is known what has left.
#[test]
fn frames_that_are_appended_count_as_any_other() {
    let few = LinkSettings {
        credit_frames: 10,
        ..settings()
    };
    let mut two = Two::connected(Purpose::Data, &few);
    two.hosts[1].gives_credit = false;
    let mut writer = FrameWriter::new(FrameLimits::default());
    let target = Target::Actor {
        incarnation: Incarnation(1),
        core: CoreId(1),
        cell: 5,
    };
    let mut header = Header::new(Kind::Tell, target, Sender::default());
    header.tag.fingerprint = 8;
    header.tag.version = 1;
    for n in 0..30 {
        writer.write_bytes(&header, &[], &[n; 100]).unwrap();
    }
    let (remote, frames) = (two.remote(0), writer.pending().to_vec());
    let length = frames.len() / 30;
    // The mark is reached behind the third.
    let links = &mut two.hosts[0].links;
    let appended = links.append(remote, &frames, 2 * length + 1).unwrap();
    assert_eq!((appended.frames, appended.bytes), (3, 3 * length));
    let connection = links.connection(remote).unwrap();
    assert_eq!(links.handed(connection), 0);
    two.run();
    assert_eq!(two.hosts[0].links.handed(connection), 3);
    let links = &mut two.hosts[0].links;
    let appended = links.append(remote, &frames[3 * length..], usize::MAX);
    assert_eq!(appended.unwrap().frames, 7, "as much as there is leave for");
    let refused = two.send(0, &[1]).unwrap_err();
    assert!(matches!(refused, NotSent::NoCredit { .. }), "{refused}");
    two.run();
    let got: Vec<u8> = two.hosts[1].frames.iter().map(|it| it[0]).collect();
    assert_eq!(got, (0..10).collect::<Vec<u8>>());
    two.answers = false;
    two.pipes.iter_mut().for_each(|pipe| pipe.is_cut = true);
    two.pass(ms(10_000));
    let down = two.hosts[0].downs()[0].clone();
    assert_eq!((down.accepted, down.handed), (10, 10));
    let refused = two.hosts[0].links.append(remote, &frames, usize::MAX);
    assert!(matches!(refused, Err(NotSent::NotConnected { .. })));
}

#[test]
fn a_core_that_has_enough_is_given_no_more() {
    let mut two = Two::connected(Purpose::Data, &settings());
    two.hosts[1].takes = false;
    (0..5).for_each(|n| drop(two.send(0, &[n; 10])));
    two.run();
    let (id, now) = (two.hosts[1].ups()[0].connection, two.now);
    let mut got = Vec::new();
    let received = two.hosts[1].links.receive(id, 100, now, |_, arrived| {
        got.push(arrived.frame.payload().bytes()[0]);
        match got.len() {
            2 => Took::Last,
            _ => Took::Done,
        }
    });
    assert_eq!((received.frames, received.more), (2, true));
    two.hosts[1].takes = true;
    two.run();
    assert_eq!((got, two.hosts[1].frames.len()), (vec![0, 1], 3));
}

/// Whoever waits for a connection hears when an attempt has failed, but not when another way is about to come up.
#[test]
fn a_dial_that_fails_is_told() {
    let unreached = |two: &Two| {
        let seen = two.hosts[0].seen.iter();
        seen.filter(|output| matches!(output, Output::Unreached { .. }))
            .count()
    };
    let mut two = Two::new(Purpose::Data, &settings());
    two.answers = false;
    two.want(0);
    two.pass(ms(1_000));
    let dials = two.hosts[0].links.counters().ended_by("not reached");
    assert!(dials > 2);
    assert_eq!(unreached(&two) as u64, dials);
    two.answers = true;
    two.pass(ms(6_000));
    assert_eq!(two.hosts[0].ups().len(), 1);
    let before = unreached(&two);
    let (remote, now) = (two.remote(0), two.now);
    two.hosts[0].links.unwant(remote, now);
    two.pass(ms(6_000));
    assert_eq!(unreached(&two), before, "nobody wants it any more");
}
