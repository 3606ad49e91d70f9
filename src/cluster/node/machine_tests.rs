//! One node by itself: the order in which things come out of it, and what it makes of whatever others say.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::machine::ClusterNode;
use super::output::{Found, LeaseState, Output, StartError, StopCause, WantError, Write};
use super::settings::{NodeSettings, Seed};
use crate::base::ids::{EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::rng::seeded;
use crate::base::time::Time;
use crate::cluster::admission::{Admission, StartId};
use crate::cluster::join_request::{JoinRequest, JoinSays, SharedSettings};
use crate::cluster::message::{ControlMessage, MessageError};
use crate::consensus::entry::{LogEntry, Recovered};
use crate::consensus::founding::{Ballot, Founding, FoundingMessage, Says};
use crate::consensus::message::{Body, LeaseGrant, LeaseRequest, Message, RaftKind, RaftMessage};
use crate::consensus::peer::{ClusterId, DiskId, NodeLife, PeerId};
use crate::membership::accusation::{Accusation, Heartbeat, Why};
use crate::membership::change::Join;
use crate::membership::view::MemberState;
use crate::sharding::ownership::TypeSpec;
use crate::sharding::strategy::PlacementStrategy;

const ME: NodeId = NodeId(1);

fn settings() -> NodeSettings {
    let mut settings = NodeSettings::new(ME, address(1)).fast();
    settings.types = vec![TypeSpec {
        name: "cart".into(),
        shards: 4,
        strategy: PlacementStrategy::LeastLoaded,
        role: None,
        keep_running: false,
    }];
    settings
}

fn address(node: u32) -> core::net::SocketAddr {
    let [_, a, b, c] = node.to_be_bytes();
    core::net::SocketAddr::from(([10, a, b, c], 7_000))
}

/// A node whose writes are durable at its next turn, a millisecond later.
struct Alone {
    node: ClusterNode,
    now: Time,
    writes: VecDeque<Write>,
    outputs: Vec<Output>,
}

impl Alone {
    fn start(settings: NodeSettings) -> Alone {
        let found = Found::default();
        let node = ClusterNode::start(settings, found, seeded(1, 1), Time::ZERO).unwrap();
        let mut alone = Alone {
            node,
            now: Time::ZERO,
            writes: VecDeque::new(),
            outputs: Vec::new(),
        };
        alone.take();
        alone
    }

    fn take(&mut self) {
        while let Some(output) = self.node.poll_output() {
            if let Output::Write(write) = &output {
                self.writes.push_back(write.clone());
            }
            self.outputs.push(output);
        }
    }

    fn turn(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        for write in std::mem::take(&mut self.writes) {
            match write {
                Write::Record { ticket, .. } => self.node.record_written(ticket, self.now),
                Write::Log(write) => {
                    if let Some(ticket) = write.ticket {
                        self.node.log_written(ticket, self.now);
                    }
                }
            }
            self.take();
        }
        if self.node.next_deadline() <= self.now {
            self.node.tick(self.now);
            assert!(
                self.node.next_deadline() > self.now,
                "it would tick all the time"
            );
            self.take();
        }
    }

    fn run(&mut self, turns: usize) {
        (0..turns).for_each(|_| self.turn());
    }

    /// One that is up.
    fn up() -> Alone {
        let mut alone = Alone::start(settings());
        alone.run(2_000);
        assert!(alone.node.is_ready(alone.now));
        alone
    }

    fn state(&self) -> Option<MemberState> {
        self.node.self_node().map(|me| me.state)
    }
}

#[test]
fn nothing_comes_out_before_what_it_depends_on_is_durable() {
    let mut alone = Alone::start(settings());
    // The directory's number, and nothing else.
    let [Output::Write(Write::Record { record, .. })] = &alone.outputs[..] else {
        panic!("{:?}", alone.outputs);
    };
    assert!(record.disk.is_some() && record.founding.is_none());
    alone.run(2_000);
    let at = |is_it: fn(&Output) -> bool| alone.outputs.iter().position(is_it).unwrap();
    let founding = at(
        |output| matches!(output, Output::Write(Write::Record { record, .. }) if record.founding.is_some()),
    );
    let log = at(|output| matches!(output, Output::Write(Write::Log(_))));
    let life = at(
        |output| matches!(output, Output::Write(Write::Record { record, .. }) if record.incarnation.is_some()),
    );
    let joined = at(|output| matches!(output, Output::Joined { .. }));
    let lease = at(|output| matches!(output, Output::Lease(LeaseState::Valid { .. })));
    let up = at(|output| matches!(output, Output::Member(_)));
    let order = [founding, log, life, joined, lease.min(up)];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(alone.state(), Some(MemberState::Up));
    assert_eq!(alone.node.leader(), Some(ME));
}

#[test]
fn a_node_that_is_alone_owns_what_it_wants_and_leaves_when_it_owns_nothing() {
    let mut alone = Alone::up();
    let shard = |shard| ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(shard),
    };
    let unknown = alone.node.want_shard(shard(4), alone.now);
    assert_eq!(unknown, Err(WantError::NoSuchShard(shard(4))));
    assert_eq!(alone.node.want_shard(shard(1), alone.now), Ok(()));
    alone.take();
    alone.run(100);
    assert_eq!(alone.node.shard(shard(1)).unwrap().owner, Some(ME));

    let mut idle = Alone::up();
    idle.node.leave(idle.now);
    idle.take();
    idle.run(1_000);
    // Not before its cores have nothing under way.
    assert_eq!(idle.state(), Some(MemberState::Leaving));
    let incarnation = idle.node.incarnation().unwrap();
    let me = NodeLife {
        node: ME,
        incarnation,
    };
    let parting = |output: &&Output| **output == Output::Parting(me);
    assert_eq!(idle.outputs.iter().filter(parting).count(), 1);
    idle.node.parted(me, idle.now);
    idle.take();
    idle.run(1_000);
    let left = Output::Stopped(StopCause::Left);
    assert_eq!(idle.outputs.last(), Some(&left));
    // Nobody else could have its shard: it stays until its driver ends it.
    alone.node.leave(alone.now);
    alone.take();
    alone.run(1_000);
    assert_eq!(alone.state(), Some(MemberState::Leaving));
}

#[test]
fn a_write_that_fails_is_the_end() {
    let mut alone = Alone::up();
    alone.node.write_failed();
    alone.take();
    let [
        ..,
        Output::Lease(LeaseState::Lapsed),
        Output::Stopped(StopCause::WriteFailed),
    ] = &alone.outputs[..]
    else {
        panic!("{:?}", alone.outputs.last());
    };
    assert_eq!(alone.node.next_deadline(), Time::MAX);
    let outputs = alone.outputs.len();
    alone.run(100);
    assert_eq!(alone.outputs.len(), outputs);
}

/// Only who is known here can know.
#[test]
fn a_stranger_cannot_end_a_life() {
    let mut alone = Alone::up();
    let node = ME;
    let incarnation = alone.node.incarnation().unwrap();
    let ended = ControlMessage::LifeEnded(NodeLife { node, incarnation });
    alone.node.connected(NodeId(9), alone.now);
    alone.outputs.clear();
    alone
        .node
        .handle_message(NodeId(9), ended.clone(), alone.now);
    alone.take();
    assert!(!alone.node.has_stopped());
    assert!(matches!(
        alone.outputs[..],
        [Output::Refused {
            node: Some(NodeId(9)),
            ..
        }]
    ));
    // A member can.
    let request = ControlMessage::JoinRequest(Box::new(request(9, 9, 5, 4, 0)));
    alone.node.handle_message(NodeId(9), request, alone.now);
    alone.take();
    alone.run(50);
    assert!(alone.node.members().member(NodeId(9)).is_some());
    alone.node.handle_message(NodeId(9), ended, alone.now);
    assert!(alone.node.has_stopped());
}

/// However many names somebody takes, the log of the node gets few lines.
#[test]
fn refusals_under_ever_new_names_are_few_lines() {
    let mut alone = Alone::up();
    alone.outputs.clear();
    for round in 0..20_u32 {
        for node in 2..1_002 {
            let error = MessageError::TooLong(9);
            alone.node.handle_garbage(NodeId(node), error, alone.now);
        }
        alone.take();
        alone.now = alone.now + Duration::from_millis(u64::from(round));
    }
    let is_refused = |output: &&Output| matches!(output, Output::Refused { .. });
    let told = alone.outputs.iter().filter(is_refused).count();
    assert!((256..=260).contains(&told), "{told}");
    assert_eq!(alone.node.counters().refused, 20_000);
    // When that is over, whoever comes is told of again.
    alone.now = alone.now + Duration::from_secs(11);
    alone.outputs.clear();
    let error = MessageError::TooLong(9);
    alone.node.handle_garbage(NodeId(9_999), error, alone.now);
    alone.take();
    assert_eq!(alone.outputs.iter().filter(is_refused).count(), 1);
}

#[test]
fn a_directory_that_is_torn_is_refused() {
    let entries = vec![LogEntry {
        index: 1,
        term: 1,
        body: crate::consensus::entry::EntryBody::Empty,
    }];
    let mut found = Found {
        log: Recovered {
            entries,
            ..Recovered::default()
        },
        ..Found::default()
    };
    let start = |found: &Found| {
        let started = ClusterNode::start(settings(), found.clone(), seeded(1, 1), Time::ZERO);
        started.err()
    };
    assert_eq!(start(&found), Some(StartError::Torn("disk")));
    found.record.disk = DiskId::from_number(1);
    assert_eq!(start(&found), Some(StartError::Torn("cluster")));
    let mut many = settings();
    many.seeds = (1..=65)
        .map(|node| Seed {
            node: NodeId(node),
            address: Some(address(node)),
        })
        .collect();
    let started = ClusterNode::start(many, Found::default(), seeded(1, 1), Time::ZERO);
    assert!(matches!(started.err(), Some(StartError::Founders(_))));
}

fn request(node: u32, address_of: u32, start: u64, shards: u32, lease: u64) -> JoinRequest {
    let fine = settings();
    let mut types = fine.types;
    types[0].shards = shards;
    let mut shared = SharedSettings::from(&fine.consensus);
    shared.lease += Duration::from_nanos(lease);
    JoinRequest {
        admission: Admission {
            join: Join {
                node: NodeId(node),
                address: address(address_of),
                roles: Vec::new(),
                data_cores: 1,
            },
            disk: DiskId::from_number(7).unwrap(),
            start: StartId(start),
        },
        cluster: None,
        settings: shared,
        types,
    }
}

/// Many that ask at once are let in one after the other, and those who make room for others are told to ask again.
#[test]
fn a_leader_takes_so_many_applicants_and_no_more() {
    let mut alone = Alone::up();
    alone.outputs.clear();
    for node in 2..400 {
        alone.node.connected(NodeId(node), alone.now);
        let request = Box::new(request(node, node, 5, 4, 0));
        let request = ControlMessage::JoinRequest(request);
        alone.node.handle_message(NodeId(node), request, alone.now);
        alone.take();
    }
    let busy = |outputs: &[Output]| {
        let busy = outputs.iter().filter_map(|output| match output {
            Output::Send {
                to,
                message: ControlMessage::JoinAnswer(answer),
            } if answer.says == JoinSays::Busy => Some(to.0),
            _ => None,
        });
        busy.collect::<Vec<u32>>()
    };
    assert_eq!(
        busy(&alone.outputs),
        (2..2 + 398 - 256).collect::<Vec<u32>>(),
        "the oldest made room"
    );
    alone.run(50);
    let is_in = |node| alone.node.members().member(NodeId(node)).is_some();
    assert!((144..400).all(is_in), "all others came in");
}

/// Strangers do not keep a node out that is known.
#[test]
fn a_member_that_starts_again_finds_room_among_applicants() {
    let mut alone = Alone::up();
    let ask = |alone: &mut Alone, node: u32, start: u64, address: u32| {
        alone.node.connected(NodeId(node), alone.now);
        let request = ControlMessage::JoinRequest(Box::new(request(node, address, start, 4, 0)));
        alone.node.handle_message(NodeId(node), request, alone.now);
        alone.take();
    };
    ask(&mut alone, 2, 5, 2);
    alone.run(50);
    assert!(alone.node.members().member(NodeId(2)).is_some());
    // It starts again, and its previous life has to end first.
    ask(&mut alone, 2, 6, 2);
    alone.outputs.clear();
    for node in 1_000..1_600 {
        ask(&mut alone, node, 5, node);
    }
    let is_told = |output: &Output| {
        matches!(output, Output::Send { to: NodeId(2), message: ControlMessage::JoinAnswer(answer) }
            if answer.says == JoinSays::Busy)
    };
    assert!(!alone.outputs.iter().any(is_told), "it keeps its place");
    // And one that comes later finds one.
    ask(&mut alone, 2, 7, 2);
    assert!(!alone.outputs.iter().any(is_told));
}

/// Applicants may be many, and have many types: whoever says something else does not have all of them looked at.
#[test]
fn applicants_cost_nothing_while_nothing_changes_for_them() {
    let mut alone = Alone::up();
    for node in 2..202 {
        alone.node.connected(NodeId(node), alone.now);
        let request = Box::new(request(node, node, 5, 4, 0));
        let request = ControlMessage::JoinRequest(request);
        alone.node.handle_message(NodeId(node), request, alone.now);
        alone.take();
    }
    let before = alone.node.counters().looked_at_applicants;
    assert!((200..=400).contains(&before), "{before}");
    for _ in 0..100 {
        let want = ControlMessage::Want {
            by: Incarnation(1),
            shards: Vec::new(),
        };
        alone.node.handle_message(NodeId(2), want, alone.now);
        alone.take();
    }
    assert_eq!(alone.node.counters().looked_at_applicants, before);
    alone.run(50);
    assert_eq!(alone.node.members().members().count(), 201);
}

/// There may be many shards, and whoever wants one says so again and again.
#[test]
fn a_shard_that_is_wanted_already_has_not_all_of_them_looked_over() {
    let mut alone = Alone::up();
    let shard = |shard| ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(shard),
    };
    let before = alone.node.counters().looked_over_shards;
    for n in 0..100 {
        // What a member says comes to this; here there is one member, so that the log goes on and they get an owner.
        alone.node.wanted_elsewhere(&[shard(n % 2)]);
        alone.node.settle(alone.now);
        alone.take();
    }
    let looks = alone.node.counters().looked_over_shards - before;
    assert_eq!(looks, 2, "once for each of them");
    alone.run(100);
    let owners: Vec<Option<NodeId>> = (0..4)
        .map(|n| alone.node.shard(shard(n)).unwrap().owner)
        .collect();
    assert_eq!(owners, [Some(ME), Some(ME), None, None]);
    // One that has an owner is looked at no more, however often it is wanted.
    let before = alone.node.counters().looked_over_shards;
    for n in 0..100 {
        alone.node.wanted_elsewhere(&[shard(n % 2)]);
        alone.node.settle(alone.now);
        alone.take();
    }
    assert_eq!(alone.node.counters().looked_over_shards, before);
}

/// Only members are heard.
#[test]
fn what_a_stranger_wants_is_nothing() {
    let mut alone = Alone::up();
    alone.node.connected(NodeId(2), alone.now);
    let shard = ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(1),
    };
    let want = ControlMessage::Want {
        by: Incarnation(1),
        shards: vec![shard],
    };
    alone.node.handle_message(NodeId(2), want, alone.now);
    alone.take();
    alone.run(100);
    assert_eq!(alone.node.shard(shard).unwrap().owner, None);
}

fn founding() -> impl Strategy<Value = Founding> {
    (any::<u128>(), prop::collection::vec(1_u32..5, 1..3)).prop_map(|(cluster, nodes)| Founding {
        cluster,
        voters: nodes
            .into_iter()
            .map(|node| u64::from(node) << 32 | 7)
            .collect(),
    })
}

fn founding_message() -> impl Strategy<Value = Says> {
    let round = || prop_oneof![0_u64..20, any::<u64>()];
    let ballot = move || (round(), any::<u64>()).prop_map(|(round, peer)| Ballot { round, peer });
    prop_oneof![
        Just(Says::Hello),
        Just(Says::Blank),
        founding().prop_map(Says::Member),
        ballot().prop_map(Says::Prepare),
        (ballot(), founding()).prop_map(|(ballot, founding)| Says::Accept(ballot, founding)),
        ballot().prop_map(Says::Accepted),
        ballot().prop_map(Says::Busy),
    ]
}

fn raft() -> impl Strategy<Value = Body> {
    let kind = prop::sample::select(vec![
        RaftKind::Append,
        RaftKind::AppendResponse,
        RaftKind::Vote,
        RaftKind::VoteResponse,
        RaftKind::PreVote,
        RaftKind::PreVoteResponse,
        RaftKind::Heartbeat,
        RaftKind::HeartbeatResponse,
        RaftKind::TimeoutNow,
    ]);
    let number = || prop_oneof![0_u64..20, 0_u64..1 << 59];
    (kind, number(), number(), number(), number(), any::<bool>()).prop_map(
        |(kind, term, log_term, index, commit, reject)| {
            Body::Raft(RaftMessage {
                kind,
                term,
                log_term,
                index,
                commit,
                commit_term: 0,
                reject,
                reject_hint: 0,
                transfer: false,
                round: 0,
                entries: Vec::new(),
            })
        },
    )
}

/// What another node might say, for a cluster and peers that the test fills in.
fn message() -> impl Strategy<Value = ControlMessage> {
    let node = || 0_u32..5;
    let life = move || {
        (node(), 0_u32..4).prop_map(|(node, life)| NodeLife {
            node: NodeId(node),
            incarnation: Incarnation(life),
        })
    };
    let lease = || {
        prop_oneof![
            any::<(u32, u64, u64)>().prop_map(|(incarnation, asked_at, length)| {
                Body::LeaseRequest(LeaseRequest {
                    incarnation,
                    asked_at,
                    length,
                })
            }),
            any::<(u32, u64)>().prop_map(|(incarnation, asked_at)| Body::LeaseGrant(LeaseGrant {
                incarnation,
                term: 1,
                asked_at,
                length: 1,
            })),
        ]
    };
    let body = prop_oneof![raft(), lease()];
    prop_oneof![
        4 => body.prop_map(|body| {
            let peer = PeerId::new(ME, DiskId::from_number(1).unwrap());
            let cluster = ClusterId(0);
            ControlMessage::Consensus(Box::new(Message { cluster, from: peer, to: peer, body }))
        }),
        1 => (life(), any::<u64>(), life()).prop_map(|(from, serial, against)| {
            let accusation = Accusation {
                node: against.node,
                incarnation: against.incarnation,
                why: Why::Silent,
            };
            ControlMessage::Heartbeat(Heartbeat {
                from: from.node,
                incarnation: from.incarnation,
                serial,
                accusations: vec![accusation; 2],
            })
        }),
        2 => (node(), founding_message()).prop_map(|(node, says)| {
            let from = u64::from(node) << 32 | 7;
            ControlMessage::Founding(Box::new(FoundingMessage { from, named: vec![1, node], says }))
        }),
        2 => (node(), node(), 0_u64..3, 3_u32..5, 0_u64..2).prop_map(|(node, at, start, shards, lease)| {
            ControlMessage::JoinRequest(Box::new(request(node, at, start, shards, lease)))
        }),
        1 => life().prop_map(ControlMessage::LifeEnded),
        1 => life().prop_map(|life| ControlMessage::Accuse { by: life.incarnation, life }),
        1 => (0_u16..3, 0_u32..6).prop_map(|(entity_type, shard)| ControlMessage::Want {
            by: Incarnation(1),
            shards: vec![ShardKey { entity_type: EntityTypeId(entity_type), shard: ShardId(shard) }],
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever others say: no panic, no spinning, and the node's own log goes on or says why not.
    #[test]
    fn others_may_say_what_they_like(said in prop::collection::vec((1_u32..5, message()), 1..40)) {
        let mut alone = Alone::up();
        let (me, cluster) = (alone.node.peer_id().unwrap(), alone.node.cluster().unwrap());
        for (from, mut message) in said {
            if let ControlMessage::Consensus(message) = &mut message {
                let peer = PeerId::new(NodeId(from), DiskId::from_number(7).unwrap());
                (message.cluster, message.from, message.to) = (cluster, peer, me);
            }
            alone.node.connected(NodeId(from), alone.now);
            // As it comes over a connection.
            let (kind, bytes) = message.encode().unwrap();
            match ControlMessage::decode(kind, &bytes) {
                Ok(message) => alone.node.handle_message(NodeId(from), message, alone.now),
                Err(error) => alone.node.handle_garbage(NodeId(from), error, alone.now),
            }
            alone.take();
            alone.run(20);
        }
        // Only what ends a life or a log may end it, and nobody could say that of a node that leads alone.
        let stopped = alone.outputs.iter().find(|output| matches!(output, Output::Stopped(_)));
        prop_assert!(
            stopped.is_none() || matches!(stopped, Some(Output::Stopped(StopCause::LifeEnded { .. }))),
            "{:?}",
            stopped
        );
    }
}
