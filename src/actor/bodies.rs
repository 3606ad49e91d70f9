//! What lies in a cell: an actor as it was spawned, or an entity. Both run the same actor; they differ in how results find
//! their way back to it, and in what makes it again.

use super::activation::Ran;
use super::cell::{Body, EntityPlace};
use super::context::Recipient;
use super::entity::{EntityBody, Stage};
use super::entity_id::EntityId;
use super::local::Local;
use super::model::{Actor, Fault};
use super::reference::{ActorRef, CellRef};
use super::reply;
use super::spawn::{PlainBody, Remake, Seed};
use super::supervision::{Directive, Supervision};
use super::wire_region::Progress;
use crate::wire::message::{Message, WireMessage};
use std::any::Any;

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

impl<A: Actor, R: Remake<A>> Body for PlainBody<A, R> {
    fn run(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran {
        self.inner.run(local, at, None, actor_recipient, budget)
    }

    fn run_on_ticks(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran {
        self.inner
            .run_on_ticks(local, at, None, actor_recipient, budget)
    }

    fn run_on_arrivals(&mut self, local: &mut Local, at: CellRef, batch: &mut dyn Any) -> Ran {
        self.inner
            .run_on_arrivals(local, at, None, actor_recipient, batch)
    }

    fn resume(&mut self, local: &mut Local, at: CellRef, then: Box<dyn Any>) -> Ran {
        self.inner.resume(local, at, None, actor_recipient, then)
    }

    fn post_stop(&mut self, local: &mut Local, at: CellRef) {
        self.inner.post_stop(local, at, None, actor_recipient);
    }

    fn settle_for_the_end(&mut self, local: &mut Local, at: CellRef) {
        self.inner
            .settle_for_the_end(local, at, None, actor_recipient);
    }

    fn on_error(&mut self, local: &mut Local, at: CellRef, fault: &Fault) -> Option<Directive> {
        self.inner.on_error(local, at, None, actor_recipient, fault)
    }

    fn pre_restart(&mut self, local: &mut Local, at: CellRef, fault: &Fault) {
        self.inner
            .pre_restart(local, at, None, actor_recipient, fault);
    }

    fn supervision(&self) -> Supervision {
        self.inner.actor.supervision()
    }

    fn begin_again(&mut self) {
        self.inner.stage = Stage::Reborn;
    }

    fn take_seed(&mut self) -> Option<Seed> {
        self.remake.take_seed()
    }
}

impl<A: Actor, I: EntityId> EntityBody<A, I> {
    /// Has the entity do some work, and accounts for it.
    #[inline(always)]
    fn accounted(
        &mut self,
        local: &mut Local,
        at: CellRef,
        work: impl FnOnce(&mut super::activation::ActorBody<A>, &mut Local, Option<EntityPlace>) -> Ran,
    ) -> Ran {
        let before = reply::handled();
        let ran = work(&mut self.inner, local, Some(self.place));
        let now = local.now;
        let handled = reply::handled() - before;
        let region = &mut local.region_states[usize::from(self.place.region)];
        region.handled[self.place.shard as usize] += handled;
        if let Some(recency) = &mut region.recency {
            recency.touch(at.slot(), now);
        }
        ran
    }
}

impl<A: Actor<Msg: WireMessage>, I: EntityId> EntityBody<A, I> {
    /// Handles a message of another node where it lies.
    pub(super) fn run_in_place(
        &mut self,
        local: &mut Local,
        at: CellRef,
        archived: &<A::Msg as rkyv::Archive>::Archived,
        progress: &mut Progress,
    ) -> Ran {
        self.accounted(local, at, |inner, local, place| {
            let recipient = entity_recipient::<I, A::Msg>;
            inner.run_in_place(local, at, place, recipient, archived, progress)
        })
    }
}

impl<A: Actor, I: EntityId> Body for EntityBody<A, I> {
    fn arrive_again(&mut self) {
        if !matches!(self.inner.stage, Stage::New | Stage::Reborn) {
            self.inner.stage = Stage::Restored;
        }
    }

    fn run(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran {
        self.accounted(local, at, |inner, local, place| {
            inner.run(local, at, place, entity_recipient::<I, A::Msg>, budget)
        })
    }

    fn run_on_ticks(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran {
        self.accounted(local, at, |inner, local, place| {
            inner.run_on_ticks(local, at, place, entity_recipient::<I, A::Msg>, budget)
        })
    }

    fn run_on_arrivals(&mut self, local: &mut Local, at: CellRef, batch: &mut dyn Any) -> Ran {
        self.accounted(local, at, |inner, local, place| {
            inner.run_on_arrivals(local, at, place, entity_recipient::<I, A::Msg>, batch)
        })
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

    fn settle_for_the_end(&mut self, local: &mut Local, at: CellRef) {
        let (place, recipient) = (Some(self.place), entity_recipient::<I, A::Msg>);
        self.inner.settle_for_the_end(local, at, place, recipient);
    }

    fn entity(&self) -> Option<EntityPlace> {
        Some(self.place)
    }

    fn on_error(&mut self, local: &mut Local, at: CellRef, fault: &Fault) -> Option<Directive> {
        let (place, recipient) = (Some(self.place), entity_recipient::<I, A::Msg>);
        self.inner.on_error(local, at, place, recipient, fault)
    }

    fn pre_restart(&mut self, local: &mut Local, at: CellRef, fault: &Fault) {
        let (place, recipient) = (Some(self.place), entity_recipient::<I, A::Msg>);
        self.inner.pre_restart(local, at, place, recipient, fault);
    }

    fn supervision(&self) -> Supervision {
        self.inner.actor.supervision()
    }

    fn begin_again(&mut self) {
        self.inner.stage = Stage::Reborn;
    }

    fn take_seed(&mut self) -> Option<Seed> {
        Some(Seed::Entity(self.place))
    }
}
