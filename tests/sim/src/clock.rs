//! The clocks of simulated machines: none is right, none is like another.

use nube_types::TimestampMs;

/// When simulated time begins on the wall: 2026-01-01 00:00:00 UTC.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// How one machine's clocks differ from true (virtual) time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Parts per million that it runs fast (slow when negative). The lease protocol is made for
    /// one percent between any two machines.
    pub drift_ppm: i64,
    /// What its wall clock is off by.
    pub wall_offset_ms: i64,
}

impl Clock {
    /// Milliseconds since the machine started, by its own counting.
    #[must_use]
    pub fn monotonic_ms(&self, now_ms: u64) -> u64 {
        let now = i128::from(now_ms);
        let drifted = now + now * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(drifted).unwrap_or(0)
    }

    /// Its wall clock.
    #[must_use]
    pub fn wall(&self, now_ms: u64) -> TimestampMs {
        let mono = i64::try_from(self.monotonic_ms(now_ms)).unwrap_or(i64::MAX);
        let wall = BEGIN_MS
            .saturating_add(mono)
            .saturating_add(self.wall_offset_ms);
        TimestampMs(u64::try_from(wall).unwrap_or(0))
    }

    /// True time, as a perfect wall clock would tell it.
    #[must_use]
    pub fn truth(now_ms: u64) -> TimestampMs {
        Self::default().wall(now_ms)
    }
}
