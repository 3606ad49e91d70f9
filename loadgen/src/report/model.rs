//! The report of one run: the schema of `--json`, and the one source of the table and the page.

use serde::{Deserialize, Serialize};

use super::balance::BalanceReport;
use super::cluster::ClusterReport;
use super::machine::Machine;
use super::slo::{Slo, SloVerdict};
use super::wire::WireReport;
use crate::exit::Outcome;
use crate::measure::{HiccupSummary, PhaseSummary};
use crate::options::Setting;

/// The version of the schema.
pub const REPORT_VERSION: u32 = 1;

/// The name of the phase of a search for saturation.
pub const SATURATION: &str = "saturation";

/// The name of what was heard of the machine, in the place of a phase.
pub const MACHINE: &str = "machine";

/// The report of one run.
///
/// # Schema, version 1
///
/// An object with these members; times are in the unit that their name ends with, counts are whole numbers.
///
/// | member | content |
/// |---|---|
/// | `version` | 1; a reader refuses every other |
/// | `program` | name and version of the program |
/// | `started_unix_s` | when the run began, seconds since 1970-01-01 UTC |
/// | `scenario` | `main`, `tell`, `ask`, `entities`, `ring`, `fan-out`, `balancer`, `replay` or `wire` |
/// | `seed` | the seed |
/// | `commit` | the commit of the source, absent when unknown |
/// | `machine` | [`Machine`]: `cpu_model`, `cpus`, `memory_bytes`, `kernel` |
/// | `cores` | CPU number of each core of the runtime, in the runtime's order |
/// | `settings` | list of `{name, value}` for people |
/// | `hiccups` | [`HiccupSummary`]: what a thread that only spins would have shown just before, when that was listened to |
/// | `phases` | list of [`PhaseSummary`], in the order they ran |
/// | `saturation_rate` | highest sustained rate per second, when one was searched for and found |
/// | `slos` | list of [`SloVerdict`] |
/// | `balance` | [`BalanceReport`], of the balancer's scenario |
/// | `replay` | [`ReplayReport`], when a file was replayed |
/// | `cluster` | [`ClusterReport`], of a run over several nodes: results per node, faults, member events |
/// | `wire` | [`WireReport`], of the comparison with bare TCP |
///
/// A change that an old reader would misunderstand gets a new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Name and version of the program.
    pub program: String,
    /// When the run began, in seconds since 1970-01-01 UTC.
    pub started_unix_s: u64,
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The commit of the source, if known.
    pub commit: Option<String>,
    /// Where it ran.
    pub machine: Machine,
    /// CPU number of each core of the runtime.
    pub cores: Vec<usize>,
    /// What was asked for.
    pub settings: Vec<Setting>,
    /// What a thread that only spins would have shown on the cores' CPUs just before.
    pub hiccups: Option<HiccupSummary>,
    /// The figures of each phase.
    pub phases: Vec<PhaseSummary>,
    /// The highest sustained rate per second, when one was searched for and found.
    pub saturation_rate: Option<f64>,
    /// The objectives and whether they were met.
    pub slos: Vec<SloVerdict>,
    /// What the balancer did, if that was measured.
    pub balance: Option<BalanceReport>,
    /// The outcome of a replay.
    pub replay: Option<ReplayReport>,
    /// What is to be known of the nodes, when there were several.
    pub cluster: Option<ClusterReport>,
    /// Two nodes beside bare TCP.
    pub wire: Option<WireReport>,
}

/// The outcome of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Rows sent to entities.
    pub rows: u64,
    /// Entities that received any.
    pub entities: u64,
    /// Rows that were malformed.
    pub malformed: u64,
    /// Entities that differ from the independent pass.
    pub mismatches: u64,
    /// Over a cluster, whether the order was checked in which each entity received the rows of each node. It was not when
    /// rows had to be sent again.
    pub is_order_checked: Option<bool>,
    /// Each summed column: its name, the sum over all entities, and how many values were missing.
    pub columns: Vec<ReplayColumn>,
}

/// A summed column of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayColumn {
    /// Its name in the file.
    pub name: String,
    /// The exact sum over all entities, in decimal notation.
    pub sum: String,
    /// How many values were empty or `NA`.
    pub missing: u64,
}

impl Report {
    /// A report without figures, begun now, on this machine.
    #[must_use]
    pub fn begun_now(scenario: &str, seed: u64, settings: Vec<Setting>) -> Report {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Report {
            version: REPORT_VERSION,
            program: concat!("loadgen ", env!("CARGO_PKG_VERSION")).to_owned(),
            started_unix_s: since_epoch.map_or(0, |duration| duration.as_secs()),
            scenario: scenario.to_owned(),
            seed,
            commit: super::machine::commit(),
            machine: Machine::this(),
            cores: Vec::new(),
            settings,
            hiccups: None,
            phases: Vec::new(),
            saturation_rate: None,
            slos: Vec::new(),
            balance: None,
            replay: None,
            cluster: None,
            wire: None,
        }
    }

    /// The phase that latency is judged by: the last.
    #[must_use]
    pub fn headline(&self) -> Option<&PhaseSummary> {
        self.phases.last()
    }

    /// The phase with the highest throughput.
    #[must_use]
    pub fn fastest(&self) -> Option<&PhaseSummary> {
        self.phases.iter().max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// Whether a search for saturation found no rate that was sustained.
    #[must_use]
    pub fn is_search_in_vain(&self) -> bool {
        let mut phases = self.phases.iter();
        self.saturation_rate.is_none() && phases.any(|phase| phase.name == SATURATION)
    }

    /// Holds the figures against the objectives, and against those of the scenario, and keeps the verdicts.
    pub fn judge(&mut self, slos: &[Slo]) {
        let balance = self.balance.iter().flat_map(BalanceReport::verdicts);
        let wire = self.wire.iter().flat_map(WireReport::verdicts);
        self.slos = slos
            .iter()
            .map(|slo| slo.verdict(self))
            .chain(balance)
            .chain(wire)
            .collect();
    }

    /// The outcome of the run, which decides the exit code.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let replay = self.replay.as_ref();
        let outcomes = [
            (
                self.slos.iter().any(|verdict| !verdict.is_met),
                Outcome::SloMissed,
            ),
            (
                self.headline()
                    .is_some_and(|phase| !phase.validity.is_valid()),
                Outcome::InvalidRun,
            ),
            (
                replay.is_some_and(|replay| replay.malformed > 0),
                Outcome::MalformedRows,
            ),
            (
                self.cluster
                    .as_ref()
                    .is_some_and(|cluster| cluster.false_events > 0),
                Outcome::FalseDeath,
            ),
            (
                self.cluster
                    .as_ref()
                    .is_some_and(ClusterReport::is_incomplete),
                Outcome::Incomplete,
            ),
            (
                replay.is_some_and(|replay| replay.mismatches > 0),
                Outcome::Mismatch,
            ),
        ];
        outcomes
            .into_iter()
            .filter_map(|(applies, outcome)| applies.then_some(outcome))
            .max()
            .unwrap_or(Outcome::Clean)
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Reports for the tests of this crate.

    use std::time::Duration;

    use corecast::Time;
    use corecast::base::rng::seeded;

    use super::*;
    use crate::arrivals::{Arrivals, Schedule, Share};
    use crate::keys::unit;
    use crate::measure::{Hiccups, PhaseLabel, Recorder, Stamps, Window};

    /// A main job: a peak phase and an open phase with a stall, so that the two latencies differ.
    pub(crate) fn main_job() -> Report {
        let mut report = Report::begun_now(
            "main",
            1,
            vec![
                Setting::new("entities", "1,000,000"),
                Setting::new("keys", "zipf:0.99"),
                Setting::new("mix", "80 % tells, 20 % asks"),
                Setting::new("payload", "0 bytes"),
                Setting::new("drivers", "cores"),
                Setting::new(
                    "phase peak",
                    "closed loop, 256 in flight per driver, 8 s after 1 s of warm-up",
                ),
                Setting::new(
                    "phase open",
                    "open loop, 50 % of the peak, poisson, 8 s after 1 s of warm-up",
                ),
            ],
        );
        report.cores = vec![0, 1];
        let peak = PhaseLabel {
            name: "peak".into(),
            pacing: "closed loop, 256 in flight".into(),
            offered_rate: None,
        };
        report.phases.push(phase(peak, 60_000.0, 18_000.0, false));
        let open = PhaseLabel {
            name: "open".into(),
            pacing: "open loop, 30.0 k/s, poisson".into(),
            offered_rate: Some(30_000.0),
        };
        report.phases.push(phase(open, 30_000.0, 1_800.0, true));
        report
    }

    /// The same on a machine that took each of two CPUs for 4 ms a second: its p99.9 is 3 ms, its p99 below 1 µs.
    pub(crate) fn main_job_with_hiccups() -> Report {
        let mut hiccups = Hiccups::new();
        for _ in 0..4 {
            hiccups.passed(Duration::from_millis(4));
            (0..996_000).for_each(|_| {
                hiccups.passed(Duration::from_nanos(500));
                hiccups.passed(Duration::from_nanos(500));
            });
        }
        let mut report = main_job();
        report.hiccups = hiccups.summary(&report.cores);
        report
    }

    fn phase(label: PhaseLabel, rate: f64, typical_ns: f64, with_stall: bool) -> PhaseSummary {
        let window = Window::after_warm_up(Time::ZERO, Duration::ZERO, Duration::from_secs(8));
        let mut recorder = Recorder::new(window);
        let mut rng = seeded(3, 0);
        let share = Share {
            total_rate: rate,
            driver: 0,
            drivers: 1,
        };
        for due in Schedule::new(share, Arrivals::Poisson, 3).take_while(|&due| due < 8_000_000_000)
        {
            let stalled = with_stall && (5_000_000_000..5_002_500_000).contains(&due);
            let sent = if stalled { 5_002_500_000 } else { due };
            let stamps = Stamps {
                intended: Time::from_nanos(due),
                sent: Time::from_nanos(sent),
            };
            let latency =
                typical_ns * (0.6 - unit(&mut rng).ln() * 0.5 + unit(&mut rng).powi(600) * 60.0);
            recorder.sent(stamps, stalled);
            recorder.completed(stamps, Time::from_nanos(sent + latency as u64));
        }
        recorder.summary(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Validity;

    #[test]
    fn the_worst_outcome_decides() {
        let mut report = samples::main_job();
        assert_eq!(report.outcome(), Outcome::Clean);
        report.judge(&["max<1ns".parse().expect("an objective")]);
        assert_eq!(report.outcome(), Outcome::SloMissed);
        report.phases[1].validity = Validity::Invalid {
            reason: "lag".into(),
        };
        assert_eq!(report.outcome(), Outcome::InvalidRun);
        report.replay = Some(ReplayReport {
            malformed: 1,
            ..ReplayReport::default()
        });
        assert_eq!(report.outcome(), Outcome::MalformedRows);
        report.replay = Some(ReplayReport {
            malformed: 1,
            mismatches: 1,
            ..ReplayReport::default()
        });
        assert_eq!(report.outcome(), Outcome::Mismatch);
    }
}
