//! Work in the executor of a core whose result is taken from turns.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A future that runs to its end in this thread's executor, whatever becomes of this: nothing is ever cancelled.
#[derive(Debug)]
pub(super) struct InExecutor<T> {
    shared: Rc<RefCell<Shared<T>>>,
}

#[derive(Debug)]
struct Shared<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

impl<T: 'static> InExecutor<T> {
    /// Begins. To be called in an executor.
    pub(super) fn spawn(future: impl Future<Output = T> + 'static) -> InExecutor<T> {
        let shared = Rc::new(RefCell::new(Shared {
            result: None,
            waker: None,
        }));
        let end = shared.clone();
        glommio::spawn_local(async move {
            let result = future.await;
            let mut shared = end.borrow_mut();
            shared.result = Some(result);
            let waker = shared.waker.take();
            drop(shared);
            if let Some(waker) = waker {
                waker.wake();
            }
        })
        .detach();
        InExecutor { shared }
    }

    /// The result, if it is there and was not taken.
    pub(super) fn take(&self) -> Option<T> {
        self.shared.borrow_mut().result.take()
    }

    /// Ready if the result is there; if not, the waker is called once it is.
    pub(super) fn poll_ended(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.borrow_mut();
        if shared.result.is_some() {
            return Poll::Ready(());
        }
        shared.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
