//! The live progress line: rewritten in place on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal as _, Stderr, Write};
use std::time::Duration;

use crate::units;

/// The shortest time between two rewrites on a terminal.
const REWRITE: Duration = Duration::from_millis(100);
/// The shortest time between two plain lines.
const PLAIN: Duration = Duration::from_secs(2);
const BAR: usize = 16;
/// A wrapped line cannot be rewritten, so a line stays below the usual width of a terminal.
const COLUMNS: usize = 79;

/// What the line shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The phase, or what is going on.
    pub phase: String,
    /// Time since the phase began, with its warm-up.
    pub elapsed: Duration,
    /// How long it will take; `None` when that is unknown, as in a replay.
    pub total: Option<Duration>,
    /// What is done meanwhile.
    pub activity: Activity,
    /// Completions per second of late.
    pub rate: f64,
    /// The median and the 99th percentile so far, in nanoseconds.
    pub latency_ns: Option<(u64, u64)>,
}

/// What is done while the line is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Threads spin on the CPUs, to see what the machine does to them; no messages are sent.
    Listening,
    /// Messages are sent that do not count.
    WarmingUp,
    /// Messages are sent and measured.
    #[default]
    Measuring,
}

/// Writes the line. Failures to write are ignored: progress is not worth ending a run for.
#[derive(Debug)]
pub struct Progress<W> {
    out: W,
    is_terminal: bool,
    shown_at: Option<Duration>,
    phase: String,
    has_line: bool,
}

impl Progress<Stderr> {
    /// Progress on this process's stderr.
    #[must_use]
    pub fn on_stderr() -> Progress<Stderr> {
        let stderr = std::io::stderr();
        let is_terminal = stderr.is_terminal();
        Progress::new(stderr, is_terminal)
    }
}

impl<W: Write> Progress<W> {
    /// Progress on `out`, usually stderr; `is_terminal` says whether lines can be rewritten.
    pub fn new(out: W, is_terminal: bool) -> Progress<W> {
        Progress {
            out,
            is_terminal,
            shown_at: None,
            phase: String::new(),
            has_line: false,
        }
    }

    /// Shows the status unless the last one is too recent. Call it as often as you like; `now` is the time since the
    /// run began.
    pub fn update(&mut self, now: Duration, status: &Status) {
        let pause = if self.is_terminal { REWRITE } else { PLAIN };
        let is_due = self
            .shown_at
            .is_none_or(|shown| now.saturating_sub(shown) >= pause);
        if !is_due && self.phase == status.phase {
            return;
        }
        self.shown_at = Some(now);
        self.phase.clone_from(&status.phase);
        let line = line(status);
        let _ = if self.is_terminal {
            self.has_line = true;
            write!(self.out, "\r\x1b[2K{line}")
        } else {
            writeln!(self.out, "{line}")
        };
        let _ = self.out.flush();
    }

    /// Removes the line from a terminal, so that the report begins where it stood.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.has_line) {
            let _ = write!(self.out, "\r\x1b[2K");
            let _ = self.out.flush();
        }
    }

    /// Gives the writer back, after clearing the line.
    pub fn into_inner(mut self) -> W {
        self.clear();
        self.out
    }
}

fn line(status: &Status) -> String {
    let elapsed = status.elapsed.as_secs_f64();
    let time = match status.total {
        None => format!("{elapsed:5.1} s"),
        Some(total) => {
            let total = total.as_secs_f64();
            let share = if total > 0.0 {
                (elapsed / total).clamp(0.0, 1.0)
            } else {
                1.0
            };
            let filled = (share * BAR as f64).round() as usize;
            let decimals = usize::from(total.fract() > 0.0);
            format!(
                "[{}{}] {:4.1}/{total:.decimals$} s",
                "━".repeat(filled),
                "·".repeat(BAR - filled),
                elapsed.min(total)
            )
        }
    };
    let rate = format!("{:>7}/s", units::rate(status.rate));
    let rest = match (status.activity, status.latency_ns) {
        (Activity::Listening, _) => "listening to the machine".to_owned(),
        (Activity::WarmingUp, _) => format!("{rate}  warming up"),
        (Activity::Measuring, None) => rate,
        (Activity::Measuring, Some((p50, p99))) => {
            let (p50, p99) = (units::latency(p50), units::latency(p99));
            format!("{rate}  p50 {p50}  p99 {p99}")
        }
    };
    let phase: String = status.phase.chars().take(10).collect();
    let line: String = format!("{phase:<10} {time} {rest}")
        .chars()
        .take(COLUMNS)
        .collect();
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(elapsed_ms: u64) -> Status {
        Status {
            phase: "open".into(),
            elapsed: Duration::from_millis(elapsed_ms),
            total: Some(Duration::from_secs(10)),
            activity: Activity::Measuring,
            rate: 1_240_000.0,
            latency_ns: Some((1_250, 240_000)),
        }
    }

    fn written(is_terminal: bool, times_ms: &[u64]) -> String {
        let mut progress = Progress::new(Vec::new(), is_terminal);
        times_ms
            .iter()
            .for_each(|&ms| progress.update(Duration::from_millis(ms), &status(ms)));
        String::from_utf8(progress.into_inner()).expect("text")
    }

    #[test]
    fn a_terminal_gets_one_line_that_is_rewritten_and_removed() {
        let text = written(true, &[0, 50, 100, 5000]);
        assert!(!text.contains('\n'));
        assert_eq!(
            text.matches("open").count(),
            3,
            "the one after 50 ms is too early: {text:?}"
        );
        assert!(text.contains("[━━━━━━━━········]  5.0/10 s"), "{text:?}");
        assert!(
            text.contains("1.24 M/s  p50 1.25 µs  p99 240 µs"),
            "{text:?}"
        );
        assert!(text.ends_with("\r\x1b[2K"), "{text:?}");
    }

    #[test]
    fn elsewhere_plain_lines_come_at_intervals() {
        let text = written(false, &[0, 100, 1999, 2000, 2100]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\r') && !text.contains('\x1b'));
    }

    #[test]
    fn a_new_phase_is_shown_at_once() {
        let mut progress = Progress::new(Vec::new(), false);
        progress.update(Duration::ZERO, &status(0));
        progress.update(
            Duration::from_millis(1),
            &Status {
                phase: "peak".into(),
                ..Status::default()
            },
        );
        let text = String::from_utf8(progress.into_inner()).expect("text");
        assert!(text.contains("peak"), "{text}");
    }

    #[test]
    fn listening_has_no_rate() {
        let listening = Status {
            phase: "machine".into(),
            elapsed: Duration::from_secs(1),
            total: Some(Duration::from_secs(2)),
            activity: Activity::Listening,
            ..Status::default()
        };
        assert_eq!(
            line(&listening),
            "machine    [━━━━━━━━········]  1.0/2 s listening to the machine"
        );
    }

    #[test]
    fn the_longest_line_fits_a_terminal() {
        let wide = Status {
            phase: "a phase with a long name".into(),
            elapsed: Duration::from_secs(86_400),
            total: Some(Duration::from_secs(604_800)),
            activity: Activity::Measuring,
            rate: 999e9,
            latency_ns: Some((99_900_000, 999_000_000)),
        };
        assert!(line(&wide).chars().count() < 80, "{}", line(&wide));
    }
}
