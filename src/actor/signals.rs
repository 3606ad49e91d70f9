//! What the runtime sends along with messages from core to core: watches, and the ends of those who are watched.
//!
//! Signals take the way of the messages, so that an actor's last message arrives before the news of its end. They are never
//! refused: each belongs to a watch, and one of those begins only where there is room.

use super::batch::Batch;
use super::ending::StopCause;
use super::local::Local;
use super::outbox::OpenBatch;
use super::reference::CellRef;
use super::refusal::Rejection;
use super::watches::WatchId;
use crate::base::ids::CoreId;
use crate::mesh::lane::LaneClass;

/// One of them.
pub(crate) enum Signal {
    /// Somebody wants to hear of this actor's end.
    Watch { target: CellRef, by: WatchId },
    /// And does not any more.
    Unwatch { target: CellRef, by: WatchId },
    /// The end of an actor that is watched.
    Terminated {
        number: u64,
        cause: Option<StopCause>,
    },
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
                Signal::Terminated { number, cause } => local.terminated(number, cause),
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
                Signal::Watch { by, .. } if by.core == local.core => local.watches.lose(to),
                Signal::Watch { by, .. } => local.tell_terminated(by, None),
                Signal::Unwatch { .. } | Signal::Terminated { .. } => {}
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
}
