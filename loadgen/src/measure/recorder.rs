//! What one core records during a phase: latencies corrected and uncorrected, throughput, and the generator's own lag.

use std::time::Duration;

use corecast::Time;
use serde::{Deserialize, Serialize};

use super::lag::Lag;
use super::latency::Latencies;
use super::summary::{PhaseLabel, PhaseSummary};
use super::timeline::Timeline;

/// The measured part of a phase: from the end of its warm-up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, u64)", from = "(u64, u64)")]
pub struct Window {
    /// When the warm-up is over.
    pub start: Time,
    /// When the phase ends; not part of the window.
    pub end: Time,
}

/// When a message was meant to be sent and when it was; it travels with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// From the schedule of an open loop. In a closed loop it equals `sent`.
    pub intended: Time,
    /// When the driver sent it.
    pub sent: Time,
}

/// The recorder of one core. Throughput counts completions that happen inside the window; latencies and lag count
/// messages that were *intended* inside it, even if they complete after its end, so that a stall at the end is seen. So do
/// failures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorder {
    window: Window,
    corrected: Latencies,
    uncorrected: Latencies,
    timeline: Timeline,
    lag: Lag,
    sent: u64,
    completed: u64,
    failed: u64,
}

impl From<Window> for (u64, u64) {
    fn from(window: Window) -> (u64, u64) {
        (window.start.as_nanos(), window.end.as_nanos())
    }
}

impl From<(u64, u64)> for Window {
    fn from((start, end): (u64, u64)) -> Window {
        Window {
            start: Time::from_nanos(start),
            end: Time::from_nanos(end.max(start)),
        }
    }
}

impl Window {
    /// The window of a phase that begins at `start` with a warm-up.
    #[must_use]
    pub fn after_warm_up(start: Time, warm_up: Duration, duration: Duration) -> Window {
        Window {
            start: start + warm_up,
            end: start + warm_up + duration,
        }
    }

    /// Whether a time lies inside.
    #[inline]
    #[must_use]
    pub fn contains(&self, time: Time) -> bool {
        self.start <= time && time < self.end
    }

    /// How long it is.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.end - self.start
    }
}

impl Recorder {
    /// An empty recorder for a phase.
    #[must_use]
    pub fn new(window: Window) -> Recorder {
        Recorder {
            window,
            corrected: Latencies::new(),
            uncorrected: Latencies::new(),
            timeline: Timeline::new(window.duration()),
            lag: Lag::default(),
            sent: 0,
            completed: 0,
            failed: 0,
        }
    }

    /// The window it records.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Records a send of an open loop. `was_held_back` says that the system, not the generator, delayed it.
    #[inline]
    pub fn sent(&mut self, stamps: Stamps, was_held_back: bool) {
        if self.window.contains(stamps.intended) {
            self.sent += 1;
            self.lag.record(stamps.intended, stamps.sent, was_held_back);
        }
    }

    /// Records sends of a closed loop, which has no schedule to lag behind.
    #[inline]
    pub fn sent_closed(&mut self, now: Time, messages: u64) {
        if self.window.contains(now) {
            self.sent += messages;
        }
    }

    /// Records messages of an open loop that were due by the end but not attempted, though the system had room.
    pub fn never_attempted(&mut self, messages: u64) {
        self.lag.never_attempted(messages);
    }

    /// Records that a message was handled or answered at `now`.
    #[inline]
    pub fn completed(&mut self, stamps: Stamps, now: Time) {
        self.latency(stamps, now);
        self.completed_untimed(now, 1);
    }

    /// Records the latency of a message that was handled or answered at `now`, for those who count completions apart.
    #[inline]
    pub fn latency(&mut self, stamps: Stamps, now: Time) {
        if self.window.contains(stamps.intended) {
            self.corrected.record(now - stamps.intended);
            self.uncorrected.record(now - stamps.sent);
        }
    }

    /// Records completions whose latency is not measured.
    #[inline]
    pub fn completed_untimed(&mut self, now: Time, messages: u64) {
        if self.window.contains(now) {
            self.completed += messages;
            self.timeline.count(now - self.window.start, messages);
        }
    }

    /// Records messages that were refused, lost or never ended, and asks that ended without an answer. Whether they were
    /// meant to be sent in the measured time the caller has to know: when they end says nothing, for what fails fails late.
    #[inline]
    pub fn failed(&mut self, messages: u64) {
        self.failed += messages;
    }

    /// Ends the window early, when a run is broken off; nothing may be recorded afterwards. An end before the window's
    /// start leaves a window of no length.
    pub fn cut(&mut self, end: Time) {
        self.window.end = end.clamp(self.window.start, self.window.end);
        self.timeline.cut(self.window.duration());
    }

    /// Does not hold this generator's lag against the run: it was stopped on purpose.
    pub fn forgive_lag(&mut self) {
        self.lag = Lag::default();
    }

    /// Adds what another core recorded in the same window.
    pub fn merge(&mut self, other: &Recorder) {
        debug_assert_eq!(self.window, other.window, "recorders of different phases");
        self.corrected.merge(&other.corrected);
        self.uncorrected.merge(&other.uncorrected);
        self.timeline.merge(&other.timeline);
        self.lag.merge(&other.lag);
        self.sent += other.sent;
        self.completed += other.completed;
        self.failed += other.failed;
    }

    /// Latencies from the intended send time.
    #[must_use]
    pub fn corrected(&self) -> &Latencies {
        &self.corrected
    }

    /// Latencies from the actual send time.
    #[must_use]
    pub fn uncorrected(&self) -> &Latencies {
        &self.uncorrected
    }

    /// Completions so far, for a progress line.
    #[must_use]
    pub fn completions(&self) -> u64 {
        self.completed
    }

    /// Failures so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed
    }

    /// Sums up the phase. In a closed loop (no offered rate) there is nothing to correct, so only the uncorrected
    /// latencies are given.
    #[must_use]
    pub fn summary(&self, label: PhaseLabel) -> PhaseSummary {
        let is_open = label.offered_rate.is_some();
        let seconds = self.window.duration().as_secs_f64();
        let lag = self.lag.summary();
        PhaseSummary {
            name: label.name,
            pacing: label.pacing,
            offered_rate: label.offered_rate,
            duration_s: seconds,
            sent: self.sent,
            completed: self.completed,
            failed: self.failed,
            rate: if seconds > 0.0 {
                self.completed as f64 / seconds
            } else {
                0.0
            },
            corrected: self.corrected.summary().filter(|_| is_open),
            uncorrected: self.uncorrected.summary(),
            corrected_curve: if is_open {
                self.corrected.curve()
            } else {
                Vec::new()
            },
            uncorrected_curve: self.uncorrected.curve(),
            timeline: self.timeline.summary(),
            validity: lag.validity(),
            lag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * MS)
    }

    fn open() -> PhaseLabel {
        PhaseLabel {
            name: "open".into(),
            pacing: "100/s".into(),
            offered_rate: Some(100.0),
        }
    }

    fn recorder() -> Recorder {
        Recorder::new(Window::after_warm_up(
            at(0),
            Duration::from_millis(1000),
            Duration::from_millis(1000),
        ))
    }

    #[test]
    fn a_stall_shows_in_the_corrected_latency_only() {
        let mut recorder = recorder();
        // Due every 10 ms, but the driver was stopped from 1.2 s to 1.7 s and then sent what had piled up.
        for due in (1000..2000).step_by(10) {
            let sent = if (1200..1700).contains(&due) {
                1700
            } else {
                due
            };
            let stamps = Stamps {
                intended: at(due),
                sent: at(sent),
            };
            recorder.sent(stamps, true);
            recorder.completed(stamps, at(sent + 1));
        }
        let summary = recorder.summary(open());
        let (corrected, uncorrected) = (
            summary.corrected.expect("open loop"),
            summary.uncorrected.expect("recorded"),
        );
        assert!(corrected.p99_ns > 480 * MS, "{corrected:?}");
        assert!(uncorrected.max_ns < 2 * MS, "{uncorrected:?}");
        assert_eq!((summary.sent, summary.completed), (100, 100));
        assert!((summary.rate - 100.0).abs() < 1e-9);
    }

    #[test]
    fn warm_up_does_not_count_and_late_completions_keep_their_latency() {
        let mut recorder = recorder();
        recorder.completed(
            Stamps {
                intended: at(10),
                sent: at(10),
            },
            at(20),
        );
        recorder.completed(
            Stamps {
                intended: at(1990),
                sent: at(1990),
            },
            at(5000),
        );
        let summary = recorder.summary(open());
        assert_eq!(summary.completed, 0, "neither completed inside the window");
        let corrected = summary
            .corrected
            .expect("one was intended inside the window");
        assert_eq!(corrected.count, 1);
        assert!(corrected.max_ns >= 3000 * MS);
    }

    #[test]
    fn a_closed_loop_has_nothing_to_correct() {
        let mut recorder = recorder();
        recorder.sent_closed(at(1500), 1);
        recorder.completed(
            Stamps {
                intended: at(1500),
                sent: at(1500),
            },
            at(1501),
        );
        let closed = PhaseLabel {
            offered_rate: None,
            ..open()
        };
        let summary = recorder.summary(closed);
        assert_eq!(summary.corrected, None);
        assert!(summary.corrected_curve.is_empty());
        assert_eq!(summary.uncorrected.map(|latency| latency.count), Some(1));
    }

    #[test]
    fn cores_add_up() {
        let mut all = recorder();
        for core in 0..3 {
            let mut one = recorder();
            one.completed_untimed(at(1100), 5);
            one.failed(1);
            one.sent(
                Stamps {
                    intended: at(1100),
                    sent: at(1100 + core),
                },
                false,
            );
            all.merge(&one);
        }
        let summary = all.summary(open());
        assert_eq!(
            (summary.sent, summary.completed, summary.failed),
            (3, 15, 3)
        );
        assert_eq!(summary.lag.lagging, 2);
        assert!(!summary.validity.is_valid());
        assert_eq!(summary.timeline.counts[1], 15);
    }
}
