//! The flags of the comparison with bare TCP, and the job they amount to.

use std::time::Duration;

use clap::{Args, value_parser};

use super::args::{CommonArgs, parse_measured};
use super::job::{Contradiction, Job, Setting, Work};
use super::nodes::refuse_placing;
use crate::units;

/// The flags.
#[derive(Args, Clone, Debug)]
pub struct WireArgs {
    /// Measured time of each measurement; there are seven to a round
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_measured, help_heading = "Timing")]
    pub duration: Duration,
    /// Rounds, of which medians are shown: bare TCP and corecast take turns, for machines change
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Timing",
          value_parser = value_parser!(u32).range(1..=101))]
    pub rounds: u32,
    /// What every scenario takes.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Two processes on loopback, beside bare TCP between the same two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Of each measurement.
    pub duration: Duration,
    /// Rounds of all of them.
    pub rounds: u32,
}

impl Wire {
    /// For the report.
    pub(super) fn settings(&self) -> Vec<Setting> {
        vec![
            Setting::new(
                "processes",
                "2 on loopback, a data core each, one data connection",
            ),
            Setting::new("each", units::duration(self.duration)),
            Setting::new("rounds", self.rounds),
        ]
    }
}

impl WireArgs {
    /// The job; its two nodes are placed as those of `--nodes` are.
    pub(super) fn job(self) -> Result<Job, Contradiction> {
        refuse_placing(&self.common.pinning)?;
        if self.common.pinning.spin.is_some() {
            return Err(Contradiction::SpinOfWire);
        }
        Ok(Job {
            work: Work::Wire(Wire {
                duration: self.duration,
                rounds: self.rounds,
            }),
            seed: 0,
            common: self.common,
            nodes: None,
        })
    }
}
