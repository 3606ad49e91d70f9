//! Mailboxes: how they are bounded, and where their messages lie.
//!
//! A mailbox is three numbers in its actor's cell. The messages themselves lie in a pool that all mailboxes of one
//! message type share on their core, linked in order: an idle actor's mailbox costs nothing, a burst to one actor lies
//! in consecutive memory, and what is queued on a core is known exactly.

use super::reply::{Envelope, ReplyTo};
use super::slots::{List, Slots};
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
    User(M),
    /// Stop, in order with the messages.
    Stop,
}

/// The mailbox of one actor: a list in the pool of its message type.
pub(crate) type Queue = List;

/// The messages of one type that wait on one core.
pub(crate) struct MailPool<M> {
    /// A stop is an entry without a message; the flag tells the message of an ask.
    mail: Slots<M>,
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
    /// Bytes of one place for a message.
    const PLACE_BYTES: usize = Slots::<M>::SLOT_BYTES;

    /// Puts a message into a mailbox. Returns the bytes that it takes beyond those it had reserved.
    #[inline(always)]
    pub(crate) fn push(&mut self, queue: &mut Queue, message: M, envelope: Envelope) -> usize {
        self.mail.push(queue, message, envelope == Envelope::Ask) as usize * Self::PLACE_BYTES
    }

    /// Puts a stop behind everything that waits. Returns the bytes as [`push`](Self::push) does.
    pub(crate) fn push_stop(&mut self, queue: &mut Queue) -> usize {
        self.mail.push_gap(queue) as usize * Self::PLACE_BYTES
    }

    /// Whether a stop comes next; only asked of a mailbox that is not empty.
    ///
    /// # Panics
    /// If it is, most likely.
    #[inline(always)]
    pub(crate) fn stops_next(&self, queue: &Queue) -> bool {
        self.mail.starts_with_gap(queue)
    }

    /// Takes the message that comes next, for its handler, to whom it does not matter in which envelope it came. `account`
    /// gets the bytes that became free.
    ///
    /// # Panics
    /// If no message comes next.
    #[inline(always)]
    pub(crate) fn pop_message(&mut self, queue: &mut Queue, account: impl FnOnce(usize)) -> M {
        self.mail.pop(queue, |_, places| {
            account(places as usize * Self::PLACE_BYTES);
        })
    }

    /// Takes what comes next in its envelope, and the bytes that became free.
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<(Mail<M>, Envelope, usize)> {
        if queue.is_empty() {
            return None;
        }
        let (mail, envelope, freed) = if self.mail.starts_with_gap(queue) {
            (Mail::Stop, Envelope::Plain, self.mail.pop_gap(queue))
        } else {
            let mut taken = (Envelope::Plain, 0);
            let message = self.mail.pop(queue, |is_ask, freed| {
                let envelope = if is_ask {
                    Envelope::Ask
                } else {
                    Envelope::Plain
                };
                taken = (envelope, freed);
            });
            (Mail::User(message), taken.0, taken.1)
        };
        Some((mail, envelope, freed as usize * Self::PLACE_BYTES))
    }

    /// The message that comes next, for the trace.
    pub(crate) fn first(&mut self, queue: &Queue) -> Option<&M> {
        self.mail.first(queue).map(|message| &*message)
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
        /// Many mailboxes in one pool behave like as many separate queues, and give back the bytes that they took.
        #[test]
        fn mailboxes_of_one_pool_are_separate_queues(steps in prop::collection::vec((0_usize..5, 0_usize..9), 0..2000)) {
            let mut pool = MailPool::default();
            let mut queues: [Queue; 5] = Default::default();
            let mut model: Vec<VecDeque<Option<(usize, bool)>>> = vec![VecDeque::new(); 5];
            let mut bytes = 0;
            for (number, (which, what)) in steps.into_iter().enumerate() {
                let queue = &mut queues[which];
                match what {
                    0 => {
                        bytes += pool.push_stop(queue);
                        model[which].push_back(None);
                    }
                    1..5 => {
                        let envelope = if number % 3 == 0 { Envelope::Ask } else { Envelope::Plain };
                        bytes += pool.push(queue, number, envelope);
                        model[which].push_back(Some((number, number % 3 == 0)));
                    }
                    _ => {
                        let got = pool.pop(queue).map(|(mail, envelope, freed)| {
                            bytes -= freed;
                            match mail {
                                Mail::User(number) => Some((number, envelope == Envelope::Ask)),
                                Mail::Stop => None,
                            }
                        });
                        prop_assert_eq!(got, model[which].pop_front());
                    }
                }
                prop_assert_eq!(queues[which].len() as usize, model[which].len());
            }
            for queue in &mut queues {
                while let Some((_, _, freed)) = pool.pop(queue) {
                    bytes -= freed;
                }
            }
            prop_assert_eq!(bytes, 0);
        }
    }

    #[test]
    fn memory_goes_back_after_a_burst() {
        let mut pool = MailPool::default();
        let mut queue = Queue::default();
        for round in 0..3_u64 {
            for number in 0..200_000 {
                pool.push(&mut queue, round * number, Envelope::Plain);
            }
            pool.trim();
            assert!(pool.mail.pages() > KEPT_PAGES);
            while pool.pop(&mut queue).is_some() {}
            pool.trim();
            assert_eq!(pool.mail.pages(), KEPT_PAGES);
        }
    }
}
