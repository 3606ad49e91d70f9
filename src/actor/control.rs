//! What the cores say to each other on their control lanes.

use super::local::Local;
use super::pending::Completer;
use super::refusal::Rejection;
use super::remote::Lease;
use crate::base::ids::{CoreId, Epoch, ShardKey};
use crate::sharding::balancer::CoreLoad;
use crate::sharding::move_error::{MoveError, RefusedWhy};
use crate::sharding::node_steps::MoveReport;
use crate::sharding::topology::{MoveId, Topology};
use crate::wire::address::Life;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One control message.
pub(crate) enum Control {
    /// A new version of the topology.
    Topology(Arc<Topology>),
    /// Part of a shard that moves here.
    Cargo(Box<dyn Cargo>),
    /// To the coordination core: the shard has arrived whole.
    Installed { id: MoveId, epoch: Epoch },
    /// To the coordination core: the shard stays where it is.
    Refused { id: MoveId, why: RefusedWhy },
    /// To the source or target of a move: the other one is dead.
    Survive { id: MoveId },
    /// The answer, if the shard has left the source, but has not arrived whole.
    Lost { id: MoveId },
    /// To the coordination core: what each shard of this core has cost since the last report.
    Load(CoreLoad),
    /// To a data core: say how far you are with draining. Once all of them are quiet, have the last snapshots taken.
    DrainQuery { round: u64, settle: bool },
    /// The answer.
    DrainAnswer(DrainAnswer),
    /// To every core: handle and send nothing any more; answered with a [`DrainAnswer`] of the same round.
    Halt { round: u64 },
    /// To the coordination core: the sender's engine has panicked, and this is the last of it.
    Died,
    /// To every core: the life that the cluster has given to the node, before the owners and the lease of that life.
    Life(Life),
    /// To every data core: the lease of the node.
    Lease(Lease),
    /// To the coordination core: messages wait for these shards, and no node owns them.
    Wanted(Vec<ShardKey>),
    /// To the coordination core: how a move to or from another node has ended for this one.
    MoveEnded(MoveReport),
    /// To every core: this life leaves, and owns nothing any more since this version of the topology.
    Part { life: Life, version: u64 },
    /// To the coordination core: nothing of this core goes by that life any more.
    Parted { core: CoreId, life: Life },
    /// To every core: all have halted, so what lies in the lanes is all there is. Stop.
    Stop,
}

/// Part of a shard under way between two cores.
pub(crate) trait Cargo: Send {
    /// The move.
    fn id(&self) -> MoveId;
    /// The epoch under which the shard left.
    fn epoch(&self) -> Epoch;
    /// Whether this is the last part.
    fn is_last(&self) -> bool;
    /// Puts the entities and their mailboxes into place.
    fn install(self: Box<Self>, local: &mut Local);
    /// Drops the entities, and makes dead letters of their messages.
    fn reject(self: Box<Self>, local: &mut Local, why: Rejection);
}

/// What a handle asks of the engine; only the coordination core is asked.
pub(crate) enum Request {
    /// Move a shard.
    Move {
        shard: ShardKey,
        to: CoreId,
        done: Completer<Result<(), MoveError>>,
    },
    /// Drain all cores until the deadline, then stop them. The answer says whether everything was handled.
    Shutdown {
        within: Duration,
        done: Completer<bool>,
    },
}

/// Whether a core has drained, for the count of messages in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainAnswer {
    pub(crate) core: CoreId,
    pub(crate) round: u64,
    /// Nothing is queued or running here.
    pub(crate) idle: bool,
    /// And the last snapshots are stored, or have failed.
    pub(crate) settled: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Control::Topology(topology) => write!(f, "Topology({})", topology.version()),
            Control::Cargo(cargo) => write!(f, "Cargo({})", cargo.id().shard),
            Control::Installed { id, .. } => write!(f, "Installed({})", id.shard),
            Control::Refused { id, .. } => write!(f, "Refused({})", id.shard),
            Control::Survive { id } => write!(f, "Survive({})", id.shard),
            Control::Lost { id } => write!(f, "Lost({})", id.shard),
            Control::Load(report) => write!(f, "Load({})", report.core),
            Control::DrainQuery { round, .. } => write!(f, "DrainQuery({round})"),
            Control::DrainAnswer(answer) => write!(f, "DrainAnswer({answer:?})"),
            Control::Halt { round } => write!(f, "Halt({round})"),
            Control::Life(life) => write!(f, "Life({life})"),
            Control::Lease(lease) => write!(f, "Lease({lease:?})"),
            Control::Wanted(shards) => write!(f, "Wanted({})", shards.len()),
            Control::MoveEnded(report) => write!(f, "MoveEnded({report:?})"),
            Control::Part { life, .. } => write!(f, "Part({life})"),
            Control::Parted { core, life } => write!(f, "Parted({core}, {life})"),
            Control::Died => f.write_str("Died"),
            Control::Stop => f.write_str("Stop"),
        }
    }
}
