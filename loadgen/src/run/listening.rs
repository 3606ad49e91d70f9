//! Listening to the machine before an open loop: on the CPU of each core a thread that only spins.
//!
//! It is done before the runtime starts, whose cores may poll and would be heard as well.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use corecast::io::machine::read_machine;
use corecast::{PinningArgs, StartError, Time};

use super::clock::Clock;
use super::error::RunError;
use super::interrupt::Interrupt;
use super::session::Results;
use super::stage::{LEAD, LOOK, settings_of};
use crate::measure::Hiccups;
use crate::report::{Activity, MACHINE, Progress, Status};

type Heard = Result<Hiccups, RunError>;

/// Listens for so long, if for any time at all, and notes what was heard.
pub(super) fn listen(
    time: Duration,
    pinning: &PinningArgs,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    if time.is_zero() {
        return Ok(());
    }
    let cpus = cpus(pinning)?;
    let clock = Clock::new();
    let spinner = Spinner {
        clock,
        begin: clock.now() + LEAD,
        time,
        interrupt: interrupt.clone(),
    };
    let (heard, hears) = channel();
    for &cpu in &cpus {
        spinner.clone().start(cpu, heard.clone())?;
    }
    drop(heard);
    let mut progress = Progress::on_stderr();
    let mut all = Hiccups::new();
    loop {
        match hears.recv_timeout(LOOK) {
            Ok(heard) => all.merge(&heard?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = clock.now();
        progress.update(now - Time::ZERO, &spinner.status(now));
    }
    progress.clear();
    results.report.hiccups = all.summary(&cpus);
    results.is_interrupted |= interrupt.is_told();
    Ok(())
}

/// The CPUs that the runtime's data cores will be on.
fn cpus(pinning: &PinningArgs) -> Result<Vec<usize>, StartError> {
    let plan = settings_of(pinning).plan(&read_machine()?)?;
    Ok(plan.data_cores)
}

#[derive(Clone, Debug)]
struct Spinner {
    clock: Clock,
    /// When all begin.
    begin: Time,
    time: Duration,
    interrupt: Interrupt,
}

impl Spinner {
    fn start(self, cpu: usize, heard: Sender<Heard>) -> Result<(), RunError> {
        let thread = Builder::new().name(format!("spin-{cpu}"));
        let spun = thread.spawn(move || {
            // Nobody waits for it where another one could not be started.
            let _ = heard.send(self.spin(cpu));
        });
        spun.map(drop).map_err(RunError::Thread)
    }

    fn spin(&self, cpu: usize) -> Heard {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            return Err(RunError::Pin(cpu));
        }
        let mut hiccups = Hiccups::new();
        let mut last = self.clock.now();
        while last < self.begin {
            last = self.clock.now();
        }
        let end = last + self.time;
        // Without the hint that it spins, which hypervisors take as leave to run somebody else.
        while last < end && !self.interrupt.is_told() {
            let now = self.clock.now();
            hiccups.passed(now - last);
            last = now;
        }
        Ok(hiccups)
    }

    fn status(&self, now: Time) -> Status {
        Status {
            phase: MACHINE.to_owned(),
            elapsed: now.max(self.begin) - self.begin,
            total: Some(self.time),
            activity: Activity::Listening,
            ..Status::default()
        }
    }
}
