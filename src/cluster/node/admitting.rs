//! How the leader lets nodes in: it compares what they say with what the cluster has agreed on, ends their previous lives,
//! and has the log give them the next.

use std::time::Duration;

use super::machine::ClusterNode;
use super::mutant::NodeMutant;
use super::output::Refusal;
use crate::base::ids::NodeId;
use crate::base::time::Time;
use crate::cluster::command::Command;
use crate::cluster::join_request::{
    JoinAnswer, JoinRefused, JoinRequest, JoinSays, SharedSettings,
};
use crate::cluster::message::ControlMessage;
use crate::cluster::state::CommandRefused;
use crate::consensus::peer::NodeLife;
use crate::membership::change::{Change, ChangeError};
use crate::sharding::ownership::TypeSpec;
use crate::wire::difference::Differences;

/// The most nodes that are being let in at once. When there are as many, the one that this node knows nothing of and that
/// has asked for longest makes room, and is told to ask again; nobody else makes room.
const MAX_APPLICANTS: usize = 256;
/// An applicant is forgotten, and the accusation of its previous life with it, when it has not asked again for so many
/// times the interval in which it asks. Twice its longest pause.
const FORGOTTEN_AFTER: u32 = 20;

/// A node that asks to be let in.
pub(super) struct Applicant {
    request: JoinRequest,
    /// When it has begun to ask.
    since: Time,
    /// When it is forgotten, unless it asks again.
    until: Time,
    /// What was proposed for it, and when to propose that again.
    proposed: Option<(Step, Time)>,
    /// It waits for something to be answered.
    asked: bool,
}

/// What the log has to say before a node is in, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Types,
    Admission,
}

impl Applicant {
    pub(super) fn deadline(&self) -> Time {
        let again = self.proposed.map_or(Time::MAX, |(_, again)| again);
        self.until.min(again)
    }
}

impl ClusterNode {
    /// A node asks to be let in; it may be this one.
    pub(super) fn asked_to_admit(&mut self, request: JoinRequest, now: Time) {
        let node = request.admission.join.node;
        let start = request.admission.start;
        let cluster = self.durable.founding().map(|founding| founding.cluster());
        let says = match (cluster, request.cluster) {
            (Some(cluster), Some(theirs)) if cluster != theirs => {
                JoinSays::Refused(JoinRefused::OtherCluster { cluster })
            }
            _ if self.consensus.is_none() => JoinSays::Ask(None),
            _ if self.leading.is_none() => {
                let leader = self.led.leader.map(|leader| leader.node());
                let address = |leader| Some((leader, self.address_of(leader)?));
                JoinSays::Ask(leader.and_then(address))
            }
            _ => {
                let until = now + self.settings.ask_every * FORGOTTEN_AFTER;
                match self.take_applicant(request, until, now) {
                    true => return self.admit_soon(node, now),
                    false => JoinSays::Busy,
                }
            }
        };
        self.answer(node, JoinAnswer { start, says }, now);
    }

    /// Takes a request in place of an earlier one of the same node, if there is room, or somebody who makes room.
    fn take_applicant(&mut self, request: JoinRequest, until: Time, now: Time) -> bool {
        let node = request.admission.join.node;
        if !self.has_room_for_applicant(node, now) {
            return false;
        }
        let Some(leading) = &mut self.leading else {
            return false;
        };
        let applicants = &mut leading.applicants;
        let before = applicants.remove(&node);
        let since = before.as_ref().map_or(now, |before| before.since);
        let same = before.filter(|applicant| applicant.request == request);
        let applicant = Applicant {
            request,
            since,
            until,
            proposed: same.and_then(|applicant| applicant.proposed),
            asked: true,
        };
        applicants.insert(node, applicant);
        true
    }

    /// Whether there is room for an applicant, after another was told to ask again where that has to be. So whoever takes ever
    /// new names keeps nobody out who is known here, and newcomers no longer than it goes on.
    fn has_room_for_applicant(&mut self, node: NodeId, now: Time) -> bool {
        let Some(leading) = &self.leading else {
            return false;
        };
        let applicants = &leading.applicants;
        if applicants.len() < MAX_APPLICANTS || applicants.contains_key(&node) {
            return true;
        }
        let contacts = self.contacts();
        let is_stranger = |node: NodeId| !self.knows(node) && !contacts.contains_key(&node);
        let strangers = applicants.iter().filter(|(node, _)| is_stranger(**node));
        let oldest = strangers.min_by_key(|(node, applicant)| (applicant.since, **node));
        let Some((&oldest, _)) = oldest else {
            return false;
        };
        let leading = self.leading.as_mut();
        if let Some(applicant) = leading.and_then(|leading| leading.applicants.remove(&oldest)) {
            let start = applicant.request.admission.start;
            let says = JoinSays::Busy;
            self.answer(oldest, JoinAnswer { start, says }, now);
        }
        true
    }

    /// Brings an applicant that has just asked a step nearer, or sees to it that it comes to that.
    fn admit_soon(&mut self, node: NodeId, now: Time) {
        if self.leads_settled() && self.state.cluster().is_some() {
            self.admit(node, now);
        } else if let Some(leading) = &mut self.leading {
            leading.looks_at_applicants = true;
        }
    }

    /// Brings every applicant a step nearer for which something may have changed: all of them if the state has, and else
    /// those whose time has come. There may be many, with many types each, so it is not done for each message.
    pub(super) fn admit_due(&mut self, now: Time) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let all = std::mem::take(&mut leading.looks_at_applicants);
        leading
            .applicants
            .retain(|_, applicant| now < applicant.until);
        let due = leading.applicants.iter();
        let due = due.filter(|(_, applicant)| all || applicant.deadline() <= now);
        let nodes: Vec<NodeId> = due.map(|(node, _)| *node).collect();
        for node in nodes {
            self.admit(node, now);
        }
    }

    fn admit(&mut self, node: NodeId, now: Time) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let Some(mut applicant) = leading.applicants.remove(&node) else {
            return;
        };
        self.counters.looked_at_applicants += 1;
        let start = applicant.request.admission.start;
        match self.next_step(&applicant.request, applicant.until, now) {
            Next::Say(says) => {
                if matches!(says, JoinSays::Admitted { .. }) {
                    self.counters.admitted += 1;
                }
                return self.answer(node, JoinAnswer { start, says }, now);
            }
            Next::Wait(says) => {
                applicant.proposed = None;
                if std::mem::take(&mut applicant.asked) {
                    self.answer(node, JoinAnswer { start, says }, now);
                }
            }
            Next::Propose(step, commands) => {
                let done = |(before, again): (Step, Time)| before == step && now < again;
                if !applicant.proposed.is_some_and(done) {
                    let again = now + self.settings.consensus.election_max;
                    applicant.proposed = Some((step, again));
                    for command in &commands {
                        self.propose_as_leader(command, now);
                    }
                }
            }
        }
        if let Some(leading) = &mut self.leading {
            leading.applicants.insert(node, applicant);
        }
    }

    /// What is to be done next for an applicant, as the log is now.
    fn next_step(&mut self, request: &JoinRequest, stands_until: Time, now: Time) -> Next {
        if let Some(refused) = self.differs(request) {
            return Next::Say(JoinSays::Refused(refused));
        }
        let join = &request.admission.join;
        let part = self.state.part(join.node);
        let same_start = part.is_some_and(|part| part.start == request.admission.start);
        if let Some(member) = self.state.members().member(join.node) {
            let incarnation = member.incarnation;
            match (member.is_live(), same_start) {
                (true, true) => {
                    return match self.durable.founding().cloned() {
                        Some(founding) => Next::Say(JoinSays::Admitted {
                            incarnation,
                            founding,
                        }),
                        None => Next::Say(JoinSays::Ask(None)),
                    };
                }
                (false, true) => {
                    let refused = JoinRefused::LifeEnded { incarnation };
                    return Next::Say(JoinSays::Refused(refused));
                }
                (true, false) if member.address != join.address => {
                    let holder = member.address;
                    let refused = JoinRefused::NodeIdTaken { holder };
                    return Next::Say(JoinSays::Refused(refused));
                }
                (true, false) => return self.end_previous(join.node, stands_until, now),
                (false, false) => {}
            }
        }
        let mut live = self.state.members().live();
        if let Some(holder) = live.find(|member| member.address == join.address) {
            let holder = holder.node;
            return Next::Say(JoinSays::Refused(JoinRefused::AddressTaken { holder }));
        }
        let ownership = self.state.ownership();
        let is_new = |spec: &&TypeSpec| ownership.type_of(&spec.name).is_none();
        let unknown: Vec<Command> = request
            .types
            .iter()
            .filter(is_new)
            .cloned()
            .map(Command::Register)
            .collect();
        if !unknown.is_empty() {
            return Next::Propose(Step::Types, unknown);
        }
        let admission = Command::Admit(request.admission.clone());
        Next::Propose(Step::Admission, vec![admission])
    }

    /// A node has started again before its previous life was over. Its own word is enough, but not before the lease of that
    /// life must have run out.
    fn end_previous(&mut self, node: NodeId, stands_until: Time, now: Time) -> Next {
        let state = self
            .state
            .members()
            .member(node)
            .map(|member| member.incarnation);
        let Some(previous) = state else {
            return Next::Say(JoinSays::Ask(None));
        };
        let life = NodeLife {
            node,
            incarnation: previous,
        };
        if self.settings.mutant == Some(NodeMutant::EndsLifeAtOnce) {
            let incarnation = previous;
            let down = Command::Member(Change::Down { node, incarnation });
            return Next::Propose(Step::Types, vec![down]);
        }
        self.condemn(life, stands_until, now);
        let down_at = self.leading.as_ref().and_then(|l| l.down_at(&life));
        let at_most = down_at.map_or(Duration::ZERO, |at| at - now);
        Next::Wait(JoinSays::Waits { previous, at_most })
    }

    /// In what an applicant differs from what the cluster has agreed on.
    fn differs(&self, request: &JoinRequest) -> Option<JoinRefused> {
        let mut differences = Differences::default();
        let ours = SharedSettings::from(&self.settings.consensus);
        ours.compare(&request.settings, &mut differences);
        for spec in &request.types {
            match self
                .state
                .ownership()
                .check(spec)
                .as_ref()
                .map_err(JoinRefused::from)
            {
                Ok(()) => {}
                Err(JoinRefused::Differs(of_type)) => {
                    for one in of_type.named() {
                        differences.add(&one.what, &one.here, &one.there);
                    }
                }
                Err(other) => return Some(other),
            }
        }
        (!differences.is_empty()).then_some(JoinRefused::Differs(differences))
    }

    /// An entry of the log had no effect; if it was to let a node in, that one is told why.
    pub(super) fn void(&mut self, command: &Command, why: &CommandRefused, now: Time) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let refused: JoinRefused = match why {
            // It has come to life meanwhile, which the next look sees.
            CommandRefused::Member(ChangeError::PreviousLife { .. }) => return,
            CommandRefused::Member(error) => error.into(),
            CommandRefused::Type(error) => error.into(),
            _ => return,
        };
        // Whoever has brought a type that is refused will not come in with it.
        let concerned = leading
            .applicants
            .iter()
            .find(|(_, applicant)| match command {
                Command::Admit(admission) => applicant.request.admission == *admission,
                Command::Register(spec) => applicant.request.types.contains(spec),
                _ => false,
            });
        let asked = concerned.map(|(node, applicant)| (*node, applicant.request.admission.start));
        if let Some((node, start)) = asked {
            leading.applicants.remove(&node);
            let says = JoinSays::Refused(refused);
            self.answer(node, JoinAnswer { start, says }, now);
        }
    }

    /// Answers a node that may be this one.
    fn answer(&mut self, node: NodeId, answer: JoinAnswer, now: Time) {
        if let JoinSays::Refused(why) = &answer.says
            && node != self.settings.node
        {
            let why = Refusal::Applicant(why.clone());
            self.refused(Some(node), why, now);
        }
        if node == self.settings.node {
            self.answered(node, answer, now);
        } else {
            self.send(node, ControlMessage::JoinAnswer(Box::new(answer)));
        }
    }
}

/// What is to be done for an applicant.
enum Next {
    /// Answer it, and be done with it until it asks again.
    Say(JoinSays),
    /// Answer it, if it has asked since, and go on when the log does.
    Wait(JoinSays),
    /// Propose this, unless that was done a moment ago.
    Propose(Step, Vec<Command>),
}
