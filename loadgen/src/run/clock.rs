//! The clock of the load generator: one origin for all cores, threads and processes of a run, so that times taken anywhere
//! can be compared.
//!
//! The runtime's own clock cannot be read from other threads, and drivers may run there. Processes of one machine share its
//! monotonic clock, so the origin is all that they have to agree on.

use std::time::{Duration, Instant};

use corecast::Time;
use rustix::time::{ClockId, clock_gettime};

/// A clock that counts from when it was made, here or in another process; a read costs about 25 ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    origin_ns: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            origin: Instant::now(),
            origin_ns: monotonic_ns(),
        }
    }

    /// The clock of another process of this machine; it is off by the time between two reads of the clock.
    pub(crate) fn of_origin(origin_ns: u64) -> Clock {
        // Whoever is interrupted between the two reads is off by that: the nearest of three counts.
        let readings = [(); 3].map(|()| {
            let (before, here, after) = (Instant::now(), monotonic_ns(), Instant::now());
            (after - before, before + (after - before) / 2, here)
        });
        let nearest = readings.into_iter().min_by_key(|(gap, ..)| *gap);
        let (_, now, here) =
            nearest.unwrap_or_else(|| (Duration::ZERO, Instant::now(), monotonic_ns()));
        let passed = here.saturating_sub(origin_ns);
        let origin = now.checked_sub(Duration::from_nanos(passed));
        Clock {
            origin: origin.unwrap_or(now),
            origin_ns,
        }
    }

    /// What another process needs to have the same clock.
    pub(crate) fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    #[inline]
    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec, now.tv_nsec);
    u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_one_origin_agree() {
        let clock = Clock::new();
        let other = Clock::of_origin(clock.origin_ns());
        // They are read one after the other; whoever is interrupted in between tries again.
        let is_near = (0..1_000).any(|_| {
            let (before, there, after) = (clock.now(), other.now(), clock.now());
            let slack = Duration::from_micros(50);
            before <= there + slack && there <= after + slack
        });
        assert!(is_near);
    }
}
