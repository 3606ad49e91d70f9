//! When messages are meant to be sent in an open loop: a schedule that does not care how the system is doing.
//!
//! Times are nanoseconds from the start of the phase. A schedule is pure: the driver compares it with its clock, sends
//! what is due and measures from the intended time, so that a stall is seen by every message it delayed.

use std::fmt;

use corecast::base::rng::{Rng, seeded};

use crate::keys::unit;

/// A backlog longer than this is not counted one by one: at an absurd rate that would take hours.
const COUNTED: f64 = 1e6;

/// The law of the gaps between messages.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum Arrivals {
    /// All gaps are equal.
    Fixed,
    /// Gaps are exponential, as if very many independent clients sent: bursts happen.
    #[default]
    Poisson,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrivals::Fixed => "fixed",
            Arrivals::Poisson => "poisson",
        })
    }
}

/// How the drivers of a phase are paced.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum PhasePace {
    /// So many in flight per driver.
    Closed {
        /// Messages.
        in_flight: u64,
    },
    /// By a schedule.
    Open {
        /// Messages per second over all drivers.
        total_rate: f64,
        /// The gaps between them.
        arrivals: Arrivals,
    },
}

/// One driver's share of a phase's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The rate of all drivers together, in messages per second.
    pub total_rate: f64,
    /// Which driver this is, from 0.
    pub driver: u32,
    /// How many drivers there are, at least 1.
    pub drivers: u32,
}

/// The endless, never decreasing sequence of one driver's intended send times.
#[derive(Clone, Debug)]
pub struct Schedule {
    mean_gap_ns: f64,
    next_ns: u64,
    /// What of the exact time does not fit into whole nanoseconds; carrying it keeps the rate exact.
    fraction_ns: f64,
    arrivals: Gaps,
}

#[derive(Clone, Debug)]
enum Gaps {
    Fixed,
    Poisson(Rng),
}

impl Schedule {
    /// The schedule of one driver. With fixed gaps the drivers' schedules interleave evenly; with Poisson gaps each has
    /// its own stream of the seed.
    ///
    /// # Panics
    /// When the rate is not a finite number above 0, or the driver is not one of the drivers.
    #[must_use]
    pub fn new(share: Share, arrivals: Arrivals, seed: u64) -> Schedule {
        assert!(
            share.total_rate > 0.0 && share.total_rate.is_finite(),
            "a rate of {}",
            share.total_rate
        );
        assert!(
            share.driver < share.drivers,
            "driver {} of {}",
            share.driver,
            share.drivers
        );
        let mean_gap_ns = 1e9 * f64::from(share.drivers) / share.total_rate;
        let mut schedule = Schedule {
            mean_gap_ns,
            next_ns: 0,
            fraction_ns: 0.0,
            arrivals: match arrivals {
                Arrivals::Fixed => Gaps::Fixed,
                Arrivals::Poisson => {
                    Gaps::Poisson(seeded(seed, 0xA441_0000 + u64::from(share.driver)))
                }
            },
        };
        match arrivals {
            Arrivals::Fixed => {
                schedule.step(mean_gap_ns * f64::from(share.driver) / f64::from(share.drivers))
            }
            Arrivals::Poisson => schedule.advance(),
        }
        schedule
    }

    /// The next intended time, in nanoseconds from the start of the phase.
    #[inline]
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Takes the next intended time if it has come by `elapsed_ns`.
    #[inline]
    pub fn due(&mut self, elapsed_ns: u64) -> Option<u64> {
        let intended = self.next_ns;
        if intended > elapsed_ns {
            return None;
        }
        self.advance();
        Some(intended)
    }

    /// How many intended times have come by `elapsed_ns` and were not taken. Many of them are not counted one by one but
    /// by the mean of their gaps, which is exact for fixed gaps and off by their noise for others.
    #[must_use]
    pub fn backlog(mut self, elapsed_ns: u64) -> u64 {
        let Some(behind_ns) = elapsed_ns.checked_sub(self.next_ns) else {
            return 0;
        };
        let mean = behind_ns as f64 / self.mean_gap_ns;
        if mean > COUNTED {
            (mean as u64).saturating_add(1)
        } else {
            std::iter::from_fn(|| self.due(elapsed_ns)).count() as u64
        }
    }

    #[inline]
    fn advance(&mut self) {
        let gap = match &mut self.arrivals {
            Gaps::Fixed => self.mean_gap_ns,
            Gaps::Poisson(rng) => -unit(rng).ln() * self.mean_gap_ns,
        };
        self.step(gap);
    }

    #[inline]
    fn step(&mut self, gap_ns: f64) {
        let exact = self.fraction_ns + gap_ns;
        let whole = exact.floor();
        self.fraction_ns = exact - whole;
        self.next_ns = self.next_ns.saturating_add(whole as u64);
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.due(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(
        total_rate: f64,
        driver: u32,
        drivers: u32,
        arrivals: Arrivals,
        seed: u64,
    ) -> Schedule {
        Schedule::new(
            Share {
                total_rate,
                driver,
                drivers,
            },
            arrivals,
            seed,
        )
    }

    #[test]
    fn fixed_gaps_keep_the_rate_without_drift() {
        // 3 million a second has a gap of 333.33 ns: rounding each gap would lose 1000 messages a second.
        let sent = schedule(3e6, 0, 1, Arrivals::Fixed, 0)
            .take_while(|&t| t < 10_000_000_000)
            .count();
        assert!((29_999_999..=30_000_001).contains(&sent), "{sent}");
    }

    #[test]
    fn drivers_interleave_evenly() {
        let mut times: Vec<u64> = (0..4)
            .flat_map(|driver| schedule(1e6, driver, 4, Arrivals::Fixed, 0).take(3))
            .collect();
        times.sort_unstable();
        assert_eq!(times, (0..12).map(|i| i * 1000).collect::<Vec<_>>());
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let times: Vec<u64> = schedule(1e6, 0, 1, Arrivals::Poisson, 9)
            .take(200_000)
            .collect();
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((990.0..1010.0).contains(&mean), "mean {mean}");
        assert!(
            (0.98..1.02).contains(&(variance.sqrt() / mean)),
            "deviation {}",
            variance.sqrt()
        );
        let long = gaps.iter().filter(|&&gap| gap > 3000.0).count() as f64 / gaps.len() as f64;
        assert!(
            (0.045..0.055).contains(&long),
            "share of gaps above three means: {long}, expected e^-3"
        );
    }

    #[test]
    fn the_seed_and_the_driver_decide_the_times() {
        let take = |seed, driver| {
            schedule(1e5, driver, 2, Arrivals::Poisson, seed)
                .take(50)
                .collect::<Vec<_>>()
        };
        assert_eq!(take(1, 0), take(1, 0));
        assert_ne!(take(1, 0), take(2, 0));
        assert_ne!(take(1, 0), take(1, 1));
    }

    #[test]
    fn a_backlog_is_counted_at_once_whatever_its_length() {
        for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
            // 10 million, which is beyond the bound, and 36e15, which nobody could count.
            for (rate, seconds) in [(1e6, 10), (1e13, 3600)] {
                let due = seconds as f64 * rate;
                let backlog = schedule(rate, 0, 1, arrivals, 1).backlog(seconds * 1_000_000_000);
                assert!(
                    (backlog as f64 / due - 1.0).abs() < 0.01,
                    "{backlog} of {due}"
                );
            }
        }
        let few = schedule(1e3, 0, 1, Arrivals::Fixed, 0);
        assert_eq!(few.clone().backlog(5_000_000), 6);
        assert_eq!(few.clone().backlog(0), 1);
        let mut taken = few;
        assert_eq!(taken.due(0), Some(0));
        assert_eq!(taken.backlog(0), 0);
    }

    #[test]
    fn only_what_has_come_is_due() {
        let mut schedule = schedule(1e9 / 100.0, 0, 1, Arrivals::Fixed, 0);
        assert_eq!(schedule.due(0), Some(0));
        assert_eq!(schedule.due(99), None);
        assert_eq!(schedule.next_ns(), 100);
        assert_eq!(schedule.due(250), Some(100));
        assert_eq!(schedule.due(250), Some(200));
        assert_eq!(schedule.due(250), None);
    }
}
