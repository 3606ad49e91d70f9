//! The end of a core: what has been accepted is handled before, or counted now.

use super::core::Engine;
use crate::actor::control::{Control, DrainAnswer};
use crate::actor::ending::{StopCause, drop_guarded};
use crate::actor::local::Local;
use crate::actor::refusal::{Rejection, Uncertainty};
use crate::actor::reply;
use crate::base::ids::CoreId;
use crate::mesh::lane::LaneClass;
use std::cell::RefCell;
use std::rc::Rc;

impl Engine {
    pub(super) fn drain_answer(&mut self, local: &mut Local, round: u64) -> DrainAnswer {
        // From the first question on nothing new starts here.
        local.draining = true;
        let held: usize = local.regions.iter().map(|region| region.held()).sum();
        let idle = self.jobs_are_empty()
            && local.ready.is_empty()
            && local.queued.messages() == 0
            && local.outbox_is_empty()
            && !local.tasks.any_woken()
            && self.shipping.is_empty()
            && held == 0
            && local.suspended == 0;
        DrainAnswer {
            core: local.core,
            round,
            idle,
            sent: local.counters.batches_sent,
            received: local.counters.batches_received,
        }
    }

    /// Stops everything on this core. Actors run their hooks; what is left in mailboxes, lanes and queues becomes
    /// counted dead letters, and every open ask ends.
    pub(super) fn stop(&mut self, shared: &Rc<RefCell<Local>>) {
        let _on_core = reply::enter_core();
        // Futures first, while their scopes still work; what they hold is dropped with nothing borrowed.
        let futures = shared.borrow_mut().tasks.take_all();
        // Each by itself: a second panic in one go would end the process.
        futures.into_iter().for_each(drop_guarded);
        let local = &mut *shared.borrow_mut();
        // The last words of one entity must not start another, nor go where nobody looks any more.
        local.stopping = true;
        local.limits.batch_messages = usize::MAX;
        self.unload_for_the_end(local);
        end_actors(local);
        let why = Rejection::ShuttingDown;
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
                batch.reject(local, why);
            }
        }
        local.reject_outbox(why);
        while let Some(job) = self.next_job() {
            job.give_up(local, why);
        }
        local.end_all_asks(Uncertainty::RuntimeGone);
        local.settle_orphans(false);
        local.flush();
        local.port.doorbell(local.core).disconnect();
    }

    /// Takes in what was under way between two cores, so that its entities end with their hooks and its messages are
    /// counted.
    fn unload_for_the_end(&mut self, local: &mut Local) {
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

    /// Makes counted dead letters of what other cores have put into the lanes towards this one since it stopped. The
    /// driver calls it once every core has stopped; before that, more could come.
    pub(crate) fn sweep(&mut self) {
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        let me = local.core;
        self.unload_for_the_end(local);
        end_actors(local);
        for peer in (0..local.port.cores() as u16)
            .map(CoreId)
            .filter(|peer| *peer != me)
        {
            for class in [LaneClass::Replies, LaneClass::Requests] {
                while let Some(mut batch) = local.port.receive_batch(peer, class) {
                    batch.reject(local, Rejection::ShuttingDown);
                }
            }
        }
        local.settle_orphans(false);
        reject_held(local, Rejection::ShuttingDown);
        local.reject_outbox(Rejection::ShuttingDown);
    }
}

fn end_actors(local: &mut Local) {
    for at in local.cells.tenants() {
        let body = local.cells.get(at).and_then(|cell| cell.body.take());
        if let Some(body) = body {
            local.end_actor(at, body, StopCause::Shutdown);
        }
    }
}

fn reject_held(local: &mut Local, why: Rejection) {
    for region in 0..local.regions.len() {
        let reject = local.region_states[region].ops.reject_held;
        reject(local, region as u16, why);
    }
}
