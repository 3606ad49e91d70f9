//! Running actors: one activation handles a few messages of one actor, and whatever goes wrong in it stays in it.

use super::batch::ActorBatch;
use super::cell::{Body, EntityPlace};
use super::context::{Context, Recipient, Resume};
use super::ending::StopCause;
use super::entity::Stage;
use super::guard::{drop_guarded, guarded};
use super::injection::{Delayed, Watched};
use super::local::Local;
use super::model::{Actor, Fault, Next};
use super::reference::CellRef;
use super::reply;
use super::supervision::Directive;
use crate::wire::message::Message;
use std::any::Any;

/// How an activation ended. One byte, so that it comes back in a register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// The mailbox is empty.
    Idle,
    /// There may be more messages.
    More,
    /// There may be more messages, and the driver wants the core back.
    Interrupted,
    /// A future has to finish first.
    Suspended,
    /// The actor wants to stop.
    Stop,
    /// It failed; the fault lies in [`Local::fault`].
    Failed,
}

/// How an activation begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// With what waits in the mailbox.
    Mailbox,
    /// With messages that come straight from another core.
    Arrivals,
    /// With ticks.
    Ticks,
}

/// One activation in this many is timed, for the mean handling time of its type.
const SAMPLE_EVERY: u64 = 256;

/// Messages of one activation between two looks at whether the driver wants the core back.
pub(super) const MESSAGES_PER_LOOK: u32 = 32;

/// Activations between two looks at the clock.
pub(crate) const ACTIVATIONS_PER_CLOCK: u64 = 16;

/// An actor in its cell.
pub(crate) struct ActorBody<A> {
    pub(crate) actor: A,
    pub(crate) stage: Stage,
}

/// How results find their way back to an actor that may have moved meanwhile.
pub(super) type RecipientOf<M> = fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<M>;

impl<A: Actor> ActorBody<A> {
    pub(super) fn run(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        budget: u32,
    ) -> Ran {
        let mut ctx = Context::new(local, at, place, recipient);
        if let Some(ran) = self.begin(&mut ctx, Entry::Mailbox) {
            return ran;
        }
        let mut left = budget;
        while left > 0 {
            left -= 1;
            if ctx.local.tracer.is_some() {
                match self.watch_next(&mut ctx) {
                    Watched::Handle => {}
                    Watched::Dropped => continue,
                    Watched::Ended(ran) => return ran,
                }
            }
            let Some(mail) = ctx.local.waiting_mail::<A::Msg>(at) else {
                return Ran::Idle;
            };
            if mail.stops_next() {
                ctx.local.next_sealed::<A::Msg>(at);
                return Ran::Stop;
            }
            let message = mail.take();
            if let Some(ran) = self.handle(message, &mut ctx) {
                return ran;
            }
            if left.is_multiple_of(MESSAGES_PER_LOOK) {
                if left == 0 {
                    break;
                }
                if ctx.local.clock.wants_to_yield() {
                    ctx.local.interrupted = Some((at, left));
                    return Ran::Interrupted;
                }
            }
        }
        Ran::More
    }

    pub(super) fn run_on_arrivals(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        batch: &mut dyn Any,
    ) -> Ran {
        let Some(batch) = batch.downcast_mut::<ActorBatch<A::Msg>>() else {
            return Ran::Idle;
        };
        let mut ctx = Context::new(local, at, place, recipient);
        if let Some(ran) = self.begin(&mut ctx, Entry::Arrivals) {
            return ran;
        }
        // At least one: nobody is asked to handle arrivals in a turn that has no more.
        let mut left = ctx.local.arrivals;
        while batch.has_next_for(at) {
            if ctx.local.tracer.is_some() {
                match self.watch_arrival(batch, &mut ctx) {
                    Watched::Handle => {}
                    Watched::Dropped => continue,
                    Watched::Ended(ran) => return ran,
                }
            }
            let message = batch.take_next();
            if let Some(ran) = self.handle(message, &mut ctx) {
                return ran;
            }
            left -= 1;
            if left.is_multiple_of(MESSAGES_PER_LOOK.into())
                && (left == 0 || ctx.local.clock.wants_to_yield())
            {
                break;
            }
        }
        Ran::More
    }

    /// Starts the actor, unless it has been. Returns how the activation ended, if that is its end.
    #[inline(always)]
    pub(super) fn begin(&mut self, ctx: &mut Context<'_, A>, entry: Entry) -> Option<Ran> {
        match self.stage {
            Stage::Started => None,
            Stage::New | Stage::Restored => {
                self.stage = Stage::Started;
                self.pre_start(ctx)
            }
            _ => self.begin_again(ctx, entry),
        }
    }

    fn pre_start(&mut self, ctx: &mut Context<'_, A>) -> Option<Ran> {
        match self.actor.pre_start(ctx) {
            Ok(()) => ctx.is_suspended().then_some(Ran::Suspended),
            Err(fault) => Some(ctx.local.failed(fault)),
        }
    }

    /// Goes on with the start of an actor that was restarted, until it has handled a message.
    #[cold]
    #[inline(never)]
    fn begin_again(&mut self, ctx: &mut Context<'_, A>, entry: Entry) -> Option<Ran> {
        if self.stage == Stage::Reborn {
            self.stage = Stage::Renewed;
            if let Some(fault) = ctx.local.fault_of_last_life(ctx.at) {
                let restarted = self.actor.post_restart(&fault, ctx);
                ctx.local.forget_fault(ctx.at);
                drop_guarded(fault);
                match restarted {
                    Ok(()) if ctx.is_suspended() => return Some(Ran::Suspended),
                    Ok(()) => {}
                    Err(fault) => return Some(ctx.local.failed(fault)),
                }
            }
        }
        if self.stage == Stage::Renewed {
            self.stage = Stage::Starting;
            if let Some(ran) = self.pre_start(ctx) {
                return Some(ran);
            }
        }
        self.stage = Stage::Probation;
        match entry {
            Entry::Mailbox => self.prove(ctx),
            // They go through the mailbox this once, where it is seen how the first one fares.
            Entry::Arrivals => Some(Ran::More),
            Entry::Ticks => None,
        }
    }

    /// Handles the first message after a restart.
    fn prove(&mut self, ctx: &mut Context<'_, A>) -> Option<Ran> {
        while ctx.local.tracer.is_some() {
            match self.watch_next(ctx) {
                Watched::Handle => break,
                Watched::Dropped => {}
                Watched::Ended(ran) => return Some(ran),
            }
        }
        let mail = ctx.local.waiting_mail::<A::Msg>(ctx.at)?;
        if mail.stops_next() {
            return None;
        }
        let message = mail.take();
        let ran = self.handle(message, ctx);
        if matches!(ran, None | Some(Ran::Stop)) {
            self.proven(ctx);
        }
        ran
    }

    /// A message was handled: if it was the first after a restart, that was a success.
    pub(super) fn proven(&mut self, ctx: &mut Context<'_, A>) {
        if self.stage == Stage::Probation {
            self.stage = Stage::Started;
            ctx.local.restart_succeeded(ctx.at);
        }
    }

    /// Handles one message. Returns how the activation ended, if that is its end.
    #[inline(always)]
    pub(super) fn handle(&mut self, message: A::Msg, ctx: &mut Context<'_, A>) -> Option<Ran> {
        reply::count_handled();
        match self.actor.receive(message, ctx) {
            Ok(Next::Continue) => ctx.is_suspended().then_some(Ran::Suspended),
            Ok(Next::Stop) => Some(Ran::Stop),
            Err(fault) => Some(ctx.local.failed(fault)),
        }
    }

    pub(super) fn resume(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        then: Box<dyn Any>,
    ) -> Ran {
        if then.is::<Delayed>() {
            return Ran::More;
        }
        let mut ctx = Context::new(local, at, place, recipient);
        let Ok(then) = then.downcast::<Resume<A>>() else {
            return ctx
                .local
                .failed(Fault::new("the continuation is not of the actor's type"));
        };
        match then.0(&mut self.actor, &mut ctx) {
            Ok(Next::Continue) if ctx.is_suspended() => Ran::Suspended,
            // A restart is not through with its `post_restart`, and no message need come that would go on with it.
            Ok(Next::Continue) if self.stage == Stage::Renewed => self
                .begin_again(&mut ctx, Entry::Ticks)
                .unwrap_or(Ran::More),
            Ok(Next::Continue) => {
                self.proven(&mut ctx);
                Ran::More
            }
            Ok(Next::Stop) => Ran::Stop,
            Err(fault) => ctx.local.failed(fault),
        }
    }

    pub(super) fn post_stop(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
    ) {
        if self.has_begun() {
            self.actor
                .post_stop(&mut Context::last(local, at, place, recipient));
        }
    }

    pub(super) fn settle_for_the_end(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
    ) {
        self.actor
            .settle_for_the_end(&mut Context::of_hook(local, at, place, recipient));
    }

    /// Whether any of its code has run.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::New | Stage::Reborn)
    }

    pub(super) fn pre_restart(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        fault: &Fault,
    ) {
        if self.has_begun() {
            self.actor
                .pre_restart(fault, &mut Context::last(local, at, place, recipient));
        }
    }

    pub(super) fn on_error(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        fault: &Fault,
    ) -> Option<Directive> {
        self.actor
            .on_error(fault, &mut Context::of_hook(local, at, place, recipient))
    }
}

impl Local {
    pub(crate) fn schedule(&mut self, at: CellRef) {
        if let Some(cell) = self.cells.get(at)
            && !cell.scheduled
        {
            cell.scheduled = true;
            self.ready.push_back(at);
        }
    }

    /// Runs one ready actor. Returns `false` if nobody is ready.
    #[inline]
    pub(crate) fn run_next(&mut self) -> bool {
        let next = match &mut self.choose {
            Some(choose) if self.ready.len() > 1 => {
                let index = choose(self.ready.len());
                self.ready.remove(index)
            }
            _ => self.ready.pop_front(),
        };
        let Some(at) = next else { return false };
        if self.tasks.detours.any() && (self.must_not_run(at) || self.run_on_ticks(at)) {
            return true;
        }
        if let Some((kind, body, budget)) = self.begin_turn(at) {
            self.activate(at, kind, body, |body, local| body.run(local, at, budget));
        }
        true
    }

    /// Takes an actor whose turn it is out of its cell; its kind, and how many messages it may handle.
    #[inline(always)]
    pub(super) fn begin_turn(&mut self, at: CellRef) -> Option<(usize, Box<dyn Body>, u32)> {
        let cell = self.cells.get(at)?;
        if cell.suspended {
            // Unsealing its shard has put it into the queue a second time.
            return None;
        }
        let body = cell.body.take()?;
        // What arrives meanwhile has to wait, or an actor that sends to itself would not let others in.
        let mut budget = cell.queue.len().min(self.limits.activation_messages);
        // An actor that was interrupted goes on with what is left of its turn, not with another.
        if let Some((interrupted, left)) = self.interrupted.take()
            && interrupted == at
        {
            budget = budget.min(left);
        }
        Some((usize::from(cell.kind), body, budget))
    }

    /// Whether an actor may handle a message right when it arrives from another core: if nobody is before it, neither in
    /// the actor's mailbox nor, as soon as this turn has handled as many arrivals as it may, on the core.
    #[inline(always)]
    pub(crate) fn may_handle_arrivals<M: Message>(&mut self, at: CellRef) -> bool {
        if self.arrivals == 0 || self.yield_wanted || self.tasks.detours.sealed {
            return false;
        }
        if let Some(choose) = &mut self.choose
            && choose(2) == 0
        {
            return false;
        }
        let class = self.class_id::<M>();
        self.cells
            .get(at)
            .is_some_and(|cell| !cell.scheduled && cell.class == class)
    }

    /// Has an actor handle the messages for it that come next in a batch. They do not pass through its mailbox, which
    /// would cost as much as all the rest.
    #[inline]
    pub(crate) fn handle_arrivals<M: Message>(&mut self, at: CellRef, batch: &mut ActorBatch<M>) {
        let Some(cell) = self.cells.get(at) else {
            return;
        };
        let Some(body) = cell.body.take() else { return };
        cell.scheduled = true;
        let kind = usize::from(cell.kind);
        let before = self.counters.handled;
        self.activate(at, kind, body, |body, local| {
            body.run_on_arrivals(local, at, batch)
        });
        let handled = self.counters.handled - before;
        self.arrivals = self.arrivals.saturating_sub(handled);
        self.see_how_long_arrivals_take();
    }

    /// Has no more arrivals handled in this turn once those that were have taken its time.
    #[inline(always)]
    pub(super) fn see_how_long_arrivals_take(&mut self) {
        if self
            .counters
            .activations
            .is_multiple_of(ACTIVATIONS_PER_CLOCK)
        {
            self.clock_read = self.clock.now();
            if self.clock_read >= self.now + self.limits.turn_time {
                self.arrivals = 0;
            }
        }
    }

    #[cold]
    pub(super) fn failed(&mut self, fault: Fault) -> Ran {
        self.fault = Some(fault);
        Ran::Failed
    }

    /// Continues a suspended actor, even of a shard that is about to leave: it leaves once nobody is suspended.
    pub(crate) fn resume(&mut self, at: CellRef, life: u64, then: Box<dyn Any>) {
        if self.tasks.detours.sealed && self.has_lapsed_for(at) {
            // It goes on when the lease has been renewed.
            return self.park(at, life, then);
        }
        let is_same = self.life(at) == life;
        if let Some(cell) = self.cells.get(at)
            && cell.suspended
            && is_same
        {
            cell.suspended = false;
            self.count_suspended(at, -1);
            if let Some(cell) = self.cells.get(at)
                && let Some(body) = cell.body.take()
            {
                let kind = usize::from(cell.kind);
                self.activate(at, kind, body, move |body, local| {
                    body.resume(local, at, then)
                });
            }
            self.see_to_ticks(at);
        }
    }

    #[inline]
    pub(super) fn activate(
        &mut self,
        at: CellRef,
        kind: usize,
        mut body: Box<dyn Body>,
        work: impl FnOnce(&mut dyn Body, &mut Local) -> Ran,
    ) {
        self.counters.activations += 1;
        let before = reply::handled();
        let timed = self
            .counters
            .activations
            .is_multiple_of(SAMPLE_EVERY)
            .then(|| self.clock.now());
        let ran = guarded(|| work(&mut *body, self))
            .unwrap_or_else(|panic| self.failed(Fault::panicked(panic)));
        let handled = reply::handled() - before;
        self.counters.handled += handled;
        let known = &mut self.kinds[kind];
        known.messages += handled;
        if let Some(started) = timed {
            known.sampled += self.clock.now() - started;
            known.sampled_messages += handled;
        }
        if self.clock.wants_to_yield() {
            self.yield_wanted = true;
            self.account_for_time(kind);
        }
        if reply::has_orphans() {
            self.settle_orphans(ran == Ran::Failed);
        }
        if matches!(ran, Ran::Idle | Ran::More) {
            self.put_back(at, body, ran);
        } else {
            self.leave(at, body, ran);
        }
        if !self.faulty.is_empty() {
            self.end_faulty();
        }
    }

    /// Ends an activation that does not simply wait for its next turn.
    #[cold]
    #[inline(never)]
    fn leave(&mut self, at: CellRef, body: Box<dyn Body>, ran: Ran) {
        match ran {
            Ran::Idle | Ran::More | Ran::Interrupted => self.put_back(at, body, ran),
            Ran::Suspended => {
                if let Some(cell) = self.cells.get(at) {
                    cell.body = Some(body);
                    cell.suspended = true;
                    self.count_suspended(at, 1);
                }
            }
            Ran::Stop => self.end_actor(at, body, StopCause::Wanted),
            Ran::Failed => {
                let fault = self
                    .fault
                    .take()
                    .unwrap_or_else(|| Fault::new("an unknown fault"));
                self.actor_failed(at, body, fault);
            }
        }
    }

    /// Puts an actor back into its cell, and into the ready queue if messages wait for it.
    #[inline(always)]
    fn put_back(&mut self, at: CellRef, body: Box<dyn Body>, ran: Ran) {
        let Some(mut cell) = self.cells.get(at) else {
            return;
        };
        if cell.has_waiting {
            self.let_waiting_in(at);
            match self.cells.get(at) {
                Some(known) => cell = known,
                None => return,
            }
        }
        cell.body = Some(body);
        cell.scheduled = !cell.queue.is_empty();
        if cell.scheduled {
            // Who was interrupted goes on where it was, or it would fall behind those who send to it.
            match ran {
                Ran::Interrupted => self.ready.push_front(at),
                _ => self.ready.push_back(at),
            }
        }
    }

    /// The shard of a sealed entity leaves this core: the entity runs at its target.
    #[cold]
    pub(super) fn must_not_run(&mut self, at: CellRef) -> bool {
        let place = self
            .cells
            .get(at)
            .and_then(|cell| cell.body.as_ref())
            .and_then(|body| body.entity());
        place.is_some_and(|place| {
            let region = &self.region_states[usize::from(place.region)];
            region.is_lapsed || region.sealed[place.shard as usize]
        })
    }

    fn count_suspended(&mut self, at: CellRef, change: i32) {
        let place = self
            .cells
            .get(at)
            .and_then(|cell| cell.body.as_ref())
            .and_then(|body| body.entity());
        self.count_suspended_at(place, change);
    }

    pub(super) fn count_suspended_of(&mut self, body: &dyn Body, change: i32) {
        self.count_suspended_at(body.entity(), change);
    }

    fn count_suspended_at(&mut self, place: Option<EntityPlace>, change: i32) {
        self.suspended = self.suspended.saturating_add_signed(change as isize);
        if let Some(place) = place {
            let suspended = &mut self.region_states[usize::from(place.region)].suspended;
            let count = suspended.entry(place.shard).or_default();
            *count = count.saturating_add_signed(change);
            if *count == 0 {
                suspended.remove(&place.shard);
            }
        }
    }
}
