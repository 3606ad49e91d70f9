//! Faults of a cluster run as they are asked for: what happens, when, to whom, and for how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units::{self, parse_duration};

/// What is said of a fault that cannot be read.
const FORM: &str = "write KIND@TIME[+DOWN][:WHO], such as kill@5s, pause@5s+30s:leader, restart@3s:all or \
                    partition@4s:2; kinds are kill, pause, restart and partition, WHO is a node's number, leader, \
                    follower or, for a restart, all";

/// How long a node is gone when nothing else is said.
const KILL_DOWN: Duration = Duration::from_secs(5);
const PAUSE_DOWN: Duration = Duration::from_secs(10);
const PARTITION_DOWN: Duration = Duration::from_secs(10);

/// One fault that is injected while the load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSpec {
    /// What happens.
    pub kind: FaultKind,
    /// When, from the begin of the measured time.
    pub at: Duration,
    /// How long it lasts: from the fault until the node is started again, goes on, or is connected again. A restart takes
    /// as long as it takes.
    pub down: Duration,
    /// To whom.
    pub who: Who,
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// `SIGKILL`; its process is started again with the same directory.
    Kill,
    /// `SIGSTOP`, then `SIGCONT`.
    Pause,
    /// It leaves, its process ends, and is started again.
    Restart,
    /// Its network link is down: it reaches nobody, and nobody reaches it.
    Partition,
}

/// To whom it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The node with this number, from 1.
    Node(u32),
    /// Who leads at that moment.
    Leader,
    /// One that does not lead: each time the next.
    Follower,
    /// One after the other, each when the one before is back.
    All,
}

impl FaultKind {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Kill => "kill",
            FaultKind::Pause => "pause",
            FaultKind::Restart => "restart",
            FaultKind::Partition => "partition",
        }
    }

    /// Whether the node is lost to the others meanwhile, so that they have to be a majority.
    #[must_use]
    pub fn takes_a_node(self) -> bool {
        self != FaultKind::Restart
    }

    fn usual_down(self) -> Duration {
        match self {
            FaultKind::Kill => KILL_DOWN,
            FaultKind::Pause => PAUSE_DOWN,
            FaultKind::Partition => PARTITION_DOWN,
            FaultKind::Restart => Duration::ZERO,
        }
    }
}

impl FromStr for FaultSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultSpec, String> {
        let (kind, rest) = text.split_once('@').ok_or(FORM)?;
        let kind = match kind {
            "kill" => FaultKind::Kill,
            "pause" => FaultKind::Pause,
            "restart" => FaultKind::Restart,
            "partition" => FaultKind::Partition,
            other => return Err(format!("'{other}' is no kind of fault: {FORM}")),
        };
        let (times, who) = match rest.split_once(':') {
            Some((times, who)) => (times, who.parse()?),
            None => (rest, Who::Follower),
        };
        let (at, down) = match times.split_once('+') {
            Some((at, down)) => (at, Some(down)),
            None => (times, None),
        };
        let time = |text: &str| parse_duration(text).map_err(|error| error.to_string());
        let down = down.map(time).transpose()?;
        if kind == FaultKind::Restart && down.is_some() {
            return Err(
                "a restart takes as long as it takes: leave '+' and its time out".to_owned(),
            );
        }
        if who == Who::All && kind != FaultKind::Restart {
            return Err("only a restart can be of all nodes, one after the other".to_owned());
        }
        Ok(FaultSpec {
            kind,
            at: time(at)?,
            down: down.unwrap_or(kind.usual_down()),
            who,
        })
    }
}

impl fmt::Display for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} at {}",
            self.kind.name(),
            self.who,
            units::duration(self.at)
        )?;
        match self.kind {
            FaultKind::Restart => Ok(()),
            _ => write!(f, " for {}", units::duration(self.down)),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Who, String> {
        match text {
            "leader" => Ok(Who::Leader),
            "follower" => Ok(Who::Follower),
            "all" => Ok(Who::All),
            number => match number.parse() {
                Ok(node @ 1..) => Ok(Who::Node(node)),
                _ => Err(format!(
                    "'{text}' is nobody: write a node's number from 1, leader, follower or all"
                )),
            },
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Node(node) => write!(f, "node {node}"),
            Who::Leader => f.write_str("the leader"),
            Who::Follower => f.write_str("a follower"),
            Who::All => f.write_str("every node in turn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_say_what_when_to_whom_and_for_how_long() {
        let fault = |text: &str| text.parse::<FaultSpec>();
        let seconds = Duration::from_secs;
        let spec = |kind, at, down, who| FaultSpec {
            kind,
            at: seconds(at),
            down: seconds(down),
            who,
        };
        for (text, expected) in [
            ("kill@5s", spec(FaultKind::Kill, 5, 5, Who::Follower)),
            ("kill@5:leader", spec(FaultKind::Kill, 5, 5, Who::Leader)),
            (
                "pause@4s+30s:2",
                spec(FaultKind::Pause, 4, 30, Who::Node(2)),
            ),
            (
                "partition@0+7s",
                spec(FaultKind::Partition, 0, 7, Who::Follower),
            ),
            ("restart@3s:all", spec(FaultKind::Restart, 3, 0, Who::All)),
        ] {
            assert_eq!(fault(text), Ok(expected), "{text}");
        }
        for (bad, word) in [
            ("kill", "KIND@TIME"),
            ("burn@3s", "'burn' is no kind"),
            ("kill@soon", "'soon'"),
            ("kill@3s:nobody", "'nobody' is nobody"),
            ("kill@3s:0", "'0' is nobody"),
            ("kill@3s:all", "only a restart"),
            ("restart@3s+2s", "as long as it takes"),
            ("pause@3s+", "''"),
        ] {
            let error = fault(bad).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
