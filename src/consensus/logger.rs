//! Where raft-rs logs to: `tracing`, at the level `debug` and below, for what matters comes out as outputs.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        let text = record.msg();
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "corecast::raft", "{text}"),
            Level::Warning => tracing::warn!(target: "corecast::raft", "{text}"),
            Level::Info => tracing::debug!(target: "corecast::raft", "{text}"),
            Level::Debug | Level::Trace => tracing::trace!(target: "corecast::raft", "{text}"),
        }
        Ok(())
    }
}

/// A logger for raft-rs.
pub(super) fn to_tracing() -> Logger {
    Logger::root(ToTracing, o!())
}
