//! How the machine brings proposals into the log, its own and those of others, and tells what became of them.

use raft::StateRole;

use super::convert;
use super::entry::ProposalRecord;
use super::machine::Consensus;
use super::message::{AttemptRefused, Body, Proposed, Refusal};
use super::mutant::Mutant;
use super::output::{Outcome, Output, ProposalId, Rejection};
use super::peer::{NodeLife, PeerId};
use super::sessions::Fate;
use crate::base::ids::{Incarnation, NodeId};

impl Consensus {
    /// Sends what has been proposed here to whoever leads, or appends it.
    pub(super) fn send_proposals(&mut self) {
        loop {
            let due = self.proposals.due(self.now, self.settings.append_bytes);
            let Some(leader) = self.led.leader.filter(|_| !due.is_empty()) else {
                return;
            };
            let proposed = due.into_iter().map(|attempt| Proposed {
                proposal: attempt.proposal,
                attempt: attempt.attempt,
                command: attempt.command,
            });
            if self.led.is_self {
                for proposed in proposed.collect::<Vec<_>>() {
                    let (number, attempt) = (proposed.proposal.number, proposed.attempt);
                    if let Err(why) = self.append(proposed) {
                        self.attempt_refused(number, attempt, why);
                    }
                }
            } else {
                self.send(leader, Body::Propose(proposed.collect()));
            }
        }
    }

    pub(super) fn append_for(&mut self, from: PeerId, proposed: Proposed) {
        let ProposalRecord {
            number,
            incarnation,
            ..
        } = proposed.proposal;
        let attempt = proposed.attempt;
        if let Err(why) = self.append(proposed) {
            let refused = AttemptRefused {
                incarnation,
                number,
                attempt,
                why,
            };
            self.send(from, Body::Refused(refused));
        }
    }

    fn append(&mut self, proposed: Proposed) -> Result<(), Refusal> {
        let proposal = &proposed.proposal;
        let life = NodeLife {
            node: NodeId(proposal.node),
            incarnation: Incarnation(proposal.incarnation),
        };
        let hands_over = self.raft.raft.lead_transferee.is_some();
        if self.raft.raft.state != StateRole::Leader || hands_over {
            return Err(Refusal::NotLeader);
        }
        if proposed.command.len() > self.settings.max_command_bytes {
            return Err(Refusal::TooLarge);
        }
        if !self.member_nodes.contains(&life.node) {
            return Err(Refusal::NotMember);
        }
        let known = self
            .sessions
            .fate(life.node, life.incarnation, proposal.number);
        let copy = self.settings.mutant != Some(Mutant::ApplyTwice)
            && (proposal.only_term == 0 && known != Fate::Open
                || self.appended.contains(&(life, proposal.number)));
        if copy {
            return Ok(());
        }
        if self.raft.store().bytes() >= self.settings.max_log_bytes {
            return Err(Refusal::Full);
        }
        let context = convert::proposal_to_bytes(proposal);
        let number = proposal.number;
        match self.raft.propose(context, proposed.command) {
            Ok(()) => {
                self.appended.insert((life, number));
                Ok(())
            }
            Err(_) => Err(Refusal::Full),
        }
    }

    pub(super) fn attempt_refused(&mut self, number: u64, attempt: u32, why: Refusal) {
        if let Some((number, outcome)) = self.proposals.refused(number, attempt, why) {
            self.tell_outcome(number, outcome);
        }
    }

    pub(super) fn tell_outcome(&mut self, number: u64, mut outcome: Outcome) {
        if self.settings.mutant == Some(Mutant::DenyUnknown) && outcome == Outcome::Unknown {
            outcome = Outcome::Rejected(Rejection::NoLeader);
        }
        if let Some(life) = self.downs.remove(&number)
            && let (Outcome::Rejected(_), Some(grantor)) = (outcome, &mut self.grantor)
        {
            grantor.pardon(life);
        }
        let id = ProposalId {
            proposer: self.identity.life,
            number,
        };
        self.outputs.push_back(Output::Outcome { id, outcome });
    }
}
