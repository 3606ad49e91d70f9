//! Starting actors: as roots, which nobody supervises, and as children of another.

use super::activation::ActorBody;
use super::actor_archive::know_message;
use super::cell::{Body, EntityPlace};
use super::directory::{WireName, check_name, part_of_path};
use super::entity::Stage;
use super::guard::{drop_guarded, guarded};
use super::local::Local;
use super::mailbox::Mailbox;
use super::model::Actor;
use super::reference::{ActorRef, CellRef};
use super::refusal::{Rejection, SpawnError};
use super::region_state::RegionState;
use super::supervision::Supervision;
use crate::wire::message::WireMessage;
use std::any::TypeId;
use std::sync::Arc;

/// What may be said about an actor when it is spawned.
///
/// A name, a [`Mailbox`] and a [`Supervision`] convert into it.
///
/// ```
/// use corecast::{Directive, Mailbox, SpawnOptions, Supervision};
///
/// let named: SpawnOptions = "printer".into();
/// let more = named.mailbox(Mailbox::default()).supervised(Supervision::always(Directive::Restart));
/// # let _ = more;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until an actor is spawned with them"]
pub struct SpawnOptions {
    name: Option<String>,
    mailbox: Option<Mailbox>,
    supervision: Option<Supervision>,
    wire: Option<WireName>,
}

impl SpawnOptions {
    /// The actor's name: the last part of its [path](super::context::Context::path), by which it can be
    /// [looked up](super::handle::Handle::lookup). No other living child of its parent, or root of the runtime, may have
    /// it. It is not empty, at most 255 bytes long, has no slash in it, and does not begin with a `$`; that of a root is not
    /// that of an entity type either.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The actor's mailbox, in place of that of the settings.
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = Some(mailbox);
        self
    }

    /// What is done about the actor's faults, in place of what its parent says; a root has no parent, and without this it
    /// stops.
    pub fn supervised(mut self, supervision: Supervision) -> Self {
        self.supervision = Some(supervision);
        self
    }

    /// The actor can be found from other nodes of the cluster by its path ([`lookup_on`](super::handle::Handle::lookup_on)),
    /// if it has a name. `M` is the type of its messages, which has to be said because only [wire messages](WireMessage)
    /// travel.
    pub fn clustered<M: WireMessage>(mut self) -> Self {
        know_message::<M>();
        self.wire = Some(WireName::of::<M>());
        self
    }

    pub(super) fn or_supervised(mut self, supervision: Supervision) -> Self {
        self.supervision.get_or_insert(supervision);
        self
    }
}

impl From<&str> for SpawnOptions {
    fn from(name: &str) -> Self {
        SpawnOptions::default().named(name)
    }
}

impl From<String> for SpawnOptions {
    fn from(name: String) -> Self {
        SpawnOptions::default().named(name)
    }
}

impl From<Mailbox> for SpawnOptions {
    fn from(mailbox: Mailbox) -> Self {
        SpawnOptions::default().mailbox(mailbox)
    }
}

impl From<Supervision> for SpawnOptions {
    fn from(supervision: Supervision) -> Self {
        SpawnOptions::default().supervised(supervision)
    }
}

/// An actor that spawns another one, and is at it.
#[derive(Clone, Copy)]
pub(crate) struct Parent {
    pub(super) at: CellRef,
    pub(super) place: Option<EntityPlace>,
}

/// An actor that is no entity, in its cell. What makes it again lies in the same allocation, since most actors are never
/// restarted.
pub(super) struct PlainBody<A, R> {
    pub(super) inner: ActorBody<A>,
    pub(super) remake: R,
}

/// What makes an actor again.
pub(super) trait Remake<A>: 'static {
    fn take_seed(&mut self) -> Option<Seed>;
}

/// Nothing does.
pub(super) struct Once;

impl<A> Remake<A> for Once {
    fn take_seed(&mut self) -> Option<Seed> {
        None
    }
}

/// A factory does, which is taken out when it is needed.
pub(super) struct Again<F>(Option<F>);

/// The factory is dropped for itself, so that a panic in that does not meet one of the actor's.
impl<F> Drop for Again<F> {
    #[inline]
    fn drop(&mut self) {
        // Most factories have nothing to drop, and need not be taken out for it.
        if std::mem::needs_drop::<F>() {
            drop_guarded(self.0.take());
        }
    }
}

impl<A: Actor, F: FnMut() -> A + 'static> Remake<A> for Again<F> {
    fn take_seed(&mut self) -> Option<Seed> {
        Some(Seed::Plain(Box::new(PlainSeed(self.0.take()?))))
    }
}

/// What makes an actor that has failed once more.
pub(crate) enum Seed {
    Plain(Box<dyn Sow>),
    Entity(EntityPlace),
}

impl Seed {
    /// The entity that it makes, if it is one.
    pub(super) fn place(&self) -> Option<EntityPlace> {
        match self {
            Seed::Plain(_) => None,
            Seed::Entity(place) => Some(*place),
        }
    }
}

/// A factory whatever its actor's type.
pub(crate) trait Sow {
    /// Makes the actor, with its factory for the next time. An error is what the factory's panic said.
    fn sow(self: Box<Self>) -> Result<Box<dyn Body>, (String, Seed)>;
}

struct PlainSeed<F>(F);

impl<A: Actor, F: FnMut() -> A + 'static> Sow for PlainSeed<F> {
    fn sow(mut self: Box<Self>) -> Result<Box<dyn Body>, (String, Seed)> {
        match guarded(&mut self.0) {
            Ok(actor) => Ok(Box::new(PlainBody::new(actor, Again(Some(self.0))))),
            Err(panic) => Err((panic, Seed::Plain(self))),
        }
    }
}

impl<A: Actor, R: Remake<A>> PlainBody<A, R> {
    fn new(actor: A, remake: R) -> Self {
        PlainBody {
            inner: ActorBody {
                actor,
                stage: Stage::New,
            },
            remake,
        }
    }
}

impl Local {
    /// Starts an actor that nobody supervises.
    pub(crate) fn spawn_root<A: Actor>(
        &mut self,
        factory: impl FnOnce() -> A,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        if self.draining {
            return Err(Rejection::ShuttingDown.into());
        }
        let actor = make(factory)?;
        Ok(self.place_actor(PlainBody::new(actor, Once), None))
    }

    /// Starts an actor that cannot be restarted.
    pub(crate) fn spawn_once<A: Actor>(
        &mut self,
        options: SpawnOptions,
        factory: impl FnOnce() -> A,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        self.spawn_particular(None, options, || Ok(PlainBody::new(make(factory)?, Once)))
    }

    /// Starts an actor, as a child of another or as a root.
    pub(crate) fn spawn_actor<A: Actor>(
        &mut self,
        parent: Option<Parent>,
        options: SpawnOptions,
        mut factory: impl FnMut() -> A + 'static,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        let body = move || match make(&mut factory) {
            Ok(actor) => Ok(PlainBody::new(actor, Again(Some(factory)))),
            Err(panicked) => {
                // It may panic once more, and must not keep the name.
                drop_guarded(factory);
                Err(panicked)
            }
        };
        self.spawn_particular(parent, options, body)
    }

    /// Starts a child of which nothing particular is said.
    #[inline]
    pub(crate) fn spawn_child<A: Actor>(
        &mut self,
        parent: CellRef,
        mut factory: impl FnMut() -> A + 'static,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        if self.draining {
            return Err(Rejection::ShuttingDown.into());
        }
        let actor = make(&mut factory)?;
        let actor = self.place_actor(PlainBody::new(actor, Again(Some(factory))), None);
        self.cells.adopt(parent, actor.cell);
        Ok(actor)
    }

    fn spawn_particular<A: Actor, R: Remake<A>>(
        &mut self,
        parent: Option<Parent>,
        options: SpawnOptions,
        make: impl FnOnce() -> Result<PlainBody<A, R>, SpawnError>,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        if self.draining {
            return Err(Rejection::ShuttingDown.into());
        }
        if let Some(wire) = options
            .wire
            .filter(|it| it.message != TypeId::of::<A::Msg>())
        {
            return Err(SpawnError::OtherMessages {
                takes: std::any::type_name::<A::Msg>(),
                clustered: wire.name,
            });
        }
        let path = match &options.name {
            Some(name) => Some(self.reserve_name::<A::Msg>(parent, name, options.wire)?),
            None => None,
        };
        let made = make();
        if made.is_err()
            && let Some(path) = &path
        {
            self.handle.gate().directory.strike(path);
        }
        let actor = self.place_actor(made?, options.mailbox);
        if let Some(parent) = parent {
            self.cells.adopt(parent.at, actor.cell);
        }
        if path.is_some() || options.supervision.is_some() {
            if let Some(path) = &path {
                self.handle.gate().directory.list(path, actor.into());
            }
            let profile = self.profiles.entry(actor.cell);
            profile.path = path;
            profile.supervision = options.supervision;
        }
        Ok(actor)
    }

    fn reserve_name<M: crate::wire::message::Message>(
        &mut self,
        parent: Option<Parent>,
        name: &str,
        wire: Option<WireName>,
    ) -> Result<Arc<str>, SpawnError> {
        check_name(name)?;
        let path = match parent {
            Some(Parent { at, place }) => format!("{}/{name}", self.path_of(at, place)),
            None => {
                self.check_root_name(name)?;
                name.to_owned()
            }
        };
        let directory = &self.handle.gate().directory;
        directory.reserve::<M>(path, self.core, wire)
    }

    /// Gives back whatever names actors of this core still have, for its end.
    pub(crate) fn strike_names(&self) {
        self.handle.gate().directory.strike_all_of(self.core);
    }

    /// Below the name of an entity type lie its entities.
    fn check_root_name(&self, name: &str) -> Result<(), SpawnError> {
        let is_type = |state: &RegionState| part_of_path(state.name) == name;
        if self.region_states.iter().any(is_type) {
            return Err(SpawnError::BadName {
                name: name.to_owned(),
                why: "it is the name of an entity type, under which its entities are found",
            });
        }
        Ok(())
    }

    #[inline]
    fn place_actor<A: Actor>(
        &mut self,
        body: PlainBody<A, impl Remake<A>>,
        mailbox: Option<Mailbox>,
    ) -> ActorRef<A::Msg> {
        let class = self.class_id::<A::Msg>();
        let kind = self.kind_id::<A>();
        let mailbox = mailbox.unwrap_or(self.limits.mailbox);
        let at = self.cells.allocate(class, kind, mailbox, Box::new(body));
        // So that `pre_start` runs even if nobody ever sends anything.
        self.schedule(at);
        self.has_started(at, None);
        ActorRef::new(self.home, self.core, at)
    }

    /// Where an actor is among the others: its ancestors' names and its own. One without a name is called after its
    /// place, an entity after its type and id. `place` is that of the actor itself if it is an entity.
    pub(crate) fn path_of(&mut self, at: CellRef, mut place: Option<EntityPlace>) -> String {
        let mut parts = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next {
            if let Some(path) = self.profiles.get(at).and_then(|known| known.path.as_ref()) {
                parts.push(path.to_string());
                break;
            }
            parts.push(match place {
                Some(place) => self.entity_name(at, place),
                None => format!("${}.{}.{}", self.core.0, at.slot(), at.generation()),
            });
            next = self.cells.parent(at);
            place = next.and_then(|parent| self.entity_in(parent));
        }
        parts.reverse();
        parts.join("/")
    }

    fn entity_name(&self, at: CellRef, place: EntityPlace) -> String {
        let region = usize::from(place.region);
        let id = self.regions[region].describe(place, at.slot(), usize::MAX);
        let entity_type = part_of_path(self.region_states[region].name);
        format!("{entity_type}/{}", part_of_path(&id))
    }

    /// The entity in a cell, if one lies there.
    pub(super) fn entity_in(&mut self, at: CellRef) -> Option<EntityPlace> {
        match &self.cells.get(at)?.body {
            Some(body) => body.entity(),
            None => self.profiles.get(at)?.waiting.as_ref()?.seed.place(),
        }
    }
}

fn make<A: Actor>(factory: impl FnOnce() -> A) -> Result<A, SpawnError> {
    guarded(factory).map_err(|panic| SpawnError::FactoryPanicked {
        actor: std::any::type_name::<A>(),
        panic,
    })
}
