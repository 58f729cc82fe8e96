//! Looking at a core without changing it.
//!
//! Lives here: what `driver` publishes and what a snapshot is labelled with. May not: effects.
//! Part of `core`.

use raft::StateRole;
use raft::Storage as _;

use super::{Core, RoleChange, known};
use crate::entry::{Membership, SnapshotMeta};
use crate::status::{Member, Status};

impl Core {
    /// The leader this member knows.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        known(self.raw.raft.leader_id)
    }

    /// True for a leader that committed an entry of its own term.
    #[must_use]
    pub fn leader_ready(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.raw.raft.commit_to_current_term()
    }

    /// The membership applied here.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Position and membership of a snapshot taken of a state that stands at `applied`; legal
    /// right after applying everything the core handed out.
    #[must_use]
    pub fn snapshot_meta_at(&self, applied: u64) -> Option<SnapshotMeta> {
        let term = self.raw.store().term(applied).ok()?;
        Some(SnapshotMeta {
            index: applied,
            term,
            membership: self.membership.clone(),
        })
    }

    /// The term in which this member leads.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        let raft = &self.raw.raft;
        (raft.state == StateRole::Leader).then_some(raft.term)
    }

    /// The picture of this member; what only the outside knows is left at its default.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        let member = |id: u64, voter: bool| {
            let progress = raft.prs().get(id).filter(|_| leads);
            let silent = if id == self.config.id {
                Some(0)
            } else {
                self.peers.silent_for(id, self.now)
            };
            Member {
                id,
                voter,
                matched: progress.map(|p| p.matched),
                last_contact_ms: silent.filter(|_| leads).map(|t| t * self.config.tick_ms),
            }
        };
        let voters = self.membership.voters.iter().map(|id| member(*id, true));
        let learners = self.membership.learners.iter().map(|id| member(*id, false));
        let mut members: Vec<Member> = voters.chain(learners).collect();
        members.sort_unstable_by_key(|member| member.id);
        let RoleChange { role, term, leader } = self.current_role();
        Status {
            id: self.config.id,
            incarnation: self.incarnation,
            role,
            term,
            leader,
            leader_ready: self.leader_ready(),
            commit: raft.raft_log.committed,
            applied: raft.raft_log.applied,
            last_index: raft.raft_log.last_index(),
            first_index: self.raw.store().first(),
            members,
            snapshot_index: self.raw.store().snapshot_meta().index,
            log_bytes: self.raw.store().bytes(),
            storage_full: false,
            stopped: false,
        }
    }
}
