//! From settings and a machine to the CPU of each core.
//!
//! The selection gives an ordered list of CPUs. Control must be served whatever the load, so the coordination core gets
//! one of them to itself where they can spare it: from four on, the data cores lose at most a quarter. Below that a CPU
//! of its own would cost a third or more of the throughput, so it shares one. Where threads share a CPU, a core that
//! polls while it is idle would poll away the time of the thread it waits for; so the default is then not to.

use super::core_selection::CoreSelection;
use super::error::SettingsError;
use super::fields::Settings;
use crate::base::cpu_list::CpuList;
use crate::base::machine::Machine;
use std::fmt;
use std::time::Duration;

/// How long an idle core polls before it parks, where every core has a CPU to itself: about what a wake costs in a
/// virtual machine, so that polling in vain at most doubles the price of a wake.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(50);

/// From how many selected CPUs on the coordination core has one of them to itself.
const CPUS_FOR_A_COORDINATION_CPU: usize = 4;

/// Where each core of a runtime runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The CPU of each data core: core *i* runs on `data_cores[i]`. At least one, none twice.
    pub data_cores: Vec<usize>,
    /// The CPU of the coordination core.
    pub coordination_cpu: usize,
    /// Whether the coordination core shares its CPU with a data core.
    pub coordination_shares: bool,
    /// How long a data core polls before it parks.
    pub spin: Duration,
    /// Batches that a lane holds: [`lane_batches`](Settings::lane_batches), or fewer where there are so many cores that all
    /// lanes towards one would take more than half of its budget.
    pub lane_batches: usize,
}

impl Plan {
    /// How many executors the plan starts: one for each data core, and one for the coordination core.
    #[must_use]
    pub fn executors(&self) -> usize {
        self.data_cores.len() + 1
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sharing = if self.coordination_shares {
            ", shared with a data core"
        } else {
            ""
        };
        let (cores, coordination) = (CpuList(&self.data_cores), self.coordination_cpu);
        write!(
            f,
            "data cores on CPUs {cores}, coordination on CPU {coordination}{sharing}, spin {:?}",
            self.spin
        )
    }
}

impl Settings {
    /// Checks the settings and says which CPU each core of the runtime gets on this machine.
    ///
    /// # Errors
    ///
    /// What [`validate`](Settings::validate) refuses, and a selection that this machine does not have or does not allow.
    pub fn plan(&self, machine: &Machine) -> Result<Plan, SettingsError> {
        self.validate()?;
        let mut data_cores = select(&self.cores, machine)?;
        if let Some(cpu) = self.coordination {
            check_cpu("coordination (--coordination-core)", cpu, machine)?;
        }
        let last = data_cores[data_cores.len() - 1];
        let coordination_cpu = self.coordination.unwrap_or(last);
        if data_cores.len() >= CPUS_FOR_A_COORDINATION_CPU {
            data_cores.retain(|cpu| *cpu != coordination_cpu);
        }
        let lane_batches = self.lane_batches_for(data_cores.len())?;
        let coordination_shares = data_cores.contains(&coordination_cpu);
        let default_spin = if coordination_shares {
            Duration::ZERO
        } else {
            DEFAULT_SPIN
        };
        Ok(Plan {
            data_cores,
            coordination_cpu,
            coordination_shares,
            spin: self.spin.unwrap_or(default_spin),
            lane_batches,
        })
    }
}

impl Settings {
    /// How many batches a lane between two of so many cores holds. What the lanes towards a core hold is set aside from its
    /// budget, so that it can always be taken.
    fn lane_batches_for(&self, cores: usize) -> Result<usize, SettingsError> {
        let one_batch_each = cores * self.batch_messages;
        let most = self.budget_messages / 2 / one_batch_each;
        if most == 0 {
            return Err(SettingsError::SizesContradict {
                low_setting: "twice a batch of batch_messages (--batch-messages) from each data core",
                low: 2 * one_batch_each,
                high_setting: "budget_messages (--budget-messages)",
                high: self.budget_messages,
                why: "a core's budget has to hold what is on its way to it",
            });
        }
        Ok(self.lane_batches.min(most))
    }
}

/// The selected CPUs: at least one, all of them allowed, none twice.
fn select(selection: &CoreSelection, machine: &Machine) -> Result<Vec<usize>, SettingsError> {
    let allowed = &machine.allowed_cpus;
    if allowed.is_empty() {
        return Err(SettingsError::NoCpus);
    }
    match selection {
        CoreSelection::All => Ok(allowed.clone()),
        CoreSelection::Count(0) => Err(SettingsError::EmptySelection {
            available: available(machine),
        }),
        CoreSelection::Count(count) => match allowed.get(..*count) {
            Some(cpus) => Ok(cpus.to_vec()),
            None => Err(SettingsError::CountTooLarge {
                count: *count,
                allowed: allowed.len(),
                available: available(machine),
            }),
        },
        CoreSelection::List(cpus) if cpus.is_empty() => Err(SettingsError::EmptySelection {
            available: available(machine),
        }),
        CoreSelection::List(cpus) => {
            for (index, cpu) in cpus.iter().enumerate() {
                check_cpu("cores (--cores)", *cpu, machine)?;
                if cpus[..index].contains(cpu) {
                    return Err(SettingsError::CpuTwice { cpu: *cpu });
                }
            }
            Ok(cpus.clone())
        }
        CoreSelection::NumaNode(node) => {
            let Some(cpus) = machine.numa_nodes.get(node) else {
                let nodes: Vec<usize> = machine.numa_nodes.keys().copied().collect();
                return Err(SettingsError::NoSuchNumaNode {
                    node: *node,
                    available: CpuList(&nodes).to_string(),
                });
            };
            let usable: Vec<usize> = cpus
                .iter()
                .copied()
                .filter(|cpu| machine.allows(*cpu))
                .collect();
            if usable.is_empty() {
                return Err(SettingsError::NumaNodeNotAllowed {
                    node: *node,
                    cpus: CpuList(cpus).to_string(),
                    available: available(machine),
                });
            }
            Ok(usable)
        }
    }
}

fn check_cpu(setting: &'static str, cpu: usize, machine: &Machine) -> Result<(), SettingsError> {
    if machine.allows(cpu) {
        Ok(())
    } else if machine.has(cpu) {
        Err(SettingsError::CpuNotAllowed {
            setting,
            cpu,
            available: available(machine),
        })
    } else {
        Err(SettingsError::NoSuchCpu {
            setting,
            cpu,
            available: available(machine),
        })
    }
}

fn available(machine: &Machine) -> String {
    CpuList(&machine.allowed_cpus).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn plan(
        cores: &str,
        coordination: Option<usize>,
        machine: &Machine,
    ) -> Result<Plan, SettingsError> {
        let cores = cores.parse().expect("a selection");
        Settings {
            cores,
            coordination,
            ..Settings::default()
        }
        .plan(machine)
    }

    /// CPUs 0-3 on node 0 and 4-7 on node 1, and none on node 2; this process may run on 2-5.
    fn two_nodes() -> Machine {
        Machine {
            allowed_cpus: vec![2, 3, 4, 5],
            numa_nodes: BTreeMap::from([(0, vec![0, 1, 2, 3]), (1, vec![4, 5, 6, 7]), (2, vec![])]),
            locked_memory_bytes: None,
        }
    }

    #[test]
    fn the_coordination_core_has_a_cpu_to_itself_from_four_on() {
        // selection, coordination given -> data cores, coordination CPU, shared
        for (cores, given, data, coordination, shared) in [
            ("count:1", None, &[0][..], 0, true),
            ("count:2", None, &[0, 1], 1, true),
            ("count:3", None, &[0, 1, 2], 2, true),
            ("count:4", None, &[0, 1, 2], 3, false),
            ("all", None, &[0, 1, 2, 3, 4, 5, 6], 7, false),
            // The order of a list is the order of the cores, and its last is the last.
            ("5,1,3,0", None, &[5, 1, 3], 0, false),
            ("6,2", None, &[6, 2], 2, true),
            // Given inside of the selection.
            ("count:4", Some(1), &[0, 2, 3], 1, false),
            ("count:3", Some(0), &[0, 1, 2], 0, true),
            // Given outside of it.
            ("count:1", Some(7), &[0], 7, false),
            ("count:4", Some(7), &[0, 1, 2, 3], 7, false),
        ] {
            let spin = if shared { Duration::ZERO } else { DEFAULT_SPIN };
            let expected = Plan {
                data_cores: data.to_vec(),
                coordination_cpu: coordination,
                coordination_shares: shared,
                spin,
                lane_batches: 128,
            };
            assert_eq!(
                plan(cores, given, &Machine::uniform(8)),
                Ok(expected),
                "{cores} with {given:?}"
            );
        }
    }

    #[test]
    fn the_lanes_towards_a_core_take_at_most_half_of_its_budget() {
        let machine = Machine::uniform(128);
        let plan = Settings::default().plan(&machine).unwrap();
        assert_eq!((plan.data_cores.len(), plan.lane_batches), (127, 61));
        let edge = |budget_messages| Settings {
            budget_messages,
            mailbox: 1_000,
            outbox_messages: 1_000,
            batch_messages: 64,
            lane_batches: 1,
            ..Settings::default()
        };
        let least = 2 * 127 * 64;
        assert_eq!(edge(least).plan(&machine).unwrap().lane_batches, 1);
        assert!(matches!(
            edge(least - 1).plan(&machine),
            Err(SettingsError::SizesContradict { low, .. }) if low == least
        ));
    }

    #[test]
    fn a_given_spin_is_kept_where_cpus_are_shared_too() {
        for spin in [Duration::ZERO, Duration::from_millis(1)] {
            for cpus in [2, 8] {
                let settings = Settings {
                    spin: Some(spin),
                    ..Settings::default()
                };
                assert_eq!(
                    settings.plan(&Machine::uniform(cpus)).unwrap().spin,
                    spin,
                    "{cpus} CPUs"
                );
            }
        }
    }

    #[test]
    fn only_allowed_cpus_are_taken() {
        let machine = two_nodes();
        let data = |cores| plan(cores, None, &machine).unwrap().data_cores;
        assert_eq!(data("all"), [2, 3, 4]);
        assert_eq!(data("count:2"), [2, 3]);
        assert_eq!(data("numa:0"), [2, 3]);
        assert_eq!(data("numa:1"), [4, 5]);
    }

    #[test]
    fn impossible_selections_say_what_is_available() {
        let machine = two_nodes();
        for (cores, coordination, expected) in [
            (
                "2,9",
                None,
                "cores (--cores) names CPU 9, which this machine does not have; available: 2-5",
            ),
            (
                "0,2",
                None,
                "cores (--cores) names CPU 0, on which this process may not run; available: 2-5; choose one of these, or \
                 widen the process's affinity mask (`taskset`) or cpuset (docker: `--cpuset-cpus`)",
            ),
            (
                "2,3,2",
                None,
                "cores (--cores) names CPU 2 twice; a CPU runs one data core, name it once",
            ),
            (
                "count:0",
                None,
                "no core is selected; choose at least one of the available CPUs 2-5, or leave the choice out for all",
            ),
            (
                "count:5",
                None,
                "5 cores are asked for, but this process may run on 4 only: 2-5; ask for fewer, or widen its affinity mask \
                 or cpuset",
            ),
            (
                "numa:7",
                None,
                "there is no NUMA node 7 on this machine; its nodes are 0-2",
            ),
            (
                "numa:2",
                None,
                "NUMA node 2 has the CPUs none, and this process may run on none of them; available: 2-5; choose another \
                 node, or widen the process's affinity mask (`taskset`) or cpuset (docker: `--cpuset-cpus`)",
            ),
            (
                "all",
                Some(64),
                "coordination (--coordination-core) names CPU 64, which this machine does not have; available: 2-5",
            ),
        ] {
            let error = plan(cores, coordination, &machine).unwrap_err();
            assert_eq!(error.to_string(), expected, "{cores} with {coordination:?}");
        }
        let not_allowed = plan("all", Some(7), &machine).unwrap_err();
        assert!(
            matches!(not_allowed, SettingsError::CpuNotAllowed { cpu: 7, .. }),
            "{not_allowed}"
        );
        let empty = Settings {
            cores: CoreSelection::List(vec![]),
            ..Settings::default()
        };
        assert!(matches!(
            empty.plan(&machine),
            Err(SettingsError::EmptySelection { .. })
        ));
        assert_eq!(
            Settings::default().plan(&Machine::default()),
            Err(SettingsError::NoCpus)
        );
    }

    #[test]
    fn contradicting_sizes_are_refused_before_the_cpus_are_looked_at() {
        let settings = Settings {
            mailbox: 0,
            ..Settings::default()
        };
        assert!(matches!(
            settings.plan(&Machine::default()),
            Err(SettingsError::OutOfRange { .. })
        ));
    }

    #[test]
    fn a_plan_reads_as_a_sentence() {
        let shared = Settings::default().plan(&Machine::uniform(2)).unwrap();
        assert_eq!(
            shared.to_string(),
            "data cores on CPUs 0-1, coordination on CPU 1, shared with a data core, spin 0ns"
        );
        assert_eq!(shared.executors(), 3);
    }

    proptest! {
        /// Whatever is selected: the plan uses selected and allowed CPUs, each once, and shares exactly when it says so.
        #[test]
        fn plans_hold_their_promises(
            allowed in prop::collection::btree_set(0..12_usize, 1..10),
            listed in prop::collection::vec(0..12_usize, 0..6),
            count in 0..12_usize,
            kind in 0..4_u8,
            coordination in prop::option::of(0..12_usize),
        ) {
            let mut machine = Machine::uniform(12);
            machine.allowed_cpus = allowed.iter().copied().collect();
            let cores = match kind {
                0 => CoreSelection::All,
                1 => CoreSelection::Count(count),
                2 => CoreSelection::List(listed.clone()),
                _ => CoreSelection::NumaNode(0),
            };
            let possible = coordination.is_none_or(|cpu| allowed.contains(&cpu)) && match &cores {
                CoreSelection::All | CoreSelection::NumaNode(_) => true,
                CoreSelection::Count(count) => (1..=allowed.len()).contains(count),
                CoreSelection::List(cpus) => {
                    let distinct: BTreeSet<usize> = cpus.iter().copied().collect();
                    !cpus.is_empty() && distinct.len() == cpus.len() && distinct.is_subset(&allowed)
                }
            };
            let plan = Settings { cores, coordination, ..Settings::default() }.plan(&machine);
            prop_assert_eq!(plan.is_ok(), possible, "{:?}", plan);
            if let Ok(plan) = plan {
                let data: BTreeSet<usize> = plan.data_cores.iter().copied().collect();
                prop_assert!(!data.is_empty() && data.len() == plan.data_cores.len());
                prop_assert!(data.is_subset(&allowed) && allowed.contains(&plan.coordination_cpu));
                prop_assert_eq!(plan.coordination_shares, data.contains(&plan.coordination_cpu));
                prop_assert!(!plan.coordination_shares || data.len() < CPUS_FOR_A_COORDINATION_CPU);
                prop_assert!(coordination.is_none_or(|cpu| cpu == plan.coordination_cpu));
            }
        }
    }
}
