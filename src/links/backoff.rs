//! How long to wait before the next attempt to connect: longer each time, and never the same for two nodes.

use super::settings::LinkSettings;
use crate::base::rng::Rng;
use rand::RngExt;
use std::time::Duration;

/// The attempts at one remote.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. The `n`th in a row is `initial * factor^(n-1)`, at most `max`, less a random part
    /// of up to `jitter` of it.
    pub(super) fn next(&mut self, settings: &LinkSettings, rng: &mut Rng) -> Duration {
        let growth = settings.backoff_factor.powi(self.failures.min(64) as i32);
        self.failures = self.failures.saturating_add(1);
        let most = settings.backoff_max.as_secs_f64();
        let wait = (settings.backoff_initial.as_secs_f64() * growth).min(most);
        let less = wait * settings.backoff_jitter * rng.random_range(0.0..=1.0);
        Duration::from_secs_f64((wait - less).max(0.0))
    }

    /// A connection has lasted.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::seeded;
    use std::collections::BTreeSet;

    #[test]
    fn it_grows_to_its_bound_and_differs_by_seed() {
        let settings = LinkSettings::default();
        let mut firsts = BTreeSet::new();
        for seed in 0..50 {
            let (mut backoff, mut rng) = (Backoff::default(), seeded(seed, 0));
            for n in 0..200 {
                let most = settings
                    .backoff_initial
                    .mul_f64(2_f64.powi(n.min(20)))
                    .min(settings.backoff_max);
                let wait = backoff.next(&settings, &mut rng);
                let least = most.mul_f64(1.0 - settings.backoff_jitter);
                assert!(wait <= most && wait >= least, "{n}: {wait:?} of {most:?}");
                if n == 0 {
                    firsts.insert(wait);
                }
            }
            backoff.reset();
            assert!(backoff.next(&settings, &mut rng) <= settings.backoff_initial);
        }
        assert!(firsts.len() > 45, "{}", firsts.len());
    }
}
