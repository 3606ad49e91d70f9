//! Logs used at random, and crashed at any moment.

use super::disk_model::{Node, Opening, User, small};
use crate::base::rng::seeded;
use crate::log::{FileName, OpenError};
use rand::RngExt;

/// How many seeds; `LOG_SEEDS=first..last` for others.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("LOG_SEEDS").ok();
    let range = given.as_deref().and_then(|range| {
        let (first, last) = range.split_once("..")?;
        Some(first.parse().ok()?..last.parse().ok()?)
    });
    range.unwrap_or(0..2_000)
}

/// What the runs of all seeds came to, so that it is known that they tried something.
#[derive(Debug, Default)]
struct Coverage {
    crashes: u64,
    torn: u64,
    cut_off: u64,
    lost: u64,
    given_up: u64,
    giving_up: u64,
    failed_writes: u64,
    failed_openings: u64,
}

/// The heart of it: random use and crashes at any moment, in recovery too, and after each what was confirmed is there, in
/// order, and beyond it nothing but a prefix of what was appended.
#[test]
fn after_any_crash_there_is_what_was_confirmed() {
    let mut coverage = Coverage::default();
    for seed in seeds() {
        let mut node = Node::new(seed, small());
        let mut user = User::new(seeded(seed, 1));
        let mut rng = seeded(seed, 2);
        let lives = rng.random_range(2..8);
        for life in 0..lives {
            one_life(seed, life, &mut node, &mut user, &mut coverage);
            node.crash();
            coverage.crashes += 1;
        }
    }
    let tried = format!("{coverage:?}");
    let Coverage {
        crashes,
        torn,
        cut_off,
        lost,
        given_up,
        giving_up,
        failed_writes,
        failed_openings,
    } = coverage;
    let runs = seeds().count() as u64;
    assert!(crashes >= 2 * runs, "{tried}");
    if runs >= 500 {
        let crashed = torn > runs / 8 && cut_off > runs / 2 && lost > runs / 2;
        let failed = failed_writes > runs / 20 && failed_openings > 0;
        let came_and_went = given_up > 4 * runs && giving_up > runs / 2;
        assert!(crashed && failed && came_and_went, "{tried}");
    }
}

fn one_life(seed: u64, life: usize, node: &mut Node, user: &mut User, coverage: &mut Coverage) {
    let replay = format!("LOG_SEEDS={seed}..{}", seed + 1);
    // The smaller they are, and the fewer, the more often segments come and go.
    node.settings.segment_bytes = [64 << 10, 128 << 10][user.rng.random_range(0..2)];
    node.settings.max_segments = user.rng.random_range(2..=4);
    user.one_drop_in = [1, 10][user.rng.random_range(0..2)];
    let mut log = loop {
        let operations = match user.rng.random_range(0..3) {
            0 => user.rng.random_range(0..40),
            _ => u64::MAX,
        };
        match node.open_for(operations) {
            Ok(Opening::Done(opened, state)) => {
                coverage.torn += u64::from(opened.torn.is_some());
                coverage.lost +=
                    u64::from(Some(&state) != user.history.last().map(|(_, held)| held));
                let durable = user.history[0].0;
                user.resume(state, durable, &replay);
                break opened.log;
            }
            // What was read before counts as little as it counts much: the next reads the same.
            Ok(Opening::CutOff(read)) => {
                coverage.cut_off += 1;
                if let Some(state) = read {
                    let durable = user.history[0].0;
                    user.resume(state, durable, &replay);
                }
            }
            // A write that was to fail has failed in the batch that opens the log.
            Err(OpenError::Store(_)) => {
                coverage.failed_openings += 1;
                node.crash();
            }
            Err(error) => panic!("{replay}: {error}"),
        }
    };
    if user.rng.random_ratio(1, 8) {
        node.disk.fail_nth_write(user.rng.random_range(1..20));
    }
    // A moment that is too short to be hit by chance often enough.
    let waits_for_giving_up = user.rng.random_ratio(1, 2);
    for _ in 0..user.rng.random_range(0..400) {
        user.act(&mut log);
        if waits_for_giving_up {
            node.submit(&mut log);
            if node.giving_up.is_some() {
                coverage.giving_up += 1;
                return;
            }
        }
        let steps = match user.rng.random_range(0..20) {
            0 => 100,
            1..6 => user.rng.random_range(1..4),
            _ => 0,
        };
        for _ in 0..steps {
            match node.step(&mut log) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    coverage.failed_writes += 1;
                    user.forget_durable(log.durable());
                    return;
                }
            }
        }
        user.forget_durable(log.durable());
    }
    // The crash comes when something is under way.
    if user.rng.random_ratio(2, 3) {
        for _ in 0..user.rng.random_range(0..20) {
            user.act(&mut log);
        }
        node.submit(&mut log);
    }
    let names = node.disk.files();
    // A log that is full begins one more where its opening does not fit into the last.
    assert!(names.len() <= 4 * 2 + 3 + life, "{replay}: {names:?}");
    let segments = names.iter().filter_map(|file| match file.name {
        FileName::Segment(number) => Some(number),
        FileName::Spare(_) => None,
    });
    coverage.given_up += segments.min().unwrap_or(1) - 1;
}
