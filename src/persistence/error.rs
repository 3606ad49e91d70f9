//! What can go wrong between an actor and its journal, and where.

use super::id::PersistenceId;
use super::record::Sequence;

/// Why a journal did not do what it was asked, or what is wrong with what it brought.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// There is no room for the events; none of them is stored.
    #[error(
        "the journal is full: {needed} bytes more are needed and its limit is {limit}; give it a higher one"
    )]
    Full {
        /// What the records need.
        needed: usize,
        /// What all records together may take.
        limit: usize,
    },
    /// Whoever wrote has lost its lease on the persistence id; nothing of it is stored.
    #[error("the writer has ended, or another one has taken its place")]
    Fenced,
    /// Somebody else has written under this persistence id; nothing of this is stored.
    #[error(
        "event {found} was to be stored, and event {expected} is next: somebody else has written"
    )]
    Conflict {
        /// The number of the next event by what the journal has.
        expected: Sequence,
        /// The number of the first event that was to be stored.
        found: Sequence,
    },
    /// Events are missing.
    #[error("events are missing: event {expected} is next, and event {found} comes")]
    Gap {
        /// The number that should have come.
        expected: Sequence,
        /// The one that came.
        found: Sequence,
    },
    /// An event comes again, or too late.
    #[error("events are out of order: event {expected} is next, and event {found} comes once more")]
    OutOfOrder {
        /// The number that should have come.
        expected: Sequence,
        /// The one that came.
        found: Sequence,
    },
    /// Events are missing at the end.
    #[error(
        "events are missing: the last one is event {last}, and there is a snapshot of event {snapshot}"
    )]
    Short {
        /// The last one that there is.
        last: Sequence,
        /// The one of which there is a snapshot, which is of another version of the state or of another type.
        snapshot: Sequence,
    },
    /// What was read is not what was written.
    #[error("the record is damaged: {what}")]
    Damaged {
        /// How one sees it.
        what: String,
    },
    /// An event is of a type that the actor does not know.
    #[error(
        "an event of another type, or of version {version} of it (fingerprint {fingerprint:#x}); `EventSourced::upgrade` can read it"
    )]
    UnknownType {
        /// The fingerprint of its type.
        fingerprint: u64,
        /// The version of its type.
        version: u16,
    },
    /// The journal did not answer in time; what was to be stored may or may not be.
    #[error("the journal did not answer in time")]
    Overdue,
    /// The storage failed; what was to be stored may or may not be.
    #[error("the storage failed: {what}")]
    Storage {
        /// What it says.
        what: String,
    },
}

/// Why an event-sourced actor failed. It is the [cause](crate::Fault::cause) of its fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourcingError {
    /// Another live actor has this persistence id. It goes on; this one is not started.
    #[error("the persistence id {id} is held by another live actor; there can be one at a time")]
    Held {
        /// The persistence id.
        id: PersistenceId,
    },
    /// The state could not be recovered.
    #[error("{id} could not be recovered, at event {at}: {error}")]
    Recovery {
        /// The persistence id.
        id: PersistenceId,
        /// The event at which it failed.
        at: Sequence,
        /// Why.
        error: JournalError,
    },
    /// Events could not be stored, or it is not known whether they are. None has been folded into the state; whoever
    /// recovers from the journal learns what became of them.
    #[error("{id} could not store the events {first} to {last}: {error}")]
    Write {
        /// The persistence id.
        id: PersistenceId,
        /// The first of the events.
        first: Sequence,
        /// The last of the events.
        last: Sequence,
        /// Why.
        error: JournalError,
    },
}
