//! How a log looks on the disk.
//!
//! All numbers are little-endian.
//!
//! ```text
//! segment  = header block (4 KiB) batch*             preallocated, and full of zeros or of an earlier life
//! batch    = header record* zeros up to 4 KiB        one write and one flush; durable as a whole or not at all
//!
//! segment header (64 bytes)                          batch header (40 bytes)
//!   0 magic "corelog\0"                                0 checksum of 4..40, salted
//!   8 checksum of 12..64                               4 magic
//!  12 format version                                   8 number: consecutive through all segments
//!  16 log id                                          16 life
//!  32 number of the segment                           24 bytes of records, without the zeros
//!  40 size of the segment                             28 how many records
//!  48 zeros                                           32 bit 0: opens a life; 36 zeros
//!
//! record (24 bytes and its payload, up to a multiple of 8)
//!   0 checksum of 4..end of the payload, salted       16 what it is
//!   4 length of the payload                           17 kind, by the user
//!   8 sequence                                        18 zeros
//! ```
//!
//! **Salt.** The checksum of a batch header begins with a number made of the log id, the number of the segment and the
//! offset; that of a record with one made of the log id, the segment, the life and the batch. A file that is recycled gets
//! a new number, by which all that is left in it of earlier lives stops being valid, without anything being erased. CRC-32
//! maps different beginnings to different ends, so for the same bytes in a segment of another number (modulo 2^32) that is
//! not a matter of chance. A *life* is one opening of the log; for what it is good see the recovery.

use crc32fast::Hasher;

/// The unit of writes.
pub const BLOCK_BYTES: usize = 4_096;
/// The version of this format.
pub const FORMAT_VERSION: u32 = 1;
/// What stands before the records of a batch.
pub(super) const BATCH_HEADER_BYTES: usize = 40;
/// What stands before the payload of a record.
pub(super) const RECORD_HEADER_BYTES: usize = 24;

const SEGMENT_HEADER_BYTES: usize = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"corelog\0";
const BATCH_MAGIC: u32 = 0x6863_7462;
const OPENS_A_LIFE: u32 = 1;

/// Which log it is. Drawn once, when the log is made: a segment of another log is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u128);

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) version: u32,
    pub(super) log: LogId,
    pub(super) number: u64,
    pub(super) bytes: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[12..16].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.bytes.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if it is none, or damaged. These 64 bytes stay as they are in every later version, so that an old program
    /// can tell that it is too old.
    pub(super) fn decode(block: &[u8]) -> Option<SegmentHeader> {
        let bytes = block.get(..SEGMENT_HEADER_BYTES)?;
        let fine = bytes[..8] == SEGMENT_MAGIC && u32_at(bytes, 8) == crc32fast::hash(&bytes[12..]);
        fine.then(|| SegmentHeader {
            version: u32_at(bytes, 12),
            log: LogId(u128::from(u64_at(bytes, 24)) << 64 | u128::from(u64_at(bytes, 16))),
            number: u64_at(bytes, 32),
            bytes: u64_at(bytes, 40),
        })
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// One of the user's, in sequence.
    Entry = 1,
    /// Entries from its sequence on are no more.
    Cut = 2,
    /// Entries before its sequence are no more.
    Mark = 3,
    /// A value of the slot in `kind`.
    State = 4,
    /// Begins a segment: its sequence is the next entry's, its payload the first one's that is kept.
    Checkpoint = 5,
    /// A snapshot of everything up to its sequence begins; its payload is the snapshot's number.
    SnapshotBegin = 6,
    /// A part of the snapshot whose number is its sequence.
    SnapshotPart = 7,
    /// The snapshot whose number is its sequence is complete.
    SnapshotEnd = 8,
}

impl What {
    fn decode(byte: u8) -> Option<What> {
        use What::*;
        [
            Entry,
            Cut,
            Mark,
            State,
            Checkpoint,
            SnapshotBegin,
            SnapshotPart,
            SnapshotEnd,
        ]
        .into_iter()
        .find(|what| *what as u8 == byte)
    }
}

/// Where a batch stands, and of which life it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchId {
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) number: u64,
    pub(super) life: u64,
    pub(super) opens: bool,
}

/// A batch's header as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) id: BatchId,
    pub(super) bytes: u32,
    pub(super) records: u32,
}

impl BatchHeader {
    /// How many blocks' bytes the batch takes.
    pub(super) fn padded_bytes(&self) -> usize {
        (BATCH_HEADER_BYTES + self.bytes as usize).next_multiple_of(BLOCK_BYTES)
    }

    pub(super) fn encode(&self, log: LogId) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.life.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.records.to_le_bytes());
        bytes[32..36].copy_from_slice(&(u32::from(self.id.opens) * OPENS_A_LIFE).to_le_bytes());
        let salt = place_salt(log, self.id.segment, self.id.offset);
        let checksum = checksum(salt, &bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if no batch begins there.
    pub(super) fn decode(
        log: LogId,
        segment: u64,
        offset: u32,
        block: &[u8],
    ) -> Option<BatchHeader> {
        let bytes = block.get(..BATCH_HEADER_BYTES)?;
        if u32_at(bytes, 4) != BATCH_MAGIC
            || u32_at(bytes, 0) != checksum(place_salt(log, segment, offset), &bytes[4..])
        {
            return None;
        }
        Some(BatchHeader {
            id: BatchId {
                segment,
                offset,
                number: u64_at(bytes, 8),
                life: u64_at(bytes, 16),
                opens: u32_at(bytes, 32) & OPENS_A_LIFE != 0,
            },
            bytes: u32_at(bytes, 24),
            records: u32_at(bytes, 28),
        })
    }
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) what: What,
    pub(super) kind: u8,
    pub(super) sequence: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// How many bytes a record with this payload takes.
    pub(super) const fn encoded_bytes(payload: usize) -> usize {
        RECORD_HEADER_BYTES + payload.next_multiple_of(8)
    }

    /// The bytes before the payload.
    pub(super) fn encode_header(&self, salt: u32) -> [u8; RECORD_HEADER_BYTES] {
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        header[16] = self.what as u8;
        header[17] = self.kind;
        let mut hasher = Hasher::new_with_initial(salt);
        hasher.update(&header[4..]);
        hasher.update(self.payload);
        header[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
        header
    }

    /// The record that `bytes` begins with and how many of them it takes; `None` if none does.
    pub(super) fn decode(salt: u32, bytes: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let (record, taken) = Record::decode_checked(bytes)?;
        let end = RECORD_HEADER_BYTES + record.payload.len();
        (u32_at(bytes, 0) == checksum(salt, &bytes[4..end])).then_some((record, taken))
    }

    /// The same where the checksum has been looked at before. The length is checked before anything is done with it.
    pub(super) fn decode_checked(bytes: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let header = bytes.get(..RECORD_HEADER_BYTES)?;
        let end = RECORD_HEADER_BYTES.checked_add(u32_at(header, 4) as usize)?;
        let record = Record {
            what: What::decode(header[16])?,
            kind: header[17],
            sequence: u64_at(header, 8),
            payload: bytes.get(RECORD_HEADER_BYTES..end)?,
        };
        Some((record, end.next_multiple_of(8)))
    }
}

/// What the checksums of a batch's records begin with.
pub(super) fn record_salt(log: LogId, batch: &BatchId) -> u32 {
    let mut hasher = Hasher::new_with_initial(segment_salt(log, batch.segment));
    hasher.update(&batch.life.to_le_bytes());
    hasher.update(&batch.number.to_le_bytes());
    hasher.finalize()
}

/// What the checksum of a batch header at this place begins with.
fn place_salt(log: LogId, segment: u64, offset: u32) -> u32 {
    checksum(segment_salt(log, segment), &offset.to_le_bytes())
}

/// Differs between segments whose numbers differ by less than 2^32.
fn segment_salt(log: LogId, segment: u64) -> u32 {
    crc32fast::hash(&log.0.to_le_bytes()).wrapping_add(segment as u32)
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}
