//! What few actors have and most have not: a name, a supervision of their own, a past with restarts. It lies beside the
//! cells, which are small because of it.

use super::model::Fault;
use super::reference::CellRef;
use super::spawn::Seed;
use super::supervision::{Restarts, Supervision};
use crate::base::give_back::give_back;
use crate::base::timer_wheel::TimerKey;
use ahash::AHashMap;
use std::rc::Rc;
use std::sync::Arc;

/// What is particular about one actor.
#[derive(Default)]
pub(super) struct Profile {
    /// Where it is found, if it has a name.
    pub(super) path: Option<Arc<str>>,
    /// How it is supervised, if it was given its own.
    pub(super) supervision: Option<Supervision>,
    /// How its behaviour wants to be supervised, within that.
    pub(super) own: Option<Supervision>,
    pub(super) restarts: Restarts,
    /// Why it was restarted, until its hook has been told.
    pub(super) fault: Option<Rc<Fault>>,
    /// It waits for its restart: nothing is in its cell but the mailbox.
    pub(super) waiting: Option<Waiting>,
}

/// An actor that waits for its restart.
pub(super) struct Waiting {
    pub(super) seed: Seed,
    /// Missing if it is restarted at once.
    pub(super) timer: Option<TimerKey>,
}

/// The profiles of a core by the slots of their actors' cells.
#[derive(Default)]
pub(crate) struct Profiles {
    by_slot: AHashMap<u32, Profile>,
}

impl Profiles {
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    #[inline]
    pub(super) fn get(&self, at: CellRef) -> Option<&Profile> {
        self.by_slot.get(&at.slot())
    }

    pub(super) fn get_mut(&mut self, at: CellRef) -> Option<&mut Profile> {
        self.by_slot.get_mut(&at.slot())
    }

    /// The profile of an actor, which gets one now if it has none.
    pub(super) fn entry(&mut self, at: CellRef) -> &mut Profile {
        self.by_slot.entry(at.slot()).or_default()
    }

    pub(super) fn remove(&mut self, at: CellRef) -> Option<Profile> {
        let profile = self.by_slot.remove(&at.slot());
        give_back(&mut self.by_slot);
        profile
    }

    /// Those that wait for their restart, in the order of their slots.
    pub(super) fn waiting(&self) -> Vec<u32> {
        let waits = |(slot, profile): (&u32, &Profile)| profile.waiting.as_ref().map(|_| *slot);
        let mut slots: Vec<_> = self.by_slot.iter().filter_map(waits).collect();
        slots.sort_unstable();
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_gone_takes_no_memory() {
        let mut profiles = Profiles::default();
        let actors = || (0..50_000).map(|slot| CellRef::new(slot, 1));
        for at in actors() {
            profiles.entry(at).path = Some(at.slot().to_string().into());
        }
        for at in actors() {
            let path = profiles.remove(at).and_then(|profile| profile.path);
            assert_eq!(path.as_deref(), Some(at.slot().to_string().as_str()));
        }
        assert!(profiles.is_empty() && profiles.by_slot.capacity() <= 1_024);
    }
}
