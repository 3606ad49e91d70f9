//! What a node knows of its cluster, as data for its users.

use crate::base::ids::{Incarnation, NodeId};
use crate::cluster::node::output::StopCause;
use crate::cluster::plane::PlaneStartError;
use crate::consensus::peer::ClusterId;
use crate::io::ledger_files::LedgerStartError;
use crate::membership::view::Member;
use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Where a node is in its part in the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum ClusterPhase {
    /// It opens its data directory.
    #[default]
    Starting,
    /// It founds a cluster, or asks to be let in.
    Joining,
    /// It has been let in as soon as its previous life is over, which takes no longer than that, as far as is known.
    Waiting {
        /// The life that ends.
        previous: Incarnation,
        /// How long that takes.
        at_most: Duration,
    },
    /// It is a member in this life.
    Member(Incarnation),
    /// Its life has ended against its will, and it comes back as another.
    Rejoining(StopCause),
    /// It takes part no more.
    Ended(ClusterEnd),
}

/// Why a node takes part no more in its cluster. Its runtime goes on without one.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ClusterEnd {
    /// It has left, cannot be let in, or does not know what its disk holds.
    #[error(transparent)]
    Stopped(#[from] StopCause),
    /// Its data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] LedgerStartError),
    /// It could not begin a life.
    #[error(transparent)]
    NotStarted(#[from] PlaneStartError),
    /// Its control plane has panicked, which is a bug of corecast; the log tells more.
    #[error("the control plane of this node panicked, which is a bug of corecast: {0}")]
    Panicked(String),
    /// Its sockets cannot be used.
    #[error("the sockets of this node cannot be used: {0}")]
    Sockets(String),
    /// The runtime has ended, without leaving.
    #[error("the runtime of this node has ended")]
    ShutDown,
}

/// What a node knows of its cluster at some time. It never changes; a newer one has a higher version.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClusterView {
    /// Higher in each view of a runtime.
    pub version: u64,
    /// The cluster's name.
    pub name: Arc<str>,
    /// The id of this node.
    pub node: NodeId,
    /// Where others reach this node, by stream and by datagram.
    pub advertised: SocketAddr,
    /// Where this node is in its part in the cluster.
    pub phase: ClusterPhase,
    /// The id that the cluster was given when it was founded, as soon as this node belongs to one.
    pub cluster: Option<ClusterId>,
    /// This node as a member; none before it has joined and after that life.
    pub self_node: Option<Member>,
    /// All members, this node included, by their ids: joining, up, leaving, and for a minute those that are down.
    pub members: Vec<Member>,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Whether the cluster can decide anything, as far as this node knows: it holds a lease. Without it there are no joins
    /// and no failovers, and this node may run nothing that only one node may run.
    pub has_quorum: bool,
    /// What stood in this node's way last when it wanted to be let in.
    pub obstacle: Option<Arc<str>>,
}

impl ClusterView {
    pub(crate) fn new(name: &str, node: NodeId, advertised: SocketAddr) -> ClusterView {
        ClusterView {
            version: 0,
            name: name.into(),
            node,
            advertised,
            phase: ClusterPhase::Starting,
            cluster: None,
            self_node: None,
            members: Vec::new(),
            leader: None,
            has_quorum: false,
            obstacle: None,
        }
    }

    /// The members that may be given work, by their ids.
    pub fn up(&self) -> impl Iterator<Item = &Member> {
        let is_up = |member: &&Member| member.state == crate::membership::view::MemberState::Up;
        self.members.iter().filter(is_up)
    }

    /// A member, if there is one of this id.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Why this node takes part no more, if so.
    #[must_use]
    pub fn end(&self) -> Option<&ClusterEnd> {
        match &self.phase {
            ClusterPhase::Ended(end) => Some(end),
            _ => None,
        }
    }
}

/// Something in the [`ClusterView`] has changed: published on the event stream of the runtime, with the new view.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterChanged(pub Arc<ClusterView>);
