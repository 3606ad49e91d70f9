//! What the runtime sends along with messages from core to core: watches, the ends of those who are watched, and what has
//! come from other nodes for them.
//!
//! Signals take the way of the messages, so that an actor's last message arrives before the news of its end. They are never
//! refused: each belongs to a watch, and one of those begins only where there is room. What comes of other nodes has to look
//! for room before (`far_signals`), for they may send what they like.

use super::batch::Batch;
use super::ending::StopCause;
use super::local::Local;
use super::lookups::Found;
use super::outbox::OpenBatch;
use super::reference::CellRef;
use super::refusal::Rejection;
use super::watches::WatchId;
use crate::base::ids::CoreId;
use crate::mesh::lane::LaneClass;
use crate::wire::address::Life;

/// One of them.
pub(crate) enum Signal {
    /// Somebody wants to hear of this actor's end.
    Watch { target: CellRef, by: WatchId },
    /// And does not any more.
    Unwatch { target: CellRef, by: WatchId },
    /// The end of an actor that is watched; the life of a node that says so.
    Terminated {
        number: u64,
        cause: Option<StopCause>,
        from: Life,
    },
    /// A watch was not taken where it was announced.
    Bounced { number: u64 },
    /// A core of another node begins its watches anew: those that it had here are over.
    Forget { life: Life, core: CoreId },
    /// A core of another node, or each of them, wants to hear again who watches somebody on it.
    Rewatch { life: Life, core: Option<CoreId> },
    /// Somebody on another node stops this actor.
    Stop { target: CellRef },
    /// The answer of another node to a lookup.
    Found(Box<Found>),
}

/// Signals to one core.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct SignalBatch {
    signals: Vec<Signal>,
}

impl Batch for SignalBatch {
    fn lane(&self) -> LaneClass {
        LaneClass::Requests
    }

    fn len(&self) -> usize {
        self.signals.len()
    }

    fn deliver(&mut self, local: &mut Local, _from: CoreId) {
        for signal in std::mem::take(&mut self.signals) {
            match signal {
                Signal::Watch { target, by } => local.accept_watch(target, by),
                Signal::Unwatch { target, by } => local.watches.remove_watcher(target, by),
                Signal::Terminated {
                    number,
                    cause,
                    from,
                } => local.terminated_by(number, cause, from),
                Signal::Bounced { number } => local.watch_bounced(number),
                Signal::Forget { life, core } => local.forget_here(life, core),
                Signal::Rewatch { life, core } => local.watch_again(life, core),
                Signal::Stop { target } => local.stop_cell(target),
                Signal::Found(found) => local.found(*found),
            }
        }
    }

    fn reuse(self: Box<Self>, local: &mut Local) {
        local.signals.reuse(self);
    }

    fn is_news(&self) -> bool {
        true
    }

    /// Whoever wants to watch an actor that is out of reach hears that it has gone; here, like all who watch somebody there.
    fn reject(&mut self, local: &mut Local, to: CoreId, _why: Rejection) {
        for signal in std::mem::take(&mut self.signals) {
            match signal {
                Signal::Watch { by, .. } if local.watches.is_own(by) && by.core == local.core => {
                    local.watches.lose(to);
                }
                Signal::Watch { by, .. } => local.tell_terminated(by, None),
                Signal::Unwatch { .. }
                | Signal::Terminated { .. }
                | Signal::Bounced { .. }
                | Signal::Forget { .. }
                | Signal::Rewatch { .. }
                | Signal::Stop { .. }
                | Signal::Found(_) => {}
            }
        }
    }
}

impl Local {
    /// Sends a signal to another core.
    pub(super) fn signal(&mut self, to: CoreId, signal: Signal) {
        let Some(target) = self.outbox.get_mut(to.index()) else {
            return;
        };
        target.messages += 1;
        let (batch, opened) = self.signals.open(to);
        batch.signals.push(signal);
        let full = batch.signals.len() >= self.limits.batch_messages;
        if opened {
            self.outbox[to.index()].open.push(OpenBatch::Signals);
        }
        if full {
            self.seal(to, OpenBatch::Signals);
        }
    }

    /// Sends a signal behind everything that was sent to that core before. (One that is only sent may leave before what
    /// lies in other open batches, or overtake it.)
    pub(super) fn signal_in_order(&mut self, to: CoreId, signal: Signal) {
        self.close_open_messages(to);
        self.signal(to, signal);
    }

    /// The same, and before everything that is sent to that core later.
    pub(super) fn signal_between(&mut self, to: CoreId, signal: Signal) {
        self.signal_in_order(to, signal);
        if (self.outbox.get(to.index())).is_some_and(|it| it.open.contains(&OpenBatch::Signals)) {
            self.seal(to, OpenBatch::Signals);
        }
    }
}
