//! A hierarchical timing wheel: insert and cancel in constant time, whatever is pending.
//!
//! After Varghese and Lauck, *Hashed and Hierarchical Timing Wheels* (1987). Seven levels of 64 slots, a tick being
//! about one millisecond (2^20 ns). A timer never fires early and at most one tick late. Timers of one tick fire in the
//! order of their deadlines' slots and, within a slot, in the order in which they came to lie there: always the same for
//! the same calls.

use super::paged::Paged;
use super::time::Time;

const TICK_BITS: u32 = 20;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 7;
const NIL: u32 = u32::MAX;

/// One timer; good for one [`cancel`](TimerWheel::cancel), and harmless after the timer has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    entry: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    value: Option<T>,
    deadline_tick: u64,
    generation: u32,
    list: u32,
    prev: u32,
    next: u32,
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Entry {
            value: None,
            deadline_tick: 0,
            generation: 0,
            list: NIL,
            prev: NIL,
            next: NIL,
        }
    }
}

/// Pending timers of one core.
#[derive(Debug)]
pub struct TimerWheel<T> {
    entries: Paged<Entry<T>>,
    free: u32,
    used: u32,
    live: usize,
    /// First and last entry of each slot, level by level; the list after the last level holds what is due.
    lists: Vec<(u32, u32)>,
    occupied: [u64; LEVELS],
    now_tick: u64,
}

const DUE: u32 = (LEVELS * SLOTS) as u32;

impl<T> Default for TimerWheel<T> {
    fn default() -> Self {
        TimerWheel {
            entries: Paged::default(),
            free: NIL,
            used: 0,
            live: 0,
            lists: vec![(NIL, NIL); LEVELS * SLOTS + 1],
            occupied: [0; LEVELS],
            now_tick: 0,
        }
    }
}

impl<T> TimerWheel<T> {
    /// Timers that have neither fired nor been cancelled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Adds a timer that fires at the first [`pop`](Self::pop) at or after `deadline`.
    #[inline]
    pub fn insert(&mut self, deadline: Time, value: T) -> TimerKey {
        let index = self.allocate();
        let deadline_tick = deadline.as_nanos().div_ceil(1 << TICK_BITS);
        let entry = &mut self.entries[index];
        entry.value = Some(value);
        entry.deadline_tick = deadline_tick;
        let generation = entry.generation;
        self.live += 1;
        self.place(index);
        TimerKey {
            entry: index,
            generation,
        }
    }

    /// When a pending timer fires, by a tick at most later than was asked for; `None` if it has fired or was cancelled.
    #[must_use]
    pub fn deadline(&self, key: TimerKey) -> Option<Time> {
        let entry = self.entries.get(key.entry)?;
        let pending = entry.generation == key.generation && entry.value.is_some();
        pending.then(|| Time::from_nanos(entry.deadline_tick << TICK_BITS))
    }

    /// Takes a pending timer back; `None` if it has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get_mut(key.entry)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        self.unlink(key.entry);
        self.release(key.entry);
        Some(value)
    }

    /// Takes back every pending timer that `keep` does not want; as long as the wheel has ever been.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for entry in 0..self.used {
            let Entry {
                value, generation, ..
            } = &self.entries[entry];
            if value.as_ref().is_some_and(|value| !keep(value)) {
                let generation = *generation;
                self.cancel(TimerKey { entry, generation });
            }
        }
    }

    /// The next timer that is due at `now`; call it until it gives `None`.
    pub fn pop(&mut self, now: Time) -> Option<T> {
        self.advance(now.as_nanos() >> TICK_BITS);
        let index = self.lists[DUE as usize].0;
        if index == NIL {
            return None;
        }
        self.unlink(index);
        let value = self.entries[index].value.take();
        self.release(index);
        value
    }

    /// When to call [`pop`](Self::pop) again: no timer is due before that time. It may be earlier than the first
    /// deadline, since far timers move to finer levels on their way.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        if self.lists[DUE as usize].0 != NIL {
            return Some(Time::from_nanos(self.now_tick << TICK_BITS));
        }
        let tick = (0..LEVELS)
            .filter_map(|level| self.next_tick_of(level))
            .min()?;
        Some(Time::from_nanos(tick << TICK_BITS))
    }

    /// The first tick after now at which a slot of this level has to be looked at.
    fn next_tick_of(&self, level: usize) -> Option<u64> {
        let shift = SLOT_BITS * level as u32;
        let current = self.now_tick >> shift;
        let ahead = self.occupied[level].rotate_right((current as u32 + 1) & (SLOTS as u32 - 1));
        (ahead != 0).then(|| (current + 1 + u64::from(ahead.trailing_zeros())) << shift)
    }

    fn advance(&mut self, tick: u64) {
        while self.now_tick < tick {
            let next = (0..LEVELS)
                .filter_map(|level| self.next_tick_of(level))
                .min();
            match next {
                Some(next) if next <= tick => {
                    self.now_tick = next;
                    // Coarse levels first, so that what they hold for this very tick becomes due with it.
                    for level in (0..LEVELS).rev() {
                        if next & ((1 << (SLOT_BITS * level as u32)) - 1) == 0 {
                            self.empty_slot(level);
                        }
                    }
                }
                _ => self.now_tick = tick,
            }
        }
    }

    fn empty_slot(&mut self, level: usize) {
        let slot = (self.now_tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
        if self.occupied[level] & (1 << slot) == 0 {
            return;
        }
        let list = level * SLOTS + slot;
        let mut index = self.lists[list].0;
        self.lists[list] = (NIL, NIL);
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let next = self.entries[index].next;
            self.place(index);
            index = next;
        }
    }

    /// Links an entry where its deadline lies as seen from now.
    fn place(&mut self, index: u32) {
        let deadline = self.entries[index].deadline_tick;
        if deadline <= self.now_tick {
            self.link(index, DUE);
            return;
        }
        // The highest bit in which deadline and now differ names the level; beyond the last level the timer waits in its
        // farthest slot and is placed anew when that comes round.
        let highest = 63 - (deadline ^ self.now_tick).leading_zeros();
        let level = ((highest / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = if highest / SLOT_BITS >= LEVELS as u32 {
            ((self.now_tick >> (SLOT_BITS * level as u32)) + SLOTS as u64 - 1) as usize
                & (SLOTS - 1)
        } else {
            (deadline >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1)
        };
        self.occupied[level] |= 1 << slot;
        self.link(index, (level * SLOTS + slot) as u32);
    }

    fn link(&mut self, index: u32, list: u32) {
        let (first, last) = self.lists[list as usize];
        let entry = &mut self.entries[index];
        entry.list = list;
        entry.prev = last;
        entry.next = NIL;
        if last == NIL {
            self.lists[list as usize] = (index, index);
        } else {
            self.entries[last].next = index;
            self.lists[list as usize] = (first, index);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            list, prev, next, ..
        } = self.entries[index];
        if prev == NIL {
            self.lists[list as usize].0 = next;
        } else {
            self.entries[prev].next = next;
        }
        if next == NIL {
            self.lists[list as usize].1 = prev;
        } else {
            self.entries[next].prev = prev;
        }
        if list != DUE && self.lists[list as usize].0 == NIL {
            self.occupied[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
        }
    }

    fn allocate(&mut self) -> u32 {
        if self.free != NIL {
            let index = self.free;
            self.free = self.entries[index].next;
            return index;
        }
        if self.used == self.entries.capacity() {
            self.entries.grow();
        }
        self.used += 1;
        self.used - 1
    }

    fn release(&mut self, index: u32) {
        self.live -= 1;
        let entry = &mut self.entries[index];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const TICK: u64 = 1 << TICK_BITS;

    proptest! {
        /// Against a sorted list: nothing early, nothing more than a tick late, nothing twice, nothing lost.
        #[test]
        fn fires_what_a_sorted_list_would(
            steps in prop::collection::vec((0_u64..1 << 45, 0_u64..1 << 44, any::<bool>()), 1..200)
        ) {
            let mut wheel = TimerWheel::default();
            let mut pending: Vec<(u64, usize, TimerKey)> = Vec::new();
            let mut now = 0;
            for (number, (ahead, step, cancel)) in steps.into_iter().enumerate() {
                let deadline = now + ahead;
                pending.push((deadline, number, wheel.insert(Time::from_nanos(deadline), number)));
                if cancel {
                    let (_, value, key) = pending.swap_remove(number % pending.len());
                    prop_assert_eq!(wheel.cancel(key), Some(value));
                    prop_assert_eq!(wheel.cancel(key), None);
                }
                if let Some(wake) = wheel.next_wake() {
                    let first = pending.iter().map(|p| p.0).min().unwrap();
                    prop_assert!(wake.as_nanos() < first + TICK);
                }
                now += step;
                while let Some(value) = wheel.pop(Time::from_nanos(now)) {
                    let at = pending.iter().position(|p| p.1 == value).expect("fired twice or after its cancellation");
                    prop_assert!(pending.swap_remove(at).0 <= now, "fired early");
                }
                prop_assert!(pending.iter().all(|p| p.0 + TICK > now), "fired late");
                prop_assert_eq!(wheel.len(), pending.len());
            }
        }
    }

    #[test]
    fn retains_what_is_wanted() {
        let mut wheel = TimerWheel::default();
        for number in 0..1_000_u64 {
            wheel.insert(Time::from_nanos(number << 25), number);
        }
        wheel.retain(|number| number % 3 == 0);
        assert_eq!(wheel.len(), 334);
        let mut fired = Vec::new();
        while let Some(wake) = wheel.next_wake() {
            fired.extend(wheel.pop(wake));
        }
        let expected: Vec<u64> = (0..1_000).step_by(3).collect();
        assert_eq!(fired, expected);
    }

    #[test]
    fn a_pending_timer_tells_when_it_fires() {
        let mut wheel = TimerWheel::default();
        let due = Time::ZERO + Duration::from_millis(10);
        let [fires, cancelled] = [1, 2].map(|number| wheel.insert(due, number));
        let known = wheel.deadline(fires).unwrap();
        assert!(known >= due && known - due <= Duration::from_nanos(1 << TICK_BITS));
        wheel.cancel(cancelled);
        assert_eq!(wheel.pop(known), Some(1));
        assert_eq!([fires, cancelled].map(|key| wheel.deadline(key)), [None; 2]);
    }

    #[test]
    fn next_wake_leads_to_the_timer_in_few_steps() {
        let mut wheel = TimerWheel::default();
        wheel.insert(Time::ZERO + Duration::from_secs(86_400 * 365), "year");
        let mut steps = 0;
        while let Some(wake) = wheel.next_wake() {
            if wheel.pop(wake).is_some() {
                break;
            }
            steps += 1;
        }
        assert!(wheel.is_empty());
        assert!(steps <= LEVELS, "{steps}");
    }
}
