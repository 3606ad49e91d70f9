//! What is known of a driver's tells: how many were handled, on which node, and how many must be given up.
//!
//! Counts come from the nodes that handle them. A node that is started again begins at zero; what its former process had
//! told counts still. What a process had handled and not told when it was killed nobody knows, and neither what died in
//! its mailboxes: a driver without any progress for a while gives up what is open, and says how much that was.

use std::collections::BTreeMap;
use std::time::Duration;

use corecast::Time;

use super::handled::Count;

/// Tells of which nothing is heard for so long are not waited for any longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How far two asks for a count are apart, when nothing waits for it.
const LEISURELY: Duration = Duration::from_micros(200);

/// The account of one driver.
#[derive(Debug, Default)]
pub(super) struct Credit {
    sent: u64,
    given_up: u64,
    peers: BTreeMap<u32, Peer>,
    last_handled: u64,
    last_progress: Time,
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
}

impl Credit {
    /// A tell was accepted.
    #[inline]
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// All tells that were accepted.
    pub(super) fn all(&self) -> u64 {
        self.sent
    }

    /// A node has said how many it has handled.
    pub(super) fn counted(&mut self, count: Count) {
        let peer = self.peers.entry(count.node).or_default();
        match count.start.cmp(&peer.start) {
            std::cmp::Ordering::Greater => {
                peer.before += peer.count;
                peer.start = count.start;
                peer.count = count.count;
            }
            std::cmp::Ordering::Equal => peer.count = peer.count.max(count.count),
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
        let handled = self.handled();
        if handled > self.last_handled || self.open() == 0 {
            (self.last_handled, self.last_progress) = (handled, now);
        }
        if now - self.last_progress > PATIENCE {
            self.given_up = self.sent - handled;
            self.last_progress = now;
        }
        self.sent - self.open()
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
        (0..100).for_each(|_| credit.sent());
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

    #[test]
    fn what_nobody_speaks_of_is_given_up_and_may_come_all_the_same() {
        let mut credit = Credit::default();
        // Nothing is open: time passes for nobody.
        assert_eq!(credit.settled(at(60_000)), 0);
        (0..10).for_each(|_| credit.sent());
        let late = at(60_001) + PATIENCE;
        assert_eq!(credit.settled(at(60_000) + PATIENCE), 0);
        assert_eq!(credit.settled(late), 10);
        assert_eq!(credit.unaccounted(), 10);
        credit.counted(count(1, 1, 4));
        (0..5).for_each(|_| credit.sent());
        // Of the ten that were given up four have come; the five that were sent since then are open.
        assert!(credit.settled(late) <= 15);
        assert_eq!(credit.unaccounted(), 11);
        credit.counted(count(1, 1, 15));
        assert_eq!((credit.settled(late), credit.unaccounted()), (15, 0));
    }

    #[test]
    fn a_node_is_asked_once_at_a_time_and_only_for_what_is_open() {
        let mut credit = Credit::default();
        assert!(!credit.shall_ask(2, at(1), true));
        credit.sent();
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
