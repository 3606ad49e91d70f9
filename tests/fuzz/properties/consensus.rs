//! Messages of the log: read or refused, and what is read does no harm to a peer, whatever it says.
#![allow(dead_code, reason = "a fuzzer makes samples of its own")]

use corecast::Time;
use corecast::base::ids::{Incarnation, NodeId};
use corecast::base::rng::seeded;
use corecast::consensus::configuration::{Configuration, ConfigurationChange, PeerChange};
use corecast::consensus::entry::{EntryBody, LogEntry, ProposalRecord, Recovered, SnapshotMeta};
use corecast::consensus::machine::{Consensus, Identity};
use corecast::consensus::message::{
    Body, Chunk, ChunkReceived, LeaseGrant, LeaseRequest, Message, Proposed, RaftKind, RaftMessage,
};
use corecast::consensus::output::Output;
use corecast::consensus::peer::{ClusterId, DiskId, NodeLife, PeerId};
use corecast::consensus::settings::ConsensusSettings;
use std::time::Duration;

const CLUSTER: ClusterId = ClusterId(1);

/// Reads bytes as a message, and has a peer take it that is one of three.
pub fn check(bytes: &[u8]) {
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() < 400, "{said}");
            return;
        }
    };
    let again = message
        .clone()
        .encode()
        .expect("what was read is not too long");
    assert_eq!(Message::decode(&again), Ok(message.clone()));

    let mut now = Time::ZERO;
    let found = Recovered::genesis(&Configuration::of_voters((1..=3).map(peer)));
    let identity = Identity {
        cluster: CLUSTER,
        peer: peer(1),
        life: NodeLife {
            node: NodeId(1),
            incarnation: Incarnation(1),
        },
    };
    let settings = ConsensusSettings::fast();
    let mut consensus =
        Consensus::start(identity, settings, found, seeded(1, 1), now).expect("good settings");
    settle(&mut consensus, now);
    let term = consensus.leadership().term;
    if let Err(error) = consensus.step(now, message) {
        assert!(!error.to_string().is_empty());
        assert_eq!(
            consensus.leadership().term,
            term,
            "nothing has changed: {error}"
        );
    }
    settle(&mut consensus, now);
    for _ in 0..10 {
        now = consensus
            .next_deadline()
            .min(now + Duration::from_millis(100));
        consensus.tick(now);
        settle(&mut consensus, now);
    }
    let far = consensus.leadership().term - term;
    assert!(
        far <= (1 << 32) + 10,
        "one message makes no term jump by {far}"
    );
    assert!(
        !consensus.lease().valid_at(now),
        "and grants no lease out of the blue"
    );
}

fn settle(consensus: &mut Consensus, now: Time) {
    while let Some(output) = consensus.poll_output() {
        match output {
            Output::Write(write) => {
                if let Some(ticket) = write.ticket {
                    consensus.written(now, ticket);
                }
            }
            Output::Send(message) => drop(message.encode().expect("it is not too long")),
            _ => {}
        }
    }
}

fn peer(node: u32) -> PeerId {
    PeerId::new(NodeId(node), DiskId::from_number(1).expect("not 0"))
}

/// One message of each sort, from another voter.
pub fn samples() -> Vec<Vec<u8>> {
    let proposal = ProposalRecord {
        node: 2,
        incarnation: 1,
        only_term: 0,
        number: 1,
        floor: 1,
    };
    let steps = vec![(PeerChange::Learn, peer(4).number())];
    let bodies = [
        EntryBody::Empty,
        EntryBody::Command(proposal, vec![1, 2, 3]),
        EntryBody::Change(ConfigurationChange { steps }),
    ];
    let entries = bodies.into_iter().zip(2..).map(|(body, index)| LogEntry {
        index,
        term: 2,
        body,
    });
    let raft = RaftMessage {
        kind: RaftKind::Append,
        term: 2,
        log_term: 1,
        index: 1,
        commit: 4,
        commit_term: 0,
        reject: false,
        reject_hint: 0,
        transfer: false,
        round: 0,
        entries: entries.collect(),
    };
    let of_kind = |kind| RaftMessage {
        kind,
        entries: Vec::new(),
        commit: 1,
        ..raft.clone()
    };
    let configuration = (&Configuration::of_voters((1..=3).map(peer))).into();
    let meta = SnapshotMeta {
        index: 5,
        term: 2,
        configuration,
    };
    let bodies = [
        Body::Raft(of_kind(RaftKind::Heartbeat)),
        Body::Raft(of_kind(RaftKind::Vote)),
        Body::Raft(of_kind(RaftKind::PreVote)),
        Body::Raft(of_kind(RaftKind::TimeoutNow)),
        Body::Raft(of_kind(RaftKind::HeartbeatResponse)),
        Body::Raft(of_kind(RaftKind::AppendResponse)),
        Body::Raft(raft),
        Body::Propose(vec![Proposed {
            proposal,
            attempt: 1,
            command: vec![7],
        }]),
        Body::Chunk(Chunk {
            term: 2,
            meta,
            total: 12,
            offset: 0,
            bytes: vec![0; 12],
        }),
        Body::ChunkReceived(ChunkReceived {
            term: 2,
            index: 5,
            received: 6,
            refused: false,
        }),
        Body::LeaseRequest(LeaseRequest {
            incarnation: 1,
            asked_at: 2,
            length: 400_000_000,
        }),
        Body::LeaseGrant(LeaseGrant {
            incarnation: 1,
            term: 2,
            asked_at: 0,
            length: 400_000_000,
        }),
    ];
    let messages = bodies.into_iter().map(|body| Message {
        cluster: CLUSTER,
        from: peer(2),
        to: peer(1),
        body,
    });
    let encoded = messages.map(|message| message.encode().expect("it is not too long"));
    encoded.collect()
}
