//! What no seed decides: wakes by other threads, and calls for a runtime that is not there. Each fails the run, with an
//! explanation of what to use instead.

use crate::base::ids::CoreId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

/// What is used in its place.
const INSTEAD: &str = "Take from the simulation what is to come from the seed: ctx.sleep, ctx.now and ctx.rng (in a \
    future scope.sleep, scope.now and scope.rng), ctx.spawn for futures, ctx.spawn_blocking for calls that block, and \
    Simulation::elsewhere() as the executor of ctx.spawn_on, in place of tokio, glommio or a pool of threads";

/// Parts of what glommio and tokio panic with where they do not run.
const CALLS_FOR_A_RUNTIME: [&str; 6] = [
    "there is no reactor running",
    "Tokio 1.x context",
    "TryCurrentError",
    "called from outside of a `task::LocalSet`",
    "have a LocalExecutor running",
    "cannot access a scoped thread local variable without calling `set` first",
];

/// The first foreign influence on a simulation, until the run fails for it.
pub(super) struct Foreign {
    home: ThreadId,
    any: AtomicBool,
    first: Mutex<Option<String>>,
}

impl Foreign {
    /// From now on the simulation belongs to this thread.
    pub(super) fn new() -> Arc<Foreign> {
        Arc::new(Foreign {
            home: thread::current().id(),
            any: AtomicBool::new(false),
            first: Mutex::new(None),
        })
    }

    /// Something of the simulation has been woken. By its own thread it may be.
    pub(super) fn woken(&self, what: &str) {
        let thread = thread::current();
        if thread.id() != self.home {
            let name = thread.name().unwrap_or("without a name");
            self.note(format!(
                "{what} was woken by another thread ({name}). When that happens no seed decides, so the run cannot be \
                 repeated. {INSTEAD}"
            ));
        }
    }

    /// Looks through what panics have said.
    pub(super) fn hear(&self, panics: &[String]) {
        let calls = |text: &&String| CALLS_FOR_A_RUNTIME.iter().any(|part| text.contains(part));
        if let Some(text) = panics.iter().find(calls) {
            self.note(format!(
                "code in the simulation called for a runtime that does not run there; it panicked with {text:?}. {INSTEAD}"
            ));
        }
    }

    /// What there has been, once.
    pub(super) fn take(&self) -> Option<String> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.lock().take()
    }

    /// A waker of something that shows who uses it.
    pub(super) fn watch(self: &Arc<Self>, core: CoreId, waker: Waker) -> Waker {
        Waker::from(Arc::new(Watched {
            waker,
            core,
            foreign: self.clone(),
        }))
    }

    fn note(&self, what: String) {
        self.lock().get_or_insert(what);
        self.any.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of a future on a core.
struct Watched {
    waker: Waker,
    core: CoreId,
    foreign: Arc<Foreign>,
}

impl Wake for Watched {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.foreign.woken(&format!("a future on {}", self.core));
        self.waker.wake_by_ref();
    }
}
