//! One end of a connection of the virtual network, as a node has it: what has come waits until it is read.

use super::network::{Arrival, ClosedWhy};
use crate::base::rng::Rng;
use crate::links::ending::Gone;
use rand::RngExt;
use std::collections::VecDeque;

/// A socket.
#[derive(Default)]
pub(super) struct Socket {
    pub(super) inbox: VecDeque<u8>,
    /// It connected, and nobody has been told.
    pub(super) has_opened: bool,
    /// It takes nothing more for now.
    pub(super) is_blocked: bool,
    /// It was closed, behind what is in the inbox.
    pub(super) gone: Option<Gone>,
}

impl Socket {
    /// Takes what has come for it.
    pub(super) fn arrive(&mut self, arrival: Arrival<Vec<u8>>) {
        match arrival {
            Arrival::Opened { connected, .. } => self.has_opened |= connected,
            Arrival::Received { payload, .. } => self.inbox.extend(payload),
            Arrival::Writable { .. } => self.is_blocked = false,
            Arrival::Closed { why, .. } => {
                self.gone = Some(match why {
                    ClosedWhy::ByPeer => Gone::Ended,
                    why => Gone::Broken(format!("{why:?}")),
                });
            }
            Arrival::Datagram { .. } => {}
        }
    }

    /// Has `take` take from a portion of what has come, as a network may give it; it says how many bytes that were.
    pub(super) fn read(&mut self, rng: &mut Rng, take: impl FnOnce(&[u8]) -> usize) -> usize {
        if self.inbox.is_empty() {
            return 0;
        }
        let bytes = self.inbox.make_contiguous();
        let portion = match rng.random_ratio(1, 4) {
            true => rng.random_range(1..=bytes.len()),
            false => bytes.len(),
        };
        let count = take(&bytes[..portion]);
        self.inbox.drain(..count);
        count
    }

    /// Why it was closed, once everything has been read.
    pub(super) fn take_end(&mut self) -> Option<Gone> {
        match self.inbox.is_empty() {
            true => self.gone.take(),
            false => None,
        }
    }
}
