//! The results of all rows: the table for people, the JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::{Sample, median};
use crate::system::System;
use crate::workload::{Against, Bound, Measure, RAW_BATCH, Size, Workload};

/// Everything one invocation measured. Serialised as it is; `format` grows when fields change their meaning.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this layout: 1.
    pub format: u32,
    /// Where.
    pub machine: Machine,
    /// Interleaved repetitions of each row.
    pub runs: u32,
    /// Whether sizes were cut to try the program out.
    pub quick: bool,
    /// Messages in a batch of the raw channel.
    pub raw_batch: usize,
    /// One for each workload.
    pub rows: Vec<Row>,
}

/// One workload.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    workload: &'static str,
    what: String,
    unit: &'static str,
    messages: u64,
    actors: u64,
    results: Vec<SystemResult>,
    best_peer: Option<&'static str>,
    goals: Vec<GoalResult>,
}

/// What one system did in one workload.
#[derive(Debug, Serialize)]
struct SystemResult {
    system: &'static str,
    version: Option<&'static str>,
    setting: &'static str,
    /// Of each run, in order.
    values: Vec<f64>,
    /// Of `values`.
    median: f64,
    /// Median of the runs' 99th percentiles, for round trips.
    p99: Option<f64>,
}

/// How a goal fared. `ratio` and `is_met` are `None` where one of the two sides did not run.
#[derive(Debug, Serialize)]
struct GoalResult {
    against: &'static str,
    bound: String,
    ratio: Option<f64>,
    is_met: Option<bool>,
}

impl Row {
    /// Takes the medians of the samples of each system and holds them against the goals.
    pub(crate) fn new(workload: Workload, size: Size, samples: &[(System, Vec<Sample>)]) -> Self {
        let results: Vec<_> = samples
            .iter()
            .filter_map(|(system, samples)| result(workload, *system, samples))
            .collect();
        let value_of = |name: &str| {
            results
                .iter()
                .find(|result| result.system == name)
                .map(|result| result.median)
        };
        let peers = System::ALL
            .iter()
            .filter(|system| system.is_peer())
            .map(|system| system.name());
        let best_peer = peers
            .filter_map(|name| Some((name, value_of(name)?)))
            .max_by(|(_, one), (_, other)| match workload.measure() {
                Measure::Rate => one.total_cmp(other),
                Measure::RoundTrip => other.total_cmp(one),
            })
            .map(|(name, _)| name);
        let goals = workload.goals().iter().map(|goal| {
            let against = match goal.against {
                Against::BestPeer => best_peer.unwrap_or("best peer"),
                Against::Raw => "raw",
            };
            let ratio = value_of("corecast")
                .zip(value_of(against))
                .map(|(own, other)| own / other);
            let is_met = ratio.map(|ratio| goal.bound.is_met_by(ratio));
            GoalResult {
                against,
                bound: bound_text(goal.bound),
                ratio,
                is_met,
            }
        });
        let goals = goals.collect();
        Self {
            workload: workload.name(),
            what: workload.what(size),
            unit: workload.unit(),
            messages: size.messages,
            actors: size.actors,
            results,
            best_peer,
            goals,
        }
    }

    /// The lines of the table for this row.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("\n{}: {}\n", self.workload, self.what);
        let own = self
            .results
            .iter()
            .find(|result| result.system == "corecast")
            .map(|own| own.median);
        for result in &self.results {
            let name = format!("{} {}", result.system, result.version.unwrap_or_default());
            let mut value = quantity(result.median, self.unit);
            if let Some(p99) = result.p99 {
                let _ = write!(value, ", p99 {}", quantity(p99, self.unit));
            }
            let ratio = match own.filter(|_| result.system != "corecast") {
                Some(own) => format!("corecast / it {:8.3}", own / result.median),
                None => String::new(),
            };
            let best = if self.best_peer == Some(result.system) {
                "best peer"
            } else {
                ""
            };
            let line = format!(
                "  {name:16} {value:24} {ratio:22} {best:9}  {}",
                result.setting
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for goal in &self.goals {
            let verdict = match (goal.ratio, goal.is_met) {
                (Some(ratio), Some(true)) => format!("{ratio:.2}: met"),
                (Some(ratio), _) => format!("{ratio:.2}: NOT MET"),
                (None, _) => "not measured: a side did not run".to_owned(),
            };
            let _ = writeln!(
                text,
                "  goal: corecast / {} {}: {verdict}",
                goal.against, goal.bound
            );
        }
        text
    }
}

impl Report {
    /// An empty one.
    pub(crate) fn new(machine: Machine, runs: u32, quick: bool) -> Self {
        Self {
            format: 1,
            machine,
            runs,
            quick,
            raw_batch: RAW_BATCH,
            rows: Vec::new(),
        }
    }

    /// The lines above the table.
    pub(crate) fn heading(&self) -> String {
        let Machine {
            cpu_model,
            cores,
            kernel,
        } = &self.machine;
        let note = if self.quick {
            "; quick sizes, the figures mean little"
        } else {
            ""
        };
        format!(
            "{cpu_model}, {cores} cores, Linux {kernel}; medians of {} interleaved runs; raw batches of {RAW_BATCH}{note}\n\
             rates: more is better; round trips: less is better",
            self.runs
        )
    }
}

fn result(workload: Workload, system: System, samples: &[Sample]) -> Option<SystemResult> {
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    Some(SystemResult {
        system: system.name(),
        version: system.version(),
        setting: system.setting(workload),
        median: median(values.iter().copied())?,
        values,
        p99: median(samples.iter().filter_map(|sample| sample.p99)),
    })
}

fn bound_text(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(least) => format!(">= {least}"),
        Bound::AtMost(most) => format!("<= {most}"),
    }
}

/// With three digits and a prefix: `12.3 M messages/s`, `0.38 µs`.
fn quantity(value: f64, unit: &str) -> String {
    if unit == "ns" {
        return format!("{:.2} µs", value / 1e3);
    }
    match value {
        value if value >= 1e6 => format!("{:.2} M {unit}", value / 1e6),
        value if value >= 1e3 => format!("{:.1} k {unit}", value / 1e3),
        _ => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<Sample> {
        values
            .iter()
            .map(|&value| Sample { value, p99: None })
            .collect()
    }

    #[test]
    fn the_best_peer_has_the_most_messages_but_the_shortest_trip() {
        let measured = [
            (System::Raw, samples(&[1000.0])),
            (System::Kameo, samples(&[3.0, 1.0, 2.0])),
            (System::Actix, samples(&[5.0, 4.0, 6.0])),
        ];
        let row = |workload: Workload| Row::new(workload, workload.size(true), &measured);
        assert_eq!(row(Workload::Tell).best_peer, Some("actix"));
        assert_eq!(row(Workload::AskHot).best_peer, Some("kameo"));
        let kameo = &row(Workload::Tell).results[1];
        assert_eq!((kameo.system, kameo.median), ("kameo", 2.0));
    }

    #[test]
    fn a_goal_without_both_sides_is_neither_met_nor_missed() {
        let row = Row::new(
            Workload::Tell,
            Workload::Tell.size(true),
            &[(System::Kameo, samples(&[1.0]))],
        );
        assert_eq!(row.goals[0].is_met, None);
        assert!(row.table().contains("not measured"));
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(quantity(12_345_678.0, "hops/s"), "12.35 M hops/s");
        assert_eq!(quantity(1_500.0, "hops/s"), "1.5 k hops/s");
        assert_eq!(quantity(380.0, "ns"), "0.38 µs");
    }
}
