//! How a node comes into the log: one of its starts gets one life.

use core::fmt;

use rand::RngExt;

use crate::base::fields::{FieldError, FieldReader};
use crate::base::rng::Rng;
use crate::cluster::member_codec::{put_join, read_join};
use crate::consensus::peer::{DiskId, PeerId};
use crate::membership::change::Join;

/// One start of a node's process: a random number that it draws when it starts.
///
/// The log gives an incarnation to a *start*. So a process never takes for its own the life that one before it asked for
/// and did not live to hear of, and however often a request is made, it leads to one life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartId(pub u64);

impl StartId {
    /// A new one.
    #[must_use]
    pub fn mint(rng: &mut Rng) -> StartId {
        StartId(rng.random())
    }
}

impl fmt::Debug for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start-{:016x}", self.0)
    }
}

/// A node is let in: it gets the next incarnation, and its disk takes part in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who comes in.
    pub join: Join,
    /// On which disk it keeps its part of the log.
    pub disk: DiskId,
    /// Which start of it this is.
    pub start: StartId,
}

impl Admission {
    /// The peer of the log that the node is.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        PeerId::new(self.join.node, self.disk)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_join(out, &self.join);
        out.extend_from_slice(&self.disk.number().to_le_bytes());
        out.extend_from_slice(&self.start.0.to_le_bytes());
    }

    pub(super) fn read(fields: &mut FieldReader<'_>) -> Result<Admission, FieldError> {
        Ok(Admission {
            join: read_join(fields)?,
            disk: read_disk(fields)?,
            start: StartId(fields.u64()?),
        })
    }
}

pub(super) fn read_disk(fields: &mut FieldReader<'_>) -> Result<DiskId, FieldError> {
    DiskId::from_number(fields.u32()?).ok_or_else(|| fields.error("a disk has the number 0"))
}

pub(super) fn read_peer(fields: &mut FieldReader<'_>) -> Result<PeerId, FieldError> {
    PeerId::from_number(fields.u64()?).ok_or_else(|| fields.error("a peer has no disk"))
}
