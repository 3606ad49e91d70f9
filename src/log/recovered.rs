//! What a recovery is asked for, and what it finds.

use super::error::Place;
use super::format::LogId;
use super::index::Index;
use super::log::Log;

/// Which log is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This one and no other; if there is none it is made.
    Exactly(LogId),
    /// Whichever is there; if there is none it is made, with this id. Draw it at random.
    OrNew(LogId),
}

/// Something that was appended, as it is replayed: in order, truncations after what they truncate. What counts is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered<'a> {
    /// An entry; the one after the last.
    Entry {
        /// Its number.
        index: Index,
        /// The user's.
        kind: u8,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// Entries from this one on are no more, and the next one gets this number. Even a number that had been dropped: then
    /// the segment was given up after this truncation, and another `Dropped` follows.
    Truncated {
        /// The first that is gone.
        from: Index,
    },
    /// Entries before this one are no more. If there are none from there on, the next one gets this number.
    Dropped {
        /// The first that is left.
        first: Index,
    },
    /// A value was set. It may come several times, and the last counts.
    State {
        /// Its slot.
        slot: u8,
        /// Its bytes.
        value: &'a [u8],
    },
    /// A snapshot begins. Parts of an earlier one that has not been finished mean nothing.
    SnapshotBegan {
        /// The last entry that it covers.
        through: Index,
    },
    /// The next part of it.
    SnapshotPart {
        /// Its bytes.
        part: &'a [u8],
    },
    /// It is complete, and replaces every one before.
    SnapshotFinished,
}

/// A log that is open.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// Whether there was none before.
    pub created: bool,
    /// How many entries were read, those included that were truncated or dropped later.
    pub entries: u64,
    /// Where a batch was cut off that had not been confirmed, if the beginning of one was there.
    pub torn: Option<Place>,
}
