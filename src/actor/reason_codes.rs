//! Why an ask or an actor ended, as a code on the wire. The numbers are a contract between versions: each keeps its own for ever.

use super::ending::StopCause;
use super::refusal::{AskError, Rejection, Uncertainty};
use crate::wire::kind::Reason;

/// The reason as a frame carries it.
pub(crate) fn reason_of(why: AskError) -> Reason {
    match why {
        AskError::Rejected(why) => Reason::Rejected(rejection_code(why)),
        AskError::Unknown(why) => Reason::Unknown(uncertainty_code(why)),
    }
}

/// What the reason in a frame says of an ask. A code that is not known keeps its class, which is what counts.
pub(crate) fn ask_error_of(reason: Reason) -> AskError {
    match reason {
        Reason::Rejected(code) => Rejection::ALL
            .into_iter()
            .find(|why| rejection_code(*why) == code)
            .unwrap_or(Rejection::Elsewhere)
            .into(),
        Reason::Unknown(code) => Uncertainty::ALL
            .into_iter()
            .find(|why| uncertainty_code(*why) == code)
            .unwrap_or(Uncertainty::Elsewhere)
            .into(),
        Reason::Ended(_) => Uncertainty::Elsewhere.into(),
    }
}

/// Why somebody has ended who was watched, as a frame carries it.
pub(super) fn reason_of_end(cause: Option<StopCause>) -> Reason {
    Reason::Ended(match cause {
        None => 0,
        Some(StopCause::Wanted) => 1,
        Some(StopCause::Failed) => 2,
        Some(StopCause::Supervisor) => 3,
        Some(StopCause::Shutdown) => 4,
        Some(StopCause::NodeGone) => 5,
    })
}

/// What the reason in a frame says of an end. A cause that is not known, from a newer version, is none.
pub(super) fn cause_of(reason: Reason) -> Option<StopCause> {
    match reason {
        Reason::Ended(1) => Some(StopCause::Wanted),
        Reason::Ended(2) => Some(StopCause::Failed),
        Reason::Ended(3) => Some(StopCause::Supervisor),
        Reason::Ended(4) => Some(StopCause::Shutdown),
        Reason::Ended(5) => Some(StopCause::NodeGone),
        _ => None,
    }
}

const fn rejection_code(why: Rejection) -> u8 {
    match why {
        Rejection::Elsewhere => 0,
        Rejection::MailboxFull => 1,
        Rejection::Evicted => 2,
        Rejection::CoreBudget => 3,
        Rejection::OutboxFull => 4,
        Rejection::IngressFull => 5,
        Rejection::TooManyAsks => 6,
        Rejection::TooManyTimers => 7,
        Rejection::TooManyWatches => 8,
        Rejection::NoSuchActor => 9,
        Rejection::OldIncarnation => 10,
        Rejection::Stopped => 11,
        Rejection::StartFailed => 12,
        Rejection::Moving => 13,
        Rejection::ShuttingDown => 14,
        Rejection::CoreDied => 15,
        Rejection::LateReply => 16,
        Rejection::Injected => 17,
        Rejection::LinkFull => 18,
        Rejection::LinkLost => 19,
        Rejection::Unallocated => 20,
        Rejection::Fenced => 21,
        Rejection::NoControlQuorum => 22,
        Rejection::TooLarge => 23,
        Rejection::NotArchived => 24,
        Rejection::Unreadable => 25,
        Rejection::Misrouted => 26,
        Rejection::NotAcrossNodes => 27,
    }
}

const fn uncertainty_code(why: Uncertainty) -> u8 {
    match why {
        Uncertainty::Elsewhere => 0,
        Uncertainty::Timeout => 1,
        Uncertainty::DroppedUnanswered => 2,
        Uncertainty::HandlerFailed => 3,
        Uncertainty::RuntimeGone => 4,
        Uncertainty::LinkLost => 5,
        Uncertainty::Unreadable => 6,
        Uncertainty::ReplyNotSent => 7,
        Uncertainty::Fenced => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back_and_unknown_codes_keep_their_class() {
        let rejected = Rejection::ALL.map(AskError::from);
        let unknown = Uncertainty::ALL.map(AskError::from);
        for why in rejected.into_iter().chain(unknown) {
            assert_eq!(ask_error_of(reason_of(why)), why);
        }
        for (reason, why) in [
            (Reason::Rejected(255), Rejection::Elsewhere.into()),
            (Reason::Unknown(255), Uncertainty::Elsewhere.into()),
            (Reason::Ended(1), Uncertainty::Elsewhere.into()),
        ] {
            assert_eq!(ask_error_of(reason), why);
        }
    }

    #[test]
    fn every_cause_of_an_end_comes_back() {
        let causes = [
            None,
            Some(StopCause::Wanted),
            Some(StopCause::Failed),
            Some(StopCause::Supervisor),
            Some(StopCause::Shutdown),
            Some(StopCause::NodeGone),
        ];
        for (code, cause) in (0..).zip(causes) {
            assert_eq!(reason_of_end(cause), Reason::Ended(code));
            assert_eq!(cause_of(Reason::Ended(code)), cause);
        }
        for reason in [Reason::Ended(200), Reason::Rejected(1), Reason::Unknown(1)] {
            assert_eq!(cause_of(reason), None);
        }
    }

    /// Other versions read them.
    #[test]
    fn codes_never_change() {
        let codes: Vec<u8> = Rejection::ALL.map(rejection_code).to_vec();
        let mut expected: Vec<u8> = (1..28).collect();
        expected.push(0);
        assert_eq!(codes, expected);
        assert_eq!(
            Uncertainty::ALL.map(uncertainty_code),
            [1, 2, 3, 4, 5, 6, 7, 8, 0]
        );
    }
}
