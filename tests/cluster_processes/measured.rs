//! How long forming and fail-over take, on this machine as it is.

use super::process::{Node, Place, alone, can_run};
use std::io::Write;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// Median and largest.
fn shown(mut times: Vec<Duration>) -> String {
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    format!(
        "median {:6} ms, most {:6} ms",
        median.as_millis(),
        most.as_millis()
    )
}

pub(crate) fn how_long_forming_and_failover_take() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    for profile in ["default", "fast"] {
        let (mut formed, mut led, mut down, mut back) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let mut place = Place::new(3, 0);
            place.profile = profile;
            let began = Instant::now();
            let mut nodes: Vec<Node> = place.form();
            formed.push(began.elapsed());
            let leader = nodes[0].view.leader;
            let index = nodes.iter().position(|node| node.id == leader).unwrap();
            let victim = nodes.swap_remove(index);
            let life = victim.view.life_of(leader).unwrap();
            let killed = Instant::now();
            victim.kill();
            let other = |view: &super::process::View| view.leader != leader && view.leader != 0;
            let at = nodes
                .iter_mut()
                .map(|node| node.wait_for_view("another leads", other))
                .max();
            led.push(at.unwrap().duration_since(killed));
            let is_down = |view: &super::process::View| view.down.contains(&(leader, life));
            let at = nodes
                .iter_mut()
                .map(|node| node.wait_for_view("it is down", is_down))
                .max();
            down.push(at.unwrap().duration_since(killed));
            let restarted = Instant::now();
            let mut node = place.start(leader);
            node.wait_for_view("it is back", |view| {
                view.life() > Some(life) && view.up.len() == 3
            });
            back.push(restarted.elapsed());
        }
        let mut out = std::io::stdout();
        for (what, times) in [
            ("three nodes up, from the start of their processes", formed),
            ("another leader, from SIGKILL of the leader", led),
            ("it is declared down, seen by both others", down),
            ("it is up again, from the start of its process", back),
        ] {
            writeln!(out, "{profile:8} {what:52} {}", shown(times)).unwrap();
        }
    }
}
