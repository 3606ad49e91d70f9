//! Lists of values in one slab: what mailboxes are made of.
//!
//! The first values of a list lie alone, each in a place of the slab and linked to the next. A list that grows beyond
//! them gets runs of [`RUN`] adjacent places. Then a value is appended right behind the last one, and what follows the
//! first is known before it has been read: with links alone each value taken had to wait for the one before it, 6 of the 13
//! ns that a message took.
//!
//! A value is written straight into its place and read straight out of it. With an `Option` in each place, the compiler
//! first builds the value elsewhere, since the place might hold one to be dropped, and copying it over right after it has
//! been written in parts stalls: 5 ns for each message sent and again for each received.
//!
// UNSAFE: earned by the measurements above (one producer, one counter: 18 ns a message before); checked by Miri.
#![allow(unsafe_code)]

use super::guard::drop_guarded;
use crate::base::paged::Paged;
use std::mem::MaybeUninit;

/// Adjacent places that a long list gets at once; a power of two.
const RUN: u32 = 8;
/// Values of a list that lie alone, so that many short lists waste nothing.
const ALONE: u32 = 1;
/// Runs are only given out while the slab has fewer places than this; lists beyond take single ones.
const RUNS_UNTIL: u32 = 1 << 28;

/// What belongs to a place: the next place of the list, or one of the words below, and three bits.
type Link = u32;
/// The value's flag.
const FLAG: Link = 1 << 31;
/// The place belongs to a list, but has no value.
const GAP: Link = 1 << 30;
/// The place is one of a run.
const IN_RUN: Link = 1 << 29;
/// The part of a link that says what follows.
const NEXT: Link = IN_RUN - 1;
/// Nothing follows.
const END: Link = NEXT;
/// What follows, now or later, lies in the next place, which is reserved for it.
const ADJACENT: Link = NEXT - 1;
/// The place belongs to no list. It has no value either, so that one bit says of any place whether it has one.
const VACANT: Link = (NEXT - 2) | GAP;

/// A list of values that lie in one [`Slots`].
#[derive(Debug, Default)]
pub(crate) struct List {
    head: u32,
    /// The last place, with the bit `IN_RUN` if it is one of a run; 0 in an empty list.
    tail: u32,
    len: u32,
}

impl List {
    /// Its entries, gaps included.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One place. Its value is initialised exactly when `link` has not the bit `GAP`; only this file touches either.
struct Slot<T> {
    value: MaybeUninit<T>,
    link: Link,
}

impl<T> Slot<T> {
    #[inline(always)]
    fn has_value(&self) -> bool {
        self.link & GAP == 0
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot {
            value: MaybeUninit::uninit(),
            link: VACANT,
        }
    }
}

/// The slab.
pub(crate) struct Slots<T> {
    slots: Paged<Slot<T>>,
    /// Vacant places, the next one last. (A list through the places would make each insertion wait for the one before.)
    singles: Vec<u32>,
    /// The first places of vacant runs, the next one last.
    runs: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            slots: Paged::default(),
            singles: Vec::new(),
            runs: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Bytes of one place.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Appends a value. Returns how many places the list has taken for it: a run once in a while, mostly none in a long
    /// list.
    #[inline(always)]
    pub(crate) fn push(&mut self, list: &mut List, value: T, flag: bool) -> u32 {
        let (slot, link, taken) = self.append(list);
        slot.value.write(value);
        slot.link = if flag { link | FLAG } else { link };
        taken
    }

    /// Appends an entry without a value. Returns how many places the list has taken.
    pub(crate) fn push_gap(&mut self, list: &mut List) -> u32 {
        let (slot, link, taken) = self.append(list);
        slot.link = link | GAP;
        taken
    }

    /// Whether the first entry has no value; only asked of a list that is not empty.
    ///
    /// # Panics
    /// If it is, most likely.
    #[inline(always)]
    pub(crate) fn starts_with_gap(&self, list: &List) -> bool {
        !self.slots[list.head].has_value()
    }

    /// Takes the first value out of a list that is not empty. `account` gets its flag, and how many places became vacant.
    ///
    /// The value is read when all else is done: whatever is returned beside it would have it copied once more.
    ///
    /// # Panics
    /// If the first entry has no value.
    #[inline(always)]
    pub(crate) fn pop(&mut self, list: &mut List, account: impl FnOnce(bool, u32)) -> T {
        let slot = &mut self.slots[list.head];
        assert!(slot.has_value(), "only a value can be taken");
        let link = std::mem::replace(&mut slot.link, VACANT);
        let value: *const MaybeUninit<T> = &raw const slot.value;
        let freed = self.unlink(list, link);
        account(link & FLAG != 0, freed);
        // SAFETY: it had a value, so the value is initialised; VACANT from here on, it is not read again. To unlink a place
        // touches no place, and the pages stay where they are, so the pointer is good.
        unsafe { value.read().assume_init() }
    }

    /// Takes the first entry out, which has no value. Returns how many places became vacant.
    ///
    /// # Panics
    /// If the first entry has a value, or the list is empty.
    pub(crate) fn pop_gap(&mut self, list: &mut List) -> u32 {
        let slot = &mut self.slots[list.head];
        let is_gap = slot.link != VACANT && !slot.has_value();
        assert!(is_gap, "only a gap can be taken");
        let link = std::mem::replace(&mut slot.link, VACANT);
        self.unlink(list, link)
    }

    /// The first entry's value.
    pub(crate) fn first(&mut self, list: &List) -> Option<&mut T> {
        if list.len == 0 {
            return None;
        }
        let slot = self.slots.get_mut(list.head)?;
        // SAFETY: it is only read if it has a value.
        slot.has_value()
            .then(|| unsafe { slot.value.assume_init_mut() })
    }

    /// Whether no place belongs to a list.
    pub(crate) fn is_empty(&self) -> bool {
        self.singles.len() + self.runs.len() * RUN as usize == self.slots.capacity() as usize
    }

    /// Pages in use.
    pub(crate) fn pages(&self) -> usize {
        self.slots.pages()
    }

    /// Gives all pages beyond the first `pages` back, if there is no value at all.
    pub(crate) fn shrink(&mut self, pages: usize) {
        if self.is_empty() {
            self.slots.truncate_pages(pages);
            self.singles = Vec::new();
            self.runs.clear();
            self.runs.shrink_to((self.slots.capacity() / RUN) as usize);
            self.offer_runs(0);
        }
    }

    /// The place behind the last entry, the link that it gets, and how many places were taken.
    #[inline(always)]
    fn append(&mut self, list: &mut List) -> (&mut Slot<T>, Link, u32) {
        let before = list.len;
        list.len += 1;
        let next = list.tail + 1;
        // One of a run, and not the first of the next.
        if next & (IN_RUN | (RUN - 1)) > IN_RUN {
            list.tail = next;
            let is_last = (next + 1).is_multiple_of(RUN);
            let link = if is_last { END } else { ADJACENT };
            return (&mut self.slots[next & NEXT], link | IN_RUN, 0);
        }
        let (index, link, taken) = if before < ALONE {
            (self.take_single(), END, 1)
        } else {
            self.take_run()
        };
        if before == 0 {
            list.head = index;
        } else {
            let link = &mut self.slots[list.tail & NEXT].link;
            *link = *link & !NEXT | index;
        }
        list.tail = index | link & IN_RUN;
        (&mut self.slots[index], link, taken)
    }

    /// The first entry has been taken out, with this link: what follows is the first. Returns how many places became vacant.
    #[inline(always)]
    fn unlink(&mut self, list: &mut List, link: Link) -> u32 {
        let index = list.head;
        list.len -= 1;
        if link & NEXT == ADJACENT && list.len > 0 {
            // Not read from the link, for which whatever comes next would have to wait.
            list.head = index + 1;
            return 0;
        }
        list.head = link & NEXT;
        if list.len == 0 {
            list.tail = 0;
        }
        if link & IN_RUN == 0 {
            self.singles.push(index);
            return 1;
        }
        self.give_back_run(index);
        RUN
    }

    #[inline(always)]
    fn take_single(&mut self) -> u32 {
        match self.singles.pop() {
            Some(index) => index,
            None => self.break_run(),
        }
    }

    /// Makes single places of a run, which are taken in the order in which they lie, and takes the first.
    #[cold]
    #[inline(never)]
    fn break_run(&mut self) -> u32 {
        let first = self.runs.pop().unwrap_or_else(|| self.grow());
        self.singles.extend((first + 1..first + RUN).rev());
        first
    }

    /// A run: its first place, the link of that, and how many places were taken.
    #[inline(never)]
    fn take_run(&mut self) -> (u32, Link, u32) {
        if self.slots.capacity() >= RUNS_UNTIL {
            return (self.take_single(), END, 1);
        }
        let first = self.runs.pop().unwrap_or_else(|| self.grow());
        (first, ADJACENT | IN_RUN, RUN)
    }

    /// All values of a run have been taken, the last of them from `index`.
    #[inline(never)]
    fn give_back_run(&mut self, index: u32) {
        self.runs.push(index & !(RUN - 1));
    }

    /// Adds a page, and takes its first run.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        let first = self.slots.capacity();
        self.slots.grow();
        assert!(
            self.slots.capacity() <= VACANT & NEXT,
            "every place has a number that fits a link"
        );
        self.offer_runs(first);
        self.runs.pop().unwrap_or(first)
    }

    /// Makes runs of all places from `first` on, to be taken in the order in which they lie.
    fn offer_runs(&mut self, first: u32) {
        let runs = (first..self.slots.capacity()).step_by(RUN as usize);
        self.runs.extend(runs.rev());
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() && !self.is_empty() {
            for index in 0..self.slots.capacity() {
                let slot = &mut self.slots[index];
                if slot.has_value() {
                    slot.link = VACANT;
                    // SAFETY: it had a value; VACANT by now, it is not read again.
                    drop_guarded(unsafe { slot.value.assume_init_read() });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::rc::Rc;

    /// An entry as the model has it: the value and its flag, or a gap.
    type Entry = Option<(usize, bool)>;

    fn pop(slots: &mut Slots<Box<usize>>, list: &mut List) -> (Option<Entry>, u32) {
        if list.is_empty() {
            return (None, 0);
        }
        if slots.starts_with_gap(list) {
            assert!(slots.first(list).is_none());
            return (Some(None), slots.pop_gap(list));
        }
        let first = slots.first(list).map(|value| **value);
        let mut taken = (false, 0);
        let value = slots.pop(list, |flag, freed| taken = (flag, freed));
        assert_eq!(first, Some(*value));
        (Some(Some((*value, taken.0))), taken.1)
    }

    proptest! {
        /// Many lists in one slab behave like as many separate queues, and the places are accounted for.
        #[test]
        fn lists_are_separate_queues(
            steps in prop::collection::vec((0_usize..3, 0_usize..12, 1_usize..20), 0..200),
        ) {
            let mut slots = Slots::default();
            let mut lists: [List; 3] = Default::default();
            let mut model: Vec<VecDeque<Entry>> = vec![VecDeque::new(); 3];
            let mut places = 0;
            for (number, (which, what, times)) in steps.into_iter().enumerate() {
                let (list, expected) = (&mut lists[which], &mut model[which]);
                for _ in 0..times {
                    match what {
                        0 => {
                            places += slots.push_gap(list);
                            expected.push_back(None);
                        }
                        1..=5 => {
                            let (got, freed) = pop(&mut slots, list);
                            places -= freed;
                            prop_assert_eq!(got, expected.pop_front());
                        }
                        _ => {
                            places += slots.push(list, Box::new(number), number % 3 == 0);
                            expected.push_back(Some((number, number % 3 == 0)));
                        }
                    }
                    prop_assert_eq!(list.len() as usize, expected.len());
                }
                let vacant = slots.singles.len() + slots.runs.len() * RUN as usize;
                prop_assert_eq!(slots.slots.capacity() as usize, vacant + places as usize);
            }
            for (list, expected) in lists.iter_mut().zip(&mut model) {
                while let (Some(entry), freed) = pop(&mut slots, list) {
                    places -= freed;
                    prop_assert_eq!(Some(entry), expected.pop_front());
                }
                prop_assert!(expected.is_empty());
            }
            prop_assert!(places == 0 && slots.is_empty());
        }
    }

    #[test]
    fn values_are_dropped_exactly_once() {
        let value = Rc::new(());
        let mut slots = Slots::default();
        let mut lists: [List; 2] = Default::default();
        for number in 0..1_000 {
            slots.push(&mut lists[number % 2], value.clone(), false);
        }
        slots.push_gap(&mut lists[0]);
        assert_eq!(Rc::strong_count(&value), 1_001);
        for _ in 0..500 {
            slots.pop(&mut lists[0], |_, _| {});
        }
        assert_eq!(Rc::strong_count(&value), 501);
        slots.shrink(0);
        assert!(!slots.is_empty() && slots.pages() > 0);
        drop(slots);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn a_destructor_that_panics_keeps_no_other_from_running() {
        struct Bomb(Rc<()>);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(Rc::strong_count(&self.0).is_multiple_of(2), "on purpose");
            }
        }
        let value = Rc::new(());
        let mut slots = Slots::default();
        let mut list = List::default();
        for _ in 0..20 {
            slots.push(&mut list, Bomb(value.clone()), false);
        }
        drop(slots);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn memory_goes_back() {
        let mut slots = Slots::default();
        let mut list = List::default();
        for _ in 0..2 {
            (0..10_000).for_each(|number| _ = slots.push(&mut list, number, false));
            (0..10_000).for_each(|number| assert_eq!(slots.pop(&mut list, |_, _| {}), number));
            assert!(slots.pages() > 2);
            slots.shrink(2);
            assert!(slots.pages() == 2 && slots.is_empty());
        }
    }

    #[test]
    #[should_panic(expected = "only a value")]
    fn nothing_is_taken_twice() {
        let mut slots = Slots::default();
        let mut list = List::default();
        slots.push(&mut list, "once", true);
        let mut stale = List { ..list };
        slots.pop(&mut list, |_, _| {});
        slots.pop(&mut stale, |_, _| {});
    }
}
