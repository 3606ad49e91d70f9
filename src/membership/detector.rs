//! Joins the two ways to see that a node is gone, and says so to the log.
//!
//! A node observes its eight neighbours on the ring of node ids, and the leader: so each node has the same work whatever
//! the size of the cluster. Of those it holds for *unreachable*
//!
//! - who sends no heartbeats any more (phi has reached its threshold) **and** is dead to SWIM, and
//! - who has sent no heartbeat for the whole of `control_patience`, although SWIM reaches it.
//!
//! Silence of the heartbeats alone may be a broken connection, and SWIM alone may be a blocked port; a node whose machine
//! is overloaded by data is heard on the one way or the other. To call a node *down* takes the word of two observers where
//! there are three live nodes or more. All of it is proposals: the log decides.
//!
//! A node that was late itself has not heard what was said meanwhile. That time is counted against nobody, and for a while
//! afterwards it waits longer before it accuses anybody ([`LocalHealth`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::membership::accusation::{Accusation, Heartbeat, Why, Words};
use crate::membership::change::Change;
use crate::membership::health::LocalHealth;
use crate::membership::phi::PhiAccrual;
use crate::membership::settings::{MembershipSettings, SettingsError};
use crate::membership::view::View;

/// For how many heartbeats the word of an observer stands without being repeated.
const WORD_STANDS_FOR: u32 = 4;
/// After how many heartbeats a proposal is made again that the log has not taken.
const PROPOSE_EACH: u32 = 2;

/// What the detector wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a heartbeat over the control connection to this node, or drop it if there is none: the next will come.
    Heartbeat {
        /// To whom.
        to: NodeId,
        /// What.
        heartbeat: Heartbeat,
    },
    /// Propose this to the log: an [`Unreachable`](Change::Unreachable), a [`Reachable`](Change::Reachable) or a
    /// [`Down`](Change::Down). It may be lost; it is proposed again for as long as the log does not say it.
    Propose(Change),
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetectorCounters {
    /// Heartbeats that were taken.
    pub heartbeats: u64,
    /// Heartbeats of lives that are no member's, or older than one that came before.
    pub stale_heartbeats: u64,
    /// How often this node was late enough to doubt its verdicts.
    pub stalls: u64,
    /// How often a node became unreachable to this one.
    pub unreachable: u64,
    /// How often this node proposed to call one down.
    pub down_proposals: u64,
}

/// The detector of one node in one of its lives.
///
/// Hand in what happens, call [`tick`](Self::tick) at [`next_deadline`](Self::next_deadline), then take
/// [`poll_output`](Self::poll_output) until it is empty: at most a heartbeat to each neighbour and two proposals for each
/// node observed come of one tick.
#[derive(Clone, Debug)]
pub struct Detector {
    me: NodeId,
    incarnation: Incarnation,
    settings: MembershipSettings,
    version: Option<u64>,
    live: BTreeMap<NodeId, Incarnation>,
    ring: BTreeSet<NodeId>,
    leader: Option<NodeId>,
    observed: BTreeMap<NodeId, Observed>,
    /// Lives that are dead to SWIM, and not over to the log.
    swim_down: BTreeSet<(NodeId, Incarnation)>,
    /// The lives which this node cannot reach as the log says, and when the contrary was proposed last.
    said: BTreeMap<(NodeId, Incarnation), Option<Time>>,
    words: Words,
    health: LocalHealth,
    serial: u64,
    next_check: Time,
    next_heartbeat: Time,
    outputs: VecDeque<Output>,
    counters: DetectorCounters,
}

#[derive(Clone, Debug)]
struct Observed {
    incarnation: Incarnation,
    phi: PhiAccrual,
    /// What this node holds against it.
    held: Option<Why>,
    unreachable_proposed: Option<Time>,
    down_proposed: Option<Time>,
}

impl Detector {
    /// The detector of node `me` in this life. It observes nobody before it has adopted a view with itself in it.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first setting that makes no sense.
    pub fn new(
        me: NodeId,
        incarnation: Incarnation,
        settings: &MembershipSettings,
        now: Time,
    ) -> Result<Detector, SettingsError> {
        settings.check()?;
        Ok(Detector {
            me,
            incarnation,
            settings: settings.clone(),
            version: None,
            live: BTreeMap::new(),
            ring: BTreeSet::new(),
            leader: None,
            observed: BTreeMap::new(),
            swim_down: BTreeSet::new(),
            said: BTreeMap::new(),
            words: Words::default(),
            health: LocalHealth::new(settings.probe_period, settings.stall_tolerance),
            serial: 0,
            next_check: now + settings.check_period,
            next_heartbeat: now,
            outputs: VecDeque::new(),
            counters: DetectorCounters::default(),
        })
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> DetectorCounters {
        self.counters
    }

    /// Whom this node observes: its neighbours on the ring, and the leader.
    pub fn observed(&self) -> impl Iterator<Item = NodeId> {
        self.observed.keys().copied()
    }

    /// Whom this node cannot reach at this moment, as of the last check.
    pub fn accusations(&self) -> impl Iterator<Item = Accusation> {
        self.observed.iter().filter_map(|(node, observed)| {
            Some(Accusation {
                node: *node,
                incarnation: observed.incarnation,
                why: observed.held?,
            })
        })
    }

    /// When [`tick`](Self::tick) has to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        self.next_check.min(self.next_heartbeat)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes over what the log says. Older views are ignored.
    pub fn adopt(&mut self, view: &View, now: Time) {
        if self.version.is_some_and(|version| version > view.version()) {
            return;
        }
        self.version = Some(view.version());
        let live = view.live().map(|member| (member.node, member.incarnation));
        self.live = live.collect();
        let i_am_one = self.live.get(&self.me) == Some(&self.incarnation);
        self.ring = if i_am_one {
            view.ring_neighbours(self.me)
        } else {
            BTreeSet::new()
        };
        let mut said = BTreeMap::new();
        for member in view.live().filter(|m| m.unreachable_by.contains(&self.me)) {
            let life = (member.node, member.incarnation);
            said.insert(life, self.said.get(&life).copied().flatten());
        }
        self.said = said;
        self.swim_down
            .retain(|(node, incarnation)| !view.has_ended(*node, *incarnation));
        let live = &self.live;
        self.words
            .retain(|node, incarnation| live.get(&node) == Some(&incarnation));
        self.observe(now);
    }

    /// Another node leads the consensus, or none does.
    pub fn leader_changed(&mut self, leader: Option<NodeId>, now: Time) {
        self.leader = leader;
        self.observe(now);
    }

    /// A heartbeat has come.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat, now: Time) {
        let (from, incarnation) = (heartbeat.from, heartbeat.incarnation);
        let is_member = self.live.get(&from) == Some(&incarnation);
        if !is_member || !self.words.take(heartbeat, now) {
            self.counters.stale_heartbeats += 1;
            return;
        }
        self.counters.heartbeats += 1;
        self.heard(from, incarnation, now);
    }

    /// Something else has come over the control connection that only a working node sends. The leader needs no heartbeats
    /// beside what it sends as a leader.
    pub fn heard(&mut self, node: NodeId, incarnation: Incarnation, now: Time) {
        let pause = self.pause(now);
        if let Some(observed) = self.observed.get_mut(&node)
            && observed.incarnation == incarnation
        {
            observed.phi.heartbeat(now, pause);
        }
    }

    /// SWIM reaches a node, or reaches it again.
    pub fn swim_up(&mut self, node: NodeId, incarnation: Incarnation) {
        self.swim_down.remove(&(node, incarnation));
    }

    /// A node is dead to SWIM.
    pub fn swim_down(&mut self, node: NodeId, incarnation: Incarnation) {
        // A life that is not the log's yet may be; there are never more of them than SWIM knows nodes.
        self.swim_down.insert((node, incarnation));
    }

    /// This turn is `late`: whatever has come since has waited for this node. To be called before anything is handed in.
    pub fn stalled(&mut self, late: Duration, now: Time) {
        if !self.health.stalled(late, now) {
            return;
        }
        self.counters.stalls += 1;
        for observed in self.observed.values_mut() {
            observed.phi.forgive(late, now);
        }
        self.words.forgive(late, now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        if now >= self.next_check {
            self.next_check = now + self.settings.check_period;
            self.judge(now);
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + self.settings.heartbeat;
            self.beat();
        }
    }

    fn beat(&mut self) {
        self.serial += 1;
        let heartbeat = Heartbeat {
            from: self.me,
            incarnation: self.incarnation,
            serial: self.serial,
            accusations: self.accusations().collect(),
        };
        for &to in &self.ring {
            let heartbeat = heartbeat.clone();
            self.outputs.push_back(Output::Heartbeat { to, heartbeat });
        }
    }

    /// Begins and ends to observe, as ring and leader are now.
    fn observe(&mut self, now: Time) {
        let (live, ring) = (&self.live, &self.ring);
        let leader = self
            .leader
            .filter(|leader| *leader != self.me && !ring.is_empty() && live.contains_key(leader));
        self.observed.retain(|node, observed| {
            live.get(node) == Some(&observed.incarnation)
                && (ring.contains(node) || leader == Some(*node))
        });
        for node in ring.iter().copied().chain(leader) {
            self.observed.entry(node).or_insert_with(|| Observed {
                incarnation: live[&node],
                phi: PhiAccrual::new(&self.settings.phi, now),
                held: None,
                unreachable_proposed: None,
                down_proposed: None,
            });
        }
    }

    /// What is added to an acceptable silence while this node doubts itself.
    fn pause(&self, now: Time) -> Duration {
        self.settings.heartbeat * (self.health.multiplier(now) - 1)
    }

    fn judge(&mut self, now: Time) {
        let pause = self.pause(now);
        let patience = self.settings.control_patience * self.health.multiplier(now);
        let again = self.settings.heartbeat * PROPOSE_EACH;
        let ttl = self.settings.heartbeat * WORD_STANDS_FOR;
        let is_due = |last: Option<Time>| last.is_none_or(|last| now - last >= again);
        let by = self.me;
        for (&node, observed) in &mut self.observed {
            let incarnation = observed.incarnation;
            let life = (node, incarnation);
            let is_silent = observed.phi.is_suspicious(now, pause);
            let held = if is_silent && self.swim_down.contains(&life) {
                Some(Why::Silent)
            } else if is_silent && now - observed.phi.last_heard() >= patience {
                Some(Why::NoControl)
            } else {
                None
            };
            self.counters.unreachable += u64::from(held.is_some() && observed.held.is_none());
            observed.held = held;
            if held.is_none() {
                observed.unreachable_proposed = None;
                observed.down_proposed = None;
                continue;
            }
            if !self.said.contains_key(&life) && is_due(observed.unreachable_proposed) {
                observed.unreachable_proposed = Some(now);
                self.outputs.push_back(Output::Propose(Change::Unreachable {
                    node,
                    incarnation,
                    by,
                }));
            }
            // All observe the leader; its neighbours are enough to speak of it.
            if !self.ring.contains(&node) {
                continue;
            }
            let needed = if self.live.len() >= 3 { 2 } else { 1 };
            let others = self.words.against(node, incarnation, now, ttl);
            if 1 + others.take(1).count() >= needed && is_due(observed.down_proposed) {
                observed.down_proposed = Some(now);
                self.counters.down_proposals += 1;
                self.outputs
                    .push_back(Output::Propose(Change::Down { node, incarnation }));
            }
        }
        // Words in the log that this node does not hold any more, also about those whom it has ceased to observe.
        for (&(node, incarnation), proposed) in &mut self.said {
            let held = self.observed.get(&node).and_then(|observed| observed.held);
            if held.is_some() {
                *proposed = None;
            } else if is_due(*proposed) {
                *proposed = Some(now);
                self.outputs.push_back(Output::Propose(Change::Reachable {
                    node,
                    incarnation,
                    by,
                }));
            }
        }
    }
}
