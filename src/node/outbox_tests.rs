//! What the outbox of a core remembers of what has left it.

use super::runtime::Runtime;
use crate::actor::local::Local;
use crate::actor::reference::{ActorRef, CellRef};
use crate::base::ids::CoreId;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_stop_that_has_left_is_forgotten_even_if_something_always_waits() {
    let runtime = Runtime::builder()
        .cores("0-1".parse().unwrap())
        .start()
        .unwrap();
    let (here, there) = (CoreId(0), CoreId(1));
    let seen = runtime.handle().on_core(here, move |local| {
        let waiting = |local: &Local| local.outbox[there.index()].messages;
        // Nobody is there, which the other core finds out.
        let nobody = |slot| CellRef::new(slot, 1);
        let home = local.home;
        local.tell(ActorRef::new(home, there, nobody(0)), "this waits");
        let stop = |local: &mut Local, slot| {
            local.stop_actor_in_order(ActorRef::<u64>::new(home, there, nobody(slot)));
        };
        stop(local, 0);
        stop(local, 0);
        let once = waiting(local);
        for slot in 1..local.limits.batch_messages as u32 {
            stop(local, slot);
        }
        let gone = waiting(local);
        stop(local, 0);
        (once, gone, waiting(local))
    });
    let seen = seen.wait_for(PATIENCE).expect("it hangs");
    assert_eq!(seen, Some((2, 1, 2)));
    assert!(runtime.shutdown().drained);
}
