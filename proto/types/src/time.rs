//! Replicated time: it enters with a command and never goes back.

use minicbor::{Decode, Encode};

/// Milliseconds since the Unix epoch, UTC, without leap seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct TimestampMs(#[n(0)] pub u64);

impl TimestampMs {
    /// Whole seconds since the epoch, rounded down. Usage is billed on this
    /// grid: intervals cut at whole seconds stay disjoint and gap-free.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The day since the epoch (UTC) that holds this instant.
    #[must_use]
    pub fn day(self) -> u64 {
        self.0 / 86_400_000
    }

    /// Milliseconds since an earlier instant; zero when it is not earlier.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
