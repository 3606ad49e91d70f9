//! Snapshots under way to their journal: nobody waits for them, and one that fails is counted.

use crate::actor::guard::drop_guarded;
use crate::actor::local::Local;
use crate::actor::refusal::TaskError;
use crate::actor::task::Job;
use crate::persistence::id::PersistenceId;
use crate::persistence::journal::Work;
use crate::persistence::record::Sequence;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// What one actor knows of its snapshots. It may be on another core than they by now.
#[derive(Debug, Default)]
pub(super) struct Saves {
    under_way: AtomicBool,
    saved: AtomicU64,
}

impl Saves {
    /// Whether one is under way.
    pub(super) fn any_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    /// The last event of which a snapshot is stored.
    pub(super) fn saved(&self) -> Sequence {
        Sequence(self.saved.load(Ordering::Acquire))
    }

    pub(super) fn set_saved(&self, sequence: Sequence) {
        self.saved.fetch_max(sequence.0, Ordering::AcqRel);
    }
}

/// A snapshot under way.
pub(super) struct Save {
    saves: Arc<Saves>,
    id: PersistenceId,
    sequence: Sequence,
    work: Option<Work<()>>,
    failed: Option<String>,
    finished: bool,
}

/// Its actor may be on a core that goes on.
impl Drop for Save {
    fn drop(&mut self) {
        if !self.finished {
            self.saves.under_way.store(false, Ordering::Release);
            let (id, sequence) = (&self.id, self.sequence);
            tracing::warn!(%id, %sequence, "a snapshot was under way when its core ended");
        }
    }
}

impl Save {
    /// Starts it. It has the time of an asynchronous handler; where there are too many futures already, it has failed.
    pub(super) fn start(
        local: &mut Local,
        saves: Arc<Saves>,
        id: PersistenceId,
        sequence: Sequence,
        work: Work<()>,
    ) {
        saves.under_way.store(true, Ordering::Release);
        local.settling.snapshots += 1;
        local.add_job_with_deadline(Box::new(Save {
            saves,
            id,
            sequence,
            work: Some(work),
            failed: None,
            finished: false,
        }));
    }
}

impl Job for Save {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(());
        };
        work.as_mut().poll(context).map(|saved| {
            self.failed = saved.err().map(|error| error.to_string());
        })
    }

    fn abandon(&mut self) {
        drop_guarded(self.work.take());
    }

    fn finish(mut self: Box<Self>, local: &mut Local, failed: Option<TaskError>) {
        self.finished = true;
        local.settling.snapshots -= 1;
        drop_guarded(self.work.take());
        let failed = failed.map(|error| error.to_string());
        match self.failed.take().or(failed) {
            None => self.saves.set_saved(self.sequence),
            Some(why) => count_failure(local, &self.id, self.sequence, &why),
        }
        self.saves.under_way.store(false, Ordering::Release);
    }

    fn name(&self) -> &'static str {
        "a snapshot"
    }
}

/// A snapshot has failed: its actor goes on, and recovers from an older one and more events.
pub(super) fn count_failure(local: &mut Local, id: &PersistenceId, sequence: Sequence, why: &str) {
    local.counters.failed_snapshots += 1;
    tracing::warn!(core = %local.core, %id, %sequence, why, "a snapshot could not be stored");
}
