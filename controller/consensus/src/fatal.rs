//! The end of the process where going on would be worse.
//!
//! Lives here: abort with a reason, also for panics in our threads. May not: recovery; that is the
//! next start's task. A dead replica is replaced by the quorum, a diverged one poisons it.

use std::error::Error as _;
use std::panic::AssertUnwindSafe;

use crate::error::Error;

/// Ends the process at once: no destructor, no flush, no further message.
pub(crate) fn die(what: &str, reason: &str) -> ! {
    tracing::error!(what, reason, "consensus member cannot go on");
    // The subscriber may buffer or filter; the operator must find the reason anyway.
    eprintln!("fatal: consensus: {what}: {reason}");
    std::process::abort()
}

/// The same with the whole chain of causes.
pub(crate) fn die_of(what: &str, error: &Error) -> ! {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    die(what, &reason)
}

/// Runs a thread's body; a panic in it ends the process. raft-rs panics where its invariants are
/// broken, and a member that lost only one of its threads would look alive.
pub(crate) fn abort_on_panic(what: &str, body: impl FnOnce()) {
    if std::panic::catch_unwind(AssertUnwindSafe(body)).is_err() {
        die(what, "panicked; the message is above");
    }
}
