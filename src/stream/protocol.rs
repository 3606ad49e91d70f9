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
use crate::actor::reply::ReplyTo;
use std::time::Duration;

/// The asks of a stream have no time limit: it may be idle for as long as it likes.
pub(crate) const UNLIMITED: Duration = Duration::from_nanos(u64::MAX);

/// An item, and which one of its stream it is.
pub(crate) type Item<T> = (u64, T);

/// A consumer wants to join.
#[derive(Debug)]
pub(crate) struct Join<T>(pub(crate) ReplyTo<Down<T>>);

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
        items: Vec<Item<T>>,
        up: ReplyTo<Up<T>>,
    },
    End(End),
}

/// What a consumer says to a stream.
#[derive(Debug)]
pub(crate) enum Up<T> {
    Hello { closing: ReplyTo<Down<T>> },
    Demand { items: usize, to: ReplyTo<Down<T>> },
    Leave { unused: Vec<Item<T>> },
}
