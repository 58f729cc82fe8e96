//! A log in memory with a disk's habits: what was not synced is lost in a crash.
//!
//! Lives here: the storage of simulations (this crate's and the control plane's). May not: files.

use super::{LogStorage, PersistBatch, Recovered};
use crate::entry::{HardState, LogEntry, SnapshotMeta};
use crate::error::Error;

#[derive(Clone, Debug, Default)]
struct Image {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    entries: Vec<LogEntry>,
}

/// A simulated log. Clone it to look at it; [`MemoryStorage::crash`] to lose the unsynced part.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    durable: Image,
    cached: Image,
    incarnation: u64,
}

impl MemoryStorage {
    /// The storage of a first member of a new cluster, or (without voters) of one that joins.
    #[must_use]
    pub fn form(initial_voters: &[u64]) -> Self {
        let mut image = Image::default();
        if !initial_voters.is_empty() {
            let membership = crate::entry::Membership::of_voters(initial_voters.iter().copied());
            let genesis = super::disk::GENESIS;
            image.snapshot = SnapshotMeta {
                index: genesis,
                term: genesis,
                membership,
            };
            image.hard_state = HardState {
                term: genesis,
                vote: 0,
                commit: genesis,
            };
        }
        Self {
            durable: image.clone(),
            cached: image,
            incarnation: 0,
        }
    }

    /// Forgets what was not synced.
    pub fn crash(&mut self) {
        self.cached = self.durable.clone();
    }

    /// A start of the member.
    pub fn recover(&mut self) -> Recovered {
        self.incarnation += 1;
        let image = &self.cached;
        let last = image
            .entries
            .last()
            .map_or(image.snapshot.index, |entry| entry.index);
        let mut hard_state = image.hard_state;
        hard_state.commit = hard_state.commit.clamp(image.snapshot.index, last);
        Recovered {
            hard_state,
            snapshot: image.snapshot.clone(),
            entries: image.entries.clone(),
            incarnation: self.incarnation,
        }
    }
}

impl LogStorage for MemoryStorage {
    fn append(&mut self, batch: &PersistBatch) -> Result<(), Error> {
        let image = &mut self.cached;
        if let Some(meta) = &batch.snapshot {
            image.entries.clear();
            image.snapshot = meta.clone();
        }
        if let Some(hard_state) = batch.hard_state {
            image.hard_state = hard_state;
        }
        if let Some(first) = batch.entries.first() {
            image.entries.retain(|entry| entry.index < first.index);
            image.entries.extend(batch.entries.iter().cloned());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.durable = self.cached.clone();
        Ok(())
    }

    fn compact(&mut self, snapshot: &SnapshotMeta, to: u64) -> Result<(), Error> {
        self.cached.snapshot = snapshot.clone();
        self.cached.entries.retain(|entry| entry.index > to);
        self.sync()
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
