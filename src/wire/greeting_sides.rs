//! Both sides of beginning connections, for tests.

use super::address::Life;
use super::greeting::{Dial, Established, Greeting, GreetingError, Patience, Step};
use super::hello::{CheckedIdentity, Identity};
use super::limits::FrameLimits;
use super::preamble::{Preamble, Purpose};
use super::tables::Tables;
use super::type_registry::{KnownType, TypeRegistry};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::time::Time;
use std::sync::Arc;

pub(crate) fn identity(node: u32) -> Identity {
    Identity {
        cluster: "shop".into(),
        cluster_id: Some(7),
        life: Life::new(NodeId(node), Incarnation(1)),
        cores: 4,
        advertised: format!("10.0.0.{node}:4000"),
        limits: FrameLimits::default(),
        tables: Arc::new(tables(&[("cart", 256)], &[("a", 1, 10)])),
    }
}

pub(crate) fn tables(entities: &[(&str, u32)], types: &[(&str, u16, u64)]) -> Tables {
    let mut registry = TypeRegistry::default();
    for (name, version, fingerprint) in types {
        registry
            .add(KnownType {
                name: (*name).to_owned(),
                version: *version,
                fingerprint: *fingerprint,
            })
            .unwrap();
    }
    let mut tables = Tables::new(registry);
    for (name, shards) in entities {
        tables.add_entity_type(name, *shards).unwrap();
    }
    tables
}

pub(crate) fn checked(identity: Identity) -> Arc<CheckedIdentity> {
    Arc::new(identity.check().unwrap())
}

pub(crate) const DIAL: Dial = Dial {
    purpose: Purpose::Data,
    core: CoreId(2),
    wanted: Some(CoreId(3)),
    expected: None,
};

pub(crate) fn dial(identity: Identity, dial: Dial) -> Greeting {
    Greeting::dial(checked(identity), dial, Patience::default(), Time::ZERO)
}

pub(crate) fn accept(identity: Identity) -> Greeting {
    Greeting::accept(checked(identity), Patience::default(), Time::ZERO)
}

/// How one side ended.
pub(crate) type End = Result<Established, GreetingError>;

/// One side with what the network holds for it.
pub(crate) struct Side {
    pub(crate) greeting: Greeting,
    pub(crate) inbound: Vec<u8>,
    pub(crate) end: Option<End>,
    pub(crate) handed_over: Option<Preamble>,
    pub(crate) sent: Vec<u8>,
}

impl Side {
    pub(crate) fn new(greeting: Greeting) -> Side {
        Side {
            greeting,
            inbound: Vec::new(),
            end: None,
            handed_over: None,
            sent: Vec::new(),
        }
    }

    /// Takes bytes in portions, and gives what goes to the other side.
    pub(crate) fn run(&mut self, portion: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let most = self.inbound.len().min(portion);
            let count = self.greeting.receive(&self.inbound[..most]);
            self.inbound.drain(..count);
            let mut moved = count > 0;
            while let Some(step) = self.greeting.next_step() {
                moved = true;
                match step {
                    Step::SendPlain(bytes) => out.extend_from_slice(&bytes),
                    Step::Send(bytes) => out.extend_from_slice(&bytes),
                    Step::HandOver(preamble) => self.handed_over = Some(preamble),
                    Step::Established(established) => self.end = Some(Ok(*established)),
                    Step::Close(error) => self.end = Some(Err(error)),
                }
            }
            if !moved {
                self.sent.extend_from_slice(&out);
                return out;
            }
        }
    }
}

/// Runs both sides against each other until nothing moves.
pub(crate) fn meet(dialling: Greeting, accepting: Greeting, portion: usize) -> (Side, Side) {
    let (mut one, mut two) = (Side::new(dialling), Side::new(accepting));
    loop {
        let from_one = one.run(portion);
        two.inbound.extend_from_slice(&from_one);
        let from_two = two.run(portion);
        one.inbound.extend_from_slice(&from_two);
        if from_one.is_empty() && from_two.is_empty() {
            return (one, two);
        }
    }
}

pub(crate) fn established(side: &Side) -> &Established {
    match &side.end {
        Some(Ok(established)) => established,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn error(side: &Side) -> String {
    match &side.end {
        Some(Err(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}
