//! Where a run happened: the machine, its kernel, and the commit of the source.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// A machine. What cannot be found out is `unknown` or 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's model name.
    pub cpu_model: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Physical memory.
    pub memory_bytes: u64,
    /// The kernel's name and release.
    pub kernel: String,
}

impl Machine {
    /// The machine this runs on.
    #[must_use]
    pub fn this() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu_model: value_of(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: value_of(&meminfo, "MemTotal")
                .and_then(kibibytes)
                .unwrap_or(0),
            kernel: match release.trim() {
                "" => "unknown".to_owned(),
                release => format!("Linux {release}"),
            },
        }
    }
}

/// The commit of the source: `LOADGEN_COMMIT` at build time, else what git says about the source directory now, with
/// `-dirty` when it has changes.
#[must_use]
pub fn commit() -> Option<String> {
    option_env!("LOADGEN_COMMIT")
        .map(str::to_owned)
        .or_else(|| described(Path::new(env!("CARGO_MANIFEST_DIR"))))
}

fn described(directory: &Path) -> Option<String> {
    let arguments = [
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ];
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// The first value of `name : value` lines.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, v)| v.trim())
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_tables() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags : a b\nprocessor : 1\nmodel name : other\n";
        assert_eq!(value_of(cpuinfo, "model name"), Some("AMD EPYC 7B13"));
        assert_eq!(
            value_of("MemTotal:    8048 kB\n", "MemTotal").and_then(kibibytes),
            Some(8_241_152)
        );
        assert_eq!(value_of("", "model name"), None);
    }

    #[test]
    fn a_directory_outside_of_git_has_no_commit() {
        assert_eq!(described(Path::new("/proc")), None);
    }
}
