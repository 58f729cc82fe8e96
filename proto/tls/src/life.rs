//! How long a certificate lives and when it is to be renewed: pure arithmetic
//! on its two dates, in seconds since the epoch.

use std::time::Duration;

use x509_parser::parse_x509_certificate;

use crate::Error;

/// Issuers date certificates back by this: the clock of whom they are shown to
/// may be behind. More hides a wrong clock; less fails right after a renewal.
pub const SLACK_S: u64 = 300;
/// How often a holder looks at the clock: never so rarely that it misses the
/// last third, never so often that it is noticed. Waiting for the very moment
/// would go wrong when the host was suspended.
const LOOKS_PER_LIFE: u64 = 30;

/// When a certificate was issued and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Without the slack.
    pub issued_s: u64,
    /// From here on nobody believes it.
    pub expires_s: u64,
}

impl Life {
    /// The life of a certificate in DER.
    pub fn of(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = parse_x509_certificate(der).map_err(|_| Error::Certificate)?;
        let validity = certificate.validity();
        let seconds = |at: i64| u64::try_from(at).map_err(|_| Error::Certificate);
        Ok(Self {
            issued_s: seconds(validity.not_before.timestamp())?.saturating_add(SLACK_S),
            expires_s: seconds(validity.not_after.timestamp())?,
        })
    }

    /// From issue to end.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.expires_s.saturating_sub(self.issued_s)
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self, now_s: u64) -> Duration {
        Duration::from_secs(self.expires_s.saturating_sub(now_s))
    }

    /// True from about two thirds on: a third is left for retries. `jitter` in
    /// 0..1, one draw per holder, spreads holders that began together over a
    /// tenth of the life.
    #[must_use]
    pub fn is_due(&self, now_s: u64, jitter: f64) -> bool {
        let early = (self.seconds() as f64 / 10.0 * jitter.clamp(0.0, 1.0)) as u64;
        now_s >= self.issued_s + (self.seconds() / 3 * 2).saturating_sub(early)
    }

    /// Until the next look at the clock.
    #[must_use]
    pub fn look_again_after(&self) -> Duration {
        Duration::from_secs((self.seconds() / LOOKS_PER_LIFE).clamp(1, 60))
    }

    /// Until the next attempt after so many failures: doubling, and soon enough
    /// for several attempts in the last third.
    #[must_use]
    pub fn retry_after(&self, failures: u32) -> Duration {
        let full = self.look_again_after();
        full.min(Duration::from_secs(1) * 2_u32.saturating_pow(failures.min(10)))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const DAY: Life = Life {
        issued_s: 1_000_000,
        expires_s: 1_000_000 + 86_400,
    };

    #[test]
    fn a_day_is_renewed_in_its_second_half_and_never_late() {
        for (after_s, jitter, due) in [
            (0, 1.0, false),
            (48_000, 1.0, false),
            (49_000, 1.0, true),
            (49_000, 0.0, false),
            (57_599, 0.0, false),
            (57_600, 0.0, true),
            (90_000, 0.0, true),
        ] {
            assert_eq!(DAY.is_due(DAY.issued_s + after_s, jitter), due, "{after_s}");
        }
    }

    #[test]
    fn many_looks_and_attempts_fit_in_the_last_third() {
        for seconds in [60, 600, 86_400, 34_300_800] {
            let life = Life {
                issued_s: 500,
                expires_s: 500 + seconds,
            };
            let third = seconds / 3;
            assert!(life.look_again_after().as_secs() * 9 <= third, "{seconds}");
            assert!(life.retry_after(99).as_secs() * 9 <= third, "{seconds}");
            assert!(life.retry_after(0).as_secs() >= 1);
        }
    }

    #[test]
    fn what_is_past_has_nothing_left() {
        assert_eq!(DAY.left(DAY.expires_s + 5), Duration::ZERO);
        assert_eq!(DAY.left(DAY.expires_s - 5), Duration::from_secs(5));
    }
}
