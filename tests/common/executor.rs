//! An executor for the length of a test.

use corecast::io::leaked_eventfd;
use corecast::io::watchdog::Watchdog;
use glommio::{LocalExecutorBuilder, Placement};
use std::sync::Arc;
use std::time::Duration;

/// Runs a future to its end on an executor of its own, as the runtime sets them up.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let made = leaked_eventfd::watch(|| {
        LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(Duration::from_millis(1))
            .io_memory(64 << 10)
            .ring_depth(32)
            .make()
    });
    let (executor, eventfd) = made.unwrap();
    let eventfd = Arc::new(eventfd);
    // On a busy machine an executor may sleep over its own work: see the watchdog.
    assert!(eventfd.is_known());
    let watchdog = Watchdog::start(vec![eventfd.clone()]).unwrap();
    let outcome = executor.run(future);
    drop((watchdog, executor));
    outcome
}
