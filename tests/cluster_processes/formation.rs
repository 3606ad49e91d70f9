//! Nodes come, leave and end as they are told to.

use super::process::{Place, beside_another, can_run};
use std::fs;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

pub(crate) fn three_nodes_form_one_cluster_and_a_fourth_comes_and_leaves_while_it_runs() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 1);
    let mut nodes = place.form();
    let (up, leader) = (nodes[0].view.up.clone(), nodes[0].view.leader);
    for node in &mut nodes {
        node.wait_for_view("the same view", |view| {
            view.up == up && view.leader == leader
        });
        assert_eq!(node.view.life(), node.view.life_of(node.id));
        node.wait_until_said("event up", 3);
        assert_eq!(node.said("event up"), 3);
    }

    let mut fourth = place.start(4);
    nodes.iter_mut().for_each(|node| {
        node.wait_for_view("a fourth", |view| view.is_up(4));
    });
    fourth.wait_for_view("all four", |view| {
        view.up.len() == 4 && view.life().is_some()
    });
    let life = fourth.view.life();

    fourth.tell("leave");
    assert_eq!(fourth.wait_for_line("departure").text, "departure Ok(())");
    fourth.wait_for_view("its end", |view| {
        view.phase.starts_with("ended:the_node_has_left")
    });
    for node in &mut nodes {
        node.wait_for_view("three again", |view| !view.is_up(4) && view.down.is_empty());
        node.wait_until_said("event left 4", 1);
        assert_eq!(node.said("event down"), 0);
    }
    // Its runtime goes on, and its directory and its port are free.
    let mut again = place.start(4);
    again.wait_for_view("it comes again", |view| {
        view.life() > life && view.up.len() == 4
    });
    again.tell("shutdown");
    assert_eq!(again.wait_for_line("ended").text, "ended true Some(true)");
    for node in &mut nodes {
        node.wait_for_view("three again", |view| !view.is_up(4) && view.up.len() == 3);
        assert_eq!(node.said("event down"), 0);
    }
    fourth.tell("shutdown");
    assert_eq!(fourth.wait_for_line("ended").text, "ended true None");
}

pub(crate) fn what_keeps_a_node_from_starting_is_told() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(1, 2);
    let first = place.form().remove(0);
    // Its port.
    let flags = place.flags(2).replace(
        &format!("--bind 127.0.0.1:{}", place.ports[1]),
        &format!("--bind 127.0.0.1:{}", place.ports[0]),
    );
    let mut second = place.start_with(2, &flags);
    let failed = second.wait_for_line("failed").text;
    assert!(failed.contains("is in use for streams"), "{failed}");
    // Its directory.
    let (ours, theirs) = (place.data(2), place.data(1));
    let flags = place
        .flags(2)
        .replace(&ours.display().to_string(), &theirs.display().to_string());
    let mut second = place.start_with(2, &flags);
    let failed = second.wait_for_line("failed").text;
    assert!(failed.contains("is in use (by process"), "{failed}");
    // Not enough nodes in time, of which this one has some more if the machine is busy.
    let mut failed = String::new();
    for seconds in [3, 30] {
        let flags = place.flags(2).replace(
            "--required-quorum 0",
            &format!("--required-quorum 3 --start-deadline {seconds}s"),
        );
        let mut second = place.start_with(2, &flags);
        failed = second.wait_for_line("failed").text;
        let told = format!("3 nodes had to be up within {seconds}s, and ");
        assert!(failed.contains(&told), "{failed}");
        if failed.contains(&format!("{told}2 are")) {
            break;
        }
    }
    assert!(failed.contains("and 2 are"), "{failed}");
    // Other settings than those of the cluster; and the same where the start waits for nobody.
    let flags = place.flags(2).replace("profile default", "profile fast");
    let waits = flags.replace("--required-quorum 0", "--required-quorum 1");
    let mut second = place.start_with(2, &waits);
    let failed = second.wait_for_line("failed").text;
    assert!(failed.contains("it differs from the cluster"), "{failed}");
    let mut second = place.start_with(2, &flags);
    second.wait_for_view("its end", |view| {
        view.phase
            .starts_with("ended:this_node_cannot_join:_it_differs")
    });
    second.tell("shutdown");
    assert_eq!(second.wait_for_line("ended").text, "ended true None");
    // The directory of another node.
    fs::rename(place.data(2), place.data(3)).unwrap();
    let mut third = place.start(3);
    let failed = third.wait_for_line("failed").text;
    assert!(failed.contains("the directory of node-2"), "{failed}");
    drop(first);
}

pub(crate) fn a_second_holder_of_a_live_id_is_refused() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 2);
    let mut nodes = place.form();
    // Node 5's port and directory, and the id of a fourth that is up: what has had fewer lives is not heard at all.
    let mut fourth = place.start(4);
    fourth.wait_for_view("it is up", |view| {
        view.up.len() == 4 && view.life().is_some()
    });
    let flags = place.flags(5).replace(
        "--required-quorum 0",
        "--required-quorum 1 --start-deadline 10s",
    );
    let mut impostor = place.start_with(4, &flags.replace("--node-id 5", "--node-id 4"));
    let failed = impostor.wait_for_line("failed").text;
    let told = "a live node elsewhere has this node's id";
    assert!(failed.contains(told), "{failed}");
    // With a copy of the fourth's directory it would be its next life, but for the address; for longer than it takes to declare
    // a node down that nobody can connect to.
    fs::remove_dir_all(place.data(5)).unwrap();
    copy(&place.data(4), &place.data(5));
    let flags = flags.replace("--start-deadline 10s", "--start-deadline 15s");
    let mut impostor = place.start_with(4, &flags.replace("--node-id 5", "--node-id 4"));
    let failed = impostor.wait_for_line("failed").text;
    assert!(failed.contains(told), "{failed}");
    for node in nodes.iter_mut().chain([&mut fourth]) {
        node.catch_up();
        assert_eq!(node.view.up.len(), 4);
        let troubles =
            ["down", "left", "unreachable"].map(|what| node.said(&format!("event {what}")));
        assert_eq!(troubles, [0; 3]);
    }
}

pub(crate) fn a_runtime_that_ends_without_leaving_is_missed_or_comes_back_in_time() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 1);
    let mut nodes = place.form();
    let flags = format!("{} --no-leave", place.flags(4));
    let mut fourth = place.start_with(4, &flags);
    fourth.wait_for_view("it is up", |view| {
        view.up.len() == 4 && view.life().is_some()
    });
    let life = fourth.view.life();
    fourth.tell("shutdown");
    assert_eq!(fourth.wait_for_line("ended").text, "ended true None");
    // Its port and its directory are free, and its former life has to end first.
    let mut again = place.start_with(4, &flags);
    again.wait_for_view("it comes again", |view| {
        view.life() > life && view.up.len() == 4
    });
    let life = again.view.life().unwrap();
    again.tell("shutdown");
    assert_eq!(again.wait_for_line("ended").text, "ended true None");
    for node in &mut nodes {
        node.wait_for_view("it is missed", |view| view.down.contains(&(4, life)));
        assert_eq!(node.said("event left"), 0);
    }
}
