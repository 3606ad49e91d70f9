//! Entity types: how entities are made, how long they stay, and what of them moves between cores.

use super::activation::ActorBody;
use super::cell::{Body, EntityPlace};
use super::entity_id::EntityId;
use super::guard::{drop_guarded, guarded};
use super::mailbox::Mailbox;
use super::model::{Actor, Fault};
use super::supervision::Supervision;
use super::wire_id::WireId;
use super::wire_region::Clustered;
use crate::sharding::strategy::PlacementStrategy;
use crate::wire::archive::{Archivable, ArchivedBytes, from_bytes, to_bytes};
use crate::wire::message::WireMessage;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// The number of shards of an entity type that does not say otherwise.
pub const DEFAULT_SHARDS: u32 = 256;

/// An actor whose state can be captured as an archived view and restored elsewhere.
///
/// ```
/// use corecast::{Actor, Capture, Context, Fault, Next};
///
/// struct Meter { total: u64, cache: Vec<u64> }
///
/// impl Actor for Meter {
///     type Msg = u64;
///     fn receive(&mut self, amount: u64, _: &mut Context<Self>) -> Result<Next, Fault> {
///         self.total += amount;
///         Ok(Next::Continue)
///     }
/// }
///
/// impl Capture for Meter {
///     type View = u64; // the cache stays behind
///     fn capture(&self) -> u64 { self.total }
///     fn restore(&mut self, total: u64) { self.total = total; }
/// }
/// ```
pub trait Capture: Actor {
    /// What is captured; derive `rkyv::{Archive, Serialize, Deserialize}` for a type of your own.
    type View: Archivable;

    /// The state to be restored elsewhere.
    fn capture(&self) -> Self::View;

    /// Takes the captured state over; `self` has just been made by the factory.
    fn restore(&mut self, view: Self::View);
}

/// How far the present life of an actor has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing of it has run.
    New,
    /// It began on another core, and has been restored from its view: `pre_start` has yet to run on this core.
    Restored,
    /// It was made after a fault: `post_restart` and then `pre_start` have yet to run.
    Reborn,
    /// Its `post_restart` has begun.
    Renewed,
    /// Its `pre_start` has begun after a restart.
    Starting,
    /// It was restarted, and no message has been handled since.
    Probation,
    /// `pre_start` has begun, and no fault is to be forgotten any more.
    Started,
}

/// State under way between two cores.
pub(crate) enum Packed {
    /// The actor itself.
    Value(Box<dyn Any + Send>, Stage),
    /// Its archived view.
    View(ArchivedBytes, Stage),
    /// Nothing: it starts afresh.
    Nothing,
}

/// What the runtime needs of an entity type without knowing the actor's.
pub(crate) trait Host<I, M> {
    /// A fresh body; an error is what the factory's panic said.
    fn start(&self, id: &I, place: EntityPlace) -> Result<Box<dyn Body>, String>;
    fn is_ephemeral(&self) -> bool;
    /// Whether its entities can leave the node: not if they move as values.
    fn is_movable(&self) -> bool;
    /// What an entity that stays in place is restored from elsewhere; `None` for one that starts afresh.
    fn capture(&self, body: &dyn Body) -> Result<Option<(ArchivedBytes, Stage)>, Fault>;
    fn pack(&self, body: Box<dyn Body>) -> Result<Packed, Fault>;
    fn unpack(&self, id: &I, state: Packed, place: EntityPlace) -> Result<Box<dyn Body>, Fault>;
}

type Factory<A, I> = Arc<dyn Fn(&I) -> A + Send + Sync>;

/// What becomes of the state when the shard moves to another core.
enum Transfer<A> {
    /// The value moves.
    Send(fn(A) -> Box<dyn Any + Send>),
    /// A view is captured and restored.
    Captured {
        capture: fn(&A) -> Result<ArchivedBytes, Fault>,
        restore: fn(&mut A, &ArchivedBytes) -> Result<(), Fault>,
    },
    /// The entity is stopped, with its hook, and starts afresh.
    Ephemeral,
}

impl<A> Clone for Transfer<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Transfer<A> {}

/// A type of sharded entities: the factory that makes one from its id, the number of shards, and how long an idle entity
/// stays. Which constructor is used declares what moves when a shard moves between cores.
///
/// ```
/// # use corecast::{Actor, Context, EntityType, Fault, Next};
/// # use std::time::Duration;
/// # struct Account { id: u64 }
/// # impl Actor for Account {
/// #     type Msg = ();
/// #     fn receive(&mut self, _: (), _: &mut Context<Self>) -> Result<Next, Fault> { Ok(Next::Continue) }
/// # }
/// let accounts = EntityType::send("account", |id: &u64| Account { id: *id })
///     .num_shards(128)
///     .passivate_after(Duration::from_secs(300))
///     .max_active_per_core(500_000);
/// ```
#[must_use = "an entity type does nothing until it is given to the builder"]
pub struct EntityType<A, I> {
    pub(crate) name: &'static str,
    factory: Factory<A, I>,
    transfer: Transfer<A>,
    pub(crate) num_shards: u32,
    pub(crate) mailbox: Option<Mailbox>,
    pub(crate) idle: Option<Duration>,
    pub(crate) max_active: Option<usize>,
    pub(crate) supervision: Supervision,
    /// Its shards belong to nodes of the cluster.
    pub(crate) clustered: Option<Clustered>,
    /// How they are spread over nodes, and what those nodes must be for.
    pub(crate) strategy: PlacementStrategy,
    pub(crate) role: Option<String>,
}

impl<A: Actor<Msg: WireMessage>, I: WireId> EntityType<A, I> {
    /// Entities of the whole cluster, on a node that is part of one: each shard belongs to one node, and every node sends to
    /// all of them. On a node that is alone it changes nothing.
    ///
    /// Other nodes know the type by its name, and it has to have as many shards everywhere. While a node is no member (it has
    /// not been let in yet, or comes back after it was declared down) what it sends to entities of the cluster waits in its
    /// bounded buffers, and what finds no room there is refused.
    ///
    /// When a shard moves to another node, its state goes as the constructor says, waiting messages go in order, and so do
    /// timers that tick once. What is made by code of its node does not go: timers that tick again and again, what an entity
    /// watches and its subscriptions end, and its `pre_start`, which runs again where it arrives, starts them again. Whoever
    /// watches the entity, from whichever node, hears nothing of the move and goes on watching. Children stop. An
    /// [`ephemeral`](EntityType::ephemeral) entity stops, with its hook, before its shard is shipped, and has stopped even if
    /// the move is called off.
    ///
    /// Entities made with [`send`](EntityType::send) cannot leave their node, for their value is no message. A move of their
    /// shards to another node is refused ([`RefusedWhy::NotMovable`]), and a node that leaves keeps them until its driver's
    /// patience is at an end; then they start afresh elsewhere, as after its death. In a cluster whose nodes come and go use
    /// [`captured`](EntityType::captured), [`event_sourced`](EntityType::event_sourced) with a journal that all nodes
    /// share, or [`ephemeral`](EntityType::ephemeral).
    ///
    /// [`RefusedWhy::NotMovable`]: crate::sharding::move_error::RefusedWhy::NotMovable
    pub fn clustered(mut self) -> Self {
        self.clustered.get_or_insert_with(Clustered::of::<A, I>);
        self
    }

    /// The same, and its entities go on when their node has lost its lease (without it they are sealed until it is renewed).
    /// Then another node may run the same entities at the same time: from when the others have declared this one down until
    /// it hears of that, and ends them. It does not come to that in a move, nor while the others have only lost sight of it.
    ///
    /// Each of the two handles what it gets in the order of each sender, and once; and what a sender has sent to the later
    /// owner is followed by nothing of the same sender for the earlier one, which may still be at what it got before. On a node
    /// that has heard of the death, an ask whose answer comes from the earlier owner ends as
    /// [`Uncertainty::Fenced`](crate::Uncertainty::Fenced). What the earlier owner does elsewhere can be fenced with
    /// [`Context::epoch`](crate::Context::epoch). What it has kept in memory is lost.
    pub fn keep_running(mut self) -> Self {
        let clustered = self.clustered.take();
        let clustered = clustered.unwrap_or_else(Clustered::of::<A, I>);
        self.clustered = Some(clustered.keep_running());
        self
    }
}

impl<A: Actor, I: EntityId> EntityType<A, I> {
    /// Entities whose value itself moves between cores: the fastest kind, for actors that are `Send`.
    pub fn send(name: &'static str, factory: impl Fn(&I) -> A + Send + Sync + 'static) -> Self
    where
        A: Send,
    {
        Self::new(name, factory, Transfer::Send(|actor| Box::new(actor)))
    }

    /// Entities of which a captured view moves: it can move anywhere, and the actor need not be `Send`.
    pub fn captured(name: &'static str, factory: impl Fn(&I) -> A + Send + Sync + 'static) -> Self
    where
        A: Capture,
    {
        Self::new(
            name,
            factory,
            Transfer::Captured {
                capture: |actor| to_bytes(&actor.capture()).map_err(Fault::from),
                restore: |actor, bytes| {
                    actor.restore(from_bytes::<A::View>(bytes)?);
                    Ok(())
                },
            },
        )
    }

    /// Entities that lose their state when their shard moves: they are stopped, with their hook, and start afresh.
    pub fn ephemeral(
        name: &'static str,
        factory: impl Fn(&I) -> A + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, factory, Transfer::Ephemeral)
    }

    fn new(
        name: &'static str,
        factory: impl Fn(&I) -> A + Send + Sync + 'static,
        transfer: Transfer<A>,
    ) -> Self {
        EntityType {
            name,
            factory: Arc::new(factory),
            transfer,
            num_shards: DEFAULT_SHARDS,
            mailbox: None,
            idle: None,
            max_active: None,
            supervision: Supervision::default(),
            clustered: None,
            strategy: PlacementStrategy::default(),
            role: None,
        }
    }

    /// The number of shards (default 256). More shards balance finer and cost about 100 bytes each on every core.
    pub fn num_shards(mut self, shards: u32) -> Self {
        self.num_shards = shards;
        self
    }

    /// The mailbox of each entity (default: that of the runtime's settings).
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = Some(mailbox);
        self
    }

    /// How the shards of a type of the cluster are spread over its nodes (default:
    /// [`LeastLoaded`](PlacementStrategy::LeastLoaded)). All nodes have to say the same. It means nothing for others.
    ///
    /// ```
    /// # use corecast::{Actor, Context, EntityType, Fault, Next};
    /// # struct Account;
    /// # impl Actor for Account {
    /// #     type Msg = u64;
    /// #     fn receive(&mut self, _: u64, _: &mut Context<Self>) -> Result<Next, Fault> { Ok(Next::Continue) }
    /// # }
    /// use corecast::sharding::strategy::PlacementStrategy;
    ///
    /// let accounts = EntityType::ephemeral("account", |_: &u64| Account)
    ///     .strategy(PlacementStrategy::HashRing)
    ///     .role("ledger")
    ///     .clustered();
    /// ```
    pub fn strategy(mut self, strategy: PlacementStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Only nodes that have this role run entities of a type of the cluster; every node sends to them (default: all nodes
    /// run them). All nodes have to say the same. A role has 1 to 64 bytes, none of them a control character; a node with
    /// another does not start. It means nothing for types that are none of the cluster.
    ///
    /// While no node of the role is up, messages wait for an owner as for a shard that has not been allocated.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// Stops an entity that has had no message for so long (default: never), with its hook. Its state goes with it; a
    /// message that arrives meanwhile starts it afresh, and is not lost.
    pub fn passivate_after(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Keeps at most so many entities active on each core (default: no limit); the least recently used one is stopped
    /// first. Within one turn there may be more, since an entity with waiting messages is never stopped.
    pub fn max_active_per_core(mut self, entities: usize) -> Self {
        self.max_active = Some(entities);
        self
    }

    /// What is done when one of its entities fails (default: it is restarted, with its mailbox, at most 3 times within
    /// 60 s; after that it is stopped, and its next message starts it afresh). Entities have no siblings and no parent:
    /// strategies do not apply, and to escalate is to stop. How often an entity was restarted is forgotten when it stops and
    /// when its shard moves; one that waits for its restart meanwhile starts afresh where it arrives, with its mailbox.
    pub fn supervised(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    pub(crate) fn host(&self) -> Box<dyn Host<I, A::Msg>> {
        Box::new(EntityHost {
            factory: self.factory.clone(),
            transfer: self.transfer,
        })
    }
}

impl<A, I> fmt::Debug for EntityType<A, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityType")
            .field("name", &self.name)
            .field("num_shards", &self.num_shards)
            .finish_non_exhaustive()
    }
}

struct EntityHost<A, I> {
    factory: Factory<A, I>,
    transfer: Transfer<A>,
}

impl<A: Actor, I: EntityId> EntityHost<A, I> {
    fn make(&self, id: &I) -> Result<A, String> {
        guarded(|| (self.factory)(id))
    }

    fn body(actor: A, place: EntityPlace, stage: Stage) -> Box<dyn Body> {
        Box::new(EntityBody::<A, I> {
            inner: ActorBody { actor, stage },
            place,
            id: PhantomData,
        })
    }
}

impl<A: Actor, I: EntityId> Host<I, A::Msg> for EntityHost<A, I> {
    fn start(&self, id: &I, place: EntityPlace) -> Result<Box<dyn Body>, String> {
        Ok(Self::body(self.make(id)?, place, Stage::New))
    }

    fn is_ephemeral(&self) -> bool {
        matches!(self.transfer, Transfer::Ephemeral)
    }

    fn is_movable(&self) -> bool {
        !matches!(self.transfer, Transfer::Send(_))
    }

    fn capture(&self, body: &dyn Body) -> Result<Option<(ArchivedBytes, Stage)>, Fault> {
        let Transfer::Captured { capture, .. } = self.transfer else {
            return Ok(None);
        };
        let Some(body) = (body as &dyn Any).downcast_ref::<EntityBody<A, I>>() else {
            return Err(Fault::new("the body is not of the region's actor type"));
        };
        let ActorBody { actor, stage } = &body.inner;
        let captured =
            guarded(|| capture(actor)).unwrap_or_else(|panic| Err(Fault::panicked(panic)));
        captured.map(|view| Some((view, *stage)))
    }

    fn pack(&self, body: Box<dyn Body>) -> Result<Packed, Fault> {
        let Ok(body) = (body as Box<dyn Any>).downcast::<EntityBody<A, I>>() else {
            return Err(Fault::new("the body is not of the region's actor type"));
        };
        let ActorBody { actor, stage } = body.inner;
        match self.transfer {
            Transfer::Send(pack) => Ok(Packed::Value(pack(actor), stage)),
            Transfer::Captured { capture, .. } => {
                let captured =
                    guarded(|| capture(&actor)).unwrap_or_else(|panic| Err(Fault::panicked(panic)));
                drop_guarded(actor);
                captured.map(|view| Packed::View(view, stage))
            }
            Transfer::Ephemeral => Ok(Packed::Nothing),
        }
    }

    fn unpack(&self, id: &I, state: Packed, place: EntityPlace) -> Result<Box<dyn Body>, Fault> {
        match (state, self.transfer) {
            (Packed::Value(value, stage), _) => match value.downcast::<A>() {
                Ok(actor) => Ok(Self::body(*actor, place, stage)),
                Err(other) => {
                    drop_guarded(other);
                    Err(Fault::new("the value is not of the region's actor type"))
                }
            },
            (Packed::View(bytes, stage), Transfer::Captured { restore, .. }) => {
                let mut actor = self.make(id).map_err(Fault::panicked)?;
                let restored = guarded(|| restore(&mut actor, &bytes))
                    .unwrap_or_else(|panic| Err(Fault::panicked(panic)));
                if let Err(fault) = restored {
                    drop_guarded(actor);
                    return Err(fault);
                }
                let stage = match stage {
                    Stage::New | Stage::Reborn => Stage::New,
                    _ => Stage::Restored,
                };
                Ok(Self::body(actor, place, stage))
            }
            (Packed::View(..) | Packed::Nothing, _) => Ok(Self::body(
                self.make(id).map_err(Fault::panicked)?,
                place,
                Stage::New,
            )),
        }
    }
}

/// An entity in its cell.
pub(crate) struct EntityBody<A, I> {
    pub(crate) inner: ActorBody<A>,
    pub(crate) place: EntityPlace,
    pub(crate) id: PhantomData<fn(I)>,
}
