//! Messages for shards that are moving: held here, in order, until the shard has arrived.

use super::carried::Carried;
use super::delivery::refuse;
use super::entity_id::EntityId;
use super::entity_watch::EntitySignal;
use super::guard::{drop_guarded, guarded};
use super::local::{Extra, Local};
use super::lost::on_the_way_of;
use super::mutant::Mutant;
use super::reference::Receiver;
use super::refusal::{Refused, Rejection};
use super::region::Sender;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use crate::sharding::topology::Route;
use crate::wire::address::{Address, Life};
use crate::wire::kind::Kind;
use crate::wire::message::Message;
use std::collections::VecDeque;

/// Something for an entity whose shard is moving.
pub(super) enum Held<I, M> {
    Message(I, M, Option<Extra>),
    /// The same, of another core of this node, which had heard sooner than this one that the shard is here.
    Early(I, M, Option<Extra>),
    Signal(I, EntitySignal),
    /// A message of another node, in its frame.
    Frame(Box<Carried>),
}

impl<I, M> Held<I, M> {
    /// Whether it has come by the present route of its shard, whose epoch is given.
    fn is_present(&self, epoch: Epoch) -> bool {
        match self {
            Held::Early(..) => true,
            Held::Frame(carried) => carried.is_present(epoch),
            Held::Message(..) | Held::Signal(..) => false,
        }
    }

    /// Whether it is the watch of a core of another node.
    pub(super) fn is_watch_of(&self, life: Life, core: CoreId) -> bool {
        match self {
            Held::Signal(_, EntitySignal::Watch(by)) => (by.life, by.core) == (life, core),
            Held::Frame(carried) => {
                let header = *carried.frame().header();
                let is_of = |by: Address| (by.life, by.core) == (life, core);
                header.kind == Kind::Watch && header.address.is_some_and(is_of)
            }
            Held::Message(..) | Held::Early(..) | Held::Signal(..) => false,
        }
    }
}

/// Puts what has come by the present route of a shard before what this core itself has to send by it.
///
/// What this core had sent to a past owner comes back to it in frames, while what it sends meanwhile is held. The marker
/// would come behind them, but not if the past owner has died since.
pub(super) fn put_present_first<I, M>(held: &mut VecDeque<Held<I, M>>, epoch: Epoch) {
    if held.iter().any(|held| held.is_present(epoch)) {
        let (mut present, others): (VecDeque<_>, VecDeque<_>) =
            held.drain(..).partition(|held| held.is_present(epoch));
        present.extend(others);
        *held = present;
    }
}

/// Has a frame wait. A marker that waits already, and has been repeated, waits once.
pub(super) fn hold_frame<I, M>(held: &mut VecDeque<Held<I, M>>, carried: Box<Carried>) {
    let is_marker = carried.frame().kind() == Kind::Last;
    let waits =
        |it: &Held<I, M>| matches!(it, Held::Frame(known) if known.is_same_marker(&carried));
    if !is_marker || !held.iter().any(waits) {
        held.push_back(Held::Frame(carried));
    }
}

impl Local {
    #[cold]
    pub(super) fn hold<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        message: M,
        extra: Option<Extra>,
        sender: Sender,
    ) -> Result<(), Refused<M>> {
        let limit = self.limits.held_messages;
        let full = self.why_held(number, shard);
        let id = on_the_way_of::<M, _>(|| I::from_key(key));
        let Some(region) = self.region_mut::<I, M>(number) else {
            unreachable!("the caller found the region")
        };
        let held = region.held.entry(shard).or_default();
        if held.len() >= limit && sender == Sender::Call {
            return Err(refuse(full, message, extra));
        }
        held.push_back(Held::Message(id, message, extra));
        Ok(())
    }

    /// Takes a message that came through a lane for a shard that this core does not run.
    #[cold]
    #[inline(never)]
    pub(super) fn accept_elsewhere<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: I,
        message: M,
        extra: Option<Extra>,
    ) {
        let entity_type = EntityTypeId(number);
        if self.topology.comes_here(ShardKey { entity_type, shard })
            && let Some(region) = self.region_mut::<I, M>(number)
        {
            // Behind it more may come, for which this core will run the shard: it must not be overtaken.
            let held = region.held.entry(shard).or_default();
            return held.push_back(Held::Early(id, message, extra));
        }
        // Its sender knew less than this core; the message is passed on, not lost.
        let (key, envelope) = (id.as_key(), Extra::envelope(&extra));
        let accepted = Sender::Accepted;
        let sent = self.route_to_entity::<I, M>(number, shard, key, message, extra, accepted);
        if let Err(refused) = sent {
            let receiver = Receiver::Entity(entity_type, &id);
            self.dead_letter(receiver, refused.why, envelope, refused.message);
        }
    }

    /// Why a message for a shard is refused if too much waits for it.
    fn why_held(&self, number: u16, shard: ShardId) -> Rejection {
        let entity_type = EntityTypeId(number);
        match self.topology.route(ShardKey { entity_type, shard }) {
            Some(Route::Unallocated) if self.has_lapsed() => Rejection::NoControlQuorum,
            Some(Route::Unallocated) => Rejection::Unallocated,
            Some(Route::Away(_)) => Rejection::LinkFull,
            _ => Rejection::Moving,
        }
    }

    /// Goes on with what waits for room in the links. Returns whether any of it has found some.
    pub(super) fn release_backlog(&mut self) -> bool {
        let Some(remote) = &mut self.remote else {
            return false;
        };
        if remote.backlog.is_empty() {
            remote.crowded.clear();
            return false;
        }
        let backlog = std::mem::take(&mut remote.backlog);
        let before = remote.stats.frames_out;
        for (number, shard) in backlog {
            let entity_type = EntityTypeId(number);
            if let Some(route @ Route::Away(_)) =
                self.topology.route(ShardKey { entity_type, shard })
            {
                self.regions[usize::from(number)].set_route(shard, route);
                let release = self.region_states[usize::from(number)].ops.release_held;
                release(self, number, shard);
            }
        }
        (self.remote.as_ref()).is_some_and(|remote| remote.stats.frames_out > before)
    }

    /// Has what is held for a shard wait for room in the link to its owner; what comes meanwhile comes behind it.
    pub(super) fn wait_for_room(&mut self, number: u16, shard: ShardId) {
        self.regions[usize::from(number)].set_route(shard, Route::Hold);
        if let Some(remote) = &mut self.remote {
            remote.backlog.insert((number, shard));
        }
    }

    /// Whether something can be sent to a node now, or be refused for good.
    pub(super) fn may_send_to(&self, node: NodeId) -> bool {
        let Some(remote) = &self.remote else {
            return true;
        };
        let is_crowded = remote.crowded.contains(&node);
        let link = remote.links.get(&node);
        link.is_none_or(|link| {
            link.writer.pending().is_empty() || link.has_room(&remote.bounds) && !is_crowded
        })
    }

    /// Sends something that was held.
    fn go_on<I: EntityId, M: Message>(&mut self, number: u16, shard: ShardId, held: Held<I, M>) {
        match held {
            Held::Frame(carried) => self.take_carried_request(carried),
            Held::Early(id, message, extra) => {
                self.accept_for_entity::<I, M>(number, shard, id, message, extra);
            }
            Held::Signal(id, signal) => self.take_in(number, signal, |local| {
                local.signal_entity::<I, M>(number, shard, id, signal);
            }),
            Held::Message(id, message, extra) => {
                let (key, envelope) = (id.as_key(), Extra::envelope(&extra));
                let accepted = Sender::Accepted;
                let sent =
                    self.route_to_entity::<I, M>(number, shard, key, message, extra, accepted);
                if let Err(refused) = sent {
                    let receiver = Receiver::Entity(EntityTypeId(number), &id);
                    self.dead_letter(receiver, refused.why, envelope, refused.message);
                }
            }
        }
    }

    /// Lets the awaited sends to the entities of a shard in that has not left after all: what was held takes its room
    /// whether there is some or not, and comes after them.
    fn let_shard_in<M: Message>(&mut self, number: u16, shard: ShardId) {
        let slots = self.regions[usize::from(number)].slots(shard);
        for slot in slots {
            if let Some(at) = self.cells.tenant(slot) {
                self.admit_all_waiting::<M>(at);
            }
        }
    }
}

/// Sends what was held for a shard, in order; it was accepted, so nothing of it is refused.
pub(super) fn release_held<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
) {
    let mut held = local
        .region_mut::<I, M>(number)
        .and_then(|region| region.held.remove(&shard));
    if local.mutant == Some(Mutant::ReleaseReversed) {
        held.iter_mut()
            .for_each(|held| held.make_contiguous().reverse());
    }
    if held.is_some() {
        local.let_shard_in::<M>(number, shard);
    }
    let mut held = held.unwrap_or_default();
    let route = local.regions[usize::from(number)].route_of(shard);
    let may_go_on = |local: &Local| match route {
        // Once something has found no room, all that comes after it waits.
        Some(Route::Away(node)) => {
            local.regions[usize::from(number)].route_of(shard) == route && local.may_send_to(node)
        }
        _ => true,
    };
    // As in a batch: a panic of an id takes one message down.
    while let Err(panic) = guarded(|| {
        while may_go_on(local)
            && let Some(held) = held.pop_front()
        {
            local.go_on::<I, M>(number, shard, held);
        }
    }) {
        local.region_fault(number, &panic);
    }
    if !held.is_empty()
        && let Some(region) = local.region_mut::<I, M>(number)
    {
        // Behind what has to wait again.
        region.held.entry(shard).or_default().append(&mut held);
        local.wait_for_room(number, shard);
    }
}

/// Sends those that have come by the present route of their shard, in order; the others go on waiting.
pub(super) fn release_present<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
    epoch: Epoch,
) {
    let region = local.region_mut::<I, M>(number);
    let Some(held) = region.and_then(|region| region.held.get_mut(&shard)) else {
        return;
    };
    let (mut present, others): (VecDeque<_>, VecDeque<_>) =
        held.drain(..).partition(|held| held.is_present(epoch));
    *held = others;
    if !present.is_empty() {
        local.let_shard_in::<M>(number, shard);
    }
    while let Err(panic) = guarded(|| {
        while let Some(held) = present.pop_front() {
            local.go_on::<I, M>(number, shard, held);
        }
    }) {
        local.region_fault(number, &panic);
    }
}

/// Makes dead letters of what other nodes have sent that is held for shards of a type.
pub(super) fn reject_frames<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    why: Rejection,
) {
    let Some(region) = local.region_mut::<I, M>(number) else {
        return;
    };
    let mut frames = Vec::new();
    for held in region.held.values_mut() {
        for it in std::mem::take(held) {
            match it {
                Held::Frame(carried) => frames.push(carried),
                other => held.push_back(other),
            }
        }
    }
    for carried in frames {
        local.refuse_frame(Some(number), &carried.frame(), why);
    }
}

/// Makes dead letters of what is held for one shard, or for all of a type.
pub(super) fn reject_held<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shard: Option<ShardId>,
    why: Rejection,
) {
    let Some(region) = local.region_mut::<I, M>(number) else {
        return;
    };
    let held = match shard {
        Some(shard) => region.held.remove_entry(&shard).into_iter().collect(),
        None => std::mem::take(&mut region.held),
    };
    for held in held.into_values().flatten() {
        match held {
            Held::Message(id, message, extra) | Held::Early(id, message, extra) => {
                let envelope = Extra::envelope(&extra);
                let refused = refuse(why, message, extra);
                let receiver = Receiver::Entity(EntityTypeId(number), &id);
                local.dead_letter(receiver, why, envelope, refused.message);
                drop_guarded(id);
            }
            Held::Signal(id, signal) => {
                local.signal_lost(signal);
                drop_guarded(id);
            }
            Held::Frame(carried) => local.refuse_frame(Some(number), &carried.frame(), why),
        }
    }
}
