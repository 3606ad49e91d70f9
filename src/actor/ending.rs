//! How actors end: the hook, the state, the mailbox and the cell, in this order; and how an entity for which something
//! waits begins its next life.

use super::cell::{Body, EntityPlace};
use super::events::ActorStopped;
use super::guard::{drop_guarded, guarded};
use super::local::Local;
use super::reference::CellRef;
use super::refusal::Rejection;
use super::reply;

/// Why an actor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StopCause {
    /// It said so, or was told to; an entity also when it was idle, or one too many, or had to leave its core without its
    /// state.
    Wanted,
    /// It failed.
    Failed,
    /// Its parent stopped or was restarted, or it shared the fate of a sibling that failed.
    Supervisor,
    /// Its core stops.
    Shutdown,
    /// Its node has gone: it has left the cluster, is down, or has been started anew. What became of the actor is not known,
    /// but it is not there any more, and nothing that it says is heard. Only watchers on other nodes hear this.
    NodeGone,
}

impl Local {
    /// Stops an actor.
    pub(crate) fn end_actor(&mut self, at: CellRef, mut body: Box<dyn Body>, cause: StopCause) {
        self.end_children(at);
        self.end_timers(at);
        self.end_subscriptions(at);
        let stopped = self.is_stopping(at, || body.entity(), cause);
        match body.entity() {
            Some(place) if cause == StopCause::Wanted => self.end_life(at, body, place, stopped),
            place => {
                if let Some(place) = place {
                    self.leave_region(at, place);
                }
                self.run_post_stop(at, &mut *body);
                self.discard_mail(at, Rejection::Stopped);
                drop_guarded(body);
                self.release(at, cause);
                self.has_stopped(stopped);
            }
        }
        if reply::has_orphans() {
            self.settle_orphans(cause == StopCause::Failed);
        }
    }

    /// Ends one life of an entity that stops of its own accord. A reference to an entity is not bound to a life, so what
    /// waits for it, awaited sends included, is for its next one, which begins when this one has ended.
    fn end_life(
        &mut self,
        at: CellRef,
        mut body: Box<dyn Body>,
        place: EntityPlace,
        stopped: Option<Box<ActorStopped>>,
    ) {
        self.run_post_stop(at, &mut *body);
        drop_guarded(body);
        self.forget(at, StopCause::Wanted);
        self.has_stopped(stopped);
        if let Some(ops) = self.mailbox_ops(at) {
            (ops.withdraw_stop)(self, at);
        }
        let waits = self
            .cells
            .get(at)
            .is_some_and(|cell| !cell.queue.is_empty() || cell.has_waiting);
        let why = match waits.then(|| self.begin_next_life(at, place)) {
            Some(Ok(())) => return,
            Some(Err(why)) => why,
            None => Rejection::Stopped,
        };
        self.leave_region(at, place);
        self.discard_mail(at, why);
        self.cells.release(at);
    }

    /// Gives back the cell of an actor that has ended.
    #[inline]
    pub(super) fn release(&mut self, at: CellRef, cause: StopCause) {
        self.forget(at, cause);
        self.cells.release(at);
    }

    /// Forgets what is known of an actor beside its cell.
    #[inline]
    fn forget(&mut self, at: CellRef, cause: StopCause) {
        self.cells.disown(at);
        if !self.watches.is_empty() {
            self.end_watches(at, cause);
        }
        if !self.profiles.is_empty() {
            self.drop_profile(at);
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_profile(&mut self, at: CellRef) {
        if let Some(profile) = self.profiles.remove(at) {
            if let Some(path) = &profile.path {
                self.handle.gate().directory.strike(path);
            }
            drop_guarded(profile);
        }
    }

    /// Gives the cell of a life that has ended to the next, under a reference of its own: continuations, deadlines and
    /// stops that are still under way know the old one.
    fn begin_next_life(&mut self, at: CellRef, place: EntityPlace) -> Result<(), Rejection> {
        let fresh = match self.regions[usize::from(place.region)].revive(place, at.slot()) {
            Some(Ok(fresh)) => fresh,
            Some(Err(panic)) => {
                let kind = self.region_states[usize::from(place.region)].kind;
                self.count_fault(kind);
                tracing::error!(core = %self.core, %panic, "the factory of an entity panicked");
                return Err(Rejection::StartFailed);
            }
            // Its shard is leaving, and with it whoever is to have another life.
            None => return Err(Rejection::Stopped),
        };
        let Some(next) = self.cells.renew(at, fresh) else {
            return Err(Rejection::Stopped);
        };
        if let Some(recency) = &mut self.region_states[usize::from(place.region)].recency {
            recency.touch(at.slot(), self.now);
        }
        self.let_waiting_in(next);
        self.schedule(next);
        self.has_started(next, Some(place));
        Ok(())
    }

    pub(super) fn leave_region(&mut self, at: CellRef, place: EntityPlace) {
        self.regions[usize::from(place.region)].forget(place, at.slot());
        let region = &mut self.region_states[usize::from(place.region)];
        region.active -= 1;
        if let Some(recency) = &mut region.recency {
            recency.remove(at.slot());
        }
    }

    pub(crate) fn run_post_stop(&mut self, at: CellRef, body: &mut dyn Body) {
        if let Err(panic) = guarded(|| body.post_stop(self, at)) {
            tracing::error!(core = %self.core, panic, "a post_stop hook panicked");
        }
    }

    /// Stops an entity that is not needed; a message that arrives later starts it again. Returns whether it could be
    /// stopped: one with work to do stays.
    pub(crate) fn passivate(&mut self, at: CellRef) -> bool {
        if self.tasks.detours.sealed && self.must_not_run(at) {
            // It is on its way elsewhere, or waits for the lease of its node.
            return false;
        }
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
}
