//! The producer's end of a stream.

use super::error::{PushError, StreamError, StreamGone};
use super::outlet::{Outlet, State};
use super::reference::StreamRef;
use super::settings::StreamSettings;
use crate::actor::context::Context;
use crate::actor::handle::Handle;
use crate::actor::job::call;
use crate::actor::model::Actor;
use crate::actor::pending::{Pending, pending};
use crate::actor::refusal::{Rejection, SpawnError};
use crate::actor::scope::Scope;
use crate::base::ids::CoreId;
use crate::wire::message::Message;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{self, Poll};

/// The producer's end of a stream: what is pushed here comes out at its consumers, in order and each item once.
///
/// It is a field of an actor, or belongs to a future or a thread; it is `Send`, and the core where the stream was opened
/// does the rest. A full buffer says that the consumers have not asked for more: a future awaits [`push`](Source::push),
/// an actor has itself told when the source is [`ready`](Source::ready) again.
///
/// [`complete`](Source::complete) and [`fail`](Source::fail) end the stream behind what was pushed. A source that is
/// dropped without either, because its actor stopped or panicked for instance, ends it too, and consumers hear
/// [`Abandoned`](StreamError::Abandoned).
///
/// ```
/// use corecast::{Actor, Context, Fault, Next, PushError, ReplyTo, Runtime, Source, StreamRef, StreamSettings};
///
/// /// Counts up to a number, as fast as its consumers want to know.
/// struct Counting { next: u64, to: u64, source: Option<Source<u64>> }
///
/// #[derive(Debug)]
/// enum Msg { Open(ReplyTo<StreamRef<u64>>), Ready }
///
/// impl Actor for Counting {
///     type Msg = Msg;
///
///     fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
///         if let Msg::Open(reply_to) = msg {
///             let (source, stream) = ctx.open_stream(StreamSettings::shared(16))?;
///             self.source = Some(source);
///             ctx.reply(reply_to, stream);
///         }
///         let Some(source) = self.source.take() else { return Ok(Next::Continue) };
///         while self.next < self.to {
///             match source.try_push(self.next) {
///                 Ok(()) => self.next += 1,
///                 Err(PushError::Full(_)) => {
///                     ctx.spawn(source.ready(), |_| Msg::Ready);
///                     self.source = Some(source);
///                     return Ok(Next::Continue);
///                 }
///                 Err(PushError::Gone(_)) => return Ok(Next::Stop),
///             }
///         }
///         source.complete();
///         Ok(Next::Stop)
///     }
/// }
///
/// let runtime = Runtime::builder().start()?;
/// let handle = runtime.handle();
/// let counting = handle.spawn(|| Counting { next: 0, to: 1_000, source: None }).wait()?;
/// let stream = handle.ask(counting, Msg::Open).wait()?;
///
/// let mut consumer = handle.consume(stream);
/// let mut sum = 0;
/// while let Some(number) = consumer.wait_next() {
///     sum += number?;
/// }
/// assert_eq!(sum, 499_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Source<T: Message> {
    outlet: Arc<Outlet<T>>,
}

impl<T: Message> Source<T> {
    pub(crate) fn new(outlet: Arc<Outlet<T>>) -> Self {
        Source { outlet }
    }

    /// Puts an item into the stream, behind all others.
    ///
    /// # Errors
    /// The item, if the buffer is full or the stream is gone; nothing has changed.
    pub fn try_push(&self, item: T) -> Result<(), PushError<T>> {
        let mut state = self.outlet.lock();
        if state.is_gone() {
            return Err(PushError::Gone(item));
        }
        state.channel.push(item)?;
        self.outlet.poke_if_due(state);
        Ok(())
    }

    /// Puts an item into the stream, as soon as there is room. Dropped before that, it has not pushed the item.
    ///
    /// # Errors
    /// [`PushError::Gone`] with the item, if the stream is gone.
    pub async fn push(&self, item: T) -> Result<(), PushError<T>> {
        let mut item = item;
        loop {
            match self.try_push(item) {
                Err(PushError::Full(refused)) => item = refused,
                outcome => return outcome,
            }
            if self.ready().await.is_err() {
                return Err(PushError::Gone(item));
            }
        }
    }

    /// A future that ends when the stream has room. An actor spawns it, and is told by a message:
    /// `ctx.spawn(source.ready(), |_| Msg::Ready)`.
    ///
    /// It is an error if the stream is gone.
    pub fn ready(&self) -> impl Future<Output = Result<(), StreamGone>> + Send + 'static + use<T> {
        self.when(|state| state.channel.has_room().then_some(()))
    }

    /// A future that ends when the consumers have asked for more than was pushed, with how many items: for a producer that
    /// makes nothing before somebody wants it.
    ///
    /// It is an error if the stream is gone.
    pub fn wanted(
        &self,
    ) -> impl Future<Output = Result<usize, StreamGone>> + Send + 'static + use<T> {
        self.when(|state| Some(state.channel.demand()).filter(|demand| *demand > 0))
    }

    /// A future that ends when all consumers have left, and not before one has come: a producer that works for nobody
    /// else stops then. Consumers that come later are served all the same.
    ///
    /// It is an error if the stream is gone.
    pub fn deserted(
        &self,
    ) -> impl Future<Output = Result<(), StreamGone>> + Send + 'static + use<T> {
        self.when(|state| {
            let channel = &state.channel;
            (channel.had_consumers() && channel.consumers() == 0).then_some(())
        })
    }

    /// A future that ends when there is what `look` looks for.
    fn when<R: 'static>(
        &self,
        look: fn(&State<T>) -> Option<R>,
    ) -> impl Future<Output = Result<R, StreamGone>> + Send + 'static + use<T, R> {
        let mut waiting = Waiting {
            outlet: self.outlet.clone(),
            number: None,
        };
        poll_fn(move |context| waiting.poll(look, context))
    }

    /// How many items the consumers have asked for beyond those that have been pushed; of a broadcast, what all of them
    /// have asked for.
    #[must_use]
    pub fn demand(&self) -> usize {
        self.outlet.lock().channel.demand()
    }

    /// How many items wait in the buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.outlet.lock().channel.buffered()
    }

    /// How many consumers there are.
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.outlet.lock().channel.consumers()
    }

    /// Ends the stream well. Consumers get what was pushed before, and then hear so.
    pub fn complete(self) {
        self.outlet.lock().channel.finish(Ok(()));
    }

    /// Ends the stream with an error. Consumers get what was pushed before, and then hear
    /// [`Failed`](StreamError::Failed) with this reason.
    pub fn fail(self, why: impl fmt::Display) {
        let why = StreamError::Failed(why.to_string().into());
        self.outlet.lock().channel.finish(Err(why));
    }
}

/// A future that waits for something to happen to the stream. Dropped, it is forgotten there.
struct Waiting<T: Message> {
    outlet: Arc<Outlet<T>>,
    number: Option<u64>,
}

impl<T: Message> Waiting<T> {
    fn poll<R>(
        &mut self,
        look: fn(&State<T>) -> Option<R>,
        context: &mut task::Context<'_>,
    ) -> Poll<Result<R, StreamGone>> {
        let mut state = self.outlet.lock();
        if state.is_gone() {
            return Poll::Ready(Err(StreamGone));
        }
        match look(&state) {
            Some(seen) => Poll::Ready(Ok(seen)),
            None => {
                let (number, before) = state.wake_later(self.number, context.waker());
                self.number = Some(number);
                // A waker may be the last to hold a future that waits here, so none is dropped under the lock.
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<T: Message> Drop for Waiting<T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.outlet.lock().forget_waker(number);
            drop(waker);
        }
    }
}

impl<T: Message> Drop for Source<T> {
    fn drop(&mut self) {
        let mut state = self.outlet.lock();
        state.channel.finish(Err(StreamError::Abandoned));
        self.outlet.poke(state);
    }
}

impl<T: Message> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.outlet.lock();
        f.debug_struct("Source")
            .field("buffered", &state.channel.buffered())
            .field("demand", &state.channel.demand())
            .field("consumers", &state.channel.consumers())
            .finish_non_exhaustive()
    }
}

/// A source, and the address of its stream.
pub type Opened<T> = (Source<T>, StreamRef<T>);

/// # Streams
impl<A: Actor> Context<'_, A> {
    /// Opens a stream on this core: its source, usually for this actor, and its address, for the consumers.
    ///
    /// # Errors
    /// If the runtime is shutting down; nothing was opened.
    pub fn open_stream<T: Message>(
        &mut self,
        settings: StreamSettings<T>,
    ) -> Result<Opened<T>, SpawnError> {
        self.local.open_stream(settings)
    }
}

/// # Streams
impl Scope {
    /// Opens a stream on this core.
    ///
    /// # Errors
    /// If the runtime is shutting down; nothing was opened.
    pub fn open_stream<T: Message>(
        &self,
        settings: StreamSettings<T>,
    ) -> Result<Opened<T>, SpawnError> {
        self.with(|local| local.open_stream(settings))
            .unwrap_or(Err(Rejection::ShuttingDown.into()))
    }
}

/// # Streams
impl Handle {
    /// Opens a stream on a core. Its source is for this thread or its futures; to push from it costs a wake of the core,
    /// if that sleeps and somebody waits for the item.
    ///
    /// The result is an error, and nothing was opened, if there is no such core, if the queue into it is full, or if the
    /// runtime is shutting down.
    pub fn open_stream_on<T: Message>(
        &self,
        core: CoreId,
        settings: StreamSettings<T>,
    ) -> Pending<Result<Opened<T>, SpawnError>> {
        if let Err(error) = self.check(core) {
            return Pending::ready(Err(error));
        }
        let (completer, opened) = pending(Err(Rejection::ShuttingDown.into()));
        let job = call(move |local| completer.complete(local.open_stream(settings)));
        match self.gate().submit(core, job) {
            Ok(()) => opened,
            Err((why, _)) => Pending::ready(Err(why.into())),
        }
    }
}
