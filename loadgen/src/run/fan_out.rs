//! The fan-out: one driver on the first core sends to every receiver in turn; the receivers are spread over all cores.

use std::marker::PhantomData;

use corecast::{CoreId, Mailbox, Runtime};

use super::entity::{Entity, MAILBOX};
use super::error::RunError;
use super::generator::Source;
use super::interrupt::Interrupt;
use super::lineup::{Act, Lineup, Seat};
use super::payload::{Payload, WithPayload, with_payload};
use super::session::Results;
use super::spawning::spawn_all;
use super::targets::Receivers;
use crate::arrivals::PhasePace;
use crate::measure::PhaseLabel;
use crate::options::{FanOut, Job};

/// Runs the fan-out.
pub(super) fn run(
    work: &FanOut,
    job: &Job,
    interrupt: Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    with_payload(
        work.payload_bytes,
        Fanning {
            work,
            job,
            interrupt,
            results,
        },
    )
}

struct Fanning<'a> {
    work: &'a FanOut,
    job: &'a Job,
    interrupt: Interrupt,
    results: &'a mut Results,
}

impl WithPayload for Fanning<'_> {
    type Output = Result<(), RunError>;

    fn run<P: Payload>(self) -> Result<(), RunError> {
        let Fanning {
            work,
            job,
            interrupt,
            results,
        } = self;
        let mut stage = results.start(Runtime::builder(), job, interrupt)?;
        let receivers = spawn_all(
            &stage.handle,
            work.receivers,
            Mailbox::bounded(MAILBOX),
            Entity::<P>::default,
        )?;
        let lineup = Lineup {
            targets: Receivers::from(receivers),
            seats: vec![Seat::Core(CoreId(0))],
            payload_bytes: work.payload_bytes,
            seed: job.seed,
            payload: PhantomData::<fn(P)>,
        };
        let keys = u64::from(work.receivers);
        let act = Act {
            name: work.phase.name,
            source: |_: usize| Source::Cycle { keys, next: 0 },
            ask_percent: 0,
            pace: PhasePace::Closed {
                in_flight: keys * u64::from(work.rounds),
            },
            warm_up: work.phase.warm_up,
            duration: work.phase.duration,
            is_finite: false,
        };
        let performed = lineup.perform(&mut stage, &act)?;
        results.is_interrupted = performed.is_interrupted;
        let label = PhaseLabel {
            name: work.phase.name.to_owned(),
            pacing: format!("closed loop, {} rounds in flight", work.rounds),
            offered_rate: None,
        };
        results.add(label, performed.recorder);
        stage.close();
        Ok(())
    }
}
