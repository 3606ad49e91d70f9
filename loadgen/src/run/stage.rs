//! A running runtime with what a phase needs around it: books on every core, a board, progress, and an end.

use std::io::Stderr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use corecast::node::settings::Settings;
use corecast::{CoreId, Handle, PinningArgs, Runtime, RuntimeBuilder, ShutdownReport, Time};

use super::board::{Board, Order};
use super::clock::Clock;
use super::error::RunError;
use super::interrupt::Interrupt;
use super::ledger::{DriverId, Ledger, PhaseId};
use super::settings::effective;
use crate::measure::{Recorder, Window};
use crate::options::Setting;
use crate::report::{Activity, Progress, Status};

/// How long what is in flight at the end of a phase, or any answer, is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Time between the order to begin and the beginning, for all drivers to be ready by then.
pub(super) const LEAD: Duration = Duration::from_millis(10);
/// How often the main thread looks up: each time it takes a CPU from a core for a moment.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// The rate of the progress line is a mean of so long.
const RATE_OVER: Duration = Duration::from_millis(500);

/// A runtime under load.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) handle: Handle,
    pub(super) clock: Clock,
    pub(super) interrupt: Interrupt,
    pub(super) settings: Settings,
    runtime: Runtime,
    progress: Progress<Stderr>,
    phases: u16,
}

/// A phase under way.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) id: PhaseId,
    pub(super) board: Arc<Board>,
    /// When its warm-up begins.
    pub(super) begin: Time,
    pub(super) window: Window,
    /// For the drivers to say that they have finished.
    pub(super) finished: SyncSender<DriverId>,
    finishes: Receiver<DriverId>,
    /// Drivers that have yet to finish.
    running: usize,
}

/// What a phase is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhaseSetup {
    /// Drivers, those on threads included.
    pub(super) drivers: usize,
    pub(super) threads: usize,
    /// Time until it begins.
    pub(super) lead: Duration,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
}

/// What the progress line says of a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show<'a> {
    pub(super) name: &'a str,
    /// Its length with the warm-up, where that is known.
    pub(super) total: Option<Duration>,
}

/// The settings that the flags amount to.
pub(super) fn settings_of(pinning: &PinningArgs) -> Settings {
    let mut settings = Settings::default();
    pinning.apply(&mut settings);
    settings
}

impl Stage {
    /// Starts the runtime with these settings and the builder's entity types.
    pub(super) fn start(
        builder: RuntimeBuilder,
        settings: Settings,
        interrupt: Interrupt,
    ) -> Result<Stage, RunError> {
        let runtime = builder.settings(settings.clone()).start()?;
        Ok(Stage {
            handle: runtime.handle(),
            clock: Clock::new(),
            interrupt,
            settings,
            runtime,
            progress: Progress::on_stderr(),
            phases: 0,
        })
    }

    /// The CPU of each core.
    pub(super) fn cpus(&self) -> Vec<usize> {
        self.runtime.plan().data_cores.clone()
    }

    /// The settings that took effect.
    pub(super) fn effective_settings(&self) -> Vec<Setting> {
        effective(&self.settings, self.runtime.plan())
    }

    pub(super) fn cores(&self) -> usize {
        self.handle.cores()
    }

    /// Opens the books of a phase that begins in a moment.
    pub(super) fn begin(&mut self, setup: PhaseSetup) -> Result<Phase, RunError> {
        self.phases += 1;
        let id = PhaseId(self.phases);
        let board = Arc::new(Board::new(self.cores(), setup.drivers, setup.threads));
        let begin = self.clock.now() + setup.lead;
        let window = Window::after_warm_up(begin, setup.warm_up, setup.duration);
        for core in self.handle.core_ids() {
            let ledger = Ledger::new(core.index(), id, self.clock, board.clone(), window);
            self.on_core(core, move || ledger.open())?;
        }
        let (finished, finishes) = sync_channel(setup.drivers);
        Ok(Phase {
            id,
            board,
            begin,
            window,
            finished,
            finishes,
            running: setup.drivers,
        })
    }

    /// Waits until the phase is over, and shows how it goes. `wait` waits a moment and tells whether it is. Returns when
    /// the phase was broken off, if it was.
    pub(super) fn watch(
        &mut self,
        phase: &mut Phase,
        show: Show<'_>,
        mut wait: impl FnMut(&mut Phase) -> bool,
    ) -> Option<Time> {
        let mut interrupted = None;
        let mut give_up = show.total.map(|_| phase.window.end + PATIENCE);
        let mut meter = Meter::new(phase.begin);
        while !wait(phase) {
            let now = self.clock.now();
            self.show(phase, show, &mut meter, now);
            if self.interrupt.is_told() && interrupted.is_none() {
                interrupted = Some(now);
                phase.board.give(Order::Stop);
                give_up = Some(now + PATIENCE);
            }
            if give_up.is_some_and(|limit| now > limit) {
                phase.board.give(Order::Abandon);
                if give_up.is_some_and(|limit| now > limit + PATIENCE) {
                    break;
                }
            }
        }
        interrupted
    }

    /// Closes the books and adds them up.
    pub(super) fn end(&mut self, phase: &Phase, cut: Option<Time>) -> Result<Recorder, RunError> {
        self.progress.clear();
        let mut sum = Recorder::new(phase.window);
        for core in self.handle.core_ids() {
            if let Some(recorder) = self.on_core(core, Ledger::close)? {
                sum.merge(&recorder);
            }
        }
        if let Some(end) = cut {
            sum.cut(end);
        }
        Ok(sum)
    }

    /// Shows progress of something that is no phase.
    pub(super) fn show(&mut self, phase: &Phase, show: Show<'_>, meter: &mut Meter, now: Time) {
        let status = Status {
            phase: show.name.to_owned(),
            elapsed: now - phase.begin,
            total: show.total,
            activity: if now < phase.window.start {
                Activity::WarmingUp
            } else {
                Activity::Measuring
            },
            rate: meter.rate(now, phase.board.completed()),
            latency_ns: phase.board.latency(),
        };
        self.progress.update(now - Time::ZERO, &status);
    }

    /// Shuts the runtime down.
    pub(super) fn close(mut self) {
        self.progress.clear();
        self.runtime.shutdown();
    }

    /// Shuts the runtime down, and says how that went.
    pub(super) fn shut_down(mut self) -> ShutdownReport {
        self.progress.clear();
        self.runtime.shutdown()
    }

    pub(super) fn on_core<T: Send + 'static>(
        &self,
        core: CoreId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RunError> {
        let done = self
            .handle
            .run_on(core, |_| async move { work() })
            .wait_for(PATIENCE);
        done.ok()
            .and_then(Result::ok)
            .ok_or(RunError::CoreGone(core))
    }
}

impl Phase {
    /// Waits a moment for drivers to finish; returns whether all have.
    pub(super) fn wait_for_drivers(&mut self) -> bool {
        match self.finishes.recv_timeout(LOOK) {
            Ok(_) => self.running -= 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.running = 0,
        }
        self.running == 0
    }
}

/// Turns a growing count into a rate of late.
#[derive(Debug)]
pub(super) struct Meter {
    samples: std::collections::VecDeque<(Time, u64)>,
}

impl Meter {
    pub(super) fn new(begin: Time) -> Meter {
        Meter {
            samples: [(begin, 0)].into(),
        }
    }

    fn rate(&mut self, now: Time, count: u64) -> f64 {
        self.samples.push_back((now, count));
        while self.samples.len() > 2 && now - self.samples[1].0 >= RATE_OVER {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let seconds = (now - since).as_secs_f64();
        if seconds > 0.0 {
            count.saturating_sub(before) as f64 / seconds
        } else {
            0.0
        }
    }
}
