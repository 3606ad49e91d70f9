//! Quantities as people write and read them: rates with `k` and `M`, durations with `µs` and `ms`, grouped digits.

use std::time::Duration;

/// A quantity that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {what}")]
pub struct UnitError {
    text: String,
    what: &'static str,
}

impl UnitError {
    fn new(text: &str, what: &'static str) -> UnitError {
        UnitError {
            text: text.to_owned(),
            what,
        }
    }
}

/// Splits `1.5ms` into the number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some((number, unit))
}

/// Reads a positive rate per second: `250000`, `250k`, `1.5M`, `1G`.
///
/// # Errors
/// When the text is no number with such a suffix, or not above zero.
pub fn parse_rate(text: &str) -> Result<f64, UnitError> {
    let refused = || {
        UnitError::new(
            text,
            "a rate above zero per second: write 250000, 250k or 1.5M",
        )
    };
    let (number, unit) = split(text).ok_or_else(refused)?;
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" | "m" => 1e6,
        "G" | "g" => 1e9,
        _ => return Err(refused()),
    };
    if number > 0.0 {
        Ok(number * factor)
    } else {
        Err(refused())
    }
}

/// Reads a duration: `10s`, `1.5s`, `500ms`, `2m`, `250us`, `250µs`, `100ns`; a number without a unit is seconds.
///
/// # Errors
/// When the text is no number with such a unit, or longer than a week.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let refused = || {
        UnitError::new(
            text,
            "a duration up to a week: write 10s, 500ms, 250us or 2m",
        )
    };
    let (number, unit) = split(text).ok_or_else(refused)?;
    let seconds = number
        * match unit {
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(refused()),
        };
    if seconds > 7.0 * 86_400.0 {
        Err(refused())
    } else {
        Ok(Duration::from_secs_f64(seconds))
    }
}

/// Three significant digits: `999`, `12.3`, `1.00`.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Picks the largest unit that leaves a number of at least one.
fn scaled(value: f64, units: &[(f64, &str)], smallest: &str) -> String {
    match units.iter().find(|(size, _)| value >= size * 0.9995) {
        Some((size, unit)) => format!("{} {unit}", three_digits(value / size)),
        None if value.fract() == 0.0 => format!("{value:.0} {smallest}").trim_end().to_owned(),
        None => format!("{} {smallest}", three_digits(value))
            .trim_end()
            .to_owned(),
    }
}

/// A rate per second with its suffix and without `/s`: `12.4 M`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    scaled(
        per_second.max(0.0),
        &[(1e9, "G"), (1e6, "M"), (1e3, "k")],
        "",
    )
}

/// A latency in nanoseconds: `240 ns`, `1.25 µs`, `12.0 ms`.
#[must_use]
pub fn latency(nanos: u64) -> String {
    scaled(nanos as f64, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs")], "ns")
}

/// A duration for people: `10 s`, `1.50 s`, `500 ms`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 1.0 && seconds.fract() == 0.0 {
        format!("{seconds:.0} s")
    } else {
        latency(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A share for people: `0.5 %`, `93 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 {
        format!("{percent:.0} %")
    } else if percent == 0.0 {
        "0 %".to_owned()
    } else if percent >= 0.1 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.4} %")
    }
}

/// A count with its digits in groups of three: `1,000,000`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_take_suffixes_and_refuse_the_rest() {
        assert_eq!(parse_rate("250000"), Ok(250_000.0));
        assert_eq!(parse_rate("250k"), Ok(250_000.0));
        assert_eq!(parse_rate("1.5M"), Ok(1_500_000.0));
        for bad in ["", "0", "-5", "k", "5 k", "5x", "1.2.3", "NaN", "inf"] {
            let error = parse_rate(bad).expect_err(bad).to_string();
            assert!(
                error.contains(&format!("'{bad}'")) && error.contains("250k"),
                "{error}"
            );
        }
    }

    #[test]
    fn durations_take_units_and_refuse_the_rest() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("250µs"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "ms", "10 s", "-1s", "1h", "99999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(rate(12_437_000.0), "12.4 M");
        assert_eq!(rate(999.0), "999");
        assert_eq!(rate(999_900.0), "1.00 M");
        assert_eq!(latency(0), "0 ns");
        assert_eq!(latency(240), "240 ns");
        assert_eq!(latency(1_250), "1.25 µs");
        assert_eq!(latency(60_000_000_000), "60.0 s");
        assert_eq!(duration(Duration::from_secs(10)), "10 s");
        assert_eq!(duration(Duration::from_millis(1500)), "1.50 s");
        assert_eq!(percent(0.934), "93 %");
        assert_eq!(percent(0.005), "0.5 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.000_05), "0.0050 %");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
