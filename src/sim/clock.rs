//! The virtual clock of one core: it advances by what the core does, by amounts from the seed.

use super::foreign::Foreign;
use super::injection::Injector;
use super::trace::Recorder;
use crate::actor::handle::OutsideClock;
use crate::actor::local::Clock;
use crate::actor::reference::CellRef;
use crate::actor::trace::{TraceEvent, Tracer, Upcoming, Verdict};
use crate::base::ids::CoreId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use rand::RngExt;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

/// What things cost in virtual time, each drawn anew from zero to twice its mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    pub(super) turn: Duration,
    pub(super) activation: Duration,
    pub(super) message: Duration,
}

/// Time on one core, and the randomness by which it passes.
#[derive(Debug)]
pub(super) struct CoreTime {
    nanos: Cell<u64>,
    rng: RefCell<Rng>,
    costs: Costs,
}

impl CoreTime {
    pub(super) fn new(rng: Rng, costs: Costs) -> Rc<CoreTime> {
        Rc::new(CoreTime {
            nanos: Cell::new(0),
            rng: RefCell::new(rng),
            costs,
        })
    }

    pub(super) fn nanos(&self) -> u64 {
        self.nanos.get()
    }

    /// The core cannot be earlier than the world around it.
    pub(super) fn catch_up(&self, nanos: u64) {
        self.nanos.set(self.nanos.get().max(nanos));
    }

    /// A turn is over.
    pub(super) fn end_turn(&self) {
        self.spend(self.costs.turn);
    }

    fn spend(&self, mean: Duration) {
        let mean = mean.as_nanos() as u64;
        if mean > 0 {
            let took = self.rng.borrow_mut().random_range(0..=2 * mean);
            self.nanos.set(self.nanos.get() + took);
        }
    }
}

/// The world's time, for handles; those outside of the cores may be on any thread.
#[derive(Clone, Debug, Default)]
pub(super) struct OutsideTime(Arc<AtomicU64>);

impl OutsideTime {
    pub(super) fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn clock(&self) -> OutsideClock {
        let nanos = self.0.clone();
        Box::new(move || Time::from_nanos(nanos.load(Ordering::Relaxed)))
    }
}

/// The engine's view of a core's time.
pub(super) struct VirtualClock(pub(super) Rc<CoreTime>);

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.nanos.get())
    }

    /// Asked once for each activation, which is what it costs here.
    fn wants_to_yield(&self) -> bool {
        self.0.spend(self.0.costs.activation);
        self.0.rng.borrow_mut().random_ratio(1, 64)
    }
}

/// Writes what a core does into the trace, and has faults injected; a message that is handled takes its time.
pub(super) struct CoreTracer {
    pub(super) core: CoreId,
    pub(super) time: Rc<CoreTime>,
    pub(super) recorder: Rc<RefCell<Recorder>>,
    pub(super) injector: Rc<RefCell<Injector>>,
    pub(super) foreign: Arc<Foreign>,
}

impl Tracer for CoreTracer {
    fn record(&mut self, _turn: Time, event: TraceEvent) {
        self.recorder
            .borrow_mut()
            .record(self.core, self.time.nanos(), event);
        if matches!(event, TraceEvent::Deliver { .. }) {
            self.time.spend(self.time.costs.message);
        }
    }

    fn owe(&mut self, to: Option<CellRef>, outcome: &dyn Any, shown: &dyn Debug) {
        let to = to.map(|to| (self.core, to));
        self.injector.borrow_mut().owe(to, outcome, shown);
    }

    fn judge(&mut self, upcoming: &Upcoming<'_>) -> Verdict {
        self.injector.borrow_mut().judge(self.core, upcoming)
    }

    fn may_interfere(&self) -> bool {
        self.injector.borrow().may_interfere()
    }

    fn waker(&mut self, waker: Waker) -> Waker {
        self.foreign.watch(self.core, waker)
    }
}
