//! A window on the segments: recovery reads through it, a bounded piece at a time.

use super::format::BLOCK_BYTES;
use super::store::{FileName, Operation};

/// A file of which something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) segment: u64,
    pub(super) bytes: u64,
}

/// Bytes that are needed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl Wanted {
    pub(super) fn operation(&self) -> Operation {
        Operation::Read {
            file: FileName::Segment(self.segment),
            offset: self.offset,
            bytes: self.bytes,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    read_bytes: usize,
    segment: u64,
    start: u64,
    window: Vec<u8>,
    wanted: Option<Wanted>,
}

impl Reader {
    pub(super) fn new(read_bytes: u32) -> Reader {
        Reader {
            read_bytes: read_bytes as usize,
            ..Reader::default()
        }
    }

    /// The bytes there, or `None` until they have been read. They must lie within the segment, and `offset` be a multiple
    /// of 4,096.
    pub(super) fn get(&mut self, source: Source, offset: u64, bytes: usize) -> Option<&[u8]> {
        if !self.has(source.segment, offset, bytes) {
            let left = (source.bytes - offset) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
            let bytes = bytes.max(self.read_bytes).next_multiple_of(BLOCK_BYTES);
            self.wanted = Some(Wanted {
                segment: source.segment,
                offset,
                bytes: left.min(bytes as u64) as usize,
            });
            return None;
        }
        Some(self.seen(offset, bytes))
    }

    /// Bytes that are in the window.
    pub(super) fn seen(&self, offset: u64, bytes: usize) -> &[u8] {
        let at = (offset - self.start) as usize;
        &self.window[at..at + bytes]
    }

    /// What has to be read now.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.wanted
    }

    /// It has been read; says whether it is what was wanted.
    pub(super) fn read(&mut self, bytes: Vec<u8>) -> bool {
        let Some(wanted) = self.wanted.take_if(|wanted| wanted.bytes == bytes.len()) else {
            return false;
        };
        (self.segment, self.start, self.window) = (wanted.segment, wanted.offset, bytes);
        true
    }

    /// Gives the memory back.
    pub(super) fn close(&mut self) {
        self.window = Vec::new();
    }

    fn has(&self, segment: u64, offset: u64, bytes: usize) -> bool {
        segment == self.segment
            && offset >= self.start
            && offset + bytes as u64 <= self.start + self.window.len() as u64
    }
}
