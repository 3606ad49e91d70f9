//! How many descriptors this process may have: as many as it is allowed, and enough for what a node cannot do without.
//!
//! Where a login or a service begins a process, the limit that counts is often 1,024, and the one up to which the process may
//! raise it much higher. Under the low one, strangers at the port could take what the node needs for its files and its
//! peers.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// The limit is not raised beyond this: a node needs less, and other programs that this process starts inherit it, some of
/// which go through all numbers that descriptors may have.
const MOST: u64 = 1 << 20;

/// Descriptors of one executor: its rings, what wakes it, and what watches over its sockets.
const EXECUTOR: u64 = 12;

/// Those of a node: its port, the files of its log, its lock and directories.
const NODE: u64 = 12;

/// What a node takes, so that it can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorDemand {
    /// Data cores and the coordination core.
    pub(crate) executors: usize,
    /// Other nodes that it is going to be connected to, as far as they are known.
    pub(crate) peers: usize,
}

impl DescriptorDemand {
    /// How many descriptors beside those that are open already. Connections are counted twice: they are dialled from both
    /// sides, and one is closed once both know.
    pub(crate) fn needed(self) -> u64 {
        let (executors, peers) = (self.executors as u64, self.peers as u64);
        let connections = peers.saturating_mul(executors).saturating_mul(2);
        executors
            .saturating_mul(EXECUTOR)
            .saturating_add(NODE)
            .saturating_add(connections)
    }
}

/// There are fewer descriptors than a node needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "too few file descriptors: this process may have {allowed}, has {open} open, and the node needs {needed} more for its cores, \
     files and peers; raise the limit: `ulimit -n 65536`, in a systemd unit `LimitNOFILE=65536`, in docker \
     `--ulimit nofile=65536:65536`"
)]
pub struct TooFewDescriptors {
    /// How many this process may have.
    pub allowed: u64,
    /// How many it has.
    pub open: u64,
    /// How many more the node needs.
    pub needed: u64,
}

/// Lets this process have as many descriptors as it may allow itself.
///
/// # Errors
/// If that is less than a node needs; the limit is raised all the same.
pub(crate) fn provide(demand: DescriptorDemand) -> Result<(), TooFewDescriptors> {
    let limits = getrlimit(Resource::Nofile);
    let mut allowed = limits.current;
    if let Some(raised) = raised(limits) {
        let wanted = Rlimit {
            current: Some(raised),
            ..limits
        };
        match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => {
                tracing::info!(
                    from = limits.current,
                    to = raised,
                    "the limit of descriptors of this process is raised"
                );
                allowed = Some(raised);
            }
            Err(error) => {
                tracing::warn!(%error, limit = limits.current, "the limit of descriptors cannot be raised");
            }
        }
    }
    // Where this cannot be read, some are open for sure.
    let open = fs::read_dir("/proc/self/fd").map_or(3, |open| open.count() as u64);
    enough(allowed, open, demand.needed())
}

/// To what the limit is to be raised, if it can be.
fn raised(limits: Rlimit) -> Option<u64> {
    let current = limits.current?;
    let most = limits.maximum.map_or(MOST, |most| most.min(MOST));
    (most > current).then_some(most)
}

fn enough(allowed: Option<u64>, open: u64, needed: u64) -> Result<(), TooFewDescriptors> {
    match allowed {
        Some(allowed) if allowed < open.saturating_add(needed) => Err(TooFewDescriptors {
            allowed,
            open,
            needed,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(current: Option<u64>, maximum: Option<u64>) -> Rlimit {
        Rlimit { current, maximum }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be_and_makes_sense() {
        assert_eq!(raised(limits(Some(1_024), Some(4_096))), Some(4_096));
        assert_eq!(raised(limits(Some(1_024), None)), Some(MOST));
        assert_eq!(raised(limits(Some(1_024), Some(1 << 30))), Some(MOST));
        assert_eq!(raised(limits(Some(4_096), Some(4_096))), None);
        // Whoever has allowed more than we would keeps it.
        assert_eq!(raised(limits(Some(MOST + 1), None)), None);
        assert_eq!(raised(limits(None, None)), None);
    }

    #[test]
    fn what_a_node_needs_is_open_before_strangers_come() {
        let demand = DescriptorDemand {
            executors: 2,
            peers: 2,
        };
        let needed = demand.needed();
        assert_eq!(enough(Some(10 + needed), 10, needed), Ok(()));
        let error = enough(Some(9 + needed), 10, needed).unwrap_err();
        let told = error.to_string();
        for part in ["ulimit -n", "LimitNOFILE", &needed.to_string()] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(enough(None, 10, needed), Ok(()));
        let more = DescriptorDemand {
            executors: 3,
            ..demand
        };
        assert!(more.needed() > needed);
        let huge = DescriptorDemand {
            executors: usize::MAX,
            peers: usize::MAX,
        };
        assert!(enough(Some(1 << 20), 0, huge.needed()).is_err());
    }

    #[test]
    fn this_process_gets_what_it_may_have() {
        let demand = DescriptorDemand {
            executors: 1,
            peers: 0,
        };
        provide(demand).unwrap();
        assert_eq!(raised(getrlimit(Resource::Nofile)), None);
    }
}
