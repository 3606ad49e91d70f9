//! Entities of one type on all nodes: asked from everywhere, whatever becomes of the nodes.

use super::cells::{SHARDS, TELLS};
use super::outage::Outage;
use super::process::{Node, Place, beside_another, can_run};
use rustix::process::Signal;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

/// Enough for one in each shard, all but certainly.
const IDS: u64 = 20 * SHARDS as u64;

/// Asks all entities, which all have to answer; on how many nodes they are, and how many on each.
#[track_caller]
pub(crate) fn who(node: &mut Node, others: &mut [Node]) -> (Vec<(u32, u64)>, String) {
    node.tell(&format!("who 0 {IDS}"));
    let line = node.wait_for_line("who ").text;
    let mut words = line.split(' ').skip(1);
    let answered: u64 = words.next().unwrap().parse().unwrap();
    if answered < IDS {
        let mut said = String::new();
        for node in [node].into_iter().chain(others) {
            node.tell("stats");
            node.wait_for_line("stats");
            said += &format!("\nnode {} said\n{}\n", node.id, node.said_so_far());
        }
        panic!("not all entities answer: {line}{said}");
    }
    let nodes = words.next().unwrap().split(',').filter_map(|part| {
        let (node, count) = part.split_once('=')?;
        Some((node.parse().ok()?, count.parse().ok()?))
    });
    (nodes.collect(), line)
}

pub(crate) fn entities_answer_from_everywhere() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    let mut seen = Vec::new();
    for node in &mut nodes {
        let (owners, line) = who(node, &mut []);
        assert_eq!(owners.len(), 3, "all nodes own something: {line}");
        seen.push(owners);
    }
    assert!(seen.iter().all(|owners| *owners == seen[0]), "{seen:?}");
    for id in 0..4 {
        for (sender, node) in nodes.iter_mut().enumerate() {
            node.tell(&format!("count {id} {sender}"));
            let line = node.wait_for_line("counted").text;
            assert_eq!(line, format!("counted Ok({TELLS})"));
        }
    }
    for id in 0..4 {
        nodes[0].tell(&format!("echo {id} {}", 1 << 20));
        assert_eq!(nodes[0].wait_for_line("echoed").text, "echoed Ok(true)");
    }
}

/// How many entities are asked of which each has one shard, so that some were the lost node's.
const SAMPLE: u64 = 2 * SHARDS as u64;

/// Asks until there is an answer, of every entity of a sample; the longest that one took, in milliseconds.
pub(crate) fn until_all_answer(node: &mut Node) -> u64 {
    let mut longest = 0;
    for id in 0..SAMPLE {
        node.tell(&format!("until {id}"));
        let line = node.wait_for_line("until ").text;
        let Some(took) = line.split(' ').nth(2).and_then(|took| took.parse().ok()) else {
            node.tell("stats");
            node.wait_for_line("stats");
            panic!(
                "entity {id} does not answer; the node said\n{}",
                node.said_so_far()
            );
        };
        longest = longest.max(took);
    }
    longest
}

pub(crate) fn the_shards_of_a_killed_node_are_owned_again() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    let (first, others) = nodes.split_at_mut(1);
    who(&mut first[0], others);
    let leader = nodes[0].view.leader;
    let index = nodes.iter().position(|node| node.id != leader).unwrap();
    let victim = nodes.swap_remove(index);
    let (id, life) = (victim.id, victim.view.life_of(victim.id).unwrap());
    let killed = Instant::now();
    victim.kill();
    for node in &mut nodes {
        // The first answer of an entity that was there: of those that were elsewhere all come at once.
        until_all_answer(node);
    }
    let took = killed.elapsed().as_millis();
    let _ = writeln!(
        stdout(),
        "all entities answer {took} ms after SIGKILL of the owner of a third"
    );
    for node in &mut nodes {
        let (owners, line) = who(node, &mut []);
        assert!(owners.iter().all(|(owner, _)| *owner != id), "{line}");
        node.wait_for_view("it is down", |view| view.down.contains(&(id, life)));
    }
    // It comes back, and asks like everybody.
    let mut back = place.start(id);
    back.wait_for_view("it is back", |view| {
        view.up.len() == 3 && view.life() > Some(life)
    });
    who(&mut back, &mut nodes);
}

/// A node stands still until the others have done without it, and for `pause` at least. It has been asked and asked itself
/// before, at that moment, and again when it goes on.
#[track_caller]
fn one_is_stopped_for(pause: Duration) {
    let place = Place::new(3, 0);
    let mut outage = Outage::of(place.form(), false);
    outage.lost.signal(Signal::STOP);
    let stopped = Instant::now();
    outage.has_begun();
    outage.others_go_on();
    std::thread::sleep(pause.saturating_sub(stopped.elapsed()));
    outage.lost.signal(Signal::CONT);
    outage.has_ended();
}

pub(crate) fn a_node_that_was_stopped_answers_nothing_as_the_owner_that_it_was_and_rejoins() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    one_is_stopped_for(Duration::ZERO);
}

pub(crate) fn a_node_that_was_stopped_for_half_a_minute_is_not_believed_either() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    one_is_stopped_for(Duration::from_secs(30));
}

pub(crate) fn a_node_that_shuts_down_is_not_missed() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    for (sender, node) in nodes.iter_mut().enumerate() {
        for id in 0..SAMPLE {
            node.tell(&format!("count {id} {sender}"));
        }
        node.wait_until_said("counted", SAMPLE as usize);
    }
    let (first, others) = nodes.split_at_mut(1);
    let (owners, line) = who(&mut first[0], others);
    assert_eq!(owners.len(), 3, "all nodes own something: {line}");
    let mut last = nodes.pop().unwrap();
    let told = Instant::now();
    last.tell("shutdown");
    let ended = last.wait_for_line("ended").text;
    let _ = writeln!(
        stdout(),
        "a node that owned a third has ended {} ms after it was told to",
        told.elapsed().as_millis()
    );
    assert_eq!(ended, "ended true Some(true)");
    for node in &mut nodes {
        until_all_answer(node);
        let (owners, line) = who(node, &mut []);
        assert!(owners.iter().all(|(owner, _)| *owner != last.id), "{line}");
    }
    // What its entities knew they know elsewhere.
    for id in 0..SAMPLE {
        for sender in 0..3 {
            nodes[0].tell(&format!("counts {id} {sender}"));
            let line = nodes[0].wait_for_line("counts ").text;
            assert_eq!(line, format!("counts Ok({TELLS})"), "{id} of {sender}");
        }
    }
    for node in &mut nodes {
        assert_eq!(node.said("event down"), 0);
    }
}
