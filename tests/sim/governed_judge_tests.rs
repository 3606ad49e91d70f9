//! The judge finds what should not have been, each in a history that is fine but for that.

use crate::governed_history::{Counted, Fencing, History, KEPT, Kind, Operation, Outcome, Run};
use crate::governed_judge::{Kept, judge, open};
use corecast::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use corecast::{AskError, Rejection, Time, Uncertainty};
use std::collections::BTreeSet;
use std::panic::catch_unwind;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn shard() -> ShardKey {
    ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(3),
    }
}

fn sent(kind: Kind, began: u64, ended: Option<(u64, Outcome)>) -> Operation {
    Operation {
        kind,
        sender: 1,
        node: A,
        to: 7,
        began: at(began),
        ended: ended.map(|(ended, outcome)| (at(ended), outcome)),
        is_exact: true,
        must_succeed: false,
        parent: None,
    }
}

fn ran(operation: u64, count: u64, node: NodeId, epoch: u64, when: u64) -> Run {
    Run {
        at: at(when),
        entity: 7,
        shard: shard(),
        node,
        epoch: Epoch(epoch),
        effect: Some(Counted { operation, count }),
    }
}

fn replied(operation: u64, count: u64) -> Outcome {
    Outcome::Replied(Counted { operation, count })
}

/// Two asks, of which each runs on another node, in another epoch.
fn fine() -> History {
    let mut history = History::default();
    history.begin(sent(Kind::Ask, 0, Some((200, replied(0, 1)))));
    history.begin(sent(Kind::Tell, 300, Some((300, Outcome::Accepted))));
    history.begin(sent(Kind::Ask, 300, Some((900, replied(2, 1)))));
    history.run(ran(0, 1, A, 1, 100));
    history.run(ran(1, 2, A, 1, 400));
    history.run(ran(2, 1, B, 2, 800));
    let fence = Epoch(2);
    let (node, shard) = (A, shard());
    history.fencings.push(Fencing {
        at: at(600),
        node,
        shard,
        fence,
    });
    history
}

#[track_caller]
fn assert_found(sign: &str, spoil: impl Fn(&mut History)) {
    let mut history = fine();
    judge(&history, false);
    spoil(&mut history);
    let found = catch_unwind(|| judge(&history, false));
    let panic = found.expect_err("it was not found");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(sign), "{text}");
}

#[test]
fn two_owners_are_found() {
    assert_found("after it had run on node-2 in epoch-2", |history| {
        history.runs[1].at = at(850);
    });
    assert_found("ran on node-2 in epoch-1", |history| {
        history.runs[2].epoch = Epoch(1);
    });
    // Also while one only goes on with what it had begun.
    assert_found("after it had run on", |history| {
        history.run(Run {
            effect: None,
            ..ran(0, 0, A, 1, 900)
        });
    });
}

/// The same with an entity that keeps running: the first owner is dead for the others, but goes on for a while.
fn fine_if_kept() -> History {
    let mut history = fine();
    history.operations.iter_mut().for_each(|it| it.to = KEPT);
    history.runs.iter_mut().for_each(|it| it.entity = KEPT);
    history.fencings[0].node = B;
    history.lease(A, at(0), Some(at(500)));
    // It was paused, and hears late of the end.
    history.lease(A, at(840), None);
    history.lease(B, at(0), Some(at(5_000)));
    history.runs[1].at = at(850);
    history
}

#[track_caller]
fn assert_found_if_kept(sign: &str, spoil: impl Fn(&mut History)) {
    let mut history = fine_if_kept();
    spoil(&mut history);
    let found = catch_unwind(|| judge(&history, true));
    let panic = found.expect_err("it was not found");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(sign), "{text}");
}

#[test]
fn who_keeps_running_may_do_so_until_its_node_knows_better() {
    let kept = judge(&fine_if_kept(), true);
    let expected = Kept {
        past_lease: 1,
        overlaps: 1,
    };
    assert_eq!(kept, expected);
    // An entity of the other type.
    assert_found_if_kept("without a lease", |history| {
        history.operations.iter_mut().for_each(|it| it.to = 7);
        history.runs.iter_mut().for_each(|it| it.entity = 7);
        history.runs[1].at = at(750);
    });
    // Its owner is not dead: the shard has moved.
    assert_found_if_kept("after it had run on", |history| history.fencings.clear());
    assert_found_if_kept("after it had run on", |history| {
        history.peace = Some(at(840));
    });
    assert_found_if_kept("ran on node-2 in epoch-1", |history| {
        history.runs[2].epoch = Epoch(1);
    });
    assert_found_if_kept("the node knew from", |history| {
        history.fencings[0].node = A;
    });
    // The first owner gets what was sent after something that the second has got.
    assert_found_if_kept("of the same sender in epoch-2", |history| {
        history.operations.swap(1, 2);
        history.operations[1].ended = Some((at(900), replied(1, 1)));
        history.runs[1].effect = Some(Counted {
            operation: 2,
            count: 2,
        });
        history.runs[2].effect = Some(Counted {
            operation: 1,
            count: 1,
        });
    });
    assert_found_if_kept("of the same sender at", |history| {
        history.runs[0].effect = Some(Counted {
            operation: 1,
            count: 1,
        });
        history.runs[1].effect = Some(Counted {
            operation: 0,
            count: 2,
        });
        history.operations[0].ended = None;
        history.operations[1].began = at(0);
    });
}

#[test]
fn what_a_dead_owner_knew_is_lost() {
    assert_found_if_kept("has another count", |history| {
        history.runs[1].at = at(400);
        history.runs[2].effect = Some(Counted {
            operation: 2,
            count: 3,
        });
        history.operations[2].ended = Some((at(900), replied(2, 3)));
    });
}

#[test]
fn what_happens_twice_or_elsewhere_or_too_early_is_found() {
    assert_found("operation 1 took effect twice", |history| {
        history.run(ran(1, 2, B, 2, 950));
    });
    assert_found("operation 2 went astray", |history| {
        history.runs[2].entity = 8;
    });
    assert_found("before it was sent", |history| {
        history.operations[0].began = at(180);
    });
}

#[test]
fn a_wrong_count_is_found() {
    assert_found("has another count", |history| {
        history.runs[2].effect = Some(Counted {
            operation: 2,
            count: 3,
        });
    });
}

#[test]
fn an_entity_that_moves_brings_all_that_it_has_counted() {
    let count = |count| {
        let mut history = fine();
        history.runs[2].effect = Some(Counted {
            operation: 2,
            count,
        });
        history.operations[2].ended = Some((at(900), replied(2, count)));
        // It was no death.
        history.fencings.clear();
        catch_unwind(|| judge(&history, true)).is_ok()
    };
    // Two messages were handled in the epoch before.
    assert_eq!(
        [0, 1, 2, 3, 4].map(count),
        [false, true, false, true, false]
    );
}

#[test]
fn another_order_than_that_of_the_sender_is_found() {
    assert_found("of the same sender", |history| {
        history.runs[0].effect = Some(Counted {
            operation: 1,
            count: 1,
        });
        history.runs[1].effect = Some(Counted {
            operation: 0,
            count: 2,
        });
        history.operations[0].ended = None;
        history.operations[1].began = at(0);
    });
}

#[test]
fn outcomes_that_are_not_true_are_found() {
    let rejected = Outcome::failed(AskError::Rejected(Rejection::LinkLost));
    let unknown = Outcome::failed(AskError::Unknown(Uncertainty::LinkLost));
    assert_found("operation 0 was rejected", |history| {
        history.operations[0].ended = Some((at(200), rejected));
    });
    assert_found("was answered and had no effect", |history| {
        history.runs.pop();
    });
    assert_found("got the answer to 2", |history| {
        history.operations[0].ended = Some((at(900), replied(2, 1)));
    });
    assert_found("tells of another effect", |history| {
        history.operations[0].ended = Some((at(200), replied(0, 5)));
    });
    assert_found("before its effect", |history| {
        history.operations[2].ended = Some((at(700), replied(2, 1)));
    });
    assert_found("ended with Stored", |history| {
        history.operations[2].ended = Some((at(900), Outcome::Stored));
    });
    assert_found("in peace, operation 1 failed", |history| {
        history.operations[1].must_succeed = true;
        history.operations[1].ended = None;
    });
    // What is not known may have had an effect or not.
    let mut history = fine();
    history.operations[0].ended = Some((at(200), unknown));
    history.operations[2].ended = Some((at(900), unknown));
    history.runs.pop();
    judge(&history, false);
}

#[test]
fn an_answer_that_should_not_have_been_believed_is_found() {
    assert_found(
        "node-1 believed an answer of node-1 in epoch-1",
        |history| {
            history.operations[0].ended = Some((at(700), replied(0, 1)));
        },
    );
}

#[test]
fn what_has_not_ended_is_open_as_long_as_its_sender_lives() {
    let mut history = fine();
    history.operations[0].ended = None;
    history.operations[1].ended = None;
    assert_eq!(open(&history, &BTreeSet::from([1])), [0]);
    assert!(open(&history, &BTreeSet::from([2])).is_empty());
}
