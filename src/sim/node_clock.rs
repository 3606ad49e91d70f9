//! The clock of a simulated node, which is not that of the network: it began elsewhere, and runs faster or slower.

use crate::base::time::Time;
use std::time::Duration;

/// A million, of which [`NodeClock`] counts.
const MILLION: u128 = 1_000_000;

/// How the clock of a node runs beside the time of the network, which all nodes have in common.
///
/// ```
/// use corecast::base::time::Time;
/// use corecast::sim::NodeClock;
/// use std::time::Duration;
///
/// // An hour ahead, and 10 ms faster each second.
/// let fast = NodeClock::new(Duration::from_secs(3_600), 1_010_000);
/// let second = Time::from_nanos(1_000_000_000);
/// assert_eq!(fast.local(second).as_nanos(), 3_601_010_000_000);
/// assert_eq!(fast.real(fast.local(second)), second);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeClock {
    ahead: u64,
    rate: u32,
}

impl Default for NodeClock {
    /// That of the network.
    fn default() -> NodeClock {
        NodeClock::new(Duration::ZERO, 1_000_000)
    }
}

impl NodeClock {
    /// A clock that was `ahead` when the simulation began, and shows `rate` microseconds for each second of the network.
    ///
    /// # Panics
    /// If `rate` is not between 500,000 and 2,000,000.
    #[must_use]
    pub fn new(ahead: Duration, rate: u32) -> NodeClock {
        assert!(
            (500_000..=2_000_000).contains(&rate),
            "a clock shows 500,000 to 2,000,000 microseconds for a second, not {rate}"
        );
        let ahead = ahead.as_nanos() as u64;
        NodeClock { ahead, rate }
    }

    /// What it shows at a time of the network.
    #[must_use]
    pub fn local(self, real: Time) -> Time {
        if real == Time::MAX {
            return real;
        }
        let shown = u128::from(real.as_nanos()) * u128::from(self.rate) / MILLION;
        Time::from_nanos(self.ahead.saturating_add(shown as u64))
    }

    /// When it begins to show this; the beginning, if it showed more from the beginning.
    #[must_use]
    pub fn real(self, local: Time) -> Time {
        if local == Time::MAX {
            return local;
        }
        let since = u128::from(local.as_nanos().saturating_sub(self.ahead)) * MILLION;
        let real = since.div_ceil(u128::from(self.rate));
        Time::from_nanos(u64::try_from(real).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_from_when_it_says() {
        for (ahead, rate) in [(0, 1_000_000), (17, 1_030_001), (5_000, 969_997)] {
            let clock = NodeClock::new(Duration::from_millis(ahead), rate);
            let first = clock.local(Time::ZERO).as_nanos();
            for shown in (first..first + 3_000_000_000).step_by(7_654_321) {
                let shown = Time::from_nanos(shown);
                let real = clock.real(shown);
                assert!(clock.local(real) >= shown);
                if real > Time::ZERO {
                    let before = Time::from_nanos(real.as_nanos() - 1);
                    assert!(clock.local(before) < shown);
                }
            }
            assert_eq!(clock.real(Time::ZERO), Time::ZERO);
            assert_eq!(clock.real(Time::MAX), Time::MAX);
        }
    }
}
