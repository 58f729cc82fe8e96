//! What the core remembers of other members: last contact, and snapshots on their way.
//!
//! Lives here: bookkeeping in ticks. May not: raft calls. Used by `core` only.

use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Peers {
    heard_at: BTreeMap<u64, u64>,
    /// Receiver to (snapshot index, tick it began).
    transfers: BTreeMap<u64, (u64, u64)>,
}

impl Peers {
    pub(super) fn heard(&mut self, id: u64, now: u64) {
        self.heard_at.insert(id, now);
    }

    /// Ticks since the member was heard.
    pub(super) fn silent_for(&self, id: u64, now: u64) -> Option<u64> {
        self.heard_at.get(&id).map(|at| now - at)
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.heard_at.remove(&id);
        self.transfers.remove(&id);
    }

    pub(super) fn transfer_began(&mut self, to: u64, index: u64, now: u64) {
        self.transfers.insert(to, (index, now));
    }

    /// True when one was under way.
    pub(super) fn transfer_ended(&mut self, to: u64) -> bool {
        self.transfers.remove(&to).is_some()
    }

    /// Lowest snapshot on its way: entries above it must stay, or its receiver would need another
    /// snapshot as soon as it has this one.
    pub(super) fn lowest_transfer(&self) -> Option<u64> {
        self.transfers.values().map(|(index, _)| *index).min()
    }

    /// Receivers whose transfer nobody reported in time.
    pub(super) fn overdue(&self, now: u64, ticks_max: u64) -> Vec<u64> {
        let overdue = self
            .transfers
            .iter()
            .filter(|(_, (_, began))| began + ticks_max <= now);
        overdue.map(|(to, _)| *to).collect()
    }
}
