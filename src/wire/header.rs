//! The header of a frame: 96 bytes, little-endian, the same for every kind.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | checksum: CRC-32 (IEEE) of everything from offset 4 to the end of the frame |
//! | 4 | 4 | length of the whole frame, a multiple of 16 |
//! | 8 | 1 | format of the frame: [`FORMAT`] |
//! | 9 | 1 | [`Kind`] |
//! | 10 | 2 | [`Flags`] |
//! | 12 | 2 | length of the entity id |
//! | 14 | 1 | zeros behind the payload, 0 to 15 |
//! | 15 | 1 | what the target is: 0 the node, 1 a shard or an entity of it, 2 an actor |
//! | 16 | 8 | fingerprint of the payload's type |
//! | 24 | 2 | version of the payload's type |
//! | 26 | 2 | sender: core |
//! | 28 | 4 | microseconds left until the deadline, counted from the send; 0: there is none |
//! | 32 | 8 | target: epoch of the shard, or cell of the actor |
//! | 40 | 2 | target: entity type, or core of the actor |
//! | 42 | 2 | reason: class and code |
//! | 44 | 4 | target: shard, or incarnation of the actor's node |
//! | 48 | 8 | sender: node (upper half) and incarnation |
//! | 56 | 4 | sender: stream |
//! | 60 | 2 | address: core |
//! | 62 | 2 | address: table |
//! | 64 | 8 | address: node (upper half) and incarnation; 0: there is no address |
//! | 72 | 8 | address: place |
//! | 80 | 16 | trace context; zeros unless its flag is set |
//!
//! Then come the entity id, zeros up to a multiple of 16, the payload, and zeros up to a multiple of 16 again. Frames
//! begin at multiples of 16 in an aligned buffer, and so do their payloads: an archive in one is read where it is.
//!
//! The checksum stands first and covers one run of bytes, since computing it over several short ones is slow. A field
//! that means nothing in a frame is zero, and the reader insists on that.

use super::address::{Address, Life, Sender, Target};
use super::error::WireError;
use super::flags::Flags;
use super::kind::{Content, Kind, Plane, Reason, Rules, Targets};
use super::message::TypeTag;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, ShardId, ShardKey};
use std::time::Duration;

/// The bytes of a header.
pub const HEADER_BYTES: usize = 96;

/// The format of frames that this version writes and reads.
pub const FORMAT: u8 = 1;

/// Every part of a frame begins at a multiple of this.
pub const ALIGNMENT: usize = 16;

/// From here on the bytes of the header tell whether the rest is worth waiting for.
pub(crate) const PREFIX_BYTES: usize = 16;

/// What stands in a header besides lengths and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// Its flags; the one for the trace context follows from `trace`.
    pub flags: Flags,
    /// The type of the payload; the writer of a message sets it.
    pub tag: TypeTag,
    /// For whom it is.
    pub target: Target,
    /// Who sends it.
    pub sender: Sender,
    /// Where an answer goes, who watches, who owns: see [`Kind`].
    pub address: Option<Address>,
    /// Why something failed or ended.
    pub reason: Option<Reason>,
    /// How long the sender still waits, counted from the send, because the clocks of nodes differ. Whole microseconds,
    /// at least 1. A wait of more than 71 minutes travels as none: then the sender's own timer alone ends it.
    pub remaining: Option<Duration>,
    /// The trace context that it belongs to; zeros are none.
    pub trace: [u8; 16],
}

impl Header {
    /// A header with nothing but its kind, target and sender.
    #[must_use]
    pub const fn new(kind: Kind, target: Target, sender: Sender) -> Header {
        Header {
            kind,
            flags: Flags::NONE,
            tag: TypeTag::NONE,
            target,
            sender,
            address: None,
            reason: None,
            remaining: None,
            trace: [0; 16],
        }
    }

    /// Writes it into the first bytes of a frame of that length; the checksum is left out.
    pub(crate) fn encode(&self, length: u32, id: u16, padding: u8) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let flags = self
            .flags
            .with(Flags::HAS_TRACE, self.trace != [0; 16])
            .bits();
        put(&mut out, 4, length.to_le_bytes());
        put(&mut out, 8, [FORMAT, self.kind.code()]);
        put(&mut out, 10, flags.to_le_bytes());
        put(&mut out, 12, id.to_le_bytes());
        out[14] = padding;
        put(&mut out, 16, self.tag.fingerprint.to_le_bytes());
        put(&mut out, 24, self.tag.version.to_le_bytes());
        put(&mut out, 26, self.sender.core.0.to_le_bytes());
        put(&mut out, 28, micros(self.remaining).to_le_bytes());
        let (code, word, short, long) = match self.target {
            Target::Node => (0, 0, 0, 0),
            Target::Shard { key, epoch } => (1, epoch.0, key.entity_type.0, key.shard.0),
            Target::Actor {
                incarnation,
                core,
                cell,
            } => (2, cell, core.0, incarnation.0),
        };
        out[15] = code;
        put(&mut out, 32, u64::to_le_bytes(word));
        put(&mut out, 40, u16::to_le_bytes(short));
        put(&mut out, 42, self.reason.map_or([0, 0], Reason::encode));
        put(&mut out, 44, u32::to_le_bytes(long));
        put(&mut out, 48, self.sender.life.to_bits().to_le_bytes());
        put(&mut out, 56, self.sender.stream.to_le_bytes());
        if let Some(address) = self.address {
            put(&mut out, 60, address.core.0.to_le_bytes());
            put(&mut out, 62, address.table.to_le_bytes());
            put(&mut out, 64, address.life.to_bits().to_le_bytes());
            put(&mut out, 72, address.place.to_le_bytes());
        }
        put(&mut out, 80, self.trace);
        out
    }

    /// Reads the header of a frame whose prefix was found good.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], prefix: Prefix) -> Result<Header, WireError> {
        let (word, short, long) = (
            u64::from_le_bytes(get(bytes, 32)),
            u16::from_le_bytes(get(bytes, 40)),
            u32::from_le_bytes(get(bytes, 44)),
        );
        let target = match bytes[15] {
            0 if (word, short, long) == (0, 0, 0) => Target::Node,
            0 => return Err(unknown("target", 0)),
            1 => Target::Shard {
                key: ShardKey {
                    entity_type: EntityTypeId(short),
                    shard: ShardId(long),
                },
                epoch: Epoch(word),
            },
            2 => Target::Actor {
                incarnation: Incarnation(long),
                core: CoreId(short),
                cell: word,
            },
            code => return Err(unknown("target", u32::from(code))),
        };
        let [class, code] = get(bytes, 42);
        let reason = Reason::decode([class, code])
            .map_err(|class| unknown("class of the reason", u32::from(class)))?;
        let trace: [u8; 16] = get(bytes, 80);
        if prefix.flags.contains(Flags::HAS_TRACE) != (trace != [0; 16]) {
            return Err(WireError::Malformed {
                kind: prefix.kind,
                what: "its trace context and the flag for it disagree",
            });
        }
        let remaining = match u32::from_le_bytes(get(bytes, 28)) {
            0 => None,
            left => Some(Duration::from_micros(u64::from(left))),
        };
        Ok(Header {
            kind: prefix.kind,
            flags: prefix.flags,
            tag: TypeTag {
                fingerprint: u64::from_le_bytes(get(bytes, 16)),
                version: u16::from_le_bytes(get(bytes, 24)),
            },
            target,
            sender: Sender {
                life: Life::from_bits(u64::from_le_bytes(get(bytes, 48))),
                core: CoreId(u16::from_le_bytes(get(bytes, 26))),
                stream: u32::from_le_bytes(get(bytes, 56)),
            },
            address: address(bytes, prefix.kind)?,
            reason,
            remaining,
            trace,
        })
    }

    /// Whether everything that a frame of this kind needs is there, and nothing else.
    pub(crate) fn check(&self, id: usize, payload: usize) -> Result<(), WireError> {
        let kind = self.kind;
        let malformed = |what| Err(WireError::Malformed { kind, what });
        let Rules {
            target,
            address,
            reason,
            content,
            plane,
        } = kind.rules();
        let fits = match target {
            Targets::Nobody => matches!(self.target, Target::Node),
            Targets::Shard => matches!(self.target, Target::Shard { .. }),
            Targets::ShardOrNobody => !matches!(self.target, Target::Actor { .. }),
            Targets::EntityOrActor => !matches!(self.target, Target::Node),
        };
        if !fits {
            return malformed("its target is of the wrong sort");
        }
        let has_id =
            target == Targets::EntityOrActor && matches!(self.target, Target::Shard { .. });
        if id != 0 && !has_id {
            return malformed("it has an entity id, and no entity is meant");
        }
        if address != self.address.is_some() {
            return malformed("its address is missing or does not belong there");
        }
        if self
            .address
            .is_some_and(|address| address.life.to_bits() == 0)
        {
            return malformed("its address names no life of a node");
        }
        if reason != self.reason.is_some() {
            return malformed("its reason is missing or does not belong there");
        }
        let of_a_route = self.flags.with(Flags::HAS_TRACE, false) != Flags::NONE;
        if of_a_route && !matches!(self.target, Target::Shard { .. }) {
            return malformed("its flags are for frames of a shard");
        }
        let of_the_connection = matches!(plane, None | Some(Plane::Handshake));
        if of_the_connection && (self.remaining.is_some() || self.trace != [0; 16]) {
            return malformed("it has a deadline or a trace context, and nobody's work is meant");
        }
        let typed = self.tag.fingerprint != 0;
        match content {
            Content::Nothing if payload > 0 || self.tag != TypeTag::NONE => {
                malformed("it has a payload and should have none")
            }
            Content::Message if !typed => malformed("its payload has no type"),
            Content::Opaque(most) if payload > most => malformed("its payload is too long"),
            Content::Opaque(_) if !typed && self.tag.version != 0 => {
                malformed("its payload has a version and no type")
            }
            _ => Ok(()),
        }
    }
}

/// What the first bytes of a frame say, once they were found good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix {
    /// Of the whole frame.
    pub(crate) length: usize,
    kind: Kind,
    flags: Flags,
    /// Length of the entity id.
    pub(crate) id: usize,
    /// Where the payload begins, and where it ends.
    pub(crate) payload: (usize, usize),
}

/// The length of the frame that these bytes begin with, if all of it is there. Only for frames that this node has written.
#[inline]
pub(crate) fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_le_bytes(get(prefix, 4)) as usize;
    (length >= HEADER_BYTES && length <= bytes.len()).then_some(length)
}

/// Judges the first bytes of a frame, so that nobody waits or makes room for one that will be refused. `None`: there are
/// too few to tell.
#[inline]
pub(crate) fn prefix(bytes: &[u8], plane: Plane, max: usize) -> Result<Option<Prefix>, WireError> {
    let Some(bytes) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(get(bytes, 4));
    if bytes[8] != FORMAT {
        return Err(WireError::UnknownFormat { found: bytes[8] });
    }
    if !length.is_multiple_of(ALIGNMENT as u32) || length < HEADER_BYTES as u32 {
        return Err(WireError::BadLength { length });
    }
    if length as usize > max {
        return Err(WireError::TooLarge { length, max });
    }
    let kind = Kind::from_code(bytes[9]).ok_or(WireError::UnknownKind { code: bytes[9] })?;
    if !kind.travels_on(plane) {
        return Err(WireError::WrongPlane { kind, plane });
    }
    let flags = Flags::from_bits(u16::from_le_bytes(get(bytes, 10)))
        .map_err(|bits| WireError::UnknownFlags { bits })?;
    let (length, id, padding) = (
        length as usize,
        u16::from_le_bytes(get(bytes, 12)),
        bytes[14],
    );
    let begin = payload_offset(usize::from(id));
    let end = length.saturating_sub(usize::from(padding));
    if usize::from(padding) >= ALIGNMENT || begin > end {
        return Err(WireError::BadParts {
            length,
            id,
            padding,
        });
    }
    Ok(Some(Prefix {
        length,
        kind,
        flags,
        id: usize::from(id),
        payload: (begin, end),
    }))
}

/// Where the payload of a frame begins, behind an entity id of that length.
#[inline]
pub(crate) const fn payload_offset(id: usize) -> usize {
    HEADER_BYTES + id.next_multiple_of(ALIGNMENT)
}

/// The checksum of a whole frame.
#[inline]
pub(crate) fn checksum(frame: &[u8]) -> u32 {
    crc32fast::hash(&frame[4..])
}

fn address(bytes: &[u8; HEADER_BYTES], kind: Kind) -> Result<Option<Address>, WireError> {
    let life = u64::from_le_bytes(get(bytes, 64));
    if life == 0 {
        if bytes[60..64] != [0; 4] || bytes[72..80] != [0; 8] {
            let what = "its address names no life of a node";
            return Err(WireError::Malformed { kind, what });
        }
        return Ok(None);
    }
    Ok(Some(Address {
        life: Life::from_bits(life),
        core: CoreId(u16::from_le_bytes(get(bytes, 60))),
        table: u16::from_le_bytes(get(bytes, 62)),
        place: u64::from_le_bytes(get(bytes, 72)),
    }))
}

/// Rounded up, so that what has a deadline keeps one.
#[inline]
fn micros(remaining: Option<Duration>) -> u32 {
    remaining.map_or(0, |left| {
        let micros = left.as_nanos().div_ceil(1_000).max(1);
        u32::try_from(micros).unwrap_or(0)
    })
}

fn unknown(field: &'static str, value: u32) -> WireError {
    WireError::UnknownValue { field, value }
}

#[inline]
fn put<const N: usize>(out: &mut [u8; HEADER_BYTES], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

#[inline]
fn get<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&bytes[at..at + M]);
    out
}
