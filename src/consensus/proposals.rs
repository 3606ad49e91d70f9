//! The proposals of this node, from the call to the outcome.
//!
//! A proposal goes to whoever leads, again after each change of leader and after a while without an answer. It is *in
//! doubt* while a copy of it may be in somebody's log: from the moment it is sent, until that attempt is refused. Only
//! one that is not in doubt can be rejected; at its deadline the others are unknown.
//!
//! ```text
//!            send                 refused, all attempts
//! waiting ─────────▶ in doubt ──────────────────────────▶ waiting
//!    │                  │ │                                  │
//!    │ deadline         │ └─▶ applied, or in a snapshot:     │ Full, TooLarge, NotMember: Rejected
//!    ▼                  ▼       Committed                    ▼ NotLeader: waits for the next leader
//! Rejected           Unknown (deadline)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::entry::ProposalRecord;
use super::message::Refusal;
use super::output::{Outcome, Rejection};
use super::peer::{NodeLife, PeerId};
use super::sessions::{Fate, Sessions};
use crate::base::time::Time;

/// To whom a proposal goes at present.
pub(super) type Leader = (u64, PeerId);

/// The proposals without an outcome.
pub(super) struct Proposals {
    life: NodeLife,
    max: usize,
    timeout: Duration,
    resend_after: Duration,
    next_number: u64,
    pending: BTreeMap<u64, Pending>,
    /// Numbers of which nothing has been decided for the present leader.
    last_leader: Option<Leader>,
}

struct Pending {
    command: Vec<u8>,
    deadline: Time,
    /// The attempts whose answer is open.
    in_doubt: BTreeSet<u32>,
    /// The next attempt.
    next_attempt: u32,
    /// Counts in this term only, and is never sent again; 0 for others.
    only_term: u64,
    /// When it is sent next, if somebody leads.
    send_at: Time,
}

/// A copy to be sent or appended.
pub(super) struct Attempt {
    pub(super) proposal: ProposalRecord,
    pub(super) attempt: u32,
    pub(super) command: Vec<u8>,
}

impl Proposals {
    pub(super) fn new(
        life: NodeLife,
        max: usize,
        timeout: Duration,
        resend: Duration,
    ) -> Proposals {
        Proposals {
            life,
            max,
            timeout,
            resend_after: resend,
            next_number: 1,
            pending: BTreeMap::new(),
            last_leader: None,
        }
    }

    /// Takes a proposal and gives it a number; `None` if there are too many. The span of open numbers is bounded, not
    /// only how many there are, for everybody remembers it.
    pub(super) fn add(&mut self, command: Vec<u8>, only_term: u64, now: Time) -> Option<u64> {
        let number = self.next_number;
        if number - self.floor() >= self.max as u64 {
            return None;
        }
        self.next_number += 1;
        let pending = Pending {
            command,
            deadline: now + self.timeout,
            in_doubt: BTreeSet::new(),
            next_attempt: 0,
            only_term,
            send_at: now,
        };
        self.pending.insert(number, pending);
        Some(number)
    }

    /// How many have no outcome yet.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// All below have their outcome.
    fn floor(&self) -> u64 {
        let lowest = self.pending.keys().next();
        lowest.copied().unwrap_or(self.next_number)
    }

    /// Who leads. A new one gets everything anew.
    pub(super) fn led_by(&mut self, leader: Option<Leader>, now: Time) {
        if leader != self.last_leader {
            self.last_leader = leader;
            for pending in self.pending.values_mut() {
                pending.send_at = now;
            }
        }
    }

    /// What is to be sent to the leader now, of at most so many bytes (but at least one).
    pub(super) fn due(&mut self, now: Time, mut bytes: usize) -> Vec<Attempt> {
        let floor = self.floor();
        let mut due = Vec::new();
        if self.last_leader.is_none() {
            return due;
        }
        for (number, pending) in &mut self.pending {
            let again = pending.only_term == 0 || pending.next_attempt == 0;
            if pending.send_at > now || !again {
                continue;
            }
            let cost = pending.command.len() + 128;
            if cost > bytes && !due.is_empty() {
                break;
            }
            bytes = bytes.saturating_sub(cost);
            let attempt = pending.next_attempt;
            pending.next_attempt += 1;
            pending.in_doubt.insert(attempt);
            pending.send_at = now + self.resend_after;
            due.push(Attempt {
                proposal: ProposalRecord {
                    node: self.life.node.0,
                    incarnation: self.life.incarnation.0,
                    only_term: pending.only_term,
                    number: *number,
                    floor,
                },
                attempt,
                command: pending.command.clone(),
            });
        }
        due
    }

    /// An attempt has not reached any log.
    pub(super) fn refused(
        &mut self,
        number: u64,
        attempt: u32,
        why: Refusal,
    ) -> Option<(u64, Outcome)> {
        let pending = self.pending.get_mut(&number)?;
        if !pending.in_doubt.remove(&attempt) || !pending.in_doubt.is_empty() {
            return None;
        }
        let rejection = match why {
            Refusal::NotLeader if pending.only_term == 0 => return None,
            Refusal::NotLeader => Rejection::NoLeader,
            Refusal::Full => Rejection::Full,
            Refusal::TooLarge => Rejection::TooLarge,
            Refusal::NotMember => Rejection::NotMember,
        };
        self.pending.remove(&number);
        Some((number, Outcome::Rejected(rejection)))
    }

    /// What is proposed from now on is proposed in this life. Nothing may be open.
    pub(super) fn begin_life(&mut self, life: NodeLife) {
        self.life = life;
    }

    /// A proposal of this node has been applied: that of this number which was made for this term, or for any.
    pub(super) fn applied(
        &mut self,
        number: u64,
        only_term: u64,
        index: u64,
    ) -> Option<(u64, Outcome)> {
        let of_term = |pending: &Pending| pending.only_term == only_term;
        self.pending.get(&number).filter(|p| of_term(p))?;
        self.pending.remove(&number);
        Some((number, Outcome::Committed { index }))
    }

    /// A snapshot tells of what was applied meanwhile.
    pub(super) fn restored(&mut self, sessions: &Sessions) -> Vec<(u64, Outcome)> {
        let life = self.life;
        let mut outcomes = Vec::new();
        self.pending.retain(|number, _| {
            let outcome = match sessions.fate(life.node, life.incarnation, *number) {
                Fate::Applied(index) => Outcome::Committed { index },
                Fate::Past => Outcome::Unknown,
                Fate::Open => return true,
            };
            outcomes.push((*number, outcome));
            false
        });
        outcomes
    }

    /// Ends what has waited too long.
    pub(super) fn expire(&mut self, now: Time, why: Rejection) -> Vec<(u64, Outcome)> {
        self.end(why, |pending| pending.deadline <= now)
    }

    /// Ends everything.
    pub(super) fn stop(&mut self, why: Rejection) -> Vec<(u64, Outcome)> {
        self.end(why, |_| true)
    }

    fn end(&mut self, why: Rejection, ends: impl Fn(&Pending) -> bool) -> Vec<(u64, Outcome)> {
        let mut outcomes = Vec::new();
        self.pending.retain(|number, pending| {
            let over = ends(pending);
            if over {
                let outcome = match pending.in_doubt.is_empty() {
                    true => Outcome::Rejected(why),
                    false => Outcome::Unknown,
                };
                outcomes.push((*number, outcome));
            }
            !over
        });
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Incarnation, NodeId};
    use crate::consensus::peer::DiskId;

    const LIFE: NodeLife = NodeLife {
        node: NodeId(1),
        incarnation: Incarnation(3),
    };

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn proposals(max: usize) -> Proposals {
        let (timeout, resend) = (Duration::from_millis(500), Duration::from_millis(100));
        Proposals::new(LIFE, max, timeout, resend)
    }

    fn leader(term: u64) -> Option<Leader> {
        Some((
            term,
            PeerId::new(NodeId(2), DiskId::from_number(1).unwrap()),
        ))
    }

    fn sent(proposals: &mut Proposals, now: Time) -> Vec<(u64, u32, u64)> {
        let due = proposals.due(now, 10_000);
        let triple = |a: &Attempt| (a.proposal.number, a.attempt, a.proposal.floor);
        due.iter().map(triple).collect()
    }

    #[test]
    fn it_is_sent_again_and_a_refusal_counts_only_when_nothing_else_is_open() {
        let mut proposals = proposals(10);
        let number = proposals.add(vec![1], 0, at(0)).unwrap();
        assert_eq!(sent(&mut proposals, at(0)), [], "nobody leads");
        proposals.led_by(leader(1), at(1));
        assert_eq!(sent(&mut proposals, at(1)), [(number, 0, number)]);
        assert_eq!(sent(&mut proposals, at(50)), []);
        assert_eq!(sent(&mut proposals, at(101)), [(number, 1, number)]);
        proposals.led_by(leader(2), at(102));
        assert_eq!(sent(&mut proposals, at(102)), [(number, 2, number)]);
        assert_eq!(proposals.refused(number, 2, Refusal::Full), None);
        assert_eq!(proposals.refused(number, 2, Refusal::Full), None);
        assert_eq!(proposals.refused(number, 0, Refusal::NotLeader), None);
        let full = Outcome::Rejected(Rejection::Full);
        assert_eq!(
            proposals.refused(number, 1, Refusal::Full),
            Some((number, full))
        );
        assert_eq!(proposals.applied(number, 0, 9), None, "it has its outcome");
    }

    #[test]
    fn the_deadline_tells_rejected_from_unknown() {
        let mut proposals = proposals(2);
        let sent_one = proposals.add(vec![1], 0, at(0)).unwrap();
        proposals.led_by(leader(1), at(0));
        sent(&mut proposals, at(0));
        proposals.led_by(None, at(10));
        let other = proposals.add(vec![2], 0, at(0)).unwrap();
        assert_eq!(proposals.add(vec![3], 0, at(0)), None);
        assert_eq!(proposals.expire(at(499), Rejection::NoQuorum), []);
        let outcomes = [
            (sent_one, Outcome::Unknown),
            (other, Outcome::Rejected(Rejection::NoQuorum)),
        ];
        assert_eq!(proposals.expire(at(500), Rejection::NoQuorum), outcomes);
        assert_eq!(proposals.len(), 0);
    }

    #[test]
    fn one_for_a_term_is_sent_once() {
        let mut proposals = proposals(2);
        let number = proposals.add(vec![1], 7, at(0)).unwrap();
        proposals.led_by(leader(7), at(0));
        assert_eq!(sent(&mut proposals, at(0)), [(number, 0, number)]);
        proposals.led_by(leader(8), at(1));
        assert_eq!(sent(&mut proposals, at(400)), []);
    }

    #[test]
    fn a_snapshot_decides_what_it_knows() {
        let mut proposals = proposals(10);
        let one = proposals.add(vec![1], 0, at(0)).unwrap();
        let two = proposals.add(vec![2], 0, at(0)).unwrap();
        let mut sessions = Sessions::default();
        proposals.led_by(leader(1), at(0));
        let copy = &proposals.due(at(0), 10_000)[0];
        assert!(sessions.apply(&copy.proposal, 40, |_| true));
        let committed = Outcome::Committed { index: 40 };
        assert_eq!(proposals.restored(&sessions), [(one, committed)]);
        assert_eq!(proposals.floor(), two);
    }
}
