//! How much locked memory the executors of a runtime need.
//!
//! An executor has three rings, and registers its I/O memory with each. Rings and registered memory count against the
//! limit on locked memory, summed over all processes of the user, unless the process has `CAP_IPC_LOCK`. Besides, glommio
//! refuses to start an executor under a limit of less than 512 KiB, whatever the capabilities.
//!
//! Measured without the capability under a limit of 8 MiB, with 64 KiB of I/O memory and rings of 32: of 64 executors 36
//! start, 227 KiB each, and the others find no memory for their rings.

/// glommio refuses a lower limit.
const LEAST_LIMIT_BYTES: u64 = 512 << 10;
/// How many rings an executor has.
const RINGS: u64 = 3;
/// A ring's fixed pages, rounded up so that the sum errs on the safe side.
const RING_BYTES: u64 = 12 << 10;
/// A ring's bytes for each entry: one submission, its index, two completions, and rounding to pages.
const RING_ENTRY_BYTES: u64 = 128;

/// What the executors of one runtime are going to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoDemand {
    /// How many executors: the data cores and the coordination core.
    pub executors: usize,
    /// The registered I/O memory of each, in bytes.
    pub io_memory_bytes: usize,
    /// The entries of each ring.
    pub ring_depth: usize,
}

impl IoDemand {
    /// The limit on locked memory under which all executors start, in bytes. `exempt` says that the process's locked
    /// memory is not counted (`CAP_IPC_LOCK`).
    #[must_use]
    pub fn locked_memory_bytes(&self, exempt: bool) -> u64 {
        if exempt {
            return LEAST_LIMIT_BYTES;
        }
        let ring = RING_BYTES + RING_ENTRY_BYTES * self.ring_depth.next_power_of_two() as u64;
        let executor = RINGS * (self.io_memory_bytes as u64 + ring);
        (self.executors as u64)
            .saturating_mul(executor)
            .max(LEAST_LIMIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(executors: usize) -> IoDemand {
        IoDemand {
            executors,
            io_memory_bytes: 64 << 10,
            ring_depth: 32,
        }
    }

    #[test]
    fn few_executors_need_the_least_limit() {
        assert_eq!(demand(1).locked_memory_bytes(false), 512 << 10);
        assert_eq!(demand(2).locked_memory_bytes(false), 512 << 10);
    }

    /// 36 were seen to start under 8 MiB; the rule must neither promise more nor refuse many that would start.
    #[test]
    fn the_need_is_close_to_what_was_measured() {
        let fit = (1..100)
            .take_while(|n| demand(*n).locked_memory_bytes(false) <= 8 << 20)
            .count();
        assert!((32..=36).contains(&fit), "{fit} executors under 8 MiB");
    }

    #[test]
    fn the_need_grows_with_every_part() {
        let base = demand(10).locked_memory_bytes(false);
        assert!(demand(11).locked_memory_bytes(false) > base);
        assert!(
            IoDemand {
                io_memory_bytes: 1 << 20,
                ..demand(10)
            }
            .locked_memory_bytes(false)
                > base
        );
        assert!(
            IoDemand {
                ring_depth: 33,
                ..demand(10)
            }
            .locked_memory_bytes(false)
                > base
        );
    }

    #[test]
    fn an_exempt_process_needs_the_least_limit_only() {
        assert_eq!(demand(1_000).locked_memory_bytes(true), 512 << 10);
    }
}
