//! Axes: where a value lies, and which values get a tick.

/// Maps values to positions in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from_px: f64,
    to_px: f64,
    is_log: bool,
}

impl Scale {
    pub(super) fn linear(low: f64, high: f64, from_px: f64, to_px: f64) -> Scale {
        Scale {
            low,
            high,
            from_px,
            to_px,
            is_log: false,
        }
    }

    /// Both bounds must be above 0.
    pub(super) fn log(low: f64, high: f64, from_px: f64, to_px: f64) -> Scale {
        Scale {
            low: low.log10(),
            high: high.log10(),
            from_px,
            to_px,
            is_log: true,
        }
    }

    /// The position of a value; values outside lie on the edge.
    pub(super) fn px(&self, value: f64) -> f64 {
        let value = if self.is_log {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from_px + share * (self.to_px - self.from_px)
    }
}

/// Ticks of a linear axis from 0: round steps, about `wanted` of them; the last is at or above `high`.
pub(super) fn linear_ticks(high: f64, wanted: u32) -> Vec<f64> {
    let rough = (high / f64::from(wanted)).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&s| s >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let count = (high / step - 1e-9).ceil().max(1.0) as u32;
    (0..=count).map(|at| f64::from(at) * step).collect()
}

/// Ticks of a logarithmic axis that covers `low..=high`: powers of ten, and 2 and 5 between them where the range is
/// small. The first is at or below `low`, the last at or above `high`.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let mantissas: &[f64] = if decades <= 3.2 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let first_power = low.log10().floor() as i32;
    let last_power = high.log10().ceil() as i32;
    let all: Vec<f64> = (first_power..=last_power)
        .flat_map(|power| {
            mantissas
                .iter()
                .map(move |mantissa| mantissa * 10_f64.powi(power))
        })
        .collect();
    let first = all
        .iter()
        .rposition(|&tick| tick <= low * 1.000_001)
        .unwrap_or(0);
    let last = all
        .iter()
        .position(|&tick| tick >= high * 0.999_999)
        .unwrap_or(all.len() - 1);
    all[first..=last.max((first + 1).min(all.len() - 1))].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(linear_ticks(12.0, 6), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(
            log_ticks(300.0, 4000.0),
            [200.0, 500.0, 1000.0, 2000.0, 5000.0]
        );
        assert_eq!(log_ticks(30.0, 4e6), [10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7]);
        assert_eq!(log_ticks(1000.0, 1000.0), [1000.0, 2000.0]);
    }

    #[test]
    fn positions_run_from_edge_to_edge() {
        let scale = Scale::log(1.0, 100.0, 300.0, 0.0);
        assert!((scale.px(10.0) - 150.0).abs() < 1e-9);
        assert!((scale.px(0.0) - 300.0).abs() < 1e-9 && scale.px(1e9).abs() < 1e-9);
        assert!((Scale::linear(0.0, 4.0, 0.0, 100.0).px(1.0) - 25.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn ticks_cover_the_range(low in 1.0..1e10_f64, factor in 1.0..1e8_f64) {
            let high = low * factor;
            let ticks = log_ticks(low, high);
            prop_assert!(ticks.len() >= 2 && ticks[0] <= low * 1.001 && ticks[ticks.len() - 1] >= high * 0.999);
            let ticks = linear_ticks(high, 5);
            prop_assert!(ticks.len() >= 2 && ticks.len() <= 8 && ticks[ticks.len() - 1] >= high * 0.999);
        }
    }
}
