//! Actors whose state is what follows from the events that they have stored.

use super::effect::Effect;
use super::sourced::Sourced;
use crate::actor::context::Context;
use crate::actor::model::Fault;
use crate::actor::supervision::{Directive, Supervision};
use crate::persistence::progress::Snapshots;
use crate::persistence::record::Payload;
use crate::wire::message::{Message, WireMessage};

/// The context of an event-sourced actor: that of any other.
pub type SourcedContext<'a, E> = Context<'a, Sourced<E>>;

/// An actor that stores what happens instead of what is: a command is checked against the state and becomes events, the
/// events are stored, and the state is what follows from them. Whenever it starts, after a move, a passivation or a failure
/// too, its state follows from them once more.
///
/// [`Sourced`] makes an [`Actor`](crate::Actor) of it, and
/// [`EntityType::event_sourced`](crate::EntityType::event_sourced) a type of entities.
///
/// While the events of one command are being stored, this actor's other commands wait, and nothing else does: each
/// is checked against a state in which the ones before it have had their effect.
///
/// ```
/// use corecast::{
///     Effect, EntityType, EventSourced, Fault, InMemoryJournal, ReplyTo, Runtime, SourcedContext, WireMessage,
/// };
/// use rkyv::{Archive, Deserialize, Serialize};
/// use std::collections::BTreeMap;
///
/// struct Cart;
///
/// #[derive(Debug)]
/// enum CartCommand {
///     Add { article: String, pieces: u32 },
///     Remove { article: String, reply_to: ReplyTo<Result<(), NotInCart>> },
///     Content(ReplyTo<BTreeMap<String, u32>>),
/// }
///
/// #[derive(Debug, PartialEq)]
/// struct NotInCart;
///
/// #[derive(Debug, Archive, Serialize, Deserialize)]
/// enum CartEvent {
///     Added { article: String, pieces: u32 },
///     Removed { article: String },
/// }
///
/// impl WireMessage for CartEvent {
///     const NAME: &'static str = "shop.CartEvent";
///     const VERSION: u16 = 1;
/// }
///
/// #[derive(Debug, Default, Archive, Serialize, Deserialize)]
/// struct Content(BTreeMap<String, u32>);
///
/// impl WireMessage for Content {
///     const NAME: &'static str = "shop.CartContent";
///     const VERSION: u16 = 1;
/// }
///
/// impl EventSourced for Cart {
///     type Command = CartCommand;
///     type Event = CartEvent;
///     type State = Content;
///
///     fn empty(&self) -> Content {
///         Content::default()
///     }
///
///     fn on_command(
///         &mut self,
///         content: &Content,
///         command: CartCommand,
///         _: &mut SourcedContext<'_, Self>,
///     ) -> Result<Effect<Self>, Fault> {
///         Ok(match command {
///             CartCommand::Add { article, pieces } => Effect::persist(CartEvent::Added { article, pieces }),
///             CartCommand::Remove { article, reply_to } if content.0.contains_key(&article) => {
///                 Effect::persist(CartEvent::Removed { article }).then_reply(reply_to, |_| Ok(()))
///             }
///             CartCommand::Remove { reply_to, .. } => Effect::none().then_reply(reply_to, |_| Err(NotInCart)),
///             CartCommand::Content(reply_to) => Effect::none().then_reply(reply_to, |content: &Content| content.0.clone()),
///         })
///     }
///
///     fn on_event(mut content: Content, event: &CartEvent) -> Content {
///         match event {
///             CartEvent::Added { article, pieces } => *content.0.entry(article.clone()).or_default() += pieces,
///             CartEvent::Removed { article } => drop(content.0.remove(article)),
///         }
///         content
///     }
/// }
///
/// let journal = InMemoryJournal::default();
/// for life in 0..2 {
///     let mut builder = Runtime::builder();
///     let carts = builder.entities(EntityType::event_sourced("cart", journal.clone(), |_: &String| Cart));
///     let runtime = builder.start()?;
///     let handle = runtime.handle();
///     let cart = carts.entity("of Ada");
///     handle.tell(cart, CartCommand::Add { article: "lamp".into(), pieces: 2 });
///     let content = handle.ask(cart, CartCommand::Content).wait()?;
///     assert_eq!(content["lamp"], 2 + 2 * life); // the second runtime finds what the first one stored
///     let remove = |article: &'static str| {
///         handle.ask(cart, move |reply_to| CartCommand::Remove { article: article.into(), reply_to })
///     };
///     assert_eq!(remove("table").wait()?, Err(NotInCart));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait EventSourced: Sized + 'static {
    /// What it is told; usually an enum.
    type Command: Message;
    /// What has happened; usually an enum.
    type Event: WireMessage;
    /// What follows from the events. It lies in snapshots, so it has a name and a version too; a snapshot of another version
    /// is left aside, and every event is read. If there are not as many any more, recovery fails.
    type State: WireMessage;

    /// The state before the first event.
    fn empty(&self) -> Self::State;

    /// Decides what comes of a command. The state changes by events only; `self` is for what need not survive. What has
    /// to be awaited before it can be decided is awaited by [`Effect::after`], not by [`Context::suspend`].
    ///
    /// # Errors
    /// A fault fails the actor, as in [`Actor::receive`](crate::Actor::receive); nothing is stored. To refuse a command is no
    /// fault: reply with an error.
    fn on_command(
        &mut self,
        state: &Self::State,
        command: Self::Command,
        ctx: &mut SourcedContext<'_, Self>,
    ) -> Result<Effect<Self>, Fault>;

    /// The state after an event. It depends on nothing but its arguments, and does nothing else: every recovery calls it
    /// again.
    fn on_event(state: Self::State, event: &Self::Event) -> Self::State;

    /// Reads an event that was stored as another type or version than [`Event`](EventSourced::Event); `None` if it is
    /// none that it knows, which fails the recovery.
    ///
    /// ```
    /// # use corecast::{Fault, Payload, WireMessage};
    /// # fn upgrade<EventV1: WireMessage, Event: From<EventV1>>(old: &Payload) -> Result<Option<Event>, Fault> {
    /// Ok(old.read::<EventV1>()?.map(Event::from))
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it cannot be read, which fails the recovery too.
    fn upgrade(old: &Payload) -> Result<Option<Self::Event>, Fault> {
        let _ = old;
        Ok(None)
    }

    /// Runs once the state is recovered, before the first command of this life.
    ///
    /// # Errors
    /// A fault fails the actor.
    fn recovered(
        &mut self,
        state: &Self::State,
        ctx: &mut SourcedContext<'_, Self>,
    ) -> Result<(), Fault> {
        let _ = (state, ctx);
        Ok(())
    }

    /// What to do about a fault of this actor, as [`Actor::on_error`](crate::Actor::on_error); `None`, the default, leaves
    /// it to its supervision.
    ///
    /// If it is one of the [journal](crate::SourcingError), or of [`on_event`](EventSourced::on_event), the state is not
    /// known any more, and only another life recovers it: an actor that is resumed then fails with each command.
    fn on_error(&mut self, fault: &Fault, ctx: &mut SourcedContext<'_, Self>) -> Option<Directive> {
        let _ = (fault, ctx);
        None
    }

    /// How this actor supervises its children, as [`Actor::supervision`](crate::Actor::supervision).
    fn supervision(&self) -> Supervision {
        Supervision::default()
    }

    /// Runs on an actor that is about to be made again because of a fault, as
    /// [`Actor::pre_restart`](crate::Actor::pre_restart). By default it runs [`post_stop`](EventSourced::post_stop). By then
    /// this life has given up its persistence id.
    fn pre_restart(&mut self, fault: &Fault, ctx: &mut SourcedContext<'_, Self>) {
        let _ = fault;
        self.post_stop(ctx);
    }

    /// Runs on an actor that was made in place of one that failed, as
    /// [`Actor::post_restart`](crate::Actor::post_restart): before its state is [recovered](EventSourced::recovered).
    ///
    /// # Errors
    /// A fault fails the actor.
    fn post_restart(
        &mut self,
        fault: &Fault,
        ctx: &mut SourcedContext<'_, Self>,
    ) -> Result<(), Fault> {
        let _ = (fault, ctx);
        Ok(())
    }

    /// Runs when the actor stops, however it came to that, as [`Actor::post_stop`](crate::Actor::post_stop).
    fn post_stop(&mut self, ctx: &mut SourcedContext<'_, Self>) {
        let _ = ctx;
    }

    /// When snapshots are taken. They spare recovery the events before them; without them everything works as well.
    fn snapshots(&self) -> Snapshots {
        Snapshots::default()
    }
}
