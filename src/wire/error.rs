//! What can be wrong with bytes from a peer, and why a frame was not written.

use super::kind::{Kind, Plane};
use super::message::TypeTag;
use crate::base::fields::FieldError;
use std::fmt;

/// What was wrong with bytes from a peer.
///
/// Those of a frame as such ([`is_fatal`](WireError::is_fatal)) end the connection: behind a frame that cannot be trusted
/// nobody knows where the next begins. Those of a payload concern this one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The length is less than that of a header, or no multiple of 16.
    #[error("a frame claims to have {length} bytes; it is a multiple of 16 and at least {least}", least = super::header::HEADER_BYTES)]
    BadLength {
        /// The length that it claims.
        length: u32,
    },
    /// The length is more than is allowed; nothing was allocated.
    #[error(
        "a frame claims to have {length} bytes, and {max} are allowed here; the limit on frames must be the same on all nodes"
    )]
    TooLarge {
        /// The length that it claims.
        length: u32,
        /// The limit.
        max: usize,
    },
    /// The format of the frame is another one.
    #[error("a frame has the format {found}; this node knows format {known} only", known = super::header::FORMAT)]
    UnknownFormat {
        /// The format.
        found: u8,
    },
    /// There is no such kind.
    #[error(
        "a frame is of kind {code}, which this node does not know; the peer runs another version"
    )]
    UnknownKind {
        /// The number of the kind.
        code: u8,
    },
    /// A kind of frame on a connection that is not for it.
    #[error("a frame of kind `{kind}` does not belong on {plane}")]
    WrongPlane {
        /// Its kind.
        kind: Kind,
        /// What the connection is for.
        plane: Plane,
    },
    /// Flags that mean nothing here.
    #[error(
        "a frame has the flags {bits:#06x}, which this node does not know; the peer runs another version"
    )]
    UnknownFlags {
        /// Those that are unknown.
        bits: u16,
    },
    /// Some field has a value that it cannot have.
    #[error("the field `{field}` of a frame has the value {value}, which means nothing")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
    /// Header and body do not give the checksum that is written in the header.
    #[error(
        "a frame of {length} bytes has the checksum {found:08x} and should have {expected:08x}: it was damaged on its way"
    )]
    Checksum {
        /// The length of the frame.
        length: usize,
        /// What is written in it.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// The parts are larger than the whole.
    #[error(
        "a frame of {length} bytes cannot hold an id of {id} bytes and a payload padded by {padding}"
    )]
    BadParts {
        /// The length of the frame.
        length: usize,
        /// The length of the entity id.
        id: u16,
        /// The bytes behind the payload.
        padding: u8,
    },
    /// Something is missing or too much in a frame of this kind.
    #[error("a frame of kind `{kind}` is malformed: {what}")]
    Malformed {
        /// Its kind.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
    /// The fields in the content of a frame are not what they should be.
    #[error("the content of a frame of kind `{kind}` is malformed: {error}")]
    Content {
        /// Its kind.
        kind: Kind,
        /// What is wrong, and where in the content.
        error: FieldError,
    },
    /// The payload is of another type, or of another version of it. The frame as such is sound.
    #[error("the payload is of the type {found}, and `{name}` with {expected} was expected")]
    OtherType {
        /// The name of the expected type.
        name: &'static str,
        /// What the expected type has.
        expected: TypeTag,
        /// What the header has.
        found: TypeTag,
    },
    /// The payload is no valid archive of its type. The frame as such is sound.
    #[error("the payload is no valid `{name}`: {why}")]
    Invalid {
        /// The name of the type.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl WireError {
    /// Whether the connection has to be closed.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            WireError::OtherType { .. } | WireError::Invalid { .. }
        )
    }
}

/// Why a frame was not written. The writer is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// As many bytes wait to be sent as may; it fits when they have been taken.
    #[error(
        "{pending} bytes wait to be sent to the peer already, of {max} that may; send less, or raise `write_buffer_bytes`"
    )]
    Full {
        /// Bytes that wait.
        pending: usize,
        /// How many may.
        max: usize,
    },
    /// It would be larger than any frame may be.
    #[error(
        "the message would take a frame of more than {max} bytes; send it in parts, or raise `frame_bytes` on all nodes"
    )]
    TooLarge {
        /// How large a frame may be.
        max: usize,
    },
    /// The message could not be archived.
    #[error("the message could not be archived: {0}")]
    NotArchived(String),
    /// Its parts do not go together; a bug of whoever writes it.
    #[error(transparent)]
    Malformed(WireError),
}

/// A message that was not written, handed back with the reason.
#[derive(Clone, PartialEq, Eq)]
pub struct Unwritten<M> {
    /// The message, untouched.
    pub message: M,
    /// Why it was not written.
    pub why: WriteError,
}

impl<M> fmt::Debug for Unwritten<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwritten")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Unwritten<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message was not written: {}", self.why)
    }
}

impl<M> std::error::Error for Unwritten<M> {}
