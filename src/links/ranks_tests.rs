//! Who makes room for whom: strangers for each other and for members, and members for no stranger.

use super::hostile_tests::{frame, knock};
use super::kit::{LIMITS, Two, ms};
use super::porch::{Guest, PorchOutput};
use super::ranks::{Rank, Ranks};
use super::refusal::Turned;
use super::remote::{ConnectionId, Remote};
use super::settings::LinkSettings;
use crate::base::ids::{CoreId, NodeId};
use crate::wire::kind::Kind;
use crate::wire::preamble::{PREAMBLE_BYTES, Purpose};
use core::net::IpAddr;

const CONTROL: Purpose = Purpose::Control;

fn few() -> LinkSettings {
    LinkSettings {
        most_connections: 5,
        most_greetings: 4,
        ..LinkSettings::default()
    }
}

/// Somebody who takes a name and greets well; the pipe.
fn comes_up(two: &mut Two, node: u32) -> usize {
    let pipe = two.stranger(0, &knock(node, CONTROL));
    two.run();
    two.pipes[pipe].bytes[1].extend(frame(Kind::Ping, &[]));
    two.run();
    two.pipes[pipe].bytes[0].clear();
    pipe
}

/// Somebody who has said its preamble.
fn guest(two: &mut Two, node: u32, purpose: Purpose) -> Guest {
    let porch = &mut two.hosts[0].porch;
    let id = porch.arrived(IpAddr::from([6, 6, 6, 6]), two.now);
    porch.receive(id, &knock(node, purpose)[..PREAMBLE_BYTES], two.now);
    loop {
        match porch.next_output() {
            Some(PorchOutput::HandOver { guest, .. }) => return *guest,
            Some(_) => {}
            None => panic!("it was not taken"),
        }
    }
}

#[test]
fn the_oldest_stranger_makes_room_for_the_next() {
    let settings = LinkSettings {
        most_strangers: 3,
        ..few()
    };
    let mut two = Two::new(CONTROL, &settings);
    let pipes: Vec<usize> = (11..20).map(|node| comes_up(&mut two, node)).collect();
    let is_open = |pipe: &&usize| !two.is_closed(**pipe);
    let open: Vec<usize> = pipes.iter().filter(is_open).copied().collect();
    assert_eq!(open, pipes[6..]);
    let counters = two.hosts[0].links.counters();
    assert_eq!((counters.pushed_out, counters.turned_away), (6, 0));
}

#[test]
fn members_find_room_whatever_strangers_do() {
    let mut two = Two::new(CONTROL, &few());
    let pipes: Vec<usize> = (11..20).map(|node| comes_up(&mut two, node)).collect();
    assert_eq!(two.hosts[0].links.len(), 5);
    // One that is dialled.
    two.want(0);
    two.run();
    assert_eq!(two.hosts[1].ups().len(), 1);
    assert_eq!(two.hosts[0].links.len(), 5);
    // And while strangers come, it stays.
    for node in 21..40 {
        comes_up(&mut two, node);
    }
    assert!(two.hosts[0].links.connection(two.remote(0)).is_some());
    assert_eq!(two.hosts[0].downs().len(), 9 + 19 - 4);
    assert!(pipes.iter().all(|pipe| two.is_closed(*pipe)));

    // One that comes in, and is wanted while it has no address that answers.
    let mut two = Two::new(CONTROL, &few());
    two.answers = false;
    two.want(0);
    two.run();
    for node in 11..20 {
        comes_up(&mut two, node);
    }
    two.answers = true;
    two.want(1);
    two.run();
    assert_eq!(two.hosts[1].ups().len(), 1);
    for node in 21..40 {
        comes_up(&mut two, node);
    }
    assert!(two.hosts[0].links.connection(two.remote(0)).is_some());
}

#[test]
fn where_nobody_can_make_room_nobody_comes_in() {
    let mut two = Two::new(CONTROL, &few());
    let now = two.now;
    for node in 41..46 {
        let links = &mut two.hosts[0].links;
        links.want(Remote::control(NodeId(node)), "there:1", now);
    }
    assert_eq!(two.hosts[0].links.len(), 5);
    let stranger = guest(&mut two, 50, CONTROL);
    let turned = two.hosts[0].links.accept(stranger, now).unwrap_err();
    assert_eq!(turned, Turned::Full { most: 5 });
    // Nor is anybody dialled, and both are told.
    let links = &mut two.hosts[0].links;
    links.want(Remote::control(NodeId(46)), "there:1", now);
    assert_eq!((links.len(), links.counters().dials), (5, 5));
    two.answers = false;
    two.run();
    let notes = two.hosts[0].notes();
    for said in ["`most_connections`", "cannot be dialled"] {
        let is_told = notes.iter().any(|note| note.contains(said));
        assert!(is_told, "{said}: {notes:?}");
    }
}

/// A node says which of its cores has dialled; with a name of a member one may say that of many.
#[test]
fn further_cores_of_a_member_are_above_strangers_and_below_what_is_wanted() {
    let mut ranks = Ranks::default();
    let wanted = Remote::data(NodeId(2), CoreId(1));
    assert_eq!(ranks.of(wanted), Rank::Stranger);
    let mut two = Two::new(Purpose::Data, &few());
    let now = two.now;
    let links = &mut two.hosts[0].links;
    links.want(wanted, "there:1", now);
    std::mem::swap(&mut ranks, &mut links.ranks);
    assert_eq!(ranks.of(wanted), Rank::Wanted);
    let other = Remote::data(NodeId(2), CoreId(7));
    assert_eq!(ranks.of(other), Rank::OfMember);
    for node in [1, 3] {
        let stranger = Remote::data(NodeId(node), CoreId(1));
        assert_eq!(ranks.of(stranger), Rank::Stranger);
    }
    std::mem::swap(&mut ranks, &mut links.ranks);
    links.unwant(wanted, now);
    assert_eq!(links.ranks.of(other), Rank::Stranger);
}

#[test]
fn whoever_becomes_a_member_is_no_stranger_any_more() {
    let settings = LinkSettings {
        most_strangers: 2,
        ..few()
    };
    let mut two = Two::new(CONTROL, &settings);
    let first = comes_up(&mut two, 11);
    let now = two.now;
    let remote = Remote::control(NodeId(11));
    two.hosts[0].links.want(remote, "there:1", now);
    for node in 12..20 {
        comes_up(&mut two, node);
    }
    assert!(!two.is_closed(first));
    // And when it has left, its connection is closed in good order.
    two.hosts[0].links.unwant(remote, now);
    two.pass(ms(2_000));
    assert!(two.is_closed(first));
}

/// Half a large frame costs memory: for all strangers together that is bounded, and who has most of it goes.
#[test]
fn unfinished_frames_of_strangers_take_bounded_memory() {
    let settings = LinkSettings {
        most_stranger_bytes: 128 << 10,
        most_connections: 100,
        most_greetings: 4,
        ..LinkSettings::default()
    };
    let mut two = Two::new(CONTROL, &settings);
    let frame = frame(Kind::Report, &[7; 60_000]);
    let small = comes_up(&mut two, 10);
    for node in 11..60 {
        let pipe = comes_up(&mut two, node);
        for piece in frame[..50_000].chunks(1_000) {
            two.pipes[pipe].bytes[1].extend(piece);
            two.run();
        }
        let links = &two.hosts[0].links;
        let most = (128 << 10) + links.len() * LIMITS.read_buffer_bytes + LIMITS.frame_bytes;
        assert!(links.held_bytes() < most, "{}", links.held_bytes());
    }
    assert!(two.hosts[0].links.counters().pushed_out > 40);
    assert!(!two.is_closed(small), "who holds little stays");
    assert_eq!(
        two.hosts[0].links.connection(two.remote(0)),
        None::<ConnectionId>
    );
}
