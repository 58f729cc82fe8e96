//! Where an entry of the log meets the state: decodes it, applies it, publishes
//! the view and hands the changes to the store. Called by the consensus driver
//! from one thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nube_consensus::StateMachine;
use nube_state::hash_check::Divergence;
use nube_state::{Change, Outcome, State, codec};
use nube_types::TimestampMs;

use crate::clock::Clock;
use crate::metrics;
use crate::store::Writer;
use crate::view::Publisher;
use crate::watch::Recorder;

/// The replicated state of this controller.
pub struct Machine {
    state: State,
    publisher: Publisher,
    store: Writer,
    recorder: Recorder,
    clock: Arc<Clock>,
    /// Where it is written down that this replica differs from the others.
    diverged: PathBuf,
    /// What the batch under way changed, entry by entry.
    entries: Vec<(u64, TimestampMs, Vec<Change>)>,
    batch: Option<Batch>,
}

/// Entries since the last `applied`, for the figures.
struct Batch {
    begun: Instant,
    entries: u32,
}

impl Machine {
    /// Starts from a recovered state. `diverged`: a file to write should this replica
    /// turn out to differ from the others.
    #[must_use]
    pub fn new(
        state: State,
        publisher: Publisher,
        store: Writer,
        recorder: Recorder,
        clock: Arc<Clock>,
        diverged: PathBuf,
    ) -> Self {
        Self {
            state,
            publisher,
            store,
            recorder,
            clock,
            diverged,
            entries: Vec::new(),
            batch: None,
        }
    }

    /// The end of a replica that is no replica any more (A4). What it has stored must
    /// not serve again, and a restart would not know: so it is written down first.
    fn end(&self, divergence: &Divergence) -> ! {
        let reason = explain(divergence);
        if let Err(error) = std::fs::write(&self.diverged, format!("{reason}\n")) {
            tracing::error!("writing {}: {error}", self.diverged.display());
        }
        panic!("{reason}")
    }
}

fn explain(divergence: &Divergence) -> String {
    format!(
        "this replica's state differs from the leader's (A4): after all entries below index {} it \
         has hash {}, the leader has {} (compared by entry {}). It must not serve any more. Remove \
         this member (cloudctl cluster remove), delete its data and join again under a new number \
         (cloudctl cluster add). When several members end with one and the same hash of their \
         own, the leader is the one that differs: replace that one instead, and delete the file \
         `diverged` of the others",
        divergence.index,
        hex::encode(divergence.own),
        hex::encode(divergence.leader),
        divergence.entry
    )
}

impl StateMachine for Machine {
    type Reply = Outcome;

    /// # Panics
    /// On an entry that this version does not know (A8): skipping it would make
    /// this replica differ from the others without a word. Clients cannot cause
    /// that: only controllers write entries, after decoding them. And when this
    /// replica differs from the others.
    fn apply(&mut self, index: u64, _term: u64, data: &[u8]) -> Outcome {
        let batch = self.batch.get_or_insert_with(|| Batch {
            begun: Instant::now(),
            entries: 0,
        });
        batch.entries += 1;
        let envelope = codec::decode_envelope(data)
            .unwrap_or_else(|error| panic!("log entry {index} cannot be applied: {error}"));
        let outcome = nube_state::apply(&mut self.state, index, &envelope);
        if let Some(divergence) = &self.state.marks.diverged {
            self.end(divergence);
        }
        let changes = self.state.take_changes();
        if !changes.is_empty() {
            self.entries.push((index, self.state.time, changes));
        }
        outcome
    }

    fn applied(&mut self, _index: u64) {
        self.clock.observe(self.state.time);
        let entries = std::mem::take(&mut self.entries);
        let changes = entries.iter().flat_map(|(_, _, changes)| changes);
        self.store.write(changes.cloned(), &self.state);
        // The view first: who is woken by the past finds it there.
        self.publisher.publish(self.state.clone());
        self.recorder.record(entries, &self.state);
        if let Some(batch) = self.batch.take() {
            let events = metrics::events();
            events.apply_entries.observe(batch.entries.into());
            let took = batch.begun.elapsed();
            events.apply_seconds.observe(took.as_secs_f64());
        }
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let view = self.state.clone();
        Box::new(move || codec::encode_snapshot(&view))
    }

    fn restore(&mut self, index: u64, body: &[u8]) -> Result<(), String> {
        // A new cluster's first snapshot has no body.
        let mut state = if body.is_empty() {
            State::default()
        } else {
            codec::decode_snapshot(body).map_err(|error| error.to_string())?
        };
        state.index = state.index.max(index);
        self.clock.observe(state.time);
        self.entries.clear();
        self.state = state;
        self.store.replace(Arc::new(self.state.clone()));
        self.publisher.publish(self.state.clone());
        self.recorder.reset(&self.state);
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.state.index
    }
}

#[cfg(test)]
#[path = "machine/test.rs"]
mod test;
