//! How a stream can end other than well, and what can become of an item that is pushed.

use crate::actor::refusal::Rejection;
use std::fmt;
use std::sync::Arc;

/// Why a stream has ended for a consumer before its producer completed it.
///
/// An error comes in order, behind the items that were pushed before it; the exceptions say so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The producer failed the stream, with this reason.
    #[error("the producer failed: {0}")]
    Failed(Arc<str>),
    /// The producer went away without an end: it was dropped, for instance because its actor stopped or panicked.
    #[error("the producer went away without an end")]
    Abandoned,
    /// The consumer was too slow for a broadcast that waits for nobody, and was cut off. It comes at once, before items
    /// that had not been asked for.
    #[error("the consumer was too slow, and was cut off")]
    TooSlow,
    /// The stream has as many consumers as it may; nothing was taken from it.
    #[error("the stream has as many consumers as it may")]
    TooManyConsumers,
    /// The consumer could not be joined to the stream, or its demand could not be sent. In particular
    /// [`NoSuchActor`](Rejection::NoSuchActor): the stream is over.
    #[error("refused: {0}")]
    Refused(#[from] Rejection),
    /// The core of the stream, or the runtime, went away. It comes at once.
    #[error("the stream was lost with its core or runtime")]
    Lost,
}

/// How a stream ends.
pub(crate) type End = Result<(), StreamError>;

/// An item that was not pushed, handed back; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PushError<T> {
    /// The buffer is full: the consumers have not asked for more. Try again when the source is
    /// [`ready`](super::source::Source::ready).
    Full(T),
    /// The stream is gone, with its core or its runtime: nobody will ever get the item.
    Gone(T),
}

impl<T> PushError<T> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            PushError::Full(item) | PushError::Gone(item) => item,
        }
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushError::Full(_) => "Full",
            PushError::Gone(_) => "Gone",
        })
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushError::Full(_) => "the stream's buffer is full",
            PushError::Gone(_) => "the stream is gone",
        })
    }
}

impl<T> std::error::Error for PushError<T> {}

/// The stream is gone, with its core or its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is gone, with its core or its runtime")]
pub struct StreamGone;
