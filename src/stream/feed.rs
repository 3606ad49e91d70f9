//! A stream whose items become messages of an actor.

use super::error::StreamError;
use super::inflow::Inflow;
use super::reference::StreamRef;
use crate::actor::context::Context;
use crate::actor::guard::guarded;
use crate::actor::local::Local;
use crate::actor::model::{Actor, Fault};
use crate::actor::refusal::Uncertainty;
use crate::actor::reply;
use crate::wire::message::Message;
use std::fmt;
use std::sync::Arc;

/// What comes to an actor from a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent<T> {
    /// An item.
    Item(T),
    /// The producer has completed the stream; nothing more comes.
    Completed,
    /// The stream has ended otherwise; nothing more comes.
    Failed(StreamError),
}

/// What an actor holds of a stream that it consumes by [`Context::consume`]: with it, it asks for more.
///
/// Dropped, also with the actor when that stops or panics, it leaves the stream; what has become a message by then still
/// comes.
#[must_use = "dropped, it leaves the stream"]
pub struct Feed<T: Message> {
    inflow: Arc<Inflow<T>>,
}

impl<T: Message> Feed<T> {
    /// Asks for so many items more.
    pub fn request(&self, items: usize) {
        self.inflow.allow(items);
    }

    /// Leaves the stream, as dropping it does.
    pub fn cancel(self) {}
}

impl<T: Message> Drop for Feed<T> {
    fn drop(&mut self) {
        self.inflow.leave();
    }
}

impl<T: Message> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

/// # Streams
impl<A: Actor> Context<'_, A> {
    /// Consumes a stream: each item, and then the end or the error, becomes a message of this actor, made by `make`.
    ///
    /// Only as many items come as have been asked for, `demand` to begin with and more by [`Feed::request`]; with none,
    /// none comes, but the end does. Room for them is reserved when they are asked for, so none is refused; the mailbox
    /// may hold so many more than it has room for. A panic in `make` is this actor's fault, and leaves the stream; it comes
    /// to nobody if this is an entity whose shard has moved to another core since.
    ///
    /// An entity that keeps its feed gets the items wherever its shard moves. Its feed ends with its life, also when it is
    /// passivated.
    ///
    /// ```
    /// use corecast::{Actor, Context, Fault, Feed, Next, ReplyTo, StreamEvent, StreamRef};
    ///
    /// /// Adds up a stream, never more than 100 items behind.
    /// #[derive(Default)]
    /// struct Adder { sum: u64, feed: Option<Feed<u64>>, done: Option<ReplyTo<u64>> }
    ///
    /// #[derive(Debug)]
    /// enum Msg { AddUp(StreamRef<u64>, ReplyTo<u64>), Next(StreamEvent<u64>) }
    ///
    /// impl Actor for Adder {
    ///     type Msg = Msg;
    ///
    ///     fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         match msg {
    ///             Msg::AddUp(stream, done) => {
    ///                 self.feed = Some(ctx.consume(stream, 100, Msg::Next));
    ///                 self.done = Some(done);
    ///             }
    ///             Msg::Next(StreamEvent::Item(number)) => {
    ///                 self.sum += number;
    ///                 if let Some(feed) = &self.feed {
    ///                     feed.request(1);
    ///                 }
    ///             }
    ///             Msg::Next(StreamEvent::Completed) => {
    ///                 if let Some(done) = self.done.take() {
    ///                     ctx.reply(done, self.sum);
    ///                 }
    ///             }
    ///             Msg::Next(StreamEvent::Failed(error)) => return Err(error.into()),
    ///         }
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    pub fn consume<T: Message>(
        &mut self,
        stream: StreamRef<T>,
        demand: usize,
        mut make: impl FnMut(StreamEvent<T>) -> A::Msg + Send + 'static,
    ) -> Feed<T> {
        let mut recipient = self.recipient();
        let owner = self.at;
        let bring = move |local: &mut Local, event| {
            // It runs in the activation of whoever pushed, as what becomes of an ask does.
            let made = reply::dropping_as(Uncertainty::DroppedUnanswered.into(), || {
                guarded(|| make(event))
            });
            match made {
                Ok(message) => {
                    recipient.bring(local, message);
                    true
                }
                Err(panic) => {
                    local.fault_later(owner, Fault::panicked(panic));
                    false
                }
            }
        };
        let (core, handle) = (self.local.core, Some(self.local.handle.clone()));
        let inflow = Arc::new(Inflow::new(core, handle, Some(Box::new(bring))));
        inflow.allow(demand);
        inflow.join(self.local, stream, 0);
        Feed { inflow }
    }
}
