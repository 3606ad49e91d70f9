//! Running a scenario for many seeds: each twice, compared, and replayable.

use super::builder::SimulationBuilder;
use super::cluster::ClusterSimulation;
use super::simulation::Simulation;
use super::trace::{Difference, Trace};
use crate::actor::guard::panic_text;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why a seed failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedFailure {
    /// The scenario panicked; usually an assertion of it.
    Panicked(String),
    /// Two runs of the same seed did different things: something leaks in that the seed does not decide, such as the
    /// time of the machine, the order of a map, an address or a static variable.
    Differs(Difference),
}

impl fmt::Display for SeedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeedFailure::Panicked(text) => f.write_str(text),
            SeedFailure::Differs(difference) => write!(
                f,
                "two runs of one seed differ, so something leaks into the scenario that the seed does not decide: \
                 Instant::now or SystemTime::now (use ctx.now or ctx.clock), randomness of its own (use ctx.rng), the \
                 order of a HashMap, an address, a static variable; {difference}"
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
        let checked = CHECKED.replace(true);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            scenario(SimulationBuilder::new(seed)).trace().clone()
        }));
        CHECKED.set(checked);
        ran.map_err(|panic| SeedFailure::Panicked(panic_text(panic)))
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
    each_seed(seeds, |seed| check_seed(seed, &scenario).map(drop));
}

/// Runs a scenario of several nodes with the seeds from 0 to the one before `seeds`, each twice, as [`check_seeds`] does,
/// also with respect to the variables. The traces of all nodes are compared.
///
/// # Panics
/// As there.
pub fn check_cluster_seeds(seeds: u64, scenario: impl Fn(ClusterSimulation) -> ClusterSimulation) {
    each_seed(seeds, |seed| {
        let run = || {
            let checked = CHECKED.replace(true);
            let ran = catch_unwind(AssertUnwindSafe(|| {
                scenario(ClusterSimulation::new(seed)).traces()
            }));
            CHECKED.set(checked);
            ran.map_err(|panic| SeedFailure::Panicked(panic_text(panic)))
        };
        let (first, second) = (run()?, run()?);
        compare(&first, &second)
    });
}

/// One seed in so many is run twice by [`check_cluster_swarm`].
const COMPARED: u64 = 16;

/// Runs a scenario of several nodes that takes long, with the seeds from 0 to the one before `seeds`: each once, and every
/// sixteenth twice, to be compared. What the scenario gives beside its cluster comes out for each seed, in their order.
///
/// With the variables as in [`check_seeds`]; the seeds that `CORECAST_SEEDS` asks for run on all CPUs.
///
/// # Panics
/// As there.
pub fn check_cluster_swarm<T: Send>(
    seeds: u64,
    scenario: impl Fn(ClusterSimulation) -> (ClusterSimulation, T) + Sync,
) -> Vec<T> {
    let run = |seed: u64| {
        let checked = CHECKED.replace(true);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let (cluster, result) = scenario(ClusterSimulation::new(seed));
            (cluster.traces(), result)
        }));
        CHECKED.set(checked);
        ran.map_err(|panic| SeedFailure::Panicked(panic_text(panic)))
    };
    let check = |seed: u64| {
        let (first, result) = run(seed)?;
        if seed.is_multiple_of(COMPARED) {
            let (second, _) = run(seed)?;
            compare(&first, &second)?;
        }
        Ok(result)
    };
    let range = range_of(seeds);
    let threads = match variable("CORECAST_SEEDS") {
        Some(_) => std::thread::available_parallelism().map_or(1, usize::from),
        None => 1,
    };
    let next = AtomicU64::new(range.start);
    let has_failed = AtomicBool::new(false);
    let work = || {
        let mut results = Vec::new();
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= range.end {
                break;
            }
            let result = check(seed);
            has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.push((seed, result));
        }
        results
    };
    let mut results = match threads {
        1 => work(),
        _ => std::thread::scope(|scope| {
            // The name of a thread of a test is that of the test, which the line for the replay needs.
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let threads = (0..threads).map(|_| {
                let thread = std::thread::Builder::new().name(name.clone());
                let thread = thread.spawn_scoped(scope, work);
                thread.unwrap_or_else(|error| panic!("no thread for the seeds: {error}"))
            });
            let threads: Vec<_> = threads.collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            let joined = joined.map(|it| it.unwrap_or_else(|panic| resume_unwind(panic)));
            joined.flatten().collect()
        }),
    };
    results.sort_by_key(|(seed, _)| *seed);
    let results = results.into_iter().map(|(seed, result)| match result {
        Ok(result) => result,
        Err(failure) => fail_seed(seed, &failure),
    });
    results.collect()
}

fn compare(first: &[Trace], second: &[Trace]) -> Result<(), SeedFailure> {
    let mut both = first.iter().zip(second);
    match both.find_map(|(first, second)| first.difference(second)) {
        None => Ok(()),
        Some(difference) => Err(SeedFailure::Differs(difference)),
    }
}

fn range_of(seeds: u64) -> Range<u64> {
    match (variable("CORECAST_SEED"), variable("CORECAST_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..seeds,
        (None, None) => 0..seeds,
    }
}

fn fail_seed(seed: u64, failure: &SeedFailure) -> ! {
    panic!(
        "seed {seed} failed: {failure}\nreplay it with: {}",
        replay_line(seed)
    );
}

fn each_seed(seeds: u64, check: impl Fn(u64) -> Result<(), SeedFailure>) {
    for seed in range_of(seeds) {
        if let Err(failure) = check(seed) {
            fail_seed(seed, &failure);
        }
    }
}

thread_local! {
    /// On this thread a seed is checked, and whoever has it checked says how to replay it.
    static CHECKED: Cell<bool> = const { Cell::new(false) };
}

/// Fails a run.
#[track_caller]
pub(super) fn fail(seed: u64, what: fmt::Arguments<'_>) -> ! {
    if CHECKED.get() {
        panic!("{what}");
    }
    panic!(
        "seed {seed} failed: {what}\nreplay it with: {}",
        replay_line(seed)
    );
}

/// Says of a run that ends with somebody else's panic how to replay it.
#[expect(
    clippy::print_stderr,
    reason = "that is where the panic has been reported"
)]
pub(super) fn say_seed(seed: u64) {
    if !CHECKED.get() {
        eprintln!(
            "this was seed {seed}\nreplay it with: {}",
            replay_line(seed)
        );
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is {text:?}; it must be a whole number"),
    }
}

/// The command that runs the test in whose thread this is called with one seed. (A test that takes its seed from elsewhere
/// than [`check_seeds`] is replayed by the command, whatever the variable says.)
pub(super) fn replay_line(seed: u64) -> String {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let program = std::env::args().next().unwrap_or_default();
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    let command = command(&program, &package, test.unwrap_or_default());
    format!("CORECAST_SEED={seed} {command}")
}

fn command(program: &str, package: &str, test: &str) -> String {
    let mut path = program.rsplit(['/', '\\']);
    let stem = path.next().unwrap_or_default();
    let is_example = path.next() == Some("examples");
    // Cargo puts a hash behind the name of a test binary.
    let target = match stem.rsplit_once('-') {
        Some((target, hash))
            if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            target
        }
        _ => stem,
    };
    match (is_example, test) {
        (true, "") => format!("cargo run --example {target}"),
        (true, _) => format!("cargo test --example {target} -- --exact {test}"),
        // The tests of a library, or of a program of its name.
        _ if target == package.replace('-', "_") => format!("cargo test -- --exact {test}"),
        _ => format!("cargo test --test {target} -- --exact {test}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_target_and_the_test() {
        let hash = "0123456789abcdef";
        for (program, test, expected) in [
            (
                "deps/orders-HASH",
                "a::b",
                "cargo test --test orders -- --exact a::b",
            ),
            ("deps/my_shop-HASH", "a::b", "cargo test -- --exact a::b"),
            (
                "examples/shop-HASH",
                "t",
                "cargo test --example shop -- --exact t",
            ),
            ("examples/shop", "", "cargo run --example shop"),
            (
                "deps/late-orders",
                "t",
                "cargo test --test late-orders -- --exact t",
            ),
        ] {
            let program = format!("target/debug/{}", program.replace("HASH", hash));
            assert_eq!(command(&program, "my-shop", test), expected);
        }
    }
}
