//! How fast messages are sent: closed loop, open loop, or a search for the highest sustained rate.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, value_parser};

use crate::arrivals::Arrivals;
use crate::units::{self, parse_duration, parse_rate};

/// Messages in flight per driver when a peak is measured and nothing else was asked for.
pub(super) const PEAK_IN_FLIGHT: u32 = 256;

/// How long the machine may be listened to; less would hear nothing of what happens 100 times a second.
const HICCUPS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);

/// The flags. At most one of `--rate`, `--closed` and `--find-saturation`.
#[derive(Args, Clone, Debug, Default)]
pub struct PacingArgs {
    /// Open loop: messages per second over all drivers, as 250000, 250k or 1.5M, or as a share of the peak, as 50%
    /// (the peak is then measured first, in a closed loop).
    /// The main job's default is 50%
    #[arg(long, value_name = "RATE", conflicts_with_all = ["closed", "find_saturation"], help_heading = "Pacing")]
    pub rate: Option<Rate>,
    /// Open loop: the gaps between messages [default: poisson]
    #[arg(
        long,
        value_name = "LAW",
        value_enum,
        conflicts_with = "closed",
        help_heading = "Pacing"
    )]
    pub arrivals: Option<Arrivals>,
    /// Closed loop: each driver keeps N messages in flight
    #[arg(long, value_name = "N", conflicts_with = "find_saturation", help_heading = "Pacing",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub closed: Option<u32>,
    /// Find the highest open-loop rate that is sustained: 99 % completed with a corrected p99 of at most 10 ms. Each trial
    /// takes a quarter of --warmup and --duration
    #[arg(long, help_heading = "Pacing")]
    pub find_saturation: bool,
    /// Open loop: time for which a thread on the CPU of each core only spins beforehand, to see what the machine itself
    /// does to latency; 0 leaves it out [default: 2s in the main job, else a fifth of --duration from 200ms to 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_hiccups, conflicts_with = "closed", help_heading = "Pacing")]
    pub hiccups: Option<Duration>,
}

/// The rate of an open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Messages per second over all drivers.
    PerSecond(f64),
    /// A share of the measured peak, from above 0 to 2.
    OfPeak(f64),
}

/// How a phase is paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// Each driver keeps so many messages in flight.
    Closed {
        /// Messages in flight per driver.
        in_flight: u32,
    },
    /// Messages are sent on a schedule.
    Open {
        /// How many per second.
        rate: Rate,
        /// The gaps between them.
        arrivals: Arrivals,
    },
    /// Trials at different rates, by [`SaturationSearch`](crate::saturation::SaturationSearch).
    Search {
        /// The gaps between messages.
        arrivals: Arrivals,
    },
}

impl Rate {
    /// Messages per second, given the measured peak; a share of no peak at all is one message.
    #[must_use]
    pub fn per_second(self, peak: f64) -> f64 {
        match self {
            Rate::PerSecond(rate) => rate,
            Rate::OfPeak(share) => (share * peak).max(1.0),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let Some(percent) = text.strip_suffix('%') else {
            return parse_rate(text)
                .map(Rate::PerSecond)
                .map_err(|error| format!("{error}, or a share of the peak: 50%"));
        };
        match percent.parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 200.0 => Ok(Rate::OfPeak(percent / 100.0)),
            _ => Err("a share of the peak lies above 0% and at or below 200%".to_owned()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::PerSecond(rate) => write!(f, "{}/s", units::rate(*rate)),
            Rate::OfPeak(share) => write!(f, "{} % of the peak", (share * 1e4).round() / 100.0),
        }
    }
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pacing::Closed { in_flight } => {
                write!(f, "closed loop, {in_flight} in flight per driver")
            }
            Pacing::Open { rate, arrivals } => write!(f, "open loop, {rate}, {arrivals}"),
            Pacing::Search { arrivals } => write!(f, "search for saturation, {arrivals}"),
        }
    }
}

/// Reads a time to listen to the machine, which is bounded, or none.
fn parse_hiccups(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(time) if time.is_zero() || HICCUPS.contains(&time) => Ok(time),
        Ok(_) => Err("it is 0, or from 10ms to 60s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl PacingArgs {
    /// The asked-for pacing, or `default` when none of the flags was given.
    pub(super) fn pacing(&self, default: Pacing) -> Pacing {
        let arrivals = self.arrivals.unwrap_or_default();
        match (self.rate, self.closed, self.find_saturation) {
            (Some(rate), _, _) => Pacing::Open { rate, arrivals },
            (None, Some(in_flight), _) => Pacing::Closed { in_flight },
            (None, None, true) => Pacing::Search { arrivals },
            (None, None, false) => match default {
                Pacing::Open {
                    rate,
                    arrivals: usual,
                } => Pacing::Open {
                    rate,
                    arrivals: self.arrivals.unwrap_or(usual),
                },
                other => other,
            },
        }
    }
}
