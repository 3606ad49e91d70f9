//! Shards under way: packing the entities of a shard that leaves this core, and putting those of one that arrives into
//! place.

use super::batch::Note;
use super::cell::{Body, EntityPlace};
use super::control::Cargo;
use super::ending::StopCause;
use super::entity::Packed;
use super::entity_id::EntityId;
use super::guard::{drop_all_guarded, drop_guarded, guarded, shown};
use super::local::{Extra, Local, Room};
use super::mailbox::Mail;
use super::mutant::Mutant;
use super::named_timers::NamedTimer;
use super::outbox::OpenBatch;
use super::reference::{CellRef, Receiver};
use super::refusal::Rejection;
use super::region_state::Shipment;
use super::reply::Envelope;
use super::subscriptions::Leaving;
use super::watch::NewWatch;
use super::watches::WatchId;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey};
use crate::sharding::handoff::Last;
use crate::sharding::topology::MoveId;
use crate::wire::message::Message;
use std::collections::BTreeSet;

/// An entity under way: its id, its state, its subscriptions, its mailbox in order, and its timers.
struct Passenger<I, M> {
    id: I,
    state: Packed,
    subscriptions: Vec<Box<dyn Leaving>>,
    mailbox: Vec<(Mail<M>, Envelope)>,
    timers: Vec<NamedTimer>,
    watches: Vec<NewWatch>,
    followers: BTreeSet<WatchId>,
}

struct ShardCargo<I, M> {
    shipment: Shipment,
    is_last: bool,
    passengers: Vec<Passenger<I, M>>,
}

/// Tells the core that a shard leaves: nothing more comes from here.
pub(super) fn send_last<I: EntityId, M: Message>(local: &mut Local, last: Last, to: CoreId) {
    let number = last.id.shard.entity_type.0;
    let Some(region) = local.region_mut::<I, M>(number) else {
        return;
    };
    let (batch, opened) = region.outgoing.open(to);
    batch.region = number;
    batch
        .notes
        .push((batch.items.len() as u32, Note::Last(last)));
    if opened {
        local.outbox[to.index()]
            .open
            .push(OpenBatch::Region(number));
    }
}

/// Packs some of the entities of a sealed shard.
pub(super) fn ship<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shipment: Shipment,
) -> Box<dyn Cargo> {
    let shard = shipment.id.shard.shard;
    let mut passengers = Vec::new();
    let mut is_last = true;
    while let Some((id, at)) = local.next_to_leave::<I, M>(number, shard) {
        passengers.extend(local.pack_entity::<I, M>(number, id, at));
        if passengers.len() >= shipment.limit {
            is_last = local
                .region_mut::<I, M>(number)
                .is_none_or(|region| !region.leaving.contains_key(&shard));
            break;
        }
    }
    Box::new(ShardCargo {
        shipment,
        is_last,
        passengers,
    })
}

impl Local {
    fn next_to_leave<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
    ) -> Option<(I, CellRef)> {
        let region = self.region_mut::<I, M>(number)?;
        let leaving = region.leaving.get_mut(&shard)?;
        let next = leaving.pop();
        if leaving.is_empty() {
            region.leaving.remove(&shard);
        }
        next
    }

    /// Takes one entity out of its cell, with its mailbox.
    fn pack_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        id: I,
        at: CellRef,
    ) -> Option<Passenger<I, M>> {
        self.cells.get(at)?;
        self.end_children(at);
        self.admit_all_waiting::<M>(at);
        let mut mailbox: Vec<_> = std::iter::from_fn(|| self.next_sealed::<M>(at)).collect();
        if self.mutant == Some(Mutant::ShipDropsMailbox) {
            mailbox.clear();
        }
        let mut timers = self.take_timers(at);
        let mut watches = self.take_watches(at);
        let mut subscriptions = self.take_subscriptions(at);
        let body = self.cells.get(at)?.body.take();
        let packed = match body {
            Some(body) => self.pack_body::<I, M>(number, at, &id, body),
            // It waits for its restart.
            None => {
                let stopped = self.is_lost(at, number, &id, StopCause::Wanted);
                self.has_stopped(stopped);
                Err(StopCause::Wanted)
            }
        };
        // If its life ends here, they hear of it now.
        let (state, followers, cause) = match packed {
            Ok(state) => (state, self.watches.take_followers(at), StopCause::Wanted),
            Err(cause) => (Packed::Nothing, BTreeSet::new(), cause),
        };
        self.release(at, cause);
        let region = &mut self.region_states[usize::from(number)];
        region.active -= 1;
        if let Some(recency) = &mut region.recency {
            recency.remove(at.slot());
        }
        if matches!(state, Packed::Nothing) {
            // Its life has ended here.
            drop_all_guarded(std::mem::take(&mut timers));
            drop_all_guarded(std::mem::take(&mut watches));
            drop_all_guarded(std::mem::take(&mut subscriptions));
            if mailbox.is_empty() {
                drop_guarded(id);
                return None;
            }
        }
        Some(Passenger {
            id,
            state,
            mailbox,
            timers,
            watches,
            followers,
            subscriptions,
        })
    }

    /// Packs the state of an entity; an error is why its life ends here.
    fn pack_body<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        at: CellRef,
        id: &I,
        mut body: Box<dyn Body>,
    ) -> Result<Packed, StopCause> {
        let Some(region) = self.region_mut::<I, M>(number) else {
            return Err(StopCause::Wanted);
        };
        if region.host.is_ephemeral() {
            let stopped = self.is_lost(at, number, id, StopCause::Wanted);
            self.run_post_stop(at, &mut *body);
            // What it has sent to itself meanwhile.
            self.discard_mailbox::<M>(at, Rejection::Stopped);
            drop_guarded(body);
            self.has_stopped(stopped);
            return Err(StopCause::Wanted);
        }
        match region.host.pack(body) {
            Ok(packed) => Ok(packed),
            Err(fault) => {
                let kind = region.kind;
                self.count_fault(kind);
                let (entity, said) = (
                    shown(format_args!("{id:?}")),
                    shown(format_args!("{fault}")),
                );
                tracing::error!(core = %self.core, entity, fault = said, "an entity could not be captured for its move: its state is lost");
                drop_guarded(fault);
                let stopped = self.is_lost(at, number, id, StopCause::Failed);
                self.has_stopped(stopped);
                Err(StopCause::Failed)
            }
        }
    }
}

impl<I: EntityId, M: Message> Cargo for ShardCargo<I, M> {
    fn id(&self) -> MoveId {
        self.shipment.id
    }

    fn epoch(&self) -> Epoch {
        self.shipment.epoch
    }

    fn is_last(&self) -> bool {
        self.is_last
    }

    fn install(self: Box<Self>, local: &mut Local) {
        let ShardKey {
            entity_type: EntityTypeId(number),
            shard,
        } = self.shipment.id.shard;
        local.settling.begin_anew();
        for passenger in self.passengers {
            local.install_entity(number, shard, passenger);
        }
    }

    fn reject(self: Box<Self>, local: &mut Local, why: Rejection) {
        let entity_type = self.shipment.id.shard.entity_type;
        for passenger in self.passengers {
            let Passenger {
                id,
                state,
                subscriptions,
                mailbox,
                timers,
                watches,
                followers,
            } = passenger;
            for by in followers {
                local.tell_terminated(by, None);
            }
            drop_guarded(state);
            drop_all_guarded(subscriptions);
            drop_all_guarded(timers);
            drop_all_guarded(watches);
            for (mail, envelope) in mailbox {
                if let Mail::User(message) = mail {
                    let receiver = Receiver::Entity(entity_type, &id);
                    local.dead_letter(receiver, why, envelope, message);
                }
            }
            drop_guarded(id);
        }
    }
}

impl Local {
    fn install_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        passenger: Passenger<I, M>,
    ) {
        let Passenger {
            id,
            state,
            subscriptions,
            mailbox,
            timers,
            watches,
            followers,
        } = passenger;
        let started = match state {
            Packed::Nothing => None,
            // A panic of its id takes this life down.
            state => guarded(|| self.unpack_entity::<I, M>(number, shard, id.clone(), state))
                .unwrap_or_else(|panic| {
                    self.region_fault(number, &panic);
                    None
                }),
        };
        match started {
            // They were let in when they were started, so no limit refuses them here.
            Some(at) => {
                for timer in timers {
                    self.named_timers.start(&mut self.timers, at, timer);
                }
                for subscription in subscriptions {
                    subscription.arrive(self, at);
                }
            }
            None => {
                drop_all_guarded(timers);
                drop_all_guarded(subscriptions);
            }
        }
        for (mail, envelope) in mailbox {
            let extra = Extra::of(envelope);
            let stored = match (mail, started) {
                (Mail::User(message), Some(at)) => self.store(at, message, extra, Room::Reserved),
                (Mail::User(message), None) => guarded(|| {
                    let (to, room) = (id.as_key(), Room::Reserved);
                    self.store_for_entity::<I, M>(number, shard, to, message, extra, room)
                })
                .unwrap_or_else(|panic| {
                    self.region_fault(number, &panic);
                    Ok(())
                }),
                (Mail::Stop, Some(at)) => {
                    self.stop_in_order::<M>(at);
                    Ok(())
                }
                // It was for a life that has ended.
                (Mail::Stop, None) => Ok(()),
            };
            if let Err(refused) = stored {
                let receiver = Receiver::Entity(EntityTypeId(number), &id);
                self.dead_letter(receiver, refused.why, envelope, refused.message);
            }
        }
        // Behind the mailbox: what an actor that has ended had sent may lie in there.
        match started {
            Some(watcher) => {
                for watch in watches {
                    self.begin_watch(NewWatch { watcher, ..watch });
                }
            }
            None => drop_all_guarded(watches),
        }
        for by in followers {
            match started {
                Some(at) => self.watches.add_follower(at, by),
                None => self.tell_terminated(by, Some(StopCause::Failed)),
            }
        }
        drop_guarded(id);
    }

    pub(super) fn unpack_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: I,
        state: Packed,
    ) -> Option<CellRef> {
        let region = self.region_mut::<I, M>(number)?;
        let table_hash = region.table_hash(id.as_key());
        let place = EntityPlace {
            region: number,
            shard: shard.0,
            table_hash,
        };
        match region.host.unpack(&id, state, place) {
            Ok(body) => self.place_entity::<I, M>(place, id, body),
            Err(fault) => {
                let kind = region.kind;
                self.count_fault(kind);
                let (entity, said) = (
                    shown(format_args!("{id:?}")),
                    shown(format_args!("{fault}")),
                );
                tracing::error!(core = %self.core, entity, fault = said, "an entity could not be restored after its move: it starts afresh");
                drop_guarded(fault);
                None
            }
        }
    }
}
