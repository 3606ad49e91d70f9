//! Peers that are no nodes: each connects to a node of the cluster once, and says what the test wants.

use super::network::{Arrival, LinkId, Network};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::time::Time;
use crate::wire::address::{Life, Sender, Target};
use crate::wire::greeting::{Dial, Greeting, Patience, Step};
use crate::wire::header::Header;
use crate::wire::hello::CheckedIdentity;
use crate::wire::kind::Kind;
use crate::wire::preamble::Purpose;
use crate::wire::writer::FrameWriter;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The first of the ids that strangers have.
const FIRST: u32 = 0x00F0_0000;

struct Stranger {
    link: LinkId,
    is_open: bool,
    /// What goes on before it says what it wants to.
    greeting: Option<Greeting>,
    unsent: VecDeque<u8>,
    /// What it says when it has been greeted.
    then: Vec<u8>,
}

/// All strangers, by the ids that they go by.
pub(super) struct Strangers {
    strangers: BTreeMap<NodeId, Stranger>,
    next: u32,
}

impl Default for Strangers {
    fn default() -> Strangers {
        Strangers {
            strangers: BTreeMap::new(),
            next: FIRST,
        }
    }
}

impl Strangers {
    /// Somebody connects to a node and sends these bytes and nothing else.
    pub(super) fn knock(
        &mut self,
        network: &mut Network<Vec<u8>>,
        to: NodeId,
        bytes: &[u8],
        now: Time,
    ) {
        let me = self.new_id();
        let stranger = Stranger {
            link: network.connect(now, me, to),
            is_open: false,
            greeting: None,
            unsent: bytes.to_vec().into(),
            then: Vec::new(),
        };
        self.strangers.insert(me, stranger);
    }

    /// Somebody connects to a core of a node, greets as a node of its cluster does that says all else of itself that the node
    /// says, and sends these bytes then.
    pub(super) fn greet(
        &mut self,
        network: &mut Network<Vec<u8>>,
        to: &CheckedIdentity,
        core: CoreId,
        bytes: &[u8],
        now: Time,
    ) {
        let me = self.new_id();
        let node = to.get().life.node;
        let mut identity = to.get().clone();
        identity.life = Life::new(me, Incarnation(1));
        let Ok(identity) = identity.check() else {
            return;
        };
        let dial = Dial {
            purpose: Purpose::Data,
            core: CoreId(0),
            wanted: Some(core),
            expected: Some(node),
        };
        let limits = identity.get().limits;
        let sender = Sender {
            life: identity.get().life,
            ..Sender::default()
        };
        let greeting = Greeting::dial(Arc::new(identity), dial, Patience::default(), now);
        // A connection begins with a ping.
        let mut ping = FrameWriter::new(limits);
        let _ = ping.write_bytes(&Header::new(Kind::Ping, Target::Node, sender), &[], &[]);
        let stranger = Stranger {
            link: network.connect(now, me, node),
            is_open: false,
            greeting: Some(greeting),
            unsent: VecDeque::new(),
            then: [ping.pending(), bytes].concat(),
        };
        self.strangers.insert(me, stranger);
    }

    fn new_id(&mut self) -> NodeId {
        self.next += 1;
        NodeId(self.next - 1)
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        node.0 >= FIRST && node.0 < self.next
    }

    /// Whether each has said what it wants to.
    pub(super) fn are_quiet(&self) -> bool {
        let mut strangers = self.strangers.values();
        strangers.all(|it| it.is_open && it.greeting.is_none() && it.unsent.is_empty())
    }

    pub(super) fn arrive(
        &mut self,
        arrival: Arrival<Vec<u8>>,
        network: &mut Network<Vec<u8>>,
        now: Time,
    ) {
        let me = arrival.at();
        let Some(stranger) = self.strangers.get_mut(&me) else {
            // A node does not connect to somebody whom it does not know.
            if let Arrival::Opened { link, .. } = arrival {
                network.close(now, link, me);
            }
            return;
        };
        match arrival {
            Arrival::Opened { .. } => stranger.is_open = true,
            Arrival::Received { payload, .. } => {
                // What comes behind the greeting is not looked at.
                if let Some(greeting) = &mut stranger.greeting {
                    greeting.receive(&payload);
                }
            }
            Arrival::Writable { .. } => {}
            Arrival::Closed { .. } => {
                self.strangers.remove(&me);
                return;
            }
            Arrival::Datagram { .. } => return,
        }
        stranger.follow_greeting();
        if !stranger.unsent.is_empty() {
            let bytes: Vec<u8> = stranger.unsent.iter().copied().collect();
            let length = bytes.len();
            if network.send(now, stranger.link, me, bytes, length).is_ok() {
                stranger.unsent.clear();
            }
        }
    }
}

impl Stranger {
    fn follow_greeting(&mut self) {
        while let Some(greeting) = &mut self.greeting {
            match greeting.next_step() {
                None => return,
                Some(Step::SendPlain(bytes)) => self.unsent.extend(bytes),
                Some(Step::Send(bytes)) => self.unsent.extend(bytes),
                Some(Step::Established(_)) => {
                    self.unsent.extend(std::mem::take(&mut self.then));
                    self.greeting = None;
                }
                Some(Step::Close(_)) => self.greeting = None,
                Some(Step::HandOver(_)) => {}
            }
        }
    }
}
