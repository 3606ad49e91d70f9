//! Leases: when a node may act, and when it may be declared down.
//!
//! A node asks the leader for a lease of length `l` at the time `s` on its own clock, and holds it, once granted, until
//! its clock says `s + l`: it counts from *its request*, not from the answer. The leader notes when it granted, `g` on its
//! clock, and declares the node down at `g + 1.1 l` at the earliest. Between, these hold:
//!
//! - the request was sent before it was granted: in real time, `s <= g`;
//! - clocks differ by at most a tenth in their rates: while the holder's advances by `l`, any other advances by at most
//!   `1.1 l`;
//!
//! so when the leader's clock says `g + 1.1 l`, at least `l` has passed on the holder's since `s`. No message has to
//! arrive for it, and no clock has to be right.
//!
//! # Another leader
//!
//! It does not know what its predecessor has granted, and its predecessor may not know that it is over: it may have been
//! stopped for a while, with the request in its hand. So a leader grants a request only after a majority of the voters has
//! confirmed, *after the request came*, that it leads (the read index of Raft: Ongaro, section 6.4). Of that majority one
//! was in the majority that later elected the new leader; it confirmed the old one in the old term, before it voted in
//! the new one. So in real time `s <= confirmation < election`, and a new leader that waits `1.1 l` from its election
//! waits for every lease of every predecessor, whatever stopped for how long.
//!
//! This holds while the configuration changes, too: who campaigns has applied every change that it knows to be committed,
//! so the next leader's configuration is the old one's or one step from it, and the majorities of both meet (joint
//! consensus: Ongaro, section 4.3).
//!
//! A leader may grant before that time is over. It may not before it has applied what its predecessors have committed:
//! a `Down` could be among it.
//!
//! # `Down` itself
//!
//! While a `Down` is on its way through the log, its node gets no more leases ([`Grantor::condemn`]). It counts only in
//! the term in which this was promised: a later leader has promised nothing. So it is proposed for that term alone.
//!
//! There may be several for one node. One that is refused is certainly not in the log, but it says nothing of the others:
//! a node gets leases again only when every `Down` that condemned it has been refused ([`Grantor::pardon`]). One that has
//! been appended is never refused, and stands for the rest of the term.
//!
//! Use the boot-time clock (`CLOCK_BOOTTIME`): it goes on while the machine is suspended.

use std::collections::BTreeMap;
use std::time::Duration;

use super::peer::{NodeLife, PeerId};
use crate::base::time::Time;

/// The most nodes whose requests are held at once; as many as a cluster has peers. More are not granted.
const MAX_WAITING: usize = super::configuration::MAX_PEERS;
/// The most rounds of confirmation under way; the oldest is given up for a new one, and its requests with it.
const MAX_ROUNDS: usize = 8;

/// The lease of this node.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    until: Option<Time>,
}

impl Holder {
    /// The leader has granted what was asked for at `asked_at`, for `length`.
    pub fn granted(&mut self, asked_at: Time, length: Duration) {
        // An earlier request may be answered later.
        self.until = self.until.max(Some(asked_at + length));
    }

    /// Until when this node may act on its own clock; `None` if it never could.
    ///
    /// ```
    /// use std::time::Duration;
    /// use corecast::Time;
    /// use corecast::consensus::lease::Holder;
    ///
    /// let mut holder = Holder::default();
    /// holder.granted(Time::from_nanos(5), Duration::from_nanos(10));
    /// assert!(holder.valid_at(Time::from_nanos(14)));
    /// assert!(!holder.valid_at(Time::from_nanos(15)));
    /// ```
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        self.until
    }

    /// Whether this node may act.
    #[must_use]
    pub fn valid_at(&self, now: Time) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// A request that waits for its confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The node that asks.
    pub life: NodeLife,
    /// Where to answer.
    pub peer: PeerId,
    /// When it asked, on its own clock.
    pub asked_at: Time,
}

/// The leader's side: what it has granted in its term. A new leader starts with a new one.
#[derive(Clone, Debug)]
pub struct Grantor {
    length: Duration,
    leads_since: Time,
    waiting: BTreeMap<NodeLife, Asked>,
    rounds: BTreeMap<u64, Vec<Asked>>,
    next_round: u64,
    last_grant: BTreeMap<NodeLife, Time>,
    /// By how many `Down`s that may be in the log.
    condemned: BTreeMap<NodeLife, u64>,
}

impl Grantor {
    /// The grantor of a leader that was elected at `now`, or earlier. Rounds are numbered from `first_round` on.
    #[must_use]
    pub fn new(length: Duration, now: Time, first_round: u64) -> Grantor {
        Grantor {
            length,
            leads_since: now,
            waiting: BTreeMap::new(),
            rounds: BTreeMap::new(),
            next_round: first_round.max(1),
            last_grant: BTreeMap::new(),
            condemned: BTreeMap::new(),
        }
    }

    /// A node asks. Says whether it is considered: it is not if it is condemned, or if too many ask.
    pub fn ask(&mut self, asked: Asked) -> bool {
        let room = self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&asked.life);
        let considered = room && !self.condemned.contains_key(&asked.life);
        if considered {
            self.waiting.insert(asked.life, asked);
        }
        considered
    }

    /// Begins a round for all that have asked: have a majority confirm that this peer leads, and hand the number to
    /// [`confirmed`](Grantor::confirmed). `None` if nobody has asked.
    pub fn begin_round(&mut self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        if self.rounds.len() >= MAX_ROUNDS {
            self.rounds.pop_first();
        }
        let round = self.next_round;
        self.next_round += 1;
        let asked = std::mem::take(&mut self.waiting).into_values().collect();
        self.rounds.insert(round, asked);
        Some(round)
    }

    /// The number of the next round; a successor goes on from there.
    #[must_use]
    pub fn next_round(&self) -> u64 {
        self.next_round
    }

    /// A majority has confirmed, after the round began, that this peer leads. The grants come back, to be sent.
    pub fn confirmed(&mut self, round: u64, now: Time) -> Vec<Asked> {
        let Some(asked) = self.rounds.remove(&round) else {
            return Vec::new();
        };
        let condemned = &self.condemned;
        let granted = asked
            .into_iter()
            .filter(|asked| !condemned.contains_key(&asked.life));
        let granted: Vec<Asked> = granted.collect();
        for asked in &granted {
            self.last_grant.insert(asked.life, now);
        }
        // What cannot hold a lease any more need not be remembered.
        let wait = self.wait();
        self.last_grant.retain(|_, granted| now < *granted + wait);
        granted
    }

    /// From when on this leader may declare a node down; earlier ones may be overtaken by further grants.
    #[must_use]
    pub fn may_declare_down_from(&self, life: NodeLife) -> Time {
        let last = self.last_grant.get(&life).copied().unwrap_or(Time::ZERO);
        last.max(self.leads_since) + self.wait()
    }

    /// Whether nobody's grant to this node can still be valid.
    #[must_use]
    pub fn may_declare_down(&self, life: NodeLife, now: Time) -> bool {
        now >= self.may_declare_down_from(life)
    }

    /// Grants this node nothing more in this term, for a `Down` that is about to be proposed. Each one counts: see
    /// [`pardon`](Grantor::pardon).
    ///
    /// # Errors
    ///
    /// When to try again, if it may still hold a lease. Nothing has changed then.
    pub fn condemn(&mut self, life: NodeLife, now: Time) -> Result<(), Time> {
        let from = self.may_declare_down_from(life);
        if now < from {
            return Err(from);
        }
        *self.condemned.entry(life).or_default() += 1;
        Ok(())
    }

    /// One `Down` that condemned this node is certainly not in the log. If that was the only one, the node may get leases
    /// again.
    pub fn pardon(&mut self, life: NodeLife) {
        if let Some(downs) = self.condemned.get_mut(&life) {
            *downs -= 1;
            if *downs == 0 {
                self.condemned.remove(&life);
            }
        }
    }

    /// A lease and a tenth, rounded up.
    fn wait(&self) -> Duration {
        self.length + self.length / 10 + Duration::from_nanos(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Incarnation, NodeId};
    use crate::consensus::peer::DiskId;

    const LENGTH: Duration = Duration::from_millis(1000);

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn asked(node: u32) -> Asked {
        let node = NodeId(node);
        Asked {
            life: NodeLife {
                node,
                incarnation: Incarnation(1),
            },
            peer: PeerId::new(node, DiskId::from_number(1).unwrap()),
            asked_at: at(5),
        }
    }

    #[test]
    fn nobody_is_down_before_every_grant_is_over() {
        let mut grantor = Grantor::new(LENGTH, at(0), 1);
        let life = asked(1).life;
        assert!(!grantor.may_declare_down(life, at(1100)), "a predecessor's");
        assert!(grantor.may_declare_down(life, at(1101)));
        assert!(grantor.ask(asked(1)));
        let round = grantor.begin_round().unwrap();
        assert_eq!(grantor.begin_round(), None, "nobody has asked");
        assert_eq!(grantor.confirmed(round + 1, at(1500)), []);
        assert_eq!(grantor.confirmed(round, at(1500)), [asked(1)]);
        let until = at(2600) + Duration::from_nanos(1);
        assert_eq!(grantor.condemn(life, at(2600)), Err(until));
        assert_eq!(grantor.condemn(life, until), Ok(()));
    }

    #[test]
    fn who_is_condemned_gets_nothing_not_even_what_was_on_its_way() {
        let mut grantor = Grantor::new(LENGTH, at(0), 1);
        let life = asked(1).life;
        grantor.ask(asked(1));
        grantor.ask(asked(2));
        let round = grantor.begin_round().unwrap();
        grantor.condemn(life, at(2000)).unwrap();
        assert_eq!(grantor.confirmed(round, at(2001)), [asked(2)]);
        assert!(!grantor.ask(asked(1)));
        grantor.pardon(life);
        assert!(grantor.ask(asked(1)));
    }

    #[test]
    fn who_is_condemned_twice_is_not_pardoned_by_one_refusal() {
        let mut grantor = Grantor::new(LENGTH, at(0), 1);
        let life = asked(1).life;
        grantor.condemn(life, at(2000)).unwrap();
        grantor.condemn(life, at(2000)).unwrap();
        grantor.pardon(life);
        assert!(!grantor.ask(asked(1)), "the other is on its way");
        grantor.pardon(life);
        assert!(grantor.ask(asked(1)));
        grantor.pardon(life);
        assert!(grantor.condemn(life, at(2000)).is_ok());
        assert!(!grantor.ask(asked(1)));
    }

    #[test]
    fn what_is_not_confirmed_does_not_pile_up() {
        let mut grantor = Grantor::new(LENGTH, at(0), 7);
        for node in 0..2 * MAX_WAITING as u32 {
            assert_eq!(grantor.ask(asked(node)), node < MAX_WAITING as u32);
        }
        for _ in 0..3 * MAX_ROUNDS {
            grantor.ask(asked(1));
            grantor.begin_round().unwrap();
        }
        assert_eq!(grantor.rounds.len(), MAX_ROUNDS);
        assert_eq!(grantor.next_round(), 7 + 3 * MAX_ROUNDS as u64);
        assert_eq!(grantor.confirmed(7, at(1)), [], "given up");
    }

    #[test]
    fn a_late_answer_to_an_early_request_takes_nothing_away() {
        let mut holder = Holder::default();
        assert!(!holder.valid_at(at(0)));
        holder.granted(at(10), LENGTH);
        holder.granted(at(5), LENGTH);
        assert_eq!(holder.until(), Some(at(1010)));
    }
}
