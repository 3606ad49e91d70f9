//! The receiving ends of the connections of one simulated core.

use super::network::LinkId;
use crate::engine::core::Engine;
use crate::wire::kind::Plane;
use crate::wire::limits::FrameLimits;
use crate::wire::reader::{FrameReader, ReadCounts};
use std::collections::BTreeMap;

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A connection of the virtual network.
    Link(LinkId),
    /// The test itself.
    Test(u64),
}

struct Wire {
    reader: FrameReader,
    /// What has come and found no room in the reader.
    waiting: Vec<u8>,
    failed: bool,
}

/// The receiving ends of one core.
#[derive(Default)]
pub(super) struct Wires {
    wires: BTreeMap<Source, Wire>,
    /// Those whose bytes made no sense, to be closed.
    failed: Vec<Source>,
    counts: ReadCounts,
}

impl Wires {
    pub(super) fn open(&mut self, source: Source, limits: FrameLimits) {
        let wire = Wire {
            reader: FrameReader::new(Plane::Data, limits),
            waiting: Vec::new(),
            failed: false,
        };
        self.wires.insert(source, wire);
    }

    pub(super) fn close(&mut self, source: Source) {
        if let Some(wire) = self.wires.remove(&source) {
            self.add(wire.reader.counts());
        }
    }

    pub(super) fn take_in(&mut self, source: Source, bytes: &[u8]) {
        if let Some(wire) = self.wires.get_mut(&source).filter(|wire| !wire.failed) {
            wire.waiting.extend_from_slice(bytes);
        }
    }

    /// Gives the core what has come, as much as it takes before its next turn. Returns whether something is left.
    pub(super) fn pump(&mut self, engine: &mut Engine) -> bool {
        let mut more = false;
        for (source, wire) in &mut self.wires {
            if wire.failed {
                continue;
            }
            loop {
                let count = wire.reader.take_in(&wire.waiting);
                wire.waiting.drain(..count);
                match engine.receive(&mut wire.reader) {
                    Ok(received) if received.more => {
                        more = true;
                        break;
                    }
                    Ok(received) if received.frames == 0 && count == 0 => break,
                    Ok(_) => {}
                    Err(_) => {
                        wire.failed = true;
                        wire.waiting.clear();
                        self.failed.push(*source);
                        break;
                    }
                }
            }
        }
        more
    }

    /// Whether nothing waits to be taken.
    pub(super) fn is_quiet(&self) -> bool {
        self.failed.is_empty() && self.wires.values().all(|wire| wire.waiting.is_empty())
    }

    pub(super) fn take_failed(&mut self) -> Vec<Source> {
        std::mem::take(&mut self.failed)
    }

    /// What all readers have done so far.
    pub(super) fn counts(&self) -> ReadCounts {
        let mut all = self.counts;
        for wire in self.wires.values() {
            add(&mut all, wire.reader.counts());
        }
        all
    }

    fn add(&mut self, counts: ReadCounts) {
        add(&mut self.counts, counts);
    }
}

fn add(all: &mut ReadCounts, counts: ReadCounts) {
    all.frames += counts.frames;
    all.bytes += counts.bytes;
    all.moved_bytes += counts.moved_bytes;
    all.blocks += counts.blocks;
}
