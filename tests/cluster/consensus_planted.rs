//! Bugs that are planted on purpose are found.

use std::time::Duration;

use corecast::consensus::mutant::Mutant;

use crate::consensus_faults::{scenario, stale_leader, voter_dies};
use crate::seeds::{Trace, check_seed};

/// How many seeds it may take.
const SEEDS: u64 = 500;

#[track_caller]
fn assert_found(mutant: Mutant, signs: &[&str]) {
    let run = |seed| scenario(seed, Duration::from_millis(2500), Some(mutant)).trace;
    assert_found_by(mutant, signs, run);
}

#[track_caller]
fn assert_found_by(mutant: Mutant, signs: &[&str], run: impl Fn(u64) -> Trace) {
    for seed in 0..SEEDS {
        match check_seed(seed, &run) {
            Ok(_) => {}
            Err(text) if signs.iter().any(|sign| text.contains(sign)) => return,
            Err(text) => panic!("seed {seed} found something else than {mutant:?}: {text}"),
        }
    }
    panic!("{mutant:?} was not found in {SEEDS} seeds");
}

/// What shows that a disk does not hold what it should: the log differs, or a peer notices.
const FORGOTTEN: &[&str] = &[
    "two leaders",
    "nodes disagree",
    "was rejected",
    "a disk has lost votes",
    "one of both disks has lost votes",
    "this disk has lost",
    "has missed",
    "applied twice",
    "restored another state",
    "acknowledges entry",
];

#[test]
fn a_vote_that_is_not_written() {
    let mutant = Mutant::ForgetVote;
    assert_found_by(mutant, FORGOTTEN, |seed| voter_dies(seed, Some(mutant)));
}

#[test]
fn a_command_that_is_applied_twice() {
    assert_found(Mutant::ApplyTwice, &["applied twice"]);
}

#[test]
fn a_node_that_is_declared_down_with_a_lease() {
    assert_found(Mutant::IgnoreLease, &["is down and holds a lease"]);
}

#[test]
fn a_lease_of_a_leader_that_leads_no_more() {
    let mutant = Mutant::GrantUnconfirmed;
    let run = |seed| stale_leader(seed, Some(mutant));
    assert_found_by(mutant, &["is down and holds a lease"], run);
}

#[test]
fn a_promise_that_is_sent_before_it_is_durable() {
    assert_found(Mutant::SendBeforeDurable, FORGOTTEN);
}

#[test]
fn an_unknown_outcome_that_is_denied() {
    assert_found(Mutant::DenyUnknown, &["was rejected"]);
}
