//! A driver inside a core: an actor that sends a burst in each turn of its core.
//!
//! After a burst it has a future that is ready at once bring it the word to go on. A core polls its futures once a turn,
//! so the entities have their turn in between; a message to itself would be handled in the same activation. A driver
//! that has nothing to send goes on all the same: it polls, and its core never parks while a phase runs.

use std::future::ready;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use corecast::{Actor, Context, Fault, Next};

use super::board::{Board, Order};
use super::clock::Clock;
use super::entity::ToEntity;
use super::generator::{Generator, Shot, Step};
use super::ledger::{DriverId, Ledger, PhaseId, Ticket};
use super::payload::Payload;
use super::targets::Targets;
use crate::measure::Stamps;

/// A driver inside a core.
pub(super) struct Driver<P, T> {
    pub(super) post: Post,
    pub(super) targets: T,
    pub(super) generator: Generator,
    /// Asks that have ended.
    pub(super) answered: u64,
    pub(super) payload: std::marker::PhantomData<fn(P)>,
}

/// What a driver needs to know of its phase.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) id: DriverId,
    pub(super) phase: PhaseId,
    pub(super) board: Arc<Board>,
    pub(super) clock: Clock,
    pub(super) payload_bytes: u32,
    /// Takes the driver's word that it has finished.
    pub(super) finished: SyncSender<DriverId>,
}

/// Messages to a driver.
#[derive(Debug)]
pub(super) enum ToDriver {
    /// Send the next burst.
    Go,
    /// An ask has ended.
    Ended {
        stamps: Option<Stamps>,
        is_measured: bool,
        is_answered: bool,
    },
}

impl<P: Payload, T: Targets<P>> Actor for Driver<P, T> {
    type Msg = ToDriver;

    fn receive(&mut self, message: ToDriver, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            ToDriver::Ended {
                stamps,
                is_measured,
                is_answered,
            } => {
                self.answered += 1;
                Ledger::with(|ledger| match is_answered {
                    true => ledger.completed(ctx.now(), stamps),
                    false if is_measured => ledger.failed(),
                    false => {}
                });
                Ok(Next::Continue)
            }
            ToDriver::Go => Ok(self.go(ctx)),
        }
    }
}

impl<P: Payload, T: Targets<P>> Driver<P, T> {
    fn go(&mut self, ctx: &mut Context<'_, Self>) -> Next {
        let Driver {
            post,
            targets,
            generator,
            ..
        } = self;
        let order = post.board.order();
        if order >= Order::Stop {
            generator.end();
        }
        let settled = post.board.settled(usize::from(post.id.0)) + self.answered;
        let step = generator.burst(post.clock, settled, |shot| fire(shot, post, targets, ctx));
        if step == Step::Sent {
            Ledger::with(|ledger| generator.record_sends(ledger.recorder(), post.clock.now()));
        }
        if step == Step::Finished || order == Order::Abandon {
            Ledger::with(|ledger| generator.record_sends(ledger.recorder(), post.clock.now()));
            // The queue has room for all drivers; without a reader the phase is over anyway.
            let _ = post.finished.try_send(post.id);
            return Next::Stop;
        }
        ctx.spawn(ready(()), |_| ToDriver::Go);
        Next::Continue
    }
}

fn fire<P: Payload, T: Targets<P>>(
    shot: &Shot,
    post: &Post,
    targets: &T,
    ctx: &mut Context<'_, Driver<P, T>>,
) -> bool {
    let payload = P::new(post.payload_bytes);
    let to = targets.at(&shot.key);
    if shot.is_ask {
        let (stamps, is_measured) = (shot.stamps, shot.is_measured);
        ctx.ask(
            to,
            |reply_to| ToEntity::Ask { reply_to, payload },
            move |outcome| ToDriver::Ended {
                stamps,
                is_measured,
                is_answered: outcome.is_ok(),
            },
        );
        return true;
    }
    match ctx.try_tell(to, tell(shot, post, payload)) {
        Ok(()) => true,
        Err(refused) => {
            recall(refused.message);
            false
        }
    }
}

/// The message of a tell.
#[inline]
pub(super) fn tell<P>(shot: &Shot, post: &Post, payload: P) -> ToEntity<P> {
    let ticket = Ticket::new(post.id, post.phase);
    match shot.stamps {
        None => ToEntity::Tell { ticket, payload },
        Some(stamps) => ToEntity::TimedTell {
            ticket,
            stamps,
            payload,
        },
    }
}

/// A tell that was refused at the call is sent again later.
pub(super) fn recall<P>(message: ToEntity<P>) {
    match message {
        ToEntity::Tell { ticket, .. } | ToEntity::TimedTell { ticket, .. } => ticket.recall(),
        ToEntity::Ask { .. } => {}
    }
}
