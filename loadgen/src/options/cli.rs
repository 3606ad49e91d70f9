//! The command line as a whole.

use std::fmt;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, value_parser};

use super::args::{CommonArgs, DriverArgs, MessageArgs, PopulationArgs, TimingArgs};
use super::balancer::BalancerArgs;
use super::job::Job;
use super::nodes::NodesArgs;
use super::pacing::PacingArgs;
use super::wire::WireArgs;
use crate::exit;

/// Load generator of corecast.
///
/// Without a scenario it runs the main job, about 20 seconds: one million entities with zipf 0.99 keys, 80 % tells and
/// 20 % asks, first in a closed loop for the peak rate, then in an open loop at 50 % of it for the latency. Latency is
/// measured from the intended send time, so it is corrected for coordinated omission; the uncorrected one stands beside.
/// Before it, threads that only spin show for 2 seconds what the machine itself does to latency (row `machine`).
#[derive(Clone, Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true, after_help = exit::HELP)]
pub struct Cli {
    /// What to run; nothing runs the main job.
    #[command(subcommand)]
    pub scenario: Option<Scenario>,
    /// The main job's flags.
    #[command(flatten)]
    pub main: MixedArgs,
}

/// What to run.
#[derive(Clone, Debug, Subcommand)]
pub enum Scenario {
    /// Tells only, to sharded entities (closed loop unless told otherwise)
    Tell(LoadArgs),
    /// Asks only, to sharded entities (closed loop unless told otherwise)
    Ask(LoadArgs),
    /// Tells and asks mixed, to sharded entities (closed loop unless told otherwise)
    Entities(MixedArgs),
    /// Tokens passed around a ring of actors over all cores
    Ring(RingArgs),
    /// One sender to many receivers over all cores; a message is one delivery
    FanOut(FanOutArgs),
    /// All shards on one core, then with the balancer: what throughput gains, and which shards move (two cores or more)
    Balancer(BalancerArgs),
    /// One message per row of a CSV file to the entity named by its key, checked against an independent pass
    Replay(ReplayArgs),
    /// Two nodes on loopback beside bare TCP in the same run: tells, asks one at a time, bandwidth
    Wire(WireArgs),
}

/// The flags of a load on sharded entities.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Whom the messages go to.
    #[command(flatten)]
    pub population: PopulationArgs,
    /// What the messages carry.
    #[command(flatten)]
    pub message: MessageArgs,
    /// Who sends.
    #[command(flatten)]
    pub drivers: DriverArgs,
    /// How fast.
    #[command(flatten)]
    pub pacing: PacingArgs,
    /// Over which cluster.
    #[command(flatten)]
    pub nodes: NodesArgs,
    /// How long.
    #[command(flatten)]
    pub timing: TimingArgs,
    /// What every scenario takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of a mixed load.
#[derive(Args, Clone, Debug)]
pub struct MixedArgs {
    /// Share of asks in percent, the rest are tells
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "20",
        help_heading = "Load"
    )]
    pub mix: Mix,
    /// The rest of the flags.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// The flags of the ring.
#[derive(Args, Clone, Debug)]
pub struct RingArgs {
    /// Number of actors in the ring
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Load",
          value_parser = value_parser!(u32).range(2..=1_000_000))]
    pub actors: u32,
    /// Tokens that go round at the same time
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub tokens: u32,
    /// What the tokens carry.
    #[command(flatten)]
    pub message: MessageArgs,
    /// How long.
    #[command(flatten)]
    pub timing: TimingArgs,
    /// What every scenario takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of the fan-out.
#[derive(Args, Clone, Debug)]
pub struct FanOutArgs {
    /// Number of receivers, spread over all cores
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Load",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub receivers: u32,
    /// Rounds in flight at the same time
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Load",
          value_parser = value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// What the messages carry.
    #[command(flatten)]
    pub message: MessageArgs,
    /// How long.
    #[command(flatten)]
    pub timing: TimingArgs,
    /// What every scenario takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of the replay.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// CSV file with a header line, plain or gzip [default: the flights file that comes with loadgen]
    #[arg(long, value_name = "FILE", help_heading = "Replay")]
    pub input: Option<PathBuf>,
    /// Column that names the entity
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "tailnum",
        help_heading = "Replay"
    )]
    pub key: String,
    /// Column of whole or decimal numbers to sum; repeatable
    #[arg(long, value_name = "COLUMN", default_values = ["distance", "air_time"], help_heading = "Replay")]
    pub sum: Vec<String>,
    /// How many malformed rows, and how many differing entities, are printed; all are counted
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Replay",
          value_parser = value_parser!(u32).range(0..=100_000))]
    pub show: u32,
    /// Shards moved from core to core per second while rows arrive, 0 for none; with one core, and with --nodes, there
    /// are none
    #[arg(long, value_name = "N", default_value_t = 250, help_heading = "Replay",
          value_parser = value_parser!(u32).range(0..=10_000))]
    pub moves: u32,
    /// Withhold the first N rows from their entities, to see the check find it
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub lose: u64,
    /// Over which cluster.
    #[command(flatten)]
    pub nodes: NodesArgs,
    /// What every scenario takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The share of asks among the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Percent of asks, 0 to 100.
    pub ask_percent: u8,
}

impl std::str::FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        match text.strip_suffix('%').unwrap_or(text).parse() {
            Ok(ask_percent @ 0..=100) => Ok(Mix { ask_percent }),
            _ => Err("the share of asks is a whole number of percent from 0 to 100".to_owned()),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} % tells, {} % asks",
            100 - self.ask_percent,
            self.ask_percent
        )
    }
}

impl Cli {
    /// Reads a command line (its first item is the program's name) into a checked job.
    ///
    /// # Errors
    /// clap's error for a bad value, flags that contradict each other, `--help` and `--version`: print it with
    /// [`clap::Error::print`] and end with [`exit::USAGE`] if [`clap::Error::use_stderr`], else with 0.
    pub fn job<I, T>(arguments: I) -> Result<Job, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let cli = Cli::try_parse_from(arguments)?;
        Job::from_cli(cli).map_err(|contradiction| {
            Cli::command().error(ErrorKind::ArgumentConflict, contradiction.to_string())
        })
    }
}
