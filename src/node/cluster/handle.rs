//! What a program sees of its cluster, and asks of it.

use crate::actor::event_stream::{Events, SubscribeError};
use crate::actor::handle::Handle;
use crate::actor::pending::Pending;
use crate::base::ids::NodeId;
use crate::io::cluster::boot_clock::boot_time;
use crate::io::cluster::status::{ClusterError, Goal, Status};
use crate::io::cluster::view::{ClusterChanged, ClusterView};
use crate::membership::view::Member;
use std::sync::Arc;
use std::time::Duration;

/// A node's part in its cluster, for any thread: what it knows, and what it may be asked. Cheap to clone.
///
/// What it says is what this node knows, which is never ahead of the cluster's log and may be behind it: by some
/// milliseconds, or for as long as this node is cut off ([`ClusterView::has_quorum`]).
///
/// What happens among the members is also published on the event stream of the runtime, in the order of the log:
/// [`MemberUp`](crate::MemberUp), [`UnreachableMember`](crate::UnreachableMember),
/// [`ReachableMember`](crate::ReachableMember), [`MemberLeft`](crate::MemberLeft), [`MemberDown`](crate::MemberDown), and
/// behind each the whole as [`ClusterChanged`]. Who hears of an event finds it in [`state`](Cluster::state). A node that
/// joins hears of the members that are there as if they had come just then; one that rejoins hears of them anew, and it hears
/// nothing between its two lives.
///
/// ```no_run
/// use corecast::{ClusterSettings, MemberDown, Runtime};
///
/// let settings = ClusterSettings::new(1, "127.0.0.1:7000", "data-1");
/// let runtime = Runtime::builder().cluster(settings).start()?;
/// let cluster = runtime.cluster().expect("it has settings for one");
/// let deaths = runtime.handle().events::<MemberDown>(100)?;
/// cluster.wait_for(3).wait()?;
/// println!("{:?} leads {} members", cluster.leader(), cluster.members().len());
/// for MemberDown { member } in deaths {
///     println!("{} is down", member.node);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    status: Arc<Status>,
    handle: Handle,
}

impl Cluster {
    pub(crate) fn new(status: Arc<Status>, handle: Handle) -> Cluster {
        Cluster { status, handle }
    }

    /// All that this node knows of its cluster at this moment.
    #[must_use]
    pub fn state(&self) -> Arc<ClusterView> {
        self.status.view()
    }

    /// Each new state from now on, for a thread outside of the cores, of which `bound` may wait; see
    /// [`Handle::events`](Handle::events). Actors subscribe to [`ClusterChanged`]. Subscribe first and look at
    /// [`state`](Cluster::state) then, and nothing is missed.
    ///
    /// # Errors
    /// If as many threads as may listen to it already.
    pub fn changes(&self, bound: usize) -> Result<Events<ClusterChanged>, SubscribeError> {
        self.handle.events(bound)
    }

    /// This node as a member; none before it has joined, and none between two lives.
    #[must_use]
    pub fn self_node(&self) -> Option<Member> {
        self.state().self_node.clone()
    }

    /// All members by their ids, this node included: those that join, are up, leave, and for a minute those that are down.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.state().members.clone()
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.state().leader
    }

    /// Whether the cluster can decide anything, as far as this node knows.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.state().has_quorum
    }

    /// Resolves when this node and at least `n` nodes in all are up, at once if they are. With an error, if this node takes
    /// part no more, or if 4,096 calls wait already.
    pub fn wait_for(&self, n: usize) -> Pending<Result<(), ClusterError>> {
        self.status.wait_for(Goal::Up(n))
    }

    /// Has this node leave: it hands leadership over, gives away what it has, and is a member no more. Resolves when it has,
    /// and its port and its directory are free; the runtime goes on without a cluster. Whoever drops the result gives up
    /// waiting, not the departure.
    ///
    /// It takes as long as the cluster needs to decide it: without a quorum, for ever. The shutdown of the runtime ends it in
    /// any case.
    pub fn leave(&self) -> Pending<Result<(), ClusterError>> {
        self.status.leave()
    }

    /// The runtime ends, and is to have ended within so long.
    pub(crate) fn ends_within(&self, limit: Duration) {
        self.status.end_by(boot_time() + limit);
    }

    pub(crate) fn wait_until(&self, goal: Goal) -> Pending<Result<(), ClusterError>> {
        self.status.wait_for(goal)
    }
}

impl Handle {
    /// The cluster of which the runtime is a node; none if it is none.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        let attached: Arc<dyn std::any::Any + Send + Sync> = self.gate().attached()?.clone();
        let status = attached.downcast::<Status>().ok()?;
        Some(Cluster::new(status, self.clone()))
    }
}
