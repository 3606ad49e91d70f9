//! Samples, medians and percentiles, and the checks that make a sample count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use thiserror::Error;

/// The outcome of one run of one workload on one system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Messages (hops, actors) a second, or the median round trip in nanoseconds.
    pub value: f64,
    /// The 99th percentile of the round trips, in nanoseconds.
    pub p99: Option<f64>,
}

/// Why a run has no sample.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(
        "{expected} were sent but {counted} counted: the figure would be worthless, so the run is refused"
    )]
    WrongCount { expected: u64, counted: u64 },
    #[error(
        "cannot pin a thread to CPU {cpu}: allow it in this process's affinity mask (taskset, cpuset)"
    )]
    Pin { cpu: usize },
    #[error("a thread of the run panicked: {0}")]
    Panicked(String),
    #[error("the actor system refused or lost a message: {0}")]
    Lost(String),
    #[error("the operating system refused: {0}")]
    Os(#[from] std::io::Error),
}

impl RunError {
    /// Anything an actor system answers when it cannot deliver.
    pub(crate) fn lost(why: impl std::fmt::Display) -> Self {
        Self::Lost(why.to_string())
    }
}

/// The two CPUs the workloads are pinned to: the first two allowed ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpus {
    /// Of one-core workloads, producers and askers.
    pub first: CoreId,
    /// Of the receiving side of core-to-core workloads; equal to `first` where there is one CPU only.
    pub second: CoreId,
}

impl Sample {
    /// `count` things in `elapsed`, having checked that `counted` is exactly that.
    pub(crate) fn rate(count: u64, counted: u64, elapsed: Duration) -> Result<Self, RunError> {
        if count != counted {
            return Err(RunError::WrongCount {
                expected: count,
                counted,
            });
        }
        Ok(Self {
            value: count as f64 / elapsed.as_secs_f64(),
            p99: None,
        })
    }
}

/// The round trips of one run.
#[derive(Debug)]
pub(crate) struct RoundTrips {
    nanos: Vec<u64>,
    warm_up: u64,
}

impl RoundTrips {
    /// For `count` round trips after `warm_up` that are not kept. No allocation while measuring.
    pub(crate) fn new(count: u64, warm_up: u64) -> Self {
        Self {
            nanos: Vec::with_capacity(count as usize),
            warm_up,
        }
    }

    /// Keeps the time since `sent`, unless still warming up.
    pub(crate) fn record(&mut self, sent: Instant) {
        let nanos = sent.elapsed().as_nanos() as u64;
        if self.warm_up > 0 {
            self.warm_up -= 1;
        } else {
            self.nanos.push(nanos);
        }
    }

    /// Median and 99th percentile, having checked that there are exactly `count` of them.
    pub(crate) fn sample(mut self, count: u64) -> Result<Sample, RunError> {
        let counted = self.nanos.len() as u64;
        if counted != count || count == 0 {
            return Err(RunError::WrongCount {
                expected: count,
                counted,
            });
        }
        self.nanos.sort_unstable();
        Ok(Sample {
            value: percentile(&self.nanos, 0.50) as f64,
            p99: Some(percentile(&self.nanos, 0.99) as f64),
        })
    }
}

/// The smallest of `sorted` that at least the share `q` of them does not exceed. `sorted` must not be empty.
fn percentile(sorted: &[u64], q: f64) -> u64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The middle one of `values`, the mean of the middle two if their number is even, `None` if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Counts the actors that are gone: each holds a [`StopToken`], whose drop is the proof.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops(Arc<AtomicU64>);

/// Held by an actor's state; counts when it is dropped.
#[derive(Debug)]
pub(crate) struct StopToken(Stops);

impl Stops {
    /// One for one more actor.
    pub(crate) fn token(&self) -> StopToken {
        StopToken(self.clone())
    }

    /// Actors gone so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for StopToken {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Release);
    }
}

/// Pins the calling thread.
pub(crate) fn pin(cpu: CoreId) -> Result<(), RunError> {
    if core_affinity::set_for_current(cpu) {
        Ok(())
    } else {
        Err(RunError::Pin { cpu: cpu.id })
    }
}

/// Runs `body` on a thread of its own, pinned to `cpu`; the caller itself is never pinned, as threads inherit that.
pub(crate) fn on_pinned_thread<T: Send>(
    cpu: CoreId,
    body: impl FnOnce() -> Result<T, RunError> + Send,
) -> Result<T, RunError> {
    let pinned = || {
        pin(cpu)?;
        body()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join())
        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// The text of a panic.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> RunError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    RunError::Panicked(text.unwrap_or_else(|| "no text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(
            (percentile(&values, 0.5), percentile(&values, 0.99)),
            (100, 198)
        );
        assert_eq!(percentile(&[7], 0.99), 7);
    }

    #[test]
    fn a_wrong_count_is_no_sample() {
        assert!(Sample::rate(10, 9, Duration::from_secs(1)).is_err());
        assert_eq!(
            Sample::rate(10, 10, Duration::from_secs(2))
                .expect("exact")
                .value,
            5.0
        );
        assert!(
            RoundTrips::new(1, 0).sample(1).is_err(),
            "nothing was recorded"
        );
    }

    #[test]
    fn warm_up_is_not_kept() {
        let mut trips = RoundTrips::new(2, 3);
        (0..5).for_each(|_| trips.record(Instant::now()));
        assert_eq!(trips.nanos.len(), 2);
    }

    #[test]
    fn stops_counts_dropped_tokens() {
        let stops = Stops::default();
        let tokens: Vec<_> = (0..3).map(|_| stops.token()).collect();
        assert_eq!(stops.count(), 0);
        drop(tokens);
        assert_eq!(stops.count(), 3);
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error() {
        let cpu = core_affinity::get_core_ids().expect("affinity is known")[0];
        let result = on_pinned_thread::<()>(cpu, || panic!("on purpose"));
        assert!(matches!(result, Err(RunError::Panicked(text)) if text == "on purpose"));
    }
}
