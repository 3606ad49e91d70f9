//! The entities under load, and the messages they take.

use std::marker::PhantomData;

use corecast::{Actor, Context, Fault, Next, ReplyTo};

use super::ledger::Ticket;
use super::payload::Payload;
use crate::measure::Stamps;

/// Messages that an entity's mailbox holds: more than its share of all that may be in flight, so that a stall shows as
/// latency and not as loss.
pub(super) const MAILBOX: u32 = 65_536;

/// A message to an entity. What is rarely there has variants of its own, which keeps a message at 24 bytes and its payload.
#[derive(Debug)]
pub(super) enum ToEntity<P> {
    /// Fire and forget.
    Tell { ticket: Ticket, payload: P },
    /// The same, with its latency to be recorded.
    TimedTell {
        ticket: Ticket,
        stamps: Stamps,
        payload: P,
    },
    /// To be answered with the number of messages handled.
    Ask { reply_to: ReplyTo<u64>, payload: P },
}

/// An entity: a few words of state that every message changes.
#[derive(Debug)]
pub(super) struct Entity<P> {
    state: State,
    payload: PhantomData<fn(P)>,
}

#[derive(Debug, Default)]
struct State {
    handled: u64,
    digest: u64,
    recent: [u64; 2],
}

/// Bytes of state of each entity.
pub(super) const STATE_BYTES: usize = size_of::<State>();

impl<P> Default for Entity<P> {
    fn default() -> Self {
        Entity {
            state: State::default(),
            payload: PhantomData,
        }
    }
}

impl State {
    #[inline]
    fn take(&mut self, payload: &impl Payload) {
        self.handled += 1;
        let digest = payload.digest();
        self.digest = self.digest.rotate_left(5) ^ digest;
        self.recent[(self.handled % 2) as usize] = digest;
    }
}

impl<P: Payload> Actor for Entity<P> {
    type Msg = ToEntity<P>;

    #[inline]
    fn receive(
        &mut self,
        message: ToEntity<P>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            ToEntity::Tell { ticket, payload } => {
                self.state.take(&payload);
                ticket.settle(ctx.now(), None);
            }
            ToEntity::TimedTell {
                ticket,
                stamps,
                payload,
            } => {
                self.state.take(&payload);
                ticket.settle(ctx.now(), Some(stamps));
            }
            ToEntity::Ask { reply_to, payload } => {
                self.state.take(&payload);
                ctx.reply(reply_to, self.state.handled);
            }
        }
        Ok(Next::Continue)
    }
}
