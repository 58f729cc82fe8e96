//! Virtual time: what will happen, in order of time, then of planning. Two events of one
//! instant never change places, so equal seeds give equal runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Events that are planned.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, E>,
    sequence: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Plans an event.
    pub fn push(&mut self, at_ms: u64, event: E) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.heap.push(Reverse((at_ms, self.sequence)));
    }

    /// The next event up to and including an instant.
    pub fn pop_until(&mut self, until_ms: u64) -> Option<(u64, E)> {
        let Reverse((at_ms, sequence)) = *self.heap.peek()?;
        if at_ms > until_ms {
            return None;
        }
        self.heap.pop();
        let event = self.events.remove(&sequence)?;
        Some((at_ms, event))
    }
}
