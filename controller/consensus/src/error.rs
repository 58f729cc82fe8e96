//! The errors of this crate: faults of the member, and the refusals its callers see.
//!
//! Lives here: error types and `retryable`. May not: logging, conversion to gRPC codes (that is
//! the controller's `status.rs`).

use std::io;
use std::path::PathBuf;

/// Why a member could not start, or why its storage is unusable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is out of range.
    #[error("invalid consensus setting: {0}")]
    Config(String),
    /// The operating system refused an operation.
    #[error("{step} `{path}` failed")]
    Io {
        /// What was tried, as a verb.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The disk is full and nothing of the failed operation was written.
    #[error("no space left for `{path}`")]
    NoSpace {
        /// The file that should have grown.
        path: PathBuf,
    },
    /// Bytes that were durable once cannot be read back (invariant B1). The member must not run on
    /// them: it rejoins empty, as a learner, under a new id.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What did not fit.
        reason: String,
    },
    /// Part of the log, the term or the vote is lost (invariant B4). The member must never vote
    /// under this id again: remove it, and join under a new id.
    #[error("this member lost part of its memory: {reason}")]
    Amnesia {
        /// What is missing.
        reason: String,
    },
    /// The directory belongs to another cluster (invariant B5).
    #[error("the directory belongs to cluster {found}, not to {expected}")]
    WrongCluster {
        /// Cluster id of the settings, in hex.
        expected: String,
        /// Cluster id in the directory, in hex.
        found: String,
    },
    /// The directory belongs to another member (invariant B5).
    #[error("the directory belongs to member {found}, not to {expected}")]
    WrongMember {
        /// Id of the settings.
        expected: u64,
        /// Id in the directory.
        found: u64,
    },
    /// The files were written by a version this one does not know (invariant A8).
    #[error("`{path}` has format {found}, this version knows {known}")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Format number found.
        found: u32,
        /// Newest format number this version reads.
        known: u32,
    },
    /// Another process has the directory open.
    #[error("`{path}` is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The state machine refused a snapshot that is intact.
    #[error("state machine cannot restore the snapshot at index {index}: {reason}")]
    Restore {
        /// Index of the snapshot.
        index: u64,
        /// The state machine's words.
        reason: String,
    },
    /// raft refused the recovered state.
    #[error("raft refused the recovered state: {0}")]
    Raft(String),
    /// The member is stopped.
    #[error("the consensus member is stopped")]
    Stopped,
}

impl Error {
    /// True when the member's own memory is at fault: the caller offers "rejoin under a new id".
    #[must_use]
    pub fn identity_is_lost(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Amnesia { .. })
    }
}

/// Why a proposal has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead; nothing was done.
    #[error("not the leader")]
    NotLeader {
        /// The leader, when known.
        leader: Option<u64>,
    },
    /// A queue or the uncommitted log is full; nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// The disk of this member is full; nothing was done (invariant B3).
    #[error("the log's disk is full")]
    StorageFull,
    /// Leadership was lost on the way: the entry may or may not be applied later. Safe to resend
    /// only with the same request id.
    #[error("outcome unknown: leadership changed")]
    UnknownOutcome,
    /// Empty, or larger than `max_entry_bytes`; nothing was done.
    #[error("proposal of {bytes} bytes is empty or above the limit of {limit}")]
    BadSize {
        /// Size of the proposal.
        bytes: usize,
        /// Largest size allowed.
        limit: usize,
    },
    /// The member is stopped or stopping.
    #[error("consensus member is stopped")]
    Stopped,
}

impl ProposeError {
    /// True when the same request (with its request id) may succeed later or on another member.
    #[must_use]
    pub fn retryable(&self) -> bool {
        !matches!(self, Self::BadSize { .. })
    }
}

/// Why a linearizable read could not be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader with a quorum confirmed the read in time.
    #[error("no leader confirmed the read in time")]
    Unavailable {
        /// The leader, when one is known.
        leader: Option<u64>,
    },
    /// Too many reads wait.
    #[error("overloaded")]
    Overloaded,
    /// The member is stopped or stopping.
    #[error("consensus member is stopped")]
    Stopped,
}

impl ReadError {
    /// True: a read changes nothing, so every failed read may be tried again.
    #[must_use]
    pub fn retryable(&self) -> bool {
        true
    }
}

/// Why a change of membership or leadership was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This member does not lead.
    #[error("not the leader")]
    NotLeader {
        /// The leader, when known.
        leader: Option<u64>,
    },
    /// Another change is not applied yet; one at a time (invariant A7).
    #[error("another membership change is in progress")]
    Busy,
    /// The change makes no sense, or would endanger the quorum; the text says why.
    #[error("refused: {0}")]
    Refused(String),
    /// Leadership was lost on the way: look at the members, then try again.
    #[error("outcome unknown: leadership changed")]
    UnknownOutcome,
    /// It did not happen in time (transfer of leadership only).
    #[error("timed out")]
    TimedOut,
    /// The member is stopped or stopping.
    #[error("consensus member is stopped")]
    Stopped,
}

impl MembershipError {
    /// True when the same call may succeed later or on another member.
    #[must_use]
    pub fn retryable(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
