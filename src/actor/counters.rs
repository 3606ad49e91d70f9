//! What a core counts.

use super::refusal::Rejection;
use std::time::Duration;

/// Counters of one core.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handled: u64,
    pub(crate) activations: u64,
    pub(crate) sent_requests: u64,
    pub(crate) batches_sent: u64,
    pub(crate) batches_received: u64,
    pub(crate) asks: u64,
    pub(crate) faults: u64,
    pub(crate) restarts: u64,
    pub(crate) stalls: u64,
    pub(crate) passivations: u64,
    pub(crate) unhandled: u64,
    pub(crate) events_dropped: u64,
    pub(crate) subscriber_panics: u64,
    pub(crate) failed_snapshots: u64,
    pub(crate) dead_letters: [u64; Rejection::ALL.len()],
    pub(crate) refusals: [u64; Rejection::ALL.len()],
}

impl Counters {
    pub(crate) fn count_refusal(&mut self, why: Rejection) {
        self.refusals[why as usize] += 1;
    }
}

/// How this core's turns went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Turns that did something.
    pub busy: u64,
    /// Turns that found nothing.
    pub idle: u64,
    /// Time from the start of each busy turn to the start of the next turn.
    pub busy_time: Duration,
    /// The longest of these times.
    pub longest: Duration,
}

/// What is known of one actor type on this core.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) messages: u64,
    pub(crate) faults: u64,
    pub(crate) stalls: u64,
    pub(crate) sampled_messages: u64,
    pub(crate) sampled: Duration,
    pub(crate) longest: Duration,
}

impl Kind {
    /// Mean handling time, estimated from samples.
    pub(crate) fn mean_nanos(&self) -> u64 {
        (self.sampled.as_nanos() as u64)
            .checked_div(self.sampled_messages)
            .unwrap_or(0)
    }
}
