//! Frames of the core on their way to sockets.

use super::connection::Connection;
use super::links::Links;
use super::open::Open;
use super::output::{Appended, Output, Ticket};
use super::refusal::{NotSent, Unsent};
use super::remote::{ConnectionId, Remote};
use crate::base::time::Time;
use crate::wire::error::WriteError;
use crate::wire::frame::FrameRef;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::message::WireMessage;
use crate::wire::writer::FrameWriter;

impl Links {
    /// Sends a message to a remote: archives it behind what waits on its connection. The header's sender is the core's
    /// business, and its type tag is set from the message.
    ///
    /// # Errors
    /// If it is not accepted; the message is handed back. [`Output::Room`] says when there is room, where there was none.
    pub fn write<M: WireMessage>(
        &mut self,
        remote: Remote,
        header: &Header,
        id: &[u8],
        message: M,
    ) -> Result<Ticket, Unsent<M>> {
        let sent = self.send_with(remote, header.kind, |writer| {
            writer.write_ref(header, id, &message)
        });
        sent.map_err(|why| Unsent { message, why })
    }

    /// Sends a frame to a remote whose payload is bytes already.
    ///
    /// # Errors
    /// If it is not accepted; nothing of it was sent.
    pub fn write_bytes(
        &mut self,
        remote: Remote,
        header: &Header,
        id: &[u8],
        payload: &[u8],
    ) -> Result<Ticket, NotSent> {
        self.send_with(remote, header.kind, |writer| {
            writer.write_bytes(header, id, payload)
        })
    }

    /// Sends a frame that was received on to a remote, under a header that was adapted.
    ///
    /// # Errors
    /// If it is not accepted; nothing of it was sent.
    pub fn forward(
        &mut self,
        remote: Remote,
        header: &Header,
        frame: &FrameRef<'_>,
    ) -> Result<Ticket, NotSent> {
        self.send_with(remote, header.kind, |writer| writer.forward(header, frame))
    }

    /// Sends whole frames of the core to a remote that were written elsewhere, with one copy: as many from the front as the
    /// peer gives leave for, and while fewer than `mark` bytes wait here. What is not taken is to be offered again when bytes
    /// have left or credit has come, both of which need something of a socket; nobody is told [`Output::Room`].
    ///
    /// # Errors
    /// If there is no connection; nothing was taken.
    pub fn append(
        &mut self,
        remote: Remote,
        frames: &[u8],
        mark: usize,
    ) -> Result<Appended, NotSent> {
        let now = self.now;
        let Some((connection, open)) = self.current_of(remote) else {
            return Err(self.not_connected(remote));
        };
        let appended = open.append(now, frames, mark);
        let has_leave = open.has_leave();
        if appended.bytes < frames.len() && !has_leave {
            self.counters.refused_no_credit += 1;
        }
        self.counters.frames_out += appended.frames;
        self.counters.copied_out += appended.bytes as u64;
        self.queue(connection);
        Ok(appended)
    }

    /// How many frames of the core a connection has given to the network whole, as [`Down::handed`](super::output::Down).
    #[must_use]
    pub fn handed(&self, id: ConnectionId) -> u64 {
        self.open(id).map_or(0, Open::handed)
    }

    /// Whether a connection is up, and what it sends is frames.
    #[must_use]
    pub fn is_up(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| {
            connection.early_sent == connection.early.len()
                && connection.open().is_some_and(Open::is_up)
        })
    }

    fn current_of(&mut self, remote: Remote) -> Option<(ConnectionId, &mut Open)> {
        let id = self.peers.get(&remote)?.current?;
        let open = self.connections.get_mut(&id)?.open_mut()?;
        open.leaving.is_none().then_some((id, open))
    }

    fn not_connected(&mut self, remote: Remote) -> NotSent {
        self.counters.refused_not_connected += 1;
        let peer = self.peers.get(&remote);
        let is_wanted = peer.is_some_and(|peer| peer.wanted.is_some());
        NotSent::NotConnected { remote, is_wanted }
    }

    fn send_with(
        &mut self,
        remote: Remote,
        kind: Kind,
        write: impl FnOnce(&mut FrameWriter) -> Result<usize, WriteError>,
    ) -> Result<Ticket, NotSent> {
        let plane = self.purpose.plane();
        if is_own(kind) || !kind.travels_on(plane) {
            return Err(NotSent::WrongKind { kind, plane });
        }
        let now = self.now;
        let Some((connection, open)) = self.current_of(remote) else {
            return Err(self.not_connected(remote));
        };
        if !open.has_leave() {
            open.wants_room = true;
            let frames = open.window_frames();
            self.counters.refused_no_credit += 1;
            return Err(NotSent::NoCredit { remote, frames });
        }
        let written = open.write(now, write);
        open.wants_room |= matches!(written, Err(WriteError::Full { .. }));
        match written {
            Ok(number) => {
                self.counters.frames_out += 1;
                self.queue(connection);
                Ok(Ticket { connection, number })
            }
            Err(why) => {
                if matches!(why, WriteError::Full { .. }) {
                    self.counters.refused_full += 1;
                }
                Err(NotSent::Write(why))
            }
        }
    }

    /// The next connection that has something to write. Each is named once, until something is added.
    #[must_use]
    pub fn next_to_write(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.to_write.pop_front() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.is_queued = false;
                if !connection.pending().is_empty() {
                    return Some(id);
                }
            }
        }
        None
    }

    /// The bytes of a connection that wait to be written. There may be more behind them, so ask again when they were taken.
    #[must_use]
    pub fn pending(&self, id: ConnectionId) -> &[u8] {
        self.connections.get(&id).map_or(&[], Connection::pending)
    }

    /// The socket has taken the first `count` of the pending bytes.
    ///
    /// # Panics
    /// If that is more than were pending.
    pub fn sent(&mut self, id: ConnectionId, count: usize, now: Time) {
        self.at(now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        self.counters.writes += 1;
        self.counters.bytes_out += count as u64;
        let early = connection.early.len() - connection.early_sent;
        if early > 0 {
            assert!(count <= early, "more bytes were sent than were pending");
            connection.early_sent += count;
            if count == early {
                connection.early = Vec::new();
                connection.early_sent = 0;
            }
            self.queue(id);
            self.end_if_failed(id);
        } else if let Some(open) = connection.open_mut() {
            open.sent(count, now);
            self.write_owed(id);
            self.say_room(id);
        }
        self.part_if_done(id);
    }

    /// Says that there is room, if somebody waits for it.
    pub(super) fn say_room(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let remote = connection.remote;
            if let Some(open) = connection.open_mut()
                && open.wants_room
                && open.leaving.is_none()
                && open.has_room()
            {
                open.wants_room = false;
                self.outputs.push_back(Output::Room { remote });
            }
        }
    }
}

/// Whether frames of a kind are those of the connection itself.
pub(super) fn is_own(kind: Kind) -> bool {
    matches!(kind, Kind::Credit | Kind::Ping | Kind::Pong | Kind::Bye)
}
