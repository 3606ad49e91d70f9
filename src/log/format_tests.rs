//! The format: golden bytes, and what no damage and no earlier life may pass for.

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, BatchId, FORMAT_VERSION, LogId, RECORD_HEADER_BYTES, Record,
    SegmentHeader, What, record_salt,
};
use proptest::prelude::*;

const LOG: LogId = LogId(0x0123_4567_89ab_cdef_1111_2222_3333_4444);

const BATCH: BatchId = BatchId {
    segment: 3,
    offset: 8_192,
    number: 17,
    life: 2,
    opens: true,
};

fn record(payload: &[u8]) -> Record<'_> {
    Record {
        what: What::Entry,
        kind: 9,
        sequence: 1_000,
        payload,
    }
}

fn encoded(record: &Record<'_>, salt: u32) -> Vec<u8> {
    let mut bytes = record.encode_header(salt).to_vec();
    bytes.extend_from_slice(record.payload);
    bytes.resize(Record::encoded_bytes(record.payload.len()), 0);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files are read by later versions: these bytes never change under this version number.
#[test]
fn known_bytes_never_change() {
    let header = SegmentHeader {
        version: FORMAT_VERSION,
        log: LOG,
        number: 3,
        bytes: 65_536,
    };
    let batch = BatchHeader {
        id: BATCH,
        bytes: 32,
        records: 1,
    };
    let all = [
        hex(&header.encode()),
        hex(&batch.encode(LOG)),
        hex(&encoded(&record(b"payload"), record_salt(LOG, &BATCH))),
    ];
    assert_eq!(
        all,
        [
            GOLDEN_SEGMENT.to_owned(),
            GOLDEN_BATCH.to_owned(),
            GOLDEN_RECORD.to_owned()
        ]
    );
}

const GOLDEN_SEGMENT: &str = "636f72656c6f67008522096c010000004444333322221111efcdab89674523010300000000000000000001000000000000000000000000000000000000000000";
const GOLDEN_BATCH: &str =
    "881d9539627463681100000000000000020000000000000020000000010000000100000000000000";
const GOLDEN_RECORD: &str = "dd25482d07000000e80300000000000001090000000000007061796c6f616400";

#[test]
fn what_is_written_is_read() {
    let header = SegmentHeader {
        version: 7,
        log: LOG,
        number: 5,
        bytes: 1 << 20,
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    let batch = BatchHeader {
        id: BATCH,
        bytes: 32,
        records: 1,
    };
    assert_eq!(
        BatchHeader::decode(LOG, 3, 8_192, &batch.encode(LOG)),
        Some(batch)
    );
    let salt = record_salt(LOG, &BATCH);
    let bytes = encoded(&record(b"payload"), salt);
    assert_eq!(
        Record::decode(salt, &bytes),
        Some((record(b"payload"), bytes.len()))
    );
}

#[test]
fn a_batch_is_valid_at_its_place_only() {
    let batch = BatchHeader {
        id: BATCH,
        bytes: 32,
        records: 1,
    };
    let bytes = batch.encode(LOG);
    assert_eq!(BatchHeader::decode(LOG, 4, 8_192, &bytes), None);
    assert_eq!(BatchHeader::decode(LOG, 3, 12_288, &bytes), None);
    assert_eq!(BatchHeader::decode(LogId(1), 3, 8_192, &bytes), None);
}

#[test]
fn a_record_is_valid_in_its_segment_life_and_batch_only() {
    let salt = record_salt(LOG, &BATCH);
    let bytes = encoded(&record(b"payload"), salt);
    let others = [
        BatchId {
            segment: 4,
            ..BATCH
        },
        BatchId { life: 3, ..BATCH },
        BatchId {
            number: 18,
            ..BATCH
        },
    ];
    for other in others {
        assert_eq!(Record::decode(record_salt(LOG, &other), &bytes), None);
    }
}

proptest! {
    /// Whatever is made of bytes, reading them is safe, and one changed bit is always seen.
    #[test]
    fn damage_is_seen(payload in proptest::collection::vec(any::<u8>(), 0..200), bit in any::<prop::sample::Index>()) {
        let salt = record_salt(LOG, &BATCH);
        let mut bytes = encoded(&record(&payload), salt);
        let bit = bit.index((RECORD_HEADER_BYTES + payload.len()) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Record::decode(salt, &bytes), None);

        let batch = BatchHeader { id: BATCH, bytes: 32, records: 1 };
        let mut bytes = batch.encode(LOG);
        let bit = bit % (BATCH_HEADER_BYTES * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(BatchHeader::decode(LOG, 3, 8_192, &bytes), None);

        let header = SegmentHeader { version: 1, log: LOG, number: 3, bytes: 65_536 };
        let mut bytes = header.encode();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(SegmentHeader::decode(&bytes), None);
    }

    #[test]
    fn noise_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(Record::decode(1, &bytes), None);
        prop_assert_eq!(BatchHeader::decode(LOG, 3, 0, &bytes), None);
        prop_assert_eq!(SegmentHeader::decode(&bytes), None);
    }
}
