//! The search for the highest rate the system sustains: a state machine that says which rate to try next.
//!
//! The rate doubles from the start until one trial fails, then the interval between the best sustained and the lowest
//! failed rate is halved (on a logarithmic scale) until it is narrower than 3 %. What counts as sustained is the
//! caller's verdict: the usual one is [`sustained`].

use crate::measure::PhaseSummary;

/// The search stops when the failed rate is at most this much above the sustained one.
const PRECISION: f64 = 1.03;
/// Bounds the number of trials, whatever the system does.
const MAX_TRIALS: u32 = 40;
/// A trial has kept up when it completed at least this share of what was due.
const KEPT_UP: f64 = 0.99;

/// The corrected p99 that `--find-saturation` still takes for sustained, in nanoseconds; its help text names it.
pub const P99_LIMIT_NS: u64 = 10_000_000;

/// The search for the saturation rate.
#[derive(Clone, Debug)]
pub struct SaturationSearch {
    next: f64,
    best: Option<f64>,
    failed: Option<f64>,
    trials: u32,
}

impl SaturationSearch {
    /// A search whose first trial is at `start_rate` messages per second.
    ///
    /// # Panics
    /// When the rate is not a finite number above 0.
    #[must_use]
    pub fn new(start_rate: f64) -> SaturationSearch {
        assert!(
            start_rate > 0.0 && start_rate.is_finite(),
            "a rate of {start_rate}"
        );
        SaturationSearch {
            next: start_rate,
            best: None,
            failed: None,
            trials: 0,
        }
    }

    /// The rate to try next, in messages per second; `None` when the search has ended.
    #[must_use]
    pub fn next_rate(&self) -> Option<f64> {
        let narrow = matches!((self.best, self.failed), (Some(best), Some(failed)) if failed / best <= PRECISION);
        let hopeless = self.best.is_none() && self.next < 1.0;
        (!narrow && !hopeless && self.trials < MAX_TRIALS).then_some(self.next)
    }

    /// Takes in how the trial at [`next_rate`](Self::next_rate) went.
    pub fn record(&mut self, was_sustained: bool) {
        self.trials += 1;
        if was_sustained {
            self.best = Some(self.next);
        } else {
            self.failed = Some(self.next);
        }
        self.next = match (self.best, self.failed) {
            (Some(best), None) => best * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (Some(best), Some(failed)) => (best * failed).sqrt(),
            (None, None) => self.next,
        };
    }

    /// The highest rate that was sustained, in messages per second.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

/// Whether a trial was sustained: the run is valid, it completed 99 % of what was due, and its corrected p99 stayed
/// within `p99_limit_ns`.
#[must_use]
pub fn sustained(trial: &PhaseSummary, p99_limit_ns: u64) -> bool {
    // What was due by the schedule, whose gaps may be random, and not by the rate.
    let due = trial.sent + trial.lag.never_attempted;
    let kept_up = trial.completed as f64 >= KEPT_UP * due as f64;
    let fast = trial
        .corrected
        .as_ref()
        .is_none_or(|latency| latency.p99_ns <= p99_limit_ns);
    trial.validity.is_valid() && kept_up && fast
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(start: f64, capacity: f64) -> (Option<f64>, u32) {
        let mut search = SaturationSearch::new(start);
        while let Some(rate) = search.next_rate() {
            search.record(rate <= capacity);
        }
        (search.best(), search.trials)
    }

    proptest! {
        #[test]
        fn finds_the_capacity_from_any_start(start in 1e3..1e8_f64, capacity in 1e3..1e8_f64) {
            let (best, trials) = search(start, capacity);
            let best = best.expect("a capacity this high is found");
            prop_assert!(best <= capacity && best * 1.0301 >= capacity, "{} of {}", best, capacity);
            prop_assert!(trials <= 26, "{} trials", trials);
        }
    }

    #[test]
    fn a_system_that_sustains_nothing_ends_the_search() {
        assert_eq!(search(1e6, 0.0).0, None);
    }

    #[test]
    fn a_system_without_limit_ends_the_search() {
        assert_eq!(search(1e6, f64::INFINITY).1, MAX_TRIALS);
    }
}
