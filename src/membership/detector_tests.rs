//! What a detector makes of heartbeats, of SWIM, and of what others say.

use std::time::Duration;

use super::accusation::{Accusation, Heartbeat, Why};
use super::change::{Change, Join};
use super::detector::{Detector, Output};
use super::settings::MembershipSettings;
use super::view::View;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;

const STEP: Duration = Duration::from_millis(100);

/// Node 1 and its view; every other node of it beats, unless it is silent.
struct Bench {
    detector: Detector,
    view: View,
    now: Time,
    serial: u64,
    silent: Vec<u32>,
    /// What a node holds against others.
    accuse: Vec<(u32, Accusation)>,
    proposals: Vec<Change>,
}

impl Bench {
    fn new(nodes: u32) -> Bench {
        let mut view = View::new(NodeId(1));
        for node in 1..=nodes {
            let join = Join {
                node: NodeId(node),
                address: format!("10.0.0.{node}:7000").parse().unwrap(),
                roles: Vec::new(),
                data_cores: 1,
            };
            view.apply(&Change::Join(join), &mut Vec::new()).unwrap();
        }
        let settings = MembershipSettings::default();
        let (me, life) = (NodeId(1), Incarnation(1));
        let mut detector = Detector::new(me, life, &settings, Time::ZERO).unwrap();
        detector.adopt(&view, Time::ZERO);
        Bench {
            detector,
            view,
            now: Time::ZERO,
            serial: 0,
            silent: Vec::new(),
            accuse: Vec::new(),
            proposals: Vec::new(),
        }
    }

    fn beats(&mut self) {
        self.serial += 1;
        for node in self.view.ring_neighbours(NodeId(1)) {
            if self.silent.contains(&node.0) {
                continue;
            }
            let own = self.accuse.iter().filter(|(by, _)| *by == node.0);
            let heartbeat = Heartbeat {
                from: node,
                incarnation: self.view.member(node).unwrap().incarnation,
                serial: self.serial,
                accusations: own.map(|(_, accusation)| *accusation).collect(),
            };
            self.detector.heartbeat(heartbeat, self.now);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            if self.now.as_nanos().is_multiple_of(500_000_000) {
                self.beats();
            }
            self.detector.tick(self.now);
            while let Some(output) = self.detector.poll_output() {
                if let Output::Propose(change) = output {
                    self.proposals.push(change);
                }
            }
        }
    }

    fn commit(&mut self, change: &Change) {
        self.view.apply(change, &mut Vec::new()).unwrap();
        self.detector.adopt(&self.view, self.now);
    }

    fn accuse(&mut self, by: u32, node: u32) {
        let accusation = Accusation {
            node: NodeId(node),
            incarnation: Incarnation(node),
            why: Why::Silent,
        };
        self.accuse.push((by, accusation));
    }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn unreachable(node: u32) -> Change {
    Change::Unreachable {
        node: NodeId(node),
        incarnation: Incarnation(node),
        by: NodeId(1),
    }
}

fn reachable(node: u32) -> Change {
    Change::Reachable {
        node: NodeId(node),
        incarnation: Incarnation(node),
        by: NodeId(1),
    }
}

fn down(node: u32) -> Change {
    Change::Down {
        node: NodeId(node),
        incarnation: Incarnation(node),
    }
}

#[test]
fn only_both_verdicts_together_accuse() {
    let mut bench = Bench::new(4);
    bench.run(secs(10));
    bench.silent.push(2);
    bench.run(secs(5));
    assert_eq!(bench.proposals, [], "SWIM still reaches it");
    bench.detector.swim_down(NodeId(3), Incarnation(3));
    bench.run(secs(3));
    assert!(!bench.proposals.contains(&unreachable(3)), "it still beats");
    bench.detector.swim_down(NodeId(2), Incarnation(2));
    bench.proposals.clear();
    bench.run(Duration::from_millis(300));
    assert_eq!(bench.proposals, [unreachable(2)]);
    assert_eq!(bench.detector.accusations().count(), 1);
}

#[test]
fn a_death_takes_two_words_of_three_nodes_and_one_of_two() {
    let mut bench = Bench::new(3);
    bench.run(secs(10));
    bench.silent.push(2);
    bench.detector.swim_down(NodeId(2), Incarnation(2));
    bench.run(secs(20));
    assert!(!bench.proposals.contains(&down(2)));
    assert!(bench.proposals.contains(&unreachable(2)));
    bench.accuse(3, 2);
    bench.run(secs(1));
    assert!(bench.proposals.contains(&down(2)));
    // The other observer withdraws, and then falls silent itself: its word does not stand.
    bench.accuse.clear();
    bench.run(secs(1));
    bench.proposals.clear();
    bench.run(secs(5));
    assert!(!bench.proposals.contains(&down(2)));
    bench.accuse(3, 2);
    bench.run(secs(1));
    bench.silent.push(3);
    bench.run(secs(3));
    bench.proposals.clear();
    bench.run(secs(2));
    assert!(!bench.proposals.contains(&down(2)));

    let mut bench = Bench::new(2);
    bench.run(secs(10));
    bench.silent.push(2);
    bench.detector.swim_down(NodeId(2), Incarnation(2));
    bench.run(secs(3));
    assert!(bench.proposals.contains(&down(2)));
}

#[test]
fn words_alone_without_ones_own_propose_nothing() {
    let mut bench = Bench::new(5);
    bench.accuse(3, 2);
    bench.accuse(4, 2);
    bench.run(secs(20));
    assert_eq!(bench.proposals, []);
}

#[test]
fn datagrams_without_heartbeats_are_not_enough_for_ever() {
    let mut bench = Bench::new(3);
    bench.run(secs(10));
    bench.silent.push(2);
    bench.accuse(3, 2);
    bench.run(Duration::from_millis(9_900));
    assert_eq!(bench.proposals, []);
    bench.run(Duration::from_millis(500));
    assert_eq!(bench.proposals, [unreachable(2), down(2)]);
    let held: Vec<Accusation> = bench.detector.accusations().collect();
    assert_eq!(held[0].why, Why::NoControl);
}

#[test]
fn proposals_are_repeated_until_the_log_says_so_and_withdrawn() {
    let mut bench = Bench::new(3);
    bench.run(secs(10));
    bench.silent.push(2);
    bench.detector.swim_down(NodeId(2), Incarnation(2));
    bench.run(secs(10));
    let count = bench.proposals.len();
    assert!((5..=10).contains(&count), "{count}");
    bench.commit(&unreachable(2));
    bench.proposals.clear();
    bench.run(secs(5));
    assert_eq!(bench.proposals, []);
    // SWIM finds it again, and it beats.
    bench.silent.clear();
    bench.detector.swim_up(NodeId(2), Incarnation(2));
    bench.run(secs(3));
    assert!((2..=4).contains(&bench.proposals.len()));
    assert!(bench.proposals.iter().all(|change| *change == reachable(2)));
    bench.commit(&reachable(2));
    bench.proposals.clear();
    bench.run(secs(5));
    assert_eq!(bench.proposals, []);
}

#[test]
fn a_word_about_one_who_is_no_neighbour_any_more_is_withdrawn() {
    let mut bench = Bench::new(5);
    bench.commit(&unreachable(5));
    for node in 10..30 {
        let join = Join {
            node: NodeId(node),
            address: format!("10.0.0.{node}:7000").parse().unwrap(),
            roles: Vec::new(),
            data_cores: 1,
        };
        bench.commit(&Change::Join(join));
    }
    bench.commit(&down(2));
    assert_eq!(bench.detector.observed().count(), 8);
    bench.run(secs(1));
    let words = bench.proposals.contains(&reachable(5));
    let observes = bench.detector.observed().any(|node| node == NodeId(5));
    assert!(words, "whether it is observed ({observes}) or not");
}

#[test]
fn a_node_that_was_late_itself_accuses_nobody_for_that() {
    let mut bench = Bench::new(4);
    bench.run(secs(20));
    // 30 s without a turn, in which SWIM on others' word called two nodes dead.
    bench.now = bench.now + secs(30);
    bench.detector.stalled(secs(30), bench.now);
    bench.detector.swim_down(NodeId(2), Incarnation(2));
    bench.run(secs(1));
    assert_eq!(bench.proposals, []);
    assert_eq!(bench.detector.counters().stalls, 1);
    // Without that word it would.
    let mut bench = Bench::new(4);
    bench.run(secs(20));
    bench.now = bench.now + secs(30);
    bench.detector.swim_down(NodeId(2), Incarnation(2));
    bench.detector.tick(bench.now);
    assert_eq!(bench.detector.accusations().count(), 3);
}

#[test]
fn other_lives_and_strangers_do_not_count() {
    let mut bench = Bench::new(3);
    bench.run(secs(10));
    bench.silent.push(2);
    bench.detector.swim_down(NodeId(2), Incarnation(7));
    for (from, incarnation) in [(2, 7), (9, 9)] {
        bench.detector.heartbeat(
            Heartbeat {
                from: NodeId(from),
                incarnation: Incarnation(incarnation),
                serial: 1_000,
                accusations: vec![],
            },
            bench.now,
        );
    }
    assert_eq!(bench.detector.counters().stale_heartbeats, 2);
    bench.run(secs(5));
    assert_eq!(bench.proposals, [], "that was another life");
    bench.commit(&down(2));
    assert_eq!(bench.detector.observed().collect::<Vec<_>>(), [NodeId(3)]);
}

#[test]
fn the_leader_is_observed_by_all_and_work_is_flat() {
    for nodes in [20, 60, 200] {
        let mut bench = Bench::new(nodes);
        assert_eq!(bench.detector.observed().count(), 8);
        bench.detector.leader_changed(Some(NodeId(11)), bench.now);
        assert_eq!(bench.detector.observed().count(), 9);
        bench.run(secs(1));
        bench.detector.leader_changed(Some(NodeId(2)), bench.now);
        assert_eq!(bench.detector.observed().count(), 8);
        bench.detector.leader_changed(None, bench.now);
        assert_eq!(bench.detector.observed().count(), 8);
        let mut heartbeats = 0;
        for _ in 0..100 {
            bench.now = bench.now + STEP;
            bench.detector.tick(bench.now);
            while let Some(output) = bench.detector.poll_output() {
                heartbeats += u32::from(matches!(output, Output::Heartbeat { .. }));
            }
        }
        assert_eq!(heartbeats, 160, "8 neighbours, 2 a second, 10 s");
    }
    // What the leader sends as a leader is a sign of life; who only observes it leaves its death to its neighbours.
    let mut bench = Bench::new(20);
    bench.detector.leader_changed(Some(NodeId(11)), bench.now);
    let life = (NodeId(11), Incarnation(11));
    for _ in 0..10 {
        bench.run(Duration::from_millis(200));
        bench.detector.heard(life.0, life.1, bench.now);
    }
    assert_eq!(bench.proposals, []);
    bench.detector.swim_down(life.0, life.1);
    bench.accuse(3, 11);
    bench.run(secs(5));
    assert!(bench.proposals.contains(&unreachable(11)));
    assert!(!bench.proposals.contains(&down(11)));
}

#[test]
fn a_node_that_is_no_member_observes_nobody() {
    let settings = MembershipSettings::default();
    let bench = Bench::new(5);
    // An earlier life of node 1.
    let mut ghost = Detector::new(NodeId(1), Incarnation(0), &settings, Time::ZERO).unwrap();
    ghost.adopt(&bench.view, Time::ZERO);
    ghost.leader_changed(Some(NodeId(2)), Time::ZERO);
    assert_eq!(ghost.observed().count(), 0);
    ghost.tick(Time::ZERO + secs(9));
    assert_eq!(ghost.poll_output(), None);
}
