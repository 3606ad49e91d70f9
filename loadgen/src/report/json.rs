//! Reports as JSON files.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model::{REPORT_VERSION, Report};

/// A report that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file could not be opened or written.
    #[error("cannot {action} '{path}': {source}", path = path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no report.
    #[error("'{path}' is no report of loadgen: {source}", path = path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file is a report of another version.
    #[error(
        "'{path}' is a report of version {found}, this loadgen reads version {REPORT_VERSION}: make the baseline again \
         with this loadgen, or compare with the one that wrote it",
        path = path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

/// Writes a report.
///
/// # Errors
/// [`ReportError::File`].
pub fn write_json(report: &Report, path: &Path) -> Result<(), ReportError> {
    let failed = |source| ReportError::File {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    serde_json::to_writer_pretty(&mut out, report).map_err(|error| failed(error.into()))?;
    out.write_all(b"\n")
        .and_then(|()| out.flush())
        .map_err(failed)
}

/// Reads a report of this version.
///
/// # Errors
/// When the file cannot be read, is no report, or is one of another version.
pub fn read_json(path: &Path) -> Result<Report, ReportError> {
    /// The part of the schema that every version has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }

    let failed = |source| ReportError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let no_report = |source: serde_json::Error| match source.io_error_kind() {
        Some(_) => failed(source.into()),
        None => ReportError::NoReport {
            path: path.to_owned(),
            source,
        },
    };
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let text = io::read_to_string(file).map_err(failed)?;
    let Versioned { version } = serde_json::from_str(&text).map_err(no_report)?;
    if version != u64::from(REPORT_VERSION) {
        return Err(ReportError::Version {
            path: path.to_owned(),
            found: version,
        });
    }
    serde_json::from_str(&text).map_err(no_report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::samples;

    #[test]
    fn a_report_survives_writing_and_reading() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run.json");
        let mut report = samples::main_job_with_hiccups();
        report.judge(&[
            "p99<1ms".parse().expect("an objective"),
            "rate>1k".parse().expect("an objective"),
        ]);
        write_json(&report, &path).expect("written");
        assert_eq!(read_json(&path).expect("read"), report);
    }

    #[test]
    fn a_report_from_before_the_machine_was_listened_to_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run.json");
        let report = samples::main_job();
        let mut old = serde_json::to_value(&report).expect("a report");
        let members = old.as_object_mut().expect("an object");
        assert!(members.remove("hiccups").is_some());
        std::fs::write(&path, old.to_string()).expect("written");
        assert_eq!(read_json(&path).expect("read"), report);
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let directory = tempfile::tempdir().expect("a directory");
        let error_of = |text: &str| {
            let path = directory.path().join("other.json");
            std::fs::write(&path, text).expect("written");
            read_json(&path).expect_err("refused").to_string()
        };
        let version = error_of("{\"version\": 2, \"everything\": \"else\"}");
        assert!(
            version.contains("version 2") && version.contains("version 1"),
            "{version}"
        );
        assert!(error_of("{\"a\": 1}").contains("is no report"));
        assert!(error_of("{\"version\": 1}").contains("missing field"));
        assert!(error_of("").contains("is no report"));
        let missing = read_json(&directory.path().join("nowhere.json"))
            .expect_err("missing")
            .to_string();
        assert!(
            missing.contains("cannot read") && missing.contains("nowhere.json"),
            "{missing}"
        );
    }
}
