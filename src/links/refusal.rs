//! Why a frame was not accepted for sending, and why a connection was turned away.

use super::remote::Remote;
use crate::base::ids::CoreId;
use crate::wire::error::WriteError;
use crate::wire::kind::{Kind, Plane};
use crate::wire::preamble::Purpose;
use std::fmt;

/// Why a frame was not accepted. Nothing of it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection at the moment.
    #[error("{remote} is not connected{}", if *.is_wanted { "; it is being dialled" } else { ", and nobody dials it" })]
    NotConnected {
        /// To whom.
        remote: Remote,
        /// Whether one is being made.
        is_wanted: bool,
    },
    /// The peer's core has given no leave to send more: it has not taken yet what it was sent.
    /// [`Output::Room`](super::output::Output::Room) says when there is room.
    #[error("{remote} has not taken the {frames} frames yet that it was sent last; send less")]
    NoCredit {
        /// To whom.
        remote: Remote,
        /// How many frames it may have without having taken them.
        frames: u64,
    },
    /// It cannot be written; where the buffer is full, [`Output::Room`](super::output::Output::Room) says when there is room.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A kind that does not go from core to core on such a connection; a bug of whoever sends it.
    #[error("a frame of kind `{kind}` is not for {plane}, or not the core's to send")]
    WrongKind {
        /// The kind.
        kind: Kind,
        /// What the connection is for.
        plane: Plane,
    },
}

/// A message that was not accepted, handed back with the reason.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsent<M> {
    /// The message, untouched.
    pub message: M,
    /// Why it was not accepted.
    pub why: NotSent,
}

impl<M> fmt::Debug for Unsent<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Unsent<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message was not sent: {}", self.why)
    }
}

impl<M> std::error::Error for Unsent<M> {}

/// Why a connection that somebody else has made was not taken. Close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Turned {
    /// This node shuts down.
    #[error("this node shuts down")]
    Leaving,
    /// It is for something else.
    #[error("the connection is for {there}, and this core takes those for {here}")]
    Purpose {
        /// What it takes.
        here: Purpose,
        /// What it is for.
        there: Purpose,
    },
    /// It is for another core.
    #[error("the connection is for {there}, and this is {here}")]
    Core {
        /// This core.
        here: CoreId,
        /// The other.
        there: CoreId,
    },
    /// It is for a core that takes no data.
    #[error("the connection is for {there}, which takes no data")]
    NoDataCore {
        /// The core.
        there: CoreId,
    },
    /// It was answered with an identity that this node does not have any more.
    #[error("this node has another identity than when the connection came")]
    OldIdentity,
    /// There are as many as there may be.
    #[error("there are {most} connections already, and no more may be; see `most_connections`")]
    Full {
        /// The bound.
        most: usize,
    },
}
