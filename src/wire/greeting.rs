//! The beginning of a connection, on either side, until both know that they agree.
//!
//! ```text
//! dials:    preamble, hello ──────► Welcome ──┬─ digests agree ─────────────► established
//!                                             └─ differ: tables ─► Tables ──► established
//! accepts:  Preamble ──► Hello ──► welcome ───┬─ digests agree ─────────────► established
//!                                             └─ differ: tables ─► Tables ──► established
//!           (small: what is sent; large: what is waited for)
//! ```
//!
//! From every state a difference leads to *refused*, which names it and sends it to the peer, and so do a time-out, the
//! end of the connection and bytes that are none of ours to *closed*.
//!
//! The preamble goes in plain; with TLS, its handshake comes between the preamble and everything else. That is the
//! driver's business: it sends [`Step::SendPlain`] as it is and everything in [`Step::Send`] through the secured stream.
//! The machine says how many bytes it [`wants`](Greeting::wants), and a driver that reads no more can hand the socket to
//! another core after the preamble, or to the reader of frames at the end, without a byte being lost.
//!
//! Before its hello was accepted, a peer can make this side hold less than 8 KiB. Behind that, where the digests differ,
//! it is the tables: this side's own until they were sent, and at most [`TABLES_BYTES`] of the peer's. Neither for longer
//! than [`Patience`] says. Without TLS a stranger who knows the cluster's name gets as far as that, so whoever accepts
//! bounds the number of greetings.

use super::address::{Sender, Target};
use super::archive::ArchivedBytes;
use super::difference::Differences;
use super::error::WireError;
use super::frame::FrameRef;
use super::header::{Header, PREFIX_BYTES, prefix};
use super::hello::{CheckedIdentity, Hello};
use super::kind::{Kind, Plane};
use super::limits::FrameLimits;
use super::preamble::{PREAMBLE_BYTES, PROTOCOL, Preamble, PreambleError, Purpose, cluster_hash};
use super::tables::Tables;
use super::writer::FrameWriter;
use crate::base::ids::{CoreId, NodeId};
use crate::base::time::Time;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The largest frame before the hello is accepted.
pub const HELLO_BYTES: usize = 4 << 10;
/// The largest frame of tables.
pub const TABLES_BYTES: usize = 2 << 20;

/// How long a greeting may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the acceptance of a connection to the end of its preamble; 2 s. Too high, and connections that say nothing
    /// keep sockets.
    pub preamble: Duration,
    /// From the beginning to the end; 5 s. Too low, and nodes far away or under load cannot connect.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            preamble: Duration::from_secs(2),
            whole: Duration::from_secs(5),
        }
    }
}

/// What somebody who dials wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The core here.
    pub core: CoreId,
    /// The core that is wanted there; any, if none is named.
    pub wanted: Option<CoreId>,
    /// The node that should answer, if that is known.
    pub expected: Option<NodeId>,
}

/// What the driver has to do next, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes as they are.
    SendPlain([u8; PREAMBLE_BYTES]),
    /// Send these bytes, through TLS where that is used.
    Send(Vec<u8>),
    /// The preamble has come: hand the connection and this machine to the core that it names; there TLS begins.
    HandOver(Preamble),
    /// Both sides agree. From here on the connection carries frames of the purpose's plane.
    Established(Box<Established>),
    /// Send what was given to be sent, then close: there will be no connection.
    Close(GreetingError),
}

/// A connection on which both sides agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// What it is for.
    pub purpose: Purpose,
    /// What the peer says of itself. That it is true is known as far as TLS has shown it.
    pub peer: Hello,
    /// The types that the peer knows, where they are not the same as here.
    pub tables: Option<Tables>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// It did not come in time.
    #[error("the peer did not send its {waiting_for} within {} ms", .patience.as_millis())]
    TimedOut {
        /// What was waited for.
        waiting_for: &'static str,
        /// How long.
        patience: Duration,
    },
    /// The connection ended.
    #[error("the connection ended before the peer had sent its {waiting_for}")]
    Lost {
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// Its first bytes were not understood.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// What it sent was not understood.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// This side has refused, because of these differences.
    #[error("this node and the peer differ: {0}")]
    Differs(Differences),
    /// The peer has refused, because of these differences.
    #[error("the peer refuses the connection: {0}")]
    Refused(Differences),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Preamble,
    Hello,
    Welcome,
    Tables,
    Nothing,
}

impl Awaiting {
    fn name(self) -> &'static str {
        match self {
            Awaiting::Preamble => "preamble",
            Awaiting::Hello => "hello",
            Awaiting::Welcome => "welcome",
            Awaiting::Tables => "tables",
            Awaiting::Nothing => "last word",
        }
    }
}

/// One side of the beginning of one connection. It starts with steps for whoever dials, so take
/// [`next_step`](Greeting::next_step) until it gives none, also after every other call.
#[derive(Debug)]
pub struct Greeting {
    identity: Arc<CheckedIdentity>,
    dial: Option<Dial>,
    awaiting: Awaiting,
    patience: Patience,
    began: Time,
    /// What has come of the preamble or of the frame that is waited for.
    inbox: ArchivedBytes,
    preamble: Option<Preamble>,
    core: CoreId,
    peer: Option<Hello>,
    steps: VecDeque<Step>,
}

impl Greeting {
    /// The side that dials.
    #[must_use]
    pub fn dial(
        identity: Arc<CheckedIdentity>,
        dial: Dial,
        patience: Patience,
        now: Time,
    ) -> Greeting {
        let mut greeting = Greeting::new(identity, Some(dial), Awaiting::Welcome, patience, now);
        greeting.core = dial.core;
        let preamble = Preamble {
            protocol: PROTOCOL,
            purpose: dial.purpose,
            cluster: cluster_hash(&greeting.identity.get().cluster),
            life: greeting.identity.get().life,
            wanted: dial.wanted,
            core: dial.core,
        };
        greeting.steps.push_back(Step::SendPlain(preamble.encode()));
        let hello = greeting.identity.hello(dial.purpose, dial.core);
        greeting.send(Kind::Hello, &hello.encode());
        greeting
    }

    /// The side that has accepted a connection.
    #[must_use]
    pub fn accept(identity: Arc<CheckedIdentity>, patience: Patience, now: Time) -> Greeting {
        Greeting::new(identity, None, Awaiting::Preamble, patience, now)
    }

    fn new(
        identity: Arc<CheckedIdentity>,
        dial: Option<Dial>,
        awaiting: Awaiting,
        patience: Patience,
        began: Time,
    ) -> Greeting {
        Greeting {
            identity,
            dial,
            awaiting,
            patience,
            began,
            inbox: ArchivedBytes::new(),
            preamble: None,
            core: CoreId(0),
            peer: None,
            steps: VecDeque::new(),
        }
    }

    /// Says which core has taken over a connection that was accepted, if the preamble wanted any; the peer is told.
    pub fn owned_by(&mut self, core: CoreId) {
        self.core = core;
    }

    /// How many more bytes it takes now. At least 1, until it is over; then 0.
    #[must_use]
    pub fn wants(&self) -> usize {
        let needed = match self.awaiting {
            Awaiting::Nothing => return 0,
            Awaiting::Preamble => PREAMBLE_BYTES,
            _ => match prefix(&self.inbox, Plane::Handshake, self.largest()) {
                Ok(Some(prefix)) => prefix.length,
                // A bad one is found when its last byte comes.
                Ok(None) | Err(_) => PREFIX_BYTES,
            },
        };
        needed.saturating_sub(self.inbox.len())
    }

    /// Takes bytes from the peer, no more than it [`wants`](Greeting::wants); how many it took. What is left over belongs
    /// to whatever comes next.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let count = self.wants().min(bytes.len() - taken);
            if count == 0 {
                break;
            }
            self.inbox.extend_from_slice(&bytes[taken..taken + count]);
            taken += count;
            if let Err(error) = self.advance() {
                self.close(error);
            }
            if matches!(self.steps.back(), Some(Step::HandOver(_))) {
                break;
            }
        }
        taken
    }

    /// When [`tick`](Greeting::tick) has to be called, unless it is over before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        Some(self.began + self.patience_now()).filter(|_| self.awaiting != Awaiting::Nothing)
    }

    /// This node stood still for so long: that is not counted against the peer.
    pub fn stalled(&mut self, late: Duration) {
        self.began = self.began + late;
    }

    /// It goes on by another clock, which shows `is` when the one so far shows `was`.
    pub fn change_clock(&mut self, was: Time, is: Time) {
        let age = (was - self.began).as_nanos() as u64;
        self.began = Time::from_nanos(is.as_nanos().saturating_sub(age));
    }

    /// Closes if the deadline has passed.
    pub fn tick(&mut self, now: Time) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.close(GreetingError::TimedOut {
                waiting_for: self.awaiting.name(),
                patience: self.patience_now(),
            });
        }
    }

    /// Says that the connection has ended.
    pub fn lost(&mut self) {
        if self.awaiting != Awaiting::Nothing {
            self.close(GreetingError::Lost {
                waiting_for: self.awaiting.name(),
            });
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// How many bytes it keeps because of the peer.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let sent: usize = self.steps.iter().map(Step::heap_bytes).sum();
        let peer = self.peer.as_ref().map_or(0, |peer| {
            peer.cluster.capacity() + peer.advertised.capacity()
        });
        size_of::<Greeting>()
            + self.inbox.capacity()
            + self.steps.capacity() * size_of::<Step>()
            + sent
            + peer
    }

    fn patience_now(&self) -> Duration {
        match self.awaiting {
            Awaiting::Preamble => self.patience.preamble.min(self.patience.whole),
            _ => self.patience.whole,
        }
    }

    /// The largest frame that is taken now.
    fn largest(&self) -> usize {
        match self.awaiting {
            Awaiting::Tables => TABLES_BYTES,
            _ => HELLO_BYTES,
        }
    }

    /// Judges what has come, if it is whole.
    fn advance(&mut self) -> Result<(), GreetingError> {
        if self.awaiting == Awaiting::Preamble {
            return match self.inbox.first_chunk() {
                Some(bytes) => {
                    let preamble = Preamble::decode(bytes);
                    self.inbox.clear();
                    self.take_preamble(preamble)
                }
                None => Ok(()),
            };
        }
        let whole = prefix(&self.inbox, Plane::Handshake, self.largest())?
            .is_some_and(|prefix| prefix.length == self.inbox.len());
        if !whole {
            return Ok(());
        }
        let inbox = std::mem::take(&mut self.inbox);
        let frame = FrameRef::parse(&inbox, Plane::Handshake, self.largest())?;
        let content = frame.payload().bytes();
        match (frame.kind(), self.awaiting) {
            (Kind::Hello, Awaiting::Hello) | (Kind::Welcome, Awaiting::Welcome) => {
                let hello = Hello::decode(frame.kind(), content)?;
                let sender = frame.header().sender;
                if (sender.life, sender.core) != (hello.life, hello.core) {
                    return Err(GreetingError::Wire(WireError::Malformed {
                        kind: frame.kind(),
                        what: "its sender is not who it says in it",
                    }));
                }
                self.take_hello(hello)
            }
            (Kind::Tables, Awaiting::Tables) => self.take_tables(content),
            (Kind::Refuse, Awaiting::Welcome | Awaiting::Tables) => {
                Err(GreetingError::Refused(Differences::decode(content)?))
            }
            (kind, _) => Err(GreetingError::Wire(WireError::Malformed {
                kind,
                what: "it is not what is waited for",
            })),
        }
    }

    fn take_preamble(
        &mut self,
        preamble: Result<Preamble, PreambleError>,
    ) -> Result<(), GreetingError> {
        let mut differences = Differences::default();
        let preamble = match preamble {
            Ok(preamble) => preamble,
            Err(PreambleError::Protocol { there }) => {
                differences.add("version of the protocol", PROTOCOL, there);
                return Err(GreetingError::Differs(differences));
            }
            Err(error) => return Err(error.into()),
        };
        let identity = self.identity.get();
        if preamble.cluster != cluster_hash(&identity.cluster) {
            differences.add(
                "cluster name",
                format_args!("`{}`", identity.cluster),
                format_args!("another, with hash {:016x}", preamble.cluster),
            );
        }
        if let Some(wanted) = preamble.wanted.filter(|core| core.0 >= identity.cores) {
            let here = format!("core-0 to core-{}", identity.cores - 1);
            differences.add("cores", here, format_args!("{wanted} is wanted"));
        }
        if !differences.is_empty() {
            return Err(GreetingError::Differs(differences));
        }
        self.core = preamble.wanted.unwrap_or(CoreId(0));
        self.preamble = Some(preamble);
        self.awaiting = Awaiting::Hello;
        self.steps.push_back(Step::HandOver(preamble));
        Ok(())
    }

    /// The hello of the peer, whichever side it is on.
    fn take_hello(&mut self, there: Hello) -> Result<(), GreetingError> {
        let purpose = self
            .dial
            .map(|dial| dial.purpose)
            .or(self.preamble.map(|preamble| preamble.purpose))
            .unwrap_or(there.purpose);
        let here = self.identity.hello(purpose, self.core);
        let mut differences = Differences::default();
        here.compare(&there, &mut differences);
        if let Some(preamble) = self.preamble {
            // The preamble was plain: anybody could have written it.
            differences.compare("preamble's node", preamble.life, there.life);
            differences.compare("preamble's core", preamble.core, there.core);
        }
        if let Some(expected) = self.dial.and_then(|dial| dial.expected) {
            differences.compare("node that was dialled", expected, there.life.node);
        }
        // The wish was in the plain preamble too, so anybody could have changed it on its way.
        if let Some(wanted) = self.dial.and_then(|dial| dial.wanted) {
            differences.compare("core that was wanted", wanted, there.core);
        }
        if !differences.is_empty() {
            return Err(GreetingError::Differs(differences));
        }
        if self.dial.is_none() {
            self.send(Kind::Welcome, &here.encode());
        }
        let agree = here.tables == there.tables;
        self.peer = Some(there);
        if agree {
            self.establish(None);
        } else {
            let tables = self.identity.get().tables.encode();
            self.send(Kind::Tables, &tables);
            self.awaiting = Awaiting::Tables;
        }
        Ok(())
    }

    fn take_tables(&mut self, content: &[u8]) -> Result<(), GreetingError> {
        let there = Tables::decode(content)?;
        if self.peer.as_ref().map(|peer| peer.tables) != Some(there.digest()) {
            return Err(GreetingError::Wire(WireError::Malformed {
                kind: Kind::Tables,
                what: "they are not those whose digest was announced",
            }));
        }
        let mut differences = Differences::default();
        self.identity.get().tables.compare(&there, &mut differences);
        if !differences.is_empty() {
            return Err(GreetingError::Differs(differences));
        }
        self.establish(Some(there));
        Ok(())
    }

    fn establish(&mut self, tables: Option<Tables>) {
        self.awaiting = Awaiting::Nothing;
        if let Some(peer) = self.peer.take() {
            self.steps
                .push_back(Step::Established(Box::new(Established {
                    purpose: peer.purpose,
                    peer,
                    tables,
                })));
        }
    }

    fn close(&mut self, error: GreetingError) {
        if let GreetingError::Differs(differences) = &error {
            let differences = differences.encode();
            self.send(Kind::Refuse, &differences);
        }
        self.awaiting = Awaiting::Nothing;
        self.inbox = ArchivedBytes::new();
        self.peer = None;
        self.steps.push_back(Step::Close(error));
    }

    fn send(&mut self, kind: Kind, content: &[u8]) {
        let sender = Sender {
            life: self.identity.get().life,
            core: self.core,
            stream: 0,
        };
        let mut writer = FrameWriter::new(FrameLimits {
            frame_bytes: TABLES_BYTES,
            ..self.identity.get().limits
        });
        let header = Header::new(kind, Target::Node, sender);
        match writer.write_bytes(&header, &[], content) {
            Ok(_) => self.steps.push_back(Step::Send(writer.pending().to_vec())),
            // Tables, identities and differences are bounded such that they fit.
            Err(error) => unreachable!("a {kind} of {} bytes: {error}", content.len()),
        }
    }
}

impl Step {
    fn heap_bytes(&self) -> usize {
        match self {
            Step::Send(bytes) => bytes.capacity(),
            Step::Established(peer) => size_of_val(&**peer),
            Step::SendPlain(_) | Step::HandOver(_) | Step::Close(_) => 0,
        }
    }
}
