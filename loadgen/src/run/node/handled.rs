//! How many tells of each driver of the cluster this node has handled.
//!
//! A tell to another node brings nothing back, and a closed loop has to know what is still in flight. So each node counts
//! what it handles by who sent it, and drivers ask for their count: one small ask now and then instead of an answer to each
//! message.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::options::MAX_NODES;

/// The most drivers of a node: one for each of its cores.
pub(super) const MAX_DRIVERS: usize = 64;
const ORIGINS: usize = MAX_NODES as usize * MAX_DRIVERS;
/// A cell is a run and a count, which are read together.
const COUNT_BITS: u32 = 40;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

thread_local! {
    static CORE: RefCell<Option<(Arc<Handled>, usize)>> = const { RefCell::new(None) };
}

/// A driver of the cluster, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin(pub(super) u16);

impl Origin {
    pub(super) fn new(node: u32, driver: usize) -> Origin {
        Origin((node as usize * MAX_DRIVERS + driver) as u16)
    }

    /// The place of its cells; one that another node made up has none.
    fn index(self) -> Option<usize> {
        usize::from(self.0)
            .checked_sub(MAX_DRIVERS)
            .filter(|index| *index < ORIGINS)
    }
}

/// The counts of one node.
#[derive(Debug)]
pub(super) struct Handled {
    /// By core, then by origin. Each cell is written by its core only.
    cells: Vec<AtomicU64>,
    cores: usize,
    /// Who counts: the node and how often its process has been started.
    pub(super) node: u32,
    pub(super) start: u32,
}

/// What a node says of a driver's tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) node: u32,
    pub(super) start: u32,
    pub(super) count: u64,
}

impl Handled {
    pub(super) fn new(node: u32, start: u32, cores: usize) -> Handled {
        Handled {
            cells: (0..cores * ORIGINS).map(|_| AtomicU64::new(0)).collect(),
            cores,
            node,
            start,
        }
    }

    /// Has the thread of this core count here.
    pub(super) fn open(self: Arc<Handled>, core: usize) {
        CORE.set(Some((self, core)));
    }

    /// Counts a tell on this core.
    #[inline]
    pub(super) fn note(origin: Origin, run: u32) {
        CORE.with_borrow(|here| {
            if let Some((handled, core)) = here
                && let Some(index) = origin.index()
            {
                handled.add(*core * ORIGINS + index, run);
            }
        });
    }

    /// What this node has handled of a driver's tells, for an answer; none on a thread that does not count.
    pub(super) fn count_here(origin: Origin, run: u32) -> Option<Count> {
        CORE.with_borrow(|here| here.as_ref().map(|(handled, _)| handled.count(origin, run)))
    }

    fn add(&self, cell: usize, run: u32) {
        let cell = &self.cells[cell];
        let (run, value) = (u64::from(run), cell.load(Ordering::Relaxed));
        let counted = value >> COUNT_BITS;
        if run == counted {
            cell.store(value + 1, Ordering::Relaxed);
        } else if run > counted {
            // What comes late of a run that is over is counted for nobody.
            cell.store((run << COUNT_BITS) | 1, Ordering::Relaxed);
        }
    }

    /// What this node has handled of a driver's tells in one run.
    pub(super) fn count(&self, origin: Origin, run: u32) -> Count {
        let count = origin.index().map_or(0, |index| {
            let cells = (0..self.cores).map(|core| &self.cells[core * ORIGINS + index]);
            cells
                .map(|cell| cell.load(Ordering::Relaxed))
                .filter(|value| value >> COUNT_BITS == u64::from(run))
                .map(|value| value & COUNT)
                .sum()
        });
        Count {
            node: self.node,
            start: self.start,
            count,
        }
    }
}

/// As it travels.
impl From<Count> for u128 {
    fn from(count: Count) -> u128 {
        u128::from(count.node) << 96 | u128::from(count.start) << 64 | u128::from(count.count)
    }
}

impl From<u128> for Count {
    fn from(packed: u128) -> Count {
        Count {
            node: (packed >> 96) as u32,
            start: (packed >> 64) as u32,
            count: packed as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_are_counted_by_driver_and_run_over_all_cores() {
        let handled = Arc::new(Handled::new(2, 1, 2));
        let (mine, other) = (Origin::new(1, 0), Origin::new(9, 63));
        for core in [0, 1, 1] {
            handled.clone().open(core);
            Handled::note(mine, 7);
            Handled::note(other, 8);
        }
        let count = |origin, run| handled.count(origin, run).count;
        assert_eq!((count(mine, 7), count(other, 8), count(mine, 8)), (3, 3, 0));
        Handled::note(mine, 9);
        assert_eq!(
            (count(mine, 7), count(mine, 9)),
            (1, 1),
            "a core counts one run"
        );
        Handled::note(mine, 7);
        assert_eq!(
            (count(mine, 7), count(mine, 9)),
            (1, 1),
            "what is late is for nobody"
        );
        for made_up in [0, 63, u16::MAX] {
            Handled::note(Origin(made_up), 1);
            assert_eq!(count(Origin(made_up), 1), 0);
        }
        let packed = u128::from(handled.count(mine, 9));
        let expected = Count {
            node: 2,
            start: 1,
            count: 1,
        };
        assert_eq!(Count::from(packed), expected);
    }
}
