//! What an actor asks of the runtime if it runs another programming model within itself.

use super::context::Context;
use super::guard::drop_guarded;
use super::model::{Actor, Fault};
use super::supervision::Supervision;
use std::rc::Rc;

impl<A: Actor> Context<'_, A> {
    /// Why this actor was restarted, while its `post_restart` runs.
    pub(crate) fn why_restarted(&mut self) -> Option<Rc<Fault>> {
        self.local.fault_of_last_life(self.at)
    }

    /// Whether this actor has any children.
    pub(crate) fn has_children(&self) -> bool {
        self.local.cells.youngest_child(self.at).is_some()
    }

    /// Has the faults of this actor dealt with in this way, and what that escalates as it is said from outside. It holds
    /// until another is set, also if the factory fails that is to make the actor again.
    pub(crate) fn supervise_myself(&mut self, supervision: Option<Supervision>) {
        if supervision.is_some() || self.local.profiles.get(self.at).is_some() {
            let own = &mut self.local.profiles.entry(self.at).own;
            drop_guarded(std::mem::replace(own, supervision));
        }
    }

    /// Notes that this actor had a message with which it could do nothing.
    #[cold]
    pub(crate) fn message_unhandled(&mut self) {
        let message: Option<&A::Msg> = None;
        self.local.unhandled(self.at, self.place, message);
    }
}
