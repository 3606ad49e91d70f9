//! Two nodes beside bare TCP.

use serde::{Deserialize, Serialize};

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

impl WireReport {
    /// The medians with what they are held against, below their headings.
    #[must_use]
    pub fn rows(&self) -> Vec<[String; 5]> {
        let median = |of: fn(&WireRound) -> f64| {
            let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        };
        // Ratios are of one round: machines change.
        let ratio = |of: fn(&WireRound) -> f64| {
            let value = median(of);
            if value.is_finite() && !self.rounds.is_empty() {
                format!("{value:.2}")
            } else {
                "-".to_owned()
            }
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
                "at least 2 M/s".to_owned(),
            ],
            [
                "ask one at a time, hot".to_owned(),
                time(|round| round.hot_ask_ns as f64),
                format!("{} polling", time(|round| round.bare_polling_ns as f64)),
                ratio(|round| round.hot_ask_ns as f64 / round.bare_polling_ns as f64),
                "at most 2".to_owned(),
            ],
            [
                "ask one at a time, parked".to_owned(),
                time(|round| round.parked_ask_ns as f64),
                format!("{} blocking", time(|round| round.bare_blocking_ns as f64)),
                ratio(|round| round.parked_ask_ns as f64 / round.bare_blocking_ns as f64),
                "at most 1.5".to_owned(),
            ],
            [
                "payload in tells of 1 KiB".to_owned(),
                format!("{}B/s", rate(median(|round| round.tell_bytes_per_s))),
                format!("{}B/s", rate(median(|round| round.bare_bytes_per_s))),
                ratio(|round| round.tell_bytes_per_s / round.bare_bytes_per_s),
                "at least 0.5".to_owned(),
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
    }
}
