//! Lanes: the bounded, ordered paths from each core to each other.
//!
//! Every ordered pair has three of them, so that neither control traffic nor replies ever wait behind requests, and one
//! back for empty buffers. What travels is a whole batch: one send, one receive, for many messages. Nobody waits at a
//! full lane; the sender keeps the batch in its outbox, which is bounded too.

use super::doorbell::Doorbell;
use crate::base::ids::CoreId;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;

/// The classes of traffic, in the order in which a core serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneClass {
    /// The runtime's own: topology, hand-off, shutdown.
    Control,
    /// Answers, for which the asker has reserved room.
    Replies,
    /// Messages to actors.
    Requests,
}

/// What did not get into a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent<T> {
    /// The lane is full: it is to be sent later.
    Full(T),
    /// The core at its other end has stopped or died: nobody will ever take it.
    Gone(T),
}

/// Emptied batches that go back to their sender together: one at a time, each would cost both cores as much as a batch
/// that is full.
const RETURNED_AT_ONCE: usize = 16;

/// How many batches a lane of each class holds.
#[derive(Clone, Copy, Debug)]
pub struct LaneDepths {
    /// Control messages.
    pub control: usize,
    /// Batches of replies.
    pub replies: usize,
    /// Batches of requests.
    pub requests: usize,
}

/// One core's ends of all its lanes. `C` is a control message, `B` a batch.
#[derive(Debug)]
pub struct Port<C, B> {
    me: CoreId,
    peers: Vec<Option<Peer<C, B>>>,
    doorbells: Vec<Arc<Doorbell>>,
}

#[derive(Debug)]
struct Peer<C, B> {
    control: Ends<C>,
    replies: Ends<B>,
    requests: Ends<B>,
    returns: Ends<Vec<B>>,
    /// Batches of the peer that have been emptied here.
    emptied: Vec<B>,
}

/// One core's ends of a lane to a peer and of the one from it.
#[derive(Debug)]
struct Ends<T> {
    there: Sender<T>,
    /// For what was put in when the peer was gone; nobody takes from here while it lives.
    left: Receiver<T>,
    here: Receiver<T>,
}

/// Connects `cores` cores with each other: one port for each, in order.
#[must_use]
pub fn connect<C, B>(cores: usize, depths: LaneDepths) -> Vec<Port<C, B>> {
    let doorbells: Vec<_> = (0..cores).map(|_| Arc::new(Doorbell::default())).collect();
    let mut ports: Vec<Port<C, B>> = (0..cores)
        .map(|me| Port {
            me: CoreId(me as u16),
            peers: (0..cores).map(|_| None).collect(),
            doorbells: doorbells.clone(),
        })
        .collect();
    for low in 0..cores {
        for high in low + 1..cores {
            let (at_low, at_high) = pair(depths);
            ports[low].peers[high] = Some(at_low);
            ports[high].peers[low] = Some(at_high);
        }
    }
    ports
}

fn pair<C, B>(depths: LaneDepths) -> (Peer<C, B>, Peer<C, B>) {
    fn both<T>(depth: usize) -> (Ends<T>, Ends<T>) {
        let (to_high, at_high) = bounded(depth);
        let (to_low, at_low) = bounded(depth);
        (
            Ends {
                there: to_high,
                left: at_high.clone(),
                here: at_low.clone(),
            },
            Ends {
                there: to_low,
                left: at_low,
                here: at_high,
            },
        )
    }
    let control = both(depths.control);
    let replies = both(depths.replies);
    let requests = both(depths.requests);
    let returns = both((depths.replies + depths.requests).div_ceil(RETURNED_AT_ONCE));
    (
        Peer {
            control: control.0,
            replies: replies.0,
            requests: requests.0,
            returns: returns.0,
            emptied: Vec::new(),
        },
        Peer {
            control: control.1,
            replies: replies.1,
            requests: requests.1,
            returns: returns.1,
            emptied: Vec::new(),
        },
    )
}

impl<C, B> Port<C, B> {
    /// The core whose port this is.
    #[must_use]
    pub fn me(&self) -> CoreId {
        self.me
    }

    /// The number of cores that are connected, this one included.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.peers.len()
    }

    /// The bell of a core.
    #[must_use]
    pub fn doorbell(&self, core: CoreId) -> &Arc<Doorbell> {
        &self.doorbells[core.index()]
    }

    /// Puts a control message into the lane.
    ///
    /// # Errors
    /// The message, if the lane is full or the core is gone.
    pub fn send_control(&self, to: CoreId, message: C) -> Result<(), Unsent<C>> {
        if self.doorbell(to).is_gone() {
            return Err(Unsent::Gone(message));
        }
        give_back(self.peer(to).control.there.try_send(message))
    }

    /// Puts a batch into the lane of its class.
    ///
    /// # Errors
    /// The batch, if the lane is full or the core is gone.
    ///
    /// # Panics
    /// For [`LaneClass::Control`], which carries no batches.
    pub fn send_batch(&self, to: CoreId, class: LaneClass, batch: B) -> Result<(), Unsent<B>> {
        if self.doorbell(to).is_gone() {
            return Err(Unsent::Gone(batch));
        }
        let peer = self.peer(to);
        give_back(match class {
            LaneClass::Replies => peer.replies.there.try_send(batch),
            LaneClass::Requests => peer.requests.there.try_send(batch),
            LaneClass::Control => unreachable!("control lanes carry no batches"),
        })
    }

    /// The next control message from a core.
    #[must_use]
    pub fn receive_control(&self, from: CoreId) -> Option<C> {
        next(&self.peer(from).control.here)
    }

    /// The next batch of a class from a core.
    #[must_use]
    pub fn receive_batch(&self, from: CoreId, class: LaneClass) -> Option<B> {
        let peer = self.peer(from);
        match class {
            LaneClass::Replies => next(&peer.replies.here),
            LaneClass::Requests => next(&peer.requests.here),
            LaneClass::Control => None,
        }
    }

    /// Takes a batch back that has been sent to a core that was gone by then; to be called after its bell has been rung.
    ///
    /// A bounded channel of crossbeam keeps what lies in it when its receiver is dropped, until its last sender is gone
    /// too, and whoever waits for that would wait as long.
    #[must_use]
    pub fn take_back(&self, to: CoreId) -> Option<B> {
        let peer = self.peer(to);
        next(&peer.requests.left).or_else(|| next(&peer.replies.left))
    }

    /// Takes a control message back that has been sent to a core that was gone by then, as [`take_back`](Self::take_back).
    #[must_use]
    pub fn take_back_control(&self, to: CoreId) -> Option<C> {
        next(&self.peer(to).control.left)
    }

    /// Gives an emptied batch back to the core that sent it, together with others as soon as there are enough of them;
    /// if that core has enough already, they are dropped.
    pub fn return_batch(&mut self, to: CoreId, batch: B) {
        let Some(peer) = &mut self.peers[to.index()] else {
            return;
        };
        peer.emptied.push(batch);
        if peer.emptied.len() >= RETURNED_AT_ONCE {
            let emptied =
                std::mem::replace(&mut peer.emptied, Vec::with_capacity(RETURNED_AT_ONCE));
            let _ = peer.returns.there.try_send(emptied);
        }
    }

    /// The next emptied batches that a core gives back.
    #[must_use]
    pub fn reclaim_batches(&self, from: CoreId) -> Option<Vec<B>> {
        next(&self.peer(from).returns.here)
    }

    /// Whether nothing waits in any lane towards this core; returned buffers do not count.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.peers.iter().flatten().all(|peer| {
            peer.control.here.is_empty()
                && peer.replies.here.is_empty()
                && peer.requests.here.is_empty()
        })
    }

    /// Whether no batch waits in the lanes from the first `cores` cores; a quicker look than [`is_quiet`](Self::is_quiet).
    #[inline]
    #[must_use]
    pub fn is_quiet_of_batches(&self, cores: usize) -> bool {
        let peers = &self.peers[..cores.min(self.peers.len())];
        peers
            .iter()
            .flatten()
            .all(|peer| peer.requests.here.is_empty() && peer.replies.here.is_empty())
    }

    /// Whether no control message waits in any lane towards this core.
    #[must_use]
    pub fn is_quiet_of_control(&self) -> bool {
        self.peers
            .iter()
            .flatten()
            .all(|peer| peer.control.here.is_empty())
    }

    /// Batches waiting in the lanes from one core: replies, requests.
    #[must_use]
    pub fn inbound_depth(&self, from: CoreId) -> (usize, usize) {
        self.peers[from.index()].as_ref().map_or((0, 0), |peer| {
            (peer.replies.here.len(), peer.requests.here.len())
        })
    }

    fn peer(&self, core: CoreId) -> &Peer<C, B> {
        self.peers[core.index()]
            .as_ref()
            .expect("a core has no lane to itself")
    }
}

impl<C, B> Drop for Port<C, B> {
    fn drop(&mut self) {
        self.doorbells[self.me.index()].announce_end();
    }
}

/// Looks first: on an empty channel that is several times cheaper than trying to receive.
#[inline]
fn next<T>(lane: &Receiver<T>) -> Option<T> {
    if lane.is_empty() {
        None
    } else {
        lane.try_recv().ok()
    }
}

fn give_back<T>(sent: Result<(), TrySendError<T>>) -> Result<(), Unsent<T>> {
    sent.map_err(|error| match error {
        TrySendError::Full(item) => Unsent::Full(item),
        TrySendError::Disconnected(item) => Unsent::Gone(item),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_own_bound_and_keeps_its_order() {
        let ports = connect::<u32, &str>(
            3,
            LaneDepths {
                control: 2,
                replies: 1,
                requests: 2,
            },
        );
        let (one, two) = (CoreId(1), CoreId(2));
        assert_eq!(ports[1].send_batch(two, LaneClass::Requests, "a"), Ok(()));
        assert_eq!(ports[1].send_batch(two, LaneClass::Requests, "b"), Ok(()));
        let sent = ports[1].send_batch(two, LaneClass::Requests, "c");
        assert_eq!(sent, Err(Unsent::Full("c")));
        assert_eq!(ports[1].send_batch(two, LaneClass::Replies, "r"), Ok(()));
        assert_eq!(ports[1].send_control(two, 7), Ok(()));
        assert_eq!(ports[0].receive_batch(one, LaneClass::Requests), None);
        assert!(!ports[2].is_quiet() && ports[0].is_quiet());
        assert_eq!(ports[2].receive_control(one), Some(7));
        assert_eq!(ports[2].receive_batch(one, LaneClass::Replies), Some("r"));
        assert_eq!(ports[2].receive_batch(one, LaneClass::Requests), Some("a"));
        assert_eq!(ports[2].receive_batch(one, LaneClass::Requests), Some("b"));
        assert!(ports[2].is_quiet());
        let mut ports = ports;
        for _ in 0..RETURNED_AT_ONCE {
            assert!(ports[1].reclaim_batches(two).is_none());
            ports[2].return_batch(one, "a");
        }
        assert_eq!(
            ports[1].reclaim_batches(two),
            Some(vec!["a"; RETURNED_AT_ONCE])
        );
        assert!(ports[1].reclaim_batches(CoreId(0)).is_none());
        drop(ports.pop());
        assert_eq!(ports[1].send_control(two, 8), Err(Unsent::Gone(8)));
        let sent = ports[1].send_batch(two, LaneClass::Replies, "r");
        assert_eq!(sent, Err(Unsent::Gone("r")));
    }
}
