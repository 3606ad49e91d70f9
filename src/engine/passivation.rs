//! Passivation: entities that are not needed are stopped, because they have been idle for too long or because there are too
//! many; a message that arrives later starts them again.

use crate::actor::local::{Local, TimerEvent};
use crate::base::time::Time;

/// Entities stopped in one turn because they were idle or too many.
const PASSIVATIONS_PER_TURN: usize = 256;

/// Stops the entities of a region that have been idle for too long, and sets the timer for the next.
pub(super) fn passivate_idle(local: &mut Local, region: u16) {
    let now = local.now;
    let state = &local.region_states[usize::from(region)];
    if let Some(idle) = state.idle.filter(|_| state.is_lapsed) {
        // Nothing of them may run before their node has a lease again.
        return local.set_passivation_timer(region, now + idle);
    }
    // Until the end the timer counts as set, or an entity that a hook starts would set a second one.
    for _ in 0..PASSIVATIONS_PER_TURN {
        let state = &mut local.region_states[usize::from(region)];
        let oldest = state.recency.as_ref().and_then(|recency| recency.oldest());
        let (Some((slot, last_used)), Some(idle)) = (oldest, state.idle) else {
            state.timer_set = false;
            return;
        };
        if last_used + idle > now {
            local.set_passivation_timer(region, last_used + idle);
            return;
        }
        local.passivate_slot(region, slot);
    }
    // The rest in the next turn, which the timer makes sure of.
    local.set_passivation_timer(region, now);
}

/// Stops the least recently used entities of regions that have too many. Returns whether it stopped any.
pub(super) fn passivate_surplus(local: &mut Local) -> bool {
    let mut stopped = false;
    for region in 0..local.region_states.len() {
        for _ in 0..PASSIVATIONS_PER_TURN {
            let state = &local.region_states[region];
            if !state.is_over() || state.is_lapsed {
                break;
            }
            let Some((slot, _)) = state.recency.as_ref().and_then(|recency| recency.oldest())
            else {
                break;
            };
            stopped |= local.passivate_slot(region as u16, slot);
        }
    }
    stopped
}

impl Local {
    fn set_passivation_timer(&mut self, region: u16, due: Time) {
        self.region_states[usize::from(region)].timer_set = true;
        self.timers.insert(due, TimerEvent::Passivate { region });
    }

    /// Stops an entity, or, if it has work to do, counts it as used just now. Returns whether it was stopped.
    fn passivate_slot(&mut self, region: u16, slot: u32) -> bool {
        let now = self.now;
        let stopped = self.cells.tenant(slot).is_some_and(|at| self.passivate(at));
        if !stopped && let Some(recency) = &mut self.region_states[usize::from(region)].recency {
            recency.touch(slot, now);
        }
        stopped
    }
}
