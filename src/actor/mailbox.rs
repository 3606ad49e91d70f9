//! Mailboxes: how they are bounded, and where their messages lie.
//!
//! A mailbox is three numbers in its actor's cell. The messages themselves lie in a pool that all mailboxes of one
//! message type share on their core, linked in order: an idle actor's mailbox costs nothing, a burst to one actor lies
//! in consecutive memory, and what is queued on a core is known exactly.

use super::reply::{Envelope, ReplyTo};
use super::slots::{NIL, Slots};
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
        Mailbox {
            capacity,
            policy: Policy::DropNew,
            waiters: 1_000,
        }
    }

    /// A mailbox without a bound of its own; the core's budget still holds.
    #[must_use]
    pub const fn unbounded() -> Mailbox {
        Mailbox {
            capacity: u32::MAX,
            policy: Policy::DropNew,
            waiters: 0,
        }
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
pub(crate) enum Mail<M> {
    User(Opaque<M>),
    /// Stop, in order with the messages.
    Stop,
}

/// A message of whose inside nothing is known. The cell hides unused values of the message's own tag, in which `Mail`
/// would keep its tag otherwise: then looking at the one takes the other apart, the message is copied in pieces, and
/// reading it as a whole right after stalls the core (7 ns a message where this was measured).
pub(crate) struct Opaque<M>(std::cell::Cell<M>);

impl<M> Mail<M> {
    #[inline(always)]
    pub(crate) fn user(message: M) -> Mail<M> {
        Mail::User(Opaque::new(message))
    }
}

impl<M> Opaque<M> {
    #[inline(always)]
    pub(crate) fn new(message: M) -> Opaque<M> {
        Opaque(std::cell::Cell::new(message))
    }

    #[inline(always)]
    pub(crate) fn open(self) -> M {
        self.0.into_inner()
    }
}

/// The mailbox of one actor: a list in the pool of its message type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            head: NIL,
            tail: NIL,
            len: 0,
        }
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

/// The messages of one type that wait on one core.
pub(crate) struct MailPool<M> {
    mail: Slots<Mail<M>>,
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
        MailPool {
            mail: Slots::default(),
            waiting: ahash::AHashMap::default(),
        }
    }
}

impl<M> MailPool<M> {
    /// Bytes of one queued message.
    pub(crate) const NODE_BYTES: usize = Slots::<Mail<M>>::SLOT_BYTES;

    #[inline(always)]
    pub(crate) fn push(&mut self, queue: &mut Queue, mail: Mail<M>, envelope: Envelope) {
        let index = self.mail.insert(mail, envelope == Envelope::Ask);
        if queue.len == 0 {
            queue.head = index;
        } else {
            self.mail.link(queue.tail, index);
        }
        queue.tail = index;
        queue.len += 1;
    }

    /// Puts a stop before everything that waits.
    pub(crate) fn push_stop_front(&mut self, queue: &mut Queue) {
        let index = self.mail.insert(Mail::Stop, false);
        if queue.len == 0 {
            queue.tail = index;
        } else {
            self.mail.link(index, queue.head);
        }
        queue.head = index;
        queue.len += 1;
    }

    /// Takes what comes next, for its handler; to whom it does not matter in which envelope it came.
    #[inline(always)]
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Mail<M>> {
        self.pop_sealed(queue).map(|(mail, _)| mail)
    }

    /// Takes what comes next in its envelope.
    #[inline(always)]
    pub(crate) fn pop_sealed(&mut self, queue: &mut Queue) -> Option<(Mail<M>, Envelope)> {
        if queue.len == 0 {
            return None;
        }
        let (mail, link) = self.mail.remove(queue.head);
        queue.head = link.next();
        queue.len -= 1;
        let envelope = if link.flag() {
            Envelope::Ask
        } else {
            Envelope::Plain
        };
        Some((mail, envelope))
    }

    /// The message that comes next, for the trace.
    pub(crate) fn first(&mut self, queue: &Queue) -> Option<&M> {
        if queue.len == 0 {
            return None;
        }
        match self.mail.get(queue.head) {
            Some(Mail::User(message)) => Some(message.0.get_mut()),
            _ => None,
        }
    }

    /// Gives memory back after a burst, once nothing waits.
    #[inline]
    pub(crate) fn trim(&mut self) {
        if self.mail.pages() > KEPT_PAGES {
            self.mail.shrink(KEPT_PAGES);
        }
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
                    let envelope = if number % 3 == 0 { Envelope::Ask } else { Envelope::Plain };
                    pool.push(&mut queues[which], Mail::user(number), envelope);
                    model[which].push_back(number);
                } else {
                    let got = pool.pop_sealed(&mut queues[which]).map(|(mail, envelope)| match mail {
                        Mail::User(number) => (number.open(), envelope == Envelope::Ask),
                        Mail::Stop => (usize::MAX, false),
                    });
                    prop_assert_eq!(got, model[which].pop_front().map(|number| (number, number % 3 == 0)));
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
                pool.push(&mut queue, Mail::user(round * number), Envelope::Plain);
            }
            pool.trim();
            assert!(pool.mail.pages() > KEPT_PAGES);
            while pool.pop(&mut queue).is_some() {}
            pool.trim();
            assert_eq!(pool.mail.pages(), KEPT_PAGES);
        }
    }
}
