//! What a stream is opened with.

use super::channel::FanOut;
use std::fmt;
use std::time::Duration;

/// How a stream treats its items and its consumers. What is left unsaid here is said by the runtime's
/// [`Settings`](crate::Settings).
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
    pub(crate) buffer: Option<usize>,
    pub(crate) consumers: Option<usize>,
    pub(crate) linger: Option<Duration>,
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
        StreamSettings::new(FanOut::Shared, Some(buffer))
    }

    /// [`shared`](StreamSettings::shared), with a buffer as large as [`Settings::stream_buffer`](crate::Settings::stream_buffer)
    /// says.
    #[must_use]
    pub fn sharing() -> Self {
        StreamSettings::new(FanOut::Shared, None)
    }

    /// Each item goes to every consumer: to all that are there, and to those who come while it still lies in the buffer. It
    /// lies there until the slowest has asked for it, so a full buffer waits for that one; without consumers it waits
    /// for the first.
    #[must_use]
    pub fn broadcast(buffer: usize) -> Self
    where
        T: Clone,
    {
        StreamSettings::new(FanOut::copied(), Some(buffer))
    }

    /// [`broadcast`](StreamSettings::broadcast), with a buffer as large as
    /// [`Settings::stream_buffer`](crate::Settings::stream_buffer) says.
    #[must_use]
    pub fn broadcasting() -> Self
    where
        T: Clone,
    {
        StreamSettings::new(FanOut::copied(), None)
    }

    fn new(fan_out: FanOut<T>, buffer: Option<usize>) -> Self {
        StreamSettings {
            fan_out,
            buffer: buffer.map(|items| items.max(1)),
            consumers: None,
            linger: None,
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

    /// How many consumers there may be at once; one more hears
    /// [`TooManyConsumers`](super::error::StreamError::TooManyConsumers). Default:
    /// [`Settings::stream_consumers`](crate::Settings::stream_consumers), which is 1,000.
    #[must_use]
    pub fn consumers(mut self, consumers: usize) -> Self {
        self.consumers = Some(consumers);
        self
    }

    /// How long a stream whose producer has ended it waits for a consumer to take what is left, or only to hear of the end.
    /// Then it is over; items that nobody came for are counted dead letters. Default:
    /// [`Settings::stream_linger`](crate::Settings::stream_linger), which is 5 s.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
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
