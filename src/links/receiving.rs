//! Bytes from sockets on their way to the core.

use super::connection::{Connection, Phase};
use super::ending::{Farewell, Gone, Why};
use super::links::Links;
use super::open::Open;
use super::output::{Arrived, Received, Took};
use super::remote::{ConnectionId, Remote};
use super::sending::is_own;
use crate::base::time::Time;
use crate::wire::credit::Credit;
use crate::wire::error::WireError;
use crate::wire::frame::FrameRef;
use crate::wire::kind::Kind;
use crate::wire::reader::FrameReader;

impl Links {
    /// Where the driver reads the next bytes of a connection into; say with [`filled`](Links::filled) how many there were,
    /// before any other call.
    ///
    /// It is empty when nothing may be read now: before a dial is connected, when frames wait to be taken, or when nothing
    /// more of the peer matters. Then ask again after the next turn.
    #[must_use]
    pub fn spare(&mut self, id: ConnectionId) -> &mut [u8] {
        let Some(connection) = self.connections.get_mut(&id) else {
            return &mut [];
        };
        match &mut connection.phase {
            Phase::Connecting { .. } => &mut [],
            Phase::Greeting(meeting) => meeting.spare(),
            Phase::Open(open) => {
                if open.leaving.as_ref().is_some_and(|leaving| leaving.is_deaf) {
                    return &mut [];
                }
                let spare = open.reader.as_mut().map_or(&mut [][..], FrameReader::spare);
                open.is_not_listening = spare.is_empty();
                spare
            }
        }
    }

    /// So many bytes were read into the spare room.
    ///
    /// # Panics
    /// If that is more than there was.
    pub fn filled(&mut self, id: ConnectionId, count: usize, now: Time) {
        self.at(now);
        if count == 0 {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        self.counters.reads += 1;
        self.counters.bytes_in += count as u64;
        match &mut connection.phase {
            Phase::Connecting { .. } => {}
            Phase::Greeting(meeting) => {
                let mut inbox = std::mem::take(&mut meeting.inbox);
                self.greet(id, &inbox[..count]);
                if let Some(meeting) = self
                    .connections
                    .get_mut(&id)
                    .and_then(Connection::meeting_mut)
                {
                    inbox.clear();
                    meeting.inbox = inbox;
                }
            }
            Phase::Open(open) => {
                open.heard(now);
                if let Some(reader) = &mut open.reader {
                    reader.filled(count);
                    let moved = reader.counts().moved_bytes;
                    self.counters.moved_in += moved - open.moved_in;
                    open.moved_in = moved;
                }
                self.weigh(id);
            }
        }
    }

    /// Copies in as many of the bytes as there is room for; how many that were. For a network that is simulated.
    pub fn take_in(&mut self, id: ConnectionId, bytes: &[u8], now: Time) -> usize {
        let spare = self.spare(id);
        let count = spare.len().min(bytes.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.filled(id, count, now);
        count
    }

    /// Gives the core up to `most` frames that have come on a connection, each where it lies; those of the connection itself,
    /// which are answered here, are counted in. Call it after
    /// [`filled`](Links::filled), until [`Received::more`] is false; take the outputs between the calls, so that the core
    /// hears of a connection before it hears from it.
    ///
    /// While it has a frame the core may send others, but not receive.
    pub fn receive(
        &mut self,
        id: ConnectionId,
        most: usize,
        now: Time,
        mut take: impl FnMut(&mut Links, Arrived<'_>) -> Took,
    ) -> Received {
        self.at(now);
        let mut received = Received::default();
        let Some(mut reading) = Reading::begin(self, id) else {
            return received;
        };
        let Reading {
            links,
            reader,
            done,
            made_room,
            ..
        } = &mut reading;
        let Some(reader) = reader else {
            return received;
        };
        let mut looked_at = 0;
        loop {
            if looked_at == most {
                received.more = true;
                break;
            }
            looked_at += 1;
            let outputs = links.outputs.len();
            let Some((remote, open)) = links.listened_to(id) else {
                break;
            };
            let (life, is_up) = (open.life, open.is_up());
            let frame = match reader.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    links.leave(id, Why::Garbage(error), Farewell::Garbage);
                    break;
                }
            };
            *made_room = true;
            if is_own(frame.kind()) || !is_up {
                if let Err(why) = links.own_frame(id, &frame, is_up) {
                    links.leave(id, why, Farewell::Garbage);
                }
                // The core hears first of what this has changed.
                if links.outputs.len() != outputs {
                    received.more = true;
                    break;
                }
                continue;
            }
            let bytes = frame.bytes().len();
            if !open.count_arrived(bytes) {
                links.leave(id, Why::Overdrawn, Farewell::Garbage);
                break;
            }
            links.counters.frames_in += 1;
            received.frames += 1;
            let arrived = Arrived {
                connection: id,
                remote,
                life,
                frame,
            };
            let took = take(links, arrived);
            if took != Took::Held {
                done.frames += 1;
                done.bytes += bytes as u64;
            }
            if took == Took::Last {
                received.more = true;
                break;
            }
        }
        received
    }

    /// The core has done with frames that it had kept: so many, of so many bytes in all.
    pub fn taken(&mut self, id: ConnectionId, done: Credit, now: Time) {
        self.at(now);
        self.take_back(id, done);
    }

    fn take_back(&mut self, id: ConnectionId, done: Credit) {
        if let Some(open) = self.connections.get_mut(&id).and_then(Connection::open_mut) {
            open.take(done);
            self.write_owed(id);
        }
    }

    /// The socket of a connection is no more, or nothing comes from it any more. Hand in what came before, and receive it,
    /// first: frames that were not taken are gone.
    pub fn closed(&mut self, id: ConnectionId, gone: Gone, now: Time) {
        self.at(now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let why = match &mut connection.phase {
            Phase::Connecting { .. } => Why::NotReached(match gone {
                Gone::Ended => "the connection was closed at once".to_owned(),
                Gone::Broken(why) => why,
            }),
            Phase::Greeting(meeting) => match &meeting.failed {
                Some((why, _)) => why.clone(),
                None => {
                    meeting.greeting.lost();
                    let mut why = Why::Broken("the greeting was over".to_owned());
                    while let Some(step) = meeting.greeting.next_step() {
                        if let crate::wire::greeting::Step::Close(error) = step {
                            why = Why::Greeting(error);
                        }
                    }
                    why
                }
            },
            Phase::Open(open) => match (&open.leaving, gone) {
                (Some(leaving), _) => leaving.why.clone(),
                (None, Gone::Ended) => {
                    let in_a_frame = open.reader.as_ref().is_some_and(FrameReader::is_in_a_frame);
                    Why::Ended { in_a_frame }
                }
                (None, Gone::Broken(why)) => Why::Broken(why),
            },
        };
        // The driver has still to let go of the socket.
        self.remove(id, why, true);
    }

    /// The connection and who is at the other end, if frames of it are still looked at.
    fn listened_to(&mut self, id: ConnectionId) -> Option<(Remote, &mut Open)> {
        let connection = self.connections.get_mut(&id)?;
        let remote = connection.remote;
        let open = connection.open_mut()?;
        let is_deaf = open.leaving.as_ref().is_some_and(|leaving| leaving.is_deaf);
        (!is_deaf).then_some((remote, open))
    }

    /// A frame of the connection itself, or the first of one that is not up.
    fn own_frame(
        &mut self,
        id: ConnectionId,
        frame: &FrameRef<'_>,
        is_up: bool,
    ) -> Result<(), Why> {
        let kind = frame.kind();
        let malformed = |what| Why::Garbage(WireError::Malformed { kind, what });
        let content = frame.payload().bytes();
        let deadline = self.now + self.settings.close_patience;
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        let dialled = connection.dialled;
        let Some(open) = connection.open_mut() else {
            return Ok(());
        };
        match kind {
            Kind::Bye => {
                let farewell = Farewell::of(frame.header().reason);
                open.hear_bye(farewell, content, deadline);
                self.write_owed(id);
                self.arm(id);
                self.part_if_done(id);
            }
            Kind::Ping => {
                open.owe_pong(content);
                let is_leaving = open.leaving.is_some();
                // It confirms a connection that the peer has dialled.
                if !is_up && !dialled && !is_leaving {
                    self.follow(id);
                }
                self.write_owed(id);
            }
            _ if !is_up => {
                return Err(malformed(
                    "a connection begins with a ping of the side that has dialled it",
                ));
            }
            Kind::Credit => {
                let leave = Credit::decode(content).map_err(Why::Garbage)?;
                if !open.get_leave(leave) {
                    return Err(malformed("control connections know no credit"));
                }
                self.say_room(id);
            }
            // That bytes have come is what counts.
            _ => {}
        }
        Ok(())
    }
}

/// A connection whose frames are being taken. Its reader is out of it, so that the rest can be used meanwhile, and goes back
/// in any case.
struct Reading<'a> {
    links: &'a mut Links,
    id: ConnectionId,
    reader: Option<FrameReader>,
    /// What the core has done with.
    done: Credit,
    /// Frames were taken out of the reader.
    made_room: bool,
}

impl<'a> Reading<'a> {
    fn begin(links: &'a mut Links, id: ConnectionId) -> Option<Reading<'a>> {
        let reader = links
            .connections
            .get_mut(&id)
            .and_then(Connection::open_mut)?
            .reader
            .take();
        Some(Reading {
            links,
            id,
            reader,
            done: Credit::default(),
            made_room: false,
        })
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(open) = self
            .links
            .connections
            .get_mut(&self.id)
            .and_then(Connection::open_mut)
        {
            open.reader = self.reader.take();
            // From now on it counts if nothing comes, whether the driver tries at once or not.
            open.is_not_listening &= !self.made_room;
        }
        if self.done.frames > 0 {
            self.links.take_back(self.id, self.done);
        }
    }
}
