//! Bugs that are planted on purpose are found.

use crate::moves;
use crate::workload::Load;
use corecast::actor::mutant::Mutant;
use corecast::sim::{SeedFailure, check_seed};

/// How many seeds it may take.
const SEEDS: u64 = 300;

#[track_caller]
fn assert_found(mutant: Mutant, signs: &[&str]) {
    let load = Load {
        entities: 8,
        messages: 40,
        shards: 2,
        moves: 60,
        slow: false,
    };
    for seed in 0..SEEDS {
        match check_seed(seed, |builder| {
            moves::scenario(builder.mutant(mutant), load).0
        }) {
            Ok(_) => {}
            Err(SeedFailure::Panicked(text)) if signs.iter().any(|sign| text.contains(sign)) => {
                return;
            }
            Err(other) => panic!("seed {seed} found something else than {mutant:?}: {other}"),
        }
    }
    panic!("{mutant:?} was not found in {SEEDS} seeds");
}

#[test]
fn a_source_that_does_not_wait_for_the_markers() {
    assert_found(Mutant::SkipLast, &["of the same sender"]);
}

#[test]
fn held_messages_that_are_released_in_reverse() {
    assert_found(Mutant::ReleaseReversed, &["of the same sender"]);
}

#[test]
fn mailboxes_that_stay_behind() {
    assert_found(
        Mutant::ShipDropsMailbox,
        &[
            "was accepted and lost",
            "Unknown(DroppedUnanswered)",
            "never came",
        ],
    );
}

#[test]
fn a_target_that_runs_a_shard_too_early() {
    assert_found(Mutant::RunsBeforeOwned, &["both ran"]);
}
