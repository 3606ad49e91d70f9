//! Death watch: an actor hears when another one has come to its end.
//!
//! The end of an actor is news exactly once for each watch, also if the actor had gone before the watch began, and comes
//! after the last message that the actor sent to the watcher (as in Akka's DeathWatch and Erlang's monitors).

use super::context::Context;
use super::ending::StopCause;
use super::entity_watch::EntitySignal;
use super::guard::{drop_guarded, guarded};
use super::local::Local;
use super::model::{Actor, Fault};
use super::reference::{AnyActorRef, CellRef};
use super::refusal::Rejection;
use super::signals::Signal;
use super::watches::{Target, WatchId, Watching};
use crate::base::ids::CoreId;
use crate::wire::message::Message;
use std::any::Any;

/// An actor that was watched has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Terminated {
    /// Which one.
    pub actor: AnyActorRef,
    /// Why it has stopped; `None` if it had gone before it was watched, or went with its core.
    pub cause: Option<StopCause>,
}

/// What makes a message of the news.
type Then<M> = Box<dyn FnOnce(Terminated) -> M + Send>;

/// # Death watch
///
/// The news of an end is a message for which room is reserved, and comes exactly once for each watch. What the actor had
/// sent to this one comes before it; but a reply to an ask has a way of its own, and so has what was sent to or by an entity
/// while its shard moved: these may come after it. A restart is no end. A watch itself ends with the watcher, but not by its
/// restart; it moves with an entity whose state moves to another core of its node, and ends with one that moves to another
/// node. What a shutdown stops in the end, nobody hears of. (Once it lies in the mailbox, the news is a message like any other,
/// and one that drops its oldest may drop it.)
///
/// # On other nodes
///
/// An actor on another node of the cluster is watched in the same way, and all of the above holds. A connection that breaks
/// is no end, and no watch and no news gets lost with it: when there is a connection again, what is still watched is announced
/// again, and who has gone meanwhile is told, though not always with the cause. When the other node leaves the cluster, is
/// declared down or is started anew, all its actors have gone: the news comes once, with the cause
/// [`StopCause::NodeGone`]. So it does for a reference of an old life of another node; one of an old life of this node has
/// gone before, with the cause `None`. A node of which this one has not heard yet has as long as an ask to become known; then
/// it counts as gone.
///
/// Only a member knows who is gone. While this node is none, because it was declared down, what it watches elsewhere waits;
/// when it has come back, what is still there is watched again, and what has gone with its node meanwhile is told. If it never
/// comes back, or has left for good, no news comes.
///
/// An address of an actor of another node comes in a message, or from a lookup
/// ([`Handle::lookup_on`](crate::Handle::lookup_on)).
impl<A: Actor> Context<'_, A> {
    /// Has this actor told when another one has come to its end, whoever it is and wherever in the runtime it lives. If it
    /// has gone already, the news comes at once.
    ///
    /// Watching an actor again puts the new `then` in place of the old one.
    ///
    /// ```
    /// use corecast::{Actor, ActorRef, Context, Fault, Next, Terminated};
    ///
    /// struct Guard;
    ///
    /// #[derive(Debug)]
    /// enum Msg {
    ///     Guard(ActorRef<String>),
    ///     Gone(Terminated),
    /// }
    ///
    /// impl Actor for Guard {
    ///     type Msg = Msg;
    ///
    ///     fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         match msg {
    ///             Msg::Guard(treasure) => ctx.watch(treasure, Msg::Gone)?,
    ///             Msg::Gone(Terminated { actor, cause, .. }) => println!("{actor:?} has gone: {cause:?}"),
    ///         }
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Rejection::TooManyWatches`] if this core has as many as it may ([`Settings::watches`](crate::Settings::watches)),
    /// [`Rejection::OutboxFull`] if there is no room towards the core of the other one, [`Rejection::LinkFull`] if there is
    /// none towards its node, [`Rejection::Stopped`] in
    /// [`post_stop`](Actor::post_stop) and [`pre_restart`](Actor::pre_restart). Nothing has changed.
    pub fn watch(
        &mut self,
        target: impl Into<AnyActorRef>,
        then: impl FnOnce(Terminated) -> A::Msg + Send + 'static,
    ) -> Result<(), Rejection> {
        if self.has_ended() {
            return Err(Rejection::Stopped);
        }
        let then: Then<A::Msg> = Box::new(then);
        let watching = NewWatch {
            watcher: self.at,
            target: Target::Actor(target.into()),
            then: Box::new(then),
            bring: bring::<A::Msg>,
        };
        self.local.watch(watching)
    }

    /// Ends a watch: its news will not come, not even if it is under way between two cores. Returns whether this actor
    /// watched the other: not if the news lies in its mailbox already, where it is a message like any other.
    pub fn unwatch(&mut self, target: impl Into<AnyActorRef>) -> bool {
        let target = self.local.at_home(target.into());
        let Some(number) = self.local.watches.number(self.at, target) else {
            return false;
        };
        self.local.end_watch(number);
        true
    }
}

/// A watch that is about to begin.
pub(super) struct NewWatch {
    pub(super) watcher: CellRef,
    pub(super) target: Target,
    pub(super) then: Box<dyn Any + Send>,
    pub(super) bring: super::watches::Bring,
}

/// Has a watcher get its message.
fn bring<M: Message>(
    local: &mut Local,
    watcher: CellRef,
    then: Box<dyn Any + Send>,
    actor: Option<AnyActorRef>,
    cause: Option<StopCause>,
) {
    let (Ok(then), Some(actor)) = (then.downcast::<Then<M>>(), actor) else {
        return;
    };
    match guarded(|| then(Terminated { actor, cause })) {
        Ok(message) => local.accept_reserved(watcher, message, None),
        Err(panic) => local.fault_later(watcher, Fault::panicked(panic)),
    }
}

impl Local {
    pub(super) fn watch(&mut self, mut new: NewWatch) -> Result<(), Rejection> {
        if let Target::Actor(actor) = &mut new.target {
            *actor = self.at_home(*actor);
        }
        let known = new
            .target
            .address()
            .and_then(|actor| self.watches.number(new.watcher, actor));
        if let Err(why) = self.room_for_watch(&new.target, known.is_some()) {
            self.counters.count_refusal(why);
            drop_guarded(new);
            return Err(why);
        }
        if let Some(known) = known {
            self.end_watch(known);
        }
        self.begin_watch(new);
        Ok(())
    }

    /// Whether there is room for a watch, here and on the way. (Its end needs none: it takes that of the watch.)
    fn room_for_watch(&mut self, target: &Target, is_known: bool) -> Result<(), Rejection> {
        if !is_known && self.watches.len() >= self.limits.watches {
            return Err(Rejection::TooManyWatches);
        }
        match target {
            Target::Actor(actor) if self.is_within(*actor) => self.room_towards(actor.core),
            Target::Actor(actor) => self.room_towards_node(actor.home.node()),
            Target::Entity(entity) => entity.has_room(self),
        }
    }

    /// Whether there is room for a signal to a core.
    pub(super) fn room_towards(&self, core: CoreId) -> Result<(), Rejection> {
        let waiting = self.outbox[core.index()].messages;
        if core != self.core && waiting >= self.limits.outbox_messages {
            return Err(Rejection::OutboxFull);
        }
        Ok(())
    }

    /// Begins a watch, whatever the limit says.
    pub(super) fn begin_watch(&mut self, new: NewWatch) {
        let NewWatch {
            watcher,
            target,
            then,
            bring,
        } = new;
        let number = self.watches.next_number();
        let by = self.own_watch(number);
        let announcement = match &target {
            Target::Actor(_) => None,
            // The id is the user's; made now, since an entity that is not active ends the watch at once.
            Target::Entity(entity) => Some(guarded(|| entity.prepare(EntitySignal::Watch(by)))),
        };
        let address = target.address();
        let place = match &target {
            Target::Actor(_) => None,
            Target::Entity(entity) => Some(entity.shard()),
        };
        self.watches.add(number, watcher, target, then, bring);
        if let Some(place) = place.filter(|_| self.remote.is_some()) {
            self.watches.far.add_entity(number, place);
        }
        match (address, announcement) {
            (Some(actor), _) if !self.is_within(actor) => self.watch_far(number, actor),
            (Some(actor), _) if actor.core == self.core => self.accept_watch(actor.cell, by),
            (Some(actor), _) => {
                let target = actor.cell;
                self.signal(actor.core, Signal::Watch { target, by });
            }
            (None, Some(Ok(announce))) => {
                if let Err(panic) = guarded(|| announce(self)) {
                    tracing::error!(core = %self.core, panic, "the id of an entity that is watched panicked");
                    self.terminated(number, None);
                }
            }
            (None, _) => self.terminated(number, None),
        }
    }

    /// A watch of this core.
    pub(super) fn own_watch(&self, number: u64) -> WatchId {
        WatchId {
            life: self.own_life(),
            core: self.core,
            number,
        }
    }

    /// Whether an address is one of this runtime.
    pub(super) fn is_within(&self, actor: AnyActorRef) -> bool {
        actor.home == self.home && actor.core.index() < self.port.cores()
    }

    /// Somebody wants to hear of the end of an actor of this core.
    pub(super) fn accept_watch(&mut self, target: CellRef, by: WatchId) {
        if self.cells.get(target).is_none() {
            self.tell_terminated(by, None);
        } else if self.may_watch_here(target, by) {
            self.watches.add_watcher(target, by);
        }
    }

    /// Ends a watch before its time.
    pub(super) fn end_watch(&mut self, number: u64) {
        drop_guarded(self.take_watch(number));
    }

    /// Takes a watch out before its time.
    fn take_watch(&mut self, number: u64) -> Option<Watching> {
        let placed = self.watches.placed(number);
        if let Some(placed) = placed {
            self.unwatch_far(number, placed);
            return self.watches.remove(number);
        }
        let watching = self.watches.remove(number)?;
        let by = self.own_watch(number);
        match &watching.target {
            Target::Actor(actor) if actor.core == self.core => {
                self.watches.remove_watcher(actor.cell, by);
            }
            Target::Actor(actor) if self.is_within(*actor) => {
                let target = actor.cell;
                self.signal(actor.core, Signal::Unwatch { target, by });
            }
            Target::Actor(_) => {}
            Target::Entity(entity) => {
                let unwatched = guarded(|| entity.prepare(EntitySignal::Unwatch(by))(self));
                if let Err(panic) = unwatched {
                    tracing::error!(core = %self.core, panic, "the id of an entity that was watched panicked");
                }
            }
        }
        Some(watching)
    }

    /// Tells a watcher that its target has come to its end.
    pub(super) fn tell_terminated(&mut self, by: WatchId, cause: Option<StopCause>) {
        let number = by.number;
        if !self.watches.is_own(by) {
            self.tell_terminated_far(by, cause);
        } else if by.core == self.core {
            self.end_elsewhere(number, by.life);
            self.terminated(number, cause);
        } else {
            // Behind what the one that has ended has sent to the watcher.
            let from = by.life;
            self.signal_in_order(
                by.core,
                Signal::Terminated {
                    number,
                    cause,
                    from,
                },
            );
        }
    }

    /// The target of a watch has come to its end. The watch may have ended before.
    pub(super) fn terminated(&mut self, number: u64, cause: Option<StopCause>) {
        if let Some(Watching {
            watcher,
            target,
            then,
            bring,
            ..
        }) = self.watches.remove(number)
        {
            if self.stopping {
                // The watcher is about to stop as well.
                drop_guarded(then);
            } else {
                bring(self, watcher, then, target.address(), cause);
            }
            drop_guarded(target);
        }
    }

    /// An actor has ended: it watches nobody any more, and those who watch it hear of it.
    #[cold]
    #[inline(never)]
    pub(super) fn end_watches(&mut self, of: CellRef, cause: StopCause) {
        while let Some(number) = self.watches.latest_of(of) {
            self.end_watch(number);
        }
        for by in self.watches.take_watchers(of) {
            // At the end of a shutdown the other cores' actors stop as well; if only this core ends, they live on, and as
            // long as a shutdown drains, they handle what comes.
            let is_here = self.watches.is_own(by) && by.core == self.core;
            if is_here || !(self.draining && self.stopping) {
                self.tell_terminated(by, Some(cause));
            }
        }
    }

    /// Takes out the watches of an entity that leaves with its state.
    pub(super) fn take_watches(&mut self, of: CellRef) -> Vec<NewWatch> {
        let mut taken = Vec::new();
        while let Some(number) = self.watches.latest_of(of)
            && let Some(watching) = self.take_watch(number)
        {
            taken.push(NewWatch {
                watcher: watching.watcher,
                target: watching.target,
                then: watching.then,
                bring: watching.bring,
            });
        }
        taken
    }

    /// Other cores have gone without a word: so have the actors there that are watched from here, as soon as what they had
    /// sent has been taken in.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_lost_watches(&mut self) {
        for core in self.watches.take_lost() {
            self.say_core_died(core);
            if self.port.inbound_depth(core) == (0, 0) {
                for number in self.watches.on(core) {
                    self.terminated(number, None);
                }
            } else {
                self.watches.lose(core);
            }
        }
    }
}
