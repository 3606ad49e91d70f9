//! Little fields, one after the other: how small records are written for logs and peers, and read from bytes that nobody
//! vouches for. All numbers are little-endian.

use thiserror::Error;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("byte {at}: {what}")]
pub struct FieldError {
    /// How far the bytes could be read.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Takes fields from the front of some bytes, never from beyond their end.
///
/// ```
/// use corecast::base::fields::{FieldReader, put_text};
///
/// let mut bytes = 7_u16.to_le_bytes().to_vec();
/// put_text(&mut bytes, "cart");
/// let mut fields = FieldReader::new(&bytes);
/// assert_eq!(fields.u16(), Ok(7));
/// assert_eq!(fields.text(64), Ok("cart"));
/// assert_eq!(fields.end(), Ok(()));
/// assert_eq!(fields.u8().unwrap_err().to_string(), "byte 8: it ends in the middle of a field");
/// ```
#[derive(Clone, Debug)]
pub struct FieldReader<'a> {
    rest: &'a [u8],
    length: usize,
}

macro_rules! number {
    ($($name:ident),*) => {
        $(
            /// The next number.
            ///
            /// # Errors
            ///
            /// If fewer bytes are left.
            pub fn $name(&mut self) -> Result<$name, FieldError> {
                self.array().map($name::from_le_bytes)
            }
        )*
    };
}

impl<'a> FieldReader<'a> {
    /// All of `bytes` is still to be read.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> FieldReader<'a> {
        FieldReader {
            rest: bytes,
            length: bytes.len(),
        }
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    /// How many bytes have not been read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An error at this place.
    #[must_use]
    pub fn error(&self, what: &'static str) -> FieldError {
        let at = self.position();
        FieldError { at, what }
    }

    /// The next bytes, as many as are asked for.
    ///
    /// # Errors
    ///
    /// If fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldError> {
        let Some((first, rest)) = self.rest.split_first_chunk() else {
            return Err(self.error("it ends in the middle of a field"));
        };
        self.rest = rest;
        Ok(*first)
    }

    number!(u8, u16, u32, u64, u128);

    /// Yes or no, one byte that is 1 or 0.
    ///
    /// # Errors
    ///
    /// If it is something else, or nothing is left.
    pub fn flag(&mut self) -> Result<bool, FieldError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    ///
    /// If fewer are left.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], FieldError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.error("it ends in the middle of a field"));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// A text of at most `max` bytes, without control characters, since it ends up in logs.
    ///
    /// # Errors
    ///
    /// If it is longer, or no such text.
    pub fn text(&mut self, max: usize) -> Result<&'a str, FieldError> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(self.error("a text is too long"));
        }
        let text = self.bytes(length)?;
        let text = str::from_utf8(text).map_err(|_| self.error("a text is no UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(self.error("a text has control characters"));
        }
        Ok(text)
    }

    /// How many records follow, each of at least `least` bytes; so nobody can have memory set aside for more than could be
    /// there.
    ///
    /// # Errors
    ///
    /// If so many cannot follow.
    pub fn count(&mut self, least: usize) -> Result<usize, FieldError> {
        let count = self.u32()? as usize;
        if count
            .checked_mul(least.max(1))
            .is_none_or(|bytes| bytes > self.rest.len())
        {
            return Err(self.error("more is announced than follows"));
        }
        Ok(count)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    ///
    /// If something is.
    pub fn end(&self) -> Result<(), FieldError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("something follows the last field"))
        }
    }
}

/// Appends a text for [`FieldReader::text`].
///
/// # Panics
///
/// If it is longer than 65,535 bytes: whoever writes it has bounded it.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let length =
        u16::try_from(text.len()).unwrap_or_else(|_| panic!("a text of {} bytes", text.len()));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a number of records for [`FieldReader::count`].
///
/// # Panics
///
/// If there are 2^32 or more.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).unwrap_or_else(|_| panic!("{count} records"));
    out.extend_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        type Read = fn(&mut FieldReader<'_>) -> Result<(), FieldError>;
        let cases: [(&[u8], Read, usize, &str); 8] = [
            (
                &[1, 2, 3],
                |r| r.u32().map(drop),
                0,
                "it ends in the middle of a field",
            ),
            (&[2], |r| r.flag().map(drop), 1, "a flag is neither 0 nor 1"),
            (
                &[3, 0, b'a'],
                |r| r.text(9).map(drop),
                2,
                "it ends in the middle of a field",
            ),
            (
                &[3, 0, b'a', b'b', b'c'],
                |r| r.text(2).map(drop),
                2,
                "a text is too long",
            ),
            (
                &[1, 0, 0xFF],
                |r| r.text(9).map(drop),
                3,
                "a text is no UTF-8",
            ),
            (
                &[1, 0, b'\n'],
                |r| r.text(9).map(drop),
                3,
                "a text has control characters",
            ),
            (
                &[2, 0, 0, 0, 1, 1, 1],
                |r| r.count(2).map(drop),
                4,
                "more is announced than follows",
            ),
            (&[1], |r| r.end(), 0, "something follows the last field"),
        ];
        for (bytes, read, at, what) in cases {
            assert_eq!(
                read(&mut FieldReader::new(bytes)),
                Err(FieldError { at, what })
            );
        }
        let huge = [0xFF; 8];
        assert!(FieldReader::new(&huge).count(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(number in any::<u64>(), text in "[a-zäöü]{0,40}", flag in any::<bool>()) {
            let mut bytes = number.to_le_bytes().to_vec();
            put_text(&mut bytes, &text);
            bytes.push(u8::from(flag));
            put_count(&mut bytes, 2);
            bytes.extend([7, 8]);
            let mut fields = FieldReader::new(&bytes);
            prop_assert_eq!(fields.u64(), Ok(number));
            prop_assert_eq!(fields.text(200), Ok(text.as_str()));
            prop_assert_eq!(fields.flag(), Ok(flag));
            prop_assert_eq!(fields.count(1), Ok(2));
            prop_assert_eq!(fields.bytes(2), Ok(&[7, 8][..]));
            prop_assert_eq!(fields.end(), Ok(()));
        }
    }
}
