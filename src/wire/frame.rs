//! Frames that have been read: views of the receive buffer, and frames that were taken out of it.

use super::archive::{self, ArchivedBytes};
use super::error::WireError;
use super::header::{self, HEADER_BYTES, Header, Prefix, prefix};
use super::kind::{Kind, Plane};
use super::message::{TypeTag, WireMessage};
use std::fmt;
use std::sync::Arc;

/// A frame in the buffer into which it was received. Its checksum and its header have been checked.
#[derive(Clone, Copy)]
pub struct FrameRef<'a> {
    header: Header,
    prefix: Prefix,
    bytes: &'a [u8],
    /// The buffer in which it lies, and where, if others may hold on to it.
    block: Option<(&'a Arc<ArchivedBytes>, usize)>,
}

impl<'a> FrameRef<'a> {
    /// Reads the one frame that `bytes` are. To read its payload in place, they have to be aligned to 16.
    ///
    /// # Errors
    /// If they are not one whole, sound frame for that plane, of at most `max` bytes.
    pub fn parse(bytes: &'a [u8], plane: Plane, max: usize) -> Result<FrameRef<'a>, WireError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match prefix(bytes, plane, max)? {
            Some(prefix) if prefix.length == bytes.len() => FrameRef::checked(bytes, prefix, None),
            _ => Err(WireError::BadLength { length }),
        }
    }

    /// Checks the rest of a frame whose prefix is good. It is inlined, so that the frame is not copied out of results.
    #[inline(always)]
    pub(crate) fn checked(
        bytes: &'a [u8],
        prefix: Prefix,
        block: Option<(&'a Arc<ArchivedBytes>, usize)>,
    ) -> Result<FrameRef<'a>, WireError> {
        let first: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(WireError::BadLength {
            length: prefix.length as u32,
        })?;
        let (expected, found) = (
            u32::from_le_bytes([first[0], first[1], first[2], first[3]]),
            header::checksum(bytes),
        );
        if expected != found {
            return Err(WireError::Checksum {
                length: bytes.len(),
                expected,
                found,
            });
        }
        let header = Header::decode(first, prefix)?;
        header.check(prefix.id, prefix.payload.1 - prefix.payload.0)?;
        let behind_id = &bytes[HEADER_BYTES + prefix.id..prefix.payload.0];
        let behind_payload = &bytes[prefix.payload.1..];
        if !are_zeros(behind_id) || !are_zeros(behind_payload) {
            return Err(WireError::Malformed {
                kind: header.kind,
                what: "its padding is not zero",
            });
        }
        Ok(FrameRef {
            header,
            prefix,
            bytes,
            block,
        })
    }

    /// Its header.
    #[must_use]
    #[inline]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it is for.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// The id of the entity that is meant, as its type encodes it.
    #[must_use]
    #[inline]
    pub fn entity_id(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + self.prefix.id]
    }

    /// Its payload.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> Payload<'a> {
        let (begin, end) = self.prefix.payload;
        Payload {
            bytes: &self.bytes[begin..end],
            tag: self.header.tag,
        }
    }

    /// The whole frame as it came.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Takes it out of the buffer, to be kept, or handed to another core as a pointer.
    ///
    /// A frame that fills at least a quarter of the buffer keeps the buffer, and nothing is copied: the reader goes on in
    /// another. A smaller one is copied, so that none keeps more than four times its own bytes from being used.
    #[must_use]
    pub fn detach(&self) -> OwnedFrame {
        let bytes = match self.block {
            Some((block, at)) if self.bytes.len() * 4 >= block.len() => Block::Shared {
                block: block.clone(),
                at,
            },
            _ => {
                let mut own = ArchivedBytes::with_capacity(self.bytes.len());
                own.extend_from_slice(self.bytes);
                Block::Own(own)
            }
        };
        OwnedFrame(Box::new(Detached {
            header: self.header,
            prefix: self.prefix,
            bytes,
        }))
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameRef")
            .field("header", &self.header)
            .field("id_bytes", &self.prefix.id)
            .field("payload_bytes", &self.payload().bytes.len())
            .finish()
    }
}

/// They are few, so that looking at all of them is quicker than stopping at the first that is none.
#[inline]
fn are_zeros(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// A frame that was taken out of its receive buffer: one pointer, which may go to another thread.
pub struct OwnedFrame(Box<Detached>);

struct Detached {
    header: Header,
    prefix: Prefix,
    bytes: Block,
}

/// Where the bytes of a frame that was taken out are.
enum Block {
    /// In the buffer into which they were received.
    Shared {
        block: Arc<ArchivedBytes>,
        at: usize,
    },
    /// In a copy.
    Own(ArchivedBytes),
}

impl OwnedFrame {
    /// The frame, as the reader gave it.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> FrameRef<'_> {
        let Detached {
            header,
            prefix,
            bytes,
        } = &*self.0;
        let (bytes, block) = match bytes {
            Block::Shared { block, at } => (&block[*at..*at + prefix.length], Some((block, *at))),
            Block::Own(bytes) => (&bytes[..], None),
        };
        FrameRef {
            header: *header,
            prefix: *prefix,
            bytes,
            block,
        }
    }

    /// How many bytes were copied when it was taken out.
    #[must_use]
    pub fn copied_bytes(&self) -> usize {
        match &self.0.bytes {
            Block::Shared { .. } => 0,
            Block::Own(bytes) => bytes.len(),
        }
    }
}

impl fmt::Debug for OwnedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedFrame").field(&self.as_ref()).finish()
    }
}

/// The payload of a frame: bytes that lie where they were received, and the type that the header names.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    tag: TypeTag,
}

impl<'a> Payload<'a> {
    /// The bytes, without the padding behind them. In a frame from a [`FrameReader`](super::reader::FrameReader) they are
    /// aligned to 16.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The type that the header names; [`TypeTag::NONE`] if it names none.
    #[must_use]
    #[inline]
    pub fn tag(&self) -> TypeTag {
        self.tag
    }

    /// Views the message in the payload where it is. It is validated, once, here; nothing is copied.
    ///
    /// # Errors
    /// If the header names another type or version, or if the bytes are no valid archive of it. The connection may go on.
    #[inline]
    pub fn access<M: WireMessage>(&self) -> Result<&'a M::Archived, WireError> {
        let expected = M::type_tag();
        if self.tag != expected {
            return Err(WireError::OtherType {
                name: M::NAME,
                expected,
                found: self.tag,
            });
        }
        archive::access::<M>(self.bytes).map_err(|why| invalid::<M>(&why))
    }

    /// Reads the message: validates it and makes the value.
    ///
    /// # Errors
    /// As [`access`](Payload::access).
    #[inline]
    pub fn deserialize<M: WireMessage>(&self) -> Result<M, WireError> {
        from_archived(self.access::<M>()?)
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes of {})", self.bytes.len(), self.tag)
    }
}

/// Makes the message of its archived form: what an actor that does not read in place does with it.
///
/// # Errors
/// If code of the type refuses, which the derived implementations never do.
#[inline]
pub fn from_archived<M: WireMessage>(archived: &M::Archived) -> Result<M, WireError> {
    archive::deserialize::<M>(archived).map_err(|why| invalid::<M>(&why))
}

#[cold]
#[inline(never)]
fn invalid<M: WireMessage>(why: &impl fmt::Display) -> WireError {
    WireError::Invalid {
        name: M::NAME,
        why: why.to_string(),
    }
}
