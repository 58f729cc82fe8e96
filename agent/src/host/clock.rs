//! The host's clock for everything that ends by itself: it never goes back, and
//! it runs on while the host sleeps, as the clocks of the controllers do.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the host booted (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boot_time_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel counts both up from zero.
    let seconds = now.tv_sec.unsigned_abs();
    let nanos = now.tv_nsec.unsigned_abs();
    seconds
        .saturating_mul(1_000)
        .saturating_add(nanos / 1_000_000)
}

/// Where a task takes its time from.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The host.
    BootTime,
    /// Tokio, whose clock tests stop and turn; counted from here.
    #[cfg(test)]
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now_ms(self) -> u64 {
        match self {
            Self::BootTime => boot_time_ms(),
            #[cfg(test)]
            Self::Tokio(start) => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn it_counts_up_from_the_boot() {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("read");
        let seconds: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("number");
        let (first, second) = (boot_time_ms(), boot_time_ms());
        assert!(first <= second && first / 1_000 >= seconds as u64);
    }
}
