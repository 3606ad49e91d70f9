//! The hand-off between nodes, step by step, and as a whole with everything that can get lost.

use std::time::Duration;

use super::cluster_view::{Members, NodeMove, ShardOwner};
use super::move_error::RefusedWhy;
use super::node_departure::NodePhase;
use super::node_handoff::{NodeHandoff, PARTS_UNDER_WAY};
use super::node_steps::{
    Drained, DuePart, Keep, MoveReport, NodeStep, Readiness, ShardNews, Taken,
};
use crate::base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::time::Time;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const HERE: CoreId = CoreId(0);
const OTHER: CoreId = CoreId(1);
const S: ShardKey = ShardKey {
    entity_type: EntityTypeId(0),
    shard: ShardId(0),
};
const READY: Readiness = Readiness {
    is_suspended: false,
    is_lapsed: false,
    is_movable: true,
    has_left: true,
};

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn core(node: NodeId, me: CoreId) -> NodeHandoff {
    let (patience, retry) = (Duration::from_secs(2), Duration::from_millis(500));
    NodeHandoff::new(me, node, [HERE, OTHER], patience, retry)
}

fn members(nodes: &[NodeId]) -> Members {
    nodes.iter().map(|node| (*node, Incarnation(1))).collect()
}

fn owned(node: NodeId, epoch: u64) -> ShardOwner {
    ShardOwner {
        owner: Some(node),
        epoch: Epoch(epoch),
        ..ShardOwner::default()
    }
}

fn moving(node: NodeId, epoch: u64, prepared: u64, to: NodeId) -> ShardOwner {
    ShardOwner {
        moving: Some(NodeMove { prepared, to }),
        ..owned(node, epoch)
    }
}

fn news(before: ShardOwner, now: ShardOwner) -> ShardNews<'static> {
    ShardNews {
        shard: S,
        before,
        now,
        past: &[],
        host: Some(HERE),
        streams: &[],
        is_same_life: true,
    }
}

fn adopt(core: &mut NodeHandoff, before: ShardOwner, now: ShardOwner) -> Vec<NodeStep> {
    core.adopt(news(before, now), &members(&[A, B, C]), at(0))
}

fn phase(core: &NodeHandoff) -> Option<NodePhase> {
    core.departures().next().map(|(_, it)| it.phase())
}

fn drained(prepared: u64, from: CoreId) -> Drained {
    Drained {
        shard: S,
        prepared,
        from,
    }
}

fn report(prepared: u64, outcome: Result<(), RefusedWhy>) -> NodeStep {
    NodeStep::Report(MoveReport {
        shard: S,
        prepared,
        outcome,
    })
}

/// A source that ships the shard to B, with everything sent.
fn shipping() -> NodeHandoff {
    let mut source = core(A, HERE);
    assert_eq!(adopt(&mut source, owned(A, 4), moving(A, 4, 7, B)), []);
    source.handle_drained(drained(7, OTHER));
    assert_eq!(
        source.poll(at(1), |_| READY),
        [NodeStep::Pause { shard: S }]
    );
    source.packed(S, at(1));
    source
}

#[test]
fn the_source_drains_pauses_packs_and_ships() {
    let mut source = core(A, HERE);
    assert_eq!(adopt(&mut source, owned(A, 4), moving(A, 4, 7, B)), []);
    assert_eq!(source.poll(at(1), |_| READY), [], "a marker is missing");
    assert!(!source.is_paused(S));
    // One of another move counts for nothing.
    source.handle_drained(drained(6, OTHER));
    assert_eq!(source.poll(at(1), |_| READY), []);
    source.handle_drained(drained(7, OTHER));
    let suspended = Readiness {
        is_suspended: true,
        ..READY
    };
    let pause = [NodeStep::Pause { shard: S }];
    assert_eq!(source.poll(at(1), |_| suspended), pause);
    assert!(source.is_paused(S));
    let lapsed = Readiness {
        is_lapsed: true,
        ..READY
    };
    assert_eq!(source.poll(at(2), |_| lapsed), [], "no hook may run");
    assert_eq!(source.packing().count(), 0);
    assert_eq!(source.poll(at(3), |_| READY), []);
    assert_eq!(source.packing().collect::<Vec<_>>(), [S]);
    assert_eq!(source.due_parts(), []);
    source.packed(S, at(3));
    assert_eq!(phase(&source), Some(NodePhase::Shipping));
    for number in 0..PARTS_UNDER_WAY {
        let due = DuePart {
            shard: S,
            moving: NodeMove { prepared: 7, to: B },
            epoch: Epoch(4),
            attempt: 0,
            number,
        };
        assert_eq!(source.due_parts(), [due]);
        source.part_sent(S, false, at(4));
    }
    assert_eq!(source.due_parts(), [], "that many are under way");
    source.parts_taken(S, (7, 0), (1, false), at(4));
    source.part_sent(S, true, at(4));
    assert_eq!(source.due_parts(), []);
    source.parts_taken(S, (7, 0), (PARTS_UNDER_WAY + 1, true), at(5));
    assert_eq!(phase(&source), Some(NodePhase::Whole));
    assert_eq!(source.next_deadline(), None, "the log has the word");
    let forget = NodeStep::Forget { shard: S, to: B };
    let steps = adopt(&mut source, moving(A, 4, 7, B), owned(B, 5));
    assert_eq!(steps, [forget]);
    assert!(!source.is_busy());
}

#[test]
fn every_other_core_says_that_it_sends_no_more() {
    let mut other = core(A, OTHER);
    let tell = NodeStep::Tell {
        drained: drained(7, OTHER),
        to: HERE,
    };
    assert_eq!(adopt(&mut other, owned(A, 4), moving(A, 4, 7, B)), [tell]);
    let now = moving(A, 4, 7, B);
    assert_eq!(adopt(&mut other, now, now), [], "once");
    assert_eq!(adopt(&mut other, now, owned(A, 4)), []);
    let again = NodeStep::Tell {
        drained: drained(9, OTHER),
        to: HERE,
    };
    assert_eq!(adopt(&mut other, owned(A, 4), moving(A, 4, 9, C)), [again]);
}

#[test]
fn a_shard_between_two_cores_leaves_when_it_has_arrived() {
    let mut source = core(A, HERE);
    let between = ShardNews {
        host: None,
        ..news(owned(A, 4), moving(A, 4, 7, B))
    };
    assert_eq!(source.adopt(between, &members(&[A, B]), at(0)), []);
    assert_eq!(phase(&source), None);
    // The marker of a core that has seen more.
    source.handle_drained(drained(7, OTHER));
    let now = moving(A, 4, 7, B);
    assert_eq!(adopt(&mut source, now, now), []);
    let pause = [NodeStep::Pause { shard: S }];
    assert_eq!(source.poll(at(1), |_| READY), pause, "nobody is awaited");
    assert_eq!(phase(&source), Some(NodePhase::Packing));
}

#[test]
fn it_stays_on_abort_alone_and_nothing_reopens_it_before() {
    let mut source = shipping();
    let late = at(60_000);
    assert_eq!(source.poll(late, |_| READY), []);
    source.link_lost(B, late);
    assert!(source.is_paused(S));
    source.part_sent(S, true, late);
    source.parts_taken(S, (7, 2), (1, true), late);
    assert_eq!(phase(&source), Some(NodePhase::Whole));
    assert_eq!(source.poll(at(120_000), |_| READY), []);
    assert_eq!(source.refuse(S, RefusedWhy::NotMovable), None, "too late");
    let stay = [NodeStep::Stay { shard: S }];
    let steps = adopt(&mut source, moving(A, 4, 7, B), owned(A, 4));
    assert_eq!(steps, stay);
}

#[test]
fn an_abort_and_a_new_move_in_one_are_both_seen() {
    let mut source = shipping();
    let steps = adopt(&mut source, moving(A, 4, 7, B), moving(A, 4, 9, C));
    assert_eq!(steps, [NodeStep::Stay { shard: S }]);
    assert_eq!(phase(&source), Some(NodePhase::Draining));
}

#[test]
fn silence_and_a_broken_connection_begin_a_new_attempt() {
    let mut source = shipping();
    source.part_sent(S, false, at(2));
    source.part_sent(S, false, at(2));
    source.parts_taken(S, (7, 0), (1, false), at(3));
    assert_eq!(source.poll(at(502), |_| READY), []);
    assert_eq!(source.due_parts()[0].number, 2, "it has been heard since");
    let waits = Readiness {
        has_left: false,
        ..READY
    };
    assert_eq!(source.poll(at(503), |_| waits), []);
    assert_eq!(source.due_parts()[0].number, 2, "there is no room");
    assert_eq!(source.poll(at(1_003), |_| READY), []);
    let due = source.due_parts()[0];
    assert_eq!((due.attempt, due.number), (1, 0));
    source.part_sent(S, true, at(504));
    source.parts_taken(S, (7, 0), (2, false), at(504));
    source.link_lost(C, at(505));
    assert_eq!(source.due_parts(), []);
    source.link_lost(B, at(505));
    assert_eq!(source.due_parts()[0].attempt, 2);
    // The target says that it has all of an earlier attempt.
    source.parts_taken(S, (7, 1), (1, true), at(506));
    assert_eq!(phase(&source), Some(NodePhase::Whole));
}

#[test]
fn a_part_that_cannot_be_written_is_tried_later_and_later() {
    let mut source = shipping();
    assert_eq!(
        source.clone().part_failed(S, at(1)),
        Some(report(7, Err(RefusedWhy::NotMovable)))
    );
    source.part_sent(S, true, at(1));
    source.link_lost(B, at(1));
    let (mut now, mut pauses) = (at(1), Vec::new());
    for _ in 0..3 {
        assert_eq!(source.due_parts().len(), 1);
        assert_eq!(source.part_failed(S, now), None, "its target may have it");
        assert_eq!(source.due_parts(), [], "every turn");
        let due = source.next_deadline().unwrap();
        pauses.push(due - now);
        now = due;
        assert_eq!(source.poll(now, |_| READY), []);
    }
    assert_eq!(pauses, [1, 2, 4].map(Duration::from_secs));
}

/// Whether a core keeps markers of moves that it has not adopted.
fn keeps_early(core: &NodeHandoff) -> bool {
    !format!("{core:?}").contains("early: {}")
}

#[test]
fn markers_that_come_early_are_kept_as_long_as_their_move_may_come() {
    let mut source = core(A, HERE);
    // Of a move that this core has yet to hear of, when it hears of the one before.
    source.handle_drained(drained(9, OTHER));
    assert_eq!(adopt(&mut source, owned(A, 4), moving(A, 4, 7, B)), []);
    let stays = [NodeStep::Stay { shard: S }];
    assert_eq!(
        adopt(&mut source, moving(A, 4, 7, B), moving(A, 4, 9, C)),
        stays
    );
    assert_eq!(
        source.poll(at(1), |_| READY),
        [NodeStep::Pause { shard: S }]
    );
    assert!(!keeps_early(&source));
    // Of one that has come and gone while the shard was on another core of this node.
    let mut other = core(A, OTHER);
    other.handle_drained(drained(7, HERE));
    let _ = adopt(&mut other, owned(A, 4), moving(A, 4, 7, B));
    assert!(keeps_early(&other));
    assert_eq!(adopt(&mut other, moving(A, 4, 7, B), owned(A, 4)), []);
    assert!(!keeps_early(&other));
}

#[test]
fn what_cannot_leave_is_refused_once() {
    let stuck: [(Readiness, bool, RefusedWhy); 3] = [
        (READY, false, RefusedWhy::AwaitingLast(OTHER)),
        (
            Readiness {
                is_suspended: true,
                ..READY
            },
            true,
            RefusedWhy::Suspended,
        ),
        (
            Readiness {
                is_movable: false,
                ..READY
            },
            true,
            RefusedWhy::NotMovable,
        ),
    ];
    for (readiness, is_drained, why) in stuck {
        let mut source = core(A, HERE);
        assert_eq!(adopt(&mut source, owned(A, 4), moving(A, 4, 7, B)), []);
        if is_drained {
            source.handle_drained(drained(7, OTHER));
        }
        let mut steps = source.poll(at(1), |_| readiness);
        steps.extend(source.poll(at(2_000), |_| readiness));
        assert_eq!(steps.last(), Some(&report(7, Err(why))));
        assert_eq!(source.poll(at(9_000), |_| READY), [], "{why:?}");
        let stay = [NodeStep::Stay { shard: S }];
        let steps = adopt(&mut source, moving(A, 4, 7, B), owned(A, 4));
        assert_eq!(steps, stay);
    }
}

#[test]
fn a_shard_that_is_taken_away_ends_whatever_has_become_of_it() {
    let lost = |epoch: u64, fence: u64, owner: Option<NodeId>| ShardOwner {
        owner,
        epoch: Epoch(epoch),
        fence: Epoch(fence),
        moving: None,
    };
    let lose = |was_shipped| NodeStep::Lose {
        shard: S,
        was_shipped,
    };
    for (now, expected) in [
        // Taken from this node, before it could be another's.
        (lost(4, 5, None), lose(false)),
        (lost(5, 5, Some(C)), lose(false)),
        // It was B's, which is dead by now: it may have handled anything.
        (lost(5, 6, None), lose(true)),
        (lost(6, 6, Some(A)), lose(true)),
    ] {
        let mut source = shipping();
        source.part_sent(S, true, at(2));
        assert_eq!(adopt(&mut source, moving(A, 4, 7, B), now), [expected]);
    }
    // What was never shipped as a whole has been handled nowhere.
    let mut source = shipping();
    let steps = adopt(&mut source, moving(A, 4, 7, B), lost(6, 6, None));
    assert_eq!(steps, [lose(false)]);
    let mut owner = core(A, HERE);
    let steps = adopt(&mut owner, owned(A, 4), lost(4, 5, None));
    assert_eq!(steps, [lose(false)]);
}

#[test]
fn the_target_keeps_parts_in_order_and_opens_on_own_alone() {
    let mut target = core(B, HERE);
    let now = moving(A, 4, 7, B);
    let taken = |keep, next, is_whole| Taken {
        keep,
        answer: Some((next, is_whole)),
    };
    let nothing = Taken {
        keep: None,
        answer: None,
    };
    // It does not know of the move yet.
    let early = target.part_arrived(S, owned(A, 4), (7, 0), (0, false));
    assert_eq!(early, (nothing, None));
    assert_eq!(adopt(&mut target, owned(A, 4), now), []);
    let mut part = |attempt, number, is_last| {
        let (taken, step) = target.part_arrived(S, now, (7, attempt), (number, is_last));
        (taken, step.is_some())
    };
    assert_eq!(
        part(0, 0, false),
        (taken(Some(Keep::Anew), 1, false), false)
    );
    assert_eq!(part(0, 0, false), (taken(None, 1, false), false), "again");
    assert_eq!(part(0, 2, true), (taken(None, 1, false), false), "a gap");
    assert_eq!(
        part(2, 0, false),
        (taken(Some(Keep::Anew), 1, false), false)
    );
    assert_eq!(part(1, 0, false), (nothing, false), "it is over");
    assert_eq!(part(2, 1, true), (taken(Some(Keep::Behind), 2, true), true));
    // The source has not heard of it.
    assert_eq!(part(3, 0, false), (taken(None, 2, true), false));
    assert_eq!(target.poll(at(99_000), |_| READY), []);
    let mut aborted = target.clone();
    let discard = [NodeStep::Discard { shard: S }];
    assert_eq!(adopt(&mut aborted, now, owned(A, 4)), discard);
    let mut dead = target.clone();
    let taken_away = ShardOwner {
        fence: Epoch(5),
        ..owned(B, 5)
    };
    assert_eq!(adopt(&mut dead, now, taken_away), discard, "it starts anew");
    let open = [NodeStep::Open { shard: S }];
    assert_eq!(adopt(&mut target, now, owned(B, 5)), open);
}

#[test]
fn who_has_sent_to_the_past_owner_holds_until_its_marker_is_back() {
    let mut sender = core(C, HERE);
    let used = |before, now| ShardNews {
        streams: &[HERE],
        ..news(before, now)
    };
    let all = members(&[A, B, C]);
    let flush = NodeStep::Flush {
        shard: S,
        via: A,
        epoch: Epoch(4),
        stream: HERE,
        token: 1,
    };
    let steps = sender.adopt(used(owned(A, 4), owned(B, 5)), &all, at(0));
    assert_eq!(steps, [flush]);
    assert!(sender.is_flushing(S));
    assert_eq!(sender.poll(at(499), |_| READY), []);
    assert_eq!(sender.poll(at(500), |_| READY), [flush], "again");
    // The next owner changes nothing: what was sent goes by the first.
    assert_eq!(adopt(&mut sender, owned(B, 5), owned(A, 6)), []);
    assert_eq!(sender.marker_passed(S, 2), []);
    let release = [NodeStep::Release { shard: S }];
    assert_eq!(sender.marker_passed(S, 1), release);
    assert_eq!(sender.marker_passed(S, 1), []);
    // One that has got it back sends on what came there before by those that had it between.
    let steps = sender.adopt(used(owned(A, 9), owned(A, 11)), &all, at(0));
    assert!(matches!(
        steps[..],
        [NodeStep::Flush {
            via: A,
            token: 3,
            ..
        }]
    ));
    assert_eq!(sender.marker_passed(S, 3), release);
    // Who has sent nothing waits for nothing.
    assert_eq!(adopt(&mut sender, owned(A, 4), owned(B, 5)), []);
}

#[test]
fn a_node_gives_nothing_away_whose_past_owner_it_still_flushes() {
    for me in [HERE, OTHER] {
        let mut core = core(B, me);
        let used = ShardNews {
            streams: &[HERE],
            ..news(moving(A, 4, 7, B), owned(B, 5))
        };
        let steps = core.adopt(used, &members(&[A, B, C]), at(0));
        assert_eq!(steps.len(), 1);
        assert_eq!(adopt(&mut core, owned(B, 5), moving(B, 5, 9, C)), []);
        core.handle_drained(drained(9, OTHER));
        assert_eq!(core.poll(at(1), |_| READY), []);
        let passed = core.marker_passed(S, 1);
        let release = NodeStep::Release { shard: S };
        let tell = NodeStep::Tell {
            drained: drained(9, me),
            to: HERE,
        };
        if me == HERE {
            assert_eq!(passed, [release]);
            let pause = [NodeStep::Pause { shard: S }];
            assert_eq!(core.poll(at(1), |_| READY), pause);
            assert_eq!(core.packing().collect::<Vec<_>>(), [S]);
        } else {
            assert_eq!(passed, [release, tell]);
        }
    }
}

/// A source and a target with a network between them that loses, repeats and reorders, and a log that decides at any time:
/// the target opens exactly if the log says so, with all parts of one attempt in order, and the source keeps the shard
/// exactly if it does not.
#[test]
fn whatever_gets_lost_the_log_decides() {
    use crate::base::rng::seeded;
    use rand::RngExt;
    let (mut owns, mut aborts) = (0, 0);
    for seed in 0..2_000 {
        let mut rng = seeded(seed, 1);
        let (mut source, mut target) = (shipping(), core(B, HERE));
        let begun = moving(A, 4, 7, B);
        let parts = rng.random_range(1..30);
        let (mut to_target, mut to_source) = (Vec::new(), Vec::new());
        let mut freight: Vec<(u32, u32)> = Vec::new();
        let mut now = 1;
        let mut knows = false;
        let mut arrived = false;
        let end = loop {
            now += rng.random_range(0..40);
            assert!(now < 1_000_000, "seed {seed}: it does not arrive");
            let steps = source.poll(at(now), |_| READY);
            assert_eq!(steps, []);
            for due in source.due_parts() {
                let is_last = due.number + 1 == parts;
                to_target.push((due.attempt, due.number, is_last));
                source.part_sent(S, is_last, at(now));
            }
            if !knows && rng.random_bool(0.2) {
                assert_eq!(adopt(&mut target, owned(A, 4), begun), []);
                knows = true;
            }
            if rng.random_ratio(1, 30) {
                source.link_lost(B, at(now));
                to_target.clear();
            }
            for _ in 0..rng.random_range(0..4) {
                if to_target.is_empty() {
                    break;
                }
                let at = match rng.random_ratio(1, 20) {
                    true => rng.random_range(0..to_target.len()),
                    false => 0,
                };
                let (attempt, number, is_last) = to_target.remove(at);
                if rng.random_ratio(1, 30) {
                    continue;
                }
                let is = if knows { begun } else { owned(A, 4) };
                let part = (number, is_last);
                let (taken, step) = target.part_arrived(S, is, (7, attempt), part);
                if let Some(keep) = taken.keep {
                    if keep == Keep::Anew {
                        freight.clear();
                    }
                    freight.push((attempt, number));
                }
                if let Some(answer) = taken.answer {
                    to_source.push((attempt, answer));
                }
                arrived |= step == Some(report(7, Ok(())));
            }
            for (attempt, answer) in to_source.drain(..) {
                if rng.random_ratio(9, 10) {
                    source.parts_taken(S, (7, attempt), answer, at(now));
                }
            }
            match (arrived, rng.random_range(0..60)) {
                (true, 0) => break true,
                (_, 1) if seed % 3 == 0 => break false,
                _ => {}
            }
        };
        let is = if end { owned(B, 5) } else { owned(A, 4) };
        let steps = adopt(&mut source, begun, is);
        let at_target = if knows {
            adopt(&mut target, begun, is)
        } else {
            Vec::new()
        };
        if end {
            owns += 1;
            assert_eq!(steps, [NodeStep::Forget { shard: S, to: B }], "{seed}");
            assert_eq!(at_target, [NodeStep::Open { shard: S }], "{seed}");
            let attempt = freight[0].0;
            let whole: Vec<(u32, u32)> = (0..parts).map(|number| (attempt, number)).collect();
            assert_eq!(freight, whole, "seed {seed}");
        } else {
            aborts += 1;
            assert_eq!(steps, [NodeStep::Stay { shard: S }], "{seed}");
            assert!(!at_target.contains(&NodeStep::Open { shard: S }), "{seed}");
        }
    }
    assert!(owns > 500 && aborts > 100, "{owns} {aborts}");
}
