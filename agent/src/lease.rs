//! How long this host may run guests that another host may replace. Pure: no
//! clock, no I/O; all times are milliseconds of the host's clock that also runs
//! while it sleeps (`CLOCK_BOOTTIME`).
//!
//! The obeyed leader may answer a heartbeat with a grant. The lease then counts
//! from the *sending* of that heartbeat: whatever the way there and back took,
//! the leader's own count began later, so the host's end is never the later one.
//! A new life of the agent holds none until it is granted; a host that stopped
//! in time is all that a fence rests on (`controller`, `agents/lease.rs`).

use std::collections::BTreeMap;

use nube_types::limits::{LEASE_MS, LEASE_STOP_MARGIN_MS};

/// Heartbeats that may still be answered; older ones could extend nothing.
const UNANSWERED_MAX: usize = 64;

/// A lease as it was granted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Counts with a list of wishes of the same fence alone.
    pub fence_epoch: u64,
    /// From here on somebody else may run the guests.
    pub ends_at_ms: u64,
}

impl Held {
    /// When the guests are cut: early enough that a slow cut does not matter.
    #[must_use]
    pub fn stop_at_ms(&self) -> u64 {
        self.ends_at_ms.saturating_sub(LEASE_STOP_MARGIN_MS)
    }

    /// Whether a guest of a list with this fence may run now.
    #[must_use]
    pub fn may_run(&self, fence_epoch: u64, now_ms: u64) -> bool {
        self.fence_epoch == fence_epoch && now_ms < self.stop_at_ms()
    }
}

/// Counts leases from heartbeats and their answers.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    /// Unanswered heartbeats to the obeyed leader, and when they were sent.
    sent: BTreeMap<u64, u64>,
    held: Option<Held>,
}

impl Lease {
    /// A heartbeat goes to the obeyed leader. Sequences grow over all
    /// controllers together: one names both heartbeat and receiver.
    pub fn sent(&mut self, sequence: u64, now_ms: u64) {
        self.sent
            .retain(|_, sent_at_ms| now_ms < sent_at_ms.saturating_add(LEASE_MS));
        self.sent.insert(sequence, now_ms);
        if self.sent.len() > UNANSWERED_MAX {
            self.sent.pop_first();
        }
    }

    /// Another leader is obeyed, or none: what the one before still says does
    /// not count. A lease that is held runs on to its end.
    pub fn obey_another(&mut self) {
        self.sent.clear();
    }

    /// The obeyed leader answered a heartbeat with a grant. Whether it counts:
    /// answers that are older than the newest one do not, nor do answers to
    /// what was never sent.
    pub fn granted(&mut self, sequence: u64, fence_epoch: u64, duration_ms: u32) -> bool {
        let Some(sent_at_ms) = self.sent.remove(&sequence) else {
            return false;
        };
        self.sent = self.sent.split_off(&sequence);
        let ends_at_ms = sent_at_ms.saturating_add(LEASE_MS.min(duration_ms.into()));
        // A promise once made is not taken back, unless a fence came between.
        let before = self.held.filter(|held| held.fence_epoch == fence_epoch);
        self.held = Some(Held {
            fence_epoch,
            ends_at_ms: ends_at_ms.max(before.map_or(0, |held| held.ends_at_ms)),
        });
        true
    }

    /// The newest lease, over or not.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// When the newest lease ends; none was granted: it is over since ever.
    #[must_use]
    pub fn ends_at_ms(&self) -> u64 {
        self.held.map_or(0, |held| held.ends_at_ms)
    }

    /// Whether a guest of a list with this fence may run now.
    #[must_use]
    pub fn may_run(&self, fence_epoch: u64, now_ms: u64) -> bool {
        self.held
            .is_some_and(|held| held.may_run(fence_epoch, now_ms))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const FULL: u32 = LEASE_MS as u32;
    const STOP: u64 = LEASE_MS - LEASE_STOP_MARGIN_MS;

    #[test]
    fn it_counts_from_the_sending_and_stops_before_its_end() {
        let mut lease = Lease::default();
        assert!(!lease.may_run(0, 0) && lease.ends_at_ms() == 0);
        lease.sent(1, 1_000);
        // Answered whenever: only the sending counts.
        assert!(lease.granted(1, 0, FULL));
        assert_eq!(lease.ends_at_ms(), 1_000 + LEASE_MS);
        for (now_ms, may) in [
            (1_000, true),
            (1_000 + STOP - 1, true),
            (1_000 + STOP, false),
            (1_000 + LEASE_MS, false),
            (u64::MAX, false),
        ] {
            assert_eq!(lease.may_run(0, now_ms), may, "at {now_ms}");
        }
    }

    #[test]
    fn only_answers_to_what_was_sent_count_and_each_once() {
        let mut lease = Lease::default();
        assert!(!lease.granted(7, 0, FULL), "nothing was sent");
        for sequence in 1..=4 {
            lease.sent(sequence, sequence * 1_000);
        }
        assert!(lease.granted(3, 0, FULL));
        for (sequence, why) in [(3, "twice"), (2, "overtaken"), (9, "never sent")] {
            assert!(!lease.granted(sequence, 0, FULL), "{why}");
        }
        assert_eq!(lease.ends_at_ms(), 3_000 + LEASE_MS);
        assert!(lease.granted(4, 0, FULL));
        assert_eq!(lease.ends_at_ms(), 4_000 + LEASE_MS);
    }

    #[test]
    fn a_fence_must_be_the_lists_own() {
        let mut lease = Lease::default();
        lease.sent(1, 0);
        lease.sent(2, 1_000);
        lease.granted(1, 4, FULL);
        for (fence_epoch, may) in [(3, false), (4, true), (5, false)] {
            assert_eq!(lease.may_run(fence_epoch, 10), may, "list of {fence_epoch}");
        }
        lease.granted(2, 5, FULL);
        assert!(lease.may_run(5, 10) && !lease.may_run(4, 10));
    }

    #[test]
    fn what_a_former_leader_still_answers_does_not_count() {
        let mut lease = Lease::default();
        lease.sent(1, 0);
        lease.sent(2, 1_000);
        lease.granted(1, 0, FULL);
        lease.obey_another();
        assert!(!lease.granted(2, 0, FULL));
        assert!(lease.may_run(0, STOP - 1), "what is held runs on");
        lease.sent(3, 2_000);
        assert!(lease.granted(3, 0, FULL));
        assert_eq!(lease.ends_at_ms(), 2_000 + LEASE_MS);
    }

    #[test]
    fn a_new_life_has_none() {
        let mut lease = Lease::default();
        lease.sent(1, 0);
        lease.granted(1, 0, FULL);
        let restarted = Lease::default();
        assert!(lease.may_run(0, 1) && !restarted.may_run(0, 1));
    }

    #[test]
    fn durations_are_bounded_and_not_taken_back() {
        for (granted_ms, ends_at_ms) in [(u32::MAX, LEASE_MS), (500, 500), (0, 0)] {
            let mut lease = Lease::default();
            lease.sent(1, 0);
            lease.granted(1, 0, granted_ms);
            assert_eq!(lease.ends_at_ms(), ends_at_ms);
        }
        let mut lease = Lease::default();
        lease.sent(1, 0);
        lease.sent(2, 1_000);
        lease.granted(1, 0, FULL);
        lease.granted(2, 0, 1);
        assert_eq!(lease.ends_at_ms(), LEASE_MS);
        assert!(Lease::default().held().is_none());
    }

    #[test]
    fn what_waits_for_answers_is_bounded() {
        let mut lease = Lease::default();
        for sequence in 0..1_000 {
            lease.sent(sequence, 5);
        }
        assert!(!lease.granted(1_000 - UNANSWERED_MAX as u64 - 1, 0, FULL));
        assert!(lease.granted(999, 0, FULL));
        lease.sent(1_000, 10);
        lease.sent(1_001, 10 + LEASE_MS);
        assert!(
            !lease.granted(1_000, 0, FULL),
            "too late to extend anything"
        );
    }
}
