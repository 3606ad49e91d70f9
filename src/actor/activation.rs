//! Running actors: one activation handles a few messages of one actor, and whatever goes wrong in it ends here.

use super::cell::{Body, EntityPlace};
use super::context::{Context, Recipient, Resume};
use super::entity::EntityBody;
use super::entity_id::EntityId;
use super::local::Local;
use super::mailbox::Mail;
use super::model::{Actor, Fault, Next};
use super::reference::{ActorRef, CellRef};
use super::refusal::{Rejection, SpawnError, panic_text};
use super::reply;
use crate::wire::message::Message;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Why an actor stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// It said so, or was told to.
    Wanted,
    /// It failed.
    Failed,
    /// Its core stops.
    Shutdown,
}

/// One activation in this many is timed, for the mean handling time of its type.
const SAMPLE_EVERY: u64 = 256;

/// Messages of one activation between two looks at whether the driver wants the core back.
const MESSAGES_PER_LOOK: u32 = 32;

/// An actor in its cell.
pub(crate) struct ActorBody<A> {
    pub(crate) actor: A,
    /// `pre_start` has run.
    pub(crate) started: bool,
}

/// How results find their way back to an actor that may have moved meanwhile.
type RecipientOf<M> = fn(&mut Local, CellRef, Option<EntityPlace>) -> Recipient<M>;

impl<A: Actor> ActorBody<A> {
    fn run(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        budget: u32,
    ) -> Ran {
        let mut ctx = Context::new(local, at, place, recipient);
        if !self.started {
            self.started = true;
            if let Err(fault) = self.actor.pre_start(&mut ctx) {
                return ctx.local.failed(fault);
            }
            if ctx.suspended {
                return Ran::Suspended;
            }
        }
        let mut left = budget;
        while left > 0 {
            left -= 1;
            if ctx.local.tracer.is_some() {
                ctx.local
                    .trace_next::<A::Msg>(at, std::any::type_name::<A>());
            }
            let Some(mail) = ctx.local.next_mail::<A::Msg>(at) else {
                return Ran::Idle;
            };
            let Mail::User(message) = mail else {
                return Ran::Stop;
            };
            ctx.local.counters.handled += 1;
            match self.actor.receive(message.open(), &mut ctx) {
                Ok(Next::Continue) => {}
                Ok(Next::Stop) => return Ran::Stop,
                Err(fault) => return ctx.local.failed(fault),
            }
            if ctx.suspended {
                return Ran::Suspended;
            }
            if left.is_multiple_of(MESSAGES_PER_LOOK)
                && left > 0
                && ctx.local.clock.wants_to_yield()
            {
                return Ran::Interrupted;
            }
        }
        Ran::More
    }

    fn resume(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        then: Box<dyn Any>,
    ) -> Ran {
        let mut ctx = Context::new(local, at, place, recipient);
        let Ok(then) = then.downcast::<Resume<A>>() else {
            return ctx
                .local
                .failed(Fault::new("the continuation is not of the actor's type"));
        };
        match then.0(&mut self.actor, &mut ctx) {
            Ok(Next::Continue) if ctx.suspended => Ran::Suspended,
            Ok(Next::Continue) => Ran::More,
            Ok(Next::Stop) => Ran::Stop,
            Err(fault) => ctx.local.failed(fault),
        }
    }

    fn post_stop(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
    ) {
        if self.started {
            self.actor
                .post_stop(&mut Context::new(local, at, place, recipient));
        }
    }
}

fn actor_recipient<M: Message>(
    local: &mut Local,
    at: CellRef,
    _place: Option<EntityPlace>,
) -> Recipient<M> {
    Recipient::Actor(ActorRef::new(local.home, local.core, at))
}

fn entity_recipient<I: EntityId, M: Message>(
    local: &mut Local,
    at: CellRef,
    place: Option<EntityPlace>,
) -> Recipient<M> {
    match place.and_then(|place| local.entity_of::<I, M>(place, at.slot())) {
        Some((region, id)) => Recipient::Entity(Box::new(move |local, message| {
            local.bring_to_entity(region, id.as_key(), message)
        })),
        None => actor_recipient(local, at, None),
    }
}

impl<A: Actor> Body for ActorBody<A> {
    fn run(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran {
        self.run(local, at, None, actor_recipient, budget)
    }

    fn resume(&mut self, local: &mut Local, at: CellRef, then: Box<dyn Any>) -> Ran {
        self.resume(local, at, None, actor_recipient, then)
    }

    fn post_stop(&mut self, local: &mut Local, at: CellRef) {
        self.post_stop(local, at, None, actor_recipient);
    }

    fn admit_waiting(&self, local: &mut Local, at: CellRef) {
        local.admit_waiting::<A::Msg>(at);
    }

    fn discard_mailbox(&self, local: &mut Local, at: CellRef) {
        local.discard_mailbox::<A::Msg>(at, Rejection::Stopped);
    }
}

impl<A: Actor, I: EntityId> Body for EntityBody<A, I> {
    fn run(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran {
        let before = local.counters.handled;
        let ran = self.inner.run(
            local,
            at,
            Some(self.place),
            entity_recipient::<I, A::Msg>,
            budget,
        );
        let now = local.now;
        let handled = local.counters.handled - before;
        let region = &mut local.region_states[usize::from(self.place.region)];
        region.handled[self.place.shard as usize] += handled;
        if let Some(recency) = &mut region.recency {
            recency.touch(at.slot(), now);
        }
        ran
    }

    fn resume(&mut self, local: &mut Local, at: CellRef, then: Box<dyn Any>) -> Ran {
        self.inner.resume(
            local,
            at,
            Some(self.place),
            entity_recipient::<I, A::Msg>,
            then,
        )
    }

    fn post_stop(&mut self, local: &mut Local, at: CellRef) {
        self.inner
            .post_stop(local, at, Some(self.place), entity_recipient::<I, A::Msg>);
    }

    fn admit_waiting(&self, local: &mut Local, at: CellRef) {
        local.admit_waiting::<A::Msg>(at);
    }

    fn discard_mailbox(&self, local: &mut Local, at: CellRef) {
        local.discard_mailbox::<A::Msg>(at, Rejection::Stopped);
    }

    fn entity(&self) -> Option<EntityPlace> {
        Some(self.place)
    }
}

/// Drops a user's value; a panic in its destructor ends here.
pub(crate) fn drop_guarded<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!(of = std::any::type_name::<T>(), panic = %panic_text(&*panic), "a destructor panicked");
    }
}

pub(crate) fn drop_body(body: Box<dyn Body>) {
    drop_guarded(body);
}

impl Local {
    /// Starts an actor on this core.
    pub(crate) fn spawn_actor<A: Actor>(
        &mut self,
        factory: impl FnOnce() -> A,
        mailbox: Option<super::mailbox::Mailbox>,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        if self.draining {
            return Err(Rejection::ShuttingDown.into());
        }
        let actor = catch_unwind(AssertUnwindSafe(factory)).map_err(|panic| {
            SpawnError::FactoryPanicked {
                actor: std::any::type_name::<A>(),
                panic: panic_text(&*panic),
            }
        })?;
        let class = self.class_id::<A::Msg>();
        let kind = self.kind_id::<A>();
        let mailbox = mailbox.unwrap_or(self.limits.mailbox);
        let at = self.cells.allocate(
            class,
            kind,
            mailbox,
            Box::new(ActorBody {
                actor,
                started: false,
            }),
        );
        // So that `pre_start` runs even if nobody ever sends anything.
        self.schedule(at);
        Ok(ActorRef::new(self.home, self.core, at))
    }

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
        // The shard of a sealed entity leaves this core: the entity runs at its target.
        if self.tasks.any_sealed && self.must_not_run(at) {
            return true;
        }
        if let Some(cell) = self.cells.get(at)
            && !cell.suspended // or unsealing its shard has put it into the queue a second time
            && let Some(body) = cell.body.take()
        {
            let kind = usize::from(cell.kind);
            // What arrives meanwhile has to wait, or an actor that sends to itself would not let others in.
            let budget = cell.queue.len().min(self.limits.activation_messages);
            self.activate(at, kind, body, |body, local| body.run(local, at, budget));
        }
        true
    }

    #[cold]
    fn failed(&mut self, fault: Fault) -> Ran {
        self.fault = Some(fault);
        Ran::Failed
    }

    /// Continues a suspended actor, even of a shard that is about to leave: it leaves once nobody is suspended.
    pub(crate) fn resume(&mut self, at: CellRef, then: Box<dyn Any>) {
        if let Some(cell) = self.cells.get(at)
            && cell.suspended
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
        }
    }

    #[inline]
    fn activate(
        &mut self,
        at: CellRef,
        kind: usize,
        mut body: Box<dyn Body>,
        work: impl FnOnce(&mut dyn Body, &mut Local) -> Ran,
    ) {
        self.counters.activations += 1;
        let before = self.counters.handled;
        let timed = self
            .counters
            .activations
            .is_multiple_of(SAMPLE_EVERY)
            .then(|| self.clock.now());
        let ran = catch_unwind(AssertUnwindSafe(|| work(&mut *body, self)))
            .unwrap_or_else(|panic| self.failed(Fault::panicked(panic_text(&*panic))));
        let handled = self.counters.handled - before;
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
                self.end_failed(at, body, &fault);
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
            body.admit_waiting(self, at);
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

    /// Ends the actors whose code failed outside of their activations.
    #[cold]
    pub(crate) fn end_faulty(&mut self) {
        while let Some((at, fault)) = self.faulty.pop() {
            self.fail_actor(at, &fault);
        }
    }

    /// Looks at the clock on behalf of a future that has just been polled.
    pub(crate) fn account_for_future(&mut self, name: &'static str) {
        let now = self.clock.now();
        let held = now - self.clock_read;
        self.clock_read = now;
        if held > self.limits.stall {
            self.counters.stalls += 1;
            tracing::warn!(core = %self.core, future = name, held_ms = held.as_millis() as u64, "a future held its core too long");
        }
    }

    /// Looks at the clock on behalf of the actor that has just run: who held the core too long is counted and logged.
    #[cold]
    fn account_for_time(&mut self, kind: usize) {
        let now = self.clock.now();
        let held = now - self.clock_read;
        self.clock_read = now;
        let known = &mut self.kinds[kind];
        known.longest = known.longest.max(held);
        if held > self.limits.stall {
            known.stalls += 1;
            self.counters.stalls += 1;
            tracing::warn!(core = %self.core, actor = known.name, held_ms = held.as_millis() as u64, "a handler held its core too long");
        }
    }

    /// Ends an actor because code of its own failed outside of its activation.
    pub(crate) fn fail_actor(&mut self, at: CellRef, fault: &Fault) {
        if let Some(cell) = self.cells.get(at)
            && let Some(body) = cell.body.take()
        {
            if std::mem::take(&mut cell.suspended) {
                self.count_suspended_of(&*body, -1);
            }
            self.end_failed(at, body, fault);
        }
    }

    #[cold]
    fn end_failed(&mut self, at: CellRef, body: Box<dyn Body>, fault: &Fault) {
        if let Some(kind) = self.cells.get(at).map(|cell| cell.kind) {
            self.count_fault(kind);
            let entity = body
                .entity()
                .map(|place| self.regions[usize::from(place.region)].describe(place, at.slot()))
                .unwrap_or_default();
            let actor = self.kinds[usize::from(kind)].name;
            tracing::error!(core = %self.core, actor, entity, panic = fault.is_panic(), %fault, "an actor failed and is stopped");
        }
        self.end_actor(at, body, StopCause::Failed);
    }

    pub(crate) fn count_fault(&mut self, kind: u16) {
        self.counters.faults += 1;
        self.kinds[usize::from(kind)].faults += 1;
    }

    /// Stops an actor: its hook, its state, its mailbox, its cell. An entity that stops of its own accord while messages
    /// wait for it starts again with them, and nothing is lost.
    pub(crate) fn end_actor(&mut self, at: CellRef, mut body: Box<dyn Body>, cause: StopCause) {
        if let Some(place) = body.entity() {
            let waiting = self
                .cells
                .get(at)
                .is_some_and(|cell| !cell.queue.is_empty());
            if cause == StopCause::Wanted && waiting {
                match self.regions[usize::from(place.region)].revive(place, at.slot()) {
                    Ok(fresh) => return self.replace_body(at, body, fresh),
                    Err(panic) => {
                        tracing::error!(core = %self.core, %panic, "the factory of an entity panicked");
                    }
                }
            }
            self.regions[usize::from(place.region)].forget(place, at.slot());
            let region = &mut self.region_states[usize::from(place.region)];
            region.active -= 1;
            if let Some(recency) = &mut region.recency {
                recency.remove(at.slot());
            }
        }
        self.run_post_stop(at, &mut *body);
        drop_body(body);
        self.cells.release(at);
        if reply::has_orphans() {
            self.settle_orphans(cause == StopCause::Failed);
        }
    }

    /// Stops one life of an entity and starts the next with the same mailbox.
    fn replace_body(&mut self, at: CellRef, mut stopped: Box<dyn Body>, fresh: Box<dyn Body>) {
        // Stopping discards what lies in the mailbox, so the mailbox is put aside.
        let queue = self
            .cells
            .get(at)
            .map(|cell| std::mem::take(&mut cell.queue));
        self.run_post_stop(at, &mut *stopped);
        drop_body(stopped);
        if let (Some(cell), Some(queue)) = (self.cells.get(at), queue) {
            cell.queue = queue;
            cell.body = Some(fresh);
            cell.scheduled = true;
            self.ready.push_back(at);
        }
    }

    pub(crate) fn run_post_stop(&mut self, at: CellRef, body: &mut dyn Body) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body.post_stop(self, at))) {
            tracing::error!(core = %self.core, panic = %panic_text(&*panic), "a post_stop hook panicked");
        }
        body.discard_mailbox(self, at);
    }

    /// Stops an entity that is not needed; a message that arrives later starts it again. Returns whether it could be
    /// stopped: one with work to do stays.
    pub(crate) fn passivate(&mut self, at: CellRef) -> bool {
        let Some(cell) = self.cells.get(at) else {
            return false;
        };
        if cell.scheduled || cell.suspended || !cell.queue.is_empty() {
            return false;
        }
        let Some(body) = cell.body.take() else {
            return false;
        };
        self.counters.passivations += 1;
        self.end_actor(at, body, StopCause::Wanted);
        true
    }

    #[cold]
    fn must_not_run(&mut self, at: CellRef) -> bool {
        let place = self
            .cells
            .get(at)
            .and_then(|cell| cell.body.as_ref())
            .and_then(|body| body.entity());
        place.is_some_and(|place| {
            self.region_states[usize::from(place.region)].sealed[place.shard as usize]
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

    fn count_suspended_of(&mut self, body: &dyn Body, change: i32) {
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
