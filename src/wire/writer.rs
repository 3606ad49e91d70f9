//! The writing end of a connection: frames are put together in one buffer, and many of them go out with one write.
//!
//! A message is archived straight into its place behind the header, which is filled in afterwards; no copy of it is made.

use super::archive::{AppendError, ArchivedBytes, append};
use super::error::{Unwritten, WireError, WriteError};
use super::frame::FrameRef;
use super::header::{ALIGNMENT, HEADER_BYTES, Header, checksum, payload_offset, whole_frame};
use super::limits::FrameLimits;
use super::message::WireMessage;

/// Puts the frames of one connection together.
///
/// ```
/// use corecast::WireMessage;
/// use corecast::wire::{address::{Sender, Target}, error::WriteError, header::Header, kind::Kind};
/// use corecast::wire::{limits::FrameLimits, writer::FrameWriter};
/// use corecast::{EntityTypeId, Epoch, ShardId, ShardKey};
///
/// #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// struct Add(u64);
///
/// impl WireMessage for Add {
///     const NAME: &'static str = "example.Add";
///     const VERSION: u16 = 1;
/// }
///
/// let shard = ShardKey { entity_type: EntityTypeId(0), shard: ShardId(7) };
/// let target = Target::Shard { key: shard, epoch: Epoch(1) };
/// let tell = Header::new(Kind::Tell, target, Sender::default());
/// let mut writer = FrameWriter::new(FrameLimits::default());
/// let length = writer.write(&tell, b"cart-7", Add(3))?;
/// assert_eq!(writer.pending().len(), length);
/// assert_eq!(writer.counts().copied_bytes, 0);
/// # Ok::<(), corecast::wire::error::Unwritten<Add>>(())
/// ```
///
/// Memory: at most twice the larger of `write_buffer_bytes` and `frame_bytes`. When as many bytes wait as may, a frame is
/// refused and its message handed back; one frame may always wait, however large. A buffer that has grown beyond
/// `write_buffer_bytes` is given back once everything in it was sent, or what it grew for did not fit.
#[derive(Debug)]
pub struct FrameWriter {
    limits: FrameLimits,
    buffer: ArchivedBytes,
    /// Where the last whole frame ends. Behind it is something only while a frame is being written, or when code of a
    /// message has panicked meanwhile.
    whole: usize,
    /// How much of the buffer was sent.
    sent: usize,
    counts: WriteCounts,
}

/// What a writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Frames written.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of messages that were archived in their place.
    pub archived_bytes: u64,
    /// Bytes of payloads that were copied in: those that came as bytes, and those of forwarded frames; and of frames that
    /// were appended whole.
    pub copied_bytes: u64,
    /// Bytes that waited and were moved to the front of the buffer, because the connection had taken a part only.
    pub moved_bytes: u64,
}

impl FrameWriter {
    /// A writer with nothing in it. Nothing is allocated yet.
    #[must_use]
    pub fn new(limits: FrameLimits) -> FrameWriter {
        FrameWriter {
            limits,
            buffer: ArchivedBytes::new(),
            whole: 0,
            sent: 0,
            counts: WriteCounts::default(),
        }
    }

    /// Appends a frame with a message; the header's type tag is set from it. Gives the length of the frame.
    ///
    /// # Errors
    /// If there is no room for it now or at all, or if it cannot be archived. The message is handed back.
    #[inline]
    pub fn write<M: WireMessage>(
        &mut self,
        header: &Header,
        id: &[u8],
        message: M,
    ) -> Result<usize, Unwritten<M>> {
        match self.write_ref(header, id, &message) {
            Ok(length) => Ok(length),
            Err(why) => Err(Unwritten { message, why }),
        }
    }

    /// The same for a message that the caller keeps.
    ///
    /// # Errors
    /// As [`write`](FrameWriter::write).
    #[inline]
    pub fn write_ref<M: WireMessage>(
        &mut self,
        header: &Header,
        id: &[u8],
        message: &M,
    ) -> Result<usize, WriteError> {
        self.write_adapted(header, id, message, |_| {})
    }

    /// The same with a header that is adapted when the message has been archived, because what it says depends on what has
    /// turned out to be in there.
    ///
    /// # Errors
    /// As [`write`](FrameWriter::write).
    #[inline]
    pub fn write_adapted<M: WireMessage>(
        &mut self,
        header: &Header,
        id: &[u8],
        message: &M,
        adapt: impl FnOnce(&mut Header),
    ) -> Result<usize, WriteError> {
        let mut header = *header;
        header.tag = M::type_tag();
        self.frame(header, id, |buffer, limit, _, header| {
            append(message, buffer, limit).map_err(|failed| match failed {
                AppendError::OverLimit => None,
                AppendError::Failed(error) => Some(WriteError::NotArchived(error.to_string())),
            })?;
            adapt(header);
            Ok(())
        })
    }

    /// Appends a frame with a payload that is bytes already. Gives the length of the frame.
    ///
    /// # Errors
    /// If there is no room for it now or at all.
    pub fn write_bytes(
        &mut self,
        header: &Header,
        id: &[u8],
        payload: &[u8],
    ) -> Result<usize, WriteError> {
        self.frame(*header, id, |buffer, limit, copied, _| {
            if payload.len() > limit - buffer.len() {
                return Err(None);
            }
            buffer.extend_from_slice(payload);
            *copied += payload.len() as u64;
            Ok(())
        })
    }

    /// Appends a frame that was received, under a header that its forwarder has adapted. Gives the length of the frame.
    ///
    /// # Errors
    /// If there is no room for it now or at all.
    pub fn forward(&mut self, header: &Header, frame: &FrameRef<'_>) -> Result<usize, WriteError> {
        let mut header = *header;
        header.tag = frame.header().tag;
        self.write_bytes(&header, frame.entity_id(), frame.payload().bytes())
    }

    /// Appends whole frames that another writer has put together, with one copy: as many from the front of `frames` as are
    /// wanted and there is room for. `wanted` is asked about each with its length, in order, until it says no.
    ///
    /// There is room while fewer than `mark` bytes wait, and no more than `write_buffer_bytes`; one frame may always wait,
    /// however large. What lies behind the last whole frame is left. Gives the bytes that were appended.
    pub fn append(
        &mut self,
        frames: &[u8],
        mark: usize,
        mut wanted: impl FnMut(usize) -> bool,
    ) -> usize {
        let pending = self.whole - self.sent;
        let mut end = 0;
        while let Some(length) = whole_frame(&frames[end..]) {
            let waits = pending + end;
            let has_room =
                waits == 0 || waits < mark && waits + length <= self.limits.write_buffer_bytes;
            if !has_room || length > self.limits.frame_bytes || !wanted(length) {
                break;
            }
            end += length;
            self.counts.frames += 1;
        }
        if end > 0 {
            self.buffer.resize(self.whole, 0);
            self.buffer.extend_from_slice(&frames[..end]);
            self.whole += end;
            self.counts.bytes += end as u64;
            self.counts.copied_bytes += end as u64;
        }
        end
    }

    /// The bytes that wait to be sent: whole frames, but for the first, of which a part may be gone.
    #[must_use]
    #[inline]
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.sent..self.whole]
    }

    /// Says that the connection has taken the first `count` of the pending bytes.
    ///
    /// # Panics
    /// If that is more than were pending.
    pub fn sent(&mut self, count: usize) {
        assert!(
            count <= self.pending().len(),
            "more bytes were sent than were pending"
        );
        self.sent += count;
        if self.sent == self.whole {
            (self.sent, self.whole) = (0, 0);
            self.empty();
        } else if self.sent >= self.pending().len() {
            self.move_to_front();
        }
    }

    /// Takes back what is pending beyond the first `count` bytes, which end where a frame does.
    ///
    /// # Panics
    /// If fewer are pending.
    pub fn truncate(&mut self, count: usize) {
        assert!(
            count <= self.pending().len(),
            "there is less than is to be kept"
        );
        self.whole = self.sent + count;
        if count == 0 {
            self.sent = 0;
            self.whole = 0;
            self.empty();
        } else {
            self.buffer.resize(self.whole, 0);
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> WriteCounts {
        self.counts
    }

    /// How much memory its buffer takes.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets what is in the buffer, and gives the buffer back if it has grown.
    fn empty(&mut self) {
        if self.buffer.capacity() > self.limits.write_buffer_bytes {
            self.buffer = ArchivedBytes::new();
        } else {
            self.buffer.clear();
        }
    }

    /// Drops the part that was sent. No byte is moved over a distance shorter than the bytes moved, so that the work
    /// stays in proportion to what was sent.
    fn move_to_front(&mut self) {
        // Frames keep their alignment.
        let gone = self.sent / ALIGNMENT * ALIGNMENT;
        let left = self.whole - gone;
        self.buffer.copy_within(gone..self.whole, 0);
        self.buffer.resize(left, 0);
        self.whole = left;
        self.sent -= gone;
        self.counts.moved_bytes += left as u64;
    }

    /// Appends a frame whose payload is written by `fill`, into the buffer, up to a length of the buffer, counting what it
    /// copies. `Err(None)`: it found no room.
    #[inline]
    fn frame(
        &mut self,
        mut header: Header,
        id: &[u8],
        fill: impl FnOnce(
            &mut ArchivedBytes,
            usize,
            &mut u64,
            &mut Header,
        ) -> Result<(), Option<WriteError>>,
    ) -> Result<usize, WriteError> {
        let Ok(id_length) = u16::try_from(id.len()) else {
            return Err(WriteError::Malformed(WireError::Malformed {
                kind: header.kind,
                what: "its entity id is longer than 65535 bytes",
            }));
        };
        let begin = self.whole;
        self.buffer.resize(begin, 0);
        let room = self.room();
        let offset = payload_offset(id.len());
        if offset > room {
            return Err(self.no_room(room));
        }
        let limit = begin + room;
        self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        self.buffer.extend_from_slice(id);
        self.buffer.resize(begin + offset, 0);
        let mut copied = 0;
        if let Err(why) = fill(&mut self.buffer, limit, &mut copied, &mut header) {
            if self.whole == 0 {
                self.empty();
            }
            return Err(why.unwrap_or_else(|| self.no_room(room)));
        }
        let payload = self.buffer.len() - begin - offset;
        header
            .check(id.len(), payload)
            .map_err(WriteError::Malformed)?;
        // The room is a multiple of the alignment, so this stays within it.
        let length = (offset + payload).next_multiple_of(ALIGNMENT);
        let padding = (length - offset - payload) as u8;
        self.buffer.resize(begin + length, 0);
        let frame = &mut self.buffer[begin..];
        frame[..HEADER_BYTES].copy_from_slice(&header.encode(length as u32, id_length, padding));
        let sum = checksum(frame).to_le_bytes();
        frame[..4].copy_from_slice(&sum);
        self.whole = begin + length;
        self.counts.frames += 1;
        self.counts.bytes += length as u64;
        self.counts.copied_bytes += copied;
        self.counts.archived_bytes += payload as u64 - copied;
        Ok(length)
    }

    /// How large a frame may be now.
    #[inline]
    fn room(&self) -> usize {
        let pending = self.whole - self.sent;
        let room = match pending {
            0 => self.limits.frame_bytes,
            _ => self.limits.write_buffer_bytes.saturating_sub(pending),
        };
        room.min(self.limits.frame_bytes) / ALIGNMENT * ALIGNMENT
    }

    #[cold]
    fn no_room(&self, room: usize) -> WriteError {
        if room < self.limits.frame_bytes / ALIGNMENT * ALIGNMENT {
            WriteError::Full {
                pending: self.pending().len(),
                max: self.limits.write_buffer_bytes,
            }
        } else {
            WriteError::TooLarge {
                max: self.limits.frame_bytes,
            }
        }
    }
}
