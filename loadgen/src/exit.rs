//! How the process ends: one code for each outcome that a script wants to tell apart.

use std::process::ExitCode;

/// The outcome of a run, in rising order of precedence: of several outcomes the greatest is the exit code's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything went as asked: code 0.
    Clean,
    /// A service level objective was missed: code 4.
    SloMissed,
    /// The measurement says nothing, because the generator lagged: code 5.
    InvalidRun,
    /// Some rows of the replayed file were malformed, the rest agreed: code 2.
    MalformedRows,
    /// A healthy node was held for dead, unreachable or gone: code 6.
    FalseDeath,
    /// Something that was begun or asked for did not come to its end: an ask that never ended, a fault that did not take
    /// place, shards that never answered again, a node that did not leave in order: code 7.
    Incomplete,
    /// An entity disagreed with the independent pass over the file: code 3.
    Mismatch,
    /// The run needs what this machine or this user does not have, and nothing was measured: code 77.
    Skipped,
    /// The run could not be done: code 1.
    Failed,
    /// The run was broken off by a signal: code 130.
    Interrupted,
}

/// The code for a command line that makes no sense (`EX_USAGE`); 2, which is common for it, means malformed rows here.
pub const USAGE: u8 = 64;

/// The paragraph of `--help` that explains the codes.
pub const HELP: &str = "Exit codes: 0 clean, 1 the run failed, 2 malformed rows, 3 replay mismatch, 4 objective missed, \
                        5 the generator lagged, 6 a healthy node was held for dead, 7 a fault \
                        did not take place or was not made up for or an ask never ended, 64 bad command line, 77 skipped because the \
                        machine does not have what it takes, 130 interrupted.";

impl Outcome {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Outcome::Clean => 0,
            Outcome::Failed => 1,
            Outcome::MalformedRows => 2,
            Outcome::Mismatch => 3,
            Outcome::SloMissed => 4,
            Outcome::InvalidRun => 5,
            Outcome::FalseDeath => 6,
            Outcome::Incomplete => 7,
            Outcome::Skipped => 77,
            Outcome::Interrupted => 130,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(outcome.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_outranks_malformed_rows_and_a_failure_outranks_both() {
        let worst = |outcomes: &[Outcome]| outcomes.iter().max().map(|outcome| outcome.code());
        assert_eq!(worst(&[Outcome::Mismatch, Outcome::MalformedRows]), Some(3));
        assert_eq!(worst(&[Outcome::Clean, Outcome::MalformedRows]), Some(2));
        assert_eq!(worst(&[Outcome::Failed, Outcome::Mismatch]), Some(1));
        assert_eq!(worst(&[Outcome::SloMissed, Outcome::InvalidRun]), Some(5));
        assert_eq!(worst(&[Outcome::Clean]), Some(0));
    }
}
