//! What each side of a new connection says about itself, and what must agree.

use super::address::Life;
use super::difference::Differences;
use super::error::WireError;
use super::header::FORMAT;
use super::kind::Kind;
use super::limits::FrameLimits;
use super::preamble::Purpose;
use super::tables::Tables;
use crate::base::fields::{FieldError, FieldReader, put_text};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use std::sync::Arc;

/// The longest name of a cluster, in bytes.
pub const MAX_CLUSTER_NAME: usize = 128;
/// The longest advertised address, in bytes.
pub const MAX_ADDRESS: usize = 255;

/// Which hash places entities: 1 is XXH3 with our seed ([`stable_hash`](crate::base::stable_hash)).
pub const PLACEMENT_HASH: u32 = 1;

/// What a node says of itself on every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name: 1 to 128 bytes without control characters.
    pub cluster: String,
    /// The cluster's id, once it was formed.
    pub cluster_id: Option<u128>,
    /// The node and its life; neither is zero. A client draws one for itself.
    pub life: Life,
    /// How many cores take connections; cores are counted from 0.
    pub cores: u16,
    /// Where others reach the node: at most 255 bytes, empty for a client.
    pub advertised: String,
    /// The limits of its connections.
    pub limits: FrameLimits,
    /// The types that it knows.
    pub tables: Arc<Tables>,
}

/// Why an identity cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The name of the cluster.
    #[error(
        "the cluster's name `{0}` must have 1 to {MAX_CLUSTER_NAME} bytes and no control characters"
    )]
    Cluster(String),
    /// The advertised address.
    #[error(
        "the advertised address `{0}` must have no more than {MAX_ADDRESS} bytes and no control characters"
    )]
    Advertised(String),
    /// An id or a life of zeros, or no cores.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] super::limits::LimitError),
}

impl Identity {
    /// Checks it, before any connection is made with it.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check(self) -> Result<CheckedIdentity, IdentityError> {
        let is_clean = |text: &str| !text.chars().any(char::is_control);
        if !(1..=MAX_CLUSTER_NAME).contains(&self.cluster.len()) || !is_clean(&self.cluster) {
            return Err(IdentityError::Cluster(self.cluster));
        }
        if self.advertised.len() > MAX_ADDRESS || !is_clean(&self.advertised) {
            return Err(IdentityError::Advertised(self.advertised));
        }
        for (what, is_zero) in [
            ("the cluster's id", self.cluster_id == Some(0)),
            ("the node's id", self.life.node.0 == 0),
            ("the node's incarnation", self.life.incarnation.0 == 0),
            ("the number of cores", self.cores == 0),
        ] {
            if is_zero {
                return Err(IdentityError::Zero(what));
            }
        }
        self.limits.check()?;
        Ok(CheckedIdentity {
            digest: self.tables.digest(),
            identity: self,
        })
    }
}

/// An [`Identity`] with which connections can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedIdentity {
    identity: Identity,
    digest: u64,
}

impl CheckedIdentity {
    /// What was checked.
    #[must_use]
    pub fn get(&self) -> &Identity {
        &self.identity
    }

    /// What it says on one connection.
    pub(crate) fn hello(&self, purpose: Purpose, core: CoreId) -> Hello {
        let identity = &self.identity;
        Hello {
            purpose,
            life: identity.life,
            core,
            cores: identity.cores,
            format: FORMAT,
            placement_hash: PLACEMENT_HASH,
            frame_bytes: identity.limits.frame_bytes as u64,
            tables: self.digest,
            cluster_id: identity.cluster_id,
            cluster: identity.cluster.clone(),
            advertised: identity.advertised.clone(),
        }
    }
}

/// What one side of a connection says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The node and its life.
    pub life: Life,
    /// The core at this end of the connection.
    pub core: CoreId,
    /// How many cores take connections.
    pub cores: u16,
    /// The format of its frames; must agree.
    pub format: u8,
    /// The hash that places entities; must agree.
    pub placement_hash: u32,
    /// The largest frame; must agree.
    pub frame_bytes: u64,
    /// Digest of the types that it knows.
    pub tables: u64,
    /// The cluster's id, once it was formed; must agree where both know one.
    pub cluster_id: Option<u128>,
    /// The cluster's name; must agree.
    pub cluster: String,
    /// Where others reach the node.
    pub advertised: String,
}

impl Hello {
    /// Notes in what the other side differs.
    pub(crate) fn compare(&self, there: &Hello, differences: &mut Differences) {
        differences.compare(
            "cluster name",
            quoted(&self.cluster),
            quoted(&there.cluster),
        );
        if let (Some(here), Some(there)) = (self.cluster_id, there.cluster_id) {
            let hex = |id: u128| format!("{id:032x}");
            differences.compare("cluster id", hex(here), hex(there));
        }
        let is_member = |hello: &Hello| hello.purpose != Purpose::Client;
        if self.life.node == there.life.node && is_member(self) && is_member(there) {
            if self.life == there.life {
                differences.add("node", self.life, "the same: it is connected to itself");
            } else {
                differences.add("node", self.life, there.life);
            }
        }
        differences.compare("purpose of the connection", self.purpose, there.purpose);
        differences.compare("format of frames", self.format, there.format);
        differences.compare("placement hash", self.placement_hash, there.placement_hash);
        differences.compare(
            "largest frame in bytes",
            self.frame_bytes,
            there.frame_bytes,
        );
    }

    /// As content of a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.purpose.code(), self.format];
        out.extend_from_slice(&self.life.node.0.to_le_bytes());
        out.extend_from_slice(&self.life.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.core.0.to_le_bytes());
        out.extend_from_slice(&self.cores.to_le_bytes());
        out.extend_from_slice(&self.placement_hash.to_le_bytes());
        out.extend_from_slice(&self.frame_bytes.to_le_bytes());
        out.extend_from_slice(&self.tables.to_le_bytes());
        out.extend_from_slice(&self.cluster_id.unwrap_or(0).to_le_bytes());
        put_text(&mut out, &self.cluster);
        put_text(&mut out, &self.advertised);
        out
    }

    /// From the content of a frame of kind `kind`.
    pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Result<Hello, WireError> {
        let malformed = |error| WireError::Content { kind, error };
        let mut fields = FieldReader::new(bytes);
        let purpose = fields.u8().map_err(malformed)?;
        let purpose = Purpose::from_code(purpose).ok_or(WireError::UnknownValue {
            field: "purpose",
            value: u32::from(purpose),
        })?;
        Hello::read(purpose, fields).map_err(malformed)
    }

    fn read(purpose: Purpose, mut fields: FieldReader<'_>) -> Result<Hello, FieldError> {
        let format = fields.u8()?;
        let life = Life::new(NodeId(fields.u32()?), Incarnation(fields.u32()?));
        if life.node.0 == 0 || life.incarnation.0 == 0 {
            return Err(fields.error("its node id or its incarnation is zero"));
        }
        let (core, cores) = (CoreId(fields.u16()?), fields.u16()?);
        if core.0 >= cores {
            return Err(fields.error("its core is none of its cores"));
        }
        let hello = Hello {
            purpose,
            format,
            life,
            core,
            cores,
            placement_hash: fields.u32()?,
            frame_bytes: fields.u64()?,
            tables: fields.u64()?,
            cluster_id: Some(fields.u128()?).filter(|id| *id != 0),
            cluster: fields.text(MAX_CLUSTER_NAME)?.to_owned(),
            advertised: fields.text(MAX_ADDRESS)?.to_owned(),
        };
        fields.end()?;
        Ok(hello)
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}
