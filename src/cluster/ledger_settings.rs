//! The sizes and bounds of a ledger, and how they follow from those of consensus.

use thiserror::Error;

use crate::consensus::settings::{ConsensusSettings, MAX_MESSAGE_BYTES};
use crate::log::{LogSettings, LogSettingsError};

/// What an entry may take on the disk, for each byte that consensus counts for it.
///
/// Consensus counts 128 bytes and the command. An entry that comes alone is a batch of its own: with its headers, the
/// hard state and a mark beside it, that is less than 256 bytes and the command, up to a multiple of 4,096. So a
/// command of n bytes takes at most n + 256 + 4,095 bytes, which is less than 34 (n + 128).
pub const DISK_BYTES_PER_LOG_BYTE: u64 = 34;

/// What votes, promises and the like may take that wait for the disk.
const BESIDES_ENTRIES: u64 = 1 << 20;

/// What a segment may begin with, rounded up: its header, the header of a batch, and all values.
const SEGMENT_BEGINNING: u64 = 40 << 10;

/// The bounds of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Those of the log below.
    pub log: LogSettings,
    /// How many bytes of entries may have been given to the ledger and not yet to the log, which takes
    /// `max_unsynced_bytes` at a time. Beyond it the ledger stops: the disk stands still, while the others go on. Entries
    /// are counted as consensus does, votes and facts as 512 bytes and what they say; snapshots are not, which it holds in
    /// any case until they are durable.
    pub max_queued_bytes: u64,
}

impl LedgerSettings {
    /// The bounds that suffice for a consensus of these settings: segments of 8 MiB, and as many as the worst case
    /// needs. (With the defaults that is 2,000, of which a cluster at work uses a handful: it is a bound, nothing is
    /// set aside.)
    ///
    /// ```
    /// use corecast::cluster::ledger_settings::LedgerSettings;
    /// use corecast::consensus::settings::ConsensusSettings;
    ///
    /// let consensus = ConsensusSettings::default();
    /// let ledger = LedgerSettings::for_consensus(&consensus);
    /// assert_eq!(ledger.check(&consensus), Ok(()));
    /// ```
    #[must_use]
    pub fn for_consensus(consensus: &ConsensusSettings) -> LedgerSettings {
        let mut settings = LedgerSettings {
            log: LogSettings {
                max_record_bytes: MAX_MESSAGE_BYTES as u32,
                ..LogSettings::default()
            },
            max_queued_bytes: must_queue(consensus),
        };
        let segments = must_hold(consensus).div_ceil(settings.usable_segment_bytes().max(1));
        settings.log.max_segments = u32::try_from(segments).unwrap_or(u32::MAX);
        settings
    }

    /// Checks that the settings make sense, and that a consensus of these settings can never fill the log:
    ///
    /// - `max_record_bytes` is no less than the longest message between nodes (2 MiB), since every entry comes in one,
    ///   perhaps from a node that takes longer commands.
    /// - `max_segments`, each without its beginning and without the room that the longest batch leaves at its end, hold
    ///   [`DISK_BYTES_PER_LOG_BYTE`] times `max_log_bytes` and three times `max_snapshot_bytes`: between the oldest
    ///   segment that is needed and the newest there are the entries that are kept, and the snapshot before and the one
    ///   that is being written, each with at most half as much again for its headers. What truncations leave behind and votes
    ///   (4 KiB each) are not in this sum: they are few, and gone with the next snapshot.
    /// - `max_queued_bytes` is no less than `max_log_bytes`, which bounds what a leader has appended, a window of
    ///   the longest messages, which bounds what a follower has been sent, and 1 MiB for votes and the like.
    ///
    /// # Errors
    ///
    /// [`LedgerSettingsError`] for the first setting that doesn't.
    pub fn check(&self, consensus: &ConsensusSettings) -> Result<(), LedgerSettingsError> {
        self.log.check()?;
        let room = u64::from(self.log.max_segments) * self.usable_segment_bytes();
        let checks = [
            (
                "log.max_record_bytes",
                u64::from(self.log.max_record_bytes),
                MAX_MESSAGE_BYTES as u64,
                u64::from(self.log.max_record_bytes),
                "the longest message between nodes, in which every entry comes",
            ),
            (
                "log.max_segments",
                u64::from(self.log.max_segments),
                must_hold(consensus),
                room,
                "34 times `max_log_bytes` and three times `max_snapshot_bytes` of consensus, in segments",
            ),
            (
                "max_queued_bytes",
                self.max_queued_bytes,
                must_queue(consensus),
                self.max_queued_bytes,
                "`max_log_bytes` and `append_window` messages of consensus, and 1 MiB",
            ),
        ];
        for (setting, value, must_bytes, is_bytes, why) in checks {
            if is_bytes < must_bytes {
                return Err(LedgerSettingsError::TooSmall {
                    setting,
                    value,
                    must_bytes,
                    is_bytes,
                    why,
                });
            }
        }
        Ok(())
    }

    /// What a segment holds of batches, at the least.
    fn usable_segment_bytes(&self) -> u64 {
        let batch = self.log.max_batch_bytes.max(self.log.max_record_bytes);
        let lost = u64::from(batch) + 8_192 + SEGMENT_BEGINNING;
        u64::from(self.log.segment_bytes).saturating_sub(lost)
    }
}

/// What the disk may have to hold for a consensus of these settings.
fn must_hold(consensus: &ConsensusSettings) -> u64 {
    let entries = consensus
        .max_log_bytes
        .saturating_mul(DISK_BYTES_PER_LOG_BYTE);
    entries.saturating_add(consensus.max_snapshot_bytes.saturating_mul(3))
}

/// What may wait for the disk of a consensus of these settings.
fn must_queue(consensus: &ConsensusSettings) -> u64 {
    let message = MAX_MESSAGE_BYTES as u64;
    let window = message.saturating_mul(consensus.append_window as u64);
    let sum = consensus.max_log_bytes.saturating_add(window);
    sum.saturating_add(BESIDES_ENTRIES)
}

/// Settings of a ledger that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerSettingsError {
    /// Those of the log do not.
    #[error(transparent)]
    Log(#[from] LogSettingsError),
    /// It does not suffice for the consensus.
    #[error(
        "ledger setting `{setting}` is {value}, which makes {is_bytes} bytes; it must make at least {must_bytes}: {why}"
    )]
    TooSmall {
        /// The name of the field.
        setting: &'static str,
        /// What it was set to.
        value: u64,
        /// How many bytes have to fit.
        must_bytes: u64,
        /// How many do.
        is_bytes: u64,
        /// What they are.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_suffice_are_named() {
        for consensus in [ConsensusSettings::default(), ConsensusSettings::fast()] {
            let fine = LedgerSettings::for_consensus(&consensus);
            assert_eq!(fine.check(&consensus), Ok(()));
            assert!(fine.log.max_segments < 2_200, "{}", fine.log.max_segments);
            type Spoil = fn(&mut LedgerSettings);
            let cases: [(&str, Spoil); 3] = [
                ("log.max_record_bytes", |s| s.log.max_record_bytes -= 1),
                ("log.max_segments", |s| s.log.max_segments -= 1),
                ("max_queued_bytes", |s| s.max_queued_bytes -= 1),
            ];
            for (name, spoil) in cases {
                let mut settings = fine.clone();
                spoil(&mut settings);
                let error = settings.check(&consensus).unwrap_err();
                assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            }
            let mut settings = fine.clone();
            settings.log.read_bytes = 1;
            let error = settings.check(&consensus).unwrap_err();
            assert!(matches!(error, LedgerSettingsError::Log(_)), "{error}");
            let larger = ConsensusSettings {
                max_log_bytes: consensus.max_log_bytes * 2,
                ..consensus
            };
            assert!(fine.check(&larger).is_err());
        }
    }
}
