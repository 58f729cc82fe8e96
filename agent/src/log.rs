//! What the agent's lines say by default, and errors on one line. No secrets:
//! specs are never printed, texts from outside are escaped where they are logged.

use std::error::Error;
use std::fmt::Write;

use nube_telemetry::log::Filter;

/// `RUST_LOG` chooses what is said. The kernel's newer attributes are none of an
/// operator's business.
pub const FILTER: Filter = Filter {
    variable: "RUST_LOG",
    default: "info,netlink_packet_route=error",
};

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
