//! Carrying out hand-offs: what the state machines of `sharding` decide is done here to regions, lanes and the topology.

use super::core::{Engine, region_of};
use crate::actor::control::{Cargo, Control};
use crate::actor::ending::StopCause;
use crate::actor::local::{Local, TimerEvent};
use crate::actor::mutant::Mutant;
use crate::actor::refusal::Rejection;
use crate::actor::region_state::Shipment;
use crate::base::ids::{CoreId, Epoch, ShardId, ShardKey};
use crate::base::time::Time;
use crate::sharding::balancer::{CoreLoad, ShardLoad};
use crate::sharding::handoff::{Last, Step};
use crate::sharding::move_error::RefusedWhy;
use crate::sharding::topology::{MoveId, Route, Topology};
use std::sync::Arc;
use std::time::Duration;

/// Entities shipped in one turn, so that the core stays responsive while a large shard leaves.
const ENTITIES_PER_TURN: usize = 512;

/// A sealed shard on its way out.
pub(super) struct Shipping {
    id: MoveId,
    to: CoreId,
    epoch: Epoch,
}

impl Engine {
    /// Adopts a topology: old routes end and new ones begin, in order for every sender and receiver.
    pub(super) fn adopt(&mut self, local: &mut Local, topology: Arc<Topology>) {
        let steps = self.handoff.adopt(topology, local.now);
        let older = std::mem::replace(&mut local.topology, self.handoff.topology().clone());
        self.meet_members(local, &older);
        self.execute(local, steps);
        self.adopt_owners(local, &older);
    }

    /// Lets shards leave that are ready to, ships parts of those that are leaving, and sends control messages that found
    /// no room before. Returns whether anything moved.
    pub(super) fn hand_over(&mut self, local: &mut Local) -> bool {
        let mut moved = false;
        self.send_unsent(local);
        if self.handoff.is_leaving() {
            let steps = self
                .handoff
                .poll(local.now, |shard| local.is_suspended(shard));
            moved |= !steps.is_empty();
            self.execute(local, steps);
        }
        for shipping in std::mem::take(&mut self.shipping) {
            moved = true;
            self.ship_part(local, shipping);
        }
        moved
    }

    /// Sends control messages that found their lanes full.
    pub(super) fn send_unsent(&mut self, local: &mut Local) {
        for (to, message) in std::mem::take(&mut self.unsent) {
            self.send_control(local, to, message);
        }
    }

    fn execute(&mut self, local: &mut Local, steps: Vec<Step>) {
        let me = local.core;
        for step in steps {
            match step {
                Step::Hold { id, owner } => {
                    let region = usize::from(region_of(id));
                    local.regions[region].set_route(id.shard.shard, Route::Hold);
                    if owner == me && local.mutant == Some(Mutant::SkipLast) {
                        self.forge_lasts(local, id);
                    }
                    if owner != me {
                        let send_last = local.region_states[region].ops.send_last;
                        send_last(local, Last { id, from: me }, owner);
                    }
                }
                Step::Release { shard, to } => {
                    let mine = local.topology.is_mine(shard);
                    let route = match self.route_now(local, shard) {
                        Route::To(_) => Route::To(to),
                        route => route,
                    };
                    local.regions[shard.entity_type.index()].set_route(shard.shard, route);
                    if to == me && !mine {
                        // Also what has come here and has never run.
                        local.region_states[shard.entity_type.index()].hosted
                            [shard.shard.index()] = false;
                        local.end_shard(shard, Rejection::Fenced);
                    } else if to == me {
                        local.host(shard);
                        local.unseal(shard);
                    }
                    if route == Route::Hold {
                        // It is to leave the node, or what was sent to its past owner has yet to arrive.
                        local.release_present(shard);
                        continue;
                    }
                    let release = local.region_states[shard.entity_type.index()]
                        .ops
                        .release_held;
                    release(local, shard.entity_type.0, shard.shard);
                }
                Step::Pause { shard } => local.seal_shard(shard),
                Step::Ship { id, to, epoch } => {
                    local.seal_shard(id.shard);
                    local.region_states[id.shard.entity_type.index()].hosted
                        [id.shard.shard.index()] = false;
                    local.regions[id.shard.entity_type.index()]
                        .start_leaving(id.shard.shard, &local.cells);
                    self.shipping.push(Shipping { id, to, epoch });
                }
                Step::Refuse { id, why } => {
                    local.unseal(id.shard);
                    self.send_control(local, self.coordinator_core, Control::Refused { id, why });
                }
            }
        }
    }

    #[cold]
    fn forge_lasts(&mut self, local: &Local, id: MoveId) {
        for from in (0..local.port.cores() as u16).map(CoreId) {
            self.handoff.handle_last(Last { id, from });
        }
    }

    fn ship_part(&mut self, local: &mut Local, shipping: Shipping) {
        let region = region_of(shipping.id);
        let ship = local.region_states[usize::from(region)].ops.ship;
        let cargo = ship(
            local,
            region,
            Shipment {
                id: shipping.id,
                epoch: shipping.epoch,
                limit: ENTITIES_PER_TURN,
            },
        );
        let is_last = cargo.is_last();
        self.send_control(local, shipping.to, Control::Cargo(cargo));
        if is_last {
            local.unseal(shipping.id.shard);
        } else {
            self.shipping.push(shipping);
        }
    }

    /// Takes part of a shard in. It stays sealed until the topology says that it belongs here.
    pub(super) fn unload(&mut self, local: &mut Local, cargo: Box<dyn Cargo>) {
        let (id, epoch, is_last) = (cargo.id(), cargo.epoch(), cargo.is_last());
        if local.mutant != Some(Mutant::RunsBeforeOwned) {
            local.seal_shard(id.shard);
        }
        cargo.install(local);
        if is_last {
            if local.topology.is_mine(id.shard) {
                local.host(id.shard);
            }
            self.send_control(
                local,
                self.coordinator_core,
                Control::Installed { id, epoch },
            );
        }
    }

    /// The other core of a move of this one's is dead. The source keeps the shard, if it still can; what has left it, or
    /// has come to the target in part only, is lost.
    #[cold]
    pub(super) fn survive(&mut self, local: &mut Local, id: MoveId) {
        let shard = id.shard;
        let me = local.core;
        let Some(placement) = local
            .topology
            .placement(shard)
            .filter(|placement| placement.move_of(shard) == Some(id))
            .copied()
        else {
            return;
        };
        if placement.owner == me {
            if let Some(refuse) = self.handoff.refuse(shard, RefusedWhy::TargetStopped) {
                return self.execute(local, vec![refuse]);
            }
        } else {
            // All that the source has sent is in its lane: it is dead.
            while let Some(message) = local.port.receive_control(placement.owner) {
                self.handle_control(local, placement.owner, message);
            }
            if local.region_states[shard.entity_type.index()].hosted[shard.shard.index()] {
                return;
            }
            local.end_shard(shard, Rejection::CoreDied);
        }
        self.send_control(local, self.coordinator_core, Control::Lost { id });
    }

    pub(super) fn report_load(&mut self, local: &mut Local) {
        let Some(window) = self.load.length() else {
            return;
        };
        let report = self.load.close(local);
        self.send_control(local, self.coordinator_core, Control::Load(report));
        let due = local.now + window;
        local.timers.insert(due, TimerEvent::Report);
    }
}

impl Local {
    pub(super) fn seal_shard(&mut self, key: ShardKey) {
        self.region_states[key.entity_type.index()].sealed[key.shard.index()] = true;
        self.tasks.detours.sealed = true;
    }

    /// Ends what has arrived of a shard that will never arrive whole.
    pub(super) fn end_shard(&mut self, key: ShardKey, why: Rejection) {
        for slot in self.regions[key.entity_type.index()].slots(key.shard) {
            if let Some(at) = self.cells.tenant(slot) {
                self.discard_mail(at, why);
                self.stop_now(at, StopCause::Shutdown);
            }
        }
        self.unseal(key);
    }

    /// Lets the entities of a shard run again; those that had something to do meanwhile are ready.
    pub(super) fn unseal(&mut self, key: ShardKey) {
        let region = key.entity_type.index();
        if !std::mem::take(&mut self.region_states[region].sealed[key.shard.index()]) {
            return;
        }
        self.look_for_sealed();
        self.wake_shard(key);
    }

    /// Has the entities of a shard run that have something to do.
    pub(crate) fn wake_shard(&mut self, key: ShardKey) {
        for slot in self.regions[key.entity_type.index()].slots(key.shard) {
            if let Some(at) = self.cells.tenant(slot)
                && let Some(cell) = self.cells.get(at)
                && !cell.suspended
                && (cell.scheduled
                    || !cell.queue.is_empty()
                    || self.named_timers.first_due(at).is_some())
            {
                cell.scheduled = true;
                // It may be in the queue already; a second entry finds an empty mailbox and does nothing.
                self.ready.push_back(at);
            }
        }
    }
}

/// What this core and its shards have done since the last report.
pub(super) struct LoadWindow {
    length: Option<Duration>,
    since: Time,
    busy: Duration,
    last_turn: Time,
    last_moved: bool,
    handled: Vec<Vec<u64>>,
}

impl LoadWindow {
    pub(super) fn new(length: Option<Duration>) -> LoadWindow {
        LoadWindow {
            length,
            since: Time::ZERO,
            busy: Duration::ZERO,
            last_turn: Time::ZERO,
            last_moved: false,
            handled: Vec::new(),
        }
    }

    pub(super) fn length(&self) -> Option<Duration> {
        self.length
    }

    /// The time from one turn to the next counts as busy if the first of them moved something.
    #[inline]
    pub(super) fn account(&mut self, moved: bool, local: &mut Local) {
        let now = local.now;
        if self.last_moved {
            let took = now - self.last_turn;
            self.busy += took;
            local.turns.busy += 1;
            local.turns.busy_time += took;
            local.turns.longest = local.turns.longest.max(took);
        } else {
            local.turns.idle += 1;
        }
        self.last_turn = now;
        self.last_moved = moved;
    }

    fn close(&mut self, local: &Local) -> CoreLoad {
        let mut shards = Vec::new();
        self.handled.resize(local.region_states.len(), Vec::new());
        for (number, state) in local.region_states.iter().enumerate() {
            let before = &mut self.handled[number];
            before.resize(state.handled.len(), 0);
            let nanos = local.kinds[usize::from(state.kind)].mean_nanos().max(1);
            for (shard, handled) in state.handled.iter().enumerate() {
                let messages = handled - std::mem::replace(&mut before[shard], *handled);
                if state.hosted[shard] {
                    let key = ShardKey {
                        entity_type: crate::base::ids::EntityTypeId(number as u16),
                        shard: ShardId(shard as u32),
                    };
                    shards.push(ShardLoad {
                        shard: key,
                        load: messages * nanos,
                    });
                }
            }
        }
        let window = local.now - self.since;
        self.since = local.now;
        CoreLoad {
            core: local.core,
            window,
            busy: std::mem::take(&mut self.busy).min(window),
            shards,
        }
    }
}
