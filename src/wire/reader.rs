//! The reading end of a connection: bytes in as they come, frames out where they lie.
//!
//! The receive buffer is one block, aligned to 16. What lies in it:
//!
//! ```text
//! | taken frames | whole frames | part of a frame | spare room |
//! 0            start                            end       length
//! ```
//!
//! Frames begin at multiples of 16 from the start of the connection, and only whole ones are ever taken, so every frame in
//! the block is aligned. When spare room gets short, what is left, usually part of one frame, moves to the front.
//!
//! A frame that is larger than the block gets a larger one, once its length was checked against the limit, and not on the
//! word of its header alone: the block doubles whenever three quarters of it are full of what has really come of the
//! frame, until the frame fits. So a block holds less than three bytes for each that came, or is as small as any; and to
//! hold much here a peer has to send much. It shrinks again when no large frame has come for a while.

use super::archive::ArchivedBytes;
use super::error::WireError;
use super::frame::FrameRef;
use super::header::prefix;
use super::kind::Plane;
use super::limits::FrameLimits;
use std::sync::Arc;

/// A block that has become too large is kept for so many fills without a large frame.
const CALM_FILLS: u32 = 16;

/// Turns the bytes of one connection into frames.
///
/// ```
/// use corecast::wire::{kind::{Kind, Plane}, header::Header, address::{Sender, Target}};
/// use corecast::wire::{limits::FrameLimits, reader::FrameReader, writer::FrameWriter};
///
/// let limits = FrameLimits::default();
/// let mut writer = FrameWriter::new(limits);
/// let ping = Header::new(Kind::Ping, Target::Node, Sender::default());
/// writer.write_bytes(&ping, &[], b"hello")?;
///
/// let mut reader = FrameReader::new(Plane::Data, limits);
/// let spare = reader.spare(); // where `recv` writes
/// let received = writer.pending().len();
/// spare[..received].copy_from_slice(writer.pending());
/// reader.filled(received);
/// while let Some(frame) = reader.next()? {
///     assert_eq!(frame.payload().bytes(), b"hello");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Memory: see [`FrameLimits`]. When whole frames wait and there is no room, [`spare`](FrameReader::spare) is empty, and
/// the peer is held up by its own connection.
#[derive(Debug)]
pub struct FrameReader {
    plane: Plane,
    limits: FrameLimits,
    block: Arc<ArchivedBytes>,
    start: usize,
    end: usize,
    /// Fills since a frame last needed a larger block, or was taken out of one.
    calm: u32,
    failed: Option<WireError>,
    counts: ReadCounts,
}

/// What a reader has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Frames given out.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of unfinished frames that were moved, to the front of the block or to another, or that a block held when it
    /// was made larger, which most allocators do without moving what is large. Payloads of whole frames are never copied.
    pub moved_bytes: u64,
    /// Blocks that were allocated, or made larger.
    pub blocks: u64,
}

impl FrameReader {
    /// A reader for a connection of that plane. Nothing is allocated before [`spare`](FrameReader::spare).
    #[must_use]
    pub fn new(plane: Plane, limits: FrameLimits) -> FrameReader {
        FrameReader {
            plane,
            limits,
            block: Arc::new(ArchivedBytes::new()),
            start: 0,
            end: 0,
            calm: 0,
            failed: None,
            counts: ReadCounts::default(),
        }
    }

    /// Room for more bytes, to be received into; say with [`filled`](FrameReader::filled) how many there were.
    ///
    /// It is empty only when whole frames wait to be taken and fill the block, or when the connection has failed: take
    /// what [`next`](FrameReader::next) has first.
    #[must_use]
    pub fn spare(&mut self) -> &mut [u8] {
        if self.failed.is_some() {
            return &mut [];
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // What lies there has not been looked at yet, perhaps; a bad length is the business of `next`.
        let first = match prefix(self.unread(), self.plane, self.limits.frame_bytes) {
            Ok(Some(prefix)) => prefix.length,
            Ok(None) | Err(_) => 0,
        };
        // Limits that nobody has checked must not leave it without room for a header.
        let usual = self.limits.read_buffer_bytes.max(FrameLimits::LEAST);
        let usual = usual.next_multiple_of(16);
        self.calm = match first > usual {
            true => 0,
            false => self.calm.saturating_add(1),
        };
        let unread = self.end - self.start;
        let wanted = usual.max(unread).max(earned(first, unread, usual));
        let oversized = self.block.len() > usual && self.calm > CALM_FILLS && wanted == usual;
        if oversized || Arc::get_mut(&mut self.block).is_none() {
            self.move_to_block_of(wanted);
        } else if self.block.len() < wanted {
            self.grow_to(wanted);
        } else if self.start > 0 && self.is_short_of_room(first) {
            self.move_to_front();
        }
        let (block, end) = (Arc::get_mut(&mut self.block), self.end);
        block.map_or(&mut [], |block| &mut block[end..])
    }

    /// Says that `count` bytes were received into the spare room.
    ///
    /// # Panics
    /// If that is more than there was.
    #[inline]
    pub fn filled(&mut self, count: usize) {
        assert!(
            count <= self.block.len() - self.end,
            "more bytes were received than there was room for"
        );
        self.end += count;
    }

    /// Copies in as many of the bytes as there is room for; how many that were. For bytes that are not received straight
    /// into the spare room, as those of a simulated network.
    pub fn take_in(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = spare.len().min(bytes.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// The next whole frame, or `None` until more bytes have come. The frame is taken by this call.
    ///
    /// # Errors
    /// If the bytes are no sound frame. The connection has failed then: every further call gives the same error.
    #[allow(
        clippy::should_implement_trait,
        reason = "what it gives borrows from it"
    )]
    #[inline]
    pub fn next(&mut self) -> Result<Option<FrameRef<'_>>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let at = self.start;
        let prefix = match prefix(self.unread(), self.plane, self.limits.frame_bytes) {
            Ok(Some(prefix)) => prefix,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error)),
        };
        if self.end - at < prefix.length {
            return Ok(None);
        }
        let bytes = &self.block[at..at + prefix.length];
        match FrameRef::checked(bytes, prefix, Some((&self.block, at))) {
            Ok(frame) => {
                self.start += prefix.length;
                if prefix.length > self.limits.read_buffer_bytes {
                    self.calm = 0;
                }
                self.counts.frames += 1;
                self.counts.bytes += prefix.length as u64;
                Ok(Some(frame))
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Whether the peer is in the middle of a frame: if the connection ends now, it was cut.
    #[must_use]
    pub fn is_in_a_frame(&self) -> bool {
        self.start != self.end
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        self.counts
    }

    /// How much memory its block takes.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.block.capacity()
    }

    #[inline]
    fn unread(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    #[cold]
    fn fail(&mut self, error: WireError) -> WireError {
        self.failed = Some(error.clone());
        error
    }

    /// Whether the frame that has begun does not fit behind what was taken, or the spare room has become so small that
    /// calls to receive would get short, and it takes no more than moving fewer bytes than were taken.
    fn is_short_of_room(&self, first: usize) -> bool {
        let (room, spare) = (self.block.len() - self.start, self.block.len() - self.end);
        first > room || (spare < self.block.len() / 4 && self.end - self.start <= self.start)
    }

    fn move_to_front(&mut self) {
        let (start, end) = (self.start, self.end);
        if start > 0
            && let Some(block) = Arc::get_mut(&mut self.block)
        {
            block.copy_within(start..end, 0);
            self.counts.moved_bytes += (end - start) as u64;
            (self.start, self.end) = (0, end - start);
        }
    }

    /// Makes the block larger, which is its own. The allocator may do that without moving anything.
    #[cold]
    fn grow_to(&mut self, length: usize) {
        self.move_to_front();
        if let Some(block) = Arc::get_mut(&mut self.block) {
            block.reserve_exact(length - block.len());
            block.resize(length, 0);
            self.counts.moved_bytes += (self.end - self.start) as u64;
            self.counts.blocks += 1;
        }
    }

    /// Goes on in a new block, because the old one is too large, or belongs to a frame that was taken out.
    #[cold]
    fn move_to_block_of(&mut self, length: usize) {
        let unread = self.end - self.start;
        let mut block = ArchivedBytes::with_capacity(length);
        block.extend_from_slice(self.unread());
        block.resize(length, 0);
        self.block = Arc::new(block);
        (self.start, self.end) = (0, unread);
        self.counts.moved_bytes += unread as u64;
        self.counts.blocks += 1;
    }
}

/// The room that the first frame, which claims to have `first` bytes, has earned with the `unread` bytes that are there.
#[inline]
fn earned(first: usize, unread: usize, usual: usize) -> usize {
    let mut room = usual;
    while room < first && unread > room - room / 4 {
        room *= 2;
    }
    room.min(first)
}
