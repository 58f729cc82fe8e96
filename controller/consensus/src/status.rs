//! What a member tells about itself.
//!
//! Lives here: the published picture. May not: decisions. Written by `driver` once per tick and at
//! every change of role, term, leader or membership; read through [`crate::Handle::status`].

/// The part a member plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks for votes (the trial round before an election included).
    Candidate,
    /// Leads.
    Leader,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// True for a voter, false for a learner.
    pub voter: bool,
    /// Highest index known to be in its log; only the leader knows.
    pub matched: Option<u64>,
    /// Milliseconds since it was last heard, in whole ticks; only the leader knows. Zero for the
    /// leader itself.
    pub last_contact_ms: Option<u64>,
}

/// A picture of one member, at most one tick old; role, term, leader and members are newer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Own id.
    pub id: u64,
    /// Number of starts of this member over its directory.
    pub incarnation: u64,
    /// Own role.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// The leader of this term, when known.
    pub leader: Option<u64>,
    /// True for a leader that committed an entry of its own term: only then its view of the
    /// committed log is complete. Start leader-side work on this, not on `role`.
    pub leader_ready: bool,
    /// Highest committed index known here.
    pub commit: u64,
    /// Highest index applied here.
    pub applied: u64,
    /// Last index of the own log, durable or not.
    pub last_index: u64,
    /// Lowest index still in the log.
    pub first_index: u64,
    /// Voters and learners, in order of id.
    pub members: Vec<Member>,
    /// Index of the newest own snapshot, 0 without one.
    pub snapshot_index: u64,
    /// Bytes of log entries held in memory, which is what lies between `first_index` and
    /// `last_index` on disk.
    pub log_bytes: u64,
    /// True while the log waits for disk space (invariant B3).
    pub storage_full: bool,
    /// True once the member has stopped; nothing else changes afterwards.
    pub stopped: bool,
}

impl Status {
    /// True when this member leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// True when `id` is a voter or learner in the newest membership applied here.
    #[must_use]
    pub fn is_member(&self, id: u64) -> bool {
        self.members.iter().any(|m| m.id == id)
    }
}
