//! A consumer on its core: it joins a stream, sends its demands, and brings what comes to whoever consumes it.

use super::error::{End, StreamError};
use super::feed::StreamEvent;
use super::inlet::Inlet;
use super::outlet::wake_all;
use super::protocol::{Down, Items, Join, UNLIMITED, Up};
use super::reference::StreamRef;
use crate::actor::guard::drop_guarded;
use crate::actor::handle::Handle;
use crate::actor::local::Local;
use crate::actor::refusal::AskError;
use crate::actor::reply::ReplyTo;
use crate::base::ids::CoreId;
use crate::wire::message::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Brings an event to an actor; `false` if that failed, and nothing more is wanted.
pub(crate) type Bring<T> = Box<dyn FnMut(&mut Local, StreamEvent<T>) -> bool + Send>;

/// A consumer, shared by whoever consumes and the asks that are open on its core.
pub(crate) struct Inflow<T: Message> {
    state: Mutex<State<T>>,
    core: CoreId,
    /// None if the core had gone before.
    handle: Option<Handle>,
}

struct State<T: Message> {
    inlet: Inlet<T>,
    /// For the next demand; away while one is open.
    up: Option<ReplyTo<Up<T>>>,
    lease: Option<ReplyTo<Up<T>>>,
    /// The core has been told that a demand is due.
    poked: bool,
    /// Who waits for an item.
    waker: Option<Waker>,
    /// Of a consumer that is an actor; away while it is at work.
    bring: Option<Bring<T>>,
}

impl<T: Message> Inflow<T> {
    /// A consumer whose asks will be those of `core`: one that keeps what comes, or one that has it brought to an actor.
    pub(crate) fn new(core: CoreId, handle: Option<Handle>, bring: Option<Bring<T>>) -> Self {
        let state = State {
            inlet: Inlet::new(),
            up: None,
            lease: None,
            poked: false,
            waker: None,
            bring,
        };
        Inflow {
            state: Mutex::new(state),
            core,
            handle,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a stream, of which it asks for `ahead` items before somebody wants them.
    pub(crate) fn join(self: &Arc<Self>, local: &mut Local, stream: StreamRef<T>, ahead: usize) {
        let is_to_ask = {
            let inlet = &mut self.lock().inlet;
            inlet.ask_ahead(ahead);
            inlet.wants() > 0
        };
        let inflow = self.clone();
        let joined = Box::new(move |local: &mut Local, said| inflow.heard(local, said));
        let join = |to| Join { is_to_ask, to };
        local.ask(stream.hub, UNLIMITED, join, joined);
    }

    /// The stream has said something other than the answer to a demand.
    fn heard(self: &Arc<Self>, local: &mut Local, said: Result<Down<T>, AskError>) {
        match said {
            Ok(Down::Joined { up, lease, hello }) => self.joined(local, up, lease, hello),
            Ok(Down::End(end)) => self.end(local, end),
            Ok(Down::Items { items, up }) => self.received(local, items, up),
            Err(AskError::Rejected(why)) => self.end(local, Err(why.into())),
            Err(AskError::Unknown(_)) => self.end(local, Err(StreamError::Lost)),
        }
    }

    fn joined(
        self: &Arc<Self>,
        local: &mut Local,
        up: ReplyTo<Up<T>>,
        lease: ReplyTo<Up<T>>,
        hello: ReplyTo<Up<T>>,
    ) {
        let inflow = self.clone();
        let closing = Box::new(move |local: &mut Local, said| inflow.heard(local, said));
        match local.open_ask(UNLIMITED, closing) {
            Ok(closing) => local.reply(hello, Up::Hello { closing }),
            Err((why, _)) => self.end(local, Err(why.into())),
        }
        let mut state = self.lock();
        if state.inlet.is_over() {
            drop(state);
            let unused = Items::none();
            return local.reply(lease, Up::Leave { unused });
        }
        (state.up, state.lease) = (Some(up), Some(lease));
        drop(state);
        self.ask(local);
    }

    /// Sends a demand, if one is due.
    fn ask(self: &Arc<Self>, local: &mut Local) {
        let mut state = self.lock();
        if state.inlet.wants() == 0 {
            return;
        }
        let Some(up) = state.up.take() else { return };
        let items = state.inlet.ask();
        drop(state);
        let inflow = self.clone();
        let answered = Box::new(move |local: &mut Local, said| match said {
            Ok(said) => inflow.heard(local, Ok(said)),
            // That the stream has ended, or gone, is said elsewhere.
            Err(_) => _ = inflow.lock().inlet.answered(0),
        });
        match local.open_ask(UNLIMITED, answered) {
            Ok(to) => local.reply(up, Up::Demand { items, to }),
            Err((why, _)) => self.end(local, Err(why.into())),
        }
    }

    fn received(self: &Arc<Self>, local: &mut Local, items: Items<T>, up: ReplyTo<Up<T>>) {
        let mut state = self.lock();
        if !state.inlet.answered(items.len()) {
            drop(state);
            return local.reply(up, Up::Leave { unused: items });
        }
        state.up = Some(up);
        match state.bring.take() {
            None => {
                state.inlet.keep(items.take());
                let waker = state.waker.take();
                drop(state);
                wake_all(waker);
            }
            Some(mut bring) => {
                drop(state);
                let mut items = items.take().into_iter();
                let all = items
                    .by_ref()
                    .all(|(_, item)| bring(local, StreamEvent::Item(item)));
                let mut state = self.lock();
                state.bring = Some(bring);
                if !all {
                    state.inlet.keep(items.collect());
                    drop(state);
                    self.leave();
                }
            }
        }
        self.ask(local);
    }

    /// The stream has ended for this consumer.
    fn end(self: &Arc<Self>, local: &mut Local, end: End) {
        let mut state = self.lock();
        if !state.inlet.finish(end) {
            return;
        }
        let waker = state.waker.take();
        let bring = state.bring.take();
        let end = bring.is_some().then(|| state.inlet.take_end()).flatten();
        drop(state);
        wake_all(waker);
        if let (Some(mut bring), Some(end)) = (bring, end) {
            let event = end.map_or_else(StreamEvent::Failed, |()| StreamEvent::Completed);
            bring(local, event);
            self.leave();
        }
    }

    /// It could not be brought to its core, so nothing has begun.
    pub(crate) fn fail(&self, why: StreamError) {
        let mut state = self.lock();
        state.inlet.finish(Err(why));
        let waker = state.waker.take();
        drop(state);
        wake_all(waker);
    }

    /// Lets it ask for more.
    pub(crate) fn allow(self: &Arc<Self>, items: usize) {
        let mut state = self.lock();
        state.inlet.allow(items);
        self.poke(state);
    }

    /// The next item, or the end; `None` after that.
    pub(crate) fn poll(
        self: &Arc<Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, StreamError>>> {
        let mut state = self.lock();
        if let Some(item) = state.inlet.take() {
            self.poke(state);
            return Poll::Ready(Some(Ok(item)));
        }
        if let Some(end) = state.inlet.take_end() {
            drop(state);
            self.leave();
            return Poll::Ready(end.err().map(Err));
        }
        if state.inlet.has_left() {
            return Poll::Ready(None);
        }
        let is_known = |known: &Waker| known.will_wake(context.waker());
        let mut before = None;
        if !state.waker.as_ref().is_some_and(is_known) {
            before = state.waker.replace(context.waker().clone());
        }
        state.inlet.wait();
        self.poke(state);
        // Not under the lock: it is code of an executor.
        drop(before);
        Poll::Pending
    }

    /// Has a demand sent that is due: there is one job for each consumer at most.
    fn poke(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        if state.poked || state.up.is_none() || state.inlet.wants() == 0 {
            return;
        }
        state.poked = true;
        drop(state);
        let inflow = self.clone();
        // A core that is gone has ended the ask for the end, and with it the stream.
        if let Some(handle) = &self.handle {
            handle.owe(self.core, move |local| {
                inflow.lock().poked = false;
                inflow.ask(local);
            });
        }
    }

    /// Leaves the stream, from any thread, and gives back what has not been taken out.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        let unused = Items::new(state.inlet.leave());
        let (up, lease) = (state.up.take(), state.lease.take());
        let (bring, waker) = (state.bring.take(), state.waker.take());
        drop(state);
        drop(up);
        if let (Some(handle), Some(lease)) = (&self.handle, lease) {
            handle.reply(lease, Up::Leave { unused });
        }
        // Code of the user's.
        drop_guarded(bring);
        drop_guarded(waker);
    }
}
