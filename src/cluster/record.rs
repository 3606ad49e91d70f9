//! What a node writes down about itself, beside its part of the log.
//!
//! It is small and always written as a whole. Whoever stores it replaces the former one in one step and guards it with a
//! checksum. It and the log live and die together: a directory that has one without the other is damaged.

use thiserror::Error;

use crate::base::fields::{FieldError, FieldReader, put_count};
use crate::base::ids::Incarnation;
use crate::cluster::admission::read_peer;
use crate::consensus::founding::{Ballot, Founding, MAX_FOUNDERS, Promise};
use crate::consensus::peer::DiskId;

/// The form in which this build writes.
pub const RECORD_VERSION: u8 = 1;

/// What a node must not forget about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// Which data directory this is. `None` in one that has never been used.
    pub disk: Option<DiskId>,
    /// The cluster to which the node belongs, and how that began.
    pub founding: Option<Founding>,
    /// What it has promised to other founders.
    pub promise: Promise,
    /// Its last life that it has heard of.
    pub incarnation: Option<Incarnation>,
}

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It was written by a newer build.
    #[error(
        "the node's record has version {0}, which a newer corecast has written than this one, which reads up to \
         {RECORD_VERSION}; update this node"
    )]
    Version(u8),
    /// It is damaged, or was never a record.
    #[error("the node's record cannot be read: {0}; restore the directory or replace the disk")]
    Malformed(#[from] FieldError),
}

impl NodeRecord {
    /// The record as it is written, at most a few kilobytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![RECORD_VERSION];
        out.extend_from_slice(&self.disk.map_or(0, DiskId::number).to_le_bytes());
        out.extend_from_slice(&self.incarnation.unwrap_or_default().0.to_le_bytes());
        out.push(u8::from(self.founding.is_some()));
        if let Some(founding) = &self.founding {
            put_founding(&mut out, founding);
        }
        put_ballot(&mut out, self.promise.promised);
        out.push(u8::from(self.promise.accepted.is_some()));
        if let Some((ballot, founding)) = &self.promise.accepted {
            put_ballot(&mut out, *ballot);
            put_founding(&mut out, founding);
        }
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`RecordError`] says which byte is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<NodeRecord, RecordError> {
        let mut fields = FieldReader::new(bytes);
        let version = fields.u8()?;
        if version != RECORD_VERSION {
            return Err(RecordError::Version(version));
        }
        let disk = DiskId::from_number(fields.u32()?);
        let incarnation = Some(Incarnation(fields.u32()?)).filter(|life| life.0 != 0);
        let founding = match fields.flag()? {
            true => Some(read_founding(&mut fields)?),
            false => None,
        };
        let promised = read_ballot(&mut fields)?;
        let accepted = match fields.flag()? {
            true => Some((read_ballot(&mut fields)?, read_founding(&mut fields)?)),
            false => None,
        };
        fields.end()?;
        Ok(NodeRecord {
            disk,
            founding,
            promise: Promise { promised, accepted },
            incarnation,
        })
    }
}

fn put_ballot(out: &mut Vec<u8>, ballot: Ballot) {
    out.extend_from_slice(&ballot.round.to_le_bytes());
    out.extend_from_slice(&ballot.peer.to_le_bytes());
}

fn read_ballot(fields: &mut FieldReader<'_>) -> Result<Ballot, FieldError> {
    Ok(Ballot {
        round: fields.u64()?,
        peer: fields.u64()?,
    })
}

pub(super) fn put_founding(out: &mut Vec<u8>, founding: &Founding) {
    out.extend_from_slice(&founding.cluster.to_le_bytes());
    put_count(out, founding.voters.len());
    for voter in &founding.voters {
        out.extend_from_slice(&voter.to_le_bytes());
    }
}

pub(super) fn read_founding(fields: &mut FieldReader<'_>) -> Result<Founding, FieldError> {
    let cluster = fields.u128()?;
    let count = fields.count(8)?;
    if !(1..=MAX_FOUNDERS).contains(&count) {
        return Err(fields.error("a cluster has no founders, or more than there may be"));
    }
    let voters: Vec<u64> = (0..count)
        .map(|_| read_peer(fields).map(|peer| peer.number()))
        .collect::<Result<_, _>>()?;
    // In order, and so none twice.
    if !voters.is_sorted_by(|one, other| one < other) {
        return Err(fields.error("the founders are not in order"));
    }
    Ok(Founding { cluster, voters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> NodeRecord {
        let founding = Founding {
            cluster: 0xAB,
            voters: vec![1 << 32 | 5, 2 << 32 | 6],
        };
        let ballot = |round| Ballot {
            round,
            peer: 1 << 32 | 5,
        };
        NodeRecord {
            disk: DiskId::from_number(5),
            founding: Some(founding.clone()),
            promise: Promise {
                promised: ballot(3),
                accepted: Some((ballot(2), founding)),
            },
            incarnation: Some(Incarnation(9)),
        }
    }

    /// Directories of earlier builds have it.
    #[test]
    fn the_bytes_never_change() {
        let hex: String = sample()
            .to_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let founding =
            "ab000000000000000000000000000000 02000000 0500000001000000 0600000002000000";
        let ballot = |round| format!("0{round}00000000000000 0500000001000000");
        let expected = format!(
            "01 05000000 09000000 01 {founding} {} 01 {} {founding}",
            ballot(3),
            ballot(2)
        );
        assert_eq!(hex, expected.replace(' ', ""));
        assert_eq!(NodeRecord::from_bytes(&sample().to_bytes()), Ok(sample()));
        let empty = NodeRecord::default();
        assert_eq!(NodeRecord::from_bytes(&empty.to_bytes()), Ok(empty));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = sample().to_bytes();
        for length in 0..whole.len() {
            assert!(NodeRecord::from_bytes(&whole[..length]).is_err());
        }
        assert_eq!(NodeRecord::from_bytes(&[2]), Err(RecordError::Version(2)));
        let mut twice = sample();
        twice.founding.as_mut().unwrap().voters = vec![1 << 32 | 5; 2];
        let error = NodeRecord::from_bytes(&twice.to_bytes()).unwrap_err();
        assert!(error.to_string().contains("not in order"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = NodeRecord::from_bytes(&bytes) {
                prop_assert_eq!(record.to_bytes(), bytes);
            }
        }
    }
}
