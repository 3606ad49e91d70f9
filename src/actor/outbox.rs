//! The outbox: what this core has accepted for others and not yet put into a lane.
//!
//! Messages gather in one open batch for each target and type. A batch goes out when it is full or when the turn ends.
//! A full lane leaves it here, in order, and once as much waits here as may, further sends are refused at the call.

use super::batch::Batch;
use super::control::Control;
use super::local::Local;
use super::reference::CellRef;
use super::refusal::Rejection;
use super::trace::TraceEvent;
use crate::base::ids::CoreId;
use crate::mesh::lane::{LaneClass, Unsent};
use std::collections::{BTreeSet, VecDeque};

/// A table that has an open batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenBatch {
    Class(u16),
    Region(u16),
    Asks(u16),
    Failures,
    Signals,
    Events,
}

/// What waits for one core.
#[derive(Default)]
pub(crate) struct Target {
    /// Tables with an open batch for this core, in the order in which they were opened.
    pub(crate) open: Vec<OpenBatch>,
    requests: VecDeque<Box<dyn Batch>>,
    replies: VecDeque<Box<dyn Batch>>,
    /// Requests that wait here, in open and in sealed batches.
    pub(crate) messages: usize,
    /// Actors whose stop waits here.
    stops: BTreeSet<CellRef>,
    /// Something went into a lane to this core since its bell was looked at.
    pub(crate) to_ring: bool,
}

impl Target {
    /// Counts the stop of an actor. Returns whether it has to be sent: not if one for the same actor is on its way.
    pub(super) fn admit_stop(&mut self, actor: CellRef) -> bool {
        let is_first = self.stops.insert(actor);
        self.messages += usize::from(is_first);
        is_first
    }

    /// The sealed batches that wait for a lane.
    fn waiting(&mut self, class: LaneClass) -> &mut VecDeque<Box<dyn Batch>> {
        match class {
            LaneClass::Replies => &mut self.replies,
            _ => &mut self.requests,
        }
    }

    /// The stops in a batch of requests that is about to leave; mostly none waits here at all.
    fn stops_in(&self, batch: &dyn Batch) -> Vec<CellRef> {
        if self.stops.is_empty() {
            return Vec::new();
        }
        batch.stops()
    }

    /// A batch of requests has left.
    fn has_left(&mut self, messages: usize, stops: &[CellRef]) {
        self.messages -= messages;
        for stopped in stops {
            self.stops.remove(stopped);
        }
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.requests.is_empty() && self.replies.is_empty()
    }
}

impl Local {
    /// Whether nothing waits for any other core.
    pub(crate) fn outbox_is_empty(&self) -> bool {
        self.outbox.iter().all(Target::is_empty)
    }

    /// Closes one open batch and puts it into its lane, if there is room.
    #[cold]
    #[inline(never)]
    pub(crate) fn seal(&mut self, to: CoreId, open: OpenBatch) {
        let target = &mut self.outbox[to.index()];
        target.open.retain(|known| *known != open);
        self.take_open(to, open);
        self.push_sealed(to);
    }

    /// Closes what is open for a core but signals, so that a signal that is added next comes behind it.
    pub(super) fn close_open_messages(&mut self, to: CoreId) {
        let Some(target) = self.outbox.get_mut(to.index()) else {
            return;
        };
        let is_signals = |open: &OpenBatch| *open == OpenBatch::Signals;
        let others: Vec<_> = target
            .open
            .extract_if(.., |open| !is_signals(open))
            .collect();
        for open in others {
            self.take_open(to, open);
        }
    }

    /// Puts everything that waits for others into the lanes, as far as there is room, and wakes those who sleep. Returns
    /// whether anything moved.
    pub(crate) fn flush(&mut self) -> bool {
        for index in 0..self.outbox.len() {
            let to = CoreId(index as u16);
            if !self.outbox[index].is_empty() {
                let open = std::mem::take(&mut self.outbox[index].open);
                for batch in &open {
                    self.take_open(to, *batch);
                }
                // The list's memory serves the next turn.
                self.outbox[index].open = open;
                self.outbox[index].open.clear();
                self.push_sealed(to);
            }
        }
        self.ring_bells()
    }

    /// Wakes the cores that sleep although something lies in their lanes. Returns whether something had been put there.
    pub(crate) fn ring_bells(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.outbox.len() {
            let core = CoreId(index as u16);
            if std::mem::take(&mut self.outbox[index].to_ring) {
                any = true;
                if self.port.doorbell(core).ring() {
                    self.trace(TraceEvent::Wake { core });
                }
                if self.port.doorbell(core).is_gone() {
                    self.take_back(core);
                }
            }
        }
        any
    }

    /// Makes dead letters of what was sent to a core while that was about to go.
    #[cold]
    #[inline(never)]
    fn take_back(&mut self, to: CoreId) {
        let why = self.why_gone();
        while let Some(mut batch) = self.port.take_back(to) {
            batch.reject(self, to, why);
        }
        while let Some(message) = self.port.take_back_control(to) {
            if let Control::Cargo(cargo) = message {
                cargo.reject(self, why);
            }
        }
        self.watches.lose(to);
    }

    pub(crate) fn why_gone(&self) -> Rejection {
        if self.draining || self.stopping {
            Rejection::ShuttingDown
        } else {
            Rejection::CoreDied
        }
    }

    fn take_open(&mut self, to: CoreId, open: OpenBatch) {
        let batch = match open {
            OpenBatch::Class(class) => self.classes[usize::from(class)].seal(to),
            OpenBatch::Region(region) => self.regions[usize::from(region)].seal(to),
            OpenBatch::Asks(table) => self.ask_tables[usize::from(table)].seal(to),
            OpenBatch::Failures => self.failures.seal(to).map(|batch| batch as Box<dyn Batch>),
            OpenBatch::Signals => self.signals.seal(to).map(|batch| batch as Box<dyn Batch>),
            OpenBatch::Events => self.events.seal(to),
        };
        if let Some(batch) = batch {
            let target = &mut self.outbox[to.index()];
            target.waiting(batch.lane()).push_back(batch);
        }
    }

    fn push_sealed(&mut self, to: CoreId) {
        for class in [LaneClass::Replies, LaneClass::Requests] {
            loop {
                let target = &mut self.outbox[to.index()];
                let Some(batch) = target.waiting(class).pop_front() else {
                    break;
                };
                let messages = batch.len();
                let stops = target.stops_in(&*batch);
                match self.port.send_batch(to, class, batch) {
                    Ok(()) => {}
                    Err(Unsent::Full(batch)) => {
                        target.waiting(class).push_front(batch);
                        break;
                    }
                    Err(Unsent::Gone(batch)) => {
                        self.reject_batch(to, batch);
                        continue;
                    }
                }
                if class == LaneClass::Requests {
                    target.has_left(messages, &stops);
                    self.counters.sent_requests += messages as u64;
                }
                target.to_ring = true;
                self.counters.batches_sent += 1;
                self.trace(TraceEvent::Flush {
                    to,
                    class,
                    messages,
                });
            }
        }
    }

    /// Makes dead letters of a batch for a core that is gone; asks in it end as rejected.
    #[cold]
    #[inline(never)]
    fn reject_batch(&mut self, to: CoreId, mut batch: Box<dyn Batch>) {
        if batch.lane() == LaneClass::Requests {
            let target = &mut self.outbox[to.index()];
            let stops = target.stops_in(&*batch);
            target.has_left(batch.len(), &stops);
        }
        let why = self.why_gone();
        batch.reject(self, to, why);
        self.watches.lose(to);
    }

    /// Makes dead letters of the requests that wait for others; for the end. Replies and failed asks stay, for those who
    /// wait for them may live on; and if only this core ends, so does what tells the others.
    pub(crate) fn reject_requests(&mut self, why: Rejection) {
        for index in 0..self.outbox.len() {
            let to = CoreId(index as u16);
            for open in std::mem::take(&mut self.outbox[index].open) {
                self.take_open(to, open);
            }
            let target = &mut self.outbox[index];
            let requests = std::mem::take(&mut target.requests);
            let others_live_on = !self.draining;
            let (news, rejected): (VecDeque<_>, VecDeque<_>) = requests
                .into_iter()
                .partition(|batch| others_live_on && batch.is_news());
            target.messages = news.iter().map(|batch| batch.len()).sum();
            target.requests = news;
            target.stops.clear();
            for mut batch in rejected {
                batch.reject(self, to, why);
            }
        }
    }

    /// Drops everything that still waits for others, when nobody can take it any more.
    pub(crate) fn reject_outbox(&mut self, why: Rejection) {
        self.reject_requests(why);
        for index in 0..self.outbox.len() {
            let to = CoreId(index as u16);
            // What the rejected requests have left behind.
            for open in std::mem::take(&mut self.outbox[index].open) {
                self.take_open(to, open);
            }
            let target = &mut self.outbox[index];
            target.messages = 0;
            let rest = std::mem::take(&mut target.replies);
            let news = std::mem::take(&mut target.requests);
            for mut batch in rest.into_iter().chain(news) {
                batch.reject(self, to, why);
            }
        }
    }
}
