//! SWIM between a few nodes, without a network: what goes out is handed in.

use core::net::SocketAddr;
use std::time::Duration;

use foca::{Header, Member, Message, State};

use super::change::{Change, Join};
use super::datagram::{DatagramError, Packet, seal};
use super::identity::SwimId;
use super::settings::MembershipSettings;
use super::swim::{Swim, SwimOutput};
use super::view::View;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::rng::seeded;
use crate::base::time::Time;

const CLUSTER: u64 = 7;

fn address(node: u32) -> SocketAddr {
    format!("10.0.0.{node}:7000").parse().unwrap()
}

fn id(node: u32, incarnation: u32) -> SwimId {
    SwimId::new(NodeId(node), Incarnation(incarnation), address(node))
}

fn swim(node: u32) -> Swim {
    let settings = MembershipSettings::default();
    let seeds = vec![address(1)];
    let rng = seeded(1, u64::from(node));
    Swim::new(id(node, node), CLUSTER, &settings, seeds, rng, Time::ZERO).unwrap()
}

/// The view of a log in which the nodes have joined in the order of their ids.
fn view(nodes: u32) -> View {
    let mut view = View::new(NodeId(1));
    for node in 1..=nodes {
        let join = Join {
            node: NodeId(node),
            address: address(node),
            roles: Vec::new(),
            data_cores: 1,
        };
        view.apply(&Change::Join(join), &mut Vec::new()).unwrap();
    }
    view
}

fn datagram(src: SwimId, dst: SwimId, message: Message<SwimId>) -> Vec<u8> {
    said(src, dst, message, Vec::new())
}

fn said(
    src: SwimId,
    dst: SwimId,
    message: Message<SwimId>,
    updates: Vec<Member<SwimId>>,
) -> Vec<u8> {
    let header = Header {
        src,
        src_incarnation: 0,
        dst,
        message,
    };
    seal(CLUSTER, &Packet { header, updates }.to_body())
}

/// What was sent, and what was found.
fn outputs(swim: &mut Swim) -> (Vec<(SocketAddr, Packet)>, Vec<SwimOutput>) {
    let (mut sent, mut found) = (Vec::new(), Vec::new());
    while let Some(output) = swim.poll_output() {
        match output {
            SwimOutput::Send { to, datagram } => {
                sent.push((to, Packet::open(&datagram, CLUSTER).unwrap()));
            }
            other => found.push(other),
        }
    }
    (sent, found)
}

fn up(node: u32, incarnation: u32) -> SwimOutput {
    SwimOutput::Up {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
    }
}

fn down(node: u32, incarnation: u32) -> SwimOutput {
    SwimOutput::Down {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
    }
}

#[test]
fn who_is_alone_asks_until_it_is_answered() {
    let mut one = swim(2);
    let mut now = Time::ZERO;
    for _ in 0..5 {
        assert_eq!(one.next_deadline(), now);
        one.tick(now);
        let (sent, _) = outputs(&mut one);
        assert_eq!(sent.len(), 1);
        assert!(sent.iter().all(|(to, packet)| {
            *to == address(1) && packet.header.message == Message::Announce
        }));
        now = now + Duration::from_millis(500);
    }
    // The seed answers with what it knows, and both know each other.
    let mut seed = swim(1);
    one.tick(now);
    let (sent, _) = outputs(&mut one);
    let asked = seal(CLUSTER, &sent[0].1.to_body());
    seed.handle_datagram(&asked, now).unwrap();
    let (answers, found) = outputs(&mut seed);
    assert_eq!(found, [up(2, 2)]);
    let answer = seal(CLUSTER, &answers[0].1.to_body());
    assert_eq!(answers[0].0, address(2));
    one.handle_datagram(&answer, now).unwrap();
    assert_eq!(outputs(&mut one).1, [up(1, 1)]);
    assert!(one.is_up(NodeId(1), Incarnation(1)));
    assert_eq!(one.others(), 1);
}

#[test]
fn a_life_that_has_ended_is_not_heard_and_not_believed_in() {
    let mut one = swim(1);
    let mut log = view(3);
    one.adopt(&log, Time::ZERO);
    let ping = |src| datagram(src, id(1, 1), Message::Ping(1));
    one.handle_datagram(&ping(id(2, 2)), Time::ZERO).unwrap();
    assert_eq!(outputs(&mut one).1, [up(2, 2)]);
    let (node, incarnation) = (NodeId(2), Incarnation(2));
    let change = Change::Down { node, incarnation };
    log.apply(&change, &mut Vec::new()).unwrap();
    one.adopt(&log, Time::ZERO);
    assert_eq!(outputs(&mut one).1, [down(2, 2)]);
    let refused = one
        .handle_datagram(&ping(id(2, 2)), Time::ZERO)
        .unwrap_err();
    assert_eq!(
        refused,
        DatagramError::DeadIncarnation { node, incarnation }
    );
    // Nor by hearsay; a newer life, of which this node's log does not know yet, is fine.
    let rumours = vec![
        Member::new(id(2, 2), 50, State::Alive),
        Member::new(id(3, 4), 0, State::Alive),
    ];
    let gossip = said(id(4, 5), id(1, 1), Message::Gossip, rumours);
    one.handle_datagram(&gossip, Time::ZERO).unwrap();
    assert_eq!(outputs(&mut one).1, [up(4, 5), up(3, 4)]);
    assert!(!one.is_up(node, incarnation));
    let counters = one.counters();
    assert_eq!((counters.refused_dead, counters.stale_updates), (1, 1));
    // An older view changes nothing.
    one.adopt(&view(2), Time::ZERO);
    assert!(one.handle_datagram(&ping(id(2, 2)), Time::ZERO).is_err());
}

#[test]
fn a_new_life_ends_the_old_one() {
    let mut one = swim(1);
    let ping = |src| datagram(src, id(1, 1), Message::Ping(1));
    one.handle_datagram(&ping(id(2, 2)), Time::ZERO).unwrap();
    one.handle_datagram(&ping(id(2, 9)), Time::ZERO).unwrap();
    assert_eq!(outputs(&mut one).1, [up(2, 2), down(2, 2), up(2, 9)]);
    // The old one is not heard, though no log has said so yet.
    one.handle_datagram(&ping(id(2, 2)), Time::ZERO).unwrap();
    assert_eq!(outputs(&mut one).1, []);
    assert!(one.is_up(NodeId(2), Incarnation(9)));
}

#[test]
fn somebody_elses_claims_about_this_node_are_refused() {
    let mut one = swim(1);
    let twin = SwimId::new(NodeId(1), Incarnation(1), address(99));
    let refused = one.handle_datagram(&datagram(twin, id(1, 1), Message::Ping(1)), Time::ZERO);
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("10.0.0.99:7000") && text.contains("10.0.0.1:7000"),
        "{text}"
    );
    let previous = datagram(id(1, 0), id(1, 1), Message::Ping(1));
    assert!(matches!(
        one.handle_datagram(&previous, Time::ZERO),
        Err(DatagramError::DeadIncarnation { .. })
    ));
    for dst in [id(8, 8), id(1, 9)] {
        let stray = datagram(id(2, 2), dst, Message::Ping(1));
        let node = dst.node();
        assert_eq!(
            one.handle_datagram(&stray, Time::ZERO),
            Err(DatagramError::Misdirected { node })
        );
    }
    // Rumours about others with this node's id make it neither renew itself nor fight them.
    let rumours = vec![
        Member::new(twin, 0, State::Alive),
        Member::new(id(1, 9), 0, State::Alive),
        Member::new(id(1, 9), 0, State::Down),
    ];
    let gossip = said(id(2, 2), id(1, 1), Message::Gossip, rumours);
    one.handle_datagram(&gossip, Time::ZERO).unwrap();
    assert_eq!(one.me(), id(1, 1));
    let (sent, found) = outputs(&mut one);
    assert_eq!((sent, found), (vec![], vec![up(2, 2)]));
    let counters = one.counters();
    assert_eq!(counters.refused_same_id, 1);
    assert_eq!(counters.refused_misdirected, 2);
    assert_eq!(counters.stale_updates, 3);
}

#[test]
fn a_false_death_renews_the_generation_and_nothing_else() {
    let mut one = swim(1);
    let dead = vec![Member::new(id(1, 1), 0, State::Down)];
    let gossip = said(id(2, 2), id(1, 1), Message::Gossip, dead);
    one.handle_datagram(&gossip, Time::ZERO).unwrap();
    assert_eq!(one.me().generation(), 1);
    assert_eq!(one.me().incarnation(), Incarnation(1));
    assert_eq!(one.counters().renewals, 1);
    let suspected = vec![Member::new(one.me(), 0, State::Suspect)];
    let gossip = said(id(2, 2), one.me(), Message::Gossip, suspected);
    for _ in 0..3 {
        one.handle_datagram(&gossip, Time::ZERO).unwrap();
    }
    assert_eq!(one.counters().suspected, 1, "one suspicion, told thrice");
}

#[test]
fn another_cluster_and_garbage_are_counted() {
    let mut one = swim(1);
    let ping = datagram(id(2, 2), id(1, 1), Message::Ping(1));
    let foreign = seal(CLUSTER + 1, &ping[16..]);
    let mut newer = ping.clone();
    newer[2] = 9;
    for bytes in [&foreign[..], &newer, b"junk", &ping[..40]] {
        one.handle_datagram(bytes, Time::ZERO).unwrap_err();
    }
    let counters = one.counters();
    assert_eq!(counters.refused_cluster, 1);
    assert_eq!(counters.refused_version, 1);
    assert_eq!(counters.refused_garbage, 2);
    assert_eq!((counters.received, one.others()), (4, 0));
    assert_eq!(outputs(&mut one), (vec![], vec![]));
}

#[test]
fn a_full_table_takes_nobody_new_and_serves_those_it_has() {
    let settings = MembershipSettings {
        max_members: 3,
        ..MembershipSettings::default()
    };
    let mut one = Swim::new(
        id(1, 1),
        CLUSTER,
        &settings,
        vec![],
        seeded(1, 1),
        Time::ZERO,
    )
    .unwrap();
    let many = (3..9).map(|node| Member::new(id(node, node), 0, State::Alive));
    let gossip = said(id(2, 2), id(1, 1), Message::Gossip, many.collect());
    one.handle_datagram(&gossip, Time::ZERO).unwrap();
    assert_eq!(one.others(), 3);
    assert_eq!(one.counters().updates_without_room, 4);
    let stranger = datagram(id(9, 9), id(1, 1), Message::Ping(1));
    assert_eq!(
        one.handle_datagram(&stranger, Time::ZERO),
        Err(DatagramError::NoRoom)
    );
    let known = datagram(id(3, 3), id(1, 1), Message::Ping(1));
    one.handle_datagram(&known, Time::ZERO).unwrap();
}

#[test]
fn a_late_turn_moves_the_timers_and_gives_others_time() {
    let mut one = swim(1);
    let ping = datagram(id(2, 2), id(1, 1), Message::Ping(1));
    one.tick(Time::ZERO);
    one.handle_datagram(&ping, Time::ZERO).unwrap();
    outputs(&mut one);
    // A probe goes out and its answer waits in the socket for 30 s.
    let mut now = Time::ZERO + Duration::from_millis(500);
    one.tick(now);
    let (sent, _) = outputs(&mut one);
    let probe = sent
        .iter()
        .find_map(|(_, packet)| match packet.header.message {
            Message::Ping(number) => Some(number),
            _ => None,
        });
    let late = Duration::from_secs(30);
    now = now + late;
    one.stalled(late, now);
    let answer = datagram(id(2, 2), id(1, 1), Message::Ack(probe.unwrap()));
    one.handle_datagram(&answer, now).unwrap();
    for _ in 0..10 {
        one.tick(now);
        now = now + Duration::from_millis(100);
    }
    assert_eq!(one.suspects().count(), 0);
    assert_eq!(one.counters().stalls, 1);
    // Nobody answers the next: it is suspected, and has more than twice as long to object as usual, although this node
    // gets better meanwhile.
    let mut since = None;
    while one.is_up(NodeId(2), Incarnation(2)) {
        one.tick(now);
        if one.suspects().count() > 0 {
            since = since.or(Some(now));
        }
        now = now + Duration::from_millis(20);
    }
    let patience = now - since.unwrap();
    assert!(patience > Duration::from_secs(3), "{patience:?}");
    assert_eq!(one.counters().internal, 0);
}

#[test]
fn who_leaves_says_so_and_is_silent() {
    let mut one = swim(1);
    let ping = datagram(id(2, 2), id(1, 1), Message::Ping(1));
    one.handle_datagram(&ping, Time::ZERO).unwrap();
    outputs(&mut one);
    one.leave(Time::ZERO);
    let (sent, _) = outputs(&mut one);
    let gone = Member::new(id(1, 1), 0, State::Down);
    assert!(
        sent.iter()
            .any(|(_, packet)| packet.updates.contains(&gone))
    );
    one.leave(Time::ZERO);
    one.handle_datagram(&ping, Time::ZERO).unwrap();
    let mut now = Time::ZERO;
    for _ in 0..100 {
        now = now + Duration::from_millis(500);
        one.tick(now);
    }
    assert_eq!(outputs(&mut one), (vec![], vec![]));
}

#[test]
fn settings_are_checked_at_the_start() {
    let settings = MembershipSettings {
        indirect_probes: 0,
        ..MembershipSettings::default()
    };
    let refused = Swim::new(
        id(1, 1),
        CLUSTER,
        &settings,
        vec![],
        seeded(1, 1),
        Time::ZERO,
    );
    assert_eq!(refused.err().unwrap().setting, "indirect_probes");
}
