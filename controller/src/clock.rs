//! The clocks of this host, and the cell's. The wall clock is read here alone, for
//! certificates and for what the voters agree on; entries are stamped with the
//! cell's clock ([`cluster`]), and nobody's wall clock enters the log by itself.

pub mod cluster;
pub mod sample;

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nube_types::TimestampMs;
use rustix::time::{ClockId, clock_gettime};

use cluster::{ClusterClock, Sample, Steered};

/// Milliseconds since the epoch by this host's wall clock.
#[must_use]
pub fn wall() -> TimestampMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimestampMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// This host's monotonic clock. It goes on while the host is suspended: whoever wakes
/// up as leader must not stamp the time it fell asleep.
#[must_use]
pub fn mono_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}

/// The cell's clock on this controller.
pub struct Clock {
    own: u64,
    cluster: Mutex<ClusterClock>,
}

/// How the own wall clock compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Ahead of the majority's, if one agrees.
    pub own_error_ms: Option<i64>,
    /// Voters whose clocks agree; 0: no majority does.
    pub agreeing: usize,
}

impl Clock {
    /// Of a member that knows entries up to this time.
    #[must_use]
    pub fn new(own: u64, replicated: TimestampMs) -> Self {
        let cluster = Mutex::new(ClusterClock::new(mono_ms(), replicated));
        Self { own, cluster }
    }

    fn with<T>(&self, look: impl FnOnce(&mut ClusterClock) -> T) -> T {
        look(&mut self.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an entry that is written now is stamped with.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        self.with(|cluster| cluster.now(mono_ms()))
    }

    /// See [`ClusterClock::is_set`].
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.with(|cluster| cluster.is_set())
    }

    /// An entry of this time was applied.
    pub fn observe(&self, replicated: TimestampMs) {
        self.with(|cluster| cluster.observe(mono_ms(), replicated));
    }

    /// A member answered with its wall clock.
    pub fn sample(&self, member: u64, wall: TimestampMs, asked_ms: u64) {
        let sample = Sample::new(wall, asked_ms, mono_ms());
        self.with(|cluster| cluster.sample(member, sample));
    }

    /// Reads the own wall clock and looks at all readings.
    pub fn steer(&self, voters: &[u64], leading: bool) -> Steered {
        self.sample(self.own, wall(), mono_ms());
        self.with(|cluster| cluster.steer(mono_ms(), voters, leading))
    }

    /// How far a member's wall clock is ahead of the majority's.
    #[must_use]
    pub fn error_ms(&self, member: u64) -> Option<i64> {
        self.with(|cluster| cluster.error_ms(member, mono_ms()))
    }

    /// For figures and warnings.
    #[must_use]
    pub fn compare(&self) -> Comparison {
        let mono_ms = mono_ms();
        self.with(|cluster| Comparison {
            own_error_ms: cluster.error_ms(self.own, mono_ms),
            agreeing: cluster.agreement(mono_ms).map_or(0, |known| known.members),
        })
    }
}
