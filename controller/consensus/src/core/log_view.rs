//! The log as raft reads it: all entries above the last compaction, in memory.
//!
//! Lives here: raft's `Storage` over plain vectors. May not: files; what is durable is the
//! outside's business (raft is told by `Persisted`). Used by `core` only.
//!
//! Everything raft may ask for is in memory because compaction bounds it (`snapshot_every_*`,
//! `keep_entries`): no read error can reach raft, which answers those with a panic.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::entry::{HardState, LogEntry, SnapshotMeta};
use crate::storage::Recovered;

pub(super) struct LogView {
    /// Entries after `before`, without a gap.
    entries: VecDeque<Entry>,
    /// Position right before the first entry; its term is still known.
    before: (u64, u64),
    /// Newest own snapshot: what a member that lacks entries gets. At or above `before`.
    snapshot: SnapshotMeta,
    hard_state: HardState,
    bytes: u64,
    /// Set when raft asked for a snapshot that the newest one cannot serve.
    newer_wanted: Cell<bool>,
}

impl LogView {
    pub(super) fn new(recovered: Recovered) -> Self {
        let mut entries: VecDeque<LogEntry> = recovered.entries.into();
        let snapshot = recovered.snapshot;
        let before = match entries.front().map(|first| first.index) {
            // Nothing, or exactly what follows the snapshot: the snapshot knows the term before.
            None => (snapshot.index, snapshot.term),
            Some(first) if first == snapshot.index + 1 => (snapshot.index, snapshot.term),
            Some(1) => (0, 0),
            // The entry before the first is gone, and its term with it: the first one serves.
            Some(_) => entries
                .pop_front()
                .map_or((0, 0), |first| (first.index, first.term)),
        };
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        Self {
            entries: entries.into_iter().map(LogEntry::into_raft).collect(),
            before,
            snapshot,
            hard_state: recovered.hard_state,
            bytes,
            newer_wanted: Cell::new(false),
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.before.0 + 1
    }

    pub(super) fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn snapshot_meta(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    /// True once after raft asked in vain; asked again it will ask again.
    pub(super) fn take_newer_wanted(&self) -> bool {
        self.newer_wanted.take()
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Appends, cutting what the entries replace.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.before.0 && first.index <= self.last() + 1,
            "append at {} to a log of {}..={}",
            first.index,
            self.first(),
            self.last()
        );
        let keep = (first.index - self.first()) as usize;
        for cut in self.entries.drain(keep..) {
            self.bytes -= cut.data.len() as u64;
        }
        self.bytes += entries
            .iter()
            .map(|entry| entry.data.len() as u64)
            .sum::<u64>();
        self.entries.extend(entries.iter().cloned());
    }

    /// A received snapshot replaces the log.
    pub(super) fn install(&mut self, meta: &SnapshotMeta) {
        self.entries.clear();
        self.bytes = 0;
        self.before = (meta.index, meta.term);
        self.snapshot = meta.clone();
    }

    /// Notes a newer own snapshot and forgets entries up to `to`, which lies at or below it.
    pub(super) fn compact(&mut self, meta: &SnapshotMeta, to: u64) {
        assert!(
            to <= meta.index && meta.index <= self.last(),
            "compaction above the snapshot"
        );
        self.snapshot = meta.clone();
        while self.entries.front().is_some_and(|entry| entry.index <= to) {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes -= gone.data.len() as u64;
                self.before = (gone.index, gone.term);
            }
        }
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> Result<RaftState> {
        let conf_state = self.snapshot.membership.to_raft();
        Ok(RaftState::new(self.hard_state.to_raft(), conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last() + 1,
            "raft asks for entries below its last index only"
        );
        let limit = max_size.into().unwrap_or(u64::MAX);
        let range = (low - self.first()) as usize..(high - self.first()) as usize;
        let mut bytes = 0_u64;
        let mut found = Vec::new();
        for entry in self.entries.range(range) {
            bytes = bytes.saturating_add(entry.data.len() as u64 + 24);
            // At least one, or an entry above the limit would never be replicated.
            if bytes > limit && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get((index - self.first()) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        // A member refuses a snapshot that does not name it as a member, silently and each time.
        // A new learner is in none of the snapshots from before it was added.
        let serves = self.snapshot.index > 0 && self.snapshot.membership.contains(to);
        if !serves || self.snapshot.index < request_index {
            self.newer_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        // No body: it travels on its own lane, named by index and term.
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(self.snapshot.to_raft());
        Ok(snapshot)
    }
}
