//! Opening a ledger: the log below is read, whose it is is checked, and what a crash has left undone is done.

use rand::RngExt;

use super::ledger::{Ledger, NodeFacts};
use super::ledger_error::LedgerOpenError;
use super::ledger_fold::{Fold, Problem};
use super::ledger_record::{self as record, RecordError, slot};
use super::ledger_settings::LedgerSettings;
use super::ledger_steps::Steps;
use crate::base::ids::NodeId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::consensus::entry::Recovered;
use crate::consensus::peer::{ClusterId, DiskId};
use crate::log::{
    Identity, LogId, LogStore, OpenError, Opened, Operation, Outcome, Place, Recovery, StoreError,
    Ticket,
};

/// Opens the ledger of a node, or makes it. Driven as the log's [`Recovery`] is: operations come out of
/// [`next_operation`](LedgerOpening::next_operation), what has ended goes into [`completed`](LedgerOpening::completed), and
/// after each the ledger can be taken, as soon as it is open.
///
/// A ledger that is made gets a new [`DiskId`], which is durable before it is open: so a node that remembers nothing is
/// another peer than the one that it was.
///
/// ```
/// use corecast::base::ids::{Incarnation, NodeId};
/// use corecast::base::rng::seeded;
/// use corecast::base::time::Time;
/// use corecast::cluster::ledger::{Durable, Fact};
/// use corecast::cluster::ledger_opening::{LedgerOpening, OpenedLedger};
/// use corecast::cluster::ledger_settings::LedgerSettings;
/// use corecast::consensus::settings::ConsensusSettings;
/// use corecast::sim::SimDisk;
///
/// let settings = LedgerSettings::for_consensus(&ConsensusSettings::default());
/// let (disk, mut rng) = (SimDisk::new(1), seeded(1, 0));
/// let mut store = disk.mount();
/// let mut now = Time::ZERO;
/// let mut opening = LedgerOpening::new(settings, NodeId(7), None, &mut rng).unwrap();
/// let opened = loop {
///     if let Some(opened) = opening.turn(now, &mut store).unwrap() {
///         break opened;
///     }
///     now = disk.next_due().unwrap();
/// };
/// let OpenedLedger { mut ledger, recovered, created, .. } = opened;
/// assert!(created && recovered.snapshot.is_none());
///
/// // Before anybody is told of this life:
/// let life = Incarnation(ledger.facts().incarnation.0 + 1);
/// let ticket = ledger.record(Fact::Life(life)).unwrap();
/// let durable = loop {
///     ledger.turn(now, &mut store).unwrap();
///     if let Some(durable) = ledger.poll_durable() {
///         break durable;
///     }
///     now = disk.next_due().unwrap();
/// };
/// assert_eq!(durable, Durable::Fact(ticket));
/// ```
///
/// Memory: that of a [`Recovery`], the entries that are there, and the snapshot (two while it is read).
#[derive(Debug)]
pub struct LedgerOpening {
    node: NodeId,
    wanted: Option<ClusterId>,
    new_disk: DiskId,
    settings: LedgerSettings,
    phase: Phase,
    failed: Option<LedgerOpenError>,
}

#[derive(Debug)]
enum Phase {
    Reading {
        recovery: Box<Recovery>,
        fold: Box<Fold>,
        /// The first thing that belongs to a node whose name has not been read.
        anonymous: Option<(&'static str, Place)>,
    },
    /// What has to be written before the ledger is used.
    Settling(Box<OpenedLedger>),
    Taken,
}

/// A ledger that is open, and what it held.
#[derive(Debug)]
pub struct OpenedLedger {
    /// The ledger. Its [`facts`](Ledger::facts) are those that it held.
    pub ledger: Ledger,
    /// What consensus starts with.
    pub recovered: Recovered,
    /// Whether there was none before. Then its disk is a new one: a node that has been in the cluster before has forgotten
    /// what it has voted.
    pub created: bool,
    /// Where a batch was cut off that had not been confirmed, if the beginning of one was there.
    pub torn: Option<Place>,
}

impl LedgerOpening {
    /// Opens the ledger of `node`. With `cluster`, one that belongs to another cluster is refused.
    ///
    /// # Errors
    /// [`LedgerOpenError::Log`] for settings of the log that make no sense.
    pub fn new(
        settings: LedgerSettings,
        node: NodeId,
        cluster: Option<ClusterId>,
        rng: &mut Rng,
    ) -> Result<LedgerOpening, LedgerOpenError> {
        let identity = Identity::OrNew(LogId(rng.random()));
        let recovery = Recovery::new(settings.log.clone(), identity)?;
        Ok(LedgerOpening {
            node,
            wanted: cluster,
            new_disk: DiskId::mint(rng),
            settings,
            phase: Phase::Reading {
                recovery: Box::new(recovery),
                fold: Box::new(Fold::new(node, cluster)),
                anonymous: None,
            },
            failed: None,
        })
    }

    /// Why it does not open, if it is known by now.
    #[must_use]
    pub fn failed(&self) -> Option<&LedgerOpenError> {
        self.failed.as_ref()
    }

    /// What the driver is to do next; to be asked until there is nothing. When it says that there is nothing, the opening
    /// may have [failed](LedgerOpening::failed), because the log is full.
    pub fn next_operation(&mut self) -> Option<(Ticket, Operation)> {
        if self.failed.is_some() {
            return None;
        }
        match &mut self.phase {
            Phase::Reading { recovery, .. } => recovery.next_operation(),
            Phase::Settling(opened) => {
                let operation = opened.ledger.next_operation();
                if let Some(error) = opened.ledger.failed() {
                    self.failed = Some(error.clone().into());
                }
                operation
            }
            Phase::Taken => None,
        }
    }

    /// An operation has ended.
    ///
    /// # Errors
    /// Why the ledger does not open; every further call has the same answer.
    pub fn completed(
        &mut self,
        ticket: Ticket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), LedgerOpenError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.take_answer(ticket, result);
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    /// One turn on a store: takes what has ended, and hands over what is wanted, without waiting for anything. Gives the
    /// ledger once it is open.
    ///
    /// # Errors
    /// As [`completed`](LedgerOpening::completed).
    pub fn turn(
        &mut self,
        now: Time,
        store: &mut (impl LogStore + ?Sized),
    ) -> Result<Option<OpenedLedger>, LedgerOpenError> {
        while let Some((ticket, result)) = store.poll(now) {
            self.completed(ticket, result)?;
        }
        let opened = self.take_opened();
        if opened.is_none() {
            while let Some((ticket, operation)) = self.next_operation() {
                store.submit(now, ticket, operation);
            }
        }
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(opened),
        }
    }

    /// Takes the ledger, once it is open; `None` before, and ever after.
    pub fn take_opened(&mut self) -> Option<OpenedLedger> {
        match &self.phase {
            Phase::Settling(opened) if self.failed.is_none() && opened.ledger.is_settled() => {}
            _ => return None,
        }
        match std::mem::replace(&mut self.phase, Phase::Taken) {
            Phase::Settling(opened) => Some(*opened),
            _ => None,
        }
    }

    fn take_answer(
        &mut self,
        ticket: Ticket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), LedgerOpenError> {
        let (recovery, fold, anonymous) = match &mut self.phase {
            Phase::Reading {
                recovery,
                fold,
                anonymous,
            } => (recovery, fold, anonymous),
            Phase::Settling(opened) => return Ok(opened.ledger.completed(ticket, result)?),
            Phase::Taken => return Err(OpenError::WrongAnswer(ticket).into()),
        };
        recovery.completed(ticket, result)?;
        loop {
            let taken = match recovery.next_recovered()? {
                None => break,
                Some(replayed) => fold.take(replayed),
            };
            let place = recovery.place().unwrap_or(BEGINNING);
            match taken {
                Ok(Some(what)) if fold.disk.is_none() => _ = anonymous.get_or_insert((what, place)),
                Ok(_) => {}
                Err(problem) => return Err(self.refuse(problem, place)),
            }
        }
        // Whose it is stands before everything else.
        if let (Some((what, place)), None) = (*anonymous, fold.disk) {
            return Err(LedgerOpenError::Anonymous { what, place });
        }
        if let Some(opened) = recovery.take_opened() {
            self.settle(opened)?;
        }
        Ok(())
    }

    fn refuse(&self, problem: Problem, place: Place) -> LedgerOpenError {
        match problem {
            Problem::OtherNode(found) => LedgerOpenError::OtherNode {
                found,
                asked: self.node,
                place,
            },
            Problem::OtherCluster(found) => LedgerOpenError::OtherCluster {
                found,
                asked: self.wanted.unwrap_or(found),
                place,
            },
            Problem::Record(what, RecordError::Version(version)) => {
                LedgerOpenError::FutureVersion {
                    what,
                    version,
                    place,
                }
            }
            Problem::Record(what, RecordError::Malformed(why)) => {
                LedgerOpenError::BadRecord { what, why, place }
            }
        }
    }

    /// The log is open.
    fn settle(&mut self, opened: Opened) -> Result<(), LedgerOpenError> {
        let Phase::Reading { fold, .. } = std::mem::replace(&mut self.phase, Phase::Taken) else {
            return Ok(());
        };
        let cluster = fold.cluster.clone();
        let facts = NodeFacts {
            node: self.node,
            disk: fold.disk.unwrap_or(self.new_disk),
            cluster: cluster.as_ref().map(|record| record.cluster),
            founding: cluster.and_then(|record| record.founding),
            promise: fold.promise.clone(),
            incarnation: fold.incarnation,
        };
        let (created, uncut) = (fold.disk.is_none(), fold.uncut());
        let snapshot_index = fold.snapshot_index();
        let recovered = fold.into_recovered();
        let mut ledger = Ledger::new(&self.settings, opened.log, facts, snapshot_index);
        if created {
            let identity = record::identity(self.node, self.new_disk);
            ledger.enqueue(Steps::of_value(slot::IDENTITY, identity))?;
        }
        if let Some(snapshot) = &recovered.snapshot {
            let is_ahead = ledger.log().next().0 <= snapshot.meta.index;
            if uncut.is_some() || is_ahead {
                ledger.enqueue(Steps::of_cut(snapshot.clone()))?;
            }
        }
        self.phase = Phase::Settling(Box::new(OpenedLedger {
            ledger,
            recovered,
            created,
            torn: opened.torn,
        }));
        Ok(())
    }
}

/// Where a log begins, for what stands nowhere.
const BEGINNING: Place = Place {
    file: crate::log::FileName::Segment(1),
    offset: 0,
    index: crate::log::Index(1),
};
