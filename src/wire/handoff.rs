//! The contents of the frames by which a shard changes nodes: [`Kind::Last`] and [`Kind::Shipment`].
//!
//! [`Kind::Last`]: super::kind::Kind::Last
//! [`Kind::Shipment`]: super::kind::Kind::Shipment

use super::error::WireError;
use super::kind::Kind;
use crate::base::ids::CoreId;

/// The content of a `Last`. It goes down an old route behind everything that its sender has sent there, is passed on like a
/// message by whoever has given the shard away, and comes back from whoever runs the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastMarker {
    /// Which of the sender's markers it is.
    pub token: u64,
    /// The sender's core, to which it comes back.
    pub core: CoreId,
    /// The core of whichever node whose messages it goes behind. It is taken where those are.
    pub stream: CoreId,
    /// How often members had changed, as its sender knew. It may rely upon a death, so whoever has not heard of as much
    /// drops it: until then it would take what the dead have sent behind it. It comes again.
    pub members: u64,
    /// It is on its way back: what was before it has reached its shard.
    pub has_passed: bool,
}

/// The length of a [`LastMarker`].
pub const LAST_BYTES: usize = 24;

impl LastMarker {
    /// As content of a frame.
    #[must_use]
    pub fn encode(self) -> [u8; LAST_BYTES] {
        let mut bytes = [0; LAST_BYTES];
        bytes[..8].copy_from_slice(&self.token.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.core.0.to_le_bytes());
        bytes[10] = u8::from(self.has_passed);
        bytes[12..14].copy_from_slice(&self.stream.0.to_le_bytes());
        bytes[16..].copy_from_slice(&self.members.to_le_bytes());
        bytes
    }

    /// From the content of a frame.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<LastMarker, WireError> {
        let malformed = WireError::Malformed {
            kind: Kind::Last,
            what: "its content is no marker",
        };
        let Ok(bytes) = <[u8; LAST_BYTES]>::try_from(bytes) else {
            return Err(malformed);
        };
        let has_passed = match (&bytes[10..12], &bytes[14..16]) {
            ([0, 0], [0, 0]) => false,
            ([1, 0], [0, 0]) => true,
            _ => return Err(malformed),
        };
        let [a, b, c, d, e, f, g, h, core_low, core_high, ..] = bytes;
        let mut members = [0; 8];
        members.copy_from_slice(&bytes[16..]);
        Ok(LastMarker {
            token: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            core: CoreId(u16::from_le_bytes([core_low, core_high])),
            stream: CoreId(u16::from_le_bytes([bytes[12], bytes[13]])),
            members: u64::from_le_bytes(members),
            has_passed,
        })
    }
}

/// What a frame of a shipment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShipmentPart {
    /// Part of the shard, of this number, counted from 0 in each attempt.
    Part {
        /// Its number.
        number: u32,
        /// Nothing comes behind it.
        is_last: bool,
    },
    /// The answer: all parts below this number are there.
    Taken {
        /// The number of the part that comes next.
        next: u32,
        /// The shard is there as a whole, by this attempt or another.
        is_whole: bool,
    },
}

/// What stands before the bytes of a part of a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShipmentHead {
    /// The index of the `Prepare` in the log: the name of the move.
    pub prepared: u64,
    /// Which attempt of the source it is; a later one begins anew.
    pub attempt: u32,
    /// What it is.
    pub part: ShipmentPart,
}

/// The length of a [`ShipmentHead`].
pub const SHIPMENT_HEAD_BYTES: usize = 32;

impl ShipmentHead {
    /// As the beginning of the content of a frame.
    #[must_use]
    pub fn encode(self) -> [u8; SHIPMENT_HEAD_BYTES] {
        let mut bytes = [0; SHIPMENT_HEAD_BYTES];
        let (code, number, flag) = match self.part {
            ShipmentPart::Part { number, is_last } => (1, number, is_last),
            ShipmentPart::Taken { next, is_whole } => (2, next, is_whole),
        };
        bytes[..8].copy_from_slice(&self.prepared.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.attempt.to_le_bytes());
        bytes[12..16].copy_from_slice(&number.to_le_bytes());
        bytes[16] = code;
        bytes[17] = u8::from(flag);
        bytes
    }

    /// From the content of a frame; the bytes of the part come out beside it.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(content: &[u8]) -> Result<(ShipmentHead, &[u8]), WireError> {
        let malformed = WireError::Malformed {
            kind: Kind::Shipment,
            what: "its content is no part of a shipment",
        };
        let Some((head, rest)) = content.split_first_chunk::<SHIPMENT_HEAD_BYTES>() else {
            return Err(malformed);
        };
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&head[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let flag = match head[17] {
            0 => false,
            1 => true,
            _ => return Err(malformed),
        };
        let number = word(12);
        let part = match head[16] {
            1 => ShipmentPart::Part {
                number,
                is_last: flag,
            },
            2 if rest.is_empty() => ShipmentPart::Taken {
                next: number,
                is_whole: flag,
            },
            _ => return Err(malformed),
        };
        if head[18..].iter().any(|byte| *byte != 0) {
            return Err(malformed);
        }
        let head = ShipmentHead {
            prepared: u64::from(word(4)) << 32 | u64::from(word(0)),
            attempt: word(8),
            part,
        };
        Ok((head, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_back_and_nothing_else_is_one() {
        for has_passed in [false, true] {
            let marker = LastMarker {
                token: 0x0102_0304_0506_0708,
                core: CoreId(0x0203),
                stream: CoreId(0x0405),
                members: 0x1112_1314_1516_1718,
                has_passed,
            };
            let bytes = marker.encode();
            assert_eq!(bytes[..10], [8, 7, 6, 5, 4, 3, 2, 1, 3, 2]);
            assert_eq!(bytes[10..16], [u8::from(has_passed), 0, 5, 4, 0, 0]);
            assert_eq!(bytes[16..], [24, 23, 22, 21, 20, 19, 18, 17]);
            assert_eq!(LastMarker::decode(&bytes), Ok(marker));
            for (at, byte) in [(10, 2), (11, 1), (15, 1)] {
                let mut wrong = bytes;
                wrong[at] = byte;
                assert!(LastMarker::decode(&wrong).is_err());
            }
        }
        for length in [0, 16, 23, 25] {
            assert!(LastMarker::decode(&vec![0; length]).is_err());
        }
    }

    #[test]
    fn heads_of_shipments_come_back_and_nothing_else_is_one() {
        let parts = [
            ShipmentPart::Part {
                number: 7,
                is_last: true,
            },
            ShipmentPart::Taken {
                next: u32::MAX,
                is_whole: false,
            },
        ];
        for part in parts {
            let head = ShipmentHead {
                prepared: u64::MAX - 1,
                attempt: 3,
                part,
            };
            let bytes = head.encode();
            assert_eq!(ShipmentHead::decode(&bytes), Ok((head, &[][..])));
            for (at, byte) in [(16, 0), (16, 3), (17, 2), (18, 1), (31, 1)] {
                let mut wrong = bytes;
                wrong[at] = byte;
                assert!(ShipmentHead::decode(&wrong).is_err());
            }
            let mut more = bytes.to_vec();
            more.extend([1, 2, 3]);
            let decoded = ShipmentHead::decode(&more);
            match part {
                ShipmentPart::Part { .. } => assert_eq!(decoded, Ok((head, &[1, 2, 3][..]))),
                ShipmentPart::Taken { .. } => assert!(decoded.is_err()),
            }
            assert!(ShipmentHead::decode(&bytes[..31]).is_err());
        }
    }
}
