//! Messages for shards that are moving: held here, in order, until the shard has arrived.

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
use crate::base::ids::{EntityTypeId, ShardId};
use crate::wire::message::Message;

/// Something for an entity whose shard is moving.
pub(super) enum Held<I, M> {
    Message(I, M, Option<Extra>),
    Signal(I, EntitySignal),
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
        let id = on_the_way_of::<M, _>(|| I::from_key(key));
        let Some(region) = self.region_mut::<I, M>(number) else {
            unreachable!("the caller found the region")
        };
        let held = region.held.entry(shard).or_default();
        if held.len() >= limit && sender == Sender::Call {
            return Err(refuse(Rejection::Moving, message, extra));
        }
        held.push_back(Held::Message(id, message, extra));
        Ok(())
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
    let mut held = held.into_iter().flatten();
    // As in a batch: a panic of an id takes one message down.
    while let Err(panic) = guarded(|| {
        for held in held.by_ref() {
            let (id, message, extra) = match held {
                Held::Message(id, message, extra) => (id, message, extra),
                Held::Signal(id, signal) => {
                    local.take_in(number, signal, |local| {
                        local.signal_entity::<I, M>(number, shard, id, signal);
                    });
                    continue;
                }
            };
            let envelope = Extra::envelope(&extra);
            let sent = local.route_to_entity::<I, M>(
                number,
                shard,
                id.as_key(),
                message,
                extra,
                Sender::Accepted,
            );
            if let Err(refused) = sent {
                let receiver = Receiver::Entity(EntityTypeId(number), &id);
                local.dead_letter(receiver, refused.why, envelope, refused.message);
            }
        }
    }) {
        local.region_fault(number, &panic);
    }
}

pub(super) fn reject_held<I: EntityId, M: Message>(local: &mut Local, number: u16, why: Rejection) {
    let held = local
        .region_mut::<I, M>(number)
        .map(|region| std::mem::take(&mut region.held));
    for held in held.into_iter().flatten().flat_map(|(_, held)| held) {
        match held {
            Held::Message(id, message, extra) => {
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
        }
    }
}
