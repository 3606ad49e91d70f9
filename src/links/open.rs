//! A connection on which both sides agree: its frames, the leave to send them, and whether the peer is there.

use super::ending::{Farewell, Why};
use super::output::{Appended, Down};
use super::remote::{ConnectionId, Remote};
use super::settings::LinkSettings;
use crate::base::time::Time;
use crate::wire::address::{Life, Sender, Target};
use crate::wire::clip::clipped;
use crate::wire::credit::Credit;
use crate::wire::greeting::Established;
use crate::wire::header::Header;
use crate::wire::kind::{Kind, Plane};
use crate::wire::limits::FrameLimits;
use crate::wire::reader::FrameReader;
use crate::wire::writer::FrameWriter;
use std::collections::VecDeque;

/// Marks a frame of the core among the lengths of frames that wait.
const OF_THE_CORE: u32 = 1 << 31;
/// What a ping carries, and a farewell says, at most.
const PING_BYTES: usize = 64;
const TEXT_BYTES: usize = 256;

/// Whether somebody was asked if it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    None,
    /// It is to be written.
    Owed,
    /// It waits, and has left when so many bytes have.
    Written(u64),
    /// It has left then.
    Left(Time),
}

/// A connection that is being closed in good order.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) why: Why,
    farewell: Farewell,
    text: String,
    pub(super) deadline: Time,
    written: bool,
    /// The peer has said its last frame.
    heard: bool,
    /// As the answer to ours: it has taken everything before.
    answered: bool,
    /// Nothing more is read.
    pub(super) is_deaf: bool,
}

/// Such a connection.
#[derive(Debug)]
pub(super) struct Open {
    /// What the peer says, until it is told that the connection is up.
    pub(super) peer: Option<Established>,
    pub(super) life: Life,
    /// Where the peer says that it is reached.
    pub(super) advertised: String,
    pub(super) cluster_id: Option<u128>,
    sender: Sender,
    /// Until when it has to be up.
    pub(super) confirm_by: Time,
    /// It has to wait for one that the peer has dialled.
    pub(super) is_held: bool,
    /// Since when it is up.
    pub(super) since: Option<Time>,
    /// What its reader had moved when that was counted last.
    pub(super) moved_in: u64,
    /// It is out while its frames are being taken.
    pub(super) reader: Option<FrameReader>,
    writer: FrameWriter,
    /// How many bytes may wait in it.
    writer_bytes: usize,
    /// The lengths of the frames that wait, the first less what is gone of it.
    lengths: VecDeque<u32>,
    written: u64,
    sent: u64,
    accepted: u64,
    handed: u64,
    /// What was sent, and what may be. Without bounds for control.
    sent_credit: Credit,
    leave: Credit,
    /// What came, what of it the core has taken, and what the peer was given leave for.
    came: Credit,
    taken: Credit,
    granted: Credit,
    window: Credit,
    owes_credit: bool,
    owed_pong: Option<Vec<u8>>,
    ping: Ping,
    heard: Time,
    progress: Time,
    /// When it was looked at last.
    looked: Time,
    /// The driver had no room to read into, because the core does not take what has come.
    pub(super) is_not_listening: bool,
    pub(super) wants_room: bool,
    pub(super) leaving: Option<Leaving>,
}

/// How many frames of its own it has written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnFrames {
    pub(super) pings: u64,
    pub(super) pongs: u64,
    pub(super) credits: u64,
}

impl Open {
    pub(super) fn new(
        peer: Established,
        sender: Sender,
        limits: FrameLimits,
        settings: &LinkSettings,
        now: Time,
    ) -> Open {
        let plane = peer.purpose.plane();
        let endless = Credit {
            frames: u64::MAX,
            bytes: u64::MAX,
        };
        let (leave, window) = match plane {
            Plane::Data => (Credit::default(), settings.window()),
            _ => (endless, endless),
        };
        Open {
            life: peer.peer.life,
            advertised: peer.peer.advertised.clone(),
            cluster_id: peer.peer.cluster_id,
            peer: Some(peer),
            sender,
            // Anew, however long the greeting took: whoever has dialled may have confirmed it already.
            confirm_by: now + settings.patience.whole,
            is_held: false,
            since: None,
            moved_in: 0,
            reader: Some(FrameReader::new(plane, limits)),
            writer: FrameWriter::new(limits),
            writer_bytes: limits.write_buffer_bytes,
            lengths: VecDeque::new(),
            written: 0,
            sent: 0,
            accepted: 0,
            handed: 0,
            sent_credit: Credit::default(),
            leave,
            came: Credit::default(),
            taken: Credit::default(),
            granted: window,
            window,
            owes_credit: false,
            owed_pong: None,
            ping: Ping::None,
            heard: now,
            progress: now,
            looked: now,
            is_not_listening: false,
            wants_room: false,
            leaving: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.since.is_some()
    }

    /// It is used from now on. Whoever has dialled says so with a ping, which is its first frame; then both sides give leave.
    pub(super) fn come_up(&mut self, now: Time, dialled: bool) {
        self.since = Some(now);
        self.heard = now;
        self.looked = now;
        if dialled {
            self.ping = Ping::Owed;
        }
        self.owes_credit = self.has_credit();
    }

    fn has_credit(&self) -> bool {
        self.window.frames != u64::MAX
    }

    pub(super) fn pending(&self) -> &[u8] {
        self.writer.pending()
    }

    /// Whether the peer lets one more frame come.
    pub(super) fn has_leave(&self) -> bool {
        self.sent_credit.frames < self.leave.frames && self.sent_credit.bytes < self.leave.bytes
    }

    pub(super) fn window_frames(&self) -> u64 {
        self.window.frames
    }

    /// Whether a frame that was refused may be tried again.
    pub(super) fn has_room(&self) -> bool {
        self.has_leave() && self.writer_is_half_empty()
    }

    fn writer_is_half_empty(&self) -> bool {
        // Nobody knows the size of the frame that was refused; half of the buffer is a fair guess.
        self.pending().len() <= self.writer_bytes / 2
    }

    /// Writes a frame of the core; its number.
    pub(super) fn write<E>(
        &mut self,
        now: Time,
        write: impl FnOnce(&mut FrameWriter) -> Result<usize, E>,
    ) -> Result<u64, E> {
        let length = write(&mut self.writer)?;
        self.accepted += 1;
        self.sent_credit.frames += 1;
        self.sent_credit.bytes += length as u64;
        self.note_written(now, length as u32 | OF_THE_CORE);
        Ok(self.accepted)
    }

    /// Takes whole frames of the core that were written elsewhere.
    pub(super) fn append(&mut self, now: Time, frames: &[u8], mark: usize) -> Appended {
        let (sent, leave) = (self.sent_credit, self.leave);
        let mut appended = Appended::default();
        let was_empty = self.lengths.is_empty();
        let lengths = &mut self.lengths;
        self.writer.append(frames, mark, |length| {
            let has_leave = sent.frames + appended.frames < leave.frames
                && sent.bytes + (appended.bytes as u64) < leave.bytes;
            if has_leave {
                appended.frames += 1;
                appended.bytes += length;
                lengths.push_back(length as u32 | OF_THE_CORE);
            }
            has_leave
        });
        if was_empty && appended.frames > 0 {
            self.progress = now;
        }
        self.accepted += appended.frames;
        self.sent_credit.frames += appended.frames;
        self.sent_credit.bytes += appended.bytes as u64;
        self.written += appended.bytes as u64;
        appended
    }

    /// How many frames of the core were given to the network whole.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    fn note_written(&mut self, now: Time, length: u32) {
        if self.lengths.is_empty() {
            self.progress = now;
        }
        self.written += u64::from(length & !OF_THE_CORE);
        self.lengths.push_back(length);
    }

    /// Writes what this side owes, as far as there is room; whether something was written.
    pub(super) fn write_owed(&mut self, now: Time, count: &mut OwnFrames) -> bool {
        let before = self.written;
        let said_all = self.leaving.as_ref().is_some_and(|leaving| leaving.written);
        if said_all {
            return false;
        }
        // The ping of whoever dialled comes first, for it says that the connection is used.
        if self.ping == Ping::Owed && self.write_own(now, Kind::Ping, Farewell::Answer, &[]) {
            self.ping = Ping::Written(self.written);
            count.pings += 1;
        }
        if self.owes_credit {
            let credit = self.granted.encode();
            if self.write_own(now, Kind::Credit, Farewell::Answer, &credit) {
                self.owes_credit = false;
                count.credits += 1;
            }
        }
        if let Some(content) = self.owed_pong.take() {
            if self.write_own(now, Kind::Pong, Farewell::Answer, &content) {
                count.pongs += 1;
            } else {
                self.owed_pong = Some(content);
            }
        }
        if let Some((farewell, text)) = self.leaving.as_ref().map(|l| (l.farewell, l.text.clone()))
        {
            let written = self.write_own(now, Kind::Bye, farewell, text.as_bytes());
            if let Some(leaving) = &mut self.leaving {
                leaving.written = written;
            }
        }
        self.written > before
    }

    fn write_own(&mut self, now: Time, kind: Kind, farewell: Farewell, content: &[u8]) -> bool {
        let mut header = Header::new(kind, Target::Node, self.sender);
        header.reason = (kind == Kind::Bye).then(|| farewell.reason());
        match self.writer.write_bytes(&header, &[], content) {
            Ok(length) => {
                self.note_written(now, length as u32);
                true
            }
            // There will be room when the peer has taken some.
            Err(_) => false,
        }
    }

    /// The socket has taken so many bytes.
    pub(super) fn sent(&mut self, count: usize, now: Time) {
        self.writer.sent(count);
        self.sent += count as u64;
        self.progress = now;
        let mut left = count as u32;
        while let Some(first) = self.lengths.front_mut() {
            let length = *first & !OF_THE_CORE;
            if left < length {
                *first -= left;
                break;
            }
            left -= length;
            self.handed += u64::from(*first & OF_THE_CORE != 0);
            self.lengths.pop_front();
        }
        if let Ping::Written(end) = self.ping
            && self.sent >= end
        {
            self.ping = Ping::Left(now);
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&mut self, now: Time) {
        self.heard = now;
        if matches!(self.ping, Ping::Left(_)) {
            self.ping = Ping::None;
        }
    }

    /// A frame of the core has come. `false`: it should not have.
    pub(super) fn count_arrived(&mut self, bytes: usize) -> bool {
        let may = self.came.frames < self.granted.frames && self.came.bytes < self.granted.bytes;
        self.came.frames += 1;
        self.came.bytes += bytes as u64;
        may
    }

    /// The core has done with so much.
    pub(super) fn take(&mut self, done: Credit) {
        if !self.has_credit() {
            return;
        }
        // More than has come cannot be taken, whatever the core says.
        self.taken.frames = self
            .taken
            .frames
            .saturating_add(done.frames)
            .min(self.came.frames);
        self.taken.bytes = self
            .taken
            .bytes
            .saturating_add(done.bytes)
            .min(self.came.bytes);
        let due = Credit {
            frames: self.taken.frames + self.window.frames,
            bytes: self.taken.bytes + self.window.bytes,
        };
        let grown = due.frames - self.granted.frames >= self.window.frames / 2
            || due.bytes - self.granted.bytes >= self.window.bytes / 2;
        if grown {
            self.granted = due;
            self.owes_credit = true;
        }
    }

    /// The peer gives leave. `false`: it should not.
    pub(super) fn get_leave(&mut self, leave: Credit) -> bool {
        self.leave.frames = self.leave.frames.max(leave.frames);
        self.leave.bytes = self.leave.bytes.max(leave.bytes);
        self.has_credit()
    }

    /// The peer asks.
    pub(super) fn owe_pong(&mut self, content: &[u8]) {
        self.owed_pong = Some(content[..content.len().min(PING_BYTES)].to_vec());
    }

    /// Begins to close in good order. Once it is closing, that stands.
    pub(super) fn leave(&mut self, why: Why, farewell: Farewell, deadline: Time) {
        if self.leaving.is_none() {
            let text = match &why {
                Why::Garbage(error) => clipped(&error.to_string(), TEXT_BYTES),
                Why::Overdrawn => clipped(&why.to_string(), TEXT_BYTES),
                _ => String::new(),
            };
            self.leaving = Some(Leaving {
                is_deaf: farewell == Farewell::Garbage,
                why,
                farewell,
                text,
                deadline,
                written: false,
                heard: false,
                answered: false,
            });
        }
    }

    /// The peer has said its last frame.
    pub(super) fn hear_bye(&mut self, farewell: Farewell, text: &[u8], deadline: Time) {
        let text = clipped(&String::from_utf8_lossy(text), TEXT_BYTES);
        let why = Why::ByPeer { farewell, text };
        self.leave(why, Farewell::Answer, deadline);
        if let Some(leaving) = &mut self.leaving {
            leaving.heard = true;
            leaving.answered = farewell == Farewell::Answer;
        }
    }

    /// Everything is said, on both sides.
    pub(super) fn has_parted(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            leaving.written && self.pending().is_empty() && (leaving.heard || leaving.is_deaf)
        })
    }

    /// What became of its frames.
    pub(super) fn down(&self, remote: Remote, connection: ConnectionId, why: Why) -> Down {
        let answered = self
            .leaving
            .as_ref()
            .is_some_and(|leaving| leaving.answered);
        Down {
            remote,
            connection,
            life: self.life,
            why,
            accepted: self.accepted,
            handed: self.handed,
            in_order: answered && self.handed == self.accepted,
        }
    }

    /// When it has to be looked at, at the latest. What is heard or sent until then makes that later, or begins something that
    /// takes longer than a period.
    pub(super) fn deadline(&self, settings: &LinkSettings) -> Time {
        if let Some(leaving) = &self.leaving {
            return leaving.deadline;
        }
        if !self.is_up() {
            return self.confirm_by;
        }
        let silence = match self.ping {
            Ping::None => self.heard + settings.ping_period,
            Ping::Owed | Ping::Written(_) => Time::MAX,
            Ping::Left(at) => at.max(self.heard) + settings.silence,
        };
        let stuck = match self.lengths.is_empty() {
            true => Time::MAX,
            false => self.progress + settings.silence,
        };
        silence.min(stuck).min(self.looked + settings.ping_period)
    }

    /// Looks at it: why it is over, if it is.
    pub(super) fn check(&mut self, settings: &LinkSettings, now: Time) -> Option<Why> {
        self.looked = now;
        if let Some(leaving) = &self.leaving {
            return (now >= leaving.deadline).then(|| leaving.why.clone());
        }
        if !self.is_up() {
            return (now >= self.confirm_by).then_some(Why::NotConfirmed);
        }
        if !self.lengths.is_empty() && now >= self.progress + settings.silence {
            return Some(Why::Stuck(settings.silence));
        }
        if self.is_not_listening {
            // Whatever the peer says waits in the socket.
            self.heard = now;
            if self.ping != Ping::Owed {
                self.ping = Ping::None;
            }
        }
        match self.ping {
            Ping::None if now >= self.heard + settings.ping_period => {
                self.ping = Ping::Owed;
                None
            }
            Ping::Left(at) if now >= at.max(self.heard) + settings.silence => {
                Some(Why::Silent(settings.silence))
            }
            _ => None,
        }
    }

    /// The peer is to be asked whether it is there, unless that goes on.
    pub(super) fn ask(&mut self) {
        if self.ping == Ping::None && self.leaving.is_none() {
            self.ping = Ping::Owed;
        }
    }

    /// This node was late: that time counts against nobody.
    pub(super) fn stalled(&mut self, late: std::time::Duration) {
        self.heard = self.heard + late;
        self.progress = self.progress + late;
        self.confirm_by = self.confirm_by + late;
        if let Some(leaving) = &mut self.leaving {
            leaving.deadline = leaving.deadline + late;
        }
        if let Ping::Left(at) = &mut self.ping {
            *at = *at + late;
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Open>()
            + self.reader.as_ref().map_or(0, FrameReader::block_bytes)
            + self.writer.buffer_bytes()
            + self.lengths.capacity() * size_of::<u32>()
    }
}
