//! How a node takes part in the log before it has a life, and how its life begins.
//!
//! Lives are given out by the log itself, so a node that starts has none: incarnation 0. After all nodes have been off, one
//! without a life has to lead, and to propose the first lives. What it proposes counts in its own term, so that no session
//! is needed to keep it from being applied twice.

use super::machine::Consensus;
use super::output::{ProposalId, ProposeError, Rejection};
use crate::base::ids::Incarnation;
use crate::base::time::Time;

impl Consensus {
    /// Proposes a command that counts in this leader's term only, and is in the log at most once by that alone. So a leader
    /// may propose before it has a life of its own; see [`begin_life`](Consensus::begin_life).
    ///
    /// # Errors
    ///
    /// [`ProposeError`]: `NotLeader`, or what [`propose`](Consensus::propose) says. Nothing has changed then.
    pub fn propose_in_term(
        &mut self,
        now: Time,
        command: Vec<u8>,
    ) -> Result<ProposalId, ProposeError> {
        self.now = self.now.max(now);
        if !self.led.is_self {
            return Err(ProposeError::NotLeader);
        }
        let taken = self.take_proposal(command, self.led.term);
        self.pump();
        taken
    }

    /// The log has let this node in: from now on it proposes, and asks for leases, in this life. Before, it has to be in
    /// none (incarnation 0), in which it may vote and lead, and propose what counts in its own term
    /// ([`propose_in_term`](Consensus::propose_in_term), [`propose_down`](Consensus::propose_down)), but gets no lease,
    /// and is not stopped by what the log says of its peer's removal. What has been proposed until now and has no outcome
    /// is unknown.
    pub fn begin_life(&mut self, now: Time, incarnation: Incarnation) {
        self.now = self.now.max(now);
        for (number, outcome) in self.proposals.stop(Rejection::NoLeader) {
            self.tell_outcome(number, outcome);
        }
        self.identity.life.incarnation = incarnation;
        self.proposals.begin_life(self.identity.life);
        self.pump();
    }

    /// Whether this node leads and has applied all that its predecessors have committed.
    #[must_use]
    pub fn leads_settled(&self) -> bool {
        self.led.is_self && self.settled
    }
}
