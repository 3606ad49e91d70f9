//! The turn of one core: everything that happens on it happens in here, in one order.
//!
//! 1. read the clock once
//! 2. take what came from other cores: control, then replies, then requests, bounded per peer; an actor that has nothing
//!    else to do handles requests at once, within a budget of messages and time of their own
//! 3. take what came from other threads
//! 4. due timers
//! 5. woken futures, then ready actors within a budget of messages and time
//! 6. hand shards over, passivate, and flush: one batch for each core and type, at most one wake for each sleeping core
//!
//! The engine does no I/O and reads no clock but the one its driver gives it. Two drivers turn it: `io` on pinned
//! threads, `sim` on one thread with virtual time.

use super::coordination::Coordination;
use super::parting::{LOOK_AGAIN, Parting};
use super::passivation::passivate_surplus;
use crate::actor::activation::ACTIVATIONS_PER_CLOCK;
use crate::actor::control::Control;
use crate::actor::ingress::JobQueue;
use crate::actor::job::CoreJob;
use crate::actor::local::{Local, LocalSetup, TimerEvent};
use crate::actor::refusal::{AskError, Rejection, Uncertainty};
use crate::actor::reply;
use crate::actor::task::poll_job;
use crate::base::ids::{CoreId, ShardKey};
use crate::base::time::Time;
use crate::mesh::lane::Unsent;
use crate::sharding::handoff::Handoff;
use crate::sharding::node_handoff::NodeHandoff;
use crate::sharding::topology::MoveId;
use crate::wire::address::Life;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Looks at the batches of other data cores between two at everything else and the clock, which take as long as several
/// of them.
const LOOKS_PER_CLOCK: u32 = 32;

/// After this time a core that waits for room in a lane looks again.
const FULL_LANE_RETRY: Duration = Duration::from_micros(100);

/// After such a silence parts of shards, and markers, are sent to another node again.
const NODE_RETRY: Duration = Duration::from_millis(500);

/// After this time a core that waits for room in a link for a part of a shard looks again.
const FULL_LINK_RETRY: Duration = Duration::from_millis(1);

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// When it began.
    pub(crate) at: Time,
    /// Something was done: turn again soon.
    pub(crate) moved: bool,
    /// When the clock was read last, if that was at the end of the turn.
    pub(crate) just_read: Option<Time>,
    /// Turn again at this time at the latest, even if nothing comes.
    pub(crate) next_wake: Option<Time>,
    /// The core has stopped, and is not to be turned again.
    pub(crate) stopped: bool,
}

/// One core.
pub(crate) struct Engine {
    pub(super) local: Rc<RefCell<Local>>,
    pub(super) jobs: JobQueue,
    pub(super) handoff: Handoff,
    /// Hand-offs between nodes.
    pub(super) node_handoff: NodeHandoff,
    /// A part of a shard waits for room in a link.
    pub(super) parts_wait: bool,
    /// Lives that leave with which this core has yet to part.
    pub(super) parting: BTreeMap<Life, Parting>,
    /// What has come of shards on their way to this core.
    pub(super) freight: BTreeMap<ShardKey, super::node_handover::Freight>,
    /// Sealed shards whose entities are being shipped, a part in each turn.
    pub(super) shipping: Vec<super::handover::Shipping>,
    pub(super) coordination: Option<Coordination>,
    data_cores: usize,
    pub(super) coordinator_core: CoreId,
    pub(super) load: super::handover::LoadWindow,
    /// The last turn moved nothing, and until then only a message can change that.
    idle_until: Option<Time>,
    /// Control messages that found their lane full, in order.
    pub(super) unsent: VecDeque<(CoreId, Control)>,
    /// All cores are about to stop: nothing is handled or sent any more.
    pub(super) halted: bool,
    stopping: bool,
    /// Why what comes in after the end is refused.
    pub(super) ended: Rejection,
    /// The order in which peers are served; a different one is first in each turn.
    pub(super) first_peer: usize,
}

/// What the engine of a core starts with.
pub(crate) struct EngineSetup {
    pub(crate) local: LocalSetup,
    pub(crate) jobs: JobQueue,
    pub(crate) data_cores: usize,
    /// Where the coordination core is among the cores.
    pub(crate) coordinator_core: CoreId,
    /// On the coordination core: its state machine.
    pub(crate) coordination: Option<Coordination>,
    /// How long a shard may take to become ready to leave.
    pub(crate) patience: Duration,
    /// How often the load of each shard is reported; `None` without a balancer.
    pub(crate) load_window: Option<Duration>,
}

impl Engine {
    pub(crate) fn new(setup: EngineSetup, install: &[RegionInstaller]) -> Engine {
        let me = setup.local.port.me();
        let cores = setup.local.port.cores();
        let topology = setup.local.topology.clone();
        let local = Rc::new_cyclic(|weak| RefCell::new(Local::new(setup.local, weak.clone())));
        for install in install {
            install(&mut local.borrow_mut());
        }
        let node = local.borrow().remote.as_ref().map(|it| it.life.node);
        let all_cores = || (0..cores as u16).map(CoreId);
        let hosts = me.index() < setup.data_cores && !install.is_empty();
        let load = super::handover::LoadWindow::new(setup.load_window.filter(|_| hosts));
        if let Some(window) = load.length() {
            let mut local = local.borrow_mut();
            let due = local.now + window;
            local.timers.insert(due, TimerEvent::Report);
        }
        Engine {
            local,
            jobs: setup.jobs,
            handoff: Handoff::new(me, all_cores(), topology, setup.patience),
            node_handoff: NodeHandoff::new(
                me,
                node.unwrap_or_default(),
                all_cores(),
                setup.patience,
                NODE_RETRY,
            ),
            parts_wait: false,
            parting: BTreeMap::new(),
            freight: BTreeMap::new(),
            shipping: Vec::new(),
            coordination: setup.coordination,
            data_cores: setup.data_cores,
            coordinator_core: setup.coordinator_core,
            load,
            idle_until: None,
            unsent: VecDeque::new(),
            halted: false,
            stopping: false,
            ended: Rejection::ShuttingDown,
            first_peer: 0,
        }
    }

    /// Whether something waits that a turn would take; the last look before sleep.
    pub(crate) fn has_work(&self) -> bool {
        if self.jobs.stop_wanted() {
            return true;
        }
        let local = self.local.borrow();
        if self.halted {
            // The rest is not taken any more, and would keep the core awake.
            return !local.port.is_quiet_of_control();
        }
        !local.port.is_quiet()
            || !self.jobs.is_empty()
            || !local.ready.is_empty()
            || local.tasks.any_woken()
            || !self.shipping.is_empty()
    }

    /// Whether it has stopped.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopping
    }

    /// Something has happened outside of its turns.
    pub(super) fn is_no_longer_idle(&mut self) {
        self.idle_until = None;
    }

    /// Whether something waits here for room in a lane. Nobody rings when there is, so the core has to look again.
    fn waits_for_room(&self, local: &Local) -> bool {
        let backlog = local.remote.as_ref().map(|remote| &remote.backlog);
        !self.unsent.is_empty()
            || !local.outbox_is_empty()
            || backlog.is_some_and(|backlog| !backlog.is_empty())
    }

    /// The time now, by the driver's clock.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "for parking"))]
    pub(crate) fn now(&self) -> Time {
        self.local.borrow().clock.now()
    }

    /// One turn. Whoever read the clock a moment ago, as the end of an idle turn does, says so, for it takes a tenth of
    /// the time in which an ask is answered.
    #[inline(never)] // so that it can be counted
    pub(crate) fn turn(&mut self, just_read: Option<Time>) -> Turn {
        if let Some(idle) = self.idle_turn() {
            return idle;
        }
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let mut moved = {
            let local = &mut *shared.borrow_mut();
            local.now = just_read.unwrap_or_else(|| local.clock.now());
            local.clock_read = local.now;
            local.yield_wanted = false;
            local.arrivals = local.limits.turn_messages.max(1);
            if local.remote.is_some() {
                local.see_to_lease();
            }
            // Without the bars no part would run whose predecessor moved something.
            let mut moved = self.take_lanes(local);
            if !self.halted && reply::has_orphans() {
                // Before somebody fails who has nothing to do with them.
                local.settle_orphans(false);
            }
            moved |= !self.halted && self.take_jobs(local) | self.fire_timers(local);
            // Outcomes that came in may have failed whom they were for.
            local.end_faulty();
            moved
        };
        if self.halted {
            return self.halted_turn(&shared, moved);
        }
        moved |= self.poll_futures(&shared);
        let next_wake = {
            let local = &mut *shared.borrow_mut();
            moved |= run_ready(local);
            moved |= self.hand_over(local);
            if local.remote.is_some() {
                moved |= self.hand_over_nodes(local);
                moved |= self.see_to_partings(local);
            }
            moved |= self.coordinate(local);
            moved |= passivate_surplus(local);
            if reply::has_orphans() {
                local.settle_orphans(false);
            }
            if local.remote.is_some() {
                self.report_wanted(local);
                moved |= local.flush_links();
            }
            moved |= local.flush();
            // What was refused on its way out to a core that is gone.
            if reply::has_orphans() {
                local.settle_orphans(false);
                moved = true;
            }
            moved |= !local.faulty.is_empty() || local.watches.any_lost();
            self.load.account(moved, local);
            for class in &mut local.classes {
                class.trim();
            }
            moved |= !local.ready.is_empty();
            self.stopping |= self.jobs.stop_wanted();
            // Only a core that is about to idle wants to know.
            if moved { None } else { self.next_wake(local) }
        };
        self.idle_until = (!moved).then(|| next_wake.unwrap_or(Time::MAX));
        if self.stopping {
            self.stop(&shared);
        }
        Turn {
            at: shared.borrow().now,
            moved,
            just_read: None,
            next_wake,
            stopped: self.stopping,
        }
    }

    /// The turn of a core that was idle and still is: it costs a look at the lanes and the clock.
    #[inline]
    fn idle_turn(&mut self) -> Option<Turn> {
        let idle_until = self.idle_until?;
        {
            let port = &self.local.borrow().port;
            for _ in 0..LOOKS_PER_CLOCK {
                if !port.is_quiet_of_batches(self.data_cores) {
                    return None;
                }
            }
        }
        if self.has_work() {
            return None;
        }
        let local = &mut *self.local.borrow_mut();
        if self.waits_for_room(local) {
            return None;
        }
        let now = local.clock.now();
        if now >= idle_until {
            return None;
        }
        local.turns.idle += 1;
        Some(Turn {
            at: now,
            moved: false,
            just_read: Some(now),
            next_wake: (idle_until < Time::MAX).then_some(idle_until),
            stopped: false,
        })
    }

    /// A turn on the way out: only control is served, until all cores have come to a halt.
    fn halted_turn(&mut self, shared: &Rc<RefCell<Local>>, moved: bool) -> Turn {
        {
            let local = &mut *shared.borrow_mut();
            self.coordinate(local);
            self.send_unsent(local);
            local.ring_bells();
        }
        // Each such turn looks at everything; what an idle one would skip is what it waits for.
        self.idle_until = None;
        // Nobody else says it if the coordination core has died.
        self.stopping |= self.jobs.stop_wanted();
        // The coordination core tells everybody to stop, so it stays until everybody can know.
        let waits_for_room = !self.unsent.is_empty();
        let stopped = self.stopping && (self.coordination.is_none() || !waits_for_room);
        if stopped {
            self.stop(shared);
        }
        let now = shared.borrow().now;
        let retry = waits_for_room.then(|| now + FULL_LANE_RETRY);
        Turn {
            at: now,
            moved,
            just_read: None,
            next_wake: self
                .coordination_deadline(now)
                .into_iter()
                .chain(retry)
                .min(),
            stopped,
        }
    }

    fn coordination_deadline(&self, now: Time) -> Option<Time> {
        self.coordination
            .as_ref()
            .and_then(|coordination| coordination.next_deadline(now))
    }

    fn next_wake(&self, local: &Local) -> Option<Time> {
        let retry = self
            .waits_for_room(local)
            .then(|| local.now + FULL_LANE_RETRY);
        [
            local.timers.next_wake(),
            self.handoff.next_deadline(),
            self.node_handoff.next_deadline(),
            self.coordination_deadline(local.now),
            retry,
            self.look_again(local.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When to see whether a link has room for what it had none for, or what was written for others has left.
    fn look_again(&self, now: Time) -> Option<Time> {
        match self.parts_wait {
            true => Some(now + FULL_LINK_RETRY),
            false => (!self.parting.is_empty()).then(|| now + LOOK_AGAIN),
        }
    }

    pub(super) fn handle_control(&mut self, local: &mut Local, from: CoreId, message: Control) {
        match message {
            Control::Topology(topology) => self.adopt(local, topology),
            Control::Cargo(cargo) => self.unload(local, cargo),
            Control::DrainQuery { round, settle } => {
                let answer = self.drain_answer(local, round, settle);
                self.send_control(local, from, Control::DrainAnswer(answer));
            }
            Control::Halt { round } => {
                self.halted = true;
                let answer = self.drain_answer(local, round, false);
                self.send_control(local, from, Control::DrainAnswer(answer));
            }
            Control::Stop => self.stopping = true,
            Control::Died => self.lost(local, from),
            Control::Survive { id } => self.survive(local, id),
            Control::Life(life) => local.begin_life(life),
            Control::Lease(lease) => local.set_lease(lease),
            Control::Part { life, version } => {
                self.parting.insert(life, Parting::Flushing(version));
            }
            Control::Wanted(_)
            | Control::Lost { .. }
            | Control::Installed { .. }
            | Control::Refused { .. }
            | Control::Load(_)
            | Control::MoveEnded(_)
            | Control::Parted { .. }
            | Control::DrainAnswer(_) => {
                if let Some(coordination) = &mut self.coordination {
                    coordination.handle(local.now, message);
                }
            }
        }
    }

    /// Control lanes are deep enough for all that can be under way at once: the coordinator bounds the moves, and every
    /// other message answers one. One that finds no room all the same is kept and sent first in the next turn.
    pub(super) fn send_control(&mut self, local: &mut Local, to: CoreId, message: Control) {
        if to == local.core {
            self.handle_control(local, to, message);
            return;
        }
        if self.stopping && self.coordination.is_some() && !matches!(message, Control::Stop) {
            // Nobody takes it any more, and it would keep this core from its end.
            return;
        }
        // Behind what is waiting already, so that control stays in order.
        let waiting = self.unsent.iter().any(|(core, _)| *core == to);
        let sent = if waiting {
            Err(Unsent::Full(message))
        } else {
            local.port.send_control(to, message)
        };
        match sent {
            Ok(()) => local.outbox[to.index()].to_ring = true,
            Err(Unsent::Full(message)) => self.unsent.push_back((to, message)),
            Err(Unsent::Gone(message)) => {
                if let Control::Cargo(cargo) = message {
                    let why = local.why_gone();
                    cargo.reject(local, why);
                }
                self.lost(local, to);
            }
        }
    }

    /// A core is gone. Only the coordination core has something to do about it.
    #[cold]
    fn lost(&mut self, local: &Local, core: CoreId) {
        if let Some(coordination) = &mut self.coordination {
            coordination.lost(local.now, core);
        }
    }

    pub(super) fn jobs_are_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Refuses the jobs that come from now on; for the end.
    pub(super) fn close_queue(&self) {
        self.jobs.close(self.ended);
    }

    pub(super) fn next_job(&self) -> Option<CoreJob> {
        self.jobs.next_owed().or_else(|| self.jobs.next_job())
    }

    /// Polls the futures that have been woken. While one is polled nothing of the core is borrowed, so that it can use
    /// its scope.
    fn poll_futures(&mut self, shared: &Rc<RefCell<Local>>) -> bool {
        let overdue = shared.borrow_mut().tasks.take_overdue();
        let mut woken = shared.borrow().tasks.take_woken();
        if overdue.is_empty() && woken.is_empty() {
            return false;
        }
        {
            let local = &mut *shared.borrow_mut();
            if local.arrivals < local.limits.turn_messages {
                // What the handlers of arrivals took is not to be taken for the futures'.
                local.clock_read = local.clock.now();
            }
        }
        for mut job in overdue {
            job.abandon();
            let local = &mut *shared.borrow_mut();
            local.end_overdue(job);
            settle_future(local);
        }
        if let Some(choose) = &mut shared.borrow_mut().choose {
            for last in (1..woken.len()).rev() {
                woken.swap(last, choose(last + 1));
            }
        }
        for id in woken {
            if shared.borrow_mut().waits_for_lease(id) {
                shared.borrow_mut().lay_aside(id);
                continue;
            }
            let Some((mut job, waker)) = shared.borrow_mut().tasks.start_poll(id) else {
                continue;
            };
            let waker = shared.borrow_mut().trace_poll(id, waker);
            let polled = poll_job(&mut *job, &waker);
            let local = &mut *shared.borrow_mut();
            local.account_for_future(job.name());
            match polled {
                Poll::Pending => {
                    let ended = local.tasks.put_back(id, job);
                    reply::discard(AskError::Unknown(Uncertainty::DroppedUnanswered), ended);
                }
                Poll::Ready(failed) => local.end_task(id, job, failed),
            }
            settle_future(local);
        }
        true
    }
}

/// Sees to what the end of a future has left behind.
fn settle_future(local: &mut Local) {
    local.end_faulty();
    if reply::has_orphans() {
        local.settle_orphans(false);
    }
}

/// Registers one entity type on a core.
pub(crate) type RegionInstaller = Box<dyn Fn(&mut Local) + Send + Sync>;

fn run_ready(local: &mut Local) -> bool {
    let stop_at = local.counters.handled + local.limits.turn_messages;
    let until = local.now + local.limits.turn_time;
    let mut activations = 0_u64;
    let mut next_look = ACTIVATIONS_PER_CLOCK;
    while local.run_next() {
        activations += 1;
        if local.counters.handled >= stop_at || local.yield_wanted {
            break;
        }
        if activations >= next_look {
            let before = local.clock_read;
            local.clock_read = local.clock.now();
            if local.clock_read >= until {
                break;
            }
            // Where handlers are that short, looking takes as long as one of them.
            let are_short = local.clock_read - before < local.limits.turn_time / 32;
            let factor = if are_short { 4 } else { 1 };
            next_look = activations + factor * ACTIVATIONS_PER_CLOCK;
        }
    }
    activations > 0
}

impl Local {
    pub(super) fn is_suspended(&self, shard: ShardKey) -> bool {
        self.region_states[shard.entity_type.index()]
            .suspended
            .contains_key(&shard.shard.0)
    }
}

/// A move as the engine names it.
pub(super) fn region_of(id: MoveId) -> u16 {
    id.shard.entity_type.0
}
