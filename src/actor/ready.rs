//! The ready queue: the actors for which messages wait, in the order of their turns.
//!
//! A ring whose length is a power of two. Every message to an idle actor passes through it, and `VecDeque`, whose length is
//! any, takes 40 instructions for that where this takes 15.

use super::reference::CellRef;

/// Actors in the order in which they run.
#[derive(Default)]
pub(crate) struct Ready {
    /// Empty, or a power of two long.
    ring: Vec<CellRef>,
    /// Turns that have been taken, and turns that have been given; both wrap.
    taken: usize,
    given: usize,
}

impl Ready {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.given.wrapping_sub(self.taken)
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.given == self.taken
    }

    /// Lets an actor run after all others.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, at: CellRef) {
        if self.len() == self.ring.len() {
            self.grow();
        }
        let place = self.place(self.given);
        self.ring[place] = at;
        self.given = self.given.wrapping_add(1);
    }

    /// Lets an actor run before all others.
    pub(crate) fn push_front(&mut self, at: CellRef) {
        if self.len() == self.ring.len() {
            self.grow();
        }
        self.taken = self.taken.wrapping_sub(1);
        let place = self.place(self.taken);
        self.ring[place] = at;
    }

    /// Takes back the turn that was given last, if it is this actor's.
    pub(crate) fn withdraw(&mut self, at: CellRef) {
        let last = self.given.wrapping_sub(1);
        if !self.is_empty() && self.ring[self.place(last)] == at {
            self.given = last;
        }
    }

    /// The actor whose turn it is.
    #[inline(always)]
    pub(crate) fn pop_front(&mut self) -> Option<CellRef> {
        if self.is_empty() {
            return None;
        }
        let next = self.ring[self.place(self.taken)];
        self.taken = self.taken.wrapping_add(1);
        Some(next)
    }

    /// Takes an actor out of turn: the one that has so many before it.
    pub(crate) fn remove(&mut self, before: usize) -> Option<CellRef> {
        if before >= self.len() {
            return None;
        }
        // It moves to the front, and those before it up by one place.
        for number in (0..before).rev() {
            let one = self.place(self.taken.wrapping_add(number));
            let next = self.place(self.taken.wrapping_add(number + 1));
            self.ring.swap(one, next);
        }
        self.pop_front()
    }

    #[inline(always)]
    fn place(&self, turn: usize) -> usize {
        turn & self.ring.len().wrapping_sub(1)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let mut ring: Vec<CellRef> = std::iter::from_fn(|| self.pop_front()).collect();
        self.taken = 0;
        self.given = ring.len();
        ring.resize((2 * ring.len()).max(64), CellRef::new(0, 0));
        self.ring = ring;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// It behaves like a `VecDeque`.
        #[test]
        fn is_a_queue(steps in prop::collection::vec((0_usize..8, 0_usize..100), 0..600)) {
            let mut ready = Ready::default();
            let mut model = VecDeque::new();
            for (number, (what, which)) in steps.into_iter().enumerate() {
                let at = CellRef::new(number as u32, 1);
                match what {
                    0 => prop_assert_eq!(ready.remove(which), model.remove(which)),
                    1..3 => prop_assert_eq!(ready.pop_front(), model.pop_front()),
                    3 => {
                        ready.push_front(at);
                        model.push_front(at);
                    }
                    4 => {
                        let whose = model.back().filter(|_| which > 50).copied().unwrap_or(at);
                        ready.withdraw(whose);
                        model.pop_back_if(|last| *last == whose);
                    }
                    _ => {
                        ready.push_back(at);
                        model.push_back(at);
                    }
                }
                prop_assert_eq!((ready.len(), ready.is_empty()), (model.len(), model.is_empty()));
            }
            while let Some(next) = model.pop_front() {
                prop_assert_eq!(ready.pop_front(), Some(next));
            }
            prop_assert!(ready.pop_front().is_none());
        }
    }
}
