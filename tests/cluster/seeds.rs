//! Running a scenario for many seeds: each twice, compared, and replayable.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run did, event by event: a digest of each.
pub(crate) type Trace = Vec<u64>;

/// Runs a scenario twice and compares; the error is what went wrong.
pub(crate) fn check_seed(seed: u64, scenario: impl Fn(u64) -> Trace) -> Result<Trace, String> {
    let run = || {
        catch_unwind(AssertUnwindSafe(|| scenario(seed))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            text.unwrap_or_default()
        })
    };
    let (first, second) = (run()?, run()?);
    if first == second {
        return Ok(first);
    }
    let at = first.iter().zip(&second).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| first.len().min(second.len()));
    Err(format!("two runs of one seed differ at event {at}"))
}

/// Runs a scenario with the seeds from 0 on: `seeds` of them, or what `CORECAST_SEEDS` or `CORECAST_SEED` say.
#[track_caller]
pub(crate) fn check_seeds(seeds: u64, scenario: impl Fn(u64) -> Trace) {
    let (first, end) = match (variable("CORECAST_SEED"), variable("CORECAST_SEEDS")) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(seeds)) => (0, seeds),
        (None, None) => (0, seeds),
    };
    for seed in first..end {
        if let Err(failure) = check_seed(seed, &scenario) {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or_default().to_owned();
            panic!(
                "seed {seed} failed: {failure}\nreplay it with: CORECAST_SEED={seed} cargo test --test cluster -- \
                 --exact {test}"
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
