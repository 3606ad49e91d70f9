//! The lease of a node, at its cores: without it, entities of leased types do not run, because another node may run them
//! by now.
//!
//! A core looks at it before it runs entities and before what they have sent leaves. Sealed entities keep their state and
//! take messages into their mailboxes as far as those have room; timers and asynchronous handlers wait: no future that is
//! part of one is polled. What an entity has spawned beside its handlers goes on, as do actors that it has spawned. When the lease is
//! renewed, they go on. What a core has written for other nodes in the turn in which the lease lapsed does not leave,
//! whoever has written it, unless all types keep running.

use super::local::{Local, TimerEvent};
use super::mutant::Mutant;
use super::reference::CellRef;
use super::refusal::{Rejection, Uncertainty};
use super::remote::Lease;
use super::task::TaskId;
use crate::base::ids::{EntityTypeId, ShardId, ShardKey};
use std::any::Any;
use std::collections::BTreeSet;

/// What goes on when the lease has been renewed: an asynchronous handler of an entity.
pub(crate) struct Parked {
    at: CellRef,
    life: u64,
    then: Box<dyn Any>,
}

impl Local {
    /// Takes the node's lease over, as its coordination core tells it.
    pub(crate) fn set_lease(&mut self, lease: Lease) {
        if let Some(remote) = &mut self.remote {
            remote.lease = lease;
        }
        self.see_to_lease();
    }

    /// At the beginning of a turn: seals the entities of leased types if the lease has lapsed, and lets them run if it is
    /// valid again.
    pub(crate) fn see_to_lease(&mut self) {
        let now = self.now;
        let mutant = self.mutant == Some(Mutant::IgnoreLease);
        let Some(remote) = &mut self.remote else {
            return;
        };
        let lapsed = !remote.lease.is_valid(now) && !mutant;
        if std::mem::replace(&mut remote.lapsed, lapsed) == lapsed {
            return;
        }
        if lapsed {
            // A node that has just joined has none yet, and no entities either.
            if (self.hosted_of_leased().iter()).any(|(_, shards)| !shards.is_empty()) {
                tracing::warn!(core = %self.core, "the lease of this node has lapsed; its entities wait");
            }
            // What handlers have written since the last flush: they may have run on beyond it.
            if self.has_leased() {
                self.discard_turn();
            }
        }
        for region in &mut self.region_states {
            region.is_lapsed = lapsed && region.is_leased;
        }
        self.look_for_sealed();
        if lapsed {
            return;
        }
        for (number, shards) in self.hosted_of_leased() {
            for shard in shards {
                self.wake_shard(ShardKey {
                    entity_type: EntityTypeId(number),
                    shard,
                });
            }
        }
        for Parked { at, life, then } in std::mem::take(&mut self.parked) {
            self.resume(at, life, then);
        }
        for task in std::mem::take(&mut self.laid_aside) {
            self.give_time_anew(task);
            self.tasks.wake_again(task);
        }
    }

    /// Whether there are entities of which a handler may have run on beyond the lease.
    fn has_leased(&self) -> bool {
        self.region_states.iter().any(|region| region.is_leased)
    }

    fn hosted_of_leased(&self) -> Vec<(u16, Vec<ShardId>)> {
        let leased = (0..).zip(&self.region_states);
        leased
            .filter(|(_, region)| region.is_leased)
            .map(|(number, region)| {
                let hosted = (0..).map(ShardId).zip(&region.hosted);
                let hosted = hosted.filter(|(_, hosted)| **hosted);
                (number, hosted.map(|(shard, _)| shard).collect())
            })
            .collect()
    }

    /// Whether any entity must not run, so that it is looked at each before it does.
    pub(crate) fn look_for_sealed(&mut self) {
        let mut regions = self.region_states.iter();
        self.tasks.detours.sealed =
            regions.any(|region| region.is_lapsed || region.sealed.contains(&true));
    }

    /// Whether the node had no lease when this turn began.
    pub(super) fn has_lapsed(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.lapsed)
    }

    /// Whether this is an entity that waits for the lease.
    pub(super) fn has_lapsed_for(&mut self, at: CellRef) -> bool {
        let body = self.cells.get(at).and_then(|cell| cell.body.as_ref());
        let place = body.and_then(|body| body.entity());
        place.is_some_and(|place| self.region_states[usize::from(place.region)].is_lapsed)
    }

    /// Whether a future is part of a handler of an entity that waits for the lease; or of one of an actor that is no more, or begins
    /// anew, which may have been an entity.
    pub(crate) fn waits_for_lease(&mut self, task: TaskId) -> bool {
        self.tasks.detours.sealed
            && self.mutant != Some(Mutant::PollsWithoutLease)
            && (self.tasks.owner_of(task)).is_some_and(|owner| match self.has_body(owner) {
                true => self.has_lapsed_for(owner),
                false => self.has_lapsed() && self.has_leased(),
            })
    }

    fn has_body(&mut self, at: CellRef) -> bool {
        self.cells.get(at).is_some_and(|cell| cell.body.is_some())
    }

    /// Has a woken future of an entity wait for the lease.
    pub(crate) fn lay_aside(&mut self, task: TaskId) {
        self.laid_aside.push(task);
    }

    /// A future has the time of asynchronous handlers from now on, if it had it.
    pub(super) fn give_time_anew(&mut self, id: TaskId) {
        let deadline = self.now + self.limits.async_deadline;
        if let Some(timer) = self.tasks.deadline_of(id) {
            self.timers.cancel(*timer);
            *timer = self
                .timers
                .insert(deadline, TimerEvent::Deadline { task: id });
        }
    }

    /// The handlers of the entities of these shards that are under way go no further: they are other nodes' now. So it is with
    /// what is left of handlers of actors that are no more, for those may have been such entities.
    pub(crate) fn end_handlers(&mut self, lost: &BTreeSet<ShardKey>) {
        if lost.is_empty() || self.tasks.len() == 0 {
            return;
        }
        let cells = &mut self.cells;
        let timers = self.tasks.end_of(|owner| {
            let body = cells.get(owner).and_then(|cell| cell.body.as_ref());
            body.is_none_or(|body| {
                let key = body.entity().map(|at| ShardKey {
                    entity_type: EntityTypeId(at.region),
                    shard: ShardId(at.shard),
                });
                key.is_some_and(|key| lost.contains(&key))
            })
        });
        for timer in timers {
            self.timers.cancel(timer);
        }
    }

    /// Has an asynchronous handler wait for the lease.
    pub(super) fn park(&mut self, at: CellRef, life: u64, then: Box<dyn Any>) {
        self.parked.push(Parked { at, life, then });
    }

    /// Before what was written in this turn leaves: whether entities might run now. Of a turn that began without a lease
    /// everything may leave, for no entity has run in it.
    pub(super) fn check_lease(&self) -> bool {
        match &self.remote {
            Some(_) if self.mutant == Some(Mutant::IgnoreLease) => true,
            Some(remote) if !remote.lapsed => match remote.lease {
                Lease::Until(_) => remote.lease.is_valid(self.clock.now()) || !self.has_leased(),
                Lease::NotNeeded | Lease::Lapsed => true,
            },
            _ => true,
        }
    }

    /// Takes back what was written for other nodes in this turn: the lease has lapsed meanwhile.
    #[cold]
    pub(super) fn discard_turn(&mut self) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        let (mut gone, mut nobodys, mut passed_on) = (Vec::new(), Vec::new(), Vec::new());
        for link in remote.links.values_mut() {
            let taken_back = link.take_back_unflushed();
            gone.extend(taken_back.frames);
            nobodys.extend(taken_back.entrusted);
            passed_on.extend(taken_back.passed_on);
        }
        self.not_sent(gone, Rejection::NoControlQuorum);
        // What is left of them was passed on: a handler has seen it.
        for address in nobodys {
            self.fail_ask(address, Uncertainty::DroppedUnanswered.into());
        }
        for (origin, target) in passed_on {
            self.send_failure(origin, target, Rejection::NoControlQuorum.into());
        }
    }

    /// Why a message is refused for which there is no room: with entities that wait for the lease it is for want of that.
    #[cold]
    pub(super) fn why_full(&self, region: u16, why: Rejection) -> Rejection {
        let waits = self.region_states[usize::from(region)].is_lapsed;
        match why {
            Rejection::MailboxFull | Rejection::CoreBudget if waits => Rejection::NoControlQuorum,
            why => why,
        }
    }

    /// The same for a message to this actor, which may be an entity.
    #[cold]
    pub(super) fn why_full_at(&mut self, at: CellRef, why: Rejection) -> Rejection {
        if self.tasks.detours.sealed && self.has_lapsed_for(at) {
            Rejection::NoControlQuorum
        } else {
            why
        }
    }
}
