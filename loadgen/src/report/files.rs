//! The files that a run was asked to leave behind.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::hgrm::{hgrm_path, write_hgrm};
use super::html::page;
use super::json::{ReportError, write_json};
use super::model::Report;
use crate::measure::{Latencies, Recorder};
use crate::options::OutputArgs;

/// Writes `--json`, `--html` and `--hgrm`. `recorders` are the merged recorders of the phases, in the report's order.
/// The last phase's latency goes to the named `.hgrm` file (corrected, in a closed loop uncorrected), every other
/// distribution to a file beside it: `run.peak.hgrm`, `run.open-uncorrected.hgrm`.
///
/// # Errors
/// [`ReportError::File`] for the first file that cannot be written.
pub fn write_files(
    report: &Report,
    recorders: &[Recorder],
    output: &OutputArgs,
) -> Result<(), ReportError> {
    if let Some(path) = &output.json {
        write_json(report, path)?;
    }
    if let Some(path) = &output.html {
        write_with(path, |out| out.write_all(page(report).as_bytes()))?;
    }
    let Some(path) = &output.hgrm else {
        return Ok(());
    };
    for (at, (phase, recorder)) in report.phases.iter().zip(recorders).enumerate() {
        let is_open = phase.offered_rate.is_some();
        let main = if is_open {
            recorder.corrected()
        } else {
            recorder.uncorrected()
        };
        let beside = hgrm_path(path, &phase.name);
        let is_last = at + 1 == report.phases.len();
        write_latencies(if is_last { path } else { &beside }, main)?;
        if is_open {
            write_latencies(
                &hgrm_path(path, &format!("{}-uncorrected", phase.name)),
                recorder.uncorrected(),
            )?;
        }
    }
    Ok(())
}

fn write_latencies(path: &Path, latencies: &Latencies) -> Result<(), ReportError> {
    write_with(path, |out| write_hgrm(latencies, out))
}

fn write_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), ReportError> {
    let failed = |source| ReportError::File {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    write(&mut out).and_then(|()| out.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corecast::Time;

    use super::*;
    use crate::measure::Window;
    use crate::report::model::samples;

    #[test]
    fn every_asked_for_file_is_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let report = samples::main_job();
        let window = Window::after_warm_up(Time::ZERO, Duration::ZERO, Duration::from_secs(1));
        let recorders = vec![Recorder::new(window); 2];
        let output = OutputArgs {
            json: Some(path("run.json")),
            html: Some(path("run.html")),
            hgrm: Some(path("run.hgrm")),
            ..OutputArgs::default()
        };
        write_files(&report, &recorders, &output).expect("written");
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .expect("listed")
            .map(|entry| {
                entry
                    .expect("listed")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "run.hgrm",
                "run.html",
                "run.json",
                "run.open-uncorrected.hgrm",
                "run.peak.hgrm"
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let output = OutputArgs {
            html: Some("/proc/nowhere/run.html".into()),
            ..OutputArgs::default()
        };
        let error = write_files(&samples::main_job(), &[], &output)
            .expect_err("nothing can be written there");
        assert!(
            error
                .to_string()
                .contains("cannot write '/proc/nowhere/run.html'"),
            "{error}"
        );
    }
}
