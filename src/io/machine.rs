//! Reads the CPUs and limits of this process.

use crate::base::cpu_list::parse_cpu_list;
use crate::base::machine::Machine;
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Where the kernel tells the CPUs of each NUMA node.
const NUMA_NODES: &str = "/sys/devices/system/node";

/// Reads the machine this process runs on.
///
/// The allowed CPUs are those of the calling thread, which are the process's as long as nobody has pinned the thread:
/// call it before pinning any.
///
/// # Errors
///
/// The kernel does not tell the affinity mask.
pub fn read_machine() -> io::Result<Machine> {
    let cores = core_affinity::get_core_ids().ok_or_else(|| {
        io::Error::other(
            "the kernel does not tell on which CPUs this process may run (sched_getaffinity)",
        )
    })?;
    let mut allowed_cpus: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    allowed_cpus.sort_unstable();
    Ok(Machine {
        numa_nodes: numa_nodes(Path::new(NUMA_NODES), &allowed_cpus),
        locked_memory_bytes: getrlimit(Resource::Memlock).current,
        allowed_cpus,
    })
}

/// The CPUs of each node below `directory`; one node of all the allowed CPUs where there is no such directory, as in
/// some containers and kernels without NUMA, or where it cannot be understood.
fn numa_nodes(directory: &Path, allowed_cpus: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    match read_numa_nodes(directory) {
        Some(nodes) if !nodes.is_empty() => nodes,
        _ => BTreeMap::from([(0, allowed_cpus.to_vec())]),
    }
}

fn read_numa_nodes(directory: &Path) -> Option<BTreeMap<usize, Vec<usize>>> {
    let mut nodes = BTreeMap::new();
    for entry in fs::read_dir(directory).ok()? {
        let entry = entry.ok()?;
        // `node0`, `node1`, ... stand beside files such as `online`.
        let name = entry.file_name();
        let Some(Ok(node)) = name
            .to_str()
            .and_then(|name| name.strip_prefix("node"))
            .map(str::parse)
        else {
            continue;
        };
        let cpus = fs::read_to_string(entry.path().join("cpulist")).ok()?;
        nodes.insert(node, parse_cpu_list(&cpus).ok()?);
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory that goes away with its owner.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn new(test: &str, files: &[(&str, &str)]) -> Sysfs {
            let root = std::env::temp_dir().join(format!("corecast-{test}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a parent")).unwrap();
                fs::write(path, text).unwrap();
            }
            Sysfs(root)
        }
    }

    impl Drop for Sysfs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn nodes_are_read_from_sysfs() {
        let sysfs = Sysfs::new(
            "numa",
            &[
                ("node0/cpulist", "0-1,4\n"),
                ("node1/cpulist", "2-3\n"),
                ("node2/cpulist", "\n"),
                ("online", "0-2\n"),
                ("nodes_of_other_kinds/cpulist", "9\n"),
            ],
        );
        let expected = BTreeMap::from([(0, vec![0, 1, 4]), (1, vec![2, 3]), (2, vec![])]);
        assert_eq!(numa_nodes(&sysfs.0, &[0]), expected);
    }

    #[test]
    fn without_sysfs_there_is_one_node() {
        let one = BTreeMap::from([(0, vec![2, 5])]);
        assert_eq!(numa_nodes(Path::new("/nonexistent/corecast"), &[2, 5]), one);
        let no_nodes = Sysfs::new("numa-none", &[("online", "0\n")]);
        assert_eq!(numa_nodes(&no_nodes.0, &[2, 5]), one);
        let unreadable = Sysfs::new("numa-unreadable", &[("node0/cpulist", "what?\n")]);
        assert_eq!(numa_nodes(&unreadable.0, &[2, 5]), one);
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = read_machine().unwrap();
        assert!(!machine.allowed_cpus.is_empty());
        assert!(machine.allowed_cpus.is_sorted());
        for cpu in &machine.allowed_cpus {
            assert!(
                machine.numa_nodes.values().any(|cpus| cpus.contains(cpu)),
                "CPU {cpu} is on no node: {machine:?}"
            );
        }
    }
}
