//! What the coordination cores of two nodes say to each other over their control connection, and how it looks in frames.
//!
//! | kind of frame | what | form |
//! |---|---|---|
//! | `Consensus` | a message of the log | [`consensus::message`](crate::consensus::message) |
//! | `Heartbeat` | a sign of life | [`accusation`](crate::membership::accusation) |
//! | `Membership` | 1 founding, 2 request to join, 3 answer to it, 4 the end of a life | version, number, fields |
//! | `Report` | 1 an accusation for the leader, 2 shards that somebody wants, 3 word for a node that leaves | version, number, fields |
//!
//! A message that was decoded is bounded and sound in itself. Whether its sender may say it is for
//! [`ClusterNode`](crate::cluster::node::ClusterNode) to see.

use thiserror::Error;

use crate::base::fields::{FieldError, FieldReader, put_count};
use crate::base::ids::{Incarnation, NodeId, ShardKey};
use crate::cluster::command::{MAX_SHARDS_PER_COMMAND, put_shard, read_shard};
use crate::cluster::join_request::{JoinAnswer, JoinRequest};
use crate::consensus::founding::FoundingMessage;
use crate::consensus::message::{DecodeError, EncodeError, Message};
use crate::consensus::peer::NodeLife;
use crate::consensus::settings::MAX_MESSAGE_BYTES;
use crate::membership::accusation::{Heartbeat, HeartbeatError};
use crate::wire::kind::Kind;

/// The form in which this build writes what has no form of its own.
pub const CONTROL_VERSION: u8 = 1;

/// No control message is longer, whatever the settings say.
pub const MAX_CONTROL_BYTES: usize = MAX_MESSAGE_BYTES;

/// The most shards of one [`ControlMessage::Want`].
pub const MAX_WANTED_PER_MESSAGE: usize = MAX_SHARDS_PER_COMMAND;

/// One message from one coordination core to another.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlMessage {
    /// Of the log.
    Consensus(Box<Message>),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Of the founding of a cluster.
    Founding(Box<FoundingMessage>),
    /// The sender asks to be let in.
    JoinRequest(Box<JoinRequest>),
    /// What it is answered.
    JoinAnswer(Box<JoinAnswer>),
    /// The receiver, or what it takes itself for, has ended: the log says so.
    LifeEnded(NodeLife),
    /// Two observers cannot reach a node; for the leader, who alone may propose that it is down.
    Accuse {
        /// The life of the sender.
        by: Incarnation,
        /// The life that cannot be reached.
        life: NodeLife,
    },
    /// Somebody wants shards that nobody owns; for the leader.
    Want {
        /// The life of the sender.
        by: Incarnation,
        /// The shards.
        shards: Vec<ShardKey>,
    },
    /// Nothing of the sender goes by the receiver any more, which leaves and owns nothing.
    Parted {
        /// The life of the sender.
        by: Incarnation,
        /// That of the receiver.
        with: NodeLife,
    },
}

/// Bytes that are no control message. Nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// A frame of this kind holds no control message.
    #[error("a frame of kind `{0}` holds no control message that this node knows")]
    Kind(Kind),
    /// It is longer than any.
    #[error("a control message has {0} bytes; at most {MAX_CONTROL_BYTES} are taken")]
    TooLong(usize),
    /// It was written by another build.
    #[error(
        "a control message has form {0}, and this node reads form {CONTROL_VERSION}; update the older node"
    )]
    Version(u8),
    /// Its fields are not what they should be.
    #[error("a control message of kind `{kind}` cannot be read: {error}")]
    Malformed {
        /// The kind of its frame.
        kind: Kind,
        /// What is wrong, and where.
        error: FieldError,
    },
    /// It is no message of the log.
    #[error(transparent)]
    Consensus(#[from] DecodeError),
    /// It is no heartbeat.
    #[error(transparent)]
    Heartbeat(#[from] HeartbeatError),
}

const FOUNDING: u8 = 1;
const JOIN_REQUEST: u8 = 2;
const JOIN_ANSWER: u8 = 3;
const LIFE_ENDED: u8 = 4;
const ACCUSE: u8 = 1;
const WANT: u8 = 2;
const PARTED: u8 = 3;

impl ControlMessage {
    /// The kind of its frame.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            ControlMessage::Consensus(_) => Kind::Consensus,
            ControlMessage::Heartbeat(_) => Kind::Heartbeat,
            ControlMessage::Founding(_)
            | ControlMessage::JoinRequest(_)
            | ControlMessage::JoinAnswer(_)
            | ControlMessage::LifeEnded(_) => Kind::Membership,
            ControlMessage::Accuse { .. }
            | ControlMessage::Want { .. }
            | ControlMessage::Parted { .. } => Kind::Report,
        }
    }

    /// Whether whoever takes it has something to write because of it, for which the disk should have room.
    #[must_use]
    pub fn is_to_be_written(&self) -> bool {
        match self {
            ControlMessage::Consensus(message) => message.body.adds_to_log(),
            // Promises are written one by one.
            ControlMessage::Founding(_) => true,
            ControlMessage::Heartbeat(_)
            | ControlMessage::JoinRequest(_)
            | ControlMessage::JoinAnswer(_)
            | ControlMessage::LifeEnded(_)
            | ControlMessage::Accuse { .. }
            | ControlMessage::Want { .. }
            | ControlMessage::Parted { .. } => false,
        }
    }

    /// The message as content of a frame of this kind.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for a message of the log that is too long, which none of a node with checked settings is.
    pub fn encode(self) -> Result<(Kind, Vec<u8>), EncodeError> {
        let kind = self.kind();
        let mut out = vec![CONTROL_VERSION];
        match self {
            ControlMessage::Consensus(message) => return Ok((kind, message.encode()?)),
            ControlMessage::Heartbeat(heartbeat) => return Ok((kind, heartbeat.encode())),
            ControlMessage::Founding(message) => {
                out.push(FOUNDING);
                out.extend_from_slice(&message.encode());
            }
            ControlMessage::JoinRequest(request) => {
                out.push(JOIN_REQUEST);
                request.put(&mut out);
            }
            ControlMessage::JoinAnswer(answer) => {
                out.push(JOIN_ANSWER);
                answer.put(&mut out);
            }
            ControlMessage::LifeEnded(life) => {
                out.push(LIFE_ENDED);
                put_life(&mut out, life);
            }
            ControlMessage::Accuse { by, life } => {
                out.push(ACCUSE);
                out.extend_from_slice(&by.0.to_le_bytes());
                put_life(&mut out, life);
            }
            ControlMessage::Want { by, shards } => {
                out.push(WANT);
                out.extend_from_slice(&by.0.to_le_bytes());
                let shards = &shards[..shards.len().min(MAX_WANTED_PER_MESSAGE)];
                put_count(&mut out, shards.len());
                shards.iter().for_each(|shard| put_shard(&mut out, *shard));
            }
            ControlMessage::Parted { by, with } => {
                out.push(PARTED);
                out.extend_from_slice(&by.0.to_le_bytes());
                put_life(&mut out, with);
            }
        }
        Ok((kind, out))
    }

    /// Reads the content of a frame.
    ///
    /// # Errors
    ///
    /// [`MessageError`] says what is wrong. Memory is set aside for nothing that could not be there.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<ControlMessage, MessageError> {
        if bytes.len() > MAX_CONTROL_BYTES {
            return Err(MessageError::TooLong(bytes.len()));
        }
        let read = match kind {
            Kind::Consensus => {
                return Ok(ControlMessage::Consensus(Box::new(Message::decode(bytes)?)));
            }
            Kind::Heartbeat => {
                return Ok(ControlMessage::Heartbeat(Heartbeat::decode(bytes)?));
            }
            Kind::Membership => read_membership,
            Kind::Report => read_report,
            _ => return Err(MessageError::Kind(kind)),
        };
        let malformed = |error| MessageError::Malformed { kind, error };
        let mut fields = FieldReader::new(bytes);
        let version = fields.u8().map_err(malformed)?;
        if version != CONTROL_VERSION {
            return Err(MessageError::Version(version));
        }
        let message = read(&mut fields).map_err(malformed)?;
        fields.end().map_err(malformed)?;
        Ok(message)
    }
}

fn read_membership(fields: &mut FieldReader<'_>) -> Result<ControlMessage, FieldError> {
    Ok(match fields.u8()? {
        FOUNDING => {
            let bytes = fields.bytes(fields.remaining())?;
            let message = FoundingMessage::decode(bytes);
            let message = message.ok_or_else(|| fields.error("it is no message of a founding"))?;
            ControlMessage::Founding(Box::new(message))
        }
        JOIN_REQUEST => ControlMessage::JoinRequest(Box::new(JoinRequest::read(fields)?)),
        JOIN_ANSWER => ControlMessage::JoinAnswer(Box::new(JoinAnswer::read(fields)?)),
        LIFE_ENDED => ControlMessage::LifeEnded(read_life(fields)?),
        _ => return Err(fields.error("there is no such message about members")),
    })
}

fn read_report(fields: &mut FieldReader<'_>) -> Result<ControlMessage, FieldError> {
    Ok(match fields.u8()? {
        ACCUSE => ControlMessage::Accuse {
            by: Incarnation(fields.u32()?),
            life: read_life(fields)?,
        },
        WANT => {
            let by = Incarnation(fields.u32()?);
            let count = fields.count(6)?;
            if count > MAX_WANTED_PER_MESSAGE {
                return Err(fields.error("more shards are wanted than a message may name"));
            }
            let shards = (0..count).map(|_| read_shard(fields));
            let shards = shards.collect::<Result<_, _>>()?;
            ControlMessage::Want { by, shards }
        }
        PARTED => ControlMessage::Parted {
            by: Incarnation(fields.u32()?),
            with: read_life(fields)?,
        },
        _ => return Err(fields.error("there is no such report")),
    })
}

fn put_life(out: &mut Vec<u8>, life: NodeLife) {
    out.extend_from_slice(&life.node.0.to_le_bytes());
    out.extend_from_slice(&life.incarnation.0.to_le_bytes());
}

fn read_life(fields: &mut FieldReader<'_>) -> Result<NodeLife, FieldError> {
    Ok(NodeLife {
        node: NodeId(fields.u32()?),
        incarnation: Incarnation(fields.u32()?),
    })
}
