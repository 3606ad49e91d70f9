//! A look at a core from its driver, and what that publishes, between two turns.

use super::core::Engine;
use super::stats::CoreStats;
use crate::actor::events::Event;
use crate::actor::mutant::Mutant;
use crate::sharding::topology::Topology;
use std::sync::Arc;

impl Engine {
    /// A snapshot of the core, which may have stopped.
    pub(crate) fn stats(&self) -> CoreStats {
        CoreStats::of(&self.local.borrow())
    }

    /// The topology by which the core routes.
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        self.handoff.topology()
    }

    /// Whether something waits here for room in a lane, or for a shard that moves.
    pub(crate) fn has_backlog(&self) -> bool {
        let local = self.local.borrow();
        !local.outbox_is_empty()
            || !self.unsent.is_empty()
            || self.handoff.is_leaving()
            || self.node_handoff.is_working()
            || local.regions.iter().any(|region| region.held() > 0)
    }

    /// Publishes an event on this core, as its next turn brings it to others.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "for clusters"))]
    pub(crate) fn publish<E: Event>(&mut self, event: E) {
        self.local.borrow_mut().publish(event);
    }

    /// Plants a bug for the simulator to find.
    pub(crate) fn plant(&mut self, mutant: Mutant) {
        self.local.borrow_mut().mutant = Some(mutant);
    }
}
