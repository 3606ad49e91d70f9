//! Which proposals have been applied: the part of the replicated state that makes "retried" and "once" the same thing.
//!
//! A proposer numbers its proposals and says with each which of them it still cares for (its *floor*). So the table
//! needs the numbers above the floor only, and a copy that comes later than that is refused as it should be. (Ongaro's
//! sessions, in *Consensus: Bridging Theory and Practice*, section 6.3, with the floor in the place of a time-out.)
//!
//! Bounds: at most [`MAX_NUMBERS`] numbers for each node and [`MAX_SESSIONS`] nodes. A node that has left keeps its place
//! until another needs it; commands of nodes that are not in the configuration are not applied at all.

use std::collections::BTreeMap;

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::entry::ProposalRecord;
use crate::base::ids::{Incarnation, NodeId};
use crate::wire::archive::from_bytes;

/// The most numbers that are remembered for one node; `max_proposals` is at most this.
const MAX_NUMBERS: usize = 65_536;
/// The most nodes that are remembered.
const MAX_SESSIONS: usize = 2 * super::configuration::MAX_PEERS;

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    nodes: BTreeMap<NodeId, Session>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    incarnation: Incarnation,
    /// Numbers below are settled, and never applied again.
    floor: u64,
    /// Numbers that have been applied, with the index at which.
    applied: BTreeMap<u64, u64>,
    last_index: u64,
}

/// What is known of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has been applied, at this index.
    Applied(u64),
    /// It has not been applied, and still may be.
    Open,
    /// It will not be applied any more; if it has been, it is forgotten.
    Past,
}

impl Sessions {
    /// What is known of a proposal.
    pub(super) fn fate(&self, node: NodeId, incarnation: Incarnation, number: u64) -> Fate {
        match self.nodes.get(&node) {
            None => Fate::Open,
            Some(session) if session.incarnation > incarnation => Fate::Past,
            Some(session) if session.incarnation < incarnation => Fate::Open,
            Some(session) => match session.applied.get(&number) {
                Some(index) => Fate::Applied(*index),
                None if number < session.floor => Fate::Past,
                None => Fate::Open,
            },
        }
    }

    /// Notes that the proposal is applied at this index, unless it has been; says whether to apply it.
    pub(super) fn apply(
        &mut self,
        proposal: &ProposalRecord,
        index: u64,
        is_member: impl Fn(NodeId) -> bool,
    ) -> bool {
        let node = NodeId(proposal.node);
        let incarnation = Incarnation(proposal.incarnation);
        if !is_member(node) || self.fate(node, incarnation, proposal.number) != Fate::Open {
            return false;
        }
        self.make_room(node, is_member);
        let fresh = Session {
            incarnation,
            floor: 0,
            applied: BTreeMap::new(),
            last_index: index,
        };
        let session = self.nodes.entry(node).or_insert_with(|| fresh.clone());
        if session.incarnation < incarnation {
            *session = fresh;
        }
        session.last_index = index;
        session.applied.insert(proposal.number, index);
        session.floor = session.floor.max(proposal.floor.min(proposal.number));
        session.applied = session.applied.split_off(&session.floor);
        while session.applied.len() > MAX_NUMBERS
            && let Some((number, _)) = session.applied.pop_first()
        {
            session.floor = session.floor.max(number + 1);
        }
        true
    }

    fn make_room(&mut self, node: NodeId, is_member: impl Fn(NodeId) -> bool) {
        if self.nodes.len() < MAX_SESSIONS || self.nodes.contains_key(&node) {
            return;
        }
        // There are fewer members than places.
        let left = self.nodes.iter().filter(|(node, _)| !is_member(**node));
        let oldest = left.min_by_key(|(_, session)| session.last_index);
        if let Some(node) = oldest.map(|(node, _)| *node) {
            self.nodes.remove(&node);
        }
    }

    /// The table in bytes, the same for the same table.
    pub(super) fn encode(&self) -> Vec<u8> {
        let records = self.nodes.iter().map(|(node, session)| SessionRecord {
            node: node.0,
            incarnation: session.incarnation.0,
            floor: session.floor,
            last_index: session.last_index,
            applied: session.applied.iter().map(|(n, i)| (*n, *i)).collect(),
        });
        let table = SessionTable {
            sessions: records.collect(),
        };
        // A table of bounded size can always be archived.
        rkyv::to_bytes::<rkyv::rancor::Error>(&table).map_or_else(|_| Vec::new(), |b| b.to_vec())
    }

    /// Reads a table; `None` if the bytes are none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Sessions> {
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let table: SessionTable = from_bytes(&aligned).ok()?;
        if table.sessions.len() > MAX_SESSIONS {
            return None;
        }
        let nodes = table.sessions.into_iter().map(|record| {
            let session = Session {
                incarnation: Incarnation(record.incarnation),
                floor: record.floor,
                applied: record.applied.into_iter().collect(),
                last_index: record.last_index,
            };
            (NodeId(record.node), session)
        });
        Some(Sessions {
            nodes: nodes.collect(),
        })
    }
}

#[derive(Archive, Serialize, Deserialize)]
struct SessionTable {
    sessions: Vec<SessionRecord>,
}

#[derive(Archive, Serialize, Deserialize)]
struct SessionRecord {
    node: u32,
    incarnation: u32,
    floor: u64,
    last_index: u64,
    applied: Vec<(u64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NODE: NodeId = NodeId(1);

    fn proposal(incarnation: u32, number: u64, floor: u64) -> ProposalRecord {
        ProposalRecord {
            node: NODE.0,
            incarnation,
            only_term: 0,
            number,
            floor,
        }
    }

    #[test]
    fn a_copy_is_not_applied_and_the_table_says_where_the_first_was() {
        let mut sessions = Sessions::default();
        let all = |_| true;
        assert!(sessions.apply(&proposal(1, 2, 1), 10, all));
        assert!(!sessions.apply(&proposal(1, 2, 1), 11, all));
        assert!(
            sessions.apply(&proposal(1, 1, 1), 12, all),
            "late, not lost"
        );
        assert_eq!(sessions.fate(NODE, Incarnation(1), 2), Fate::Applied(10));
        assert_eq!(sessions.fate(NODE, Incarnation(1), 3), Fate::Open);
        // The proposer has given up 3 and says so with 4.
        assert!(sessions.apply(&proposal(1, 4, 4), 13, all));
        assert_eq!(sessions.fate(NODE, Incarnation(1), 3), Fate::Past);
        assert!(!sessions.apply(&proposal(1, 3, 3), 14, all));
        // A later life starts anew, and an earlier one is over.
        assert!(sessions.apply(&proposal(2, 1, 1), 15, all));
        assert!(!sessions.apply(&proposal(1, 9, 9), 16, all));
        assert!(!sessions.apply(&proposal(3, 1, 1), 17, |_| false));
        assert_eq!(Sessions::decode(&sessions.encode()), Some(sessions));
        assert_eq!(Sessions::decode(&[1, 2, 3]), None);
    }

    #[test]
    fn the_table_stays_small() {
        let mut sessions = Sessions::default();
        for number in 1..=MAX_NUMBERS as u64 + 10 {
            assert!(sessions.apply(&proposal(1, number, 1), number, |_| true));
        }
        assert_eq!(sessions.nodes[&NODE].applied.len(), MAX_NUMBERS);
        assert_eq!(sessions.fate(NODE, Incarnation(1), 10), Fate::Past);
        for node in 2..5000 {
            let of_node = ProposalRecord {
                node,
                ..proposal(1, 1, 1)
            };
            assert!(sessions.apply(&of_node, u64::from(node), |n| n.0 <= 1 || n.0 == node));
        }
        assert_eq!(sessions.nodes.len(), MAX_SESSIONS);
        assert!(
            sessions.nodes.contains_key(&NODE),
            "a member keeps its place"
        );
    }

    proptest! {
        /// Whatever is proposed again, in whatever order: nothing is applied twice, and what the proposer still cares for
        /// is applied when it comes.
        #[test]
        fn nothing_twice(copies in prop::collection::vec((1u64..20, 0u64..20), 1..200)) {
            let mut sessions = Sessions::default();
            let (mut seen, mut floor) = (std::collections::BTreeSet::new(), 0);
            for (index, (number, lowest)) in copies.into_iter().enumerate() {
                let expected = number >= floor && !seen.contains(&number);
                let applied = sessions.apply(&proposal(1, number, lowest), index as u64, |_| true);
                prop_assert_eq!(applied, expected);
                if applied {
                    seen.insert(number);
                    floor = floor.max(lowest.min(number));
                }
            }
        }
    }
}
