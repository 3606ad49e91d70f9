//! Event-sourced actors as actors: recovery, one command after another, and snapshots.

use super::effect::{Effect, First, Sequel};
use super::event_sourced::{EventSourced, SourcedContext};
use super::save::{Save, Saves, count_failure};
use crate::actor::entity::EntityType;
use crate::actor::entity_id::EntityId;
use crate::actor::guard::{drop_guarded, guarded};
use crate::actor::model::{Actor, Fault, Next};
use crate::actor::refusal::TaskError;
use crate::actor::supervision::{Directive, Supervision};
use crate::base::ids::Epoch;
use crate::persistence::error::{JournalError, SourcingError};
use crate::persistence::id::PersistenceId;
use crate::persistence::journal::{AnyRecords, Journal, SharedJournal, Work};
use crate::persistence::lease::Lease;
use crate::persistence::progress::Progress;
use crate::persistence::record::{Payload, Record, Sequence};
use crate::wire::message::WireMessage;
use std::fmt;
use std::sync::Arc;

/// Makes an [`Actor`] of an [`EventSourced`] one.
///
/// There is one live holder of a persistence id among all actors with the same journal, on whatever core or runtime: a
/// second one fails when it starts ([`SourcingError::Held`]) and handles nothing. The id is free again when its holder has
/// stopped or failed.
///
/// ```
/// # use corecast::{Effect, EventSourced, Fault, Handle, InMemoryJournal, Sourced, SourcedContext, SpawnError};
/// # fn example<Ledger: EventSourced + Default>(handle: Handle) -> Result<(), SpawnError> {
/// let journal = InMemoryJournal::default();
/// let ledger = handle.spawn(move || Sourced::new("ledger".into(), journal, Ledger::default())).wait()?;
/// # let _ = ledger;
/// # Ok(())
/// # }
/// ```
pub struct Sourced<E: EventSourced> {
    behavior: E,
    journal: SharedJournal,
    progress: Progress,
    /// Held from the start to the end.
    lease: Option<Lease>,
    /// What follows from the events up to the last one. Away while an event is taken in, so that a panic there loses it.
    state: Option<E::State>,
    phase: Phase,
    saves: Arc<Saves>,
}

/// What the state is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not all events are in it yet.
    Recovering,
    /// Commands are decided by it.
    Ready,
    /// Events are on their way to the journal. If they never come back, they may be stored or not, so that only another
    /// recovery shows what the state is.
    Writing,
}

/// What is awaited of the journal.
#[derive(Clone, Copy)]
enum Step {
    Recovery { at: Sequence },
    Write { first: Sequence, last: Sequence },
}

impl Step {
    fn failed(self, id: PersistenceId, error: JournalError) -> SourcingError {
        match self {
            Step::Recovery { at } => SourcingError::Recovery { id, at, error },
            Step::Write { first, last } => SourcingError::Write {
                id,
                first,
                last,
                error,
            },
        }
    }
}

impl<E: EventSourced> Sourced<E> {
    /// Keeps the actor's events in `journal` under `id`.
    pub fn new(id: PersistenceId, journal: impl Journal, behavior: E) -> Sourced<E> {
        Sourced::shared(id, Arc::new(journal), behavior)
    }

    fn shared(id: PersistenceId, journal: SharedJournal, behavior: E) -> Sourced<E> {
        Sourced {
            progress: Progress::new(id, behavior.snapshots()),
            behavior,
            journal,
            lease: None,
            state: None,
            phase: Phase::Recovering,
            saves: Arc::default(),
        }
    }

    fn id(&self) -> PersistenceId {
        self.progress.id().clone()
    }

    /// Awaits the journal, and nobody but this actor waits. If it does not bring what it was asked for, the actor fails.
    fn wait<T: 'static>(
        &self,
        step: Step,
        work: Work<T>,
        ctx: &mut SourcedContext<'_, E>,
        then: impl FnOnce(&mut Self, T, &mut SourcedContext<'_, E>) -> Result<Next, Fault> + 'static,
    ) {
        let id = self.id();
        let failed = move |error| step.failed(id, error);
        let if_lost = failed.clone();
        ctx.suspend_or(
            work,
            |lost| {
                if_lost(match lost {
                    TaskError::Cancelled => JournalError::Overdue,
                    lost => JournalError::Storage {
                        what: lost.to_string(),
                    },
                })
                .into()
            },
            move |this, outcome, ctx| then(this, outcome.map_err(failed)?, ctx),
        );
    }

    fn recovery_failed(&self, error: JournalError) -> SourcingError {
        let at = self.progress.last().next();
        Step::Recovery { at }.failed(self.id(), error)
    }

    /// Begins with the snapshot.
    fn restore(
        &mut self,
        snapshot: Option<Record>,
        ctx: &mut SourcedContext<'_, E>,
    ) -> Result<Next, Fault> {
        let mut state = None;
        if let Some(snapshot) = &snapshot {
            let at = snapshot.sequence;
            let failed = |error| Step::Recovery { at }.failed(self.id(), error);
            self.progress.check(snapshot).map_err(failed)?;
            state = read::<E::State>(&snapshot.payload).map_err(failed)?;
        }
        if state.is_none()
            && let Some(snapshot) = &snapshot
        {
            self.progress.set_aside(snapshot.sequence);
        }
        let known = snapshot.filter(|_| state.is_some());
        if let Some(snapshot) = &known {
            self.saves.set_saved(snapshot.sequence);
        }
        self.progress.begin(known.map(|snapshot| snapshot.sequence));
        self.state = Some(state.unwrap_or_else(|| self.behavior.empty()));
        let next = self.progress.last().next();
        let records = self.journal.load(self.progress.id(), next);
        self.read_on(records, ctx);
        Ok(Next::Continue)
    }

    /// Reads page by page. Each has the time of an asynchronous handler, so a long history is no fault, and between two of
    /// them others have their turn.
    fn read_on(&self, records: Box<dyn AnyRecords>, ctx: &mut SourcedContext<'_, E>) {
        let at = self.progress.last().next();
        let work = records.next_page();
        self.wait(
            Step::Recovery { at },
            work,
            ctx,
            |this, (rest, page), ctx| {
                if page.is_empty() {
                    let whole = this.progress.check_end();
                    whole.map_err(|error| this.recovery_failed(error))?;
                    this.phase = Phase::Ready;
                    let state = this.state.as_ref().ok_or_else(lost)?;
                    this.behavior.recovered(state, ctx)?;
                    return Ok(Next::Continue);
                }
                for record in page {
                    this.replay(&record)?;
                }
                this.read_on(rest, ctx);
                Ok(Next::Continue)
            },
        );
    }

    fn replay(&mut self, record: &Record) -> Result<(), Fault> {
        let payload = &record.payload;
        let checked = self.progress.check_next(record);
        let read = checked.and_then(|()| read::<E::Event>(payload));
        let event = match read.map_err(|error| self.recovery_failed(error))? {
            Some(event) => event,
            None => self.upgrade(payload)?,
        };
        let folded = self.fold(&event);
        drop_guarded(event);
        folded
    }

    #[cold]
    fn upgrade(&self, old: &Payload) -> Result<E::Event, SourcingError> {
        let upgraded = guarded(|| E::upgrade(old).map_err(|fault| fault.to_string()));
        let error = match upgraded.and_then(|upgraded| upgraded) {
            Ok(Some(event)) => return Ok(event),
            Ok(None) => JournalError::UnknownType {
                fingerprint: old.fingerprint,
                version: old.version,
            },
            Err(why) => JournalError::Damaged {
                what: format!("it cannot be upgraded: {why}"),
            },
        };
        Err(self.recovery_failed(error))
    }

    /// Takes an event that is stored into the state.
    fn fold(&mut self, event: &E::Event) -> Result<(), Fault> {
        let state = self.state.take().ok_or_else(lost)?;
        // A recovery would meet the same panic, so it says at which event.
        let state = guarded(|| E::on_event(state, event)).map_err(|panic| {
            let (id, at) = (self.progress.id(), self.progress.last().next());
            Fault::panicked(format!("{id}, in the handler of event {at}: {panic}"))
        })?;
        self.state = Some(state);
        self.progress.folded();
        Ok(())
    }

    /// Has the behavior decide what to do, with its state.
    pub(super) fn decide(
        &mut self,
        decide: impl FnOnce(&mut E, &E::State) -> Result<Effect<E>, Fault>,
    ) -> Result<Effect<E>, Fault> {
        let known = self.state.as_ref().filter(|_| self.phase == Phase::Ready);
        let state = known.ok_or_else(lost)?;
        decide(&mut self.behavior, state)
    }

    /// Stores the events, folds them, and does the rest.
    pub(super) fn carry_out(
        &mut self,
        effect: Effect<E>,
        ctx: &mut SourcedContext<'_, E>,
    ) -> Result<Next, Fault> {
        let Effect { first, then, next } = effect;
        let events = match first {
            First::Persist(events) => events,
            First::Await(wait) => {
                wait(then, next, ctx);
                return Ok(Next::Continue);
            }
        };
        let mut sequel = Sequel::new(events, then);
        if sequel.events.is_empty() {
            return self.conclude(&mut sequel, next, ctx);
        }
        let payloads: Result<Vec<_>, _> = sequel.events.iter().map(Payload::of).collect();
        let writer = self.lease.as_ref().ok_or_else(lost)?.writer();
        let batch = self.progress.batch(writer, epoch(ctx), payloads?);
        let step = Step::Write {
            first: batch.first(),
            last: batch.last(),
        };
        self.phase = Phase::Writing;
        self.wait(
            step,
            self.journal.persist(batch),
            ctx,
            move |this, (), ctx| {
                this.phase = Phase::Ready;
                for event in &sequel.events {
                    this.fold(event)?;
                }
                if this.progress.is_snapshot_due() && !this.saves.any_under_way() {
                    this.save_snapshot(ctx);
                }
                this.conclude(&mut sequel, next, ctx)
            },
        );
        Ok(Next::Continue)
    }

    fn conclude(
        &mut self,
        sequel: &mut Sequel<E>,
        next: Next,
        ctx: &mut SourcedContext<'_, E>,
    ) -> Result<Next, Fault> {
        let state = self.state.as_ref().ok_or_else(lost)?;
        while let Some(run) = sequel.next() {
            run(state, ctx);
        }
        Ok(next)
    }

    /// Has the journal store the state as it is now; nobody waits for it, and whatever goes wrong is not the actor's fault.
    #[cold]
    fn save_snapshot(&mut self, ctx: &mut SourcedContext<'_, E>) {
        let Some(state) = &self.state else { return };
        let (id, sequence) = (self.id(), self.progress.begin_snapshot());
        let begun = guarded(|| {
            let payload = Payload::of(state).map_err(|error| error.to_string())?;
            let snapshot = Record::new(&id, sequence, epoch(ctx), payload);
            Ok(self.journal.save_snapshot(&id, snapshot))
        });
        match begun.and_then(|begun| begun) {
            Ok(work) => Save::start(ctx.local, self.saves.clone(), id, sequence, work),
            Err(why) => count_failure(ctx.local, &id, sequence, &why),
        }
    }

    /// Ends this life, but for what its behavior does about that.
    ///
    /// The state holds nothing but what is stored, so a last snapshot may be taken after a failure too, and be stored when the
    /// next life has begun. Once the core stops nobody would store it.
    fn end(&mut self, ctx: &mut SourcedContext<'_, E>) {
        let is_due = self.progress.is_last_snapshot_due(self.saves.saved());
        if is_due && self.phase != Phase::Recovering && !ctx.local.stopping {
            self.save_snapshot(ctx);
        }
        self.lease = None;
    }
}

/// The value in a record, if it is of this type.
fn read<T: WireMessage>(payload: &Payload) -> Result<Option<T>, JournalError> {
    let read = guarded(|| payload.read().map_err(|error| error.to_string()));
    let read = read.and_then(|read| read);
    read.map_err(|why| JournalError::Damaged {
        what: format!("its bytes are no {}: {why}", T::NAME),
    })
}

/// The epoch under which this core owns the entity.
fn epoch<E: EventSourced>(ctx: &SourcedContext<'_, E>) -> Epoch {
    ctx.epoch().unwrap_or_default()
}

#[cold]
fn lost() -> Fault {
    Fault::new(
        "the state is not known: this life has lost it in a failure, and only the next one recovers it",
    )
}

impl<E: EventSourced> Actor for Sourced<E> {
    type Msg = E::Command;

    fn pre_start(&mut self, ctx: &mut SourcedContext<'_, E>) -> Result<(), Fault> {
        self.lease = Some(self.journal.leases().take(self.progress.id())?);
        let work = self.journal.load_snapshot(self.progress.id());
        let at = Sequence::FIRST;
        self.wait(Step::Recovery { at }, work, ctx, Self::restore);
        Ok(())
    }

    fn receive(
        &mut self,
        command: E::Command,
        ctx: &mut SourcedContext<'_, E>,
    ) -> Result<Next, Fault> {
        let effect = self.decide(|behavior, state| behavior.on_command(state, command, ctx))?;
        self.carry_out(effect, ctx)
    }

    fn on_error(&mut self, fault: &Fault, ctx: &mut SourcedContext<'_, E>) -> Option<Directive> {
        self.behavior.on_error(fault, ctx)
    }

    fn supervision(&self) -> Supervision {
        self.behavior.supervision()
    }

    fn pre_restart(&mut self, fault: &Fault, ctx: &mut SourcedContext<'_, E>) {
        self.end(ctx);
        self.behavior.pre_restart(fault, ctx);
    }

    fn post_restart(
        &mut self,
        fault: &Fault,
        ctx: &mut SourcedContext<'_, E>,
    ) -> Result<(), Fault> {
        self.behavior.post_restart(fault, ctx)
    }

    fn post_stop(&mut self, ctx: &mut SourcedContext<'_, E>) {
        self.end(ctx);
        self.behavior.post_stop(ctx);
    }

    /// Takes the last snapshot while there is somebody who stores it; once, also if that fails.
    fn settle_for_the_end(&mut self, ctx: &mut SourcedContext<'_, E>) {
        let is_due = self.progress.is_last_snapshot_due(self.saves.saved());
        if is_due && self.phase != Phase::Recovering && self.progress.is_without_snapshot() {
            self.save_snapshot(ctx);
        }
    }
}

/// Each part is dropped for itself, so that one panic does not meet another.
impl<E: EventSourced> Drop for Sourced<E> {
    fn drop(&mut self) {
        drop_guarded(self.state.take());
    }
}

impl<E: EventSourced> fmt::Debug for Sourced<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sourced")
            .field("id", self.progress.id())
            .field("last", &self.progress.last())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl<E: EventSourced, I: EntityId + fmt::Display> EntityType<Sourced<E>, I> {
    /// Entities that are [event-sourced](EventSourced). None of their state is lost: one whose shard moves is stopped here and
    /// recovers there, as it does after a passivation or a failure.
    ///
    /// Their persistence ids are [`PersistenceId::of_entity`] of `name` and the id, so both must stay what they are. For
    /// ids that cannot be displayed, or that lie under other names, use [`ephemeral`](EntityType::ephemeral) with a factory
    /// that makes a [`Sourced`]; with [`send`](EntityType::send), the state moves as it is, without another recovery.
    pub fn event_sourced(
        name: &'static str,
        journal: impl Journal,
        factory: impl Fn(&I) -> E + Send + Sync + 'static,
    ) -> Self {
        let journal: SharedJournal = Arc::new(journal);
        EntityType::ephemeral(name, move |id| {
            let persistence_id = PersistenceId::of_entity(name, id);
            Sourced::shared(persistence_id, journal.clone(), factory(id))
        })
    }
}
