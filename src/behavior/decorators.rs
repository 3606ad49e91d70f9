//! What is put around a behaviour: a supervision, hooks, a spy.

use super::behaving::BehaviorContext;
use super::value::{Behavior, Kind};
use crate::actor::guard::{drop_all_guarded, guarded};
use crate::actor::model::Fault;
use crate::actor::reference::ActorRef;
use crate::actor::supervision::{Strategy, Supervision};
use crate::base::time::Time;
use crate::wire::message::Message;
use std::fmt;
use std::sync::Arc;

/// Supervisions, hooks and spies that may be around a behaviour; with more the actor fails.
const MAX_LAYERS: usize = 1_000;

/// One thing around a behaviour. Each hook is one of its own, so that each is dropped for itself.
pub(super) enum Layer<M: Message> {
    Supervision(Supervision),
    Spy(Spy<M>),
    PreStart(Option<Hook<M>>),
    PreRestart(Option<FaultHook<M, ()>>),
    PostRestart(Option<FaultHook<M, Result<(), Fault>>>),
    PostStop {
        hook: Option<LastHook<M>>,
        /// Whether it also takes the place of `pre_restart`.
        at_restart: bool,
    },
}

/// Shows a message, or that there will be no more.
type Spy<M> = Box<dyn FnMut(&mut BehaviorContext<'_, M>, Option<&M>)>;
type Hook<M> = Box<dyn FnOnce(&mut BehaviorContext<'_, M>) -> Result<(), Fault>>;
type LastHook<M> = Box<dyn FnOnce(&mut BehaviorContext<'_, M>)>;
type FaultHook<M, R> = Box<dyn FnOnce(&mut BehaviorContext<'_, M>, &Fault) -> R>;

/// A behaviour with what is around it.
pub(super) struct Decorated<M: Message> {
    /// The innermost last.
    pub(super) layers: Layers<M>,
    pub(super) inner: Kind<M>,
}

impl<M: Message> fmt::Debug for Decorated<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decorated({})", self.layers.layers.len())
    }
}

fn decorate<M: Message>(
    behavior: Behavior<M>,
    around: impl IntoIterator<Item = Layer<M>>,
) -> Behavior<M> {
    let mut decorated = match behavior.0 {
        Kind::Decorated(decorated) => decorated,
        inner => Box::new(Decorated {
            layers: Layers::default(),
            inner,
        }),
    };
    decorated.layers.put_outside(around);
    Behavior(Kind::Decorated(decorated))
}

/// Has the faults of a behaviour, and of all that it becomes, dealt with as a [`Supervision`] says.
///
/// The innermost supervision that does not [escalate](crate::Directive::Escalate) decides, under its own limits and with
/// its own backoff; what the outermost escalates is dealt with as it was said where the actor was
/// [spawned](crate::SpawnOptions::supervised), or as its parent says. Restarts are counted for the actor, whoever has
/// decided on them: each supervision looks at how many there were within its time. If there were as many as it allows,
/// the actor stops, and nobody further out is asked. [Strategies](Strategy) do not apply: a behaviour has no siblings.
///
/// It also decides about faults of the actor's children that they escalate, and is in force while a [`setup`] inside of
/// it runs. Only an actor whose factory was kept can be restarted: a child, an entity, or one that was spawned by
/// [`Handle::spawn_supervised`](crate::Handle::spawn_supervised).
///
/// ```
/// use corecast::behavior::{receive, same, supervise};
/// use corecast::{Behavior, Directive, Supervision};
///
/// fn parser() -> Behavior<String> {
///     let parsing = receive(|_ctx, text: String| {
///         text.parse::<u64>()?;
///         Ok(same())
///     });
///     let forgiving = Supervision::decide(|fault| match fault.cause().is::<std::num::ParseIntError>() {
///         true => Directive::Resume,
///         false => Directive::Escalate,
///     });
///     supervise(parsing, forgiving)
/// }
/// # let _ = parser();
/// ```
///
/// [`setup`]: super::setup
pub fn supervise<M: Message>(behavior: Behavior<M>, supervision: Supervision) -> Behavior<M> {
    let alone = supervision.strategy(Strategy::OneForOne);
    decorate(behavior, [Layer::Supervision(alone)])
}

/// Hooks of an actor's life, for [`with_lifecycle`]. Each is optional, and may use the context as those of an
/// [`Actor`](crate::Actor) of the same names may.
#[must_use = "hooks do nothing until they are put around a behaviour"]
pub struct Lifecycle<M: Message> {
    pre_start: Option<Hook<M>>,
    post_stop: Option<LastHook<M>>,
    pre_restart: Option<FaultHook<M, ()>>,
    post_restart: Option<FaultHook<M, Result<(), Fault>>>,
}

impl<M: Message> Lifecycle<M> {
    /// No hooks so far.
    #[expect(clippy::new_without_default, reason = "one way to begin is enough")]
    pub fn new() -> Self {
        Lifecycle {
            pre_start: None,
            post_stop: None,
            pre_restart: None,
            post_restart: None,
        }
    }

    /// Runs before the first message, after every [`setup`](super::setup), and in a life after a restart as well. An error
    /// is a fault of the actor.
    pub fn pre_start(
        mut self,
        hook: impl FnOnce(&mut BehaviorContext<'_, M>) -> Result<(), Fault> + 'static,
    ) -> Self {
        self.pre_start = Some(Box::new(hook));
        self
    }

    /// Runs when the actor stops, however it came to that. It also runs before a restart, if there is no
    /// [`pre_restart`](Lifecycle::pre_restart) beside it.
    pub fn post_stop(mut self, hook: impl FnOnce(&mut BehaviorContext<'_, M>) + 'static) -> Self {
        self.post_stop = Some(Box::new(hook));
        self
    }

    /// Runs in the life that has failed, before it makes place for the next.
    pub fn pre_restart(
        mut self,
        hook: impl FnOnce(&mut BehaviorContext<'_, M>, &Fault) + 'static,
    ) -> Self {
        self.pre_restart = Some(Box::new(hook));
        self
    }

    /// Runs in the life that follows, before its [`pre_start`](Lifecycle::pre_start). An error is a fault of the actor.
    pub fn post_restart(
        mut self,
        hook: impl FnOnce(&mut BehaviorContext<'_, M>, &Fault) -> Result<(), Fault> + 'static,
    ) -> Self {
        self.post_restart = Some(Box::new(hook));
        self
    }
}

impl<M: Message> fmt::Debug for Lifecycle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("pre_start", &self.pre_start.is_some())
            .field("post_stop", &self.post_stop.is_some())
            .field("pre_restart", &self.pre_restart.is_some())
            .field("post_restart", &self.post_restart.is_some())
            .finish()
    }
}

/// Puts hooks around a behaviour.
///
/// Of nested hooks the innermost runs first. An error or a panic in [`post_restart`](Lifecycle::post_restart) or
/// [`pre_start`](Lifecycle::pre_start) ends the start, and the others do not run; one in
/// [`post_stop`](Lifecycle::post_stop) or [`pre_restart`](Lifecycle::pre_restart) is logged, and they do. Hooks around a
/// behaviour that a handler returned come too late for a start, and are not called any more once others have taken their
/// place.
///
/// ```
/// use corecast::behavior::{Lifecycle, receive, same, with_lifecycle};
/// use corecast::Behavior;
///
/// fn greeter() -> Behavior<String> {
///     let greeting = receive(|_ctx, name| {
///         println!("Good morning, {name}");
///         same()
///     });
///     let hooks = Lifecycle::new()
///         .pre_start(|ctx| {
///             tracing::info!(path = ctx.path(), "ready");
///             Ok(())
///         })
///         .post_stop(|ctx| tracing::info!(path = ctx.path(), "gone"));
///     with_lifecycle(greeting, hooks)
/// }
/// # let _ = greeter();
/// ```
pub fn with_lifecycle<M: Message>(behavior: Behavior<M>, hooks: Lifecycle<M>) -> Behavior<M> {
    let at_restart = hooks.pre_restart.is_none();
    let pre_start = hooks.pre_start.map(|hook| Layer::PreStart(Some(hook)));
    let post_stop = hooks.post_stop.map(|hook| Layer::PostStop {
        hook: Some(hook),
        at_restart,
    });
    let pre_restart = hooks.pre_restart.map(|hook| Layer::PreRestart(Some(hook)));
    let post_restart = hooks
        .post_restart
        .map(|hook| Layer::PostRestart(Some(hook)));
    let around = [pre_start, post_stop, pre_restart, post_restart];
    decorate(behavior, around.into_iter().flatten())
}

/// What a [`spy`] tells its observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spied<M> {
    /// The [path](crate::Context::path) of the actor.
    pub path: Arc<str>,
    /// The time of the turn in which it happened.
    pub at: Time,
    /// What happened.
    pub sight: Sight<M>,
}

/// What a [`spy`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight<M> {
    /// The actor is about to handle this message.
    Message(M),
    /// The actor has stopped. (One that stops while it waits to be restarted has nobody left to say so.)
    Stopped,
}

/// Has an observer told of every message that a behaviour, or what it becomes, is about to handle, and of its stop.
///
/// The behaviour does not notice: what the observer misses because its mailbox is full, or because it has gone, is a
/// counted dead letter, and what goes wrong in the copying is logged. Messages that cannot be cloned, such as those with a
/// [`ReplyTo`](crate::ReplyTo), are shown by [`spy_as`].
///
/// ```
/// use corecast::behavior::{Spied, receive, same, spy};
/// use corecast::{ActorRef, Behavior};
///
/// fn observed(observer: ActorRef<Spied<u64>>) -> Behavior<u64> {
///     spy(receive(|_ctx, _number| same()), observer)
/// }
/// # let _ = observed;
/// ```
pub fn spy<M: Message + Clone>(behavior: Behavior<M>, observer: ActorRef<Spied<M>>) -> Behavior<M> {
    spy_as(behavior, observer, M::clone)
}

/// Like [`spy`], with what is shown of each message made by a function.
///
/// ```
/// use corecast::behavior::{Spied, receive, same, spy_as};
/// use corecast::{ActorRef, Behavior, ReplyTo};
///
/// fn observed(observer: ActorRef<Spied<String>>) -> Behavior<ReplyTo<u64>> {
///     let answering = receive(|ctx, reply_to| {
///         ctx.reply(reply_to, 42);
///         same()
///     });
///     spy_as(answering, observer, |message| format!("{message:?}"))
/// }
/// # let _ = observed;
/// ```
pub fn spy_as<M: Message, V: Message>(
    behavior: Behavior<M>,
    observer: ActorRef<Spied<V>>,
    mut view: impl FnMut(&M) -> V + 'static,
) -> Behavior<M> {
    let mut known_path: Option<Arc<str>> = None;
    let show = move |ctx: &mut BehaviorContext<'_, M>, message: Option<&M>| {
        let seen = message.map(|message| guarded(|| view(message)));
        let sight = match seen {
            Some(Ok(view)) => Sight::Message(view),
            Some(Err(panic)) => {
                tracing::error!(core = %ctx.core(), panic, "a spy could not show a message");
                return;
            }
            None => Sight::Stopped,
        };
        let path = known_path.get_or_insert_with(|| ctx.path().into()).clone();
        let at = ctx.now();
        ctx.tell(observer, Spied { path, at, sight });
    };
    decorate(behavior, [Layer::Spy(Box::new(show))])
}

/// What is around a behaviour, the innermost last.
pub(super) struct Layers<M: Message> {
    layers: Vec<Layer<M>>,
    spies: usize,
}

impl<M: Message> Default for Layers<M> {
    fn default() -> Self {
        Layers {
            layers: Vec::new(),
            spies: 0,
        }
    }
}

impl<M: Message> Layers<M> {
    fn put_outside(&mut self, around: impl IntoIterator<Item = Layer<M>>) {
        self.layers.splice(0..0, around);
        self.count_spies();
    }

    /// Fails if there would be more than there may be.
    pub(super) fn put_inside(&mut self, mut inside: Layers<M>) -> Result<(), Fault> {
        if self.layers.len() + inside.layers.len() > MAX_LAYERS {
            return Err(Fault::new(format!(
                "there are more than {MAX_LAYERS} decorators around a behaviour; is it waited for in a loop that adds one each time?"
            )));
        }
        self.layers.append(&mut inside.layers);
        self.count_spies();
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.layers.len()
    }

    /// Takes off all but the outermost `count`.
    pub(super) fn keep(&mut self, count: usize) {
        let count = count.min(self.layers.len());
        drop_all_guarded(self.layers.drain(count..).collect::<Vec<_>>());
        self.count_spies();
    }

    fn count_spies(&mut self) {
        let is_spy = |layer: &&Layer<M>| matches!(layer, Layer::Spy(_));
        self.spies = self.layers.iter().filter(is_spy).count();
    }

    /// All supervisions in one, the innermost first.
    pub(super) fn supervision(&self) -> Option<Supervision> {
        // From the outside in, since the way to the outermost is as long as there are some.
        let mut around: Option<Supervision> = None;
        for layer in &self.layers {
            if let Layer::Supervision(own) = layer {
                let own = own.clone();
                around = Some(match around {
                    Some(outer) => own.inside(outer),
                    None => own,
                });
            }
        }
        around
    }

    fn inside_out_mut(&mut self) -> impl Iterator<Item = &mut Layer<M>> {
        self.layers.iter_mut().rev()
    }

    #[inline(always)]
    pub(super) fn have_spies(&self) -> bool {
        self.spies > 0
    }

    #[cold]
    pub(super) fn show(&mut self, ctx: &mut BehaviorContext<'_, M>, message: Option<&M>) {
        for layer in self.inside_out_mut() {
            if let Layer::Spy(show) = layer {
                show(ctx, message);
            }
        }
    }

    pub(super) fn pre_start(&mut self, ctx: &mut BehaviorContext<'_, M>) -> Result<(), Fault> {
        for layer in self.inside_out_mut() {
            if let Layer::PreStart(hook) = layer
                && let Some(hook) = hook.take()
            {
                hook(ctx)?;
            }
        }
        Ok(())
    }

    pub(super) fn post_restart(
        &mut self,
        ctx: &mut BehaviorContext<'_, M>,
        fault: &Fault,
    ) -> Result<(), Fault> {
        for layer in self.inside_out_mut() {
            if let Layer::PostRestart(hook) = layer
                && let Some(hook) = hook.take()
            {
                hook(ctx, fault)?;
            }
        }
        Ok(())
    }

    pub(super) fn pre_restart(&mut self, ctx: &mut BehaviorContext<'_, M>, fault: &Fault) {
        for layer in self.inside_out_mut() {
            match layer {
                Layer::PreRestart(hook) => {
                    if let Some(hook) = hook.take() {
                        log_panic(ctx, "pre_restart", |ctx| hook(ctx, fault));
                    }
                }
                Layer::PostStop {
                    hook,
                    at_restart: true,
                } => {
                    if let Some(hook) = hook.take() {
                        log_panic(ctx, "post_stop", hook);
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn post_stop(&mut self, ctx: &mut BehaviorContext<'_, M>) {
        for layer in self.inside_out_mut() {
            match layer {
                Layer::PostStop { hook, .. } => {
                    if let Some(hook) = hook.take() {
                        log_panic(ctx, "post_stop", hook);
                    }
                }
                Layer::Spy(show) => show(ctx, None),
                _ => {}
            }
        }
    }
}

fn log_panic<M: Message>(
    ctx: &mut BehaviorContext<'_, M>,
    name: &str,
    hook: impl FnOnce(&mut BehaviorContext<'_, M>),
) {
    if let Err(panic) = guarded(|| hook(ctx)) {
        tracing::error!(core = %ctx.core(), panic, "a {name} hook panicked");
    }
}

/// Each is dropped for itself, so that one panic does not meet another.
impl<M: Message> Drop for Layers<M> {
    fn drop(&mut self) {
        drop_all_guarded(std::mem::take(&mut self.layers));
    }
}
