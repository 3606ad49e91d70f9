//! A runtime that has ended leaves no thread and no descriptor behind. Alone in its process, since it counts them.

use corecast::{Actor, Context, CoreId, Fault, Next, Runtime};
use std::time::{Duration, Instant};

/// Far more than a thread that has been told to end takes for it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Sum(u64);

impl Actor for Sum {
    type Msg = u64;

    fn receive(&mut self, n: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += n;
        Ok(Next::Continue)
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The names of the threads that there are.
fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        // One that ends meanwhile has no name any more.
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect()
}

/// Waits until there are as few threads as before. The runtime joins its own, but the kernel lists a thread until it has
/// left its CPU, and nobody joins the helper of each glommio executor, which ends when the executor has.
fn wait_for_threads(before: usize) {
    let started = Instant::now();
    while threads().len() > before {
        assert!(started.elapsed() < PATIENCE, "left: {:?}", threads());
        std::thread::yield_now();
    }
}

#[test]
fn a_runtime_that_has_ended_leaves_nothing_behind() {
    let run = |explicitly: bool| {
        let runtime = Runtime::builder()
            .cores("0".parse().unwrap())
            .start()
            .unwrap();
        let sum = runtime
            .handle()
            .spawn_on(CoreId(0), || Sum(0))
            .wait()
            .unwrap();
        runtime.handle().tell(sum, 1);
        if explicitly {
            assert!(runtime.shutdown().drained);
        }
    };
    let before = threads().len();
    run(true);
    wait_for_threads(before);
    // What the first one leaves is there once for the whole process.
    let open = descriptors();
    for round in 0..6 {
        run(round % 2 == 0);
    }
    wait_for_threads(before);
    assert_eq!(descriptors(), open);
}
