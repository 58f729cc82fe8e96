//! The plain data of a log: entries, hard state, membership, snapshot position.
//!
//! Lives here: our own twins of raft's generated types, so that storage, tests and the simulator
//! need no protobuf. May not: behaviour beyond conversion. Used by `core`, `storage`, `io`.

use raft::eraftpb;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A proposal, or (with empty data) the first entry of a new leader.
    Normal,
    /// A membership change; `data` is raft's encoding of it.
    Membership,
}

/// One position of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position, from 1.
    pub index: u64,
    /// Term of the leader that wrote it.
    pub term: u64,
    /// What it is for.
    pub kind: EntryKind,
    /// The proposal's bytes.
    pub data: Vec<u8>,
}

/// The part of raft's state that must survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Highest term seen.
    pub term: u64,
    /// Whom this member voted for in `term`; 0 for nobody.
    pub vote: u64,
    /// A position known to be committed; may lag, never runs ahead.
    pub commit: u64,
}

/// Who takes part. Both lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Members whose votes and acknowledgements count.
    pub voters: Vec<u64>,
    /// Members that only receive the log.
    pub learners: Vec<u64>,
}

/// A position of the log that a snapshot stands for. The default is the empty log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Last index the snapshot contains.
    pub index: u64,
    /// Term of that index.
    pub term: u64,
    /// Membership as of that index.
    pub membership: Membership,
}

/// One step of membership; one at a time (invariant A7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// Adds a member that receives the log but does not vote. Legal for an unknown id.
    AddLearner(u64),
    /// Makes a learner a voter. Legal when it has caught up and no voter is missing.
    Promote(u64),
    /// Removes a voter or learner. Legal for any member but the leader itself, as long as the
    /// rest keeps a quorum of members that answer.
    Remove(u64),
}

impl MembershipChange {
    /// The member it is about.
    #[must_use]
    pub fn subject(&self) -> u64 {
        match *self {
            Self::AddLearner(id) | Self::Promote(id) | Self::Remove(id) => id,
        }
    }
}

impl Membership {
    /// A membership of voters only.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = u64>) -> Self {
        let mut voters: Vec<u64> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Self {
            voters,
            learners: Vec::new(),
        }
    }

    /// True when `id` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    /// Members needed for a decision.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    pub(crate) fn from_raft(state: &eraftpb::ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Self {
            voters: sorted(state.get_voters()),
            learners: sorted(state.get_learners()),
        }
    }

    pub(crate) fn to_raft(&self) -> eraftpb::ConfState {
        (self.voters.iter().copied(), self.learners.iter().copied()).into()
    }
}

impl HardState {
    pub(crate) fn from_raft(state: &eraftpb::HardState) -> Self {
        Self {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        }
    }

    pub(crate) fn to_raft(self) -> eraftpb::HardState {
        eraftpb::HardState {
            term: self.term,
            vote: self.vote,
            commit: self.commit,
        }
    }
}

impl LogEntry {
    pub(crate) fn from_raft(entry: eraftpb::Entry) -> Self {
        let kind = match entry.get_entry_type() {
            eraftpb::EntryType::EntryNormal => EntryKind::Normal,
            _ => EntryKind::Membership,
        };
        Self {
            index: entry.index,
            term: entry.term,
            kind,
            data: entry.data,
        }
    }

    pub(crate) fn into_raft(self) -> eraftpb::Entry {
        let Self {
            index,
            term,
            kind,
            data,
        } = self;
        let mut entry = eraftpb::Entry {
            index,
            term,
            data,
            ..eraftpb::Entry::default()
        };
        entry.set_entry_type(match kind {
            EntryKind::Normal => eraftpb::EntryType::EntryNormal,
            EntryKind::Membership => eraftpb::EntryType::EntryConfChange,
        });
        entry
    }
}

impl SnapshotMeta {
    pub(crate) fn from_raft(meta: &eraftpb::SnapshotMetadata) -> Self {
        Self {
            index: meta.index,
            term: meta.term,
            membership: Membership::from_raft(meta.get_conf_state()),
        }
    }

    pub(crate) fn to_raft(&self) -> eraftpb::SnapshotMetadata {
        eraftpb::SnapshotMetadata {
            index: self.index,
            term: self.term,
            conf_state: Some(self.membership.to_raft()),
        }
    }
}
