//! Sockets of control connections: dialled without waiting, read into the room that the connections give, and written as far
//! as they take.

use super::readiness::{Readiness, Token};
use crate::base::time::Time;
use crate::cluster::plane::ControlPlane;
use crate::links::ending::Gone;
use crate::links::porch::Guest;
use crate::links::remote::ConnectionId;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Bytes that are read from one connection in one turn, so that no peer keeps the others waiting.
const READ_PER_TURN: usize = 256 << 10;
/// Bytes that are written to one connection in one turn.
const WRITE_PER_TURN: usize = 1 << 20;

#[derive(Debug)]
struct ControlSocket {
    stream: TcpStream,
    /// It was dialled, and is not connected yet.
    connecting: bool,
    /// It took less than it was given.
    is_full: bool,
    /// It cannot be written, for this reason; what has come before that is read first.
    broken: Option<String>,
    /// Nothing more comes from it, for this reason, which is told when all before it has been taken.
    gone: Option<Gone>,
}

impl ControlSocket {
    fn takes_bytes(&self) -> bool {
        !self.is_full && !self.connecting && self.broken.is_none() && self.gone.is_none()
    }
}

/// The sockets of a control plane's connections. As many as it names: it bounds them.
#[derive(Debug, Default)]
pub struct ControlSockets {
    sockets: BTreeMap<ConnectionId, ControlSocket>,
    /// Those from which something may be read, or has been read and not been taken.
    readable: BTreeSet<ConnectionId>,
    /// Those that can be written again.
    writable: BTreeSet<ConnectionId>,
}

impl ControlSockets {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Takes a connection that has come by the port and is watched over already. One that is turned away is closed.
    pub fn accept(
        &mut self,
        plane: &mut ControlPlane,
        readiness: &Readiness,
        (stream, guest): (TcpStream, Guest),
        now: Time,
    ) {
        let Ok(id) = plane.accept(guest, now) else {
            return; // The reason is among the notes.
        };
        // Under its new name it is told of again, if anything waits in it.
        if let Err(error) = readiness.rename(&stream, Token::Connection(id.number())) {
            let gone = Gone::Broken(error.to_string());
            return plane.links().closed(id, gone, now);
        }
        self.insert(id, stream, false);
        self.readable.insert(id);
    }

    /// Begins to connect to an address.
    pub fn dial(
        &mut self,
        plane: &mut ControlPlane,
        readiness: &Readiness,
        (id, address): (ConnectionId, &str),
        now: Time,
    ) {
        match begin_to_connect(address) {
            Ok((stream, connected)) => {
                if let Err(error) = readiness.add(&stream, Token::Connection(id.number())) {
                    return plane.dial_failed(id, &error.to_string(), now);
                }
                self.insert(id, stream, !connected);
                if connected {
                    plane.connected(id, now);
                }
            }
            Err(error) => plane.dial_failed(id, &error.to_string(), now),
        }
    }

    /// Closes a connection, of which the plane knows no more.
    pub fn close(&mut self, id: ConnectionId) {
        self.sockets.remove(&id);
        self.readable.remove(&id);
        self.writable.remove(&id);
    }

    /// A socket has become ready.
    pub fn ready(
        &mut self,
        plane: &mut ControlPlane,
        (number, read, write): (u64, bool, bool),
        now: Time,
    ) {
        let id = ConnectionId::from_number(number);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if socket.connecting {
            if !write {
                return;
            }
            match socket.stream.take_error() {
                Ok(None) => {
                    socket.connecting = false;
                    plane.connected(id, now);
                }
                Ok(Some(error)) | Err(error) => {
                    // The plane knows of it no more after that, and would never have it closed.
                    self.close(id);
                    return plane.dial_failed(id, &error.to_string(), now);
                }
            }
        }
        if read {
            self.readable.insert(id);
        }
        if write && socket.is_full {
            socket.is_full = false;
            self.writable.insert(id);
        }
    }

    /// Reads what has come, and hands it to the plane. Returns whether there may be more, to be read after its next turn.
    pub fn receive(&mut self, plane: &mut ControlPlane, now: Time) -> bool {
        let mut more = false;
        for id in std::mem::take(&mut self.readable) {
            if self.receive_from(plane, id, now) {
                self.readable.insert(id);
                more = true;
            }
        }
        more
    }

    fn receive_from(&mut self, plane: &mut ControlPlane, id: ConnectionId, now: Time) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return false;
        };
        let mut left = READ_PER_TURN;
        loop {
            // First what is there already: behind it there is more room.
            if plane.received(id, now) {
                return true;
            }
            if let Some(gone) = socket.gone.take() {
                plane.links().closed(id, gone, now);
                return false;
            }
            if left == 0 {
                return true;
            }
            let spare = plane.links().spare(id);
            if spare.is_empty() {
                // Nothing may be read now. What makes room is an event that brings a turn, so nobody has to hurry for it.
                self.readable.insert(id);
                return false;
            }
            match (&socket.stream).read(spare) {
                Ok(0) => socket.gone = Some(Gone::Ended),
                Ok(count) => {
                    left = left.saturating_sub(count);
                    plane.links().filled(id, count, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match socket.broken.take() {
                        Some(why) => socket.gone = Some(Gone::Broken(why)),
                        None => return false,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => socket.gone = Some(Gone::Broken(error.to_string())),
            }
        }
    }

    /// Writes what waits, as far as the sockets take it. Returns whether anything was written.
    pub fn send(&mut self, plane: &mut ControlPlane, now: Time) -> bool {
        let mut any = false;
        for id in std::mem::take(&mut self.writable) {
            any |= self.send_to(plane, id, now);
        }
        while let Some(id) = plane.links().next_to_write() {
            any |= self.send_to(plane, id, now);
        }
        any
    }

    fn send_to(&mut self, plane: &mut ControlPlane, id: ConnectionId, now: Time) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return false;
        };
        let mut left = WRITE_PER_TURN;
        let mut any = false;
        while socket.takes_bytes() {
            let pending = plane.links().pending(id);
            if pending.is_empty() {
                return any;
            }
            if left == 0 {
                self.writable.insert(id);
                return any;
            }
            match (&socket.stream).write(pending) {
                Ok(count) => {
                    any = true;
                    left = left.saturating_sub(count);
                    plane.links().sent(id, count, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    socket.broken = Some(error.to_string());
                    self.readable.insert(id);
                    any = true;
                }
            }
        }
        any
    }

    fn insert(&mut self, id: ConnectionId, stream: TcpStream, connecting: bool) {
        let socket = ControlSocket {
            stream,
            connecting,
            is_full: false,
            broken: None,
            gone: None,
        };
        self.sockets.insert(id, socket);
    }
}

/// Begins to connect; whether that is done already.
pub(super) fn begin_to_connect(address: &str) -> io::Result<(TcpStream, bool)> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is no address and port"))?;
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let connected = match socket.connect(&SockAddr::from(address)) {
        Ok(()) => true,
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            false
        }
        Err(error) => return Err(error),
    };
    Ok((socket.into(), connected))
}
