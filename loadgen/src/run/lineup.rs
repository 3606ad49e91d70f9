//! The drivers of a phase: who they are, where they sit, and running them from the beginning to the end.

use std::marker::PhantomData;
use std::thread::JoinHandle;
use std::time::Duration;

use corecast::base::rng::seeded;
use corecast::{CoreId, Mailbox, Time};

use super::driver::{Driver, Post, ToDriver};
use super::error::RunError;
use super::generator::{Generator, Part, Source};
use super::ledger::DriverId;
use super::outside::Outside;
use super::payload::Payload;
use super::stage::{LEAD, Phase, PhaseSetup, Show, Stage};
use super::targets::Targets;
use crate::arrivals::PhasePace;
use crate::measure::Recorder;
use crate::options::Drivers;

/// Messages in flight per driver while entities are activated.
pub(super) const ACTIVATING: u64 = 1_024;
/// An activation that takes longer is not waited for by the clock but by its own end; this only sizes the books.
pub(super) const ACTIVATION_BOOKS: Duration = Duration::from_secs(3_600);
/// The stream of random numbers of the first driver; each next one has the next.
const STREAM: u64 = 0xD21E_0000;

/// Where a driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Core(CoreId),
    Thread,
}

/// Everything that phases have in common.
#[derive(Debug)]
pub(super) struct Lineup<P, T> {
    pub(super) targets: T,
    pub(super) seats: Vec<Seat>,
    pub(super) payload_bytes: u32,
    pub(super) seed: u64,
    pub(super) payload: PhantomData<fn(P)>,
}

/// One phase for a line-up.
pub(super) struct Act<'a, S> {
    pub(super) name: &'a str,
    /// The source of each driver.
    pub(super) source: S,
    pub(super) ask_percent: u8,
    pub(super) pace: PhasePace,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    /// Whether it ends with its source and not with its time.
    pub(super) is_finite: bool,
}

/// How an act went.
#[derive(Debug)]
pub(super) struct Performed {
    pub(super) recorder: Recorder,
    pub(super) is_interrupted: bool,
    /// From the beginning to the end, warm-up included.
    pub(super) elapsed: Duration,
}

/// The seats that the flag asks for.
pub(super) fn seats(drivers: Drivers, stage: &Stage) -> Vec<Seat> {
    match drivers {
        Drivers::Cores => stage.handle.core_ids().map(Seat::Core).collect(),
        Drivers::Threads(threads) => vec![Seat::Thread; threads as usize],
    }
}

impl<P: Payload, T: Targets<P>> Lineup<P, T> {
    /// Runs one phase.
    pub(super) fn perform<S: Fn(usize) -> Source>(
        &self,
        stage: &mut Stage,
        act: &Act<'_, S>,
    ) -> Result<Performed, RunError> {
        self.perform_watched(stage, act, || Ok(()))
    }

    /// Runs one phase and takes a `look` every now and then, [`LOOK`](super::stage::LOOK) or less apart; one that fails
    /// ends it.
    pub(super) fn perform_watched<S: Fn(usize) -> Source>(
        &self,
        stage: &mut Stage,
        act: &Act<'_, S>,
        mut look: impl FnMut() -> Result<(), RunError>,
    ) -> Result<Performed, RunError> {
        let threads = self
            .seats
            .iter()
            .filter(|seat| **seat == Seat::Thread)
            .count();
        let setup = PhaseSetup {
            drivers: self.seats.len(),
            threads,
            // Finite work begins with its first message.
            lead: if act.is_finite { Duration::ZERO } else { LEAD },
            warm_up: act.warm_up,
            duration: act.duration,
        };
        let mut phase = stage.begin(setup)?;
        let mut running = Vec::new();
        for (number, seat) in self.seats.iter().enumerate() {
            let generator = self.generator(number, stage, &phase, act);
            let post = Post {
                id: DriverId(number as u16),
                phase: phase.id,
                board: phase.board.clone(),
                clock: stage.clock,
                payload_bytes: self.payload_bytes,
                finished: phase.finished.clone(),
            };
            match seat {
                Seat::Core(core) => self.seat_inside(*core, stage, post, generator)?,
                Seat::Thread => running.push(self.seat_outside(stage, &phase, post, generator)?),
            }
        }
        let total = (!act.is_finite).then_some(act.warm_up + act.duration);
        let show = Show {
            name: act.name,
            total,
        };
        let mut looked = Ok(());
        let cut = stage.watch(&mut phase, show, |phase| {
            if looked.is_ok() {
                looked = look();
            }
            phase.wait_for_drivers() || looked.is_err()
        });
        looked?;
        let elapsed = stage.clock.now() - phase.begin;
        let mut recorder = stage.end(&phase, cut)?;
        for thread in running {
            if let Ok(mut outside) = thread.join() {
                outside.cut(cut.unwrap_or(Time::MAX));
                recorder.merge(&outside);
            }
        }
        Ok(Performed {
            recorder,
            is_interrupted: cut.is_some(),
            elapsed,
        })
    }

    fn generator<S: Fn(usize) -> Source>(
        &self,
        number: usize,
        stage: &Stage,
        phase: &Phase,
        act: &Act<'_, S>,
    ) -> Generator {
        let part = Part {
            number: number as u32,
            of: self.seats.len() as u32,
            begin: phase.begin,
            budget: stage.settings.budget_messages,
            seed: self.seed,
        };
        let rng = seeded(self.seed, STREAM + number as u64);
        Generator::new(
            (act.source)(number),
            rng,
            act.ask_percent,
            part.pace(act.pace),
            phase.window,
        )
    }

    fn seat_inside(
        &self,
        core: CoreId,
        stage: &Stage,
        post: Post,
        generator: Generator,
    ) -> Result<(), RunError> {
        let targets = self.targets.clone();
        // Only answers come in, and room for each is reserved when it is asked for.
        let spawned = stage
            .handle
            .spawn_with(core, Mailbox::unbounded(), move || Driver {
                post,
                targets,
                generator,
                answered: 0,
                payload: PhantomData::<fn(P)>,
            });
        let driver = spawned.wait()?;
        stage.handle.tell(driver, ToDriver::Go);
        Ok(())
    }

    fn seat_outside(
        &self,
        stage: &Stage,
        phase: &Phase,
        post: Post,
        generator: Generator,
    ) -> Result<JoinHandle<Recorder>, RunError> {
        let number = usize::from(post.id.0);
        let outside = Outside {
            post,
            handle: stage.handle.clone(),
            targets: self.targets.clone(),
            generator,
            row: stage.cores() + number,
        };
        let window = phase.window;
        std::thread::Builder::new()
            .name(format!("driver-{number}"))
            .spawn(move || outside.run::<P>(window))
            .map_err(RunError::Thread)
    }
}
