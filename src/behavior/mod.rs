//! Behaviours as values: actors that say after each message how they go on.
//!
//! A [`Behavior`] is a value, made by the functions of this module, and a handler returns the next one. [`Behaving`] is the
//! [`Actor`](crate::Actor) that has one, so whatever can be done with an actor can be done with a behaviour: it is spawned
//! by the same calls, can be an entity, and its handlers are given an ordinary [`Context`](crate::Context).
//!
//! A finite state machine is a function for each state:
//!
//! ```
//! use corecast::behavior::{receive, same, unhandled};
//! use corecast::{Behaving, Behavior, ReplyTo, Runtime};
//!
//! #[derive(Debug)]
//! enum Cart {
//!     Add(&'static str),
//!     CheckOut(ReplyTo<Vec<&'static str>>),
//! }
//!
//! fn empty() -> Behavior<Cart> {
//!     receive(|_ctx, message| match message {
//!         Cart::Add(item) => active(vec![item]),
//!         Cart::CheckOut(_) => unhandled(),
//!     })
//! }
//!
//! fn active(mut items: Vec<&'static str>) -> Behavior<Cart> {
//!     receive(move |ctx, message| match message {
//!         Cart::Add(item) => {
//!             items.push(item);
//!             same()
//!         }
//!         Cart::CheckOut(reply_to) => {
//!             ctx.reply(reply_to, std::mem::take(&mut items));
//!             checked_out()
//!         }
//!     })
//! }
//!
//! fn checked_out() -> Behavior<Cart> {
//!     receive(|_ctx, _message| unhandled())
//! }
//!
//! let runtime = Runtime::builder().start()?;
//! let handle = runtime.handle();
//! let cart = handle.spawn(|| Behaving::new(empty())).wait()?;
//! assert!(handle.ask(cart, Cart::CheckOut).wait().is_err(), "there is nothing in it");
//! handle.tell(cart, Cart::Add("lamp"));
//! assert_eq!(handle.ask(cart, Cart::CheckOut).wait(), Ok(vec!["lamp"]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/shopping_cart.rs` is the same at length, as an entity.
//!
//! # What a handler may return
//!
//! | value | the actor |
//! |---|---|
//! | [`same()`] | goes on as it is |
//! | any other behaviour | becomes that one |
//! | [`unhandled()`] | goes on as it is; the message is counted as one that was not handled |
//! | [`ignore()`] | drops every message from now on |
//! | [`stopped()`] | stops, with its hooks |
//! | [`restart()`] | is made again, as after a fault |
//! | [`after(future, then)`](after) | waits for a future, its mailbox with it, and becomes what comes of it |
//! | an error | has failed, as after a panic |
//!
//! (Other libraries have a function for the second row; in Rust `become` is a word that the language has reserved.)
//!
//! A handler that has nothing but behaviours to return returns them as they are; one that uses `?` returns them in `Ok`.
//!
//! # What may be put around a behaviour
//!
//! | function | adds |
//! |---|---|
//! | [`setup(factory)`](setup) | what has to be done once, with the context, before the first message |
//! | [`supervise(behavior, supervision)`](supervise) | what is done about faults |
//! | [`with_lifecycle(behavior, hooks)`](with_lifecycle) | hooks at start, stop and restart |
//! | [`spy(behavior, observer)`](spy), [`spy_as`] | somebody who sees every message |
//!
//! The last three are decorators, and hold also when the behaviour inside becomes another: those that an actor begins with
//! for as long as this life of it lasts; those that are around a behaviour which a handler returned until a handler returns
//! one with decorators of its own, which take their place. They can be nested in any order and as often as one likes, up
//! to 1,000 parts in all (a supervision, a spy, each hook): with more the actor fails.
//!
//! # Lives
//!
//! An actor that is restarted begins with a new behaviour from the factory that it was spawned with, closures and all, so
//! nothing of the old state is left. In order: `pre_restart` of the old life; the factory, and in it every [`setup`];
//! `post_restart`; `pre_start`; the messages that wait. Of nested decorators the innermost has its hooks called first, each
//! time.
//!
//! # What it costs
//!
//! A behaviour is one allocation (none if its handler has captured nothing), made when it is returned, and freed when another
//! takes its place. A message costs one call through a pointer more than with an [`Actor`](crate::Actor) of your own, some
//! 30 instructions with what looks at the outcome, and for [`same()`] nothing is allocated.

pub mod behaving;
pub mod decorators;
pub mod effect;
pub mod event_sourced;
mod save;
pub mod sourced;
pub mod value;

pub use behaving::{Behaving, BehaviorContext};
pub use decorators::{Lifecycle, Sight, Spied, spy, spy_as, supervise, with_lifecycle};
pub use value::{
    Behavior, IntoBehavior, after, ignore, receive, restart, same, setup, stopped, unhandled,
};
