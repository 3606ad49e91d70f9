//! The settings of a node as flags, for a service to flatten into its own command line.

use super::expert::Profile;
use super::seed_address::SeedAddress;
use super::settings::ClusterSettings;
use crate::base::ids::NodeId;
use crate::consensus::bootstrap::Start;
use crate::node::settings::units::parse_duration;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Set on each flag: a heading set for the whole group would also cover what the service declares after it.
const HEADING: &str = "Cluster";

/// A node's part in a cluster as flags, beside [`PinningArgs`](crate::PinningArgs). Without `--node-id` there is no cluster.
///
/// ```
/// use clap::Parser;
/// use corecast::ClusterArgs;
///
/// #[derive(Parser)]
/// struct ServiceArgs {
///     #[command(flatten)]
///     cluster: ClusterArgs,
/// }
///
/// let flags = ["service", "--node-id", "2", "--bind", "10.0.0.2:7000", "--data-dir", "/var/lib/shop",
///     "--seed", "1@10.0.0.1:7000,2@10.0.0.2:7000,3@10.0.0.3:7000"];
/// let settings = ServiceArgs::parse_from(flags).cluster.settings().expect("a node id is given");
/// assert_eq!(settings.node.0, 2);
/// assert_eq!(settings.seeds.len(), 3);
/// settings.check()?;
/// assert_eq!(ServiceArgs::parse_from(["service"]).cluster.settings().map(|_| ()), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(id = "cluster")]
pub struct ClusterArgs {
    /// Id of this node, above 0 and no other node's; it makes the runtime a node of a cluster
    #[arg(long, help_heading = HEADING, value_name = "N", requires_all = ["bind", "data_dir"])]
    pub node_id: Option<u32>,

    /// Name of the cluster, the same on all nodes [default: corecast]
    #[arg(long, help_heading = HEADING, value_name = "NAME", requires = "node_id")]
    pub cluster_name: Option<String>,

    /// Where this node listens, such as `10.0.0.1:7000`; with port 0 the system chooses one
    #[arg(long, help_heading = HEADING, value_name = "HOST:PORT", requires = "node_id")]
    pub bind: Option<String>,

    /// Where others reach this node [default: where it listens]
    #[arg(long, help_heading = HEADING, value_name = "HOST:PORT", requires = "node_id")]
    pub advertise: Option<String>,

    /// The founders, this node included, the same list on each of them; for other nodes whom to ask
    ///
    /// May be given several times, or once with commas. Without any, this node founds a cluster alone.
    #[arg(long = "seed", help_heading = HEADING, value_name = "ID@HOST:PORT", value_delimiter = ',', requires = "node_id")]
    pub seeds: Vec<SeedAddress>,

    /// What this node does; may be given several times, or once with commas
    #[arg(long = "role", help_heading = HEADING, value_name = "ROLE", value_delimiter = ',', requires = "node_id")]
    pub roles: Vec<String>,

    /// Directory in which this node keeps its part of the log; the one above it must exist
    #[arg(long, help_heading = HEADING, value_name = "PATH", requires = "node_id")]
    pub data_dir: Option<PathBuf>,

    /// Never found a cluster: for nodes that are added, and for a machine whose disk was replaced
    #[arg(long, help_heading = HEADING, requires = "node_id")]
    pub join_only: bool,

    /// How many nodes must be up before the start is over, this one included; 0: wait for none [default: 1]
    #[arg(long, help_heading = HEADING, value_name = "N", requires = "node_id")]
    pub required_quorum: Option<usize>,

    /// How long the start may wait for that, such as `60s` [default: 60s]
    #[arg(long, help_heading = HEADING, value_name = "DURATION", value_parser = parse_duration, requires = "node_id")]
    pub start_deadline: Option<Duration>,

    /// End without leaving, and be declared down some seconds later: for a process that has to end at once
    #[arg(long, help_heading = HEADING, requires = "node_id")]
    pub no_leave: bool,

    /// Times that fit together, the same on all nodes [default: default]
    #[arg(long, help_heading = HEADING, value_enum, value_name = "PROFILE", requires = "node_id")]
    pub cluster_profile: Option<Profile>,
}

impl ClusterArgs {
    /// The settings of a node; none without `--node-id`. [`ClusterSettings::check`] says what is wrong with them, and so does
    /// the start.
    #[must_use]
    pub fn settings(&self) -> Option<ClusterSettings> {
        let bind = self.bind.clone().unwrap_or_default();
        let data = self.data_dir.clone().unwrap_or_default();
        let defaults = ClusterSettings::new(self.node_id?, bind, data);
        let defaults = defaults.profile(self.cluster_profile.unwrap_or_default());
        Some(ClusterSettings {
            node: NodeId(self.node_id?),
            name: self.cluster_name.clone().unwrap_or(defaults.name),
            advertised: self.advertise.clone(),
            seeds: self.seeds.clone(),
            roles: self.roles.clone(),
            start: match self.join_only {
                true => Start::Join,
                false => Start::Found,
            },
            required_quorum: self.required_quorum.unwrap_or(defaults.required_quorum),
            start_deadline: self.start_deadline.unwrap_or(defaults.start_deadline),
            leave_on_shutdown: !self.no_leave,
            ..defaults
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Service {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        pinning: crate::node::pinning_args::PinningArgs,
    }

    fn parse(flags: &str) -> Result<ClusterArgs, clap::Error> {
        let flags = ["service"].into_iter().chain(flags.split_whitespace());
        Ok(Service::try_parse_from(flags)?.cluster)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Service::command().debug_assert();
        assert!(parse("").unwrap().settings().is_none());
    }

    #[test]
    fn each_flag_sets_its_setting() {
        let base = "--node-id 1 --bind 127.0.0.1:0 --data-dir d";
        let settings = parse(base).unwrap().settings().unwrap();
        assert_eq!(settings.check(), Ok(()));
        assert!(settings.leave_on_shutdown);
        assert_eq!((settings.node, settings.required_quorum), (NodeId(1), 1));
        let flags = format!(
            "{base} --cluster-name shop --advertise a:7 --seed 1@a:7 --seed 2@b:7,3@c:7 --role x,y --join-only \
             --required-quorum 3 --start-deadline 7s --no-leave --cluster-profile fast"
        );
        let settings = parse(&flags).unwrap().settings().unwrap();
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.name, "shop");
        assert_eq!(settings.advertised.as_deref(), Some("a:7"));
        assert_eq!(settings.seeds.len(), 3);
        assert_eq!(settings.roles, ["x", "y"]);
        assert_eq!(settings.start, Start::Join);
        assert_eq!(settings.required_quorum, 3);
        assert_eq!(settings.start_deadline, Duration::from_secs(7));
        assert!(!settings.leave_on_shutdown);
        assert_eq!(settings.expert.consensus.lease, Duration::from_millis(400));
    }

    #[test]
    fn flags_of_a_cluster_need_a_node_of_one() {
        for flags in [
            "--bind 127.0.0.1:0",
            "--node-id 1 --data-dir d",
            "--node-id 1 --bind a:1",
            "--role x",
            "--node-id 1 --bind a:1 --data-dir d --seed a:1",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
    }
}
