//! Which entities of a region were used least recently: a list threaded through the cells' slots.
//!
//! The list is exact and ordered by last use, so that both kinds of passivation read from its head: the entity idle for
//! longest, and the one to evict when there are too many.

use crate::base::paged::Paged;
use crate::base::time::Time;

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    last_used: Time,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            prev: NIL,
            next: NIL,
            last_used: Time::ZERO,
        }
    }
}

/// Slots in the order of their last use.
#[derive(Debug)]
pub(crate) struct Recency {
    links: Paged<Link>,
    oldest: u32,
    newest: u32,
}

impl Default for Recency {
    fn default() -> Self {
        Recency {
            links: Paged::default(),
            oldest: NIL,
            newest: NIL,
        }
    }
}

impl Recency {
    /// The least recently used slot and when that was.
    pub(crate) fn oldest(&self) -> Option<(u32, Time)> {
        (self.oldest != NIL).then(|| (self.oldest, self.links[self.oldest].last_used))
    }

    pub(crate) fn insert(&mut self, slot: u32, now: Time) {
        while slot >= self.links.capacity() {
            self.links.grow();
        }
        self.append(slot, now);
    }

    pub(crate) fn touch(&mut self, slot: u32, now: Time) {
        if self.newest == slot {
            self.links[slot].last_used = now;
        } else {
            self.remove(slot);
            self.append(slot, now);
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let Link { prev, next, .. } = self.links[slot];
        if prev == NIL {
            self.oldest = next;
        } else {
            self.links[prev].next = next;
        }
        if next == NIL {
            self.newest = prev;
        } else {
            self.links[next].prev = prev;
        }
    }

    fn append(&mut self, slot: u32, now: Time) {
        self.links[slot] = Link {
            prev: self.newest,
            next: NIL,
            last_used: now,
        };
        if self.newest == NIL {
            self.oldest = slot;
        } else {
            self.links[self.newest].next = slot;
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_head_is_always_the_least_recently_used(steps in prop::collection::vec((0_u32..40, 0_u8..3), 0..500)) {
            let mut recency = Recency::default();
            let mut model: Vec<(u32, Time)> = Vec::new();
            for (at, (slot, step)) in steps.into_iter().enumerate() {
                let now = Time::from_nanos(at as u64);
                let place = model.iter().position(|(known, _)| *known == slot);
                match (place, step) {
                    (None, _) => {
                        recency.insert(slot, now);
                        model.push((slot, now));
                    }
                    (Some(place), 0) => {
                        recency.remove(slot);
                        model.remove(place);
                    }
                    (Some(place), _) => {
                        recency.touch(slot, now);
                        model.remove(place);
                        model.push((slot, now));
                    }
                }
                prop_assert_eq!(recency.oldest(), model.first().copied());
            }
        }
    }
}
