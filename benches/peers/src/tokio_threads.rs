//! Pinned single-threaded tokio runtimes, for the peers that run on tokio.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::measure::{Cpus, RunError, on_pinned_thread, panicked, pin};
use crate::workload::{PARK_PAUSE_US, Workload};

/// Runs the future `make` returns as a task of a fresh runtime on the first CPU.
pub(crate) fn on_one_cpu<T, F>(cpus: Cpus, make: impl FnOnce() -> F + Send) -> Result<T, RunError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, RunError>> + Send + 'static,
{
    on_pinned_thread(cpus.first, || run_task(&runtime()?, make()))
}

/// The same with a second runtime on the second CPU, whose handle `make` gets. Both are kept from sleeping
/// if the workload wants that.
pub(crate) fn on_two_cpus<T, F>(
    workload: Workload,
    cpus: Cpus,
    make: impl FnOnce(Handle) -> F + Send,
) -> Result<T, RunError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, RunError>> + Send + 'static,
{
    let is_hot = workload == Workload::AskHot;
    let remote = runtime()?;
    let handle = remote.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            pin(cpus.second)?;
            if is_hot {
                remote.spawn(keep_awake());
            }
            // Ends when `stop` is dropped, even by a panic of the other side.
            let _ = remote.block_on(stopped);
            Ok(())
        });
        let result = on_pinned_thread(cpus.first, || {
            let local = runtime()?;
            if is_hot {
                local.spawn(keep_awake());
            }
            run_task(&local, make(handle))
        });
        drop(stop);
        receiving
            .join()
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
        result
    })
}

/// A current-thread runtime without I/O or timers: parking is a condition variable, the cheapest tokio has.
pub(crate) fn runtime() -> Result<Runtime, RunError> {
    // Looking at messages from other threads on every tick costs little and shortens round trips.
    Ok(Builder::new_current_thread()
        .global_queue_interval(1)
        .build()?)
}

/// Never lets its runtime run out of tasks, so that it polls instead of parking.
pub(crate) async fn keep_awake() {
    loop {
        tokio::task::yield_now().await;
    }
}

/// Sleeps the whole thread: its runtime has nothing else to do, and tokio's timers are too coarse for this.
pub(crate) fn pause_before_ask(workload: Workload) {
    if workload == Workload::AskParked {
        std::thread::sleep(Duration::from_micros(PARK_PAUSE_US));
    }
}

fn run_task<T: Send + 'static>(
    runtime: &Runtime,
    task: impl Future<Output = Result<T, RunError>> + Send + 'static,
) -> Result<T, RunError> {
    let joined = runtime.block_on(async { tokio::spawn(task).await });
    joined.unwrap_or_else(|error| Err(RunError::Panicked(error.to_string())))
}
