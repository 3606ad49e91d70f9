//! What threads outside of the coordination core may see of a node's part in its cluster, ask of it, and wait for.

use super::view::{ClusterEnd, ClusterPhase, ClusterView};
use crate::actor::pending::{Completer, Pending, pending};
use crate::base::time::Time;
use crate::mesh::doorbell::Doorbell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// How many may wait at once.
pub const MOST_WAITING: usize = 4_096;

/// Why nobody waits any more for what somebody has asked for.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The node takes part no more.
    #[error("this node takes part in its cluster no more: {0}")]
    Ended(ClusterEnd),
    /// As many wait as may.
    #[error(
        "{MOST_WAITING} calls wait for the cluster already, as many as may; wait once and share what comes"
    )]
    TooManyWaiting,
}

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The data directory is open, and the node on its way.
    Opened,
    /// This node and so many in all are up.
    Up(usize),
    /// Likewise, and this node has a lease.
    Ready(usize),
    /// This node has left.
    Left,
}

type Outcome = Result<(), ClusterError>;

/// Shared by the coordination core and all who ask.
pub(crate) struct Status {
    doorbell: Arc<Doorbell>,
    asked: AtomicBool,
    shared: Mutex<Shared>,
}

struct Shared {
    view: Arc<ClusterView>,
    waiting: Vec<(Goal, Completer<Outcome>)>,
    leave: bool,
    /// When the runtime is to have ended, once it ends.
    ends_by: Option<Time>,
}

impl Status {
    /// At the beginning, with the bell of the coordination core.
    pub(crate) fn new(view: ClusterView, doorbell: Arc<Doorbell>) -> Status {
        Status {
            doorbell,
            asked: AtomicBool::new(false),
            shared: Mutex::new(Shared {
                view: Arc::new(view),
                waiting: Vec::new(),
                leave: false,
                ends_by: None,
            }),
        }
    }

    /// What is known.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.shared().view.clone()
    }

    /// Resolves when the goal is reached, or never will be.
    pub(crate) fn wait_for(&self, goal: Goal) -> Pending<Outcome> {
        let mut shared = self.shared();
        if let ClusterPhase::Ended(end) = &shared.view.phase {
            return Pending::ready(ended(goal, end));
        }
        if shared.waiting.len() >= MOST_WAITING {
            shared.waiting.retain(|(_, waiter)| waiter.is_awaited());
            if shared.waiting.len() >= MOST_WAITING {
                return Pending::ready(Err(ClusterError::TooManyWaiting));
            }
        }
        let (completer, outcome) = pending(Err(ClusterError::Ended(ClusterEnd::ShutDown)));
        shared.waiting.push((goal, completer));
        drop(shared);
        self.ask();
        outcome
    }

    /// The node is to leave. Resolves when it has.
    pub(crate) fn leave(&self) -> Pending<Outcome> {
        self.shared().leave = true;
        self.wait_for(Goal::Left)
    }

    /// The runtime ends, and is to have ended then, by the boot-time clock.
    pub(crate) fn end_by(&self, time: Time) {
        self.shared().ends_by = Some(time);
    }

    /// When the runtime is to have ended, once it ends.
    pub(crate) fn ends_by(&self) -> Option<Time> {
        self.shared().ends_by
    }

    /// Has the core look: there is something for it.
    pub(crate) fn stir(&self) {
        self.ask();
    }

    /// Whether something was asked since this was called last; for the core, which looks before it sleeps and after.
    pub(crate) fn take_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::SeqCst)
    }

    /// Whether something was asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Whether the node is to leave.
    pub(crate) fn is_to_leave(&self) -> bool {
        self.shared().leave
    }

    /// Replaces the view if it differs. Returns the new one then.
    pub(crate) fn publish(&self, mut view: ClusterView) -> Option<Arc<ClusterView>> {
        let mut shared = self.shared();
        view.version = shared.view.version;
        if view == *shared.view {
            return None;
        }
        view.version += 1;
        shared.view = Arc::new(view);
        Some(shared.view.clone())
    }

    /// Tells all whose goal is reached.
    pub(crate) fn tell(&self, is_reached: impl Fn(Goal) -> bool) {
        let mut shared = self.shared();
        let view = shared.view.clone();
        let mut told = Vec::new();
        for (goal, waiter) in std::mem::take(&mut shared.waiting) {
            match &view.phase {
                ClusterPhase::Ended(end) => told.push((waiter, ended(goal, end))),
                _ if is_reached(goal) => told.push((waiter, Ok(()))),
                _ if waiter.is_awaited() => shared.waiting.push((goal, waiter)),
                _ => {}
            }
        }
        drop(shared);
        for (waiter, outcome) in told {
            waiter.complete(outcome);
        }
    }

    fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.doorbell.ring();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Nothing is left half done under it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes of a goal when the node takes part no more.
fn ended(goal: Goal, end: &ClusterEnd) -> Outcome {
    use crate::cluster::node::output::StopCause;
    match (goal, end) {
        (Goal::Left, ClusterEnd::Stopped(StopCause::Left)) => Ok(()),
        _ => Err(ClusterError::Ended(end.clone())),
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::cluster::node::output::StopCause;

    fn status() -> Status {
        let view = ClusterView::new("test", NodeId(1), "127.0.0.1:7000".parse().unwrap());
        Status::new(view, Arc::default())
    }

    #[test]
    fn whoever_waits_is_told_once_it_is_reached() {
        let status = status();
        let waiting = status.wait_for(Goal::Up(2));
        assert!(status.take_asked());
        assert!(!status.take_asked());
        status.tell(|goal| goal == Goal::Up(1));
        let waiting = waiting.try_take().unwrap_err();
        status.tell(|goal| goal == Goal::Up(2));
        assert_eq!(waiting.wait(), Ok(()));
    }

    #[test]
    fn the_end_is_told_to_all_and_to_whoever_comes_later() {
        let status = status();
        let (up, left) = (status.wait_for(Goal::Up(2)), status.leave());
        assert!(status.is_to_leave());
        let mut view = (*status.view()).clone();
        view.phase = ClusterPhase::Ended(ClusterEnd::Stopped(StopCause::Left));
        assert!(status.publish(view.clone()).is_some());
        assert!(status.publish(view).is_none());
        status.tell(|_| false);
        assert_eq!(left.wait(), Ok(()));
        let end = ClusterError::Ended(ClusterEnd::Stopped(StopCause::Left));
        assert_eq!(up.wait(), Err(end.clone()));
        assert_eq!(status.wait_for(Goal::Opened).wait(), Err(end));
        assert_eq!(status.leave().wait(), Ok(()));
    }

    #[test]
    fn no_more_wait_than_may() {
        let status = status();
        let waiting: Vec<_> = (0..MOST_WAITING)
            .map(|_| status.wait_for(Goal::Up(9)))
            .collect();
        let refused = status.wait_for(Goal::Up(9)).wait();
        assert_eq!(refused, Err(ClusterError::TooManyWaiting));
        // Those who have given up make room.
        drop(waiting);
        let waiting = status.wait_for(Goal::Up(9));
        assert!(waiting.try_take().is_err());
    }
}
