//! Entities whose handlers compute for a fixed time.

use corecast::{Actor, Context, Fault, Next};

use super::effort::Effort;
use super::entity::ToEntity;
use super::payload::Payload;

/// An entity that computes.
#[derive(Debug)]
pub(super) struct Worker<P> {
    effort: Effort,
    /// Depends on every round of every message, so that none can be left out.
    state: u64,
    handled: u64,
    payload: std::marker::PhantomData<fn(P)>,
}

impl<P> Worker<P> {
    pub(super) fn new(effort: Effort) -> Worker<P> {
        Worker {
            effort,
            state: 1,
            handled: 0,
            payload: std::marker::PhantomData,
        }
    }

    fn work(&mut self) {
        self.state = std::hint::black_box(self.effort.spend(self.state));
        self.handled += 1;
    }
}

impl<P: Payload> Actor for Worker<P> {
    type Msg = ToEntity<P>;

    fn receive(
        &mut self,
        message: ToEntity<P>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        self.work();
        match message {
            ToEntity::Tell { ticket, .. } => ticket.settle(ctx.now(), None),
            ToEntity::TimedTell { ticket, stamps, .. } => ticket.settle(ctx.now(), Some(stamps)),
            ToEntity::Ask { reply_to, .. } => ctx.reply(reply_to, self.handled),
        }
        Ok(Next::Continue)
    }
}
