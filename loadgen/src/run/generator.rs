//! What one driver sends and when: the same for drivers inside the cores and on threads outside.
//!
//! A generator is asked for bursts. In a closed loop a burst fills up what may be in flight. In an open loop it is what the
//! schedule says is due; a message that the system does not take is tried again, and its latency counts from its
//! intended time all the same.

use std::ops::Range;
use std::time::Duration;

use corecast::Time;
use corecast::base::rng::Rng;
use rand::Rng as _;

use super::clock::Clock;
use crate::arrivals::{PhasePace, Schedule, Share};
use crate::keys::Keys;
use crate::measure::{Recorder, Stamps, Window};

/// The most messages of one burst: some 20 µs, after which the entities of the core have their turn.
const BURST: u64 = 128;
/// One message in so many is timed in a closed loop, where two clock reads for each would be a good part of its cost.
const TIMED_EVERY: u64 = 32;
/// Sends that share one read of the clock in an open loop.
const SENDS_PER_CLOCK: u64 = 16;
/// How long after the end of an open loop its backlog is still sent, so that it is measured.
const BACKLOG_GRACE: Duration = Duration::from_secs(1);

/// Whom messages go to.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Keys at random, for ever.
    Drawn(Keys),
    /// Each key once.
    Each(Range<u64>),
    /// All keys below a number, over and over.
    Cycle { keys: u64, next: u64 },
}

/// When messages are sent.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// So many are in flight until the window ends.
    Closed { in_flight: u64 },
    /// By a schedule that begins at a time, with a bound on what may be in flight.
    Open {
        schedule: Schedule,
        begin: Time,
        in_flight: u64,
    },
}

/// In an open loop a driver has at most so many messages in flight; what is due beyond that is held back.
const OPEN_IN_FLIGHT: u64 = 65_536;

/// Which of the drivers of a phase one is, and what it needs to keep its part of the pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// From 0.
    pub(super) number: u32,
    /// How many drivers there are, over all cores and nodes.
    pub(super) of: u32,
    /// When the schedule of an open loop begins.
    pub(super) begin: Time,
    /// Messages that may be queued on a core.
    pub(super) budget: usize,
    /// Of the gaps in an open loop.
    pub(super) seed: u64,
}

impl Part {
    /// This driver's part of a phase's pace.
    pub(super) fn pace(&self, pace: PhasePace) -> Pace {
        // All that is in flight may be meant for one core, and that is to have room for it.
        let room = self.budget as u64 / 2 / u64::from(self.of);
        match pace {
            PhasePace::Closed { in_flight } => Pace::Closed { in_flight },
            PhasePace::Open {
                total_rate,
                arrivals,
            } => {
                let share = Share {
                    total_rate,
                    driver: self.number,
                    drivers: self.of,
                };
                Pace::Open {
                    schedule: Schedule::new(share, arrivals, self.seed),
                    begin: self.begin,
                    in_flight: OPEN_IN_FLIGHT.min(room).max(1),
                }
            }
        }
    }
}

impl Source {
    /// Each key once, of which one of so many drivers has its share.
    pub(super) fn share(keys: Range<u64>, number: u32, of: u32) -> Source {
        let count = u128::from(keys.end.saturating_sub(keys.start));
        let border = |number: u32| {
            let part = count * u128::from(number) / u128::from(of.max(1));
            keys.start + part as u64
        };
        Source::Each(border(number)..border(number + 1))
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shot {
    pub(super) key: u64,
    pub(super) is_ask: bool,
    /// Set if it is to be timed.
    pub(super) stamps: Option<Stamps>,
    /// Whether it was meant to be sent in the measured time: then it is a failure if it fails.
    pub(super) is_measured: bool,
}

/// How a driver goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It sent something.
    Sent,
    /// There was nothing to send, or no room.
    Idle,
    /// Nothing more will be sent, and everything is settled.
    Finished,
}

/// What one driver sends.
#[derive(Debug)]
pub(super) struct Generator {
    source: Source,
    rng: Rng,
    /// Of 2^32 messages so many are asks.
    ask_share: u64,
    pace: Pace,
    window: Window,
    /// Accepted messages.
    sent: u64,
    /// A message that was refused and is tried again.
    refused: Option<Shot>,
    /// When the system last did not take what was due.
    blocked: Option<Time>,
    has_ended: bool,
    /// Sends of the last burst, for the recorder: in an open loop with their stamps.
    closed_sends: u64,
    open_sends: Vec<(Stamps, bool)>,
    never_attempted: u64,
}

impl Generator {
    pub(super) fn new(
        source: Source,
        rng: Rng,
        ask_percent: u8,
        pace: Pace,
        window: Window,
    ) -> Generator {
        Generator {
            source,
            rng,
            ask_share: (u64::from(ask_percent) << 32) / 100,
            pace,
            window,
            sent: 0,
            refused: None,
            blocked: None,
            has_ended: false,
            closed_sends: 0,
            open_sends: Vec::with_capacity(BURST as usize),
            never_attempted: 0,
        }
    }

    /// Sends what is due. `settled` is how many of the accepted messages have come to an end, `fire` returns whether the
    /// message was accepted.
    pub(super) fn burst(
        &mut self,
        clock: Clock,
        settled: u64,
        mut fire: impl FnMut(&Shot) -> bool,
    ) -> Step {
        let mut now = clock.now();
        let before = self.sent;
        while !self.has_ended && self.sent - before < BURST {
            if (self.sent - before) % SENDS_PER_CLOCK == SENDS_PER_CLOCK - 1 {
                now = clock.now();
            }
            let Some(shot) = self.next(now, self.sent - settled) else {
                break;
            };
            if !fire(&shot) {
                self.blocked = Some(now);
                self.refused = Some(shot);
                break;
            }
            self.accepted(&shot, now);
        }
        match self.has_ended && self.sent == settled {
            true => Step::Finished,
            false if self.sent > before => Step::Sent,
            false => Step::Idle,
        }
    }

    /// When an open loop has something to send next; `None` in a closed loop, and when nothing more will be sent.
    pub(super) fn next_due(&self) -> Option<Time> {
        match &self.pace {
            Pace::Open {
                schedule, begin, ..
            } if !self.has_ended => Some(*begin + Duration::from_nanos(schedule.next_ns())),
            _ => None,
        }
    }

    /// Sends no more.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        self.refused = None;
    }

    /// Writes the sends since the last call down.
    pub(super) fn record_sends(&mut self, recorder: &mut Recorder, now: Time) {
        for (stamps, was_held_back) in self.open_sends.drain(..) {
            recorder.sent(stamps, was_held_back);
        }
        recorder.sent_closed(now, std::mem::take(&mut self.closed_sends));
        recorder.never_attempted(std::mem::take(&mut self.never_attempted));
    }

    /// The next message, if one is due and there is room for it.
    fn next(&mut self, now: Time, in_flight: u64) -> Option<Shot> {
        match &mut self.pace {
            Pace::Closed { in_flight: most } => {
                if now >= self.window.end {
                    self.end();
                    return None;
                }
                if in_flight >= *most {
                    return None;
                }
                let is_measured = self.window.contains(now);
                if let Some(shot) = self.refused.take() {
                    return Some(Shot {
                        is_measured,
                        ..shot
                    });
                }
                let is_timed = self.sent.is_multiple_of(TIMED_EVERY);
                let stamps = is_timed.then_some(Stamps {
                    intended: now,
                    sent: now,
                });
                self.shot(stamps, is_measured)
            }
            Pace::Open {
                schedule,
                begin,
                in_flight: most,
            } => {
                let due_until = now.min(self.window.end);
                let elapsed =
                    |time: Time| u64::try_from((time - *begin).as_nanos()).unwrap_or(u64::MAX);
                let is_past_end = now >= self.window.end;
                // The end itself is not part of the window.
                let due_by = elapsed(due_until).saturating_sub(u64::from(is_past_end));
                let has_backlog = self.refused.is_some() || schedule.next_ns() <= due_by;
                if is_past_end && (!has_backlog || now >= self.window.end + BACKLOG_GRACE) {
                    // What the system did not take is not the generator's omission.
                    if self
                        .blocked
                        .is_none_or(|blocked| blocked + BACKLOG_GRACE < now)
                    {
                        self.never_attempted = schedule.clone().backlog(due_by);
                    }
                    self.end();
                    return None;
                }
                if !has_backlog {
                    return None;
                }
                if in_flight >= *most {
                    self.blocked = Some(now);
                    return None;
                }
                if let Some(shot) = self.refused.take() {
                    let stamps = shot.stamps.map(|stamps| Stamps {
                        sent: now,
                        ..stamps
                    });
                    return Some(Shot { stamps, ..shot });
                }
                let intended = *begin + Duration::from_nanos(schedule.due(due_by)?);
                let stamps = Stamps {
                    intended,
                    sent: now,
                };
                self.shot(Some(stamps), self.window.contains(intended))
            }
        }
    }

    fn shot(&mut self, stamps: Option<Stamps>, is_measured: bool) -> Option<Shot> {
        let key = match &mut self.source {
            Source::Drawn(keys) => Some(keys.draw(&mut self.rng)),
            Source::Each(keys) => keys.next(),
            Source::Cycle { keys, next } => {
                let key = *next;
                *next = if key + 1 == *keys { 0 } else { key + 1 };
                Some(key)
            }
        };
        let Some(key) = key else {
            self.end();
            return None;
        };
        let is_ask = self.ask_share > 0 && u64::from(self.rng.next_u32()) < self.ask_share;
        Some(Shot {
            key,
            is_ask,
            stamps,
            is_measured,
        })
    }

    fn accepted(&mut self, shot: &Shot, now: Time) {
        self.sent += 1;
        match (&self.pace, shot.stamps) {
            (Pace::Closed { .. }, _) | (_, None) => self.closed_sends += 1,
            (Pace::Open { .. }, Some(stamps)) => {
                // Whatever was due when the system last refused, it has delayed.
                let was_held_back = self
                    .blocked
                    .is_some_and(|blocked| stamps.intended <= blocked);
                self.open_sends.push((
                    Stamps {
                        sent: now,
                        ..stamps
                    },
                    was_held_back,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use corecast::base::rng::seeded;

    use super::*;
    use crate::arrivals::{Arrivals, Share};

    fn window() -> Window {
        Window {
            start: Time::ZERO,
            end: Time::from_nanos(3_600_000_000_000),
        }
    }

    fn generator(source: Source, pace: Pace, window: Window) -> Generator {
        Generator::new(source, seeded(1, 0), 25, pace, window)
    }

    #[test]
    fn a_closed_loop_keeps_so_many_in_flight_and_ends_when_all_are_settled() {
        let mut generator = generator(
            Source::Each(0..300),
            Pace::Closed { in_flight: 100 },
            window(),
        );
        let clock = Clock::new();
        let mut keys = Vec::new();
        let mut burst = |settled| {
            let step = generator.burst(clock, settled, |shot| {
                keys.push(shot.key);
                true
            });
            (step, keys.len())
        };
        assert_eq!(burst(0), (Step::Sent, 100));
        assert_eq!(burst(0), (Step::Idle, 100));
        assert_eq!(burst(1), (Step::Sent, 101));
        assert_eq!(burst(101), (Step::Sent, 201));
        assert_eq!(burst(201), (Step::Sent, 300));
        assert_eq!(burst(299), (Step::Idle, 300));
        assert_eq!(burst(300), (Step::Finished, 300));
        assert_eq!(keys, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn a_refused_message_is_tried_again_and_none_is_skipped() {
        let mut generator = generator(
            Source::Each(0..50),
            Pace::Closed { in_flight: 100 },
            window(),
        );
        let (mut tries, mut keys) = (0, Vec::new());
        let clock = Clock::new();
        for _ in 0..200 {
            generator.burst(clock, 0, |shot| {
                tries += 1;
                let is_taken = tries % 3 == 0;
                if is_taken {
                    keys.push(shot.key);
                }
                is_taken
            });
        }
        assert_eq!(keys, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn the_mix_is_kept() {
        let mut generator = generator(
            Source::Cycle { keys: 7, next: 0 },
            Pace::Closed {
                in_flight: u64::MAX,
            },
            window(),
        );
        let clock = Clock::new();
        let (mut asks, mut timed) = (0, 0);
        while generator.sent < 40_000 {
            generator.burst(clock, 0, |shot| {
                asks += u32::from(shot.is_ask);
                timed += u32::from(shot.stamps.is_some());
                true
            });
        }
        assert!((9_500..10_500).contains(&asks), "{asks}");
        assert_eq!(u64::from(timed), generator.sent.div_ceil(TIMED_EVERY));
    }

    #[test]
    fn shares_are_all_keys_and_each_once() {
        for (from, to, of) in [(0, 10, 3), (5, 5, 2), (7, 9, 4), (0, u64::MAX, 3)] {
            let mut next = from;
            for number in 0..of {
                let Source::Each(share) = Source::share(from..to, number, of) else {
                    panic!("each");
                };
                assert_eq!(share.start, next);
                next = share.end;
            }
            assert_eq!(next, to);
        }
    }

    #[test]
    fn what_is_sent_in_the_warm_up_is_not_measured() {
        let clock = Clock::new();
        let later = clock.now() + Duration::from_secs(3_600);
        for (start, is_measured) in [(Time::ZERO, true), (later, false)] {
            let window = Window {
                start,
                end: later + Duration::from_secs(1),
            };
            let pace = Pace::Closed { in_flight: 10 };
            let mut generator = generator(Source::Each(0..10), pace, window);
            let mut sent = 0;
            generator.burst(clock, 0, |shot| {
                sent += 1;
                assert_eq!(shot.is_measured, is_measured);
                true
            });
            assert_eq!(sent, 10);
        }
    }

    #[test]
    fn an_open_loop_stamps_intended_times_and_tells_who_was_late() {
        // Everything is due long before now: one message every microsecond of a window of 1 ms.
        let share = Share {
            total_rate: 1e6,
            driver: 0,
            drivers: 1,
        };
        let schedule = Schedule::new(share, Arrivals::Fixed, 1);
        let clock = Clock::new();
        let window = Window {
            start: Time::ZERO,
            end: Time::from_nanos(1_000_000),
        };
        while clock.now() < window.end {
            std::hint::spin_loop();
        }
        let pace = Pace::Open {
            schedule,
            begin: Time::ZERO,
            in_flight: 1_000,
        };
        let mut generator = generator(Source::Cycle { keys: 7, next: 0 }, pace, window);
        let mut recorder = Recorder::new(window);
        let mut intended = Vec::new();
        // The first try is refused: what was due by then is held back, not lagging.
        assert_eq!(generator.burst(clock, 0, |_| false), Step::Idle);
        while generator.burst(clock, intended.len() as u64, |shot| {
            intended.extend(shot.stamps.map(|stamps| stamps.intended.as_nanos()));
            true
        }) != Step::Finished
        {
            generator.record_sends(&mut recorder, clock.now());
        }
        generator.record_sends(&mut recorder, clock.now());
        assert_eq!(intended, (0..1_000).map(|n| n * 1_000).collect::<Vec<_>>());
        let label = crate::measure::PhaseLabel {
            name: String::new(),
            pacing: String::new(),
            offered_rate: Some(1e6),
        };
        let lag = recorder.summary(label).lag;
        assert_eq!(
            (lag.sends, lag.held_back, lag.never_attempted),
            (1_000, 1_000, 0)
        );
    }
}
