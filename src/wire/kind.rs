//! What a frame is for, and what belongs into a frame of each kind.
//!
//! A kind is one byte and keeps its number for ever. A node that does not know a kind refuses the connection and names
//! it: skipping what one does not understand would lose messages silently. New kinds therefore come with a new version of
//! the protocol in the preamble ([`PROTOCOL`](super::preamble::PROTOCOL)), by which two nodes see that they differ before
//! either sends a frame.

use super::lookup::{LONGEST_ANSWER, LONGEST_PATH};
use std::fmt;

/// The connections on which a kind travels. Control traffic has connections of its own, so that it never waits behind
/// messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// The beginning of every connection, until both sides agree.
    Handshake,
    /// Between the coordination cores of two nodes.
    Control,
    /// Between data cores, and from clients to them.
    Data,
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Plane::Handshake => "the handshake",
            Plane::Control => "a control connection",
            Plane::Data => "a data connection",
        })
    }
}

/// Which targets a frame of some kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    Nobody,
    Shard,
    ShardOrNobody,
    EntityOrActor,
}

/// What follows the header and the entity id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing.
    Nothing,
    /// An archived message, whose type the header names.
    Message,
    /// Bytes that mean something to whoever uses the kind, at most so many; the header may name a type.
    Opaque(usize),
}

/// The rules of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// `None`: on every plane but the handshake.
    pub(crate) plane: Option<Plane>,
    pub(crate) target: Targets,
    pub(crate) address: bool,
    pub(crate) reason: bool,
    pub(crate) content: Content,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $name:literal;)*) => {
        /// What a frame is for.
        ///
        /// | part of the frame | what it is |
        /// |---|---|
        /// | target | the entity (shard, epoch, id behind the header) or the actor that is meant |
        /// | address | a place on some node that has to do with it: where an answer goes, who watches, who owns |
        /// | reason | why something failed or ended, as a code |
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $kind = $code,)*
        }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            /// The kind of that number, if there is one.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Kind> {
                match code {
                    $($code => Some(Kind::$kind),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Kind::$kind => $name,)* })
            }
        }
    };
}

kinds! {
    /// A message to an entity or an actor. Content: the message.
    Tell = 1, "tell";
    /// The same, and its storing is confirmed to the address with [`Kind::Stored`].
    Send = 2, "send";
    /// The message of an ask. The address is where its failure goes; the reply address inside the message is the same.
    Ask = 3, "ask";
    /// An answer, to the address. The target says which entity answers in which epoch; none where an actor does.
    Reply = 4, "reply";
    /// A message was stored, to the address of its [`Kind::Send`].
    Stored = 5, "stored";
    /// An ask or a send ends without an answer, to its address; the reason says how. Target as of a reply.
    Failure = 6, "failure";
    /// The sender's core sends nothing more for the target's shard on this route. Content: of the hand-off.
    Last = 7, "last";
    /// The target's shard has moved: its owner is the address, since the epoch of the target.
    Moved = 8, "moved";
    /// Stop the target.
    Stop = 9, "stop";
    /// The address wants to hear of the target's end.
    Watch = 10, "watch";
    /// The address wants to hear of it no more.
    Unwatch = 11, "unwatch";
    /// Somebody who was watched has ended, to the address, which is that of the watch. The reason says how.
    Terminated = 12, "terminated";
    /// Part of a shard's state on its way to another node. Content: of the hand-off.
    Shipment = 13, "shipment";
    /// Events, states or acknowledgements of a replicated shard. Content: of the replication.
    Replication = 14, "replication";
    /// An address of the receiver: its watch was not taken, and may be announced again. One of the sender: watches of those
    /// on that core, or with another table than 0 on any of its cores, are to be announced again.
    Rewatch = 15, "rewatch";
    /// The address's core begins its watches anew, in the round that its table says: those announced before are over.
    Forget = 16, "forget";
    /// Who has this path? Content: the path; the type is that of the messages that the actor is to take. The answer goes to
    /// the address.
    Find = 17, "find";
    /// The answer, to the address. Content: see [`Answer`](super::lookup::Answer); the type is that of the messages that the
    /// actor takes.
    Found = 18, "found";

    /// Leave to send more on this connection. Content: a [`Credit`](super::credit::Credit).
    Credit = 32, "credit";
    /// Is somebody there? Content: up to 64 bytes, which come back.
    Ping = 33, "ping";
    /// The answer. Content: that of the ping.
    Pong = 34, "pong";
    /// The last frame: the sender closes the connection. The reason says why; content: up to 256 bytes of text.
    Bye = 35, "bye";

    /// Who dials. See [`Hello`](super::hello::Hello).
    Hello = 48, "hello";
    /// Who accepts.
    Welcome = 49, "welcome";
    /// The types that a side knows, where the two sides' differ.
    Tables = 50, "tables";
    /// No connection, and why.
    Refuse = 51, "refuse";

    /// Of the consensus.
    Consensus = 64, "consensus";
    /// Of the failure detector.
    Heartbeat = 65, "heartbeat";
    /// Joining and leaving.
    Membership = 66, "membership";
    /// Placement: allocations and versions of the topology.
    Topology = 67, "topology";
    /// Leases and their renewal.
    Lease = 68, "lease";
    /// The control side of a hand-off: prepare, own, abort, reports.
    HandOff = 69, "hand-off";
    /// Singletons, services and types.
    Registry = 70, "registry";
    /// A fact that a node reports.
    Report = 71, "report";
}

impl Kind {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether it brings somebody a message.
    #[must_use]
    pub const fn is_message(self) -> bool {
        matches!(self, Kind::Tell | Kind::Send | Kind::Ask)
    }

    /// Whether frames of this kind travel on connections of that plane.
    #[must_use]
    #[inline]
    pub fn travels_on(self, plane: Plane) -> bool {
        match self.rules().plane {
            Some(only) => only == plane,
            None => plane != Plane::Handshake,
        }
    }

    #[inline]
    pub(crate) const fn rules(self) -> Rules {
        let message = Rules {
            plane: Some(Plane::Data),
            target: Targets::EntityOrActor,
            address: false,
            reason: false,
            content: Content::Message,
        };
        let answer = Rules {
            target: Targets::ShardOrNobody,
            address: true,
            ..message
        };
        let of_shard = Rules {
            target: Targets::Shard,
            content: Content::Opaque(usize::MAX),
            ..message
        };
        let watching = Rules {
            address: true,
            content: Content::Nothing,
            ..message
        };
        let bare = Rules {
            plane: None,
            target: Targets::Nobody,
            ..message
        };
        let handshake = Rules {
            plane: Some(Plane::Handshake),
            content: Content::Opaque(usize::MAX),
            ..bare
        };
        let control = Rules {
            plane: Some(Plane::Control),
            ..handshake
        };
        match self {
            Kind::Tell => message,
            Kind::Send | Kind::Ask => Rules {
                address: true,
                ..message
            },
            Kind::Reply => answer,
            Kind::Stored => Rules {
                content: Content::Nothing,
                ..answer
            },
            Kind::Failure => Rules {
                reason: true,
                content: Content::Nothing,
                ..answer
            },
            Kind::Last | Kind::Shipment | Kind::Replication => of_shard,
            Kind::Moved => Rules {
                address: true,
                content: Content::Nothing,
                ..of_shard
            },
            Kind::Stop => Rules {
                address: false,
                ..watching
            },
            Kind::Watch | Kind::Unwatch => watching,
            Kind::Terminated => Rules {
                target: Targets::Nobody,
                reason: true,
                ..watching
            },
            Kind::Rewatch | Kind::Forget => Rules {
                target: Targets::Nobody,
                ..watching
            },
            Kind::Find => Rules {
                target: Targets::Nobody,
                content: Content::Opaque(LONGEST_PATH),
                ..watching
            },
            Kind::Found => Rules {
                target: Targets::Nobody,
                content: Content::Opaque(LONGEST_ANSWER),
                ..watching
            },
            Kind::Credit => Rules {
                content: Content::Opaque(16),
                ..bare
            },
            Kind::Ping | Kind::Pong => Rules {
                content: Content::Opaque(64),
                ..bare
            },
            Kind::Bye => Rules {
                reason: true,
                content: Content::Opaque(256),
                ..bare
            },
            Kind::Hello | Kind::Welcome | Kind::Tables | Kind::Refuse => handshake,
            Kind::Consensus
            | Kind::Heartbeat
            | Kind::Membership
            | Kind::Topology
            | Kind::Lease
            | Kind::HandOff
            | Kind::Registry
            | Kind::Report => control,
        }
    }
}

/// Why something failed or ended, as a code of one byte in a class of one byte.
///
/// A code that a node does not know, from a newer one, still has its class; and for an ask the class is what counts, since
/// only a rejected one may be retried blindly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Certainly never delivered to a handler.
    Rejected(u8),
    /// It may or may not have taken effect.
    Unknown(u8),
    /// Something ended: an actor, an entity, a connection.
    Ended(u8),
}

impl Reason {
    pub(crate) const fn encode(self) -> [u8; 2] {
        match self {
            Reason::Rejected(code) => [1, code],
            Reason::Unknown(code) => [2, code],
            Reason::Ended(code) => [3, code],
        }
    }

    /// `Err` with the class, if it is none.
    pub(crate) const fn decode(bytes: [u8; 2]) -> Result<Option<Reason>, u8> {
        match bytes {
            [0, 0] => Ok(None),
            [1, code] => Ok(Some(Reason::Rejected(code))),
            [2, code] => Ok(Some(Reason::Unknown(code))),
            [3, code] => Ok(Some(Reason::Ended(code))),
            [class, _] => Err(class),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rejected(code) => write!(f, "rejected ({code})"),
            Reason::Unknown(code) => write!(f, "unknown ({code})"),
            Reason::Ended(code) => write!(f, "ended ({code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are the contract between versions.
    #[test]
    fn the_numbers_never_change() {
        let listed: Vec<String> = Kind::ALL
            .iter()
            .map(|kind| format!("{} {kind}", kind.code()))
            .collect();
        assert_eq!(
            listed.join(", "),
            "1 tell, 2 send, 3 ask, 4 reply, 5 stored, 6 failure, 7 last, 8 moved, 9 stop, 10 watch, 11 unwatch, \
             12 terminated, 13 shipment, 14 replication, 15 rewatch, 16 forget, 17 find, 18 found, \
             32 credit, 33 ping, 34 pong, 35 bye, 48 hello, 49 welcome, 50 tables, 51 refuse, 64 consensus, 65 heartbeat, 66 membership, 67 topology, 68 lease, 69 hand-off, \
             70 registry, 71 report"
        );
        for code in 0..=u8::MAX {
            if let Some(kind) = Kind::from_code(code) {
                assert_eq!(kind.code(), code);
            }
        }
    }

    #[test]
    fn every_kind_has_its_plane() {
        for kind in Kind::ALL {
            let planes: Vec<Plane> = [Plane::Handshake, Plane::Control, Plane::Data]
                .into_iter()
                .filter(|plane| kind.travels_on(*plane))
                .collect();
            let expected: &[Plane] = match kind.code() {
                1..32 => &[Plane::Data],
                32..48 => &[Plane::Control, Plane::Data],
                48..64 => &[Plane::Handshake],
                _ => &[Plane::Control],
            };
            assert_eq!(planes, expected, "{kind}");
        }
    }

    #[test]
    fn reasons_come_back_and_unknown_codes_keep_their_class() {
        for reason in [
            Reason::Rejected(0),
            Reason::Unknown(255),
            Reason::Ended(7),
            Reason::Rejected(200),
        ] {
            assert_eq!(Reason::decode(reason.encode()), Ok(Some(reason)));
        }
        assert_eq!(Reason::decode([0, 0]), Ok(None));
        assert_eq!(Reason::decode([0, 1]), Err(0));
        assert_eq!(Reason::decode([9, 0]), Err(9));
    }
}
