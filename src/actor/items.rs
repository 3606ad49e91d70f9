//! What a batch carries: the first item lies in the batch itself, the others in a queue of its own.
//!
//! Each cache line that another core has written costs about as much as handling a message. A batch of one, which an ask
//! is in both directions, needs none but those of the batch.

use std::collections::VecDeque;

/// A value of whose inside nothing is known. The cell hides unused values of the value's own tag, in which `Option` would
/// keep its tag otherwise: then looking at the one takes the other apart, the value is copied in pieces, and reading it as
/// a whole right after stalls the core (7 ns a message where this was measured).
struct Opaque<T>(std::cell::Cell<T>);

impl<T> Opaque<T> {
    #[inline(always)]
    fn new(value: T) -> Opaque<T> {
        Opaque(std::cell::Cell::new(value))
    }

    #[inline(always)]
    fn open(self) -> T {
        self.0.into_inner()
    }
}

/// Items in the order in which they were put in.
pub(crate) struct Items<T> {
    first: Option<Opaque<T>>,
    others: VecDeque<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Items {
            first: None,
            others: VecDeque::new(),
        }
    }
}

impl<T> Items<T> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(Opaque::new(item));
        } else {
            self.others.push_back(item);
        }
    }

    /// The next item.
    #[inline(always)]
    pub(crate) fn front(&mut self) -> Option<&T> {
        match &mut self.first {
            Some(first) => Some(first.0.get_mut()),
            None => self.others.front(),
        }
    }

    /// Takes the next item out.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<T> {
        match self.first.take() {
            Some(first) => Some(first.open()),
            None => self.others.pop_front(),
        }
    }

    /// Takes everything out; the memory stays. What the iterator does not give before it is dropped is dropped.
    #[inline]
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        let first = self.first.take().map(Opaque::open);
        first.into_iter().chain(self.others.drain(..))
    }

    /// Writes to the cache lines that another core has used, well before the next item is put in, which would have to wait
    /// for them.
    #[inline]
    pub(crate) fn fetch(&mut self) {
        debug_assert!(self.len() == 0);
        // The next items lie at the beginning again, in order.
        self.others.clear();
        std::mem::forget(self.first.take());
    }

    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.others.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_once() {
        let mut items = Items::default();
        for round in 0..3 {
            for count in [0, 1, 2, 70] {
                for number in 0..count {
                    items.push(round * 100 + number);
                    assert_eq!(items.len(), number + 1);
                }
                let expected: Vec<usize> = (0..count).map(|number| round * 100 + number).collect();
                let mut taken = Vec::new();
                for _ in 0..count * round / 3 {
                    let next = items.front().copied();
                    assert_eq!(items.pop(), next);
                    taken.extend(next);
                }
                taken.extend(items.drain());
                assert_eq!(taken, expected);
                assert!(items.front().is_none() && items.pop().is_none());
                items.fetch();
                assert_eq!(items.len(), 0);
            }
        }
        items.push(1);
        items.push(2);
        items.drain().next();
        assert_eq!(items.len(), 0);
        items.push(3);
        items.clear();
        assert_eq!(items.drain().next(), None);
    }
}
