//! Times and bounds of a node, of which there are two sets that fit together.

use crate::actor::link::LinkBounds;
use crate::cluster::ledger_settings::LedgerSettings;
use crate::cluster::node::settings::NodeSettings;
use crate::cluster::steward::StewardSettings;
use crate::consensus::bootstrap::BootstrapSettings;
use crate::consensus::settings::ConsensusSettings;
use crate::links::settings::LinkSettings;
use crate::membership::settings::MembershipSettings;
use crate::wire::limits::FrameLimits;
use std::time::Duration;

/// Which of the sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// For any network and any machine: leases of 2.5 s, and a dead node is replaced within some seconds
    #[default]
    Default,
    /// For machines of one data centre that never stall: leases of 0.4 s, at five to ten times the traffic
    Fast,
}

/// Everything about time and bounds. The sets are made to fit together, and those of consensus must be the same on all nodes
/// of a cluster: change single fields only if you know what follows.
#[derive(Clone, Debug)]
pub struct ExpertSettings {
    /// How often a node that has not been let in asks again. Start with 250 ms.
    pub ask_every: Duration,
    /// The times of a founding.
    pub bootstrap: BootstrapSettings,
    /// Failure detection: probes, heartbeats, suspicion.
    pub membership: MembershipSettings,
    /// The log and the leases.
    pub consensus: ConsensusSettings,
    /// How shards are placed and moved.
    pub steward: StewardSettings,
    /// Connections, those for control and those of the data cores alike. Credit is for the latter only.
    pub links: LinkSettings,
    /// How large frames and buffers are, likewise. `frame_bytes` must be the same on all nodes.
    pub limits: FrameLimits,
    /// What a data core has for each other node, and what it holds of frames that came; `frame_bytes` in it is that of
    /// `limits`.
    pub bounds: LinkBounds,
    /// The log on the disk; none: as consensus needs it.
    pub ledger: Option<LedgerSettings>,
}

impl Default for ExpertSettings {
    fn default() -> ExpertSettings {
        ExpertSettings::of(Profile::Default)
    }
}

impl ExpertSettings {
    /// One of the sets.
    ///
    /// ```
    /// use corecast::node::cluster::expert::{ExpertSettings, Profile};
    ///
    /// let fast = ExpertSettings::of(Profile::Fast);
    /// assert!(fast.consensus.lease < ExpertSettings::default().consensus.lease);
    /// ```
    #[must_use]
    pub fn of(profile: Profile) -> ExpertSettings {
        let anywhere = core::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let node = NodeSettings::new(crate::base::ids::NodeId(1), anywhere);
        let node = match profile {
            Profile::Default => node,
            Profile::Fast => node.fast(),
        };
        let defaults = LinkSettings::default();
        let links = match profile {
            Profile::Default => defaults,
            // A node that is back is noticed as fast as everything else.
            Profile::Fast => LinkSettings {
                backoff_initial: Duration::from_millis(20),
                backoff_max: Duration::from_secs(1),
                steady_after: Duration::from_secs(1),
                ..defaults
            },
        };
        ExpertSettings {
            ask_every: node.ask_every,
            bootstrap: node.bootstrap,
            membership: node.membership,
            consensus: node.consensus,
            steward: node.steward,
            links,
            limits: FrameLimits::default(),
            bounds: LinkBounds::default(),
            ledger: None,
        }
    }
}
