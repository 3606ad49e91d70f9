//! The budget of a core: how many messages wait in its mailboxes, and how many bytes they take.
//!
//! Every message changes both counts when it comes and when it goes, and every send asks whether there is room. So both lie
//! in one word, biased such that the highest bit of each says that its bound is reached: one addition, one test. (As two
//! numbers side by side they were written one by one and read together, for which the processor waits 5 ns.)

/// Bits of the lower half, which counts bytes in units of [`UNIT`].
const BYTE_BITS: u32 = 36;
/// Bytes are counted in eights.
const UNIT: usize = 8;
/// One message.
const MESSAGE: u64 = 1 << BYTE_BITS;
const BYTES_FULL: u64 = 1 << (BYTE_BITS - 1);
const MESSAGES_FULL: u64 = 1 << 63;

/// Messages and bytes that wait on one core, and their bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    used: u64,
    unused: u64,
}

impl Budget {
    /// The largest bound for messages: one less than 2^27.
    pub(crate) const MAX_MESSAGES: usize = (1 << 27) - 1;
    /// The largest bound for bytes: 256 GiB.
    pub(crate) const MAX_BYTES: usize = (1 << 35) * UNIT;

    /// An unused budget; larger bounds than the largest are cut down to them.
    pub(crate) fn new(messages: usize, bytes: usize) -> Budget {
        let messages = messages.min(Self::MAX_MESSAGES) as u64;
        // A budget that is smaller than any message still lets one in at a time.
        let bytes = (bytes.min(Self::MAX_BYTES) / UNIT).max(1) as u64;
        let unused = (MESSAGES_FULL - messages * MESSAGE) + (BYTES_FULL - bytes);
        Budget {
            used: unused,
            unused,
        }
    }

    /// Whether neither bound is reached.
    #[inline(always)]
    pub(crate) fn has_room(self) -> bool {
        self.used & (MESSAGES_FULL | BYTES_FULL) == 0
    }

    /// A message of this many bytes has come. What needs no room may go beyond the bounds, up to twice as far.
    #[inline(always)]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.used += cost(bytes);
    }

    /// A message of this many bytes has gone.
    #[inline(always)]
    pub(crate) fn remove(&mut self, bytes: usize) {
        self.used -= cost(bytes);
    }

    /// Messages that wait.
    pub(crate) fn messages(self) -> usize {
        ((self.used - self.unused) >> BYTE_BITS) as usize
    }

    /// Their bytes.
    pub(crate) fn bytes(self) -> usize {
        ((self.used - self.unused) & (MESSAGE - 1)) as usize * UNIT
    }
}

#[inline(always)]
const fn cost(bytes: usize) -> u64 {
    MESSAGE + bytes.div_ceil(UNIT) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It counts like two numbers.
        #[test]
        fn counts_like_two_numbers(
            messages in 1_usize..50,
            bytes in 1_usize..2_000,
            steps in prop::collection::vec((any::<bool>(), 0_usize..100), 0..300),
        ) {
            let mut budget = Budget::new(messages, bytes);
            let mut waiting: Vec<usize> = Vec::new();
            for (comes, size) in steps {
                if comes {
                    budget.add(size);
                    waiting.push(size);
                } else if let Some(size) = waiting.pop() {
                    budget.remove(size);
                }
                let counted: usize = waiting.iter().map(|size| size.next_multiple_of(UNIT)).sum();
                prop_assert_eq!((budget.messages(), budget.bytes()), (waiting.len(), counted));
                prop_assert_eq!(
                    budget.has_room(),
                    waiting.len() < messages && counted / UNIT < (bytes / UNIT).max(1)
                );
            }
        }
    }

    #[test]
    fn the_largest_bounds_hold() {
        let mut budget = Budget::new(usize::MAX, usize::MAX);
        assert!(budget.has_room());
        budget.add(Budget::MAX_BYTES - 64);
        assert!(budget.has_room());
        budget.add(64);
        assert!(!budget.has_room());
        assert_eq!((budget.messages(), budget.bytes()), (2, Budget::MAX_BYTES));
        budget.remove(64);
        assert!(budget.has_room());
    }
}
