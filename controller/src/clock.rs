//! The one place that reads the wall clock. Replicated time starts here: the
//! leader stamps each proposal, and `apply` never lets time go back.

use std::time::{SystemTime, UNIX_EPOCH};

use nube_types::TimestampMs;

/// Milliseconds since the epoch by this host's clock.
#[must_use]
pub fn now() -> TimestampMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimestampMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
