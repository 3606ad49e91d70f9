//! The datagrams of SWIM, byte by byte, and everything that can be wrong with one.
//!
//! ```text
//! 0   2         "cS"
//! 2   1         version of the format, 1
//! 3   1         0
//! 4   4         checksum of all that follows: the low half of its stable hash
//! 8   8         cluster
//! 16  ...       sender: identity, and its SWIM incarnation (2)
//!               receiver: identity
//!               message: tag (1), and what belongs to it
//!     2         how many updates follow, big-endian, unless the message carries none
//!     ...       each: identity, SWIM incarnation (2), state (1)
//!
//! identity: node (4), incarnation (4), generation (4), 4 or 6 (1), port (2), address (4 or 16)
//! ```
//!
//! Numbers are little-endian but for the count, which is foca's own. The largest datagram is 1,400 bytes, which no usual
//! network splits. A datagram is decoded as a whole before any of it has an effect, and no length in it is believed: it
//! costs no more memory than its own bytes are long. The checksum finds damage, not forgery; where peers are not trusted,
//! datagrams are sealed by whoever sends them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use thiserror::Error;

use crate::base::fields::FieldReader;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::stable_hash::stable_hash;
use crate::membership::identity::SwimId;

/// The most bytes of a datagram.
pub const MAX_DATAGRAM_BYTES: usize = 1_400;
/// What stands before that which foca writes.
pub(super) const ENVELOPE_BYTES: usize = 16;

const MAGIC: [u8; 2] = *b"cS";
const VERSION: u8 = 1;

/// Why a datagram was not taken. Nothing of it had an effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// It is larger than any that a node sends.
    #[error("the datagram has {bytes} bytes; nodes send at most {MAX_DATAGRAM_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It does not begin as ours do: somebody else sends to this port.
    #[error("the datagram is none of a cluster's: something else sends to this port")]
    Foreign,
    /// A node of another version has sent it.
    #[error(
        "the datagram has format {found}, this node speaks {VERSION}; run one version, or a newer one here"
    )]
    Version {
        /// The version that it names.
        found: u8,
    },
    /// It was damaged on its way.
    #[error("the datagram's checksum is wrong: it was damaged on its way")]
    Checksum,
    /// It comes from another cluster.
    #[error(
        "the datagram is of cluster {found:#018x}, this node is of {ours:#018x}; check the seeds of its sender"
    )]
    Cluster {
        /// The cluster it names.
        found: u64,
        /// This node's.
        ours: u64,
    },
    /// It ends too soon.
    #[error("the datagram ends at byte {at}, in the middle of something")]
    Truncated {
        /// Where more should be.
        at: usize,
    },
    /// Something in it has a number that means nothing.
    #[error("the datagram has {what} {found} before byte {at}, which this version does not know")]
    Unknown {
        /// What it is.
        what: &'static str,
        /// Its number.
        found: u8,
        /// Where it ends.
        at: usize,
    },
    /// Something follows that does not belong to it.
    #[error("the datagram has {bytes} bytes behind its end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// It names a node to which nothing could be sent.
    #[error(
        "the datagram names {node} at {address}, where nothing can be sent; set an advertised address on it"
    )]
    NoAddress {
        /// The node.
        node: NodeId,
        /// Its address.
        address: SocketAddr,
    },
    /// The sender says that it is this node.
    #[error(
        "{address} sends as {node}, which is this node at {ours}; two nodes have one id: give one of them another"
    )]
    FromOurselves {
        /// The node id of both.
        node: NodeId,
        /// Where the other one is.
        address: SocketAddr,
        /// Where this one is.
        ours: SocketAddr,
    },
    /// The sender is of a life that the log has ended.
    #[error("{node} sends in {incarnation}, which has ended; it has to join anew")]
    DeadIncarnation {
        /// The node.
        node: NodeId,
        /// The life that has ended.
        incarnation: Incarnation,
    },
    /// It is for another node.
    #[error("the datagram is for {node}, which is not here; its sender has an old address")]
    Misdirected {
        /// The node that it is for.
        node: NodeId,
    },
    /// There is no room to write it.
    #[error("there is no room for it in a datagram")]
    NoRoom,
}

/// The parts of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) header: Header<SwimId>,
    pub(super) updates: Vec<Member<SwimId>>,
}

impl Packet {
    /// Opens a datagram and reads all of it.
    pub(super) fn open(datagram: &[u8], cluster: u64) -> Result<Packet, DatagramError> {
        let bytes = datagram.len();
        if bytes > MAX_DATAGRAM_BYTES {
            return Err(DatagramError::TooLong { bytes });
        }
        let mut reader = FieldReader::new(datagram);
        if reader.array() != Ok(MAGIC) {
            return Err(DatagramError::Foreign);
        }
        let (Ok(version), Ok(_), Ok(checksum)) = (reader.u8(), reader.u8(), reader.u32()) else {
            return Err(DatagramError::Truncated { at: bytes });
        };
        // The version first: another one may have another checksum.
        if version != VERSION {
            return Err(DatagramError::Version { found: version });
        }
        if checksum != checksum_of(&datagram[reader.position()..]) {
            return Err(DatagramError::Checksum);
        }
        match reader.u64() {
            Err(_) => return Err(DatagramError::Truncated { at: bytes }),
            Ok(found) if found != cluster => {
                let ours = cluster;
                return Err(DatagramError::Cluster { found, ours });
            }
            Ok(_) => {}
        }
        Packet::read(&mut reader)
    }

    fn read(reader: &mut FieldReader<'_>) -> Result<Packet, DatagramError> {
        let header = read_header(reader)?;
        let mut updates = Vec::new();
        if carries_updates(&header.message) {
            let count: [u8; 2] = reader.array().map_err(|_| truncated(reader))?;
            for _ in 0..u16::from_be_bytes(count) {
                updates.push(read_member(reader)?);
            }
        }
        match reader.remaining() {
            0 => Ok(Packet { header, updates }),
            bytes => Err(DatagramError::Trailing { bytes }),
        }
    }

    /// What foca reads.
    pub(super) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(MAX_DATAGRAM_BYTES);
        write_header(&self.header, &mut body);
        if carries_updates(&self.header.message) {
            // Each of them took at least a byte of a datagram.
            let count = u16::try_from(self.updates.len()).unwrap_or(u16::MAX);
            body.extend_from_slice(&count.to_be_bytes());
            for member in &self.updates {
                write_member(member, &mut body);
            }
        }
        body
    }
}

/// Puts what foca has written into a datagram of this cluster.
pub(super) fn seal(cluster: u64, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(ENVELOPE_BYTES + body.len());
    datagram.extend_from_slice(&MAGIC);
    datagram.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
    datagram.extend_from_slice(&cluster.to_le_bytes());
    datagram.extend_from_slice(body);
    let checksum = checksum_of(&datagram[8..]);
    datagram[4..8].copy_from_slice(&checksum.to_le_bytes());
    datagram
}

fn checksum_of(bytes: &[u8]) -> u32 {
    stable_hash(bytes) as u32
}

/// Writes and reads what foca asks for.
#[derive(Debug)]
pub(super) struct SwimCodec;

impl foca::Codec<SwimId> for SwimCodec {
    type Error = DatagramError;

    fn encode_header(
        &mut self,
        header: &Header<SwimId>,
        buf: impl BufMut,
    ) -> Result<(), DatagramError> {
        put(buf, |bytes| write_header(header, bytes))
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<SwimId>, DatagramError> {
        take(buf, read_header)
    }

    fn encode_member(
        &mut self,
        member: &Member<SwimId>,
        buf: impl BufMut,
    ) -> Result<(), DatagramError> {
        put(buf, |bytes| write_member(member, bytes))
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<SwimId>, DatagramError> {
        take(buf, read_member)
    }
}

/// Writes all of it or nothing.
fn put(mut buf: impl BufMut, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), DatagramError> {
    let mut bytes = Vec::with_capacity(96);
    write(&mut bytes);
    if buf.remaining_mut() < bytes.len() {
        return Err(DatagramError::NoRoom);
    }
    buf.put_slice(&bytes);
    Ok(())
}

fn take<T>(
    mut buf: impl Buf,
    read: impl FnOnce(&mut FieldReader<'_>) -> Result<T, DatagramError>,
) -> Result<T, DatagramError> {
    let mut reader = FieldReader::new(buf.chunk());
    let value = read(&mut reader)?;
    let read = reader.position();
    buf.advance(read);
    Ok(value)
}

fn truncated(reader: &FieldReader<'_>) -> DatagramError {
    DatagramError::Truncated {
        at: reader.position() + reader.remaining(),
    }
}

fn unknown(reader: &FieldReader<'_>, what: &'static str, found: u8) -> DatagramError {
    let at = reader.position();
    DatagramError::Unknown { what, found, at }
}

fn write_header(header: &Header<SwimId>, bytes: &mut Vec<u8>) {
    write_identity(&header.src, bytes);
    bytes.extend_from_slice(&header.src_incarnation.to_le_bytes());
    write_identity(&header.dst, bytes);
    let (tag, about, number) = match &header.message {
        Message::Ping(number) => (1, None, Some(number)),
        Message::Ack(number) => (2, None, Some(number)),
        Message::PingReq {
            target,
            probe_number,
        } => (3, Some(target), Some(probe_number)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (4, Some(origin), Some(probe_number)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (5, Some(target), Some(probe_number)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (6, Some(origin), Some(probe_number)),
        Message::Announce => (7, None, None),
        Message::Feed => (8, None, None),
        Message::Gossip => (9, None, None),
        Message::TurnUndead => (10, None, None),
        Message::Broadcast => (11, None, None),
    };
    bytes.push(tag);
    if let Some(about) = about {
        write_identity(about, bytes);
    }
    bytes.extend(number);
}

fn read_header(reader: &mut FieldReader<'_>) -> Result<Header<SwimId>, DatagramError> {
    let src = read_identity(reader)?;
    let src_incarnation = reader.u16().map_err(|_| truncated(reader))?;
    let dst = read_identity(reader)?;
    let tag = reader.u8().map_err(|_| truncated(reader))?;
    let about = match tag {
        3..=6 => read_identity(reader)?,
        _ => dst,
    };
    let probe_number = match tag {
        1..=6 => reader.u8().map_err(|_| truncated(reader))?,
        _ => 0,
    };
    let message = match tag {
        1 => Message::Ping(probe_number),
        2 => Message::Ack(probe_number),
        3 => Message::PingReq {
            target: about,
            probe_number,
        },
        4 => Message::IndirectPing {
            origin: about,
            probe_number,
        },
        5 => Message::IndirectAck {
            target: about,
            probe_number,
        },
        6 => Message::ForwardedAck {
            origin: about,
            probe_number,
        },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::TurnUndead,
        // 11 carries what users of foca broadcast, of which there are none here.
        tag => return Err(unknown(reader, "message", tag)),
    };
    Ok(Header {
        src,
        src_incarnation,
        dst,
        message,
    })
}

/// Whether a count and updates follow.
fn carries_updates(message: &Message<SwimId>) -> bool {
    !matches!(
        message,
        Message::Announce | Message::TurnUndead | Message::Broadcast
    )
}

fn write_member(member: &Member<SwimId>, bytes: &mut Vec<u8>) {
    write_identity(member.id(), bytes);
    bytes.extend_from_slice(&member.incarnation().to_le_bytes());
    bytes.push(match member.state() {
        State::Alive => 1,
        State::Suspect => 2,
        State::Down => 3,
    });
}

fn read_member(reader: &mut FieldReader<'_>) -> Result<Member<SwimId>, DatagramError> {
    let id = read_identity(reader)?;
    let incarnation = reader.u16().map_err(|_| truncated(reader))?;
    let state = match reader.u8().map_err(|_| truncated(reader))? {
        1 => State::Alive,
        2 => State::Suspect,
        3 => State::Down,
        state => return Err(unknown(reader, "state", state)),
    };
    Ok(Member::new(id, incarnation, state))
}

fn write_identity(id: &SwimId, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&id.node().0.to_le_bytes());
    bytes.extend_from_slice(&id.incarnation().0.to_le_bytes());
    bytes.extend_from_slice(&id.generation().to_le_bytes());
    let ip = id.address().ip();
    bytes.push(if ip.is_ipv4() { 4 } else { 6 });
    bytes.extend_from_slice(&id.address().port().to_le_bytes());
    match ip {
        IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
    }
}

fn read_identity(reader: &mut FieldReader<'_>) -> Result<SwimId, DatagramError> {
    let mut number = || reader.u32().map_err(|_| truncated(reader));
    let (node, incarnation, generation) = (number()?, number()?, number()?);
    let family = reader.u8().map_err(|_| truncated(reader))?;
    if family != 4 && family != 6 {
        return Err(unknown(reader, "address family", family));
    }
    let port = reader.u16().map_err(|_| truncated(reader))?;
    let ip = if family == 4 {
        reader
            .array()
            .map(|ip| IpAddr::V4(Ipv4Addr::from_octets(ip)))
    } else {
        reader
            .array()
            .map(|ip| IpAddr::V6(Ipv6Addr::from_octets(ip)))
    };
    let address = SocketAddr::new(ip.map_err(|_| truncated(reader))?, port);
    let (node, incarnation) = (NodeId(node), Incarnation(incarnation));
    let id = SwimId::of_generation(node, incarnation, generation, address);
    if id.has_no_address() {
        return Err(DatagramError::NoAddress { node, address });
    }
    Ok(id)
}
