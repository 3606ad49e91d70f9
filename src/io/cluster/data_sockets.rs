//! Sockets of the connections of one data core: dialled without waiting, read into the room that the connections give, and
//! written as far as they take.

use super::control_sockets::begin_to_connect;
use super::guests::Arrival;
use super::readiness::{Readiness, Ready, Token};
use crate::base::time::Time;
use crate::engine::core::Engine;
use crate::engine::data_links::{DataLinks, DataOutput};
use crate::links::ending::Gone;
use crate::links::remote::ConnectionId;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;

struct DataSocket {
    stream: TcpStream,
    /// It was dialled, and is not connected yet.
    connecting: bool,
    /// It took less than it was given.
    is_full: bool,
    /// It is among those that may be read.
    is_readable: bool,
    /// The end of what comes was announced: it is read until it shows.
    ends: bool,
    /// It cannot be written, for this reason; what has come before that is read first.
    broken: Option<String>,
}

impl DataSocket {
    fn takes_bytes(&self) -> bool {
        !self.is_full && !self.connecting && self.broken.is_none()
    }
}

/// The connections of a data core, with their sockets. As many as [`DataLinks`] names: it bounds them.
pub(super) struct DataSockets {
    pub(super) links: DataLinks,
    sockets: BTreeMap<ConnectionId, DataSocket>,
    /// Those from which something may be read.
    readable: Vec<ConnectionId>,
    /// Those that were full and can be written again.
    writable: Vec<ConnectionId>,
    /// When there is something to do for the connections, at the latest.
    pub(super) due: Time,
    /// Something has happened that they have to act upon.
    is_stirred: bool,
}

impl DataSockets {
    pub(super) fn new(links: DataLinks) -> DataSockets {
        DataSockets {
            links,
            sockets: BTreeMap::new(),
            readable: Vec::new(),
            writable: Vec::new(),
            due: Time::MAX,
            is_stirred: true,
        }
    }

    /// Something was told to the connections.
    pub(super) fn stir(&mut self) {
        self.is_stirred = true;
    }

    /// Takes a connection that has come by the port. One that is turned away is closed.
    pub(super) fn accept(&mut self, arrival: Arrival, readiness: &Readiness, now: Time) {
        let stream = TcpStream::from(arrival.socket);
        self.is_stirred = true;
        let Ok(id) = self.links.accept(*arrival.guest, now) else {
            return; // The reason is among the notes.
        };
        if let Err(error) = readiness.add(&stream, Token::Connection(id.number())) {
            let gone = Gone::Broken(error.to_string());
            return self.links.closed(id, gone, now);
        }
        self.insert(id, stream, false);
    }

    /// A socket has become ready.
    pub(super) fn ready(&mut self, ready: Ready, now: Time) {
        let Token::Connection(number) = ready.token else {
            return;
        };
        let id = ConnectionId::from_number(number);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if socket.connecting {
            if !ready.write {
                return;
            }
            self.is_stirred = true;
            match socket.stream.take_error() {
                Ok(None) => {
                    socket.connecting = false;
                    self.links.connected(id, now);
                }
                Ok(Some(error)) | Err(error) => {
                    // The connections know of it no more after that, and would never have it closed.
                    self.sockets.remove(&id);
                    return self.links.dial_failed(id, &error.to_string(), now);
                }
            }
        }
        socket.ends |= ready.ended;
        if ready.read && !std::mem::replace(&mut socket.is_readable, true) {
            self.readable.push(id);
        }
        if ready.write && std::mem::take(&mut socket.is_full) {
            self.writable.push(id);
        }
    }

    /// Before a turn: reads once what has come, and has the core take of it as much as it takes. Returns whether the core
    /// has enough, and there is more.
    pub(super) fn receive(&mut self, engine: &mut Engine, now: Time) -> bool {
        if self.readable.is_empty() && self.links.is_quiet() {
            return false;
        }
        self.is_stirred = true;
        let mut readable = std::mem::take(&mut self.readable);
        readable.retain(|id| self.read(*id, now));
        self.readable = readable;
        self.links.receive(engine, now)
    }

    /// Whether there is something to do for the connections after this turn of their core.
    pub(super) fn wants(&self, now: Time) -> bool {
        self.is_stirred || now >= self.due || !self.writable.is_empty()
    }

    /// Whether something has happened to them since their core turned last.
    pub(super) fn is_stirred(&self) -> bool {
        self.is_stirred
    }

    /// After a turn: connects, closes, and writes what may leave, as far as sockets take it; that is bounded by what the core
    /// has for other nodes. Returns whether the core has to turn again.
    pub(super) fn send(&mut self, engine: &mut Engine, readiness: &Readiness, now: Time) -> bool {
        self.is_stirred = false;
        self.links.settle(engine, now);
        for id in std::mem::take(&mut self.writable) {
            self.write(engine, id, now);
        }
        loop {
            let mut any = false;
            while let Some(output) = self.links.poll_output() {
                self.follow(output, readiness, now);
                any = true;
            }
            while let Some(id) = self.links.next_to_write() {
                self.write(engine, id, now);
                any = true;
            }
            if !any {
                break;
            }
        }
        self.due = self.links.next_deadline().unwrap_or(Time::MAX);
        self.links.takes_turn()
    }

    /// Whether something can be read at once.
    pub(super) fn has_more(&mut self) -> bool {
        let links = &mut self.links;
        let mut readable = self.readable.iter();
        readable.any(|id| !links.spare(*id).is_empty())
    }

    /// Reads once. Returns whether there may be more.
    fn read(&mut self, id: ConnectionId, now: Time) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return false;
        };
        let spare = self.links.spare(id);
        let room = spare.len();
        if room == 0 {
            // The core has to take what is there first.
            return true;
        }
        let gone = match (&socket.stream).read(spare) {
            Ok(0) => Gone::Ended,
            Ok(count) => {
                self.links.filled(id, count, now);
                // A stream that has given less has no more, and is told of when it has again.
                socket.is_readable = count == room || socket.ends || socket.broken.is_some();
                return socket.is_readable;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match socket.broken.take() {
                Some(why) => Gone::Broken(why),
                None => {
                    socket.is_readable = false;
                    return false;
                }
            },
            Err(error) => Gone::Broken(error.to_string()),
        };
        socket.is_readable = false;
        self.links.closed(id, gone, now);
        false
    }

    fn follow(&mut self, output: DataOutput, readiness: &Readiness, now: Time) {
        match output {
            DataOutput::Dial {
                connection,
                address,
            } => {
                let dialled = begin_to_connect(&address).and_then(|(stream, connected)| {
                    readiness.add(&stream, Token::Connection(connection.number()))?;
                    Ok((stream, connected))
                });
                match dialled {
                    Ok((stream, connected)) => {
                        self.insert(connection, stream, !connected);
                        if connected {
                            self.links.connected(connection, now);
                        }
                    }
                    Err(error) => self.links.dial_failed(connection, &error.to_string(), now),
                }
            }
            DataOutput::Close { connection } => drop(self.sockets.remove(&connection)),
            DataOutput::Note(note) => tracing::warn!("{note}"),
        }
    }

    fn write(&mut self, engine: &mut Engine, id: ConnectionId, now: Time) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        while socket.takes_bytes() {
            let pending = self.links.pending(id);
            if pending.is_empty() {
                return;
            }
            match (&socket.stream).write(pending) {
                Ok(count) => self.links.sent(engine, id, count, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    socket.broken = Some(error.to_string());
                    if !std::mem::replace(&mut socket.is_readable, true) {
                        self.readable.push(id);
                    }
                }
            }
        }
    }

    fn insert(&mut self, id: ConnectionId, stream: TcpStream, connecting: bool) {
        let socket = DataSocket {
            stream,
            connecting,
            is_full: false,
            is_readable: false,
            ends: false,
            broken: None,
        };
        self.sockets.insert(id, socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{CoreId, Incarnation, NodeId};
    use crate::base::rng::seeded;
    use crate::links::settings::LinkSettings;
    use crate::wire::address::Life;
    use crate::wire::hello::Identity;
    use crate::wire::limits::FrameLimits;
    use std::sync::Arc;
    use std::time::Duration;

    fn connections() -> DataLinks {
        let identity = Identity {
            cluster: "test".into(),
            cluster_id: None,
            life: Life::new(NodeId(1_000), Incarnation(1)),
            cores: 3,
            advertised: "127.0.0.1:7000".into(),
            limits: FrameLimits::default(),
            tables: Arc::default(),
        };
        let identity = Arc::new(identity.check().unwrap());
        let rng = seeded(1, 0);
        DataLinks::new(LinkSettings::default(), CoreId(0), identity, rng).unwrap()
    }

    /// Nobody listens at any of the addresses, of which the system tells only later.
    #[test]
    fn of_a_dial_that_fails_no_socket_is_left() {
        let mut sockets = DataSockets::new(connections());
        let mut readiness = Readiness::new().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap().to_string();
        drop(closed);
        for number in 1..=100 {
            let dial = DataOutput::Dial {
                connection: ConnectionId::from_number(number),
                address: address.clone(),
            };
            sockets.follow(dial, &readiness, Time::ZERO);
        }
        assert_eq!(sockets.sockets.len(), 100);
        let mut ready = Vec::new();
        for _ in 0..1_000 {
            readiness.take(&mut ready);
            for ready in ready.drain(..) {
                sockets.ready(ready, Time::ZERO);
            }
            if sockets.sockets.is_empty() {
                break;
            }
            readiness.sleep(Some(Duration::from_millis(10)));
        }
        assert_eq!(sockets.sockets.len(), 0);
    }
}
