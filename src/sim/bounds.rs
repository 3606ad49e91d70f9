//! The bounds of a simulated node: those of the defaults, or tiny ones drawn from the seed.

use crate::actor::local::Limits;
use crate::actor::mailbox::Mailbox;
use crate::base::rng::Rng;
use crate::mesh::lane::LaneDepths;
use rand::RngExt;
use std::time::Duration;

/// Bounds of every core of a simulation. A test that needs lanes to be full and sends to be refused makes them tiny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Queued messages in all mailboxes of a core; beyond it sends are refused (default 1,000,000).
    pub queued_messages: usize,
    /// Bytes of the places that they have taken (default 1 GiB).
    pub queued_bytes: usize,
    /// Messages waiting for one other core; beyond it sends are refused (default 8,192).
    pub outbox_messages: usize,
    /// Messages of one core that wait for one moving shard; beyond it sends are refused (default 8,192).
    pub held_messages: usize,
    /// Messages in one batch (default 64).
    pub batch_messages: usize,
    /// Batches in each lane of requests or replies (default 64).
    pub lane_batches: usize,
    /// Messages in each control lane (default 1,024).
    pub control_messages: usize,
    /// Calls that wait to enter a core from outside (default 8,192).
    pub ingress_jobs: usize,
    /// Open asks and awaited sends of a core (default 1,000,000).
    pub asks: usize,
    /// The time that an ask has which is given none of its own (default 5 s).
    pub ask_timeout: Duration,
    /// Pending futures of a core (default 1,000,000).
    pub tasks: usize,
    /// Timers with names on a core (default 1,000,000).
    pub timers: usize,
    /// Watches of a core's actors (default 1,000,000).
    pub watches: usize,
    /// Messages from its mailbox that an actor handles before the next has its turn (default 64).
    pub activation_messages: u32,
    /// Messages handled in one turn, and as many again right when they arrive from other cores (default 4,096).
    pub turn_messages: u64,
    /// Time spent on handlers in one turn (default 1 ms).
    pub turn_time: Duration,
    /// The time an asynchronous handler has (default 10 s).
    pub async_deadline: Duration,
    /// How long a shard may take to become ready to leave its core (default 2 s).
    pub patience: Duration,
    /// Mailboxes that do not say otherwise (default 1,000 messages).
    pub mailbox: Mailbox,
    /// Items in the buffer of a stream that does not say otherwise (default 64).
    pub stream_buffer: usize,
    /// Items that a consumer asks for before somebody wants them, if it does not say otherwise (default 64).
    pub stream_window: usize,
    /// Consumers of a stream that does not say otherwise (default 1,000).
    pub stream_consumers: usize,
    /// How long a stream that has ended waits for a consumer, if it does not say otherwise (default 5 s).
    pub stream_linger: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            queued_messages: 1_000_000,
            queued_bytes: 1 << 30,
            outbox_messages: 8_192,
            held_messages: 8_192,
            batch_messages: 64,
            lane_batches: 64,
            control_messages: 1_024,
            ingress_jobs: 8_192,
            asks: 1_000_000,
            ask_timeout: Duration::from_secs(5),
            tasks: 1_000_000,
            timers: 1_000_000,
            watches: 1_000_000,
            activation_messages: 64,
            turn_messages: 4_096,
            turn_time: Duration::from_millis(1),
            async_deadline: Duration::from_secs(10),
            patience: Duration::from_secs(2),
            mailbox: Mailbox::default(),
            stream_buffer: 64,
            stream_window: 64,
            stream_consumers: 1_000,
            stream_linger: Duration::from_secs(5),
        }
    }
}

impl Bounds {
    /// Draws the bounds whose value must not matter to the outcome: sizes of batches, lanes, outboxes and turns, some
    /// of them tiny. Mailboxes, budgets, asks and times stay as they are.
    pub(super) fn draw(&mut self, rng: &mut Rng) {
        let mut one_of = |sizes: &[usize]| sizes[rng.random_range(0..sizes.len())];
        self.batch_messages = one_of(&[1, 2, 3, 7, 64]);
        self.lane_batches = one_of(&[1, 1, 2, 3, 64]);
        self.control_messages = one_of(&[1, 2, 8, 1_024]);
        self.outbox_messages = one_of(&[1, 2, 5, 20, 8_192]);
        self.held_messages = one_of(&[1, 3, 10, 8_192]);
        self.activation_messages = one_of(&[1, 2, 5, 64]) as u32;
        self.turn_messages = one_of(&[1, 3, 10, 4_096]) as u64;
        self.ingress_jobs = one_of(&[8, 100, 8_192]);
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            queued_messages: self.queued_messages,
            queued_bytes: self.queued_bytes,
            outbox_messages: self.outbox_messages,
            held_messages: self.held_messages,
            batch_messages: self.batch_messages,
            asks: self.asks,
            ask_timeout: self.ask_timeout,
            tasks: self.tasks,
            timers: self.timers,
            watches: self.watches,
            activation_messages: self.activation_messages,
            turn_messages: self.turn_messages,
            turn_time: self.turn_time,
            stall: Duration::from_millis(5),
            async_deadline: self.async_deadline,
            mailbox: self.mailbox,
            stream_buffer: self.stream_buffer,
            stream_window: self.stream_window,
            stream_consumers: self.stream_consumers,
            stream_linger: self.stream_linger,
        }
    }

    pub(super) fn lanes(&self) -> LaneDepths {
        LaneDepths {
            control: self.control_messages,
            replies: self.lane_batches,
            requests: self.lane_batches,
        }
    }
}
