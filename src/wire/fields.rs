//! Fields of the handshake, one after the other: what comes from a peer that nobody has authenticated is read by hand,
//! and each step is checked.

use super::error::WireError;
use super::kind::Kind;

/// Takes fields from the front of some bytes.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    kind: Kind,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `kind` is what errors name.
    pub(crate) fn new(kind: Kind, bytes: &'a [u8]) -> Self {
        Fields { kind, rest: bytes }
    }

    pub(crate) fn error(&self, what: &'static str) -> WireError {
        WireError::Malformed {
            kind: self.kind,
            what,
        }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((first, rest)) = self.rest.split_first_chunk() else {
            return Err(self.error("it ends in the middle of a field"));
        };
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.bytes().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.bytes().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, WireError> {
        self.bytes().map(u128::from_le_bytes)
    }

    /// A text of at most `max` bytes, without control characters, since it ends up in logs.
    pub(crate) fn text(&mut self, max: usize) -> Result<&'a str, WireError> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(self.error("a text is too long"));
        }
        let Some((text, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.error("it ends in the middle of a text"));
        };
        self.rest = rest;
        let text = str::from_utf8(text).map_err(|_| self.error("a text is no UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(self.error("a text has control characters"));
        }
        Ok(text)
    }

    pub(crate) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("something follows its last field"))
        }
    }
}

/// Appends a text that is known to be short enough.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The longest beginning of a text that has no more than `max` bytes, without control characters.
pub(crate) fn clipped(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_control() { '?' } else { c };
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}
