//! What connections tell their driver and their core.

use super::ending::Why;
use super::notes::Note;
use super::remote::{ConnectionId, Remote};
use crate::wire::address::Life;
use crate::wire::frame::FrameRef;
use crate::wire::greeting::Established;

/// What to do, or to know. The first two are for whoever has the sockets, the others for the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to an address; say [`connected`](super::links::Links::connected) or
    /// [`dial_failed`](super::links::Links::dial_failed).
    Dial {
        /// The name of what comes of it.
        connection: ConnectionId,
        /// Who should be there.
        remote: Remote,
        /// Where.
        address: String,
    },
    /// Close the socket, or give up connecting it. What waits is not worth writing, and the connection is known no more.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Frames can be sent.
    Up(Box<Up>),
    /// A connection that was up is no more.
    Down(Box<Down>),
    /// An attempt to connect to a remote has failed, and there is no connection to it, nor one that is about to come up. It
    /// is dialled again after a wait.
    Unreached {
        /// Who was not reached.
        remote: Remote,
    },
    /// There is room again for frames to a remote, after one was refused.
    Room {
        /// To whom.
        remote: Remote,
    },
    /// A line for the log.
    Note(Note),
}

/// A connection that frames can be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// With whom.
    pub remote: Remote,
    /// Which.
    pub connection: ConnectionId,
    /// What the peer says of itself, and what differs in its types.
    pub peer: Established,
    /// Whether this side has dialled.
    pub dialled: bool,
}

/// A connection that was up and is no more, with what became of the frames that were accepted for it.
///
/// They are counted from 1. Up to [`handed`](Down::handed) they were given to the network: the peer may have taken them or
/// not, so that asks among them end as unknown. Those behind it, up to [`accepted`](Down::accepted), never left this node,
/// not as wholes: they certainly had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// With whom.
    pub remote: Remote,
    /// Which.
    pub connection: ConnectionId,
    /// The life of the peer.
    pub life: Life,
    /// Why.
    pub why: Why,
    /// How many frames were accepted for sending.
    pub accepted: u64,
    /// How many of them were given to the network whole.
    pub handed: u64,
    /// Whether every frame accepted was given to the network and the peer has said, behind all of its own frames, that it
    /// closes in good order. Then a peer that goes on has all of them.
    pub in_order: bool,
}

/// A frame that has come, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// On which connection.
    pub connection: ConnectionId,
    /// From whom.
    pub remote: Remote,
    /// The life of the peer, as its greeting said.
    pub life: Life,
    /// The frame.
    pub frame: FrameRef<'a>,
}

/// What a core did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// It is done with; the peer may send another in its place.
    Done,
    /// The same, and no other is to follow for now: the core has enough to do.
    Last,
    /// The core keeps it for now, and will say [`taken`](super::links::Links::taken).
    Held,
}

/// What came of a call to receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Received {
    /// How many frames were given out.
    pub frames: usize,
    /// Whether it may have stopped before all frames were taken: take the outputs and call again.
    pub more: bool,
}

/// How much of what was to be [appended](super::links::Links::append) was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// How many frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: usize,
}

/// Which frame of its connection a frame is that was accepted for sending: see [`Down`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// On which connection it goes.
    pub connection: ConnectionId,
    /// The how-manieth frame of the core it is there, from 1.
    pub number: u64,
}
