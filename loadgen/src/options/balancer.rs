//! The flags of the balancer's scenario and the checked job they amount to.

use std::time::Duration;

use clap::{Args, value_parser};

use super::args::{CommonArgs, parse_measured};
use super::job::{Job, PhaseSpec, Setting, Work};
use super::pacing::Pacing;
use crate::keys::KeyDistribution;
use crate::units::{self, parse_duration};

/// The measured phase before anything moves is preceded by this.
const WARM_UP: Duration = Duration::from_millis(500);
/// Messages in flight per driver: work for several time slices of the kernel, so that a core that is held up for one
/// does not leave the others without work.
const IN_FLIGHT: u32 = 8_192;
/// What a handler may be told to compute: above a clock's noise, and below what holds a core for too long.
const WORK: std::ops::RangeInclusive<Duration> =
    Duration::from_nanos(100)..=Duration::from_millis(10);

/// The flags of the balancer's scenario.
#[derive(Args, Clone, Debug)]
pub struct BalancerArgs {
    /// Number of entities
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Load",
          value_parser = value_parser!(u64).range(1..=100_000_000))]
    pub entities: u64,
    /// How the load is spread over them: uniform, or zipf:θ
    #[arg(
        long,
        value_name = "uniform|zipf:θ",
        default_value = "zipf:0.99",
        help_heading = "Load"
    )]
    pub keys: KeyDistribution,
    /// Computation of each handler, the same amount whatever else the CPU does: what makes the core of the hot shards
    /// the bottleneck, and not the drivers
    #[arg(long, value_name = "TIME", default_value = "2us", value_parser = parse_work, help_heading = "Load")]
    pub work: Duration,
    /// Core on which all shards start: its place among the runtime's cores, not its CPU
    #[arg(long, value_name = "CORE", default_value_t = 0, help_heading = "Load")]
    pub hot_core: u16,
    /// Measured time with all shards on that core and the balancer off
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_measured, help_heading = "Timing")]
    pub before: Duration,
    /// Time that the balancer then has to spread them, not measured
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, help_heading = "Timing")]
    pub settle: Duration,
    /// Measured time behind it, in which the load stays as it is. To see that no shard moves twice within 60 s it
    /// takes 60s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_measured, help_heading = "Timing")]
    pub steady: Duration,
    /// Seed of the keys
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Timing")]
    pub seed: u64,
    /// Objective: throughput behind --settle over throughput before
    #[arg(long, value_name = "RATIO", default_value = "1.6", value_parser = parse_ratio, help_heading = "Results")]
    pub min_gain: f64,
    /// What every scenario takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Shards that all start on one core, with and without the balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct Balancing {
    /// Number of entities.
    pub entities: u64,
    /// How the load is spread over them.
    pub keys: KeyDistribution,
    /// What each handler computes, as time on a CPU of its own.
    pub work: Duration,
    /// The core, by its place among the runtime's cores.
    pub hot_core: u16,
    /// Messages in flight per driver.
    pub in_flight: u32,
    /// The least throughput after over throughput before.
    pub min_gain: f64,
    /// All shards on one core without the balancer, then with it.
    pub phases: [PhaseSpec; 2],
}

impl Balancing {
    /// The phase without the balancer.
    #[must_use]
    pub fn hot(&self) -> PhaseSpec {
        self.phases[0]
    }

    /// The phase with the balancer; its warm-up is the time that it has.
    #[must_use]
    pub fn spread(&self) -> PhaseSpec {
        self.phases[1]
    }

    pub(super) fn settings(&self) -> Vec<Setting> {
        vec![
            Setting::new("entities", units::grouped(self.entities)),
            Setting::new("keys", self.keys),
            Setting::new(
                "work",
                format!("{} in each handler", units::duration(self.work)),
            ),
            Setting::new(
                "hot core",
                format!("core-{}, all shards start there", self.hot_core),
            ),
        ]
    }
}

impl From<BalancerArgs> for Job {
    fn from(args: BalancerArgs) -> Job {
        let phase = |name, warm_up, duration| PhaseSpec {
            name,
            pacing: Pacing::Closed {
                in_flight: IN_FLIGHT,
            },
            warm_up,
            duration,
        };
        Job {
            work: Work::Balancing(Balancing {
                entities: args.entities,
                keys: args.keys,
                work: args.work,
                hot_core: args.hot_core,
                in_flight: IN_FLIGHT,
                min_gain: args.min_gain,
                phases: [
                    phase("hot", WARM_UP, args.before),
                    phase("spread", args.settle, args.steady),
                ],
            }),
            seed: args.seed,
            common: args.common,
            nodes: None,
        }
    }
}

fn parse_work(text: &str) -> Result<Duration, String> {
    let work = parse_duration(text).map_err(|error| error.to_string())?;
    if WORK.contains(&work) {
        Ok(work)
    } else {
        Err(format!(
            "the work of a handler lies between {} and {}",
            units::duration(*WORK.start()),
            units::duration(*WORK.end())
        ))
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio > 0.0 && ratio.is_finite() => Ok(ratio),
        _ => Err("a ratio is a number above 0, such as 1.6".to_owned()),
    }
}
