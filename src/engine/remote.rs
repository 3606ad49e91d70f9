//! A core and the rest of the cluster, as its driver sees it: frames in, frames out, and what the cluster has decided.
//!
//! The connections are those of `DataLinks`. In each round it gives the core what has come
//! (`Engine::take_frames`), the core turns, and what may leave goes into connections (`Engine::outgoing`,
//! `Engine::lend`, `Engine::left`); when a connection breaks the core hears so (`Engine::link_lost`). Everything of a
//! core for one node goes over connections that keep its order: one at a time.
//!
//! The coordination core's driver also brings what the log of the cluster says (`Engine::set_owners`) and the lease
//! (`Engine::set_lease`), and hears for which shards messages wait that have no owner (`Engine::wanted`).

use super::core::Engine;
use super::parting::Partings;
use crate::actor::control::Control;
use crate::actor::link::{Connection, Link};
use crate::actor::local::Local;
use crate::actor::own_life::OnCore;
use crate::actor::refusal::Rejection;
use crate::actor::remote::Lease;
use crate::actor::reply;
use crate::base::ids::{CoreId, NodeId, ShardKey};
use crate::sharding::cluster_view::{OwnershipError, OwnershipUpdate};
use crate::sharding::coordinator::Input;
use crate::sharding::topology::Topology;
use crate::wire::address::Life;
use crate::wire::frame::FrameRef;

/// A core that takes frames between two turns.
pub(crate) struct Intake<'a> {
    local: &'a mut Local,
    frames: usize,
}

impl Intake<'_> {
    /// Takes one frame, where it lies, that has come over a connection to this life of a node. Returns whether the core takes
    /// another one before its turn.
    pub(crate) fn take(&mut self, frame: &FrameRef<'_>, by: Life) -> bool {
        self.frames += 1;
        self.local.take_frame(frame, by);
        if reply::has_orphans() {
            self.local.settle_orphans(false);
        }
        self.has_room()
    }

    /// Whether the core takes another frame before its turn.
    pub(crate) fn has_room(&self) -> bool {
        self.local.arrivals > 0 && !self.local.yield_wanted
    }
}

impl Engine {
    /// How many frames a core takes before one turn: as many as one turn may handle messages. What they cost beyond that is
    /// on the [`Intake`] to see. From here on it counts anew.
    pub(crate) fn begin_intake(&mut self) -> usize {
        let local = &mut *self.local.borrow_mut();
        local.now = local.clock.now();
        local.clock_read = local.now;
        local.arrivals = local.limits.turn_messages.max(1);
        local.yield_wanted = false;
        usize::try_from(local.arrivals).unwrap_or(usize::MAX)
    }

    /// Has `work` hand in frames that have come. `None`: the core takes nothing any more.
    pub(crate) fn take_frames<T>(&mut self, work: impl FnOnce(&mut Intake<'_>) -> T) -> Option<T> {
        if self.halted || self.has_stopped() {
            return None;
        }
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        local.see_to_lease();
        let mut intake = Intake { local, frames: 0 };
        let done = work(&mut intake);
        let frames = intake.frames;
        intake.local.end_faulty();
        if frames > 0 {
            self.is_no_longer_idle();
        }
        Some(done)
    }

    /// Whether this core may hear of this life yet: it knows the node in no such life, nor in a later one.
    pub(crate) fn awaits(&self, life: Life) -> bool {
        let local = self.local.borrow();
        let Some(remote) = &local.remote else {
            return false;
        };
        let known = remote.links.get(&life.node);
        known.is_none_or(|link| link.life.incarnation < life.incarnation)
    }

    /// The nodes, each in the life in which this core knows it, for which frames may leave that are in no connection.
    pub(crate) fn outgoing(&self) -> Vec<Life> {
        let local = self.local.borrow();
        let links = local.remote.iter().flat_map(|remote| remote.links.values());
        links
            .filter(|link| !link.outgoing().is_empty())
            .map(|link| link.life)
            .collect()
    }

    /// Whether nothing of this core waits for another node, in a connection or not.
    pub(crate) fn has_sent_all(&self) -> bool {
        let local = self.local.borrow();
        let mut links = local.remote.iter().flat_map(|remote| remote.links.values());
        links.all(Link::is_empty)
    }

    /// Has a connection copy whole frames for a life of a node, those of whole turns, from the front; it says how many, and
    /// of how many bytes in all. They stay here until they have [left](Engine::left).
    pub(crate) fn lend(&self, to: Life, copy: impl FnOnce(&[u8]) -> (usize, usize)) -> usize {
        let mut local = self.local.borrow_mut();
        let link = local
            .remote
            .as_mut()
            .and_then(|it| it.link(to.node, Some(to)));
        let Some(link) = link else {
            return 0;
        };
        let (frames, bytes) = copy(link.outgoing());
        link.lend(frames, bytes);
        frames
    }

    /// A connection to a life of a node has given so many more of the frames that it had copied to the network, whole.
    pub(crate) fn left(&self, to: Life, frames: usize) {
        let mut local = self.local.borrow_mut();
        if let Some(remote) = &mut local.remote
            && let Some(link) = remote.link(to.node, Some(to))
        {
            let left = link.left(frames) as u64;
            remote.stats.frames_sent += left;
        }
    }

    /// The connection to a node is gone, or none could be made: what waits for it is refused, and asks that have left for it
    /// end as unknown. What is sent from now on waits for the next connection. If a life is given, it is only about that.
    pub(crate) fn link_lost(&mut self, node: NodeId, life: Option<Life>) {
        let _on_core = reply::enter_core();
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        let remote = local.remote.as_mut();
        if remote.is_none_or(|remote| remote.link(node, life).is_none()) {
            return;
        }
        local.lose_link(node, Connection::Gone);
        self.node_handoff.link_lost(node, local.now);
        local.settle_orphans(false);
        local.end_faulty();
        self.is_no_longer_idle();
    }

    /// Coordination core: what the log of the cluster says of nodes and shards. Every core of the node acts upon it from
    /// its next turn on.
    ///
    /// # Errors
    /// If the news contradict what this node knows; nothing has changed.
    pub(crate) fn set_owners(&mut self, news: OwnershipUpdate) -> Result<(), OwnershipError> {
        let now = self.local.borrow().clock.now();
        if let Some(coordination) = &mut self.coordination {
            // The coordinator has no use for news that do not fit.
            coordination.topology().owned(&news)?;
            coordination.tell(Input::OwnershipChanged(news), now);
        }
        self.is_no_longer_idle();
        Ok(())
    }

    /// Coordination core: the lease of the node, for all of its cores.
    pub(crate) fn set_lease(&mut self, lease: Lease) {
        self.tell_all(|| Control::Lease(lease));
    }

    /// Coordination core: the cluster has given the node a life. Owners and lease of that life come after it.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "simulated cores have one life each")
    )]
    pub(crate) fn begin_life(&mut self, life: Life) {
        self.tell_all(|| Control::Life(life));
    }

    /// Coordination core: the life of the node is over. It has no lease and no shards any more and knows nobody; what is
    /// sent to entities waits, as far as there is room, for the next life to say who owns them.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(
            dead_code,
            reason = "but for tests, simulated cores have one life each"
        )
    )]
    pub(crate) fn end_life(&mut self) {
        self.set_lease(Lease::Lapsed);
        let now = self.local.borrow().clock.now();
        if let Some(coordination) = &mut self.coordination {
            coordination.partings = Partings::default();
            let nobody = coordination.topology().abandoned();
            coordination.tell(Input::OwnershipChanged(nobody), now);
        }
        self.is_no_longer_idle();
    }

    /// This thread runs this core until the result is dropped; and the node of the core has this life, if it is given.
    /// Simulated cores share a thread, and are given their life before they run.
    pub(crate) fn enter(&self, life: Option<Life>) -> OnCore {
        let mut local = self.local.borrow_mut();
        let on_core = local.enter();
        if let Some(life) = life {
            local.begin_life(life);
        }
        on_core
    }

    pub(super) fn tell_all(&mut self, message: impl Fn() -> Control) {
        let shared = self.local.clone();
        let local = &mut *shared.borrow_mut();
        for core in 0..local.port.cores() as u16 {
            self.send_control(local, CoreId(core), message());
        }
        local.ring_bells();
        self.is_no_longer_idle();
    }

    /// Coordination core: the shards for which messages wait on some core of this node and that no node owns, as the
    /// cluster numbers their types. They stay in here until they have an owner.
    pub(crate) fn wanted(&self) -> Vec<ShardKey> {
        let coordination = self.coordination.iter();
        coordination.flat_map(|it| it.wanted()).collect()
    }

    /// Tells the coordination core of shards without an owner for which something waits here.
    pub(super) fn report_wanted(&mut self, local: &mut Local) {
        let Some(remote) = &mut local.remote else {
            return;
        };
        if remote.wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut remote.wanted);
        self.send_control(local, self.coordinator_core, Control::Wanted(wanted));
    }

    /// Has the links of this core be those to the members.
    pub(super) fn meet_members(&self, local: &mut Local, older: &Topology) {
        let topology = local.topology.clone();
        if let Some(members) = topology.members()
            && older.members() != Some(members)
        {
            local.meet(members);
            local.live(!members.is_empty());
        }
    }
}

impl Local {
    /// This core runs the entities of a shard from now on.
    pub(super) fn host(&mut self, key: ShardKey) {
        let owner = self.topology.owner(key);
        let region = &mut self.region_states[key.entity_type.index()];
        region.hosted[key.shard.index()] = true;
        if let (Some(owner), Some(epoch)) = (owner, region.epochs.get_mut(key.shard.index())) {
            *epoch = owner.epoch;
        }
    }

    /// The cluster has taken a shard from this node: whatever of it is here ends.
    pub(super) fn lose_shard(&mut self, key: ShardKey) {
        let region = &mut self.region_states[key.entity_type.index()];
        if std::mem::take(&mut region.hosted[key.shard.index()]) {
            self.end_shard(key, Rejection::Fenced);
        }
    }
}
