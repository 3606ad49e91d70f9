//! Why connections end.

use super::remote::ConnectionId;
use crate::wire::error::WireError;
use crate::wire::greeting::GreetingError;
use crate::wire::kind::Reason;
use std::fmt;
use std::time::Duration;

/// Why one side closes a connection, as its last frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Farewell {
    /// The node shuts down.
    Leaving,
    /// This side does not need the connection any more.
    Unwanted,
    /// The node has another identity now; a new connection will say it.
    Renewed,
    /// A connection of a newer life of the peer is there.
    OlderLife,
    /// A connection of an older life of the peer is there, or of the same life at another address, which has not been found
    /// dead: one of the two does not know of the other, or the older has died a moment ago.
    OtherLife,
    /// The life of the peer has been declared over.
    LifeOver,
    /// What came was no sound frame.
    Garbage,
    /// The answer to the peer's last frame.
    Answer,
    /// Something that this version does not know.
    Other(u8),
}

impl Farewell {
    pub(super) const fn reason(self) -> Reason {
        Reason::Ended(match self {
            Farewell::Leaving => 1,
            Farewell::Unwanted => 2,
            Farewell::Renewed => 3,
            Farewell::OlderLife => 4,
            Farewell::Garbage => 5,
            Farewell::Answer => 6,
            Farewell::OtherLife => 7,
            Farewell::LifeOver => 8,
            Farewell::Other(code) => code,
        })
    }

    pub(super) const fn of(reason: Option<Reason>) -> Farewell {
        match reason {
            Some(Reason::Ended(1)) => Farewell::Leaving,
            Some(Reason::Ended(2)) => Farewell::Unwanted,
            Some(Reason::Ended(3)) => Farewell::Renewed,
            Some(Reason::Ended(4)) => Farewell::OlderLife,
            Some(Reason::Ended(5)) => Farewell::Garbage,
            Some(Reason::Ended(6)) => Farewell::Answer,
            Some(Reason::Ended(7)) => Farewell::OtherLife,
            Some(Reason::Ended(8)) => Farewell::LifeOver,
            Some(Reason::Ended(code) | Reason::Rejected(code) | Reason::Unknown(code)) => {
                Farewell::Other(code)
            }
            None => Farewell::Other(0),
        }
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Farewell::Leaving => f.write_str("the node shuts down"),
            Farewell::Unwanted => f.write_str("the connection is not needed any more"),
            Farewell::Renewed => f.write_str("the node has another identity now"),
            Farewell::OlderLife => {
                f.write_str("a newer life of the node is connected already; this one is over")
            }
            Farewell::OtherLife => f.write_str(
                "another life of the node, or one at another address, is connected; if that is not over in some seconds, two processes have one node id",
            ),
            Farewell::LifeOver => f.write_str("the cluster has declared this life of the node over"),
            Farewell::Garbage => f.write_str("what came was no sound frame"),
            Farewell::Answer => f.write_str("the other side closes the connection"),
            Farewell::Other(code) => write!(f, "reason {code}, of a newer version"),
        }
    }
}

/// What a driver knows of a connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The peer has closed it: the end of its bytes was read.
    Ended,
    /// It broke: a reset, or another error, in words.
    Broken(String),
}

/// The [class](Why::class) of connections that were closed because the peer has one with another life of this node, or with
/// the same life at another address: with another process that has its id, or with its own former life, if that is not over
/// yet.
pub const OTHER_LIFE: &str = "another life";

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It could not be dialled.
    #[error("it cannot be connected to: {0}")]
    NotReached(String),
    /// The socket did not connect in time.
    #[error("nobody answered within {} ms", .0.as_millis())]
    NoAnswer(Duration),
    /// The two sides did not come to agree.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// Both sides had agreed, and the one that had dialled did not say in time that it uses it.
    #[error("both sides agreed, and it was not taken into use in time")]
    NotConfirmed,
    /// The peer has closed it, in good order.
    #[error("the peer closed it: {farewell}{}{text}", if .text.is_empty() { "" } else { ": " })]
    ByPeer {
        /// Why.
        farewell: Farewell,
        /// What else it said.
        text: String,
    },
    /// This side has closed it, in good order.
    #[error("this side closed it: {0}")]
    ByUs(Farewell),
    /// The peer has ended it without a word.
    #[error("it ended{}", if *.in_a_frame { " in the middle of a frame" } else { "" })]
    Ended {
        /// Whether it was cut within a frame.
        in_a_frame: bool,
    },
    /// It broke.
    #[error("it broke: {0}")]
    Broken(String),
    /// Nothing was heard.
    #[error("the peer has not answered for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The peer takes nothing.
    #[error("the peer has taken no byte for {} ms", .0.as_millis())]
    Stuck(Duration),
    /// The peer sends more than it may.
    #[error("the peer has sent more than it was given leave for")]
    Overdrawn,
    /// What came was no sound frame.
    #[error(transparent)]
    Garbage(#[from] WireError),
    /// The peer has gone over to another connection.
    #[error("{by} is in its place")]
    Replaced {
        /// The one that is up now.
        by: ConnectionId,
    },
    /// An attempt that became needless, or made room for others.
    #[error("it was given up: {0}")]
    GivenUp(&'static str),
}

impl Why {
    /// A word for it, by which the same trouble is known again.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Why::NotReached(_) | Why::NoAnswer(_) => "not reached",
            Why::Greeting(error) => match error {
                GreetingError::TimedOut { .. } => "greeting timed out",
                GreetingError::Lost { .. } => "greeting cut",
                GreetingError::Preamble(_) => "not a node",
                GreetingError::Wire(_) => "greeting malformed",
                GreetingError::Differs(_) => "differs",
                GreetingError::Refused(_) => "refused by peer",
            },
            Why::NotConfirmed => "not confirmed",
            Why::ByPeer {
                farewell: Farewell::OlderLife | Farewell::OtherLife,
                ..
            } => OTHER_LIFE,
            Why::ByPeer {
                farewell: Farewell::LifeOver,
                ..
            } => "life over",
            Why::ByPeer { .. } => "closed by peer",
            Why::ByUs(_) => "closed",
            Why::Ended { .. } => "ended",
            Why::Broken(_) => "broken",
            Why::Silent(_) => "silent",
            Why::Stuck(_) => "stuck",
            Why::Overdrawn => "overdrawn",
            Why::Garbage(_) => "garbage",
            Why::Replaced { .. } => "replaced",
            Why::GivenUp(_) => "given up",
        }
    }

    /// Whether somebody should read of it. What happens in good order, or has to happen when connections cross, is counted
    /// only.
    pub(super) fn is_worth_a_note(&self) -> bool {
        match self {
            Why::ByPeer {
                farewell: Farewell::LifeOver,
                ..
            } => true,
            Why::ByPeer { farewell, .. } | Why::ByUs(farewell) => {
                use Farewell::{Garbage, OlderLife, OtherLife};
                matches!(farewell, OlderLife | OtherLife | Garbage)
            }
            Why::Replaced { .. } | Why::GivenUp(_) => false,
            _ => true,
        }
    }
}
