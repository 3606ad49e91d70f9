//! The page as a whole.

use std::fmt::Write as _;

use super::cluster_tables::{cluster_tables, wire_table};
use super::latency_plot::latency_plot;
use super::markup::{Escaped, utc};
use super::throughput_plot::throughput_plot;
use crate::measure::PhaseSummary;
use crate::report::hiccups::{EXPLANATION, waits};
use crate::report::model::{MACHINE, ReplayReport, Report};
use crate::report::table::kinds;
use crate::units::{grouped, latency, rate};

const STYLE: &str = include_str!("style.css");

/// The report as a self-contained HTML page.
#[must_use]
pub fn page(report: &Report) -> String {
    let headline = headline(report);
    let mut body = head(report, &headline);
    body += &tiles(report);
    if let Some(plot) = latency_plot(&report.phases, report.hiccups.as_ref()) {
        body += &card(
            "Latency by percentile",
            "Hover over a dot for its value. Each nine has the same width.",
            &plot,
        );
    }
    if let Some(plot) = throughput_plot(&report.phases) {
        body += &card(
            "Throughput over time",
            "Completions per second, without the warm-up.",
            &plot,
        );
    }
    body += &figures(report);
    body += &report
        .cluster
        .as_ref()
        .map(cluster_tables)
        .unwrap_or_default();
    body += &report.wire.as_ref().map(wire_table).unwrap_or_default();
    if let Some(balance) = &report.balance {
        body += &pairs("Balancer", balance.rows().into_iter());
    }
    body += &report.replay.as_ref().map(replay).unwrap_or_default();
    body += &facts(report);
    let title = format!("{} · loadgen {}", headline, report.scenario);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        Escaped(&title)
    )
}

/// What the run found, in one line.
fn headline(report: &Report) -> String {
    if let Some(replay) = &report.replay {
        let result = match replay.mismatches {
            0 => "every entity agrees".to_owned(),
            count => format!(
                "{} of {} entities differ",
                grouped(count),
                grouped(replay.entities)
            ),
        };
        return format!("{} rows replayed, {result}", grouped(replay.rows));
    }
    if let Some(gain) = report.balance.as_ref().and_then(|balance| balance.gain) {
        return format!("{gain:.2} times the throughput once the shards are spread");
    }
    let (Some(fastest), Some(last)) = (report.fastest(), report.headline()) else {
        return "Nothing was measured".to_owned();
    };
    let best = report.saturation_rate.unwrap_or(fastest.rate);
    let tail = last
        .latency()
        .map(|summary| format!("p99.9 {}", latency(summary.p99_9_ns)));
    match tail {
        None => format!("{} messages/s", rate(best)),
        Some(tail) if last.name == fastest.name => format!("{} messages/s with {tail}", rate(best)),
        Some(tail) => format!(
            "{} messages/s at the peak, {tail} at {}/s",
            rate(best),
            rate(last.rate)
        ),
    }
}

fn head(report: &Report, headline: &str) -> String {
    let mut html = format!(
        "<header>\n<p class=\"over\"><b>corecast loadgen</b> · scenario {} · {}</p>\n<h1>{}</h1>\n<ul class=\"chips\">",
        Escaped(&report.scenario),
        utc(report.started_unix_s),
        Escaped(headline)
    );
    let mut chip = |class: &str, text: &str| {
        let _ = write!(html, "<li class=\"chip {class}\">{}</li>", Escaped(text));
    };
    let invalid: Vec<&PhaseSummary> = report
        .phases
        .iter()
        .filter(|phase| !phase.validity.is_valid())
        .collect();
    if !report.phases.is_empty() {
        match invalid.is_empty() {
            true => chip("good", "valid run"),
            false => chip("bad", "invalid run"),
        }
    }
    for verdict in &report.slos {
        let (class, word) = if verdict.is_met {
            ("good", "met")
        } else {
            ("bad", "missed")
        };
        chip(class, &format!("{} {word}", verdict.objective));
    }
    html += "</ul>\n";
    for phase in invalid {
        let text = format!("Phase {} is {}", phase.name, phase.validity);
        let _ = writeln!(html, "<p class=\"alert\">{}</p>", Escaped(&text));
    }
    html + "</header>\n"
}

fn tiles(report: &Report) -> String {
    let mut tiles = Vec::new();
    let per_second = |value: f64| (rate(value), "/s");
    if let Some(best) = report.saturation_rate {
        tiles.push(("saturation".to_owned(), per_second(best)));
    }
    let phases = report.phases.len();
    let shown = report.phases.iter().skip(phases.saturating_sub(2));
    tiles.extend(shown.map(|phase| (format!("{} throughput", phase.name), per_second(phase.rate))));
    if let Some(summary) = report.headline().and_then(PhaseSummary::latency) {
        let latencies = [
            ("p50", summary.p50_ns),
            ("p99", summary.p99_ns),
            ("p99.9", summary.p99_9_ns),
            ("max", summary.max_ns),
        ];
        tiles.extend(latencies.map(|(name, ns)| (format!("{name} latency"), (latency(ns), ""))));
    }
    if tiles.is_empty() {
        return String::new();
    }
    let mut html = String::from("<dl class=\"tiles\">\n");
    for (name, (value, unit)) in tiles {
        let (number, scale) = value.split_once(' ').unwrap_or((&value, ""));
        let _ = writeln!(
            html,
            "<div class=\"tile\"><dt>{}</dt><dd>{number} <small>{scale}{unit}</small></dd></div>",
            Escaped(&name)
        );
    }
    html + "</dl>\n"
}

fn card(title: &str, text: &str, content: &str) -> String {
    format!("<section class=\"card\">\n<h2>{title}</h2>\n<p>{text}</p>\n{content}</section>\n")
}

fn figures(report: &Report) -> String {
    if report.phases.is_empty() && report.hiccups.is_none() {
        return String::new();
    }
    let mut html = String::from(
        "<section class=\"card\">\n<h2>Figures</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>phase</th><th \
         class=\"number\">offered</th><th class=\"number\">completed</th><th class=\"number\">failed</th>\
         <th class=\"apart\">latency from</th><th class=\"number\">p50</th><th class=\"number\">p90</th><th class=\"number\">p99</th>\
         <th class=\"number\">p99.9</th><th class=\"number\">p99.99</th><th class=\"number\">max</th></tr></thead>\n\
         <tbody>\n",
    );
    for phase in &report.phases {
        let offered = phase
            .offered_rate
            .map_or("closed loop".to_owned(), |offered| {
                format!("{}/s", rate(offered))
            });
        let first = [
            phase.name.clone(),
            offered,
            format!("{}/s", rate(phase.rate)),
            grouped(phase.failed),
        ];
        let mut rows: Vec<Vec<String>> = kinds(phase)
            .map(|(kind, summary)| {
                let values = summary.figures().map(|(_, ns)| latency(ns));
                std::iter::once(format!("{kind} time"))
                    .chain(values)
                    .collect()
            })
            .collect();
        if rows.is_empty() {
            rows.push(
                std::iter::once("not measured".to_owned())
                    .chain(vec![String::new(); 6])
                    .collect(),
            );
        }
        for (at, row) in rows.iter().enumerate() {
            let (class, first) = match at {
                0 => ("", first.clone()),
                _ => (" class=\"more\"", Default::default()),
            };
            html += &figure_row(class, first.iter().chain(row));
        }
    }
    let mut explanation = String::new();
    if let Some(hiccups) = &report.hiccups {
        let first = [MACHINE, "", "", "", "spinning"].map(str::to_owned);
        html += &figure_row("", first.iter().chain(&waits(hiccups)));
        let text = format!("{MACHINE}: {EXPLANATION}.");
        explanation = format!("<p class=\"note\">{}</p>\n", Escaped(&text));
    }
    html + "</tbody>\n</table></div>\n" + &explanation + "</section>\n"
}

fn figure_row<'a>(class: &str, cells: impl Iterator<Item = &'a String>) -> String {
    let mut html = format!("<tr{class}>");
    for (column, cell) in cells.enumerate() {
        let class = match column {
            0 => "",
            4 => " class=\"apart\"",
            _ => " class=\"number\"",
        };
        let _ = write!(html, "<td{class}>{}</td>", Escaped(cell));
    }
    html + "</tr>\n"
}

fn replay(replay: &ReplayReport) -> String {
    let mut rows = vec![
        ("rows".to_owned(), grouped(replay.rows)),
        ("malformed rows".to_owned(), grouped(replay.malformed)),
        ("entities".to_owned(), grouped(replay.entities)),
        (
            "entities that differ from the independent pass".to_owned(),
            grouped(replay.mismatches),
        ),
    ];
    for column in &replay.columns {
        rows.push((
            format!("sum of {}", column.name),
            format!("{} ({} missing)", column.sum, grouped(column.missing)),
        ));
    }
    pairs(
        "Replay",
        rows.iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    )
}

/// Settings and machine side by side, objectives above when there are any.
fn facts(report: &Report) -> String {
    let mut html = String::new();
    if !report.slos.is_empty() {
        let verdicts = report.slos.iter().map(|verdict| {
            let word = if verdict.is_met { "met" } else { "missed" };
            (
                verdict.objective.as_str(),
                format!("{word}, measured {}", verdict.measured),
            )
        });
        html += &pairs("Objectives", verdicts);
    }
    let machine = &report.machine;
    let cores: Vec<String> = report.cores.iter().map(usize::to_string).collect();
    let gibibytes = machine.memory_bytes as f64 / f64::from(1 << 30);
    let facts = [
        ("CPU", machine.cpu_model.clone()),
        ("CPUs", machine.cpus.to_string()),
        ("cores on CPUs", cores.join(", ")),
        (
            "memory",
            if machine.memory_bytes > 0 {
                format!("{gibibytes:.1} GiB")
            } else {
                String::new()
            },
        ),
        ("kernel", machine.kernel.clone()),
        ("program", report.program.clone()),
        ("commit", report.commit.clone().unwrap_or_default()),
        ("seed", report.seed.to_string()),
    ];
    html += "<div class=\"two\">\n";
    html += &pairs(
        "Settings",
        report
            .settings
            .iter()
            .map(|setting| (setting.name.as_str(), setting.value.clone())),
    );
    html += &pairs(
        "Machine",
        facts.into_iter().filter(|(_, value)| !value.is_empty()),
    );
    html += "</div>\n<footer>Latency is measured from the intended send time, which corrects it for coordinated omission; \
             the time from the actual send stands beside it.</footer>\n";
    html
}

fn pairs<'a>(title: &str, pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut html =
        format!("<section class=\"card\">\n<h2>{title}</h2>\n<table class=\"pairs\">\n<tbody>\n");
    for (name, value) in pairs {
        let _ = writeln!(
            html,
            "<tr><th>{}</th><td>{}</td></tr>",
            Escaped(name),
            Escaped(&value)
        );
    }
    html + "</tbody>\n</table>\n</section>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Validity;
    use crate::options::Setting;
    use crate::report::model::samples;

    /// Every element that is opened is closed, in order.
    fn assert_balanced(html: &str) {
        let mut open = Vec::new();
        let body = html.split_once("</style>").expect("a style").1;
        for tag in body
            .split('<')
            .skip(1)
            .map(|rest| &rest[..rest.find('>').expect("a closed tag")])
        {
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap_or_default();
            if tag.starts_with('/') {
                let innermost = open.pop();
                // `<head>` was opened before the cut.
                assert!(
                    innermost == Some(name) || matches!(name, "head" | "html"),
                    "</{name}> closes {innermost:?}"
                );
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn the_page_is_whole_and_fetches_nothing() {
        let mut report = samples::main_job();
        report.judge(&[
            "p99<1ms".parse().expect("an objective"),
            "max<1us".parse().expect("an objective"),
        ]);
        let html = page(&report);
        assert_balanced(&html);
        for banned in ["<script", "src=", "href=", "url(", "@import", "NaN", "inf"] {
            assert!(!html.replace("info", "").contains(banned), "{banned}");
        }
        for part in [
            "at the peak, p99.9",
            "p99 &lt; 1 ms met",
            "max &lt; 1 µs missed",
            "99.99 %",
            "prefers-color-scheme",
        ] {
            assert!(html.contains(part), "{part} is missing");
        }
        assert_eq!(
            html.matches("class=\"curve s").count(),
            2 * (3 + 3),
            "three latency and three throughput curves"
        );
    }

    #[test]
    fn the_machine_has_a_row_a_curve_and_an_explanation() {
        let mut report = samples::main_job_with_hiccups();
        report.judge(&["p99.9<1us".parse().expect("an objective")]);
        let html = page(&report);
        assert_balanced(&html);
        for part in [
            "<tr><td>machine</td>",
            "<td class=\"apart\">spinning</td><td class=\"number\">&lt; 1 µs</td>",
            "<td class=\"number\">3.00 ms</td>",
            "no server on this machine can count on better",
            "machine: a thread that only spins</li>",
            "; a thread that only spins missed it too, with 3.00 ms",
        ] {
            assert!(html.contains(part), "{part} is missing");
        }
        report.hiccups = None;
        report.slos.clear();
        assert!(!page(&report).contains("spin"));
    }

    #[test]
    fn an_invalid_run_is_marked() {
        let mut report = samples::main_job();
        report.phases[1].validity = Validity::Invalid {
            reason: "the <generator> lagged".into(),
        };
        let html = page(&report);
        assert!(html.contains("invalid run") && html.contains("the &lt;generator&gt; lagged"));
    }

    #[test]
    fn names_from_outside_cannot_break_the_page() {
        let mut report = Report::begun_now(
            "replay",
            0,
            vec![Setting::new("input", "<script>alert(1)</script>")],
        );
        report.replay = Some(ReplayReport {
            rows: 3,
            ..ReplayReport::default()
        });
        let html = page(&report);
        assert_balanced(&html);
        assert!(!html.contains("<script"));
        assert!(html.contains("3 rows replayed, every entity agrees"));
    }

    #[test]
    fn a_report_without_figures_is_a_page_too() {
        assert_balanced(&page(&Report::begun_now("tell", 0, Vec::new())));
    }
}
