//! What cores and drivers tell each other without messages: how many messages of each driver are settled, and figures for
//! the progress line.
//!
//! A message is settled when its receiver has handled it, or when it was dropped on the way. Each core counts in cells of
//! its own, one for each driver, and a driver adds up its column whenever it wants to know what is still in flight. So
//! flow control costs a store for each message and sends none: what is measured is the load and nothing else. Drivers
//! poll anyway, so nobody needs to be woken.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Steps of the live histogram to a doubling: figures are within 12 %.
const STEPS: u32 = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = (64 * STEPS) as usize;

/// The board of one phase.
#[derive(Debug)]
pub(super) struct Board {
    drivers: usize,
    /// By core, then by driver. Each cell is written by its core only.
    settled: Vec<Cell>,
    /// By core, then one for each thread outside.
    live: Vec<Live>,
    order: AtomicU8,
}

/// What drivers are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    /// Send.
    Go,
    /// Send nothing more, and wait for what is in flight.
    Stop,
    /// Wait for nothing.
    Abandon,
}

/// A counter in a cache line of its own (two, as they are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

/// What one core shows of its work.
#[derive(Debug)]
#[repr(align(128))]
struct Live {
    completed: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

impl Board {
    /// A board for so many drivers, some of which may be threads.
    pub(super) fn new(cores: usize, drivers: usize, threads: usize) -> Board {
        let live = || Live {
            completed: AtomicU64::new(0),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        };
        Board {
            drivers,
            settled: (0..cores * drivers).map(|_| Cell::default()).collect(),
            live: (0..cores + threads).map(|_| live()).collect(),
            order: AtomicU8::new(Order::Go as u8),
        }
    }

    /// Counts a message of a driver as settled on a core; only that core calls it.
    #[inline]
    pub(super) fn settle(&self, core: usize, driver: usize) {
        add(&self.settled[core * self.drivers + driver].0, 1);
    }

    /// How many messages of a driver are settled.
    pub(super) fn settled(&self, driver: usize) -> u64 {
        let column = self.settled.iter().skip(driver).step_by(self.drivers);
        column.map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// Shows completions of a core; only that core calls it.
    pub(super) fn show_completed(&self, core: usize, messages: u64) {
        add(&self.live[core].completed, messages);
    }

    /// Shows a latency on a core; only that core calls it.
    #[inline]
    pub(super) fn show_latency(&self, core: usize, nanos: u64) {
        add(&self.live[core].buckets[bucket_of(nanos)], 1);
    }

    /// Completions shown by all cores.
    pub(super) fn completed(&self) -> u64 {
        self.live
            .iter()
            .map(|live| live.completed.load(Ordering::Relaxed))
            .sum()
    }

    /// The median and the 99th percentile of the latencies shown, in nanoseconds.
    pub(super) fn latency(&self) -> Option<(u64, u64)> {
        let at = |bucket: usize| {
            self.live
                .iter()
                .map(|live| live.buckets[bucket].load(Ordering::Relaxed))
                .sum::<u64>()
        };
        let counts: Vec<u64> = (0..BUCKETS).map(at).collect();
        let total: u64 = counts.iter().sum();
        let within = |share: f64| {
            let mut rest = (total as f64 * share).ceil() as u64;
            counts.iter().position(|count| {
                rest = rest.saturating_sub(*count);
                rest == 0
            })
        };
        (total > 0).then(|| {
            (
                value_of(within(0.5).unwrap_or(0)),
                value_of(within(0.99).unwrap_or(0)),
            )
        })
    }

    /// Tells the drivers what to do.
    pub(super) fn give(&self, order: Order) {
        self.order.store(order as u8, Ordering::Relaxed);
    }

    /// What the drivers are told to do.
    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::Go,
            1 => Order::Stop,
            _ => Order::Abandon,
        }
    }
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

/// The exponent of the value, then the first bits behind its leading one.
#[inline]
fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.max(u64::from(STEPS));
    let exponent = nanos.ilog2();
    let step = (nanos >> (exponent - STEP_BITS)) as usize & (STEPS as usize - 1);
    exponent as usize * STEPS as usize + step
}

/// The lower end of a bucket.
fn value_of(bucket: usize) -> u64 {
    let (exponent, step) = (bucket as u32 / STEPS, bucket as u64 % u64::from(STEPS));
    (u64::from(STEPS) + step) << exponent.saturating_sub(STEP_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_sees_its_own_messages_settled_on_all_cores() {
        let board = Board::new(3, 2, 0);
        for core in 0..3 {
            (0..=core).for_each(|_| board.settle(core, 1));
        }
        board.settle(2, 0);
        assert_eq!((board.settled(0), board.settled(1)), (1, 6));
    }

    #[test]
    fn live_percentiles_are_close() {
        let board = Board::new(1, 1, 1);
        assert_eq!(board.latency(), None);
        (1..=10_000_u64).for_each(|n| board.show_latency((n % 2) as usize, n * 100));
        let (p50, p99) = board.latency().expect("shown");
        assert!((440_000..=500_000).contains(&p50), "{p50}");
        assert!((870_000..=990_000).contains(&p99), "{p99}");
    }

    #[test]
    fn every_latency_has_a_bucket() {
        for nanos in [0, 1, 7, 8, 9, 1023, 1 << 40, u64::MAX] {
            let low = value_of(bucket_of(nanos));
            assert!(
                low <= nanos.max(8) && low as f64 >= nanos as f64 * 0.88,
                "{nanos}: {low}"
            );
        }
    }
}
