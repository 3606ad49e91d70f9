//! Durations and sizes as people write them on a command line or in a file.

use std::time::Duration;

/// Reads a duration: a whole number and `ns`, `us` (or `µs`), `ms` or `s`; `0` needs no unit.
///
/// ```
/// use corecast::node::settings::units::parse_duration;
/// use std::time::Duration;
///
/// assert_eq!(parse_duration("50us"), Ok(Duration::from_micros(50)));
/// ```
///
/// # Errors
///
/// The text is no number, has no unit or an unknown one, or is longer than 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = |why| UnitError {
        text: text.to_owned(),
        why,
        form: "`50us`, `2ms`, `10s` or `0`",
    };
    let (number, unit) = split(text).map_err(fail)?;
    let nanos_per_unit = match unit {
        "" if number == 0 => 1,
        "" => return Err(fail("has no unit")),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(fail("has an unknown unit")),
    };
    let nanos = number
        .checked_mul(nanos_per_unit)
        .ok_or_else(|| fail("is too large"))?;
    Ok(Duration::from_nanos(nanos))
}

/// Reads a size in bytes: a whole number, alone or with `K`, `M` or `G`, which are powers of 1024 whether `B` or `iB`
/// follows or not.
///
/// ```
/// use corecast::node::settings::units::parse_bytes;
///
/// assert_eq!(parse_bytes("512M"), Ok(512 * 1024 * 1024));
/// ```
///
/// # Errors
///
/// The text is no number, has an unknown unit, or does not fit the machine's address space.
pub fn parse_bytes(text: &str) -> Result<usize, UnitError> {
    let fail = |why| UnitError {
        text: text.to_owned(),
        why,
        form: "`65536`, `64K`, `512M` or `1G`",
    };
    let (number, unit) = split(text).map_err(fail)?;
    let bytes_per_unit: u64 = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return Err(fail("has an unknown unit")),
    };
    let bytes = number
        .checked_mul(bytes_per_unit)
        .and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| fail("is too large"))
}

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {why}; write it like {form}")]
pub struct UnitError {
    text: String,
    why: &'static str,
    form: &'static str,
}

/// The number at the start, and what follows it.
fn split(text: &str) -> Result<(u64, &str), &'static str> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err("does not start with a whole number");
    }
    let (number, unit) = text.split_at(digits);
    Ok((
        number.parse().map_err(|_| "is too large")?,
        unit.trim_start(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("7ns", 7),
            ("50us", 50_000),
            ("50µs", 50_000),
            ("50 us", 50_000),
            ("2ms", 2_000_000),
            ("10s", 10_000_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("12B", 12),
            ("64K", 64 << 10),
            ("64kib", 64 << 10),
            ("512M", 512 << 20),
            ("1G", 1 << 30),
            ("2 GB", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, why) in [
            ("50", "has no unit"),
            ("", "does not start with a whole number"),
            ("-1ms", "does not start with a whole number"),
            ("1.5ms", "has an unknown unit"),
            ("3h", "has an unknown unit"),
            ("99999999999999999999s", "is too large"),
            ("18446744073709551615s", "is too large"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{text}` {why}; write it like `50us`, `2ms`, `10s` or `0`")
            );
        }
        for (text, why) in [
            ("M", "does not start with a whole number"),
            ("12T", "has an unknown unit"),
            ("18446744073709551615K", "is too large"),
        ] {
            let error = parse_bytes(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{text}` {why}; write it like `65536`, `64K`, `512M` or `1G`")
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[0-9]{0,25}[a-zA-Z]{0,3}") {
            let _ = parse_duration(&text);
            let _ = parse_bytes(&text);
        }

        #[test]
        fn whole_nanoseconds_are_exact(nanos in any::<u64>()) {
            prop_assert_eq!(parse_duration(&format!("{nanos}ns")), Ok(Duration::from_nanos(nanos)));
        }
    }
}
