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

/// Sees whether the files can be written, before anything is measured. What they hold stays as it is.
///
/// # Errors
/// [`ReportError::File`] for the first file that cannot.
pub fn check_writable(output: &OutputArgs) -> Result<(), ReportError> {
    [&output.json, &output.html, &output.hgrm]
        .into_iter()
        .flatten()
        .try_for_each(|path| try_open(path).map_err(|source| failed_to_write(path, source)))
}

/// Opens a file for writing; one that was not there is gone again afterwards.
fn try_open(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(there) if there.is_file() || there.is_dir() => {
            File::options().append(true).open(path).map(drop)
        }
        // To open a pipe would be to begin writing.
        Ok(_) => Ok(()),
        Err(_) => {
            File::options().append(true).create(true).open(path)?;
            std::fs::remove_file(path)
        }
    }
}

/// Writes `--json`, `--html` and `--hgrm`. `recorders` are the merged recorders of the phases, in the report's order.
/// The last phase's latency goes to the named `.hgrm` file (corrected, in a closed loop uncorrected), every other
/// distribution to a file beside it: `run.peak.hgrm`, `run.open-uncorrected.hgrm`.
///
/// # Errors
/// [`ReportError::File`] for the first file that cannot be written; the others are written all the same.
pub fn write_files(
    report: &Report,
    recorders: &[Recorder],
    output: &OutputArgs,
) -> Result<(), ReportError> {
    let json = output.json.as_ref().map(|path| write_json(report, path));
    let html = output
        .html
        .as_ref()
        .map(|path| write_with(path, |out| out.write_all(page(report).as_bytes())));
    let hgrm = output
        .hgrm
        .as_ref()
        .map(|path| write_distributions(report, recorders, path));
    [json, html, hgrm].into_iter().flatten().collect()
}

fn write_distributions(
    report: &Report,
    recorders: &[Recorder],
    path: &Path,
) -> Result<(), ReportError> {
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
    let failed = |source| failed_to_write(path, source);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    write(&mut out).and_then(|()| out.flush()).map_err(failed)
}

fn failed_to_write(path: &Path, source: io::Error) -> ReportError {
    ReportError::File {
        action: "write",
        path: path.to_owned(),
        source,
    }
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
    fn what_cannot_be_written_is_known_before_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let there = directory.path().join("there.json");
        std::fs::write(&there, "kept").expect("written");
        let new = directory.path().join("new.html");
        let output = |html: &Path| OutputArgs {
            json: Some(there.clone()),
            html: Some(html.to_owned()),
            hgrm: Some("/dev/null".into()),
            ..OutputArgs::default()
        };
        check_writable(&output(&new)).expect("all can be written");
        assert_eq!(std::fs::read_to_string(&there).expect("read"), "kept");
        assert!(!new.exists());
        for bad in [directory.path(), &directory.path().join("nowhere/run.html")] {
            let error = check_writable(&output(bad)).expect_err("it cannot be written");
            let named = format!("cannot write '{}'", bad.display());
            assert!(error.to_string().contains(&named), "{error}");
        }
    }

    #[test]
    fn one_bad_file_does_not_keep_the_others_from_being_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let html = directory.path().join("run.html");
        let output = OutputArgs {
            json: Some("/dev/full".into()),
            html: Some(html.clone()),
            ..OutputArgs::default()
        };
        let error = write_files(&samples::main_job(), &[], &output).expect_err("it is full");
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert!(html.is_file());
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
