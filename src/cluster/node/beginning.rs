//! What a node writes down about itself, how its cluster begins for it, and how its part of the log starts.

use std::collections::{BTreeSet, VecDeque};

use super::machine::ClusterNode;
use super::output::{Output, RecordTicket, StartError, StopCause, Write};
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::cluster::message::ControlMessage;
use crate::cluster::record::NodeRecord;
use crate::consensus::bootstrap::{self, Bootstrap, TooManyFounders};
use crate::consensus::entry::{LogWrite, Recovered, SnapshotWrite, Ticket};
use crate::consensus::founding::Founding;
use crate::consensus::machine::{Consensus, Identity};
use crate::consensus::peer::{DiskId, NodeLife};

/// The ticket of the first write of a founder's log. Those of the running log have higher numbers.
const GENESIS: Ticket = Ticket(0);

/// The record, as it is written or about to be.
pub(super) struct Durable {
    record: NodeRecord,
    next_ticket: u64,
    /// The writes under way, in their order, and what waits for them.
    open: VecDeque<(RecordTicket, Waiting)>,
}

/// What waits for a write of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Disk,
    Promise,
    Cluster,
    Life(Incarnation),
}

impl Durable {
    pub(super) fn new(record: NodeRecord) -> Durable {
        Durable {
            record,
            next_ticket: 1,
            open: VecDeque::new(),
        }
    }

    pub(super) fn disk(&self) -> Option<DiskId> {
        self.record.disk
    }

    pub(super) fn founding(&self) -> Option<&Founding> {
        self.record.founding.as_ref()
    }

    pub(super) fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Whether the log has given this node a life that is about to be durable.
    pub(super) fn writes_life(&self) -> bool {
        let of_life = |(_, waiting): &(RecordTicket, Waiting)| matches!(waiting, Waiting::Life(_));
        self.open.iter().any(of_life)
    }

    fn write(&mut self, waiting: Waiting) -> Output {
        let ticket = RecordTicket(self.next_ticket);
        self.next_ticket += 1;
        self.open.push_back((ticket, waiting));
        Output::Write(Write::Record {
            ticket,
            record: self.record.clone(),
        })
    }
}

impl ClusterNode {
    /// A first start gives the directory its number; a later one goes on from there.
    pub(super) fn begin(&mut self, now: Time) -> Result<(), StartError> {
        let founders = self.founders();
        if founders.len() > crate::consensus::founding::MAX_FOUNDERS {
            return Err(TooManyFounders(founders.len()).into());
        }
        if self.durable.disk().is_none() {
            self.durable.record.disk = Some(DiskId::mint(&mut self.rng));
            let write = self.durable.write(Waiting::Disk);
            self.outputs.push_back(write);
            return Ok(());
        }
        if self.durable.founding().is_some() {
            return Ok(self.start_log(now)?);
        }
        Ok(self.look_for_cluster(now)?)
    }

    /// The founders, this node included if it is one.
    fn founders(&self) -> BTreeSet<NodeId> {
        self.settings.seeds.iter().map(|seed| seed.node).collect()
    }

    fn look_for_cluster(&mut self, now: Time) -> Result<(), TooManyFounders> {
        let (Some(me), rng) = (self.peer(), self.new_rng()) else {
            return Ok(());
        };
        let bootstrap = Bootstrap::new(
            me,
            &self.founders(),
            self.settings.bootstrap.clone(),
            self.settings.start,
            self.durable.record.promise.clone(),
            rng,
            now,
        )?;
        self.bootstrap = Some(bootstrap);
        Ok(())
    }

    /// The record is durable as of this write, and of all before it.
    pub fn record_written(&mut self, ticket: RecordTicket, now: Time) {
        while !self.stopped
            && let Some((_, waiting)) = self.durable.open.pop_front_if(|(open, _)| *open <= ticket)
        {
            match waiting {
                Waiting::Disk => {
                    // There are not too many founders: that was seen at the start.
                    _ = self.look_for_cluster(now);
                }
                Waiting::Promise => {
                    if let Some(bootstrap) = &mut self.bootstrap {
                        bootstrap.written(now);
                    }
                }
                Waiting::Cluster => {
                    if let Err(error) = self.start_log(now) {
                        self.stop(StopCause::Log(error));
                    }
                }
                Waiting::Life(incarnation) => self.begin_life(incarnation, now),
            }
        }
        self.settle(now);
    }

    /// Does what the bootstrap wants; whether there was anything.
    pub(super) fn take_bootstrap(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.bootstrap.as_mut().and_then(Bootstrap::poll_output) {
            any = true;
            match output {
                bootstrap::Output::Send(to, message) => {
                    self.send(to, ControlMessage::Founding(Box::new(message)));
                }
                bootstrap::Output::Write(promise) => {
                    self.durable.record.promise = promise;
                    let write = self.durable.write(Waiting::Promise);
                    self.outputs.push_back(write);
                }
                bootstrap::Output::Refused(node, why) => {
                    self.refused(Some(node), why.into(), now);
                }
                bootstrap::Output::Form(founding) => self.belong_to(founding),
                bootstrap::Output::Join { via, cluster } => {
                    self.asking.found(via, cluster, now);
                }
            }
        }
        any
    }

    /// This node belongs to a cluster from now on.
    pub(super) fn belong_to(&mut self, founding: Founding) {
        if self.durable.founding().is_none() {
            self.durable.record.founding = Some(founding);
            let write = self.durable.write(Waiting::Cluster);
            self.outputs.push_back(write);
        }
    }

    /// The log has given this node a life, which has to be durable before anybody is told.
    pub(super) fn write_life(&mut self, incarnation: Incarnation) {
        self.durable.record.incarnation = Some(incarnation);
        let write = self.durable.write(Waiting::Life(incarnation));
        self.outputs.push_back(write);
    }

    /// Starts the part of the log that is on the disk. A founder whose log is empty has never voted in it: it writes the
    /// beginning first.
    fn start_log(&mut self, now: Time) -> Result<(), crate::consensus::output::StartError> {
        let (Some(me), Some(founding)) = (self.peer(), self.durable.founding().cloned()) else {
            return Ok(());
        };
        let rng = self.new_rng();
        let seeds = self.founders();
        let is_member = matches!(&self.bootstrap, Some(bootstrap) if bootstrap.is_member());
        if !is_member {
            self.bootstrap = Some(Bootstrap::member(me, &seeds, founding.clone(), rng));
        }
        let is_empty = self.recovered.as_ref() == Some(&Recovered::default());
        if is_empty && founding.configuration().voters.contains(&me) {
            let genesis = Recovered::genesis(&founding.configuration());
            let snapshot = genesis.snapshot.clone().map(|snapshot| SnapshotWrite {
                snapshot,
                replaces_log: true,
            });
            self.outputs.push_back(Output::Write(Write::Log(LogWrite {
                ticket: Some(GENESIS),
                hard_state: Some(genesis.hard_state),
                snapshot,
                truncate_from: None,
                entries: Vec::new(),
                drop_before: None,
            })));
            self.recovered = Some(genesis);
            return Ok(());
        }
        self.run_log(now)
    }

    /// A write of the log is durable.
    pub(super) fn log_is_written(&mut self, ticket: Ticket, now: Time) {
        if self.stopped {
            return;
        }
        match &mut self.consensus {
            Some(consensus) => consensus.written(now, ticket),
            None => {
                if let Err(error) = self.run_log(now) {
                    self.stop(StopCause::Log(error));
                }
            }
        }
    }

    fn run_log(&mut self, now: Time) -> Result<(), crate::consensus::output::StartError> {
        let (Some(peer), Some(founding)) = (self.peer(), self.durable.founding()) else {
            return Ok(());
        };
        let cluster = founding.cluster();
        let Some(recovered) = self.recovered.take() else {
            return Ok(());
        };
        // In no life yet: it votes, and may lead.
        let life = NodeLife {
            node: self.settings.node,
            incarnation: Incarnation(0),
        };
        let identity = Identity {
            cluster,
            peer,
            life,
        };
        let (settings, rng) = (self.settings.consensus.clone(), self.new_rng());
        let mut consensus = Consensus::start(identity, settings, recovered, rng, now)?;
        // Nobody is known to have a life before the log says so.
        consensus.allow_leases(BTreeSet::new());
        self.consensus = Some(consensus);
        self.changed = true;
        self.ask_soon(now);
        Ok(())
    }
}
