//! The directory in which a node keeps what it must not forget.
//!
//! ```text
//! <data>/lock      the process that has it
//! <data>/ledger/   the log of the control plane
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use thiserror::Error;

use super::lock_file::{LockError, lock};
use crate::log::FileName;

/// The part of the ledger.
const LEDGER: &str = "ledger";
/// A log works with two segments: one in use and one ahead.
const LEAST_SEGMENTS: u64 = 2;

/// Why a directory cannot be the one of a node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DataDirectoryError {
    /// Nor is the one above it. Only one level is made, since the absence of more may mean that a disk is not mounted.
    #[error("the data directory {} cannot be made, because {} does not exist; make that, or mount the disk that it is on", .directory.display(), .above.display())]
    NothingAbove {
        /// The directory.
        directory: PathBuf,
        /// The one that is missing.
        above: PathBuf,
    },
    /// It is something else.
    #[error("the data directory {} is not a directory; name another, or move it away", .directory.display())]
    NotADirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// This process may not write there.
    #[error("the data directory {} cannot be made or written to by this process ({what}); give its user the right to", .directory.display())]
    Forbidden {
        /// The directory.
        directory: PathBuf,
        /// The system's words.
        what: String,
    },
    /// Another process has it.
    #[error("the data directory {} is in use (by process {process}); stop that one, or use another directory", .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The number of the process, as it wrote it.
        process: String,
    },
    /// What is needed at once does not fit.
    #[error("the data directory {} needs {needed} bytes at once, and {free} are free on its disk; free some, or use another disk", .directory.display())]
    NoSpace {
        /// The directory.
        directory: PathBuf,
        /// What is needed.
        needed: u64,
        /// What is there for this process.
        free: u64,
    },
    /// Anything else.
    #[error("the data directory {} cannot be used: {what}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What happened.
        what: String,
    },
}

/// A directory that this process has. Nobody else gets it until this is dropped or the process ends.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Takes a directory for this process, and makes it if it is not there. It blocks for a few short calls.
    ///
    /// `segment_bytes` is the size of the ledger's segments: that there is room for the first of them is checked now,
    /// since a node that cannot write does better not to start.
    ///
    /// # Errors
    /// [`DataDirectoryError`]; nothing has changed but that directories and a file to lock may have been made.
    pub fn take(path: &Path, segment_bytes: u32) -> Result<DataDirectory, DataDirectoryError> {
        let fail = |error: io::Error| classify(path, &error);
        make(path)?;
        let lock = lock(path).map_err(|error| match error {
            LockError::InUse(process) => DataDirectoryError::InUse {
                directory: path.to_owned(),
                process,
            },
            LockError::Io(error) => classify(path, &error),
        })?;
        let ledger = path.join(LEDGER);
        make(&ledger)?;
        let mut files = 0;
        for entry in fs::read_dir(&ledger).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            files += u64::from(name.to_str().and_then(FileName::parse).is_some());
        }
        let found = statvfs(path).map_err(|error| classify(path, &error.into()))?;
        let free = found
            .blocks_available()
            .saturating_mul(found.fragment_size());
        check_space(path, files, segment_bytes, free)?;
        Ok(DataDirectory {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log of the ledger is.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join(LEDGER)
    }
}

fn check_space(
    path: &Path,
    files: u64,
    segment_bytes: u32,
    free: u64,
) -> Result<(), DataDirectoryError> {
    let needed = LEAST_SEGMENTS.saturating_sub(files) * u64::from(segment_bytes);
    if needed <= free {
        return Ok(());
    }
    Err(DataDirectoryError::NoSpace {
        directory: path.to_owned(),
        needed,
        free,
    })
}

/// Makes a directory durably, unless it is there.
fn make(path: &Path) -> Result<(), DataDirectoryError> {
    let fail = |error: io::Error| classify(path, &error);
    match fs::create_dir(path) {
        Ok(()) => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let above = File::open(above.unwrap_or(Path::new(".")));
            above.and_then(|above| above.sync_all()).map_err(fail)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path).map_err(fail)?.is_dir() {
                return Ok(());
            }
            Err(DataDirectoryError::NotADirectory {
                directory: path.to_owned(),
            })
        }
        Err(error) => Err(fail(error)),
    }
}

fn classify(path: &Path, error: &io::Error) -> DataDirectoryError {
    let directory = path.to_owned();
    let what = error.to_string();
    match (error.kind(), error.raw_os_error().map(Errno::from_i32)) {
        (io::ErrorKind::NotFound, _) => DataDirectoryError::NothingAbove {
            above: path.parent().unwrap_or(path).to_owned(),
            directory,
        },
        (io::ErrorKind::NotADirectory, _) => DataDirectoryError::NotADirectory { directory },
        (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, _) => {
            DataDirectoryError::Forbidden { directory, what }
        }
        (_, Some(Errno::ENOSPC | Errno::EDQUOT)) => DataDirectoryError::NoSpace {
            directory,
            needed: 4_096,
            free: 0,
        },
        _ => DataDirectoryError::Io { directory, what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_needed_for_what_is_not_there_yet() {
        let check = |files, free| check_space(Path::new("data"), files, 8 << 20, free);
        assert_eq!(check(0, 16 << 20), Ok(()));
        assert_eq!(check(2, 0), Ok(()));
        let error = check(1, (8 << 20) - 1).unwrap_err();
        assert!(
            error.to_string().contains("8388608 bytes at once"),
            "{error}"
        );
    }

    #[test]
    fn what_the_system_says_is_told_apart() {
        let classify = |number| classify(Path::new("a/b"), &io::Error::from_raw_os_error(number));
        let cases = [
            (Errno::ENOENT, "because a does not exist"),
            (Errno::ENOTDIR, "is not a directory"),
            (Errno::EACCES, "give its user the right"),
            (Errno::EPERM, "give its user the right"),
            (Errno::EROFS, "give its user the right"),
            (Errno::ENOSPC, "free some"),
            (Errno::EIO, "cannot be used"),
        ];
        for (number, text) in cases {
            let error = classify(number as i32);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
