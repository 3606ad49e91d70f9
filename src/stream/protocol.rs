//! What a stream and a consumer say to each other.
//!
//! A consumer joins with an ask. From then on everything is a reply, and each brings the addresses for those that may
//! come next:
//!
//! | open ask | asked by | answered with |
//! |---|---|---|
//! | `to` | the consumer, with its demand | items, as many as were asked for at most |
//! | `up` | the stream, with the items | the next demand, or items that were not wanted any more |
//! | `lease` | the stream, at the beginning | the consumer's leave, with what it had not taken out |
//! | `closing` | the consumer, at the beginning | the end, behind the last items, whether there is demand or not |
//!
//! So a demand, and a batch of items, costs one reply, however many items; nothing of it can be refused. An address that
//! is dropped says that the other side is gone: of `lease`, the consumer; of `closing`, the stream.

use super::error::End;
use crate::actor::guard::drop_all_guarded;
use crate::actor::reply::ReplyTo;
use std::time::Duration;

/// The asks of a stream have no time limit: it may be idle for as long as it likes.
pub(crate) const UNLIMITED: Duration = Duration::from_nanos(u64::MAX);

/// An item, and which one of its stream it is.
pub(crate) type Item<T> = (u64, T);

/// Items that are on their way. Wherever they are dropped, it is one by one: two destructors that panic at once would end
/// the process.
#[derive(Debug)]
pub(crate) struct Items<T>(Vec<Item<T>>);

impl<T> Items<T> {
    pub(crate) fn new(items: Vec<Item<T>>) -> Self {
        Items(items)
    }

    pub(crate) fn none() -> Self {
        Items(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(mut self) -> Vec<Item<T>> {
        std::mem::take(&mut self.0)
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        drop_all_guarded(std::mem::take(&mut self.0));
    }
}

/// A consumer wants to join.
#[derive(Debug)]
pub(crate) struct Join<T> {
    /// It is going to ask for items as soon as it has joined.
    pub(crate) is_to_ask: bool,
    pub(crate) to: ReplyTo<Down<T>>,
}

/// What a stream says to a consumer.
#[derive(Debug)]
pub(crate) enum Down<T> {
    Joined {
        up: ReplyTo<Up<T>>,
        lease: ReplyTo<Up<T>>,
        /// Wants to know where to send the end.
        hello: ReplyTo<Up<T>>,
    },
    Items {
        items: Items<T>,
        up: ReplyTo<Up<T>>,
    },
    End(End),
}

/// What a consumer says to a stream.
#[derive(Debug)]
pub(crate) enum Up<T> {
    Hello { closing: ReplyTo<Down<T>> },
    Demand { items: usize, to: ReplyTo<Down<T>> },
    Leave { unused: Items<T> },
}
