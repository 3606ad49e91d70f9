//! What a core flushes, and by whom, when past owners of a shard die.

use std::time::Duration;

use super::cluster_view::{Members, ShardOwner};
use super::node_handoff::NodeHandoff;
use super::node_steps::{NodeStep, ShardNews};
use super::past_owners::PastOwner;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::time::Time;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const D: NodeId = NodeId(4);
const S: ShardKey = ShardKey {
    entity_type: EntityTypeId(0),
    shard: ShardId(0),
};
const RELEASE: [NodeStep; 1] = [NodeStep::Release { shard: S }];

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

/// The only core of C.
fn sender() -> NodeHandoff {
    let (patience, retry) = (Duration::from_secs(2), Duration::from_millis(500));
    NodeHandoff::new(CoreId(0), C, [CoreId(0)], patience, retry)
}

fn members(nodes: &[NodeId]) -> Members {
    nodes.iter().map(|node| (*node, Incarnation(1))).collect()
}

/// A has begun its next life.
fn next_life() -> Members {
    let mut members = members(&[A, B, C, D]);
    members.insert(A, Incarnation(2));
    members
}

fn owned(node: NodeId, epoch: u64) -> ShardOwner {
    ShardOwner {
        owner: Some(node),
        epoch: Epoch(epoch),
        ..ShardOwner::default()
    }
}

/// To whom the sender has sent.
fn used(before: ShardOwner, now: ShardOwner) -> ShardNews<'static> {
    ShardNews {
        shard: S,
        before,
        now,
        past: &[],
        host: Some(CoreId(0)),
        streams: &[CoreId(0)],
        is_same_life: true,
    }
}

fn flush(via: NodeId, epoch: u64, token: u64) -> NodeStep {
    NodeStep::Flush {
        shard: S,
        via,
        epoch: Epoch(epoch),
        stream: CoreId(0),
        token,
    }
}

/// What has gone to a past owner that dies may be at any that lives: markers go to all of them.
#[test]
fn when_a_past_owner_dies_its_heirs_are_flushed() {
    let (all, without_a) = (members(&[A, B, C, D]), members(&[B, C, D]));
    for changed in [without_a, next_life()] {
        let mut core = sender();
        let steps = core.adopt(used(owned(A, 4), owned(B, 5)), &all, at(0));
        assert_eq!(steps, [flush(A, 4, 1)]);
        let next = ShardNews {
            streams: &[],
            ..used(owned(B, 5), owned(D, 6))
        };
        assert_eq!(core.adopt(next, &all, at(0)), []);
        assert_eq!(core.members_changed(&all, at(0)), []);
        let mut both = core.clone();
        let steps = core.members_changed(&changed, at(10));
        assert_eq!(steps, [flush(B, 5, 4), flush(D, 6, 5)]);
        assert!(core.is_flushing(S));
        assert_eq!(core.marker_passed(S, 1), [], "it is another marker");
        assert_eq!(core.next_deadline(), Some(at(510)));
        assert_eq!(core.marker_passed(S, 4), []);
        assert_eq!(core.marker_passed(S, 4), [], "once more");
        assert_eq!(core.poll(at(510), |_| unreachable!()), [flush(D, 6, 5)]);
        assert_eq!(core.marker_passed(S, 5), RELEASE);
        let steps = both.members_changed(&members(&[C, D]), at(0));
        assert_eq!(steps, [flush(D, 6, 4)]);
        assert_eq!(both.members_changed(&members(&[C]), at(0)), RELEASE);
        assert!(!both.is_flushing(S));
    }
}

/// What one of them has passed on before it dies may be behind the markers of the others.
#[test]
fn when_an_heir_dies_the_others_are_flushed_anew() {
    let mut core = sender();
    let all = members(&[A, B, C, D]);
    let steps = core.adopt(used(owned(A, 4), owned(B, 5)), &all, at(0));
    assert_eq!(steps, [flush(A, 4, 1)]);
    let next = used(owned(B, 5), owned(D, 6));
    assert_eq!(core.adopt(next, &all, at(0)), []);
    let steps = core.members_changed(&members(&[B, C, D]), at(0));
    assert_eq!(steps, [flush(B, 5, 4), flush(D, 6, 5)]);
    assert_eq!(core.marker_passed(S, 5), []);
    let steps = core.members_changed(&members(&[C, D]), at(0));
    assert_eq!(steps, [flush(D, 6, 6)]);
    assert_eq!(core.marker_passed(S, 4), [], "it has died");
    assert_eq!(core.marker_passed(S, 6), RELEASE);
}

/// While the first lives it does not matter who else dies.
#[test]
fn a_past_owner_that_lives_passes_the_marker_by_other_deaths() {
    let mut core = sender();
    let all = members(&[A, B, C, D]);
    let steps = core.adopt(used(owned(A, 4), owned(B, 5)), &all, at(0));
    assert_eq!(steps, [flush(A, 4, 1)]);
    let next = used(owned(B, 5), owned(D, 6));
    assert_eq!(core.adopt(next, &all, at(0)), []);
    assert_eq!(core.members_changed(&members(&[A, C, D]), at(0)), []);
    assert_eq!(core.marker_passed(S, 1), RELEASE);
}

/// The first is dead when this core hears of three owners at once: each of them may hold what the dead one has passed on.
#[test]
fn who_hears_of_several_owners_at_once_flushes_all_that_live() {
    let past = |node, epoch| PastOwner {
        node,
        epoch: Epoch(epoch),
    };
    let (was, between) = (past(B, 3), past(D, 6));
    let gone = ShardNews {
        is_same_life: false,
        past: &[was, between],
        ..used(owned(A, 5), owned(B, 7))
    };
    let mut core = sender();
    let steps = core.adopt(gone, &members(&[B, C, D]), at(0));
    assert_eq!(steps, [flush(D, 6, 1), flush(B, 7, 2)]);
    let has_again = past(B, 6);
    let again = ShardNews {
        past: &[has_again, past(D, 7)],
        ..used(owned(B, 7), owned(B, 8))
    };
    // It holds what it has had before, until that has gone round: it is not flushed as the present owner is.
    let mut core = sender();
    let first = ShardNews {
        is_same_life: false,
        before: owned(A, 5),
        ..again
    };
    let steps = core.adopt(first, &members(&[B, C, D]), at(0));
    assert_eq!(steps, [flush(B, 6, 1), flush(D, 7, 2)]);
}

/// The flush is under way when this core hears of further owners at once.
#[test]
fn further_owners_are_flushed_as_well() {
    let mut core = sender();
    let steps = core.adopt(
        used(owned(A, 4), owned(B, 5)),
        &members(&[A, B, C, D]),
        at(0),
    );
    assert_eq!(steps, [flush(A, 4, 1)]);
    let without_a = members(&[B, C, D]);
    assert_eq!(core.members_changed(&without_a, at(0)), [flush(B, 5, 3)]);
    let between = PastOwner {
        node: D,
        epoch: Epoch(6),
    };
    let next = ShardNews {
        streams: &[],
        past: &[between],
        ..used(owned(B, 5), owned(B, 7))
    };
    let steps = core.adopt(next, &without_a, at(0));
    assert_eq!(steps, [flush(B, 5, 3), flush(D, 6, 4)]);
    assert_eq!(core.marker_passed(S, 3), []);
    assert_eq!(core.marker_passed(S, 4), RELEASE);
}

/// What past owners have passed on to this node is here.
#[test]
fn who_has_the_shard_flushes_nobody_for_a_dead_one() {
    let mut core = sender();
    let steps = core.adopt(used(owned(A, 4), owned(C, 5)), &members(&[A, B, C]), at(0));
    assert_eq!(steps, [flush(A, 4, 1)]);
    assert_eq!(core.members_changed(&members(&[B, C]), at(0)), RELEASE);
}

/// A past owner that was dead when this core heard that it has not had the shard any more.
#[test]
fn who_hears_late_flushes_the_present_owner() {
    let gone = ShardNews {
        is_same_life: false,
        ..used(owned(A, 4), owned(B, 6))
    };
    for changed in [members(&[B, C, D]), next_life()] {
        assert_eq!(sender().adopt(gone, &changed, at(0)), [flush(B, 6, 1)]);
    }
}

/// What was sent there is lost: nothing of it can be overtaken.
#[test]
fn nobody_is_flushed_for_a_node_that_had_the_shard_when_it_died() {
    let heir = ShardOwner {
        fence: Epoch(5),
        ..owned(B, 5)
    };
    let gone = ShardNews {
        is_same_life: false,
        ..used(owned(A, 4), heir)
    };
    let mut core = sender();
    assert_eq!(core.adopt(gone, &members(&[B, C, D]), at(0)), []);
    assert!(!core.is_flushing(S));
}

/// It may hold what it has yet to pass on, whoever has died since.
#[test]
fn a_past_owner_that_lives_is_flushed_past_a_death() {
    let heir = ShardOwner {
        fence: Epoch(6),
        ..owned(D, 6)
    };
    let mut core = sender();
    let steps = core.adopt(used(owned(A, 4), heir), &members(&[A, C, D]), at(0));
    assert_eq!(steps, [flush(A, 4, 1)]);
    assert_eq!(core.marker_passed(S, 1), RELEASE);
}

/// Where nodes have unequal numbers of cores a core passes on what several have sent, which is on several cores of the next.
#[test]
fn each_stream_has_a_marker() {
    let streams = [CoreId(0), CoreId(3)];
    let passed_on = ShardNews {
        streams: &streams,
        ..used(owned(A, 4), owned(B, 5))
    };
    let of = |stream, step| match step {
        NodeStep::Flush {
            shard,
            via,
            epoch,
            token,
            ..
        } => NodeStep::Flush {
            shard,
            via,
            epoch,
            token,
            stream,
        },
        step => step,
    };
    let mut core = sender();
    let steps = core.adopt(passed_on, &members(&[A, B, C]), at(0));
    assert_eq!(steps, [flush(A, 4, 1), of(CoreId(3), flush(A, 4, 2))]);
    assert_eq!(core.marker_passed(S, 1), []);
    let again = core.poll(at(500), |_| unreachable!());
    assert_eq!(again, [of(CoreId(3), flush(A, 4, 2))]);
    let steps = core.members_changed(&members(&[B, C]), at(500));
    assert_eq!(steps, [flush(B, 5, 5), of(CoreId(3), flush(B, 5, 6))]);
    assert_eq!(core.marker_passed(S, 6), []);
    assert_eq!(core.marker_passed(S, 5), RELEASE);
}
