//! What connections have done so far.

use super::ending::Why;
use std::collections::BTreeMap;

/// Counts of one core and purpose, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Attempts to connect.
    pub dials: u64,
    /// Connections that came from others.
    pub accepted: u64,
    /// Connections that came from others and were turned away at once, because of a bound or because they are for another
    /// purpose.
    pub turned_away: u64,
    /// Connections of others that had to make room for one that came later or matters more.
    pub pushed_out: u64,
    /// Connections that came up.
    pub ups: u64,
    /// Connections that were up and are no more.
    pub downs: u64,
    /// Connections that ended, up or not, by the class of the reason.
    pub ended: BTreeMap<&'static str, u64>,
    /// Greetings of others that had to wait for a dial of this side.
    pub parked: u64,
    /// Dials that had succeeded and had to wait for a dial of the other side.
    pub held: u64,
    /// Connections that were closed to speak with a new identity.
    pub renewed: u64,
    /// Frames that the core has sent.
    pub frames_out: u64,
    /// Frames that the core was given.
    pub frames_in: u64,
    /// Frames that were accepted for sending and had not left when their connection ended.
    pub frames_unsent: u64,
    /// Bytes that sockets have taken.
    pub bytes_out: u64,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes of frames that were copied on their way to a socket, because the core had written them elsewhere
    /// ([`append`](super::links::Links::append)). What is written straight into a connection is not copied again.
    pub copied_out: u64,
    /// Bytes of unfinished frames that were moved on their way from a socket to the core, as
    /// [`ReadCounts::moved_bytes`](crate::wire::reader::ReadCounts::moved_bytes). Whole frames are read where they came.
    pub moved_in: u64,
    /// Writes of sockets.
    pub writes: u64,
    /// Reads of sockets.
    pub reads: u64,
    /// Frames refused because the buffer was full.
    pub refused_full: u64,
    /// Frames refused because the peer gave no leave.
    pub refused_no_credit: u64,
    /// Frames refused because there was no connection.
    pub refused_not_connected: u64,
    /// Pings sent because nothing was heard.
    pub pings: u64,
    /// Pings answered.
    pub pongs: u64,
    /// Credit frames sent.
    pub credits: u64,
    /// How often time that this node was late was counted against nobody.
    pub stalls: u64,
    /// Lines for the log.
    pub notes: u64,
    /// Troubles that were not told, because they had been told lately.
    pub untold: u64,
}

impl LinkCounters {
    /// Connections that ended for reasons of a class; see [`Why::class`].
    #[must_use]
    pub fn ended_by(&self, class: &str) -> u64 {
        self.ended.get(class).copied().unwrap_or(0)
    }

    pub(super) fn count_end(&mut self, why: &Why) {
        *self.ended.entry(why.class()).or_default() += 1;
    }
}
