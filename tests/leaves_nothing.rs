//! A runtime that has ended leaves no thread and no descriptor behind. Alone in its process, since it counts them.

use corecast::{Actor, Context, CoreId, Fault, Next, Runtime};

struct Sum(u64);

impl Actor for Sum {
    type Msg = u64;

    fn receive(&mut self, n: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += n;
        Ok(Next::Continue)
    }
}

fn entries(of: &str) -> usize {
    std::fs::read_dir(of).unwrap().count()
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
    run(true);
    let before = (entries("/proc/self/fd"), entries("/proc/self/task"));
    for round in 0..6 {
        run(round % 2 == 0);
    }
    assert_eq!(
        (entries("/proc/self/fd"), entries("/proc/self/task")),
        before,
        "descriptors, threads"
    );
}
