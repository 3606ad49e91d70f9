//! The rules between settings that hold on every machine.

use super::error::SettingsError;
use super::fields::Settings;
use crate::actor::budget::Budget;
use std::time::Duration;

/// The least registered memory of an executor; glommio would silently take as much.
const MIN_IO_MEMORY_BYTES: usize = 64 << 10;
/// Fewer entries leave no room for the executor's own wake and timer beside the I/O.
const MIN_RING_DEPTH: usize = 4;
/// The kernel's limit on submission entries.
const MAX_RING_DEPTH: usize = 32_768;
/// A pending future, or a timer, is known by a number of 32 bits.
const MAX_NUMBERED: usize = u32::MAX as usize;

impl Settings {
    /// Checks the sizes and times against their ranges and against each other, not against a machine.
    ///
    /// # Errors
    ///
    /// The first rule broken: a size of zero, one out of its range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.check_sizes()?;
        self.check_times()?;
        self.check_relations()
    }

    fn check_sizes(&self) -> Result<(), SettingsError> {
        for (setting, value, why) in [
            (
                "budget_messages (--budget-messages)",
                self.budget_messages,
                "a core could queue no message",
            ),
            (
                "budget_bytes (--budget-bytes)",
                self.budget_bytes,
                "a core could queue no message",
            ),
            (
                "mailbox (--mailbox)",
                self.mailbox,
                "no actor could receive anything",
            ),
            (
                "lane_batches (--lane-batches)",
                self.lane_batches,
                "nothing could pass from core to core",
            ),
            (
                "batch_messages (--batch-messages)",
                self.batch_messages,
                "nothing could pass from core to core",
            ),
            (
                "outbox_messages (--outbox-messages)",
                self.outbox_messages,
                "nothing could pass from core to core",
            ),
            ("asks", self.asks, "every ask would be rejected"),
            ("tasks", self.tasks, "every future would be refused"),
            ("timers", self.timers, "no actor could start a timer"),
            ("watches", self.watches, "no actor could watch another"),
            (
                "stream_buffer",
                self.stream_buffer,
                "nothing could be pushed into a stream",
            ),
            (
                "stream_window",
                self.stream_window,
                "consumers would never ask for anything ahead",
            ),
            (
                "stream_consumers",
                self.stream_consumers,
                "nobody could consume a stream",
            ),
            (
                "turn_messages",
                self.turn_messages,
                "a turn could handle no message",
            ),
            (
                "activation_messages",
                self.activation_messages,
                "an actor whose turn it is could handle no message",
            ),
            (
                "blocking_threads",
                self.blocking_threads,
                "blocking calls would never run",
            ),
            (
                "blocking_queue",
                self.blocking_queue,
                "every blocking call would be refused",
            ),
            (
                "ingress_jobs",
                self.ingress_jobs,
                "handles could reach no core",
            ),
        ] {
            if value == 0 {
                return Err(SettingsError::OutOfRange {
                    setting,
                    value,
                    range: "at least 1",
                    why,
                });
            }
        }
        for (setting, value, most, range) in [
            (
                "budget_messages (--budget-messages)",
                self.budget_messages,
                Budget::MAX_MESSAGES,
                "at most 134217727",
            ),
            (
                "budget_bytes (--budget-bytes)",
                self.budget_bytes,
                Budget::MAX_BYTES,
                "at most 274877906944 (256G)",
            ),
            ("tasks", self.tasks, MAX_NUMBERED, "at most 4294967295"),
            ("timers", self.timers, MAX_NUMBERED, "at most 4294967295"),
            ("watches", self.watches, MAX_NUMBERED, "at most 4294967295"),
        ] {
            if value > most {
                return Err(SettingsError::OutOfRange {
                    setting,
                    value,
                    range,
                    why: "a core counts no further",
                });
            }
        }
        if self.io_memory_bytes < MIN_IO_MEMORY_BYTES {
            return Err(SettingsError::OutOfRange {
                setting: "io_memory_bytes (--io-memory)",
                value: self.io_memory_bytes,
                range: "at least 65536 (64K)",
                why: "an executor takes that much for its I/O buffers in any case",
            });
        }
        if !(MIN_RING_DEPTH..=MAX_RING_DEPTH).contains(&self.ring_depth) {
            return Err(SettingsError::OutOfRange {
                setting: "ring_depth",
                value: self.ring_depth,
                range: "from 4 to 32768",
                why: "below, the executor's own operations do not fit; above, the kernel refuses",
            });
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), SettingsError> {
        for (setting, value, why) in [
            (
                "turn_time",
                self.turn_time,
                "a turn could handle no message",
            ),
            (
                "preempt",
                self.preempt,
                "the executor would do nothing but look at its timers",
            ),
            (
                "ask_timeout",
                self.ask_timeout,
                "no reply could come in time",
            ),
            (
                "async_deadline",
                self.async_deadline,
                "every handler that awaits would fail at once",
            ),
            (
                "hand_off_patience",
                self.hand_off_patience,
                "no shard could be ready to move in time",
            ),
        ] {
            if value == Duration::ZERO {
                return Err(SettingsError::ZeroTime { setting, why });
            }
        }
        for (low_setting, low, high_setting, high, why) in [
            (
                "turn_time",
                self.turn_time,
                "preempt",
                self.preempt,
                "every full turn would be interrupted",
            ),
            (
                "preempt",
                self.preempt,
                "stall_threshold",
                self.stall_threshold,
                "work that the executor has not yet interrupted would count as stalled",
            ),
        ] {
            if low > high {
                return Err(SettingsError::TimesContradict {
                    low_setting,
                    low,
                    high_setting,
                    high,
                    why,
                });
            }
        }
        if self.turn_time == self.stall_threshold {
            return Err(SettingsError::TimesContradict {
                low_setting: "turn_time",
                low: self.turn_time,
                high_setting: "stall_threshold",
                high: self.stall_threshold,
                why: "every full turn would count as a stall",
            });
        }
        Ok(())
    }

    fn check_relations(&self) -> Result<(), SettingsError> {
        const BUDGET: &str = "budget_messages (--budget-messages)";
        let lane_messages = self.lane_batches.saturating_mul(self.batch_messages);
        for (low_setting, low, high_setting, high, why) in [
            (
                "batch_messages (--batch-messages)",
                self.batch_messages,
                "outbox_messages (--outbox-messages)",
                self.outbox_messages,
                "a batch is cut from the outbox and could never be full",
            ),
            (
                "mailbox (--mailbox)",
                self.mailbox,
                BUDGET,
                self.budget_messages,
                "the core would refuse messages for which the mailbox has room",
            ),
            (
                "outbox_messages (--outbox-messages)",
                self.outbox_messages,
                BUDGET,
                self.budget_messages,
                "one outbox could hold more than the core it is for may queue",
            ),
            (
                "a lane of lane_batches (--lane-batches) x batch_messages (--batch-messages)",
                lane_messages,
                BUDGET,
                self.budget_messages,
                "a full lane counts against the core's budget and would not fit",
            ),
            (
                "activation_messages",
                self.activation_messages,
                "turn_messages",
                self.turn_messages,
                "one actor could handle more messages than a turn may",
            ),
        ] {
            if low > high {
                return Err(SettingsError::SizesContradict {
                    low_setting,
                    low,
                    high_setting,
                    high,
                    why,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default with one thing changed.
    fn with(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn every_size_must_hold_something() {
        type Field = fn(&mut Settings) -> &mut usize;
        let fields: [(&str, Field); 20] = [
            ("budget_messages", |s| &mut s.budget_messages),
            ("budget_bytes", |s| &mut s.budget_bytes),
            ("mailbox", |s| &mut s.mailbox),
            ("lane_batches", |s| &mut s.lane_batches),
            ("batch_messages", |s| &mut s.batch_messages),
            ("outbox_messages", |s| &mut s.outbox_messages),
            ("asks", |s| &mut s.asks),
            ("tasks", |s| &mut s.tasks),
            ("timers", |s| &mut s.timers),
            ("watches", |s| &mut s.watches),
            ("stream_buffer", |s| &mut s.stream_buffer),
            ("stream_window", |s| &mut s.stream_window),
            ("stream_consumers", |s| &mut s.stream_consumers),
            ("turn_messages", |s| &mut s.turn_messages),
            ("activation_messages", |s| &mut s.activation_messages),
            ("io_memory_bytes", |s| &mut s.io_memory_bytes),
            ("ring_depth", |s| &mut s.ring_depth),
            ("blocking_threads", |s| &mut s.blocking_threads),
            ("blocking_queue", |s| &mut s.blocking_queue),
            ("ingress_jobs", |s| &mut s.ingress_jobs),
        ];
        for (name, field) in fields {
            let error = with(|settings| *field(settings) = 0)
                .validate()
                .unwrap_err();
            assert!(
                matches!(error, SettingsError::OutOfRange { setting, value: 0, .. } if setting.starts_with(name)),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_budget_that_cannot_be_counted_is_refused() {
        for (on_the_edge, broken) in [
            (
                with(|s| s.budget_messages = Budget::MAX_MESSAGES),
                with(|s| s.budget_messages = Budget::MAX_MESSAGES + 1),
            ),
            (
                with(|s| s.budget_bytes = Budget::MAX_BYTES),
                with(|s| s.budget_bytes = Budget::MAX_BYTES + 1),
            ),
        ] {
            assert_eq!(on_the_edge.validate(), Ok(()));
            assert!(matches!(
                broken.validate(),
                Err(SettingsError::OutOfRange { setting, .. }) if setting.starts_with("budget")
            ));
        }
    }

    #[test]
    fn every_time_that_must_pass_does() {
        type Field = fn(&mut Settings) -> &mut Duration;
        let fields: [(&str, Field); 5] = [
            ("turn_time", |s| &mut s.turn_time),
            ("preempt", |s| &mut s.preempt),
            ("ask_timeout", |s| &mut s.ask_timeout),
            ("async_deadline", |s| &mut s.async_deadline),
            ("hand_off_patience", |s| &mut s.hand_off_patience),
        ];
        for (name, field) in fields {
            let error = with(|settings| *field(settings) = Duration::ZERO)
                .validate()
                .unwrap_err();
            assert!(
                matches!(error, SettingsError::ZeroTime { setting, .. } if setting == name),
                "{error}"
            );
        }
        // These mean something at zero: do not spin, do not drain, do not wait for consumers.
        let zero = with(|settings| {
            settings.stream_linger = Duration::ZERO;
            (settings.spin, settings.shutdown_deadline) = (Some(Duration::ZERO), Duration::ZERO)
        });
        assert_eq!(zero.validate(), Ok(()));
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let cases: [(&str, &str, Settings, Settings); 5] = [
            (
                "batch_messages",
                "outbox_messages",
                with(|s| (s.batch_messages, s.outbox_messages) = (65, 64)),
                with(|s| (s.batch_messages, s.outbox_messages) = (64, 64)),
            ),
            (
                "mailbox",
                "budget_messages",
                with(|s| s.mailbox = 1_000_001),
                with(|s| s.mailbox = 1_000_000),
            ),
            (
                "outbox_messages",
                "budget_messages",
                with(|s| s.outbox_messages = 1_000_001),
                with(|s| s.outbox_messages = 1_000_000),
            ),
            (
                "a lane of",
                "budget_messages",
                with(|s| (s.lane_batches, s.batch_messages) = (15_626, 64)),
                with(|s| (s.lane_batches, s.batch_messages) = (15_625, 64)),
            ),
            (
                "activation_messages",
                "turn_messages",
                with(|s| s.activation_messages = 513),
                with(|s| (s.activation_messages, s.turn_messages) = (513, 513)),
            ),
        ];
        for (low, high, broken, on_the_edge) in cases {
            let error = broken.validate().unwrap_err();
            assert!(
                matches!(error, SettingsError::SizesContradict { low_setting, high_setting, .. }
                    if low_setting.starts_with(low) && high_setting.starts_with(high)),
                "{low} and {high}: {error}"
            );
            assert_eq!(on_the_edge.validate(), Ok(()), "{low} equal to {high}");
        }
    }

    #[test]
    fn a_lane_too_large_for_any_number_is_refused_without_overflow() {
        let settings = with(|s| (s.lane_batches, s.batch_messages) = (usize::MAX, 64));
        assert!(matches!(
            settings.validate(),
            Err(SettingsError::SizesContradict {
                low: usize::MAX,
                ..
            })
        ));
    }

    #[test]
    fn times_that_contradict_each_other_are_refused() {
        let ms = Duration::from_millis;
        for (low, high, settings) in [
            ("turn_time", "preempt", with(|s| s.turn_time = ms(2))),
            ("preempt", "stall_threshold", with(|s| s.preempt = ms(6))),
            (
                "turn_time",
                "stall_threshold",
                with(|s| (s.turn_time, s.preempt, s.stall_threshold) = (ms(1), ms(1), ms(1))),
            ),
        ] {
            let error = settings.validate().unwrap_err();
            assert!(
                matches!(error, SettingsError::TimesContradict { low_setting, high_setting, .. }
                    if (low_setting, high_setting) == (low, high)),
                "{error}"
            );
        }
    }

    #[test]
    fn ranges_end_where_they_say() {
        for (depth, valid) in [(3, false), (4, true), (32_768, true), (32_769, false)] {
            assert_eq!(
                with(|s| s.ring_depth = depth).validate().is_ok(),
                valid,
                "ring depth {depth}"
            );
        }
        for (tasks, valid) in [(4_294_967_295, true), (4_294_967_296, false)] {
            assert_eq!(
                with(|s| s.tasks = tasks).validate().is_ok(),
                valid,
                "{tasks} tasks"
            );
        }
        for (bytes, valid) in [(65_535, false), (65_536, true)] {
            assert_eq!(
                with(|s| s.io_memory_bytes = bytes).validate().is_ok(),
                valid,
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn a_message_says_what_is_wrong_and_what_to_do() {
        let error = with(|s| s.batch_messages = 100_000).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "batch_messages (--batch-messages) is 100000, more than outbox_messages (--outbox-messages), which is 65536; a \
             batch is cut from the outbox and could never be full: lower the first or raise the second"
        );
    }
}
