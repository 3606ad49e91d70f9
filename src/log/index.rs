//! How entries are counted, and how appends are.

use std::fmt;

/// The number of an entry. The first entry of a new log is 1, each further one has the next; after a
/// [truncation](super::Log::truncate) numbers are given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How much has been appended in this life of the log: every record, of any sort, takes the next position. It is what
/// [`Log::durable`](super::Log::durable) is compared with, and means nothing after the log has been opened again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Where an entry has been put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub index: Index,
    /// It is durable when [`Log::durable`](super::Log::durable) has reached this.
    pub position: Position,
}
