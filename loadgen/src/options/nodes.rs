//! The flags of a run over a cluster, and what they amount to.

use std::path::PathBuf;

use clap::{Args, value_parser};
use corecast::PinningArgs;
use corecast::node::cluster::expert::Profile;

use super::fault::{FaultKind, FaultSpec, Who};
use super::job::{Contradiction, Setting};
use crate::units;

/// The most nodes of one run: they are on one machine.
pub const MAX_NODES: u32 = 9;
/// The least of which one may fail.
const WITH_FAILOVER: u32 = 3;

/// The flags.
#[derive(Args, Clone, Debug, Default)]
pub struct NodesArgs {
    /// Run a cluster of N nodes on loopback, each a process of its own, and drive it from inside all of them
    ///
    /// The entities are those of the whole cluster. --cores names the CPUs that the nodes share among them.
    #[arg(long, value_name = "N", help_heading = "Cluster",
          value_parser = value_parser!(u32).range(1..=i64::from(MAX_NODES)))]
    pub nodes: Option<u32>,
    /// Data cores of each node [default: the CPUs divided by the nodes, at least 1]
    #[arg(long, value_name = "N", requires = "nodes", help_heading = "Cluster",
          value_parser = value_parser!(u16).range(1..=64))]
    pub node_cores: Option<u16>,
    /// Share of the operations whose entity the sending node owns itself, from 0 to 1 [default: as the keys fall]
    #[arg(long, value_name = "R", value_parser = parse_share, requires = "nodes", help_heading = "Cluster")]
    pub local_ratio: Option<f64>,
    /// Fault during the measured time, as `KIND@TIME[+DOWN][:WHO]`; repeatable
    ///
    /// kill (SIGKILL, started again after DOWN, 5s), pause (SIGSTOP for DOWN, 10s), partition (its link down for DOWN, 10s;
    /// takes root and iproute2) or restart (it leaves and is started again). WHO is a node's number, leader, follower
    /// (the default) or, for a restart, all. One at a time: a fault waits until the cluster is whole again.
    #[arg(
        long = "fault",
        value_name = "KIND@TIME[+DOWN][:WHO]",
        requires = "nodes",
        help_heading = "Cluster"
    )]
    pub faults: Vec<FaultSpec>,
    /// Run the faults K times, --duration apart, and the last phase K times as long; in a replay 10s apart. One that finds
    /// the cluster not whole waits, and what does not take place in time is counted and makes exit code 7
    #[arg(long, value_name = "K", default_value_t = 1, requires = "faults", help_heading = "Cluster",
          value_parser = value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Times of failure detection, consensus and leases, the same on all nodes [default: default]
    #[arg(
        long,
        value_enum,
        value_name = "PROFILE",
        requires = "nodes",
        help_heading = "Cluster"
    )]
    pub cluster_profile: Option<Profile>,
    /// Directory for the logs of the nodes; a directory of this run is made in it and removed at the end [default: the
    /// system's for temporary files]
    #[arg(
        long,
        value_name = "PATH",
        requires = "nodes",
        help_heading = "Cluster"
    )]
    pub cluster_dir: Option<PathBuf>,
}

/// A cluster as a job asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Nodes {
    /// How many nodes; their numbers begin with 1.
    pub count: u32,
    /// Data cores of each; `None` divides the CPUs.
    pub cores_each: Option<u16>,
    /// Share of the operations that stay on their node.
    pub local_ratio: Option<f64>,
    /// What happens to them, by the time at which it does.
    pub faults: Vec<FaultSpec>,
    /// How often.
    pub repeat: u32,
    /// Times of the cluster.
    pub profile: Profile,
    /// Where the nodes' directories are made.
    pub directory: Option<PathBuf>,
}

impl NodesArgs {
    /// The cluster that is asked for, if one is.
    pub(super) fn nodes(&self, pinning: &PinningArgs) -> Result<Option<Nodes>, Contradiction> {
        let Some(count) = self.nodes else {
            return Ok(None);
        };
        refuse_placing(pinning)?;
        let mut faults = self.faults.clone();
        for fault in &faults {
            if let Who::Node(node) = fault.who
                && node > count
            {
                return Err(Contradiction::NoSuchNode { node, count });
            }
            if fault.kind.takes_a_node() && count < WITH_FAILOVER {
                return Err(Contradiction::NoFailover(fault.kind.name()));
            }
            if fault.who == Who::Follower && count < 2 {
                return Err(Contradiction::NoFollower);
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Ok(Some(Nodes {
            count,
            cores_each: self.node_cores,
            local_ratio: self.local_ratio,
            faults,
            repeat: self.repeat,
            profile: self.cluster_profile.unwrap_or_default(),
            directory: self.cluster_dir.clone(),
        }))
    }
}

/// Refuses the flags that place one runtime, which several cannot all have.
pub(super) fn refuse_placing(pinning: &PinningArgs) -> Result<(), Contradiction> {
    let flags = [
        ("core-count", pinning.core_count.is_some()),
        ("numa-node", pinning.numa_node.is_some()),
        ("coordination-core", pinning.coordination_core.is_some()),
    ];
    match flags.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => Err(Contradiction::OfOneNode(flag)),
    }
}

impl Nodes {
    /// Whether any of the faults cuts links.
    #[must_use]
    pub fn has_partitions(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.kind == FaultKind::Partition)
    }

    /// For the report.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let profile = match self.profile {
            Profile::Default => "default",
            Profile::Fast => "fast",
        };
        let mut settings = vec![
            Setting::new("nodes", format!("{}, profile {profile}", self.count)),
            Setting::new(
                "local ratio",
                self.local_ratio
                    .map_or("as the keys fall".to_owned(), units::percent),
            ),
        ];
        let times = match self.repeat {
            1 => String::new(),
            repeat => format!(", {repeat} times"),
        };
        settings.extend(
            self.faults
                .iter()
                .map(|fault| Setting::new("fault", format!("{fault}{times}"))),
        );
        settings
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share lies between 0 and 1, such as 0.33".to_owned()),
    }
}
