//! One shard that leaves its node: how far it has come, and what is under way of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster_view::NodeMove;
use super::move_error::RefusedWhy;
use super::node_steps::{MoveReport, NodeStep, Readiness};
use crate::base::ids::{CoreId, Epoch, ShardKey};
use crate::base::time::Time;

/// How often the time after which parts are sent again is doubled at most.
const MOST_DOUBLINGS: u32 = 4;

/// How far the source has come with giving a shard away; see [`node_handoff`](super::node_handoff).
///
/// | phase    | handlers run | messages                | ends when                                  |
/// |----------|--------------|-------------------------|--------------------------------------------|
/// | Draining | yes          | arrive                  | the marker of every core is in             |
/// | Paused   | suspended    | are held                | no entity is suspended                     |
/// | Packing  | hooks        | are held                | everything has been taken out              |
/// | Shipping | no           | are held                | the target has all parts                   |
/// | Whole    | no           | are held                | `Own`, `Abort` or `Down`                   |
/// | Refused  | as before    | as before               | `Abort` (or whatever the log says instead) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePhase {
    /// Messages for the shard are still on their way here.
    Draining,
    /// All messages are here; suspended handlers finish.
    Paused,
    /// What is to be shipped is taken out of the entities, until
    /// [`packed`](super::node_handoff::NodeHandoff::packed) is said.
    Packing,
    /// Parts are on their way.
    Shipping,
    /// The target has everything.
    Whole,
    /// It cannot leave, and the log has been asked to call the move off.
    Refused,
}

/// A shard that leaves this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDeparture {
    /// The move.
    pub moving: NodeMove,
    /// The epoch in which this node owns the shard.
    pub epoch: Epoch,
    pub(super) phase: NodePhase,
    /// It has been paused, and stays so until the log says what becomes of it.
    pub(super) is_paused: bool,
    pub(super) awaited: BTreeSet<CoreId>,
    pub(super) deadline: Time,
    pub(super) attempt: u32,
    pub(super) sent: u32,
    pub(super) taken: u32,
    /// The last part of this attempt has been sent.
    pub(super) is_all_sent: bool,
    /// A part could not be written: nothing is sent before the next attempt.
    pub(super) rests: bool,
    /// The last part of some attempt has been sent, so that the target may have everything.
    pub(super) may_be_whole: bool,
    pub(super) again_at: Time,
}

impl NodeDeparture {
    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> NodePhase {
        self.phase
    }

    /// Begins a new attempt, which waits longer for an answer than the one before it.
    pub(super) fn begin_again(&mut self, now: Time, retry: Duration) {
        self.attempt += 1;
        (self.sent, self.taken, self.is_all_sent) = (0, 0, false);
        self.rests = false;
        self.again_at = now + self.patience(retry);
    }

    /// Sends nothing before the next attempt.
    pub(super) fn rest(&mut self, now: Time, retry: Duration) {
        self.rests = true;
        self.again_at = now + self.patience(retry);
    }

    fn patience(&self, retry: Duration) -> Duration {
        retry * (1 << self.attempt.min(MOST_DOUBLINGS))
    }

    pub(super) fn refuse(&mut self, shard: ShardKey, why: RefusedWhy) -> Option<NodeStep> {
        if matches!(self.phase, NodePhase::Refused) || self.may_be_whole {
            return None;
        }
        self.phase = NodePhase::Refused;
        Some(NodeStep::Report(MoveReport {
            shard,
            prepared: self.moving.prepared,
            outcome: Err(why),
        }))
    }
}

impl NodeDeparture {
    /// Goes on with becoming ready to leave.
    pub(super) fn advance(
        &mut self,
        shard: ShardKey,
        is: Readiness,
        now: Time,
        retry: Duration,
    ) -> Vec<NodeStep> {
        let mut steps = Vec::new();
        let is_late = now >= self.deadline;
        if !is.is_movable {
            steps.extend(self.refuse(shard, RefusedWhy::NotMovable));
            return steps;
        }
        if self.phase == NodePhase::Draining {
            match self.awaited.first() {
                Some(core) if is_late => {
                    let why = RefusedWhy::AwaitingLast(*core);
                    steps.extend(self.refuse(shard, why));
                    return steps;
                }
                Some(_) => return steps,
                None => {
                    self.phase = NodePhase::Paused;
                    self.is_paused = true;
                    steps.push(NodeStep::Pause { shard });
                }
            }
        }
        match (is.is_suspended, is.is_lapsed) {
            (false, false) => self.phase = NodePhase::Packing,
            (true, _) if is_late => steps.extend(self.refuse(shard, RefusedWhy::Suspended)),
            // Without a lease it waits for one, or for what the log says.
            (false, true) if is_late => self.deadline = now + retry,
            (true, _) | (false, true) => {}
        }
        steps
    }
}
