//! Wakes executors that sleep although their core has something to do.
//!
//! glommio 0.9 takes "preempted before any task ran" for "no task is ready" and goes to sleep. That takes the thread being
//! off its CPU for a preemption interval between arming the timer and looking at it: rare on a CPU of one's own, one start
//! in some fifty on two busy cores that also carry the coordination core. The task counts as scheduled then, so no waker
//! reaches it any more; only its eventfd does. So a thread of ours writes to the eventfd of every core now and then: what
//! was slept over costs at most one period, and an idle core pays some microseconds for each.

use super::leaked_eventfd::LeakedEventfd;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a wake that the executor has lost can go unnoticed.
const PERIOD: Duration = Duration::from_millis(20);

/// The thread that wakes; it ends when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to watch over the executors with these eventfds.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(eventfds: Vec<Arc<LeakedEventfd>>) -> io::Result<Watchdog> {
        let (stop, stopped) = bounded(0);
        let thread = thread::Builder::new()
            .name("corecast-watchdog".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    eventfds.iter().for_each(|eventfd| eventfd.kick());
                }
            })?;
        Ok(Watchdog {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It only wakes others, so it has no panic to tell of.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::pending::pending;
    use crate::io::leaked_eventfd;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    /// How often a thread has gone to sleep.
    fn sleeps(status: &Path) -> u64 {
        let status = fs::read_to_string(status).unwrap();
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }

    /// Nothing else wakes this executor, so how often it goes to sleep says how often it was woken.
    #[test]
    fn a_sleeping_executor_is_woken_again_and_again() {
        let (end, ended) = pending(());
        let (started, begun) = bounded(1);
        let executor = thread::spawn(move || {
            let (executor, eventfd) = leaked_eventfd::watch(|| {
                LocalExecutorBuilder::new(Placement::Unbound)
                    .io_memory(64 << 10)
                    .ring_depth(32)
                    .make()
            })
            .unwrap();
            let me = Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap());
            started
                .send((Arc::new(eventfd), me.join("status")))
                .unwrap();
            executor.run(ended);
        });
        let (eventfd, status) = begun.recv().unwrap();
        assert!(eventfd.is_known());
        let watchdog = Watchdog::start(vec![eventfd]).unwrap();
        let before = sleeps(&status);
        let patience = Instant::now() + Duration::from_secs(60);
        while sleeps(&status) < before + 20 {
            assert!(Instant::now() < patience, "nobody wakes it");
            thread::sleep(PERIOD);
        }
        end.complete(());
        executor.join().unwrap();
        drop(watchdog);
    }
}
