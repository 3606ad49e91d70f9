//! What happens because time has passed.

use super::connection::{Connection, Phase};
use super::ending::Why;
use super::links::{Links, Timed};
use super::remote::ConnectionId;
use crate::base::time::Time;
use crate::wire::greeting::Step;
use std::time::Duration;

/// What a look at a connection shows.
enum Verdict {
    Over(Why),
    GoesOn,
}

impl Links {
    /// When [`tick`](Links::tick) has to be called next, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due. Hand in first what has happened.
    pub fn tick(&mut self, now: Time) {
        self.at(now);
        while let Some((at, timed)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timed {
                Timed::Remote(remote) => self.maybe_dial(remote),
                Timed::Connection(id) => self.look_at(id),
            }
        }
    }

    /// This turn is late by so much more than usual: that time is counted against no peer. What peers said meanwhile waits in
    /// the sockets.
    ///
    /// Less than a quarter of `ping_period` is forgiven nobody: what comes is handed in before time is looked at, so that it
    /// makes nobody look silent; and a core whose turns are all a little late, because it has much to do, or because somebody
    /// sees to it that it has, would never find anybody silent.
    pub fn stalled(&mut self, late: Duration) {
        if late < self.settings.ping_period / 4 {
            return;
        }
        self.counters.stalls += 1;
        for connection in self.connections.values_mut() {
            match &mut connection.phase {
                Phase::Connecting { deadline } => *deadline = *deadline + late,
                Phase::Greeting(meeting) => {
                    meeting.greeting.stalled(late);
                    if let Some((_, deadline)) = &mut meeting.failed {
                        *deadline = *deadline + late;
                    }
                }
                Phase::Open(open) => open.stalled(late),
            }
        }
    }

    fn look_at(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.timer = None;
        let verdict = match &mut connection.phase {
            Phase::Connecting { deadline } if now >= *deadline => {
                Verdict::Over(Why::NoAnswer(self.settings.connect_timeout))
            }
            Phase::Connecting { .. } => Verdict::GoesOn,
            Phase::Greeting(meeting) => match &meeting.failed {
                Some((why, deadline)) if now >= *deadline => Verdict::Over(why.clone()),
                Some(_) => Verdict::GoesOn,
                None => {
                    meeting.greeting.tick(now);
                    // A time-out says nothing to the peer.
                    match meeting.greeting.next_step() {
                        Some(Step::Close(error)) => Verdict::Over(Why::Greeting(error)),
                        _ => Verdict::GoesOn,
                    }
                }
            },
            Phase::Open(open) => match open.check(&self.settings, now) {
                Some(why) => Verdict::Over(why),
                None => Verdict::GoesOn,
            },
        };
        match verdict {
            Verdict::Over(why) => self.remove(id, why, true),
            Verdict::GoesOn => {
                self.write_owed(id);
                self.arm(id);
            }
        }
    }

    /// Asks the peer of a connection that is up whether it is there, at once.
    pub(super) fn ask(&mut self, id: ConnectionId) {
        if let Some(open) = self.connections.get_mut(&id).and_then(Connection::open_mut) {
            open.ask();
            self.write_owed(id);
            self.arm(id);
        }
    }
}
