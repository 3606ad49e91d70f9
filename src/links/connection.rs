//! One connection, whatever it has come to.
//!
//! ```text
//!  dialled ──► connecting ──► greeting ──► agreed ──► up ──► leaving ──► gone
//!  accepted ────────────────► greeting ──► agreed ──► up ──► leaving ──► gone
//! ```
//!
//! From every state it may be gone at once. Agreed means that both sides know each other and that whoever dialled has not
//! said yet that it uses the connection; see [`settling`](super::settling).

use super::ending::Why;
use super::open::Open;
use super::remote::Remote;
use super::settings::LinkSettings;
use crate::base::time::Time;
use crate::wire::greeting::{Greeting, HELLO_BYTES};

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Who is at the other end, or claims to be while the greeting goes on.
    pub(super) remote: Remote,
    pub(super) dialled: bool,
    pub(super) phase: Phase,
    /// Bytes of the greeting, and how many of them were sent.
    pub(super) early: Vec<u8>,
    pub(super) early_sent: usize,
    /// Whether it waits in the queue of those that have something to write.
    pub(super) is_queued: bool,
    /// When it is looked at next.
    pub(super) timer: Option<Time>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Connecting { deadline: Time },
    Greeting(Box<Meeting>),
    Open(Box<Open>),
}

/// A greeting that goes on.
#[derive(Debug)]
pub(super) struct Meeting {
    pub(super) greeting: Greeting,
    /// Where the driver reads into.
    pub(super) inbox: Vec<u8>,
    /// What has come and is not looked at yet.
    pub(super) parked: Vec<u8>,
    /// For one that was accepted: its hello was, too.
    pub(super) welcomed: bool,
    /// It has failed, and its last word is still to be sent, until then.
    pub(super) failed: Option<(Why, Time)>,
}

impl Meeting {
    pub(super) fn new(greeting: Greeting) -> Meeting {
        Meeting {
            greeting,
            inbox: Vec::new(),
            parked: Vec::new(),
            welcomed: false,
            failed: None,
        }
    }

    /// Where the driver may read into.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.failed.is_some() {
            return &mut [];
        }
        // A table is read in pieces.
        let wants = self.greeting.wants().min(HELLO_BYTES);
        let room = wants.min(HELLO_BYTES.saturating_sub(self.parked.len()));
        self.inbox.resize(room, 0);
        &mut self.inbox
    }

    fn deadline(&self) -> Option<Time> {
        match &self.failed {
            Some((_, deadline)) => Some(*deadline),
            None => self.greeting.deadline(),
        }
    }
}

impl Connection {
    pub(super) fn new(remote: Remote, dialled: bool, phase: Phase) -> Connection {
        Connection {
            remote,
            dialled,
            phase,
            early: Vec::new(),
            early_sent: 0,
            is_queued: false,
            timer: None,
        }
    }

    pub(super) fn open(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(super) fn meeting_mut(&mut self) -> Option<&mut Meeting> {
        match &mut self.phase {
            Phase::Greeting(meeting) => Some(meeting),
            _ => None,
        }
    }

    /// Whether it was accepted, its hello was found good, and it is not up yet.
    pub(super) fn is_welcomed(&self) -> bool {
        !self.dialled
            && match &self.phase {
                Phase::Connecting { .. } => false,
                Phase::Greeting(meeting) => meeting.welcomed && meeting.failed.is_none(),
                Phase::Open(open) => !open.is_up() && open.leaving.is_none(),
            }
    }

    /// The bytes that wait to be written.
    pub(super) fn pending(&self) -> &[u8] {
        match &self.early[self.early_sent..] {
            [] => self.open().map_or(&[], |open| open.pending()),
            early => early,
        }
    }

    /// When it has to be looked at, at the latest.
    pub(super) fn deadline(&self, settings: &LinkSettings) -> Option<Time> {
        match &self.phase {
            Phase::Connecting { deadline } => Some(*deadline),
            Phase::Greeting(meeting) => meeting.deadline(),
            Phase::Open(open) => Some(open.deadline(settings)),
        }
    }

    /// How much memory it takes.
    pub(super) fn held_bytes(&self) -> usize {
        let phase = match &self.phase {
            Phase::Connecting { .. } => 0,
            Phase::Greeting(meeting) => {
                size_of::<Meeting>()
                    + meeting.greeting.held_bytes()
                    + meeting.inbox.capacity()
                    + meeting.parked.capacity()
            }
            Phase::Open(open) => open.held_bytes(),
        };
        size_of::<Connection>() + self.early.capacity() + phase
    }
}
