//! What the runtime publishes itself, and builds only while somebody wants it.

use super::cell::EntityPlace;
use super::ending::StopCause;
use super::events::{
    ActorInfo, ActorRestarted, ActorStarted, ActorStopped, DeadLetter, EntityInfo, MAX_TEXT,
    UnhandledMessage,
};
use super::guard::beginning;
use super::local::Local;
use super::model::Fault;
use super::reference::{ActorRef, CellRef, Home, Receiver};
use super::refusal::Rejection;
use crate::base::ids::{CoreId, EntityTypeId};
use crate::wire::message::Message;
use std::fmt;

impl Local {
    /// An actor, or one life of an entity, has begun.
    #[inline(always)]
    pub(crate) fn has_started(&mut self, at: CellRef, place: Option<EntityPlace>) {
        if self.events.started.is_wanted() {
            self.publish_started(at, place);
        }
    }

    #[cold]
    #[inline(never)]
    fn publish_started(&mut self, at: CellRef, place: Option<EntityPlace>) {
        let actor = self.actor_info(at, place);
        self.publish_wanted(ActorStarted { actor });
    }

    /// What is to be published when an actor has ended that is about to; `None` if nobody wants to know.
    #[inline(always)]
    pub(crate) fn is_stopping(
        &mut self,
        at: CellRef,
        place: impl FnOnce() -> Option<EntityPlace>,
        cause: StopCause,
    ) -> Option<Box<ActorStopped>> {
        if !self.events.stopped.is_wanted() {
            return None;
        }
        self.describe_stop(at, place(), cause)
    }

    #[cold]
    #[inline(never)]
    fn describe_stop(
        &mut self,
        at: CellRef,
        place: Option<EntityPlace>,
        cause: StopCause,
    ) -> Option<Box<ActorStopped>> {
        let actor = self.actor_info(at, place);
        Some(Box::new(ActorStopped { actor, cause }))
    }

    /// The same for an entity that is on its way out of its core, and has left its region.
    pub(crate) fn is_lost(
        &mut self,
        at: CellRef,
        region: u16,
        id: &dyn fmt::Debug,
        cause: StopCause,
    ) -> Option<Box<ActorStopped>> {
        if !self.events.stopped.is_wanted() {
            return None;
        }
        let entity = EntityInfo {
            entity_type: self.region_states[usize::from(region)].name,
            id: beginning_of(&id),
        };
        let actor = ActorInfo {
            entity: Some(entity),
            ..self.actor_info(at, None)
        };
        Some(Box::new(ActorStopped { actor, cause }))
    }

    /// An actor is about to be made again because of a fault.
    pub(super) fn publish_restarted(
        &mut self,
        at: CellRef,
        place: Option<EntityPlace>,
        fault: &Fault,
        restarts: u64,
    ) {
        if self.events.restarted.is_wanted() {
            let actor = self.actor_info(at, place);
            let fault = beginning(format_args!("{fault}"), MAX_TEXT);
            self.publish_wanted(ActorRestarted {
                actor,
                fault,
                restarts,
            });
        }
    }

    #[inline(always)]
    pub(crate) fn has_stopped(&mut self, stopped: Option<Box<ActorStopped>>) {
        if let Some(stopped) = stopped {
            self.publish_wanted(*stopped);
        }
    }

    /// An actor says that it has no use for a message, which may be gone already.
    pub(crate) fn unhandled<M: Message>(
        &mut self,
        at: CellRef,
        place: Option<EntityPlace>,
        message: Option<&M>,
    ) {
        let name = std::any::type_name::<M>();
        self.counters.unhandled += 1;
        tracing::debug!(core = %self.core, message = name, "unhandled message");
        // One that listens to these may have got such an event, and would answer each with the next.
        if self.events.unhandled.is_wanted() && !self.events.has::<UnhandledMessage>(at) {
            let actor = self.actor_info(at, place);
            self.publish_wanted(UnhandledMessage {
                actor,
                message: name,
                text: message.map_or_else(String::new, |message| beginning_of(message)),
            });
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn publish_dead_letter(
        &mut self,
        receiver: Receiver<'_>,
        reason: Rejection,
        message: &'static str,
    ) {
        if let Receiver::Actor(home, core, at) = receiver
            && (home, core) == (self.home, self.core)
            && self.events.mourns(at)
        {
            return;
        }
        let receiver = shown_receiver(receiver, |EntityTypeId(region)| {
            let state = self.region_states.get(usize::from(region));
            state.map_or("an unknown entity type", |state| state.name)
        });
        let core = Some(self.core);
        self.publish_wanted(DeadLetter {
            reason,
            message,
            receiver,
            core,
        });
    }

    /// An actor of this core as events name it. An entity must still be in its region.
    fn actor_info(&mut self, at: CellRef, place: Option<EntityPlace>) -> ActorInfo {
        let kind = self.cells.get(at).map(|cell| usize::from(cell.kind));
        let entity = place.map(|place| {
            let region = usize::from(place.region);
            EntityInfo {
                entity_type: self.region_states[region].name,
                id: self.regions[region].describe(place, at.slot(), MAX_TEXT),
            }
        });
        ActorInfo {
            actor: kind.map_or("", |kind| self.kinds[kind].name),
            core: self.core,
            address: address(self.home, self.core, at),
            entity,
        }
    }
}

/// How the address of an actor is shown.
fn address(home: Home, core: CoreId, at: CellRef) -> String {
    format!("{:?}", ActorRef::<()>::new(home, core, at))
}

/// How events show whom a message was for, if that is known.
pub(super) fn shown_receiver<N: fmt::Display>(
    receiver: Receiver<'_>,
    name: impl FnOnce(EntityTypeId) -> N,
) -> Option<String> {
    match receiver {
        Receiver::Actor(home, core, at) => Some(address(home, core, at)),
        Receiver::Entity(number, id) => Some(format!("{}/{}", name(number), beginning_of(&id))),
        Receiver::Unknown => None,
    }
}

/// The beginning of a user's value as a text: an event that waits somewhere takes little room.
fn beginning_of(value: &dyn fmt::Debug) -> String {
    beginning(format_args!("{value:?}"), MAX_TEXT)
}
