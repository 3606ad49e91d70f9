//! How surprising the silence of one peer is: the phi-accrual failure detector of Hayashibara, Défago, Yared and
//! Katayama (2004).
//!
//! The intervals between heartbeats are taken for normally distributed. After a silence of `elapsed`,
//!
//! ```text
//! y   = (elapsed - (mean + pause)) / max(deviation, min_deviation)
//! phi = -log10(1 - Φ(y))
//! ```
//!
//! so phi 8 says that a silence this long comes once in 10^8 intervals. The tail is computed from its logarithm: phi stays
//! finite and keeps growing where `1 - Φ(y)` has long become 0 in floating point.

use std::time::Duration;

use crate::base::time::Time;
use crate::membership::settings::PhiSettings;

/// Longer intervals are counted as this one: the sums below then fit whatever happens. (An interval that long is no
/// sample anyway, unless the settings allow for pauses of hours.)
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);

/// The detector of one peer. Its memory is fixed: 8 bytes for each interval of the window.
///
/// ```
/// use corecast::Time;
/// use corecast::membership::phi::PhiAccrual;
/// use corecast::membership::settings::PhiSettings;
/// use std::time::Duration;
///
/// let mut now = Time::ZERO;
/// let mut phi = PhiAccrual::new(&PhiSettings::default(), now);
/// for _ in 0..100 {
///     now = now + Duration::from_millis(500);
///     phi.heartbeat(now, Duration::ZERO);
/// }
/// assert!(phi.phi(now + Duration::from_millis(600), Duration::ZERO) < 1.0);
/// assert!(phi.phi(now + Duration::from_millis(1_500), Duration::ZERO) > 8.0);
/// ```
#[derive(Clone, Debug)]
pub struct PhiAccrual {
    settings: PhiSettings,
    /// The last intervals in nanoseconds, the oldest at `oldest` once the ring is full.
    intervals: Vec<u64>,
    oldest: usize,
    /// Of the intervals, exact: integers do not drift, however many come and go.
    sum: u128,
    sum_of_squares: u128,
    last: Time,
}

impl PhiAccrual {
    /// A detector that begins to wait at `now`. Until it has heard enough it believes in the first estimate: two
    /// intervals that have it as their mean and a quarter of it as their deviation.
    #[must_use]
    pub fn new(settings: &PhiSettings, now: Time) -> PhiAccrual {
        let mut phi = PhiAccrual {
            settings: settings.clone(),
            intervals: Vec::with_capacity(settings.window),
            oldest: 0,
            sum: 0,
            sum_of_squares: 0,
            last: now,
        };
        let quarter = settings.first_estimate / 4;
        phi.learn(settings.first_estimate - quarter);
        phi.learn(settings.first_estimate + quarter);
        phi
    }

    /// A heartbeat has come. `pause` is added to the acceptable one of the settings, as in [`phi`](Self::phi).
    ///
    /// The end of a silence that was longer than believable is no sample: it says when the peer came back, not how it
    /// beats. Heartbeats that come at once after something held them up count as one.
    pub fn heartbeat(&mut self, now: Time, pause: Duration) {
        let interval = now - self.last;
        if !interval.is_zero() && !self.is_suspicious(now, pause) {
            self.learn(interval);
        }
        self.last = self.last.max(now);
    }

    /// How surprising the silence until `now` is: 0 or more, never infinite or NaN. `pause` is added to the acceptable
    /// one of the settings, by who knows of a reason for silence.
    #[must_use]
    pub fn phi(&self, now: Time, pause: Duration) -> f64 {
        let mean = self.mean() + (self.settings.acceptable_pause + pause).as_nanos() as f64;
        let min = self.settings.min_deviation.as_nanos().max(1) as f64;
        let elapsed = (now - self.last).as_nanos() as f64;
        minus_log10_of_upper_tail((elapsed - mean) / self.deviation().max(min))
    }

    /// Whether phi has reached the threshold.
    #[must_use]
    pub fn is_suspicious(&self, now: Time, pause: Duration) -> bool {
        self.phi(now, pause) >= self.settings.threshold
    }

    /// Does not count a time in which this node was not there to hear anything.
    pub fn forgive(&mut self, unheard: Duration, now: Time) {
        self.last = (self.last + unheard).min(now.max(self.last));
    }

    /// When the peer was heard last, or the waiting began.
    #[must_use]
    pub fn last_heard(&self) -> Time {
        self.last
    }

    fn learn(&mut self, interval: Duration) {
        let nanos = interval.min(LONGEST_INTERVAL).as_nanos() as u64;
        if self.intervals.len() < self.settings.window.max(2) {
            self.intervals.push(nanos);
        } else {
            let old = std::mem::replace(&mut self.intervals[self.oldest], nanos);
            self.oldest = (self.oldest + 1) % self.intervals.len();
            self.sum -= u128::from(old);
            self.sum_of_squares -= square(old);
        }
        self.sum += u128::from(nanos);
        self.sum_of_squares += square(nanos);
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.intervals.len() as f64
    }

    fn deviation(&self) -> f64 {
        let count = self.intervals.len() as u128;
        // In integers the difference of the two large numbers loses nothing.
        let scaled = count * self.sum_of_squares - self.sum * self.sum;
        (scaled as f64).sqrt() / count as f64
    }
}

fn square(nanos: u64) -> u128 {
    u128::from(nanos) * u128::from(nanos)
}

/// `-log10(1 - Φ(y))` for the standard normal distribution, finite for every finite `y`.
fn minus_log10_of_upper_tail(y: f64) -> f64 {
    // ln of the density's factor, 1/sqrt(2π).
    let ln_density = -y * y / 2.0 - 0.918_938_533_204_672_7;
    let ln_tail = if y < -8.0 {
        return 0.0;
    } else if y < 3.0 {
        // Φ(y) = 1/2 + φ(y) (y + y³/3 + y⁵/(3·5) + ...)
        let (mut term, mut sum) = (y, y);
        for n in 1..200 {
            term *= y * y / f64::from(2 * n + 1);
            sum += term;
        }
        (0.5 - ln_density.exp() * sum).clamp(0.0, 1.0).ln()
    } else {
        // The continued fraction of Laplace: 1 - Φ(y) = φ(y) / (y + 1/(y + 2/(y + 3/(y + ...))))
        let fraction = (1..=60).rev().fold(y, |rest, n| y + f64::from(n) / rest);
        ln_density - fraction.ln()
    };
    (-ln_tail / std::f64::consts::LN_10).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// From tables of the normal distribution.
    #[test]
    fn the_tail_is_that_of_the_normal_distribution() {
        for (y, tail) in [
            (-3.0, 0.998_650_101_968_37),
            (-1.0, 0.841_344_746_068_543),
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457),
            (2.0, 0.022_750_131_948_179_2),
            (2.999_999, 1.349_902_463_473_72e-3),
            (3.0, 1.349_898_031_630_09e-3),
            (5.0, 2.866_515_718_791_94e-7),
            (10.0, 7.619_853_024_160_53e-24),
            (30.0, 4.906_713_927_148_19e-198),
        ] {
            let (phi, expected) = (minus_log10_of_upper_tail(y), -f64::log10(tail));
            assert!((phi - expected).abs() < 1e-9, "{y}: {phi} and {expected}");
        }
        assert!((minus_log10_of_upper_tail(5.612) - 8.0).abs() < 0.001);
    }

    #[test]
    fn before_the_first_heartbeat_it_believes_in_the_estimate() {
        let phi = PhiAccrual::new(&PhiSettings::default(), Time::ZERO);
        assert_eq!(phi.mean(), 1e9);
        assert_eq!(phi.deviation(), 0.25e9);
        let at_the_mean = phi.phi(Time::ZERO + millis(1_000), Duration::ZERO);
        assert!((at_the_mean - std::f64::consts::LOG10_2).abs() < 1e-9);
        assert!(!phi.is_suspicious(Time::ZERO + millis(2_400), Duration::ZERO));
        assert!(phi.is_suspicious(Time::ZERO + millis(2_404), Duration::ZERO));
        // An acceptable pause is added to the mean.
        assert!(!phi.is_suspicious(Time::ZERO + millis(3_400), millis(1_000)));
    }

    #[test]
    fn the_corners_are_finite() {
        let mut phi = PhiAccrual::new(&PhiSettings::default(), Time::ZERO + millis(5));
        for now in [Time::ZERO, Time::ZERO + millis(5), Time::MAX] {
            let value = phi.phi(now, Duration::ZERO);
            assert!(value.is_finite() && value >= 0.0, "{now}: {value}");
        }
        assert!(phi.is_suspicious(Time::MAX, Duration::ZERO));
        assert!(!phi.is_suspicious(Time::MAX, Duration::MAX / 4));
        // A clock that stands still, or goes back, teaches nothing.
        let (sum, last) = (phi.sum, phi.last);
        phi.heartbeat(Time::ZERO + millis(5), Duration::ZERO);
        phi.heartbeat(Time::ZERO, Duration::ZERO);
        assert_eq!((phi.sum, phi.last), (sum, last));
        phi.heartbeat(Time::MAX, Duration::ZERO);
        assert_eq!((phi.sum, phi.last), (sum, Time::MAX));
    }

    #[test]
    fn a_return_is_no_sample_and_a_stall_of_ones_own_is_forgiven() {
        let mut now = Time::ZERO;
        let mut phi = PhiAccrual::new(&PhiSettings::default(), now);
        for _ in 0..300 {
            now = now + millis(500);
            phi.heartbeat(now, Duration::ZERO);
        }
        assert_eq!((phi.mean(), phi.deviation()), (0.5e9, 0.0));
        now = now + millis(30_000);
        assert!(phi.is_suspicious(now, Duration::ZERO));
        let mut forgiving = phi.clone();
        forgiving.forgive(millis(29_800), now);
        assert!(!forgiving.is_suspicious(now, Duration::ZERO));
        forgiving.forgive(millis(29_800), now);
        assert_eq!(forgiving.last_heard(), now, "never into the future");
        phi.heartbeat(now, Duration::ZERO);
        assert_eq!(phi.mean(), 0.5e9);
        assert!(!phi.is_suspicious(now, Duration::ZERO));
    }

    proptest! {
        /// The running sums are those of the window, however many intervals have come and gone; and phi grows.
        #[test]
        fn sums_do_not_drift_and_phi_grows(
            intervals in prop::collection::vec(1_u64..2_000_000_000, 1..500), window in 2_usize..50
        ) {
            let settings = PhiSettings { window, threshold: f64::MAX, ..PhiSettings::default() };
            let mut phi = PhiAccrual::new(&settings, Time::ZERO);
            let mut now = Time::ZERO;
            let mut all = vec![750_000_000, 1_250_000_000];
            for interval in intervals {
                now = now + Duration::from_nanos(interval);
                phi.heartbeat(now, Duration::ZERO);
                all.push(interval);
            }
            let kept = &all[all.len().saturating_sub(window)..];
            prop_assert_eq!(phi.intervals.len(), kept.len());
            prop_assert_eq!(phi.sum, kept.iter().map(|x| u128::from(*x)).sum::<u128>());
            prop_assert_eq!(phi.sum_of_squares, kept.iter().map(|x| square(*x)).sum::<u128>());
            let mut before = 0.0;
            for step in 0..60 {
                let value = phi.phi(now + Duration::from_nanos(1 << step), Duration::ZERO);
                prop_assert!(value.is_finite() && value >= before - 1e-12, "{} after {}", value, before);
                before = value;
            }
        }
    }
}
