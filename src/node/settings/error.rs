//! What can be wrong with settings, and what to do about it.

use std::time::Duration;

/// Why a runtime cannot be planned from its settings. Nothing has been started.
///
/// Settings are named by their field and, where there is one, their flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The process may run on no CPU that can be named.
    #[error(
        "this process may run on no CPU; check its affinity mask (`taskset -p`) and its cpuset"
    )]
    NoCpus,
    /// The selection names no CPU.
    #[error(
        "no core is selected; choose at least one of the available CPUs {available}, or leave the choice out for all"
    )]
    EmptySelection {
        /// The CPUs this process may run on.
        available: String,
    },
    /// More CPUs are asked for than there are.
    #[error("{count} cores are asked for, but this process may run on {} only: {available}; ask for fewer, or widen its \
             affinity mask or cpuset", .allowed)]
    CountTooLarge {
        /// How many are asked for.
        count: usize,
        /// How many there are.
        allowed: usize,
        /// The CPUs this process may run on.
        available: String,
    },
    /// The machine has no such CPU.
    #[error("{setting} names CPU {cpu}, which this machine does not have; available: {available}")]
    NoSuchCpu {
        /// The setting that names it.
        setting: &'static str,
        /// The CPU.
        cpu: usize,
        /// The CPUs this process may run on.
        available: String,
    },
    /// The machine has the CPU, but this process may not run on it.
    #[error(
        "{setting} names CPU {cpu}, on which this process may not run; available: {available}; choose one of these, \
             or widen the process's affinity mask (`taskset`) or cpuset (docker: `--cpuset-cpus`)"
    )]
    CpuNotAllowed {
        /// The setting that names it.
        setting: &'static str,
        /// The CPU.
        cpu: usize,
        /// The CPUs this process may run on.
        available: String,
    },
    /// A CPU is listed twice.
    #[error("cores (--cores) names CPU {cpu} twice; a CPU runs one data core, name it once")]
    CpuTwice {
        /// The CPU.
        cpu: usize,
    },
    /// The machine has no such NUMA node.
    #[error("there is no NUMA node {node} on this machine; its nodes are {available}")]
    NoSuchNumaNode {
        /// The node.
        node: usize,
        /// The nodes there are.
        available: String,
    },
    /// The NUMA node has no CPU that this process may run on.
    #[error(
        "NUMA node {node} has the CPUs {cpus}, and this process may run on none of them; available: {available}; \
             choose another node, or widen the process's affinity mask (`taskset`) or cpuset (docker: `--cpuset-cpus`)"
    )]
    NumaNodeNotAllowed {
        /// The node.
        node: usize,
        /// Its CPUs.
        cpus: String,
        /// The CPUs this process may run on.
        available: String,
    },
    /// A size is outside its range.
    #[error("{setting} is {value}, but must be {range}; {why}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// What it may be.
        range: &'static str,
        /// What it would mean.
        why: &'static str,
    },
    /// A time that must pass is zero.
    #[error("{setting} is 0, but must be longer; {why}")]
    ZeroTime {
        /// The setting.
        setting: &'static str,
        /// What it would mean.
        why: &'static str,
    },
    /// Two sizes contradict each other.
    #[error(
        "{low_setting} is {low}, more than {high_setting}, which is {high}; {why}: lower the first or raise the second"
    )]
    SizesContradict {
        /// What must not be larger.
        low_setting: &'static str,
        /// Its value.
        low: usize,
        /// What must not be smaller.
        high_setting: &'static str,
        /// Its value.
        high: usize,
        /// Why not.
        why: &'static str,
    },
    /// Two times contradict each other.
    #[error(
        "{low_setting} is {low:?}, too long for {high_setting}, which is {high:?}; {why}: lower the first or raise the \
             second"
    )]
    TimesContradict {
        /// What must not be longer.
        low_setting: &'static str,
        /// Its value.
        low: Duration,
        /// What must not be shorter.
        high_setting: &'static str,
        /// Its value.
        high: Duration,
        /// Why not.
        why: &'static str,
    },
}
