//! A node that is out of its cluster for a while and comes back by itself, while everybody asks for everything all the time.

use super::cells::{SHARDS, now_ns};
use super::entities::{until_all_answer, who};
use super::pouring::{Lost, Poured, pour};
use super::process::Node;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

/// About one in each shard.
pub(crate) const POURED: u64 = SHARDS as u64;
/// Those behind them are not asked all the time; some of them are everywhere.
const SPARE: u64 = 2 * SHARDS as u64;
/// Between two asks of one entity by one node, in milliseconds.
const PAUSE_MS: u64 = 20;

/// Before, and after.
pub(crate) struct Outage {
    pub(crate) others: Vec<Node>,
    pub(crate) lost: Node,
    life: u32,
    led: bool,
    /// Where each entity was.
    homes: Vec<u32>,
    begun_ns: u64,
}

fn numbers(node: &mut Node, what: &str, count: u64) -> Vec<u64> {
    node.tell(&format!("{what} 0 {count}"));
    let line = node.wait_for_line(&format!("{what} ")).text;
    let numbers = line.split(' ').nth(1).unwrap().split(',');
    let numbers = numbers.map(|number| number.parse().unwrap_or_else(|_| panic!("{line}")));
    numbers.collect()
}

impl Outage {
    /// All of a cluster, before one of its nodes is out of it: the one that leads, or another. Everybody asks.
    #[track_caller]
    pub(crate) fn of(mut nodes: Vec<Node>, leads: bool) -> Outage {
        let (first, rest) = nodes.split_at_mut(1);
        let (owners, line) = who(&mut first[0], rest);
        assert_eq!(owners.len(), 3, "all nodes own something: {line}");
        let homes = numbers(&mut nodes[0], "homes", POURED + SPARE);
        let homes = homes.into_iter().map(|node| node as u32).collect();
        for node in &mut nodes {
            pour(node, POURED, PAUSE_MS);
        }
        let leader = nodes[0].view.leader;
        let is_lost = |node: &Node| (node.id == leader) == leads;
        let lost = nodes.swap_remove(nodes.iter().position(is_lost).unwrap());
        Outage {
            life: lost.view.life_of(lost.id).unwrap(),
            others: nodes,
            lost,
            led: leads,
            homes,
            begun_ns: 0,
        }
    }

    /// It is out of it from now on.
    pub(crate) fn has_begun(&mut self) {
        self.begun_ns = now_ns();
    }

    /// An entity that it had, and that nobody asks all the time.
    pub(crate) fn spare(&self) -> u64 {
        let mut spare = (POURED..).zip(&self.homes[POURED as usize..]);
        let found = spare.find(|(_, home)| **home == self.lost.id);
        found.expect("it has some").0
    }

    /// The others go on: it is declared down, somebody leads, and everything answers, what was its included.
    #[track_caller]
    pub(crate) fn others_go_on(&mut self) {
        let (id, life, led) = (self.lost.id, self.life, self.led);
        for node in &mut self.others {
            node.wait_for_view("it is down", |view| view.down.contains(&(id, life)));
            node.wait_for_view("somebody leads", |view| {
                view.quorum && view.leader != 0 && (view.leader != id || !led)
            });
            until_all_answer(node);
            let (owners, line) = who(node, &mut []);
            assert!(owners.iter().all(|(owner, _)| *owner != id), "{line}");
        }
    }

    /// Nothing is in its way any more: it comes back without a hand, and nothing that was answered is wrong.
    #[track_caller]
    pub(crate) fn has_ended(mut self) {
        let ended = Instant::now();
        let (id, life) = (self.lost.id, self.life);
        let back = self.lost.wait_for_view("it is back", |view| {
            view.life() > Some(life) && view.up.len() == 3
        });
        for node in &mut self.others {
            node.wait_for_view("three again", |view| {
                view.life_of(id) > Some(life) && view.up.len() == 3
            });
        }
        who(&mut self.lost, &mut self.others);
        for node in &mut self.others {
            who(node, &mut []);
        }
        let mut all = vec![Poured::default(); POURED as usize];
        for node in [&mut self.lost].into_iter().chain(&mut self.others) {
            node.tell("dry");
            let line = node.wait_for_line("poured ").text;
            for ((poured, sum), home) in Poured::read(&line).iter().zip(&mut all).zip(&self.homes) {
                sum.add(poured);
                let has_lost = match (node.id == id, *home == id) {
                    (true, _) => continue,
                    // The one that was under way.
                    (false, true) => poured.unknown > 1,
                    (false, false) => poured.unknown + poured.rejected > 0,
                };
                assert!(!has_lost, "node {}: {poured:?} {line}", node.id);
            }
        }
        let totals = numbers(&mut self.others[0], "totals", POURED);
        let mut again = Vec::new();
        for (entity, (poured, total)) in all.iter().zip(totals).enumerate() {
            let lost = (self.homes[entity] == id).then_some(Lost {
                node: id,
                at_ns: self.begun_ns,
            });
            poured.judge(entity, total, lost);
            if lost.is_some() {
                let next = poured.owners.values().map(|owner| owner.first_ns);
                let next = next.filter(|first_ns| *first_ns > self.begun_ns).min();
                again.push(Duration::from_nanos(next.unwrap() - self.begun_ns));
            }
        }
        again.sort();
        let answers: u64 = all.iter().map(Poured::answered).sum();
        let unknown: u64 = all.iter().map(|poured| poured.unknown).sum();
        let mut out = stdout();
        writeln!(
            out,
            "what node {id} had owned answered again after {} ms (median) and {} ms (all); it was a member again {} ms \
             after nothing was in its way; {answers} answers, {unknown} unknown",
            again[again.len() / 2].as_millis(),
            again[again.len() - 1].as_millis(),
            back.saturating_duration_since(ended).as_millis(),
        )
        .unwrap();
    }
}
