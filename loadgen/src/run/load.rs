//! The load on sharded entities: `main`, `tell`, `ask` and `entities`.
//!
//! Before an open loop the machine is listened to. All entities are activated first, by one message each, so that the number of entities is the number of active ones;
//! what that took in time and memory is reported. Then come the phases.

use std::marker::PhantomData;
use std::time::Duration;

use corecast::{EntityType, Mailbox, Region, Runtime};

use super::entity::{Entity, MAILBOX, STATE_BYTES, ToEntity};
use super::error::RunError;
use super::generator::Source;
use super::interrupt::Interrupt;
use super::lineup::{ACTIVATING, ACTIVATION_BOOKS, Act, Lineup, Performed, seats};
use super::listening::listen;
use super::memory::resident_bytes;
use super::payload::{Payload, WithPayload, with_payload};
use super::session::Results;
use super::stage::Stage;
use crate::arrivals::{Arrivals, PhasePace};
use crate::keys::Keys;
use crate::measure::{PhaseLabel, Recorder};
use crate::options::{Job, Load, Pacing, PhaseSpec, Setting};
use crate::saturation::{P99_LIMIT_NS, SaturationSearch, sustained};
use crate::units::{duration, grouped, rate};

/// Fewer entities than this do not show in the resident memory.
const ENOUGH_TO_WEIGH: u64 = 100_000;
/// The first rate that a search for saturation tries.
const SEARCH_FROM: f64 = 250_000.0;
/// A trial of the search takes this part of a phase's time.
const TRIAL_PART: u32 = 4;

/// Runs the phases of a load.
pub(super) fn run(
    load: &Load,
    job: &Job,
    interrupt: Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    listen(load.hiccups, &job.common.pinning, &interrupt, results)?;
    if results.is_interrupted {
        return Ok(());
    }
    with_payload(
        load.traffic.payload_bytes,
        Loading {
            load,
            job,
            interrupt,
            results,
        },
    )
}

struct Loading<'a> {
    load: &'a Load,
    job: &'a Job,
    interrupt: Interrupt,
    results: &'a mut Results,
}

impl WithPayload for Loading<'_> {
    type Output = Result<(), RunError>;

    fn run<P: Payload>(self) -> Result<(), RunError> {
        let Loading {
            load,
            job,
            interrupt,
            results,
        } = self;
        let mailbox = job
            .common
            .pinning
            .mailbox
            .map_or(MAILBOX, |given| u32::try_from(given).unwrap_or(u32::MAX));
        let mut builder = Runtime::builder();
        let region: Region<u64, ToEntity<P>> = builder.entities(
            EntityType::send("entity", |_: &u64| Entity::<P>::default())
                .mailbox(Mailbox::bounded(mailbox)),
        );
        let mut stage = results.start(builder, job, interrupt)?;
        results.report.settings.push(Setting::new(
            "entity mailbox",
            format!("{} messages", grouped(mailbox.into())),
        ));
        let lineup = Lineup {
            targets: region,
            seats: seats(load.drivers, &stage),
            payload_bytes: load.traffic.payload_bytes,
            seed: job.seed,
            payload: PhantomData,
        };
        let outcome = Phases {
            load,
            lineup,
            results,
            peak: 0.0,
        }
        .run(&mut stage);
        stage.close();
        outcome
    }
}

struct Phases<'a, P> {
    load: &'a Load,
    lineup: Lineup<P, Region<u64, ToEntity<P>>>,
    results: &'a mut Results,
    /// The rate of the closed loop, in messages per second.
    peak: f64,
}

impl<P: Payload> Phases<'_, P> {
    fn run(&mut self, stage: &mut Stage) -> Result<(), RunError> {
        self.activate(stage)?;
        for spec in &self.load.phases {
            if self.results.is_interrupted {
                break;
            }
            match spec.pacing {
                Pacing::Closed { in_flight } => {
                    let pace = PhasePace::Closed {
                        in_flight: in_flight.into(),
                    };
                    let performed =
                        self.perform(stage, spec.name, pace, (spec.warm_up, spec.duration))?;
                    let label = label(spec, None);
                    self.peak = performed.recorder.summary(label.clone()).rate;
                    self.keep(label, performed);
                }
                Pacing::Open { rate, arrivals } => {
                    let total_rate = rate.per_second(self.peak);
                    let pace = PhasePace::Open {
                        total_rate,
                        arrivals,
                    };
                    let performed =
                        self.perform(stage, spec.name, pace, (spec.warm_up, spec.duration))?;
                    self.keep(label(spec, Some(total_rate)), performed);
                }
                Pacing::Search { arrivals } => self.search(stage, spec, arrivals)?,
            }
        }
        Ok(())
    }

    /// Sends each entity one message.
    fn activate(&mut self, stage: &mut Stage) -> Result<(), RunError> {
        let (entities, drivers) = (self.load.entities, self.lineup.seats.len() as u32);
        let before = resident_bytes();
        let act = Act {
            name: "activate",
            source: |driver: usize| Source::share(0..entities, driver as u32, drivers),
            ask_percent: 0,
            pace: PhasePace::Closed {
                in_flight: ACTIVATING,
            },
            warm_up: Duration::ZERO,
            duration: ACTIVATION_BOOKS,
            is_finite: true,
        };
        let Performed {
            recorder,
            is_interrupted,
            elapsed,
        } = self.lineup.perform(stage, &act)?;
        self.results.is_interrupted = is_interrupted;
        let active = recorder.completions();
        let grown = resident_bytes().saturating_sub(before);
        let each = grown / active.max(1);
        let per_second = active as f64 / elapsed.as_secs_f64().max(1e-9);
        let mut note = |name: &str, value: String| {
            self.results.report.settings.push(Setting::new(name, value))
        };
        note(
            "activated",
            format!(
                "{} entities in {}, {}/s",
                grouped(active),
                duration(elapsed),
                rate(per_second)
            ),
        );
        // With few entities it is the runtime's own buffers that grow.
        if active >= ENOUGH_TO_WEIGH {
            note(
                "memory per entity",
                format!(
                    "{each} bytes, {STATE_BYTES} of them state and {} its id (growth of the resident memory)",
                    size_of::<u64>()
                ),
            );
        }
        Ok(())
    }

    fn search(
        &mut self,
        stage: &mut Stage,
        spec: &PhaseSpec,
        arrivals: Arrivals,
    ) -> Result<(), RunError> {
        let times = (spec.warm_up / TRIAL_PART, spec.duration / TRIAL_PART);
        let mut search = SaturationSearch::new(SEARCH_FROM);
        let mut best: Option<(PhaseLabel, Recorder)> = None;
        // A rate has failed when it failed twice: a pause of the machine is no saturation.
        let mut has_failed_once = false;
        while let Some(total_rate) = search.next_rate() {
            let name = format!("{}/s", rate(total_rate));
            let performed = self.perform(
                stage,
                &name,
                PhasePace::Open {
                    total_rate,
                    arrivals,
                },
                times,
            )?;
            if performed.is_interrupted {
                self.results.is_interrupted = true;
                break;
            }
            let label = label(spec, Some(total_rate));
            let is_sustained = sustained(&performed.recorder.summary(label.clone()), P99_LIMIT_NS);
            if is_sustained || has_failed_once {
                search.record(is_sustained);
            }
            has_failed_once = !is_sustained && !has_failed_once;
            // Until one trial is sustained the last one shows why none was.
            if is_sustained || search.best().is_none() {
                best = Some((label, performed.recorder));
            }
        }
        self.results.report.saturation_rate = search.best();
        if let Some((label, recorder)) = best {
            self.results.add(label, recorder);
        }
        Ok(())
    }

    fn perform(
        &self,
        stage: &mut Stage,
        name: &str,
        pace: PhasePace,
        (warm_up, duration): (Duration, Duration),
    ) -> Result<Performed, RunError> {
        let keys = Keys::new(self.load.keys, self.load.entities);
        let act = Act {
            name,
            source: |_: usize| Source::Drawn(keys),
            ask_percent: self.load.traffic.ask_percent,
            pace,
            warm_up,
            duration,
            is_finite: false,
        };
        self.lineup.perform(stage, &act)
    }

    fn keep(&mut self, label: PhaseLabel, performed: Performed) {
        self.results.is_interrupted |= performed.is_interrupted;
        self.results.add(label, performed.recorder);
    }
}

pub(super) fn label(spec: &PhaseSpec, offered_rate: Option<f64>) -> PhaseLabel {
    PhaseLabel {
        name: spec.name.to_owned(),
        pacing: spec.pacing.to_string(),
        offered_rate,
    }
}
