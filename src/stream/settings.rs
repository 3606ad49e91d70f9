//! What a stream is opened with.

use super::channel::FanOut;
use std::fmt;
use std::time::Duration;

/// How a stream treats its items and its consumers.
///
/// ```
/// use corecast::StreamSettings;
/// use std::time::Duration;
///
/// let jobs = StreamSettings::<String>::shared(64);
/// let prices = StreamSettings::<u64>::broadcast(1_024).cut_off_slow().consumers(20);
/// # let _ = (jobs, prices.linger(Duration::from_secs(1)));
/// ```
pub struct StreamSettings<T> {
    pub(crate) fan_out: FanOut<T>,
    pub(crate) buffer: usize,
    pub(crate) consumers: usize,
    pub(crate) linger: Duration,
}

impl<T> StreamSettings<T> {
    /// Each item goes to one consumer: with several, they share the work. `buffer` items wait at the producer at most, and
    /// at least one.
    ///
    /// Who leaves gives back what has come for it and was not taken out; that goes to the next one, so nothing is lost and
    /// nothing comes twice. When everything has been given out and the others have heard of the end, what comes back waits
    /// for one more consumer, as long as the stream [lingers](StreamSettings::linger).
    #[must_use]
    pub fn shared(buffer: usize) -> Self {
        StreamSettings::new(FanOut::Shared, buffer)
    }

    /// Each item goes to every consumer: to all that are there, and to those who come while it still lies in the buffer. It
    /// lies there until the slowest has asked for it, so a full buffer waits for that one; without consumers it waits
    /// for the first.
    #[must_use]
    pub fn broadcast(buffer: usize) -> Self
    where
        T: Clone,
    {
        let copies = FanOut::Copied {
            copy: T::clone,
            cuts_off: false,
        };
        StreamSettings::new(copies, buffer)
    }

    fn new(fan_out: FanOut<T>, buffer: usize) -> Self {
        StreamSettings {
            fan_out,
            buffer: buffer.max(1),
            consumers: 1_000,
            linger: Duration::from_secs(5),
        }
    }

    /// Has a broadcast wait for nobody: when an item comes and the buffer is full, the slowest consumers are cut off, and
    /// hear [`TooSlow`](super::error::StreamError::TooSlow). Who has asked for more is not slow, nor who has just come and
    /// wants something. Of a shared stream it changes nothing.
    #[must_use]
    pub fn cut_off_slow(mut self) -> Self {
        if let FanOut::Copied { cuts_off, .. } = &mut self.fan_out {
            *cuts_off = true;
        }
        self
    }

    /// How many consumers there may be at once (default 1,000); one more hears
    /// [`TooManyConsumers`](super::error::StreamError::TooManyConsumers).
    #[must_use]
    pub fn consumers(mut self, consumers: usize) -> Self {
        self.consumers = consumers;
        self
    }

    /// How long a stream whose producer has ended it waits for a consumer to take what is left, or only to hear of the end
    /// (default 5 s). Then it is over; items that nobody came for are counted dead letters.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }
}

impl<T> fmt::Debug for StreamSettings<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSettings")
            .field("fan_out", &self.fan_out)
            .field("buffer", &self.buffer)
            .field("consumers", &self.consumers)
            .field("linger", &self.linger)
            .finish()
    }
}
