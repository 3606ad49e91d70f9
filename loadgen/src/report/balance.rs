//! What the balancer did to shards that all started on one core.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::slo::SloVerdict;
use crate::units::{self, grouped};

/// A shard that moves twice within this time is restless.
pub const TWICE_WITHIN: Duration = Duration::from_secs(60);

/// A gain of so many times the number of cores is still noise; one above it was not the balancer's.
const GAIN_NOISE: f64 = 1.05;

/// What the balancer did to shards that all started on one core.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BalanceReport {
    /// How many cores the runtime has.
    pub cores: u16,
    /// The core on which all shards started, by its place among the runtime's cores.
    pub hot_core: u16,
    /// The share of all messages that go to the shard with the most of them, from 0 to 1.
    pub hottest_share: f64,
    /// Throughput behind the time to settle over throughput on one core; absent when the run was broken off.
    pub gain: Option<f64>,
    /// The least gain that was asked for.
    pub min_gain: f64,
    /// The time that the balancer had before the throughput was measured again, in seconds.
    pub settle_s: f64,
    /// How long moves were watched, in seconds, that time included.
    pub watched_s: f64,
    /// How many shards there are.
    pub shards: u64,
    /// Shards that moved twice in less than 60 s.
    pub moved_twice: u64,
    /// All moves, in the order they were seen.
    pub moves: Vec<ShardMove>,
}

/// One move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardMove {
    /// Seconds since the load began.
    pub at_s: f64,
    /// The shard's number.
    pub shard: u32,
    /// Where it went, by the core's place among the runtime's cores.
    pub to_core: u16,
}

impl BalanceReport {
    /// The two objectives of the scenario.
    #[must_use]
    pub fn verdicts(&self) -> [SloVerdict; 2] {
        let possible = f64::from(self.cores) * GAIN_NOISE;
        let is_possible = self.gain.is_some_and(|gain| gain <= possible);
        let gain = match self.gain {
            None => "nothing".to_owned(),
            Some(gain) if is_possible => format!("{gain:.2}"),
            Some(gain) => format!(
                "{gain:.2}, more than {} cores can give: other processes had the CPUs, leave the machine idle",
                self.cores
            ),
        };
        let shards = grouped(self.moved_twice);
        [
            SloVerdict {
                objective: format!("gain ≥ {}", self.min_gain),
                measured: gain,
                is_met: is_possible && self.gain >= Some(self.min_gain),
            },
            SloVerdict {
                objective: format!("no shard moves twice in {}", units::duration(TWICE_WITHIN)),
                measured: format!("{shards} shards in {:.0} s", self.watched_s),
                is_met: self.moved_twice == 0,
            },
        ]
    }

    /// The figures by name, for the table and the page.
    pub(super) fn rows(&self) -> [(&'static str, String); 5] {
        let settling = self.moves.iter().filter(|moved| moved.at_s < self.settle_s);
        let settling = settling.count() as u64;
        let steady = self.moves.len() as u64 - settling;
        [
            (
                "gain",
                self.gain.map_or("not measured".to_owned(), |gain| {
                    format!(
                        "{gain:.2} times the throughput on core-{} alone",
                        self.hot_core
                    )
                }),
            ),
            (
                "hottest shard",
                format!("{:.1} % of the load", self.hottest_share * 100.0),
            ),
            (
                "moves at first",
                format!(
                    "{} in {:.0} s",
                    grouped(settling),
                    self.settle_s.min(self.watched_s)
                ),
            ),
            (
                "moves then",
                format!(
                    "{} in {:.0} s of steady load",
                    grouped(steady),
                    (self.watched_s - self.settle_s).max(0.0)
                ),
            ),
            (
                "moved twice",
                format!(
                    "{} of {} shards within {}",
                    grouped(self.moved_twice),
                    grouped(self.shards),
                    units::duration(TWICE_WITHIN)
                ),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_below_the_least_and_a_restless_shard_miss_their_objectives() {
        let mut report = BalanceReport {
            cores: 2,
            gain: Some(1.6),
            min_gain: 1.6,
            ..BalanceReport::default()
        };
        let met = |report: &BalanceReport| report.verdicts().map(|verdict| verdict.is_met);
        assert_eq!(met(&report), [true, true]);
        report.gain = Some(1.59);
        report.moved_twice = 1;
        assert_eq!(met(&report), [false, false]);
        report.gain = Some(2.5);
        let [gain, _] = report.verdicts();
        assert!(
            !gain.is_met && gain.measured.contains("more than 2 cores can give"),
            "{gain:?}"
        );
        report.gain = None;
        assert_eq!(
            met(&report),
            [false, false],
            "nothing measured meets nothing"
        );
    }

    #[test]
    fn moves_are_told_apart_by_when_they_happened() {
        let moved = |at_s| ShardMove {
            at_s,
            shard: 1,
            to_core: 1,
        };
        let report = BalanceReport {
            settle_s: 10.0,
            watched_s: 30.0,
            moves: vec![moved(2.0), moved(9.9), moved(10.0)],
            ..BalanceReport::default()
        };
        let rows = report.rows();
        assert_eq!(rows[2].1, "2 in 10 s");
        assert_eq!(rows[3].1, "1 in 20 s of steady load");
    }
}
