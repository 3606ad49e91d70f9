//! The port of a node: one address, bound for streams and for datagrams.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use thiserror::Error;

/// How many connections may wait to be accepted; the kernel may bound it lower (`net.core.somaxconn`).
const BACKLOG: i32 = 1_024;
/// With port 0 the system chooses one for streams, which may be taken for datagrams: then another.
const ATTEMPTS: u32 = 32;

/// Why a node's address cannot be used. Nothing is left bound.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PortError {
    /// It is no address, or its name is not known.
    #[error(
        "the address `{address}` cannot be found ({what}); write `host:port`, with a host that `getent hosts` knows"
    )]
    Unknown {
        /// As it was given.
        address: String,
        /// The system's words.
        what: String,
    },
    /// Another process listens there.
    #[error(
        "the address {address} is in use for {what}; stop the process that has it (`ss -lnptu`), or take another port"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// Streams or datagrams.
        what: &'static str,
    },
    /// This process may not.
    #[error(
        "this process may not listen at {address}; ports below 1024 take CAP_NET_BIND_SERVICE, so take a higher one"
    )]
    Forbidden {
        /// The address.
        address: SocketAddr,
    },
    /// The address is another machine's.
    #[error(
        "this machine has no address {address}; bind to one of its own (`ip address`), or to 0.0.0.0 for all of them, and \
         advertise the one by which others reach it"
    )]
    NotHere {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("the address {address} cannot be listened at: {what}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        what: String,
    },
}

/// A node's port, bound.
#[derive(Debug)]
pub struct Port {
    pub(super) listener: TcpListener,
    pub(super) datagrams: UdpSocket,
    address: SocketAddr,
}

impl Port {
    /// Binds an address for streams and datagrams. With port 0 the system chooses one.
    ///
    /// No second process gets the port while this has it; one that ended a moment ago is no obstacle.
    ///
    /// # Errors
    /// [`PortError`]; nothing is left bound.
    pub fn bind(address: SocketAddr) -> Result<Port, PortError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let listener = listen(address).map_err(|error| classify(address, "streams", &error))?;
            let bound = listener
                .local_addr()
                .map_err(|error| classify(address, "streams", &error))?;
            match bind_datagrams(bound) {
                Ok(datagrams) => {
                    return Ok(Port {
                        listener,
                        datagrams,
                        address: bound,
                    });
                }
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && address.port() == 0
                        && attempt < ATTEMPTS => {}
                Err(error) => return Err(classify(bound, "datagrams", &error)),
            }
        }
    }

    /// The address that is bound, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// As many addresses of one name are looked at.
const MOST_ADDRESSES: usize = 16;

/// The first address that a text of the form `host:port` stands for. It asks the system, and may block for as long as that
/// takes.
///
/// # Errors
/// [`PortError::Unknown`].
pub fn resolve(address: &str) -> Result<SocketAddr, PortError> {
    Ok(resolve_all(address)?[0])
}

/// The addresses that a text of the form `host:port` stands for, at least one, in the order of the system's preference. It
/// asks the system, and may block for as long as that takes.
///
/// # Errors
/// [`PortError::Unknown`].
pub fn resolve_all(address: &str) -> Result<Vec<SocketAddr>, PortError> {
    let unknown = |what: String| PortError::Unknown {
        address: address.to_owned(),
        what,
    };
    let found = address
        .to_socket_addrs()
        .map_err(|error| unknown(error.to_string()))?;
    let found: Vec<SocketAddr> = found.take(MOST_ADDRESSES).collect();
    match found.is_empty() {
        true => Err(unknown("the name stands for no address".to_owned())),
        false => Ok(found),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of a node that has just ended linger, and would keep the next one out.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    // Without `SO_REUSEADDR`, which would let a second process take the port.
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn classify(address: SocketAddr, what: &'static str, error: &io::Error) -> PortError {
    match error.kind() {
        io::ErrorKind::AddrInUse => PortError::InUse { address, what },
        io::ErrorKind::PermissionDenied => PortError::Forbidden { address },
        io::ErrorKind::AddrNotAvailable => PortError::NotHere { address },
        _ => PortError::Io {
            address,
            what: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_bound_for_both_and_once() {
        let port = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = port.address();
        assert_ne!(address.port(), 0);
        assert_eq!(port.datagrams.local_addr().unwrap(), address);
        let error = Port::bind(address).unwrap_err();
        let what = "streams";
        assert_eq!(error, PortError::InUse { address, what });
        drop(port);
        let port = Port::bind(address).unwrap();
        assert_eq!(port.address(), address);
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = datagrams.local_addr().unwrap();
        match Port::bind(taken) {
            Err(PortError::InUse { what, .. }) => assert_eq!(what, "datagrams"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_in_the_way_is_told() {
        let error = Port::bind("203.0.113.7:7000".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("this machine has no address"));
        for text in ["nowhere.invalid:7000", "no port", "127.0.0.1:70000"] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("host:port"),
                "{error}"
            );
        }
        let address = "127.0.0.1:80".parse().unwrap();
        let cases = [
            (io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            (io::ErrorKind::OutOfMemory, "cannot be listened at"),
        ];
        for (kind, text) in cases {
            let error = classify(address, "streams", &kind.into()).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
