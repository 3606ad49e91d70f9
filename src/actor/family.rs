//! What an actor can do with its children, and where it finds itself among others.

use super::context::Context;
use super::directory::WrongMessageType;
use super::model::Actor;
use super::reference::{ActorRef, AnyActorRef};
use super::refusal::{Rejection, SpawnError};
use super::spawn::{Parent, SpawnOptions};
use crate::wire::message::Message;

/// A child of an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Child {
    /// Its address.
    pub actor: AnyActorRef,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// The name of its type.
    pub type_name: &'static str,
}

/// # Children
///
/// The actors that an actor spawns on its core are its children. They stop before it does, and before it is restarted or,
/// being an entity, moves. When one of them fails, it is restarted, unless it was spawned with another [`Supervision`] or
/// this actor's [`supervision`](Actor::supervision) says otherwise.
///
/// [`Supervision`]: super::supervision::Supervision
impl<A: Actor> Context<'_, A> {
    /// Starts a child of this actor. The factory makes it now, and again when it is restarted.
    ///
    /// ```
    /// use corecast::{Actor, Context, Fault, Next, Runtime};
    ///
    /// struct Master;
    /// struct Worker;
    ///
    /// impl Actor for Master {
    ///     type Msg = u32;
    ///
    ///     fn receive(&mut self, work: u32, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         let worker = ctx.spawn_actor(|| Worker)?;
    ///         ctx.tell(worker, work);
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// impl Actor for Worker {
    ///     type Msg = u32;
    ///
    ///     fn receive(&mut self, work: u32, _ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         println!("{} is a square", work * work);
    ///         Ok(Next::Stop)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// If the factory panics, the runtime is shutting down, or this actor has come to its end; nothing was started.
    pub fn spawn_actor<B: Actor>(
        &mut self,
        factory: impl FnMut() -> B + 'static,
    ) -> Result<ActorRef<B::Msg>, SpawnError> {
        if self.has_ended() {
            return Err(Rejection::Stopped.into());
        }
        self.local.spawn_child(self.at, factory)
    }

    /// Like [`spawn_actor`](Context::spawn_actor), for a child that has a name, a mailbox of its own kind or a supervision
    /// of its own.
    ///
    /// # Errors
    /// As there, and if the name is taken by another child or cannot be a name.
    pub fn spawn_actor_with<B: Actor>(
        &mut self,
        options: impl Into<SpawnOptions>,
        factory: impl FnMut() -> B + 'static,
    ) -> Result<ActorRef<B::Msg>, SpawnError> {
        if self.has_ended() {
            return Err(Rejection::Stopped.into());
        }
        let me = Parent {
            at: self.at,
            place: self.place,
        };
        self.local.spawn_actor(Some(me), options.into(), factory)
    }

    /// The children of this actor, the eldest first.
    #[must_use]
    pub fn children(&mut self) -> Vec<Child> {
        let cells: Vec<_> = self.local.cells.children(self.at).collect();
        let child = |at| {
            let cell = self.local.cells.get(at)?;
            let type_name = self.local.kinds[usize::from(cell.kind)].name;
            let profile = self.local.profiles.get(at);
            let path = profile.and_then(|profile| profile.path.as_deref());
            Some(Child {
                actor: ActorRef::<()>::new(self.local.home, self.local.core, at).into(),
                name: path.and_then(|path| Some(path.rsplit_once('/')?.1.to_owned())),
                type_name,
            })
        };
        cells.into_iter().rev().filter_map(child).collect()
    }

    /// The child of that name; `None` if there is none.
    ///
    /// # Errors
    /// If it takes other messages.
    pub fn child<M: Message>(
        &mut self,
        name: &str,
    ) -> Result<Option<ActorRef<M>>, WrongMessageType> {
        if name.contains('/') {
            return Ok(None);
        }
        let path = format!("{}/{name}", self.path());
        let found: Option<ActorRef<M>> = self.lookup(&path)?;
        // Two entities whose ids look alike have one path between them, but not their children.
        Ok(found.filter(|child| self.is_child((*child).into())))
    }

    /// Asks a child to stop once it has handled what was sent to it before. Returns whether it is one of this actor's.
    pub fn stop_child(&mut self, child: AnyActorRef) -> bool {
        if !self.is_child(child) {
            return false;
        }
        if let Some(ops) = self.local.mailbox_ops(child.cell) {
            (ops.stop)(self.local, child.cell);
        }
        true
    }

    fn is_child(&mut self, other: AnyActorRef) -> bool {
        let is_here = other.home == self.local.home && other.core == self.local.core;
        is_here
            && self.local.cells.get(other.cell).is_some()
            && self.local.cells.parent(other.cell) == Some(self.at)
    }

    /// The actor with a name, wherever in the runtime it lives: a root by its name, a child by its
    /// [path](Context::path). `None` if there is none.
    ///
    /// # Errors
    /// If it takes other messages.
    pub fn lookup<M: Message>(&self, path: &str) -> Result<Option<ActorRef<M>>, WrongMessageType> {
        self.local.handle.lookup(path)
    }

    /// Where this actor is among the others: the names of its ancestors and its own, with slashes between them. One that
    /// was given no name is called after its place, an entity after its type and id.
    ///
    /// Of the id it is the `Debug` rendering, with `%2F` for a slash, `%24` for a dollar sign and `%25` for a percent sign;
    /// of one that is longer than 255 bytes the beginning, with a hash of the whole behind `%~`. So no id looks like a path
    /// of somebody else's; but entities of one type whose ids are rendered alike have the same path, and of their children
    /// only one can have a given name.
    #[must_use]
    pub fn path(&mut self) -> String {
        self.local.path_of(self.at, self.place)
    }

    /// A span for `tracing` that carries this actor's path, so that what is logged within says whose it is.
    ///
    /// ```
    /// # use corecast::{Actor, Context};
    /// fn log<A: Actor>(ctx: &mut Context<'_, A>) {
    ///     ctx.span().in_scope(|| tracing::info!("ready"));
    /// }
    /// ```
    #[must_use]
    pub fn span(&mut self) -> tracing::Span {
        let path = self.path();
        tracing::info_span!("actor", path)
    }
}
