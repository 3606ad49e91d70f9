//! A directory of a test, which is gone when the test is over.

use std::fs;
use std::path::{Path, PathBuf};

/// Where it is, or is to be: it is not made here.
pub struct Directory(pub PathBuf);

impl Directory {
    /// One that no other process has, and that is not there yet.
    pub fn new(name: &str) -> Directory {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        sweep(parent, name);
        let path = parent.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Directory(path)
    }
}

/// Removes those of this name that processes have left behind which were killed.
fn sweep(parent: &Path, name: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let process = found.to_str().and_then(|found| found.strip_prefix(name));
        let process = process.and_then(|process| process.strip_prefix('-')?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
