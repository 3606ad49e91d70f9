//! In what two nodes differ that must agree, named so that whoever reads it knows which setting to look at.

use super::clip::clipped;
use super::error::WireError;
use super::kind::Kind;
use crate::base::fields::{FieldError, FieldReader, put_text};
use std::fmt;

/// One thing in which two nodes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What must agree.
    pub what: String,
    /// What this node has.
    pub here: String,
    /// What the other has.
    pub there: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: here {}, there {}", self.what, self.here, self.there)
    }
}

/// Everything in which two nodes differ; the first eight are named, the rest is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    named: Vec<Difference>,
    unnamed: u32,
}

/// So many are named.
const NAMED: usize = 8;
/// The longest description of what differs, and of each value: all together fit into the smallest frame of the handshake.
const WHAT_BYTES: usize = 255;
const VALUE_BYTES: usize = 100;

impl Differences {
    /// Notes one.
    pub fn add(&mut self, what: &str, here: impl fmt::Display, there: impl fmt::Display) {
        if self.named.len() == NAMED {
            self.unnamed = self.unnamed.saturating_add(1);
            return;
        }
        self.named.push(Difference {
            what: clipped(what, WHAT_BYTES),
            here: clipped(&here.to_string(), VALUE_BYTES),
            there: clipped(&there.to_string(), VALUE_BYTES),
        });
    }

    /// Notes one unless both values are the same.
    pub fn compare<T: PartialEq + fmt::Display>(&mut self, what: &str, here: T, there: T) {
        if here != there {
            self.add(what, here, there);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Those that are named.
    #[must_use]
    pub fn named(&self) -> &[Difference] {
        &self.named
    }

    /// As content of a refusal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.named.len() as u8];
        out.extend_from_slice(&self.unnamed.to_le_bytes());
        for difference in &self.named {
            put_text(&mut out, &difference.what);
            put_text(&mut out, &difference.here);
            put_text(&mut out, &difference.there);
        }
        out
    }

    /// From a refusal, as seen from here: what the peer has there is there.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Differences, WireError> {
        let kind = Kind::Refuse;
        Differences::read(bytes).map_err(|error| WireError::Content { kind, error })
    }

    fn read(bytes: &[u8]) -> Result<Differences, FieldError> {
        let mut fields = FieldReader::new(bytes);
        let count = usize::from(fields.u8()?);
        if !(1..=NAMED).contains(&count) {
            return Err(fields.error("it names no difference, or more than eight"));
        }
        let mut differences = Differences {
            named: Vec::with_capacity(count),
            unnamed: fields.u32()?,
        };
        for _ in 0..count {
            let what = fields.text(WHAT_BYTES)?.to_owned();
            let there = fields.text(VALUE_BYTES)?.to_owned();
            let here = fields.text(VALUE_BYTES)?.to_owned();
            differences.named.push(Difference { what, here, there });
        }
        fields.end()?;
        Ok(differences)
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, difference) in self.named.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{difference}")?;
        }
        match self.unnamed {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_from_the_other_side() {
        let mut differences = Differences::default();
        differences.compare("the same", 1, 1);
        assert!(differences.is_empty());
        differences.compare("shards of type `cart`", 256, 128);
        assert_eq!(
            differences.to_string(),
            "shards of type `cart`: here 256, there 128"
        );
        let read = Differences::decode(&differences.encode()).unwrap();
        assert_eq!(
            read.to_string(),
            "shards of type `cart`: here 128, there 256"
        );
    }

    #[test]
    fn however_many_and_long_they_fit_into_a_small_frame() {
        let mut differences = Differences::default();
        for _ in 0..20 {
            differences.add(&"é\n".repeat(500), "ü".repeat(500), "x".repeat(500));
        }
        assert_eq!(differences.named().len(), 8);
        assert!(differences.to_string().ends_with("; and 12 more"));
        let bytes = differences.encode();
        assert!(bytes.len() <= 3_800, "{}", bytes.len());
        Differences::decode(&bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(Differences::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
