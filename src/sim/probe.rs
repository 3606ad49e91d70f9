//! Probes: receivers of which a test can say what they are to get.

use super::simulation::Simulation;
use super::world::Step;
use crate::actor::context::Context;
use crate::actor::entity::EntityType;
use crate::actor::entity_id::EntityId;
use crate::actor::guard::shown;
use crate::actor::mailbox::Mailbox;
use crate::actor::model::{Actor, Fault, Next};
use crate::actor::reference::{ActorRef, Region};
use crate::wire::message::Message;
use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a probe waits for a message if nothing else is said: longer than an ask has by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// A receiver of messages of any type, made by [`Simulation::probe`]: wherever an actor wants an address, to answer,
/// report or subscribe, it takes the probe's, and the test says what is to come.
///
/// Each message is expected once, in the order in which they came. Waiting takes virtual time only. A probe that gets what
/// was not expected, or nothing, panics: with what came instead, the virtual time, the seed, and the line that replays
/// the run.
///
/// ```
/// use corecast::sim::Simulation;
/// use corecast::{Actor, ActorRef, Context, CoreId, Fault, Next};
/// use std::time::Duration;
///
/// /// Tells everything to somebody else, twice.
/// struct Repeater(ActorRef<String>);
///
/// impl Actor for Repeater {
///     type Msg = String;
///
///     fn receive(&mut self, text: String, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
///         ctx.tell(self.0, text.clone());
///         ctx.tell(self.0, text);
///         Ok(Next::Continue)
///     }
/// }
///
/// let mut sim = Simulation::builder(1).start();
/// let probe = sim.probe::<String>();
/// let to = probe.address();
/// let repeater = sim.spawn(CoreId(1), move || Repeater(to)).unwrap();
/// sim.tell(repeater, "again".to_owned());
/// probe.expect(&mut sim, |text| text == "again");
/// probe.expect_within(&mut sim, Duration::from_millis(1), |text| text == "again");
/// probe.expect_none_for(&mut sim, Duration::from_secs(60));
/// ```
pub struct Probe<T, To = ActorRef<T>> {
    address: To,
    inbox: Inbox<T>,
}

/// A probe in place of all entities of a type, made by
/// [`SimulationBuilder::entity_probe`](super::builder::SimulationBuilder::entity_probe): it gets each message with the id
/// of the entity that it was for.
pub type EntityProbe<I, M> = Probe<(I, M), Region<I, M>>;

impl<T: Message, To: Copy> Probe<T, To> {
    pub(super) fn new(address: To, inbox: Inbox<T>) -> Self {
        Probe { address, inbox }
    }

    /// Where messages for it are sent: its [`ActorRef`], or the [`Region`] of its entities.
    #[must_use]
    pub fn address(&self) -> To {
        self.address
    }

    /// Lets the world run until the next message has come, and takes it if it is the one that is wanted.
    ///
    /// # Panics
    /// If it is another one, or if none comes for 10 virtual seconds.
    #[track_caller]
    pub fn expect(&self, sim: &mut Simulation, wanted: impl FnOnce(&T) -> bool) -> T {
        self.expect_within(sim, PATIENCE, wanted)
    }

    /// Like [`expect`](Probe::expect), with a time to wait of your own.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn expect_within(
        &self,
        sim: &mut Simulation,
        within: Duration,
        wanted: impl FnOnce(&T) -> bool,
    ) -> T {
        let Some(message) = self.next(sim, within) else {
            self.fail(sim, format_args!("got nothing for {within:?}"))
        };
        if !wanted(&message) {
            let got = shown(format_args!("{message:?}"));
            self.fail(
                sim,
                format_args!("got {got}, which is not what was expected"),
            );
        }
        message
    }

    /// Lets so much virtual time pass, in which nothing must come.
    ///
    /// # Panics
    /// If something comes, or has come already and has not been taken.
    #[track_caller]
    pub fn expect_none_for(&self, sim: &mut Simulation, duration: Duration) {
        if let Some(message) = self.next(sim, duration) {
            let got = shown(format_args!("{message:?}"));
            self.fail(
                sim,
                format_args!("got {got}, though nothing was to come for {duration:?}"),
            );
        }
    }

    /// Takes everything that has come and has not been taken, in order; the world does not run.
    #[must_use]
    pub fn received(&self) -> Vec<T> {
        self.inbox.lock().drain(..).collect()
    }

    /// The next message, if it comes in time.
    fn next(&self, sim: &mut Simulation, within: Duration) -> Option<T> {
        let limit = sim.after(within);
        loop {
            let first = self.inbox.lock().pop_front();
            if first.is_some() {
                return first;
            }
            if sim.step_until(limit) != Step::Done {
                sim.pass_until(limit);
                return None;
            }
        }
    }

    #[track_caller]
    fn fail(&self, sim: &Simulation, what: fmt::Arguments<'_>) -> ! {
        let now = sim.now();
        sim.fail(format_args!(
            "at {now} the probe for {} {what}",
            type_name::<T>()
        ))
    }
}

impl<T, To: fmt::Debug> fmt::Debug for Probe<T, To> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("address", &self.address)
            .field("waiting", &self.inbox.lock().len())
            .finish()
    }
}

/// What has come to a probe.
pub(super) struct Inbox<T>(Arc<Mutex<VecDeque<T>>>);

impl<T> Inbox<T> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Inbox(Arc::default())
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Inbox(self.0.clone())
    }
}

type Start<M> = Box<dyn FnOnce(&mut Context<'_, Probing<M>>) + Send>;

/// The actor behind a [`Probe`]; as its type, it is who starts in [`Simulation::probe_with`].
pub struct Probing<M: Message> {
    inbox: Inbox<M>,
    start: Option<Start<M>>,
}

impl<M: Message> Probing<M> {
    pub(super) fn new(inbox: Inbox<M>, start: Start<M>) -> Self {
        Probing {
            inbox,
            start: Some(start),
        }
    }
}

impl<M: Message> Actor for Probing<M> {
    type Msg = M;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        if let Some(start) = self.start.take() {
            start(ctx);
        }
        Ok(())
    }

    fn receive(&mut self, message: M, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.inbox.lock().push_back(message);
        Ok(Next::Continue)
    }
}

impl<M: Message> fmt::Debug for Probing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probing").finish_non_exhaustive()
    }
}

/// An entity behind an [`EntityProbe`].
pub(super) struct ProbingEntity<I, M> {
    id: I,
    inbox: Inbox<(I, M)>,
    message: PhantomData<fn(M)>,
}

impl<I: EntityId, M: Message> Actor for ProbingEntity<I, M> {
    type Msg = M;

    fn receive(&mut self, message: M, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.inbox.lock().push_back((self.id.clone(), message));
        Ok(Next::Continue)
    }
}

/// The entities of a probe: what they get is the same wherever they are.
pub(super) fn entities<I: EntityId, M: Message>(
    name: &'static str,
    inbox: Inbox<(I, M)>,
) -> EntityType<ProbingEntity<I, M>, I> {
    let make = move |id: &I| ProbingEntity {
        id: id.clone(),
        inbox: inbox.clone(),
        message: PhantomData,
    };
    EntityType::ephemeral(name, make).mailbox(Mailbox::unbounded())
}
