//! The runtime as seen from threads outside of its cores.

use super::directory::{Directory, WrongMessageType};
use super::ingress::{Ingress, JobQueue, ingress};
use super::job::{Awaited, CoreJob, RefusedTell, Reply, Tell, call};
use super::local::Local;
use super::lost::Lost;
use super::mailbox::Stored;
use super::model::Actor;
use super::pending::{Completer, Pending, pending};
use super::reference::{ActorRef, Destination};
use super::refusal::{AskError, Refused, Rejection, SpawnError, TaskError, Uncertainty};
use super::reply::{Exit, Orphan, ReplyTo};
use super::scope::Scope;
use super::spawn::SpawnOptions;
use super::supervision::Supervision;
use super::task::{CatchPanic, Detached};
use super::topics::Topics;
use crate::base::ids::CoreId;
use crate::base::time::Time;
use crate::mesh::doorbell::Doorbell;
use crate::wire::message::Message;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The time of a runtime as it is read outside of its cores, given by the driver. Handles may cross `catch_unwind`, so
/// it may.
pub(crate) type OutsideClock = Box<dyn Fn() -> Time + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// What all handles of a runtime share.
pub(crate) struct Gate {
    /// One for each core; the last may be that of the coordination core.
    entries: Vec<Ingress>,
    data_cores: usize,
    /// The next handle's core.
    next: AtomicUsize,
    closed: AtomicBool,
    refused: AtomicU64,
    lost: Lost,
    topics: Arc<Topics>,
    ask_timeout: Duration,
    clock: OutsideClock,
    pub(super) directory: Directory,
    attached: OnceLock<Attached>,
}

/// What a higher layer lets handles lead to.
pub(crate) type Attached = Arc<dyn Any + Send + Sync + UnwindSafe + RefUnwindSafe>;

impl Gate {
    /// A gate to cores with these bells, and the end at which each core takes its jobs.
    pub(crate) fn new(
        doorbells: Vec<Arc<Doorbell>>,
        data_cores: usize,
        depth: usize,
        ask_timeout: Duration,
        clock: OutsideClock,
    ) -> (Arc<Gate>, Vec<JobQueue>) {
        let topics = Arc::new(Topics::new(doorbells.len()));
        let mut queues = Vec::new();
        let gate = Arc::new_cyclic(|gate| {
            let ways = doorbells.into_iter();
            let ways = ways.map(|doorbell| ingress(doorbell, depth, gate.clone()));
            let entries;
            (entries, queues) = ways.unzip();
            Gate {
                entries,
                data_cores,
                next: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                refused: AtomicU64::new(0),
                lost: Lost::default(),
                topics,
                ask_timeout,
                clock,
                directory: Directory::default(),
                attached: OnceLock::new(),
            }
        });
        (gate, queues)
    }

    /// Handles lead to this from now on, unless they lead to something already.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "for clusters"))]
    pub(crate) fn attach(&self, attached: Attached) {
        let _ = self.attached.set(attached);
    }

    /// What handles lead to.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "for clusters"))]
    pub(crate) fn attached(&self) -> Option<&Attached> {
        self.attached.get()
    }

    /// From now on nothing is let in.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The time that an ask has which is given none of its own.
    pub(super) fn ask_timeout(&self) -> Duration {
        self.ask_timeout
    }

    /// Messages that threads could not get in.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Messages that got into no core, by reason.
    pub(crate) fn lost(&self) -> &Lost {
        &self.lost
    }

    /// Who is interested in which events.
    pub(crate) fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// Gives a job to a core, even while the gate is closed.
    pub(crate) fn submit_always(
        &self,
        core: CoreId,
        job: CoreJob,
    ) -> Result<(), (Rejection, CoreJob)> {
        let Some(entry) = self.entries.get(core.index()) else {
            return Err((Rejection::NoSuchActor, job));
        };
        entry.submit(job, self.why_gone())
    }

    /// Gives a core an event for its subscribers, unless half of the queue into it is taken: the rest is for what is wanted
    /// of it. Returns whether it has got in.
    pub(super) fn submit_event(&self, core: CoreId, job: CoreJob) -> bool {
        let entry = self.entries.get(core.index());
        entry.is_some_and(Ingress::is_half_free) && self.submit(core, job).is_ok()
    }

    /// How many cores run actors.
    pub(super) fn data_cores(&self) -> usize {
        self.data_cores
    }

    /// Gives a core what is owed to it, however full its queue is and even while the gate is closed.
    fn submit_owed(&self, core: CoreId, job: CoreJob) -> Result<(), (Rejection, CoreJob)> {
        let Some(entry) = self.entries.get(core.index()) else {
            return Err((Rejection::NoSuchActor, job));
        };
        entry.submit_owed(job, self.why_gone())
    }

    /// Tells every core to stop at the end of its turn, without draining.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only real threads stop one by one")
    )]
    pub(crate) fn stop_all(&self) {
        self.entries.iter().for_each(Ingress::stop);
    }

    fn why_gone(&self) -> Rejection {
        if self.closed.load(Ordering::Relaxed) {
            Rejection::ShuttingDown
        } else {
            Rejection::CoreDied
        }
    }

    pub(crate) fn submit(&self, core: CoreId, job: CoreJob) -> Result<(), (Rejection, CoreJob)> {
        if self.closed.load(Ordering::Relaxed) {
            return Err((Rejection::ShuttingDown, job));
        }
        self.submit_always(core, job)
    }
}

impl Exit for Gate {
    fn leave(&self, (address, why): Orphan) {
        // A core that is gone has ended its asks.
        let _ = self.submit_owed(
            address.core(),
            call(move |local| local.fail_ask(address, why)),
        );
    }
}

/// The runtime from any thread: `Clone`, `Send`, and usable from any asynchronous runtime, since every result is a
/// [`Pending`] that can be awaited or waited for.
///
/// Each clone sends through one core of its own, so what one clone sends to one receiver arrives in order; clones spread
/// over the cores. A message waits in a bounded queue until its core takes it; when that is full it is refused.
pub struct Handle {
    gate: Arc<Gate>,
    pub(super) entry: CoreId,
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle::new(self.gate.clone())
    }
}

impl Handle {
    pub(crate) fn new(gate: Arc<Gate>) -> Handle {
        let entry = gate.next.fetch_add(1, Ordering::Relaxed) % gate.data_cores.max(1);
        Handle {
            gate,
            entry: CoreId(entry as u16),
        }
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The core through which it sends.
    pub(crate) fn entry(&self) -> CoreId {
        self.entry
    }

    /// Has something done on a core, however full its queue is: for whoever sees to it that there are only so many such
    /// calls at once. If the core is gone, nothing happens.
    pub(crate) fn owe(&self, core: CoreId, work: impl FnOnce(&mut Local) + Send + 'static) {
        let _ = self.gate.submit_owed(core, call(work));
    }

    /// A clone that sends through this core: the nearest way to receivers that live there.
    ///
    /// # Errors
    /// If there is no such core.
    pub fn through(&self, core: CoreId) -> Result<Handle, SpawnError> {
        self.check(core)?;
        Ok(Handle {
            gate: self.gate.clone(),
            entry: core,
        })
    }

    /// How many cores run actors: `core-0` to the one before this number.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.gate.data_cores
    }

    /// The time right now, read from the clock that [`Context::clock`](super::context::Context::clock) and
    /// [`Scope::clock`] read on the cores: what is taken here and there can be compared. It asks no core, and runs on
    /// when the runtime has ended.
    #[must_use]
    pub fn clock(&self) -> Time {
        (self.gate.clock)()
    }

    /// Sends a message; if it is refused, here or further on, it becomes a counted dead letter.
    pub fn tell<D: Destination>(&self, to: D, message: D::Msg) {
        if let Err((why, tell)) = self.submit_tell(to, message) {
            self.gate.refused.fetch_add(1, Ordering::Relaxed);
            self.gate.lose(tell, why);
        }
    }

    /// Sends a message, and hands it back if it cannot even enter the core. `Ok` means that it waits to enter; a refusal
    /// further on makes it a counted dead letter. To be told of that as well, use [`send`](Handle::send).
    ///
    /// # Errors
    /// The message and the reason; nothing has changed.
    pub fn try_tell<D: Destination>(&self, to: D, message: D::Msg) -> Result<(), Refused<D::Msg>> {
        self.submit_tell(to, message)
            .map_err(|(why, tell)| Refused {
                message: tell.message,
                why,
            })
    }

    fn submit_tell<D: Destination>(&self, to: D, message: D::Msg) -> Result<(), RefusedTell<D>> {
        let tell = Tell {
            to: to.into_owned(),
            message,
        };
        let Err((why, job)) = self.gate.submit(self.entry, Box::new(tell)) else {
            return Ok(());
        };
        match (job as Box<dyn Any>).downcast() {
            Ok(tell) => Err((why, tell)),
            Err(_) => unreachable!("what comes back is what was submitted"),
        }
    }

    /// Sends a message, and resolves once it lies in the receiver's mailbox. If it leaves the node, its receipt may get lost:
    /// after twice [`Settings::ask_timeout`](crate::Settings::ask_timeout) it ends as unknown.
    pub fn send<D: Destination>(&self, to: D, message: D::Msg) -> Pending<Result<(), AskError>> {
        let to = to.into_owned();
        let (completer, stored) = pending(Err(Uncertainty::RuntimeGone.into()));
        self.submit_awaited(completer, move |local, completer| {
            local.send(
                to,
                message,
                Box::new(move |_, outcome| completer.complete(outcome.map(|Stored| ()))),
            );
        });
        stored
    }

    /// Asks, and waits for the reply as long as [`Settings::ask_timeout`](crate::Settings::ask_timeout) says, 5 s by
    /// default.
    pub fn ask<D: Destination, R: Message>(
        &self,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg + Send + 'static,
    ) -> Pending<Result<R, AskError>> {
        self.ask_within(self.gate.ask_timeout, to, make)
    }

    /// Asks, with a time to wait of your own.
    pub fn ask_within<D: Destination, R: Message>(
        &self,
        within: Duration,
        to: D,
        make: impl FnOnce(ReplyTo<R>) -> D::Msg + Send + 'static,
    ) -> Pending<Result<R, AskError>> {
        let to = to.into_owned();
        let (completer, reply) = pending(Err(Uncertainty::RuntimeGone.into()));
        self.submit_awaited(completer, move |local, completer| {
            local.ask(
                to,
                within,
                make,
                Box::new(move |_, outcome| completer.complete(outcome)),
            );
        });
        reply
    }

    /// Answers an ask. It needs no room in the queue into the core: replies are never refused because that is full.
    pub fn reply<R: Message>(&self, to: ReplyTo<R>, reply: R) {
        let reply = Reply { to, reply };
        if let Err((why, reply)) = self.gate.submit_owed(reply.to.core(), Box::new(reply)) {
            self.gate.lose(reply, why);
        }
    }

    /// Starts an actor on this handle's core. It has no parent, and stops when it fails; see
    /// [`spawn_supervised`](Handle::spawn_supervised).
    pub fn spawn<A: Actor>(
        &self,
        factory: impl FnOnce() -> A + Send + 'static,
    ) -> Pending<Result<ActorRef<A::Msg>, SpawnError>> {
        self.spawn_on(self.entry, factory)
    }

    /// Starts an actor on a core. It has no parent, and stops when it fails; see
    /// [`spawn_supervised`](Handle::spawn_supervised).
    pub fn spawn_on<A: Actor>(
        &self,
        core: CoreId,
        factory: impl FnOnce() -> A + Send + 'static,
    ) -> Pending<Result<ActorRef<A::Msg>, SpawnError>> {
        self.spawn_by(core, |local| local.spawn_root(factory))
    }

    /// Starts an actor that has a name or a mailbox of its own kind on a core. It is made once: it cannot be restarted, and
    /// stops when it fails, unless its supervision has it resume.
    pub fn spawn_with<A: Actor>(
        &self,
        core: CoreId,
        options: impl Into<SpawnOptions>,
        factory: impl FnOnce() -> A + Send + 'static,
    ) -> Pending<Result<ActorRef<A::Msg>, SpawnError>> {
        let options = options.into();
        self.spawn_by(core, |local| local.spawn_once(options, factory))
    }

    /// Starts an actor on a core that is restarted when it fails: as its options say, or like a child by default. The
    /// factory makes it now, and again then.
    ///
    /// ```
    /// use corecast::base::ids::CoreId;
    /// use corecast::Runtime;
    /// # use corecast::{Actor, Context, Fault, Next};
    /// # struct Printer;
    /// # impl Actor for Printer {
    /// #     type Msg = String;
    /// #     fn receive(&mut self, _: String, _: &mut Context<'_, Self>) -> Result<Next, Fault> { Ok(Next::Continue) }
    /// # }
    ///
    /// let runtime = Runtime::builder().start()?;
    /// let handle = runtime.handle();
    /// let printer = handle.spawn_supervised(CoreId(0), "printer", || Printer).wait()?;
    /// assert_eq!(handle.lookup("printer"), Ok(Some(printer)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_supervised<A: Actor>(
        &self,
        core: CoreId,
        options: impl Into<SpawnOptions>,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Pending<Result<ActorRef<A::Msg>, SpawnError>> {
        let options = options.into().or_supervised(Supervision::default());
        self.spawn_by(core, |local| local.spawn_actor(None, options, factory))
    }

    /// The actor with a name, wherever in the runtime it lives: a root by its name, a child by its
    /// [path](super::context::Context::path). `None` if there is none. On other nodes look
    /// [`lookup_on`](Handle::lookup_on) and [`lookup_anywhere`](Handle::lookup_anywhere).
    ///
    /// # Errors
    /// If it takes other messages.
    pub fn lookup<M: Message>(&self, path: &str) -> Result<Option<ActorRef<M>>, WrongMessageType> {
        self.gate.directory.find(path)
    }

    /// Asks an actor to stop once it has handled what this handle sent to it before. Stopping it again does nothing. For one
    /// of another node it is as certain as a message is: it may get lost when the connection breaks. It is counted as a dead
    /// letter if it had not left yet, and on the other node if that has no room for it.
    ///
    /// # Errors
    /// If the queue into the core is full ([`Rejection::IngressFull`]), or the core or the runtime is about to end. Nothing has
    /// happened then, and the call counts as refused ([`Stats::refused_outside`](crate::Stats::refused_outside)).
    pub fn stop<M: Message>(&self, actor: ActorRef<M>) -> Result<(), Rejection> {
        let job = call(move |local: &mut Local| local.stop_actor_in_order(actor));
        self.gate
            .submit(self.entry, job)
            .map_err(|(why, _)| why)
            .inspect_err(|_| _ = self.gate.refused.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a future on a core; it is made there, so it need not be `Send`.
    pub fn run_on<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        core: CoreId,
        make: impl FnOnce(Scope) -> F + Send + 'static,
    ) -> Pending<Result<T, TaskError>> {
        let (mut completer, result) = pending(Err(TaskError::Refused));
        let job = call(move |local| {
            if !local.has_room_for_task() {
                completer.if_dropped(Err(TaskError::TooManyTasks));
            }
            let scope = Scope::of(local);
            let future = async move { make(scope).await };
            let whole = async move {
                completer.if_dropped(Err(TaskError::Cancelled));
                completer.complete(CatchPanic::new(future).await);
            };
            local.add_job(Box::new(Detached::new(whole)));
        });
        drop(self.gate.submit(core, job));
        result
    }

    /// Has something done on a core; the answer is `None` if the core cannot do it any more.
    pub(crate) fn on_core<T: Send + 'static>(
        &self,
        core: CoreId,
        work: impl FnOnce(&mut Local) -> T + Send + 'static,
    ) -> Pending<Option<T>> {
        let (completer, result) = pending(None);
        // Refused, the completer is dropped, which is an answer.
        let _ = self.submit_call(core, move |local| completer.complete(Some(work(local))));
        result
    }

    /// Has something done on a core, even while the runtime refuses what is new.
    ///
    /// # Errors
    /// `IngressFull` if the core takes nothing now, another if it never will.
    pub(crate) fn submit_call(
        &self,
        core: CoreId,
        work: impl FnOnce(&mut Local) + Send + 'static,
    ) -> Result<(), Rejection> {
        self.gate
            .submit_always(core, call(work))
            .map_err(|(why, _)| why)
    }

    fn spawn_by<M: Message>(
        &self,
        core: CoreId,
        spawn: impl FnOnce(&mut Local) -> Result<ActorRef<M>, SpawnError> + Send + 'static,
    ) -> Pending<Result<ActorRef<M>, SpawnError>> {
        if let Err(error) = self.check(core) {
            return Pending::ready(Err(error));
        }
        let (completer, spawned) = pending(Err(Rejection::ShuttingDown.into()));
        let job = call(move |local| completer.complete(spawn(local)));
        match self.gate.submit(core, job) {
            Ok(()) => spawned,
            Err((why, _)) => Pending::ready(Err(why.into())),
        }
    }

    pub(crate) fn check(&self, core: CoreId) -> Result<(), SpawnError> {
        if core.index() < self.gate.data_cores {
            Ok(())
        } else {
            Err(SpawnError::NoSuchCore(core, self.gate.data_cores))
        }
    }

    /// Submits a call for whose outcome somebody waits; if that is refused, the outcome is the refusal.
    fn submit_awaited<T: Send + 'static>(
        &self,
        completer: Completer<Result<T, AskError>>,
        call: impl FnOnce(&mut Local, Completer<Result<T, AskError>>) + Send + 'static,
    ) {
        if let Err((why, job)) = self
            .gate
            .submit(self.entry, Box::new(Awaited { completer, call }))
        {
            job.reject(why);
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Handle({} of {} cores)",
            self.entry, self.gate.data_cores
        )
    }
}
