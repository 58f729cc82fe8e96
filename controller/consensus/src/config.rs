//! Every knob of one consensus member, with what breaks when it is turned.
//!
//! Lives here: numbers and the directory. May not: files, clocks. Filled by the controller's
//! configuration, read by [`crate::start`], `core` and `storage`.

use std::path::PathBuf;

use crate::error::Error;

/// Settings of one member. Build with [`Config::new`] and change single fields.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's id: never zero and never used again by another member, not even after this
    /// one lost its disk (a recycled id could vote twice in one term, invariant B4).
    pub id: u64,
    /// Random identity of the cluster; a directory or a peer of another cluster is refused.
    pub cluster_id: [u8; 16],
    /// Directory of this member alone; it is locked while the member runs.
    pub dir: PathBuf,
    /// The first voters of a **new** cluster, equal on every first member. Only looked at when
    /// `dir` holds nothing yet. Empty means "join": wait for the leader's snapshot.
    ///
    /// Never pass it to a member whose disk was lost: an empty log under an old id may vote away
    /// committed entries. Such a member joins under a new id with an empty list.
    pub initial_voters: Vec<u64>,
    /// Length of a raft tick in milliseconds. Smaller: more wake-ups, and a stall of a few ticks
    /// (fsync, scheduler) looks like a dead leader. Larger: failover takes longer.
    pub tick_ms: u64,
    /// Ticks between two heartbeats. Must stay well below `election_ticks_min`, or one lost
    /// heartbeat starts an election.
    pub heartbeat_ticks: usize,
    /// Smallest election timeout in ticks, also the check-quorum period: a leader that hears no
    /// majority for this long steps down. Smaller: leader changes on a busy host. Larger: the
    /// cluster has no leader for longer after a crash.
    pub election_ticks_min: usize,
    /// Largest election timeout in ticks (inclusive). Closer to the minimum: more split votes.
    /// Larger: a slower worst case of failover.
    pub election_ticks_max: usize,
    /// Ticks after which an unanswered read round is sent again with a fresh context.
    pub read_retry_ticks: u64,
    /// Ticks after which a waiting read fails as unavailable.
    pub read_timeout_ticks: u64,
    /// Ticks after which a snapshot transfer that nobody reported is taken as failed. Too small:
    /// a slow link restarts its transfer for ever. Too large: a lost report parks the follower.
    pub snapshot_timeout_ticks: u64,
    /// Largest proposal in bytes. One entry travels in one message, so this plus a little must fit
    /// the transport's message limit (tonic: 4 MiB), or replication stops for ever at the entry.
    pub max_entry_bytes: usize,
    /// Proposals that may wait for the driver; beyond it `Overloaded`.
    pub max_waiting_proposals: usize,
    /// Reads that may wait for the driver; beyond it `Overloaded`.
    pub max_waiting_reads: usize,
    /// Peer messages that may wait for the driver; beyond it they are dropped (raft sends again).
    pub max_waiting_messages: usize,
    /// Bytes of uncommitted entries a leader holds before it refuses proposals.
    pub max_uncommitted_bytes: u64,
    /// Size of a log segment. Each is zero-filled once, so larger means a longer first start;
    /// smaller means more directory syncs. At least 8 KiB and four times the largest entry.
    pub segment_bytes: u64,
    /// Applied entries between two automatic snapshots. Smaller: more snapshot writes. Larger:
    /// longer replay at start and more memory, for the log above the snapshot is kept there.
    pub snapshot_every_entries: u64,
    /// Log bytes between two automatic snapshots, whichever of the two comes first.
    pub snapshot_every_bytes: u64,
    /// Entries kept behind a snapshot for followers that lag a little. Smaller: a short hiccup
    /// costs a whole snapshot transfer. Larger: memory.
    pub keep_entries: u64,
    /// Seed of the election timeouts; `None` draws one from the operating system.
    pub seed: Option<u64>,
}

impl Config {
    /// Settings for a LAN: 50 ms ticks and timeouts of 9 to 16 ticks. In simulation a dead leader
    /// is replaced after 0.56 s in the median and 0.86 s at p99; in 0.4 % of cases votes split
    /// twice and it takes up to 2 s.
    #[must_use]
    pub fn new(id: u64, cluster_id: [u8; 16], dir: impl Into<PathBuf>) -> Self {
        Self {
            id,
            cluster_id,
            dir: dir.into(),
            initial_voters: Vec::new(),
            tick_ms: 50,
            heartbeat_ticks: 2,
            election_ticks_min: 8,
            election_ticks_max: 16,
            read_retry_ticks: 8,
            read_timeout_ticks: 60,
            snapshot_timeout_ticks: 2_400,
            max_entry_bytes: 1 << 20,
            max_waiting_proposals: 8_192,
            max_waiting_reads: 65_536,
            max_waiting_messages: 16_384,
            max_uncommitted_bytes: 64 << 20,
            segment_bytes: 16 << 20,
            snapshot_every_entries: 20_000,
            snapshot_every_bytes: 64 << 20,
            keep_entries: 2_000,
            seed: None,
        }
    }

    /// Refuses settings with which the member would run, but not hold its promises.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Config(reason.to_owned()));
        if self.id == 0 {
            return refuse("id must not be zero");
        }
        if self.initial_voters.contains(&0) {
            return refuse("initial_voters must not contain zero");
        }
        if !self.initial_voters.is_empty() && !self.initial_voters.contains(&self.id) {
            return refuse("initial_voters must contain the own id, or be empty to join");
        }
        if self.tick_ms == 0 || self.heartbeat_ticks == 0 {
            return refuse("tick_ms and heartbeat_ticks must not be zero");
        }
        if self.election_ticks_min < 3 * self.heartbeat_ticks {
            return refuse("election_ticks_min must be at least three heartbeats");
        }
        // The random part starts one tick above the minimum; see `core::timeouts`.
        if self.election_ticks_max < self.election_ticks_min + 2 {
            return refuse("election_ticks_max must exceed election_ticks_min by two or more");
        }
        if self.max_entry_bytes == 0 || self.max_entry_bytes as u64 > self.max_uncommitted_bytes {
            return refuse("max_entry_bytes must lie between 1 and max_uncommitted_bytes");
        }
        if self.segment_bytes < (8 << 10)
            || self.segment_bytes < 4 * self.max_entry_bytes as u64
            || self.segment_bytes > (1 << 30)
        {
            return refuse("segment_bytes must lie between 8 KiB (or 4 entries) and 1 GiB");
        }
        if self.snapshot_every_entries == 0 || self.snapshot_every_bytes == 0 {
            return refuse("snapshot_every_entries and snapshot_every_bytes must not be zero");
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_default_settings_are_valid_and_bad_ones_are_named() {
        let good = Config::new(1, [1; 16], "/nowhere");
        good.validate().expect("defaults are valid");
        let mut bad = good.clone();
        bad.id = 0;
        assert!(bad.validate().is_err());
        let mut bad = good.clone();
        bad.initial_voters = vec![2, 3];
        assert!(bad.validate().is_err());
        let mut bad = good;
        bad.election_ticks_min = 3;
        assert!(bad.validate().is_err());
    }
}
