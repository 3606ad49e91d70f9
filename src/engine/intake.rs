//! What comes into a core at the beginning of its turn: from other cores, from other threads, and from its timers.

use super::core::Engine;
use super::passivation::passivate_idle;
use crate::actor::batch::Batch;
use crate::actor::guard::guarded;
use crate::actor::job::CoreJob;
use crate::actor::local::{Local, TimerEvent};
use crate::actor::mutant::Mutant;
use crate::actor::refusal::{AskError, Uncertainty};
use crate::actor::reply;
use crate::actor::trace::TraceEvent;
use crate::base::ids::CoreId;
use crate::mesh::lane::LaneClass;

/// Taken from each lane in one turn, so that no peer starves the others.
const CONTROL_PER_TURN: usize = 64;
const BATCHES_PER_TURN: usize = 16;
/// Taken from other threads in one turn.
const JOBS_PER_TURN: usize = 256;

impl Engine {
    pub(super) fn take_lanes(&mut self, local: &mut Local) -> bool {
        let cores = local.port.cores();
        let me = local.core;
        let mut moved = false;
        let first = match &mut local.choose {
            Some(choose) => choose(cores),
            None => self.first_peer,
        };
        let peers = (first..cores).chain(0..first);
        let peers = peers
            .map(|peer| CoreId(peer as u16))
            .filter(move |peer| *peer != me);
        // Of all before any batch: who sends to a shard by what it has been told does not come before that is told here.
        for peer in peers.clone() {
            moved |= self.take_control(local, peer);
        }
        let mut cut_off = None;
        for peer in peers {
            if self.halted {
                break;
            }
            moved |= self.take_batches(local, peer, LaneClass::Replies);
            if local.arrivals == 0 {
                cut_off = cut_off.or(Some(peer.index()));
            }
            moved |= self.take_batches(local, peer, LaneClass::Requests);
            while let Some(batches) = local.port.reclaim_batches(peer) {
                batches.into_iter().for_each(|batch| batch.reuse(local));
            }
        }
        // Whoever found the turn used up by those before it comes first in the next.
        self.first_peer = cut_off.unwrap_or((first + 1) % cores);
        for last in std::mem::take(&mut local.lasts) {
            self.handoff.handle_last(last);
        }
        if local.watches.any_lost() && !self.halted {
            local.end_lost_watches();
        }
        moved
    }

    fn take_control(&mut self, local: &mut Local, peer: CoreId) -> bool {
        let mut moved = false;
        for _ in 0..CONTROL_PER_TURN {
            let Some(message) = local.port.receive_control(peer) else {
                break;
            };
            moved = true;
            self.handle_control(local, peer, message);
        }
        moved
    }

    fn take_batches(&mut self, local: &mut Local, peer: CoreId, class: LaneClass) -> bool {
        let coordinator = self.coordinator_core;
        // The same for a batch that has come since the turn began: on a node of a cluster whose owners change.
        let looks =
            class == LaneClass::Requests && local.remote.is_some() && coordinator != local.core;
        let mut moved = false;
        for _ in 0..BATCHES_PER_TURN {
            if class == LaneClass::Requests && (local.arrivals == 0 || !local.has_room()) {
                // They stay in the lane, until the next turn or, in the end, with their senders.
                break;
            }
            let Some(mut batch) = local.port.receive_batch(peer, class) else {
                break;
            };
            moved = true;
            if looks {
                self.take_control(local, coordinator);
            }
            local.counters.batches_received += 1;
            batch.deliver(local, peer);
            local.port.return_batch(peer, batch as Box<dyn Batch>);
            if self.halted {
                break;
            }
        }
        moved
    }

    /// What is owed comes first, for it makes room for further asks; neither keeps the other waiting.
    pub(super) fn take_jobs(&mut self, local: &mut Local) -> bool {
        let owed = std::iter::from_fn(|| self.jobs.next_owed()).take(JOBS_PER_TURN);
        let jobs = std::iter::from_fn(|| self.jobs.next_job()).take(JOBS_PER_TURN);
        let mut moved = false;
        for job in owed.chain(jobs) {
            moved = true;
            run_job(local, job);
        }
        moved
    }

    pub(super) fn fire_timers(&mut self, local: &mut Local) -> bool {
        let mut moved = false;
        while let Some(event) = local.timers.pop(local.now) {
            moved = true;
            let kind = match event {
                TimerEvent::Ask(address) => {
                    local.fail_ask(address, AskError::Unknown(Uncertainty::Timeout));
                    "ask"
                }
                TimerEvent::Sleep(completer) => {
                    local.sleeps.fired();
                    completer.complete(());
                    "sleep"
                }
                TimerEvent::Deadline { task } => {
                    local.deadline_passed(task);
                    "deadline"
                }
                TimerEvent::Named(number) => local.timer_fired(number),
                TimerEvent::Restart(at) => {
                    local.restart_now(at);
                    "restart"
                }
                TimerEvent::Passivate { region } => {
                    passivate_idle(local, region);
                    "passivate"
                }
                TimerEvent::Behind { region, shard } => {
                    local.stays_behind(region, shard);
                    "behind"
                }
                TimerEvent::Watches => {
                    local.see_to_watches();
                    "watches"
                }
                TimerEvent::Lookup(number) => {
                    local.lookup_overdue(number);
                    "lookup"
                }
                TimerEvent::Report => {
                    self.report_load(local);
                    "report"
                }
            };
            local.trace(TraceEvent::Timer { kind });
            local.end_faulty();
            if reply::has_orphans() {
                local.settle_orphans(false);
            }
        }
        moved
    }
}

fn run_job(local: &mut Local, job: CoreJob) {
    let ran = guarded(|| job.run(local));
    if let Err(panic) = &ran {
        tracing::error!(core = %local.core, panic, "a call from another thread panicked on the core; its caller hears that it is gone");
    }
    if reply::has_orphans() {
        local.settle_orphans(ran.is_err());
    }
    assert!(
        local.mutant != Some(Mutant::EnginePanics),
        "a planted panic of the engine"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::context::Context;
    use crate::actor::handle::Handle;
    use crate::actor::local::{Clock, Limits};
    use crate::actor::mailbox::Mailbox;
    use crate::actor::model::{Actor, Fault, Next};
    use crate::actor::reply::close_exit;
    use crate::actor::task::Executor;
    use crate::base::rng::seeded;
    use crate::base::time::Time;
    use crate::engine::assembly::{CoreDriver, NodeSpec, Regions, assemble};
    use crate::mesh::lane::LaneDepths;
    use crate::sharding::settings::CoordinatorSettings;
    use crate::sharding::topology::Allocation;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// A clock that stands still, so that only numbers of messages end a turn.
    struct Standing;

    impl Clock for Standing {
        fn now(&self) -> Time {
            Time::from_nanos(0)
        }
    }

    struct Nobody;

    impl Executor for Nobody {
        fn execute(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
    }

    struct Count(Arc<AtomicU64>);

    impl Actor for Count {
        type Msg = u64;

        fn receive(&mut self, _: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Next::Continue)
        }
    }

    /// Cores without a driver, turned by hand.
    fn engines(data_cores: usize) -> (Vec<Engine>, Handle, crate::actor::reply::RuntimeId) {
        let second = Duration::from_secs(1);
        let spec = NodeSpec {
            data_cores,
            limits: Limits {
                queued_messages: 100_000,
                queued_bytes: 1 << 30,
                outbox_messages: 1_000,
                held_messages: 1_000,
                batch_messages: 8,
                asks: 100,
                ask_timeout: second,
                tasks: 100,
                timers: 100,
                watches: 100,
                activation_messages: 64,
                turn_messages: 64,
                turn_time: second,
                stall: second,
                async_deadline: second,
                mailbox: Mailbox::unbounded(),
                stream_buffer: 64,
                stream_window: 64,
                stream_consumers: 100,
                stream_linger: second,
            },
            lanes: LaneDepths {
                control: 64,
                replies: 64,
                requests: 64,
            },
            ingress_jobs: 64,
            regions: Regions::default(),
            allocation: Allocation::default(),
            coordinator: CoordinatorSettings::default(),
            patience: second,
            clock: Box::new(|| Time::from_nanos(0)),
            cluster: None,
        };
        let mut assembly = assemble(spec).expect("it makes sense");
        let seeds = std::mem::take(&mut assembly.seeds).into_iter();
        let start = |seed: crate::engine::assembly::EngineSeed| {
            seed.start(CoreDriver {
                clock: Box::new(Standing),
                tracer: None,
                choose: None,
                rng: seeded(0, 0),
                blocking: Arc::new(Nobody),
            })
        };
        let engines = seeds.map(start).collect();
        (
            engines,
            Handle::new(assembly.gate.clone()),
            assembly.runtime,
        )
    }

    #[test]
    fn a_peer_that_sends_without_end_keeps_the_others_waiting_for_one_turn() {
        let (mut engines, handle, runtime) = engines(6);
        let (many, one) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (count_many, count_one) = (many.clone(), one.clone());
        let spawned = [
            handle.spawn_on(CoreId(0), move || Count(count_many)),
            handle.spawn_on(CoreId(0), move || Count(count_one)),
        ];
        engines[0].turn(None);
        let [busy, calm] = spawned.map(|it| it.try_take().expect("its core has turned").unwrap());
        let mut missed = 0;
        for turn in 1..=40 {
            for (sender, to, count) in [(1, busy, 200), (3, calm, 1)] {
                let sent = handle.on_core(CoreId(sender), move |local| {
                    (0..count).for_each(|number| local.tell(to, number));
                });
                engines[usize::from(sender)].turn(None);
                assert!(matches!(sent.try_take(), Ok(Some(()))));
            }
            engines[0].turn(None);
            missed = if one.load(Ordering::Relaxed) == turn {
                0
            } else {
                missed + 1
            };
            assert!(missed <= 1, "nothing taken from a calm core for two turns");
        }
        // Both use their turns up: the one did not gain by the other's losing.
        assert!(many.load(Ordering::Relaxed) >= 20 * 64);
        close_exit(runtime);
    }
}
