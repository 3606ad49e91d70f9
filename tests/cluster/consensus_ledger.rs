//! What a node of the consensus tests writes to: a disk in memory, or a ledger on a simulated disk.

use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{Incarnation, NodeId};
use corecast::base::rng::Rng;
use corecast::cluster::ledger::{Durable, Fact, Ledger};
use corecast::consensus::entry::{Recovered, Ticket};
use corecast::consensus::founding::Founding;
use corecast::consensus::peer::PeerId;

use crate::consensus_disk::Disk;
use crate::ledger_node::{LedgerMachine, small};

/// Which of both the nodes of a world have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    Memory,
    Ledgers,
}

/// One of both.
pub(crate) enum Storage {
    Memory(Disk),
    Ledger(Box<LedgerStorage>),
}

/// A ledger while the node runs, and the disk below it.
pub(crate) struct LedgerStorage {
    machine: LedgerMachine,
    ledger: Option<Ledger>,
    peer: PeerId,
    /// The life that it began last; a new disk knows of none.
    last: Incarnation,
}

impl Storage {
    /// When something ends.
    pub(crate) fn next_due(&self) -> Time {
        match self {
            Storage::Memory(_) => Time::MAX,
            Storage::Ledger(storage) => storage.machine.disk.next_due().unwrap_or(Time::MAX),
        }
    }

    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        match self {
            Storage::Memory(disk) => disk.crash(rng),
            Storage::Ledger(storage) => {
                storage.ledger = None;
                storage.machine.crash();
            }
        }
    }

    /// What a node finds at its start into this life.
    pub(crate) fn recover(&mut self, now: Time, life: Incarnation) -> Recovered {
        match self {
            Storage::Memory(disk) => disk.recover(),
            Storage::Ledger(storage) => storage.recover(now, life),
        }
    }

    /// The next write that has become durable.
    pub(crate) fn next_durable(&mut self, now: Time) -> Option<Ticket> {
        let Storage::Ledger(storage) = self else {
            return None;
        };
        let ledger = storage.ledger.as_mut()?;
        storage.machine.turn(now, ledger).unwrap();
        match ledger.poll_durable()? {
            Durable::Write(ticket) => Some(ticket),
            Durable::Fact(fact) => panic!("{fact:?} was waited for"),
        }
    }

    /// Begins what was written.
    pub(crate) fn submit(&mut self, now: Time, slowest: Duration) {
        if let Storage::Ledger(storage) = self
            && let Some(ledger) = &mut storage.ledger
        {
            storage.machine.now = now;
            storage.machine.takes_up_to(slowest);
            storage.machine.submit(ledger);
        }
    }
}

impl LedgerStorage {
    /// A new ledger, with a disk id of its own.
    pub(crate) fn new(seed: u64, node: NodeId, now: Time) -> LedgerStorage {
        let mut machine = LedgerMachine::new(seed, node, small());
        machine.now = now;
        let ledger = machine.open().unwrap().ledger;
        LedgerStorage {
            peer: ledger.facts().peer(),
            machine,
            ledger: Some(ledger),
            last: Incarnation(0),
        }
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().expect("the node runs")
    }

    pub(crate) fn form(&mut self, founding: &Founding) {
        let ledger = self.ledger.as_mut().unwrap();
        ledger.form(founding).unwrap();
        self.machine.settle(ledger).unwrap();
    }

    fn recover(&mut self, now: Time, life: Incarnation) -> Recovered {
        self.machine.crash();
        self.machine.now = now;
        let mut opened = self.machine.open().unwrap();
        let facts = opened.ledger.facts();
        assert_eq!(facts.peer(), self.peer);
        assert_eq!(facts.incarnation, self.last, "the life before is known");
        self.last = life;
        opened.ledger.record(Fact::Life(life)).unwrap();
        self.machine.settle(&mut opened.ledger).unwrap();
        self.ledger = Some(opened.ledger);
        opened.recovered
    }
}
