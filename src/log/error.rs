//! Why a log refuses, stops, or does not open.

use thiserror::Error;

use super::format::{FORMAT_VERSION, LogId};
use super::index::Index;
use super::settings::{LogSettingsError, STATE_SLOTS};
use super::store::{FileName, StoreError, Ticket};

/// Why something was not appended. Nothing has changed, and what was given was only looked at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The disk does not keep up.
    #[error(
        "the log has {unsynced} bytes that are not on the disk yet, and {limit} is the bound (`max_unsynced_bytes`); append \
             again when some are durable"
    )]
    Full {
        /// How many bytes wait.
        unsynced: usize,
        /// The bound.
        limit: usize,
    },
    /// Nobody drops what is no longer needed.
    #[error(
        "the log fills its {limit} segments (`max_segments`); save a snapshot and drop the entries before it"
    )]
    TooManySegments {
        /// The bound that holds for this record.
        limit: u32,
    },
    /// The payload can never be appended.
    #[error("a record of {bytes} bytes is too long for the log; {limit} is the bound")]
    TooLong {
        /// The payload's length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// There is no such slot.
    #[error("the log has no slot {slot} for a value; they are numbered from 0 to {}", STATE_SLOTS - 1)]
    NoSuchSlot {
        /// What was asked for.
        slot: u8,
    },
    /// The index is none that this can be done to.
    #[error(
        "the log cannot be cut at entry {index}: it has entries {first} up to, not including, {next}"
    )]
    OutOfRange {
        /// What was asked for.
        index: Index,
        /// The first entry.
        first: Index,
        /// The index that the next entry gets.
        next: Index,
    },
    /// A part or an end without a beginning.
    #[error("no snapshot has been begun in this life of the log; begin it anew")]
    NoSnapshot,
    /// The log has stopped.
    #[error(transparent)]
    Failed(#[from] LogError),
}

/// Why a log has stopped for good. Everything that was reported durable is; of the rest nobody knows, until the log is
/// opened again. Nothing is ever tried twice: after a failed flush the kernel may have forgotten what it could not write,
/// and a second flush that succeeds would say nothing about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// The disk failed.
    #[error("the log has stopped, because it {0}; when that is repaired, open it again")]
    Store(#[from] StoreError),
    /// The driver named an operation that is not under way, or gave the answer to another: a bug in it.
    #[error(
        "the log has stopped, because its driver answered {0:?}, which was not asked in this way: this is a bug"
    )]
    WrongAnswer(Ticket),
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: FileName,
    /// The offset in it.
    pub offset: u64,
    /// The entry that stands there or would have come next.
    pub index: Index,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at byte {} (entry {})",
            self.file, self.offset, self.index
        )
    }
}

/// Why a log does not open. Nothing on the disk has changed, except after [`OpenError::Store`], where the opening may have
/// been written; either way it may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] LogSettingsError),
    /// The disk failed.
    #[error("the log does not open, because it {0}")]
    Store(#[from] StoreError),
    /// The driver's answer fits no question: a bug in it.
    #[error(
        "the log does not open, because its driver answered {0:?}, which was not asked in this way: this is a bug"
    )]
    WrongAnswer(Ticket),
    /// The beginning of a segment cannot be read.
    #[error(
        "{file} is no segment of a log, or its first block is damaged; restore it from a backup, or remove the log and let \
             it be filled from the other nodes"
    )]
    DamagedHeader {
        /// The file.
        file: FileName,
    },
    /// A segment of another log.
    #[error(
        "{file} belongs to log {found}, and this is log {expected}; put it back where it came from"
    )]
    OtherLog {
        /// The file.
        file: FileName,
        /// What it says.
        found: LogId,
        /// What was asked for, or what the other segments say.
        expected: LogId,
    },
    /// Written by a later version.
    #[error(
        "{file} has version {version} of the format, and this program reads versions up to {FORMAT_VERSION}; run the \
             version of the program that wrote it"
    )]
    FutureVersion {
        /// The file.
        file: FileName,
        /// What it says.
        version: u32,
    },
    /// A file that was cut short or grew.
    #[error(
        "{file} has {is} bytes and says of itself that it has {must}; restore it from a backup"
    )]
    WrongSize {
        /// The file.
        file: FileName,
        /// The size of the file.
        is: u64,
        /// What its header says.
        must: u64,
    },
    /// A file under a name that is not its own.
    #[error("{file} is {really} by its content; it has been renamed, name it so again")]
    Misnamed {
        /// The file.
        file: FileName,
        /// What its header says.
        really: FileName,
    },
    /// Two files say that they are the same segment.
    #[error("{file} is by its content {really}, which is there too; one is a copy, move it away")]
    Duplicate {
        /// The one whose name is wrong.
        file: FileName,
        /// The other.
        really: FileName,
    },
    /// A segment between others is not there.
    #[error("{missing} is missing, while {later} is there; restore it from a backup")]
    MissingSegment {
        /// The first that is missing.
        missing: FileName,
        /// The next that is there.
        later: FileName,
    },
    /// Entries that must be there are not.
    #[error(
        "entries {from} up to, not including, {to} are missing: they stood before {oldest}, which is the oldest segment that \
             is there; restore the segments before it from a backup"
    )]
    MissingEntries {
        /// The first that is missing.
        from: Index,
        /// The first that is there.
        to: Index,
        /// The oldest segment.
        oldest: FileName,
    },
    /// Something that had been durable cannot be read. No torn write, since what comes later was only written when this
    /// was on the disk.
    #[error(
        "the log is damaged in {place}, and goes on in {later}: the disk has lost what it had confirmed. Restore the file \
             from a backup, or remove the log and let it be filled from the other nodes"
    )]
    Damaged {
        /// The damaged place.
        place: Place,
        /// Something valid behind it; the place itself where it is the beginning of the oldest segment.
        later: Place,
    },
    /// The checksums are right, and the content contradicts itself.
    #[error(
        "the log contradicts itself in {place} ({what}): this is a bug, or somebody has changed the file on purpose"
    )]
    Inconsistent {
        /// The record.
        place: Place,
        /// The contradiction.
        what: &'static str,
    },
}
