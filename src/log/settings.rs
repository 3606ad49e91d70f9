//! What can be set of a log, and which values go together.

use thiserror::Error;

use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, RECORD_HEADER_BYTES};

/// How many small values (a hard state, for example) a log keeps beside its entries.
pub const STATE_SLOTS: u8 = 8;
/// The longest of these values. All of them are written again at the start of each segment.
pub const MAX_STATE_BYTES: usize = 4_096;
/// A segment is never larger: offsets within it have 32 bits, and recovery holds one batch of it in memory.
pub const MAX_SEGMENT_BYTES: u32 = 1 << 30;

/// The record that begins a segment and the values that follow it, at their largest.
pub(super) const MAX_CHECKPOINT_BYTES: usize =
    RECORD_HEADER_BYTES + 8 + STATE_SLOTS as usize * (RECORD_HEADER_BYTES + MAX_STATE_BYTES);

/// The sizes and bounds of a log.
///
/// On disk it takes at most `segment_bytes * (2 * max_segments + 1 + spares)`; only the 4 KiB that each opening writes are
/// never refused, and may begin one segment more. In memory it takes about
/// `max_unsynced_bytes` twice: what is being written and what gathers meanwhile are in one account, and buffers are reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The size of a segment, in bytes; a multiple of 4,096. Default 8 MiB. Too small, and much is written twice (each
    /// segment begins with the kept values) and files are renamed often; too large, and space comes back late. Existing
    /// segments keep their size when it is changed.
    pub segment_bytes: u32,
    /// A batch is closed when it has this many bytes, and the next one begins. Default 1 MiB: too small costs flushes
    /// under load, too large lets early records wait for late ones.
    pub max_batch_bytes: u32,
    /// The longest payload of a record. Default 1 MiB.
    pub max_record_bytes: u32,
    /// How many bytes may be appended and not yet durable; beyond it appends are refused. Default 8 MiB.
    pub max_unsynced_bytes: usize,
    /// How many segments entries may fill; beyond it entries are refused until a prefix has been dropped. Everything
    /// else (marks, values, snapshots) may take as many again, so that a full log can be emptied. Default 64.
    pub max_segments: u32,
    /// How many emptied files are kept for recycling; more of them are removed. Default 2. Without any, each new segment
    /// is written twice.
    pub spares: u32,
    /// How many bytes recovery reads at a time; a multiple of 4,096. Default 256 KiB.
    pub read_bytes: u32,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            segment_bytes: 8 << 20,
            max_batch_bytes: 1 << 20,
            max_record_bytes: 1 << 20,
            max_unsynced_bytes: 8 << 20,
            max_segments: 64,
            spares: 2,
            read_bytes: 256 << 10,
        }
    }
}

impl LogSettings {
    /// Checks that the settings make sense and agree with each other.
    ///
    /// # Errors
    /// [`LogSettingsError`] for the first that doesn't.
    pub fn check(&self) -> Result<(), LogSettingsError> {
        let block = BLOCK_BYTES as u32;
        // A record of the greatest length has to fit into a new segment, behind what begins it.
        let fixed = BLOCK_BYTES + BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + MAX_CHECKPOINT_BYTES;
        let longest = self.segment_bytes.saturating_sub(fixed as u32 + block);
        let checks = [
            (
                "segment_bytes",
                u64::from(self.segment_bytes),
                self.segment_bytes.is_multiple_of(block)
                    && self.segment_bytes >= 16 * block
                    && self.segment_bytes <= MAX_SEGMENT_BYTES,
                "a multiple of 4096, at least 65536 and at most 1 GiB",
            ),
            (
                "max_record_bytes",
                u64::from(self.max_record_bytes),
                self.max_record_bytes >= 1 && self.max_record_bytes <= longest,
                "at least 1 and about 44 KiB below `segment_bytes`, so that a record fits into a segment",
            ),
            (
                "max_batch_bytes",
                u64::from(self.max_batch_bytes),
                self.max_batch_bytes >= block && self.max_batch_bytes < self.segment_bytes,
                "at least 4096 and below `segment_bytes`",
            ),
            (
                "max_unsynced_bytes",
                self.max_unsynced_bytes as u64,
                self.max_unsynced_bytes > self.max_record_bytes as usize + 2 * BLOCK_BYTES,
                "above `max_record_bytes` by more than 8192",
            ),
            (
                "max_segments",
                u64::from(self.max_segments),
                self.max_segments >= 2 && self.max_segments <= 1 << 20,
                "between 2 and 1048576",
            ),
            (
                "read_bytes",
                u64::from(self.read_bytes),
                self.read_bytes.is_multiple_of(block) && self.read_bytes >= block,
                "a multiple of 4096 and at least 4096",
            ),
        ];
        match checks.into_iter().find(|(_, _, fine, _)| !fine) {
            None => Ok(()),
            Some((setting, value, _, must_be)) => Err(LogSettingsError {
                setting,
                value,
                must_be,
            }),
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("log setting `{setting}` is {value}; it must be {must_be}")]
pub struct LogSettingsError {
    /// The name of the field.
    pub setting: &'static str,
    /// What it was set to.
    pub value: u64,
    /// What it may be set to.
    pub must_be: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_contradict_are_named() {
        let fine = LogSettings::default();
        assert_eq!(fine.check(), Ok(()));
        type Spoil = fn(&mut LogSettings);
        let cases: [(&str, Spoil); 9] = [
            ("segment_bytes", |s| s.segment_bytes += 1),
            ("segment_bytes", |s| s.segment_bytes = 4_096),
            ("segment_bytes", |s| s.segment_bytes = 2 << 30),
            ("max_record_bytes", |s| s.max_record_bytes = s.segment_bytes),
            ("max_record_bytes", |s| s.max_record_bytes = 0),
            ("max_batch_bytes", |s| s.max_batch_bytes = s.segment_bytes),
            ("max_unsynced_bytes", |s| s.max_unsynced_bytes = 4_096),
            ("max_segments", |s| s.max_segments = 1),
            ("read_bytes", |s| s.read_bytes = 1_000),
        ];
        for (name, spoil) in cases {
            let mut settings = fine.clone();
            spoil(&mut settings);
            assert_eq!(settings.check().unwrap_err().setting, name);
        }
    }
}
