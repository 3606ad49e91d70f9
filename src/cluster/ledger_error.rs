//! Why a ledger refuses a fact, stops, or does not open.

use thiserror::Error;

use super::ledger_record::VERSION;
use super::ledger_settings::LedgerSettingsError;
use crate::base::fields::FieldError;
use crate::base::ids::{Incarnation, NodeId};
use crate::consensus::founding::MAX_FOUNDERS;
use crate::consensus::peer::ClusterId;
use crate::log::{LogError, OpenError, Place};

/// Why a ledger has stopped for good. What was reported durable is; of the rest nobody knows, until it is opened again.
/// Nothing is ever tried twice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The log below has.
    #[error("the ledger has stopped: {0}")]
    Log(#[from] LogError),
    /// The log is full of entries that nobody dropped.
    #[error(
        "the ledger has stopped, because it fills its {segments} segments (`log.max_segments`): snapshots do not keep up. \
         Start the node again: it takes a snapshot before it goes on; if that does not help, raise `log.max_segments`"
    )]
    Full {
        /// The bound that holds for what was to be written.
        segments: u32,
    },
    /// The disk stands still.
    #[error(
        "the ledger has stopped, because {queued} bytes of entries wait for the disk, and {limit} is the bound \
         (`max_queued_bytes`); look why the disk stands still, then start the node again"
    )]
    Overrun {
        /// What waits.
        queued: u64,
        /// The bound.
        limit: u64,
    },
    /// An entry that never fits.
    #[error(
        "the ledger has stopped, because entry {index} takes {bytes} bytes and {limit} is the bound \
         (`log.max_record_bytes`); raise it on every node that takes shorter commands than the others"
    )]
    TooLong {
        /// The entry; 0 if it is something else.
        index: u64,
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A write that does not continue those before it.
    #[error(
        "the ledger has stopped, because it was to write {what}, which does not continue what it holds (entries {first} up \
         to, not including, {next}): this is a bug"
    )]
    Contradiction {
        /// What was to be written.
        what: String,
        /// The first entry that it has.
        first: u64,
        /// The entry that it would take next.
        next: u64,
    },
}

/// Why a fact was not recorded. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FactRefused {
    /// A node belongs to one cluster for ever.
    #[error(
        "this directory belongs to cluster {ours}, and cannot be made to belong to {theirs}; to leave the one for the other, \
         start the node with an empty directory"
    )]
    OtherCluster {
        /// The cluster that is recorded.
        ours: ClusterId,
        /// The one that was given.
        theirs: ClusterId,
    },
    /// A cluster begins once.
    #[error("the cluster has begun otherwise: another founding of it is recorded. This is a bug")]
    OtherFounding,
    /// The node takes part already.
    #[error("the ledger has a snapshot already, so its cluster has begun. This is a bug")]
    AlreadyFormed,
    /// Lives are counted upwards.
    #[error("{given} does not come after {last}, which is recorded. This is a bug")]
    EarlierLife {
        /// The one that is recorded.
        last: Incarnation,
        /// The one that was given.
        given: Incarnation,
    },
    /// A promise is never taken back.
    #[error("a promise is recorded that goes further than this one. This is a bug")]
    EarlierPromise,
    /// More than can be named, or none.
    #[error("a founding of {0} voters; it must have 1 to {MAX_FOUNDERS}")]
    Voters(usize),
    /// The ledger has stopped.
    #[error(transparent)]
    Stopped(#[from] LedgerError),
}

/// Why a ledger does not open. Nothing on the disk has changed, except where it says so of the log; it may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerOpenError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] LedgerSettingsError),
    /// The log does not open.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The directory of another node.
    #[error(
        "this is the directory of {found} ({place}), and {asked} is to be started; start it with its own directory, or with \
         an empty one"
    )]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Who was to be started.
        asked: NodeId,
        /// Where that is written.
        place: Place,
    },
    /// The directory of another cluster.
    #[error(
        "this directory belongs to cluster {found} ({place}), and the node is to take part in {asked}; start it with another \
         directory, or with an empty one to have it join"
    )]
    OtherCluster {
        /// To which it belongs.
        found: ClusterId,
        /// To which it should.
        asked: ClusterId,
        /// Where that is written.
        place: Place,
    },
    /// Written by a later version.
    #[error(
        "{what} in {place} has version {version}, and this program reads {VERSION}; run the version of the program that wrote \
         it"
    )]
    FutureVersion {
        /// What it is.
        what: &'static str,
        /// Its version.
        version: u8,
        /// Where it stands.
        place: Place,
    },
    /// The checksum is right, and the content makes no sense.
    #[error(
        "{what} in {place} cannot be read ({why}): this is a bug, or somebody has changed the file on purpose"
    )]
    BadRecord {
        /// What it is.
        what: &'static str,
        /// What is wrong in it.
        why: FieldError,
        /// Where it stands.
        place: Place,
    },
    /// Something else than who this node is stands in the log, and that does not.
    #[error(
        "the log is not that of a node: it has {what} in {place}, and nothing says whose it is. Start the node with another \
         directory"
    )]
    Anonymous {
        /// What it has.
        what: &'static str,
        /// Where it stands.
        place: Place,
    },
    /// It was read, and what had to be written before its use could not be.
    #[error("the ledger does not open: {0}")]
    Stopped(#[from] LedgerError),
}
