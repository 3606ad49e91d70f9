//! How a node finds out who cannot be reached, and tells the log and the leader.

use std::time::Duration;

use super::machine::ClusterNode;
use super::output::Output;
use super::pursuing::Matter;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::cluster::command::Command;
use crate::cluster::message::ControlMessage;
use crate::consensus::peer::{ClusterId, NodeLife};
use crate::membership::change::Change;
use crate::membership::detector::{self, Detector};
use crate::membership::identity::SwimId;
use crate::membership::swim::{Swim, SwimOutput};

/// The two ways to see that a node is gone.
pub(super) struct Observing {
    pub(super) swim: Swim,
    pub(super) detector: Detector,
}

impl Observing {
    pub(super) fn next_deadline(&self) -> Time {
        self.swim.next_deadline().min(self.detector.next_deadline())
    }

    pub(super) fn stalled(&mut self, late: Duration, now: Time) {
        self.swim.stalled(late, now);
        self.detector.stalled(late, now);
    }

    pub(super) fn tick(&mut self, now: Time) {
        if self.swim.next_deadline() <= now {
            self.swim.tick(now);
        }
        if self.detector.next_deadline() <= now {
            self.detector.tick(now);
        }
    }
}

impl ClusterNode {
    /// Begins to observe, in this life.
    pub(super) fn observe(&mut self, incarnation: Incarnation, cluster: ClusterId, now: Time) {
        let settings = &self.settings;
        let me = SwimId::new(settings.node, incarnation, settings.address);
        let seeds = self.known_seeds().map(|(_, address)| address).collect();
        let membership = settings.membership.clone();
        let rng = self.new_rng();
        // The datagrams name the cluster by half of its id, which is random throughout.
        let swim = Swim::new(me, cluster.0 as u64, &membership, seeds, rng, now);
        let detector = Detector::new(self.settings.node, incarnation, &membership, now);
        // The settings were checked at the start.
        let (Ok(swim), Ok(mut detector)) = (swim, detector) else {
            return;
        };
        detector.leader_changed(self.led.leader.map(|leader| leader.node()), now);
        self.observing = Some(Observing { swim, detector });
    }

    /// Does what the observers want; whether there was anything.
    pub(super) fn take_observations(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(observing) = &mut self.observing
            && let Some(output) = observing.swim.poll_output()
        {
            any = true;
            match output {
                SwimOutput::Send { to, datagram } => self.outputs.push_back(Output::Datagram {
                    to,
                    bytes: datagram,
                }),
                SwimOutput::Up { node, incarnation } => {
                    observing.detector.swim_up(node, incarnation);
                }
                SwimOutput::Down { node, incarnation } => {
                    observing.detector.swim_down(node, incarnation);
                }
            }
        }
        while let Some(output) = self
            .observing
            .as_mut()
            .and_then(|observing| observing.detector.poll_output())
        {
            any = true;
            match output {
                detector::Output::Heartbeat { to, heartbeat } => {
                    self.send(to, ControlMessage::Heartbeat(heartbeat));
                }
                detector::Output::Propose(change) => self.propose_word(change, now),
            }
        }
        any
    }

    /// Words go into the log from wherever they are said; a death is for the leader to propose.
    fn propose_word(&mut self, change: Change, now: Time) {
        let (node, incarnation, reaches) = match change {
            Change::Unreachable {
                node, incarnation, ..
            } => (node, incarnation, false),
            Change::Reachable {
                node, incarnation, ..
            } => (node, incarnation, true),
            Change::Down { node, incarnation } => {
                return self.accuse(NodeLife { node, incarnation }, now);
            }
            _ => return,
        };
        let matter = Matter::Word {
            life: NodeLife { node, incarnation },
            reaches,
        };
        self.pursue(matter, &Command::Member(change), now);
    }

    fn accuse(&mut self, life: NodeLife, now: Time) {
        let (Some(by), leader) = (self.life, self.led.leader) else {
            return;
        };
        if self.led.is_self {
            self.accused_by(self.settings.node, life, now);
        } else if let Some(leader) = leader {
            // One that leads no more is told again who leads now, as long as the accusation stands.
            self.send(leader.node(), ControlMessage::Accuse { by, life });
        }
    }

    /// The leader has said something that only a leader says.
    pub(super) fn leader_heard(&mut self, from: NodeId, now: Time) {
        let leads = self.led.leader.is_some_and(|leader| leader.node() == from);
        let member = self.state.members().member(from);
        if let Some(observing) = &mut self.observing
            && let Some(member) = member.filter(|_| leads)
        {
            observing.detector.heard(from, member.incarnation, now);
        }
    }
}
