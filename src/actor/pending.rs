//! A result that is still to come, for threads and for asynchronous code of any runtime.

use super::guard::{drop_guarded, guarded};
use super::reply;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A result that is still to come: [`wait`](Pending::wait) for it on a plain thread, or `.await` it anywhere.
///
/// It always comes: when the other side goes away, it brings the error that says so. Dropping it gives up the result,
/// not what was asked for.
#[must_use = "a pending result does nothing by itself; wait for it or await it"]
pub struct Pending<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    result: Option<T>,
    waker: Option<Waker>,
    taken: bool,
    /// A thread waits; without one the system call that wakes it is spared, which would double the time of an ask.
    thread_waits: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The other end of a [`Pending`]: brings the result, or, dropped, what was agreed on for that case.
pub(crate) struct Completer<T> {
    shared: Option<Arc<Shared<T>>>,
    if_dropped: Option<T>,
}

/// A pending result and the end that completes it; dropped, that end completes it with `if_dropped`.
pub(crate) fn pending<T>(if_dropped: T) -> (Completer<T>, Pending<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            result: None,
            waker: None,
            taken: false,
            thread_waits: false,
        }),
        arrived: Condvar::new(),
    });
    (
        Completer {
            shared: Some(shared.clone()),
            if_dropped: Some(if_dropped),
        },
        Pending { shared },
    )
}

impl<T> Completer<T> {
    /// What it completes with when it is dropped from now on.
    pub(crate) fn if_dropped(&mut self, result: T) {
        self.if_dropped = Some(result);
    }

    /// Whether somebody still has the other end.
    pub(crate) fn is_awaited(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| Arc::strong_count(shared) > 1)
    }

    pub(crate) fn complete(mut self, result: T) {
        if let Some(shared) = self.shared.take() {
            finish(shared, result);
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        if let (Some(shared), Some(result)) = (self.shared.take(), self.if_dropped.take()) {
            finish(shared, result);
        }
    }
}

/// Whoever completes is a core or a thread of the runtime, so what fails of the user's ends here: the waker of a foreign
/// executor, and the result's destructor when nobody waits any more.
fn finish<T>(shared: Arc<Shared<T>>, result: T) {
    let mut state = shared.lock();
    state.result = Some(result);
    let waker = state.waker.take();
    let thread_waits = state.thread_waits;
    drop(state);
    if thread_waits {
        shared.arrived.notify_one();
    }
    if let Some(waker) = waker {
        wake(waker);
    }
    if let Some(unwanted) = Arc::into_inner(shared) {
        drop_guarded(unwanted);
    }
}

fn wake(waker: Waker) {
    if let Err(panic) = guarded(|| waker.wake()) {
        tracing::error!(panic, "the waker of a pending result panicked");
    }
}

impl<T> Pending<T> {
    /// A result that is there already.
    pub(crate) fn ready(result: T) -> Pending<T> {
        Pending {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    result: Some(result),
                    waker: None,
                    taken: false,
                    thread_waits: false,
                }),
                arrived: Condvar::new(),
            }),
        }
    }

    /// Blocks this thread until the result is there.
    ///
    /// # Panics
    /// On a core: whoever blocks a core keeps everything there from running, very likely also what it waits for. Await
    /// the result in a future instead, or have it sent as a message.
    pub fn wait(self) -> T {
        assert_may_block();
        let mut state = self.shared.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            state.thread_waits = true;
            state = self
                .shared
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks this thread until the result is there or the time is up; then it gives itself back.
    ///
    /// # Errors
    /// `self`, if the time is up.
    ///
    /// # Panics
    /// On a core, like [`wait`](Pending::wait).
    pub fn wait_for(self, limit: Duration) -> Result<T, Pending<T>> {
        assert_may_block();
        let mut state = self
            .shared
            .arrived
            .wait_timeout_while(self.shared.lock(), limit, |state| {
                state.thread_waits = true;
                state.result.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if let Some(result) = state.result.take() {
            return Ok(result);
        }
        drop(state);
        Err(self)
    }

    /// The result, if it is there.
    ///
    /// # Errors
    /// `self`, if it is not.
    pub fn try_take(self) -> Result<T, Pending<T>> {
        let result = self.shared.lock().result.take();
        result.ok_or(self)
    }
}

pub(crate) fn assert_may_block() {
    assert!(
        !reply::on_core(),
        "to wait here would block a core, and everything on it: await the result in a future (Context::spawn), or have it sent as a message"
    );
}

impl<T> Future for Pending<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.shared.lock();
        assert!(
            !state.taken,
            "a pending result was polled after it had been taken"
        );
        match state.result.take() {
            Some(result) => {
                state.taken = true;
                Poll::Ready(result)
            }
            None => {
                if !state
                    .waker
                    .as_ref()
                    .is_some_and(|known| known.will_wake(context.waker()))
                {
                    state.waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("ready", &self.shared.lock().result.is_some())
            .finish()
    }
}

impl<T> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            std::mem::forget(self);
            panic!("on purpose");
        }
    }

    #[test]
    fn who_completes_is_safe_from_the_results_destructor_and_the_waiters_waker() {
        let (completer, unwanted) = pending(None);
        drop(unwanted);
        completer.complete(Some(Bomb));
        let (completer, mut wanted) = pending(0);
        let waker = Waker::from(Arc::new(Bomb));
        let polled = Pin::new(&mut wanted).poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Pending);
        completer.complete(7);
        std::mem::forget(waker);
        assert_eq!(wanted.try_take().unwrap(), 7);
    }

    #[test]
    fn brings_the_result_or_what_was_agreed_on() {
        let (completer, result) = pending(Err("gone"));
        std::thread::spawn(move || completer.complete(Ok(7)));
        assert_eq!(result.wait(), Ok(7));
        let (completer, result) = pending(Err::<u8, _>("gone"));
        drop(completer);
        assert_eq!(
            result.wait_for(Duration::from_secs(60)).unwrap(),
            Err("gone")
        );
        let (completer, result) = pending(0);
        let result = result
            .try_take()
            .unwrap_err()
            .wait_for(Duration::ZERO)
            .unwrap_err();
        completer.complete(3);
        assert_eq!(result.try_take().unwrap(), 3);
    }
}
