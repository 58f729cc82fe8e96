//! The cell's clock: replicated time that goes on by the leader's monotonic clock
//! and is pulled towards what a quorum of wall clocks agrees on (D4). Pure: every
//! reading of a clock comes in as an argument, so a simulator runs the same code.
//!
//! ```text
//!  wall clocks of voters ─ sample ─► agreement of a quorum ─┐ pull: 500 ms per second
//!  newest committed entry ─ observe ─► anchor ── now(mono) ◄┘
//! ```
//!
//! - Clocks *agree* when they lie within [`AGREE_MS`]; a majority of the voters must.
//!   One clock that jumps, runs or stands still is outvoted and moves nothing; where
//!   no majority agrees, time goes on by the monotonic clock alone.
//! - Time never stands still longer than it runs: the pull changes its rate to
//!   between a half and one and a half, so bills are off by no more than that.
//! - One step is allowed, forward, to what a quorum agrees on: at a process's first
//!   leadership, because nobody counted while the whole cell was down.

use std::collections::BTreeMap;

use nube_types::TimestampMs;

/// Clocks that lie closer together than this agree. Larger: a bad clock is believed
/// further away from good ones. Smaller: a slow network looks like a disagreement.
pub const AGREE_MS: i64 = 500;
/// Pull per second of the monotonic clock. Larger: a bill may be off further while a
/// quorum's clocks are put right. Smaller: it takes longer until time is right.
pub const PULL_MS_PER_SECOND: u64 = 500;
/// A reading that took longer says too little about the moment it was taken.
pub const ROUND_TRIP_MS_MAX: u64 = 500;
/// A reading counts for so long: a few rounds of a follower's looks.
pub const SAMPLE_LIFE_MS: u64 = 15_000;
/// Smaller gaps after a restart are pulled instead of stepped over.
pub const STEP_MS_MIN: i64 = 5_000;
/// A follower's guess of replicated time may lie so far ahead of the newest entry: a
/// tick, an election, and room for monotonic clocks that drift.
const FOLLOWER_AHEAD_MS_MAX: u64 = 5_000;

/// One reading of a member's wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Its wall clock minus the own monotonic clock at the middle of the round trip.
    pub offset_ms: i64,
    /// Own monotonic clock when the answer came.
    pub taken_ms: u64,
    /// How long the answer took; zero for the own clock.
    pub round_trip_ms: u64,
}

impl Sample {
    /// A wall clock that was asked for at one monotonic instant and answered at another.
    #[must_use]
    pub fn new(wall: TimestampMs, asked_ms: u64, answered_ms: u64) -> Self {
        let round_trip_ms = answered_ms.saturating_sub(asked_ms);
        let middle_ms = asked_ms.saturating_add(round_trip_ms / 2);
        Self {
            offset_ms: signed(wall.0).saturating_sub(signed(middle_ms)),
            taken_ms: answered_ms,
            round_trip_ms,
        }
    }

    fn ends_ms(&self) -> u64 {
        self.taken_ms.saturating_add(SAMPLE_LIFE_MS)
    }
}

/// What a majority's clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Median of the wall clocks that agree, minus the own monotonic clock.
    pub offset_ms: i64,
    /// How many agree.
    pub members: usize,
    /// The first reading that it rests on expires.
    pub until_ms: u64,
}

/// What [`ClusterClock::steer`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// No majority agrees: the monotonic clock alone.
    Free,
    /// So far away from what a majority says; positive: behind it.
    Pulled(i64),
    /// Stepped forward by so much, once.
    Stepped(i64),
}

#[derive(Debug, Clone, Copy)]
struct Pull {
    gap_ms: i64,
    until_ms: u64,
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub struct ClusterClock {
    samples: BTreeMap<u64, Sample>,
    /// Replicated time at an instant of the monotonic clock.
    anchor: (u64, u64),
    pull: Option<Pull>,
    agreement: Option<Agreement>,
    /// Nothing was counted before this process began.
    may_step: bool,
    leading: bool,
    is_set: bool,
}

impl ClusterClock {
    /// Goes on from the newest entry that is known; zero for a new cell.
    #[must_use]
    pub fn new(mono_ms: u64, replicated: TimestampMs) -> Self {
        Self {
            samples: BTreeMap::new(),
            anchor: (mono_ms, replicated.0),
            pull: None,
            agreement: None,
            may_step: true,
            leading: false,
            is_set: replicated.0 > 0,
        }
    }

    /// Time for the next entry. Never smaller than at an earlier instant while this
    /// member leads.
    #[must_use]
    pub fn now(&self, mono_ms: u64) -> TimestampMs {
        let elapsed_ms = mono_ms.saturating_sub(self.anchor.0);
        let free = self.anchor.1.saturating_add(elapsed_ms);
        let pulled = self.pull.map_or(0, |pull| {
            let pulling_ms = elapsed_ms.min(pull.until_ms.saturating_sub(self.anchor.0));
            let most = signed(pulling_ms / 1_000 * PULL_MS_PER_SECOND)
                + signed(pulling_ms % 1_000 * PULL_MS_PER_SECOND / 1_000);
            pull.gap_ms.clamp(-most, most)
        });
        TimestampMs(free.saturating_add_signed(pulled))
    }

    /// False in a new cell until a quorum's clocks agreed: its first entry must not be
    /// stamped before.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// A member's wall clock was read.
    pub fn sample(&mut self, member: u64, sample: Sample) {
        if sample.round_trip_ms <= ROUND_TRIP_MS_MAX {
            self.samples.insert(member, sample);
        }
    }

    /// An entry of this time was applied here.
    pub fn observe(&mut self, mono_ms: u64, replicated: TimestampMs) {
        let guess = self.now(mono_ms).0;
        let far_ahead = guess.saturating_sub(replicated.0) > FOLLOWER_AHEAD_MS_MAX;
        self.is_set |= replicated.0 > 0;
        if replicated.0 > guess || (far_ahead && !self.leading && replicated.0 > 0) {
            self.anchor = (mono_ms, replicated.0);
            self.aim();
        }
    }

    /// Looks at the readings anew. Call about once a second, and when this member
    /// begins or ceases to lead.
    pub fn steer(&mut self, mono_ms: u64, voters: &[u64], leading: bool) -> Steered {
        self.anchor = (mono_ms, self.now(mono_ms).0);
        self.leading = leading;
        self.samples.retain(|_, sample| sample.ends_ms() > mono_ms);
        self.agreement = agreement(&self.samples, voters);
        self.aim();
        let Some(pull) = self.pull else {
            return Steered::Free;
        };
        if !leading {
            return Steered::Pulled(pull.gap_ms);
        }
        let first = std::mem::take(&mut self.may_step) || !self.is_set;
        self.is_set = true;
        if first && pull.gap_ms >= STEP_MS_MIN {
            self.anchor.1 = self.anchor.1.saturating_add_signed(pull.gap_ms);
            self.aim();
            return Steered::Stepped(pull.gap_ms);
        }
        Steered::Pulled(pull.gap_ms)
    }

    fn aim(&mut self) {
        let (mono_ms, time_ms) = self.anchor;
        self.pull = self.agreement.map(|agreement| {
            let wall_ms = agreement.offset_ms.saturating_add(signed(mono_ms));
            Pull {
                gap_ms: wall_ms.saturating_sub(signed(time_ms)),
                until_ms: agreement.until_ms,
            }
        });
    }

    /// What a majority's clocks say, if their readings still count.
    #[must_use]
    pub fn agreement(&self, mono_ms: u64) -> Option<Agreement> {
        self.agreement.filter(|known| mono_ms < known.until_ms)
    }

    /// How far a member's wall clock is from the majority's; positive: ahead.
    #[must_use]
    pub fn error_ms(&self, member: u64, mono_ms: u64) -> Option<i64> {
        let sample = self.samples.get(&member);
        let sample = sample.filter(|sample| mono_ms < sample.ends_ms())?;
        let agreement = self.agreement(mono_ms)?;
        Some(sample.offset_ms.saturating_sub(agreement.offset_ms))
    }
}

/// The largest group of clocks that lie within [`AGREE_MS`], if it is a majority of
/// the voters; of two such groups the closer one.
fn agreement(samples: &BTreeMap<u64, Sample>, voters: &[u64]) -> Option<Agreement> {
    let mut known: Vec<&Sample> = voters.iter().filter_map(|id| samples.get(id)).collect();
    known.sort_by_key(|sample| sample.offset_ms);
    let spread = |group: &&[&Sample]| {
        let (first, last) = (group[0].offset_ms, group[group.len() - 1].offset_ms);
        last.saturating_sub(first)
    };
    let quorum = voters.len() / 2 + 1;
    let group = (quorum..=known.len()).rev().find_map(|size| {
        let groups = known.windows(size);
        let agreeing = groups.filter(|group| spread(group) <= AGREE_MS);
        agreeing.min_by_key(spread)
    })?;
    let (low, high) = (
        group[(group.len() - 1) / 2].offset_ms,
        group[group.len() / 2].offset_ms,
    );
    Some(Agreement {
        offset_ms: low.saturating_add(high.saturating_sub(low) / 2),
        members: group.len(),
        until_ms: group.iter().map(|sample| sample.ends_ms()).min()?,
    })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "test.rs"]
mod test;
