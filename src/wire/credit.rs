//! Leave to send more: the content of a credit frame.
//!
//! A receiver counts what it may still be sent; a sender counts what it has sent, and holds the rest in its own bounded
//! outbox. Both numbers are totals since the connection began, so that a credit that repeats an older one changes nothing.

use super::error::WireError;
use super::kind::Kind;

/// How much may be sent on a connection in all, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credit {
    /// Frames.
    pub frames: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
}

impl Credit {
    /// As content of a frame.
    #[must_use]
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.frames.to_le_bytes());
        bytes[8..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    /// From the content of a frame.
    ///
    /// # Errors
    /// If it has not 16 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Credit, WireError> {
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| WireError::Malformed {
            kind: Kind::Credit,
            what: "its content has not 16 bytes",
        })?;
        let word = u128::from_le_bytes(bytes);
        Ok(Credit {
            frames: word as u64,
            bytes: (word >> 64) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_comes_back_and_nothing_else_is_one() {
        let credit = Credit {
            frames: 0x0102_0304,
            bytes: u64::MAX - 1,
        };
        assert_eq!(credit.encode()[..4], [4, 3, 2, 1]);
        assert_eq!(Credit::decode(&credit.encode()), Ok(credit));
        for length in [0, 15, 17] {
            assert!(Credit::decode(&vec![0; length]).is_err());
        }
    }
}
