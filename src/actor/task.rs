//! Futures on a core: who polls them, how they are woken, and where their results go.
//!
//! The engine polls them between activations, on the core's own thread. A waker works from every thread: it puts the
//! task's number into the core's list and rings the core's bell. Each task is in that list at most once, so the list is
//! bounded by the number of tasks.

use super::context::Recipient;
use super::guard::{drop_guarded, guarded};
use super::local::{Local, TimerEvent};
use super::model::Fault;
use super::pending::{Pending, pending};
use super::reference::CellRef;
use super::refusal::{TaskError, Uncertainty};
use super::reply;
use crate::base::timer_wheel::TimerKey;
use crate::mesh::doorbell::Doorbell;
use crate::wire::message::Message;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A pending future of this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Runs work on threads of its own: the core's pool for blocking calls, a tokio runtime, or any other.
///
/// With the feature `tokio`, `tokio::runtime::Handle` is one.
pub trait Executor: Send + Sync {
    /// Takes a future to run it to its end. Dropping it instead refuses it, or cancels it if it has been polled, and
    /// whoever waits for its result hears which ([`TaskError::Refused`], [`TaskError::Cancelled`]).
    fn execute(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>);
}

#[cfg(feature = "tokio")]
impl Executor for tokio::runtime::Handle {
    fn execute(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.spawn(work));
    }
}

/// A future together with what becomes of its result.
pub(crate) trait Job {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;
    /// Drops the future. Nothing of the core may be borrowed, since what the future holds may use its scope.
    fn abandon(&mut self);
    /// Hands the result, or the reason why there is none, to whoever asked for it.
    fn finish(self: Box<Self>, local: &mut Local, failed: Option<TaskError>);
    fn name(&self) -> &'static str;
    /// The actor of which it is the handler, or part of one.
    fn owner(&self) -> Option<CellRef> {
        None
    }
}

struct Task {
    generation: u32,
    next_free: u32,
    job: Option<Box<dyn Job>>,
    waker: Option<Arc<TaskWaker>>,
    deadline: Option<TimerKey>,
}

/// What is left of a task; the job is missing while it is being polled.
struct Removed {
    job: Option<Box<dyn Job>>,
    deadline: Option<TimerKey>,
}

/// All pending futures of a core.
pub(crate) struct Tasks {
    tasks: Vec<Task>,
    free: Option<u32>,
    live: usize,
    woken: Arc<Woken>,
    /// Futures that have exceeded their deadline, to be dropped while nothing of the core is borrowed.
    overdue: Vec<Box<dyn Job>>,
    /// (Kept beside the tasks because both are looked at on every activation.)
    pub(crate) detours: Detours,
}

/// Why an actor whose turn it is may have to do something else than handle messages; mostly there is no reason.
#[derive(Default)]
pub(crate) struct Detours {
    /// Some shard of this core is being shipped.
    pub(crate) sealed: bool,
    /// Some actors have ticks to handle first.
    pub(crate) ticks: bool,
}

impl Detours {
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.sealed | self.ticks
    }
}

struct Woken {
    list: Mutex<Vec<TaskId>>,
    any: AtomicBool,
    doorbell: Arc<Doorbell>,
}

struct TaskWaker {
    id: TaskId,
    listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.woken.push(self.id);
        }
    }
}

impl Woken {
    fn push(&self, id: TaskId) {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id);
        self.any.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

impl Tasks {
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Self {
        let woken = Woken {
            list: Mutex::new(Vec::new()),
            any: AtomicBool::new(false),
            doorbell,
        };
        Tasks {
            tasks: Vec::new(),
            free: None,
            live: 0,
            woken: Arc::new(woken),
            overdue: Vec::new(),
            detours: Detours::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    #[inline]
    pub(crate) fn any_woken(&self) -> bool {
        self.woken.any.load(Ordering::Acquire)
    }

    pub(crate) fn take_woken(&self) -> Vec<TaskId> {
        if !self.any_woken() {
            return Vec::new();
        }
        self.woken.any.store(false, Ordering::Relaxed);
        std::mem::take(
            &mut *self
                .woken
                .list
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn get(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks
            .get_mut(id.slot as usize)
            .filter(|task| task.generation == id.generation)
    }

    fn insert(&mut self, job: Box<dyn Job>) -> TaskId {
        let slot = match self.free {
            Some(slot) => {
                let next = self.tasks[slot as usize].next_free;
                self.free = (next != u32::MAX).then_some(next);
                slot
            }
            None => {
                self.tasks.push(Task {
                    generation: 0,
                    next_free: u32::MAX,
                    job: None,
                    waker: None,
                    deadline: None,
                });
                (self.tasks.len() - 1) as u32
            }
        };
        self.live += 1;
        let task = &mut self.tasks[slot as usize];
        let id = TaskId {
            slot,
            generation: task.generation,
        };
        let waker = Arc::new(TaskWaker {
            id,
            listed: AtomicBool::new(false),
            woken: self.woken.clone(),
        });
        task.job = Some(job);
        task.waker = Some(waker.clone());
        waker.wake();
        id
    }

    fn remove(&mut self, id: TaskId) -> Option<Removed> {
        let next_free = self.free.unwrap_or(u32::MAX);
        let task = self.get(id)?;
        task.generation = task.generation.wrapping_add(1);
        task.next_free = next_free;
        task.waker = None;
        let removed = Removed {
            job: task.job.take(),
            deadline: task.deadline.take(),
        };
        self.free = Some(id.slot);
        self.live -= 1;
        Some(removed)
    }

    /// The actor of whose handler a future is part.
    pub(super) fn owner_of(&mut self, id: TaskId) -> Option<CellRef> {
        self.get(id)?.job.as_ref()?.owner()
    }

    pub(super) fn deadline_of(&mut self, id: TaskId) -> Option<&mut TimerKey> {
        self.get(id)?.deadline.as_mut()
    }

    /// Has a future be polled that was woken before and laid aside. It may have ended.
    pub(super) fn wake_again(&self, id: TaskId) {
        self.woken.push(id);
    }

    /// Ends the futures of these actors, as if they were overdue. Their timers come out.
    pub(super) fn end_of(&mut self, mut is_owner: impl FnMut(CellRef) -> bool) -> Vec<TimerKey> {
        let mut timers = vec![];
        for slot in 0..self.tasks.len() {
            let Task {
                generation, job, ..
            } = &self.tasks[slot];
            let owner = job.as_ref().and_then(|job| job.owner());
            if owner.is_some_and(&mut is_owner) {
                let (slot, generation) = (slot as u32, *generation);
                if let Some(removed) = self.remove(TaskId { slot, generation }) {
                    self.overdue.extend(removed.job);
                    timers.extend(removed.deadline);
                }
            }
        }
        timers
    }

    /// Takes a woken future out, to be polled while nothing of the core is borrowed.
    pub(crate) fn start_poll(&mut self, id: TaskId) -> Option<(Box<dyn Job>, Waker)> {
        let task = self.get(id)?;
        let waker = task.waker.clone()?;
        // From here on a wake counts again.
        // A swap, so that whoever found it set has its data seen by this poll.
        waker.listed.swap(false, Ordering::AcqRel);
        Some((task.job.take()?, Waker::from(waker)))
    }

    /// Puts back a future that is not through. It is given back if its task has ended meanwhile.
    pub(crate) fn put_back(&mut self, id: TaskId, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        match self.get(id) {
            Some(task) => {
                task.job = Some(job);
                None
            }
            None => Some(job),
        }
    }

    /// Takes all futures out, for the end.
    pub(crate) fn take_all(&mut self) -> Vec<Box<dyn Job>> {
        let ids: Vec<_> = (0..self.tasks.len())
            .filter(|slot| self.tasks[*slot].waker.is_some())
            .map(|slot| TaskId {
                slot: slot as u32,
                generation: self.tasks[slot].generation,
            })
            .collect();
        let pending: Vec<_> = ids
            .into_iter()
            .filter_map(|id| self.remove(id)?.job)
            .collect();
        self.take_overdue().into_iter().chain(pending).collect()
    }

    pub(crate) fn take_overdue(&mut self) -> Vec<Box<dyn Job>> {
        std::mem::take(&mut self.overdue)
    }
}

/// Polls a job; a panic in it is its failure.
pub(crate) fn poll_job(job: &mut dyn Job, waker: &Waker) -> Poll<Option<TaskError>> {
    let mut context = Context::from_waker(waker);
    match guarded(|| job.poll(&mut context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(None),
        Err(panic) => Poll::Ready(Some(TaskError::Panicked(panic))),
    }
}

impl Local {
    pub(crate) fn has_room_for_task(&self) -> bool {
        self.tasks.len() < self.limits.tasks
    }

    /// Adds a future; if there are too many, it fails at once.
    pub(crate) fn add_job(&mut self, job: Box<dyn Job>) -> Option<TaskId> {
        if !self.has_room_for_task() {
            self.finish_job(job, Some(TaskError::TooManyTasks));
            return None;
        }
        Some(self.tasks.insert(job))
    }

    /// Adds a future that has the time of asynchronous handlers, such as one for which an actor is suspended.
    pub(crate) fn add_job_with_deadline(&mut self, job: Box<dyn Job>) {
        let deadline = self.now + self.limits.async_deadline;
        if let Some(id) = self.add_job(job) {
            let timer = self
                .timers
                .insert(deadline, TimerEvent::Deadline { task: id });
            if let Some(task) = self.tasks.get(id) {
                task.deadline = Some(timer);
            }
        }
    }

    pub(crate) fn end_task(&mut self, id: TaskId, job: Box<dyn Job>, failed: Option<TaskError>) {
        if let Some(Removed {
            deadline: Some(deadline),
            ..
        }) = self.tasks.remove(id)
        {
            self.timers.cancel(deadline);
        }
        self.finish_job(job, failed);
    }

    /// The future of an asynchronous handler has not finished in time. If it has waited for the lease it was not its fault.
    pub(crate) fn deadline_passed(&mut self, id: TaskId) {
        if self.waits_for_lease(id) {
            return self.give_time_anew(id);
        }
        if let Some(Removed { job: Some(job), .. }) = self.tasks.remove(id) {
            self.tasks.overdue.push(job);
        }
    }

    /// Ends an overdue future, which has been abandoned.
    pub(crate) fn end_overdue(&mut self, job: Box<dyn Job>) {
        self.finish_job(job, Some(TaskError::Cancelled));
    }

    /// A panic in what is to be done with the result ends here; the code that could fail for an actor catches its own.
    fn finish_job(&mut self, job: Box<dyn Job>, failed: Option<TaskError>) {
        let name = job.name();
        if let Err(panic) = guarded(|| job.finish(self, failed)) {
            tracing::error!(core = %self.core, task = name, panic, "the end of a future panicked");
        }
    }
}

/// A future whose result becomes a message of the actor that spawned it.
pub(crate) struct Piped<F: Future, M, Then> {
    future: Option<Pin<Box<F>>>,
    result: Option<F::Output>,
    then: Then,
    recipient: Recipient<M>,
    owner: CellRef,
}

impl<F: Future, M, Then> Piped<F, M, Then> {
    pub(crate) fn new(future: F, then: Then, recipient: Recipient<M>, owner: CellRef) -> Self {
        Piped {
            future: Some(Box::pin(future)),
            result: None,
            then,
            recipient,
            owner,
        }
    }
}

impl<F, M, Then> Job for Piped<F, M, Then>
where
    F: Future + 'static,
    M: Message,
    Then: FnOnce(Result<F::Output, TaskError>) -> M + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        poll_once(&mut self.future, &mut self.result, context)
    }

    fn abandon(&mut self) {
        drop_guarded(self.future.take());
    }

    fn finish(self: Box<Self>, local: &mut Local, failed: Option<TaskError>) {
        let this = *self;
        drop_guarded(this.future);
        let outcome = outcome(this.result, failed);
        match guarded(|| (this.then)(outcome)) {
            Ok(message) => this.recipient.deliver(local, message),
            Err(panic) => local.fault_later(this.owner, Fault::panicked(panic)),
        }
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<F>()
    }
}

/// A future for which an actor's mailbox is suspended.
pub(crate) struct Suspending<F: Future, Then, Or> {
    future: Option<Pin<Box<F>>>,
    result: Option<F::Output>,
    /// Makes the continuation, boxed with its actor's type.
    then: Then,
    /// Makes the fault of the actor if there is no result; it is no user's.
    or: Or,
    owner: CellRef,
    /// Which life of the owner is suspended: one that it began after a restart is not.
    life: u64,
}

impl<F: Future, Then, Or> Suspending<F, Then, Or> {
    pub(crate) fn new(future: F, then: Then, or: Or, owner: CellRef, life: u64) -> Self {
        Suspending {
            future: Some(Box::pin(future)),
            result: None,
            then,
            or,
            owner,
            life,
        }
    }
}

/// The fault of an actor whose asynchronous handler has brought no result.
pub(crate) fn handler_fault(error: TaskError) -> Fault {
    match error {
        TaskError::Cancelled => Fault::new("the asynchronous handler exceeded its deadline"),
        TaskError::Panicked(text) => Fault::panicked(text),
        error => Fault::from(error),
    }
}

impl<F, Then, Or> Job for Suspending<F, Then, Or>
where
    F: Future + 'static,
    Then: FnOnce(F::Output) -> Box<dyn Any> + 'static,
    Or: FnOnce(TaskError) -> Fault + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        poll_once(&mut self.future, &mut self.result, context)
    }

    fn abandon(&mut self) {
        reply::discard(Uncertainty::HandlerFailed.into(), self.future.take());
    }

    fn owner(&self) -> Option<CellRef> {
        Some(self.owner)
    }

    fn finish(self: Box<Self>, local: &mut Local, failed: Option<TaskError>) {
        let this = *self;
        // It is part of the handler, and goes down with it.
        match failed {
            Some(_) => reply::discard(Uncertainty::HandlerFailed.into(), this.future),
            None => drop_guarded(this.future),
        }
        let fault = match outcome(this.result, failed) {
            Ok(result) => return local.resume(this.owner, this.life, (this.then)(result)),
            Err(error) => (this.or)(error),
        };
        if local.life(this.owner) == this.life {
            local.fault_later(this.owner, fault);
        }
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<F>()
    }
}

/// A future with nobody's mailbox behind it.
pub(crate) struct Detached<F> {
    future: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Detached<F> {
    pub(crate) fn new(future: F) -> Self {
        Detached {
            future: Some(Box::pin(future)),
        }
    }
}

impl<F: Future<Output = ()> + 'static> Job for Detached<F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        poll_once(&mut self.future, &mut None, context)
    }

    fn abandon(&mut self) {
        drop_guarded(self.future.take());
    }

    fn finish(self: Box<Self>, local: &mut Local, failed: Option<TaskError>) {
        drop_guarded(self.future);
        if let Some(error) = failed {
            tracing::error!(core = %local.core, task = std::any::type_name::<F>(), %error, "a future failed");
        }
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<F>()
    }
}

fn poll_once<F: Future>(
    future: &mut Option<Pin<Box<F>>>,
    result: &mut Option<F::Output>,
    context: &mut Context<'_>,
) -> Poll<()> {
    let Some(running) = future else {
        return Poll::Ready(());
    };
    running
        .as_mut()
        .poll(context)
        .map(|output| *result = Some(output))
}

fn outcome<T>(result: Option<T>, failed: Option<TaskError>) -> Result<T, TaskError> {
    result.ok_or(failed.unwrap_or(TaskError::Cancelled))
}

/// Runs a future elsewhere; its result comes back here.
pub(crate) fn run_elsewhere<T: Send + 'static>(
    executor: &dyn Executor,
    future: impl Future<Output = T> + Send + 'static,
) -> Pending<Result<T, TaskError>> {
    let (mut completer, result) = pending(Err(TaskError::Refused));
    executor.execute(Box::pin(async move {
        completer.if_dropped(Err(TaskError::Cancelled));
        let outcome = CatchPanic::new(future).await;
        completer.complete(outcome);
    }));
    result
}

/// A future that ends with what its panic said instead of unwinding into whoever polls it.
pub(crate) struct CatchPanic<F>(Option<Pin<Box<F>>>);

impl<F: Future> CatchPanic<F> {
    pub(crate) fn new(future: F) -> Self {
        CatchPanic(Some(Box::pin(future)))
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else {
            return Poll::Pending;
        };
        let outcome = match guarded(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(TaskError::Panicked(panic)),
        };
        // Its destructor is the user's too.
        drop_guarded(self.0.take());
        Poll::Ready(outcome)
    }
}
