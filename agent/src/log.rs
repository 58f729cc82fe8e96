//! What the agent says about itself: one line per event, text or JSON, on
//! standard error. No secrets: specs are never printed, texts from outside are
//! escaped where they are logged.

use std::error::Error;
use std::fmt::Write;

use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one object per line.
    Json,
}

/// The kernel's newer attributes are none of an operator's business.
const DEFAULT: &str = "info,netlink_packet_route=error";

/// Starts logging. `RUST_LOG` chooses what is said; `info` by default.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    match format {
        Format::Text => lines.init(),
        Format::Json => lines.json().init(),
    }
}

/// An error and all that caused it, on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}
