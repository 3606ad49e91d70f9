//! Whatever other peers say, in whatever order, and whenever the disk answers: nothing ends the process.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::configuration::{Configuration, ConfigurationChange, ConfigurationRecord, PeerChange};
use super::entry::{EntryBody, LogEntry, ProposalRecord, Recovered, SnapshotMeta, Ticket};
use super::machine::{Consensus, Identity};
use super::message::{
    AttemptRefused, Body, Chunk, ChunkReceived, LeaseGrant, LeaseRequest, Message, Proposed,
    RaftKind, RaftMessage, Refusal,
};
use super::output::Output;
use super::peer::{ClusterId, DiskId, NodeLife, PeerId};
use super::settings::ConsensusSettings;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::rng::seeded;
use crate::base::time::Time;

fn peer(node: u32) -> PeerId {
    PeerId::new(NodeId(node), DiskId::from_number(1).unwrap())
}

/// What happens to a peer.
#[derive(Clone, Debug)]
enum Happens {
    Says(u32, Body),
    Time,
    Durable,
    Proposes,
    Snapshot,
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..8, 1 => 0_u64..1 << 59]
}

fn entry_body() -> impl Strategy<Value = EntryBody> {
    let step = (0_u8..3, 1_u32..5).prop_map(|(change, node)| {
        let changes = [PeerChange::Vote, PeerChange::Learn, PeerChange::Remove];
        (changes[usize::from(change)], peer(node).number())
    });
    prop_oneof![
        Just(EntryBody::Empty),
        (1_u32..5, 1_u64..5).prop_map(|(node, number)| {
            let proposal = ProposalRecord {
                node,
                incarnation: 1,
                only_term: 0,
                number,
                floor: 1,
            };
            EntryBody::Command(proposal, vec![1])
        }),
        prop::collection::vec(step, 0..4)
            .prop_map(|steps| EntryBody::Change(ConfigurationChange { steps })),
    ]
}

fn raft() -> impl Strategy<Value = Body> {
    let kind = prop::sample::select(vec![
        RaftKind::Append,
        RaftKind::Append,
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
    let numbers = (number(), number(), number(), number(), number(), number());
    let entries = prop::collection::vec((0_u64..3, entry_body()), 0..4);
    let flags = (any::<bool>(), any::<bool>(), 0_u64..5);
    (kind, numbers, flags, entries).prop_map(|(kind, numbers, flags, entries)| {
        let (term, log_term, index, commit, commit_term, reject_hint) = numbers;
        let (reject, transfer, round) = flags;
        let mut at = (index, log_term);
        let entries = entries.into_iter().map(|(later, body)| {
            at = (at.0 + 1, (at.1 + later).min(term));
            LogEntry {
                index: at.0,
                term: at.1,
                body,
            }
        });
        let entries: Vec<LogEntry> = entries.collect();
        Body::Raft(RaftMessage {
            kind,
            term,
            log_term,
            index,
            commit,
            commit_term,
            reject,
            reject_hint,
            transfer,
            round,
            entries: if kind == RaftKind::Append {
                entries
            } else {
                Vec::new()
            },
        })
    })
}

fn configuration() -> impl Strategy<Value = ConfigurationRecord> {
    prop::collection::btree_set(1_u32..5, 1..4)
        .prop_map(|voters| (&Configuration::of_voters(voters.into_iter().map(peer))).into())
}

fn other() -> impl Strategy<Value = Body> {
    let proposal = (1_u64..5, 0_u64..5, 1_u32..5).prop_map(|(number, floor, node)| Proposed {
        proposal: ProposalRecord {
            node,
            incarnation: 1,
            only_term: 0,
            number,
            floor,
        },
        attempt: 1,
        command: vec![2],
    });
    let chunk = (number(), number(), number(), configuration(), 0_u64..20).prop_map(
        |(term, index, snapshot_term, configuration, sessions)| {
            // A whole snapshot, of which the sessions may be nonsense.
            let mut bytes = sessions.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[0; 12]);
            Chunk {
                term,
                meta: SnapshotMeta {
                    index,
                    term: snapshot_term,
                    configuration,
                },
                total: bytes.len() as u64,
                offset: 0,
                bytes,
            }
        },
    );
    let sound = (number(), number(), number(), configuration()).prop_map(
        |(term, index, snapshot_term, configuration)| {
            let meta = SnapshotMeta {
                index,
                term: snapshot_term,
                configuration,
            };
            let sessions = super::sessions::Sessions::default();
            let snapshot = super::entry::Snapshot::new(meta.clone(), &sessions, &[]);
            Chunk {
                term,
                meta,
                total: snapshot.data.len() as u64,
                offset: 0,
                bytes: snapshot.data.to_vec(),
            }
        },
    );
    prop_oneof![
        prop::collection::vec(proposal, 0..3).prop_map(Body::Propose),
        chunk.prop_map(Body::Chunk),
        sound.prop_map(Body::Chunk),
        (number(), number(), any::<u64>(), any::<bool>()).prop_map(
            |(term, index, received, refused)| Body::ChunkReceived(ChunkReceived {
                term,
                index,
                received,
                refused,
            })
        ),
        (1_u32..3, any::<u64>()).prop_map(|(incarnation, asked_at)| {
            let length = ConsensusSettings::fast().lease.as_nanos() as u64;
            Body::LeaseRequest(LeaseRequest {
                incarnation,
                asked_at,
                length,
            })
        }),
        (1_u32..3, any::<u64>(), any::<u64>()).prop_map(|(incarnation, asked_at, length)| {
            Body::LeaseGrant(LeaseGrant {
                incarnation,
                term: 1,
                asked_at,
                length,
            })
        }),
        (number(), 0_u32..3).prop_map(|(number, attempt)| Body::Refused(AttemptRefused {
            incarnation: 1,
            number,
            attempt,
            why: Refusal::Full,
        })),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (2_u32..5, raft()).prop_map(|(from, body)| Happens::Says(from, body)),
        3 => (2_u32..5, other()).prop_map(|(from, body)| Happens::Says(from, body)),
        3 => Just(Happens::Time),
        3 => Just(Happens::Durable),
        1 => Just(Happens::Proposes),
        1 => Just(Happens::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn others_may_say_what_they_like(voters in 1_u32..4, all in prop::collection::vec(happens(), 1..60)) {
        let settings = ConsensusSettings {
            snapshot_entries: 3,
            keep_entries: 1,
            ..ConsensusSettings::fast()
        };
        let (me, cluster) = (peer(1), ClusterId(1));
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        let found = Recovered::genesis(&Configuration::of_voters((1..=voters).map(peer)));
        let identity = Identity { cluster, peer: me, life };
        let mut now = Time::ZERO;
        let mut consensus = Consensus::start(identity, settings, found, seeded(1, 1), now).unwrap();
        let mut tickets: VecDeque<Ticket> = VecDeque::new();
        let mut wanted = VecDeque::new();
        for one in all {
            match one {
                Happens::Says(from, body) => {
                    let message = Message { cluster, from: peer(from), to: me, body };
                    if let Ok(message) = Message::decode(&message.encode().unwrap()) {
                        let _ = consensus.step(now, message);
                    }
                }
                Happens::Time => {
                    now = consensus.next_deadline().min(now + std::time::Duration::from_millis(40));
                    consensus.tick(now);
                }
                Happens::Durable => {
                    if let Some(ticket) = tickets.pop_front() {
                        consensus.written(now, ticket);
                    }
                }
                Happens::Proposes => drop(consensus.propose(now, vec![3])),
                Happens::Snapshot => {
                    if let Some(index) = wanted.pop_front() {
                        let _ = consensus.snapshot_taken(now, index, &[]);
                    }
                }
            }
            while let Some(output) = consensus.poll_output() {
                match output {
                    Output::Write(write) => tickets.extend(write.ticket),
                    Output::TakeSnapshot { index } => wanted.push_back(index),
                    Output::Send(message) => prop_assert!(message.encode().is_ok()),
                    _ => {}
                }
            }
        }
    }
}
