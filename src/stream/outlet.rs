//! The stream itself, on its core: a channel, the actor that consumers join, and the source that fills it.

use super::channel::{Channel, Fate, Output};
use super::error::StreamError;
use super::protocol::{Down, Item, Items, Join, UNLIMITED, Up};
use super::reference::StreamRef;
use super::settings::StreamSettings;
use super::source::Source;
use crate::actor::context::Context;
use crate::actor::guard::{drop_all_guarded, guarded};
use crate::actor::handle::Handle;
use crate::actor::local::Local;
use crate::actor::model::{Actor, Fault, Next};
use crate::actor::reference::Receiver;
use crate::actor::refusal::{AskError, Rejection, SpawnError, Uncertainty};
use crate::actor::reply::{Envelope, ReplyTo};
use crate::base::ids::CoreId;
use crate::wire::message::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Where a consumer hears of items, or of the end.
type Address<T> = ReplyTo<Down<T>>;

/// A stream, shared by its source, its actor, and the asks that are open on its core.
pub(crate) struct Outlet<T: Message> {
    state: Mutex<State<T>>,
    core: CoreId,
    handle: Handle,
    linger: Duration,
}

pub(crate) struct State<T: Message> {
    pub(crate) channel: Channel<T, Address<T>, Address<T>>,
    /// The core has been told that there is something to do.
    poked: bool,
    /// The core is at it: whoever finds more leaves it to that.
    flushing: bool,
    /// Its actor is about to stop; who joins now comes too late.
    stopping: bool,
    /// The stream has gone from its core.
    closed: bool,
    /// Futures of the producer, by their numbers.
    wakers: BTreeMap<u64, Waker>,
    next_waker: u64,
    /// Ends the wait for a consumer when it is dropped.
    lingering: Option<ReplyTo<()>>,
    stream: Option<StreamRef<T>>,
}

impl<T: Message> State<T> {
    pub(crate) fn is_gone(&self) -> bool {
        self.closed || self.channel.has_ended()
    }

    /// Has a future of the producer woken when something changes: its number, which is made if it has none, and the waker
    /// that it had before.
    pub(crate) fn wake_later(
        &mut self,
        number: Option<u64>,
        waker: &Waker,
    ) -> (u64, Option<Waker>) {
        let number = number.unwrap_or_else(|| {
            self.next_waker += 1;
            self.next_waker
        });
        (number, self.wakers.insert(number, waker.clone()))
    }

    /// A future waits no more.
    pub(crate) fn forget_waker(&mut self, number: u64) -> Option<Waker> {
        self.wakers.remove(&number)
    }
}

/// On what a consumer speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Hello,
    Up,
    Lease,
}

impl<T: Message> Outlet<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the core, if a push has made something of it to do.
    pub(crate) fn poke_if_due(self: &Arc<Self>, state: MutexGuard<'_, State<T>>) {
        if !state.poked && state.channel.has_news() {
            self.poke(state);
        }
    }

    /// Tells the core that there is something to do, once: there is one job for each stream at most.
    pub(crate) fn poke(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        if std::mem::replace(&mut state.poked, true) {
            return;
        }
        drop(state);
        let outlet = self.clone();
        // A core that is gone has closed the stream, or is about to.
        self.handle.owe(self.core, move |local| {
            outlet.lock().poked = false;
            outlet.flush(local);
        });
    }

    /// A consumer wants to join.
    fn admit(self: &Arc<Self>, local: &mut Local, join: Join<T>) {
        let joined = join.to;
        let number = {
            let mut state = self.lock();
            match state.stopping {
                true => Err(Rejection::NoSuchActor.into()),
                false => state.channel.join(join.is_to_ask),
            }
        };
        let number = match number {
            Ok(number) => number,
            Err(why) => return local.reply(joined, Down::End(Err(why))),
        };
        let lines = (
            self.listen(local, number, Line::Up),
            self.listen(local, number, Line::Lease),
            self.listen(local, number, Line::Hello),
        );
        match lines {
            (Ok(up), Ok(lease), Ok(hello)) => {
                local.reply(joined, Down::Joined { up, lease, hello });
            }
            (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => {
                self.leave(number);
                local.reply(joined, Down::End(Err(why.into())));
            }
        }
    }

    /// Opens a way for a consumer to speak.
    fn listen(
        self: &Arc<Self>,
        local: &mut Local,
        number: u64,
        line: Line,
    ) -> Result<ReplyTo<Up<T>>, Rejection> {
        let outlet = self.clone();
        let heard =
            Box::new(move |local: &mut Local, said| outlet.heard(local, number, line, said));
        let open = local.open_ask(UNLIMITED, heard);
        if open.is_ok() && line == Line::Up {
            self.lock().channel.await_consumer(number);
        }
        open.map_err(|(why, _)| why)
    }

    /// A consumer has said something, or cannot any more.
    fn heard(
        self: &Arc<Self>,
        local: &mut Local,
        number: u64,
        line: Line,
        said: Result<Up<T>, AskError>,
    ) {
        let of_no_use = match said {
            Ok(Up::Hello { closing }) => self.lock().channel.set_closing(number, closing),
            Ok(Up::Demand { items, to }) => self.lock().channel.ask(number, items, to),
            Ok(Up::Leave { unused }) => {
                if line == Line::Lease {
                    self.leave(number);
                }
                self.take_back(local, unused);
                None
            }
            Err(_) => {
                if line == Line::Lease {
                    self.leave(number);
                }
                None
            }
        };
        drop(of_no_use);
        if line == Line::Up {
            // Not before what it said: a newcomer must be known to want something all the time.
            self.lock().channel.heard(number);
        }
        self.flush(local);
    }

    fn leave(&self, number: u64) {
        let gone = self.lock().channel.leave(number);
        drop(gone);
    }

    /// Takes back what a consumer does not want any more. Of a broadcast they are copies, which nobody misses.
    fn take_back(&self, local: &mut Local, unused: Items<T>) {
        let mut state = self.lock();
        if !state.channel.is_shared() {
            drop(state);
            drop(unused);
        } else if state.closed {
            drop(state);
            bury(local, unused.take());
        } else {
            state.channel.take_back(unused.take());
        }
    }

    /// Tells everybody what is to be told, and sees to what becomes of the stream.
    fn flush(self: &Arc<Self>, local: &mut Local) {
        {
            let mut state = self.lock();
            if state.closed || std::mem::replace(&mut state.flushing, true) {
                return;
            }
        }
        while let Some(output) = self.next_output() {
            match output {
                Output::Items {
                    consumer,
                    to,
                    items,
                } => {
                    let items = Items::new(items);
                    match self.listen(local, consumer, Line::Up) {
                        Ok(up) => local.reply(to, Down::Items { items, up }),
                        Err(why) => {
                            self.take_back(local, items);
                            self.lock().channel.cut_off(consumer, why.into());
                        }
                    }
                }
                Output::End {
                    closing,
                    end,
                    demand,
                } => {
                    drop(demand);
                    local.reply(closing, Down::End(end));
                }
            }
        }
        self.lock().flushing = false;
        self.settle(local);
    }

    /// What is to be told next. If copying an item panics, the stream has failed.
    fn next_output(&self) -> Option<Output<T, Address<T>, Address<T>>> {
        loop {
            let mut state = self.lock();
            let output = state.channel.next_output();
            let held = match &output {
                Ok(_) => VecDeque::new(),
                Err(panic) => {
                    let why = format!("copying an item panicked: {panic}").into();
                    state.channel.break_off(&StreamError::Failed(why))
                }
            };
            let useless = state.channel.take_useless();
            drop(state);
            drop_all_guarded(useless);
            drop_all_guarded(held);
            match output {
                Ok(output) => return output,
                Err(panic) => {
                    tracing::error!(core = %self.core, item = std::any::type_name::<T>(), panic, "copying an item of a stream panicked: the stream has failed");
                }
            }
        }
    }

    fn settle(self: &Arc<Self>, local: &mut Local) {
        let mut state = self.lock();
        let wakers = std::mem::take(&mut state.wakers);
        let fate = state.channel.fate();
        let lingering = match fate {
            Fate::Lingers => None,
            Fate::Goes | Fate::Over => state.lingering.take(),
        };
        let is_to_linger = fate == Fate::Lingers && state.lingering.is_none();
        drop(state);
        drop(lingering);
        wake_all(wakers.into_values());
        if is_to_linger {
            let outlet = self.clone();
            let tired = Box::new(move |local: &mut Local, ended: Result<(), AskError>| {
                if ended == Err(Uncertainty::Timeout.into()) {
                    outlet.stop(local);
                }
            });
            match local.open_ask(self.linger, tired) {
                Ok(lingering) => self.lock().lingering = Some(lingering),
                Err(_) => self.stop(local),
            }
        }
        if fate == Fate::Over {
            self.stop(local);
        }
    }

    fn stop(&self, local: &mut Local) {
        let mut state = self.lock();
        state.stopping = true;
        let stream = state.stream;
        drop(state);
        if let Some(stream) = stream {
            local.stop_actor_in_order(stream.hub);
        }
    }

    /// The stream goes from its core: nobody hears from it any more. What it held.
    fn close(&self) -> Vec<Item<T>> {
        let mut state = self.lock();
        state.closed = true;
        let wakers = std::mem::take(&mut state.wakers);
        let consumers = state.channel.forget_consumers();
        let held = state.channel.break_off(&StreamError::Lost);
        let useless = state.channel.take_useless();
        let lingering = state.lingering.take();
        drop(state);
        drop((consumers, lingering));
        drop_all_guarded(useless);
        wake_all(wakers.into_values());
        held.into()
    }
}

/// Counts items that nobody will get.
fn bury<T: Message>(local: &mut Local, items: Vec<Item<T>>) {
    for (_, item) in items {
        local.dead_letter(Receiver::Unknown, Rejection::Stopped, Envelope::Plain, item);
    }
}

/// Wakes futures, which may be those of a foreign executor.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(panic) = guarded(|| waker.wake()) {
            tracing::error!(panic, "the waker of a future at a stream panicked");
        }
    }
}

/// The actor that consumers join.
struct Hub<T: Message>(Arc<Outlet<T>>);

impl<T: Message> Actor for Hub<T> {
    type Msg = Join<T>;

    fn receive(&mut self, join: Join<T>, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0.admit(ctx.local, join);
        self.0.flush(ctx.local);
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        bury(ctx.local, self.0.close());
    }
}

impl<T: Message> Drop for Hub<T> {
    /// For a core that could not come to the hook.
    fn drop(&mut self) {
        drop_all_guarded(self.0.close());
    }
}

impl Local {
    /// Opens a stream on this core.
    pub(crate) fn open_stream<T: Message>(
        &mut self,
        settings: StreamSettings<T>,
    ) -> Result<(Source<T>, StreamRef<T>), SpawnError> {
        let limits = &self.limits;
        let channel = Channel::new(
            settings.fan_out,
            settings.buffer.unwrap_or(limits.stream_buffer),
            settings.consumers.unwrap_or(limits.stream_consumers),
        );
        let linger = settings.linger.unwrap_or(limits.stream_linger);
        let state = State {
            channel,
            poked: false,
            flushing: false,
            stopping: false,
            closed: false,
            wakers: BTreeMap::new(),
            next_waker: 0,
            lingering: None,
            stream: None,
        };
        let outlet = Arc::new(Outlet {
            state: Mutex::new(state),
            core: self.core,
            handle: self.handle.clone(),
            linger,
        });
        let hub = self.spawn_root(|| Hub(outlet.clone()))?;
        let stream = StreamRef { hub };
        outlet.lock().stream = Some(stream);
        Ok((Source::new(outlet), stream))
    }
}
