//! Bugs that are planted in whole clusters are found by the swarm.

use crate::governed_senders::Keeping;
use crate::governed_swarm::{Planted, scenario};
use corecast::actor::mutant::Mutant;
use corecast::cluster::node::mutant::NodeMutant;
use corecast::consensus::mutant::Mutant as LogMutant;
use corecast::sim::ClusterSimulation;
use std::panic::catch_unwind;

/// How many seeds it may take.
const SEEDS: u64 = 500;

/// Runs seeds until one finds the bug.
#[track_caller]
fn assert_found(planted: Planted, signs: &[&str]) {
    for seed in 0..SEEDS {
        let ran = catch_unwind(|| {
            let ran = scenario(ClusterSimulation::new(seed), planted);
            drop(ran);
        });
        let Err(panic) = ran else {
            continue;
        };
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(
            signs.iter().any(|sign| text.contains(sign)),
            "seed {seed} found something else than {planted:?}: {text}"
        );
        return;
    }
    panic!("{planted:?} was not found in {SEEDS} seeds");
}

/// Two nodes run one shard.
const TWO_OWNERS: &[&str] = &["after it had run on"];

/// An entity runs that must not, whether another node has begun to run it or not.
const NO_LEASE: &[&str] = &["after it had run on", "without a lease"];

#[test]
fn a_core_that_runs_without_a_lease() {
    let planted = Planted {
        core: Some(Mutant::IgnoreLease),
        ..Planted::default()
    };
    assert_found(planted, NO_LEASE);
}

#[test]
fn entities_that_keep_running_and_must_not() {
    let planted = Planted {
        keeping: Keeping::All,
        ..Planted::default()
    };
    assert_found(planted, NO_LEASE);
}

#[test]
fn entities_that_wait_for_a_lease_and_need_none() {
    let planted = Planted {
        keeping: Keeping::None,
        ..Planted::default()
    };
    assert_found(planted, &["which needs none"]);
}

#[test]
fn a_lease_that_never_lapses() {
    let planted = Planted {
        node: Some(NodeMutant::NeverLapses),
        ..Planted::default()
    };
    assert_found(planted, TWO_OWNERS);
}

/// Two processes of a node live one life, so the second begins what the first had begun.
#[test]
fn a_node_that_takes_the_life_of_its_last_process() {
    let planted = Planted {
        node: Some(NodeMutant::TakesAnyLife),
        ..Planted::default()
    };
    assert_found(planted, &["has another count", "after it had run on"]);
}

#[test]
fn a_node_that_is_declared_down_while_it_may_have_a_lease() {
    let planted = Planted {
        log: Some(LogMutant::IgnoreLease),
        ..Planted::default()
    };
    assert_found(planted, TWO_OWNERS);
}
