//! A run from the checked job to the exit code.

use std::io::{self, Write as _};

use corecast::RuntimeBuilder;

use super::error::RunError;
use super::interrupt::Interrupt;
use super::stage::{Stage, settings_of};
use super::{balancing, cluster, cluster_replay, fan_out, load, replay, ring, wire};
use crate::cluster::error::ClusterError;
use crate::cluster::place::PlaceError;
use crate::exit::Outcome;
use crate::measure::Recorder;
use crate::options::{Job, Work};
use crate::report::{
    Comparison, Report, check_writable, read_json, write_comparison, write_files, write_report,
};

/// Runs a job, prints and writes what came of it, and returns how it ended. Errors are printed.
#[must_use]
pub fn run(job: &Job) -> Outcome {
    match try_run(job) {
        Ok(outcome) => outcome,
        Err(RunError::Cluster(ClusterError::Place(PlaceError::Namespaces(why)))) => {
            let _ = writeln!(
                io::stderr(),
                "loadgen: SKIPPED, nothing was measured: {why}"
            );
            Outcome::Skipped
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadgen: {error}");
            Outcome::Failed
        }
    }
}

/// What a scenario leaves behind.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) report: Report,
    /// One for each phase of the report.
    pub(super) recorders: Vec<Recorder>,
    pub(super) is_interrupted: bool,
    /// What ended the run early; what is there was measured before.
    pub(super) failure: Option<RunError>,
}

impl Results {
    /// No results yet.
    fn begun(job: &Job) -> Results {
        Results {
            report: Report::begun_now(job.scenario(), job.seed, job.settings()),
            recorders: Vec::new(),
            is_interrupted: false,
            failure: None,
        }
    }

    /// Starts a runtime with the builder's entity types and the job's flags, and notes what it runs with. The same
    /// flags amount to the same, so that is noted once.
    pub(super) fn start(
        &mut self,
        builder: RuntimeBuilder,
        job: &Job,
        interrupt: Interrupt,
    ) -> Result<Stage, RunError> {
        let stage = Stage::start(builder, settings_of(&job.common.pinning), interrupt)?;
        if self.report.cores.is_empty() {
            self.report.cores = stage.cpus();
            self.report.settings.extend(stage.effective_settings());
        }
        Ok(stage)
    }

    /// Adds a measured phase.
    pub(super) fn add(&mut self, label: crate::measure::PhaseLabel, recorder: Recorder) {
        // A phase that was broken off before it was measured has nothing to say.
        if !recorder.window().duration().is_zero() {
            self.report.phases.push(recorder.summary(label));
            self.recorders.push(recorder);
        }
    }
}

/// Prints what is to be known beside the report, if there is any.
pub(super) fn complain(complaint: &impl std::fmt::Display) {
    let _ = write!(io::stderr(), "{complaint}");
}

fn try_run(job: &Job) -> Result<Outcome, RunError> {
    let output = &job.common.output;
    // Read first: a run should not fail behind its measurement.
    let baseline = output.baseline.as_deref().map(read_json).transpose()?;
    check_writable(output)?;
    let interrupt = Interrupt::listen().map_err(RunError::Signals)?;
    let mut results = Results::begun(job);
    match (&job.work, &job.nodes) {
        (Work::Load(work), Some(nodes)) => {
            cluster::run(work, nodes, job, &interrupt, &mut results)?;
        }
        (Work::Replay(work), Some(nodes)) => {
            cluster_replay::run(work, nodes, job, &interrupt, &mut results)?;
        }
        (Work::Load(work), None) => load::run(work, job, interrupt, &mut results)?,
        (Work::Ring(work), _) => ring::run(work, job, interrupt, &mut results)?,
        (Work::FanOut(work), _) => fan_out::run(work, job, interrupt, &mut results)?,
        (Work::Balancing(work), _) => balancing::run(work, job, interrupt, &mut results)?,
        (Work::Replay(work), None) => replay::run(work, job, interrupt, &mut results)?,
        (Work::Wire(work), _) => wire::run(work, job, &interrupt, &mut results)?,
    }
    let Results {
        mut report,
        recorders,
        is_interrupted,
        failure,
    } = results;
    report.judge(&output.slo);
    print(&report, baseline.as_ref()).map_err(RunError::Print)?;
    write_files(&report, &recorders, output)?;
    if let Some(error) = failure {
        let _ = writeln!(io::stderr(), "loadgen: {error}");
        return Ok(Outcome::Failed);
    }
    if is_interrupted {
        let _ = writeln!(
            io::stderr(),
            "loadgen: interrupted; these are the figures up to then"
        );
        return Ok(Outcome::Interrupted);
    }
    Ok(report.outcome())
}

fn print(report: &Report, baseline: Option<&Report>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let printed = write_report(report, &mut out).and_then(|()| match baseline {
        None => Ok(()),
        Some(before) => write_comparison(&Comparison::new(before, report), &mut out),
    });
    match printed.and_then(|()| out.flush()) {
        // Whoever reads stops when they have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
