//! What a core did, as a list of events, and what somebody else may have done in its place; only the simulator asks for it.

use super::model::Fault;
use super::reference::CellRef;
use crate::base::ids::{CoreId, EntityTypeId};
use crate::base::stable_hash::stable_hash;
use crate::base::time::Time;
use crate::mesh::lane::LaneClass;
use std::any::{Any, TypeId};
use std::fmt::{self, Debug};
use std::task::Waker;
use std::time::Duration;

/// One thing that a core did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// A message was handed to an actor.
    Deliver {
        /// The receiver.
        to: CellRef,
        /// Its type.
        actor: &'static str,
        /// Hash of the message's `Debug` rendering.
        digest: u64,
    },
    /// A batch was put into a lane.
    Flush {
        /// The lane's other end.
        to: CoreId,
        /// Its class.
        class: LaneClass,
        /// Messages in the batch.
        messages: usize,
    },
    /// A timer fired.
    Timer {
        /// What it was for.
        kind: &'static str,
    },
    /// A sleeping core was woken.
    Wake {
        /// That core.
        core: CoreId,
    },
    /// A future was polled.
    Poll {
        /// Its number on the core.
        task: u32,
    },
    /// A message became a dead letter.
    DeadLetter {
        /// Why.
        why: super::refusal::Rejection,
    },
    /// A message was not handled as usual: a fault was injected in its place.
    Inject {
        /// The receiver.
        to: CellRef,
        /// What was injected.
        what: &'static str,
    },
}

/// A message that an actor is about to handle.
pub struct Upcoming<'a> {
    /// The receiver.
    pub to: CellRef,
    /// Its type.
    pub actor: TypeId,
    /// If it is an entity: of which type and id.
    pub entity: Option<(EntityTypeId, &'a dyn Any)>,
    /// The message.
    pub message: &'a dyn Any,
    /// The same, to be shown.
    pub shown: &'a dyn Debug,
}

impl fmt::Debug for Upcoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcoming")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

/// What becomes of a message that an actor is about to handle.
#[derive(Debug)]
pub enum Verdict {
    /// It is handled.
    Handle,
    /// It becomes a dead letter.
    Drop,
    /// It counts as handled, with this fault for the outcome.
    Fail(Fault),
    /// It counts as handled, and its handler as having panicked.
    Panic,
    /// It waits for so long, and what lies behind it in the mailbox with it.
    Delay(Duration),
}

/// Takes the events of one core, in order, and decides on its messages.
pub trait Tracer {
    /// Takes one.
    fn record(&mut self, now: Time, event: TraceEvent);

    /// An outcome is on its way to an actor that has asked for it: this one, or an entity, wherever it is. No runtime loses
    /// one.
    fn owe(&mut self, to: Option<CellRef>, outcome: &dyn Any, shown: &dyn Debug) {
        let _ = (to, outcome, shown);
    }

    /// Decides what becomes of a message. One that is delayed comes here again when its time has passed.
    fn judge(&mut self, upcoming: &Upcoming<'_>) -> Verdict {
        let _ = upcoming;
        Verdict::Handle
    }

    /// Whether it may decide anything but that a message be handled: then it is shown each as a value.
    fn may_interfere(&self) -> bool {
        false
    }

    /// The waker that a future gets, made of the one that it would get.
    fn waker(&mut self, waker: Waker) -> Waker {
        waker
    }
}

/// The hash of a payload's `Debug` rendering.
pub(crate) fn digest(payload: &dyn Debug) -> u64 {
    stable_hash(format!("{payload:?}").as_bytes())
}
