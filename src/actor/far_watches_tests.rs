//! What is remembered of watches between nodes.

use super::far_watches::{Due, FarWatches, Owed, Placed, There};
use crate::base::ids::{CoreId, Epoch, Incarnation, NodeId, ShardId};
use crate::base::time::Time;
use crate::wire::address::Life;
use std::collections::BTreeMap;
use std::time::Duration;

const ME: CoreId = CoreId(3);
const THEM: Life = Life::new(NodeId(7), Incarnation(2));

fn actor(core: u16) -> Placed {
    Placed {
        life: THEM,
        there: There::Actor(CoreId(core)),
    }
}

fn all_due(far: &mut FarWatches) -> Vec<Due> {
    std::iter::from_fn(|| far.next_due(ME, THEM)).collect()
}

#[test]
fn what_was_announced_is_announced_again_in_a_new_round_when_it_may_be_lost() {
    let mut far = FarWatches::default();
    for number in 1..4 {
        assert_eq!(far.place(number, actor(0), true), Some(0));
    }
    far.remove(2);
    assert!(far.is_quiet());
    far.broken(THEM);
    assert_eq!(far.round(THEM), None, "all of the round is over anyway");
    // Meanwhile one more is announced, which has its turn.
    assert_eq!(far.place(9, actor(1), true), None);
    let again = [Due::Forget(1), Due::Watch(1), Due::Watch(3), Due::Watch(9)];
    assert_eq!(all_due(&mut far), again);
    assert!(far.is_quiet());
    assert_eq!((far.round(THEM), far.present_round(THEM)), (Some(1), 1));
    // What was lost of that is said once more, even if there is no watch left: somebody has to forget them.
    for number in [1, 3, 9] {
        far.remove(number);
    }
    far.broken(THEM);
    assert_eq!(all_due(&mut far), [Due::Forget(2)]);
    assert!(far.is_quiet());
}

#[test]
fn nobody_is_bothered_where_there_was_nothing() {
    let mut far = FarWatches::default();
    far.broken(THEM);
    assert!(far.is_quiet());
    assert_eq!(all_due(&mut far), []);
    far.asked_again(THEM, None);
    assert!(far.is_quiet());
}

/// A member may give itself any number of lives.
#[test]
fn lives_to_which_nothing_was_announced_leave_nothing_behind() {
    let mut far = FarWatches::default();
    assert_eq!(far.place(1, actor(0), true), Some(0));
    for incarnation in (3..100).map(Incarnation) {
        far.asked_again(Life::new(THEM.node, incarnation), None);
    }
    assert!(far.is_quiet());
    far.asked_again(THEM, None);
    assert_eq!(all_due(&mut far), [Due::Watch(1)]);
}

#[test]
fn ends_that_wait_keep_their_order_and_survive_a_broken_connection() {
    let mut far = FarWatches::default();
    let owed = |number| Owed {
        core: CoreId(0),
        number,
        cause: None,
    };
    far.has_watcher(THEM);
    assert!(far.owes_nothing(THEM));
    far.owe(THEM, owed(1), ME, 2);
    far.owe(THEM, owed(2), ME, 2);
    assert!(!far.owes_nothing(THEM));
    assert_eq!(far.next_due(ME, THEM), Some(Due::Terminated(owed(1))));
    far.broken(THEM);
    let rest = [Due::Rewatch(Some(ME)), Due::Terminated(owed(2))];
    assert_eq!(all_due(&mut far), rest);
}

#[test]
fn only_those_of_a_core_are_announced_again_and_entities_whose_core_is_not_known() {
    let mut far = FarWatches::default();
    far.place(1, actor(0), true);
    far.place(2, actor(1), true);
    let entity = Placed {
        life: THEM,
        there: There::Shard(Epoch(4)),
    };
    far.add_entity(3, (0, ShardId(5)));
    far.place(3, entity, true);
    far.asked_again(THEM, Some(CoreId(1)));
    assert_eq!(all_due(&mut far), [Due::Watch(2), Due::Watch(3)]);
    far.asked_again(THEM, Some(CoreId(1)));
    far.asked_again(THEM, Some(CoreId(0)));
    let all = [Due::Watch(1), Due::Watch(2), Due::Watch(3)];
    assert_eq!(all_due(&mut far), all);
    assert_eq!(far.of_shard((0, ShardId(5))), [3]);
}

/// A frame that comes late over an old connection begins nothing; rounds go round.
#[test]
fn frames_of_a_round_that_is_over_are_known_as_such() {
    let mut far = FarWatches::default();
    let core = CoreId(1);
    assert!(!far.is_stale(THEM, core, 0));
    assert!(far.begin_round(THEM, core, 2));
    assert!(far.is_stale(THEM, core, 1));
    assert!(!far.is_stale(THEM, core, 2));
    assert!(!far.is_stale(THEM, CoreId(0), 0));
    assert!(!far.begin_round(THEM, core, 1));
    assert!(far.begin_round(THEM, core, 30_000));
    assert!(far.begin_round(THEM, core, 60_000));
    assert!(far.begin_round(THEM, core, 3));
    assert!(far.is_stale(THEM, core, 60_000));
}

#[test]
fn a_core_that_dies_is_said_to_all_and_again_when_that_may_be_lost() {
    let mut far = FarWatches::default();
    let dead = CoreId(0);
    far.core_died(dead, [THEM].into_iter());
    assert_eq!(all_due(&mut far), [Due::Rewatch(Some(dead))]);
    far.core_died(dead, [THEM].into_iter());
    assert_eq!(all_due(&mut far), []);
    far.broken(THEM);
    let both = [Due::Rewatch(Some(dead)), Due::Rewatch(Some(ME))];
    assert_eq!(all_due(&mut far), both);
}

#[test]
fn who_was_on_a_node_that_is_no_member_any_more_has_gone() {
    let mut far = FarWatches::default();
    let (now, node) = (Time::from_nanos(5), THEM.node);
    let members = |incarnation| BTreeMap::from([(node, Incarnation(incarnation))]);
    assert_eq!(far.meet(&members(2), true, now), []);
    assert!(far.was_member(THEM));
    assert!(far.was_member(Life::new(node, Incarnation(1))));
    assert!(!far.was_member(Life::new(node, Incarnation(3))));
    far.place(1, actor(0), true);
    far.place(2, actor(0), true);
    assert_eq!(far.meet(&members(2), true, now), []);
    assert!(far.gone(|_| true).is_empty());
    // A new life of it is another node.
    assert_eq!(far.meet(&members(3), true, now), [THEM]);
    assert_eq!(far.gone(|since| since == now), [1, 2]);
    assert!(far.is_gone(1) && far.waits());
    assert_eq!(far.placed(1), None);
    far.remove(1);
    far.remove(2);
    assert!(!far.waits());
    assert_eq!(far.len(), 0);
}

/// Somebody whose watches could not be taken, because it was not known, is told when it is.
#[test]
fn a_life_that_was_turned_away_is_told_once_it_is_a_member() {
    let mut far = FarWatches::default();
    let now = Time::ZERO;
    far.has_dropped(THEM);
    assert_eq!(far.meet(&BTreeMap::new(), true, now), []);
    assert!(far.is_quiet());
    far.meet(&BTreeMap::from([(THEM.node, THEM.incarnation)]), true, now);
    assert_eq!(all_due(&mut far), [Due::Rewatch(None)]);
    // Those that never come again are not kept.
    let old = Life::new(NodeId(8), Incarnation(1));
    far.has_dropped(old);
    far.meet(&BTreeMap::from([(old.node, Incarnation(2))]), true, now);
    far.meet(&BTreeMap::from([(old.node, old.incarnation)]), true, now);
    assert_eq!(far.next_due(ME, old), None);
}

/// A peer that takes nothing costs no more than the watches that it may have.
#[test]
fn ends_that_wait_give_way_to_a_question_when_there_are_too_many() {
    let mut far = FarWatches::default();
    let owed = |number| Owed {
        core: CoreId(0),
        number,
        cause: None,
    };
    for number in 0..7 {
        far.owe(THEM, owed(number), ME, 3);
    }
    // Those before there were too many are asked for.
    let rest = [4, 5, 6].map(|number| Due::Terminated(owed(number)));
    let due = [&[Due::Rewatch(Some(ME))], &rest[..]].concat();
    assert_eq!(all_due(&mut far), due);
    far.owe(THEM, owed(7), ME, 3);
    assert_eq!(all_due(&mut far), [Due::Terminated(owed(7))]);
}

#[test]
fn who_is_not_taken_is_announced_less_and_less_often() {
    let mut far = FarWatches::default();
    let mut now = Time::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        far.bounced(1, now);
        let before = now;
        while far.late(now).is_empty() {
            now = now + Duration::from_millis(100);
        }
        pauses.push((now - before).as_millis());
        far.place(1, actor(0), true);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    // One that was taken for a while begins anew.
    now = now + Duration::from_secs(60);
    far.bounced(1, now);
    assert_eq!(far.late(now + Duration::from_millis(100)), [(1, now)]);
    far.remove(1);
    assert!(!far.waits());
}

/// It has been declared down, and comes back; they have not gone for that.
#[test]
fn who_is_no_member_says_of_nobody_that_it_has_gone() {
    let mut far = FarWatches::default();
    let now = Time::from_nanos(5);
    let members = BTreeMap::from([(THEM.node, THEM.incarnation)]);
    far.meet(&members, true, now);
    far.place(1, actor(0), true);
    assert_eq!(far.meet(&BTreeMap::new(), false, now), [THEM]);
    assert!(!far.is_gone(1));
    assert_eq!(far.late(now), [(1, now)]);
    far.wait_for_life(1, now + Duration::from_secs(1));
    assert_eq!(far.late(now), []);
    far.remove(1);
    assert_eq!((far.len(), far.waits()), (0, false));
}
