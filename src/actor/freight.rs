//! A shard as bytes, on its way to another node: one record after the other.
//!
//! | record | bytes |
//! |---|---|
//! | entity | `1`, stage, length of the id (2), of the view (4), then id and view |
//! | entity without its state | `2`, 0, length of the id (2), 0 (4), then the id |
//! | timer of the entity before | `3`, 0, length of its text (2), of its message (4), number (8), nanoseconds left (8), then text and message |
//! | message for the entity before | `4`, 0, 0 (2), its length (4), then the message |
//! | stop of the entity before | `5`, 0, 0 (2), 0 (4) |
//!
//! Numbers are little-endian. Messages are whole frames, as they go between nodes: so asks and their addresses are what they
//! are there. The entities come with their timers first and their messages in order.

use crate::wire::archive::ArchivedBytes;
use std::time::Duration;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// An entity with its captured view.
    Entity {
        id: &'a [u8],
        has_begun: bool,
        view: &'a [u8],
    },
    /// An entity that starts afresh, for the messages behind it.
    Fresh {
        id: &'a [u8],
    },
    Timer {
        text: &'a str,
        number: u64,
        left: Duration,
        message: &'a [u8],
    },
    Message(&'a [u8]),
    Stop,
}

const HEAD_BYTES: usize = 8;

/// A length that no record can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Record<'_> {
    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let (tag, flag, short, long): (u8, bool, usize, usize) = match self {
            Record::Entity {
                id,
                has_begun,
                view,
            } => (1, *has_begun, id.len(), view.len()),
            Record::Fresh { id } => (2, false, id.len(), 0),
            Record::Timer { text, message, .. } => (3, false, text.len(), message.len()),
            Record::Message(message) => (4, false, 0, message.len()),
            Record::Stop => (5, false, 0, 0),
        };
        let short = u16::try_from(short).map_err(|_| TooLong)?;
        let long = u32::try_from(long).map_err(|_| TooLong)?;
        out.extend([tag, u8::from(flag)]);
        out.extend(short.to_le_bytes());
        out.extend(long.to_le_bytes());
        match self {
            Record::Entity { id, view, .. } => {
                out.extend_from_slice(id);
                out.extend_from_slice(view);
            }
            Record::Fresh { id } => out.extend_from_slice(id),
            Record::Timer {
                text,
                number,
                left,
                message,
            } => {
                out.extend(number.to_le_bytes());
                let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
                out.extend(nanos.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(message);
            }
            Record::Message(message) => out.extend_from_slice(message),
            Record::Stop => {}
        }
        Ok(())
    }

    /// Takes the first record off; `None` if there is no whole and sound one.
    pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
        let head: &[u8; HEAD_BYTES] = cut(bytes, HEAD_BYTES)?.try_into().ok()?;
        let [tag, flag, a, b, c, d, e, f] = *head;
        let short = usize::from(u16::from_le_bytes([a, b]));
        let long = u32::from_le_bytes([c, d, e, f]) as usize;
        Some(match (tag, flag, short, long) {
            (1, 0 | 1, ..) => Record::Entity {
                has_begun: flag == 1,
                id: cut(bytes, short)?,
                view: cut(bytes, long)?,
            },
            (2, 0, _, 0) => Record::Fresh {
                id: cut(bytes, short)?,
            },
            (3, 0, ..) => Record::Timer {
                number: word(bytes)?,
                left: Duration::from_nanos(word(bytes)?),
                text: std::str::from_utf8(cut(bytes, short)?).ok()?,
                message: cut(bytes, long)?,
            },
            (4, 0, 0, _) => Record::Message(cut(bytes, long)?),
            (5, 0, 0, 0) => Record::Stop,
            _ => return None,
        })
    }
}

fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

fn word(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(cut(bytes, 8)?.try_into().ok()?))
}

/// The same bytes where an archive can be read in place.
pub(super) fn aligned(bytes: &[u8]) -> ArchivedBytes {
    let mut aligned = ArchivedBytes::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORDS: [Record<'static>; 5] = [
        Record::Entity {
            id: b"cart-7",
            has_begun: true,
            view: &[1, 2, 3],
        },
        Record::Timer {
            text: "remind",
            number: 4_711,
            left: Duration::from_millis(3),
            message: &[9; 20],
        },
        Record::Message(&[7; 100]),
        Record::Stop,
        Record::Fresh { id: b"" },
    ];

    #[test]
    fn records_come_back_in_order() {
        let mut bytes = Vec::new();
        for record in RECORDS {
            record.write(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        for record in RECORDS {
            assert_eq!(Record::take(&mut rest), Some(record));
        }
        assert!(rest.is_empty());
        assert_eq!(Record::take(&mut rest), None);
    }

    proptest! {
        /// Whatever comes, nothing is read that is not there.
        #[test]
        fn any_bytes_are_read_to_their_end_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Some(record) = Record::take(&mut rest) {
                let mut again = Vec::new();
                record.write(&mut again).unwrap();
                prop_assert!(bytes.windows(again.len()).any(|window| window == again));
            }
        }

        #[test]
        fn what_is_cut_short_is_refused(length in 0_usize..400) {
            let mut bytes = Vec::new();
            for record in RECORDS {
                record.write(&mut bytes).unwrap();
            }
            let length = length.min(bytes.len() - 1);
            let mut rest = &bytes[..length];
            let mut count = 0;
            while Record::take(&mut rest).is_some() {
                count += 1;
            }
            prop_assert!(count < RECORDS.len());
        }
    }
}
