//! Which entity a message goes to: uniform, or zipfian with the hot keys scattered over the whole range.
//!
//! Zipf is drawn by rejection-inversion (W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from
//! monotone discrete distributions", ACM TOMACS 6(3), 1996): no table, constant time, exact for every exponent above 0.
//! The idea: let `H` be the integral of `h(x) = x^-θ`. A uniform `u` below the area of the histogram gives `x = H⁻¹(u)`,
//! whose rounding `k` is accepted when `u` falls into the part of its bar that `h(k)` fills. The cheap test
//! `k - x <= s` accepts nearly always, so a draw costs one logarithm and one exponential.

use std::fmt;
use std::str::FromStr;

use corecast::base::rng::Rng;
use rand::Rng as _;

/// How the load is spread over the keys, as written on the command line: `uniform` or `zipf:θ`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyDistribution {
    /// Every key is as likely as any other.
    Uniform,
    /// The key of rank `k` has a weight of `k^-θ`.
    Zipf {
        /// The exponent θ, above 0.
        theta: f64,
    },
}

/// Draws keys from `0..entities`. Every key of the range can be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    entities: u64,
    zipf: Option<(Zipf, Scatter)>,
}

/// A distribution that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a key distribution: write uniform, or zipf:θ with θ above 0, for example zipf:0.99"
)]
pub struct KeyDistributionError(String);

impl FromStr for KeyDistribution {
    type Err = KeyDistributionError;

    fn from_str(text: &str) -> Result<KeyDistribution, KeyDistributionError> {
        let refused = || KeyDistributionError(text.to_owned());
        if text == "uniform" {
            return Ok(KeyDistribution::Uniform);
        }
        let theta: f64 = text
            .strip_prefix("zipf:")
            .and_then(|theta| theta.parse().ok())
            .ok_or_else(refused)?;
        if theta > 0.0 && theta.is_finite() {
            Ok(KeyDistribution::Zipf { theta })
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for KeyDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyDistribution::Uniform => f.write_str("uniform"),
            KeyDistribution::Zipf { theta } => write!(f, "zipf:{theta}"),
        }
    }
}

impl Keys {
    /// Keys of `0..entities` with the given distribution.
    ///
    /// # Panics
    /// When there are no entities, or θ is not a finite number above 0; the options refuse both.
    #[must_use]
    pub fn new(distribution: KeyDistribution, entities: u64) -> Keys {
        assert!(entities > 0, "keys of no entities");
        let zipf = match distribution {
            KeyDistribution::Uniform => None,
            KeyDistribution::Zipf { theta } => {
                Some((Zipf::new(theta, entities), Scatter::new(entities)))
            }
        };
        Keys { entities, zipf }
    }

    /// The next key.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        match &self.zipf {
            None => below(rng, self.entities),
            Some((zipf, scatter)) => scatter.key_of(zipf.rank(rng)),
        }
    }
}

/// A uniform integer below `bound` by a widening multiplication; its bias is below `bound / 2^64`.
#[inline]
fn below(rng: &mut Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// A uniform number in (0, 1].
#[inline]
pub(crate) fn unit(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// Ranks `0..n`, rank `k` with weight `(k + 1)^-θ`.
#[derive(Clone, Copy, Debug)]
struct Zipf {
    theta: f64,
    n: f64,
    /// `H(1.5) - 1`: the lower end of the area, where the first bar begins.
    area_low: f64,
    /// `H(n + 0.5)`: its upper end.
    area_high: f64,
    /// The greatest distance from `x` up to its rounding that is always accepted.
    shortcut: f64,
}

impl Zipf {
    fn new(theta: f64, n: u64) -> Zipf {
        let mut zipf = Zipf {
            theta,
            n: n as f64,
            area_low: 0.0,
            area_high: 0.0,
            shortcut: 0.0,
        };
        zipf.area_low = zipf.integral(1.5) - 1.0;
        zipf.area_high = zipf.integral(zipf.n + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    #[inline]
    fn rank(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.area_high + unit(rng) * (self.area_low - self.area_high);
            let x = self.integral_inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.n);
            if k - x <= self.shortcut || u >= self.integral(k + 0.5) - self.weight(k) {
                return k as u64 - 1;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// `H(x) = (x^(1-θ) - 1) / (1 - θ)`, which is `ln x` at θ = 1, without losing digits near it.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.theta) * log;
        if t.abs() > 1e-8 {
            t.exp_m1() / t * log
        } else {
            (1.0 + t / 2.0) * log
        }
    }

    #[inline]
    fn integral_inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.theta)).max(-1.0);
        if t.abs() > 1e-8 {
            (t.ln_1p() / t * area).exp()
        } else {
            ((1.0 - t / 2.0) * area).exp()
        }
    }
}

/// A fixed permutation of `0..n`: ranks next to each other become keys far apart, so that hot keys do not share a shard.
///
/// It mixes the bits of the smallest power of two that holds `n`, by steps that can each be undone, and repeats while
/// the result is outside `0..n`. Following such a cycle from inside always comes back inside, each time to another key;
/// as less than half of the numbers lie outside, it takes less than two rounds on average.
#[derive(Clone, Copy, Debug)]
struct Scatter {
    n: u64,
    mask: u64,
    shift: u32,
}

impl Scatter {
    fn new(n: u64) -> Scatter {
        let bits = u64::BITS - (n - 1).leading_zeros();
        Scatter {
            n,
            mask: if bits == 64 {
                u64::MAX
            } else {
                (1 << bits) - 1
            },
            shift: (bits / 2).max(1),
        }
    }

    #[inline]
    fn key_of(&self, rank: u64) -> u64 {
        let mut key = rank;
        loop {
            key = key.wrapping_add(0x632B_E59B_D9B4_E019) & self.mask;
            key = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) & self.mask;
            key ^= key >> self.shift;
            key = key.wrapping_mul(0xBF58_476D_1CE4_E5B9) & self.mask;
            key ^= key >> self.shift;
            if key < self.n {
                return key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corecast::base::rng::seeded;
    use proptest::prelude::*;

    /// Sum of (seen - expected)² / expected; the ranks whose expectation is small are taken together.
    fn chi_square(seen: &[u64], weights: &[f64]) -> (f64, f64) {
        let draws = seen.iter().sum::<u64>() as f64;
        let total: f64 = weights.iter().sum();
        let (mut statistic, mut cells) = (0.0, 0.0);
        let (mut rest_seen, mut rest_expected) = (0.0, 0.0);
        for (&seen, weight) in seen.iter().zip(weights) {
            rest_seen += seen as f64;
            rest_expected += draws * weight / total;
            if rest_expected >= 10.0 {
                statistic += (rest_seen - rest_expected).powi(2) / rest_expected;
                cells += 1.0;
                (rest_seen, rest_expected) = (0.0, 0.0);
            }
        }
        (statistic, cells - 1.0)
    }

    fn assert_follows(seen: &[u64], weights: &[f64], what: &str) {
        let (statistic, freedom) = chi_square(seen, weights);
        // Mean = freedom, variance = 2 × freedom: five standard deviations never happen by chance with fixed seeds.
        assert!(
            statistic < freedom + 5.0 * (2.0 * freedom).sqrt() + 5.0,
            "{what}: χ² {statistic} with {freedom}"
        );
    }

    #[test]
    fn zipf_ranks_follow_the_exact_distribution() {
        for theta in [0.1, 0.5, 0.99, 1.0, 1.000_000_001, 1.5, 3.0] {
            for n in [1_u64, 2, 7, 1000, 50_000] {
                let zipf = Zipf::new(theta, n);
                let mut rng = seeded(7, n);
                let mut seen = vec![0_u64; n as usize];
                for _ in 0..300_000 {
                    seen[zipf.rank(&mut rng) as usize] += 1;
                }
                let weights: Vec<f64> = (1..=n).map(|k| (k as f64).powf(-theta)).collect();
                assert_follows(&seen, &weights, &format!("θ {theta}, n {n}"));
            }
        }
    }

    #[test]
    fn the_test_statistic_notices_a_wrong_exponent() {
        let zipf = Zipf::new(0.99, 1000);
        let mut rng = seeded(7, 0);
        let mut seen = vec![0_u64; 1000];
        for _ in 0..300_000 {
            seen[zipf.rank(&mut rng) as usize] += 1;
        }
        let weights: Vec<f64> = (1..=1000).map(|k| f64::from(k).powf(-0.95)).collect();
        let (statistic, freedom) = chi_square(&seen, &weights);
        assert!(statistic > 2.0 * freedom, "χ² {statistic} with {freedom}");
    }

    #[test]
    fn uniform_keys_follow_the_exact_distribution() {
        let keys = Keys::new(KeyDistribution::Uniform, 1000);
        let mut rng = seeded(1, 0);
        let mut seen = vec![0_u64; 1000];
        for _ in 0..300_000 {
            seen[keys.draw(&mut rng) as usize] += 1;
        }
        assert_follows(&seen, &[1.0; 1000], "uniform");
    }

    #[test]
    fn hot_keys_are_scattered() {
        let scatter = Scatter::new(1_000_000);
        let mut parts = [0_u32; 10];
        for rank in 0..100 {
            parts[(scatter.key_of(rank) / 100_000) as usize] += 1;
        }
        assert!(
            parts.iter().all(|&part| (2..=25).contains(&part)),
            "{parts:?}"
        );
    }

    #[test]
    fn the_same_seed_draws_the_same_keys() {
        let keys = Keys::new(KeyDistribution::Zipf { theta: 0.99 }, 1_000_000);
        let draw = |seed| {
            let mut rng = seeded(seed, 3);
            (0..100).map(|_| keys.draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(42), draw(42));
        assert_ne!(draw(42), draw(43));
    }

    #[test]
    fn huge_ranges_and_exponents_stay_inside() {
        for (theta, n) in [
            (0.000_1, u64::MAX),
            (40.0, u64::MAX),
            (40.0, 1),
            (1.0, 1 << 60),
        ] {
            let keys = Keys::new(KeyDistribution::Zipf { theta }, n);
            let mut rng = seeded(5, 0);
            assert!((0..10_000).all(|_| keys.draw(&mut rng) < n));
        }
    }

    #[test]
    fn distributions_are_read_and_written() {
        assert_eq!("uniform".parse(), Ok(KeyDistribution::Uniform));
        assert_eq!(
            "zipf:0.99".parse(),
            Ok(KeyDistribution::Zipf { theta: 0.99 })
        );
        assert_eq!(KeyDistribution::Zipf { theta: 1.0 }.to_string(), "zipf:1");
        for bad in [
            "", "zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:inf", "zipf:NaN", "Uniform", "pareto:1",
        ] {
            assert!(bad.parse::<KeyDistribution>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_scatter_is_a_permutation(n in 1_u64..5000) {
            let scatter = Scatter::new(n);
            let mut keys: Vec<u64> = (0..n).map(|rank| scatter.key_of(rank)).collect();
            keys.sort_unstable();
            prop_assert_eq!(keys, (0..n).collect::<Vec<_>>());
        }
    }
}
