//! References: plain addresses, which hold nothing alive and know no runtime.

use super::entity_id::EntityId;
use super::local::{Extra, Local};
use super::refusal::Refused;
use super::reply::{Envelope, RuntimeId};
use crate::base::ids::{CoreId, EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use crate::wire::message::Message;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// One life of one node: what an address is good in. Node and incarnation in one word, which is what is compared on
/// every send.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home(u64);

impl Home {
    /// A life of a node.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation) -> Home {
        Home(u64::from(node.0) << 32 | u64::from(incarnation.0))
    }

    /// The node.
    #[must_use]
    pub fn node(self) -> NodeId {
        NodeId((self.0 >> 32) as u32)
    }

    /// Its life.
    #[must_use]
    pub fn incarnation(self) -> Incarnation {
        Incarnation(self.0 as u32)
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node(), self.incarnation())
    }
}

/// A place for one actor on one core; the generation tells successive tenants apart. Slot and generation in one word:
/// written in halves and read as one, a reference in the ready queue would stall each activation by 5 ns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellRef(u64);

impl CellRef {
    #[inline]
    pub(crate) const fn new(slot: u32, generation: u32) -> CellRef {
        CellRef((generation as u64) << 32 | slot as u64)
    }

    /// Both in one word, the generation above.
    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// Takes such a word apart, which a peer may have made up.
    pub(crate) const fn from_bits(bits: u64) -> CellRef {
        CellRef(bits)
    }

    /// The cell.
    #[inline]
    #[must_use]
    pub fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Which of its tenants.
    #[inline]
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// As it is written on an envelope. The generation of a tenant is odd, so its last bit has room for the kind.
    #[inline(always)]
    pub(crate) fn on(self, envelope: Envelope) -> CellRef {
        CellRef(self.0 ^ (u64::from(envelope == Envelope::Ask) << 32))
    }

    /// Takes apart what was written on an envelope.
    #[inline(always)]
    pub(crate) fn off(self) -> (CellRef, Envelope) {
        let envelope = if self.generation() & 1 == 0 {
            Envelope::Ask
        } else {
            Envelope::Plain
        };
        (CellRef(self.0 | 1 << 32), envelope)
    }
}

impl fmt::Debug for CellRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cell-{}.{}", self.slot(), self.generation())
    }
}

/// The address of an actor that takes messages of type `M`.
///
/// It is `Copy`, may be stored and sent, to other nodes as well if `M` is a [wire message](crate::WireMessage), and stays valid as an address when the actor has gone: then messages to it are
/// refused as [`NoSuchActor`](super::refusal::Rejection::NoSuchActor).
pub struct ActorRef<M> {
    pub(crate) home: Home,
    pub(crate) cell: CellRef,
    pub(crate) core: CoreId,
    message: PhantomData<fn(M)>,
}

impl<M> ActorRef<M> {
    pub(crate) fn new(home: Home, core: CoreId, cell: CellRef) -> Self {
        ActorRef {
            home,
            cell,
            core,
            message: PhantomData,
        }
    }

    /// The core on which the actor lives.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }
}

/// The address of an actor whatever messages it takes: to compare, to show, to watch, and to be told who has stopped.
///
/// ```
/// use corecast::{ActorRef, AnyActorRef};
///
/// fn is_same<M, N>(one: ActorRef<M>, other: ActorRef<N>) -> bool {
///     AnyActorRef::from(one) == AnyActorRef::from(other)
/// }
/// # let _ = is_same::<u8, u16>;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyActorRef {
    pub(crate) home: Home,
    pub(crate) core: CoreId,
    pub(crate) cell: CellRef,
}

impl AnyActorRef {
    /// The core on which the actor lives.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// The address with the type of messages that the actor takes, which the caller knows.
    pub(crate) fn of_type<M>(self) -> ActorRef<M> {
        ActorRef::new(self.home, self.core, self.cell)
    }
}

impl<M> From<ActorRef<M>> for AnyActorRef {
    fn from(actor: ActorRef<M>) -> Self {
        AnyActorRef {
            home: actor.home,
            core: actor.core,
            cell: actor.cell,
        }
    }
}

impl fmt::Debug for AnyActorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of_type::<()>().fmt(f)
    }
}

impl<M> Clone for ActorRef<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for ActorRef<M> {}

impl<M> PartialEq for ActorRef<M> {
    fn eq(&self, other: &Self) -> bool {
        (self.home, self.core, self.cell) == (other.home, other.core, other.cell)
    }
}

impl<M> Eq for ActorRef<M> {}

impl<M> Hash for ActorRef<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.home, self.core, self.cell).hash(state);
    }
}

impl<M> fmt::Debug for ActorRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:?}", self.home.node(), self.core, self.cell)
    }
}

/// A registered entity type: entities named by `I` that take messages of type `M`.
///
/// It belongs to the runtime of the builder that registered it; in another, messages to its entities are refused as
/// [`OldIncarnation`](super::refusal::Rejection::OldIncarnation).
pub struct Region<I, M> {
    pub(crate) id: EntityTypeId,
    pub(crate) num_shards: u32,
    pub(crate) runtime: RuntimeId,
    types: PhantomData<fn(I, M)>,
}

impl<I: EntityId, M: Message> Region<I, M> {
    pub(crate) fn new(runtime: RuntimeId, id: EntityTypeId, num_shards: u32) -> Self {
        Region {
            id,
            num_shards,
            runtime,
            types: PhantomData,
        }
    }

    /// The number of the entity type.
    #[must_use]
    pub fn type_id(&self) -> EntityTypeId {
        self.id
    }

    /// The entity of that id as a destination; nothing is allocated.
    #[must_use]
    pub fn entity<'k>(&self, id: &'k I::Key) -> EntityAt<'k, I, M> {
        EntityAt {
            region: *self,
            key: id,
        }
    }

    /// A reference to the entity of that id, to be kept or sent; `Copy` exactly when the id is.
    #[must_use]
    pub fn entity_ref(&self, id: I) -> EntityRef<I, M> {
        EntityRef { region: *self, id }
    }

    /// The shard in which the entity of that id lives.
    #[must_use]
    pub fn shard_of(&self, id: &I::Key) -> ShardKey {
        ShardKey {
            entity_type: self.id,
            shard: shard_of(I::stable_hash(id), self.num_shards),
        }
    }
}

/// Multiply-shift: even for every number of shards, and it leaves the low bits of the hash to other uses.
#[inline]
pub(crate) fn shard_of(hash: u64, num_shards: u32) -> ShardId {
    ShardId(((u128::from(hash) * u128::from(num_shards)) >> 64) as u32)
}

impl<I, M> Clone for Region<I, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, M> Copy for Region<I, M> {}

impl<I, M> fmt::Debug for Region<I, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({}, {} shards)", self.id, self.num_shards)
    }
}

/// An entity as a destination, by a borrowed id. See [`Region::entity`].
pub struct EntityAt<'k, I: EntityId, M> {
    pub(crate) region: Region<I, M>,
    pub(crate) key: &'k I::Key,
}

impl<I: EntityId, M> Clone for EntityAt<'_, I, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I: EntityId, M> Copy for EntityAt<'_, I, M> {}

impl<I: EntityId, M> fmt::Debug for EntityAt<'_, I, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.region.id, self.key)
    }
}

/// The address of an entity: its type and its id. It stays good wherever the entity's shard moves, and messages to it
/// start the entity if need be.
pub struct EntityRef<I, M> {
    pub(crate) region: Region<I, M>,
    pub(crate) id: I,
}

impl<I, M> EntityRef<I, M> {
    /// The entity's id.
    pub fn id(&self) -> &I {
        &self.id
    }
}

impl<I: Clone, M> Clone for EntityRef<I, M> {
    fn clone(&self) -> Self {
        EntityRef {
            region: self.region,
            id: self.id.clone(),
        }
    }
}

impl<I: Copy, M> Copy for EntityRef<I, M> {}

impl<I: fmt::Debug, M> fmt::Debug for EntityRef<I, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.region.id, self.id)
    }
}

/// Whom a message was for, as far as that is known where it is dropped.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Receiver<'a> {
    /// An actor.
    Actor(Home, CoreId, CellRef),
    /// An entity, and its id or the borrowed form of that.
    Entity(EntityTypeId, &'a dyn fmt::Debug),
    /// Nothing is known.
    Unknown,
}

/// Where a message can be sent: an [`ActorRef`], an [`EntityRef`], or an entity by a borrowed id ([`EntityAt`]).
pub trait Destination: Sized {
    /// What is sent there.
    type Msg: Message;
    /// The same destination without a borrow, for threads outside of the cores.
    type Owned: Destination<Msg = Self::Msg> + Clone + Send + 'static;

    /// Drops the borrow.
    fn into_owned(self) -> Self::Owned;

    #[doc(hidden)]
    fn receiver(&self) -> Receiver<'_>;

    #[doc(hidden)]
    fn deliver(
        &self,
        local: &mut Local,
        message: Self::Msg,
        extra: Option<Extra>,
    ) -> Result<(), Refused<Self::Msg>>;

    /// Sends, and makes a refused message a dead letter.
    #[doc(hidden)]
    #[inline(always)]
    fn tell(&self, local: &mut Local, message: Self::Msg) {
        if let Err(refused) = self.deliver(local, message, None) {
            local.dead_letter(
                self.receiver(),
                refused.why,
                Envelope::Plain,
                refused.message,
            );
        }
    }
}

impl<M: Message> Destination for ActorRef<M> {
    type Msg = M;
    type Owned = Self;

    fn into_owned(self) -> Self {
        self
    }

    #[inline(always)]
    fn receiver(&self) -> Receiver<'_> {
        Receiver::Actor(self.home, self.core, self.cell)
    }

    #[inline(always)]
    fn deliver(
        &self,
        local: &mut Local,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        local.deliver_to_actor(*self, message, extra)
    }

    #[inline(always)]
    fn tell(&self, local: &mut Local, message: M) {
        local.tell_actor(*self, message);
    }
}

impl<I: EntityId, M: Message> Destination for EntityAt<'_, I, M> {
    type Msg = M;
    type Owned = EntityRef<I, M>;

    fn into_owned(self) -> EntityRef<I, M> {
        self.region.entity_ref(I::from_key(self.key))
    }

    #[inline(always)]
    fn receiver(&self) -> Receiver<'_> {
        Receiver::Entity(self.region.id, &self.key)
    }

    #[inline(always)]
    fn deliver(
        &self,
        local: &mut Local,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        local.deliver_to_entity(self.region, self.key, message, extra)
    }
}

impl<I: EntityId, M: Message> Destination for EntityRef<I, M> {
    type Msg = M;
    type Owned = Self;

    fn into_owned(self) -> Self {
        self
    }

    #[inline(always)]
    fn receiver(&self) -> Receiver<'_> {
        Receiver::Entity(self.region.id, &self.id)
    }

    #[inline(always)]
    fn deliver(
        &self,
        local: &mut Local,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        local.deliver_to_entity(self.region, self.id.as_key(), message, extra)
    }
}

impl<I: EntityId, M: Message> Destination for &EntityRef<I, M> {
    type Msg = M;
    type Owned = EntityRef<I, M>;

    fn into_owned(self) -> EntityRef<I, M> {
        self.clone()
    }

    #[inline(always)]
    fn receiver(&self) -> Receiver<'_> {
        Receiver::Entity(self.region.id, &self.id)
    }

    #[inline(always)]
    fn deliver(
        &self,
        local: &mut Local,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        local.deliver_to_entity(self.region, self.id.as_key(), message, extra)
    }
}
