//! Watching entities: wherever they live, and wherever they move meanwhile.
//!
//! What an entity's watcher has to say to its core travels with the messages for the entity, so that who is told to start
//! an entity and then to watch it watches one that has started; it is held while the shard moves, and passed on by a core
//! that the shard has left. The watchers of an entity go with it.

use super::batch::Note;
use super::context::Context;
use super::ending::StopCause;
use super::entity_id::EntityId;
use super::guard::{drop_guarded, guarded};
use super::held::Held;
use super::local::Local;
use super::model::{Actor, Fault};
use super::outbox::OpenBatch;
use super::reference::{AnyActorRef, CellRef, EntityAt, shard_of};
use super::refusal::Rejection;
use super::region::{AnyRegion, downcast_region};
use super::typed::TypedBox;
use super::watch::NewWatch;
use super::watch_frames::entity_signal_of;
use super::watches::{Target, WatchId};
use super::wire_id::{MAX_ID_BYTES, WireId};
use crate::base::ids::ShardId;
use crate::sharding::topology::Route;
use crate::wire::frame::FrameRef;
use crate::wire::message::Message;
use std::any::Any;
use std::marker::PhantomData;

/// What a watcher wants of an entity's core.
#[derive(Clone, Copy)]
pub(crate) enum EntitySignal {
    Watch(WatchId),
    Unwatch(WatchId),
}

/// An entity that is watched, whatever its type.
pub(super) trait WatchedEntity: Send {
    /// What sends a signal there.
    fn prepare(&self, signal: EntitySignal) -> Box<dyn FnOnce(&mut Local)>;
    /// Whether there is room on the way there.
    fn has_room(&self, local: &mut Local) -> Result<(), Rejection>;
    /// Whether it is the one of this region and id.
    fn is(&self, region: u16, id: &dyn Any) -> bool;
    /// Its region and shard.
    fn shard(&self) -> (u16, ShardId);
    /// The bytes of its id, if its type travels and they are not too many.
    fn write_id(&self, regions: &mut [TypedBox<dyn AnyRegion>]) -> Option<Vec<u8>>;
}

struct Watched<I, M> {
    region: u16,
    shard: ShardId,
    id: I,
    message: PhantomData<fn(M)>,
}

impl<I: EntityId, M: Message> WatchedEntity for Watched<I, M> {
    fn prepare(&self, signal: EntitySignal) -> Box<dyn FnOnce(&mut Local)> {
        let (region, shard, id) = (self.region, self.shard, self.id.clone());
        Box::new(move |local| local.signal_entity::<I, M>(region, shard, id, signal))
    }

    fn has_room(&self, local: &mut Local) -> Result<(), Rejection> {
        let (limit, shard) = (local.limits.held_messages, self.shard);
        let Some(region) = local.region_mut::<I, M>(self.region) else {
            return Ok(());
        };
        match region.route(shard) {
            Some(Route::To(core)) => local.room_towards(core),
            Some(Route::Hold)
                if region
                    .held
                    .get(&shard)
                    .is_some_and(|held| held.len() >= limit) =>
            {
                Err(Rejection::Moving)
            }
            Some(Route::Unallocated)
                if region
                    .held
                    .get(&shard)
                    .is_some_and(|held| held.len() >= limit) =>
            {
                Err(Rejection::Unallocated)
            }
            Some(Route::Away(_)) if region.wire.is_none() => Err(Rejection::NotAcrossNodes),
            Some(Route::Away(node)) => match guarded(|| self.write_id(&mut local.regions)) {
                Ok(Some(_)) => local.room_towards_node(node),
                Ok(None) => Err(Rejection::TooLarge),
                Err(_) => Err(Rejection::NotArchived),
            },
            _ => Ok(()),
        }
    }

    fn shard(&self) -> (u16, ShardId) {
        (self.region, self.shard)
    }

    fn write_id(&self, regions: &mut [TypedBox<dyn AnyRegion>]) -> Option<Vec<u8>> {
        let wire = downcast_region::<I, M>(regions, self.region)?.wire?;
        let mut id = Vec::new();
        (wire.write_id)(self.id.as_key(), &mut id);
        (id.len() <= MAX_ID_BYTES).then_some(id)
    }

    fn is(&self, region: u16, id: &dyn Any) -> bool {
        self.region == region
            && id
                .downcast_ref::<I>()
                .is_some_and(|id| self.id.is(id.as_key()))
    }
}

/// What makes a message of the news.
type Then<M> = Box<dyn FnOnce(Option<StopCause>) -> M + Send>;

/// # Watching entities
///
/// The life of an entity ends when it stops, fails beyond its restarts, or is passivated; with an ephemeral one also when
/// its shard moves. A move that takes the state along is no end: the watch follows. If the shard is on another node, the
/// watch reaches it there, as one of an [actor of another node](Context#on-other-nodes) does; if its owner dies, the life of
/// the entity has ended, with the cause [`StopCause::NodeGone`]. A watch of an entity whose shard no node owns waits until
/// one does.
impl<A: Actor> Context<'_, A> {
    /// Has this actor told when the present life of an entity has ended, and why. If the entity is not active, the news
    /// comes at once, with `None`. Each call is a watch of its own.
    ///
    /// # Errors
    /// As [`watch`](Context::watch); also [`Rejection::Moving`] if the entity's shard moves and too much waits for it already,
    /// or [`Rejection::Unallocated`] if no node owns it and too much waits for that; [`Rejection::OldIncarnation`] for an
    /// entity of another runtime; for one on another node [`Rejection::NotAcrossNodes`] if its type does not travel, and
    /// [`Rejection::TooLarge`] or [`Rejection::NotArchived`] if its id does not.
    pub fn watch_entity<I: EntityId, M: Message>(
        &mut self,
        entity: EntityAt<'_, I, M>,
        then: impl FnOnce(Option<StopCause>) -> A::Msg + Send + 'static,
    ) -> Result<(), Rejection> {
        if self.has_ended() {
            return Err(Rejection::Stopped);
        }
        if entity.region.runtime != self.local.runtime {
            return Err(Rejection::OldIncarnation);
        }
        let watched = Watched::<I, M> {
            region: entity.region.id.0,
            shard: entity.region.shard_of(entity.key).shard,
            id: I::from_key(entity.key),
            message: PhantomData,
        };
        let then: Then<A::Msg> = Box::new(then);
        self.local.watch(NewWatch {
            watcher: self.at,
            target: Target::Entity(Box::new(watched)),
            then: Box::new(then),
            bring: bring::<A::Msg>,
        })
    }

    /// Ends this actor's watches of an entity. Returns how many there were. (It looks through all watches of this actor.)
    pub fn unwatch_entity<I: EntityId, M: Message>(&mut self, entity: EntityAt<'_, I, M>) -> usize {
        if entity.region.runtime != self.local.runtime {
            return 0;
        }
        let (region, id) = (entity.region.id.0, I::from_key(entity.key));
        let numbers: Vec<_> = self.local.watches.of_entity(self.at, region, &id).collect();
        for number in &numbers {
            self.local.end_watch(*number);
        }
        numbers.len()
    }
}

/// Has a watcher get its message.
fn bring<M: Message>(
    local: &mut Local,
    watcher: CellRef,
    then: Box<dyn Any + Send>,
    _: Option<AnyActorRef>,
    cause: Option<StopCause>,
) {
    let Ok(then) = then.downcast::<Then<M>>() else {
        return;
    };
    match guarded(|| then(cause)) {
        Ok(message) => local.accept_reserved(watcher, message, None),
        Err(panic) => local.fault_later(watcher, Fault::panicked(panic)),
    }
}

impl Local {
    /// Sends a signal to wherever an entity lives, in order with the messages for it.
    pub(super) fn signal_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: I,
        signal: EntitySignal,
    ) {
        let me = self.core;
        let Some(region) = self.region_mut::<I, M>(number) else {
            return;
        };
        match region.route(shard) {
            Some(Route::To(core)) if core == me => {
                self.accept_entity_signal::<I, M>(number, shard, &id, signal);
                drop_guarded(id);
            }
            Some(Route::To(to)) => {
                let (batch, opened) = region.outgoing.open(to);
                batch.region = number;
                let arrive = move |local: &mut Local| {
                    local.entity_signal_arrived::<I, M>(number, shard, id, signal);
                };
                let place = batch.items.len() as u32;
                let note = Note::Signal(signal, Box::new(arrive));
                batch.notes.push((place, note));
                let in_batch = batch.items.len() + batch.notes.len();
                let target = &mut self.outbox[to.index()];
                target.messages += 1;
                if opened {
                    target.open.push(OpenBatch::Region(number));
                }
                if in_batch >= self.limits.batch_messages {
                    self.seal(to, OpenBatch::Region(number));
                }
            }
            Some(route @ (Route::Hold | Route::Unallocated)) => {
                let held = region.held.entry(shard).or_default();
                held.push_back(Held::Signal(id, signal));
                if route == Route::Unallocated {
                    self.want(number, shard);
                }
            }
            Some(Route::Away(node)) => {
                match signal {
                    EntitySignal::Watch(by) => self.watch_entity_far(by, node, number, shard),
                    // If it was announced there, its end was as well.
                    EntitySignal::Unwatch(_) => {}
                }
                drop_guarded(id);
            }
            None => {}
        }
    }

    /// Has a signal arrive. A panic of its id is its end, and nothing else's.
    pub(super) fn take_in(
        &mut self,
        region: u16,
        signal: EntitySignal,
        arrive: impl FnOnce(&mut Local),
    ) {
        if let Err(panic) = guarded(|| arrive(self)) {
            self.region_fault(region, &panic);
            self.signal_lost(signal);
        }
    }

    /// A signal could not be brought to its entity, which is out of reach.
    pub(super) fn signal_lost(&mut self, signal: EntitySignal) {
        if let EntitySignal::Watch(by) = signal {
            self.tell_terminated(by, None);
        }
    }

    /// Takes a signal in a frame of another node.
    pub(super) fn take_entity_signal<I: WireId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        frame: &FrameRef<'_>,
    ) {
        let shards = self.region_states[usize::from(number)].hosted.len() as u32;
        let id = I::with_key(frame.entity_id(), |key| {
            (shard_of(I::stable_hash(key), shards) == shard).then(|| I::from_key(key))
        });
        let Some((Some(id), signal)) = id.zip(entity_signal_of(frame)) else {
            return self.senseless(frame, "a watch of an id that is none, or of another shard");
        };
        self.accept_entity_signal::<I, M>(number, shard, &id, signal);
        drop_guarded(id);
    }

    fn entity_signal_arrived<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: I,
        signal: EntitySignal,
    ) {
        if self.region_states[usize::from(number)].hosted[shard.index()] {
            self.accept_entity_signal::<I, M>(number, shard, &id, signal);
            drop_guarded(id);
        } else {
            self.signal_entity::<I, M>(number, shard, id, signal);
        }
    }

    fn accept_entity_signal<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: &I,
        signal: EntitySignal,
    ) {
        let entity = self
            .region_mut::<I, M>(number)
            .and_then(|region| region.slot_of(shard, id.as_key()))
            .and_then(|slot| self.cells.tenant(slot));
        match (signal, entity) {
            (EntitySignal::Watch(by), Some(at)) => {
                if self.may_watch_here(at, by) {
                    self.watches.add_follower(at, by);
                }
            }
            (EntitySignal::Watch(by), None) => self.tell_terminated(by, None),
            (EntitySignal::Unwatch(by), Some(at)) => self.watches.remove_follower(at, by),
            (EntitySignal::Unwatch(_), None) => {}
        }
    }
}
