//! What has come from other nodes about watches, on its way to other cores of this one.
//!
//! Other nodes may send what they like, so it looks for room as messages do. Where there is none, two things are kept, each
//! once for a core of another node, until there is: that what it had announced is forgotten, and that what is watched there
//! is announced again. They make good for everything else that is dropped: a core whose watches are forgotten is asked for
//! them again, and who is announced again hears again of an end. Whatever else is about to go to a core comes behind them:
//! either they have gone, or there is no room for it either.

use super::local::Local;
use super::signals::Signal;
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::wire::address::Life;
use std::collections::{BTreeMap, BTreeSet};

/// What waits for room between two cores of this node.
#[derive(Debug, Default)]
pub(super) struct Detained {
    /// By the core that it is for: those whose watches are over there.
    forgets: BTreeSet<(CoreId, Life, CoreId)>,
    /// And those, or all of a life of a node, that are to hear again.
    rewatches: BTreeSet<(CoreId, Life, Option<CoreId>)>,
}

impl Detained {
    pub(super) fn is_empty(&self) -> bool {
        self.forgets.is_empty() && self.rewatches.is_empty()
    }

    fn next_forget(&mut self, to: CoreId) -> Option<(Life, CoreId)> {
        let first = self
            .forgets
            .range((to, Life::default(), CoreId(0))..)
            .next();
        let next = first.copied().filter(|(core, ..)| *core == to)?;
        self.forgets.remove(&next);
        Some((next.1, next.2))
    }

    fn next_rewatch(&mut self, to: CoreId) -> Option<(Life, Option<CoreId>)> {
        let first = self.rewatches.range((to, Life::default(), None)..).next();
        let next = first.copied().filter(|(core, ..)| *core == to)?;
        self.rewatches.remove(&next);
        Some((next.1, next.2))
    }

    /// Forgets what is about lives that are over; every core sees to that by itself.
    pub(super) fn meet(&mut self, members: &BTreeMap<NodeId, Incarnation>) {
        let is_member = |life: &Life| members.get(&life.node) == Some(&life.incarnation);
        self.forgets.retain(|(_, life, _)| is_member(life));
        self.rewatches.retain(|(_, life, _)| is_member(life));
    }
}

impl Local {
    /// The other cores of this node that run actors.
    pub(super) fn other_cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        let me = self.core;
        let cores = self.handle.gate().data_cores() as u16;
        (0..cores).map(CoreId).filter(move |core| *core != me)
    }

    /// What a core of another node has announced is over, on all cores of this one.
    pub(super) fn forget_everywhere(&mut self, life: Life, core: CoreId) {
        for to in self.other_cores() {
            self.forget_at(to, life, core);
        }
        self.forget_here(life, core);
    }

    /// The same on this core, with what of it waits for entities whose shards are not here yet.
    pub(super) fn forget_here(&mut self, life: Life, core: CoreId) {
        self.watches.forget_core(life, core);
        for region in &mut self.regions {
            region.forget_held_watches(life, core);
        }
    }

    /// The same on another core, before everything of it that goes there later.
    pub(super) fn forget_at(&mut self, to: CoreId, life: Life, core: CoreId) {
        if self.room_towards(to).is_ok() {
            self.watches.far.detained.forgets.remove(&(to, life, core));
            self.signal_between(to, Signal::Forget { life, core });
        } else {
            self.watches.far.detained.forgets.insert((to, life, core));
            self.see_to_watches_later();
        }
    }

    /// Has a core announce again whom it watches on a core of another node, or on all of them.
    pub(super) fn rewatch_at(&mut self, to: CoreId, life: Life, core: Option<CoreId>) {
        if !self.knows_member(life) {
            // Nobody is watched there; and there would be no end of such lives.
            return;
        }
        if self.room_towards(to).is_ok() {
            let rewatches = &mut self.watches.far.detained.rewatches;
            rewatches.remove(&(to, life, core));
            self.signal_between(to, Signal::Rewatch { life, core });
        } else {
            self.watches.far.detained.rewatches.insert((to, life, core));
            self.see_to_watches_later();
        }
    }

    /// Sends what has waited for room, as far as there is some. Returns whether there was.
    pub(super) fn release_detained(&mut self) -> bool {
        if self.watches.far.detained.is_empty() {
            return false;
        }
        let mut any = false;
        for to in self.other_cores() {
            while self.room_towards(to).is_ok() {
                let Some((life, core)) = self.watches.far.detained.next_forget(to) else {
                    break;
                };
                self.signal_between(to, Signal::Forget { life, core });
                any = true;
            }
            while self.room_towards(to).is_ok() {
                let Some((life, core)) = self.watches.far.detained.next_rewatch(to) else {
                    break;
                };
                self.signal_between(to, Signal::Rewatch { life, core });
                any = true;
            }
        }
        any
    }
}
