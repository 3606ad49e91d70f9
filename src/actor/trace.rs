//! What a core did, as a list of events; only the simulator asks for it.

use super::reference::CellRef;
use crate::base::ids::CoreId;
use crate::base::stable_hash::stable_hash;
use crate::base::time::Time;
use crate::mesh::lane::LaneClass;
use std::fmt::Debug;

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
}

/// Takes the events of one core, in order.
pub trait Tracer {
    /// Takes one.
    fn record(&mut self, now: Time, event: TraceEvent);
}

/// The hash of a payload's `Debug` rendering.
pub(crate) fn digest(payload: &dyn Debug) -> u64 {
    stable_hash(format!("{payload:?}").as_bytes())
}
