//! A directory of a test, which is gone when the test is over.

use std::fs;
use std::path::{Path, PathBuf};

/// Where it is, or is to be: it is not made here.
pub struct Directory(pub PathBuf);

impl Directory {
    /// One that no other process has, and that is not there yet.
    pub fn new(name: &str) -> Directory {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
