//! The swarm: clusters in trouble, each in another way, judged; and that it comes to everything that can happen.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim swarm::`, on all CPUs.

use crate::governed_counts::Counts;
use crate::governed_swarm::{Planted, scenario};
use corecast::sim::check_cluster_swarm;

/// Runs in which it comes to everything.
const SEEDS: u64 = 32;

/// Whatever happens: shards have one owner at a time (those of entities that keep running may have two after a death),
/// senders keep their order, nothing happens twice, what was rejected has not happened, answers are true, and in the end
/// everything answers.
#[test]
fn whatever_happens_to_a_cluster_its_promises_hold() {
    let runs = check_cluster_swarm(SEEDS, |cluster| {
        let ran = scenario(cluster, Planted::default());
        (ran.cluster, ran.counts)
    });
    let mut counts = Counts::default();
    for run in &runs {
        counts.add(run);
    }
    if runs.len() as u64 >= SEEDS {
        counts.assert_complete();
    }
}
