//! What observers tell each other: heartbeats, and with them whom they cannot reach.
//!
//! A node is not called down on the word of one observer where there are others to ask. So each heartbeat carries *all*
//! that its sender holds against anybody at that moment. Merging is then simple and needs no order: the newest heartbeat
//! of an observer replaces what it said before, an accusation that is not repeated is withdrawn, and what an observer said
//! that is not heard any more lapses. Two observers of one node are neighbours on the ring themselves, or share one, or
//! sit at opposite ends of its neighbourhood; the near ones hear each other and are enough.
//!
//! ```text
//! 0   1    version of the format, 1
//! 1   1    how many accusations follow, at most 16
//! 2   2    0
//! 4   4    sender
//! 8   4    its incarnation
//! 12  8    serial number
//! 20  ...  each: node (4), incarnation (4), why (1)
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::base::fields::FieldReader;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;

/// The most accusations of one heartbeat: a node observes eight others and the leader.
pub const MAX_ACCUSATIONS: usize = 16;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 20;
const ACCUSATION_BYTES: usize = 9;

/// Why an observer holds a node for unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Heartbeats have stopped, and SWIM has called it dead.
    Silent,
    /// Datagrams get through, and yet there have been no heartbeats for the whole of
    /// [`control_patience`](crate::membership::settings::MembershipSettings::control_patience).
    NoControl,
}

/// An observer cannot reach a node in this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accusation {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// What is held against it.
    pub why: Why,
}

/// The sign of life that goes over a control connection to each neighbour on the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who sends it.
    pub from: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Grows with each heartbeat of a life.
    pub serial: u64,
    /// Whom it cannot reach at this moment; at most [`MAX_ACCUSATIONS`], more are left out.
    pub accusations: Vec<Accusation>,
}

/// Why bytes are no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeartbeatError {
    /// The sender runs another version.
    #[error("the heartbeat has format {0}, this node speaks {VERSION}")]
    Version(u8),
    /// Its length does not agree with what it says about itself.
    #[error("the heartbeat has {found} bytes where it should have {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many it announces.
        expected: usize,
    },
    /// It holds more against others than anybody could.
    #[error("the heartbeat has {0} accusations; there are at most {MAX_ACCUSATIONS}")]
    TooMany(u8),
    /// An accusation has a reason that this version does not know.
    #[error("the heartbeat accuses for reason {0}, which this version does not know")]
    Why(u8),
}

impl Heartbeat {
    /// The heartbeat as bytes, of which there are at most 164.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let accusations = &self.accusations[..self.accusations.len().min(MAX_ACCUSATIONS)];
        let mut bytes = Vec::with_capacity(HEAD_BYTES + accusations.len() * ACCUSATION_BYTES);
        bytes.extend_from_slice(&[VERSION, accusations.len() as u8, 0, 0]);
        bytes.extend_from_slice(&self.from.0.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&self.serial.to_le_bytes());
        for accusation in accusations {
            bytes.extend_from_slice(&accusation.node.0.to_le_bytes());
            bytes.extend_from_slice(&accusation.incarnation.0.to_le_bytes());
            bytes.push(match accusation.why {
                Why::Silent => 1,
                Why::NoControl => 2,
            });
        }
        bytes
    }

    /// Reads a heartbeat; its length has to agree.
    ///
    /// # Errors
    ///
    /// [`HeartbeatError`]; bytes that are refused cost nothing.
    pub fn decode(bytes: &[u8]) -> Result<Heartbeat, HeartbeatError> {
        let found = bytes.len();
        let mut reader = FieldReader::new(bytes);
        let short = HeartbeatError::Length {
            found,
            expected: HEAD_BYTES,
        };
        let version = reader.u8().map_err(|_| short)?;
        if version != VERSION {
            return Err(HeartbeatError::Version(version));
        }
        let count = reader.u8().map_err(|_| short)?;
        if usize::from(count) > MAX_ACCUSATIONS {
            return Err(HeartbeatError::TooMany(count));
        }
        let expected = HEAD_BYTES + usize::from(count) * ACCUSATION_BYTES;
        let wrong = HeartbeatError::Length { found, expected };
        if found != expected {
            return Err(wrong);
        }
        reader.u16().map_err(|_| wrong)?;
        let from = NodeId(reader.u32().map_err(|_| wrong)?);
        let incarnation = Incarnation(reader.u32().map_err(|_| wrong)?);
        let serial = reader.u64().map_err(|_| wrong)?;
        let mut accusations = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            accusations.push(Accusation {
                node: NodeId(reader.u32().map_err(|_| wrong)?),
                incarnation: Incarnation(reader.u32().map_err(|_| wrong)?),
                why: match reader.u8().map_err(|_| wrong)? {
                    1 => Why::Silent,
                    2 => Why::NoControl,
                    why => return Err(HeartbeatError::Why(why)),
                },
            });
        }
        Ok(Heartbeat {
            from,
            incarnation,
            serial,
            accusations,
        })
    }
}

/// What others say, the newest of each observer. Its size is bounded by that of the cluster, since the words of who is no
/// live member are not taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    of: BTreeMap<NodeId, Word>,
}

#[derive(Clone, Debug)]
struct Word {
    incarnation: Incarnation,
    serial: u64,
    heard: Time,
    accusations: Vec<Accusation>,
}

impl Words {
    /// Takes what an observer says in place of what it said before. Whether it is news: older words are not taken.
    pub(super) fn take(&mut self, heartbeat: Heartbeat, now: Time) -> bool {
        let known = self.of.get(&heartbeat.from);
        let newer = |word: &Word| {
            (heartbeat.incarnation, heartbeat.serial) > (word.incarnation, word.serial)
        };
        if !known.is_none_or(newer) {
            return false;
        }
        let word = Word {
            incarnation: heartbeat.incarnation,
            serial: heartbeat.serial,
            heard: now,
            accusations: heartbeat.accusations,
        };
        self.of.insert(heartbeat.from, word);
        true
    }

    /// Who accuses a node, of those that were heard within `ttl`.
    pub(super) fn against(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        now: Time,
        ttl: Duration,
    ) -> impl Iterator<Item = NodeId> {
        let about = move |accusation: &Accusation| {
            accusation.node == node && accusation.incarnation == incarnation
        };
        self.of
            .iter()
            .filter(move |(_, word)| now - word.heard <= ttl && word.accusations.iter().any(about))
            .map(|(observer, _)| *observer)
    }

    /// Forgets observers that are no more.
    pub(super) fn retain(&mut self, is_live: impl Fn(NodeId, Incarnation) -> bool) {
        self.of
            .retain(|observer, word| is_live(*observer, word.incarnation));
    }

    /// Does not count a time in which this node heard nobody.
    pub(super) fn forgive(&mut self, unheard: Duration, now: Time) {
        for word in self.of.values_mut() {
            word.heard = (word.heard + unheard).min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heartbeat(from: u32, serial: u64, against: &[u32]) -> Heartbeat {
        let accusations = against.iter().map(|node| Accusation {
            node: NodeId(*node),
            incarnation: Incarnation(node + 10),
            why: Why::Silent,
        });
        Heartbeat {
            from: NodeId(from),
            incarnation: Incarnation(from + 10),
            serial,
            accusations: accusations.collect(),
        }
    }

    /// This is the format between nodes.
    #[test]
    fn the_bytes_never_change() {
        let mut sample = heartbeat(1, 0x0807_0605_0403_0201, &[2, 3]);
        sample.accusations[1].why = Why::NoControl;
        let bytes = sample.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected =
            "01020000010000000b0000000102030405060708020000000c00000001030000000d00000002";
        assert_eq!(hex, expected);
        assert_eq!(Heartbeat::decode(&bytes), Ok(sample));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = heartbeat(1, 1, &[2]).encode();
        let spoilt = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Heartbeat::decode(&bytes).unwrap_err()
        };
        assert_eq!(spoilt(0, 2), HeartbeatError::Version(2));
        assert_eq!(spoilt(1, 17), HeartbeatError::TooMany(17));
        assert_eq!(spoilt(28, 3), HeartbeatError::Why(3));
        let (found, expected) = (29, 38);
        assert_eq!(spoilt(1, 2), HeartbeatError::Length { found, expected });
        // Nobody holds more against others than fits.
        let many = heartbeat(1, 1, &(0..40).collect::<Vec<_>>());
        let read = Heartbeat::decode(&many.encode()).unwrap();
        assert_eq!(read.accusations, many.accusations[..16]);
    }

    proptest! {
        #[test]
        fn garbage_does_not_hurt(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(heartbeat) = Heartbeat::decode(&bytes) {
                let again = heartbeat.encode();
                prop_assert_eq!(&again[..2], &bytes[..2]);
                prop_assert_eq!(&again[4..], &bytes[4..]);
            }
        }
    }

    #[test]
    fn the_newest_word_counts_until_it_lapses() {
        let (mut words, ttl) = (Words::default(), Duration::from_secs(2));
        let at = |s| Time::ZERO + Duration::from_secs(s);
        let against = |words: &Words, node: u32, now| -> Vec<u32> {
            let about = words.against(NodeId(node), Incarnation(node + 10), now, ttl);
            about.map(|observer| observer.0).collect()
        };
        assert!(words.take(heartbeat(1, 1, &[7, 8]), at(0)));
        assert!(words.take(heartbeat(2, 1, &[7]), at(1)));
        assert_eq!(against(&words, 7, at(1)), [1, 2]);
        assert_eq!(against(&words, 8, at(2)), [1]);
        assert_eq!(against(&words, 7, at(3)), [2]);
        // Another life is another matter.
        let other = words.against(NodeId(7), Incarnation(18), at(1), ttl);
        assert_eq!(other.count(), 0);
        // What is not repeated is withdrawn, and old words come too late.
        assert!(words.take(heartbeat(1, 3, &[8]), at(3)));
        assert!(!words.take(heartbeat(1, 2, &[7]), at(3)));
        assert!(!words.take(heartbeat(1, 3, &[7]), at(3)));
        assert_eq!(against(&words, 7, at(3)), [2]);
        words.forgive(Duration::from_secs(9), at(9));
        assert_eq!(against(&words, 7, at(10)), [2]);
        words.retain(|observer, _| observer != NodeId(2));
        assert_eq!(against(&words, 7, at(3)), [0_u32; 0]);
    }
}
