//! What a log needs of files: the seam between its state machine and those who do the I/O.

use std::fmt;

use rkyv::util::AlignedVec;
use thiserror::Error;

use super::format::BLOCK_BYTES;
use crate::base::time::Time;

/// What is written: whole blocks, in memory aligned to them, so that it can be written past the page cache.
pub type WriteBuffer = AlignedVec<BLOCK_BYTES>;

/// Names an operation until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// Segment of this number: part of the log.
    Segment(u64),
    /// An emptied or new file, to become a segment. Its content means nothing.
    Spare(u64),
}

impl FileName {
    /// Reads a name; `None` for one that no file of a log has.
    #[must_use]
    pub fn parse(name: &str) -> Option<FileName> {
        let (kind, number) = name.strip_suffix(".log")?.split_once('-')?;
        if number.len() != 20 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok()?;
        match kind {
            "segment" => Some(FileName::Segment(number)),
            "spare" => Some(FileName::Spare(number)),
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Segment(number) => write!(f, "segment-{number:020}.log"),
            FileName::Spare(number) => write!(f, "spare-{number:020}.log"),
        }
    }
}

/// A file that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// Its name.
    pub name: FileName,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// What a log asks for. Offsets and lengths are multiples of 4,096.
#[derive(Debug)]
pub enum Operation {
    /// List the files whose names [`FileName::parse`] knows, in any order. Answer: [`Outcome::Files`].
    List,
    /// Make this file, with that size on the disk and zeros written into all of it; durable with its name. An existing
    /// file of that name is replaced. Answer: [`Outcome::Done`].
    Create {
        /// The file.
        file: FileName,
        /// Its size.
        bytes: u64,
    },
    /// Write, and *when that has ended* flush the file (`fdatasync`): io_uring does not order what is submitted. Answer:
    /// [`Outcome::Written`], when the bytes are durable. Every write that ended earlier into this file is durable then too.
    Write {
        /// The file.
        file: FileName,
        /// Where in the file.
        offset: u64,
        /// What to write.
        bytes: WriteBuffer,
    },
    /// Read exactly this many bytes; fewer are an error. Answer: [`Outcome::Bytes`].
    Read {
        /// The file.
        file: FileName,
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        bytes: usize,
    },
    /// Give a file another name, which no file has, and make that durable (flush the directory). Answer:
    /// [`Outcome::Done`].
    Rename {
        /// Its name.
        from: FileName,
        /// Its new name.
        to: FileName,
    },
    /// Remove a file, and make that durable. Answer: [`Outcome::Done`].
    Remove {
        /// The file.
        file: FileName,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::List => write!(f, "list the files of the log"),
            Operation::Create { file, bytes } => write!(f, "create {file} with {bytes} bytes"),
            Operation::Write {
                file,
                offset,
                bytes,
            } => write!(f, "write {} bytes at {offset} of {file}", bytes.len()),
            Operation::Read {
                file,
                offset,
                bytes,
            } => write!(f, "read {bytes} bytes at {offset} of {file}"),
            Operation::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Operation::Remove { file } => write!(f, "remove {file}"),
        }
    }
}

/// How an operation ended well.
#[derive(Debug)]
pub enum Outcome {
    /// It is done and durable.
    Done,
    /// It is written and durable; the buffer comes back.
    Written(WriteBuffer),
    /// What was read.
    Bytes(Vec<u8>),
    /// What was found.
    Files(Vec<FoundFile>),
}

/// Why an operation failed. What it has done to the file is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot {doing}: {what}")]
pub struct StoreError {
    /// What was to be done.
    pub doing: String,
    /// What happened, and what to do where that is known.
    pub what: String,
    /// What kind of failure it is.
    pub kind: StoreErrorKind,
}

/// Kinds of failure that somebody may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The disk, or the quota, is full.
    NoSpace,
    /// The file or the directory is not there.
    NotFound,
    /// This process may not.
    Forbidden,
    /// Anything else, as a failed flush or a bad sector.
    Io,
}

/// Files, as a log uses them: operations are begun with a ticket, and end in any order. The log never has more than one
/// write and one other operation under way.
///
/// Two drivers: `io::log_files` on glommio's DMA files, and `sim::SimDisk`.
///
/// A driver loop hands over what the log wants, and hands back what has ended:
///
/// ```
/// use corecast::base::time::Time;
/// use corecast::log::{Log, LogError, LogStore};
///
/// fn turn(now: Time, log: &mut Log, store: &mut impl LogStore) -> Result<(), LogError> {
///     while let Some((ticket, result)) = store.poll(now) {
///         log.completed(ticket, result)?;
///     }
///     while let Some((ticket, operation)) = log.next_operation() {
///         store.submit(now, ticket, operation);
///     }
///     Ok(())
/// }
/// ```
pub trait LogStore {
    /// Begins an operation. It never blocks and never fails here: failures come out of [`poll`](LogStore::poll).
    fn submit(&mut self, now: Time, ticket: Ticket, operation: Operation);

    /// Takes one operation that has ended.
    fn poll(&mut self, now: Time) -> Option<(Ticket, Result<Outcome, StoreError>)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            FileName::Segment(0),
            FileName::Segment(u64::MAX),
            FileName::Spare(17),
        ] {
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for foreign in [
            "",
            "lock",
            "segment-7.log",
            "segment-00000000000000000007.log~",
            "segment-99999999999999999999.log",
            "segment-0000000000000000000x.log",
            "other-00000000000000000007.log",
        ] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
    }
}
