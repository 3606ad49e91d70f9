//! What raft-rs takes for granted of a message, and ends the process where it is not so.
//!
//! A peer that has lost what it had promised to keep (a disk put back from a copy, for instance) breaks Raft's ground
//! rules. raft-rs panics then; here the message is refused, and says which rule.
//!
//! # Jumps of terms
//!
//! Raft takes any higher term for the news of an election, from whomever it comes, and never forgets it. No term may be as
//! high as 2^60, so that nothing overflows: a single message with a term near it would leave room for no further election,
//! for ever. So a term is believed from a message only if it is at most 2^32 above that of the receiver, and of jumps by
//! more than 2^10 only one a minute.
//!
//! That is *safe*, because a message that is refused is as one that is lost. It keeps nobody out: an election takes at
//! least `election_min`, of which 2^32 take more than a decade even if there is nothing but elections, so that sound peers
//! are never further apart; whoever comes in at term 0, or comes back after a long time, makes one large jump to where the
//! others are; and one that is refused because of another is made a minute later, for whatever has a term says it again and
//! again. To exhaust terms, a peer that lies has to make 2^28 jumps of a minute each, or 2^50 small ones, each of which
//! is a message: either takes years.
//!
//! # What is not defended
//!
//! Whoever may send messages of the log in the name of a peer is believed to be that peer. Who may is decided by the
//! connection, and only TLS makes that certain. Without it somebody who reaches the port, and knows the name of the cluster,
//! can speak as any peer: make leaders step down as often as it likes, vote, append entries, and with them change what the
//! cluster has agreed on. What holds all the same is that no message ends the process, exhausts its memory, or
//! stops elections for longer than the liar is there. Close the port to strangers, or use TLS.

use std::time::Duration;

use raft::{Raft, StateRole, Storage};

use super::message::{RaftKind, RaftMessage};
use super::output::StepError;
use super::peer::PeerId;
use crate::base::time::Time;

/// By how much one message may raise the term, and by how much each may.
pub(super) const MAX_JUMP: u64 = 1 << 32;
pub(super) const FREE_JUMP: u64 = 1 << 10;
/// So much time lies between two jumps that are larger.
pub(super) const JUMP_PAUSE: Duration = Duration::from_secs(60);

/// How far messages have raised the term lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Jumps {
    last: Option<Time>,
}

impl Jumps {
    /// Checks a term of which a message speaks.
    pub(super) fn check(
        &self,
        from: PeerId,
        ours: u64,
        term: u64,
        now: Time,
    ) -> Result<(), StepError> {
        let jump = term.saturating_sub(ours);
        let rests = self.last.is_some_and(|last| now < last + JUMP_PAUSE);
        if jump > MAX_JUMP || (jump > FREE_JUMP && rests) {
            let peer = from;
            return Err(StepError::TermJump { peer, term, ours });
        }
        Ok(())
    }

    /// A message has raised the term.
    pub(super) fn note(&mut self, before: u64, after: u64, now: Time) {
        if after.saturating_sub(before) > FREE_JUMP {
            self.last = Some(now);
        }
    }
}

/// Checks a message of `from` against the state of its receiver.
pub(super) fn check<S: Storage>(
    raft: &Raft<S>,
    from: PeerId,
    message: &RaftMessage,
) -> Result<(), StepError> {
    if message.term < raft.term {
        return Ok(()); // It is answered with the newer term, or ignored.
    }
    let (last, committed) = (raft.raft_log.last_index(), raft.raft_log.committed);
    let as_leader = message.term == raft.term && raft.state == StateRole::Leader;
    match message.kind {
        RaftKind::Append | RaftKind::Heartbeat if as_leader => {
            return Err(StepError::TwoLeaders {
                peer: from,
                term: message.term,
            });
        }
        RaftKind::AppendResponse | RaftKind::HeartbeatResponse
            if as_leader && !message.reject && message.index > last =>
        {
            return Err(StepError::NeverSent {
                peer: from,
                index: message.index,
                last,
            });
        }
        _ => {}
    }
    // Only what comes before the first entry has no term. raft-rs takes that for the term of what is not there.
    if message.kind == RaftKind::Append && message.index > 0 && message.log_term == 0 {
        return Err(StepError::NoTerm {
            peer: from,
            index: message.index,
        });
    }
    if message.kind == RaftKind::Heartbeat && message.commit > last {
        return Err(StepError::LogLost {
            peer: from,
            commit: message.commit,
            last,
        });
    }
    for entry in &message.entries {
        if entry.index > committed {
            break;
        }
        // What has been compacted (0) cannot be compared.
        let known = raft.raft_log.term(entry.index).unwrap_or(0);
        if known != 0 && known != entry.term {
            return Err(StepError::RewritesCommitted {
                peer: from,
                index: entry.index,
                committed,
            });
        }
    }
    Ok(())
}
