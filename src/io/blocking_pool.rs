//! A bounded pool of threads for calls that block.

use crate::actor::guard::{drop_guarded, guarded};
use crate::actor::task::Executor;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Threads that run calls that block. When its queue is full a call is dropped, and whoever waits for it is told.
#[derive(Debug)]
pub struct BlockingPool {
    queue: Sender<Work>,
}

/// The threads of a pool, to be joined after the pool has been dropped.
#[derive(Debug)]
pub struct BlockingThreads {
    threads: Vec<JoinHandle<()>>,
    closed: Arc<AtomicBool>,
}

impl BlockingPool {
    /// Starts `threads` threads with a queue of at most `depth` calls.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        threads: usize,
        depth: usize,
    ) -> std::io::Result<(Arc<BlockingPool>, BlockingThreads)> {
        let (queue, work) = bounded(depth);
        let closed = Arc::new(AtomicBool::new(false));
        let threads = (0..threads)
            .map(|number| {
                let work: Receiver<Work> = work.clone();
                let closed = closed.clone();
                thread::Builder::new()
                    .name(format!("corecast-blocking-{number}"))
                    .spawn(move || {
                        // What is still queued at the end is dropped, and whoever waits for it is told.
                        for work in work {
                            if closed.load(Ordering::Relaxed) {
                                drop_guarded(work);
                            } else if let Err(panic) = guarded(|| block_on(work)) {
                                tracing::error!(panic, "a blocking call panicked at its end");
                            }
                        }
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok((
            Arc::new(BlockingPool { queue }),
            BlockingThreads { threads, closed },
        ))
    }
}

impl BlockingThreads {
    /// Waits for the threads to finish what they have begun. The pool must have been dropped.
    pub fn join(self) {
        self.closed.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // Work catches its own panics, so a thread that panicked has nothing to tell.
            let _ = thread.join();
        }
    }
}

impl Executor for BlockingPool {
    fn execute(&self, work: Work) {
        if self.queue.try_send(work).is_err() {
            tracing::warn!("the queue of the pool for blocking calls is full: a call is dropped");
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on(work: Work) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut work = pin!(work);
    while work
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::refusal::TaskError;
    use crate::actor::task::run_elsewhere;

    #[test]
    fn runs_what_fits_and_says_what_does_not() {
        let (pool, threads) = BlockingPool::start(1, 1).unwrap();
        let (go, wait) = bounded::<()>(1);
        let first = run_elsewhere(&*pool, async move { wait.recv().is_ok() });
        while !pool.queue.is_empty() {
            thread::yield_now();
        }
        let second = run_elsewhere(&*pool, async { 2 });
        let third = run_elsewhere(&*pool, async { 3 });
        assert_eq!(third.wait(), Err(TaskError::Refused));
        go.send(()).unwrap();
        assert_eq!(first.wait(), Ok(true));
        assert_eq!(second.wait(), Ok(2));
        let panics = run_elsewhere(&*pool, async { panic!("no") as () });
        assert_eq!(panics.wait(), Err(TaskError::Panicked("no".into())));
        drop(pool);
        threads.join();
    }

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_destructor_that_panics_costs_no_thread() {
        let (pool, threads) = BlockingPool::start(1, 4).unwrap();
        let bomb = Bomb;
        let outcome = run_elsewhere(&*pool, async move {
            std::mem::forget(bomb);
            Bomb
        });
        drop(outcome);
        // One that executes what is no future of ours.
        let bomb = Bomb;
        pool.execute(Box::pin(async move {
            let _bomb = bomb;
        }));
        assert_eq!(run_elsewhere(&*pool, async { 7 }).wait(), Ok(7));
        drop(pool);
        threads.join();
    }

    /// Without the flag the end of a runtime would work the whole queue off.
    #[test]
    fn at_the_end_what_still_waits_is_dropped() {
        let (pool, threads) = BlockingPool::start(1, 4).unwrap();
        let (go, wait) = bounded::<()>(1);
        let first = run_elsewhere(&*pool, async move { wait.recv().is_ok() });
        while !pool.queue.is_empty() {
            thread::yield_now();
        }
        let second = run_elsewhere(&*pool, async { 2 });
        drop(pool);
        let closed = threads.closed.clone();
        let end = thread::spawn(move || threads.join());
        while !closed.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        go.send(()).unwrap();
        assert_eq!(first.wait(), Ok(true));
        assert_eq!(second.wait(), Err(TaskError::Refused));
        end.join().unwrap();
    }
}
