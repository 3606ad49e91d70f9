//! What the node wants to be durable, in the words of the ledger.

use std::collections::VecDeque;

use crate::base::ids::Incarnation;
use crate::base::time::Time;
use crate::cluster::ledger::{Durable, Fact, FactTicket, Ledger, NodeFacts};
use crate::cluster::ledger_error::FactRefused;
use crate::cluster::node::ClusterNode;
use crate::cluster::node::output::{RecordTicket, Write};
use crate::cluster::record::NodeRecord;

/// The node's record as it is in the ledger or on its way there.
#[derive(Debug)]
pub(super) struct Recording {
    record: NodeRecord,
    /// The writes of the record that wait for their last fact.
    open: VecDeque<(FactTicket, RecordTicket)>,
    /// A write of the record that changed nothing, and so is durable as soon as what came before it is.
    unchanged: VecDeque<RecordTicket>,
}

/// What a ledger knows of a node, as the node's record.
pub(super) fn record_of(facts: &NodeFacts) -> NodeRecord {
    NodeRecord {
        disk: Some(facts.disk),
        founding: facts.founding.clone(),
        promise: facts.promise.clone(),
        incarnation: Some(facts.incarnation).filter(|life| *life != Incarnation(0)),
    }
}

impl Recording {
    pub(super) fn new(facts: &NodeFacts) -> Recording {
        Recording {
            record: record_of(facts),
            open: VecDeque::new(),
            unchanged: VecDeque::new(),
        }
    }

    /// Hands a write to the ledger.
    pub(super) fn write(&mut self, ledger: &mut Ledger, write: Write) -> Result<(), FactRefused> {
        match write {
            Write::Log(write) => Ok(ledger.write(write)?),
            Write::Record { ticket, record } => {
                let last = self.record(ledger, record)?;
                match last.or_else(|| self.open.back().map(|(fact, _)| *fact)) {
                    Some(fact) => self.open.push_back((fact, ticket)),
                    None => self.unchanged.push_back(ticket),
                }
                Ok(())
            }
        }
    }

    /// Records what has changed; the last fact of it.
    fn record(
        &mut self,
        ledger: &mut Ledger,
        record: NodeRecord,
    ) -> Result<Option<FactTicket>, FactRefused> {
        let before = &self.record;
        let promise =
            (record.promise != before.promise).then(|| Fact::Promised(record.promise.clone()));
        let founding = record.founding.as_ref();
        let founding = founding
            .filter(|founding| before.founding.as_ref() != Some(founding))
            .map(|founding| Fact::Founded(founding.clone()));
        let life = record.incarnation;
        let life = life
            .filter(|life| before.incarnation != Some(*life))
            .map(Fact::Life);
        let mut last = None;
        for fact in [promise, founding, life].into_iter().flatten() {
            last = Some(ledger.record(fact)?);
        }
        self.record = record;
        Ok(last)
    }

    /// Tells the node what has become durable. Whether anything has.
    pub(super) fn tell(&mut self, ledger: &mut Ledger, node: &mut ClusterNode, now: Time) -> bool {
        let mut any = false;
        while let Some(ticket) = self.unchanged.pop_front() {
            any = true;
            node.record_written(ticket, now);
        }
        while let Some(durable) = ledger.poll_durable() {
            any = true;
            match durable {
                Durable::Write(ticket) => node.log_written(ticket, now),
                Durable::Fact(fact) => {
                    while let Some((_, ticket)) = self.open.pop_front_if(|(open, _)| *open <= fact)
                    {
                        node.record_written(ticket, now);
                    }
                }
            }
        }
        any
    }
}
