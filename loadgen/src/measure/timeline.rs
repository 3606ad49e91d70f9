//! Throughput over time: completions counted in intervals of equal length.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest interval; longer windows use longer ones.
const SHORTEST: Duration = Duration::from_millis(100);
/// The bound on the number of intervals.
const MAX_INTERVALS: u128 = 600;

/// Completions per interval of a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timeline {
    interval_ns: u64,
    counts: Vec<u64>,
}

/// A timeline as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineSummary {
    /// The length of an interval in milliseconds.
    pub interval_ms: u64,
    /// Completions in each interval.
    pub counts: Vec<u64>,
}

impl Timeline {
    /// A timeline of a window as long as `duration`; a last interval that would be incomplete is left out.
    #[must_use]
    pub fn new(duration: Duration) -> Timeline {
        let needed_ms = duration
            .as_millis()
            .div_ceil(MAX_INTERVALS)
            .max(SHORTEST.as_millis());
        // Whole steps of 100 ms keep the axis readable.
        let interval_ms = needed_ms.div_ceil(SHORTEST.as_millis()) * SHORTEST.as_millis();
        let intervals = usize::try_from(duration.as_millis() / interval_ms).unwrap_or(usize::MAX);
        let interval_ns = u64::try_from(interval_ms * 1_000_000).unwrap_or(u64::MAX);
        Timeline {
            interval_ns,
            counts: vec![0; intervals],
        }
    }

    /// Counts completions at `since_start` after the start of the window.
    #[inline]
    pub fn count(&mut self, since_start: Duration, completions: u64) {
        let at = since_start.as_nanos() / u128::from(self.interval_ns);
        if let Some(count) = usize::try_from(at)
            .ok()
            .and_then(|at| self.counts.get_mut(at))
        {
            *count += completions;
        }
    }

    /// Ends the window early; an interval that is then incomplete is left out.
    pub fn cut(&mut self, duration: Duration) {
        let intervals = duration.as_nanos() / u128::from(self.interval_ns);
        self.counts
            .truncate(usize::try_from(intervals).unwrap_or(usize::MAX));
    }

    /// Adds what another core counted in the same window.
    pub fn merge(&mut self, other: &Timeline) {
        debug_assert_eq!(
            self.interval_ns, other.interval_ns,
            "timelines of different windows"
        );
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(count, other)| *count += other);
    }

    /// The timeline as it is reported.
    #[must_use]
    pub fn summary(&self) -> TimelineSummary {
        TimelineSummary {
            interval_ms: self.interval_ns / 1_000_000,
            counts: self.counts.clone(),
        }
    }
}

impl TimelineSummary {
    /// Each interval's middle in seconds from the start, with its rate per second.
    pub fn rates(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let interval_s = self.interval_ms as f64 / 1000.0;
        let middles = (0..self.counts.len()).map(move |at| (at as f64 + 0.5) * interval_s);
        middles.zip(
            self.counts
                .iter()
                .map(move |&count| count as f64 / interval_s),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_fall_into_their_interval() {
        let mut timeline = Timeline::new(Duration::from_millis(350));
        for ms in [0, 99, 100, 299, 300, 349, 400] {
            timeline.count(Duration::from_millis(ms), 2);
        }
        assert_eq!(
            timeline.summary(),
            TimelineSummary {
                interval_ms: 100,
                counts: vec![4, 2, 2]
            }
        );
    }

    #[test]
    fn long_windows_stay_bounded() {
        for seconds in [10, 61, 3600, 100_000] {
            let timeline = Timeline::new(Duration::from_secs(seconds));
            assert!(
                timeline.counts.len() <= 600 && timeline.counts.len() >= 100,
                "{seconds}"
            );
            assert_eq!(timeline.interval_ns % 100_000_000, 0);
        }
    }

    #[test]
    fn rates_are_per_second() {
        let summary = TimelineSummary {
            interval_ms: 100,
            counts: vec![10, 20],
        };
        let rates: Vec<_> = summary.rates().collect();
        assert!(
            (rates[1].0 - 0.15).abs() < 1e-9 && (rates[1].1 - 200.0).abs() < 1e-9,
            "{rates:?}"
        );
    }
}
