//! What is done when an actor has failed: it goes on, is made again, or stops, alone or with its siblings; or its parent
//! answers for it.
//!
//! An actor that is restarted keeps its cell, and with it its address, its mailbox and its watchers. Everything here is
//! rare, and out of line.

use super::cell::{Body, Cell, EntityPlace};
use super::ending::StopCause;
use super::guard::{drop_guarded, guarded, shown};
use super::local::{Local, TimerEvent};
use super::model::Fault;
use super::profiles::Waiting;
use super::reference::CellRef;
use super::refusal::Rejection;
use super::reply;
use super::spawn::Seed;
use super::supervision::{Directive, Strategy, Supervision};
use crate::base::time::Time;
use std::rc::Rc;
use std::time::Duration;

/// A factory that has panicked is not called again in the same turn: it might panic for ever.
const BEFORE_ANOTHER_TRY: Duration = Duration::from_millis(1);

/// A fault of code that an actor has given away, such as what makes a message of an outcome.
pub(crate) struct LateFault {
    at: CellRef,
    /// How often the actor had been restarted by then: a state that came later is not to blame.
    restarts: u64,
    fault: Fault,
}

/// What came of making an actor again.
enum Grown {
    Body(Box<dyn Body>),
    /// The factory panicked.
    Panicked(String, Seed),
    /// The entity is about to leave with its shard, and starts afresh where it arrives.
    Leaving(Seed),
}

impl Local {
    /// Has an actor fail, as soon as nothing is running, because code of its own has.
    pub(crate) fn fault_later(&mut self, at: CellRef, fault: Fault) {
        let restarts = self.restarts(at);
        self.faulty.push_back(LateFault {
            at,
            restarts,
            fault,
        });
    }

    /// Has the actors fail whose code failed outside of their activations, in the order in which it did.
    #[cold]
    pub(crate) fn end_faulty(&mut self) {
        while let Some(LateFault {
            at,
            restarts,
            fault,
        }) = self.faulty.pop_front()
        {
            if self.restarts(at) == restarts {
                self.fail_actor(at, fault);
            } else {
                self.note_fault_of_last_life(at, fault);
            }
        }
    }

    /// Counts a fault of a state that has been replaced because of another one since.
    fn note_fault_of_last_life(&mut self, at: CellRef, fault: Fault) {
        if let Some(kind) = self.cells.get(at).map(|cell| cell.kind) {
            self.count_fault(kind);
            let said = shown(format_args!("{fault}"));
            tracing::error!(core = %self.core, fault = said, "an actor that was restarted had failed in another way as well");
        }
        drop_guarded(fault);
    }

    fn restarts(&self, at: CellRef) -> u64 {
        self.profiles
            .get(at)
            .map_or(0, |profile| profile.restarts.total())
    }

    /// Has an actor fail because code of its own failed outside of its activation.
    pub(crate) fn fail_actor(&mut self, at: CellRef, fault: Fault) {
        let waits_for_turn = |cell: &mut Cell| cell.scheduled && !cell.suspended;
        let has_turn = self.cells.get(at).is_some_and(waits_for_turn);
        if let Some(body) = self.take_body(at) {
            self.actor_failed(at, body, fault);
            if has_turn {
                // Whoever goes on has been given another one, and would keep both for as long as messages wait.
                self.ready.withdraw(at);
            }
        } else {
            drop_guarded(fault);
        }
    }

    /// Takes an actor out of its cell, even one that waits for a future.
    fn take_body(&mut self, at: CellRef) -> Option<Box<dyn Body>> {
        let cell = self.cells.get(at)?;
        let body = cell.body.take()?;
        if std::mem::take(&mut cell.suspended) {
            self.count_suspended_of(&*body, -1);
        }
        Some(body)
    }

    /// Decides what is done about a fault, and does it.
    #[cold]
    pub(super) fn actor_failed(&mut self, at: CellRef, mut body: Box<dyn Body>, fault: Fault) {
        let place = body.entity();
        let asked = guarded(|| body.on_error(self, at, &fault)).unwrap_or_else(|panic| {
            tracing::error!(core = %self.core, panic, "an on_error hook panicked");
            None
        });
        let supervision = self.supervision_of(at, place);
        let (directive, ruling) = match asked {
            Some(directive) => (directive, &supervision),
            None => supervision.ruling(&fault),
        };
        self.report_fault(at, place, &fault, directive);
        if let Some(cell) = self.cells.get(at) {
            cell.body = Some(body);
            // So that nobody has it run before this is settled.
            cell.scheduled = true;
        }
        self.follow(at, fault, directive, ruling);
        drop_guarded(supervision);
        if reply::has_orphans() {
            self.settle_orphans(true);
        }
    }

    /// Does what has been decided about a fault.
    fn follow(
        &mut self,
        at: CellRef,
        fault: Fault,
        directive: Directive,
        supervision: &Supervision,
    ) {
        let fault = Rc::new(fault);
        match directive {
            Directive::Resume => self.let_go_on(at),
            Directive::Restart | Directive::Stop => {
                self.carry_out(at, &fault, directive, supervision);
            }
            Directive::Escalate => self.escalate(at, &fault),
        }
        drop_guarded(fault);
    }

    fn report_fault(
        &mut self,
        at: CellRef,
        place: Option<EntityPlace>,
        fault: &Fault,
        directive: Directive,
    ) {
        let Some(kind) = self.cells.get(at).map(|cell| cell.kind) else {
            return;
        };
        self.count_fault(kind);
        let path = self.path_of(at, place);
        let actor = self.kinds[usize::from(kind)].name;
        let said = shown(format_args!("{fault}"));
        tracing::error!(core = %self.core, actor, path, panic = fault.is_panic(), fault = said, ?directive, "an actor failed");
    }

    pub(crate) fn count_fault(&mut self, kind: u16) {
        self.counters.faults += 1;
        self.kinds[usize::from(kind)].faults += 1;
    }

    /// How an actor is supervised: as its behaviour says, and around that as is said from outside.
    fn supervision_of(&mut self, at: CellRef, place: Option<EntityPlace>) -> Supervision {
        let around = self.supervision_around(at, place);
        let own = self.profiles.get(at).and_then(|known| known.own.clone());
        match own {
            Some(own) => own.inside(around),
            None => around,
        }
    }

    /// How an actor is supervised from outside: as it was spawned, or as its entity type or its parent says. A root of
    /// which nothing is said stops.
    fn supervision_around(&mut self, at: CellRef, place: Option<EntityPlace>) -> Supervision {
        if let Some(own) = self
            .profiles
            .get(at)
            .and_then(|profile| profile.supervision.clone())
        {
            return own;
        }
        if let Some(place) = place {
            return self.region_states[usize::from(place.region)]
                .supervision
                .clone();
        }
        let Some(parent) = self.cells.parent(at) else {
            return Supervision::always(Directive::Stop);
        };
        let of_parent = self.cells.get(parent).and_then(|cell| cell.body.as_ref());
        of_parent.map_or_else(Supervision::default, |body| {
            guarded(|| body.supervision()).unwrap_or_else(|panic| {
                tracing::error!(panic, "the supervision of an actor's children panicked");
                Supervision::default()
            })
        })
    }

    /// Restarts or stops an actor, and whom of its siblings its supervision includes. Their bodies lie in their cells; that
    /// of the actor itself is missing if it could not be made again.
    fn carry_out(
        &mut self,
        at: CellRef,
        fault: &Rc<Fault>,
        directive: Directive,
        supervision: &Supervision,
    ) {
        let group = self.concerned(at, supervision.strategy);
        let now = self.now;
        if directive == Directive::Restart
            && self.profiles.entry(at).restarts.allow(now, supervision)
        {
            let (backoff, who) = (&supervision.backoff, at.slot().into());
            let mut wait = self.profiles.entry(at).restarts.delay(now, who, backoff);
            let was_tried = self.note_failed_restart(at, fault);
            if self.draining {
                // A shutdown waits for nobody longer than it must.
                wait = Duration::ZERO;
            }
            if was_tried {
                wait = wait.max(BEFORE_ANOTHER_TRY);
            }
            let mut to_restart: Vec<_> = group
                .into_iter()
                .filter(|member| self.unmake(*member, fault) || was_tried && *member == at)
                .collect();
            // They ended youngest first, and begin oldest first.
            while let Some(member) = to_restart.pop() {
                self.restart_after(member, wait);
            }
            return;
        }
        if directive == Directive::Restart {
            let place = self.entity_in(at);
            let path = self.path_of(at, place);
            tracing::error!(core = %self.core, path, ?supervision, "an actor has been restarted as often as it may, and stops");
        }
        for member in group {
            let cause = if member == at {
                StopCause::Failed
            } else {
                StopCause::Supervisor
            };
            self.stop_now(member, cause);
        }
    }

    /// The actor and those of its siblings that share its fate, the youngest first.
    fn concerned(&self, at: CellRef, strategy: Strategy) -> Vec<CellRef> {
        let Some(parent) = self.cells.parent(at) else {
            return vec![at];
        };
        let siblings = self.cells.children(parent);
        match strategy {
            Strategy::OneForOne => vec![at],
            Strategy::AllForOne => siblings.collect(),
            Strategy::RestForOne => {
                let mut younger: Vec<_> = siblings.take_while(|sibling| *sibling != at).collect();
                younger.push(at);
                younger
            }
        }
    }

    /// Ends the present state of an actor that is to be restarted, its children first. Returns whether it is: not one
    /// that waits for its restart already, and one that cannot be made again is stopped.
    fn unmake(&mut self, at: CellRef, fault: &Rc<Fault>) -> bool {
        let Some(mut body) = self.take_body(at) else {
            return false;
        };
        let place = body.entity();
        let Some(seed) = body.take_seed() else {
            let path = self.path_of(at, None);
            tracing::error!(core = %self.core, path, "an actor whose factory was not kept cannot be restarted, and stops");
            self.end_actor(at, body, StopCause::Failed);
            return false;
        };
        self.end_children(at);
        self.end_timers(at);
        self.end_subscriptions(at);
        if let Err(panic) = guarded(|| body.pre_restart(self, at, fault)) {
            tracing::error!(core = %self.core, panic, "a pre_restart hook panicked");
        }
        drop_guarded(body);
        let now = self.now;
        let profile = self.profiles.entry(at);
        profile.restarts.note(now);
        drop_guarded(profile.fault.replace(fault.clone()));
        profile.waiting = Some(Waiting { seed, timer: None });
        let restarts = profile.restarts.total();
        if let Some(cell) = self.cells.get(at) {
            cell.scheduled = true;
        }
        self.counters.restarts += 1;
        self.publish_restarted(at, place, fault, restarts);
        true
    }

    /// Counts the fault of a factory that was to make an actor again, which still waits for it, as one more restart.
    fn note_failed_restart(&mut self, at: CellRef, fault: &Rc<Fault>) -> bool {
        let now = self.now;
        let Some(profile) = self
            .profiles
            .get_mut(at)
            .filter(|profile| profile.waiting.is_some())
        else {
            return false;
        };
        profile.restarts.note(now);
        drop_guarded(profile.fault.replace(fault.clone()));
        self.counters.restarts += 1;
        true
    }

    fn restart_after(&mut self, at: CellRef, wait: Duration) {
        if wait.is_zero() {
            return self.restart_now(at);
        }
        self.restart_at(at, self.now + wait);
    }

    fn restart_at(&mut self, at: CellRef, due: Time) {
        let timer = self.timers.insert(due, TimerEvent::Restart(at));
        if let Some(profile) = self.profiles.get_mut(at)
            && let Some(waiting) = &mut profile.waiting
        {
            waiting.timer = Some(timer);
        }
    }

    /// Makes an actor again that waits for it.
    pub(crate) fn restart_now(&mut self, at: CellRef) {
        if self.cells.get(at).is_none() {
            return;
        }
        let Some(Waiting { seed, timer }) = self
            .profiles
            .get_mut(at)
            .and_then(|profile| profile.waiting.take())
        else {
            return;
        };
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        match self.grow(at, seed) {
            Grown::Body(mut body) => {
                body.begin_again();
                if let Some(cell) = self.cells.get(at) {
                    cell.body = Some(body);
                    cell.scheduled = false;
                }
                self.let_waiting_in(at);
                self.schedule(at);
            }
            Grown::Panicked(panic, seed) => self.could_not_grow(at, panic, seed),
            Grown::Leaving(seed) => {
                self.profiles.entry(at).waiting = Some(Waiting { seed, timer: None });
            }
        }
    }

    fn grow(&mut self, at: CellRef, seed: Seed) -> Grown {
        let place = match seed {
            Seed::Entity(place) => place,
            Seed::Plain(seed) => {
                return match seed.sow() {
                    Ok(body) => Grown::Body(body),
                    Err((panic, seed)) => Grown::Panicked(panic, seed),
                };
            }
        };
        match self.regions[usize::from(place.region)].revive(place, at.slot()) {
            Some(Ok(body)) => Grown::Body(body),
            Some(Err(panic)) => Grown::Panicked(panic, Seed::Entity(place)),
            None => Grown::Leaving(Seed::Entity(place)),
        }
    }

    /// A factory has panicked in a restart, which is a fault like any other.
    fn could_not_grow(&mut self, at: CellRef, panic: String, seed: Seed) {
        let place = seed.place();
        self.profiles.entry(at).waiting = Some(Waiting { seed, timer: None });
        let supervision = self.supervision_of(at, place);
        let fault = Fault::panicked(panic);
        let (directive, ruling) = supervision.ruling(&fault);
        self.report_fault(at, place, &fault, directive);
        self.follow(at, fault, directive, ruling);
        drop_guarded(supervision);
    }

    /// Restarts all that wait for it, since the core is about to end.
    pub(crate) fn restart_all(&mut self) {
        for slot in self.profiles.waiting() {
            if let Some(at) = self.cells.tenant(slot) {
                self.restart_now(at);
            }
        }
    }

    /// Has an actor that has failed go on as it is. One that could not be made again has nothing to go on with, and stops.
    fn let_go_on(&mut self, at: CellRef) {
        let Some(cell) = self.cells.get(at) else {
            return;
        };
        if cell.body.is_none() {
            return self.stop_now(at, StopCause::Failed);
        }
        cell.scheduled = false;
        // What the handler that has failed awaited must not be taken for what the next one awaits.
        self.profiles.entry(at).restarts.resumed();
        // It may have waited while they became due.
        self.see_to_ticks(at);
        self.let_waiting_in(at);
        self.schedule(at);
    }

    /// Asks the parents, one after the other, about a fault for which nobody below answers.
    fn escalate(&mut self, at: CellRef, fault: &Rc<Fault>) {
        let mut failing = at;
        while let Some(parent) = self.cells.parent(failing) {
            let place = self.entity_in(parent);
            let supervision = self.supervision_of(parent, place);
            let (directive, ruling) = supervision.ruling(fault);
            let path = self.path_of(parent, place);
            tracing::error!(core = %self.core, path, ?directive, "a fault of a child was escalated");
            match directive {
                Directive::Resume => self.let_go_on(at),
                Directive::Restart | Directive::Stop => {
                    self.carry_out(parent, fault, directive, ruling);
                }
                Directive::Escalate => {}
            }
            drop_guarded(supervision);
            if directive != Directive::Escalate {
                return;
            }
            failing = parent;
        }
        self.stop_now(failing, StopCause::Failed);
    }

    /// Stops an actor whatever it is doing, unless it is running.
    pub(crate) fn stop_now(&mut self, at: CellRef, cause: StopCause) {
        if let Some(body) = self.take_body(at) {
            return self.end_actor(at, body, cause);
        }
        let waiting = self
            .profiles
            .get_mut(at)
            .and_then(|profile| profile.waiting.take());
        if let Some(Waiting { seed, timer }) = waiting
            && self.cells.get(at).is_some()
        {
            if let Some(timer) = timer {
                self.timers.cancel(timer);
            }
            let place = seed.place();
            let stopped = self.is_stopping(at, || place, cause);
            if let Some(place) = place {
                self.leave_region(at, place);
            }
            self.discard_mail(at, Rejection::Stopped);
            drop_guarded(seed);
            self.release(at, cause);
            self.has_stopped(stopped);
        }
    }

    /// Ends all descendants of an actor: of the children the youngest first, and each after its own.
    #[inline]
    pub(super) fn end_children(&mut self, of: CellRef) {
        if self.cells.youngest_child(of).is_some() {
            self.end_descendants(of);
        }
    }

    /// (A loop, since a family may be deeper than a stack.)
    #[cold]
    #[inline(never)]
    fn end_descendants(&mut self, of: CellRef) {
        let mut at = of;
        loop {
            if let Some(child) = self.cells.youngest_child(at) {
                at = child;
                continue;
            }
            if at == of {
                return;
            }
            let Some(parent) = self.cells.parent(at) else {
                return;
            };
            self.stop_now(at, StopCause::Supervisor);
            at = parent;
        }
    }

    /// Why an actor was restarted, for its hook. If that panics, what it was given must not be the last of the fault,
    /// whose destructor is the user's too.
    pub(super) fn fault_of_last_life(&mut self, at: CellRef) -> Option<Rc<Fault>> {
        self.profiles.get(at)?.fault.clone()
    }

    pub(super) fn forget_fault(&mut self, at: CellRef) {
        drop_guarded(
            self.profiles
                .get_mut(at)
                .and_then(|profile| profile.fault.take()),
        );
    }

    /// An actor has handled a message after its restart.
    pub(super) fn restart_succeeded(&mut self, at: CellRef) {
        if let Some(profile) = self.profiles.get_mut(at) {
            profile.restarts.succeeded();
        }
    }

    /// Which life of an actor this is: futures that suspended an earlier one, or a handler that failed, must not touch it.
    #[inline]
    pub(super) fn life(&self, at: CellRef) -> u64 {
        if self.profiles.is_empty() {
            return 0;
        }
        self.profiles
            .get(at)
            .map_or(0, |profile| profile.restarts.life())
    }
}
