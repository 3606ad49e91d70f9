//! The two directions of a connection.

use std::collections::VecDeque;

use super::arrival::ClosedWhy;
use crate::base::ids::NodeId;
use crate::base::time::Time;

/// What one direction of a connection carries, from one end to the other.
pub(super) struct Direction<P> {
    /// What is on its way, in order, each with its bytes.
    pub(super) pieces: VecDeque<(P, usize)>,
    pub(super) bytes: usize,
    /// How many of the pieces have a time at which they arrive. The others wait for the end of a cut.
    pub(super) scheduled: usize,
    /// How often these times have become void.
    pub(super) schedule: u64,
    /// When the last of them arrives; nothing overtakes.
    pub(super) last_arrival: Time,
    /// Since when nothing arrives although something should.
    pub(super) stuck_since: Option<Time>,
    pub(super) wants_room: bool,
    /// The end that sends has closed, behind the pieces.
    pub(super) closing: Option<ClosedWhy>,
}

impl<P> Default for Direction<P> {
    fn default() -> Self {
        Direction {
            pieces: VecDeque::new(),
            bytes: 0,
            scheduled: 0,
            schedule: 0,
            last_arrival: Time::ZERO,
            stuck_since: None,
            wants_room: false,
            closing: None,
        }
    }
}

impl<P> Direction<P> {
    /// Nothing has a time of arrival any more.
    pub(super) fn void_schedule(&mut self, now: Time) {
        self.scheduled = 0;
        self.schedule += 1;
        self.last_arrival = now;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Opening,
    Open,
    Closed,
}

pub(super) struct Connection<P> {
    /// The node that connected, and the other.
    pub(super) nodes: [NodeId; 2],
    pub(super) ends: [End; 2],
    pub(super) directions: [Direction<P>; 2],
}
