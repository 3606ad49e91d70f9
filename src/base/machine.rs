//! What the runtime must know of the machine it starts on, as data: the drivers read it, the planning uses it.

use std::collections::BTreeMap;

/// The CPUs and limits of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs this process may run on, ascending: what `taskset`, a cpuset or a container leaves of the machine's.
    pub allowed_cpus: Vec<usize>,
    /// The CPUs of each NUMA node, allowed or not. A machine that does not tell has one node, 0, of the allowed CPUs.
    pub numa_nodes: BTreeMap<usize, Vec<usize>>,
    /// How much memory this process may lock (`RLIMIT_MEMLOCK`, the soft limit), in bytes; `None` is without a limit.
    pub locked_memory_bytes: Option<u64>,
}

impl Machine {
    /// A machine of one NUMA node whose CPUs `0..cpus` are all allowed, without a limit on locked memory.
    ///
    /// ```
    /// use corecast::base::machine::Machine;
    ///
    /// assert_eq!(Machine::uniform(3).allowed_cpus, [0, 1, 2]);
    /// ```
    #[must_use]
    pub fn uniform(cpus: usize) -> Machine {
        let allowed_cpus: Vec<usize> = (0..cpus).collect();
        Machine {
            numa_nodes: BTreeMap::from([(0, allowed_cpus.clone())]),
            allowed_cpus,
            locked_memory_bytes: None,
        }
    }

    /// Whether this process may run on `cpu`.
    #[must_use]
    pub fn allows(&self, cpu: usize) -> bool {
        self.allowed_cpus.contains(&cpu)
    }

    /// Whether the machine has `cpu`, allowed for this process or not.
    #[must_use]
    pub fn has(&self, cpu: usize) -> bool {
        self.allows(cpu) || self.numa_nodes.values().any(|cpus| cpus.contains(&cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_can_exist_without_being_allowed() {
        let mut machine = Machine::uniform(4);
        machine.allowed_cpus = vec![1, 2];
        assert!(machine.allows(1) && machine.has(1));
        assert!(!machine.allows(3) && machine.has(3));
        assert!(!machine.allows(4) && !machine.has(4));
    }
}
