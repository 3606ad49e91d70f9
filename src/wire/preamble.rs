//! The first 32 bytes of a connection, plain and without trust: enough to hand the socket to the core that is wanted.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `c0 63 63 74`: these bytes begin no protocol that knocks at ports by accident |
//! | 4 | 2 | version of the protocol: [`PROTOCOL`] |
//! | 6 | 1 | what the connection is for: [`Purpose`] |
//! | 7 | 1 | zero |
//! | 8 | 8 | hash of the cluster's name |
//! | 16 | 4 | node |
//! | 20 | 4 | incarnation |
//! | 24 | 2 | the core that is wanted; `ffff`: any |
//! | 26 | 2 | the core that dials |
//! | 28 | 4 | CRC-32 of the 28 bytes before |
//!
//! Nothing in it is believed: the handshake, inside of TLS where that is configured, says everything again.

use super::address::Life;
use super::kind::Plane;
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::stable_hash::stable_hash;
use std::fmt;

/// The bytes of a preamble.
pub const PREAMBLE_BYTES: usize = 32;

/// The version of all that nodes say to each other: frames, their kinds, and the handshake. Any change is a new one.
pub const PROTOCOL: u16 = 2;

const MAGIC: [u8; 4] = [0xC0, b'c', b'c', b't'];

/// Stands for any core.
const ANY_CORE: u16 = u16::MAX;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Between the coordination cores of two nodes.
    Control,
    /// Between data cores of two nodes.
    Data,
    /// From a client, which is no member.
    Client,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Purpose; 3] = [Purpose::Control, Purpose::Data, Purpose::Client];

    /// The frames that travel on such a connection.
    #[must_use]
    pub fn plane(self) -> Plane {
        match self {
            Purpose::Control => Plane::Control,
            Purpose::Data | Purpose::Client => Plane::Data,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Purpose::Control => 1,
            Purpose::Data => 2,
            Purpose::Client => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Purpose> {
        Purpose::ALL
            .into_iter()
            .find(|purpose| purpose.code() == code)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Control => "control",
            Purpose::Data => "data",
            Purpose::Client => "client",
        })
    }
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The version of the protocol.
    pub protocol: u16,
    /// What the connection is for.
    pub purpose: Purpose,
    /// See [`cluster_hash`].
    pub cluster: u64,
    /// Who dials. A client draws one for itself.
    pub life: Life,
    /// The core that is wanted; any, if none is named.
    pub wanted: Option<CoreId>,
    /// The core that dials.
    pub core: CoreId,
}

/// Why a preamble was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreambleError {
    /// Somebody else's protocol, or TLS where it is not expected.
    #[error("the connection begins with {first:02x?}, which is no corecast node")]
    NotCorecast {
        /// Its first bytes.
        first: [u8; 4],
    },
    /// It is damaged.
    #[error("the first bytes of the connection are damaged: their checksum does not fit")]
    Damaged,
    /// Another version, whose purposes may be others too.
    #[error("the peer speaks version {there} of the protocol, this node version {PROTOCOL}")]
    Protocol {
        /// The peer's version.
        there: u16,
    },
    /// No such purpose.
    #[error("the connection is for the purpose {code}, which this node does not know")]
    Purpose {
        /// The number of the purpose.
        code: u8,
    },
}

/// What the name of a cluster is in a preamble.
#[must_use]
pub fn cluster_hash(name: &str) -> u64 {
    stable_hash(name.as_bytes())
}

impl Preamble {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let mut out = [0; PREAMBLE_BYTES];
        let wanted = self.wanted.map_or(ANY_CORE, |core| core.0);
        out[..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&self.protocol.to_le_bytes());
        out[6] = self.purpose.code();
        out[8..16].copy_from_slice(&self.cluster.to_le_bytes());
        out[16..20].copy_from_slice(&self.life.node.0.to_le_bytes());
        out[20..24].copy_from_slice(&self.life.incarnation.0.to_le_bytes());
        out[24..26].copy_from_slice(&wanted.to_le_bytes());
        out[26..28].copy_from_slice(&self.core.0.to_le_bytes());
        let sum = crc32fast::hash(&out[..28]);
        out[28..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are none, or of another version.
    pub fn decode(bytes: &[u8; PREAMBLE_BYTES]) -> Result<Preamble, PreambleError> {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(word(at)) | u32::from(word(at + 2)) << 16;
        let first = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if first != MAGIC {
            return Err(PreambleError::NotCorecast { first });
        }
        if crc32fast::hash(&bytes[..28]) != long(28) {
            return Err(PreambleError::Damaged);
        }
        // Magic, version and checksum are where they are in every version.
        if word(4) != PROTOCOL {
            return Err(PreambleError::Protocol { there: word(4) });
        }
        let purpose = Purpose::from_code(bytes[6])
            .filter(|_| bytes[7] == 0)
            .ok_or(PreambleError::Purpose { code: bytes[6] })?;
        Ok(Preamble {
            protocol: word(4),
            purpose,
            cluster: u64::from(long(8)) | u64::from(long(12)) << 32,
            life: Life::new(NodeId(long(16)), Incarnation(long(20))),
            wanted: Some(CoreId(word(24))).filter(|core| core.0 != ANY_CORE),
            core: CoreId(word(26)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preamble() -> Preamble {
        Preamble {
            protocol: PROTOCOL,
            purpose: Purpose::Data,
            cluster: cluster_hash("shop"),
            life: Life::new(NodeId(3), Incarnation(0x0102_0304)),
            wanted: Some(CoreId(5)),
            core: CoreId(1),
        }
    }

    /// The layout is the contract.
    #[test]
    fn the_bytes_never_change() {
        let hex: String = preamble()
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "c063637402000200c9282cf78098969e03000000040302010500010028e178bc"
        );
    }

    #[test]
    fn it_comes_back_and_every_flipped_bit_is_noticed() {
        for purpose in Purpose::ALL {
            for wanted in [None, Some(CoreId(0)), Some(CoreId(9))] {
                let whole = Preamble {
                    purpose,
                    wanted,
                    ..preamble()
                };
                assert_eq!(Preamble::decode(&whole.encode()), Ok(whole));
            }
        }
        for bit in 0..PREAMBLE_BYTES * 8 {
            let mut bytes = preamble().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Preamble::decode(&bytes).is_err(), "{bit}");
        }
    }

    #[test]
    fn others_are_named() {
        assert_eq!(
            Preamble::decode(b"GET / HTTP/1.1\r\nHost: localhost\r").unwrap_err(),
            PreambleError::NotCorecast { first: *b"GET " }
        );
        let newer = Preamble {
            protocol: 7,
            ..preamble()
        };
        assert_eq!(
            Preamble::decode(&newer.encode()).unwrap_err().to_string(),
            "the peer speaks version 7 of the protocol, this node version 2"
        );
    }
}
