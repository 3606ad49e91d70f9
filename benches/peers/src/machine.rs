//! What the figures were measured on.

use std::fs;

use serde::Serialize;

use crate::measure::Cpus;

/// The machine and its system, as far as they tell.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// As the kernel names it.
    pub cpu_model: String,
    /// CPUs this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    /// Reads it from `/proc`; what is not to be read is `unknown`.
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu_model: cpu_model(&cpuinfo).unwrap_or("unknown").to_owned(),
            cores: core_affinity::get_core_ids().map_or(0, |cores| cores.len()),
            kernel: if kernel.is_empty() {
                "unknown".to_owned()
            } else {
                kernel.trim().to_owned()
            },
        }
    }
}

/// The first two CPUs of the affinity mask, twice the first if there is one only, `None` if it cannot be read.
pub(crate) fn cpus() -> Option<Cpus> {
    let cores = core_affinity::get_core_ids()?;
    let first = *cores.first()?;
    Some(Cpus {
        first,
        second: cores.get(1).copied().unwrap_or(first),
    })
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_what_follows_the_colon() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU: 3\n"),
            Some("Some CPU: 3")
        );
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }
}
