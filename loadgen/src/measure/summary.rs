//! The figures of one phase, as they are printed, plotted, written and compared.

use serde::{Deserialize, Serialize};

use super::lag::{LagSummary, Validity};
use super::latency::{CurvePoint, LatencySummary};
use super::timeline::TimelineSummary;

/// What a phase was.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseLabel {
    /// A short name, for example `peak`.
    pub name: String,
    /// The pacing for people, for example `closed, 256 in flight per driver`.
    pub pacing: String,
    /// The rate of an open loop in messages per second; `None` in a closed loop.
    pub offered_rate: Option<f64>,
}

/// The figures of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// A short name, unique within the run.
    pub name: String,
    /// The pacing for people.
    pub pacing: String,
    /// The rate of an open loop in messages per second; absent in a closed loop.
    pub offered_rate: Option<f64>,
    /// The measured time in seconds, without the warm-up.
    pub duration_s: f64,
    /// Messages sent in the measured time.
    pub sent: u64,
    /// Messages handled, or asks answered, in the measured time.
    pub completed: u64,
    /// Messages that were refused or lost, and asks without an answer, of those that were sent in the measured time.
    pub failed: u64,
    /// Completions per second.
    pub rate: f64,
    /// Latency from the intended send time; absent in a closed loop, which has none, and when none was recorded.
    pub corrected: Option<LatencySummary>,
    /// Latency from the actual send time; absent when none was recorded.
    pub uncorrected: Option<LatencySummary>,
    /// The corrected latency by percentile.
    pub corrected_curve: Vec<CurvePoint>,
    /// The uncorrected latency by percentile.
    pub uncorrected_curve: Vec<CurvePoint>,
    /// Throughput over time.
    pub timeline: TimelineSummary,
    /// How the generator kept its schedule.
    pub lag: LagSummary,
    /// Whether the figures mean anything.
    pub validity: Validity,
}

impl PhaseSummary {
    /// The share of the messages that came to an end by failing, from 0 to 1.
    #[must_use]
    pub fn failed_share(&self) -> f64 {
        self.failed as f64 / (self.failed + self.completed).max(1) as f64
    }

    /// The latency to judge the phase by: the corrected one, in a closed loop the uncorrected.
    #[must_use]
    pub fn latency(&self) -> Option<&LatencySummary> {
        self.corrected.as_ref().or(self.uncorrected.as_ref())
    }
}
