//! What the host's lease lets its leased guests do. The list says of which fence
//! a lease must be; the deadline is what fencers were told.

use crate::lease::Held;
use crate::plan::Leave;

/// Lease, list and deadline.
#[derive(Debug, Default)]
pub struct Terms {
    /// Of the leader's list, once it has come.
    fence_epoch: Option<u64>,
    lease: Option<Held>,
    /// When leased guests are cut, here and by their fencers.
    deadline_ms: u64,
}

impl Terms {
    /// As fencers were told in an earlier life of the agent.
    pub fn with_deadline(deadline_ms: u64) -> Self {
        Self {
            deadline_ms,
            ..Self::default()
        }
    }

    /// A list has come.
    pub fn listed(&mut self, fence_epoch: u64) {
        self.fence_epoch = Some(fence_epoch);
        if self
            .lease
            .is_some_and(|held| held.fence_epoch != fence_epoch)
        {
            // A fence stands between the lease and this list: what the lease
            // let run may run elsewhere by now.
            self.deadline_ms = 0;
        }
    }

    /// The obeyed leader granted a lease.
    pub fn granted(&mut self, held: Held) {
        self.lease = Some(held);
    }

    /// A later deadline, if the lease gives one. A lease of another fence than
    /// the list's prolongs nothing.
    pub fn prolong(&mut self) -> Option<u64> {
        let fits = |held: &Held| Some(held.fence_epoch) == self.fence_epoch;
        let deadline_ms = self.lease.filter(fits)?.stop_at_ms();
        if deadline_ms <= self.deadline_ms {
            return None;
        }
        self.deadline_ms = deadline_ms;
        Some(deadline_ms)
    }

    /// What a leased guest may do now. A start rests on the lease itself, and
    /// on fencers that know of it.
    pub fn leave(&self, now_ms: u64) -> Leave {
        let may_run = |held: Held| {
            self.fence_epoch
                .is_some_and(|fence_epoch| held.may_run(fence_epoch, now_ms))
        };
        if self.lease.is_some_and(may_run) {
            Leave::Start
        } else if self.is_over(now_ms) {
            Leave::Stop
        } else {
            Leave::RunOn
        }
    }

    /// Whether leased guests must have ended.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.deadline_ms
    }

    /// When that will be so.
    pub fn ends_at_ms(&self, now_ms: u64) -> Option<u64> {
        (!self.is_over(now_ms)).then_some(self.deadline_ms)
    }
}
