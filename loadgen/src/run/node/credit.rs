//! What is known of a driver's tells: how many were handled, on which node, and how many must be given up.
//!
//! Counts come from the nodes that handle them. A node that is started again begins at zero; what its former process had
//! told counts still. What a process had handled and not told when it was killed nobody knows, and neither what died in
//! its mailboxes. Such tells are given up, or a closed loop would have less in flight for good after each kill:
//!
//! - when a node comes back as a new process, what had been sent to its former one and was not told of;
//! - whatever the nodes do, what is open and was sent longer ago than [`PATIENCE`]: of what is open no more can be young
//!   than was sent since then.
//!
//! Tells that were given up may come all the same, by another node or late: no more is given up than is unaccounted for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use corecast::Time;

use super::handled::Count;
use crate::options::MAX_NODES;

/// Tells of which nothing is heard for so long are not waited for any longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How far two asks for a count are apart, when nothing waits for it.
const LEISURELY: Duration = Duration::from_micros(200);
/// How far apart it is noted how many had been sent.
const MARK_EVERY: Duration = Duration::from_millis(100);
/// A driver that has not looked for so long stood still itself, and so has its patience.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// The account of one driver.
#[derive(Debug, Default)]
pub(super) struct Credit {
    sent: u64,
    /// Those by the node that owned their entity when they were sent, as the driver knew it; 0 is nobody.
    to: [u64; MAX_NODES as usize + 1],
    given_up: u64,
    peers: BTreeMap<u32, Peer>,
    /// How many had been sent at which time, of the last [`PATIENCE`] and one before.
    marks: VecDeque<(Time, u64)>,
    last_look: Time,
}

/// What one node has said.
#[derive(Debug, Default)]
struct Peer {
    start: u32,
    /// Of its processes before.
    before: u64,
    count: u64,
    is_asked: bool,
    asked: Time,
    /// What had been sent to it when it last owned nothing.
    let_go: Option<u64>,
}

impl Credit {
    /// A tell was accepted, to an entity of this node; 0 is nobody.
    #[inline]
    pub(super) fn sent(&mut self, to: u32) {
        self.sent += 1;
        if let Some(to) = self.to.get_mut(to as usize) {
            *to += 1;
        }
    }

    /// All tells that were accepted.
    pub(super) fn all(&self) -> u64 {
        self.sent
    }

    /// A node owns nothing: nothing is sent to it until it does again.
    pub(super) fn owns_nothing(&mut self, node: u32) {
        let to = self.to.get(node as usize).copied();
        self.peers.entry(node).or_default().let_go = to;
    }

    /// A node has said how many it has handled.
    pub(super) fn counted(&mut self, count: Count) {
        let peer = self.peers.entry(count.node).or_default();
        match count.start.cmp(&peer.start) {
            std::cmp::Ordering::Greater => {
                let is_new = peer.start != 0;
                peer.before += peer.count;
                peer.start = count.start;
                peer.count = count.count;
                let to = self.to.get_mut(count.node as usize).filter(|_| is_new);
                if let Some(to) = to {
                    let sent = peer.let_go.take().unwrap_or(*to);
                    let lost = sent.saturating_sub(peer.before);
                    *to -= lost;
                    self.given_up += lost;
                }
            }
            std::cmp::Ordering::Equal => {
                peer.count = peer.count.max(count.count);
                // It has owned something again since then.
                let handled = peer.before + peer.count;
                peer.let_go = peer.let_go.filter(|sent| handled <= *sent);
            }
            // An answer of a process that is gone, overtaken by one of its successor.
            std::cmp::Ordering::Less => {}
        }
    }

    /// Whether to ask a node now; it is then taken to be asked.
    pub(super) fn shall_ask(&mut self, node: u32, now: Time, is_waiting: bool) -> bool {
        if self.open() == 0 {
            return false;
        }
        let peer = self.peers.entry(node).or_default();
        if peer.is_asked || !is_waiting && now - peer.asked < LEISURELY {
            return false;
        }
        (peer.is_asked, peer.asked) = (true, now);
        true
    }

    /// An ask for a count has ended, with or without an answer.
    pub(super) fn asked(&mut self, node: u32) {
        self.peers.entry(node).or_default().is_asked = false;
    }

    /// Tells that have come to an end, by what is known at this time.
    pub(super) fn settled(&mut self, now: Time) -> u64 {
        self.mark(now);
        let before = self.marks.front().filter(|mark| mark.0 + PATIENCE <= now);
        let young = self.sent - before.map_or(0, |(_, sent)| *sent);
        let unaccounted = self.unaccounted();
        let old = unaccounted.saturating_sub(young);
        self.given_up = self.given_up.max(old).min(unaccounted);
        self.sent - self.open()
    }

    fn mark(&mut self, now: Time) {
        let away = now - std::mem::replace(&mut self.last_look, now);
        if away > STOOD_STILL {
            self.marks
                .iter_mut()
                .for_each(|mark| mark.0 = mark.0 + away);
        }
        let is_due = |last: &(Time, u64)| last.0 + MARK_EVERY <= now;
        if self.marks.back().is_none_or(is_due) {
            self.marks.push_back((now, self.sent));
        }
        while self
            .marks
            .get(1)
            .is_some_and(|next| next.0 + PATIENCE <= now)
        {
            self.marks.pop_front();
        }
    }

    /// Tells of which nobody has said that they were handled.
    pub(super) fn unaccounted(&self) -> u64 {
        self.sent - self.handled()
    }

    fn open(&self) -> u64 {
        self.unaccounted().saturating_sub(self.given_up)
    }

    fn handled(&self) -> u64 {
        let peers = self.peers.values();
        let handled: u64 = peers.map(|peer| peer.before + peer.count).sum();
        handled.min(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn count(node: u32, start: u32, count: u64) -> Count {
        Count { node, start, count }
    }

    #[test]
    fn tells_are_settled_as_nodes_say_and_a_new_process_begins_anew() {
        let mut credit = Credit::default();
        (0..100).for_each(|_| credit.sent(1));
        assert_eq!(credit.settled(at(0)), 0);
        credit.counted(count(1, 1, 30));
        credit.counted(count(2, 1, 40));
        credit.counted(count(2, 1, 35));
        assert_eq!(credit.settled(at(1)), 70);
        credit.counted(count(2, 2, 5));
        credit.counted(count(2, 1, 41));
        assert_eq!((credit.settled(at(2)), credit.unaccounted()), (75, 25));
        credit.counted(count(1, 1, 55));
        assert_eq!((credit.settled(at(3)), credit.unaccounted()), (100, 0));
    }

    /// Looks every 50 ms, as a driver does that is awake.
    fn look(credit: &mut Credit, from: u64, to: u64) -> u64 {
        let looks = (from..=to).step_by(50);
        looks
            .map(|ms| credit.settled(at(ms)))
            .last()
            .expect("one look")
    }

    #[test]
    fn what_nobody_speaks_of_is_given_up_and_may_come_all_the_same() {
        let mut credit = Credit::default();
        assert_eq!(look(&mut credit, 50_000, 60_000), 0);
        (0..10).for_each(|_| credit.sent(1));
        assert_eq!(look(&mut credit, 60_050, 63_000), 0);
        assert_eq!(look(&mut credit, 63_050, 63_200), 10);
        assert_eq!(credit.unaccounted(), 10);
        credit.counted(count(1, 1, 4));
        (0..5).for_each(|_| credit.sent(1));
        // Of the ten that were given up four have come; the five that were sent since then are open.
        assert!(credit.settled(at(63_200)) <= 15);
        assert_eq!(credit.unaccounted(), 11);
        credit.counted(count(1, 1, 15));
        assert_eq!((credit.settled(at(63_200)), credit.unaccounted()), (15, 0));
    }

    /// The others go on at full speed, so that there is progress all the time.
    #[test]
    fn what_died_with_a_node_is_no_longer_in_flight_once_it_is_back() {
        let mut credit = Credit::default();
        credit.counted(count(3, 1, 0));
        (0..20).for_each(|_| credit.sent(3));
        credit.counted(count(3, 1, 5));
        // Killed: fifteen have died with it.
        credit.owns_nothing(3);
        let mut handled = 0;
        for ms in (0..10_000).step_by(50) {
            (0..100).for_each(|_| credit.sent(1));
            handled += 100;
            credit.counted(count(1, 1, handled));
            assert!(credit.sent - credit.settled(at(ms)) <= 15);
        }
        // Its next process has been sent seven, of which three are handled.
        (0..7).for_each(|_| credit.sent(3));
        credit.counted(count(3, 2, 3));
        assert_eq!(credit.sent - credit.settled(at(10_000)), 4);
        assert_eq!(credit.unaccounted(), 19, "they are failures all the same");
        credit.counted(count(3, 2, 7));
        assert_eq!(credit.sent - credit.settled(at(10_050)), 0);
    }

    /// Gone and back between two looks at who owns what.
    #[test]
    fn a_node_that_owned_nothing_long_ago_has_lost_what_it_was_sent_since() {
        let mut credit = Credit::default();
        credit.owns_nothing(3);
        (0..20).for_each(|_| credit.sent(3));
        credit.counted(count(3, 1, 15));
        credit.counted(count(3, 1, 16));
        credit.counted(count(3, 2, 0));
        assert_eq!(credit.sent - credit.settled(at(0)), 0);
        assert_eq!(credit.unaccounted(), 4);
    }

    /// A shard that moved took tells with it: another node handles what was sent to the one that left.
    #[test]
    fn no_more_is_given_up_than_is_unaccounted_for() {
        let mut credit = Credit::default();
        credit.counted(count(3, 1, 0));
        (0..20).for_each(|_| credit.sent(3));
        credit.counted(count(1, 1, 20));
        credit.counted(count(3, 2, 0));
        assert_eq!((credit.settled(at(0)), credit.unaccounted()), (20, 0));
        (0..8).for_each(|_| credit.sent(1));
        assert_eq!(credit.sent - credit.settled(at(50)), 8);
    }

    #[test]
    fn a_driver_that_stood_still_has_lost_no_patience_meanwhile() {
        let mut credit = Credit::default();
        look(&mut credit, 0, 5_000);
        (0..10).for_each(|_| credit.sent(1));
        assert_eq!(look(&mut credit, 5_050, 6_000), 0);
        assert_eq!(look(&mut credit, 36_000, 37_900), 0, "30 s of them stopped");
        assert_eq!(look(&mut credit, 37_950, 38_200), 10);
    }

    #[test]
    fn a_node_is_asked_once_at_a_time_and_only_for_what_is_open() {
        let mut credit = Credit::default();
        assert!(!credit.shall_ask(2, at(1), true));
        credit.sent(2);
        assert!(credit.shall_ask(2, at(1), false));
        assert!(!credit.shall_ask(2, at(2), true), "it is asked");
        assert!(credit.shall_ask(3, at(1), false), "another");
        credit.asked(2);
        assert!(!credit.shall_ask(2, at(1), false), "there is no hurry");
        assert!(credit.shall_ask(2, at(1), true));
        credit.asked(2);
        assert!(credit.shall_ask(2, at(2), false));
    }
}
