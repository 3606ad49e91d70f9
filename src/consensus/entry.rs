//! What is written: entries of the log, the vote, snapshots, and the writes that make them durable.

use std::sync::Arc;

use rkyv::{Archive, Deserialize, Serialize};
use thiserror::Error;

use super::configuration::{
    Configuration, ConfigurationChange, ConfigurationError, ConfigurationRecord,
};
use super::sessions::Sessions;

/// One entry of the log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place, counted from 1 without gaps.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// What it says.
    pub body: EntryBody,
}

/// What an entry says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    /// Nothing: the first of each leader.
    Empty,
    /// A command of the replicated state machine, and who proposed it.
    Command(ProposalRecord, Vec<u8>),
    /// A change of the configuration.
    Change(ConfigurationChange),
}

/// The id of a proposal as it travels, with what allows others to forget earlier ones.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalRecord {
    /// The node that proposed.
    pub node: u32,
    /// In which of its lives.
    pub incarnation: u32,
    /// Whether it counts only if the entry's term is this one; 0 for any term.
    pub only_term: u64,
    /// The number of the proposal, from 1.
    pub number: u64,
    /// All proposals of this life with lower numbers have their outcome.
    pub floor: u64,
}

/// What a peer must never forget: its term, its vote in it, and, for speed only, how much was committed.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The term.
    pub term: u64,
    /// The peer that has this peer's vote in the term; 0 is nobody.
    pub vote: u64,
    /// Entries up to here are committed.
    pub commit: u64,
}

/// The replicated state at one place of the log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The index of the last entry that is in it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The configuration there.
    pub configuration: ConfigurationRecord,
}

/// The replicated state at one place of the log, with the state of the application in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it was taken.
    pub meta: SnapshotMeta,
    /// Which proposals have been applied, and the application's bytes behind it.
    pub data: Arc<[u8]>,
}

/// Where the first snapshot of a cluster stands, before everything that is proposed.
pub const GENESIS_INDEX: u64 = 1;
const GENESIS_TERM: u64 = 1;

impl Snapshot {
    /// The first snapshot of a new cluster, the same on every founder: its voters, and an application state of no bytes.
    #[must_use]
    pub fn genesis(configuration: &Configuration) -> Snapshot {
        let meta = SnapshotMeta {
            index: GENESIS_INDEX,
            term: GENESIS_TERM,
            configuration: configuration.into(),
        };
        Snapshot::new(meta, &Sessions::default(), &[])
    }

    pub(super) fn new(meta: SnapshotMeta, sessions: &Sessions, state: &[u8]) -> Snapshot {
        let sessions = sessions.encode();
        let mut data = Vec::with_capacity(8 + sessions.len() + state.len());
        data.extend_from_slice(&(sessions.len() as u64).to_le_bytes());
        data.extend_from_slice(&sessions);
        data.extend_from_slice(state);
        Snapshot {
            meta,
            data: data.into(),
        }
    }

    /// Checks it and takes it apart.
    pub(super) fn open(&self) -> Result<OpenSnapshot, SnapshotError> {
        let configuration = Configuration::try_from(&self.meta.configuration)?;
        configuration.check()?;
        if self.meta.index == 0 || self.meta.term == 0 {
            return Err(SnapshotError::Nowhere);
        }
        let length = self
            .data
            .first_chunk()
            .map(|length| u64::from_le_bytes(*length));
        let end = length
            .and_then(|length| usize::try_from(length).ok()?.checked_add(8))
            .filter(|end| *end <= self.data.len())
            .ok_or(SnapshotError::Short(self.data.len()))?;
        let sessions = Sessions::decode(&self.data[8..end]).ok_or(SnapshotError::Sessions)?;
        Ok(OpenSnapshot {
            configuration,
            sessions,
            state_at: end,
        })
    }
}

/// A snapshot that has been checked.
pub(super) struct OpenSnapshot {
    pub(super) configuration: Configuration,
    pub(super) sessions: Sessions,
    /// Where in the data the application's bytes begin.
    pub(super) state_at: usize,
}

/// What is wrong with a snapshot from a disk or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Its configuration makes no sense.
    #[error("the configuration of the snapshot is wrong: {0}")]
    Configuration(#[from] ConfigurationError),
    /// It stands at no place of the log.
    #[error("the snapshot has no index or no term")]
    Nowhere,
    /// It ends before what it should hold.
    #[error("the snapshot of {0} bytes ends too early")]
    Short(usize),
    /// The table of proposals cannot be read.
    #[error("the table of applied proposals in the snapshot is damaged")]
    Sessions,
}

/// Names a write; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the durable log has to do, in the order of the fields. Writes are made in the order in which they come out.
///
/// At a crash, the durable log may keep any beginning of a write, and nothing of a later write without all of the
/// earlier ones. (So the vote and the term stand before the entries of the term.)
#[derive(Clone, Debug, PartialEq)]
pub struct LogWrite {
    /// What [`Consensus::written`](super::machine::Consensus::written) is told when this and all earlier writes are
    /// durable. Without one nobody waits: it may be made durable with the next.
    pub ticket: Option<Ticket>,
    /// The new term and vote.
    pub hard_state: Option<HardState>,
    /// A snapshot, which replaces the one before.
    pub snapshot: Option<SnapshotWrite>,
    /// Entries from this index on are void.
    pub truncate_from: Option<u64>,
    /// Entries to append behind the others.
    pub entries: Vec<LogEntry>,
    /// Entries below this index are not needed any more; they may go whenever it is convenient.
    pub drop_before: Option<u64>,
}

/// How a snapshot is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotWrite {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Whether it came from the leader and replaces the log: no entry that was written before counts any more. It does
    /// so together with the snapshot, or not at all.
    pub replaces_log: bool,
}

/// What a durable log held when the node started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The last term and vote.
    pub hard_state: HardState,
    /// The last snapshot. A node that waits to be let in has none.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The entries, in order. Those that the snapshot contains may be among them.
    pub entries: Vec<LogEntry>,
}

impl Recovered {
    /// What a founder of a cluster starts with. Write it before the start, and wait until it is durable: a
    /// [`LogWrite`] of this snapshot.
    #[must_use]
    pub fn genesis(voters: &Configuration) -> Recovered {
        Recovered {
            hard_state: HardState {
                term: GENESIS_TERM,
                vote: 0,
                commit: GENESIS_INDEX,
            },
            snapshot: Some(Arc::new(Snapshot::genesis(voters))),
            entries: Vec::new(),
        }
    }

    /// Checks what was found, and makes the best of a last write that was torn.
    pub(super) fn mend(mut self) -> Result<Recovered, RecoveryError> {
        let (base, base_term) = self
            .snapshot
            .as_ref()
            .map_or((0, 0), |snapshot| (snapshot.meta.index, snapshot.meta.term));
        // What the snapshot has replaced is of no interest.
        self.entries.retain(|entry| entry.index > base);
        let (mut last, mut term) = (base, base_term);
        for entry in &self.entries {
            if entry.index != last + 1 {
                return Err(RecoveryError::Gap {
                    after: last,
                    found: entry.index,
                });
            }
            if entry.term < term {
                return Err(RecoveryError::TermFalls {
                    index: entry.index,
                    before: term,
                    term: entry.term,
                });
            }
            (last, term) = (entry.index, entry.term);
        }
        let state = &mut self.hard_state;
        if state.term < term {
            // The log was written on behalf of a later term than the last vote.
            (state.term, state.vote) = (term, 0);
        }
        state.commit = state.commit.clamp(base, last);
        Ok(self)
    }
}

/// What is wrong with a log that was found. Nothing has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecoveryError {
    /// Entries are missing.
    #[error(
        "the log has a gap: after entry {after} comes entry {found}; restore the directory or replace the disk"
    )]
    Gap {
        /// The last entry before the gap, or that of the snapshot.
        after: u64,
        /// The next one.
        found: u64,
    },
    /// Terms never fall.
    #[error(
        "the term of entry {index} is {term}, that of the one before {before}; restore the directory or replace the disk"
    )]
    TermFalls {
        /// The entry.
        index: u64,
        /// The term of the entry before.
        before: u64,
        /// Its own.
        term: u64,
    },
    /// The snapshot cannot be used.
    #[error("{0}; restore the directory or replace the disk")]
    Snapshot(#[from] SnapshotError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::consensus::peer::{DiskId, PeerId};

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry {
            index,
            term,
            body: EntryBody::Empty,
        }
    }

    fn genesis() -> Recovered {
        let peer = PeerId::new(NodeId(1), DiskId::from_number(1).unwrap());
        Recovered::genesis(&Configuration::of_voters([peer]))
    }

    #[test]
    fn a_torn_write_is_mended_and_a_gap_is_an_error() {
        let mut found = genesis();
        found.entries = vec![entry(1, 1), entry(2, 1), entry(3, 4)];
        found.hard_state = HardState {
            term: 2,
            vote: 9,
            commit: 7,
        };
        let mended = found.clone().mend().unwrap();
        assert_eq!(mended.entries, [entry(2, 1), entry(3, 4)]);
        let expected = HardState {
            term: 4,
            vote: 0,
            commit: 3,
        };
        assert_eq!(mended.hard_state, expected);

        found.entries = vec![entry(2, 1), entry(4, 1)];
        let gap = RecoveryError::Gap { after: 2, found: 4 };
        assert_eq!(found.clone().mend(), Err(gap));
        found.entries = vec![entry(2, 3), entry(3, 2)];
        assert!(matches!(
            found.mend(),
            Err(RecoveryError::TermFalls { index: 3, .. })
        ));
    }

    #[test]
    fn a_snapshot_opens_and_a_damaged_one_says_so() {
        let snapshot = genesis().snapshot.unwrap();
        let open = snapshot.open().unwrap();
        assert_eq!(open.state_at, snapshot.data.len());
        assert_eq!(open.configuration.voters.len(), 1);
        let mut short = (*snapshot).clone();
        short.data = Arc::from(&snapshot.data[..7]);
        assert_eq!(short.open().err(), Some(SnapshotError::Short(7)));
        let mut long = (*snapshot).clone();
        long.data = Arc::from([0xFF; 32]);
        assert_eq!(long.open().err(), Some(SnapshotError::Short(32)));
        let mut empty = (*snapshot).clone();
        empty.meta.configuration = ConfigurationRecord::default();
        let error = SnapshotError::Configuration(ConfigurationError::NoVoters);
        assert_eq!(empty.open().err(), Some(error));
    }
}
