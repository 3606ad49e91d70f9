//! The consumer's end of a stream, for futures and threads.

use super::error::StreamError;
use super::inflow::Inflow;
use super::reference::StreamRef;
use crate::actor::handle::Handle;
use crate::actor::job::call;
use crate::actor::local::Local;
use crate::actor::pending::assert_may_block;
use crate::actor::scope::Scope;
use crate::wire::message::Message;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// The consumer's end of a stream, for futures and threads: [`Scope::consume`], [`Handle::consume`].
///
/// It asks for items before somebody wants them, for as many as it was told to or as
/// [`Settings::stream_window`](crate::Settings::stream_window) says, 64 by default, and keeps what has come until it is taken
/// out. Dropped, it leaves: what it has not given out goes back to the stream, and the producer can hear of it.
///
/// ```
/// use corecast::{CoreId, Runtime, StreamError, StreamSettings};
///
/// let runtime = Runtime::builder().cores("0".parse()?).start()?;
/// let sum = runtime.handle().run_on(CoreId(0), |scope| async move {
///     let (source, stream) = scope.open_stream(StreamSettings::shared(4)).expect("the runtime runs");
///     scope.spawn(async move {
///         for number in 1..=100_u64 {
///             if source.push(number).await.is_err() {
///                 return;
///             }
///         }
///         source.complete();
///     });
///     let mut consumer = scope.consume(stream);
///     let mut sum = 0;
///     while let Some(number) = consumer.next().await {
///         sum += number?;
///     }
///     Ok::<_, StreamError>(sum)
/// });
/// assert_eq!(sum.wait()?, Ok(5_050));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropped, it leaves the stream"]
pub struct Consumer<T: Message> {
    inflow: Arc<Inflow<T>>,
}

impl<T: Message> Consumer<T> {
    /// The next item; `None` when the stream has been completed. An error is the last that comes. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, StreamError>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`next`](Consumer::next), for futures that are written by hand.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        self.inflow.poll(context)
    }

    /// As [`next`](Consumer::next); it blocks this thread until something comes.
    ///
    /// # Panics
    /// On a core: whoever blocks a core keeps everything there from running.
    pub fn wait_next(&mut self) -> Option<Result<T, StreamError>> {
        assert_may_block();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut next = pin!(self.next());
        loop {
            match next.as_mut().poll(&mut context) {
                Poll::Ready(next) => return next,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// Leaves the stream, as dropping it does.
    pub fn cancel(self) {}
}

impl<T: Message> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.inflow.leave();
    }
}

impl<T: Message> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

/// Wakes a thread that waits for an item.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A consumer on its way to its core; if it does not get there, whoever has it is told.
struct Joining<T: Message>(Option<Arc<Inflow<T>>>);

impl<T: Message> Drop for Joining<T> {
    fn drop(&mut self) {
        if let Some(inflow) = &self.0 {
            inflow.fail(StreamError::Lost);
        }
    }
}

/// # Streams
impl Scope {
    /// Consumes a stream. Whether that works says the first [`next`](Consumer::next).
    pub fn consume<T: Message>(&self, stream: StreamRef<T>) -> Consumer<T> {
        self.join(stream, None)
    }

    /// Like [`consume`](Scope::consume), with the number of items to ask for before somebody wants them: with 0, each is
    /// asked for when it is awaited. From another core, so many items, and as many as the stream's buffer holds, share the
    /// cost of one round trip between the two; where it matters, let both be some hundreds.
    pub fn consume_ahead<T: Message>(&self, stream: StreamRef<T>, ahead: usize) -> Consumer<T> {
        self.join(stream, Some(ahead))
    }

    fn join<T: Message>(&self, stream: StreamRef<T>, ahead: Option<usize>) -> Consumer<T> {
        let core = self.core();
        let inflow = Arc::new(Inflow::new(core, self.handle(), None));
        let joined = self.with(|local| {
            let ahead = ahead.unwrap_or(local.limits.stream_window);
            inflow.join(local, stream, ahead);
        });
        if joined.is_none() {
            inflow.fail(StreamError::Lost);
        }
        Consumer { inflow }
    }
}

/// # Streams
impl Handle {
    /// Consumes a stream, from any thread and in any asynchronous runtime. Whether that works says the first
    /// [`next`](Consumer::next): if the queue into this handle's core is full, it is
    /// [refused](StreamError::Refused).
    pub fn consume<T: Message>(&self, stream: StreamRef<T>) -> Consumer<T> {
        self.join(stream, None)
    }

    /// Like [`consume`](Handle::consume), with the number of items to ask for before somebody wants them: with 0, each is
    /// asked for when it is awaited.
    pub fn consume_ahead<T: Message>(&self, stream: StreamRef<T>, ahead: usize) -> Consumer<T> {
        self.join(stream, Some(ahead))
    }

    fn join<T: Message>(&self, stream: StreamRef<T>, ahead: Option<usize>) -> Consumer<T> {
        let core = self.entry();
        let inflow = Arc::new(Inflow::new(core, Some(self.clone()), None));
        let mut joining = Joining(Some(inflow.clone()));
        let job = call(move |local: &mut Local| {
            if let Some(inflow) = joining.0.take() {
                let ahead = ahead.unwrap_or(local.limits.stream_window);
                inflow.join(local, stream, ahead);
            }
        });
        if let Err((why, job)) = self.gate().submit(core, job) {
            inflow.fail(why.into());
            job.reject(why);
        }
        Consumer { inflow }
    }
}
