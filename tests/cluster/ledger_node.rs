//! For the tests of ledgers: one on a simulated disk, with the time that it has.

use std::sync::Arc;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::base::rng::{Rng, seeded};
use corecast::cluster::ledger::{Durable, Ledger};
use corecast::cluster::ledger_error::{LedgerError, LedgerOpenError};
use corecast::cluster::ledger_opening::{LedgerOpening, OpenedLedger};
use corecast::cluster::ledger_settings::LedgerSettings;
use corecast::consensus::entry::{
    EntryBody, LogEntry, LogWrite, ProposalRecord, Recovered, Snapshot, Ticket,
};
use corecast::log::{LogSettings, LogStore};
use corecast::sim::{MountedDisk, SimDisk};

use crate::ledger_model::nothing;

/// A disk, and how a ledger on it is opened and driven.
pub(crate) struct LedgerMachine {
    pub(crate) node: NodeId,
    pub(crate) disk: SimDisk,
    pub(crate) store: MountedDisk,
    pub(crate) settings: LedgerSettings,
    pub(crate) now: Time,
    rng: Rng,
}

/// Small enough that segments come and go all the time.
pub(crate) fn small() -> LedgerSettings {
    LedgerSettings {
        log: LogSettings {
            segment_bytes: 128 << 10,
            max_batch_bytes: 16 << 10,
            max_record_bytes: 16 << 10,
            max_unsynced_bytes: 64 << 10,
            max_segments: 12,
            spares: 1,
            read_bytes: 16 << 10,
        },
        max_queued_bytes: 1 << 20,
    }
}

/// An opening that was to be cut off.
pub(crate) enum Opening {
    Done(Box<OpenedLedger>),
    CutOff,
}

impl LedgerMachine {
    pub(crate) fn new(seed: u64, node: NodeId, settings: LedgerSettings) -> LedgerMachine {
        let disk = SimDisk::new(seed);
        LedgerMachine {
            node,
            store: disk.mount(),
            disk,
            settings,
            now: Time::ZERO,
            rng: seeded(seed, 77),
        }
    }

    pub(crate) fn crash(&mut self) {
        self.disk.crash();
        self.store = self.disk.mount();
    }

    pub(crate) fn open(&mut self) -> Result<OpenedLedger, LedgerOpenError> {
        match self.open_for(u64::MAX)? {
            Opening::Done(opened) => Ok(*opened),
            Opening::CutOff => unreachable!("it had all the time"),
        }
    }

    /// Opens the ledger; after so many operations the power goes.
    pub(crate) fn open_for(&mut self, operations: u64) -> Result<Opening, LedgerOpenError> {
        let mut opening =
            LedgerOpening::new(self.settings.clone(), self.node, None, &mut self.rng)?;
        let mut left = operations;
        loop {
            if let Some(opened) = opening.take_opened() {
                assert!(opening.take_opened().is_none());
                return Ok(Opening::Done(Box::new(opened)));
            }
            while let Some((ticket, operation)) = opening.next_operation() {
                self.store.submit(self.now, ticket, operation);
                if left == 0 {
                    self.crash();
                    return Ok(Opening::CutOff);
                }
                left -= 1;
            }
            if let Some(error) = opening.failed() {
                return Err(error.clone());
            }
            let due = self.disk.next_due();
            self.now = due.expect("an opening never waits for nothing");
            while let Some((ticket, result)) = self.store.poll(self.now) {
                if let Err(error) = opening.completed(ticket, result) {
                    assert!(opening.next_operation().is_none(), "it has failed");
                    return Err(error);
                }
            }
        }
    }

    /// Begins all that the ledger asks for.
    pub(crate) fn submit(&mut self, ledger: &mut Ledger) {
        while let Some((ticket, operation)) = ledger.next_operation() {
            self.store.submit(self.now, ticket, operation);
        }
    }

    /// Lets one operation end, if one is under way; whether one was.
    pub(crate) fn step(&mut self, ledger: &mut Ledger) -> Result<bool, LedgerError> {
        self.submit(ledger);
        if let Some(error) = ledger.failed() {
            return Err(error.clone());
        }
        let Some(due) = self.disk.next_due() else {
            return Ok(false);
        };
        self.now = due;
        if let Some((ticket, result)) = self.store.poll(due) {
            ledger.completed(ticket, result)?;
        }
        Ok(true)
    }

    /// Until everything is durable; what has been reported.
    pub(crate) fn settle(&mut self, ledger: &mut Ledger) -> Result<Vec<Durable>, LedgerError> {
        ledger.flush();
        while self.step(ledger)? {}
        assert!(ledger.is_idle());
        Ok(std::iter::from_fn(|| ledger.poll_durable()).collect())
    }

    /// What has ended by this time goes in, what is wanted goes out.
    pub(crate) fn turn(&mut self, now: Time, ledger: &mut Ledger) -> Result<(), LedgerError> {
        self.now = now;
        while let Some((ticket, result)) = self.store.poll(now) {
            ledger.completed(ticket, result)?;
        }
        self.submit(ledger);
        Ok(())
    }

    /// From now on operations take about so long.
    pub(crate) fn takes_up_to(&self, most: Duration) {
        self.disk.latency(Duration::from_micros(20)..most);
    }
}

/// An entry with a command of so many bytes.
pub(crate) fn entry(index: u64, bytes: usize) -> LogEntry {
    let proposal = ProposalRecord {
        node: 1,
        incarnation: 1,
        only_term: 0,
        number: index,
        floor: 1,
    };
    LogEntry {
        index,
        term: 1,
        body: EntryBody::Command(proposal, vec![index as u8; bytes]),
    }
}

/// A write of these entries that is waited for.
pub(crate) fn write(ticket: u64, entries: Vec<LogEntry>) -> LogWrite {
    LogWrite {
        ticket: Some(Ticket(ticket)),
        entries,
        ..nothing()
    }
}

/// A snapshot with so many bytes of data.
pub(crate) fn snapshot(index: u64, bytes: usize) -> Arc<Snapshot> {
    let mut snapshot = (*Recovered::genesis(&Default::default()).snapshot.unwrap()).clone();
    snapshot.meta.index = index;
    snapshot.data = vec![7; bytes].into();
    snapshot.into()
}
