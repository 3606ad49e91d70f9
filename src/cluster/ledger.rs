//! What a node's control plane must not forget, on the segmented log: its part in the replicated log of the cluster, and
//! facts about itself.

use std::collections::VecDeque;

use super::ledger_error::{FactRefused, LedgerError};
use super::ledger_record::{self as record, ClusterRecord, slot};
use super::ledger_settings::LedgerSettings;
use super::ledger_steps::{NotAppended, Sink, Steps};
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::consensus::entry::{LogWrite, Recovered, SnapshotWrite, Ticket};
use crate::consensus::founding::{Founding, MAX_FOUNDERS, Promise};
use crate::consensus::peer::{ClusterId, DiskId, PeerId};
use crate::log::{
    Index, Log, LogStore, Operation, Outcome, Position, Refused, StoreError,
    Ticket as OperationTicket,
};

/// What a node knows of itself. Everything but the node and the disk, which stand in it from its making on, changes with
/// [`Ledger::record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Whose ledger it is.
    pub node: NodeId,
    /// The id of this directory, minted when the ledger was made.
    pub disk: DiskId,
    /// To which cluster the node belongs; `None` as long as it belongs to none.
    pub cluster: Option<ClusterId>,
    /// How the cluster began, where this node knows.
    pub founding: Option<Founding>,
    /// What this node has promised in a founding.
    pub promise: Promise,
    /// The last life that this node has recorded; 0 before the first.
    pub incarnation: Incarnation,
}

impl NodeFacts {
    /// The peer that this node is with this disk.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        PeerId::new(self.node, self.disk)
    }

    /// Whether the beginning of a cluster of which this node is a voter was recorded, and what it starts with was not,
    /// because a crash came between: then [`Ledger::form`] has to be called again, before the node takes part.
    #[must_use]
    pub fn must_form(&self, recovered: &Recovered) -> bool {
        let is_voter = |founding: &Founding| founding.voters.contains(&self.peer().number());
        recovered.snapshot.is_none() && self.founding.as_ref().is_some_and(is_voter)
    }
}

/// Something that a node learns about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It begins this life. To be durable before anybody is told of it; later lives have higher numbers.
    Life(Incarnation),
    /// It promises this in a founding ([`bootstrap::Output::Write`](crate::consensus::bootstrap::Output::Write)).
    Promised(Promise),
    /// It belongs to this cluster, which others have founded.
    Joined(ClusterId),
    /// It belongs to this cluster, which began like this. A founder calls [`Ledger::form`] instead.
    Founded(Founding),
}

/// Names a fact that is being recorded; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactTicket(pub u64);

/// Something is durable, and everything before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// A write of consensus: tell it by [`written`](crate::consensus::machine::Consensus::written).
    Write(Ticket),
    /// A fact.
    Fact(FactTicket),
}

/// The durable state of one node's control plane. It does no I/O: operations of the log below come out of
/// [`next_operation`](Ledger::next_operation), for a [`LogStore`], and what comes back from there
/// goes into [`completed`](Ledger::completed). It is made by a [`LedgerOpening`](super::ledger_opening::LedgerOpening).
///
/// **Order of calls.** Each turn: `completed` for what has ended; [`poll_durable`](Ledger::poll_durable) until `None`, and
/// consensus is told; [`write`](Ledger::write) for each [`Output::Write`](crate::consensus::output::Output::Write) of
/// consensus, in the order in which they come; at the end of the turn `next_operation` until `None`, so that all that was
/// written in the turn shares one flush.
///
/// **What a crash leaves** is a prefix of what was written, in the sense of [`LogWrite`]: any beginning of the parts of
/// one write and of its entries, everything before it, nothing after; never less than what was reported durable. A
/// snapshot that replaces the log does so together with the end of the log, or not at all. Only the dropping of entries
/// that a snapshot contains may be late, or undone.
///
/// **Writes without a ticket** wait for one that has one, since nobody waits for them: a hard state of which only the
/// commit index has changed costs no flush of its own. [`flush`](Ledger::flush) writes them anyway.
///
/// **Own snapshots** that are older than the one before are not written: a snapshot of the leader has overtaken them.
///
/// **Failure.** The first error stops the ledger for good: [`failed`](Ledger::failed) has it, every call answers with it,
/// and no operation comes out any more. What had become durable before is still reported.
///
/// **Bounds.** The log has a bound of segments, see [`LedgerSettings::check`]. What does not fit waits while segments are
/// being emptied. If none is, and consensus has dropped nothing by the end of the turn, the ledger stops
/// ([`LedgerError::Full`]) and has to be opened again: consensus takes a snapshot when it starts with so much.
/// Entries beyond [`LedgerSettings::max_queued_bytes`] that the disk has not taken stop it as well
/// ([`LedgerError::Overrun`]); whoever feeds consensus should pause while [`is_behind`](Ledger::is_behind).
#[derive(Debug)]
pub struct Ledger {
    facts: NodeFacts,
    sink: Sink,
    /// What has not been given to the log, or the first of it only in part.
    queue: VecDeque<Steps>,
    queued_bytes: u64,
    max_queued_bytes: u64,
    /// How many of the queue somebody waits for, with all before them.
    urgent: usize,
    /// The first of the queue waits for segments to be emptied: the bound that it has met.
    full: Option<u32>,
    /// Given to the log, and not durable.
    unreported: VecDeque<(Position, Durable)>,
    durable: VecDeque<Durable>,
    last_fact: u64,
    /// The newest snapshot that was written or is to be.
    snapshot_index: Option<u64>,
    failed: Option<LedgerError>,
}

impl Ledger {
    pub(super) fn new(
        settings: &LedgerSettings,
        log: Log,
        facts: NodeFacts,
        snapshot_index: Option<u64>,
    ) -> Ledger {
        Ledger {
            facts,
            sink: Sink::new(log, settings.log.max_record_bytes),
            queue: VecDeque::new(),
            queued_bytes: 0,
            max_queued_bytes: settings.max_queued_bytes,
            urgent: 0,
            full: None,
            unreported: VecDeque::new(),
            durable: VecDeque::new(),
            last_fact: 0,
            snapshot_index,
            failed: None,
        }
    }

    /// What the node knows of itself, durable or not.
    #[must_use]
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    /// How many bytes of entries, and of what else there is to write, have not been given to the log, because the disk is
    /// behind.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Whether so much waits for the disk that consensus should get no messages that
    /// [add to it](crate::cluster::message::ControlMessage::is_to_be_written), and no proposals, until some of it has been written:
    /// half of what would stop the ledger. (What is not taken from the others, they send again.)
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.queued_bytes > self.max_queued_bytes / 2
    }

    /// How many segments the log has on the disk.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.sink.log.segments()
    }

    /// Why the ledger has stopped, if it has.
    #[must_use]
    pub fn failed(&self) -> Option<&LedgerError> {
        self.failed.as_ref()
    }

    /// Whether nothing is under way and nothing waits, but for what nobody waits for: it may be dropped. (One that has
    /// stopped is idle as well.)
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.failed.is_some() || self.urgent == 0 && self.sink.log.is_idle()
    }

    /// Writes what consensus says. Writes have to come in the order in which consensus gives them.
    ///
    /// # Errors
    /// The ledger has stopped, now or before.
    pub fn write(&mut self, mut write: LogWrite) -> Result<(), LedgerError> {
        self.check_failed()?;
        let newest = self.snapshot_index;
        let overtaken = |write: &mut SnapshotWrite| {
            !write.replaces_log && newest > Some(write.snapshot.meta.index)
        };
        write.snapshot.take_if(overtaken);
        if let Some(snapshot) = &write.snapshot {
            self.snapshot_index = Some(snapshot.snapshot.meta.index);
        }
        self.enqueue(Steps::of_write(write))
    }

    /// Records something about this node, behind everything that was written before.
    ///
    /// # Errors
    /// [`FactRefused`]: nothing has changed.
    pub fn record(&mut self, fact: Fact) -> Result<FactTicket, FactRefused> {
        self.check_failed()?;
        let facts = &mut self.facts;
        let (slot, value) = match fact {
            Fact::Life(given) => {
                let last = facts.incarnation;
                if given <= last {
                    return Err(FactRefused::EarlierLife { last, given });
                }
                facts.incarnation = given;
                (slot::INCARNATION, record::incarnation(given))
            }
            Fact::Promised(promise) => {
                if let Some((_, founding)) = &promise.accepted {
                    check_voters(founding)?;
                }
                let ballot =
                    |promise: &Promise| promise.accepted.as_ref().map(|(ballot, _)| *ballot);
                if promise.promised < facts.promise.promised
                    || ballot(&promise) < ballot(&facts.promise)
                {
                    return Err(FactRefused::EarlierPromise);
                }
                let value = record::promise(&promise);
                facts.promise = promise;
                (slot::PROMISE, value)
            }
            Fact::Joined(cluster) => {
                let founding = facts.founding.clone();
                (slot::CLUSTER, facts.belong(cluster, founding)?)
            }
            Fact::Founded(founding) => {
                check_voters(&founding)?;
                (
                    slot::CLUSTER,
                    facts.belong(founding.cluster(), Some(founding))?,
                )
            }
        };
        let mut steps = Steps::of_value(slot, value);
        let ticket = self.next_fact();
        steps.report = Some(Durable::Fact(ticket));
        self.enqueue(steps)?;
        Ok(ticket)
    }

    /// Records the beginning of a cluster of which this node is a voter, and what a founder starts with
    /// ([`Recovered::genesis`]). When the ticket is reported, consensus may start with the same.
    ///
    /// A crash may leave the first without the second: see [`NodeFacts::must_form`].
    ///
    /// # Errors
    /// [`FactRefused`]: nothing has changed.
    pub fn form(&mut self, founding: &Founding) -> Result<FactTicket, FactRefused> {
        self.check_failed()?;
        check_voters(founding)?;
        if self.snapshot_index.is_some() {
            return Err(FactRefused::AlreadyFormed);
        }
        let value = self
            .facts
            .belong(founding.cluster(), Some(founding.clone()))?;
        let genesis = Recovered::genesis(&founding.configuration());
        self.snapshot_index = genesis
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.meta.index);
        let write = LogWrite {
            ticket: None,
            hard_state: Some(genesis.hard_state),
            snapshot: genesis.snapshot.map(|snapshot| SnapshotWrite {
                snapshot,
                replaces_log: true,
            }),
            truncate_from: None,
            entries: Vec::new(),
            drop_before: None,
        };
        let ticket = self.next_fact();
        let mut steps = Steps::of_write(write);
        steps.value = Some((slot::CLUSTER, value));
        steps.report = Some(Durable::Fact(ticket));
        self.enqueue(steps)?;
        Ok(ticket)
    }

    /// Writes what nobody waits for as well, before a stop for example. [`is_idle`](Ledger::is_idle) says when it is done.
    pub fn flush(&mut self) {
        self.urgent = self.queue.len();
        self.pump();
    }

    /// What the driver is to do next; to be asked until there is nothing. Call it at the end of a turn. When it says that
    /// there is nothing, the ledger may have [stopped](Ledger::failed), because it is full.
    pub fn next_operation(&mut self) -> Option<(OperationTicket, Operation)> {
        if self.failed.is_some() {
            return None;
        }
        let operation = self.sink.log.next_operation();
        if let Some(segments) = self.full
            && operation.is_none()
            && self.sink.log.is_idle()
        {
            self.failed = Some(LedgerError::Full { segments });
        }
        operation
    }

    /// An operation has ended.
    ///
    /// # Errors
    /// The ledger has stopped, now or before.
    pub fn completed(
        &mut self,
        ticket: OperationTicket,
        result: Result<Outcome, StoreError>,
    ) -> Result<(), LedgerError> {
        self.check_failed()?;
        if let Err(error) = self.sink.log.completed(ticket, result) {
            self.failed = Some(error.into());
        }
        self.pump();
        self.check_failed()
    }

    /// One turn on a store: takes what has ended, and hands over what is wanted, without waiting for anything. Says whether
    /// anything had ended. Then there may be something for [`poll_durable`](Ledger::poll_durable); what is written because
    /// of that is handed over by the next turn, or by a second one at once.
    ///
    /// # Errors
    /// The ledger has stopped, now or before.
    pub fn turn(
        &mut self,
        now: Time,
        store: &mut (impl LogStore + ?Sized),
    ) -> Result<bool, LedgerError> {
        self.check_failed()?;
        let mut moved = false;
        while let Some((ticket, result)) = store.poll(now) {
            moved = true;
            self.completed(ticket, result)?;
        }
        while let Some((ticket, operation)) = self.next_operation() {
            store.submit(now, ticket, operation);
        }
        self.check_failed()?;
        Ok(moved)
    }

    /// Takes the next thing that has become durable, in the order in which things were written.
    pub fn poll_durable(&mut self) -> Option<Durable> {
        self.durable.pop_front()
    }

    /// Whether everything that is urgent is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.urgent == 0 && self.sink.log.durable() >= self.sink.log.appended()
    }

    /// The log below.
    pub(super) fn log(&self) -> &Log {
        &self.sink.log
    }

    pub(super) fn enqueue(&mut self, steps: Steps) -> Result<(), LedgerError> {
        self.queued_bytes += steps.bytes();
        let limit = self.max_queued_bytes;
        if self.queued_bytes > limit {
            self.failed = Some(LedgerError::Overrun {
                queued: self.queued_bytes,
                limit,
            });
            return self.check_failed();
        }
        if steps.can_wait() {
            match self.queue.back_mut().filter(|last| last.can_wait()) {
                Some(last) => last.absorb(steps),
                None => self.queue.push_back(steps),
            }
            if self.full.is_some() {
                // It may be the mark that makes room.
                self.pump();
            }
            return self.check_failed();
        }
        self.queue.push_back(steps);
        self.urgent = self.queue.len();
        self.pump();
        self.check_failed()
    }

    fn check_failed(&self) -> Result<(), LedgerError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn next_fact(&mut self) -> FactTicket {
        self.last_fact += 1;
        FactTicket(self.last_fact)
    }

    /// Gives the log what it has room for, and finds out what is durable.
    fn pump(&mut self) {
        self.full = None;
        while self.failed.is_none()
            && self.urgent > 0
            && let Some(first) = self.queue.front_mut()
        {
            let before = first.bytes();
            let appended = first.append(&mut self.sink);
            self.queued_bytes -= before - first.bytes();
            match appended {
                Ok(()) => {
                    let position = self.sink.log.appended();
                    let report = first.report.map(|report| (position, report));
                    self.unreported.extend(report);
                    self.queued_bytes -= first.bytes();
                    self.queue.pop_front();
                    self.urgent -= 1;
                }
                // It goes on when something is durable.
                Err(NotAppended {
                    why: Refused::Full { .. },
                    ..
                }) => break,
                Err(NotAppended {
                    why: Refused::TooManySegments { limit },
                    ..
                }) => {
                    self.full = Some(limit);
                    self.drop_early();
                    break;
                }
                Err(refused) => self.failed = Some(self.stop_for(refused)),
            }
        }
        let durable = self.sink.log.durable();
        while let Some((_, report)) = self
            .unreported
            .pop_front_if(|(position, _)| *position <= durable)
        {
            self.durable.push_back(report);
        }
    }

    /// Drops what is to be dropped by what waits: a mark may come at any time, and what is full may be emptied by it.
    fn drop_early(&mut self) {
        let marks = self.queue.iter_mut().filter_map(Steps::take_mark);
        if let Some(before) = marks.max() {
            // Where there is no room for that either, nothing helps.
            let before = Index(before).min(self.sink.log.next());
            let _ = self.sink.log.drop_before(before);
        }
    }

    fn stop_for(&self, refused: NotAppended) -> LedgerError {
        match refused.why {
            Refused::Failed(error) => LedgerError::Log(error),
            Refused::TooLong { bytes, limit } => LedgerError::TooLong {
                index: refused.index,
                bytes,
                limit,
            },
            Refused::Full { .. }
            | Refused::TooManySegments { .. }
            | Refused::NoSuchSlot { .. }
            | Refused::OutOfRange { .. }
            | Refused::NoSnapshot => LedgerError::Contradiction {
                what: refused.what,
                first: self.sink.log.first().0,
                next: self.sink.log.next().0,
            },
        }
    }
}

impl NodeFacts {
    /// Notes the cluster, if it may be noted; what is to be written then.
    fn belong(
        &mut self,
        cluster: ClusterId,
        founding: Option<Founding>,
    ) -> Result<Vec<u8>, FactRefused> {
        if let Some(ours) = self.cluster
            && ours != cluster
        {
            return Err(FactRefused::OtherCluster {
                ours,
                theirs: cluster,
            });
        }
        if self.founding.is_some() && self.founding != founding {
            return Err(FactRefused::OtherFounding);
        }
        (self.cluster, self.founding) = (Some(cluster), founding.clone());
        Ok(record::cluster(&ClusterRecord { cluster, founding }))
    }
}

fn check_voters(founding: &Founding) -> Result<(), FactRefused> {
    match founding.voters.len() {
        1..=MAX_FOUNDERS => Ok(()),
        other => Err(FactRefused::Voters(other)),
    }
}
