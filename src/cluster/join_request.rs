//! What a node outside says to be let in, and what it is answered.

use core::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::base::fields::{FieldError, FieldReader, put_count, put_text};
use crate::base::ids::{Incarnation, NodeId};
use crate::cluster::admission::{Admission, StartId};
use crate::cluster::command::{put_spec, read_spec};
use crate::cluster::member_codec::{put_address, read_address};
use crate::cluster::record::{put_founding, read_founding};
use crate::consensus::founding::Founding;
use crate::consensus::peer::ClusterId;
use crate::consensus::settings::ConsensusSettings;
use crate::membership::change::ChangeError;
use crate::sharding::ownership::{TypeError, TypeSpec};
use crate::wire::difference::Differences;
use crate::wire::hello::PLACEMENT_HASH;

/// The most entity types of one node.
pub const MAX_TYPES_PER_NODE: usize = 1_024;

const MAX_TEXT_BYTES: usize = 512;
/// Differences are clipped to less.
const MAX_DIFFERENCES_BYTES: usize = 4_096;

/// A node asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Who it is.
    pub admission: Admission,
    /// The cluster to which it belongs already, if it does.
    pub cluster: Option<ClusterId>,
    /// What has to be the same everywhere.
    pub settings: SharedSettings,
    /// The entity types that it has.
    pub types: Vec<TypeSpec>,
}

/// Settings that have to be the same on every node of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// The hash that places entities.
    pub placement_hash: u32,
    /// See [`ConsensusSettings::heartbeat`].
    pub heartbeat: Duration,
    /// See [`ConsensusSettings::election_min`].
    pub election_min: Duration,
    /// See [`ConsensusSettings::election_max`].
    pub election_max: Duration,
    /// See [`ConsensusSettings::lease`].
    pub lease: Duration,
}

impl From<&ConsensusSettings> for SharedSettings {
    fn from(settings: &ConsensusSettings) -> SharedSettings {
        SharedSettings {
            placement_hash: PLACEMENT_HASH,
            heartbeat: settings.heartbeat,
            election_min: settings.election_min,
            election_max: settings.election_max,
            lease: settings.lease,
        }
    }
}

impl SharedSettings {
    /// Notes in what another node differs.
    pub fn compare(&self, there: &SharedSettings, differences: &mut Differences) {
        differences.compare("placement hash", self.placement_hash, there.placement_hash);
        let times = [
            ("setting `heartbeat`", self.heartbeat, there.heartbeat),
            (
                "setting `election_min`",
                self.election_min,
                there.election_min,
            ),
            (
                "setting `election_max`",
                self.election_max,
                there.election_max,
            ),
            ("setting `lease`", self.lease, there.lease),
        ];
        for (what, here, there) in times {
            differences.compare(what, format!("{here:?}"), format!("{there:?}"));
        }
    }
}

/// The answer to a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// The start that had asked.
    pub start: StartId,
    /// What is said to it.
    pub says: JoinSays,
}

/// What is said to a node that asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinSays {
    /// It is a member.
    Admitted {
        /// Its life.
        incarnation: Incarnation,
        /// The cluster.
        founding: Founding,
    },
    /// Its previous life has to end first, since it may still hold a lease.
    Waits {
        /// The life that ends.
        previous: Incarnation,
        /// How long that takes, as far as is known.
        at_most: Duration,
    },
    /// Ask the leader; if it is not known, ask again, or ask another.
    Ask(Option<(NodeId, SocketAddr)>),
    /// Too many are being let in. Ask again.
    Busy,
    /// No.
    Refused(JoinRefused),
}

/// Why a node is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinRefused {
    /// It differs in what all nodes have to agree on.
    #[error("it differs from the cluster: {0}")]
    Differs(Differences),
    /// A live node elsewhere has its id. If that is its own former life, that one is declared down in time.
    #[error(
        "the live node of this id is at {holder}; give one of them another node id, or wait until it is down"
    )]
    NodeIdTaken {
        /// Where the other one is.
        holder: SocketAddr,
    },
    /// A live node has its address.
    #[error("the live {holder} has the same advertised address")]
    AddressTaken {
        /// Who has it.
        holder: NodeId,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Impossible(String),
    /// There are as many members as there may be.
    #[error("the cluster has {members} members, the most there may be")]
    Full {
        /// How many.
        members: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "this is cluster {cluster}, and it belongs to another; empty the directory of one of them"
    )]
    OtherCluster {
        /// The cluster that was asked.
        cluster: ClusterId,
    },
    /// This start of it has had its life.
    #[error("its {incarnation} has ended; it joins again when it starts again")]
    LifeEnded {
        /// The life that it has had.
        incarnation: Incarnation,
    },
}

impl JoinRefused {
    /// Whether asking again leads to the same answer, until somebody changes something by hand.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, JoinRefused::Differs(_) | JoinRefused::Impossible(_))
    }
}

impl From<&ChangeError> for JoinRefused {
    fn from(error: &ChangeError) -> JoinRefused {
        match *error {
            ChangeError::NodeIdTaken { holder, .. } => JoinRefused::NodeIdTaken { holder },
            ChangeError::AddressTaken { holder, .. } => JoinRefused::AddressTaken { holder },
            ChangeError::Full { members, .. } => JoinRefused::Full {
                members: u32::try_from(members).unwrap_or(u32::MAX),
            },
            _ => impossible(error),
        }
    }
}

impl From<&TypeError> for JoinRefused {
    fn from(error: &TypeError) -> JoinRefused {
        match error {
            TypeError::Differs {
                name,
                what,
                here,
                cluster,
            } => {
                let mut differences = Differences::default();
                // Here is where the type is known.
                differences.add(&format!("{what} of entity type `{name}`"), cluster, here);
                JoinRefused::Differs(differences)
            }
            _ => impossible(error),
        }
    }
}

fn impossible(error: &dyn core::fmt::Display) -> JoinRefused {
    let text = error.to_string();
    let printable = text.chars().filter(|c| !c.is_control());
    // At most four bytes each.
    JoinRefused::Impossible(printable.take(MAX_TEXT_BYTES / 4).collect())
}

impl JoinRequest {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.admission.put(out);
        out.push(u8::from(self.cluster.is_some()));
        out.extend_from_slice(&self.cluster.map_or(0, |cluster| cluster.0).to_le_bytes());
        let settings = &self.settings;
        out.extend_from_slice(&settings.placement_hash.to_le_bytes());
        for time in [
            settings.heartbeat,
            settings.election_min,
            settings.election_max,
            settings.lease,
        ] {
            put_time(out, time);
        }
        put_count(out, self.types.len());
        self.types.iter().for_each(|spec| put_spec(out, spec));
    }

    pub(super) fn read(fields: &mut FieldReader<'_>) -> Result<JoinRequest, FieldError> {
        let admission = Admission::read(fields)?;
        let belongs = fields.flag()?;
        let cluster = fields.u128()?;
        if !belongs && cluster != 0 {
            return Err(fields.error("it belongs to no cluster, and names one"));
        }
        let cluster = belongs.then_some(ClusterId(cluster));
        let settings = SharedSettings {
            placement_hash: fields.u32()?,
            heartbeat: read_time(fields)?,
            election_min: read_time(fields)?,
            election_max: read_time(fields)?,
            lease: read_time(fields)?,
        };
        let count = fields.count(9)?;
        if count > MAX_TYPES_PER_NODE {
            return Err(fields.error("more entity types than a node may have"));
        }
        Ok(JoinRequest {
            admission,
            cluster,
            settings,
            types: (0..count)
                .map(|_| read_spec(fields))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl JoinAnswer {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.0.to_le_bytes());
        match &self.says {
            JoinSays::Admitted {
                incarnation,
                founding,
            } => {
                out.push(1);
                out.extend_from_slice(&incarnation.0.to_le_bytes());
                put_founding(out, founding);
            }
            JoinSays::Waits { previous, at_most } => {
                out.push(2);
                out.extend_from_slice(&previous.0.to_le_bytes());
                put_time(out, *at_most);
            }
            JoinSays::Ask(None) => out.push(3),
            JoinSays::Ask(Some((leader, address))) => {
                out.push(4);
                out.extend_from_slice(&leader.0.to_le_bytes());
                put_address(out, *address);
            }
            JoinSays::Busy => out.push(5),
            JoinSays::Refused(refused) => refused.put(out),
        }
    }

    pub(super) fn read(fields: &mut FieldReader<'_>) -> Result<JoinAnswer, FieldError> {
        let start = StartId(fields.u64()?);
        let says = match fields.u8()? {
            1 => JoinSays::Admitted {
                incarnation: Incarnation(fields.u32()?),
                founding: read_founding(fields)?,
            },
            2 => JoinSays::Waits {
                previous: Incarnation(fields.u32()?),
                at_most: read_time(fields)?,
            },
            3 => JoinSays::Ask(None),
            4 => JoinSays::Ask(Some((NodeId(fields.u32()?), read_address(fields)?))),
            5 => JoinSays::Busy,
            tag => JoinSays::Refused(JoinRefused::read(tag, fields)?),
        };
        Ok(JoinAnswer { start, says })
    }
}

impl JoinRefused {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            JoinRefused::Differs(differences) => {
                out.push(16);
                let bytes = differences.encode();
                put_count(out, bytes.len());
                out.extend_from_slice(&bytes);
            }
            JoinRefused::NodeIdTaken { holder } => {
                out.push(17);
                put_address(out, *holder);
            }
            JoinRefused::AddressTaken { holder } => {
                out.push(18);
                out.extend_from_slice(&holder.0.to_le_bytes());
            }
            JoinRefused::Impossible(what) => {
                out.push(19);
                put_text(out, what);
            }
            JoinRefused::Full { members } => {
                out.push(20);
                out.extend_from_slice(&members.to_le_bytes());
            }
            JoinRefused::OtherCluster { cluster } => {
                out.push(21);
                out.extend_from_slice(&cluster.0.to_le_bytes());
            }
            JoinRefused::LifeEnded { incarnation } => {
                out.push(22);
                out.extend_from_slice(&incarnation.0.to_le_bytes());
            }
        }
    }

    fn read(tag: u8, fields: &mut FieldReader<'_>) -> Result<JoinRefused, FieldError> {
        Ok(match tag {
            16 => {
                let length = fields.count(1)?;
                if length > MAX_DIFFERENCES_BYTES {
                    return Err(fields.error("more differences than are ever named"));
                }
                let differences = Differences::decode(fields.bytes(length)?);
                let unreadable = |_| fields.error("the differences cannot be read");
                JoinRefused::Differs(differences.map_err(unreadable)?)
            }
            17 => JoinRefused::NodeIdTaken {
                holder: read_address(fields)?,
            },
            18 => JoinRefused::AddressTaken {
                holder: NodeId(fields.u32()?),
            },
            19 => JoinRefused::Impossible(fields.text(MAX_TEXT_BYTES)?.to_owned()),
            20 => JoinRefused::Full {
                members: fields.u32()?,
            },
            21 => JoinRefused::OtherCluster {
                cluster: ClusterId(fields.u128()?),
            },
            22 => JoinRefused::LifeEnded {
                incarnation: Incarnation(fields.u32()?),
            },
            _ => return Err(fields.error("there is no such answer to a node that joins")),
        })
    }
}

fn put_time(out: &mut Vec<u8>, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    out.extend_from_slice(&nanos.to_le_bytes());
}

fn read_time(fields: &mut FieldReader<'_>) -> Result<Duration, FieldError> {
    fields.u64().map(Duration::from_nanos)
}
