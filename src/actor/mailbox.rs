//! Mailboxes: how they are bounded, and where their messages lie.
//!
//! A mailbox is three numbers in its actor's cell. The messages themselves lie in a pool that all mailboxes of one
//! message type share on their core, linked in order: an idle actor's mailbox costs nothing, a burst to one actor lies
//! in consecutive memory, and what is queued on a core is known exactly.

use super::reply::ReplyTo;
use crate::base::paged::{PAGE_LEN, Paged};
use std::collections::VecDeque;

/// What happens to a message that finds the mailbox full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The new message is dropped: refused at the call where the sender can be told, a counted dead letter where not.
    #[default]
    DropNew,
    /// The oldest waiting message is dropped to make room, as a counted dead letter.
    DropOldest,
    /// As `DropNew`, and the sender is expected to look: the call fails.
    Reject,
    /// An awaited [`send`](super::scope::Scope::send) waits for room, in the order of arrival; calls that cannot wait are refused.
    Backpressure,
}

/// How a mailbox is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    pub(crate) capacity: u32,
    pub(crate) policy: Policy,
    pub(crate) waiters: u32,
}

impl Mailbox {
    /// A mailbox for at most `capacity` waiting messages, at least one.
    #[must_use]
    pub const fn bounded(capacity: u32) -> Mailbox {
        let capacity = if capacity == 0 { 1 } else { capacity };
        Mailbox { capacity, policy: Policy::DropNew, waiters: 1_000 }
    }

    /// A mailbox without a bound of its own; the core's budget still holds.
    #[must_use]
    pub const fn unbounded() -> Mailbox {
        Mailbox { capacity: u32::MAX, policy: Policy::DropNew, waiters: 0 }
    }

    /// What happens when it is full.
    #[must_use]
    pub const fn policy(mut self, policy: Policy) -> Mailbox {
        self.policy = policy;
        self
    }

    /// How many awaited sends may wait for room under [`Policy::Backpressure`] (default 1,000); more are refused.
    #[must_use]
    pub const fn waiters(mut self, waiters: u32) -> Mailbox {
        self.waiters = waiters;
        self
    }
}

impl Default for Mailbox {
    /// 1,000 messages, [`Policy::DropNew`].
    fn default() -> Self {
        Mailbox::bounded(1_000)
    }
}

/// What lies in a mailbox.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    User(M),
    /// Stop, in order with the messages.
    Stop,
}

const NIL: u32 = u32::MAX;

/// The mailbox of one actor: a list in the pool of its message type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { head: NIL, tail: NIL, len: 0 }
    }
}

impl Queue {
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

struct Node<M> {
    mail: Option<Mail<M>>,
    next: u32,
}

impl<M> Default for Node<M> {
    fn default() -> Self {
        Node { mail: None, next: NIL }
    }
}

/// The messages of one type that wait on one core.
pub(crate) struct MailPool<M> {
    nodes: Paged<Node<M>>,
    free: u32,
    fresh: u32,
    live: u32,
    /// Awaited sends that wait for room, by cell slot; only cells that say so have an entry.
    pub(crate) waiting: ahash::AHashMap<u32, VecDeque<Waiting<M>>>,
}

/// An awaited send that waits for room.
pub(crate) struct Waiting<M> {
    pub(crate) message: M,
    pub(crate) stored: ReplyTo<Stored>,
}

/// The receipt of an acknowledged send: the message lies in the receiver's mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored;

/// Pages that a pool keeps when it is empty.
const KEPT_PAGES: usize = 64;

impl<M> Default for MailPool<M> {
    fn default() -> Self {
        MailPool { nodes: Paged::default(), free: NIL, fresh: 0, live: 0, waiting: ahash::AHashMap::default() }
    }
}

impl<M> MailPool<M> {
    #[inline]
    pub(crate) fn push(&mut self, queue: &mut Queue, mail: Mail<M>) {
        let index = if self.free != NIL {
            let index = self.free;
            let node = &mut self.nodes[index];
            self.free = node.next;
            node.mail = Some(mail);
            node.next = NIL;
            index
        } else {
            self.push_fresh(mail)
        };
        if queue.len == 0 {
            queue.head = index;
        } else {
            self.nodes[queue.tail].next = index;
        }
        queue.tail = index;
        queue.len += 1;
        self.live += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Mail<M>> {
        if queue.len == 0 {
            return None;
        }
        let index = queue.head;
        let node = &mut self.nodes[index];
        let mail = node.mail.take();
        queue.head = node.next;
        queue.len -= 1;
        node.next = self.free;
        self.free = index;
        self.live -= 1;
        mail
    }

    /// Gives memory back after a burst, once nothing waits.
    pub(crate) fn trim(&mut self) {
        if self.live == 0 && self.nodes.pages() > KEPT_PAGES {
            self.nodes.truncate_pages(KEPT_PAGES);
            self.free = NIL;
            self.fresh = 0;
            for index in 0..self.nodes.capacity() {
                self.nodes[index].next = NIL;
            }
        }
    }

    /// Bytes of one queued message.
    pub(crate) const NODE_BYTES: usize = size_of::<Node<M>>();

    /// Memory held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.pages() * PAGE_LEN * Self::NODE_BYTES
    }

    fn push_fresh(&mut self, mail: Mail<M>) -> u32 {
        if self.fresh == self.nodes.capacity() {
            self.nodes.grow();
        }
        let index = self.fresh;
        self.fresh += 1;
        self.nodes[index] = Node { mail: Some(mail), next: NIL };
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Many mailboxes in one pool behave like as many separate queues.
        #[test]
        fn mailboxes_of_one_pool_are_separate_queues(steps in prop::collection::vec((0_usize..5, any::<bool>()), 0..2000)) {
            let mut pool = MailPool::default();
            let mut queues = [Queue::default(); 5];
            let mut model: Vec<VecDeque<usize>> = vec![VecDeque::new(); 5];
            for (number, (which, push)) in steps.into_iter().enumerate() {
                if push {
                    pool.push(&mut queues[which], Mail::User(number));
                    model[which].push_back(number);
                } else {
                    let got = pool.pop(&mut queues[which]).map(|mail| match mail {
                        Mail::User(number) => number,
                        Mail::Stop => usize::MAX,
                    });
                    prop_assert_eq!(got, model[which].pop_front());
                }
                prop_assert_eq!(queues[which].len() as usize, model[which].len());
            }
        }
    }

    #[test]
    fn memory_goes_back_after_a_burst() {
        let mut pool = MailPool::default();
        let mut queue = Queue::default();
        for round in 0..3_u64 {
            for number in 0..200_000 {
                pool.push(&mut queue, Mail::User(round * number));
            }
            pool.trim();
            assert!(pool.bytes() >= 200_000 * 8);
            while pool.pop(&mut queue).is_some() {}
            pool.trim();
            assert_eq!(pool.bytes(), KEPT_PAGES * PAGE_LEN * MailPool::<u64>::NODE_BYTES);
        }
    }
}
