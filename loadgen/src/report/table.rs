//! The report as text.

use std::io::{self, Write};

use super::baseline::Comparison;
use super::hiccups::{EXPLANATION, waits};
use super::model::{MACHINE, Report};
use crate::measure::{LatencySummary, PhaseSummary};
use crate::units::{grouped, latency, percent, rate};

/// Writes the whole report.
///
/// # Errors
/// What the writer fails with.
pub fn write_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    header(report, out)?;
    if !report.phases.is_empty() {
        throughput(report, out)?;
    }
    latencies(report, out)?;
    if let Some(best) = report.saturation_rate {
        writeln!(
            out,
            "\nSaturation: {}/s is the highest rate that was sustained",
            rate(best)
        )?;
    }
    if report.is_search_in_vain() {
        writeln!(
            out,
            "\nSaturation: no rate was sustained; the figures are those of the last one that was tried"
        )?;
    }
    cluster(report, out)?;
    wire(report, out)?;
    balance(report, out)?;
    replay(report, out)?;
    for phase in report
        .phases
        .iter()
        .filter(|phase| !phase.validity.is_valid())
    {
        writeln!(out, "\nPhase '{}' is {}", phase.name, phase.validity)?;
    }
    for phase in report.phases.iter().filter(|phase| phase.failed > 0) {
        writeln!(
            out,
            "\nPhase '{}': {} of all messages failed, refused or left without an answer; the latencies are those of the \
             others",
            phase.name,
            percent(phase.failed_share())
        )?;
    }
    if !report.slos.is_empty() {
        writeln!(out, "\nObjectives")?;
    }
    for verdict in &report.slos {
        let word = if verdict.is_met { "met   " } else { "MISSED" };
        writeln!(
            out,
            "  {word}  {}  (measured {})",
            verdict.objective, verdict.measured
        )?;
    }
    Ok(())
}

/// Writes the ratios to an earlier run.
///
/// # Errors
/// What the writer fails with.
pub fn write_comparison(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nCompared with the baseline")?;
    let mut rows = vec![["phase", "figure", "before", "now", "ratio", ""].map(str::to_owned)];
    for figure in &comparison.figures {
        let show = |value: f64| match figure.more_is_better {
            true => format!("{}/s", rate(value)),
            false => latency(value as u64),
        };
        let ratio = figure.ratio();
        // Within 2 % nothing can be said.
        let verdict = match ratio.map(|ratio| {
            if figure.more_is_better {
                ratio
            } else {
                1.0 / ratio
            }
        }) {
            Some(gain) if gain > 1.02 => "better",
            Some(gain) if gain < 1.0 / 1.02 => "worse",
            _ => "",
        };
        rows.push([
            figure.phase.clone(),
            figure.name.to_owned(),
            show(figure.before),
            show(figure.after),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            verdict.to_owned(),
        ]);
    }
    write_rows(&rows, 2, out)?;
    comparison
        .caveats
        .iter()
        .try_for_each(|caveat| writeln!(out, "  note: {caveat}"))
}

fn header(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let commit = report
        .commit
        .as_ref()
        .map_or(String::new(), |commit| format!(", commit {commit}"));
    writeln!(
        out,
        "{}: scenario {}, seed {}{commit}",
        report.program, report.scenario, report.seed
    )?;
    let machine = &report.machine;
    let cores: Vec<String> = report.cores.iter().map(usize::to_string).collect();
    let on = if cores.is_empty() {
        String::new()
    } else {
        format!(", cores on CPUs {}", cores.join(" "))
    };
    writeln!(
        out,
        "{}, {} CPUs, {}{on}",
        machine.cpu_model, machine.cpus, machine.kernel
    )?;
    let width = report
        .settings
        .iter()
        .map(|setting| setting.name.chars().count())
        .max()
        .unwrap_or(0);
    for setting in &report.settings {
        writeln!(out, "  {:<width$}  {}", setting.name, setting.value)?;
    }
    Ok(())
}

fn throughput(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nThroughput")?;
    let mut rows = vec![
        [
            "phase",
            "offered",
            "done",
            "completed",
            "failed",
            "held back",
            "verdict",
        ]
        .map(str::to_owned),
    ];
    rows.extend(report.phases.iter().map(|phase| {
        [
            phase.name.clone(),
            phase.offered_rate.map_or("closed".to_owned(), |offered| {
                format!("{}/s", rate(offered))
            }),
            format!("{}/s", rate(phase.rate)),
            grouped(phase.completed),
            grouped(phase.failed),
            grouped(phase.lag.held_back),
            if phase.validity.is_valid() {
                "valid"
            } else {
                "INVALID"
            }
            .to_owned(),
        ]
    }));
    write_rows(&rows, 1, out)?;
    for phase in &report.phases {
        let offered = phase.offered_rate.unwrap_or(0.0) * phase.duration_s;
        let cluster = report.cluster.as_ref();
        let idle = cluster.map_or(0, |cluster| cluster.due_to_nobody(&phase.name));
        if idle > 0 {
            writeln!(
                out,
                "  {}: {} of the messages offered, {}, were due to nodes without a process: nobody sent them",
                phase.name,
                grouped(idle),
                percent(idle as f64 / offered.max(1.0))
            )?;
        }
    }
    Ok(())
}

fn latencies(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![
        [
            "phase", "from", "p50", "p90", "p99", "p99.9", "p99.99", "max",
        ]
        .map(str::to_owned),
    ];
    for phase in &report.phases {
        rows.extend(kinds(phase).map(|(kind, summary)| {
            let figures = summary.figures().map(|(_, ns)| latency(ns));
            latency_row(&phase.name, kind, figures)
        }));
    }
    let machine = report.hiccups.as_ref();
    rows.extend(machine.map(|hiccups| latency_row(MACHINE, "spinning", waits(hiccups))));
    if rows.len() == 1 {
        return Ok(());
    }
    writeln!(
        out,
        "\nLatency (from the intended send time: corrected for coordinated omission)"
    )?;
    write_rows(&rows, 2, out)?;
    if machine.is_some() {
        writeln!(out, "  {MACHINE}: {EXPLANATION}")?;
    }
    let saturated: u64 = report
        .phases
        .iter()
        .filter_map(PhaseSummary::latency)
        .map(|latency| latency.saturated)
        .sum();
    if saturated > 0 {
        writeln!(
            out,
            "  {} latencies were longer than 60 s and count as 60 s",
            grouped(saturated)
        )?;
    }
    Ok(())
}

/// The kinds of latency that a phase has, with the words for where they are measured from.
pub(super) fn kinds(phase: &PhaseSummary) -> impl Iterator<Item = (&'static str, &LatencySummary)> {
    let corrected = phase
        .corrected
        .as_ref()
        .map(|latency| ("intended", latency));
    let uncorrected = phase.uncorrected.as_ref().map(|latency| ("sent", latency));
    corrected.into_iter().chain(uncorrected)
}

fn latency_row(name: &str, kind: &str, figures: [String; 6]) -> [String; 8] {
    let [p50, p90, p99, p999, p9999, max] = figures;
    [
        name.to_owned(),
        kind.to_owned(),
        p50,
        p90,
        p99,
        p999,
        p9999,
        max,
    ]
}

fn cluster(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(cluster) = &report.cluster else {
        return Ok(());
    };
    if !cluster.nodes.is_empty() {
        writeln!(out, "\nNodes")?;
        write_rows(&cluster.node_rows(), 2, out)?;
    }
    let notes = cluster.node_notes();
    notes
        .iter()
        .try_for_each(|note| writeln!(out, "  {note}"))?;
    let faults = cluster.fault_rows();
    if !faults.is_empty() {
        writeln!(out, "\nFaults")?;
        write_rows(&faults, 1, out)?;
    }
    writeln!(out)?;
    let verdicts = cluster.verdicts();
    verdicts.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn wire(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(wire) = &report.wire else {
        return Ok(());
    };
    writeln!(
        out,
        "\nTwo processes on loopback (medians of {} rounds)",
        wire.rounds.len()
    )?;
    write_rows(&wire.rows(), 1, out)
}

fn balance(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(balance) = &report.balance else {
        return Ok(());
    };
    writeln!(out, "\nBalancer")?;
    let rows = balance.rows();
    rows.iter()
        .try_for_each(|(name, value)| writeln!(out, "  {name:<14}  {value}"))
}

fn replay(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(replay) = &report.replay else {
        return Ok(());
    };
    writeln!(out, "\nReplay")?;
    let (rows, entities) = (grouped(replay.rows), grouped(replay.entities));
    writeln!(
        out,
        "  {rows} rows to {entities} entities, {} rows malformed",
        grouped(replay.malformed)
    )?;
    let mut table = vec![["column", "sum", "missing"].map(str::to_owned)];
    let columns = replay.columns.iter();
    table.extend(columns.map(|column| {
        [
            column.name.clone(),
            column.sum.clone(),
            grouped(column.missing),
        ]
    }));
    write_rows(&table, 1, out)?;
    match replay.is_order_checked {
        None => {}
        Some(true) => writeln!(
            out,
            "  checked as well: each entity received the rows of each node in the order in which they were sent"
        )?,
        Some(false) => writeln!(
            out,
            "  the order of rows was NOT checked: some had to be sent again, or nobody knows what became of them"
        )?,
    }
    match replay.mismatches {
        0 => writeln!(out, "  every entity agrees with the independent pass"),
        count => writeln!(
            out,
            "  MISMATCH: {} entities differ from the independent pass",
            grouped(count)
        ),
    }
}

/// Writes aligned columns: the first `left` to the left, the others to the right.
fn write_rows<const N: usize>(
    rows: &[[String; N]],
    left: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let cell = if at < left {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            };
            line.push_str("  ");
            line.push_str(&cell);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Validity;
    use crate::report::model::{ReplayColumn, ReplayReport, samples};

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        write_report(report, &mut out).expect("written to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_table_holds_every_figure_in_aligned_columns() {
        let mut report = samples::main_job();
        report.judge(&[
            "p99<1ns".parse().expect("an objective"),
            "rate>1".parse().expect("an objective"),
        ]);
        let text = text(&report);
        let latency_lines: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with("Latency"))
            .skip(1)
            .take(4)
            .collect();
        assert_eq!(
            latency_lines.len(),
            4,
            "a header, one line for the peak, two for the open loop:\n{text}"
        );
        let width = latency_lines[0].chars().count();
        assert!(
            latency_lines
                .iter()
                .all(|line| line.chars().count() == width),
            "{text}"
        );
        for part in [
            "MISSED  p99 < 1 ns",
            "met     rate > 1",
            "zipf:0.99",
            "p99.99",
            "intended",
            "sent",
            "30.0 k/s",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn the_machine_stands_below_the_phases_with_its_explanation() {
        let mut report = samples::main_job_with_hiccups();
        let lines = |report: &Report| -> Vec<String> {
            let text = text(report);
            let rows = text.lines().skip_while(|line| !line.starts_with("Latency"));
            rows.map(str::to_owned).collect()
        };
        let heard = lines(&report);
        let cells: Vec<&str> = heard[5].split_whitespace().collect();
        assert_eq!(cells[..3].join(" "), "machine spinning <", "{heard:?}");
        assert!(heard[5].contains("< 1 µs") && heard[5].contains("3.00 ms"));
        assert!(heard[5].ends_with("4.00 ms"), "{heard:?}");
        assert_eq!(heard[5].chars().count(), heard[1].chars().count());
        assert_eq!(
            heard[6],
            "  machine: what a thread that only spins would have shown on these CPUs just before: no server on this \
             machine can count on better"
        );
        report.hiccups = None;
        assert!(!lines(&report).iter().any(|line| line.contains("machine")));
        // Broken off before the first phase.
        let mut early = samples::main_job_with_hiccups();
        early.phases.clear();
        assert!(text(&early).contains("spinning"));
    }

    #[test]
    fn an_invalid_run_says_so_and_why() {
        let mut report = samples::main_job();
        report.phases[1].validity = Validity::Invalid {
            reason: "the generator lagged: badly".into(),
        };
        let text = text(&report);
        assert!(
            text.contains("Phase 'open' is INVALID: the generator lagged: badly"),
            "{text}"
        );
    }

    #[test]
    fn failures_and_a_search_in_vain_are_not_left_to_be_inferred() {
        let mut report = samples::main_job();
        assert!(!text(&report).contains("failed, refused"));
        report.phases[1].failed = report.phases[1].completed;
        assert!(text(&report).contains("Phase 'open': 50 % of all messages failed"));
        assert!(!text(&report).contains("no rate was sustained"));
        report.phases[1].name = "saturation".into();
        assert!(text(&report).contains("no rate was sustained"));
        report.saturation_rate = Some(1.0);
        assert!(!text(&report).contains("no rate was sustained"));
    }

    #[test]
    fn a_replay_tells_its_result() {
        let mut report = Report::begun_now("replay", 0, Vec::new());
        let columns = vec![ReplayColumn {
            name: "distance".into(),
            sum: "350217607".into(),
            missing: 0,
        }];
        report.replay = Some(ReplayReport {
            rows: 336_776,
            entities: 4044,
            malformed: 0,
            mismatches: 0,
            is_order_checked: None,
            columns,
        });
        assert!(
            text(&report).contains("336,776 rows to 4,044 entities"),
            "{}",
            text(&report)
        );
        assert!(text(&report).contains("every entity agrees"));
        report.replay.as_mut().expect("set").mismatches = 2;
        assert!(text(&report).contains("MISMATCH: 2 entities"));
    }

    #[test]
    fn ratios_say_what_is_better() {
        let before = samples::main_job();
        let mut after = before.clone();
        after.phases[0].rate *= 1.5;
        if let Some(latency) = after.phases[0].uncorrected.as_mut() {
            latency.p50_ns *= 2;
        }
        let mut out = Vec::new();
        write_comparison(&Comparison::new(&before, &after), &mut out).expect("written to memory");
        let text = String::from_utf8(out).expect("text");
        let line = |figure: &str| {
            let mut lines = text.lines().filter(|line| line.contains("peak"));
            lines
                .find(|line| line.contains(figure))
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            line("rate").contains("1.50") && line("rate").contains("better"),
            "{text}"
        );
        assert!(
            line("p50").contains("2.00") && line("p50").contains("worse"),
            "{text}"
        );
        assert!(line("p90").trim_end().ends_with("1.00"), "{text}");
    }
}
