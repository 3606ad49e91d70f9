//! The settings of consensus and of leases.

use std::time::Duration;

use thiserror::Error;

use super::mutant::Mutant;

/// No encoded message is longer, whatever the settings say. A transport may reserve this much and no more.
pub const MAX_MESSAGE_BYTES: usize = 2 << 20;

/// How fast a cluster notices that its leader is gone, and how much it keeps.
///
/// The first four belong together, and must be the same on every node. With `heartbeat` h, elections between e and E and
/// leases of l:
///
/// - `3 h <= e`: two heartbeats may be lost before anybody asks for another leader.
/// - `e + h <= E`: candidates do not start together again and again.
/// - `3 h + 2 E <= l`: *an election never lapses leases*. The last request before the leader died was sent at most h
///   earlier; its silence is noticed within E; one split vote costs another E; the new leader's first round takes 2 h.
///
/// Clocks may differ by a tenth in their rates; [`lease`](super::lease) says why that is safe.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsensusSettings {
    /// How often the leader says that it is there, and how often nodes renew their leases. Start with 150 ms. The cost
    /// is some four small messages per node and interval at the leader.
    pub heartbeat: Duration,
    /// The least time without a word of the leader after which a node asks for another. Start with 500 ms. Too low, and
    /// a busy machine loses its leadership for nothing.
    pub election_min: Duration,
    /// The most time; each node draws from the range anew for every term. Start with 1 s.
    pub election_max: Duration,
    /// How long a lease is good for, on the clock of its holder, from the moment it was asked for. Start with 2.5 s. Too
    /// high, and the shards of a dead node wait for so long (and a tenth) before others take them.
    pub lease: Duration,
    /// How long a proposal may take before its outcome is reported as unknown, or as rejected if it certainly is. Start
    /// with 5 s, several elections.
    pub proposal_timeout: Duration,
    /// The most proposals of this node without an outcome. Start with 1,024. More are refused at once; a node's table
    /// of what it has applied holds so many numbers for each other node, 16 bytes each.
    pub max_proposals: usize,
    /// The longest command in bytes. Start with 256 KiB.
    pub max_command_bytes: usize,
    /// About how many bytes of entries one message carries. Start with 256 KiB.
    pub append_bytes: usize,
    /// How many append messages may be on their way to one follower. Start with 64.
    pub append_window: usize,
    /// After how many applied entries a snapshot is taken. Start with 10,000: what a node reads again at its start.
    pub snapshot_entries: u64,
    /// After how many applied bytes a snapshot is taken. Start with 16 MiB.
    pub snapshot_bytes: u64,
    /// How many entries below a snapshot stay in the log, so that a follower that is a little late needs no snapshot.
    /// Start with 1,000.
    pub keep_entries: u64,
    /// The most bytes of entries in memory. A leader that has so many refuses further commands: snapshots do not keep
    /// up. Start with 256 MiB; it must hold two snapshots' worth.
    pub max_log_bytes: u64,
    /// The largest snapshot that is taken from others, in bytes. Start with 1 GiB. It is in memory twice while it is
    /// received.
    pub max_snapshot_bytes: u64,
    /// How many bytes of a snapshot travel in one message. Start with 256 KiB.
    pub chunk_bytes: usize,
    /// How many chunks may be on their way to one peer. Start with 4.
    pub chunk_window: usize,
    /// When the transfer of a snapshot is given up that makes no progress. Start with 5 s.
    pub snapshot_timeout: Duration,
    /// The most voters; further nodes learn. Start with 7: each further one makes every commit wait for another disk.
    pub max_voters: usize,
    /// A planted bug.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

impl Default for ConsensusSettings {
    fn default() -> ConsensusSettings {
        ConsensusSettings {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_secs(1),
            lease: Duration::from_millis(2500),
            proposal_timeout: Duration::from_secs(5),
            max_proposals: 1024,
            max_command_bytes: 256 << 10,
            append_bytes: 256 << 10,
            append_window: 64,
            snapshot_entries: 10_000,
            snapshot_bytes: 16 << 20,
            keep_entries: 1_000,
            max_log_bytes: 256 << 20,
            max_snapshot_bytes: 1 << 30,
            chunk_bytes: 256 << 10,
            chunk_window: 4,
            snapshot_timeout: Duration::from_secs(5),
            max_voters: 7,
            mutant: None,
        }
    }
}

impl ConsensusSettings {
    /// For machines that do not stall and a network of a data centre: a dead leader is replaced within 0.1 s, a dead
    /// node within half a second. On a busy machine it loses leaders for nothing.
    ///
    /// ```
    /// use corecast::consensus::settings::ConsensusSettings;
    ///
    /// assert_eq!(ConsensusSettings::fast().check(), Ok(()));
    /// ```
    #[must_use]
    pub fn fast() -> ConsensusSettings {
        ConsensusSettings {
            heartbeat: Duration::from_millis(15),
            election_min: Duration::from_millis(50),
            election_max: Duration::from_millis(100),
            lease: Duration::from_millis(400),
            ..ConsensusSettings::default()
        }
    }

    /// Checks that the settings make sense and agree with each other.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first setting that doesn't.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_times()?;
        self.check_sizes()
    }

    fn check_times(&self) -> Result<(), SettingsError> {
        let time = |time: Duration| format!("{time:?}");
        first_wrong([
            (
                "heartbeat",
                self.heartbeat >= Duration::from_millis(1),
                time(self.heartbeat),
                "at least 1 ms",
            ),
            (
                "election_min",
                self.election_min >= self.heartbeat.saturating_mul(3),
                time(self.election_min),
                "at least three times `heartbeat`",
            ),
            (
                "election_max",
                self.election_max >= self.election_min.saturating_add(self.heartbeat),
                time(self.election_max),
                "at least `election_min` + `heartbeat`",
            ),
            (
                "lease",
                self.lease
                    >= self
                        .election_max
                        .saturating_mul(2)
                        .saturating_add(self.heartbeat.saturating_mul(3)),
                time(self.lease),
                "at least 2 * `election_max` + 3 * `heartbeat`, or an election lapses leases",
            ),
            (
                "lease",
                self.lease <= Duration::from_secs(3600),
                time(self.lease),
                "at most an hour",
            ),
            (
                "proposal_timeout",
                self.proposal_timeout >= self.election_max,
                time(self.proposal_timeout),
                "at least `election_max`, or no proposal survives an election",
            ),
            (
                "snapshot_timeout",
                self.snapshot_timeout >= self.heartbeat,
                time(self.snapshot_timeout),
                "at least `heartbeat`",
            ),
        ])
    }

    fn check_sizes(&self) -> Result<(), SettingsError> {
        // An entry is at least 24 bytes to raft-rs and at most 96 more in a message.
        let append = self
            .append_bytes
            .saturating_mul(5)
            .saturating_add(self.max_command_bytes)
            .saturating_add(4096);
        first_wrong([
            (
                "max_proposals",
                (1..=65_536).contains(&self.max_proposals),
                self.max_proposals.to_string(),
                "from 1 to 65,536",
            ),
            (
                "max_command_bytes",
                self.max_command_bytes >= 1,
                self.max_command_bytes.to_string(),
                "at least 1",
            ),
            (
                "append_bytes",
                self.append_bytes >= 1 && append <= MAX_MESSAGE_BYTES,
                self.append_bytes.to_string(),
                "at least 1, and 5 * `append_bytes` + `max_command_bytes` + 4 KiB within 2 MiB",
            ),
            (
                "append_window",
                (1..=65_536).contains(&self.append_window),
                self.append_window.to_string(),
                "from 1 to 65,536",
            ),
            (
                "snapshot_entries",
                self.snapshot_entries >= 1,
                self.snapshot_entries.to_string(),
                "at least 1",
            ),
            (
                "snapshot_bytes",
                self.snapshot_bytes >= 1,
                self.snapshot_bytes.to_string(),
                "at least 1",
            ),
            (
                "max_log_bytes",
                self.max_log_bytes / 2 >= self.snapshot_bytes.max(self.max_command_bytes as u64),
                self.max_log_bytes.to_string(),
                "at least twice `snapshot_bytes` and twice `max_command_bytes`",
            ),
            (
                "max_snapshot_bytes",
                self.max_snapshot_bytes >= 1,
                self.max_snapshot_bytes.to_string(),
                "at least 1",
            ),
            (
                "chunk_bytes",
                self.chunk_bytes >= 1 && self.chunk_bytes <= MAX_MESSAGE_BYTES - (64 << 10),
                self.chunk_bytes.to_string(),
                "from 1 to 1984 KiB",
            ),
            (
                "chunk_window",
                self.chunk_window >= 1,
                self.chunk_window.to_string(),
                "at least 1",
            ),
            (
                "max_voters",
                (1..=15).contains(&self.max_voters),
                self.max_voters.to_string(),
                "from 1 to 15",
            ),
        ])
    }

    /// The unit in which raft-rs counts time: a sixth of a heartbeat, so that elections have enough values to differ.
    pub(super) fn tick(&self) -> Duration {
        self.heartbeat / HEARTBEAT_TICKS as u32
    }

    /// A time in ticks, rounded up.
    pub(super) fn ticks(&self, time: Duration) -> usize {
        time.as_nanos().div_ceil(self.tick().as_nanos().max(1)) as usize
    }
}

/// The ticks of a heartbeat.
pub(super) const HEARTBEAT_TICKS: usize = 6;

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("consensus setting `{setting}` is {value}; it must be {must_be}")]
pub struct SettingsError {
    /// The name of the field.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub must_be: &'static str,
}

/// Name, whether it is fine, value, and what it must be.
type Check = (&'static str, bool, String, &'static str);

fn first_wrong<const N: usize>(checks: [Check; N]) -> Result<(), SettingsError> {
    match checks.into_iter().find(|(_, fine, ..)| !fine) {
        None => Ok(()),
        Some((setting, _, value, must_be)) => Err(SettingsError {
            setting,
            value,
            must_be,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut ConsensusSettings);

    #[test]
    fn settings_that_contradict_are_named() {
        for fine in [ConsensusSettings::default(), ConsensusSettings::fast()] {
            assert_eq!(fine.check(), Ok(()));
            let cases: [(&str, Spoil); 21] = [
                ("heartbeat", |s| s.heartbeat = Duration::ZERO),
                ("election_min", |s| s.heartbeat = Duration::MAX),
                ("lease", |s| s.election_max = Duration::MAX),
                ("lease", |s| s.lease = Duration::MAX),
                ("election_min", |s| s.election_min = s.heartbeat * 2),
                ("election_max", |s| s.election_max = s.election_min),
                ("lease", |s| s.lease = s.election_max * 2),
                ("lease", |s| s.lease = Duration::from_secs(4000)),
                ("proposal_timeout", |s| {
                    s.proposal_timeout = s.election_max / 2
                }),
                ("snapshot_timeout", |s| s.snapshot_timeout = Duration::ZERO),
                ("max_proposals", |s| s.max_proposals = 0),
                ("max_command_bytes", |s| s.max_command_bytes = 0),
                ("append_bytes", |s| s.append_bytes = 1 << 20),
                ("append_window", |s| s.append_window = 0),
                ("snapshot_entries", |s| s.snapshot_entries = 0),
                ("snapshot_bytes", |s| s.snapshot_bytes = 0),
                ("max_log_bytes", |s| s.max_log_bytes = s.snapshot_bytes),
                ("max_snapshot_bytes", |s| s.max_snapshot_bytes = 0),
                ("chunk_bytes", |s| s.chunk_bytes = MAX_MESSAGE_BYTES),
                ("chunk_window", |s| s.chunk_window = 0),
                ("max_voters", |s| s.max_voters = 0),
            ];
            for (name, spoil) in cases {
                let mut settings = fine.clone();
                spoil(&mut settings);
                assert_eq!(settings.check().unwrap_err().setting, name);
            }
        }
    }
}
