//! What raft-rs takes for granted of a message, and ends the process where it is not so.
//!
//! A peer that has lost what it had promised to keep (a disk put back from a copy, for instance) breaks Raft's ground
//! rules. raft-rs panics then; here the message is refused, and says which rule.

use raft::{Raft, StateRole, Storage};

use super::message::{RaftKind, RaftMessage};
use super::output::StepError;
use super::peer::PeerId;

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
