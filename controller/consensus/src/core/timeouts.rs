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

pub(super) struct Timeouts {
    random: Random,
    ticks_min: usize,
    ticks_max: usize,
    drawn_for: (u64, Role),
    current: usize,
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
        };
        timeouts.draw();
        timeouts
    }

    fn draw(&mut self) {
        let spread = (self.ticks_max - self.ticks_min) as u64;
        self.current = self.ticks_min + 1 + (self.random.next() % spread) as usize;
    }

    /// The value raft must have now.
    pub(super) fn pin(&mut self, term: u64, role: Role, campaigned: bool) -> usize {
        if campaigned || self.drawn_for != (term, role) {
            self.drawn_for = (term, role);
            self.draw();
        }
        self.current
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn equal_seeds_draw_equal_timeouts_inside_the_range() {
        let mut a = Timeouts::new(Random::new(7), 8, 16);
        let mut b = Timeouts::new(Random::new(7), 8, 16);
        for term in 1..1000 {
            let (x, y) = (
                a.pin(term, Role::Follower, false),
                b.pin(term, Role::Follower, false),
            );
            assert_eq!(x, y);
            assert!((9..=16).contains(&x));
            assert_eq!(
                a.pin(term, Role::Follower, false),
                x,
                "no new draw without a change"
            );
            b.pin(term, Role::Follower, false);
        }
    }
}
