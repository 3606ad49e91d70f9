//! Requests to join: read or refused as any control message, and what is read is answered by a leader, without harm to it.
#![allow(dead_code, reason = "a fuzzer makes samples of its own")]

use super::control;
use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::base::rng::seeded;
use corecast::cluster::admission::{Admission, StartId};
use corecast::cluster::join_request::{JoinRequest, MAX_TYPES_PER_NODE, SharedSettings};
use corecast::cluster::message::ControlMessage;
use corecast::cluster::node::ClusterNode;
use corecast::cluster::node::output::{Found, Output, Write};
use corecast::cluster::node::settings::NodeSettings;
use corecast::consensus::peer::{ClusterId, DiskId};
use corecast::membership::change::Join;
use corecast::sharding::ownership::TypeSpec;
use corecast::sharding::strategy::PlacementStrategy;
use corecast::wire::kind::Kind;
use std::net::SocketAddr;
use std::time::Duration;

/// Reads bytes as a request, and has a leader that is alone answer it.
pub fn check(bytes: &[u8]) {
    control::check(MEMBERSHIP, bytes);
    let Ok(ControlMessage::JoinRequest(request)) = ControlMessage::decode(Kind::Membership, bytes)
    else {
        return;
    };
    assert!(request.types.len() <= MAX_TYPES_PER_NODE);
    let from = request.admission.join.node;
    let (mut node, mut now) = leader();
    node.connected(from, now);
    node.handle_message(from, ControlMessage::JoinRequest(request), now);
    let mut answers = 0;
    for _ in 0..20 {
        now = now + Duration::from_millis(1);
        answers += turn(&mut node, now);
    }
    assert!(!node.has_stopped(), "nobody ends a leader by asking");
    assert!(answers <= 2, "one answer to one question: {answers}");
}

/// The number of the kind of frames that requests come in.
const MEMBERSHIP: u8 = 2;

fn settings(node: u32) -> NodeSettings {
    let mut settings = NodeSettings::new(NodeId(node), address(node)).fast();
    settings.types = types();
    settings
}

fn types() -> Vec<TypeSpec> {
    vec![TypeSpec {
        name: "cart".into(),
        shards: 4,
        strategy: PlacementStrategy::HashRing,
        role: Some("store".into()),
        keep_running: false,
    }]
}

fn address(node: u32) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 7_000))
}

/// A node that is alone, and leads.
fn leader() -> (ClusterNode, Time) {
    let mut now = Time::ZERO;
    let mut node = ClusterNode::start(settings(1), Found::default(), seeded(1, 1), now)
        .expect("good settings");
    while !node.is_ready(now) {
        turn(&mut node, now);
        now = now + Duration::from_millis(1);
        if node.next_deadline() <= now {
            node.tick(now);
        }
        assert!(
            now < Time::ZERO + Duration::from_secs(60),
            "it is never ready"
        );
    }
    turn(&mut node, now);
    (node, now)
}

/// Its disk is quick; how many messages come out.
fn turn(node: &mut ClusterNode, now: Time) -> usize {
    let mut sent = 0;
    while let Some(output) = node.poll_output() {
        match output {
            Output::Write(Write::Record { ticket, .. }) => node.record_written(ticket, now),
            Output::Write(Write::Log(write)) => {
                if let Some(ticket) = write.ticket {
                    node.log_written(ticket, now);
                }
            }
            Output::Send { message, .. } => {
                sent += usize::from(matches!(message, ControlMessage::JoinAnswer(_)));
            }
            _ => {}
        }
    }
    sent
}

/// Requests of a newcomer, and of one that has been in before.
pub fn samples() -> Vec<Vec<u8>> {
    let request = |cluster, types: Vec<TypeSpec>| {
        let request = JoinRequest {
            admission: Admission {
                join: Join {
                    node: NodeId(2),
                    address: address(2),
                    roles: vec!["store".into()],
                    data_cores: 3,
                },
                disk: DiskId::from_number(9).expect("not 0"),
                start: StartId(258),
            },
            cluster,
            settings: SharedSettings::from(&settings(2).consensus),
            types,
        };
        control::sample(ControlMessage::JoinRequest(Box::new(request))).1
    };
    vec![
        request(None, types()),
        request(Some(ClusterId(7)), Vec::new()),
    ]
}
