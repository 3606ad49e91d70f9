//! Exact decimal numbers: a whole number of units and the power of ten that the unit is of. No floating point.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most digits behind the point, trailing zeros not counted.
pub const MAX_SCALE: u8 = 18;

/// A value of a row: `mantissa × 10^-scale`, in lowest terms (no trailing zero behind the point), so that equal values
/// are equal. The mantissa is 64 bits wide: 18 digits always fit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Decimal {
    mantissa: i64,
    scale: u8,
}

/// An exact sum of [`Decimal`]s: `mantissa × 10^-scale`, at the widest scale among them, 128 bits wide.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Sum {
    /// The sum in units of `10^-scale`.
    pub mantissa: i128,
    /// The digits behind the point.
    pub scale: u8,
}

/// Why a text is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// It is not written as one.
    #[error("is not a whole or decimal number")]
    NotANumber,
    /// It does not fit.
    #[error(
        "overflows: at most 64 bits of digits, and {MAX_SCALE} digits behind the point, are exact"
    )]
    Overflow,
}

/// A sum that does not fit into 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum overflows 128 bits")]
pub struct SumOverflow;

impl Decimal {
    /// Reads `[+-]digits[.digits]` (ASCII digits, at least one on each side of a point); anything else, spaces and
    /// exponents included, is no number.
    ///
    /// # Errors
    /// When the text is no number, or one that does not fit exactly.
    pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
        let (is_negative, digits) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let point = digits.iter().position(|&byte| byte == b'.');
        let (whole, fraction) = match point {
            Some(at) => (&digits[..at], Some(&digits[at + 1..])),
            None => (digits, None),
        };
        let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !is_number(whole) || !fraction.is_none_or(is_number) {
            return Err(DecimalError::NotANumber);
        }
        let fraction = fraction.unwrap_or_default();
        let significant = fraction
            .iter()
            .rposition(|&byte| byte != b'0')
            .map_or(0, |at| at + 1);
        let scale = u8::try_from(significant)
            .ok()
            .filter(|&scale| scale <= MAX_SCALE)
            .ok_or(DecimalError::Overflow)?;
        // Towards the negative, which has the one value more.
        let mantissa =
            whole
                .iter()
                .chain(&fraction[..significant])
                .try_fold(0_i64, |mantissa, byte| {
                    mantissa
                        .checked_mul(10)?
                        .checked_sub(i64::from(byte - b'0'))
                });
        let mantissa = mantissa.and_then(|m| {
            if is_negative {
                Some(m)
            } else {
                m.checked_neg()
            }
        });
        mantissa
            .map(|mantissa| Decimal { mantissa, scale })
            .ok_or(DecimalError::Overflow)
    }

    /// The units of `10^-scale`.
    #[must_use]
    pub fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// The digits behind the point.
    #[must_use]
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// The value without its sign, as a sum.
    #[must_use]
    pub(super) fn magnitude(self) -> Sum {
        Sum {
            mantissa: i128::from(self.mantissa).abs(),
            scale: self.scale,
        }
    }
}

impl Sum {
    /// Nothing added yet.
    pub const ZERO: Sum = Sum {
        mantissa: 0,
        scale: 0,
    };

    /// This sum and one value more.
    ///
    /// # Errors
    /// When it does not fit; this sum is unchanged.
    pub fn plus(self, value: Decimal) -> Result<Sum, SumOverflow> {
        self.plus_sum(Sum {
            mantissa: i128::from(value.mantissa),
            scale: value.scale,
        })
    }

    /// This sum and another.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn plus_sum(self, other: Sum) -> Result<Sum, SumOverflow> {
        let scale = self.scale.max(other.scale);
        let at_scale = |sum: Sum| {
            let factor = 10_i128.checked_pow(u32::from(scale - sum.scale))?;
            sum.mantissa.checked_mul(factor)
        };
        let mantissa = at_scale(self)
            .zip(at_scale(other))
            .and_then(|(a, b)| a.checked_add(b))
            .ok_or(SumOverflow)?;
        Ok(Sum { mantissa, scale })
    }

    /// In lowest terms.
    fn reduced(mut self) -> Sum {
        while self.scale > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }
}

/// By value: 1.50 equals 1.5.
impl PartialEq for Sum {
    fn eq(&self, other: &Sum) -> bool {
        let (a, b) = (self.reduced(), other.reduced());
        (a.mantissa, a.scale) == (b.mantissa, b.scale)
    }
}

impl Eq for Sum {}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.reduced();
        let sign = if sum.mantissa < 0 { "-" } else { "" };
        let scale = usize::from(sum.scale);
        let digits = format!(
            "{:0>width$}",
            sum.mantissa.unsigned_abs(),
            width = scale + 1
        );
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        if fraction.is_empty() {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{fraction}")
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sum {
            mantissa: i128::from(self.mantissa),
            scale: self.scale,
        }
        .fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<(i64, u8), DecimalError> {
        Decimal::parse(text).map(|value| (value.mantissa, value.scale))
    }

    #[test]
    fn whole_and_decimal_numbers_with_a_sign_are_read_exactly() {
        assert_eq!(parsed("1400"), Ok((1400, 0)));
        assert_eq!(parsed("-12.50"), Ok((-125, 1)));
        assert_eq!(parsed("+0.001"), Ok((1, 3)));
        assert_eq!(parsed("-0.0"), Ok((0, 0)));
        assert_eq!(parsed("007"), Ok((7, 0)));
        assert_eq!(parsed("9223372036854775807"), Ok((i64::MAX, 0)));
        assert_eq!(parsed("-9223372036854775808"), Ok((i64::MIN, 0)));
        assert_eq!(
            parsed(&format!("{}1.5{}", "0".repeat(50), "0".repeat(300))),
            Ok((15, 1))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "-", "+", ".", "1.", ".5", "1e5", "1,5", " 1", "1 ", "--1", "1.2.3", "0x1", "NaN",
            "inf", "٣", "1_0",
        ] {
            assert_eq!(parsed(text), Err(DecimalError::NotANumber), "{text:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_overflow() {
        for text in [
            "9223372036854775808",
            "-9223372036854775809",
            "0.1234567890123456789",
            "922337203685477580.81",
        ] {
            assert_eq!(parsed(text), Err(DecimalError::Overflow), "{text}");
        }
    }

    #[test]
    fn sums_are_exact_where_floating_point_is_not() {
        let sum = (0..10).fold(Sum::ZERO, |sum, _| {
            sum.plus(Decimal::parse("0.1").expect("fits"))
                .expect("fits")
        });
        assert_eq!(sum.to_string(), "1");
        let wide = sum
            .plus(Decimal::parse("-9007199254740993.25").expect("fits"))
            .expect("fits");
        assert_eq!(wide.to_string(), "-9007199254740992.25");
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused() {
        let full = Sum {
            mantissa: i128::MAX,
            scale: 0,
        };
        assert_eq!(
            full.plus(Decimal::parse("1").expect("fits")),
            Err(SumOverflow)
        );
        assert_eq!(
            full.plus(Decimal::parse("0.1").expect("fits")),
            Err(SumOverflow)
        );
        assert_eq!(full.plus(Decimal::parse("0").expect("fits")), Ok(full));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(mantissa: i64, scale in 0..=MAX_SCALE) {
            let sum = Sum { mantissa: i128::from(mantissa), scale };
            let value = Decimal::parse(&sum.to_string());
            prop_assert_eq!(Sum::ZERO.plus(value.expect("it was a value")), Ok(sum));
        }
    }
}
