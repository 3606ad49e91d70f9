//! What a batch carries: the first item lies in the batch itself, the others in a vector of its own.
//!
//! Each cache line that another core has written costs about as much as handling a message. A batch of one, which an ask
//! is in both directions, needs none but those of the batch.

use super::mailbox::Opaque;

/// Items in the order in which they were put in.
pub(crate) struct Items<T> {
    first: Option<Opaque<T>>,
    others: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Items {
            first: None,
            others: Vec::new(),
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
            self.others.push(item);
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
        debug_assert!(self.first.is_none());
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
                assert_eq!(items.drain().collect::<Vec<_>>(), expected);
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
