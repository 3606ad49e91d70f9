//! What the machine itself does to latency, as jHiccup finds it out: by a thread that only spins.
//!
//! The thread reads the clock all the time. Where two reads are far apart there is a gap: somebody else had the CPU, be
//! it another thread, the kernel or the hypervisor. Whatever arrives in a gap waits for its end, and nothing that runs
//! on this CPU can prevent it. Arrivals that are spread evenly over the time wait `g`, `g - dt`, `g - 2 dt` and so on
//! for a gap of length `g`. So the share of all arrivals that wait longer than `x` is the sum of `max(0, g - x)` over
//! all gaps, divided by the time: the same correction for coordinated omission that a schedule of sends brings about.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::latency::{CurvePoint, LatencySummary, MAX_LATENCY};

/// Reads of the clock that are closer together are what it takes to read it, and delay nothing.
pub const SHORTEST_GAP: Duration = Duration::from_micros(1);
/// Significant decimal digits of a gap's length.
const DIGITS: u8 = 3;
/// Points of the curve per halving of the distance to 100 %.
const CURVE_TICKS: i32 = 5;

/// The gaps of one CPU, or of several together. It holds a histogram and no list: memory that grew while the thread
/// spins would make gaps of its own.
#[derive(Clone, Debug)]
pub struct Hiccups {
    gaps: Histogram<u64>,
    listened_ns: u64,
}

/// What a thread that only spins would have shown as latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HiccupSummary {
    /// The CPUs that were spun on, all at the same time.
    pub cpus: Vec<usize>,
    /// How long on each, in seconds.
    pub duration_s: f64,
    /// Gaps of a microsecond and more, on all CPUs together.
    pub gaps: u64,
    /// What arrivals would have waited that come once a microsecond to each CPU; `count` is how many. Waits below a
    /// microsecond are not told from none.
    pub latency: LatencySummary,
    /// The same by percentile, from a microsecond up.
    pub curve: Vec<CurvePoint>,
}

impl Default for Hiccups {
    fn default() -> Hiccups {
        Hiccups::new()
    }
}

impl Hiccups {
    /// Nothing listened to yet.
    ///
    /// # Panics
    /// Never: the bounds are constants that the histogram accepts.
    #[must_use]
    pub fn new() -> Hiccups {
        let gaps = Histogram::new_with_bounds(1, nanos(MAX_LATENCY), DIGITS)
            .expect("constant bounds are valid");
        Hiccups {
            gaps,
            listened_ns: 0,
        }
    }

    /// Takes in the time between two reads of the clock, one after the other.
    #[inline]
    pub fn passed(&mut self, time: Duration) {
        self.listened_ns += nanos(time);
        if time >= SHORTEST_GAP {
            self.gaps.saturating_record(nanos(time));
        }
    }

    /// Adds what was heard on another CPU.
    ///
    /// # Panics
    /// Never: all histograms have the same bounds.
    pub fn merge(&mut self, other: &Hiccups) {
        self.gaps
            .add(&other.gaps)
            .expect("histograms with equal bounds add up");
        self.listened_ns += other.listened_ns;
    }

    /// The figures, of these CPUs together; `None` when they were not listened to.
    #[must_use]
    pub fn summary(&self, cpus: &[usize]) -> Option<HiccupSummary> {
        if self.listened_ns == 0 || cpus.is_empty() {
            return None;
        }
        let waits = self.waits();
        let listened = Duration::from_nanos(self.listened_ns);
        Some(HiccupSummary {
            cpus: cpus.to_vec(),
            duration_s: listened.as_secs_f64() / cpus.len() as f64,
            gaps: self.gaps.len(),
            latency: waits.summary(),
            curve: waits.curve(),
        })
    }

    fn waits(&self) -> Waits {
        let longest = self.gaps.max();
        let mut gaps: Vec<(u64, u64)> = self
            .gaps
            .iter_recorded()
            .map(|step| (step.value_iterated_to().min(longest), step.count_at_value()))
            .collect();
        gaps.reverse();
        Waits {
            gaps,
            listened_ns: self.listened_ns,
        }
    }
}

/// The waits of arrivals that are spread evenly over a time with gaps.
#[derive(Clone, Debug)]
struct Waits {
    /// The lengths in nanoseconds, the longest first, and how many gaps have each.
    gaps: Vec<(u64, u64)>,
    listened_ns: u64,
}

impl Waits {
    /// The wait that the share `quantile` (0 to 1) of all arrivals stays within, in nanoseconds.
    fn at(&self, quantile: f64) -> u64 {
        // So much time, in arrivals, waits longer.
        let longer = (1.0 - quantile) * self.listened_ns as f64;
        let (mut time, mut count) = (0.0, 0.0);
        for &(gap, gaps) in &self.gaps {
            let (gap, gaps) = (gap as f64, gaps as f64);
            // The gaps up to here are above the wait, this one is not.
            if time - count * gap > longer {
                break;
            }
            time += gap * gaps;
            count += gaps;
        }
        if time > longer {
            ((time - longer) / count).round() as u64
        } else {
            0
        }
    }

    /// The mean of a power of all waits, in nanoseconds: a gap has each wait up to its length once.
    fn mean_of_power(&self, power: i32) -> f64 {
        let of_gap = |gap: u64| (gap as f64).powi(power + 1) / f64::from(power + 1);
        let sum: f64 = self
            .gaps
            .iter()
            .map(|&(gap, gaps)| of_gap(gap) * gaps as f64)
            .sum();
        sum / self.listened_ns as f64
    }

    fn summary(&self) -> LatencySummary {
        let mean_ns = self.mean_of_power(1);
        LatencySummary {
            count: self.arrivals(),
            saturated: 0,
            min_ns: 0,
            mean_ns,
            stdev_ns: (self.mean_of_power(2) - mean_ns * mean_ns).max(0.0).sqrt(),
            p50_ns: self.at(0.5),
            p90_ns: self.at(0.9),
            p99_ns: self.at(0.99),
            p99_9_ns: self.at(0.999),
            p99_99_ns: self.at(0.9999),
            max_ns: self.at(1.0),
        }
    }

    fn curve(&self) -> Vec<CurvePoint> {
        let last = 1.0 / self.arrivals().max(1) as f64;
        (0..)
            .map(|tick| 0.5_f64.powf(f64::from(tick) / f64::from(CURVE_TICKS)))
            .take_while(|above| *above > last)
            .chain([0.0])
            .map(|above| CurvePoint {
                quantile: 1.0 - above,
                ns: self.at(1.0 - above),
            })
            .filter(|point| point.ns >= nanos(SHORTEST_GAP))
            .collect()
    }

    /// How many there are.
    fn arrivals(&self) -> u64 {
        self.listened_ns / nanos(SHORTEST_GAP)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Waits of arrivals at every half nanosecond of a time that is this much quiet before each gap.
    fn simulated(gaps: &[(u64, u64)]) -> Vec<f64> {
        let mut waits = Vec::new();
        for &(quiet, gap) in gaps {
            waits.extend((0..quiet).flat_map(|_| [0.0, 0.0]));
            waits.extend((0..2 * gap).map(|half| gap as f64 - half as f64 / 2.0 - 0.25));
        }
        waits.sort_by(f64::total_cmp);
        waits
    }

    fn waits(gaps: &[(u64, u64)]) -> Waits {
        let mut lengths: Vec<_> = gaps.iter().map(|&(_, gap)| (gap, 1)).collect();
        lengths.sort_by_key(|&(gap, _)| std::cmp::Reverse(gap));
        Waits {
            gaps: lengths,
            listened_ns: gaps.iter().map(|(quiet, gap)| quiet + gap).sum(),
        }
    }

    proptest! {
        #[test]
        fn every_percentile_is_that_of_simulated_arrivals(
            gaps in prop::collection::vec((0..2_000_u64, 1..300_u64), 1..20),
            quantile in 0.0..1.0_f64,
        ) {
            let (waits, simulated) = (waits(&gaps), simulated(&gaps));
            for quantile in [quantile, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let rank = (simulated.len() as f64 * quantile).ceil() as usize;
                let expected = simulated[rank.clamp(1, simulated.len()) - 1];
                let found = waits.at(quantile) as f64;
                // The grid is half a nanosecond wide, and the result is rounded to whole ones.
                prop_assert!((found - expected).abs() <= 1.0, "{quantile}: {found}, simulated {expected}");
            }
            let mean = simulated.iter().sum::<f64>() / simulated.len() as f64;
            prop_assert!((waits.mean_of_power(1) - mean).abs() < 1e-6, "mean {mean}");
        }

        #[test]
        fn a_summary_of_recorded_gaps_is_within_the_precision(
            gaps in prop::collection::vec((0..50_000_000_u64, 1_000..5_000_000_u64), 1..50),
            cpus in 1..4_usize,
        ) {
            let (mut all, mut parts) = (Hiccups::new(), vec![Hiccups::new(); cpus]);
            for (at, &(quiet, gap)) in gaps.iter().enumerate() {
                // Quiet time is many short reads; their sum is what counts.
                parts[at % cpus].listened_ns += quiet;
                parts[at % cpus].passed(Duration::from_nanos(gap));
            }
            parts.iter().for_each(|part| all.merge(part));
            let numbers: Vec<usize> = (0..cpus).collect();
            let summary = all.summary(&numbers).expect("there are gaps");
            // The histogram lengthens gaps by up to a part in a thousand, and longer gaps mean longer waits.
            let exact = waits(&gaps);
            let mut longer = exact.clone();
            longer.gaps.iter_mut().for_each(|(gap, _)| *gap += *gap / 1_000 + 1);
            let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];
            for ((name, ns), quantile) in summary.latency.figures().into_iter().zip(quantiles) {
                let (low, high) = (exact.at(quantile), longer.at(quantile));
                prop_assert!((low..=high).contains(&ns), "{name}: {ns} is not in {low}..={high}");
            }
            prop_assert_eq!(summary.gaps, gaps.len() as u64);
            prop_assert!(summary.curve.windows(2).all(|two| two[0].ns <= two[1].ns));
            prop_assert_eq!(summary.curve.last().map(|point| point.ns), Some(summary.latency.max_ns));
        }
    }

    #[test]
    fn a_gap_of_5_ms_each_second_shows_from_the_percentile_it_reaches() {
        let mut hiccups = Hiccups::new();
        for _ in 0..2 {
            hiccups.passed(Duration::from_millis(5));
            (0..995_000).for_each(|_| hiccups.passed(Duration::from_nanos(1_000 - 1)));
            hiccups.listened_ns += 995_000;
        }
        let summary = hiccups.summary(&[0, 1]).expect("listened");
        let latency = &summary.latency;
        assert_eq!((summary.gaps, summary.duration_s), (2, 1.0));
        assert_eq!((latency.count, latency.p99_ns), (2_000_000, 0));
        // 0.5 % of the time is in gaps: the last fifth of them is what 0.1 % of the arrivals wait longer than.
        assert!(latency.p99_9_ns.abs_diff(4_000_000) < 5_000, "{latency:?}");
        assert!(latency.max_ns.abs_diff(5_000_000) < 5_000, "{latency:?}");
        assert!((latency.mean_ns - 12_500.0).abs() < 30.0, "{latency:?}");
    }

    #[test]
    fn quiet_cpus_show_nothing_and_no_time_has_no_figures() {
        let mut hiccups = Hiccups::new();
        assert_eq!(hiccups.summary(&[0]), None);
        (0..1_000).for_each(|_| hiccups.passed(Duration::from_nanos(30)));
        let summary = hiccups.summary(&[0]).expect("listened");
        assert_eq!((summary.gaps, summary.latency.max_ns), (0, 0));
        assert_eq!(summary.curve, Vec::new());
    }
}
