//! A file by which a process says that a directory is its own.
//!
//! The lock goes with the process, however it ends, so nobody has to remove anything after a crash.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

/// The name of the file.
const LOCK: &str = "lock";

/// Why a directory cannot be locked.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it: its number, as it wrote it.
    InUse(String),
    /// The file cannot be used.
    Io(io::Error),
}

/// Locks a directory for this process, until the file is dropped.
pub(super) fn lock(directory: &Path) -> Result<File, LockError> {
    let mut options = File::options();
    // Another's number must not be cut off before the lock is had.
    options.create(true).truncate(false).read(true).write(true);
    let opened = options.open(directory.join(LOCK));
    let mut file = opened.map_err(LockError::Io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.take(20).read_to_string(&mut process);
            return Err(LockError::InUse(match process.trim() {
                "" => "unknown".to_owned(),
                process => process.to_owned(),
            }));
        }
        Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(LockError::Io)?;
    Ok(file)
}
