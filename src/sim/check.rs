//! Running a scenario for many seeds: each twice, compared, and replayable.

use super::builder::SimulationBuilder;
use super::simulation::Simulation;
use super::trace::{Difference, Trace};
use crate::actor::guard::panic_text;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a seed failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedFailure {
    /// The scenario panicked; usually an assertion of it.
    Panicked(String),
    /// Two runs of the same seed did different things: something leaks in that the seed does not decide, such as the
    /// order of a map, a clock, an address or a static variable.
    Differs(Difference),
}

impl fmt::Display for SeedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeedFailure::Panicked(text) => f.write_str(text),
            SeedFailure::Differs(difference) => write!(
                f,
                "two runs of one seed differ, so something leaks into the scenario that the seed does not decide; \
                 {difference}"
            ),
        }
    }
}

impl std::error::Error for SeedFailure {}

/// Runs a scenario twice with one seed and compares the traces. The scenario gets a builder with the seed, and returns
/// its simulation at the end. Its trace is the result.
///
/// # Errors
/// If the scenario panicked, or the runs differ.
pub fn check_seed(
    seed: u64,
    scenario: impl Fn(SimulationBuilder) -> Simulation,
) -> Result<Trace, SeedFailure> {
    let run = || {
        catch_unwind(AssertUnwindSafe(|| {
            scenario(SimulationBuilder::new(seed)).trace().clone()
        }))
        .map_err(|panic| SeedFailure::Panicked(panic_text(panic)))
    };
    let (first, second) = (run()?, run()?);
    match first.difference(&second) {
        None => Ok(first),
        Some(difference) => Err(SeedFailure::Differs(difference)),
    }
}

/// Runs a scenario with the seeds from 0 to the one before `seeds`, each as [`check_seed`] does. For use in a test:
///
/// - `CORECAST_SEEDS=10000` runs so many instead,
/// - `CORECAST_SEED=123` runs that one only.
///
/// # Panics
/// At the first seed that fails, with the line that replays it; and if one of the variables is not a number.
pub fn check_seeds(seeds: u64, scenario: impl Fn(SimulationBuilder) -> Simulation) {
    let (first, end) = match (variable("CORECAST_SEED"), variable("CORECAST_SEEDS")) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(seeds)) => (0, seeds),
        (None, None) => (0, seeds),
    };
    for seed in first..end {
        if let Err(failure) = check_seed(seed, &scenario) {
            panic!(
                "seed {seed} failed: {failure}\nreplay it with: {}",
                replay_line(seed)
            );
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is {text:?}; it must be a whole number"),
    }
}

/// The command that runs the test in whose thread this is called with one seed.
fn replay_line(seed: u64) -> String {
    let thread = std::thread::current();
    let test = thread
        .name()
        .filter(|name| *name != "main")
        .unwrap_or_default();
    let program = std::env::args().next().unwrap_or_default();
    let stem = program.rsplit(['/', '\\']).next().unwrap_or_default();
    // Cargo puts a hash behind the name of a test binary.
    let target = match stem.rsplit_once('-') {
        Some((target, hash))
            if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            target
        }
        _ => stem,
    };
    format!("CORECAST_SEED={seed} cargo test --test {target} -- --exact {test}")
}
