//! A latency histogram from 1 ns to 60 s with three significant digits, and the figures read from it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer latencies are recorded as this long and counted as saturated.
pub const MAX_LATENCY: Duration = Duration::from_secs(60);
const MAX_LATENCY_NS: u64 = 60_000_000_000;
/// Significant decimal digits; three cost 216 KiB a histogram.
const DIGITS: u8 = 3;
/// Points of the curve per halving of the distance to 100 %.
const CURVE_TICKS: u32 = 5;

/// Latencies of one kind, on one core or merged. They travel between processes as the counts of their values, which lose
/// nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Counts", try_from = "Counts")]
pub struct Latencies {
    histogram: Histogram<u64>,
    saturated: u64,
}

/// A histogram on its way to another process.
#[derive(Serialize, Deserialize)]
struct Counts {
    saturated: u64,
    /// Nanoseconds, and how many there were.
    counts: Vec<(u64, u64)>,
}

/// The figures of a distribution of latencies, all in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// How many latencies were recorded.
    pub count: u64,
    /// How many of them were longer than 60 s and count as 60 s.
    pub saturated: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The arithmetic mean.
    pub mean_ns: f64,
    /// The standard deviation.
    pub stdev_ns: f64,
    /// Half are at most this long.
    pub p50_ns: u64,
    /// 90 % are at most this long.
    pub p90_ns: u64,
    /// 99 % are at most this long.
    pub p99_ns: u64,
    /// 99.9 % are at most this long.
    pub p99_9_ns: u64,
    /// 99.99 % are at most this long.
    pub p99_99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// One point of the latency-by-percentile curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The share of latencies that are at most `ns`, from 0 to 1.
    pub quantile: f64,
    /// Nanoseconds.
    pub ns: u64,
}

impl LatencySummary {
    /// The reported figures with their names, in nanoseconds.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, u64); 6] {
        [
            ("p50", self.p50_ns),
            ("p90", self.p90_ns),
            ("p99", self.p99_ns),
            ("p99.9", self.p99_9_ns),
            ("p99.99", self.p99_99_ns),
            ("max", self.max_ns),
        ]
    }
}

impl From<Latencies> for Counts {
    fn from(latencies: Latencies) -> Counts {
        let steps = latencies.histogram.iter_recorded();
        Counts {
            saturated: latencies.saturated,
            counts: steps
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        }
    }
}

impl TryFrom<Counts> for Latencies {
    type Error = String;

    fn try_from(counts: Counts) -> Result<Latencies, String> {
        let mut latencies = Latencies::new();
        latencies.saturated = counts.saturated;
        for (nanos, count) in counts.counts {
            // The end of a bucket may lie a little beyond the longest latency, inside its bucket.
            let recorded = latencies.histogram.record_n(nanos, count);
            recorded.map_err(|_| format!("{nanos} ns is beyond the longest latency"))?;
        }
        Ok(latencies)
    }
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies::new()
    }
}

impl Latencies {
    /// An empty histogram.
    ///
    /// # Panics
    /// Never: the bounds are constants that the histogram accepts.
    #[must_use]
    pub fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, MAX_LATENCY_NS, DIGITS)
            .expect("constant bounds are valid");
        Latencies {
            histogram,
            saturated: 0,
        }
    }

    /// Records one latency.
    #[inline]
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if nanos > MAX_LATENCY_NS {
            self.saturated += 1;
        }
        self.histogram.saturating_record(nanos.min(MAX_LATENCY_NS));
    }

    /// Adds what another core recorded.
    ///
    /// # Panics
    /// Never: all histograms have the same bounds.
    pub fn merge(&mut self, other: &Latencies) {
        self.histogram
            .add(&other.histogram)
            .expect("histograms with equal bounds add up");
        self.saturated += other.saturated;
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// The latency that the share `quantile` (0 to 1) of all stays within, in nanoseconds; never above the longest.
    #[must_use]
    pub fn at(&self, quantile: f64) -> u64 {
        self.histogram
            .value_at_quantile(quantile)
            .min(self.histogram.max())
    }

    /// The figures; `None` when nothing was recorded.
    #[must_use]
    pub fn summary(&self) -> Option<LatencySummary> {
        if self.is_empty() {
            return None;
        }
        Some(LatencySummary {
            count: self.histogram.len(),
            saturated: self.saturated,
            min_ns: self.histogram.min(),
            mean_ns: self.histogram.mean(),
            stdev_ns: self.histogram.stdev(),
            p50_ns: self.at(0.5),
            p90_ns: self.at(0.9),
            p99_ns: self.at(0.99),
            p99_9_ns: self.at(0.999),
            p99_99_ns: self.at(0.9999),
            max_ns: self.histogram.max(),
        })
    }

    /// The curve from the shortest to the longest latency, finer towards 100 %.
    #[must_use]
    pub fn curve(&self) -> Vec<CurvePoint> {
        let max = self.histogram.max();
        let steps = self.histogram.iter_quantiles(CURVE_TICKS);
        steps
            .map(|step| CurvePoint {
                quantile: step.quantile_iterated_to(),
                ns: step.value_iterated_to().min(max),
            })
            .collect()
    }

    /// The histogram itself, in nanoseconds.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(nanos: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        nanos
            .into_iter()
            .for_each(|n| latencies.record(Duration::from_nanos(n)));
        latencies
    }

    fn near(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) <= expected / 500 + 1
    }

    #[test]
    fn percentiles_are_within_the_precision() {
        let summary = recorded((1..=100_000).map(|us| us * 1000))
            .summary()
            .expect("recorded");
        assert!(near(summary.p50_ns, 50_000_000), "{summary:?}");
        assert!(near(summary.p90_ns, 90_000_000), "{summary:?}");
        assert!(near(summary.p99_ns, 99_000_000), "{summary:?}");
        assert!(near(summary.p99_9_ns, 99_900_000), "{summary:?}");
        assert!(near(summary.p99_99_ns, 99_990_000), "{summary:?}");
        assert!(near(summary.max_ns, 100_000_000), "{summary:?}");
    }

    #[test]
    fn latencies_out_of_range_saturate_and_are_counted() {
        let summary = recorded([0, 10, 61_000_000_000, u64::MAX])
            .summary()
            .expect("recorded");
        assert_eq!((summary.count, summary.saturated), (4, 2));
        assert!(near(summary.max_ns, MAX_LATENCY_NS), "{summary:?}");
    }

    #[test]
    fn merging_equals_recording_together() {
        let mut left = recorded(1..500);
        left.merge(&recorded(500..1000));
        assert_eq!(left.summary(), recorded(1..1000).summary());
    }

    #[test]
    fn what_travels_to_another_process_is_the_same_there() {
        let latencies = recorded((0..60_000).map(|n| n * n * 17).chain([u64::MAX]));
        let text = serde_json::to_string(&latencies).expect("written");
        let arrived: Latencies = serde_json::from_str(&text).expect("read");
        // Means are of what buckets stand for, here and there.
        let figures = |latencies: &Latencies| {
            latencies
                .summary()
                .map(|summary| (summary.count, summary.saturated, summary.figures()))
        };
        assert_eq!(figures(&arrived), figures(&latencies));
        let bad = r#"{"saturated":0,"counts":[[99999999999999,1]]}"#;
        assert!(serde_json::from_str::<Latencies>(bad).is_err());
    }

    #[test]
    fn the_curve_rises_from_the_shortest_to_the_longest() {
        let curve = recorded((1..=10_000).map(|n| n * 7)).curve();
        assert!(curve.len() > 40, "{}", curve.len());
        assert!(
            curve
                .windows(2)
                .all(|pair| pair[0].ns <= pair[1].ns && pair[0].quantile <= pair[1].quantile)
        );
        assert_eq!(curve.last().map(|point| point.quantile), Some(1.0));
    }

    #[test]
    fn nothing_recorded_gives_no_figures() {
        assert_eq!(Latencies::new().summary(), None);
    }
}
