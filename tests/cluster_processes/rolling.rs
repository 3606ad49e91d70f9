//! A rolling restart: every node leaves and comes back, one after the other, and nothing that was answered is lost.

use super::cells::SHARDS;
use super::pouring::{Poured, pour};
use super::process::{Node, Place, alone, can_run};
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

/// About one in each shard.
const CELLS: u64 = SHARDS as u64;

/// Between two asks of one entity by one node, in milliseconds.
const PAUSE_MS: u64 = 3;

/// A cluster has evened out its shards within this time, or does not do it.
const EVEN: Duration = Duration::from_secs(60);

/// What is printed is for whoever runs it with `--nocapture`.
fn out() -> impl Write {
    stdout()
}

/// Takes what a node says of its asks, all of which have ended. Of one for each entity it need not know what became of it if
/// its runtime has ended, and what came behind is refused; one that stays has been answered each time.
#[track_caller]
fn note(node: &mut Node, stays: bool, all: &mut [Poured]) {
    let line = node.wait_for_line("poured ").text;
    let poured = Poured::read(&line);
    assert_eq!(poured.len(), all.len(), "{line}");
    let failure = line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
    let mut answered = 0;
    for (id, (all, poured)) in all.iter_mut().zip(&poured).enumerate() {
        let has_failed = match stays {
            true => poured.unknown + poured.rejected > 0,
            false => poured.unknown > 1,
        };
        let is_right = poured.answered() > 0 && !has_failed;
        assert!(
            is_right,
            "node {}, entity {id}: {poured:?} {failure}",
            node.id
        );
        all.add(poured);
        answered += poured.answered();
    }
    writeln!(out(), "node {}: {answered} answers {failure}", node.id).unwrap();
}

/// Waits until a node owns something again.
#[track_caller]
fn wait_until_it_owns(asked: &mut Node, owner: u32) {
    let began = Instant::now();
    loop {
        asked.tell(&format!("who 0 {CELLS}"));
        let line = asked.wait_for_line("who ").text;
        if line.contains(&format!(" {owner}=")) || line.contains(&format!(",{owner}=")) {
            return;
        }
        assert!(began.elapsed() < EVEN, "node {owner} gets nothing: {line}");
    }
}

pub(crate) fn every_node_is_restarted_and_nothing_that_was_answered_is_lost() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    let mut all = vec![Poured::default(); CELLS as usize];
    for node in &mut nodes {
        pour(node, CELLS, PAUSE_MS);
    }
    for id in 1..=3 {
        let index = nodes.iter().position(|node| node.id == id).unwrap();
        let mut leaver = nodes.remove(index);
        wait_until_it_owns(&mut nodes[0], id);
        let told = Instant::now();
        leaver.tell("shutdown");
        let ended = leaver.wait_for_line("ended").text;
        let took = told.elapsed().as_millis();
        writeln!(out(), "node {id} has left within {took} ms").unwrap();
        assert_eq!(ended, "ended true Some(true)");
        note(&mut leaver, false, &mut all);
        let mut back = place.start(id);
        let since = Instant::now();
        // The others say more of what is wrong than the one that waits.
        while back.view.life().is_none() || back.view.up.len() < 3 {
            back.catch_up();
            if since.elapsed() > EVEN {
                nodes.iter_mut().for_each(Node::catch_up);
                let said = nodes.iter().chain([&back]);
                let said: Vec<String> = said.map(Node::said_so_far).collect();
                panic!(
                    "node {id} does not come back; they said\n{}",
                    said.join("\n\n")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        pour(&mut back, CELLS, PAUSE_MS);
        nodes.push(back);
    }
    wait_until_it_owns(&mut nodes[0], 3);
    for node in &mut nodes {
        node.tell("dry");
        note(node, true, &mut all);
        assert_eq!(node.said("event down"), 0);
    }
    for node in &mut nodes {
        node.tell(&format!("totals 0 {CELLS}"));
        let line = node.wait_for_line("totals ").text;
        let totals = line.strip_prefix("totals ").unwrap().split(',');
        let totals: Vec<u64> = totals.map(|total| total.parse().unwrap()).collect();
        assert_eq!(totals.len(), all.len());
        for (id, (total, poured)) in totals.iter().zip(&all).enumerate() {
            poured.judge(id, *total, None);
        }
    }
}
