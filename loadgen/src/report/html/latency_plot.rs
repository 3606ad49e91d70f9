//! Latency by percentile: both axes logarithmic, so that every further nine gets the same width.

use super::plot::{Plot, Stroke, x_scale, y_scale};
use super::scale::{Scale, log_ticks};
use crate::measure::{CurvePoint, HiccupSummary, PhaseSummary};
use crate::report::model::MACHINE;
use crate::units;

/// The percentiles that get a grid line, as one over the share above them.
const PERCENTILES: [(f64, &str); 9] = [
    (1.0, "0 %"),
    (2.0, "50 %"),
    (1e1, "90 %"),
    (1e2, "99 %"),
    (1e3, "99.9 %"),
    (1e4, "99.99 %"),
    (1e5, "99.999 %"),
    (1e6, "99.9999 %"),
    (1e7, "99.99999 %"),
];
/// The percentiles that get a dot.
const DOTS: [(f64, &str); 5] = [
    (0.5, "p50"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
];

/// Draws all phases, and the machine's own hiccups; `None` when no latency was recorded.
pub(super) fn latency_plot(
    phases: &[PhaseSummary],
    hiccups: Option<&HiccupSummary>,
) -> Option<String> {
    let curves = || {
        let of_phases = phases
            .iter()
            .flat_map(|phase| [&phase.corrected_curve, &phase.uncorrected_curve]);
        of_phases.chain(hiccups.map(|hiccups| &hiccups.curve))
    };
    let values = || curves().flatten().map(|point| point.ns.max(1) as f64);
    let lowest = values().min_by(f64::total_cmp)?;
    let highest = values().max_by(f64::total_cmp)?;
    let ticks = log_ticks(lowest, highest);
    let count = phases
        .iter()
        .filter_map(PhaseSummary::latency)
        .map(|latency| latency.count)
        .max()?;
    // At least to 99.99 %, so that runs of different length look alike.
    let last = (count as f64).clamp(1e4, 1e7);

    let x = x_scale(1.0, last, true);
    let y = y_scale(ticks[0], ticks[ticks.len() - 1], true);
    let mut plot = Plot::new("Latency by percentile");
    for &tick in &ticks {
        plot.y_tick(
            y.px(tick),
            &units::latency(tick.round() as u64)
                .replace(".00", "")
                .replace(".0", ""),
        );
    }
    for (distance, label) in PERCENTILES.iter().filter(|(distance, _)| *distance <= last) {
        plot.x_tick(x.px(*distance), label);
    }
    plot.x_axis("percentile");
    for (series, phase) in phases.iter().enumerate() {
        let kinds = [
            (&phase.uncorrected_curve, Stroke::Dashed, "from the send"),
            (
                &phase.corrected_curve,
                Stroke::Solid,
                "from the intended send (corrected)",
            ),
        ];
        for (curve, stroke, kind) in kinds
            .into_iter()
            .rev()
            .filter(|(curve, ..)| !curve.is_empty())
        {
            let points: Vec<_> = curve.iter().map(|point| place(point, last, x, y)).collect();
            plot.curve(&points, series, stroke, &format!("{}: {kind}", phase.name));
        }
        let main = if phase.corrected_curve.is_empty() {
            &phase.uncorrected_curve
        } else {
            &phase.corrected_curve
        };
        for (quantile, name) in DOTS {
            if let Some(point) = main.iter().find(|point| point.quantile >= quantile - 1e-9) {
                let at = place(
                    &CurvePoint {
                        quantile,
                        ns: point.ns,
                    },
                    last,
                    x,
                    y,
                );
                plot.dot(
                    at,
                    series,
                    &format!("{} {name}: {}", phase.name, units::latency(point.ns)),
                );
            }
        }
    }
    // A CPU without any gap has no curve.
    if let Some(heard) = hiccups.filter(|heard| !heard.curve.is_empty()) {
        let curve = heard.curve.iter();
        let points: Vec<_> = curve.map(|point| place(point, last, x, y)).collect();
        let name = format!("{MACHINE}: a thread that only spins");
        plot.curve(&points, phases.len(), Stroke::Dotted, &name);
    }
    Some(plot.finish())
}

/// The longest latency has no distance to 100 %: it is placed where one more sample would be.
fn place(point: &CurvePoint, last: f64, x: Scale, y: Scale) -> (f64, f64) {
    let above = (1.0 - point.quantile).max(1.0 / last);
    (x.px(1.0 / above), y.px(point.ns.max(1) as f64))
}
