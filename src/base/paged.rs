//! A growable array in pages: indexes stay valid, growth copies nothing, and no page is ever half as large again as needed.
//!
//! A doubling vector of a million cells stalls its core for milliseconds when it grows and may hold twice what is used.
//! Here an index costs one more dependent load, the page table being small enough for the nearest cache.

const PAGE_BITS: u32 = 9;
const PAGE: usize = 1 << PAGE_BITS;

/// Elements per page.
pub const PAGE_LEN: usize = PAGE;

/// An array addressed by `u32` that grows by whole pages of default values.
#[derive(Debug)]
pub struct Paged<T> {
    pages: Vec<Box<[T; PAGE]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged { pages: Vec::new() }
    }
}

impl<T: Default> Paged<T> {
    /// The number of elements for which there is memory; always a multiple of [`PAGE_LEN`].
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> u32 {
        (self.pages.len() << PAGE_BITS) as u32
    }

    /// The element at `index`, or `None` beyond the last page.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let page = self.pages.get((index >> PAGE_BITS) as usize)?;
        Some(&page[index as usize & (PAGE - 1)])
    }

    /// The element at `index`, or `None` beyond the last page.
    #[inline(always)]
    #[must_use]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let page = self.pages.get_mut((index >> PAGE_BITS) as usize)?;
        Some(&mut page[index as usize & (PAGE - 1)])
    }

    /// Adds a page of default values; the first of their indexes is the former [`capacity`](Self::capacity).
    #[cold]
    pub fn grow(&mut self) {
        let page: Vec<T> = std::iter::repeat_with(T::default).take(PAGE).collect();
        let page: Box<[T; PAGE]> = page
            .into_boxed_slice()
            .try_into()
            .unwrap_or_else(|_| unreachable!());
        self.pages.push(page);
    }

    /// Gives back every page beyond the first `pages`; whatever they held is dropped.
    pub fn truncate_pages(&mut self, pages: usize) {
        self.pages.truncate(pages);
    }

    /// Pages in use.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }
}

impl<T: Default> std::ops::Index<u32> for Paged<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: u32) -> &T {
        &self.pages[(index >> PAGE_BITS) as usize][index as usize & (PAGE - 1)]
    }
}

impl<T: Default> std::ops::IndexMut<u32> for Paged<T> {
    #[inline(always)]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[(index >> PAGE_BITS) as usize][index as usize & (PAGE - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_index_while_it_grows() {
        let mut paged = Paged::<u32>::default();
        assert!(paged.get(0).is_none());
        for index in 0..10 * PAGE as u32 {
            if index == paged.capacity() {
                paged.grow();
            }
            paged[index] = index;
        }
        assert!((0..10 * PAGE as u32).all(|index| paged[index] == index));
        assert!(paged.get(paged.capacity()).is_none());
        paged.truncate_pages(1);
        assert_eq!(paged.capacity(), PAGE as u32);
    }
}
