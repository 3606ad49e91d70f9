//! How a node asks to be let in: the leader if it is known, else whoever may know of it, again and again until the log says
//! that this start of the node has a life.
//!
//! A request that is repeated does no harm, since the log gives a start one life. So nothing depends on any answer to come,
//! nor on the member that was asked to live.

use core::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use super::machine::{ClusterNode, Leave};
use super::output::{Output, Refusal, StopCause};
use super::settings::NodeSettings;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::cluster::admission::Admission;
use crate::cluster::join_request::{
    JoinAnswer, JoinRefused, JoinRequest, JoinSays, SharedSettings,
};
use crate::cluster::message::ControlMessage;
use crate::consensus::configuration::Configuration;
use crate::consensus::machine::Consensus;
use crate::consensus::peer::{ClusterId, NodeLife};
use crate::membership::change::Join;

/// Unanswered requests become rarer, down to one in so many times `ask_every`.
const MAX_BACKOFF: u32 = 8;

/// The asking of a node that has no life.
pub(super) struct Asking {
    every: Duration,
    backoff: u32,
    next: Time,
    /// The cluster that was found, and who told of it. Before that there is nobody to ask.
    cluster: Option<(NodeId, ClusterId)>,
    /// The leader, as somebody has said.
    leader: Option<(NodeId, SocketAddr)>,
    /// Who was asked last, to ask another next.
    last: NodeId,
    waits: Option<Incarnation>,
}

impl Asking {
    pub(super) fn new(settings: &NodeSettings, now: Time) -> Asking {
        Asking {
            every: settings.ask_every,
            backoff: 1,
            next: now,
            cluster: None,
            leader: None,
            last: NodeId(0),
            waits: None,
        }
    }

    /// There is a cluster, as `via` says.
    pub(super) fn found(&mut self, via: NodeId, cluster: ClusterId, now: Time) {
        self.cluster = Some((via, cluster));
        self.next = now;
    }

    /// Where the leader is that this node should ask, beside whom it knows itself.
    pub(super) fn leader(&self) -> Option<(NodeId, SocketAddr)> {
        self.leader
    }
}

impl ClusterNode {
    /// Whether this node has no life yet and knows of a cluster to ask for one.
    fn asks(&self) -> bool {
        let knows = self.consensus.is_some() || self.asking.cluster.is_some();
        knows && !self.stopped && self.life.is_none() && !self.durable.writes_life()
    }

    pub(super) fn asking_deadline(&self) -> Time {
        if self.asks() {
            self.asking.next
        } else {
            Time::MAX
        }
    }

    /// Somebody who may answer has come.
    pub(super) fn ask_soon(&mut self, now: Time) {
        if self.asks() {
            self.asking.next = self.asking.next.min(now);
        }
    }

    /// Asks, if it is time.
    pub(super) fn ask(&mut self, now: Time) {
        if !self.asks() || now < self.asking.next {
            return;
        }
        let Some(request) = self.join_request() else {
            return;
        };
        let jitter = self
            .rng
            .random_range(0..=self.asking.every.as_nanos() as u64 / 4);
        let pause = self.asking.every * self.asking.backoff + Duration::from_nanos(jitter);
        self.asking.next = now + pause;
        if self.led.is_self {
            return self.asked_to_admit(request, now);
        }
        let Some(whom) = self.whom_to_ask() else {
            return; // Nobody is connected; whoever comes is asked at once.
        };
        self.asking.last = whom;
        self.asking.backoff = (self.asking.backoff * 2).min(MAX_BACKOFF);
        self.send(whom, ControlMessage::JoinRequest(Box::new(request)));
    }

    /// The leader if it is known and was not asked in vain a moment ago, else one after the other.
    fn whom_to_ask(&self) -> Option<NodeId> {
        let connected = &self.links.connected;
        let known = self.led.leader.map(|leader| leader.node());
        let told = self.asking.leader.map(|(leader, _)| leader);
        let leader = known.or(told).filter(|leader| connected.contains(leader));
        if leader
            .is_some_and(|leader| leader != self.asking.last || self.asking.backoff < MAX_BACKOFF)
        {
            return leader;
        }
        let via = self.asking.cluster.map(|(via, _)| via);
        let seeds = self.settings.seeds.iter().map(|seed| seed.node);
        let members = self.state.members().live().map(|member| member.node);
        let mut candidates: Vec<NodeId> = seeds.chain(members).chain(via).collect();
        candidates.retain(|node| connected.contains(node));
        candidates.sort();
        let next = candidates.iter().find(|node| **node > self.asking.last);
        next.or(candidates.first()).copied().or(leader)
    }

    fn join_request(&self) -> Option<JoinRequest> {
        let settings = &self.settings;
        Some(JoinRequest {
            admission: Admission {
                join: Join {
                    node: settings.node,
                    address: settings.address,
                    roles: settings.roles.clone(),
                    data_cores: settings.data_cores,
                },
                disk: self.durable.disk()?,
                start: self.start,
            },
            cluster: self.durable.founding().map(|founding| founding.cluster()),
            settings: SharedSettings::from(&settings.consensus),
            types: settings.types.clone(),
        })
    }

    /// Whether a node is one of those that are asked.
    fn may_answer(&self, node: NodeId) -> bool {
        let via = self.asking.cluster.is_some_and(|(via, _)| via == node);
        let leads = self.led.leader.is_some_and(|leader| leader.node() == node);
        let is_known = self.state.members().member(node).is_some();
        via || leads || is_known || self.contacts().contains_key(&node)
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, from: NodeId, answer: JoinAnswer, now: Time) {
        if answer.start != self.start || !self.asks() || !self.may_answer(from) {
            return; // It was for somebody before, comes late, or from somebody who was not asked.
        }
        match answer.says {
            JoinSays::Admitted { founding, .. } => {
                let theirs = founding.cluster();
                let ours = self.asking.cluster.map(|(_, cluster)| cluster);
                let belongs = self.durable.founding().map(|founding| founding.cluster());
                match belongs.or(ours).filter(|ours| *ours != theirs) {
                    Some(ours) => {
                        let why = Refusal::OtherCluster { theirs, ours };
                        self.refused(Some(from), why, now);
                    }
                    None => self.belong_to(founding),
                }
                // What is missing now is the log.
                self.asking.backoff = MAX_BACKOFF / 2;
            }
            JoinSays::Waits { previous, at_most } => {
                self.asking.backoff = 1;
                if self.asking.waits != Some(previous) {
                    self.asking.waits = Some(previous);
                    self.outputs.push_back(Output::Waits { previous, at_most });
                }
            }
            JoinSays::Ask(leader) => {
                let leader = leader.filter(|(leader, _)| *leader != self.settings.node);
                let is_news = leader.is_some() && leader != self.asking.leader;
                if leader != std::mem::replace(&mut self.asking.leader, leader) {
                    self.told_of_leader();
                }
                let other = leader.filter(|(leader, _)| *leader != from);
                if let Some((leader, _)) = other
                    && (is_news || self.asking.backoff < MAX_BACKOFF)
                    && self.links.connected.contains(&leader)
                {
                    self.asking.last = from;
                    self.asking.next = now;
                }
            }
            JoinSays::Busy => {}
            // It was let in, and declared down before it heard of it.
            JoinSays::Refused(JoinRefused::LifeEnded { incarnation }) => {
                self.stop(StopCause::LifeEnded { incarnation });
            }
            JoinSays::Refused(why) if why.is_final() => self.stop(StopCause::Refused(why)),
            JoinSays::Refused(why) => self.refused(Some(from), Refusal::Join(why), now),
        }
    }

    /// Looks in the state whether this start has got its life; and if this life is over, ends.
    pub(super) fn find_life(&mut self) {
        let (me, start) = (self.settings.node, self.start);
        let member = self.state.members().member(me);
        if let Some(incarnation) = self.life {
            let over = self.state.members().has_ended(me, incarnation);
            if over && !matches!(self.leave, Leave::Left { .. }) {
                self.stop(StopCause::LifeEnded { incarnation });
            }
            return;
        }
        let Some(member) = member.filter(|_| !self.durable.writes_life()) else {
            return;
        };
        let part = self.state.part(me);
        let is_mine = part.is_some_and(|part| part.start == start)
            || self.settings.mutant == Some(super::mutant::NodeMutant::TakesAnyLife)
                && member.is_live()
                && part.is_some_and(|part| Some(part.disk) == self.durable.disk());
        if !is_mine {
            return;
        }
        let incarnation = member.incarnation;
        match member.is_live() {
            true => self.write_life(incarnation),
            false => self.stop(StopCause::LifeEnded { incarnation }),
        }
    }

    /// This node's life is durable.
    pub(super) fn begin_life(&mut self, incarnation: Incarnation, now: Time) {
        let (Some(consensus), Some(founding)) = (&mut self.consensus, self.durable.founding())
        else {
            return;
        };
        let cluster = founding.cluster();
        consensus.begin_life(now, incarnation);
        self.life = Some(incarnation);
        self.asking.leader = None;
        self.observe(incarnation, cluster, now);
        let joined = Output::Joined {
            incarnation,
            cluster,
        };
        self.outputs.push_back(joined);
        self.tell_all();
        self.changed = true;
    }

    /// Whether a node is a member, or a peer of the log, as far as this one knows.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        let configuration = self.consensus.as_ref().map(Consensus::configuration);
        let mut peers = configuration.into_iter().flat_map(Configuration::peers);
        self.state.members().member(node).is_some() || peers.any(|peer| peer.node() == node)
    }

    /// Somebody says that a life of this node has ended.
    pub(super) fn told_of_the_end(&mut self, life: NodeLife) {
        if Some(life) == self.life_now() {
            let incarnation = life.incarnation;
            self.stop(match self.leave {
                Leave::Left { .. } => StopCause::Left,
                _ => StopCause::LifeEnded { incarnation },
            });
        }
    }

    /// Whether a node is a live member in the life in which it speaks; if that has ended, it is told.
    pub(super) fn speaks_as_member(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        let life = NodeLife { node, incarnation };
        let is_one = self.state.has_life(life);
        if !is_one {
            self.tell_if_ended(node, incarnation);
        }
        is_one
    }

    /// Whether the life in which a node speaks has ended. It is told, unless it is still a peer of the log, which tells it.
    pub(super) fn tell_if_ended(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        let ended = self.state.members().has_ended(node, incarnation);
        let configuration = self.consensus.as_ref().map(Consensus::configuration);
        let is_peer = |configuration: &Configuration| {
            let mut peers = configuration.peers().into_iter();
            peers.any(|peer| peer.node() == node)
        };
        if ended && !configuration.is_some_and(is_peer) {
            let life = NodeLife { node, incarnation };
            self.send(node, ControlMessage::LifeEnded(life));
        }
        ended
    }
}
