//! Throughput over the measured time of each phase, all phases from 0.

use super::plot::{Plot, Stroke, x_scale, y_scale};
use super::scale::linear_ticks;
use crate::measure::PhaseSummary;

/// Draws all phases; `None` when none lasted for an interval.
pub(super) fn throughput_plot(phases: &[PhaseSummary]) -> Option<String> {
    let highest = phases
        .iter()
        .flat_map(|phase| phase.timeline.rates().map(|(_, rate)| rate))
        .max_by(f64::total_cmp)?;
    let offered = phases
        .iter()
        .filter_map(|phase| phase.offered_rate)
        .fold(0.0, f64::max);
    let longest = phases
        .iter()
        .map(|phase| phase.duration_s)
        .fold(0.0, f64::max);
    let y_ticks = linear_ticks(highest.max(offered).max(1.0), 5);
    let x_ticks = linear_ticks(longest.max(0.1), 10);

    let x = x_scale(0.0, longest.max(0.1), false);
    let y = y_scale(0.0, y_ticks[y_ticks.len() - 1], false);
    let mut plot = Plot::new("Throughput over time");
    for &tick in &y_ticks {
        plot.y_tick(y.px(tick), &rate_label(tick));
    }
    for &tick in x_ticks.iter().filter(|&&tick| tick <= longest * 1.000_001) {
        plot.x_tick(
            x.px(tick),
            &format!("{} s", (tick * 1000.0).round() / 1000.0),
        );
    }
    plot.x_axis("measured time of each phase");
    for (series, phase) in phases.iter().enumerate() {
        let points: Vec<_> = phase
            .timeline
            .rates()
            .map(|(at_s, rate)| (x.px(at_s), y.px(rate)))
            .collect();
        if points.is_empty() {
            continue;
        }
        plot.area(&points, series);
        plot.curve(
            &points,
            series,
            Stroke::Solid,
            &format!("{}: completed per second", phase.name),
        );
        if let Some(offered) = phase.offered_rate {
            let level = y.px(offered);
            let ends = [(x.px(0.0), level), (x.px(phase.duration_s), level)];
            plot.curve(
                &ends,
                series,
                Stroke::Dotted,
                &format!("{}: offered", phase.name),
            );
        }
    }
    Some(plot.finish())
}

/// Ticks are round numbers: without the zeros behind the point.
fn rate_label(rate: f64) -> String {
    let (size, unit) = match rate {
        r if r >= 1e9 => (1e9, " G"),
        r if r >= 1e6 => (1e6, " M"),
        r if r >= 1e3 => (1e3, " k"),
        _ => (1.0, ""),
    };
    format!("{}{unit}", (rate / size * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::rate_label;

    #[test]
    fn labels_have_no_needless_digits() {
        assert_eq!(
            [0.0, 500.0, 2500.0, 12e6].map(rate_label),
            ["0", "500", "2.5 k", "12 M"]
        );
    }
}
