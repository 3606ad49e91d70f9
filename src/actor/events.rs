//! What can be published, and what the runtime publishes itself.

use super::ending::StopCause;
use super::refusal::Rejection;
use crate::base::ids::CoreId;
use std::fmt;

/// Texts made of users' values are cut off here.
pub(super) const MAX_TEXT: usize = 256;

/// Whatever may be published: each subscriber, and each core with subscribers, gets a clone of its own.
///
/// Every such type is an event, there is nothing to implement; it is its type by which it finds its subscribers. Give
/// events types of their own, and put what is large into an [`Arc`](std::sync::Arc).
///
/// The runtime publishes [`ActorStarted`], [`ActorStopped`], [`DeadLetter`] and [`UnhandledMessage`], and builds them only
/// while somebody has subscribed to them.
pub trait Event: Clone + Send + 'static {}

impl<T: Clone + Send + 'static> Event for T {}

/// Which actor an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActorInfo {
    /// The name of its Rust type.
    pub actor: &'static str,
    /// The core on which it lives.
    pub core: CoreId,
    /// Its address, as the `Debug` rendering of its [`ActorRef`](super::reference::ActorRef) says it. No two actors of a
    /// runtime, nor two lives of an entity, have the same; that of an entity changes when it moves.
    pub address: String,
    /// Which entity it is, if it is one.
    pub entity: Option<EntityInfo>,
}

/// Which entity an actor is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EntityInfo {
    /// The name of its [`EntityType`](super::entity::EntityType).
    pub entity_type: &'static str,
    /// The `Debug` rendering of its id, of which no more than 256 bytes.
    pub id: String,
}

impl fmt::Display for ActorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.actor, self.address)?;
        match &self.entity {
            Some(entity) => write!(f, " ({}/{})", entity.entity_type, entity.id),
            None => Ok(()),
        }
    }
}

/// An actor, or one life of an entity, has begun: its factory has made it, and [`pre_start`](super::model::Actor::pre_start)
/// runs when it has its first turn.
///
/// An entity that arrives from another core with its state goes on with the life that it had; it is not published again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActorStarted {
    /// Which one.
    pub actor: ActorInfo,
}

/// An actor, or one life of an entity, has ended, and its [`post_stop`](super::model::Actor::post_stop) has run.
///
/// When the state of an entity is lost because it could be captured, but not restored on its new core, or because that
/// core died, the log says so, and nothing is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActorStopped {
    /// Which one.
    pub actor: ActorInfo,
    /// Why.
    pub cause: StopCause,
}

/// An actor is made again in place of one that has failed, under the same address: because of a fault of its own, or of
/// one whose fate it shares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActorRestarted {
    /// Which one.
    pub actor: ActorInfo,
    /// What the fault said, of which no more than 256 bytes.
    pub fault: String,
    /// How often it has been restarted, this time included.
    pub restarts: u64,
}

/// A message that nobody will handle was dropped; its reason is counted in
/// [`CoreStats::dead_letters`](crate::CoreStats::dead_letters) as well.
///
/// What an actor's core drops of what was meant for it is only counted and logged if the actor itself listens to dead
/// letters: it may have been such an event, and events about those could go on for ever.
///
/// What was never sent is none: a message that was handed back, one that an ask or an awaited send could not bring on its
/// way (its caller is told), and what a timer was to send that was cancelled or has ended with its actor or the runtime.
/// When the runtime has ended, what threads still send is counted
/// ([`Stats::dead_letters_outside`](crate::Stats::dead_letters_outside)), but nobody listens any more. What a core drops at
/// its own end comes to threads ([`Handle::events`](super::handle::Handle::events)) and to closures on that core, and no
/// more to actors and other cores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Why it was dropped.
    pub reason: Rejection,
    /// The name of its type.
    pub message: &'static str,
    /// Whom it was for, where that is known: an actor's address, or an entity's type (its number, if no core dropped it)
    /// and the beginning of its id. It is not known of replies, nor where the id's own code has panicked.
    pub receiver: Option<String>,
    /// The core that dropped it; `None` if it was dropped outside, or in the queue of a core that is gone.
    pub core: Option<CoreId>,
}

/// An actor got a message for which it has no use, and said so by
/// [`Context::unhandled`](super::context::Context::unhandled).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnhandledMessage {
    /// Which actor.
    pub actor: ActorInfo,
    /// The name of the message's type.
    pub message: &'static str,
    /// Its `Debug` rendering, of which no more than 256 bytes; empty if the handler of a behaviour has consumed it.
    pub text: String,
}
