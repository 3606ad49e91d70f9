//! The end of a core: what has been accepted is handled before, or counted now.

use super::core::Engine;
use crate::actor::control::{Control, DrainAnswer};
use crate::actor::ending::StopCause;
use crate::actor::guard::{drop_all_guarded, guarded};
use crate::actor::local::Local;
use crate::actor::named_timers::WHOLE_RUNTIME;
use crate::actor::refusal::{Rejection, Uncertainty};
use crate::actor::reply;
use crate::base::ids::CoreId;
use crate::mesh::lane::LaneClass;
use std::cell::RefCell;
use std::rc::Rc;

impl Engine {
    pub(super) fn drain_answer(
        &mut self,
        local: &mut Local,
        round: u64,
        settle: bool,
    ) -> DrainAnswer {
        // From the first question on nothing new starts here.
        if !std::mem::replace(&mut local.draining, true) {
            local.restart_all();
        }
        let regions = local.regions.iter();
        let held: usize = regions.map(|it| it.held() + it.packed()).sum();
        let idle = self.jobs_are_empty()
            && local.ready.is_empty()
            && local.queued.messages() == 0
            && local.outbox_is_empty()
            && !local.tasks.any_woken()
            && self.shipping.is_empty()
            && held == 0
            && local.suspended == 0;
        let settled = settle && idle && local.has_settled();
        DrainAnswer {
            core: local.core,
            round,
            idle,
            settled,
            sent: local.counters.batches_sent,
            received: local.counters.batches_received,
        }
    }

    /// Stops everything on this core. Actors run their hooks; what is left in mailboxes, lanes and queues becomes
    /// counted dead letters, and every open ask ends.
    pub(super) fn stop(&mut self, shared: &Rc<RefCell<Local>>) {
        self.stop_because(shared, Rejection::ShuttingDown);
    }

    fn stop_because(&mut self, shared: &Rc<RefCell<Local>>, why: Rejection) {
        self.ended = why;
        let _on_core = reply::enter_core();
        // Futures first, while their scopes still work; what they hold is dropped with nothing borrowed.
        let futures = shared.borrow_mut().tasks.take_all();
        drop_all_guarded(futures);
        let local = &mut *shared.borrow_mut();
        // The last words of one entity must not start another, nor go where nobody looks any more.
        local.stopping = true;
        local.limits.batch_messages = usize::MAX;
        self.unload_for_the_end(local);
        end_actors(local);
        local.end_timers(WHOLE_RUNTIME);
        reject_held(local, why);
        let me = local.core;
        for peer in (0..local.port.cores() as u16)
            .map(CoreId)
            .filter(|peer| *peer != me)
        {
            while let Some(mut batch) = local.port.receive_batch(peer, LaneClass::Replies) {
                batch.deliver(local, peer);
            }
            while let Some(mut batch) = local.port.receive_batch(peer, LaneClass::Requests) {
                batch.reject(local, me, why);
            }
        }
        local.reject_requests(why);
        while let Some(job) = self.next_job() {
            job.give_up(local, why);
        }
        local.end_all_asks(Uncertainty::RuntimeGone);
        local.settle_orphans(false);
        // What it owes to other nodes leaves as long as the driver takes it.
        local.flush_links();
        local.flush();
        local.port.doorbell(local.core).disconnect();
    }

    /// The end of a core whose engine has panicked: as far as its state allows, what it would do at its stop. Whoever
    /// asked for something here hears that it is gone, and the coordination core that this core is.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only real threads die")
    )]
    pub(crate) fn die(&mut self) {
        let shared = self.local.clone();
        if let Err(panic) = guarded(|| self.stop_because(&shared, Rejection::CoreDied)) {
            tracing::error!(core = %shared.borrow().core, panic, "a dying core could not put everything in order");
        }
        let _ = guarded(|| {
            let local = &mut *shared.borrow_mut();
            // Its lane may be full; then the coordination core finds out when it sends something here.
            let coordinator = self.coordinator_core;
            if coordinator != local.core
                && local.port.send_control(coordinator, Control::Died).is_ok()
            {
                local.port.doorbell(coordinator).ring();
            }
        });
    }

    /// For a core that dies: puts into the lanes what it still owes to others, as far as there is room. Returns whether
    /// that was all.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only real threads die")
    )]
    pub(crate) fn settle_up(&mut self) -> bool {
        let local = &mut *self.local.borrow_mut();
        local.flush();
        local.outbox_is_empty()
    }

    /// Takes in what was under way between two cores, so that its entities end with their hooks and its messages are
    /// counted.
    fn unload_for_the_end(&mut self, local: &mut Local) {
        self.end_departures(local);
        let me = local.core;
        let unsent = std::mem::take(&mut self.unsent)
            .into_iter()
            .map(|(_, message)| message);
        let mut messages: Vec<Control> = unsent.collect();
        for peer in (0..local.port.cores() as u16)
            .map(CoreId)
            .filter(|peer| *peer != me)
        {
            messages.extend(std::iter::from_fn(|| local.port.receive_control(peer)));
        }
        for message in messages {
            if let Control::Cargo(cargo) = message {
                cargo.install(local);
            }
        }
    }

    /// Makes counted dead letters of what has come in since the core stopped. The simulator calls it once every core has,
    /// to count to the last message; on a thread it is part of the engine's end, for what came to a core that died.
    pub(crate) fn sweep(&mut self) {
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        let (me, why) = (local.core, self.ended);
        self.unload_for_the_end(local);
        end_actors(local);
        for peer in (0..local.port.cores() as u16)
            .map(CoreId)
            .filter(|peer| *peer != me)
        {
            for class in [LaneClass::Replies, LaneClass::Requests] {
                while let Some(mut batch) = local.port.receive_batch(peer, class) {
                    batch.reject(local, me, why);
                }
            }
        }
        while let Some(job) = self.next_job() {
            job.give_up(local, why);
        }
        local.settle_orphans(false);
        reject_held(local, why);
        local.reject_requests(why);
        local.settle_orphans(false);
        local.lose_all_links();
        local.settle_orphans(false);
        // Whoever waited for what was thrown away here may live on.
        local.flush();
        local.reject_outbox(why);
    }
}

impl Drop for Engine {
    /// Drops what users have brought along piece by piece, since two panics at once would end the process.
    fn drop(&mut self) {
        if let Ok(local) = self.local.try_borrow() {
            local.port.doorbell(local.core).announce_end();
        }
        let swept = guarded(|| self.sweep());
        if let Err(panic) = swept {
            tracing::error!(panic, "what was left on a core could not be put in order");
        }
        self.close_queue();
        // Names are the runtime's, and an engine that has panicked may have lost whom it was about to end.
        if let Ok(local) = self.local.try_borrow() {
            local.strike_names();
        }
        // Out first: what a destructor does may need the core.
        let parked = self.local.try_borrow_mut();
        let parked = parked.map(|mut local| std::mem::take(&mut local.parked));
        drop_all_guarded(parked.into_iter().flatten());
        let Ok((futures, timers, watches, regions, tables, classes)) =
            self.local.try_borrow_mut().map(|mut local| {
                (
                    local.tasks.take_all(),
                    std::mem::take(&mut local.named_timers).into_timers(),
                    local.watches.take(),
                    std::mem::take(&mut local.regions),
                    std::mem::take(&mut local.ask_tables),
                    std::mem::take(&mut local.classes),
                )
            })
        else {
            return;
        };
        drop_all_guarded(futures);
        drop_all_guarded(timers);
        watches.end();
        drop_all_guarded(regions);
        drop_all_guarded(tables);
        drop_all_guarded(classes);
    }
}

fn end_actors(local: &mut Local) {
    for at in local.cells.tenants() {
        local.stop_now(at, StopCause::Shutdown);
    }
}

fn reject_held(local: &mut Local, why: Rejection) {
    for region in 0..local.regions.len() {
        let reject = local.region_states[region].ops.reject_held;
        reject(local, region as u16, None, why);
    }
}
