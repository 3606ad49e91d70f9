//! The entities of one type on one core: who is active in which shard, and how messages find them, also while their shard
//! moves.

use super::batch::{Batch, EntityBatch, Note, Outgoing, ShardAddress};
use super::carried::Carried;
use super::cell::{Body, Cells, EntityPlace};
use super::delivery::refuse;
use super::entity::Host;
use super::entity_id::EntityId;
use super::guard::{beginning, drop_guarded, shown};
use super::held::{Held, hold_frame, put_present_first};
use super::local::{Extra, Local, Room, TimerEvent};
use super::lost::on_the_way_of;
use super::mailbox::Mailbox;
use super::node_shipping::Departing;
use super::outbox::OpenBatch;
use super::recency::Recency;
use super::reference::{CellRef, Receiver, Region, shard_of};
use super::refusal::{Refused, Rejection};
use super::region_state::{RegionOps, RegionState, SentAway};
use super::typed::{AsAny, TypedBox};
use super::wire_region::WireOps;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey};
use crate::sharding::topology::Route;
use crate::wire::address::Life;
use crate::wire::message::Message;
use ahash::RandomState;
use hashbrown::HashTable;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};

/// The typed half of a region on one core.
pub(crate) struct RegionTable<I: EntityId, M> {
    pub(crate) host: Box<dyn Host<I, M>>,
    hasher: RandomState,
    class: u16,
    pub(super) kind: u16,
    mailbox: Mailbox,
    pub(super) routes: Vec<Route>,
    /// The active entities of each shard.
    shards: Vec<HashTable<Entry<I>>>,
    /// Messages for shards that are moving, in order.
    pub(super) held: BTreeMap<ShardId, VecDeque<Held<I, M>>>,
    /// Entities of sealed shards that have yet to be shipped.
    pub(super) leaving: BTreeMap<ShardId, Vec<(I, CellRef)>>,
    /// Shards on their way to another node.
    pub(super) departing: BTreeMap<ShardId, Departing<I, M>>,
    pub(crate) outgoing: Outgoing<EntityBatch<I, M>>,
    /// How its messages travel, if they do.
    pub(super) wire: Option<WireOps<I, M>>,
}

/// An active entity in its shard's table. The hash lies where there would be padding, and spares the growing table the
/// hashing of every id, which is the user's code.
struct Entry<I> {
    id: I,
    slot: u32,
    hash: u32,
}

/// The hash of a table whose entries keep half of it.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// A region's table whatever its types.
pub(crate) trait AnyRegion: AsAny {
    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>>;
    fn set_route(&mut self, shard: ShardId, route: Route);
    /// Takes an entity out of its shard's table.
    fn forget(&mut self, place: EntityPlace, slot: u32);
    /// A fresh body for an entity, if it is in the table; an error is what the factory's panic said.
    fn revive(&self, place: EntityPlace, slot: u32) -> Option<Result<Box<dyn Body>, String>>;
    /// Where messages for a shard go.
    fn route_of(&self, shard: ShardId) -> Option<Route>;
    /// Messages that wait for moving shards.
    fn held(&self) -> usize;
    /// Those of them that wait for this shard.
    fn held_of(&self, shard: ShardId) -> usize;
    /// Has a frame wait for its shard.
    fn hold_frame(&mut self, shard: ShardId, carried: Box<Carried>);
    /// Puts what waits for a shard and has come by its present route before the rest of what waits.
    fn put_present_first(&mut self, shard: ShardId, epoch: Epoch);
    /// Drops watches that wait for their shards, of a core of another node.
    fn forget_held_watches(&mut self, life: Life, core: CoreId);
    /// Messages that were taken out of the mailboxes of shards on their way to another node.
    fn packed(&self) -> usize;
    /// Whether its entities can leave the node.
    fn is_movable(&self) -> bool;
    /// Puts a note into the open batch for a core. How much is in the batch then, and whether it was opened for it.
    fn note(&mut self, number: u16, to: CoreId, note: Note) -> (usize, bool);
    /// Entities of a shard.
    fn entities(&self, shard: ShardId) -> usize;
    /// Moves a shard's entities from its table to the list of those that leave.
    fn start_leaving(&mut self, shard: ShardId, cells: &Cells);
    /// The cell slots of a shard's entities.
    fn slots(&self, shard: ShardId) -> Vec<u32>;
    /// The entity's id.
    fn id(&self, place: EntityPlace, slot: u32) -> Option<&dyn Any>;
    /// The beginning of the entity's id, of which no more than `most` bytes.
    fn describe(&self, place: EntityPlace, slot: u32, most: usize) -> String;
}

impl<I: EntityId, M: Message> RegionTable<I, M> {
    #[inline]
    pub(super) fn table_hash(&self, key: &I::Key) -> u64 {
        spread(self.hasher.hash_one(key) as u32)
    }

    /// Where messages for a shard go.
    pub(super) fn route(&self, shard: ShardId) -> Option<Route> {
        self.routes.get(shard.index()).copied()
    }

    /// The cell of an entity, if it is active here.
    pub(super) fn slot_of(&self, shard: ShardId, key: &I::Key) -> Option<u32> {
        self.shards[shard.index()]
            .find(self.table_hash(key), |entry| entry.id.is(key))
            .map(|entry| entry.slot)
    }

    /// The active entities of a shard.
    pub(super) fn tenants(&self, shard: ShardId) -> impl Iterator<Item = (&I, u32)> {
        let entries = self.shards[shard.index()].iter();
        entries.map(|entry| (&entry.id, entry.slot))
    }

    pub(super) fn id_of(&self, place: EntityPlace, slot: u32) -> Option<&I> {
        self.shards[place.shard as usize]
            .find(place.table_hash, |entry| entry.slot == slot)
            .map(|entry| &entry.id)
    }
}

impl<I: EntityId, M: Message> AnyRegion for RegionTable<I, M> {
    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>> {
        self.outgoing.seal(to).map(|batch| batch as Box<dyn Batch>)
    }

    fn set_route(&mut self, shard: ShardId, route: Route) {
        self.routes[shard.index()] = route;
    }

    fn forget(&mut self, place: EntityPlace, slot: u32) {
        let shard = &mut self.shards[place.shard as usize];
        if let Ok(entry) = shard.find_entry(place.table_hash, |entry| entry.slot == slot) {
            drop_guarded(entry.remove().0);
        }
    }

    fn revive(&self, place: EntityPlace, slot: u32) -> Option<Result<Box<dyn Body>, String>> {
        Some(self.host.start(self.id_of(place, slot)?, place))
    }

    fn route_of(&self, shard: ShardId) -> Option<Route> {
        self.route(shard)
    }

    fn held(&self) -> usize {
        self.held.values().map(VecDeque::len).sum()
    }

    fn held_of(&self, shard: ShardId) -> usize {
        self.held.get(&shard).map_or(0, VecDeque::len)
    }

    fn hold_frame(&mut self, shard: ShardId, carried: Box<Carried>) {
        hold_frame(self.held.entry(shard).or_default(), carried);
    }

    fn put_present_first(&mut self, shard: ShardId, epoch: Epoch) {
        if let Some(held) = self.held.get_mut(&shard) {
            put_present_first(held, epoch);
        }
    }

    fn forget_held_watches(&mut self, life: Life, core: CoreId) {
        for held in self.held.values_mut() {
            held.retain(|held| !held.is_watch_of(life, core));
        }
    }

    fn packed(&self) -> usize {
        self.departing.values().map(Departing::mail).sum()
    }

    fn is_movable(&self) -> bool {
        self.wire.is_some() && self.host.is_movable()
    }

    fn note(&mut self, number: u16, to: CoreId, note: Note) -> (usize, bool) {
        let (batch, opened) = self.outgoing.open(to);
        batch.region = number;
        batch.notes.push((batch.items.len() as u32, note));
        (batch.items.len() + batch.notes.len(), opened)
    }

    fn entities(&self, shard: ShardId) -> usize {
        self.shards[shard.index()].len()
    }

    fn start_leaving(&mut self, shard: ShardId, cells: &Cells) {
        // By full reference, since an entity may end, and its slot serve another, before its part is shipped.
        let entities = std::mem::take(&mut self.shards[shard.index()])
            .into_iter()
            .filter_map(|entry| match cells.tenant(entry.slot) {
                Some(at) => Some((entry.id, at)),
                None => {
                    drop_guarded(entry);
                    None
                }
            })
            .collect();
        self.leaving.insert(shard, entities);
    }

    fn slots(&self, shard: ShardId) -> Vec<u32> {
        self.shards[shard.index()]
            .iter()
            .map(|entry| entry.slot)
            .collect()
    }

    fn id(&self, place: EntityPlace, slot: u32) -> Option<&dyn Any> {
        self.id_of(place, slot).map(|id| id as &dyn Any)
    }

    fn describe(&self, place: EntityPlace, slot: u32, most: usize) -> String {
        self.id_of(place, slot)
            .map_or_else(String::new, |id| beginning(format_args!("{id:?}"), most))
    }
}

/// Who sends a message to an entity decides what may become of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A call that can be refused.
    Call,
    /// It was accepted before, so it must not be refused.
    Accepted,
}

impl Local {
    /// Registers a region on this core. All cores register the same regions in the same order.
    pub(crate) fn install_region<A: super::model::Actor, I: EntityId>(
        &mut self,
        entity: &super::entity::EntityType<A, I>,
        default_mailbox: Mailbox,
        seed: u64,
    ) {
        let number = self.regions.len() as u16;
        let key = EntityTypeId(number);
        let shards = entity.num_shards;
        let kind = self.kind_id::<A>();
        let class = self.class_id::<A::Msg>();
        let placements: Vec<_> = (0..shards)
            .map(|shard| ShardKey {
                entity_type: key,
                shard: ShardId(shard),
            })
            .map(|key| {
                (
                    self.topology.route(key),
                    self.topology
                        .placement(key)
                        .filter(|_| self.topology.is_mine(key))
                        .map(|placement| placement.owner),
                )
            })
            .collect();
        let clustered = entity.clustered.as_ref();
        let wire = clustered.and_then(|it| it.ops::<I, A::Msg>());
        let word = |n: u64| {
            seed.wrapping_add(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(number) << 32)
        };
        self.regions
            .push(TypedBox::new(Box::new(RegionTable::<I, A::Msg> {
                host: entity.host(),
                hasher: RandomState::with_seeds(word(1), word(2), word(3), word(4)),
                class,
                kind,
                mailbox: entity.mailbox.unwrap_or(default_mailbox),
                routes: placements
                    .iter()
                    .map(|(route, _)| route.unwrap_or(Route::Hold))
                    .collect(),
                shards: (0..shards).map(|_| HashTable::new()).collect(),
                held: BTreeMap::new(),
                leaving: BTreeMap::new(),
                departing: BTreeMap::new(),
                outgoing: Outgoing::new(self.port.cores()),
                wire,
            })));
        self.region_states.push(RegionState {
            name: entity.name,
            message: std::any::type_name::<A::Msg>(),
            is_leased: clustered.is_some_and(|it| !it.keep_running),
            is_lapsed: false,
            epochs: match clustered {
                Some(_) if self.remote.is_some() => vec![Epoch::default(); shards as usize],
                _ => Vec::new(),
            },
            sent_away: match clustered {
                Some(_) if self.remote.is_some() => SentAway::new(shards),
                _ => SentAway::new(0),
            },
            handled: vec![0; shards as usize],
            kind,
            hosted: placements
                .iter()
                .map(|(_, owner)| *owner == Some(self.core))
                .collect(),
            sealed: vec![false; shards as usize],
            suspended: BTreeMap::new(),
            active: 0,
            idle: entity.idle,
            max_active: entity.max_active,
            supervision: entity.supervision.clone(),
            recency: (entity.idle.is_some() || entity.max_active.is_some()).then(Recency::default),
            timer_set: false,
            ops: RegionOps {
                send_last: super::shipping::send_last::<I, A::Msg>,
                release_held: super::held::release_held::<I, A::Msg>,
                release_present: super::held::release_present::<I, A::Msg>,
                ship: super::shipping::ship::<I, A::Msg>,
                reject_held: super::held::reject_held::<I, A::Msg>,
                reject_frames: super::held::reject_frames::<I, A::Msg>,
                deliver: wire.map(|wire| wire.deliver),
                drop_message: wire.map(|wire| wire.drop_message),
                node: wire.map(|wire| wire.node),
            },
        });
    }

    #[inline]
    pub(crate) fn region_mut<I: EntityId, M: Message>(
        &mut self,
        region: u16,
    ) -> Option<&mut RegionTable<I, M>> {
        downcast_region(&mut self.regions, region)
    }

    /// Sends to an entity, wherever it is.
    #[inline(always)]
    pub(crate) fn deliver_to_entity<I: EntityId, M: Message>(
        &mut self,
        region: Region<I, M>,
        key: &I::Key,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        if region.runtime != self.runtime {
            return Err(refuse(Rejection::OldIncarnation, message, extra));
        }
        let hash = on_the_way_of::<M, _>(|| I::stable_hash(key));
        let shard = shard_of(hash, region.num_shards);
        self.route_to_entity::<I, M>(region.id.0, shard, key, message, extra, Sender::Call)
    }

    #[inline(always)]
    pub(super) fn route_to_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        message: M,
        extra: Option<Extra>,
        sender: Sender,
    ) -> Result<(), Refused<M>> {
        let me = self.core;
        let Some(region) = self.region_mut::<I, M>(number) else {
            return Err(refuse(Rejection::OldIncarnation, message, extra));
        };
        match region.routes.get(shard.index()) {
            Some(Route::To(core)) if *core == me => self.store_for_entity::<I, M>(
                number,
                shard,
                key,
                message,
                extra,
                if sender == Sender::Call {
                    Room::Bounded
                } else {
                    Room::Reserved
                },
            ),
            Some(Route::To(core)) => {
                let core = *core;
                self.post_to_entity::<I, M>(core, number, shard, key, message, extra, sender)
            }
            Some(Route::Hold) => self.hold::<I, M>(number, shard, key, message, extra, sender),
            Some(Route::Away(node)) => {
                let node = *node;
                self.send_away::<I, M>(node, number, shard, key, message, extra, sender)
            }
            Some(Route::Unallocated) => {
                self.want(number, shard);
                self.hold::<I, M>(number, shard, key, message, extra, sender)
            }
            None => Err(refuse(Rejection::OldIncarnation, message, extra)),
        }
    }

    /// Takes a message for an entity that came through a lane.
    #[inline]
    pub(crate) fn accept_for_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: I,
        message: M,
        extra: Option<Extra>,
    ) {
        let hosted = self.region_states[usize::from(number)].hosted[shard.index()];
        let envelope = Extra::envelope(&extra);
        let stored = if hosted {
            self.store_for_entity::<I, M>(
                number,
                shard,
                id.as_key(),
                message,
                extra,
                Room::FromLane,
            )
        } else {
            return self.accept_elsewhere::<I, M>(number, shard, id, message, extra);
        };
        if let Err(refused) = stored {
            let receiver = Receiver::Entity(EntityTypeId(number), &id);
            self.dead_letter(receiver, refused.why, envelope, refused.message);
        }
    }

    #[inline]
    pub(super) fn store_for_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        message: M,
        extra: Option<Extra>,
        room: Room,
    ) -> Result<(), Refused<M>> {
        let Some(region) = downcast_region::<I, M>(&mut self.regions, number) else {
            return Err(refuse(Rejection::OldIncarnation, message, extra));
        };
        let (hash, slot) = on_the_way_of::<M, _>(|| {
            let hash = region.table_hash(key);
            let found = region.shards[shard.index()].find(hash, |entry| entry.id.is(key));
            (hash, found.map(|entry| entry.slot))
        });
        let started = match slot {
            Some(slot) => self.cells.tenant(slot),
            None if room == Room::Bounded && !self.has_room() => {
                return Err(refuse(Rejection::CoreBudget, message, extra));
            }
            None if self.stopping => return Err(refuse(Rejection::ShuttingDown, message, extra)),
            None => self.start_entity::<I, M>(number, shard, key, hash),
        };
        match started {
            Some(at) => self.store(at, message, extra, room),
            None => Err(refuse(Rejection::StartFailed, message, extra)),
        }
    }

    /// Starts an entity; `None` if its factory failed, which is counted and logged.
    pub(super) fn start_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        table_hash: u64,
    ) -> Option<CellRef> {
        let region = downcast_region::<I, M>(&mut self.regions, number)?;
        let place = EntityPlace {
            region: number,
            shard: shard.0,
            table_hash,
        };
        let id = on_the_way_of::<M, _>(|| I::from_key(key));
        match region.host.start(&id, place) {
            Ok(body) => self
                .place_entity::<I, M>(place, id, body)
                .inspect(|at| self.has_started(*at, Some(place))),
            Err(panic) => {
                let kind = region.kind;
                self.count_fault(kind);
                let entity = shown(format_args!("{id:?}"));
                tracing::error!(core = %self.core, entity, panic, "the factory of an entity panicked");
                None
            }
        }
    }

    /// Counts and logs that code of an entity type's ids panicked; what it was called for is gone, and nothing else. Asks
    /// that were dropped on the way out are noted as failed, and end with whatever is going on; so are messages, which
    /// are dead letters then.
    #[cold]
    pub(super) fn region_fault(&mut self, number: u16, panic: &str) {
        let region = &self.region_states[usize::from(number)];
        let (name, kind) = (region.name, region.kind);
        self.count_fault(kind);
        tracing::error!(core = %self.core, entity_type = name, panic, "an id or a message of an entity type panicked");
    }

    /// Gives an entity a cell and a place in its shard's table.
    pub(super) fn place_entity<I: EntityId, M: Message>(
        &mut self,
        place: EntityPlace,
        id: I,
        body: Box<dyn Body>,
    ) -> Option<CellRef> {
        let region = downcast_region::<I, M>(&mut self.regions, place.region)?;
        let at = self
            .cells
            .allocate(region.class, region.kind, region.mailbox, body);
        let entry = Entry {
            id,
            slot: at.slot(),
            hash: place.table_hash as u32,
        };
        let shard = &mut region.shards[place.shard as usize];
        debug_assert!(
            shard
                .find(place.table_hash, |known| known.id.is(entry.id.as_key()))
                .is_none(),
            "one entity does not have two lives"
        );
        shard.insert_unique(place.table_hash, entry, |entry| spread(entry.hash));
        let now = self.now;
        let state = &mut self.region_states[usize::from(place.region)];
        state.active += 1;
        if let Some(recency) = &mut state.recency {
            recency.insert(at.slot(), now);
            if let (Some(idle), false) = (state.idle, state.timer_set) {
                state.timer_set = true;
                self.timers.insert(
                    now + idle,
                    TimerEvent::Passivate {
                        region: place.region,
                    },
                );
            }
        }
        Some(at)
    }

    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one envelope, on the hot path"
    )]
    fn post_to_entity<I: EntityId, M: Message>(
        &mut self,
        to: CoreId,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        message: M,
        extra: Option<Extra>,
        sender: Sender,
    ) -> Result<(), Refused<M>> {
        let target = &mut self.outbox[to.index()];
        if target.messages >= self.limits.outbox_messages && sender == Sender::Call {
            return Err(refuse(Rejection::OutboxFull, message, extra));
        }
        // The user's code, so before anything changes.
        let id = on_the_way_of::<M, _>(|| I::from_key(key));
        target.messages += 1;
        let Some(region) = downcast_region::<I, M>(&mut self.regions, number) else {
            unreachable!("the caller found the region")
        };
        let (batch, opened) = region.outgoing.open(to);
        batch.region = number;
        let address = ShardAddress::new(shard, Extra::envelope(&extra));
        if let Some(Extra::Acknowledge(stored)) = extra {
            batch
                .notes
                .push((batch.items.len() as u32, Note::Acknowledge(stored)));
        }
        batch.items.push((address, id, message));
        let full = batch.items.len() >= self.limits.batch_messages;
        if opened {
            target.open.push(OpenBatch::Region(number));
        }
        if full {
            self.seal(to, OpenBatch::Region(number));
        }
        Ok(())
    }
}

#[inline]
pub(super) fn downcast_region<I: EntityId, M: Message>(
    regions: &mut [TypedBox<dyn AnyRegion>],
    number: u16,
) -> Option<&mut RegionTable<I, M>> {
    regions.get_mut(usize::from(number))?.get_mut()
}
