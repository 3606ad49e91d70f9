//! Whether the generator kept its own schedule. A driver that sends late although the system would have taken the
//! message measures itself, so such a run is marked invalid.
//!
//! A send counts as *lagging* when it happens more than [`LAG_THRESHOLD`] after its intended time and nothing but the
//! generator delayed it. A send that waited because the system refused or throttled it was *held back*: its delay is
//! the system's latency and no fault of the run. A run is invalid when more than [`LAG_SHARE`] of its sends lagged, or
//! when more than that share of what was due by the end was never attempted.

use std::fmt;
use std::time::Duration;

use corecast::Time;
use serde::{Deserialize, Serialize};

/// How late a send may be before it counts as lagging.
pub const LAG_THRESHOLD: Duration = Duration::from_micros(500);
/// The share of lagging or unattempted sends above which a run is invalid.
pub const LAG_SHARE: f64 = 0.01;

/// What one driver, or all together, did with the schedule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lag {
    sends: u64,
    lagging: u64,
    held_back: u64,
    never_attempted: u64,
    worst: Duration,
}

/// The accounting of a phase as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSummary {
    /// Sends with an intended time.
    pub sends: u64,
    /// Sends that were late by the generator's fault.
    pub lagging: u64,
    /// Sends that waited because the system did not take them.
    pub held_back: u64,
    /// Messages due by the end that the generator did not get to.
    pub never_attempted: u64,
    /// The longest delay by the generator's fault, in nanoseconds.
    pub worst_ns: u64,
}

/// Whether a phase's figures mean anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Validity {
    /// The generator kept its schedule.
    Valid,
    /// It did not.
    Invalid {
        /// Why, for people.
        reason: String,
    },
}

impl Lag {
    /// Records a send. `was_held_back` says that the system, not the generator, delayed it.
    #[inline]
    pub fn record(&mut self, intended: Time, sent: Time, was_held_back: bool) {
        self.sends += 1;
        if was_held_back {
            self.held_back += 1;
            return;
        }
        let late = sent - intended;
        if late > LAG_THRESHOLD {
            self.lagging += 1;
        }
        self.worst = self.worst.max(late);
    }

    /// Records messages that were due by the end of the phase but not attempted, though the system had room.
    pub fn never_attempted(&mut self, messages: u64) {
        self.never_attempted += messages;
    }

    /// Adds another driver's accounting.
    pub fn merge(&mut self, other: &Lag) {
        self.sends += other.sends;
        self.lagging += other.lagging;
        self.held_back += other.held_back;
        self.never_attempted += other.never_attempted;
        self.worst = self.worst.max(other.worst);
    }

    /// The accounting as it is reported.
    #[must_use]
    pub fn summary(&self) -> LagSummary {
        LagSummary {
            sends: self.sends,
            lagging: self.lagging,
            held_back: self.held_back,
            never_attempted: self.never_attempted,
            worst_ns: u64::try_from(self.worst.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl LagSummary {
    /// The verdict on the run.
    #[must_use]
    pub fn validity(&self) -> Validity {
        let share = |part: u64| part as f64 / (self.sends + self.never_attempted).max(1) as f64;
        let invalid = |part: u64, what: &str| Validity::Invalid {
            reason: format!(
                "the generator lagged: {:.1} % of the messages {what} (at most {:.0} % may); lower --rate or give the \
                 drivers more cores",
                share(part) * 100.0,
                LAG_SHARE * 100.0
            ),
        };
        if share(self.never_attempted) > LAG_SHARE {
            invalid(self.never_attempted, "were due but never attempted")
        } else if share(self.lagging) > LAG_SHARE {
            invalid(
                self.lagging,
                &format!("were sent more than {} µs late", LAG_THRESHOLD.as_micros()),
            )
        } else {
            Validity::Valid
        }
    }
}

impl Validity {
    /// Whether the figures mean something.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        *self == Validity::Valid
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Validity::Valid => f.write_str("valid"),
            Validity::Invalid { reason } => write!(f, "INVALID: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(on_time: u64, late: u64, held_back: u64) -> Lag {
        let mut lag = Lag::default();
        let late_by = Time::ZERO + LAG_THRESHOLD + Duration::from_nanos(1);
        (0..on_time).for_each(|_| lag.record(Time::ZERO, Time::ZERO + LAG_THRESHOLD, false));
        (0..late).for_each(|_| lag.record(Time::ZERO, late_by, false));
        (0..held_back).for_each(|_| lag.record(Time::ZERO, Time::from_nanos(1 << 40), true));
        lag
    }

    #[test]
    fn one_percent_may_lag_and_not_one_more() {
        assert!(lag(990, 10, 0).summary().validity().is_valid());
        let Validity::Invalid { reason } = lag(989, 11, 0).summary().validity() else {
            panic!("11 of 1000 are valid")
        };
        assert!(
            reason.contains("1.1 %") && reason.contains("500 µs") && reason.contains("--rate"),
            "{reason}"
        );
    }

    #[test]
    fn what_the_system_held_back_is_no_lag() {
        let summary = lag(10, 0, 1000).summary();
        assert!(summary.validity().is_valid());
        assert_eq!((summary.held_back, summary.worst_ns), (1000, 500_000));
    }

    #[test]
    fn messages_that_were_never_attempted_make_a_run_invalid() {
        let mut lag = lag(100, 0, 0);
        lag.never_attempted(2);
        assert!(
            lag.summary()
                .validity()
                .to_string()
                .contains("never attempted")
        );
    }

    #[test]
    fn merged_drivers_are_judged_together() {
        let mut all = lag(1000, 0, 0);
        all.merge(&lag(0, 9, 0));
        assert!(all.summary().validity().is_valid());
        assert_eq!(all.summary().sends, 1009);
    }
}
