//! Groups of flags that several scenarios share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, value_parser};
use corecast::PinningArgs;

use crate::keys::KeyDistribution;
use crate::report::Slo;
use crate::units::parse_duration;

/// The greatest payload: a message larger than this measures the allocator.
const MAX_PAYLOAD_BYTES: u32 = 1 << 20;
/// Entities are numbered, and each costs memory once active.
const MAX_ENTITIES: u64 = 1_000_000_000;

/// What every scenario takes.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// The runtime's own flags.
    #[command(flatten)]
    pub pinning: PinningArgs,
    /// Where the figures go and what they are held against.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Who sends.
#[derive(Args, Clone, Debug)]
pub struct DriverArgs {
    /// Who sends: tasks on the runtime's own cores, or N threads outside of it
    #[arg(
        long,
        value_name = "cores|threads:N",
        default_value = "cores",
        help_heading = "Load"
    )]
    pub drivers: Drivers,
}

/// Whom the messages go to.
#[derive(Args, Clone, Debug)]
pub struct PopulationArgs {
    /// Number of entities; each is started by its first message
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Load",
          value_parser = value_parser!(u64).range(1..=MAX_ENTITIES))]
    pub entities: u64,
    /// How the load is spread over them: uniform, or zipf:θ (the hot ones are scattered over all shards)
    #[arg(
        long,
        value_name = "uniform|zipf:θ",
        default_value = "zipf:0.99",
        help_heading = "Load"
    )]
    pub keys: KeyDistribution,
}

/// What the messages carry.
#[derive(Args, Clone, Debug)]
pub struct MessageArgs {
    /// Bytes carried by each message beside its fixed fields
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = "Load",
          value_parser = value_parser!(u32).range(0..=i64::from(MAX_PAYLOAD_BYTES)))]
    pub payload: u32,
}

/// How long, and from which seed.
#[derive(Args, Clone, Debug)]
pub struct TimingArgs {
    /// Unmeasured time at the start of each phase, such as 500ms or 2s
    #[arg(long, visible_alias = "warm-up", value_name = "TIME", default_value = "1s", value_parser = parse_duration,
          help_heading = "Timing")]
    pub warmup: Duration,
    /// Measured time of each phase, such as 8s or 1m
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = parse_measured, help_heading = "Timing")]
    pub duration: Duration,
    /// Seed of keys, mix and arrivals: the same seed sends the same messages
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Timing")]
    pub seed: u64,
}

/// Where the figures go and what they are held against.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputArgs {
    /// Objective that decides the exit code, such as 'p99<1ms', 'p99.9<=250us', 'max<10ms' or 'rate>1M', and with faults
    /// 'outage<6s' or 'outage.p99<5s'; repeatable.
    /// Latencies are those of the last phase, the rate is the best of all phases. A miss says if the machine's own
    /// hiccups are beyond the objective as well
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Results")]
    pub slo: Vec<Slo>,
    /// Compare with an earlier run's --json file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub baseline: Option<PathBuf>,
    /// Write all figures, the machine and the settings as JSON; its members are described at `Report` in
    /// loadgen/src/report/model.rs
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub json: Option<PathBuf>,
    /// Write the last phase's latencies in HdrHistogram's percentile format (values in µs); the other phases and the
    /// uncorrected latencies go beside it, as run.peak.hgrm beside run.hgrm
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub hgrm: Option<PathBuf>,
    /// Write a self-contained page with plots
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub html: Option<PathBuf>,
}

/// Who sends the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drivers {
    /// One driver on each core of the runtime.
    Cores,
    /// Threads outside of the runtime.
    Threads(u32),
}

impl FromStr for Drivers {
    type Err = String;

    fn from_str(text: &str) -> Result<Drivers, String> {
        if text == "cores" {
            return Ok(Drivers::Cores);
        }
        match text.strip_prefix("threads:").map(str::parse) {
            Some(Ok(threads @ 1..=1024)) => Ok(Drivers::Threads(threads)),
            _ => Err("write cores, or threads:N with N from 1 to 1024".to_owned()),
        }
    }
}

impl fmt::Display for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Drivers::Cores => f.write_str("cores"),
            Drivers::Threads(threads) => write!(f, "threads:{threads}"),
        }
    }
}

/// A measured time cannot be nothing.
pub(super) fn parse_measured(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration < Duration::from_millis(100) => {
            Err("at least 100ms are needed".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
