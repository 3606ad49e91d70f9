//! Service level objectives: `p99<1ms`, `p99.9<=250us`, `max<10ms`, `rate>1M`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::model::Report;
use crate::measure::{LatencySummary, PhaseSummary};
use crate::units;

/// An objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// What is held against the limit.
    pub quantity: Quantity,
    /// On which side of the limit it has to stay.
    pub bound: Bound,
    /// Nanoseconds for a latency, messages per second for the rate.
    pub limit: f64,
}

/// A figure that an objective can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The median latency.
    P50,
    /// The 90th percentile.
    P90,
    /// The 99th percentile.
    P99,
    /// The 99.9th percentile.
    P99_9,
    /// The 99.99th percentile.
    P99_99,
    /// The longest latency.
    Max,
    /// The arithmetic mean of the latencies.
    Mean,
    /// Completions per second.
    Rate,
    /// The longest time in which not every shard of a node that a fault hit answered. It is not met when a fault did not
    /// take place, was not measured, or has shards that never answered again.
    Outage,
    /// The 99th percentile of those times over all faults.
    OutageP99,
}

impl Quantity {
    /// The share of the messages whose latency it does not look at; `None` for the rate.
    fn leaves_out(self) -> Option<f64> {
        match self {
            Quantity::P50 => Some(0.5),
            Quantity::P90 => Some(0.1),
            Quantity::P99 => Some(0.01),
            Quantity::P99_9 => Some(0.001),
            Quantity::P99_99 => Some(0.000_1),
            Quantity::Max | Quantity::Mean => Some(0.0),
            Quantity::Rate | Quantity::Outage | Quantity::OutageP99 => None,
        }
    }

    fn is_of_faults(self) -> bool {
        matches!(self, Quantity::Outage | Quantity::OutageP99)
    }

    /// Its value in nanoseconds; `None` for the rate.
    fn of(self, latency: &LatencySummary) -> Option<f64> {
        match self {
            Quantity::P50 => Some(latency.p50_ns as f64),
            Quantity::P90 => Some(latency.p90_ns as f64),
            Quantity::P99 => Some(latency.p99_ns as f64),
            Quantity::P99_9 => Some(latency.p99_9_ns as f64),
            Quantity::P99_99 => Some(latency.p99_99_ns as f64),
            Quantity::Max => Some(latency.max_ns as f64),
            Quantity::Mean => Some(latency.mean_ns),
            Quantity::Rate | Quantity::Outage | Quantity::OutageP99 => None,
        }
    }
}

/// A comparison with the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// Whether an objective was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SloVerdict {
    /// The objective as it was written.
    pub objective: String,
    /// The measured value for people; says why when there is none.
    pub measured: String,
    /// Whether it was met. Without a value, or when the run is invalid, it was not.
    pub is_met: bool,
}

/// An objective that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// It has no comparison, or a wrong one for its figure.
    #[error(
        "'{0}' is not an objective: write for example p99<1ms, p99.9<=250us, max<10ms or rate>1M"
    )]
    Form(String),
    /// The figure is unknown.
    #[error(
        "'{0}' cannot be an objective: p50, p90, p99, p99.9, p99.99, max, mean, rate, outage and outage.p99 can"
    )]
    Quantity(String),
    /// The limit is no quantity of the figure's kind.
    #[error("the limit {0}")]
    Limit(#[from] units::UnitError),
}

const QUANTITIES: [(&str, Quantity); 10] = [
    ("p50", Quantity::P50),
    ("p90", Quantity::P90),
    ("p99", Quantity::P99),
    ("p99.9", Quantity::P99_9),
    ("p99.99", Quantity::P99_99),
    ("max", Quantity::Max),
    ("mean", Quantity::Mean),
    ("rate", Quantity::Rate),
    ("outage", Quantity::Outage),
    ("outage.p99", Quantity::OutageP99),
];

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Slo, SloError> {
        let form = || SloError::Form(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (bound, limit) = match rest.as_bytes() {
            [b'<', b'=', ..] => (Bound::AtMost, &rest[2..]),
            [b'>', b'=', ..] => (Bound::AtLeast, &rest[2..]),
            [b'<', ..] => (Bound::Below, &rest[1..]),
            _ => (Bound::Above, &rest[1..]),
        };
        let known = QUANTITIES.iter().find(|(known, _)| *known == name);
        let &(_, quantity) = known.ok_or_else(|| SloError::Quantity(name.to_owned()))?;
        let is_rate = quantity == Quantity::Rate;
        if is_rate == matches!(bound, Bound::Below | Bound::AtMost) {
            return Err(form());
        }
        let limit = limit.trim();
        let limit = if is_rate {
            units::parse_rate(limit)?
        } else {
            units::parse_duration(limit)?.as_nanos() as f64
        };
        Ok(Slo {
            quantity,
            bound,
            limit,
        })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = QUANTITIES
            .iter()
            .find(|(_, known)| *known == self.quantity)
            .map_or("", |(name, _)| name);
        let bound = match self.bound {
            Bound::Below => "<",
            Bound::AtMost => "≤",
            Bound::Above => ">",
            Bound::AtLeast => "≥",
        };
        // A limit is written by people, in round numbers.
        let limit = self.show(self.limit);
        let (number, unit) = limit.split_at(limit.find([' ', '/']).unwrap_or(limit.len()));
        let number = if number.contains('.') {
            number.trim_end_matches('0').trim_end_matches('.')
        } else {
            number
        };
        write!(f, "{name} {bound} {number}{unit}")
    }
}

impl Slo {
    /// Holds a run against the objective. Latencies are those of the last phase (corrected, in a closed loop
    /// uncorrected), and count for nothing when that phase is invalid; the rate is the highest of all phases, or that
    /// of the search for saturation. A message that failed counts as later than every limit: if more failed than the
    /// percentile leaves out, its objective is missed. Where a thread that only spins would have missed it as well, the
    /// verdict says so and stays.
    #[must_use]
    pub fn verdict(&self, report: &Report) -> SloVerdict {
        let (mut measured, is_met) = self.hold_against(report);
        if !is_met && let Some(wait) = self.missed_by_the_machine(report) {
            let wait = self.show(wait);
            measured += &format!("; a thread that only spins missed it too, with {wait}");
        }
        SloVerdict {
            objective: self.to_string(),
            measured,
            is_met,
        }
    }

    fn hold_against(&self, report: &Report) -> (String, bool) {
        let value = self.measured(report);
        if self.quantity.is_of_faults()
            && let Some(cluster) = &report.cluster
            && let Some(why) = cluster.unknown_outages()
        {
            let known = value.map_or(String::new(), |value| format!("{}, but ", self.show(value)));
            return (format!("{known}of the faults {why}"), false);
        }
        let Some(value) = value else {
            return ("nothing".to_owned(), false);
        };
        if self.quantity.is_of_faults() {
            return (self.show(value), self.is_met_by(value));
        }
        let is_valid = self.quantity == Quantity::Rate
            || report.headline().is_some_and(|p| p.validity.is_valid());
        if !is_valid {
            return (format!("{} in an invalid run", self.show(value)), false);
        }
        let failed = report.headline().map_or(0.0, PhaseSummary::failed_share);
        if self.quantity.leaves_out().is_some_and(|out| failed > out) {
            let share = units::percent(failed);
            return (format!("{}, but {share} failed", self.show(value)), false);
        }
        (self.show(value), self.is_met_by(value))
    }

    fn is_met_by(&self, value: f64) -> bool {
        match self.bound {
            Bound::Below => value < self.limit,
            Bound::AtMost => value <= self.limit,
            Bound::Above => value > self.limit,
            Bound::AtLeast => value >= self.limit,
        }
    }

    /// What the machine alone shows, if that is beyond the limit.
    fn missed_by_the_machine(&self, report: &Report) -> Option<f64> {
        let wait = self.quantity.of(&report.hiccups.as_ref()?.latency)?;
        (!self.is_met_by(wait)).then_some(wait)
    }

    fn measured(&self, report: &Report) -> Option<f64> {
        if self.quantity.is_of_faults() {
            let outages = report.cluster.as_ref()?.outages()?;
            return Some(match self.quantity {
                Quantity::Outage => outages.max_ns as f64,
                _ => outages.p99_ns as f64,
            });
        }
        if self.quantity != Quantity::Rate {
            return self.quantity.of(report.headline()?.latency()?);
        }
        if report.is_search_in_vain() {
            return None;
        }
        report
            .saturation_rate
            .or(report.fastest().map(|phase| phase.rate))
    }

    fn show(&self, value: f64) -> String {
        match self.quantity {
            Quantity::Rate => format!("{}/s", units::rate(value)),
            _ => units::latency(value as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Validity;
    use crate::report::model::{SATURATION, samples};

    #[test]
    fn objectives_are_read() {
        let slo = |text: &str| text.parse::<Slo>();
        assert_eq!(
            slo("p99<1ms"),
            Ok(Slo {
                quantity: Quantity::P99,
                bound: Bound::Below,
                limit: 1e6
            })
        );
        assert_eq!(
            slo("p99.9<=250us"),
            Ok(Slo {
                quantity: Quantity::P99_9,
                bound: Bound::AtMost,
                limit: 250e3
            })
        );
        assert_eq!(
            slo("max < 10ms"),
            Ok(Slo {
                quantity: Quantity::Max,
                bound: Bound::Below,
                limit: 10e6
            })
        );
        assert_eq!(
            slo("rate>1M"),
            Ok(Slo {
                quantity: Quantity::Rate,
                bound: Bound::Above,
                limit: 1e6
            })
        );
        for bad in [
            "", "p99", "p99=1ms", "p99>1ms", "rate<1M", "p98<1ms", "p99<", "p99<1M", "rate>1ms",
            "p99<<1ms",
        ] {
            assert!(slo(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn objectives_are_shown_in_round_numbers() {
        let shown = |text: &str| text.parse::<Slo>().map(|slo| slo.to_string());
        assert_eq!(shown("p99<1ms"), Ok("p99 < 1 ms".to_owned()));
        assert_eq!(shown("p99.9<=250us"), Ok("p99.9 ≤ 250 µs".to_owned()));
        assert_eq!(shown("max<1.5s"), Ok("max < 1.5 s".to_owned()));
        assert_eq!(shown("rate>=1M"), Ok("rate ≥ 1 M/s".to_owned()));
        assert_eq!(shown("rate>500"), Ok("rate > 500/s".to_owned()));
    }

    #[test]
    fn the_limit_itself_is_met_by_at_most_only() {
        let mut report = samples::main_job();
        let latency = report.phases[1].corrected.as_mut().expect("an open loop");
        latency.p99_ns = 1_000_000;
        let met =
            |report: &Report, text: &str| text.parse::<Slo>().expect(text).verdict(report).is_met;
        assert!(!met(&report, "p99<1ms"));
        assert!(met(&report, "p99<=1ms"));
        report.phases[0].rate = 1e6;
        assert!(!met(&report, "rate>1M"));
        assert!(met(&report, "rate>=1M"));
        report.saturation_rate = Some(2e6);
        assert!(met(&report, "rate>1M"));
    }

    #[test]
    fn a_message_that_failed_is_later_than_every_limit() {
        let mut report = samples::main_job();
        let phase = report.phases.last_mut().expect("a phase");
        phase.failed = phase.completed / 200;
        let verdict = |text: &str| text.parse::<Slo>().expect(text).verdict(&report);
        assert!(verdict("p99<1s").is_met, "half a percent is left out");
        for objective in ["p99.9<1s", "max<1s", "mean<1s"] {
            let verdict = verdict(objective);
            assert!(!verdict.is_met, "{objective}");
            assert!(
                verdict.measured.ends_with(", but 0.5 % failed"),
                "{verdict:?}"
            );
        }
        assert!(verdict("rate>1").is_met);
    }

    #[test]
    fn an_objective_that_the_machine_misses_too_says_so() {
        let mut report = samples::main_job_with_hiccups();
        let latency = report.phases[1].corrected.as_mut().expect("an open loop");
        (latency.p99_ns, latency.p99_9_ns) = (5_000_000, 7_000_000);
        let verdict = |text: &str| text.parse::<Slo>().expect(text).verdict(&report);
        let missed = verdict("p99.9<1ms");
        assert!(!missed.is_met, "the objective is missed all the same");
        assert_eq!(
            missed.measured,
            "7.00 ms; a thread that only spins missed it too, with 3.00 ms"
        );
        for (objective, measured) in [
            ("p99.9<5ms", "7.00 ms"),
            ("p99<1ms", "5.00 ms"),
            ("p99.9<8ms", "7.00 ms"),
        ] {
            assert_eq!(verdict(objective).measured, measured, "{objective}");
        }
        assert!(!verdict("rate>1G").measured.contains("spins"));
        let mut deaf = report.clone();
        deaf.hiccups = None;
        let slo: Slo = "p99.9<1ms".parse().expect("an objective");
        assert_eq!(slo.verdict(&deaf).measured, "7.00 ms");
    }

    #[test]
    fn a_search_in_vain_has_no_rate() {
        let mut report = samples::main_job();
        report.phases.truncate(1);
        report.phases[0].name = SATURATION.to_owned();
        let slo: Slo = "rate>1".parse().expect("an objective");
        let verdict = slo.verdict(&report);
        assert_eq!(
            (verdict.measured.as_str(), verdict.is_met),
            ("nothing", false)
        );
        report.saturation_rate = Some(2.0);
        assert!(slo.verdict(&report).is_met);
    }

    #[test]
    fn an_invalid_or_missing_measurement_meets_nothing() {
        let mut report = samples::main_job();
        let slo: Slo = "p99<1s".parse().expect("an objective");
        assert!(slo.verdict(&report).is_met);
        report.phases[1].validity = Validity::Invalid {
            reason: "lag".into(),
        };
        let verdict = slo.verdict(&report);
        assert!(
            !verdict.is_met && verdict.measured.contains("invalid"),
            "{verdict:?}"
        );
        report.phases.clear();
        assert!(!slo.verdict(&report).is_met);
    }
}
