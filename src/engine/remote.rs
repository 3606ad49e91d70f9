//! A core and the rest of the cluster, as its driver sees it: frames in, frames out, and what the cluster has decided.
//!
//! The driver owns the connections. In each round it gives the core what has come ([`Engine::receive`]), lets it turn, and
//! takes what may leave ([`Engine::outgoing`], [`Engine::sent`]); when a connection breaks it says so
//! ([`Engine::link_lost`]). Everything of a core for one node has to go over connections that keep its order: one at a time.
//!
//! The coordination core's driver also brings what the log of the cluster says ([`Engine::set_owners`]) and the lease
//! ([`Engine::set_lease`]), and hears for which shards messages wait that have no owner ([`Engine::wanted`]).

use super::core::Engine;
use crate::actor::control::Control;
use crate::actor::local::Local;
use crate::actor::refusal::Rejection;
use crate::actor::remote::Lease;
use crate::actor::reply;
use crate::base::ids::{CoreId, NodeId, ShardKey};
use crate::sharding::cluster_view::{OwnershipError, OwnershipUpdate};
use crate::sharding::coordinator::Input;
use crate::sharding::topology::{Route, Topology};
use crate::wire::error::WireError;
use crate::wire::reader::FrameReader;
use std::collections::BTreeSet;

/// What has become of received frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Frames that were taken.
    pub(crate) frames: usize,
    /// More whole frames may wait: turn, and call again.
    pub(crate) more: bool,
}

impl Engine {
    /// Takes whole frames out of a connection's reader: as many as one turn may handle messages. What is left there is for
    /// the next round, and holds up the peer once the reader is full.
    ///
    /// # Errors
    /// If the bytes are no frames. The connection has to be closed; what came before was taken.
    pub(crate) fn receive(&mut self, reader: &mut FrameReader) -> Result<Received, WireError> {
        let mut received = Received {
            frames: 0,
            more: false,
        };
        if self.halted || self.has_stopped() {
            return Ok(received);
        }
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        local.now = local.clock.now();
        local.clock_read = local.now;
        local.see_to_lease();
        local.arrivals = local.limits.turn_messages.max(1);
        local.yield_wanted = false;
        let most = usize::try_from(local.arrivals).unwrap_or(usize::MAX);
        let outcome = loop {
            if received.frames >= most || local.arrivals == 0 || local.yield_wanted {
                received.more = true;
                break Ok(received);
            }
            match reader.next() {
                Ok(Some(frame)) => {
                    received.frames += 1;
                    local.take_frame(frame);
                    if reply::has_orphans() {
                        local.settle_orphans(false);
                    }
                }
                Ok(None) => break Ok(received),
                Err(error) => break Err(error),
            }
        };
        local.end_faulty();
        if received.frames > 0 {
            self.is_no_longer_idle();
        }
        outcome
    }

    /// The nodes for which bytes may leave, in order.
    pub(crate) fn outgoing(&self) -> Vec<NodeId> {
        let local = self.local.borrow();
        let links = local.remote.iter().flat_map(|remote| &remote.links);
        links
            .filter(|(_, link)| !link.outgoing().is_empty())
            .map(|(node, _)| *node)
            .collect()
    }

    /// Has `send` take bytes for a node, as many as its connection does; it says how many those were. Whole turns come out,
    /// in one piece each.
    pub(crate) fn sent(&self, node: NodeId, send: impl FnOnce(&[u8]) -> usize) -> usize {
        let mut local = self.local.borrow_mut();
        let Some(remote) = &mut local.remote else {
            return 0;
        };
        let Some(link) = remote.links.get_mut(&node) else {
            return 0;
        };
        let count = send(link.outgoing());
        remote.stats.frames_sent += link.sent(count);
        count
    }

    /// The connection to a node is gone, or none could be made: what waits for it is refused, and asks that have left for it
    /// end as unknown. What is sent from now on waits for the next connection.
    pub(crate) fn link_lost(&mut self, node: NodeId) {
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        local.lose_link(node);
        local.settle_orphans(false);
        local.end_faulty();
        self.is_no_longer_idle();
    }

    /// Coordination core: what the log of the cluster says of nodes and shards. Every core of the node acts upon it from
    /// its next turn on.
    ///
    /// # Errors
    /// If the news contradict what this node knows; nothing has changed.
    pub(crate) fn set_owners(&mut self, news: OwnershipUpdate) -> Result<(), OwnershipError> {
        let now = self.local.borrow().clock.now();
        if let Some(coordination) = &mut self.coordination {
            // The coordinator has no use for news that do not fit.
            coordination.topology().owned(&news)?;
            coordination.tell(Input::OwnershipChanged(news), now);
        }
        self.is_no_longer_idle();
        Ok(())
    }

    /// Coordination core: the lease of the node, for all of its cores.
    pub(crate) fn set_lease(&mut self, lease: Lease) {
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        for core in 0..local.port.cores() as u16 {
            self.send_control(local, CoreId(core), Control::Lease(lease));
        }
        local.ring_bells();
        self.is_no_longer_idle();
    }

    /// Coordination core: the shards for which messages wait on some core of this node and that no node owns, as the
    /// cluster numbers their types. They stay in here until they have an owner.
    pub(crate) fn wanted(&self) -> Vec<ShardKey> {
        let coordination = self.coordination.iter();
        coordination.flat_map(|it| it.wanted()).collect()
    }

    /// Tells the coordination core of shards without an owner for which something waits here.
    pub(super) fn report_wanted(&mut self, local: &mut Local) {
        let Some(remote) = &mut local.remote else {
            return;
        };
        if remote.wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut remote.wanted);
        self.send_control(local, self.coordinator_core, Control::Wanted(wanted));
    }

    /// Has the links of this core be those to the members.
    pub(super) fn meet_members(&self, local: &mut Local, older: &Topology) {
        let topology = local.topology.clone();
        if let Some(members) = topology.members()
            && older.members() != Some(members)
        {
            local.meet(members);
        }
    }

    /// Acts upon what the cluster has decided of shards: opens those that are this node's now, gives up those that are not,
    /// and sends on what waited for an owner.
    pub(super) fn adopt_owners(&self, local: &mut Local, older: &Topology) {
        let me = local.core;
        let topology = local.topology.clone();
        let moving: BTreeSet<ShardKey> = self.handoff.held().map(|held| held.id.shard).collect();
        for key in topology.owners_changed_since(older) {
            let number = key.entity_type.index();
            let (Some(route), Some(placement)) = (topology.route(key), topology.placement(key))
            else {
                continue;
            };
            if let Some(remote) = &mut local.remote {
                remote.reported.remove(&key);
            }
            let (was_mine, is_mine) = (older.is_mine(key), topology.is_mine(key));
            let epoch_of = |topology: &Topology| topology.owner(key).map(|owner| owner.epoch);
            // In another epoch it comes from another node, even if that has gone unnoticed here.
            let stays = is_mine && epoch_of(older) == epoch_of(&topology);
            let is_moving = moving.contains(&key);
            // First, for what its entities say at their end.
            if !is_moving && local.regions[number].route_of(key.shard) != Some(route) {
                local.regions[number].set_route(key.shard, route);
            }
            if was_mine && !stays {
                local.lose_shard(key);
            }
            if is_moving {
                // The end of its move sees to the rest.
                continue;
            }
            if is_mine && placement.owner == me {
                local.host(key);
            }
            if route == Route::Unallocated {
                if local.regions[number].held_of(key.shard) > 0 {
                    local.want(key.entity_type.0, key.shard);
                }
                continue;
            }
            let release = local.region_states[number].ops.release_held;
            release(local, key.entity_type.0, key.shard);
        }
    }
}

impl Local {
    /// This core runs the entities of a shard from now on.
    pub(super) fn host(&mut self, key: ShardKey) {
        let owner = self.topology.owner(key);
        let region = &mut self.region_states[key.entity_type.index()];
        region.hosted[key.shard.index()] = true;
        if let (Some(owner), Some(epoch)) = (owner, region.epochs.get_mut(key.shard.index())) {
            *epoch = owner.epoch;
        }
    }

    /// The cluster has taken a shard from this node: whatever of it is here ends.
    pub(super) fn lose_shard(&mut self, key: ShardKey) {
        let region = &mut self.region_states[key.entity_type.index()];
        if std::mem::take(&mut region.hosted[key.shard.index()]) {
            self.end_shard(key, Rejection::Fenced);
        }
    }
}
