//! Nodes that are killed, stopped, and robbed of their directory.

use super::process::{Place, beside_another, can_run};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// A death is declared within this time, or is not at all, however busy the CPUs are. How long it takes is measured elsewhere.
const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn killed_nodes_are_declared_down_and_come_back_in_a_new_life() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    for kills_leader in [false, true] {
        let leader = nodes[0].view.leader;
        let is_victim = |id: u32| (id == leader) == kills_leader;
        let index = nodes.iter().position(|node| is_victim(node.id)).unwrap();
        let victim = nodes.swap_remove(index);
        let (id, life) = (victim.id, victim.view.life_of(victim.id).unwrap());
        let killed = Instant::now();
        victim.kill();
        for node in &mut nodes {
            let what = format!("node {id} is down");
            let down = node.wait_for_view(&what, |view| view.down.contains(&(id, life)));
            let took = down.duration_since(killed);
            assert!(took < BOUND, "{took:?}");
            node.wait_for_view("another leads", |view| {
                view.leader != id && view.leader != 0 && view.quorum
            });
            node.wait_until_said(&format!("event down {id}"), 1);
        }
        let mut back = place.start(id);
        back.wait_for_view("it is back", |view| {
            view.life() > Some(life) && view.up.len() == 3
        });
        for node in &mut nodes {
            node.wait_for_view("three", |view| {
                view.life_of(id) > Some(life) && view.up.len() == 3
            });
        }
        nodes.push(back);
    }
}

pub(crate) fn a_node_that_was_stopped_learns_that_its_life_has_ended_and_rejoins_by_itself() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    let leader = nodes[0].view.leader;
    let index = nodes.iter().position(|node| node.id == leader).unwrap();
    let mut stopped = nodes.swap_remove(index);
    let life = stopped.view.life_of(leader).unwrap();
    stopped.signal(Signal::STOP);
    for node in &mut nodes {
        node.wait_for_view("it is down", |view| view.down.contains(&(leader, life)));
    }
    stopped.catch_up();
    let since = stopped.seen.len();
    stopped.signal(Signal::CONT);
    // It may be back before it is looked at.
    let learnt = stopped.wait_to_have_seen("it has learnt of it", since, |view| {
        view.phase.starts_with("rejoining:")
    });
    assert!(!learnt.quorum, "its lease is over");
    stopped.wait_for_view("it is back", |view| {
        view.life() > Some(life) && view.up.len() == 3
    });
    for node in &mut nodes {
        node.wait_for_view("three", |view| {
            view.life_of(leader) > Some(life) && view.up.len() == 3
        });
        node.wait_until_said("event down", 1);
        assert_eq!(node.said("event down"), 1);
    }
}

pub(crate) fn a_node_that_has_lost_its_directory_is_let_in_as_another_disk() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut nodes = place.form();
    let lost = nodes.pop().unwrap();
    let (id, life) = (lost.id, lost.view.life_of(lost.id).unwrap());
    lost.kill();
    fs::remove_dir_all(place.data(id)).unwrap();
    // At once, before it is declared down: it has to wait for that.
    let mut back = place.start_with(id, &format!("{} --join-only", place.flags(id)));
    back.wait_for_view("it is back", |view| {
        view.life() > Some(life) && view.up.len() == 3
    });
    for node in &mut nodes {
        node.wait_for_view("three", |view| {
            view.life_of(id) > Some(life) && view.up.len() == 3
        });
    }
    // It counts as a voter: with it one more may fail.
    let other = nodes.pop().unwrap();
    let (id, life) = (other.id, other.view.life_of(other.id).unwrap());
    other.kill();
    for node in nodes.iter_mut().chain([&mut back]) {
        node.wait_for_view("the other is down", |view| view.down.contains(&(id, life)));
    }
}
