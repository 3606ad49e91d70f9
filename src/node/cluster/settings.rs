//! What a node has to know of its cluster and of itself.

use super::expert::{ExpertSettings, Profile};
use super::seed_address::SeedAddress;
use crate::base::ids::NodeId;
use crate::consensus::bootstrap::Start;
use std::path::PathBuf;
use std::time::Duration;

/// How a runtime takes part in a cluster: give it to [`RuntimeBuilder::cluster`](crate::RuntimeBuilder::cluster).
///
/// A cluster is founded once, by the nodes that are named as seeds: *the same list on each of them*, themselves included.
/// As soon as a majority of them has found each other they decide on one beginning, and whoever comes later is let in.
/// Without seeds a node founds a cluster alone, to which others may come that name it as their seed. Two nodes have no
/// fail-over, for one of two is no majority: found with three, or five.
///
/// A node is who its id and its [data directory](ClusterSettings::data) say. Started again with both it is the same node in
/// a new life. With the id and without the directory it is let in as another disk that replaces the old one; set
/// [`start`](ClusterSettings::start) to [`Start::Join`] for that, so that it cannot take part in a founding once more.
///
/// ```
/// use corecast::ClusterSettings;
///
/// let mut settings = ClusterSettings::new(1, "10.0.0.1:7000", "/var/lib/shop");
/// settings.name = "shop".into();
/// settings.seeds = vec!["1@10.0.0.1:7000".parse()?, "2@10.0.0.2:7000".parse()?, "3@10.0.0.3:7000".parse()?];
/// settings.required_quorum = 2;
/// settings.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The cluster's name, 1 to 128 bytes, the same on all nodes. Default: `corecast`. Nodes of other names are refused, which
    /// keeps clusters apart that reach each other by mistake.
    pub name: String,

    /// This node's id, above 0, which it keeps over its lives and which no other node has. A second one with the id of a
    /// live node is not let in, and is told so.
    pub node: NodeId,

    /// Where this node listens, for streams and datagrams alike: `host:port`. With port 0 the system chooses one, which is
    /// the one that is advertised.
    ///
    /// Connections are not encrypted yet: bind to an address that only the other nodes reach.
    pub bind: String,

    /// Where others reach this node, `host:port`; with port 0 the one that is bound. Default: the bound address. It must be
    /// given if that is `0.0.0.0` or `[::]`, and where addresses are translated on the way.
    pub advertised: Option<String>,

    /// The founders, the same list on each of them; for other nodes whom to ask.
    ///
    /// A name need not stand for an address yet: it is looked up at the start, and while this node is not in, every 5 s for
    /// seeds to which it has no connection. So founders may start together before the name system knows them, and a seed
    /// that comes back with another address is found. Of the addresses of one name each is tried in turn. Until a name is
    /// known that is what [`ClusterView::obstacle`](crate::ClusterView::obstacle) says. Where a name system knows only nodes
    /// that are ready, have it publish those that are not ready too, or let [`required_quorum`](Self::required_quorum) be 0:
    /// else each waits for the others.
    pub seeds: Vec<SeedAddress>,

    /// What this node does; at most 32 roles, each of 1 to 64 bytes. Entities of a type with a role live on nodes that have
    /// it.
    pub roles: Vec<String>,

    /// Where this node keeps what it must not forget: its votes, its part of the log, its life. It is made if the directory
    /// above exists, takes 16 MiB at first, and belongs to one process at a time. The file system must know direct I/O
    /// (ext4, XFS, btrfs; tmpfs works and forgets). Its time for `fdatasync` is what each decision of the cluster costs at
    /// least.
    pub data: PathBuf,

    /// Whether this node may take part in a founding. Default: [`Start::Found`]. Use [`Start::Join`] for nodes that are added
    /// to a cluster, and for a machine whose disk was replaced.
    pub start: Start,

    /// How many nodes must be up, this one included, before the start returns. Default: 1. It also waits until this node
    /// holds a lease, so that the cluster can decide. With 0 it returns as soon as the data directory is open;
    /// [`Cluster::wait_for`](super::handle::Cluster::wait_for) waits for more.
    pub required_quorum: usize,

    /// How long the start waits for that. Default: 60 s. When it is over, the start fails with what stood in the way last, and
    /// the node is gone again.
    pub start_deadline: Duration,

    /// Whether the end of the runtime is a departure: the node gives away what it has, and is a member no more. Default:
    /// true. If not, it is declared down some seconds after its end, and a new life of it is let in only then: for a process
    /// that has to end at once.
    pub leave_on_shutdown: bool,

    /// How long the departure may take. Default: 10 s, and never more than half of the time for the shutdown. When it is over
    /// the node ends all the same, and is declared down.
    pub leave_deadline: Duration,

    /// Times and bounds.
    pub expert: ExpertSettings,
}

impl ClusterSettings {
    /// The settings of a node that founds a cluster alone; give it seeds to found one together, or to join.
    #[must_use]
    pub fn new(node: u32, bind: impl Into<String>, data: impl Into<PathBuf>) -> ClusterSettings {
        ClusterSettings {
            name: "corecast".to_owned(),
            node: NodeId(node),
            bind: bind.into(),
            advertised: None,
            seeds: Vec::new(),
            roles: Vec::new(),
            data: data.into(),
            start: Start::Found,
            required_quorum: 1,
            start_deadline: Duration::from_secs(60),
            leave_on_shutdown: true,
            leave_deadline: Duration::from_secs(10),
            expert: ExpertSettings::default(),
        }
    }

    /// Takes the times and bounds of a profile, which must be the same on all nodes.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> ClusterSettings {
        self.expert = ExpertSettings::of(profile);
        self
    }
}
