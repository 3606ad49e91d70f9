//! The files that a recovery finds, and whether they can be one log.

use std::collections::BTreeMap;

use super::error::OpenError;
use super::format::{BLOCK_BYTES, FORMAT_VERSION, LogId, SegmentHeader};
use super::reader::Source;
use super::settings::MAX_SEGMENT_BYTES;
use super::store::{FileName, FoundFile};

/// Segments in order, and what else there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) segments: Vec<Source>,
    /// By number, with their sizes.
    pub(super) spares: BTreeMap<u64, u64>,
}

impl Found {
    pub(super) fn new(files: Vec<FoundFile>) -> Found {
        let mut found = Found::default();
        for file in files {
            match file.name {
                FileName::Segment(segment) => found.segments.push(Source {
                    segment,
                    bytes: file.bytes,
                }),
                FileName::Spare(number) => {
                    found.spares.insert(number, file.bytes);
                }
            }
        }
        found.segments.sort_by_key(|source| source.segment);
        found
    }

    /// Checks one segment's header against its name and size, and against the log that it is to belong to.
    pub(super) fn check_header(
        &self,
        source: Source,
        block: &[u8],
        log: Option<LogId>,
    ) -> Result<LogId, OpenError> {
        let file = FileName::Segment(source.segment);
        let header = SegmentHeader::decode(block).ok_or(OpenError::DamagedHeader { file })?;
        if header.version > FORMAT_VERSION {
            return Err(OpenError::FutureVersion {
                file,
                version: header.version,
            });
        }
        if let Some(expected) = log
            && header.log != expected
        {
            return Err(OpenError::OtherLog {
                file,
                found: header.log,
                expected,
            });
        }
        if header.number != source.segment {
            let really = FileName::Segment(header.number);
            let both = self
                .segments
                .iter()
                .any(|other| other.segment == header.number);
            return Err(match both {
                true => OpenError::Duplicate { file, really },
                false => OpenError::Misnamed { file, really },
            });
        }
        // Their checksum is right, so these would be the numbers of somebody else's format.
        let block = BLOCK_BYTES as u64;
        if !header.bytes.is_multiple_of(block)
            || header.bytes < 2 * block
            || header.bytes > u64::from(MAX_SEGMENT_BYTES)
        {
            return Err(OpenError::DamagedHeader { file });
        }
        if header.bytes != source.bytes {
            return Err(OpenError::WrongSize {
                file,
                is: source.bytes,
                must: header.bytes,
            });
        }
        Ok(header.log)
    }

    /// Checks that no number is left out.
    pub(super) fn check_numbers(&self) -> Result<(), OpenError> {
        for pair in self.segments.windows(2) {
            if pair[1].segment != pair[0].segment + 1 {
                return Err(OpenError::MissingSegment {
                    missing: FileName::Segment(pair[0].segment + 1),
                    later: FileName::Segment(pair[1].segment),
                });
            }
        }
        Ok(())
    }
}
