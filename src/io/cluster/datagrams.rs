//! The socket of the failure detector.

use crate::membership::datagram::MAX_DATAGRAM_BYTES;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Datagrams that are taken in one turn; the others in the next.
const PER_TURN: usize = 128;

/// A socket of datagrams, with what is known of its readiness.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    may_read: bool,
    /// One byte more than a datagram may have, so that a longer one is not taken for a shorter.
    buffer: Box<[u8]>,
    unsent: u64,
}

impl Datagrams {
    /// Of a socket that does not block.
    #[must_use]
    pub fn new(socket: UdpSocket) -> Datagrams {
        Datagrams {
            socket,
            may_read: true,
            buffer: vec![0; MAX_DATAGRAM_BYTES + 1].into(),
            unsent: 0,
        }
    }

    /// The socket, to be watched over.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// There may be some.
    pub fn ready(&mut self) {
        self.may_read = true;
    }

    /// Gives out what has come. Returns whether there may be more.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        for _ in 0..PER_TURN {
            if !self.may_read {
                return false;
            }
            match self.socket.recv_from(&mut self.buffer) {
                Ok((count, _)) => take(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing is there, or an error that the next datagram gets past.
                Err(_) => self.may_read = false,
            }
        }
        self.may_read
    }

    /// Sends one, or loses it, as the network may.
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        if self.socket.send_to(bytes, to).is_err() {
            self.unsent += 1;
        }
    }

    /// How many the system has refused.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.unsent
    }
}
