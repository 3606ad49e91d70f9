//! What a tracer may change: faults in place of messages that an actor would handle next, and the wakers of futures. A core
//! without a tracer only looks where it would trace.

use super::activation::{ActorBody, Ran};
use super::batch::ActorBatch;
use super::cell::EntityPlace;
use super::context::Context;
use super::local::{Local, downcast_class};
use super::mailbox::Mail;
use super::model::Actor;
use super::reference::{CellRef, Receiver};
use super::refusal::Rejection;
use super::region::AnyRegion;
use super::reply::{self, Envelope};
use super::task::{Suspending, TaskId, handler_fault};
use super::trace::{TraceEvent, Tracer, Upcoming, Verdict};
use super::typed::TypedBox;
use crate::base::ids::EntityTypeId;
use crate::wire::message::Message;
use std::any::{Any, TypeId, type_name};
use std::task::Waker;
use std::time::Duration;

/// What has become of the message that an actor was about to handle.
pub(super) enum Watched {
    /// It is to be handled.
    Handle,
    /// It is gone; the next one may be handled.
    Dropped,
    /// It has ended the activation.
    Ended(Ran),
}

impl<A: Actor> ActorBody<A> {
    /// Sees to what comes next in the mailbox. Without room for another future there is no delay: a message that has had one
    /// is not delayed again.
    #[cold]
    #[inline(never)]
    pub(super) fn watch_next(&mut self, ctx: &mut Context<'_, A>) -> Watched {
        let (at, place) = (ctx.at, ctx.place());
        match ctx.local.judge_next::<A>(at, place) {
            Verdict::Handle => ctx.local.trace_next::<A::Msg>(at, type_name::<A>()),
            Verdict::Delay(delay) if ctx.local.has_room_for_task() => return delayed(delay, ctx),
            Verdict::Delay(_) => return self.watch_next(ctx),
            verdict => {
                if let Some((Mail::User(message), envelope)) = ctx.local.next_sealed::<A::Msg>(at) {
                    return injected(verdict, message, envelope, ctx);
                }
            }
        }
        Watched::Handle
    }

    /// Sees to the message that comes next in a batch.
    #[cold]
    #[inline(never)]
    pub(super) fn watch_arrival(
        &mut self,
        batch: &mut ActorBatch<A::Msg>,
        ctx: &mut Context<'_, A>,
    ) -> Watched {
        let (at, place) = (ctx.at, ctx.place());
        let verdict = match batch.items.front() {
            Some((_, message)) => ctx.local.judge::<A>(at, place, message),
            None => Verdict::Handle,
        };
        match verdict {
            Verdict::Handle => ctx.local.trace_arrival(at, type_name::<A>(), batch),
            // It stays in the batch, which goes into the mailbox of an actor that takes no more.
            Verdict::Delay(delay) if ctx.local.has_room_for_task() => return delayed(delay, ctx),
            Verdict::Delay(_) => return self.watch_arrival(batch, ctx),
            verdict => {
                if let Some((address, message)) = batch.items.pop() {
                    return injected(verdict, message, address.off().1, ctx);
                }
            }
        }
        Watched::Handle
    }
}

/// What follows a delay: nothing has been handled.
pub(super) struct Delayed;

/// Suspends the actor as an asynchronous handler would, but with no deadline; the message stays where it is.
fn delayed<A: Actor>(delay: Duration, ctx: &mut Context<'_, A>) -> Watched {
    let local = &mut *ctx.local;
    local.trace(TraceEvent::Inject {
        to: ctx.at,
        what: "delay",
    });
    let until = local.now + delay;
    let passed = local.sleep_until(until);
    let resume = |()| -> Box<dyn Any> { Box::new(Delayed) };
    let life = local.life(ctx.at);
    local.add_job(Box::new(Suspending::new(
        passed,
        resume,
        handler_fault,
        ctx.at,
        life,
    )));
    Watched::Ended(Ran::Suspended)
}

fn injected<A: Actor>(
    verdict: Verdict,
    message: A::Msg,
    envelope: Envelope,
    ctx: &mut Context<'_, A>,
) -> Watched {
    let to = ctx.at;
    let mut inject = |what| ctx.local.trace(TraceEvent::Inject { to, what });
    match verdict {
        Verdict::Fail(fault) => {
            inject("fail");
            reply::count_handled();
            drop(message);
            Watched::Ended(ctx.local.failed(fault))
        }
        Verdict::Panic => {
            inject("panic");
            reply::count_handled();
            // The message is dropped by the panic, as by that of a handler.
            let _message = message;
            panic!("an injected panic")
        }
        Verdict::Drop | Verdict::Handle | Verdict::Delay(_) => {
            let receiver = Receiver::Actor(ctx.local.home, ctx.local.core, to);
            ctx.local
                .dead_letter(receiver, Rejection::Injected, envelope, message);
            Watched::Dropped
        }
    }
}

impl Local {
    /// A future is about to be polled; the waker that it gets.
    pub(crate) fn trace_poll(&mut self, task: TaskId, waker: Waker) -> Waker {
        let Some(tracer) = &mut self.tracer else {
            return waker;
        };
        tracer.record(self.now, TraceEvent::Poll { task: task.slot });
        tracer.waker(waker)
    }

    /// An outcome is about to be brought to whoever has asked for it.
    #[cold]
    #[inline(never)]
    pub(super) fn trace_owed<M: Message>(&mut self, to: Option<CellRef>, outcome: &M) {
        if let Some(tracer) = &mut self.tracer {
            tracer.owe(to, outcome, outcome);
        }
    }

    fn judge_next<A: Actor>(&mut self, at: CellRef, place: Option<EntityPlace>) -> Verdict {
        let Some(cell) = self.cells.get(at).filter(|cell| !cell.queue.is_empty()) else {
            return Verdict::Handle;
        };
        let Some(class) = downcast_class::<A::Msg>(&mut self.classes, cell.class) else {
            return Verdict::Handle;
        };
        match class.pool.first(&cell.queue) {
            Some(message) => judge::<A>(&mut self.tracer, &self.regions, at, place, message),
            None => Verdict::Handle,
        }
    }

    fn judge<A: Actor>(
        &mut self,
        at: CellRef,
        place: Option<EntityPlace>,
        message: &A::Msg,
    ) -> Verdict {
        judge::<A>(&mut self.tracer, &self.regions, at, place, message)
    }
}

fn judge<A: Actor>(
    tracer: &mut Option<Box<dyn Tracer>>,
    regions: &[TypedBox<dyn AnyRegion>],
    to: CellRef,
    place: Option<EntityPlace>,
    message: &A::Msg,
) -> Verdict {
    let Some(tracer) = tracer else {
        return Verdict::Handle;
    };
    let entity = place.and_then(|place| {
        let region = regions.get(usize::from(place.region))?;
        Some((EntityTypeId(place.region), region.id(place, to.slot())?))
    });
    tracer.judge(&Upcoming {
        to,
        actor: TypeId::of::<A>(),
        entity,
        message,
        shown: message,
    })
}
