//! What a node must not forget about itself, beside its part of the log.
//!
//! It and the log live and die together: a directory that has one without the other is damaged. How it is written is the
//! [`ledger`](crate::cluster::ledger)'s business.

use crate::base::fields::{FieldError, FieldReader, put_count};
use crate::base::ids::Incarnation;
use crate::cluster::admission::read_peer;
use crate::consensus::founding::{Founding, MAX_FOUNDERS, Promise};
use crate::consensus::peer::DiskId;

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
