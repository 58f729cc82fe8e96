//! Leases: what this leader has allowed hosts to run, and when that is surely
//! over. Pure: the time is the caller's monotonic clock.
//!
//! A lease is counted by the agent from the sending of its heartbeat; the leader
//! waits longer than that, from its last grant on and from the moment it became
//! ready to lead. Two rules make the wait enough:
//! - a grant needs proof that this member still led *after* the heartbeat had
//!   arrived (see `Talk`), so no lease of an older leader begins after a newer one
//!   became ready;
//! - from the decision to fence a host on, it gets no grant until the fence is
//!   committed or refused, and none for an older fence ever after.

use std::collections::BTreeMap;

use nube_types::NodeId;
use nube_types::limits::LEASE_WAIT_MS;

/// Permission for one host, to ride in the answer to its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The host's fence when it was given.
    pub fence_epoch: u64,
}

/// The leases of one controller. Forgets everything at each change of term: what
/// was granted before is over when a whole wait has passed since.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    /// The term this member leads in, and since when.
    leading: Option<(u64, u64)>,
    granted_ms: BTreeMap<NodeId, u64>,
    fences: BTreeMap<NodeId, Fence>,
}

/// What this leader did about a host's fence.
#[derive(Debug, Clone, Default)]
struct Fence {
    /// The newest that it knows to be committed: who grants for an older one
    /// looks at an old view.
    committed: u64,
    /// Decided on; nobody can tell yet what became of it.
    pending: Option<u64>,
}

impl Leases {
    /// What this member is by now: `Some(term)` while it is ready to lead.
    pub fn lead(&mut self, term: Option<u64>, now_ms: u64) {
        if self.leading.map(|(term, _)| term) == term {
            return;
        }
        *self = Self {
            leading: term.map(|term| (term, now_ms)),
            ..Self::default()
        };
    }

    /// Since when it leads without a break.
    #[must_use]
    pub fn leading_since_ms(&self) -> Option<u64> {
        self.leading.map(|(_, since_ms)| since_ms)
    }

    /// A grant for a host whose committed fence is `fence_epoch`. Call it after
    /// leadership in `term` was confirmed, with the state as of then, and before
    /// the answer leaves.
    pub fn grant(
        &mut self,
        node: NodeId,
        term: u64,
        fence_epoch: u64,
        now_ms: u64,
    ) -> Option<Grant> {
        // A look at the status that was overtaken by a newer one.
        if self.leading.is_some_and(|(known, _)| known > term) {
            return None;
        }
        self.lead(Some(term), now_ms);
        if let Some(fence) = self.fences.get_mut(&node) {
            let needed = fence.pending.unwrap_or_default().max(fence.committed);
            if fence_epoch < needed {
                return None;
            }
            *fence = Fence {
                committed: fence_epoch,
                pending: None,
            };
        }
        self.granted_ms.insert(node, now_ms);
        Some(Grant { fence_epoch })
    }

    /// No lease of this host is in force any more, whoever granted it.
    #[must_use]
    pub fn is_over(&self, node: NodeId, now_ms: u64) -> bool {
        let Some((_, ready_ms)) = self.leading else {
            return false;
        };
        let granted_ms = self.granted_ms.get(&node).copied().unwrap_or_default();
        now_ms.saturating_sub(ready_ms.max(granted_ms)) >= LEASE_WAIT_MS
    }

    /// Decides to fence: from here on the host gets no grant. The fence's epoch;
    /// `None` while a lease may be in force.
    pub fn begin_fence(
        &mut self,
        node: NodeId,
        term: u64,
        fence_epoch: u64,
        now_ms: u64,
    ) -> Option<u64> {
        let leads = self.leading.is_some_and(|(leading, _)| leading == term);
        if !leads || !self.is_over(node, now_ms) {
            return None;
        }
        let next = fence_epoch + 1;
        self.fences.entry(node).or_default().pending = Some(next);
        Some(next)
    }

    /// The fence that [`Leases::begin_fence`] decided on was committed, refused, or
    /// never proposed: the host's fence is this one now. Not to be called while
    /// nobody can tell: it stays pending then, as long as the term.
    pub fn fence_settled(&mut self, node: NodeId, fence_epoch: u64) {
        if let Some(fence) = self.fences.get_mut(&node) {
            fence.committed = fence.committed.max(fence_epoch);
            fence.pending = None;
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_types::limits::{LEASE_DRIFT_PERCENT, LEASE_MS, LEASE_SLACK_MS};

    const NODE: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    fn leading(since_ms: u64) -> Leases {
        let mut leases = Leases::default();
        leases.lead(Some(3), since_ms);
        leases
    }

    #[test]
    fn a_wait_is_longer_than_a_lease_on_a_clock_that_drifts() {
        let lease_on_a_slow_clock = LEASE_MS + LEASE_MS * LEASE_DRIFT_PERCENT / 100;
        assert_eq!(LEASE_WAIT_MS, lease_on_a_slow_clock + LEASE_SLACK_MS);
    }

    #[test]
    fn a_new_leader_waits_for_the_leases_of_others() {
        let mut leases = leading(1_000);
        assert!(!leases.is_over(NODE, 1_000 + LEASE_WAIT_MS - 1));
        assert!(leases.is_over(NODE, 1_000 + LEASE_WAIT_MS));
        // The same term again is no new beginning, another one is.
        leases.lead(Some(3), 5_000);
        assert_eq!(leases.leading_since_ms(), Some(1_000));
        leases.lead(Some(4), 5_000);
        assert!(!leases.is_over(NODE, 1_000 + LEASE_WAIT_MS));
        leases.lead(None, 6_000);
        assert!(!leases.is_over(NODE, u64::MAX));
    }

    #[test]
    fn the_wait_counts_from_the_last_grant_to_this_host() {
        let mut leases = leading(0);
        for now_ms in [10_000, 20_000] {
            let grant = leases.grant(NODE, 3, 7, now_ms);
            assert_eq!(grant, Some(Grant { fence_epoch: 7 }));
        }
        assert!(leases.is_over(OTHER, LEASE_WAIT_MS));
        assert!(!leases.is_over(NODE, 20_000 + LEASE_WAIT_MS - 1));
        assert!(leases.is_over(NODE, 20_000 + LEASE_WAIT_MS));
    }

    #[test]
    fn a_pending_fence_grants_nothing_until_it_is_committed_or_refused() {
        let mut leases = leading(0);
        assert_eq!(leases.begin_fence(NODE, 3, 0, LEASE_WAIT_MS - 1), None);
        assert_eq!(leases.begin_fence(NODE, 3, 0, LEASE_WAIT_MS), Some(1));
        let now_ms = LEASE_WAIT_MS + 1;
        assert_eq!(leases.grant(NODE, 3, 0, now_ms), None);
        assert!(leases.grant(OTHER, 3, 0, now_ms).is_some());
        assert!(leases.is_over(NODE, now_ms), "nothing was granted");
        assert!(leases.grant(NODE, 3, 1, now_ms).is_some(), "committed");
        assert_eq!(
            leases.begin_fence(NODE, 3, 1, now_ms + LEASE_WAIT_MS),
            Some(2)
        );
        assert_eq!(leases.grant(NODE, 3, 1, now_ms + LEASE_WAIT_MS), None);
        leases.fence_settled(NODE, 1);
        let refused = leases.grant(NODE, 3, 1, now_ms + LEASE_WAIT_MS);
        assert!(refused.is_some());
    }

    #[test]
    fn nobody_is_granted_anything_on_a_view_from_before_the_fence() {
        let mut leases = leading(0);
        assert_eq!(leases.begin_fence(NODE, 3, 4, LEASE_WAIT_MS), Some(5));
        leases.fence_settled(NODE, 5);
        assert_eq!(leases.grant(NODE, 3, 4, LEASE_WAIT_MS), None);
        assert!(leases.grant(NODE, 3, 5, LEASE_WAIT_MS).is_some());
        assert_eq!(leases.begin_fence(NODE, 3, 5, LEASE_WAIT_MS * 2), Some(6));
        leases.fence_settled(NODE, 5);
        assert_eq!(leases.grant(NODE, 3, 4, LEASE_WAIT_MS * 2), None);
    }

    #[test]
    fn a_lost_leadership_forgets_fences_and_begins_to_wait_anew() {
        let mut leases = leading(0);
        assert_eq!(leases.begin_fence(NODE, 3, 0, LEASE_WAIT_MS), Some(1));
        assert!(leases.grant(NODE, 5, 0, LEASE_WAIT_MS).is_some());
        assert_eq!(leases.grant(NODE, 4, 0, LEASE_WAIT_MS), None);
        assert_eq!(leases.begin_fence(NODE, 5, 0, LEASE_WAIT_MS * 2 - 1), None);
        assert_eq!(leases.begin_fence(NODE, 3, 0, LEASE_WAIT_MS * 2), None);
        assert_eq!(leases.begin_fence(NODE, 5, 0, LEASE_WAIT_MS * 2), Some(1));
    }
}
