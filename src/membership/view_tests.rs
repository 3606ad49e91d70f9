//! What the log can say of members, and what follows.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::change::{Change, ChangeError, Join};
use super::event::MemberEvent;
use super::view::{MAX_REMEMBERED_DOWN, Member, MemberState, View};
use crate::base::ids::{Incarnation, NodeId};

fn join_at(node: u32, host: u32) -> Change {
    Change::Join(Join {
        node: NodeId(node),
        address: format!("10.0.{}.{}:7000", host / 250, host % 250 + 1)
            .parse()
            .unwrap(),
        roles: vec![
            if node.is_multiple_of(2) {
                "even"
            } else {
                "odd"
            }
            .into(),
        ],
        data_cores: 2,
    })
}

fn join(node: u32) -> Change {
    join_at(node, node)
}

type Step = fn(NodeId, Incarnation) -> Change;
const UP: Step = |node, incarnation| Change::Up { node, incarnation };
const LEAVE: Step = |node, incarnation| Change::Leave { node, incarnation };
const LEFT: Step = |node, incarnation| Change::Left { node, incarnation };
const DOWN: Step = |node, incarnation| Change::Down { node, incarnation };
const REMOVE: Step = |node, incarnation| Change::Remove { node, incarnation };

struct Log {
    view: View,
    events: Vec<MemberEvent>,
}

impl Log {
    fn new() -> Log {
        Log {
            view: View::new(NodeId(1)),
            events: Vec::new(),
        }
    }

    fn of(nodes: impl IntoIterator<Item = u32>) -> Log {
        let mut log = Log::new();
        for node in nodes {
            log.apply(&join(node)).unwrap();
            log.step(node, UP).unwrap();
        }
        log.events.clear();
        log
    }

    fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.view.apply(change, &mut self.events)
    }

    fn step(&mut self, node: u32, step: Step) -> Result<(), ChangeError> {
        let member = self.view.member(NodeId(node));
        let incarnation = member.map_or(Incarnation(0), |member| member.incarnation);
        self.apply(&step(NodeId(node), incarnation))
    }

    fn say(&mut self, node: u32, by: u32, reaches: bool) {
        let (node, by) = (NodeId(node), NodeId(by));
        let incarnation = self.view.member(node).unwrap().incarnation;
        let change = if reaches {
            Change::Reachable {
                node,
                incarnation,
                by,
            }
        } else {
            Change::Unreachable {
                node,
                incarnation,
                by,
            }
        };
        self.apply(&change).unwrap();
    }

    /// The events since the last call, each with its node.
    fn events(&mut self) -> Vec<(&'static str, u32)> {
        let shown = |event| match event {
            MemberEvent::Up(event) => ("up", event.member.node.0),
            MemberEvent::Left(event) => ("left", event.member.node.0),
            MemberEvent::Down(event) => ("down", event.member.node.0),
            MemberEvent::Unreachable(event) => ("unreachable", event.member.node.0),
            MemberEvent::Reachable(event) => ("reachable", event.member.node.0),
        };
        self.events.drain(..).map(shown).collect()
    }

    fn ids<'a>(&'a self, members: impl Iterator<Item = &'a Member>) -> Vec<u32> {
        members.map(|member| member.node.0).collect()
    }
}

#[test]
fn a_life_goes_its_way_and_says_so() {
    let mut log = Log::new();
    log.apply(&join(1)).unwrap();
    assert_eq!(log.view.self_node().unwrap().state, MemberState::Joining);
    assert_eq!(log.events(), []);
    log.step(1, UP).unwrap();
    log.step(1, LEAVE).unwrap();
    log.step(1, LEFT).unwrap();
    assert_eq!(log.events(), [("up", 1), ("left", 1)]);
    assert!(log.view.self_node().is_none());
    log.apply(&join(1)).unwrap();
    assert_eq!(log.view.self_node().unwrap().incarnation, Incarnation(2));
    log.step(1, DOWN).unwrap();
    log.step(1, REMOVE).unwrap();
    assert_eq!(log.events(), [("down", 1)]);
    assert_eq!(log.view.version(), 7);
}

/// Every state with every change, as the table at [`MemberState`] says.
#[test]
fn the_table_of_states_holds() {
    use MemberState::{Down, Joining, Leaving, Removed, Up};
    let states: [(MemberState, &[Step]); 4] = [
        (Joining, &[]),
        (Up, &[UP]),
        (Leaving, &[LEAVE]),
        (Down, &[DOWN]),
    ];
    // What becomes of it; `None` where the change is refused.
    let table: [(Step, [Option<MemberState>; 4]); 5] = [
        (UP, [Some(Up), Some(Up), None, None]),
        (LEAVE, [Some(Leaving), Some(Leaving), Some(Leaving), None]),
        (LEFT, [None, None, Some(Removed), None]),
        (DOWN, [Some(Down); 4]),
        (REMOVE, [None, None, None, Some(Removed)]),
    ];
    for (column, (state, way)) in states.iter().enumerate() {
        for (change, expected) in &table {
            let mut log = Log::new();
            log.apply(&join(1)).unwrap();
            for step in *way {
                log.step(1, *step).unwrap();
            }
            let before = log.view.clone();
            let applied = log.step(1, *change);
            let after = log.view.self_node().map_or(Removed, |me| me.state);
            match expected[column] {
                Some(expected) => assert_eq!((applied, after), (Ok(()), expected)),
                None => {
                    assert!(
                        matches!(applied, Err(ChangeError::WrongState { state: s, .. }) if s == *state)
                    );
                    assert_eq!(log.view, before);
                }
            }
            let changed = after != *state;
            assert_eq!(log.view.version() - before.version(), u64::from(changed));
        }
    }
}

#[test]
fn two_live_holders_of_an_id_are_refused_with_both_addresses() {
    let mut log = Log::of([1, 2]);
    let version = log.view.version();
    let refused = log.apply(&join_at(2, 9)).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, ChangeError::NodeIdTaken { .. }), "{text}");
    assert!(text.contains("10.0.0.3:7000") && text.contains("10.0.0.10:7000"));
    let refused = log.apply(&join_at(3, 2)).unwrap_err();
    assert!(matches!(
        refused,
        ChangeError::AddressTaken {
            holder: NodeId(2),
            ..
        }
    ));
    // A restart has to wait until its previous life is over.
    let refused = log.apply(&join(2)).unwrap_err();
    let incarnation = Incarnation(2);
    assert!(
        matches!(refused, ChangeError::PreviousLife { incarnation: i, .. } if i == incarnation)
    );
    assert_eq!(log.view.version(), version);
    log.step(2, DOWN).unwrap();
    log.apply(&join_at(2, 9)).unwrap();
    assert_eq!(
        log.view.member(NodeId(2)).unwrap().incarnation,
        Incarnation(3)
    );
}

#[test]
fn a_join_that_makes_no_sense_says_why() {
    let mut log = Log::new();
    type Spoil = fn(&mut Join);
    let cases: [(&str, Spoil); 5] = [
        ("node id is 0", |join| join.node = NodeId(0)),
        ("address", |join| {
            join.address = "0.0.0.0:1".parse().unwrap()
        }),
        ("address", |join| {
            join.address = "10.0.0.1:0".parse().unwrap()
        }),
        ("roles", |join| join.roles = vec![String::new()]),
        ("roles", |join| join.roles = vec!["r".into(); 33]),
    ];
    for (part, spoil) in cases {
        let Change::Join(mut request) = join(1) else {
            unreachable!()
        };
        spoil(&mut request);
        let refused = log.apply(&Change::Join(request)).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert_eq!(log.view, View::new(NodeId(1)));
    let last = Incarnation(u32::MAX);
    log.view = View::from_snapshot(NodeId(1), 5, last, [], BTreeMap::new());
    assert!(log.apply(&join(1)).is_err());
}

#[test]
fn a_dead_life_never_returns() {
    let mut log = Log::of([1, 2, 3]);
    let old = Incarnation(2);
    assert!(!log.view.has_ended(NodeId(2), old));
    log.step(2, DOWN).unwrap();
    assert!(log.view.has_ended(NodeId(2), old));
    log.apply(&join(2)).unwrap();
    for step in [UP, LEAVE, DOWN, REMOVE] {
        let refused = log.apply(&step(NodeId(2), old)).unwrap_err();
        let node = NodeId(2);
        let incarnation = old;
        assert_eq!(refused, ChangeError::NotCurrent { node, incarnation });
    }
    assert!(log.view.has_ended(NodeId(2), old));
    assert!(!log.view.has_ended(NodeId(2), Incarnation(4)));
    // What this node has not seen yet has not ended.
    assert!(!log.view.has_ended(NodeId(9), Incarnation(5)));
    assert!(log.view.has_ended(NodeId(9), Incarnation(4)));
}

#[test]
fn words_of_observers_add_up_and_go_with_them() {
    let mut log = Log::of(1..=4);
    log.say(4, 1, false);
    log.say(4, 2, false);
    log.say(4, 2, false);
    log.say(3, 4, false);
    assert_eq!(log.events(), [("unreachable", 4), ("unreachable", 3)]);
    log.say(4, 1, true);
    assert_eq!(log.events(), []);
    log.say(4, 2, true);
    assert_eq!(log.events(), [("reachable", 4)]);
    // Strangers, and a node about itself, have no say.
    let version = log.view.version();
    log.say(4, 4, false);
    log.say(4, 77, false);
    assert_eq!(log.view.version(), version);
    // Who is dead reaches nobody, and that says nothing.
    log.step(4, DOWN).unwrap();
    assert_eq!(log.events(), [("down", 4), ("reachable", 3)]);
    assert!(log.view.member(NodeId(4)).unwrap().is_reachable());
}

#[test]
fn questions_are_answered() {
    let mut log = Log::of(1..=3);
    log.apply(&join(4)).unwrap();
    log.apply(&join(6)).unwrap();
    log.step(6, UP).unwrap();
    log.step(6, DOWN).unwrap();
    let view = &log.view;
    assert_eq!(log.ids(view.members()), [1, 2, 3, 4, 6]);
    assert_eq!(log.ids(view.live()), [1, 2, 3, 4]);
    assert_eq!(log.ids(view.up()), [1, 2, 3]);
    assert_eq!(log.ids(view.up_with_role("odd")), [1, 3]);
    assert!(view.has_up(0) && view.has_up(3) && !view.has_up(4));
    assert!(view.is_ready(3) && !view.is_ready(4));
    let stranger = View::from_snapshot(
        NodeId(9),
        view.version(),
        view.last_incarnation(),
        view.members().cloned(),
        BTreeMap::new(),
    );
    assert!(!stranger.is_ready(1) && stranger.has_up(3));
    assert_eq!(stranger.self_node(), None);
}

#[test]
fn so_many_dead_are_remembered() {
    let mut view = View::new(NodeId(1));
    let mut events = Vec::new();
    let most = MAX_REMEMBERED_DOWN as u32;
    for id in 1..=most + 2 {
        let (node, incarnation) = (NodeId(id), Incarnation(id));
        let join = Join {
            node,
            address: format!("10.0.0.1:{}", 1 + id % 60_000).parse().unwrap(),
            roles: vec![],
            data_cores: 1,
        };
        for change in [
            Change::Join(join),
            Change::Down { node, incarnation },
            Change::Remove { node, incarnation },
        ] {
            view.apply(&change, &mut events).unwrap();
        }
    }
    let down = view.down();
    assert_eq!(down.len(), MAX_REMEMBERED_DOWN);
    assert_eq!(down.first_key_value(), Some((&NodeId(3), &Incarnation(3))));
    // Of those that are back it is the last life that counts.
    let change = Change::Join(Join {
        node: NodeId(3),
        address: "10.0.0.1:1".parse().unwrap(),
        roles: vec![],
        data_cores: 1,
    });
    view.apply(&change, &mut events).unwrap();
    let incarnation = Incarnation(most + 3);
    assert_eq!(view.down().get(&NodeId(3)), Some(&Incarnation(3)));
    let node = NodeId(3);
    view.apply(&Change::Down { node, incarnation }, &mut events)
        .unwrap();
    assert_eq!(view.down().get(&NodeId(3)), Some(&incarnation));
    assert_eq!(view.down().len(), MAX_REMEMBERED_DOWN);
}

#[test]
fn neighbours_on_the_ring_are_four_each_side_and_mutual() {
    for n in [1, 2, 3, 8, 9, 10, 30] {
        let log = Log::of((1..=n).map(|node| node * 7));
        for member in log.view.live() {
            let neighbours = log.view.ring_neighbours(member.node);
            assert_eq!(neighbours.len() as u32, (n - 1).min(8));
            for neighbour in &neighbours {
                let back = log.view.ring_neighbours(*neighbour);
                assert!(back.contains(&member.node), "{} of {n}", member.node);
            }
        }
    }
    let mut log = Log::of(1..=20);
    log.step(2, DOWN).unwrap();
    let expected = [17, 18, 19, 20, 3, 4, 5, 6].map(NodeId).into();
    assert_eq!(log.view.ring_neighbours(NodeId(1)), expected);
}

proptest! {
    /// Whatever the log says: no incarnation is given out twice, no life that has ended is a member's again, versions
    /// grow by one, and every up is followed by at most one end.
    #[test]
    fn lives_end_once(steps in prop::collection::vec((1_u32..5, 0_u32..9, 0_usize..8, 1_u32..5), 1..120)) {
        let mut log = Log::new();
        let mut ended = std::collections::BTreeSet::new();
        for (node, host, what, by) in steps {
            let before = log.view.clone();
            let changes = [UP, LEAVE, LEFT, DOWN, REMOVE];
            let applied = match what {
                0 => log.apply(&join_at(node, host)),
                6 | 7 if log.view.member(NodeId(node)).is_some() => {
                    log.say(node, by, what == 7);
                    Ok(())
                }
                _ => log.step(node, changes[what.clamp(1, 5) - 1]),
            };
            let (old, new) = (before.version(), log.view.version());
            prop_assert!(new == old || new == old + 1);
            if applied.is_err() {
                prop_assert_eq!(&log.view, &before);
            }
            for member in before.live() {
                let life = (member.node, member.incarnation);
                let now = log.view.member(member.node).filter(|m| m.is_live());
                if now.is_none_or(|now| now.incarnation != member.incarnation) {
                    prop_assert!(ended.insert(life), "{:?} ended twice", life);
                }
            }
            for (node, incarnation) in &ended {
                prop_assert!(log.view.has_ended(*node, *incarnation));
            }
            for member in log.view.live() {
                prop_assert!(!log.view.has_ended(member.node, member.incarnation));
                let is_live = |by: &NodeId| log.view.member(*by).is_some_and(Member::is_live);
                prop_assert!(member.unreachable_by.iter().all(is_live));
            }
        }
    }
}
