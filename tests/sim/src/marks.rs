//! Coverage: places that a good run passes `sometimes`, and faults, both counted by name. A
//! mark that no seed ever reaches tells that the simulator does not test what it claims.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    /// It happened.
    pub fn hit(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}

/// Every `sometimes` mark. A run over many seeds lists those that were not reached.
pub const SOMETIMES: &[&str] = &[
    "a call was carried to the leader",
    "a call was repeated under its request id",
    "a deposed leader was asked to read",
    "a follower was restored by snapshot",
    "a lease ran out and its guest was ended",
    "a log waited for disk space",
    "a member that lost its memory stayed out",
    "a newcomer became a voter",
    "a process ended because its disk failed",
    "a silent host was fenced",
    "an instance of a lost host began anew",
    "replicated time caught up in one step",
    "a launch was refused for capacity",
    "a launch was refused for quota",
    "a mutation had an unknown outcome",
    "a placement was stale and chosen again",
    "a removed member ended",
    "a repeated request got its first answer",
    "a restart came back from the store",
    "a restart replayed the log from a snapshot",
    "a watcher was told that the past is compacted",
    "a watcher went on at another controller",
    "leadership was handed over",
    "the leader crashed",
    "the log was cut",
];
