//! One peer alone, and what it refuses. Several of them are in `tests/cluster`.

use std::time::Duration;

use super::configuration::{Configuration, ConfigurationChange, PeerChange};
use super::entry::{EntryBody, LogEntry, LogWrite, Recovered, Ticket};
use super::machine::{Consensus, Identity};
use super::message::{Body, LeaseGrant, LeaseRequest, Message, RaftKind, RaftMessage};
use super::output::{Outcome, Output, ProposeError, Rejection, StepError, StopCause};
use super::peer::{ClusterId, DiskId, NodeLife, PeerId};
use super::settings::ConsensusSettings;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::rng::seeded;
use crate::base::time::Time;

fn peer(node: u32) -> PeerId {
    PeerId::new(NodeId(node), DiskId::from_number(1).unwrap())
}

fn identity(node: u32) -> Identity {
    Identity {
        cluster: ClusterId(1),
        peer: peer(node),
        life: NodeLife {
            node: NodeId(node),
            incarnation: Incarnation(1),
        },
    }
}

fn start(voters: u32) -> Consensus {
    let settings = ConsensusSettings {
        max_proposals: 2,
        max_command_bytes: 10,
        ..ConsensusSettings::fast()
    };
    let voters = Configuration::of_voters((1..=voters).map(peer));
    let recovered = Recovered::genesis(&voters);
    Consensus::start(identity(1), settings, recovered, seeded(1, 1), Time::ZERO).unwrap()
}

fn outputs(consensus: &mut Consensus) -> Vec<Output> {
    std::iter::from_fn(|| consensus.poll_output()).collect()
}

fn tickets(outputs: &[Output]) -> Vec<Ticket> {
    let ticket = |output: &Output| match output {
        Output::Write(LogWrite { ticket, .. }) => *ticket,
        _ => None,
    };
    outputs.iter().filter_map(ticket).collect()
}

/// Ticks and syncs until it leads, or half a second is over.
fn lead(consensus: &mut Consensus) -> Time {
    let mut now = Time::ZERO;
    while !consensus.leadership().is_self && now < Time::from_nanos(500_000_000) {
        now = consensus.next_deadline();
        consensus.tick(now);
        sync(consensus, now);
    }
    now
}

fn sync(consensus: &mut Consensus, now: Time) -> Vec<Output> {
    let mut all = Vec::new();
    loop {
        let some = outputs(consensus);
        let last = tickets(&some).last().copied();
        all.extend(some);
        match last {
            Some(ticket) => consensus.written(now, ticket),
            None => return all,
        }
    }
}

fn append(term: u64) -> Message {
    Message {
        cluster: ClusterId(1),
        from: peer(2),
        to: peer(1),
        body: Body::Raft(RaftMessage {
            kind: RaftKind::Append,
            term,
            log_term: 1,
            index: 1,
            commit: 1,
            commit_term: 0,
            reject: false,
            reject_hint: 0,
            transfer: false,
            round: 0,
            entries: Vec::new(),
        }),
    }
}

/// A node whose earlier life has proposed, and that starts again without a life: what it proposes for its term is applied,
/// what it proposes otherwise is not, and with its next life it proposes as ever.
#[test]
fn a_leader_without_a_life_proposes_for_its_term_until_it_has_one() {
    let voters = Configuration::of_voters([peer(1)]);
    let recovered = Recovered::genesis(&voters);
    let mut identity = identity(1);
    identity.life.incarnation = Incarnation(0);
    let settings = ConsensusSettings::fast();
    let started = Consensus::start(identity, settings, recovered, seeded(1, 1), Time::ZERO);
    let mut consensus = started.unwrap();
    let early = consensus.propose_in_term(Time::ZERO, b"early".to_vec());
    assert_eq!(early, Err(ProposeError::NotLeader));
    let now = lead(&mut consensus);
    assert!(consensus.leads_settled());
    let commands = |outputs: Vec<Output>| -> Vec<Vec<u8>> {
        let command = |output| match output {
            Output::Committed(committed) => Some(committed.command),
            _ => None,
        };
        outputs.into_iter().filter_map(command).collect()
    };
    // As after an earlier life of this node: its session is ahead of what has no life.
    consensus.begin_life(now, Incarnation(3));
    consensus.propose(now, b"a".to_vec()).unwrap();
    assert_eq!(commands(sync(&mut consensus, now)), [b"a".to_vec()]);
    consensus.begin_life(now, Incarnation(0));
    let id = consensus.propose_in_term(now, b"b".to_vec()).unwrap();
    let all = sync(&mut consensus, now);
    let outcome = |output: &Output| matches!(output, Output::Outcome { id: of, outcome: Outcome::Committed { .. } } if *of == id);
    assert!(all.iter().any(outcome), "{all:?}");
    assert_eq!(commands(all), [b"b".to_vec()]);
    consensus.propose(now, b"c".to_vec()).unwrap();
    assert_eq!(commands(sync(&mut consensus, now)), [[0_u8; 0]; 0]);
    // What is open when a life begins is unknown.
    consensus.propose_in_term(now, b"d".to_vec()).unwrap();
    let open = outputs(&mut consensus);
    consensus.begin_life(now, Incarnation(4));
    let unknown = |output: &Output| {
        matches!(
            output,
            Output::Outcome {
                outcome: Outcome::Unknown,
                ..
            }
        )
    };
    assert!(outputs(&mut consensus).iter().any(unknown));
    consensus.written(now, tickets(&open)[0]);
    consensus.propose(now, b"e".to_vec()).unwrap();
    let all = commands(sync(&mut consensus, now));
    assert_eq!(all, [b"d".to_vec(), b"e".to_vec()]);
}

#[test]
fn one_peer_alone_commits_only_what_is_durable() {
    let mut consensus = start(1);
    let now = lead(&mut consensus);
    assert!(consensus.leadership().is_self);
    let id = consensus.propose(now, b"one".to_vec()).unwrap();
    let before = outputs(&mut consensus);
    let is_committed = |output: &Output| matches!(output, Output::Committed(_));
    assert!(!before.iter().any(is_committed));
    consensus.written(now, tickets(&before)[0]);
    let after = outputs(&mut consensus);
    assert!(after.iter().any(is_committed), "{after:?}");
    let told = |output: &Output| matches!(output, Output::Outcome { id: of, outcome: Outcome::Committed { .. } } if *of == id);
    assert!(after.iter().any(told));
}

#[test]
fn what_is_too_much_is_refused_at_once() {
    let mut consensus = start(3);
    let now = Time::ZERO;
    let error = ProposeError::TooLarge { bytes: 11, max: 10 };
    assert_eq!(consensus.propose(now, vec![0; 11]), Err(error));
    let first = consensus.propose(now, vec![0]).unwrap();
    consensus.propose(now, vec![0]).unwrap();
    assert_eq!(consensus.propose(now, vec![0]), Err(ProposeError::Full(2)));
    let life = identity(2).life;
    let down = consensus.propose_down(now, life, vec![0]);
    assert_eq!(down, Err(ProposeError::NotLeader));
    // Nobody answers: it was never sent.
    let mut now = now;
    let mut all = Vec::new();
    while now < Time::from_nanos(5_100_000_000) {
        now = consensus.next_deadline();
        consensus.tick(now);
        all.extend(sync(&mut consensus, now));
    }
    let rejected = Output::Outcome {
        id: first,
        outcome: Outcome::Rejected(Rejection::NoQuorum),
    };
    assert!(all.contains(&rejected));
}

/// Whether a node that asks now gets a lease within a few heartbeats. Nothing becomes durable meanwhile.
fn gets_lease(consensus: &mut Consensus, now: &mut Time, node: u32) -> bool {
    let settings = ConsensusSettings::fast();
    let request = Message {
        cluster: ClusterId(1),
        from: peer(node),
        to: peer(1),
        body: Body::LeaseRequest(LeaseRequest {
            incarnation: 1,
            asked_at: 5,
            length: settings.lease.as_nanos() as u64,
        }),
    };
    consensus.step(*now, request).unwrap();
    let end = *now + settings.heartbeat * 3;
    let mut all = Vec::new();
    while *now < end {
        *now = consensus.next_deadline();
        consensus.tick(*now);
        all.extend(outputs(consensus));
    }
    let grants = |output: &Output| matches!(output, Output::Send(Message { to, body: Body::LeaseGrant(_), .. }) if *to == peer(node));
    all.iter().any(grants)
}

#[test]
fn a_down_that_is_refused_does_not_pardon_whom_another_condemns() {
    let mut consensus = start(1);
    let mut now = lead(&mut consensus) + Duration::from_millis(441);
    consensus.tick(now);
    sync(&mut consensus, now);
    let life = identity(2).life;
    let first = consensus.propose_down(now, life, vec![2]).unwrap();
    consensus.propose(now, vec![3]).unwrap();
    let full = Err(ProposeError::Full(2));
    assert_eq!(consensus.propose_down(now, life, vec![2]), full);
    let other = identity(3).life;
    assert_eq!(consensus.propose_down(now, other, vec![2]), full);
    assert!(!gets_lease(&mut consensus, &mut now, 2));
    assert!(gets_lease(&mut consensus, &mut now, 3), "it is pardoned");
    // What was written meanwhile is durable after all.
    consensus.written(now, Ticket(u64::MAX));
    let all = outputs(&mut consensus);
    let is_down =
        |output: &Output| matches!(output, Output::Committed(committed) if committed.id == first);
    assert!(all.iter().any(is_down), "{all:?}");
}

/// What comes before the first entry has term 0, and so has, for raft-rs, what is not there.
#[test]
fn an_append_behind_an_entry_of_no_term_is_refused() {
    let mut consensus = start(2);
    let append = Message {
        cluster: ClusterId(1),
        from: peer(2),
        to: peer(1),
        body: Body::Raft(RaftMessage {
            kind: RaftKind::Append,
            term: 5,
            log_term: 0,
            index: 13,
            commit: 13,
            commit_term: 0,
            reject: false,
            reject_hint: 0,
            transfer: false,
            round: 0,
            entries: Vec::new(),
        }),
    };
    let (peer, index) = (peer(2), 13);
    let refused = consensus.step(Time::ZERO, append);
    assert_eq!(refused, Err(StepError::NoTerm { peer, index }));
}

/// A voter that is alone wins as soon as it campaigns, and may not before all that it has is durable.
#[test]
fn who_is_alone_is_not_made_to_lead_before_its_log_is_durable() {
    let mut consensus = start(1);
    let mut now = lead(&mut consensus);
    consensus.propose(now, vec![1]).unwrap();
    assert!(
        !tickets(&outputs(&mut consensus)).is_empty(),
        "one write is under way"
    );
    let from_2 = |kind, term| Message {
        cluster: ClusterId(1),
        from: peer(2),
        to: peer(1),
        body: Body::Raft(RaftMessage {
            kind,
            term,
            log_term: 0,
            index: 0,
            commit: 0,
            commit_term: 0,
            reject: false,
            reject_hint: 0,
            transfer: false,
            round: 0,
            entries: Vec::new(),
        }),
    };
    // Somebody leads in a later term, and wants this one to.
    let term = consensus.leadership().term + 1;
    consensus
        .step(now, from_2(RaftKind::Heartbeat, term))
        .unwrap();
    assert!(!consensus.leadership().is_self);
    consensus
        .step(now, from_2(RaftKind::TimeoutNow, term))
        .unwrap();
    assert!(!consensus.leadership().is_self);
    // Everything is durable: it leads in time.
    consensus.written(now, Ticket(u64::MAX));
    let end = now + Duration::from_secs(1);
    while !consensus.leadership().is_self && now < end {
        sync(&mut consensus, now);
        now = consensus.next_deadline();
        consensus.tick(now);
    }
    assert!(consensus.leadership().is_self);
}

/// On its way from one configuration to the next it may be alone in both.
#[test]
fn who_is_alone_in_both_configurations_waits_as_well() {
    let mut consensus = start(1);
    let from_2 = |kind, index, log_term, entries| Message {
        cluster: ClusterId(1),
        from: peer(2),
        to: peer(1),
        body: Body::Raft(RaftMessage {
            kind,
            term: 2,
            log_term,
            index,
            commit: 2,
            commit_term: 0,
            reject: false,
            reject_hint: 0,
            transfer: false,
            round: 0,
            entries,
        }),
    };
    let entry = |index, body| LogEntry {
        index,
        term: 2,
        body,
    };
    let steps = [2, 3].map(|node| (PeerChange::Learn, peer(node).number()));
    let steps = steps.to_vec();
    let change = entry(2, EntryBody::Change(ConfigurationChange { steps }));
    let now = Time::ZERO;
    let append = from_2(RaftKind::Append, 1, 1, vec![change]);
    consensus.step(now, append).unwrap();
    consensus.written(now, Ticket(u64::MAX));
    assert!(consensus.configuration().is_joint());
    let append = from_2(RaftKind::Append, 2, 2, vec![entry(3, EntryBody::Empty)]);
    consensus.step(now, append).unwrap();
    let campaign = from_2(RaftKind::TimeoutNow, 0, 0, Vec::new());
    consensus.step(now, campaign).unwrap();
    assert!(!consensus.leadership().is_self);
}

/// So whoever hears of it can tell it once in a while, however often it is said.
#[test]
fn a_request_for_a_lease_of_another_length_is_refused_with_the_reason() {
    let mut consensus = start(1);
    let now = lead(&mut consensus);
    let request = Message {
        cluster: ClusterId(1),
        from: peer(2),
        to: peer(1),
        body: Body::LeaseRequest(LeaseRequest {
            incarnation: 1,
            asked_at: 5,
            length: 400_000_001,
        }),
    };
    let refused = consensus.step(now, request).unwrap_err().to_string();
    assert!(
        refused.contains("400.000001ms") && refused.contains("`lease`"),
        "{refused}"
    );
}

#[test]
fn a_lease_counts_only_from_the_leader_of_the_term() {
    let mut consensus = start(3);
    let now = Time::from_nanos(10_000_000);
    // The second peer leads in term 3.
    consensus.step(now, append(3)).unwrap();
    sync(&mut consensus, now);
    assert_eq!(consensus.leadership().leader, Some(peer(2)));
    let grant = |from, term| Message {
        cluster: ClusterId(1),
        from: peer(from),
        to: peer(1),
        body: Body::LeaseGrant(LeaseGrant {
            incarnation: 1,
            term,
            asked_at: now.as_nanos(),
            length: ConsensusSettings::fast().lease.as_nanos() as u64,
        }),
    };
    let forged = consensus.step(now, grant(3, 3)).unwrap_err();
    assert!(matches!(forged, StepError::NotTheLeader { .. }));
    let said = forged.to_string();
    assert!(said.contains("in term 3, in which node-2"), "{said}");
    for (from, term) in [(3, 2), (3, 4), (2, 2), (2, 4)] {
        // Late, or of a term of which nothing is known: it is asked for again.
        consensus.step(now, grant(from, term)).unwrap();
    }
    assert_eq!(consensus.lease().until(), None);
    consensus.step(now, grant(2, 3)).unwrap();
    assert!(consensus.lease().valid_at(now));
}

/// No peer can use up all terms with a few messages, and who comes from far behind comes in all the same.
#[test]
fn terms_jump_as_far_as_elections_can_have_been() {
    let mut consensus = start(3);
    let mut now = Time::from_nanos(10_000_000);
    let step = |consensus: &mut Consensus, now: Time, term: u64| {
        let stepped = consensus.step(now, append(term));
        sync(consensus, now);
        stepped
    };
    let far = (1 << 60) - 1;
    let refused = step(&mut consensus, now, far).unwrap_err();
    assert!(matches!(refused, StepError::TermJump { .. }), "{refused}");
    assert_eq!(consensus.leadership().term, 1, "nothing has changed");
    let ours = 1 << 31;
    step(&mut consensus, now, ours).unwrap();
    assert_eq!(consensus.leadership().term, ours);
    // The next that is as large has to wait; what elections do has not.
    let refused = step(&mut consensus, now, 2 * ours).unwrap_err();
    assert!(refused.to_string().contains("within a minute"), "{refused}");
    step(&mut consensus, now, ours + 1).unwrap();
    step(&mut consensus, now, ours + 1_000).unwrap();
    now = now + super::plausible::JUMP_PAUSE;
    step(&mut consensus, now, 2 * ours).unwrap();
    assert_eq!(consensus.leadership().term, 2 * ours);
}

#[test]
fn a_failed_write_ends_it() {
    let mut consensus = start(1);
    let now = lead(&mut consensus);
    let id = consensus.propose(now, vec![1]).unwrap();
    outputs(&mut consensus);
    consensus.write_failed();
    let outcome = Outcome::Unknown;
    let expected = [
        Output::Outcome { id, outcome },
        Output::Stopped(StopCause::WriteFailed),
    ];
    assert_eq!(outputs(&mut consensus), expected);
    assert_eq!(consensus.propose(now, vec![1]), Err(ProposeError::Stopped));
    assert_eq!(consensus.next_deadline(), Time::MAX);
    consensus.tick(now + Duration::from_secs(1));
    consensus.written(now, Ticket(99));
    assert_eq!(outputs(&mut consensus), []);
}

#[test]
fn a_message_that_breaks_the_rules_is_refused_and_says_which() {
    let mut consensus = start(2);
    let now = Time::ZERO;
    let mut other = append(2);
    other.cluster = ClusterId(2);
    assert!(matches!(
        consensus.step(now, other),
        Err(StepError::OtherCluster { .. })
    ));
    let mut elsewhere = append(2);
    elsewhere.to = peer(3);
    let error = consensus.step(now, elsewhere).unwrap_err();
    assert!(matches!(error, StepError::NotForMe { .. }));
    let spoilt = |spoil: fn(&mut RaftMessage)| {
        let mut message = append(2);
        let Body::Raft(raft) = &mut message.body else {
            unreachable!()
        };
        spoil(raft);
        message
    };
    let lost = spoilt(|raft| (raft.kind, raft.commit) = (RaftKind::Heartbeat, 50));
    let error = StepError::LogLost {
        peer: peer(2),
        commit: 50,
        last: 1,
    };
    assert_eq!(consensus.step(now, lost), Err(error));
    assert_eq!(consensus.step(now, append(2)), Ok(()));

    // Alone it leads; nobody else can say so in the same term.
    let mut consensus = start(1);
    let now = lead(&mut consensus);
    let term = consensus.leadership().term;
    let error = StepError::TwoLeaders {
        peer: peer(2),
        term,
    };
    assert_eq!(consensus.step(now, append(term)), Err(error));
}

#[test]
fn nothing_is_sent_to_a_former_disk_of_the_same_node() {
    let former = PeerId::new(NodeId(1), DiskId::from_number(2).unwrap());
    let voters = Configuration::of_voters([peer(1), former, peer(2)]);
    let recovered = Recovered::genesis(&voters);
    let (settings, rng) = (ConsensusSettings::fast(), seeded(1, 1));
    let mut consensus =
        Consensus::start(identity(1), settings, recovered, rng, Time::ZERO).unwrap();
    let mut sent = Vec::new();
    for ms in 0..400 {
        let now = Time::from_nanos(ms * 1_000_000);
        consensus.tick(now);
        sent.extend(
            sync(&mut consensus, now)
                .into_iter()
                .filter_map(|output| match output {
                    Output::Send(message) => Some(message.to),
                    _ => None,
                }),
        );
    }
    assert!(!sent.is_empty(), "it asks for votes");
    assert!(sent.iter().all(|to| *to == peer(2)), "{sent:?}");
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut consensus = start(3);
        let mut all = Vec::new();
        for ms in 0..400 {
            let now = Time::from_nanos(ms * 1_000_000);
            consensus.tick(now);
            all.extend(sync(&mut consensus, now));
        }
        format!("{all:?}")
    };
    assert_eq!(run(), run());
}
