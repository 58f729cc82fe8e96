//! Election timeouts from our own seed.
//!
//! Lives here: the generator, and when a new value is drawn. May not: raft's decisions.
//!
//! raft-rs draws its timeouts from the thread's generator, so equal seeds would not give equal
//! runs (invariant A4 for the simulator). We therefore overwrite its value after every call.
//! A new one is drawn when term or role changed, or a campaign began: a rule that does not look at
//! raft's own draw (which could by chance equal ours, and then a comparison would miss it).

use crate::status::Role;

/// SplitMix64: eight lines, full period, good enough to spread timeouts.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Ticks from a failed first campaign to the second: from the minimum, this many values. Smaller:
/// the second may start before the votes of the first are in. Larger: a longer failover.
const RETRY_TICKS_MIN: u64 = 2;
const RETRY_TICKS_SPREAD: u64 = 6;

pub(super) struct Timeouts {
    random: Random,
    ticks_min: usize,
    ticks_max: usize,
    drawn_for: (u64, Role),
    current: usize,
    /// Campaigns since a leader was known.
    campaigns: u32,
}

/// What a timeout depends on.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) term: u64,
    pub(super) role: Role,
    pub(super) leader_known: bool,
    /// A campaign began since the last call.
    pub(super) campaigned: bool,
}

/// raft's timeout, and how much of it counts as passed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) timeout: usize,
    pub(super) elapsed: Option<usize>,
}

impl Timeouts {
    /// Values lie in `ticks_min + 1 ..= ticks_max`. Not `ticks_min` itself: that is the time for
    /// which the other voters stand by the old leader, and a candidate that is first by a
    /// fraction of a tick would be ignored by all and lose a whole timeout.
    pub(super) fn new(random: Random, ticks_min: usize, ticks_max: usize) -> Self {
        let drawn_for = (0, Role::Follower);
        let mut timeouts = Self {
            random,
            ticks_min,
            ticks_max,
            drawn_for,
            current: ticks_max,
            campaigns: 0,
        };
        timeouts.draw();
        timeouts
    }

    fn draw(&mut self) {
        let spread = (self.ticks_max - self.ticks_min) as u64;
        self.current = self.ticks_min + 1 + (self.random.next() % spread) as usize;
    }

    /// What raft must have now. Called after everything that may have changed term or role.
    pub(super) fn pin(&mut self, seen: Seen) -> Pinned {
        if seen.leader_known {
            self.campaigns = 0;
        }
        self.campaigns += u32::from(seen.campaigned);
        if !seen.campaigned && self.drawn_for == (seen.term, seen.role) {
            return Pinned {
                timeout: self.current,
                elapsed: None,
            };
        }
        self.drawn_for = (seen.term, seen.role);
        self.draw();
        // A first campaign that failed almost always met another one: the votes were split. There
        // is no old leader to wait for any more, so the second attempt comes soon, spread anew.
        // The third has the full timeout again: where answers are slower than this, members would
        // else outbid each other for ever.
        let soon = self.campaigns == 1 && !seen.leader_known;
        let elapsed = soon.then(|| {
            let wait = RETRY_TICKS_MIN + self.random.next() % RETRY_TICKS_SPREAD;
            self.current.saturating_sub(wait as usize)
        });
        Pinned {
            timeout: self.current,
            elapsed,
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn seen(term: u64, role: Role, leader_known: bool, campaigned: bool) -> Seen {
        Seen {
            term,
            role,
            leader_known,
            campaigned,
        }
    }

    #[test]
    fn a4_equal_seeds_draw_equal_timeouts_inside_the_range() {
        let mut a = Timeouts::new(Random::new(7), 8, 16);
        let mut b = Timeouts::new(Random::new(7), 8, 16);
        for term in 1..1000 {
            let now = seen(term, Role::Follower, true, false);
            let (x, y) = (a.pin(now), b.pin(now));
            assert_eq!(x, y);
            assert!((9..=16).contains(&x.timeout) && x.elapsed.is_none());
            assert_eq!(a.pin(now), x, "no new draw without a change");
            b.pin(now);
        }
    }

    #[test]
    fn a10_only_the_second_campaign_comes_soon() {
        let mut timeouts = Timeouts::new(Random::new(7), 8, 16);
        timeouts.pin(seen(1, Role::Follower, true, false));
        let first = timeouts.pin(seen(1, Role::Candidate, false, true));
        let passed = first.elapsed.expect("soon");
        assert!((2..=7).contains(&(first.timeout - passed)), "{first:?}");
        let second = timeouts.pin(seen(2, Role::Candidate, false, true));
        assert_eq!(second.elapsed, None, "then with patience");
        timeouts.pin(seen(3, Role::Follower, true, false));
        let again = timeouts.pin(seen(3, Role::Candidate, false, true));
        assert!(again.elapsed.is_some(), "a leader was known in between");
    }
}
