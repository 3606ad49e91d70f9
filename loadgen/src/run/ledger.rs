//! The books of one core: what its entities and its driver record while a phase runs.
//!
//! They lie in a thread-local, which spares entities a field and messages a pointer. A core runs one handler at a time,
//! so nothing is ever waited for. Completions are counted once a turn: within a turn they are as good as simultaneous,
//! and a clock read for each would be a tenth of what handling a message costs.

use std::cell::RefCell;
use std::sync::Arc;

use corecast::Time;

use super::board::{Board, Order};
use super::clock::Clock;
use crate::measure::{Recorder, Stamps, Window};

thread_local! {
    static LEDGER: RefCell<Option<Ledger>> = const { RefCell::new(None) };
}

/// Which phase of a run this is: messages that outlive theirs count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PhaseId(pub(super) u16);

/// The number of a driver within its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DriverId(pub(super) u16);

/// The books of one core during one phase.
#[derive(Debug)]
pub(super) struct Ledger {
    core: usize,
    phase: PhaseId,
    clock: Clock,
    board: Arc<Board>,
    recorder: Recorder,
    /// The turn of the core, by the runtime's time, and when it began by ours.
    turn: Time,
    turn_began: Time,
    /// Completions of this turn.
    untold: u64,
}

/// Goes with a message and settles it: by its receiver, or, when the message is dropped, as lost.
#[derive(Debug)]
pub(super) struct Ticket {
    driver: DriverId,
    phase: PhaseId,
}

impl Ledger {
    pub(super) fn new(
        core: usize,
        phase: PhaseId,
        clock: Clock,
        board: Arc<Board>,
        window: Window,
    ) -> Ledger {
        Ledger {
            core,
            phase,
            clock,
            board,
            recorder: Recorder::new(window),
            turn: Time::MAX,
            turn_began: clock.now(),
            untold: 0,
        }
    }

    /// Opens this core's books.
    pub(super) fn open(self) {
        LEDGER.set(Some(self));
    }

    /// Closes this core's books.
    pub(super) fn close() -> Option<Recorder> {
        let mut ledger = LEDGER.take()?;
        ledger.tell();
        Some(ledger.recorder)
    }

    /// Writes into this core's books, if they are open. Nothing in `write` may send or drop a message.
    #[inline]
    pub(super) fn with<T>(write: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        LEDGER.with_borrow_mut(|ledger| ledger.as_mut().map(write))
    }

    /// A message was handled, or an ask answered, in this turn of the core.
    #[inline]
    pub(super) fn completed(&mut self, turn: Time, stamps: Option<Stamps>) {
        if turn != self.turn {
            self.tell();
            self.turn = turn;
            self.turn_began = self.clock.now();
        }
        self.untold += 1;
        if let Some(stamps) = stamps {
            let now = self.clock.now();
            self.recorder.latency(stamps, now);
            let nanos = u64::try_from((now - stamps.intended).as_nanos()).unwrap_or(u64::MAX);
            self.board.show_latency(self.core, nanos);
        }
    }

    /// An ask ended without an answer that was sent in the measured time.
    #[cold]
    pub(super) fn failed(&mut self) {
        self.recorder.failed(1);
    }

    /// A message was lost. When it was sent it does not say: what gets lost in the measured time or later counts.
    #[cold]
    fn lost(&mut self) {
        if self.clock.now() >= self.recorder.window().start {
            self.recorder.failed(1);
        }
    }

    /// Whether nothing more is to be sent in this phase.
    pub(super) fn is_over(&self) -> bool {
        self.turn_began >= self.recorder.window().end || self.board.order() >= Order::Stop
    }

    /// Stamps for a message that is sent now.
    pub(super) fn stamps(&self) -> Stamps {
        let now = self.clock.now();
        Stamps {
            intended: now,
            sent: now,
        }
    }

    pub(super) fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn tell(&mut self) {
        let completed = std::mem::take(&mut self.untold);
        if completed > 0 {
            self.recorder.completed_untimed(self.turn_began, completed);
            self.board.show_completed(self.core, completed);
        }
    }
}

impl Ticket {
    #[inline]
    pub(super) fn new(driver: DriverId, phase: PhaseId) -> Ticket {
        Ticket { driver, phase }
    }

    /// The message was handled.
    #[inline]
    pub(super) fn settle(self, turn: Time, stamps: Option<Stamps>) {
        self.end(|ledger| ledger.completed(turn, stamps));
    }

    /// The message was refused and is back with its sender: nothing is settled.
    pub(super) fn recall(self) {
        std::mem::forget(self);
    }

    #[inline]
    fn end(self, write: impl FnOnce(&mut Ledger)) {
        let (driver, phase) = (self.driver, self.phase);
        std::mem::forget(self);
        Ledger::with(|ledger| {
            if ledger.phase == phase {
                ledger.board.settle(ledger.core, usize::from(driver.0));
                write(ledger);
            }
        });
    }
}

impl Drop for Ticket {
    #[cold]
    fn drop(&mut self) {
        let lost = Ticket::new(self.driver, self.phase);
        lost.end(Ledger::lost);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_message_is_settled_once_whatever_becomes_of_it() {
        let (clock, board, phase) = (Clock::new(), Arc::new(Board::new(1, 2, 0)), PhaseId(3));
        let window = Window::after_warm_up(Time::ZERO, Duration::ZERO, Duration::from_secs(60));
        Ledger::new(0, phase, clock, board.clone(), window).open();
        let ticket = || Ticket::new(DriverId(1), phase);
        let stamps = Stamps {
            intended: clock.now(),
            sent: clock.now(),
        };
        ticket().settle(Time::ZERO, None);
        ticket().settle(Time::from_nanos(1), Some(stamps));
        drop(ticket());
        ticket().recall();
        drop(Ticket::new(DriverId(1), PhaseId(2)));
        assert_eq!((board.settled(0), board.settled(1)), (0, 3));
        let recorder = Ledger::close().expect("it was open");
        assert_eq!((recorder.completions(), board.completed()), (2, 2));
        assert_eq!(
            recorder
                .uncorrected()
                .summary()
                .map(|latency| latency.count),
            Some(1)
        );
        assert_eq!(recorder.failures(), 1);
        drop(ticket());
        assert_eq!(board.settled(1), 3, "closed books take nothing");
    }
}
