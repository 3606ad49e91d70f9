//! What is not on any core: blocking calls and foreign executors, run at later virtual times from the seed.

use super::foreign::Foreign;
use crate::actor::guard::drop_all_guarded;
use crate::actor::task::Executor;
use crate::base::rng::Rng;
use rand::RngExt;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// An executor of the simulation's own, in place of a thread pool or a tokio runtime: give it to
/// [`Context::spawn_on`](crate::actor::context::Context::spawn_on).
#[derive(Clone)]
pub struct Elsewhere {
    arrived: Arc<Mutex<Vec<Work>>>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Elsewhere {
    fn lock(&self) -> MutexGuard<'_, Vec<Work>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor for Elsewhere {
    fn execute(&self, work: Work) {
        self.lock().push(work);
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").finish_non_exhaustive()
    }
}

/// The longest delay before a piece of work goes on, in nanoseconds.
const MAX_DELAY: u64 = 2_000_000;

struct Woken {
    woken: AtomicBool,
    foreign: Arc<Foreign>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.foreign.woken("work elsewhere");
        self.woken.store(true, Ordering::Release);
    }
}

struct Running {
    number: u64,
    work: Work,
    woken: Arc<Woken>,
    due: Option<u64>,
}

/// All work that is under way elsewhere.
pub(super) struct Pool {
    entrance: Elsewhere,
    rng: Rng,
    foreign: Arc<Foreign>,
    running: Vec<Running>,
    next: u64,
}

impl Pool {
    pub(super) fn new(rng: Rng, foreign: Arc<Foreign>) -> Pool {
        Pool {
            entrance: Elsewhere {
                arrived: Arc::default(),
            },
            rng,
            foreign,
            running: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn entrance(&self) -> Elsewhere {
        self.entrance.clone()
    }

    /// When the next piece of work goes on.
    pub(super) fn next_due(&mut self, now: u64) -> Option<u64> {
        for work in self.entrance.lock().drain(..) {
            let woken = Arc::new(Woken {
                woken: AtomicBool::new(true),
                foreign: self.foreign.clone(),
            });
            self.running.push(Running {
                number: self.next,
                work,
                woken,
                due: None,
            });
            self.next += 1;
        }
        for running in &mut self.running {
            if running.due.is_none() && running.woken.woken.swap(false, Ordering::AcqRel) {
                running.due = Some(now + self.rng.random_range(0..MAX_DELAY));
            }
        }
        self.running.iter().filter_map(|running| running.due).min()
    }

    /// Drops all work, piece by piece.
    pub(super) fn end(&mut self) {
        let arrived = std::mem::take(&mut *self.entrance.lock());
        let running = self.running.drain(..).map(|running| running.work);
        drop_all_guarded(running.chain(arrived));
    }

    /// Lets the work that is due by `now` go on, one piece; its number.
    pub(super) fn run_one(&mut self, now: u64) -> Option<u64> {
        let at = self
            .running
            .iter()
            .position(|running| running.due.is_some_and(|due| due <= now))?;
        let mut running = self.running.swap_remove(at);
        let number = running.number;
        running.due = None;
        let waker = Waker::from(running.woken.clone());
        if running.work.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
            self.running.push(running);
        }
        Some(number)
    }
}
