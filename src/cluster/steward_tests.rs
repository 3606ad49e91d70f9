//! What the leader's housekeeping leads to, in virtual time.

use std::time::Duration;

use proptest::prelude::*;

use super::command::Command;
use super::state_tests::{Log, join, key, leave};
use super::steward::{Steward, StewardSettings};
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::membership::change::Change;
use crate::membership::view::MemberState;
use crate::sharding::ownership::OwnershipCommand;

/// A leader with its log. Moves arrive as soon as they begin, unless the target is said to be stuck.
struct Cluster {
    log: Log,
    steward: Steward,
    now: Time,
    stuck: bool,
    lost: u32,
    most_moves: usize,
    commands: usize,
}

impl Cluster {
    fn new(nodes: u32, shards: u32, settings: StewardSettings) -> Cluster {
        Cluster {
            log: Log::with(nodes, shards),
            steward: Steward::new(settings, Time::ZERO),
            now: Time::ZERO,
            stuck: false,
            lost: 0,
            most_moves: 0,
            commands: 0,
        }
    }

    fn want_all(&mut self) {
        let shards: Vec<_> = self
            .log
            .state
            .ownership()
            .iter()
            .map(|(key, _)| key)
            .collect();
        for shard in shards {
            self.steward.want(&self.log.state, shard);
        }
    }

    /// One look, and what comes of it.
    fn look(&mut self) -> usize {
        let commands = self.steward.look(&self.log.state, self.now);
        let count = commands.len();
        let next = self.steward.next_deadline();
        assert!(
            next.is_none_or(|next| next > self.now),
            "it would look all the time"
        );
        self.commands += count;
        for command in commands {
            if self.lost > 0 {
                self.lost -= 1;
                continue;
            }
            self.log.apply(&command).unwrap();
        }
        self.most_moves = self
            .most_moves
            .max(self.log.state.ownership().moves().count());
        if !self.stuck {
            let arrived: Vec<_> = self
                .log
                .state
                .ownership()
                .moves()
                .map(|(shard, record)| (shard, record.since))
                .collect();
            for (shard, prepared) in arrived {
                let own = OwnershipCommand::Own { shard, prepared };
                self.log.apply(&Command::Ownership(own)).unwrap();
            }
        }
        // As nodes say themselves.
        let state = &self.log.state;
        let has_parted = |node: &NodeId| state.ownership().concerned_with(*node).next().is_none();
        let leaves = state.members().live();
        let leaves = leaves.filter(|member| member.state == MemberState::Leaving);
        let left: Vec<NodeId> = leaves.map(|it| it.node).filter(has_parted).collect();
        for node in left {
            self.log.life(node.0, left_by_itself).unwrap();
        }
        count
    }

    /// Lets time pass, looking whenever the steward says so and every 100 ms, as entries come.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.look();
            self.now = self.now + Duration::from_millis(100);
        }
    }

    fn counts(&self, nodes: u32) -> Vec<usize> {
        let owners = self
            .log
            .state
            .ownership()
            .iter()
            .map(|(_, record)| record.owner);
        let owners: Vec<_> = owners.collect();
        (1..=nodes)
            .map(|node| {
                owners
                    .iter()
                    .filter(|owner| **owner == Some(NodeId(node)))
                    .count()
            })
            .collect()
    }

    fn join(&mut self, node: u32) {
        self.log.apply(&join(node)).unwrap();
        self.log
            .life(node, |node, incarnation| Change::Up { node, incarnation })
            .unwrap();
    }
}

fn down(node: NodeId, incarnation: Incarnation) -> Change {
    Change::Down { node, incarnation }
}

fn left_by_itself(node: NodeId, incarnation: Incarnation) -> Change {
    Change::Left { node, incarnation }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_shard_gets_an_owner_when_somebody_wants_it_and_not_before() {
    let mut cluster = Cluster::new(3, 9, StewardSettings::default());
    cluster.run(SECONDS(10));
    assert_eq!(cluster.counts(3), [0, 0, 0]);
    cluster.steward.want(&cluster.log.state, key(4));
    cluster.steward.want(&cluster.log.state, key(99));
    assert_eq!(cluster.look(), 1);
    assert_eq!(cluster.log.owner(4), Some(1));
    cluster.want_all();
    assert_eq!(cluster.look(), 1, "one command for all of them");
    assert_eq!(cluster.counts(3), [3, 3, 3]);
    cluster.run(SECONDS(10));
    assert_eq!(cluster.commands, 2, "what is even is left alone");
}

#[test]
fn shards_of_the_dead_get_other_owners_at_once() {
    let mut cluster = Cluster::new(3, 9, StewardSettings::default());
    cluster.want_all();
    cluster.look();
    cluster.log.life(2, down).unwrap();
    cluster.look();
    assert_eq!(cluster.counts(3), [5, 0, 4]);
    cluster.run(SECONDS(59));
    assert!(cluster.log.state.members().member(NodeId(2)).is_some());
    cluster.run(SECONDS(2));
    assert_eq!(
        cluster.log.state.members().member(NodeId(2)),
        None,
        "forgotten after a minute"
    );
}

/// What is on its way counts: they are wanted faster than the log gives them.
#[test]
fn shards_that_are_wanted_one_by_one_are_spread_all_the_same() {
    let log = Log::with(3, 9);
    let mut steward = Steward::new(StewardSettings::default(), Time::ZERO);
    let mut given = std::collections::BTreeMap::<NodeId, u32>::new();
    let shards: Vec<_> = log.state.ownership().iter().map(|(key, _)| key).collect();
    for shard in shards {
        assert!(steward.want(&log.state, shard));
        for command in steward.look(&log.state, Time::ZERO) {
            let Command::Ownership(OwnershipCommand::Allocate(placed)) = command else {
                panic!("{command:?}");
            };
            for (_, to) in placed {
                *given.entry(to).or_default() += 1;
            }
        }
    }
    assert_eq!(given.values().copied().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn a_node_that_joins_gets_its_share_when_the_members_have_settled() {
    let settings = StewardSettings {
        max_moves: 4,
        ..StewardSettings::default()
    };
    let mut cluster = Cluster::new(2, 30, settings);
    cluster.want_all();
    cluster.run(SECONDS(5));
    cluster.join(3);
    cluster.run(SECONDS(1));
    assert_eq!(cluster.counts(3), [15, 15, 0], "more may join");
    cluster.run(SECONDS(60));
    assert_eq!(cluster.counts(3), [10, 10, 10]);
    assert!(cluster.most_moves <= 4, "{} at once", cluster.most_moves);
}

#[test]
fn a_node_that_leaves_gives_all_away_without_waiting() {
    let mut cluster = Cluster::new(3, 30, StewardSettings::default());
    cluster.want_all();
    cluster.run(SECONDS(5));
    cluster.log.life(3, leave).unwrap();
    cluster.run(SECONDS(1));
    assert_eq!(cluster.counts(3), [15, 15, 0]);
    assert_eq!(cluster.log.state.members().member(NodeId(3)), None);
}

#[test]
fn the_last_node_keeps_what_nobody_else_could_have() {
    let mut cluster = Cluster::new(1, 3, StewardSettings::default());
    cluster.want_all();
    cluster.look();
    cluster.log.life(1, leave).unwrap();
    cluster.run(SECONDS(10));
    assert_eq!(cluster.counts(1), [3]);
}

#[test]
fn a_move_that_takes_too_long_is_called_off_and_tried_again() {
    let mut cluster = Cluster::new(1, 4, StewardSettings::default());
    cluster.want_all();
    cluster.look();
    cluster.join(2);
    cluster.stuck = true;
    cluster.run(SECONDS(5));
    assert_eq!(cluster.log.state.ownership().moves().count(), 2);
    let first: Vec<u64> = cluster
        .log
        .state
        .ownership()
        .moves()
        .map(|(_, record)| record.since)
        .collect();
    cluster.run(SECONDS(30));
    let second: Vec<u64> = cluster
        .log
        .state
        .ownership()
        .moves()
        .map(|(_, record)| record.since)
        .collect();
    assert_eq!(second.len(), 2);
    assert!(second > first, "{first:?} was called off for {second:?}");
    cluster.stuck = false;
    cluster.run(SECONDS(5));
    assert_eq!(cluster.counts(2), [2, 2]);
}

#[test]
fn what_gets_lost_is_proposed_again_and_nothing_twice() {
    let mut cluster = Cluster::new(2, 4, StewardSettings::default());
    cluster.lost = 1;
    cluster.want_all();
    cluster.run(SECONDS(1));
    assert_eq!((cluster.counts(2), cluster.commands), (vec![0, 0], 1));
    cluster.run(SECONDS(2));
    assert_eq!((cluster.counts(2), cluster.commands), (vec![2, 2], 2));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    type Spoil = fn(&mut StewardSettings);
    let cases: [(&str, Spoil); 3] = [
        ("max_moves", |s| s.max_moves = 0),
        ("move_timeout", |s| s.move_timeout = Duration::ZERO),
        ("retry", |s| s.retry = Duration::ZERO),
    ];
    assert_eq!(StewardSettings::default().check(), Ok(()));
    for (setting, spoil) in cases {
        let mut settings = StewardSettings::default();
        spoil(&mut settings);
        assert_eq!(settings.check().unwrap_err().setting, setting);
    }
}

proptest! {
    /// Nodes come, leave and die, proposals get lost and leaders change: in the end every shard is where it should be, and
    /// nothing is proposed any more.
    #[test]
    fn it_comes_to_rest(
        events in prop::collection::vec((0_u8..5, 1_u32..7, 0_u64..4_000), 0..25),
        max_moves in 1_usize..10,
    ) {
        let settings = StewardSettings { max_moves, ..StewardSettings::default() };
        let mut cluster = Cluster::new(3, 24, settings.clone());
        cluster.want_all();
        for (what, node, pause) in events {
            let up = cluster.log.state.members().up().count();
            let member = cluster.log.state.members().member(NodeId(node)).map(|member| member.state);
            match (what, member) {
                (0 | 1, None | Some(MemberState::Down)) => cluster.join(node),
                (2, Some(MemberState::Up)) if up > 1 => {
                    cluster.log.life(node, leave).unwrap();
                }
                (3, Some(state)) if state != MemberState::Down && up > 1 => {
                    cluster.log.life(node, down).unwrap();
                }
                (4, _) => {
                    cluster.lost += 2;
                    cluster.steward = Steward::new(settings.clone(), cluster.now);
                }
                _ => {}
            }
            cluster.stuck = node == 3;
            cluster.run(Duration::from_millis(pause));
            prop_assert!(cluster.most_moves <= max_moves);
        }
        cluster.stuck = false;
        cluster.want_all();
        cluster.run(SECONDS(200));
        let counts = cluster.counts(6);
        let members = cluster.log.state.members();
        let carrying: Vec<usize> = (1..)
            .zip(&counts)
            .filter(|(node, _)| members.up().any(|member| member.node == NodeId(*node)))
            .map(|(_, count)| *count)
            .collect();
        prop_assert_eq!(carrying.iter().sum::<usize>(), 24, "{:?}", counts);
        prop_assert!(carrying.iter().max().unwrap() - carrying.iter().min().unwrap() <= 1, "{:?}", counts);
        prop_assert_eq!(members.members().count(), carrying.len(), "nobody is left over");
        let before = cluster.commands;
        cluster.run(SECONDS(60));
        prop_assert_eq!(cluster.commands, before);
    }
}
