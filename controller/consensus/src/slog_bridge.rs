//! raft logs through slog; we log through tracing.
//!
//! Lives here: the drain between the two. May not: anything else. Made once per [`crate::Core`].

use std::fmt::Write;

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, o};

struct ToTracing;

struct Pairs(String);

impl slog::Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        let mut pairs = Pairs(String::new());
        // A pair that cannot be printed is left out; the message itself still appears.
        let _ = record.kv().serialize(record, &mut pairs);
        let _ = values.serialize(record, &mut pairs);
        let text = format_args!("{}{}", record.msg(), pairs.0).to_string();
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{text}"),
            Level::Warning => tracing::warn!(target: "raft", "{text}"),
            Level::Info => tracing::debug!(target: "raft", "{text}"),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{text}"),
        }
        Ok(())
    }

    /// Asked before raft formats anything: its per-message debug lines print whole messages.
    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error => {
                tracing::enabled!(target: "raft", tracing::Level::ERROR)
            }
            Level::Warning => tracing::enabled!(target: "raft", tracing::Level::WARN),
            // One step down: raft's "info" is one line per vote, our "info" is for operators.
            Level::Info => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
            Level::Debug | Level::Trace => tracing::enabled!(target: "raft", tracing::Level::TRACE),
        }
    }
}

/// A logger for raft that ends in tracing, target `raft`.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}
