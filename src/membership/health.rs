//! How much a node trusts its own verdicts: the local health multiplier of Dadgar, Phillips and Currey, *Lifeguard: SWIM-ing
//! with Situational Awareness* (2017).
//!
//! A node that was late to read its own sockets sees others fail. So it multiplies the times after which it gives others
//! up, and returns to normal while it is on time.

use std::time::Duration;

use crate::base::time::Time;

/// The largest score, as in Lifeguard: times are at most nine times as long.
const MAX_SCORE: u32 = 8;

/// What a node knows about its own health.
#[derive(Clone, Debug)]
pub struct LocalHealth {
    /// One of these on time takes one from the score.
    period: Duration,
    /// Lateness up to here has no effect.
    tolerance: Duration,
    score: u32,
    heals_at: Time,
}

impl LocalHealth {
    /// A healthy node, that counts lateness in periods.
    #[must_use]
    pub fn new(period: Duration, tolerance: Duration) -> LocalHealth {
        LocalHealth {
            period,
            tolerance,
            score: 0,
            heals_at: Time::ZERO,
        }
    }

    /// This node was late by so much. Says whether that has an effect.
    pub fn stalled(&mut self, late: Duration, now: Time) -> bool {
        if late <= self.tolerance {
            return false;
        }
        let periods = late.as_nanos().div_ceil(self.period.as_nanos().max(1));
        self.worsen(u32::try_from(periods).unwrap_or(MAX_SCORE), now);
        true
    }

    /// Others have suspected this node: it may be slower than it knows.
    pub fn suspected(&mut self, now: Time) {
        self.worsen(1, now);
    }

    /// By what the times are multiplied, from 1 to 9.
    #[must_use]
    pub fn multiplier(&self, now: Time) -> u32 {
        1 + self.score(now)
    }

    fn worsen(&mut self, by: u32, now: Time) {
        self.score = (self.score(now) + by.min(MAX_SCORE)).min(MAX_SCORE);
        self.heals_at = now;
    }

    fn score(&self, now: Time) -> u32 {
        let healed = (now - self.heals_at).as_nanos() / self.period.as_nanos().max(1);
        self.score
            .saturating_sub(u32::try_from(healed).unwrap_or(MAX_SCORE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_counts_and_heals() {
        let ms = Duration::from_millis;
        let mut health = LocalHealth::new(ms(500), ms(50));
        let now = Time::ZERO + ms(10_000);
        assert!(!health.stalled(ms(50), now));
        assert_eq!(health.multiplier(now), 1);
        assert!(health.stalled(ms(51), now));
        assert_eq!(health.multiplier(now), 2);
        assert!(health.stalled(ms(900), now));
        assert_eq!(health.multiplier(now), 4);
        assert_eq!(health.multiplier(now + ms(500)), 3);
        health.suspected(now + ms(500));
        assert_eq!(health.multiplier(now + ms(500)), 4);
        assert!(health.stalled(Duration::MAX, now + ms(500)));
        assert_eq!(health.multiplier(now + ms(500)), 9);
        assert_eq!(health.multiplier(now + ms(4_500)), 1);
        assert_eq!(health.multiplier(Time::MAX), 1);
    }
}
