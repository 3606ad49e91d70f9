//! Carrying out hand-offs between nodes: what the state machine decides is done here to regions, links and lanes, and what
//! comes of shards is kept here until the log has decided.

use super::core::Engine;
use crate::actor::batch::Note;
use crate::actor::control::Control;
use crate::actor::local::Local;
use crate::actor::mutant::Mutant;
use crate::actor::node_shipping::{NodeOps, PART_BYTES};
use crate::actor::outbox::OpenBatch;
use crate::actor::refusal::Uncertainty;
use crate::base::ids::{CoreId, NodeId, ShardKey};
use crate::base::time::Time;
use crate::sharding::cluster_view::Members;
use crate::sharding::handoff::Phase;
use crate::sharding::move_error::RefusedWhy;
use crate::sharding::node_departure::NodePhase;
use crate::sharding::node_steps::{
    Drained, DuePart, Keep, MoveReport, NodeStep, Readiness, ShardNews,
};
use crate::sharding::topology::{Route, Topology};
use crate::wire::address::Target;
use crate::wire::frame::OwnedFrame;
use crate::wire::handoff::{ShipmentHead, ShipmentPart};
use crate::wire::kind::Kind;
use std::collections::BTreeSet;

/// Entities packed in one turn, so that the core stays responsive while a large shard leaves.
const ENTITIES_PER_TURN: usize = 512;

/// Of the bytes that may wait for another node, one in so many may be those of parts.
const LINK_SHARE: usize = 4;

/// The least bytes of a part.
const LEAST_PART_BYTES: usize = 1 << 10;

/// Parts written in one turn, for the same reason.
const PARTS_PER_TURN: usize = 4;

/// What has come of a shard: as bytes, of which nothing is looked at before the shard is this node's.
pub(crate) struct Freight {
    bytes: Vec<u8>,
    since: Time,
}

impl Engine {
    /// Acts upon what the cluster has decided of shards: opens those that are this node's now, gives up those that are not,
    /// begins and ends moves, and sends on what waited for an owner.
    pub(super) fn adopt_owners(&mut self, local: &mut Local, older: &Topology) {
        let topology = local.topology.clone();
        let between_cores: BTreeSet<ShardKey> =
            self.handoff.held().map(|held| held.id.shard).collect();
        let mut changed: BTreeSet<ShardKey> =
            topology.owners_changed_since(older).into_iter().collect();
        changed.extend(topology.leaving_moved_since(older));
        let lost = |key: &&ShardKey| {
            let (before, now) = (older.owner(**key), topology.owner(**key));
            let both = before.zip(now).filter(|_| older.is_mine(**key));
            both.is_some_and(|(before, now)| now.owner.is_none() || now.fence > before.epoch)
        };
        local.end_handlers(&changed.iter().filter(lost).copied().collect());
        for key in changed.iter().copied() {
            let is_between_cores = between_cores.contains(&key);
            self.adopt_owner(local, older, key, is_between_cores);
        }
        // Not before: what waited for a marker goes by the routes that have just been taken.
        if topology.members() != older.members()
            && let Some(members) = topology.members()
        {
            let steps = self.node_handoff.members_changed(members, local.now);
            self.carry_out(local, steps);
        }
        for key in changed {
            local.watched_shard_changed(key);
        }
    }

    fn adopt_owner(
        &mut self,
        local: &mut Local,
        older: &Topology,
        key: ShardKey,
        is_between_cores: bool,
    ) {
        let topology = local.topology.clone();
        let number = key.entity_type.index();
        let (Some(mut before), Some(now), Some(placement), Some(members)) = (
            older.owner(key),
            topology.owner(key),
            topology.placement(key).copied(),
            topology.members(),
        ) else {
            return;
        };
        if before.owner == now.owner && local.mutant == Some(Mutant::IgnoreEpochOfOwner) {
            before.epoch = now.epoch;
        }
        if let Some(remote) = &mut local.remote {
            remote.reported.remove(&key);
        }
        let known = older.members().unwrap_or(members);
        // By no death, also not of somebody of whom this core had not heard: an owner that has lost the shard while it lives does
        // not know that it had it, and passes nothing on.
        let was_taken = now.fence > before.epoch
            && !topology.has_news_of_deaths(older)
            && known.keys().all(|node| lives(*node, known, members));
        let mut streams = Vec::new();
        if before.epoch != now.epoch {
            streams = local.region_states[number]
                .sent_away
                .take(key.shard, local.core);
        }
        if was_taken || local.mutant == Some(Mutant::SkipLastBetweenNodes) {
            streams.clear();
        }
        let news = ShardNews {
            shard: key,
            before,
            now,
            past: topology.past_owners(key),
            host: (!is_between_cores).then_some(placement.owner),
            streams: &streams,
            is_same_life: before.owner.is_some_and(|via| lives(via, known, members)),
        };
        if before.epoch != now.epoch {
            local.put_present_first(key);
        }
        let steps = self.node_handoff.adopt(news, members, local.now);
        if !is_between_cores {
            // First, for what its entities say at their end.
            let route = self.route_now(local, key);
            if local.regions[number].route_of(key.shard) != Some(route) {
                local.regions[number].set_route(key.shard, route);
            }
        }
        self.carry_out(local, steps);
        if !is_between_cores {
            self.settle_route(local, key);
        } else if before.owner != now.owner && topology.is_mine(key) && self.is_draining(key) {
            // It has come with the news that it changes cores: until it does it runs here. The end of that sees to the rest.
            local.host(key);
        }
    }

    /// Whether a shard is to leave this core for another of this node, and runs here until everything for it has come.
    fn is_draining(&self, key: ShardKey) -> bool {
        let mut departures = self.handoff.departures();
        departures.any(|it| it.id().shard == key && it.phase() == Phase::Draining)
    }

    /// How this core sends to a shard now.
    pub(super) fn route_now(&self, local: &Local, key: ShardKey) -> Route {
        match local.topology.route(key) {
            Some(Route::Unallocated) => Route::Unallocated,
            Some(route) if !self.node_handoff.is_flushing(key) => route,
            Some(_) | None => Route::Hold,
        }
    }

    /// Hosts a shard that is here, and sends what is held for it as it is routed now.
    fn settle_route(&mut self, local: &mut Local, key: ShardKey) {
        let number = key.entity_type.index();
        let route = self.route_now(local, key);
        local.regions[number].set_route(key.shard, route);
        let topology = local.topology.clone();
        let host = topology.placement(key).map(|it| it.owner);
        if topology.is_mine(key) && host == Some(local.core) && !self.node_handoff.is_paused(key) {
            local.host(key);
        }
        match route {
            Route::Unallocated => {
                if local.regions[number].held_of(key.shard) > 0 {
                    local.want(key.entity_type.0, key.shard);
                }
            }
            Route::Hold => local.release_present(key),
            Route::To(_) | Route::Away(_) => {
                let release = local.region_states[number].ops.release_held;
                release(local, key.entity_type.0, key.shard);
            }
        }
    }

    /// The part of hand-offs between nodes in a turn. Returns whether anything moved.
    pub(super) fn hand_over_nodes(&mut self, local: &mut Local) -> bool {
        let mut moved = false;
        for drained in std::mem::take(&mut local.drained) {
            moved = true;
            self.node_handoff.handle_drained(drained);
        }
        for (shard, token) in std::mem::take(&mut local.passed) {
            moved = true;
            let steps = self.node_handoff.marker_passed(shard, token);
            self.carry_out(local, steps);
        }
        for frame in std::mem::take(&mut local.shipments) {
            moved = true;
            self.take_shipment(local, &frame);
        }
        if !self.node_handoff.is_busy() {
            self.parts_wait = false;
            return moved;
        }
        if local.mutant == Some(Mutant::UnsealsOnTimer) {
            self.unseal_on_a_timer(local);
        }
        let steps = self
            .node_handoff
            .poll(local.now, |shard| readiness(local, shard));
        moved |= !steps.is_empty();
        self.carry_out(local, steps);
        // Hooks run while entities are packed: not without a lease.
        let packing = self.node_handoff.packing();
        let packing = packing.filter(|shard| !readiness(local, *shard).is_lapsed);
        for shard in packing.collect::<Vec<ShardKey>>() {
            moved = true;
            self.pack_some(local, shard);
        }
        self.parts_wait = false;
        for _ in 0..PARTS_PER_TURN {
            let due = self.node_handoff.due_parts();
            let mut sent = false;
            for part in due {
                sent |= self.send_part(local, part);
            }
            if !sent {
                break;
            }
            moved = true;
        }
        moved
    }

    /// Coordination core: how moves between nodes have ended for this node since the last call, as the cluster numbers
    /// types. The log has to hear of each; whoever asks sees to it that it does.
    pub(crate) fn take_ended_moves(&mut self) -> Vec<MoveReport> {
        let coordination = self.coordination.as_mut();
        coordination.map_or_else(Vec::new, |it| it.take_ended())
    }

    fn carry_out(&mut self, local: &mut Local, steps: Vec<NodeStep>) {
        for step in steps {
            match step {
                NodeStep::Tell { drained, to } => local.tell_drained(drained, to),
                NodeStep::Pause { shard } => {
                    local.seal_shard(shard);
                    local.set_hosted(shard, false);
                }
                NodeStep::Forget { shard, to } => {
                    if let Some(ops) = node_ops(local, shard) {
                        (ops.forget)(local, shard.entity_type.0, shard.shard, to);
                    }
                    local.set_hosted(shard, false);
                    local.unseal(shard);
                }
                NodeStep::Stay { shard } => self.stay(local, shard),
                NodeStep::Lose { shard, was_shipped } => {
                    if was_shipped {
                        local.abandon(shard, Uncertainty::Fenced);
                    }
                    if is_sealed(local, shard) {
                        self.stay(local, shard);
                    }
                    local.lose_shard(shard);
                }
                NodeStep::Report(report) => {
                    if let Err(why) = report.outcome {
                        let shard = report.shard;
                        tracing::warn!(core = %local.core, %shard, %why, "a shard does not move between nodes");
                    }
                    if local.mutant == Some(Mutant::OpensBeforeOwn) && report.outcome.is_ok() {
                        self.open(local, report.shard);
                        local.host(report.shard);
                    }
                    let coordinator = self.coordinator_core;
                    self.send_control(local, coordinator, Control::MoveEnded(report));
                }
                NodeStep::Discard { shard } => _ = self.freight.remove(&shard),
                NodeStep::Open { shard } => self.open(local, shard),
                NodeStep::Flush {
                    shard,
                    via,
                    epoch,
                    stream,
                    token,
                } => {
                    if let Some(remote) = &mut local.remote {
                        let waits = (shard.entity_type.0, shard.shard);
                        remote.backlog.remove(&waits);
                    }
                    local.send_marker(via, shard, epoch, (stream, token));
                }
                NodeStep::Release { shard } => {
                    local.put_present_first(shard);
                    let is_between_cores = self.handoff.held().any(|it| it.id.shard == shard);
                    if !is_between_cores {
                        self.settle_route(local, shard);
                    }
                }
            }
        }
    }

    /// At the end of the core: what was being shipped ends here. If the target may have it, nobody knows what becomes of it.
    pub(super) fn end_departures(&mut self, local: &mut Local) {
        let departures = self.node_handoff.departures().map(|(shard, _)| shard);
        for shard in departures.collect::<Vec<_>>() {
            if self.node_handoff.may_be_whole(shard) {
                local.abandon(shard, Uncertainty::RuntimeGone);
            }
            if let Some(ops) = node_ops(local, shard) {
                (ops.stay)(local, shard.entity_type.0, shard.shard);
            }
        }
    }

    #[cold]
    fn unseal_on_a_timer(&mut self, local: &mut Local) {
        let departures = self.node_handoff.departures();
        let whole = departures.filter(|(_, it)| it.phase() == NodePhase::Whole);
        for shard in whole.map(|(shard, _)| shard).collect::<Vec<_>>() {
            if is_sealed(local, shard) {
                self.stay(local, shard);
            }
        }
    }

    /// Opens a shard again that has not left.
    fn stay(&mut self, local: &mut Local, shard: ShardKey) {
        if let Some(ops) = node_ops(local, shard) {
            (ops.stay)(local, shard.entity_type.0, shard.shard);
        }
        local.set_hosted(shard, true);
        local.unseal(shard);
    }

    /// Puts what has come of a shard into place.
    fn open(&mut self, local: &mut Local, shard: ShardKey) {
        let Some(freight) = self.freight.remove(&shard) else {
            return;
        };
        if let Some(ops) = node_ops(local, shard) {
            let (number, of_type) = (shard.entity_type.0, shard.shard);
            (ops.open)(local, number, of_type, &freight.bytes, freight.since);
        }
    }

    fn pack_some(&mut self, local: &mut Local, shard: ShardKey) {
        let Some(ops) = node_ops(local, shard) else {
            return;
        };
        let number = shard.entity_type.0;
        if (ops.pack)(local, number, shard.shard, ENTITIES_PER_TURN) {
            self.node_handoff.packed(shard, local.now);
        }
    }

    /// Sends a part of a shard, if there is room for it. Returns whether it was sent.
    fn send_part(&mut self, local: &mut Local, due: DuePart) -> bool {
        let (shard, to) = (due.shard, due.moving.to);
        let Some(ops) = node_ops(local, shard) else {
            return false;
        };
        let Some(room) = local.room_for_part(to) else {
            self.parts_wait = true;
            return false;
        };
        let (number, anew) = (shard.entity_type.0, due.number == 0);
        let part = (ops.next_part)(local, number, shard.shard, anew, room);
        let Some((bytes, is_last)) = part else {
            let refused = self.node_handoff.part_failed(shard, local.now);
            self.carry_out(local, refused.into_iter().collect());
            return false;
        };
        let head = ShipmentHead {
            prepared: due.moving.prepared,
            attempt: due.attempt,
            part: ShipmentPart::Part {
                number: due.number,
                is_last,
            },
        };
        let mut content = head.encode().to_vec();
        content.extend(bytes);
        // One that is not written is missed, and all come again.
        self.send_shipment(local, shard, to, &content);
        self.node_handoff.part_sent(shard, is_last, local.now);
        true
    }

    fn send_shipment(&self, local: &mut Local, shard: ShardKey, to: NodeId, content: &[u8]) {
        let entity_type = local.topology.number_in_cluster(shard.entity_type);
        let owner = local.topology.owner(shard);
        if let (Some(entity_type), Some(owner)) = (entity_type, owner) {
            let key = ShardKey {
                entity_type,
                ..shard
            };
            let epoch = owner.epoch;
            let header = local.header(Kind::Shipment, Target::Shard { key, epoch });
            local.send_content(to, &header, content);
        }
    }

    /// Keeps part of a shard that comes here, if there is room: for as many bytes as messages may wait on this core.
    fn keep(&mut self, local: &Local, shard: ShardKey, keep: Keep, bytes: &[u8]) -> bool {
        if keep == Keep::Anew {
            self.freight.remove(&shard);
        }
        let kept: usize = self.freight.values().map(|it| it.bytes.len()).sum();
        if kept + bytes.len() > local.limits.queued_bytes {
            self.freight.remove(&shard);
            return false;
        }
        let fresh = || Freight {
            bytes: Vec::new(),
            since: local.now,
        };
        let freight = self.freight.entry(shard).or_insert_with(fresh);
        freight.bytes.extend_from_slice(bytes);
        true
    }

    /// Takes part of a shard that comes here, or word of one that leaves.
    fn take_shipment(&mut self, local: &mut Local, frame: &OwnedFrame) {
        let frame = frame.as_ref();
        let Some((shard, _)) = local.shard_of_frame(&frame) else {
            return;
        };
        let Some(owner) = local.topology.owner(shard) else {
            return;
        };
        let from = frame.header().sender.life.node;
        let (head, bytes) = match ShipmentHead::decode(frame.payload().bytes()) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::warn!(core = %local.core, %from, %error, "part of a shard makes no sense");
                return;
            }
        };
        let name = (head.prepared, head.attempt);
        match head.part {
            ShipmentPart::Taken { next, is_whole } => {
                let is_target = owner.moving.is_some_and(|moving| moving.to == from);
                if is_target {
                    let taken = (next, is_whole);
                    self.node_handoff.parts_taken(shard, name, taken, local.now);
                }
            }
            ShipmentPart::Part { number, is_last } if owner.owner == Some(from) => {
                let part = (number, is_last);
                let (taken, step) = self.node_handoff.part_arrived(shard, owner, name, part);
                if let Some(keep) = taken.keep
                    && !self.keep(local, shard, keep, bytes)
                {
                    let refused = self.node_handoff.refuse_arrival(shard, RefusedWhy::NoRoom);
                    return self.carry_out(local, refused.into_iter().collect());
                }
                if let Some((next, is_whole)) = taken.answer {
                    let answer = ShipmentHead {
                        part: ShipmentPart::Taken { next, is_whole },
                        ..head
                    };
                    self.send_shipment(local, shard, from, &answer.encode());
                }
                self.carry_out(local, step.into_iter().collect());
            }
            ShipmentPart::Part { .. } => {}
        }
    }
}

/// Whether a node that was a member before is one now, in the same life.
fn lives(node: NodeId, before: &Members, now: &Members) -> bool {
    before.contains_key(&node) && before.get(&node) == now.get(&node)
}

fn node_ops(local: &Local, shard: ShardKey) -> Option<NodeOps> {
    local.region_states[shard.entity_type.index()].ops.node
}

fn is_sealed(local: &Local, shard: ShardKey) -> bool {
    local.region_states[shard.entity_type.index()].sealed[shard.shard.index()]
}

fn readiness(local: &Local, shard: ShardKey) -> Readiness {
    let number = shard.entity_type.index();
    Readiness {
        is_suspended: local.is_suspended(shard),
        is_lapsed: local.region_states[number].is_lapsed,
        is_movable: local.regions[number].is_movable(),
        has_left: local.has_sent_all_parts(shard),
    }
}

impl Local {
    /// Drops what was taken out of the mailboxes of a shard: it may be handled elsewhere.
    fn abandon(&mut self, shard: ShardKey, why: Uncertainty) {
        if let Some(ops) = node_ops(self, shard) {
            (ops.abandon)(self, shard.entity_type.0, shard.shard, why);
        }
    }

    /// How large a part for a node may be, if there is room for one now. Parts leave most of a link to messages.
    fn room_for_part(&self, to: NodeId) -> Option<usize> {
        let remote = self.remote.as_ref()?;
        let waits = remote.links.get(&to)?.writer.pending().len();
        let share = remote.bounds.buffer_bytes / LINK_SHARE;
        let has_room = waits == 0 || waits + PART_BYTES.min(share) < share;
        has_room.then_some(PART_BYTES.min(share).max(LEAST_PART_BYTES))
    }

    /// Whether nothing waits in the link to the node that a shard moves to.
    fn has_sent_all_parts(&self, shard: ShardKey) -> bool {
        let moving = self.topology.node_move(shard);
        let link = moving.zip(self.remote.as_ref());
        let link = link.and_then(|(moving, remote)| remote.links.get(&moving.to));
        link.is_none_or(|link| link.is_empty())
    }

    fn set_hosted(&mut self, shard: ShardKey, hosted: bool) {
        self.region_states[shard.entity_type.index()].hosted[shard.shard.index()] = hosted;
    }

    /// Tells the core that runs a shard that nothing more comes from here.
    fn tell_drained(&mut self, drained: Drained, to: CoreId) {
        let number = drained.shard.entity_type.0;
        let note = Note::Drained(drained);
        let (_, opened) = self.regions[usize::from(number)].note(number, to, note);
        if opened {
            self.outbox[to.index()].open.push(OpenBatch::Region(number));
        }
    }

    /// If a shard is here, has those of the held messages come first that have come by its present route.
    fn put_present_first(&mut self, shard: ShardKey) {
        if let Some(owner) = self.topology.owner(shard)
            && self.topology.is_mine(shard)
        {
            self.regions[shard.entity_type.index()].put_present_first(shard.shard, owner.epoch);
        }
    }

    /// Has those of the held messages go on that have come by the present route of their shard.
    pub(super) fn release_present(&mut self, shard: ShardKey) {
        let number = shard.entity_type.index();
        let (Some(owner), Some(Route::To(_))) =
            (self.topology.owner(shard), self.topology.route(shard))
        else {
            return;
        };
        let release = self.region_states[number].ops.release_present;
        release(self, shard.entity_type.0, shard.shard, owner.epoch);
    }
}
