//! What comes into a core at the beginning of its turn: from other cores, from other threads, and from its timers.

use super::core::Engine;
use super::passivation::passivate_idle;
use crate::actor::batch::Batch;
use crate::actor::guard::guarded;
use crate::actor::handle::CoreJob;
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
        self.first_peer = match &mut local.choose {
            Some(choose) => choose(cores),
            None if self.first_peer + 1 < cores => self.first_peer + 1,
            None => 0,
        };
        let first = self.first_peer;
        for peer in (first..cores)
            .chain(0..first)
            .map(|peer| CoreId(peer as u16))
            .filter(|peer| *peer != me)
        {
            for _ in 0..CONTROL_PER_TURN {
                let Some(message) = local.port.receive_control(peer) else {
                    break;
                };
                moved = true;
                self.handle_control(local, peer, message);
            }
            if self.halted {
                continue;
            }
            moved |= take_batches(local, peer, LaneClass::Replies);
            moved |= take_batches(local, peer, LaneClass::Requests);
            while let Some(batches) = local.port.reclaim_batches(peer) {
                batches.into_iter().for_each(|batch| batch.reuse(local));
            }
        }
        for last in std::mem::take(&mut local.lasts) {
            self.handoff.handle_last(last);
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
                TimerEvent::Passivate { region } => {
                    passivate_idle(local, region);
                    "passivate"
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

fn take_batches(local: &mut Local, peer: CoreId, class: LaneClass) -> bool {
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
        local.counters.batches_received += 1;
        batch.deliver(local, peer);
        local.port.return_batch(peer, batch as Box<dyn Batch>);
    }
    moved
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
