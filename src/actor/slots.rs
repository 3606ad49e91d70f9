//! A slab of values, each with a flag and a link to another: what mailboxes are made of.
//!
//! A value is written straight into its place and read straight out of it. With an `Option` in each place, the compiler
//! first builds the value elsewhere, since the place might hold one to be dropped, and copying it over right after it has
//! been written in parts stalls: 5 ns for each message sent and again for each received.
//!
// UNSAFE: earned by the measurement above (one producer, one counter: 18 ns a message before); checked by Miri.
#![allow(unsafe_code)]

use crate::base::paged::Paged;
use std::mem::MaybeUninit;

/// No other value.
pub(crate) const NIL: u32 = FLAG - 1;
/// The link of a place without a value.
const VACANT: u32 = FLAG - 2;
/// The bit of a link in which its value's flag is kept. (Anywhere else it would cost room or another copy of the value.)
const FLAG: u32 = 1 << 31;

/// What belongs to a value: which one follows it, and its flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u32);

impl Link {
    /// The value that follows, or [`NIL`].
    #[inline(always)]
    pub(crate) fn next(self) -> u32 {
        self.0 & !FLAG
    }

    /// The flag with which the value was inserted.
    #[inline(always)]
    pub(crate) fn flag(self) -> bool {
        self.0 & FLAG != 0
    }
}

/// One place. Its value is initialised exactly when `link` is not `VACANT`; only this file touches either.
struct Slot<T> {
    value: MaybeUninit<T>,
    link: u32,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot {
            value: MaybeUninit::uninit(),
            link: VACANT,
        }
    }
}

/// Values by index.
pub(crate) struct Slots<T> {
    slots: Paged<Slot<T>>,
    /// Vacant places, the next one last. (A list through the places would make each insertion wait for the one before.)
    vacant: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            slots: Paged::default(),
            vacant: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Bytes of one place.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Puts a value into a vacant place, linked to nothing.
    #[inline(always)]
    pub(crate) fn insert(&mut self, value: T, flag: bool) -> u32 {
        let index = match self.vacant.pop() {
            Some(index) => index,
            None => self.grow(),
        };
        let slot = &mut self.slots[index];
        debug_assert_eq!(slot.link, VACANT);
        slot.value.write(value);
        slot.link = if flag { NIL | FLAG } else { NIL };
        index
    }

    /// Takes a value out; gives it and its link.
    ///
    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub(crate) fn remove(&mut self, index: u32) -> (T, Link) {
        let slot = &mut self.slots[index];
        let link = slot.link;
        assert!(link != VACANT, "a vacant place has no value");
        slot.link = VACANT;
        // SAFETY: the link was not VACANT, so the value is initialised; VACANT from here on, it is not read again.
        let value = unsafe { slot.value.assume_init_read() };
        self.vacant.push(index);
        (value, Link(link))
    }

    /// Links the value at `index` to another.
    ///
    /// # Panics
    /// If there is no value.
    #[inline(always)]
    pub(crate) fn link(&mut self, index: u32, next: u32) {
        let slot = &mut self.slots[index];
        assert!(
            slot.link != VACANT && next < FLAG && next != VACANT,
            "only places with values are linked"
        );
        slot.link = next | slot.link & FLAG;
    }

    /// The value at `index`.
    pub(crate) fn get(&mut self, index: u32) -> Option<&mut T> {
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.link != VACANT)?;
        // SAFETY: the link is not VACANT, so the value is initialised.
        Some(unsafe { slot.value.assume_init_mut() })
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.capacity() as usize - self.vacant.len()
    }

    /// Pages in use.
    pub(crate) fn pages(&self) -> usize {
        self.slots.pages()
    }

    /// Gives all pages beyond the first `pages` back, if there is no value at all.
    pub(crate) fn shrink(&mut self, pages: usize) {
        if self.len() == 0 {
            self.slots.truncate_pages(pages);
            self.vacant.clear();
            self.vacant.shrink_to(self.slots.capacity() as usize);
            self.vacant.extend((0..self.slots.capacity()).rev());
        }
    }

    /// Adds a page, whose places are taken in the order in which they lie, and takes the first.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        let first = self.slots.capacity();
        self.slots.grow();
        self.vacant.extend((first + 1..self.slots.capacity()).rev());
        first
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() && self.len() > 0 {
            for index in 0..self.slots.capacity() {
                if self.slots[index].link != VACANT {
                    drop(self.remove(index));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn values_are_dropped_exactly_once() {
        let value = Rc::new(());
        let mut slots = Slots::default();
        let indexes: Vec<u32> = (0..1_000)
            .map(|number| slots.insert(value.clone(), number % 3 == 0))
            .collect();
        assert_eq!(Rc::strong_count(&value), 1_001);
        for (number, index) in indexes.iter().enumerate().step_by(2) {
            let next = if number % 4 == 0 { NIL } else { indexes[0] };
            slots.link(*index, next);
            let link = slots.remove(*index).1;
            assert_eq!((link.next(), link.flag()), (next, number % 3 == 0));
        }
        assert_eq!(Rc::strong_count(&value), 501);
        assert!(slots.get(indexes[0]).is_none() && slots.get(indexes[1]).is_some());
        slots.shrink(0);
        assert_eq!(slots.len(), 500);
        drop(slots);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    #[should_panic(expected = "vacant")]
    fn nothing_is_taken_twice() {
        let mut slots = Slots::default();
        let index = slots.insert("once", true);
        slots.remove(index);
        slots.remove(index);
    }
}
