//! How late a turn is: what came meanwhile has waited for this node, and that is counted against nobody.

use crate::base::time::Time;
use std::time::Duration;

/// Less is everyday life of a machine, and not told.
const TOLERANCE: Duration = Duration::from_millis(5);

/// Measures the lateness of turns against when they were meant to be.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    meant: Time,
}

impl Lateness {
    /// The first turn is meant for now.
    #[must_use]
    pub fn new(now: Time) -> Lateness {
        Lateness { meant: now }
    }

    /// A turn begins: how late it is, if that is worth telling. The next one is meant to follow at once, unless
    /// [`sleeps_until`](Lateness::sleeps_until) says otherwise.
    pub fn begin(&mut self, now: Time) -> Option<Duration> {
        let late = now - self.meant;
        self.meant = now;
        (late >= TOLERANCE).then_some(late)
    }

    /// The core sleeps now, until then at the latest; without a limit, until it is woken.
    pub fn sleeps_until(&mut self, limit: Option<Time>) {
        // Whoever wakes it earlier makes it early, not late.
        self.meant = limit.unwrap_or(Time::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn late_is_what_comes_after_it_was_meant() {
        let mut lateness = Lateness::new(ms(100));
        assert_eq!(lateness.begin(ms(101)), None);
        // A turn that took long makes the next one late.
        assert_eq!(lateness.begin(ms(151)), Some(Duration::from_millis(50)));
        // A sleep is meant.
        lateness.sleeps_until(Some(ms(500)));
        assert_eq!(lateness.begin(ms(502)), None);
        lateness.sleeps_until(Some(ms(600)));
        assert_eq!(lateness.begin(ms(3_600)), Some(Duration::from_secs(3)));
        // Woken early.
        lateness.sleeps_until(Some(ms(9_000)));
        assert_eq!(lateness.begin(ms(4_000)), None);
        lateness.sleeps_until(None);
        assert_eq!(lateness.begin(ms(5_000)), None);
        assert_eq!(lateness.begin(ms(5_010)), Some(Duration::from_millis(10)));
    }
}
