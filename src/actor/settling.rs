//! What actors have to do before the end of their core: nothing but to have their last snapshots stored, while the core
//! still turns.

use super::guard::guarded;
use super::local::Local;
use super::reference::CellRef;

/// Snapshots that are begun at once.
const AT_ONCE: usize = 1_000;

/// How far the actors of a core are with that.
#[derive(Default)]
pub(crate) struct Settling {
    /// Snapshots under way to their journals, begun for whatever reason.
    pub(crate) snapshots: usize,
    /// Who has yet to be asked.
    left: Vec<CellRef>,
    /// How many activations there had been when everybody was to be asked.
    as_of: Option<u64>,
}

impl Settling {
    /// Somebody has come who has not been asked.
    pub(super) fn begin_anew(&mut self) {
        self.as_of = None;
    }
}

impl Local {
    /// Has the actors of an idle core take their last snapshots, some at a time, and again if any of them has run meanwhile.
    /// Returns whether all of them are through.
    pub(crate) fn has_settled(&mut self) -> bool {
        let now = Some(self.counters.activations);
        if self.settling.as_of != now {
            self.settling.as_of = now;
            self.settling.left = self.cells.tenants();
        }
        while self.settling.snapshots < AT_ONCE
            && let Some(at) = self.settling.left.pop()
        {
            self.settle_actor(at);
        }
        // Where somebody is left, as many are under way as may be.
        self.settling.snapshots == 0
    }

    fn settle_actor(&mut self, at: CellRef) {
        let Some(mut body) = self.cells.get(at).and_then(|cell| cell.body.take()) else {
            return;
        };
        if let Err(panic) = guarded(|| body.settle_for_the_end(self, at)) {
            tracing::error!(core = %self.core, panic, "an actor could not be asked for its last snapshot");
        }
        if let Some(cell) = self.cells.get(at) {
            cell.body = Some(body);
        }
    }
}
