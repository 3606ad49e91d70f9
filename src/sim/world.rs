//! The world: which core turns next, and how time passes.
//!
//! Every core has a time of its own, at which its last turn ended. The one that is due first turns next, so that cores
//! are busy side by side as they are on threads; how long turns take comes from the seed, and with it the interleaving.

use super::check;
use super::clock::{CoreTime, OutsideTime};
use super::data_sockets::DataSockets;
use super::elsewhere::Pool;
use super::foreign::Foreign;
use super::injection::Injector;
use super::trace::Recorder;
use crate::actor::guard::{drop_all_guarded, listening};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::engine::core::Engine;
use crate::mesh::doorbell::Doorbell;
use rand::RngExt;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};

/// From the ring of a bell to the next turn of the core, at most, in nanoseconds.
const WAKE_LATENCY: u64 = 50_000;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was done.
    Done,
    /// Nothing is due before the limit, which is the time now.
    Later,
    /// Nothing will ever be due again.
    Never,
}

thread_local! {
    /// How often cores of any world on this thread have been woken.
    static RINGS: Cell<u32> = const { Cell::new(0) };
}

/// How often cores of any world on this thread have been woken since the last call.
pub(super) fn take_all_rings() -> u32 {
    RINGS.take()
}

struct Alarm {
    rung: AtomicBool,
    rings: AtomicU32,
    foreign: Arc<Foreign>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.foreign.woken("a core");
        self.rung.store(true, Ordering::Release);
        self.rings.fetch_add(1, Ordering::Relaxed);
        RINGS.set(RINGS.get().wrapping_add(1));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Awake { at: u64 },
    Asleep { until: Option<u64> },
    Stopped,
}

/// One core of the world.
pub(super) struct Core {
    pub(super) engine: Engine,
    bell: Arc<Doorbell>,
    alarm: Arc<Alarm>,
    waker: Waker,
    time: Rc<CoreTime>,
    state: State,
    /// Its connections to other nodes, in a cluster.
    pub(super) data: Option<Box<DataSockets>>,
}

impl Core {
    pub(super) fn new(
        engine: Engine,
        bell: Arc<Doorbell>,
        time: Rc<CoreTime>,
        foreign: Arc<Foreign>,
    ) -> Core {
        let alarm = Arc::new(Alarm {
            rung: AtomicBool::new(false),
            rings: AtomicU32::new(0),
            foreign,
        });
        let waker = Waker::from(alarm.clone());
        Core {
            engine,
            bell,
            alarm,
            waker,
            time,
            state: State::Awake { at: 0 },
            data: None,
        }
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    fn due(&self) -> Option<u64> {
        match self.state {
            State::Awake { at } => Some(at),
            State::Asleep { until } => until.map(|until| until.max(self.time.nanos())),
            State::Stopped => None,
        }
    }
}

/// How often and for how long cores stand still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stalls {
    /// One turn in so many is followed by a stall.
    pub(super) one_in: u32,
    /// Its longest duration, in nanoseconds.
    pub(super) longest: u64,
}

/// All cores, and what is elsewhere.
pub(super) struct World {
    pub(super) seed: u64,
    /// A panic has said how the run is replayed.
    pub(super) has_failed: Cell<bool>,
    pub(super) cores: Vec<Core>,
    pub(super) pool: Pool,
    pub(super) recorder: Rc<RefCell<Recorder>>,
    pub(super) injector: Rc<RefCell<Injector>>,
    pub(super) foreign: Arc<Foreign>,
    pub(super) rng: Rng,
    pub(super) stalls: Option<Stalls>,
    pub(super) now: u64,
    /// The same for handles.
    pub(super) outside: OutsideTime,
}

impl World {
    /// Does the next thing, unless it is due after `limit`.
    ///
    /// # Panics
    /// If something foreign has come to light.
    pub(super) fn step(&mut self, limit: u64) -> Step {
        let (step, panics) = listening(|| self.do_next(limit));
        self.foreign.hear(&panics);
        self.check_foreign();
        let broken = self.injector.borrow_mut().take_broken();
        if let Some(panic) = broken {
            self.fail(format_args!("an injection panicked: {panic}"));
        }
        step
    }

    /// Drops what is left, the cores first, and hears what that says.
    pub(super) fn end(&mut self) {
        let ((), panics) = listening(|| {
            drop_all_guarded(self.cores.drain(..));
            self.pool.end();
        });
        self.foreign.hear(&panics);
    }

    /// Has every core count what has come in since it stopped.
    pub(super) fn sweep(&mut self) {
        let ((), panics) = listening(|| {
            for core in &mut self.cores {
                let _on_core = core.engine.enter(None);
                core.engine.sweep();
            }
        });
        self.foreign.hear(&panics);
        self.check_foreign();
    }

    /// Fails the run if something foreign has come to light.
    pub(super) fn check_foreign(&self) {
        if let Some(what) = self.foreign.take() {
            self.fail(format_args!("{what}"));
        }
    }

    /// Fails the run.
    #[track_caller]
    pub(super) fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        self.has_failed.set(true);
        check::fail(self.seed, what)
    }

    fn do_next(&mut self, limit: u64) -> Step {
        self.hear_alarms();
        let work = self.pool.next_due(self.now);
        let Some(first) = self.cores.iter().filter_map(Core::due).chain(work).min() else {
            return Step::Never;
        };
        if first > limit {
            self.reach(limit);
            return Step::Later;
        }
        self.reach(first);
        let due: Vec<usize> = (0..self.cores.len())
            .filter(|core| self.cores[*core].due().is_some_and(|at| at <= self.now))
            .collect();
        let work_is_due = work.is_some_and(|at| at <= self.now);
        let chosen = self
            .rng
            .random_range(0..due.len() + usize::from(work_is_due));
        match due.get(chosen) {
            Some(core) => self.turn(*core),
            None => {
                if let Some(number) = self.pool.run_one(self.now) {
                    self.recorder
                        .borrow_mut()
                        .record_elsewhere(self.now, number);
                }
            }
        }
        Step::Done
    }

    /// When something is to be done next.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        self.hear_alarms();
        let work = self.pool.next_due(self.now);
        self.cores.iter().filter_map(Core::due).chain(work).min()
    }

    /// How often its cores have been woken since the last call.
    pub(super) fn take_rings(&mut self) -> u32 {
        let rings = self.cores.iter().map(|core| &core.alarm.rings);
        rings.map(|rings| rings.swap(0, Ordering::Relaxed)).sum()
    }

    /// Something has come to a core from outside: it turns soon.
    pub(super) fn stir(&mut self, core: usize) {
        let core = &mut self.cores[core];
        if matches!(core.state, State::Asleep { .. }) {
            let at = self.now.max(core.time.nanos());
            core.state = State::Awake { at };
        }
    }

    /// A core turns at a time at the latest.
    pub(super) fn wake_by(&mut self, core: usize, at: Time) {
        if let State::Asleep { until } = &mut self.cores[core].state {
            let at = at.as_nanos();
            *until = Some(until.map_or(at, |until| until.min(at)));
        }
    }

    /// Does something for the connections of a core between two turns; whether the core should turn again soon.
    pub(super) fn tend(
        &mut self,
        core: usize,
        work: impl FnOnce(&mut Engine, &mut DataSockets) -> bool,
    ) {
        let now = self.now;
        let (again, deadline) = {
            let core = &mut self.cores[core];
            let Some(data) = &mut core.data else {
                return;
            };
            core.time.catch_up(now);
            let engine = &mut core.engine;
            let _on_core = engine.enter(None);
            let (again, panics) = listening(|| work(engine, data));
            self.foreign.hear(&panics);
            (again, data.links.next_deadline())
        };
        self.check_foreign();
        if again {
            self.stir(core);
        }
        if let Some(at) = deadline {
            self.wake_by(core, at);
        }
    }

    /// Does something to a core between two turns, as its driver does.
    pub(super) fn between_turns<T>(
        &mut self,
        core: usize,
        work: impl FnOnce(&mut Engine) -> T,
    ) -> T {
        let now = self.now;
        let result = {
            let core = &mut self.cores[core];
            core.time.catch_up(now);
            let _on_core = core.engine.enter(None);
            let (result, panics) = listening(|| work(&mut core.engine));
            self.foreign.hear(&panics);
            result
        };
        self.check_foreign();
        self.stir(core);
        result
    }

    /// Lets the time pass until then.
    pub(super) fn reach(&mut self, nanos: u64) {
        self.now = self.now.max(nanos);
        self.outside.set(self.now);
    }

    /// Whether anything is being done: no core is awake, none waits for room in a lane or for a move, no work is under
    /// way elsewhere. Timers that have yet to fire do not count.
    pub(super) fn is_idle(&mut self) -> bool {
        self.hear_alarms();
        self.pool.next_due(self.now).is_none()
            && self.cores.iter().all(|core| match core.state {
                State::Awake { .. } => false,
                State::Asleep { .. } => {
                    let mut data = core.data.iter();
                    !core.engine.has_backlog() && data.all(|data| data.is_quiet())
                }
                State::Stopped => true,
            })
    }

    fn hear_alarms(&mut self) {
        for core in &mut self.cores {
            if core.alarm.rung.swap(false, Ordering::AcqRel)
                && matches!(core.state, State::Asleep { .. })
            {
                let at = self.now.max(core.time.nanos()) + self.rng.random_range(0..WAKE_LATENCY);
                core.state = State::Awake { at };
            }
        }
    }

    fn turn(&mut self, index: usize) {
        let core = &mut self.cores[index];
        let _on_core = core.engine.enter(None);
        core.bell.awake();
        core.time.catch_up(self.now);
        let now = Time::from_nanos(self.now);
        let data = core.data.as_mut();
        let more = data.is_some_and(|data| data.pump(&mut core.engine, now));
        let turn = core.engine.turn(None);
        core.time.end_turn();
        let mut end = core.time.nanos();
        if let Some(stalls) = self.stalls
            && self.rng.random_ratio(1, stalls.one_in)
        {
            end += self.rng.random_range(0..stalls.longest);
            core.time.catch_up(end);
        }
        core.state = if turn.stopped {
            State::Stopped
        } else if turn.moved || more || self.rng.random_ratio(1, 4) {
            // An idle core spins for a while before it sleeps.
            State::Awake { at: end }
        } else {
            core.alarm.rung.store(false, Ordering::Release);
            core.bell.announce_sleep(&core.waker);
            if core.engine.has_work() {
                core.bell.awake();
                State::Awake { at: end }
            } else {
                State::Asleep {
                    until: turn.next_wake.map(|at| at.as_nanos().max(end)),
                }
            }
        };
    }
}
