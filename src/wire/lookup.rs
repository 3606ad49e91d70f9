//! The answer to a lookup: the content of a [`Kind::Found`] frame.
//!
//! | first byte | what follows | meaning |
//! |---|---|---|
//! | 0 | nothing | nobody has the path |
//! | 1 | core (2 bytes), cell (8 bytes) | the actor that has it |
//! | 2 | a name | the one that has it takes messages of another type, of this name; its tag is the frame's |
//! | 3 | nothing | the one that has it is not to be found from other nodes |

use super::error::WireError;
use super::kind::Kind;
use super::message::MAX_NAME;
use crate::base::ids::CoreId;

/// The longest path that can be looked up on another node, in bytes.
pub const LONGEST_PATH: usize = 4_096;

/// The longest answer.
pub(crate) const LONGEST_ANSWER: usize = 1 + MAX_NAME;

/// What a node says that was asked for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Nobody has it.
    Nobody,
    /// The actor that has it.
    Here {
        /// Its core.
        core: CoreId,
        /// Slot and generation of its cell; the generation is the upper half.
        cell: u64,
    },
    /// It takes messages of another type, of this name.
    Other(&'a str),
    /// It is not to be found from other nodes.
    Unlisted,
}

impl<'a> Answer<'a> {
    /// As content of a frame.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Answer::Nobody => vec![0],
            Answer::Here { core, cell } => {
                let mut bytes = vec![1];
                bytes.extend_from_slice(&core.0.to_le_bytes());
                bytes.extend_from_slice(&cell.to_le_bytes());
                bytes
            }
            Answer::Other(name) => {
                let mut bytes = vec![2];
                bytes.extend_from_slice(name.as_bytes());
                bytes
            }
            Answer::Unlisted => vec![3],
        }
    }

    /// From the content of a frame.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Answer<'a>, WireError> {
        let malformed = WireError::Malformed {
            kind: Kind::Found,
            what: "its content is no answer",
        };
        match bytes {
            [0] => Ok(Answer::Nobody),
            [1, low, high, cell @ ..] => {
                let cell: [u8; 8] = cell.try_into().map_err(|_| malformed)?;
                Ok(Answer::Here {
                    core: CoreId(u16::from_le_bytes([*low, *high])),
                    cell: u64::from_le_bytes(cell),
                })
            }
            [2, name @ ..] => match std::str::from_utf8(name) {
                Ok(name) => Ok(Answer::Other(name)),
                Err(_) => Err(malformed),
            },
            [3] => Ok(Answer::Unlisted),
            _ => Err(malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_and_nothing_else_is_one() {
        let longest = "x".repeat(MAX_NAME);
        for answer in [
            Answer::Nobody,
            Answer::Here {
                core: CoreId(0x0102),
                cell: 0x0304_0506_0708_090A,
            },
            Answer::Other("shop.Order"),
            Answer::Other(&longest),
            Answer::Unlisted,
        ] {
            let bytes = answer.encode();
            assert!(bytes.len() <= LONGEST_ANSWER);
            assert_eq!(Answer::decode(&bytes), Ok(answer));
        }
        let wrong: [&[u8]; 6] = [&[], &[0, 0], &[1, 0, 0], &[2, 0xFF], &[3, 0], &[4]];
        for bytes in wrong {
            assert!(Answer::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
