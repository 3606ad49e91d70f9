//! Futures that end at a time, and the timers behind them.
//!
//! Whoever drops such a future, as every `select` against a time-out does, cannot reach the core's timers from there. So the
//! timers of dropped futures are swept out once they may be the greater part: there are never more than twice as many
//! as futures that wait, and [`SLACK`].

use super::local::{Local, TimerEvent};
use super::pending::{Pending, pending};
use crate::base::time::Time;

/// Timers below which nobody sweeps.
const SLACK: usize = 1_024;

/// Timers of futures that end at a time.
pub(crate) struct Sleeps {
    pending: usize,
    sweep_at: usize,
}

impl Default for Sleeps {
    fn default() -> Self {
        Sleeps {
            pending: 0,
            sweep_at: SLACK,
        }
    }
}

impl Sleeps {
    /// The timer of one has fired.
    pub(crate) fn fired(&mut self) {
        self.pending -= 1;
    }
}

impl Local {
    /// A future that ends at `deadline`.
    pub(crate) fn sleep_until(&mut self, deadline: Time) -> Pending<()> {
        if self.sleeps.pending >= self.sleeps.sweep_at {
            self.sweep_sleeps();
        }
        let (completer, pending) = pending(());
        self.timers.insert(deadline, TimerEvent::Sleep(completer));
        self.sleeps.pending += 1;
        pending
    }

    #[cold]
    fn sweep_sleeps(&mut self) {
        let before = self.timers.len();
        self.timers.retain(|event| match event {
            TimerEvent::Sleep(completer) => completer.is_awaited(),
            _ => true,
        });
        self.sleeps.pending -= before - self.timers.len();
        self.sleeps.sweep_at = 2 * self.sleeps.pending + SLACK;
    }
}
