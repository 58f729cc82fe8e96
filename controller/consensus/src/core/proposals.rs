//! Which waiting proposer belongs to which position of the log.
//!
//! Lives here: tracking by (term, index). May not: raft calls. Used by `core` only.
//!
//! A proposal is at one position and nowhere else, for nobody forwards or repeats it. So when its
//! index is applied, the term there decides: the same term means it is our entry (log matching),
//! another means it was overwritten. Only between loss of leadership and that moment is its fate
//! open; the proposer is kept waiting for a while (the next leader usually settles it within a
//! round trip), then told that the outcome is unknown.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ports::Ticket;

#[derive(Clone, Copy)]
struct Waiting {
    term: u64,
    ticket: Ticket,
    /// Tick at which an orphan gives up; `None` while this member leads in `term`.
    gives_up_at: Option<u64>,
}

#[derive(Default)]
pub(super) struct Proposals {
    /// Taken in, not yet given to raft.
    pub(super) unsent: Vec<(Ticket, Bytes)>,
    placed: BTreeMap<u64, Waiting>,
    any_orphan: bool,
}

/// What an applied index means for the proposer that waits there.
pub(super) enum Fate {
    Nobody,
    Applied(Ticket),
    Overwritten(Ticket),
}

impl Proposals {
    pub(super) fn place(&mut self, index: u64, term: u64, ticket: Ticket) -> Option<Ticket> {
        let waiting = Waiting {
            term,
            ticket,
            gives_up_at: None,
        };
        // An orphan of an older term at this index: its entry is cut off for good.
        self.placed
            .insert(index, waiting)
            .map(|orphan| orphan.ticket)
    }

    pub(super) fn settle(&mut self, index: u64, term: u64) -> Fate {
        match self.placed.remove(&index) {
            None => Fate::Nobody,
            Some(waiting) if waiting.term == term => Fate::Applied(waiting.ticket),
            Some(waiting) => Fate::Overwritten(waiting.ticket),
        }
    }

    /// A snapshot jumps over these indexes: what was applied there is not known here.
    pub(super) fn jump_to(&mut self, index: u64) -> Vec<Ticket> {
        let above = self.placed.split_off(&(index + 1));
        let below = std::mem::replace(&mut self.placed, above);
        below.into_values().map(|waiting| waiting.ticket).collect()
    }

    /// Leadership is lost: everybody placed becomes an orphan.
    pub(super) fn orphan(&mut self, gives_up_at: u64) {
        for waiting in self.placed.values_mut() {
            waiting.gives_up_at.get_or_insert(gives_up_at);
            self.any_orphan = true;
        }
    }

    /// Orphans whose time is over.
    pub(super) fn expire(&mut self, now: u64) -> Vec<Ticket> {
        if !self.any_orphan {
            return Vec::new();
        }
        let over = |waiting: &Waiting| waiting.gives_up_at.is_some_and(|at| at <= now);
        let expired = self
            .placed
            .values()
            .filter(|w| over(w))
            .map(|waiting| waiting.ticket)
            .collect();
        self.placed.retain(|_, waiting| !over(waiting));
        self.any_orphan = self
            .placed
            .values()
            .any(|waiting| waiting.gives_up_at.is_some());
        expired
    }
}
