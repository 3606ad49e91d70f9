//! The address of a stream.

use super::protocol::Join;
use crate::actor::reference::ActorRef;
use crate::base::ids::CoreId;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The address of a stream of `T`, for its consumers.
///
/// It is `Copy`, may be stored and sent, and holds nothing alive: once the stream is over, consumers hear that it is
/// [refused](super::error::StreamError::Refused).
pub struct StreamRef<T> {
    pub(crate) hub: ActorRef<Join<T>>,
}

impl<T> StreamRef<T> {
    /// The core on which the stream lives.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.hub.core()
    }
}

impl<T> Clone for StreamRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for StreamRef<T> {}

impl<T> PartialEq for StreamRef<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hub == other.hub
    }
}

impl<T> Eq for StreamRef<T> {}

impl<T> Hash for StreamRef<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hub.hash(state);
    }
}

impl<T> fmt::Debug for StreamRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?})", self.hub)
    }
}
