//! When to try again, where, and how long to wait: pure decisions, so that the
//! tests can walk through every one of them.
//!
//! Repeating is safe: reads change nothing, and a mutation carries one request
//! id through all of its attempts (the controllers answer it once).

use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};

/// One answer may take this long before another controller is asked. Shorter
/// and a slow fsync counts as death; longer and a paused controller holds up
/// its users.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// The whole call, over all attempts, unless `--timeout` says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// When nothing has ever listened at any endpoint, there is no cloud to wait
/// for: say so soon. Long enough for a cluster that restarts.
pub const NOBODY_MAX: Duration = Duration::from_secs(5);
/// Say that something is wrong when a call has hung for this long.
pub const NOTICE_AFTER: Duration = Duration::from_secs(2);

const BACKOFF_MS_MIN: u64 = 50;
/// An election takes about a second: waiting longer than it wins nothing.
const BACKOFF_MS_MAX: u64 = 1_000;

/// What an error means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same answer would come again.
    Final,
    /// Another controller, or the same one later, may answer.
    Retry,
    /// Nothing listens there.
    RetryRefused,
}

/// Reads a failed attempt.
pub fn verdict(status: &Status) -> Verdict {
    let causes = causes(status);
    if causes.iter().any(|cause| is_certificate(cause)) {
        return Verdict::Final;
    }
    if causes
        .iter()
        .any(|cause| cause.contains("Connection refused"))
    {
        return Verdict::RetryRefused;
    }
    // A status with a cause was made here, by the transport: the connection
    // broke in the middle of a call. One from a controller has none.
    let by_transport = status.source().is_some();
    match status.code() {
        // The world has moved on since the preview; it does not come back.
        Code::Aborted if crate::error::reason_of(status) == "REVISION_CHANGED" => Verdict::Final,
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => Verdict::Retry,
        Code::Unknown | Code::Internal | Code::Cancelled if by_transport => Verdict::Retry,
        _ => Verdict::Final,
    }
}

/// The innermost reason of a failed attempt: `transport error` helps nobody.
pub fn reason(status: &Status) -> String {
    match causes(status).pop() {
        Some(cause) => cause,
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

/// Pause before attempt `failures` + 1. The first round over all endpoints is
/// quick, since usually only one of them has died; then the pause doubles.
/// `jitter` in 0..1 spreads clients that failed together.
pub fn pause(failures: u32, endpoints: usize, jitter: f64) -> Duration {
    let endpoints = u32::try_from(endpoints).unwrap_or(u32::MAX).max(1);
    let rounds = (failures.saturating_sub(1) / endpoints).min(10);
    let ms = (BACKOFF_MS_MIN << rounds).min(BACKOFF_MS_MAX);
    Duration::from_millis(ms).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

fn causes(status: &Status) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = status.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

/// A certificate that is not trusted now will not be trusted in a second.
fn is_certificate(cause: &str) -> bool {
    cause.contains("invalid peer certificate") || cause.contains("received fatal alert")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_the_unknown_outcome_is_tried_again() {
        let table = [
            (Code::Unavailable, Verdict::Retry),
            (Code::DeadlineExceeded, Verdict::Retry),
            (Code::Aborted, Verdict::Retry),
            (Code::InvalidArgument, Verdict::Final),
            (Code::NotFound, Verdict::Final),
            (Code::AlreadyExists, Verdict::Final),
            (Code::ResourceExhausted, Verdict::Final),
            (Code::FailedPrecondition, Verdict::Final),
            (Code::Internal, Verdict::Final),
            (Code::Unknown, Verdict::Final),
            (Code::Cancelled, Verdict::Final),
            (Code::PermissionDenied, Verdict::Final),
        ];
        for (code, expected) in table {
            assert_eq!(verdict(&Status::new(code, "x")), expected, "{code:?}");
        }
    }

    #[test]
    fn a_revision_that_has_passed_is_final() {
        use tonic_types::{ErrorDetails, StatusExt};
        let info = ErrorDetails::with_error_info("REVISION_CHANGED", "nube", []);
        let status = Status::with_error_details(Code::Aborted, "changed", info);
        assert_eq!(verdict(&status), Verdict::Final);
    }

    #[test]
    fn a_broken_connection_is_tried_again() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let status = Status::from_error(Box::new(broken));
        assert_eq!(verdict(&status), Verdict::Retry, "{status:?}");
        let refused = std::io::Error::from_raw_os_error(111);
        let status = Status::from_error(Box::new(refused));
        assert_eq!(verdict(&status), Verdict::RetryRefused, "{status:?}");
        assert!(reason(&status).contains("Connection refused"));
    }

    #[test]
    fn an_untrusted_certificate_is_final() {
        let error = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        let status = Status::from_error(Box::new(error));
        assert_eq!(verdict(&status), Verdict::Final, "{status:?}");
    }

    #[test]
    fn pauses_are_short_first_grow_and_stay_bounded() {
        assert_eq!(pause(1, 3, 1.0), Duration::from_millis(50));
        assert_eq!(pause(3, 3, 1.0), Duration::from_millis(50));
        assert_eq!(pause(4, 3, 1.0), Duration::from_millis(100));
        assert_eq!(pause(4, 3, 0.0), Duration::from_millis(50));
        assert_eq!(pause(u32::MAX, 3, 1.0), Duration::from_millis(1000));
        assert_eq!(pause(1, 0, 1.0), Duration::from_millis(50));
    }
}
