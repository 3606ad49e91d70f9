//! Two nodes beside bare TCP.

use serde::{Deserialize, Serialize};

use super::slo::SloVerdict;
use crate::units::{latency, rate};

/// What was measured in each round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WireReport {
    /// The rounds, in order.
    pub rounds: Vec<WireRound>,
}

/// One round. Times are medians.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WireRound {
    /// Round trips of 64 bytes over bare TCP, both ends reading in a spin.
    pub bare_polling_ns: u64,
    /// The same with blocking reads.
    pub bare_blocking_ns: u64,
    /// Bare TCP one way, in writes of 64 KiB.
    pub bare_bytes_per_s: f64,
    /// Tells of 64 bytes over one connection, handled.
    pub tells_per_s: f64,
    /// Payload of tells of 1 KiB over one connection, handled.
    pub tell_bytes_per_s: f64,
    /// Asks one at a time, all cores polling.
    pub hot_ask_ns: u64,
    /// Asks one at a time, all cores parking at once.
    pub parked_ask_ns: u64,
}

/// What the runtime is to do beside bare TCP.
const TELLS_PER_S: f64 = 2e6;
const HOT_ASK: f64 = 2.0;
const PARKED_ASK: f64 = 1.5;
const OF_THE_STREAM: f64 = 0.5;

impl WireRound {
    // Ratios are of one round: machines change.
    fn hot_ask(&self) -> f64 {
        self.hot_ask_ns as f64 / self.bare_polling_ns as f64
    }

    fn parked_ask(&self) -> f64 {
        self.parked_ask_ns as f64 / self.bare_blocking_ns as f64
    }

    fn of_the_stream(&self) -> f64 {
        self.tell_bytes_per_s / self.bare_bytes_per_s
    }
}

impl WireReport {
    fn median(&self, of: fn(&WireRound) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let value = values.get(values.len() / 2).copied();
        value.filter(|value| value.is_finite())
    }

    /// The goals, and whether the medians reach them.
    #[must_use]
    pub fn verdicts(&self) -> [SloVerdict; 4] {
        let verdict = |objective: String,
                       value: Option<f64>,
                       shown: &dyn Fn(f64) -> String,
                       is_met: &dyn Fn(f64) -> bool| {
            SloVerdict {
                objective,
                measured: value.map_or("nothing".to_owned(), shown),
                is_met: value.is_some_and(is_met),
            }
        };
        let ratio = |value: f64| format!("{value:.2}");
        [
            verdict(
                format!("tells of 64 bytes ≥ {}/s", rate(TELLS_PER_S)),
                self.median(|round| round.tells_per_s),
                &|value| format!("{}/s", rate(value)),
                &|value| value >= TELLS_PER_S,
            ),
            verdict(
                format!("hot ask ≤ {HOT_ASK} of bare TCP"),
                self.median(WireRound::hot_ask),
                &ratio,
                &|value| value <= HOT_ASK,
            ),
            verdict(
                format!("parked ask ≤ {PARKED_ASK} of bare TCP"),
                self.median(WireRound::parked_ask),
                &ratio,
                &|value| value <= PARKED_ASK,
            ),
            verdict(
                format!("tells of 1 KiB ≥ {OF_THE_STREAM} of bare TCP"),
                self.median(WireRound::of_the_stream),
                &ratio,
                &|value| value >= OF_THE_STREAM,
            ),
        ]
    }

    /// The medians with what they are held against, below their headings.
    #[must_use]
    pub fn rows(&self) -> Vec<[String; 5]> {
        let median = |of: fn(&WireRound) -> f64| self.median(of).unwrap_or(0.0);
        let ratio = |of: fn(&WireRound) -> f64| {
            let value = self.median(of);
            value.map_or("-".to_owned(), |value| format!("{value:.2}"))
        };
        let time = |of: fn(&WireRound) -> f64| latency(median(of) as u64);
        let per_second = |value: f64| format!("{}/s", rate(value));
        vec![
            ["", "corecast", "bare TCP", "ratio", "goal"].map(str::to_owned),
            [
                "tells of 64 bytes, one connection".to_owned(),
                per_second(median(|round| round.tells_per_s)),
                format!(
                    "{}/s as a stream",
                    rate(median(|round| round.bare_bytes_per_s / 64.0))
                ),
                ratio(|round| round.tells_per_s * 64.0 / round.bare_bytes_per_s),
                format!("at least {}/s", rate(TELLS_PER_S)),
            ],
            [
                "ask one at a time, hot".to_owned(),
                time(|round| round.hot_ask_ns as f64),
                format!("{} polling", time(|round| round.bare_polling_ns as f64)),
                ratio(WireRound::hot_ask),
                format!("at most {HOT_ASK}"),
            ],
            [
                "ask one at a time, parked".to_owned(),
                time(|round| round.parked_ask_ns as f64),
                format!("{} blocking", time(|round| round.bare_blocking_ns as f64)),
                ratio(WireRound::parked_ask),
                format!("at most {PARKED_ASK}"),
            ],
            [
                "payload in tells of 1 KiB".to_owned(),
                format!("{}B/s", rate(median(|round| round.tell_bytes_per_s))),
                format!("{}B/s", rate(median(|round| round.bare_bytes_per_s))),
                ratio(WireRound::of_the_stream),
                format!("at least {OF_THE_STREAM}"),
            ],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_rounds_and_so_are_ratios() {
        let round = |hot: u64, polling: u64| WireRound {
            hot_ask_ns: hot,
            bare_polling_ns: polling,
            bare_blocking_ns: 100_000,
            parked_ask_ns: 150_000,
            bare_bytes_per_s: 2e9,
            tell_bytes_per_s: 1e9,
            tells_per_s: 2.5e6,
        };
        let report = WireReport {
            rounds: vec![
                round(20_000, 10_000),
                round(90_000, 30_000),
                round(30_000, 20_000),
            ],
        };
        let rows = report.rows();
        assert_eq!(rows[2][1..4], ["30.0 µs", "20.0 µs polling", "2.00"]);
        assert_eq!(rows[3][3], "1.50");
        assert_eq!(rows[4][3], "0.50");
        assert_eq!(WireReport::default().rows()[2][3], "-");
        let met = |report: &WireReport| report.verdicts().map(|verdict| verdict.is_met);
        assert_eq!(met(&report), [true; 4], "the limits themselves are met");
        let mut missed = report.clone();
        for round in &mut missed.rounds {
            round.tells_per_s -= 6e5;
            round.hot_ask_ns += 1_000;
            round.parked_ask_ns += 1_000;
            round.tell_bytes_per_s -= 1e7;
        }
        assert_eq!(met(&missed), [false; 4]);
        assert_eq!(
            met(&WireReport::default()),
            [false; 4],
            "nothing measured meets nothing"
        );
    }
}
