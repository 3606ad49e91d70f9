//! Judges what nodes did, from what came out of them and in real time, and knows nothing of how they do it.

use std::collections::{BTreeMap, BTreeSet};

use corecast::base::ids::NodeId;
use corecast::consensus::output::{Committed, Outcome, ProposalId};
use corecast::consensus::peer::{NodeLife, PeerId};

/// What is committed, in order: the same for all.
#[derive(Default)]
pub(crate) struct Judge {
    sequence: BTreeMap<u64, (u64, ProposalId, Vec<u8>)>,
    at: BTreeMap<ProposalId, u64>,
    leaders: BTreeMap<u64, PeerId>,
    taken: BTreeSet<ProposalId>,
    outcomes: BTreeMap<ProposalId, Outcome>,
    /// Who is down, since the first node applied it.
    pub(crate) down: BTreeSet<NodeLife>,
}

impl Judge {
    /// A node applies a command, having applied `before` commands.
    pub(crate) fn committed(&mut self, node: NodeId, before: usize, committed: &Committed) {
        let Committed {
            index,
            term,
            id,
            command,
        } = committed;
        let known = self
            .sequence
            .entry(*index)
            .or_insert_with(|| (*term, *id, command.clone()));
        assert_eq!(
            (known.0, known.1, &known.2),
            (*term, *id, command),
            "nodes disagree on entry {index}"
        );
        let first = *self.at.entry(*id).or_insert(*index);
        assert_eq!(first, *index, "{id:?} was applied twice");
        let earlier = self.sequence.range(..index).count();
        assert_eq!(
            before, earlier,
            "{node} has missed a command before {index}"
        );
        self.agree(*id);
    }

    /// A node goes on from a state in which these were applied.
    pub(crate) fn restored(&self, node: NodeId, index: u64, applied: &[(u64, ProposalId)]) {
        let known = self
            .sequence
            .range(..=index)
            .map(|(index, (_, id, _))| (*index, *id));
        assert!(
            known.eq(applied.iter().copied()),
            "{node} restored another state at {index}"
        );
    }

    pub(crate) fn leads(&mut self, peer: PeerId, term: u64) {
        let first = *self.leaders.entry(term).or_insert(peer);
        assert_eq!(first, peer, "two leaders in term {term}");
    }

    pub(crate) fn taken(&mut self, id: ProposalId) {
        assert!(self.taken.insert(id), "{id:?} was used twice");
    }

    pub(crate) fn outcome(&mut self, id: ProposalId, outcome: Outcome) {
        assert!(self.taken.contains(&id), "nobody proposed {id:?}");
        let before = self.outcomes.insert(id, outcome);
        assert_eq!(before, None, "{id:?} has two outcomes");
        self.agree(id);
    }

    fn agree(&self, id: ProposalId) {
        match (self.outcomes.get(&id), self.at.get(&id)) {
            (Some(Outcome::Committed { index }), at) => {
                assert_eq!(at, Some(index), "{id:?} was said to be committed");
            }
            (Some(Outcome::Rejected(why)), Some(at)) => {
                panic!("{id:?} was rejected ({why:?}) and is committed at {at}");
            }
            _ => {}
        }
    }

    pub(crate) fn outcome_of(&self, id: ProposalId) -> Option<Outcome> {
        self.outcomes.get(&id).copied()
    }

    /// A node holds a lease now.
    pub(crate) fn holds_lease(&self, life: NodeLife) {
        assert!(
            !self.down.contains(&life),
            "{life} is down and holds a lease"
        );
    }

    pub(crate) fn commands(&self) -> usize {
        self.sequence.len()
    }

    pub(crate) fn terms(&self) -> usize {
        self.leaders.len()
    }
}
