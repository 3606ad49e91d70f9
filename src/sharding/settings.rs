//! The settings of moves and of the balancer.

use std::time::Duration;

use thiserror::Error;

/// How many moves there may be, and whether the coordinator makes some on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct CoordinatorSettings {
    /// The most shards that move at once, at least 1. Start with 8. Each moving shard fills the outboxes of all cores
    /// while it moves: too high, and callers are refused; too low, and a slow shard holds up the others.
    pub max_moves: usize,
    /// The most requests that wait for their turn; more are answered [`TooManyMoves`]. Start with 256: one
    /// request for each shard of a type. The cost is some 100 bytes each.
    ///
    /// [`TooManyMoves`]: crate::sharding::move_error::MoveError::TooManyMoves
    pub max_waiting: usize,
    /// How long a request may wait for its turn. Start with 30 s, a multiple of the patience of a hand-off.
    pub max_wait: Duration,
    /// When to move shards between cores on its own; `None` never does.
    pub balancer: Option<BalancerSettings>,
}

impl Default for CoordinatorSettings {
    fn default() -> CoordinatorSettings {
        CoordinatorSettings {
            max_moves: 8,
            max_waiting: 256,
            max_wait: Duration::from_secs(30),
            balancer: Some(BalancerSettings::default()),
        }
    }
}

impl CoordinatorSettings {
    /// Checks that the settings make sense and agree with each other, those of the balancer included.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first setting that doesn't.
    pub fn check(&self) -> Result<(), SettingsError> {
        first_wrong([
            (
                "max_moves",
                self.max_moves >= 1,
                self.max_moves.to_string(),
                "at least 1",
            ),
            (
                "max_wait",
                !self.max_wait.is_zero(),
                format!("{:?}", self.max_wait),
                "above 0",
            ),
        ])?;
        self.balancer
            .as_ref()
            .map_or(Ok(()), BalancerSettings::check)
    }
}

/// When the balancer acts, and how strongly.
#[derive(Clone, Debug, PartialEq)]
pub struct BalancerSettings {
    /// How often each core reports its load; a round is held when all have. Start with 1 s. Shorter windows react
    /// sooner and see more noise; longer ones add `windows * window` to the time for which a hot spot stands.
    pub window: Duration,
    /// The weight of the newest window in a shard's average, above 0 and at most 1. Start with 0.5: after a change of
    /// load, two windows carry 75 % of it. Too high follows the noise, too low moves yesterday's hot shards.
    pub weight: f64,
    /// How busy a core must be to be relieved, as a fraction of its time from 0 to 1. Start with 0.3. Too low moves
    /// shards where nobody would notice, too high waits until latency has suffered.
    pub busy_threshold: f64,
    /// How far above the mean load of the cores a core must be to be relieved, as a fraction of that mean. Start with
    /// 0.25. It must exceed `target`; too low makes moves out of noise, too high leaves throughput unused: with two
    /// cores at most `imbalance / 2` of it.
    pub imbalance: f64,
    /// How far above the mean a core that is being relieved may stay. Start with 0.05. `0 <= target < imbalance`; the
    /// difference is the hysteresis. Too close to `imbalance`, and the next noise starts another round.
    pub target: f64,
    /// For how many windows in a row a core must be above both thresholds, at least 1. Start with 2. One acts on every
    /// burst, each further one prolongs a hot spot by a window.
    pub windows: u32,
    /// The most moves planned in one round, at least 1. Start with 32. Moves hold up the shard's messages for a
    /// moment: too high makes many callers wait at once, too low spreads many lukewarm shards slowly (half of 256
    /// shards in 4 rounds at 32).
    pub max_moves: usize,
    /// How long a shard stays where it is after a move or an attempt to move. Start with 60 s. Too short lets a shard
    /// travel with every swing of the load, too long leaves the balancer without shards to move after such a swing.
    pub cool_down: Duration,
}

impl Default for BalancerSettings {
    fn default() -> BalancerSettings {
        BalancerSettings {
            window: Duration::from_secs(1),
            weight: 0.5,
            busy_threshold: 0.3,
            imbalance: 0.25,
            target: 0.05,
            windows: 2,
            max_moves: 32,
            cool_down: Duration::from_secs(60),
        }
    }
}

impl BalancerSettings {
    /// Checks that the settings make sense and agree with each other.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first setting that doesn't.
    pub fn check(&self) -> Result<(), SettingsError> {
        let checks = [
            (
                "window",
                !self.window.is_zero(),
                format!("{:?}", self.window),
                "above 0",
            ),
            (
                "weight",
                self.weight > 0.0 && self.weight <= 1.0,
                self.weight.to_string(),
                "above 0 and at most 1",
            ),
            (
                "busy_threshold",
                (0.0..=1.0).contains(&self.busy_threshold),
                self.busy_threshold.to_string(),
                "between 0 and 1",
            ),
            (
                "imbalance",
                self.imbalance > 0.0 && self.imbalance.is_finite(),
                self.imbalance.to_string(),
                "above 0 and finite",
            ),
            (
                "target",
                self.target >= 0.0 && self.target < self.imbalance,
                self.target.to_string(),
                "at least 0 and below `imbalance`",
            ),
            (
                "windows",
                self.windows >= 1,
                self.windows.to_string(),
                "at least 1",
            ),
            (
                "max_moves",
                self.max_moves >= 1,
                self.max_moves.to_string(),
                "at least 1",
            ),
        ];
        first_wrong(checks)
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("sharding setting `{setting}` is {value}; it must be {must_be}")]
pub struct SettingsError {
    /// The name of the field.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub must_be: &'static str,
}

/// Name, whether it is fine, value, and what it must be.
type Check = (&'static str, bool, String, &'static str);

fn first_wrong<const N: usize>(checks: [Check; N]) -> Result<(), SettingsError> {
    match checks.into_iter().find(|(_, fine, ..)| !fine) {
        None => Ok(()),
        Some((setting, _, value, must_be)) => Err(SettingsError {
            setting,
            value,
            must_be,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil<S> = fn(&mut S);

    #[test]
    fn the_balancers_settings_that_contradict_are_named() {
        let fine = BalancerSettings::default();
        assert_eq!(fine.check(), Ok(()));
        let cases: [(&str, Spoil<BalancerSettings>); 8] = [
            ("window", |s| s.window = Duration::ZERO),
            ("weight", |s| s.weight = 0.0),
            ("weight", |s| s.weight = f64::NAN),
            ("busy_threshold", |s| s.busy_threshold = 1.1),
            ("imbalance", |s| s.imbalance = 0.0),
            ("target", |s| s.target = 0.25),
            ("windows", |s| s.windows = 0),
            ("max_moves", |s| s.max_moves = 0),
        ];
        for (name, spoil) in cases {
            let mut settings = fine.clone();
            spoil(&mut settings);
            assert_eq!(settings.check().unwrap_err().setting, name);
        }
    }

    #[test]
    fn the_coordinators_settings_include_the_balancers() {
        let fine = CoordinatorSettings::default();
        assert_eq!(fine.check(), Ok(()));
        let cases: [(&str, Spoil<CoordinatorSettings>); 3] = [
            ("max_moves", |s| s.max_moves = 0),
            ("max_wait", |s| s.max_wait = Duration::ZERO),
            ("windows", |s| s.balancer.as_mut().unwrap().windows = 0),
        ];
        for (name, spoil) in cases {
            let mut settings = fine.clone();
            spoil(&mut settings);
            assert_eq!(settings.check().unwrap_err().setting, name);
        }
    }
}
